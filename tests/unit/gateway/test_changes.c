#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/changes.h"
#include "gateway/admin/reloads.h"

#define LISTENERS         "listeners: {http: {address: '127.0.0.1:8080'}}\n"
#define ROUTE(name, path) "- {name: " name ", match: {path: " path "}, echo: true}\n"

static struct gw_config *load(const char *text)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load_text("t", h2o_iovec_init(text, strlen(text)), false, &errors);
    assert_non_null(config);
    gw_errors_dispose(&errors);
    return config;
}

static void assert_changes(const char *before, const char *after, const char *expected)
{
    struct gw_config *a = load(before), *b = load(after);
    struct gw_changes changes;
    char text[200];

    gw_changes_count(a, b, &changes);
    assert_int_equal(gw_changes_text(&changes, text, sizeof(text)), strlen(expected));
    assert_string_equal(text, expected);
    gw_config_destroy(a);
    gw_config_destroy(b);
}

static void same_text_is_no_change_wherever_it_stands(void **state)
{
    assert_changes(LISTENERS "routes:\n" ROUTE("a", "/a"), LISTENERS "\n\nroutes:\n\n" ROUTE("a", "/a"), "no changes");
}

static void routes_are_counted_by_name(void **state)
{
    assert_changes(LISTENERS "routes:\n" ROUTE("a", "/a") ROUTE("b", "/b") ROUTE("c", "/c"),
                   LISTENERS "routes:\n" ROUTE("a", "/a") ROUTE("c", "/x") ROUTE("d", "/d") ROUTE("e", "/e"),
                   "routes +2 -1 ~1");
}

static void another_order_is_a_change(void **state)
{
    assert_changes(LISTENERS "routes:\n" ROUTE("a", "/a") ROUTE("b", "/b"),
                   LISTENERS "routes:\n" ROUTE("b", "/b") ROUTE("a", "/a"), "routes in another order");
    assert_changes(LISTENERS "routes:\n" ROUTE("a", "/a") ROUTE("b", "/b"),
                   LISTENERS "routes:\n" ROUTE("x", "/x") ROUTE("a", "/a") ROUTE("b", "/b"), "routes +1");
}

static void every_kind_of_thing_is_counted(void **state)
{
    assert_changes(LISTENERS "target_groups: {g: {targets: ['10.0.0.1:80']}, h: {targets: ['10.0.0.1:81']}}\n",
                   "listeners: {http: {address: '127.0.0.1:8081'}, other: {address: '127.0.0.1:8082'}}\n"
                   "target_groups: {g: {targets: ['10.0.0.2:80']}}\n"
                   "shutdown_timeout: 5s\nlimits: {url: 1KiB}\n",
                   "target groups -1 ~1, listeners +1 ~1, settings ~2");
}

static void a_text_that_does_not_fit_is_cut(void **state)
{
    struct gw_changes changes = {.routes = {1, 2, 3}, .other_settings = 4};
    char text[12];
    assert_int_equal(gw_changes_text(&changes, text, sizeof(text)), 11);
    assert_string_equal(text, "routes +1 -");
}

static void the_last_twenty_reloads_are_kept(void **state)
{
    struct gw_reloads reloads = {.total = 0};
    for (uint64_t i = 1; i <= 45; ++i)
        gw_reloads_add(&reloads, &(struct gw_reload_note){.generation = i, .errors = strdup("wrong")});
    assert_int_equal(gw_reloads_size(&reloads), 20);
    assert_int_equal(gw_reloads_at(&reloads, 0)->generation, 45);
    assert_int_equal(gw_reloads_at(&reloads, 19)->generation, 26);
    gw_reloads_dispose(&reloads);
}

static void errors_of_a_load_are_told_with_their_place_up_to_twenty(void **state)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    assert_null(gw_reloads_errors_text(&errors));
    gw_warn_in(&errors, "f", 1, 1, "only a warning");
    for (unsigned i = 1; i <= 25; ++i)
        gw_error_in(&errors, "f", i, 2, "wrong");
    char *text = gw_reloads_errors_text(&errors);
    assert_memory_equal(text, "f:1:2: wrong\nf:2:2: wrong\n", 26);
    assert_string_equal(strstr(text, "f:20:2"), "f:20:2: wrong\nand 5 more");
    free(text);
    gw_errors_dispose(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_text_is_no_change_wherever_it_stands),
        cmocka_unit_test(routes_are_counted_by_name),
        cmocka_unit_test(another_order_is_a_change),
        cmocka_unit_test(every_kind_of_thing_is_counted),
        cmocka_unit_test(a_text_that_does_not_fit_is_cut),
        cmocka_unit_test(the_last_twenty_reloads_are_kept),
        cmocka_unit_test(errors_of_a_load_are_told_with_their_place_up_to_twenty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
