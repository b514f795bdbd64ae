// Sees the events of other plugins before they do: what has the word "spam" goes no further.
#include <string.h>

#include "mixlab.h"

static mx_answer moderated(const char *event, const char *arguments) {
    (void)event;
    if (strstr(arguments, "spam")) return mx_reject("not_welcome", "Say something else");
    return mx_pass();
}

static const char *const filters[] = {"*", NULL};

MX_EXPORT_FILTER;
MX_PLUGIN(.name = "{{name}}", .version = "0.1.0", .filters = filters, .filter = moderated);
