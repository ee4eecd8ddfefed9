/* What weir adds to a request on its way to a target: X-Forwarded-*, Via, x-request-id, trace context (spec/alb.md 5.2
 * and 5.3, W3C Trace Context, RFC 9110 7.6.3); and the client IP behind trusted proxies. */
#pragma once
#include "gateway/request.h"

/* Client IP: the right-most address of X-Forwarded-For that is not a trusted proxy, if the peer is one; else the peer.
 */
void gw_forwarded_client(const struct gw_cidrs *trusted, const h2o_header_t *fields, size_t num_fields,
                         const struct gw_ip *peer, struct gw_ip *client, bool *peer_is_trusted);

/* Number of addresses in X-Forwarded-For; more than the limit is answered 463 (spec/alb.md 5.2). */
enum { GW_FORWARDED_MAX_ADDRESSES = 30 };
size_t gw_forwarded_count(const struct gw_request *);

/* 00-TRACE_ID-PARENT_ID-FLAGS (W3C Trace Context 3.2): where the parts are, and how long. */
enum {
    GW_TRACE_ID_AT = 3,
    GW_TRACE_ID_LEN = 32,
    GW_PARENT_ID_AT = 36,
    GW_PARENT_ID_LEN = 16,
    GW_TRACE_FLAGS_AT = 53,
    GW_TRACEPARENT_LEN = 55,
};
/* Request id and trace id: taken over when valid, else made. */
void gw_forwarded_identify(struct gw_request *, struct gw_thread *);

/* Host as an ALB makes it of the client's (spec/alb.md 5.4). Live traffic only. */
h2o_iovec_t gw_forwarded_host(const struct gw_request *);
/* X-Amzn-Trace-Id as the target got it, or would have. Live traffic only. */
h2o_iovec_t gw_forwarded_amzn_trace_id(struct gw_request *);

/* Sixteen lower-case hex digits; returns where they end. */
char *gw_forwarded_put_hex16(char *dst, uint64_t value);

/* The fields for the target, in a new list from the request's pool. */
void gw_forwarded_fields(struct gw_request *, struct gw_thread *, h2o_headers_t *out);
/* RFC 9110 7.6.2: counts Max-Forwards of an OPTIONS request down. False: it was 0, nobody else is to be asked. */
bool gw_forwarded_may_go_on(struct gw_request *, h2o_headers_t *);
