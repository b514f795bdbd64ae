// Another service tells of orders that are paid (POST /hooks/{{name}}); they are kept, and admins hear of them.
#include "mixlab.h"

static mx_response paid(const mx_request *request) {
    const char *order = mx_text_at(request->body, "/order"), *amount = mx_at(request->body, "/amount");
    if (!order || !amount) return (mx_response){400, "expected order and amount"};
    mx_set(NULL, mx_text("paid:%s", order), amount, 0);
    mx_emit_to((mx_to){.role = "admin"}, "{{name}}:paid", mx_json("{\"order\":%s,\"amount\":%j}", order, amount));
    return (mx_response){204, NULL};
}

MX_EXPORT_WEBHOOK;
MX_PLUGIN(.name = "{{name}}", .version = "0.1.0", .webhook = paid);
