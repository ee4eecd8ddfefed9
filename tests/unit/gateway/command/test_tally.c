#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <h2o.h>
#include "gateway/command/tally.h"

static h2o_iovec_t slice(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static struct gw_tally_row *add(struct gw_tally *tally, const char *what, const char *from, const char *to)
{
    return gw_tally_add(tally, what, slice(from), slice(to));
}

static void the_largest_count_comes_first(void **state)
{
    struct gw_tally tally;
    gw_tally_init(&tally, 100, 0);
    for (int i = 0; i != 3; ++i)
        assert_null(add(&tally, "route", "b", "c")); /* wants no examples */
    add(&tally, "route", "a", "c");
    add(&tally, "answer", "b", "c");
    for (int i = 0; i != 1000; ++i)
        add(&tally, "route", "a", "d");
    gw_tally_sort(&tally);
    assert_int_equal(tally.size, 4);
    assert_string_equal(tally.rows[0].to, "d");
    assert_int_equal(tally.rows[0].count, 1000);
    assert_int_equal(tally.rows[1].count, 3);
    assert_string_equal(tally.rows[2].what, "answer");
    assert_string_equal(tally.rows[3].from, "a");
    gw_tally_dispose(&tally);
}

static void parts_are_told_apart(void **state)
{
    struct gw_tally tally;
    gw_tally_init(&tally, 100, 0);
    add(&tally, "a", "b", "c");
    add(&tally, "a", "bc", "");
    add(&tally, "ab", "", "c");
    assert_int_equal(tally.size, 3);
    gw_tally_dispose(&tally);
}

static void each_row_wants_so_many_examples(void **state)
{
    const h2o_iovec_t none = {NULL, 0};
    struct gw_tally tally;
    gw_tally_init(&tally, 100, 2);
    for (int i = 0; i != 5; ++i) {
        struct gw_tally_row *row = add(&tally, "route", "a", "b");
        assert_int_equal(row != NULL, i < 2);
        if (row != NULL)
            gw_tally_add_example(row, i, slice("GET /"), none, slice("old"), none);
    }
    assert_int_equal(tally.rows[0].count, 5);
    assert_int_equal(tally.rows[0].num_examples, 2);
    assert_int_equal(tally.rows[0].examples[1].line, 1);
    assert_string_equal(tally.rows[0].examples[1].request, "GET /");
    assert_string_equal(tally.rows[0].examples[1].client, "");
    assert_string_equal(tally.rows[0].examples[1].before, "old");
    assert_null(tally.rows[0].examples[1].after);
    gw_tally_dispose(&tally);
}

static void rows_are_bounded(void **state)
{
    struct gw_tally tally;
    char name[16];
    gw_tally_init(&tally, 10, 1);
    for (int i = 0; i != 100; ++i) {
        snprintf(name, sizeof(name), "%d", i);
        assert_int_equal(add(&tally, "route", name, "b") != NULL, i < 10);
    }
    add(&tally, "route", "5", "b"); /* what is there still counts */
    assert_int_equal(tally.size, 10);
    assert_int_equal(tally.rows[5].count, 2);
    assert_int_equal(tally.dropped, 90);
    gw_tally_dispose(&tally);
}

static void long_texts_are_cut_between_characters(void **state)
{
    struct gw_tally tally;
    char text[1000];
    for (size_t i = 0; i + 2 <= sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    gw_tally_init(&tally, 10, 1);
    struct gw_tally_row *row = gw_tally_add(&tally, "x", h2o_iovec_init(text, 999), slice("b"));
    assert_string_equal(row->from + strlen(row->from) - 5, "\xc3\xa9...");
    assert_in_range(strlen(row->from), 290, 300);
    assert_ptr_equal(gw_tally_add(&tally, "x", h2o_iovec_init(text, 999), slice("b")), row); /* the whole text counts */
    assert_int_equal(row->count, 2);
    gw_tally_dispose(&tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_count_comes_first),         cmocka_unit_test(parts_are_told_apart),
        cmocka_unit_test(each_row_wants_so_many_examples),       cmocka_unit_test(rows_are_bounded),
        cmocka_unit_test(long_texts_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
