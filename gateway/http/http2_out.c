/* Responses of HTTP/2: libh2o's last ostream. A response is submitted when it starts; libnghttp2 then asks for payload
 * when windows and the order of urgency (RFC 9218) allow. All that a turn has brought about is gathered and leaves in
 * one write: frames of control and small payloads are copied side by side, large payloads are referred to. */
#include <alloca.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/http/grammar.h"
#include "gateway/http/http2_conn.h"

enum {
    BLOCK = 96 * 1024,         /* of a gather: what may be copied, and room for two more frames */
    PLAIN_GATHER = 256 * 1024, /* of a plain socket: most bytes of one write */
    REFER_FROM = 2048,         /* payloads from here on are referred to; plain sockets only, TLS copies anyway */
    FRAME_HEAD = 9,
    MAX_FRAME = 16384 + FRAME_HEAD,
    ROUNDS = 2,               /* writes of one connection in a turn, and bytes from which on there is no other: */
    BYTES_A_TURN = 64 * 1024, /* others want theirs too */
    ASKED_AT_A_TIME = 8,
    PRESSED_GATHER =
        32 * 1024,         /* the same while the thread is pressed: most bytes of one write, of which there is one, */
    PRESSED_FRAMES = 32,   /* most frames, */
    PRESSED_ASKED = 2,     /* and senders that are asked */
    LEAST_PROGRESS = 1024, /* of a stream within send_timeout; else one-byte windows hold it for ever */
    SLIVER = 1024,         /* a DATA frame below this is held if the window is what makes it so small, */
    SLIVER_PART = 4,       /* and frames of the stream have been so many times larger, */
    HELD_MS = 40,          /* for so long at most */
};

static struct gw_http2_stream *stream_of(h2o_ostream_t *final)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, out.final, final);
}

static uint64_t now_ms(struct gw_http2_conn *conn) { return gw_thread_now(conn->super.server->thread); }

/* ---- the head ---- */

static nghttp2_nv make_nv(h2o_iovec_t name, h2o_iovec_t value, uint8_t flags)
{
    return (nghttp2_nv){(uint8_t *)name.base, (uint8_t *)value.base, name.len, value.len, flags};
}

enum { KEPT = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };

/* RFC 9113 8.2.1: names that rules of a route brought in may have capitals. */
static h2o_iovec_t lower_name(h2o_mem_pool_t *pool, h2o_iovec_t name)
{
    for (size_t i = 0; i != name.len; ++i)
        if (gw_char_is(name.base[i], GW_CHAR_UPPER)) {
            h2o_iovec_t lower = h2o_strdup(pool, name.base, name.len);
            h2o_strtolower(lower.base, lower.len);
            return lower;
        }
    return name;
}

static bool forbids_body(const struct gw_stream *stream, int status)
{
    return stream->is_head_request || status == 204 || status == 304;
}

static size_t write_number(char *to, uint64_t n)
{
    char digits[20];
    size_t len = 0;
    do
        digits[sizeof(digits) - ++len] = '0' + n % 10;
    while ((n /= 10) != 0);
    memcpy(to, digits + sizeof(digits) - len, len);
    return len;
}

/* Fills nva, which has room for all fields of the response and four more. */
static size_t make_head(struct gw_stream *stream, nghttp2_nv *nva, char status[3], char length[20], bool is_whole)
{
    static const h2o_iovec_t names[] = {
        {H2O_STRLIT(":status")}, {H2O_STRLIT("date")}, {H2O_STRLIT("content-length")}, {H2O_STRLIT("trailer")}};
    const h2o_res_t *res = &stream->req.res;
    bool has_date = false;
    size_t n = 0, content_length = res->content_length;
    int code = res->status == 101 ? 200 : res->status; /* RFC 8441 5 */

    for (int i = 2; i >= 0; --i, code /= 10)
        status[i] = '0' + code % 10;
    nva[n++] = make_nv(names[0], h2o_iovec_init(status, 3), NGHTTP2_NV_FLAG_NO_COPY_NAME);
    for (size_t i = 0; i != res->headers.size; ++i) {
        const h2o_header_t *field = &res->headers.entries[i];
        h2o_iovec_t name = *field->name;
        if (!h2o_iovec_is_token(field->name))
            name = lower_name(&stream->req.pool, name);
        has_date |= field->name == &H2O_TOKEN_DATE->buf;
        nva[n++] = make_nv(name, field->value, KEPT);
    }
    if (!has_date)
        nva[n++] =
            make_nv(names[1], h2o_iovec_init(gw_server_date(stream->conn->server), 29), NGHTTP2_NV_FLAG_NO_COPY_NAME);
    /* with a length and trailers, whoever passes it on over HTTP/1.1 has to leave out one of them: never the trailers
     */
    if (content_length == SIZE_MAX && is_whole && stream->response_trailers.size == 0 &&
        !forbids_body(stream, res->status))
        content_length = gw_http2_stream_from(stream)->out.left;
    if (content_length != SIZE_MAX && res->status != 204 && !stream->is_tunnel) /* RFC 9110 8.6 */
        nva[n++] = make_nv(names[2], h2o_iovec_init(length, write_number(length, content_length)),
                           NGHTTP2_NV_FLAG_NO_COPY_NAME);
    if (__builtin_expect(stream->announced_trailers.base != NULL, 0) && !forbids_body(stream, res->status))
        nva[n++] = make_nv(names[3], stream->announced_trailers, KEPT);
    return n;
}

static ssize_t on_read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                            nghttp2_data_source *source, void *data);

static void start_response(struct gw_http2_stream *stream, bool is_final)
{
    struct gw_stream *super = &stream->super;
    nghttp2_nv *nva = alloca(sizeof(*nva) * (super->req.res.headers.size + 4));
    char status[3], length[20];
    size_t n = make_head(super, nva, status, length, is_final);
    nghttp2_data_provider provider = {.source = {.ptr = stream}, .read_callback = on_read_data};
    bool has_trailers = is_final && super->response_trailers.size != 0;
    int rv;

    super->response_started = true;
    stream->out.has_data =
        super->is_tunnel || (!forbids_body(super, super->req.res.status) && (stream->out.left != 0 || !is_final));
    stream->out.has_data |= has_trailers && !forbids_body(super, super->req.res.status);
    rv = nghttp2_submit_response(stream->conn->session, stream->id, nva, n, stream->out.has_data ? &provider : NULL);
    if (rv != 0)
        nghttp2_submit_rst_stream(stream->conn->session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_INTERNAL_ERROR);
}

void gw_http2_send_interim(struct gw_http2_stream *stream, int status, const h2o_header_t *fields, size_t num_fields)
{
    nghttp2_nv *nva = alloca(sizeof(*nva) * (num_fields + 1));
    char digits[3] = {'0' + status / 100, '0' + status / 10 % 10, '0' + status % 10};

    if (stream->super.response_started || stream->is_over)
        return;
    nva[0] = make_nv(h2o_iovec_init(H2O_STRLIT(":status")), h2o_iovec_init(digits, 3), NGHTTP2_NV_FLAG_NO_COPY_NAME);
    for (size_t i = 0; i != num_fields; ++i)
        nva[i + 1] = make_nv(*fields[i].name, fields[i].value, NGHTTP2_NV_FLAG_NONE);
    nghttp2_submit_headers(stream->conn->session, NGHTTP2_FLAG_NONE, stream->id, NULL, nva, num_fields + 1, NULL);
    gw_http2_flush_soon(stream->conn);
}

/* ---- payload ---- */

static void submit_trailers(struct gw_http2_stream *stream)
{
    const struct gw_trailers *trailers = &stream->super.response_trailers;
    nghttp2_nv *nva = alloca(sizeof(*nva) * trailers->size);

    for (size_t i = 0; i != trailers->size; ++i)
        nva[i] =
            make_nv(lower_name(&stream->super.req.pool, *trailers->entries[i].name), trailers->entries[i].value, KEPT);
    if (nghttp2_submit_trailer(stream->conn->session, stream->id, nva, trailers->size) != 0)
        nghttp2_submit_rst_stream(stream->conn->session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_INTERNAL_ERROR);
}

/* The silly window syndrome (RFC 1122 4.2.3.4): a client that opens windows by what each frame has brought would keep a
 * sliver, once there is one, going round for ever. */
static bool hold(struct gw_http2_stream *stream, size_t offered)
{
    struct gw_http2_out *out = &stream->out;
    struct gw_http2_conn *conn = stream->conn;

    if (offered > out->offered)
        out->offered = (uint16_t)offered;
    if (offered >= SLIVER || offered >= out->left || offered * SLIVER_PART > out->offered || out->is_let_go) {
        out->is_let_go = false;
        return false;
    }
    out->is_held = true;
    if (conn->num_held++ == 0) {
        conn->held_due_ms = now_ms(conn) + HELD_MS;
        gw_http2_arm(conn, conn->held_due_ms);
    }
    return true;
}

void gw_http2_unhold(struct gw_http2_stream *stream)
{
    if (!stream->out.is_held)
        return;
    stream->out.is_held = false;
    if (--stream->conn->num_held == 0)
        stream->conn->held_due_ms = UINT64_MAX;
}

static void release_held(struct gw_http2_stream *stream, bool is_due)
{
    if (!stream->out.is_held)
        return;
    gw_http2_unhold(stream);
    stream->out.is_let_go = is_due;
    nghttp2_session_resume_data(stream->conn->session, stream->id);
}

void gw_http2_release_held(struct gw_http2_conn *conn, int32_t id, bool is_due)
{
    struct gw_http2_stream *stream;

    if (id != 0 && (stream = nghttp2_session_get_stream_user_data(conn->session, id)) != NULL)
        release_held(stream, is_due);
    if (id != 0)
        return;
    for (h2o_linklist_t *node = conn->streams.next; conn->num_held != 0 && node != &conn->streams; node = node->next)
        release_held(H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node), is_due);
}

static ssize_t on_read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                            nghttp2_data_source *source, void *data)
{
    struct gw_http2_stream *stream = nghttp2_session_get_stream_user_data(session, id);

    if (stream == NULL) /* over for us: its RST_STREAM is on the way */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    bool is_final = stream->out.state == H2O_SEND_STATE_FINAL;
    if (stream->out.left == 0 && !is_final) {
        if (stream->out.is_sending && !h2o_linklist_is_linked(&stream->hungry))
            h2o_linklist_insert(&stream->conn->hungry, &stream->hungry);
        stream->out.is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (hold(stream, length))
        return NGHTTP2_ERR_DEFERRED;
    stream->out.is_squeezed = length < stream->out.left;
    if (length > stream->out.left)
        length = stream->out.left;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (is_final && length == stream->out.left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->super.response_trailers.size != 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(stream);
        }
    }
    return (ssize_t)length;
}

static void touch(struct gw_http2_stream *stream)
{
    stream->is_in_write = true;
    if (!h2o_linklist_is_linked(&stream->touched))
        h2o_linklist_insert(&stream->conn->touched, &stream->touched);
}

static void put(struct gw_http2_gather *gather, const void *bytes, size_t len)
{
    char *to = gather->bytes + gather->used;
    h2o_iovec_t *last = gather->num_vecs != 0 ? &gather->vecs[gather->num_vecs - 1] : NULL;

    memcpy(to, bytes, len);
    gather->used += len;
    gather->total += len;
    if (last != NULL && last->base + last->len == to)
        last->len += len;
    else
        gather->vecs[gather->num_vecs++] = h2o_iovec_init(to, len);
}

/* Moves len bytes of the stream's payload into the write. */
static void take_payload(struct gw_http2_stream *stream, struct gw_http2_gather *gather, size_t len)
{
    struct gw_http2_out *out = &stream->out;

    out->left -= len;
    out->moved += len;
    while (len != 0) {
        h2o_iovec_t *buf = &out->bufs[out->buf_at];
        size_t part = buf->len < len ? buf->len : len;
        if (stream->conn->super.is_tls || part < REFER_FROM || gather->num_vecs >= GW_HTTP2_MAX_VECS - 4) {
            put(gather, buf->base, part);
        } else {
            gather->vecs[gather->num_vecs++] = h2o_iovec_init(buf->base, part);
            gather->total += part;
        }
        buf->base += part;
        buf->len -= part;
        len -= part;
        if (buf->len == 0)
            ++out->buf_at;
    }
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length,
                        nghttp2_data_source *source, void *data)
{
    struct gw_http2_conn *conn = data;
    struct gw_http2_stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    struct gw_http2_gather *gather = conn->writing;

    if (stream == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (gather->used + FRAME_HEAD + length > BLOCK || gather->num_vecs >= GW_HTTP2_MAX_VECS - 4 ||
        gather->used >= GW_HTTP2_GATHER || gather->total >= PLAIN_GATHER)
        return NGHTTP2_ERR_WOULDBLOCK;
    gw_http2_earn_by_data(conn, length, stream->out.is_squeezed);
    put(gather, head, FRAME_HEAD);
    take_payload(stream, gather, length);
    stream->super.bytes_out += FRAME_HEAD + length;
    touch(stream);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    struct gw_http2_stream *stream;

    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        stream->super.bytes_out += FRAME_HEAD + frame->hd.length;
        if (stream->super.head_bytes_out == 0 && stream->super.response_started)
            stream->super.head_bytes_out = FRAME_HEAD + frame->hd.length;
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        stream->out.is_end_sent = true;
        touch(stream);
    }
    return 0;
}

/* ---- what the pipeline sends ---- */

static void keep_bufs(struct gw_http2_stream *stream, const h2o_iovec_t *bufs, size_t num)
{
    struct gw_http2_out *out = &stream->out;

    if (num > out->capacity) {
        out->capacity = num < 4 ? 4 : num;
        out->bufs = h2o_mem_alloc_pool(&stream->super.req.pool, sizeof(*bufs) * out->capacity);
    }
    out->num_bufs = out->buf_at = out->left = 0;
    for (size_t i = 0; i != num; ++i)
        if (bufs[i].len != 0) {
            out->bufs[out->num_bufs++] = bufs[i];
            out->left += bufs[i].len;
        }
}

static void expect_taken(struct gw_http2_stream *stream)
{
    struct gw_http2_conn *conn = stream->conn;
    stream->out.moved = 0;
    stream->out.seen_payload_out = conn->payload_out;
    stream->out.due_ms = now_ms(conn) + conn->super.server->settings.send_timeout_ms;
    gw_http2_arm(conn, stream->out.due_ms);
}

static void do_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t num, h2o_send_state_t state)
{
    struct gw_http2_stream *stream = stream_of(self);
    struct gw_http2_out *out = &stream->out;
    bool is_first = !stream->super.response_started;

    if (stream->is_over) /* it waits for a write to let go of it */
        return;
    if (out->is_malformed || state == H2O_SEND_STATE_ERROR) {
        uint32_t code = out->is_malformed ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_INTERNAL_ERROR;
        gw_http2_abort(stream, code);
        return;
    }
    out->state = state;
    out->is_sending = true;
    keep_bufs(stream, bufs, num);
    if (is_first) {
        start_response(stream, state == H2O_SEND_STATE_FINAL);
    } else if (out->is_deferred) {
        out->is_deferred = false;
        nghttp2_session_resume_data(stream->conn->session, stream->id);
    }
    if (out->has_data && !stream->super.is_tunnel) /* how long one may be stuck is the pipeline's business */
        expect_taken(stream);
    gw_http2_flush_soon(stream->conn);
}

void gw_http2_init_out(struct gw_http2_stream *stream)
{
    stream->out.final.do_send = do_send;
    stream->out.due_ms = UINT64_MAX;
    stream->super.req._ostr_top = &stream->out.final;
}

/* What the client lets us send now. */
size_t gw_http2_room(struct gw_stream *super)
{
    struct gw_http2_stream *stream = gw_http2_stream_from(super);
    int32_t room = nghttp2_session_get_stream_remote_window_size(stream->conn->session, stream->id);
    int32_t of_all = nghttp2_session_get_remote_window_size(stream->conn->session);
    if (of_all < room)
        room = of_all;
    return room > 0 ? (size_t)room : 0;
}

/* The client did not take what it was offered for send_timeout, or did not let us offer anything. False: it may go on.
 */
bool gw_http2_is_stuck(struct gw_http2_stream *stream)
{
    struct gw_http2_conn *conn = stream->conn;
    int32_t window = nghttp2_session_get_stream_remote_window_size(conn->session, stream->id);
    bool is_held = window < LEAST_PROGRESS;

    stream->out.due_ms = UINT64_MAX;
    if (!stream->out.is_sending || stream->out.is_end_sent)
        return false;
    /* the window of the connection is used by other streams too: only when none of them moves it is held */
    is_held |= nghttp2_session_get_remote_window_size(conn->session) < LEAST_PROGRESS &&
               conn->payload_out - stream->out.seen_payload_out < LEAST_PROGRESS;
    if (is_held && stream->out.moved < LEAST_PROGRESS)
        return true;
    expect_taken(stream);
    return false;
}

/* ---- writing ---- */

void gw_http2_finish(struct gw_http2_stream *stream)
{
    struct gw_http2_conn *conn = stream->conn;
    if (!stream->is_closed) {
        /* RFC 9113 8.1: the rest of the request is not wanted */
        if (!stream->body.is_ended)
            nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
        nghttp2_session_set_stream_user_data(conn->session, stream->id, NULL);
    }
    gw_http2_earn_by_request(conn);
    gw_http2_end_stream(stream, GW_END_COMPLETE);
}

/* The write is done: streams whose bytes were in it may go on, or are over. */
static void after_write(struct gw_http2_conn *conn)
{
    while (!h2o_linklist_is_empty(&conn->touched)) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, touched, conn->touched.next);
        h2o_linklist_unlink(&stream->touched);
        stream->is_in_write = false;
        if (stream->out.is_end_sent && !gw_http2_is_half_open(stream)) {
            gw_http2_finish(stream);
        } else if (stream->is_over) {
            gw_http2_end_stream(stream, stream->super.end);
        }
    }
}

/* Bodies are made as windows allow, not before: a hundred streams whose windows are shut must neither cost time nor
 * hold memory. Each may read a piece of a file, so only some are asked at a time. */
static void ask_senders(struct gw_http2_conn *conn)
{
    unsigned most = gw_thread_is_pressed(conn->super.server->thread) ? PRESSED_ASKED : ASKED_AT_A_TIME;
    for (unsigned n = 0; !h2o_linklist_is_empty(&conn->hungry); ++n) {
        struct gw_http2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, hungry, conn->hungry.next);
        if (n == most) {
            gw_http2_flush_soon(conn);
            break;
        }
        h2o_linklist_unlink(&stream->hungry);
        stream->out.is_sending = false;
        stream->out.due_ms = UINT64_MAX;
        h2o_proceed_response(&stream->super.req);
    }
}

static struct gw_http2_gather *take_gather(struct gw_server *server)
{
    struct gw_http2_gather *gather = server->spare_gather;
    server->spare_gather = NULL;
    if (gather == NULL) {
        gather = h2o_mem_alloc(sizeof(*gather) + BLOCK);
        gather->bytes = (char *)(gather + 1);
    }
    gather->used = gather->total = gather->num_vecs = 0;
    return gather;
}

static void return_gather(struct gw_http2_conn *conn)
{
    struct gw_server *server = conn->super.server;
    if (server->spare_gather == NULL)
        server->spare_gather = conn->writing;
    else
        free(conn->writing);
    conn->writing = NULL;
}

void gw_http2_drop_write(struct gw_http2_conn *conn)
{
    if (conn->writing != NULL)
        return_gather(conn);
}

static bool gather_frames(struct gw_http2_conn *conn, struct gw_http2_gather *gather)
{
    bool is_pressed = gw_thread_is_pressed(conn->super.server->thread);
    size_t most = is_pressed ? PRESSED_GATHER : PLAIN_GATHER;
    unsigned num_frames = is_pressed ? PRESSED_FRAMES : UINT32_MAX;
    const uint8_t *bytes;
    ssize_t n;

    while (BLOCK - gather->used >= MAX_FRAME && gather->used < GW_HTTP2_GATHER && gather->total < most &&
           gather->num_vecs < GW_HTTP2_MAX_VECS - 4 && num_frames-- != 0) {
        if ((n = nghttp2_session_mem_send(conn->session, &bytes)) < 0)
            return false;
        if (n == 0)
            break;
        put(gather, bytes, (size_t)n);
    }
    return true;
}

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct gw_http2_conn *conn = sock->data;

    conn->is_writing = false;
    conn->send_due_ms = UINT64_MAX;
    gw_http2_drop_write(conn);
    if (err != NULL || conn->is_closing) {
        gw_http2_close(conn, GW_END_CLIENT_GONE);
        return;
    }
    if (conn->ends_as != GW_END_COMPLETE)
        gw_http2_end_in_turns(conn, conn->ends_as);
    else if (conn->is_flooded && !conn->is_lingering)
        gw_http2_end_misbehaved(conn, GW_END_FLOOD + conn->flood);
    conn->is_written = true;
    gw_http2_flush_soon(conn); /* many may have taken what they were sent at the same time */
}

/* Writes once. False: nothing more can be written now. */
static bool write_gathered(struct gw_http2_conn *conn)
{
    struct gw_http2_gather *gather = conn->writing = take_gather(conn->super.server);

    if (!gather_frames(conn, gather)) {
        conn->is_broken = true;
        return_gather(conn);
        return false;
    }
    if (gather->total == 0) {
        return_gather(conn);
        after_write(conn); /* streams that ended without a byte */
        ask_senders(conn);
        return false;
    }
    gw_count(&conn->super.server->stats.bytes_out, gather->total);
    conn->payload_out += gather->total;
    if (!gw_socket_write(conn->super.sock, gather->vecs, gather->num_vecs, on_written)) {
        conn->is_writing = true;
        gw_http2_expect_sent(conn);
        if (conn->super.is_tls) /* has its own copy */
            return_gather(conn);
        return false;
    }
    return_gather(conn);
    after_write(conn);
    ask_senders(conn);
    return true;
}

/* May free the connection. */
void gw_http2_flush(struct gw_http2_conn *conn)
{
    unsigned rounds = gw_thread_is_pressed(conn->super.server->thread) ? 1 : ROUNDS;
    uint64_t before = conn->payload_out;
    if (conn->is_written) {
        conn->is_written = false;
        after_write(conn);
    }
    for (unsigned round = 0; !conn->is_writing && write_gathered(conn);)
        if (++round == rounds || conn->payload_out - before >= BYTES_A_TURN) {
            gw_http2_flush_soon(conn);
            return;
        }
    if (conn->is_writing)
        return;
    gw_http2_resume_read(conn);
    if (conn->is_broken)
        gw_http2_close(conn, GW_END_ABORTED);
    else if (nghttp2_session_want_read(conn->session) == 0 && nghttp2_session_want_write(conn->session) == 0)
        gw_http2_linger(conn);
}

static void on_flush_turn(struct gw_deferred *deferred)
{
    struct gw_http2_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http2_conn, flush_turn, deferred);
    gw_conn_charge(&conn->super);
    if (!conn->is_lingering && !conn->is_closing)
        gw_http2_flush(conn);
}

void gw_http2_flush_soon(struct gw_http2_conn *conn)
{
    conn->flush_turn.run = on_flush_turn;
    if (!conn->is_writing)
        gw_conn_defer(&conn->super, &conn->flush_turn);
}

void gw_http2_set_out_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
}
