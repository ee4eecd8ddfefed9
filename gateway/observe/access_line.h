/* One line of the access log as JSON: from plain values to bytes. Pure functions, apart from a clock passed in. The
 * fields are documented in gateway/observe/README.md. */
#pragma once
#include <stdint.h>
#include <h2o/memory.h>
#include "gateway/http/peer.h"

/* Slices with base NULL are written as null. Every slice may hold any bytes: quotes, backslashes and controls are
 * escaped, what is not UTF-8 becomes U+FFFD, and what is longer than GW_ACCESS_MAX_TEXT is cut. */
enum { GW_ACCESS_MAX_TEXT = 8192 };
struct gw_access_line {
    uint64_t wall_ms; /* end of the request, since the epoch */
    h2o_iovec_t request_id, trace_id;
    h2o_iovec_t client, peer; /* addresses as text */
    h2o_iovec_t listener, protocol, tls_version, tls_cipher, server_name;
    h2o_iovec_t method, scheme, host, path, query;
    h2o_iovec_t reason, error, route, target_group, target;
    h2o_iovec_t user_agent, referer, x_forwarded_for;
    uint64_t bytes_in, bytes_out, duration_us, config_generation;
    uint64_t upstream_us; /* UINT64_MAX: null */
    uint32_t status, attempts;
    uint16_t client_port;
    h2o_iovec_t classification, classification_reason; /* base NULL: left out */
    const h2o_iovec_t *notes; /* by enum gw_peer_note; NULL: none. Those with base NULL are left out */
};

/* The calendar part of the last line's time: it changes once a second. One per thread; zero to begin. */
struct gw_access_clock {
    uint64_t second;
    char text[20]; /* "2026-01-02T03:04:05" */
};

/* "2026-01-02T03:04:05", and the whole time with its milliseconds and Z. Both return where they stopped. */
char *gw_access_put_second(char *dst, uint64_t second, struct gw_access_clock *);
char *gw_access_put_time(char *dst, uint64_t wall_ms, struct gw_access_clock *);

/* No line is longer than this. */
size_t gw_access_line_bound(const struct gw_access_line *);
/* Writes the line with its line feed; returns its length. */
size_t gw_access_line_write(char *dst, const struct gw_access_line *, struct gw_access_clock *);
