#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/supervisor/channel.h"

static int ends[2];

static int open_ends(void **state) { return !gw_channel_create(ends); }
static int close_ends(void **state)
{
    for (int i = 0; i != 2; ++i)
        if (ends[i] != -1)
            close(ends[i]);
    return 0;
}

static void a_packet_arrives_as_it_was_sent(void **state)
{
    struct gw_packet sent = {
        .type = GW_REPORT_READY, .numbers = {1, UINT64_MAX, 3, 4, 5, 6, 7, 8}, .text = "some text"};
    struct gw_packet got;

    assert_true(gw_channel_send(ends[0], &sent));
    assert_int_equal(gw_channel_receive(ends[1], false, &got), GW_CHANNEL_PACKET);
    assert_int_equal(got.type, GW_REPORT_READY);
    assert_memory_equal(got.numbers, sent.numbers, sizeof(sent.numbers));
    assert_string_equal(got.text, "some text");
    assert_int_equal(got.num_fds, 0);
    assert_int_equal(gw_channel_receive(ends[1], false, &got), GW_CHANNEL_EMPTY);
}

static void packets_keep_their_order_and_bounds_in_both_directions(void **state)
{
    struct gw_packet got;

    for (uint64_t i = 0; i != 10; ++i)
        assert_true(gw_channel_tell(ends[1], GW_ORDER_DRAIN, i, 0, i % 2 != 0 ? "odd" : NULL));
    assert_true(gw_channel_tell(ends[0], GW_ORDER_STOP, 0, 0, NULL));
    for (uint64_t i = 0; i != 10; ++i) {
        assert_int_equal(gw_channel_receive(ends[0], true, &got), GW_CHANNEL_PACKET);
        assert_int_equal(got.numbers[0], i);
        assert_string_equal(got.text, i % 2 != 0 ? "odd" : "");
    }
    assert_int_equal(gw_channel_receive(ends[1], true, &got), GW_CHANNEL_PACKET);
    assert_int_equal(got.type, GW_ORDER_STOP);
}

static void descriptors_arrive_close_on_exec(void **state)
{
    struct gw_packet sent = {.type = GW_SOCKETS_HERE, .num_fds = GW_PACKET_MAX_FDS}, got;
    int pipes[2];
    char byte;

    assert_int_equal(pipe(pipes), 0);
    for (size_t i = 0; i != sent.num_fds; ++i)
        sent.fds[i] = pipes[1];
    assert_true(gw_channel_send(ends[0], &sent));
    close(pipes[1]);
    assert_int_equal(gw_channel_receive(ends[1], true, &got), GW_CHANNEL_PACKET);
    assert_int_equal(got.num_fds, GW_PACKET_MAX_FDS);
    for (size_t i = 0; i != got.num_fds; ++i) {
        assert_int_equal(fcntl(got.fds[i], F_GETFD), FD_CLOEXEC);
        assert_int_equal(write(got.fds[i], "x", 1), 1);
        assert_int_equal(read(pipes[0], &byte, 1), 1);
    }
    gw_packet_close_fds(&got);
    assert_int_equal(read(pipes[0], &byte, 1), 0); /* none is left open */
    close(pipes[0]);
}

static void the_longest_text_arrives_whole(void **state)
{
    struct gw_packet sent = {.type = GW_REPORT_TICKETS}, got;

    memset(sent.text, 'a', GW_PACKET_TEXT - 1);
    assert_true(gw_channel_send(ends[0], &sent));
    assert_int_equal(gw_channel_receive(ends[1], true, &got), GW_CHANNEL_PACKET);
    assert_string_equal(got.text, sent.text);
}

static void a_closed_end_is_told_from_an_empty_one(void **state)
{
    struct gw_packet got;

    assert_int_equal(gw_channel_receive(ends[0], false, &got), GW_CHANNEL_EMPTY);
    assert_true(gw_channel_tell(ends[1], GW_REPORT_DRAINING, 0, 0, NULL));
    close(ends[1]);
    ends[1] = -1;
    assert_int_equal(gw_channel_receive(ends[0], false, &got), GW_CHANNEL_PACKET); /* its last words */
    assert_int_equal(gw_channel_receive(ends[0], false, &got), GW_CHANNEL_CLOSED);
    assert_false(gw_channel_tell(ends[0], GW_ORDER_STOP, 0, 0, NULL)); /* and no SIGPIPE */
}

static void bytes_that_are_no_packet_close_the_channel(void **state)
{
    static const char *const garbage[] = {
        "x", "GET / HTTP/1.1\r\nHost: a\r\n\r\n 0123456789012345678901234567890123456789012345"};
    struct gw_packet got;

    for (size_t i = 0; i != 2; ++i) {
        assert_true(send(ends[0], garbage[i], strlen(garbage[i]), 0) > 0);
        assert_int_equal(gw_channel_receive(ends[1], false, &got), GW_CHANNEL_CLOSED);
    }
}

static void a_reader_that_reads_nothing_does_not_stop_the_sender(void **state)
{
    int n = 0;
    while (n < 100000 && gw_channel_tell(ends[0], GW_ORDER_RELOAD, 0, 0, NULL))
        ++n;
    assert_in_range(n, 10, 99999);
    assert_int_equal(errno, EAGAIN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_ends, close_ends)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_packet_arrives_as_it_was_sent),
        TEST(packets_keep_their_order_and_bounds_in_both_directions),
        TEST(descriptors_arrive_close_on_exec),
        TEST(the_longest_text_arrives_whole),
        TEST(a_closed_end_is_told_from_an_empty_one),
        TEST(bytes_that_are_no_packet_close_the_channel),
        TEST(a_reader_that_reads_nothing_does_not_stop_the_sender),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
