/* What is known of connections that forward bytes: counters by listener and target group, a line in the access log. */
#include <stdlib.h>
#include <string.h>
#include "gateway/observe/access_log.h"
#include "gateway/l4/l4.h"

static bool same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

static struct gw_l4_stats *find(struct gw_process *process, h2o_iovec_t listener, h2o_iovec_t group)
{
    struct gw_l4_stats *stats = process->l4_stats;
    while (stats != NULL && !(same(stats->listener, listener) && same(stats->group, group)))
        stats = stats->next;
    return stats;
}

static struct gw_l4_stats *add(struct gw_process *process, h2o_iovec_t listener, h2o_iovec_t group)
{
    struct gw_l4_stats *stats = h2o_mem_alloc(sizeof(*stats));
    size_t bytes = sizeof(*stats->slots) * process->num_workers;

    memset(stats, 0, sizeof(*stats));
    stats->listener = h2o_strdup(NULL, listener.base, listener.len);
    stats->group = h2o_strdup(NULL, group.base, group.len);
    stats->slots = aligned_alloc(64, bytes);
    memset(stats->slots, 0, bytes);
    stats->next = process->l4_stats;
    process->l4_stats = stats;
    return stats;
}

/* The list is walked by loads only. */
struct gw_l4_stats *gw_l4_stats(struct gw_process *process, h2o_iovec_t listener, h2o_iovec_t group)
{
    static const h2o_iovec_t none = {(char *)"-", 1};
    struct gw_l4_stats *whole, *stats;

    pthread_mutex_lock(&process->lock);
    if ((whole = find(process, listener, none)) == NULL)
        whole = add(process, listener, none);
    if ((stats = find(process, listener, group)) == NULL)
        stats = add(process, listener, group);
    stats->whole = whole->whole = whole;
    pthread_mutex_unlock(&process->lock);
    return stats;
}

void gw_l4_report(const struct gw_l4_record *record)
{
    struct gw_worker *worker = record->worker;
    struct gw_l4_slot *slot = &record->stats->slots[worker->thread.index];

    gw_count(&slot->by_reason[record->reason], 1);
    if (worker->held->snapshot->config->access_log.is_enabled)
        gw_access_log_write_connection(worker->log, record);
}

/* ---- metrics ---- */

uint64_t gw_l4_num_open(const struct gw_l4_listener *listener)
{
    return (uint64_t)__atomic_load_n((const int64_t *)&listener->stats->num_open, __ATOMIC_RELAXED);
}

/* Series of each family; what does not fit is summed up under "_other". */
enum { MAX_PAIRS = 12, MAX_ENDS = 56 };

static const char other[] = "_other";

struct sums {
    uint64_t open, bytes_in, bytes_out, by_reason[GW_REASON_COUNT];
};

static void add_up(const struct gw_process *process, const struct gw_l4_stats *stats, struct sums *sums)
{
    for (unsigned i = 0; i != process->num_workers; ++i) {
        const struct gw_l4_slot *slot = &stats->slots[i];
        sums->open += gw_counter_read(&slot->open);
        sums->bytes_in += gw_counter_read(&slot->bytes_in);
        sums->bytes_out += gw_counter_read(&slot->bytes_out);
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

static void put_pairs(struct gw_exposition *out, const struct gw_process *process, const struct gw_l4_stats *first,
                      void (*put)(struct gw_exposition *, const char *, const char *, const struct sums *))
{
    struct sums rest = {0};
    unsigned i = 0;

    for (const struct gw_l4_stats *stats = first; stats != NULL; stats = stats->next, ++i) {
        struct sums sums = {0};
        add_up(process, stats, i < MAX_PAIRS ? &sums : &rest);
        if (i < MAX_PAIRS)
            put(out, stats->listener.base, stats->group.base, &sums);
    }
    if (i > MAX_PAIRS)
        put(out, other, other, &rest);
}

void gw_l4_metrics(struct gw_process *process, struct gw_exposition *out)
{
    pthread_mutex_lock(&process->lock);
    const struct gw_l4_stats *first = process->l4_stats; /* entries stay, and are added in front only */
    pthread_mutex_unlock(&process->lock);
    if (first == NULL)
        return;
    put_ends(out, process, first);
    gw_exposition_family(out, "weir_l4_connections_open", "gauge", "Forwarded connections that are open.");
    put_pairs(out, process, first, put_open);
    gw_exposition_family(out, "weir_l4_bytes_total", "counter",
                         "Bytes from clients (in) and to clients (out) of forwarded connections, when they end.");
    put_pairs(out, process, first, put_bytes);
}
