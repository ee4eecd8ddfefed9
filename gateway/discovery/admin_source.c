#include "gateway/discovery/admin_source.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>
#include "gateway/base/log.h"
#include "gateway/discovery/file_source.h"

enum { WRITE_AFTER_MS = 200 };

struct gw_admin_targets {
    struct gw_process *process;
    struct gw_timer timer;
    bool has_failed; /* the last write: told once */
};

static bool path_of(const struct gw_config *config, char *path, size_t len)
{
    return config->state_dir.base != NULL && snprintf(path, len, "%s/targets.json", config->state_dir.base) < (int)len;
}

/* ---- writing ---- */

static json_t *text(h2o_iovec_t s) { return json_stringn_nocheck(s.base, s.len); }

static json_t *describe(const struct gw_source *source)
{
    json_t *list = json_array();

    for (size_t i = 0; i != source->size; ++i) {
        const struct gw_source_member *member = &source->members[i];
        json_t *target = json_object();
        json_object_set_new(target, "address", text(member->endpoint->endpoint.name));
        json_object_set_new(target, "weight", json_integer(member->weight));
        if (member->zone.base != NULL)
            json_object_set_new(target, "zone", text(member->zone));
        json_array_append_new(list, target);
    }
    return list;
}

static json_t *describe_all(const struct gw_process *process)
{
    json_t *all = json_object();

    for (size_t i = 0; i != process->groups.size; ++i) {
        const struct gw_group_entry *group = process->groups.entries[i];
        for (const struct gw_source *source = group->sources; source != NULL; source = source->next)
            if (gw_source_is_of_admin(source) && source->size != 0)
                json_object_setn_new_nocheck(all, group->name.base, group->name.len, describe(source));
    }
    return all;
}

/* Under another name first: whoever reads it gets all of it. */
static bool write_file(const char *path, const json_t *all)
{
    char temporary[4200];

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    bool ok = json_dump_file(all, temporary, JSON_INDENT(1) | JSON_SORT_KEYS) == 0 && chmod(temporary, 0640) == 0 &&
              rename(temporary, path) == 0;
    if (!ok)
        unlink(temporary);
    return ok;
}

static void on_timer(struct gw_timer *timer)
{
    struct gw_admin_targets *self = H2O_STRUCT_FROM_MEMBER(struct gw_admin_targets, timer, timer);
    char path[4096];

    if (self->process->active == NULL || !path_of(self->process->active->config, path, sizeof(path)))
        return;
    pthread_mutex_lock(&self->process->lock); /* a load may add groups */
    json_t *all = describe_all(self->process);
    pthread_mutex_unlock(&self->process->lock);
    bool ok = write_file(path, all);
    json_decref(all);
    if (!ok && !self->has_failed)
        gw_log(GW_LOG_ERROR, "discovery", "cannot keep the targets of the admin API in %s: %s; a restart forgets them",
               path, strerror(errno));
    self->has_failed = !ok;
}

void gw_admin_targets_keep(struct gw_process *process)
{
    struct gw_admin_targets *self = gw_discovery_admin_targets(process);
    if (!gw_timer_is_armed(&self->timer))
        gw_timer_arm(process->control.wheel, &self->timer, gw_now_ms() + WRITE_AFTER_MS);
}

/* ---- reading ---- */

static void restore(struct gw_process *process, const char *path, const char *name, const json_t *list)
{
    static const struct gw_member defaults = {.weight = 1};
    struct gw_group_entry *group = gw_process_group(process, h2o_iovec_init(name, strlen(name)));
    struct gw_member *members;
    struct gw_errors errors;
    h2o_mem_pool_t pool;
    size_t size;
    char *bytes = json_dumps(list, 0);

    h2o_mem_init_pool(&pool);
    gw_errors_init(&errors);
    if (bytes != NULL &&
        gw_targets_read(&pool, path, h2o_iovec_init(bytes, strlen(bytes)), &defaults, &members, &size, &errors))
        gw_members_set(gw_source_of_admin(process, group), members, size);
    else
        gw_log(GW_LOG_ERROR, "discovery", "%s: the targets of %s cannot be read: %s", path, name,
               errors.size != 0 ? errors.entries[0].text : "?");
    gw_errors_dispose(&errors);
    h2o_mem_clear_pool(&pool);
    gw_group_release(group);
    free(bytes);
}

void gw_admin_targets_load(struct gw_admin_targets *self, const struct gw_config *config)
{
    char path[4096];
    json_error_t error;
    const char *name;
    json_t *list;

    if (!path_of(config, path, sizeof(path)) || access(path, F_OK) != 0)
        return;
    json_t *all = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(all))
        gw_log(GW_LOG_ERROR, "discovery", "%s:%d: %s: what the admin API has added is lost", path, error.line,
               error.text);
    else
        json_object_foreach(all, name, list) restore(self->process, path, name, list);
    json_decref(all);
}

/* ---- life ---- */

struct gw_admin_targets *gw_admin_targets_create(struct gw_process *process)
{
    struct gw_admin_targets *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_admin_targets){.process = process};
    gw_timer_init(&self->timer, on_timer);
    return self;
}

void gw_admin_targets_destroy(struct gw_admin_targets *self)
{
    if (self == NULL)
        return;
    if (gw_timer_is_armed(&self->timer)) { /* what has changed just now */
        gw_timer_disarm(&self->timer);
        on_timer(&self->timer);
    }
    free(self);
}
