#include "gateway/registry.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/health_log.h"
#include "gateway/base/alloc.h"
#include "gateway/base/hash.h"
#include "gateway/exchange/outliers.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/process.h"

static void *grow(void *entries, size_t size, size_t *capacity, size_t entry_size)
{
    if (size < *capacity)
        return entries;
    *capacity = *capacity != 0 ? *capacity * 2 : 64;
    return h2o_mem_realloc(entries, *capacity * entry_size);
}

static bool same(h2o_iovec_t a, h2o_iovec_t b) { return a.len == b.len && memcmp(a.base, b.base, a.len) == 0; }

static uint64_t hash_text(h2o_iovec_t text) { return gw_fnv1a(GW_FNV1A_START, text.base, text.len); }

/* Finds the slot of a key in an open hash over entries; *slots holds index + 1. */
static uint32_t *find_slot(struct gw_registry_index *index, uint64_t hash, bool (*is)(void *entry, const void *key),
                           void *const *entries, const void *key)
{
    for (size_t at = hash & (index->num_slots - 1);; at = (at + 1) & (index->num_slots - 1))
        if (index->slots[at] == 0 || is(entries[index->slots[at] - 1], key))
            return &index->slots[at];
}

static void rehash(struct gw_registry_index *index, size_t size, uint64_t (*hash)(const void *entry),
                   void *const *entries)
{
    if ((size + 1) * 2 <= index->num_slots)
        return;
    free(index->slots);
    index->num_slots = index->num_slots != 0 ? index->num_slots * 2 : 256;
    while (index->num_slots < (size + 1) * 2)
        index->num_slots *= 2;
    index->slots = h2o_mem_alloc(sizeof(*index->slots) * index->num_slots);
    memset(index->slots, 0, sizeof(*index->slots) * index->num_slots);
    for (size_t i = 0; i != size; ++i) {
        size_t at = hash(entries[i]) & (index->num_slots - 1);
        while (index->slots[at] != 0)
            at = (at + 1) & (index->num_slots - 1);
        index->slots[at] = i + 1;
    }
}

static uint64_t endpoint_hash(const void *entry)
{
    const struct gw_endpoint_entry *e = entry;
    return gw_fnv1a(hash_text(e->group->name), e->endpoint.name.base, e->endpoint.name.len);
}
static bool endpoint_is(void *entry, const void *key)
{
    const struct gw_endpoint_entry *a = entry, *b = key;
    return a->group == b->group && same(a->endpoint.name, b->endpoint.name);
}

static struct gw_endpoint_entry *create_endpoint(struct gw_group_entry *group, const struct gw_address *address,
                                                 bool is_checked, unsigned num_workers)
{
    struct gw_endpoint_entry *entry = h2o_mem_alloc(sizeof(*entry));
    memset(entry, 0, sizeof(*entry));
    gw_group_hold(entry->group = group);
    entry->endpoint.address = *address;
    entry->endpoint.address.text = entry->endpoint.name = h2o_strdup(NULL, address->text.base, address->text.len);
    entry->endpoint.address.host = h2o_strdup(NULL, address->host.base, address->host.len);
    entry->is_checked = is_checked;
    entry->slots = gw_alloc_lines(sizeof(*entry->slots) * num_workers);
    entry->load = gw_alloc_lines(sizeof(*entry->load));
    entry->endpoint.counted = (struct gw_counted){entry->load, &group->use};
    routing_health_init(&entry->health, is_checked);
    entry->health.group = &group->live;
    entry->health.skips_ramp = group->is_new;
    return entry;
}

static uint64_t group_hash(const void *entry) { return hash_text(((const struct gw_group_entry *)entry)->name); }
static bool group_is(void *entry, const void *key)
{
    return same(((const struct gw_group_entry *)entry)->name, *(const h2o_iovec_t *)key);
}

struct gw_group_entry *gw_process_group(struct gw_process *process, h2o_iovec_t name)
{
    struct gw_group_entry *entry;

    pthread_mutex_lock(&process->lock);
    rehash(&process->groups.index, process->groups.size, group_hash, (void **)process->groups.entries);
    uint32_t *slot =
        find_slot(&process->groups.index, hash_text(name), group_is, (void **)process->groups.entries, &name);
    if (*slot == 0) {
        process->groups.entries = grow(process->groups.entries, process->groups.size, &process->groups.capacity,
                                       sizeof(*process->groups.entries));
        entry = gw_alloc_lines(sizeof(*entry));
        entry->name = h2o_strdup(NULL, name.base, name.len);
        entry->is_new = true;
        entry->queues = gw_target_queues_create(process, entry);
        entry->use.on_room = gw_target_queue_on_room;
        entry->position = process->groups.size;
        process->groups.entries[process->groups.size++] = entry;
        *slot = process->groups.size;
    } else {
        entry = process->groups.entries[*slot - 1];
    }
    gw_group_hold(entry);
    pthread_mutex_unlock(&process->lock);
    return entry;
}

static void free_group(struct gw_group_entry *entry)
{
    gw_outliers_destroy(entry->outliers);
    gw_target_queues_destroy(entry->queues);
    free(entry->name.base);
    free(entry);
}

bool gw_process_forget_group(struct gw_process *process, struct gw_group_entry *entry)
{
    bool is_free;

    pthread_mutex_lock(&process->lock);
    if ((is_free = !gw_group_is_held(entry))) {
        struct gw_group_entry *last = process->groups.entries[--process->groups.size];
        process->groups.entries[last->position = entry->position] = last;
        process->groups.index.num_slots = 0; /* made anew by the next look-up */
    }
    pthread_mutex_unlock(&process->lock);
    if (is_free)
        free_group(entry);
    return is_free;
}

size_t gw_process_num_groups(struct gw_process *process)
{
    pthread_mutex_lock(&process->lock);
    size_t size = process->groups.size;
    pthread_mutex_unlock(&process->lock);
    return size;
}

/* Of an endpoint that is gone, if there is one: arrays by index stay as small as there are endpoints at a time. */
static uint32_t take_index(struct gw_process *process)
{
    if (process->endpoints.num_free_indexes != 0)
        return process->endpoints.free_indexes[--process->endpoints.num_free_indexes];
    return process->endpoints.num_indexes++;
}

struct gw_endpoint_entry *gw_process_endpoint(struct gw_process *process, struct gw_group_entry *group,
                                              const struct gw_address *address, bool is_checked)
{
    struct gw_endpoint_entry key = {.group = group, .endpoint = {.name = address->text}}, *entry;

    pthread_mutex_lock(&process->lock);
    rehash(&process->endpoints.index, process->endpoints.size, endpoint_hash, (void **)process->endpoints.entries);
    uint32_t *slot = find_slot(&process->endpoints.index, endpoint_hash(&key), endpoint_is,
                               (void **)process->endpoints.entries, &key);
    if (*slot == 0) {
        process->endpoints.entries = grow(process->endpoints.entries, process->endpoints.size,
                                          &process->endpoints.capacity, sizeof(*process->endpoints.entries));
        entry = create_endpoint(group, address, is_checked, process->num_workers);
        entry->endpoint.index = take_index(process);
        entry->position = process->endpoints.size;
        process->endpoints.entries[process->endpoints.size++] = entry;
        *slot = process->endpoints.size;
    } else {
        entry = process->endpoints.entries[*slot - 1];
        if (entry->is_checked != is_checked) {
            entry->is_checked = is_checked;
            routing_health_restart(&entry->health, is_checked);
        }
    }
    gw_endpoint_hold(entry);
    pthread_mutex_unlock(&process->lock);
    return entry;
}

static void free_endpoint(struct gw_endpoint_entry *entry)
{
    free(entry->endpoint.name.base);
    free(entry->endpoint.address.host.base);
    free(entry->slots);
    free(entry->load);
    free(entry->log);
    gw_group_release(entry->group);
    free(entry);
}

bool gw_process_forget_endpoint(struct gw_process *process, struct gw_endpoint_entry *entry)
{
    bool is_free;

    pthread_mutex_lock(&process->lock);
    if ((is_free = gw_endpoint_refs(entry) == 0)) {
        struct gw_endpoint_entry *last = process->endpoints.entries[--process->endpoints.size];
        process->endpoints.entries[last->position = entry->position] = last;
        process->endpoints.index.num_slots = 0; /* made anew by the next look-up */
        process->endpoints.free_indexes =
            grow(process->endpoints.free_indexes, process->endpoints.num_free_indexes,
                 &process->endpoints.free_capacity, sizeof(*process->endpoints.free_indexes));
        process->endpoints.free_indexes[process->endpoints.num_free_indexes++] = entry->endpoint.index;
    }
    pthread_mutex_unlock(&process->lock);
    if (is_free)
        free_endpoint(entry);
    return is_free;
}

size_t gw_process_num_endpoints(struct gw_process *process)
{
    pthread_mutex_lock(&process->lock);
    size_t size = process->endpoints.size;
    pthread_mutex_unlock(&process->lock);
    return size;
}

static uint64_t stats_hash(const void *entry) { return hash_text(((const struct gw_route_stats *)entry)->name); }
static bool stats_is(void *entry, const void *key)
{
    return same(((const struct gw_route_stats *)entry)->name, *(const h2o_iovec_t *)key);
}

struct gw_route_stats *gw_process_route_stats(struct gw_process *process, h2o_iovec_t name)
{
    struct gw_route_stats *stats;

    pthread_mutex_lock(&process->lock);
    rehash(&process->route_stats.index, process->route_stats.size, stats_hash, (void **)process->route_stats.entries);
    uint32_t *slot =
        find_slot(&process->route_stats.index, hash_text(name), stats_is, (void **)process->route_stats.entries, &name);
    if (*slot == 0) {
        size_t bytes = sizeof(*stats) + sizeof(stats->slots[0]) * process->num_workers;
        process->route_stats.entries = grow(process->route_stats.entries, process->route_stats.size,
                                            &process->route_stats.capacity, sizeof(*process->route_stats.entries));
        stats = gw_alloc_lines(bytes);
        stats->name = h2o_strdup(NULL, name.base, name.len);
        process->route_stats.entries[process->route_stats.size++] = stats;
        *slot = process->route_stats.size;
    } else {
        stats = process->route_stats.entries[*slot - 1];
        if (stats->snapshots == 0)
            --process->route_stats.num_unused;
    }
    ++stats->snapshots;
    pthread_mutex_unlock(&process->lock);
    return stats;
}

void gw_process_release_route_stats(struct gw_process *process, struct gw_route_stats *stats)
{
    if (stats == NULL)
        return;
    pthread_mutex_lock(&process->lock);
    if (--stats->snapshots == 0)
        ++process->route_stats.num_unused;
    pthread_mutex_unlock(&process->lock);
}

void gw_process_prune(struct gw_process *process)
{
    size_t kept = 0;

    pthread_mutex_lock(&process->lock);
    for (size_t i = 0; i != process->route_stats.size && process->route_stats.num_unused != 0; ++i) {
        struct gw_route_stats *stats = process->route_stats.entries[i];
        if (stats->snapshots != 0) {
            process->route_stats.entries[kept++] = stats;
        } else {
            free(stats->name.base);
            free(stats);
        }
    }
    if (process->route_stats.num_unused != 0) {
        process->route_stats.size = kept;
        process->route_stats.num_unused = 0;
        process->route_stats.index.num_slots = 0; /* made anew by the next look-up */
    }
    pthread_mutex_unlock(&process->lock);
}
