#include "harness.h"
/* Connections that an origin has switched to another protocol: whose 101 counts, raw bytes both ways, both halves. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/upstream/client_state.h"

#define SWITCH "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: Chat/2\r\n\r\n"

static struct gw_client_request upgrade_request(void)
{
    struct gw_client_request req = get_request();
    req.upgrade = h2o_iovec_init(H2O_STRLIT("chat/2"));
    return req;
}

/* Asks, answers, and turns until nothing happens any more. */
static int ask(const char *answer)
{
    struct gw_client_request req = upgrade_request();
    attempt_start(&a, &origin, &req);
    int fd = origin_accept(&origin);
    origin_expect(fd, "GET / HTTP/1.1\r\nhost: origin\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n");
    origin_send(fd, answer);
    settle();
    return fd;
}

static void bytes_pass_raw_both_ways(void **state)
{
    int fd = ask(SWITCH "first");
    UNTIL(a.body_len == 5);
    assert_string_equal(a.events, "started head body");
    assert_int_equal(a.status, 101);
    assert_true(a.body_follows);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("5\r\nhello")), false);
    origin_expect(fd, "5\r\nhello");
    UNTIL(a.num_drained == 1);
    origin_send(fd, "HTTP/1.1 200 OK\r\n\r\n");
    UNTIL(a.body_len == 24);
    assert_memory_equal(a.body, "firstHTTP/1.1 200 OK\r\n\r\n", 24);
    close(fd);
}

static void our_half_may_end_first(void **state)
{
    int fd = ask(SWITCH);
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("bye")), true);
    UNTIL(a.num_drained == 1);
    origin_expect(fd, "bye");
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    origin_send(fd, "still here");
    UNTIL(a.body_len == 10);
    assert_false(a.has_ended);
    shutdown(fd, SHUT_WR);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_string_equal(a.events, "started head drained body last");
    close(fd);
}

static void the_origins_half_may_end_first(void **state)
{
    int fd = ask(SWITCH);
    origin_send(fd, "bye");
    shutdown(fd, SHUT_WR);
    UNTIL(a.has_ended);
    a.has_ended = false; /* the harness takes no callback after the end: here ours is to come */
    settle();
    gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("still here")), false);
    origin_expect(fd, "still here");
    UNTIL(a.num_drained == 1);
    gw_client_write(a.client, h2o_iovec_init(NULL, 0), true);
    UNTIL(a.num_drained == 2);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    attempt_release(&a);
    assert_int_equal(num_idle(), 0);
    close(fd);
}

static void a_write_that_fails_after_the_origins_end_is_a_reset(void **state)
{
    int fd = ask(SWITCH);
    shutdown(fd, SHUT_WR);
    UNTIL(a.has_ended);
    a.has_ended = false;
    close(fd); /* the next write meets a reset, the one behind it an error */
    for (int i = 0; i != 100 && !a.has_ended; ++i) {
        if (!a.client->is_writing)
            gw_client_write(a.client, h2o_iovec_init(H2O_STRLIT("anybody there?")), false);
        settle();
    }
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_RESET);
}

static void a_reset_is_reported(void **state)
{
    int fd = ask(SWITCH "x");
    UNTIL(a.body_len == 1);
    origin_reset(fd);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_RESET);
    assert_string_equal(a.events, "started head body error");
}

static void nothing_times_out_in_a_tunnel(void **state)
{
    uint64_t began_ms = gw_now_ms();
    timeouts = (struct gw_client_timeouts){.connect_ms = 1000, .first_byte_ms = 50, .idle_ms = 50};
    int fd = ask(SWITCH);
    UNTIL(gw_now_ms() > began_ms + 300);
    assert_string_equal(a.events, "started head");
    close(fd);
}

static void the_heads_buffer_is_not_kept(void **state)
{
    a.holds_back = true;
    int fd = ask(SWITCH "x");
    UNTIL(a.body_len == 1);
    assert_non_null(a.client->head_buffer);
    gw_client_consumed(a.client, 1);
    assert_null(a.client->head_buffer);
    close(fd);
}

static void another_answer_is_an_ordinary_one_but_its_connection_is_not_kept(void **state)
{
    int fd = ask(OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(a.status, 200);
    assert_int_equal(num_idle(), 0);
    origin_expect_end(fd);
    close(fd);
}

static void a_101_that_is_not_what_was_asked_for_fails(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: chat/2, other\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 x\r\nupgrade: chat/2\r\n\r\n",
        "HTTP/1.0 101 x\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: chat/2\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: chat/2\r\ntransfer-encoding: chunked\r\n\r\n",
    };
    for (size_t i = 0; i != sizeof(answers) / sizeof(answers[0]); ++i) {
        int fd = ask(answers[i]);
        UNTIL(a.has_ended);
        assert_int_equal(a.error, GW_CLIENT_BAD_HEAD);
        assert_false(a.retry_is_safe);
        attempt_release(&a);
        close(fd);
    }
}

static void it_may_be_released_in_every_callback(void **state)
{
    static const enum callback callbacks[] = {ON_STARTED, ON_HEAD, ON_BODY, ON_LAST};
    for (size_t i = 0; i != sizeof(callbacks) / sizeof(callbacks[0]); ++i) {
        a.release_in = callbacks[i];
        int fd = ask(SWITCH "x");
        shutdown(fd, SHUT_WR);
        UNTIL(a.client == NULL);
        attempt_release(&a);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_attempt, teardown_attempt)
        T(bytes_pass_raw_both_ways),
        T(our_half_may_end_first),
        T(the_origins_half_may_end_first),
        T(a_write_that_fails_after_the_origins_end_is_a_reset),
        T(a_reset_is_reported),
        T(nothing_times_out_in_a_tunnel),
        T(the_heads_buffer_is_not_kept),
        T(another_answer_is_an_ordinary_one_but_its_connection_is_not_kept),
        T(a_101_that_is_not_what_was_asked_for_fails),
        T(it_may_be_released_in_every_callback),
    };
    return cmocka_run_group_tests(tests, setup_thread, NULL);
}
