#include "tests/unit/routing/load.h"
#include "routing/limit.h"

static struct routing_circuit_breaker_conf breaker;
static struct routing_adaptive_conf adaptive = {.min = 4, .max = 1000};

static void requests_above_the_bound_are_refused_until_one_leaves(void **state)
{
    struct routing_target_group_conf conf = {.circuit_breaker = &breaker};
    struct routing_load load = {0};
    breaker = (struct routing_circuit_breaker_conf){.requests = 3};
    for (int i = 0; i != 3; ++i)
        assert_int_equal(routing_limit_enter(&load, &conf), ROUTING_LIMIT_OK);
    assert_int_equal(routing_limit_enter(&load, &conf), ROUTING_LIMIT_REQUESTS);
    assert_int_equal(routing_limit_enter(&load, &conf), ROUTING_LIMIT_REQUESTS);
    routing_limit_leave(&load, &conf, 0, 0);
    assert_int_equal(routing_limit_enter(&load, &conf), ROUTING_LIMIT_OK);
    assert_int_equal(load.opened, 2);
}

static void retries_have_a_bound_of_their_own(void **state)
{
    struct routing_target_group_conf conf = {.circuit_breaker = &breaker};
    struct routing_load load = {0};
    breaker = (struct routing_circuit_breaker_conf){.retries = 1};
    assert_true(routing_limit_enter_retry(&load, &conf));
    assert_false(routing_limit_enter_retry(&load, &conf));
    routing_limit_leave_retry(&load);
    assert_true(routing_limit_enter_retry(&load, &conf));
}

/* A service that works on `capacity` requests at a time, 10 ms each; 200 clients want something all the time. */
static void limit_turn(struct routing_load *load, const struct routing_target_group_conf *conf, uint64_t capacity,
                       uint64_t *now_ms)
{
    uint64_t in = 0;
    while (in != 200 && routing_limit_enter(load, conf) == ROUTING_LIMIT_OK)
        ++in;
    uint64_t rounds = (in + capacity - 1) / capacity; /* the last ones wait for those before */
    for (uint64_t i = 0; i != in; ++i)
        routing_limit_leave(load, conf, 10000 * (i / capacity + 1), *now_ms + 10 * (i / capacity + 1));
    *now_ms += 10 * (rounds != 0 ? rounds : 1);
}

/* The limit after `seconds`, and after the probe that goes on then. */
static uint64_t limit_after(struct routing_load *load, uint64_t capacity, unsigned seconds, uint64_t *now_ms)
{
    struct routing_target_group_conf conf = {.adaptive_concurrency = &adaptive};
    uint64_t end_ms = *now_ms + seconds * 1000;

    while (*now_ms < end_ms || load->probe_ms != 0)
        limit_turn(load, &conf, capacity, now_ms);
    return routing_limit_now(load, &adaptive);
}

static void the_adaptive_limit_finds_the_capacity_of_a_service(void **state)
{
    static const uint64_t capacities[] = {8, 30, 60};
    for (size_t i = 0; i != 3; ++i) {
        struct routing_load load = {0};
        uint64_t now_ms = 1000, limit = limit_after(&load, capacities[i], 30, &now_ms);
        assert_in_range(limit, capacities[i], capacities[i] * 4);
    }
}

static void the_adaptive_limit_follows_a_service_that_loses_capacity(void **state)
{
    struct routing_load load = {0};
    uint64_t now_ms = 1000, before = limit_after(&load, 60, 20, &now_ms), after = limit_after(&load, 8, 30, &now_ms);
    assert_true(after < before / 2);
    assert_true(limit_after(&load, 60, 30, &now_ms) >= 60);
}

static void a_pause_while_the_usual_time_is_found_out_is_not_taken_for_it(void **state)
{
    for (unsigned pause_at = 0; pause_at != 40; ++pause_at) { /* turns of the probe */
        struct routing_target_group_conf conf = {.adaptive_concurrency = &adaptive};
        struct routing_load load = {0};
        uint64_t now_ms = 1000, in = 0;
        limit_after(&load, 8, 5, &now_ms);
        while (load.probe_ms == 0)
            limit_turn(&load, &conf, 8, &now_ms);
        for (unsigned i = 0; i != pause_at && load.probe_ms != 0; ++i)
            limit_turn(&load, &conf, 8, &now_ms);
        for (in = 0; routing_limit_enter(&load, &conf) == ROUTING_LIMIT_OK;)
            ++in;
        now_ms += 2000;
        while (in-- != 0)
            routing_limit_leave(&load, &conf, 2000000, now_ms);
        assert_in_range(limit_after(&load, 8, 5, &now_ms), 8, 32);
    }
}

static void a_service_that_nobody_presses_keeps_its_limit(void **state)
{
    struct routing_target_group_conf conf = {.adaptive_concurrency = &adaptive};
    struct routing_load load = {0};
    for (uint64_t now_ms = 1000; now_ms != 20000; ++now_ms) {
        assert_int_equal(routing_limit_enter(&load, &conf), ROUTING_LIMIT_OK);
        routing_limit_leave(&load, &conf, 1000 + now_ms % 7 * 50, now_ms);
    }
    assert_in_range(routing_limit_now(&load, &adaptive), 20, 30);
}

static void the_limit_stays_within_its_bounds(void **state)
{
    struct routing_load load = {0};
    uint64_t now_ms = 1000;
    adaptive = (struct routing_adaptive_conf){.min = 10, .max = 12};
    assert_in_range(limit_after(&load, 1, 20, &now_ms), 10, 12);
    assert_in_range(limit_after(&load, 200, 20, &now_ms), 12, 12);
    adaptive = (struct routing_adaptive_conf){.min = 4, .max = 1000};
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_above_the_bound_are_refused_until_one_leaves),
        cmocka_unit_test(retries_have_a_bound_of_their_own),
        cmocka_unit_test(the_adaptive_limit_finds_the_capacity_of_a_service),
        cmocka_unit_test(the_adaptive_limit_follows_a_service_that_loses_capacity),
        cmocka_unit_test(a_pause_while_the_usual_time_is_found_out_is_not_taken_for_it),
        cmocka_unit_test(a_service_that_nobody_presses_keeps_its_limit),
        cmocka_unit_test(the_limit_stays_within_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
