/* TLS towards targets: what weir as a client offers, whom it trusts and how it proves itself. Built by a load, then
 * read by every thread; counted, because connections and health checks outlive the configuration that made them. The
 * trust is OpenSSL's: chain, purpose, dates, and the name or address of the target (RFC 9525), not libh2o's, which
 * looks at no name at all in TLS 1.3 and at no address ever. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>
#include <h2o/socket.h>
#include "gateway/base/error.h"
#include "gateway/base/yaml.h"

struct tls_origin_conf {
    const struct gw_node *at_ca, *at_certificate, *at_key, *at; /* for messages and relative paths */
    h2o_iovec_t ca;                                             /* PEM file; base NULL: the system's store */
    h2o_iovec_t certificate, key;                               /* PEM files of weir's own; base NULL: none */
    const char *policy;                                         /* tls/policy.h */
    bool insecure;                                              /* nothing is verified */
    const char *alpn;                                           /* the one protocol that is offered; NULL: none */
};
struct tls_origin;
/* NULL after recording an error. */
struct tls_origin *tls_origin_create(const struct tls_origin_conf *, struct gw_errors *);
struct tls_origin *tls_origin_hold(struct tls_origin *); /* any thread */
void tls_origin_release(struct tls_origin *);            /* NULL is fine */
/* Equal when everything that decides about trust is: a digest of settings and of what the files hold. */
uint64_t tls_origin_id(const struct tls_origin *);

/* The latest session with one target, for one thread. Zero-filled at first; must outlive the connections, or be
 * detached from them. */
struct tls_origin_session {
    SSL_SESSION *session;
    uint64_t id; /* of the settings it was made under: under others it would get round the verification */
};
void tls_origin_session_dispose(struct tls_origin_session *);

/* Handshakes on a connected socket. name: a host name, sent as SNI and verified, or the text of an IP address, verified
 * against the addresses of the certificate and not sent (RFC 6066 3). session may be NULL; it is resumed only if it was
 * made under the same session_id. on_done gets libh2o's error
 * text, which tls_origin_judge turns into what really happened. */
void tls_origin_handshake(struct tls_origin *, h2o_socket_t *, const char *name, struct tls_origin_session *,
                          uint64_t session_id, h2o_socket_cb on_done);
/* Before closing: no session will be kept any more. */
void tls_origin_detach(h2o_socket_t *);

#define TLS_ORIGIN_FAILURES(X)                                                                                         \
    X(NONE, "none")                                                                                                    \
    X(TIMEOUT, "timeout")         /* set by those who wait */                                                          \
    X(CLOSED, "closed")           /* the target closed or reset the connection */                                      \
    X(CERTIFICATE, "certificate") /* not trusted */                                                                    \
    X(HOSTNAME, "hostname")       /* it is for another name or address */                                              \
    X(EXPIRED, "expired")         /* or not yet valid */                                                               \
    X(ALPN, "alpn")               /* the target does not speak the protocol that was offered */                        \
    X(ALERT, "alert")             /* the target refused us */                                                          \
    X(HANDSHAKE, "handshake")     /* anything else: not TLS, no common version or cipher */
enum tls_origin_failure {
#define X(code, name) TLS_ORIGIN_##code,
    TLS_ORIGIN_FAILURES(X)
#undef X
        TLS_ORIGIN_FAILURE_COUNT
};
const char *tls_origin_failure_name(enum tls_origin_failure);
/* Only from on_done. detail: a phrase for logs, static. TLS_ORIGIN_NONE: the connection is as trusted as the settings
 * want it, although err may not be NULL. */
enum tls_origin_failure tls_origin_judge(const struct tls_origin *, h2o_socket_t *, const char *err,
                                         const char **detail);
/* Of the last error of this thread's OpenSSL, when reading has failed after the handshake: static, or NULL. TLS 1.3
 * targets refuse our certificate only then. */
const char *tls_origin_read_error(void);
/* The origin has said close_notify: an end without it may be anybody's (RFC 9112 9.8). */
bool tls_origin_has_said_goodbye(h2o_socket_t *);
