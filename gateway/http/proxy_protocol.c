#include "gateway/http/proxy_protocol.h"
#include <string.h>
#include <h2o/string_.h>

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
    uint8_t family = gw_ip_is_v4(&header->source) && gw_ip_is_v4(&header->destination) ? TCP4 : TCP6;
    return header->is_datagram ? family + 1 : family; /* UDP4, UDP6 */
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

/* ---- reading version 1 ---- */

static bool is_prefix(const char *bytes, size_t len, const char *text, size_t text_len)
{
    return memcmp(bytes, text, len < text_len ? len : text_len) == 0;
}

/* The text up to the next blank or the end; false when there is none or it is empty. */
static bool next_word(h2o_iovec_t *rest, h2o_iovec_t *word)
{
    const char *blank = memchr(rest->base, ' ', rest->len);
    word->base = rest->base;
    word->len = blank != NULL ? (size_t)(blank - rest->base) : rest->len;
    rest->base += word->len + (blank != NULL);
    rest->len -= word->len + (blank != NULL);
    return word->len != 0;
}

static bool read_port(h2o_iovec_t word, uint16_t *port)
{
    uint32_t n = 0;
    if (word.len == 0 || word.len > 5 || (word.len > 1 && word.base[0] == '0'))
        return false;
    for (size_t i = 0; i != word.len; ++i) {
        if (word.base[i] < '0' || word.base[i] > '9')
            return false;
        n = n * 10 + (word.base[i] - '0');
    }
    *port = (uint16_t)n;
    return n <= UINT16_MAX;
}

static bool read_ip(h2o_iovec_t word, bool is_v6, struct gw_ip *ip)
{
    bool has_colon = memchr(word.base, ':', word.len) != NULL;
    return word.base[0] != '[' && has_colon == is_v6 && gw_ip_parse(word, ip);
}

/* The line behind "PROXY ", without its end. */
static const char *read_line(h2o_iovec_t rest, struct gw_proxy_header *header)
{
    h2o_iovec_t family, source, destination, source_port, destination_port;
    bool is_v6;

    if (next_word(&rest, &family) && h2o_memis(family.base, family.len, H2O_STRLIT("UNKNOWN")))
        return NULL; /* what follows must be ignored */
    is_v6 = h2o_memis(family.base, family.len, H2O_STRLIT("TCP6"));
    if (!is_v6 && !h2o_memis(family.base, family.len, H2O_STRLIT("TCP4")))
        return "the protocol is none of TCP4, TCP6 and UNKNOWN";
    if (!next_word(&rest, &source) || !next_word(&rest, &destination) || !next_word(&rest, &source_port) ||
        (destination_port = rest, memchr(rest.base, ' ', rest.len) != NULL))
        return "the line does not have two addresses and two ports";
    if (!read_ip(source, is_v6, &header->source) || !read_ip(destination, is_v6, &header->destination))
        return "an address is none of its family";
    if (!read_port(source_port, &header->source_port) || !read_port(destination_port, &header->destination_port))
        return "a port is none";
    header->has_addresses = true;
    return NULL;
}

static enum gw_proxy_result parse_v1(const char *bytes, size_t len, struct gw_proxy_header *header, size_t *consumed,
                                     const char **why)
{
    size_t bound = len < GW_PROXY_V1_MAX ? len : GW_PROXY_V1_MAX;
    const char *end = memchr(bytes, '\n', bound);

    if (end == NULL && len < GW_PROXY_V1_MAX)
        return GW_PROXY_MORE;
    if (end == NULL || end[-1] != '\r') {
        *why = end == NULL ? "the line is longer than 107 bytes" : "the line does not end in CRLF";
        return GW_PROXY_BAD;
    }
    header->version = 1;
    *consumed = end + 1 - bytes;
    *why = read_line(h2o_iovec_init(bytes + 6, *consumed - 6 - 2), header);
    return *why == NULL ? GW_PROXY_OK : GW_PROXY_BAD;
}

/* ---- reading version 2 ---- */

static size_t get16(const char *src) { return (size_t)(uint8_t)src[0] << 8 | (uint8_t)src[1]; }
static uint32_t get32(const char *src) { return (uint32_t)get16(src) << 16 | (uint32_t)get16(src + 2); }

static bool next_tlv(h2o_iovec_t *rest, uint8_t *type, h2o_iovec_t *value)
{
    if (rest->len < TLV_HEAD || get16(rest->base + 1) > rest->len - TLV_HEAD)
        return false;
    *type = (uint8_t)rest->base[0];
    *value = h2o_iovec_init(rest->base + TLV_HEAD, get16(rest->base + 1));
    rest->base += TLV_HEAD + value->len;
    rest->len -= TLV_HEAD + value->len;
    return true;
}

static bool is_text(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i)
        if ((uint8_t)text.base[i] < 0x20 || text.base[i] == 0x7f)
            return false;
    return true;
}

static const char *take_text(h2o_iovec_t value, h2o_iovec_t *field)
{
    if (!is_text(value))
        return "a text holds control characters";
    *field = value;
    return NULL;
}

static const char *read_ssl(h2o_iovec_t rest, struct gw_proxy_header *header)
{
    const char *why = NULL;
    h2o_iovec_t value;
    uint8_t type;

    if (rest.len < 5)
        return "the TLS field is too short";
    header->has_ssl = true;
    header->ssl_client = (uint8_t)rest.base[0];
    header->is_ssl_verified =
        (header->ssl_client & (GW_PROXY_SSL_CERT_CONN | GW_PROXY_SSL_CERT_SESS)) != 0 && get32(rest.base + 1) == 0;
    rest = h2o_iovec_init(rest.base + 5, rest.len - 5);
    while (rest.len != 0 && why == NULL) {
        if (!next_tlv(&rest, &type, &value))
            return "a field within the TLS field is longer than that";
        if (type == TLV_SSL_VERSION)
            why = take_text(value, &header->ssl_version);
        else if (type == TLV_SSL_CN)
            why = take_text(value, &header->ssl_common_name);
        else if (type == TLV_SSL_CIPHER)
            why = take_text(value, &header->ssl_cipher);
    }
    return why;
}

static const char *check_crc(const char *bytes, size_t len, h2o_iovec_t value)
{
    static const char zeros[4];
    size_t before = value.base - bytes;
    if (value.len != 4)
        return "the checksum is not of four bytes";
    uint32_t crc = gw_crc32c(gw_crc32c(gw_crc32c(0, bytes, before), zeros, 4), value.base + 4, len - before - 4);
    return crc == get32(value.base) ? NULL : "the checksum does not fit";
}

static const char *read_tlv(const char *bytes, size_t len, uint8_t type, h2o_iovec_t value,
                            struct gw_proxy_header *header)
{
    switch (type) {
    case TLV_ALPN:
        return take_text(value, &header->alpn);
    case TLV_AUTHORITY:
        return take_text(value, &header->authority);
    case TLV_UNIQUE_ID:
        header->unique_id = value;
        return value.len > UNIQUE_ID_MAX ? "the unique id is longer than 128 bytes" : NULL;
    case TLV_CRC32C:
        return check_crc(bytes, len, value);
    case TLV_SSL:
        return read_ssl(value, header);
    case TLV_AWS:
        if (value.len != 0 && value.base[0] == AWS_VPC_ENDPOINT)
            return take_text(h2o_iovec_init(value.base + 1, value.len - 1), &header->vpc_endpoint);
        return NULL;
    default:
        return NULL;
    }
}

/* How many bytes of addresses a family has; -1: no such family (2.2: to be rejected). */
static int address_len(uint8_t family)
{
    switch (family) {
    case UNSPEC:
        return 0;
    case TCP4:
    case UDP4:
        return INET_LEN;
    case TCP6:
    case UDP6:
        return INET6_LEN;
    case UNIX_STREAM:
    case UNIX_DGRAM:
        return UNIX_LEN;
    default:
        return -1;
    }
}

static void read_addresses(const char *src, uint8_t family, struct gw_proxy_header *header)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    size_t size = family == TCP4 ? 4 : 16, skip = 16 - size;

    memcpy(header->source.bytes, mapped, skip);
    memcpy(header->source.bytes + skip, src, size);
    memcpy(header->destination.bytes, mapped, skip);
    memcpy(header->destination.bytes + skip, src + size, size);
    header->source_port = (uint16_t)get16(src + 2 * size);
    header->destination_port = (uint16_t)get16(src + 2 * size + 2);
    header->has_addresses = true;
}

static const char *read_block(const char *bytes, size_t len, struct gw_proxy_header *header)
{
    uint8_t family = (uint8_t)bytes[13], type;
    int skip = address_len(family);
    const char *why = NULL;
    h2o_iovec_t value;

    /* LOCAL: the block is there to be skipped, whatever family it names; but a checksum is one of the whole header */
    if (header->is_local && (skip < 0 || (size_t)skip > len - HEAD_LEN))
        return NULL;
    if (skip < 0)
        return "no such address family";
    if ((size_t)skip > len - HEAD_LEN)
        return "the header is shorter than its addresses";
    if (!header->is_local && (family == TCP4 || family == TCP6))
        read_addresses(bytes + HEAD_LEN, family, header);
    h2o_iovec_t rest = h2o_iovec_init(bytes + HEAD_LEN + skip, len - HEAD_LEN - skip);
    while (rest.len != 0 && why == NULL) {
        if (!next_tlv(&rest, &type, &value))
            return header->is_local ? NULL : "a field is longer than the header";
        why = read_tlv(bytes, len, type, value, header);
    }
    return why;
}

static enum gw_proxy_result parse_v2(const char *bytes, size_t len, struct gw_proxy_header *header, size_t *consumed,
                                     const char **why)
{
    *why = NULL;
    if (len > 12 && (uint8_t)bytes[12] != LOCAL && (uint8_t)bytes[12] != PROXY)
        *why = (bytes[12] & 0xf0) != 0x20 ? "no version 2" : "no such command";
    else if (len >= HEAD_LEN && get16(bytes + 14) > GW_PROXY_V2_MAX - HEAD_LEN)
        *why = "the header is longer than 4096 bytes";
    if (*why != NULL)
        return GW_PROXY_BAD;
    if (len < HEAD_LEN || len < HEAD_LEN + get16(bytes + 14))
        return GW_PROXY_MORE;
    header->version = 2;
    header->is_local = bytes[12] == LOCAL;
    *consumed = HEAD_LEN + get16(bytes + 14);
    *why = read_block(bytes, *consumed, header);
    return *why == NULL ? GW_PROXY_OK : GW_PROXY_BAD;
}

enum gw_proxy_result gw_proxy_protocol_parse(const char *bytes, size_t len, struct gw_proxy_header *header,
                                             size_t *consumed, const char **why)
{
    static const char word[6] = "PROXY ";

    *header = (struct gw_proxy_header){0};
    if (len == 0)
        return GW_PROXY_MORE;
    if (is_prefix(bytes, len, word, sizeof(word)))
        return len < sizeof(word) ? GW_PROXY_MORE : parse_v1(bytes, len, header, consumed, why);
    if (is_prefix(bytes, len, signature, sizeof(signature)))
        return len < sizeof(signature) ? GW_PROXY_MORE : parse_v2(bytes, len, header, consumed, why);
    return GW_PROXY_ABSENT;
}
