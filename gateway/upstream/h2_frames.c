/* What a target's frames mean. nghttp2 has checked them against RFC 9113, header rules included; here are the limits it
 * does not have, and what HTTP/1.1 clients must not be shown. */
#include <string.h>
#include "gateway/upstream/h2_session.h"

enum { MAX_LENGTH = 16384 }; /* of a frame: SETTINGS_MAX_FRAME_SIZE is left at where it begins */

static struct gw_h2_stream *stream_of(nghttp2_session *ng, int32_t id)
{
    return id == 0 ? NULL : nghttp2_session_get_stream_user_data(ng, id);
}

/* A client waits for it. */
static struct gw_h2_stream *live_stream_of(nghttp2_session *ng, int32_t id)
{
    struct gw_h2_stream *stream = stream_of(ng, id);
    return stream != NULL && stream->client != NULL ? stream : NULL;
}

static int refuse(struct gw_h2_stream *stream, const char *detail)
{
    stream->is_bad = true;
    if (stream->client->failure.detail == NULL)
        stream->client->failure.detail = detail;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
}

/* ---- field sections ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *data)
{
    struct gw_h2_stream *stream = live_stream_of(ng, frame->hd.stream_id);
    if (stream == NULL || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    gw_h2_touch(stream);
    stream->client->failure.any_response_byte = true;
    if (!stream->has_head && !stream->head_waits_for_end) {
        stream->head.size = stream->head.num_fields = 0;
        stream->status = 0;
        stream->content_length = UINT64_MAX;
    }
    return 0;
}

static int take_status(struct gw_h2_stream *stream, const uint8_t *value, size_t len)
{
    if (len != 3 || value[0] < '1' || value[0] > '5')
        return refuse(stream, "status is not 100 to 599");
    stream->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'); /* digits: nghttp2 has looked */
    return stream->status == 101 ? refuse(stream, "101 in HTTP/2") : 0;
}

static int take_length(struct gw_h2_stream *stream, const uint8_t *value, size_t len)
{
    uint64_t n = 0;
    if (len == 0 || len > 18)
        return refuse(stream, gw_head_problem(GW_HEAD_BAD_CONTENT_LENGTH));
    for (size_t i = 0; i != len; ++i) {
        if (value[i] < '0' || value[i] > '9')
            return refuse(stream, gw_head_problem(GW_HEAD_BAD_CONTENT_LENGTH));
        n = n * 10 + (value[i] - '0');
    }
    stream->content_length = n;
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *data)
{
    struct gw_h2_stream *stream = live_stream_of(ng, frame->hd.stream_id);
    bool is_trailing = stream != NULL && (stream->has_head || stream->head_waits_for_end);
    if (stream == NULL || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (name_len != 0 && name[0] == ':') {
        if (!is_trailing && h2o_memis(name, name_len, H2O_STRLIT(":status")))
            return take_status(stream, value, value_len);
        return refuse(stream, "unknown pseudo-header");
    }
    if (!gw_is_token(h2o_iovec_init(name, name_len)))
        return refuse(stream, gw_head_problem(GW_HEAD_BAD_FIELD_NAME));
    if (!gw_is_field_value(h2o_iovec_init(value, value_len)))
        return refuse(stream, gw_head_problem(GW_HEAD_BAD_FIELD_VALUE));
    if (!is_trailing && h2o_memis(name, name_len, H2O_STRLIT("content-length")))
        return take_length(stream, value, value_len);
    if (!gw_h2_fields_add(is_trailing ? &stream->trailing : &stream->head, (const char *)name, name_len,
                          (const char *)value, value_len)) {
        stream->is_too_large = true;
        return refuse(stream, is_trailing ? "trailers too large" : "response head too large");
    }
    return 0;
}

/* nghttp2 would leave it out and go on; HTTP/1.1 responses like that are refused too. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t value_len, uint8_t flags, void *data)
{
    struct gw_h2_stream *stream = live_stream_of(ng, frame->hd.stream_id);
    return stream == NULL ? 0 : refuse(stream, "malformed header field");
}

static void on_headers_end(struct gw_h2_stream *stream, bool is_end)
{
    struct gw_client *client = stream->client;
    if (stream->has_head || stream->head_waits_for_end) {
        gw_h2_on_trailers(stream);
        return;
    }
    if (stream->status < 200) {
        if (++client->num_interim > GW_CLIENT_MAX_INTERIM) {
            (void)refuse(stream, "too many interim responses");
            nghttp2_submit_rst_stream(stream->session->ng, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_PROTOCOL_ERROR);
        } else {
            gw_h2_on_interim(stream);
        }
        return;
    }
    gw_h2_on_head(stream, is_end);
}

/* ---- DATA ---- */

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len, void *data)
{
    struct gw_h2_session *session = data;
    struct gw_h2_stream *stream = live_stream_of(ng, id);
    nghttp2_session_consume_connection(ng, len);
    session->num_fidgets = session->fidget_bytes = 0;
    if (stream == NULL)
        return 0;
    gw_h2_touch(stream);
    struct gw_h2_block *block = stream->incoming;
    if (block == NULL || block->capacity - block->len < len) {
        uint32_t had = block != NULL ? block->len : 0;
        size_t capacity = had == 0 ? len : 2 * (had + len);
        block = stream->incoming = h2o_mem_realloc(block, sizeof(*block) + capacity);
        if (had == 0)
            *block = (struct gw_h2_block){NULL};
        block->capacity = (uint32_t)capacity;
    }
    memcpy(block->bytes + block->len, bytes, len);
    block->len += (uint32_t)len;
    return 0;
}

/* ---- the connection ---- */

static void take_settings(struct gw_h2_session *session)
{
    uint32_t max = nghttp2_session_get_remote_settings(session->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    session->max_streams = max < GW_H2_MAX_STREAMS ? max : GW_H2_MAX_STREAMS;
    if (session->state == GW_H2_GREETING) {
        gw_timer_disarm(&session->timer);
        session->state = GW_H2_OPEN;
        if (max == 0)
            gw_h2_session_fail(session, GW_CLIENT_NOT_HTTP2, "the target's SETTINGS allow no stream");
    }
}

/* RFC 9113 10.5: a peer that keeps us busy without saying anything. */
static void count_fidget(struct gw_h2_session *session)
{
    if (++session->num_fidgets > GW_H2_MAX_FIDGETS) {
        nghttp2_session_terminate_session(session->ng, NGHTTP2_ENHANCE_YOUR_CALM);
        gw_h2_session_fail(session, GW_CLIENT_CLOSED_EARLY, "too many control frames");
    }
}

static void note_windows(struct gw_h2_session *session)
{
    session->initial_window = nghttp2_session_get_remote_settings(session->ng, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    session->widest_window = 0;
    for (h2o_linklist_t *node = session->running.next; node != &session->running; node = node->next) {
        int32_t id = H2O_STRUCT_FROM_MEMBER(struct gw_h2_stream, link, node)->id;
        int32_t window = nghttp2_session_get_stream_remote_window_size(session->ng, id);
        if (window > session->widest_window)
            session->widest_window = window;
    }
}

/* RFC 9113 6.9.2: an error of the connection; the library resets the stream. */
static void check_windows(struct gw_h2_session *session, const nghttp2_settings *settings)
{
    for (size_t i = 0; i != settings->niv; ++i)
        if (settings->iv[i].settings_id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE &&
            (int64_t)session->widest_window + settings->iv[i].value - session->initial_window > INT32_MAX)
            nghttp2_session_terminate_session(session->ng, NGHTTP2_FLOW_CONTROL_ERROR);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *data)
{
    struct gw_h2_session *session = data;
    struct gw_h2_stream *stream = live_stream_of(ng, frame->hd.stream_id);
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        session->num_fidgets = session->fidget_bytes = 0;
        if (stream != NULL)
            on_headers_end(stream, is_end);
        return 0;
    case NGHTTP2_DATA:
        if (frame->hd.length == 0 && !is_end)
            count_fidget(session);
        if (stream != NULL)
            gw_h2_on_data(stream, is_end);
        return 0;
    case NGHTTP2_SETTINGS:
        check_windows(session, &frame->settings);
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
            take_settings(session);
        else
            gw_timer_disarm(&session->settings_timer);
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
            gw_h2_session_on_pong(session);
        break;
    case NGHTTP2_GOAWAY: /* streams above its last one are closed by nghttp2 as refused */
        gw_h2_session_retire(session);
        break;
    }
    count_fidget(session);
    return 0;
}

static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *head, void *data)
{
    struct gw_h2_session *session = data;
    if (head->type == NGHTTP2_SETTINGS)
        note_windows(session);
    else if (head->type == NGHTTP2_CONTINUATION && head->length > MAX_LENGTH) /* RFC 9113 4.2; the library takes it */
        nghttp2_session_terminate_session(ng, NGHTTP2_FRAME_SIZE_ERROR);
    return 0;
}

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *data)
{
    struct gw_h2_stream *stream = live_stream_of(ng, frame->hd.stream_id);
    if (stream != NULL) {
        stream->is_bad = true;
        if (stream->client->failure.detail == NULL)
            stream->client->failure.detail =
                frame->hd.type == NGHTTP2_DATA ? "body does not fit content-length" : nghttp2_strerror(error);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t error_code, void *data)
{
    struct gw_h2_stream *stream = stream_of(ng, id);
    if (stream != NULL)
        gw_h2_on_closed(stream, error_code);
    return 0;
}

/* A request that never left: its head is larger than nghttp2 sends, or the client went away first. */
static int on_frame_not_sent(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *data)
{
    struct gw_h2_stream *stream = stream_of(ng, frame->hd.stream_id);
    if (stream == NULL || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    nghttp2_session_set_stream_user_data(ng, frame->hd.stream_id, NULL);
    gw_h2_on_closed(stream, NGHTTP2_INTERNAL_ERROR);
    return 0;
}

nghttp2_session *gw_h2_frames_create(struct gw_h2_session *self)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *ng;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        h2o_fatal("no memory");
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_outbound_ack(option, 100);
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE); /* from a target: an error */
    nghttp2_option_set_max_send_header_block_length(option, GW_H2_MAX_REQUEST_HEAD);
    nghttp2_option_set_peer_max_concurrent_streams(option, GW_H2_MAX_STREAMS);
    if (nghttp2_session_client_new2(&ng, callbacks, self, option) != 0)
        h2o_fatal("no memory");
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return ng;
}
