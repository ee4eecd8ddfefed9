#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/upstream/client_state.h"
#include "gateway/http/socket.h"
#include "gateway/upstream/h2_session.h"

static uint64_t after(const struct gw_client *client, uint32_t ms)
{
    return ms == 0 ? GW_NO_DEADLINE : gw_pool_now_ms(client->pool) + ms;
}

void gw_client_set_deadline(struct gw_client *client)
{
    uint64_t due_ms = GW_NO_DEADLINE;
    if (client->state == GW_CLIENT_CONNECTING)
        due_ms = after(client, client->timeouts.connect_ms);
    else if (client->state == GW_CLIENT_HANDSHAKING)
        due_ms = after(client, gw_client_tls_ms(&client->timeouts, client->conn->transport));
    else if (client->is_tunnel)
        due_ms = GW_NO_DEADLINE;
    else if (client->is_writing)
        due_ms = after(client, client->timeouts.idle_ms);
    else if (client->state == GW_CLIENT_WAITING && client->write_failed)
        due_ms = after(client, GW_CLIENT_BROKEN_WRITE_MS);
    else if (client->state == GW_CLIENT_WAITING && client->request_is_sent)
        due_ms = after(client, client->timeouts.first_byte_ms);
    else if (client->state == GW_CLIENT_RECEIVING && h2o_socket_is_reading(client->conn->sock))
        due_ms = after(client, client->timeouts.idle_ms);
    gw_upstream_set_deadline(client->conn, due_ms);
}

static void free_out(struct gw_client *client)
{
    free(client->out);
    client->out = NULL;
}

static void detach(struct gw_client *client)
{
    client->conn = NULL;
    client->state = GW_CLIENT_ENDED;
    client->to_defer = 0;
    gw_thread_undefer(&client->deferred);
}

static void close_connection(struct gw_client *client)
{
    struct gw_upstream_connection *conn = client->conn;
    gw_client_leave_pending(client);
    detach(client);
    if (conn != NULL)
        gw_pool_close(conn);
    else if (client->h2 != NULL)
        gw_h2_client_detach(client);
    free_out(client); /* the socket pointed to it */
}

void gw_client_end(struct gw_client *client, bool connection_is_clean)
{
    struct gw_upstream_connection *conn = client->conn;
    /* one that was asked to switch may not agree with us about where the answer ends */
    if (!connection_is_clean || !client->request_is_sent || client->is_writing || client->write_failed ||
        client->upgrade_len != 0) {
        close_connection(client);
        return;
    }
    detach(client);
    gw_pool_put(conn, &client->limits);
}

static bool is_safe_to_retry(const struct gw_client *client, enum gw_client_error error)
{
    if (gw_client_error_is_of_connect(error) || error == GW_CLIENT_REFUSED)
        return true;
    return error == GW_CLIENT_CLOSED_EARLY && client->failure.was_reused && !client->failure.any_response_byte;
}

static const char *const phrases[] = {
    [GW_CLIENT_OK] = "no failure",
    [GW_CLIENT_NO_ROOM] = "as many connections as there may be",
    [GW_CLIENT_CONNECT_FAILED] = "connection refused or unreachable",
    [GW_CLIENT_CONNECT_TIMEOUT] = "no connection in time",
    [GW_CLIENT_TLS_TIMEOUT] = "no TLS handshake in time",
    [GW_CLIENT_TLS_CERTIFICATE] = "the target's certificate is not trusted",
    [GW_CLIENT_TLS_FAILED] = "TLS handshake failed",
    [GW_CLIENT_NOT_HTTP2] = "the target does not speak HTTP/2",
    [GW_CLIENT_REFUSED] = "the target refused the stream",
    [GW_CLIENT_NO_UPGRADE] = "HTTP/2 targets cannot switch protocols",
    [GW_CLIENT_CLOSED_EARLY] = "closed before a response",
    [GW_CLIENT_FIRST_BYTE_TIMEOUT] = "no response head in time",
    [GW_CLIENT_BAD_HEAD] = "malformed response head",
    [GW_CLIENT_HEAD_TOO_LARGE] = "response head too large",
    [GW_CLIENT_TRUNCATED] = "response body ended too early",
    [GW_CLIENT_BAD_CHUNK] = "malformed chunked response body",
    [GW_CLIENT_TRAILERS_TOO_LARGE] = "response trailers too large",
    [GW_CLIENT_IDLE_TIMEOUT] = "no bytes moved in time",
    [GW_CLIENT_RESET] = "connection reset within the response body",
};

void gw_client_fail(struct gw_client *client, enum gw_client_error error)
{
    if (client->state > GW_CLIENT_HANDSHAKING && !client->is_started) {
        client->is_started = true;
        if (client->callbacks->on_started != NULL && !GW_CLIENT_CALL(client, on_started, client->failure.was_reused))
            return;
    }
    client->failure.error = error;
    if (client->failure.detail == NULL)
        client->failure.detail = phrases[error];
    if (gw_client_error_is_of_connect(error) && error != GW_CLIENT_NO_ROOM)
        gw_count(&gw_pool_counters(client->pool)->connect_failures, 1);
    close_connection(client);
    (void)GW_CLIENT_CALL(client, on_error, error, is_safe_to_retry(client, error));
}

bool gw_client_report_started(struct gw_client *client)
{
    client->to_defer &= (uint8_t)~GW_DEFER_STARTED;
    if (client->is_started)
        return true;
    client->is_started = true;
    return client->callbacks->on_started == NULL || GW_CLIENT_CALL(client, on_started, client->failure.was_reused);
}

/* The request is on its way by then, whether or not its own turn to say so has come. */
bool gw_client_report_interim(struct gw_client *client)
{
    if (client->head.status == 100 || client->callbacks->on_interim == NULL)
        return true;
    return gw_client_report_started(client) && GW_CLIENT_CALL(client, on_interim, &client->head);
}

static void on_deferred(struct gw_deferred *deferred)
{
    struct gw_client *client = H2O_STRUCT_FROM_MEMBER(struct gw_client, deferred, deferred);
    unsigned to_do = client->to_defer;
    client->to_defer = 0;
    if (to_do & GW_DEFER_CONNECT_FAILED) {
        gw_client_fail(client, GW_CLIENT_CONNECT_FAILED);
        return;
    }
    if (to_do & GW_DEFER_NO_ROOM) {
        gw_client_fail(client, GW_CLIENT_NO_ROOM);
        return;
    }
    if (to_do & GW_DEFER_NO_UPGRADE) {
        gw_client_fail(client, GW_CLIENT_NO_UPGRADE);
        return;
    }
    if ((to_do & GW_DEFER_STARTED) && !gw_client_report_started(client))
        return;
    if ((to_do & GW_DEFER_DRAINED) && client->callbacks->on_drained != NULL)
        (void)GW_CLIENT_CALL(client, on_drained);
}

static void defer(struct gw_client *client, unsigned what)
{
    client->to_defer |= (uint8_t)what;
    gw_thread_defer(gw_pool_thread(client->pool), &client->deferred);
}

static void on_handshake_timeout(struct gw_client *client)
{
    gw_count(&gw_pool_counters(client->pool)->tls_failures[TLS_ORIGIN_TIMEOUT], 1);
    gw_client_fail(client, GW_CLIENT_TLS_TIMEOUT);
}

static void on_due(struct gw_timer *timer)
{
    struct gw_upstream_connection *conn = H2O_STRUCT_FROM_MEMBER(struct gw_upstream_connection, timer, timer);
    if (conn->deadline_ms == GW_NO_DEADLINE)
        return;
    if (conn->deadline_ms > gw_pool_now_ms(conn->pool)) {
        gw_upstream_arm(conn);
        return;
    }
    struct gw_client *client = gw_client_of(conn);
    if (client->state == GW_CLIENT_CONNECTING)
        gw_client_fail(client, GW_CLIENT_CONNECT_TIMEOUT);
    else if (client->state == GW_CLIENT_HANDSHAKING)
        on_handshake_timeout(client);
    else if (client->is_writing || client->state == GW_CLIENT_RECEIVING)
        gw_client_fail(client, GW_CLIENT_IDLE_TIMEOUT);
    else if (client->write_failed)
        gw_client_fail(client, GW_CLIENT_CLOSED_EARLY);
    else
        gw_client_fail(client, GW_CLIENT_FIRST_BYTE_TIMEOUT);
}

/* The response to what could not be sent may already lie in our socket (413 and close): only reading tells. */
static void on_write_failed(struct gw_client *client)
{
    client->write_failed = true;
    if (client->origin_ended) { /* of a tunnel: there is nothing left to read that would tell */
        gw_client_fail(client, GW_CLIENT_RESET);
        return;
    }
    gw_client_set_deadline(client);
}

static void on_written(h2o_socket_t *sock, const char *err);

/* Our half of a tunnel is over when its last bytes have left. True when that takes another write. */
static bool end_tunnel(struct gw_client *client)
{
    if (!client->is_tunnel || !client->request_is_sent || client->has_ended_sending)
        return false;
    client->has_ended_sending = true;
    client->is_writing = !gw_socket_end(client->conn->sock, on_written);
    return client->is_writing;
}

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct gw_client *client = gw_client_of(gw_upstream_connection_from(sock));
    client->is_writing = false;
    free_out(client);
    if (err != NULL) {
        on_write_failed(client);
        return;
    }
    if (end_tunnel(client))
        return;
    gw_client_set_deadline(client);
    if (client->head_waits) {
        client->head_waits = false;
        if (!client->is_started)
            (void)gw_client_report_started(client);
        else if (client->has_next)
            gw_client_write(client, client->next, client->next_is_last);
    } else if (client->callbacks->on_drained != NULL) {
        (void)GW_CLIENT_CALL(client, on_drained);
    }
}

/* Writes the head (and body at hand) that request.c has laid out. bytes are ours already, or the pool's scratch. */
static void send_head(struct gw_client *client, char *bytes, size_t len)
{
    h2o_iovec_t buf = h2o_iovec_init(bytes, len);
    ++client->conn->num_requests;
    client->sent = len;
    client->state = GW_CLIENT_WAITING;
    if (gw_socket_write(client->conn->sock, &buf, 1, on_written)) {
        free_out(client);
    } else {
        client->is_writing = client->head_waits = true;
        if (client->out == NULL) {
            client->out = bytes;
            gw_pool_keep_scratch(client->pool);
        }
    }
    gw_client_set_deadline(client);
}

/* The connection is there, TLS and all. */
static void begin(struct gw_client *client)
{
    h2o_socket_t *sock = client->conn->sock;
    client->connected_us = gw_now_us();
    gw_client_leave_pending(client);
    gw_socket_setup(sock);
    h2o_socket_read_start(sock, gw_client_on_readable);
    send_head(client, client->out, client->out_len);
    if (!client->is_writing && !client->request_is_sent)
        (void)gw_client_report_started(client);
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct gw_client *client = gw_client_of(gw_upstream_connection_from(sock));
    const char *detail;
    switch (gw_pool_judge_handshake(client->conn, err, &detail)) {
    case TLS_ORIGIN_NONE:
        begin(client);
        return;
    case TLS_ORIGIN_CERTIFICATE:
    case TLS_ORIGIN_HOSTNAME:
    case TLS_ORIGIN_EXPIRED:
        client->failure.detail = detail;
        gw_client_fail(client, GW_CLIENT_TLS_CERTIFICATE);
        return;
    default:
        client->failure.detail = detail;
        gw_client_fail(client, GW_CLIENT_TLS_FAILED);
    }
}

/* A new socket's buffer has room for it; one that has not is no good. */
static bool send_preface(struct gw_client *client)
{
    return send(h2o_socket_get_fd(client->conn->sock), client->preface, client->preface_len, MSG_NOSIGNAL) ==
           (ssize_t)client->preface_len;
}

static void on_connect(h2o_socket_t *sock, const char *err)
{
    struct gw_client *client = gw_client_of(gw_upstream_connection_from(sock));
    if (err != NULL) {
        gw_client_fail(client, GW_CLIENT_CONNECT_FAILED);
        return;
    }
    if (__builtin_expect(client->preface_len != 0, 0) && !send_preface(client)) {
        gw_client_fail(client, GW_CLIENT_CONNECT_FAILED);
        return;
    }
    gw_count(&gw_pool_counters(client->pool)->connects, 1);
    if (client->conn->transport == NULL || client->conn->transport->tls == NULL) {
        begin(client);
        return;
    }
    client->state = GW_CLIENT_HANDSHAKING;
    gw_client_set_deadline(client);
    gw_pool_handshake(client->conn, on_handshake); /* may end the client */
}

static struct gw_client *create(struct gw_pool *pool, const struct gw_client_request *req)
{
    struct gw_client *client = gw_pool_alloc_client(pool, sizeof(*client));
    memset(client, 0, offsetof(struct gw_client, buffers));
    client->magic = GW_CLIENT_MAGIC;
    client->pool = pool;
    client->deferred.run = on_deferred;
    client->expects_head_only = req->expects_head_only;
    client->head.fields = client->fields;
    client->head.names = client->names;
    client->body_is_chunked = gw_client_body_is_chunked(req);
    client->request_is_sent = !req->has_body || req->body_is_whole;
    if (req->upgrade.base != NULL) {
        assert(!req->has_body && req->upgrade.len != 0 && req->upgrade.len <= sizeof(client->upgrade));
        client->upgrade_len = (uint8_t)req->upgrade.len;
        memcpy(client->upgrade, req->upgrade.base, req->upgrade.len);
    }
    client->request_trailers = req->trailers;
    client->usage = req->usage;
    if (req->has_body) {
        client->failure.body_bytes_sent = req->body.len;
        if (!client->body_is_chunked && !req->body_is_whole) {
            assert(req->body.len <= req->content_length);
            client->request_left = req->content_length - req->body.len;
        }
    }
    return client;
}

/* Requests that nobody may send twice when their connection turns out to be dead. */
static bool is_repeatable(const struct gw_client_request *req) { return !req->has_body && req->method.base[0] != 'P'; }

/* A kept connection will do after all. */
static void give_place_back(const struct gw_endpoint *endpoint, bool is_pending)
{
    if (is_pending)
        gw_pool_unreserve(endpoint);
    else
        gw_room_leave(endpoint->counted);
}

/* A PROXY header is about one client: an HTTP/2 connection that begins with it is nobody else's. */
static void set_preface(struct gw_client *client, const struct gw_client_request *req, bool *allow_reuse)
{
    assert(req->preface.len <= GW_CLIENT_MAX_PREFACE);
    memcpy(client->preface, req->preface.base, req->preface.len);
    client->preface_len = (uint16_t)req->preface.len;
    if (req->transport != NULL && req->transport->is_http2) {
        client->limits.max_idle = 0;
        *allow_reuse = false;
    }
}

/* client->conn serves no further request after this one: the target is told. */
static bool is_last_request(const struct gw_client *client)
{
    uint32_t num_before = client->conn != NULL ? client->conn->num_requests : 0;
    return client->limits.max_idle == 0 ||
           (client->limits.max_requests != 0 && num_before + 1 >= client->limits.max_requests);
}

static void send_on_kept(struct gw_client *client, const struct gw_client_request *req)
{
    char *bytes = gw_pool_scratch(client->pool, gw_client_head_bound(req));
    size_t len = gw_client_write_head(bytes, req, is_last_request(client));

    client->conn->client = client;
    client->failure.was_reused = true;
    send_head(client, bytes, len);
    if (!client->is_writing && !client->request_is_sent)
        defer(client, GW_DEFER_STARTED);
}

/* The head waits in client->out. has_place: a connection of the endpoint has been counted for it. */
static void send_on_new(struct gw_client *client, const struct gw_endpoint *endpoint,
                        const struct gw_client_request *req, bool has_place)
{
    bool is_last = is_last_request(client);

    gw_client_enter_pending(client, endpoint, req->is_reserved);
    if (!has_place && gw_pool_enter(client->pool, endpoint, &client->limits) != GW_POOL_READY) {
        defer(client, GW_DEFER_NO_ROOM);
        return;
    }
    client->conn = gw_pool_connect(client->pool, endpoint, req->transport, on_connect, on_due);
    if (client->conn == NULL) {
        client->failure.os_error = errno;
        defer(client, GW_DEFER_CONNECT_FAILED);
        return;
    }
    client->conn->client = client;
    if (__builtin_expect(req->preface.len != 0, 0))
        client->conn->preface = h2o_strdup(NULL, req->preface.base, req->preface.len);
    client->out = h2o_mem_alloc(gw_client_head_bound(req));
    client->out_len = gw_client_write_head(client->out, req, is_last);
    gw_client_set_deadline(client);
}

struct gw_client *gw_client_start(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                  const struct gw_pool_limits *limits, const struct gw_client_timeouts *timeouts,
                                  const struct gw_client_request *req, bool allow_reuse,
                                  const struct gw_client_callbacks *callbacks, void *data)
{
    struct gw_client *client = create(pool, req);

    client->limits = *limits;
    client->timeouts = *timeouts;
    client->callbacks = callbacks;
    client->data = data;
    if (__builtin_expect(req->closes_connection, 0) && (req->transport == NULL || !req->transport->is_http2))
        client->limits.max_idle = 0;
    if (__builtin_expect(req->preface.len != 0, 0))
        set_preface(client, req, &allow_reuse);
    if (__builtin_expect(req->transport != NULL, 0) && req->transport->is_http2)
        return gw_h2_client_start(client, endpoint, req, allow_reuse);
    bool has_place = req->is_reserved;
    if (allow_reuse)
        client->conn = gw_pool_take(pool, endpoint, req->transport, req->preface, !is_repeatable(req), &has_place);
    if (client->conn == NULL) {
        send_on_new(client, endpoint, req, has_place);
        return client;
    }
    if (__builtin_expect(has_place, 0))
        give_place_back(endpoint, req->is_reserved);
    send_on_kept(client, req);
    return client;
}

/* The last chunk with trailers: freed when it has left. */
static h2o_iovec_t frame_trailers(struct gw_client *client, bool ends_chunk)
{
    char *p = client->out = h2o_mem_alloc(gw_trailers_bound(client->request_trailers) + 2);
    if (ends_chunk) {
        *p++ = '\r';
        *p++ = '\n';
    }
    p += gw_trailers_write(p, client->request_trailers);
    return h2o_iovec_init(client->out, (size_t)(p - client->out));
}

/* Frames bytes for the wire without copying them. Returns the number of slices. */
static size_t frame(struct gw_client *client, h2o_iovec_t bytes, bool is_last, h2o_iovec_t bufs[3])
{
    size_t n = 0;
    if (!client->body_is_chunked) {
        if (bytes.len != 0)
            bufs[n++] = bytes;
        return n;
    }
    if (bytes.len != 0) {
        int len = sprintf(client->chunk_line, "%zx\r\n", bytes.len);
        bufs[n++] = h2o_iovec_init(client->chunk_line, len);
        bufs[n++] = bytes;
        if (is_last && client->request_trailers != NULL && client->request_trailers->size != 0)
            bufs[n++] = frame_trailers(client, true);
        else
            bufs[n++] = is_last ? h2o_iovec_init(H2O_STRLIT("\r\n0\r\n\r\n")) : h2o_iovec_init(H2O_STRLIT("\r\n"));
    } else if (is_last && client->request_trailers != NULL && client->request_trailers->size != 0) {
        bufs[n++] = frame_trailers(client, false);
    } else if (is_last) {
        bufs[n++] = h2o_iovec_init(H2O_STRLIT("0\r\n\r\n"));
    }
    return n;
}

void gw_client_write(struct gw_client *client, h2o_iovec_t bytes, bool is_last)
{
    if (client->h2 != NULL) {
        gw_h2_client_write(client, bytes, is_last);
        return;
    }
    if (client->state == GW_CLIENT_ENDED || client->write_failed)
        return;
    if (client->head_waits) { /* the target answers before it has read what was at hand */
        assert(!client->has_next);
        client->has_next = true;
        client->next = bytes;
        client->next_is_last = is_last;
        return;
    }
    client->has_next = false;
    assert(client->is_started && !client->is_writing && !client->request_is_sent);
    if (!client->body_is_chunked && !client->is_tunnel) {
        /* Another length than the head promised would desynchronise the connection. */
        assert(bytes.len <= client->request_left);
        client->request_left -= bytes.len;
        assert(!is_last || client->request_left == 0);
    }
    h2o_iovec_t bufs[3];
    size_t num_bufs = frame(client, bytes, is_last, bufs);
    client->failure.body_bytes_sent += bytes.len;
    for (size_t i = 0; i != num_bufs; ++i)
        client->sent += bufs[i].len;
    client->request_is_sent = is_last;
    client->is_writing = num_bufs != 0 && !gw_socket_write(client->conn->sock, bufs, num_bufs, on_written);
    if (!client->is_writing)
        free_out(client);
    if (!client->is_writing && !end_tunnel(client))
        defer(client, GW_DEFER_DRAINED);
    gw_client_set_deadline(client);
}

void gw_client_release(struct gw_client *client)
{
    if (client == NULL)
        return;
    assert(client->magic == GW_CLIENT_MAGIC);
    if (client->was_released != NULL)
        *client->was_released = true;
    close_connection(client);
    if (client->h2 != NULL)
        gw_h2_client_release(client);
    gw_client_drop_buffers(client);
    gw_chunked_dispose(&client->chunked);
    free(client->trailers.entries);
    client->magic = 0;
    gw_pool_free_client(client->pool, client);
}

const struct gw_trailers *gw_client_trailers(const struct gw_client *client)
{
    const struct gw_trailers *trailers = client->h2 != NULL ? &client->h2->response_trailers : &client->trailers;
    return trailers->size != 0 ? trailers : NULL;
}

uint64_t gw_client_connected_us(const struct gw_client *client) { return client->connected_us; }

void gw_client_be_thrifty(struct gw_client *client) { client->is_thrifty = true; }

const struct gw_client_failure *gw_client_failure(const struct gw_client *client) { return &client->failure; }
