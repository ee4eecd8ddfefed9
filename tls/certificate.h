/* A certificate chain with its key, loaded from PEM files or made at start-up (self_signed). Reference-counted by
 * OpenSSL's own objects; read-only after load, any thread. */
#pragma once
#include <openssl/ssl.h>
#include <time.h>
#include "gateway/base/settings.h"

struct tls_certificate_conf { /* certificates.NAME in design section 2 */
    const struct gw_node *at;
    h2o_iovec_t cert, key;         /* paths; both or neither */
    struct gw_texts self_signed;   /* names; exclusive with cert/key */
};
extern const struct gw_section tls_certificate_section;

struct tls_certificate {
    h2o_iovec_t name;      /* in the configuration */
    X509 *leaf;
    STACK_OF(X509) *chain; /* without the leaf */
    EVP_PKEY *key;
    h2o_iovec_t *dns_names; /* subjectAltName DNS and IP entries, lower case; CN only when there is no SAN */
    size_t num_dns_names;
    time_t not_before, not_after;
    bool is_ecdsa;
};
/* Loads or makes; reports unreadable files, a key that does not fit, an unordered chain (errors), expiry within 30 days
 * or already past, not yet valid (warnings). NULL on error. Paths are relative to the file that names them.
 * Self-signed: P-256, 397 days; one per process and name set (kept over reloads) so that clients see the same key. */
struct tls_certificate *tls_certificate_load(h2o_iovec_t name, const struct tls_certificate_conf *, time_t now,
                                             struct gw_errors *);
void tls_certificate_destroy(struct tls_certificate *);
/* Exact name or single-label wildcard (spec/alb.md 1.2, RFC 6125 6.4.3). server_name in lower case. */
bool tls_certificate_covers(const struct tls_certificate *, h2o_iovec_t server_name, bool *is_exact);
