/* The settings tables of routes: what happens around the action, and the route itself. Conditions are in
 * match_config.c, actions in action_config.c, target groups in target_group.c. */
#include <string.h>
#include "routing/header_rules.h"
#include "routing/rewrite.h"
#include "routing/route_config.h"
#include "routing/upgrade.h"

/* ---- what happens around the action ---- */

static bool check_header_rules(struct gw_loader *load, void *conf) { return routing_header_rules_check(load, conf); }

#define AT(field) offsetof(struct routing_header_rules_conf, field)
static const struct gw_setting header_rules_settings[] = {
    {"set", GW_PAIRS, AT(set), "Headers that get exactly this value, whatever was there."},
    {"add", GW_PAIRS, AT(add), "Header lines that are added to those already there."},
    {"remove", GW_TEXTS, AT(remove), "Headers that are removed, before anything is set or added."},
    {0},
};
#undef AT
static const struct gw_section request_headers_section = {
    .name = "request header rules",
    .help = "Changes the headers that the target gets.",
    .size = sizeof(struct routing_header_rules_conf),
    .settings = header_rules_settings,
    .check = check_header_rules,
};
const struct gw_section routing_response_headers_section = {
    .name = "response header rules",
    .help = "Changes the headers that the client gets.",
    .size = sizeof(struct routing_header_rules_conf),
    .settings = header_rules_settings,
    .check = check_header_rules,
};

static bool check_rewrite_host(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t host)
{
    bool is_ok = host.len != 0;
    for (size_t i = 0; i != host.len; ++i)
        is_ok =
            is_ok && (routing_is_unreserved((unsigned char)host.base[i]) || memchr("[]:$", host.base[i], 4) != NULL);
    if (!is_ok)
        return gw_error_at(load->errors, at,
                           "\"%s\" is not a host (expected a name or address, with or without a port)",
                           host.len == 0 ? "" : host.base);
    return true;
}

static bool check_rewrite(struct gw_loader *load, void *conf)
{
    struct routing_rewrite_conf *rewrite = conf;
    const char *from = rewrite->path.base != NULL ? "path" : "url";
    bool has_from = rewrite->path.base != NULL || rewrite->url.base != NULL;

    if (!has_from && rewrite->to.base == NULL && rewrite->host.base == NULL && rewrite->host_regex.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" changes nothing (expected path and to, or host)");
    if (rewrite->path.base != NULL && rewrite->url.base != NULL)
        return gw_error_at(load->errors, gw_setting_at(rewrite->at, "url"),
                           "\"rewrite\" has \"path\" and \"url\" (expected one of them)");
    if (has_from && rewrite->to.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"%s\" without \"to\"", from);
    if (!has_from && rewrite->to.base != NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"to\" without \"path\"");
    if (rewrite->host_regex.base != NULL && rewrite->host.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"host_regex\" without \"host\"");
    if (rewrite->host_regex.base == NULL && rewrite->host.base != NULL &&
        memchr(rewrite->host.base, '$', rewrite->host.len) != NULL)
        return gw_error_at(load->errors, gw_setting_at(rewrite->at, "host"),
                           "\"%s\" is not a host (groups like $1 need a \"host_regex\")", rewrite->host.base);
    return routing_rewrite_check(load, rewrite);
}

#define AT(field) offsetof(struct routing_rewrite_conf, field)
static const struct gw_setting rewrite_settings[] = {
    {"path", GW_TEXT, AT(path), "Regular expression (PCRE2) on the canonical path; its first match is replaced.",
     .min = 1, .max = 1024, .valid = routing_check_regex},
    {"url", GW_TEXT, AT(url),
     "Instead of `path`: a regular expression on the canonical path with its query; its first match is replaced.",
     .min = 1, .max = 1024, .valid = routing_check_regex},
    {"to", GW_TEXT, AT(to),
     "Replacement; `$1` to `$9` are groups, `$0` the whole match, `$$` a dollar; with a `?` it replaces the query too.",
     .max = 1024},
    {"host", GW_TEXT, AT(host),
     "Host that the target gets instead of the client's; with `host_regex` it may hold its groups.",
     .valid = check_rewrite_host},
    {"host_regex", GW_TEXT, AT(host_regex),
     "Regular expression (PCRE2) on the host, ignoring case; `host` replaces its first match, other hosts stay.",
     .min = 1, .max = 1024, .valid = routing_check_regex},
    {0},
};
#undef AT
static const struct gw_section rewrite_section = {
    .name = "rewrite",
    .help = "Changes the URL that the target gets; the route is not chosen anew.",
    .size = sizeof(struct routing_rewrite_conf),
    .settings = rewrite_settings,
    .check = check_rewrite,
};

#define AT(field) offsetof(struct routing_access_log_conf, field)
static const struct gw_setting access_log_settings[] = {
    {"enabled", GW_BOOL, AT(is_enabled), "Whether the route's requests are logged.", .initial = 1},
    {"sample", GW_PERCENT, AT(sample), "Share of the route's requests that is logged, drawn at random.",
     .initial = 100},
    {0},
};
#undef AT
static const struct gw_section access_log_section = {
    .name = "access log of a route",
    .help = "Which requests of a route are logged.",
    .size = sizeof(struct routing_access_log_conf),
    .settings = access_log_settings,
    .scalar_is = "enabled",
};

/* ---- the route ---- */

static bool check_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    for (size_t i = 0; i != name.len; ++i)
        if ((unsigned char)name.base[i] < 0x20 || name.base[i] == 0x7f)
            return gw_error_at(load->errors, at, "a name must not hold control characters");
    return true;
}

enum routing_action routing_route_action(const struct routing_route_conf *route)
{
    return route->forward != NULL    ? ROUTING_FORWARD
           : route->redirect != NULL ? ROUTING_REDIRECT
           : route->respond != NULL  ? ROUTING_RESPOND
           : route->files != NULL    ? ROUTING_FILES
                                     : ROUTING_ECHO;
}

static bool check_route(struct gw_loader *load, void *conf)
{
    const struct routing_route_conf *route = conf;
    const struct {
        const char *name;
        bool is_given;
    } actions[] = {
        {"forward", route->forward != NULL},
        {"redirect", route->redirect != NULL},
        {"respond", route->respond != NULL},
        {"files", route->files != NULL},
        {"echo", route->echo},
    };
    const char *first = NULL;
    bool is_ok = true;

    for (size_t i = 0; i != sizeof(actions) / sizeof(actions[0]); ++i) {
        if (!actions[i].is_given)
            continue;
        if (first != NULL)
            is_ok = gw_error_at(load->errors, gw_setting_at(route->at, actions[i].name),
                                "the route has two actions, \"%s\" and \"%s\" (expected exactly one)", first,
                                actions[i].name);
        else
            first = actions[i].name;
    }
    is_ok = routing_upgrade_check(load, &route->upgrade) && is_ok;
    if (route->mirror != NULL && first != NULL && route->forward == NULL)
        is_ok = gw_error_at(load->errors, gw_setting_at(route->at, "mirror"),
                            "\"mirror\" copies what is forwarded, and this route does not forward");
    if (first == NULL)
        return gw_error_at(load->errors, route->at,
                           "the route has no action (expected one of forward, redirect, respond, files, echo)");
    return is_ok;
}

static const char *const criticalities[] = {"normal", "sheddable", "critical", NULL};
#define AT(field) offsetof(struct routing_route_timeouts_conf, field)
static const struct gw_setting route_timeouts_settings[] = {
    {"connect", GW_DURATION, AT(connect_ms), "How long connecting to a target may take.", .max = 600000},
    {"tls_handshake", GW_DURATION, AT(tls_ms), "How long the TLS handshake with a target may take.", .max = 600000},
    {"first_byte", GW_DURATION, AT(first_byte_ms), "How long a target may take to start its response.",
     .max = 86400000},
    {"idle", GW_DURATION, AT(idle_ms), "Longest pause between two bytes to or from a target.", .max = 86400000},
    {"total", GW_DURATION, AT(total_ms),
     "From the request's head to the end of the response, with every try and pause.", .max = 86400000},
    {"tunnel_idle", GW_DURATION, AT(tunnel_idle_ms),
     "Longest time without a byte in either direction of a tunnel (WebSocket).", .max = 604800000},
    {0},
};
#undef AT
static const struct gw_section route_timeouts_section = {
    .name = "timeouts",
    .help = "How long weir waits for targets of this route; 0 or left out is as the target group says.",
    .size = sizeof(struct routing_route_timeouts_conf),
    .settings = route_timeouts_settings,
};

#define AT(field) offsetof(struct routing_route_conf, field)
static const struct gw_setting route_settings[] = {
    {"name", GW_TEXT, AT(name), "Name in logs, metrics and messages.", .min = 1, .max = 128, .valid = check_name},
    {"priority", GW_NUMBER, AT(priority),
     "Lower is asked first; routes without one (0) come after those with one, in the order of the file.",
     .max = 4294967295},
    {"match", GW_SECTION, AT(match), "Which requests the route takes; left out, it takes all.",
     .section = &routing_match_section},
    {"request_headers", GW_SECTION, AT(request_headers), "Changes to the headers that the target gets.",
     .section = &request_headers_section},
    {"response_headers", GW_SECTION, AT(response_headers), "Changes to the headers that the client gets.",
     .section = &routing_response_headers_section},
    {"rewrite", GW_OPTION, AT(rewrite), "Changes to the URL that the target gets.", .section = &rewrite_section},
    {"max_body", GW_SIZE, AT(max_body), "Largest request body; 0 is unlimited, larger ones are answered 413."},
    {"criticality", GW_CHOICE, AT(criticality),
     "Who goes first when the gateway is overloaded (`overload`): sheddable requests, then a share of the normal ones; "
     "critical ones stay.",
     .choices = criticalities},
    {"upgrade", GW_TEXTS, AT(upgrade),
     "Protocols that clients may switch to by Upgrade; `off` or an empty list: none, and requests go on without the "
     "field.",
     .initial_text = "websocket", .valid = routing_upgrade_check_entry},
    {"retry", GW_OPTION, AT(retry), "When a request is sent again; left out, as the target group says.",
     .section = &routing_retry_section},
    {"hedge", GW_OPTION, AT(hedge), "Asks a second target when the first one is slow to answer.",
     .section = &routing_hedge_section},
    {"timeouts", GW_OPTION, AT(timeouts), "Times that stand above those of the target group.",
     .section = &route_timeouts_section},
    {"fault", GW_OPTION, AT(fault), "Delays and errors made on purpose.", .section = &routing_fault_section},
    {"mirror", GW_OPTION, AT(mirror), "Another target group that gets copies of the route's requests.",
     .section = &routing_mirror_section},
    {"compression", GW_OPTION, AT(compression),
     "Whether and how responses of the route are compressed; left out, as the top-level compression says.",
     .section = &routing_compression_section},
    {"access_log", GW_OPTION, AT(access_log),
     "Whether and how often requests of the route are logged; left out, as the top-level access_log says.",
     .section = &access_log_section},
    {"error_pages", GW_MAP, AT(error_pages),
     "Bodies of errors that weir answers itself, by status (404) or class (5xx); asked before the top-level ones.",
     .section = &routing_error_page_section, .valid = routing_error_page_is_key},
    {"forward", GW_OPTION, AT(forward), "Action: send the request to a target group.",
     .section = &routing_forward_section},
    {"redirect", GW_OPTION, AT(redirect), "Action: send the client to another URL.",
     .section = &routing_redirect_section},
    {"respond", GW_OPTION, AT(respond), "Action: answer with a fixed response.", .section = &routing_respond_section},
    {"files", GW_OPTION, AT(files), "Action: serve static files.", .section = &routing_files_section},
    {"echo", GW_BOOL, AT(echo), "Action: answer with what weir saw of the request, as JSON."},
    {0},
};
#undef AT
const struct gw_section routing_route_section = {
    .name = "route",
    .help = "Matches requests and does one thing with them; the first route that matches wins.",
    .size = sizeof(struct routing_route_conf),
    .settings = route_settings,
    .check = check_route,
};
