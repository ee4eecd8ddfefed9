/* Targets that come and go by the admin API: of groups that are dynamic. */
#include <string.h>
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/admin_request.h"
#include "gateway/base/log.h"
#include "gateway/discovery/admin_source.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/file_source.h"
#include "gateway/discovery/view.h"

/* ---- what there is ---- */

static void put_source(struct gw_json *json, const struct gw_source *source)
{
    gw_json_object(json);
    gw_page_string(json, "kind", source->kind->name);
    gw_json_key(json, "from");
    if (source->key[0] != '\0')
        gw_json_string(json, source->key);
    else
        gw_json_null(json);
    gw_page_number(json, "targets", source->size);
    gw_page_number(json, "changes", source->changes);
    gw_page_time_ms(json, "changed_at", source->changed_at_ms);
    gw_page_number(json, "failures", source->failures);
    gw_json_key(json, "failure");
    if (source->failure != NULL)
        gw_json_string(json, source->failure);
    else
        gw_json_null(json);
    gw_json_key(json, "details");
    gw_json_object(json);
    if (source->kind->describe != NULL && source->data != NULL)
        source->kind->describe(source->data, json);
    gw_json_object_end(json);
    gw_json_object_end(json);
}

void gw_page_sources(struct gw_json *json, const struct routing_target_group *group)
{
    const struct gw_group_entry *entry = group->entry;

    gw_json_key(json, "dynamic");
    gw_json_bool(json, group->dynamic != NULL);
    gw_json_key(json, "sources");
    gw_json_array(json);
    for (const struct gw_source *source = entry->sources; source != NULL && group->dynamic != NULL;
         source = source->next)
        put_source(json, source);
    gw_json_array_end(json);
}

/* ---- changes ---- */

static const struct routing_target_group *find_group(struct gw_admin_request *self)
{
    const struct gw_snapshot *snapshot = self->process->active;
    const struct gw_named *named = gw_map_find(&snapshot->config->target_groups, self->part[0]);

    if (named == NULL) {
        gw_admin_problem(self, 404, "there is no target group \"%.64s\"", self->part[0].base);
        return NULL;
    }
    const struct routing_target_group *group = &snapshot->groups[named - snapshot->config->target_groups.entries];
    if (group->dynamic == NULL) {
        gw_admin_problem(self, 409,
                         "the targets of \"%.64s\" do not change while weir serves (`dynamic: true` lets them)",
                         self->part[0].base);
        return NULL;
    }
    return group;
}

static void answer(struct gw_admin_request *self, const struct gw_source *source, size_t num_changed)
{
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_page_text(&json, "target_group", source->group->name);
    gw_page_string(&json, "source", source->kind->name);
    gw_page_number(&json, "changed", num_changed);
    gw_page_number(&json, "targets", source->size);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, 200, &json);
    if (num_changed == 0)
        return;
    gw_admin_targets_keep(self->process);
}

static bool read_body(struct gw_admin_request *self, struct gw_member **members, size_t *size)
{
    static const struct gw_member defaults = {.weight = 1};
    struct gw_errors errors;
    bool is_good;

    gw_errors_init(&errors);
    if (self->body.base == NULL)
        self->body = h2o_iovec_init(H2O_STRLIT(""));
    is_good = gw_targets_read(self->request.pool, "body", self->body, &defaults, members, size, &errors);
    if (!is_good)
        gw_admin_problem(self, 400, "%s:%u:%u: %s", errors.entries[0].file, errors.entries[0].line,
                         errors.entries[0].column, errors.entries[0].text);
    gw_errors_dispose(&errors);
    return is_good;
}

/* POST adds, or changes those that are there; PUT is all that the API has added. */
void gw_admin_members_change(struct gw_admin_request *self)
{
    const struct routing_target_group *group = find_group(self);
    bool replaces =
        h2o_memis(self->request.stream->head.method.base, self->request.stream->head.method.len, H2O_STRLIT("PUT"));
    struct gw_member *members;
    size_t size, num_changed = 0;

    if (group == NULL || !read_body(self, &members, &size))
        return;
    struct gw_source *source = gw_source_of_admin(self->process, group->entry);
    if (replaces) {
        uint64_t before = source->changes;
        gw_members_set(source, members, size);
        num_changed = source->changes != before;
    } else {
        for (size_t i = 0; i != size; ++i)
            num_changed += gw_source_put(source, &members[i]);
    }
    if (num_changed != 0)
        gw_log(GW_LOG_INFO, "admin", "%zu targets were %s %.*s", size, replaces ? "given to" : "put into",
               (int)group->name.len, group->name.base);
    answer(self, source, num_changed);
}

void gw_admin_members_remove(struct gw_admin_request *self)
{
    const struct routing_target_group *group = find_group(self);

    if (group == NULL)
        return;
    struct gw_source *source = gw_source_of_admin(self->process, group->entry);
    if (gw_source_remove(source, self->part[1])) {
        gw_log(GW_LOG_INFO, "admin", "target %s was taken out of %.*s", self->part[1].base, (int)group->name.len,
               group->name.base);
        answer(self, source, 1);
        return;
    }
    const struct gw_members *members = gw_members_of(group);
    for (uint32_t i = 0; members != NULL && i != members->size; ++i)
        if (h2o_memis(members->targets[i].name.base, members->targets[i].name.len, self->part[1].base,
                      self->part[1].len)) {
            gw_admin_problem(self, 409, "target \"%.64s\" comes from another source (%s): drain it, or change that",
                             self->part[1].base, members->targets[i].source);
            return;
        }
    gw_admin_problem(self, 404, "target group \"%.*s\" has no target \"%.64s\"", (int)group->name.len, group->name.base,
                     self->part[1].base);
}
