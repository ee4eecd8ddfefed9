/* A certificate chain with its key, loaded from PEM files or made at start-up (self_signed). Part of a snapshot and
 * read-only after load, any thread; what live connections need of it they hold by OpenSSL's own reference counts. */
#pragma once
#include <openssl/ssl.h>
#include <time.h>
#include "gateway/base/settings.h"

struct tls_certificate_conf { /* certificates.NAME */
    const struct gw_node *at;
    h2o_iovec_t cert, key;       /* paths; both or neither */
    struct gw_texts self_signed; /* names; exclusive with cert/key */
};
extern const struct gw_section tls_certificate_section;

/* What a client must be able to verify: one bit each, so that a client is a set of them. */
enum tls_key_kind { TLS_KEY_RSA = 1, TLS_KEY_P256 = 2, TLS_KEY_P384 = 4, TLS_KEY_P521 = 8, TLS_KEY_ANY = 15 };

struct tls_certificate {
    h2o_iovec_t name; /* in the configuration */
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf */
    EVP_PKEY *key;
    h2o_iovec_t *dns_names; /* subjectAltName DNS and IP entries, lower case; CN only when there is no SAN */
    size_t num_dns_names;
    time_t not_before, not_after;
    bool is_ecdsa;
    enum tls_key_kind kind;
    unsigned key_bits;  /* 2048, 256 ... */
    unsigned hash_bits; /* of the signature: 256 for SHA-256; 0 for MD5 and what is not known */
};

/* Loads or makes. Errors: unreadable files, an encrypted or unsupported key (RSA from 2048 bits, ECDSA on P-256, P-384,
 * P-521), a key that does not fit, a chain that is unordered or repeats itself. Warnings: expired, ends within 30 days,
 * not yet valid, no host name, not meant for servers, a key that everybody may read. NULL on error. Paths are relative
 * to the file that names them. Self-signed: see tls/self_signed.h. */
struct tls_certificate *tls_certificate_load(h2o_iovec_t name, const struct tls_certificate_conf *, time_t now,
                                             struct gw_errors *);
void tls_certificate_destroy(struct tls_certificate *); /* NULL is fine */
/* Exact name or single-label wildcard (spec/alb.md 1.2, RFC 6125 6.4.3). server_name in lower case. */
bool tls_certificate_covers(const struct tls_certificate *, h2o_iovec_t server_name, bool *is_exact);

/* Whole days until it ends: 0 on the last day, negative once expired (-1: within the last 24 hours). */
int64_t tls_certificate_days_left(const struct tls_certificate *, time_t now);
/* The smallest of 0 (expired), 7, 14, 30 days that the rest of its life fits in; INT_MAX when there is more. Whoever
 * watches says something when this number falls. */
int tls_certificate_alarm(const struct tls_certificate *, time_t now);
