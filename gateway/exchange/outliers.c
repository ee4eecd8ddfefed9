#include "gateway/exchange/outliers.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/log.h"
#include "gateway/discovery/view.h"
#include "gateway/admin/health_log.h"
#include "gateway/process.h"
#include "gateway/worker.h"
#include "routing/slow_start.h"

struct gw_outliers { /* of one group */
    struct gw_process *process;
    struct gw_group_entry *entry;
    struct gw_timer timer; /* the next comparison or the end of the next ejection */
    uint64_t compare_at_ms, adjust_at_ms;
    bool is_on; /* the group of the active snapshot asks for it */
};

/* ---- workers ---- */

struct suspicion {
    struct gw_endpoint_entry *entry;
    enum routing_outlier_why why;
};

static void on_suspicion(struct gw_message *);

static void suspect(struct gw_worker *worker, const struct routing_target *target, enum routing_outlier_why why)
{
    struct suspicion *suspicion = h2o_mem_alloc(sizeof(*suspicion));
    *suspicion = (struct suspicion){gw_endpoint_entry_of(target), why};
    gw_process_tell(worker->process, on_suspicion, worker, suspicion);
}

static void reset(_Atomic uint32_t *count)
{
    if (__atomic_load_n((uint32_t *)count, __ATOMIC_RELAXED) != 0) /* a line that all threads read is left clean */
        __atomic_store_n((uint32_t *)count, 0, __ATOMIC_RELAXED);
}

/* Whenever another so many are full: when too many are out at the time, it is asked for again. */
static bool is_full(_Atomic uint32_t *count, uint64_t limit)
{
    uint32_t n = __atomic_add_fetch((uint32_t *)count, 1, __ATOMIC_RELAXED);
    return limit != 0 && n % limit == 0;
}

void gw_outliers_note(struct gw_worker *worker, const struct routing_target_group *group, uint32_t index, int status)
{
    const struct routing_outlier_conf *conf = group->conf->outlier_detection;
    const struct routing_target *target = &group->targets[index];
    bool is_gateway = status == 0 || (status >= 502 && status <= 504);

    if (__builtin_expect(status != 0 && status < 500, 1)) {
        reset(&target->load->consecutive_5xx);
        reset(&target->load->consecutive_gateway);
        return;
    }
    bool full_gateway = is_gateway && is_full(&target->load->consecutive_gateway, conf->consecutive_gateway_errors);
    if (!is_gateway)
        reset(&target->load->consecutive_gateway);
    if (is_full(&target->load->consecutive_5xx, conf->consecutive_5xx))
        suspect(worker, target, ROUTING_OUTLIER_5XX);
    else if (full_gateway)
        suspect(worker, target, ROUTING_OUTLIER_GATEWAY);
}

/* ---- control thread ---- */

static const struct routing_target_group *find_group(const struct gw_process *process, h2o_iovec_t name)
{
    const struct gw_snapshot *snapshot = process->active;
    const struct gw_named *named = snapshot != NULL ? gw_map_find(&snapshot->config->target_groups, name) : NULL;
    return named == NULL
               ? NULL
               : gw_view_of_control(snapshot, &snapshot->groups[named - snapshot->config->target_groups.entries]);
}

static struct routing_outlier *outlier_of(const struct routing_target *target)
{
    return &gw_endpoint_entry_of(target)->outlier;
}

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void plan(struct gw_outliers *self, const struct routing_target_group *group)
{
    uint64_t at_ms = self->compare_at_ms < self->adjust_at_ms ? self->compare_at_ms : self->adjust_at_ms;

    for (uint32_t i = 0; i != group->size; ++i) {
        const struct routing_outlier *outlier = outlier_of(&group->targets[i]);
        if (outlier->until_ms != 0 && outlier->until_ms < at_ms)
            at_ms = outlier->until_ms;
    }
    if (at_ms != UINT64_MAX)
        gw_timer_arm(self->process->control.wheel, &self->timer, at_ms);
}

static size_t count_ejected(const struct routing_target_group *group)
{
    size_t n = 0;
    for (uint32_t i = 0; i != group->size; ++i)
        n += outlier_of(&group->targets[i])->until_ms != 0;
    return n;
}

static void forget_counts(const struct routing_target *target)
{
    reset(&target->load->consecutive_5xx);
    reset(&target->load->consecutive_gateway);
}

static void eject(struct gw_outliers *self, const struct routing_target_group *group, uint32_t index,
                  enum routing_outlier_why why)
{
    const struct routing_target *target = &group->targets[index];
    const struct routing_outlier_conf *conf = group->conf->outlier_detection;
    struct routing_outlier *outlier = outlier_of(target);
    uint64_t now_ms = gw_now_ms();

    forget_counts(target);
    if (outlier->until_ms != 0 || !routing_outlier_may_eject(conf, count_ejected(group), group->size))
        return;
    routing_outlier_eject(outlier, conf, why, now_ms);
    routing_health_set_ejected(target->health, true);
    ++self->process->ejections[why];
    gw_health_log_change(gw_endpoint_entry_of(target), GW_HEALTH_BY_OUTLIER, INT32_MIN, wall_ms());
    gw_log(GW_LOG_WARNING, "outlier", "target %.*s of %.*s is ejected for %lu ms (%s)", (int)target->name.len,
           target->name.base, (int)group->name.len, group->name.base, (unsigned long)(outlier->until_ms - now_ms),
           routing_outlier_name(why));
}

static void take_back(const struct routing_target_group *group, uint32_t index)
{
    const struct routing_target *target = &group->targets[index];

    forget_counts(target);
    routing_health_set_ejected(target->health, false);
    routing_slow_start_begin(group, index, gw_now_ms());
    gw_health_log_change(gw_endpoint_entry_of(target), GW_HEALTH_BY_OUTLIER, INT32_MIN, wall_ms());
    gw_log(GW_LOG_NOTICE, "outlier", "target %.*s of %.*s is back", (int)target->name.len, target->name.base,
           (int)group->name.len, group->name.base);
}

static void on_suspicion(struct gw_message *message)
{
    struct suspicion suspicion = *(struct suspicion *)message->data;
    const struct routing_target_group *group = find_group(message->process, suspicion.entry->group->name);

    free(message->data);
    if (group == NULL || !group->notes_outcomes || suspicion.entry->outlier.until_ms != 0)
        return;
    struct gw_outliers *self = ((struct gw_group_entry *)group->entry)->outliers;
    for (uint32_t i = 0; i != group->size; ++i)
        if (gw_endpoint_entry_of(&group->targets[i]) == suspicion.entry)
            eject(self, group, i, suspicion.why);
    plan(self, group);
}

/* What happened since the last look with the same base. */
static struct routing_outlier_sample *sample(struct gw_outliers *self, const struct routing_target_group *group,
                                             size_t base)
{
    struct routing_outlier_sample *samples = h2o_mem_alloc((group->size + 1) * sizeof(*samples));

    for (uint32_t i = 0; i != group->size; ++i) {
        struct gw_endpoint_entry *entry = gw_endpoint_entry_of(&group->targets[i]);
        struct routing_outlier_sample now = {0}, *before = &entry->sampled[base];
        for (unsigned w = 0; w != self->process->num_workers; ++w) {
            const struct gw_target_slot *slot = &entry->slots[w];
            uint64_t failures = gw_counter_read(&slot->failures);
            for (unsigned class = 1; class != 6; ++class)
                now.requests += gw_counter_read(&slot->by_class[class]);
            now.requests += failures;
            now.failures += failures + gw_counter_read(&slot->by_class[5]);
            now.latency_us += gw_counter_read(&slot->seconds_sum_us);
        }
        samples[i] = (struct routing_outlier_sample){now.requests - before->requests, now.failures - before->failures,
                                                     now.latency_us - before->latency_us,
                                                     !routing_health_is_fit(group->targets[i].health)};
        *before = now;
    }
    return samples;
}

static void compare(struct gw_outliers *self, const struct routing_target_group *group)
{
    struct routing_outlier_sample *samples = sample(self, group, 0);
    enum routing_outlier_why *why = h2o_mem_alloc((group->size + 1) * sizeof(*why));

    routing_outlier_compare(group->conf->outlier_detection, samples, group->size, why);
    for (uint32_t i = 0; i != group->size; ++i) {
        if (why[i] != ROUTING_OUTLIER_NOT)
            eject(self, group, i, why[i]);
        else
            routing_outlier_calm(outlier_of(&group->targets[i]));
    }
    free(why);
    free(samples);
}

static void adjust(struct gw_outliers *self, const struct routing_target_group *group)
{
    struct routing_outlier_sample *samples = sample(self, group, 1);
    uint32_t *shares = h2o_mem_alloc((group->size + 1) * sizeof(*shares));

    for (uint32_t i = 0; i != group->size; ++i)
        shares[i] = __atomic_load_n((uint32_t *)&group->targets[i].health->share, __ATOMIC_RELAXED);
    routing_anomaly_adjust(group->conf->algorithm.anomaly_threshold, samples, group->size, shares);
    for (uint32_t i = 0; i != group->size; ++i) {
        struct routing_health *health = group->targets[i].health;
        uint32_t before = __atomic_load_n((uint32_t *)&health->share, __ATOMIC_RELAXED);
        if (shares[i] == before || (before == 0 && shares[i] == ROUTING_SHARE_ALL))
            continue;
        if (shares[i] < before || before == 0)
            gw_log(GW_LOG_WARNING, "outlier", "target %.*s of %.*s is anomalous: it keeps %u%% of its weight",
                   (int)group->targets[i].name.len, group->targets[i].name.base, (int)group->name.len, group->name.base,
                   shares[i] * 100 / ROUTING_SHARE_ALL);
        routing_health_set_share(health, shares[i]);
    }
    free(shares);
    free(samples);
}

static bool mitigates(const struct routing_target_group *group)
{
    return group->conf->algorithm.type == ROUTING_WEIGHTED_RANDOM && group->conf->algorithm.anomaly_mitigation;
}

static void on_due(struct gw_timer *timer)
{
    struct gw_outliers *self = H2O_STRUCT_FROM_MEMBER(struct gw_outliers, timer, timer);
    const struct routing_target_group *group = find_group(self->process, self->entry->name);
    uint64_t now_ms = gw_now_ms();

    if (group == NULL || !self->is_on)
        return;
    for (uint32_t i = 0; i != group->size; ++i)
        if (routing_outlier_return(outlier_of(&group->targets[i]), now_ms))
            take_back(group, i);
    if (now_ms >= self->compare_at_ms) {
        compare(self, group);
        self->compare_at_ms = now_ms + group->conf->outlier_detection->interval_ms;
    }
    if (now_ms >= self->adjust_at_ms) {
        adjust(self, group);
        self->adjust_at_ms = now_ms + ROUTING_ANOMALY_INTERVAL_MS;
    }
    plan(self, group);
}

/* Neither asks for it any more: everybody is as good as the checks say. */
static void amnesty(const struct routing_target_group *group)
{
    for (uint32_t i = 0; i != group->size; ++i) {
        struct routing_outlier *outlier = outlier_of(&group->targets[i]);
        if (!group->notes_outcomes && outlier->until_ms != 0) {
            *outlier = (struct routing_outlier){0};
            take_back(group, i);
        }
        if (!mitigates(group) && __atomic_load_n((uint32_t *)&group->targets[i].health->share, __ATOMIC_RELAXED) != 0)
            routing_health_set_share(group->targets[i].health, 0);
    }
}

static void begin_samples(struct gw_outliers *self, const struct routing_target_group *group)
{
    uint64_t now_ms = gw_now_ms();

    free(sample(self, group, 0));
    free(sample(self, group, 1));
    self->compare_at_ms = group->notes_outcomes ? now_ms + group->conf->outlier_detection->interval_ms : UINT64_MAX;
    self->adjust_at_ms = mitigates(group) ? now_ms + ROUTING_ANOMALY_INTERVAL_MS : UINT64_MAX;
}

void gw_outliers_configure(struct gw_process *process, const struct gw_snapshot *snapshot)
{
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(snapshot, &snapshot->groups[i]);
        struct gw_group_entry *entry = group->entry;
        bool is_on = group->notes_outcomes || mitigates(group);

        pthread_mutex_lock(&process->lock);
        entry->is_new = false;
        pthread_mutex_unlock(&process->lock);
        if (entry->outliers == NULL && is_on) {
            entry->outliers = h2o_mem_alloc(sizeof(*entry->outliers));
            *entry->outliers = (struct gw_outliers){.process = process, .entry = entry};
            gw_timer_init(&entry->outliers->timer, on_due);
        }
        if (entry->outliers == NULL)
            continue;
        amnesty(group);
        entry->outliers->is_on = is_on;
        gw_timer_disarm(&entry->outliers->timer);
        if (!is_on)
            continue;
        begin_samples(entry->outliers, group);
        plan(entry->outliers, group);
    }
}

void gw_outliers_destroy(struct gw_outliers *self)
{
    if (self != NULL)
        gw_timer_disarm(&self->timer);
    free(self);
}

void gw_outliers_on_health(struct gw_process *process, h2o_iovec_t name, const struct routing_health *health)
{
    const struct routing_target_group *group = find_group(process, name);

    if (group == NULL || routing_health_checked_state(health) != ROUTING_HEALTH_HEALTHY)
        return;
    for (uint32_t i = 0; i != group->size; ++i)
        if (group->targets[i].health == health)
            routing_slow_start_begin(group, i, gw_now_ms());
}

void gw_outliers_pardon(struct gw_process *process, const struct routing_target *target)
{
    struct routing_outlier *outlier = outlier_of(target);

    if (outlier->until_ms == 0)
        return;
    *outlier = (struct routing_outlier){0};
    forget_counts(target);
    routing_health_set_ejected(target->health, false);
}

const uint64_t *gw_outliers_counts(const struct gw_process *process) { return process->ejections; }
