/* Rules of listeners: conditions, actions, transforms (spec/alb.md 2). */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "gateway/command/import_alb.h"

enum { MAX_PARTS = 64, NAME = 128 };

/* One rule taken apart; arrays are ours. */
struct rule {
    char name[NAME];
    const char *listener;
    long long priority; /* 0: the default rule */
    json_t *hosts, *host_regexes, *paths, *path_regexes, *methods, *sources;
    json_t *headers, *header_regexes; /* of {"name", "values"}: all must hold */
    json_t *queries;                  /* of lists of {"name", "values"}: of each list one must hold */
    bool never_matches;
};

static const json_t *values_of(const json_t *condition, const char *config, const char *key)
{
    const json_t *values = json_object_get(json_object_get(condition, config), key);
    if (json_is_array(values) || strcmp(key, "Values") != 0)
        return values;
    return json_object_get(condition, "Values"); /* the older form */
}

static json_t *named(const char *name, const json_t *values)
{
    json_t *pair = json_object();
    json_object_set_new(pair, "name", json_string(name));
    json_object_set(pair, "values", (json_t *)values);
    return pair;
}

/* ---- conditions ---- */

/* A pattern that does not begin like a path never matched; weir would refuse it. */
static void add_paths(struct gw_import *import, struct rule *rule, const json_t *values)
{
    size_t i, before = json_array_size(rule->paths);
    json_t *value;

    json_array_foreach(values, i, value)
    {
        const char *text = json_is_string(value) ? json_string_value(value) : "";
        if (*text == '/' || *text == '*' || *text == '?')
            json_array_append(rule->paths, value);
        else
            gw_import_note(import, GW_IMPORT_APPROXIMATED, rule->name, "path \"%s\" never matches and is left out",
                           text);
    }
    rule->never_matches |= json_array_size(values) != 0 && json_array_size(rule->paths) == before;
}

/* Values of one key are alternatives in weir too; different keys become routes of their own. */
static void add_query(struct rule *rule, const json_t *values)
{
    json_t *alternatives = json_array();
    size_t i, j;
    json_t *value, *alternative;

    json_array_foreach(values, i, value)
    {
        const char *key = gw_import_string(value, "Key");
        json_t *found = NULL;
        if (*key == '\0')
            key = "*";
        json_array_foreach(alternatives, j, alternative)
        {
            if (strcasecmp(gw_import_string(alternative, "name"), key) == 0)
                found = json_object_get(alternative, "values");
        }
        if (found == NULL) {
            found = json_array();
            json_array_append_new(alternatives, named(key, found));
            json_decref(found);
        }
        json_array_append(found, json_object_get(value, "Value"));
    }
    json_array_append_new(rule->queries, alternatives);
}

static void add_condition(struct gw_import *import, struct rule *rule, const json_t *condition)
{
    const char *field = gw_import_string(condition, "Field");

    if (strcmp(field, "host-header") == 0) {
        json_array_extend(rule->hosts, (json_t *)values_of(condition, "HostHeaderConfig", "Values"));
        json_array_extend(rule->host_regexes, (json_t *)values_of(condition, "HostHeaderConfig", "RegexValues"));
    } else if (strcmp(field, "path-pattern") == 0) {
        add_paths(import, rule, values_of(condition, "PathPatternConfig", "Values"));
        json_array_extend(rule->path_regexes, (json_t *)values_of(condition, "PathPatternConfig", "RegexValues"));
    } else if (strcmp(field, "http-request-method") == 0) {
        json_array_extend(rule->methods, (json_t *)values_of(condition, "HttpRequestMethodConfig", "Values"));
    } else if (strcmp(field, "source-ip") == 0) {
        json_array_extend(rule->sources, (json_t *)values_of(condition, "SourceIpConfig", "Values"));
    } else if (strcmp(field, "http-header") == 0) {
        const json_t *config = json_object_get(condition, "HttpHeaderConfig");
        const char *name = gw_import_string(config, "HttpHeaderName");
        if (json_array_size(json_object_get(config, "Values")) != 0)
            json_array_append_new(rule->headers, named(name, json_object_get(config, "Values")));
        if (json_array_size(json_object_get(config, "RegexValues")) != 0)
            json_array_append_new(rule->header_regexes, named(name, json_object_get(config, "RegexValues")));
    } else if (strcmp(field, "query-string") == 0) {
        add_query(rule, values_of(condition, "QueryStringConfig", "Values"));
    } else {
        rule->never_matches = true; /* taking more requests than the rule did would be worse */
        gw_import_note(import, GW_IMPORT_REFUSED, rule->name, "condition %s: the rule is left out", field);
    }
}

static void write_texts(FILE *out, const char *key, const json_t *texts)
{
    if (json_array_size(texts) == 0)
        return;
    fprintf(out, ", %s: ", key);
    gw_import_list(out, texts);
}

static void write_pairs(FILE *out, const char *key, const json_t *pairs)
{
    size_t i;
    json_t *pair;

    if (json_array_size(pairs) == 0)
        return;
    fprintf(out, ", %s: [", key);
    json_array_foreach(pairs, i, pair)
    {
        fputs(i != 0 ? ", {" : "{", out);
        gw_import_text(out, gw_import_string(pair, "name"));
        fputs(": ", out);
        gw_import_list(out, json_object_get(pair, "values"));
        fputc('}', out);
    }
    fputc(']', out);
}

/* part counts through the product of the alternatives. */
static void write_match(const struct gw_import *import, const struct rule *rule, size_t part)
{
    json_t *queries = json_array();
    size_t i;
    json_t *alternatives;

    json_array_foreach(rule->queries, i, alternatives)
    {
        size_t n = json_array_size(alternatives);
        json_array_append(queries, json_array_get(alternatives, part % n));
        part /= n;
    }
    fprintf(import->out, "    match: {listener: %s", rule->listener);
    write_texts(import->out, "host", rule->hosts);
    write_texts(import->out, "host_regex", rule->host_regexes);
    write_texts(import->out, "path", rule->paths);
    write_texts(import->out, "path_regex", rule->path_regexes);
    write_texts(import->out, "method", rule->methods);
    write_texts(import->out, "source_ip", rule->sources);
    write_pairs(import->out, "header", rule->headers);
    write_pairs(import->out, "header_regex", rule->header_regexes);
    write_pairs(import->out, "query", queries);
    fputs("}\n", import->out);
    json_decref(queries);
}

/* ---- actions ---- */

/* In place of what cannot be done: nothing is served that was not before. */
static void write_refusal(struct gw_import *import, const struct rule *rule, const char *what)
{
    fputs("    respond: {status: 503, body: ", import->out);
    gw_import_text(import->out, what);
    fputs("}\n", import->out);
    gw_import_note(import, GW_IMPORT_REFUSED, rule->name, "%s: the route answers 503", what);
}

static void write_forward(struct gw_import *import, const struct rule *rule, const json_t *action)
{
    const json_t *config = json_object_get(action, "ForwardConfig"), *groups = json_object_get(config, "TargetGroups"),
                 *stickiness = json_object_get(config, "TargetGroupStickinessConfig");
    json_t *only = NULL, *group;
    size_t i;

    if (json_array_size(groups) == 0) {
        only = json_pack("[{s:s}]", "TargetGroupArn", gw_import_string(action, "TargetGroupArn"));
        groups = only;
    }
    json_array_foreach(groups, i, group)
    {
        const char *arn = gw_import_string(group, "TargetGroupArn");
        if (gw_import_group_name(import, arn) == NULL) {
            char what[512];
            snprintf(what, sizeof(what), "forward to %s, which no file describes", arn);
            write_refusal(import, rule, what);
            json_decref(only);
            return;
        }
    }
    fputs("    forward: {groups: [", import->out);
    json_array_foreach(groups, i, group)
    {
        const json_t *weight = json_object_get(group, "Weight");
        fprintf(import->out, "%s{group: %s, weight: %lld}", i != 0 ? ", " : "",
                gw_import_group_name(import, gw_import_string(group, "TargetGroupArn")),
                json_is_integer(weight) ? (long long)json_integer_value(weight) : 1);
    }
    fputc(']', import->out);
    if (json_is_true(json_object_get(stickiness, "Enabled")) && json_array_size(groups) > 1) {
        fprintf(import->out, ", stickiness: %llds",
                (long long)json_integer_value(json_object_get(stickiness, "DurationSeconds")));
        gw_import_note(import, GW_IMPORT_APPROXIMATED, rule->name,
                       "stickiness of the target groups: sessions of the load balancer begin anew");
    }
    fputs("}\n", import->out);
    gw_import_note(import, GW_IMPORT_MAPPED, rule->name, "forward to %zu target group%s", json_array_size(groups),
                   json_array_size(groups) == 1 ? "" : "s");
    json_decref(only);
}

static bool is_kept(const char *value, const char *keyword) { return *value == '\0' || strcmp(value, keyword) == 0; }

static void write_part(FILE *out, const char *key, const char *value, const char *keyword)
{
    if (is_kept(value, keyword))
        return;
    fprintf(out, "%s: ", key);
    gw_import_text(out, value);
    fputs(", ", out);
}

static void write_redirect(struct gw_import *import, const struct rule *rule, const json_t *action)
{
    const json_t *config = json_object_get(action, "RedirectConfig");
    const char *protocol = gw_import_string(config, "Protocol"), *port = gw_import_string(config, "Port"),
               *status = gw_import_string(config, "StatusCode");
    FILE *out = import->out;

    fputs("    redirect: {", out);
    if (!is_kept(protocol, "#{protocol}"))
        fprintf(out, "scheme: %s, ", strcmp(protocol, "HTTPS") == 0 ? "https" : "http");
    write_part(out, "host", gw_import_string(config, "Host"), "#{host}");
    if (!is_kept(protocol, "#{protocol}") && is_kept(port, "#{port}"))
        fputs("port: \"#{port}\", ", out); /* left out, weir would take the default one of the scheme */
    else
        write_part(out, "port", port, "#{port}");
    write_part(out, "path", gw_import_string(config, "Path"), "/#{path}");
    /* an empty one takes the query off; what is not said keeps it */
    if (json_is_string(json_object_get(config, "Query")) &&
        strcmp(gw_import_string(config, "Query"), "#{query}") != 0) {
        fputs("query: ", out);
        gw_import_text(out, gw_import_string(config, "Query"));
        fputs(", ", out);
    }
    fprintf(out, "status: %d}\n", strcmp(status, "HTTP_301") == 0 ? 301 : 302);
    gw_import_note(import, GW_IMPORT_MAPPED, rule->name, "redirect %s", status);
}

static void write_fixed(struct gw_import *import, const struct rule *rule, const json_t *action)
{
    const json_t *config = json_object_get(action, "FixedResponseConfig");
    const char *type = gw_import_string(config, "ContentType"), *body = gw_import_string(config, "MessageBody");
    int status = atoi(gw_import_string(config, "StatusCode"));

    fprintf(import->out, "    respond: {status: %d", status);
    if (*body != '\0' && status != 204 && status != 205 && status != 304) {
        fputs(", body: ", import->out);
        gw_import_text(import->out, body);
    }
    if (*type != '\0') {
        fputs(", content_type: ", import->out);
        gw_import_text(import->out, type);
    }
    fputs("}\n", import->out);
    gw_import_note(import, GW_IMPORT_MAPPED, rule->name, "fixed response %d", status);
}

static void write_action(struct gw_import *import, const struct rule *rule, const json_t *actions)
{
    const json_t *routing = NULL;
    size_t i;
    json_t *action;

    json_array_foreach(actions, i, action)
    {
        const char *type = gw_import_string(action, "Type");
        if (strcmp(type, "forward") == 0 || strcmp(type, "redirect") == 0 || strcmp(type, "fixed-response") == 0) {
            routing = action;
        } else { /* to do the rest without it would let everybody in */
            char what[256];
            snprintf(what, sizeof(what), "action %s", *type != '\0' ? type : "without a type");
            write_refusal(import, rule, what);
            return;
        }
    }
    if (routing == NULL)
        write_refusal(import, rule, "no action");
    else if (strcmp(gw_import_string(routing, "Type"), "forward") == 0)
        write_forward(import, rule, routing);
    else if (strcmp(gw_import_string(routing, "Type"), "redirect") == 0)
        write_redirect(import, rule, routing);
    else
        write_fixed(import, rule, routing);
}

/* ---- transforms ---- */

static void write_transforms(struct gw_import *import, const struct rule *rule, const json_t *transforms)
{
    const char *separator = "    rewrite: {";
    size_t i;
    json_t *transform;

    json_array_foreach(transforms, i, transform)
    {
        const char *type = gw_import_string(transform, "Type");
        bool is_url = strcmp(type, "url-rewrite") == 0;
        const json_t *rewrites = json_object_get(
            json_object_get(transform, is_url ? "UrlRewriteConfig" : "HostHeaderRewriteConfig"), "Rewrites");
        const json_t *first = json_array_get(rewrites, 0);
        if ((!is_url && strcmp(type, "host-header-rewrite") != 0) || first == NULL) {
            gw_import_note(import, GW_IMPORT_REFUSED, rule->name, "transform %s", type);
            continue;
        }
        fprintf(import->out, "%s%s: ", separator, is_url ? "url" : "host_regex");
        gw_import_text(import->out, gw_import_string(first, "Regex"));
        fprintf(import->out, ", %s: ", is_url ? "to" : "host");
        gw_import_text(import->out, gw_import_string(first, "Replace"));
        separator = ", ";
        gw_import_note(import, GW_IMPORT_MAPPED, rule->name, "transform %s", type);
        if (json_array_size(rewrites) > 1)
            gw_import_note(import, GW_IMPORT_REFUSED, rule->name, "transform %s: %zu further rewrites", type,
                           json_array_size(rewrites) - 1);
    }
    if (*separator == ',')
        fputs("}\n", import->out);
}

/* ---- routes ---- */

static void init_rule(struct rule *rule, const char *listener, const char *priority)
{
    *rule = (struct rule){.listener = listener, .priority = atoll(priority)};
    snprintf(rule->name, sizeof(rule->name), "%.64s-%.32s", listener, rule->priority != 0 ? priority : "default");
    json_t **all[] = {&rule->hosts,   &rule->host_regexes, &rule->paths,          &rule->path_regexes, &rule->methods,
                      &rule->sources, &rule->headers,      &rule->header_regexes, &rule->queries};
    for (size_t i = 0; i != sizeof(all) / sizeof(all[0]); ++i)
        *all[i] = json_array();
}

static void dispose_rule(struct rule *rule)
{
    json_t *all[] = {rule->hosts,   rule->host_regexes, rule->paths,          rule->path_regexes, rule->methods,
                     rule->sources, rule->headers,      rule->header_regexes, rule->queries};
    for (size_t i = 0; i != sizeof(all) / sizeof(all[0]); ++i)
        json_decref(all[i]);
}

static size_t count_parts(struct gw_import *import, const struct rule *rule)
{
    size_t parts = 1, i;
    json_t *alternatives;

    json_array_foreach(rule->queries, i, alternatives)
    {
        parts *= json_array_size(alternatives);
        if (parts > MAX_PARTS)
            return MAX_PARTS + 1;
    }
    if (parts > 1)
        gw_import_note(import, GW_IMPORT_APPROXIMATED, rule->name,
                       "alternatives of several query keys: %zu routes take the same requests", parts);
    return parts;
}

static void write_routes(struct gw_import *import, const struct rule *rule, const json_t *actions,
                         const json_t *transforms)
{
    size_t parts = count_parts(import, rule), findings;

    if (rule->never_matches || parts == 0 || parts > MAX_PARTS) {
        gw_import_note(import, parts > MAX_PARTS ? GW_IMPORT_REFUSED : GW_IMPORT_APPROXIMATED, rule->name,
                       parts > MAX_PARTS ? "more than 64 combinations of query keys" : "left out: it takes no request");
        return;
    }
    for (size_t part = 0; part != parts; ++part) {
        fprintf(import->out, "  - name: %s", rule->name);
        fprintf(import->out, part != 0 ? "-%zu\n" : "\n", part + 1);
        if (rule->priority != 0)
            fprintf(import->out, "    priority: %lld\n", rule->priority);
        write_match(import, rule, part);
        findings = import->num_findings;
        write_transforms(import, rule, transforms);
        write_action(import, rule, actions);
        for (; part != 0 && import->num_findings != findings; --import->num_findings) { /* said once */
            free(import->findings[import->num_findings - 1].where);
            free(import->findings[import->num_findings - 1].text);
        }
    }
}

static void import_rule(struct gw_import *import, const char *listener, const json_t *description)
{
    struct rule rule;
    size_t i;
    json_t *condition;

    init_rule(&rule, listener, gw_import_string(description, "Priority"));
    json_array_foreach(json_object_get(description, "Conditions"), i, condition)
    {
        add_condition(import, &rule, condition);
    }
    write_routes(import, &rule, json_object_get(description, "Actions"), json_object_get(description, "Transforms"));
    dispose_rule(&rule);
}

static bool is_default(const json_t *rule)
{
    return json_is_true(json_object_get(rule, "IsDefault")) ||
           strcmp(gw_import_string(rule, "Priority"), "default") == 0;
}

static void import_listener(struct gw_import *import, const json_t *listener)
{
    char name[64], id[64], rule_id[64];
    bool has_default = false;
    size_t i;
    json_t *rule;

    gw_import_listener_name(import, listener, name, sizeof(name));
    gw_import_listener_id(gw_import_string(listener, "ListenerArn"), id, sizeof(id));
    for (int of_default = 0; of_default != 2; ++of_default)
        json_array_foreach(import->rules, i, rule)
        {
            gw_import_listener_id(gw_import_string(rule, "RuleArn"), rule_id, sizeof(rule_id));
            if (strcmp(id, rule_id) != 0 || is_default(rule) != (of_default != 0))
                continue;
            import_rule(import, name, rule);
            has_default |= of_default != 0;
        }
    if (!has_default) {
        struct rule fallback;
        init_rule(&fallback, name, "default");
        write_routes(import, &fallback, json_object_get(listener, "DefaultActions"), NULL);
        dispose_rule(&fallback);
    }
}

static void note_strangers(struct gw_import *import)
{
    size_t i, j;
    json_t *rule, *listener;

    json_array_foreach(import->rules, i, rule)
    {
        char rule_id[64], id[64];
        bool is_known = false;
        gw_import_listener_id(gw_import_string(rule, "RuleArn"), rule_id, sizeof(rule_id));
        json_array_foreach(import->listeners, j, listener)
        {
            gw_import_listener_id(gw_import_string(listener, "ListenerArn"), id, sizeof(id));
            is_known = is_known || (strcmp(id, rule_id) == 0 && (*id != '\0' || import->listeners_stand_in));
        }
        if (!is_known)
            gw_import_note(import, GW_IMPORT_REFUSED, gw_import_string(rule, "RuleArn"),
                           "rule of a listener that no file describes");
    }
}

void gw_import_routes(struct gw_import *import)
{
    size_t i;
    json_t *listener;

    fputs("routes:\n", import->out);
    json_array_foreach(import->listeners, i, listener)
    {
        const char *protocol = gw_import_string(listener, "Protocol");
        if (strcmp(protocol, "HTTP") == 0 || strcmp(protocol, "HTTPS") == 0)
            import_listener(import, listener);
    }
    note_strangers(import);
}
