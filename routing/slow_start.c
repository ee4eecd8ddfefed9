#include "routing/slow_start.h"

uint32_t routing_slow_start_share(const struct routing_health *health, uint64_t now_ms, uint64_t duration_ms)
{
    uint64_t from_ms = __atomic_load_n((const uint64_t *)&health->ramp_from_ms, __ATOMIC_RELAXED);
    if (from_ms == 0)
        return ROUTING_SHARE_ALL;
    uint64_t elapsed_ms = now_ms > from_ms ? now_ms - from_ms : 0;
    if (elapsed_ms >= duration_ms)
        return ROUTING_SHARE_ALL;
    uint32_t share = (uint32_t)(elapsed_ms * ROUTING_SHARE_ALL / duration_ms);
    return share < ROUTING_SHARE_ALL / 10 ? ROUTING_SHARE_ALL / 10 : share;
}

void routing_slow_start_begin(const struct routing_target_group *group, uint32_t target, uint64_t now_ms)
{
    struct routing_health *health = group->targets[target].health;
    uint64_t duration_ms = group->conf->slow_start_ms;
    bool has_companion = false;

    if (duration_ms == 0)
        return;
    if (health->skips_ramp) {
        health->skips_ramp = false;
        return;
    }
    for (uint32_t i = 0; i != group->size && !has_companion; ++i) {
        const struct routing_health *other = group->targets[i].health;
        has_companion = i != target && routing_health_is_fit(other) &&
                        routing_slow_start_share(other, now_ms, duration_ms) == ROUTING_SHARE_ALL;
    }
    if (!has_companion)
        return;
    __atomic_store_n((uint64_t *)&health->ramp_from_ms, now_ms, __ATOMIC_RELAXED);
    routing_health_touch(health);
}
