#include <string.h>
#include "gateway/base/glob.h"
#include "routing/conditions.h"
#include "routing/pattern.h"

struct routing_conditions {
    const struct routing_match_conf *conf;
    uint32_t *listeners;       /* indexes; as many as conf->listener has */
    h2o_iovec_t *header_names; /* lower case; as many as conf->header has */
    /* as many as conf->header_regex has */
    h2o_iovec_t *regex_names;   /* lower case */
    struct gw_regex ***regexes; /* owned; as many as the values are; NULL where one does not compile */
};

static bool is_text(h2o_iovec_t a, h2o_iovec_t b) { return a.len == b.len && memcmp(a.base, b.base, a.len) == 0; }

/* Until the error is reported; is no listener's index. */
static const uint32_t UNKNOWN_LISTENER = UINT32_MAX;

/* ---- making ---- */

static bool find_listener(const struct routing_match_conf *conf, size_t at, const h2o_iovec_t *listeners,
                          size_t num_listeners, struct gw_errors *errors, uint32_t *index)
{
    h2o_iovec_t name = conf->listener.entries[at];
    *index = UNKNOWN_LISTENER;
    for (size_t i = 0; i != num_listeners; ++i)
        if (is_text(listeners[i], name)) {
            *index = (uint32_t)i;
            return true;
        }
    const char **names = h2o_mem_alloc((num_listeners + 1) * sizeof(*names));
    for (size_t i = 0; i != num_listeners; ++i)
        names[i] = listeners[i].base;
    h2o_iovec_t wanted = h2o_strdup(NULL, name.base, name.len);
    const char *nearest = gw_nearest(wanted.base, names, num_listeners);
    if (nearest != NULL)
        gw_error_at(errors, conf->listener.at[at], "unknown listener \"%s\" (did you mean \"%s\"?)", wanted.base,
                    nearest);
    else
        gw_error_at(errors, conf->listener.at[at], "unknown listener \"%s\"", wanted.base);
    free(names);
    free(wanted.base);
    return false;
}

static bool compile_header_regexes(h2o_mem_pool_t *pool, struct routing_conditions *self, struct gw_errors *errors)
{
    const struct routing_pairs_conf *pairs = &self->conf->header_regex;
    bool is_ok = true;

    self->regex_names = h2o_mem_alloc_pool(pool, (pairs->size + 1) * sizeof(*self->regex_names));
    self->regexes = h2o_mem_alloc_pool(pool, (pairs->size + 1) * sizeof(*self->regexes));
    for (size_t i = 0; i != pairs->size; ++i) {
        const struct gw_texts *values = &pairs->entries[i].values;
        self->regex_names[i] = h2o_strdup(pool, pairs->entries[i].name.base, pairs->entries[i].name.len);
        h2o_strtolower(self->regex_names[i].base, self->regex_names[i].len);
        self->regexes[i] = h2o_mem_alloc_pool(pool, (values->size + 1) * sizeof(**self->regexes));
        for (size_t j = 0; j != values->size; ++j) {
            char why[256];
            self->regexes[i][j] = gw_regex_create(values->entries[j], true, why, sizeof(why));
            if (self->regexes[i][j] == NULL)
                is_ok = gw_error_at(errors, values->at[j], "bad regular expression \"%.*s\": %s",
                                    (int)values->entries[j].len, values->entries[j].base, why);
        }
    }
    return is_ok;
}

void routing_conditions_dispose(struct routing_conditions *self)
{
    for (size_t i = 0; self != NULL && i != self->conf->header_regex.size; ++i)
        for (size_t j = 0; j != self->conf->header_regex.entries[i].values.size; ++j)
            if (self->regexes[i][j] != NULL)
                gw_regex_destroy(self->regexes[i][j]);
}

bool routing_conditions_create(h2o_mem_pool_t *pool, const struct routing_match_conf *conf,
                               const h2o_iovec_t *listeners, size_t num_listeners, struct gw_errors *errors,
                               struct routing_conditions **made)
{
    bool is_ok = true;

    *made = NULL;
    if (conf->listener.size + conf->method.size + conf->header.size + conf->query.size + conf->source_ip.size +
            conf->header_regex.size ==
        0)
        return true;
    struct routing_conditions *self = h2o_mem_alloc_pool(pool, sizeof(*self));
    self->conf = conf;
    self->listeners = h2o_mem_alloc_pool(pool, (conf->listener.size + 1) * sizeof(*self->listeners));
    for (size_t i = 0; i != conf->listener.size; ++i)
        is_ok = find_listener(conf, i, listeners, num_listeners, errors, self->listeners + i) && is_ok;
    self->header_names = h2o_mem_alloc_pool(pool, (conf->header.size + 1) * sizeof(*self->header_names));
    for (size_t i = 0; i != conf->header.size; ++i) {
        h2o_iovec_t name = conf->header.entries[i].name;
        self->header_names[i] = h2o_strdup(pool, name.base, name.len);
        h2o_strtolower(self->header_names[i].base, name.len);
    }
    is_ok = compile_header_regexes(pool, self, errors) && is_ok;
    *made = self;
    return is_ok;
}

/* ---- each condition ---- */

static bool takes_listener(const struct routing_conditions *self, const struct routing_facts *facts)
{
    size_t n = self->conf->listener.size;
    for (size_t i = 0; i != n; ++i)
        if (self->listeners[i] == facts->listener)
            return true;
    return n == 0;
}

static bool takes_method(const struct routing_conditions *self, const struct routing_facts *facts)
{
    const struct gw_texts *methods = &self->conf->method;
    for (size_t i = 0; i != methods->size; ++i)
        if (is_text(methods->entries[i], facts->method))
            return true;
    return methods->size == 0;
}

static bool takes_value(const struct gw_texts *globs, h2o_iovec_t value)
{
    for (size_t i = 0; i != globs->size; ++i)
        if (gw_glob_match_nocase(globs->entries[i], value))
            return true;
    return false;
}

static bool takes_header(const struct routing_conditions *self, size_t at, const struct routing_facts *facts)
{
    h2o_iovec_t name = self->header_names[at];
    for (size_t i = 0; i != facts->num_headers; ++i) {
        const h2o_header_t *header = facts->headers + i;
        if (header->name->len == name.len && h2o_lcstris(header->name->base, header->name->len, name.base, name.len) &&
            takes_value(&self->conf->header.entries[at].values, header->value))
            return true;
    }
    return false;
}

static bool takes_header_regex(const struct routing_conditions *self, size_t at, const struct routing_facts *facts)
{
    h2o_iovec_t name = self->regex_names[at];
    size_t n = self->conf->header_regex.entries[at].values.size;
    for (size_t i = 0; i != facts->num_headers; ++i) {
        const h2o_header_t *header = facts->headers + i;
        if (header->name->len != name.len || !h2o_lcstris(header->name->base, header->name->len, name.base, name.len))
            continue;
        for (size_t j = 0; j != n; ++j)
            if (self->regexes[at][j] != NULL && gw_regex_search(self->regexes[at][j], header->value, NULL))
                return true;
    }
    return false;
}

static bool takes_query(const struct routing_pair_conf *pair, h2o_iovec_t query)
{
    const char *p = query.base, *end = p + query.len;
    while (p != end) {
        const char *next = memchr(p, '&', end - p), *pair_end = next != NULL ? next : end;
        const char *equals = memchr(p, '=', pair_end - p), *key_end = equals != NULL ? equals : pair_end;
        const char *value = equals != NULL ? equals + 1 : pair_end;
        if (pair_end != p && gw_glob_match_nocase(pair->name, h2o_iovec_init(p, key_end - p)) &&
            takes_value(&pair->values, h2o_iovec_init(value, pair_end - value)))
            return true;
        p = next != NULL ? next + 1 : end;
    }
    return false;
}

static bool takes_source(const struct routing_conditions *self, const struct routing_facts *facts)
{
    return self->conf->source_ip.size == 0 || gw_cidrs_contain(&self->conf->source_ip, &facts->peer_ip);
}

bool routing_conditions_hold(const struct routing_conditions *self, const struct routing_facts *facts)
{
    if (!takes_listener(self, facts) || !takes_method(self, facts) || !takes_source(self, facts))
        return false;
    for (size_t i = 0; i != self->conf->header.size; ++i)
        if (!takes_header(self, i, facts))
            return false;
    for (size_t i = 0; i != self->conf->header_regex.size; ++i)
        if (!takes_header_regex(self, i, facts))
            return false;
    for (size_t i = 0; i != self->conf->query.size; ++i)
        if (facts->query.base == NULL || !takes_query(self->conf->query.entries + i, facts->query))
            return false;
    return true;
}

/* ---- covering ---- */

static bool listeners_cover(const struct routing_conditions *a, const struct routing_conditions *b)
{
    if (a->conf->listener.size == 0)
        return true;
    if (b == NULL || b->conf->listener.size == 0)
        return false;
    for (size_t i = 0; i != b->conf->listener.size; ++i) {
        bool is_in = false;
        for (size_t j = 0; j != a->conf->listener.size; ++j)
            is_in = is_in || (a->listeners[j] == b->listeners[i] && a->listeners[j] != UNKNOWN_LISTENER);
        if (!is_in)
            return false;
    }
    return true;
}

static bool methods_cover(const struct gw_texts *a, const struct gw_texts *b)
{
    for (size_t i = 0; i != b->size; ++i) {
        bool is_in = false;
        for (size_t j = 0; j != a->size; ++j)
            is_in = is_in || is_text(a->entries[j], b->entries[i]);
        if (!is_in)
            return false;
    }
    return b->size != 0;
}

static bool values_cover(const struct gw_texts *a, const struct gw_texts *b)
{
    for (size_t i = 0; i != b->size; ++i) {
        bool is_in = false;
        for (size_t j = 0; j != a->size; ++j)
            is_in = is_in || routing_glob_covers(a->entries[j], b->entries[i], true);
        if (!is_in)
            return false;
    }
    return true;
}

/* Each pair that a asks for is implied by one that b asks for. */
static bool pairs_cover(const struct routing_pairs_conf *a, const struct routing_pairs_conf *b, bool names_are_globs)
{
    for (size_t i = 0; i != a->size; ++i) {
        const struct routing_pair_conf *wanted = a->entries + i;
        bool is_implied = false;
        for (size_t j = 0; b != NULL && j != b->size && !is_implied; ++j) {
            const struct routing_pair_conf *given = b->entries + j;
            bool has_name = names_are_globs
                                ? routing_glob_covers(wanted->name, given->name, true)
                                : wanted->name.len == given->name.len &&
                                      strncasecmp(wanted->name.base, given->name.base, given->name.len) == 0;
            is_implied = has_name && values_cover(&wanted->values, &given->values);
        }
        if (!is_implied)
            return false;
    }
    return true;
}

/* As far as can be told: the same expressions, or more of them. */
static bool regexes_cover(const struct routing_pairs_conf *a, const struct routing_pairs_conf *b)
{
    for (size_t i = 0; i != a->size; ++i) {
        bool is_implied = false;
        for (size_t j = 0; j != b->size && !is_implied; ++j)
            is_implied = a->entries[i].name.len == b->entries[j].name.len &&
                         strncasecmp(a->entries[i].name.base, b->entries[j].name.base, b->entries[j].name.len) == 0 &&
                         methods_cover(&a->entries[i].values, &b->entries[j].values);
        if (!is_implied)
            return false;
    }
    return true;
}

static bool sources_cover(const struct gw_cidrs *a, const struct gw_cidrs *b)
{
    for (size_t i = 0; i != b->size; ++i) {
        bool is_in = false;
        for (size_t j = 0; j != a->size; ++j)
            is_in = is_in ||
                    (a->entries[j].bits <= b->entries[i].bits && gw_cidr_contains(a->entries + j, &b->entries[i].ip));
        if (!is_in)
            return false;
    }
    return b->size != 0;
}

bool routing_conditions_cover(const struct routing_conditions *a, const struct routing_conditions *b)
{
    static const struct routing_match_conf none;
    if (a == NULL)
        return true;
    const struct routing_match_conf *in_b = b != NULL ? b->conf : &none;
    return listeners_cover(a, b) && (a->conf->method.size == 0 || methods_cover(&a->conf->method, &in_b->method)) &&
           (a->conf->source_ip.size == 0 || sources_cover(&a->conf->source_ip, &in_b->source_ip)) &&
           regexes_cover(&a->conf->header_regex, &in_b->header_regex) &&
           pairs_cover(&a->conf->header, &in_b->header, false) && pairs_cover(&a->conf->query, &in_b->query, true);
}

/* ---- explaining ---- */

void routing_list_texts(const struct gw_texts *texts, char *buf, size_t len)
{
    enum { MAX_SHOWN = 3 };
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; i != texts->size && used < len; ++i) {
        if (i == MAX_SHOWN && texts->size > MAX_SHOWN + 1) {
            snprintf(buf + used, len - used, " and %zu more", texts->size - i);
            return;
        }
        int n = snprintf(buf + used, len - used, "%s\"%.*s\"",
                         i == 0                 ? ""
                         : i + 1 == texts->size ? " or "
                                                : ", ",
                         (int)texts->entries[i].len, texts->entries[i].base);
        used += n > 0 ? (size_t)n : 0;
    }
}

static void explain_header(h2o_iovec_t name, const struct routing_facts *facts, char *why, size_t why_len,
                           const char *list)
{
    for (size_t i = 0; i != facts->num_headers; ++i) {
        const h2o_header_t *header = facts->headers + i;
        if (header->name->len == name.len && h2o_lcstris(header->name->base, header->name->len, name.base, name.len)) {
            snprintf(why, why_len, "header %s \"%.*s\" does not match %s", name.base, (int)header->value.len,
                     header->value.base, list);
            return;
        }
    }
    snprintf(why, why_len, "there is no header %s (expected %s)", name.base, list);
}

void routing_conditions_explain(const struct routing_conditions *self, const struct routing_facts *facts, char *why,
                                size_t why_len, const struct gw_node **at)
{
    const struct routing_match_conf *conf = self->conf;
    char list[256];

    if (!takes_listener(self, facts)) {
        *at = gw_setting_at(conf->at, "listener");
        routing_list_texts(&conf->listener, list, sizeof(list));
        snprintf(why, why_len, "the listener is not %s", list);
        return;
    }
    if (!takes_method(self, facts)) {
        *at = gw_setting_at(conf->at, "method");
        routing_list_texts(&conf->method, list, sizeof(list));
        snprintf(why, why_len, "method \"%.*s\" is not %s", (int)facts->method.len, facts->method.base, list);
        return;
    }
    if (!takes_source(self, facts)) {
        char ip[64];
        gw_ip_format(&facts->peer_ip, ip);
        *at = gw_setting_at(conf->at, "source_ip");
        snprintf(why, why_len, "peer %s is in none of the networks of source_ip", ip);
        return;
    }
    for (size_t i = 0; i != conf->header.size; ++i)
        if (!takes_header(self, i, facts)) {
            *at = conf->header.entries[i].at;
            routing_list_texts(&conf->header.entries[i].values, list, sizeof(list));
            explain_header(self->header_names[i], facts, why, why_len, list);
            return;
        }
    for (size_t i = 0; i != conf->header_regex.size; ++i)
        if (!takes_header_regex(self, i, facts)) {
            *at = conf->header_regex.entries[i].at;
            routing_list_texts(&conf->header_regex.entries[i].values, list, sizeof(list));
            explain_header(self->regex_names[i], facts, why, why_len, list);
            return;
        }
    for (size_t i = 0; i != conf->query.size; ++i)
        if (facts->query.base == NULL || !takes_query(conf->query.entries + i, facts->query)) {
            *at = conf->query.entries[i].at;
            routing_list_texts(&conf->query.entries[i].values, list, sizeof(list));
            snprintf(why, why_len, "query \"%.*s\" has no %.*s that matches %s", (int)facts->query.len,
                     facts->query.base != NULL ? facts->query.base : "", (int)conf->query.entries[i].name.len,
                     conf->query.entries[i].name.base, list);
            return;
        }
    snprintf(why, why_len, "no reason");
}
