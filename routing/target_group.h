/* A target group compiled for serving: resolved addresses, weights, and the health of each target. Part of the
 * snapshot, read-only; health objects belong to the process (found by group name + address) and outlive snapshots. */
#pragma once
#include "routing/config.h"
#include "routing/health.h"

struct routing_target {
    h2o_iovec_t name;          /* "10.0.0.1:9001" as shown in logs */
    struct gw_address address; /* resolved */
    uint32_t weight;
    bool is_local;                    /* stands in the zone of this gateway */
    struct routing_health *health;    /* borrowed from the process's registry; never NULL */
    struct routing_target_load *load; /* the same; never NULL either */
    uint64_t sticky_id;               /* routing/sticky.h */
    void *endpoint;                   /* the gateway's: key of the upstream pool; lives at least as long as this */
    const void *transport;            /* the gateway's: how it is spoken to; NULL: plain HTTP/1.1 */
    const char *source;               /* where it was found: "static", "file" ... */
};
struct routing_target_group {
    h2o_iovec_t name;
    const struct routing_target_group_conf *conf;
    struct routing_target *targets;
    uint32_t size;
    struct routing_load *load; /* routing/limit.h; NULL: the group has no limits. Borrowed from the process */
    uint32_t index;            /* in the snapshot */
    void *tls;                 /* the gateway's: struct tls_origin of the group; NULL: plain */
    /* what its settings come to, so that requests without these policies see one flag each */
    bool counts_load, uses_key, notes_outcomes, notes_latency;
    bool limits_connections;        /* or how many wait for one: the next three; 0: no limit */
    bool has_queue;                 /* requests may wait for a target */
    uint32_t max_requests;          /* under way at a target */
    uint32_t max_connections;       /* of a target */
    uint32_t max_group_connections; /* of all targets */
    uint32_t max_pending;           /* requests that wait for a connection or in the queue */
    uint64_t sticky_id;
    struct routing_target_group *failover; /* NULL: none */
    void *entry; /* the gateway's: what lives as long as the process; NULL in check, explain */
    /* The gateway's (gateway/discovery/view.h): its targets change while it serves. Such a group of a snapshot has
     * those of the configuration; those of now are in a view, a copy of the group that is as immutable. NULL: they do
     * not. */
    void *dynamic;
    bool is_view;
};
