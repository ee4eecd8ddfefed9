/* Which target of a group gets the request. A balancer is one thread's mutable state for one group; it survives reloads
 * when the targets are the same. Picks allocate nothing. */
#pragma once
#include "routing/target_group.h"
#include "gateway/base/trace.h"

struct routing_balancer;
/* seed staggers threads so that they do not start on the same target. */
struct routing_balancer *routing_balancer_create(const struct routing_target_group *, uint32_t seed);
void routing_balancer_destroy(struct routing_balancer *);
/* The group of a new snapshot: keeps the rotation when addresses and weights are unchanged. */
void routing_balancer_rebind(struct routing_balancer *, const struct routing_target_group *);

enum { ROUTING_NO_TARGET = UINT32_MAX };
/* Smooth weighted round robin (O(log n)) over targets that are healthy (or unchecked); when none is, over all
 * (fail-open, spec/alb.md 3.6). exclude: bit set of target indexes already tried (indexes >= 64 cannot be excluded);
 * when every candidate is excluded the answer is ROUTING_NO_TARGET. A group without targets or with all weights 0:
 * ROUTING_NO_TARGET. */
uint32_t routing_balancer_pick(struct routing_balancer *, uint64_t exclude, struct gw_trace *);

/* Weighted choice between groups of a forward action: index into weights drawn by a number uniform in [0, 2^32);
 * ROUTING_NO_TARGET when all weights are 0. */
uint32_t routing_weighted_choice(const uint32_t *weights, size_t n, uint32_t random);
