#include "tests/unit/routing/load.h"
#include "routing/health.h"
#include "routing/outlier.h"

static const struct routing_outlier_conf conf = {.is_enabled = true,
                                                 .success_rate_deviation = 30,
                                                 .latency_factor = 5,
                                                 .minimum_requests = 50,
                                                 .minimum_targets = 3,
                                                 .ejection_time_ms = 30000,
                                                 .max_ejection_time_ms = 100000,
                                                 .max_ejected = 50};

static void each_ejection_is_longer_up_to_the_longest(void **state)
{
    static const uint64_t expected[] = {30000, 60000, 90000, 100000, 100000, 100000};
    struct routing_outlier outlier = {0};
    uint64_t now = 1000;
    for (size_t i = 0; i != 6; ++i) {
        routing_outlier_eject(&outlier, &conf, ROUTING_OUTLIER_5XX, now);
        assert_int_equal(outlier.until_ms - now, expected[i]);
        assert_false(routing_outlier_return(&outlier, outlier.until_ms - 1));
        now = outlier.until_ms;
        assert_true(routing_outlier_return(&outlier, now));
        assert_false(routing_outlier_return(&outlier, now)); /* once */
    }
}

/* Where ejections last as long as intervals, or some of them, it comes back when the comparison is due. */
static void the_interval_in_which_it_came_back_is_not_quiet(void **state)
{
    struct routing_outlier outlier = {0};
    for (unsigned i = 1; i != 4; ++i) {
        routing_outlier_eject(&outlier, &conf, ROUTING_OUTLIER_SUCCESS_RATE, 0);
        assert_int_equal(outlier.times, i);
        routing_outlier_return(&outlier, outlier.until_ms);
        routing_outlier_calm(&outlier);
    }
    routing_outlier_calm(&outlier); /* all of this one was */
    assert_int_equal(outlier.times, 2);
}

static void quiet_intervals_shorten_the_next_ejection(void **state)
{
    struct routing_outlier outlier = {0};
    for (unsigned i = 0; i != 3; ++i) {
        routing_outlier_eject(&outlier, &conf, ROUTING_OUTLIER_5XX, 0);
        routing_outlier_calm(&outlier); /* while it is out no interval is quiet */
        routing_outlier_return(&outlier, outlier.until_ms);
    }
    assert_int_equal(outlier.times, 3);
    for (unsigned i = 0; i != 5; ++i)
        routing_outlier_calm(&outlier);
    routing_outlier_eject(&outlier, &conf, ROUTING_OUTLIER_5XX, 0);
    assert_int_equal(outlier.until_ms, 30000);
}

static void at_most_their_share_is_ejected_but_one_always_may(void **state)
{
    struct routing_outlier_conf few = conf;
    assert_true(routing_outlier_may_eject(&conf, 1, 4));
    assert_false(routing_outlier_may_eject(&conf, 2, 4));
    assert_false(routing_outlier_may_eject(&conf, 0, 1)); /* who else should serve? */
    few.max_ejected = 10;
    assert_true(routing_outlier_may_eject(&few, 0, 2));
    assert_false(routing_outlier_may_eject(&few, 1, 9));
    assert_true(routing_outlier_may_eject(&few, 1, 20));
    few.max_ejected = 0;
    assert_false(routing_outlier_may_eject(&few, 0, 20));
}

static void failing_target_stands_out_from_the_others(void **state)
{
    struct routing_outlier_sample samples[] = {{100, 2, 100000}, {100, 33, 100000}, {100, 0, 100000}, {100, 4, 100000}};
    enum routing_outlier_why why[4];
    routing_outlier_compare(&conf, samples, 4, why);
    assert_int_equal(why[1], ROUTING_OUTLIER_SUCCESS_RATE);
    assert_int_equal(why[0] | why[2] | why[3], ROUTING_OUTLIER_NOT);
    samples[1].failures = 31; /* 29 points above the median of 2 % */
    routing_outlier_compare(&conf, samples, 4, why);
    assert_int_equal(why[1], ROUTING_OUTLIER_NOT);
}

static void when_all_fail_nobody_stands_out(void **state)
{
    struct routing_outlier_sample samples[] = {{100, 90, 1}, {100, 95, 1}, {100, 100, 1}};
    enum routing_outlier_why why[3];
    routing_outlier_compare(&conf, samples, 3, why);
    for (size_t i = 0; i != 3; ++i)
        assert_int_equal(why[i], ROUTING_OUTLIER_NOT);
}

static void slow_target_stands_out_from_the_others(void **state)
{
    struct routing_outlier_sample samples[] = {{100, 0, 100 * 10000}, {100, 0, 100 * 12000}, {100, 0, 100 * 70000}};
    struct routing_outlier_conf off = conf;
    enum routing_outlier_why why[3];
    routing_outlier_compare(&conf, samples, 3, why);
    assert_int_equal(why[2], ROUTING_OUTLIER_LATENCY);
    assert_int_equal(why[0] | why[1], ROUTING_OUTLIER_NOT);
    off.latency_factor = 0;
    routing_outlier_compare(&off, samples, 3, why);
    assert_int_equal(why[2], ROUTING_OUTLIER_NOT);
}

static void too_few_requests_or_targets_say_nothing(void **state)
{
    struct routing_outlier_sample few[] = {{49, 49, 1}, {100, 0, 1}, {100, 0, 1}, {100, 0, 1}},
                                  two[] = {{100, 90, 1}, {100, 0, 1}, {49, 0, 1}},
                                  out[] = {{100, 90, 1}, {100, 0, 1}, {100, 0, 1, true}};
    enum routing_outlier_why why[4];
    routing_outlier_compare(&conf, few, 4, why);
    assert_int_equal(why[0], ROUTING_OUTLIER_NOT);
    routing_outlier_compare(&conf, two, 3, why);
    assert_int_equal(why[0], ROUTING_OUTLIER_NOT);
    routing_outlier_compare(&conf, out, 3, why);
    assert_int_equal(why[0], ROUTING_OUTLIER_NOT);
}

/* spec/alb.md 3.3: cut to what is needed to go on measuring, raised by steps; at least three targets */
static void anomalous_target_is_cut_and_comes_back_by_steps(void **state)
{
    struct routing_outlier_sample bad[] = {{100, 0, 0}, {100, 40, 0}, {100, 1, 0}}, good[] = {{100}, {100}, {100}};
    uint32_t shares[3] = {0}, steps = 0;
    routing_anomaly_adjust(10, bad, 3, shares);
    assert_int_equal(shares[0], ROUTING_SHARE_ALL);
    assert_int_equal(shares[2], ROUTING_SHARE_ALL);
    assert_in_range(shares[1], 1, ROUTING_SHARE_ALL / 10);
    for (uint32_t before = shares[1]; shares[1] != ROUTING_SHARE_ALL; before = shares[1], ++steps) {
        routing_anomaly_adjust(10, good, 3, shares);
        assert_true(shares[1] > before);
    }
    assert_in_range(steps, 4, 12);
    uint32_t pair[2] = {0};
    routing_anomaly_adjust(10, bad, 2, pair);
    assert_int_equal(pair[1], ROUTING_SHARE_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ejection_is_longer_up_to_the_longest),
        cmocka_unit_test(the_interval_in_which_it_came_back_is_not_quiet),
        cmocka_unit_test(quiet_intervals_shorten_the_next_ejection),
        cmocka_unit_test(at_most_their_share_is_ejected_but_one_always_may),
        cmocka_unit_test(failing_target_stands_out_from_the_others),
        cmocka_unit_test(when_all_fail_nobody_stands_out),
        cmocka_unit_test(slow_target_stands_out_from_the_others),
        cmocka_unit_test(too_few_requests_or_targets_say_nothing),
        cmocka_unit_test(anomalous_target_is_cut_and_comes_back_by_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
