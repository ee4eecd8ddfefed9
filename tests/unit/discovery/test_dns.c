/* The resolver against a DNS server over real sockets; only the clock is moved by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <h2o/string_.h>
#include "peer.h"

static struct rig rig;
static struct gw_dns_watch watches[200];
static unsigned num_told;

static void on_answer(struct gw_dns_watch *watch) { ++num_told; }

static int setup(void **state)
{
    num_told = 0;
    memset(watches, 0, sizeof(watches));
    rig_open(&rig, 1);
    return 0;
}

static int setup_two(void **state)
{
    num_told = 0;
    memset(watches, 0, sizeof(watches));
    rig_open(&rig, 2);
    return 0;
}

static int teardown(void **state)
{
    rig_close(&rig);
    return 0;
}

static const struct gw_dns_record *watch(size_t i, const char *name, enum gw_dns_type type, uint64_t min_ms,
                                         uint64_t max_ms)
{
    watches[i] = (struct gw_dns_watch){.min_ttl_ms = min_ms, .max_ttl_ms = max_ms, .on_answer = on_answer};
    gw_dns_watch(rig.dns, &watches[i], name, type, rig_now(&rig));
    return watches[i].record;
}

static void expect_address(const struct gw_dns_record *record, size_t i, const char *expected)
{
    char text[46];
    assert_true(i < record->answer.size);
    gw_ip_format(&record->answer.values[i].ip, text);
    assert_string_equal(text, expected);
}

static void expect_last(const struct gw_dns_record *record, enum gw_dns_outcome outcome)
{
    assert_string_equal(gw_dns_outcome_name(record->last), gw_dns_outcome_name(outcome));
}

static void an_answer_is_told_and_kept_until_its_ttl_has_passed(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 30, "10.0.0.1", NULL);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    assert_false(record->has_ended);
    rig_settle(&rig);
    assert_true(record->has_ended);
    assert_int_equal(num_told, 1);
    expect_address(record, 0, "10.0.0.1");
    peer_set(rig.peers, "a.example", GW_DNS_A, 30, "10.0.0.2", NULL);
    rig_sleep(&rig, 28000);
    assert_int_equal(rig.peers[0].num_questions, 1);
    rig_sleep(&rig, 4000); /* with jitter */
    assert_int_equal(rig.peers[0].num_questions, 2);
    expect_address(record, 0, "10.0.0.2");
}

static void a_ttl_of_zero_is_raised_to_the_floor(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 0, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 5000, 300000);
    rig_settle(&rig);
    rig_sleep(&rig, 4500);
    assert_int_equal(rig.peers[0].num_questions, 1);
    rig_sleep(&rig, 900);
    assert_int_equal(rig.peers[0].num_questions, 2);
}

static void a_long_ttl_is_cut_to_the_ceiling(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 86400, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 1000, 60000);
    rig_settle(&rig);
    rig_sleep(&rig, 64000);
    assert_int_equal(rig.peers[0].num_questions, 2);
}

static void many_who_ask_for_one_name_share_one_question(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 30, "10.0.0.1", NULL);
    for (size_t i = 0; i != 100; ++i)
        watch(i, i % 2 == 0 ? "a.example" : "A.EXAMPLE", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    assert_int_equal(rig.peers[0].num_questions, 1);
    assert_int_equal(num_told, 100);
    watch(100, "a.example", GW_DNS_A, 1000, 300000); /* late, and the answer is there at once */
    expect_address(watches[100].record, 0, "10.0.0.1");
    rig_settle(&rig);
    assert_int_equal(rig.peers[0].num_questions, 1);
}

static void the_most_impatient_of_those_who_share_a_name_sets_the_pace(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 60, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    watch(1, "a.example", GW_DNS_A, 1000, 10000);
    rig_sleep(&rig, 11000);
    assert_int_equal(rig.peers[0].num_questions, 2);
}

static void a_name_that_nobody_wants_is_asked_for_no_more(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    gw_dns_unwatch(&watches[0]);
    for (int i = 0; i != 5; ++i)
        rig_sleep(&rig, 10000);
    assert_int_equal(rig.peers[0].num_questions, 1);
    assert_false(gw_dns_knows(rig.dns, "a.example", GW_DNS_A));
}

static void a_watch_that_ends_while_its_question_is_under_way_is_told_nothing(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 1000, 300000);
    gw_dns_run(rig.dns, rig_now(&rig)); /* it is sent */
    gw_dns_unwatch(&watches[0]);
    rig_settle(&rig);
    assert_int_equal(num_told, 0);
}

/* One row for each failure: the last good answer stays, and the outcome says what it was. */
static void failing_keeps_the_last_answer(const struct gw_dns_record *record, enum gw_dns_outcome outcome)
{
    unsigned before = num_told;
    rig_sleep(&rig, 5000);
    expect_last(record, outcome);
    expect_address(record, 0, "10.0.0.1");
    assert_int_equal(record->answer.outcome, GW_DNS_VALUES);
    assert_true(record->failures != 0);
    assert_true(num_told > before);
    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.1", NULL);
    rig_sleep(&rig, 40000);
    expect_last(record, GW_DNS_VALUES);
    assert_int_equal(record->failures, 0);
}

static void the_last_good_answer_outlives_every_failure(void **state)
{
    static const struct {
        enum peer_manner manner;
        enum gw_dns_outcome outcome;
    } manners[] = {{PEER_SILENT, GW_DNS_TIMEOUT},
                   {PEER_WRONG_ID, GW_DNS_TIMEOUT},
                   {PEER_WRONG_NAME, GW_DNS_TIMEOUT},
                   {PEER_GARBAGE, GW_DNS_MALFORMED}};
    static const struct {
        int rcode;
        enum gw_dns_outcome outcome;
    } rcodes[] = {{2, GW_DNS_SERVFAIL}, {5, GW_DNS_REFUSED}, {4, GW_DNS_ERROR}, {1, GW_DNS_ERROR}};

    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.1", NULL);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    for (size_t i = 0; i != sizeof(manners) / sizeof(manners[0]); ++i) {
        peer_set_manner(rig.peers, "a.example", GW_DNS_A, manners[i].manner);
        failing_keeps_the_last_answer(record, manners[i].outcome);
    }
    for (size_t i = 0; i != sizeof(rcodes) / sizeof(rcodes[0]); ++i) {
        peer_set_error(rig.peers, "a.example", GW_DNS_A, rcodes[i].rcode);
        failing_keeps_the_last_answer(record, rcodes[i].outcome);
    }
    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.9", NULL)->manner = PEER_CUT;
    failing_keeps_the_last_answer(record, GW_DNS_MALFORMED);
}

static void a_server_that_is_not_there_is_unreachable(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 2, "10.0.0.1", NULL);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    close(rig.peers[0].udp);
    rig.peers[0].udp = -1;
    rig_settle(&rig);
    expect_last(record, GW_DNS_UNREACHABLE);
}

static void pauses_between_failures_double_up_to_their_bound(void **state)
{
    peer_set_error(rig.peers, "a.example", GW_DNS_A, 2);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    for (uint64_t expected = 1000; record->failures != 8; expected *= 2) {
        uint64_t pause = record->due_ms - rig_now(&rig);
        if (expected > 30000)
            expected = 30000;
        assert_in_range(pause, expected * 3 / 4 - 100, expected); /* of which some may have passed */
        rig_sleep(&rig, expected);
    }
    assert_int_equal(rig.peers[0].num_questions, 8);
}

static void the_next_server_is_asked_when_one_fails(void **state)
{
    peer_set_manner(&rig.peers[0], "a.example", GW_DNS_A, PEER_SILENT);
    peer_set_error(&rig.peers[0], "b.example", GW_DNS_A, 2);
    peer_set(&rig.peers[1], "a.example", GW_DNS_A, 10, "10.0.0.1", NULL);
    peer_set(&rig.peers[1], "b.example", GW_DNS_A, 10, "10.0.0.2", NULL);
    const struct gw_dns_record *a = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    const struct gw_dns_record *b = watch(1, "b.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_address(a, 0, "10.0.0.1");
    expect_address(b, 0, "10.0.0.2");
    unsigned before = rig.peers[0].num_questions;
    rig_sleep(&rig, 11000); /* the one that answers is asked first from now on */
    assert_int_equal(rig.peers[0].num_questions, before);
    assert_int_equal(gw_dns_totals(rig.dns)->outcomes[GW_DNS_SERVFAIL], 1);
    assert_int_equal(gw_dns_totals(rig.dns)->outcomes[GW_DNS_TIMEOUT], 1);
}

static void a_truncated_answer_is_asked_for_over_tcp(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 10, "10.0.0.1", "10.0.0.2", NULL)->manner = PEER_TRUNCATED;
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    assert_int_equal(record->answer.size, 2);
    assert_int_equal(rig.peers[0].num_over_tcp, 1);
}

static void three_thousand_addresses_are_taken(void **state)
{
    peer_set_manner(rig.peers, "a.example", GW_DNS_A, PEER_HUGE);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    assert_int_equal(record->answer.size, 3000);
}

static void a_name_that_does_not_exist_is_an_answer_and_soon_asked_again(void **state)
{
    peer_set_error(rig.peers, "a.example", GW_DNS_A, 3)->negative_ttl_s = 86400;
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_last(record, GW_DNS_NO_NAME);
    assert_int_equal(record->failures, 0);
    peer_set(rig.peers, "a.example", GW_DNS_A, 10, "10.0.0.1", NULL);
    rig_sleep(&rig, 32000); /* max_retry, although its SOA says a day */
    expect_address(record, 0, "10.0.0.1");
}

static void short_names_are_looked_up_in_the_search_domains_first(void **state)
{
    h2o_iovec_t domains[] = {{H2O_STRLIT("one.example")}, {H2O_STRLIT("two.example")}};
    rig.conf.search = (struct gw_texts){.entries = domains, .size = 2};
    rig_configure(&rig);
    peer_set(rig.peers, "users.two.example", GW_DNS_A, 10, "10.0.0.2", NULL);
    peer_set(rig.peers, "users", GW_DNS_A, 10, "10.0.0.9", NULL);
    peer_set(rig.peers, "a.b", GW_DNS_A, 10, "10.0.0.3", NULL);
    const struct gw_dns_record *users = watch(0, "users", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_address(users, 0, "10.0.0.2");
    assert_int_equal(rig.peers[0].num_questions, 2);
    const struct gw_dns_record *dotted = watch(1, "a.b", GW_DNS_A, 1000, 300000); /* as it is first */
    rig_settle(&rig);
    expect_address(dotted, 0, "10.0.0.3");
    assert_int_equal(rig.peers[0].num_questions, 3);
    const struct gw_dns_record *absolute = watch(2, "users.", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_address(absolute, 0, "10.0.0.9");
    const struct gw_dns_record *nowhere = watch(3, "c.d", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_last(nowhere, GW_DNS_NO_NAME);
    assert_string_equal(rig.peers[0].last_name, "c.d.two.example");
}

static void a_failure_in_a_search_domain_is_not_taken_for_a_missing_name(void **state)
{
    h2o_iovec_t domains[] = {{H2O_STRLIT("one.example")}};
    rig.conf.search = (struct gw_texts){.entries = domains, .size = 1};
    rig_configure(&rig);
    peer_set_error(rig.peers, "users.one.example", GW_DNS_A, 2);
    peer_set(rig.peers, "users", GW_DNS_A, 10, "10.0.0.9", NULL);
    const struct gw_dns_record *users = watch(0, "users", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    expect_last(users, GW_DNS_SERVFAIL);
}

static void questions_under_way_go_to_the_new_servers_when_they_change(void **state)
{
    peer_set_manner(&rig.peers[0], "a.example", GW_DNS_A, PEER_SILENT);
    peer_set(&rig.peers[1], "a.example", GW_DNS_A, 10, "10.0.0.1", NULL);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    gw_dns_run(rig.dns, rig_now(&rig));
    rig.conf.servers.entries += 1;
    rig.conf.servers.size = 1;
    gw_dns_configure(rig.dns, &rig.conf);
    rig_settle(&rig);
    expect_address(record, 0, "10.0.0.1");
    assert_int_equal(rig.peers[1].num_questions, 1);
}

static void answers_stay_when_the_configuration_changes(void **state)
{
    peer_set(rig.peers, "a.example", GW_DNS_A, 100, "10.0.0.1", NULL);
    const struct gw_dns_record *record = watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    rig.conf.timeout_ms = 200;
    rig_configure(&rig);
    rig_settle(&rig);
    expect_address(record, 0, "10.0.0.1");
    assert_int_equal(rig.peers[0].num_questions, 1);
}

static void two_hundred_names_are_asked_for_and_answered(void **state)
{
    static char names[200][32];
    for (size_t i = 0; i != 200; ++i) { /* unknown ones: an answer, too */
        snprintf(names[i], sizeof(names[i]), "n%zu.example", i);
        watch(i, names[i], GW_DNS_A, 1000, 300000);
    }
    rig_settle(&rig);
    for (size_t i = 0; i != 200; ++i)
        expect_last(watches[i].record, GW_DNS_NO_NAME);
    assert_int_equal(gw_dns_totals(rig.dns)->queries, 200);
}

static void what_another_resolver_has_found_out_is_not_asked_for_again(void **state)
{
    struct gw_dns_watch early = {.min_ttl_ms = 1000, .max_ttl_ms = 300000, .on_answer = on_answer};
    struct gw_dns *later = gw_dns_create(rig_now(&rig));
    gw_dns_configure(later, &rig.conf);
    peer_set(rig.peers, "a.example", GW_DNS_A, 100, "10.0.0.1", NULL);
    watch(0, "a.example", GW_DNS_A, 1000, 300000);
    watch(1, "gone.example", GW_DNS_A, 1000, 300000);
    rig_settle(&rig);
    gw_dns_watch(later, &early, "a.example", GW_DNS_A, rig_now(&rig));
    gw_dns_unwatch(&watches[0]);
    gw_dns_unwatch(&watches[1]);
    gw_dns_adopt(later, rig.dns, rig_now(&rig));
    assert_true(gw_dns_knows(later, "A.example", GW_DNS_A));
    assert_true(gw_dns_knows(later, "gone.example", GW_DNS_A));
    assert_false(gw_dns_knows(later, "a.example", GW_DNS_AAAA));
    expect_address(early.record, 0, "10.0.0.1");
    assert_int_equal(gw_dns_totals(later)->queries, 2);
    gw_dns_run(later, rig_now(&rig));
    assert_int_equal(num_told, 3);
    gw_dns_destroy(later);
    rig_settle(&rig);
    assert_int_equal(rig.peers[0].num_questions, 2);
}

static void write_file(const char *path, const char *format, ...)
{
    va_list args;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fclose(file);
}

static void servers_and_search_domains_of_the_system_are_used_and_followed(void **state)
{
    char path[] = "/tmp/weir-resolv-XXXXXX", path_new[64];
    struct gw_resolver_conf conf = {.timeout_ms = 300, .attempts = 1, .retry_ms = 1000, .max_retry_ms = 30000};
    close(mkstemp(path));
    snprintf(path_new, sizeof(path_new), "%s.new", path);
    write_file(path, "search x.example y.example\nnameserver 127.0.0.2\nnameserver ::1\noptions ndots:3\n");
    gw_dns_set_system_file(rig.dns, path);
    gw_dns_configure(rig.dns, &conf);
    assert_string_equal(gw_dns_server_name(rig.dns, 0), "127.0.0.2:53");
    assert_string_equal(gw_dns_server_name(rig.dns, 1), "[::1]:53");
    assert_null(gw_dns_server_name(rig.dns, 2));
    write_file(path_new, "nameserver 127.0.0.3\n");
    assert_int_equal(rename(path_new, path), 0);
    watch(0, "a.example", GW_DNS_A, 1000, 300000);
    rig_sleep(&rig, 6000);
    assert_string_equal(gw_dns_server_name(rig.dns, 0), "127.0.0.3:53");
    unlink(path);
}

static void addresses_of_servers_are_read_with_and_without_port(void **state)
{
    static const char *const good[] = {"10.0.0.2", "127.0.0.1:5353", "::1", "[::1]:5353"};
    static const char *const bad[] = {"",     "dns.example", "dns.example:53", ":53",
                                      "*:53", "10.0.0.2:0",  "unix:/x",        "[::1"};
    struct sockaddr_storage sa;
    for (size_t i = 0; i != sizeof(good) / sizeof(good[0]); ++i)
        assert_true(gw_dns_server_parse(h2o_iovec_init(good[i], strlen(good[i])), &sa));
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i)
        assert_false(gw_dns_server_parse(h2o_iovec_init(bad[i], strlen(bad[i])), &sa));
}

int main(void)
{
#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, setup_two, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_told_and_kept_until_its_ttl_has_passed),
        TEST(a_ttl_of_zero_is_raised_to_the_floor),
        TEST(a_long_ttl_is_cut_to_the_ceiling),
        TEST(many_who_ask_for_one_name_share_one_question),
        TEST(the_most_impatient_of_those_who_share_a_name_sets_the_pace),
        TEST(a_name_that_nobody_wants_is_asked_for_no_more),
        TEST(a_watch_that_ends_while_its_question_is_under_way_is_told_nothing),
        TEST(the_last_good_answer_outlives_every_failure),
        TEST(a_server_that_is_not_there_is_unreachable),
        TEST(pauses_between_failures_double_up_to_their_bound),
        TEST_TWO(the_next_server_is_asked_when_one_fails),
        TEST(a_truncated_answer_is_asked_for_over_tcp),
        TEST(three_thousand_addresses_are_taken),
        TEST(a_name_that_does_not_exist_is_an_answer_and_soon_asked_again),
        TEST(short_names_are_looked_up_in_the_search_domains_first),
        TEST(a_failure_in_a_search_domain_is_not_taken_for_a_missing_name),
        TEST_TWO(questions_under_way_go_to_the_new_servers_when_they_change),
        TEST(answers_stay_when_the_configuration_changes),
        TEST(two_hundred_names_are_asked_for_and_answered),
        TEST(what_another_resolver_has_found_out_is_not_asked_for_again),
        TEST(servers_and_search_domains_of_the_system_are_used_and_followed),
        cmocka_unit_test(addresses_of_servers_are_read_with_and_without_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
