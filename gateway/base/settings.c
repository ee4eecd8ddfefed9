/* Loading: a map node into a struct, row by row of the section's table. */
#include "gateway/base/settings.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/ip.h"
#include "gateway/base/names.h"
#include "gateway/base/settings_internal.h"

enum { MAX_ROWS = 64, SMALL_MAP = 8, MAX_KEYS_NAMED = 12 };

/* After so many errors, looking for what was meant costs more than it helps. */
enum { MAX_HELPFUL_KEYS = 1000, MAX_HELPFUL_NAMES = 100 };

/* What a message calls a node: its text in quotes, or its kind. */
struct shown {
    char text[80];
};

static struct shown show(const struct gw_node *node)
{
    struct shown shown;
    if (node->kind != GW_NODE_SCALAR)
        strcpy(shown.text, node->kind == GW_NODE_LIST ? "a list" : "a map");
    else if (node->is_secret)
        strcpy(shown.text, "***");
    else if (node->text.len == 0)
        strcpy(shown.text, "empty");
    else
        snprintf(shown.text, sizeof(shown.text), "\"%.60s%s\"", node->text.base, node->text.len > 60 ? "..." : "");
    return shown;
}

static bool wrong_value(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                        const char *expected)
{
    return gw_error_at(loader->errors, node, "%s is %s (expected %s)", row->name, show(node).text, expected);
}

const struct gw_node *gw_setting_value_node(const struct gw_section *section, const struct gw_node *at,
                                            const char *name)
{
    if (at == NULL)
        return NULL;
    const char *only = at->kind == GW_NODE_SCALAR ? section->scalar_is
                       : at->kind == GW_NODE_LIST ? section->list_is
                                                  : NULL;
    return only != NULL && strcmp(only, name) == 0 ? at : gw_node_get(at, name);
}

bool gw_setting_applies(const struct gw_section *section, const struct gw_setting *row, const void *conf)
{
    if (row->only_with[0] == NULL)
        return true;
    for (size_t i = 0; i != 2 && row->only_with[i] != NULL; ++i) {
        const struct gw_setting *other = gw_setting_find(section, row->only_with[i], strlen(row->only_with[i]));
        if (((const h2o_iovec_t *)gw_setting_field(other, conf))->base != NULL)
            return true;
    }
    return false;
}

const struct gw_setting *gw_setting_find(const struct gw_section *section, const char *name, size_t len)
{
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row)
        if (h2o_memis(row->name, strlen(row->name), name, len))
            return row;
    return NULL;
}

/* A scalar with a value: what every single value needs before it is looked at. */
static bool need_scalar(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node)
{
    char buf[256];
    if (node->is_broken)
        return false;
    if (node->kind != GW_NODE_SCALAR)
        return wrong_value(loader, row, node, gw_value_expected(row, buf, sizeof(buf)));
    if (node->text.len == 0 && !node->is_quoted && !node->is_substituted)
        return gw_error_at(loader->errors, node, "%s has no value (expected %s)", row->name,
                           gw_value_expected(row, buf, sizeof(buf)));
    return true;
}

static bool wrong_choice(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node)
{
    char buf[256];
    size_t n = 0;
    while (row->choices[n] != NULL)
        ++n;
    const char *nearest = node->is_secret ? NULL : gw_nearest(node->text.base, row->choices, n);
    return gw_error_at(loader->errors, node, "%s is %s (expected %s%s%s%s)", row->name, show(node).text,
                       gw_value_expected(row, buf, sizeof(buf)), nearest != NULL ? "; did you mean \"" : "",
                       nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
}

static bool read_value(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                       uint64_t *number, double *fraction)
{
    char buf[256], bounds[96];
    bool is_number = row->type == GW_NUMBER || row->type == GW_BOOL;
    *number = 0;
    *fraction = 0;
    if (!need_scalar(loader, row, node))
        return false;
    if (is_number && node->is_quoted && !node->is_substituted)
        return gw_error_at(loader->errors, node, "%s is the text %s (expected %s, not in quotes)", row->name,
                           show(node).text, gw_value_expected(row, buf, sizeof(buf)));
    if (!gw_value_parse(row, node->text, number, fraction))
        return row->choices != NULL ? wrong_choice(loader, row, node)
                                    : wrong_value(loader, row, node, gw_value_expected(row, buf, sizeof(buf)));
    if (!gw_value_is_in_bounds(row, *number, *fraction))
        return gw_error_at(loader->errors, node, "%s is out of bounds: %s (expected %s %s)", row->name, show(node).text,
                           row->type == GW_NUMBER     ? "a number"
                           : row->type == GW_DURATION ? "a duration"
                           : row->type == GW_SIZE     ? "a size"
                                                      : "a percentage",
                           gw_value_bounds(row, bounds, sizeof(bounds)));
    return true;
}

static void store_value(const struct gw_setting *row, void *field, uint64_t number, double fraction)
{
    switch (row->type) {
    case GW_BOOL:
        *(bool *)field = number != 0;
        break;
    case GW_PERCENT:
        *(double *)field = fraction;
        break;
    case GW_CHOICE:
        *(int *)field = (int)number;
        break;
    case GW_CHOICES:
        *(uint32_t *)field = (uint32_t)number;
        break;
    default:
        *(uint64_t *)field = number;
        break;
    }
}

static bool load_value(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node, void *field)
{
    uint64_t number;
    double fraction;
    if (!read_value(loader, row, node, &number, &fraction))
        return false;
    store_value(row, field, number, fraction);
    return true;
}

static bool read_text(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                      h2o_iovec_t *text)
{
    if (!need_scalar(loader, row, node))
        return false;
    *text = node->text;
    if (text->len < row->min)
        return text->len == 0 ? gw_error_at(loader->errors, node, "%s is empty", row->name)
                              : gw_error_at(loader->errors, node, "%s is too short (expected at least %.0f characters)",
                                            row->name, row->min);
    if (row->max != 0 && text->len > row->max)
        return gw_error_at(loader->errors, node, "%s is too long (expected at most %.0f characters)", row->name,
                           row->max);
    return row->valid == NULL || row->valid(loader, node, *text);
}

/* A list, or one value that stands alone: the entries either way. */
static const struct gw_node *const *entries_of(const struct gw_node *const *node, size_t *size)
{
    bool is_list = (*node)->kind == GW_NODE_LIST;
    *size = is_list ? (*node)->size : 1;
    return is_list ? (const struct gw_node *const *)(*node)->entries : node;
}

static bool load_texts(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                       struct gw_texts *texts)
{
    size_t n;
    const struct gw_node *const *entries = entries_of(&node, &n);
    bool is_good = true;
    texts->entries = h2o_mem_alloc_pool(loader->pool, n * sizeof(texts->entries[0]));
    texts->at = h2o_mem_alloc_pool(loader->pool, n * sizeof(texts->at[0]));
    for (size_t i = 0; i != n; ++i) {
        if (!read_text(loader, row, entries[i], texts->entries + texts->size)) {
            is_good = false;
            continue;
        }
        texts->at[texts->size++] = entries[i];
    }
    return is_good;
}

static bool load_choices(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                         uint32_t *set)
{
    size_t n;
    const struct gw_node *const *entries = entries_of(&node, &n);
    bool is_good = true;
    *set = 0;
    for (size_t i = 0; i != n; ++i) {
        uint64_t index;
        double unused;
        if (!read_value(loader, row, entries[i], &index, &unused))
            is_good = false;
        else
            *set |= 1u << index;
    }
    if (n == 0)
        return gw_error_at(loader->errors, node, "%s is an empty list (expected at least one value)", row->name);
    return is_good;
}

static bool read_address(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                         struct gw_address *address)
{
    const char *why = "not an address";
    if (!need_scalar(loader, row, node))
        return false;
    if (gw_address_parse(loader->pool, node->text, row->min == 1, address, &why))
        return true;
    memset(address, 0, sizeof(*address));
    return gw_error_at(loader->errors, node, "%s is %s: %s", row->name, show(node).text, why);
}

static bool load_addresses(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                           struct gw_addresses *addresses)
{
    size_t n;
    const struct gw_node *const *entries = entries_of(&node, &n);
    bool is_good = true;
    addresses->entries = h2o_mem_alloc_pool(loader->pool, n * sizeof(addresses->entries[0]));
    addresses->at = h2o_mem_alloc_pool(loader->pool, n * sizeof(addresses->at[0]));
    for (size_t i = 0; i != n; ++i) {
        if (read_address(loader, row, entries[i], addresses->entries + addresses->size))
            addresses->at[addresses->size++] = entries[i];
        else
            is_good = false;
    }
    if (n == 0)
        return gw_error_at(loader->errors, node, "%s is an empty list (expected at least one address)", row->name);
    return is_good;
}

static bool load_cidrs(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                       struct gw_cidrs *cidrs)
{
    static const char expected[] = "an address like 10.0.0.1 or a network like 10.0.0.0/8, zero after its bits";
    size_t n;
    const struct gw_node *const *entries = entries_of(&node, &n);
    bool is_good = true;
    if (gw_node_is_null(node))
        return gw_error_at(loader->errors, node, "%s has no value (expected %s)", row->name, expected);
    cidrs->entries = h2o_mem_alloc_pool(loader->pool, n * sizeof(cidrs->entries[0]));
    for (size_t i = 0; i != n; ++i) {
        if (entries[i]->is_broken)
            is_good = false;
        else if (entries[i]->kind != GW_NODE_SCALAR || !gw_cidr_parse(entries[i]->text, cidrs->entries + cidrs->size))
            is_good = wrong_value(loader, row, entries[i], expected);
        else
            ++cidrs->size;
    }
    return is_good;
}

static bool load_pairs(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                       struct gw_pairs *pairs)
{
    bool is_good = true;
    if (node->kind != GW_NODE_MAP)
        return wrong_value(loader, row, node, "a map of names and values");
    pairs->entries = h2o_mem_alloc_pool(loader->pool, node->size * sizeof(pairs->entries[0]));
    for (size_t i = 0; i != node->size; ++i) {
        const struct gw_node *key = node->keys[i], *value = node->entries[i];
        if (key->is_broken || value->is_broken) {
            is_good = false;
        } else if (value->kind != GW_NODE_SCALAR) {
            is_good =
                gw_error_at(loader->errors, value, "%.60s is %s (expected a text)", key->text.base, show(value).text);
        } else if (row->valid != NULL && !row->valid(loader, key, key->text)) {
            is_good = false;
        } else {
            pairs->entries[pairs->size++] = (struct gw_pair){key->text, value->text, value};
        }
    }
    return is_good;
}

static bool load_list(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                      struct gw_list *list)
{
    size_t n;
    bool is_good = true;
    if (gw_node_is_null(node))
        return true;
    const struct gw_node *const *entries = entries_of(&node, &n);
    list->entries = h2o_mem_alloc_pool(loader->pool, n * sizeof(list->entries[0]));
    list->is_bad = h2o_mem_alloc_pool(loader->pool, n * sizeof(list->is_bad[0]));
    for (size_t i = 0; i != n; ++i) {
        list->entries[i] = h2o_mem_alloc_pool(loader->pool, row->section->size);
        list->is_bad[i] = !gw_settings_load(loader, row->section, entries[i], list->entries[i]);
        is_good &= !list->is_bad[i];
    }
    list->size = n;
    return is_good;
}

static void index_map(struct gw_loader *loader, struct gw_map *map)
{
    if (map->size <= SMALL_MAP)
        return;
    map->index = h2o_mem_alloc_pool(loader->pool, sizeof(*map->index));
    gw_names_init(map->index, loader->pool);
    for (size_t i = 0; i != map->size; ++i) {
        bool is_new;
        size_t *index = gw_names_put(map->index, map->entries[i].name, &is_new);
        if (is_new)
            *index = i;
    }
}

static bool load_map(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                     struct gw_map *map)
{
    bool is_good = true;
    if (gw_node_is_null(node))
        return true;
    if (node->kind != GW_NODE_MAP)
        return gw_error_at(loader->errors, node, "%s is %s (expected a map: the name of each %s and its settings)",
                           row->name, show(node).text, row->section->name);
    map->entries = h2o_mem_alloc_pool(loader->pool, node->size * sizeof(map->entries[0]));
    for (size_t i = 0; i != node->size; ++i) {
        const struct gw_node *key = node->keys[i];
        struct gw_named *entry = map->entries + map->size++;
        *entry = (struct gw_named){
            .name = key->text, .key = key, .conf = h2o_mem_alloc_pool(loader->pool, row->section->size)};
        entry->is_bad = !gw_settings_load(loader, row->section, node->entries[i], entry->conf) || key->is_broken ||
                        (row->valid != NULL && !row->valid(loader, key, key->text));
        is_good &= !entry->is_bad;
    }
    index_map(loader, map);
    return is_good;
}

static bool load_option(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node,
                        void **option)
{
    if (gw_node_is_null(node))
        return gw_error_at(loader->errors, node, "%s has no value (expected a map; {} takes all defaults)", row->name);
    *option = h2o_mem_alloc_pool(loader->pool, row->section->size);
    return gw_settings_load(loader, row->section, node, *option);
}

static bool load_row(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *node, void *field)
{
    if (node->is_broken)
        return false;
    switch (row->type) {
    case GW_BOOL:
    case GW_NUMBER:
    case GW_DURATION:
    case GW_SIZE:
    case GW_PERCENT:
    case GW_CHOICE:
        return load_value(loader, row, node, field);
    case GW_CHOICES:
        return load_choices(loader, row, node, field);
    case GW_TEXT:
        return read_text(loader, row, node, field);
    case GW_TEXTS:
        return load_texts(loader, row, node, field);
    case GW_ADDRESS:
        return read_address(loader, row, node, field);
    case GW_ADDRESSES:
        return load_addresses(loader, row, node, field);
    case GW_CIDRS:
        return load_cidrs(loader, row, node, field);
    case GW_PAIRS:
        return load_pairs(loader, row, node, field);
    case GW_SECTION:
        return gw_settings_load(loader, row->section, node, field);
    case GW_OPTION:
        return load_option(loader, row, node, field);
    case GW_LIST:
        return load_list(loader, row, node, field);
    case GW_MAP:
        return load_map(loader, row, node, field);
    case GW_CUSTOM:
        return row->read(loader, row, node, field);
    }
    return false;
}

/* The section's memory is zero, which is the default of all that is not named here. */
static bool load_default(struct gw_loader *loader, const struct gw_setting *row, void *field)
{
    switch (row->type) {
    case GW_BOOL:
    case GW_NUMBER:
    case GW_DURATION:
    case GW_SIZE:
    case GW_PERCENT:
    case GW_CHOICE:
    case GW_CHOICES:
        store_value(row, field, gw_value_number(row->initial), row->initial);
        return true;
    case GW_TEXT:
        if (row->initial_text != NULL)
            *(h2o_iovec_t *)field = h2o_iovec_init(row->initial_text, strlen(row->initial_text));
        return true;
    case GW_TEXTS:
        if (row->initial_text != NULL) {
            struct gw_texts *texts = field;
            texts->entries = h2o_mem_alloc_pool(loader->pool, sizeof(texts->entries[0]));
            texts->at = h2o_mem_alloc_pool(loader->pool, sizeof(texts->at[0]));
            texts->entries[0] = h2o_iovec_init(row->initial_text, strlen(row->initial_text));
            texts->at[0] = NULL;
            texts->size = 1;
        }
        return true;
    case GW_ADDRESS: {
        const char *why;
        return row->initial_text == NULL ||
               gw_address_parse(loader->pool, h2o_iovec_init(row->initial_text, strlen(row->initial_text)), true, field,
                                &why);
    }
    case GW_SECTION:
        return gw_settings_load(loader, row->section, NULL, field);
    default:
        return true;
    }
}

static const char *article(const char *noun) { return strchr("aeiou", noun[0]) != NULL ? "an" : "a"; }

/* Which node fills which row. A row whose name is likely meant by an unknown key is misspelt, not missing. */
struct assignment {
    const struct gw_node *values[MAX_ROWS];
    bool is_misspelt[MAX_ROWS];
    bool has_broken_key; /* which might be any row's */
};

static bool unknown_key(struct gw_loader *loader, const struct gw_section *section, const struct gw_node *key,
                        struct assignment *assignment)
{
    const char *names[MAX_ROWS], *nearest;
    char list[512] = "";
    size_t n = 0, len = 0;
    if (loader->errors->num_errors > MAX_HELPFUL_KEYS)
        return gw_error_at(loader->errors, key, "unknown key \"%.60s\"", key->text.base);
    for (; section->settings[n].name != NULL; ++n)
        names[n] = section->settings[n].name;
    if ((nearest = gw_nearest(key->text.base, names, n)) != NULL) {
        assignment->is_misspelt[gw_setting_find(section, nearest, strlen(nearest)) - section->settings] = true;
        return gw_error_at(loader->errors, key, "unknown key \"%.60s\" (did you mean \"%s\"?)", key->text.base,
                           nearest);
    }
    if (n > MAX_KEYS_NAMED)
        return gw_error_at(loader->errors, key, "unknown key \"%.60s\" (`weir help` lists the settings of %s %s)",
                           key->text.base, article(section->name), section->name);
    for (size_t i = 0; i != n && len < sizeof(list); ++i)
        len += snprintf(list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : i + 1 == n ? " or " : ", ", names[i]);
    return gw_error_at(loader->errors, key, "unknown key \"%.60s\" (expected %s)", key->text.base, list);
}

static bool assign(struct gw_loader *loader, const struct gw_section *section, const struct gw_node *node,
                   struct assignment *assignment)
{
    bool is_good = true;
    const char *only = node->kind == GW_NODE_SCALAR ? section->scalar_is
                       : node->kind == GW_NODE_LIST ? section->list_is
                                                    : NULL;
    if (gw_node_is_null(node))
        return true;
    if (only != NULL) {
        assignment->values[gw_setting_find(section, only, strlen(only)) - section->settings] = node;
        return true;
    }
    for (size_t i = 0; i != node->size; ++i) {
        const struct gw_node *key = node->keys[i];
        const struct gw_setting *row = gw_setting_find(section, key->text.base, key->text.len);
        if (key->is_broken)
            is_good = !(assignment->has_broken_key = true);
        else if (row == NULL)
            is_good = unknown_key(loader, section, key, assignment);
        else
            assignment->values[row - section->settings] = node->entries[i];
    }
    return is_good;
}

static bool takes(const struct gw_section *section, const struct gw_node *node)
{
    return node->kind == GW_NODE_MAP || gw_node_is_null(node) ||
           (node->kind == GW_NODE_SCALAR ? section->scalar_is : section->list_is) != NULL;
}

static bool load_rows(struct gw_loader *loader, const struct gw_section *section, const struct gw_node *node,
                      const struct assignment *assignment, void *conf)
{
    bool is_good = true;
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        size_t i = row - section->settings;
        if (assignment->values[i] != NULL)
            is_good &= load_row(loader, row, assignment->values[i], gw_setting_field(row, conf));
        else if (row->is_required && node != NULL && !assignment->is_misspelt[i] && !assignment->has_broken_key)
            is_good = gw_error_at(loader->errors, node, "%s is missing (%s %s needs it)", row->name,
                                  article(section->name), section->name);
        else
            is_good &= load_default(loader, row, gw_setting_field(row, conf));
    }
    return is_good;
}

bool gw_settings_load(struct gw_loader *loader, const struct gw_section *section, const struct gw_node *node,
                      void *conf)
{
    struct assignment assignment = {.has_broken_key = false};
    bool is_good = true;
    memset(conf, 0, section->size);
    *(const struct gw_node **)conf = node;
    if (node != NULL && !takes(section, node)) {
        gw_error_at(loader->errors, node, "%s is no %s (expected a map of its settings)", show(node).text,
                    section->name);
        is_good = false;
        node = NULL; /* all default: safe to read */
    } else if (node != NULL) {
        is_good = assign(loader, section, node, &assignment);
    }
    is_good &= load_rows(loader, section, node, &assignment, conf);
    return is_good && (section->check == NULL || section->check(loader, conf));
}

bool gw_setting_is_default(const struct gw_section *section, const char *name, const void *conf)
{
    const struct gw_setting *setting = section->settings;
    const char *field;

    while (strcmp(setting->name, name) != 0)
        ++setting;
    field = (const char *)conf + setting->offset;
    switch (setting->type) {
    case GW_BOOL:
        return *(const bool *)field == (setting->initial != 0);
    case GW_CHOICE:
        return *(const int *)field == (int)setting->initial;
    case GW_CHOICES:
        return *(const uint32_t *)field == (uint32_t)setting->initial;
    default:
        assert(setting->type == GW_NUMBER || setting->type == GW_DURATION || setting->type == GW_SIZE);
        return *(const uint64_t *)field == (uint64_t)setting->initial;
    }
}

const struct gw_node *gw_setting_at(const struct gw_node *section, const char *name)
{
    const struct gw_node *value = gw_node_get(section, name);
    return value != NULL ? value : section;
}

const struct gw_named *gw_map_find(const struct gw_map *map, h2o_iovec_t name)
{
    if (map->index != NULL) {
        const size_t *index = gw_names_get(map->index, name);
        return index != NULL ? map->entries + *index : NULL;
    }
    for (size_t i = 0; i != map->size; ++i)
        if (h2o_memis(map->entries[i].name.base, map->entries[i].name.len, name.base, name.len))
            return map->entries + i;
    return NULL;
}

bool gw_error_dangling(struct gw_errors *errors, const struct gw_node *at, const char *what, h2o_iovec_t name,
                       const struct gw_map *map)
{
    const char *nearest = NULL;
    bool is_secret = at != NULL && at->kind == GW_NODE_SCALAR && at->is_secret;
    if (errors->num_errors < MAX_HELPFUL_NAMES && map->size != 0 && !is_secret) {
        const char **names = h2o_mem_alloc(map->size * sizeof(names[0]));
        for (size_t i = 0; i != map->size; ++i)
            names[i] = map->entries[i].name.base;
        nearest = gw_nearest(name.base, names, map->size);
        free(names);
    }
    if (nearest != NULL)
        return gw_error_at(errors, at, "unknown %s \"%.60s\" (did you mean \"%s\"?)", what, name.base, nearest);
    return gw_error_at(errors, at, "unknown %s \"%.60s\"", what, name.base);
}
