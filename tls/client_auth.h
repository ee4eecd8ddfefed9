/* Certificates that clients present (spec/alb.md 1.4): whether a listener asks for them, what it trusts, and what is
 * made known of one. Settings and trust belong to a load; a struct tls_client_certificate to its connection. */
#pragma once
#include <openssl/ssl.h>
#include "gateway/base/settings.h"

enum tls_client_auth_mode { TLS_CLIENT_AUTH_OFF, TLS_CLIENT_AUTH_PASSTHROUGH, TLS_CLIENT_AUTH_VERIFY };
/* Names of the request fields that say what was presented; base NULL: the usual one. */
enum tls_identity {
    TLS_IDENTITY_CHAIN,
    TLS_IDENTITY_SERIAL_NUMBER,
    TLS_IDENTITY_ISSUER,
    TLS_IDENTITY_SUBJECT,
    TLS_IDENTITY_VALIDITY,
    TLS_IDENTITY_LEAF,
    TLS_IDENTITIES
};
struct tls_client_auth_names { /* ....client_auth.headers */
    const struct gw_node *at;
    h2o_iovec_t names[TLS_IDENTITIES];
};
struct tls_client_auth_conf { /* listeners.NAME.tls.client_auth */
    const struct gw_node *at;
    int mode;                /* enum tls_client_auth_mode; default off */
    h2o_iovec_t trust_store; /* path of the authorities, PEM; verify needs it */
    struct gw_texts crl;     /* paths, PEM */
    uint64_t depth;          /* most certificates between a client's and an authority of the trust store; default 4 */
    bool ignores_expiry;     /* of the client's own certificate */
    bool advertises_names;   /* the authorities' names go into the CertificateRequest */
    struct tls_client_auth_names *headers; /* NULL: the usual ones */
};
extern const struct gw_section tls_client_auth_section;
/* Without case, and `_` is `-`: what comes behind us may see no difference (CGI, WSGI). */
bool tls_identity_name_is(h2o_iovec_t, h2o_iovec_t);

/* Makes a context ask, and verify as configured; nothing with mode off. Sessions of such a context must not be resumed:
 * the caller sees to that. Errors: unreadable or empty files, no authority among them. Warnings: an authority or a
 * revocation list that has expired. */
bool tls_client_auth_install(const struct tls_client_auth_conf *, SSL_CTX *, time_t now, struct gw_errors *);

/* What was presented, as text: what the X-Amzn-Mtls-* fields say. All one allocation; base NULL: not for this mode. */
struct tls_client_certificate {
    bool is_verified;
    h2o_iovec_t chain;           /* passthrough: leaf first, URL-encoded PEM */
    h2o_iovec_t leaf;            /* verify: URL-encoded PEM */
    h2o_iovec_t serial;          /* hexadecimal, upper case */
    h2o_iovec_t issuer, subject; /* RFC 2253 */
    h2o_iovec_t validity;        /* NotBefore=2023-09-21T01:50:17Z;NotAfter=... */
    h2o_iovec_t fingerprint;     /* SHA-256 in hexadecimal, lower case */
    BUF_MEM *text;
};
/* After the handshake. NULL: none was presented, or the context does not ask. */
struct tls_client_certificate *tls_client_certificate_create(SSL *);
void tls_client_certificate_destroy(struct tls_client_certificate *); /* NULL is fine */
/* Subject and issuer of what was presented, for the error log, where verification failed. The text is cut to fit. */
void tls_client_certificate_describe(SSL *, char *text, size_t size);
