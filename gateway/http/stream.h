/* One request and its response on a client connection, whatever the protocol: what connections (http1.c, http2.c) give
 * to the pipeline. A stream lives on one thread and inside its connection; it holds libh2o's request object, whose
 * response side (generators, ostreams, filters) it uses as is.
 *
 * Life: on_request (the head is complete) -> the pipeline answers with h2o_start_response / h2o_send, takes the body
 * with gw_stream_start_body -> on_done (log, count) -> the request's pool is cleared. If the client goes away before,
 * the generator's stop() is called first, then on_done. */
#pragma once
#include "gateway/base/ip.h"
#include "gateway/base/metrics.h"
#include "gateway/base/thread.h"
#include "gateway/http/head.h"
#include "gateway/http/http2_budget.h"
#include "gateway/http/peer.h"
#include "gateway/http/trailers.h"

struct gw_stream;
struct gw_conn;

/* How the exchange with the client ended. */
enum gw_stream_end {
    GW_END_COMPLETE,
    GW_END_CLIENT_GONE,  /* closed or reset before the response was out */
    GW_END_BODY_TIMEOUT, /* the request body stopped coming */
    GW_END_BODY_BAD,     /* chunked framing broken */
    GW_END_TRAILERS_TOO_LARGE,
    GW_END_SEND_TIMEOUT,     /* the client stopped reading */
    GW_END_DRAIN,            /* shutdown_timeout passed */
    GW_END_SETTINGS_TIMEOUT, /* HTTP/2: the client did not acknowledge our SETTINGS */
    GW_END_TUNNEL_IDLE,      /* nothing moved in a tunnel for too long; set by whoever aborts it for that */
    GW_END_ABORTED,          /* our side broke the response off (truncated upstream) */
    GW_END_FLOOD, /* HTTP/2: the first of GW_HTTP2_NUM_BUDGETS values, one for each budget that may be spent */
};

struct gw_stream_ops {
    void (*start_body)(struct gw_stream *);
    void (*consumed)(struct gw_stream *, size_t bytes);
    void (*abort)(struct gw_stream *);
    void (*send_interim)(struct gw_stream *, int status, const h2o_header_t *, size_t num_fields);
    size_t (*room)(struct gw_stream *); /* NULL: plenty */
};

struct gw_stream {
    h2o_req_t req; /* pool: everything of the request lives there */
    struct gw_conn *conn;
    const struct gw_stream_ops *ops;
    struct gw_request_head head; /* fields and names in req.pool; bytes belong to the stream */
    bool has_body;               /* bytes may follow the head */
    bool body_complete;          /* the last one has been received */
    bool body_started;
    bool is_head_request;  /* no body in the response */
    bool response_started; /* the response head is on its way */
    bool close_after;      /* set before the response starts: no keep-alive after it */
    bool closes_target;    /* the target's connection serves no further request either (desync.h) */
    /* The protocol that the client wants to switch to: the token of Upgrade (HTTP/1.1, RFC 9110 7.8) or `:protocol` of
     * an extended CONNECT (RFC 8441 5); base NULL: none. Whoever agrees sets is_tunnel before the response starts and
     * answers 101 (HTTP/2 makes 200 of it): from then on the body is the tunnel's bytes, both ways and without framing.
     * on_body's is_last is the client's half-close, H2O_SEND_STATE_FINAL ours; the stream ends when both have come. */
    h2o_iovec_t upgrade;
    bool is_tunnel;
    /* A call, whose body says little for long (HTTP/2, of unknown length): how long it may be silent if that is more
     * than body_timeout, at any rate; once the response has begun for ever. Set before the body starts; 0: no call. */
    uint64_t silence_ms;
    /* Trailers, in the stream's pool. The request's hold only what may be passed on, and are complete when on_body has
     * said is_last. The response's are set before H2O_SEND_STATE_FINAL and left out where they have no place: bodies
     * framed by a length or the connection's end, clients of HTTP/1.1 without `TE: trailers`. announced: value of the
     * response's Trailer field, set before it starts, base NULL: none. */
    struct gw_trailers request_trailers, response_trailers;
    h2o_iovec_t announced_trailers;
    enum gw_stream_end end;
    /* set by whoever calls gw_stream_start_body; bytes stay valid until gw_stream_consumed has been told of all of them
     */
    void (*on_body)(void *data, h2o_iovec_t bytes, bool is_last);
    void *on_body_data;
    uint64_t started_us;                              /* CLOCK_MONOTONIC at the end of the head */
    uint64_t head_bytes_in, body_bytes_in, bytes_out; /* wire bytes of head, payload bytes of body, wire bytes out */
    uint64_t head_bytes_out;                          /* of bytes_out; set when the response starts */
    h2o_iovec_t refused_bytes;                        /* see on_bad_head */
    void *user;                                       /* the pipeline's */
};

/* The pipeline wants the request body: `100 Continue` goes out if the client waits for it, then on_body runs for each
 * piece, never from inside this call or gw_stream_consumed. A stream without body gets one empty last piece. */
static inline void gw_stream_start_body(struct gw_stream *stream, void (*on_body)(void *, h2o_iovec_t, bool),
                                        void *data)
{
    stream->on_body = on_body;
    stream->on_body_data = data;
    stream->ops->start_body(stream);
}
static inline void gw_stream_consumed(struct gw_stream *stream, size_t bytes) { stream->ops->consumed(stream, bytes); }
static inline struct gw_stream *gw_stream_from_req(h2o_req_t *req)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_stream, req, req);
}

/* A client connection. */
struct gw_server;
struct gw_conn {
    h2o_conn_t super;
    struct gw_server *server;
    const struct gw_conn_ops *ops;
    h2o_socket_t *sock;
    h2o_linklist_t link; /* in server->conns */
    void *listener;      /* the gateway's per-thread listener */
    struct gw_ip peer_ip;
    uint16_t peer_port, local_port;
    bool is_tls;
    const char *server_name;    /* SNI, as long as the socket lives; NULL: plain or none was sent */
    char peer_text[GW_IP_TEXT]; /* canonical text of peer_ip; "unix" for unix sockets */
    uint8_t peer_text_len;
    bool is_counted;             /* struct gw_peer */
    struct gw_peer_facts *facts; /* owned; NULL: neither a PROXY header nor a client certificate came */
    uint64_t num_requests;
    uint64_t began_ms; /* loop time */
    struct gw_usage usage;
};
struct gw_conn_ops {
    void (*drain)(struct gw_conn *);                     /* no further requests: idle ones close after a grace period */
    void (*close)(struct gw_conn *, enum gw_stream_end); /* at once */
    /* Shows every request under way; NULL: it has none, only bytes. What is shown must not end inside. */
    void (*each_stream)(struct gw_conn *, void (*see)(struct gw_stream *, void *data), void *data);
};

/* At a read event: true when what has come is to be read later, by read_turn, because the turn has no time or the
 * connection uses much, or is_bulky: always brings much. Behind the others come those, and who is new: a flood of
 * connections is one of newcomers. */
static inline bool gw_conn_must_wait(struct gw_conn *conn, struct gw_deferred *read_turn, bool is_bulky);
/* What follows is done for this connection. At the begin of what its deferred work does. */
static inline void gw_conn_charge(struct gw_conn *conn);
/* Work of this connection: later in the turn, or behind others if it uses much. */
static inline void gw_conn_defer(struct gw_conn *conn, struct gw_deferred *);

struct gw_http2_settings {
    uint32_t max_streams;                       /* at a time, per connection */
    uint32_t stream_window, connection_window;  /* bytes of bodies that may wait for us */
    uint64_t ping_interval_ms, ping_timeout_ms; /* connections in use that are quiet: 0 = no pings */
    uint64_t settings_timeout_ms;               /* until the client has acknowledged ours; 0 = any */
    uint32_t budgets[GW_HTTP2_NUM_BUDGETS];
};

struct gw_http_settings {
    struct gw_head_limits limits;
    uint64_t header_timeout_ms, idle_timeout_ms, body_timeout_ms, send_timeout_ms, handshake_timeout_ms;
    uint64_t min_body_rate, min_send_rate; /* bytes a second; 0 = any */
    uint64_t max_requests;                 /* per connection; 0 = unlimited */
    uint64_t max_age_ms;                   /* of a connection that takes further requests; 0 = unlimited */
    struct gw_http2_settings http2;
};

/* Where heads are parsed before it is known what becomes of them. */
struct gw_head_scratch {
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
};

/* The serving side of one thread: all its client connections share it. */
struct gw_server {
    struct gw_thread *thread;
    struct gw_http_settings settings; /* loop: replaced in place by a reload */
    h2o_hostconf_t **hosts;           /* libh2o's one static host */
    h2o_linklist_t conns;             /* loop: of gw_conn */
    size_t num_conns;                 /* loop */
    bool is_draining;                 /* loop */
    /* A complete, valid head. Must answer, now or later. */
    void (*on_request)(struct gw_stream *);
    /* A head that is refused: answer with the status of the result, the connection then closes. The head is unset (base
     * NULL), refused_bytes hold it, as far as it came and as long as the call. GW_HEAD_INCOMPLETE stands for the header
     * timeout (408). */
    void (*on_bad_head)(struct gw_stream *, enum gw_head_result);
    /* The request is over (stream->end); its pool is still there. Called once for each on_request / on_bad_head. */
    void (*on_done)(struct gw_stream *);
    /* The request body broke (stream->end says how) before the response started: answer it; the connection then closes.
     * The response may not have been started before; whoever waits for the body must let go of it. */
    void (*on_bad_body)(struct gw_stream *);
    struct {
        gw_counter accepted, requests, closed_idle, header_timeouts, bytes_in, bytes_out;
        gw_counter desync[GW_DESYNC_SEVERE];           /* HTTP/1 requests, by class but for compliant ones */
        gw_counter http2_floods[GW_HTTP2_NUM_BUDGETS]; /* connections that were closed for it */
        gw_counter http2_settings_timeouts;            /* the same */
    } stats;
    /* A connection is about to be freed (caps, gauges); may be NULL. */
    void (*on_conn_closed)(struct gw_conn *);
    struct gw_head_scratch *scratch;                   /* loop */
    struct gw_usage_table *addresses;                  /* loop: what the addresses of clients have used */
    uint64_t http2_warn_ms;                            /* loop: no warning about floods before */
    struct gw_http2_gather *spare_gather;              /* loop: of http2_out.c */
    struct nghttp2_session_callbacks *http2_callbacks; /* frozen */
    struct nghttp2_option *http2_option;               /* frozen */
    time_t date_second;                                /* loop: of date */
    char date[32];
};
void gw_server_init(struct gw_server *, struct gw_thread *, h2o_hostconf_t **hosts);

/* The parts that every protocol shares. init fills a connection that is all zero and puts it on the server's list;
 * dispose takes it off and tells on_conn_closed. The socket is closed by the protocol, between or after. */
void gw_conn_init(struct gw_conn *, struct gw_server *, h2o_socket_t *, const struct gw_peer *);
void gw_conn_dispose(struct gw_conn *);
/* Every request under way, of all connections. Those that are shown must not end inside. */
void gw_conn_each_stream(struct gw_server *, void (*see)(struct gw_stream *, void *data), void *data);
/* For Unix sockets and tests: the peer is who the socket says. */
void gw_peer_of_socket(struct gw_peer *, h2o_socket_t *, void *listener, uint16_t local_port);

/* Takes an accepted socket (TLS handshake already done) and serves HTTP/1.x on it. What is in its input is the first
 * thing that is read. */
void gw_http1_serve(struct gw_server *, h2o_socket_t *, const struct gw_peer *, bool allow_h2);

/* The same for HTTP/2 (RFC 9113), to clients that negotiated it by ALPN or, plain, begin with its preface. */
void gw_http2_serve(struct gw_server *, h2o_socket_t *, const struct gw_peer *);
/* Takes the socket, and the place among the server's connections, of a connection that turned out to speak HTTP/2. What
 * has been read is in the socket's input. The caller frees what is left of the old one. */
void gw_http2_adopt(struct gw_conn *from);

/* How many bytes of a body would leave now: what is made beyond that waits in memory for the client to open a window.
 * SIZE_MAX where no window holds it. */
static inline size_t gw_stream_room(struct gw_stream *stream)
{
    return stream->ops->room != NULL ? stream->ops->room(stream) : SIZE_MAX;
}

/* Ends a stream whose response cannot be completed (HTTP/1: with its connection): what is out stays truncated. */
static inline void gw_stream_abort(struct gw_stream *stream) { stream->ops->abort(stream); }

/* An interim response (RFC 9110 15.2; not 101), any number of them before the response starts. Everything is copied.
 * Left out for clients of HTTP/1.0 and for those who do not read the one before. */
static inline void gw_stream_send_interim(struct gw_stream *stream, int status, const h2o_header_t *fields,
                                          size_t num_fields)
{
    stream->ops->send_interim(stream, status, fields, num_fields);
}

/* The text of the Date field for now; valid until the next turn. 29 bytes. */
const char *gw_server_date(struct gw_server *);

static inline bool gw_conn_must_wait(struct gw_conn *conn, struct gw_deferred *read_turn, bool is_bulky)
{
    struct gw_thread *thread = conn->server->thread;
    if (!is_bulky && gw_thread_may_serve(thread, &conn->usage))
        return false;
    if (is_bulky || conn->num_requests == 0)
        gw_thread_defer_behind(thread, read_turn);
    else
        gw_thread_defer_for(thread, &conn->usage, read_turn);
    return true;
}

static inline void gw_conn_charge(struct gw_conn *conn) { gw_thread_charge(conn->server->thread, &conn->usage); }

static inline void gw_conn_defer(struct gw_conn *conn, struct gw_deferred *deferred)
{
    gw_thread_defer_for(conn->server->thread, &conn->usage, deferred);
}
