/* Responses of HTTP/1.x: libh2o's last ostream. Writes the head, frames the body, and sees to it that a completed write
 * is followed up at the end of the turn, never from inside the write. */
#include "gateway/http/http1_conn.h"
#include <alloca.h>
#include <string.h>

/* Head and body up to this size leave in one buffer, with one send(). */
enum { INLINE_BODY_MAX = 4096 };

static void on_written(h2o_socket_t *sock, const char *err);

static void write_out(struct gw_http1_conn *conn, h2o_iovec_t *bufs, size_t num_bufs)
{
    size_t bytes = 0;
    for (size_t i = 0; i != num_bufs; ++i)
        bytes += bufs[i].len;
    conn->stream.bytes_out += bytes;
    gw_count(&conn->super.server->stats.bytes_out, bytes);
    if (bytes == 0 || gw_socket_write(conn->super.sock, bufs, num_bufs, on_written)) {
        gw_conn_defer(&conn->super, &conn->after_write);
    } else {
        conn->out.is_writing = true;
        if (!conn->stream.is_tunnel) /* how long one may be stuck is the pipeline's business */
            gw_http1_expect_sent(conn);
    }
}

/* ---- framing ---- */

static bool forbids_body(const struct gw_http1_conn *conn, int status)
{
    return conn->stream.is_head_request || status == 204 || status == 304 || status / 100 == 1;
}

static bool must_close(struct gw_http1_conn *conn, bool is_final)
{
    const struct gw_stream *stream = &conn->stream;
    const struct gw_server *server = conn->super.server;
    /* a target that answers before it has read the request: errors are the end of it, others may be a conversation */
    bool is_refused = is_final || stream->req.res.status >= 400;

    return stream->close_after || !stream->head.keep_alive || conn->is_draining || server->is_draining ||
           (server->settings.max_age_ms != 0 &&
            gw_thread_now(server->thread) - conn->super.began_ms >= server->settings.max_age_ms) ||
           (server->settings.max_requests != 0 && conn->super.num_requests >= server->settings.max_requests) ||
           !gw_http1_may_keep_alive(conn, is_refused);
}

/* RFC 9110 15.2.2: from the empty line on the bytes are another protocol's, until the connection ends. */
static struct gw_response_framing begin_tunnel(struct gw_http1_conn *conn)
{
    conn->out.must_close = true;
    gw_http1_begin_tunnel(conn);
    return (struct gw_response_framing){.minor_version = 1,
                                        .content_length = UINT64_MAX,
                                        .upgrade = conn->stream.upgrade,
                                        .date = gw_server_date(conn->super.server)};
}

/* What is known of trailers when the head goes out; base NULL: nothing. Such a response is chunked even if its length
 * is known: the client has asked for them. */
static h2o_iovec_t announced_trailers(struct gw_stream *stream)
{
    if (stream->response_trailers.size != 0)
        return gw_trailers_names(&stream->req.pool, &stream->response_trailers);
    return stream->announced_trailers;
}

static struct gw_response_framing choose_framing(struct gw_http1_conn *conn, size_t body_len, bool is_final)
{
    h2o_res_t *res = &conn->stream.req.res;
    struct gw_http1_out *out = &conn->out;
    struct gw_response_framing framing = {.minor_version = conn->stream.head.minor_version,
                                          .content_length =
                                              res->content_length == SIZE_MAX ? UINT64_MAX : res->content_length,
                                          .date = gw_server_date(conn->super.server)};

    out->has_no_body = forbids_body(conn, res->status);
    out->must_close = must_close(conn, is_final);
    if (res->status == 204 || res->status / 100 == 1) {
        framing.content_length = UINT64_MAX; /* RFC 9110 8.6 */
    } else if (__builtin_expect(conn->stream.head.accepts_trailers, 0) && !out->has_no_body &&
               (framing.trailer = announced_trailers(&conn->stream)).base != NULL) {
        framing.content_length = UINT64_MAX;
        out->is_chunked = framing.is_chunked = true;
    } else if (framing.content_length == UINT64_MAX && !out->has_no_body) {
        if (is_final) {
            framing.content_length = body_len;
        } else if (framing.minor_version >= 1) {
            out->is_chunked = true;
            framing.is_chunked = true;
        } else {
            out->must_close = out->ends_with_close = true;
        }
    }
    framing.must_close = out->must_close;
    framing.say_keep_alive = framing.minor_version == 0;
    return framing;
}

static h2o_iovec_t write_chunk_size(struct gw_http1_conn *conn, char *dst, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    char digits[16];
    size_t n = 0, len = 0;
    do
        digits[n++] = hex[size & 15];
    while ((size >>= 4) != 0);
    while (n != 0)
        dst[len++] = digits[--n];
    dst[len++] = '\r';
    dst[len++] = '\n';
    return h2o_iovec_init(dst, len);
}

/* The last chunk, behind the end of the one before it. */
static size_t frame_trailers(struct gw_http1_conn *conn, h2o_iovec_t *dst, bool ends_chunk)
{
    struct gw_stream *stream = &conn->stream;
    char *base = h2o_mem_alloc_pool(&stream->req.pool, gw_trailers_bound(&stream->response_trailers) + 2), *p = base;

    if (ends_chunk) {
        *p++ = '\r';
        *p++ = '\n';
    }
    p += gw_trailers_write(p, &stream->response_trailers);
    dst[0] = h2o_iovec_init(base, (size_t)(p - base));
    return 1;
}

/* Frames body pieces into dst (room for num + 2) and returns their number. */
static size_t frame_body(struct gw_http1_conn *conn, h2o_iovec_t *dst, const h2o_iovec_t *bufs, size_t num, size_t len,
                         bool is_final)
{
    size_t n = 0;

    if (conn->out.has_no_body)
        return 0;
    if (conn->out.is_chunked && len != 0)
        dst[n++] = write_chunk_size(conn, conn->out.chunk_size, len);
    for (size_t i = 0; i != num; ++i)
        if (bufs[i].len != 0)
            dst[n++] = bufs[i];
    if (conn->out.is_chunked) {
        if (is_final && __builtin_expect(conn->stream.response_trailers.size != 0, 0) &&
            conn->stream.head.accepts_trailers)
            n += frame_trailers(conn, dst + n, len != 0);
        else if (is_final)
            dst[n++] = len != 0 ? h2o_iovec_init(H2O_STRLIT("\r\n0\r\n\r\n")) : h2o_iovec_init(H2O_STRLIT("0\r\n\r\n"));
        else if (len != 0)
            dst[n++] = h2o_iovec_init(H2O_STRLIT("\r\n"));
    }
    return n;
}

/* The head, and with it a small body: one buffer, one send(). */
static size_t start_response(struct gw_http1_conn *conn, h2o_iovec_t *dst, const h2o_iovec_t *bufs, size_t num,
                             size_t len, bool is_final)
{
    h2o_req_t *req = &conn->stream.req;
    struct gw_response_framing framing =
        conn->stream.is_tunnel ? begin_tunnel(conn) : choose_framing(conn, len, is_final);
    size_t room = gw_response_head_bound(&req->res, &framing), n;
    bool is_inline = len <= INLINE_BODY_MAX && conn->stream.response_trailers.size == 0;
    char *base = h2o_mem_alloc_pool(&req->pool, room + (is_inline ? len + sizeof(conn->out.chunk_size) + 8 : 0));

    conn->stream.response_started = true;
    dst[0] = h2o_iovec_init(base, gw_response_head_write(base, &req->res, &framing));
    conn->stream.head_bytes_out = dst[0].len;
    n = frame_body(conn, dst + 1, bufs, num, len, is_final);
    if (!is_inline)
        return n + 1;
    for (size_t i = 1; i <= n; ++i) {
        memcpy(dst[0].base + dst[0].len, dst[i].base, dst[i].len);
        dst[0].len += dst[i].len;
    }
    return 1;
}

static void do_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t num, h2o_send_state_t state)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, out.final, self);
    h2o_iovec_t *out = alloca(sizeof(*out) * (num + 3));
    size_t len = 0, n;
    bool is_final = state == H2O_SEND_STATE_FINAL;

    conn->out.state = state;
    if (state == H2O_SEND_STATE_ERROR) {
        gw_http1_abort(conn);
        return;
    }
    for (size_t i = 0; i != num; ++i)
        len += bufs[i].len;
    if (!conn->stream.response_started)
        n = start_response(conn, out, bufs, num, len, is_final);
    else
        n = frame_body(conn, out, bufs, num, len, is_final);
    if (conn->out.is_writing) { /* an interim response is still on its way */
        conn->out.stash = h2o_mem_alloc_pool(&req->pool, sizeof(*out) * (n + 1));
        memcpy(conn->out.stash, out, sizeof(*out) * n);
        conn->out.stash_size = n;
        conn->out.is_stashed = true;
    } else {
        write_out(conn, out, n);
    }
}

/* ---- after a write ---- */

/* Our half of the tunnel is over: say so, and wait for the client's. */
static void end_tunnel(struct gw_http1_conn *conn)
{
    if (!conn->out.is_ended) {
        conn->out.is_ended = true;
        conn->out.is_writing = !gw_socket_end(conn->super.sock, on_written);
    }
    gw_http1_check_tunnel(conn);
}

static void follow_up(struct gw_http1_conn *conn)
{
    struct gw_http1_out *out = &conn->out;

    conn->send_due_ms = UINT64_MAX;
    if (out->is_broken)
        gw_http1_close(conn, GW_END_ABORTED);
    else if (out->is_interim_writing) {
        out->is_interim_writing = false;
        if (out->is_stashed) {
            out->is_stashed = false;
            write_out(conn, out->stash, out->stash_size);
        }
    } else if (out->state == H2O_SEND_STATE_FINAL) {
        if (conn->stream.is_tunnel)
            end_tunnel(conn);
        else
            gw_http1_end_request(conn);
    } else {
        h2o_proceed_response(&conn->stream.req);
    }
}

static void on_after_write(struct gw_deferred *deferred)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, after_write, deferred);
    gw_conn_charge(&conn->super);
    follow_up(conn);
}

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct gw_http1_conn *conn = sock->data;
    conn->out.is_writing = false;
    if (err != NULL)
        gw_http1_close(conn, GW_END_CLIENT_GONE);
    else if (conn->out.is_interim_writing) /* a response may begin before the end of the turn */
        follow_up(conn);
    else /* hundreds of clients may have taken what they were sent at the same time */
        gw_conn_defer(&conn->super, &conn->after_write);
}

/* While one is stuck in the socket, further ones are left out: whoever does not read misses no answer. */
void gw_http1_send_interim(struct gw_http1_conn *conn, int status, const h2o_header_t *fields, size_t num_fields)
{
    h2o_res_t res = {.status = status, .reason = gw_reason_phrase(status)};
    struct gw_response_framing framing = {.content_length = UINT64_MAX};

    if (conn->stream.head.minor_version == 0 || conn->stream.response_started || conn->out.is_writing)
        return;
    res.headers.entries = (h2o_header_t *)fields;
    res.headers.size = num_fields;
    char *base = h2o_mem_alloc_pool(&conn->stream.req.pool, gw_response_head_bound(&res, &framing));
    h2o_iovec_t head = {base, gw_response_head_write(base, &res, &framing)};
    if (!gw_socket_write(conn->super.sock, &head, 1, on_written)) {
        conn->out.is_writing = conn->out.is_interim_writing = true;
        gw_http1_expect_sent(conn);
    }
}

/* The response cannot be completed: close at the end of the turn, so that callers further up the stack stay on firm
 * ground. What is out has no proper end, so the client sees the truncation. */
void gw_http1_abort(struct gw_http1_conn *conn)
{
    conn->out.is_broken = true;
    gw_conn_defer(&conn->super, &conn->after_write);
}

void gw_http1_init_out(struct gw_http1_conn *conn)
{
    conn->out.final.do_send = do_send;
    conn->after_write.run = on_after_write;
    conn->body_turn.run = NULL;
}
