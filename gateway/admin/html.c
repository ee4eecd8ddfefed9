#include "gateway/admin/html.h"
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"

void gw_html_dispose(struct gw_html *html)
{
    free(html->base);
    *html = (struct gw_html){NULL};
}

void gw_html_bytes(struct gw_html *html, h2o_iovec_t bytes)
{
    if (bytes.len == 0)
        return;
    if (html->capacity - html->size < bytes.len) {
        size_t capacity = html->capacity == 0 ? 16384 : html->capacity;
        while (capacity - html->size < bytes.len)
            capacity *= 2;
        html->base = h2o_mem_realloc(html->base, capacity);
        html->capacity = capacity;
    }
    h2o_memcpy(html->base + html->size, bytes.base, bytes.len);
    html->size += bytes.len;
}

void gw_html_markup(struct gw_html *html, const char *markup)
{
    gw_html_bytes(html, h2o_iovec_init(markup, strlen(markup)));
}

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

static const char *escape_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    case '\n':
    case '\t':
        return NULL;
    default:
        return (unsigned char)c < 0x20 || c == 0x7f ? replacement : NULL;
    }
}

void gw_html_text(struct gw_html *html, h2o_iovec_t text)
{
    size_t plain = 0, len;

    for (size_t i = 0; i < text.len; i += len) {
        const unsigned char *at = (const unsigned char *)text.base + i;
        const char *escape = *at < 0x80 ? escape_of(*at) : NULL;
        len = 1;
        if (*at >= 0x80 && (len = gw_utf8_length(at, text.len - i)) == 0) {
            len = 1;
            escape = replacement;
        }
        if (escape == NULL)
            continue;
        gw_html_bytes(html, h2o_iovec_init(text.base + plain, i - plain));
        gw_html_markup(html, escape);
        plain = i + 1;
    }
    gw_html_bytes(html, h2o_iovec_init(text.base + plain, text.len - plain));
}

void gw_html_string(struct gw_html *html, const char *text) { gw_html_text(html, h2o_iovec_init(text, strlen(text))); }

/* 1,234,567 */
static void put_number(struct gw_html *html, uint64_t n)
{
    char digits[32];
    size_t at = sizeof(digits), count = 0;

    do {
        if (count != 0 && count % 3 == 0)
            digits[--at] = ',';
        digits[--at] = (char)('0' + n % 10);
        ++count;
    } while ((n /= 10) != 0);
    gw_html_bytes(html, h2o_iovec_init(digits + at, sizeof(digits) - at));
}

static void put_signed(struct gw_html *html, int64_t n)
{
    if (n < 0)
        gw_html_markup(html, "-");
    put_number(html, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

void gw_html_format(struct gw_html *html, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    for (const char *at = format, *percent; *at != '\0'; at = percent + 2) {
        percent = strchrnul(at, '%');
        gw_html_bytes(html, h2o_iovec_init(at, percent - at));
        if (*percent == '\0')
            break;
        switch (percent[1]) {
        case 's':
            gw_html_string(html, va_arg(args, const char *));
            break;
        case 't':
            gw_html_text(html, va_arg(args, h2o_iovec_t));
            break;
        case 'n':
            put_number(html, va_arg(args, uint64_t));
            break;
        case 'i':
            put_signed(html, va_arg(args, int64_t));
            break;
        case 'm':
            gw_html_markup(html, va_arg(args, const char *));
            break;
        default:
            assert(percent[1] == '%');
            gw_html_markup(html, "%");
        }
    }
    va_end(args);
}
