/* The connection of one health check: connect, ask, read the response head, judge by status. Used by health.c, which
 * decides when. One at a time per struct; embedded there, zero-filled before the first start. */
#pragma once
#include <stdbool.h>
#include "gateway/base/ip.h"
#include "gateway/base/thread.h"
#include "routing/health.h"

struct gw_probe {
    struct gw_thread *thread;
    /* May start another probe, stop or free this one. status: 0 when no response head came. */
    void (*on_done)(struct gw_probe *, enum routing_probe, int status);
    h2o_socket_t *sock; /* NULL: nothing under way */
    struct gw_timer timeout;
    h2o_iovec_t request;
    const struct routing_matcher *matcher;
    size_t parsed_len, num_drained;
    unsigned num_interim;
    bool is_judged; /* on_done was called; what is left is to let the target finish sending */
};
/* request: the bytes to send, valid until the end. matcher NULL: a TCP check, which the connect alone passes. on_done
 * may be called before the return. What is left of an earlier check is dropped. */
void gw_probe_start(struct gw_probe *, const struct gw_address *, h2o_iovec_t request, const struct routing_matcher *,
                    uint64_t timeout_ms);
/* on_done has not been called yet. */
bool gw_probe_is_running(const struct gw_probe *);
void gw_probe_stop(struct gw_probe *); /* no call of on_done; fine at any time */
