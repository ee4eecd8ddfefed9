#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/recent.h"
#include "gateway/worker.h"

static void the_last_ones_are_kept_from_the_newest_on(void **state)
{
    struct gw_recent recent = {.total = 0};
    assert_int_equal(gw_recent_size(&recent), 0);
    for (uint64_t i = 1; i <= 3 * GW_RECENT_MAX + 7; ++i) {
        struct gw_recent_error entry = {.wall_ms = i};
        gw_recent_add(&recent, &entry);
        assert_int_equal(gw_recent_size(&recent), i < GW_RECENT_MAX ? i : GW_RECENT_MAX);
        assert_int_equal(gw_recent_at(&recent, 0)->wall_ms, i);
        assert_int_equal(gw_recent_at(&recent, gw_recent_size(&recent) - 1)->wall_ms,
                         i < GW_RECENT_MAX ? 1 : i - GW_RECENT_MAX + 1);
    }
    assert_int_equal(recent.total, 3 * GW_RECENT_MAX + 7);
    gw_recent_dispose(&recent);
}

static void what_routes_are_there_for_is_no_error(void **state)
{
    unsigned num_errors = 0;
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        if (gw_recent_is_error((enum gw_reason)i))
            ++num_errors;
        else if (i != GW_REASON_NONE) /* the remedy of the rest says that there is none needed */
            assert_string_equal(gw_reason_info((enum gw_reason)i)->remedy, "Nothing is wrong.");
    assert_int_equal(num_errors, GW_REASON_COUNT - 7);
}

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
        cmocka_unit_test(the_last_ones_are_kept_from_the_newest_on),
        cmocka_unit_test(what_routes_are_there_for_is_no_error),
        cmocka_unit_test(lag_is_remembered_for_one_window_and_forgotten_after_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
