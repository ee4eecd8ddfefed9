/* TLS policies by name: modern, intermediate, old (Mozilla's recommendations) and the ELBSecurityPolicy-* names of
 * spec/alb.md 1.3. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>
struct tls_policy {
    const char *name;
    int min_version, max_version;   /* TLS1_2_VERSION ... */
    const char *ciphers;            /* TLS 1.2 and below, OpenSSL names; NULL when only 1.3 */
    const char *ciphersuites;       /* TLS 1.3 */
    const char *groups;
    bool server_preference;
};
const struct tls_policy *tls_policy_find(const char *name); /* NULL if unknown */
extern const char *const tls_policy_names[];                /* NULL-terminated, for settings choices */
bool tls_policy_apply(const struct tls_policy *, SSL_CTX *);
