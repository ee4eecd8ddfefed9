/* HTTP/2 towards an origin whose every byte the test sends. What whole targets do is in tests/e2e/test_upstream_h2.py.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "harness.h"
#include "gateway/http/socket.h"
#include "gateway/upstream/h2_session.h"

#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define PING     "\0\0\10\6\0\0\0\0\0what for"
#define BYTES(s) s, sizeof(s) - 1

static struct attempt b;
static struct gw_transport *transport;

static int setup(void **state)
{
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    transport = gw_transport_create(true, NULL, h2o_iovec_init(NULL, 0), 0);
    origin_open(&origin, AF_INET);
    return setup_pool(state);
}

static int teardown(void **state)
{
    attempt_release(&a);
    attempt_release(&b);
    settle();
    gw_transport_release(transport);
    origin_close(&origin);
    return teardown_pool(state);
}

static struct gw_client_request request(void)
{
    struct gw_client_request req = get_request();
    req.transport = transport;
    return req;
}

static void start(struct attempt *attempt)
{
    struct gw_client_request req = request();
    attempt_start(attempt, &origin, &req);
}

static bool has_seen(char *seen, size_t *len, int fd, const char *bytes, size_t n)
{
    ssize_t got = recv(fd, seen + *len, 4096 - *len, MSG_DONTWAIT);
    if (got > 0)
        *len += (size_t)got;
    return memmem(seen, *len, bytes, n) != NULL;
}

/* The client sends these bytes among others. */
static void expect(int fd, const char *bytes, size_t n)
{
    char seen[4096];
    size_t len = 0;
    UNTIL(has_seen(seen, &len, fd, bytes, n));
}

static int greeted(void)
{
    int fd = origin_accept(&origin);
    expect(fd, BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    origin_send_bytes(fd, BYTES(SETTINGS));
    settle(); /* the requests go out */
    return fd;
}

static void two_requests_share_a_connection_and_bring_bodies_and_trailers(void **state)
{
    start(&a);
    start(&b);
    int fd = greeted();
    origin_send_bytes(fd, BYTES("\0\0\1\1\4\0\0\0\1\x88"
                                "\0\0\1\1\4\0\0\0\3\x88"
                                "\0\0\2\0\0\0\0\0\3ok"
                                "\0\0\3\0\1\0\0\0\1one"
                                "\0\0\5\1\5\0\0\0\3\0\1t\1v"));
    UNTIL(a.has_ended && b.has_ended);
    assert_string_equal(a.events, "started head last");
    assert_string_equal(b.events, "started head body last");
    assert_string_equal(a.body, "one");
    assert_string_equal(b.body, "ok");
    assert_null(gw_client_trailers(a.client));
    assert_int_equal(gw_client_trailers(b.client)->size, 1);
    assert_false(origin_has_connection(&origin));
    close(fd);
}

static void nothing_is_sent_before_the_target_has_spoken_http2(void **state)
{
    start(&a);
    int fd = origin_accept(&origin);
    origin_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_NOT_HTTP2);
    assert_true(a.retry_is_safe);
    assert_string_equal(a.events, "error");
    close(fd);
}

static void a_refused_stream_may_be_sent_again_and_a_broken_one_not(void **state)
{
    start(&a);
    start(&b);
    int fd = greeted();
    origin_send_bytes(fd, BYTES("\0\0\4\3\0\0\0\0\1\0\0\0\7"
                                "\0\0\4\3\0\0\0\0\3\0\0\0\2"));
    UNTIL(a.has_ended && b.has_ended);
    assert_int_equal(a.error, GW_CLIENT_REFUSED);
    assert_true(a.retry_is_safe);
    assert_int_equal(b.error, GW_CLIENT_CLOSED_EARLY);
    assert_false(b.retry_is_safe);
    close(fd);
}

static void a_released_client_resets_its_stream_and_the_connection_serves_on(void **state)
{
    start(&a);
    int fd = greeted();
    origin_send_bytes(fd, BYTES("\0\0\1\1\4\0\0\0\1\x88"));
    UNTIL(a.status == 200);
    attempt_release(&a);
    expect(fd, BYTES("\0\0\4\3\0\0\0\0\1\0\0\0\x08")); /* CANCEL */
    start(&b);
    settle();
    origin_send_bytes(fd, BYTES("\0\0\1\1\5\0\0\0\3\x88"));
    UNTIL(b.has_ended);
    assert_int_equal(b.error, GW_CLIENT_OK);
    assert_true(b.is_reused);
    close(fd);
}

static void a_connection_that_ends_within_bodies_ends_them_all(void **state)
{
    start(&a);
    start(&b);
    int fd = greeted();
    origin_send_bytes(fd, BYTES("\0\0\1\1\4\0\0\0\1\x88"));
    UNTIL(a.status == 200);
    shutdown(fd, SHUT_WR);
    UNTIL(a.has_ended && b.has_ended);
    assert_int_equal(a.error, GW_CLIENT_TRUNCATED);
    assert_int_equal(b.error, GW_CLIENT_CLOSED_EARLY);
    close(fd);
}

static void a_client_may_be_released_in_every_callback(void **state)
{
    static const enum callback callbacks[] = {ON_HEAD, ON_BODY, ON_LAST, ON_ERROR};
    for (size_t i = 0; i != sizeof(callbacks) / sizeof(callbacks[0]); ++i) {
        a.release_in = callbacks[i];
        struct gw_client_request req = request();
        attempt_start_anew(&a, &origin, &req);
        int fd = greeted();
        origin_send_bytes(fd, BYTES("\0\0\1\1\4\0\0\0\1\x88"
                                    "\0\0\2\0\0\0\0\0\1ok"));
        settle();
        if (callbacks[i] == ON_LAST)
            origin_send_bytes(fd, BYTES("\0\0\0\0\1\0\0\0\1"));
        if (callbacks[i] == ON_ERROR)
            shutdown(fd, SHUT_WR);
        UNTIL(a.client == NULL);
        close(fd);
        attempt_release(&a);
    }
}

static void an_upgrade_is_refused(void **state)
{
    struct gw_client_request req = request();
    req.upgrade = h2o_iovec_init(H2O_STRLIT("websocket"));
    attempt_start(&a, &origin, &req);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_NO_UPGRADE);
}

static struct gw_h2_session *only_session(void)
{
    h2o_linklist_t *all = gw_pool_all_sessions(pool);
    assert_ptr_equal(all->next->next, all);
    return H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, link_of_all, all->next);
}

/* As if GW_H2_SETTINGS_LOOK_MS had passed. True: there has been a look since before_ms. */
static bool look(struct gw_h2_session *session, uint64_t before_ms)
{
    if (session->settings_look_ms > before_ms)
        return true;
    gw_timer_arm(thread.wheel, &session->settings_timer, gw_now_ms());
    return false;
}

/* The same, while the target goes on talking; the last of what it is sent is in seen. True: that many looks have found
 * only other bytes, or the request is over. */
static bool look_at_talk(struct gw_h2_session *session, int fd, unsigned num_looks, char *seen, size_t *len)
{
    if (a.has_ended || session->settings_looks == num_looks)
        return true;
    if (*len > 2048) {
        memmove(seen, seen + *len - 64, 64);
        *len = 64;
    }
    (void)has_seen(seen, len, fd, BYTES("no such bytes"));
    static uint64_t said_ms;
    if (gw_now_ms() < session->settings_look_ms + 2 || gw_now_ms() < said_ms + 20)
        return false; /* what is said in the same millisecond is not seen to be later */
    if (session->read_at_ms <= session->settings_look_ms) {
        said_ms = gw_now_ms();
        origin_send_bytes(fd, BYTES(PING));
    } else if (!gw_socket_has_unsent(session->sock)) { /* the kernel may put off its acknowledgement */
        gw_timer_arm(thread.wheel, &session->settings_timer, gw_now_ms());
    }
    return false;
}

static void a_target_that_talks_on_without_acknowledging_settings_is_left(void **state)
{
    char seen[4096];
    size_t len = 0;
    start(&a);
    int fd = greeted();
    struct gw_h2_session *session = only_session();
    UNTIL(look_at_talk(session, fd, GW_H2_SETTINGS_LOOKS, seen, &len));
    assert_false(a.has_ended);
    UNTIL(look_at_talk(session, fd, GW_H2_SETTINGS_LOOKS + 1, seen, &len));
    UNTIL(has_seen(seen, &len, fd, BYTES("\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\4"))); /* GOAWAY, SETTINGS_TIMEOUT */
    assert_int_equal(a.error, GW_CLIENT_CLOSED_EARLY);
    assert_string_equal(gw_client_failure(a.client)->detail, "our SETTINGS were never acknowledged");
    close(fd);
}

static void a_target_that_acknowledges_settings_is_never_asked_for_it_again(void **state)
{
    start(&a);
    int fd = greeted();
    struct gw_h2_session *session = only_session();
    assert_true(gw_timer_is_armed(&session->settings_timer));
    origin_send_bytes(fd, BYTES("\0\0\0\4\1\0\0\0\0"));
    UNTIL(!gw_timer_is_armed(&session->settings_timer));
    assert_false(a.has_ended);
    close(fd);
}

static void a_target_that_is_silent_is_not_left_for_the_settings(void **state)
{
    start(&a);
    int fd = greeted();
    struct gw_h2_session *session = only_session();
    for (int i = 0; i != GW_H2_SETTINGS_LOOKS + 3; ++i) {
        uint64_t before_ms = session->settings_look_ms;
        UNTIL(look(session, before_ms));
    }
    assert_true(session->settings_looks <= 1); /* the first one found its own SETTINGS */
    assert_false(a.has_ended);
    close(fd);
}

#define H2_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        H2_TEST(two_requests_share_a_connection_and_bring_bodies_and_trailers),
        H2_TEST(nothing_is_sent_before_the_target_has_spoken_http2),
        H2_TEST(a_refused_stream_may_be_sent_again_and_a_broken_one_not),
        H2_TEST(a_released_client_resets_its_stream_and_the_connection_serves_on),
        H2_TEST(a_connection_that_ends_within_bodies_ends_them_all),
        H2_TEST(a_client_may_be_released_in_every_callback),
        H2_TEST(an_upgrade_is_refused),
        H2_TEST(a_target_that_talks_on_without_acknowledging_settings_is_left),
        H2_TEST(a_target_that_acknowledges_settings_is_never_asked_for_it_again),
        H2_TEST(a_target_that_is_silent_is_not_left_for_the_settings),
    };
    return cmocka_run_group_tests(tests, setup_thread, NULL);
}
