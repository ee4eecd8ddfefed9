#include "gateway/http/http2_budget.h"
#include "gateway/base/log.h"
#include "gateway/http/http2_conn.h"

enum { FRAME_WORTH_AN_UPDATE = 64, BYTES_WORTH_AN_UPDATE = 4096, WARNING_EVERY_MS = 1000 };

static uint64_t now_us(const struct gw_http2_conn *conn) { return gw_thread_now(conn->super.server->thread) * 1000; }

int gw_http2_flooded(struct gw_http2_conn *conn, enum gw_http2_budget budget)
{
    if (!conn->is_flooded) {
        conn->is_flooded = true;
        conn->flood = budget;
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

int gw_http2_spend(struct gw_http2_conn *conn, enum gw_http2_budget budget)
{
    uint32_t limit = conn->super.server->settings.http2.budgets[budget];
    return gw_http2_bucket_take(&conn->buckets[budget], limit, now_us(conn)) ? 0 : gw_http2_flooded(conn, budget);
}

static void give(struct gw_http2_conn *conn, enum gw_http2_budget budget, uint32_t n)
{
    gw_http2_bucket_give(&conn->buckets[budget], conn->super.server->settings.http2.budgets[budget], n);
}

void gw_http2_earn_by_data(struct gw_http2_conn *conn, size_t bytes, bool is_squeezed)
{
    if (bytes < FRAME_WORTH_AN_UPDATE && is_squeezed)
        return;
    if (conn->buckets[GW_HTTP2_WINDOW_UPDATES].full_at_us != 0)
        give(conn, GW_HTTP2_WINDOW_UPDATES, 2 + (uint32_t)(bytes / BYTES_WORTH_AN_UPDATE));
    if (conn->buckets[GW_HTTP2_PINGS].full_at_us != 0) /* gRPC clients measure round trips by each piece they get */
        give(conn, GW_HTTP2_PINGS, 1);
}

void gw_http2_earn_by_request(struct gw_http2_conn *conn)
{
    if (conn->buckets[GW_HTTP2_RESETS].full_at_us != 0)
        give(conn, GW_HTTP2_RESETS, 1);
    if (conn->buckets[GW_HTTP2_EMPTY_FRAMES].full_at_us != 0) /* browsers grease: a frame that nobody knows */
        give(conn, GW_HTTP2_EMPTY_FRAMES, 1);
}

static int charge_continuation(struct gw_http2_conn *conn)
{
    uint32_t limit = conn->super.server->settings.http2.budgets[GW_HTTP2_CONTINUATIONS];
    return limit != 0 && ++conn->continuations > limit ? gw_http2_flooded(conn, GW_HTTP2_CONTINUATIONS) : 0;
}

int gw_http2_charge_frame(struct gw_http2_conn *conn, const nghttp2_frame_hd *head, bool is_for_ended)
{
    switch (head->type) {
    case NGHTTP2_DATA:
        return head->length < FRAME_WORTH_AN_UPDATE && is_for_ended ? gw_http2_spend(conn, GW_HTTP2_EMPTY_FRAMES) : 0;
    case NGHTTP2_HEADERS:
        conn->continuations = 0;
        return is_for_ended ? gw_http2_spend(conn, GW_HTTP2_EMPTY_FRAMES) : 0;
    case NGHTTP2_CONTINUATION:
        return charge_continuation(conn);
    case NGHTTP2_RST_STREAM:
        return gw_http2_spend(conn, GW_HTTP2_RESETS);
    case NGHTTP2_PING: /* an answer that we did not ask for as well */
        return (head->flags & NGHTTP2_FLAG_ACK) != 0 && conn->is_ping_out ? 0 : gw_http2_spend(conn, GW_HTTP2_PINGS);
    case NGHTTP2_SETTINGS:
        return gw_http2_spend(conn, GW_HTTP2_SETTINGS);
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
        return gw_http2_spend(conn, GW_HTTP2_PRIORITIES);
    case NGHTTP2_WINDOW_UPDATE:
        return gw_http2_spend(conn, GW_HTTP2_WINDOW_UPDATES);
    default:
        return gw_http2_spend(conn, GW_HTTP2_EMPTY_FRAMES);
    }
}

int gw_http2_charge_data(struct gw_http2_conn *conn, const nghttp2_frame *frame)
{
    bool carries_nothing = !conn->has_data && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0;
    conn->has_data = false;
    return carries_nothing ? gw_http2_spend(conn, GW_HTTP2_EMPTY_FRAMES) : 0;
}

int gw_http2_charge_fields(struct gw_http2_conn *conn, const struct gw_http2_head *head)
{
    uint32_t limit = conn->super.server->settings.http2.budgets[GW_HTTP2_FIELD_BYTES];
    return limit != 0 && head->bytes > limit * head->limits->max_bytes ? gw_http2_flooded(conn, GW_HTTP2_FIELD_BYTES)
                                                                       : 0;
}

const char *gw_http2_budget_name(enum gw_http2_budget budget)
{
#define X(name, setting, initial, help) setting,
    static const char *const names[] = {GW_HTTP2_BUDGETS(X)};
#undef X
    return names[budget];
}

void gw_http2_tell_flood(struct gw_http2_conn *conn)
{
    struct gw_server *server = conn->super.server;
    uint64_t now = gw_thread_now(server->thread);

    gw_count(&server->stats.http2_floods[conn->flood], 1);
    if (now < server->http2_warn_ms) /* an attacker must not fill the log */
        return;
    server->http2_warn_ms = now + WARNING_EVERY_MS;
    gw_log(GW_LOG_WARNING, "http2", "%.*s spent limits.http2.%s: connection closed", (int)conn->super.peer_text_len,
           conn->super.peer_text, gw_http2_budget_name(conn->flood));
}
