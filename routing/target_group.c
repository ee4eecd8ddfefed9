/* The settings tables of target groups. */
#include <string.h>
#include "routing/config.h"
#include "routing/header_rules.h"
#include "routing/health.h"

static bool check_probe_path(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path)
{
    bool is_ok = path.len != 0 && path.base[0] == '/';
    for (size_t i = 0; i != path.len; ++i)
        is_ok = is_ok && path.base[i] > 0x20 && path.base[i] < 0x7f && path.base[i] != '#';
    if (!is_ok)
        return gw_error_at(load->errors, at,
                           "\"%s\" is not a path to check (expected \"/\" and what follows, percent-encoded)",
                           path.len == 0 ? "" : path.base);
    return true;
}

static bool check_host_value(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t host)
{
    if (host.len == 0 || !routing_is_field_value(host) || memchr(host.base, ' ', host.len) != NULL)
        return gw_error_at(load->errors, at, "\"%s\" is not a host", host.len == 0 ? "" : host.base);
    return true;
}

/* A short interval should not need a second setting. A timeout that is written down may be longer than the interval: a
 * check that still runs when the next one is due is left alone (upstream/health.c). */
static bool check_health_check(struct gw_loader *load, void *conf)
{
    struct routing_health_check_conf *check = conf;
    bool is_written = check->at != NULL && gw_setting_at(check->at, "timeout") != check->at;
    if (check->timeout_ms <= check->interval_ms)
        return true;
    if (is_written)
        gw_warn_at(load->errors, gw_setting_at(check->at, "timeout"),
                   "\"timeout\" is longer than \"interval\" (%llums): a check that takes longer holds up the next one",
                   (unsigned long long)check->interval_ms);
    else
        check->timeout_ms = check->interval_ms;
    return true;
}

static const char *const health_protocols[] = {
    [ROUTING_HEALTH_CHECK_HTTP] = "http",     [ROUTING_HEALTH_CHECK_TCP] = "tcp",
    [ROUTING_HEALTH_CHECK_HTTPS] = "https",   [ROUTING_HEALTH_CHECK_H2C] = "h2c",
    [ROUTING_HEALTH_CHECK_H2] = "h2",         [ROUTING_HEALTH_CHECK_GRPC] = "grpc",
    [ROUTING_HEALTH_CHECK_LAMBDA] = "lambda", NULL};
#define AT(field) offsetof(struct routing_health_check_conf, field)
static const struct gw_setting health_check_settings[] = {
    {"enabled", GW_BOOL, AT(is_enabled), "Whether targets are checked; unchecked targets always take traffic.",
     .initial = 1},
    {"protocol", GW_CHOICE, AT(protocol),
     "`http`, `https`, `h2c` and `h2` ask for a path and look at the status, `grpc` calls a method, `lambda` invokes "
     "the function with the event of a check, `tcp` only connects. Left out, it is the group's: groups of tcp and tls "
     "check by tcp unless a path or matcher says otherwise.",

     .choices = health_protocols},
    {"path", GW_TEXT, AT(path), "Path that a check asks for; may have a query.", .initial_text = "/", .max = 1024,
     .valid = check_probe_path},
    {"port", GW_NUMBER, AT(port), "Port that is checked; 0 is the port that takes the traffic.", .max = 65535},
    {"interval", GW_DURATION, AT(interval_ms), "Time between two checks of a target.", .initial = 30000, .min = 100,
     .max = 3600000},
    {"timeout", GW_DURATION, AT(timeout_ms),
     "How long a check may take. Unless given, at most the interval; the next check waits for one that takes longer.",
     .initial = 5000, .min = 100, .max = 120000},
    {"healthy_threshold", GW_NUMBER, AT(healthy_threshold),
     "Checks in a row that an unhealthy target must pass; a new target needs one.", .initial = 5, .min = 1, .max = 10},
    {"unhealthy_threshold", GW_NUMBER, AT(unhealthy_threshold), "Checks in a row that a target must fail.",
     .initial = 2, .min = 1, .max = 10},
    {"matcher", GW_TEXT, AT(matcher),
     "Status codes that pass, or those of gRPC: codes and ranges, separated by commas. `grpc` checks take 0 unless "
     "told, "
     "and 12, which a server says that has no such method.",
     .initial_text = "200"},
    {"host", GW_TEXT, AT(host), "Host header of the checks; left out, the address of the target.",
     .valid = check_host_value},
    {0},
};
#undef AT
static const struct gw_section health_check_section = {
    .name = "health check",
    .help = "How weir finds out which targets can take traffic.",
    .size = sizeof(struct routing_health_check_conf),
    .settings = health_check_settings,
    .scalar_is = "enabled",
    .check = check_health_check,
};

static const char *const dns_types[] = {
    [ROUTING_DNS_A] = "a", [ROUTING_DNS_AAAA] = "aaaa", [ROUTING_DNS_SRV] = "srv", NULL};

#define AT(field) offsetof(struct routing_target_conf, field)
static const struct gw_setting target_settings[] = {
    {"address", GW_ADDRESS, AT(address), "host:port, [v6]:port or unix:/path; names are resolved at start.", .min = 1},
    {"file", GW_TEXT, AT(file),
     "A JSON or YAML file with a list of targets, each an address or a map of address, weight and zone; it is watched.",
     .min = 1, .max = 4000},
    {"dns", GW_TEXT, AT(dns.name),
     "A name whose addresses are targets, looked up again and again; with type srv, the name of a service.", .min = 1,
     .max = 255},
    {"port", GW_NUMBER, AT(dns.port), "With `dns`: the port of its addresses; SRV records have their own.",
     .max = 65535, .only_with = {"dns"}},
    {"type", GW_CHOICES, AT(dns.types), "With `dns`: which records are asked for; srv stands alone.",
     .initial = 1 << ROUTING_DNS_A | 1 << ROUTING_DNS_AAAA, .choices = dns_types, .only_with = {"dns"}},
    {"min_ttl", GW_DURATION, AT(dns.min_ttl_ms), "With `dns`: an answer holds at least so long, whatever its TTL.",
     .initial = 1000, .min = 10, .max = 86400000, .only_with = {"dns"}},
    {"max_ttl", GW_DURATION, AT(dns.max_ttl_ms), "With `dns`: and at most so long.", .initial = 300000, .min = 10,
     .max = 604800000, .only_with = {"dns"}},
    {"grace", GW_DURATION, AT(dns.grace_ms),
     "With `dns`: how long the targets stay when the name is gone; failures to find out never remove them.",
     .initial = 30000, .max = 604800000, .only_with = {"dns"}},
    {"required", GW_BOOL, AT(is_required),
     "With `file` and `dns`: whether a load fails when it cannot be read, or has no address.",
     .only_with = {"file", "dns"}},
    {"weight", GW_NUMBER, AT(weight), "Share of the requests, relative to the other targets; 0 takes none.",
     .initial = 1, .max = 999},
    {"zone", GW_TEXT, AT(zone), "Where the target stands; compared with the gateway's own `zone`."},
    {0},
};
#undef AT

static bool check_target(struct gw_loader *load, void *conf)
{
    const struct routing_target_conf *target = conf;
    unsigned kinds =
        (target->address.text.base != NULL) + (target->file.base != NULL) + (target->dns.name.base != NULL);

    if (kinds == 0)
        return gw_error_at(load->errors, target->at, "address is missing (a target needs it)");
    if (kinds != 1)
        return gw_error_at(load->errors, target->at, "a target is one of address, file and dns, not several");
    if (target->is_required && !routing_target_is_source(target))
        return gw_error_at(load->errors, gw_setting_at(target->at, "required"), "\"required\" needs file or dns");
    return routing_dns_check(load, conf);
}

/* What a file of targets holds, too. */
const struct gw_section routing_target_section = {
    .name = "target",
    .help = "One server of a target group, or where weir finds servers while it runs.",
    .size = sizeof(struct routing_target_conf),
    .settings = target_settings,
    .scalar_is = "address",
    .check = check_target,
};

#define AT(field) offsetof(struct routing_timeouts_conf, field)
static const struct gw_setting timeouts_settings[] = {
    {"connect", GW_DURATION, AT(connect_ms), "How long connecting to a target may take.", .initial = 1000, .min = 1,
     .max = 600000},
    {"tls_handshake", GW_DURATION, AT(tls_ms),
     "How long the TLS handshake with a target may take; 0 is as tls.handshake_timeout says.", .max = 600000},
    {"first_byte", GW_DURATION, AT(first_byte_ms), "How long a target may take to start its response.",
     .initial = 30000, .min = 1, .max = 86400000},
    {"idle", GW_DURATION, AT(idle_ms), "Longest pause between two bytes to or from a target.", .initial = 60000,
     .min = 1, .max = 86400000},
    {"total", GW_DURATION, AT(total_ms),
     "From the request's head to the end of the response, with every try and pause; 0 is unlimited.", .max = 86400000},
    {"tunnel_idle", GW_DURATION, AT(tunnel_idle_ms),
     "Longest time without a byte in either direction of a tunnel (WebSocket); pings of its ends count as bytes.",
     .initial = 60000, .min = 1, .max = 604800000},
    {0},
};
#undef AT
static const struct gw_section timeouts_section = {
    .name = "timeouts",
    .help = "How long weir waits for a target.",
    .size = sizeof(struct routing_timeouts_conf),
    .settings = timeouts_settings,
};

static const char *const reuses[] = {[ROUTING_REUSE_ALL] = "all", [ROUTING_REUSE_IDEMPOTENT] = "idempotent", NULL};
#define AT(field) offsetof(struct routing_pool_conf, field)
static const struct gw_setting pool_settings[] = {
    {"max_idle", GW_NUMBER, AT(max_idle), "Idle connections kept to each target, per thread; 0 keeps none.",
     .initial = 256, .max = 65535},
    {"idle", GW_DURATION, AT(idle_ms), "How long an idle connection is kept; keep it below the target's own limit.",
     .initial = 56000, .min = 1, .max = 86400000},
    {"max_requests", GW_NUMBER, AT(max_requests), "Requests sent over one connection; 0 is unlimited.",
     .max = 4294967295},
    {"reuse", GW_CHOICE, AT(reuse),
     "Which requests may go over a kept HTTP/1.1 connection: `idempotent` gives POST and PATCH, which cannot be sent "
     "again, a new one each, for targets that close connections whenever they like.",
     .choices = reuses},
    {0},
};
#undef AT
static const struct gw_section pool_section = {
    .name = "pool",
    .help = "Connections to targets that are kept for later requests.",
    .size = sizeof(struct routing_pool_conf),
    .settings = pool_settings,
};

#define AT(field) offsetof(struct routing_circuit_breaker_conf, field)
static const struct gw_setting circuit_breaker_settings[] = {
    {"connections", GW_NUMBER, AT(connections),
     "Connections to all its targets, idle ones too: those are closed where a request needs their place. 0 is "
     "unlimited.",
     .max = 4294967295},
    {"pending", GW_NUMBER, AT(pending),
     "Requests that wait for a connection: for one that is being made, or for a place, up to "
     "target_limits.queue_timeout. 0 sets no bound, and only target_limits.queue lets requests wait for a place.",
     .max = 1000000},
    {"requests", GW_NUMBER, AT(requests), "Requests under way; 0 is unlimited.", .max = 4294967295},
    {"retries", GW_NUMBER, AT(retries), "Requests at a further try; 0 is unlimited.", .max = 4294967295},
    {0},
};
#undef AT
static const struct gw_section circuit_breaker_section = {
    .name = "circuit breaker",
    .help = "Bounds that keep a slow group from collecting every request.",
    .size = sizeof(struct routing_circuit_breaker_conf),
    .settings = circuit_breaker_settings,
    .scalar_is = "requests",
};

static bool check_adaptive(struct gw_loader *load, void *conf)
{
    const struct routing_adaptive_conf *adaptive = conf;
    return adaptive->min <= adaptive->max ||
           gw_error_at(load->errors, gw_setting_at(adaptive->at, "max"), "\"max\" (%lu) is below \"min\" (%lu)",
                       (unsigned long)adaptive->max, (unsigned long)adaptive->min);
}

#define AT(field) offsetof(struct routing_adaptive_conf, field)
static const struct gw_setting adaptive_settings[] = {
    {"min", GW_NUMBER, AT(min), "Requests under way that are always let in.", .initial = 4, .min = 1, .max = 1000000},
    {"max", GW_NUMBER, AT(max), "Most requests under way.", .initial = 1000, .min = 1, .max = 1000000},
    {0},
};
#undef AT
static const struct gw_section adaptive_section = {
    .name = "adaptive concurrency",
    .help = "A bound on requests under way that follows the time the group takes to answer.",
    .size = sizeof(struct routing_adaptive_conf),
    .settings = adaptive_settings,
    .check = check_adaptive,
};

struct written_target {
    h2o_iovec_t text;
    size_t index;
};

static int compare_targets(const void *a_, const void *b_)
{
    const struct written_target *a = a_, *b = b_;
    size_t n = a->text.len < b->text.len ? a->text.len : b->text.len;
    int order = memcmp(a->text.base, b->text.base, n);
    if (order == 0)
        order = (a->text.len > b->text.len) - (a->text.len < b->text.len);
    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

static bool is_for_http(struct gw_loader *load, const struct gw_section *section, const struct gw_node *at,
                        const char *name, const void *conf, const char *instead)
{
    return at == NULL || gw_setting_is_default(section, name, conf) ||
           gw_error_at(load->errors, gw_setting_at(at, name), "\"%s\" is for groups that routes forward to%s", name,
                       instead);
}

static bool refuse_for_bytes(struct gw_loader *load, const struct gw_node *at, const char *name, bool is_given)
{
    return !is_given || gw_error_at(load->errors, gw_setting_at(at, name),
                                    "\"%s\" goes by requests: it is for groups that routes forward to", name);
}

/* What looks at requests, responses or cookies. */
static bool check_l4_policies(struct gw_loader *load, const struct routing_target_group_conf *group)
{
    const struct routing_stickiness_conf *sticky = group->stickiness;
    bool is_ok = refuse_for_bytes(load, group->at, "failover", group->failover != NULL);

    is_ok &= refuse_for_bytes(load, group->at, "outlier_detection",
                              group->outlier_detection != NULL && group->protocol != ROUTING_PROTOCOL_UDP);
    is_ok &= refuse_for_bytes(load, group->at, "retry", group->retry != NULL);
    if (group->circuit_breaker != NULL) { /* of its bounds, that of connections */
        const struct routing_circuit_breaker_conf *breaker = group->circuit_breaker;
        is_ok &= refuse_for_bytes(load, breaker->at, "pending", breaker->pending != 0);
        is_ok &= refuse_for_bytes(load, breaker->at, "requests", breaker->requests != 0);
        is_ok &= refuse_for_bytes(load, breaker->at, "retries", breaker->retries != 0);
    }
    is_ok &= refuse_for_bytes(load, group->at, "adaptive_concurrency", group->adaptive_concurrency != NULL);
    is_ok &= refuse_for_bytes(load, group->target_limits.at, "queue", group->target_limits.queue != 0);
    is_ok &=
        refuse_for_bytes(load, group->algorithm.at, "by",
                         group->algorithm.type == ROUTING_CONSISTENT_HASH &&
                             group->algorithm.by != ROUTING_BY_CLIENT_IP && group->algorithm.by != ROUTING_BY_FLOW);
    if (sticky != NULL)
        is_ok &= refuse_for_bytes(load, sticky->at, sticky->app_cookie != NULL ? "app_cookie" : "lb_cookie",
                                  !sticky->source_ip);
    return is_ok;
}

/* Datagrams have no connect that a check could repeat, and no byte stream that a line of text could begin. */
static bool check_udp_group(struct gw_loader *load, struct routing_target_group_conf *group)
{
    bool is_ok = true;

    if (gw_node_get(group->at, "health_check") == NULL)
        group->health_check.is_enabled = false;
    if (group->send_proxy_protocol == ROUTING_PROXY_V1)
        is_ok = gw_error_at(load->errors, gw_setting_at(group->at, "send_proxy_protocol"),
                            "version 1 of the PROXY protocol is for streams (expected v2)");
    for (size_t i = 0; i != group->targets.size; ++i) {
        const struct routing_target_conf *target = group->targets.entries[i];
        if (target->address.is_unix)
            is_ok = gw_error_at(load->errors, target->at, "a target of protocol udp needs an IP address and a port");
    }
    return is_ok;
}

/* Groups that listeners forward to: no requests, no responses, and by default no path to check. */
static bool check_l4_group(struct gw_loader *load, struct routing_target_group_conf *group)
{
    static const char *const of_pool[] = {"max_idle", "idle", "max_requests", "reuse"};
    const struct routing_timeouts_conf *timeouts = &group->timeouts;
    const struct gw_node *check = group->health_check.at;
    bool is_ok = check_l4_policies(load, group);

    if (group->protocol == ROUTING_PROTOCOL_UDP)
        is_ok &= check_udp_group(load, group);
    for (size_t i = 0; i != sizeof(of_pool) / sizeof(of_pool[0]); ++i)
        is_ok &= is_for_http(load, &pool_section, group->pool.at, of_pool[i], &group->pool, "");
    is_ok &= is_for_http(load, &timeouts_section, timeouts->at, "first_byte", timeouts, "");
    is_ok &= is_for_http(load, &timeouts_section, timeouts->at, "idle", timeouts, " (a listener has idle_timeout)");
    if (gw_node_get(check, "protocol") == NULL && gw_node_get(check, "path") == NULL &&
        gw_node_get(check, "matcher") == NULL)
        group->health_check.protocol = ROUTING_HEALTH_CHECK_TCP;
    return is_ok;
}

static const char *const protocols[] = {
    [ROUTING_PROTOCOL_HTTP] = "http", [ROUTING_PROTOCOL_TCP] = "tcp",     [ROUTING_PROTOCOL_TLS] = "tls",
    [ROUTING_PROTOCOL_UDP] = "udp",   [ROUTING_PROTOCOL_HTTPS] = "https", [ROUTING_PROTOCOL_H2C] = "h2c",
    [ROUTING_PROTOCOL_H2] = "h2",     [ROUTING_PROTOCOL_GRPC] = "grpc",   NULL};

/* Checks of the group's own protocol, on its connections' terms. */
static int check_protocol_of(int protocol)
{
    switch (protocol) {
    case ROUTING_PROTOCOL_HTTPS:
    case ROUTING_PROTOCOL_TLS:
        return ROUTING_HEALTH_CHECK_HTTPS;
    case ROUTING_PROTOCOL_H2C:
        return ROUTING_HEALTH_CHECK_H2C;
    case ROUTING_PROTOCOL_H2:
        return ROUTING_HEALTH_CHECK_H2;
    case ROUTING_PROTOCOL_GRPC:
        return ROUTING_HEALTH_CHECK_GRPC;
    default:
        return ROUTING_HEALTH_CHECK_HTTP;
    }
}

/* What stands for the defaults in checks by gRPC: its own method, its own codes. */
static bool check_grpc_check(struct gw_loader *load, struct routing_health_check_conf *check)
{
    struct routing_matcher matcher;
    bool is_grpc = check->protocol == ROUTING_HEALTH_CHECK_GRPC;
    if (is_grpc && gw_node_get(check->at, "path") == NULL)
        check->path = h2o_iovec_init(H2O_STRLIT("/grpc.health.v1.Health/Check"));
    if (gw_node_get(check->at, "matcher") == NULL) {
        if (is_grpc)
            check->matcher = h2o_iovec_init(H2O_STRLIT("0,12")); /* spec/alb.md 4: any live server passes */
        return true;
    }
    return routing_matcher_parse(check->matcher, is_grpc ? 0 : 200, is_grpc ? 99 : 599, &matcher) ||
           gw_error_at(load->errors, gw_setting_at(check->at, "matcher"),
                       is_grpc ? "\"%s\" is not a list of gRPC codes (expected 0 to 99, like \"0,12\")"
                               : "\"%s\" is not a list of status codes (expected 200 to 599, like \"200-299,301\")",
                       check->matcher.len == 0 ? "" : check->matcher.base);
}

static bool check_protocols(struct gw_loader *load, struct routing_target_group_conf *group)
{
    struct routing_health_check_conf *check = &group->health_check;
    int protocol = group->protocol,
        own = group->lambda != NULL ? ROUTING_HEALTH_CHECK_LAMBDA : check_protocol_of(protocol);
    bool is_ok = true;
    if (group->tls != NULL && !routing_protocol_has_tls(protocol) && protocol != ROUTING_PROTOCOL_GRPC)
        is_ok = gw_error_at(load->errors, gw_setting_at(group->at, "tls"),
                            "tls has no use with protocol %s (expected protocol: https, h2, grpc or tls)",
                            protocols[protocol]);
    if (routing_protocol_is_http2(protocol) && group->send_proxy_protocol != ROUTING_PROXY_OFF)
        is_ok = gw_error_at(load->errors, gw_setting_at(group->at, "send_proxy_protocol"),
                            "\"send_proxy_protocol\" needs connections of one client each, which those of %s are not "
                            "(expected protocol: http or https)",
                            protocols[protocol]);
    if (!routing_protocol_is_l4(protocol) && gw_node_get(check->at, "protocol") == NULL)
        check->protocol = own;
    if (check->protocol != own && check->protocol != ROUTING_HEALTH_CHECK_HTTP &&
        check->protocol != ROUTING_HEALTH_CHECK_TCP)
        return gw_error_at(load->errors, gw_setting_at(check->at, "protocol"),
                           check->protocol == ROUTING_HEALTH_CHECK_LAMBDA
                               ? "%s checks need a target group with %s (expected tcp, http or the group's protocol)"
                               : "%s checks need a target group of protocol %s (expected tcp, http or the group's "
                                 "protocol)",
                           health_protocols[check->protocol], health_protocols[check->protocol]);
    return check_grpc_check(load, check) && is_ok;
}

static bool check_sources(struct gw_loader *load, struct routing_target_group_conf *group)
{
    group->is_dynamic = group->dynamic;
    for (size_t i = 0; i != group->targets.size; ++i)
        group->is_dynamic |= routing_target_is_source(group->targets.entries[i]) && !group->targets.is_bad[i];
    if (group->is_dynamic && group->lambda != NULL)
        return gw_error_at(load->errors, group->lambda->at,
                           "the targets of a function are its Invoke endpoints: they "
                           "do not change (expected no dynamic, no file)");
    return true;
}

/* A target written twice would get twice the traffic and be checked twice; a weight says that better. */
static bool check_target_group(struct gw_loader *load, void *conf)
{
    struct routing_target_group_conf *group = conf;
    bool is_ok = routing_protocol_is_l4(group->protocol) ? check_l4_group(load, group) : true;
    is_ok &= check_protocols(load, group);
    is_ok &= routing_balance_check(load, group);
    if (group->algorithm.by == ROUTING_BY_FLOW && !routing_protocol_is_l4(group->protocol))
        is_ok = gw_error_at(load->errors, gw_setting_at(group->algorithm.at, "by"),
                            "\"by: flow\" is for groups that listeners forward to");
    is_ok &= routing_lambda_check(load, group);

    is_ok &= check_sources(load, group);
    if (group->targets.size == 0 && !group->is_dynamic)
        gw_warn_at(load->errors, gw_setting_at(group->at, "targets"),
                   "the target group has no targets: each request to it will be answered 503");
    struct written_target *sorted = h2o_mem_alloc_pool(load->pool, (group->targets.size + 1) * sizeof(*sorted));
    size_t size = 0;
    for (size_t i = 0; i != group->targets.size; ++i) {
        const struct routing_target_conf *target = group->targets.entries[i];
        if (!routing_target_is_source(target))
            sorted[size++] = (struct written_target){target->address.text, i};
        else if (target->dns.name.base != NULL)
            sorted[size++] = (struct written_target){routing_dns_text(load->pool, target), i};
    }
    qsort(sorted, size, sizeof(*sorted), compare_targets);
    for (size_t i = 1; i < size; ++i) {
        const struct routing_target_conf *target = group->targets.entries[sorted[i].index];
        if (h2o_memis(sorted[i].text.base, sorted[i].text.len, sorted[i - 1].text.base, sorted[i - 1].text.len))
            is_ok = gw_error_at(load->errors, target->at, "target \"%s\" is listed twice (give it a weight instead)",
                                sorted[i].text.base);
    }
    return is_ok;
}

static const char *const proxy_versions[] = {
    [ROUTING_PROXY_OFF] = "off", [ROUTING_PROXY_V1] = "v1", [ROUTING_PROXY_V2] = "v2", NULL};
#define AT(field) offsetof(struct routing_target_group_conf, field)
static const struct gw_setting target_group_settings[] = {
    {"protocol", GW_CHOICE, AT(protocol), "What the targets speak.", .choices = protocols},
    {"send_proxy_protocol", GW_CHOICE, AT(send_proxy_protocol),
     "Whether each connection to a target begins with a PROXY protocol header that names the client.",
     .choices = proxy_versions},
    {"tls", GW_OPTION, AT(tls), "TLS towards the targets: for https and h2, and for grpc, which is plain without it.",
     .section = &routing_tls_section},
    {"targets", GW_LIST, AT(targets), "The servers; an address alone is a target of weight 1.",
     .section = &routing_target_section, .is_required = true},
    {"dynamic", GW_BOOL, AT(dynamic),
     "Whether the admin API may add and remove targets; so it may where a target is a file or a name to look up."},
    {"deregistration_delay", GW_DURATION, AT(deregistration_delay_ms),
     "How long the requests of a target that is gone may go on before they are cut off.", .initial = 300000,
     .max = 3600000},
    {"algorithm", GW_SECTION, AT(algorithm), "How the target of a request is chosen.",
     .section = &routing_algorithm_section},
    {"slow_start", GW_DURATION, AT(slow_start_ms),
     "Over which time the share of a target that became healthy grows to its own; 0 is at once.", .max = 900000},
    {"zones", GW_SECTION, AT(zones), "Whether targets in the gateway's own zone come first.",
     .section = &routing_zones_section},
    {"minimum_healthy", GW_SECTION, AT(minimum_healthy),
     "Fewer healthy targets than this, and all take part, healthy or not.", .section = &routing_minimum_section},
    {"failover", GW_OPTION, AT(failover), "Another target group for when too few targets are healthy.",
     .section = &routing_failover_section},
    {"stickiness", GW_OPTION, AT(stickiness), "Keeps a client with the target it had first.",
     .section = &routing_stickiness_section},
    {"target_limits", GW_SECTION, AT(target_limits), "How much one target is given at a time.",
     .section = &routing_target_limits_section},
    {"outlier_detection", GW_OPTION, AT(outlier_detection),
     "Takes targets out for a while whose answers are failures, whatever their checks say.",
     .section = &routing_outlier_section},
    {"health_check", GW_SECTION, AT(health_check), "How targets are checked.", .section = &health_check_section},
    {"timeouts", GW_SECTION, AT(timeouts), "How long weir waits for a target.", .section = &timeouts_section},
    {"retry", GW_OPTION, AT(retry),
     "When a request is sent again; left out, a target that cannot be connected to is passed over, twice at most.",
     .section = &routing_retry_section},
    {"circuit_breaker", GW_OPTION, AT(circuit_breaker),
     "How much the group may have under way, over all threads; what is above is answered 503 at once.",
     .section = &circuit_breaker_section},
    {"adaptive_concurrency", GW_OPTION, AT(adaptive_concurrency),
     "Finds out how many requests the group can have under way without getting slow, and answers 503 to the rest.",
     .section = &adaptive_section},
    {"lambda", GW_OPTION, AT(lambda),
     "The targets are Invoke endpoints of a Lambda function, which gets requests as events of an ALB.",
     .section = &routing_lambda_section},
    {"pool", GW_SECTION, AT(pool), "Connections kept for later requests.", .section = &pool_section},
    {0},
};
#undef AT
const struct gw_section routing_target_group_section = {
    .name = "target group",
    .help = "Servers that share the requests of the routes that forward to them.",
    .size = sizeof(struct routing_target_group_conf),
    .settings = target_group_settings,
    .check = check_target_group,
};
