#include <math.h>
#include "routing/target_load.h"

static double decayed(uint64_t latency, uint64_t now_ms, uint64_t decay_ms)
{
    uint32_t elapsed_ms = (uint32_t)now_ms - (uint32_t)latency;
    if (elapsed_ms > INT32_MAX) /* another thread's clock was read later */
        elapsed_ms = 0;
    return exp(-(double)elapsed_ms / (double)decay_ms);
}

void routing_target_note_latency(struct routing_target_load *load, uint64_t elapsed_us, uint64_t now_ms,
                                 uint64_t decay_ms)
{
    uint64_t before = __atomic_load_n((uint64_t *)&load->latency, __ATOMIC_RELAXED);
    double average = (double)(before >> 32), now = (double)elapsed_us;

    if (before != 0 && now < average) {
        double kept = decayed(before, now_ms, decay_ms);
        now = average * kept + now * (1 - kept);
    }
    if (now < 1)
        now = 1;
    if (now > UINT32_MAX)
        now = UINT32_MAX;
    __atomic_store_n((uint64_t *)&load->latency, (uint64_t)now << 32 | (uint32_t)now_ms, __ATOMIC_RELAXED);
}

uint32_t routing_target_latency_us(const struct routing_target_load *load, uint64_t now_ms, uint64_t decay_ms)
{
    uint64_t latency = __atomic_load_n((const uint64_t *)&load->latency, __ATOMIC_RELAXED);
    if (latency == 0)
        return 0;
    /* Whoever was slow and is not asked any more would stay slow for ever: it is forgotten by and by. */
    double average = (double)(latency >> 32) * decayed(latency, now_ms, decay_ms);
    return average < 1 ? 1 : (uint32_t)average;
}
