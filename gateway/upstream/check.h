/* One health check that takes the way of requests (gateway/upstream/client.h): TLS, HTTP/2, gRPC. Plain HTTP/1.1 and
 * TCP have the shorter way of probe.h. Used by health.c; embedded there, zero-filled before the first start. */
#pragma once
#include "gateway/upstream/client.h"
#include "routing/health.h"

/* Checks that ask in a way of their own and judge the whole answer. One of them is under way at a time. */
struct gw_check_kind {
    /* Fills in the request; its memory comes from the pool. */
    void (*ask)(struct gw_check_kind *, h2o_mem_pool_t *, const struct gw_transport *, struct gw_client_request *);
    void (*on_head)(struct gw_check_kind *, const struct gw_response_head *);
    bool (*on_body)(struct gw_check_kind *, h2o_iovec_t); /* false: that is too much */
    int (*judge)(struct gw_check_kind *);                 /* the status that must pass; 0: it is no answer */
    bool (*is_same)(const struct gw_check_kind *, const struct gw_check_kind *); /* of two of one kind */
    void (*dispose)(struct gw_check_kind *);
};

struct gw_check {
    /* May start another check, stop or free this one. status: 0 when no answer came. */
    void (*on_done)(struct gw_check *, enum routing_probe, int status);
    struct gw_thread *thread;
    struct gw_client *client; /* NULL: nothing under way */
    struct gw_timer timeout;
    const struct routing_matcher *matcher;
    struct gw_check_kind *kind; /* NULL: a GET or a gRPC call */
    size_t num_drained;
    bool is_grpc;             /* judged at the end of the call: grpc-status, and what a Health/Check says */
    bool wants_serving;       /* it is grpc.health.v1.Health/Check */
    unsigned char message[8]; /* the first bytes of the answer */
    size_t message_len;
    bool is_judged; /* on_done was called; what is left is to let the target finish sending */
};
/* Endpoint, matcher and kind (NULL: none) live until the end; on_done comes later. What is left of an earlier check is
 * dropped. */
void gw_check_start(struct gw_check *, struct gw_pool *, const struct gw_endpoint *, const struct gw_client_request *,
                    const struct routing_matcher *, bool is_grpc, struct gw_check_kind *, uint64_t timeout_ms);
bool gw_check_is_running(const struct gw_check *);
void gw_check_stop(struct gw_check *); /* no call of on_done; fine at any time */
