/* The life of a connection that forwards bytes: what it asks for (tls_passthrough), connecting to a target, the bytes
 * (l4_pump.c), the end. */
#include "gateway/l4/l4_connection.h"
#include "gateway/l4/l4_pipe.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <openssl/ssl.h>
#include "gateway/discovery/view.h"
#include "gateway/http/socket.h"
#include "gateway/l4/udp.h"
#include "gateway/upstream/proxy_out.h"

enum { MAX_ATTEMPTS = 3, HELLO_READ = 4096 };

static const uint64_t no_limit_ms = UINT64_C(60) * 86400 * 1000;

static struct gw_l4_connection *connection_from(struct gw_conn *conn)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_l4_connection, super, conn);
}

static struct gw_l4_slot *counters(const struct gw_l4_connection *self)
{
    return &self->stats->slots[self->worker->thread.index];
}

/* ---- the end ---- */

static void close_socket(h2o_socket_t *sock, bool is_reset)
{
    if (sock == NULL)
        return;
    if (is_reset) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        if (sock->ssl != NULL)
            SSL_set_quiet_shutdown(gw_socket_ssl(sock), 1); /* no close_notify: what was sent is not all */
    }
    h2o_socket_close(sock);
}

static void report(const struct gw_l4_connection *self, enum gw_reason reason, const char *error)
{
    const h2o_socket_t *sock = self->super.sock;
    bool is_tls = sock->ssl != NULL;
    struct gw_l4_record record = {
        .worker = self->worker,
        .stats = self->stats,
        .protocol = self->protocol,
        .peer_text = self->super.peer_text,
        .peer_text_len = self->super.peer_text_len,
        .peer_port = self->super.peer_port,
        .tls_version = is_tls ? h2o_socket_get_ssl_protocol_version(self->super.sock) : NULL,
        .tls_cipher = is_tls ? h2o_socket_get_ssl_cipher(self->super.sock) : NULL,
        .server_name = self->super.server_name,
        .error = error,
        .reason = reason,
        .attempts = self->attempts,
        .bytes_in = self->client.bytes_read,
        .bytes_out = self->target.bytes_read,
        .started_us = self->started_us,
        .connected_us = self->connected_us,
    };
    if (self->endpoint != NULL)
        record.target = self->endpoint->name;
    gw_count(&counters(self)->bytes_in, record.bytes_in);
    gw_count(&counters(self)->bytes_out, record.bytes_out);
    gw_l4_report(&record);
}

static void close_target(struct gw_l4_connection *self, bool is_reset)
{
    if (self->transport != NULL && self->target.sock != NULL && self->target.sock->ssl != NULL)
        tls_origin_detach(self->target.sock);
    close_socket(self->target.sock, is_reset);
    if (self->target.sock != NULL)
        gw_room_leave(self->endpoint->counted);
    self->target.sock = NULL;
    gw_transport_release(self->transport);
    self->transport = NULL;
}

static void end_attempt(struct gw_l4_connection *self, bool has_failed)
{
    if (self->load != NULL)
        routing_target_leave(self->load);
    self->load = NULL;
    if (self->slot == NULL)
        return;
    gw_count(&self->slot->in_flight, (uint64_t)-1);
    if (has_failed)
        gw_count(&self->slot->failures, 1);
    self->slot = NULL;
}

static void let_go_of_endpoint(struct gw_l4_connection *self)
{
    if (self->endpoint != NULL)
        gw_endpoint_release(
            H2O_STRUCT_FROM_MEMBER(struct gw_endpoint_entry, endpoint, (struct gw_endpoint *)self->endpoint));
    self->endpoint = NULL;
}

static void let_go_of_configuration(struct gw_l4_connection *self)
{
    gw_view_release(self->group);
    self->group = NULL;
    if (self->held != NULL)
        gw_held_snapshot_release(self->worker, self->held);
    self->held = NULL;
    self->listener = NULL;
    if (self->hello != NULL)
        tls_hello_dispose(self->hello);
    free(self->hello);
    self->hello = NULL;
}

void gw_l4_end(struct gw_l4_connection *self, enum gw_reason reason, const char *error)
{
    bool is_reset = reason != GW_REASON_NONE;

    /* first: who has read its line in the log finds its place free */
    gw_count(&counters(self)->open, (uint64_t)-1);
    __atomic_fetch_sub((int64_t *)&self->stats->whole->num_open, 1, __ATOMIC_RELAXED);
    report(self, reason == GW_REASON_NONE ? self->loss : reason, error);
    gw_l4_stats_release(self->stats);
    end_attempt(self, false);
    let_go_of_configuration(self);
    gw_timer_disarm(&self->timer);
    gw_conn_dispose(&self->super);
    close_target(self, is_reset);
    let_go_of_endpoint(self);
    close_socket(self->client.sock, is_reset);
    free(self->target.waiting);
    free(self->client.waiting);
    gw_l4_pipe_give_back(self->worker, self->target.pipe, self->target.piped == 0);
    gw_l4_pipe_give_back(self->worker, self->client.pipe, self->client.piped == 0);
    free(self);
}

/* ---- time ---- */

static void arm(struct gw_l4_connection *self, uint64_t timeout_ms)
{
    gw_timer_arm(self->worker->thread.wheel, &self->timer, gw_thread_now(&self->worker->thread) + timeout_ms);
}

void gw_l4_set_idle_timeout(struct gw_l4_connection *self, uint64_t timeout_ms)
{
    self->idle_timeout_ms = timeout_ms;
    arm(self, timeout_ms);
}

static void on_attempt_failed(struct gw_l4_connection *self, enum gw_reason why, const char *error);

/* Activity only notes its time; the timer looks whether there was any. */
static void on_idle_timer(struct gw_l4_connection *self)
{
    uint64_t due_ms = self->active_ms + self->idle_timeout_ms;

    if (gw_thread_now(&self->worker->thread) < due_ms)
        gw_timer_arm(self->worker->thread.wheel, &self->timer, due_ms);
    else
        gw_l4_end(self, self->loss != GW_REASON_NONE ? self->loss : GW_REASON_CONNECTION_IDLE, NULL);
}

static void on_timer(struct gw_timer *timer)
{
    struct gw_l4_connection *self = H2O_STRUCT_FROM_MEMBER(struct gw_l4_connection, timer, timer);

    if (self->is_cut)
        gw_l4_end(self, GW_REASON_TARGET_DEREGISTERED, NULL);
    else if (self->state == GW_L4_HELLO)
        gw_l4_end(self, GW_REASON_CLIENT_HELLO_TIMEOUT, NULL);
    else if (self->state == GW_L4_CONNECTING)
        on_attempt_failed(self, GW_REASON_CONNECT_TIMEOUT, NULL);
    else if (self->state == GW_L4_HANDSHAKING)
        on_attempt_failed(self, GW_REASON_UPSTREAM_TLS_TIMEOUT, NULL);
    else
        on_idle_timer(self);
}

/* ---- connecting ---- */

static void on_open(struct gw_l4_connection *self)
{
    self->state = GW_L4_OPEN;
    self->connected_us = gw_now_us();
    self->target.sock->data = &self->target;
    self->client.sock->data = &self->client;
    gw_socket_setup(self->target.sock);
    let_go_of_configuration(self); /* it may live for days */
    arm(self, self->idle_timeout_ms);
    gw_l4_pump_start(self);
}

/* A new socket's buffer holds a few hundred bytes. */
static bool send_proxy_header(struct gw_l4_connection *self)
{
    char header[GW_PROXY_OUT_MAX];
    size_t len = gw_proxy_out_of_conn(self->group->conf->send_proxy_protocol, &self->super, header);
    return len == 0 || send(h2o_socket_get_fd(self->target.sock), header, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct gw_l4_connection *self = sock->data;
    const char *detail;

    switch (tls_origin_judge(self->transport->tls, sock, err, &detail)) {
    case TLS_ORIGIN_NONE:
        on_open(self);
        break;
    case TLS_ORIGIN_CERTIFICATE:
    case TLS_ORIGIN_HOSTNAME:
    case TLS_ORIGIN_EXPIRED:
        on_attempt_failed(self, GW_REASON_UPSTREAM_CERTIFICATE, detail);
        break;
    default:
        on_attempt_failed(self, GW_REASON_UPSTREAM_TLS_FAILED, detail);
        break;
    }
}

static void on_connect(h2o_socket_t *sock, const char *err)
{
    struct gw_l4_connection *self = sock->data;

    if (err != NULL || !send_proxy_header(self)) {
        on_attempt_failed(self, GW_REASON_CONNECT_FAILED, NULL);
        return;
    }
    if (self->transport == NULL) {
        on_open(self);
        return;
    }
    self->state = GW_L4_HANDSHAKING;
    uint64_t of_group_ms = self->group->conf->timeouts.tls_ms;
    arm(self, of_group_ms != 0 ? of_group_ms : self->transport->handshake_ms);
    tls_origin_handshake(self->transport->tls, sock, self->transport->name, NULL, 0, on_handshake);
}

/* False: it failed at once. */
static bool attempt(struct gw_l4_connection *self, const struct routing_target *target, uint32_t index)
{
    struct sockaddr_storage address = target->address.sa; /* the library takes no const */

    ++self->attempts;
    if (index < 64)
        self->tried |= (uint64_t)1 << index;
    gw_endpoint_hold(gw_endpoint_entry_of(target));
    let_go_of_endpoint(self);
    self->endpoint = target->endpoint;
    self->slot = &gw_endpoint_entry_of(target)->slots[self->worker->thread.index];
    gw_count(&self->slot->attempts, 1);
    gw_count(&self->slot->in_flight, 1);
    errno = 0;
    self->target.sock =
        h2o_socket_connect(self->worker->thread.loop, (struct sockaddr *)&address, target->address.sa_len, on_connect);
    if (self->target.sock == NULL) {
        gw_room_leave(self->endpoint->counted);
        self->connect_failure = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM
                                    ? GW_REASON_INTERNAL_ERROR
                                    : GW_REASON_CONNECT_FAILED;
        end_attempt(self, true);
        return false;
    }
    self->target.sock->data = self;
    self->transport = gw_transport_hold(target->transport);
    self->state = GW_L4_CONNECTING;
    arm(self, self->group->conf->timeouts.connect_ms);
    return true;
}

static uint32_t pick(struct gw_l4_connection *self, struct routing_balancer *balancer)
{
    const struct routing_facts facts = {.peer_ip = self->super.peer_ip,
                                        .client_ip = self->super.peer_ip,
                                        .peer_port = self->super.peer_port,
                                        .port = self->super.local_port};
    struct routing_pick pick = {.exclude = self->tried, .now_ms = gw_thread_now(&self->worker->thread)};
    uint32_t index;

    if (self->group->uses_key)
        pick.has_key = routing_balance_key(self->group->conf, &facts, &pick.key);
    index = routing_balancer_pick(balancer, &pick, NULL);
    if (index < ROUTING_BUSY_TARGETS && self->group->counts_load) {
        self->load = self->group->targets[index].load;
        if (!routing_target_enter(self->load, self->group->max_requests)) {
            self->load = NULL; /* another thread had the last place */
            index = ROUTING_BUSY_TARGETS;
        }
    }
    if (index == ROUTING_BUSY_TARGETS && self->connect_failure == GW_REASON_NO_TARGETS)
        self->connect_failure = GW_REASON_TARGETS_BUSY;
    return index;
}

/* Counts the connection that will be attempted; each is a connection of its own, so that requests and connections of
 * target_limits are one. */
static bool has_room(struct gw_l4_connection *self, const struct routing_target *target)
{
    const struct gw_endpoint *endpoint = target->endpoint;
    if (gw_room_enter(endpoint->counted, 0, self->group->max_group_connections) == GW_POOL_READY)
        return true;
    self->connect_failure = GW_REASON_CIRCUIT_CONNECTIONS;
    gw_count(&self->worker->stats.circuit_refused[GW_REASON_CIRCUIT_CONNECTIONS - GW_REASON_CIRCUIT_OPEN], 1);
    return false;
}

/* Targets change: what was tried is that of the list before, whose last one failed. */
static void look_at_targets(struct gw_l4_connection *self)
{
    const struct routing_target_group *group =
        gw_view_now(self->held->snapshot, self->worker->thread.index, self->group);

    if (group == self->group)
        return;
    gw_view_hold(group);
    gw_view_release(self->group);
    self->group = group;
    self->tried = 0;
    for (uint32_t i = 0; i != group->size && i != 64; ++i)
        if (group->targets[i].endpoint == self->endpoint)
            self->tried |= (uint64_t)1 << i;
}

/* The next target that was not tried, until there is none. */
static void connect_to_next(struct gw_l4_connection *self)
{
    const struct gw_snapshot *snapshot = self->held->snapshot;
    look_at_targets(self);
    struct routing_balancer *balancer =
        snapshot->balancers[self->worker->thread.index * snapshot->num_groups + self->group->index];

    while (self->attempts != MAX_ATTEMPTS) {
        uint32_t index = pick(self, balancer);
        if (index >= ROUTING_BUSY_TARGETS || !has_room(self, &self->group->targets[index]))
            break;
        if (attempt(self, &self->group->targets[index], index))
            return;
    }
    gw_l4_end(self, self->connect_failure, self->connect_error);
}

static void on_attempt_failed(struct gw_l4_connection *self, enum gw_reason why, const char *error)
{
    close_target(self, false);
    self->connect_failure = why;
    self->connect_error = error;
    end_attempt(self, true);
    connect_to_next(self);
}

/* Counters of the connection move to the group's. */
static void count_for(struct gw_l4_connection *self, struct gw_l4_stats *stats)
{
    if (self->stats == stats)
        return;
    gw_count(&counters(self)->open, (uint64_t)-1);
    gw_l4_stats_hold(stats);
    gw_l4_stats_release(self->stats);
    self->stats = stats;
    gw_count(&counters(self)->open, 1);
}

/* RFC 6066 3 and RFC 8446 6: unrecognized_name and decode_error, fatal, for those who can read it. */
static void refuse_hello(struct gw_l4_connection *self, enum gw_reason reason, const char *error)
{
    char alert[] = {21, 3, 3, 0, 2, 2, reason == GW_REASON_SERVER_NAME_UNKNOWN ? 112 : 50};
    if (send(h2o_socket_get_fd(self->client.sock), alert, sizeof(alert), MSG_NOSIGNAL) == -1) {
        /* it is gone: there is nobody to tell */
    }
    shutdown(h2o_socket_get_fd(self->client.sock), SHUT_WR);
    self->loss = reason;
    gw_l4_end(self, GW_REASON_NONE, error);
}

static void choose(struct gw_l4_connection *self)
{
    const char *name = self->super.server_name;
    h2o_iovec_t server_name = {(char *)name, name != NULL ? strlen(name) : 0};
    uint32_t random = (uint32_t)(gw_thread_random(&self->worker->thread) >> 32);
    struct gw_l4_choice choice = gw_l4_choose(self->listener, server_name, random, NULL);

    count_for(self, choice.stats);
    if ((self->group = choice.group) == NULL) {
        if (choice.reason == GW_REASON_SERVER_NAME_UNKNOWN && self->hello != NULL)
            refuse_hello(self, choice.reason, NULL);
        else
            gw_l4_end(self, choice.reason, NULL);
        return;
    }
    self->connect_failure = GW_REASON_NO_TARGETS;
    connect_to_next(self);
}

/* ---- the server name of TLS that is passed through ---- */

static void on_whole_hello(struct gw_l4_connection *self)
{
    h2o_socket_read_stop(self->client.sock);
    if (self->hello->name_len != 0) {
        memcpy(self->name, self->hello->name, self->hello->name_len + 1);
        self->super.server_name = self->name;
    }
    choose(self);
}

/* err: nothing comes behind what is there. */
static void look_at_hello(struct gw_l4_connection *self, const char *err)
{
    h2o_socket_t *sock = self->client.sock;

    switch (tls_hello_read(self->hello, (const uint8_t *)sock->input->bytes, sock->input->size)) {
    case TLS_HELLO_DONE:
        on_whole_hello(self);
        return;
    case TLS_HELLO_NOT_TLS:
        gw_l4_end(self, GW_REASON_CLIENT_HELLO_BAD, "not TLS");
        return;
    case TLS_HELLO_MALFORMED:
        refuse_hello(self, GW_REASON_CLIENT_HELLO_BAD, "malformed ClientHello");
        return;
    case TLS_HELLO_TOO_LARGE:
        refuse_hello(self, GW_REASON_CLIENT_HELLO_BAD, "ClientHello too large");
        return;
    case TLS_HELLO_INCOMPLETE:
        if (err != NULL)
            gw_l4_end(self, GW_REASON_CLIENT_CLOSED, NULL);
        return;
    }
}

static void on_hello_bytes(h2o_socket_t *sock, const char *err)
{
    look_at_hello(sock->data, gw_socket_read(sock, err, HELLO_READ));
}

static void read_hello(struct gw_l4_connection *self)
{
    self->state = GW_L4_HELLO;
    self->hello = h2o_mem_alloc(sizeof(*self->hello));
    memset(self->hello, 0, sizeof(*self->hello));
    arm(self, self->held->snapshot->config->limits.header_timeout_ms);
    h2o_socket_read_start(self->client.sock, on_hello_bytes);
    if (self->client.sock->input->size != 0) /* behind a PROXY header */
        look_at_hello(self, NULL);
}

/* ---- the beginning ---- */

/* A connection goes on while its listener is gone and while the process drains: nobody but its two ends knows when it
 * is done. */
static void on_drain(struct gw_conn *conn) {}

static void on_close(struct gw_conn *conn, enum gw_stream_end end)
{
    gw_l4_end(connection_from(conn), gw_reason_of_end(end), NULL);
}

static const struct gw_conn_ops conn_ops = {on_drain, on_close, NULL};

void gw_l4_cut(struct gw_worker *worker, const struct gw_endpoint *endpoint)
{
    gw_udp_cut(worker, endpoint);
    for (h2o_linklist_t *node = worker->server.conns.next; node != &worker->server.conns; node = node->next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        struct gw_l4_connection *self = connection_from(conn);
        if (conn->ops != &conn_ops || self->endpoint != endpoint)
            continue;
        self->is_cut = true;
        arm(self, 0);
    }
}

static void init_side(struct gw_l4_connection *self, struct gw_l4_side *side, struct gw_l4_side *other)
{
    side->connection = self;
    side->other = other;
}

static struct gw_l4_connection *create(struct gw_worker *worker, h2o_socket_t *sock, const struct gw_peer *peer,
                                       struct gw_held_snapshot *held, const struct gw_snapshot_listener *listener)
{
    struct gw_l4_connection *self = h2o_mem_alloc(sizeof(*self));

    memset(self, 0, sizeof(*self));
    self->worker = worker;
    self->held = held;
    ++held->uses;
    self->listener = listener;
    self->protocol = gw_listener_protocols[listener->conf->protocol];
    self->stats = gw_l4_stats_hold(listener->l4->stats);
    self->idle_timeout_ms = listener->conf->idle_timeout_ms != 0 ? listener->conf->idle_timeout_ms : no_limit_ms;
    self->started_us = gw_now_us();
    gw_timer_init(&self->timer, on_timer);
    init_side(self, &self->client, &self->target);
    init_side(self, &self->target, &self->client);
    self->client.sock = sock;
    sock->data = self;
    self->super.ops = &conn_ops;
    gw_conn_init(&self->super, &worker->server, sock, peer);
    gw_socket_setup(sock);
    gw_count(&counters(self)->open, 1);
    return self;
}

void gw_l4_serve(struct gw_worker *worker, h2o_socket_t *sock, const struct gw_peer *peer,
                 struct gw_held_snapshot *held, const struct gw_snapshot_listener *listener)
{
    struct gw_l4_connection *self = create(worker, sock, peer, held, listener);
    int64_t now = __atomic_add_fetch((int64_t *)&self->stats->whole->num_open, 1, __ATOMIC_RELAXED);

    if (listener->conf->max_connections != 0 && (uint64_t)now > listener->conf->max_connections)
        gw_l4_end(self, GW_REASON_LISTENER_FULL, NULL);
    else if (listener->conf->protocol == GW_LISTENER_TLS_PASSTHROUGH)
        read_hello(self);
    else
        choose(self);
}
