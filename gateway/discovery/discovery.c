#include "gateway/discovery/discovery.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/base/log.h"
#include "gateway/discovery/admin_source.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/view.h"
#include "gateway/discovery/watch.h"
#include "gateway/load.h"
#include "gateway/upstream/transport.h"
#include "routing/sticky.h"

/* Lists are made at most so often, and may take at most a tenth of the thread: what comes meanwhile goes into the next
 * one. */
enum { MIN_PAUSE_MS = 10, MAX_PAUSE_MS = 50, KEY_MAX = 4500 };

static const struct gw_source_kind *const kinds[] = {&gw_dns_source_kind, &gw_file_source_kind};
enum { NUM_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct gw_discovery {
    struct gw_process *process;
    struct gw_departures *departures;
    struct gw_watcher *watcher;
    struct gw_admin_targets *admin_targets;
    struct gw_discovery_counters counters;
    struct gw_timer timer;
    uint64_t next_ms; /* not before, monotonic */
    uint64_t mark;
    struct gw_endpoint_entry *
        *dropped; /* held; by sources, since the last lists were made: those may never have had them */
    size_t num_dropped, room;
    bool is_preparing; /* a snapshot is about to be served: its lists are made at the end */
};

struct gw_departures *gw_discovery_departures(const struct gw_process *process)
{
    return process->discovery->departures;
}

struct gw_admin_targets *gw_discovery_admin_targets(const struct gw_process *process)
{
    return process->discovery->admin_targets;
}

struct gw_watcher *gw_discovery_watcher(const struct gw_process *process) { return process->discovery->watcher; }

const struct gw_discovery_counters *gw_discovery_counters(const struct gw_process *process)
{
    return &process->discovery->counters;
}

/* ---- one list ---- */

static void fill(struct routing_target *to, const struct gw_snapshot *snapshot,
                 const struct routing_target_group *group, const struct gw_source *source,
                 const struct gw_source_member *member)
{
    struct gw_endpoint_entry *entry = member->endpoint;
    h2o_iovec_t zone = snapshot->config->zone;

    *to = (struct routing_target){
        .name = entry->endpoint.name,
        .address = entry->endpoint.address,
        .weight = member->weight,
        .is_local = zone.base != NULL && member->zone.base != NULL &&
                    h2o_memis(zone.base, zone.len, member->zone.base, member->zone.len),
        .health = &entry->health,
        .load = entry->load,
        .sticky_id = routing_sticky_id(entry->endpoint.name),
        .endpoint = &entry->endpoint,
        .transport = gw_snapshot_transport(group, &entry->endpoint.address, member->server_name),
        .source = source->kind->name,
    };
    gw_endpoint_hold(entry);
}

static bool takes(struct gw_discovery *self, struct gw_endpoint_entry *entry)
{
    if (entry->mark == self->mark)
        return false;
    entry->mark = self->mark;
    return true;
}

static struct gw_members *make_list(struct gw_discovery *self, const struct gw_snapshot *snapshot,
                                    const struct routing_target_group *group)
{
    const struct gw_group_entry *entry = group->entry;
    size_t most = group->size;
    for (const struct gw_source *source = entry->sources; source != NULL; source = source->next)
        most += source->size;

    struct gw_members *members = gw_members_create((uint32_t)most);
    members->size = 0;
    for (uint32_t i = 0; i != group->size; ++i) {
        if (!takes(self, gw_endpoint_entry_of(&group->targets[i])))
            continue;
        members->targets[members->size] = group->targets[i];
        gw_transport_hold(group->targets[i].transport);
        gw_endpoint_hold(gw_endpoint_entry_of(&group->targets[members->size++]));
    }
    for (const struct gw_source *source = entry->sources; source != NULL; source = source->next)
        for (size_t i = 0; i != source->size; ++i)
            if (takes(self, source->members[i].endpoint))
                fill(&members->targets[members->size++], snapshot, group, source, &source->members[i]);
    return members;
}

/* Who is in it and was leaving is back. */
static void welcome(struct gw_discovery *self, const struct gw_members *members)
{
    for (uint32_t i = 0; i != members->size; ++i)
        gw_departures_take_back(self->departures, gw_endpoint_entry_of(&members->targets[i]));
}

/* ---- while a snapshot is served ---- */

static const struct routing_target_group *find_group(const struct gw_process *process, h2o_iovec_t name)
{
    const struct gw_snapshot *snapshot = process->active;
    const struct gw_named *named = snapshot != NULL ? gw_map_find(&snapshot->config->target_groups, name) : NULL;
    return named != NULL ? &snapshot->groups[named - snapshot->config->target_groups.entries] : NULL;
}

static void publish_group(struct gw_discovery *self, const struct routing_target_group *group)
{
    const struct gw_members *before = gw_members_of(group);

    ((struct gw_group_entry *)group->entry)->mark = ++self->mark;
    struct gw_members *members = make_list(self, self->process->active, group);
    welcome(self, members);
    for (uint32_t i = 0; before != NULL && i != before->size; ++i) {
        struct gw_endpoint_entry *entry = gw_endpoint_entry_of(&before->targets[i]);
        if (entry->mark != self->mark)
            gw_departures_add(self->departures, entry, group->conf->deregistration_delay_ms);
    }
    gw_members_publish(group, members);
    ++self->counters.publications;
}

static uint64_t delay_of(const struct gw_process *process, const struct gw_snapshot *snapshot, h2o_iovec_t group)
{
    const struct gw_named *named = gw_map_find(&snapshot->config->target_groups, group);
    const struct routing_target_group *before;

    if (named != NULL)
        return ((const struct routing_target_group_conf *)named->conf)->deregistration_delay_ms;
    before = find_group(process, group);
    return before != NULL ? before->conf->deregistration_delay_ms : 0;
}

static void let_go_of_dropped(struct gw_discovery *self)
{
    for (size_t i = 0; i != self->num_dropped; ++i) {
        struct gw_endpoint_entry *entry = self->dropped[i];
        if (entry->mark != entry->group->mark) /* no longer in the group's list */
            gw_departures_add(self->departures, entry,
                              delay_of(self->process, self->process->active, entry->group->name));
        gw_endpoint_release(entry);
    }
    self->num_dropped = 0;
}

static void publish_changed(struct gw_discovery *self)
{
    struct gw_process *process = self->process;
    uint64_t began_us = gw_now_us();

    for (size_t i = 0; i != process->active->num_groups; ++i) {
        const struct routing_target_group *group = &process->active->groups[i];
        struct gw_group_entry *entry = group->entry;
        if (entry->has_changed && group->dynamic != NULL)
            publish_group(self, group);
        entry->has_changed = false;
    }
    let_go_of_dropped(self);
    gw_departures_tell(self->departures);
    gw_load_set_checks(process, process->active);
    uint64_t pause_ms = (gw_now_us() - began_us) / 100; /* ten times as long */
    self->next_ms = gw_now_ms() + (pause_ms < MIN_PAUSE_MS   ? MIN_PAUSE_MS
                                   : pause_ms > MAX_PAUSE_MS ? MAX_PAUSE_MS
                                                             : pause_ms);
}

static void on_timer(struct gw_timer *timer)
{
    publish_changed(H2O_STRUCT_FROM_MEMBER(struct gw_discovery, timer, timer));
}

static void note_change(struct gw_source *source)
{
    struct gw_discovery *self = source->process->discovery;
    uint64_t now_ms = gw_now_ms();

    ++self->counters.changes;
    ++source->changes;
    source->changed_at_ms = (uint64_t)time(NULL) * 1000;
    source->group->has_changed = true;
    if (!self->is_preparing && source->process->active != NULL && !gw_timer_is_armed(&self->timer))
        gw_timer_arm(source->process->control.wheel, &self->timer, now_ms < self->next_ms ? self->next_ms : now_ms);
}

/* ---- sources ---- */

static h2o_iovec_t copy(h2o_iovec_t s) { return s.base == NULL ? s : h2o_strdup(NULL, s.base, s.len); }

static bool is_equal(h2o_iovec_t a, h2o_iovec_t b)
{
    return (a.base == NULL) == (b.base == NULL) && h2o_memis(a.base, a.len, b.base, b.len);
}

/* Takes the hold: it is let go of when the lists have been made. */
static void drop(struct gw_discovery *self, struct gw_endpoint_entry *entry)
{
    if (self->num_dropped == self->room)
        self->dropped = h2o_mem_realloc(self->dropped, (self->room = self->room * 2 + 16) * sizeof(*self->dropped));
    self->dropped[self->num_dropped++] = entry;
}

static void drop_member(struct gw_source *source, struct gw_source_member *member)
{
    drop(source->process->discovery, member->endpoint);
    free(member->zone.base);
    free(member->server_name.base);
}

static void dispose_member(struct gw_source_member *member)
{
    gw_endpoint_release(member->endpoint);
    free(member->zone.base);
    free(member->server_name.base);
}

static void init_member(struct gw_source *source, struct gw_source_member *to, const struct gw_member *from)
{
    *to = (struct gw_source_member){
        .endpoint = gw_process_endpoint(source->process, source->group, &from->address, source->group->is_checked),
        .weight = from->weight,
        .zone = copy(from->zone),
        .server_name = copy(from->server_name),
    };
}

static bool is_same_member(const struct gw_source_member *a, const struct gw_source_member *b)
{
    return a->endpoint == b->endpoint && a->weight == b->weight && is_equal(a->zone, b->zone) &&
           is_equal(a->server_name, b->server_name);
}

static void dispose_members(struct gw_source_member *members, size_t size)
{
    for (size_t i = 0; i != size; ++i)
        dispose_member(&members[i]);
    free(members);
}

void gw_members_set(struct gw_source *source, const struct gw_member *list, size_t n)
{
    struct gw_source_member *members = h2o_mem_alloc((n + 1) * sizeof(*members));
    bool is_same = n == source->size;

    for (size_t i = 0; i != n; ++i) {
        init_member(source, &members[i], &list[i]);
        is_same = is_same && is_same_member(&members[i], &source->members[i]);
    }
    if (is_same) {
        dispose_members(members, n);
        return;
    }
    for (size_t i = 0; i != source->size; ++i)
        drop_member(source, &source->members[i]);
    free(source->members);
    source->members = members;
    source->size = n;
    source->capacity = n + 1;
    note_change(source);
}

bool gw_source_put(struct gw_source *source, const struct gw_member *from)
{
    struct gw_source_member member;

    init_member(source, &member, from);
    for (size_t i = 0; i != source->size; ++i) {
        if (source->members[i].endpoint != member.endpoint)
            continue;
        bool is_same = is_same_member(&source->members[i], &member);
        dispose_member(&source->members[i]);
        source->members[i] = member;
        if (!is_same)
            note_change(source);
        return !is_same;
    }
    if (source->size == source->capacity)
        source->members =
            h2o_mem_realloc(source->members, (source->capacity = source->capacity * 2 + 8) * sizeof(*source->members));
    source->members[source->size++] = member;
    note_change(source);
    return true;
}

bool gw_source_remove(struct gw_source *source, h2o_iovec_t name)
{
    for (size_t i = 0; i != source->size; ++i) {
        if (!is_equal(source->members[i].endpoint->endpoint.name, name))
            continue;
        drop_member(source, &source->members[i]);
        memmove(&source->members[i], &source->members[i + 1], (--source->size - i) * sizeof(*source->members));
        note_change(source);
        return true;
    }
    return false;
}

void gw_source_note_failure(struct gw_source *source, const char *why)
{
    free(source->failure);
    source->failure = why != NULL ? h2o_strdup(NULL, why, SIZE_MAX).base : NULL;
    if (why == NULL)
        return;
    ++source->failures;
    ++source->process->discovery->counters.failures;
}

struct gw_process *gw_source_process(const struct gw_source *source) { return source->process; }
h2o_iovec_t gw_source_group(const struct gw_source *source) { return source->group->name; }
const char *gw_source_key(const struct gw_source *source) { return source->key; }

static struct gw_source *find_source(struct gw_group_entry *group, const struct gw_source_kind *kind, const char *key)
{
    struct gw_source *source = group->sources;
    while (source != NULL && !(source->kind == kind && strcmp(source->key, key) == 0))
        source = source->next;
    return source;
}

/* In the order of the configuration, those of the admin API last. */
static struct gw_source *add_source(struct gw_process *process, struct gw_group_entry *group,
                                    const struct gw_source_kind *kind, const char *key)
{
    struct gw_source **at = &group->sources, *source = h2o_mem_alloc(sizeof(*source));

    *source = (struct gw_source){.kind = kind,
                                 .process = process,
                                 .group = group,
                                 .key = h2o_strdup(NULL, key, SIZE_MAX).base,
                                 .is_wanted = true};
    gw_group_hold(group);
    while (*at != NULL && (*at)->kind->key != NULL)
        at = &(*at)->next;
    source->next = *at;
    *at = source;
    return source;
}

static void destroy_source(struct gw_source *source)
{
    if (source->kind->stop != NULL)
        source->kind->stop(source->data);
    dispose_members(source->members, source->size);
    free(source->failure);
    free(source->key);
    gw_group_release(source->group);
    free(source);
}

static const struct gw_source_kind admin_kind = {.name = "admin"};

struct gw_source *gw_source_of_admin(struct gw_process *process, struct gw_group_entry *group)
{
    struct gw_source *source = find_source(group, &admin_kind, "");
    return source != NULL ? source : add_source(process, group, &admin_kind, "");
}

bool gw_source_is_of_admin(const struct gw_source *source) { return source->kind == &admin_kind; }

static const struct gw_source_kind *kind_of(const struct routing_target_conf *conf, char *key)
{
    for (size_t i = 0; i != NUM_KINDS; ++i)
        if (kinds[i]->key(conf, key, KEY_MAX))
            return kinds[i];
    return NULL;
}

static void configure_source(struct gw_process *process, struct gw_group_entry *group,
                             const struct routing_target_conf *conf)
{
    char key[KEY_MAX];
    const struct gw_source_kind *kind = routing_target_is_source(conf) ? kind_of(conf, key) : NULL;
    if (kind == NULL)
        return;
    struct gw_source *source = find_source(group, kind, key);
    if (source == NULL) {
        source = add_source(process, group, kind, key);
        source->data = kind->start(source, conf);
    } else {
        source->is_wanted = true;
        kind->change(source->data, conf);
    }
}

/* What the admin API has added stays, should the group come back. */
static void drop_unwanted(const struct gw_snapshot *snapshot, struct gw_group_entry *group)
{
    bool is_known = gw_map_find(&snapshot->config->target_groups, group->name) != NULL;

    for (struct gw_source **at = &group->sources; *at != NULL;) {
        struct gw_source *source = *at;
        if (source->is_wanted || (source->kind == &admin_kind && (is_known || source->size != 0))) {
            at = &source->next;
            continue;
        }
        *at = source->next;
        destroy_source(source);
    }
}

/* ---- a snapshot that is about to be served ---- */

static void configure_group(struct gw_process *process, const struct routing_target_group *group)
{
    struct gw_group_entry *entry = group->entry;

    entry->is_checked = group->conf->health_check.is_enabled;
    for (const struct gw_source *source = entry->sources; source != NULL; source = source->next)
        for (size_t i = 0; i != source->size; ++i) /* should checks be turned on or off */
            gw_endpoint_release(
                gw_process_endpoint(process, entry, &source->members[i].endpoint->endpoint.address, entry->is_checked));
    for (size_t i = 0; i != group->conf->targets.size; ++i)
        configure_source(process, entry, group->conf->targets.entries[i]);
}

static void mark_wanted(struct gw_process *process, bool is_wanted)
{
    for (size_t i = 0; i != process->groups.size; ++i)
        for (struct gw_source *source = process->groups.entries[i]->sources; source != NULL; source = source->next)
            source->is_wanted = is_wanted;
}

/* Every endpoint that the snapshot does not have. A failed load may have left some behind, too. */
static void part(struct gw_discovery *self, const struct gw_snapshot *snapshot)
{
    struct gw_process *process = self->process;

    for (size_t i = 0; i != self->num_dropped; ++i)
        gw_endpoint_release(self->dropped[i]);
    self->num_dropped = 0;
    pthread_mutex_lock(&process->lock);
    for (size_t i = 0; i != process->endpoints.size; ++i) {
        struct gw_endpoint_entry *entry = process->endpoints.entries[i];
        if (entry->mark == self->mark)
            gw_departures_take_back(self->departures, entry);
        else
            gw_departures_add(self->departures, entry, delay_of(process, snapshot, entry->group->name));
    }
    pthread_mutex_unlock(&process->lock);
}

/* The groups that the snapshot does not have. */
static void part_with_groups(struct gw_discovery *self)
{
    struct gw_process *process = self->process;

    for (size_t i = 0; i != process->groups.size; ++i) {
        struct gw_group_entry *entry = process->groups.entries[i];
        entry->is_leaving = entry->mark != self->mark && entry->sources == NULL;
    }
    gw_departures_look_at_groups(self->departures);
}

void gw_discovery_prepare(struct gw_process *process, const struct gw_snapshot *snapshot)
{
    struct gw_discovery *self = process->discovery;

    self->is_preparing = true;
    gw_timer_disarm(&self->timer);
    if (process->active == NULL)
        gw_admin_targets_load(self->admin_targets, snapshot->config);
    mark_wanted(process, false);
    for (size_t i = 0; i != snapshot->num_groups; ++i)
        if (snapshot->groups[i].dynamic != NULL)
            configure_group(process, &snapshot->groups[i]);
    for (size_t i = 0; i != process->groups.size; ++i)
        drop_unwanted(snapshot, process->groups.entries[i]);
    ++self->mark;
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = &snapshot->groups[i];
        ((struct gw_group_entry *)group->entry)->has_changed = false;
        ((struct gw_group_entry *)group->entry)->mark = self->mark;
        if (group->dynamic != NULL)
            gw_members_publish(group, make_list(self, snapshot, group));
        else
            for (uint32_t j = 0; j != group->size; ++j)
                gw_endpoint_entry_of(&group->targets[j])->mark = self->mark;
    }
    part(self, snapshot);
    part_with_groups(self);
    self->is_preparing = false;
}

void gw_discovery_announce(struct gw_process *process) { gw_departures_tell(process->discovery->departures); }

bool gw_discovery_check(const struct gw_config *config, struct gw_errors *errors)
{
    char key[KEY_MAX];
    bool is_good = true;

    for (size_t i = 0; i != config->target_groups.size; ++i) {
        const struct routing_target_group_conf *group = config->target_groups.entries[i].conf;
        for (size_t j = 0; j != group->targets.size; ++j) {
            const struct routing_target_conf *conf = group->targets.entries[j];
            const struct gw_source_kind *kind = routing_target_is_source(conf) ? kind_of(conf, key) : NULL;
            if (kind != NULL && kind->check != NULL)
                is_good &= kind->check(conf, errors);
        }
    }
    return is_good;
}

/* ---- life ---- */

struct gw_discovery *gw_discovery_create(struct gw_process *process)
{
    struct gw_discovery *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_discovery){.process = process,
                                  .departures = gw_departures_create(process),
                                  .watcher = gw_watcher_create(&process->control)};
    self->admin_targets = gw_admin_targets_create(process);
    gw_timer_init(&self->timer, on_timer);
    return self;
}

void gw_discovery_destroy(struct gw_discovery *self)
{
    if (self == NULL)
        return;
    gw_timer_disarm(&self->timer);
    gw_admin_targets_destroy(self->admin_targets);
    for (size_t i = 0; i != self->process->groups.size; ++i)
        while (self->process->groups.entries[i]->sources != NULL) {
            struct gw_source *source = self->process->groups.entries[i]->sources;
            self->process->groups.entries[i]->sources = source->next;
            destroy_source(source);
        }
    free(self->dropped);
    gw_departures_destroy(self->departures);
    gw_watcher_destroy(self->watcher);
    free(self);
}
