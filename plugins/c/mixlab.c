// What mixlab.h promises, on what bindings.h has of the contract.
#include "mixlab.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings.h"

typedef full_plugin_string_t text;

// ---- Memory: all of a call's goes when the next one begins ----

typedef struct block {
    struct block *next;
    size_t size, used;
    _Alignas(16) char bytes[];
} block;

static block *blocks;
static bool is_over;

enum { BLOCK = 16 * 1024 };

static void forget(void) {
    is_over = false;
    // One block stays for the next call.
    while (blocks && blocks->next) {
        block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
    if (blocks) blocks->used = 0;
}

static void *take(size_t size, size_t align) {
    if (is_over) forget();
    size_t at = blocks ? (blocks->used + align - 1) & ~(align - 1) : 0;
    if (!blocks || at > blocks->size || blocks->size - at < size) {
        size_t room = size > BLOCK ? size : BLOCK;
        block *more = room > SIZE_MAX - sizeof(block) ? NULL : malloc(sizeof(block) + room);
        if (!more) __builtin_trap();
        *more = (block){.next = blocks, .size = room};
        blocks = more;
        at = 0;
    }
    blocks->used = at + size;
    return blocks->bytes + at;
}

void *mx_memory(size_t size) {
    return memset(take(size, 16), 0, size);
}

// What the host puts into this memory.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    void *new = take(size, align);
    return old ? memcpy(new, old, old_size < size ? old_size : size) : new;
}

// Calls begin and end with these.
static void begin(void) {
    // Arguments are there already, if there are some.
    if (is_over) forget();
}

static void end(void) {
    is_over = true;
}

char *mx_keep(const char *kept) {
    char *copy = strdup(kept);
    if (!copy) __builtin_trap();
    return copy;
}

// ---- Texts ----

static text borrowed(const char *it) {
    return (text){(uint8_t *)it, it ? strlen(it) : 0};
}

// In UTF-8, what stands where a character cannot.
#define NO_CHARACTER "\xef\xbf\xbd"

static const char *copied(text it) {
    size_t nuls = 0;
    for (size_t i = 0; i < it.len; i++) nuls += it.ptr[i] == 0;
    char *copy = take(it.len + nuls * (sizeof NO_CHARACTER - 2) + 1, 1), *to = copy;
    for (size_t i = 0; i < it.len; i++) {
        // A NUL would end it: an event or a room would pass for the one that its name begins with.
        if (it.ptr[i] == 0) to = (char *)memcpy(to, NO_CHARACTER, sizeof NO_CHARACTER - 1) + sizeof NO_CHARACTER - 1;
        else *to++ = (char)it.ptr[i];
    }
    *to = 0;
    return copy;
}

static full_plugin_option_string_t option(const char *it) {
    return (full_plugin_option_string_t){it != NULL, borrowed(it)};
}

typedef struct {
    char *bytes;
    size_t length, size;
} buffer;

static void put(buffer *to, const char *bytes, size_t length) {
    if (to->size - to->length < length + 1) {
        size_t size = (to->length + length + 1) * 2;
        char *more = take(size, 1);
        if (to->length) memcpy(more, to->bytes, to->length);
        to->bytes = more;
        to->size = size;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
    to->bytes[to->length] = 0;
}

static void put_text(buffer *to, const char *it) {
    if (!it) mx_fail("a value of a format, or an answer, is NULL");
    put(to, it, strlen(it));
}

static void put_quoted(buffer *to, const char *it) {
    if (!it) {
        put_text(to, "null");
        return;
    }
    put_text(to, "\"");
    for (; *it; it++) {
        unsigned char byte = (unsigned char)*it;
        if (byte == '"' || byte == '\\') {
            put(to, (char[]){'\\', *it}, 2);
        } else if (byte < 0x20) {
            const char *digits = "0123456789abcdef";
            put(to, (char[]){'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]}, 6);
        } else {
            put(to, it, 1);
        }
    }
    put_text(to, "\"");
}

static const char *formatted(const char *format, va_list values, bool is_json) {
    buffer made = {0};
    put(&made, "", 0);
    for (const char *at = format; *at; at++) {
        char number[40];
        if (*at != '%') {
            put(&made, at, 1);
            continue;
        }
        switch (*++at) {
        case 's':
            if (is_json) put_quoted(&made, va_arg(values, const char *));
            else put_text(&made, va_arg(values, const char *));
            break;
        case 'j': put_text(&made, va_arg(values, const char *)); break;
        case 'd': snprintf(number, sizeof number, "%d", va_arg(values, int)); put_text(&made, number); break;
        case 'l': snprintf(number, sizeof number, "%lld", (long long)va_arg(values, int64_t)); put_text(&made, number); break;
        case 'f': snprintf(number, sizeof number, "%.17g", va_arg(values, double)); put_text(&made, number); break;
        case 'b': put_text(&made, va_arg(values, int) ? "true" : "false"); break;
        case '%': put_text(&made, "%"); break;
        default: mx_fail("a format knows %s, %j, %d, %l, %f, %b and %%");
        }
    }
    return made.bytes;
}

const char *mx_json(const char *format, ...) {
    va_list values;
    va_start(values, format);
    const char *made = formatted(format, values, true);
    va_end(values);
    return made;
}

const char *mx_text(const char *format, ...) {
    va_list values;
    va_start(values, format);
    const char *made = formatted(format, values, false);
    va_end(values);
    return made;
}

// ---- JSON that the host has checked: it is well formed ----

static const char *blank(const char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
    return at;
}

// Behind a string that begins here.
static const char *string_end(const char *at) {
    for (at++; *at && *at != '"'; at++) {
        if (*at == '\\' && at[1]) at++;
    }
    return *at ? at + 1 : at;
}

// Behind the value that begins here.
static const char *value_end(const char *at) {
    size_t depth = 0;
    for (;;) {
        if (*at == 0) return at;
        if (*at == '"') {
            at = string_end(at);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            if (depth == 0) return at;
            depth--;
            at++;
        } else if (depth == 0) {
            while (*at && !strchr(",]}: \t\r\n", *at)) at++;
        } else {
            at++;
        }
        if (depth == 0) return at;
    }
}

static void put_code_point(buffer *to, uint32_t code) {
    char bytes[4];
    if (code < 0x80) put(to, (char[]){(char)code}, 1);
    else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6), bytes[1] = (char)(0x80 | (code & 63));
        put(to, bytes, 2);
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12), bytes[1] = (char)(0x80 | (code >> 6 & 63)), bytes[2] = (char)(0x80 | (code & 63));
        put(to, bytes, 3);
    } else {
        bytes[0] = (char)(0xf0 | code >> 18), bytes[1] = (char)(0x80 | (code >> 12 & 63));
        bytes[2] = (char)(0x80 | (code >> 6 & 63)), bytes[3] = (char)(0x80 | (code & 63));
        put(to, bytes, 4);
    }
}

static uint32_t hex(const char *at) {
    char digits[5] = {0};
    strncpy(digits, at, 4);
    return (uint32_t)strtoul(digits, NULL, 16);
}

// The text of a string that begins here.
static const char *unquoted(const char *at) {
    buffer made = {0};
    put(&made, "", 0);
    const char *end = string_end(at) - 1;
    for (at++; at < end; at++) {
        if (*at != '\\') {
            put(&made, at, 1);
            continue;
        }
        switch (*++at) {
        case 'b': put_text(&made, "\b"); break;
        case 'f': put_text(&made, "\f"); break;
        case 'n': put_text(&made, "\n"); break;
        case 'r': put_text(&made, "\r"); break;
        case 't': put_text(&made, "\t"); break;
        case 'u': {
            uint32_t code = hex(at + 1);
            at += 4;
            if (code >= 0xd800 && code < 0xdc00 && at[1] == '\\' && at[2] == 'u') {
                uint32_t low = hex(at + 3);
                if (low >= 0xdc00 && low < 0xe000) {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    at += 6;
                }
            }
            // Half a pair is no character, and a NUL would end the text: "text\0" is not the name "text".
            if (code == 0 || (code >= 0xd800 && code < 0xe000)) put_text(&made, NO_CHARACTER);
            else put_code_point(&made, code);
            break;
        }
        default: put(&made, at, 1);
        }
    }
    return made.bytes;
}

// The next name of a pointer, which is behind its slash; `end` is behind the name.
static const char *name_of(const char *pointer, const char **end) {
    buffer made = {0};
    put(&made, "", 0);
    for (; *pointer && *pointer != '/'; pointer++) {
        if (pointer[0] == '~' && (pointer[1] == '0' || pointer[1] == '1')) {
            pointer++;
            put_text(&made, *pointer == '0' ? "~" : "/");
        } else {
            put(&made, pointer, 1);
        }
    }
    *end = pointer;
    return made.bytes;
}

// Where the value begins that the pointer points at.
static const char *found(const char *json, const char *pointer) {
    const char *at = json ? blank(json) : NULL;
    while (at && *pointer == '/') {
        const char *name = name_of(pointer + 1, &pointer);
        bool is_object = *at == '{';
        if (!is_object && *at != '[') return NULL;
        char *rest;
        unsigned long wanted = strtoul(name, &rest, 10);
        if (!is_object && (*name == 0 || *rest)) return NULL;
        at = blank(at + 1);
        const char *value = NULL;
        // Of a name that is there twice, the host has checked the last, as all clients take it.
        for (unsigned long index = 0; *at && *at != '}' && *at != ']' && (is_object || !value); index++) {
            bool is_it = index == wanted;
            if (is_object) {
                is_it = strcmp(unquoted(at), name) == 0;
                // Behind the name and its colon.
                at = blank(blank(string_end(at)) + 1);
            }
            if (is_it) value = at;
            at = blank(value_end(at));
            if (*at == ',') at = blank(at + 1);
        }
        at = value;
    }
    return at;
}

const char *mx_at(const char *json, const char *pointer) {
    const char *at = found(json, pointer);
    return at ? copied((text){(uint8_t *)at, (size_t)(value_end(at) - at)}) : NULL;
}

const char *mx_text_at(const char *json, const char *pointer) {
    const char *at = found(json, pointer);
    return at && *at == '"' ? unquoted(at) : NULL;
}

double mx_number_at(const char *json, const char *pointer, double otherwise) {
    const char *at = found(json, pointer);
    bool is_number = at && (*at == '-' || (*at >= '0' && *at <= '9'));
    return is_number ? strtod(at, NULL) : otherwise;
}

bool mx_true_at(const char *json, const char *pointer) {
    const char *at = found(json, pointer);
    return at && *at == 't';
}

// ---- Failures ----

void mx_log(mx_level level, const char *line) {
    text message = borrowed(line ? line : "(NULL)");
    mixlab_plugin_log_write((mixlab_plugin_log_level_t)level, &message);
}

_Noreturn void mx_fail(const char *reason) {
    mx_log(MX_ERROR, reason);
    __builtin_trap();
}

// Goes on if the host did `what`, and fails otherwise.
static void must(bool is_done, const char *what, const mixlab_plugin_types_error_t *error) {
    static const char *const names[] = {
        "denied", "invalid", "over budget", "busy", "unavailable", "no connection", "timed out", "disconnected", "unreachable",
    };
    if (is_done) return;
    bool is_known = error->tag < sizeof names / sizeof *names;
    // Those without a text have none that could be read.
    bool has_text = error->tag <= MIXLAB_PLUGIN_TYPES_ERROR_UNAVAILABLE || error->tag == MIXLAB_PLUGIN_TYPES_ERROR_UNREACHABLE;
    const char *name = is_known ? names[error->tag] : "refused";
    mx_fail(has_text ? mx_text("%s: %s: %s", what, name, copied(error->val.denied)) : mx_text("%s: %s", what, name));
}

// Refuses NULL, which is no name and no value: what a pointer found nothing at would be taken for an empty text.
static void some(const char *given, const char *what, const char *argument) {
    if (!given) mx_fail(mx_text("%s: the %s is NULL", what, argument));
}

// ---- Answers ----

mx_answer mx_done(void) { return (mx_answer){MX_DONE}; }
mx_answer mx_no_ack(void) { return (mx_answer){MX_NO_ACK}; }
mx_answer mx_pass(void) { return (mx_answer){MX_PASS}; }
mx_answer mx_reply(const char *json) { return (mx_answer){MX_REPLY, mx_json("[%j]", json)}; }
mx_answer mx_replace(const char *arguments) { return (mx_answer){MX_REPLACE, arguments}; }
mx_answer mx_reject(const char *code, const char *message) {
    return (mx_answer){.kind = MX_REJECT, .code = code, .message = message};
}

static mixlab_plugin_types_message_t message_of(const char *arguments) {
    return (mixlab_plugin_types_message_t){.arguments = borrowed(arguments)};
}

static mixlab_plugin_types_rejection_t rejection_of(mx_answer answer) {
    return (mixlab_plugin_types_rejection_t){.code = borrowed(answer.code), .message = borrowed(answer.message)};
}

// ---- What the host is told of the plugin ----

static full_plugin_list_string_t names_of(const char *const *names) {
    size_t count = 0;
    while (names && names[count]) count++;
    text *list = mx_memory(count * sizeof(text));
    for (size_t i = 0; i < count; i++) list[i] = borrowed(names[i]);
    return (full_plugin_list_string_t){list, count};
}

static exports_mixlab_plugin_lifecycle_list_rate_limit_t limits_of(const mx_event *event) {
    exports_mixlab_plugin_lifecycle_rate_limit_t *list = mx_memory(MX_LIMITS * sizeof *list);
    size_t count = 0;
    for (const mx_limit *limit = event->limits; limit < event->limits + MX_LIMITS; limit++) {
        if (limit->count == 0) continue;
        list[count++] = (exports_mixlab_plugin_lifecycle_rate_limit_t){
            .scope = (exports_mixlab_plugin_lifecycle_scope_t)limit->scope,
            .count = limit->count,
            .interval_ms = limit->interval_ms,
            .burst = {limit->burst != 0, limit->burst},
        };
    }
    return (exports_mixlab_plugin_lifecycle_list_rate_limit_t){list, count};
}

static exports_mixlab_plugin_lifecycle_option_json_t schema(const char *json) {
    return (exports_mixlab_plugin_lifecycle_option_json_t){json != NULL, borrowed(json)};
}

static exports_mixlab_plugin_lifecycle_event_contract_t contract_of(const mx_event *event) {
    exports_mixlab_plugin_lifecycle_event_contract_t contract = {
        .name = borrowed(event->name),
        .arguments = schema(event->arguments),
        .reply = schema(event->reply),
        .limits = limits_of(event),
        .max_bytes = {event->max_bytes != 0, event->max_bytes},
    };
    if (event->roles) {
        contract.access.tag = EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_ACCESS_ROLES;
        contract.access.val.roles = names_of(event->roles);
    } else {
        contract.access.tag = event->access == MX_ANYONE ? EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_ACCESS_ANYONE
                                                         : EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_ACCESS_AUTHENTICATED;
    }
    if (event->serial_by) {
        contract.serial_by.is_some = true;
        contract.serial_by.val.tag = EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_SERIAL_KEY_POINTER;
        contract.serial_by.val.val.pointer = borrowed(event->serial_by);
    }
    return contract;
}

// An MX_EXPORT_… in the plugin's file says that it is there.
__attribute__((weak)) bool mx_exports_connections, mx_exports_timers, mx_exports_filter, mx_exports_webhook;

// Why the plugin cannot be what it says; NULL if it can.
static const char *fault(const mx_plugin *plugin) {
    // The host would never call what is not exported: not even a `.connect` that lets nobody in.
    if ((plugin->connect || plugin->disconnect) != mx_exports_connections)
        return "`.connect` or `.disconnect`, and MX_EXPORT_CONNECTIONS; in the same file: there is one without the other";
    if ((plugin->timer != NULL) != mx_exports_timers)
        return "`.timer`, and MX_EXPORT_TIMERS; in the same file: there is one without the other";
    if ((plugin->filter != NULL) != mx_exports_filter)
        return "`.filter`, and MX_EXPORT_FILTER; in the same file: there is one without the other";
    if ((plugin->webhook != NULL) != mx_exports_webhook)
        return "`.webhook`, and MX_EXPORT_WEBHOOK; in the same file: there is one without the other";
    for (const mx_event *event = plugin->events; event && event->name; event++) {
        if (!event->handle) return mx_text("the event \"%s\" has no `.handle`", event->name);
    }
    return NULL;
}

bool exports_mixlab_plugin_lifecycle_describe(text *config, exports_mixlab_plugin_lifecycle_description_t *ret, text *err) {
    begin();
    const mx_plugin *plugin = &mx_the_plugin;
    const char *refusal = fault(plugin);
    if (!refusal && plugin->load) refusal = plugin->load(copied(*config));
    size_t events = 0, emits = 0, schedules = 0;
    while (plugin->events && plugin->events[events].name) events++;
    while (plugin->emits && plugin->emits[emits].name) emits++;
    while (plugin->schedules && plugin->schedules[schedules].name) schedules++;
    *ret = (exports_mixlab_plugin_lifecycle_description_t){
        .name = borrowed(plugin->name),
        .version = borrowed(plugin->version ? plugin->version : "0.0.0"),
        .namespaces = names_of(plugin->namespaces),
        .filters = names_of(plugin->filters),
        .events = {mx_memory(events * sizeof *ret->events.ptr), events},
        .emits = {mx_memory(emits * sizeof *ret->emits.ptr), emits},
        .schedules = {mx_memory(schedules * sizeof *ret->schedules.ptr), schedules},
    };
    for (size_t i = 0; i < events; i++) ret->events.ptr[i] = contract_of(&plugin->events[i]);
    for (size_t i = 0; i < emits; i++) {
        const mx_emitted *emitted = &plugin->emits[i];
        ret->emits.ptr[i] = (exports_mixlab_plugin_lifecycle_emit_contract_t){borrowed(emitted->name), schema(emitted->arguments)};
    }
    for (size_t i = 0; i < schedules; i++) {
        const mx_schedule *declared = &plugin->schedules[i];
        exports_mixlab_plugin_lifecycle_schedule_t *told = &ret->schedules.ptr[i];
        told->name = borrowed(declared->name);
        if (declared->every_ms) {
            told->rule.tag = EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_RULE_EVERY;
            told->rule.val.every = declared->every_ms;
        } else {
            told->rule.tag = EXPORTS_MIXLAB_PLUGIN_LIFECYCLE_RULE_CRON;
            told->rule.val.cron = borrowed(declared->cron);
        }
    }
    if (refusal) *err = borrowed(refusal);
    end();
    return refusal == NULL;
}

// ---- Calls ----

bool exports_mixlab_plugin_events_handle(
    text *event,
    mixlab_plugin_types_message_t *message,
    exports_mixlab_plugin_events_outcome_t *ret,
    mixlab_plugin_types_rejection_t *err
) {
    begin();
    const char *name = copied(*event);
    const mx_event *handled = mx_the_plugin.events;
    while (handled->name && strcmp(handled->name, name) != 0 && strcmp(handled->name, "*") != 0) handled++;
    mx_answer answer = handled->handle(copied(message->arguments));
    *ret = (exports_mixlab_plugin_events_outcome_t){.tag = EXPORTS_MIXLAB_PLUGIN_EVENTS_OUTCOME_DONE};
    switch (answer.kind) {
    case MX_REJECT: *err = rejection_of(answer); break;
    case MX_REPLY:
        ret->tag = EXPORTS_MIXLAB_PLUGIN_EVENTS_OUTCOME_REPLY;
        ret->val.reply = message_of(answer.arguments);
        break;
    case MX_NO_ACK: ret->tag = EXPORTS_MIXLAB_PLUGIN_EVENTS_OUTCOME_NO_ACK; break;
    case MX_DONE: break;
    case MX_PASS:
    case MX_REPLACE: mx_fail("mx_pass and mx_replace are for filters");
    }
    end();
    return answer.kind != MX_REJECT;
}

bool exports_mixlab_plugin_connections_on_connect(text *auth, exports_mixlab_plugin_connections_refusal_t *err) {
    begin();
    mx_answer answer = mx_the_plugin.connect ? mx_the_plugin.connect(copied(*auth)) : mx_done();
    bool is_refused = answer.kind == MX_REJECT;
    if (is_refused) {
        const char *data = mx_json("%s", answer.message);
        *err = (exports_mixlab_plugin_connections_refusal_t){borrowed(answer.code), {true, borrowed(data)}};
    }
    end();
    return !is_refused;
}

void exports_mixlab_plugin_connections_on_disconnect(text *reason) {
    begin();
    if (mx_the_plugin.disconnect) mx_the_plugin.disconnect(copied(*reason));
    end();
}

bool exports_mixlab_plugin_timer_handler_fire(
    text *name,
    text *payload,
    uint64_t due_ms,
    uint32_t attempt,
    mixlab_plugin_types_rejection_t *err
) {
    (void)due_ms;
    begin();
    if (!mx_the_plugin.timer) mx_fail("the plugin has no `timer`");
    mx_answer answer = mx_the_plugin.timer(copied(*name), copied(*payload), attempt);
    bool is_refused = answer.kind == MX_REJECT;
    if (is_refused) *err = rejection_of(answer);
    end();
    return !is_refused;
}

bool exports_mixlab_plugin_filters_filter(
    text *event,
    mixlab_plugin_types_message_t *message,
    exports_mixlab_plugin_filters_verdict_t *ret,
    mixlab_plugin_types_rejection_t *err
) {
    begin();
    if (!mx_the_plugin.filter) mx_fail("the plugin has no `filter`");
    mx_answer answer = mx_the_plugin.filter(copied(*event), copied(message->arguments));
    *ret = (exports_mixlab_plugin_filters_verdict_t){.tag = EXPORTS_MIXLAB_PLUGIN_FILTERS_VERDICT_PASS};
    switch (answer.kind) {
    case MX_REJECT: *err = rejection_of(answer); break;
    case MX_PASS: break;
    case MX_DONE: ret->tag = EXPORTS_MIXLAB_PLUGIN_FILTERS_VERDICT_DONE; break;
    case MX_NO_ACK: ret->tag = EXPORTS_MIXLAB_PLUGIN_FILTERS_VERDICT_NO_ACK; break;
    case MX_REPLY:
        ret->tag = EXPORTS_MIXLAB_PLUGIN_FILTERS_VERDICT_REPLY;
        ret->val.reply = message_of(answer.arguments);
        break;
    case MX_REPLACE:
        ret->tag = EXPORTS_MIXLAB_PLUGIN_FILTERS_VERDICT_REPLACE;
        ret->val.replace = message_of(answer.arguments);
        // What the arguments stand for goes with them.
        ret->val.replace.attachments = message->attachments;
        break;
    }
    end();
    return answer.kind != MX_REJECT;
}

bool exports_mixlab_plugin_webhooks_handle(
    exports_mixlab_plugin_webhooks_request_t *request,
    exports_mixlab_plugin_webhooks_response_t *ret,
    mixlab_plugin_types_rejection_t *err
) {
    (void)err;
    begin();
    if (!mx_the_plugin.webhook) mx_fail("the plugin has no `webhook`");
    mx_request told = {
        .method = copied(request->method),
        .path = copied(request->path),
        .body = copied((text){request->body.ptr, request->body.len}),
        .delivery = request->delivery.is_some ? copied(request->delivery.val) : NULL,
    };
    mx_response response = mx_the_plugin.webhook(&told);
    text body = borrowed(response.body);
    *ret = (exports_mixlab_plugin_webhooks_response_t){.status = response.status, .body = {body.ptr, body.len}};
    end();
    return true;
}

// ---- Who sent it ----

// Of a function without arguments, what it tells.
static const char *told(bool (*ask)(text *, mixlab_plugin_types_error_t *), const char *what) {
    text answer;
    mixlab_plugin_types_error_t error;
    must(ask(&answer, &error), what, &error);
    return copied(answer);
}

const char *mx_id(void) { return told(mixlab_plugin_connection_id, "id"); }
const char *mx_namespace(void) { return told(mixlab_plugin_connection_namespace, "namespace"); }
const char *mx_address(void) { return told(mixlab_plugin_connection_address, "address"); }
const char *mx_data(void) { return told(mixlab_plugin_sockets_data, "data"); }

bool mx_get_user(mx_user *user) {
    mixlab_plugin_connection_option_authenticated_user_t answer;
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_connection_user(&answer, &error), "user", &error);
    if (!answer.is_some) return false;
    const char **roles = mx_memory(answer.val.roles.len * sizeof *roles);
    for (size_t i = 0; i < answer.val.roles.len; i++) roles[i] = copied(answer.val.roles.ptr[i]);
    *user = (mx_user){
        .id = copied(answer.val.id),
        .username = answer.val.username.is_some ? copied(answer.val.username.val) : NULL,
        .roles = roles,
        .role_count = answer.val.roles.len,
    };
    return true;
}

// ---- What happens ----

static full_plugin_list_string_t one(const char *name) {
    if (!name) return (full_plugin_list_string_t){NULL, 0};
    text *list = mx_memory(sizeof(text));
    *list = borrowed(name);
    return (full_plugin_list_string_t){list, 1};
}

static mixlab_plugin_types_message_t message_with(const char *json) {
    return message_of(json ? mx_json("[%j]", json) : "[]");
}

void mx_emit(const char *event, const char *json) {
    some(event, "emit", "event");
    mixlab_plugin_types_target_t target = {.tag = MIXLAB_PLUGIN_TYPES_TARGET_SENDER};
    mixlab_plugin_types_message_t message = message_with(json);
    mixlab_plugin_emit_options_t options = {0};
    text name = borrowed(event);
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_emit_emit(&target, &name, &message, &options, &error), "emit", &error);
}

void mx_emit_to(mx_to to, const char *event, const char *json) {
    some(event, "emit", "event");
    if (!to.room && !to.user && !to.role && !to.socket && !to.everyone) mx_fail("emit: for nobody; say .everyone if all are meant");
    mixlab_plugin_types_target_t target = {.tag = MIXLAB_PLUGIN_TYPES_TARGET_SOCKETS};
    target.val.sockets = (mixlab_plugin_types_selection_t){
        .namespace_ = option(to.of),
        .rooms = one(to.room),
        .users = one(to.user),
        .roles = one(to.role),
        .sockets = one(to.socket),
        .except = one(to.except),
        .include_sender = to.include_sender,
    };
    mixlab_plugin_types_message_t message = message_with(json);
    mixlab_plugin_emit_options_t options = {.volatile_ = to.is_volatile, .keep = option(to.keep)};
    text name = borrowed(event);
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_emit_emit(&target, &name, &message, &options, &error), "emit", &error);
}

// Calls a function of one text.
static void act(bool (*function)(text *, mixlab_plugin_types_error_t *), const char *argument, const char *what) {
    some(argument, what, "argument");
    text it = borrowed(argument);
    mixlab_plugin_types_error_t error;
    must(function(&it, &error), what, &error);
}

void mx_join(const char *room) { act(mixlab_plugin_rooms_join, room, "join"); }
void mx_leave(const char *room) { act(mixlab_plugin_rooms_leave, room, "leave"); }
void mx_set_data(const char *json) { act(mixlab_plugin_sockets_set_data, json, "set_data"); }
void mx_presence_leave(const char *room) { act(mixlab_plugin_presence_leave, room, "presence_leave"); }
void mx_timer_cancel(const char *name) { act(mixlab_plugin_timers_cancel, name, "timer_cancel"); }

bool mx_is_in(const char *room) {
    some(room, "is_in", "room");
    full_plugin_list_string_t rooms;
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_rooms_joined(&rooms, &error), "is_in", &error);
    for (size_t i = 0; i < rooms.len; i++) {
        if (strcmp(copied(rooms.ptr[i]), room) == 0) return true;
    }
    return false;
}

void mx_disconnect(bool close) {
    mixlab_plugin_types_target_t target = {.tag = MIXLAB_PLUGIN_TYPES_TARGET_SENDER};
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_sockets_disconnect(&target, close, &error), "disconnect", &error);
}

void mx_presence_enter(const char *room, const char *json) {
    some(room, "presence_enter", "room");
    text name = borrowed(room), data = borrowed(json);
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_presence_enter(&name, &data, &error), "presence_enter", &error);
}

const char *mx_presence_members(const char *room) {
    some(room, "presence_members", "room");
    text name = borrowed(room);
    mixlab_plugin_presence_list_member_t members;
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_presence_members(&name, &members, &error), "presence_members", &error);
    buffer made = {0};
    put_text(&made, "[");
    for (size_t i = 0; i < members.len; i++) {
        const mixlab_plugin_presence_member_t *member = &members.ptr[i];
        const char *json = mx_json(
            "%j{\"id\":%s,\"anonymous\":%b,\"connections\":%l,\"data\":%j}",
            i ? "," : "", copied(member->id), member->anonymous, (int64_t)member->connections, copied(member->data)
        );
        put_text(&made, json);
    }
    put_text(&made, "]");
    return made.bytes;
}

const char *mx_history(const char *topic, const char *position, uint32_t limit) {
    some(topic, "history", "topic");
    text name = borrowed(topic), from = borrowed(position);
    mixlab_plugin_history_page_t page;
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_history_since(&name, position ? &from : NULL, limit, &page, &error), "history", &error);
    buffer made = {0};
    put_text(&made, "{\"events\":[");
    for (size_t i = 0; i < page.entries.len; i++) {
        const mixlab_plugin_history_entry_t *entry = &page.entries.ptr[i];
        const char *json = mx_json(
            "%j{\"position\":%s,\"at_ms\":%l,\"event\":%s,\"arguments\":%j}",
            i ? "," : "", copied(entry->position), (int64_t)entry->at_ms, copied(entry->event), copied(entry->message.arguments)
        );
        put_text(&made, json);
    }
    put_text(&made, mx_json("],\"position\":%s,\"gap\":%b,\"more\":%b}", copied(page.position), page.gap, page.more));
    return made.bytes;
}

const char *mx_get(const char *bucket, const char *key) {
    some(key, "get", "key");
    text in = borrowed(bucket), name = borrowed(key);
    full_plugin_option_list_u8_t value;
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_store_get(bucket ? &in : NULL, &name, &value, &error), "get", &error);
    return value.is_some ? copied((text){value.val.ptr, value.val.len}) : NULL;
}

void mx_set(const char *bucket, const char *key, const char *value, uint64_t ttl_ms) {
    some(key, "set", "key");
    some(value, "set", "value");
    text in = borrowed(bucket), name = borrowed(key), it = borrowed(value);
    full_plugin_list_u8_t bytes = {it.ptr, it.len};
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_store_set(bucket ? &in : NULL, &name, &bytes, ttl_ms ? &ttl_ms : NULL, &error), "set", &error);
}

void mx_delete(const char *bucket, const char *key) {
    some(key, "delete", "key");
    text in = borrowed(bucket), name = borrowed(key);
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_store_delete(bucket ? &in : NULL, &name, &error), "delete", &error);
}

void mx_add(const char *bucket, const char *key, int64_t delta) {
    some(key, "add", "key");
    text in = borrowed(bucket), name = borrowed(key);
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_store_add(bucket ? &in : NULL, &name, delta, &error), "add", &error);
}

void mx_timer_set(const char *name, uint64_t after_ms, const char *payload) {
    some(name, "timer_set", "name");
    mixlab_plugin_timers_timer_t timer = {
        .name = borrowed(name),
        .due = {.tag = MIXLAB_PLUGIN_TIMERS_WHEN_AFTER, .val = {.after = after_ms}},
        .payload = borrowed(payload ? payload : "null"),
    };
    mixlab_plugin_types_error_t error;
    must(mixlab_plugin_timers_set(&timer, &error), "timer_set", &error);
}
