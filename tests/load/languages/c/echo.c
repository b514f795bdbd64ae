// What `mixlab-load languages` compares: the shipped plugin custom-event, in C.
#include "mixlab.h"

static mx_answer answer(const char *arguments) {
    const char *data = mx_at(arguments, "/0");
    mx_emit("custom_response", data);
    return mx_reply(data);
}

static const mx_event events[] = {
    {
        .name = "custom_event",
        .access = MX_ANYONE,
        .arguments = MX_JSON({"type": "array", "minItems": 1, "maxItems": 1,
                              "items": {"type": "object", "required": ["socket", "n", "text"], "additionalProperties": false,
                                        "properties": {"socket": {"type": "integer", "minimum": 0},
                                                       "n": {"type": "integer", "minimum": 0},
                                                       "text": {"type": "string", "maxLength": 100000}}}}),
        .limits = {{MX_SOCKET, 1000000, 1000}},
        .handle = answer,
    },
    {0},
};

MX_PLUGIN(.name = "echo", .version = "1.0.0", .events = events);
