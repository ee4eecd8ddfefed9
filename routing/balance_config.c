/* The settings of target groups that say which target gets a request, and when it gets none. */
#include <string.h>
#include <strings.h>
#include "routing/config.h"
#include "routing/header_rules.h"

/* ---- algorithm ---- */

static bool check_key_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    if (!routing_is_token(name))
        return gw_error_at(load->errors, at, "\"%s\" is not the name of a header or cookie",
                           name.len == 0 ? "" : name.base);
    return true;
}

static bool is_given(const struct gw_node *section, const char *name)
{
    return section != NULL && section->kind == GW_NODE_MAP && gw_setting_at(section, name) != section;
}

enum { ANOMALY_THRESHOLD = 10, DECAY_MS = 10000 };

/* A setting that the chosen algorithm does not look at is a mistake, not a wish; but --print shows defaults. */
static bool check_algorithm(struct gw_loader *load, void *conf_)
{
    const struct routing_algorithm_conf *conf = conf_;
    const struct {
        const char *setting, *algorithm;
        int type;
        bool is_default;
    } only_for[] = {
        {"by", "consistent_hash", ROUTING_CONSISTENT_HASH, conf->by == ROUTING_BY_CLIENT_IP},
        {"name", "consistent_hash", ROUTING_CONSISTENT_HASH, conf->name.base == NULL},
        {"decay", "peak_ewma", ROUTING_PEAK_EWMA, conf->decay_ms == DECAY_MS},
        {"anomaly_mitigation", "weighted_random", ROUTING_WEIGHTED_RANDOM, !conf->anomaly_mitigation},
        {"anomaly_threshold", "weighted_random", ROUTING_WEIGHTED_RANDOM, conf->anomaly_threshold == ANOMALY_THRESHOLD},
    };
    bool is_ok = true;

    for (size_t i = 0; i != sizeof(only_for) / sizeof(only_for[0]); ++i)
        if (conf->type != only_for[i].type && !only_for[i].is_default)
            is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, only_for[i].setting),
                                "\"%s\" is a setting of the algorithm %s", only_for[i].setting, only_for[i].algorithm);
    if (conf->type != ROUTING_CONSISTENT_HASH)
        return is_ok;
    bool needs_name = conf->by == ROUTING_BY_HEADER || conf->by == ROUTING_BY_COOKIE;
    if (needs_name && conf->name.base == NULL)
        is_ok = gw_error_at(load->errors, conf->at, "consistent_hash by %s needs its \"name\"",
                            conf->by == ROUTING_BY_HEADER ? "header" : "cookie");
    if (!needs_name && conf->name.base != NULL)
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "name"),
                            "\"name\" is for consistent_hash by header or cookie");
    return is_ok;
}

static const char *const algorithms[] = {"round_robin",
                                         "least_outstanding_requests",
                                         "random_two_choices",
                                         "weighted_random",
                                         "peak_ewma",
                                         "consistent_hash",
                                         NULL};
static const char *const hash_by[] = {"client_ip", "header", "cookie", "path", "flow", NULL};
#define AT(field) offsetof(struct routing_algorithm_conf, field)
static const struct gw_setting algorithm_settings[] = {
    {"type", GW_CHOICE, AT(type), "Which algorithm; weights count in all of them.", .choices = algorithms},
    {"by", GW_CHOICE, AT(by),
     "What consistent_hash keeps together; requests without it are spread at random. `flow` is the client's address "
     "and port, for groups that listeners forward to.",
     .choices = hash_by},
    {"name", GW_TEXT, AT(name), "The header or cookie that consistent_hash goes by.", .valid = check_key_name},
    {"decay", GW_DURATION, AT(decay_ms), "Over which time peak_ewma forgets a slow response.", .initial = DECAY_MS,
     .min = 100, .max = 600000},
    {"anomaly_mitigation", GW_BOOL, AT(anomaly_mitigation),
     "Gives a target that fails more often than the others fewer requests, until it does better."},
    {"anomaly_threshold", GW_PERCENT, AT(anomaly_threshold),
     "How many more of its requests must fail than of the others', in percentage points.", .initial = ANOMALY_THRESHOLD,
     .min = 1},
    {0},
};
#undef AT
const struct gw_section routing_algorithm_section = {
    .name = "algorithm",
    .help = "How the target of a request is chosen.",
    .size = sizeof(struct routing_algorithm_conf),
    .settings = algorithm_settings,
    .scalar_is = "type",
    .check = check_algorithm,
};

/* ---- zones, enough targets, failover ---- */

static const char *const zone_modes[] = {"any", "prefer", "only", NULL};
#define AT(field) offsetof(struct routing_zones_conf, field)
static const struct gw_setting zones_settings[] = {
    {"mode", GW_CHOICE, AT(mode),
     "`any` ignores zones; `prefer` takes targets of the gateway's own zone as long as there are enough; `only` takes "
     "no others.",
     .choices = zone_modes},
    {"spill_below", GW_PERCENT, AT(spill_below),
     "When fewer of the own zone's targets are healthy, part of the requests goes to other zones.", .initial = 70,
     .min = 1},
    {0},
};
#undef AT
const struct gw_section routing_zones_section = {
    .name = "zones",
    .help = "Whether targets in the gateway's own zone come first.",
    .size = sizeof(struct routing_zones_conf),
    .settings = zones_settings,
    .scalar_is = "mode",
};

#define AT(field) offsetof(struct routing_minimum_conf, field)
static const struct gw_setting minimum_settings[] = {
    {"targets", GW_NUMBER, AT(targets), "How many targets must be healthy.", .initial = 1, .min = 1, .max = 65535},
    {"percent", GW_PERCENT, AT(percent), "Share of the registered targets that must be healthy; 0% does not matter."},
    {0},
};
#undef AT
const struct gw_section routing_minimum_section = {
    .name = "minimum of healthy targets",
    .help = "Fewer healthy targets, by either measure, are too few.",
    .size = sizeof(struct routing_minimum_conf),
    .settings = minimum_settings,
    .scalar_is = "targets",
};

#define AT(field) offsetof(struct routing_failover_conf, field)
static const struct gw_setting failover_settings[] = {
    {"to", GW_TEXT, AT(to), "Name of the target group that takes over.", .is_required = true},
    {"minimum_healthy", GW_SECTION, AT(minimum_healthy), "Fewer healthy targets than this, and it does.",
     .section = &routing_minimum_section},
    {0},
};
#undef AT
const struct gw_section routing_failover_section = {
    .name = "failover",
    .help = "Another target group that takes the requests while too few targets are healthy.",
    .size = sizeof(struct routing_failover_conf),
    .settings = failover_settings,
    .scalar_is = "to",
};

/* ---- stickiness ---- */

static bool check_app_cookie_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    if (!routing_is_token(name))
        return gw_error_at(load->errors, at, "\"%s\" is not the name of a cookie", name.len == 0 ? "" : name.base);
    if (name.len >= 6 && memcmp(name.base, "AWSALB", 6) == 0) /* spec/alb.md 3.1 */
        return gw_error_at(load->errors, at, "names that start with AWSALB are weir's own cookies");
    return true;
}

#define AT(field) offsetof(struct routing_app_cookie_conf, field)
static const struct gw_setting app_cookie_settings[] = {
    {"name", GW_TEXT, AT(name), "Cookie of the application that makes a session.", .is_required = true,
     .valid = check_app_cookie_name},
    {"duration", GW_DURATION, AT(duration_ms), "How long a client without requests stays with its target.",
     .initial = 86400000, .min = 1000, .max = 604800000},
    {0},
};
#undef AT
static const struct gw_section app_cookie_section = {
    .name = "application cookie",
    .help = "Keeps sessions of the application with their target.",
    .size = sizeof(struct routing_app_cookie_conf),
    .settings = app_cookie_settings,
    .scalar_is = "name",
};

static bool check_stickiness(struct gw_loader *load, void *conf_)
{
    const struct routing_stickiness_conf *conf = conf_;
    int kinds = (conf->lb_cookie_ms != 0) + (conf->app_cookie != NULL) + conf->source_ip;
    if (kinds != 1)
        return gw_error_at(load->errors, conf->at,
                           "\"stickiness\" has %s (expected exactly one of lb_cookie, app_cookie, source_ip)",
                           kinds == 0 ? "no kind" : "several kinds");
    return true;
}

#define AT(field) offsetof(struct routing_stickiness_conf, field)
static const struct gw_setting stickiness_settings[] = {
    {"lb_cookie", GW_DURATION, AT(lb_cookie_ms),
     "By a cookie of weir's own, AWSALB: how long a client without requests stays with its target.", .max = 604800000},
    {"app_cookie", GW_OPTION, AT(app_cookie), "As soon as a target sets this cookie of the application.",
     .section = &app_cookie_section},
    {"source_ip", GW_BOOL, AT(source_ip), "By the client's address, without cookies."},
    {0},
};
#undef AT
const struct gw_section routing_stickiness_section = {
    .name = "stickiness",
    .help = "Keeps a client with the target it had first, as long as that one is healthy.",
    .size = sizeof(struct routing_stickiness_conf),
    .settings = stickiness_settings,
    .check = check_stickiness,
};

/* ---- limits ---- */

#define AT(field) offsetof(struct routing_target_limits_conf, field)
static const struct gw_setting target_limits_settings[] = {
    {"requests", GW_NUMBER, AT(requests), "Requests under way at one target, of all threads; 0 is unlimited.",
     .max = 1000000},
    {"connections", GW_NUMBER, AT(connections),
     "Connections to one target, of all threads, idle ones too: those are closed where a request needs their place. 0 "
     "is unlimited.",
     .max = 1000000},
    {"queue", GW_NUMBER, AT(queue), "Requests of the group that may wait for a target; the others are answered 503.",
     .max = 1000000},
    {"queue_timeout", GW_DURATION, AT(queue_timeout_ms), "How long one may wait.", .initial = 1000, .min = 1,
     .max = 3600000},
    {0},
};
#undef AT
const struct gw_section routing_target_limits_section = {
    .name = "target limits",
    .help = "How much one target is given at a time, and how many requests wait.",
    .size = sizeof(struct routing_target_limits_conf),
    .settings = target_limits_settings,
    .scalar_is = "requests",
};

/* ---- outliers ---- */

static bool check_outlier(struct gw_loader *load, void *conf_)
{
    struct routing_outlier_conf *conf = conf_;
    if (conf->max_ejection_time_ms >= conf->ejection_time_ms)
        return true;
    if (is_given(conf->at, "max_ejection_time"))
        return gw_error_at(load->errors, gw_setting_at(conf->at, "max_ejection_time"),
                           "\"max_ejection_time\" must not be shorter than \"ejection_time\" (%llums)",
                           (unsigned long long)conf->ejection_time_ms);
    conf->max_ejection_time_ms = conf->ejection_time_ms;
    return true;
}

#define AT(field) offsetof(struct routing_outlier_conf, field)
static const struct gw_setting outlier_settings[] = {
    {"enabled", GW_BOOL, AT(is_enabled), "Whether outliers are looked for.", .initial = 1},
    {"consecutive_5xx", GW_NUMBER, AT(consecutive_5xx),
     "So many responses 5xx or failed attempts in a row eject a target; 0 is off.", .initial = 5, .max = 1000000},
    {"consecutive_gateway_errors", GW_NUMBER, AT(consecutive_gateway_errors),
     "So many responses 502, 503, 504 or failed attempts in a row do; 0 is off.", .initial = 5, .max = 1000000},
    {"success_rate_deviation", GW_PERCENT, AT(success_rate_deviation),
     "How far, in percentage points, a target's share of good responses may be below that of the others; 0% is off.",
     .initial = 30},
    {"latency_factor", GW_NUMBER, AT(latency_factor),
     "How many times slower than the others a target may be until its responses begin, on average; 0 is off.",
     .max = 1000},
    {"minimum_requests", GW_NUMBER, AT(minimum_requests),
     "Responses of a target in one interval that its rate and latency are judged by.", .initial = 50, .min = 1,
     .max = 1000000},
    {"minimum_targets", GW_NUMBER, AT(minimum_targets),
     "Targets with so many responses that there must be to compare rates and latencies.", .initial = 3, .min = 2,
     .max = 65535},
    {"interval", GW_DURATION, AT(interval_ms), "How often rates and latencies are compared.", .initial = 10000,
     .min = 100, .max = 3600000},
    {"ejection_time", GW_DURATION, AT(ejection_time_ms),
     "How long a target is out the first time; each time again it is as much longer.", .initial = 30000, .min = 100,
     .max = 86400000},
    {"max_ejection_time", GW_DURATION, AT(max_ejection_time_ms), "The longest that becomes.", .initial = 300000,
     .min = 100, .max = 86400000},
    {"max_ejected", GW_PERCENT, AT(max_ejected),
     "Largest share of the targets that may be out; one always may, of two or more.", .initial = 50},
    {0},
};
#undef AT
const struct gw_section routing_outlier_section = {
    .name = "outlier detection",
    .help = "Takes targets out for a while whose answers are failures, whatever their checks say.",
    .size = sizeof(struct routing_outlier_conf),
    .settings = outlier_settings,
    .scalar_is = "enabled",
    .check = check_outlier,
};

/* ---- what joins them ---- */

/* spec/alb.md 3.6: failing over comes before failing open, or it would find all targets in use. */
static void warn_of_late_failover(struct gw_loader *load, const struct routing_target_group_conf *conf)
{
    const struct routing_minimum_conf *open = &conf->minimum_healthy, *over = &conf->failover->minimum_healthy;
    bool is_late = over->targets < open->targets || over->percent < open->percent;

    if (is_late)
        gw_warn_at(
            load->errors, gw_setting_at(conf->failover->at, "minimum_healthy"),
            "failover.minimum_healthy is below the group's: its unhealthy targets will be asked before \"%.*s\" is",
            (int)conf->failover->to.len, conf->failover->to.base);
}

bool routing_balance_check(struct gw_loader *load, struct routing_target_group_conf *conf)
{
    int type = conf->algorithm.type;
    bool is_ok = true;

    if (conf->failover != NULL)
        warn_of_late_failover(load, conf);
    if (conf->slow_start_ms != 0 && type == ROUTING_CONSISTENT_HASH)
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "slow_start"),
                            "\"slow_start\" would move keys all the time: consistent_hash has none");
    if (conf->slow_start_ms != 0 && conf->slow_start_ms < 1000)
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "slow_start"),
                            "\"slow_start\" is below 1s (expected 0, or 1s to 15m)");
    if (conf->stickiness != NULL && conf->stickiness->source_ip && type != ROUTING_ROUND_ROBIN)
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->stickiness->at, "source_ip"),
                            "\"source_ip\" chooses targets itself (remove \"algorithm\", or say consistent_hash)");
    if (conf->target_limits.queue != 0 && conf->target_limits.requests == 0 && conf->target_limits.connections == 0 &&
        (conf->circuit_breaker == NULL || conf->circuit_breaker->connections == 0))
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->target_limits.at, "queue"),
                            "\"queue\" has nothing to wait for without \"requests\" or \"connections\"");
    return is_ok;
}

uint32_t routing_max_requests(const struct routing_target_group_conf *conf)
{
    uint64_t requests = conf->target_limits.requests, connections = conf->target_limits.connections;

    if (connections != 0 && !routing_protocol_is_http2(conf->protocol) && (requests == 0 || connections < requests))
        requests = connections;
    return (uint32_t)requests;
}

uint64_t routing_max_queue(const struct routing_target_group_conf *conf)
{
    if (conf->target_limits.queue != 0 || conf->circuit_breaker == NULL)
        return conf->target_limits.queue;
    return conf->circuit_breaker->pending;
}
