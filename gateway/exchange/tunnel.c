#include "gateway/exchange/tunnel.h"
#include <strings.h>
#include "gateway/exchange/exchange.h"
#include "gateway/process.h"

static void on_timer(struct gw_timer *timer)
{
    struct gw_tunnel *tunnel = H2O_STRUCT_FROM_MEMBER(struct gw_tunnel, timer, timer);
    struct gw_stream *stream = tunnel->request->stream;
    struct gw_thread *thread = &tunnel->request->worker->thread;
    uint64_t due_ms = tunnel->moved_at_ms + tunnel->idle_ms;

    /* lazily: moving bytes costs the timer nothing */
    if (due_ms > gw_thread_now(thread)) {
        gw_timer_arm(thread->wheel, timer, due_ms);
        return;
    }
    stream->end = GW_END_TUNNEL_IDLE;
    gw_exchange_abort(tunnel->request->exchange, GW_REASON_TUNNEL_IDLE_TIMEOUT);
}

static bool is_websocket(const struct gw_tunnel *tunnel)
{
    h2o_iovec_t protocol = tunnel->request->upgrade;
    return protocol.len == 9 && strncasecmp(protocol.base, "websocket", 9) == 0;
}

struct gw_tunnel *gw_tunnel_begin(struct gw_request *request, uint64_t idle_ms)
{
    struct gw_tunnel *tunnel = h2o_mem_alloc_pool(request->pool, sizeof(*tunnel));
    struct gw_worker *worker = request->worker;

    *tunnel = (struct gw_tunnel){.request = request, .idle_ms = idle_ms, .moved_at_ms = gw_thread_now(&worker->thread)};
    gw_timer_init(&tunnel->timer, on_timer);
    gw_timer_arm(worker->thread.wheel, &tunnel->timer, tunnel->moved_at_ms + idle_ms);
    gw_count(&worker->tunnels.open, 1);
    gw_count(is_websocket(tunnel) ? &worker->tunnels.websockets : &worker->tunnels.others, 1);
    request->stream->is_tunnel = true;
    return tunnel;
}

void gw_tunnel_moved(struct gw_tunnel *tunnel, size_t bytes, bool is_from_client, bool is_last)
{
    struct gw_worker *worker = tunnel->request->worker;

    tunnel->moved_at_ms = gw_thread_now(&worker->thread);
    gw_count(is_from_client ? &worker->tunnels.bytes_in : &worker->tunnels.bytes_out, bytes);
    if (!is_last)
        return;
    if (tunnel->request->error == NULL)
        tunnel->request->error = is_from_client ? "the client ended first" : "the target ended first";
}

void gw_tunnel_end(struct gw_tunnel *tunnel)
{
    if (tunnel == NULL)
        return;
    gw_timer_disarm(&tunnel->timer);
    gw_count(&tunnel->request->worker->tunnels.open, (uint64_t)-1);
    if (tunnel->request->reason == GW_REASON_NONE && tunnel->request->stream->end == GW_END_COMPLETE)
        tunnel->request->reason = GW_REASON_TUNNEL_CLOSED;
}
