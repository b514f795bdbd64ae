"""Emits over Redis with python-socketio's manager, as a backend does that is no server. Reads calls from its
standard input, `[method, args, kwargs]` in a line of JSON, and answers each with a line. Bytes come as
`{"bytes": [...]}`."""

import json
import pickle
import sys

import redis
import socketio


def revived(value):
    return bytes(value["bytes"]) if isinstance(value, dict) and "bytes" in value else value


url = sys.argv[1]
manager = socketio.RedisManager(url, write_only=True)
manager.initialize = lambda: None
for line in sys.stdin:
    method, args, kwargs = json.loads(line)
    if method == "pickle":
        redis.Redis.from_url(url).publish("socketio", pickle.dumps({"method": "emit"}))
    elif method == "disconnect":
        # A manager without a server fails at it; this is what one with a server says.
        sid, namespace = args
        manager._publish({"method": method, "sid": sid, "namespace": namespace, "host_id": manager.host_id})
    else:
        getattr(manager, method)(*map(revived, args), **kwargs)
    print("done", flush=True)
