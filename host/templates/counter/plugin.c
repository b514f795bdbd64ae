// Counts, and remembers.
#include <stdlib.h>

#include "mixlab.h"

static mx_answer count(const char *arguments) {
    const char *stored = mx_get(NULL, "count");
    int64_t sum = (stored ? atoll(stored) : 0) + (int64_t)mx_number_at(arguments, "/0/by", 0);
    mx_set(NULL, "count", mx_text("%l", sum), 0);
    const char *counted = mx_json("{\"count\":%l}", sum);
    mx_emit_to((mx_to){.everyone = true, .include_sender = true}, "{{name}}:counted", counted);
    return mx_reply(counted);
}

#define BY MX_JSON({ \
    "type": "array", "minItems": 1, "maxItems": 1, \
    "prefixItems": [{"type": "object", "properties": {"by": {"type": "integer", "minimum": 1, "maximum": 100}}, "required": ["by"]}] \
})

static const mx_event events[] = {
    {.name = "{{name}}:count", .access = MX_ANYONE, .arguments = BY, .handle = count},
    {0},
};

MX_PLUGIN(.name = "{{name}}", .version = "0.1.0", .events = events);
