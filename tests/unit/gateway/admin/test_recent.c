#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/recent.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_ones_are_kept_from_the_newest_on),
        cmocka_unit_test(what_routes_are_there_for_is_no_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
