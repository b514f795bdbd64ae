// Chat in rooms, as `chat/` has it in Rust: who is there, who is typing, what was said, and what somebody
// missed. The host does the work; what is left is who may do what.
#include <ctype.h>
#include <string.h>

#include "mixlab.h"

// How many messages a client gets at once of those that it missed.
static uint32_t page;

static const char *load(const char *config) {
    page = (uint32_t)mx_number_at(config, "/page", 0);
    return page > 0 ? NULL : "config needs `page`, a number";
}

// What the host knows a room by: the room, its presence and the topic of its history.
static const char *key(const char *room) {
    return mx_text("chat:%s", room);
}

// The text without what is blank around it.
static const char *trimmed(const char *text) {
    while (isspace((unsigned char)*text)) text++;
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1])) length--;
    char *copy = mx_memory(length + 1);
    memcpy(copy, text, length);
    return copy;
}

// Who the sender is in a room that it has joined, as JSON; NULL if it has not.
static const char *sender(const char *room) {
    const char *person = mx_is_in(key(room)) ? mx_data() : "null";
    return strcmp(person, "null") != 0 ? person : NULL;
}

static mx_answer not_joined(void) {
    return mx_reject("not_joined", "Join the room first");
}

// Enters, and answers who was there before. The room hears of it by the host's event `presence`.
static mx_answer join(const char *arguments) {
    const char *room = mx_text_at(arguments, "/0/room"), *name = mx_text_at(arguments, "/0/name"), *me;
    mx_user user;
    if (mx_get_user(&user)) {
        me = mx_json("{\"id\":%s,\"name\":%s,\"guest\":false}", user.id, user.username ? user.username : user.id);
    } else if (name) {
        me = mx_json("{\"id\":%s,\"name\":%s,\"guest\":true}", mx_id(), trimmed(name));
    } else {
        return mx_reject("name_missing", "Say who you are");
    }
    mx_set_data(me);
    mx_presence_enter(key(room), me);
    return mx_reply(mx_json("{\"me\":%j,\"members\":%j}", me, mx_presence_members(key(room))));
}

static mx_answer leave(const char *arguments) {
    mx_presence_leave(key(mx_text_at(arguments, "/0/room")));
    return mx_done();
}

// Everybody in the room gets the message, the sender as well, and whoever comes later finds it.
static mx_answer say(const char *arguments) {
    const char *room = mx_text_at(arguments, "/0/room"), *from = sender(room);
    if (!from) return not_joined();
    const char *id = mx_text_at(arguments, "/0/id"), *text = mx_at(arguments, "/0/text");
    const char *said = mx_json("{\"room\":%s,\"from\":%j,\"id\":%s,\"text\":%j}", room, from, id, text);
    mx_emit_to((mx_to){.room = key(room), .include_sender = true, .keep = key(room)}, "chat:message", said);
    return mx_done();
}

// Nothing is lost with one that is missed: whoever goes on typing is told of again.
static mx_answer typing(const char *arguments) {
    const char *room = mx_text_at(arguments, "/0/room"), *from = sender(room);
    if (!from) return not_joined();
    mx_emit_to((mx_to){.room = key(room), .is_volatile = true}, "chat:typing", mx_json("{\"room\":%s,\"from\":%j}", room, from));
    return mx_no_ack();
}

// To be asked after joining, so that nothing falls between.
static mx_answer history(const char *arguments) {
    const char *room = mx_text_at(arguments, "/0/room");
    if (!sender(room)) return not_joined();
    return mx_reply(mx_history(key(room), mx_text_at(arguments, "/0/position"), page));
}

// The arguments of an event: one object with these properties.
#define ROOM "{\"type\":\"string\",\"minLength\":1,\"maxLength\":50,\"pattern\":\"^\\\\P{Cc}*$\"}"
#define OBJECT(properties, required) \
    "[{\"type\":\"object\",\"properties\":{\"room\":" ROOM properties "},\"required\":[\"room\"" required "]}]"
#define ARGUMENTS(items) "{\"type\":\"array\",\"minItems\":1,\"maxItems\":1,\"prefixItems\":" items "}"

#define PERSON \
    MX_JSON({"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "guest": {"type": "boolean"}}, \
             "required": ["id", "name", "guest"]})
#define NAME ",\"name\":" MX_JSON({"type": ["string", "null"], "minLength": 1, "maxLength": 40, "pattern": "\\S"})
#define MESSAGE ",\"id\":" MX_JSON({"type": "string", "minLength": 1, "maxLength": 64}) \
    ",\"text\":" MX_JSON({"type": "string", "maxLength": 2000, "pattern": "\\S"})
#define FROM ",\"from\":" PERSON

#define EVENT(event, properties, required, most, seconds, handler) \
    {.name = event, .access = MX_ANYONE, .arguments = ARGUMENTS(OBJECT(properties, required)), .max_bytes = 8192, \
     .limits = {{MX_SOCKET, most, seconds * 1000}}, .handle = handler}

static const mx_event events[] = {
    EVENT("chat:join", NAME, "", 20, 10, join),
    EVENT("chat:leave", "", "", 20, 10, leave),
    EVENT("chat:say", MESSAGE, ",\"id\",\"text\"", 10, 5, say),
    EVENT("chat:typing", "", "", 10, 5, typing),
    EVENT("chat:history", ",\"position\":{\"type\":[\"string\",\"null\"]}", "", 60, 10, history),
    {0},
};

static const mx_emitted emits[] = {
    {"chat:message", ARGUMENTS(OBJECT(FROM MESSAGE, ",\"from\",\"id\",\"text\""))},
    {"chat:typing", ARGUMENTS(OBJECT(FROM, ",\"from\""))},
    {0},
};

MX_PLUGIN(.name = "chat", .version = "0.1.0", .load = load, .events = events, .emits = emits);
