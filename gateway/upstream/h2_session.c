#include "gateway/upstream/h2_session.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/http/socket.h"

enum { MAX_FRAME = 16 * 1024 + 9 + 256 }; /* of ours: SETTINGS_MAX_FRAME_SIZE is never used beyond its default */

enum { NOT_IDLE, IDLE, IDLE_ASKED, IDLE_ANSWERED };
enum { MIN_ASKED_MS = 2000 }; /* shorter pauses are not worth a PING */

static struct gw_thread *thread_of(const struct gw_h2_session *self) { return gw_pool_thread(self->pool); }

static void arm(struct gw_h2_session *self, uint64_t ms)
{
    gw_timer_arm(thread_of(self)->wheel, &self->timer, gw_thread_now(thread_of(self)) + ms);
}

/* ---- the end ---- */

static void unlist(struct gw_h2_session *self)
{
    if (self->is_listed)
        h2o_linklist_unlink(&self->link);
    self->is_listed = false;
}

static void set_idle(struct gw_h2_session *self, uint8_t phase)
{
    if ((self->idle_phase == NOT_IDLE) != (phase == NOT_IDLE))
        gw_count(&gw_pool_counters(self->pool)->idle, phase != NOT_IDLE ? 1 : (uint64_t)-1);
    self->idle_phase = phase;
}

static struct gw_h2_stream *first_of(h2o_linklist_t *list)
{
    return h2o_linklist_is_empty(list) ? NULL : H2O_STRUCT_FROM_MEMBER(struct gw_h2_stream, link, list->next);
}

/* Callbacks may begin other requests, on other sessions: this one is off its slot. */
static void lose_streams(struct gw_h2_session *self)
{
    struct gw_h2_stream *stream;
    while ((stream = first_of(&self->running)) != NULL || (stream = first_of(&self->waiting)) != NULL) {
        h2o_linklist_unlink(&stream->link);
        gw_h2_on_lost(stream);
    }
}

static void destroy(struct gw_h2_session *self)
{
    assert(!self->is_inside);
    self->state = GW_H2_CLOSED;
    unlist(self);
    set_idle(self, NOT_IDLE);
    gw_timer_disarm(&self->timer);
    gw_timer_disarm(&self->settings_timer);
    gw_thread_undefer(&self->flush);
    gw_thread_undefer(&self->read_turn);
    if (self->sock != NULL) {
        tls_origin_detach(self->sock);
        h2o_socket_close(self->sock);
        self->sock = NULL;
    }
    gw_room_leave(self->counted);
    lose_streams(self);
    nghttp2_session_del(self->ng);
    free(self->out);
    gw_transport_release(self->transport);
    h2o_linklist_unlink(&self->link_of_all);
    self->magic = 0;
    free(self);
}

void gw_h2_session_fail(struct gw_h2_session *self, enum gw_client_error error, const char *detail)
{
    if (self->state == GW_H2_CLOSED)
        return;
    if (self->detail == NULL) {
        /* who speaks HTTP/2 begins with SETTINGS */
        self->error = self->state == GW_H2_GREETING && error == GW_CLIENT_CLOSED_EARLY ? GW_CLIENT_NOT_HTTP2 : error;
        self->detail = detail;
    }
    unlist(self);
    if (self->is_inside)
        self->is_doomed = true;
    else
        destroy(self);
}

/* Says goodbye; what the socket does not take at once is not worth waiting for. */
static void close_idle(struct gw_h2_session *self)
{
    unlist(self);
    self->detail = "idle";
    if (self->state == GW_H2_OPEN && !self->is_writing) {
        const uint8_t *data;
        ssize_t len;
        nghttp2_session_terminate_session(self->ng, NGHTTP2_NO_ERROR);
        while (self->sock->ssl == NULL && (len = nghttp2_session_mem_send(self->ng, &data)) > 0)
            if (send(h2o_socket_get_fd(self->sock), data, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len)
                break;
    }
    destroy(self);
}

void gw_h2_session_retire(struct gw_h2_session *self)
{
    unlist(self);
    if (self->num_running == 0 && self->num_waiting == 0)
        gw_h2_session_flush_later(self); /* which closes it */
}

void gw_h2_session_left(struct gw_h2_session *self)
{
    if (self->state == GW_H2_CLOSED)
        return;
    if (self->state == GW_H2_OPEN || self->num_waiting + self->num_running == 0)
        gw_h2_session_flush_later(self);
}

/* ---- writing ---- */

static void on_written(h2o_socket_t *sock, const char *err);

static void gather(struct gw_h2_session *self)
{
    const uint8_t *data;
    ssize_t len;
    while (self->out_len < GW_H2_MAX_OUT) {
        if (self->out == NULL)
            self->out = h2o_mem_alloc(GW_H2_MAX_OUT + MAX_FRAME);
        self->is_inside = true; /* on_stream_close comes out of here too */
        len = nghttp2_session_mem_send(self->ng, &data);
        if (len < 0)
            gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, nghttp2_strerror((int)len));
        self->is_inside = false;
        if (len <= 0 || self->is_doomed)
            return;
        if ((size_t)len > GW_H2_MAX_OUT + MAX_FRAME - self->out_len) /* a head of many CONTINUATIONs */
            self->out = h2o_mem_realloc(self->out, self->out_len + (size_t)len + MAX_FRAME);
        memcpy(self->out + self->out_len, data, (size_t)len);
        self->out_len += (size_t)len;
    }
}

/* The target allows fewer streams than was thought when they came: they go to another connection, or wait for their
 * turn where there may be none. */
static void rehome_waiting(struct gw_h2_session *self)
{
    struct gw_h2_stream *stream;
    bool is_full = false;
    while ((stream = first_of(&self->waiting)) != NULL) {
        h2o_linklist_unlink(&stream->link);
        --self->num_waiting;
        struct gw_h2_session *session =
            gw_h2_session_for(self->pool, stream->endpoint, self->transport, &stream->client->timeouts,
                              &stream->client->limits, true, false, &is_full);
        if (session == NULL && is_full) {
            h2o_linklist_insert(self->waiting.next, &stream->link);
            ++self->num_waiting;
            return;
        }
        gw_h2_stream_enter(stream, session, false);
    }
}

/* With so many already waiting. */
static bool has_room(const struct gw_h2_session *self, uint32_t max_requests, uint32_t num_waiting)
{
    return (max_requests == 0 || self->num_requests + num_waiting < max_requests) &&
           self->num_running + num_waiting < self->max_streams &&
           self->windows + (uint64_t)(num_waiting + 1) * GW_H2_STREAM_WINDOW <= GW_H2_CONNECTION_WINDOW;
}

static void submit_waiting(struct gw_h2_session *self)
{
    struct gw_h2_stream *stream;
    while (has_room(self, 0, 0) && (stream = first_of(&self->waiting)) != NULL) {
        h2o_linklist_unlink(&stream->link);
        --self->num_waiting;
        h2o_linklist_insert(&self->running, &stream->link);
        ++self->num_running;
        ++self->num_requests;
        if (!gw_h2_submit(stream)) {
            self->error = GW_CLIENT_REFUSED;
            self->detail = "the connection's stream numbers are used up";
            gw_h2_session_retire(self);
            h2o_linklist_unlink(&stream->link);
            --self->num_running;
            gw_h2_on_lost(stream);
        }
    }
    if (self->is_listed)
        rehome_waiting(self);
}

/* With nothing under way it waits for the next request, or ends. True: it is gone. */
static bool rest(struct gw_h2_session *self)
{
    if (self->num_running + self->num_waiting != 0)
        return false;
    if (!self->is_listed || self->state != GW_H2_OPEN || self->limits.max_idle == 0 || self->limits.idle_ms == 0) {
        close_idle(self);
        return true;
    }
    if (self->idle_phase == NOT_IDLE) {
        bool is_asked = self->limits.idle_ms >= MIN_ASKED_MS;
        set_idle(self, IDLE);
        arm(self, is_asked ? self->limits.idle_ms / 2 : self->limits.idle_ms);
    }
    return false;
}

static void flush(struct gw_h2_session *self)
{
    if (self->state < GW_H2_GREETING || self->is_writing) {
        if (self->state < GW_H2_GREETING)
            (void)rest(self);
        return;
    }
    if (self->state == GW_H2_OPEN)
        submit_waiting(self);
    for (;;) {
        gather(self);
        if (self->is_doomed) {
            destroy(self);
            return;
        }
        if (self->state == GW_H2_CLOSED || self->out_len == 0)
            break;
        h2o_iovec_t buf = {self->out, self->out_len};
        if (!gw_socket_write(self->sock, &buf, 1, on_written)) {
            self->is_writing = true;
            return;
        }
        self->out_len = 0;
    }
    free(self->out);
    self->out = NULL;
    if (rest(self))
        return;
    if (!nghttp2_session_want_read(self->ng) && !nghttp2_session_want_write(self->ng))
        gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, "the HTTP/2 session ended");
}

static void on_flush(struct gw_deferred *deferred)
{
    flush(H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, flush, deferred));
}

void gw_h2_session_flush_later(struct gw_h2_session *self) { gw_thread_defer(thread_of(self), &self->flush); }

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct gw_h2_session *self = gw_h2_session_of(sock);
    self->is_writing = false;
    self->out_len = 0;
    if (err != NULL)
        gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, "connection closed while sending");
    else
        flush(self);
}

/* ---- the acknowledgement of our SETTINGS ---- */

static void expect_acknowledged(struct gw_h2_session *self)
{
    self->settings_look_ms = gw_thread_now(thread_of(self));
    gw_timer_arm(thread_of(self)->wheel, &self->settings_timer, self->settings_look_ms + GW_H2_SETTINGS_LOOK_MS);
}

static void end_unacknowledged(struct gw_h2_session *self)
{
    nghttp2_session_terminate_session(self->ng, NGHTTP2_SETTINGS_TIMEOUT);
    gather(self);
    if (!self->is_doomed && self->out_len != 0) { /* what does not leave at once is not worth waiting for */
        h2o_iovec_t buf = {self->out, self->out_len};
        self->is_writing = !gw_socket_write(self->sock, &buf, 1, on_written);
    }
    if (self->is_doomed)
        destroy(self);
    else
        gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, "our SETTINGS were never acknowledged");
}

static void on_settings_due(struct gw_timer *timer)
{
    struct gw_h2_session *self = H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, settings_timer, timer);
    if (self->read_at_ms > self->settings_look_ms && !self->is_writing && !gw_socket_has_unsent(self->sock) &&
        ++self->settings_looks > GW_H2_SETTINGS_LOOKS)
        end_unacknowledged(self);
    else
        expect_acknowledged(self);
}

/* ---- reading ---- */

static void on_end(struct gw_h2_session *self, const char *err)
{
    self->is_ended = err == h2o_socket_error_closed;
    if (self->state == GW_H2_GREETING)
        gw_h2_session_fail(self, GW_CLIENT_NOT_HTTP2, "closed before HTTP/2 SETTINGS came");
    else if (err == h2o_socket_error_ssl_decode && tls_origin_read_error() != NULL)
        gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, tls_origin_read_error());
    else
        gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY,
                           err == h2o_socket_error_closed ? "connection closed" : "connection reset");
}

static void read_some(struct gw_h2_session *self, const char *err)
{
    h2o_socket_t *sock = self->sock;
    err = gw_socket_read(sock, err, GW_H2_READ);
    if (sock->input->size != 0) {
        self->read_at_ms = gw_thread_now(thread_of(self));
        size_t size = sock->input->size;
        if ((self->fidget_bytes += size) > GW_H2_MAX_FIDGET_BYTES) {
            gw_h2_session_fail(self, GW_CLIENT_CLOSED_EARLY, "too many bytes without content");
            return;
        }
        self->is_inside = true;
        ssize_t used = nghttp2_session_mem_recv(self->ng, (const uint8_t *)sock->input->bytes, size);
        self->is_inside = false;
        if (self->is_doomed) {
            destroy(self);
            return;
        }
        if (used < 0) {
            gw_h2_session_fail(self, self->state == GW_H2_GREETING ? GW_CLIENT_NOT_HTTP2 : GW_CLIENT_CLOSED_EARLY,
                               nghttp2_strerror((int)used));
            return;
        }
        h2o_buffer_consume(&sock->input, size);
        gw_h2_session_flush_later(self);
    }
    if (err != NULL)
        on_end(self, err);
}

static void on_read_turn(struct gw_deferred *deferred)
{
    read_some(H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, read_turn, deferred), NULL);
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct gw_h2_session *self = gw_h2_session_of(sock);
    gw_thread_charge(thread_of(self), NULL); /* its streams are many clients' */
    if (err == NULL && gw_thread_is_late(thread_of(self)))
        gw_thread_defer(thread_of(self), &self->read_turn);
    else if (err != NULL || !gw_thread_is_deferred(&self->read_turn))
        read_some(self, err);
}

/* ---- connecting ---- */

static void greet(struct gw_h2_session *self)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GW_H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GW_CLIENT_MAX_HEAD},
    };
    self->connected_us = gw_now_us();
    self->state = GW_H2_GREETING;
    gw_socket_setup(self->sock);
    self->ng = gw_h2_frames_create(self);
    nghttp2_submit_settings(self->ng, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(settings[0]));
    nghttp2_session_set_local_window_size(self->ng, NGHTTP2_FLAG_NONE, 0, GW_H2_CONNECTION_WINDOW);
    h2o_socket_read_start(self->sock, on_readable);
    expect_acknowledged(self);
    flush(self);
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct gw_h2_session *self = gw_h2_session_of(sock);
    struct gw_pool_stats *stats = gw_pool_counters(self->pool);
    const char *detail;
    enum tls_origin_failure failure = tls_origin_judge(self->transport->tls, sock, err, &detail);
    switch (failure) {
    case TLS_ORIGIN_NONE:
        gw_count(h2o_socket_get_ssl_session_reused(sock) == 1 ? &stats->tls_resumed : &stats->tls_full, 1);
        greet(self);
        return;
    case TLS_ORIGIN_CERTIFICATE:
    case TLS_ORIGIN_HOSTNAME:
    case TLS_ORIGIN_EXPIRED:
        gw_h2_session_fail(self, GW_CLIENT_TLS_CERTIFICATE, detail);
        break;
    case TLS_ORIGIN_ALPN:
        gw_h2_session_fail(self, GW_CLIENT_NOT_HTTP2, detail);
        break;
    default:
        gw_h2_session_fail(self, GW_CLIENT_TLS_FAILED, detail);
    }
    gw_count(&stats->tls_failures[failure], 1);
}

static void on_connect(h2o_socket_t *sock, const char *err)
{
    struct gw_h2_session *self = gw_h2_session_of(sock);
    if (err != NULL) {
        gw_h2_session_fail(self, GW_CLIENT_CONNECT_FAILED, "connection refused or unreachable");
        return;
    }
    gw_count(&gw_pool_counters(self->pool)->connects, 1);
    if (self->transport->tls == NULL) {
        greet(self);
        return;
    }
    self->state = GW_H2_HANDSHAKING;
    arm(self, self->tls_ms);
    tls_origin_handshake(self->transport->tls, sock, self->transport->name, gw_pool_tls_session(self->slot),
                         self->transport->id, on_handshake);
}

/* Half of the idle time is over: is anybody there? */
static void ask_whether_alive(struct gw_h2_session *self)
{
    uint64_t left_ms = self->limits.idle_ms / 2;
    self->idle_phase = IDLE_ASKED;
    nghttp2_submit_ping(self->ng, NGHTTP2_FLAG_NONE, NULL);
    gw_h2_session_flush_later(self);
    arm(self, left_ms < GW_H2_PING_MS ? left_ms : GW_H2_PING_MS);
}

void gw_h2_session_on_pong(struct gw_h2_session *self)
{
    if (self->idle_phase != IDLE_ASKED)
        return;
    self->idle_phase = IDLE_ANSWERED;
    arm(self, self->limits.idle_ms / 2);
}

static void on_due(struct gw_timer *timer)
{
    struct gw_h2_session *self = H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, timer, timer);
    switch (self->state) {
    case GW_H2_CONNECTING:
        gw_h2_session_fail(self, GW_CLIENT_CONNECT_TIMEOUT, "no connection in time");
        return;
    case GW_H2_HANDSHAKING:
        gw_count(&gw_pool_counters(self->pool)->tls_failures[TLS_ORIGIN_TIMEOUT], 1);
        gw_h2_session_fail(self, GW_CLIENT_TLS_TIMEOUT, "no TLS handshake in time");
        return;
    case GW_H2_GREETING:
        gw_h2_session_fail(self, GW_CLIENT_NOT_HTTP2, "no HTTP/2 SETTINGS came in time");
        return;
    default:
        break;
    }
    if (self->idle_phase == NOT_IDLE)
        return;
    if (self->idle_phase == IDLE && self->limits.idle_ms >= MIN_ASKED_MS) {
        ask_whether_alive(self);
        return;
    }
    gw_count(&gw_pool_counters(self->pool)->idle_closed, 1);
    close_idle(self);
}

/* What the target's other connections have said, or what most say. */
static uint32_t known_max_streams(const h2o_linklist_t *list)
{
    for (const h2o_linklist_t *node = list->next; node != list; node = node->next) {
        const struct gw_h2_session *self = H2O_STRUCT_FROM_MEMBER(const struct gw_h2_session, link, node);
        if (self->state == GW_H2_OPEN)
            return self->max_streams;
    }
    return 100;
}

static struct gw_h2_session *create(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                    const struct gw_transport *transport, const struct gw_client_timeouts *timeouts,
                                    h2o_linklist_t *list, struct gw_pool_slot *slot)
{
    struct sockaddr_storage address = endpoint->address.sa; /* the library takes no const */
    errno = 0;
    h2o_socket_t *sock = h2o_socket_connect(gw_pool_thread(pool)->loop, (struct sockaddr *)&address,
                                            endpoint->address.sa_len, on_connect);
    if (sock == NULL) {
        gw_room_leave(endpoint->counted);
        return NULL;
    }
    struct gw_h2_session *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_h2_session){.magic = GW_H2_SESSION_MAGIC,
                                   .counted = endpoint->counted,
                                   .pool = pool,
                                   .slot = slot,
                                   .transport = gw_transport_hold(transport),
                                   .sock = sock,
                                   .tls_ms = gw_client_tls_ms(timeouts, transport),
                                   .is_listed = true,
                                   .max_streams = known_max_streams(list),
                                   .flush = {.run = on_flush},
                                   .read_turn = {.run = on_read_turn}};
    sock->data = self;
    h2o_linklist_init_anchor(&self->waiting);
    h2o_linklist_init_anchor(&self->running);
    h2o_linklist_insert(list, &self->link);
    gw_timer_init(&self->timer, on_due);
    gw_timer_init(&self->settings_timer, on_settings_due);
    if (timeouts->connect_ms != 0)
        arm(self, timeouts->connect_ms);
    h2o_linklist_insert(gw_pool_all_sessions(pool), &self->link_of_all);
    return self;
}

struct gw_h2_session *gw_h2_session_with_room(const h2o_linklist_t *list, uint32_t max_requests)
{
    for (const h2o_linklist_t *node = list->next; node != list; node = node->next) {
        struct gw_h2_session *self = H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, link, node);
        if (has_room(self, max_requests, self->num_waiting))
            return self;
    }
    return NULL;
}

struct gw_h2_session *gw_h2_session_for(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                        const struct gw_transport *transport, const struct gw_client_timeouts *timeouts,
                                        const struct gw_pool_limits *limits, bool allow_reuse, bool is_reserved,
                                        bool *is_full)
{
    struct gw_pool_slot *slot;
    h2o_linklist_t *list = gw_pool_sessions(pool, endpoint, transport, &slot);
    struct gw_h2_session *self = allow_reuse ? gw_h2_session_with_room(list, limits->max_requests) : NULL;

    if (self == NULL && !is_reserved && gw_pool_enter(pool, endpoint, limits) != GW_POOL_READY) {
        *is_full = true;
        return NULL;
    }
    if (is_reserved) /* the client counts as pending by itself */
        routing_count_leave(&endpoint->counted.of_group->pending);
    if (self == NULL)
        return create(pool, endpoint, transport, timeouts, list, slot);
    if (is_reserved)
        gw_room_leave(endpoint->counted);
    if (self->state == GW_H2_OPEN) {
        gw_count(&gw_pool_counters(pool)->reuses, 1);
        set_idle(self, NOT_IDLE);
        gw_timer_disarm(&self->timer);
    }
    return self;
}

bool gw_h2_session_close_if_idle(struct gw_h2_session *self)
{
    if (self->is_inside || self->idle_phase == NOT_IDLE || self->num_running + self->num_waiting != 0)
        return false;
    gw_count(&gw_pool_counters(self->pool)->idle_closed, 1);
    close_idle(self);
    return true;
}
