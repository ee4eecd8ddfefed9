/* HTTP/2 connections to targets (RFC 9113) and the streams on them, on libnghttp2. A session belongs to the pool slot
 * of its endpoint until it may take no more requests; then it lives on until its last stream is gone. h2_session.c
 * moves bytes, h2_frames.c hears what they mean, h2_client.c is the client of client.h over a stream. Only for this
 * folder.
 *
 * A stream object lives from gw_client_start until both its client has let go of it and nghttp2 has closed it. nghttp2
 * is never called from its own callbacks except to submit frames; what must be sent goes out at the end of the turn. */
#pragma once
#include <nghttp2/nghttp2.h>
#include "gateway/upstream/client_state.h"

#define GW_H2_SESSION_MAGIC 0x77756832u

enum {
    /* What a stream may hold: opened as the caller consumes. A stream of which so much has been consumed gets the wide
     * one, while the windows of all its neighbours together take less than half of the connection's. */
    GW_H2_STREAM_WINDOW = 64 * 1024,
    GW_H2_WIDE_WINDOW = 256 * 1024,
    /* What a connection may hold. Its streams' windows never add up to more, one more request goes to another
     * connection: so it is opened at once, and nobody waits for somebody else's slow reader. */
    GW_H2_CONNECTION_WINDOW = 16 * 1024 * 1024,
    GW_H2_MAX_OUT = 64 * 1024, /* bytes gathered for one write */
    GW_H2_READ = 64 * 1024,    /* a turn */
    GW_H2_MAX_STREAMS = 1000,  /* on one connection, whatever the target allows */
    GW_H2_BLOCK = 4096,        /* frames below half of it share one while their reader is slow */
    GW_H2_MAX_FIDGET_BYTES = 512 * 1024,
    GW_H2_MAX_FIDGETS = 1000, /* control and empty frames in a row without any content */
    GW_H2_PING_MS = 5000,     /* how long the answer to a PING may take */
    /* Looks for the acknowledgement of our SETTINGS (RFC 9113 6.5.3), and how many may find other bytes alone. One that
     * finds none does not count: a target that is busy with its first request is judged by that one's timeouts. */
    GW_H2_SETTINGS_LOOK_MS = 10000,
    GW_H2_SETTINGS_LOOKS = 2,
    GW_H2_MAX_REQUEST_HEAD = 1 << 20,
};

enum gw_h2_state {
    GW_H2_CONNECTING,
    GW_H2_HANDSHAKING, /* TLS */
    GW_H2_GREETING, /* the target's SETTINGS are awaited: only then it is known to speak HTTP/2, and how much it takes
                     */
    GW_H2_OPEN,
    GW_H2_CLOSED,
};

struct gw_h2_session {
    uint32_t magic;
    uint8_t state;
    bool is_listed;  /* in its slot: takes requests */
    bool is_writing; /* the socket still holds bytes of out */
    bool is_inside;  /* nghttp2 is calling back */
    bool is_ended;   /* by the target, cleanly */
    bool is_doomed;  /* to be closed when it has returned */
    struct gw_counted counted;
    uint8_t idle_phase;         /* 0: in use; else idle, before, in and after the question whether anybody is there */
    h2o_linklist_t link;        /* in the slot's list */
    h2o_linklist_t link_of_all; /* in the pool's */
    uint64_t read_at_ms;        /* the target last said anything */
    struct gw_pool *pool;
    struct gw_pool_slot *slot;
    const struct gw_transport *transport; /* held */
    h2o_socket_t *sock;
    uint32_t tls_ms; /* how long its handshake may take */
    nghttp2_session *ng;
    h2o_linklist_t waiting; /* of gw_h2_stream: not yet submitted */
    h2o_linklist_t running; /* submitted, not yet closed by nghttp2 */
    uint32_t num_waiting, num_running;
    uint32_t max_streams; /* the target's SETTINGS */
    uint32_t num_requests;
    uint32_t windows;                   /* of the running streams together */
    uint32_t num_fidgets, fidget_bytes; /* frames, bytes since anything of use came or went */
    struct gw_pool_limits limits;       /* of the latest request */
    uint64_t connected_us;
    struct gw_timer timer;          /* connect, handshake, greeting; PING and the end when idle */
    struct gw_timer settings_timer; /* armed until the target has acknowledged our SETTINGS */
    uint64_t settings_look_ms;      /* the last look for that */
    unsigned settings_looks;        /* that found only other bytes */
    struct gw_deferred flush, read_turn;
    int32_t widest_window;   /* of what running streams may send, */
    uint32_t initial_window; /* and the target's setting for new ones, before the SETTINGS frame being read */
    /* why it ends, for its streams */
    enum gw_client_error error;
    const char *detail;
    int os_error;
    char *out; /* GW_H2_MAX_OUT and room for a frame; NULL while there is nothing to send */
    size_t out_len;
};

/* A field section as it arrives; bytes may move until it is complete. */
struct gw_h2_fields {
    char *bytes;
    size_t size, capacity;
    uint32_t num_fields;
    struct {
        uint32_t name_at, name_len, value_at, value_len;
    } at[GW_HEAD_MAX_FIELDS];
};
struct gw_h2_block { /* body bytes of a frame, or of some small ones, given to the caller: they do not move */
    struct gw_h2_block *next;
    uint32_t len, consumed, capacity;
    char bytes[];
};

struct gw_h2_stream {
    struct gw_client *client;      /* NULL: released, waits for nghttp2 */
    struct gw_h2_session *session; /* NULL: closed by nghttp2, or never begun */
    h2o_linklist_t link;           /* in session->waiting or ->running */
    int32_t id;                    /* 0: not submitted */
    const struct gw_endpoint *endpoint;
    struct gw_timer timer;
    uint64_t deadline_ms;
    uint64_t moved_ms;   /* when it was set last */
    bool begins_session; /* the session was made for it */
    bool is_reset;       /* by us */
    /* request */
    nghttp2_nv *fields; /* with their bytes behind them, until submitted. Owned */
    size_t num_fields;
    char *first; /* copy of the body at hand; owned */
    h2o_iovec_t piece;
    bool has_piece, piece_is_last;
    bool piece_is_first; /* it is the body that was at hand */
    bool has_next;       /* next comes behind it: the response began before it had left */
    bool next_is_last;
    h2o_iovec_t next;
    bool has_body;
    bool is_sent;                       /* END_STREAM is out */
    const struct gw_trailers *trailers; /* of the request; NULL: none */
    /* response */
    bool is_in_final_head, has_head, head_waits_for_end, is_complete;
    bool is_bad;       /* nghttp2 or we found fault with a frame: detail is set */
    bool is_too_large; /* namely with the size of a field section */
    int status;        /* of the field section under way */
    uint64_t content_length;
    struct gw_h2_fields head, trailing;
    h2o_header_t trailer_fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t trailer_names[GW_HEAD_MAX_FIELDS];
    struct gw_trailers response_trailers;
    struct gw_h2_block *incoming;        /* of the DATA frame under way */
    struct gw_h2_block *oldest, *newest; /* given out, not consumed */
    uint32_t window, consumed;           /* consumed: up to GW_H2_WIDE_WINDOW */
};

/* h2_session.c */
/* A session of the endpoint that takes one more request, or a new one. NULL: connecting failed at once (errno), or
 * (is_full) there may not be one more connection. is_reserved: a new one has been counted, with the request as pending.
 */
struct gw_h2_session *gw_h2_session_for(struct gw_pool *, const struct gw_endpoint *, const struct gw_transport *,
                                        const struct gw_client_timeouts *, const struct gw_pool_limits *,
                                        bool allow_reuse, bool is_reserved, bool *is_full);
/* One of the list that takes one more request, or NULL. */
struct gw_h2_session *gw_h2_session_with_room(const h2o_linklist_t *, uint32_t max_requests);
/* True: it was idle, and is gone. */
bool gw_h2_session_close_if_idle(struct gw_h2_session *);
void gw_h2_session_flush_later(struct gw_h2_session *);
/* Ends it with all its streams. From inside nghttp2's callbacks it happens when they have returned. */
void gw_h2_session_fail(struct gw_h2_session *, enum gw_client_error, const char *detail);
/* The answer to a PING. */
void gw_h2_session_on_pong(struct gw_h2_session *);
/* No more requests: closed when its last stream is gone. */
void gw_h2_session_retire(struct gw_h2_session *);
/* A stream has left its lists. */
void gw_h2_session_left(struct gw_h2_session *);
static inline struct gw_h2_session *gw_h2_session_of(h2o_socket_t *sock)
{
    struct gw_h2_session *self = sock->data;
    assert(self->magic == GW_H2_SESSION_MAGIC);
    return self;
}

/* h2_frames.c */
nghttp2_session *gw_h2_frames_create(struct gw_h2_session *);

/* h2_head.c */
/* Fields of a request as nghttp2 wants them; one allocation. */
nghttp2_nv *gw_h2_request_fields(const struct gw_client_request *, bool is_tls, size_t *num_fields);
/* Takes a field of a response; false: too many or too large. */
bool gw_h2_fields_add(struct gw_h2_fields *, const char *name, size_t name_len, const char *value, size_t value_len);
/* Makes libh2o's fields of it, leaving out those that is_wanted refuses. Returns their number. */
size_t gw_h2_fields_finish(const struct gw_h2_fields *, h2o_header_t *fields, h2o_iovec_t *names,
                           bool (*is_wanted)(h2o_iovec_t name));

/* h2_client.c */
struct gw_client *gw_h2_client_start(struct gw_client *, const struct gw_endpoint *, const struct gw_client_request *,
                                     bool allow_reuse);
void gw_h2_client_write(struct gw_client *, h2o_iovec_t bytes, bool is_last);
void gw_h2_client_consumed(struct gw_client *, size_t bytes);
void gw_h2_client_detach(struct gw_client *);  /* no more callbacks; resets the stream if it is not over */
void gw_h2_client_release(struct gw_client *); /* all but the struct itself */
/* Waits for its turn there. NULL: connecting failed at once, or is_full. */
void gw_h2_stream_enter(struct gw_h2_stream *, struct gw_h2_session *, bool is_full);
bool gw_h2_submit(struct gw_h2_stream *);
/* What frames bring about. Each may end the client. */
void gw_h2_on_interim(struct gw_h2_stream *);
void gw_h2_on_head(struct gw_h2_stream *, bool is_end);
void gw_h2_on_data(struct gw_h2_stream *, bool is_end);
void gw_h2_on_trailers(struct gw_h2_stream *);
void gw_h2_on_closed(struct gw_h2_stream *, uint32_t error_code); /* by nghttp2 */
void gw_h2_on_lost(struct gw_h2_stream *);                        /* with its session, which says why */
void gw_h2_touch(struct gw_h2_stream *);                          /* bytes moved: new deadline */
void gw_h2_stream_free(struct gw_h2_stream *);

/* pool.c */
h2o_linklist_t *gw_pool_sessions(struct gw_pool *, const struct gw_endpoint *, const struct gw_transport *,
                                 struct gw_pool_slot **);
struct tls_origin_session *gw_pool_tls_session(struct gw_pool_slot *);
h2o_linklist_t *gw_pool_all_sessions(struct gw_pool *);
