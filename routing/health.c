#include <assert.h>
#include <string.h>
#include "routing/health.h"

void routing_health_init(struct routing_health *health, bool is_checked)
{
    memset(health, 0, sizeof(*health));
    health->state = is_checked ? ROUTING_HEALTH_INITIAL : ROUTING_HEALTH_UNCHECKED;
}

void routing_health_restart(struct routing_health *health, bool is_checked)
{
    /* field by field: workers read the override meanwhile */
    __atomic_store_n((int *)&health->state, is_checked ? ROUTING_HEALTH_INITIAL : ROUTING_HEALTH_UNCHECKED,
                     __ATOMIC_RELAXED);
    __atomic_store_n((uint64_t *)&health->ramp_from_ms, 0, __ATOMIC_RELAXED);
    routing_health_touch(health);
    health->passes = health->failures = 0;
    health->last = ROUTING_PROBE_PASS;
    health->last_status = 0;
    health->changed_at_ms = health->checks = health->failed_checks = 0;
}

static void store_override(struct routing_health *health, uint32_t override)
{
    __atomic_store_n((uint32_t *)&health->override, override, __ATOMIC_RELAXED);
    routing_health_touch(health);
}

void routing_health_set_drain(struct routing_health *health, bool is_draining)
{
    uint32_t rest = routing_health_override(health) & ~(uint32_t)ROUTING_OVERRIDE_DRAIN;
    store_override(health, is_draining ? rest | ROUTING_OVERRIDE_DRAIN : rest);
}

void routing_health_set_weight(struct routing_health *health, int32_t weight)
{
    uint32_t rest = routing_health_override(health) & ROUTING_OVERRIDE_STATES;
    assert(weight >= -1 && weight <= ROUTING_OVERRIDE_WEIGHT_MASK);
    store_override(health, weight >= 0 ? rest | ROUTING_OVERRIDE_WEIGHT | (uint32_t)weight : rest);
}

void routing_health_set_ejected(struct routing_health *health, bool is_ejected)
{
    uint32_t rest = routing_health_override(health) & ~(uint32_t)ROUTING_OVERRIDE_EJECTED;
    store_override(health, is_ejected ? rest | ROUTING_OVERRIDE_EJECTED : rest);
}

void routing_health_set_removed(struct routing_health *health, bool is_removed)
{
    uint32_t rest = routing_health_override(health) & ~(uint32_t)ROUTING_OVERRIDE_REMOVED;
    store_override(health, is_removed ? rest | ROUTING_OVERRIDE_REMOVED : rest);
}

void routing_health_set_share(struct routing_health *health, uint32_t share)
{
    __atomic_store_n((uint32_t *)&health->share, share, __ATOMIC_RELAXED);
    routing_health_touch(health);
}

static bool move_to(struct routing_health *health, enum routing_health_state state, uint64_t wall_ms)
{
    if (routing_health_checked_state(health) == state)
        return false;
    health->changed_at_ms = wall_ms;
    __atomic_store_n((int *)&health->state, (int)state, __ATOMIC_RELAXED);
    if (state != ROUTING_HEALTH_HEALTHY) /* spec/alb.md 3.3: turning unhealthy ends a slow start */
        __atomic_store_n((uint64_t *)&health->ramp_from_ms, 0, __ATOMIC_RELAXED);
    routing_health_touch(health);
    return true;
}

bool routing_health_on_probe(struct routing_health *health, enum routing_probe probe, int status,
                             unsigned healthy_threshold, unsigned unhealthy_threshold, uint64_t wall_ms)
{
    enum routing_health_state state = routing_health_checked_state(health);

    ++health->checks;
    health->last = probe;
    health->last_status = status;
    if (probe == ROUTING_PROBE_PASS) {
        ++health->passes;
        health->failures = 0;
    } else {
        ++health->failed_checks;
        ++health->failures;
        health->passes = 0;
    }
    /* a check that was under way when checks were turned off, or the target taken out, decides nothing any more */
    if (state == ROUTING_HEALTH_UNCHECKED || state == ROUTING_HEALTH_DRAINING)
        return false;
    if (probe != ROUTING_PROBE_PASS)
        return health->failures >= unhealthy_threshold && move_to(health, ROUTING_HEALTH_UNHEALTHY, wall_ms);
    /* spec/alb.md 4: the threshold is for recovery, a new target needs one pass */
    if (state == ROUTING_HEALTH_INITIAL || health->passes >= healthy_threshold)
        return move_to(health, ROUTING_HEALTH_HEALTHY, wall_ms);
    return false;
}

const char *routing_health_name(enum routing_health_state state)
{
    switch (state) {
    case ROUTING_HEALTH_INITIAL:
        return "initial";
    case ROUTING_HEALTH_HEALTHY:
        return "healthy";
    case ROUTING_HEALTH_UNHEALTHY:
        return "unhealthy";
    case ROUTING_HEALTH_UNCHECKED:
        return "unchecked";
    case ROUTING_HEALTH_DRAINING:
        return "draining";
    case ROUTING_HEALTH_EJECTED:
        return "ejected";
    case ROUTING_HEALTH_COUNT:
        break;
    }
    return "?";
}

static const char *failure_reason(enum routing_probe probe)
{
    switch (probe) {
    case ROUTING_PROBE_TIMED_OUT:
        return "Target.Timeout";
    case ROUTING_PROBE_CODE_MISMATCH:
        return "Target.ResponseCodeMismatch";
    case ROUTING_PROBE_CONNECTION_FAILED:
    case ROUTING_PROBE_BAD_RESPONSE:
    case ROUTING_PROBE_PASS: /* passing again, but not yet often enough: what failed before is what it is out for */
        break;
    }
    return "Target.FailedHealthChecks";
}

const char *routing_health_reason(const struct routing_health *health)
{
    switch (routing_health_state(health)) {
    case ROUTING_HEALTH_INITIAL:
        return health->checks == 0 ? "Elb.RegistrationInProgress" : "Elb.InitialHealthChecking";
    case ROUTING_HEALTH_UNHEALTHY:
        return failure_reason(health->last);
    case ROUTING_HEALTH_UNCHECKED:
        return "Target.HealthCheckDisabled";
    case ROUTING_HEALTH_DRAINING:
        return "Target.DeregistrationInProgress";
    case ROUTING_HEALTH_EJECTED:
        return "Target.OutlierEjected";
    case ROUTING_HEALTH_HEALTHY:
    case ROUTING_HEALTH_COUNT:
        break;
    }
    return "-";
}

/* ---- matcher: code or code-code, separated by commas; spaces around the parts are allowed ---- */

static bool read_code(h2o_iovec_t text, unsigned lowest, unsigned highest, size_t *at, uint16_t *code)
{
    unsigned value = 0;
    size_t i = *at, digits = 0;

    for (; i != text.len && text.base[i] >= '0' && text.base[i] <= '9' && digits != 4; ++i, ++digits)
        value = value * 10 + (unsigned)(text.base[i] - '0');
    if (digits == 0 || value < lowest || value > highest)
        return false;
    *at = i;
    *code = (uint16_t)value;
    return true;
}

static void skip_spaces(h2o_iovec_t text, size_t *at)
{
    while (*at != text.len && text.base[*at] == ' ')
        ++*at;
}

bool routing_matcher_parse(h2o_iovec_t text, unsigned lowest, unsigned highest, struct routing_matcher *matcher)
{
    size_t at = 0;

    matcher->size = 0;
    for (;;) {
        if (matcher->size == sizeof(matcher->ranges) / sizeof(matcher->ranges[0]))
            return false;
        uint16_t *range = matcher->ranges[matcher->size++];
        skip_spaces(text, &at);
        if (!read_code(text, lowest, highest, &at, range))
            return false;
        range[1] = range[0];
        skip_spaces(text, &at);
        if (at != text.len && text.base[at] == '-') {
            ++at;
            skip_spaces(text, &at);
            if (!read_code(text, lowest, highest, &at, range + 1) || range[1] < range[0])
                return false;
            skip_spaces(text, &at);
        }
        if (at == text.len)
            return true;
        if (text.base[at++] != ',')
            return false;
    }
}

bool routing_matcher_passes(const struct routing_matcher *matcher, int status)
{
    for (unsigned i = 0; i != matcher->size; ++i)
        if (status >= matcher->ranges[i][0] && status <= matcher->ranges[i][1])
            return true;
    return false;
}
