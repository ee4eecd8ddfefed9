/* A tunnel: what goes on after a target has switched protocols (101). The bytes go the way of bodies (exchange.c); here
 * is what a tunnel has beside them: an idle timer, counters, how it ended. In the request's pool, on the worker's
 * thread. */
#pragma once
#include "gateway/request.h"

struct gw_tunnel {
    struct gw_timer timer; /* armed at or before the time it would be idle for too long */
    struct gw_request *request;
    uint64_t idle_ms, moved_at_ms;
};

/* The target has agreed: from now on the stream is a tunnel. */
struct gw_tunnel *gw_tunnel_begin(struct gw_request *, uint64_t idle_ms);
/* Bytes came from the client or the target. */
void gw_tunnel_moved(struct gw_tunnel *, size_t bytes, bool is_from_client, bool is_last);
/* The stream is over; its end is known. Says in the request how, unless somebody has. NULL is fine. */
void gw_tunnel_end(struct gw_tunnel *);
