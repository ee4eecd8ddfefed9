#include "tests/unit/routing/load.h"
#include "tests/unit/routing/path_cases.h"

static void every_case_of_the_table_has_its_canonical_path(void **state)
{
    size_t n = sizeof(path_cases) / sizeof(path_cases[0]);
    assert_true(n >= 100);
    for (size_t i = 0; i != n; ++i) {
        const struct path_case *c = path_cases + i;
        h2o_mem_pool_t pool;
        h2o_iovec_t canonical;
        h2o_mem_init_pool(&pool);
        /* a copy of the exact size, so that the sanitizer sees a read beyond it */
        h2o_iovec_t raw = h2o_iovec_init(h2o_mem_alloc(c->raw.len), c->raw.len);
        memcpy(raw.base, c->raw.base, raw.len);
        enum routing_path_result result = routing_path_canonical(&pool, raw, &canonical);
        if (result != c->result || (c->canonical != NULL && (canonical.len != strlen(c->canonical) ||
                                                             memcmp(canonical.base, c->canonical, canonical.len) != 0)))
            fail_msg("\"%s\": %s, \"%.*s\"", c->raw.base, routing_path_problem(result), (int)canonical.len,
                     canonical.base);
        if (c->canonical == NULL)
            assert_null(canonical.base);
        h2o_mem_clear_pool(&pool);
        free(raw.base);
    }
}

static void a_canonical_path_is_its_own_canonical_path_and_not_copied(void **state)
{
    for (size_t i = 0; i != sizeof(path_cases) / sizeof(path_cases[0]); ++i) {
        if (path_cases[i].canonical == NULL)
            continue;
        h2o_iovec_t raw = text_of(path_cases[i].canonical), canonical;
        h2o_mem_pool_t pool;
        h2o_mem_init_pool(&pool);
        assert_int_equal(routing_path_canonical(&pool, raw, &canonical), ROUTING_PATH_OK);
        assert_ptr_equal(canonical.base, raw.base);
        assert_int_equal(canonical.len, raw.len);
        h2o_mem_clear_pool(&pool);
    }
}

static void every_result_has_a_sentence_of_its_own(void **state)
{
    for (int i = ROUTING_PATH_OK; i <= ROUTING_PATH_ABOVE_ROOT; ++i)
        for (int j = i + 1; j <= ROUTING_PATH_ABOVE_ROOT; ++j)
            assert_string_not_equal(routing_path_problem(i), routing_path_problem(j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_table_has_its_canonical_path),
        cmocka_unit_test(a_canonical_path_is_its_own_canonical_path_and_not_copied),
        cmocka_unit_test(every_result_has_a_sentence_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
