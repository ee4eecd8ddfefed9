/* Addresses: client IPs, networks, and endpoints to listen on or connect to. Plain values. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <h2o/memory.h>
#include "gateway/base/error.h"

/* An IPv4 address is held as IPv4-mapped IPv6, so that comparing is one memcmp and 0.0.0.0/0 is ::ffff:0:0/96. */
struct gw_ip {
    uint8_t bytes[16];
};
bool gw_ip_parse(h2o_iovec_t text, struct gw_ip *);                /* dotted quad, IPv6, bracketed IPv6; strict */
bool gw_ip_from_sockaddr(const struct sockaddr *, struct gw_ip *); /* unix sockets: false, ip all zero */
bool gw_ip_is_v4(const struct gw_ip *);
enum { GW_IP_TEXT = 46 };
/* Writes the canonical form (RFC 5952; v4 dotted) NUL-terminated; returns its length. buf: GW_IP_TEXT bytes. */
size_t gw_ip_format(const struct gw_ip *, char *buf);

struct gw_cidr {
    struct gw_ip ip;
    uint8_t bits; /* 0..128, counted on the mapped form */
};
struct gw_cidrs {
    struct gw_cidr *entries;
    size_t size;
};
bool gw_cidr_parse(h2o_iovec_t text, struct gw_cidr *); /* host bits must be zero; a bare address is a /32 or /128 */
bool gw_cidr_contains(const struct gw_cidr *, const struct gw_ip *);
bool gw_cidrs_contain(const struct gw_cidrs *, const struct gw_ip *); /* linear; empty = false */

struct gw_address {
    h2o_iovec_t text; /* as written, NUL-terminated */
    h2o_iovec_t host; /* without brackets; path of a unix socket; NUL-terminated */
    uint16_t port;    /* 0 for unix */
    bool is_unix;
    bool is_name; /* host is a DNS name: sa is not filled yet */
    socklen_t sa_len;
    struct sockaddr_storage sa;
};
/* host:port, [v6]:port, *:port (= [::]:port, dual stack), :port (same), unix:/path. why receives a static sentence. */
bool gw_address_parse(h2o_mem_pool_t *, h2o_iovec_t text, bool allow_names, struct gw_address *, const char **why);
enum { GW_ADDRESS_TEXT = 56 };
/* The numeric one of ip and port. Its texts are written into the buffers, which it borrows. */
void gw_address_from_ip(const struct gw_ip *, uint16_t port, char text[GW_ADDRESS_TEXT], char host[GW_IP_TEXT],
                        struct gw_address *);

/* Labels of 1 to 63 letters, digits, "-" (neither first nor last) and "_", 253 characters in all; one dot may end it.
 */
bool gw_host_name_is_valid(h2o_iovec_t name);
