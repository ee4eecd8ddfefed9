#include "harness.h"
/* Memory of a body that comes faster than it is consumed. */
#include <string.h>
#include <unistd.h>
#include "gateway/upstream/client_state.h"

static char bytes[1 << 20];
/* Sends what the socket takes of a generated body, up to size. */
static void pump(int fd, uint64_t *sent, uint64_t size)
{
    while (*sent != size) {
        size_t len = size - *sent < sizeof(bytes) ? (size_t)(size - *sent) : sizeof(bytes);
        for (size_t i = 0; i != len; ++i)
            bytes[i] = pattern(*sent + i);
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        *sent += (uint64_t)n;
    }
}

static size_t memory_held(void)
{
    size_t total = a.client->head_buffer != NULL ? a.client->head_buffer->capacity : 0;
    for (unsigned i = 0; i != a.client->num_buffers; ++i)
        total += a.client->buffers[(a.client->first_buffer + i) % GW_CLIENT_MAX_BUFFERS].buffer->capacity;
    return total + a.client->conn->sock->input->size;
}

static void a_body_nobody_consumes_stops_at_128_KiB_and_comes_whole_when_they_do(void **state)
{
    enum { SIZE = 32 << 20, STEP = 10000 };
    char head[100];
    uint64_t sent = 0, max_held = 0, max_memory = 0;
    a.holds_back = a.keeps_no_copy = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", SIZE);
    origin_send(fd, head);
    while (!a.has_ended) {
        size_t before;
        do { /* all that the client takes unconsumed */
            before = a.body_len;
            pump(fd, &sent, SIZE);
            settle();
        } while (a.body_len != before);
        if (a.held > max_held)
            max_held = a.held;
        if (!a.has_ended && memory_held() > max_memory)
            max_memory = memory_held();
        while (a.held > STEP) { /* some, and then more of the body must come */
            gw_client_consumed(a.client, STEP);
            a.held -= STEP;
        }
    }
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(a.body_len, SIZE);
    assert_in_range(max_held, 64 * 1024, 132 * 1024);
    assert_in_range(max_memory, 64 * 1024, 300 * 1024);
    assert_string_equal(a.events, "started head body last");
    close(fd);
}

static void a_drip_nobody_consumes_holds_few_buffers(void **state)
{
    a.holds_back = a.keeps_no_copy = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n");
    settle();
    for (unsigned i = 0; i != 2000; ++i) {
        char byte = pattern(i);
        origin_send_bytes(fd, &byte, 1);
        if (i < 100)
            settle();
    }
    settle();
    assert_int_equal(a.held, GW_CLIENT_MAX_BUFFERS);
    assert_true(memory_held() < 256 * 1024);
    UNTIL((gw_client_consumed(a.client, a.held), a.held = 0, a.has_ended));
    assert_int_equal(a.body_len, 2000);
    close(fd);
}

static void a_caller_that_holds_the_response_back_is_not_the_origins_fault(void **state)
{
    uint64_t sent = 0;
    timeouts.idle_ms = 20;
    a.holds_back = a.keeps_no_copy = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n");
    UNTIL((pump(fd, &sent, 300000), sent == 300000 && a.held > 65536));
    uint64_t until_ms = gw_now_ms() + 100;
    UNTIL(gw_now_ms() >= until_ms);
    assert_false(a.has_ended);
    UNTIL((gw_client_consumed(a.client, a.held), a.held = 0, a.has_ended));
    assert_int_equal(a.error, GW_CLIENT_OK);
    assert_int_equal(a.body_len, 300000);
    close(fd);
}

static void an_end_behind_held_back_bytes_is_found_when_they_are_consumed(void **state)
{
    uint64_t sent = 0;
    a.holds_back = a.keeps_no_copy = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n");
    UNTIL((pump(fd, &sent, 200000), sent == 200000));
    close(fd);
    settle();
    assert_false(a.has_ended);
    UNTIL((gw_client_consumed(a.client, a.held), a.held = 0, a.has_ended));
    assert_int_equal(a.error, GW_CLIENT_TRUNCATED);
    assert_int_equal(a.body_len, 200000);
}

static void bytes_stay_valid_after_the_end_until_they_are_consumed(void **state)
{
    a.holds_back = true;
    attempt_get(&a, &origin);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nin h");
    UNTIL(a.body_len == 4);
    origin_send(fd, "ead.");
    UNTIL(a.has_ended);
    exchange(&origin, fd, OK_RESPONSE); /* the connection has gone on */
    assert_memory_equal(a.client->head_buffer->bytes + a.client->head_buffer->size - 4, "in h", 4);
    assert_memory_equal(a.client->buffers[a.client->first_buffer].buffer->bytes, "ead.", 4);
    gw_client_consumed(a.client, 5);
    assert_int_equal(a.client->num_buffers, 1);
    gw_client_consumed(a.client, 3);
    assert_int_equal(a.client->num_buffers, 0);
    close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_attempt, teardown_attempt)
    const struct CMUnitTest tests[] = {
        T(a_body_nobody_consumes_stops_at_128_KiB_and_comes_whole_when_they_do),
        T(a_drip_nobody_consumes_holds_few_buffers),
        T(a_caller_that_holds_the_response_back_is_not_the_origins_fault),
        T(an_end_behind_held_back_bytes_is_found_when_they_are_consumed),
        T(bytes_stay_valid_after_the_end_until_they_are_consumed),
    };
    return cmocka_run_group_tests_name("upstream/backpressure", tests, setup_thread, NULL);
}
