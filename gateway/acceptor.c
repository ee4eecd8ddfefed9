/* Accepting connections: the listening sockets of one thread. What becomes of them: arrival.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include "gateway/base/log.h"
#include "gateway/worker.h"

enum {
    ACCEPTS_A_TURN = 4,       /* so that a flood of connections does not starve those that are there */
    EXHAUSTED_PAUSE_MS = 100, /* out of descriptors: a level-triggered listener would spin */
};

/* ---- accepting ---- */

static void on_resume(struct gw_timer *timer);
static void on_readable(h2o_socket_t *listener, const char *err);

static void pause_for(struct gw_acceptor *accept, uint64_t ms)
{
    for (size_t i = 0; i != accept->num_socks; ++i)
        h2o_socket_read_stop(accept->socks[i]);
    gw_timer_arm(accept->worker->thread.wheel, &accept->resume, gw_thread_now(&accept->worker->thread) + ms);
}

int gw_acceptor_spare_fd(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

/* Out of descriptors nobody could even be told so: the one that is kept for this lets those who wait in the queue in
 * and out, so that they see a closed connection at once and can try elsewhere. Then a pause, in which others end. */
static void turn_away(struct gw_acceptor *accept, h2o_socket_t *listener)
{
    struct gw_worker *worker = accept->worker;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    for (unsigned i = 0; i != ACCEPTS_A_TURN; ++i) {
        if (worker->spare_fd == -1 && (worker->spare_fd = gw_acceptor_spare_fd()) == -1)
            break;
        close(worker->spare_fd);
        int fd = accept4(h2o_socket_get_fd(listener), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd != -1) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(fd);
            gw_arrival_count_refusal(worker, GW_REASON_OUT_OF_DESCRIPTORS, NULL, NULL);
        }
        worker->spare_fd = gw_acceptor_spare_fd();
        if (fd == -1)
            break;
    }
}

static void on_exhausted(struct gw_acceptor *accept, h2o_socket_t *listener)
{
    int why = errno;
    gw_log(GW_LOG_ERROR, "accept", "cannot accept on %.*s: %s; raise the limit of open files", (int)accept->address.len,
           accept->address.base, strerror(why));
    gw_count(&accept->worker->stats.accept_errors, 1);
    if (why == EMFILE || why == ENFILE)
        turn_away(accept, listener);
    pause_for(accept, EXHAUSTED_PAUSE_MS);
}

/* accept_rate, of limits and of the listener: those above it wait in the kernel's queue. */
struct rates {
    uint64_t of_all, of_listener; /* 0: none */
    struct gw_rate *all, *listener;
};

static struct rates rates_of(const struct gw_acceptor *accept)
{
    const struct gw_snapshot *snapshot = accept->worker->held->snapshot;
    struct rates rates = {.of_all = snapshot->config->limits.accept_rate,
                          .all = gw_gate_rate(accept->worker->process->gate)};

    if (accept->listener != UINT32_MAX && snapshot->listeners[accept->listener].accepted != NULL) {
        rates.of_listener = snapshot->listeners[accept->listener].conf->accept_rate;
        rates.listener = snapshot->listeners[accept->listener].accepted;
    }
    return rates;
}

static bool must_wait(struct gw_acceptor *accept)
{
    struct rates rates = rates_of(accept);
    uint64_t wait_us = 0, more_us;

    if (__builtin_expect((rates.of_all | rates.of_listener) == 0, 1))
        return false;
    if (rates.of_all != 0)
        wait_us = gw_rate_wait_us(rates.all, rates.of_all, gw_now_us());
    if (rates.of_listener != 0 && (more_us = gw_rate_wait_us(rates.listener, rates.of_listener, gw_now_us())) > wait_us)
        wait_us = more_us;
    if (wait_us == 0)
        return false;
    gw_count(&accept->worker->stats.accept_pauses, 1);
    pause_for(accept, wait_us / 1000 + 1);
    return true;
}

static void note_rate(struct gw_acceptor *accept)
{
    struct rates rates = rates_of(accept);
    if (__builtin_expect(rates.of_all != 0, 0))
        gw_rate_take(rates.all, rates.of_all, gw_now_us());
    if (__builtin_expect(rates.of_listener != 0, 0))
        gw_rate_take(rates.listener, rates.of_listener, gw_now_us());
}

static void accept_some(struct gw_acceptor *accept, h2o_socket_t *listener, unsigned max, bool is_last)
{
    for (unsigned i = 0; i != max; ++i) {
        if (!is_last && (must_wait(accept) || gw_thread_is_late(&accept->worker->thread)))
            break; /* it is readable still, and the next turn is near */
        errno = 0;
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock != NULL) {
            note_rate(accept);
            gw_arrival_begin(accept, sock);
        } else {
            if (!is_last && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
                on_exhausted(accept, listener);
            if (errno != ECONNABORTED && errno != EINTR)
                break;
        }
    }
}

static void on_readable(h2o_socket_t *listener, const char *err)
{
    accept_some(listener->data, listener, ACCEPTS_A_TURN, false);
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
        accept_some(accept, accept->socks[i], UINT32_MAX, true);
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
        if (!publication->listening[i]->is_udp &&
            h2o_memis(text.base, text.len, accept->address.base, accept->address.len))
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
        if (!publication->listening[i]->is_udp) /* those: gateway/l4/udp.h */
            start(worker, publication->listening[i]);
}

void gw_acceptor_stop_all(struct gw_worker *worker)
{
    for (h2o_linklist_t *node = worker->acceptors.next; node != &worker->acceptors; node = node->next)
        stop(H2O_STRUCT_FROM_MEMBER(struct gw_acceptor, link, node));
}
