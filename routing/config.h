/* Routes and target groups as written in the configuration: the plain structs that the settings tables fill.
 * routing/table.h and routing/target_group.h compile them. Read-only after the load. */
#pragma once
#include "gateway/base/regex.h"
#include "gateway/base/settings.h"
#include "gateway/base/ip.h"

struct routing_pair_conf { /* header: / query: conditions: name -> list of globs */
    h2o_iovec_t name;
    struct gw_texts values;
    const struct gw_node *at;
};
struct routing_pairs_conf {
    struct routing_pair_conf *entries;
    size_t size;
};

struct routing_match_conf {
    const struct gw_node *at;
    struct gw_texts listener;    /* listener names */
    struct gw_texts host;        /* globs, case-insensitive */
    struct gw_texts host_regex;  /* searched in the host, case-insensitive; one of host and these must match */
    struct gw_texts path;        /* ALB globs */
    struct gw_texts path_prefix; /* whole segments or ending in '/': "/a" takes /a and /a/b, not /ab */
    struct gw_texts path_exact;
    struct gw_texts path_regex;
    struct gw_texts method;
    struct routing_pairs_conf header;       /* name: glob(s), case-insensitive values as on an ALB */
    struct routing_pairs_conf header_regex; /* name: expression(s), case-insensitive, as `header` otherwise */
    struct routing_pairs_conf query;        /* key: glob(s); "*" as key = any key's value */
    struct gw_cidrs source_ip;
};

enum routing_action { ROUTING_FORWARD, ROUTING_REDIRECT, ROUTING_RESPOND, ROUTING_FILES, ROUTING_ECHO };

struct routing_weighted_group_conf {
    const struct gw_node *at;
    h2o_iovec_t group;
    uint64_t weight; /* 0..999 */
};
/* Failures and statuses of a target after which somebody else is asked: `on` of retry and of a fallback. */
enum routing_failure {
    ROUTING_FAILURE_CONNECT = 1 << 0,      /* refused, unreachable, not in time: nothing was sent */
    ROUTING_FAILURE_RESET = 1 << 1,        /* closed before a response began */
    ROUTING_FAILURE_TIMEOUT = 1 << 2,      /* no response in time */
    ROUTING_FAILURE_BAD_RESPONSE = 1 << 3, /* malformed */
    /* of functions */
    ROUTING_FAILURE_THROTTLED = 1 << 4, /* not invoked: too many run already */
    ROUTING_FAILURE_SERVICE = 1 << 5,   /* the Invoke endpoint's own 5xx */
    ROUTING_FAILURE_FUNCTION = 1 << 6,  /* it ran and failed */
};
struct routing_when {
    uint32_t failures;    /* bits: enum routing_failure */
    uint8_t statuses[25]; /* a bit for each of 400..599 */
};
static inline bool routing_when_status(const struct routing_when *when, int status)
{
    unsigned i = (unsigned)status - 400;
    return i < 200 && (when->statuses[i / 8] >> (i % 8) & 1) != 0;
}
/* Asking another target, or the same again. */
struct routing_retry_conf {
    const struct gw_node *at;
    uint64_t attempts;                   /* further ones, 0..10; default 2 */
    struct gw_texts on;                  /* as written; default connect_failure and reset */
    struct routing_when when;            /* of it */
    double budget;                       /* percent of the requests that may be sent again; default 20 */
    uint64_t per_try_ms;                 /* until a response begins; 0 = only the timeouts of the group */
    uint64_t backoff_ms, max_backoff_ms; /* before the second try, doubled with each; 25 ms, 250 ms */
    uint64_t buffer;                     /* bytes of a request body kept to be sent again; default 64 KiB */
    bool non_idempotent;                 /* POST and PATCH too; default false */
};
/* A second target is asked while the first one is silent; the first answer counts. */
struct routing_hedge_conf {
    const struct gw_node *at;
    uint64_t after_ms;
};
struct routing_forward_conf {
    const struct gw_node *at;
    struct gw_list groups;    /* of routing_weighted_group_conf; a scalar is one group */
    h2o_iovec_t group;        /* `forward: {group: x}` as written; the section's check moves it into groups */
    h2o_iovec_t primary;      /* the same, beside a fallback */
    h2o_iovec_t fallback;     /* asked when the primary fails as `on` says (spec/cloudfront.md 1.5); base NULL = none */
    struct gw_texts on;       /* as written: routing_forward_on */
    struct routing_when when; /* of it; 503 stands for connect_failure too, 504 for timeout */
    uint64_t stickiness_ms;   /* how long a client stays with the group drawn for it; 0: it does not */
};
/* The answers of the primary after which the fallback is asked: what is written, or 500, 502, 503, 504. */
const struct gw_texts *routing_forward_on(const struct routing_forward_conf *);
struct routing_redirect_conf {
    const struct gw_node *at;
    h2o_iovec_t scheme, host, path, query; /* ALB placeholders; base NULL = unchanged */
    h2o_iovec_t port;                      /* number or "#{port}"; base NULL = unchanged */
    uint64_t status;                       /* 301 302 303 307 308 */
};
struct routing_respond_conf {
    const struct gw_node *at;
    uint64_t status; /* 200..599 */
    h2o_iovec_t body;
    h2o_iovec_t content_type; /* default text/plain; charset=utf-8 */
};
struct routing_files_conf {
    const struct gw_node *at;
    h2o_iovec_t root;
    struct gw_texts index;    /* default index.html */
    uint32_t precompressed;   /* bit 0 gzip, bit 1 br: NAME.gz, NAME.br beside NAME stand for it */
    h2o_iovec_t strip_prefix; /* removed from the canonical path before the lookup; base NULL = nothing */
};
struct routing_header_rules_conf {
    const struct gw_node *at;
    struct gw_pairs set, add;
    struct gw_texts remove;
};
struct routing_rewrite_conf {
    const struct gw_node *at;
    h2o_iovec_t path; /* regex on the canonical path (spec/alb.md 2.7) */
    h2o_iovec_t url;  /* instead of it: on the path with its query */
    h2o_iovec_t to;   /* $1..$9, $0; may hold a query after '?' */
    h2o_iovec_t host; /* replaces the Host sent to the target; base NULL = preserve */
    /* Where it matches, the host is made of `host` with $1..$9; base NULL = always. */
    h2o_iovec_t host_regex;
};
/* A body for errors that weir answers itself, by status. */
struct routing_error_page_conf {
    const struct gw_node *at;
    h2o_iovec_t file, body;   /* exactly one; file relative to the working directory */
    h2o_iovec_t content_type; /* base NULL: by the file's name, text/html for body */
};
/* Faults made on purpose. */
struct routing_fault_delay_conf {
    const struct gw_node *at;
    uint64_t duration_ms;
    double percent; /* default 100 */
};
struct routing_fault_abort_conf {
    const struct gw_node *at;
    uint64_t status; /* 400..599, default 503 */
    double percent;  /* default 100 */
};
enum routing_fault_by_header { ROUTING_FAULT_BY_NOBODY, ROUTING_FAULT_BY_TRUSTED, ROUTING_FAULT_BY_EVERYBODY };
struct routing_fault_conf {
    const struct gw_node *at;
    struct routing_fault_delay_conf *delay; /* NULL = none */
    struct routing_fault_abort_conf *abort; /* NULL = none */
    int by_header;                          /* enum routing_fault_by_header */
    uint64_t max_delay_ms;                  /* that a header may ask for */
};
/* Copies of requests for another group. */
struct routing_mirror_conf {
    const struct gw_node *at;
    h2o_iovec_t group;
    double percent;          /* default 100 */
    uint64_t max_body;       /* bytes; larger requests are not copied */
    uint64_t max_requests;   /* under way, on all threads */
    h2o_iovec_t host_suffix; /* base NULL = none */
};
/* Which responses are compressed. Of a route, and (with memory) of all that have none of their own. */
struct routing_compression_conf {
    const struct gw_node *at;
    bool is_enabled;                   /* default true: writing the section turns it on */
    uint32_t algorithms;               /* bit 0 gzip, bit 1 br */
    struct gw_texts types;             /* globs of media types; never empty */
    uint64_t min_size, max_size;       /* bytes, inclusive; max 0 = unlimited */
    uint64_t brotli_level, gzip_level; /* 0..9, 1..9 */
    uint64_t memory;                   /* bytes of all encoders; top level only */
};
enum { ROUTING_COMPRESSION_MEMORY = 128 << 20 };
/* Which requests of a route are in the access log. */
struct routing_access_log_conf {
    const struct gw_node *at;
    bool is_enabled; /* default true */
    double sample;   /* percent, default 100 */
};
/* Times of one route that stand above those of its target groups. */
struct routing_route_timeouts_conf {
    const struct gw_node *at;
    uint64_t connect_ms, tls_ms, first_byte_ms, idle_ms, total_ms, tunnel_idle_ms; /* 0 = the target group's */
};
struct routing_route_conf {
    const struct gw_node *at;
    /* Default: "route-N" with N from 1 by position in the file; gateway/config/config.c fills it in. */
    h2o_iovec_t name;
    uint64_t priority; /* 1 and up, lower first; 0 = not given (keeps file order, after those that have one) */
    struct routing_match_conf match;
    struct routing_header_rules_conf request_headers, response_headers;
    struct routing_rewrite_conf *rewrite;         /* NULL = none */
    uint64_t max_body;                            /* bytes; 0 = unlimited */
    struct gw_texts upgrade;                      /* protocols; see routing/upgrade.h */
    struct routing_fault_conf *fault;             /* NULL = none */
    struct routing_mirror_conf *mirror;           /* NULL = none */
    struct routing_compression_conf *compression; /* NULL: as the top-level setting says */
    struct routing_access_log_conf *access_log;   /* NULL: as the top-level setting says */
    struct gw_map error_pages;        /* "404" or "5xx" -> routing_error_page_conf; gateway's come after these */
    struct routing_retry_conf *retry; /* NULL: the target group's */
    int criticality;                  /* enum routing_criticality */
    struct routing_hedge_conf *hedge; /* NULL: none */
    struct routing_route_timeouts_conf *timeouts; /* NULL: the target group's */
    struct routing_forward_conf *forward;         /* exactly one of these five is not NULL */
    struct routing_redirect_conf *redirect;
    struct routing_respond_conf *respond;
    struct routing_files_conf *files;
    bool echo;
};

/* What becomes of a route's requests when the gateway itself has too much to do (gateway/overload.h). */
enum routing_criticality { ROUTING_NORMAL, ROUTING_SHEDDABLE, ROUTING_CRITICAL };

/* Which of the five the route has. */
enum routing_action routing_route_action(const struct routing_route_conf *);

/* What checks of targets speak; order of the setting's choices. */
enum routing_check_protocol {
    ROUTING_HEALTH_CHECK_HTTP,
    ROUTING_HEALTH_CHECK_TCP,
    ROUTING_HEALTH_CHECK_HTTPS,
    ROUTING_HEALTH_CHECK_H2C,
    ROUTING_HEALTH_CHECK_H2,
    ROUTING_HEALTH_CHECK_GRPC,
    ROUTING_HEALTH_CHECK_LAMBDA
};

/* TLS towards the targets of a group. */
struct routing_tls_conf {
    const struct gw_node *at;
    h2o_iovec_t ca;               /* PEM file; base NULL: the system's store */
    h2o_iovec_t server_name;      /* base NULL: the name or address of each target */
    h2o_iovec_t certificate, key; /* PEM files; both or neither */
    int min_version;              /* index into routing_tls_policies */
    bool insecure;                /* nothing is verified */
    uint64_t handshake_timeout_ms;
};
extern const struct gw_section routing_tls_section; /* target_tls.c */
struct routing_target_group_conf;
/* What holds for a group of a protocol with TLS, written or not; NULL: plain. */
const struct routing_tls_conf *routing_group_tls(const struct routing_target_group_conf *);
extern const char *const routing_tls_policies[]; /* by min_version: names for tls/policy.h */

struct routing_health_check_conf {
    const struct gw_node *at;
    bool is_enabled;                                 /* default true */
    int protocol;                                    /* enum routing_check_protocol; default: the group's */
    h2o_iovec_t path;                                /* default "/" */
    uint64_t port;                                   /* 0 = traffic port */
    uint64_t interval_ms, timeout_ms;                /* 30 s, 5 s; weir allows 100 ms and up */
    uint64_t healthy_threshold, unhealthy_threshold; /* 5, 2; weir allows 1..10 */
    h2o_iovec_t matcher;                             /* "200", "200,202", "200-299,301" */
    h2o_iovec_t host;                                /* Host header; base NULL = address of the target */
};
/* Targets that are found by asking DNS while the gateway serves. */
enum routing_dns_type { ROUTING_DNS_A, ROUTING_DNS_AAAA, ROUTING_DNS_SRV };
struct routing_dns_conf {
    h2o_iovec_t name;                /* base NULL: the entry is of another kind */
    uint64_t port;                   /* 0 with SRV */
    uint32_t types;                  /* 1 << enum routing_dns_type; SRV stands alone */
    uint64_t min_ttl_ms, max_ttl_ms; /* bounds of what answers say */
    uint64_t grace_ms;               /* how long targets stay when there is no such name any more */
};
/* An entry of `targets`: one target, or a source of any number of them (gateway/discovery/). */
struct routing_target_conf {
    const struct gw_node *at;
    struct gw_address address; /* names allowed: resolved when the snapshot is built. text.base NULL: it is a source */
    struct routing_dns_conf dns;
    h2o_iovec_t file; /* a file that lists targets, relative to the configuration's; base NULL: none */
    bool is_required; /* of a source: a load fails when it cannot be read */
    uint64_t weight;  /* 0..999, default 1 */
    h2o_iovec_t zone;
};
static inline bool routing_target_is_source(const struct routing_target_conf *target)
{
    return target->address.text.base == NULL;
}
struct routing_timeouts_conf {
    const struct gw_node *at;
    uint64_t connect_ms, first_byte_ms, idle_ms; /* 1 s, 30 s, 60 s (between bytes) */
    uint64_t tls_ms;                             /* the handshake; 0 = tls.handshake_timeout */
    uint64_t total_ms;       /* from the request's head to the end of the response, all tries; 0 = no limit */
    uint64_t tunnel_idle_ms; /* 60 s; between bytes of a tunnel, either direction */
};
struct routing_pool_conf { /* keep-alive connections per thread */
    const struct gw_node *at;
    uint64_t max_idle;     /* default 256 per target and thread */
    uint64_t idle_ms;      /* default 4 s below common origin defaults: 56 s */
    uint64_t max_requests; /* per connection; 0 = unlimited */
    int reuse;             /* enum routing_reuse */
};
/* Which requests may take a kept connection. */
enum routing_reuse { ROUTING_REUSE_ALL, ROUTING_REUSE_IDEMPOTENT };
/* What the targets of a group speak; order of the setting's choices. */
enum routing_protocol {
    ROUTING_PROTOCOL_HTTP,
    ROUTING_PROTOCOL_TCP,
    ROUTING_PROTOCOL_TLS,
    ROUTING_PROTOCOL_UDP,
    ROUTING_PROTOCOL_HTTPS,
    ROUTING_PROTOCOL_H2C,
    ROUTING_PROTOCOL_H2,
    ROUTING_PROTOCOL_GRPC, /* HTTP/2; with TLS where tls is set */
};
static inline bool routing_protocol_is_http2(int protocol) { return protocol >= ROUTING_PROTOCOL_H2C; }
/* Bytes, which listeners forward; routes cannot. */
static inline bool routing_protocol_is_l4(int protocol)
{
    return protocol >= ROUTING_PROTOCOL_TCP && protocol <= ROUTING_PROTOCOL_UDP;
}
static inline bool routing_protocol_has_tls(int protocol)
{
    return protocol == ROUTING_PROTOCOL_HTTPS || protocol == ROUTING_PROTOCOL_H2 || protocol == ROUTING_PROTOCOL_TLS;
}
/* The header that tells a target whom a connection is for (HAProxy's proxy-protocol.txt). */
enum routing_proxy_protocol { ROUTING_PROXY_OFF, ROUTING_PROXY_V1, ROUTING_PROXY_V2 };
/* Bounds on what a group may have under way, over all threads. */
struct routing_circuit_breaker_conf {
    const struct gw_node *at;
    uint64_t connections; /* open, of all targets; 0 = unlimited */
    uint64_t pending;     /* requests that wait for a connection or in the queue; 0 = as target_limits.queue says */
    uint64_t requests;    /* 0 = unlimited */
    uint64_t retries;     /* requests at a further try; 0 = unlimited */
};
/* A bound on requests under way that is found out by how fast the group answers (gradient). */
struct routing_adaptive_conf {
    const struct gw_node *at;
    uint64_t min, max; /* 4, 1000 */
};
enum routing_algorithm {
    ROUTING_ROUND_ROBIN,
    ROUTING_LEAST_OUTSTANDING,
    ROUTING_RANDOM_TWO_CHOICES,
    ROUTING_WEIGHTED_RANDOM,
    ROUTING_PEAK_EWMA,
    ROUTING_CONSISTENT_HASH,
};
/* flow: address and port of the client, and the port it came to; for listeners that forward bytes */
enum routing_hash_by { ROUTING_BY_CLIENT_IP, ROUTING_BY_HEADER, ROUTING_BY_COOKIE, ROUTING_BY_PATH, ROUTING_BY_FLOW };
struct routing_algorithm_conf {
    const struct gw_node *at;
    int type;                 /* enum routing_algorithm */
    int by;                   /* enum routing_hash_by, of consistent_hash */
    h2o_iovec_t name;         /* of the header or cookie */
    uint64_t decay_ms;        /* of peak_ewma */
    bool anomaly_mitigation;  /* of weighted_random */
    double anomaly_threshold; /* percent of requests */
};
/* How many targets must be fit; fewer by either measure is too few. */
struct routing_minimum_conf {
    const struct gw_node *at;
    uint64_t targets;
    double percent; /* of those registered; 0: does not matter */
};
struct routing_failover_conf {
    const struct gw_node *at;
    h2o_iovec_t to; /* name of a target group */
    struct routing_minimum_conf minimum_healthy;
};
enum routing_zones_mode { ROUTING_ZONES_ANY, ROUTING_ZONES_PREFER, ROUTING_ZONES_ONLY };
struct routing_zones_conf {
    const struct gw_node *at;
    int mode;           /* enum routing_zones_mode */
    double spill_below; /* percent of the zone's targets that must be fit to take all requests */
};
struct routing_app_cookie_conf {
    const struct gw_node *at;
    h2o_iovec_t name;
    uint64_t duration_ms;
};
struct routing_stickiness_conf {
    const struct gw_node *at;
    uint64_t lb_cookie_ms; /* 0: none. Exactly one of these three */
    struct routing_app_cookie_conf *app_cookie;
    bool source_ip;
};
/* Of each target, all threads together. */
struct routing_target_limits_conf {
    const struct gw_node *at;
    uint64_t requests;         /* under way; 0 = unlimited */
    uint64_t connections;      /* open; 0 = unlimited */
    uint64_t queue;            /* requests of the group that may wait for a target; 0 = none */
    uint64_t queue_timeout_ms; /* how long */
};
struct routing_outlier_conf {
    const struct gw_node *at;
    bool is_enabled;
    uint64_t consecutive_5xx, consecutive_gateway_errors;         /* 0 = off */
    double success_rate_deviation;                                /* percentage points; 0 = off */
    uint64_t latency_factor;                                      /* 0 = off */
    uint64_t minimum_requests, minimum_targets;                   /* for the last two */
    uint64_t interval_ms, ejection_time_ms, max_ejection_time_ms; /* 10 s, 30 s, 5 min */
    double max_ejected;                                           /* percent */
};
/* Targets that are Lambda Invoke endpoints. */
struct routing_lambda_sign_conf {
    const struct gw_node *at;
    h2o_iovec_t region, access_key, secret_key;
    h2o_iovec_t session_token; /* base NULL = none */
};
struct routing_lambda_conf {
    const struct gw_node *at;
    h2o_iovec_t function; /* name, NAME:ALIAS, ARN */
    bool multi_value_headers;
    h2o_iovec_t target_group_arn;          /* base NULL = made up */
    h2o_iovec_t host;                      /* base NULL = of the target, or of the region */
    struct routing_lambda_sign_conf *sign; /* NULL = plain */
};
struct routing_target_group_conf {
    const struct gw_node *at;
    int protocol;                     /* enum routing_protocol */
    int send_proxy_protocol;          /* enum routing_proxy_protocol */
    struct routing_tls_conf *tls;     /* NULL: not written; see routing_group_tls */
    struct gw_list targets;           /* of routing_target_conf; a scalar is its address */
    bool dynamic;                     /* as written: the admin API may change the targets */
    bool is_dynamic;                  /* its targets may change without a load: dynamic, or one of them is a source */
    uint64_t deregistration_delay_ms; /* how long requests of a target that is gone may go on */
    struct routing_algorithm_conf algorithm;
    uint64_t slow_start_ms; /* 0 = off */
    struct routing_zones_conf zones;
    struct routing_minimum_conf minimum_healthy; /* below: all targets take part */
    struct routing_failover_conf *failover;      /* NULL: none */
    struct routing_stickiness_conf *stickiness;  /* NULL: none */
    struct routing_target_limits_conf target_limits;
    struct routing_outlier_conf *outlier_detection; /* NULL: none */
    struct routing_health_check_conf health_check;
    struct routing_timeouts_conf timeouts;
    struct routing_retry_conf *retry; /* NULL: a target that cannot be reached is passed over, nothing else */
    struct routing_circuit_breaker_conf *circuit_breaker; /* NULL = none */
    struct routing_adaptive_conf *adaptive_concurrency;   /* NULL = none */
    struct routing_lambda_conf *lambda;                   /* NULL = plain HTTP */
    struct routing_pool_conf pool;
};

/* retry.c */
extern const struct gw_section routing_retry_section; /* struct routing_retry_conf */
extern const struct gw_section routing_hedge_section; /* struct routing_hedge_conf */
/* An entry of `on`: a failure, a status of 400 to 599, a range or a class of them. For gw_setting.valid. */
bool routing_when_is_word(struct gw_loader *, const struct gw_node *at, h2o_iovec_t word);
/* What the words say. They are valid. */
void routing_when_compile(const struct gw_texts *words, struct routing_when *);

/* error_page.c */
extern const struct gw_section routing_error_page_section; /* struct routing_error_page_conf */
/* A key of error_pages: 400 to 599, 4xx or 5xx. For gw_setting.valid. */
bool routing_error_page_is_key(struct gw_loader *, const struct gw_node *at, h2o_iovec_t key);
/* The statuses that a valid key stands for. */
void routing_error_page_statuses(h2o_iovec_t key, unsigned *first, unsigned *last);

/* forward: a group's name, or groups with weights. For routes and for listeners. */
extern const struct gw_section routing_forward_section; /* struct routing_forward_conf */
/* Is this a pattern of hosts? For gw_setting.valid. */
bool routing_check_host_glob(struct gw_loader *, const struct gw_node *at, h2o_iovec_t host);
/* lambda.c */
extern const struct gw_section routing_lambda_section;
/* What joins lambda and the rest of its group; fills in defaults that are other than usual. */
bool routing_lambda_check(struct gw_loader *, struct routing_target_group_conf *);
/* fault.c */
extern const struct gw_section routing_fault_section, routing_mirror_section;
/* compression.c */
extern const struct gw_section routing_compression_section, routing_compression_default_section;
/* What a route does not say is as the top-level section says (NULL: there is none). */
void routing_compression_inherit(struct routing_compression_conf *, const struct routing_compression_conf *from);
/* balance_config.c */
extern const struct gw_section routing_algorithm_section, routing_zones_section, routing_minimum_section,
    routing_failover_section, routing_stickiness_section, routing_target_limits_section, routing_outlier_section;
/* Rules that join these settings of a target group. */
bool routing_balance_check(struct gw_loader *, struct routing_target_group_conf *);
/* How many requests one target of the group may have under way; 0 = unlimited. Over HTTP/1.1, and of forwarded bytes,
 * each has a connection. */
uint32_t routing_max_requests(const struct routing_target_group_conf *);
/* How many requests of the group may wait for a target; 0 = none. */
uint64_t routing_max_queue(const struct routing_target_group_conf *);

extern const struct gw_section routing_response_headers_section; /* struct routing_header_rules_conf */
extern const struct gw_section routing_route_section;            /* struct routing_route_conf */
/* target_dns.c: what joins the settings of a dns: entry. */
bool routing_dns_check(struct gw_loader *, struct routing_target_conf *);
/* What tells one dns: entry of a group from another: "users.internal:8080 A". */
h2o_iovec_t routing_dns_text(h2o_mem_pool_t *, const struct routing_target_conf *);

extern const struct gw_section routing_target_section;       /* struct routing_target_conf */
extern const struct gw_section routing_target_group_section; /* struct routing_target_group_conf */
