#include "tests/unit/routing/load.h"
#include "routing/retry.h"

static const struct routing_retry_conf *retry_of(struct loaded *loaded, const char *text)
{
    char yaml[1024];
    snprintf(yaml, sizeof(yaml), "target_groups: {a: {targets: []}}\nroutes: [{forward: a, retry: %s}]\n", text);
    load(loaded, yaml);
    return loaded_route(loaded, 0)->retry;
}

static void words_statuses_ranges_and_classes_say_when_to_ask_again(void **state)
{
    struct loaded loaded;
    const struct routing_retry_conf *conf = retry_of(&loaded, "{on: [429, 500-502, timeout, bad_response]}");
    assert_int_equal(conf->when.failures, ROUTING_FAILURE_TIMEOUT | ROUTING_FAILURE_BAD_RESPONSE);
    for (int status = 0; status != 700; ++status)
        assert_int_equal(routing_when_status(&conf->when, status), status == 429 || (status >= 500 && status <= 502));
    unload(&loaded);
    conf = retry_of(&loaded, "{on: 5xx}");
    for (int status = 0; status != 700; ++status)
        assert_int_equal(routing_when_status(&conf->when, status), status >= 500 && status <= 599);
    unload(&loaded);
}

static void left_out_on_means_failures_before_a_response(void **state)
{
    struct loaded loaded;
    const struct routing_retry_conf *conf = retry_of(&loaded, "3");
    assert_int_equal(conf->attempts, 3);
    assert_int_equal(conf->when.failures, ROUTING_FAILURE_CONNECT | ROUTING_FAILURE_RESET);
    assert_false(routing_when_status(&conf->when, 503));
    unload(&loaded);
}

static unsigned take_all(struct routing_budget *budget, uint64_t now_ms)
{
    unsigned taken = 0;
    while (taken != 100000 && routing_budget_take(budget, 20, now_ms))
        ++taken;
    return taken;
}

static void a_budget_lets_its_share_of_requests_be_sent_again(void **state)
{
    struct routing_budget budget = {0};
    unsigned taken = 0;
    for (unsigned i = 0; i != 100000; ++i) { /* ten seconds of everything failing, each request tried twice again */
        routing_budget_pay(&budget, 20, 5000 + i / 10);
        taken += routing_budget_take(&budget, 20, 5000 + i / 10);
        taken += routing_budget_take(&budget, 20, 5000 + i / 10);
    }
    assert_in_range(taken, 19900, 20000);
}

static void a_group_with_few_requests_has_ten_retries_a_second(void **state)
{
    struct routing_budget budget = {0};
    unsigned taken = 0;
    for (uint64_t now_ms = 1000; now_ms != 11000; ++now_ms) {
        if (now_ms % 50 == 0)
            routing_budget_pay(&budget, 20, now_ms); /* four a second, not ten and four */
        taken += routing_budget_take(&budget, 20, now_ms);
    }
    assert_int_equal(taken, 100);
}

static void a_budget_of_nothing_allows_nothing(void **state)
{
    struct routing_budget budget = {0};
    routing_budget_pay(&budget, 0, 1000);
    assert_false(routing_budget_take(&budget, 0, 1000));
}

static void what_a_quiet_day_saves_is_bounded(void **state)
{
    struct routing_budget budget = {0};
    uint64_t now_ms = 1000;
    for (unsigned i = 0; i != 1000000; ++i) /* 20 a second are paid in for a day */
        routing_budget_pay(&budget, 20, now_ms += 10);
    assert_in_range(take_all(&budget, now_ms), 19, 40);
    assert_int_equal(take_all(&budget, now_ms), 0);
    assert_int_equal(take_all(&budget, now_ms + 1000), 0); /* the second that begins has paid in nothing yet */
    assert_int_equal(take_all(&budget, now_ms + 3000), 10);
}

static void pauses_double_up_to_the_longest_and_lose_up_to_half(void **state)
{
    struct routing_retry_conf conf = {.backoff_ms = 100, .max_backoff_ms = 1000};
    static const uint64_t most[] = {100, 200, 400, 800, 1000, 1000};
    for (unsigned nth = 1; nth <= 6; ++nth) {
        bool has_less = false;
        for (uint64_t random = 0; random != 2000; ++random) {
            uint64_t ms = routing_backoff_ms(&conf, nth, random * 7919);
            assert_in_range(ms, most[nth - 1] / 2, most[nth - 1]);
            has_less |= ms < most[nth - 1] * 3 / 4;
        }
        assert_true(has_less);
    }
}

static void methods_are_known_by_their_exact_name(void **state)
{
    assert_true(routing_is_idempotent(h2o_iovec_init(H2O_STRLIT("PUT"))));
    assert_false(routing_is_idempotent(h2o_iovec_init(H2O_STRLIT("POST"))));
    assert_false(routing_is_idempotent(h2o_iovec_init(H2O_STRLIT("get"))));
    assert_true(routing_may_fail_over(h2o_iovec_init(H2O_STRLIT("OPTIONS"))));
    assert_false(routing_may_fail_over(h2o_iovec_init(H2O_STRLIT("PUT"))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_statuses_ranges_and_classes_say_when_to_ask_again),
        cmocka_unit_test(left_out_on_means_failures_before_a_response),
        cmocka_unit_test(a_budget_lets_its_share_of_requests_be_sent_again),
        cmocka_unit_test(a_group_with_few_requests_has_ten_retries_a_second),
        cmocka_unit_test(a_budget_of_nothing_allows_nothing),
        cmocka_unit_test(what_a_quiet_day_saves_is_bounded),
        cmocka_unit_test(pauses_double_up_to_the_longest_and_lose_up_to_half),
        cmocka_unit_test(methods_are_known_by_their_exact_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
