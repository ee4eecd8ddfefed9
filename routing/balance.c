/* The candidates of a group, and the pick among them. */
#include <assert.h>
#include <stdio.h>
#include <h2o/string_.h>
#include "routing/balance_internal.h"
#include "routing/slow_start.h"

/* ---- the settings that matter; a group without a configuration (tests) has the defaults ---- */

static const struct routing_target_group_conf *conf_of(const struct routing_target_group *group)
{
    static const struct routing_target_group_conf defaults = {.minimum_healthy = {.targets = 1}};
    return group->conf != NULL ? group->conf : &defaults;
}

static enum routing_algorithm algorithm_of(const struct routing_target_group_conf *conf)
{
    if (conf->stickiness != NULL && conf->stickiness->source_ip)
        return ROUTING_CONSISTENT_HASH;
    return (enum routing_algorithm)conf->algorithm.type;
}

bool routing_balance_counts(const struct routing_target_group_conf *conf)
{
    int type = conf->algorithm.type;
    return type == ROUTING_LEAST_OUTSTANDING || type == ROUTING_RANDOM_TWO_CHOICES || type == ROUTING_PEAK_EWMA ||
           routing_max_requests(conf) != 0;
}

const char *routing_balance_name(const struct routing_target_group_conf *conf)
{
    static const char *const names[] = {"round_robin",        "least_outstanding_requests",
                                        "random_two_choices", "weighted_random",
                                        "peak_ewma",          "consistent_hash"};
    return names[algorithm_of(conf)];
}

/* ---- who takes part ---- */

static enum routing_health_state state_of(const struct routing_balancer *self, uint32_t target)
{
    return routing_health_state(self->group->targets[target].health);
}

/* Configured, or set by an operator meanwhile. */
static uint32_t weight_of(const struct routing_balancer *self, uint32_t target)
{
    return routing_health_weight(self->group->targets[target].health, self->weights[target]);
}

/* spec/alb.md 3.6: when too few are fit everybody who is registered takes part, those not checked yet too. A target
 * that a reload took away is still there for the requests of the configuration before it. */
static bool is_registered(const struct routing_balancer *self, uint32_t target)
{
    const struct routing_health *health = self->group->targets[target].health;
    return weight_of(self, target) != 0 && (routing_health_override(health) & ROUTING_OVERRIDE_DRAIN) == 0 &&
           routing_health_checked_state(health) != ROUTING_HEALTH_DRAINING;
}

static bool is_fit(const struct routing_balancer *self, uint32_t target)
{
    return weight_of(self, target) != 0 && routing_health_is_fit(self->group->targets[target].health);
}

/* Of another zone, where only the own one counts. */
static bool is_foreign(const struct routing_balancer *self, uint32_t target)
{
    return conf_of(self->group)->zones.mode == ROUTING_ZONES_ONLY && !self->group->targets[target].is_local;
}

static uint32_t full_weight(const struct routing_balancer *self, uint32_t target)
{
    return weight_of(self, target) * WEIGHT_UNIT;
}

static uint32_t effective_weight(struct routing_balancer *self, uint32_t target, uint64_t now_ms)
{
    const struct routing_target_group_conf *conf = conf_of(self->group);
    const struct routing_health *health = self->group->targets[target].health;
    uint64_t weight = full_weight(self, target);
    uint32_t share = __atomic_load_n((const uint32_t *)&health->share, __ATOMIC_RELAXED);
    uint32_t ramp;

    if (self->algorithm == ROUTING_WEIGHTED_RANDOM && share != 0)
        weight = weight * share / ROUTING_SHARE_ALL;
    if (conf->slow_start_ms != 0 &&
        (ramp = routing_slow_start_share(health, now_ms, conf->slow_start_ms)) != ROUTING_SHARE_ALL) {
        weight = weight * ramp / ROUTING_SHARE_ALL;
        uint64_t again_ms = now_ms + (conf->slow_start_ms / 50 < 100 ? 100 : conf->slow_start_ms / 50);
        if (again_ms < self->look_again_ms)
            self->look_again_ms = again_ms;
    }
    return weight != 0 ? (uint32_t)weight : 1;
}

static void count_fit(struct routing_balancer *self)
{
    self->fit = self->registered = 0;
    for (uint32_t i = 0; i != self->size; ++i) {
        if (is_foreign(self, i) || !is_registered(self, i))
            continue;
        ++self->registered;
        self->fit += is_fit(self, i);
    }
}

/* Which share of the requests stays in the own zone: all, as long as spill_below of its targets are fit. */
static double local_share(const struct routing_balancer *self)
{
    const struct routing_zones_conf *zones = &conf_of(self->group)->zones;
    uint32_t registered = 0, fit = 0;

    if (zones->mode != ROUTING_ZONES_PREFER || self->is_failing_open)
        return 1;
    for (uint32_t i = 0; i != self->size; ++i)
        if (self->group->targets[i].is_local && is_registered(self, i)) {
            ++registered;
            fit += is_fit(self, i);
        }
    if (fit == 0)
        return 0;
    if (fit == self->fit)
        return 1; /* there are no others */
    double share = (double)fit * 100 / (registered * zones->spill_below);
    return share < 1 ? share : 1;
}

/* What a target has when it is fit and warm. No less than what it takes part with: its state may have changed since
 * that was looked at, and who takes part has slots. */
static uint32_t whole_weight(const struct routing_balancer *self, uint32_t target)
{
    uint32_t whole = !is_foreign(self, target) && is_registered(self, target) ? full_weight(self, target) : 0;
    return whole > self->effective[target] ? whole : self->effective[target];
}

static void fill_ring(struct routing_balancer *self, struct ring *ring, bool has_local, bool has_others)
{
    uint32_t first = 0;

    ring->size = 0;
    ring->sum = 0;
    ring->is_uniform = true;
    for (uint32_t i = 0; i != self->size; ++i) {
        bool is_of_tier = self->group->targets[i].is_local ? has_local : has_others;
        ring->is_member[i] = self->effective[i] != 0 && is_of_tier;
        if (ring->full != NULL)
            ring->full[i] = is_of_tier ? whole_weight(self, i) : 0;
        if (!ring->is_member[i])
            continue;
        ring->members[ring->size++] = i;
        ring->sum += self->effective[i];
        first = first != 0 ? first : self->effective[i];
        ring->is_uniform = ring->is_uniform && self->effective[i] == first;
    }
    switch (self->algorithm) {
    case ROUTING_ROUND_ROBIN:
        balance_turns_update(self, ring);
        break;
    case ROUTING_LEAST_OUTSTANDING:
        break;
    case ROUTING_CONSISTENT_HASH:
        balance_hash_update(self, ring);
        break;
    default:
        balance_random_update(self, ring);
    }
}

/* Looks at every target: after something changed, or while a slow start goes on. */
static void look(struct routing_balancer *self, uint64_t now_ms)
{
    const struct routing_target_group_conf *conf = conf_of(self->group);

    if (self->live != NULL) /* before the states, so that what changes from now on is seen by the next pick */
        self->version = __atomic_load_n((uint32_t *)&self->live->version, __ATOMIC_ACQUIRE);
    self->has_looked = true;
    self->look_again_ms = UINT64_MAX;
    count_fit(self);
    self->is_failing_open = routing_is_below(&conf->minimum_healthy, self->fit, self->registered);
    for (uint32_t i = 0; i != self->size; ++i) {
        bool belongs = !is_foreign(self, i) && (self->is_failing_open ? is_registered(self, i) : is_fit(self, i));
        self->effective[i] = belongs ? effective_weight(self, i, now_ms) : 0;
    }
    self->local_share = local_share(self);
    bool is_split = conf->zones.mode == ROUTING_ZONES_PREFER && !self->is_failing_open;
    fill_ring(self, &self->rings[0], true, !is_split);
    if (self->has_zones)
        fill_ring(self, &self->rings[1], false, is_split);
}

static inline void look_if_needed(struct routing_balancer *self, uint64_t now_ms)
{
    if (__builtin_expect(!self->has_looked, 0) ||
        (self->live != NULL &&
         __builtin_expect(__atomic_load_n((uint32_t *)&self->live->version, __ATOMIC_RELAXED) != self->version, 0)) ||
        __builtin_expect(now_ms >= self->look_again_ms, 0))
        look(self, now_ms);
}

/* ---- life ---- */

static void dispose_ring(struct ring *ring)
{
    free(ring->members);
    free(ring->is_member);
    free(ring->heap);
    free(ring->aside);
    free(ring->is_in_heap);
    free(ring->credits);
    free(ring->alias);
    free(ring->threshold);
    free(ring->full);
    free(ring->tier);
    free(ring->base);
    free(ring->slots);
}

static void unbind_group(struct routing_balancer *self)
{
    free(self->names);
    free(self->weights);
    free(self->effective);
    dispose_ring(&self->rings[0]);
    dispose_ring(&self->rings[1]);
    memset(self->rings, 0, sizeof(self->rings));
}

static void *zeroed(uint32_t n, size_t size)
{
    void *p = h2o_mem_alloc((n + 1) * size);
    memset(p, 0, (n + 1) * size);
    return p;
}

static void init_ring(const struct routing_balancer *self, struct ring *ring)
{
    uint32_t n = self->size;
    *ring = (struct ring){.members = zeroed(n, sizeof(*ring->members)),
                          .is_member = zeroed(n, sizeof(*ring->is_member)),
                          .now = -(UINT64_C(1) << 48)}; /* wraps early, so that it is nothing special when it wraps */
    switch (self->algorithm) {
    case ROUTING_ROUND_ROBIN:
        ring->heap = zeroed(n, sizeof(*ring->heap));
        ring->aside = zeroed(n, sizeof(*ring->aside));
        ring->is_in_heap = zeroed(n, sizeof(*ring->is_in_heap));
        break;
    case ROUTING_LEAST_OUTSTANDING:
        ring->credits = zeroed(n, sizeof(*ring->credits));
        ring->next = n != 0 ? self->seed % n : 0;
        break;
    case ROUTING_CONSISTENT_HASH:
        ring->full = zeroed(n, sizeof(*ring->full));
        ring->tier = zeroed(n, sizeof(*ring->tier));
        break;
    default:
        ring->alias = zeroed(n, sizeof(*ring->alias));
        ring->threshold = zeroed(n, sizeof(*ring->threshold));
    }
}

/* What is not copied is asked of the group anew. */
static void adopt(struct routing_balancer *self, const struct routing_target_group *group)
{
    self->group = group;
    self->live = group->size != 0 ? group->targets[0].health->group : NULL;
    self->max_requests = routing_max_requests(conf_of(group));
    self->has_looked = false;
}

static void bind_group(struct routing_balancer *self, const struct routing_target_group *group)
{
    uint32_t n = group->size;
    self->algorithm = algorithm_of(conf_of(group));
    self->size = n;
    self->names = zeroed(n, sizeof(*self->names));
    self->weights = zeroed(n, sizeof(*self->weights));
    self->effective = zeroed(n, sizeof(*self->effective));
    for (uint32_t i = 0; i != n; ++i) {
        self->names[i] = routing_balance_hash(group->targets[i].name, 0);
        self->weights[i] = group->targets[i].weight;
    }
    self->has_zones = conf_of(group)->zones.mode == ROUTING_ZONES_PREFER;
    init_ring(self, &self->rings[0]);
    if (self->has_zones)
        init_ring(self, &self->rings[1]);
    adopt(self, group);
}

struct routing_balancer *routing_balancer_create(const struct routing_target_group *group, uint32_t seed)
{
    struct routing_balancer *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    self->seed = seed;
    self->rng = routing_balance_hash(group->name, seed);
    bind_group(self, group);
    return self;
}

void routing_balancer_destroy(struct routing_balancer *self)
{
    if (self == NULL)
        return;
    unbind_group(self);
    free(self);
}

void routing_balancer_rebind(struct routing_balancer *self, const struct routing_target_group *group)
{
    bool is_same = group->size == self->size && algorithm_of(conf_of(group)) == self->algorithm &&
                   (conf_of(group)->zones.mode == ROUTING_ZONES_PREFER) == self->has_zones;
    for (uint32_t i = 0; is_same && i != self->size; ++i)
        is_same = group->targets[i].weight == self->weights[i] &&
                  routing_balance_hash(group->targets[i].name, 0) == self->names[i];
    if (is_same) {
        adopt(self, group);
        return;
    }
    unbind_group(self);
    ++self->seed; /* many reloads in a row must not send the first request after each to the same target */
    bind_group(self, group);
}

/* ---- explaining ---- */

static const struct gw_node *node_of(const struct routing_target_group *group, uint32_t target)
{
    if (group->conf == NULL)
        return NULL;
    if (group->dynamic == NULL && group->conf->targets.size == group->size)
        return ((const struct routing_target_conf *)group->conf->targets.entries[target])->at;
    return group->conf->at;
}

/* Why a target did not take part; NULL: it did. */
static const char *why_lost(const struct routing_balancer *self, const struct routing_pick *pick, uint32_t target)
{
    const struct routing_health *health = self->group->targets[target].health;
    uint32_t override = routing_health_override(health);

    if (balance_is_excluded(pick, target))
        return "was tried already";
    if ((override & ROUTING_OVERRIDE_DRAIN) != 0)
        return "is drained by an operator";
    if (weight_of(self, target) == 0)
        return (override & ROUTING_OVERRIDE_WEIGHT) != 0 ? "has weight 0, set by an operator" : "has weight 0";
    if (is_foreign(self, target))
        return "stands in another zone";
    if (self->effective[target] != 0 && self->rings[1].is_member != NULL && self->rings[1].is_member[target] &&
        self->local_share >= 1)
        return "stands in another zone, and all requests stay in this one";
    if (self->effective[target] != 0)
        return balance_is_busy(self, target) ? "has as many requests as it may" : NULL;
    switch (state_of(self, target)) {
    case ROUTING_HEALTH_INITIAL:
        return "is initial";
    case ROUTING_HEALTH_UNHEALTHY:
        return "is unhealthy";
    case ROUTING_HEALTH_DRAINING:
        return "is draining";
    case ROUTING_HEALTH_EJECTED:
        return "is ejected as an outlier";
    default:
        return "is not fit";
    }
}

static const char *describe(const struct routing_balancer *self, uint32_t target, char *buf, size_t len)
{
    const struct routing_target *t = &self->group->targets[target];
    bool is_set = (routing_health_override(t->health) & ROUTING_OVERRIDE_WEIGHT) != 0;
    uint32_t weight = weight_of(self, target);
    int n = snprintf(buf, len, "weight %u%s, %s", weight, is_set ? " set by an operator" : "",
                     routing_health_name(state_of(self, target)));

    if (self->has_zones && !t->is_local)
        n += snprintf(buf + n, len - n, ", in another zone");
    if (self->effective[target] != weight * WEIGHT_UNIT)
        n += snprintf(buf + n, len - n, ", at %.0f%% of it (%s)",
                      100.0 * self->effective[target] / ((double)weight * WEIGHT_UNIT),
                      __atomic_load_n((const uint64_t *)&t->health->ramp_from_ms, __ATOMIC_RELAXED) != 0 ? "slow start"
                                                                                                         : "anomalous");
    if (self->algorithm == ROUTING_LEAST_OUTSTANDING || self->algorithm == ROUTING_RANDOM_TWO_CHOICES ||
        self->algorithm == ROUTING_PEAK_EWMA || self->max_requests != 0)
        n += snprintf(buf + n, len - n, ", %u in flight", routing_target_in_flight(t->load));
    return buf;
}

static void trace_target(const struct routing_balancer *self, const struct routing_pick *pick, uint32_t target,
                         uint32_t picked, struct gw_trace *trace)
{
    const struct routing_target *t = &self->group->targets[target];
    const char *why = why_lost(self, pick, target);
    char how[160];

    if (target == picked)
        return;
    if (why != NULL)
        gw_trace_write(trace, "target", node_of(self->group, target), "target \"%.*s\" lost: it %s", (int)t->name.len,
                       t->name.base, why);
    else if (self->group->conf != NULL)
        gw_trace_write(trace, "target", node_of(self->group, target), "target \"%.*s\" is a candidate (%s)",
                       (int)t->name.len, t->name.base, describe(self, target, how, sizeof(how)));
}

/* Before the first checks. */
static bool is_nobody_known(const struct routing_balancer *self)
{
    for (uint32_t i = 0; i != self->size; ++i)
        if (self->effective[i] != 0 && state_of(self, i) != ROUTING_HEALTH_INITIAL)
            return false;
    return true;
}

static void trace_pick(const struct routing_balancer *self, const struct routing_pick *pick, uint32_t picked,
                       struct gw_trace *trace)
{
    enum { MAX_LINES = 50 };
    const struct routing_target_group *group = self->group;
    const struct routing_target_group_conf *conf = group->conf;
    bool is_by_ip = conf != NULL && conf->stickiness != NULL && conf->stickiness->source_ip;
    uint32_t candidates = self->rings[0].size + (self->local_share < 1 ? self->rings[1].size : 0);
    char how[160];

    if (conf != NULL)
        gw_trace_write(trace, "algorithm",
                       is_by_ip                     ? conf->stickiness->at
                       : conf->algorithm.at != NULL ? conf->algorithm.at
                                                    : conf->at,
                       "%s among %u of %u targets%s", routing_balance_name(conf), candidates, self->size,
                       is_by_ip                                     ? ", by the client's address (stickiness)"
                       : self->algorithm != ROUTING_CONSISTENT_HASH ? ""
                       : pick->has_key                              ? ", by the request's key"
                                                                    : ", at random: the request has no key");
    if (self->local_share < 1)
        gw_trace_write(trace, "algorithm", conf->zones.at, "%.0f%% of the requests stay in the zone",
                       self->local_share * 100);
    for (uint32_t i = 0; i != self->size && i != MAX_LINES; ++i)
        trace_target(self, pick, i, picked, trace);
    if (picked >= self->size) {
        gw_trace_write(trace, "target", conf != NULL ? conf->at : NULL, "target group \"%.*s\" has no target%s",
                       (int)group->name.len, group->name.base,
                       picked == ROUTING_BUSY_TARGETS ? " with room for the request" : " for the request");
        return;
    }
    gw_trace_write(trace, "target", node_of(group, picked), "target \"%.*s\" %s \"%.*s\" (%s%s)",
                   (int)group->targets[picked].name.len, group->targets[picked].name.base,
                   self->algorithm == ROUTING_ROUND_ROBIN ? "takes its turn of" : "is chosen from",
                   (int)group->name.len, group->name.base, describe(self, picked, how, sizeof(how)),
                   !self->is_failing_open  ? ""
                   : is_nobody_known(self) ? "; no target has been checked yet, so all take part"
                   : self->fit == 0        ? "; no target is healthy, so all take part"
                                           : "; too few targets are healthy, so all take part");
}

/* ---- picking ---- */

static inline uint32_t pick_from(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    switch (self->algorithm) {
    case ROUTING_ROUND_ROBIN:
        return balance_turns_pick(self, ring, pick);
    case ROUTING_LEAST_OUTSTANDING:
        return balance_least_pick(self, ring, pick);
    case ROUTING_WEIGHTED_RANDOM:
        return balance_random_pick(self, ring, pick);
    case ROUTING_RANDOM_TWO_CHOICES:
    case ROUTING_PEAK_EWMA:
        return balance_two_choices_pick(self, ring, pick);
    case ROUTING_CONSISTENT_HASH:
        return balance_hash_pick(self, ring, pick);
    }
    return ROUTING_NO_TARGET;
}

static bool is_anybody_busy(const struct routing_balancer *self, const struct routing_pick *pick)
{
    for (uint32_t i = 0; i != self->size; ++i)
        if (self->effective[i] != 0 && !balance_is_excluded(pick, i))
            return true;
    return false;
}

/* With zones: the own one or the others, and then whoever is left. */
static uint32_t pick_by_zone(struct routing_balancer *self, const struct routing_pick *pick)
{
    bool spills = self->local_share < 1 && gw_unit_interval(balance_random(self)) >= self->local_share;
    uint32_t picked = pick_from(self, &self->rings[spills], pick);
    return picked != ROUTING_NO_TARGET ? picked : pick_from(self, &self->rings[!spills], pick);
}

uint32_t routing_balancer_pick(struct routing_balancer *self, const struct routing_pick *pick, struct gw_trace *trace)
{
    uint32_t picked;

    if (__builtin_expect(trace != NULL, 0))
        self->has_looked = false;
    look_if_needed(self, pick->now_ms);
    if (__builtin_expect(self->rings[1].size == 0, 1))
        picked = pick_from(self, &self->rings[0], pick);
    else
        picked = pick_by_zone(self, pick);
    if (__builtin_expect(picked == ROUTING_NO_TARGET, 0) && self->max_requests != 0 && is_anybody_busy(self, pick))
        picked = ROUTING_BUSY_TARGETS;
    if (__builtin_expect(trace != NULL, 0))
        trace_pick(self, pick, picked, trace);
    return picked;
}

bool routing_balancer_may_take(struct routing_balancer *self, uint32_t target, uint64_t now_ms)
{
    look_if_needed(self, now_ms);
    return target < self->size && self->effective[target] != 0;
}

bool routing_balancer_is_busy(const struct routing_balancer *self, uint32_t target)
{
    return balance_is_busy(self, target);
}

void routing_balancer_count(struct routing_balancer *self, uint64_t now_ms, uint32_t *fit, uint32_t *registered)
{
    look_if_needed(self, now_ms);
    *fit = self->fit;
    *registered = self->registered;
}

uint32_t routing_weighted_choice(const uint32_t *weights, size_t n, uint32_t random)
{
    uint64_t sum = 0;
    for (size_t i = 0; i != n; ++i)
        sum += weights[i];
    uint64_t at = (uint64_t)(((unsigned __int128)sum * random) >> 32);
    for (size_t i = 0; i != n; ++i) {
        if (at < weights[i])
            return (uint32_t)i;
        at -= weights[i];
    }
    return ROUTING_NO_TARGET; /* every weight is 0 */
}
