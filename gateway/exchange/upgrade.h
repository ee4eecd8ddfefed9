/* Switching protocols (RFC 9110 7.8): WebSocket (RFC 6455), over HTTP/2 too (RFC 8441), and what else a route takes. */
#pragma once
#include "gateway/pipeline.h"
#include "gateway/request.h"

/* The stage for a request whose client offers protocols (request->upgrade, as offered): leaves the one that the target
 * is asked for there, or none, or answers. The route is known. */
enum gw_step gw_upgrade_decide(struct gw_request *);

/* Whether the target group that was chosen (if one was) can carry the upgrade; if not, answers. */
bool gw_upgrade_fits_group(struct gw_request *);

/* The fields that the handshake with the target needs, where the client's protocol has none (HTTP/2). Room for two. */
void gw_upgrade_complete_fields(struct gw_request *, h2o_headers_t *);

/* What the client's protocol does not know of the target's 101, whose fields are in the response already. */
void gw_upgrade_complete_response(struct gw_request *);
/* The target has answered with another status than 101. False: the client would take it for an agreement (any 2xx to an
 * extended CONNECT). True: it is an answer, after which an HTTP/1.1 connection ends: a client that was sure of
 * the upgrade may have sent bytes ahead, which are no request. */
bool gw_upgrade_was_refused(struct gw_request *, int status);

/* What is wrong with the target's 101; NULL: nothing. */
const char *gw_upgrade_fault(const struct gw_request *, const struct gw_response_head *);
