#include "harness.h"
/* What the origin receives, byte for byte. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static struct gw_client_request post_request(uint64_t content_length)
{
    struct gw_client_request req = get_request();
    req.method = text("POST");
    req.has_body = true;
    req.content_length = content_length;
    return req;
}

static void expect_request(const struct gw_client_request *req, const char *bytes)
{
    attempt_start(&a, &origin, req);
    int fd = origin_accept(&origin);
    origin_expect(fd, bytes);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(a.status, 200);
    close(fd);
    UNTIL(num_idle() == 0);
}

static void a_head_is_written_in_the_order_of_its_fields(void **state)
{
    h2o_iovec_t names[] = {text("accept"), text("x-empty"), text("accept")};
    h2o_header_t fields[] = {
        {.name = &names[0], .value = text("a")}, {.name = &names[1]}, {.name = &names[2], .value = text("b, c")}};
    struct gw_client_request req = get_request();
    req.target = text("/a/b?c=d");
    req.host = text("example.com:81");
    req.fields = fields;
    req.num_fields = 3;
    expect_request(&req,
                   "GET /a/b?c=d HTTP/1.1\r\nhost: example.com:81\r\naccept: a\r\nx-empty: \r\naccept: b, c\r\n\r\n");
}

static void an_empty_host_is_still_sent(void **state)
{
    struct gw_client_request req = get_request();
    req.host = (h2o_iovec_t){0};
    expect_request(&req, "GET / HTTP/1.1\r\nhost: \r\n\r\n");
}

static void a_post_without_body_says_so_and_a_delete_does_not(void **state)
{
    struct gw_client_request req = get_request();
    req.method = text("POST");
    expect_request(&req, "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: 0\r\n\r\n");
    attempt_release(&a);
    req.method = text("DELETE");
    req.content_length = 0;
    expect_request(&req, "DELETE / HTTP/1.1\r\nhost: origin\r\n\r\n");
}

static void a_whole_body_goes_out_with_its_length(void **state)
{
    struct gw_client_request req = post_request(UINT64_MAX);
    req.body = text("hello");
    req.body_is_whole = true;
    expect_request(&req, "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: 5\r\n\r\nhello");
}

static void a_whole_empty_body_has_length_zero(void **state)
{
    struct gw_client_request req = post_request(UINT64_MAX);
    req.method = text("DELETE");
    req.body_is_whole = true;
    expect_request(&req, "DELETE / HTTP/1.1\r\nhost: origin\r\ncontent-length: 0\r\n\r\n");
}

static void a_body_of_known_length_is_streamed_as_it_is(void **state)
{
    struct gw_client_request req = post_request(11);
    req.body = text("hello");
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect(fd, "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: 11\r\n\r\nhello");
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, text(" wor"), false);
    assert_int_equal(a.num_drained, 0); /* never from inside the write */
    origin_expect(fd, " wor");
    UNTIL(a.num_drained == 1);
    gw_client_write(a.client, text("ld"), true);
    origin_expect(fd, "ld");
    UNTIL(a.num_drained == 2);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_string_equal(a.events, "started drained head last");
    assert_int_equal(num_idle(), 1);
    close(fd);
}

static void a_body_of_unknown_length_is_sent_in_chunks(void **state)
{
    struct gw_client_request req = post_request(UINT64_MAX);
    req.body = text("0123456789abcdef");
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect(fd,
                  "POST / HTTP/1.1\r\nhost: origin\r\ntransfer-encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n");
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, text("more"), false);
    UNTIL(a.num_drained == 1);
    origin_expect(fd, "4\r\nmore\r\n");
    gw_client_write(a.client, text(""), false); /* an empty chunk would end the body */
    UNTIL(a.num_drained == 2);
    gw_client_write(a.client, text("end"), true);
    UNTIL(a.num_drained == 3);
    origin_expect(fd, "3\r\nend\r\n0\r\n\r\n");
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(num_idle(), 1);
    close(fd);
}

static void an_empty_last_write_ends_a_chunked_body(void **state)
{
    struct gw_client_request req = post_request(UINT64_MAX);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect(fd, "POST / HTTP/1.1\r\nhost: origin\r\ntransfer-encoding: chunked\r\n\r\n");
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, text(""), true);
    origin_expect(fd, "0\r\n\r\n");
    UNTIL(a.num_drained == 1);
    close(fd);
}

static void a_streamed_body_goes_out_on_a_reused_connection_too(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    struct gw_client_request req = post_request(4);
    attempt_start(&a, &origin, &req);
    origin_expect(fd, "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: 4\r\n\r\n");
    UNTIL(strcmp(a.events, "started") == 0);
    assert_true(a.is_reused);
    gw_client_write(a.client, text("body"), true);
    origin_expect(fd, "body");
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(num_idle(), 1);
    close(fd);
}

/* More than the socket takes at once: the memory given to gw_client_start is free on return. */
static void a_large_body_at_hand_is_sent_whole_while_the_origin_reads_slowly(void **state)
{
    enum { SIZE = 8 << 20 };
    for (int is_reused = 0; is_reused != 2; ++is_reused) {
        int fd = is_reused ? exchange(&origin, -1, OK_RESPONSE) : -1;
        char *bytes = malloc(SIZE), head[200];
        for (size_t i = 0; i != SIZE; ++i)
            bytes[i] = pattern(i);
        struct gw_client_request req = post_request(SIZE);
        req.body = h2o_iovec_init(bytes, SIZE);
        req.body_is_whole = true;
        attempt_start(&a, &origin, &req);
        memset(bytes, 0, SIZE);
        free(bytes);
        if (fd < 0)
            fd = origin_accept(&origin);
        settle(); /* the rest waits for the origin */
        snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: %d\r\n\r\n", SIZE);
        origin_expect(fd, head);
        size_t got = 0;
        while (got != SIZE) {
            static char buf[65536];
            ssize_t n;
            UNTIL((n = recv(fd, buf, sizeof(buf), 0)) > 0);
            for (ssize_t i = 0; i != n; ++i)
                if (buf[i] != pattern(got + (size_t)i))
                    fail_msg("wrong byte at %zu", got + (size_t)i);
            got += (size_t)n;
        }
        origin_send(fd, OK_RESPONSE);
        UNTIL(a.has_ended);
        assert_int_equal(a.error, GW_CLIENT_OK);
        assert_int_equal(a.is_reused, is_reused);
        assert_int_equal(num_idle(), 1);
        close(fd);
        UNTIL(num_idle() == 0);
        attempt_release(&a);
    }
}

static void a_write_is_drained_only_when_the_origin_has_taken_it(void **state)
{
    enum { SIZE = 16 << 20 };
    char *bytes = malloc(SIZE);
    for (size_t i = 0; i != SIZE; ++i)
        bytes[i] = pattern(i);
    struct gw_client_request req = post_request(SIZE);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(bytes, SIZE), true);
    settle();
    assert_int_equal(a.num_drained, 0);
    static char buf[65536];
    for (size_t got = 0; got != SIZE;) {
        ssize_t n;
        UNTIL((n = recv(fd, buf, sizeof(buf), 0)) > 0);
        got += (size_t)n;
    }
    UNTIL(a.num_drained == 1);
    free(bytes);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    close(fd);
}

static void the_last_request_of_a_connection_says_close(void **state)
{
    limits.max_requests = 2;
    int fd = exchange(&origin, -1, OK_RESPONSE);
    attempt_get(&a, &origin);
    origin_expect(fd, "GET / HTTP/1.1\r\nhost: origin\r\nconnection: close\r\n\r\n");
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    origin_expect_end(fd);
    close(fd);
}

static void trailers_follow_the_last_chunk_of_a_body(void **state)
{
    h2o_iovec_t names[] = {text("x-sum")};
    h2o_header_t fields[] = {{.name = &names[0], .value = text("12")}};
    struct gw_trailers trailers = {fields, 1};
    struct gw_client_request req = post_request(UINT64_MAX);
    req.body = text("hello");
    req.body_is_whole = true;
    req.trailers = &trailers;
    expect_request(&req, "POST / HTTP/1.1\r\nhost: origin\r\ntransfer-encoding: chunked\r\n\r\n"
                         "5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n");
    attempt_release(&a);
    req.body = (h2o_iovec_t){0};
    req.announced_trailers = text("x-sum");
    req.accepts_trailers = true;
    expect_request(&req, "POST / HTTP/1.1\r\nhost: origin\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n"
                         "te: trailers\r\nconnection: te\r\n\r\n0\r\nx-sum: 12\r\n\r\n");
}

static void a_body_of_known_length_has_room_for_trailers_only_when_they_are_announced(void **state)
{
    h2o_iovec_t names[] = {text("x-sum")};
    h2o_header_t fields[] = {{.name = &names[0], .value = text("12")}};
    struct gw_trailers trailers = {fields, 0};
    struct gw_client_request req = post_request(5);
    req.trailers = &trailers;
    for (int i = 0; i != 2; ++i) {
        trailers.size = 0;
        req.announced_trailers = i == 0 ? (h2o_iovec_t){0} : text("x-sum");
        attempt_start(&a, &origin, &req);
        int fd = origin_accept(&origin);
        if (i == 0)
            origin_expect(fd, "POST / HTTP/1.1\r\nhost: origin\r\ncontent-length: 5\r\n\r\n");
        else
            origin_expect(fd,
                          "POST / HTTP/1.1\r\nhost: origin\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n");
        UNTIL(strcmp(a.events, "started") == 0);
        trailers.size = 1;
        gw_client_write(a.client, text("hello"), true);
        origin_expect(fd, i == 0 ? "hello" : "5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n");
        origin_send(fd, OK_RESPONSE);
        UNTIL(a.has_ended);
        close(fd);
        UNTIL(num_idle() == 0);
        attempt_release(&a);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_attempt, teardown_attempt)
    const struct CMUnitTest tests[] = {
        T(a_head_is_written_in_the_order_of_its_fields),
        T(an_empty_host_is_still_sent),
        T(a_post_without_body_says_so_and_a_delete_does_not),
        T(a_whole_body_goes_out_with_its_length),
        T(a_whole_empty_body_has_length_zero),
        T(a_body_of_known_length_is_streamed_as_it_is),
        T(a_body_of_unknown_length_is_sent_in_chunks),
        T(an_empty_last_write_ends_a_chunked_body),
        T(a_streamed_body_goes_out_on_a_reused_connection_too),
        T(a_large_body_at_hand_is_sent_whole_while_the_origin_reads_slowly),
        T(a_write_is_drained_only_when_the_origin_has_taken_it),
        T(the_last_request_of_a_connection_says_close),
        T(trailers_follow_the_last_chunk_of_a_body),
        T(a_body_of_known_length_has_room_for_trailers_only_when_they_are_announced),
    };
    return cmocka_run_group_tests_name("upstream/request", tests, setup_thread, NULL);
}
