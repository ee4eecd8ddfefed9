/* A request on an HTTP/2 stream: the calls of client.h, and what h2_frames.c and h2_session.c report. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/http/trailers.h"
#include "gateway/upstream/h2_session.h"

static struct gw_thread *thread_of(const struct gw_h2_stream *stream) { return gw_pool_thread(stream->client->pool); }

/* ---- memory ---- */

static void free_body(struct gw_h2_stream *stream)
{
    for (struct gw_h2_block *block; (block = stream->oldest) != NULL;) {
        stream->oldest = block->next;
        free(block);
    }
    free(stream->incoming);
    free(stream->first);
    free(stream->fields);
    free(stream->head.bytes);
    free(stream->trailing.bytes);
    stream->incoming = NULL;
    stream->first = stream->head.bytes = stream->trailing.bytes = NULL;
    stream->fields = NULL;
}

void gw_h2_stream_free(struct gw_h2_stream *stream)
{
    free_body(stream);
    free(stream);
}

/* ---- deadlines ---- */

static uint64_t limit_of(const struct gw_h2_stream *stream)
{
    const struct gw_client *client = stream->client;
    if (client->state == GW_CLIENT_WAITING && !stream->has_piece)
        return stream->is_sent ? client->timeouts.first_byte_ms : 0;
    if (client->state == GW_CLIENT_RECEIVING && client->outstanding >= stream->window / 2)
        return 0; /* it may be us who hold it back */
    return client->timeouts.idle_ms;
}

void gw_h2_touch(struct gw_h2_stream *stream)
{
    uint64_t ms = limit_of(stream), now_ms = gw_thread_now(thread_of(stream));
    stream->moved_ms = now_ms;
    stream->deadline_ms = ms == 0 ? GW_NO_DEADLINE : now_ms + ms;
    if (ms != 0 && (!gw_timer_is_armed(&stream->timer) || stream->timer.due_ms > stream->deadline_ms))
        gw_timer_arm(thread_of(stream)->wheel, &stream->timer, stream->deadline_ms);
}

static void on_due(struct gw_timer *timer)
{
    struct gw_h2_stream *stream = H2O_STRUCT_FROM_MEMBER(struct gw_h2_stream, timer, timer);
    struct gw_client *client = stream->client;
    if (stream->deadline_ms == GW_NO_DEADLINE)
        return;
    if (stream->deadline_ms > gw_thread_now(thread_of(stream))) {
        gw_timer_arm(thread_of(stream)->wheel, timer, stream->deadline_ms);
        return;
    }
    /* silent on all its streams: who knows whether the connection is still there */
    if (stream->session != NULL && stream->session->state == GW_H2_OPEN &&
        stream->session->read_at_ms <= stream->moved_ms)
        gw_h2_session_retire(stream->session);
    if (client->state == GW_CLIENT_CONNECTING) {
        client->failure.detail = "no free HTTP/2 stream in time";
        gw_client_fail(client, GW_CLIENT_CONNECT_TIMEOUT);
    } else if (client->state == GW_CLIENT_WAITING && !stream->has_piece) {
        gw_client_fail(client, GW_CLIENT_FIRST_BYTE_TIMEOUT);
    } else {
        gw_client_fail(client, GW_CLIENT_IDLE_TIMEOUT);
    }
}

/* ---- the request ---- */

static void defer(struct gw_h2_stream *stream, unsigned what)
{
    stream->client->to_defer |= (uint8_t)what;
    gw_thread_defer(thread_of(stream), &stream->client->deferred);
}

static void send_trailers(struct gw_h2_stream *stream, nghttp2_session *ng)
{
    const struct gw_trailers *trailers = stream->trailers;
    nghttp2_nv list[GW_HEAD_MAX_FIELDS];
    size_t n = 0, size = 0;
    for (size_t i = 0; i != trailers->size && n != GW_HEAD_MAX_FIELDS; ++i) {
        const h2o_header_t *field = &trailers->entries[i];
        size += field->name->len;
        list[n++] = (nghttp2_nv){(uint8_t *)field->name->base, (uint8_t *)field->value.base, field->name->len,
                                 field->value.len, NGHTTP2_NV_FLAG_NONE};
    }
    char *lower = h2o_mem_alloc(size + 1), *p = lower;
    for (size_t i = 0; i != n; p += list[i++].namelen) {
        memcpy(p, list[i].name, list[i].namelen);
        h2o_strtolower(p, list[i].namelen);
        list[i].name = (uint8_t *)p;
    }
    nghttp2_submit_trailer(ng, stream->id, list, n);
    free(lower);
}

static void piece_is_out(struct gw_h2_stream *stream)
{
    stream->has_piece = stream->has_next;
    if (stream->has_next) {
        stream->has_next = stream->piece_is_first = false;
        stream->piece = stream->next;
        stream->piece_is_last = stream->next_is_last;
    } else if (!stream->piece_is_first) {
        defer(stream, GW_DEFER_DRAINED);
    } else {
        stream->piece_is_first = false;
        if (!stream->client->is_started && !stream->client->request_is_sent)
            defer(stream, GW_DEFER_STARTED);
    }
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *dst, size_t size, uint32_t *flags,
                         nghttp2_data_source *source, void *data)
{
    struct gw_h2_stream *stream = source->ptr;
    if (stream->client == NULL || stream->is_complete)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!stream->has_piece)
        return NGHTTP2_ERR_DEFERRED;
    size_t len = stream->piece.len < size ? stream->piece.len : size;
    if (len != 0)
        memcpy(dst, stream->piece.base, len);
    stream->piece.base += len;
    stream->piece.len -= len;
    if (stream->piece.len == 0) {
        if (stream->piece_is_last) {
            stream->is_sent = true;
            *flags |= NGHTTP2_DATA_FLAG_EOF;
            if (stream->trailers != NULL && stream->trailers->size != 0) {
                *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
                send_trailers(stream, ng);
            }
        }
        piece_is_out(stream);
    }
    gw_h2_touch(stream);
    stream->session->num_fidgets = stream->session->fidget_bytes = 0;
    return (ssize_t)len;
}

bool gw_h2_submit(struct gw_h2_stream *stream)
{
    const nghttp2_data_provider provider = {{.ptr = stream}, read_body};
    int32_t id = nghttp2_submit_request(stream->session->ng, NULL, stream->fields, stream->num_fields,
                                        stream->has_body ? &provider : NULL, stream);
    if (id < 0)
        return false;
    free(stream->fields);
    stream->fields = NULL;
    stream->id = id;
    stream->window = GW_H2_STREAM_WINDOW;
    stream->session->windows += stream->window;
    stream->is_sent = !stream->has_body;
    stream->client->state = GW_CLIENT_WAITING;
    gw_client_leave_pending(stream->client);
    if (stream->begins_session)
        stream->client->connected_us = stream->session->connected_us;
    if (!stream->client->request_is_sent && !stream->has_piece)
        defer(stream, GW_DEFER_STARTED);
    gw_h2_touch(stream);
    return true;
}

void gw_h2_client_write(struct gw_client *client, h2o_iovec_t bytes, bool is_last)
{
    struct gw_h2_stream *stream = client->h2;
    if (client->state == GW_CLIENT_ENDED || stream->session == NULL)
        return;
    assert(client->is_started && !stream->has_next && (!stream->has_piece || stream->piece_is_first) &&
           !client->request_is_sent);
    if (client->request_left != 0 || !client->body_is_chunked) {
        assert(bytes.len <= client->request_left);
        client->request_left -= bytes.len;
    }
    client->failure.body_bytes_sent += bytes.len;
    client->request_is_sent = is_last;
    if (bytes.len == 0 && !is_last) {
        defer(stream, GW_DEFER_DRAINED);
        return;
    }
    if (stream->has_piece) {
        stream->has_next = true;
        stream->next = bytes;
        stream->next_is_last = is_last;
        return;
    }
    stream->piece = bytes;
    stream->piece_is_last = is_last;
    stream->has_piece = true;
    nghttp2_session_resume_data(stream->session->ng, stream->id);
    gw_h2_session_flush_later(stream->session);
    gw_h2_touch(stream);
}

static void take_request(struct gw_h2_stream *stream, const struct gw_client_request *req)
{
    stream->fields = gw_h2_request_fields(req, req->transport->tls != NULL, &stream->num_fields);
    stream->trailers = req->trailers;
    stream->has_body = req->has_body && !(req->body_is_whole && req->body.len == 0 &&
                                          (req->trailers == NULL || req->trailers->size == 0));
    if (!stream->has_body)
        return;
    stream->piece_is_last = req->body_is_whole;
    stream->has_piece = stream->piece_is_first = req->body.len != 0 || req->body_is_whole;
    if (req->body.len == 0)
        return;
    stream->first = h2o_mem_alloc(req->body.len);
    memcpy(stream->first, req->body.base, req->body.len);
    stream->piece = h2o_iovec_init(stream->first, req->body.len);
}

/* Connecting has the session's limits; beyond them it is a free stream that does not come. */
static void arm_for_connection(struct gw_h2_stream *stream, const struct gw_transport *transport)
{
    uint64_t ms = 2 * (uint64_t)stream->client->timeouts.connect_ms;
    if (ms == 0)
        return;
    ms += transport->tls != NULL ? gw_client_tls_ms(&stream->client->timeouts, transport) : 0;
    stream->deadline_ms = gw_thread_now(thread_of(stream)) + ms;
    gw_timer_arm(thread_of(stream)->wheel, &stream->timer, stream->deadline_ms);
}

void gw_h2_stream_enter(struct gw_h2_stream *stream, struct gw_h2_session *session, bool is_full)
{
    struct gw_client *client = stream->client;
    stream->session = session;
    if (session == NULL) {
        client->failure.os_error = is_full ? 0 : errno;
        defer(stream, is_full ? GW_DEFER_NO_ROOM : GW_DEFER_CONNECT_FAILED);
        return;
    }
    client->failure.was_reused = session->state == GW_H2_OPEN;
    stream->begins_session = session->num_waiting + session->num_running + session->num_requests == 0;
    session->limits = client->limits;
    h2o_linklist_insert(&session->waiting, &stream->link);
    ++session->num_waiting;
    if (session->state == GW_H2_OPEN)
        gw_h2_session_flush_later(session);
}

struct gw_client *gw_h2_client_start(struct gw_client *client, const struct gw_endpoint *endpoint,
                                     const struct gw_client_request *req, bool allow_reuse)
{
    struct gw_h2_stream *stream = h2o_mem_alloc(sizeof(*stream));
    memset(stream, 0, sizeof(*stream));
    client->h2 = stream;
    stream->client = client;
    stream->endpoint = endpoint;
    stream->deadline_ms = GW_NO_DEADLINE;
    gw_timer_init(&stream->timer, on_due);
    take_request(stream, req);
    if (req->upgrade.base != NULL) {
        if (req->is_reserved)
            gw_pool_unreserve(endpoint);
        defer(stream, GW_DEFER_NO_UPGRADE);
        return client;
    }
    arm_for_connection(stream, req->transport);
    gw_client_enter_pending(client, endpoint, false);
    bool is_full = false;
    struct gw_h2_session *session = gw_h2_session_for(client->pool, endpoint, req->transport, &client->timeouts,
                                                      &client->limits, allow_reuse, req->is_reserved, &is_full);
    gw_h2_stream_enter(stream, session, is_full);
    return client;
}

/* ---- the end ---- */

static void reset(struct gw_h2_stream *stream)
{
    if (stream->session == NULL || stream->session->state == GW_H2_CLOSED || stream->is_reset)
        return;
    stream->is_reset = true;
    nghttp2_submit_rst_stream(stream->session->ng, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
    gw_h2_session_flush_later(stream->session);
}

void gw_h2_client_detach(struct gw_client *client)
{
    struct gw_h2_stream *stream = client->h2;
    struct gw_h2_session *session = stream->session;
    bool is_over = stream->is_complete && stream->is_sent;
    stream->is_complete = true; /* no more callbacks */
    gw_timer_disarm(&stream->timer);
    if (session == NULL)
        return;
    if (stream->id != 0 && session->state != GW_H2_CLOSED) {
        if (!is_over)
            reset(stream);
        return;
    }
    h2o_linklist_unlink(&stream->link);
    if (stream->id == 0)
        --session->num_waiting;
    stream->session = NULL;
    gw_h2_session_left(session);
}

/* Before its last callback. */
static void complete(struct gw_h2_stream *stream)
{
    struct gw_client *client = stream->client;
    stream->is_complete = true;
    gw_h2_client_detach(client);
    client->state = GW_CLIENT_ENDED;
    client->to_defer = 0;
    gw_thread_undefer(&client->deferred);
}

void gw_h2_client_release(struct gw_client *client)
{
    struct gw_h2_stream *stream = client->h2;
    gw_h2_client_detach(client);
    stream->client = NULL;
    client->h2 = NULL;
    if (stream->session == NULL)
        gw_h2_stream_free(stream);
    else
        free_body(stream);
}

static enum gw_client_error error_of(const struct gw_h2_stream *stream, uint32_t code)
{
    if (stream->has_head && stream->is_too_large)
        return GW_CLIENT_TRAILERS_TOO_LARGE;
    if (stream->has_head)
        return code == NGHTTP2_NO_ERROR ? GW_CLIENT_TRUNCATED : GW_CLIENT_RESET;
    if (stream->is_too_large)
        return GW_CLIENT_HEAD_TOO_LARGE;
    if (stream->is_bad)
        return GW_CLIENT_BAD_HEAD;
    return code == NGHTTP2_REFUSED_STREAM ? GW_CLIENT_REFUSED : GW_CLIENT_CLOSED_EARLY;
}

void gw_h2_on_closed(struct gw_h2_stream *stream, uint32_t code)
{
    struct gw_h2_session *session = stream->session;
    struct gw_client *client = stream->client;
    h2o_linklist_unlink(&stream->link);
    --session->num_running;
    session->windows -= stream->window;
    stream->session = NULL;
    gw_h2_session_left(session);
    if (client == NULL) {
        gw_h2_stream_free(stream);
    } else if (!stream->is_complete) {
        if (client->failure.detail == NULL)
            client->failure.detail = nghttp2_http2_strerror(code);
        gw_client_fail(client, error_of(stream, code));
    }
}

void gw_h2_on_lost(struct gw_h2_stream *stream)
{
    struct gw_h2_session *session = stream->session;
    struct gw_client *client = stream->client;
    enum gw_client_error error = session->error;
    stream->session = NULL;
    if (client == NULL) {
        gw_h2_stream_free(stream);
        return;
    }
    if (stream->is_complete)
        return;
    if (client->failure.detail == NULL)
        client->failure.detail = session->detail;
    if (stream->id == 0)
        error = gw_client_error_is_of_connect(error) ? error : GW_CLIENT_REFUSED;
    else if (stream->has_head)
        error = session->is_ended ? GW_CLIENT_TRUNCATED : GW_CLIENT_RESET;
    else
        error = stream->is_bad ? error_of(stream, 0) : GW_CLIENT_CLOSED_EARLY;
    gw_client_fail(client, error);
}

/* ---- the response ---- */

static bool is_wanted_in_head(h2o_iovec_t name) { return !h2o_memis(name.base, name.len, H2O_STRLIT("trailer")); }

static h2o_iovec_t find_trailer(const struct gw_h2_fields *fields)
{
    for (uint32_t i = 0; i != fields->num_fields; ++i)
        if (!is_wanted_in_head(h2o_iovec_init(fields->bytes + fields->at[i].name_at, fields->at[i].name_len)))
            return h2o_iovec_init(fields->bytes + fields->at[i].value_at, fields->at[i].value_len);
    return h2o_iovec_init(NULL, 0);
}

static bool has_no_body(const struct gw_h2_stream *stream)
{
    return stream->client->expects_head_only || stream->status == 204 || stream->status == 304;
}

static void deliver_head(struct gw_h2_stream *stream, bool body_follows)
{
    struct gw_client *client = stream->client;
    struct gw_response_head *head = &client->head;
    stream->has_head = true;
    head->status = stream->status;
    head->minor_version = 1;
    head->keep_alive = true;
    head->content_length = stream->content_length;
    if (!body_follows && !has_no_body(stream))
        head->content_length = 0;
    head->num_fields = gw_h2_fields_finish(&stream->head, client->fields, client->names, is_wanted_in_head);
    if (__builtin_expect(head->num_fields != stream->head.num_fields, 0))
        head->trailer = find_trailer(&stream->head);
    if (!gw_client_report_started(client))
        return;
    if (!body_follows) {
        complete(stream);
        (void)GW_CLIENT_CALL(client, on_head, head, false);
        return;
    }
    client->state = GW_CLIENT_RECEIVING;
    if (GW_CLIENT_CALL(client, on_head, head, true))
        gw_h2_touch(stream);
}

void gw_h2_on_interim(struct gw_h2_stream *stream)
{
    struct gw_client *client = stream->client;
    client->head.status = stream->status;
    client->head.num_fields = gw_h2_fields_finish(&stream->head, client->fields, client->names, is_wanted_in_head);
    (void)gw_client_report_interim(client);
}

void gw_h2_on_head(struct gw_h2_stream *stream, bool is_end)
{
    if (!is_end && has_no_body(stream))
        stream->head_waits_for_end = true; /* an empty DATA frame says it */
    else
        deliver_head(stream, !is_end);
}

/* Makes it the newest, or a part of that: a target that sends byte by byte must not make us hold fifty times as much.
 */
static h2o_iovec_t keep_block(struct gw_h2_stream *stream, struct gw_h2_block *block)
{
    struct gw_h2_block *newest = stream->oldest != NULL ? stream->newest : NULL;
    uint32_t len = block->len;
    if (newest != NULL && newest->capacity - newest->len >= len) {
        memcpy(newest->bytes + newest->len, block->bytes, len);
        newest->len += len;
        free(block);
        return h2o_iovec_init(newest->bytes + newest->len - len, len);
    }
    if (newest != NULL && len < GW_H2_BLOCK / 2) {
        block = h2o_mem_realloc(block, sizeof(*block) + GW_H2_BLOCK);
        block->capacity = GW_H2_BLOCK;
    }
    if (newest != NULL)
        newest->next = block;
    else
        stream->oldest = block;
    stream->newest = block;
    return h2o_iovec_init(block->bytes, len);
}

void gw_h2_on_data(struct gw_h2_stream *stream, bool is_end)
{
    struct gw_client *client = stream->client;
    struct gw_h2_block *block = stream->incoming;
    h2o_iovec_t bytes = {NULL, 0};
    stream->incoming = NULL;
    if (!stream->has_head) {
        free(block);
        if (is_end)
            deliver_head(stream, false);
        return;
    }
    if (block != NULL) {
        bytes = keep_block(stream, block);
        client->outstanding += bytes.len;
    }
    if (is_end)
        complete(stream);
    if ((bytes.len != 0 || is_end) && GW_CLIENT_CALL(client, on_body, bytes, is_end) && !is_end)
        gw_h2_touch(stream);
}

void gw_h2_on_trailers(struct gw_h2_stream *stream)
{
    struct gw_client *client = stream->client;
    stream->response_trailers.entries = stream->trailer_fields;
    stream->response_trailers.size =
        gw_h2_fields_finish(&stream->trailing, stream->trailer_fields, stream->trailer_names, gw_trailer_is_allowed);
    if (!stream->has_head) {
        deliver_head(stream, false);
        return;
    }
    complete(stream);
    (void)GW_CLIENT_CALL(client, on_body, h2o_iovec_init(NULL, 0), true);
}

static void widen(struct gw_h2_stream *stream, size_t bytes)
{
    enum { MORE = GW_H2_WIDE_WINDOW - GW_H2_STREAM_WINDOW };
    struct gw_h2_session *session = stream->session;
    stream->consumed += (uint32_t)bytes;
    if (stream->consumed < GW_H2_WIDE_WINDOW)
        return;
    stream->consumed = GW_H2_WIDE_WINDOW;
    if (session->windows + MORE > GW_H2_CONNECTION_WINDOW / 2)
        return;
    session->windows += MORE;
    stream->window = GW_H2_WIDE_WINDOW;
    nghttp2_session_set_local_window_size(session->ng, NGHTTP2_FLAG_NONE, stream->id, GW_H2_WIDE_WINDOW);
}

void gw_h2_client_consumed(struct gw_client *client, size_t bytes)
{
    struct gw_h2_stream *stream = client->h2;
    assert(bytes <= client->outstanding);
    client->outstanding -= bytes;
    for (size_t left = bytes; left != 0;) {
        struct gw_h2_block *block = stream->oldest;
        size_t n = block->len - block->consumed < left ? block->len - block->consumed : left;
        block->consumed += (uint32_t)n;
        left -= n;
        if (block->consumed != block->len)
            break;
        stream->oldest = block->next;
        free(block);
    }
    if (stream->session == NULL || client->state != GW_CLIENT_RECEIVING)
        return;
    nghttp2_session_consume_stream(stream->session->ng, stream->id, bytes);
    if (stream->window == GW_H2_STREAM_WINDOW)
        widen(stream, bytes);
    gw_h2_session_flush_later(stream->session);
    gw_h2_touch(stream);
}
