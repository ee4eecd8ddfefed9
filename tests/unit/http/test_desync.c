/* Which requests two readers may take for different ones (spec/alb.md 5.8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/http/head.h"

struct one {
    const char *bytes;
    size_t len;
    enum gw_desync expected;
};
#define RAW(text) text, sizeof(text) - 1
#define END       "\r\nHost: a\r\n\r\n"

static const struct one heads[] = {
    {RAW("GET / HTTP/1.1" END), GW_DESYNC_NONE},
    {RAW("GET / HTTP/1.0" END), GW_DESYNC_NONE},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 0" END), GW_DESYNC_NONE},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked" END), GW_DESYNC_NONE},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked" END), GW_DESYNC_NONE},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: gzip;q=1, chunked" END), GW_DESYNC_NONE},
    {RAW("DELETE / HTTP/1.1\r\nContent-Length: 5" END), GW_DESYNC_NONE},
    {RAW("GET / HTTP/1.1\r\nX-A: \xe9\t\xff" END), GW_DESYNC_NONE},
    {RAW("GET / HTTP/1.1\r\nX-Content-Length: 5\r\nContent-Lengths: 1\r\nContent-Length2: 2" END), GW_DESYNC_NONE},

    {RAW("GET / HTTP/1.1\r\nContent-Length: 0" END), GW_DESYNC_GetHeadZeroContentLength},
    {RAW("HEAD / HTTP/1.1\r\ncontent-length:0" END), GW_DESYNC_GetHeadZeroContentLength},
    {RAW("GET / HTTP/1.1\r\nX(A: 1" END), GW_DESYNC_NonCompliantHeader},
    {RAW("GET / HTTP/1.1\r\nX-A : 1" END), GW_DESYNC_NonCompliantHeader},
    {RAW("GET / HTTP/1.1\r\nX-A: \x01" END), GW_DESYNC_NonCompliantHeader},
    {RAW("GET / HTTP/1.1\r\nX-A: \x7f" END), GW_DESYNC_NonCompliantHeader},
    {RAW("GET /\r\nHost: a\r\n\r\n"), GW_DESYNC_NonCompliantVersion},
    {RAW("GET / HTTP/1.2" END), GW_DESYNC_NonCompliantVersion},
    {RAW("GET / HTTP/1.9" END), GW_DESYNC_NonCompliantVersion},
    {RAW("GET /  HTTP/1.1" END), GW_DESYNC_NonCompliantVersion},
    {RAW("GET / HTTP/1.1 " END), GW_DESYNC_NonCompliantVersion},
    {RAW("GET /a b HTTP/1.1" END), GW_DESYNC_SpaceInUri},

    {RAW("GET /\x01 HTTP/1.1" END), GW_DESYNC_AmbiguousUri},
    {RAW("GET /\x7f HTTP/1.1" END), GW_DESYNC_AmbiguousUri},
    {RAW("GET /\x01"), GW_DESYNC_AmbiguousUri},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5" END), GW_DESYNC_BothTeClPresent},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5" END), GW_DESYNC_DuplicateContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 05" END), GW_DESYNC_DuplicateContentLength},
    {RAW("GET / HTTP/1.1\r\n: 1" END), GW_DESYNC_EmptyHeader},
    {RAW("GET / HTTP/1.1\r\n : 1" END), GW_DESYNC_EmptyHeader},
    {RAW("GET / HTTP/1.1\r\n:authority: 1" END), GW_DESYNC_EmptyHeader},
    {RAW("POST / HTTP/1.1\r\nTransfer_Encoding: chunked" END), GW_DESYNC_SuspiciousHeader},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding : chunked" END), GW_DESYNC_SuspiciousHeader},
    {RAW("POST / HTTP/1.1\r\n\x01"
         "Content-Length: 5" END),
     GW_DESYNC_SuspiciousHeader},
    {RAW("POST / HTTP/1.1\r\nContent.Length: 5" END), GW_DESYNC_SuspiciousHeader},
    {RAW("POST / HTTP/1.1\r\nTran\xc5\xbf"
         "fer-Encod\xc4\xb1ng: chunked" END),
     GW_DESYNC_SuspiciousHeader},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent_Length: 5" END), GW_DESYNC_SuspiciousHeader},
    {RAW("GET / HTTP/1.1\r\nContent-Length: 5" END), GW_DESYNC_UndefinedContentLengthSemantics},
    {RAW("HEAD / HTTP/1.1\r\nContent-Length: 5" END), GW_DESYNC_UndefinedContentLengthSemantics},
    {RAW("POST /\r\nContent-Length: 5\r\n\r\n"), GW_DESYNC_UndefinedContentLengthSemantics},
    {RAW("GET / HTTP/1.1\r\nTransfer-Encoding: chunked" END), GW_DESYNC_UndefinedTransferEncodingSemantics},
    {RAW("POST / HTTP/1.0\r\nTransfer-Encoding: chunked" END), GW_DESYNC_UndefinedTransferEncodingSemantics},
    {RAW("POST / HTTP/1.0\r\nTransfer-Encoding: x\r\nContent-Length: x" END),
     GW_DESYNC_UndefinedTransferEncodingSemantics},

    {RAW("POST / HTTP/1.1\r\nContent-Length: " END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: -1" END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: +1" END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 10,10" END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 10 10" END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616" END), GW_DESYNC_BadContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615" END), GW_DESYNC_NONE},
    {RAW("GET / HTTP/1.1\r\nX-A: 1\r2" END), GW_DESYNC_BadHeader},
    {RAW("GET / HTTP/1.1\r\nX-A: 1\0" END), GW_DESYNC_BadHeader},
    {RAW("GET / HTTP/1.1\r\nX\0A: 1" END), GW_DESYNC_BadHeader},
    {RAW("G(T / HTTP/1.1" END), GW_DESYNC_BadMethod},
    {RAW(" / HTTP/1.1" END), GW_DESYNC_BadMethod},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked" END), GW_DESYNC_BadTransferEncoding},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, " END), GW_DESYNC_BadTransferEncoding},
    {RAW("GET /\0 HTTP/1.1" END), GW_DESYNC_BadUri},
    {RAW("GET /\r HTTP/1.1" END), GW_DESYNC_BadUri},
    {RAW("GET / HTTP/2.0" END), GW_DESYNC_BadVersion},
    {RAW("GET / HTTP/1.10" END), GW_DESYNC_BadVersion},
    {RAW("GET / HTTPS/1.1" END), GW_DESYNC_BadVersion},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6" END), GW_DESYNC_MultipleContentLength},
    {RAW("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent_Length: 6" END), GW_DESYNC_MultipleContentLength},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked" END), GW_DESYNC_MultipleTransferEncodingChunked},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked" END),
     GW_DESYNC_MultipleTransferEncodingChunked},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip, chunked" END), GW_DESYNC_NONE},
    {RAW("POST / HTTP/1.1\r\nTransfer_Encoding: chunked\r\nContent-Length: 5" END), GW_DESYNC_SuspiciousTeClPresent},
    {RAW("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent_Length: 5" END), GW_DESYNC_SuspiciousTeClPresent},
    /* the first one of the worst class */
    {RAW("GET /a b HTTP/1.3\r\nContent-Length: 0" END), GW_DESYNC_GetHeadZeroContentLength},
    {RAW("GET /a b HTTP/1.1\r\nContent-Length: 1" END), GW_DESYNC_UndefinedContentLengthSemantics},
    {RAW("G(T /\0 HTTP/2.0\r\nContent-Length: x" END), GW_DESYNC_BadContentLength},
};
enum { NUM_HEADS = sizeof(heads) / sizeof(heads[0]) };

static void heads_are_classified(void **state)
{
    for (size_t i = 0; i != NUM_HEADS; ++i) {
        char *copy = malloc(heads[i].len); /* a sanitizer sees what is read beyond it */
        memcpy(copy, heads[i].bytes, heads[i].len);
        enum gw_desync found = gw_desync_of_head(copy, heads[i].len);
        free(copy);
        if (found != heads[i].expected)
            fail_msg("%s: %s", heads[i].bytes, found != GW_DESYNC_NONE ? gw_desync_name(found) : "compliant");
    }
}

static void any_cut_of_a_head_can_be_looked_at(void **state)
{
    for (size_t i = 0; i != NUM_HEADS; ++i)
        for (size_t len = 0; len != heads[i].len; ++len) {
            char *copy = malloc(len + 1);
            memcpy(copy, heads[i].bytes, len);
            (void)gw_desync_name(gw_desync_of_head(copy, len));
            free(copy);
        }
}

/* What the strict parser takes in each mode: it says the same of a head as the look at its bytes. */
static void a_head_that_is_taken_is_classified_alike(void **state)
{
    unsigned taken = 0, blocked = 0;

    for (size_t i = 0; i != NUM_HEADS; ++i)
        for (int mode = GW_DESYNC_DEFENSIVE; mode <= GW_DESYNC_MONITOR; ++mode) {
            struct gw_head_limits limits = {4096, 1024, 20, (enum gw_desync_mode)mode};
            h2o_header_t fields[GW_HEAD_MAX_FIELDS];
            h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
            struct gw_request_head head = {.fields = fields, .names = names};
            char bytes[4096];
            size_t consumed;
            memcpy(bytes, heads[i].bytes, heads[i].len);
            enum gw_head_result result = gw_head_parse_request(bytes, heads[i].len, 0, &limits, &head, &consumed);
            bool is_blocked = gw_desync_blocks((enum gw_desync_mode)mode, gw_desync_class(heads[i].expected));
            if (result == GW_HEAD_OK)
                assert_int_equal(head.desync, heads[i].expected);
            if (result == GW_HEAD_OK || result == GW_HEAD_DESYNC)
                assert_int_equal(result == GW_HEAD_DESYNC, is_blocked);
            taken += result == GW_HEAD_OK && head.desync != GW_DESYNC_NONE;
            blocked += result == GW_HEAD_DESYNC;
        }
    assert_in_range(taken, 10, NUM_HEADS * 3);
    assert_in_range(blocked, 10, NUM_HEADS * 3);
}

static void names_are_suspicious_by_their_letters(void **state)
{
    static const char *const good[] =
        {"content-length", "Content-Length", "transfer-encoding", "content-lengthy", "xcontent-length", "content", "te",
         "content-length1"},
                             *const bad[] = {"content_length",  "contentlength",  "Content--Length",  "-content-length",
                                             "content-length-", "conten-tlength", "TRANSFER.ENCODING"};
    for (size_t i = 0; i != sizeof(good) / sizeof(good[0]); ++i)
        assert_false(gw_desync_is_suspicious(h2o_iovec_init(good[i], strlen(good[i]))));
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i) {
        assert_true(gw_desync_may_be_suspicious(h2o_iovec_init(bad[i], strlen(bad[i]))));
        assert_true(gw_desync_is_suspicious(h2o_iovec_init(bad[i], strlen(bad[i]))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_classified),
        cmocka_unit_test(any_cut_of_a_head_can_be_looked_at),
        cmocka_unit_test(a_head_that_is_taken_is_classified_alike),
        cmocka_unit_test(names_are_suspicious_by_their_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
