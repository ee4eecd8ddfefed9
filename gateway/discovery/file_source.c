/* {file: targets.yaml}: a list of targets in a file, read again whenever it changes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/file_source.h"
#include "gateway/discovery/watch.h"

/* What a rename brings is whole; of other changes another may follow at once. Now and then the file is looked at
 * without having been told: not every file system tells. */
enum { SETTLE_MS = 50, LOOK_MS = 2000, MAX_BYTES = 16 << 20 };

struct file_source {
    struct gw_source *source;
    char *path, *directory;
    struct gw_watch *watch; /* NULL: the directory cannot be watched (yet) */
    struct gw_timer timer;
    uint64_t weight; /* of entries that say none: as the source's */
    h2o_iovec_t zone;
    struct stat seen; /* when it was read last */
    bool was_bad;
};

/* ---- reading ---- */

/* The file as a section of its own: `[...]` or `targets: [...]`. */
struct targets_file {
    const struct gw_node *at;
    struct gw_list targets;
};
static const struct gw_setting file_settings[] = {
    {"targets", GW_LIST, offsetof(struct targets_file, targets), "The targets.", .section = &routing_target_section,
     .is_required = true},
    {0},
};
static const struct gw_section file_section = {
    .name = "file of targets",
    .help = "Targets of a group, in a file of their own.",
    .size = sizeof(struct targets_file),
    .settings = file_settings,
    .scalar_is = "targets",
    .list_is = "targets",
};

static bool check_entry(const struct routing_target_conf *conf, struct gw_errors *errors)
{
    if (routing_target_is_source(conf))
        return gw_error_at(errors, conf->at, "a file of targets holds addresses only");
    return !conf->address.is_name ||
           gw_error_at(errors, conf->at, "\"%s\" is no address (expected IP:port or unix:/path)",
                       conf->address.text.base);
}

static bool is_written(const struct routing_target_conf *conf, const char *name)
{
    return conf->at != NULL && gw_node_get(conf->at, name) != NULL;
}

/* One target may stand alone. */
static struct gw_node *list_of_one(h2o_mem_pool_t *pool, struct gw_node *entry)
{
    struct gw_node *list = h2o_mem_alloc_pool(pool, sizeof(*list));

    *list = *entry;
    list->kind = GW_NODE_LIST;
    list->size = 1;
    list->keys = NULL;
    list->entries = h2o_mem_alloc_pool(pool, sizeof(*list->entries));
    list->entries[0] = entry;
    return list;
}

bool gw_targets_read(h2o_mem_pool_t *pool, const char *name, h2o_iovec_t text, const struct gw_member *defaults,
                     struct gw_member **members, size_t *size, struct gw_errors *errors)
{
    const struct gw_yaml_limits limits = {.max_bytes = MAX_BYTES, .max_nodes = 1000000, .max_depth = 8};
    struct gw_loader load = {pool, errors};
    struct targets_file file;
    struct gw_node *root = gw_yaml_load_data(pool, name, text, &limits, errors);

    if (root != NULL && root->kind == GW_NODE_MAP && gw_node_key(root, "targets") == NULL)
        root = list_of_one(pool, root);
    if (root == NULL || errors->num_errors != 0 || !gw_settings_load(&load, &file_section, root, &file))
        return false;
    *size = file.targets.size;
    *members = h2o_mem_alloc_pool(pool, (*size + 1) * sizeof(**members));
    for (size_t i = 0; i != *size; ++i) {
        const struct routing_target_conf *conf = file.targets.entries[i];
        if (!check_entry(conf, errors))
            continue;
        (*members)[i] = (struct gw_member){
            .address = conf->address,
            .weight = is_written(conf, "weight") ? (uint32_t)conf->weight : defaults->weight,
            .zone = conf->zone.base != NULL ? conf->zone : defaults->zone,
        };
    }
    return errors->num_errors == 0;
}

static bool read_bytes(h2o_mem_pool_t *pool, const char *path, struct stat *st, h2o_iovec_t *text, const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n;

    *why = NULL;
    *text = h2o_iovec_init(NULL, 0);
    memset(st, 0, sizeof(*st));
    if (fd < 0 || fstat(fd, st) != 0)
        *why = strerror(errno);
    else if (!S_ISREG(st->st_mode))
        *why = "it is no regular file";
    else if (st->st_size > MAX_BYTES)
        *why = "it is too large";
    if (*why == NULL) {
        text->base = h2o_mem_alloc_pool(pool, (size_t)st->st_size + 1);
        while (text->len < (size_t)st->st_size &&
               (n = read(fd, text->base + text->len, (size_t)st->st_size - text->len)) > 0)
            text->len += (size_t)n;
        text->base[text->len] = '\0';
    }
    if (fd >= 0)
        close(fd);
    return *why == NULL;
}

static void fail(struct file_source *self, const char *why, const struct gw_errors *errors)
{
    char text[1200];

    if (errors != NULL && errors->size != 0)
        snprintf(text, sizeof(text), "%s:%u:%u: %s", errors->entries[0].file, errors->entries[0].line,
                 errors->entries[0].column, errors->entries[0].text);
    else
        snprintf(text, sizeof(text), "%s: cannot be read: %s", self->path, why);
    gw_log(GW_LOG_ERROR, "discovery", "targets of %.*s stay as they are: %s", (int)gw_source_group(self->source).len,
           gw_source_group(self->source).base, text);
    gw_source_note_failure(self->source, text);
    self->was_bad = true;
}

static void read_now(struct file_source *self)
{
    const struct gw_member defaults = {.weight = (uint32_t)self->weight, .zone = self->zone};
    struct gw_member *members;
    struct gw_errors errors;
    h2o_mem_pool_t pool;
    h2o_iovec_t text;
    const char *why;
    size_t size;

    h2o_mem_init_pool(&pool);
    gw_errors_init(&errors);
    if (!read_bytes(&pool, self->path, &self->seen, &text, &why)) {
        fail(self, why, NULL);
    } else if (!gw_targets_read(&pool, self->path, text, &defaults, &members, &size, &errors)) {
        fail(self, "", &errors);
    } else {
        if (self->was_bad)
            gw_log(GW_LOG_NOTICE, "discovery", "%s can be read again", self->path);
        self->was_bad = false;
        gw_source_note_failure(self->source, NULL);
        gw_members_set(self->source, members, size);
    }
    gw_errors_dispose(&errors);
    h2o_mem_clear_pool(&pool);
}

/* ---- watching ---- */

static void on_event(void *data, bool is_whole);

static void arm(struct file_source *self, uint64_t ms)
{
    gw_timer_arm(gw_source_process(self->source)->control.wheel, &self->timer, gw_now_ms() + ms);
}

static bool has_changed(const struct file_source *self)
{
    struct stat now;

    if (stat(self->path, &now) != 0)
        return self->seen.st_ino != 0;
    return now.st_ino != self->seen.st_ino || now.st_dev != self->seen.st_dev || now.st_size != self->seen.st_size ||
           now.st_mtim.tv_sec != self->seen.st_mtim.tv_sec || now.st_mtim.tv_nsec != self->seen.st_mtim.tv_nsec;
}

static void look(struct file_source *self)
{
    if (has_changed(self))
        read_now(self);
    if (self->watch == NULL)
        self->watch =
            gw_watcher_add(gw_discovery_watcher(gw_source_process(self->source)), self->directory, on_event, self);
    arm(self, LOOK_MS);
}

static void on_timer(struct gw_timer *timer) { look(H2O_STRUCT_FROM_MEMBER(struct file_source, timer, timer)); }

static void on_event(void *data, bool is_whole)
{
    struct file_source *self = data;

    if (gw_watch_is_over(self->watch)) { /* the directory is gone; there may be another one by its name soon */
        gw_watch_remove(self->watch);
        self->watch = NULL;
    }
    if (is_whole)
        look(self);
    else
        arm(self, SETTLE_MS);
}

/* ---- life ---- */

static bool key(const struct routing_target_conf *conf, char *buf, size_t len)
{
    h2o_mem_pool_t pool;

    if (conf->file.base == NULL)
        return false;
    h2o_mem_init_pool(&pool);
    snprintf(buf, len, "%s", gw_node_path(&pool, conf->at, conf->file).base);
    h2o_mem_clear_pool(&pool);
    return true;
}

static void set_defaults(struct file_source *self, const struct routing_target_conf *conf)
{
    free(self->zone.base);
    self->weight = conf->weight;
    self->zone = conf->zone.base != NULL ? h2o_strdup(NULL, conf->zone.base, conf->zone.len) : conf->zone;
}

static void *start(struct gw_source *source, const struct routing_target_conf *conf)
{
    struct file_source *self = h2o_mem_alloc(sizeof(*self));
    const char *path = gw_source_key(source), *slash = strrchr(path, '/');

    *self = (struct file_source){.source = source, .path = h2o_strdup(NULL, path, SIZE_MAX).base};
    if (slash == NULL)
        self->directory = h2o_strdup(NULL, H2O_STRLIT(".")).base;
    else
        self->directory = h2o_strdup(NULL, path, slash == path ? 1 : (size_t)(slash - path)).base;
    set_defaults(self, conf);
    gw_timer_init(&self->timer, on_timer);
    /* the watch first: what changes while the file is read is seen */
    self->watch = gw_watcher_add(gw_discovery_watcher(gw_source_process(source)), self->directory, on_event, self);
    read_now(self);
    arm(self, LOOK_MS);
    return self;
}

static void change(void *data, const struct routing_target_conf *conf)
{
    struct file_source *self = data;
    set_defaults(self, conf);
    read_now(self);
}

static void stop(void *data)
{
    struct file_source *self = data;
    gw_timer_disarm(&self->timer);
    gw_watch_remove(self->watch);
    free(self->zone.base);
    free(self->directory);
    free(self->path);
    free(self);
}

/* `required`, in a load. */
static bool check(const struct routing_target_conf *conf, struct gw_errors *errors)
{
    const struct gw_member defaults = {0};
    struct gw_member *members;
    h2o_mem_pool_t pool;
    h2o_iovec_t text;
    struct stat st;
    const char *why;
    char path[4500];
    size_t size;
    bool is_good;

    if (!conf->is_required || !key(conf, path, sizeof(path)))
        return true;
    h2o_mem_init_pool(&pool);
    if ((is_good = read_bytes(&pool, path, &st, &text, &why)))
        is_good = gw_targets_read(&pool, path, text, &defaults, &members, &size, errors);
    else
        gw_error_at(errors, gw_setting_at(conf->at, "file"), "cannot read %s: %s", path, why);
    h2o_mem_clear_pool(&pool);
    return is_good;
}

const struct gw_source_kind gw_file_source_kind = {"file", key, start, change, stop, check, NULL};
