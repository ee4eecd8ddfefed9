#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/base/names.h"

enum { MANY = 5000 };

static void every_name_put_is_found_with_its_value(void **state)
{
    static char texts[MANY][8];
    struct gw_names names;
    bool is_new;
    gw_names_init(&names, NULL);
    assert_null(gw_names_get(&names, h2o_iovec_init("0", 1)));
    for (size_t i = 0; i != MANY; ++i) {
        size_t len = sprintf(texts[i], "%zu", i);
        *gw_names_put(&names, h2o_iovec_init(texts[i], len), &is_new) = i;
        assert_true(is_new);
    }
    for (size_t i = 0; i != MANY; ++i)
        assert_int_equal(*gw_names_get(&names, h2o_iovec_init(texts[i], strlen(texts[i]))), i);
    assert_null(gw_names_get(&names, h2o_iovec_init("x", 1)));
    assert_int_equal(names.size, MANY);
    gw_names_dispose(&names);
}

static void a_name_put_twice_keeps_its_value(void **state)
{
    struct gw_names names;
    bool is_new;
    gw_names_init(&names, NULL);
    *gw_names_put(&names, h2o_iovec_init("a", 1), &is_new) = 7;
    assert_true(is_new);
    assert_int_equal(*gw_names_put(&names, h2o_iovec_init("a", 1), &is_new), 7);
    assert_false(is_new);
    assert_int_equal(names.size, 1);
    gw_names_dispose(&names);
}

static void names_are_compared_with_their_length(void **state)
{
    struct gw_names names;
    bool is_new;
    gw_names_init(&names, NULL);
    *gw_names_put(&names, h2o_iovec_init("", 0), &is_new) = 1;
    *gw_names_put(&names, h2o_iovec_init("ab", 2), &is_new) = 2;
    *gw_names_put(&names, h2o_iovec_init("ab\0c", 4), &is_new) = 3;
    assert_int_equal(*gw_names_get(&names, h2o_iovec_init("", 0)), 1);
    assert_int_equal(*gw_names_get(&names, h2o_iovec_init("abc", 2)), 2);
    assert_int_equal(*gw_names_get(&names, h2o_iovec_init("ab\0c", 4)), 3);
    assert_null(gw_names_get(&names, h2o_iovec_init("a", 1)));
    gw_names_dispose(&names);
}

static void names_of_a_pool_live_as_long_as_it(void **state)
{
    h2o_mem_pool_t pool;
    struct gw_names names;
    bool is_new;
    char text[MANY];
    h2o_mem_init_pool(&pool);
    gw_names_init(&names, &pool);
    memset(text, 'x', sizeof(text));
    for (size_t len = 1; len != 300; ++len)
        *gw_names_put(&names, h2o_iovec_init(text, len), &is_new) = len;
    assert_int_equal(*gw_names_get(&names, h2o_iovec_init(text, 299)), 299);
    gw_names_dispose(&names);
    h2o_mem_clear_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_put_is_found_with_its_value),
        cmocka_unit_test(a_name_put_twice_keeps_its_value),
        cmocka_unit_test(names_are_compared_with_their_length),
        cmocka_unit_test(names_of_a_pool_live_as_long_as_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
