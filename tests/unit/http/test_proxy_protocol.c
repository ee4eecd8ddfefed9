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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written_in_network_order),
        cmocka_unit_test(addresses_of_two_families_are_both_written_as_ipv6),
        cmocka_unit_test(a_health_check_is_written_as_local_without_addresses),
        cmocka_unit_test(tlvs_are_written_with_their_lengths),
        cmocka_unit_test(the_checksum_is_that_of_rfc_3309_over_the_whole_header),
        cmocka_unit_test(ids_above_128_bytes_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
