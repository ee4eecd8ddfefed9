/* Inside of an HTTP/1.x connection, shared by http1.c (life of the connection, heads, timers), http1_body.c (request
 * bodies) and http1_out.c (responses). Nothing else includes this. */
#pragma once
#include "gateway/http/chunked.h"
#include "gateway/http/patience.h"
#include "gateway/http/response.h"
#include "gateway/http/socket.h"
#include "gateway/http/stream.h"

/* Unread input beyond this stops reading: back-pressure reaches the client. */
enum { GW_HTTP1_READ_AHEAD = 65536 };

enum gw_http1_wait { /* what the receive timer waits for */
                     GW_WAIT_NOTHING,
                     GW_WAIT_HEAD,
                     GW_WAIT_IDLE,
                     GW_WAIT_BODY,
                     GW_WAIT_HALF_CLOSED,
                     GW_WAIT_LINGER,
};

struct gw_http1_body {
    struct gw_chunked chunked;
    uint64_t left;      /* of a Content-Length body: not yet taken from the socket */
    h2o_buffer_t *held; /* what on_body was given last */
    size_t unconsumed;  /* bytes of it not yet consumed */
    uint64_t discarded;
    struct gw_patience patience;
    bool wants_continue; /* the client waits for 100 Continue */
    bool is_last_delivered;
};

struct gw_http1_out {
    h2o_ostream_t final;    /* libh2o's end of the ostream chain */
    h2o_send_state_t state; /* cleared from here on for each request */
    bool is_chunked, has_no_body, must_close;
    bool ends_with_close;    /* HTTP/1.0, unknown length: the end of the connection is the end of the body */
    bool is_broken;          /* the response cannot be completed */
    bool is_writing;         /* a write waits for its callback */
    bool is_interim_writing; /* ... which is that of an interim response */
    bool is_stashed;         /* do_send came meanwhile: stash holds its buffers */
    bool is_ended;           /* of a tunnel: we have told the client that nothing more comes */
    h2o_iovec_t *stash;
    size_t stash_size;
    char chunk_size[20];
};

struct gw_http1_conn {
    struct gw_conn super;
    struct gw_timer timer; /* armed at or before the nearer of the two dues */
    uint64_t recv_due_ms, send_due_ms;
    uint64_t send_seen;
    unsigned send_stalls;
    uint64_t half_closed_seen; /* bytes sent when the client was last found to have shut down its side */
    uint64_t linger_until_ms;
    enum gw_http1_wait wait;
    h2o_buffer_t *head; /* bytes of the current request's head; NULL: they are in its pool */
    size_t head_seen;   /* bytes of input an unfinished head was already searched in */
    bool may_be_h2;     /* until the first bytes say what it is */
    bool is_bulky;      /* the last read brought much */
    bool in_request, is_discarding, is_lingering, is_draining, is_read_stopped, peer_eof;
    struct gw_deferred after_write, body_turn, read_turn;
    struct gw_http1_body body;
    struct gw_http1_out out;
    struct gw_stream stream;
};

/* http1.c */
void gw_http1_expect(struct gw_http1_conn *, enum gw_http1_wait, uint64_t within_ms);
void gw_http1_expect_sent(struct gw_http1_conn *);
void gw_http1_resume_read(struct gw_http1_conn *);
void gw_http1_on_read(h2o_socket_t *, const char *err);
void gw_http1_refuse(struct gw_http1_conn *, enum gw_head_result);
void gw_http1_close(struct gw_http1_conn *, enum gw_stream_end); /* frees it */
void gw_http1_end_request(struct gw_http1_conn *);
void gw_http1_discarded(struct gw_http1_conn *, bool is_complete);

/* http1_body.c */
extern const struct gw_stream_ops gw_http1_stream_ops;
void gw_http1_begin_body(struct gw_http1_conn *);
void gw_http1_on_body_input(struct gw_http1_conn *);
void gw_http1_discard_body(struct gw_http1_conn *);
void gw_http1_break_body(struct gw_http1_conn *, enum gw_stream_end);
void gw_http1_release_body(struct gw_http1_conn *);
void gw_http1_begin_tunnel(struct gw_http1_conn *);
void gw_http1_check_tunnel(struct gw_http1_conn *); /* ends it, at the end of the turn, when both sides have */
/* As far as the request body is concerned. is_refused: what is still to come of it nobody will read. */
bool gw_http1_may_keep_alive(const struct gw_http1_conn *, bool is_refused);

/* http1_out.c */
void gw_http1_init_out(struct gw_http1_conn *);
void gw_http1_send_interim(struct gw_http1_conn *, int status, const h2o_header_t *, size_t num_fields);
void gw_http1_abort(struct gw_http1_conn *);
