/* Answers that weir makes by itself. Every one is made from a reason. All on the request's thread; exactly one answer
 * per request. With stream NULL (explain) only reason and status are noted. */
#pragma once
#include "gateway/request.h"

/* Error answers: status from the reason (or status if not 0), short body as JSON or HTML by Accept (plain text without
 * Accept), `x-weir-reason` for trusted clients, `allow` with a 405. Never leaks internals: the body says what the
 * status means and, where the request is at fault, the reason code. Works on requests whose head was refused (no
 * facts). */
void gw_answer_error(struct gw_request *, enum gw_reason, int status);
/* A complete answer: headers already added to stream->req.res.headers; body is copied unless is_static (or in the
 * request's pool). content_type base NULL: no such field. Statuses without content (1xx, 204, 304) drop body and
 * content-type. */
void gw_answer(struct gw_request *, enum gw_reason, int status, h2o_iovec_t content_type, h2o_iovec_t body,
               bool is_static);
/* The fields of the answer: sent or, without a network, noted (struct gw_dry_run). */
h2o_headers_t *gw_answer_fields(struct gw_request *);
/* Every response of a request begins here: h2o_start_response, after listeners.NAME.response_headers. */
void gw_answer_start(struct gw_request *, h2o_generator_t *);
/* `server: weir`, for those who start a response themselves. */
void gw_answer_add_server(struct gw_request *);
