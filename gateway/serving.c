/* A request from its head to its line in the log: what the connections of a worker's server call. */
#include "gateway/worker.h"
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/choose.h"
#include "gateway/exchange/client_identity.h"
#include "gateway/exchange/exchange.h"
#include "gateway/exchange/fault.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/pipeline.h"
#include "gateway/admin/recent.h"
#include "gateway/admin/tail.h"
#include "gateway/exchange/target_queue.h"

static struct gw_worker *worker_of(struct gw_stream *stream)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_worker, server, stream->conn->server);
}

static struct gw_request *create_request(struct gw_stream *stream)
{
    struct gw_worker *worker = worker_of(stream);
    struct gw_acceptor *accept = stream->conn->listener;
    struct gw_request *request = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*request));

    gw_client_identity_apply(stream, worker->held->snapshot->identity, accept->listener);
    memset(request, 0, offsetof(struct gw_request, facts));
    request->pool = &stream->req.pool;
    request->worker = worker;
    request->stream = stream;
    request->held = worker->held;
    ++request->held->uses;
    request->snapshot = request->held->snapshot;
    request->target = ROUTING_NO_TARGET;
    request->facts = (struct routing_facts){
        .listener = accept->listener,
        .is_tls = stream->conn->is_tls,
        .method = stream->head.method,
        .authority = stream->head.authority,
        .port = stream->conn->local_port,
        .headers = stream->head.fields,
        .num_headers = stream->head.num_fields,
        .absent_initials = stream->head.absent_initials,
        .peer_ip = stream->conn->peer_ip,
        .client_ip = stream->conn->peer_ip,
    };
    request->upgrade = stream->upgrade;
    request->has_body = stream->has_body;
    if (accept->listener != UINT32_MAX)
        request->listener = &request->snapshot->listeners[accept->listener];
    stream->user = request;
    gw_count(&worker->stats.requests_in_flight, 1);
    return request;
}

static void split_target(struct gw_request *request)
{
    const struct gw_request_head *head = &request->stream->head;
    if (head->query_at == SIZE_MAX) {
        request->facts.raw_path = head->path;
    } else {
        request->facts.raw_path = h2o_iovec_init(head->path.base, head->query_at);
        request->facts.query =
            h2o_iovec_init(head->path.base + head->query_at + 1, head->path.len - head->query_at - 1);
    }
}

static void on_request(struct gw_stream *stream)
{
    struct gw_request *request = create_request(stream);
    split_target(request);
    gw_pipeline_run(request);
}

/* For whoever reads the log; no decision is made upon it. */
static void note_refused(struct gw_request *request)
{
    h2o_iovec_t bytes = request->stream->refused_bytes;
    struct routing_facts *facts = &request->facts;

    if (bytes.len == 0)
        return;
    struct gw_head_glimpse seen = gw_head_glimpse(bytes.base, bytes.len);
    h2o_iovec_t *const to[] = {&facts->method, &facts->raw_path, &facts->query, &facts->host};
    const h2o_iovec_t from[] = {seen.method, seen.path, seen.query, seen.host};
    for (size_t i = 0; i != sizeof(to) / sizeof(to[0]); ++i)
        if (from[i].base != NULL)
            *to[i] = h2o_strdup(request->pool, from[i].base, from[i].len);
}

static void on_bad_head(struct gw_stream *stream, enum gw_head_result result)
{
    struct gw_request *request = create_request(stream);
    struct routing_facts *facts = &request->facts;

    /* none of its fields is believed, but who sent it is known */
    gw_forwarded_client(&request->snapshot->config->trusted_proxies, NULL, 0, &facts->peer_ip, &facts->client_ip,
                        &request->client_is_trusted);
    note_refused(request);
    request->error = gw_head_problem(result);
    gw_answer_error(request, result == GW_HEAD_INCOMPLETE ? GW_REASON_HEADER_TIMEOUT : gw_reason_of_head(result), 0);
}

static void on_bad_body(struct gw_stream *stream)
{
    struct gw_request *request = stream->user;
    gw_fault_release(request);
    gw_exchange_release(request->exchange);
    stream->req.res.headers.size = 0;
    request->has_server_field = false;
    stream->req.res.content_length = SIZE_MAX;
    gw_answer_error(request, gw_reason_of_end(stream->end), 0);
}

static void count_totals(struct gw_worker *worker, const struct gw_request *request, unsigned bucket,
                         uint64_t elapsed_us)
{
    struct gw_worker_totals *totals = &worker->totals;

    gw_count(&totals->by_class[request->status >= 100 && request->status < 600 ? request->status / 100 : 0], 1);
    gw_count(&totals->buckets[bucket], 1);
    gw_count(&totals->seconds_sum_us, elapsed_us);
}

static void count_request(struct gw_worker *worker, struct gw_request *request)
{
    struct gw_route_stats *stats = request->route != NULL ? request->route->stats : request->snapshot->no_route;
    struct gw_route_slot *slot = &stats->slots[worker->thread.index];

    if (request->reason == GW_REASON_NONE)
        gw_count(&slot->by_class[request->status >= 100 && request->status < 600 ? request->status / 100 : 0], 1);
    else
        gw_count(&slot->by_reason[request->reason], 1);
    /* how long a tunnel was open says nothing about how fast anybody is */
    uint64_t ended_us = request->stream->is_tunnel ? request->upstream_first_byte_us : request->finished_us;
    uint64_t elapsed_us = ended_us - request->stream->started_us;
    unsigned bucket = gw_histogram_bucket(elapsed_us);
    gw_count(&slot->buckets[bucket].seconds, 1);
    gw_count(&slot->seconds_sum_us, elapsed_us);
    count_totals(worker, request, bucket, elapsed_us);
    if (request->upstream_first_byte_us != 0) {
        elapsed_us = request->upstream_first_byte_us - request->upstream_started_us;
        gw_count(&slot->buckets[gw_histogram_bucket(elapsed_us)].upstream, 1);
        gw_count(&slot->upstream_sum_us, elapsed_us);
    }
}

/* Whoever breaks a response off has said why, and an error answer stays one even if the client did not wait for it;
 * everything else that did not end well is told by how it ended. */
static bool is_end_the_reason(const struct gw_request *request)
{
    if (!request->stream->response_started)
        return true;
    if (request->stream->end == GW_END_ABORTED)
        return request->reason == GW_REASON_NONE;
    return gw_reason_info(request->reason)->status < 400;
}

static bool is_logged(struct gw_worker *worker, const struct gw_request *request)
{
    if (request->route == NULL)
        return request->snapshot->config->access_log.is_enabled;
    uint32_t sample = request->route->log_sample;
    return sample == GW_LOG_ALL || (sample != 0 && gw_thread_random(&worker->thread) >> 40 < sample);
}

static void export_spans(struct gw_worker *worker, const struct gw_request *request)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    gw_tracing_take(worker->process->tracing,
                    gw_span_record_create(request, (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec));
}

static void on_done(struct gw_stream *stream)
{
    struct gw_worker *worker = worker_of(stream);
    struct gw_request *request = stream->user;

    gw_exchange_release(request->exchange);
    if (__builtin_expect(request->fault != NULL, 0))
        gw_fault_release(request);
    if (__builtin_expect(request->compressing != NULL, 0))
        gw_compression_release(request);
    if (__builtin_expect(request->waiter != NULL, 0))
        gw_target_queue_forget(request);
    if (__builtin_expect(request->claim != NULL || request->reserved != NULL, 0))
        gw_choose_forget(request);
    if (stream->end != GW_END_COMPLETE && is_end_the_reason(request)) {
        request->reason = gw_reason_of_end(stream->end);
        if (!stream->response_started)
            request->status = gw_reason_info(request->reason)->status;
    }
    request->finished_us = gw_now_us();
    count_request(worker, request);
    if (is_logged(worker, request))
        gw_access_log_write(worker->log, request);
    if (__builtin_expect(request->span != NULL, 0))
        export_spans(worker, request);
    if (gw_recent_is_error(request->reason)) {
        gw_count(&worker->totals.local_errors, gw_recent_is_ours(request));
        gw_recent_note(worker, request);
    }
    if (__builtin_expect(worker->tails != NULL, 0))
        gw_tail_see(worker, request);
    if (__builtin_expect(request->views != NULL, 0))
        gw_views_leave(request);
    gw_count(&worker->stats.requests_in_flight, (uint64_t)-1);
    gw_held_snapshot_release(worker, request->held);
    stream->user = NULL;
}

static void on_conn_closed(struct gw_conn *conn)
{
    struct gw_worker *worker = H2O_STRUCT_FROM_MEMBER(struct gw_worker, server, conn->server);
    gw_arrival_left(worker, &conn->peer_ip, conn->is_counted);
}

void gw_serving_init(struct gw_server *server)
{
    server->on_request = on_request;
    server->on_bad_head = on_bad_head;
    server->on_bad_body = on_bad_body;
    server->on_done = on_done;
    server->on_conn_closed = on_conn_closed;
}
