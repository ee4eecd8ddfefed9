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
struct replacement {
    struct gw_regex *regex; /* NULL: nothing is replaced */
    struct part *parts;
    size_t num_parts;
};
struct routing_rewrite {
    struct replacement url, host;
    h2o_iovec_t fixed_host; /* base NULL: none */
    bool has_query;         /* the replacement has its own '?' */
    bool takes_query;       /* the expression sees the query too */
};

static void add_part(struct replacement *self, h2o_iovec_t text, int group)
{
    if (group < 0 && text.len == 0)
        return;
    self->parts = h2o_mem_realloc(self->parts, (self->num_parts + 1) * sizeof(*self->parts));
    self->parts[self->num_parts++] = (struct part){text, group};
}

/* setting and of: names for messages. */
static bool compile_replacement(struct replacement *self, const struct gw_node *at, h2o_iovec_t to, const char *setting,
                                const char *of, struct gw_errors *errors)
{
    unsigned num_groups = gw_regex_num_groups(self->regex);
    size_t start = 0;

    for (size_t i = 0; i != to.len; ++i) {
        unsigned char c = to.base[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return gw_error_at(errors, at,
                               "control, space, \"#\" and non-ASCII bytes of \"%s\" must be percent-encoded", setting);
        if (c != '$' || i + 1 == to.len)
            continue;
        char next = to.base[i + 1];
        if (next == '$') {
            add_part(self, h2o_iovec_init(to.base + start, i + 1 - start), -1);
        } else if (next >= '0' && next <= '9') {
            if ((unsigned)(next - '0') > num_groups)
                return gw_error_at(errors, at, "\"%s\" uses $%c, but \"%s\" has %u group%s", setting, next, of,
                                   num_groups, num_groups == 1 ? "" : "s");
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

static bool compile(struct replacement *self, const struct gw_node *section, const char *of, h2o_iovec_t regex,
                    bool ignore_case, const char *setting, h2o_iovec_t to, struct gw_errors *errors)
{
    char why[256];
    if ((self->regex = gw_regex_create(regex, ignore_case, why, sizeof(why))) == NULL)
        return gw_error_at(errors, gw_setting_at(section, of), "bad regular expression \"%.*s\": %s", (int)regex.len,
                           regex.base, why);
    return compile_replacement(self, gw_setting_at(section, setting), to, setting, of, errors);
}

struct routing_rewrite *routing_rewrite_create(const struct routing_rewrite_conf *conf, struct gw_errors *errors)
{
    struct routing_rewrite *self = h2o_mem_alloc(sizeof(*self));
    bool is_ok = true;

    *self = (struct routing_rewrite){.takes_query = conf->url.base != NULL};
    if (conf->path.base != NULL || conf->url.base != NULL) {
        is_ok = compile(&self->url, conf->at, self->takes_query ? "url" : "path",
                        self->takes_query ? conf->url : conf->path, false, "to", conf->to, errors);
        self->has_query = conf->to.len != 0 && memchr(conf->to.base, '?', conf->to.len) != NULL;
    }
    if (conf->host_regex.base != NULL)
        is_ok &= compile(&self->host, conf->at, "host_regex", conf->host_regex, true, "host", conf->host, errors);
    else
        self->fixed_host = conf->host;
    if (!is_ok) {
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
    if (self->url.regex != NULL)
        gw_regex_destroy(self->url.regex);
    if (self->host.regex != NULL)
        gw_regex_destroy(self->host.regex);
    free(self->url.parts);
    free(self->host.parts);
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

/* The first match replaced. */
static enum routing_rewrite_result replace(const struct replacement *self, h2o_mem_pool_t *pool, h2o_iovec_t text,
                                           h2o_iovec_t *made)
{
    h2o_iovec_t groups[GW_REGEX_MAX_GROUPS];
    if (self->regex == NULL || !gw_regex_search(self->regex, text, groups))
        return ROUTING_REWRITE_UNCHANGED;

    size_t before = groups[0].base - text.base, after = text.len - before - groups[0].len, len = before + after;
    for (size_t i = 0; i != self->num_parts; ++i)
        len += self->parts[i].group < 0 ? self->parts[i].text.len : groups[self->parts[i].group].len;
    if (len > MAX_TARGET)
        return ROUTING_REWRITE_FAILED;

    *made = h2o_iovec_init(h2o_mem_alloc_pool(pool, len + 1), len);
    char *p = made->base;
    put(&p, text.base, before);
    for (size_t i = 0; i != self->num_parts; ++i) {
        h2o_iovec_t part = self->parts[i].group < 0 ? self->parts[i].text : groups[self->parts[i].group];
        put(&p, part.base, part.len);
    }
    put(&p, text.base + before + groups[0].len, after);
    return ROUTING_REWRITE_CHANGED;
}

enum routing_rewrite_result routing_rewrite_apply(const struct routing_rewrite *self, h2o_mem_pool_t *pool,
                                                  h2o_iovec_t path, h2o_iovec_t query, h2o_iovec_t *target)
{
    h2o_iovec_t made, new_path, canonical;
    if (self->takes_query && query.base != NULL) {
        path = h2o_concat(pool, path, h2o_iovec_init(H2O_STRLIT("?")), query);
        query = h2o_iovec_init(NULL, 0);
    }
    enum routing_rewrite_result result = replace(&self->url, pool, path, &made);
    if (result != ROUTING_REWRITE_CHANGED)
        return result;

    new_path = made;
    if (self->has_query || self->takes_query) {
        char *mark = memchr(made.base, '?', made.len);
        if (mark != NULL) {
            new_path.len = mark - made.base;
            query = h2o_iovec_init(mark + 1, made.base + made.len - mark - 1);
        }
    }
    if (!is_valid_target(pool, new_path, query, &canonical))
        return ROUTING_REWRITE_FAILED;
    *target = query.base == NULL ? canonical : h2o_concat(pool, canonical, h2o_iovec_init(H2O_STRLIT("?")), query);
    return ROUTING_REWRITE_CHANGED;
}

static bool is_host(h2o_iovec_t host)
{
    for (size_t i = 0; i != host.len; ++i) {
        char c = host.base[i];
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || memchr("-._~[]:", c, 7) != NULL))
            return false;
    }
    return host.len != 0;
}

enum routing_rewrite_result routing_rewrite_host(const struct routing_rewrite *self, h2o_mem_pool_t *pool,
                                                 h2o_iovec_t host, h2o_iovec_t *made)
{
    if (self->fixed_host.base != NULL) {
        *made = self->fixed_host;
        return ROUTING_REWRITE_CHANGED;
    }
    enum routing_rewrite_result result = replace(&self->host, pool, host, made);
    return result == ROUTING_REWRITE_CHANGED && !is_host(*made) ? ROUTING_REWRITE_FAILED : result;
}
