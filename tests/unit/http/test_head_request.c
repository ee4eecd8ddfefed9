#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/http/head.h"

static const struct gw_head_limits limits = {.max_bytes = 4096, .max_target = 1024, .max_fields = 20};

struct parsed {
    char *bytes; /* a copy of exactly the input's size: reading behind it is seen by the address sanitizer */
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_request_head head;
    size_t consumed;
    enum gw_head_result result;
};

static struct parsed *parse(const char *raw, size_t len, size_t prev_len)
{
    struct parsed *parsed = malloc(sizeof(*parsed));
    memset(parsed, 0xa5, sizeof(*parsed));
    parsed->bytes = malloc(len);
    memcpy(parsed->bytes, raw, len);
    parsed->head.fields = parsed->fields;
    parsed->head.names = parsed->names;
    parsed->consumed = SIZE_MAX;
    parsed->result = gw_head_parse_request(parsed->bytes, len, prev_len, &limits, &parsed->head, &parsed->consumed);
    return parsed;
}

static void free_parsed(struct parsed *parsed)
{
    free(parsed->bytes);
    free(parsed);
}

/* What was understood, in one line: method, path, version, then what is not the rule, then the fields. */
static void describe(const struct gw_request_head *head, char *to, size_t room)
{
    char *p = to, *end = to + room;
#define ADD(...) p += snprintf(p, (size_t)(end - p), __VA_ARGS__)
    ADD("%.*s %.*s 1.%d <%.*s>", (int)head->method.len, head->method.base, (int)head->path.len, head->path.base,
        head->minor_version, (int)head->authority.len, head->authority.base);
    if (head->query_at != SIZE_MAX)
        ADD(" query@%zu", head->query_at);
    if (head->target_is_absolute)
        ADD(" absolute%s", head->absolute_is_tls ? "-tls" : "");
    if (head->target_is_asterisk)
        ADD(" asterisk");
    if (head->content_length != UINT64_MAX)
        ADD(" length=%llu", (unsigned long long)head->content_length);
    if (head->is_chunked)
        ADD(" chunked");
    if (!head->keep_alive)
        ADD(" close");
    if (head->expects_continue)
        ADD(" continue");
    if (head->wants_upgrade)
        ADD(" upgrade=%.*s", (int)head->upgrade.len, head->upgrade.base);
    if (head->accepts_trailers)
        ADD(" trailers");
    for (size_t i = 0; i != head->num_fields; ++i)
        ADD(" [%.*s: %.*s]", (int)head->fields[i].name->len, head->fields[i].name->base, (int)head->fields[i].value.len,
            head->fields[i].value.base);
#undef ADD
}

#define RAW(text)   text, sizeof(text) - 1
#define HOST        "Host: a.b\r\n"
#define GET(fields) RAW("GET / HTTP/1.1\r\n" HOST fields "\r\n")

static const struct {
    const char *raw;
    size_t len;
    const char *expected;
} good[] = {
    {RAW("GET / HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET /a/b%20c;d=e HTTP/1.1\r\nHost: a.b:8080\r\n\r\n"), "GET /a/b%20c;d=e 1.1 <a.b:8080>"},
    {RAW("GET /?a=b&c HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /?a=b&c 1.1 <a.b> query@1"},
    {RAW("GET /a?b?c/d HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /a?b?c/d 1.1 <a.b> query@2"},
    {RAW("GET /? HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /? 1.1 <a.b> query@1"},
    {RAW("GET // HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET // 1.1 <a.b>"},
    {RAW("GET /[a]|^ HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /[a]|^ 1.1 <a.b>"},
    {RAW("GET /?f[x]={y}|z\\^`&p=100% HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /?f[x]={y}|z\\^`&p=100% 1.1 <a.b> query@1"},
    {RAW("GET /!$&'()*+,;=:@-._~ HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /!$&'()*+,;=:@-._~ 1.1 <a.b>"},
    {RAW("get /Abc HTTP/1.1\r\nHost: a.b\r\n\r\n"), "get /Abc 1.1 <a.b>"},
    {RAW("M-SEARCH / HTTP/1.1\r\nHost: a.b\r\n\r\n"), "M-SEARCH / 1.1 <a.b>"},
    {RAW("!#$%&'*+-.^_`|~09Az / HTTP/1.1\r\nHost: a.b\r\n\r\n"), "!#$%&'*+-.^_`|~09Az / 1.1 <a.b>"},
    {RAW("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\nHost: a.b\r\n\r\n"),
     "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.2\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.9\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.0\r\n\r\n"), "GET / 1.0 <> close"},
    {RAW("GET / HTTP/1.0\r\nHost: a.b\r\n\r\n"), "GET / 1.0 <a.b> close"},
    {RAW("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), "GET / 1.0 <>"},
    {RAW("GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n"), "GET / 1.0 <> close"},
    {RAW("OPTIONS * HTTP/1.1\r\nHost: a.b\r\n\r\n"), "OPTIONS * 1.1 <a.b> asterisk"},
    {RAW("OPTIONS /x HTTP/1.1\r\nHost: a.b\r\n\r\n"), "OPTIONS /x 1.1 <a.b>"},
    /* absolute-form */
    {RAW("GET http://a.b/x?y HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /x?y 1.1 <a.b> query@2 absolute"},
    {RAW("GET http://a.b HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b> absolute"},
    {RAW("GET http://a.b?q HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /?q 1.1 <a.b> query@1 absolute"},
    {RAW("GET http://a.b?q=/r HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET /?q=/r 1.1 <a.b> query@1 absolute"},
    {RAW("GET HTTP://A.b/ HTTP/1.1\r\nHost: a.B\r\n\r\n"), "GET / 1.1 <A.b> absolute"},
    {RAW("GET https://a.b:443/ HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b:443> absolute-tls"},
    {RAW("GET https://a.b/ HTTP/1.1\r\nHost: a.b:443\r\n\r\n"), "GET / 1.1 <a.b> absolute-tls"},
    {RAW("GET http://a.b:80/ HTTP/1.1\r\nHost: a.b:\r\n\r\n"), "GET / 1.1 <a.b:80> absolute"},
    {RAW("GET http://a.b:/ HTTP/1.1\r\nHost: a.b\r\n\r\n"), "GET / 1.1 <a.b:> absolute"},
    {RAW("GET http://[::1]:8080/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), "GET / 1.1 <[::1]:8080> absolute"},
    {RAW("GET http://[::1]/ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "GET / 1.1 <[::1]> absolute"},
    {RAW("GET http://a.b/ HTTP/1.0\r\n\r\n"), "GET / 1.0 <a.b> absolute close"},
    {RAW("OPTIONS http://a.b HTTP/1.1\r\nHost: a.b\r\n\r\n"), "OPTIONS * 1.1 <a.b> absolute asterisk"},
    {RAW("OPTIONS http://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n"), "OPTIONS / 1.1 <a.b> absolute"},
    {RAW("OPTIONS http://a.b?q HTTP/1.1\r\nHost: a.b\r\n\r\n"), "OPTIONS /?q 1.1 <a.b> query@1 absolute"},
    /* Host */
    {RAW("GET / HTTP/1.1\r\nhost:a.b\r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.1\r\nHOST: \t a.b \t \r\n\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n"), "GET / 1.1 <192.0.2.1:80>"},
    {RAW("GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n"), "GET / 1.1 <[2001:db8::1]>"},
    {RAW("GET / HTTP/1.1\r\nHost: a_b-c.d~e\r\n\r\n"), "GET / 1.1 <a_b-c.d~e>"},
    {RAW("GET / HTTP/1.1\r\nHost: a%41b\r\n\r\n"), "GET / 1.1 <a%41b>"},
    {RAW("GET / HTTP/1.1\r\nHost: a.b:65535\r\n\r\n"), "GET / 1.1 <a.b:65535>"},
    {RAW("GET / HTTP/1.1\r\nHost: a.b.\r\n\r\n"), "GET / 1.1 <a.b.>"},
    /* fields */
    {GET("X-A: 1\r\nx-a:2\r\nAccept: \t */* \t\r\n"), "GET / 1.1 <a.b> [x-a: 1] [x-a: 2] [accept: */*]"},
    {GET("X: \r\nY:\r\nZ:   \t \r\n"), "GET / 1.1 <a.b> [x: ] [y: ] [z: ]"},
    {GET("X_Under_Score: a\tb\r\n"), "GET / 1.1 <a.b> [x_under_score: a\tb]"},
    {GET("X: caf\xc3\xa9 \xff\r\n"), "GET / 1.1 <a.b> [x: caf\xc3\xa9 \xff]"},
    {GET("!#$%&'*+-.^_`|~09AZ: x\r\n"), "GET / 1.1 <a.b> [!#$%&'*+-.^_`|~09az: x]"},
    {GET("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_~: x\r\n"), "GET / 1.1 <a.b> [abcdefghijklmnopqrstuvwxyz-_~: x]"},
    {GET("X: a:b: c\r\n"), "GET / 1.1 <a.b> [x: a:b: c]"},
    {GET("Cookie: a=b\r\nCookie: c=d\r\n"), "GET / 1.1 <a.b> [cookie: a=b] [cookie: c=d]"},
    {GET("Content-Type: text/plain\r\nRange: bytes=0-1\r\n"),
     "GET / 1.1 <a.b> [content-type: text/plain] [range: bytes=0-1]"},
    {GET("Proxy-Authorization: Basic x\r\n"), "GET / 1.1 <a.b> [proxy-authorization: Basic x]"},
    /* length */
    {GET("Content-Length: 0\r\n"), "GET / 1.1 <a.b> length=0"},
    {GET("content-length:12\r\n"), "GET / 1.1 <a.b> length=12"},
    {GET("Content-Length: 0012 \r\n"), "GET / 1.1 <a.b> length=12"},
    {GET("Content-Length: 9223372036854775807\r\n"), "GET / 1.1 <a.b> length=9223372036854775807"},
    {GET("Transfer-Encoding: chunked\r\n"), "GET / 1.1 <a.b> chunked"},
    {GET("Transfer-Encoding:  CHUNKED \r\n"), "GET / 1.1 <a.b> chunked"},
    {RAW("GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\n"), "GET / 1.0 <> length=5 close"},
    /* connection */
    {GET("Connection: close\r\n"), "GET / 1.1 <a.b> close"},
    {GET("Connection: Close\r\n"), "GET / 1.1 <a.b> close"},
    {GET("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), "GET / 1.1 <a.b>"},
    {GET("Connection: keep-alive\r\nConnection: close\r\n"), "GET / 1.1 <a.b> close"},
    {GET("Connection: , ,close,\r\n"), "GET / 1.1 <a.b> close"},
    {GET("Connection: closed\r\nClosed: 1\r\n"), "GET / 1.1 <a.b>"},
    {GET("Connection: x-a , X-B\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n"), "GET / 1.1 <a.b> [x-c: 3]"},
    {GET("X-A: 1\r\nX-C: 3\r\nX-A: 2\r\nConnection: X-a\r\n"), "GET / 1.1 <a.b> [x-c: 3]"},
    {GET("Connection: accept\r\nAccept: x\r\nAccept-Encoding: y\r\n"), "GET / 1.1 <a.b> [accept-encoding: y]"},
    {GET("Connection: x-forwarded-for, X-Forwarded-Proto\r\nX-Forwarded-For: 1\r\nX-Forwarded-Proto: https\r\n"),
     "GET / 1.1 <a.b> [x-forwarded-for: 1] [x-forwarded-proto: https]"},
    {GET("Connection: host, content-length\r\nContent-Length: 3\r\n"), "GET / 1.1 <a.b> length=3"},
    {GET("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"), "GET / 1.1 <a.b> chunked"},
    {GET("Connection: authorization, cookie, via, traceparent, forwarded, content-type\r\nAuthorization: a\r\nCookie: "
         "b\r\nVia: c\r\nTraceparent: d\r\nForwarded: e\r\nContent-Type: f\r\n"),
     "GET / 1.1 <a.b> [authorization: a] [cookie: b] [via: c] [traceparent: d] [forwarded: e] [content-type: f]"},
    {GET("Proxy-Connection: keep-alive\r\nTrailer: x\r\nHTTP2-Settings: x\r\nX: 1\r\n"), "GET / 1.1 <a.b> [x: 1]"},
    {GET("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "GET / 1.1 <a.b> upgrade=websocket"},
    {GET("Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"), "GET / 1.1 <a.b> upgrade=websocket"},
    {GET("Upgrade: websocket\r\n"), "GET / 1.1 <a.b>"},
    {GET("Connection: upgrade\r\n"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n"), "GET / 1.0 <>"},
    {GET("TE: trailers\r\n"), "GET / 1.1 <a.b> trailers"},
    {GET("Connection: TE\r\nTE: gzip;q=0.5, Trailers\r\n"), "GET / 1.1 <a.b> trailers"},
    {GET("TE: gzip\r\n"), "GET / 1.1 <a.b>"},
    /* Expect */
    {GET("Expect: 100-continue\r\nContent-Length: 3\r\n"), "GET / 1.1 <a.b> length=3 continue"},
    {GET("Expect: 100-Continue\r\n"), "GET / 1.1 <a.b> continue"},
    {RAW("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"), "GET / 1.0 <> close"},
    /* what follows is not part of the head */
    {RAW("GET / HTTP/1.1\r\nHost: a.b\r\n\r\n\x01\x02 body"), "GET / 1.1 <a.b>"},
    {RAW("GET / HTTP/1.1\r\nHost: a.b\r\n\r\nGET / HTTP/9.9\r\n\r\n"), "GET / 1.1 <a.b>"},
};

static const struct {
    const char *raw;
    size_t len;
    enum gw_head_result expected;
} bad[] = {
    /* method */
    {RAW(" GET / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("\tGET / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("G@T / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("G{T / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("GET: / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("GE\0T / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("G\xc3\x89T / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("GET\r\n\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), GW_HEAD_BAD_METHOD}, /* TLS */
    {RAW("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_METHOD},
    {RAW("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n"), GW_HEAD_METHOD_NOT_ALLOWED},
    {RAW("CONNECT / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_METHOD_NOT_ALLOWED},
    /* target */
    {RAW("GET  / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /  HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET /a b HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET a HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET a.b/c HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET ?a HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET * HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("OPTIONS ** HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("OPTIONS *?a HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET a.b:80 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a#b HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /?a#b HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a\"b HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /<a> HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /?<a> HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a\\b HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /{a} HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /`a HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /?\xff HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /\t HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /%zz HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a% HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a%4 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET /a%4?1 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET ftp://a.b/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http:/a.b/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http:// HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http:///x HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://?x HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://:80/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://u@a.b/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://u:p@a.b/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://a.b:99999/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://a.b:8x/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://[::1/ HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://a.b/%0 HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_TARGET},
    {RAW("GET http://a.b/ HTTP/1.1\r\nHost: b.a\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.b/ HTTP/1.1\r\nHost: a.bc\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.bc/ HTTP/1.1\r\nHost: a.b\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.b/ HTTP/1.1\r\nHost: a.b:81\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.b:443/ HTTP/1.1\r\nHost: a.b\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET https://a.b/ HTTP/1.1\r\nHost: a.b:80\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://[::1]/ HTTP/1.1\r\nHost: [::2]\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.b/ HTTP/1.0\r\nHost: c\r\n\r\n"), GW_HEAD_HOST_CONFLICT},
    {RAW("GET http://a.b/ HTTP/1.1\r\n\r\n"), GW_HEAD_MISSING_HOST},
    /* version */
    {RAW("GET /\r\n\r\n"), GW_HEAD_BAD_SYNTAX}, /* HTTP/0.9 */
    {RAW("GET / \r\nHost: a\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / \r\n\r\nrest"), GW_HEAD_BAD_SYNTAX}, /* ends before a version would */
    {RAW("GET / HTTP\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/2.0\r\n" HOST "\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("GET / HTTP/0.9\r\n" HOST "\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("GET / HTTP/3.0\r\n" HOST "\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("GET / HTTP/1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1.\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1.10\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/11.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / http/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1.1 \r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1,1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTPS/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / XTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1.1\r\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("\rGET / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BAD_SYNTAX},
    /* line ends */
    {RAW("GET / HTTP/1.1\n" HOST "\r\n"), GW_HEAD_BARE_LF},
    {RAW("GET / HTTP/1.1\r\nHost: a.b\n\r\n"), GW_HEAD_BARE_LF},
    {RAW("GET / HTTP/1.1\r\nX: y\nHost: a.b\r\n\r\n"), GW_HEAD_BARE_LF},
    {RAW("GET / HTTP/1.1\r\n" HOST "\n"), GW_HEAD_BARE_LF},
    {RAW("GET / HTTP/1.1\nHost: a.b\n\n"), GW_HEAD_BARE_LF},
    {RAW("\nGET / HTTP/1.1\r\n" HOST "\r\n"), GW_HEAD_BARE_LF},
    {RAW("GET /\n\n"), GW_HEAD_BARE_LF},
    {GET("X: a\rb\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: a\r\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: \r\n\rY: b\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("GET / HTTP/1.1\r\n" HOST "\r\r\n"), GW_HEAD_BAD_SYNTAX},
    /* fields */
    {GET("X: a\r\n b\r\n"), GW_HEAD_OBS_FOLD},
    {GET("X: a\r\n\tb\r\n"), GW_HEAD_OBS_FOLD},
    {GET("X: a\r\n \r\n"), GW_HEAD_OBS_FOLD},
    {GET("X: a\r\n Transfer-Encoding: chunked\r\n"), GW_HEAD_OBS_FOLD},
    {RAW("GET / HTTP/1.1\r\n Host: a.b\r\n\r\n"), GW_HEAD_OBS_FOLD},
    {RAW("GET / HTTP/1.1\r\n \r\n" HOST "\r\n"), GW_HEAD_OBS_FOLD},
    {GET("X : a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X\t: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("Content-Length : 3\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET(": a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X Y: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X(Y): a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X\0: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X\x7f: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X@: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X[: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X\xc3\xa9: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("{X}: a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {GET("X: a\0b\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: a\x01\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: a\x0b\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: a\x1f\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: a\x7f\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("X: \x1b[31m\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    /* Host */
    {RAW("GET / HTTP/1.1\r\n\r\n"), GW_HEAD_MISSING_HOST},
    {RAW("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"), GW_HEAD_MISSING_HOST},
    {RAW("GET / HTTP/1.9\r\n\r\n"), GW_HEAD_MISSING_HOST},
    {RAW("OPTIONS * HTTP/1.1\r\n\r\n"), GW_HEAD_MISSING_HOST},
    {GET(HOST), GW_HEAD_REPEATED_HOST},
    {GET("X: y\r\nhost: c.d\r\n"), GW_HEAD_REPEATED_HOST},
    {RAW("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), GW_HEAD_REPEATED_HOST},
    {RAW("GET / HTTP/1.1\r\nHost:\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: \t\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a:99999999999999999999\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: [a.b]\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a%4\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: \xc3\xa9.b\r\n\r\n"), GW_HEAD_BAD_HOST},
    {RAW("GET / HTTP/1.1\r\nHost: <a>\r\n\r\n"), GW_HEAD_BAD_HOST},
    /* length and coding */
    {GET("Content-Length:\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: +3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: -3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3, 3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3,\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3 3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 0x3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3a\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3.0\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: \"3\"\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: \xd9\xa3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 9223372036854775808\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 18446744073709551619\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 99999999999999999999999999\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {GET("Content-Length: 3\r\nContent-Length: 3\r\n"), GW_HEAD_REPEATED_CONTENT_LENGTH},
    {GET("Content-Length: 3\r\ncontent-length: 4\r\n"), GW_HEAD_REPEATED_CONTENT_LENGTH},
    {GET("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), GW_HEAD_BOTH_LENGTHS},
    {GET("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), GW_HEAD_BOTH_LENGTHS},
    {GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunked, chunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunked, gzip\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunked,\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: ,chunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding:\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: identity\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: identity, chunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: xchunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunkedx\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chunked;a=b\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: \"chunked\"\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: chun ked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: x-\x80\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: gzip\r\n"), GW_HEAD_UNKNOWN_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: gzip, chunked\r\n"), GW_HEAD_UNKNOWN_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: X-Gzip\r\n"), GW_HEAD_UNKNOWN_TRANSFER_ENCODING},
    {GET("Transfer-Encoding: deflate,compress\r\n"), GW_HEAD_UNKNOWN_TRANSFER_ENCODING},
    {RAW("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), GW_HEAD_TRANSFER_ENCODING_IN_10},
    {RAW("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), GW_HEAD_TRANSFER_ENCODING_IN_10},
    /* others */
    {GET("Expect: 200-ok\r\n"), GW_HEAD_BAD_EXPECT},
    {GET("Expect:\r\n"), GW_HEAD_BAD_EXPECT},
    {GET("Expect: 100-continue, x\r\n"), GW_HEAD_BAD_EXPECT},
    {GET("Connection: a b\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("Connection: \"close\"\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {GET("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,1,2,3,4,5,6,7\r\n"), GW_HEAD_BAD_FIELD_VALUE},
};

enum { NUM_GOOD = sizeof(good) / sizeof(good[0]), NUM_BAD = sizeof(bad) / sizeof(bad[0]) };

static size_t length_of_head(const char *raw, size_t len)
{
    const char *end = memmem(raw + 2, len - 2, "\r\n\r\n", 4);
    assert_non_null(end);
    return (size_t)(end + 4 - raw);
}

static void good_heads_are_understood(void **state)
{
    for (size_t i = 0; i != NUM_GOOD; ++i) {
        char description[1024];
        struct parsed *parsed = parse(good[i].raw, good[i].len, 0);
        if (parsed->result != GW_HEAD_OK)
            fail_msg("%s: %s", good[i].raw, gw_head_problem(parsed->result));
        describe(&parsed->head, description, sizeof(description));
        if (strcmp(description, good[i].expected) != 0)
            fail_msg("%s: %s instead of %s", good[i].raw, description, good[i].expected);
        assert_int_equal(parsed->consumed, length_of_head(good[i].raw, good[i].len));
        free_parsed(parsed);
    }
}

static void bad_heads_are_refused_for_their_reason(void **state)
{
    assert_true(NUM_GOOD + NUM_BAD >= 150);
    for (size_t i = 0; i != NUM_BAD; ++i) {
        struct parsed *parsed = parse(bad[i].raw, bad[i].len, 0);
        if (parsed->result != bad[i].expected)
            fail_msg("%s: %s", bad[i].raw, gw_head_problem(parsed->result));
        free_parsed(parsed);
    }
}

/* The first bytes alone, then all of it: the answer must be the same, only perhaps earlier. */
static void check_cut(const char *raw, size_t len, size_t cut, enum gw_head_result expected)
{
    struct parsed *part = parse(raw, cut, 0);
    if (part->result == GW_HEAD_INCOMPLETE) {
        struct parsed *whole = parse(raw, len, cut);
        if (whole->result != expected)
            fail_msg("%s cut at %zu: %s", raw, cut, gw_head_problem(whole->result));
        free_parsed(whole);
    } else if (part->result != expected) {
        fail_msg("%s cut at %zu: %s too early", raw, cut, gw_head_problem(part->result));
    }
    free_parsed(part);
}

static void outcome_does_not_depend_on_where_the_head_is_cut(void **state)
{
    for (size_t i = 0; i != NUM_GOOD; ++i)
        for (size_t cut = 0; cut <= good[i].len; ++cut)
            check_cut(good[i].raw, good[i].len, cut, GW_HEAD_OK);
    for (size_t i = 0; i != NUM_BAD; ++i)
        for (size_t cut = 0; cut <= bad[i].len; ++cut)
            check_cut(bad[i].raw, bad[i].len, cut, bad[i].expected);
}

static enum gw_head_result parse_byte_by_byte(const char *raw, size_t len)
{
    enum gw_head_result result = GW_HEAD_INCOMPLETE;
    for (size_t seen = 0; seen != len && result == GW_HEAD_INCOMPLETE; ++seen) {
        struct parsed *parsed = parse(raw, seen + 1, seen);
        result = parsed->result;
        free_parsed(parsed);
    }
    return result;
}

static void outcome_is_the_same_byte_by_byte(void **state)
{
    for (size_t i = 0; i != NUM_GOOD; ++i)
        assert_int_equal(parse_byte_by_byte(good[i].raw, good[i].len), GW_HEAD_OK);
    for (size_t i = 0; i != NUM_BAD; ++i)
        if (parse_byte_by_byte(bad[i].raw, bad[i].len) != bad[i].expected)
            fail_msg("%s", bad[i].raw);
}

/* Each byte in each place, against the grammars written out. */
static enum gw_head_result parse_with_byte(const char *before, unsigned byte, const char *after)
{
    char raw[256];
    size_t len = strlen(before);
    memcpy(raw, before, len);
    raw[len++] = (char)byte;
    memcpy(raw + len, after, strlen(after));
    struct parsed *parsed = parse(raw, len + strlen(after), 0);
    enum gw_head_result result = parsed->result;
    free_parsed(parsed);
    return result;
}

static bool is_one_of(unsigned byte, const char *set)
{
    bool is_alphanumeric = (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z' && byte < 128);
    return is_alphanumeric || (byte != 0 && byte < 128 && strchr(set, (int)byte) != NULL);
}

static void every_byte_is_judged_by_the_grammar_of_its_place(void **state)
{
    for (unsigned byte = 0; byte != 256; ++byte) {
        bool is_tchar = is_one_of(byte, "!#$%&'*+-.^_`|~");
        assert_int_equal(parse_with_byte("G", byte, "T / HTTP/1.1\r\nHost: a\r\n\r\n") == GW_HEAD_OK, is_tchar);
        assert_int_equal(parse_with_byte("GET /a", byte, "41 HTTP/1.1\r\nHost: a\r\n\r\n") == GW_HEAD_OK,
                         is_one_of(byte, "-._~!$&'()*+,;=:@/%?[]|^"));
        assert_int_equal(parse_with_byte("GET /a?", byte, "41 HTTP/1.1\r\nHost: a\r\n\r\n") == GW_HEAD_OK,
                         is_one_of(byte, "-._~!$&'()*+,;=:@/%?[]|^{}\\`"));
        assert_int_equal(parse_with_byte("GET / HTTP/1.1\r\nHost: a\r\nX", byte, "Y: a\r\n\r\n") == GW_HEAD_OK,
                         is_tchar || byte == ':');
        assert_int_equal(parse_with_byte("GET / HTTP/1.1\r\nHost: a\r\nX: a", byte, "b\r\n\r\n") == GW_HEAD_OK,
                         byte == '\t' || (byte >= 32 && byte != 127));
        assert_int_equal(parse_with_byte("GET / HTTP/1.1\r\nHost: a", byte, "41\r\n\r\n") == GW_HEAD_OK,
                         is_one_of(byte, "-._~!$&'()*+,;=%:"));
        assert_int_equal(parse_with_byte("GET / HTTP/1.", byte, "\r\nHost: a\r\n\r\n") == GW_HEAD_OK,
                         byte >= '0' && byte <= '9');
    }
}

static void names_are_lower_cased_whatever_their_length(void **state)
{
    for (size_t len = 1; len != 40; ++len) {
        char raw[128];
        size_t at = (size_t)sprintf(raw, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (size_t i = 0; i != len; ++i)
            raw[at + i] = "AZaz09-_"[(i * 7 + len) % 8];
        char *name = raw + at;
        sprintf(raw + at + len, ": V\r\n\r\n");
        struct parsed *parsed = parse(raw, strlen(raw), 0);
        assert_int_equal(parsed->result, GW_HEAD_OK);
        assert_int_equal(parsed->head.num_fields, 1);
        assert_int_equal(parsed->fields[0].name->len, len);
        for (size_t i = 0; i != len; ++i)
            assert_int_equal(parsed->fields[0].name->base[i], h2o_tolower(name[i]));
        assert_memory_equal(parsed->fields[0].value.base, "V", 1);
        free_parsed(parsed);
    }
}

static void known_names_are_tokens_and_others_are_not(void **state)
{
    struct parsed *parsed = parse(GET("Accept: a\r\nX-Accept: b\r\nCOOKIE: c\r\n"), 0);
    assert_ptr_equal(parsed->fields[0].name, &H2O_TOKEN_ACCEPT->buf);
    assert_ptr_equal(parsed->fields[1].name, &parsed->names[0]);
    assert_int_equal(parsed->head.num_names, 1);
    assert_false(h2o_iovec_is_token(parsed->fields[1].name));
    assert_ptr_equal(parsed->fields[2].name, &H2O_TOKEN_COOKIE->buf);
    free_parsed(parsed);
}

static void absent_initials_are_those_of_no_field(void **state)
{
    struct parsed *parsed = parse(GET("Accept: a\r\nX-Accept: b\r\nCOOKIE: c\r\n_o: d\r\n"), 0);
    assert_int_equal(parsed->result, GW_HEAD_OK);
    for (const char *c = "acx_"; *c != '\0'; ++c)
        assert_true(gw_may_have_field(parsed->head.absent_initials, *c));
    for (const char *c = "bdefghijklmnopqrstuvwyz"; *c != '\0'; ++c)
        assert_false(gw_may_have_field(parsed->head.absent_initials, *c));
    assert_true(gw_may_have_field(0, 'q')); /* nothing is known */
    free_parsed(parsed);
}

/* ---- limits ---- */

static char *long_head(size_t target_len, size_t num_fields, size_t value_len, size_t *len)
{
    char *raw = malloc(64 + target_len + num_fields * (value_len + 16)), *p = raw;
    p += sprintf(p, "GET /");
    memset(p, 'a', target_len - 1);
    p += target_len - 1;
    p += sprintf(p, " HTTP/1.1\r\nHost: a\r\n");
    for (size_t i = 1; i != num_fields; ++i) {
        p += sprintf(p, "X-%04zu: ", i);
        memset(p, 'v', value_len);
        p += value_len;
        p += sprintf(p, "\r\n");
    }
    p += sprintf(p, "\r\n");
    *len = (size_t)(p - raw);
    return raw;
}

static enum gw_head_result result_of(char *raw, size_t len)
{
    struct parsed *parsed = parse(raw, len, 0);
    enum gw_head_result result = parsed->result;
    if (result != GW_HEAD_OK)
        assert_int_equal(parse_byte_by_byte(raw, len), result);
    free_parsed(parsed);
    free(raw);
    return result;
}

static void limits_hold_to_the_byte(void **state)
{
    size_t len;
    char *raw = long_head(1024, 2, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_OK);
    raw = long_head(1025, 2, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_TARGET_TOO_LONG);
    raw = long_head(5000, 2, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_TARGET_TOO_LONG);
    raw = long_head(1, 20, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_OK);
    raw = long_head(1, 21, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_TOO_MANY_FIELDS);
    raw = long_head(1, 22, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_TOO_MANY_FIELDS);
    raw = long_head(1, 200, 1, &len);
    assert_int_equal(result_of(raw, len), GW_HEAD_TOO_MANY_FIELDS);

    raw = long_head(1, 2, 1, &len);
    free(raw);
    size_t rest = len - 1;
    raw = long_head(1, 2, 4096 - rest, &len);
    assert_int_equal(len, 4096);
    assert_int_equal(result_of(raw, len), GW_HEAD_OK);
    raw = long_head(1, 2, 4097 - rest, &len);
    struct parsed *parsed = parse(raw, len, 0);
    assert_int_equal(parsed->result, GW_HEAD_TOO_LARGE);
    free_parsed(parsed);
    free(raw);
}

static void head_without_an_end_is_refused_when_it_reaches_the_limit(void **state)
{
    size_t len;
    char *raw = long_head(1, 2, 5000, &len);
    struct parsed *parsed = parse(raw, 4095, 0);
    assert_int_equal(parsed->result, GW_HEAD_INCOMPLETE);
    free_parsed(parsed);
    parsed = parse(raw, 4095, 4000);
    assert_int_equal(parsed->result, GW_HEAD_INCOMPLETE);
    free_parsed(parsed);
    parsed = parse(raw, 4096, 0);
    assert_int_equal(parsed->result, GW_HEAD_TOO_LARGE);
    free_parsed(parsed);
    parsed = parse(raw, 4096, 4095);
    assert_int_equal(parsed->result, GW_HEAD_TOO_LARGE);
    free_parsed(parsed);
    free(raw);
}

static void request_line_without_an_end_is_refused_when_it_is_too_long(void **state)
{
    size_t len;
    char *raw = long_head(3000, 2, 1, &len);
    struct parsed *parsed = parse(raw, 1029, 0);
    assert_int_equal(parsed->result, GW_HEAD_TARGET_TOO_LONG);
    free_parsed(parsed);
    parsed = parse(raw, 1024, 0);
    assert_int_equal(parsed->result, GW_HEAD_INCOMPLETE);
    free_parsed(parsed);
    parsed = parse(raw, 1080, 1024); /* slow heads are looked at less closely, but before much more comes */
    assert_int_equal(parsed->result, GW_HEAD_TARGET_TOO_LONG);
    free_parsed(parsed);
    free(raw);
}

static void every_result_has_a_status_and_a_sentence(void **state)
{
    for (int i = GW_HEAD_INCOMPLETE + 1; i != GW_HEAD_NUM_RESULTS; ++i) {
        if (i != GW_HEAD_FLOOD) /* no head at all: the connection ends without an answer */
            assert_in_range(gw_head_status(i), 400, 599);
        assert_true(strlen(gw_head_problem(i)) > 10);
    }
    assert_int_equal(gw_head_status(GW_HEAD_TARGET_TOO_LONG), 414);
    assert_int_equal(gw_head_status(GW_HEAD_TOO_LARGE), 431);
    assert_int_equal(gw_head_status(GW_HEAD_TOO_MANY_FIELDS), 431);
    assert_int_equal(gw_head_status(GW_HEAD_BAD_VERSION), 505);
    assert_int_equal(gw_head_status(GW_HEAD_UNKNOWN_TRANSFER_ENCODING), 501);
    assert_int_equal(gw_head_status(GW_HEAD_METHOD_NOT_ALLOWED), 405);
    assert_int_equal(gw_head_status(GW_HEAD_BAD_EXPECT), 417);
}

static void tokens_and_values_follow_their_grammar(void **state)
{
    assert_true(gw_is_token(h2o_iovec_init(RAW("x-a"))));
    assert_false(gw_is_token(h2o_iovec_init(RAW(""))));
    assert_false(gw_is_token(h2o_iovec_init(RAW("a b"))));
    assert_false(gw_is_token(h2o_iovec_init(RAW("a:"))));
    assert_true(gw_is_field_value(h2o_iovec_init(RAW(""))));
    assert_true(gw_is_field_value(h2o_iovec_init(RAW("a \t\"b\" \xff"))));
    assert_false(gw_is_field_value(h2o_iovec_init(RAW(" a"))));
    assert_false(gw_is_field_value(h2o_iovec_init(RAW("a\t"))));
    assert_false(gw_is_field_value(h2o_iovec_init(RAW("a\r\nb: c"))));
    assert_false(gw_is_field_value(h2o_iovec_init(RAW("a\0"))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads_are_understood),
        cmocka_unit_test(bad_heads_are_refused_for_their_reason),
        cmocka_unit_test(outcome_does_not_depend_on_where_the_head_is_cut),
        cmocka_unit_test(outcome_is_the_same_byte_by_byte),
        cmocka_unit_test(every_byte_is_judged_by_the_grammar_of_its_place),
        cmocka_unit_test(names_are_lower_cased_whatever_their_length),
        cmocka_unit_test(known_names_are_tokens_and_others_are_not),
        cmocka_unit_test(absent_initials_are_those_of_no_field),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(head_without_an_end_is_refused_when_it_reaches_the_limit),
        cmocka_unit_test(request_line_without_an_end_is_refused_when_it_is_too_long),
        cmocka_unit_test(every_result_has_a_status_and_a_sentence),
        cmocka_unit_test(tokens_and_values_follow_their_grammar),
    };
    return cmocka_run_group_tests_name("http/head_request", tests, NULL, NULL);
}
