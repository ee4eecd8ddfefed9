#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>
#include "gateway/base/ip.h"

static h2o_iovec_t slice(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static struct gw_ip ip_of(const char *text)
{
    struct gw_ip ip;
    if (!gw_ip_parse(slice(text), &ip))
        fail_msg("%s is not read", text);
    return ip;
}

static void addresses_are_read_and_written_in_canonical_form(void **state)
{
    static const char *const cases[][2] = {
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"192.0.2.10", "192.0.2.10"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"[::1]", "::1"},
        {"[2001:DB8::1]", "2001:db8::1"},
        {"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"}, /* RFC 5952 4.2.2: a single group stays */
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},          /* 4.2.3: the longest run */
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},    /* 4.2.3: the first of equal runs */
        {"1:0:0:2:0:0:0:0", "1:0:0:2::"},
        {"0:0:1:0:0:0:0:0", "0:0:1::"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::ffff:c000:201", "192.0.2.1"},
        {"::192.0.2.1", "::c000:201"},
        {"fe80::abcd:10:0:1", "fe80::abcd:10:0:1"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char buf[46];
        struct gw_ip ip = ip_of(cases[i][0]);
        assert_int_equal(gw_ip_format(&ip, buf), strlen(cases[i][1]));
        assert_string_equal(buf, cases[i][1]);
    }
}

static void written_form_is_read_back_as_the_same_address(void **state)
{
    uint64_t seed = 1;
    for (int i = 0; i != 200000; ++i) {
        struct gw_ip ip, again;
        char buf[46], system_buf[46];
        for (int k = 0; k != 16; ++k) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            /* many zeros, so that runs of all lengths come up */
            ip.bytes[k] = (seed >> 40) % 3 == 0 ? (uint8_t)(seed >> 56) : 0;
        }
        size_t len = gw_ip_format(&ip, buf);
        assert_true(len < sizeof(buf));
        assert_true(gw_ip_parse(h2o_iovec_init(buf, len), &again));
        assert_memory_equal(&ip, &again, sizeof(ip));
        /* libc writes ::1.2.3.4 for the deprecated v4-compatible addresses; else the same */
        inet_ntop(AF_INET6, ip.bytes, system_buf, sizeof(system_buf));
        if (strchr(system_buf, '.') == NULL)
            assert_string_equal(buf, system_buf);
    }
}

static void malformed_addresses_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "1",
                                        "1.2",
                                        "1.2.3",
                                        "1.2.3.4.5",
                                        "1.2.3.256",
                                        "01.2.3.4",
                                        "1.2.3.04",
                                        "1.2.3.",
                                        ".1.2.3",
                                        "1..2.3",
                                        "1.2.3.4 ",
                                        " 1.2.3.4",
                                        "+1.2.3.4",
                                        "0x1.2.3.4",
                                        "1.2.3.4/8",
                                        ":",
                                        ":::",
                                        "1::2::3",
                                        "12345::",
                                        "::g",
                                        "[::1",
                                        "::1]",
                                        "[]",
                                        "[1.2.3.4]",
                                        "1:2:3:4:5:6:7",
                                        "1:2:3:4:5:6:7:8:9",
                                        "fe80::1%eth0",
                                        "::1.2.3",
                                        "::ffff:1.2.3.256",
                                        "localhost",
                                        "1.2.3.4:80",
                                        "[::1]:80",
                                        "99999999999999999999.1.1.1"};
    struct gw_ip ip;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (gw_ip_parse(slice(cases[i]), &ip))
            fail_msg("%s was read", cases[i]);
    assert_false(gw_ip_parse(h2o_iovec_init("::1\0", 4), &ip));
}

static void sockaddrs_become_addresses(void **state)
{
    struct gw_ip ip, expected = ip_of("192.0.2.1");
    struct sockaddr_in sin = {.sin_family = AF_INET};
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    inet_pton(AF_INET, "192.0.2.1", &sin.sin_addr);
    assert_true(gw_ip_from_sockaddr((void *)&sin, &ip));
    assert_memory_equal(&ip, &expected, sizeof(ip));
    assert_true(gw_ip_is_v4(&ip));
    inet_pton(AF_INET6, "::ffff:192.0.2.1",
              &sin6.sin6_addr); /* a v4 client on a dual-stack socket is the same client */
    assert_true(gw_ip_from_sockaddr((void *)&sin6, &ip));
    assert_memory_equal(&ip, &expected, sizeof(ip));
    inet_pton(AF_INET6, "2001:db8::1", &sin6.sin6_addr);
    assert_true(gw_ip_from_sockaddr((void *)&sin6, &ip));
    assert_false(gw_ip_is_v4(&ip));
    assert_false(gw_ip_from_sockaddr((void *)&sun, &ip));
    expected = ip_of("::");
    assert_memory_equal(&ip, &expected, sizeof(ip));
}

static void networks_contain_their_addresses_and_no_others(void **state)
{
    static const struct {
        const char *network, *inside, *outside;
    } cases[] = {
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
        {"192.0.2.128/25", "192.0.2.200", "192.0.2.127"},
        {"192.0.2.4/30", "192.0.2.7", "192.0.2.8"},
        {"192.0.2.4", "192.0.2.4", "192.0.2.5"},
        {"192.0.2.4/32", "::ffff:192.0.2.4", "::192.0.2.4"},
        {"0.0.0.0/0", "255.1.2.3", "::1"},
        {"::/0", "1.2.3.4", NULL},
        {"::ffff:0:0/96", "1.2.3.4", "::1"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"},
        {"[2001:db8::]/127", "2001:db8::1", "2001:db8::2"},
        {"::1", "::1", "::2"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_cidr cidr;
        struct gw_ip inside = ip_of(cases[i].inside);
        if (!gw_cidr_parse(slice(cases[i].network), &cidr) || !gw_cidr_contains(&cidr, &inside))
            fail_msg("%s does not contain %s", cases[i].network, cases[i].inside);
        if (cases[i].outside != NULL) {
            struct gw_ip outside = ip_of(cases[i].outside);
            if (gw_cidr_contains(&cidr, &outside))
                fail_msg("%s contains %s", cases[i].network, cases[i].outside);
        }
    }
}

static void malformed_networks_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "/",
                                        "/8",
                                        "10.0.0.0/",
                                        "10.0.0.0/33",
                                        "10.0.0.1/8",
                                        "10.0.0.0/-1",
                                        "10.0.0.0/08",
                                        "10.0.0.0/8 ",
                                        "10.0.0/8",
                                        "::/129",
                                        "::1/127",
                                        "::/",
                                        "10.0.0.0/8/8",
                                        "x/8",
                                        "2001:db8::1/64",
                                        "0.0.0.1/0",
                                        "10.0.0.0/+8"};
    struct gw_cidr cidr;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (gw_cidr_parse(slice(cases[i]), &cidr))
            fail_msg("%s was read", cases[i]);
}

static void any_network_of_a_list_is_enough(void **state)
{
    struct gw_cidr entries[2];
    struct gw_cidrs cidrs = {entries, 2}, none = {NULL, 0};
    struct gw_ip first = ip_of("10.1.2.3"), second = ip_of("::1"), other = ip_of("192.0.2.1");
    gw_cidr_parse(slice("10.0.0.0/8"), &entries[0]);
    gw_cidr_parse(slice("::1"), &entries[1]);
    assert_true(gw_cidrs_contain(&cidrs, &first));
    assert_true(gw_cidrs_contain(&cidrs, &second));
    assert_false(gw_cidrs_contain(&cidrs, &other));
    assert_false(gw_cidrs_contain(&none, &first));
}

static h2o_mem_pool_t pool;

static int set_up(void **state)
{
    h2o_mem_init_pool(&pool);
    return 0;
}

static int tear_down(void **state)
{
    h2o_mem_clear_pool(&pool);
    return 0;
}

static void endpoints_are_read(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        int family;
        const char *ip;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080, AF_INET, "127.0.0.1"},
        {"[::1]:1", "::1", 1, AF_INET6, "::1"},
        {"*:80", "::", 80, AF_INET6, "::"},
        {":65535", "::", 65535, AF_INET6, "::"},
        {"0.0.0.0:443", "0.0.0.0", 443, AF_INET, "0.0.0.0"},
        {"[::ffff:192.0.2.1]:9", "::ffff:192.0.2.1", 9, AF_INET, "192.0.2.1"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_address address;
        struct gw_ip ip, expected = ip_of(cases[i].ip);
        const char *why = NULL;
        if (!gw_address_parse(&pool, slice(cases[i].text), false, &address, &why))
            fail_msg("%s: %s", cases[i].text, why);
        assert_string_equal(address.text.base, cases[i].text);
        assert_string_equal(address.host.base, cases[i].host);
        assert_int_equal(address.port, cases[i].port);
        assert_false(address.is_unix || address.is_name);
        assert_int_equal(address.sa.ss_family, cases[i].family);
        assert_true(gw_ip_from_sockaddr((void *)&address.sa, &ip));
        assert_memory_equal(&ip, &expected, sizeof(ip));
        if (cases[i].family == AF_INET) {
            assert_int_equal(address.sa_len, sizeof(struct sockaddr_in));
            assert_int_equal(ntohs(((struct sockaddr_in *)(void *)&address.sa)->sin_port), cases[i].port);
        } else {
            assert_int_equal(address.sa_len, sizeof(struct sockaddr_in6));
            assert_int_equal(ntohs(((struct sockaddr_in6 *)(void *)&address.sa)->sin6_port), cases[i].port);
        }
    }
}

static void unix_sockets_are_read(void **state)
{
    struct gw_address address;
    const char *why;
    assert_true(gw_address_parse(&pool, slice("unix:/run/weir/admin.sock"), false, &address, &why));
    assert_true(address.is_unix);
    assert_int_equal(address.port, 0);
    assert_string_equal(address.host.base, "/run/weir/admin.sock");
    assert_int_equal(address.sa.ss_family, AF_UNIX);
    assert_string_equal(((struct sockaddr_un *)(void *)&address.sa)->sun_path, "/run/weir/admin.sock");
}

static void names_are_read_where_they_are_allowed(void **state)
{
    static const char *const names[] = {
        "localhost:80", "api.example.com:443", "my_service:9001", "a-b.c1:1", "example.com.:80", "1and1.com:80", "x:1"};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i) {
        struct gw_address address;
        const char *why = NULL;
        if (!gw_address_parse(&pool, slice(names[i]), true, &address, &why))
            fail_msg("%s: %s", names[i], why);
        assert_true(address.is_name);
        assert_int_equal(address.sa_len, 0);
        assert_false(gw_address_parse(&pool, slice(names[i]), false, &address, &why));
        assert_non_null(strstr(why, "host name"));
    }
}

static void malformed_endpoints_are_refused_with_a_sentence(void **state)
{
    char long_path[200] = "unix:/", long_label[80], long_name[400] = "";
    memset(long_path + 6, 'x', 150);
    memset(long_label, 'x', 64);
    memcpy(long_label + 64, ".com:80", 8);
    for (int i = 0; i != 50; ++i)
        strcat(long_name, "abcde.");
    strcat(long_name, "com:80");
    const char *const cases[][2] = {
        {"", "port is missing"},
        {"127.0.0.1", "port is missing"},
        {"127.0.0.1:", "port is missing"},
        {"[::1]", "port is missing"},
        {"8080", "port is missing"},
        {"127.0.0.1:0", "1 to 65535"},
        {"127.0.0.1:65536", "1 to 65535"},
        {"127.0.0.1:080", "1 to 65535"},
        {"127.0.0.1:http", "1 to 65535"},
        {"127.0.0.1:80x", "1 to 65535"},
        {"127.0.0.1:-1", "1 to 65535"},
        {"::1:80", "brackets"},
        {"[::g]:80", "not an IPv6 address"},
        {"[127.0.0.1]:80", "not an IPv6 address"},
        {"[]:80", "not an IPv6 address"},
        {"256.0.0.1:80", "not an address"},
        {"1.2.3:80", "not an address"},
        {"-a.com:80", "not an address"},
        {"a-.com:80", "not an address"},
        {"a..b:80", "not an address"},
        {"a b:80", "not an address"},
        {"http://a:80", "brackets"},
        {long_label, "not an address"},
        {long_name, "not an address"},
        {"unix:", "begin with /"},
        {"unix:run/x", "begin with /"},
        {long_path, "107 bytes"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_address address;
        const char *why = "";
        if (gw_address_parse(&pool, slice(cases[i][0]), true, &address, &why) || strstr(why, cases[i][1]) == NULL)
            fail_msg("%s: %s", cases[i][0], why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written_in_canonical_form),
        cmocka_unit_test(written_form_is_read_back_as_the_same_address),
        cmocka_unit_test(malformed_addresses_are_refused),
        cmocka_unit_test(sockaddrs_become_addresses),
        cmocka_unit_test(networks_contain_their_addresses_and_no_others),
        cmocka_unit_test(malformed_networks_are_refused),
        cmocka_unit_test(any_network_of_a_list_is_enough),
        cmocka_unit_test_setup_teardown(endpoints_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_sockets_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_read_where_they_are_allowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(malformed_endpoints_are_refused_with_a_sentence, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("base/ip", tests, NULL, NULL);
}
