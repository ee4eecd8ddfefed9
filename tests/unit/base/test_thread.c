#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/thread.h"

/* Time is simulated: these stand before libc's. A wait without events moves both clocks on by its length. */
static int64_t monotonic_us, wall_us;

static void pass_time(int64_t us)
{
    monotonic_us += us;
    wall_us += us;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int64_t us = id == CLOCK_MONOTONIC ? monotonic_us : wall_us;
    *at = (struct timespec){us / 1000000, us % 1000000 * 1000};
    return 0;
}

int gettimeofday(struct timeval *at, void *zone)
{
    *at = (struct timeval){wall_us / 1000000, wall_us % 1000000};
    return 0;
}

static int last_wait_ms;

int epoll_wait(int fd, struct epoll_event *events, int num_events, int wait_ms)
{
    int rc = (int)syscall(SYS_epoll_pwait, fd, events, num_events, 0, NULL, 8);
    last_wait_ms = wait_ms;
    if (rc == 0)
        pass_time(wait_ms * INT64_C(1000));
    return rc;
}

static h2o_context_t ctx;
static struct gw_thread thread;

static int set_up(void **state)
{
    monotonic_us = 5000000;
    wall_us = INT64_C(1700000000000000);
    ctx.loop = h2o_evloop_create();
    gw_thread_init(&thread, 3, &ctx);
    return 0;
}

static int tear_down(void **state)
{
    gw_thread_turn(&thread, 0); /* the loop frees closed sockets here */
    gw_thread_dispose(&thread);
    h2o_evloop_destroy(ctx.loop);
    return 0;
}

struct work {
    struct gw_deferred deferred;
    char name;
    struct work *defers, *undefers;
};
static char trail[64];

static void note(char name)
{
    size_t len = strlen(trail);
    assert_true(len < sizeof(trail) - 1);
    trail[len] = name;
    trail[len + 1] = '\0';
}

static void run_work(struct gw_deferred *deferred)
{
    struct work *work = H2O_STRUCT_FROM_MEMBER(struct work, deferred, deferred);
    note(work->name);
    if (work->defers != NULL)
        gw_thread_defer(&thread, &work->defers->deferred);
    if (work->undefers != NULL)
        gw_thread_undefer(&work->undefers->deferred);
}

static void deferred_work_runs_once_in_the_order_it_was_put_off(void **state)
{
    struct work a = {{.run = run_work}, 'a'}, b = {{.run = run_work}, 'b'}, c = {{.run = run_work}, 'c'};
    trail[0] = '\0';
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_defer(&thread, &a.deferred);
    gw_thread_defer(&thread, &c.deferred);
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_undefer(&c.deferred);
    gw_thread_undefer(&c.deferred);
    assert_string_equal(trail, "");
    assert_int_equal(gw_thread_turn(&thread, 1000), 0);
    assert_string_equal(trail, "ba");
    assert_int_equal(last_wait_ms, 0);
    assert_int_equal(gw_thread_turn(&thread, 1000), 0);
    assert_string_equal(trail, "ba");
    assert_int_equal(last_wait_ms, 1000);
}

static void work_put_off_by_deferred_work_runs_in_the_same_turn(void **state)
{
    struct work c = {{.run = run_work}, 'c'}, b = {{.run = run_work}, 'b', .defers = &c};
    struct work a = {{.run = run_work}, 'a', .defers = &b};
    trail[0] = '\0';
    gw_thread_defer(&thread, &a.deferred);
    gw_thread_turn(&thread, 1000);
    assert_string_equal(trail, "abc");
}

static void deferred_work_may_undo_work_that_has_not_run(void **state)
{
    struct work b = {{.run = run_work}, 'b'}, a = {{.run = run_work}, 'a', .undefers = &b};
    trail[0] = '\0';
    gw_thread_defer(&thread, &a.deferred);
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_turn(&thread, 1000);
    gw_thread_turn(&thread, 0);
    assert_string_equal(trail, "a");
}

static void work_that_puts_itself_off_for_ever_does_not_hold_the_turn(void **state)
{
    struct work a = {{.run = run_work}, 'a'};
    a.defers = &a;
    trail[0] = '\0';
    gw_thread_defer(&thread, &a.deferred);
    gw_thread_turn(&thread, 1000);
    size_t first = strlen(trail);
    assert_in_range(first, 1, 20);
    gw_thread_turn(&thread, 1000);
    assert_int_equal(last_wait_ms, 0);
    assert_true(strlen(trail) > first);
    gw_thread_undefer(&a.deferred);
}

static void run_slow_work(struct gw_deferred *deferred)
{
    pass_time(100);
    run_work(deferred);
}

static void work_that_a_turn_has_no_time_for_runs_in_the_next_ones_in_order(void **state)
{
    static const char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct work works[sizeof(names) - 1];
    trail[0] = '\0';
    for (size_t i = 0; i != sizeof(names) - 1; ++i) {
        works[i] = (struct work){{.run = run_slow_work}, names[i]};
        gw_thread_defer(&thread, &works[i].deferred);
    }
    gw_thread_turn(&thread, 1000);
    assert_in_range(strlen(trail), 1, sizeof(names) - 2);
    for (int i = 0; i != 30; ++i)
        gw_thread_turn(&thread, 0); /* nothing else is put off, which would bring it about */
    assert_string_equal(trail, names);
}

static void rounds_of_deferred_work_share_the_time_of_a_turn(void **state)
{
    struct work a = {{.run = run_slow_work}, 'a'}, b = {{.run = run_slow_work}, 'b'};
    int64_t began_us = monotonic_us;
    trail[0] = '\0';
    a.defers = &a; /* each in every round */
    b.defers = &b;
    gw_thread_defer(&thread, &a.deferred);
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_turn(&thread, 0);
    assert_in_range(monotonic_us - began_us, 200, 600);
    gw_thread_undefer(&a.deferred);
    gw_thread_undefer(&b.deferred);
}

static void work_put_off_behind_runs_behind_all_other_and_in_its_order(void **state)
{
    struct work c = {{.run = run_work}, 'c'}, b = {{.run = run_work}, 'b', .defers = &c};
    struct work y = {{.run = run_work}, 'y'}, x = {{.run = run_work}, 'x'};
    trail[0] = '\0';
    gw_thread_defer_behind(&thread, &x.deferred);
    gw_thread_defer_behind(&thread, &y.deferred);
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_turn(&thread, 1000);
    assert_int_equal(last_wait_ms, 0);
    assert_string_equal(trail, "bcxy");
    assert_false(gw_thread_is_deferred(&x.deferred));
    gw_thread_turn(&thread, 1000);
    assert_int_equal(last_wait_ms, 1000); /* nothing is left */
}

static void work_put_off_behind_gets_a_little_of_every_turn_however_much_other_there_is(void **state)
{
    static const char names[] = "abcdefgh";
    struct work works[sizeof(names) - 1], always[3];
    trail[0] = '\0';
    for (size_t i = 0; i != 3; ++i) {
        always[i] = (struct work){{.run = run_slow_work}, '.', .defers = &always[i]};
        gw_thread_defer(&thread, &always[i].deferred);
    }
    for (size_t i = 0; i != sizeof(names) - 1; ++i) {
        works[i] = (struct work){{.run = run_slow_work}, names[i]};
        gw_thread_defer_behind(&thread, &works[i].deferred);
    }
    for (size_t i = 0, seen = 0; i != sizeof(names) - 1; ++i, seen = 0) {
        gw_thread_turn(&thread, 1000);
        for (const char *at = trail; *at != '\0'; ++at)
            seen += *at != '.';
        assert_int_equal(seen, i + 1); /* one of them takes as long as there is */
    }
    for (size_t i = 0, at = 0; i != sizeof(names) - 1; ++i, ++at) {
        at += strspn(trail + at, ".");
        assert_int_equal(trail[at], names[i]);
    }
    for (size_t i = 0; i != 3; ++i)
        gw_thread_undefer(&always[i].deferred);
}

static void work_put_off_behind_can_be_undone(void **state)
{
    struct work x = {{.run = run_work}, 'x'};
    trail[0] = '\0';
    gw_thread_defer_behind(&thread, &x.deferred);
    gw_thread_defer(&thread, &x.deferred); /* it is put off already */
    gw_thread_undefer(&x.deferred);
    gw_thread_turn(&thread, 0);
    gw_thread_turn(&thread, 0);
    assert_string_equal(trail, "");
}

static void an_event_that_takes_as_long_as_many_makes_the_turn_late(void **state)
{
    gw_thread_turn(&thread, 0);
    gw_thread_turn(&thread, 0);
    assert_false(gw_thread_is_late(&thread)); /* the clock is read for every second one */
    assert_false(gw_thread_is_late(&thread));
    pass_time(100);
    assert_false(gw_thread_is_late(&thread));
    assert_true(gw_thread_is_late(&thread));
    gw_thread_turn(&thread, 0);
    assert_false(gw_thread_is_late(&thread)); /* and after such a turn for the first one, too */
    pass_time(100);
    assert_false(gw_thread_is_late(&thread));
    assert_true(gw_thread_is_late(&thread));
}

static void events_that_take_long_make_the_turn_late_until_the_next_one(void **state)
{
    gw_thread_turn(&thread, 0);
    for (int i = 0; i != 100; ++i)
        assert_false(gw_thread_is_late(&thread)); /* many, but in no time */
    for (int i = 0; i != 10; ++i) {
        pass_time(100);
        gw_thread_is_late(&thread);
    }
    assert_true(gw_thread_is_late(&thread));
    gw_thread_turn(&thread, 0);
    assert_false(gw_thread_is_late(&thread));
}

/* A turn that leaves work to the next one. */
static void be_wary(void)
{
    struct work works[10];
    for (size_t i = 0; i != 10; ++i) {
        works[i] = (struct work){{.run = run_slow_work}, '.'};
        gw_thread_defer(&thread, &works[i].deferred);
    }
    gw_thread_turn(&thread, 0);
    for (size_t i = 0; i != 10; ++i)
        gw_thread_undefer(&works[i].deferred);
    gw_thread_turn(&thread, 0);
    trail[0] = '\0';
    assert_true(thread.is_wary);
}

static struct gw_usage used(uint32_t us)
{
    return (struct gw_usage){.us = us, .period = (uint32_t)(gw_now_ms() / GW_USAGE_PERIOD_MS)};
}

static void be_pressed(void)
{
    be_wary();
    struct gw_usage much = used(100 * GW_USAGE_MUCH_US), little = {0};
    for (int turns = 0; turns != 8; ++turns) { /* some of them are measured */
        for (int i = 0; i != 100; ++i)         /* most who come use much */
            gw_thread_may_serve(&thread, &much);
        gw_thread_turn(&thread, 0);
    }
    gw_thread_may_serve(&thread, &little);
    gw_thread_turn(&thread, 0);
    assert_true(gw_thread_is_pressed(&thread));
}

static void while_there_is_time_for_all_nobody_waits_for_what_he_used(void **state)
{
    struct gw_usage usage = used(100 * GW_USAGE_MUCH_US);
    struct work a = {{.run = run_work}, 'a'}, b = {{.run = run_work}, 'b'};
    trail[0] = '\0';
    gw_thread_turn(&thread, 0);
    assert_true(gw_thread_may_serve(&thread, &usage));
    gw_thread_defer_for(&thread, &usage, &a.deferred);
    gw_thread_defer(&thread, &b.deferred);
    gw_thread_charge(&thread, &usage);
    pass_time(1000);
    gw_thread_turn(&thread, 0);
    assert_string_equal(trail, "ab");
    assert_int_equal(usage.us, 100 * GW_USAGE_MUCH_US);
}

static void after_a_turn_that_had_not_time_for_all_who_used_much_comes_behind(void **state)
{
    struct work a = {{.run = run_work}, 'a'}, b = {{.run = run_work}, 'b'};
    be_pressed();
    struct gw_usage much = used(100 * GW_USAGE_MUCH_US), little = {0};
    assert_false(gw_thread_may_serve(&thread, &much));
    assert_true(gw_thread_may_serve(&thread, &little));
    gw_thread_defer_for(&thread, &much, &a.deferred);
    gw_thread_defer_for(&thread, &little, &b.deferred);
    gw_thread_turn(&thread, 0);
    assert_string_equal(trail, "ba");
    gw_thread_turn(&thread, 1000);
    gw_thread_turn(&thread, 1000);
    assert_false(thread.is_wary);
    assert_false(gw_thread_is_pressed(&thread));
}

static void who_used_much_is_served_as_ever_while_nobody_uses_little(void **state)
{
    be_wary();
    for (int i = 0; i != 10; ++i) {
        struct gw_usage much = used(100 * GW_USAGE_MUCH_US);
        assert_true(gw_thread_may_serve(&thread, &much));
        gw_thread_turn(&thread, 0);
        assert_false(gw_thread_is_pressed(&thread));
    }
}

static void where_all_use_alike_nobody_comes_first(void **state)
{
    be_wary();
    for (int i = 0; i != 300; ++i) {
        struct gw_usage one = used(3 * GW_USAGE_MUCH_US), other = used(GW_USAGE_MUCH_US * 3 / 4);
        assert_true(gw_thread_may_serve(&thread, &one));
        assert_true(gw_thread_may_serve(&thread, &other));
        gw_thread_turn(&thread, 0);
        assert_false(gw_thread_is_pressed(&thread));
    }
}

static void time_is_charged_to_whom_it_was_announced_for_and_ends_with_the_turn(void **state)
{
    be_pressed();
    struct gw_usage first = {0}, second = {0};
    gw_thread_charge(&thread, &first);
    pass_time(70);
    gw_thread_charge(&thread, &second);
    pass_time(30);
    gw_thread_charge(&thread, NULL);
    pass_time(500);
    gw_thread_charge(&thread, &first);
    pass_time(5);
    gw_thread_turn(&thread, 0);
    pass_time(900);
    gw_thread_turn(&thread, 0);
    assert_int_equal(first.us, 75);
    assert_int_equal(second.us, 30);
}

static void run_piece(struct gw_deferred *deferred)
{
    pass_time(15);
    run_work(deferred);
}

/* How many pieces of 15 us of those behind a turn runs. */
static size_t pieces_of_a_turn(bool has_others)
{
    struct gw_usage little = {0};
    struct work works[60];
    for (size_t i = 0; i != 60; ++i) {
        works[i] = (struct work){{.run = run_piece}, '.'};
        gw_thread_defer_behind(&thread, &works[i].deferred);
    }
    if (has_others)
        assert_true(gw_thread_may_serve(&thread, &little));
    trail[0] = '\0';
    gw_thread_turn(&thread, 0);
    for (size_t i = 0; i != 60; ++i)
        gw_thread_undefer(&works[i].deferred);
    return strlen(trail);
}

static void those_behind_have_little_of_a_turn_beside_others_and_more_and_more_without(void **state)
{
    be_pressed();
    for (int i = 0; i != 100; ++i)
        assert_in_range(pieces_of_a_turn(true), 2, 4);
    pass_time(400000); /* none of the others came for so long */
    for (int i = 0; i != 100; ++i)
        pieces_of_a_turn(false);
    assert_false(gw_thread_is_pressed(&thread));
    assert_in_range(pieces_of_a_turn(false), 15, 21);
    assert_in_range(pieces_of_a_turn(true), 2, 4);
}

static void on_slow_timer(struct gw_timer *timer)
{
    note('t');
    pass_time(100);
}

static void timers_that_are_due_at_once_do_not_hold_the_turn(void **state)
{
    struct gw_timer timers[40];
    trail[0] = '\0';
    for (int i = 0; i != 40; ++i) {
        gw_timer_init(&timers[i], on_slow_timer);
        gw_timer_arm(thread.wheel, &timers[i], gw_thread_now(&thread) + 10);
    }
    pass_time(50000);
    gw_thread_turn(&thread, 0);
    assert_in_range(strlen(trail), 1, 20);
    for (int i = 0; i != 10; ++i) {
        gw_thread_turn(&thread, 10000);
        assert_true(i != 0 || last_wait_ms == 0);
    }
    assert_int_equal(strlen(trail), 40);
}

static void deferred_work_runs_although_the_wall_clock_was_set_back(void **state)
{
    struct work a = {{.run = run_work}, 'a'};
    trail[0] = '\0';
    gw_thread_turn(&thread, 1);
    gw_thread_defer(&thread, &a.deferred);
    wall_us -= INT64_C(3600000000);
    gw_thread_turn(&thread, 1000);
    assert_string_equal(trail, "a");
}

static void on_timer(struct gw_timer *timer) { note('t'); }

static void turn_sleeps_until_the_next_timer_and_runs_it(void **state)
{
    struct gw_timer timer;
    uint64_t due = gw_thread_now(&thread) + 250;
    trail[0] = '\0';
    gw_timer_init(&timer, on_timer);
    gw_timer_arm(thread.wheel, &timer, due);
    for (int i = 0; i != 4 && trail[0] == '\0'; ++i) {
        assert_true(gw_thread_now(&thread) < due + 8);
        gw_thread_turn(&thread, 10000);
    }
    assert_string_equal(trail, "t");
    assert_in_range(gw_thread_now(&thread), due, due + 8);
}

static void timer_runs_although_the_wall_clock_was_set_back(void **state)
{
    struct gw_timer timer;
    uint64_t due = gw_thread_now(&thread) + 100;
    trail[0] = '\0';
    gw_timer_init(&timer, on_timer);
    gw_timer_arm(thread.wheel, &timer, due);
    gw_thread_turn(&thread, 50);
    wall_us -= INT64_C(86400000000);
    for (int i = 0; i != 4 && trail[0] == '\0'; ++i)
        gw_thread_turn(&thread, 10000);
    assert_string_equal(trail, "t");
    assert_in_range(gw_thread_now(&thread), due, due + 16);
}

static void timers_run_while_events_keep_the_loop_busy(void **state)
{
    struct gw_timer timer;
    uint64_t due = gw_thread_now(&thread) + 100;
    trail[0] = '\0';
    gw_timer_init(&timer, on_timer);
    gw_timer_arm(thread.wheel, &timer, due);
    for (int i = 0; i != 110; ++i) {
        assert_true(trail[0] == '\0' || gw_thread_now(&thread) >= due);
        gw_thread_turn(&thread, 0); /* never sleeps, as a loop with events would */
        pass_time(1000);
    }
    assert_string_equal(trail, "t");
}

/* libh2o frees a closed socket at the start of the next turn, even if it still waits for the callback of a write.
 * Timers that write and close between two turns would leave it a dangling pointer. */
static h2o_socket_t *near_end;

static void on_written(h2o_socket_t *sock, const char *err) { note('w'); }

static void on_write_then_close(struct gw_timer *timer)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    note('t');
    h2o_socket_write(near_end, &hello, 1, on_written);
    h2o_socket_close(near_end);
}

static void timer_may_write_to_a_socket_and_close_it(void **state)
{
    struct gw_timer timer;
    int fds[2];
    char got[8] = "";
    trail[0] = '\0';
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    near_end = h2o_evloop_socket_create(thread.loop, fds[0], 0);
    gw_timer_init(&timer, on_write_then_close);
    gw_timer_arm(thread.wheel, &timer, gw_thread_now(&thread) + 1);
    for (int i = 0; i != 4; ++i)
        gw_thread_turn(&thread, 100);
    assert_string_equal(trail, "t");
    assert_int_equal(read(fds[1], got, sizeof(got)), 5);
    assert_memory_equal(got, "hello", 5);
    close(fds[1]);
}

static void on_write(struct gw_timer *timer)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    h2o_socket_write(near_end, &hello, 1, on_written);
}

static void completion_of_a_timers_write_does_not_wait_for_another_event(void **state)
{
    struct gw_timer timer;
    int fds[2];
    trail[0] = '\0';
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    near_end = h2o_evloop_socket_create(thread.loop, fds[0], 0);
    gw_timer_init(&timer, on_write);
    gw_timer_arm(thread.wheel, &timer, gw_thread_now(&thread) + 1);
    uint64_t before = gw_thread_now(&thread);
    for (int i = 0; i != 3 && trail[0] == '\0'; ++i)
        gw_thread_turn(&thread, 60000);
    assert_string_equal(trail, "w");
    assert_true(gw_thread_now(&thread) < before + 100);
    h2o_socket_close(near_end);
    close(fds[1]);
}

static void completion_of_a_write_between_two_turns_is_not_waited_for(void **state)
{
    int fds[2];
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    trail[0] = '\0';
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    near_end = h2o_evloop_socket_create(thread.loop, fds[0], 0);
    h2o_socket_write(near_end, &hello, 1, on_written);
    gw_thread_turn(&thread, 1000);
    assert_int_equal(last_wait_ms, 0);
    assert_string_equal(trail, "w");
    h2o_socket_close(near_end);
    close(fds[1]);
}

static uint64_t now_seen_in_callback;

static void on_readable(h2o_socket_t *sock, const char *err)
{
    now_seen_in_callback = gw_thread_now(&thread);
    h2o_buffer_consume(&sock->input, sock->input->size);
}

static void callbacks_see_the_time_after_the_wait_and_not_before_it(void **state)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    near_end = h2o_evloop_socket_create(thread.loop, fds[0], 0);
    h2o_socket_read_start(near_end, on_readable);
    gw_thread_turn(&thread, 500); /* nothing happens for half a second */
    assert_int_equal(write(fds[1], "x", 1), 1);
    pass_time(7000);
    gw_thread_turn(&thread, 500);
    assert_int_equal(now_seen_in_callback, monotonic_us / 1000);
    h2o_socket_close(near_end);
    close(fds[1]);
}

static void clock_does_not_go_back_with_the_wall_clock(void **state)
{
    uint64_t before = gw_thread_now(&thread);
    wall_us -= INT64_C(86400000000);
    gw_thread_turn(&thread, 3);
    assert_int_equal(gw_thread_now(&thread), before + 3);
}

static void random_numbers_differ_between_threads(void **state)
{
    struct gw_thread other;
    gw_thread_init(&other, 4, &ctx);
    unsigned equal = 0;
    for (int i = 0; i != 1000; ++i)
        equal += gw_thread_random(&thread) == gw_thread_random(&other);
    assert_int_equal(equal, 0);
    gw_thread_dispose(&other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deferred_work_runs_once_in_the_order_it_was_put_off),
        TEST(work_put_off_by_deferred_work_runs_in_the_same_turn),
        TEST(deferred_work_may_undo_work_that_has_not_run),
        TEST(work_that_puts_itself_off_for_ever_does_not_hold_the_turn),
        TEST(work_that_a_turn_has_no_time_for_runs_in_the_next_ones_in_order),
        TEST(rounds_of_deferred_work_share_the_time_of_a_turn),
        TEST(work_put_off_behind_runs_behind_all_other_and_in_its_order),
        TEST(work_put_off_behind_gets_a_little_of_every_turn_however_much_other_there_is),
        TEST(work_put_off_behind_can_be_undone),
        TEST(an_event_that_takes_as_long_as_many_makes_the_turn_late),
        TEST(events_that_take_long_make_the_turn_late_until_the_next_one),
        TEST(while_there_is_time_for_all_nobody_waits_for_what_he_used),
        TEST(after_a_turn_that_had_not_time_for_all_who_used_much_comes_behind),
        TEST(where_all_use_alike_nobody_comes_first),
        TEST(time_is_charged_to_whom_it_was_announced_for_and_ends_with_the_turn),
        TEST(who_used_much_is_served_as_ever_while_nobody_uses_little),
        TEST(those_behind_have_little_of_a_turn_beside_others_and_more_and_more_without),
        TEST(timers_that_are_due_at_once_do_not_hold_the_turn),
        TEST(deferred_work_runs_although_the_wall_clock_was_set_back),
        TEST(turn_sleeps_until_the_next_timer_and_runs_it),
        TEST(timer_runs_although_the_wall_clock_was_set_back),
        TEST(timers_run_while_events_keep_the_loop_busy),
        TEST(timer_may_write_to_a_socket_and_close_it),
        TEST(completion_of_a_timers_write_does_not_wait_for_another_event),
        TEST(completion_of_a_write_between_two_turns_is_not_waited_for),
        TEST(callbacks_see_the_time_after_the_wait_and_not_before_it),
        TEST(clock_does_not_go_back_with_the_wall_clock),
        TEST(random_numbers_differ_between_threads),
    };
    return cmocka_run_group_tests_name("base/thread", tests, NULL, NULL);
}
