#include "gateway/command/diff_structure.h"
#include <stdlib.h>
#include <string.h>
#include <openssl/rand.h>
#include "gateway/base/names.h"

/* ---- both sides as trees ---- */

static void as_written(h2o_iovec_t *path, const struct gw_node *at)
{
    if (path->base != NULL && at != NULL && at->kind == GW_NODE_SCALAR)
        *path = at->text;
}

static void write_paths_as_written(struct gw_config *config)
{
    as_written(&config->state_dir, gw_setting_at(config->at, "state_dir"));
    for (size_t i = 0; i != config->routes.size; ++i) {
        struct routing_files_conf *files = ((struct routing_route_conf *)config->routes.entries[i])->files;
        if (files != NULL)
            as_written(&files->root, gw_setting_at(files->at, "root"));
    }
}

/* The effective configuration, defaults and all, so that writing a default down is no change. NULL only if what is
 * printed cannot be read, which says that the printing is wrong. */
static struct gw_node *effective_tree(h2o_mem_pool_t *pool, struct gw_config *config, uint64_t seed)
{
    static const struct gw_yaml_limits limits = {.max_bytes = SIZE_MAX, .max_nodes = SIZE_MAX};
    struct gw_errors errors;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        h2o_fatal("no memory");
    write_paths_as_written(config);
    gw_settings_print_marked(out, &gw_config_section, config, seed);
    fclose(out);
    gw_errors_init(&errors);
    struct gw_node *tree =
        gw_yaml_load_text(pool, "effective configuration", h2o_iovec_init(text, len), false, &limits, &errors);
    if (errors.num_errors != 0) {
        gw_errors_print(&errors, stderr);
        tree = NULL;
    }
    gw_errors_dispose(&errors);
    free(text);
    return tree;
}

/* ---- collections ---- */

struct item {
    h2o_iovec_t name;
    const struct gw_node *node; /* effective */
    const struct gw_node *at;   /* in the file */
    const struct tls_certificate *certificate;
    size_t place; /* of a route in matching order, from 0 */
};
struct items {
    struct item *entries;
    size_t size;
};

static struct items items_of_map(const struct gw_node *tree, const char *name, const struct gw_map *map)
{
    const struct gw_node *nodes = gw_node_get(tree, name);
    struct items items = {h2o_mem_alloc((map->size + 1) * sizeof(struct item)), map->size};

    assert(map->size == 0 || nodes->size == map->size);
    for (size_t i = 0; i != map->size; ++i)
        items.entries[i] =
            (struct item){.name = map->entries[i].name, .node = nodes->entries[i], .at = map->entries[i].key};
    return items;
}

static struct items items_of_certificates(const struct gw_node *tree, const struct gw_snapshot *snapshot)
{
    const struct gw_map *map = &snapshot->config->certificates;
    struct items items = items_of_map(tree, "certificates", map);

    for (size_t i = 0; i != items.size; ++i)
        if (((const struct tls_certificate_conf *)map->entries[i].conf)->self_signed.size == 0) /* else always new */
            items.entries[i].certificate = snapshot->certificates[i];
    return items;
}

/* In matching order. */
static struct items items_of_routes(const struct gw_node *tree, const struct gw_snapshot *snapshot)
{
    const struct gw_list *routes = &snapshot->config->routes;
    const struct gw_node *nodes = gw_node_get(tree, "routes");
    struct items items = {h2o_mem_alloc((routes->size + 1) * sizeof(struct item)), routes->size};
    struct gw_names names;
    bool is_new;

    gw_names_init(&names, NULL);
    for (size_t i = 0; i != routes->size; ++i)
        *gw_names_put(&names, ((const struct routing_route_conf *)routes->entries[i])->name, &is_new) = i;
    for (size_t place = 0; place != snapshot->num_routes; ++place) {
        const struct routing_route_conf *conf = snapshot->routes[place].conf;
        items.entries[place] = (struct item){.name = conf->name,
                                             .node = nodes->entries[*gw_names_get(&names, conf->name)],
                                             .at = conf->at,
                                             .place = place};
    }
    gw_names_dispose(&names);
    return items;
}

static void index_items(struct gw_names *names, const struct items *items)
{
    bool is_new;
    gw_names_init(names, NULL);
    for (size_t i = 0; i != items->size; ++i)
        *gw_names_put(names, items->entries[i].name, &is_new) = i;
}

static void add_setting(h2o_mem_pool_t *pool, struct gw_setting_changes *changes, const char *path, const char *from,
                        const char *to)
{
    struct gw_setting_change *entries = h2o_mem_alloc_pool(pool, (changes->size + 1) * sizeof(*entries));
    if (changes->size != 0)
        memcpy(entries, changes->entries, changes->size * sizeof(*entries));
    entries[changes->size] = (struct gw_setting_change){path, from, to};
    *changes = (struct gw_setting_changes){entries, changes->size + 1, changes->size + 1};
}

static const char *expiry(h2o_mem_pool_t *pool, const struct tls_certificate *certificate)
{
    struct tm tm;
    char *text = h2o_mem_alloc_pool(pool, 64);
    gmtime_r(&certificate->not_after, &tm);
    strftime(text, 64, "valid until %Y-%m-%d %H:%M:%S UTC", &tm);
    return text;
}

/* The same file name, another certificate in it. */
static void compare_certificates(h2o_mem_pool_t *pool, const struct item *from, const struct item *to,
                                 struct gw_setting_changes *changes)
{
    if (from->certificate == NULL || to->certificate == NULL ||
        X509_cmp(from->certificate->leaf, to->certificate->leaf) == 0)
        return;
    add_setting(pool, changes, "(content)", expiry(pool, from->certificate), expiry(pool, to->certificate));
}

static void note(struct gw_collection_diff *diff, struct gw_entity_change change)
{
    diff->added += change.state == GW_ENTITY_ADDED;
    diff->removed += change.state == GW_ENTITY_REMOVED;
    diff->changed += change.state == GW_ENTITY_CHANGED;
    diff->moved += change.to_place != 0;
    diff->entries[diff->size++] = change;
}

/* moved: by index in `to`; NULL: order means nothing. */
static void compare_items(h2o_mem_pool_t *pool, struct gw_collection_diff *diff, const struct items *from,
                          const struct items *to, const bool *moved)
{
    struct gw_names old, new;

    diff->entries = h2o_mem_alloc((from->size + to->size + 1) * sizeof(diff->entries[0]));
    index_items(&old, from);
    index_items(&new, to);
    for (size_t i = 0; i != from->size; ++i)
        if (gw_names_get(&new, from->entries[i].name) == NULL)
            note(diff, (struct gw_entity_change){from->entries[i].name, GW_ENTITY_REMOVED, from->entries[i].at});
    for (size_t i = 0; i != to->size; ++i) {
        const size_t *index = gw_names_get(&old, to->entries[i].name);
        struct gw_entity_change change = {to->entries[i].name, GW_ENTITY_ADDED, to->entries[i].at};
        if (index != NULL) {
            gw_tree_diff(pool, "", from->entries[*index].node, to->entries[i].node, &change.settings);
            compare_certificates(pool, &from->entries[*index], &to->entries[i], &change.settings);
            change.state = change.settings.size != 0 ? GW_ENTITY_CHANGED : GW_ENTITY_SAME;
            if (moved != NULL && moved[i]) {
                change.from_place = from->entries[*index].place + 1;
                change.to_place = to->entries[i].place + 1;
                if (i + 1 != to->size)
                    change.before = to->entries[i + 1].name;
            }
        }
        if (change.state != GW_ENTITY_SAME || change.to_place != 0)
            note(diff, change);
    }
    gw_names_dispose(&old);
    gw_names_dispose(&new);
}

/* By index in `to`: which of the routes that both sides have come in another order. Free it. */
static bool *find_moved_routes(const struct items *from, const struct items *to)
{
    size_t *places = h2o_mem_alloc((to->size + 1) * sizeof(*places)),
           *indexes = h2o_mem_alloc((to->size + 1) * sizeof(*indexes));
    bool *moved = h2o_mem_alloc(to->size + 1), *common = h2o_mem_alloc(to->size + 1);
    struct gw_names old;
    size_t n = 0;

    memset(moved, 0, to->size + 1);
    index_items(&old, from);
    for (size_t i = 0; i != to->size; ++i) {
        const size_t *index = gw_names_get(&old, to->entries[i].name);
        if (index == NULL)
            continue;
        places[n] = *index;
        indexes[n++] = i;
    }
    gw_find_moved(places, n, common);
    for (size_t i = 0; i != n; ++i)
        moved[indexes[i]] = common[i];
    gw_names_dispose(&old);
    free(places);
    free(indexes);
    free(common);
    return moved;
}

static void compare_settings(struct gw_structure_diff *diff, const struct gw_node *from, const struct gw_node *to)
{
    static const char *const elsewhere[] = {"listeners", "certificates", "target_groups", "routes", "tests"};
    struct gw_setting_changes all = {NULL};

    gw_tree_diff(&diff->pool, "", from, to, &all);
    for (size_t i = 0; i != all.size; ++i) {
        size_t len = strcspn(all.entries[i].path, ".[");
        bool is_elsewhere = false;
        for (size_t j = 0; j != sizeof(elsewhere) / sizeof(elsewhere[0]); ++j)
            is_elsewhere |= strlen(elsewhere[j]) == len && memcmp(elsewhere[j], all.entries[i].path, len) == 0;
        if (!is_elsewhere)
            add_setting(&diff->pool, &diff->settings, all.entries[i].path, all.entries[i].from, all.entries[i].to);
    }
}

bool gw_structure_diff_init(struct gw_structure_diff *diff, struct gw_snapshot *from, struct gw_snapshot *to)
{
    static const char *const names[] = {"listeners", "certificates", "target_groups", "routes"};
    uint64_t seed = 0;

    memset(diff, 0, sizeof(*diff));
    h2o_mem_init_pool(&diff->pool);
    RAND_bytes((unsigned char *)&seed, sizeof(seed)); /* without it marks are still never shown */
    const struct gw_node *old = effective_tree(&diff->pool, from->config, seed);
    const struct gw_node *new = effective_tree(&diff->pool, to->config, seed);
    if (old == NULL || new == NULL)
        return false;
    struct items before[] = {items_of_map(old, "listeners", &from->config->listeners), items_of_certificates(old, from),
                             items_of_map(old, "target_groups", &from->config->target_groups),
                             items_of_routes(old, from)};
    struct items after[] = {items_of_map(new, "listeners", &to->config->listeners), items_of_certificates(new, to),
                            items_of_map(new, "target_groups", &to->config->target_groups), items_of_routes(new, to)};
    bool *moved = find_moved_routes(&before[GW_DIFF_ROUTES], &after[GW_DIFF_ROUTES]);

    for (int i = 0; i != GW_DIFF_COLLECTIONS; ++i) {
        diff->collections[i].name = names[i];
        compare_items(&diff->pool, &diff->collections[i], &before[i], &after[i], i == GW_DIFF_ROUTES ? moved : NULL);
        diff->is_changed |= diff->collections[i].size != 0;
        free(before[i].entries);
        free(after[i].entries);
    }
    free(moved);
    compare_settings(diff, old, new);
    diff->is_changed |= diff->settings.size != 0;
    return true;
}

void gw_structure_diff_dispose(struct gw_structure_diff *diff)
{
    for (int i = 0; i != GW_DIFF_COLLECTIONS; ++i)
        free(diff->collections[i].entries);
    h2o_mem_clear_pool(&diff->pool);
}

/* ---- report ---- */

enum { MAX_VALUE_SHOWN = 120 };

static void print_value(FILE *out, const char *value)
{
    size_t len = strlen(value);
    fprintf(out, "%.*s%s", len > MAX_VALUE_SHOWN ? MAX_VALUE_SHOWN : (int)len, value,
            len > MAX_VALUE_SHOWN ? "..." : "");
}

static void print_settings(FILE *out, const struct gw_setting_changes *changes, const char *indent)
{
    for (size_t i = 0; i != changes->size; ++i) {
        const struct gw_setting_change *change = &changes->entries[i];
        fprintf(out, "%s%s: ", indent, change->path);
        if (change->from == NULL)
            fprintf(out, "added ");
        else
            print_value(out, change->from);
        if (change->from != NULL)
            fprintf(out, change->to != NULL ? " -> " : " -> removed");
        if (change->to != NULL && change->from != NULL && strcmp(change->from, change->to) == 0)
            fprintf(out, "(another secret)");
        else if (change->to != NULL)
            print_value(out, change->to);
        fputc('\n', out);
    }
}

static void print_entity(FILE *out, const struct gw_entity_change *change)
{
    static const char signs[] = {
        [GW_ENTITY_SAME] = '~', [GW_ENTITY_ADDED] = '+', [GW_ENTITY_REMOVED] = '-', [GW_ENTITY_CHANGED] = '~'};

    fprintf(out, "  %c %.*s", signs[change->state], (int)change->name.len, change->name.base);
    if (change->at != NULL)
        fprintf(out, "  [%s:%u]", change->at->file, change->at->line);
    fputc('\n', out);
    print_settings(out, &change->settings, "      ");
    if (change->to_place == 0)
        return;
    fprintf(out, "      (order): place %zu -> %zu", change->from_place, change->to_place);
    if (change->before.base != NULL)
        fprintf(out, ", now before %.*s", (int)change->before.len, change->before.base);
    fputc('\n', out);
}

void gw_structure_diff_print(FILE *out, const struct gw_structure_diff *diff)
{
    for (int i = 0; i != GW_DIFF_COLLECTIONS; ++i) {
        const struct gw_collection_diff *collection = &diff->collections[i];
        if (collection->size == 0)
            continue;
        fprintf(out, "%s: +%zu -%zu ~%zu", collection->name, collection->added, collection->removed,
                collection->changed);
        if (collection->moved != 0)
            fprintf(out, ", %zu moved", collection->moved);
        fputc('\n', out);
        for (size_t j = 0; j != collection->size; ++j)
            print_entity(out, &collection->entries[j]);
    }
    if (diff->settings.size != 0)
        fprintf(out, "settings: ~%zu\n", diff->settings.size);
    print_settings(out, &diff->settings, "  ~ ");
    if (!diff->is_changed)
        fprintf(out, "no setting changes\n");
}

static void json_string(struct gw_json *json, const char *key, const char *value)
{
    gw_json_key(json, key);
    value != NULL ? gw_json_string(json, value) : gw_json_null(json);
}

static void json_settings(struct gw_json *json, const struct gw_setting_changes *changes)
{
    gw_json_key(json, "settings");
    gw_json_array(json);
    for (size_t i = 0; i != changes->size; ++i) {
        gw_json_object(json);
        json_string(json, "path", changes->entries[i].path);
        json_string(json, "from", changes->entries[i].from);
        json_string(json, "to", changes->entries[i].to);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

static void json_entity(struct gw_json *json, const struct gw_entity_change *change)
{
    gw_json_object(json);
    gw_json_key(json, "name");
    gw_json_text(json, change->name);
    json_string(json, "file", change->at != NULL ? change->at->file : NULL);
    gw_json_key(json, "line");
    gw_json_unsigned(json, change->at != NULL ? change->at->line : 0);
    if (change->state == GW_ENTITY_CHANGED)
        json_settings(json, &change->settings);
    if (change->to_place != 0) {
        gw_json_key(json, "from_place");
        gw_json_unsigned(json, change->from_place);
        gw_json_key(json, "to_place");
        gw_json_unsigned(json, change->to_place);
    }
    gw_json_object_end(json);
}

/* An entry may be changed and moved. */
static void json_entities(struct gw_json *json, const char *key, const struct gw_collection_diff *collection,
                          enum gw_entity_state state, bool is_moved)
{
    gw_json_key(json, key);
    gw_json_array(json);
    for (size_t i = 0; i != collection->size; ++i)
        if (is_moved ? collection->entries[i].to_place != 0 : collection->entries[i].state == state)
            json_entity(json, &collection->entries[i]);
    gw_json_array_end(json);
}

void gw_structure_diff_json(struct gw_json *json, const struct gw_structure_diff *diff)
{
    gw_json_object(json);
    for (int i = 0; i != GW_DIFF_COLLECTIONS; ++i) {
        const struct gw_collection_diff *collection = &diff->collections[i];
        gw_json_key(json, collection->name);
        gw_json_object(json);
        json_entities(json, "added", collection, GW_ENTITY_ADDED, false);
        json_entities(json, "removed", collection, GW_ENTITY_REMOVED, false);
        json_entities(json, "changed", collection, GW_ENTITY_CHANGED, false);
        if (i == GW_DIFF_ROUTES)
            json_entities(json, "moved", collection, GW_ENTITY_SAME, true);
        gw_json_object_end(json);
    }
    json_settings(json, &diff->settings);
    gw_json_object_end(json);
}
