#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/alloc.h"
#include "gateway/base/hash.h"

static void texts_hash_as_published_for_fnv_1a(void **state)
{
    assert_true(gw_fnv1a(GW_FNV1A_START, "", 0) == GW_FNV1A_START);
    assert_true(gw_fnv1a(GW_FNV1A_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(gw_fnv1a(GW_FNV1A_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
    assert_true(gw_fnv1a(gw_fnv1a(GW_FNV1A_START, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

static void numbers_mix_as_published_for_splitmix64(void **state)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    assert_true(gw_mix64(1234567 + step) == UINT64_C(6457827717110365317)); /* the first two of seed 1234567 */
    assert_true(gw_mix64(1234567 + 2 * step) == UINT64_C(3203168211198807973));
}

static void lines_of_the_cache_are_aligned_whole_and_zero(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000};
    for (size_t i = 0; i != sizeof(sizes) / sizeof(sizes[0]); ++i) {
        unsigned char *lines = gw_alloc_lines(sizes[i]);
        assert_int_equal((uintptr_t)lines % GW_CACHE_LINE, 0);
        for (size_t j = 0; j != sizes[i]; ++j)
            assert_int_equal(lines[j], 0);
        free(lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_hash_as_published_for_fnv_1a),
        cmocka_unit_test(numbers_mix_as_published_for_splitmix64),
        cmocka_unit_test(lines_of_the_cache_are_aligned_whole_and_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
