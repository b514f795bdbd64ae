// Plugins in C. `mixlab new NAME --lang c` makes one to begin with, and host/docs/plugins/c.md tells of it.
//
// Texts end with a NUL and are in UTF-8; where one of a client has a NUL within, it has U+FFFD here. What is handed to a
// handler, and what these functions return, lives until the call is over: nothing has to be freed. A function that the host
// refuses ends the call: nothing of what it did happens, the client is told that it failed, and the log has the reason.
#ifndef MIXLAB_H
#define MIXLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// JSON as it is written, for schemas: MX_JSON([{"type": "string"}]).
#define MX_JSON(...) #__VA_ARGS__

// ---- What a handler answers ----

typedef enum { MX_DONE, MX_REPLY, MX_NO_ACK, MX_REJECT, MX_PASS, MX_REPLACE } mx_kind;

typedef struct {
    mx_kind kind;
    // Of a reply or a replacement, the JSON of all arguments.
    const char *arguments;
    const char *code, *message;
} mx_answer;

// The ack has no arguments.
mx_answer mx_done(void);
// The ack is this JSON.
mx_answer mx_reply(const char *json);
// There is no ack.
mx_answer mx_no_ack(void);
// A "no" to the client: a word for programs, and one sentence for people.
mx_answer mx_reject(const char *code, const char *message);
// Of filters: on with the event, as it is, or with these arguments, a JSON array.
mx_answer mx_pass(void);
mx_answer mx_replace(const char *arguments);

// ---- What a plugin is ----

typedef enum { MX_AUTHENTICATED, MX_ANYONE } mx_access;
typedef enum { MX_SOCKET, MX_USER, MX_IP, MX_ROLE, MX_EVENT } mx_scope;

// At most `count` events in `interval_ms`, and `burst` of them at once, if that is not 0.
typedef struct {
    mx_scope scope;
    uint32_t count, interval_ms, burst;
} mx_limit;

#define MX_LIMITS 4

typedef struct {
    // As clients emit it.
    const char *name;
    mx_access access;
    // Users with one of these roles instead; ends with NULL.
    const char *const *roles;
    // JSON Schemas of the array of arguments, and of that of the ack; NULL: any.
    const char *arguments, *reply;
    // Those with a count count.
    mx_limit limits[MX_LIMITS];
    // 0: the host's limit.
    uint32_t max_bytes;
    // A JSON Pointer into the arguments, like "/0/room": calls with the same value run one after the other.
    const char *serial_by;
    // It gets the JSON of the arguments, an array.
    mx_answer (*handle)(const char *arguments);
} mx_event;

typedef struct {
    const char *name;
    // JSON Schema of the array of arguments; NULL: any.
    const char *arguments;
} mx_emitted;

typedef struct {
    const char *name;
    // How often, or if it is 0 a cron expression.
    uint64_t every_ms;
    const char *cron;
} mx_schedule;

typedef struct {
    const char *method, *path, *body, *delivery;
} mx_request;

typedef struct {
    uint16_t status;
    // NULL: none.
    const char *body;
} mx_response;

// Lists end with one that has no name, or with NULL. What is left out is not there.
typedef struct {
    const char *name, *version;
    const char *const *namespaces;
    const mx_event *events;
    const mx_emitted *emits;
    const mx_schedule *schedules;
    // The events of others that `filter` gets, as patterns.
    const char *const *filters;

    // Gets the JSON of `config` in mixlab.toml before anything else. Returns why it is no good, or NULL.
    const char *(*load)(const char *config);
    // These need an MX_EXPORT_… beside MX_PLUGIN, without which the plugin is refused. A connection is refused by mx_reject.
    mx_answer (*connect)(const char *auth);
    void (*disconnect)(const char *reason);
    mx_answer (*timer)(const char *name, const char *payload, uint32_t attempt);
    mx_answer (*filter)(const char *event, const char *arguments);
    mx_response (*webhook)(const mx_request *request);
} mx_plugin;

// The plugin: MX_PLUGIN(.name = "chat", .version = "1.0.0", .events = events);
#define MX_PLUGIN(...) const mx_plugin mx_the_plugin = {__VA_ARGS__}
extern const mx_plugin mx_the_plugin;

// ---- JSON ----

// JSON text: %s is a text as a JSON string (NULL: null), %j JSON as it is, %d an int, %l an int64_t, %f a double,
// %b true or false, %% a percent sign.
const char *mx_json(const char *format, ...);
// What a JSON Pointer points at, such as "/0/room"; NULL if nothing is there. Of a name that an object has twice, the last
// counts, which is what the host has checked.
const char *mx_at(const char *json, const char *pointer);
// The text there; NULL if there is none.
const char *mx_text_at(const char *json, const char *pointer);
// The number there, or `otherwise`.
double mx_number_at(const char *json, const char *pointer, double otherwise);
// Whether `true` is there.
bool mx_true_at(const char *json, const char *pointer);
// Text with %s, %d, %l and %f put in as they are.
const char *mx_text(const char *format, ...);
// A copy that outlives the call.
char *mx_keep(const char *text);

// ---- Who sent it ----

typedef struct {
    const char *id;
    // NULL: none.
    const char *username;
    const char *const *roles;
    size_t role_count;
} mx_user;

const char *mx_id(void);
const char *mx_namespace(void);
const char *mx_address(void);
// Whether the connection has a user.
bool mx_get_user(mx_user *user);

// ---- What happens when the handler has succeeded ----

// To the sender. The arguments are one JSON value; NULL: none.
void mx_emit(const char *event, const char *json);

// Whom something is for: what is not NULL is meant, all of it together.
typedef struct {
    const char *room, *user, *role, *socket;
    // Everybody in the namespace.
    bool everyone;
    // Not those in this room, or with this socket id.
    const char *except;
    // Another namespace than the connection's.
    const char *of;
    bool include_sender;
    // May be lost for clients that are not ready.
    bool is_volatile;
    // Keeps it in the history of this topic.
    const char *keep;
} mx_to;

void mx_emit_to(mx_to to, const char *event, const char *json);

void mx_join(const char *room);
void mx_leave(const char *room);
bool mx_is_in(const char *room);

// What the plugin keeps with the connection, as JSON; "null" at first.
const char *mx_data(void);
void mx_set_data(const char *json);

// Ends the sender's connection after the ack; `close` ends all of its namespaces.
void mx_disconnect(bool close);

// Who is present in a room: `members` are a JSON array of {id, anonymous, connections, data}.
void mx_presence_enter(const char *room, const char *json);
void mx_presence_leave(const char *room);
const char *mx_presence_members(const char *room);

// Events that were kept: JSON of {events, position, gap, more}. `position` may be NULL.
const char *mx_history(const char *topic, const char *position, uint32_t limit);

// What the plugin remembers, as text; `bucket` is NULL for its own. `get` is NULL if nothing is there; `ttl_ms` 0 is for ever.
const char *mx_get(const char *bucket, const char *key);
void mx_set(const char *bucket, const char *key, const char *value, uint64_t ttl_ms);
void mx_delete(const char *bucket, const char *key);
void mx_add(const char *bucket, const char *key, int64_t delta);

// A timer calls `timer` of the plugin, `after_ms` from now, with this JSON.
void mx_timer_set(const char *name, uint64_t after_ms, const char *payload);
void mx_timer_cancel(const char *name);

// ---- The rest ----

typedef enum { MX_DEBUG, MX_INFO, MX_WARN, MX_ERROR } mx_level;

void mx_log(mx_level level, const char *text);
// Ends the call as a failure of the plugin, with a reason for the log.
_Noreturn void mx_fail(const char *reason);
// Memory for this call, zeroed.
void *mx_memory(size_t size);

// What bindings.h has beyond all this (ask, http, sockets) is there as well.

// ---- What is optional, for the host to see it ----

extern bool mx_exports_connections, mx_exports_timers, mx_exports_filter, mx_exports_webhook;

#define MX_EXPORT(interface, function) __attribute__((export_name("mixlab:plugin/" interface "@0.2.0#" function)))

#define MX_EXPORT_CONNECTIONS \
    bool mx_exports_connections = true; \
    uint8_t *__wasm_export_exports_mixlab_plugin_connections_on_connect(uint8_t *, size_t); \
    void __wasm_export_exports_mixlab_plugin_connections_on_disconnect(uint8_t *, size_t); \
    MX_EXPORT("connections", "on-connect") uint8_t *mx_export_on_connect(uint8_t *auth, size_t length) { \
        return __wasm_export_exports_mixlab_plugin_connections_on_connect(auth, length); \
    } \
    MX_EXPORT("connections", "on-disconnect") void mx_export_on_disconnect(uint8_t *reason, size_t length) { \
        __wasm_export_exports_mixlab_plugin_connections_on_disconnect(reason, length); \
    } \
    _Static_assert(true, "")

#define MX_EXPORT_TIMERS \
    bool mx_exports_timers = true; \
    uint8_t *__wasm_export_exports_mixlab_plugin_timer_handler_fire(uint8_t *, size_t, uint8_t *, size_t, int64_t, int32_t); \
    MX_EXPORT("timer-handler", "fire") \
    uint8_t *mx_export_fire(uint8_t *name, size_t l, uint8_t *payload, size_t m, int64_t due, int32_t attempt) { \
        return __wasm_export_exports_mixlab_plugin_timer_handler_fire(name, l, payload, m, due, attempt); \
    } \
    _Static_assert(true, "")

#define MX_EXPORT_FILTER \
    bool mx_exports_filter = true; \
    uint8_t *__wasm_export_exports_mixlab_plugin_filters_filter(uint8_t *, size_t, uint8_t *, size_t, uint8_t *, size_t); \
    MX_EXPORT("filters", "filter") \
    uint8_t *mx_export_filter(uint8_t *event, size_t l, uint8_t *arguments, size_t m, uint8_t *attachments, size_t n) { \
        return __wasm_export_exports_mixlab_plugin_filters_filter(event, l, arguments, m, attachments, n); \
    } \
    _Static_assert(true, "")

#define MX_EXPORT_WEBHOOK \
    bool mx_exports_webhook = true; \
    uint8_t *__wasm_export_exports_mixlab_plugin_webhooks_handle(uint8_t *, size_t, uint8_t *, size_t, uint8_t *, size_t, \
        uint8_t *, size_t, uint8_t *, size_t, int32_t, uint8_t *, size_t); \
    MX_EXPORT("webhooks", "handle") \
    uint8_t *mx_export_webhook(uint8_t *a, size_t b, uint8_t *c, size_t d, uint8_t *e, size_t f, uint8_t *g, size_t h, \
        uint8_t *i, size_t j, int32_t k, uint8_t *l, size_t m) { \
        return __wasm_export_exports_mixlab_plugin_webhooks_handle(a, b, c, d, e, f, g, h, i, j, k, l, m); \
    } \
    _Static_assert(true, "")

#endif
