/* What routing knows of a request: computed once per request (facts stage), borrowed slices, no request object. */
#pragma once
#include <h2o.h>
#include "gateway/base/ip.h"

struct routing_facts {
    uint32_t listener; /* index of the listener in the snapshot */
    bool is_tls;
    h2o_iovec_t method;    /* as sent */
    h2o_iovec_t host;      /* lower case, without port and trailing dot; "" on HTTP/1.0 without Host */
    h2o_iovec_t authority; /* as sent, with port */
    uint16_t port;         /* of the listener, or of the authority if it names one */
    h2o_iovec_t path;      /* canonical (routing/path.h), starts with '/', no query */
    h2o_iovec_t raw_path;  /* as sent, no query */
    h2o_iovec_t query;     /* as sent, without '?'; base NULL when there is no '?' */
    const h2o_header_t *headers;
    size_t num_headers;
    uint32_t absent_initials; /* of their names, as in gateway/http/head.h; 0: nothing is known */
    struct gw_ip client_ip;   /* after trusted_proxies */
    struct gw_ip peer_ip;     /* of the TCP connection: what source_ip conditions see (spec/alb.md 2.2) */
    uint16_t peer_port;
};
