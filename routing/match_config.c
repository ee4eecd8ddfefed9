/* The settings table of `match`: the conditions of a route. */
#include <string.h>
#include "gateway/base/json.h"
#include "routing/header_rules.h"
#include "routing/path.h"
#include "routing/route_config.h"

static bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); }

static int hex_value(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

bool routing_is_unreserved(int c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

static bool ends_in_lone_backslash(h2o_iovec_t text)
{
    size_t n = 0;
    while (n < text.len && text.base[text.len - 1 - n] == '\\')
        ++n;
    return n % 2 == 1;
}

static bool is_host_byte(char c) { return routing_is_unreserved((unsigned char)c) || strchr("*?\\[]:", c) != NULL; }

bool routing_check_host_glob(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t host)
{
    if (host.len == 0)
        return gw_error_at(load->errors, at, "a host pattern must not be empty (\"*\" takes every host)");
    for (size_t i = 0; i != host.len; ++i)
        if (host.base[i] == '\0' || !is_host_byte(host.base[i]))
            return gw_error_at(load->errors, at,
                               "\"%s\" is not a host pattern (expected a name like \"*.example.com\")", host.base);
    if (ends_in_lone_backslash(host))
        return gw_error_at(load->errors, at, "host pattern \"%s\" ends in a lone \"\\\"", host.base);
    if (memchr(host.base, ':', host.len) != NULL && host.base[0] != '[')
        return gw_error_at(load->errors, at, "host pattern \"%s\" has a port (hosts are compared without it)",
                           host.base);
    if (host.base[0] == '[' && host.base[host.len - 1] != ']')
        return gw_error_at(load->errors, at, "host pattern \"%s\" has a port (hosts are compared without it)",
                           host.base);
    if (host.base[host.len - 1] == '.')
        return gw_error_at(load->errors, at, "host pattern \"%s\" ends in a dot (hosts are compared without it)",
                           host.base);
    return true;
}

static bool never_matches(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path, const char *why)
{
    return gw_error_at(load->errors, at, "path \"%s\" never matches: %s", path.base, why);
}

/* Paths are matched in canonical form, so a pattern with other spellings of it would wait for ever. */
static bool check_path_bytes(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path)
{
    for (size_t i = 0; i != path.len; ++i) {
        unsigned char c = path.base[i];
        if (c <= 0x20 || c == '#' || c >= 0x7f)
            return never_matches(load, at, path,
                                 "control, space, \"#\" and non-ASCII bytes are percent-encoded in paths");
        if (c != '%')
            continue;
        if (i + 2 >= path.len || !is_hex(path.base[i + 1]) || !is_hex(path.base[i + 2]))
            return never_matches(load, at, path, "\"%\" must be followed by two hex digits");
        if (path.base[i + 1] >= 'a' || path.base[i + 2] >= 'a')
            return never_matches(load, at, path, "percent-encoding has upper-case digits in the canonical path");
        if (routing_is_unreserved(hex_value(path.base[i + 1]) * 16 + hex_value(path.base[i + 2])))
            return never_matches(load, at, path,
                                 "percent-encoded letters, digits and -._~ are decoded before matching");
    }
    return true;
}

static bool has_dot_segment(h2o_iovec_t path)
{
    for (size_t i = 0; i + 1 < path.len; ++i) {
        if (path.base[i] != '/' || path.base[i + 1] != '.')
            continue;
        size_t end = i + 2;
        if (end < path.len && path.base[end] == '.')
            ++end;
        if (end == path.len || path.base[end] == '/')
            return true;
    }
    return false;
}

static bool check_path_glob(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path)
{
    if (path.len == 0 || (path.base[0] != '/' && path.base[0] != '*' && path.base[0] != '?'))
        return gw_error_at(load->errors, at, "path \"%s\" never matches: it must start with \"/\" or a wildcard",
                           path.len == 0 ? "" : path.base);
    if (ends_in_lone_backslash(path))
        return gw_error_at(load->errors, at, "path \"%s\" ends in a lone \"\\\"", path.base);
    if (has_dot_segment(path))
        return never_matches(load, at, path, "\".\" and \"..\" segments are removed before matching");
    return check_path_bytes(load, at, path);
}

bool routing_check_path(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path)
{
    if (path.len == 0 || path.base[0] != '/')
        return gw_error_at(load->errors, at, "path \"%s\" never matches: it must start with \"/\"",
                           path.len == 0 ? "" : path.base);
    if (has_dot_segment(path))
        return never_matches(load, at, path, "\".\" and \"..\" segments are removed before matching");
    return check_path_bytes(load, at, path);
}

bool routing_check_regex(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t pattern)
{
    char why[256];
    struct gw_regex *regex = gw_regex_create(pattern, false, why, sizeof(why));
    if (regex == NULL)
        return gw_error_at(load->errors, at, "bad regular expression \"%s\": %s", pattern.base, why);
    gw_regex_destroy(regex);
    return true;
}

static bool check_method(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", NULL};
    if (!routing_is_token(method))
        return gw_error_at(load->errors, at, "\"%s\" is not a method (expected a word like GET)",
                           method.len == 0 ? "" : method.base);
    for (size_t i = 0; known[i] != NULL; ++i)
        if (strcasecmp(known[i], method.base) == 0 && strcmp(known[i], method.base) != 0)
            gw_warn_at(load->errors, at, "method \"%s\" is not \"%s\": methods are case-sensitive", method.base,
                       known[i]);
    return true;
}

static bool check_header_condition(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    if (!routing_is_token(name))
        return gw_error_at(load->errors, at, "\"%s\" is not a header name", name.len == 0 ? "" : name.base);
    if (strcasecmp(name.base, "host") == 0)
        return gw_error_at(load->errors, at, "the Host header is matched by \"host\", not by \"header\"");
    return true;
}

static bool check_glob_value(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t value)
{
    if (ends_in_lone_backslash(value))
        return gw_error_at(load->errors, at, "pattern \"%s\" ends in a lone \"\\\"", value.base);
    return true;
}

static bool read_pair_values(struct gw_loader *load, const struct gw_setting *setting, const struct gw_node *value,
                             struct routing_pair_conf *pair)
{
    bool is_regex = strcmp(setting->name, "header_regex") == 0;
    bool is_list = value->kind == GW_NODE_LIST;
    size_t n = is_list ? value->size : 1;
    bool is_ok = true;
    if (value->kind == GW_NODE_MAP)
        return gw_error_at(load->errors, value, "%s is a map (expected a pattern or a list of patterns)",
                           pair->name.base);
    if (n == 0 || gw_node_is_null(value))
        return gw_error_at(load->errors, value, "%s has no pattern (\"*\" takes every value)", pair->name.base);
    pair->values.entries = h2o_mem_alloc_pool(load->pool, n * sizeof(*pair->values.entries));
    pair->values.at = h2o_mem_alloc_pool(load->pool, n * sizeof(*pair->values.at));
    for (size_t i = 0; i != n; ++i) {
        const struct gw_node *entry = is_list ? value->entries[i] : value;
        if (entry->is_broken || entry->kind != GW_NODE_SCALAR) {
            is_ok = gw_error_at(load->errors, entry, "a pattern of %s is no text", pair->name.base);
            continue;
        }
        is_ok = (is_regex ? routing_check_regex : check_glob_value)(load, entry, entry->text) && is_ok;
        pair->values.at[pair->values.size] = entry;
        pair->values.entries[pair->values.size++] = entry->text;
    }
    return is_ok;
}

static bool read_pairs_map(struct gw_loader *load, const struct gw_setting *setting, const struct gw_node *value,
                           struct routing_pairs_conf *pairs)
{
    struct routing_pair_conf *entries;
    bool is_ok = true;

    if (value->kind != GW_NODE_MAP)
        return gw_error_at(load->errors, value, "%s is no map (expected names and patterns: {NAME: \"PATTERN\"})",
                           setting->name);
    entries = h2o_mem_alloc_pool(load->pool, (pairs->size + value->size + 1) * sizeof(*entries));
    memset(entries, 0, (pairs->size + value->size + 1) * sizeof(*entries));
    if (pairs->size != 0)
        memcpy(entries, pairs->entries, pairs->size * sizeof(*entries));
    pairs->entries = entries;
    for (size_t i = 0; i != value->size; ++i) {
        struct routing_pair_conf *pair = pairs->entries + pairs->size++;
        pair->name = value->keys[i]->text;
        pair->at = value->keys[i];
        if (value->keys[i]->is_broken) {
            is_ok = false;
            continue;
        }
        if (setting->valid != NULL)
            is_ok = setting->valid(load, pair->at, pair->name) && is_ok;
        is_ok = read_pair_values(load, setting, value->entries[i], pair) && is_ok;
    }
    return is_ok;
}

/* name: pattern, or name: [patterns], or a list of such maps; the settings table has no type for that. */
static bool read_pairs(struct gw_loader *load, const struct gw_setting *setting, const struct gw_node *value,
                       void *field)
{
    struct routing_pairs_conf *pairs = field;
    bool is_ok = true;

    *pairs = (struct routing_pairs_conf){NULL};
    if (value == NULL || gw_node_is_null(value))
        return true;
    if (value->kind == GW_NODE_LIST) { /* several maps: all must hold, so that a name may come twice */
        for (size_t i = 0; i != value->size; ++i)
            is_ok = read_pairs_map(load, setting, value->entries[i], pairs) && is_ok;
        return is_ok;
    }
    return read_pairs_map(load, setting, value, pairs);
}

static bool has_name_twice(const struct routing_pairs_conf *pairs)
{
    for (size_t i = 0; i != pairs->size; ++i)
        for (size_t j = 0; j != i; ++j)
            if (h2o_memis(pairs->entries[i].name.base, pairs->entries[i].name.len, pairs->entries[j].name.base,
                          pairs->entries[j].name.len))
                return true;
    return false;
}

static void print_pairs(struct gw_json *json, const struct gw_setting *setting, const void *field)
{
    const struct routing_pairs_conf *pairs = field;
    bool is_list = has_name_twice(pairs);

    if (is_list)
        gw_json_array(json);
    gw_json_object(json);
    for (size_t i = 0; i != pairs->size; ++i) {
        if (is_list && i != 0) {
            gw_json_object_end(json);
            gw_json_object(json);
        }
        gw_json_key_text(json, pairs->entries[i].name);
        gw_json_array(json);
        for (size_t j = 0; j != pairs->entries[i].values.size; ++j)
            gw_json_text(json, pairs->entries[i].values.entries[j]);
        gw_json_array_end(json);
    }
    gw_json_object_end(json);
    if (is_list)
        gw_json_array_end(json);
}

#define PAIRS_MAP_SCHEMA                                                                                               \
    "{\"type\":\"object\",\"additionalProperties\":{\"oneOf\":[{\"type\":[\"string\",\"number\",\"boolean\"]},"        \
    "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":[\"string\",\"number\",\"boolean\"]}}]}}"
#define PAIRS_SCHEMA                                                                                                   \
    "{\"oneOf\":[" PAIRS_MAP_SCHEMA ",{\"type\":\"array\",\"minItems\":1,\"items\":" PAIRS_MAP_SCHEMA "}]}"

/* An empty list would read as "none" and mean "all". */
static bool check_match(struct gw_loader *load, void *conf)
{
    const struct routing_match_conf *match = conf;
    bool is_ok = true;

    if (match->at == NULL || match->at->kind != GW_NODE_MAP)
        return true;
    for (size_t i = 0; i != match->at->size; ++i) {
        const struct gw_node *value = match->at->entries[i];
        if (value->kind == GW_NODE_LIST && value->size == 0)
            is_ok = gw_error_at(load->errors, value, "%s is an empty list (left out, it takes every request)",
                                match->at->keys[i]->text.base);
    }
    return is_ok;
}

#define AT(field) offsetof(struct routing_match_conf, field)
static const struct gw_setting match_settings[] = {
    {"listener", GW_TEXTS, AT(listener), "Names of the listeners whose requests the route takes."},
    {"host", GW_TEXTS, AT(host),
     "Host globs, compared without port and case: `*` is any run of characters, `?` exactly one.",
     .valid = routing_check_host_glob},
    {"host_regex", GW_TEXTS, AT(host_regex),
     "Regular expressions (PCRE2) searched anywhere in the host, ignoring case; a host that `host` takes will do too.",
     .valid = routing_check_regex},
    {"path", GW_TEXTS, AT(path), "Globs on the canonical path, case-sensitive; `*` also crosses `/`.",
     .valid = check_path_glob},
    {"path_prefix", GW_TEXTS, AT(path_prefix),
     "Path prefixes by whole segments: `/a` takes `/a` and `/a/b`, not `/ab`.", .valid = routing_check_path},
    {"path_exact", GW_TEXTS, AT(path_exact), "Canonical paths that must be equal, byte for byte.",
     .valid = routing_check_path},
    {"path_regex", GW_TEXTS, AT(path_regex),
     "Regular expressions (PCRE2) searched anywhere in the canonical path; anchor them with `^` and `$`.",
     .valid = routing_check_regex},
    {"method", GW_TEXTS, AT(method), "Request methods, case-sensitive.", .valid = check_method},
    {"header", GW_CUSTOM, AT(header),
     "Globs by header name: every name must have a header line that one of its globs takes, ignoring case.",
     .valid = check_header_condition, .read = read_pairs, .print = print_pairs, .schema_json = PAIRS_SCHEMA},
    {"header_regex", GW_CUSTOM, AT(header_regex),
     "Regular expressions (PCRE2) by header name, searched anywhere in a value, ignoring case; otherwise as `header`.",
     .valid = check_header_condition, .read = read_pairs, .print = print_pairs, .schema_json = PAIRS_SCHEMA},
    {"query", GW_CUSTOM, AT(query),
     "Globs by query key: every key must have a value, as sent, that one of its globs takes, ignoring case; the key "
     "`*` "
     "means any key.",
     .valid = check_glob_value, .read = read_pairs, .print = print_pairs, .schema_json = PAIRS_SCHEMA},
    {"source_ip", GW_CIDRS, AT(source_ip),
     "Networks that the peer of the TCP connection must be in; X-Forwarded-For is never looked at."},
    {0},
};
#undef AT
const struct gw_section routing_match_section = {
    .name = "match",
    .help = "Conditions of a route: different conditions must all hold, of several values one must.",
    .size = sizeof(struct routing_match_conf),
    .settings = match_settings,
    .check = check_match,
};
