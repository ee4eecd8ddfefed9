#include "gateway/changes.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/snapshot.h"

/* One named thing of a configuration. */
struct item {
    h2o_iovec_t name;
    const struct gw_node *node;
    size_t position;
};
struct items {
    struct item *entries;
    size_t size;
};

static bool same_text(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

static bool same_tree(const struct gw_node *a, const struct gw_node *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (a->kind != b->kind || a->size != b->size)
        return false;
    if (a->kind == GW_NODE_SCALAR)
        return same_text(a->text, b->text);
    for (size_t i = 0; i != a->size; ++i)
        if ((a->kind == GW_NODE_MAP && !same_text(a->keys[i]->text, b->keys[i]->text)) ||
            !same_tree(a->entries[i], b->entries[i]))
            return false;
    return true;
}

static int compare_names(const void *_a, const void *_b)
{
    const struct item *a = _a, *b = _b;
    size_t len = a->name.len < b->name.len ? a->name.len : b->name.len;
    int order = memcmp(a->name.base, b->name.base, len);
    return order != 0 ? order : a->name.len < b->name.len ? -1 : a->name.len > b->name.len;
}

static struct items sorted(struct items items)
{
    if (items.size > 1)
        qsort(items.entries, items.size, sizeof(*items.entries), compare_names);
    return items;
}

/* Every section's struct begins with the node it came from. */
static const struct gw_node *node_of(const void *conf) { return *(const struct gw_node *const *)conf; }

static struct items items_of_map(const struct gw_map *map)
{
    struct items items = {h2o_mem_alloc(sizeof(*items.entries) * (map->size + 1)), map->size};
    for (size_t i = 0; i != map->size; ++i)
        items.entries[i] = (struct item){map->entries[i].name, node_of(map->entries[i].conf), i};
    return sorted(items);
}

static struct items items_of_routes(const struct gw_list *list)
{
    struct items items = {h2o_mem_alloc(sizeof(*items.entries) * (list->size + 1)), list->size};
    for (size_t i = 0; i != list->size; ++i) {
        const struct routing_route_conf *route = list->entries[i];
        items.entries[i] = (struct item){route->name, route->at, i};
    }
    return sorted(items);
}

/* Both sorted. place: for each position before, where it is after, SIZE_MAX if gone; or NULL. Frees the items. */
static void count(struct items before, struct items after, struct gw_change_counts *counts, size_t *place)
{
    size_t i = 0, j = 0;

    while (i != before.size || j != after.size) {
        int order = i == before.size ? 1 : j == after.size ? -1 : compare_names(&before.entries[i], &after.entries[j]);
        if (order < 0) {
            ++counts->removed;
            if (place != NULL)
                place[before.entries[i].position] = SIZE_MAX;
            ++i;
        } else if (order > 0) {
            ++counts->added;
            ++j;
        } else {
            counts->changed += !same_tree(before.entries[i].node, after.entries[j].node);
            if (place != NULL)
                place[before.entries[i].position] = after.entries[j].position;
            ++i;
            ++j;
        }
    }
    free(before.entries);
    free(after.entries);
}

static bool has_moved(const size_t *place, size_t size)
{
    size_t last = 0;
    for (size_t i = 0; i != size; ++i) {
        if (place[i] == SIZE_MAX)
            continue;
        if (place[i] < last)
            return true;
        last = place[i];
    }
    return false;
}

static bool is_counted_by_name(const char *key)
{
    static const char *const keys[] = {"routes", "target_groups", "listeners", "certificates", "include"};
    for (size_t i = 0; i != sizeof(keys) / sizeof(keys[0]); ++i)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

static uint32_t count_others(const struct gw_node *before, const struct gw_node *after)
{
    uint32_t n = 0;
    for (const struct gw_setting *row = gw_config_section.settings; row->name != NULL; ++row)
        if (!is_counted_by_name(row->name))
            n += !same_tree(gw_node_get(before, row->name), gw_node_get(after, row->name));
    return n;
}

void gw_changes_count(const struct gw_config *before, const struct gw_config *after, struct gw_changes *changes)
{
    size_t *place = h2o_mem_alloc(sizeof(*place) * (before->routes.size + 1));

    memset(changes, 0, sizeof(*changes));
    count(items_of_routes(&before->routes), items_of_routes(&after->routes), &changes->routes, place);
    changes->routes_moved = has_moved(place, before->routes.size);
    count(items_of_map(&before->target_groups), items_of_map(&after->target_groups), &changes->target_groups, NULL);
    count(items_of_map(&before->listeners), items_of_map(&after->listeners), &changes->listeners, NULL);
    count(items_of_map(&before->certificates), items_of_map(&after->certificates), &changes->certificates, NULL);
    changes->other_settings = count_others(before->at, after->at);
    free(place);
}

void gw_changes_count_renewed(const struct gw_snapshot *before, const struct gw_snapshot *after,
                              struct gw_changes *changes)
{
    const struct gw_map *old = &before->config->certificates, *new = &after->config->certificates;

    for (size_t i = 0; i != new->size; ++i) {
        const struct tls_certificate_conf *conf = new->entries[i].conf;
        const struct gw_named *was = gw_map_find(old, new->entries[i].name);
        if (conf->self_signed.size != 0 || was == NULL || !same_tree(node_of(was->conf), conf->at))
            continue; /* made anew by each load; counted already */
        changes->certificates.changed +=
            X509_cmp(before->certificates[was - old->entries]->leaf, after->certificates[i]->leaf) != 0;
    }
}

/* ---- as a text ---- */

struct writer {
    char *dst;
    size_t size, len;
};

static void put(struct writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct writer *writer, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(writer->dst + writer->len, writer->size - writer->len, format, args);
    va_end(args);
    if (n > 0)
        writer->len += (size_t)n < writer->size - writer->len ? (size_t)n : writer->size - writer->len - 1;
}

static void put_counts(struct writer *writer, const char *what, const struct gw_change_counts *counts, const char *more)
{
    if (counts->added + counts->removed + counts->changed == 0 && more[0] == '\0')
        return;
    put(writer, "%s%s", writer->len != 0 ? ", " : "", what);
    if (counts->added != 0)
        put(writer, " +%u", counts->added);
    if (counts->removed != 0)
        put(writer, " -%u", counts->removed);
    if (counts->changed != 0)
        put(writer, " ~%u", counts->changed);
    put(writer, "%s", more);
}

size_t gw_changes_text(const struct gw_changes *changes, char *dst, size_t size)
{
    struct writer writer = {dst, size, 0};

    dst[0] = '\0';
    put_counts(&writer, "routes", &changes->routes, changes->routes_moved ? " in another order" : "");
    put_counts(&writer, "target groups", &changes->target_groups, "");
    put_counts(&writer, "listeners", &changes->listeners, "");
    put_counts(&writer, "certificates", &changes->certificates, "");
    if (changes->other_settings != 0)
        put(&writer, "%ssettings ~%u", writer.len != 0 ? ", " : "", changes->other_settings);
    if (writer.len == 0)
        put(&writer, "no changes");
    return writer.len;
}
