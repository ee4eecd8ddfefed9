#include <string.h>
#include <h2o/string_.h>
#include "gateway/base/glob.h"
#include "routing/pattern.h"

static bool is_text(h2o_iovec_t a, h2o_iovec_t b) { return a.len == b.len && memcmp(a.base, b.base, a.len) == 0; }

static bool is_wild(char c) { return c == '*' || c == '?' || c == '\\'; }

/* ---- making ---- */

static void set_prefix(struct routing_pattern *self, const char *base, size_t len)
{
    self->prefix = base;
    self->prefix_len = (uint32_t)len;
}

void routing_pattern_init_any(struct routing_pattern *self, bool is_path)
{
    *self = (struct routing_pattern){.kind = ROUTING_PATTERN_ANY, .prefix = "", .suffix = ""};
    self->text = is_path ? h2o_iovec_init(H2O_STRLIT("/*")) : h2o_iovec_init(H2O_STRLIT("*"));
    self->shown = self->text;
    if (is_path)
        set_prefix(self, "/", 1);
}

void routing_pattern_init_literal(struct routing_pattern *self, h2o_iovec_t text, bool is_prefix)
{
    *self = (struct routing_pattern){.kind = is_prefix ? ROUTING_PATTERN_PREFIX : ROUTING_PATTERN_EXACT, .suffix = ""};
    self->text = self->shown = text;
    set_prefix(self, text.base, text.len);
}

static h2o_iovec_t lower_case(h2o_mem_pool_t *pool, h2o_iovec_t text)
{
    h2o_iovec_t lower = h2o_strdup(pool, text.base, text.len);
    h2o_strtolower(lower.base, lower.len);
    return lower;
}

void routing_pattern_init_glob(struct routing_pattern *self, h2o_mem_pool_t *pool, h2o_iovec_t glob, bool is_host)
{
    bool is_literal, is_all_stars = glob.len != 0;

    *self = (struct routing_pattern){.kind = ROUTING_PATTERN_GLOB, .suffix = ""};
    self->shown = glob;
    for (size_t i = 0; i != glob.len; ++i)
        is_all_stars = is_all_stars && glob.base[i] == '*';
    if (is_all_stars) {
        routing_pattern_init_any(self, !is_host);
        self->shown = glob;
        return;
    }
    if (is_host)
        glob = lower_case(pool, glob);
    self->text = glob;
    h2o_iovec_t prefix = gw_glob_prefix(glob, h2o_mem_alloc_pool(pool, glob.len + 1), &is_literal);
    set_prefix(self, prefix.base, prefix.len);
    if (is_literal) {
        self->kind = ROUTING_PATTERN_EXACT;
        self->text = prefix;
        return;
    }
    if (memchr(glob.base, '\\', glob.len) != NULL)
        return; /* rare; where a literal end would start is not worth knowing */
    while (!is_wild(glob.base[glob.len - 1 - self->suffix_len]))
        ++self->suffix_len;
    self->suffix = glob.base + glob.len - self->suffix_len;
}

/* "^/literal" with nothing after it that could make the last of it optional, and no alternative to it. */
static size_t anchored_literal(h2o_iovec_t regex)
{
    size_t i = 1;
    if (regex.len == 0 || regex.base[0] != '^' || memchr(regex.base, '|', regex.len) != NULL)
        return 0;
    while (i != regex.len && strchr(".\\[]{}()*+?^$|#", regex.base[i]) == NULL)
        ++i;
    if (i != regex.len && strchr("*?{+", regex.base[i]) != NULL && i > 1)
        --i;
    return i - 1;
}

bool routing_pattern_init_regex(struct routing_pattern *self, h2o_mem_pool_t *pool, h2o_iovec_t regex, bool is_host,
                                char *why, size_t why_len)
{
    *self = (struct routing_pattern){.kind = ROUTING_PATTERN_REGEX, .suffix = "", .prefix = "", .is_host = is_host};
    self->text = self->shown = regex;
    if ((self->regex = gw_regex_create(regex, is_host, why, why_len)) == NULL)
        return false;
    if (!is_host) /* a prefix in capitals would not be one of hosts, which are in lower case */
        set_prefix(self, regex.base + 1, anchored_literal(regex));
    return true;
}

void routing_pattern_dispose(struct routing_pattern *self)
{
    if (self->regex != NULL)
        gw_regex_destroy(self->regex);
}

/* ---- matching ---- */

static bool has_prefix(const struct routing_pattern *self, h2o_iovec_t text)
{
    return text.len >= self->prefix_len && memcmp(text.base, self->prefix, self->prefix_len) == 0;
}

static bool takes_segments(const struct routing_pattern *self, h2o_iovec_t text)
{
    if (!has_prefix(self, text))
        return false;
    return text.len == self->text.len || text.base[self->text.len] == '/' || self->text.base[self->text.len - 1] == '/';
}

/* One star between two literal ends, the usual glob, needs no search. */
static bool is_ends_only(const struct routing_pattern *self)
{
    return self->prefix_len + 1 + self->suffix_len == self->text.len && self->text.base[self->prefix_len] == '*';
}

bool routing_pattern_takes(const struct routing_pattern *self, h2o_iovec_t text)
{
    switch (self->kind) {
    case ROUTING_PATTERN_ANY:
        return true;
    case ROUTING_PATTERN_EXACT:
        return is_text(self->text, text);
    case ROUTING_PATTERN_PREFIX:
        return takes_segments(self, text);
    case ROUTING_PATTERN_GLOB:
        if (!is_ends_only(self))
            return gw_glob_match(self->text, text);
        return text.len >= (size_t)self->prefix_len + self->suffix_len && has_prefix(self, text) &&
               memcmp(text.base + text.len - self->suffix_len, self->suffix, self->suffix_len) == 0;
    case ROUTING_PATTERN_REGEX:
        return self->regex != NULL && gw_regex_search(self->regex, text, NULL);
    }
    return false;
}

bool routing_pattern_is_prefix_only(const struct routing_pattern *self)
{
    if (self->kind == ROUTING_PATTERN_PREFIX)
        return self->text.base[self->text.len - 1] == '/';
    return self->kind == ROUTING_PATTERN_GLOB && self->suffix_len == 0 && is_ends_only(self);
}

bool routing_pattern_is_suffix_only(const struct routing_pattern *self)
{
    return self->kind == ROUTING_PATTERN_GLOB && self->prefix_len == 0 && is_ends_only(self);
}

/* ---- covering ---- */

enum { TOKEN_ONE = 256, TOKEN_STAR = 257 };

/* A glob as a string over the bytes and two symbols for the wildcards. */
static int next_token(h2o_iovec_t glob, size_t *at, bool ignore_case)
{
    unsigned char c = glob.base[(*at)++];
    if (c == '*')
        return TOKEN_STAR;
    if (c == '?')
        return TOKEN_ONE;
    if (c == '\\' && *at != glob.len && is_wild(glob.base[*at]))
        c = glob.base[(*at)++];
    return ignore_case ? h2o_tolower(c) : c;
}

static bool token_covers(int a, int b) { return a == b || (a == TOKEN_ONE && b != TOKEN_STAR); }

/* Ordinary glob matching of a against b taken as a text, in which b's wildcards are characters that only wildcards of
 * a as wide can take. */
bool routing_glob_covers(h2o_iovec_t a, h2o_iovec_t b, bool ignore_case)
{
    size_t i = 0, j = 0, star_i = SIZE_MAX, star_j = 0;

    while (j != b.len) {
        size_t next_i = i, next_j = j;
        int in_b = next_token(b, &next_j, ignore_case), in_a = -1;
        if (i != a.len)
            in_a = next_token(a, &next_i, ignore_case);
        if (in_a == TOKEN_STAR) {
            star_i = i = next_i;
            star_j = j;
        } else if (in_a >= 0 && token_covers(in_a, in_b)) {
            i = next_i;
            j = next_j;
        } else if (star_i != SIZE_MAX) {
            next_token(b, &star_j, ignore_case);
            i = star_i;
            j = star_j;
        } else {
            return false;
        }
    }
    while (i != a.len && a.base[i] == '*')
        ++i;
    return i == a.len;
}

struct globs {
    h2o_iovec_t entries[2];
    unsigned size;
};

static void add_glob(struct globs *to, const char *literal, size_t len, const char *tail)
{
    size_t tail_len = strlen(tail), made = 0;
    char *glob = h2o_mem_alloc(2 * len + tail_len + 1);
    for (size_t i = 0; i != len; ++i) {
        if (is_wild(literal[i]))
            glob[made++] = '\\';
        glob[made++] = literal[i];
    }
    memcpy(glob + made, tail, tail_len);
    to->entries[to->size++] = h2o_iovec_init(glob, made + tail_len);
}

/* Globs that together take what the pattern takes; for a regular expression, at least that. */
static void to_globs(const struct routing_pattern *self, struct globs *to)
{
    to->size = 0;
    switch (self->kind) {
    case ROUTING_PATTERN_EXACT:
        add_glob(to, self->text.base, self->text.len, "");
        break;
    case ROUTING_PATTERN_PREFIX:
        if (self->text.base[self->text.len - 1] == '/') {
            add_glob(to, self->text.base, self->text.len, "*");
        } else {
            add_glob(to, self->text.base, self->text.len, "");
            add_glob(to, self->text.base, self->text.len, "/*");
        }
        break;
    case ROUTING_PATTERN_REGEX:
        if (self->prefix_len != 0)
            add_glob(to, self->prefix, self->prefix_len, "*");
        else if (self->is_host)
            add_glob(to, "", 0, "*");
        else
            add_glob(to, "/", 1, "*");
        break;
    case ROUTING_PATTERN_ANY:
    case ROUTING_PATTERN_GLOB:
        to->entries[to->size++] = h2o_strdup(NULL, self->text.base, self->text.len);
        break;
    }
}

static bool any_covers(const struct globs *a, h2o_iovec_t glob)
{
    for (unsigned i = 0; i != a->size; ++i)
        if (routing_glob_covers(a->entries[i], glob, false))
            return true;
    return false;
}

bool routing_pattern_covers(const struct routing_pattern *a, const struct routing_pattern *b)
{
    struct globs in_a, in_b;
    bool is_covered = true;

    if (a->kind == ROUTING_PATTERN_ANY)
        return true;
    if (a->kind == b->kind && is_text(a->text, b->text))
        return true;
    if (b->kind == ROUTING_PATTERN_EXACT)
        return routing_pattern_takes(a, b->text);
    if (a->kind == ROUTING_PATTERN_EXACT || a->kind == ROUTING_PATTERN_REGEX)
        return false;
    to_globs(a, &in_a);
    to_globs(b, &in_b);
    for (unsigned i = 0; i != in_b.size; ++i)
        is_covered = is_covered && any_covers(&in_a, in_b.entries[i]);
    for (unsigned i = 0; i != in_a.size; ++i)
        free(in_a.entries[i].base);
    for (unsigned i = 0; i != in_b.size; ++i)
        free(in_b.entries[i].base);
    return is_covered;
}
