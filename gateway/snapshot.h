/* The compiled configuration that serves: immutable, built off the loops by one load, published to every worker by
 * message, freed by the last thread that lets go. What must outlive it (endpoints, health, route statistics, ticket
 * keys, sockets) belongs to the process (gateway/process.h) and is found by name. */
#pragma once
#include "gateway/config/config.h"
#include "gateway/http/stream.h"
#include "gateway/reason.h"
#include "gateway/upstream/health.h"
#include "routing/balance.h"
#include "routing/header_rules.h"
#include "routing/retry.h"
#include "routing/rewrite.h"
#include "routing/sticky.h"
#include "routing/table.h"
#include "tls/context.h"

struct gw_compression;
struct gw_identity;
struct gw_process;
struct gw_error_pages;
struct gw_files;
struct gw_view;

/* Counters of one route, found by name as long as a snapshot has a route of that name; one slot per thread, written by
 * that thread only. */
struct gw_route_slot {
    /* ordered so that a request touches two lines of the cache: with thousands of routes each is a miss */
    gw_counter by_class[6]; /* [1]..[5]: 1xx..5xx of responses that are not local; [0]: none was sent */
    gw_counter seconds_sum_us, upstream_sum_us;
    struct {
        gw_counter seconds, upstream; /* of the histograms of whole requests and of first bytes from targets */
    } buckets[GW_HISTOGRAM_BUCKETS];
    gw_counter retries;
    gw_counter by_reason[GW_REASON_COUNT];
} __attribute__((aligned(64)));
struct gw_route_stats {
    h2o_iovec_t name;
    unsigned snapshots;           /* that use it; under the process's lock */
    struct gw_route_slot slots[]; /* num_threads */
};

struct gw_listener_conf; /* gateway/config/config.h */
struct gw_snapshot_listener {
    h2o_iovec_t name;
    const struct gw_listener_conf *conf;
    struct tls_context *tls;                       /* NULL: plain */
    struct gw_l4_listener *l4;                     /* gateway/l4/l4.h; NULL: requests are served */
    struct routing_header_rules *response_headers; /* NULL: none */
    struct gw_rate *accepted;                      /* atomic, of conf->accept_rate; NULL: any rate will do */
    uint32_t index;
};

struct gw_weighted_group {
    const struct routing_target_group *group;
    uint32_t weight;
};
enum { GW_LOG_ALL = (1 << 24) - 1 };
/* A compiled route. The first line of the cache is what forwarding needs. */
struct gw_route {
    enum routing_action action : 7;
    uint32_t has_more : 1;    /* one of the settings that GW_ROUTE_MORE asks for, a mirror or compression */
    uint32_t log_sample : 24; /* share of requests in the access log: GW_LOG_ALL, 0 none, between: 1/2^24 */
    uint32_t num_groups;
    const struct routing_target_group *group;                        /* forward: the first one */
    struct routing_header_rules *request_headers, *response_headers; /* NULL: none */
    struct routing_rewrite *rewrite;                                 /* NULL: none */
    uint64_t max_body;                                               /* effective; UINT64_MAX: unlimited */
    struct gw_route_stats *stats;
    const struct routing_route_conf *conf;
    struct gw_weighted_group *groups; /* forward */
    uint32_t *weights;
    struct gw_files *files;
    struct gw_error_pages *error_pages;              /* NULL: none */
    const struct routing_target_group *fallback;     /* asked when the group fails; NULL: nobody */
    struct gw_compression *compression;              /* effective; NULL: off */
    const struct routing_target_group *mirror_group; /* gets copies; NULL: none are made */
} __attribute__((aligned(64)));

/* A setting of few routes (retry, hedge, timeouts, fault): NULL without a look at its line of the cache. */
#define GW_ROUTE_MORE(route, setting) (__builtin_expect((route)->has_more, 0) ? (route)->conf->setting : NULL)

struct gw_snapshot {
    uint64_t generation;
    struct gw_config *config;   /* owned */
    struct gw_process *process; /* NULL: check, explain */
    struct gw_snapshot_listener *listeners;
    size_t num_listeners;
    struct routing_target_load *idle;        /* of every target, where no request is ever sent (check, explain) */
    struct routing_sticky_keys *sticky_keys; /* NULL: nothing is sticky, or explain */
    struct gw_identity *identity;            /* exchange/client_identity.h; NULL: fields have their usual names */
    struct tls_certificate **certificates;   /* in order of config->certificates */
    size_t num_certificates;
    struct routing_target_group *groups;
    size_t num_groups;
    /* per worker, touched by that worker only: balancers[worker * num_groups + group]. After them one more set for
     * decisions without a worker (explain): the control thread's while the snapshot is served. */
    struct routing_balancer **balancers;
    /* The same for groups whose targets change (gateway/discovery/view.h); NULL: there are none. */
    struct gw_view **views;
    /* of retries, per worker and group like balancers, but for the set without a worker */
    struct routing_budget *budgets;
    unsigned num_workers;
    struct routing_table *table;
    struct gw_route *routes; /* by routing_route.index */
    size_t num_routes;
    struct gw_compression *compression; /* of routes that have none of their own, and of answers without a route */
    struct gw_error_pages *error_pages; /* NULL: none; asked after those of the route */
    struct gw_route_stats *no_route;    /* statistics of requests that no route took */
    uint64_t loaded_at_ms;              /* wall clock */
    _Atomic int refs;                   /* atomic: threads (and explain) that hold it */
};

/* Takes the config. process may be NULL (check, explain): nothing of it outlives the snapshot then. NULL after errors.
 */
struct gw_snapshot *gw_snapshot_create(struct gw_process *, struct gw_config *, struct gw_errors *);
void gw_snapshot_hold(struct gw_snapshot *);
void gw_snapshot_release(struct gw_snapshot *);
