/* Request bodies of HTTP/1.x: from the socket's input to whoever started the body, one piece at a time. A piece is the
 * input buffer itself, taken away from the socket; the next one is taken when the last has been consumed, and reading
 * stops when too much waits. Payload is never copied. */
#include "gateway/http/http1_conn.h"
#include <string.h>

/* An unwanted body up to this size is read and dropped to keep the connection; beyond, closing is cheaper. */
enum { DISCARD_MAX = 65536 };

static struct gw_http1_conn *conn_of(struct gw_stream *stream)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, stream, stream);
}

static void on_body_turn(struct gw_deferred *deferred);

void gw_http1_begin_body(struct gw_http1_conn *conn)
{
    const struct gw_request_head *head = &conn->stream.head;

    memset(&conn->body, 0, sizeof(conn->body));
    conn->body_turn.run = on_body_turn;
    if (head->is_chunked) {
        gw_chunked_init(&conn->body.chunked);
        conn->body.chunked.keeps_trailers = true;
    } else {
        conn->body.left = head->content_length != UINT64_MAX ? head->content_length : 0;
    }
    gw_patience_init(&conn->body.patience, &conn->super.server->settings);
    conn->body.wants_continue = head->expects_continue && conn->stream.has_body && head->minor_version >= 1;
}

/* The head of the 101 goes out: what lies in the input or is still to come belongs to the tunnel. */
void gw_http1_begin_tunnel(struct gw_http1_conn *conn)
{
    memset(&conn->body, 0, sizeof(conn->body));
    conn->stream.has_body = true;
    conn->stream.body_complete = conn->stream.body_started = false;
    conn->peer_eof = conn->peer_eof || gw_socket_has_ended(conn->super.sock);
}

void gw_http1_release_body(struct gw_http1_conn *conn)
{
    if (conn->body.held != NULL)
        h2o_buffer_dispose(&conn->body.held);
    conn->body.held = NULL;
    conn->body.unconsumed = 0;
    gw_chunked_dispose(&conn->body.chunked);
    gw_thread_undefer(&conn->body_turn);
}

bool gw_http1_may_keep_alive(const struct gw_http1_conn *conn, bool is_refused)
{
    if (conn->stream.body_complete || (conn->stream.body_started && !is_refused))
        return true;
    /* a client still waiting for 100 Continue may or may not send the body now: nobody can tell where it ends */
    if (conn->body.wants_continue)
        return false;
    return conn->stream.head.is_chunked ? !conn->stream.body_started : conn->body.left <= DISCARD_MAX;
}

static void turn_later(struct gw_http1_conn *conn) { gw_conn_defer(&conn->super, &conn->body_turn); }

static void pay_for(struct gw_http1_conn *conn, size_t bytes)
{
    gw_patience_pay(&conn->body.patience, &conn->super.server->settings, gw_thread_now(conn->super.server->thread),
                    bytes);
}

static void await_more(struct gw_http1_conn *conn)
{
    uint64_t now_ms = gw_thread_now(conn->super.server->thread);

    gw_http1_resume_read(conn);
    if (!conn->stream.is_tunnel) /* how long one may be idle is the pipeline's business */
        gw_http1_expect(conn, GW_WAIT_BODY,
                        gw_patience_wait(&conn->body.patience, &conn->super.server->settings, now_ms,
                                         !conn->stream.response_started || conn->is_discarding));
}

/* Both have said their last, and ours has left: nothing will happen any more. */
static bool is_tunnel_over(const struct gw_http1_conn *conn)
{
    return conn->stream.is_tunnel && conn->out.is_ended && !conn->out.is_writing && conn->body.is_last_delivered &&
           conn->body.unconsumed == 0;
}

void gw_http1_check_tunnel(struct gw_http1_conn *conn)
{
    if (is_tunnel_over(conn))
        turn_later(conn);
}

/* The body is complete, trailers have come with it. False: too many. */
static bool take_trailers(struct gw_http1_conn *conn, h2o_iovec_t section)
{
    struct gw_stream *stream = &conn->stream;
    size_t n = gw_trailers_count(section);

    if (n > conn->super.server->settings.limits.max_fields)
        return false;
    section = h2o_strdup(&stream->req.pool, section.base, section.len);
    h2o_iovec_t *names = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*names) * n);
    stream->request_trailers.entries = h2o_mem_alloc_pool(&stream->req.pool, sizeof(h2o_header_t) * n);
    stream->request_trailers.size =
        gw_trailers_cut(section, stream->head.method.base, stream->request_trailers.entries, names);
    return true;
}

static enum gw_stream_end take_chunks(struct gw_http1_conn *conn, size_t *len, size_t *used)
{
    struct gw_chunked *chunked = &conn->body.chunked;

    switch (gw_chunked_decode(chunked, conn->super.sock->input->bytes, len, used)) {
    case GW_CHUNKED_MORE:
        return GW_END_COMPLETE;
    case GW_CHUNKED_DONE:
        if (__builtin_expect(chunked->trailers != NULL, 0) && !take_trailers(conn, gw_chunked_trailers(chunked)))
            return GW_END_TRAILERS_TOO_LARGE;
        conn->stream.body_complete = true;
        return GW_END_COMPLETE;
    case GW_CHUNKED_TRAILERS_TOO_LARGE:
        return GW_END_TRAILERS_TOO_LARGE;
    case GW_CHUNKED_BAD:
        break;
    }
    return GW_END_BODY_BAD;
}

/* Takes what belongs to the body out of the socket's input into `held`. Anything but GW_END_COMPLETE: what is wrong
 * with the framing. */
static enum gw_stream_end take_piece(struct gw_http1_conn *conn, size_t *len)
{
    h2o_socket_t *sock = conn->super.sock;
    size_t used = sock->input->size;

    *len = used;
    if (conn->stream.is_tunnel) {
        conn->stream.body_complete = conn->peer_eof;
    } else if (conn->stream.head.is_chunked) {
        enum gw_stream_end end = take_chunks(conn, len, &used);
        if (end != GW_END_COMPLETE)
            return end;
    } else {
        if (*len > conn->body.left)
            used = *len = conn->body.left;
        conn->body.left -= *len;
        conn->stream.body_complete = conn->body.left == 0;
    }
    if (*len == 0) {
        h2o_buffer_consume(&sock->input, used);
        return GW_END_COMPLETE;
    }
    size_t rest = sock->input->size - used;
    conn->body.held = gw_socket_detach_input(sock);
    if (rest != 0) {
        h2o_iovec_t room = h2o_buffer_reserve(&sock->input, rest);
        memcpy(room.base, conn->body.held->bytes + used, rest);
        sock->input->size += rest;
    }
    return GW_END_COMPLETE;
}

static void deliver(struct gw_http1_conn *conn)
{
    struct gw_stream *stream = &conn->stream;
    enum gw_stream_end end;
    size_t len = 0;

    if (conn->body.held != NULL || conn->body.is_last_delivered)
        return;
    if (!stream->body_complete) {
        if (conn->super.sock->input->size == 0 && !(stream->is_tunnel && conn->peer_eof)) {
            await_more(conn);
            return;
        }
        if ((end = take_piece(conn, &len)) != GW_END_COMPLETE) {
            gw_http1_break_body(conn, end);
            return;
        }
    }
    stream->body_bytes_in += len;
    pay_for(conn, len);
    if (len == 0 && !stream->body_complete) {
        await_more(conn);
        return;
    }
    if (stream->body_complete) {
        conn->body.is_last_delivered = true;
        if (conn->wait == GW_WAIT_BODY)
            gw_http1_expect(conn, GW_WAIT_NOTHING, 0);
    } else if (!stream->is_tunnel) {
        /* the clock stands still while we are the ones who hold things up */
        gw_http1_expect(conn, GW_WAIT_NOTHING, 0);
    }
    conn->body.unconsumed = len;
    stream->on_body(stream->on_body_data, h2o_iovec_init(len != 0 ? conn->body.held->bytes : NULL, len),
                    stream->body_complete);
    gw_http1_check_tunnel(conn);
}

static void discard(struct gw_http1_conn *conn)
{
    h2o_socket_t *sock = conn->super.sock;
    size_t used = sock->input->size, len = used;
    bool is_complete;

    if (conn->stream.head.is_chunked) {
        enum gw_chunked_result result = gw_chunked_decode(&conn->body.chunked, sock->input->bytes, &len, &used);
        if (result == GW_CHUNKED_BAD || result == GW_CHUNKED_TRAILERS_TOO_LARGE)
            conn->body.discarded = DISCARD_MAX + 1;
        is_complete = result == GW_CHUNKED_DONE;
    } else {
        if (used > conn->body.left)
            used = conn->body.left;
        conn->body.left -= used;
        is_complete = conn->body.left == 0;
    }
    conn->body.discarded += used;
    pay_for(conn, used);
    h2o_buffer_consume(&sock->input, used);
    if (is_complete || conn->body.discarded > DISCARD_MAX) {
        conn->is_discarding = false;
        gw_http1_discarded(conn, is_complete);
    } else {
        await_more(conn);
    }
}

static void on_body_turn(struct gw_deferred *deferred)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, body_turn, deferred);
    gw_conn_charge(&conn->super);
    if (conn->is_discarding)
        discard(conn);
    else if (conn->in_request && is_tunnel_over(conn))
        gw_http1_end_request(conn);
    else if (conn->in_request && conn->stream.body_started)
        deliver(conn);
}

/* The response is out, the rest of the request body nobody wants. */
void gw_http1_discard_body(struct gw_http1_conn *conn)
{
    conn->is_discarding = true;
    turn_later(conn);
}

void gw_http1_on_body_input(struct gw_http1_conn *conn)
{
    if (conn->is_discarding || (conn->stream.body_started && !conn->stream.body_complete && conn->body.held == NULL))
        turn_later(conn);
}

/* The body cannot be completed. Before the response has begun it is answered, afterwards the connection ends. */
void gw_http1_break_body(struct gw_http1_conn *conn, enum gw_stream_end end)
{
    struct gw_stream *stream = &conn->stream;

    if (conn->is_discarding || stream->response_started) {
        gw_http1_close(conn, end);
        return;
    }
    stream->end = end;
    stream->close_after = true;
    gw_http1_release_body(conn);
    stream->body_started = false;
    conn->super.server->on_bad_body(stream);
}

static void start_body(struct gw_stream *stream)
{
    struct gw_http1_conn *conn = conn_of(stream);

    stream->body_started = true;
    if (conn->body.wants_continue) {
        conn->body.wants_continue = false;
        /* RFC 9110 10.1.1: not when the body is already on its way */
        if (conn->super.sock->input->size == 0 && !stream->response_started)
            gw_http1_send_interim(conn, 100, NULL, 0);
    }
    turn_later(conn);
}

static void consumed(struct gw_stream *stream, size_t bytes)
{
    struct gw_http1_conn *conn = conn_of(stream);

    assert(bytes <= conn->body.unconsumed);
    conn->body.unconsumed -= bytes;
    if (conn->body.unconsumed != 0 || conn->body.held == NULL)
        return;
    h2o_buffer_dispose(&conn->body.held);
    conn->body.held = NULL;
    if (!conn->body.is_last_delivered)
        turn_later(conn);
    else
        gw_http1_check_tunnel(conn);
}

static void abort_stream(struct gw_stream *stream)
{
    gw_http1_abort(H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, stream, stream));
}

static void send_interim(struct gw_stream *stream, int status, const h2o_header_t *fields, size_t num_fields)
{
    gw_http1_send_interim(conn_of(stream), status, fields, num_fields);
}

const struct gw_stream_ops gw_http1_stream_ops = {start_body, consumed, abort_stream, send_interim};
