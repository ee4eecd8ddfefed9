/* The configuration as written: plain structs that the settings tables fill, defaults included. Built whole by one
 * load, read-only afterwards, freed whole. gateway/snapshot.h compiles it for serving. Relative paths have been made
 * relative to the working directory, but for those of certificates (tls/certificate.h). */
#pragma once
#include "gateway/discovery/dns.h"
#include "gateway/observe/access_format.h"
#include "gateway/base/ip.h"
#include "gateway/base/settings.h"
#include "gateway/http/http2_budget.h"
#include "routing/config.h"
#include "tls/certificate.h"
#include "tls/context.h"

struct gw_access_log_conf {
    const struct gw_node *at;
    bool is_enabled;    /* default true */
    int format;         /* enum gw_access_format */
    h2o_iovec_t path;   /* "stdout" or a file */
    h2o_iovec_t file;   /* the file relative to the working directory, NUL-terminated; base NULL = standard output */
    h2o_iovec_t syslog; /* udp://address:port; base NULL = none */
    struct gw_address syslog_address; /* of it */
    h2o_iovec_t template;             /* as written; base NULL = none */
    struct gw_access_template compiled;
    h2o_iovec_t load_balancer; /* base NULL = default; third field of an ALB line */
};

/* W3C trace context and spans over OTLP/HTTP; without it a traceparent is passed on or begun and nothing is recorded.
 */
struct gw_tracing_conf {
    const struct gw_node *at;
    h2o_iovec_t otlp;         /* http:// or https:// URL of the collector, NUL-terminated */
    struct gw_pairs headers;  /* of the export, e.g. authorization */
    double sample;            /* percent of the traces that begin here, default 5 */
    bool parent_based;        /* a caller's sampled flag decides for its traces; default true */
    h2o_iovec_t service_name; /* default "weir" */
    uint64_t batch, queue;    /* spans: most in one export (512), most that wait (4096) */
    uint64_t interval_ms;     /* how long a span waits for its batch to fill, default 1 s */
    uint64_t timeout_ms;      /* of one export, default 5 s */
};

struct gw_admin_conf {
    const struct gw_node *at;
    bool is_enabled;           /* default true */
    struct gw_address address; /* Unix or loopback; default unix:/run/weir/admin.sock */
    bool is_default;           /* the address was not written: that it cannot be opened is only a warning */
    struct gw_address tcp;     /* text.len 0 = none; loopback unless there is a token */
    h2o_iovec_t token;         /* asked for over TCP; base NULL = none */
};

/* limits.http2, per connection */
struct gw_http2_conf {
    const struct gw_node *at;
    uint64_t max_streams;
    uint64_t stream_window, connection_window;  /* bytes */
    uint64_t ping_interval_ms, ping_timeout_ms; /* interval 0 = none */
    uint64_t settings_timeout_ms;               /* 0 = none */
    uint64_t budgets[GW_HTTP2_NUM_BUDGETS];     /* gateway/http/http2_budget.h; 0 = unlimited */
};

struct gw_limits_conf {
    const struct gw_node *at;
    uint64_t header_block;                       /* bytes of a request head; 431 */
    uint64_t url;                                /* bytes of a request target; 414 */
    uint64_t headers;                            /* fields of a request; 431 */
    uint64_t max_body;                           /* bytes of a request body, 0 = unlimited; 413 */
    uint64_t header_timeout_ms, body_timeout_ms; /* whole head; between two pieces of a body */
    uint64_t idle_timeout_ms;                    /* keep-alive: between a response and the next request */
    uint64_t send_timeout_ms;                    /* between two pieces that the client takes */
    uint64_t max_connections;                    /* client connections of the process, 0 = unlimited */
    uint64_t connections_per_ip;                 /* of one client address, 0 = unlimited */
    uint64_t accept_rate, accept_rate_per_ip;    /* new connections a second, 0 = unlimited */
    uint64_t min_body_rate, min_send_rate;       /* bytes a second, 0 = any */
    uint64_t keepalive_time_ms;                  /* after it a connection takes no further requests; 0 = unlimited */
    uint64_t keepalive_requests;                 /* per client connection, 0 = unlimited */
    uint64_t retry_buffers;                      /* bytes of kept request bodies, of all threads */
    uint64_t lambda_buffers;                     /* bytes of bodies, events and replies of functions, all threads */
    int desync_mitigation;                       /* enum gw_desync_mode */
    struct gw_http2_conf http2;
};

/* Taking over from an older binary: `weir upgrade`. */
struct gw_upgrade_conf {
    const struct gw_node *at;
    uint64_t ready_timeout_ms; /* the new worker must serve within this */
    uint64_t drain_timeout_ms; /* the old one may finish its requests within this */
};

/* Balancers in front that say who the client is (haproxy's proxy-protocol.txt). */
enum gw_proxy_others { GW_PROXY_OTHERS_SERVE, GW_PROXY_OTHERS_REFUSE };
struct gw_proxy_conf { /* listeners.NAME.proxy_protocol */
    const struct gw_node *at;
    struct gw_cidrs from; /* who may send a header */
    bool is_required;     /* of them; default true */
    int others;           /* enum gw_proxy_others; default serve */
    uint64_t timeout_ms;  /* until the header is there, default 5 s */
};

enum gw_protocol { GW_PROTOCOL_H2, GW_PROTOCOL_HTTP1 };

/* What a listener makes of its connections; order of the setting's choices. */
enum gw_listener_protocol {
    GW_LISTENER_HTTP,            /* requests, which routes take */
    GW_LISTENER_TCP,             /* bytes for a target group */
    GW_LISTENER_TLS,             /* the same, TLS is terminated */
    GW_LISTENER_TLS_PASSTHROUGH, /* the same, chosen by the ClientHello, which is passed on */
    GW_LISTENER_UDP,             /* datagrams for a target group */
};
/* listeners.NAME.udp */
struct gw_udp_conf {
    const struct gw_node *at;
    uint64_t flows;        /* at a time, of the listener; default 65536 */
    uint64_t flows_per_ip; /* of one client address; 0 = unlimited */
    uint64_t responses;    /* to each datagram of a client, then the flow ends; 0 = any number */
};
/* Which target group gets the connections for a server name. */
struct gw_sni_conf {
    const struct gw_node *at;
    struct gw_texts host;                 /* globs, case-insensitive */
    struct routing_forward_conf *forward; /* never NULL */
};

struct gw_listener_conf {
    const struct gw_node *at;
    int protocol;                         /* enum gw_listener_protocol */
    struct routing_forward_conf *forward; /* all but http: who gets what no sni entry takes; NULL: nobody */
    struct gw_list sni;                   /* of gw_sni_conf; tls and tls_passthrough */
    uint64_t idle_timeout_ms;             /* all but http: without a byte either way; 350 s, udp 120 s */
    uint64_t max_connections;             /* all but http and udp: of this listener at a time; 0 = unlimited */
    struct gw_udp_conf *udp;              /* NULL: not written; gw_udp_settings fills in */
    uint64_t accept_rate;                 /* all but udp: new connections a second, 0 = unlimited */
    struct gw_addresses address;          /* at least one; never Unix sockets or names */
    uint32_t protocols;                   /* bits 1 << enum gw_protocol; default http/1.1, with tls h2 too */
    struct tls_listener_conf *tls;        /* NULL = plain */
    struct gw_proxy_conf *proxy_protocol; /* NULL = nobody's is read */
    struct routing_header_rules_conf response_headers; /* http: of every response, our own too */
    bool server_header;                                /* http: our own answers have `server: weir`; default true */
};

enum gw_x_forwarded { GW_X_FORWARDED_APPEND, GW_X_FORWARDED_PRESERVE, GW_X_FORWARDED_REMOVE };

/* What weir adds to requests on their way to a target (spec/alb.md 5). */
struct gw_forwarding_conf {
    const struct gw_node *at;
    int x_forwarded;           /* enum gw_x_forwarded */
    bool client_port;          /* X-Forwarded-For carries the client's port; default false */
    bool via;                  /* Via; default true */
    bool request_id;           /* X-Request-Id; default true */
    bool traceparent;          /* W3C; default true */
    bool amzn_trace_id;        /* X-Amzn-Trace-Id; default true */
    bool tls_headers;          /* X-Amzn-Tls-Version and -Cipher-Suite; default false */
    bool preserve_host;        /* Host goes as it came; false: as an ALB sends it; default true */
    bool drop_invalid_headers; /* names other than [-A-Za-z0-9]+ are not passed on; default false */
};

/* When the gateway refuses requests because it has too much to do itself. */
struct gw_overload_conf {
    const struct gw_node *at;
    uint64_t loop_lag_ms; /* how late a thread's timer may be; 0 = never mind */
    uint64_t memory;      /* resident bytes; 0 = never mind */
};

struct gw_config {
    const struct gw_node *at;
    struct gw_texts include; /* always empty: includes are part of the tree already */
    uint64_t worker_threads; /* 1..256; default one per core this process may use */
    struct gw_access_log_conf access_log;
    struct gw_admin_conf admin;
    h2o_iovec_t state_dir;   /* base NULL = none */
    h2o_iovec_t user, group; /* whom the worker becomes: names or numbers; base NULL = stays who it is */
    struct gw_overload_conf overload;
    h2o_iovec_t zone;                /* where this gateway stands; base NULL = not said */
    struct gw_texts stickiness_keys; /* secrets that seal cookies: the first seals, all open; none = our own */
    uint64_t shutdown_timeout_ms;
    uint64_t watchdog_timeout_ms; /* 0: off */
    struct gw_upgrade_conf upgrade;
    struct gw_limits_conf limits;
    struct gw_map listeners;    /* of gw_listener_conf; at least one */
    struct gw_map certificates; /* of tls_certificate_conf */
    struct gw_cidrs trusted_proxies;
    struct gw_forwarding_conf forwarding;
    struct routing_compression_conf *compression; /* NULL = off, but for routes that have one */
    struct gw_tracing_conf *tracing;              /* NULL = off */
    struct gw_map error_pages; /* of routing_error_page_conf, by status or class; those of a route come first */
    struct gw_resolver_conf resolver;
    struct gw_map target_groups; /* of routing_target_group_conf */
    struct gw_list routes;       /* of routing_route_conf; every one has a name */
    struct gw_list tests;        /* of gw_test_conf (gateway/config/config_tests.h); for `weir test` only */
    h2o_mem_pool_t *pool;        /* everything above, nodes included */
};

extern const struct gw_section gw_config_section;
/* config_http2.c */
extern const struct gw_section gw_http2_section;
extern const struct gw_section gw_proxy_section; /* config_edge.c */
/* config_observe.c */
/* l4_config.c */
extern const struct gw_section gw_sni_section, gw_udp_section;
const struct gw_udp_conf *gw_udp_settings(const struct gw_listener_conf *);
extern const char *const gw_listener_protocols[];
extern const struct gw_section gw_access_log_section, gw_tracing_section;

/* Reads, fills and cross-checks a configuration file ("-": standard input). NULL after errors; then certificates and
 * routes have been looked into as well, as far as they make sense, so that one run reports every mistake. Without
 * errors that part is left to whoever compiles it (gw_snapshot_create). Warnings may be recorded either way. */
struct gw_config *gw_config_load(const char *path, struct gw_errors *);
/* The same for text in memory; name stands in positions. allow_files false (fuzzing): no file is read at all, neither
 * includes nor certificates. */
struct gw_config *gw_config_load_text(const char *name, h2o_iovec_t text, bool allow_files, struct gw_errors *);
void gw_config_destroy(struct gw_config *);

/* gateway/config/config_check.c. What joins several sections: dangling names, addresses and route names used twice. */
void gw_config_check(struct gw_config *, struct gw_errors *);
/* Loads every certificate and compiles the routing table, only to record what they find; entries that are bad already
 * are left out. */
void gw_config_check_parts(const struct gw_config *, bool allow_files, struct gw_errors *);
