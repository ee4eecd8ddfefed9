/* Keep-alive connections to endpoints, per thread: LIFO, always in read state, so that a connection the origin closes
 * leaves the pool before it is used. Endpoints belong to the process (one per group and address), the pool to a thread.
 */
#pragma once
#include "gateway/base/ip.h"
#include "gateway/base/metrics.h"
#include "gateway/base/thread.h"
#include "gateway/upstream/transport.h"

/* One per (group name, address): found again by every snapshot; never freed before exit... or when the last snapshot
 * that names it is gone. Read by all threads. */
struct gw_endpoint {
    struct gw_address address; /* resolved; frozen */
    h2o_iovec_t name;          /* "10.0.0.1:9001"; frozen */
    uint32_t index;            /* dense, for per-thread arrays; frozen */
};
struct gw_pool_limits {
    uint32_t max_idle; /* per endpoint */
    uint32_t idle_ms;
    uint32_t max_requests; /* 0 = unlimited */
};
struct gw_pool;
struct gw_pool *gw_pool_create(struct gw_thread *);
void gw_pool_destroy(struct gw_pool *);
/* Closes idle connections of an endpoint that no snapshot names any more. */
void gw_pool_forget(struct gw_pool *, const struct gw_endpoint *);
struct gw_pool_stats {
    gw_counter connects, connect_failures, reuses, idle_closed;
    gw_counter idle; /* gauge */
    gw_counter tls_full, tls_resumed;
    gw_counter tls_failures[TLS_ORIGIN_FAILURE_COUNT];
};
const struct gw_pool_stats *gw_pool_stats(const struct gw_pool *);
