/* The `forward` action: one request to a target of a group, with retries, body and response streamed both ways under
 * back-pressure. Lives in the request's pool, on the worker's thread. */
#pragma once
#include "gateway/request.h"

/* Draws the group by weight and picks its first target: the decision that explain shows. False: no target may be asked
 * (request->group is set, request->target is ROUTING_NO_TARGET or ROUTING_BUSY_TARGETS). In gateway/exchange/choose.c.
 */
bool gw_exchange_choose(struct gw_request *, uint32_t random);
/* The same for a request that waited for a target: its group stays. */
bool gw_exchange_choose_again(struct gw_request *);
/* Forwards to the chosen target and answers. */
void gw_exchange_start(struct gw_request *);
/* The same for one whose next try waited for a target. */
void gw_exchange_resume(struct gw_exchange *);
/* Host and URL as the target got them; valid as long as the request. */
void gw_exchange_target(const struct gw_exchange *, h2o_iovec_t *host, h2o_iovec_t *url);
/* Cuts the exchange off, for this reason. */
void gw_exchange_abort(struct gw_exchange *, enum gw_reason);
/* The stream is over, for whatever reason: lets go of the upstream connection. NULL is fine. */
void gw_exchange_release(struct gw_exchange *);
