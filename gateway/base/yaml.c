/* Several files into one tree: includes are read depth-first, then the documents are merged one level deep. */
#include "gateway/base/yaml.h"
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "gateway/base/kept_files.h"
#include "gateway/base/yaml_internal.h"

enum { MAX_INCLUDE_DEPTH = 16, MAX_FILES = 10000 };

struct source {
    const char *name;
    dev_t device;
    ino_t inode;
    const struct gw_node *included_at; /* NULL: the first file */
    struct source *includer;
    struct gw_node *document; /* NULL: unreadable */
    struct source *next;
};

struct load {
    struct gw_yaml_reader reader;
    struct source *first, **last; /* in order of inclusion */
    size_t num_files;
};

static void read_includes(struct load *, struct source *);

static struct source *new_source(struct load *load, const char *name, const struct gw_node *at, struct source *includer)
{
    struct source *source = h2o_mem_alloc_pool(load->reader.pool, sizeof(*source));
    *source = (struct source){
        .name = h2o_strdup(load->reader.pool, name, SIZE_MAX).base, .included_at = at, .includer = includer};
    gw_errors_add_file(load->reader.errors, source->name);
    return source;
}

static void add_source(struct load *load, struct source *source)
{
    *load->last = source;
    load->last = &source->next;
    ++load->num_files;
}

static void parse_source(struct load *load, struct source *source, h2o_iovec_t text)
{
    load->reader.num_bytes += text.len;
    source->document = gw_yaml_parse(&load->reader, source->name, text);
    if (source->document == NULL)
        return;
    if (gw_node_is_null(source->document)) {
        gw_error_in(load->reader.errors, source->name, 0, 0, "the file is empty");
        source->document = NULL;
        return;
    }
    if (source->document->kind != GW_NODE_MAP) {
        gw_error_at(load->reader.errors, source->document, "the file holds a %s (expected a map of settings)",
                    source->document->kind == GW_NODE_LIST ? "list" : "text");
        source->document = NULL;
        return;
    }
    read_includes(load, source);
}

static bool report_unreadable(struct load *load, const char *name, const struct gw_node *at, const char *why)
{
    return at != NULL ? gw_error_at(load->reader.errors, at, "cannot read %s: %s", name, why)
                      : gw_error_in(load->reader.errors, name, 0, 0, "cannot be read: %s", why);
}

static bool read_source(struct load *load, struct source *source)
{
    struct gw_yaml_reader *reader = &load->reader;
    h2o_iovec_t text;
    const char *why;
    struct stat st;
    if (strcmp(source->name, "-") != 0 && stat(source->name, &st) == 0) {
        source->device = st.st_dev;
        source->inode = st.st_ino;
    }
    add_source(load, source);
    if (!gw_read_file(reader, source->name, reader->limits.max_bytes - reader->num_bytes, &text, &why))
        return report_unreadable(load, source->name, source->included_at, why);
    parse_source(load, source, text);
    return source->document != NULL;
}

/* `a.yaml -> b.yaml -> a.yaml` */
static void describe_cycle(const struct source *from, const struct source *to, char *buf, size_t buf_len)
{
    if (from != to && from->includer != NULL)
        describe_cycle(from->includer, to, buf, buf_len);
    size_t len = strlen(buf);
    snprintf(buf + len, buf_len - len, "%s -> ", from->name);
}

static bool check_include(struct load *load, const char *name, const struct gw_node *at, struct source *includer)
{
    struct gw_errors *errors = load->reader.errors;
    struct stat st;
    unsigned depth = 0;
    if (stat(name, &st) != 0)
        return true; /* reading will tell */
    for (const struct source *s = includer; s != NULL; s = s->includer, ++depth) {
        if (s->inode == st.st_ino && s->device == st.st_dev) {
            char cycle[1024] = "";
            describe_cycle(includer, s, cycle, sizeof(cycle));
            return gw_error_at(errors, at, "include cycle: %s%s", cycle, name);
        }
    }
    if (depth >= MAX_INCLUDE_DEPTH)
        return gw_error_at(errors, at, "includes are nested deeper than %d files", MAX_INCLUDE_DEPTH);
    if (load->num_files >= MAX_FILES)
        return gw_error_at(errors, at, "more than %d files", MAX_FILES);
    for (const struct source *s = load->first; s != NULL; s = s->next)
        if (s->inode == st.st_ino && s->device == st.st_dev && s->included_at != NULL)
            return gw_error_at(errors, at, "%s is included twice (first at %s:%u:%u)", name, s->included_at->file,
                               s->included_at->line, s->included_at->column);
    return true;
}

static void include_file(struct load *load, const char *name, const struct gw_node *at, struct source *includer)
{
    if (!check_include(load, name, at, includer) || !read_source(load, new_source(load, name, at, includer)))
        load->reader.is_incomplete = true;
}

/* The paths that match, each with its NUL; base NULL: none. */
static h2o_iovec_t find_matches(h2o_mem_pool_t *pool, const char *pattern)
{
    h2o_iovec_t paths = {NULL, 0};
    glob_t found;

    if (glob(pattern, GLOB_NOESCAPE, NULL, &found) != 0)
        return paths;
    for (size_t i = 0; i != found.gl_pathc; ++i)
        paths.len += strlen(found.gl_pathv[i]) + 1;
    char *to = paths.base = h2o_mem_alloc_pool(pool, paths.len);
    for (size_t i = 0; i != found.gl_pathc; ++i)
        to = stpcpy(to, found.gl_pathv[i]) + 1;
    globfree(&found);
    return paths;
}

static void include_matches(struct load *load, const char *pattern, const struct gw_node *at, struct source *includer)
{
    struct gw_kept_files *kept = load->reader.errors->kept;
    h2o_iovec_t paths = {NULL, 0};

    if (gw_kept_files_is_source(kept)) { /* a pattern is kept like a file that lists what matched */
        const h2o_iovec_t *list = gw_kept_files_get(kept, pattern);
        if (list != NULL)
            paths = *list;
    } else {
        paths = find_matches(load->reader.pool, pattern);
        if (kept != NULL && paths.base != NULL)
            gw_kept_files_add(kept, pattern, paths);
    }
    if (paths.base == NULL)
        gw_warn_at(load->reader.errors, at, "no file matches %s", pattern);
    for (const char *path = paths.base; path < paths.base + paths.len; path += strlen(path) + 1)
        include_file(load, path, at, includer);
}

static void include_pattern(struct load *load, const struct gw_node *at, struct source *includer)
{
    if (at->kind != GW_NODE_SCALAR || at->text.len == 0) {
        gw_error_at(load->reader.errors, at, "include is %s (expected a path or a list of paths)",
                    at->kind == GW_NODE_SCALAR ? "empty"
                    : at->kind == GW_NODE_LIST ? "a list"
                                               : "a map");
        return;
    }
    if (!load->reader.allow_files) {
        gw_error_at(load->reader.errors, at, "include is not allowed here");
        return;
    }
    if (at->is_broken)
        return;
    h2o_iovec_t path = gw_node_path(load->reader.pool, at, at->text);
    if (strpbrk(path.base, "*?[") == NULL) {
        include_file(load, path.base, at, includer);
        return;
    }
    include_matches(load, path.base, at, includer);
}

static void read_includes(struct load *load, struct source *source)
{
    const struct gw_node *include = gw_node_get(source->document, "include");
    if (include == NULL)
        return;
    if (include->kind != GW_NODE_LIST) {
        include_pattern(load, include, source);
        return;
    }
    for (size_t i = 0; i != include->size; ++i)
        include_pattern(load, include->entries[i], source);
}

/* One top-level key while documents are merged. */
struct merged {
    struct gw_node *key, *value; /* of its first appearance */
    struct gw_names names;       /* map: entry -> index */
    size_t capacity;             /* 0: value is still the document's own node */
};

static const char *kind_name(const struct gw_node *node)
{
    return node->kind == GW_NODE_SCALAR ? "a single value" : node->kind == GW_NODE_LIST ? "a list" : "a map";
}

static void reserve(h2o_mem_pool_t *pool, struct merged *m, size_t size)
{
    if (size <= m->capacity)
        return;
    struct gw_node *value = h2o_mem_alloc_pool(pool, sizeof(*value));
    *value = *m->value;
    m->capacity = size * 2;
    value->entries = h2o_mem_alloc_pool(pool, m->capacity * sizeof(value->entries[0]));
    memcpy(value->entries, m->value->entries, m->value->size * sizeof(value->entries[0]));
    if (value->kind == GW_NODE_MAP) {
        value->keys = h2o_mem_alloc_pool(pool, m->capacity * sizeof(value->keys[0]));
        memcpy(value->keys, m->value->keys, m->value->size * sizeof(value->keys[0]));
    }
    m->value = value;
}

static void index_names(struct merged *m)
{
    for (size_t i = 0; i != m->value->size; ++i) {
        bool is_new;
        size_t *index = gw_names_put(&m->names, m->value->keys[i]->text, &is_new);
        if (is_new)
            *index = i;
    }
}

static void merge_map(struct load *load, struct merged *m, const struct gw_node *more)
{
    if (m->names.size == 0)
        index_names(m);
    reserve(load->reader.pool, m, m->value->size + more->size);
    for (size_t i = 0; i != more->size; ++i) {
        struct gw_node *key = more->keys[i];
        bool is_new;
        size_t *index = gw_names_put(&m->names, key->text, &is_new);
        if (!is_new) {
            const struct gw_node *first = m->value->keys[*index];
            gw_error_at(load->reader.errors, key, "\"%.60s\" is defined twice (first at %s:%u:%u)", key->text.base,
                        first->file, first->line, first->column);
            continue;
        }
        *index = m->value->size;
        m->value->keys[m->value->size] = key;
        m->value->entries[m->value->size++] = more->entries[i];
    }
}

static void merge_value(struct load *load, struct merged *m, struct gw_node *key, struct gw_node *more)
{
    if (gw_node_is_null(more))
        return;
    if (gw_node_is_null(m->value)) {
        m->key = key;
        m->value = more;
    } else if (more->kind != m->value->kind) {
        gw_error_at(load->reader.errors, more, "%.60s is %s (%s at %s:%u:%u)", key->text.base, kind_name(more),
                    kind_name(m->value), m->value->file, m->value->line, m->value->column);
    } else if (more->kind == GW_NODE_SCALAR) {
        gw_error_at(load->reader.errors, key, "\"%.60s\" is defined twice (first at %s:%u:%u)", key->text.base,
                    m->key->file, m->key->line, m->key->column);
    } else if (more->kind == GW_NODE_MAP) {
        merge_map(load, m, more);
    } else {
        reserve(load->reader.pool, m, m->value->size + more->size);
        memcpy(m->value->entries + m->value->size, more->entries, more->size * sizeof(more->entries[0]));
        m->value->size += more->size;
    }
}

static size_t count_keys(const struct load *load)
{
    size_t n = 0;
    for (const struct source *s = load->first; s != NULL; s = s->next)
        n += s->document != NULL ? s->document->size : 0;
    return n;
}

static struct gw_node *merge_documents(struct load *load)
{
    h2o_mem_pool_t *pool = load->reader.pool;
    size_t max_keys = count_keys(load), num_keys = 0;
    struct merged *merged = h2o_mem_alloc(max_keys * sizeof(*merged) + 1);
    struct gw_names names;
    struct gw_node *root = h2o_mem_alloc_pool(pool, sizeof(*root));
    gw_names_init(&names, NULL);
    for (const struct source *s = load->first; s != NULL; s = s->next) {
        for (size_t i = 0; s->document != NULL && i != s->document->size; ++i) {
            struct gw_node *key = s->document->keys[i], *value = s->document->entries[i];
            if (key->is_broken || h2o_memis(key->text.base, key->text.len, H2O_STRLIT("include")))
                continue;
            bool is_new;
            size_t *index = gw_names_put(&names, key->text, &is_new);
            if (is_new) {
                *index = num_keys;
                merged[num_keys++] = (struct merged){.key = key, .value = value};
            } else {
                merge_value(load, merged + *index, key, value);
            }
        }
    }
    *root = *load->first->document;
    root->size = num_keys;
    root->keys = h2o_mem_alloc_pool(pool, num_keys * sizeof(root->keys[0]));
    root->entries = h2o_mem_alloc_pool(pool, num_keys * sizeof(root->entries[0]));
    for (size_t i = 0; i != num_keys; ++i) {
        root->keys[i] = merged[i].key;
        root->entries[i] = merged[i].value;
        gw_names_dispose(&merged[i].names);
    }
    root->is_broken = load->reader.is_incomplete;
    gw_names_dispose(&names);
    free(merged);
    return root;
}

static void init_load(struct load *load, h2o_mem_pool_t *pool, bool allow_files, const struct gw_yaml_limits *limits,
                      struct gw_errors *errors)
{
    *load = (struct load){.reader = {.pool = pool, .errors = errors, .allow_files = allow_files}, .last = &load->first};
    if (limits != NULL)
        load->reader.limits = *limits;
    if (load->reader.limits.max_bytes == 0)
        load->reader.limits.max_bytes = 64 << 20;
    if (load->reader.limits.max_nodes == 0)
        load->reader.limits.max_nodes = 4000000;
    if (load->reader.limits.max_depth == 0)
        load->reader.limits.max_depth = 64;
}

struct gw_node *gw_yaml_load_file(h2o_mem_pool_t *pool, const char *path, const struct gw_yaml_limits *limits,
                                  struct gw_errors *errors)
{
    struct load load;
    init_load(&load, pool, true, limits, errors);
    return read_source(&load, new_source(&load, path, NULL, NULL)) ? merge_documents(&load) : NULL;
}

struct gw_node *gw_yaml_load_text(h2o_mem_pool_t *pool, const char *name, h2o_iovec_t text, bool allow_files,
                                  const struct gw_yaml_limits *limits, struct gw_errors *errors)
{
    struct load load;
    init_load(&load, pool, allow_files, limits, errors);
    struct source *source = new_source(&load, name, NULL, NULL);
    add_source(&load, source);
    if (text.len > load.reader.limits.max_bytes) {
        gw_error_in(errors, name, 0, 0, "cannot be read: it is too large");
        return NULL;
    }
    parse_source(&load, source, text);
    return source->document != NULL ? merge_documents(&load) : NULL;
}

struct gw_node *gw_yaml_load_data(h2o_mem_pool_t *pool, const char *name, h2o_iovec_t text,
                                  const struct gw_yaml_limits *limits, struct gw_errors *errors)
{
    struct load load;
    init_load(&load, pool, false, limits, errors);
    load.reader.is_data = true;
    name = h2o_strdup(pool, gw_errors_add_file(errors, name), SIZE_MAX).base;
    if (text.len > load.reader.limits.max_bytes) {
        gw_error_in(errors, name, 0, 0, "cannot be read: it is too large");
        return NULL;
    }
    struct gw_node *root = gw_yaml_parse(&load.reader, name, text);
    if (root == NULL || !gw_node_is_null(root))
        return root;
    gw_error_in(errors, name, 0, 0, "the file is empty");
    return NULL;
}

static size_t find_key(const struct gw_node *map, const char *key)
{
    size_t len = strlen(key);
    if (map != NULL && map->kind == GW_NODE_MAP)
        for (size_t i = 0; i != map->size; ++i)
            if (h2o_memis(map->keys[i]->text.base, map->keys[i]->text.len, key, len))
                return i;
    return SIZE_MAX;
}

struct gw_node *gw_node_get(const struct gw_node *map, const char *key)
{
    size_t i = find_key(map, key);
    return i != SIZE_MAX ? map->entries[i] : NULL;
}

struct gw_node *gw_node_key(const struct gw_node *map, const char *key)
{
    size_t i = find_key(map, key);
    return i != SIZE_MAX ? map->keys[i] : NULL;
}

bool gw_node_is_null(const struct gw_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != GW_NODE_SCALAR || node->is_quoted || node->is_substituted || node->is_broken)
        return false;
    for (size_t i = 0; i != sizeof(nulls) / sizeof(nulls[0]); ++i)
        if (strcmp(node->text.base, nulls[i]) == 0)
            return true;
    return false;
}

bool gw_node_holds_secret(const struct gw_node *node)
{
    if (node->kind == GW_NODE_SCALAR)
        return node->is_secret;
    for (size_t i = 0; i != node->size; ++i)
        if (gw_node_holds_secret(node->entries[i]))
            return true;
    return false;
}

h2o_iovec_t gw_node_path(h2o_mem_pool_t *pool, const struct gw_node *node, h2o_iovec_t path)
{
    const char *slash = node != NULL ? strrchr(node->file, '/') : NULL;
    if (slash == NULL || (path.len != 0 && path.base[0] == '/'))
        return h2o_strdup(pool, path.base, path.len);
    return h2o_concat(pool, h2o_iovec_init(node->file, slash + 1 - node->file), path);
}
