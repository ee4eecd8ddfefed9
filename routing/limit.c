#include "routing/limit.h"
#include <math.h>

enum {
    THOUSAND = 1000,
    WINDOW_MS = 100,    /* shortest time between two looks at the answers */
    MIN_SAMPLES = 10,   /* fewer say nothing */
    INITIAL_LIMIT = 20, /* before anything is known */
    FASTER_PART = 10,   /* the usual time follows faster windows by 1/10th */
    PROBE_EVERY_MS = 10000,
    PROBE_MS = 200,     /* what is under way when a probe begins has left by then, or a fair part of it */
    PROBE_WINDOWS = 3,  /* after that */
    SMOOTHING_PART = 5, /* the limit moves by 1/5th of what a window asks for */
};
/* An answer may take this much longer than usual before the limit goes down. */
static const double tolerance = 1.5;

#define LOAD(p)     __atomic_load_n((const uint64_t *)(p), __ATOMIC_RELAXED)
#define STORE(p, n) __atomic_store_n((uint64_t *)(p), n, __ATOMIC_RELAXED)
#define ADD(p, n)   __atomic_add_fetch((uint64_t *)(p), n, __ATOMIC_RELAXED)

static uint64_t limit_thousandths(const struct routing_load *load, const struct routing_adaptive_conf *conf)
{
    uint64_t limit = LOAD(&load->limit_thousandths);
    if (limit == 0)
        limit = INITIAL_LIMIT * THOUSAND;
    if (LOAD(&load->probe_ms) != 0 || limit < conf->min * THOUSAND)
        return conf->min * THOUSAND;
    return limit > conf->max * THOUSAND ? conf->max * THOUSAND : limit;
}

uint64_t routing_limit_now(const struct routing_load *load, const struct routing_adaptive_conf *conf)
{
    return limit_thousandths(load, conf) / THOUSAND;
}

enum routing_limit_result routing_limit_enter(struct routing_load *load, const struct routing_target_group_conf *conf)
{
    uint64_t now = ADD(&load->requests, 1);
    enum routing_limit_result result = ROUTING_LIMIT_OK;

    if (conf->circuit_breaker != NULL && conf->circuit_breaker->requests != 0 && now > conf->circuit_breaker->requests)
        result = ROUTING_LIMIT_REQUESTS;
    else if (conf->adaptive_concurrency != NULL && now > routing_limit_now(load, conf->adaptive_concurrency))
        result = ROUTING_LIMIT_ADAPTIVE;
    if (result != ROUTING_LIMIT_OK) {
        ADD(&load->requests, (uint64_t)-1);
        ADD(&load->opened, 1);
    } else if (now > LOAD(&load->peak)) {
        STORE(&load->peak, now);
    }
    return result;
}

/* The gradient: what the window's answers took, against what they usually take. Below one, requests wait for each other
 * behind the gateway; the square root leaves room to find out whether more would go. */
static uint64_t next_limit(uint64_t thousandths, double usual_us, double window_us, double max)
{
    double limit = (double)thousandths / THOUSAND, gradient = tolerance * usual_us / window_us, wanted;

    gradient = gradient > 1 ? 1 : gradient < 0.5 ? 0.5 : gradient;
    wanted = limit * gradient + sqrt(limit);
    limit += (wanted - limit) / SMOOTHING_PART;
    limit = limit < 1 ? 1 : limit > max ? max : limit;
    return (uint64_t)(limit * THOUSAND);
}

/* While requests are refused, every window is one of a service under pressure: how long answers take without it is
 * found out by letting in only `min` for a moment. Who is not pressed shows it all the time. The fastest of three
 * windows counts: a pause of the machine or the service, which may show in two, would be taken for its usual time, the
 * limit would grow beyond the load, and with nobody refused it would not be looked at again. */
static bool probe(struct routing_load *load, uint64_t window_us, uint64_t now_ms)
{
    uint64_t began_ms = LOAD(&load->probe_ms), refused = LOAD(&load->opened), fastest_us = LOAD(&load->probe_us);

    if (began_ms != 0) {
        if (now_ms - began_ms < PROBE_MS)
            return true;
        if (fastest_us == 0 || window_us < fastest_us)
            STORE(&load->probe_us, window_us);
        if (ADD(&load->probe_windows, 1) < PROBE_WINDOWS)
            return true;
        STORE(&load->usual_us, LOAD(&load->probe_us));
        STORE(&load->probed_ms, now_ms);
        STORE(&load->opened_before, refused);
        STORE(&load->probe_ms, 0);
        return true;
    }
    if (refused == LOAD(&load->opened_before) || now_ms - LOAD(&load->probed_ms) < PROBE_EVERY_MS)
        return false;
    STORE(&load->probe_us, 0);
    STORE(&load->probe_windows, 0);
    STORE(&load->probe_ms, now_ms);
    return true;
}

static void end_window(struct routing_load *load, const struct routing_adaptive_conf *conf, uint64_t now_ms)
{
    uint64_t samples = __atomic_exchange_n((uint64_t *)&load->samples, 0, __ATOMIC_RELAXED);
    uint64_t sum_us = __atomic_exchange_n((uint64_t *)&load->sum_us, 0, __ATOMIC_RELAXED);
    uint64_t peak = __atomic_exchange_n((uint64_t *)&load->peak, LOAD(&load->requests), __ATOMIC_RELAXED);
    uint64_t usual_us = LOAD(&load->usual_us), window_us, limit;

    if (samples == 0)
        return;
    window_us = sum_us / samples + 1;
    if (probe(load, window_us, now_ms))
        return;
    if (usual_us == 0)
        usual_us = window_us;
    if (window_us < usual_us)
        usual_us -= (usual_us - window_us) / FASTER_PART;
    STORE(&load->usual_us, usual_us);
    limit = limit_thousandths(load, conf);
    /* a service that nobody presses says nothing about how much it could bear */
    if (peak * 2 * THOUSAND < limit && window_us <= usual_us * 2)
        return;
    STORE(&load->limit_thousandths, next_limit(limit, (double)usual_us, (double)window_us, (double)conf->max));
}

void routing_limit_leave(struct routing_load *load, const struct routing_target_group_conf *conf, uint64_t elapsed_us,
                         uint64_t now_ms)
{
    uint64_t began_ms;

    ADD(&load->requests, (uint64_t)-1);
    if (conf->adaptive_concurrency == NULL || elapsed_us == 0)
        return;
    ADD(&load->sum_us, elapsed_us);
    if (ADD(&load->samples, 1) < MIN_SAMPLES)
        return;
    began_ms = LOAD(&load->window_ms);
    if (now_ms - began_ms >= WINDOW_MS && __atomic_compare_exchange_n((uint64_t *)&load->window_ms, &began_ms, now_ms,
                                                                      false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        end_window(load, conf->adaptive_concurrency, now_ms);
}

bool routing_limit_enter_retry(struct routing_load *load, const struct routing_target_group_conf *conf)
{
    uint64_t now;

    if (conf->circuit_breaker == NULL || conf->circuit_breaker->retries == 0)
        return true;
    now = ADD(&load->retries, 1);
    if (now <= conf->circuit_breaker->retries)
        return true;
    ADD(&load->retries, (uint64_t)-1);
    return false;
}

void routing_limit_leave_retry(struct routing_load *load) { ADD(&load->retries, (uint64_t)-1); }
