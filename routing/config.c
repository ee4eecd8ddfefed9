/* The settings tables of routes: conditions, actions, header rules. Target groups are in target_group.c. */
#include <string.h>
#include "gateway/base/json.h"
#include "routing/config.h"
#include "routing/header_rules.h"
#include "routing/path.h"
#include "routing/redirect.h"
#include "routing/rewrite.h"
#include "routing/upgrade.h"

/* ---- conditions ---- */

static bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); }

static int hex_value(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

static bool is_unreserved(int c)
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

static bool is_host_byte(char c) { return is_unreserved((unsigned char)c) || strchr("*?\\[]:", c) != NULL; }

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
        if (is_unreserved(hex_value(path.base[i + 1]) * 16 + hex_value(path.base[i + 2])))
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

static bool check_path_literal(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t path)
{
    if (path.len == 0 || path.base[0] != '/')
        return gw_error_at(load->errors, at, "path \"%s\" never matches: it must start with \"/\"",
                           path.len == 0 ? "" : path.base);
    if (has_dot_segment(path))
        return never_matches(load, at, path, "\".\" and \"..\" segments are removed before matching");
    return check_path_bytes(load, at, path);
}

static bool check_regex(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t pattern)
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
        is_ok = (is_regex ? check_regex : check_glob_value)(load, entry, entry->text) && is_ok;
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
     .valid = check_regex},
    {"path", GW_TEXTS, AT(path), "Globs on the canonical path, case-sensitive; `*` also crosses `/`.",
     .valid = check_path_glob},
    {"path_prefix", GW_TEXTS, AT(path_prefix),
     "Path prefixes by whole segments: `/a` takes `/a` and `/a/b`, not `/ab`.", .valid = check_path_literal},
    {"path_exact", GW_TEXTS, AT(path_exact), "Canonical paths that must be equal, byte for byte.",
     .valid = check_path_literal},
    {"path_regex", GW_TEXTS, AT(path_regex),
     "Regular expressions (PCRE2) searched anywhere in the canonical path; anchor them with `^` and `$`.",
     .valid = check_regex},
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
static const struct gw_section match_section = {
    .name = "match",
    .help = "Conditions of a route: different conditions must all hold, of several values one must.",
    .size = sizeof(struct routing_match_conf),
    .settings = match_settings,
    .check = check_match,
};

/* ---- actions ---- */

#define AT(field) offsetof(struct routing_weighted_group_conf, field)
static const struct gw_setting weighted_group_settings[] = {
    {"group", GW_TEXT, AT(group), "Name of a target group.", .is_required = true},
    {"weight", GW_NUMBER, AT(weight), "Share of the requests, relative to the weights of the other groups.",
     .initial = 1, .max = 999},
    {0},
};
#undef AT
static const struct gw_section weighted_group_section = {
    .name = "weighted group",
    .help = "One of the target groups that share the requests of a route.",
    .size = sizeof(struct routing_weighted_group_conf),
    .settings = weighted_group_settings,
    .scalar_is = "group",
};

static bool is_text(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

/* spec/cloudfront.md 1.5: exactly two members; a failed connect counts as 503, a timeout as 504. */
static bool check_fallback(struct gw_loader *load, struct routing_forward_conf *forward)
{
    static h2o_iovec_t initial[] = {{H2O_STRLIT("500")}, {H2O_STRLIT("502-504")}};
    static const struct gw_texts initials = {initial, 2, NULL};

    if ((forward->primary.base != NULL) != (forward->fallback.base != NULL))
        return gw_error_at(load->errors, forward->at, "\"%s\" needs \"%s\" beside it",
                           forward->primary.base != NULL ? "primary" : "fallback",
                           forward->primary.base != NULL ? "fallback" : "primary");
    if (forward->fallback.base == NULL)
        return forward->on.size == 0 ||
               gw_error_at(load->errors, gw_setting_at(forward->at, "on"), "\"on\" needs a \"fallback\"");
    if (forward->group.base != NULL || forward->groups.size != 0)
        return gw_error_at(load->errors, forward->at, "\"forward\" has \"primary\" and \"%s\" (expected one of them)",
                           forward->group.base != NULL ? "group" : "groups");
    if (is_text(forward->primary, forward->fallback))
        return gw_error_at(load->errors, gw_setting_at(forward->at, "fallback"),
                           "\"primary\" and \"fallback\" are the same target group");
    routing_when_compile(forward->on.size != 0 ? &forward->on : &initials, &forward->when);
    if (routing_when_status(&forward->when, 503))
        forward->when.failures |= ROUTING_FAILURE_CONNECT;
    if (routing_when_status(&forward->when, 504))
        forward->when.failures |= ROUTING_FAILURE_TIMEOUT;
    forward->group = forward->primary;
    return true;
}

static bool check_forward(struct gw_loader *load, void *conf)
{
    struct routing_forward_conf *forward = conf;
    uint64_t sum = 0;
    bool is_ok = true;

    if (!check_fallback(load, forward))
        return false;

    if ((forward->group.base != NULL) == (forward->groups.size != 0))
        return gw_error_at(load->errors, forward->at,
                           forward->group.base != NULL ? "\"forward\" has both \"group\" and \"groups\" (expected one)"
                                                       : "\"forward\" names no target group");
    if (forward->group.base != NULL) {
        struct routing_weighted_group_conf *only = h2o_mem_alloc_pool(load->pool, sizeof(*only));
        *only = (struct routing_weighted_group_conf){gw_setting_at(forward->at, "group"), forward->group, 1};
        forward->groups.entries = h2o_mem_alloc_pool(load->pool, sizeof(void *));
        forward->groups.entries[0] = only;
        forward->groups.size = 1;
        forward->group = (h2o_iovec_t){NULL, 0};
    }
    for (size_t i = 0; i != forward->groups.size; ++i) {
        const struct routing_weighted_group_conf *entry = forward->groups.entries[i];
        sum += entry->weight;
        for (size_t j = 0; j != i; ++j)
            if (is_text(entry->group, ((struct routing_weighted_group_conf *)forward->groups.entries[j])->group)) {
                is_ok = gw_error_at(load->errors, entry->at, "target group \"%s\" is listed twice", entry->group.base);
                break;
            }
    }
    if (sum == 0)
        gw_warn_at(load->errors, forward->at, "every weight is 0: each request will be answered 503");
    return is_ok;
}

#define AT(field) offsetof(struct routing_forward_conf, field)
static const struct gw_setting forward_settings[] = {
    {"groups", GW_LIST, AT(groups), "Target groups with weights; a request stays with the group drawn for it.",
     .section = &weighted_group_section},
    {"group", GW_TEXT, AT(group), "The only target group; the same as writing its name alone."},
    {"primary", GW_TEXT, AT(primary), "The target group that is always asked first; with `fallback`."},
    {"fallback", GW_TEXT, AT(fallback),
     "The target group that is asked when the primary's last try fails as `on` says; GET, HEAD and OPTIONS only."},
    {"on", GW_TEXTS, AT(on),
     "Statuses and failures of the primary that are not passed on: 400 to 599 as `503`, `500-504` or `5xx`, "
     "`connect_failure` (503 says it too), `timeout` (504 says it too), `reset`, `bad_response`, those of functions as "
     "in `retry`; default 500, 502, 503 and 504.",
     .valid = routing_when_is_word},
    {"stickiness", GW_DURATION, AT(stickiness_ms),
     "How long a client without requests stays with the group drawn for it, by a cookie AWSALBTG; 0 draws anew.",
     .max = 604800000},
    {0},
};
#undef AT
const struct gw_section routing_forward_section = {
    .name = "forward action",
    .help = "Sends the request to a target of a target group.",
    .size = sizeof(struct routing_forward_conf),
    .settings = forward_settings,
    .scalar_is = "group",
    .list_is = "groups",
    .check = check_forward,
};

static bool check_redirect(struct gw_loader *load, void *conf) { return routing_redirect_check(load, conf); }

#define AT(field) offsetof(struct routing_redirect_conf, field)
static const struct gw_setting redirect_settings[] = {
    {"scheme", GW_TEXT, AT(scheme), "`http`, `https` or `#{protocol}`."},
    {"host", GW_TEXT, AT(host), "Host of the new URL; may hold `#{host}`.", .min = 1, .max = 255},
    {"port", GW_TEXT, AT(port),
     "Port of the new URL, or `#{port}`; when left out it stays, or is the default of a scheme that changes."},
    {"path", GW_TEXT, AT(path),
     "Path of the new URL; may hold `#{host}`, `#{port}` and `#{path}` (without its first `/`).", .min = 1,
     .max = 1024},
    {"query", GW_TEXT, AT(query), "Query of the new URL, without `?`; may hold any placeholder.", .max = 1024},
    {"status", GW_NUMBER, AT(status), "301, 302, 303, 307 or 308.", .initial = 302, .min = 300, .max = 399},
    {0},
};
#undef AT
static const struct gw_section redirect_section = {
    .name = "redirect action",
    .help = "Answers with a Location made of the request's URL and the parts given here.",
    .size = sizeof(struct routing_redirect_conf),
    .settings = redirect_settings,
    .check = check_redirect,
};

static bool check_content_type(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t value)
{
    if (value.len == 0 || !routing_is_field_value(value))
        return gw_error_at(load->errors, at, "\"%s\" is not a content type", value.len == 0 ? "" : value.base);
    return true;
}

static bool check_respond(struct gw_loader *load, void *conf)
{
    struct routing_respond_conf *respond = conf;
    /* RFC 9110 15.3.5, 15.3.6, 15.4.5 */
    if (respond->body.len != 0 && (respond->status == 204 || respond->status == 205 || respond->status == 304))
        return gw_error_at(load->errors, gw_setting_at(respond->at, "body"), "a response with status %u has no body",
                           (unsigned)respond->status);
    return true;
}

#define AT(field) offsetof(struct routing_respond_conf, field)
static const struct gw_setting respond_settings[] = {
    {"status", GW_NUMBER, AT(status), "Status code of the answer.", .initial = 200, .min = 200, .max = 599},
    {"body", GW_TEXT, AT(body), "Body of the answer.", .max = 1 << 20},
    {"content_type", GW_TEXT, AT(content_type), "Content-Type of the answer.",
     .initial_text = "text/plain; charset=utf-8", .valid = check_content_type},
    {0},
};
#undef AT
static const struct gw_section respond_section = {
    .name = "respond action",
    .help = "Answers with a fixed response.",
    .size = sizeof(struct routing_respond_conf),
    .settings = respond_settings,
    .scalar_is = "status",
    .check = check_respond,
};

static bool check_index_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    if (name.len == 0 || memchr(name.base, '/', name.len) != NULL || memchr(name.base, '\0', name.len) != NULL)
        return gw_error_at(load->errors, at, "\"%s\" is not a file name", name.len == 0 ? "" : name.base);
    return true;
}

static const char *const precompressed[] = {"gzip", "br", NULL};

#define AT(field) offsetof(struct routing_files_conf, field)
static const struct gw_setting files_settings[] = {
    {"root", GW_TEXT, AT(root),
     "Directory whose files are served, relative to the file that names it; nothing outside of it ever is.",
     .is_required = true, .min = 1},
    {"index", GW_TEXTS, AT(index), "Names tried, in order, when a directory is asked for.",
     .initial_text = "index.html", .valid = check_index_name},
    {"precompressed", GW_CHOICES, AT(precompressed),
     "Codings of which the directory may hold copies, made beforehand: `a.css.br` and `a.css.gz` beside `a.css`. A "
     "copy "
     "that is older than its file is not used.",
     .choices = precompressed},
    {"strip_prefix", GW_TEXT, AT(strip_prefix), "Taken off the start of the path before the file is looked up.",
     .valid = check_path_literal},
    {0},
};
#undef AT
static const struct gw_section files_section = {
    .name = "files action",
    .help = "Serves static files from a directory.",
    .size = sizeof(struct routing_files_conf),
    .settings = files_settings,
    .scalar_is = "root",
};

/* ---- what happens around the action ---- */

static bool check_header_rules(struct gw_loader *load, void *conf) { return routing_header_rules_check(load, conf); }

#define AT(field) offsetof(struct routing_header_rules_conf, field)
static const struct gw_setting header_rules_settings[] = {
    {"set", GW_PAIRS, AT(set), "Headers that get exactly this value, whatever was there."},
    {"add", GW_PAIRS, AT(add), "Header lines that are added to those already there."},
    {"remove", GW_TEXTS, AT(remove), "Headers that are removed, before anything is set or added."},
    {0},
};
#undef AT
static const struct gw_section request_headers_section = {
    .name = "request header rules",
    .help = "Changes the headers that the target gets.",
    .size = sizeof(struct routing_header_rules_conf),
    .settings = header_rules_settings,
    .check = check_header_rules,
};
static const struct gw_section response_headers_section = {
    .name = "response header rules",
    .help = "Changes the headers that the client gets.",
    .size = sizeof(struct routing_header_rules_conf),
    .settings = header_rules_settings,
    .check = check_header_rules,
};

static bool check_rewrite_host(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t host)
{
    bool is_ok = host.len != 0;
    for (size_t i = 0; i != host.len; ++i)
        is_ok = is_ok && (is_unreserved((unsigned char)host.base[i]) || memchr("[]:$", host.base[i], 4) != NULL);
    if (!is_ok)
        return gw_error_at(load->errors, at,
                           "\"%s\" is not a host (expected a name or address, with or without a port)",
                           host.len == 0 ? "" : host.base);
    return true;
}

static bool check_rewrite(struct gw_loader *load, void *conf)
{
    struct routing_rewrite_conf *rewrite = conf;
    const char *from = rewrite->path.base != NULL ? "path" : "url";
    bool has_from = rewrite->path.base != NULL || rewrite->url.base != NULL;

    if (!has_from && rewrite->to.base == NULL && rewrite->host.base == NULL && rewrite->host_regex.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" changes nothing (expected path and to, or host)");
    if (rewrite->path.base != NULL && rewrite->url.base != NULL)
        return gw_error_at(load->errors, gw_setting_at(rewrite->at, "url"),
                           "\"rewrite\" has \"path\" and \"url\" (expected one of them)");
    if (has_from && rewrite->to.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"%s\" without \"to\"", from);
    if (!has_from && rewrite->to.base != NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"to\" without \"path\"");
    if (rewrite->host_regex.base != NULL && rewrite->host.base == NULL)
        return gw_error_at(load->errors, rewrite->at, "\"rewrite\" has \"host_regex\" without \"host\"");
    if (rewrite->host_regex.base == NULL && rewrite->host.base != NULL &&
        memchr(rewrite->host.base, '$', rewrite->host.len) != NULL)
        return gw_error_at(load->errors, gw_setting_at(rewrite->at, "host"),
                           "\"%s\" is not a host (groups like $1 need a \"host_regex\")", rewrite->host.base);
    return routing_rewrite_check(load, rewrite);
}

#define AT(field) offsetof(struct routing_rewrite_conf, field)
static const struct gw_setting rewrite_settings[] = {
    {"path", GW_TEXT, AT(path), "Regular expression (PCRE2) on the canonical path; its first match is replaced.",
     .min = 1, .max = 1024, .valid = check_regex},
    {"url", GW_TEXT, AT(url),
     "Instead of `path`: a regular expression on the canonical path with its query; its first match is replaced.",
     .min = 1, .max = 1024, .valid = check_regex},
    {"to", GW_TEXT, AT(to),
     "Replacement; `$1` to `$9` are groups, `$0` the whole match, `$$` a dollar; with a `?` it replaces the query too.",
     .max = 1024},
    {"host", GW_TEXT, AT(host),
     "Host that the target gets instead of the client's; with `host_regex` it may hold its groups.",
     .valid = check_rewrite_host},
    {"host_regex", GW_TEXT, AT(host_regex),
     "Regular expression (PCRE2) on the host, ignoring case; `host` replaces its first match, other hosts stay.",
     .min = 1, .max = 1024, .valid = check_regex},
    {0},
};
#undef AT
static const struct gw_section rewrite_section = {
    .name = "rewrite",
    .help = "Changes the URL that the target gets; the route is not chosen anew.",
    .size = sizeof(struct routing_rewrite_conf),
    .settings = rewrite_settings,
    .check = check_rewrite,
};

#define AT(field) offsetof(struct routing_access_log_conf, field)
static const struct gw_setting access_log_settings[] = {
    {"enabled", GW_BOOL, AT(is_enabled), "Whether the route's requests are logged.", .initial = 1},
    {"sample", GW_PERCENT, AT(sample), "Share of the route's requests that is logged, drawn at random.",
     .initial = 100},
    {0},
};
#undef AT
static const struct gw_section access_log_section = {
    .name = "access log of a route",
    .help = "Which requests of a route are logged.",
    .size = sizeof(struct routing_access_log_conf),
    .settings = access_log_settings,
    .scalar_is = "enabled",
};

/* ---- the route ---- */

static bool check_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    for (size_t i = 0; i != name.len; ++i)
        if ((unsigned char)name.base[i] < 0x20 || name.base[i] == 0x7f)
            return gw_error_at(load->errors, at, "a name must not hold control characters");
    return true;
}

enum routing_action routing_route_action(const struct routing_route_conf *route)
{
    return route->forward != NULL    ? ROUTING_FORWARD
           : route->redirect != NULL ? ROUTING_REDIRECT
           : route->respond != NULL  ? ROUTING_RESPOND
           : route->files != NULL    ? ROUTING_FILES
                                     : ROUTING_ECHO;
}

static bool check_route(struct gw_loader *load, void *conf)
{
    const struct routing_route_conf *route = conf;
    const struct {
        const char *name;
        bool is_given;
    } actions[] = {
        {"forward", route->forward != NULL},
        {"redirect", route->redirect != NULL},
        {"respond", route->respond != NULL},
        {"files", route->files != NULL},
        {"echo", route->echo},
    };
    const char *first = NULL;
    bool is_ok = true;

    for (size_t i = 0; i != sizeof(actions) / sizeof(actions[0]); ++i) {
        if (!actions[i].is_given)
            continue;
        if (first != NULL)
            is_ok = gw_error_at(load->errors, gw_setting_at(route->at, actions[i].name),
                                "the route has two actions, \"%s\" and \"%s\" (expected exactly one)", first,
                                actions[i].name);
        else
            first = actions[i].name;
    }
    is_ok = routing_upgrade_check(load, &route->upgrade) && is_ok;
    if (route->mirror != NULL && first != NULL && route->forward == NULL)
        is_ok = gw_error_at(load->errors, gw_setting_at(route->at, "mirror"),
                            "\"mirror\" copies what is forwarded, and this route does not forward");
    if (first == NULL)
        return gw_error_at(load->errors, route->at,
                           "the route has no action (expected one of forward, redirect, respond, files, echo)");
    return is_ok;
}

static const char *const criticalities[] = {"normal", "sheddable", "critical", NULL};
#define AT(field) offsetof(struct routing_route_timeouts_conf, field)
static const struct gw_setting route_timeouts_settings[] = {
    {"connect", GW_DURATION, AT(connect_ms), "How long connecting to a target may take.", .max = 600000},
    {"tls_handshake", GW_DURATION, AT(tls_ms), "How long the TLS handshake with a target may take.", .max = 600000},
    {"first_byte", GW_DURATION, AT(first_byte_ms), "How long a target may take to start its response.",
     .max = 86400000},
    {"idle", GW_DURATION, AT(idle_ms), "Longest pause between two bytes to or from a target.", .max = 86400000},
    {"total", GW_DURATION, AT(total_ms),
     "From the request's head to the end of the response, with every try and pause.", .max = 86400000},
    {"tunnel_idle", GW_DURATION, AT(tunnel_idle_ms),
     "Longest time without a byte in either direction of a tunnel (WebSocket).", .max = 604800000},
    {0},
};
#undef AT
static const struct gw_section route_timeouts_section = {
    .name = "timeouts",
    .help = "How long weir waits for targets of this route; 0 or left out is as the target group says.",
    .size = sizeof(struct routing_route_timeouts_conf),
    .settings = route_timeouts_settings,
};

#define AT(field) offsetof(struct routing_route_conf, field)
static const struct gw_setting route_settings[] = {
    {"name", GW_TEXT, AT(name), "Name in logs, metrics and messages.", .min = 1, .max = 128, .valid = check_name},
    {"priority", GW_NUMBER, AT(priority),
     "Lower is asked first; routes without one (0) come after those with one, in the order of the file.",
     .max = 4294967295},
    {"match", GW_SECTION, AT(match), "Which requests the route takes; left out, it takes all.",
     .section = &match_section},
    {"request_headers", GW_SECTION, AT(request_headers), "Changes to the headers that the target gets.",
     .section = &request_headers_section},
    {"response_headers", GW_SECTION, AT(response_headers), "Changes to the headers that the client gets.",
     .section = &response_headers_section},
    {"rewrite", GW_OPTION, AT(rewrite), "Changes to the URL that the target gets.", .section = &rewrite_section},
    {"max_body", GW_SIZE, AT(max_body), "Largest request body; 0 is unlimited, larger ones are answered 413."},
    {"criticality", GW_CHOICE, AT(criticality),
     "Who goes first when the gateway is overloaded (`overload`): sheddable requests, then a share of the normal ones; "
     "critical ones stay.",
     .choices = criticalities},
    {"upgrade", GW_TEXTS, AT(upgrade),
     "Protocols that clients may switch to by Upgrade; `off` or an empty list: none, and requests go on without the "
     "field.",
     .initial_text = "websocket", .valid = routing_upgrade_check_entry},
    {"retry", GW_OPTION, AT(retry), "When a request is sent again; left out, as the target group says.",
     .section = &routing_retry_section},
    {"hedge", GW_OPTION, AT(hedge), "Asks a second target when the first one is slow to answer.",
     .section = &routing_hedge_section},
    {"timeouts", GW_OPTION, AT(timeouts), "Times that stand above those of the target group.",
     .section = &route_timeouts_section},
    {"fault", GW_OPTION, AT(fault), "Delays and errors made on purpose.", .section = &routing_fault_section},
    {"mirror", GW_OPTION, AT(mirror), "Another target group that gets copies of the route's requests.",
     .section = &routing_mirror_section},
    {"compression", GW_OPTION, AT(compression),
     "Whether and how responses of the route are compressed; left out, as the top-level compression says.",
     .section = &routing_compression_section},
    {"access_log", GW_OPTION, AT(access_log),
     "Whether and how often requests of the route are logged; left out, as the top-level access_log says.",
     .section = &access_log_section},
    {"error_pages", GW_MAP, AT(error_pages),
     "Bodies of errors that weir answers itself, by status (404) or class (5xx); asked before the top-level ones.",
     .section = &routing_error_page_section, .valid = routing_error_page_is_key},
    {"forward", GW_OPTION, AT(forward), "Action: send the request to a target group.",
     .section = &routing_forward_section},
    {"redirect", GW_OPTION, AT(redirect), "Action: send the client to another URL.", .section = &redirect_section},
    {"respond", GW_OPTION, AT(respond), "Action: answer with a fixed response.", .section = &respond_section},
    {"files", GW_OPTION, AT(files), "Action: serve static files.", .section = &files_section},
    {"echo", GW_BOOL, AT(echo), "Action: answer with what weir saw of the request, as JSON."},
    {0},
};
#undef AT
const struct gw_section routing_route_section = {
    .name = "route",
    .help = "Matches requests and does one thing with them; the first route that matches wins.",
    .size = sizeof(struct routing_route_conf),
    .settings = route_settings,
    .check = check_route,
};
