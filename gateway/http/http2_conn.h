/* Inside of an HTTP/2 connection, shared by http2.c (its life, reading, timers), http2_in.c (frames become requests and
 * bodies) and http2_out.c (responses become frames and writes). Nothing else includes this.
 *
 * libnghttp2 does framing, HPACK, flow control and the order of writing. Its rules: its receiving and its sending entry
 * point are never called from inside a callback of it; everything else may be. So answers that come while bytes are
 * read are only submitted, and written once at the end of the turn. */
#pragma once
#include <nghttp2/nghttp2.h>
#include "gateway/http/http2_head.h"
#include "gateway/http/patience.h"
#include "gateway/http/socket.h"
#include "gateway/http/stream.h"

struct gw_http2_conn;

struct gw_http2_body {
    h2o_buffer_t *waiting; /* received, not yet given to on_body */
    h2o_buffer_t *held;    /* what on_body was given last */
    size_t unconsumed;     /* bytes of it */
    uint64_t left;         /* that Content-Length promises; UINT64_MAX: none was given */
    bool is_ended;         /* END_STREAM or RST_STREAM was seen */
    bool is_last_delivered;
    bool is_unwanted; /* nobody will take it: what comes is dropped */
    bool wants_continue;
    uint64_t due_ms; /* when it must have moved on; UINT64_MAX: we are not waiting */
    struct gw_patience patience;
};

struct gw_http2_out {
    h2o_ostream_t final;
    h2o_iovec_t *bufs; /* of the last h2o_send, in the pool or the caller's */
    size_t num_bufs, capacity, buf_at;
    size_t left; /* bytes of bufs that no frame has taken yet */
    h2o_send_state_t state;
    bool has_data;             /* DATA frames come behind the head */
    bool is_deferred;          /* libnghttp2 waits for more */
    bool is_sending;           /* h2o_send came, and proceed has not been called for it: not before more is wanted */
    bool is_end_sent;          /* END_STREAM is in a frame */
    bool is_malformed;         /* RFC 9113 8.1.1: the answer is a RST_STREAM */
    bool is_held, is_let_go;   /* its window leaves so little that it waits for more; it has waited long enough */
    bool is_squeezed;          /* the frame being sent is as small as it is because of the window */
    uint16_t offered;          /* the most that libnghttp2 has offered a frame of it, at most 16384 */
    uint64_t due_ms;           /* when the client must have taken something; UINT64_MAX: nothing waits */
    uint64_t moved;            /* payload bytes since due_ms was set */
    uint64_t seen_payload_out; /* of the connection, at that time */
};

struct gw_http2_stream {
    struct gw_stream super;
    struct gw_http2_conn *conn;
    int32_t id;
    bool is_dispatched;     /* the pipeline knows of it */
    bool is_closed;         /* libnghttp2 has forgotten it */
    bool is_in_write;       /* the write in progress refers to its memory: it must stay until then */
    bool is_over;           /* ... and then it ends */
    h2o_linklist_t link;    /* in conn->streams */
    h2o_linklist_t touched; /* in conn->touched */
    h2o_linklist_t hungry;  /* in conn->hungry */
    struct gw_deferred body_turn;
    struct gw_http2_head head; /* the section being read */
    struct gw_http2_body body;
    struct gw_http2_out out;
};

/* What one write gathers: frames are copied into bytes, large payloads are referred to. */
enum { GW_HTTP2_GATHER = 64 * 1024, GW_HTTP2_MAX_VECS = 64 };
struct gw_http2_gather {
    char *bytes; /* one block; kept while a write that refers to it waits */
    size_t used, total, num_vecs;
    h2o_iovec_t vecs[GW_HTTP2_MAX_VECS];
};

enum { GW_HTTP2_ENDED = 32 };
struct gw_http2_conn {
    struct gw_conn super;
    nghttp2_session *session;
    struct gw_timer timer; /* armed at or before the nearest due */
    uint64_t idle_due_ms, head_due_ms, send_due_ms, ping_due_ms, age_due_ms, drain_due_ms, end_due_ms, held_due_ms;
    uint64_t settings_due_ms; /* next look whether the client has acknowledged our SETTINGS; UINT64_MAX: it has */
    unsigned settings_looks;  /* that it had not */
    unsigned num_held;        /* streams whose out.is_held */
    uint64_t send_seen;
    unsigned send_stalls;
    uint64_t read_ms, pinged_ms; /* when the last bytes came; when we asked for some */
    size_t lingered;             /* bytes dropped after our last words */
    h2o_linklist_t streams;      /* of gw_http2_stream */
    size_t num_streams;
    h2o_linklist_t touched; /* streams with something to do when the write is done */
    h2o_linklist_t hungry;  /* streams that windows let send more than there is: their senders are asked for it */
    struct gw_deferred flush_turn, read_turn;
    struct gw_deferred end_turn; /* ends some of the streams, when all end, until none is left */
    enum gw_stream_end ends_as;  /* how they end; GW_END_COMPLETE: not all of them do */
    h2o_buffer_t *unread; /* bytes that a turn had no time for, from unread_at on; NULL: none. No more is read then */
    size_t unread_at;
    struct gw_http2_gather *writing; /* being gathered, or referred to by the write in progress */
    uint64_t payload_out;            /* bytes written */
    int32_t head_id;                 /* the stream whose field section is being read; 0: none */
    bool is_writing, is_read_stopped, is_lingering, is_draining, is_broken, is_deaf, is_ping_out, is_new, peer_eof;
    bool is_closing;           /* nothing is read or written any more; it is freed when its streams have ended */
    bool is_bulky;             /* what was read last is more than fits into a turn */
    bool is_written;           /* a write is done, and those whose bytes it held do not know yet */
    bool is_flooded, has_data; /* a budget is spent: flood; the DATA frame being read carried something */
    enum gw_http2_budget flood;
    uint32_t continuations; /* of the field section being read */
    uint32_t scan_skip;     /* bytes until the next frame's head */
    uint8_t scan_have;      /* bytes of it in scan_head */
    uint8_t scan_head[9];
    int32_t scan_last;                                  /* the last stream a HEADERS frame was for */
    int32_t ended[GW_HTTP2_ENDED], cut[GW_HTTP2_ENDED]; /* streams that the client ended; that we did before */
    uint32_t num_ended, num_cut;
    struct gw_http2_bucket buckets[GW_HTTP2_NUM_BUDGETS];
    int32_t widest_window;   /* of all streams, */
    uint32_t initial_window; /* and the client's setting for new ones, before the SETTINGS frame being read */
    int32_t updated[8];      /* idle streams that a PRIORITY_UPDATE was for: stands above the field (RFC 9218 7) */
    unsigned updated_at;
};

static inline struct gw_http2_stream *gw_http2_stream_from(struct gw_stream *stream)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_http2_stream, super, stream);
}

/* A call, whose client may have nothing to say for long. */
bool gw_http2_is_grpc(const struct gw_http2_stream *);
/* Of a tunnel, whose halves end each by itself: ours has, the client's not, or its last bytes are not yet taken. */
static inline bool gw_http2_is_half_open(const struct gw_http2_stream *stream)
{
    return stream->super.is_tunnel && !stream->body.is_unwanted &&
           !(stream->body.is_last_delivered && stream->body.unconsumed == 0);
}

/* http2.c */
void gw_http2_arm(struct gw_http2_conn *, uint64_t due_ms);
void gw_http2_expect_sent(struct gw_http2_conn *);
/* Ends its streams and frees it, at once or in one of the next turns. The caller does not touch it any more. */
void gw_http2_close(struct gw_http2_conn *, enum gw_stream_end);
/* All streams, some of them now and the others in the next turns. Not while a write refers to their bytes. */
void gw_http2_end_in_turns(struct gw_http2_conn *, enum gw_stream_end);
void gw_http2_on_read(h2o_socket_t *, const char *err);
void gw_http2_resume_read(struct gw_http2_conn *);
void gw_http2_became_busy(struct gw_http2_conn *);
void gw_http2_became_idle(struct gw_http2_conn *);
void gw_http2_drain(struct gw_http2_conn *);
/* All is written: waits for the client to close. */
void gw_http2_linger(struct gw_http2_conn *);
/* No further frames are read: GOAWAY, then the end. Fine inside callbacks. */
void gw_http2_terminate(struct gw_http2_conn *, uint32_t error_code);

/* http2_budget.c: what charges returns 0, or what makes the library stop reading: the budget is spent then */
int gw_http2_spend(struct gw_http2_conn *, enum gw_http2_budget);
int gw_http2_charge_frame(struct gw_http2_conn *, const nghttp2_frame_hd *, bool is_for_ended); /* its head has come */
int gw_http2_charge_data(struct gw_http2_conn *, const nghttp2_frame *); /* a DATA frame has come */
int gw_http2_charge_fields(struct gw_http2_conn *, const struct gw_http2_head *);
int gw_http2_flooded(struct gw_http2_conn *, enum gw_http2_budget);
void gw_http2_earn_by_data(struct gw_http2_conn *, size_t bytes, bool is_squeezed); /* of a DATA frame that we sent */
void gw_http2_earn_by_request(struct gw_http2_conn *);                              /* a response is complete */
void gw_http2_tell_flood(struct gw_http2_conn *);

/* http2_scan.c */
/* Bytes of the connection: how many of them were taken, fewer when they would take a turn too long. Negative: an error
 * of the library, or of ours; the connection is to be ended. */
ssize_t gw_http2_receive(struct gw_http2_conn *, const uint8_t *, size_t len);
/* A SETTINGS frame has lifted the window of a stream above 2^31-1, where the library resets only that stream. */
bool gw_http2_windows_overflow(const struct gw_http2_conn *, const nghttp2_settings *);
/* A stream is over; is_by_client: it has said so with END_STREAM or RST_STREAM. */
void gw_http2_note_end(struct gw_http2_conn *, int32_t id, bool is_by_client);

/* http2_in.c */
/* Ends all streams for what the connection has done, such as a budget that it spent; there is a line in the log even if
 * there were none. Not while a write refers to their bytes. */
void gw_http2_end_misbehaved(struct gw_http2_conn *, enum gw_stream_end);
extern const struct gw_stream_ops gw_http2_stream_ops;
void gw_http2_set_in_callbacks(nghttp2_session_callbacks *);
/* A field section that is not to be served: it gets an answer and a line in the log. */
void gw_http2_refuse(struct gw_http2_stream *, enum gw_head_result);
/* Its request is over: on_done, and its memory is freed. The library may still know the stream. */
void gw_http2_end_stream(struct gw_http2_stream *, enum gw_stream_end);
/* Ends it with RST_STREAM, at once or when the write in progress lets go of it. */
void gw_http2_reset_stream(struct gw_http2_stream *, uint32_t error_code, enum gw_stream_end);
/* For callers further up the stack: RST_STREAM now, the end of the request when it is written. */
void gw_http2_abort(struct gw_http2_stream *, uint32_t error_code);
void gw_http2_break_body(struct gw_http2_stream *, enum gw_stream_end);

/* http2_out.c */
void gw_http2_set_out_callbacks(nghttp2_session_callbacks *);
/* Both sides have said their last. Not while the stream is in a write. */
void gw_http2_finish(struct gw_http2_stream *);
void gw_http2_init_out(struct gw_http2_stream *);
void gw_http2_send_interim(struct gw_http2_stream *, int status, const h2o_header_t *, size_t num_fields);
void gw_http2_flush_soon(struct gw_http2_conn *);
void gw_http2_flush(struct gw_http2_conn *);
size_t gw_http2_room(struct gw_stream *);
bool gw_http2_is_stuck(struct gw_http2_stream *); /* its out.due_ms has come */
void gw_http2_drop_write(struct gw_http2_conn *); /* the connection ends */
/* Windows may have grown, of stream id or of all (0), or held_due_ms has come (is_due): what was held goes on. */
void gw_http2_release_held(struct gw_http2_conn *, int32_t id, bool is_due);
void gw_http2_unhold(struct gw_http2_stream *); /* the stream ends */
