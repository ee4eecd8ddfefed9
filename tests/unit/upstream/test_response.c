#include "harness.h"
/* Framing of responses (RFC 9112, 6.3), however the bytes are cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One response, what it must be taken for, and whether its connection may serve again. */
struct sample {
    const char *bytes, *method, *body; /* body NULL: on_head says that none follows */
    int status;
    bool is_reusable, ends_with_close;
};
static const struct sample samples[] = {
    {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\na: b\r\n\r\nhello", "GET", "hello", 200, true},
    {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\na: b\r\n\r\n", "GET", NULL, 200, true},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", "GET",
     "hello world", 200, true},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n0\r\n\r\n", "GET", "", 200, true},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n3\r\nabc\r\n0\r\nt: v\r\n\r\n", "GET", "abc", 200,
     true},
    {"HTTP/1.1 200 OK\r\na: b\r\n\r\nuntil the end", "GET", "until the end", 200, false, true},
    {"HTTP/1.1 200 OK\r\na: b\r\n\r\n", "GET", "", 200, false, true},
    {"HTTP/1.0 200 OK\r\na: b\r\n\r\nold", "GET", "old", 200, false, true},
    {"HTTP/1.0 200 OK\r\ncontent-length: 3\r\na: b\r\n\r\nold", "GET", "old", 200, false},
    {"HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\na: b\r\n\r\nold", "GET", "old", 200, true},
    {"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\na: b\r\n\r\nend", "GET", "end", 200, false},
    {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\na: b\r\n\r\n", "HEAD", NULL, 200, true},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n", "HEAD", NULL, 200, true},
    {"HTTP/1.1 200 OK\r\na: b\r\n\r\n", "HEAD", NULL, 200, true},
    {"HTTP/1.1 204 No Content\r\na: b\r\n\r\n", "GET", NULL, 204, true},
    {"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\na: b\r\n\r\n", "GET", NULL, 304, true},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
     "HTTP/1.1 200 OK\r\ncontent-length: 2\r\na: b\r\n\r\nok",
     "GET", "ok", 200, true},
    {"HTTP/1.1 404 \r\ncontent-length: 2\r\na: b\r\n\r\nno", "GET", "no", 404, true},
};
enum { NUM_SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static int start_sample(const struct sample *s)
{
    struct gw_client_request req = get_request();
    req.method = h2o_iovec_init(s->method, strlen(s->method));
    req.expects_head_only = strcmp(s->method, "HEAD") == 0;
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    return fd;
}

static void finish_sample(const struct sample *s, int fd)
{
    if (s->ends_with_close) {
        settle();
        assert_false(a.has_ended);
        close(fd);
        fd = -1;
    }
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(a.status, s->status);
    assert_string_equal(a.field_a, "b");
    assert_int_equal(a.body_follows, s->body != NULL);
    if (s->body != NULL)
        assert_string_equal(a.body, s->body);
    else
        assert_string_equal(a.events, "started head");
    assert_int_equal(num_idle(), s->is_reusable);
    if (fd >= 0) {
        if (!s->is_reusable)
            origin_expect_end(fd);
        close(fd);
    }
    UNTIL(num_idle() == 0); /* an idle connection that the origin closes leaves the pool */
    attempt_release(&a);
}

static void a_response_in_one_piece_is_read_by_its_framing(void **state)
{
    for (size_t i = 0; i != NUM_SAMPLES; ++i) {
        int fd = start_sample(&samples[i]);
        origin_send(fd, samples[i].bytes);
        finish_sample(&samples[i], fd);
    }
}

static void a_response_cut_in_two_anywhere_is_read_the_same(void **state)
{
    for (size_t i = 0; i != NUM_SAMPLES; ++i) {
        size_t len = strlen(samples[i].bytes);
        for (size_t cut = 1; cut < len; ++cut) {
            int fd = start_sample(&samples[i]);
            origin_send_bytes(fd, samples[i].bytes, cut);
            settle();
            assert_false(a.has_ended);
            origin_send(fd, samples[i].bytes + cut);
            finish_sample(&samples[i], fd);
        }
    }
}

static void a_response_byte_by_byte_is_read_the_same(void **state)
{
    for (size_t i = 0; i != NUM_SAMPLES; ++i) {
        int fd = start_sample(&samples[i]);
        for (const char *p = samples[i].bytes; *p != '\0'; ++p) {
            origin_send_bytes(fd, p, 1);
            settle();
        }
        finish_sample(&samples[i], fd);
    }
}

static void a_response_together_with_the_end_of_its_connection_is_whole(void **state)
{
    for (size_t i = 0; i != NUM_SAMPLES; ++i) {
        struct sample s = samples[i];
        int fd = start_sample(&s);
        origin_send(fd, s.bytes);
        close(fd);
        UNTIL(a.has_ended);
        assert_int_equal(a.error, GW_CLIENT_OK);
        assert_int_equal(a.status, s.status);
        if (s.body != NULL)
            assert_string_equal(a.body, s.body);
        UNTIL(num_idle() == 0);
        attempt_release(&a);
    }
}

static void bytes_behind_a_response_are_dropped_with_their_connection(void **state)
{
    static const struct sample junk[] = {
        {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\na: b\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
         "GET", "ok", 200, false},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\na: b\r\n\r\nx", "GET", NULL, 200, false},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\na: b\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 ", "GET", "ok", 200,
         false},
        {"HTTP/1.1 200 OK\r\ncontent-length: 4\r\na: b\r\n\r\nbody", "HEAD", NULL, 200, false},
        {"HTTP/1.1 204 No Content\r\na: b\r\n\r\nbody", "GET", NULL, 204, false},
        {"HTTP/1.1 304 Not Modified\r\na: b\r\n\r\nbody", "GET", NULL, 304, false},
    };
    for (size_t i = 0; i != sizeof(junk) / sizeof(junk[0]); ++i) {
        int fd = start_sample(&junk[i]);
        origin_send(fd, junk[i].bytes);
        finish_sample(&junk[i], fd);
    }
}

static void bytes_that_come_after_a_response_close_the_idle_connection(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    assert_int_equal(num_idle(), 1);
    origin_send(fd, "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n");
    UNTIL(num_idle() == 0);
    origin_expect_end(fd);
    close(fd);
    attempt_get(&a, &origin);
    fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(a.status, 200);
    assert_false(a.is_reused);
    close(fd);
}

static void an_end_that_comes_after_a_response_closes_the_idle_connection(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    close(fd);
    UNTIL(num_idle() == 0);
    assert_int_equal(gw_counter_read(&gw_pool_stats(pool)->idle_closed), 1);
}

/* --- refusals --- */
static void expect_bad_head(const char *bytes, enum gw_client_error error, enum gw_head_result rule)
{
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, bytes);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, error);
    assert_int_equal(gw_client_failure(a.client)->head, rule);
    assert_true(gw_client_failure(a.client)->any_response_byte);
    assert_false(a.retry_is_safe);
    assert_string_equal(a.events, "started error");
    origin_expect_end(fd);
    close(fd);
    attempt_release(&a);
}

static void a_malformed_head_is_refused_with_its_rule(void **state)
{
    expect_bad_head("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", GW_CLIENT_BAD_HEAD,
                    GW_HEAD_BOTH_LENGTHS);
    expect_bad_head("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", GW_CLIENT_BAD_HEAD,
                    GW_HEAD_REPEATED_CONTENT_LENGTH);
    expect_bad_head("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n", GW_CLIENT_BAD_HEAD, GW_HEAD_BAD_CONTENT_LENGTH);
    expect_bad_head("HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", GW_CLIENT_BAD_HEAD, GW_HEAD_OBS_FOLD);
    expect_bad_head("SSH-2.0-OpenSSH_9.2\r\n", GW_CLIENT_BAD_HEAD, GW_HEAD_BAD_SYNTAX);
    expect_bad_head("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", GW_CLIENT_BAD_HEAD,
                    GW_HEAD_UNKNOWN_TRANSFER_ENCODING);
    /* a malformed interim response is no better */
    expect_bad_head("HTTP/1.1 100 Continue\r\na : b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                    GW_CLIENT_BAD_HEAD, GW_HEAD_BAD_FIELD_NAME);
}

static void an_upgrade_that_nobody_asked_for_is_refused(void **state)
{
    expect_bad_head("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", GW_CLIENT_BAD_HEAD,
                    GW_HEAD_OK);
}

static void endless_interim_responses_are_refused(void **state)
{
    char bytes[4096] = "";
    for (int i = 0; i != 32; ++i)
        strcat(bytes, "HTTP/1.1 102 Processing\r\n\r\n");
    strcat(bytes, OK_RESPONSE);
    int fd = exchange(&origin, -1, bytes);
    close(fd);
    UNTIL(num_idle() == 0);
    memmove(bytes + 27, bytes, strlen(bytes) + 1); /* one more */
    memcpy(bytes, "HTTP/1.1 102 Processing\r\n\r\n", 27);
    expect_bad_head(bytes, GW_CLIENT_BAD_HEAD, GW_HEAD_OK);
}

static void a_head_above_64_KiB_is_refused_and_one_below_is_not(void **state)
{
    for (int is_too_large = 0; is_too_large != 2; ++is_too_large) {
        size_t len = is_too_large ? 70000 : 65000;
        char *bytes = malloc(len + 100), *p = bytes + sprintf(bytes, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: ");
        memset(p, 'y', len - (size_t)(p - bytes));
        strcpy(bytes + len, "\r\n\r\n");
        attempt_get(&a, &origin);
        int fd = origin_accept(&origin);
        origin_expect_head(fd);
        for (size_t i = 0; i < len + 4 && !a.has_ended; i += 1000) {
            origin_send_bytes(fd, bytes + i, len + 4 - i < 1000 ? len + 4 - i : 1000);
            settle();
        }
        UNTIL(a.has_ended);
        assert_int_equal(a.error, is_too_large ? GW_CLIENT_HEAD_TOO_LARGE : GW_CLIENT_OK);
        attempt_release(&a);
        free(bytes);
        close(fd);
        UNTIL(num_idle() == 0);
    }
}

static void more_than_100_fields_are_refused(void **state)
{
    char bytes[4096] = "HTTP/1.1 200 OK\r\n";
    for (int i = 0; i != 101; ++i)
        sprintf(bytes + strlen(bytes), "x%d: y\r\n", i);
    strcat(bytes, "\r\n");
    expect_bad_head(bytes, GW_CLIENT_HEAD_TOO_LARGE, GW_HEAD_TOO_MANY_FIELDS);
}

static void a_bad_chunk_fails_behind_what_was_good(void **state)
{
    static const char *const bodies[] = {"5\r\nhelloX\n0\r\n\r\n", "zz\r\n", "5 \r\nhello\r\n", "1\nx\r\n",
                                         "10000000000000000\r\n"};
    for (size_t i = 0; i != sizeof(bodies) / sizeof(bodies[0]); ++i) {
        attempt_get(&a, &origin);
        int fd = origin_accept(&origin);
        origin_expect_head(fd);
        origin_send(fd, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
        UNTIL(a.body_len == 2);
        origin_send(fd, bodies[i]);
        UNTIL(a.has_ended);
        assert_int_equal(a.error, GW_CLIENT_BAD_CHUNK);
        assert_string_equal(a.events, "started head body error");
        assert_string_equal(a.body, "ok");
        close(fd);
        attempt_release(&a);
    }
}

static void the_head_stays_valid_until_the_release(void **state)
{
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 299 Quite Fine\r\ncontent-length: 4\r\na: b\r\n\r\n");
    UNTIL(a.status == 299);
    assert_string_equal(a.reason, "Quite Fine");
    assert_string_equal(a.events, "started head");
    origin_send(fd, "body");
    UNTIL(a.has_ended);
    /* the connection goes on to other requests and other heads meanwhile */
    for (int i = 0; i != 3; ++i)
        exchange(&origin, fd, "HTTP/1.1 500 Other\r\ncontent-length: 0\r\nx: yyyyyyyyyyyyyyyyyyyyy\r\n\r\n");
    assert_string_equal(a.body, "body");
    assert_memory_equal(a.head->reason.base, "Quite Fine", a.head->reason.len);
    assert_int_equal(a.head->num_fields, 1);
    assert_memory_equal(a.head->fields[0].name->base, "a", 1);
    assert_memory_equal(a.head->fields[0].value.base, "b", 1);
    close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_attempt, teardown_attempt)
    const struct CMUnitTest tests[] = {
        T(a_response_in_one_piece_is_read_by_its_framing),
        T(a_response_cut_in_two_anywhere_is_read_the_same),
        T(a_response_byte_by_byte_is_read_the_same),
        T(a_response_together_with_the_end_of_its_connection_is_whole),
        T(bytes_behind_a_response_are_dropped_with_their_connection),
        T(bytes_that_come_after_a_response_close_the_idle_connection),
        T(an_end_that_comes_after_a_response_closes_the_idle_connection),
        T(a_malformed_head_is_refused_with_its_rule),
        T(an_upgrade_that_nobody_asked_for_is_refused),
        T(endless_interim_responses_are_refused),
        T(a_head_above_64_KiB_is_refused_and_one_below_is_not),
        T(more_than_100_fields_are_refused),
        T(a_bad_chunk_fails_behind_what_was_good),
        T(the_head_stays_valid_until_the_release),
    };
    return cmocka_run_group_tests_name("upstream/response", tests, setup_thread, NULL);
}
