#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/base/usage.h"

enum { START_MS = 1000 * GW_USAGE_PERIOD_MS };

static struct gw_usage_table *table;

static int set_up(void **state)
{
    table = gw_usage_table_create();
    return 0;
}

static int tear_down(void **state)
{
    gw_usage_table_destroy(table);
    return 0;
}

static struct gw_usage *of_address(const char *text, uint64_t now_ms)
{
    struct gw_ip ip;
    assert_true(gw_ip_parse(h2o_iovec_init(text, strlen(text)), &ip));
    return gw_usage_of_address(table, &ip, now_ms);
}

static void what_was_used_counts_half_after_each_period(void **state)
{
    struct gw_usage usage = {0};
    gw_usage_add(&usage, START_MS, 800);
    assert_int_equal(gw_usage_read(&usage, START_MS + GW_USAGE_PERIOD_MS - 1), 800);
    assert_int_equal(gw_usage_read(&usage, START_MS + GW_USAGE_PERIOD_MS), 400);
    gw_usage_add(&usage, START_MS + GW_USAGE_PERIOD_MS, 100);
    assert_int_equal(gw_usage_read(&usage, START_MS + 2 * GW_USAGE_PERIOD_MS), 250);
    assert_int_equal(gw_usage_read(&usage, START_MS + 31 * GW_USAGE_PERIOD_MS), 0);
    assert_int_equal(gw_usage_read(&usage, START_MS + 1000 * GW_USAGE_PERIOD_MS), 0);
}

static void four_thousandths_of_a_thread_are_much_and_two_are_not(void **state)
{
    struct gw_usage four = {0}, two = {0};
    uint64_t now_ms = START_MS;
    for (unsigned i = 0; i != 20 * GW_USAGE_PERIOD_MS; ++i, ++now_ms) {
        gw_usage_add(&four, now_ms, 4); /* microseconds a millisecond */
        gw_usage_add(&two, now_ms, 2);
    }
    assert_true(gw_usage_is_much(&four, now_ms - 1));
    assert_false(gw_usage_is_much(&two, now_ms - 1));
    assert_false(gw_usage_is_much(&four, now_ms + 3 * GW_USAGE_PERIOD_MS)); /* it is forgiven */
}

static void no_sum_overflows(void **state)
{
    struct gw_usage usage = {0};
    gw_usage_add(&usage, START_MS, UINT32_MAX);
    gw_usage_add(&usage, START_MS, UINT32_MAX);
    assert_int_equal(gw_usage_read(&usage, START_MS), UINT32_MAX);
    gw_usage_add(&usage, START_MS, UINT64_C(1) << 40);
    assert_int_equal(gw_usage_read(&usage, START_MS), UINT32_MAX);
}

static void what_connections_use_their_address_uses(void **state)
{
    struct gw_usage first, second, *address = of_address("192.0.2.1", START_MS);
    gw_usage_begin(&first, address, START_MS);
    gw_usage_begin(&second, address, START_MS);
    gw_usage_add(&first, START_MS, 300);
    gw_usage_add(&second, START_MS, 500);
    assert_int_equal(gw_usage_read(&first, START_MS), 300);
    assert_int_equal(gw_usage_read(of_address("192.0.2.1", START_MS), START_MS), 800);
    assert_int_equal(gw_usage_read(of_address("192.0.2.2", START_MS), START_MS), 0);
}

static void a_new_connection_of_an_address_that_used_much_has_used_much_for_a_while(void **state)
{
    struct gw_usage first, second, other;
    struct gw_usage *address = of_address("192.0.2.1", START_MS);
    gw_usage_begin(&first, address, START_MS);
    gw_usage_add(&first, START_MS, 20 * GW_USAGE_MUCH_US);
    gw_usage_begin(&second, address, START_MS);
    gw_usage_begin(&other, of_address("192.0.2.2", START_MS), START_MS);
    assert_true(gw_usage_is_much(&second, START_MS));
    assert_false(gw_usage_is_much(&other, START_MS));
    assert_false(gw_usage_is_much(&second, START_MS + 4 * GW_USAGE_PERIOD_MS));
}

static void a_network_of_64_bits_is_one_address(void **state)
{
    gw_usage_add(of_address("2001:db8:0:1::1", START_MS), START_MS, 700);
    assert_int_equal(gw_usage_read(of_address("2001:db8:0:1:ffff::2", START_MS), START_MS), 700);
    assert_int_equal(gw_usage_read(of_address("2001:db8:0:2::1", START_MS), START_MS), 0);
}

static void who_uses_most_is_remembered_however_many_others_come(void **state)
{
    char text[] = "10.0.000.000";
    gw_usage_add(of_address("192.0.2.1", START_MS), START_MS, 100000);
    for (unsigned i = 0; i != 10000; ++i) {
        (void)snprintf(text, sizeof(text), "10.0.%u.%u", i / 100, i % 100);
        gw_usage_add(of_address(text, START_MS), START_MS, 10);
    }
    assert_int_equal(gw_usage_read(of_address("192.0.2.1", START_MS), START_MS), 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_used_counts_half_after_each_period),
        cmocka_unit_test(four_thousandths_of_a_thread_are_much_and_two_are_not),
        cmocka_unit_test(no_sum_overflows),
        cmocka_unit_test_setup_teardown(what_connections_use_their_address_uses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_connection_of_an_address_that_used_much_has_used_much_for_a_while, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_network_of_64_bits_is_one_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_uses_most_is_remembered_however_many_others_come, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
