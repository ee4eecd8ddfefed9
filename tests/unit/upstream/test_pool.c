#include "harness.h"
/* Which connection a request goes out on, and which are kept. */
#include <string.h>
#include <unistd.h>

static struct attempt b;

static int setup_family(int family)
{
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    origin_open(&origin, family);
    return setup_pool(NULL);
}
static int setup(void **state) { return setup_family(AF_INET); }
static int setup_v6(void **state) { return setup_family(has_ipv6() ? AF_INET6 : AF_INET); }
static int setup_unix(void **state) { return setup_family(AF_UNIX); }

static int teardown(void **state)
{
    attempt_release(&a);
    attempt_release(&b);
    origin_close(&origin);
    return teardown_pool(state);
}

static const struct gw_pool_stats *stats(void) { return gw_pool_stats(pool); }

static void a_connection_serves_many_requests(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    for (int i = 0; i != 20; ++i)
        exchange(&origin, fd, OK_RESPONSE);
    assert_int_equal(gw_counter_read(&stats()->connects), 1);
    assert_int_equal(gw_counter_read(&stats()->reuses), 20);
    assert_int_equal(num_idle(), 1);
    assert_false(origin_has_connection(&origin));
    close(fd);
}

/* Two connections, idle; fds[0] became idle first. */
static void open_two(int fds[2])
{
    attempt_get(&a, &origin);
    fds[0] = origin_accept(&origin);
    attempt_get(&b, &origin);
    fds[1] = origin_accept(&origin);
    for (int i = 0; i != 2; ++i) {
        origin_expect_head(fds[i]);
        origin_send(fds[i], OK_RESPONSE);
        UNTIL((i == 0 ? &a : &b)->has_ended);
    }
    attempt_release(&a);
    attempt_release(&b);
    assert_int_equal(num_idle(), 2);
}

static void the_connection_used_last_is_taken_first(void **state)
{
    int fds[2];
    open_two(fds);
    exchange(&origin, fds[1], OK_RESPONSE);
    exchange(&origin, fds[1], OK_RESPONSE);
    attempt_get(&a, &origin);
    origin_expect_head(fds[1]);
    exchange(&origin, fds[0], OK_RESPONSE); /* while the newest is busy */
    close(fds[0]);
    close(fds[1]);
}

static void endpoints_do_not_share_connections(void **state)
{
    struct origin other;
    origin_open(&other, AF_INET);
    int fd = exchange(&origin, -1, OK_RESPONSE);
    int other_fd = exchange(&other, -1, OK_RESPONSE); /* accepts one of its own */
    exchange(&origin, fd, OK_RESPONSE);
    exchange(&other, other_fd, OK_RESPONSE);
    assert_int_equal(num_idle(), 2);
    close(fd);
    close(other_fd);
    origin_close(&other);
}

static void a_request_that_must_not_reuse_connects_anew(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    struct gw_client_request req = get_request();
    attempt_start_anew(&a, &origin, &req);
    int fd2 = origin_accept(&origin);
    origin_expect_head(fd2);
    origin_send(fd2, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_false(a.is_reused);
    assert_int_equal(num_idle(), 2);
    close(fd);
    close(fd2);
}

static void more_than_max_idle_closes_the_oldest(void **state)
{
    int fds[2];
    limits.max_idle = 1;
    attempt_get(&a, &origin);
    fds[0] = origin_accept(&origin);
    attempt_get(&b, &origin);
    fds[1] = origin_accept(&origin);
    origin_expect_head(fds[0]);
    origin_expect_head(fds[1]);
    origin_send(fds[0], OK_RESPONSE);
    UNTIL(a.has_ended);
    origin_send(fds[1], OK_RESPONSE);
    UNTIL(b.has_ended);
    assert_int_equal(num_idle(), 1);
    origin_expect_end(fds[0]);
    exchange(&origin, fds[1], OK_RESPONSE);
    close(fds[0]);
    close(fds[1]);
}

static void max_idle_zero_keeps_nothing_and_says_so(void **state)
{
    limits.max_idle = 0;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect(fd, "GET / HTTP/1.1\r\nhost: origin\r\nconnection: close\r\n\r\n");
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    origin_expect_end(fd);
    assert_int_equal(num_idle(), 0);
    close(fd);
}

/* False: the machine was busy, and there were not two left to use. */
static bool one_stays_young(int fds[2])
{
    for (int i = 0; i != 3; ++i) {
        if (num_idle() != 2)
            return false;
        exchange(&origin, fds[1], OK_RESPONSE);
    }
    return true;
}

static void idle_connections_close_by_age(void **state)
{
    bool was_in_time = false;
    limits.idle_ms = 60;
    for (int i = 0; i != 100 && !was_in_time; ++i) {
        uint64_t closed_before = gw_counter_read(&stats()->idle_closed), began_ms = gw_thread_now(&thread);
        int fds[2];
        open_two(fds);
        was_in_time = one_stays_young(fds);
        UNTIL(num_idle() == 0);
        assert_true(gw_now_ms() - began_ms >= 60);
        assert_int_equal(gw_counter_read(&stats()->idle_closed) - closed_before, 2);
        origin_expect_end(fds[0]);
        origin_expect_end(fds[1]);
        close(fds[0]);
        close(fds[1]);
    }
    assert_true(was_in_time);
}

static void connections_that_became_idle_together_are_closed_a_few_in_a_turn(void **state)
{
    enum { N = 40, MOST = 8 };
    struct attempt attempts[N];
    int fds[N];

    limits = (struct gw_pool_limits){.max_idle = N, .idle_ms = 200};
    memset(attempts, 0, sizeof(attempts));
    for (int i = 0; i != N; ++i) {
        attempt_get(&attempts[i], &origin);
        fds[i] = origin_accept(&origin);
        origin_expect_head(fds[i]);
    }
    for (int i = 0; i != N; ++i)
        origin_send(fds[i], OK_RESPONSE);
    uint64_t begin_ms = gw_now_ms(), closed = 0;
    while (closed != N && gw_now_ms() - begin_ms < 60000) {
        turn();
        uint64_t now_closed = gw_counter_read(&stats()->idle_closed);
        assert_in_range(now_closed - closed, 0, MOST);
        closed = now_closed;
    }
    assert_int_equal(closed, N);
    for (int i = 0; i != N; ++i) {
        assert_true(attempts[i].has_ended);
        attempt_release(&attempts[i]);
        origin_expect_end(fds[i]);
        close(fds[i]);
    }
}

static void a_connection_in_use_does_not_age(void **state)
{
    limits.idle_ms = 30;
    int fd = exchange(&origin, -1, OK_RESPONSE);
    attempt_get(&a, &origin);
    origin_expect_head(fd);
    uint64_t until_ms = gw_now_ms() + 100;
    UNTIL(gw_now_ms() >= until_ms);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(num_idle(), 1);
    close(fd);
}

static void a_forgotten_endpoint_loses_its_connections_idle_or_busy(void **state)
{
    int fds[2];
    open_two(fds);
    attempt_get(&a, &origin);
    origin_expect_head(fds[1]);
    gw_pool_forget(pool, &origin.endpoint);
    origin_expect_end(fds[0]);
    assert_int_equal(num_idle(), 0);
    origin_send(fds[1], OK_RESPONSE);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    origin_expect_end(fds[1]);
    assert_int_equal(num_idle(), 0);
    close(fds[0]);
    close(fds[1]);
}

static void an_index_that_went_to_another_endpoint_brings_no_old_connection(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    struct origin other;
    origin_open(&other, AF_INET);
    other.endpoint.index = origin.endpoint.index;
    int other_fd = exchange(&other, -1, OK_RESPONSE);
    origin_expect_end(fd);
    close(fd);
    close(other_fd);
    origin_close(&other);
}

static void a_complete_response_gives_its_connection_to_a_request_from_its_last_callback_on(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    attempt_get(&a, &origin);
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    UNTIL(a.has_ended);
    attempt_get(&b, &origin); /* a is not released yet */
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    UNTIL(b.has_ended);
    assert_true(b.is_reused);
    assert_string_equal(a.body, "ok");
    close(fd);
}

static void requests_and_keep_alive_work(void **state)
{
    int fd = exchange(&origin, -1, OK_RESPONSE);
    exchange(&origin, fd, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    exchange(&origin, fd, OK_RESPONSE);
    assert_int_equal(gw_counter_read(&stats()->connects), 1);
    close(fd);
    UNTIL(num_idle() == 0);
}

static void requests_and_keep_alive_work_over_ipv6(void **state)
{
    if (!has_ipv6())
        skip();
    requests_and_keep_alive_work(state);
}

/* An origin that closes at random: whatever is seen before a request must not fail it. */
static void an_origin_that_closes_idle_connections_costs_no_request(void **state)
{
    int fd = -1;
    for (int i = 0; i != 200; ++i) {
        bool is_new = fd < 0;
        fd = exchange(&origin, fd, OK_RESPONSE);
        assert_int_equal(num_idle(), 1);
        if (is_new ? i % 3 == 0 : i % 5 == 0) {
            if (i % 2 == 0)
                origin_reset(fd);
            else
                close(fd);
            fd = -1;
            UNTIL(num_idle() == 0);
        }
    }
    if (fd >= 0)
        close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_connection_serves_many_requests),
        T(the_connection_used_last_is_taken_first),
        T(endpoints_do_not_share_connections),
        T(a_request_that_must_not_reuse_connects_anew),
        T(more_than_max_idle_closes_the_oldest),
        T(max_idle_zero_keeps_nothing_and_says_so),
        T(idle_connections_close_by_age),
        T(connections_that_became_idle_together_are_closed_a_few_in_a_turn),
        T(a_connection_in_use_does_not_age),
        T(a_forgotten_endpoint_loses_its_connections_idle_or_busy),
        T(an_index_that_went_to_another_endpoint_brings_no_old_connection),
        T(a_complete_response_gives_its_connection_to_a_request_from_its_last_callback_on),
        T(an_origin_that_closes_idle_connections_costs_no_request),
        {"requests_and_keep_alive_work_over_ipv6", requests_and_keep_alive_work_over_ipv6, setup_v6, teardown, NULL},
        {"requests_and_keep_alive_work_over_a_unix_socket", requests_and_keep_alive_work, setup_unix, teardown, NULL},
    };
    return cmocka_run_group_tests_name("upstream/pool", tests, setup_thread, NULL);
}
