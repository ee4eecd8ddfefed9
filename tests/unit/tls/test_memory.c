#include "tls/memory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/crypto.h>

enum { FOR_READING = 16716, FOR_WRITING = 16593, MANY = 64 };

static bool is_kept;

static int keep_records(void **state)
{
    is_kept = tls_memory_keep_records();
    return 0;
}

/* Which allocator is behind it must not show. */
static void blocks_have_the_room_that_was_asked_for(void **state)
{
    static const size_t sizes[] = {1, 1000, 16383, 16384, FOR_WRITING, FOR_READING, 17408, 17409, 100000};
    unsigned char *blocks[MANY];
    for (size_t round = 0; round != 20; ++round) {
        for (size_t i = 0; i != MANY; ++i) {
            size_t size = sizes[(i + round) % (sizeof(sizes) / sizeof(sizes[0]))];
            assert_non_null(blocks[i] = OPENSSL_malloc(size));
            memset(blocks[i], (int)i, size);
        }
        for (size_t i = 0; i != MANY; ++i) {
            size_t size = sizes[(i + round) % (sizeof(sizes) / sizeof(sizes[0]))];
            assert_int_equal(blocks[i][0], i);
            assert_int_equal(blocks[i][size - 1], i);
            OPENSSL_free(blocks[i]);
        }
    }
    assert_null(OPENSSL_malloc(0));
    OPENSSL_free(NULL);
}

static void block_grows_with_what_is_in_it(void **state)
{
    char *block = OPENSSL_malloc(FOR_READING);
    memset(block, 'x', FOR_READING);
    assert_non_null(block = OPENSSL_realloc(block, 1 << 20));
    assert_int_equal(block[FOR_READING - 1], 'x');
    OPENSSL_free(block);
}

static void next_record_gets_the_block_of_the_last(void **state)
{
    if (!is_kept)
        skip();
    void *reading = OPENSSL_malloc(FOR_READING);
    OPENSSL_free(reading);
    void *writing = OPENSSL_malloc(FOR_WRITING);
    assert_ptr_equal(writing, reading);
    OPENSSL_free(writing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_have_the_room_that_was_asked_for),
        cmocka_unit_test(block_grows_with_what_is_in_it),
        cmocka_unit_test(next_record_gets_the_block_of_the_last),
    };
    return cmocka_run_group_tests_name("tls/memory", tests, keep_records, NULL);
}
