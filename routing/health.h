/* The health of one target as a state machine (spec/alb.md section 4): results and time in, state out. Written by the
 * prober's thread, the state read by every worker. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>
#include "routing/target_load.h"

enum routing_health_state {
    ROUTING_HEALTH_INITIAL,
    ROUTING_HEALTH_HEALTHY,
    ROUTING_HEALTH_UNHEALTHY,
    ROUTING_HEALTH_UNCHECKED, /* health_check.enabled: false; takes traffic ("unavailable" on an ALB) */
    ROUTING_HEALTH_DRAINING,
    ROUTING_HEALTH_EJECTED, /* checks are fine, but requests were not (routing/outlier.h) */
    ROUTING_HEALTH_COUNT
};
enum routing_probe { /* outcome of one check, in the words of spec/alb.md's reason codes */
                     ROUTING_PROBE_PASS,
                     ROUTING_PROBE_TIMED_OUT,
                     ROUTING_PROBE_CONNECTION_FAILED,
                     ROUTING_PROBE_BAD_RESPONSE,
                     ROUTING_PROBE_CODE_MISMATCH,
};
/* What an operator has said of a target, over what configuration and checks say. Bits of routing_health.override: */
enum {
    ROUTING_OVERRIDE_DRAIN = 1 << 30,   /* no new requests, whatever the checks find */
    ROUTING_OVERRIDE_WEIGHT = 1 << 29,  /* the low bits hold a weight */
    ROUTING_OVERRIDE_EJECTED = 1 << 28, /* not an operator's word but the outlier detector's */
    ROUTING_OVERRIDE_REMOVED = 1 << 27, /* the group has it no more; picks that still know it prefer others */
    ROUTING_OVERRIDE_STATES = ROUTING_OVERRIDE_DRAIN | ROUTING_OVERRIDE_EJECTED | ROUTING_OVERRIDE_REMOVED,
    ROUTING_OVERRIDE_WEIGHT_MASK = 0xffff,
};
enum { ROUTING_SHARE_ALL = 256 };
struct routing_health {
    _Atomic int state; /* atomic: enum routing_health_state, written by the prober only */
    /* atomic: written by the control thread, read by every worker with the state, with which it shares a cache line */
    _Atomic uint32_t override;
    /* atomic, control thread: since when the weight grows to its own (slow start), monotonic; 0: it does not */
    _Atomic uint64_t ramp_from_ms;
    /* atomic, control thread: what anomaly mitigation leaves of the weight, of ROUTING_SHARE_ALL; 0 stands for all */
    _Atomic uint32_t share;
    struct routing_group_live *group; /* frozen; moves on with every change; NULL where nothing ever changes */
    bool skips_ramp;                  /* control thread: registered when the group was empty, spec/alb.md 3.3 */
    /* prober thread only: */
    unsigned passes, failures; /* in a row */
    enum routing_probe last;
    int last_status;        /* HTTP status of the last check, 0 = none */
    uint64_t changed_at_ms; /* wall clock of the last change of state */
    uint64_t checks, failed_checks;
};
void routing_health_init(struct routing_health *, bool is_checked);
/* Begins anew as routing_health_init does, but what an operator has said stays. */
void routing_health_restart(struct routing_health *, bool is_checked);
/* Returns true when the state changed. A new target is healthy after one pass, unhealthy after unhealthy_threshold. */
bool routing_health_on_probe(struct routing_health *, enum routing_probe, int status, unsigned healthy_threshold,
                             unsigned unhealthy_threshold, uint64_t wall_ms);
/* Something that picks go by has changed. */
static inline void routing_health_touch(struct routing_health *h)
{
    if (h->group != NULL)
        __atomic_fetch_add((uint32_t *)&h->group->version, 1, __ATOMIC_RELEASE);
}
static inline uint32_t routing_health_override(const struct routing_health *h)
{
    return __atomic_load_n((const uint32_t *)&h->override, __ATOMIC_RELAXED);
}
/* As the checks see it. */
static inline enum routing_health_state routing_health_checked_state(const struct routing_health *h)
{
    return (enum routing_health_state)__atomic_load_n((const int *)&h->state, __ATOMIC_RELAXED);
}
/* As requests see it: draining when an operator says so, ejected when it answers with failures. */
static inline enum routing_health_state routing_health_state(const struct routing_health *h)
{
    uint32_t override = routing_health_override(h);
    enum routing_health_state checked = routing_health_checked_state(h);
    if (__builtin_expect((override & ROUTING_OVERRIDE_STATES) == 0, 1))
        return checked;
    if ((override & (ROUTING_OVERRIDE_DRAIN | ROUTING_OVERRIDE_REMOVED)) != 0)
        return ROUTING_HEALTH_DRAINING;
    return checked == ROUTING_HEALTH_HEALTHY || checked == ROUTING_HEALTH_UNCHECKED ? ROUTING_HEALTH_EJECTED : checked;
}
static inline bool routing_health_is_fit(const struct routing_health *h)
{
    enum routing_health_state state = routing_health_state(h);
    return state == ROUTING_HEALTH_HEALTHY || state == ROUTING_HEALTH_UNCHECKED;
}
/* The configured weight, unless an operator has set another. */
static inline uint32_t routing_health_weight(const struct routing_health *h, uint32_t configured)
{
    uint32_t override = routing_health_override(h);
    return (override & ROUTING_OVERRIDE_WEIGHT) != 0 ? override & ROUTING_OVERRIDE_WEIGHT_MASK : configured;
}
/* Control thread only. weight -1: the configured one. */
void routing_health_set_drain(struct routing_health *, bool is_draining);
void routing_health_set_weight(struct routing_health *, int32_t weight);
void routing_health_set_ejected(struct routing_health *, bool is_ejected);
void routing_health_set_removed(struct routing_health *, bool is_removed);
void routing_health_set_share(struct routing_health *, uint32_t share);
const char *routing_health_name(enum routing_health_state);
const char *routing_health_reason(const struct routing_health *); /* "Target.Timeout" ... or "-" */
/* "200-299,301": parsed once. */
struct routing_matcher {
    uint16_t ranges[16][2];
    unsigned size;
};
/* Codes from lowest to highest: 200 to 599 of HTTP, 0 to 99 of gRPC. */
bool routing_matcher_parse(h2o_iovec_t text, unsigned lowest, unsigned highest, struct routing_matcher *);
bool routing_matcher_passes(const struct routing_matcher *, int status);
