#include "gateway/observe/access_line.h"
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include "gateway/base/json.h"
#include "gateway/observe/access_put.h"

/* Eight bytes at once: is any below 0x20, a quote, a backslash, or above 0x7e? (DEL counts as needing a look; it is
 * then copied as it is.) */
static inline bool needs_care(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
    uint64_t below = word - ones * 0x20; /* borrows into the high bit where a byte is below a blank */
    return ((below | (quote - ones) | (backslash - ones) | word) & highs) != 0;
}

/* One byte, or one sequence, that may need an escape; moves *s on. */
static char *put_careful(char *dst, const uint8_t **s, const uint8_t *end)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t c = **s;
    size_t len;

    if (c >= 0x80) {
        if ((len = gw_utf8_length(*s, end - *s)) == 0) {
            ++*s;
            return PUT(dst, "\xef\xbf\xbd");
        }
        dst = put(dst, (const char *)*s, len);
        *s += len;
        return dst;
    }
    ++*s;
    if (c == '"' || c == '\\') {
        *dst++ = '\\';
    } else if (c < 0x20) {
        dst = PUT(dst, "\\u00");
        *dst++ = hex[c >> 4];
        c = hex[c & 15];
    }
    *dst++ = c;
    return dst;
}

/* Can the text stand in JSON as it is? Looks at eight bytes at a time, the last eight overlapping those before. */
static bool is_plain(const char *s, size_t len)
{
    uint64_t word;
    uint32_t first, last;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            memcpy(&word, s + i, 8);
            if (needs_care(word))
                return false;
        }
        memcpy(&word, s + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&first, s, 4);
        memcpy(&last, s + len - 4, 4);
        word = (uint64_t)first << 32 | last;
    } else {
        word = UINT64_C(0x2020202020202020);
        for (size_t i = 0; i != len; ++i)
            word = word << 8 | (uint8_t)s[i];
    }
    return !needs_care(word);
}

static char *put_escaped(char *dst, h2o_iovec_t text)
{
    const uint8_t *s = (const uint8_t *)text.base, *end = s + text.len;

    if (__builtin_expect(is_plain(text.base, text.len), 1)) {
        memcpy(dst, text.base, text.len);
        return dst + text.len;
    }
    while (s < end)
        dst = put_careful(dst, &s, end);
    return dst;
}

/* key is `,"name":` */
static inline __attribute__((always_inline)) char *put_text(char *dst, const char *key, size_t key_len,
                                                            h2o_iovec_t text)
{
    dst = put(dst, key, key_len);
    if (text.base == NULL)
        return PUT(dst, "null");
    *dst++ = '"';
    text.len = gw_access_capped(text.len);
    dst = put_escaped(dst, text);
    *dst++ = '"';
    return dst;
}
#define TEXT(dst, field)   put_text((dst), ",\"" #field "\":", sizeof(",\"" #field "\":") - 1, line->field)
#define NUMBER(dst, field) put_number(PUT((dst), ",\"" #field "\":"), line->field)

static char *put_notes(char *dst, const h2o_iovec_t *notes)
{
    for (int i = 0; i != GW_PEER_NOTE_COUNT; ++i) {
        if (notes[i].base == NULL)
            continue;
        dst = PUT(dst, ",\"");
        dst = put(dst, gw_peer_note_names[i], strlen(gw_peer_note_names[i]));
        dst = put_text(dst, "\":", 2, notes[i]);
    }
    return dst;
}

char *gw_access_put_second(char *dst, uint64_t second, struct gw_access_clock *clock)
{
    if (second != clock->second || clock->text[0] == '\0') {
        time_t t = (time_t)second;
        struct tm tm;
        char *p = clock->text;
        gmtime_r(&t, &tm);
        p = put_digits(p, (unsigned)tm.tm_year + 1900, 4);
        *p++ = '-';
        p = put_digits(p, tm.tm_mon + 1, 2);
        *p++ = '-';
        p = put_digits(p, tm.tm_mday, 2);
        *p++ = 'T';
        p = put_digits(p, tm.tm_hour, 2);
        *p++ = ':';
        p = put_digits(p, tm.tm_min, 2);
        *p++ = ':';
        p = put_digits(p, tm.tm_sec, 2);
        *p = '\0';
        clock->second = second;
    }
    return put(dst, clock->text, 19);
}

char *gw_access_put_time(char *dst, uint64_t wall_ms, struct gw_access_clock *clock)
{
    dst = gw_access_put_second(dst, wall_ms / 1000, clock);
    *dst++ = '.';
    dst = put_digits(dst, wall_ms % 1000, 3);
    *dst++ = 'Z';
    return dst;
}

size_t gw_access_line_bound(const struct gw_access_line *line)
{
    /* the longest escape is six bytes for one; keys, numbers and punctuation are below 1 KiB */
    const h2o_iovec_t *const texts[] = {
        &line->request_id,  &line->trace_id,        &line->client,      &line->peer,
        &line->listener,    &line->protocol,        &line->tls_version, &line->tls_cipher,
        &line->server_name, &line->method,          &line->scheme,      &line->host,
        &line->path,        &line->query,           &line->reason,      &line->error,
        &line->route,       &line->target_group,    &line->target,      &line->user_agent,
        &line->referer,     &line->x_forwarded_for,
    };
    size_t bytes = 0;
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i)
        bytes += gw_access_capped(texts[i]->len);
    for (int i = 0; line->notes != NULL && i != GW_PEER_NOTE_COUNT; ++i)
        bytes += gw_access_capped(line->notes[i].len);
    return 2048 + 6 * bytes;
}

size_t gw_access_line_write(char *base, const struct gw_access_line *line, struct gw_access_clock *clock)
{
    char *dst = PUT(base, "{\"time\":\"");

    dst = gw_access_put_time(dst, line->wall_ms, clock);
    *dst++ = '"';
    dst = TEXT(dst, request_id);
    dst = TEXT(dst, trace_id);
    dst = TEXT(dst, client);
    dst = NUMBER(dst, client_port);
    dst = TEXT(dst, peer);
    dst = TEXT(dst, listener);
    dst = TEXT(dst, protocol);
    dst = TEXT(dst, tls_version);
    dst = TEXT(dst, tls_cipher);
    dst = TEXT(dst, server_name);
    dst = TEXT(dst, method);
    dst = TEXT(dst, scheme);
    dst = TEXT(dst, host);
    dst = TEXT(dst, path);
    dst = TEXT(dst, query);
    dst = NUMBER(dst, status);
    dst = TEXT(dst, reason);
    dst = TEXT(dst, error);
    dst = TEXT(dst, route);
    dst = TEXT(dst, target_group);
    dst = TEXT(dst, target);
    dst = NUMBER(dst, attempts);
    dst = NUMBER(dst, bytes_in);
    dst = NUMBER(dst, bytes_out);
    dst = put_ms(PUT(dst, ",\"duration_ms\":"), line->duration_us);
    dst = PUT(dst, ",\"upstream_ms\":");
    dst = line->upstream_us != UINT64_MAX ? put_ms(dst, line->upstream_us) : PUT(dst, "null");
    dst = TEXT(dst, user_agent);
    dst = TEXT(dst, referer);
    dst = TEXT(dst, x_forwarded_for);
    dst = NUMBER(dst, config_generation);
    if (__builtin_expect(line->classification.base != NULL, 0)) { /* short words of our own */
        dst = TEXT(dst, classification);
        dst = TEXT(dst, classification_reason);
    }
    if (__builtin_expect(line->notes != NULL, 0))
        dst = put_notes(dst, line->notes);
    dst = PUT(dst, "}\n");
    return dst - base;
}
