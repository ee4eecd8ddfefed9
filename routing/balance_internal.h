/* What balance.c and the algorithms share. Inside routing/ only. */
#pragma once
#include <string.h>
#include "gateway/base/hash.h"
#include "routing/balance.h"

enum { MAX_EXCLUDABLE = 64, WEIGHT_UNIT = 256 /* of member.weight: what slow start and mitigation leave in between */ };

struct turn {     /* balance_turns.c */
    uint64_t due; /* virtual time */
    uint32_t target;
    uint32_t rank; /* breaks ties: rotated by the seed */
};

/* The candidates of one tier (all, or the own zone and the others) and the state of whichever algorithm runs. */
struct ring {
    uint32_t *members; /* target indexes, ascending */
    uint32_t size;
    uint64_t sum; /* of their weights */
    bool is_uniform;
    bool *is_member; /* by target */
    /* turns */
    struct turn *heap, *aside;
    uint32_t heap_size;
    bool *is_in_heap;
    uint64_t now; /* virtual time: due of the last turn */
    /* least outstanding */
    uint32_t next;    /* position in members where the next look starts */
    int64_t *credits; /* by target: smooth weighted round robin among equals */
    /* random: alias table over members */
    uint32_t *alias, *threshold;
    /* hash */
    uint32_t *full;           /* by target: its weight were it fit and warm, in WEIGHT_UNIT; 0: not of this tier */
    uint32_t *tier, num_tier; /* targets with such a weight, ascending */
    uint32_t heaviest;
    uint32_t *base, *slots; /* whose slots they are were all fit, and are now */
    uint32_t num_slots;
    uint64_t base_sum;
    bool slots_are_made;
};

struct routing_balancer {
    const struct routing_target_group *group;
    enum routing_algorithm algorithm;
    uint32_t seed, size, max_requests;
    uint64_t rng;
    uint32_t *weights; /* configured; copies: the group we have seen may be gone when a new one is bound */
    uint64_t *names;   /* hashed, copies too */
    /* as of the last look */
    struct routing_group_live *live; /* NULL: nothing changes */
    uint32_t version;
    bool has_looked;
    bool is_failing_open;
    bool has_zones;         /* the second ring is there */
    uint64_t look_again_ms; /* UINT64_MAX: not before something changes */
    uint32_t fit, registered;
    uint32_t *effective; /* weight of each target in WEIGHT_UNIT; 0: no candidate */
    double local_share;  /* of requests that go to rings[0]; 1: there is only that one */
    struct ring rings[2];
};

static inline uint64_t balance_random(struct routing_balancer *self)
{
    return gw_mix64(self->rng += UINT64_C(0x9e3779b97f4a7c15));
}
/* Uniform below n. */
static inline uint64_t balance_random_below(struct routing_balancer *self, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)balance_random(self) * n) >> 64);
}
static inline bool balance_is_excluded(const struct routing_pick *pick, uint32_t target)
{
    return target < MAX_EXCLUDABLE && (pick->exclude & UINT64_C(1) << target) != 0;
}
static inline bool balance_is_busy(const struct routing_balancer *self, uint32_t target)
{
    return __builtin_expect(self->max_requests != 0, 0) &&
           routing_target_in_flight(self->group->targets[target].load) >= self->max_requests;
}
static inline bool balance_is_out(const struct routing_balancer *self, const struct routing_pick *pick, uint32_t target)
{
    return __builtin_expect(pick->exclude != 0 && balance_is_excluded(pick, target), 0) ||
           balance_is_busy(self, target);
}

/* Each algorithm: made after every look at the candidates, picks one of the ring's members or ROUTING_NO_TARGET. */
void balance_turns_update(struct routing_balancer *, struct ring *);
uint32_t balance_turns_pick(struct routing_balancer *, struct ring *, const struct routing_pick *);
uint32_t balance_least_pick(struct routing_balancer *, struct ring *, const struct routing_pick *);
void balance_random_update(struct routing_balancer *, struct ring *);
uint32_t balance_random_pick(struct routing_balancer *, struct ring *, const struct routing_pick *);
uint32_t balance_two_choices_pick(struct routing_balancer *, struct ring *, const struct routing_pick *);
void balance_hash_update(struct routing_balancer *, struct ring *);
uint32_t balance_hash_pick(struct routing_balancer *, struct ring *, const struct routing_pick *);
