/* Sockets and datagrams: from clients in batches of a listener's socket, to each target by its flow's socket; answers
 * from the sockets of flows, and out together by the listener's. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/l4/udp_flow.h"
#include "gateway/l4/udp_handover.h"
#include "gateway/listening.h"

enum {
    BATCHES_A_TURN = 4, /* so that a flood does not hold up the others */
    EVENTS_A_TURN = 64,
    ANSWERS_A_TURN = 16, /* of one flow */
    RETRIES = 2,         /* of a datagram whose way an ICMP error closed; the error was another one's */
    BEHIND_MS = 50,
    NEWCOMERS_A_TURN = 8,
    QUIET_ELSEWHERE_MS = 10000, /* the same where nobody waits for the process to end */
    QUIET_MS = 2000,            /* of a flow that nobody can continue elsewhere: answers under way */
};

int64_t gw_udp_max_flows(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return INT64_MAX;
    return (int64_t)(limit.rlim_cur / 4 * 3);
}

bool gw_udp_is_busy(const struct gw_udp *udp) { return udp != NULL && (udp->num_flows != 0 || udp->giving != NULL); }

void gw_udp_drop(struct gw_udp_listener *listener, enum gw_udp_dropped why)
{
    struct gw_l4_stats *stats = listener->stats;
    gw_count(&stats->slots[listener->udp->worker->thread.index].dropped[why], 1);
}

static enum gw_udp_dropped drop_of_errno(int error)
{
    switch (error) {
    case EMSGSIZE:
        return GW_UDP_DROPPED_TOO_LARGE;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return GW_UDP_DROPPED_NO_ROOM;
    default:
        return GW_UDP_DROPPED_UNREACHABLE;
    }
}

/* ---- batches ---- */

static void init_batch(struct gw_udp_batch *batch, unsigned size)
{
    batch->msgs = h2o_mem_alloc(sizeof(*batch->msgs) * size);
    batch->iovs = h2o_mem_alloc(sizeof(*batch->iovs) * size);
    batch->peers = h2o_mem_alloc(sizeof(*batch->peers) * size);
    batch->control = h2o_mem_alloc(sizeof(*batch->control) * size);
    batch->bytes =
        mmap(NULL, (size_t)size * GW_UDP_DATAGRAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (batch->bytes == MAP_FAILED)
        h2o_fatal("no memory");
    memset(batch->msgs, 0, sizeof(*batch->msgs) * size);
    for (unsigned i = 0; i != size; ++i) {
        batch->msgs[i].msg_hdr.msg_iov = &batch->iovs[i];
        batch->msgs[i].msg_hdr.msg_iovlen = 1;
        batch->iovs[i] = (struct iovec){batch->bytes + (size_t)i * GW_UDP_DATAGRAM, GW_UDP_DATAGRAM};
    }
}

/* ---- to the target ---- */

static void prepare_onward(struct gw_udp *udp, const struct gw_udp_flow *flow, unsigned size)
{
    for (unsigned i = 0; i != size; ++i) {
        udp->onward_iovs[i][0] = (struct iovec){flow->proxy, flow->proxy_len};
        udp->onward[i].msg_hdr = (struct msghdr){.msg_iov = &udp->onward_iovs[i][flow->proxy != NULL ? 0 : 1],
                                                 .msg_iovlen = flow->proxy != NULL ? 2 : 1};
    }
}

static int send_onward(struct gw_udp *udp, const struct gw_udp_flow *flow, unsigned at, unsigned size)
{
    if (size - at != 1)
        return sendmmsg(flow->fd, udp->onward + at, size - at, MSG_NOSIGNAL);
    if (flow->proxy == NULL)
        return send(flow->fd, udp->onward_iovs[at][1].iov_base, udp->onward_iovs[at][1].iov_len, MSG_NOSIGNAL) >= 0
                   ? 1
                   : -1;
    return sendmsg(flow->fd, &udp->onward[at].msg_hdr, MSG_NOSIGNAL) >= 0 ? 1 : -1;
}

/* An ICMP error, of an earlier datagram, is told once, instead of sending: the datagram is sent after it, perhaps to
 * another target. False: the flow is over. */
static bool hear_of_refusal(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    gw_udp_refused(flow);
    if (flow->fd == -1) {
        gw_udp_end(flow, GW_REASON_CONNECT_FAILED);
        return false;
    }
    prepare_onward(udp, flow, size);
    return true;
}

/* What is in `onward` goes to the target of its flow. */
static void forward(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    unsigned retries = 0;

    if (size == 0)
        return;
    if (__builtin_expect(gw_udp_is_stale(flow), 0)) {
        bool was_in_turn = udp->is_in_turn;
        udp->is_in_turn = true; /* it may end in there, and is looked at after it */
        gw_udp_review(flow);
        udp->is_in_turn = was_in_turn;
        if (flow->fd == -1) {
            if (!was_in_turn)
                gw_udp_bury(udp);
            return;
        }
    }
    prepare_onward(udp, flow, size);
    for (unsigned at = 0; at != size;) {
        int sent = send_onward(udp, flow, at, size);
        if (sent > 0) {
            at += (unsigned)sent;
        } else if (errno == ECONNREFUSED && retries++ != RETRIES) {
            if (!hear_of_refusal(udp, flow, size))
                return;
        } else if (errno != EINTR) {
            gw_udp_drop(flow->listener, drop_of_errno(errno));
            ++at;
        }
    }
}

/* ---- from clients ---- */

static void note_client(struct gw_udp_flow *flow, size_t len)
{
    struct gw_l4_slot *slot = gw_udp_counters(flow);

    flow->active_ms = gw_thread_now(&flow->listener->udp->worker->thread);
    if (flow->datagrams_in++ != 0)
        flow->is_used = true;
    flow->bytes_in += len;
    gw_count(&slot->datagrams_in, 1);
    gw_count(&slot->bytes_in, len);
    if (flow->has_answer && !flow->is_proven) {
        flow->is_proven = true;
        h2o_linklist_unlink(&flow->link);
        h2o_linklist_insert(&flow->listener->proven, &flow->link);
    }
}

/* Datagrams of one flow that stand together go on together. */
static void take_batch(struct gw_udp_listener *listener, unsigned size)
{
    struct gw_udp *udp = listener->udp;
    struct gw_udp_flow *flow = NULL, *run = NULL;
    unsigned run_size = 0;

    for (unsigned i = 0; i != size; ++i) {
        struct gw_udp_key key;
        if (!gw_udp_read_key(listener, &udp->in.msgs[i].msg_hdr, &key)) {
            gw_udp_drop(listener, GW_UDP_DROPPED_BAD_SOURCE);
            continue;
        }
        if (run == NULL || memcmp(&run->key, &key, sizeof(key)) != 0) {
            uint64_t hash = gw_udp_hash(udp, &key);
            forward(udp, run, run_size); /* before another flow takes its place */
            run = NULL;
            run_size = 0;
            if ((flow = gw_udp_table_find(&listener->table, hash, &key)) == NULL &&
                (flow = gw_udp_admit(listener, &key, hash, &udp->in.msgs[i].msg_hdr)) == NULL)
                continue;
            run = flow;
        }
        note_client(run, udp->in.msgs[i].msg_len);
        udp->onward_iovs[run_size++][1] = (struct iovec){udp->in.iovs[i].iov_base, udp->in.msgs[i].msg_len};
    }
    forward(udp, run, run_size);
}

/* To begin a flow takes ten times as long as to continue one. In a flood of new ones the kernel's queue runs over, and
 * it drops without regard to whom: so when it has not been emptied for a while, only so many are begun. */
static void allow_newcomers(struct gw_udp_listener *listener)
{
    uint64_t now_ms = gw_thread_now(&listener->udp->worker->thread);
    bool is_behind = listener->behind_since_ms != 0 && now_ms - listener->behind_since_ms > BEHIND_MS;
    listener->newcomers = is_behind ? NEWCOMERS_A_TURN : UINT32_MAX;
}

void gw_udp_take(struct gw_udp_listener *listener, const struct gw_udp_key *key, const struct msghdr *msg,
                 h2o_iovec_t payload)
{
    uint64_t hash = gw_udp_hash(listener->udp, key);
    struct gw_udp_flow *flow = gw_udp_table_find(&listener->table, hash, key);

    allow_newcomers(listener);
    if (flow == NULL && (flow = gw_udp_admit(listener, key, hash, msg)) == NULL)
        return;
    note_client(flow, payload.len);
    listener->udp->onward_iovs[0][1] = (struct iovec){payload.base, payload.len};
    forward(listener->udp, flow, 1);
}

static void prepare_in(struct gw_udp_listener *listener)
{
    struct gw_udp_batch *in = &listener->udp->in;
    for (unsigned i = 0; i != GW_UDP_BATCH_IN; ++i) {
        struct msghdr *msg = &in->msgs[i].msg_hdr;
        msg->msg_name = &in->peers[i];
        msg->msg_namelen = sizeof(in->peers[i]);
        msg->msg_control = listener->is_wildcard ? in->control[i] : NULL;
        msg->msg_controllen = listener->is_wildcard ? GW_UDP_CONTROL : 0;
    }
}

static void note_backlog(struct gw_udp_listener *listener, bool is_empty)
{
    if (is_empty)
        listener->behind_since_ms = 0;
    else if (listener->behind_since_ms == 0)
        listener->behind_since_ms = gw_thread_now(&listener->udp->worker->thread);
}

static void note_socket(struct gw_udp_listener *listener, const h2o_socket_t *sock)
{
    size_t i = 0;
    while (listener->socks[i].sock != sock)
        ++i;
    listener->sock = listener->socks[i].index;
}

static void on_datagrams(h2o_socket_t *sock, const char *err)
{
    struct gw_udp_listener *listener = sock->data;
    int fd = h2o_socket_get_fd(sock), got = GW_UDP_BATCH_IN;

    note_socket(listener, sock);
    if (__builtin_expect(listener->udp->giving != NULL, 0)) {
        gw_udp_give_datagrams(listener, fd);
        return;
    }
    allow_newcomers(listener);
    for (unsigned i = 0; i != BATCHES_A_TURN && got == GW_UDP_BATCH_IN; ++i) {
        prepare_in(listener);
        got = recvmmsg(fd, listener->udp->in.msgs, GW_UDP_BATCH_IN, MSG_DONTWAIT, NULL);
        if (got > 0)
            take_batch(listener, (unsigned)got);
    }
    note_backlog(listener, got != GW_UDP_BATCH_IN);
}

/* ---- answers ---- */

static void flush(struct gw_udp *udp)
{
    unsigned at = 0;

    while (at != udp->out.size) {
        int sent = sendmmsg(h2o_socket_get_fd(udp->out_by->socks[0].sock), udp->out.msgs + at, udp->out.size - at,
                            MSG_NOSIGNAL);
        if (sent > 0) {
            at += (unsigned)sent;
        } else if (errno != EINTR) {
            gw_udp_drop(udp->out_by, drop_of_errno(errno));
            ++at;
        }
    }
    for (unsigned i = 0; i != udp->out.size; ++i)
        udp->out.iovs[i].iov_len = GW_UDP_DATAGRAM;
    udp->out.size = 0;
}

static void note_answer(struct gw_udp_flow *flow, size_t len)
{
    struct gw_l4_slot *slot = gw_udp_counters(flow);

    flow->active_ms = gw_thread_now(&flow->listener->udp->worker->thread);
    ++flow->datagrams_out;
    flow->bytes_out += len;
    gw_count(&slot->datagrams_out, 1);
    gw_count(&slot->bytes_out, len);
    if (__builtin_expect(!flow->has_answer, 0)) {
        flow->has_answer = true;
        flow->answered_us = gw_now_us();
        gw_udp_answered(flow);
    }
}

static void queue_answers(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    for (unsigned i = udp->out.size; i != udp->out.size + size; ++i) {
        struct msghdr *msg = &udp->out.msgs[i].msg_hdr;
        udp->out.iovs[i].iov_len = udp->out.msgs[i].msg_len;
        msg->msg_name = &flow->peer;
        msg->msg_namelen = flow->peer_len;
        gw_udp_write_control(flow->listener, &flow->key, msg, udp->out.control[i]);
        note_answer(flow, udp->out.msgs[i].msg_len);
    }
    udp->out.size += size;
}

static void hear(struct gw_udp_flow *flow)
{
    if (errno == EAGAIN || errno == EINTR)
        return;
    gw_udp_refused(flow); /* ICMP: the next datagram may go elsewhere */
    if (flow->fd == -1)
        gw_udp_end(flow, GW_REASON_CONNECT_FAILED);
}

static void take_answers(struct gw_udp *udp, struct gw_udp_flow *flow)
{
    if (udp->out.size != 0 && (udp->out_by != flow->listener || udp->out.size + ANSWERS_A_TURN > GW_UDP_BATCH_OUT))
        flush(udp);
    udp->out_by = flow->listener;
    for (unsigned i = udp->out.size; i != udp->out.size + ANSWERS_A_TURN; ++i) {
        struct msghdr *msg = &udp->out.msgs[i].msg_hdr;
        msg->msg_name = msg->msg_control = NULL;
        msg->msg_namelen = msg->msg_controllen = 0;
    }
    int got = recvmmsg(flow->fd, udp->out.msgs + udp->out.size, ANSWERS_A_TURN, MSG_DONTWAIT, NULL);
    if (got <= 0) {
        hear(flow);
        return;
    }
    queue_answers(udp, flow, (unsigned)got);
    if (flow->responses != 0 && flow->datagrams_out >= flow->datagrams_in * flow->responses)
        gw_udp_end(flow, GW_REASON_FLOW_ANSWERED);
}

static void on_answers(h2o_socket_t *sock, const char *err)
{
    struct gw_udp *udp = sock->data;
    struct epoll_event events[EVENTS_A_TURN];
    int num_events = epoll_wait(udp->epoll, events, EVENTS_A_TURN, 0);

    udp->is_in_turn = true;
    for (int i = 0; i < num_events; ++i) {
        struct gw_udp_flow *flow = events[i].data.ptr;
        if (flow->fd != -1)
            take_answers(udp, flow);
    }
    flush(udp);
    udp->is_in_turn = false;
    gw_udp_bury(udp);
}

/* ---- listeners ---- */

static void on_deadline(struct gw_timer *timer);

static void each_flow(struct gw_udp_listener *listener, void (*act)(struct gw_udp_flow *))
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
    each_flow(listener, cut_off);
    let_go(listener);
}

static void read_sockets(struct gw_udp_listener *listener, bool is_on)
{
    for (size_t i = 0; i != listener->num_socks; ++i) {
        const struct gw_udp_sock *sock = &listener->socks[i];
        if (!is_on)
            h2o_socket_read_stop(sock->sock);
        else if (!sock->is_waiting && !listener->udp->has_left)
            h2o_socket_read_start(sock->sock, on_datagrams);
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
    init_batch(&udp->in, GW_UDP_BATCH_IN);
    init_batch(&udp->out, GW_UDP_BATCH_OUT);
    udp->poll = h2o_evloop_socket_create(worker->thread.loop, udp->epoll, H2O_SOCKET_FLAG_DONT_READ);
    udp->poll->data = udp;
    h2o_socket_read_start(udp->poll, on_answers);
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
        each_flow(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node), how == GW_UDP_LEAVE ? leave : finish);
}

void gw_udp_stop(struct gw_worker *worker)
{
    struct gw_udp *udp = worker->udp;

    for (h2o_linklist_t *node = udp != NULL ? udp->listeners.next : NULL; udp != NULL && node != &udp->listeners;
         node = node->next)
        each_flow(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node), cut_off);
}
