#include "tls/memory.h"
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <openssl/crypto.h>

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
bool tls_memory_keep_records(void) { return false; }
#else
/* Buffers for reading have some 16,700 bytes, those for writing less; every block that is kept has room for each. */
enum { RECORD_MIN = 16 * 1024, RECORD_MAX = 17 * 1024, MAX_KEPT = 4 };

static __thread struct {
    void *blocks[MAX_KEPT];
    unsigned num;
    const char *file; /* OpenSSL's that asks for them: it alone is looked at when memory is given back */
} kept;

static bool has_size_of_record(size_t size) { return size >= RECORD_MIN && size <= RECORD_MAX; }

static void *take(size_t size, const char *file, int line)
{
    if (!has_size_of_record(size))
        return size != 0 ? malloc(size) : NULL;
    kept.file = file;
    return kept.num != 0 ? kept.blocks[--kept.num] : malloc(RECORD_MAX);
}

/* Whatever file says, a block is kept only if it has the room: others of OpenSSL may ask for as much. */
static bool is_worth_keeping(void *block)
{
    size_t room = kept.num != MAX_KEPT ? malloc_usable_size(block) : 0;
    return room >= RECORD_MAX && room < 2 * RECORD_MAX;
}

static void give(void *block, const char *file, int line)
{
    if (__builtin_expect(file == kept.file, 0) && is_worth_keeping(block))
        kept.blocks[kept.num++] = block;
    else
        free(block);
}

bool tls_memory_keep_records(void) { return CRYPTO_set_mem_functions(take, NULL, give) == 1; }
#endif
