#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "gateway/gate.h"

enum { SECOND_US = 1000000 };

static struct gw_ip ip_of(const char *text)
{
    struct gw_ip ip;
    assert_true(gw_ip_parse(h2o_iovec_init(text, strlen(text)), &ip));
    return ip;
}

static void an_address_has_no_more_connections_than_its_cap(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    struct gw_ip a = ip_of("192.0.2.1"), b = ip_of("192.0.2.2");
    for (int i = 0; i != 3; ++i)
        assert_int_equal(gw_gate_enter(gate, &a, 3, 0, 1), GW_GATE_OPEN);
    assert_int_equal(gw_gate_enter(gate, &a, 3, 0, 1), GW_GATE_TOO_MANY);
    assert_int_equal(gw_gate_enter(gate, &b, 3, 0, 1), GW_GATE_OPEN);
    gw_gate_leave(gate, &a, 2);
    assert_int_equal(gw_gate_enter(gate, &a, 3, 0, 2), GW_GATE_OPEN);
    assert_int_equal(gw_gate_enter(gate, &a, 3, 0, 2), GW_GATE_TOO_MANY);
    gw_gate_destroy(gate);
}

static void the_first_64_bits_of_ipv6_are_one_client(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    struct gw_ip a = ip_of("2001:db8::1"), same = ip_of("2001:db8:0:0:ffff::2"), other = ip_of("2001:db8:0:1::1");
    assert_int_equal(gw_gate_enter(gate, &a, 1, 0, 1), GW_GATE_OPEN);
    assert_int_equal(gw_gate_enter(gate, &same, 1, 0, 1), GW_GATE_TOO_MANY);
    assert_int_equal(gw_gate_enter(gate, &other, 1, 0, 1), GW_GATE_OPEN);
    gw_gate_leave(gate, &same, 1);
    assert_int_equal(gw_gate_enter(gate, &a, 1, 0, 1), GW_GATE_OPEN);
    gw_gate_destroy(gate);
}

static void a_rate_allows_one_second_s_worth_at_once_and_then_its_pace(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    struct gw_ip a = ip_of("192.0.2.1");
    uint64_t now_us = 5 * SECOND_US;
    for (int i = 0; i != 4; ++i)
        assert_int_equal(gw_gate_enter(gate, &a, 0, 4, now_us), GW_GATE_OPEN);
    assert_int_equal(gw_gate_enter(gate, &a, 0, 4, now_us), GW_GATE_TOO_FAST);
    assert_int_equal(gw_gate_enter(gate, &a, 0, 4, now_us + 249999), GW_GATE_TOO_FAST);
    assert_int_equal(gw_gate_enter(gate, &a, 0, 4, now_us + 250000), GW_GATE_OPEN);
    assert_int_equal(gw_gate_enter(gate, &a, 0, 4, now_us + 250000), GW_GATE_TOO_FAST);
    gw_gate_destroy(gate);
}

static void closing_connections_does_not_buy_a_faster_rate(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    struct gw_ip a = ip_of("192.0.2.1");
    for (int i = 0; i != 2; ++i) {
        assert_int_equal(gw_gate_enter(gate, &a, 0, 2, SECOND_US), GW_GATE_OPEN);
        gw_gate_leave(gate, &a, SECOND_US);
    }
    assert_int_equal(gw_gate_enter(gate, &a, 0, 2, SECOND_US), GW_GATE_TOO_FAST);
    gw_gate_destroy(gate);
}

static void addresses_that_are_gone_take_no_memory(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    for (unsigned i = 0; i != 20000; ++i) {
        char text[46];
        snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        struct gw_ip ip = ip_of(text);
        assert_int_equal(gw_gate_enter(gate, &ip, 1, 0, i), GW_GATE_OPEN);
        gw_gate_leave(gate, &ip, i);
    }
    assert_int_equal(gw_gate_size(gate), 0);
    /* with rates they are remembered while their bucket fills, here for half a second, and swept by those who come */
    for (unsigned i = 0; i != 200000; ++i) {
        char text[46];
        snprintf(text, sizeof(text), "2001:db8:%x:%x::", i >> 16, i & 0xffff);
        struct gw_ip ip = ip_of(text);
        assert_int_equal(gw_gate_enter(gate, &ip, 0, 2, i * 100), GW_GATE_OPEN);
        gw_gate_leave(gate, &ip, i * 100);
    }
    assert_in_range(gw_gate_size(gate), 1, 20000);
    gw_gate_destroy(gate);
}

static void the_rate_of_all_tells_how_long_to_wait(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    uint64_t now_us = 9 * SECOND_US;
    for (int i = 0; i != 10; ++i) {
        assert_int_equal(gw_rate_wait_us(gw_gate_rate(gate), 10, now_us), 0);
        gw_rate_take(gw_gate_rate(gate), 10, now_us);
    }
    assert_int_equal(gw_rate_wait_us(gw_gate_rate(gate), 10, now_us), 100000);
    assert_int_equal(gw_rate_wait_us(gw_gate_rate(gate), 10, now_us + 60000), 40000);
    assert_int_equal(gw_rate_wait_us(gw_gate_rate(gate), 10, now_us + 100000), 0);
    gw_gate_destroy(gate);
}

static void *enter_and_leave(void *data)
{
    struct gw_ip ip = ip_of("192.0.2.1");
    size_t *entered = data;
    for (int i = 0; i != 20000; ++i) {
        if (gw_gate_enter(*(struct gw_gate **)data, &ip, 1, 0, 1) == GW_GATE_OPEN) {
            ++entered[1];
            gw_gate_leave(*(struct gw_gate **)data, &ip, 1);
        }
    }
    return NULL;
}

static void threads_may_enter_and_leave_together(void **state)
{
    struct gw_gate *gate = gw_gate_create();
    pthread_t threads[4];
    size_t data[4][2], entered = 0;
    for (int i = 0; i != 4; ++i) {
        data[i][0] = (size_t)gate;
        data[i][1] = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, enter_and_leave, data[i]), 0);
    }
    for (int i = 0; i != 4; ++i) {
        pthread_join(threads[i], NULL);
        entered += data[i][1];
    }
    assert_true(entered != 0);
    assert_int_equal(gw_gate_size(gate), 0);
    gw_gate_destroy(gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_no_more_connections_than_its_cap),
        cmocka_unit_test(the_first_64_bits_of_ipv6_are_one_client),
        cmocka_unit_test(a_rate_allows_one_second_s_worth_at_once_and_then_its_pace),
        cmocka_unit_test(closing_connections_does_not_buy_a_faster_rate),
        cmocka_unit_test(addresses_that_are_gone_take_no_memory),
        cmocka_unit_test(the_rate_of_all_tells_how_long_to_wait),
        cmocka_unit_test(threads_may_enter_and_leave_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
