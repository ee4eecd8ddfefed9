/* Algorithms that draw: weighted_random, random_two_choices and peak_ewma. */
#include "routing/balance_internal.h"

/* Walker's alias method as Vose builds it: any weights, O(1) to draw. Thresholds in 1/2^32. */
void balance_random_update(struct routing_balancer *self, struct ring *ring)
{
    uint32_t n = ring->size, num_small = 0, num_large = 0;
    if (n == 0)
        return;
    uint32_t *small = h2o_mem_alloc(2 * n * sizeof(*small)), *large = small + n;
    double *share = h2o_mem_alloc(n * sizeof(*share));

    for (uint32_t i = 0; i != n; ++i) {
        share[i] = (double)self->effective[ring->members[i]] * n / (double)ring->sum;
        if (share[i] < 1)
            small[num_small++] = i;
        else
            large[num_large++] = i;
    }
    while (num_small != 0 && num_large != 0) {
        uint32_t s = small[--num_small], l = large[--num_large];
        ring->threshold[s] = (uint32_t)(share[s] * UINT32_MAX);
        ring->alias[s] = l;
        share[l] -= 1 - share[s];
        if (share[l] < 1)
            small[num_small++] = l;
        else
            large[num_large++] = l;
    }
    while (num_large != 0)
        ring->threshold[large[--num_large]] = UINT32_MAX;
    while (num_small != 0) /* rounding left them */
        ring->threshold[small[--num_small]] = UINT32_MAX;
    for (uint32_t i = 0; i != n; ++i)
        if (ring->threshold[i] == UINT32_MAX)
            ring->alias[i] = i;
    free(share);
    free(small);
}

static uint32_t draw(struct routing_balancer *self, const struct ring *ring)
{
    uint64_t random = balance_random(self);
    uint32_t at = (uint32_t)((random >> 32) * ring->size >> 32);
    return ring->members[(uint32_t)random <= ring->threshold[at] ? at : ring->alias[at]];
}

/* When the first draws were of targets that are out: among those that are not. */
static uint32_t draw_among_free(struct routing_balancer *self, const struct ring *ring, const struct routing_pick *pick)
{
    uint64_t sum = 0, at;
    for (uint32_t i = 0; i != ring->size; ++i)
        if (!balance_is_out(self, pick, ring->members[i]))
            sum += self->effective[ring->members[i]];
    if (sum == 0)
        return ROUTING_NO_TARGET;
    at = balance_random_below(self, sum);
    for (uint32_t i = 0; i != ring->size; ++i) {
        uint32_t target = ring->members[i];
        if (balance_is_out(self, pick, target))
            continue;
        if (at < self->effective[target])
            return target;
        at -= self->effective[target];
    }
    return ROUTING_NO_TARGET; /* other threads filled one meanwhile */
}

uint32_t balance_random_pick(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    if (ring->size == 0)
        return ROUTING_NO_TARGET;
    uint32_t target = draw(self, ring);
    return __builtin_expect(balance_is_out(self, pick, target), 0) ? draw_among_free(self, ring, pick) : target;
}

/* What a request there costs: requests under way, for peak_ewma times the latency. */
static double cost_of(const struct routing_balancer *self, uint32_t target, uint64_t now_ms)
{
    const struct routing_target_load *load = self->group->targets[target].load;
    double in_flight = routing_target_in_flight(load);

    if (self->algorithm == ROUTING_PEAK_EWMA) {
        uint32_t latency_us = routing_target_latency_us(load, now_ms, self->group->conf->algorithm.decay_ms);
        /* unknown: worth a try, but one at a time until it has answered */
        in_flight = latency_us != 0 ? (in_flight + 1) * latency_us : in_flight == 0 ? 0 : 1e9 * in_flight;
    }
    return in_flight / self->effective[target];
}

/* Two that differ, drawn by weight; the first wins a tie, so that weights count when nothing is under way. */
uint32_t balance_two_choices_pick(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    enum { DRAWS = 4 };
    uint32_t first = balance_random_pick(self, ring, pick), second = first;

    if (first == ROUTING_NO_TARGET || ring->size == 1)
        return first;
    for (unsigned i = 0; i != DRAWS && second == first; ++i)
        second = draw(self, ring);
    if (second == first) /* a heavy one: its neighbour, whoever that is */
        for (uint32_t i = 0; i != ring->size; ++i)
            if (ring->members[i] == first)
                second = ring->members[i + 1 == ring->size ? 0 : i + 1];
    if (balance_is_out(self, pick, second))
        return first;
    return cost_of(self, second, pick->now_ms) < cost_of(self, first, pick->now_ms) ? second : first;
}
