#include <string.h>
#include "routing/header_rules.h"

bool routing_is_token(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i) {
        unsigned char c = text.base[i];
        if (c <= 0x20 || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
            return false;
    }
    return text.len != 0;
}

bool routing_is_field_value(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i) {
        unsigned char c = text.base[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return text.len == 0 || (strchr(" \t", text.base[0]) == NULL && strchr(" \t", text.base[text.len - 1]) == NULL);
}

/* ---- what the configuration may say ---- */

static bool check_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    /* RFC 9110 7.6.1 and 8.6; weir writes these itself, a rule could only break the framing */
    static const char *const refused[] = {"connection", "content-length", "keep-alive",        "proxy-connection",
                                          "te",         "trailer",        "transfer-encoding", "upgrade",
                                          NULL};
    if (!routing_is_token(name))
        return gw_error_at(load->errors, at, "\"%s\" is not a header name", name.len == 0 ? "" : name.base);
    if (strcasecmp(name.base, "host") == 0)
        return gw_error_at(load->errors, at, "Host cannot be changed by header rules (use \"rewrite: {host: ...}\")");
    for (size_t i = 0; refused[i] != NULL; ++i)
        if (strcasecmp(name.base, refused[i]) == 0)
            return gw_error_at(load->errors, at, "\"%s\" cannot be changed by header rules: weir writes it itself",
                               name.base);
    return true;
}

static bool check_pairs(struct gw_loader *load, const struct gw_pairs *pairs)
{
    bool is_ok = true;
    for (size_t i = 0; i != pairs->size; ++i) {
        const struct gw_pair *pair = pairs->entries + i;
        is_ok = check_name(load, pair->at, pair->name) && is_ok;
        if (!routing_is_field_value(pair->value))
            is_ok = gw_error_at(load->errors, pair->at,
                                "the value of header \"%s\" has a control character or a space at its end",
                                pair->name.base);
    }
    return is_ok;
}

static bool is_name(h2o_iovec_t a, h2o_iovec_t b) { return a.len == b.len && strncasecmp(a.base, b.base, a.len) == 0; }

bool routing_header_rules_check(struct gw_loader *load, struct routing_header_rules_conf *conf)
{
    bool is_ok = check_pairs(load, &conf->set);
    is_ok = check_pairs(load, &conf->add) && is_ok;
    for (size_t i = 0; i != conf->remove.size; ++i)
        is_ok = check_name(load, conf->remove.at[i], conf->remove.entries[i]) && is_ok;
    for (size_t i = 0; i != conf->set.size; ++i)
        for (size_t j = 0; j != i; ++j)
            if (is_name(conf->set.entries[i].name, conf->set.entries[j].name))
                is_ok = gw_error_at(load->errors, conf->set.entries[i].at, "header \"%s\" is set twice",
                                    conf->set.entries[i].name.base);
    return is_ok;
}

/* ---- compiled ---- */

struct rule {
    h2o_iovec_t *name; /* of a token, or lower_name */
    h2o_iovec_t lower_name, value;
    bool deletes, writes;
};
struct routing_header_rules {
    size_t size;
    struct rule rules[]; /* in order of work: remove, set, add */
};

static void take_rule(struct routing_header_rules *self, h2o_iovec_t name, h2o_iovec_t value, bool deletes, bool writes)
{
    struct rule *rule = self->rules + self->size++;
    char *lower = h2o_mem_alloc(name.len);
    for (size_t i = 0; i != name.len; ++i)
        lower[i] = h2o_tolower(name.base[i]);
    rule->lower_name = h2o_iovec_init(lower, name.len);
    const h2o_token_t *token = h2o_lookup_token(lower, name.len);
    rule->name = token != NULL ? (h2o_iovec_t *)&token->buf : &rule->lower_name;
    rule->value = value.base != NULL ? value : h2o_iovec_init(H2O_STRLIT(""));
    rule->deletes = deletes;
    rule->writes = writes;
}

struct routing_header_rules *routing_header_rules_create(const struct routing_header_rules_conf *conf)
{
    size_t size = conf->remove.size + conf->set.size + conf->add.size;
    if (size == 0)
        return NULL;
    struct routing_header_rules *self = h2o_mem_alloc(sizeof(*self) + size * sizeof(self->rules[0]));
    self->size = 0;
    for (size_t i = 0; i != conf->remove.size; ++i)
        take_rule(self, conf->remove.entries[i], (h2o_iovec_t){NULL, 0}, true, false);
    for (size_t i = 0; i != conf->set.size; ++i)
        take_rule(self, conf->set.entries[i].name, conf->set.entries[i].value, true, true);
    for (size_t i = 0; i != conf->add.size; ++i)
        take_rule(self, conf->add.entries[i].name, conf->add.entries[i].value, false, true);
    return self;
}

void routing_header_rules_destroy(struct routing_header_rules *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i != self->size; ++i)
        free(self->rules[i].lower_name.base);
    free(self);
}

/* A list may hold a known name that was not interned, so names that differ by pointer are compared by text. */
static bool has_name(const h2o_header_t *header, const struct rule *rule)
{
    return header->name == rule->name ||
           (header->name->len == rule->name->len &&
            h2o_lcstris(header->name->base, header->name->len, rule->name->base, rule->name->len));
}

static void delete_all(const struct rule *rule, h2o_headers_t *headers)
{
    size_t kept = 0;
    for (size_t i = 0; i != headers->size; ++i)
        if (!has_name(headers->entries + i, rule))
            headers->entries[kept++] = headers->entries[i];
    headers->size = kept;
}

bool routing_header_rules_name(const struct routing_header_rules *self, h2o_iovec_t name)
{
    for (size_t i = 0; i != self->size; ++i)
        if (is_name(name, *self->rules[i].name))
            return true;
    return false;
}

void routing_header_rules_apply(const struct routing_header_rules *self, h2o_mem_pool_t *pool, h2o_headers_t *headers)
{
    for (size_t i = 0; i != self->size; ++i) {
        const struct rule *rule = self->rules + i;
        if (rule->deletes)
            delete_all(rule, headers);
        if (rule->writes) {
            h2o_vector_reserve(pool, headers, headers->size + 1);
            headers->entries[headers->size++] = (h2o_header_t){rule->name, NULL, rule->value};
        }
    }
}
