// Reminds users of something, later.
#include "mixlab.h"

static mx_answer remind(const char *arguments) {
    mx_user user;
    if (!mx_get_user(&user)) return mx_reject("nobody", "Say who you are");
    uint64_t after_ms = (uint64_t)mx_number_at(arguments, "/0/seconds", 0) * 1000;
    const char *payload = mx_json("{\"user\":%s,\"text\":%j}", user.id, mx_at(arguments, "/0/text"));
    mx_timer_set(mx_text("user:%s", user.id), after_ms, payload);
    return mx_done();
}

static mx_answer is_due(const char *name, const char *payload, uint32_t attempt) {
    (void)name, (void)attempt;
    const char *reminder = mx_json("{\"text\":%j}", mx_at(payload, "/text"));
    mx_emit_to((mx_to){.user = mx_text_at(payload, "/user")}, "{{name}}:reminder", reminder);
    return mx_done();
}

#define WANTED MX_JSON({ \
    "type": "array", "minItems": 1, "maxItems": 1, \
    "prefixItems": [{ \
        "type": "object", \
        "properties": { \
            "text": {"type": "string", "minLength": 1, "maxLength": 200}, \
            "seconds": {"type": "integer", "minimum": 1, "maximum": 86400} \
        }, \
        "required": ["text", "seconds"] \
    }] \
})

static const mx_event events[] = {
    {.name = "{{name}}:remind", .arguments = WANTED, .limits = {{MX_USER, 10, 60000}}, .handle = remind},
    {0},
};

MX_EXPORT_TIMERS;
MX_PLUGIN(.name = "{{name}}", .version = "0.1.0", .events = events, .timer = is_due);
