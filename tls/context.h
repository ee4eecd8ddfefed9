/* One listener's TLS: the SSL_CTX that libh2o's sockets handshake with, and the choice of certificate by SNI and by
 * what the client can verify (spec/alb.md 1.2, test vector 27; the exact order is in tls/sni.h). Part of a snapshot:
 * built by a load, read by every thread. SSL objects keep the SSL_CTX and all that its callbacks use, so that a
 * handshake may outlive the snapshot (not the tickets, which the process owns). */
#pragma once
#include <h2o/socket.h>
#include "tls/certificate.h"
#include "tls/client_auth.h"
#include "tls/policy.h"
#include "tls/ticket.h"
#include "gateway/base/trace.h"

struct tls_listener_conf { /* listeners.NAME.tls */
    const struct gw_node *at;
    int policy;                      /* index into tls_policy_names; default "intermediate" */
    struct gw_texts certificates;    /* names to choose from; the first is the default, unless there is another: */
    h2o_iovec_t default_certificate; /* name; base NULL: none. Chosen by its names only if certificates lists it, too */
    struct gw_texts alpn;            /* of listeners of protocol tls: what is agreed upon if the client offers it */
    uint64_t handshake_timeout_ms;   /* 10 s */
    bool session_tickets;            /* default true; never with client_auth: a resumed session shows no certificate */
    struct tls_client_auth_conf client_auth;
};
extern const struct gw_section tls_listener_section;
/* Whether default_certificate is one that certificates does not list. */
bool tls_default_is_apart(const struct tls_listener_conf *);

struct tls_context;
/* certificates: those of conf->certificates, in order, at least one, and behind them the default if that is none of
 * them; borrowed (they live in the snapshot). alpn: e.g. "http/1.1", in preference order; a client that offers only
 * others gets no_application_protocol (RFC 7301 3.2) or, where they are conf->alpn, is served without; so is one that
 * offers none. id: distinguishes listeners for resumption; a session is resumed only on the same listener id, under the
 * same policy and for the same server name, before or after a reload. tickets may be NULL: no resumption. NULL after
 * recording an error. */
struct tls_context *tls_context_create(const struct tls_listener_conf *, h2o_iovec_t id,
                                       struct tls_certificate *const *certificates, size_t num_certificates,
                                       const char *const *alpn, size_t num_alpn, struct tls_tickets *,
                                       struct gw_errors *);
void tls_context_destroy(struct tls_context *); /* NULL is fine */
SSL_CTX *tls_context_ssl(struct tls_context *); /* borrowed */
bool tls_chose_h2(SSL *);                       /* by ALPN, after the handshake */
/* libh2o shows nobody the SSL object of a socket. This callback does: it runs inside the handshake once the ClientHello
 * is there, and the SSL lives as long as the socket's TLS does (SSL_get_servername() works from the end of the
 * handshake on). Set it before the context is published; not called for connections that are not libh2o's. */
void tls_context_on_hello(struct tls_context *, void (*on_hello)(h2o_socket_t *, SSL *));
/* What a client with this SNI would get (explain). NULL server_name base = no SNI. Assumes a client that takes ECDSA.
 */
const struct tls_certificate *tls_context_select(const struct tls_context *, h2o_iovec_t server_name,
                                                 struct gw_trace *);
