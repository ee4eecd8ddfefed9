/* Listeners of protocol udp in one thread: they come and go with configurations, and end when their last flow does. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/l4/udp_flow.h"
#include "gateway/l4/udp_handover.h"
#include "gateway/listening.h"

enum {
    QUIET_MS = 2000,            /* of a flow that nobody can continue elsewhere: answers under way */
    QUIET_ELSEWHERE_MS = 10000, /* the same where nobody waits for the process to end */
};

int64_t gw_udp_max_flows(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return INT64_MAX;
    return (int64_t)(limit.rlim_cur / 4 * 3);
}

bool gw_udp_is_busy(const struct gw_udp *udp) { return udp != NULL && (udp->num_flows != 0 || udp->giving != NULL); }

/* ---- listeners ---- */

static void on_deadline(struct gw_timer *timer);

void gw_udp_each_flow(struct gw_udp_listener *listener, void (*act)(struct gw_udp_flow *))
{
    h2o_linklist_t *lists[] = {&listener->unproven, &listener->proven};
    for (unsigned i = 0; i != 2; ++i) {
        for (h2o_linklist_t *node = lists[i]->next, *next; node != lists[i]; node = next) {
            next = node->next;
            act(H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, link, node));
        }
    }
}

static void cut_off(struct gw_udp_flow *flow) { gw_udp_end(flow, GW_REASON_SHUTTING_DOWN); }

/* A question that has no answer yet was asked now, however long ago that was. */
static void give_time(struct gw_udp_flow *flow, uint64_t quiet_ms)
{
    if (flow->datagrams_in > flow->datagrams_out)
        flow->active_ms = gw_thread_now(&flow->listener->udp->worker->thread);
    gw_udp_shorten(flow, quiet_ms);
}

static void finish(struct gw_udp_flow *flow) { give_time(flow, QUIET_MS); }

static void leave(struct gw_udp_flow *flow) { give_time(flow, QUIET_ELSEWHERE_MS); }

static void close_sockets(struct gw_udp_listener *listener)
{
    for (size_t i = 0; i != listener->num_socks; ++i)
        h2o_socket_close(listener->socks[i].sock);
    listener->num_socks = 0;
}

static void on_let_go(struct gw_message *message)
{
    gw_listening_let_go(message->process, message->data, message->number);
}

static void let_go(struct gw_udp_listener *listener)
{
    struct gw_worker *worker = listener->udp->worker;

    close_sockets(listener);
    gw_process_tell_number(worker->process, on_let_go, worker, listener->listening, listener->unnamed_at);
    gw_timer_disarm(&listener->deadline);
    h2o_linklist_unlink(&listener->link);
    gw_udp_table_dispose(&listener->table);
    gw_l4_stats_release(listener->stats);
    free(listener->socks);
    free(listener);
}

/* Its last flow is over, or the time that they were given. */
static void on_deadline(struct gw_timer *timer)
{
    struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, deadline, timer);

    if (listener->index != UINT32_MAX)
        return;
    gw_udp_each_flow(listener, cut_off);
    let_go(listener);
}

static void read_sockets(struct gw_udp_listener *listener, bool is_on)
{
    for (size_t i = 0; i != listener->num_socks; ++i) {
        const struct gw_udp_sock *sock = &listener->socks[i];
        if (!is_on)
            h2o_socket_read_stop(sock->sock);
        else if (!sock->is_waiting && !listener->udp->has_left)
            h2o_socket_read_start(sock->sock, gw_udp_on_datagrams);
    }
}

void gw_udp_read(struct gw_udp *udp, bool is_on)
{
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next)
        read_sockets(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node), is_on);
}

void gw_udp_read_freed(struct gw_udp_listener *listener, uint32_t thread, uint32_t num_threads)
{
    for (size_t i = 0; i != listener->num_socks; ++i)
        if (num_threads == 0 || listener->socks[i].index % num_threads == thread)
            listener->socks[i].is_waiting = false;
    read_sockets(listener, true);
}

static void listen_on(struct gw_udp_listener *listener)
{
    const struct gw_listening *listening = listener->listening;
    struct gw_worker *worker = listener->udp->worker;
    unsigned stride = worker->process->num_workers;

    listener->socks = h2o_mem_alloc(sizeof(*listener->socks) * (listening->num_fds / stride + 1));
    for (unsigned i = worker->thread.index; i < listening->num_fds; i += stride) {
        int fd = fcntl(listening->fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd == -1) {
            gw_log(GW_LOG_ERROR, "udp", "cannot listen on %s in thread %u: %s", listening->address.text.base,
                   worker->thread.index, strerror(errno));
            continue;
        }
        h2o_socket_t *sock = h2o_evloop_socket_create(worker->thread.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
        sock->data = listener;
        listener->socks[listener->num_socks++] = (struct gw_udp_sock){sock, i, listener->udp->is_waiting};
    }
    read_sockets(listener, true);
}

static bool is_any(const struct gw_address *address)
{
    static const uint8_t zero[16];
    const union gw_udp_address *sa = (const union gw_udp_address *)&address->sa;
    return sa->sa.sa_family == AF_INET6 ? memcmp(&sa->v6.sin6_addr, zero, 16) == 0 : sa->v4.sin_addr.s_addr == 0;
}

static struct gw_udp_listener *create_listener(struct gw_udp *udp, struct gw_listening *listening)
{
    struct gw_udp_listener *listener = h2o_mem_alloc(sizeof(*listener));

    *listener = (struct gw_udp_listener){.udp = udp,
                                         .listening = listening,
                                         .port = listening->address.port,
                                         .is_v6 = listening->address.sa.ss_family == AF_INET6,
                                         .is_wildcard = is_any(&listening->address)};
    gw_timer_init(&listener->deadline, on_deadline);
    h2o_linklist_init_anchor(&listener->unproven);
    h2o_linklist_init_anchor(&listener->proven);
    h2o_linklist_insert(&udp->listeners, &listener->link);
    listen_on(listener);
    return listener;
}

static struct gw_udp *create(struct gw_worker *worker)
{
    struct gw_udp *udp = h2o_mem_alloc(sizeof(*udp));

    memset(udp, 0, sizeof(*udp));
    udp->worker = worker;
    udp->is_waiting = gw_udp_awaits_flows(worker->process);
    h2o_linklist_init_anchor(&udp->listeners);
    if (getrandom(udp->seed, sizeof(udp->seed), 0) != sizeof(udp->seed))
        h2o_fatal("no random numbers");
    if ((udp->epoll = epoll_create1(EPOLL_CLOEXEC)) == -1)
        h2o_fatal("no epoll");
    udp->can_bundle = gw_udp_can_bundle();
    gw_udp_batch_init(&udp->in, GW_UDP_BATCH_IN);
    gw_udp_batch_init(&udp->out, GW_UDP_BATCH_OUT);
    udp->poll = h2o_evloop_socket_create(worker->thread.loop, udp->epoll, H2O_SOCKET_FLAG_DONT_READ);
    udp->poll->data = udp;
    h2o_socket_read_start(udp->poll, gw_udp_on_answers);
    return udp;
}

struct gw_udp *gw_udp_of(struct gw_worker *worker)
{
    if (worker->udp == NULL)
        worker->udp = create(worker);
    return worker->udp;
}

struct gw_udp_listener *gw_udp_find(struct gw_udp *udp, h2o_iovec_t address)
{
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node);
        h2o_iovec_t text = listener->listening->address.text;
        if (h2o_memis(text.base, text.len, address.base, address.len))
            return listener;
    }
    return NULL;
}

static struct gw_udp_listener *find(struct gw_udp *udp, const struct gw_listening *listening)
{
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node);
        if (listener->listening == listening)
            return listener;
    }
    return NULL;
}

/* No new flows; those that are there have shutdown_timeout to end. */
static void remove_listener(struct gw_udp_listener *listener)
{
    struct gw_worker *worker = listener->udp->worker;
    uint64_t left_ms = listener->table.size != 0 ? worker->held->snapshot->config->shutdown_timeout_ms : 0;

    listener->index = UINT32_MAX;
    listener->unnamed_at = listener->listening->unnamed_at;
    gw_timer_arm(worker->thread.wheel, &listener->deadline, gw_thread_now(&worker->thread) + left_ms);
}

static bool is_named(const struct gw_udp_listener *listener, const struct gw_publication *publication)
{
    for (size_t i = 0; i != publication->num_listening; ++i)
        if (publication->listening[i] == listener->listening)
            return true;
    return false;
}

static void name_listener(struct gw_worker *worker, struct gw_listening *listening)
{
    struct gw_udp_listener *listener;

    if ((listener = find(gw_udp_of(worker), listening)) == NULL)
        listener = create_listener(worker->udp, listening);
    listener->index = listening->listener;
    gw_l4_stats_release(listener->stats);
    listener->stats = gw_l4_stats_hold(worker->held->snapshot->listeners[listener->index].l4->stats);
    gw_timer_disarm(&listener->deadline);
}

void gw_udp_publish(struct gw_worker *worker, const struct gw_publication *publication)
{
    for (size_t i = 0; i != publication->num_listening && !worker->server.is_draining; ++i)
        if (publication->listening[i]->is_udp)
            name_listener(worker, publication->listening[i]);
    if (worker->udp == NULL)
        return;
    ++worker->udp->epoch;
    for (h2o_linklist_t *node = worker->udp->listeners.next; node != &worker->udp->listeners; node = node->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node);
        if (listener->index != UINT32_MAX && !is_named(listener, publication))
            remove_listener(listener);
    }
}

/* ---- targets come and go ---- */

void gw_udp_look_anew(struct gw_worker *worker)
{
    if (worker->udp != NULL)
        ++worker->udp->epoch;
}

void gw_udp_cut(struct gw_worker *worker, const struct gw_endpoint *endpoint)
{
    struct gw_udp *udp = worker->udp;

    for (h2o_linklist_t *l = udp != NULL ? udp->listeners.next : NULL; udp != NULL && l != &udp->listeners;
         l = l->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, l);
        for (unsigned i = 0; i != 2; ++i) {
            h2o_linklist_t *list = i == 0 ? &listener->unproven : &listener->proven;
            for (h2o_linklist_t *node = list->next, *next; node != list; node = next) {
                struct gw_udp_flow *flow = H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, link, node);
                next = node->next;
                if (flow->endpoint == endpoint)
                    gw_udp_end(flow, GW_REASON_TARGET_DEREGISTERED);
            }
        }
    }
}

/* ---- the end ---- */

void gw_udp_drain(struct gw_worker *worker, enum gw_udp_drain how)
{
    struct gw_udp *udp = worker->udp;

    if (udp == NULL || udp->giving != NULL) /* they will be gone, or it comes back to this */
        return;
    udp->is_draining = true;
    if (how == GW_UDP_LEAVE) {
        udp->has_left = true;
        gw_udp_read(udp, false);
    }
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next)
        gw_udp_each_flow(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node),
                         how == GW_UDP_LEAVE ? leave : finish);
}

void gw_udp_stop(struct gw_worker *worker)
{
    struct gw_udp *udp = worker->udp;

    for (h2o_linklist_t *node = udp != NULL ? udp->listeners.next : NULL; udp != NULL && node != &udp->listeners;
         node = node->next)
        gw_udp_each_flow(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node), cut_off);
}
