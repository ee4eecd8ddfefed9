/* HTTP/1.x server connections (RFC 9112) as an h2o_conn_t. One request at a time; the socket stays in read state for
 * life, except under back-pressure. The way of a request, top to bottom in this file and in body.c / out.c of the same
 * conn: on_read -> read_head -> begin_request -> server->on_request ... (pipeline) ... do_send -> after_write ->
 * end_request */
#include "gateway/http/http1_conn.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How long a client that shut down its sending side may wait for the next byte of its answer: nothing tells it apart
 * from one that went away, and the target should not work for those. While bytes move, they tell. */
enum { HALF_CLOSED_GRACE_MS = 1000 };
/* Lingering close (RFC 9112 9.6): time for the client to read our last words before a reset could destroy them. Many
 * read nothing before they have sent all: as long as it comes, and not byte by byte, they get more, within reason. */
enum { LINGER_MS = 5000, LINGER_MOST_MS = 30000, LINGER_LEAST_READ = 512 };
/* An idle connection told to drain may have a request on its way. */
enum { DRAIN_IDLE_GRACE_MS = 500 };
/* How often a connection that is not read, because whoever takes its bytes is slow, is asked whether it was reset. */
enum { LOOK_FOR_RESET_MS = 1000 };
/* An idle connection on which something has come that is about to be read. */
enum { UNREAD_GRACE_MS = 100 };

/* Where a request is expected, more than a few kilobytes at once are hundreds of them: no need to hurry. */
enum { HEADS_READ = 16 * 1024 };
/* Who sends so much at a time is served behind those who send less. */
enum { BULK = 16 * 1024 };

static void read_head(struct gw_http1_conn *conn);

/* ---- timers ---- */

static void arm_timer(struct gw_http1_conn *conn)
{
    uint64_t due = conn->recv_due_ms < conn->send_due_ms ? conn->recv_due_ms : conn->send_due_ms;
    /* lazily: a timer that fires too early looks again, so a request costs no work on the wheel */
    if (due != UINT64_MAX && !(gw_timer_is_armed(&conn->timer) && conn->timer.due_ms <= due))
        gw_timer_arm(conn->super.server->thread->wheel, &conn->timer, due);
}

void gw_http1_expect(struct gw_http1_conn *conn, enum gw_http1_wait wait, uint64_t within_ms)
{
    conn->wait = wait;
    conn->recv_due_ms = gw_thread_now(conn->super.server->thread) + within_ms;
    arm_timer(conn);
}

static void expect_nothing(struct gw_http1_conn *conn)
{
    conn->wait = GW_WAIT_NOTHING;
    conn->recv_due_ms = UINT64_MAX;
}

/* Looks twice per send_timeout; the client is stuck when two looks in a row see none or too little progress. */
void gw_http1_expect_sent(struct gw_http1_conn *conn)
{
    conn->send_seen = UINT64_MAX;
    conn->send_stalls = 0;
    conn->send_due_ms = gw_thread_now(conn->super.server->thread) + conn->super.server->settings.send_timeout_ms / 2;
    arm_timer(conn);
}

static void on_send_due(struct gw_http1_conn *conn)
{
    uint64_t seen = gw_socket_send_progress(conn->super.sock);
    bool is_stalled = gw_send_is_stalled(&conn->super.server->settings, conn->send_seen, seen);
    conn->send_stalls = is_stalled ? conn->send_stalls + 1 : 0;
    conn->send_seen = seen;
    if (conn->send_stalls >= 2) {
        gw_http1_close(conn, GW_END_SEND_TIMEOUT);
        return;
    }
    conn->send_due_ms = gw_thread_now(conn->super.server->thread) + conn->super.server->settings.send_timeout_ms / 2;
    arm_timer(conn);
}

static void await_bytes_for_half_closed(struct gw_http1_conn *conn)
{
    conn->half_closed_seen = conn->stream.bytes_out;
    gw_http1_expect(conn, GW_WAIT_HALF_CLOSED, HALF_CLOSED_GRACE_MS);
}

static void on_half_closed_due(struct gw_http1_conn *conn)
{
    if (conn->stream.is_tunnel)
        return;
    if (conn->out.is_writing || conn->stream.bytes_out != conn->half_closed_seen)
        await_bytes_for_half_closed(conn);
    else
        gw_http1_close(conn, GW_END_CLIENT_GONE);
}

/* Bytes that came in time although nobody has read them yet: the thread has much to do, or the machine stood still. */
static bool has_come(struct gw_http1_conn *conn)
{
    char byte;
    return gw_thread_is_deferred(&conn->read_turn) ||
           recv(h2o_socket_get_fd(conn->super.sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* The loop asks nothing of a socket that is neither read nor written. An end in order is seen when its turn comes. */
static void look_for_reset(struct gw_http1_conn *conn)
{
    struct pollfd look = {.fd = h2o_socket_get_fd(conn->super.sock)};

    if (!conn->in_request || !conn->is_read_stopped || conn->peer_eof)
        return;
    if (poll(&look, 1, 0) == 1 && (look.revents & POLLERR) != 0)
        gw_http1_close(conn, GW_END_CLIENT_GONE);
    else
        gw_http1_expect(conn, GW_WAIT_NOTHING, LOOK_FOR_RESET_MS);
}

static void on_recv_due(struct gw_http1_conn *conn)
{
    enum gw_http1_wait wait = conn->wait;
    struct gw_server *server = conn->super.server;

    expect_nothing(conn);
    switch (wait) {
    case GW_WAIT_NOTHING:
        look_for_reset(conn);
        break;
    case GW_WAIT_HEAD:
        gw_count(&server->stats.header_timeouts, 1);
        if (conn->super.sock->input->size != 0)
            gw_http1_refuse(conn, GW_HEAD_INCOMPLETE);
        else
            gw_http1_close(conn, GW_END_COMPLETE);
        break;
    case GW_WAIT_IDLE:
        if (has_come(conn)) {
            gw_http1_expect(conn, GW_WAIT_IDLE, UNREAD_GRACE_MS);
            break;
        }
        gw_count(&server->stats.closed_idle, 1);
        gw_http1_close(conn, GW_END_COMPLETE);
        break;
    case GW_WAIT_BODY:
        gw_http1_break_body(conn, GW_END_BODY_TIMEOUT);
        break;
    case GW_WAIT_HALF_CLOSED:
        on_half_closed_due(conn);
        break;
    case GW_WAIT_LINGER:
        gw_http1_close(conn, GW_END_COMPLETE);
        break;
    }
}

static void on_timer(struct gw_timer *timer)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, timer, timer);
    uint64_t now_ms = gw_thread_now(conn->super.server->thread);

    if (conn->send_due_ms <= now_ms)
        on_send_due(conn);
    else if (conn->recv_due_ms <= now_ms)
        on_recv_due(conn);
    else
        arm_timer(conn);
    /* conn may be gone here */
}

/* ---- the end of a connection ---- */

static void dispose_request(struct gw_http1_conn *conn)
{
    struct gw_stream *stream = &conn->stream;

    conn->in_request = false;
    if (stream->req._generator != NULL && stream->req._generator->stop != NULL) {
        h2o_generator_t *generator = stream->req._generator;
        stream->req._generator = NULL;
        generator->stop(generator, &stream->req);
    }
    conn->super.server->on_done(stream);
    h2o_dispose_request(&stream->req);
    if (conn->head != NULL)
        h2o_buffer_dispose(&conn->head);
    conn->head = NULL;
    gw_http1_release_body(conn);
}

void gw_http1_close(struct gw_http1_conn *conn, enum gw_stream_end end)
{
    bool is_cut_off = conn->in_request && conn->stream.response_started && conn->out.ends_with_close;

    if (conn->in_request) {
        if (conn->stream.end == GW_END_COMPLETE)
            conn->stream.end = end;
        /* a tunnel that was idle for too long loses nothing; one whose other side was reset may have */
        if (conn->stream.is_tunnel)
            is_cut_off = conn->stream.end == GW_END_ABORTED;
        dispose_request(conn);
    }
    gw_timer_disarm(&conn->timer);
    gw_thread_undefer(&conn->after_write);
    gw_thread_undefer(&conn->body_turn);
    gw_thread_undefer(&conn->read_turn);
    gw_conn_dispose(&conn->super);
    gw_socket_close(conn->super.sock, is_cut_off);
    free(conn);
}

/* Our last words are out: wait for the client to close, dropping what it still sends. */
static void linger(struct gw_http1_conn *conn)
{
    h2o_socket_t *sock = conn->super.sock;

    conn->is_lingering = true;
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (conn->peer_eof) {
        gw_http1_close(conn, GW_END_COMPLETE);
        return;
    }
    if (sock->ssl == NULL)
        shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    gw_http1_resume_read(conn);
    conn->linger_until_ms = gw_thread_now(conn->super.server->thread) + LINGER_MOST_MS;
    gw_http1_expect(conn, GW_WAIT_LINGER, LINGER_MS);
}

static bool is_draining(struct gw_http1_conn *conn) { return conn->is_draining || conn->super.server->is_draining; }

static void linger_on(struct gw_http1_conn *conn)
{
    uint64_t now_ms = gw_thread_now(conn->super.server->thread);

    if (conn->super.sock->input->size >= LINGER_LEAST_READ && !is_draining(conn) &&
        conn->linger_until_ms >= now_ms + LINGER_MS)
        gw_http1_expect(conn, GW_WAIT_LINGER, LINGER_MS);
}

static void await_request(struct gw_http1_conn *conn)
{
    struct gw_server *server = conn->super.server;

    conn->head_seen = 0;
    if (conn->super.sock->input->size != 0) {
        read_head(conn);
    } else if (conn->peer_eof) {
        gw_http1_close(conn, GW_END_COMPLETE);
    } else {
        uint64_t idle_ms = server->settings.idle_timeout_ms;
        if (is_draining(conn) && idle_ms > DRAIN_IDLE_GRACE_MS)
            idle_ms = DRAIN_IDLE_GRACE_MS;
        gw_http1_resume_read(conn);
        gw_http1_expect(conn, GW_WAIT_IDLE, idle_ms);
    }
}

/* The response is out. What is left of the request body is dropped if it is short, else the connection ends. */
void gw_http1_end_request(struct gw_http1_conn *conn)
{
    bool is_over = conn->out.must_close;

    if (is_over && conn->out.is_broken) {
        gw_http1_close(conn, GW_END_ABORTED);
        return;
    }
    conn->send_due_ms = UINT64_MAX;
    expect_nothing(conn);
    dispose_request(conn);
    if (is_over) {
        if (conn->stream.body_complete && conn->super.sock->input->size == 0 && conn->stream.end == GW_END_COMPLETE)
            gw_http1_close(conn, GW_END_COMPLETE);
        else
            linger(conn);
    } else if (!conn->stream.body_complete) {
        gw_http1_discard_body(conn);
    } else {
        await_request(conn);
    }
}

void gw_http1_discarded(struct gw_http1_conn *conn, bool is_complete)
{
    if (is_complete)
        await_request(conn);
    else
        linger(conn);
}

/* ---- a request begins ---- */

/* The head's bytes must stay where they are while reads go on: the input buffer becomes the head's. What follows the
 * head (a body's beginning, a pipelined request) moves to a new buffer; when that is much, the head moves instead. */
static char *take_head(struct gw_http1_conn *conn, size_t head_len)
{
    h2o_socket_t *sock = conn->super.sock;
    size_t rest = sock->input->size - head_len;

    /* a tunnel may last for days and be idle most of the time: no buffer for its head */
    if ((rest > 2048 && rest > head_len) || conn->stream.head.wants_upgrade) {
        char *copy = h2o_mem_alloc_pool(&conn->stream.req.pool, head_len);
        memcpy(copy, sock->input->bytes, head_len);
        h2o_buffer_consume(&sock->input, head_len);
        if (rest == 0)
            gw_buffer_free(gw_socket_detach_input(sock));
        return copy;
    }
    conn->head = gw_socket_detach_input(sock);
    if (rest != 0) {
        h2o_iovec_t room = h2o_buffer_reserve(&sock->input, rest);
        memcpy(room.base, conn->head->bytes + head_len, rest);
        sock->input->size += rest;
    }
    return conn->head->bytes;
}

static void rebase(h2o_iovec_t *slice, const char *from, size_t from_len, char *to)
{
    if (slice->base >= from && slice->base <= from + from_len)
        slice->base = to + (slice->base - from);
}

/* Fields parsed into the thread's scratch move to the request's pool. */
static void keep_fields(struct gw_stream *stream, const struct gw_request_head *parsed)
{
    size_t fields_size = sizeof(*parsed->fields) * parsed->num_fields;
    size_t names_size = sizeof(*parsed->names) * parsed->num_names;
    char *room = h2o_mem_alloc_pool(&stream->req.pool, fields_size + names_size);

    stream->head.fields = (h2o_header_t *)(void *)room;
    stream->head.names = (h2o_iovec_t *)(void *)(room + fields_size);
    memcpy(room, parsed->fields, fields_size);
    memcpy(room + fields_size, parsed->names, names_size);
    for (h2o_header_t *field = stream->head.fields, *end = field + parsed->num_fields; field != end; ++field)
        if (field->name >= parsed->names && field->name < parsed->names + parsed->num_names)
            field->name = stream->head.names + (field->name - parsed->names);
}

static void move_head(struct gw_stream *stream, const char *from, size_t len, char *to)
{
    struct gw_request_head *head = &stream->head;
    h2o_iovec_t *const slices[] = {&head->method, &head->target,  &head->authority,
                                   &head->path,   &head->upgrade, &head->trailer};

    if (from == to)
        return;
    for (size_t i = 0; i != sizeof(slices) / sizeof(slices[0]); ++i)
        rebase(slices[i], from, len, to);
    for (size_t i = 0; i != head->num_fields; ++i) {
        h2o_header_t *field = &head->fields[i];
        if (!h2o_iovec_is_token(field->name))
            rebase(field->name, from, len, to);
        if (field->orig_name != NULL && field->orig_name >= from && field->orig_name <= from + len)
            field->orig_name = to + (field->orig_name - from);
        rebase(&field->value, from, len, to);
    }
}

static void start_stream(struct gw_http1_conn *conn)
{
    struct gw_stream *stream = &conn->stream;
    struct gw_server *server = conn->super.server;

    h2o_init_request(&stream->req, &conn->super.super, NULL);
    memset((char *)stream + sizeof(stream->req), 0, sizeof(*stream) - sizeof(stream->req));
    stream->conn = &conn->super;
    stream->ops = &gw_http1_stream_ops;
    stream->started_us = gw_now_us();
    stream->req.hostconf = server->hosts[0];
    stream->req.pathconf = &server->hosts[0]->paths.entries[0];
    stream->req._ostr_top = &conn->out.final;
    stream->req.input.scheme = conn->super.is_tls ? &H2O_URL_SCHEME_HTTPS : &H2O_URL_SCHEME_HTTP;
    stream->req.scheme = stream->req.input.scheme;
    memset(&conn->out.state, 0, sizeof(conn->out) - offsetof(struct gw_http1_out, state));
    conn->in_request = true;
    ++conn->super.num_requests;
    gw_count(&server->stats.requests, 1);
}

static void fill_request(struct gw_stream *stream)
{
    h2o_req_t *req = &stream->req;
    const struct gw_request_head *head = &stream->head;

    req->input.authority = req->authority = head->authority;
    req->input.method = req->method = head->method;
    req->input.path = req->path = head->path;
    req->input.query_at = req->query_at = head->query_at;
    req->version = 0x100 | head->minor_version;
    req->headers.entries = head->fields;
    req->headers.size = req->headers.capacity = head->num_fields;
    stream->is_head_request = h2o_memis(head->method.base, head->method.len, H2O_STRLIT("HEAD"));
    stream->has_body = head->is_chunked || (head->content_length != 0 && head->content_length != UINT64_MAX);
    stream->body_complete = !stream->has_body;
    stream->upgrade = head->upgrade;
}

static void note_desync(struct gw_stream *stream, enum gw_desync desync)
{
    struct gw_server *server = stream->conn->server;
    enum gw_desync_class class = gw_desync_class(desync);

    stream->head.desync = (uint8_t)desync;
    if (class == GW_DESYNC_COMPLIANT)
        return;
    gw_count(&server->stats.desync[class - 1], 1);
    stream->closes_target = gw_desync_closes(server->settings.limits.desync_mode, class);
    stream->close_after |= stream->closes_target;
}

static void begin_request(struct gw_http1_conn *conn, const struct gw_request_head *parsed, size_t head_len)
{
    struct gw_stream *stream = &conn->stream;
    char *from = conn->super.sock->input->bytes, *to;

    start_stream(conn);
    stream->head = *parsed;
    stream->head_bytes_in = head_len;
    keep_fields(stream, parsed);
    to = take_head(conn, head_len);
    move_head(stream, from, head_len, to);
    fill_request(stream);
    if (__builtin_expect(parsed->desync != GW_DESYNC_NONE, 0))
        note_desync(stream, parsed->desync);
    gw_http1_begin_body(conn);
    expect_nothing(conn);
    conn->may_be_h2 = false;
    if (conn->peer_eof)
        await_bytes_for_half_closed(conn);
    conn->super.server->on_request(stream);
}

/* A head that breaks a rule, or did not arrive in time: there is no request, but it gets an answer and a log line. */
void gw_http1_refuse(struct gw_http1_conn *conn, enum gw_head_result result)
{
    struct gw_stream *stream = &conn->stream;

    start_stream(conn);
    stream->head.content_length = UINT64_MAX;
    stream->head.query_at = SIZE_MAX;
    stream->head.minor_version = 1;
    stream->head_bytes_in = conn->super.sock->input->size;
    stream->req.version = 0x101;
    stream->req.input.query_at = stream->req.query_at = SIZE_MAX;
    stream->has_body = true; /* nobody knows what else the client sends: linger after the answer */
    stream->close_after = true;
    stream->refused_bytes = h2o_iovec_init(conn->super.sock->input->bytes, conn->super.sock->input->size);
    if (result != GW_HEAD_INCOMPLETE && result != GW_HEAD_TOO_LARGE && result != GW_HEAD_TARGET_TOO_LONG)
        note_desync(stream, gw_desync_of_head(stream->refused_bytes.base, stream->refused_bytes.len));
    expect_nothing(conn);
    conn->super.server->on_bad_head(stream, result);
}

/* RFC 9113 3.4: the preface of a client that knows we speak HTTP/2. It is a request of HTTP/2.0 to our parser, so only
 * heads that are refused pay for the look. True: the connection is not ours any more, or not yet known. */
static bool is_h2(struct gw_http1_conn *conn)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    h2o_buffer_t *input = conn->super.sock->input;
    size_t len = input->size < sizeof(preface) - 1 ? input->size : sizeof(preface) - 1;

    if (memcmp(input->bytes, preface, len) != 0) {
        conn->may_be_h2 = false;
        return false;
    }
    if (len != sizeof(preface) - 1)
        return true;
    gw_timer_disarm(&conn->timer);
    gw_thread_undefer(&conn->read_turn);
    gw_http2_adopt(&conn->super);
    free(conn);
    return true;
}

static void read_head(struct gw_http1_conn *conn)
{
    struct gw_server *server = conn->super.server;
    h2o_buffer_t *input = conn->super.sock->input;
    struct gw_request_head head = {.fields = server->scratch->fields, .names = server->scratch->names};
    size_t head_len;
    enum gw_head_result result =
        gw_head_parse_request(input->bytes, input->size, conn->head_seen, &server->settings.limits, &head, &head_len);

    if (result == GW_HEAD_OK) {
        begin_request(conn, &head, head_len);
    } else if (result != GW_HEAD_INCOMPLETE) {
        if (!conn->may_be_h2 || !is_h2(conn))
            gw_http1_refuse(conn, result);
    } else if (conn->peer_eof) {
        gw_http1_close(conn, GW_END_COMPLETE);
    } else {
        conn->head_seen = input->size;
        gw_http1_resume_read(conn); /* a pipeline may have come up to here when reading stopped */
        if (conn->wait != GW_WAIT_HEAD)
            gw_http1_expect(conn, GW_WAIT_HEAD, server->settings.header_timeout_ms);
    }
}

/* ---- reading ---- */

void gw_http1_resume_read(struct gw_http1_conn *conn)
{
    if (conn->is_read_stopped && !conn->peer_eof) {
        conn->is_read_stopped = false;
        h2o_socket_read_start(conn->super.sock, gw_http1_on_read);
    }
}

static void stop_read(struct gw_http1_conn *conn)
{
    if (!conn->is_read_stopped) {
        conn->is_read_stopped = true;
        gw_thread_undefer(&conn->read_turn);
        h2o_socket_read_stop(conn->super.sock);
        if (conn->in_request && conn->wait == GW_WAIT_NOTHING)
            gw_http1_expect(conn, GW_WAIT_NOTHING, LOOK_FOR_RESET_MS);
    }
}

/* The client's half of a tunnel has ended. Without close_notify it may have been cut, which is not for us to judge: the
 * protocol inside has its own end. */
static void on_tunnel_eof(struct gw_http1_conn *conn)
{
    conn->peer_eof = true;
    stop_read(conn);
    gw_http1_on_body_input(conn);
}

static void on_read_error(struct gw_http1_conn *conn, const char *err)
{
    if (err == h2o_socket_error_closed && conn->in_request && conn->stream.is_tunnel) {
        on_tunnel_eof(conn);
        return;
    }
    if (err != h2o_socket_error_closed || !conn->in_request || !conn->stream.body_complete ||
        conn->super.sock->ssl != NULL) {
        gw_http1_close(conn, GW_END_CLIENT_GONE);
        return;
    }
    /* the client has sent all it wants to: it may still read (RFC 9112 9.6) or be gone */
    conn->peer_eof = true;
    stop_read(conn);
    await_bytes_for_half_closed(conn);
}

static size_t read_ahead(struct gw_http1_conn *conn)
{
    size_t head = conn->super.server->settings.limits.max_bytes + 4096;
    return head > GW_HTTP1_READ_AHEAD ? head : GW_HTTP1_READ_AHEAD;
}

static void read_some(struct gw_http1_conn *conn, const char *err)
{
    h2o_socket_t *sock = conn->super.sock;
    size_t before = sock->input->size;

    err = gw_socket_read(sock, err, conn->in_request ? GW_HTTP1_READ_AHEAD : HEADS_READ);
    gw_count(&conn->super.server->stats.bytes_in, sock->input->size - before);
    conn->is_bulky = sock->input->size - before >= BULK;
    if (conn->is_lingering) {
        linger_on(conn);
        h2o_buffer_consume(&sock->input, sock->input->size);
        if (err != NULL)
            gw_http1_close(conn, GW_END_COMPLETE);
        return;
    }
    if (err != NULL) {
        on_read_error(conn, err);
        return;
    }
    if (!conn->in_request && !conn->is_discarding) {
        if (sock->input->size != 0)
            read_head(conn);
        return;
    }
    if (conn->stream.is_tunnel && gw_socket_has_ended(sock)) {
        on_tunnel_eof(conn);
        return;
    }
    if (sock->input->size >= read_ahead(conn))
        stop_read(conn);
    gw_http1_on_body_input(conn);
}

static void on_read_turn(struct gw_deferred *deferred)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, read_turn, deferred);
    gw_conn_charge(&conn->super);
    read_some(conn, NULL);
}

void gw_http1_on_read(h2o_socket_t *sock, const char *err)
{
    struct gw_http1_conn *conn = sock->data;

    if (!gw_thread_is_deferred(&conn->read_turn) &&
        (err != NULL || !gw_conn_must_wait(&conn->super, &conn->read_turn, conn->is_bulky)))
        read_some(conn, err);
}

/* ---- as a gw_conn ---- */

static void drain(struct gw_conn *super)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, super, super);
    conn->is_draining = true;
    if (!conn->in_request && conn->wait == GW_WAIT_IDLE)
        gw_http1_expect(conn, GW_WAIT_IDLE, DRAIN_IDLE_GRACE_MS);
}
static void close_now(struct gw_conn *super, enum gw_stream_end end)
{
    gw_http1_close(H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, super, super), end);
}
static void each_stream(struct gw_conn *super, void (*see)(struct gw_stream *, void *data), void *data)
{
    struct gw_http1_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_http1_conn, super, super);
    if (conn->in_request)
        see(&conn->stream, data);
}
static const struct gw_conn_ops conn_ops = {drain, close_now, each_stream};

void gw_http1_serve(struct gw_server *server, h2o_socket_t *sock, const struct gw_peer *peer, bool allow_h2)
{
    struct gw_http1_conn *conn = h2o_mem_alloc(sizeof(*conn));

    memset(conn, 0, sizeof(*conn));
    conn->super.ops = &conn_ops;
    conn->may_be_h2 = allow_h2;
    gw_conn_init(&conn->super, server, sock, peer);
    gw_timer_init(&conn->timer, on_timer);
    conn->recv_due_ms = conn->send_due_ms = UINT64_MAX;
    conn->is_read_stopped = true;
    conn->read_turn.run = on_read_turn;
    gw_http1_init_out(conn);
    sock->data = conn;
    gw_socket_setup(sock);
    gw_http1_expect(conn, GW_WAIT_HEAD, server->settings.header_timeout_ms);
    gw_http1_resume_read(conn);
    if (sock->input->size != 0)
        read_head(conn);
}
