#include "tests/unit/routing/load.h"
#include "routing/health.h"

/* Probes in a row: '.' passes, 'x' is a connect error. Returns the state's first letter after each as a string. */
static void run(struct routing_health *health, const char *probes, unsigned healthy, unsigned unhealthy, char *states)
{
    for (; *probes != '\0'; ++probes) {
        bool passes = *probes == '.';
        routing_health_on_probe(health, passes ? ROUTING_PROBE_PASS : ROUTING_PROBE_CONNECTION_FAILED, passes ? 200 : 0,
                                healthy, unhealthy, 1000);
        *states++ = routing_health_name(routing_health_state(health))[0];
    }
    *states = '\0';
}

static void assert_states(const char *probes, unsigned healthy, unsigned unhealthy, const char *expected)
{
    struct routing_health health;
    char states[64];
    routing_health_init(&health, true);
    run(&health, probes, healthy, unhealthy, states);
    assert_string_equal(states, expected);
}

/* spec/alb.md vector 17 */
static void new_target_is_healthy_after_one_pass_whatever_the_threshold(void **state)
{
    assert_states(".", 5, 2, "h");
    assert_states("x.", 5, 2, "ih");
}

static void new_target_is_unhealthy_after_the_threshold_of_failures(void **state)
{
    assert_states("xxx", 5, 3, "iiu");
    assert_states("x", 5, 1, "u");
}

static void healthy_target_stays_until_enough_failures_come_in_a_row(void **state)
{
    assert_states(".x.x.xx", 5, 2, "hhhhhhu");
    assert_states(".xxx.", 2, 3, "hhhuu");
}

static void unhealthy_target_needs_the_healthy_threshold_in_a_row(void **state)
{
    assert_states("xx....", 3, 2, "iuuuhh");
    assert_states("xx..x...", 3, 2, "iuuuuuuh");
    assert_states("xx.", 1, 2, "iuh");
}

static void change_of_state_is_told_once_with_its_time(void **state)
{
    struct routing_health health;
    routing_health_init(&health, true);
    assert_true(routing_health_on_probe(&health, ROUTING_PROBE_PASS, 200, 5, 2, 10));
    assert_int_equal(health.changed_at_ms, 10);
    assert_false(routing_health_on_probe(&health, ROUTING_PROBE_PASS, 200, 5, 2, 20));
    assert_false(routing_health_on_probe(&health, ROUTING_PROBE_TIMED_OUT, 0, 5, 2, 30));
    assert_int_equal(health.changed_at_ms, 10);
    assert_true(routing_health_on_probe(&health, ROUTING_PROBE_TIMED_OUT, 0, 5, 2, 40));
    assert_int_equal(health.changed_at_ms, 40);
    assert_false(routing_health_on_probe(&health, ROUTING_PROBE_CODE_MISMATCH, 503, 5, 2, 50));
    assert_int_equal(health.checks, 5);
    assert_int_equal(health.failed_checks, 3);
    assert_int_equal(health.last_status, 503);
}

static void unchecked_and_draining_targets_are_not_moved_by_a_late_check(void **state)
{
    struct routing_health health;
    char states[8];
    routing_health_init(&health, false);
    run(&health, "xxx.", 1, 1, states);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_UNCHECKED);
    assert_string_equal(routing_health_reason(&health), "Target.HealthCheckDisabled");
    health.state = ROUTING_HEALTH_DRAINING;
    run(&health, "x.", 1, 1, states);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_DRAINING);
    assert_string_equal(routing_health_reason(&health), "Target.DeregistrationInProgress");
}

static void checks_go_on_under_an_operator_s_drain(void **state)
{
    struct routing_health health;
    routing_health_init(&health, true);
    routing_health_set_weight(&health, 7);
    routing_health_set_drain(&health, true);
    assert_true(routing_health_on_probe(&health, ROUTING_PROBE_PASS, 200, 5, 2, 10));
    assert_int_equal(routing_health_checked_state(&health), ROUTING_HEALTH_HEALTHY);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_DRAINING);
    routing_health_set_drain(&health, false);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_HEALTHY);
    assert_int_equal(routing_health_weight(&health, 1), 7);
    routing_health_restart(&health, true);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_INITIAL);
    assert_int_equal(routing_health_weight(&health, 1), 7);
    routing_health_set_weight(&health, -1);
    assert_int_equal(routing_health_weight(&health, 1), 1);
}

static void reason_says_how_the_last_check_failed(void **state)
{
    static const struct {
        enum routing_probe probe;
        const char *reason;
    } cases[] = {{ROUTING_PROBE_TIMED_OUT, "Target.Timeout"},
                 {ROUTING_PROBE_CONNECTION_FAILED, "Target.FailedHealthChecks"},
                 {ROUTING_PROBE_BAD_RESPONSE, "Target.FailedHealthChecks"},
                 {ROUTING_PROBE_CODE_MISMATCH, "Target.ResponseCodeMismatch"}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct routing_health health;
        routing_health_init(&health, true);
        assert_string_equal(routing_health_reason(&health), "Elb.RegistrationInProgress");
        routing_health_on_probe(&health, cases[i].probe, 0, 5, 2, 1);
        assert_string_equal(routing_health_reason(&health), "Elb.InitialHealthChecking");
        routing_health_on_probe(&health, cases[i].probe, 0, 5, 2, 1);
        assert_string_equal(routing_health_reason(&health), cases[i].reason);
    }
    struct routing_health health;
    routing_health_init(&health, true);
    routing_health_on_probe(&health, ROUTING_PROBE_PASS, 200, 5, 2, 1);
    assert_string_equal(routing_health_reason(&health), "-");
}

static void matcher_takes_codes_and_ranges(void **state)
{
    struct routing_matcher matcher;
    assert_true(routing_matcher_parse(text_of("200-299, 301,404 - 404"), 200, 599, &matcher));
    static const int taken[] = {200, 250, 299, 301, 404}, refused[] = {0, 100, 199, 300, 302, 403, 405, 500};
    for (size_t i = 0; i != sizeof(taken) / sizeof(taken[0]); ++i)
        assert_true(routing_matcher_passes(&matcher, taken[i]));
    for (size_t i = 0; i != sizeof(refused) / sizeof(refused[0]); ++i)
        assert_false(routing_matcher_passes(&matcher, refused[i]));
}

static void matcher_refuses_what_is_no_list_of_codes(void **state)
{
    static const char *const bad[] = {"",      ",",        "200,",     ",200",        "2xx",     "20",      "2000",
                                      "199",   "600",      "200-",     "-200",        "299-200", "200-199", "200 201",
                                      "200;3", "200,201x", "200--299", "200-299-300", "0x200",   "+200"};
    struct routing_matcher matcher;
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i)
        if (routing_matcher_parse(text_of(bad[i]), 200, 599, &matcher))
            fail_msg("\"%s\" was taken", bad[i]);
    assert_true(routing_matcher_parse(text_of("200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200"), 200,
                                      599, &matcher));
    assert_false(routing_matcher_parse(text_of("200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200,200"),
                                       200, 599, &matcher));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_target_is_healthy_after_one_pass_whatever_the_threshold),
        cmocka_unit_test(new_target_is_unhealthy_after_the_threshold_of_failures),
        cmocka_unit_test(healthy_target_stays_until_enough_failures_come_in_a_row),
        cmocka_unit_test(unhealthy_target_needs_the_healthy_threshold_in_a_row),
        cmocka_unit_test(change_of_state_is_told_once_with_its_time),
        cmocka_unit_test(unchecked_and_draining_targets_are_not_moved_by_a_late_check),
        cmocka_unit_test(checks_go_on_under_an_operator_s_drain),
        cmocka_unit_test(reason_says_how_the_last_check_failed),
        cmocka_unit_test(matcher_takes_codes_and_ranges),
        cmocka_unit_test(matcher_refuses_what_is_no_list_of_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
