#include "gateway/worker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/base/log.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/choose.h"
#include "gateway/exchange/client_identity.h"
#include "gateway/exchange/exchange.h"
#include "gateway/exchange/fault.h"
#include "gateway/l4/udp.h"
#include "gateway/exchange/mirror.h"
#include "gateway/overload.h"
#include "gateway/pipeline.h"
#include "gateway/admin/recent.h"
#include "gateway/admin/tail.h"
#include "gateway/exchange/target_queue.h"

static struct gw_worker *worker_of(struct gw_stream *stream)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_worker, server, stream->conn->server);
}

/* ---- messages ---- */

static struct gw_message *create_message(void (*run)(struct gw_message *), struct gw_worker *worker,
                                         struct gw_process *process, void *data)
{
    struct gw_message *message = h2o_mem_alloc(sizeof(*message));
    *message = (struct gw_message){{{NULL}}, run, worker, process, data, 0};
    return message;
}

void gw_worker_tell_drain(struct gw_worker *worker, uint64_t how)
{
    struct gw_message *message = create_message(gw_worker_drain, worker, worker->process, NULL);
    message->number = how;
    h2o_multithread_send_message(&worker->receiver, &message->super);
}

void gw_worker_tell(struct gw_worker *worker, void (*run)(struct gw_message *), void *data)
{
    h2o_multithread_send_message(&worker->receiver, &create_message(run, worker, worker->process, data)->super);
}

void gw_process_tell(struct gw_process *process, void (*run)(struct gw_message *), struct gw_worker *from, void *data)
{
    h2o_multithread_send_message(&process->control_receiver, &create_message(run, from, process, data)->super);
}

void gw_process_tell_number(struct gw_process *process, void (*run)(struct gw_message *), struct gw_worker *from,
                            void *data, uint64_t number)
{
    struct gw_message *message = create_message(run, from, process, data);
    message->number = number;
    h2o_multithread_send_message(&process->control_receiver, &message->super);
}

void gw_message_receive(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    while (!h2o_linklist_is_empty(messages)) {
        struct gw_message *message = H2O_STRUCT_FROM_MEMBER(struct gw_message, super.link, messages->next);
        h2o_linklist_unlink(&message->super.link);
        message->run(message);
        free(message);
    }
}

/* ---- snapshots ---- */

static void on_snapshot_returned(struct gw_message *message) { gw_snapshot_release(message->data); }

/* Freeing ten thousand routes takes milliseconds: the control thread does it. */
void gw_held_snapshot_release(struct gw_worker *worker, struct gw_held_snapshot *held)
{
    if (--held->uses == 0) {
        gw_process_tell(worker->process, on_snapshot_returned, worker, held->snapshot);
        free(held);
    }
}

static void apply_http2(struct gw_http2_settings *to, const struct gw_http2_conf *conf)
{
    *to = (struct gw_http2_settings){
        .max_streams = (uint32_t)conf->max_streams,
        .stream_window = (uint32_t)conf->stream_window,
        .connection_window = (uint32_t)conf->connection_window,
        .ping_interval_ms = conf->ping_interval_ms,
        .ping_timeout_ms = conf->ping_timeout_ms,
    };
    for (int i = 0; i != GW_HTTP2_NUM_BUDGETS; ++i)
        to->budgets[i] = (uint32_t)conf->budgets[i];
}

static void apply_settings(struct gw_worker *worker, const struct gw_config *config)
{
    worker->server.settings = (struct gw_http_settings){
        .limits = {.max_bytes = config->limits.header_block,
                   .max_target = config->limits.url,
                   .max_fields = config->limits.headers,
                   .desync_mode = (enum gw_desync_mode)config->limits.desync_mitigation},
        .header_timeout_ms = config->limits.header_timeout_ms,
        .idle_timeout_ms = config->limits.idle_timeout_ms,
        .body_timeout_ms = config->limits.body_timeout_ms,
        .send_timeout_ms = config->limits.send_timeout_ms,
        .min_body_rate = config->limits.min_body_rate,
        .min_send_rate = config->limits.min_send_rate,
        .max_requests = config->limits.keepalive_requests,
        .max_age_ms = config->limits.keepalive_time_ms,
    };
    apply_http2(&worker->server.settings.http2, &config->limits.http2);
}

void gw_worker_publish(struct gw_message *message)
{
    struct gw_worker *worker = message->worker;
    struct gw_publication *publication = message->data;
    struct gw_held_snapshot *old = worker->held;

    if (old != NULL)
        gw_acceptor_remove(worker, publication);
    worker->held = h2o_mem_alloc(sizeof(*worker->held));
    *worker->held = (struct gw_held_snapshot){publication->snapshot, 1};
    apply_settings(worker, publication->snapshot->config);
    if (!worker->server.is_draining)
        gw_acceptor_start(worker, publication);
    gw_udp_publish(worker, publication);
    if (old != NULL)
        gw_held_snapshot_release(worker, old);
    gw_process_tell(worker->process, publication->on_applied, worker, publication);
}

/* ---- requests ---- */

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

/* ---- draining ---- */

static void each_conn(struct gw_worker *worker, bool by_force)
{
    h2o_linklist_t *node, *next;
    for (node = worker->server.conns.next; node != &worker->server.conns; node = next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        next = node->next;
        if (by_force)
            conn->ops->close(conn, GW_END_DRAIN);
        else
            conn->ops->drain(conn);
    }
}

static void on_worker_closed(struct gw_message *message) { gw_process_worker_closed(message->process); }

void gw_worker_drain(struct gw_message *message)
{
    struct gw_worker *worker = message->worker;
    gw_acceptor_stop_all(worker);
    gw_udp_drain(worker, (enum gw_udp_drain)message->number);
    worker->server.is_draining = true;
    gw_process_tell(worker->process, on_worker_closed, worker, NULL);
    each_conn(worker, false);
}

void gw_worker_stop(struct gw_message *message)
{
    each_conn(message->worker, true);
    gw_udp_stop(message->worker);
    message->worker->is_stopped = true;
}

/* ---- the thread ---- */

enum { LAG_PERIOD_MS = 250, LAG_WINDOW_US = 15 * 1000 * 1000 };

uint64_t gw_lag_note(struct gw_lag_window *window, uint64_t now_us, uint64_t late_us)
{
    if (now_us - window->began_us >= LAG_WINDOW_US) {
        window->before_us = now_us - window->began_us < 2 * LAG_WINDOW_US ? window->now_us : 0;
        window->now_us = 0;
        window->began_us = now_us;
    }
    if (late_us > window->now_us)
        window->now_us = late_us;
    return window->now_us > window->before_us ? window->now_us : window->before_us;
}

static void on_lag_timer(struct gw_timer *timer)
{
    struct gw_worker *worker = H2O_STRUCT_FROM_MEMBER(struct gw_worker, lag_timer, timer);
    uint64_t now_us = gw_now_us(), late_us = now_us > worker->lag_due_us ? now_us - worker->lag_due_us : 0;

    __atomic_store_n((uint64_t *)&worker->stats.loop_lag_us, late_us, __ATOMIC_RELAXED);
    __atomic_store_n((uint64_t *)&worker->stats.loop_lag_max_us, gw_lag_note(&worker->lag_window, now_us, late_us),
                     __ATOMIC_RELAXED);
    gw_count(&worker->stats.beats, 1);
    gw_overload_look(worker, late_us);
    gw_recent_flush(worker);
    worker->lag_due_us = now_us + LAG_PERIOD_MS * 1000;
    gw_timer_arm(worker->thread.wheel, timer, now_us / 1000 + LAG_PERIOD_MS);
}

void gw_worker_init(struct gw_worker *worker, struct gw_process *process, unsigned index, h2o_globalconf_t *globalconf)
{
    worker->process = process;
    h2o_context_init(&worker->ctx, h2o_evloop_create(), globalconf);
    gw_thread_init(&worker->thread, index, &worker->ctx);
    gw_server_init(&worker->server, &worker->thread, globalconf->hosts);
    worker->server.on_request = on_request;
    worker->server.on_bad_head = on_bad_head;
    worker->server.on_bad_body = on_bad_body;
    worker->server.on_done = on_done;
    worker->server.on_conn_closed = on_conn_closed;
    worker->pool = gw_pool_create(&worker->thread);
    worker->compressor = gw_compressor_create(&worker->thread);
    worker->log = gw_access_log_buffer_create(process->access_log, &worker->thread);
    h2o_linklist_init_anchor(&worker->acceptors);
    h2o_linklist_init_anchor(&worker->handshakes);
    h2o_linklist_init_anchor(&worker->hellos);
    worker->hello_turn.run = gw_arrival_greet;
    h2o_linklist_init_anchor(&worker->mirrors);
    h2o_multithread_register_receiver(worker->ctx.queue, &worker->receiver, gw_message_receive);
    worker->spare_fd = gw_acceptor_spare_fd();
    gw_timer_init(&worker->lag_timer, on_lag_timer);
}

static void on_worker_stopped(struct gw_message *message)
{
    gw_process_worker_stopped(message->process, message->worker);
}

void *gw_worker_main(void *data)
{
    struct gw_worker *worker = data;

    h2o_socket_buffer_prototype.allocator.max = 256; /* thread-local; 16 by default: fewer than requests in flight */
    worker->lag_due_us = gw_now_us() + LAG_PERIOD_MS * 1000;
    gw_timer_arm(worker->thread.wheel, &worker->lag_timer, gw_now_ms() + LAG_PERIOD_MS);
    while (!worker->is_stopped) {
        if (gw_thread_turn(&worker->thread, 1000) != 0 && errno != EINTR) {
            gw_log(GW_LOG_ERROR, "worker", "event loop of thread %u failed: %s", worker->thread.index, strerror(errno));
            abort();
        }
        if (worker->server.is_draining && worker->server.num_conns == 0 && worker->num_handshakes == 0 &&
            gw_udp_num_flows(worker->udp) == 0)
            worker->is_stopped = true;
    }
    gw_mirror_end_all(worker);
    gw_access_log_flush(worker->log);
    if (worker->held != NULL)
        gw_held_snapshot_release(worker, worker->held);
    gw_process_tell(worker->process, on_worker_stopped, worker, NULL);
    return NULL;
}
