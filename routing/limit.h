/* How much of a target group may be in use at a time: fixed bounds (a circuit breaker) and one that adapts to how fast
 * the group answers. Shared by all threads of the process through relaxed atomics; a group without these settings
 * touches nothing. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "routing/config.h"

enum routing_limit_result {
    ROUTING_LIMIT_OK,
    ROUTING_LIMIT_REQUESTS, /* circuit_breaker.requests */
    ROUTING_LIMIT_ADAPTIVE, /* adaptive_concurrency */
};

/* Zero-filled before the first use. */
struct routing_load {
    _Atomic uint64_t requests; /* atomic: under way */
    _Atomic uint64_t retries;  /* atomic: of them, at a further try */
    _Atomic uint64_t opened;   /* atomic: requests refused so far */
    /* adaptive_concurrency */
    _Atomic uint64_t limit_thousandths; /* atomic: 0 = not begun */
    _Atomic uint64_t samples, sum_us;   /* atomic: of the window */
    _Atomic uint64_t window_ms;         /* atomic: when it began; who moves it on has the floor */
    _Atomic uint64_t usual_us;          /* atomic: how long answers take when nothing is wrong */
    _Atomic uint64_t probe_ms; /* atomic: since when only `min` are let in to find that out; 0 = they are not */
    _Atomic uint64_t probe_us, probe_windows; /* atomic: fastest window of the probe, how many there were */
    _Atomic uint64_t probed_ms;               /* atomic: when that ended last */
    _Atomic uint64_t opened_before;           /* atomic: `opened` then */
    _Atomic uint64_t peak;                    /* atomic: most requests under way in the window */
};

static inline bool routing_limit_is_on(const struct routing_target_group_conf *conf)
{
    return conf->circuit_breaker != NULL || conf->adaptive_concurrency != NULL;
}
/* A request wants in. OK: it counts until routing_limit_leave. */
enum routing_limit_result routing_limit_enter(struct routing_load *, const struct routing_target_group_conf *);
/* elapsed_us: from the request to the first byte of the answer, 0 when there was none of the group's making (the client
 * left). */
void routing_limit_leave(struct routing_load *, const struct routing_target_group_conf *, uint64_t elapsed_us,
                         uint64_t now_ms);
/* A further try. True: it counts until routing_limit_leave_retry. */
bool routing_limit_enter_retry(struct routing_load *, const struct routing_target_group_conf *);
void routing_limit_leave_retry(struct routing_load *);
/* What adaptive_concurrency allows at present. */
uint64_t routing_limit_now(const struct routing_load *, const struct routing_adaptive_conf *);
