/* How a target is spoken to: HTTP/1.1 or HTTP/2, plain or TLS. Part of a snapshot, one for each target, made by a load;
 * counted, because connections and health checks may outlive the configuration. Read by all threads. NULL stands for
 * plain HTTP/1.1 everywhere. */
#pragma once
#include <stdbool.h>
#include "tls/origin.h"

struct gw_transport {
    _Atomic unsigned refs;
    bool is_http2;
    uint32_t handshake_ms;  /* TLS */
    uint64_t id;            /* connections of one id may serve each other's requests; 0 is plain HTTP/1.1's */
    struct tls_origin *tls; /* NULL: plain */
    char *name;             /* TLS: what the certificate must be for; sent as SNI when it is no address */
};
/* Holds tls, copies the name (base NULL: plain). */
struct gw_transport *gw_transport_create(bool is_http2, struct tls_origin *tls, h2o_iovec_t name,
                                         uint32_t handshake_ms);
const struct gw_transport *gw_transport_hold(const struct gw_transport *); /* any thread; NULL is fine */
void gw_transport_release(const struct gw_transport *);                    /* NULL is fine */
static inline uint64_t gw_transport_id(const struct gw_transport *self) { return self == NULL ? 0 : self->id; }
