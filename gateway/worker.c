#include "gateway/worker.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/log.h"
#include "gateway/l4/udp.h"
#include "gateway/exchange/mirror.h"
#include "gateway/overload.h"
#include "gateway/admin/recent.h"

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
        .settings_timeout_ms = conf->settings_timeout_ms,
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

enum { LAG_PERIOD_MS = 250 };

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
    gw_serving_init(&worker->server);
    worker->pool = gw_pool_create(&worker->thread);
    worker->compressor = gw_compressor_create(&worker->thread);
    worker->log = gw_access_log_buffer_create(process->access_log, &worker->thread);
    h2o_linklist_init_anchor(&worker->acceptors);
    h2o_linklist_init_anchor(&worker->handshakes);
    h2o_linklist_init_anchor(&worker->hellos);
    h2o_linklist_init_anchor(&worker->hellos_behind);
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
            !gw_udp_is_busy(worker->udp))
            worker->is_stopped = true;
    }
    gw_mirror_end_all(worker);
    gw_access_log_flush(worker->log);
    if (worker->held != NULL)
        gw_held_snapshot_release(worker, worker->held);
    gw_process_tell(worker->process, on_worker_stopped, worker, NULL);
    return NULL;
}
