#include "gateway/http/proxy_protocol.h"
#include <string.h>

/* 2.2: a block that no HTTP, TLS, SMTP ... client would begin with */
static const char signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum { HEAD_LEN = 16, INET_LEN = 12, INET6_LEN = 36, UNIX_LEN = 216, TLV_HEAD = 3, UNIQUE_ID_MAX = 128 };
enum { LOCAL = 0x20, PROXY = 0x21 };
enum { UNSPEC = 0x00, TCP4 = 0x11, UDP4 = 0x12, TCP6 = 0x21, UDP6 = 0x22, UNIX_STREAM = 0x31, UNIX_DGRAM = 0x32 };
enum {
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    TLV_SSL_VERSION = 0x21,
    TLV_SSL_CN = 0x22,
    TLV_SSL_CIPHER = 0x23,
    TLV_AWS = 0xea,
    AWS_VPC_ENDPOINT = 0x01,
};

uint32_t gw_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    crc = ~crc;
    for (size_t i = 0; i != len; ++i) {
        crc ^= p[i];
        for (unsigned bit = 0; bit != 8; ++bit)
            crc = crc >> 1 ^ (0x82f63b78 & -(crc & 1));
    }
    return ~crc;
}

static void put16(char *dst, size_t n)
{
    dst[0] = (char)(n >> 8);
    dst[1] = (char)n;
}

static void put32(char *dst, uint32_t n)
{
    put16(dst, n >> 16);
    put16(dst + 2, n & 0xffff);
}

/* ---- writing ---- */

struct out {
    char *bytes;
    size_t len, room;
    bool is_full;
};

static void put(struct out *out, const void *bytes, size_t len)
{
    if (out->is_full || len > out->room - out->len) {
        out->is_full = true;
        return;
    }
    if (len != 0)
        memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_tlv_head(struct out *out, uint8_t type, size_t len)
{
    char head[TLV_HEAD] = {(char)type};
    if (len > UINT16_MAX)
        out->is_full = true;
    put16(head + 1, len);
    put(out, head, sizeof(head));
}

static void put_tlv(struct out *out, uint8_t type, h2o_iovec_t value)
{
    if (value.base == NULL)
        return;
    put_tlv_head(out, type, value.len);
    put(out, value.base, value.len);
}

static void put_addresses(struct out *out, const struct gw_proxy_header *header)
{
    char ports[4];
    put16(ports, header->source_port);
    put16(ports + 2, header->destination_port);
    size_t skip = gw_ip_is_v4(&header->source) && gw_ip_is_v4(&header->destination) ? 12 : 0;
    put(out, header->source.bytes + skip, sizeof(header->source.bytes) - skip);
    put(out, header->destination.bytes + skip, sizeof(header->destination.bytes) - skip);
    put(out, ports, sizeof(ports));
}

static size_t tlv_len(h2o_iovec_t value) { return value.base != NULL ? TLV_HEAD + value.len : 0; }

static void put_ssl(struct out *out, const struct gw_proxy_header *header)
{
    bool is_unverified =
        (header->ssl_client & (GW_PROXY_SSL_CERT_CONN | GW_PROXY_SSL_CERT_SESS)) != 0 && !header->is_ssl_verified;
    char head[5] = {(char)header->ssl_client};
    put32(head + 1, is_unverified ? 1 : 0); /* zero: verified, or there was nothing to verify */
    put_tlv_head(out, TLV_SSL,
                 sizeof(head) + tlv_len(header->ssl_version) + tlv_len(header->ssl_common_name) +
                     tlv_len(header->ssl_cipher));
    put(out, head, sizeof(head));
    put_tlv(out, TLV_SSL_VERSION, header->ssl_version);
    put_tlv(out, TLV_SSL_CN, header->ssl_common_name);
    put_tlv(out, TLV_SSL_CIPHER, header->ssl_cipher);
}

static void put_vpc_endpoint(struct out *out, h2o_iovec_t id)
{
    char subtype = AWS_VPC_ENDPOINT;
    if (id.base == NULL)
        return;
    put_tlv_head(out, TLV_AWS, 1 + id.len);
    put(out, &subtype, 1);
    put(out, id.base, id.len);
}

/* The checksum counts its own field as zero (2.2.3). */
static void put_crc(struct out *out)
{
    put_tlv_head(out, TLV_CRC32C, 4);
    put(out, "\0\0\0\0", 4);
    if (out->is_full)
        return;
    put16(out->bytes + 14, out->len - HEAD_LEN);
    put32(out->bytes + out->len - 4, gw_crc32c(0, out->bytes, out->len));
}

static uint8_t family_of(const struct gw_proxy_header *header)
{
    if (header->is_local || !header->has_addresses)
        return UNSPEC;
    return gw_ip_is_v4(&header->source) && gw_ip_is_v4(&header->destination) ? TCP4 : TCP6;
}

size_t gw_proxy_protocol_write_v2(const struct gw_proxy_header *header, bool with_crc, char *dst, size_t room)
{
    struct out out = {.bytes = dst, .room = room};
    char command[4] = {header->is_local ? LOCAL : PROXY, (char)family_of(header)};

    put(&out, signature, sizeof(signature));
    put(&out, command, sizeof(command));
    if (command[1] != UNSPEC)
        put_addresses(&out, header);
    put_tlv(&out, TLV_ALPN, header->alpn);
    put_tlv(&out, TLV_AUTHORITY, header->authority);
    put_tlv(&out, TLV_UNIQUE_ID, header->unique_id);
    if (header->has_ssl)
        put_ssl(&out, header);
    put_vpc_endpoint(&out, header->vpc_endpoint);
    if (out.is_full || header->unique_id.len > UNIQUE_ID_MAX || out.len - HEAD_LEN > UINT16_MAX)
        return 0;
    put16(dst + 14, out.len - HEAD_LEN);
    if (with_crc)
        put_crc(&out);
    return out.is_full ? 0 : out.len;
}
