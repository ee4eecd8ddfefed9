/* Which target of a group gets the request. A balancer is one thread's mutable state for one group; it survives reloads
 * when the targets are the same. Picks allocate nothing, unless a target's standing changed since the last one.
 *
 * What a pick sees: routing_balancer.c keeps the candidates, which are looked at anew only when the group's version
 * moves (routing/target_load.h); among them one of the algorithms chooses (balance_turns.c, balance_least.c,
 * balance_random.c, balance_hash.c). */
#pragma once
#include "routing/facts.h"
#include "routing/target_group.h"
#include "gateway/base/trace.h"

struct routing_balancer;
/* seed staggers threads, so that they do not start on the same target, and draws their random numbers. */
struct routing_balancer *routing_balancer_create(const struct routing_target_group *, uint32_t seed);
void routing_balancer_destroy(struct routing_balancer *);
/* The group of a new snapshot: keeps the rotation when addresses and weights are unchanged. */
void routing_balancer_rebind(struct routing_balancer *, const struct routing_target_group *);

enum {
    ROUTING_NO_TARGET = UINT32_MAX,        /* nobody may be asked */
    ROUTING_BUSY_TARGETS = UINT32_MAX - 1, /* all who may be are at target_limits.requests */
};
/* Of a request, as far as a pick goes by it. Zeroed is fine for most. */
struct routing_pick {
    uint64_t exclude; /* bit set of target indexes already tried (indexes >= 64 cannot be excluded) */
    uint64_t now_ms;  /* monotonic */
    uint64_t key;     /* of consistent_hash */
    bool has_key;
};
/* One of the targets that are healthy (or unchecked); when fewer are than minimum_healthy, one of all (fail-open,
 * spec/alb.md 3.6). A group without targets or with all weights 0, or all of them excluded: ROUTING_NO_TARGET. */
uint32_t routing_balancer_pick(struct routing_balancer *, const struct routing_pick *, struct gw_trace *);

/* Whether a target would be one of the candidates of a pick now: what a sticky request asks. */
bool routing_balancer_may_take(struct routing_balancer *, uint32_t target, uint64_t now_ms);
/* Whether it has as many requests as target_limits lets it have. */
bool routing_balancer_is_busy(const struct routing_balancer *, uint32_t target);
/* How many targets are fit, of how many that are registered (have a weight and are not draining). */
void routing_balancer_count(struct routing_balancer *, uint64_t now_ms, uint32_t *fit, uint32_t *registered);
static inline bool routing_is_below(const struct routing_minimum_conf *minimum, uint32_t fit, uint32_t registered)
{
    return fit < minimum->targets || (double)fit * 100 < minimum->percent * registered;
}

/* What consistent hashing and source_ip stickiness go by. False: the request does not have it. */
bool routing_balance_key(const struct routing_target_group_conf *, const struct routing_facts *, uint64_t *key);
/* The same for every pick: does the group look at keys, does it count requests under way? */
bool routing_balance_uses_key(const struct routing_target_group_conf *);
bool routing_balance_counts(const struct routing_target_group_conf *);
const char *routing_balance_name(const struct routing_target_group_conf *);
/* The first cookie of a name that the request carries. */
bool routing_balance_cookie(const struct routing_facts *, h2o_iovec_t name, h2o_iovec_t *value);
/* Not for secrets, but nobody outside can choose texts that meet. */
uint64_t routing_balance_hash(h2o_iovec_t text, uint64_t seed);

/* Weighted choice between groups of a forward action: index into weights drawn by a number uniform in [0, 2^32);
 * ROUTING_NO_TARGET when all weights are 0. */
uint32_t routing_weighted_choice(const uint32_t *weights, size_t n, uint32_t random);
