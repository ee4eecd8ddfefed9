/* What a dns: entry stands for, as answers, failures and gaps follow each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <h2o/string_.h>
#include "gateway/discovery/dns_target.h"
#include "peer.h"

static struct rig rig;
static struct gw_dns_target *target;
static unsigned num_news;

static void on_news(void *data) { ++num_news; }

static int setup(void **state)
{
    num_news = 0;
    rig_open(&rig, 1);
    return 0;
}

static int teardown(void **state)
{
    gw_dns_target_destroy(target);
    target = NULL;
    rig_close(&rig);
    return 0;
}

static const struct gw_dns_target_conf of_addresses = {.name = "users.example",
                                                       .port = 8080,
                                                       .wants_a = true,
                                                       .min_ttl_ms = 1000,
                                                       .max_ttl_ms = 300000,
                                                       .grace_ms = 30000};

static void create(const struct gw_dns_target_conf *conf)
{
    target = gw_dns_target_create(rig.dns, conf, rig_now(&rig), on_news, NULL);
    rig_settle(&rig);
}

static void create_srv(void)
{
    struct gw_dns_target_conf conf = of_addresses;
    conf.name = "_http._tcp.users.example";
    conf.port = 0;
    conf.wants_a = false;
    conf.wants_srv = true;
    create(&conf);
}

/* "10.0.0.1:8080*1 ...", in order of the addresses. */
static int compare_texts(const void *a, const void *b) { return strcmp(a, b); }
static void expect(const char *expected)
{
    char texts[16][96], all[2048] = "";
    size_t size, len = 0;
    const struct gw_dns_address *addresses = gw_dns_target_addresses(target, &size);
    assert_true(size <= 16);
    for (size_t i = 0; i != size; ++i) {
        char ip[46];
        gw_ip_format(&addresses[i].ip, ip);
        snprintf(texts[i], sizeof(texts[i]), "%s:%u*%u", ip, addresses[i].port, addresses[i].weight);
    }
    qsort(texts, size, sizeof(texts[0]), compare_texts);
    for (size_t i = 0; i != size; ++i)
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i != 0 ? " " : "", texts[i]);
    assert_string_equal(all, expected);
}

static void expect_error(const char *part)
{
    char text[512] = "";
    bool has = gw_dns_target_error(target, text, sizeof(text));
    assert_int_equal(has, part != NULL);
    if (part != NULL && strstr(text, part) == NULL)
        assert_string_equal(text, part);
}

static void a_name_stands_for_its_addresses_and_follows_them(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", "10.0.0.2", NULL);
    create(&of_addresses);
    expect("10.0.0.1:8080*1 10.0.0.2:8080*1");
    expect_error(NULL);
    uint64_t version = gw_dns_target_version(target);
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.2", "10.0.0.1", NULL);
    rig_sleep(&rig, 6000);
    assert_int_equal(gw_dns_target_version(target), version); /* another order is no change */
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.2", "10.0.0.3", NULL);
    rig_sleep(&rig, 6000);
    expect("10.0.0.2:8080*1 10.0.0.3:8080*1");
    assert_int_equal(gw_dns_target_version(target), version + 1);
}

static void both_families_are_taken_together(void **state)
{
    struct gw_dns_target_conf conf = of_addresses;
    conf.wants_aaaa = true;
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    peer_set(rig.peers, "users.example", GW_DNS_AAAA, 5, "::ffff:10.0.0.2", NULL); /* there is always a route to it */
    create(&conf);
    expect("10.0.0.1:8080*1 10.0.0.2:8080*1");
    peer_set_error(rig.peers, "users.example", GW_DNS_AAAA, 0);
    rig_sleep(&rig, 6000);
    expect("10.0.0.1:8080*1");
    expect_error(NULL); /* a host without AAAA records is a host */
}

static void only_what_a_type_asks_for_is_asked(void **state)
{
    struct gw_dns_target_conf conf = of_addresses;
    conf.wants_a = false;
    conf.wants_aaaa = true;
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    peer_set(rig.peers, "users.example", GW_DNS_AAAA, 5, "2001:db8::1", NULL);
    create(&conf);
    expect("2001:db8::1:8080*1");
    assert_int_equal(rig.peers[0].num_questions, 1);
}

static void addresses_stay_while_the_server_fails(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    create(&of_addresses);
    peer_set_error(rig.peers, "users.example", GW_DNS_A, 2);
    for (int i = 0; i != 20; ++i)
        rig_sleep(&rig, 60000);
    expect("10.0.0.1:8080*1");
    expect_error("SERVFAIL");
    expect_error("the last answer stays");
}

static void addresses_of_a_name_that_is_gone_leave_after_their_grace(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    create(&of_addresses);
    peer_set_error(rig.peers, "users.example", GW_DNS_A, 3)->negative_ttl_s = 2;
    rig_sleep(&rig, 6000);
    expect("10.0.0.1:8080*1");
    expect_error("its targets leave soon");
    rig_sleep(&rig, 25000);
    expect("10.0.0.1:8080*1");
    unsigned before = num_news;
    rig_sleep(&rig, 6000);
    expect("");
    assert_true(num_news > before);
    expect_error("NXDOMAIN");
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.7", NULL);
    rig_sleep(&rig, 6000);
    expect("10.0.0.7:8080*1");
    expect_error(NULL);
}

static void a_name_that_comes_back_in_time_keeps_its_addresses(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    create(&of_addresses);
    uint64_t version = gw_dns_target_version(target);
    peer_set_error(rig.peers, "users.example", GW_DNS_A, 0)->negative_ttl_s = 2;
    rig_sleep(&rig, 6000);
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    for (int i = 0; i != 10; ++i)
        rig_sleep(&rig, 6000);
    expect("10.0.0.1:8080*1");
    assert_int_equal(gw_dns_target_version(target), version);
}

static void a_server_that_fails_in_the_grace_gives_no_reason_to_stay_longer(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    create(&of_addresses);
    peer_set_error(rig.peers, "users.example", GW_DNS_A, 3)->negative_ttl_s = 2;
    rig_sleep(&rig, 6000);
    peer_set_error(rig.peers, "users.example", GW_DNS_A, 2);
    rig_sleep(&rig, 31000);
    expect("");
}

static void services_bring_port_and_weight_and_the_lowest_priority_is_used(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "10 3 8001 a.example", "10 1 8002 b.example",
             "20 1 8003 c.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    peer_set(rig.peers, "b.example", GW_DNS_A, 5, "10.0.0.2", NULL);
    peer_set(rig.peers, "c.example", GW_DNS_A, 5, "10.0.0.3", NULL);
    create_srv();
    expect("10.0.0.1:8001*3 10.0.0.2:8002*1");
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "20 1 8003 c.example", NULL);
    rig_sleep(&rig, 6000);
    expect("10.0.0.3:8003*1");
}

static void the_next_priority_is_used_when_a_lower_one_has_no_addresses(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "10 1 8001 a.example", "20 1 8003 c.example", NULL);
    peer_set(rig.peers, "c.example", GW_DNS_A, 5, "10.0.0.3", NULL);
    create_srv();
    expect("10.0.0.3:8003*1");
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    rig_sleep(&rig, 31000);
    expect("10.0.0.1:8001*1");
}

static void a_weight_is_that_of_the_server_however_many_addresses_it_has(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "1 10 80 a.example", "1 10 80 b.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.1", "10.0.0.2", NULL);
    peer_set(rig.peers, "b.example", GW_DNS_A, 5, "10.0.0.3", NULL);
    create_srv();
    expect("10.0.0.1:80*5 10.0.0.2:80*5 10.0.0.3:80*10");
}

static void large_weights_keep_their_proportion_and_zero_is_little(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "1 60000 80 a.example", "1 30000 80 b.example",
             "1 0 80 c.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    peer_set(rig.peers, "b.example", GW_DNS_A, 5, "10.0.0.2", NULL);
    peer_set(rig.peers, "c.example", GW_DNS_A, 5, "10.0.0.3", NULL);
    create_srv();
    expect("10.0.0.1:80*999 10.0.0.2:80*500 10.0.0.3:80*1");
}

static void addresses_of_a_service_have_ttls_of_their_own(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 300, "1 1 80 a.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.1", NULL);
    peer_set_error(rig.peers, "a.example", GW_DNS_AAAA, 0)->negative_ttl_s = 300;
    create_srv();
    peer_set(rig.peers, "a.example", GW_DNS_A, 5, "10.0.0.2", NULL);
    unsigned before = rig.peers[0].num_questions;
    rig_sleep(&rig, 6000);
    expect("10.0.0.2:80*1");
    assert_int_equal(rig.peers[0].num_questions, before + 1);
}

static void new_servers_of_a_service_wait_until_their_addresses_are_there(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "1 1 80 a.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 300, "10.0.0.1", NULL);
    create_srv();
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "1 1 80 b.example", NULL);
    peer_set_error(rig.peers, "b.example", GW_DNS_A, 2);
    peer_set_error(rig.peers, "b.example", GW_DNS_AAAA, 2);
    for (int i = 0; i != 20; ++i)
        rig_sleep(&rig, 6000);
    expect("10.0.0.1:80*1"); /* nobody can say where b is: what was there stays */
    peer_set(rig.peers, "b.example", GW_DNS_A, 300, "10.0.0.2", NULL);
    rig_sleep(&rig, 31000);
    expect("10.0.0.2:80*1");
}

static void a_service_that_is_not_offered_here_has_no_addresses_after_its_grace(void **state)
{
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "1 1 80 a.example", NULL);
    peer_set(rig.peers, "a.example", GW_DNS_A, 300, "10.0.0.1", NULL);
    create_srv();
    peer_set(rig.peers, "_http._tcp.users.example", GW_DNS_SRV, 5, "0 0 0 .", NULL);
    rig_sleep(&rig, 6000);
    expect("10.0.0.1:80*1");
    rig_sleep(&rig, 31000);
    expect("");
}

static void addresses_need_nobody_to_be_asked(void **state)
{
    struct gw_dns_target_conf conf = of_addresses;
    conf.name = "10.1.2.3";
    create(&conf);
    expect("10.1.2.3:8080*1");
    gw_dns_target_destroy(target);
    conf.name = "LOCALHOST";
    create(&conf);
    expect("127.0.0.1:8080*1");
    gw_dns_target_destroy(target);
    conf.name = "2001:db8::5";
    create(&conf);
    expect("2001:db8::5:8080*1");
    assert_true(gw_dns_target_has_ended(target));
    assert_int_equal(rig.peers[0].num_questions, 0);
}

static void what_is_known_is_there_at_once(void **state)
{
    peer_set(rig.peers, "users.example", GW_DNS_A, 100, "10.0.0.1", NULL);
    create(&of_addresses);
    struct gw_dns_target *first = target;
    target = gw_dns_target_create(rig.dns, &of_addresses, rig_now(&rig), on_news, NULL);
    expect("10.0.0.1:8080*1");
    assert_true(gw_dns_target_has_ended(target));
    gw_dns_target_destroy(first);
    rig_settle(&rig);
    assert_int_equal(rig.peers[0].num_questions, 1);
}

static void other_bounds_hold_at_once(void **state)
{
    struct gw_dns_target_conf conf = of_addresses;
    peer_set(rig.peers, "users.example", GW_DNS_A, 250, "10.0.0.1", NULL);
    create(&conf);
    conf.max_ttl_ms = 10000;
    gw_dns_target_change(target, &conf, rig_now(&rig));
    rig_sleep(&rig, 11000);
    assert_int_equal(rig.peers[0].num_questions, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_name_stands_for_its_addresses_and_follows_them),
        TEST(both_families_are_taken_together),
        TEST(only_what_a_type_asks_for_is_asked),
        TEST(addresses_stay_while_the_server_fails),
        TEST(addresses_of_a_name_that_is_gone_leave_after_their_grace),
        TEST(a_name_that_comes_back_in_time_keeps_its_addresses),
        TEST(a_server_that_fails_in_the_grace_gives_no_reason_to_stay_longer),
        TEST(services_bring_port_and_weight_and_the_lowest_priority_is_used),
        TEST(the_next_priority_is_used_when_a_lower_one_has_no_addresses),
        TEST(a_weight_is_that_of_the_server_however_many_addresses_it_has),
        TEST(large_weights_keep_their_proportion_and_zero_is_little),
        TEST(addresses_of_a_service_have_ttls_of_their_own),
        TEST(new_servers_of_a_service_wait_until_their_addresses_are_there),
        TEST(a_service_that_is_not_offered_here_has_no_addresses_after_its_grace),
        TEST(addresses_need_nobody_to_be_asked),
        TEST(what_is_known_is_there_at_once),
        TEST(other_bounds_hold_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
