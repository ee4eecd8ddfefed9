#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/base/trace.h"
#include "gateway/base/yaml.h"

static int num_evaluated;

static int evaluate(void) { return ++num_evaluated; }

static void lines_are_kept_in_order_with_their_settings(void **state)
{
    struct gw_trace trace;
    struct gw_node node = {.line = 7};
    gw_trace_init(&trace);
    gw_trace(&trace, "listener", NULL, "port %d", 80);
    for (int i = 0; i != 100; ++i)
        gw_trace(&trace, "route", &node, "route %d lost", i);
    assert_int_equal(trace.size, 101);
    assert_string_equal(trace.entries[0].stage, "listener");
    assert_string_equal(trace.entries[0].text, "port 80");
    assert_null(trace.entries[0].at);
    assert_string_equal(trace.entries[100].text, "route 99 lost");
    assert_ptr_equal(trace.entries[100].at, &node);
    gw_trace_dispose(&trace);
    assert_int_equal(trace.size, 0);
}

static void live_traffic_does_not_evaluate_what_would_be_traced(void **state)
{
    struct gw_trace *none = NULL;
    gw_trace(none, "route", NULL, "%d", evaluate());
    assert_int_equal(num_evaluated, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_kept_in_order_with_their_settings),
        cmocka_unit_test(live_traffic_does_not_evaluate_what_would_be_traced),
    };
    return cmocka_run_group_tests_name("base/trace", tests, NULL, NULL);
}
