#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <h2o/string_.h>
#include "gateway/http/proxy_protocol.h"

#define TEXT(literal) h2o_iovec_init(H2O_STRLIT(literal))

static struct gw_ip ip_of(const char *text)
{
    struct gw_ip ip;
    assert_true(gw_ip_parse(h2o_iovec_init(text, strlen(text)), &ip));
    return ip;
}

static struct gw_proxy_header header_of(const char *source, uint16_t source_port, const char *destination,
                                        uint16_t destination_port)
{
    return (struct gw_proxy_header){.has_addresses = true,
                                    .source = ip_of(source),
                                    .source_port = source_port,
                                    .destination = ip_of(destination),
                                    .destination_port = destination_port};
}

/* ---- writing ---- */

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void assert_written(const struct gw_proxy_header *header, bool with_crc, const char *expected, size_t len)
{
    char bytes[GW_PROXY_V2_BOUND];
    assert_int_equal(gw_proxy_protocol_write_v2(header, with_crc, bytes, sizeof(bytes)), len);
    assert_memory_equal(bytes, expected, len);
    for (size_t room = 0; room != len; ++room) {
        char *exact = malloc(room + 1);
        assert_int_equal(gw_proxy_protocol_write_v2(header, with_crc, exact, room), 0);
        free(exact);
    }
}
#define ASSERT_WRITTEN(header, with_crc, literal) assert_written(header, with_crc, literal, sizeof(literal) - 1)

static void addresses_are_written_in_network_order(void **state)
{
    struct gw_proxy_header v4 = header_of("192.0.2.1", 0x1234, "198.51.100.2", 443);
    ASSERT_WRITTEN(&v4, false,
                   SIGNATURE "\x21\x11\x00\x0c"
                             "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x01\xbb");
    struct gw_proxy_header v6 = header_of("2001:db8::1", 1, "2001:db8::2", 65535);
    ASSERT_WRITTEN(&v6, false,
                   SIGNATURE "\x21\x21\x00\x24"
                             "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                             "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x00\x01\xff\xff");
}

static void addresses_of_two_families_are_both_written_as_ipv6(void **state)
{
    struct gw_proxy_header mixed = header_of("192.0.2.1", 1, "2001:db8::2", 2);
    ASSERT_WRITTEN(&mixed, false,
                   SIGNATURE "\x21\x21\x00\x24"
                             "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
                             "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x00\x01\x00\x02");
}

static void a_health_check_is_written_as_local_without_addresses(void **state)
{
    struct gw_proxy_header local = header_of("192.0.2.1", 1, "192.0.2.2", 2);
    local.is_local = true;
    ASSERT_WRITTEN(&local, false, SIGNATURE "\x20\x00\x00\x00");
    struct gw_proxy_header unknown = {0};
    ASSERT_WRITTEN(&unknown, false, SIGNATURE "\x21\x00\x00\x00");
}

static void tlvs_are_written_with_their_lengths(void **state)
{
    struct gw_proxy_header header = {.alpn = TEXT("h2"),
                                     .authority = TEXT("a.example"),
                                     .unique_id = TEXT("id7"),
                                     .vpc_endpoint = TEXT("vpce-1"),
                                     .has_ssl = true,
                                     .ssl_client = GW_PROXY_SSL | GW_PROXY_SSL_CERT_CONN,
                                     .is_ssl_verified = true,
                                     .ssl_version = TEXT("TLSv1.3"),
                                     .ssl_common_name = TEXT("eve"),
                                     .ssl_cipher = TEXT("X")};
    ASSERT_WRITTEN(&header, false,
                   SIGNATURE "\x21\x00\x00\x3d"
                             "\x01\x00\x02h2"
                             "\x02\x00\x09"
                             "a.example"
                             "\x05\x00\x03id7"
                             "\x20\x00\x19\x03\0\0\0\0"
                             "\x21\x00\x07TLSv1.3"
                             "\x22\x00\x03"
                             "eve"
                             "\x23\x00\x01X"
                             "\xea\x00\x07\x01vpce-1");
    header = (struct gw_proxy_header){.has_ssl = true, .ssl_client = GW_PROXY_SSL | GW_PROXY_SSL_CERT_CONN};
    ASSERT_WRITTEN(&header, false, SIGNATURE "\x21\x00\x00\x08\x20\x00\x05\x03\0\0\0\x01");
}

static void the_checksum_is_that_of_rfc_3309_over_the_whole_header(void **state)
{
    assert_int_equal(gw_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(gw_crc32c(gw_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    char bytes[GW_PROXY_V2_BOUND];
    struct gw_proxy_header header = header_of("192.0.2.1", 1, "192.0.2.2", 2);
    size_t len = gw_proxy_protocol_write_v2(&header, true, bytes, sizeof(bytes));
    assert_int_equal(len, 16 + 12 + 7);
    assert_int_equal(bytes[15], 12 + 7);
    assert_memory_equal(bytes + 28, "\x03\x00\x04", 3);
    uint8_t sum[4];
    memcpy(sum, bytes + 31, 4);
    memset(bytes + 31, 0, 4);
    assert_int_equal((uint32_t)sum[0] << 24 | sum[1] << 16 | sum[2] << 8 | sum[3], gw_crc32c(0, bytes, len));
}

static void ids_above_128_bytes_are_not_written(void **state)
{
    char id[129] = {0}, bytes[GW_PROXY_V2_BOUND];
    struct gw_proxy_header header = {.unique_id = h2o_iovec_init(id, 128)};
    assert_int_not_equal(gw_proxy_protocol_write_v2(&header, false, bytes, sizeof(bytes)), 0);
    header.unique_id.len = 129;
    assert_int_equal(gw_proxy_protocol_write_v2(&header, false, bytes, sizeof(bytes)), 0);
}

/* ---- reading ---- */

/* Every piece in memory of its own size; what is less than the whole must be answered with MORE. */
static enum gw_proxy_result parse(const char *bytes, size_t len, struct gw_proxy_header *header, size_t *consumed,
                                  const char **why)
{
    static char *kept;
    enum gw_proxy_result result = GW_PROXY_MORE;
    for (size_t n = 1; n <= len && result == GW_PROXY_MORE; ++n) {
        free(kept);
        kept = malloc(n);
        memcpy(kept, bytes, n);
        *consumed = SIZE_MAX;
        *why = NULL;
        result = gw_proxy_protocol_parse(kept, n, header, consumed, why);
        assert_true(result != GW_PROXY_OK || *consumed == n);
        assert_int_equal(result == GW_PROXY_BAD, *why != NULL);
    }
    return result;
}

#define RAW(literal) literal, sizeof(literal) - 1
#define V2(rest)     SIGNATURE rest

static void assert_ip(const struct gw_ip *ip, const char *expected)
{
    char text[46];
    gw_ip_format(ip, text);
    assert_string_equal(text, expected);
}

static void lines_of_version_1_are_read(void **state)
{
    static const struct {
        const char *line, *source, *destination;
        uint16_t source_port, destination_port;
    } good[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", "192.0.2.1", "198.51.100.2", 56324, 443},
        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", "255.255.255.255", 65535,
         65535},
        {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0", "0.0.0.0", 0, 0},
        {"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1", "::1", 1, 2},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 65535},
    };
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    for (size_t i = 0; i != sizeof(good) / sizeof(good[0]); ++i) {
        assert_int_equal(parse(good[i].line, strlen(good[i].line), &header, &consumed, &why), GW_PROXY_OK);
        assert_true(header.has_addresses && !header.is_local && header.version == 1);
        assert_ip(&header.source, good[i].source);
        assert_ip(&header.destination, good[i].destination);
        assert_int_equal(header.source_port, good[i].source_port);
        assert_int_equal(header.destination_port, good[i].destination_port);
    }
}

static void what_follows_unknown_is_ignored(void **state)
{
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    assert_int_equal(parse(RAW("PROXY UNKNOWN\r\n"), &header, &consumed, &why), GW_PROXY_OK);
    assert_false(header.has_addresses);
    static const char longest[] = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    _Static_assert(sizeof(longest) - 1 == GW_PROXY_V1_MAX, "the longest line of the text (2.1)");
    assert_int_equal(parse(RAW(longest), &header, &consumed, &why), GW_PROXY_OK);
    assert_false(header.has_addresses);
}

static void lines_that_break_a_rule_are_bad(void **state)
{
    static const char *const bad[] = {
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324  443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 99999999999999999999\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 443\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY TCP6 [2001:db8::1] [::1] 1 443\r\n",
        "PROXY TCP6 2001:db8::1%lo ::1 1 443\r\n",
        "PROXY TCP4 192.0.2.1\t198.51.100.2 1 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY TCP4 \r\n",
        "PROXY \r\n",
        "PROXY \n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535 "
        "\r\n",
    };
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i)
        if (parse(bad[i], strlen(bad[i]), &header, &consumed, &why) != GW_PROXY_BAD)
            fail_msg("taken: %s", bad[i]);
}

static void other_protocols_are_told_from_headers_by_their_first_bytes(void **state)
{
    static const char *const others[] = {"GET / HTTP/1.1\r\n", "\x16\x03\x01", "\r\nGET", "\r\n\r\nG",
                                         "PRI * HTTP/2.0\r\n", "PROXYTCP4 ",   "proxy ",  "POST"};
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    for (size_t i = 0; i != sizeof(others) / sizeof(others[0]); ++i)
        assert_int_equal(parse(others[i], strlen(others[i]), &header, &consumed, &why), GW_PROXY_ABSENT);
    assert_int_equal(gw_proxy_protocol_parse("", 0, &header, &consumed, &why), GW_PROXY_MORE);
}

static void what_is_written_is_read(void **state)
{
    static char authority[700];
    memset(authority, 'a', sizeof(authority));
    struct gw_proxy_header from = header_of("2001:db8::1", 1, "192.0.2.2", 2), to;
    char bytes[GW_PROXY_V2_BOUND];
    const char *why;
    size_t consumed;
    from.alpn = TEXT("h2");
    from.authority = h2o_iovec_init(authority, sizeof(authority));
    from.unique_id = TEXT("a\0b");
    from.vpc_endpoint = TEXT("vpce-08d2bf15fac5001c9");
    from.has_ssl = from.is_ssl_verified = true;
    from.ssl_client = GW_PROXY_SSL | GW_PROXY_SSL_CERT_CONN;
    from.ssl_version = TEXT("TLSv1.3");
    from.ssl_cipher = TEXT("TLS_AES_128_GCM_SHA256");
    from.ssl_common_name = TEXT("J\xc3\xb6rg");
    size_t len = gw_proxy_protocol_write_v2(&from, true, bytes, sizeof(bytes));
    assert_int_equal(parse(bytes, len, &to, &consumed, &why), GW_PROXY_OK);
    assert_int_equal(to.version, 2);
    assert_ip(&to.source, "2001:db8::1");
    assert_ip(&to.destination, "192.0.2.2");
    assert_true(h2o_memis(to.alpn.base, to.alpn.len, H2O_STRLIT("h2")));
    assert_true(h2o_memis(to.authority.base, to.authority.len, authority, sizeof(authority)));
    assert_true(h2o_memis(to.unique_id.base, to.unique_id.len, H2O_STRLIT("a\0b")));
    assert_true(h2o_memis(to.vpc_endpoint.base, to.vpc_endpoint.len, H2O_STRLIT("vpce-08d2bf15fac5001c9")));
    assert_true(h2o_memis(to.ssl_version.base, to.ssl_version.len, H2O_STRLIT("TLSv1.3")));
    assert_true(h2o_memis(to.ssl_cipher.base, to.ssl_cipher.len, H2O_STRLIT("TLS_AES_128_GCM_SHA256")));
    assert_true(h2o_memis(to.ssl_common_name.base, to.ssl_common_name.len, H2O_STRLIT("J\xc3\xb6rg")));
    assert_true(to.has_ssl && to.is_ssl_verified && to.ssl_client == 3);
}

static void any_changed_bit_under_a_checksum_is_noticed(void **state)
{
    struct gw_proxy_header header = header_of("192.0.2.1", 1, "192.0.2.2", 2);
    char bytes[GW_PROXY_V2_BOUND];
    const char *why;
    size_t consumed, len;
    header.authority = TEXT("a.example");
    len = gw_proxy_protocol_write_v2(&header, true, bytes, sizeof(bytes));
    for (size_t bit = 0; bit != len * 8; ++bit) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        enum gw_proxy_result result = gw_proxy_protocol_parse(bytes, len, &header, &consumed, &why);
        /* a TLV that is no checksum any more (its type changed) has none to fail */
        bool has_lost_its_checksum = bit / 8 == len - 7;
        assert_true(result != GW_PROXY_OK || has_lost_its_checksum);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(gw_proxy_protocol_parse(bytes, len, &header, &consumed, &why), GW_PROXY_OK);
}

static void a_local_header_leaves_the_addresses_of_the_socket(void **state)
{
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    assert_int_equal(parse(RAW(V2("\x20\x00\0\0")), &header, &consumed, &why), GW_PROXY_OK);
    assert_true(header.is_local && !header.has_addresses);
    assert_int_equal(parse(RAW(V2("\x20\x11\0\x0c\1\2\3\4\5\6\7\x08\0\1\0\2")), &header, &consumed, &why), GW_PROXY_OK);
    assert_true(header.is_local && !header.has_addresses);
    /* 2.2: the family is ignored, and so is what the block holds */
    assert_int_equal(parse(RAW(V2("\x20\xff\0\x03zzz")), &header, &consumed, &why), GW_PROXY_OK);
}

static void families_that_say_nothing_to_us_are_valid(void **state)
{
    static const uint8_t families[][2] = {{0x00, 0}, {0x12, 12}, {0x22, 36}, {0x31, 216}, {0x32, 216}};
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    for (size_t i = 0; i != sizeof(families) / sizeof(families[0]); ++i) {
        char bytes[16 + 216 + 5] = V2("\x21");
        bytes[13] = (char)families[i][0];
        bytes[15] = (char)(families[i][1] + 5);
        memcpy(bytes + 16 + families[i][1], "\x01\0\x02h2", 5);
        assert_int_equal(parse(bytes, 16 + families[i][1] + 5, &header, &consumed, &why), GW_PROXY_OK);
        assert_true(!header.has_addresses && !header.is_local && header.alpn.len == 2);
    }
}

static void headers_of_version_2_that_break_a_rule_are_bad(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *why;
    } bad[] = {
        {RAW(V2("\x11\x11\0\x0c")), "no version 2"},
        {RAW(V2("\x31\x11\0\x0c")), "no version 2"},
        {RAW(V2("\x22\x11\0\x0c")), "no such command"},
        {RAW(V2("\x21\x11\xff\xff")), "the header is longer than 4096 bytes"},
        {RAW(V2("\x21\x11\x0f\xf1")), "the header is longer than 4096 bytes"},
        {RAW(V2("\x21\x01\0\0")), "no such address family"},
        {RAW(V2("\x21\x13\0\0")), "no such address family"},
        {RAW(V2("\x21\x41\0\0")), "no such address family"},
        {RAW(V2("\x21\x11\0\x0b\1\2\3\4\5\6\7\x08\0\1\0")), "the header is shorter than its addresses"},
        {RAW(V2("\x21\x00\0\x01\1")), "a field is longer than the header"},
        {RAW(V2("\x21\x00\0\x03\1\0\1")), "a field is longer than the header"},
        {RAW(V2("\x21\x00\0\x05\1\xff\xffh2")), "a field is longer than the header"},
        {RAW(V2("\x21\x00\0\x07\3\0\4\0\0\0\0")), "the checksum does not fit"},
        {RAW(V2("\x21\x00\0\x06\3\0\3\0\0\0")), "the checksum is not of four bytes"},
        {RAW(V2("\x21\x00\0\x05\2\0\2a\n")), "a text holds control characters"},
        {RAW(V2("\x21\x00\0\x07\x20\0\4\1\0\0\0")), "the TLS field is too short"},
        {RAW(V2("\x21\x00\0\x0b\x20\0\x08\1\0\0\0\0\x21\0\1")), "a field within the TLS field is longer than that"},
    };
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i) {
        if (parse(bad[i].bytes, bad[i].len, &header, &consumed, &why) != GW_PROXY_BAD)
            fail_msg("taken: %s", bad[i].why);
        assert_string_equal(why, bad[i].why);
    }
}

static void a_certificate_that_was_not_verified_is_none(void **state)
{
    struct gw_proxy_header header;
    const char *why;
    size_t consumed;
    assert_int_equal(parse(RAW(V2("\x21\x00\0\x08\x20\0\5\3\0\0\0\1")), &header, &consumed, &why), GW_PROXY_OK);
    assert_false(header.is_ssl_verified);
    assert_int_equal(parse(RAW(V2("\x21\x00\0\x08\x20\0\5\1\0\0\0\0")), &header, &consumed, &why), GW_PROXY_OK);
    assert_false(header.is_ssl_verified); /* there was none to verify */
    assert_int_equal(parse(RAW(V2("\x21\x00\0\x08\x20\0\5\5\0\0\0\0")), &header, &consumed, &why), GW_PROXY_OK);
    assert_true(header.is_ssl_verified);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written_in_network_order),
        cmocka_unit_test(addresses_of_two_families_are_both_written_as_ipv6),
        cmocka_unit_test(a_health_check_is_written_as_local_without_addresses),
        cmocka_unit_test(tlvs_are_written_with_their_lengths),
        cmocka_unit_test(the_checksum_is_that_of_rfc_3309_over_the_whole_header),
        cmocka_unit_test(ids_above_128_bytes_are_not_written),
        cmocka_unit_test(lines_of_version_1_are_read),
        cmocka_unit_test(what_follows_unknown_is_ignored),
        cmocka_unit_test(lines_that_break_a_rule_are_bad),
        cmocka_unit_test(other_protocols_are_told_from_headers_by_their_first_bytes),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(any_changed_bit_under_a_checksum_is_noticed),
        cmocka_unit_test(a_local_header_leaves_the_addresses_of_the_socket),
        cmocka_unit_test(families_that_say_nothing_to_us_are_valid),
        cmocka_unit_test(headers_of_version_2_that_break_a_rule_are_bad),
        cmocka_unit_test(a_certificate_that_was_not_verified_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
