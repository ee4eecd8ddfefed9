/* Keep-alive connections to endpoints, per thread: LIFO, always in read state, so that a connection the origin closes
 * leaves the pool before it is used. Endpoints belong to the process (one per group and address), the pool to a thread.
 */
#pragma once
#include "gateway/base/ip.h"
#include "gateway/base/metrics.h"
#include "gateway/base/thread.h"
#include "gateway/upstream/transport.h"
#include "routing/target_load.h"

/* What a target group has at the moment, over all threads. Lives as long as the group's entry (gateway/registry.h). */
struct gw_group_use {
    _Atomic uint32_t connections;           /* atomic: to all its targets, open or about to be, idle ones too */
    _Atomic uint32_t pending;               /* atomic: requests that wait for a connection, being made or not yet */
    void (*on_room)(struct gw_group_use *); /* frozen: one was closed (any thread) */
} __attribute__((aligned(64)));

/* Where a connection is counted: NULL, nowhere (health checks, tests). */
struct gw_counted {
    struct routing_target_load *load;
    struct gw_group_use *of_group;
};

/* One per (group name, address), found again by every snapshot; lives as long as its entry (gateway/registry.h). Read
 * by all threads. */
struct gw_endpoint {
    struct gw_address address; /* resolved; frozen */
    h2o_iovec_t name;          /* "10.0.0.1:9001"; frozen */
    uint32_t index;            /* dense, for per-thread arrays; frozen */
    struct gw_counted counted; /* frozen */
};
struct gw_pool_limits {
    uint32_t max_idle; /* per endpoint */
    uint32_t idle_ms;
    uint32_t max_requests;                           /* 0 = unlimited, as the following */
    uint32_t max_connections, max_group_connections; /* over all threads */
    uint32_t max_pending;                            /* gw_pool_reserve */
};
struct gw_pool;
struct gw_pool *gw_pool_create(struct gw_thread *);
void gw_pool_destroy(struct gw_pool *);
/* Closes idle connections of an endpoint that no snapshot names any more. */
void gw_pool_forget(struct gw_pool *, const struct gw_endpoint *);

/* Whether a request can have a connection, where their number is limited. */
enum gw_pool_room {
    GW_POOL_READY,    /* a kept one will do, as long as nothing else happens in between */
    GW_POOL_RESERVED, /* there may be a new one: it counts from now on, and the request as pending */
    GW_POOL_TARGET_FULL,
    GW_POOL_GROUP_FULL,
    GW_POOL_TOO_MANY_PENDING, /* there might be a new one, but too many wait for theirs */
};
/* RESERVED: hand it on with gw_client_request.is_reserved, or give it back. needs_new: a kept one will not do.
 * may_close: idle connections of this thread make room. */
enum gw_pool_room gw_pool_reserve(struct gw_pool *, const struct gw_endpoint *, const struct gw_transport *,
                                  const struct gw_pool_limits *, bool needs_new, bool may_close);
void gw_pool_unreserve(const struct gw_endpoint *);
/* Closes an idle connection to the endpoint of that index, or to any of the group. False: there is none in this thread.
 */
enum { GW_POOL_ANY = UINT32_MAX };
bool gw_pool_make_room(struct gw_pool *, const struct gw_group_use *, uint32_t index);
/* Counts one more connection. Anything but READY: there are as many as the limits allow. */
enum gw_pool_room gw_room_enter(struct gw_counted, uint32_t max, uint32_t max_of_group);
void gw_room_leave(struct gw_counted);

struct gw_pool_stats {
    gw_counter connects, connect_failures, reuses, idle_closed;
    gw_counter idle; /* gauge */
    gw_counter tls_full, tls_resumed;
    gw_counter tls_failures[TLS_ORIGIN_FAILURE_COUNT];
};
const struct gw_pool_stats *gw_pool_stats(const struct gw_pool *);
