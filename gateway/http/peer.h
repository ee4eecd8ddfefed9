/* Who is at the other end of a connection: what is known when its first request may be read. */
#pragma once
#include "gateway/http/proxy_protocol.h"

struct tls_client_certificate;

/* What the access log tells of a peer, by field name: of the PROXY header, and of a client certificate. */
#define GW_PEER_NOTES(X)                                                                                               \
    X(proxy_peer)                                                                                                      \
    X(proxy_authority)                                                                                                 \
    X(proxy_alpn)                                                                                                      \
    X(proxy_unique_id)                                                                                                 \
    X(proxy_vpc_endpoint)                                                                                              \
    X(proxy_tls_version)                                                                                               \
    X(proxy_tls_cipher)                                                                                                \
    X(proxy_tls_name)                                                                                                  \
    X(client_cert_subject)                                                                                             \
    X(client_cert_issuer)                                                                                              \
    X(client_cert_serial)                                                                                              \
    X(client_cert_validity)                                                                                            \
    X(client_cert_fingerprint)
enum gw_peer_note {
#define X(name) GW_PEER_NOTE_##name,
    GW_PEER_NOTES(X)
#undef X
        GW_PEER_NOTE_COUNT
};
extern const char *const gw_peer_note_names[GW_PEER_NOTE_COUNT];

/* On the heap, for the few connections that have any of it; ends with the connection (gw_peer_facts_destroy). */
struct gw_peer_facts {
    struct tls_client_certificate *certificate;                   /* NULL: none was presented; owned, */
    void (*destroy_certificate)(struct tls_client_certificate *); /* ... by whoever made it */
    bool has_proxy;                                               /* a PROXY header came: */
    struct gw_proxy_header proxy;                                 /* its slices lie in proxy_bytes */
    char proxy_peer[GW_IP_TEXT];                                  /* who sent it, as text */
    char *proxy_bytes;                                            /* owned */
    h2o_iovec_t unique_id;                 /* of the header, readable: as it is or in hexadecimal; owned */
    h2o_iovec_t notes[GW_PEER_NOTE_COUNT]; /* base NULL: nothing to tell */
};

/* Handed from whoever accepts to whoever serves. */
struct gw_peer {
    void *listener; /* the gateway's per-thread listener */
    bool has_ip;    /* false: a Unix socket */
    struct gw_ip ip;
    uint16_t port;
    uint16_t local_port;         /* that the client connected to, perhaps at a balancer in front of us */
    struct gw_peer_facts *facts; /* NULL: nothing beyond addresses; taken by gw_conn_init */
    bool is_counted;             /* by the caps per client address */
};

/* Makes them when there are none yet. */
struct gw_peer_facts *gw_peer_facts(struct gw_peer *);
/* Copies the bytes of a header that gw_proxy_protocol_parse liked; the client's addresses are its from now on. */
void gw_peer_take_proxy(struct gw_peer *, const char *bytes, size_t len);
void gw_peer_facts_destroy(struct gw_peer_facts *); /* NULL is fine */
