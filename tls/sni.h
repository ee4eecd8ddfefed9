/* Server name -> certificate, by the rules of spec/alb.md 1.2. One hash lookup for the exact name and one for its
 * wildcard, whatever the number of certificates; what it finds is ranked by:
 *   1. ECDSA before RSA  2. not expired before expired  3. the longer hash  4. the longer key
 *   5. the later end  6. exact name before wildcard  7. the order in the configuration
 * (6 and 7 are ours and stand where the documented criteria end: an ECDSA wildcard beats an exact RSA name, vector 27.)
 * Keeps its own copy of what it needs: it may outlive the certificates. Read-only once made, any thread. */
#pragma once
#include "tls/certificate.h"

struct tls_sni;
/* The first num_listed have names to choose by; a default behind them is for clients whose name none of them has. */
struct tls_sni *tls_sni_create(struct tls_certificate *const *certificates, size_t num_certificates, size_t num_listed,
                               size_t default_certificate);
void tls_sni_destroy(struct tls_sni *);

enum tls_sni_why {
    TLS_SNI_EXACT,
    TLS_SNI_WILDCARD,
    TLS_SNI_NO_NAME, /* the default certificate: none was asked for, or what came was no host name */
    TLS_SNI_UNKNOWN, /* the default certificate: no certificate has this name */
};
struct tls_sni_choice {
    size_t certificate; /* index into what was given to create */
    enum tls_sni_why why;
    bool is_usable; /* false: this client can verify none of those it might get; this one is the best of them */
};
/* name: as the client sent it; base NULL = none. usable_kinds: set of enum tls_key_kind. A client that cannot
 * use the default gets another one that has the default's first name. */
struct tls_sni_choice tls_sni_choose(const struct tls_sni *, h2o_iovec_t name, unsigned usable_kinds, time_t now);
