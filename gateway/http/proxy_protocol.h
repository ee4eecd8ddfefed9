/* PROXY protocol (HAProxy's proxy-protocol.txt, 2.x): what a balancer in front of us says about the client of a
 * connection, and what we say to a target that asks for it. Pure functions, any thread; slices are borrowed from the
 * bytes that were parsed. */
#pragma once
#include <h2o/memory.h>
#include "gateway/base/ip.h"

enum {
    GW_PROXY_V1_MAX = 107,  /* bytes of the longest line, CRLF included (2.1) */
    GW_PROXY_V2_MAX = 4096, /* bytes of a version 2 header that we take: addresses, TLVs, a certificate's names */
    GW_PROXY_V2_BOUND = 16 + 36 + 5 * 3 + 4 + 8 + 1024, /* largest that gw_proxy_protocol_write_v2 makes */
};

/* PP2_TYPE_SSL (2.2.6): flags of `client`. */
enum { GW_PROXY_SSL = 1, GW_PROXY_SSL_CERT_CONN = 2, GW_PROXY_SSL_CERT_SESS = 4 };

struct gw_proxy_header {
    bool is_local;      /* the balancer's own connection, a health check: the socket's addresses stand */
    bool has_addresses; /* false: LOCAL, UNKNOWN, UNSPEC, Unix sockets, datagrams: the socket's addresses stand */
    struct gw_ip source, destination;
    uint16_t source_port, destination_port;
    uint8_t version;  /* 1 or 2 */
    bool is_datagram; /* written: over UDP; never read */
    /* TLVs of version 2; base NULL: absent */
    h2o_iovec_t alpn, authority, unique_id;
    h2o_iovec_t vpc_endpoint; /* AWS: PP2_TYPE_AWS 0xEA, subtype 1 */
    bool has_ssl;
    uint8_t ssl_client;   /* GW_PROXY_SSL... */
    bool is_ssl_verified; /* the client presented a certificate and it was good */
    h2o_iovec_t ssl_version, ssl_cipher, ssl_common_name;
};

enum gw_proxy_result {
    GW_PROXY_OK,
    GW_PROXY_MORE,   /* what is there may become a header */
    GW_PROXY_ABSENT, /* what is there begins no header */
    GW_PROXY_BAD,    /* it begins one and breaks its rules */
};
/* Looks at the first bytes of a connection. OK: *consumed are the header's. BAD: *why is a static sentence. Names and
 * families that we cannot use (Unix sockets, datagrams) are no mistake (2.2); everything that the text calls invalid
 * is, and so are a CRC-32C that does not fit and texts that may stand in no name: AUTHORITY, ALPN, ids and TLS names
 * with control characters would only be there to forge logs. Types of TLV that are not known are skipped. */
enum gw_proxy_result gw_proxy_protocol_parse(const char *bytes, size_t len, struct gw_proxy_header *, size_t *consumed,
                                             const char **why);

/* Writes a version 2 header: LOCAL, or PROXY over TCP with its addresses (UNSPEC without has_addresses) and the TLVs
 * that are there, except ssl_common_name and verification, which are written with has_ssl; with CRC32C at the end if
 * so asked. Addresses of two families become IPv6 both. Returns the length; 0 when dst (room bytes;
 * GW_PROXY_V2_BOUND is enough for texts of 1,024 bytes in all) is too small or unique_id is longer than 128. */
size_t gw_proxy_protocol_write_v2(const struct gw_proxy_header *, bool with_crc, char *dst, size_t room);

/* CRC-32C (Castagnoli, RFC 3309), of more bytes after `crc`; start with 0. */
uint32_t gw_crc32c(uint32_t crc, const void *bytes, size_t len);
