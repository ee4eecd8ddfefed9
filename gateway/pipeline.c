#include "gateway/pipeline.h"
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/answer/echo.h"
#include "gateway/exchange/exchange.h"
#include "gateway/exchange/fault.h"
#include "gateway/answer/files.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/overload.h"
#include "gateway/process.h"
#include "gateway/exchange/explain_target.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/answer/grpc.h"
#include "gateway/exchange/upgrade.h"
#include "routing/path.h"
#include "routing/redirect.h"

/* The request ends here with a local answer; explain stops at the decision. */
static enum gw_step refuse(struct gw_request *request, enum gw_reason reason)
{
    request->reason = reason;
    request->status = gw_reason_info(reason)->status;
    gw_trace(request->trace, "answer", NULL, "%d %s: %s", request->status, gw_reason_info(reason)->code,
             gw_reason_info(reason)->cause);
    if (request->stream != NULL)
        gw_answer_error(request, reason, 0);
    return GW_ANSWERED;
}

/* ---- facts ---- */

/* The text itself when it is in lower case already. */
static h2o_iovec_t lower_case(h2o_mem_pool_t *pool, h2o_iovec_t text)
{
    size_t n = 0;
    while (n != text.len && !(text.base[n] >= 'A' && text.base[n] <= 'Z'))
        ++n;
    if (__builtin_expect(n == text.len, 1))
        return text;
    text = h2o_strdup(pool, text.base, text.len);
    h2o_strtolower(text.base, text.len);
    return text;
}

/* Host without port and trailing dot, in lower case; the port if the authority names one. */
static void split_authority(struct gw_request *request)
{
    struct routing_facts *facts = &request->facts;
    h2o_iovec_t host = facts->authority;
    size_t colon = host.len;

    while (colon != 0 && host.base[colon - 1] >= '0' && host.base[colon - 1] <= '9')
        --colon;
    if (colon != 0 && host.base[colon - 1] == ':') {
        uint32_t port = 0;
        for (size_t i = colon; i != host.len; ++i)
            port = port * 10 + (host.base[i] - '0');
        if (colon != host.len)
            facts->port = (uint16_t)port;
        host.len = colon - 1;
    }
    if (host.len != 0 && host.base[host.len - 1] == '.')
        --host.len;
    facts->host = lower_case(request->pool, host);
}

static void trace_facts(struct gw_request *request)
{
    char ip[GW_IP_TEXT];
    gw_ip_format(&request->facts.client_ip, ip);
    gw_trace(request->trace, "client", NULL, "%s%s", ip,
             request->client_is_trusted ? " (from X-Forwarded-For: the peer is a trusted proxy)" : "");
    gw_trace(request->trace, "path", NULL, "\"%.*s\"%s", (int)request->facts.path.len, request->facts.path.base,
             request->facts.path.base == request->facts.raw_path.base ? " (already canonical)" : " (canonical form)");
}

static enum gw_step compute_facts(struct gw_request *request)
{
    struct routing_facts *facts = &request->facts;
    enum routing_path_result result;

    gw_forwarded_client(&request->snapshot->config->trusted_proxies, facts->headers, facts->num_headers,
                        &facts->peer_ip, &facts->client_ip, &request->client_is_trusted);
    if (request->worker != NULL)
        gw_forwarded_identify(request, &request->worker->thread);
    split_authority(request);
    if (facts->raw_path.len == 1 && facts->raw_path.base[0] == '*') { /* OPTIONS * */
        facts->path = facts->raw_path;
    } else if ((result = routing_path_canonical(request->pool, facts->raw_path, &facts->path)) != ROUTING_PATH_OK) {
        request->error = routing_path_problem(result);
        facts->path = facts->raw_path;
        return refuse(request, GW_REASON_BAD_PATH);
    }
    if (__builtin_expect(request->trace != NULL, 0))
        trace_facts(request);
    return GW_NEXT;
}

/* Whatever route there is for it (spec/alb.md 5.1). */
static enum gw_step check_head(struct gw_request *request)
{
    h2o_iovec_t method = request->facts.method;
    if (__builtin_expect(method.base[0] == 'T' && h2o_memis(method.base, method.len, H2O_STRLIT("TRACE")), 0))
        return refuse(request, GW_REASON_METHOD_NOT_ALLOWED);
    if (request->snapshot->config->forwarding.x_forwarded == GW_X_FORWARDED_APPEND &&
        __builtin_expect(gw_forwarded_count(request) > GW_FORWARDED_MAX_ADDRESSES, 0))
        return refuse(request, GW_REASON_TOO_MANY_FORWARDED);
    return GW_NEXT;
}

/* ---- route ---- */

/* The response, whoever makes it, will pass the compression filter. */
static void offer_compression(struct gw_request *request, const struct gw_compression *compression)
{
    struct gw_compression_question question = {.headers = request->facts.headers,
                                               .num_headers = request->facts.num_headers};
    if (request->stream != NULL)
        gw_compression_offer(request, compression);
    else
        gw_compression_explain(compression, request->trace, &question);
}

/* Explain knows this answer already. */
static void explain_compression(struct gw_request *request, size_t size)
{
    struct gw_compression_question question = {.headers = request->facts.headers,
                                               .num_headers = request->facts.num_headers,
                                               .status = request->status,
                                               .fields = gw_answer_fields(request),
                                               .content_length = size};
    if (request->route->compression != NULL)
        gw_compression_explain(request->route->compression, request->trace, &question);
}

static enum gw_step find_route(struct gw_request *request)
{
    const struct routing_route *matched =
        routing_table_match(request->snapshot->table, &request->facts, request->trace);
    if (matched == NULL) {
        if (request->snapshot->compression != NULL)
            offer_compression(request, request->snapshot->compression);
        return refuse(request, GW_REASON_NO_ROUTE);
    }
    request->route = &request->snapshot->routes[matched->index];
    if (__builtin_expect(request->route->has_more, 0) && request->route->compression != NULL)
        offer_compression(request, request->route->compression);
    return GW_NEXT;
}

/* Last in, first refused: work that has begun is worth more than work that has not. */
static enum gw_step shed(struct gw_request *request)
{
    if (request->worker == NULL || __builtin_expect(request->worker->pressure < GW_PRESSURE_FULL, 1) ||
        !gw_overload_refuses(request->worker, request->route->conf->criticality))
        return GW_NEXT;
    h2o_add_header_by_str(request->pool, gw_answer_fields(request), H2O_STRLIT("retry-after"), 0, NULL,
                          H2O_STRLIT("1"));
    return refuse(request, GW_REASON_OVERLOADED);
}

static enum gw_step check_body_size(struct gw_request *request)
{
    if (request->stream == NULL)
        return GW_NEXT;
    if (request->stream->has_body && request->stream->head.content_length != UINT64_MAX &&
        request->stream->head.content_length > request->route->max_body) {
        request->stream->close_after = true;
        return refuse(request, GW_REASON_BODY_TOO_LARGE);
    }
    return GW_NEXT;
}

static enum gw_step check_upgrade(struct gw_request *request)
{
    if (__builtin_expect(request->upgrade.base == NULL, 1))
        return GW_NEXT;
    return gw_upgrade_decide(request);
}

/* ---- actions ---- */

static void add_response_headers(struct gw_request *request)
{
    gw_answer_add_server(request); /* before the rules, which may remove it */
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, request->pool, gw_answer_fields(request));
}

static enum gw_step redirect(struct gw_request *request)
{
    const struct routing_redirect_conf *conf = request->route->conf->redirect;
    h2o_iovec_t location = routing_redirect_location(request->pool, conf, &request->facts);

    if (location.base == NULL)
        return refuse(request, GW_REASON_REDIRECT_TOO_LONG);
    request->status = (int)conf->status;
    request->reason = GW_REASON_REDIRECT;
    gw_trace(request->trace, "action", conf->at, "redirect %d to %.*s", request->status, (int)location.len,
             location.base);
    h2o_add_header(request->pool, gw_answer_fields(request), H2O_TOKEN_LOCATION, NULL, location.base, location.len);
    add_response_headers(request);
    if (request->stream != NULL)
        gw_answer(request, GW_REASON_REDIRECT, request->status, h2o_iovec_init(NULL, 0), h2o_iovec_init(H2O_STRLIT("")),
                  true);
    return GW_ANSWERED;
}

static enum gw_step respond(struct gw_request *request)
{
    const struct routing_respond_conf *conf = request->route->conf->respond;

    request->status = (int)conf->status;
    request->reason = GW_REASON_FIXED_RESPONSE;
    gw_trace(request->trace, "action", conf->at, "respond %d with %zu bytes", request->status, conf->body.len);
    add_response_headers(request);
    if (request->stream != NULL)
        gw_answer(request, GW_REASON_FIXED_RESPONSE, request->status, conf->content_type, conf->body, true);
    else if (request->status != 204 && request->status != 304)
        h2o_set_header(request->pool, gw_answer_fields(request), H2O_TOKEN_CONTENT_TYPE, conf->content_type.base,
                       conf->content_type.len, 0);
    if (__builtin_expect(request->trace != NULL, 0))
        explain_compression(request, conf->body.len);
    return GW_ANSWERED;
}

static enum gw_step serve_files(struct gw_request *request)
{
    request->reason = GW_REASON_FILE_SERVED;
    gw_trace(request->trace, "action", request->route->conf->files->at, "files below %.*s",
             (int)request->route->conf->files->root.len, request->route->conf->files->root.base);
    add_response_headers(request);
    if (request->dry != NULL && request->dry->skips_files)
        return GW_ANSWERED;
    gw_files_serve(request->route->files, request); /* in explain: finds out what it would answer */
    if (request->stream == NULL)
        gw_trace(request->trace, "answer", NULL, "%d %s", request->status, gw_reason_info(request->reason)->code);
    return GW_ANSWERED;
}

static enum gw_step echo(struct gw_request *request)
{
    request->reason = GW_REASON_ECHO;
    gw_trace(request->trace, "action", request->route->conf->at, "echo");
    add_response_headers(request);
    gw_echo_serve(request);
    return GW_ANSWERED;
}

/* What gw_exchange_start would send, noted instead. */
static enum gw_step forward_dry(struct gw_request *request)
{
    const struct routing_target *target = &request->group->targets[request->target];
    const struct routing_facts *facts = &request->facts;
    struct gw_dry_run *dry = request->dry;
    h2o_iovec_t url = facts->raw_path, host = facts->authority;

    if (facts->query.base != NULL) /* they stand beside each other in the head */
        url.len = facts->query.base + facts->query.len - url.base;
    if (request->route->rewrite != NULL &&
        (routing_rewrite_apply(request->route->rewrite, request->pool, facts->path, facts->query, &url) ==
             ROUTING_REWRITE_FAILED ||
         routing_rewrite_host(request->route->rewrite, request->pool, facts->host, &host) == ROUTING_REWRITE_FAILED))
        return refuse(request, GW_REASON_REWRITE_FAILED);
    if (host.base != facts->authority.base)
        gw_trace(request->trace, "host", gw_setting_at(request->route->conf->rewrite->at, "host"),
                 "the target gets Host: %.*s", (int)host.len, host.base);
    dry->target_url = url;
    h2o_vector_reserve(request->pool, &dry->target_fields, facts->num_headers + 1);
    memcpy(dry->target_fields.entries, facts->headers, sizeof(h2o_header_t) * facts->num_headers);
    dry->target_fields.size = facts->num_headers;
    if (request->route->request_headers != NULL)
        routing_header_rules_apply(request->route->request_headers, request->pool, &dry->target_fields);
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, request->pool, &dry->answer_fields);
    if (request->group->conf->lambda != NULL)
        gw_trace(request->trace, "lambda", request->group->conf->lambda->at, "as an event for function \"%s\"",
                 request->group->conf->lambda->function.base);
    gw_trace(request->trace, "action", request->route->conf->forward->at, "forward to %.*s (%s) as %.*s",
             (int)target->name.len, target->name.base, routing_health_name(routing_health_state(target->health)),
             (int)url.len, url.base);
    return GW_ANSWERED;
}

/* Nobody may be asked, or nobody now. */
static enum gw_step wait_for_target(struct gw_request *request)
{
    enum gw_reason reason = GW_REASON_NO_TARGETS;

    if (request->target == ROUTING_BUSY_TARGETS)
        reason = request->stream != NULL  ? gw_target_queue_join(request)
                 : request->trace != NULL ? gw_explain_wait(request)
                                          : GW_REASON_TARGETS_BUSY;
    if (reason != GW_REASON_NONE)
        return refuse(request, reason);
    return request->stream != NULL ? GW_PARKED : GW_ANSWERED;
}

static enum gw_step forward(struct gw_request *request)
{
    uint32_t random = request->route->num_groups == 1 ? 0
                      : request->worker != NULL       ? gw_thread_random(&request->worker->thread) >> 32
                                                      : request->dry->random;
    bool has_target = gw_exchange_choose(request, random);
    if (__builtin_expect(request->trace != NULL, 0) && request->group != NULL)
        gw_explain_target(request);
    if (__builtin_expect(request->upgrade.base != NULL, 0) && !gw_upgrade_fits_group(request))
        return GW_ANSWERED;
    if (__builtin_expect(!has_target, 0))
        return wait_for_target(request);
    if (__builtin_expect(gw_grpc_refuses(request), 0)) {
        gw_trace(request->trace, "protocol", gw_setting_at(request->group->conf->at, "protocol"),
                 "refused: the group takes gRPC, which is HTTP/2 and POST");
        return refuse(request, GW_REASON_GRPC_ONLY);
    }
    if (__builtin_expect(request->route->has_more, 0) && request->route->mirror_group != NULL)
        gw_trace(request->trace, "mirror", request->route->conf->mirror->at,
                 "%g%% of the requests are copied to \"%.*s\"", request->route->conf->mirror->percent,
                 (int)request->route->mirror_group->name.len, request->route->mirror_group->name.base);
    if (request->stream == NULL) {
        enum gw_reason reason = gw_explain_bounds(request);
        return reason == GW_REASON_NONE ? forward_dry(request) : refuse(request, reason);
    }
    gw_exchange_start(request);
    return GW_PARKED;
}

static enum gw_step act(struct gw_request *request)
{
    switch (request->route->action) {
    case ROUTING_FORWARD:
        return forward(request);
    case ROUTING_REDIRECT:
        return redirect(request);
    case ROUTING_RESPOND:
        return respond(request);
    case ROUTING_FILES:
        return serve_files(request);
    case ROUTING_ECHO:
        return echo(request);
    }
    return refuse(request, GW_REASON_INTERNAL_ERROR);
}

/* The way of a request, top to bottom. */
static enum gw_step (*const stages[])(struct gw_request *) = {
    compute_facts, check_head, find_route, shed, check_body_size, check_upgrade, gw_fault_stage, act,
};

static void run_from(struct gw_request *request, size_t i)
{
    for (; i != sizeof(stages) / sizeof(stages[0]); ++i) {
        enum gw_step step = stages[i](request);
        if (step == GW_NEXT)
            continue;
        if (step == GW_PARKED)
            request->next_stage = (uint8_t)(i + 1);
        return;
    }
}

void gw_pipeline_run(struct gw_request *request) { run_from(request, 0); }

void gw_pipeline_resume(struct gw_request *request) { run_from(request, request->next_stage); }
