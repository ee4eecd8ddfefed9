/* The settings of faults that a route makes on purpose, and of the copies of its requests that another group gets. */
#include <string.h>
#include "routing/config.h"

static bool is_field_of_host(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.';
}

static bool check_suffix(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t suffix)
{
    bool is_ok = true;
    for (size_t i = 0; i != suffix.len; ++i)
        is_ok = is_ok && is_field_of_host(suffix.base[i]);
    return is_ok || gw_error_at(load->errors, at, "\"%s\" cannot end a host name (expected letters, digits, - and .)",
                                suffix.base);
}

#define AT(field) offsetof(struct routing_fault_delay_conf, field)
static const struct gw_setting delay_settings[] = {
    {"duration", GW_DURATION, AT(duration_ms), "How long the request waits before anything is done with it.",
     .is_required = true, .min = 1, .max = 3600000},
    {"percent", GW_PERCENT, AT(percent), "Share of the requests that wait.", .initial = 100},
    {0},
};
#undef AT
static const struct gw_section delay_section = {
    .name = "delay",
    .help = "Requests that wait.",
    .size = sizeof(struct routing_fault_delay_conf),
    .settings = delay_settings,
    .scalar_is = "duration",
};

#define AT(field) offsetof(struct routing_fault_abort_conf, field)
static const struct gw_setting abort_settings[] = {
    {"status", GW_NUMBER, AT(status), "Status of the answer.", .initial = 503, .min = 400, .max = 599},
    {"percent", GW_PERCENT, AT(percent), "Share of the requests that are answered with it.", .initial = 100},
    {0},
};
#undef AT
static const struct gw_section abort_section = {
    .name = "abort",
    .help = "Requests that are answered with an error.",
    .size = sizeof(struct routing_fault_abort_conf),
    .settings = abort_settings,
    .scalar_is = "status",
};

static bool check_fault(struct gw_loader *load, void *conf)
{
    const struct routing_fault_conf *fault = conf;
    if (fault->delay == NULL && fault->abort == NULL && fault->by_header == ROUTING_FAULT_BY_NOBODY)
        return gw_error_at(load->errors, fault->at, "\"fault\" does nothing (expected delay, abort or by_header)");
    return true;
}

static const char *const by_header[] = {"nobody", "trusted", "everybody", NULL};

#define AT(field) offsetof(struct routing_fault_conf, field)
static const struct gw_setting fault_settings[] = {
    {"delay", GW_OPTION, AT(delay), "Makes requests wait.", .section = &delay_section},
    {"abort", GW_OPTION, AT(abort), "Answers requests with an error.", .section = &abort_section},
    {"by_header", GW_CHOICE, AT(by_header),
     "Whose x-weir-fault-delay (milliseconds) and x-weir-fault-abort (status) make faults of their own: those in "
     "trusted_proxies, or everybody.",
     .initial = ROUTING_FAULT_BY_NOBODY, .choices = by_header},
    {"max_delay", GW_DURATION, AT(max_delay_ms), "The longest delay that a header may ask for.", .initial = 30000,
     .min = 1, .max = 3600000},
    {0},
};
#undef AT
const struct gw_section routing_fault_section = {
    .name = "fault",
    .help = "Faults made on purpose, to see how callers bear them: a delay, then an error.",
    .size = sizeof(struct routing_fault_conf),
    .settings = fault_settings,
    .check = check_fault,
};

#define AT(field) offsetof(struct routing_mirror_conf, field)
static const struct gw_setting mirror_settings[] = {
    {"group", GW_TEXT, AT(group), "Target group that gets the copies.", .is_required = true},
    {"percent", GW_PERCENT, AT(percent), "Share of the requests that are copied, drawn at random.", .initial = 100},
    {"max_body", GW_SIZE, AT(max_body), "Requests with a larger body are not copied.", .initial = 256 << 10,
     .max = 1 << 30},
    {"max_requests", GW_NUMBER, AT(max_requests),
     "Copies under way at a time, on all threads together; further ones are left out.", .initial = 256, .min = 1,
     .max = 65536},
    {"host_suffix", GW_TEXT, AT(host_suffix), "Put behind the host name that the copy is for, before its port.",
     .min = 1, .max = 64, .valid = check_suffix},
    {0},
};
#undef AT
const struct gw_section routing_mirror_section = {
    .name = "mirror",
    .help = "Copies of requests for another target group, whose responses are thrown away.",
    .size = sizeof(struct routing_mirror_conf),
    .settings = mirror_settings,
    .scalar_is = "group",
};
