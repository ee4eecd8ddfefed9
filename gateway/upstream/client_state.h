/* Inside of a gw_client, shared by client.c (connecting and sending), response.c (receiving) and request.c (the head's
 * bytes). Only for this folder. */
#pragma once
#include "gateway/upstream/client.h"
#include "gateway/http/chunked.h"
#include "gateway/upstream/connection.h"

#define GW_CLIENT_MAGIC 0x77756331u

enum {
    GW_CLIENT_MAX_HEAD = 64 * 1024,        /* of a response */
    GW_CLIENT_MAX_INTERIM = 32,            /* 1xx responses before the final one */
    GW_CLIENT_MAX_OUTSTANDING = 64 * 1024, /* unconsumed bytes above which reading pauses */
    GW_CLIENT_MAX_BUFFERS = 16,            /* unconsumed buffers at which reading pauses, however little they hold */
    GW_CLIENT_HEAD_READ = 8 * 1024,        /* one buffer of libh2o's */
    GW_CLIENT_BODY_READ = 64 * 1024,
    GW_CLIENT_THRIFTY_READ = 16 * 1024,
    GW_CLIENT_BROKEN_WRITE_MS = 1000, /* how long a response may take that was sent before our write failed */
};

enum gw_client_state {
    GW_CLIENT_CONNECTING,
    GW_CLIENT_HANDSHAKING, /* TLS */
    GW_CLIENT_WAITING,     /* for the final response head */
    GW_CLIENT_RECEIVING,   /* the body */
    GW_CLIENT_ENDED,       /* complete or failed: no connection, no more callbacks */
};
enum gw_client_framing { GW_FRAMED_BY_LENGTH, GW_FRAMED_BY_CHUNKS, GW_FRAMED_BY_CLOSE };
enum {
    GW_DEFER_STARTED = 1,
    GW_DEFER_DRAINED = 2,
    GW_DEFER_CONNECT_FAILED = 4,
    GW_DEFER_NO_UPGRADE = 8,
    GW_DEFER_NO_ROOM = 16,
};

struct gw_client_buffer { /* a read buffer that body bytes given to the caller point into */
    h2o_buffer_t *buffer;
    size_t outstanding;
};

struct gw_client {
    uint32_t magic;
    uint8_t state, framing, to_defer;
    bool is_started; /* on_started was called */
    bool is_writing; /* the socket still holds bytes of ours */
    bool head_waits; /* those bytes are the head's, with the body that was at hand */
    bool has_next;   /* next is to be written behind them: the response began before they had left */
    bool next_is_last;
    bool write_failed;    /* nothing more can be sent; a response may still be there */
    bool request_is_sent; /* the whole request was given to the socket */
    bool body_is_chunked; /* the request's */
    bool expects_head_only;
    struct gw_usage *usage; /* struct gw_client_request */
    bool is_bulky;          /* what was read last takes as long as some requests */
    bool is_thrifty;        /* no byte is read while others are outstanding */
    bool is_tunnel;         /* the origin has switched protocols */
    bool origin_ended;      /* of a tunnel: it sends no more */
    bool has_ended_sending; /* of a tunnel: it was told that we send no more */
    uint8_t upgrade_len;
    struct gw_pool *pool;
    struct gw_upstream_connection *conn; /* NULL once ended, and with HTTP/2 */
    struct gw_h2_stream *h2;             /* NULL: HTTP/1.1 */
    struct gw_group_use *pending;        /* where it counts as waiting for a connection; NULL: it does not */
    const struct gw_client_callbacks *callbacks;
    void *data;
    bool *was_released; /* while a callback runs: where to tell that it released the client */
    struct gw_deferred deferred;
    struct gw_pool_limits limits;
    struct gw_client_timeouts timeouts;
    struct gw_client_failure failure;

    /* request */
    uint16_t preface_len; /* of preface, until it is sent */
    char *out;            /* bytes that wait for the connection or in the socket; ours */
    size_t out_len;
    uint64_t connected_us; /* 0: on a connection of the pool */
    uint64_t request_left; /* body bytes to come when the length is known */
    h2o_iovec_t next;
    uint64_t sent; /* bytes of the request given to the socket, framing too */
    const struct gw_trailers *request_trailers;

    /* response */
    size_t parsed_len; /* bytes of the head seen by the last INCOMPLETE parse */
    unsigned num_interim;
    uint64_t body_left;
    struct gw_chunked chunked;
    struct gw_trailers trailers; /* entries: owned, with their names behind them; bytes are those of chunked */
    size_t outstanding;          /* bytes given out and not consumed, in all buffers */
    h2o_buffer_t *head_buffer;   /* holds the head and the first bytes of the body; kept until the release */
    size_t head_outstanding;
    unsigned first_buffer, num_buffers;
    struct gw_response_head head;
    /* not cleared on reuse from here on */
    struct gw_client_buffer buffers[GW_CLIENT_MAX_BUFFERS]; /* a ring, oldest at first_buffer */
    char chunk_line[24];
    char upgrade[GW_HEAD_MAX_UPGRADE]; /* the protocol asked for; upgrade_len 0: none */
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    char preface[GW_CLIENT_MAX_PREFACE];
};

static inline struct gw_client *gw_client_of(struct gw_upstream_connection *conn)
{
    assert(conn->client->magic == GW_CLIENT_MAGIC);
    return conn->client;
}

/* request.c: the head of a request, with the first bytes of the body and their framing. */
size_t gw_client_head_bound(const struct gw_client_request *);
/* Returns the number of bytes written. close: say that the connection will not be used again. */
size_t gw_client_write_head(char *dst, const struct gw_client_request *, bool close);
bool gw_client_body_is_chunked(const struct gw_client_request *);

static inline uint32_t gw_client_tls_ms(const struct gw_client_timeouts *timeouts, const struct gw_transport *transport)
{
    return timeouts->tls_ms != 0 ? timeouts->tls_ms : transport->handshake_ms;
}

/* client.c */
void gw_client_set_deadline(struct gw_client *);
/* The connection is there, or there will be none. */
static inline void gw_client_leave_pending(struct gw_client *client)
{
    if (client->pending != NULL)
        routing_count_leave(&client->pending->pending);
    client->pending = NULL;
}
/* Waits for a connection from now on. is_counted: it has been since gw_pool_reserve. */
static inline void gw_client_enter_pending(struct gw_client *client, const struct gw_endpoint *endpoint,
                                           bool is_counted)
{
    if ((client->pending = endpoint->counted.of_group) != NULL && !is_counted)
        (void)routing_count_enter(&client->pending->pending, 0);
}
/* Both say whether the client still lives after the callback. */
bool gw_client_report_started(struct gw_client *);
bool gw_client_report_interim(struct gw_client *);
void gw_client_fail(struct gw_client *, enum gw_client_error);
/* Lets go of the connection, into the pool if it may serve again, before the last callback. */
void gw_client_end(struct gw_client *, bool connection_is_clean);

/* response.c */
void gw_client_on_readable(h2o_socket_t *, const char *err);
void gw_client_drop_buffers(struct gw_client *);

/* Runs one callback. The client is gone after it when this is false. */
#define GW_CLIENT_CALL(client, callback, ...)                                                                          \
    ({                                                                                                                 \
        struct gw_client *client_ = (client);                                                                          \
        bool was_released_ = false;                                                                                    \
        client_->was_released = &was_released_;                                                                        \
        client_->callbacks->callback(client_->data, ##__VA_ARGS__);                                                    \
        if (!was_released_)                                                                                            \
            client_->was_released = NULL;                                                                              \
        !was_released_;                                                                                                \
    })
