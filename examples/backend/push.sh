#!/bin/sh
# The calls of the HTTP API that push, with curl, and the count. Without arguments: all five, with example
# data.
#
#   MIXLAB_API_KEY=… ./push.sh
#   ./push.sh payment '{"invoiceId":"inv_123","status":"paid","amount":1000}'
#   ./push.sh notification 123 '{"title":"Hello","message":"World","type":"info"}'
#   ./push.sh role admin new_booking '{"bookingId":456,"userId":123}'
#   ./push.sh emit '{"users":["123"],"rooms":["studio:7"],"event":"booked","arguments":[{"hours":2}]}'
#   ./push.sh emit '[{"everyone":true,"event":"tick"}]' 3f1c-tick-17
#   ./push.sh count
#
# MIXLAB_URL names the server, http://127.0.0.1:3000 by default. User id, role and event go into
# the path as they are: percent-encode what is special there. A word behind the body of an emit is its
# Idempotency-Key: the same emit, sent again with it, happens once. Exit status is not 0 on an error.
set -eu

api="${MIXLAB_URL:-http://127.0.0.1:3000}/api/v1"
: "${MIXLAB_API_KEY:?must hold an API key of the server}"

# call PATH [curl options]: prints the answer. The key travels by stdin, so that `ps` does not show it.
call() {
  path=$1
  shift
  printf 'Authorization: Bearer %s\n' "$MIXLAB_API_KEY" |
    curl --silent --show-error --fail-with-body --max-time 10 --write-out '\n' \
      --header @- --header 'Content-Type: application/json' "$@" "$api/$path"
}

payment() { call payments/updates --data-raw "$1"; }
notification() { call "users/$1/notifications" --data-raw "$2"; }
role() { call "roles/$1/events/$2" --data-raw "$3"; }
emit() { call emit --data-raw "$1" ${2:+--header "Idempotency-Key: $2"}; }
count() { call clients/count; }

if [ $# -gt 0 ]; then
  case $1 in
    payment | notification | role | emit | count) "$@" ;;
    *) echo "unknown call: $1 (payment, notification, role, emit or count)" >&2; exit 2 ;;
  esac
  exit
fi

payment '{"invoiceId":"inv_123","status":"paid","amount":1000}'
notification 123 '{"title":"Booking Reminder","message":"Your studio session starts in 1 hour","type":"info"}'
role admin new_booking '{"bookingId":456,"userId":123}'
emit '{"users":["123"],"roles":["admin"],"event":"booked","arguments":[{"bookingId":456}]}'
count
