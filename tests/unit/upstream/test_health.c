#include "harness.h"
/* Health checks: what is asked, how answers are judged, and when. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/upstream/health.h"

static struct gw_prober *prober;
static struct routing_health health;
static struct gw_prober_target target;
static unsigned num_changes;
static char changed_group[32];
static bool destroys_in_callback;

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static void on_change(void *data, h2o_iovec_t group, const struct gw_endpoint *endpoint, const struct routing_health *h)
{
    assert_ptr_equal(data, &num_changes);
    assert_ptr_equal(endpoint, &origin.endpoint);
    assert_ptr_equal(h, &health);
    ++num_changes;
    snprintf(changed_group, sizeof(changed_group), "%.*s", (int)group.len, group.base);
    if (destroys_in_callback) {
        gw_prober_destroy(prober);
        prober = NULL;
    }
}

static int setup_family(int family)
{
    num_changes = 0;
    destroys_in_callback = false;
    origin_open(&origin, family);
    routing_health_init(&health, true);
    target = (struct gw_prober_target){
        .endpoint = &origin.endpoint,
        .health = &health,
        .group = text("users"),
        .conf = {.is_enabled = true,
                 .path = text("/healthz"),
                 .interval_ms = 600000,
                 .timeout_ms = 60000,
                 .healthy_threshold = 3,
                 .unhealthy_threshold = 1,
                 .matcher = text("200-299")},
    };
    prober = gw_prober_create(&thread, on_change, &num_changes);
    return setup_pool(NULL);
}
static int setup(void **state) { return setup_family(AF_INET); }
static int setup_v6(void **state) { return setup_family(has_ipv6() ? AF_INET6 : AF_INET); }
static int setup_unix(void **state) { return setup_family(AF_UNIX); }

static int teardown(void **state)
{
    gw_prober_destroy(prober);
    settle();
    origin_close(&origin);
    return teardown_pool(state);
}

static void check_once(const char *response, bool closes)
{
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    if (response != NULL)
        origin_send(fd, response);
    if (closes)
        close(fd);
    UNTIL(health.checks == 1);
    if (!closes)
        close(fd);
}

static void expect(enum routing_health_state state, enum routing_probe last, int status)
{
    assert_int_equal(routing_health_state(&health), state);
    assert_int_equal(health.last, last);
    assert_int_equal(health.last_status, status);
    assert_int_equal(num_changes, 1);
    assert_string_equal(changed_group, "users");
}

/* --- what is asked --- */
static void expect_request(const char *host)
{
    char bytes[512];
    snprintf(bytes, sizeof(bytes),
             "GET /healthz HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-health-check/" WEIR_VERSION
             "\r\nAccept: */*\r\nConnection: close\r\n\r\n",
             host);
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect(fd, bytes);
    origin_send(fd, OK_RESPONSE);
    UNTIL(health.checks == 1);
    expect(ROUTING_HEALTH_HEALTHY, ROUTING_PROBE_PASS, 200);
    close(fd);
}

static void a_check_names_the_address_and_port_of_its_target(void **state)
{
    char host[32];
    snprintf(host, sizeof(host), "127.0.0.1:%d", origin.endpoint.address.port);
    expect_request(host);
}

static void a_check_over_ipv6_brackets_the_address(void **state)
{
    char host[32];
    if (!has_ipv6())
        skip();
    snprintf(host, sizeof(host), "[::1]:%d", origin.endpoint.address.port);
    expect_request(host);
}

static void a_check_over_a_unix_socket_names_localhost(void **state) { expect_request("localhost"); }

static void a_check_names_the_host_it_is_given(void **state)
{
    target.conf.host = text("users.internal");
    expect_request("users.internal");
}

static void a_check_may_go_to_another_port(void **state)
{
    struct origin traffic = origin; /* an address that would refuse */
    traffic.endpoint.address.port = 1;
    ((struct sockaddr_in *)&traffic.endpoint.address.sa)->sin_port = htons(1);
    target.conf.port = origin.endpoint.address.port;
    uint16_t port = origin.endpoint.address.port;
    origin.endpoint = traffic.endpoint;
    char host[32];
    snprintf(host, sizeof(host), "127.0.0.1:%d", port);
    expect_request(host);
}

static void a_tcp_check_passes_with_the_connection_and_sends_nothing(void **state)
{
    target.conf.protocol = 1;
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    UNTIL(health.checks == 1);
    expect(ROUTING_HEALTH_HEALTHY, ROUTING_PROBE_PASS, 0);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

/* --- how answers are judged --- */
static void a_status_outside_the_matcher_fails(void **state)
{
    check_once("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", false);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_CODE_MISMATCH, 302);
}

static void the_matcher_is_200_when_none_is_given(void **state)
{
    target.conf.matcher = (h2o_iovec_t){0};
    check_once("HTTP/1.1 204 No Content\r\n\r\n", false);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_CODE_MISMATCH, 204);
}

static void interim_responses_are_no_answer(void **state)
{
    check_once("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", false);
    expect(ROUTING_HEALTH_HEALTHY, ROUTING_PROBE_PASS, 204);
}

static void a_refused_connection_fails(void **state)
{
    close(origin.listener);
    gw_prober_set_targets(prober, &target, 1);
    UNTIL(health.checks == 1);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_CONNECTION_FAILED, 0);
}

static void an_end_instead_of_an_answer_fails(void **state)
{
    check_once(NULL, true);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_CONNECTION_FAILED, 0);
}

static void an_end_within_the_head_is_a_bad_response(void **state)
{
    check_once("HTTP/1.1 200 OK\r\ncontent-", true);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_BAD_RESPONSE, 0);
}

static void a_malformed_head_is_a_bad_response(void **state)
{
    check_once("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", false);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_BAD_RESPONSE, 0);
}

static void another_protocol_is_a_bad_response(void **state)
{
    check_once("220 smtp.example.com ESMTP\r\n", false);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_BAD_RESPONSE, 0);
}

static void an_endless_head_is_a_bad_response(void **state)
{
    char *bytes = malloc(100000);
    memset(bytes, 'x', 99999);
    memcpy(bytes, "HTTP/1.1 200 OK\r\nx: ", 20);
    bytes[99999] = '\0';
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    send(fd, bytes, 99999, MSG_NOSIGNAL);
    UNTIL(health.checks == 1);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_BAD_RESPONSE, 0);
    free(bytes);
    close(fd);
}

static void silence_fails_by_the_timeout(void **state)
{
    target.conf.timeout_ms = 50;
    uint64_t begin_ms = gw_thread_now(&thread);
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    UNTIL(health.checks == 1);
    assert_true(gw_now_ms() - begin_ms >= 50);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_TIMED_OUT, 0);
    origin_expect_end(fd);
    close(fd);
}

static void a_head_that_drips_fails_by_the_timeout(void **state)
{
    target.conf.timeout_ms = 80;
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\nx: ");
    for (uint64_t next_ms = gw_now_ms(); health.checks == 0; next_ms += 10) {
        send(fd, "y", 1, MSG_NOSIGNAL);
        UNTIL(health.checks != 0 || gw_now_ms() >= next_ms + 10);
    }
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_TIMED_OUT, 0);
    close(fd);
}

static void a_target_may_finish_its_body_and_is_not_reset(void **state)
{
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, "HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n");
    UNTIL(health.checks == 1); /* judged by its head */
    for (int i = 0; i != 3; ++i) {
        char bytes[1000] = {0};
        origin_send_bytes(fd, bytes, sizeof(bytes));
        settle();
    }
    shutdown(fd, SHUT_WR);
    char byte;
    ssize_t n;
    UNTIL((n = recv(fd, &byte, 1, 0)) == 0 || errno != EAGAIN);
    assert_int_equal(n, 0);
    close(fd);
}

static void running_out_of_descriptors_fails_the_check(void **state)
{
    struct rlimit saved, none;
    getrlimit(RLIMIT_NOFILE, &saved);
    none = saved;
    none.rlim_cur = 0;
    gw_prober_set_targets(prober, &target, 1);
    setrlimit(RLIMIT_NOFILE, &none);
    for (int i = 0; i != 100 && health.checks == 0; ++i)
        gw_thread_turn(&thread, 20);
    setrlimit(RLIMIT_NOFILE, &saved);
    expect(ROUTING_HEALTH_UNHEALTHY, ROUTING_PROBE_CONNECTION_FAILED, 0);
}

/* --- when --- */
static void recovery_takes_as_many_passes_as_the_threshold_says(void **state)
{
    target.conf.interval_ms = 20;
    static const struct {
        const char *answer;
        enum routing_health_state after;
    } steps[] = {
        {OK_RESPONSE, ROUTING_HEALTH_HEALTHY}, /* a new target needs one */
        {"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", ROUTING_HEALTH_UNHEALTHY},
        {OK_RESPONSE, ROUTING_HEALTH_UNHEALTHY},
        {OK_RESPONSE, ROUTING_HEALTH_UNHEALTHY},
        {OK_RESPONSE, ROUTING_HEALTH_HEALTHY},
    };
    gw_prober_set_targets(prober, &target, 1);
    for (unsigned i = 0; i != 5; ++i) {
        int fd = origin_accept(&origin);
        origin_expect_head(fd);
        origin_send(fd, steps[i].answer);
        UNTIL(health.checks == i + 1);
        assert_int_equal(routing_health_state(&health), steps[i].after);
        close(fd);
    }
    assert_int_equal(num_changes, 3);
}

/* Time that six intervals take when each answer comes after 8/10 of one. */
static uint64_t time_six_intervals(void)
{
    uint64_t second_at_ms = 0, now_ms = 0;
    for (int i = 0; i != 8; ++i) {
        int fd = origin_accept(&origin);
        now_ms = gw_now_ms();
        if (i == 1) /* the first comes at once */
            second_at_ms = now_ms;
        UNTIL(gw_now_ms() >= now_ms + 80);
        origin_expect_head(fd);
        origin_send(fd, OK_RESPONSE);
        settle();
        close(fd);
    }
    return now_ms - second_at_ms;
}

static void slow_answers_do_not_stretch_the_interval(void **state)
{
    target.conf.interval_ms = 100;
    uint64_t took_ms = 0;
    /* 6 x 100; answers would make it 6 x 180. Some times, as the machine may be busy, at the first look or at the last.
     */
    for (int i = 0; i != 30 && (took_ms < 580 || took_ms > 900); ++i) {
        gw_prober_set_targets(prober, NULL, 0);
        gw_prober_set_targets(prober, &target, 1);
        took_ms = time_six_intervals();
    }
    assert_in_range(took_ms, 580, 900);
}

static void a_check_that_lasts_longer_than_the_interval_is_not_doubled(void **state)
{
    target.conf.interval_ms = 10;
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    uint64_t until_ms = gw_now_ms() + 60;
    UNTIL(gw_now_ms() >= until_ms);
    assert_false(origin_has_connection(&origin));
    assert_int_equal(health.checks, 0);
    close(fd);
}

/* --- loads --- */
static void an_unchanged_target_keeps_its_place_over_a_load(void **state)
{
    check_once(OK_RESPONSE, true);
    char path[] = "/healthz"; /* equal, not the same */
    target.conf.path = text(path);
    gw_prober_set_targets(prober, &target, 1);
    uint64_t until_ms = gw_now_ms() + 40;
    UNTIL(gw_now_ms() >= until_ms);
    assert_false(origin_has_connection(&origin)); /* the next is due in ten minutes at most */
    assert_int_equal(health.checks, 1);
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_HEALTHY);
}

static void a_changed_check_starts_at_once_and_keeps_the_state(void **state)
{
    check_once(OK_RESPONSE, true);
    target.conf.path = text("/other");
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect(fd, "GET /other HTTP/1.1\r\n");
    assert_int_equal(routing_health_state(&health), ROUTING_HEALTH_HEALTHY);
    close(fd);
}

static void a_target_that_left_the_list_is_not_reported_any_more(void **state)
{
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    gw_prober_set_targets(prober, NULL, 0);
    origin_expect_end(fd);
    assert_int_equal(health.checks, 0);
    close(fd);
}

static void a_target_whose_check_is_off_is_left_alone(void **state)
{
    target.conf.is_enabled = false;
    gw_prober_set_targets(prober, &target, 1);
    uint64_t until_ms = gw_now_ms() + 30;
    UNTIL(gw_now_ms() >= until_ms);
    assert_false(origin_has_connection(&origin));
}

static void nothing_is_probed_or_reported_after_the_destruction(void **state)
{
    gw_prober_set_targets(prober, &target, 1);
    int fd = origin_accept(&origin);
    origin_expect_head(fd);
    origin_send(fd, OK_RESPONSE);
    gw_prober_destroy(prober);
    prober = NULL;
    origin_expect_end(fd);
    assert_int_equal(health.checks, 0);
    close(fd);
}

static void the_prober_may_be_destroyed_from_its_own_report(void **state)
{
    destroys_in_callback = true;
    check_once(OK_RESPONSE, false);
    assert_null(prober);
}

static void the_prober_may_be_destroyed_from_a_report_of_its_timer(void **state)
{
    destroys_in_callback = true;
    origin.endpoint.address.sa_len = 0; /* fails without a connect */
    gw_prober_set_targets(prober, &target, 1);
    UNTIL(health.checks == 1);
    assert_null(prober);
}

static void a_load_of_many_targets_checks_256_at_a_time(void **state)
{
    enum { NUM = 300 };
    static struct gw_endpoint endpoints[NUM];
    static struct routing_health healths[NUM];
    static struct gw_prober_target targets[NUM];
    static int fds[NUM];
    gw_prober_destroy(prober);
    prober = gw_prober_create(&thread, NULL, NULL);
    assert_int_equal(listen(origin.listener, 1000), 0);
    for (unsigned i = 0; i != NUM; ++i) {
        endpoints[i] = origin.endpoint;
        endpoints[i].index = i;
        routing_health_init(&healths[i], true);
        targets[i] = target;
        targets[i].endpoint = &endpoints[i];
        targets[i].health = &healths[i];
    }
    gw_prober_set_targets(prober, targets, NUM);
    for (int i = 0; i != 256; ++i)
        fds[i] = origin_accept(&origin);
    for (int i = 0; i != 5; ++i)
        turn();
    assert_false(origin_has_connection(&origin));
    for (int i = 0; i != NUM; ++i) { /* each end lets another begin */
        if (i >= 256)
            fds[i] = origin_accept(&origin);
        if (i < NUM - 256)
            close(fds[i]);
    }
    for (int i = NUM - 256; i != NUM; ++i)
        close(fds[i]);
    for (int i = 0; i != NUM; ++i)
        UNTIL(healths[i].checks == 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_check_names_the_address_and_port_of_its_target),
        cmocka_unit_test_setup_teardown(a_check_over_ipv6_brackets_the_address, setup_v6, teardown),
        cmocka_unit_test_setup_teardown(a_check_over_a_unix_socket_names_localhost, setup_unix, teardown),
        T(a_check_names_the_host_it_is_given),
        T(a_check_may_go_to_another_port),
        T(a_tcp_check_passes_with_the_connection_and_sends_nothing),
        T(a_status_outside_the_matcher_fails),
        T(the_matcher_is_200_when_none_is_given),
        T(interim_responses_are_no_answer),
        T(a_refused_connection_fails),
        T(an_end_instead_of_an_answer_fails),
        T(an_end_within_the_head_is_a_bad_response),
        T(a_malformed_head_is_a_bad_response),
        T(another_protocol_is_a_bad_response),
        T(an_endless_head_is_a_bad_response),
        T(silence_fails_by_the_timeout),
        T(a_head_that_drips_fails_by_the_timeout),
        T(a_target_may_finish_its_body_and_is_not_reset),
        T(running_out_of_descriptors_fails_the_check),
        T(recovery_takes_as_many_passes_as_the_threshold_says),
        T(slow_answers_do_not_stretch_the_interval),
        T(a_check_that_lasts_longer_than_the_interval_is_not_doubled),
        T(an_unchanged_target_keeps_its_place_over_a_load),
        T(a_changed_check_starts_at_once_and_keeps_the_state),
        T(a_target_that_left_the_list_is_not_reported_any_more),
        T(a_target_whose_check_is_off_is_left_alone),
        T(nothing_is_probed_or_reported_after_the_destruction),
        T(the_prober_may_be_destroyed_from_its_own_report),
        T(the_prober_may_be_destroyed_from_a_report_of_its_timer),
        T(a_load_of_many_targets_checks_256_at_a_time),
    };
    return cmocka_run_group_tests_name("upstream/health", tests, setup_thread, NULL);
}
