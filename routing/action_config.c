/* The settings tables of what a route does: forward, redirect, respond, files. */
#include <string.h>
#include "routing/header_rules.h"
#include "routing/redirect.h"
#include "routing/route_config.h"

#define AT(field) offsetof(struct routing_weighted_group_conf, field)
static const struct gw_setting weighted_group_settings[] = {
    {"group", GW_TEXT, AT(group), "Name of a target group.", .is_required = true},
    {"weight", GW_NUMBER, AT(weight), "Share of the requests, relative to the weights of the other groups.",
     .initial = 1, .max = 999},
    {0},
};
#undef AT
static const struct gw_section weighted_group_section = {
    .name = "weighted group",
    .help = "One of the target groups that share the requests of a route.",
    .size = sizeof(struct routing_weighted_group_conf),
    .settings = weighted_group_settings,
    .scalar_is = "group",
};

static bool is_text(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

const struct gw_texts *routing_forward_on(const struct routing_forward_conf *forward)
{
    static h2o_iovec_t initial[] = {{H2O_STRLIT("500")}, {H2O_STRLIT("502")}, {H2O_STRLIT("503")}, {H2O_STRLIT("504")}};
    static const struct gw_texts initials = {initial, 4, NULL};

    return forward->on.size != 0 ? &forward->on : &initials;
}

/* spec/cloudfront.md 1.5: exactly two members; a failed connect counts as 503, a timeout as 504. */
static bool check_fallback(struct gw_loader *load, struct routing_forward_conf *forward)
{
    if ((forward->primary.base != NULL) != (forward->fallback.base != NULL))
        return gw_error_at(load->errors, forward->at, "\"%s\" needs \"%s\" beside it",
                           forward->primary.base != NULL ? "primary" : "fallback",
                           forward->primary.base != NULL ? "fallback" : "primary");
    if (forward->fallback.base == NULL)
        return forward->on.size == 0 ||
               gw_error_at(load->errors, gw_setting_at(forward->at, "on"), "\"on\" needs a \"fallback\"");
    if (forward->group.base != NULL || forward->groups.size != 0)
        return gw_error_at(load->errors, forward->at, "\"forward\" has \"primary\" and \"%s\" (expected one of them)",
                           forward->group.base != NULL ? "group" : "groups");
    if (is_text(forward->primary, forward->fallback))
        return gw_error_at(load->errors, gw_setting_at(forward->at, "fallback"),
                           "\"primary\" and \"fallback\" are the same target group");
    routing_when_compile(routing_forward_on(forward), &forward->when);
    if (routing_when_status(&forward->when, 503))
        forward->when.failures |= ROUTING_FAILURE_CONNECT;
    if (routing_when_status(&forward->when, 504))
        forward->when.failures |= ROUTING_FAILURE_TIMEOUT;
    forward->group = forward->primary;
    return true;
}

static bool check_forward(struct gw_loader *load, void *conf)
{
    struct routing_forward_conf *forward = conf;
    uint64_t sum = 0;
    bool is_ok = true;

    if (!check_fallback(load, forward))
        return false;

    if ((forward->group.base != NULL) == (forward->groups.size != 0))
        return gw_error_at(load->errors, forward->at,
                           forward->group.base != NULL ? "\"forward\" has both \"group\" and \"groups\" (expected one)"
                                                       : "\"forward\" names no target group");
    if (forward->group.base != NULL) {
        struct routing_weighted_group_conf *only = h2o_mem_alloc_pool(load->pool, sizeof(*only));
        *only = (struct routing_weighted_group_conf){gw_setting_at(forward->at, "group"), forward->group, 1};
        forward->groups.entries = h2o_mem_alloc_pool(load->pool, sizeof(void *));
        forward->groups.entries[0] = only;
        forward->groups.size = 1;
        forward->group = (h2o_iovec_t){NULL, 0};
    }
    for (size_t i = 0; i != forward->groups.size; ++i) {
        const struct routing_weighted_group_conf *entry = forward->groups.entries[i];
        sum += entry->weight;
        for (size_t j = 0; j != i; ++j)
            if (is_text(entry->group, ((struct routing_weighted_group_conf *)forward->groups.entries[j])->group)) {
                is_ok = gw_error_at(load->errors, entry->at, "target group \"%s\" is listed twice", entry->group.base);
                break;
            }
    }
    if (sum == 0)
        gw_warn_at(load->errors, forward->at, "every weight is 0: each request will be answered 503");
    return is_ok;
}

#define AT(field) offsetof(struct routing_forward_conf, field)
static const struct gw_setting forward_settings[] = {
    {"groups", GW_LIST, AT(groups), "Target groups with weights; a request stays with the group drawn for it.",
     .section = &weighted_group_section},
    {"group", GW_TEXT, AT(group), "The only target group; the same as writing its name alone."},
    {"primary", GW_TEXT, AT(primary), "The target group that is always asked first; with `fallback`."},
    {"fallback", GW_TEXT, AT(fallback),
     "The target group that is asked when the primary's last try fails as `on` says; GET, HEAD and OPTIONS only."},
    {"on", GW_TEXTS, AT(on),
     "Statuses and failures of the primary that are not passed on: 400 to 599 as `503`, `500-504` or `5xx`, "
     "`connect_failure` (503 says it too), `timeout` (504 says it too), `reset`, `bad_response`, those of functions as "
     "in `retry`; default 500, 502, 503 and 504.",
     .valid = routing_when_is_word},
    {"stickiness", GW_DURATION, AT(stickiness_ms),
     "How long a client without requests stays with the group drawn for it, by a cookie AWSALBTG; 0 draws anew.",
     .max = 604800000},
    {0},
};
#undef AT
const struct gw_section routing_forward_section = {
    .name = "forward action",
    .help = "Sends the request to a target of a target group.",
    .size = sizeof(struct routing_forward_conf),
    .settings = forward_settings,
    .scalar_is = "group",
    .list_is = "groups",
    .check = check_forward,
};

static bool check_redirect(struct gw_loader *load, void *conf) { return routing_redirect_check(load, conf); }

#define AT(field) offsetof(struct routing_redirect_conf, field)
static const struct gw_setting redirect_settings[] = {
    {"scheme", GW_TEXT, AT(scheme), "`http`, `https` or `#{protocol}`."},
    {"host", GW_TEXT, AT(host), "Host of the new URL; may hold `#{host}`.", .min = 1, .max = 255},
    {"port", GW_TEXT, AT(port),
     "Port of the new URL, or `#{port}`; when left out it stays, or is the default of a scheme that changes."},
    {"path", GW_TEXT, AT(path),
     "Path of the new URL; may hold `#{host}`, `#{port}` and `#{path}` (without its first `/`).", .min = 1,
     .max = 1024},
    {"query", GW_TEXT, AT(query), "Query of the new URL, without `?`; may hold any placeholder.", .max = 1024},
    {"status", GW_NUMBER, AT(status), "301, 302, 303, 307 or 308.", .initial = 302, .min = 300, .max = 399},
    {0},
};
#undef AT
const struct gw_section routing_redirect_section = {
    .name = "redirect action",
    .help = "Answers with a Location made of the request's URL and the parts given here.",
    .size = sizeof(struct routing_redirect_conf),
    .settings = redirect_settings,
    .check = check_redirect,
};

static bool check_content_type(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t value)
{
    if (value.len == 0 || !routing_is_field_value(value))
        return gw_error_at(load->errors, at, "\"%s\" is not a content type", value.len == 0 ? "" : value.base);
    return true;
}

static bool check_respond(struct gw_loader *load, void *conf)
{
    struct routing_respond_conf *respond = conf;
    /* RFC 9110 15.3.5, 15.3.6, 15.4.5 */
    if (respond->body.len != 0 && (respond->status == 204 || respond->status == 205 || respond->status == 304))
        return gw_error_at(load->errors, gw_setting_at(respond->at, "body"), "a response with status %u has no body",
                           (unsigned)respond->status);
    return true;
}

#define AT(field) offsetof(struct routing_respond_conf, field)
static const struct gw_setting respond_settings[] = {
    {"status", GW_NUMBER, AT(status), "Status code of the answer.", .initial = 200, .min = 200, .max = 599},
    {"body", GW_TEXT, AT(body), "Body of the answer.", .max = 1 << 20},
    {"content_type", GW_TEXT, AT(content_type), "Content-Type of the answer.",
     .initial_text = "text/plain; charset=utf-8", .valid = check_content_type},
    {0},
};
#undef AT
const struct gw_section routing_respond_section = {
    .name = "respond action",
    .help = "Answers with a fixed response.",
    .size = sizeof(struct routing_respond_conf),
    .settings = respond_settings,
    .scalar_is = "status",
    .check = check_respond,
};

static bool check_index_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    if (name.len == 0 || memchr(name.base, '/', name.len) != NULL || memchr(name.base, '\0', name.len) != NULL)
        return gw_error_at(load->errors, at, "\"%s\" is not a file name", name.len == 0 ? "" : name.base);
    return true;
}

static const char *const precompressed[] = {"gzip", "br", NULL};

#define AT(field) offsetof(struct routing_files_conf, field)
static const struct gw_setting files_settings[] = {
    {"root", GW_TEXT, AT(root),
     "Directory whose files are served, relative to the file that names it; nothing outside of it ever is.",
     .is_required = true, .min = 1},
    {"index", GW_TEXTS, AT(index), "Names tried, in order, when a directory is asked for.",
     .initial_text = "index.html", .valid = check_index_name},
    {"precompressed", GW_CHOICES, AT(precompressed),
     "Codings of which the directory may hold copies, made beforehand: `a.css.br` and `a.css.gz` beside `a.css`. A "
     "copy "
     "that is older than its file is not used.",
     .choices = precompressed},
    {"strip_prefix", GW_TEXT, AT(strip_prefix), "Taken off the start of the path before the file is looked up.",
     .valid = routing_check_path},
    {0},
};
#undef AT
const struct gw_section routing_files_section = {
    .name = "files action",
    .help = "Serves static files from a directory.",
    .size = sizeof(struct routing_files_conf),
    .settings = files_settings,
    .scalar_is = "root",
};
