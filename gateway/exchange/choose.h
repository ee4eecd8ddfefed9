/* Which target group and which target a request goes to: the decision that explain shows. Joins what routing/balance.h,
 * routing/sticky.h and failover between groups say. On the worker's thread. */
#pragma once
#include "gateway/request.h"
#include "gateway/upstream/client.h"

struct routing_balancer *gw_choose_balancer(const struct gw_request *, const struct routing_target_group *);
/* A target of request->group for a further try, ROUTING_NO_TARGET or ROUTING_BUSY_TARGETS. In live traffic a place at
 * the target is claimed where the group counts requests: gw_choose_claimed takes it over. Of a group whose targets
 * change, request->group becomes the latest view: indexes that were of another one are not of this. */
uint32_t gw_choose_target(struct gw_request *, uint64_t exclude, struct gw_trace *);
/* The place at the target, claimed before or now; NULL: the group does not count. Give it back with gw_choose_leave. */
struct routing_target_load *gw_choose_claimed(struct gw_request *, uint32_t target);
void gw_choose_leave(struct gw_worker *, const struct routing_target_group *,
                     struct routing_target_load *); /* NULL is fine */
/* True: a connection to the target was reserved, and is the caller's. */
bool gw_choose_reserved(struct gw_request *, uint32_t target);
struct gw_pool_limits gw_choose_pool_limits(const struct routing_target_group *);
/* Whether a kept connection will not do for the request (pool.reuse, a PROXY header of its own). */
bool gw_choose_needs_new(const struct gw_request *);
/* Those of the route stand above those of the group; NULL: it has none. */
struct gw_client_timeouts gw_choose_timeouts(const struct routing_target_group *,
                                             const struct routing_route_timeouts_conf *);
/* Gives back what was claimed or reserved and not taken over. */
void gw_choose_forget(struct gw_request *);
