/* The health of one target as a state machine (spec/alb.md section 4): results and time in, state out. Written by the
 * prober's thread, the state read by every worker. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>

enum routing_health_state {
    ROUTING_HEALTH_INITIAL,
    ROUTING_HEALTH_HEALTHY,
    ROUTING_HEALTH_UNHEALTHY,
    ROUTING_HEALTH_UNCHECKED, /* health_check.enabled: false; takes traffic ("unavailable" on an ALB) */
    ROUTING_HEALTH_DRAINING,
};
enum routing_probe { /* outcome of one check, in the words of spec/alb.md's reason codes */
                     ROUTING_PROBE_PASS,
                     ROUTING_PROBE_TIMED_OUT,
                     ROUTING_PROBE_CONNECTION_FAILED,
                     ROUTING_PROBE_BAD_RESPONSE,
                     ROUTING_PROBE_CODE_MISMATCH,
};
struct routing_health {
    _Atomic int state; /* atomic: enum routing_health_state, written by the prober only */
    /* prober thread only: */
    unsigned passes, failures; /* in a row */
    enum routing_probe last;
    int last_status;        /* HTTP status of the last check, 0 = none */
    uint64_t changed_at_ms; /* wall clock of the last change of state */
    uint64_t checks, failed_checks;
};
void routing_health_init(struct routing_health *, bool is_checked);
/* Returns true when the state changed. A new target is healthy after one pass, unhealthy after unhealthy_threshold. */
bool routing_health_on_probe(struct routing_health *, enum routing_probe, int status, unsigned healthy_threshold,
                             unsigned unhealthy_threshold, uint64_t wall_ms);
static inline enum routing_health_state routing_health_state(const struct routing_health *h)
{
    return (enum routing_health_state)__atomic_load_n((const int *)&h->state, __ATOMIC_RELAXED);
}
const char *routing_health_name(enum routing_health_state);
const char *routing_health_reason(const struct routing_health *); /* "Target.Timeout" ... or "-" */
/* "200-299,301": parsed once. */
struct routing_matcher {
    uint16_t ranges[16][2];
    unsigned size;
};
bool routing_matcher_parse(h2o_iovec_t text, struct routing_matcher *);
bool routing_matcher_passes(const struct routing_matcher *, int status);
