#include "harness.h"
/* An attempt may be released at any time, from outside and from inside each callback: nothing is called back after it,
 * and only a complete exchange leaves its connection in the pool. AddressSanitizer sees the rest. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct gw_client_request post_request(void)
{
    struct gw_client_request req = get_request();
    req.method = h2o_iovec_init(H2O_STRLIT("POST"));
    req.has_body = true;
    return req;
}

static void release_and_expect_silence(void)
{
    char events[sizeof(a.events)];
    strcpy(events, a.events);
    gw_client_release(a.client);
    a.client = NULL;
    settle();
    assert_string_equal(a.events, events);
    assert_int_equal(num_idle(), 0);
}

static void null_is_fine(void **state) { gw_client_release(NULL); }

static void right_after_the_start(void **state)
{
    attempt_get(&a, &origin);
    release_and_expect_silence();
}

static void before_a_connect_failure_is_reported(void **state)
{
    memset(&origin.endpoint.address.sa, 0, sizeof(origin.endpoint.address.sa));
    origin.endpoint.address.sa.ss_family = AF_UNIX; /* connect() fails at once */
    attempt_get(&a, &origin);
    release_and_expect_silence();
}

static void after_the_start_on_a_reused_connection(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    struct gw_client_request req = post_request();
    attempt_start(&a, &origin, &req); /* on_started is put off */
    release_and_expect_silence();
    origin_expect_head(fd);
    origin_expect_end(fd);
    close(fd);
}

static void while_the_response_is_awaited(void **state)
{
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    release_and_expect_silence();
    origin_expect_end(fd);
    close(fd);
}

static void within_the_response_head(void **state)
{
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n");
    settle();
    release_and_expect_silence();
    origin_expect_end(fd);
    close(fd);
}

static void within_the_response_body_with_bytes_held_back(void **state)
{
    a.holds_back = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome");
    UNTIL(a.body_len == 4);
    origin_send(fd, "more");
    UNTIL(a.body_len == 8);
    release_and_expect_silence();
    origin_expect_end(fd);
    close(fd);
}

static void while_a_write_waits_for_the_origin(void **state)
{
    enum { SIZE = 16 << 20 };
    char *bytes = calloc(1, SIZE);
    struct gw_client_request req = post_request();
    req.content_length = UINT64_MAX;
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(bytes, SIZE), false);
    settle();
    release_and_expect_silence();
    free(bytes); /* from now on it is the caller's */
    settle();
    close(fd);
}

static void while_a_large_request_waits_for_the_origin(void **state)
{
    enum { SIZE = 16 << 20 };
    char *bytes = calloc(1, SIZE);
    struct gw_client_request req = post_request();
    req.body = h2o_iovec_init(bytes, SIZE);
    req.body_is_whole = true;
    for (int is_reused = 0; is_reused != 2; ++is_reused) {
        int fd = is_reused ? exchange(&origin, -1, OK_RESPONSE) : -1;
        attempt_start(&a, &origin, &req);
        if (!is_reused)
            fd = origin_accept(&origin);
        settle();
        release_and_expect_silence();
        close(fd);
    }
    free(bytes);
}

static void before_a_drain_is_reported(void **state)
{
    struct gw_client_request req = post_request();
    req.content_length = UINT64_MAX;
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("x")), false);
    release_and_expect_silence();
    close(fd);
}

static void after_the_end_the_connection_stays(void **state)
{
    a.holds_back = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    attempt_release(&a);
    assert_int_equal(num_idle(), 1);
    exchange(&origin, fd, OK_RESPONSE);
    close(fd);
}

/* One exchange with a streamed body whose attempt is released in a callback; returns with the end seen by the origin.
 */
static void run_until_released(enum callback where, const char *response, bool is_reused, bool ends_by_close)
{
    int fd = is_reused ? exchange(&origin, -1, OK_RESPONSE) : -1;
    struct gw_client_request req = post_request();
    req.content_length = 4;
    memset(&a, 0, sizeof(a));
    a.release_in = where;
    attempt_start(&a, &origin, &req);
    if (!is_reused)
        fd = origin_accept(&origin);
    if (where != ON_STARTED) {
        UNTIL(strcmp(a.events, "started") == 0);
        gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("body")), true);
        if (where != ON_DRAINED)
            UNTIL(a.num_drained == 1);
    }
    if (where != ON_STARTED && where != ON_DRAINED) { /* unread bytes would make the close a reset */
        origin_expect_head(fd);
        origin_expect(fd, "body");
    }
    if (response != NULL)
        origin_send(fd, response);
    if (ends_by_close)
        close(fd);
    UNTIL(a.client == NULL);
    settle();
    if (!ends_by_close) {
        if (where != ON_LAST)
            origin_expect_end(fd);
        close(fd);
    }
    UNTIL(num_idle() == 0);
    attempt_release(&a);
}

static void inside_each_callback(void **state)
{
    static const char partial[] = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
    static const char chunked[] = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n";
    for (int is_reused = 0; is_reused != 2; ++is_reused) {
        run_until_released(ON_STARTED, NULL, is_reused, false);
        run_until_released(ON_DRAINED, NULL, is_reused, false);
        run_until_released(ON_HEAD, partial, is_reused, false);
        run_until_released(ON_HEAD, chunked, is_reused, false);
        run_until_released(ON_BODY, partial, is_reused, false);
        run_until_released(ON_BODY, chunked, is_reused, false);
        run_until_released(ON_LAST, OK_RESPONSE, is_reused, false);
        run_until_released(ON_LAST, "HTTP/1.1 200 OK\r\n\r\nends with the connection", is_reused, true);
        run_until_released(ON_ERROR, partial, is_reused, true);
        run_until_released(ON_ERROR, NULL, is_reused, true);
    }
}

static void inside_the_head_of_a_response_without_body(void **state)
{
    for (int is_reused = 0; is_reused != 2; ++is_reused) {
        int fd = is_reused ? exchange(&origin, -1, OK_RESPONSE) : -1;
        memset(&a, 0, sizeof(a));
        a.release_in = ON_HEAD;
        attempt_get(&a, &origin);
        if (!is_reused)
            fd = origin_accept(&origin);
        origin_expect_head(fd);
        origin_send(fd, "HTTP/1.1 204 No Content\r\n\r\n");
        UNTIL(a.client == NULL);
        assert_int_equal(num_idle(), 1);
        close(fd);
        UNTIL(num_idle() == 0);
    }
}

static void inside_on_started_of_a_request_without_body(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    a.release_in = ON_STARTED; /* comes together with the response */
    attempt_get(&a, &origin);
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.client == NULL);
    settle();
    assert_string_equal(a.events, "started");
    origin_expect_end(fd);
    close(fd);
}

static void inside_the_error_of_each_stage(void **state)
{
    a.release_in = ON_ERROR;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "garbage\r\n\r\n");
    UNTIL(a.client == NULL);
    close(fd);
    timeouts.first_byte_ms = 20;
    memset(&a, 0, sizeof(a));
    a.release_in = ON_ERROR;
    attempt_get(&a, &origin);
    UNTIL(a.client == NULL); /* by the timer */
    memset(&a, 0, sizeof(a));
    a.release_in = ON_ERROR;
    close(origin.listener);
    attempt_get(&a, &origin);
    UNTIL(a.client == NULL); /* refused */
    assert_int_equal(a.error, GW_CLIENT_CONNECT_FAILED);
}

int main(void)
{
#define T(f)                                                                                                           \
    {                                                                                                                  \
        "releasing_" #f "_is_fine", f, setup_attempt, teardown_attempt, NULL                                           \
    }
    const struct CMUnitTest tests[] = {
        T(null_is_fine),
        T(right_after_the_start),
        T(before_a_connect_failure_is_reported),
        T(after_the_start_on_a_reused_connection),
        T(while_the_response_is_awaited),
        T(within_the_response_head),
        T(within_the_response_body_with_bytes_held_back),
        T(while_a_write_waits_for_the_origin),
        T(while_a_large_request_waits_for_the_origin),
        T(before_a_drain_is_reported),
        T(after_the_end_the_connection_stays),
        T(inside_each_callback),
        T(inside_the_head_of_a_response_without_body),
        T(inside_on_started_of_a_request_without_body),
        T(inside_the_error_of_each_stage),
    };
    return cmocka_run_group_tests_name("upstream/release", tests, setup_thread, NULL);
}
