/* What targets have to do at the moment: counted by the workers, for all threads of the process, read by every pick. A
 * line of the cache for each target. Lives as long as the process; memory of the gateway.
 *
 * One relaxed counter that all threads share, rather than one for each thread: a pick reads one line per target instead
 * of one per target and thread, which is what least_outstanding_requests does most (tests/bench/balance.c). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Of a target group. */
struct routing_group_live {
    _Atomic uint32_t version; /* atomic: moves on whenever a target's health, weight or standing changes */
};
struct routing_target_load {
    _Atomic uint32_t in_flight; /* atomic: requests under way; kept where an algorithm or a limit asks for it */
    /* atomic: in a row, as outlier ejection counts them */
    _Atomic uint32_t consecutive_5xx, consecutive_gateway;
    /* atomic: peak EWMA of the time until a response begins: microseconds in the upper half, in the lower half
     * milliseconds of the monotonic clock when that was. 0: unknown. Two threads may overwrite each other's reading. */
    _Atomic uint64_t latency;
    _Atomic uint32_t connections; /* atomic: open, or about to be; idle ones too */
} __attribute__((aligned(64)));

static inline uint32_t routing_target_in_flight(const struct routing_target_load *load)
{
    return __atomic_load_n((const uint32_t *)&load->in_flight, __ATOMIC_RELAXED);
}
/* One more. False: there are `max` already (0: no limit), and it was not counted. */
static inline bool routing_count_enter(_Atomic uint32_t *count, uint32_t max)
{
    uint32_t before = __atomic_fetch_add((uint32_t *)count, 1, __ATOMIC_RELAXED);
    if (__builtin_expect(max == 0 || before < max, 1))
        return true;
    __atomic_fetch_sub((uint32_t *)count, 1, __ATOMIC_RELAXED);
    return false;
}
static inline void routing_count_leave(_Atomic uint32_t *count)
{
    __atomic_fetch_sub((uint32_t *)count, 1, __ATOMIC_RELEASE); /* whoever sees 0 may free it */
}
static inline uint32_t routing_count_read(const _Atomic uint32_t *count)
{
    return __atomic_load_n((const uint32_t *)count, __ATOMIC_ACQUIRE);
}
/* One request more, or less. */
static inline bool routing_target_enter(struct routing_target_load *load, uint32_t max)
{
    return routing_count_enter(&load->in_flight, max);
}
static inline void routing_target_leave(struct routing_target_load *load) { routing_count_leave(&load->in_flight); }

/* A response began after elapsed_us: a slower one counts at once, faster ones bring the average down over decay_ms. */
void routing_target_note_latency(struct routing_target_load *, uint64_t elapsed_us, uint64_t now_ms, uint64_t decay_ms);
/* The average in microseconds as it has decayed by now; 0: unknown. */
uint32_t routing_target_latency_us(const struct routing_target_load *, uint64_t now_ms, uint64_t decay_ms);
