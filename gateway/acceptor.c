/* Accepting connections: listening sockets of one thread, TLS handshakes, connection caps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/err.h>
#include "gateway/base/log.h"
#include "gateway/http/socket.h"
#include "gateway/worker.h"

enum {
    ACCEPTS_A_TURN = 16,      /* so that a flood of connections does not starve those that are there */
    EXHAUSTED_PAUSE_MS = 100, /* out of descriptors: a level-triggered listener would spin (libh2o.md 3.6) */
};

struct handshake {
    struct gw_acceptor *accept;
    struct gw_held_snapshot *held; /* its TLS context is in use */
    h2o_socket_t *sock;
    struct gw_timer timer;
    h2o_linklist_t link;
};

static void serve(struct gw_acceptor *accept, h2o_socket_t *sock)
{
    gw_http1_serve(&accept->worker->server, sock, accept, accept->port);
}

static void drop_connection(struct gw_worker *worker)
{
    gw_count(&worker->stats.connections, (uint64_t)-1);
    __atomic_fetch_sub((int64_t *)&worker->process->num_connections, 1, __ATOMIC_RELAXED);
}

/* ---- TLS handshakes ---- */

static void end_handshake(struct handshake *handshake)
{
    struct gw_worker *worker = handshake->accept->worker;
    gw_timer_disarm(&handshake->timer);
    gw_held_snapshot_release(worker, handshake->held);
    h2o_linklist_unlink(&handshake->link);
    --worker->num_handshakes;
    free(handshake);
}

static void count_failure(struct gw_worker *worker, enum tls_failure failure)
{
    gw_count(&worker->stats.handshake_failures, 1);
    gw_count(&worker->stats.handshake_failures_by[failure], 1);
}

/* Where OpenSSL gave up, its queue of errors holds this handshake's alone: it is emptied at every step of one. */
static enum tls_failure failure_of(const char *err)
{
    bool is_gone = err == h2o_socket_error_closed || err == h2o_socket_error_io;
    enum tls_failure failure = is_gone ? TLS_FAILURE_CLOSED : tls_failure_of(ERR_peek_error());
    ERR_clear_error();
    return failure;
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct handshake *handshake = sock->data;
    struct gw_acceptor *accept = handshake->accept;
    struct gw_worker *worker = accept->worker;

    end_handshake(handshake);
    if (err != NULL) {
        count_failure(worker, failure_of(err));
        drop_connection(worker);
        h2o_socket_close(sock);
        return;
    }
    gw_count(&worker->stats.handshakes, 1);
    serve(accept, sock);
}

static void abandon(struct handshake *handshake)
{
    struct gw_worker *worker = handshake->accept->worker;
    h2o_socket_t *sock = handshake->sock;

    count_failure(worker, TLS_FAILURE_TIMEOUT);
    end_handshake(handshake);
    drop_connection(worker);
    h2o_socket_close(sock);
}

static void on_handshake_timeout(struct gw_timer *timer)
{
    abandon(H2O_STRUCT_FROM_MEMBER(struct handshake, timer, timer));
}

static void start_handshake(struct gw_acceptor *accept, h2o_socket_t *sock, const struct gw_snapshot_listener *listener)
{
    struct gw_worker *worker = accept->worker;
    struct handshake *handshake = h2o_mem_alloc(sizeof(*handshake));

    *handshake = (struct handshake){.accept = accept, .held = worker->held, .sock = sock};
    ++handshake->held->uses;
    ++worker->num_handshakes;
    h2o_linklist_insert(&worker->handshakes, &handshake->link);
    gw_timer_init(&handshake->timer, on_handshake_timeout);
    gw_timer_arm(worker->thread.wheel, &handshake->timer,
                 gw_thread_now(&worker->thread) + listener->conf->tls->handshake_timeout_ms);
    sock->data = handshake;
    h2o_socket_ssl_handshake(sock, tls_context_ssl(listener->tls), NULL, on_handshake);
}

/* ---- accepting ---- */

static void on_connection(struct gw_acceptor *accept, h2o_socket_t *sock)
{
    struct gw_worker *worker = accept->worker;
    const struct gw_snapshot *snapshot = worker->held->snapshot;
    uint64_t cap = snapshot->config->limits.max_connections;
    int64_t now = __atomic_add_fetch((int64_t *)&worker->process->num_connections, 1, __ATOMIC_RELAXED);

    gw_count(&worker->stats.connections, 1);
    if (cap != 0 && (uint64_t)now > cap) {
        gw_count(&worker->stats.refused_connections, 1);
        gw_log(GW_LOG_WARNING, "accept", "limits.max_connections (%lu) reached: connection closed", (unsigned long)cap);
        drop_connection(worker);
        h2o_socket_close(sock);
    } else if (accept->listener == UINT32_MAX) {
        drop_connection(worker);
        h2o_socket_close(sock);
    } else if (snapshot->listeners[accept->listener].tls != NULL) {
        start_handshake(accept, sock, &snapshot->listeners[accept->listener]);
    } else {
        serve(accept, sock);
    }
}

static void on_resume(struct gw_timer *timer);
static void on_readable(h2o_socket_t *listener, const char *err);

static void on_exhausted(struct gw_acceptor *accept)
{
    gw_log(GW_LOG_ERROR, "accept", "cannot accept on %.*s: %s; raise the limit of open files", (int)accept->address.len,
           accept->address.base, strerror(errno));
    gw_count(&accept->worker->stats.accept_errors, 1);
    for (size_t i = 0; i != accept->num_socks; ++i)
        h2o_socket_read_stop(accept->socks[i]);
    gw_timer_arm(accept->worker->thread.wheel, &accept->resume,
                 gw_thread_now(&accept->worker->thread) + EXHAUSTED_PAUSE_MS);
}

static void accept_some(struct gw_acceptor *accept, h2o_socket_t *listener, unsigned max)
{
    for (unsigned i = 0; i != max; ++i) {
        errno = 0;
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock != NULL) {
            on_connection(accept, sock);
        } else {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                on_exhausted(accept);
            if (errno != ECONNABORTED && errno != EINTR)
                break;
        }
    }
}

static void on_readable(h2o_socket_t *listener, const char *err)
{
    accept_some(listener->data, listener, ACCEPTS_A_TURN);
}

static void on_resume(struct gw_timer *timer)
{
    struct gw_acceptor *accept = H2O_STRUCT_FROM_MEMBER(struct gw_acceptor, resume, timer);
    for (size_t i = 0; i != accept->num_socks; ++i)
        h2o_socket_read_start(accept->socks[i], on_readable);
}

/* ---- the set of listening sockets ---- */

static struct gw_acceptor *find(struct gw_worker *worker, h2o_iovec_t address)
{
    for (h2o_linklist_t *node = worker->acceptors.next; node != &worker->acceptors; node = node->next) {
        struct gw_acceptor *accept = H2O_STRUCT_FROM_MEMBER(struct gw_acceptor, link, node);
        if (h2o_memis(accept->address.base, accept->address.len, address.base, address.len))
            return accept;
    }
    return NULL;
}

static void listen_on(struct gw_acceptor *accept, const struct gw_listening *listening)
{
    struct gw_worker *worker = accept->worker;
    unsigned stride = worker->process->num_workers;

    accept->socks = h2o_mem_alloc(sizeof(*accept->socks) * (listening->num_fds / stride + 1));
    for (unsigned i = worker->thread.index; i < listening->num_fds; i += stride) {
        h2o_socket_t *sock =
            h2o_evloop_socket_create(worker->thread.loop, listening->fds[i], H2O_SOCKET_FLAG_DONT_READ);
        sock->data = accept;
        h2o_socket_read_start(sock, on_readable);
        accept->socks[accept->num_socks++] = sock;
    }
}

static void start(struct gw_worker *worker, const struct gw_listening *listening)
{
    struct gw_acceptor *accept = find(worker, listening->address.text);

    if (accept == NULL) {
        accept = h2o_mem_alloc(sizeof(*accept));
        *accept = (struct gw_acceptor){.worker = worker, .port = listening->address.port};
        accept->address = h2o_strdup(NULL, listening->address.text.base, listening->address.text.len);
        gw_timer_init(&accept->resume, on_resume);
        h2o_linklist_insert(&worker->acceptors, &accept->link);
    }
    accept->listener = listening->listener;
    if (accept->num_socks == 0)
        listen_on(accept, listening);
}

/* What waits in the queue would be reset by the close: take it first. */
static void stop(struct gw_acceptor *accept)
{
    for (size_t i = 0; i != accept->num_socks; ++i)
        accept_some(accept, accept->socks[i], UINT32_MAX);
    gw_timer_disarm(&accept->resume);
    for (size_t i = 0; i != accept->num_socks; ++i)
        h2o_socket_close(accept->socks[i]);
    free(accept->socks);
    accept->socks = NULL;
    accept->num_socks = 0;
}

static void drain_connections(struct gw_worker *worker, const struct gw_acceptor *accept)
{
    h2o_linklist_t *node, *next;
    for (node = worker->server.conns.next; node != &worker->server.conns; node = next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        next = node->next;
        if (conn->listener == accept)
            conn->ops->drain(conn);
    }
}

static bool is_named(const struct gw_acceptor *accept, const struct gw_publication *publication)
{
    for (size_t i = 0; i != publication->num_listening; ++i) {
        h2o_iovec_t text = publication->listening[i]->address.text;
        if (h2o_memis(text.base, text.len, accept->address.base, accept->address.len))
            return true;
    }
    return false;
}

void gw_acceptor_remove(struct gw_worker *worker, const struct gw_publication *publication)
{
    for (h2o_linklist_t *node = worker->acceptors.next; node != &worker->acceptors; node = node->next) {
        struct gw_acceptor *accept = H2O_STRUCT_FROM_MEMBER(struct gw_acceptor, link, node);
        if (accept->listener == UINT32_MAX || is_named(accept, publication))
            continue;
        stop(accept);
        accept->listener = UINT32_MAX;
        drain_connections(worker, accept);
    }
}

void gw_acceptor_start(struct gw_worker *worker, const struct gw_publication *publication)
{
    for (size_t i = 0; i != publication->num_listening; ++i)
        start(worker, publication->listening[i]);
}

void gw_acceptor_stop_all(struct gw_worker *worker)
{
    for (h2o_linklist_t *node = worker->acceptors.next; node != &worker->acceptors; node = node->next)
        stop(H2O_STRUCT_FROM_MEMBER(struct gw_acceptor, link, node));
}
