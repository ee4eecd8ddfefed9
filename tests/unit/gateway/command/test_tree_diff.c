#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/command/tree_diff.h"

static const struct gw_node *load(h2o_mem_pool_t *pool, const char *text)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    const struct gw_node *node = gw_yaml_load_text(pool, "t", h2o_iovec_init(text, strlen(text)), false, NULL, &errors);
    assert_int_equal(errors.num_errors, 0);
    gw_errors_dispose(&errors);
    return node;
}

/* All changes as "path: from -> to\n". */
static void assert_changes(const char *from, const char *to, const char *expected)
{
    struct gw_setting_changes changes = {NULL};
    h2o_mem_pool_t pool;
    char text[4096] = "";
    size_t len = 0;

    h2o_mem_init_pool(&pool);
    gw_tree_diff(&pool, "", load(&pool, from), load(&pool, to), &changes);
    for (size_t i = 0; i != changes.size; ++i)
        len += snprintf(text + len, sizeof(text) - len, "%s: %s -> %s\n", changes.entries[i].path,
                        changes.entries[i].from != NULL ? changes.entries[i].from : "nothing",
                        changes.entries[i].to != NULL ? changes.entries[i].to : "nothing");
    assert_string_equal(text, expected);
    h2o_mem_clear_pool(&pool);
}

static void what_is_equal_is_no_change(void **state)
{
    assert_changes("{a: 1, b: [x, {c: d}]}", "{b: [x, {c: d}], a: 1}", "");
}

static void changes_have_dotted_paths(void **state)
{
    assert_changes("{a: {b: {c: 1, d: 2}}, e: x}", "{a: {b: {c: 3, d: 2}, f: [1, 2]}}",
                   "a.b.c: 1 -> 3\na.f: nothing -> [1, 2]\ne: x -> nothing\n");
}

static void entries_of_lists_are_found_by_their_names(void **state)
{
    assert_changes("{t: [{address: a, weight: 1}, {address: b, weight: 1}]}",
                   "{t: [{address: b, weight: 2}, {address: c, weight: 1}, {address: a, weight: 1}]}",
                   "t[b].weight: 1 -> 2\nt[c]: nothing -> {address: c, weight: 1}\n");
    assert_changes("{f: [{group: a, weight: 9}, {group: b, weight: 1}]}", "{f: [{group: a, weight: 5}]}",
                   "f[a].weight: 9 -> 5\nf[b]: {group: b, weight: 1} -> nothing\n");
}

static void lists_without_names_are_compared_whole(void **state)
{
    assert_changes("{a: [x, y]}", "{a: [y, x]}", "a: [x, y] -> [y, x]\n");
    assert_changes("{a: [{x: 1}]}", "{a: [{x: 2}]}", "a: [{x: 1}] -> [{x: 2}]\n");
    /* two of a name */
    assert_changes("{a: [{name: n, x: 1}, {name: n, x: 2}]}", "{a: [{name: n, x: 1}, {name: n, x: 3}]}",
                   "a: [{name: n, x: 1}, {name: n, x: 2}] -> [{name: n, x: 1}, {name: n, x: 3}]\n");
    assert_changes("{a: [x]}", "{a: {b: x}}", "a: [x] -> {b: x}\n");
}

static void secrets_differ_without_being_shown(void **state)
{
    assert_changes("{a: \"***1f\", b: \"***2\"}", "{a: \"***1f\", b: \"***3\"}", "b: *** -> ***\n");
}

static void values_stay_on_one_line(void **state)
{
    assert_changes("{a: \"x\\ny\\u0001\"}", "{a: ''}", "a: x\\ny\\x01 -> \"\"\n");
}

/* ---- order ---- */

static void assert_moved(const char *from, const char *expected)
{
    size_t places[64] = {0}, n = strlen(from);
    bool moved[64];
    char text[65] = "";
    for (size_t i = 0; i != n; ++i)
        places[i] = (size_t)(from[i] - 'a');
    gw_find_moved(places, n, moved);
    for (size_t i = 0; i != n; ++i)
        text[i] = moved[i] ? from[i] : '.';
    assert_string_equal(text, expected);
}

static void as_few_as_possible_have_moved(void **state)
{
    assert_moved("", "");
    assert_moved("abc", "...");
    assert_moved("bcda", "...a");
    assert_moved("dabc", "d...");
    assert_moved("abecd", "..e..");
    assert_moved("bdfhj", "....."); /* gaps: others were removed */
}

static void what_has_not_moved_is_in_order(void **state)
{
    enum { N = 200 };
    size_t from[N], best = 0;
    bool moved[N];
    srand(7);
    for (int round = 0; round != 50; ++round) {
        size_t longest[N], expected = 0, kept = 0, last = 0;
        for (size_t i = 0; i != N; ++i)
            from[i] = i;
        for (size_t i = N - 1; i != 0; --i) {
            size_t j = (size_t)rand() % (i + 1), t = from[i];
            from[i] = from[j];
            from[j] = t;
        }
        gw_find_moved(from, N, moved);
        for (size_t i = 0; i != N; ++i) { /* the plain quadratic way */
            longest[i] = 1;
            for (size_t j = 0; j != i; ++j)
                if (from[j] < from[i] && longest[j] + 1 > longest[i])
                    longest[i] = longest[j] + 1;
            expected = longest[i] > expected ? longest[i] : expected;
            if (moved[i])
                continue;
            assert_true(kept == 0 || from[i] > last);
            last = from[i];
            ++kept;
        }
        assert_int_equal(kept, expected);
        best = kept > best ? kept : best;
    }
    assert_true(best > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_equal_is_no_change),
        cmocka_unit_test(changes_have_dotted_paths),
        cmocka_unit_test(entries_of_lists_are_found_by_their_names),
        cmocka_unit_test(lists_without_names_are_compared_whole),
        cmocka_unit_test(secrets_differ_without_being_shown),
        cmocka_unit_test(values_stay_on_one_line),
        cmocka_unit_test(as_few_as_possible_have_moved),
        cmocka_unit_test(what_has_not_moved_is_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
