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
    struct gw_response_head head;
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
    parsed->result = gw_head_parse_response(parsed->bytes, len, prev_len, &limits, &parsed->head, &parsed->consumed);
    return parsed;
}

static void free_parsed(struct parsed *parsed)
{
    free(parsed->bytes);
    free(parsed);
}

static void describe(const struct gw_response_head *head, char *to, size_t room)
{
    char *p = to, *end = to + room;
#define ADD(...) p += snprintf(p, (size_t)(end - p), __VA_ARGS__)
    ADD("%d <%.*s> 1.%d", head->status, (int)head->reason.len, head->reason.base, head->minor_version);
    if (head->content_length != UINT64_MAX)
        ADD(" length=%llu", (unsigned long long)head->content_length);
    if (head->is_chunked)
        ADD(" chunked");
    if (!head->keep_alive)
        ADD(" close");
    if (head->upgrade.base != NULL)
        ADD(" upgrade=%.*s", (int)head->upgrade.len, head->upgrade.base);
    for (size_t i = 0; i != head->num_fields; ++i)
        ADD(" [%.*s: %.*s]", (int)head->fields[i].name->len, head->fields[i].name->base, (int)head->fields[i].value.len,
            head->fields[i].value.base);
#undef ADD
}

#define RAW(text)  text, sizeof(text) - 1
#define OK(fields) RAW("HTTP/1.1 200 OK\r\n" fields "\r\n")

static const struct {
    const char *raw;
    size_t len;
    const char *expected;
} good[] = {
    {OK(""), "200 <OK> 1.1"},
    {RAW("HTTP/1.0 404 Not Found\r\n\r\n"), "404 <Not Found> 1.0 close"},
    {RAW("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n"), "200 <OK> 1.0"},
    {RAW("HTTP/1.1 204 \r\n\r\n"), "204 <> 1.1"},
    {RAW("HTTP/1.1 204\r\n\r\n"), "204 <> 1.1"},
    {RAW("HTTP/1.3 200 OK\r\n\r\n"), "200 <OK> 1.1"},
    {RAW("HTTP/1.1 200 caf\xc3\xa9 \t x\r\n\r\n"), "200 <caf\xc3\xa9 \t x> 1.1"},
    {RAW("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), "100 <Continue> 1.1"},
    {RAW("HTTP/1.1 599 x\r\n\r\n"), "599 <x> 1.1"},
    {OK("Content-Length: 5\r\nServer: x\r\n"), "200 <OK> 1.1 length=5 [server: x]"},
    {OK("Transfer-Encoding: Chunked\r\nX-A: b\r\n"), "200 <OK> 1.1 chunked [x-a: b]"},
    {OK("Connection: close\r\n"), "200 <OK> 1.1 close"},
    {OK("Set-Cookie: a=b\r\nset-cookie: c=d\r\n"), "200 <OK> 1.1 [set-cookie: a=b] [set-cookie: c=d]"},
    {OK("Connection: X-A, set-cookie\r\nX-A: 1\r\nX-B: 2\r\nSet-Cookie: c\r\nKeep-Alive: timeout=5\r\nTrailer: x\r\n"),
     "200 <OK> 1.1 [x-b: 2] [set-cookie: c]"},
    {OK("Upgrade: h2c\r\nConnection: upgrade\r\n"), "200 <OK> 1.1"},
    {RAW("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
     "101 <Switching> 1.1 upgrade=websocket"},
    {OK("Host: kept\r\nExpect: ignored\r\n"), "200 <OK> 1.1 [host: kept]"},
    {OK("Empty:\r\nBlank: \t \r\nTrailing: x \t\r\n"), "200 <OK> 1.1 [empty: ] [blank: ] [trailing: x]"},
};

static const struct {
    const char *raw;
    size_t len;
    enum gw_head_result expected;
} bad[] = {
    {RAW("HTTP/2.0 200 OK\r\n\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("HTTP/0.9 200 OK\r\n\r\n"), GW_HEAD_BAD_VERSION},
    {RAW("HTTP/1.1\r\n\r\n"), GW_HEAD_BAD_SYNTAX}, /* ends before a status would */
    {RAW("HTTP\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("http/1.1 200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("ICY 200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("\r\nHTTP/1.1 200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW(" HTTP/1.1 200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("<html><body>hello</body></html>\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1  200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1\t200 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 20 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 2000 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 2x0 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 -20 OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 200\tOK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 200OK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 200 O\x01K\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 200 O\0K\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 200 O\rK\r\n\r\n"), GW_HEAD_BAD_SYNTAX},
    {RAW("HTTP/1.1 099 OK\r\n\r\n"), GW_HEAD_BAD_STATUS},
    {RAW("HTTP/1.1 000 OK\r\n\r\n"), GW_HEAD_BAD_STATUS},
    {RAW("HTTP/1.1 600 OK\r\n\r\n"), GW_HEAD_BAD_STATUS},
    {RAW("HTTP/1.1 200 OK\nX: y\r\n\r\n"), GW_HEAD_BARE_LF},
    {RAW("HTTP/1.1 200 OK\r\nX: y\n\r\n"), GW_HEAD_BARE_LF},
    {RAW("HTTP/1.1 200 OK\r\nX: y\r\n\n"), GW_HEAD_BARE_LF},
    {OK("X: a\r\n b\r\n"), GW_HEAD_OBS_FOLD},
    {OK("X : a\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {OK("X\r\n"), GW_HEAD_BAD_FIELD_NAME},
    {OK("X: a\0\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {OK("X: a\rb\r\n"), GW_HEAD_BAD_FIELD_VALUE},
    {OK("Content-Length: 3\r\nContent-Length: 3\r\n"), GW_HEAD_REPEATED_CONTENT_LENGTH},
    {OK("Content-Length: 3, 3\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {OK("Content-Length: -1\r\n"), GW_HEAD_BAD_CONTENT_LENGTH},
    {OK("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), GW_HEAD_BOTH_LENGTHS},
    {OK("Transfer-Encoding: chunked, chunked\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {OK("Transfer-Encoding: identity\r\n"), GW_HEAD_BAD_TRANSFER_ENCODING},
    {OK("Transfer-Encoding: gzip, chunked\r\n"), GW_HEAD_UNKNOWN_TRANSFER_ENCODING},
    {RAW("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), GW_HEAD_TRANSFER_ENCODING_IN_10},
    {OK("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\nJ:\r\nK:\r\nL:\r\nM:\r\nN:\r\nO:\r\nP:\r\nQ:\r\nR:\r\nS:"
        "\r\n"
        "T:\r\nU:\r\n"),
     GW_HEAD_TOO_MANY_FIELDS},
};

enum { NUM_GOOD = sizeof(good) / sizeof(good[0]), NUM_BAD = sizeof(bad) / sizeof(bad[0]) };

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
        assert_int_equal(parsed->consumed, strstr(good[i].raw, "\r\n\r\n") + 4 - good[i].raw);
        free_parsed(parsed);
    }
}

static void bad_heads_are_refused_for_their_reason(void **state)
{
    for (size_t i = 0; i != NUM_BAD; ++i) {
        struct parsed *parsed = parse(bad[i].raw, bad[i].len, 0);
        if (parsed->result != bad[i].expected)
            fail_msg("%s: %s", bad[i].raw, gw_head_problem(parsed->result));
        free_parsed(parsed);
    }
}

static void check_cuts(const char *raw, size_t len, enum gw_head_result expected)
{
    for (size_t cut = 0; cut <= len; ++cut) {
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
}

static void outcome_does_not_depend_on_where_the_head_is_cut(void **state)
{
    for (size_t i = 0; i != NUM_GOOD; ++i)
        check_cuts(good[i].raw, good[i].len, GW_HEAD_OK);
    for (size_t i = 0; i != NUM_BAD; ++i)
        check_cuts(bad[i].raw, bad[i].len, bad[i].expected);
}

static void head_above_the_limit_is_refused_with_and_without_its_end(void **state)
{
    static char raw[8192] = "HTTP/1.1 200 OK\r\nX: ";
    memset(raw + 20, 'a', sizeof(raw) - 24);
    memcpy(raw + sizeof(raw) - 4, "\r\n\r\n", 4);
    static const size_t lens[][2] = {{4096, 0}, {4096, 4095}, {8192, 0}, {8192, 4095}};
    for (size_t i = 0; i != 4; ++i) {
        struct parsed *parsed = parse(raw, lens[i][0], lens[i][1]);
        assert_int_equal(parsed->result, GW_HEAD_TOO_LARGE);
        free_parsed(parsed);
    }
    struct parsed *parsed = parse(raw, 4095, 0);
    assert_int_equal(parsed->result, GW_HEAD_INCOMPLETE);
    free_parsed(parsed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads_are_understood),
        cmocka_unit_test(bad_heads_are_refused_for_their_reason),
        cmocka_unit_test(outcome_does_not_depend_on_where_the_head_is_cut),
        cmocka_unit_test(head_above_the_limit_is_refused_with_and_without_its_end),
    };
    return cmocka_run_group_tests_name("http/head_response", tests, NULL, NULL);
}
