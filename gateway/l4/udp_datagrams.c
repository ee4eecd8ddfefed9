/* Datagrams on their way: from clients in batches of a listener's socket, to each target by its flow's socket; answers
 * from the sockets of flows, and out together by the listener's. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include "gateway/l4/udp_flow.h"
#include "gateway/l4/udp_handover.h"

enum {
    BATCHES_A_TURN = 4, /* so that a flood does not hold up the others */
    EVENTS_A_TURN = 64,
    ANSWERS_A_TURN = 16, /* of one flow */
    RETRIES = 2,         /* of a datagram whose way an ICMP error closed; the error was another one's */
    BEHIND_MS = 50,      /* so long without an empty queue, and only NEWCOMERS_A_TURN flows are begun in a turn */
    NEWCOMERS_A_TURN = 8,
};

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

void gw_udp_batch_init(struct gw_udp_batch *batch, unsigned size)
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

void gw_udp_on_datagrams(h2o_socket_t *sock, const char *err)
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

void gw_udp_on_answers(h2o_socket_t *sock, const char *err)
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
