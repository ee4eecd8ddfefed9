#include "gateway/http/response.h"
#include <string.h>
#include "gateway/http/field_lines.h"
#include "gateway/http/head.h"

/* Phrases of RFC 9110 15 and the codes an ALB uses (spec/alb.md 5.9), in its wording (5.10). */
static const struct {
    int status;
    const char *phrase;
} phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {460, "Client Closed Connection"},
    {463, "Too Many Forwarded Addresses"},
    {464, "Incompatible Protocol"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

const char *gw_reason_phrase(int status)
{
    if (status == 200)
        return "OK";
    for (size_t i = 0; i != sizeof(phrases) / sizeof(phrases[0]); ++i)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Unknown";
}

/* status line, framing fields, date and the final CRLF */
enum { FIXED_BYTES = 256 + GW_HEAD_MAX_UPGRADE };

size_t gw_response_head_bound(const h2o_res_t *res, const struct gw_response_framing *framing)
{
    return FIXED_BYTES + strlen(res->reason) + framing->trailer.len +
           gw_field_lines_bound(res->headers.entries, res->headers.size);
}

static char *put(char *dst, const char *bytes, size_t len)
{
    memcpy(dst, bytes, len);
    return dst + len;
}
#define PUT(dst, literal) put((dst), literal, sizeof(literal) - 1)

static char *put_number(char *dst, uint64_t n)
{
    char digits[20];
    size_t len = 0;
    do
        digits[sizeof(digits) - ++len] = '0' + n % 10;
    while ((n /= 10) != 0);
    return put(dst, digits + sizeof(digits) - len, len);
}

static char *put_status_line(char *dst, int status, const char *reason)
{
    dst = PUT(dst, "HTTP/1.1 ");
    *dst++ = '0' + status / 100 % 10;
    *dst++ = '0' + status / 10 % 10;
    *dst++ = '0' + status % 10;
    *dst++ = ' ';
    dst = put(dst, reason, strlen(reason));
    return PUT(dst, "\r\n");
}

size_t gw_response_head_write(char *base, const h2o_res_t *res, const struct gw_response_framing *framing)
{
    char *dst = put_status_line(base, res->status, res->reason);
    bool has_date = framing->date == NULL;

    for (size_t i = 0; i != res->headers.size; ++i)
        has_date |= res->headers.entries[i].name == &H2O_TOKEN_DATE->buf;
    dst = gw_field_lines_put(dst, res->headers.entries, res->headers.size);
    if (!has_date) {
        dst = PUT(dst, "date: ");
        dst = put(dst, framing->date, 29);
        dst = PUT(dst, "\r\n");
    }
    if (framing->content_length != UINT64_MAX) {
        dst = PUT(dst, "content-length: ");
        dst = put_number(dst, framing->content_length);
        dst = PUT(dst, "\r\n");
    } else if (framing->is_chunked) {
        dst = PUT(dst, "transfer-encoding: chunked\r\n");
        if (__builtin_expect(framing->trailer.base != NULL, 0)) {
            dst = PUT(dst, "trailer: ");
            dst = put(dst, framing->trailer.base, framing->trailer.len);
            dst = PUT(dst, "\r\n");
        }
    }
    if (framing->upgrade.base != NULL) {
        dst = PUT(dst, "connection: upgrade\r\nupgrade: ");
        dst = put(dst, framing->upgrade.base, framing->upgrade.len);
        dst = PUT(dst, "\r\n");
    }
    if (framing->must_close)
        dst = PUT(dst, "connection: close\r\n");
    else if (framing->say_keep_alive)
        dst = PUT(dst, "connection: keep-alive\r\n");
    dst = PUT(dst, "\r\n");
    return dst - base;
}
