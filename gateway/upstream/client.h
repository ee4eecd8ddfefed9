/* One request to one endpoint over HTTP/1.1 or HTTP/2. The exchange starts it, feeds the body, gets head, body and the
 * end; it decides about retries. Everything on one thread; callbacks never run from inside gw_client_start,
 * gw_client_write or gw_client_consumed. */
#pragma once
#include <stdbool.h>
#include "gateway/upstream/pool.h"
#include "gateway/http/head.h"
#include "gateway/http/stream.h"

/* How an attempt failed. gw_reason_of_client gives the reason code. */
enum gw_client_error {
    GW_CLIENT_OK,
    GW_CLIENT_NO_ROOM,        /* gw_pool_limits allow no further connection at present */
    GW_CLIENT_CONNECT_FAILED, /* refused, unreachable */
    GW_CLIENT_CONNECT_TIMEOUT,
    GW_CLIENT_TLS_TIMEOUT,     /* the handshake took too long */
    GW_CLIENT_TLS_CERTIFICATE, /* the target's certificate is not trusted, or for another name */
    GW_CLIENT_TLS_FAILED,      /* the handshake failed for another reason */
    GW_CLIENT_NOT_HTTP2,       /* it was to be HTTP/2, and is not */
    GW_CLIENT_REFUSED,         /* HTTP/2: the target says that it has not looked at the request */
    GW_CLIENT_NO_UPGRADE,      /* HTTP/2 targets cannot switch protocols */
    GW_CLIENT_CLOSED_EARLY,    /* closed or reset before the first byte of a response */
    GW_CLIENT_FIRST_BYTE_TIMEOUT,
    GW_CLIENT_BAD_HEAD, /* gw_client_failure()->head says which rule; 101 and endless 1xx too */
    GW_CLIENT_HEAD_TOO_LARGE,
    GW_CLIENT_TRUNCATED, /* the body ended before its length or last chunk */
    GW_CLIENT_BAD_CHUNK,
    GW_CLIENT_TRAILERS_TOO_LARGE,
    GW_CLIENT_IDLE_TIMEOUT, /* between bytes, either direction */
    GW_CLIENT_RESET,        /* reset in the middle of a body */
};
/* No connection came about: nothing of the request can have reached the target. */
static inline bool gw_client_error_is_of_connect(enum gw_client_error error)
{
    return error >= GW_CLIENT_NO_ROOM && error <= GW_CLIENT_NOT_HTTP2;
}
enum { GW_CLIENT_MAX_PREFACE = 1024 };
struct gw_client; /* one attempt: created by gw_client_start, freed by gw_client_release and nothing else */

struct gw_client_request {
    h2o_iovec_t method, target; /* target: path and query, valid by our own parser */
    h2o_iovec_t host;           /* value of the Host field */
    const h2o_header_t *fields; /* end-to-end fields in order; written as `name: value`. host, content-length and
                                 * transfer-encoding are added by the client and must not be among them */
    size_t num_fields;
    uint64_t content_length; /* UINT64_MAX: unknown */
    bool has_body;           /* false: nothing follows. true with unknown length: chunked */
    h2o_iovec_t body;        /* bytes of the body at hand: sent with the head in one write */
    bool body_is_whole;      /* body is all of it: its length is sent as content-length */
    bool expects_head_only;  /* HEAD */
    /* Ask to switch to this protocol (stream.h): Connection: Upgrade and Upgrade towards HTTP/1.1. base NULL: no; at
     * most GW_HEAD_MAX_UPGRADE bytes; without a body. A 101 counts only when it names the same protocol. After it
     * (on_head with body_follows, whose slices are valid within the call only) the body is the tunnel's bytes:
     * gw_client_write's is_last shuts down our sending side, on_body's is_last is the origin's half-close, after which
     * more may be written until the release. No timeout runs in a tunnel, and whatever the answer is, the connection
     * serves no second request. */
    h2o_iovec_t upgrade;
    /* Bytes that the connection begins with, before TLS (a PROXY header): it is a new one, or one that began with the
     * same bytes (HTTP/2: always a new one). Len 0: none; at most GW_CLIENT_MAX_PREFACE. */
    h2o_iovec_t preface;
    /* Of the request, those that may be passed on; NULL: none. Read when the body ends, valid until then. Left out
     * where framing has no room. announced_trailers: what the Trailer field says of them (trailers is set then), base
     * NULL: nothing; a body whose length is known is chunked towards HTTP/1.1 then. */
    const struct gw_trailers *trailers;
    h2o_iovec_t announced_trailers;
    bool accepts_trailers;                /* tell the target that the response may have some (HTTP/2: always told) */
    const struct gw_transport *transport; /* NULL: plain HTTP/1.1. Held as long as it is needed */
    bool closes_connection;               /* HTTP/1.1: it serves no further request */
    bool is_reserved;                     /* by gw_pool_reserve for this endpoint: the client's from here on */
    struct gw_usage *usage;               /* whom its work is charged to, as long as the client lives; NULL: nobody */
};
struct gw_client_timeouts {
    uint32_t connect_ms, first_byte_ms, idle_ms;
    uint32_t tls_ms; /* 0: the transport's; of a connection that HTTP/2 requests share, its first one's */
};
struct gw_client_callbacks { /* static storage; data: what gw_client_start was given. Any may release the client. */
    /* The request head (and body at hand) went out on a connection; more body may be written. reused: an idle one.
     * Comes before on_head and before any error but a failed connect; when there is no more body to write it may come
     * as late as that. May be NULL. */
    void (*on_started)(void *data, bool reused);
    /* A final response head. Slices are valid until the client ends or is released. body_follows false: the response is
     * complete. */
    void (*on_head)(void *data, const struct gw_response_head *, bool body_follows);
    /* Body bytes, valid until gw_client_consumed has been told of them all; is_last: the response is complete and the
     * connection is back in the pool or closed (no further callback; gw_client_release frees buffers). */
    void (*on_body)(void *data, h2o_iovec_t bytes, bool is_last);
    /* What was given to gw_client_write has left: its bytes are free, more may be written. Does not come when the
     * response ends first or when the origin reads no more (its response or an error will come). May be NULL. */
    void (*on_drained)(void *data);
    /* The attempt failed; no further callback; release it. retry_is_safe: no byte of a response was seen AND (the
     * connection was reused and closed before any response byte, or no byte of the request can have been processed).
     * For a reused connection that is safe for idempotent methods only: gw_client_failure tells the two apart. */
    void (*on_error)(void *data, enum gw_client_error, bool retry_is_safe);
    /* An interim response head: any 1xx but 100, which is ours to say, and 101. Valid within the call. May be NULL. */
    void (*on_interim)(void *data, const struct gw_response_head *);
};
/* What is known about a failed attempt: the caller, who knows the method and still holds the body or not, decides about
 * a retry. Valid from on_error to the release. */
struct gw_client_failure {
    enum gw_client_error error;
    enum gw_head_result head; /* GW_CLIENT_BAD_HEAD and _HEAD_TOO_LARGE: the rule; GW_HEAD_OK where detail says it */
    const char *detail;       /* a static phrase for logs, never NULL */
    int os_error;             /* errno of a connect that failed at once, else 0 */
    bool was_reused;          /* the connection came out of the pool */
    bool any_response_byte;   /* even of a 1xx */
    bool is_untouched;        /* closed before it had received a byte of the request: any method may be sent again */
    uint64_t body_bytes_sent; /* given to the socket, framing not counted */
};
/* Takes an idle connection or connects. Everything in the request is copied or sent before return; the endpoint and the
 * callbacks stay valid as long as the client. allow_reuse false: always a new connection (second attempt after a stale
 * one). first_byte_ms runs from the moment the whole request has left to the end of the response head; idle_ms while
 * bytes of the request wait in the socket and between two reads of the body, not while the caller holds it back. 0 = no
 * limit. */
struct gw_client *gw_client_start(struct gw_pool *, const struct gw_endpoint *, const struct gw_pool_limits *,
                                  const struct gw_client_timeouts *, const struct gw_client_request *, bool allow_reuse,
                                  const struct gw_client_callbacks *, void *data);
/* More of the request body; bytes must stay valid until on_drained. One at a time. is_last ends the body. */
void gw_client_write(struct gw_client *, h2o_iovec_t bytes, bool is_last);
/* When a new connection came about (CLOCK_MONOTONIC); 0 while there is none, and on one of the pool. */
uint64_t gw_client_connected_us(const struct gw_client *);
const struct gw_client_failure *gw_client_failure(const struct gw_client *);
/* Trailers of the response, those that may be passed on; from on_body's is_last (or an on_head without body) to the
 * release. NULL: none. */
const struct gw_trailers *gw_client_trailers(const struct gw_client *);
/* For callers with many responses at a time whose reader is one: little is read at a time, and nothing while bytes are
 * outstanding. To be called before the response can come. Of HTTP/2 the windows of its streams hold. */
void gw_client_be_thrifty(struct gw_client *);
/* Response bytes have been written on: reads go on when less than 64 KiB is outstanding. */
void gw_client_consumed(struct gw_client *, size_t bytes);
/* Ends the attempt at any time (the client went away, a retry begins) and frees it. A complete exchange leaves its
 * connection in the pool, anything else closes it. NULL is fine. */
void gw_client_release(struct gw_client *);
