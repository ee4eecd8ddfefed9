#include <string.h>
#include <h2o/string_.h>
#include "routing/path.h"
#include "routing/rewrite.h"

/* Longest path plus query that a rewrite may make; captures can repeat the path many times over. */
enum { MAX_TARGET = 65536 };

struct part { /* a literal (group -1) or a group */
    h2o_iovec_t text;
    int group;
};
struct routing_rewrite {
    struct gw_regex *regex; /* NULL: only the host changes */
    struct part *parts;
    size_t num_parts;
    bool has_query; /* the replacement has its own '?' */
};

static void add_part(struct routing_rewrite *self, h2o_iovec_t text, int group)
{
    if (group < 0 && text.len == 0)
        return;
    self->parts = h2o_mem_realloc(self->parts, (self->num_parts + 1) * sizeof(*self->parts));
    self->parts[self->num_parts++] = (struct part){text, group};
}

static bool compile_replacement(struct routing_rewrite *self, const struct gw_node *at, h2o_iovec_t to,
                                struct gw_errors *errors)
{
    unsigned num_groups = gw_regex_num_groups(self->regex);
    size_t start = 0;

    for (size_t i = 0; i != to.len; ++i) {
        unsigned char c = to.base[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return gw_error_at(errors, at,
                               "control, space, \"#\" and non-ASCII bytes of \"to\" must be percent-encoded");
        if (c == '?')
            self->has_query = true;
        if (c != '$' || i + 1 == to.len)
            continue;
        char next = to.base[i + 1];
        if (next == '$') {
            add_part(self, h2o_iovec_init(to.base + start, i + 1 - start), -1);
        } else if (next >= '0' && next <= '9') {
            if ((unsigned)(next - '0') > num_groups)
                return gw_error_at(errors, at, "\"to\" uses $%c, but \"path\" has %u group%s", next, num_groups,
                                   num_groups == 1 ? "" : "s");
            add_part(self, h2o_iovec_init(to.base + start, i - start), -1);
            add_part(self, (h2o_iovec_t){NULL, 0}, next - '0');
        } else {
            continue;
        }
        start = i + 2;
        ++i;
    }
    add_part(self, h2o_iovec_init(to.base + start, to.len - start), -1);
    return true;
}

struct routing_rewrite *routing_rewrite_create(const struct routing_rewrite_conf *conf, struct gw_errors *errors)
{
    struct routing_rewrite *self = h2o_mem_alloc(sizeof(*self));
    char why[256];

    *self = (struct routing_rewrite){NULL};
    if (conf->path.base == NULL)
        return self;
    if ((self->regex = gw_regex_create(conf->path, false, why, sizeof(why))) == NULL) {
        gw_error_at(errors, gw_setting_at(conf->at, "path"), "bad regular expression \"%.*s\": %s", (int)conf->path.len,
                    conf->path.base, why);
        routing_rewrite_destroy(self);
        return NULL;
    }
    if (!compile_replacement(self, gw_setting_at(conf->at, "to"), conf->to, errors)) {
        routing_rewrite_destroy(self);
        return NULL;
    }
    return self;
}

bool routing_rewrite_check(struct gw_loader *load, const struct routing_rewrite_conf *conf)
{
    struct routing_rewrite *made = routing_rewrite_create(conf, load->errors);
    routing_rewrite_destroy(made);
    return made != NULL;
}

void routing_rewrite_destroy(struct routing_rewrite *self)
{
    if (self == NULL)
        return;
    if (self->regex != NULL)
        gw_regex_destroy(self->regex);
    free(self->parts);
    free(self);
}

static void put(char **p, const char *text, size_t len)
{
    if (len != 0)
        memcpy(*p, text, len);
    *p += len;
}

/* What is sent must be a path again: the pieces may have met to "%" without digits, or to "..". */
static bool is_valid_target(h2o_mem_pool_t *pool, h2o_iovec_t path, h2o_iovec_t query, h2o_iovec_t *canonical)
{
    for (size_t i = 0; i != query.len; ++i)
        if ((unsigned char)query.base[i] <= 0x20 || (unsigned char)query.base[i] >= 0x7f || query.base[i] == '#')
            return false;
    return routing_path_canonical(pool, path, canonical) == ROUTING_PATH_OK;
}

enum routing_rewrite_result routing_rewrite_apply(const struct routing_rewrite *self, h2o_mem_pool_t *pool,
                                                  h2o_iovec_t path, h2o_iovec_t query, h2o_iovec_t *target)
{
    h2o_iovec_t groups[GW_REGEX_MAX_GROUPS];
    if (self->regex == NULL || !gw_regex_search(self->regex, path, groups))
        return ROUTING_REWRITE_UNCHANGED;

    size_t before = groups[0].base - path.base, after = path.len - before - groups[0].len, len = before + after;
    for (size_t i = 0; i != self->num_parts; ++i)
        len += self->parts[i].group < 0 ? self->parts[i].text.len : groups[self->parts[i].group].len;
    if (len > MAX_TARGET)
        return ROUTING_REWRITE_FAILED;

    char *made = h2o_mem_alloc_pool(pool, len + 1), *p = made;
    put(&p, path.base, before);
    for (size_t i = 0; i != self->num_parts; ++i) {
        h2o_iovec_t text = self->parts[i].group < 0 ? self->parts[i].text : groups[self->parts[i].group];
        put(&p, text.base, text.len);
    }
    put(&p, path.base + before + groups[0].len, after);

    h2o_iovec_t new_path = {made, len}, canonical;
    if (self->has_query) {
        char *mark = memchr(made, '?', len);
        new_path.len = mark - made;
        query = h2o_iovec_init(mark + 1, made + len - mark - 1);
    }
    if (!is_valid_target(pool, new_path, query, &canonical))
        return ROUTING_REWRITE_FAILED;
    *target = query.base == NULL ? canonical : h2o_concat(pool, canonical, h2o_iovec_init(H2O_STRLIT("?")), query);
    return ROUTING_REWRITE_CHANGED;
}
