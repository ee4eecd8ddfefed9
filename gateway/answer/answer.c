#include "gateway/answer/answer.h"
#include "gateway/answer/accept_field.h"
#include "gateway/base/json.h"
#include "gateway/answer/error_page.h"
#include "gateway/answer/grpc.h"
#include "gateway/config/config.h"
#include "gateway/http/response.h"
#include "gateway/snapshot.h"
#include "routing/header_rules.h"

/* What a client is told about a status: enough to act upon, nothing of how the gateway is built. The cause in the
 * operator's words is in the access log and in `weir reason`. */
static const char *public_message(int status)
{
    switch (status) {
    case 400:
        return "The request is malformed.";
    case 403:
        return "Access to this resource is not allowed.";
    case 404:
        return "There is nothing at this address.";
    case 405:
        return "The method is not allowed for this resource.";
    case 408:
        return "The request did not arrive in time.";
    case 412:
        return "A precondition of the request does not hold.";
    case 413:
        return "The request body is too large.";
    case 414:
        return "The URL is too long.";
    case 416:
        return "None of the ranges asked for lies within the resource.";
    case 417:
        return "The expectation of the request cannot be met.";
    case 426:
        return "The request needs another protocol or version.";
    case 431:
        return "The request header is too large.";
    case 463:
        return "X-Forwarded-For holds too many addresses.";
    case 501:
        return "The request needs a feature that is not supported.";
    case 502:
        return "The service behind this gateway gave no valid answer.";
    case 503:
        return "The service is not available at the moment.";
    case 504:
        return "The service behind this gateway did not answer in time.";
    case 505:
        return "The protocol version is not supported.";
    default:
        return status >= 500 ? "The server could not do its work." : "The request cannot be served.";
    }
}

/* A complaint about the request names its reason to everybody, one about the servers only to trusted clients, who get
 * it in x-weir-reason too. */
static bool may_name_reason(const struct gw_request *request, int status)
{
    return request->client_is_trusted || status < 500;
}

static h2o_iovec_t json_body(struct gw_request *request, enum gw_reason reason, int status)
{
    struct gw_json json;
    h2o_iovec_t body;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "status");
    gw_json_number(&json, status);
    if (may_name_reason(request, status)) {
        gw_json_key(&json, "reason");
        gw_json_string(&json, gw_reason_info(reason)->code);
    }
    gw_json_key(&json, "message");
    gw_json_string(&json, public_message(status));
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    body = h2o_strdup(request->pool, json.base, json.size);
    gw_json_dispose(&json);
    return body;
}

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }

/* "404 Not Found" */
static h2o_iovec_t title_of(h2o_mem_pool_t *pool, int status)
{
    char digits[] = {'0' + status / 100 % 10, '0' + status / 10 % 10, '0' + status % 10, ' '};
    return h2o_concat(pool, h2o_iovec_init(digits, sizeof(digits)), text_of(gw_reason_phrase(status)));
}

static h2o_iovec_t html_body(struct gw_request *request, int status)
{
    h2o_iovec_t title = title_of(request->pool, status);
    return h2o_concat(request->pool, text_of("<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>"), title,
                      text_of("</title></head>\n<body><h1>"), title, text_of("</h1><p>"),
                      text_of(public_message(status)), text_of("</p></body></html>\n"));
}

static h2o_iovec_t text_body(struct gw_request *request, int status)
{
    return h2o_concat(request->pool, title_of(request->pool, status), text_of("\n"), text_of(public_message(status)),
                      text_of("\n"));
}

/* RFC 9110 15.5.6: a 405 names what is allowed. Whoever knows better has added the field already. */
static void add_allow(h2o_req_t *req)
{
    if (h2o_find_header(&req->res.headers, H2O_TOKEN_ALLOW, -1) == -1)
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, NULL,
                       H2O_STRLIT("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
}

static void add_reason(h2o_req_t *req, enum gw_reason reason)
{
    const char *code = gw_reason_info(reason)->code;
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-weir-reason"), 0, NULL, code, strlen(code));
}

/* What the route's header rules or a handler said about another body than the error's: a missing page must not be
 * cached as long as the pages that are there. Anything else (HSTS, CORS) stays. */
static void drop_representation(h2o_headers_t *fields)
{
    const h2o_token_t *const names[] = {H2O_TOKEN_CONTENT_TYPE,
                                        H2O_TOKEN_CONTENT_ENCODING,
                                        H2O_TOKEN_CONTENT_LANGUAGE,
                                        H2O_TOKEN_CONTENT_LOCATION,
                                        H2O_TOKEN_CONTENT_DISPOSITION,
                                        H2O_TOKEN_CACHE_CONTROL,
                                        H2O_TOKEN_EXPIRES,
                                        H2O_TOKEN_ETAG,
                                        H2O_TOKEN_LAST_MODIFIED};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        for (ssize_t at; (at = h2o_find_header(fields, names[i], -1)) != -1;)
            h2o_delete_header(fields, at);
}

h2o_headers_t *gw_answer_fields(struct gw_request *request)
{
    return request->stream != NULL ? &request->stream->req.res.headers : &request->dry->answer_fields;
}

/* The configuration's own body, whatever Accept says. */
static const struct gw_error_page *page_for(const struct gw_request *request, int status)
{
    const struct gw_error_page *page = NULL;
    if (request->route != NULL)
        page = gw_error_pages_find(request->route->error_pages, status);
    return page != NULL ? page : gw_error_pages_find(request->snapshot->error_pages, status);
}

void gw_answer_error(struct gw_request *request, enum gw_reason reason, int status)
{
    h2o_iovec_t type = text_of("text/plain; charset=utf-8"), body;

    if (status == 0)
        status = gw_reason_info(reason)->status;
    if (status == 0)
        status = 500;
    drop_representation(gw_answer_fields(request));
    if (request->stream == NULL) { /* explain: the decision is all there is */
        request->reason = reason;
        request->status = status;
        return;
    }
    if (__builtin_expect(gw_grpc_is_call(request), 0)) {
        gw_grpc_answer(request, reason, gw_grpc_status_of(reason, status), public_message(status));
        return;
    }
    if (status == 405)
        add_allow(&request->stream->req);
    const struct gw_error_page *page = page_for(request, status);
    if (page != NULL) {
        gw_answer(request, reason, status, page->content_type, page->body, true); /* lives as long as the snapshot */
        return;
    }
    switch (gw_accept_field_choose(request->facts.headers, request->facts.num_headers)) {
    case GW_ACCEPT_JSON:
        type = text_of("application/json");
        body = json_body(request, reason, status);
        break;
    case GW_ACCEPT_HTML:
        type = text_of("text/html; charset=utf-8");
        body = html_body(request, status);
        break;
    default:
        body = text_body(request, status);
    }
    gw_answer(request, reason, status, type, body, true); /* lives in the request's pool: no second copy */
}

void gw_answer_start(struct gw_request *request, h2o_generator_t *generator)
{
    const struct gw_snapshot_listener *listener = request->listener;
    h2o_req_t *req = &request->stream->req;

    if (__builtin_expect(listener != NULL && listener->response_headers != NULL, 0))
        routing_header_rules_apply(listener->response_headers, &req->pool, &req->res.headers);
    h2o_start_response(req, generator);
}

static bool may_have_content(int status) { return status >= 200 && status != 204 && status != 304; }

void gw_answer(struct gw_request *request, enum gw_reason reason, int status, h2o_iovec_t content_type,
               h2o_iovec_t body, bool is_static)
{
    static h2o_generator_t generator; /* libh2o wants one; never written to: everything is sent at once */
    struct gw_stream *stream = request->stream;

    request->reason = reason;
    request->status = status;
    if (stream == NULL)
        return;

    h2o_req_t *req = &stream->req;
    req->res.status = status;
    req->res.reason = gw_reason_phrase(status);
    gw_answer_add_server(request);
    if (request->client_is_trusted)
        add_reason(req, reason);
    if (may_have_content(status)) {
        if (content_type.base != NULL) /* what response_headers have set stands */
            h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, content_type.base, content_type.len,
                           0);
        req->res.content_length = body.len;
        if (!is_static)
            body = h2o_strdup(&req->pool, body.base, body.len);
    } else {
        req->res.content_length = SIZE_MAX;
        body.len = 0;
    }
    gw_answer_start(request, &generator);
    h2o_send(req, &body, body.len != 0, H2O_SEND_STATE_FINAL);
}

void gw_answer_add_server(struct gw_request *request)
{
    h2o_headers_t *fields = gw_answer_fields(request);

    if (request->has_server_field)
        return;
    request->has_server_field = true;
    if (request->listener != NULL && !request->listener->conf->server_header)
        return;
    if (h2o_find_header(fields, H2O_TOKEN_SERVER, -1) == -1)
        h2o_add_header(request->pool, fields, H2O_TOKEN_SERVER, NULL, H2O_STRLIT("weir"));
}
