/* One YAML document into nodes. libyaml gives events; limits count what aliases expand to, so that a small file cannot
 * become a large tree ("billion laughs"), although aliased nodes are shared and cost no memory. */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "gateway/base/yaml_internal.h"
#include "gateway/base/json.h"

enum { FEW_KEYS = 8 };

struct anchor {
    struct gw_node *node; /* NULL while its own content is being read */
    size_t num_nodes;     /* of the whole subtree, aliases expanded */
    unsigned height;
};

struct parse {
    struct gw_yaml_reader *reader;
    const char *file;
    h2o_iovec_t text;
    yaml_parser_t yaml;
    struct gw_node **stack; /* children of the nodes being read */
    size_t stack_size, stack_capacity;
    struct gw_names anchor_names;
    struct anchor *anchors;
    size_t num_anchors;
};

static struct gw_node *parse_node(struct parse *, yaml_event_t *, unsigned depth, unsigned *height);

static bool fail(struct parse *p, yaml_mark_t mark, const char *text)
{
    return gw_error_in(p->reader->errors, p->file, mark.line + 1, mark.column + 1, "%s", text);
}

/* Start of a line (from 0), or the end of the text. */
static const char *line_at(const struct parse *p, size_t line)
{
    const char *at = p->text.base, *end = at + p->text.len;
    for (; line != 0 && at != end; --line) {
        const char *lf = memchr(at, '\n', end - at);
        at = lf != NULL ? lf + 1 : end;
    }
    return at;
}

/* The byte at a mark; 0 beyond the end. Columns count characters, bytes 10xxxxxx continue one. */
static unsigned char byte_at(const struct parse *p, yaml_mark_t mark)
{
    const char *at = line_at(p, mark.line), *end = p->text.base + p->text.len;
    for (size_t column = mark.column; at != end && *at != '\n'; ++at) {
        if (((unsigned char)*at & 0xc0) == 0x80)
            continue;
        if (column-- == 0)
            return (unsigned char)*at;
    }
    return 0;
}

/* libyaml's words are exact but of the grammar; the mistakes that people make get the remedy too. */
static const char *syntax_hint(const struct parse *p, const char *problem)
{
    yaml_mark_t before = p->yaml.problem_mark;
    unsigned char c = byte_at(p, before);
    if (c == '{' && before.column-- != 0 && byte_at(p, before) == '$')
        return " (inside of [] and {}, ${...} needs quotes)";
    if (strstr(problem, "cannot start any token") != NULL)
        return c == '\t' ? " (indent with spaces, not tabs)" : " (put the value in quotes)";
    if (p->yaml.context != NULL && strstr(p->yaml.context, "alias") != NULL)
        return " (a value that begins with * needs quotes)";
    if (p->yaml.context != NULL && strstr(p->yaml.context, "anchor") != NULL)
        return " (a value that begins with & needs quotes)";
    if (strstr(problem, "mapping values are not allowed") != NULL)
        return " (a value that holds \": \" needs quotes; keys of one map stand in one column)";
    if (strstr(problem, "tab character") != NULL)
        return " (indent with spaces, not tabs)";
    return "";
}

static void report_syntax(struct parse *p)
{
    const char *problem = p->yaml.problem != NULL ? p->yaml.problem : "cannot be read";
    struct gw_errors *errors = p->reader->errors;
    unsigned line = p->yaml.problem_mark.line + 1, column = p->yaml.problem_mark.column + 1;
    if (p->yaml.error == YAML_READER_ERROR)
        gw_error_in(errors, p->file, 0, 0, "not YAML: %s", problem);
    else if (p->yaml.context != NULL && p->yaml.context_mark.line != p->yaml.problem_mark.line)
        gw_error_in(errors, p->file, line, column, "not YAML: %s, %s that starts at line %zu%s", problem,
                    p->yaml.context, p->yaml.context_mark.line + 1, syntax_hint(p, problem));
    else
        gw_error_in(errors, p->file, line, column, "not YAML: %s%s", problem, syntax_hint(p, problem));
}

static bool next(struct parse *p, yaml_event_t *event)
{
    if (yaml_parser_parse(&p->yaml, event))
        return true;
    report_syntax(p);
    return false;
}

static bool count_nodes(struct parse *p, yaml_mark_t mark, size_t n)
{
    struct gw_yaml_reader *reader = p->reader;
    if (n > reader->limits.max_nodes - reader->num_nodes)
        return gw_error_in(reader->errors, p->file, mark.line + 1, mark.column + 1,
                           "more than %zu values, counting what aliases repeat", reader->limits.max_nodes);
    reader->num_nodes += n;
    return true;
}

static struct gw_node *new_node(struct parse *p, enum gw_node_kind kind, yaml_mark_t mark)
{
    struct gw_node *node = h2o_mem_alloc_pool(p->reader->pool, sizeof(*node));
    *node = (struct gw_node){
        .kind = kind, .file = p->file, .line = (unsigned)mark.line + 1, .column = (unsigned)mark.column + 1};
    return node;
}

static void push(struct parse *p, struct gw_node *node)
{
    if (p->stack_size == p->stack_capacity) {
        p->stack_capacity = p->stack_capacity == 0 ? 256 : p->stack_capacity * 2;
        p->stack = h2o_mem_realloc(p->stack, p->stack_capacity * sizeof(p->stack[0]));
    }
    p->stack[p->stack_size++] = node;
}

/* Reserves the anchor's name; its node follows when it is complete. SIZE_MAX: no anchor. */
static size_t open_anchor(struct parse *p, const yaml_char_t *name)
{
    if (name == NULL)
        return SIZE_MAX;
    bool is_new;
    h2o_iovec_t text = h2o_iovec_init(name, strlen((const char *)name));
    if (gw_names_get(&p->anchor_names, text) == NULL)
        text = h2o_strdup(p->reader->pool, text.base, text.len);
    /* YAML 1.2, 3.2.2.2: an anchor may be set again; later aliases mean the later node */
    *gw_names_put(&p->anchor_names, text, &is_new) = p->num_anchors;
    if ((p->num_anchors & (p->num_anchors - 1)) == 0)
        p->anchors = h2o_mem_realloc(p->anchors, (p->num_anchors == 0 ? 1 : p->num_anchors * 2) * sizeof(*p->anchors));
    p->anchors[p->num_anchors] = (struct anchor){NULL, 0, 0};
    return p->num_anchors++;
}

/* The tags of YAML's core schema, which say what a reader would find out anyway, except for !!str. */
static bool check_tag(struct parse *p, const yaml_char_t *tag, yaml_mark_t mark)
{
    static const char *const core[] = {YAML_STR_TAG,  YAML_INT_TAG, YAML_FLOAT_TAG, YAML_BOOL_TAG,
                                       YAML_NULL_TAG, YAML_SEQ_TAG, YAML_MAP_TAG,   "!"};
    if (tag == NULL)
        return true;
    for (size_t i = 0; i != sizeof(core) / sizeof(core[0]); ++i)
        if (strcmp((const char *)tag, core[i]) == 0)
            return true;
    return gw_error_in(p->reader->errors, p->file, mark.line + 1, mark.column + 1, "tag \"%.60s\" has no meaning here",
                       (const char *)tag);
}

static struct gw_node *parse_scalar(struct parse *p, yaml_event_t *event, bool is_key)
{
    struct gw_node *node = new_node(p, GW_NODE_SCALAR, event->start_mark);
    const yaml_char_t *tag = event->data.scalar.tag;
    node->text = h2o_strdup(p->reader->pool, (const char *)event->data.scalar.value, event->data.scalar.length);
    node->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (tag != NULL && strcmp((const char *)tag, YAML_STR_TAG) == 0)
        node->is_quoted = true;
    if (!check_tag(p, tag, event->start_mark)) {
        node->is_broken = true;
    } else if (memchr(node->text.base, '\0', node->text.len) != NULL) {
        fail(p, event->start_mark, "a text cannot hold a NUL character");
        node->is_broken = true;
    } else if (!is_key) {
        gw_yaml_substitute(p->reader, node);
    }
    return node;
}

static struct gw_node **copy_children(struct parse *p, size_t from, size_t step, size_t n)
{
    struct gw_node **children = h2o_mem_alloc_pool(p->reader->pool, n * sizeof(*children));
    for (size_t i = 0; i != n; ++i)
        children[i] = p->stack[from + i * step];
    return children;
}

static bool parse_list(struct parse *p, struct gw_node *list, unsigned depth, unsigned *height)
{
    size_t base = p->stack_size;
    for (;;) {
        yaml_event_t event;
        if (!next(p, &event))
            return false;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        struct gw_node *entry = parse_node(p, &event, depth + 1, height);
        if (entry == NULL)
            return false;
        push(p, entry);
    }
    list->size = p->stack_size - base;
    list->entries = copy_children(p, base, 1, list->size);
    p->stack_size = base;
    return true;
}

/* NULL after an error. */
static struct gw_node *parse_key(struct parse *p, yaml_event_t *event)
{
    if (event->type != YAML_SCALAR_EVENT) {
        fail(p, event->start_mark, "a key must be a text (not a list, map or alias)");
        yaml_event_delete(event);
        return NULL;
    }
    struct gw_node *key = NULL;
    if (count_nodes(p, event->start_mark, 1)) {
        size_t anchor = open_anchor(p, event->data.scalar.anchor);
        key = parse_scalar(p, event, true);
        if (anchor != SIZE_MAX)
            p->anchors[anchor] = (struct anchor){key, 1, 0};
    }
    yaml_event_delete(event);
    return key;
}

static void check_key(struct parse *p, const struct gw_node *map, size_t index, struct gw_names *names)
{
    struct gw_node *key = map->keys[index];
    size_t first = index;
    if (!key->is_quoted && h2o_memis(key->text.base, key->text.len, H2O_STRLIT("<<"))) {
        gw_error_at(p->reader->errors, key, "merge keys (<<) are not supported");
        key->is_broken = true;
    }
    if (map->size <= FEW_KEYS) {
        for (first = 0; first != index; ++first)
            if (h2o_memis(map->keys[first]->text.base, map->keys[first]->text.len, key->text.base, key->text.len))
                break;
    } else {
        bool is_new;
        size_t *value = gw_names_put(names, key->text, &is_new);
        if (is_new)
            *value = index;
        first = *value;
    }
    if (first != index) {
        gw_error_at(p->reader->errors, key, "duplicate key \"%.60s\" (first at %s:%u:%u)", key->text.base,
                    map->keys[first]->file, map->keys[first]->line, map->keys[first]->column);
        key->is_broken = map->entries[index]->is_broken = true;
    }
}

/* Is it the value of access_log.template, which says ${field} itself? The key of the map that is being read lies below
 * base on the stack. */
static bool holds_template(const struct parse *p, size_t base, const struct gw_node *key, unsigned depth)
{
    if (depth != 1 || base == 0 || !h2o_memis(key->text.base, key->text.len, H2O_STRLIT("template")))
        return false;
    const struct gw_node *parent = p->stack[base - 1];
    return h2o_memis(parent->text.base, parent->text.len, H2O_STRLIT("access_log"));
}

static bool parse_map(struct parse *p, struct gw_node *map, unsigned depth, unsigned *height)
{
    size_t base = p->stack_size;
    for (;;) {
        yaml_event_t event;
        if (!next(p, &event))
            return false;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        struct gw_node *key = parse_key(p, &event);
        if (key == NULL)
            return false;
        push(p, key);
        if (!next(p, &event))
            return false;
        p->reader->keeps_fields = holds_template(p, base, key, depth);
        struct gw_node *value = parse_node(p, &event, depth + 1, height);
        p->reader->keeps_fields = false;
        if (value == NULL)
            return false;
        push(p, value);
    }
    map->size = (p->stack_size - base) / 2;
    map->keys = copy_children(p, base, 2, map->size);
    map->entries = copy_children(p, base + 1, 2, map->size);
    p->stack_size = base;
    struct gw_names names;
    gw_names_init(&names, NULL);
    for (size_t i = 0; i != map->size; ++i)
        check_key(p, map, i, &names);
    gw_names_dispose(&names);
    return true;
}

static struct gw_node *parse_alias(struct parse *p, yaml_event_t *event, unsigned depth, unsigned *height)
{
    const char *name = (const char *)event->data.alias.anchor;
    const size_t *index = gw_names_get(&p->anchor_names, h2o_iovec_init(name, strlen(name)));
    yaml_mark_t mark = event->start_mark;
    if (index == NULL || p->anchors[*index].node == NULL) {
        gw_error_in(p->reader->errors, p->file, mark.line + 1, mark.column + 1, "alias \"*%.60s\" %s%s", name,
                    index == NULL ? "has no anchor before it" : "is inside of what it repeats",
                    index == NULL ? " (a value that begins with * needs quotes)" : "");
        return NULL;
    }
    struct anchor anchor = p->anchors[*index];
    if (depth + anchor.height > p->reader->limits.max_depth) {
        gw_error_in(p->reader->errors, p->file, mark.line + 1, mark.column + 1, "nested deeper than %u levels",
                    p->reader->limits.max_depth);
        return NULL;
    }
    *height = anchor.height;
    return count_nodes(p, mark, anchor.num_nodes) ? anchor.node : NULL;
}

static struct gw_node *parse_container(struct parse *p, yaml_event_t *event, unsigned depth, unsigned *height)
{
    bool is_map = event->type == YAML_MAPPING_START_EVENT;
    struct gw_node *node = new_node(p, is_map ? GW_NODE_MAP : GW_NODE_LIST, event->start_mark);
    if (depth >= p->reader->limits.max_depth) {
        gw_error_at(p->reader->errors, node, "nested deeper than %u levels", p->reader->limits.max_depth);
        return NULL;
    }
    if (!check_tag(p, is_map ? event->data.mapping_start.tag : event->data.sequence_start.tag, event->start_mark))
        node->is_broken = true;
    unsigned below = 0;
    if (!(is_map ? parse_map(p, node, depth, &below) : parse_list(p, node, depth, &below)))
        return NULL;
    *height = below + 1;
    return node;
}

/* Consumes the event. height: levels of containers in the node; the greatest of siblings is kept. */
static struct gw_node *parse_node(struct parse *p, yaml_event_t *event, unsigned depth, unsigned *height)
{
    struct gw_node *node = NULL;
    unsigned own_height = 0;
    size_t nodes_before = p->reader->num_nodes, anchor = SIZE_MAX;
    if (event->type == YAML_ALIAS_EVENT) {
        node = parse_alias(p, event, depth, &own_height);
    } else if (count_nodes(p, event->start_mark, 1)) {
        if (event->type == YAML_SCALAR_EVENT) {
            anchor = open_anchor(p, event->data.scalar.anchor);
            node = parse_scalar(p, event, false);
        } else {
            anchor = open_anchor(p, event->type == YAML_MAPPING_START_EVENT ? event->data.mapping_start.anchor
                                                                            : event->data.sequence_start.anchor);
            node = parse_container(p, event, depth, &own_height);
        }
    }
    yaml_event_delete(event);
    if (node != NULL && anchor != SIZE_MAX)
        p->anchors[anchor] = (struct anchor){node, p->reader->num_nodes - nodes_before, own_height};
    if (own_height > *height)
        *height = own_height;
    return node;
}

static struct gw_node *parse_stream(struct parse *p)
{
    yaml_event_t event;
    struct gw_node *root = NULL;
    unsigned height = 0;
    for (;;) {
        if (!next(p, &event))
            return NULL;
        yaml_event_type_t type = event.type;
        yaml_mark_t mark = event.start_mark;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT) {
            yaml_event_delete(&event);
        } else if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            break;
        } else if (type == YAML_DOCUMENT_START_EVENT) {
            yaml_event_delete(&event);
            if (root != NULL) {
                fail(p, mark, "a second document (a file holds one)");
                return NULL;
            }
        } else if ((root = parse_node(p, &event, 0, &height)) == NULL) {
            return NULL;
        }
    }
    if (root == NULL)
        gw_error_in(p->reader->errors, p->file, 0, 0, "the file is empty");
    return root;
}

/* libyaml would tell these by byte offset only. Counts as it does: lines end in LF, columns are characters. */
static bool check_bytes(struct parse *p)
{
    const unsigned char *s = (const unsigned char *)p->text.base, *end = s + p->text.len, *line_start = s;
    yaml_mark_t mark = {0, 0, 0};
    size_t continued = 0;
    for (; s != end; ++s) {
        if (*s == '\n') {
            ++mark.line;
            line_start = s + 1;
            continued = 0;
            continue;
        }
        mark.column = s - line_start - continued;
        if ((*s < 0x20 && *s != '\t' && *s != '\r') || *s == 0x7f)
            return gw_error_in(p->reader->errors, p->file, mark.line + 1, mark.column + 1,
                               "control character 0x%02x (write it as an escape in double quotes)", *s);
        if (*s < 0x80)
            continue;
        size_t len = gw_utf8_length(s, (size_t)(end - s));
        if (len == 0)
            return fail(p, mark, "not UTF-8");
        continued += len - 1;
        s += len - 1;
    }
    return true;
}

struct gw_node *gw_yaml_parse(struct gw_yaml_reader *reader, const char *file, h2o_iovec_t text)
{
    struct parse p = {.reader = reader, .file = file, .text = text};
    struct gw_node *root = NULL;
    if (text.len >= 3 && memcmp(text.base, "\xef\xbb\xbf", 3) == 0)
        p.text = h2o_iovec_init(text.base + 3, text.len - 3);
    if (!check_bytes(&p))
        return NULL;
    if (!yaml_parser_initialize(&p.yaml))
        h2o_fatal("no memory");
    yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p.yaml, (const unsigned char *)p.text.base, p.text.len);
    gw_names_init(&p.anchor_names, NULL);
    root = parse_stream(&p);
    gw_names_dispose(&p.anchor_names);
    yaml_parser_delete(&p.yaml);
    free(p.anchors);
    free(p.stack);
    return root;
}
