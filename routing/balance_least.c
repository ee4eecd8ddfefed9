/* The fewest requests under way for its weight; equals take turns. */
#include "routing/balance_internal.h"

/* From where the last look ended, so that equals take turns. A target without any request cannot be beaten: with a
 * thousand targets and few requests the look is short. */
static uint32_t pick_uniform(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    uint32_t best = ROUTING_NO_TARGET, best_load = UINT32_MAX, best_at = 0, at = ring->next;

    for (uint32_t n = 0; n != ring->size; ++n, ++at) {
        if (at >= ring->size)
            at = 0;
        uint32_t target = ring->members[at];
        uint32_t load = routing_target_in_flight(self->group->targets[target].load);
        if (load >= best_load || balance_is_out(self, pick, target))
            continue;
        best = target;
        best_load = load;
        best_at = at;
        if (load == 0)
            break;
    }
    ring->next = best_at + 1;
    return best;
}

/* Smooth weighted round robin among those that are equal, as nginx does it. */
static uint32_t pick_weighted(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    uint64_t best_load = UINT64_MAX, best_weight = 1;
    uint32_t best = ROUTING_NO_TARGET;
    int64_t sum = 0;

    for (uint32_t i = 0; i != ring->size; ++i) {
        uint32_t target = ring->members[i];
        uint64_t load = routing_target_in_flight(self->group->targets[target].load), weight = self->effective[target];
        bool is_equal = false;
        if (balance_is_out(self, pick, target))
            continue;
        if (best != ROUTING_NO_TARGET) { /* load / weight against best_load / best_weight */
            if (load * best_weight > best_load * weight)
                continue;
            is_equal = load * best_weight == best_load * weight;
        }
        if (!is_equal) { /* those before lost: they keep their credit */
            best = target;
            best_load = load;
            best_weight = weight;
        }
    }
    if (best == ROUTING_NO_TARGET)
        return best;
    best = ROUTING_NO_TARGET;
    for (uint32_t i = 0; i != ring->size; ++i) {
        uint32_t target = ring->members[i];
        uint64_t load = routing_target_in_flight(self->group->targets[target].load), weight = self->effective[target];
        if (load * best_weight > best_load * weight || balance_is_out(self, pick, target))
            continue;
        sum += (int64_t)weight;
        ring->credits[target] += (int64_t)weight;
        if (best == ROUTING_NO_TARGET || ring->credits[target] > ring->credits[best])
            best = target;
    }
    if (best != ROUTING_NO_TARGET) /* other threads may have filled them all meanwhile */
        ring->credits[best] -= sum;
    return best;
}

uint32_t balance_least_pick(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    return ring->is_uniform ? pick_uniform(self, ring, pick) : pick_weighted(self, ring, pick);
}
