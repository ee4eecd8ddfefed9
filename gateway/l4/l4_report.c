/* What is known of connections that forward bytes: counters by listener and target group, a line in the access log. */
#include <stdlib.h>
#include <string.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>
#include "gateway/admin/tail.h"
#include "gateway/gate.h"
#include "gateway/observe/access_log.h"
#include "gateway/l4/l4.h"
#include "gateway/base/alloc.h"

static bool same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

static struct gw_l4_stats *find(struct gw_process *process, h2o_iovec_t listener, h2o_iovec_t group)
{
    struct gw_l4_stats *stats = process->l4_stats;
    while (stats != NULL && !(same(stats->listener, listener) && same(stats->group, group)))
        stats = stats->next;
    return stats;
}

/* whole: NULL: itself */
static struct gw_l4_stats *add(struct gw_process *process, h2o_iovec_t listener, h2o_iovec_t group,
                               struct gw_l4_stats *whole)
{
    struct gw_l4_stats *stats = h2o_mem_alloc(sizeof(*stats));

    memset(stats, 0, sizeof(*stats));
    stats->listener = h2o_strdup(NULL, listener.base, listener.len);
    stats->group = h2o_strdup(NULL, group.base, group.len);
    stats->slots = gw_alloc_lines(sizeof(*stats->slots) * process->num_workers);
    stats->whole = whole != NULL ? whole : stats;
    stats->next = process->l4_stats;
    process->l4_stats = stats;
    return stats;
}

struct gw_l4_stats *gw_l4_stats(struct gw_process *process, const struct gw_snapshot_listener *of, h2o_iovec_t group)
{
    h2o_iovec_t listener = of->name;
    static const h2o_iovec_t none = {(char *)"-", 1};
    struct gw_l4_stats *whole, *stats;

    pthread_mutex_lock(&process->lock);
    if ((whole = find(process, listener, none)) == NULL)
        whole = add(process, listener, none, NULL);
    if ((stats = find(process, listener, group)) == NULL) {
        stats = add(process, listener, group, whole);
        gw_l4_stats_hold(whole); /* for as long as the part is there */
    }
    gw_l4_stats_hold(stats);
    if (of->conf->protocol == GW_LISTENER_UDP)
        stats->is_udp = whole->is_udp = true;
    pthread_mutex_unlock(&process->lock);
    return stats;
}

static void destroy(struct gw_l4_stats *stats)
{
    gw_gate_destroy(stats->gate);
    free(stats->listener.base);
    free(stats->group.base);
    free(stats->slots);
    free(stats);
}

/* Takes those out of the list that nobody holds. */
static void prune_some(struct gw_process *process, bool of_groups)
{
    for (struct gw_l4_stats **at = &process->l4_stats, *stats; (stats = *at) != NULL;) {
        if ((stats != stats->whole) != of_groups ||
            __atomic_load_n((const uint32_t *)&stats->refs, __ATOMIC_ACQUIRE) != 0) {
            at = &stats->next;
            continue;
        }
        *at = stats->next;
        if (of_groups)
            gw_l4_stats_release(stats->whole);
        destroy(stats);
    }
}

static void prune(struct gw_process *process)
{
    prune_some(process, true);
    prune_some(process, false);
}

/* Under the lock, because a load may find one that nobody holds; so does whoever walks the list. */
void gw_l4_stats_prune(struct gw_process *process)
{
    pthread_mutex_lock(&process->lock);
    prune(process);
    pthread_mutex_unlock(&process->lock);
}

void gw_l4_report(const struct gw_l4_record *record)
{
    struct gw_worker *worker = record->worker;
    struct gw_l4_slot *slot = &record->stats->slots[worker->thread.index];

    gw_count(&slot->by_reason[record->reason], 1);
    if (worker->held->snapshot->config->access_log.is_enabled && !record->is_unlogged)
        gw_access_log_write_connection(worker->log, record);
    if (__builtin_expect(worker->tails != NULL, 0))
        gw_tail_see_connection(worker, record);
}

/* ---- metrics ---- */

uint64_t gw_l4_num_open(const struct gw_l4_listener *listener)
{
    return (uint64_t)__atomic_load_n((const int64_t *)&listener->stats->num_open, __ATOMIC_RELAXED);
}

void gw_l4_sum(struct gw_process *process, const struct gw_l4_listener *listener, struct gw_l4_sums *sums)
{
    *sums = (struct gw_l4_sums){.open = gw_l4_num_open(listener)};
    pthread_mutex_lock(&process->lock);
    for (const struct gw_l4_stats *stats = process->l4_stats; stats != NULL; stats = stats->next) {
        for (unsigned i = 0; stats->whole == listener->stats && i != process->num_workers; ++i) {
            const struct gw_l4_slot *slot = &stats->slots[i];
            sums->bytes_in += gw_counter_read(&slot->bytes_in);
            sums->bytes_out += gw_counter_read(&slot->bytes_out);
            sums->datagrams += gw_counter_read(&slot->datagrams_in) + gw_counter_read(&slot->datagrams_out);
            for (int r = 0; r != GW_REASON_COUNT; ++r)
                sums->ended += gw_counter_read(&slot->by_reason[r]);
        }
    }
    pthread_mutex_unlock(&process->lock);
}

/* Series of each family; what does not fit is summed up under "_other". */
enum { MAX_PAIRS = 12, MAX_ENDS = 56, MAX_DROPPING = 6 };

static const char other[] = "_other";

static const char *const drop_names[] = {
#define X(name, text) [GW_UDP_DROPPED_##name] = text,
    GW_UDP_DROPS(X)
#undef X
};

struct sums {
    uint64_t open, bytes_in, bytes_out, datagrams_in, datagrams_out, moves, by_reason[GW_REASON_COUNT];
};

static void add_up(const struct gw_process *process, const struct gw_l4_stats *stats, struct sums *sums)
{
    for (unsigned i = 0; i != process->num_workers; ++i) {
        const struct gw_l4_slot *slot = &stats->slots[i];
        sums->open += gw_counter_read(&slot->open);
        sums->bytes_in += gw_counter_read(&slot->bytes_in);
        sums->bytes_out += gw_counter_read(&slot->bytes_out);
        sums->datagrams_in += gw_counter_read(&slot->datagrams_in);
        sums->datagrams_out += gw_counter_read(&slot->datagrams_out);
        sums->moves += gw_counter_read(&slot->moves);
        for (int r = 0; r != GW_REASON_COUNT; ++r)
            sums->by_reason[r] += gw_counter_read(&slot->by_reason[r]);
    }
}

static void put_ends(struct gw_exposition *out, const struct gw_process *process, const struct gw_l4_stats *first)
{
    static const char family[] = "weir_l4_connections_total";
    unsigned left = MAX_ENDS - 1;
    uint64_t rest = 0;

    gw_exposition_family(out, family, "counter", "Forwarded connections that have ended, by how they did.");
    for (const struct gw_l4_stats *stats = first; stats != NULL; stats = stats->next) {
        struct sums sums = {0};
        add_up(process, stats, &sums);
        for (int r = 0; r != GW_REASON_COUNT; ++r) {
            if (sums.by_reason[r] == 0)
                continue;
            if (left == 0) {
                rest += sums.by_reason[r];
                continue;
            }
            gw_exposition_sample(out, family, (double)sums.by_reason[r], "listener", stats->listener.base,
                                 "target_group", stats->group.base, "reason", gw_reason_info((enum gw_reason)r)->code,
                                 NULL);
            --left;
        }
    }
    if (rest != 0)
        gw_exposition_sample(out, family, (double)rest, "listener", other, "target_group", other, "reason", other,
                             NULL);
}

static void put_open(struct gw_exposition *out, const char *listener, const char *group, const struct sums *sums)
{
    gw_exposition_sample(out, "weir_l4_connections_open", (double)(int64_t)sums->open, "listener", listener,
                         "target_group", group, NULL);
}

static void put_bytes(struct gw_exposition *out, const char *listener, const char *group, const struct sums *sums)
{
    gw_exposition_sample(out, "weir_l4_bytes_total", (double)sums->bytes_in, "listener", listener, "target_group",
                         group, "direction", "in", NULL);
    gw_exposition_sample(out, "weir_l4_bytes_total", (double)sums->bytes_out, "listener", listener, "target_group",
                         group, "direction", "out", NULL);
}

static void put_datagrams(struct gw_exposition *out, const char *listener, const char *group, const struct sums *sums)
{
    gw_exposition_sample(out, "weir_udp_datagrams_total", (double)sums->datagrams_in, "listener", listener,
                         "target_group", group, "direction", "in", NULL);
    gw_exposition_sample(out, "weir_udp_datagrams_total", (double)sums->datagrams_out, "listener", listener,
                         "target_group", group, "direction", "out", NULL);
}

static void put_moves(struct gw_exposition *out, const char *listener, const char *group, const struct sums *sums)
{
    gw_exposition_sample(out, "weir_udp_flows_moved_total", (double)sums->moves, "listener", listener, "target_group",
                         group, NULL);
}

static void put_drops(struct gw_exposition *out, const struct gw_process *process, const struct gw_l4_stats *first)
{
    static const char family[] = "weir_udp_dropped_total";
    unsigned listeners = 0;
    uint64_t rest[GW_UDP_DROPPED_COUNT] = {0};

    gw_exposition_family(out, family, "counter", "Datagrams that went nowhere.");
    for (const struct gw_l4_stats *stats = first; stats != NULL; stats = stats->next) {
        if (stats != stats->whole || !stats->is_udp)
            continue;
        ++listeners;
        for (int why = 0; why != GW_UDP_DROPPED_COUNT; ++why) {
            uint64_t sum = 0;
            for (unsigned i = 0; i != process->num_workers; ++i)
                sum += gw_counter_read(&stats->slots[i].dropped[why]);
            if (listeners > MAX_DROPPING)
                rest[why] += sum;
            else
                gw_exposition_sample(out, family, (double)sum, "listener", stats->listener.base, "reason",
                                     drop_names[why], NULL);
        }
    }
    for (int why = 0; why != GW_UDP_DROPPED_COUNT && listeners > MAX_DROPPING; ++why)
        gw_exposition_sample(out, family, (double)rest[why], "listener", other, "reason", drop_names[why], NULL);
}

/* What the kernel threw away because nobody took it in time: a counter of each socket. A reload, or the end of a
 * listener's last flow, changes the registry: under the lock. */
static void put_overflows(struct gw_process *process, struct gw_exposition *out)
{
    static const char family[] = "weir_udp_overflows_total";
    unsigned listeners = 0;

    gw_exposition_family(out, family, "counter", "Datagrams that did not fit into the kernel's buffer, by address.");
    for (size_t i = 0; i != process->listening.size; ++i) {
        const struct gw_listening *listening = process->listening.entries[i];
        uint64_t sum = 0;
        if (!listening->is_udp || listeners++ == MAX_DROPPING)
            continue;
        for (unsigned j = 0; j != listening->num_fds; ++j) {
            uint32_t info[SK_MEMINFO_VARS] = {0};
            socklen_t len = sizeof(info);
            if (getsockopt(listening->fds[j], SOL_SOCKET, SO_MEMINFO, info, &len) == 0)
                sum += info[SK_MEMINFO_DROPS];
        }
        gw_exposition_sample(out, family, (double)sum, "address", listening->address.text.base, NULL);
    }
}

static void put_pairs(struct gw_exposition *out, const struct gw_process *process, const struct gw_l4_stats *first,
                      void (*put)(struct gw_exposition *, const char *, const char *, const struct sums *),
                      bool only_udp)
{
    struct sums rest = {0};
    unsigned i = 0;

    for (const struct gw_l4_stats *stats = first; stats != NULL; stats = stats->next) {
        struct sums sums = {0};
        if (only_udp && !stats->is_udp)
            continue;
        add_up(process, stats, i < MAX_PAIRS ? &sums : &rest);
        if (i < MAX_PAIRS)
            put(out, stats->listener.base, stats->group.base, &sums);
        ++i;
    }
    if (i > MAX_PAIRS)
        put(out, other, other, &rest);
}

static bool has_udp(const struct gw_l4_stats *stats)
{
    while (stats != NULL && !stats->is_udp)
        stats = stats->next;
    return stats != NULL;
}

static void put_all(struct gw_process *process, struct gw_exposition *out)
{
    const struct gw_l4_stats *first = process->l4_stats;

    if (first == NULL)
        return;
    put_ends(out, process, first);
    gw_exposition_family(out, "weir_l4_connections_open", "gauge", "Forwarded connections that are open.");
    put_pairs(out, process, first, put_open, false);
    gw_exposition_family(out, "weir_l4_bytes_total", "counter",
                         "Bytes from clients (in) and to clients (out) of forwarded connections, when they end; of "
                         "udp as they come.");
    put_pairs(out, process, first, put_bytes, false);
    if (!has_udp(first))
        return;
    gw_exposition_family(out, "weir_udp_datagrams_total", "counter",
                         "Datagrams from clients (in) and to clients (out) that belong to a flow.");
    put_pairs(out, process, first, put_datagrams, true);
    gw_exposition_family(out, "weir_udp_flows_moved_total", "counter", "Flows that went on with another target.");
    put_pairs(out, process, first, put_moves, true);
    put_drops(out, process, first);
    put_overflows(process, out);
}

/* A page is written by any thread. */
void gw_l4_metrics(struct gw_process *process, struct gw_exposition *out)
{
    pthread_mutex_lock(&process->lock);
    prune(process);
    put_all(process, out);
    pthread_mutex_unlock(&process->lock);
}
