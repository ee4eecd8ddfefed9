#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/base/lag.h"

static void lag_is_remembered_for_one_window_and_forgotten_after_the_next(void **state)
{
    const uint64_t s = 1000 * 1000;
    struct gw_lag_window window = {.now_us = 0};
    assert_int_equal(gw_lag_note(&window, 100 * s, 5), 5);
    assert_int_equal(gw_lag_note(&window, 101 * s, 900), 900);
    assert_int_equal(gw_lag_note(&window, 102 * s, 7), 900);
    assert_int_equal(gw_lag_note(&window, 116 * s, 3), 900); /* of the window before */
    assert_int_equal(gw_lag_note(&window, 129 * s, 20), 900);
    assert_int_equal(gw_lag_note(&window, 132 * s, 1), 20);
    assert_int_equal(gw_lag_note(&window, 200 * s, 2), 2); /* nothing is known of the time between */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lag_is_remembered_for_one_window_and_forgotten_after_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
