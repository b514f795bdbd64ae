// Whoever joins gets what is said.
#include "mixlab.h"

static mx_answer join(const char *arguments) {
    (void)arguments;
    mx_join("{{name}}");
    return mx_done();
}

static mx_answer say(const char *arguments) {
    if (!mx_is_in("{{name}}")) return mx_reject("not_joined", "Join first");
    mx_emit_to((mx_to){.room = "{{name}}", .include_sender = true}, "{{name}}:said", mx_at(arguments, "/0"));
    return mx_done();
}

#define SAID MX_JSON({ \
    "type": "array", "minItems": 1, "maxItems": 1, \
    "prefixItems": [{"type": "object", "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 500}}, "required": ["text"]}] \
})

static const mx_event events[] = {
    {.name = "{{name}}:join", .access = MX_ANYONE, .handle = join},
    {.name = "{{name}}:say", .access = MX_ANYONE, .arguments = SAID, .limits = {{MX_SOCKET, 10, 5000}}, .handle = say},
    {0},
};

static const mx_emitted emits[] = {{"{{name}}:said", SAID}, {0}};

MX_PLUGIN(.name = "{{name}}", .version = "0.1.0", .events = events, .emits = emits);
