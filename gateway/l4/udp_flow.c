/* The life of a flow: bounds, the beginning, time, the end. */
#include "gateway/l4/udp_wire.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "gateway/gate.h"

enum {
    MAX_LOOKS = 8,         /* for a flow that may go; then the next one goes anyway */
    LOGGED_A_SECOND = 100, /* of ends that a flood brings about, each thread: a log on disk is no place for one */
};

/* ---- the end ---- */

static bool is_ordinary(enum gw_reason reason)
{
    return reason == GW_REASON_FLOW_IDLE || reason == GW_REASON_FLOW_ANSWERED || reason == GW_REASON_SHUTTING_DOWN;
}

static bool is_too_much(struct gw_udp *udp)
{
    uint64_t now_s = gw_thread_now(&udp->worker->thread) / 1000;
    if (now_s != udp->logged_at_s) {
        udp->logged_at_s = now_s;
        udp->num_logged = 0;
    }
    return ++udp->num_logged > LOGGED_A_SECOND;
}

static void report(struct gw_udp *udp, const struct gw_l4_stats *stats, const struct gw_udp_key *key,
                   const struct gw_udp_flow *flow, enum gw_reason reason)
{
    char peer[GW_IP_TEXT];
    struct gw_l4_record record = {
        .worker = udp->worker,
        .stats = stats,
        .protocol = gw_listener_protocols[GW_LISTENER_UDP],
        .peer_text = peer,
        .peer_text_len = gw_ip_format(&key->peer, peer),
        .peer_port = key->peer_port,
        .reason = reason,
        .started_us = gw_now_us(),
        .is_unlogged = !is_ordinary(reason) && is_too_much(udp),
    };
    if (flow != NULL) {
        record.attempts = flow->attempts;
        record.bytes_in = flow->bytes_in;
        record.bytes_out = flow->bytes_out;
        record.started_us = flow->started_us;
        record.connected_us = flow->answered_us;
        if (flow->endpoint != NULL)
            record.target = flow->endpoint->name;
    }
    gw_l4_report(&record);
}

static void release(struct gw_udp_flow *flow)
{
    free(flow->proxy);
    free(flow);
}

void gw_udp_bury(struct gw_udp *udp)
{
    for (struct gw_udp_flow *flow; (flow = udp->graveyard) != NULL;) {
        udp->graveyard = flow->next;
        release(flow);
    }
}

/* The places that a flow takes in counts of the process. */
static void give_back(struct gw_udp_listener *listener, struct gw_l4_stats *stats, const struct gw_udp_key *key,
                      bool is_counted)
{
    struct gw_process *process = listener->udp->worker->process;
    __atomic_fetch_sub((int64_t *)&stats->whole->num_open, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub((int64_t *)&process->num_udp_flows, 1, __ATOMIC_RELAXED);
    if (is_counted)
        gw_gate_leave(stats->whole->gate, &key->peer, gw_now_us());
}

static void uncount(struct gw_udp_flow *flow)
{
    gw_count(&gw_udp_counters(flow)->open, (uint64_t)-1);
    give_back(flow->listener, flow->stats, &flow->key, flow->is_counted);
}

/* It is in no list and no table any more. */
static void detach(struct gw_udp_flow *flow)
{
    struct gw_udp_listener *listener = flow->listener;
    struct gw_udp *udp = listener->udp;

    gw_l4_stats_release(flow->stats);
    gw_udp_leave_target(flow);
    gw_timer_disarm(&flow->timer);
    h2o_linklist_unlink(&flow->link);
    gw_udp_table_remove(&listener->table, flow);
    --udp->num_flows;
    if (listener->index == UINT32_MAX && listener->table.size == 0) /* not from here: it is in use */
        gw_timer_arm(udp->worker->thread.wheel, &listener->deadline, 0);
    if (udp->is_in_turn) {
        flow->next = udp->graveyard;
        udp->graveyard = flow;
    } else {
        release(flow);
    }
}

void gw_udp_end(struct gw_udp_flow *flow, enum gw_reason reason)
{
    if (reason == GW_REASON_FLOW_IDLE && flow->is_refused && !flow->has_answer)
        reason = GW_REASON_CONNECT_FAILED;
    uncount(flow); /* first: who has read its line in the log finds its place free */
    report(flow->listener->udp, flow->stats, &flow->key, flow, reason);
    detach(flow);
}

void gw_udp_part(struct gw_udp_flow *flow)
{
    if (flow->fd != -1) /* the other process has it too, so that closing does not take it out of the epoll set */
        epoll_ctl(flow->listener->udp->epoll, EPOLL_CTL_DEL, flow->fd, NULL);
    uncount(flow);
    detach(flow);
}

/* ---- time ---- */

void gw_udp_arm(struct gw_udp_flow *flow)
{
    gw_timer_arm(flow->listener->udp->worker->thread.wheel, &flow->timer, flow->active_ms + flow->idle_timeout_ms);
}

/* Activity only notes its time. */
static void on_timer(struct gw_timer *timer)
{
    struct gw_udp_flow *flow = H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, timer, timer);

    if (gw_thread_now(&flow->listener->udp->worker->thread) < flow->active_ms + flow->idle_timeout_ms)
        gw_udp_arm(flow);
    else
        gw_udp_end(flow, GW_REASON_FLOW_IDLE);
}

void gw_udp_shorten(struct gw_udp_flow *flow, uint64_t idle_timeout_ms)
{
    if (flow->idle_timeout_ms <= idle_timeout_ms)
        return;
    flow->idle_timeout_ms = idle_timeout_ms;
    gw_udp_arm(flow);
}

/* ---- bounds ---- */

/* Sources can be made up, so a flow is only sure of its place once its client has spoken after an answer. Of the others
 * the oldest goes, but for those that were used since the last look. */
static bool evict_one(struct gw_udp_listener *listener)
{
    for (unsigned looks = 0; !h2o_linklist_is_empty(&listener->unproven); ++looks) {
        struct gw_udp_flow *flow = H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, link, listener->unproven.next);
        if (!flow->is_used || looks == MAX_LOOKS) {
            gw_udp_end(flow, GW_REASON_FLOW_EVICTED);
            return true;
        }
        flow->is_used = false;
        h2o_linklist_unlink(&flow->link);
        h2o_linklist_insert(&listener->unproven, &flow->link);
    }
    return false;
}

static int64_t add(_Atomic int64_t *count, int64_t n)
{
    return __atomic_add_fetch((int64_t *)count, n, __ATOMIC_RELAXED);
}

static bool claim_place(struct gw_udp_listener *listener, const struct gw_udp_conf *conf, struct gw_l4_stats *whole)
{
    struct gw_process *process = listener->udp->worker->process;
    bool is_full = add(&whole->num_open, 1) > (int64_t)conf->flows;

    if ((add(&process->num_udp_flows, 1) > process->max_udp_flows || is_full) && !evict_one(listener)) {
        add(&whole->num_open, -1);
        add(&process->num_udp_flows, -1);
        return false;
    }
    return true;
}

static enum gw_reason claim(struct gw_udp_listener *listener, const struct gw_udp_key *key, struct gw_l4_stats *whole,
                            bool *is_counted)
{
    const struct gw_udp_conf *conf = gw_udp_settings(gw_udp_configured(listener)->conf);

    *is_counted = conf->flows_per_ip != 0 && whole->gate != NULL;
    if (*is_counted && gw_gate_enter(whole->gate, &key->peer, conf->flows_per_ip, 0, gw_now_us()) != GW_GATE_OPEN)
        return GW_REASON_FLOWS_PER_ADDRESS;
    if (claim_place(listener, conf, whole))
        return GW_REASON_NONE;
    if (*is_counted)
        gw_gate_leave(whole->gate, &key->peer, gw_now_us());
    return GW_REASON_FLOWS_FULL;
}

/* ---- the beginning ---- */

static struct gw_udp_flow *create(struct gw_udp_listener *listener, const struct gw_udp_key *key, uint64_t hash,
                                  const struct msghdr *msg)
{
    struct gw_udp *udp = listener->udp;
    const struct gw_listener_conf *conf = gw_udp_configured(listener)->conf;
    struct gw_udp_flow *flow = h2o_mem_alloc(sizeof(*flow));

    memset(flow, 0, sizeof(*flow));
    flow->fd = -1;
    flow->key = *key;
    flow->hash = hash;
    flow->listener = listener;
    flow->sock = listener->sock;
    flow->stats = gw_l4_stats_hold(gw_udp_configured(listener)->l4->stats);
    flow->peer_len = msg->msg_namelen;
    memcpy(&flow->peer, msg->msg_name, msg->msg_namelen);
    flow->responses = (uint32_t)gw_udp_settings(conf)->responses;
    flow->answer_limit = udp->can_bundle ? GW_UDP_ANY_SIZE : GW_UDP_NO_BUNDLES;
    flow->started_us = gw_now_us();
    flow->active_ms = gw_thread_now(&udp->worker->thread);
    flow->idle_timeout_ms = gw_udp_idle_ms(conf);
    gw_timer_init(&flow->timer, on_timer);
    gw_udp_arm(flow);
    h2o_linklist_insert(&listener->unproven, &flow->link);
    gw_udp_table_add(&listener->table, flow);
    ++udp->num_flows;
    gw_count(&gw_udp_counters(flow)->open, 1);
    return flow;
}

/* Echo services answer one another for ever when somebody introduces them: a datagram that claims to come from one of
 * our own listeners goes nowhere. */
static bool is_from_listener(const struct gw_udp_listener *listener, const struct gw_udp_key *key)
{
    const struct gw_udp *udp = listener->udp;
    struct gw_ip local = key->local;

    if (!listener->is_wildcard)
        gw_ip_from_sockaddr((const struct sockaddr *)&listener->listening->address.sa, &local);
    if (memcmp(&key->peer, &local, sizeof(local)) != 0)
        return false;
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next)
        if (H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node)->port == key->peer_port)
            return true;
    return false;
}

struct gw_udp_flow *gw_udp_admit(struct gw_udp_listener *listener, const struct gw_udp_key *key, uint64_t hash,
                                 const struct msghdr *msg, unsigned count)
{
    bool is_counted;
    enum gw_reason reason;

    if (listener->index == UINT32_MAX || listener->udp->is_draining) {
        gw_udp_drop(listener, GW_UDP_DROPPED_NO_FLOW, count);
        return NULL;
    }
    if (is_from_listener(listener, key)) {
        gw_udp_drop(listener, GW_UDP_DROPPED_LOOP, count);
        return NULL;
    }
    if (listener->newcomers == 0) {
        gw_udp_drop(listener, GW_UDP_DROPPED_OVERLOAD, count);
        return NULL;
    }
    struct gw_l4_stats *stats = gw_udp_configured(listener)->l4->stats;
    if ((reason = claim(listener, key, stats, &is_counted)) != GW_REASON_NONE) {
        report(listener->udp, stats, key, NULL, reason);
        gw_udp_drop(listener, GW_UDP_DROPPED_REFUSED, count);
        return NULL;
    }
    --listener->newcomers; /* those that are refused cost little */
    struct gw_udp_flow *flow = create(listener, key, hash, msg);
    flow->is_counted = is_counted;
    if ((reason = gw_udp_choose(flow)) != GW_REASON_NONE) {
        gw_udp_drop(listener, GW_UDP_DROPPED_REFUSED, count);
        gw_udp_end(flow, reason);
        return NULL;
    }
    return flow;
}

/* ---- from another process ---- */

static void restore(struct gw_udp_flow *flow, const struct gw_udp_wire_flow *from)
{
    uint64_t now_ms = gw_thread_now(&flow->listener->udp->worker->thread);

    flow->active_ms = from->active_ms < now_ms ? from->active_ms : now_ms;
    flow->attempts = from->attempts;
    flow->started_us = from->started_us;
    flow->answered_us = from->answered_us;
    flow->datagrams_in = from->datagrams_in;
    flow->datagrams_out = from->datagrams_out;
    flow->bytes_in = from->bytes_in;
    flow->bytes_out = from->bytes_out;
    flow->has_answer = from->has_answer != 0;
    flow->is_used = from->is_used != 0;
    flow->is_refused = from->is_refused != 0;
    if (from->is_proven != 0) {
        flow->is_proven = true;
        h2o_linklist_unlink(&flow->link);
        h2o_linklist_insert(&flow->listener->proven, &flow->link);
    }
    gw_udp_arm(flow);
}

void gw_udp_adopt(struct gw_udp_listener *listener, const struct gw_udp_wire_flow *from, h2o_iovec_t group,
                  h2o_iovec_t target, uint32_t sock, int fd)
{
    struct msghdr msg = {.msg_name = (void *)&from->peer, .msg_namelen = from->peer_len};
    uint64_t hash = gw_udp_hash(listener->udp, &from->key);
    struct gw_l4_stats *stats = gw_udp_configured(listener)->l4->stats;
    bool is_counted;
    enum gw_reason reason;

    if (gw_udp_table_find(&listener->table, hash, &from->key) != NULL) { /* it was waited for too long */
        if (fd != -1)
            close(fd);
        return;
    }
    if ((reason = claim(listener, &from->key, stats, &is_counted)) != GW_REASON_NONE) {
        report(listener->udp, stats, &from->key, NULL, reason);
        if (fd != -1)
            close(fd);
        return;
    }
    struct gw_udp_flow *flow = create(listener, &from->key, hash, &msg);
    flow->is_counted = is_counted;
    flow->sock = sock;
    restore(flow, from);
    if (!gw_udp_find_again(flow, group, target, fd, &reason))
        gw_udp_end(flow, reason);
}
