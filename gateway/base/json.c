#include "gateway/base/json.h"
#include <h2o/string_.h>
#include <math.h>
#include <stdio.h>

void gw_json_init(struct gw_json *json) { *json = (struct gw_json){NULL}; }

void gw_json_dispose(struct gw_json *json)
{
    free(json->base);
    gw_json_init(json);
}

void gw_json_reset(struct gw_json *json)
{
    json->size = 0;
    json->needs_comma = false;
}

static inline char *reserve(struct gw_json *json, size_t bytes)
{
    if (__builtin_expect(json->capacity - json->size < bytes, 0)) {
        size_t capacity = json->capacity == 0 ? 512 : json->capacity;
        while (capacity - json->size < bytes)
            capacity *= 2;
        json->base = h2o_mem_realloc(json->base, capacity);
        json->capacity = capacity;
    }
    return json->base + json->size;
}

static inline void put(struct gw_json *json, char c)
{
    *reserve(json, 1) = c;
    ++json->size;
}

void gw_json_raw(struct gw_json *json, const char *bytes, size_t len)
{
    h2o_memcpy(reserve(json, len), bytes, len);
    json->size += len;
}

static inline void begin_value(struct gw_json *json)
{
    if (json->needs_comma)
        put(json, ',');
    json->needs_comma = true;
}

static void open_with(struct gw_json *json, char c)
{
    begin_value(json);
    put(json, c);
    json->needs_comma = false;
}

static void close_with(struct gw_json *json, char c)
{
    put(json, c);
    json->needs_comma = true;
}

void gw_json_object(struct gw_json *json) { open_with(json, '{'); }

void gw_json_object_end(struct gw_json *json) { close_with(json, '}'); }

void gw_json_array(struct gw_json *json) { open_with(json, '['); }

void gw_json_array_end(struct gw_json *json) { close_with(json, ']'); }

void gw_json_key(struct gw_json *json, const char *key)
{
    size_t len = strlen(key);
    char *to = reserve(json, len + 4);
    if (json->needs_comma)
        *to++ = ',';
    *to++ = '"';
    memcpy(to, key, len);
    to += len;
    *to++ = '"';
    *to++ = ':';
    json->size = (size_t)(to - json->base);
    json->needs_comma = false;
}

size_t gw_utf8_length(const unsigned char *p, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t len;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (left < len)
        return 0;
    if (p[0] == 0xe0)
        low = 0xa0;
    else if (p[0] == 0xed)
        high = 0x9f;
    else if (p[0] == 0xf0)
        low = 0x90;
    else if (p[0] == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; ++i)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Writes what stands for the special byte(s) at p and returns how many bytes that was. */
static size_t write_special(struct gw_json *json, const unsigned char *p, size_t left)
{
    static const char escapes[32] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    if (*p >= 0x80) {
        size_t len = gw_utf8_length(p, left);
        if (len == 0)
            gw_json_raw(json, H2O_STRLIT("\xef\xbf\xbd"));
        else
            gw_json_raw(json, (const char *)p, len);
        return len == 0 ? 1 : len;
    }
    char *to = reserve(json, 6);
    *to++ = '\\';
    if (*p == '"' || *p == '\\') {
        *to++ = (char)*p;
    } else if (escapes[*p] != 0) {
        *to++ = escapes[*p];
    } else {
        memcpy(to, "u00", 3);
        to[3] = (char)('0' + (*p >> 4));
        to[4] = "0123456789abcdef"[*p & 15];
        to += 5;
    }
    json->size = (size_t)(to - json->base);
    return 1;
}

static inline bool is_plain(unsigned char c) { return c >= 0x20 && c < 0x80 && c != '"' && c != '\\'; }

static void write_text(struct gw_json *json, h2o_iovec_t text)
{
    const unsigned char *p = (const unsigned char *)text.base;
    size_t at = 0;
    put(json, '"');
    while (at != text.len) {
        size_t from = at;
        while (at != text.len && is_plain(p[at]))
            ++at;
        gw_json_raw(json, text.base + from, at - from);
        if (at != text.len)
            at += write_special(json, p + at, text.len - at);
    }
    put(json, '"');
}

void gw_json_key_text(struct gw_json *json, h2o_iovec_t key)
{
    begin_value(json);
    write_text(json, key);
    put(json, ':');
    json->needs_comma = false;
}

void gw_json_text(struct gw_json *json, h2o_iovec_t text)
{
    begin_value(json);
    write_text(json, text);
}

void gw_json_string(struct gw_json *json, const char *text) { gw_json_text(json, h2o_iovec_init(text, strlen(text))); }

static void write_unsigned(struct gw_json *json, uint64_t n, bool is_negative)
{
    char digits[21], *at = digits + sizeof(digits);
    do {
        *--at = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    if (is_negative)
        *--at = '-';
    begin_value(json);
    gw_json_raw(json, at, (size_t)(digits + sizeof(digits) - at));
}

void gw_json_number(struct gw_json *json, int64_t n)
{
    write_unsigned(json, n < 0 ? -(uint64_t)n : (uint64_t)n, n < 0);
}

void gw_json_unsigned(struct gw_json *json, uint64_t n) { write_unsigned(json, n, false); }

void gw_json_decimal(struct gw_json *json, double value, int digits)
{
    char buf[400]; /* the greatest double has 309 digits before the point */
    if (!isfinite(value)) {
        gw_json_null(json); /* RFC 8259 6 has no other word for it */
        return;
    }
    int len = snprintf(buf, sizeof(buf), "%.*f", digits < 0 ? 0 : digits > 60 ? 60 : digits, value);
    begin_value(json);
    gw_json_raw(json, buf, (size_t)len);
}

void gw_json_encoded(struct gw_json *json, const char *value, size_t len)
{
    begin_value(json);
    gw_json_raw(json, value, len);
}

void gw_json_bool(struct gw_json *json, bool value)
{
    begin_value(json);
    gw_json_raw(json, value ? "true" : "false", value ? 4 : 5);
}

void gw_json_null(struct gw_json *json)
{
    begin_value(json);
    gw_json_raw(json, H2O_STRLIT("null"));
}
