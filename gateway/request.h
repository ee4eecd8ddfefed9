/* One request on its way through the pipeline: facts, decisions, outcome. The same struct serves live traffic (stream
 * set) and `weir explain` (stream NULL, trace set). Lives in its pool. */
#pragma once
#include "gateway/snapshot.h"

struct gw_worker;
struct gw_exchange;

struct gw_request {
    h2o_mem_pool_t *pool;
    struct gw_worker *worker; /* NULL in explain */
    struct gw_stream *stream; /* NULL in explain */
    struct gw_trace *trace;   /* NULL in live traffic */
    struct gw_snapshot *snapshot;
    struct gw_held_snapshot *held; /* live traffic: what keeps the snapshot */
    struct gw_exchange *exchange;  /* forward: the attempt in progress */
    const struct gw_snapshot_listener *listener;
    struct routing_facts facts;
    bool has_server_field;  /* a local answer's Server field was added, and maybe removed again by the route's rules */
    bool client_is_trusted; /* the peer is in trusted_proxies: gets x-weir-reason */
    const struct gw_route *route; /* NULL: none matched */

    char request_id[33]; /* 32 hex digits, NUL; or what a trusted peer sent, cut to 32..: see request_id_text */
    h2o_iovec_t request_id_text;
    h2o_iovec_t traceparent; /* W3C, as forwarded */
    h2o_iovec_t trace_id;    /* of traceparent: 32 hex digits */

    /* forward */
    const struct routing_target_group *group;
    uint32_t target; /* index in group, ROUTING_NO_TARGET */
    uint32_t attempts;
    uint64_t upstream_started_us, upstream_first_byte_us; /* CLOCK_MONOTONIC; 0 = did not happen */
    const char *error; /* further detail for the log: literal, e.g. the rule a bad response head broke; or NULL */

    enum gw_reason reason;
    int status; /* sent (or that would be sent) to the client; 0 = none */
    uint64_t finished_us;
};
