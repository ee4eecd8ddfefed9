/* Target groups in the admin API: what they are, what happened to them, and an operator's word over them. */
#include <jansson.h>
#include <string.h>
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/admin_request.h"
#include "gateway/base/log.h"
#include "gateway/admin/health_log.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/outliers.h"

/* ---- history ---- */

static void put_checks(struct gw_json *json, const struct gw_health_log *log)
{
    uint32_t size = log == NULL ? 0 : log->num_checks < GW_HEALTH_LOG_MAX ? log->num_checks : GW_HEALTH_LOG_MAX;

    gw_json_key(json, "checks_history");
    gw_json_array(json);
    for (uint32_t i = 0; i != size; ++i) {
        const struct gw_health_check_event *event = &log->checks[(log->num_checks - 1 - i) % GW_HEALTH_LOG_MAX];
        gw_json_object(json);
        gw_page_time_ms(json, "time", event->wall_ms);
        gw_page_string(json, "result", gw_health_log_result((enum routing_probe)event->result));
        gw_json_key(json, "status");
        if (event->status != 0)
            gw_json_number(json, event->status);
        else
            gw_json_null(json);
        gw_json_key(json, "duration_ms");
        gw_json_decimal(json, (double)event->elapsed_us / 1000, 3);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

static void put_changes(struct gw_json *json, const struct gw_health_log *log)
{
    static const char *const by[] = {"check", "operator", "outlier_detection"};
    uint32_t size = log == NULL ? 0 : log->num_changes < GW_HEALTH_LOG_MAX ? log->num_changes : GW_HEALTH_LOG_MAX;

    gw_json_key(json, "changes_history");
    gw_json_array(json);
    for (uint32_t i = 0; i != size; ++i) {
        const struct gw_health_change_event *event = &log->changes[(log->num_changes - 1 - i) % GW_HEALTH_LOG_MAX];
        gw_json_object(json);
        gw_page_time_ms(json, "time", event->wall_ms);
        gw_page_string(json, "state", routing_health_name((enum routing_health_state)event->state));
        gw_page_string(json, "reason", event->reason);
        gw_page_string(json, "by", by[event->cause]);
        gw_json_key(json, "weight");
        if (event->weight >= 0)
            gw_json_number(json, event->weight);
        else
            gw_json_null(json);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

struct page {
    const struct gw_process *process;
    struct gw_json *json;
};

static void put_target(void *data, const struct routing_target *target)
{
    const struct page *page = data;

    gw_json_object(page->json);
    gw_target_members(page->process, page->json, target);
    put_changes(page->json, gw_endpoint_entry_of(target)->log);
    put_checks(page->json, gw_endpoint_entry_of(target)->log);
    gw_json_object_end(page->json);
}

static void put_group(const struct gw_process *process, struct gw_json *json, const struct routing_target_group *group)
{
    struct page page = {process, json};

    const struct gw_group_entry *entry = group->entry;

    gw_json_object(json);
    gw_page_text(json, "name", group->name);
    gw_json_key(json, "health_check");
    gw_json_bool(json, group->conf->health_check.is_enabled);
    gw_page_string(json, "file", group->conf->at->file);
    gw_page_number(json, "line", group->conf->at->line);
    gw_page_number(json, "connections", routing_count_read(&entry->use.connections));
    gw_page_number(json, "pending", routing_count_read(&entry->use.pending));
    gw_page_sources(json, group);
    gw_json_key(json, "targets");
    gw_json_array(json);
    for (uint32_t i = 0; i != group->size; ++i)
        put_target(&page, &group->targets[i]);
    gw_departures_each(process, group->entry, put_target, &page);
    gw_json_array_end(json);
    gw_json_object_end(json);
}

void gw_admin_targets(struct gw_admin_request *self)
{
    const struct gw_snapshot *snapshot = self->process->active;
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_page_number(&json, "generation", snapshot->generation);
    gw_json_key(&json, "target_groups");
    gw_json_array(&json);
    for (size_t i = 0; i != snapshot->num_groups; ++i)
        put_group(self->process, &json, gw_view_of_control(snapshot, &snapshot->groups[i]));
    gw_json_array_end(&json);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, 200, &json);
}

static const struct routing_target_group *find_group(struct gw_admin_request *self)
{
    const struct gw_snapshot *snapshot = self->process->active;
    h2o_iovec_t name = self->part[0];

    for (size_t i = 0; i != snapshot->num_groups; ++i)
        if (h2o_memis(snapshot->groups[i].name.base, snapshot->groups[i].name.len, name.base, name.len))
            return gw_view_of_control(snapshot, &snapshot->groups[i]);
    gw_admin_problem(self, 404, "there is no target group \"%.64s\"", name.base);
    return NULL;
}

void gw_admin_target_group(struct gw_admin_request *self)
{
    const struct routing_target_group *group = find_group(self);
    struct gw_json json;

    if (group == NULL)
        return;
    gw_json_init(&json);
    put_group(self->process, &json, group);
    gw_admin_answer_json(self, 200, &json);
}

/* ---- actions ---- */

static const struct routing_target *find_target(struct gw_admin_request *self, const struct routing_target_group *group)
{
    h2o_iovec_t name = self->part[1];

    for (uint32_t i = 0; i != group->size; ++i)
        if (h2o_memis(group->targets[i].name.base, group->targets[i].name.len, name.base, name.len))
            return &group->targets[i];
    gw_admin_problem(self, 404, "target group \"%.*s\" has no target \"%.64s\"", (int)group->name.len, group->name.base,
                     name.base);
    return NULL;
}

/* {"weight": 0..999}, or null for the configured one. false: it has been answered. */
static bool read_weight(struct gw_admin_request *self, int32_t *weight)
{
    json_t *body = json_loadb(self->body.base != NULL ? self->body.base : "", self->body.len, 0, NULL);
    const json_t *value = json_object_get(body, "weight");
    bool is_good = json_is_null(value) ||
                   (json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= 999);

    if (is_good)
        *weight = json_is_null(value) ? -1 : (int32_t)json_integer_value(value);
    else
        gw_admin_problem(self, 400,
                         "the body must be {\"weight\": N} with N from 0 to 999, or null for the configured "
                         "weight");
    json_decref(body);
    return is_good;
}

/* Carries it out and says what a log line should; NULL: it has been answered. */
static const char *act(struct gw_admin_request *self, const struct routing_target *target, int32_t *weight)
{
    struct routing_health *health = target->health;
    const char *action = self->part[2].base;

    *weight = INT32_MIN;
    if (strcmp(action, "drain") == 0) {
        routing_health_set_drain(health, true);
        return "drained";
    }
    if (strcmp(action, "enable") == 0) {
        routing_health_set_drain(health, false);
        gw_outliers_pardon(self->process, target);
        return "enabled";
    }
    if (strcmp(action, "reset") == 0) {
        routing_health_set_drain(health, false);
        routing_health_set_weight(health, *weight = -1);
        gw_outliers_pardon(self->process, target);
        return "reset to its configuration";
    }
    if (strcmp(action, "weight") == 0) {
        if (!read_weight(self, weight))
            return NULL;
        routing_health_set_weight(health, *weight);
        return "given another weight";
    }
    gw_admin_problem(self, 404, "the actions of a target are drain, enable, weight and reset");
    return NULL;
}

void gw_admin_target_action(struct gw_admin_request *self)
{
    const struct routing_target_group *group = find_group(self);
    const struct routing_target *target = group != NULL ? find_target(self, group) : NULL;
    struct timespec now;
    struct gw_json json;
    const char *done;
    int32_t weight;

    if (target == NULL || (done = act(self, target, &weight)) == NULL)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gw_health_log_change(gw_endpoint_entry_of(target), GW_HEALTH_BY_OPERATOR, weight,
                         (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    gw_log(GW_LOG_NOTICE, "admin", "target %.*s of %.*s was %s (weight %u, %s)", (int)target->name.len,
           target->name.base, (int)group->name.len, group->name.base, done,
           routing_health_weight(target->health, target->weight),
           routing_health_name(routing_health_state(target->health)));
    gw_json_init(&json);
    gw_json_object(&json);
    gw_page_text(&json, "target_group", group->name);
    gw_target_members(self->process, &json, target);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, 200, &json);
}
