/* The `mirror` policy: another target group gets a copy of some requests, as their own targets get them. The copy has a
 * life of its own: it starts when the request's body is whole, may outlive the request, and what comes back is thrown
 * away. It never delays or fails the request. On the worker's thread. */
#pragma once
#include "gateway/request.h"

struct gw_client_request;
struct gw_mirror;

/* Draws, and takes a copy of the head that goes to the target. NULL: there will be no copy of this request. */
struct gw_mirror *gw_mirror_begin(struct gw_request *, const struct gw_client_request *);
/* Takes a copy of a piece of the body. With the last one the copy is sent, and the mirror lives on alone. Returns NULL
 * when it is no longer the caller's. */
struct gw_mirror *gw_mirror_body(struct gw_mirror *, h2o_iovec_t bytes, bool is_last);
/* The request ended before its body was whole: there will be no copy. NULL is fine. */
void gw_mirror_drop(struct gw_mirror *);
struct gw_endpoint;
/* The time of a target that was taken out is over: copies under way at it are given up ("failed"). */
void gw_mirror_cut(struct gw_worker *, const struct gw_endpoint *);
/* The thread ends: copies under way are given up. */
void gw_mirror_end_all(struct gw_worker *);
