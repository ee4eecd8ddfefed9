/* Who is at the other end of a connection: what is known when its first request may be read. */
#pragma once
#include "gateway/http/proxy_protocol.h"

struct tls_client_certificate;

/* On the heap, for the few connections that have any of it; ends with the connection (gw_peer_facts_destroy). */
struct gw_peer_facts {
    struct tls_client_certificate *certificate;                   /* NULL: none was presented; owned, */
    void (*destroy_certificate)(struct tls_client_certificate *); /* ... by whoever made it */
    bool has_proxy;                                               /* a PROXY header came: */
    struct gw_proxy_header proxy;                                 /* its slices lie in proxy_bytes */
    char proxy_peer[46];                                          /* who sent it, as text */
    char *proxy_bytes;                                            /* owned */
    h2o_iovec_t unique_id; /* of the header, readable: as it is or in hexadecimal; owned */
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
