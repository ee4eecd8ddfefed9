/* HTTP/2 server connections (RFC 9113) as an h2o_conn_t, on libnghttp2. The way of a request: gw_http2_on_read -> the
 * library -> http2_in.c -> server->on_request ... (pipeline) ... do_send of http2_out.c -> at the end of the turn one
 * write of all that is due -> on_done. */
#include <stdlib.h>
#include <string.h>
#include "gateway/http/http2_conn.h"

enum {
    READ_BYTES = 16 * 1024,
    READ_BYTES_IN_BULK = 64 * 1024,
    /* As over HTTP/1: time for the client to read our last words, and what it may send meanwhile. */
    LINGER_MS = 2000,
    LINGER_READ = 128 * 1024,
    LINGER_BYTES = 1024 * 1024,
    LINGER_BYTES_FLOODED = 512 * 1024, /* from who floods there are always more */
    DRAIN_GRACE_MS = 500,              /* between the two GOAWAYs: what is on its way is still served (RFC 9113 6.8) */
    HALF_CLOSED_GRACE_MS = 1000,
    MAX_QUEUED = 1000, /* frames that wait behind a write: no more is read then */
};

static uint64_t now_ms(struct gw_http2_conn *conn) { return gw_thread_now(conn->super.server->thread); }

/* ---- timers ---- */

/* Lazily: a timer that fires too early looks again, so a request costs no work on the wheel. */
void gw_http2_arm(struct gw_http2_conn *conn, uint64_t due_ms)
{
    if (due_ms != UINT64_MAX && !(gw_timer_is_armed(&conn->timer) && conn->timer.due_ms <= due_ms))
        gw_timer_arm(conn->super.server->thread->wheel, &conn->timer, due_ms);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void arm_nearest(struct gw_http2_conn *conn)
{
    uint64_t due = least(least(conn->idle_due_ms, conn->head_due_ms), least(conn->send_due_ms, conn->ping_due_ms));
    due = least(due, least(conn->age_due_ms, least(conn->drain_due_ms, conn->end_due_ms)));
    due = least(due, least(conn->held_due_ms, conn->settings_due_ms));
    for (h2o_linklist_t *node = conn->streams.next; node != &conn->streams; node = node->next) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node);
        due = least(due, least(stream->body.due_ms, stream->out.due_ms));
    }
    gw_http2_arm(conn, due);
}

/* Looks twice per send_timeout; the client is stuck when two looks in a row see none or too little progress. */
void gw_http2_expect_sent(struct gw_http2_conn *conn)
{
    conn->send_seen = UINT64_MAX;
    conn->send_stalls = 0;
    conn->send_due_ms = now_ms(conn) + conn->super.server->settings.send_timeout_ms / 2;
    gw_http2_arm(conn, conn->send_due_ms);
}

/* False: the connection is closed. */
static bool check_sent(struct gw_http2_conn *conn)
{
    uint64_t seen = gw_socket_send_progress(conn->super.sock);
    bool is_stalled = gw_send_is_stalled(&conn->super.server->settings, conn->send_seen, seen);
    conn->send_stalls = is_stalled ? conn->send_stalls + 1 : 0;
    conn->send_seen = seen;
    if (conn->send_stalls >= 2) {
        gw_http2_close(conn, GW_END_SEND_TIMEOUT);
        return false;
    }
    conn->send_due_ms = now_ms(conn) + conn->super.server->settings.send_timeout_ms / 2;
    return true;
}

/* A connection in use on which nothing came for a while: is anybody there? */
static bool check_ping(struct gw_http2_conn *conn)
{
    const struct gw_http2_settings *settings = &conn->super.server->settings.http2;
    uint64_t now = now_ms(conn), quiet_ms = now - conn->read_ms;

    if (conn->is_ping_out && quiet_ms >= settings->ping_timeout_ms && conn->ping_due_ms <= now &&
        conn->read_ms < conn->pinged_ms) {
        gw_http2_close(conn, GW_END_CLIENT_GONE);
        return false;
    }
    conn->is_ping_out = false;
    if (quiet_ms < settings->ping_interval_ms) {
        conn->ping_due_ms = conn->read_ms + settings->ping_interval_ms;
        return true;
    }
    conn->is_ping_out = true;
    conn->pinged_ms = now;
    conn->ping_due_ms = now + settings->ping_timeout_ms;
    nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
    return true;
}

/* RFC 9113 6.5.3. Two looks, as the acknowledgement may be here unread when the first one comes late; none counts while
 * the client's network is the slow one. */
static void check_settings(struct gw_http2_conn *conn)
{
    uint64_t timeout_ms = conn->super.server->settings.http2.settings_timeout_ms;

    if (conn->is_writing || gw_socket_has_unsent(conn->super.sock))
        conn->settings_looks = 0;
    else if (++conn->settings_looks > 1) {
        conn->settings_due_ms = UINT64_MAX;
        conn->is_deaf = true;
        gw_count(&conn->super.server->stats.http2_settings_timeouts, 1);
        gw_http2_terminate(conn, NGHTTP2_SETTINGS_TIMEOUT);
        gw_http2_end_misbehaved(conn, GW_END_SETTINGS_TIMEOUT);
        return;
    }
    conn->settings_due_ms = now_ms(conn) + timeout_ms / 2 + 1;
}

/* The field section that is being read did not arrive in time, or the first frames did not. */
static void on_head_due(struct gw_http2_conn *conn)
{
    struct gw_http2_stream *stream = NULL;

    gw_count(&conn->super.server->stats.header_timeouts, 1);
    conn->head_due_ms = UINT64_MAX;
    if (conn->head_id != 0)
        stream = nghttp2_session_get_stream_user_data(conn->session, conn->head_id);
    conn->is_deaf = true; /* nothing else can come on a connection in the middle of a field section */
    if (stream != NULL && !stream->is_dispatched)
        gw_http2_refuse(stream, GW_HEAD_INCOMPLETE);
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

static void check_streams(struct gw_http2_conn *conn, uint64_t now)
{
    h2o_linklist_t *node, *next;
    for (node = conn->streams.next; node != &conn->streams; node = next) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node);
        next = node->next;
        if (stream->out.due_ms <= now && gw_http2_is_stuck(stream))
            gw_http2_reset_stream(stream, NGHTTP2_CANCEL, GW_END_SEND_TIMEOUT);
        else if (stream->body.due_ms <= now) {
            stream->body.due_ms = UINT64_MAX;
            /* a client that listens to its call: how long both may be silent is the target's timeouts.idle */
            if (stream->super.response_started && gw_http2_is_grpc(stream))
                continue;
            gw_http2_break_body(stream, GW_END_BODY_TIMEOUT);
        }
    }
}

static void on_timer(struct gw_timer *timer)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, timer, timer);
    uint64_t now = now_ms(conn);

    if (conn->is_closing)
        return;
    if (conn->end_due_ms <= now) {
        gw_http2_close(conn, conn->is_lingering ? GW_END_COMPLETE : GW_END_CLIENT_GONE);
        return;
    }
    if ((conn->send_due_ms <= now && !check_sent(conn)) || (conn->ping_due_ms <= now && !check_ping(conn)))
        return;
    if (conn->head_due_ms <= now)
        on_head_due(conn);
    if (conn->idle_due_ms <= now) {
        conn->idle_due_ms = UINT64_MAX;
        gw_count(&conn->super.server->stats.closed_idle, 1);
        gw_http2_terminate(conn, NGHTTP2_NO_ERROR);
    }
    if (conn->age_due_ms <= now) {
        conn->age_due_ms = UINT64_MAX;
        gw_http2_drain(conn);
    }
    if (conn->drain_due_ms <= now) {
        conn->drain_due_ms = UINT64_MAX;
        nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->session),
                              NGHTTP2_NO_ERROR, NULL, 0);
    }
    if (conn->settings_due_ms <= now)
        check_settings(conn);
    if (conn->held_due_ms <= now)
        gw_http2_release_held(conn, 0, true);
    check_streams(conn, now);
    arm_nearest(conn);
    gw_http2_flush_soon(conn);
}

void gw_http2_became_busy(struct gw_http2_conn *conn)
{
    uint64_t interval_ms = conn->super.server->settings.http2.ping_interval_ms;

    conn->idle_due_ms = UINT64_MAX;
    if (interval_ms != 0) {
        conn->ping_due_ms = now_ms(conn) + interval_ms;
        gw_http2_arm(conn, conn->ping_due_ms);
    }
}

void gw_http2_became_idle(struct gw_http2_conn *conn)
{
    conn->ping_due_ms = UINT64_MAX;
    conn->is_ping_out = false;
    conn->idle_due_ms = now_ms(conn) + conn->super.server->settings.idle_timeout_ms;
    gw_http2_arm(conn, conn->idle_due_ms);
}

/* ---- the end of a connection ---- */

static void end_until(struct gw_http2_conn *conn, uint64_t until_us)
{
    while (!h2o_linklist_is_empty(&conn->streams)) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, conn->streams.next);
        nghttp2_session_set_stream_user_data(conn->session, stream->id, NULL);
        gw_http2_end_stream(stream, stream->out.is_malformed ? GW_END_COMPLETE : conn->ends_as);
        if (until_us != UINT64_MAX && gw_now_us() >= until_us)
            break;
    }
}

/* The end of a hundred requests, each with its connection to a target, takes longer than a turn may. */
enum { ENDS_US = 40 };
static void end_some(struct gw_http2_conn *conn) { end_until(conn, gw_now_us() + ENDS_US); }

static void stop_read(struct gw_http2_conn *conn)
{
    if (!conn->is_read_stopped) {
        conn->is_read_stopped = true;
        gw_thread_undefer(&conn->read_turn);
        h2o_socket_read_stop(conn->super.sock);
    }
}

static void drop_unread(struct gw_http2_conn *conn)
{
    gw_thread_undefer(&conn->read_turn);
    gw_buffer_free(conn->unread);
    conn->unread = NULL;
}

static void destroy(struct gw_http2_conn *conn)
{
    end_until(conn, UINT64_MAX);
    nghttp2_session_del(conn->session);
    gw_timer_disarm(&conn->timer);
    gw_thread_undefer(&conn->flush_turn);
    gw_thread_undefer(&conn->end_turn);
    drop_unread(conn);
    gw_http2_drop_write(conn);
    gw_conn_dispose(&conn->super);
    gw_socket_close(conn->super.sock, false);
    free(conn);
}

/* A write refers to memory of the streams (over TLS it has a copy). */
static bool is_held_by_write(const struct gw_http2_conn *conn) { return conn->is_writing && !conn->super.is_tls; }

static void on_end_turn(struct gw_deferred *deferred)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, end_turn, deferred);

    gw_conn_charge(&conn->super);
    if (is_held_by_write(conn)) /* goes on when it is done */
        return;
    end_some(conn);
    if (conn->num_streams != 0)
        gw_conn_defer(&conn->super, deferred);
    else if (conn->is_closing)
        destroy(conn);
}

void gw_http2_end_in_turns(struct gw_http2_conn *conn, enum gw_stream_end end)
{
    if (conn->ends_as == GW_END_COMPLETE)
        conn->ends_as = end;
    end_some(conn);
    if (conn->num_streams != 0)
        gw_conn_defer(&conn->super, &conn->end_turn);
}

void gw_http2_close(struct gw_http2_conn *conn, enum gw_stream_end end)
{
    if (conn->ends_as == GW_END_COMPLETE)
        conn->ends_as = end;
    if (!is_held_by_write(conn))
        end_some(conn);
    if (conn->num_streams == 0) {
        destroy(conn);
        return;
    }
    stop_read(conn);
    drop_unread(conn);
    gw_timer_disarm(&conn->timer);
    conn->is_closing = true;
    if (is_held_by_write(conn))
        shutdown(h2o_socket_get_fd(conn->super.sock), SHUT_RDWR); /* on_written is next */
    else
        gw_conn_defer(&conn->super, &conn->end_turn);
}

void gw_http2_terminate(struct gw_http2_conn *conn, uint32_t error_code)
{
    nghttp2_session_terminate_session(conn->session, error_code);
    gw_http2_flush_soon(conn);
}

void gw_http2_linger(struct gw_http2_conn *conn)
{
    h2o_socket_t *sock = conn->super.sock;

    gw_http2_end_in_turns(conn, GW_END_CLIENT_GONE);
    conn->is_lingering = conn->is_bulky = true;
    if (conn->peer_eof) {
        gw_http2_close(conn, GW_END_COMPLETE);
        return;
    }
    drop_unread(conn);
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (sock->ssl == NULL)
        shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    gw_http2_resume_read(conn);
    conn->idle_due_ms = conn->ping_due_ms = conn->drain_due_ms = conn->head_due_ms = UINT64_MAX;
    conn->settings_due_ms = UINT64_MAX;
    conn->end_due_ms = now_ms(conn) + LINGER_MS;
    gw_http2_arm(conn, conn->end_due_ms);
}

/* RFC 9113 6.8: a GOAWAY that lets all streams through, and after a while the one that counts. */
void gw_http2_drain(struct gw_http2_conn *conn)
{
    if (conn->is_draining || conn->is_lingering || conn->is_closing)
        return;
    conn->is_draining = true;
    nghttp2_submit_shutdown_notice(conn->session);
    conn->drain_due_ms = now_ms(conn) + DRAIN_GRACE_MS;
    gw_http2_arm(conn, conn->drain_due_ms);
    gw_http2_flush_soon(conn);
}

/* ---- reading ---- */

void gw_http2_resume_read(struct gw_http2_conn *conn)
{
    if (conn->is_read_stopped && !conn->peer_eof && !conn->is_closing) {
        conn->is_read_stopped = false;
        h2o_socket_read_start(conn->super.sock, gw_http2_on_read);
        if (conn->unread != NULL)
            gw_thread_defer_behind(conn->super.server->thread, &conn->read_turn);
    }
}

/* The client sends no more, but may still read what it has asked for. */
static void on_eof(struct gw_http2_conn *conn)
{
    stop_read(conn);
    conn->peer_eof = true;
    if (conn->num_streams == 0 || conn->super.is_tls) {
        gw_http2_close(conn, GW_END_CLIENT_GONE);
        return;
    }
    conn->end_due_ms = now_ms(conn) + HALF_CLOSED_GRACE_MS;
    gw_http2_arm(conn, conn->end_due_ms);
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
    gw_http2_flush_soon(conn);
}

/* Streams whose bytes a write holds stay until it is done. */
static void end_flooded(struct gw_http2_conn *conn)
{
    gw_http2_tell_flood(conn);
    gw_http2_terminate(conn, NGHTTP2_ENHANCE_YOUR_CALM);
    if (conn->is_writing)
        stop_read(conn);
    else
        gw_http2_end_misbehaved(conn, GW_END_FLOOD + conn->flood);
}

/* Gives the library what was read, or what was left of it. */
static void feed(struct gw_http2_conn *conn)
{
    h2o_buffer_t *input = conn->unread != NULL ? conn->unread : gw_socket_detach_input(conn->super.sock);
    size_t at = conn->unread != NULL ? conn->unread_at : 0, left = input->size - at;
    ssize_t rv = gw_http2_receive(conn, (const uint8_t *)input->bytes + at, left);

    conn->unread = rv >= 0 && (size_t)rv != left ? input : NULL;
    conn->unread_at = at + (size_t)rv;
    conn->is_bulky = conn->unread != NULL || left >= READ_BYTES;
    if (conn->unread != NULL)
        gw_thread_defer_behind(conn->super.server->thread, &conn->read_turn);
    else
        gw_buffer_free(input);
    conn->read_ms = now_ms(conn);
    conn->is_deaf = rv < 0 || conn->is_flooded; /* what it will be called with next is up to nobody */
    if (conn->is_flooded) {
        end_flooded(conn);
        return;
    }
    if (rv < 0)
        gw_http2_terminate(conn, rv == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
    if (conn->head_id != 0 && conn->head_due_ms == UINT64_MAX) {
        conn->head_due_ms = conn->read_ms + conn->super.server->settings.header_timeout_ms;
        gw_http2_arm(conn, conn->head_due_ms);
    }
    if (conn->is_writing && nghttp2_session_get_outbound_queue_size(conn->session) > MAX_QUEUED)
        stop_read(conn);
    gw_http2_flush_soon(conn);
}

static void on_dropped(struct gw_http2_conn *conn, const char *err, size_t bytes)
{
    conn->lingered += bytes;
    gw_count(&conn->super.server->stats.bytes_in, bytes);
    if (err != NULL || conn->lingered > (conn->is_flooded ? LINGER_BYTES_FLOODED : LINGER_BYTES))
        gw_http2_close(conn, GW_END_COMPLETE);
}

static void read_some(struct gw_http2_conn *conn, const char *err)
{
    h2o_socket_t *sock = conn->super.sock;
    size_t dropped = 0;

    if (conn->is_lingering && sock->ssl == NULL) {
        err = gw_socket_drop(sock, err, LINGER_READ, &dropped);
        on_dropped(conn, err, dropped);
        return;
    }
    err = gw_socket_read(sock, err, conn->is_bulky ? READ_BYTES_IN_BULK : READ_BYTES);
    if (conn->is_lingering) {
        dropped = sock->input->size;
        h2o_buffer_consume(&sock->input, dropped);
        on_dropped(conn, err, dropped);
        return;
    }
    gw_count(&conn->super.server->stats.bytes_in, sock->input->size);
    if (err == h2o_socket_error_closed) {
        on_eof(conn);
    } else if (err != NULL) {
        gw_http2_close(conn, GW_END_CLIENT_GONE);
    } else if (conn->is_deaf) {
        h2o_buffer_consume(&sock->input, sock->input->size);
    } else if (sock->input->size != 0) {
        feed(conn);
    }
}

static void on_read_turn(struct gw_deferred *deferred)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, read_turn, deferred);
    gw_conn_charge(&conn->super);
    if (conn->unread == NULL)
        read_some(conn, NULL);
    else if (!conn->is_deaf)
        feed(conn);
    else
        drop_unread(conn);
}

void gw_http2_on_read(h2o_socket_t *sock, const char *err)
{
    struct gw_http2_conn *conn = sock->data;

    if (!gw_thread_is_deferred(&conn->read_turn) &&
        (err != NULL || !gw_conn_must_wait(&conn->super, &conn->read_turn, conn->is_bulky)))
        read_some(conn, err);
}

/* ---- as a gw_conn ---- */

static void drain(struct gw_conn *super) { gw_http2_drain(H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, super, super)); }
static void close_now(struct gw_conn *super, enum gw_stream_end end)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, super, super);
    if (conn->ends_as == GW_END_COMPLETE)
        conn->ends_as = end;
    destroy(conn);
}
static void each_stream(struct gw_conn *super, void (*see)(struct gw_stream *, void *data), void *data)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, super, super);
    for (h2o_linklist_t *node = conn->streams.next; node != &conn->streams; node = node->next)
        see(&H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node)->super, data);
}
static const struct gw_conn_ops conn_ops = {drain, close_now, each_stream};

/* Once per thread. */
static void prepare_server(struct gw_server *server)
{
    nghttp2_session_callbacks_new(&server->http2_callbacks);
    gw_http2_set_in_callbacks(server->http2_callbacks);
    gw_http2_set_out_callbacks(server->http2_callbacks);
    nghttp2_option_new(&server->http2_option);
    nghttp2_option_set_no_auto_window_update(server->http2_option, 1);
    nghttp2_option_set_no_http_messaging(server->http2_option, 1);          /* http2_head.c is stricter, and says why */
    nghttp2_option_set_max_continuations(server->http2_option, UINT32_MAX); /* http2_budget.c counts */
    nghttp2_option_set_stream_reset_rate_limit(server->http2_option, UINT32_MAX, UINT32_MAX);
    nghttp2_option_set_no_closed_streams(server->http2_option, 1);
    nghttp2_option_set_builtin_recv_extension_type(server->http2_option, NGHTTP2_PRIORITY_UPDATE);
}

static void start_session(struct gw_http2_conn *conn)
{
    struct gw_server *server = conn->super.server;
    const struct gw_http_settings *settings = &server->settings;
    nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings->http2.max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings->http2.stream_window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)settings->limits.max_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };

    if (server->http2_callbacks == NULL)
        prepare_server(server);
    if (nghttp2_session_server_new2(&conn->session, server->http2_callbacks, conn, server->http2_option) != 0)
        h2o_fatal("no memory");
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, entries, sizeof(entries) / sizeof(entries[0]));
    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                          (int32_t)settings->http2.connection_window);
}

static void start(struct gw_http2_conn *conn)
{
    h2o_socket_t *sock = conn->super.sock;
    const struct gw_http_settings *settings = &conn->super.server->settings;
    uint64_t max_age_ms = settings->max_age_ms, acknowledged_ms = settings->http2.settings_timeout_ms;

    conn->super.ops = &conn_ops;
    gw_timer_init(&conn->timer, on_timer);
    h2o_linklist_init_anchor(&conn->streams);
    h2o_linklist_init_anchor(&conn->touched);
    h2o_linklist_init_anchor(&conn->hungry);
    conn->read_turn.run = on_read_turn;
    conn->end_turn.run = on_end_turn;
    conn->idle_due_ms = conn->send_due_ms = conn->ping_due_ms = conn->drain_due_ms = conn->end_due_ms = UINT64_MAX;
    conn->held_due_ms = UINT64_MAX;
    conn->age_due_ms = max_age_ms != 0 ? conn->super.began_ms + max_age_ms : UINT64_MAX;
    conn->is_new = conn->is_read_stopped = true;
    conn->scan_skip = NGHTTP2_CLIENT_MAGIC_LEN;
    conn->read_ms = now_ms(conn);
    conn->head_due_ms = conn->read_ms + settings->header_timeout_ms;
    conn->settings_due_ms = acknowledged_ms != 0 ? conn->read_ms + acknowledged_ms / 2 + 1 : UINT64_MAX;
    gw_http2_arm(conn, least(conn->head_due_ms, conn->settings_due_ms));
    sock->data = conn;
    start_session(conn);
    if (conn->super.server->is_draining) /* it was shaking hands when that began */
        gw_http2_drain(conn);
    gw_http2_arm(conn, conn->age_due_ms);
    gw_http2_resume_read(conn);
    gw_http2_flush_soon(conn);
    if (sock->input->size != 0)
        feed(conn);
}

static struct gw_http2_conn *create_conn(void)
{
    struct gw_http2_conn *conn = h2o_mem_alloc(sizeof(*conn));
    memset(conn, 0, sizeof(*conn));
    return conn;
}

void gw_http2_serve(struct gw_server *server, h2o_socket_t *sock, const struct gw_peer *peer)
{
    struct gw_http2_conn *conn = create_conn();

    gw_conn_init(&conn->super, server, sock, peer);
    gw_socket_setup(sock);
    start(conn);
}

void gw_http2_adopt(struct gw_conn *from)
{
    struct gw_http2_conn *conn = create_conn();

    conn->super = *from;
    from->facts = NULL;
    if (from->server->thread->user == &from->usage)
        gw_conn_charge(&conn->super);
    h2o_linklist_unlink(&from->link);
    memset(&conn->super.link, 0, sizeof(conn->super.link));
    h2o_linklist_insert(&conn->super.server->conns, &conn->super.link);
    start(conn);
}
