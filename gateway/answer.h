/* Answers that weir makes by itself. Every one is made from a reason. */
#pragma once
#include "gateway/request.h"

/* Error answers: status from the reason (or status if not 0), short body as JSON or HTML by Accept (plain text without
 * Accept), `x-weir-reason` for trusted clients. Never leaks internals. */
void gw_answer_error(struct gw_request *, enum gw_reason, int status);
/* A complete answer: headers already added to stream->req.res.headers; body is copied unless is_static. */
void gw_answer(struct gw_request *, enum gw_reason, int status, h2o_iovec_t content_type, h2o_iovec_t body, bool is_static);
