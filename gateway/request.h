/* One request on its way through the pipeline: facts, decisions, outcome. The same struct serves live traffic (stream
 * set) and `weir explain` and its kin (stream NULL, dry set, mostly with a trace). Lives in its pool. */
#pragma once
#include "gateway/snapshot.h"

struct gw_worker;
struct gw_compressing;
struct gw_held_views;
struct gw_exchange;
struct gw_fault;
struct gw_sticky;
struct gw_waiter;
struct gw_span;
struct gw_timeline;

/* What stands in for the live parts of a request that is decided without a network (gateway/decide.h). */
struct gw_dry_run {
    uint32_t random;  /* draws between weighted target groups */
    bool skips_files; /* not even the disk is asked: the answer of a files route stays open (status 0) */
    /* out: what would be sent, as far as it does not depend on anybody's answer */
    h2o_headers_t answer_fields; /* that the route sets: Location, Content-Type, response_headers */
    h2o_iovec_t target_url;      /* path and query for the target; base NULL: not forwarded */
    h2o_headers_t target_fields; /* of the client, by request_headers; without what forwarding adds */
};

struct gw_request {
    h2o_mem_pool_t *pool;
    struct gw_worker *worker; /* NULL in explain */
    struct gw_stream *stream; /* NULL in explain */
    struct gw_dry_run *dry;   /* NULL in live traffic */
    struct gw_trace *trace;   /* NULL in live traffic */
    struct gw_snapshot *snapshot;
    struct gw_held_snapshot *held;      /* live traffic: what keeps the snapshot */
    struct gw_exchange *exchange;       /* forward: the attempt in progress */
    struct gw_fault *fault;             /* NULL: it does not wait on purpose */
    uint8_t next_stage;                 /* of the pipeline, while it is parked */
    struct gw_compressing *compressing; /* NULL: the response passes no encoder */
    const struct gw_snapshot_listener *listener;
    bool has_server_field;  /* a local answer's Server field was added, and maybe removed again by the route's rules */
    bool is_new_trace;      /* tracing is on, and the trace begins here */
    bool client_is_trusted; /* the peer is in trusted_proxies: gets x-weir-reason */
    const struct gw_route *route; /* NULL: none matched */

    h2o_iovec_t request_id_text;  /* of the client, or request_id */
    h2o_iovec_t traceparent;      /* W3C, as forwarded */
    h2o_iovec_t trace_id;         /* of traceparent: 32 hex digits */
    h2o_iovec_t amzn_trace_id;    /* X-Amzn-Trace-Id as forwarded; base NULL: it was not */
    struct gw_timeline *timeline; /* NULL: nobody asks */
    struct gw_span *span;         /* NULL: not traced */

    /* What the client offers to switch to (the value of Upgrade); from the stage about it on, what the target is asked
     * for. base NULL: nothing. */
    h2o_iovec_t upgrade;
    h2o_iovec_t websocket_key; /* that the target's answer must fit; base NULL: none */
    bool has_body;             /* bytes follow the head */

    /* forward */
    const struct routing_target_group *group; /* of the snapshot, or a view of it (gateway/discovery/view.h) */
    struct gw_held_views *views;              /* NULL: no group it has asked changes */
    uint32_t target;                          /* index in group, ROUTING_NO_TARGET */
    uint32_t attempts;
    struct gw_sticky *sticky; /* NULL: neither the route nor the group is (gateway/exchange/sticky.h) */
    struct gw_waiter *waiter; /* waits for a target (gateway/exchange/target_queue.h); NULL: it does not */
    /* A place at the target that no try has taken over yet (gateway/exchange/choose.h); NULL: none. */
    struct routing_target_load *claim;
    const struct gw_endpoint *reserved;                   /* the same of a connection (gw_pool_reserve); NULL: none */
    const struct gw_endpoint *full;                       /* no_room: at which target; NULL: in the whole group */
    uint8_t no_room;                                      /* enum gw_pool_room: why there is no connection for it */
    uint64_t upstream_started_us, upstream_first_byte_us; /* CLOCK_MONOTONIC; 0 = did not happen */
    const char *error; /* further detail for the log: literal, e.g. the rule a bad response head broke; or NULL */

    enum gw_reason reason;
    int status; /* sent (or that would be sent) to the client; 0 = none */
    uint64_t finished_us;
    struct routing_facts facts;
    /* what the texts above point to, where weir made them; not cleared */
    char request_id[32], made_traceparent[56], made_amzn_trace_id[42], made_port[6];
};
