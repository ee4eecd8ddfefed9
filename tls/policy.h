/* TLS policies by name: modern, intermediate, old (Mozilla's server side TLS guidelines 5.7) and the
 * ELBSecurityPolicy-* names of spec/alb.md 1.3. Constant tables, any thread. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>

struct tls_policy {
    const char *name;
    int min_version, max_version; /* TLS1_2_VERSION ... */
    const char *ciphers;          /* TLS 1.2 and below, OpenSSL names; NULL when only 1.3 */
    const char *ciphersuites;     /* TLS 1.3; NULL when 1.2 is the last */
    const char *groups;     /* key exchange; of the PQ twins only the classical groups: OpenSSL 3.0 has no ML-KEM */
    bool server_preference; /* our order decides, else the client's */
    bool chacha_for_phones; /* with server preference: a client that puts ChaCha20 first gets it */
};

const struct tls_policy *tls_policy_find(const char *name); /* NULL if unknown */
const struct tls_policy *tls_policy_at(int index);          /* of tls_policy_names; asserts that it exists */
extern const char *const tls_policy_names[];                /* NULL-terminated, for settings choices */

/* Versions, ciphers, groups, security level and the options that every policy shares (no compression, no renegotiation,
 * no early data). False when OpenSSL refuses, which is our own bug or a crippled library; its error queue says why. */
bool tls_policy_apply(const struct tls_policy *, SSL_CTX *);
