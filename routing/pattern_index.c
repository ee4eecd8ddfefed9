#include <assert.h>
#include <string.h>
#include <h2o/string_.h>
#include "routing/pattern_index.h"

/* A list of so few is walked faster than any table is asked. */
enum { SMALL = 8 };

/* Stands for the pattern of an item that matches where its key ends if a segment ends there too: the text of the
 * pattern itself, far away in memory, need not be looked at. */
static const struct routing_pattern at_segment_end;

/* A node of a radix trie: its label is what comes after the labels of its ancestors. Children are found by their first
 * byte in a stretch of the child table that spans from the lowest to the highest of these bytes. */
struct node {
    union {
        char inlined[8];
        const char *text;
    } label;
    uint32_t label_len;
    uint32_t min_order; /* of the items here and below */
    uint32_t first_item, num_items;
    uint32_t children; /* into the child table */
    uint16_t span;     /* 0: a leaf */
    uint8_t lowest;
};
struct trie {
    const struct node *nodes; /* the first is the root; NULL: empty */
    const uint32_t *children; /* 0: none (the root is nobody's child) */
    const struct routing_index_item *items;
};
struct slot {
    const char *text; /* NULL: free */
    uint32_t len, tag;
    uint32_t first_item, num_items;
};
struct routing_index_tables {
    struct slot *slots; /* NULL: no exact patterns */
    uint32_t mask;
    const struct routing_index_item *exact_items;
    struct trie from_front, from_back;
};

/* Keys come from the configuration, only look-ups from the network: collisions cannot be made to order, so the hash
 * needs no secret, just speed. */
static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product =
        (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load(const char *p, size_t n)
{
    uint64_t value = 0;
    memcpy(&value, p, n);
    return value;
}

static inline uint64_t hash(const char *p, size_t len)
{
    uint64_t h = len;
    if (len < 8) {
        /* two overlapping fours, or up to three single bytes */
        if (len >= 4)
            return mix(h ^ load(p, 4), load(p + len - 4, 4));
        return len == 0 ? 0
                        : mix(h, (uint64_t)(uint8_t)p[0] | (uint64_t)(uint8_t)p[len / 2] << 8 |
                                     (uint64_t)(uint8_t)p[len - 1] << 16);
    }
    size_t left = len;
    for (; left > 8; left -= 8, p += 8)
        h = mix(h, load(p, 8));
    return mix(h, load(p + left - 8, 8));
}

/* ---- building ---- */

struct keyed {
    const char *key;
    uint32_t len;
    struct routing_index_item item;
};
struct builder {
    h2o_mem_pool_t *pool;
    bool is_reversed; /* keys are read from their ends */
    struct keyed *keyed;
    struct routing_index_item *items;
    struct node *nodes;
    size_t num_nodes, max_nodes;
    uint32_t *children;
    size_t num_children, max_children;
};

static int compare_items(const void *a_, const void *b_)
{
    const struct routing_index_item *a = a_, *b = b_;
    return a->order < b->order ? -1 : a->order > b->order;
}

static int compare_front(const void *a_, const void *b_)
{
    const struct keyed *a = a_, *b = b_;
    int order = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);
    if (order == 0)
        order = (a->len > b->len) - (a->len < b->len);
    return order != 0 ? order : compare_items(&a->item, &b->item);
}

static int compare_back(const void *a_, const void *b_)
{
    const struct keyed *a = a_, *b = b_;
    uint32_t n = a->len < b->len ? a->len : b->len;
    for (uint32_t i = 1; i <= n; ++i)
        if (a->key[a->len - i] != b->key[b->len - i])
            return (uint8_t)a->key[a->len - i] < (uint8_t)b->key[b->len - i] ? -1 : 1;
    if (a->len != b->len)
        return a->len < b->len ? -1 : 1;
    return compare_items(&a->item, &b->item);
}

static uint8_t byte_at(const struct builder *self, const struct keyed *keyed, uint32_t at)
{
    return keyed->key[self->is_reversed ? keyed->len - 1 - at : at];
}

static void set_label(const struct builder *self, struct node *node, const struct keyed *keyed, uint32_t from,
                      uint32_t to)
{
    const char *text = self->is_reversed ? keyed->key + keyed->len - to : keyed->key + from;
    node->label_len = to - from;
    if (node->label_len <= sizeof(node->label.inlined))
        memcpy(node->label.inlined, text, node->label_len);
    else
        node->label.text = text;
}

static uint32_t add_node(struct builder *self)
{
    assert(self->num_nodes < self->max_nodes);
    memset(self->nodes + self->num_nodes, 0, sizeof(*self->nodes));
    return (uint32_t)self->num_nodes++;
}

static void reserve_children(struct builder *self, size_t span)
{
    if (self->num_children + span > self->max_children) {
        self->max_children = 2 * (self->num_children + span);
        self->children = h2o_mem_realloc(self->children, self->max_children * sizeof(*self->children));
    }
    memset(self->children + self->num_children, 0, span * sizeof(*self->children));
    self->num_children += span;
}

/* The node of the sorted keys first..end, which agree up to depth. */
static uint32_t build_node(struct builder *self, uint32_t first, uint32_t end, uint32_t depth)
{
    const struct keyed *low = self->keyed + first, *high = self->keyed + end - 1;
    uint32_t index = add_node(self), common = depth, i = first;
    struct node *node = self->nodes + index; /* nodes never move: their number is bounded beforehand */

    while (common < low->len && common < high->len && byte_at(self, low, common) == byte_at(self, high, common))
        ++common;
    set_label(self, node, low, depth, common);
    node->min_order = UINT32_MAX;
    while (i != end && self->keyed[i].len == common)
        ++i;
    node->first_item = first;
    node->num_items = i - first;
    if (node->num_items != 0)
        node->min_order = self->items[first].order;
    if (i == end)
        return index;

    node->lowest = byte_at(self, self->keyed + i, common);
    node->span = byte_at(self, high, common) - node->lowest + 1;
    node->children = (uint32_t)self->num_children;
    reserve_children(self, node->span);
    while (i != end) {
        uint8_t byte = byte_at(self, self->keyed + i, common);
        uint32_t start = i;
        while (i != end && byte_at(self, self->keyed + i, common) == byte)
            ++i;
        uint32_t child = build_node(self, start, i, common);
        self->children[node->children + byte - node->lowest] = child;
        if (self->nodes[child].min_order < node->min_order)
            node->min_order = self->nodes[child].min_order;
    }
    return index;
}

static struct routing_index_item *copy_items(h2o_mem_pool_t *pool, const struct keyed *keyed, size_t n)
{
    struct routing_index_item *items = h2o_mem_alloc_pool(pool, (n + 1) * sizeof(*items));
    for (size_t i = 0; i != n; ++i)
        items[i] = keyed[i].item;
    return items;
}

static void build_trie(struct trie *trie, h2o_mem_pool_t *pool, struct keyed *keyed, size_t n, bool is_reversed)
{
    *trie = (struct trie){NULL};
    if (n == 0)
        return;
    qsort(keyed, n, sizeof(*keyed), is_reversed ? compare_back : compare_front);
    struct builder builder = {pool, is_reversed, keyed, copy_items(pool, keyed, n)};
    builder.max_nodes = 2 * n + 1; /* one per key and one per fork */
    builder.nodes = h2o_mem_alloc(builder.max_nodes * sizeof(*builder.nodes));
    build_node(&builder, 0, (uint32_t)n, 0);
    trie->items = builder.items;
    struct node *nodes = h2o_mem_alloc_pool(pool, builder.num_nodes * sizeof(*nodes));
    memcpy(nodes, builder.nodes, builder.num_nodes * sizeof(*nodes));
    trie->nodes = nodes;
    uint32_t *children = h2o_mem_alloc_pool(pool, (builder.num_children + 1) * sizeof(*children));
    if (builder.num_children != 0)
        memcpy(children, builder.children, builder.num_children * sizeof(*children));
    trie->children = children;
    free(builder.nodes);
    free(builder.children);
}

static void build_exact(struct routing_index_tables *tables, h2o_mem_pool_t *pool, struct keyed *keyed, size_t n)
{
    size_t num_slots = 4;
    tables->slots = NULL;
    if (n == 0)
        return;
    qsort(keyed, n, sizeof(*keyed), compare_front);
    tables->exact_items = copy_items(pool, keyed, n);
    while (num_slots * 3 < n * 4)
        num_slots *= 2;
    tables->mask = (uint32_t)num_slots - 1;
    tables->slots = h2o_mem_alloc_pool(pool, num_slots * sizeof(*tables->slots));
    memset(tables->slots, 0, num_slots * sizeof(*tables->slots));
    for (size_t i = 0, start; i != n;) {
        for (start = i;
             i != n && keyed[i].len == keyed[start].len && memcmp(keyed[i].key, keyed[start].key, keyed[i].len) == 0;)
            ++i;
        uint64_t h = hash(keyed[start].key, keyed[start].len);
        size_t at = h & tables->mask;
        while (tables->slots[at].text != NULL)
            at = (at + 1) & tables->mask;
        tables->slots[at] = (struct slot){keyed[start].key, keyed[start].len, (uint32_t)(h >> 32), (uint32_t)start,
                                          (uint32_t)(i - start)};
    }
}

enum { EXACT, FRONT, BACK, NO_KEY, NUM_PLACES };

/* Where an item goes, and the part of its pattern that is the key there. */
static int place_item(const struct routing_index_item *item, struct keyed *keyed)
{
    const struct routing_pattern *pattern = item->pattern;
    keyed->item = *item;
    if (pattern->kind == ROUTING_PATTERN_EXACT) {
        keyed->key = pattern->text.base;
        keyed->len = (uint32_t)pattern->text.len;
        keyed->item.pattern = NULL;
        return EXACT;
    }
    if (pattern->kind == ROUTING_PATTERN_ANY) {
        keyed->item.pattern = NULL;
        return NO_KEY;
    }
    if (pattern->prefix_len == 0 && pattern->suffix_len == 0)
        return NO_KEY;
    bool is_front = pattern->prefix_len >= pattern->suffix_len;
    keyed->key = is_front ? pattern->prefix : pattern->suffix;
    keyed->len = is_front ? pattern->prefix_len : pattern->suffix_len;
    if (is_front ? routing_pattern_is_prefix_only(pattern) : routing_pattern_is_suffix_only(pattern))
        keyed->item.pattern = NULL;
    else if (pattern->kind == ROUTING_PATTERN_PREFIX)
        keyed->item.pattern = &at_segment_end;
    return is_front ? FRONT : BACK;
}

static void build_tables(struct routing_index *self, h2o_mem_pool_t *pool, const struct routing_index_item *items,
                         size_t n)
{
    struct keyed *places[NUM_PLACES];
    size_t sizes[NUM_PLACES] = {0};
    struct routing_index_tables *tables = h2o_mem_alloc_pool(pool, sizeof(*tables));

    for (int place = 0; place != NUM_PLACES; ++place)
        places[place] = h2o_mem_alloc(n * sizeof(*places[place]));
    for (size_t i = 0; i != n; ++i) {
        struct keyed keyed;
        int place = place_item(items + i, &keyed);
        places[place][sizes[place]++] = keyed;
    }
    build_exact(tables, pool, places[EXACT], sizes[EXACT]);
    build_trie(&tables->from_front, pool, places[FRONT], sizes[FRONT], false);
    build_trie(&tables->from_back, pool, places[BACK], sizes[BACK], true);
    self->items = copy_items(pool, places[NO_KEY], sizes[NO_KEY]);
    self->num_items = (uint32_t)sizes[NO_KEY];
    self->tables = tables;
    for (int place = 0; place != NUM_PLACES; ++place)
        free(places[place]);
}

void routing_index_build(struct routing_index *self, h2o_mem_pool_t *pool, const struct routing_index_item *items,
                         size_t num_items)
{
    *self = (struct routing_index){.min_order = UINT32_MAX};
    for (size_t i = 0; i != num_items; ++i)
        if (items[i].order < self->min_order)
            self->min_order = items[i].order;
    if (num_items > SMALL) {
        build_tables(self, pool, items, num_items);
    } else {
        self->items = h2o_mem_alloc_pool(pool, (num_items + 1) * sizeof(*self->items));
        memcpy(self->items, items, num_items * sizeof(*items));
        self->num_items = (uint32_t)num_items;
    }
    qsort(self->items, self->num_items, sizeof(*self->items), compare_items);
}

/* ---- matching ---- */

struct visit {
    h2o_iovec_t text;
    uint32_t *best;
    routing_index_take take;
    void *context;
};

/* used: length of the key that led to the list */
static inline bool takes(const struct routing_index_item *item, h2o_iovec_t text, size_t used)
{
    if (item->pattern == NULL)
        return true;
    if (item->pattern == &at_segment_end)
        return used == text.len || text.base[used] == '/';
    return routing_pattern_takes(item->pattern, text);
}

static inline void visit_list(const struct visit *visit, const struct routing_index_item *items, uint32_t n,
                              size_t used)
{
    for (uint32_t i = 0; i != n && items[i].order < *visit->best; ++i)
        if (takes(items + i, visit->text, used))
            visit->take(visit->context, items + i, visit->best);
}

static const struct slot *find_exact(const struct routing_index_tables *tables, const char *text, size_t len)
{
    uint64_t h = hash(text, len);
    for (size_t at = h & tables->mask;; at = (at + 1) & tables->mask) {
        const struct slot *slot = tables->slots + at;
        if (slot->text == NULL)
            return NULL;
        if (slot->tag == (uint32_t)(h >> 32) && slot->len == len && memcmp(slot->text, text, len) == 0)
            return slot;
    }
}

/* The label stands at text; short ones are in the node itself, which saves a cache miss. */
static inline bool has_label(const struct node *node, const char *text)
{
    uint32_t len = node->label_len;
    if (len > sizeof(node->label.inlined))
        return memcmp(node->label.text, text, len) == 0;
    for (uint32_t i = 0; i != len; ++i)
        if (node->label.inlined[i] != text[i])
            return false;
    return true;
}

/* The node after this one on the way of the text, of which used bytes are behind us; NULL at the end of the way. */
static inline const struct node *next_node(const struct trie *trie, const struct node *node, h2o_iovec_t text,
                                           size_t used, bool is_reversed)
{
    if (node->span == 0 || used == text.len)
        return NULL;
    uint8_t byte = is_reversed ? text.base[text.len - 1 - used] : text.base[used];
    uint32_t at = (uint32_t)byte - node->lowest;
    if (at >= node->span || trie->children[node->children + at] == 0)
        return NULL;
    return trie->nodes + trie->children[node->children + at];
}

static inline bool enter_node(const struct node *node, h2o_iovec_t text, size_t *used, bool is_reversed)
{
    if (node->label_len > text.len - *used)
        return false;
    const char *at = is_reversed ? text.base + text.len - *used - node->label_len : text.base + *used;
    if (!has_label(node, at))
        return false;
    *used += node->label_len;
    return true;
}

static inline void visit_trie(const struct visit *visit, const struct trie *trie, bool is_reversed)
{
    const struct node *node = trie->nodes;
    size_t used = 0;
    while (node != NULL && node->min_order < *visit->best && enter_node(node, visit->text, &used, is_reversed)) {
        if (node->num_items != 0)
            visit_list(visit, trie->items + node->first_item, node->num_items, used);
        node = next_node(trie, node, visit->text, used, is_reversed);
    }
}

void routing_index_match(const struct routing_index *self, h2o_iovec_t text, uint32_t *best, routing_index_take take,
                         void *context)
{
    struct visit visit = {text, best, take, context};
    const struct routing_index_tables *tables = self->tables;

    if (self->min_order >= *best)
        return;
    if (tables != NULL) {
        const struct slot *slot = tables->slots != NULL ? find_exact(tables, text.base, text.len) : NULL;
        if (slot != NULL)
            visit_list(&visit, tables->exact_items + slot->first_item, slot->num_items, text.len);
        visit_trie(&visit, &tables->from_front, false);
        visit_trie(&visit, &tables->from_back, true);
    }
    visit_list(&visit, self->items, self->num_items, 0);
}

/* ---- covering ---- */

static bool see_list(const struct routing_index_item *items, uint32_t n, uint32_t below, routing_index_see see,
                     void *context)
{
    for (uint32_t i = 0; i != n && items[i].order < below; ++i)
        if (!see(context, items + i))
            return false;
    return true;
}

static bool see_trie(const struct trie *trie, h2o_iovec_t key, bool is_reversed, uint32_t below, routing_index_see see,
                     void *context)
{
    const struct node *node = trie->nodes;
    size_t used = 0;
    while (node != NULL && node->min_order < below && enter_node(node, key, &used, is_reversed)) {
        if (!see_list(trie->items + node->first_item, node->num_items, below, see, context))
            return false;
        node = next_node(trie, node, key, used, is_reversed);
    }
    return true;
}

/* A pattern covers another only if its literal ends are ends of the other's. */
bool routing_index_covering(const struct routing_index *self, const struct routing_pattern *pattern, uint32_t below,
                            routing_index_see see, void *context)
{
    const struct routing_index_tables *tables = self->tables;
    if (self->min_order >= below)
        return true;
    if (tables != NULL) {
        h2o_iovec_t front = h2o_iovec_init(pattern->prefix, pattern->prefix_len),
                    back = h2o_iovec_init(pattern->suffix, pattern->suffix_len);
        if (pattern->kind == ROUTING_PATTERN_REGEX && pattern->prefix_len == 0 && !pattern->is_host)
            front = h2o_iovec_init(H2O_STRLIT("/")); /* of every path but the "*" of OPTIONS */
        if (pattern->kind == ROUTING_PATTERN_EXACT) {
            const struct slot *slot =
                tables->slots != NULL ? find_exact(tables, pattern->text.base, pattern->text.len) : NULL;
            if (slot != NULL && !see_list(tables->exact_items + slot->first_item, slot->num_items, below, see, context))
                return false;
            back = pattern->text;
        }
        if (!see_trie(&tables->from_front, front, false, below, see, context) ||
            !see_trie(&tables->from_back, back, true, below, see, context))
            return false;
    }
    return see_list(self->items, self->num_items, below, see, context);
}
