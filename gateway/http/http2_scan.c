/* Reading: the heads of frames are looked at before the library gets them. It tells nobody of frames that it ignores,
 * but they cost too; and it forgets streams as soon as they are over, while RFC 9113 5.1 wants frames for them to be
 * errors. */
#include "gateway/http/http2_conn.h"

enum { MAX_LENGTH = 16384 }; /* of a frame: SETTINGS_MAX_FRAME_SIZE is left at where it begins */

static bool is_among(const int32_t *ids, int32_t id)
{
    for (size_t i = 0; i != GW_HTTP2_ENDED; ++i)
        if (ids[i] == id)
            return true;
    return false;
}

void gw_http2_note_end(struct gw_http2_conn *conn, int32_t id, bool is_by_client)
{
    if (is_by_client)
        conn->ended[conn->num_ended++ % GW_HTTP2_ENDED] = id;
    else
        conn->cut[conn->num_cut++ % GW_HTTP2_ENDED] = id;
}

static bool is_over(struct gw_http2_conn *conn, int32_t id)
{
    return id <= nghttp2_session_get_last_proc_stream_id(conn->session) &&
           nghttp2_session_get_stream_user_data(conn->session, id) == NULL;
}

/* A client that knows its stream to be over has sent more on it. Where we ended it the frame may have been on its way;
 * once we have ended more streams than we remember nothing is sure. */
static bool check_ended(struct gw_http2_conn *conn, const nghttp2_frame_hd *head)
{
    if (conn->num_cut > GW_HTTP2_ENDED || is_among(conn->cut, head->stream_id))
        return true;
    bool was_open =
        head->type == NGHTTP2_DATA || conn->num_ended > GW_HTTP2_ENDED || is_among(conn->ended, head->stream_id);
    gw_http2_terminate(conn, was_open ? NGHTTP2_STREAM_CLOSED : NGHTTP2_PROTOCOL_ERROR); /* RFC 9113 5.1, 5.1.1 */
    return false;
}

static ssize_t pass(struct gw_http2_conn *conn, const uint8_t **from, const uint8_t *to)
{
    ssize_t rv = 0;
    if (*from != to && !conn->is_deaf)
        rv = nghttp2_session_mem_recv(conn->session, *from, (size_t)(to - *from));
    *from = to;
    return rv;
}

/* The library does not measure them. */
static bool check_length(struct gw_http2_conn *conn, const nghttp2_frame_hd *head)
{
    if (head->type != NGHTTP2_CONTINUATION || head->length <= MAX_LENGTH)
        return true;
    gw_http2_terminate(conn, NGHTTP2_FRAME_SIZE_ERROR); /* RFC 9113 4.2 */
    return false;
}

static void note_windows(struct gw_http2_conn *conn)
{
    conn->initial_window = nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    conn->widest_window = 0;
    for (h2o_linklist_t *node = conn->streams.next; node != &conn->streams; node = node->next) {
        int32_t id = H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, link, node)->id;
        int32_t window = nghttp2_session_get_stream_remote_window_size(conn->session, id);
        if (window > conn->widest_window)
            conn->widest_window = window;
    }
}

bool gw_http2_windows_overflow(const struct gw_http2_conn *conn, const nghttp2_settings *settings)
{
    for (size_t i = 0; i != settings->niv; ++i)
        if (settings->iv[i].settings_id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE &&
            (int64_t)conn->widest_window + settings->iv[i].value - conn->initial_window > INT32_MAX)
            return true;
    return false;
}

/* from: bytes before the head that the library has not got yet; NULL: it has got a part of the head already. */
static ssize_t take_head(struct gw_http2_conn *conn, const uint8_t *p, const uint8_t **from, const uint8_t *at)
{
    nghttp2_frame_hd head = {.length = (size_t)p[0] << 16 | p[1] << 8 | p[2], .type = p[3], .flags = p[4]};
    bool is_for_ended = false;
    ssize_t rv;

    head.stream_id = (int32_t)(((uint32_t)p[5] << 24 | p[6] << 16 | p[7] << 8 | p[8]) & INT32_MAX);
    conn->scan_skip = (uint32_t)head.length;
    if ((head.type == NGHTTP2_DATA || head.type == NGHTTP2_HEADERS) && head.stream_id != 0) {
        if (head.stream_id <= conn->scan_last) {
            if (from != NULL && (rv = pass(conn, from, at)) < 0) /* what becomes of the stream before this frame? */
                return rv;
            is_for_ended = is_over(conn, head.stream_id);
        } else if (head.type == NGHTTP2_HEADERS) {
            conn->scan_last = head.stream_id;
        }
    }
    if (head.type == NGHTTP2_PRIORITY && head.stream_id == 0) { /* RFC 9113 6.3; the library looks away */
        gw_http2_terminate(conn, NGHTTP2_PROTOCOL_ERROR);
        return NGHTTP2_ERR_PROTO;
    }
    if (head.type == NGHTTP2_SETTINGS) {
        if (from != NULL && (rv = pass(conn, from, at)) < 0)
            return rv;
        note_windows(conn);
    }
    if (gw_http2_charge_frame(conn, &head, is_for_ended) != 0)
        return NGHTTP2_ERR_FLOODED;
    if (!check_length(conn, &head))
        return NGHTTP2_ERR_FRAME_SIZE_ERROR;
    return is_for_ended && !check_ended(conn, &head) ? NGHTTP2_ERR_STREAM_CLOSED : 0;
}

/* Requests may each open a file, and 64 KiB of other frames are thousands: so the time is looked at now and then, and
 * what a turn has no time for is left. */
enum { SLICE_US = 60, PRESSED_SLICE_US = 20, WORTH_A_LOOK = 16, WORTH_OF_A_REQUEST = 8, WORTH_A_SLICE = 1024 };
struct slice {
    uint64_t began_us; /* 0: not looked yet */
    unsigned for_us;
    unsigned worth; /* of the frames since the last look */
};

static bool is_look_due(struct slice *slice, uint8_t type)
{
    slice->worth += type == NGHTTP2_HEADERS ? WORTH_OF_A_REQUEST : 1;
    if (slice->worth < WORTH_A_LOOK)
        return false;
    slice->worth = 0;
    return true;
}

static bool is_slice_over(struct slice *slice)
{
    uint64_t now_us = gw_now_us();
    if (slice->began_us == 0)
        slice->began_us = now_us;
    return now_us - slice->began_us >= slice->for_us;
}

ssize_t gw_http2_receive(struct gw_http2_conn *conn, const uint8_t *p, size_t len)
{
    const uint8_t *begin = p, *end = p + len, *from = p;
    bool is_pressed = gw_thread_is_pressed(conn->super.server->thread);
    struct slice slice = {.began_us = len >= WORTH_A_SLICE ? gw_now_us() : 0,
                          .for_us = is_pressed ? PRESSED_SLICE_US : SLICE_US};
    ssize_t rv;

    while ((size_t)(end - p) > conn->scan_skip) {
        p += conn->scan_skip;
        conn->scan_skip = 0;
        if (conn->scan_have == 0 && (size_t)(end - p) >= sizeof(conn->scan_head)) {
            if (is_look_due(&slice, p[3])) {
                if ((rv = pass(conn, &from, p)) < 0)
                    return rv;
                if (is_slice_over(&slice))
                    return p - begin;
            }
            if ((rv = take_head(conn, p, &from, p)) < 0)
                return rv;
            p += sizeof(conn->scan_head);
            continue;
        }
        while (p != end && conn->scan_have != sizeof(conn->scan_head))
            conn->scan_head[conn->scan_have++] = *p++;
        if (conn->scan_have != sizeof(conn->scan_head))
            break;
        conn->scan_have = 0;
        if ((rv = take_head(conn, conn->scan_head, NULL, NULL)) < 0)
            return rv;
    }
    conn->scan_skip -= (uint32_t)(end - p);
    return (rv = pass(conn, &from, end)) < 0 ? rv : (ssize_t)len;
}
