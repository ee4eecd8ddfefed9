/* AWS Signature Version 4 of one request whose headers are few and known: host, content-type, x-amz-*. Pure function.
 */
#pragma once
#include <h2o/memory.h>

struct gw_sigv4 {
    h2o_iovec_t method;
    h2o_iovec_t path;  /* as sent: its segments are encoded once more in the canonical form */
    h2o_iovec_t query; /* canonical already; len 0: none */
    /* lower-case names in order of the alphabet, trimmed values */
    const h2o_iovec_t (*fields)[2];
    size_t num_fields;
    h2o_iovec_t body_hash; /* hex SHA-256 */
    h2o_iovec_t region, service, access_key, secret_key;
    const char *time; /* 20150830T123600Z */
};
enum { GW_SHA256_HEX = 64 };
void gw_sha256_hex(h2o_iovec_t bytes, char hex[GW_SHA256_HEX]);
/* The value of Authorization, from the pool. */
h2o_iovec_t gw_sigv4_authorization(h2o_mem_pool_t *, const struct gw_sigv4 *);
