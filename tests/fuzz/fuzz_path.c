/* Any bytes as a raw path: the canonical form equals that of a plain two-step reading of the rules (decode, then split
 * into segments), and has what routing/README.md promises of every canonical path. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "routing/path.h"

static int hex(unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    if (c >= 'A' && c <= 'F')
        c |= 0x20;
    const char *at = c != 0 ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

static int is_unreserved(int c)
{
    return c != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", c) != NULL;
}

/* Step one: escapes. Returns the length of what was written to out, -1 for a path that must be refused. */
static long decode(const uint8_t *raw, size_t len, char *out)
{
    size_t made = 0;
    if (len == 0 || raw[0] != '/')
        return -1;
    for (size_t i = 0; i != len; ++i) {
        if (raw[i] <= ' ' || raw[i] >= 0x7f || raw[i] == '#')
            return -1;
        if (raw[i] != '%') {
            out[made++] = (char)raw[i];
            continue;
        }
        if (len - i < 3 || hex(raw[i + 1]) < 0 || hex(raw[i + 2]) < 0)
            return -1;
        int value = hex(raw[i + 1]) * 16 + hex(raw[i + 2]);
        if (value == 0)
            return -1;
        if (is_unreserved(value)) {
            out[made++] = (char)value;
        } else {
            out[made++] = '%';
            out[made++] = "0123456789ABCDEF"[value >> 4];
            out[made++] = "0123456789ABCDEF"[value & 15];
        }
        i += 2;
    }
    return (long)made;
}

/* Step two: segments, in place. -1 when the path leaves the root. */
static long remove_dots(char *path, size_t len)
{
    size_t *starts = malloc((len + 1) * sizeof(*starts)), depth = 0, made = 0;
    long result = -1;
    for (size_t i = 0; i != len;) {
        size_t end = i + 1; /* i is at a '/' */
        while (end != len && path[end] != '/')
            ++end;
        size_t name_len = end - i - 1;
        int is_dot = name_len == 1 && path[i + 1] == '.';
        int is_dots = name_len == 2 && path[i + 1] == '.' && path[i + 2] == '.';
        if (is_dots && depth == 0)
            goto done;
        if (is_dots)
            made = starts[--depth];
        if (!is_dot && !is_dots) {
            starts[depth++] = made;
            memmove(path + made, path + i, end - i);
            made += end - i;
        } else if (end == len) { /* a directory is what is left */
            path[made++] = '/';
        }
        i = end;
    }
    result = (long)made;
done:
    free(starts);
    return result;
}

static void check_promises(h2o_mem_pool_t *pool, h2o_iovec_t canonical, size_t raw_len)
{
    h2o_iovec_t again;
    assert(canonical.len != 0 && canonical.len <= raw_len && canonical.base[0] == '/');
    for (size_t i = 0; i + 1 < canonical.len; ++i) {
        size_t left = canonical.len - i;
        const char *p = canonical.base + i;
        assert(!(left == 2 && memcmp(p, "/.", 2) == 0) && !(left >= 3 && memcmp(p, "/./", 3) == 0));
        assert(!(left == 3 && memcmp(p, "/..", 3) == 0) && !(left >= 4 && memcmp(p, "/../", 4) == 0));
    }
    assert(routing_path_canonical(pool, canonical, &again) == ROUTING_PATH_OK);
    assert(again.base == canonical.base && again.len == canonical.len); /* its own canonical form, and not copied */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    h2o_mem_pool_t pool;
    h2o_iovec_t canonical;
    char *raw = malloc(size != 0 ? size : 1), *expected = malloc(size + 1);

    h2o_mem_init_pool(&pool);
    if (size != 0)
        memcpy(raw, data, size); /* of the exact size, so that the sanitizer sees reads beyond it */
    enum routing_path_result result = routing_path_canonical(&pool, h2o_iovec_init(raw, size), &canonical);
    long len = decode(data, size, expected);
    if (len >= 0)
        len = remove_dots(expected, (size_t)len);
    assert((result == ROUTING_PATH_OK) == (len >= 0));
    assert(routing_path_problem(result) != NULL);
    if (result == ROUTING_PATH_OK) {
        assert(canonical.len == (size_t)len && memcmp(canonical.base, expected, canonical.len) == 0);
        check_promises(&pool, canonical, size);
    } else {
        assert(canonical.base == NULL);
    }
    h2o_mem_clear_pool(&pool);
    free(raw);
    free(expected);
    return 0;
}
