#include <assert.h>
#include <string.h>
#include <h2o/string_.h>
#include "routing/balance.h"

/* Earliest deadline first: each target is due again one stride (inverse of its weight) after its last turn, a heap
 * keeps the next one on top. The shares are exact for any weights and the turns of a target are spread evenly, as with
 * nginx's smooth round robin, but a pick costs O(log n) instead of O(n), so that 1,000 targets cost little more than 3.
 *
 * Health is read where it is needed: a target that comes up for its turn while unfit leaves the heap, and each pick
 * looks at the next few targets in a circle to find those that became fit again (all of them in groups up to
 * SCANNED_PER_PICK). */
enum { SCANNED_PER_PICK = 8, MAX_EXCLUDABLE = 64 };

/* Of a target with weight 1, in units of virtual time. Dues are at most a stride apart, so that they may wrap around.
 */
static const uint64_t STRIDE = UINT64_C(1) << 36;

struct turn {
    uint64_t due; /* virtual time */
    uint32_t target;
    uint32_t rank; /* breaks ties: rotated by the seed */
};
struct routing_balancer {
    const struct routing_target_group *group;
    uint32_t seed, size;
    uint32_t *weights; /* copies: the group we have seen may be gone when a new one is bound */
    h2o_iovec_t *names;
    struct turn *heap;
    uint32_t heap_size;
    bool *is_in_heap;
    bool is_failing_open; /* the heap holds the unfit as well, because there are no others */
    uint32_t scan_at;
    uint64_t now; /* virtual time: due of the last turn */
};

/* ---- heap ---- */

static bool is_before(const struct turn *a, const struct turn *b)
{
    int64_t apart = (int64_t)(a->due - b->due);
    return apart < 0 || (apart == 0 && a->rank < b->rank);
}

static void sift_up(struct routing_balancer *self, uint32_t at)
{
    struct turn turn = self->heap[at];
    while (at != 0 && is_before(&turn, self->heap + (at - 1) / 2)) {
        self->heap[at] = self->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    self->heap[at] = turn;
}

static void sift_down(struct routing_balancer *self, uint32_t at)
{
    struct turn turn = self->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= self->heap_size)
            break;
        if (child + 1 < self->heap_size && is_before(self->heap + child + 1, self->heap + child))
            ++child;
        if (!is_before(self->heap + child, &turn))
            break;
        self->heap[at] = self->heap[child];
        at = child;
    }
    self->heap[at] = turn;
}

static void push(struct routing_balancer *self, struct turn turn)
{
    assert(self->heap_size < self->size);
    self->heap[self->heap_size++] = turn;
    self->is_in_heap[turn.target] = true;
    sift_up(self, self->heap_size - 1);
}

static struct turn pop(struct routing_balancer *self)
{
    struct turn top = self->heap[0];
    self->heap[0] = self->heap[--self->heap_size];
    if (self->heap_size != 0)
        sift_down(self, 0);
    self->is_in_heap[top.target] = false;
    return top;
}

/* ---- who takes part ---- */

static enum routing_health_state state_of(const struct routing_balancer *self, uint32_t target)
{
    return routing_health_state(self->group->targets[target].health);
}

/* Configured, or set by an operator meanwhile; it lies beside the state, which is read anyway. A turn that was planned
 * with the weight before is taken as planned, later ones follow the new weight. */
static uint32_t weight_of(const struct routing_balancer *self, uint32_t target)
{
    return routing_health_weight(self->group->targets[target].health, self->weights[target]);
}

static bool is_fit(const struct routing_balancer *self, uint32_t target)
{
    enum routing_health_state state = state_of(self, target);
    return weight_of(self, target) != 0 && (state == ROUTING_HEALTH_HEALTHY || state == ROUTING_HEALTH_UNCHECKED);
}

/* spec/alb.md 3.6: when nobody is fit everybody who is registered takes part, those not checked yet too. */
static bool may_fail_open_to(const struct routing_balancer *self, uint32_t target)
{
    return weight_of(self, target) != 0 && state_of(self, target) != ROUTING_HEALTH_DRAINING;
}

static bool belongs(const struct routing_balancer *self, uint32_t target)
{
    return self->is_failing_open ? may_fail_open_to(self, target) : is_fit(self, target);
}

static uint64_t stride_of(const struct routing_balancer *self, uint32_t target)
{
    uint32_t weight = weight_of(self, target);
    return STRIDE / (weight != 0 ? weight : 1); /* 0: set by an operator since the target was found fit */
}

/* Half a stride to the first turn spreads light targets between the turns of heavy ones from the start. */
static void enter(struct routing_balancer *self, uint32_t target)
{
    uint32_t rank = (target + self->size - self->seed % self->size) % self->size;
    push(self, (struct turn){self->now + stride_of(self, target) / 2, target, rank});
}

static void fill(struct routing_balancer *self)
{
    self->heap_size = 0;
    memset(self->is_in_heap, 0, self->size * sizeof(*self->is_in_heap));
    for (uint32_t i = 0; i != self->size; ++i)
        if (belongs(self, i))
            enter(self, i);
}

static bool has_fit_target(const struct routing_balancer *self)
{
    for (uint32_t i = 0; i != self->size; ++i)
        if (is_fit(self, i))
            return true;
    return false;
}

static void change_mode(struct routing_balancer *self, bool is_failing_open)
{
    self->is_failing_open = is_failing_open;
    fill(self);
}

static void scan(struct routing_balancer *self)
{
    uint32_t n = self->size < SCANNED_PER_PICK ? self->size : SCANNED_PER_PICK;
    for (uint32_t i = 0; i != n; ++i) {
        uint32_t target = self->scan_at;
        self->scan_at = target + 1 == self->size ? 0 : target + 1;
        if (self->is_in_heap[target] && !self->is_failing_open)
            continue;
        if (self->is_failing_open && is_fit(self, target)) {
            change_mode(self, false);
            return;
        }
        if (!self->is_in_heap[target] && belongs(self, target))
            enter(self, target);
    }
}

/* ---- life ---- */

static void unbind_group(struct routing_balancer *self)
{
    for (uint32_t i = 0; i != self->size; ++i)
        free(self->names[i].base);
    free(self->names);
    free(self->weights);
    free(self->heap);
    free(self->is_in_heap);
}

static void bind_group(struct routing_balancer *self, const struct routing_target_group *group)
{
    uint32_t n = group->size;
    self->group = group;
    self->size = n;
    self->names = h2o_mem_alloc((n + 1) * sizeof(*self->names));
    self->weights = h2o_mem_alloc((n + 1) * sizeof(*self->weights));
    self->heap = h2o_mem_alloc((n + 1) * sizeof(*self->heap));
    self->is_in_heap = h2o_mem_alloc((n + 1) * sizeof(*self->is_in_heap));
    self->heap_size = 0;
    self->scan_at = 0;
    self->now = -(STRIDE << 4); /* wraps early, so that it is nothing special when it wraps */
    for (uint32_t i = 0; i != n; ++i) {
        self->names[i] = h2o_strdup(NULL, group->targets[i].name.base, group->targets[i].name.len);
        self->weights[i] = group->targets[i].weight;
    }
    change_mode(self, false);
}

struct routing_balancer *routing_balancer_create(const struct routing_target_group *group, uint32_t seed)
{
    struct routing_balancer *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    self->seed = seed;
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
    bool is_same = group->size == self->size;
    for (uint32_t i = 0; is_same && i != self->size; ++i)
        is_same =
            group->targets[i].weight == self->weights[i] &&
            h2o_memis(group->targets[i].name.base, group->targets[i].name.len, self->names[i].base, self->names[i].len);
    if (is_same) {
        self->group = group;
        return;
    }
    unbind_group(self);
    ++self->seed; /* many reloads in a row must not send the first request after each to the same target */
    bind_group(self, group);
}

/* ---- picking ---- */

static bool is_excluded(uint64_t exclude, uint32_t target)
{
    return target < MAX_EXCLUDABLE && (exclude & UINT64_C(1) << target) != 0;
}

/* The next turn of a target that belongs and is not excluded. Excluded ones keep their turn for the next request. */
static uint32_t take_turn(struct routing_balancer *self, uint64_t exclude)
{
    struct turn kept[MAX_EXCLUDABLE];
    unsigned num_kept = 0;
    uint32_t picked = ROUTING_NO_TARGET;

    while (self->heap_size != 0 && picked == ROUTING_NO_TARGET) {
        struct turn turn = pop(self);
        if (!belongs(self, turn.target))
            continue; /* scan() finds it when it is back */
        if (is_excluded(exclude, turn.target)) {
            kept[num_kept++] = turn;
            continue;
        }
        picked = turn.target;
        if ((int64_t)(turn.due - self->now) > 0)
            self->now = turn.due;
        turn.due += stride_of(self, turn.target);
        push(self, turn);
    }
    while (num_kept != 0)
        push(self, kept[--num_kept]);
    return picked;
}

static const struct gw_node *node_of(const struct routing_target_group *group, uint32_t target)
{
    if (group->conf == NULL)
        return NULL;
    if (group->conf->targets.size == group->size)
        return ((const struct routing_target_conf *)group->conf->targets.entries[target])->at;
    return group->conf->at;
}

/* Why a target did not take part; NULL: it did. */
static const char *why_lost(const struct routing_balancer *self, uint64_t exclude, uint32_t target)
{
    const struct routing_health *health = self->group->targets[target].health;
    uint32_t override = routing_health_override(health);

    if (is_excluded(exclude, target))
        return "was tried already";
    if ((override & ROUTING_OVERRIDE_DRAIN) != 0)
        return "is drained by an operator";
    if (weight_of(self, target) == 0)
        return (override & ROUTING_OVERRIDE_WEIGHT) != 0 ? "has weight 0, set by an operator" : "has weight 0";
    if (belongs(self, target))
        return NULL;
    switch (state_of(self, target)) {
    case ROUTING_HEALTH_INITIAL:
        return "is initial";
    case ROUTING_HEALTH_UNHEALTHY:
        return "is unhealthy";
    case ROUTING_HEALTH_DRAINING:
        return "is draining";
    default:
        return "is not fit";
    }
}

static void trace_pick(const struct routing_balancer *self, uint64_t exclude, uint32_t picked, struct gw_trace *trace)
{
    enum { MAX_LINES = 50 };
    const struct routing_target_group *group = self->group;
    unsigned lines = 0;

    for (uint32_t i = 0; i != self->size && lines != MAX_LINES; ++i) {
        const char *why = why_lost(self, exclude, i);
        if (why == NULL)
            continue;
        ++lines;
        gw_trace_write(trace, "target", node_of(group, i), "target \"%.*s\" lost: it %s",
                       (int)group->targets[i].name.len, group->targets[i].name.base, why);
    }
    if (picked == ROUTING_NO_TARGET) {
        gw_trace_write(trace, "target", group->conf != NULL ? group->conf->at : NULL,
                       "target group \"%.*s\" has no target for the request", (int)group->name.len, group->name.base);
        return;
    }
    const struct routing_target *target = group->targets + picked;
    bool is_set = (routing_health_override(target->health) & ROUTING_OVERRIDE_WEIGHT) != 0;
    gw_trace_write(trace, "target", node_of(group, picked),
                   "target \"%.*s\" takes its turn of \"%.*s\" (weight %u%s, %s%s)", (int)target->name.len,
                   target->name.base, (int)group->name.len, group->name.base, weight_of(self, picked),
                   is_set ? " set by an operator" : "", routing_health_name(state_of(self, picked)),
                   self->is_failing_open ? "; no target is healthy, so all take part" : "");
}

uint32_t routing_balancer_pick(struct routing_balancer *self, uint64_t exclude, struct gw_trace *trace)
{
    uint32_t picked = ROUTING_NO_TARGET;

    if (self->size != 0) {
        scan(self);
        picked = take_turn(self, exclude);
        if (self->heap_size == 0) { /* nobody we knew is fit any more, which needs a look at all */
            change_mode(self, !has_fit_target(self));
            picked = take_turn(self, exclude);
        }
    }
    if (__builtin_expect(trace != NULL, 0))
        trace_pick(self, exclude, picked, trace);
    return picked;
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
