#include "harness.h"
/* How attempts fail, and what the caller is told so that it can decide about a retry. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

static const struct gw_client_failure *failure(void) { return gw_client_failure(a.client); }

static void expect_error(enum gw_client_error error, bool retry_is_safe, const char *events)
{
    UNTIL(a.has_ended);
    assert_int_equal(a.error, error);
    assert_int_equal(a.retry_is_safe, retry_is_safe);
    assert_string_equal(a.events, events);
    assert_int_equal(num_idle(), 0);
}

/* --- connecting --- */
static void a_refused_connection_is_reported_and_safe_to_retry(void **state)
{
    close(origin.listener);
    attempt_get(&a, &origin);
    expect_error(GW_CLIENT_CONNECT_FAILED, true, "error");
    assert_int_equal(gw_counter_read(&gw_pool_stats(pool)->connect_failures), 1);
    assert_false(failure()->was_reused);
}

static void a_socket_path_without_listener_is_reported_after_the_start(void **state)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&origin.endpoint.address.sa;
    memset(sun, 0, sizeof(*sun));
    sun->sun_family = AF_UNIX;
    strcpy(sun->sun_path, "/nonexistent/weir.sock");
    origin.endpoint.address.sa_len = sizeof(*sun);
    attempt_get(&a, &origin); /* connect() fails at once; the harness checks that nothing is called back yet */
    expect_error(GW_CLIENT_CONNECT_FAILED, true, "error");
    assert_int_not_equal(failure()->os_error, 0);
}

static void running_out_of_descriptors_is_a_failed_connect(void **state)
{
    struct rlimit saved, none;
    getrlimit(RLIMIT_NOFILE, &saved);
    none = saved;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    attempt_get(&a, &origin);
    setrlimit(RLIMIT_NOFILE, &saved);
    expect_error(GW_CLIENT_CONNECT_FAILED, true, "error");
    assert_int_equal(failure()->os_error, EMFILE);
}

static void a_connect_that_hangs_ends_with_its_timeout(void **state)
{
    /* A full accept queue makes the kernel drop further SYNs. */
    int fillers[2];
    assert_int_equal(listen(origin.listener, 0), 0);
    for (int i = 0; i != 2; ++i) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&origin.endpoint.address.sa, origin.endpoint.address.sa_len);
    }
    timeouts.connect_ms = 50;
    uint64_t begin_ms = gw_thread_now(&thread);
    attempt_get(&a, &origin);
    expect_error(GW_CLIENT_CONNECT_TIMEOUT, true, "error");
    assert_true(a.ended_at_ms - begin_ms >= 50);
    close(fillers[0]);
    close(fillers[1]);
}

/* --- the origin goes away --- */
static int start_and_accept(void)
{
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    return fd;
}

static void a_new_connection_closed_before_a_response_is_not_safe_to_retry(void **state)
{
    close(start_and_accept());
    expect_error(GW_CLIENT_CLOSED_EARLY, false, "started error");
    attempt_release(&a);
    origin_reset(start_and_accept());
    expect_error(GW_CLIENT_CLOSED_EARLY, false, "started error");
    assert_false(failure()->any_response_byte);
}

static void a_reused_connection_closed_before_a_response_is_safe_to_retry(void **state)
{
    for (int is_reset = 0; is_reset != 2; ++is_reset) {
        int fd = exchange(&origin, -1, OK_RESPONSE);
        attempt_get(&a, &origin);
        origin_expect_head(fd);
        is_reset ? origin_reset(fd) : (void)close(fd);
        expect_error(GW_CLIENT_CLOSED_EARLY, true, "started error");
        assert_true(failure()->was_reused);
        assert_false(failure()->any_response_byte);
        assert_false(failure()->is_untouched); /* it has read the request */
        attempt_release(&a);
    }
}

/* Both sides let go at the same time: our request meets a closed socket. */
static void a_connection_that_died_unseen_is_safe_to_retry(void **state)
{
    for (int is_reset = 0; is_reset != 2; ++is_reset) {
        int fd = exchange(&origin, -1, OK_RESPONSE);
        is_reset ? origin_reset(fd) : (void)close(fd);
        attempt_get(&a, &origin); /* no turn of the loop in between */
        expect_error(GW_CLIENT_CLOSED_EARLY, true, "started error");
        assert_int_equal(failure()->is_untouched, !is_reset); /* of a reset alone nobody can tell */
        attempt_release(&a);
    }
}

static void a_post_does_not_go_out_on_a_connection_that_died_unseen(void **state)
{
    for (int how = 0; how != 3; ++how) {
        int fd = exchange(&origin, -1, OK_RESPONSE);
        if (how == 0)
            close(fd);
        else if (how == 1)
            origin_reset(fd);
        else
            origin_send(fd, "HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        struct gw_client_request req = get_request();
        req.method = h2o_iovec_init(H2O_STRLIT("POST"));
        attempt_start(&a, &origin, &req); /* no turn of the loop in between */
        fd = origin_accept(&origin);
        origin_expect_head(fd);
        origin_send(fd, OK_RESPONSE);
        UNTIL(a.has_ended);
        assert_int_equal(a.status, 200);
        assert_false(a.is_reused);
        close(fd);
        UNTIL(num_idle() == 0);
        attempt_release(&a);
    }
}

static void an_idle_timeout_notice_of_the_origin_is_no_answer_to_a_reusing_request(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    origin_send(fd, "HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    close(fd);
    attempt_get(&a, &origin); /* no turn of the loop in between */
    expect_error(GW_CLIENT_CLOSED_EARLY, true, "started error");
}

static void a_408_on_a_new_connection_is_an_answer(void **state)
{
    int fd = start_and_accept();
    origin_send(fd, "HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    UNTIL(a.has_ended);
    assert_int_equal(a.status, 408);
    close(fd);
}

static void a_response_cut_off_anywhere_is_an_error_and_not_safe_to_retry(void **state)
{
    static const char *const responses[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
    };
    for (size_t i = 0; i != sizeof(responses) / sizeof(responses[0]); ++i) {
        size_t len = strlen(responses[i]), head_len = (size_t)(strstr(responses[i], "\r\n\r\n") + 4 - responses[i]);
        for (size_t cut = 1; cut != len; ++cut) {
            int fd = start_and_accept();
            origin_send_bytes(fd, responses[i], cut);
            settle();
            assert_false(a.has_ended);
            bool is_reset = cut % 2 == 0;
            is_reset ? origin_reset(fd) : (void)close(fd);
            UNTIL(a.has_ended);
            assert_false(a.retry_is_safe);
            assert_true(failure()->any_response_byte);
            bool had_head = strstr(a.events, "head") != NULL;
            if (i == 2) /* the first head is not the final one; the second ends before the last byte */
                assert_int_equal(had_head, cut == len - 1);
            else
                assert_int_equal(had_head, cut >= head_len);
            if (had_head)
                assert_int_equal(a.error, is_reset ? GW_CLIENT_RESET : GW_CLIENT_TRUNCATED);
            else if (i == 2 && cut == head_len)
                assert_int_equal(a.error, GW_CLIENT_CLOSED_EARLY);
            else
                assert_int_equal(a.error, GW_CLIENT_BAD_HEAD);
            attempt_release(&a);
        }
    }
}

static void a_reset_within_a_body_without_length_is_an_error(void **state)
{
    int fd = start_and_accept();
    origin_send(fd, "HTTP/1.1 200 OK\r\n\r\npart");
    UNTIL(a.body_len == 4);
    origin_reset(fd);
    expect_error(GW_CLIENT_RESET, false, "started head body error");
}

/* --- timeouts --- */
static void a_silent_origin_ends_with_the_first_byte_timeout(void **state)
{
    timeouts.first_byte_ms = 50;
    timeouts.idle_ms = 1;
    uint64_t begin_ms = gw_thread_now(&thread);
    int fd = start_and_accept();
    expect_error(GW_CLIENT_FIRST_BYTE_TIMEOUT, false, "started error");
    assert_true(a.ended_at_ms - begin_ms >= 50);
    close(fd);
}

static void a_head_that_drips_ends_with_the_first_byte_timeout_too(void **state)
{
    timeouts.first_byte_ms = 80;
    int fd = start_and_accept();
    origin_send(fd, "HTTP/1.1 200 OK\r\nx: ");
    uint64_t begin_ms = gw_now_ms();
    for (uint64_t next_ms = begin_ms; !a.has_ended; next_ms += 10) {
        send(fd, "y", 1, MSG_NOSIGNAL);
        UNTIL(a.has_ended || gw_now_ms() >= next_ms + 10);
        assert_true(gw_now_ms() - begin_ms < 50000);
    }
    assert_int_equal(a.error, GW_CLIENT_FIRST_BYTE_TIMEOUT);
    assert_false(a.retry_is_safe);
    close(fd);
}

static void a_timeout_of_a_reused_connection_counts_from_its_own_request(void **state)
{
    timeouts.first_byte_ms = 800;
    int fd = exchange(&origin, -1, OK_RESPONSE);
    /* by now the timer is armed for the first request; the second begins later */
    uint64_t pause_ms = gw_now_ms() + 500;
    UNTIL(gw_now_ms() >= pause_ms);
    uint64_t begin_ms = gw_thread_now(&thread);
    attempt_get(&a, &origin);
    expect_error(GW_CLIENT_FIRST_BYTE_TIMEOUT, false, "started error");
    assert_true(a.ended_at_ms - begin_ms >= 800);
    close(fd);
}

static void a_shorter_timeout_of_a_reused_connection_is_kept_too(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE); /* arms for a minute */
    timeouts.first_byte_ms = 40;
    uint64_t begin_ms = gw_thread_now(&thread);
    attempt_get(&a, &origin);
    expect_error(GW_CLIENT_FIRST_BYTE_TIMEOUT, false, "started error");
    assert_true(a.ended_at_ms - begin_ms >= 40);
    close(fd);
}

/* Progress moves the deadline: four bytes, each in less than idle_ms. False: the machine was too busy for that. */
static bool drip(int fd)
{
    uint64_t begin_ms = gw_thread_now(&thread);
    for (int i = 0; i != 4; ++i) {
        uint64_t next_ms = gw_now_ms() + 300;
        UNTIL(a.has_ended || gw_now_ms() >= next_ms);
        if (a.has_ended)
            return false;
        origin_send(fd, "x");
    }
    UNTIL(a.has_ended);
    assert_true(a.ended_at_ms - begin_ms >= 2100);
    return true;
}

static void a_body_that_stalls_ends_with_the_idle_timeout(void **state)
{
    bool was_in_time = false;
    timeouts.idle_ms = 1000;
    for (int i = 0; i != 20 && !was_in_time; ++i) {
        attempt_release(&a);
        int fd = start_and_accept();
        origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n");
        UNTIL(a.status == 200);
        was_in_time = drip(fd);
        close(fd);
    }
    assert_true(was_in_time);
    expect_error(GW_CLIENT_IDLE_TIMEOUT, false, "started head body error");
}

static struct gw_client_request post_request(uint64_t content_length)
{
    struct gw_client_request req = get_request();
    req.method = h2o_iovec_init(H2O_STRLIT("POST"));
    req.has_body = true;
    req.content_length = content_length;
    return req;
}

static void an_origin_that_stops_reading_ends_with_the_idle_timeout(void **state)
{
    enum { SIZE = 16 << 20 };
    timeouts.idle_ms = 60;
    char *bytes = calloc(1, SIZE);
    struct gw_client_request req = post_request(SIZE);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(bytes, SIZE), true);
    expect_error(GW_CLIENT_IDLE_TIMEOUT, false, "started error");
    assert_int_equal(failure()->body_bytes_sent, SIZE);
    free(bytes);
    close(fd);
}

static void a_caller_that_holds_its_body_back_is_not_the_origins_fault(void **state)
{
    timeouts.idle_ms = timeouts.first_byte_ms = 20;
    struct gw_client_request req = post_request(4);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    uint64_t until_ms = gw_now_ms() + 100;
    UNTIL(gw_now_ms() >= until_ms);
    assert_false(a.has_ended);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("body")), true);
    expect_error(GW_CLIENT_FIRST_BYTE_TIMEOUT, false, "started drained error");
    close(fd);
}

/* --- early responses --- */
static void an_early_response_is_delivered_and_its_connection_closed(void **state)
{
    struct gw_client_request req = post_request(1000);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    UNTIL(strcmp(a.events, "started") == 0);
    origin_send(fd, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
    UNTIL(a.has_ended);
    assert_int_equal(a.status, 413);
    assert_string_equal(a.body, "big");
    origin_expect_end(fd);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("too late")), false); /* is dropped */
    settle();
    assert_string_equal(a.events, "started head last");
    close(fd);
}

static void a_request_may_go_on_while_its_response_comes(void **state)
{
    struct gw_client_request req = post_request(4);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nec");
    UNTIL(a.body_len == 2);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("echo")), true);
    origin_expect(fd, "echo");
    UNTIL(a.num_drained == 1);
    origin_send(fd, "ho");
    UNTIL(a.has_ended);
    assert_string_equal(a.body, "echo");
    assert_int_equal(num_idle(), 1);
    close(fd);
}

/* The origin answers, closes with our bytes unread, and so resets the connection under our write. */
static void a_response_sent_before_our_write_failed_is_delivered(void **state)
{
    enum { SIZE = 4 << 20 };
    char *bytes = calloc(1, SIZE);
    struct gw_client_request req = post_request(2 * SIZE);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(bytes, SIZE), false);
    origin_send(fd, "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig");
    close(fd);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(a.status, 413);
    assert_string_equal(a.body, "big");
    free(bytes);
}

static void an_upload_that_breaks_off_is_not_safe_to_retry(void **state)
{
    enum { SIZE = 64 << 20 }; /* more than the kernel takes for two sockets, so that it never drains */
    char *bytes = calloc(1, SIZE);
    struct gw_client_request req = post_request(2 * SIZE);
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    UNTIL(strcmp(a.events, "started") == 0);
    gw_client_write(a.client, h2o_iovec_init(bytes, SIZE), false);
    settle();
    close(fd);
    expect_error(GW_CLIENT_CLOSED_EARLY, false, "started error");
    assert_int_equal(failure()->body_bytes_sent, SIZE);
    free(bytes);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_attempt, teardown_attempt)
    const struct CMUnitTest tests[] = {
        T(a_refused_connection_is_reported_and_safe_to_retry),
        T(a_socket_path_without_listener_is_reported_after_the_start),
        T(running_out_of_descriptors_is_a_failed_connect),
        T(a_connect_that_hangs_ends_with_its_timeout),
        T(a_new_connection_closed_before_a_response_is_not_safe_to_retry),
        T(a_reused_connection_closed_before_a_response_is_safe_to_retry),
        T(a_connection_that_died_unseen_is_safe_to_retry),
        T(a_post_does_not_go_out_on_a_connection_that_died_unseen),
        T(an_idle_timeout_notice_of_the_origin_is_no_answer_to_a_reusing_request),
        T(a_408_on_a_new_connection_is_an_answer),
        T(a_response_cut_off_anywhere_is_an_error_and_not_safe_to_retry),
        T(a_reset_within_a_body_without_length_is_an_error),
        T(a_silent_origin_ends_with_the_first_byte_timeout),
        T(a_head_that_drips_ends_with_the_first_byte_timeout_too),
        T(a_timeout_of_a_reused_connection_counts_from_its_own_request),
        T(a_shorter_timeout_of_a_reused_connection_is_kept_too),
        T(a_body_that_stalls_ends_with_the_idle_timeout),
        T(an_origin_that_stops_reading_ends_with_the_idle_timeout),
        T(a_caller_that_holds_its_body_back_is_not_the_origins_fault),
        T(an_early_response_is_delivered_and_its_connection_closed),
        T(a_request_may_go_on_while_its_response_comes),
        T(a_response_sent_before_our_write_failed_is_delivered),
        T(an_upload_that_breaks_off_is_not_safe_to_retry),
    };
    return cmocka_run_group_tests_name("upstream/failures", tests, setup_thread, NULL);
}
