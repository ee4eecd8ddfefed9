/* What comes in over HTTP/2: field sections become requests, DATA becomes bodies. Bodies are copied once, out of the
 * frames of many streams into a buffer of their own; windows are opened again by what has been consumed. */
#include <stdlib.h>
#include <string.h>
#include "gateway/http/http2_conn.h"
#include "gateway/http/http2_priority.h"

static struct gw_http2_stream *find(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- life ---- */

static void on_body_turn(struct gw_deferred *deferred);

static struct gw_http2_stream *create_stream(struct gw_http2_conn *conn, int32_t id)
{
    struct gw_http2_stream *stream = h2o_mem_alloc(sizeof(*stream));
    struct gw_stream *super = &stream->super;
    struct gw_server *server = conn->super.server;

    h2o_init_request(&super->req, &conn->super.super, NULL);
    memset((char *)stream + sizeof(super->req), 0, sizeof(*stream) - sizeof(super->req));
    super->conn = &conn->super;
    super->ops = &gw_http2_stream_ops;
    super->req.hostconf = server->hosts[0];
    super->req.pathconf = &server->hosts[0]->paths.entries[0];
    super->req.input.scheme = conn->super.is_tls ? &H2O_URL_SCHEME_HTTPS : &H2O_URL_SCHEME_HTTP;
    super->req.scheme = super->req.input.scheme;
    super->req.version = 0x200;
    super->req.input.query_at = super->req.query_at = SIZE_MAX;
    stream->conn = conn;
    stream->id = id;
    stream->body.due_ms = UINT64_MAX;
    gw_patience_init(&stream->body.patience, &server->settings);
    stream->body_turn.run = on_body_turn;
    gw_http2_init_out(stream);
    h2o_linklist_insert(&conn->streams, &stream->link);
    if (conn->num_streams++ == 0)
        gw_http2_became_busy(conn);
    return stream;
}

static void release_body(struct gw_http2_stream *stream)
{
    size_t left = stream->body.unconsumed;

    gw_thread_undefer(&stream->body_turn);
    if (stream->body.waiting != NULL)
        left += stream->body.waiting->size;
    gw_buffer_free(stream->body.waiting);
    gw_buffer_free(stream->body.held);
    stream->body.waiting = stream->body.held = NULL;
    stream->body.unconsumed = 0;
    stream->body.due_ms = UINT64_MAX;
    if (left != 0)
        nghttp2_session_consume(stream->conn->session, stream->id, left);
}

void gw_http2_end_stream(struct gw_http2_stream *stream, enum gw_stream_end end)
{
    struct gw_http2_conn *conn = stream->conn;
    struct gw_stream *super = &stream->super;

    if (!stream->is_closed)
        gw_http2_note_end(conn, stream->id, stream->body.is_ended);
    h2o_linklist_unlink(&stream->link);
    gw_http2_unhold(stream);
    if (h2o_linklist_is_linked(&stream->touched))
        h2o_linklist_unlink(&stream->touched);
    if (h2o_linklist_is_linked(&stream->hungry))
        h2o_linklist_unlink(&stream->hungry);
    if (stream->is_dispatched) {
        if (super->end == GW_END_COMPLETE)
            super->end = end;
        if (super->req._generator != NULL && super->req._generator->stop != NULL) {
            h2o_generator_t *generator = super->req._generator;
            super->req._generator = NULL;
            generator->stop(generator, &super->req);
        }
        conn->super.server->on_done(super);
    }
    release_body(stream);
    h2o_dispose_request(&super->req);
    free(stream);
    if (--conn->num_streams == 0)
        gw_http2_became_idle(conn);
}

void gw_http2_reset_stream(struct gw_http2_stream *stream, uint32_t error_code, enum gw_stream_end end)
{
    nghttp2_session *session = stream->conn->session;

    if (stream->super.end == GW_END_COMPLETE)
        stream->super.end = end;
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, error_code);
    nghttp2_session_set_stream_user_data(session, stream->id, NULL);
    gw_http2_flush_soon(stream->conn);
    if (stream->is_in_write) {
        gw_http2_note_end(stream->conn, stream->id, stream->body.is_ended);
        stream->is_closed = stream->is_over = true;
        if (h2o_linklist_is_linked(&stream->hungry))
            h2o_linklist_unlink(&stream->hungry);
    } else {
        gw_http2_end_stream(stream, end);
    }
}

void gw_http2_abort(struct gw_http2_stream *stream, uint32_t error_code)
{
    if (stream->is_closed)
        return;
    if (stream->out.is_malformed)
        gw_http2_spend(stream->conn, GW_HTTP2_STREAM_ERRORS); /* noticed when the bytes at hand have been read */
    else if (stream->super.end == GW_END_COMPLETE)
        stream->super.end = GW_END_ABORTED;
    stream->body.is_unwanted = true;
    release_body(stream);
    nghttp2_submit_rst_stream(stream->conn->session, NGHTTP2_FLAG_NONE, stream->id, error_code);
    gw_http2_flush_soon(stream->conn);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *data)
{
    struct gw_http2_stream *stream = find(session, id);
    enum gw_stream_end end;

    if (stream == NULL)
        return 0;
    stream->is_closed = true;
    gw_http2_note_end(stream->conn, id, stream->body.is_ended);
    if (error_code == NGHTTP2_NO_ERROR && stream->out.is_end_sent && gw_http2_is_half_open(stream))
        return 0; /* the target still gets what the client has sent */
    end = stream->out.is_end_sent || stream->out.is_malformed ? GW_END_COMPLETE : GW_END_CLIENT_GONE;
    if (stream->is_in_write) {
        stream->is_over = true;
        if (h2o_linklist_is_linked(&stream->hungry))
            h2o_linklist_unlink(&stream->hungry);
        if (stream->super.end == GW_END_COMPLETE)
            stream->super.end = end;
    } else {
        gw_http2_end_stream(stream, end);
    }
    return 0;
}

/* ---- requests ---- */

void gw_http2_end_misbehaved(struct gw_http2_conn *conn, enum gw_stream_end end)
{
    bool is_told = false;

    for (h2o_linklist_t *node = conn->streams.next; node != &conn->streams && !is_told; node = node->next) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node);
        is_told = stream->is_dispatched && !stream->out.is_malformed;
    }
    gw_http2_end_in_turns(conn, end);
    if (!is_told) {
        struct gw_http2_stream *stream = create_stream(conn, 0);
        stream->is_over = true; /* nothing is sent of an answer to it */
        gw_http2_refuse(stream, GW_HEAD_FLOOD);
        gw_http2_end_stream(stream, end);
    }
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct gw_http2_conn *conn = data;
    struct gw_http2_stream *stream;
    const struct gw_head_limits *limits = &conn->super.server->settings.limits;

    conn->head_id = frame->hd.stream_id;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        stream = create_stream(conn, frame->hd.stream_id);
        nghttp2_session_set_stream_user_data(session, stream->id, stream);
        gw_http2_head_init(&stream->head, &stream->super.req.pool, limits, false);
    } else if ((stream = find(session, frame->hd.stream_id)) != NULL) {
        gw_http2_head_init(&stream->head, &stream->super.req.pool, limits, true);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
                     uint8_t flags, void *data)
{
    struct gw_http2_stream *stream = find(session, frame->hd.stream_id);
    nghttp2_vec n, v;

    if (stream == NULL)
        return 0;
    n = nghttp2_rcbuf_get_buf(name);
    v = nghttp2_rcbuf_get_buf(value);
    gw_http2_head_add(&stream->head, h2o_iovec_init(n.base, n.len), h2o_iovec_init(v.base, v.len),
                      nghttp2_rcbuf_is_static(value));
    return gw_http2_charge_fields(stream->conn, &stream->head);
}

static void take_priority(struct gw_http2_stream *stream)
{
    struct gw_http2_conn *conn = stream->conn;
    nghttp2_extpri priority;

    for (size_t i = 0; i != sizeof(conn->updated) / sizeof(conn->updated[0]); ++i)
        if (conn->updated[i] == stream->id)
            return;
    if (gw_http2_priority_parse(stream->head.priority, &priority.urgency, &priority.inc))
        nghttp2_session_change_extpri_stream_priority(conn->session, stream->id, &priority, 0);
}

static void fill_request(struct gw_http2_stream *stream, bool is_ended)
{
    struct gw_stream *super = &stream->super;
    const struct gw_request_head *head = &super->head;
    h2o_req_t *req = &super->req;

    req->input.authority = req->authority = head->authority;
    req->input.method = req->method = head->method;
    req->input.path = req->path = head->path;
    req->input.query_at = req->query_at = head->query_at;
    req->headers.entries = head->fields;
    req->headers.size = req->headers.capacity = head->num_fields;
    super->is_head_request = h2o_memis(head->method.base, head->method.len, H2O_STRLIT("HEAD"));
    super->upgrade = head->upgrade;
    stream->body.is_ended = is_ended;
    stream->body.left = head->content_length;
    super->has_body = !is_ended && head->content_length != 0 && head->upgrade.base == NULL;
    super->body_complete = !super->has_body;
    stream->body.wants_continue = head->expects_continue && super->has_body;
}

static void note_request(struct gw_http2_stream *stream)
{
    stream->is_dispatched = true;
    stream->super.started_us = gw_now_us();
    ++stream->conn->super.num_requests;
    gw_count(&stream->conn->super.server->stats.requests, 1);
}

void gw_http2_refuse(struct gw_http2_stream *stream, enum gw_head_result result)
{
    struct gw_request_head *head = &stream->super.head;

    if (!stream->is_dispatched) { /* before its end has come */
        memset(head, 0, sizeof(*head));
        head->query_at = SIZE_MAX;
        head->content_length = UINT64_MAX;
        head->minor_version = 1;
        note_request(stream);
    }
    stream->out.is_malformed |= gw_http2_is_malformed(result);
    stream->body.is_unwanted = true;
    stream->body.left = UINT64_MAX;
    stream->super.has_body = !stream->body.is_ended;
    stream->conn->super.server->on_bad_head(&stream->super, result);
}

static void begin_request(struct gw_http2_stream *stream, size_t wire_bytes, bool is_ended)
{
    struct gw_http2_conn *conn = stream->conn;
    struct gw_server *server = conn->super.server;
    enum gw_head_result result = gw_http2_head_finish(&stream->head, &stream->super.head);

    note_request(stream);
    stream->super.head_bytes_in = wire_bytes;
    if (result == GW_HEAD_OK && is_ended && stream->head.content_length != 0) {
        result = GW_HEAD_BAD_CONTENT_LENGTH;
        stream->out.is_malformed = true; /* RFC 9113 8.1.1 */
    }
    if (result != GW_HEAD_OK) {
        stream->body.is_ended = is_ended;
        gw_http2_refuse(stream, result);
        return;
    }
    fill_request(stream, is_ended);
    if (stream->head.priority.base != NULL)
        take_priority(stream);
    server->on_request(&stream->super);
    if (server->settings.max_requests != 0 && conn->super.num_requests >= server->settings.max_requests)
        gw_http2_drain(conn);
}

/* ---- bodies ---- */

static void turn_later(struct gw_http2_stream *stream) { gw_conn_defer(&stream->conn->super, &stream->body_turn); }

static bool is_body_over(const struct gw_http2_stream *stream)
{
    return stream->super.is_tunnel ? stream->body.is_ended : stream->super.body_complete;
}

/* Its streams may be silent most of the time, and the answer begins with their end. */
bool gw_http2_is_grpc(const struct gw_http2_stream *stream)
{
    const h2o_headers_t *headers = &stream->super.req.headers;
    if (stream->super.silence_ms != 0 && stream->body.left == UINT64_MAX)
        return true;
    ssize_t at = h2o_find_header(headers, H2O_TOKEN_CONTENT_TYPE, -1);
    return at != -1 && headers->entries[at].value.len >= 16 &&
           memcmp(headers->entries[at].value.base, "application/grpc", 16) == 0;
}

static void await_more(struct gw_http2_stream *stream)
{
    struct gw_http2_conn *conn = stream->conn;
    if (stream->super.is_tunnel) /* its own idle timeout is the pipeline's */
        return;
    uint64_t now_ms = gw_thread_now(conn->super.server->thread);
    uint64_t wait_ms = gw_patience_wait(&stream->body.patience, &conn->super.server->settings, now_ms,
                                        !stream->super.response_started && !gw_http2_is_grpc(stream));
    if (stream->super.silence_ms > wait_ms && stream->body.left == UINT64_MAX)
        wait_ms = stream->super.silence_ms;
    stream->body.due_ms = now_ms + wait_ms;
    gw_http2_arm(conn, stream->body.due_ms);
}

static void check_tunnel(struct gw_http2_stream *stream)
{
    if (stream->super.is_tunnel && stream->out.is_end_sent && !gw_http2_is_half_open(stream))
        turn_later(stream);
}

static void deliver(struct gw_http2_stream *stream)
{
    struct gw_http2_body *body = &stream->body;
    struct gw_stream *super = &stream->super;
    bool is_last = is_body_over(stream);

    if (body->held != NULL || body->is_last_delivered)
        return;
    body->held = body->waiting;
    body->waiting = NULL;
    body->unconsumed = body->held != NULL ? body->held->size : 0;
    const struct gw_server *server = stream->conn->super.server;
    gw_patience_pay(&body->patience, &server->settings, gw_thread_now(server->thread), body->unconsumed);
    if (body->unconsumed == 0 && !is_last) {
        await_more(stream);
        return;
    }
    body->due_ms = UINT64_MAX; /* the clock stands still while we are the ones who hold things up */
    body->is_last_delivered = is_last;
    super->body_bytes_in += body->unconsumed;
    super->on_body(super->on_body_data, h2o_iovec_init(body->held != NULL ? body->held->bytes : NULL, body->unconsumed),
                   is_last);
    check_tunnel(stream);
}

static void on_body_turn(struct gw_deferred *deferred)
{
    struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, body_turn, deferred);
    gw_conn_charge(&stream->conn->super);
    if (stream->super.is_tunnel && stream->out.is_end_sent && !gw_http2_is_half_open(stream)) {
        if (!stream->is_in_write) /* else when that is done */
            gw_http2_finish(stream);
        return;
    }
    if (stream->super.body_started && !stream->is_over)
        deliver(stream);
}

static void start_body(struct gw_stream *super)
{
    struct gw_http2_stream *stream = gw_http2_stream_from(super);

    super->body_started = true;
    if (stream->body.wants_continue) {
        stream->body.wants_continue = false;
        /* RFC 9110 10.1.1: not when the body is already on its way */
        if (stream->body.waiting == NULL && !super->body_complete && !super->response_started)
            gw_http2_send_interim(stream, 100, NULL, 0);
    }
    turn_later(stream);
}

static void consumed(struct gw_stream *super, size_t bytes)
{
    struct gw_http2_stream *stream = gw_http2_stream_from(super);
    struct gw_http2_body *body = &stream->body;

    assert(bytes <= body->unconsumed);
    body->unconsumed -= bytes;
    nghttp2_session_consume(stream->conn->session, stream->id, bytes);
    gw_http2_flush_soon(stream->conn);
    if (body->unconsumed != 0 || body->held == NULL)
        return;
    gw_buffer_free(body->held);
    body->held = NULL;
    if (!body->is_last_delivered)
        turn_later(stream);
    else
        check_tunnel(stream);
}

static void abort_stream(struct gw_stream *super)
{
    /* RFC 8441 5: for a tunnel it stands for a reset of the connection */
    gw_http2_abort(gw_http2_stream_from(super), super->is_tunnel ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void send_interim(struct gw_stream *super, int status, const h2o_header_t *fields, size_t num_fields)
{
    gw_http2_send_interim(gw_http2_stream_from(super), status, fields, num_fields);
}

const struct gw_stream_ops gw_http2_stream_ops = {start_body, consumed, abort_stream, send_interim, gw_http2_room};

/* The body cannot be completed. Before the response has begun it is answered, afterwards the stream is reset. */
void gw_http2_break_body(struct gw_http2_stream *stream, enum gw_stream_end end)
{
    struct gw_stream *super = &stream->super;
    bool is_malformed = end == GW_END_BODY_BAD;

    stream->body.is_unwanted = true;
    super->end = end;
    if (super->response_started) {
        gw_http2_abort(stream, is_malformed ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_CANCEL);
        return;
    }
    release_body(stream);
    super->body_started = false;
    stream->out.is_malformed = is_malformed;
    stream->conn->super.server->on_bad_body(super);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len, void *data)
{
    struct gw_http2_stream *stream = find(session, id);
    struct gw_http2_conn *conn = data;
    struct gw_http2_body *body;

    conn->has_data = true;
    if (stream == NULL || stream->body.is_unwanted) {
        nghttp2_session_consume(session, id, len);
        return 0;
    }
    body = &stream->body;
    if (body->left != UINT64_MAX) {
        if (len > body->left) {
            nghttp2_session_consume(session, id, len);
            gw_http2_break_body(stream, GW_END_BODY_BAD);
            return 0;
        }
        body->left -= len;
    }
    if (body->waiting == NULL)
        h2o_buffer_init(&body->waiting, &h2o_socket_buffer_prototype);
    memcpy(h2o_buffer_reserve(&body->waiting, len).base, bytes, len);
    body->waiting->size += len;
    body->due_ms = UINT64_MAX;
    if (stream->super.body_started && body->held == NULL)
        turn_later(stream);
    return 0;
}

static void end_body(struct gw_http2_stream *stream)
{
    struct gw_http2_body *body = &stream->body;

    body->is_ended = true;
    if (body->is_unwanted)
        return;
    if (body->left != 0 && body->left != UINT64_MAX) {
        gw_http2_break_body(stream, GW_END_BODY_BAD);
        return;
    }
    stream->super.body_complete = true;
    body->due_ms = UINT64_MAX;
    if (stream->super.body_started && body->held == NULL)
        turn_later(stream);
}

static void keep_allowed(struct gw_trailers *trailers, const struct gw_http2_fields *from)
{
    trailers->entries = from->entries;
    trailers->size = 0;
    for (size_t i = 0; i != from->size; ++i)
        if (gw_trailer_is_allowed(*from->entries[i].name))
            trailers->entries[trailers->size++] = from->entries[i];
}

static void take_trailers(struct gw_http2_stream *stream, bool is_ended)
{
    enum gw_head_result result = stream->head.result;

    if (stream->body.is_unwanted || stream->is_over) {
        stream->body.is_ended = is_ended;
    } else if (is_ended && (result == GW_HEAD_TOO_LARGE || result == GW_HEAD_TOO_MANY_FIELDS)) {
        gw_http2_break_body(stream, GW_END_TRAILERS_TOO_LARGE);
    } else if (!is_ended || result != GW_HEAD_OK) {
        gw_http2_break_body(stream, GW_END_BODY_BAD); /* RFC 9113 8.1 */
    } else {
        keep_allowed(&stream->super.request_trailers, &stream->head.fields);
        end_body(stream);
    }
}

/* ---- frames ---- */

static void note_update(struct gw_http2_conn *conn, const nghttp2_frame *frame)
{
    const nghttp2_ext_priority_update *update = frame->ext.payload;
    if (update->stream_id == 0) /* RFC 9218 7.1 */
        gw_http2_terminate(conn, NGHTTP2_PROTOCOL_ERROR);
    else if (update->stream_id > nghttp2_session_get_last_proc_stream_id(conn->session))
        conn->updated[conn->updated_at++ % (sizeof(conn->updated) / sizeof(conn->updated[0]))] = update->stream_id;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct gw_http2_conn *conn = data;
    struct gw_http2_stream *stream;
    bool is_ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        conn->head_id = 0;
        conn->head_due_ms = UINT64_MAX;
        if ((stream = find(session, frame->hd.stream_id)) == NULL)
            break;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            begin_request(stream, 9 + frame->hd.length, is_ended);
        else
            take_trailers(stream, is_ended);
        break;
    case NGHTTP2_DATA:
        if (gw_http2_charge_data(conn, frame) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        if (is_ended && (stream = find(session, frame->hd.stream_id)) != NULL)
            end_body(stream);
        break;
    case NGHTTP2_RST_STREAM:
        if ((stream = find(session, frame->hd.stream_id)) != NULL)
            stream->body.is_ended = true;
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (conn->num_held != 0)
            gw_http2_release_held(conn, frame->hd.stream_id, false);
        break;
    case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
            conn->settings_due_ms = UINT64_MAX;
        if (gw_http2_windows_overflow(conn, &frame->settings))
            gw_http2_terminate(conn, NGHTTP2_FLOW_CONTROL_ERROR); /* RFC 9113 6.9.2 */
        if (conn->num_held != 0)                                  /* it may have widened the windows of all streams */
            gw_http2_release_held(conn, 0, false);
        if (conn->is_new) {
            conn->is_new = false;
            conn->head_due_ms = UINT64_MAX;
            if (conn->num_streams == 0)
                gw_http2_became_idle(conn);
        }
        break;
    case NGHTTP2_PRIORITY_UPDATE:
        note_update(conn, frame);
        break;
    }
    return 0;
}

/* The library resets the stream for it. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *data)
{
    return frame->hd.stream_id != 0 ? gw_http2_spend(data, GW_HTTP2_STREAM_ERRORS) : 0;
}

void gw_http2_set_in_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
