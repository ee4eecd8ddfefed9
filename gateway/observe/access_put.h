/* Writing the parts of a log line into memory whose bound is known: each returns where it stopped. */
#pragma once
#include <stdint.h>
#include <string.h>
#include "gateway/observe/access_line.h"

#define PUT(dst, literal) put((dst), "" literal, sizeof(literal) - 1)

/* Always inline: the length is nearly always a constant, and a call costs more than the copy. */
static inline __attribute__((always_inline)) char *put(char *dst, const char *bytes, size_t len)
{
    memcpy(dst, bytes, len);
    return dst + len;
}

static inline char *put_number(char *dst, uint64_t n)
{
    char digits[20];
    size_t len = 0;
    do
        digits[sizeof(digits) - ++len] = '0' + n % 10;
    while ((n /= 10) != 0);
    return put(dst, digits + sizeof(digits) - len, len);
}

static inline char *put_digits(char *dst, unsigned n, size_t count)
{
    for (size_t i = count; i != 0; --i, n /= 10)
        dst[i - 1] = '0' + n % 10;
    return dst + count;
}

/* Milliseconds with three digits after the point. */
static inline char *put_ms(char *dst, uint64_t us)
{
    dst = put_number(dst, us / 1000);
    *dst++ = '.';
    return put_digits(dst, us % 1000, 3);
}

static inline size_t gw_access_capped(size_t len) { return len < GW_ACCESS_MAX_TEXT ? len : GW_ACCESS_MAX_TEXT; }
