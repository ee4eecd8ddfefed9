#include "gateway/command/tree_diff.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/names.h"

/* ---- values as text ---- */

static void write_text(FILE *out, h2o_iovec_t text)
{
    if (text.len > 3 && memcmp(text.base, "***", 3) == 0) {
        fputs("***", out);
        return;
    }
    if (text.len == 0)
        fputs("\"\"", out);
    for (size_t i = 0; i != text.len; ++i) {
        unsigned char c = text.base[i];
        if (c < 0x20 || c == 0x7f)
            fprintf(out, c == '\n' ? "\\n" : "\\x%02x", c);
        else
            fputc(c, out);
    }
}

static void write_node(FILE *out, const struct gw_node *node)
{
    if (node->kind == GW_NODE_SCALAR) {
        write_text(out, node->text);
        return;
    }
    bool is_map = node->kind == GW_NODE_MAP;
    fputc(is_map ? '{' : '[', out);
    for (size_t i = 0; i != node->size; ++i) {
        fputs(i == 0 ? "" : ", ", out);
        if (is_map) {
            write_text(out, node->keys[i]->text);
            fputs(": ", out);
        }
        write_node(out, node->entries[i]);
    }
    fputc(is_map ? '}' : ']', out);
}

const char *gw_node_line(h2o_mem_pool_t *pool, const struct gw_node *node)
{
    char *text;
    size_t len;
    FILE *out;

    if (node == NULL)
        return NULL;
    if ((out = open_memstream(&text, &len)) == NULL)
        h2o_fatal("no memory");
    write_node(out, node);
    fclose(out);
    h2o_iovec_t kept = h2o_strdup(pool, text, len);
    free(text);
    return kept.base;
}

/* ---- comparing ---- */

struct differ {
    h2o_mem_pool_t *pool;
    struct gw_setting_changes *changes;
};

static void compare(struct differ *, const char *path, const struct gw_node *, const struct gw_node *);

static bool is_equal(const struct gw_node *a, const struct gw_node *b)
{
    if (a->kind != b->kind || a->size != b->size)
        return false;
    if (a->kind == GW_NODE_SCALAR)
        return h2o_memis(a->text.base, a->text.len, b->text.base, b->text.len);
    for (size_t i = 0; i != a->size; ++i)
        if ((a->kind == GW_NODE_MAP && !is_equal(a->keys[i], b->keys[i])) || !is_equal(a->entries[i], b->entries[i]))
            return false;
    return true;
}

static void add(struct differ *d, const char *path, const struct gw_node *from, const struct gw_node *to)
{
    struct gw_setting_changes *changes = d->changes;
    if (changes->size == changes->capacity) {
        size_t capacity = changes->capacity == 0 ? 8 : changes->capacity * 2;
        struct gw_setting_change *entries = h2o_mem_alloc_pool(d->pool, capacity * sizeof(*entries));
        if (changes->size != 0)
            memcpy(entries, changes->entries, changes->size * sizeof(*entries));
        changes->entries = entries;
        changes->capacity = capacity;
    }
    changes->entries[changes->size++] =
        (struct gw_setting_change){path, gw_node_line(d->pool, from), gw_node_line(d->pool, to)};
}

static const char *join(struct differ *d, const char *path, const char *before, h2o_iovec_t name, const char *after)
{
    return h2o_concat(d->pool, h2o_iovec_init(path, strlen(path)), h2o_iovec_init(before, strlen(before)), name,
                      h2o_iovec_init(after, strlen(after)))
        .base;
}

/* The entries of both sides by name: those of `from` first, then what only `to` has. */
static void compare_named(struct differ *d, const char *path, const char *before, const char *after,
                          h2o_iovec_t (*name_of)(const struct gw_node *, size_t), const struct gw_node *from,
                          const struct gw_node *to)
{
    struct gw_names names;
    bool is_new;
    bool *is_met = h2o_mem_alloc(to->size + 1);

    if (path[0] == '\0' && before[0] == '.')
        before = "";
    memset(is_met, 0, to->size + 1);
    gw_names_init(&names, NULL);
    for (size_t i = 0; i != to->size; ++i)
        *gw_names_put(&names, name_of(to, i), &is_new) = i;
    for (size_t i = 0; i != from->size; ++i) {
        h2o_iovec_t name = name_of(from, i);
        const size_t *index = gw_names_get(&names, name);
        const char *below = join(d, path, before, name, after);
        if (index != NULL)
            is_met[*index] = true;
        compare(d, below, from->entries[i], index != NULL ? to->entries[*index] : NULL);
    }
    for (size_t i = 0; i != to->size; ++i)
        if (!is_met[i])
            compare(d, join(d, path, before, name_of(to, i), after), NULL, to->entries[i]);
    gw_names_dispose(&names);
    free(is_met);
}

static h2o_iovec_t key_name(const struct gw_node *map, size_t i) { return map->keys[i]->text; }

/* ---- lists of maps ---- */

static const struct gw_node *name_node(const struct gw_node *entry)
{
    static const char *const keys[] = {"name", "address", "group"};
    for (size_t i = 0; i != sizeof(keys) / sizeof(keys[0]); ++i) {
        const struct gw_node *node = gw_node_get(entry, keys[i]);
        if (node != NULL && node->kind == GW_NODE_SCALAR)
            return node;
    }
    return NULL;
}

static h2o_iovec_t entry_name(const struct gw_node *list, size_t i) { return name_node(list->entries[i])->text; }

/* Does every entry have a name of its own? */
static bool is_named(const struct gw_node *list)
{
    struct gw_names names;
    bool is_good = list->kind == GW_NODE_LIST;

    gw_names_init(&names, NULL);
    for (size_t i = 0; is_good && i != list->size; ++i) {
        const struct gw_node *name = name_node(list->entries[i]);
        if (name == NULL)
            is_good = false;
        else
            gw_names_put(&names, name->text, &is_good);
    }
    gw_names_dispose(&names);
    return is_good;
}

static void compare(struct differ *d, const char *path, const struct gw_node *from, const struct gw_node *to)
{
    if (from == NULL || to == NULL)
        add(d, path, from, to);
    else if (is_equal(from, to))
        return;
    else if (from->kind == GW_NODE_MAP && to->kind == GW_NODE_MAP)
        compare_named(d, path, ".", "", key_name, from, to);
    else if (is_named(from) && is_named(to))
        compare_named(d, path, "[", "]", entry_name, from, to);
    else
        add(d, path, from, to);
}

void gw_tree_diff(h2o_mem_pool_t *pool, const char *path, const struct gw_node *from, const struct gw_node *to,
                  struct gw_setting_changes *changes)
{
    struct differ d = {pool, changes};
    if (from != NULL || to != NULL)
        compare(&d, path, from, to);
}

/* ---- order ---- */

/* A longest increasing subsequence has kept its order; the rest has moved. */
void gw_find_moved(const size_t *from, size_t n, bool *is_moved)
{
    size_t *ends = h2o_mem_alloc((n + 1) * sizeof(*ends));         /* [k]: where the best run of k + 1 items ends */
    size_t *previous = h2o_mem_alloc((n + 1) * sizeof(*previous)); /* item before, in the run that ends here */
    size_t len = 0;

    for (size_t i = 0; i != n; ++i) {
        size_t low = 0, high = len;
        while (low != high) {
            size_t middle = (low + high) / 2;
            if (from[ends[middle]] < from[i])
                low = middle + 1;
            else
                high = middle;
        }
        previous[i] = low != 0 ? ends[low - 1] : SIZE_MAX;
        ends[low] = i;
        len += low == len;
        is_moved[i] = true;
    }
    for (size_t i = len != 0 ? ends[len - 1] : SIZE_MAX; i != SIZE_MAX; i = previous[i])
        is_moved[i] = false;
    free(ends);
    free(previous);
}
