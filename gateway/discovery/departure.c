#include "gateway/discovery/departure.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/log.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/mirror.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/l4/l4.h"
#include "gateway/l4/udp.h"
#include "gateway/worker.h"

enum { LOOK_MS = 200, SETTLE_MS = 1000 };

struct gw_departures {
    struct gw_process *process;
    h2o_linklist_t leaving; /* of gw_endpoint_entry.departure */
    size_t num_leaving;
    size_t num_groups; /* that are leaving, as of the last look */
    struct gw_timer look;
    struct gw_endpoint_entry **told; /* to be told to the workers */
    size_t num_told, room;
};

/* What the workers are told, and whether all have heard it; endpoints in it are not freed meanwhile. */
enum news { NEWS_CHANGED, NEWS_CUT, NEWS_FORGOTTEN };
struct telling {
    struct gw_departures *self;
    enum news news;
    unsigned num_pending;
    size_t size;
    struct gw_endpoint_entry *entries[];
};

static struct gw_endpoint_entry *entry_from(h2o_linklist_t *link)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_endpoint_entry, departure.link, link);
}

static struct gw_discovery_counters *counters(const struct gw_departures *self)
{
    return (struct gw_discovery_counters *)gw_discovery_counters(self->process);
}

/* ---- workers ---- */

static void settle(struct gw_stream *stream, void *data)
{
    struct gw_request *request = stream->user;
    if (request != NULL && request->views != NULL)
        gw_view_settle(request);
}

/* Some requests hold lists for longer than others exist. */
static void on_settle(struct gw_timer *timer)
{
    struct gw_worker *worker = H2O_STRUCT_FROM_MEMBER(struct gw_worker, settle_timer, timer);
    gw_conn_each_stream(&worker->server, settle, NULL);
}

static void look_at_groups(struct gw_worker *worker)
{
    const struct gw_snapshot *snapshot = worker->held->snapshot;

    for (size_t i = 0; snapshot->views != NULL && i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = &snapshot->groups[i];
        if (group->dynamic == NULL)
            continue;
        gw_view_now(snapshot, worker->thread.index, group);
        if (group->has_queue) /* there may be room now */
            gw_target_queue_wake(worker, group);
    }
    if (!gw_timer_is_armed(&worker->settle_timer)) {
        gw_timer_init(&worker->settle_timer, on_settle);
        gw_timer_arm(worker->thread.wheel, &worker->settle_timer, gw_thread_now(&worker->thread) + SETTLE_MS);
    }
}

static bool is_asked(const struct gw_exchange *exchange, const struct gw_endpoint_entry *entry)
{
    for (size_t i = 0; i != GW_EXCHANGE_TRIES; ++i) {
        const struct gw_try *try = &exchange->tries[i];
        if (try->client != NULL && gw_endpoint_entry_of(&try->group->targets[try->target]) == entry)
            return true;
    }
    return false;
}

static void cut(struct gw_stream *stream, void *data)
{
    const struct telling *telling = data;
    struct gw_request *request = stream->user;

    for (size_t i = 0; request != NULL && request->exchange != NULL && i != telling->size; ++i)
        if (is_asked(request->exchange, telling->entries[i]))
            gw_exchange_cut(request->exchange);
}

static void on_heard(struct gw_message *);

static void on_told(struct gw_message *message)
{
    struct gw_worker *worker = message->worker;
    struct telling *telling = message->data;

    if (worker->held != NULL && telling->news == NEWS_CHANGED) {
        look_at_groups(worker);
        gw_udp_look_anew(worker);
    }
    for (size_t i = 0; telling->news != NEWS_CUT && i != telling->size; ++i)
        gw_pool_forget(worker->pool, &telling->entries[i]->endpoint);
    if (telling->news == NEWS_CUT) {
        gw_conn_each_stream(&worker->server, cut, telling);
        for (size_t i = 0; i != telling->size; ++i) {
            gw_l4_cut(worker, &telling->entries[i]->endpoint);
            gw_mirror_cut(worker, &telling->entries[i]->endpoint);
        }
    }
    gw_process_tell(worker->process, on_heard, worker, telling);
}

/* ---- telling ---- */

static void tell(struct gw_departures *self, enum news news, struct gw_endpoint_entry *const *entries, size_t size)
{
    struct gw_process *process = self->process;
    struct telling *telling = h2o_mem_alloc(sizeof(*telling) + size * sizeof(telling->entries[0]));

    *telling = (struct telling){self, news, process->num_workers, size};
    for (size_t i = 0; i != size; ++i) {
        telling->entries[i] = entries[i];
        ++entries[i]->departure.num_pending;
    }
    for (unsigned i = 0; i != process->num_workers; ++i)
        gw_worker_tell(&process->workers[i], on_told, telling);
}

static void finish(struct gw_departures *self, struct gw_endpoint_entry *entry)
{
    entry->departure.is_forgotten = false;
    if (routing_count_read(&entry->load->connections) != 0) /* of a pool: they are closing */
        return;
    h2o_linklist_unlink(&entry->departure.link);
    --self->num_leaving;
    if (gw_process_forget_endpoint(self->process, entry)) {
        ++counters(self)->forgotten;
        return;
    }
    h2o_linklist_insert(&self->leaving, &entry->departure.link); /* a load has found it, or a source */
    ++self->num_leaving;
}

static void on_heard(struct gw_message *message)
{
    struct telling *telling = message->data;

    if (--telling->num_pending != 0)
        return;
    for (size_t i = 0; i != telling->size; ++i) {
        struct gw_endpoint_entry *entry = telling->entries[i];
        if (--entry->departure.num_pending == 0 && entry->departure.is_forgotten && gw_endpoint_is_leaving(entry))
            finish(telling->self, entry);
    }
    free(telling);
}

/* ---- groups ---- */

struct parting {
    struct gw_departures *self;
    unsigned num_pending;
    size_t size;
    struct gw_group_entry *groups[];
};

/* Nobody holds them: the last messages that spoke of their queues came before the first parting. A group that somebody
 * has found again goes on as if nothing had been said. */
static void on_parted(struct gw_message *message)
{
    struct parting *parting = message->data;

    if (--parting->num_pending != 0)
        return;
    for (size_t i = 0; i != parting->size; ++i) {
        parting->groups[i]->is_forgotten = false;
        (void)gw_process_forget_group(parting->self->process, parting->groups[i]);
    }
    free(parting);
}

static void on_part(struct gw_message *message)
{
    struct parting *parting = message->data;

    for (size_t i = 0; i != parting->size; ++i)
        gw_target_queues_end(parting->groups[i]->queues, message->worker);
    gw_process_tell(message->worker->process, on_parted, message->worker, parting);
}

static bool can_be_forgotten(const struct gw_group_entry *group)
{
    return group->is_leaving && !group->is_forgotten && !gw_group_is_held(group);
}

static void look_at_leaving_groups(struct gw_departures *self)
{
    struct gw_process *process = self->process;
    struct parting *parting;

    pthread_mutex_lock(&process->lock); /* a load may find one, or make one more */
    parting = h2o_mem_alloc(sizeof(*parting) + process->groups.size * sizeof(parting->groups[0]));
    *parting = (struct parting){self, process->num_workers, 0};
    self->num_groups = 0;
    for (size_t i = 0; i != process->groups.size; ++i) {
        struct gw_group_entry *group = process->groups.entries[i];
        self->num_groups += group->is_leaving;
        if (!can_be_forgotten(group))
            continue;
        group->is_forgotten = true;
        parting->groups[parting->size++] = group;
    }
    pthread_mutex_unlock(&process->lock);
    if (parting->size == 0) {
        free(parting);
        return;
    }
    for (unsigned i = 0; i != process->num_workers; ++i)
        gw_worker_tell(&process->workers[i], on_part, parting);
}

/* ---- looking after them ---- */

static uint64_t in_flight(const struct gw_process *process, const struct gw_endpoint_entry *entry)
{
    uint64_t n = 0;
    for (unsigned i = 0; i != process->num_workers; ++i)
        n += gw_counter_read(&entry->slots[i].in_flight);
    return n;
}

struct batch {
    struct gw_endpoint_entry **entries;
    size_t size, room;
};

static void add(struct batch *batch, struct gw_endpoint_entry *entry)
{
    if (batch->size == batch->room)
        batch->entries =
            h2o_mem_realloc(batch->entries, (batch->room = batch->room * 2 + 16) * sizeof(*batch->entries));
    batch->entries[batch->size++] = entry;
}

static void look_at(struct gw_departures *self, struct gw_endpoint_entry *entry, uint64_t now_ms, struct batch *to_cut,
                    struct batch *to_forget)
{
    if (entry->departure.num_pending != 0)
        return;
    if (gw_endpoint_refs(entry) == 0) {
        entry->departure.is_forgotten = true;
        add(to_forget, entry);
        return;
    }
    if (now_ms < entry->departure.due_ms || in_flight(self->process, entry) == 0)
        return;
    if (!entry->departure.is_cut)
        gw_log(GW_LOG_NOTICE, "discovery",
               "target %.*s of %.*s: deregistration_delay is over, %lu requests are cut off",
               (int)entry->endpoint.name.len, entry->endpoint.name.base, (int)entry->group->name.len,
               entry->group->name.base, (unsigned long)in_flight(self->process, entry));
    counters(self)->cuts += !entry->departure.is_cut;
    entry->departure.is_cut = true;
    add(to_cut, entry);
}

static void plan(struct gw_departures *self)
{
    if (self->num_leaving + self->num_groups != 0 && !gw_timer_is_armed(&self->look))
        gw_timer_arm(self->process->control.wheel, &self->look, gw_now_ms() + LOOK_MS);
}

static void on_look(struct gw_timer *timer)
{
    struct gw_departures *self = H2O_STRUCT_FROM_MEMBER(struct gw_departures, look, timer);
    struct batch to_cut = {NULL}, to_forget = {NULL};
    uint64_t now_ms = gw_now_ms();

    for (h2o_linklist_t *n = self->leaving.next; n != &self->leaving; n = n->next)
        look_at(self, entry_from(n), now_ms, &to_cut, &to_forget);
    if (to_cut.size != 0)
        tell(self, NEWS_CUT, to_cut.entries, to_cut.size);
    if (to_forget.size != 0)
        tell(self, NEWS_FORGOTTEN, to_forget.entries, to_forget.size);
    free(to_cut.entries);
    free(to_forget.entries);
    if (self->num_groups != 0)
        look_at_leaving_groups(self);
    plan(self);
}

/* ---- life ---- */

struct gw_departures *gw_departures_create(struct gw_process *process)
{
    struct gw_departures *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_departures){.process = process};
    h2o_linklist_init_anchor(&self->leaving);
    gw_timer_init(&self->look, on_look);
    return self;
}

void gw_departures_destroy(struct gw_departures *self)
{
    if (self == NULL)
        return;
    gw_timer_disarm(&self->look);
    free(self->told);
    free(self);
}

void gw_departures_add(struct gw_departures *self, struct gw_endpoint_entry *entry, uint64_t delay_ms)
{
    if (gw_endpoint_is_leaving(entry))
        return;
    entry->departure.since_ms = gw_now_ms();
    entry->departure.due_ms = entry->departure.since_ms + delay_ms;
    entry->departure.is_cut = entry->departure.is_forgotten = false;
    h2o_linklist_insert(&self->leaving, &entry->departure.link);
    ++self->num_leaving;
    ++counters(self)->departures;
    routing_health_set_removed(&entry->health, true);
    if (self->num_told == self->room)
        self->told = h2o_mem_realloc(self->told, (self->room = self->room * 2 + 16) * sizeof(*self->told));
    self->told[self->num_told++] = entry;
    ++entry->departure.num_pending; /* until it is told */
    plan(self);
}

void gw_departures_look_at_groups(struct gw_departures *self)
{
    look_at_leaving_groups(self);
    plan(self);
}

bool gw_departures_take_back(struct gw_departures *self, struct gw_endpoint_entry *entry)
{
    if (!gw_endpoint_is_leaving(entry))
        return false;
    h2o_linklist_unlink(&entry->departure.link);
    --self->num_leaving;
    ++counters(self)->returns;
    entry->departure.is_forgotten = false;
    routing_health_set_removed(&entry->health, false);
    return true;
}

void gw_departures_tell(struct gw_departures *self)
{
    for (size_t i = 0; i != self->num_told; ++i)
        --self->told[i]->departure.num_pending;
    tell(self, NEWS_CHANGED, self->told, self->num_told);
    self->num_told = 0;
}

void gw_departures_each(const struct gw_process *process, const struct gw_group_entry *group,
                        void (*see)(void *data, const struct routing_target *), void *data)
{
    if (process->discovery == NULL) /* not begun yet */
        return;
    const struct gw_departures *self = gw_discovery_departures(process);
    for (h2o_linklist_t *n = self->leaving.next; n != &self->leaving; n = n->next) {
        struct gw_endpoint_entry *entry = entry_from(n);
        if ((group != NULL && entry->group != group) || in_flight(process, entry) == 0)
            continue;
        struct routing_target target = {.name = entry->endpoint.name,
                                        .address = entry->endpoint.address,
                                        .health = &entry->health,
                                        .load = entry->load,
                                        .endpoint = &entry->endpoint,
                                        .source = "-"};
        see(data, &target);
    }
}
