#include "tests/unit/routing/load.h"
#include "routing/health.h"

static void refuse_route(const char *route, const char *expected)
{
    char yaml[1024], text[1024];
    snprintf(yaml, sizeof(yaml), "routes:\n  - %s\n", route);
    snprintf(text, sizeof(text), "t.yaml:2:%s\n", expected);
    assert_refused(yaml, text);
}

static void refuse_match(const char *match, const char *expected)
{
    char route[512];
    snprintf(route, sizeof(route), "{echo: true, match: %s}", match);
    refuse_route(route, expected);
}

static void refuse_group(const char *group, const char *expected)
{
    char yaml[1024], text[1024];
    snprintf(yaml, sizeof(yaml), "target_groups:\n  g: %s\n", group);
    snprintf(text, sizeof(text), "t.yaml:2:%s\n", expected);
    assert_refused(yaml, text);
}

/* ---- actions ---- */

static void each_action_is_recognised(void **state)
{
    static const enum routing_action expected[] = {ROUTING_FORWARD, ROUTING_REDIRECT, ROUTING_RESPOND, ROUTING_FILES,
                                                   ROUTING_ECHO};
    struct loaded loaded;
    load(&loaded, "routes:\n"
                  "  - {forward: users}\n"
                  "  - {redirect: {scheme: https}}\n"
                  "  - {respond: {status: 404}}\n"
                  "  - {files: {root: /srv}}\n"
                  "  - {echo: true}\n");
    assert_findings(&loaded, "");
    for (size_t i = 0; i != 5; ++i)
        assert_int_equal(routing_route_action(loaded_route(&loaded, i)), expected[i]);
    unload(&loaded);
}

static void route_needs_exactly_one_action(void **state)
{
    refuse_route("{name: a}", "5: the route has no action (expected one of forward, redirect, respond, files, echo)");
    refuse_route("{echo: false}",
                 "5: the route has no action (expected one of forward, redirect, respond, files, echo)");
    refuse_route("{echo: true, forward: a}",
                 "12: the route has two actions, \"forward\" and \"echo\" (expected exactly one)");
    refuse_route("{respond: {status: 200}, files: {root: /srv}}",
                 "37: the route has two actions, \"respond\" and \"files\" (expected exactly one)");
}

static void forward_is_a_name_a_group_or_a_weighted_list(void **state)
{
    static const struct {
        const char *group;
        uint64_t weight;
    } expected[6][2] = {{{"a", 1}},           {{"a", 1}},           {{"a", 9}, {"b", 1}},
                        {{"a", 1}, {"b", 0}}, {{"a", 1}, {"b", 1}}, {{"a", 3}}};
    struct loaded loaded;
    load(&loaded, "routes:\n"
                  "  - {forward: a}\n"
                  "  - {forward: {group: a}}\n"
                  "  - {forward: [{group: a, weight: 9}, {group: b, weight: 1}]}\n"
                  "  - {forward: [{group: a}, {group: b, weight: 0}]}\n"
                  "  - {forward: [a, b]}\n"
                  "  - {forward: {groups: [{group: a, weight: 3}]}}\n");
    assert_findings(&loaded, "");
    for (size_t i = 0; i != 6; ++i) {
        const struct routing_forward_conf *forward = loaded_route(&loaded, i)->forward;
        assert_int_equal(forward->groups.size, expected[i][1].group != NULL ? 2 : 1);
        for (size_t j = 0; j != forward->groups.size; ++j) {
            const struct routing_weighted_group_conf *group = forward->groups.entries[j];
            assert_text(group->group, expected[i][j].group);
            assert_int_equal(group->weight, expected[i][j].weight);
            assert_non_null(group->at);
        }
    }
    unload(&loaded);
}

static void bad_forwards_are_refused(void **state)
{
    refuse_route("{forward: []}", "15: \"forward\" names no target group");
    refuse_route("{forward: {}}", "15: \"forward\" names no target group");
    refuse_route("{forward: {group: a, groups: [b]}}",
                 "15: \"forward\" has both \"group\" and \"groups\" (expected one)");
    refuse_route("{forward: [a, b, a]}", "22: target group \"a\" is listed twice");
    refuse_route("{forward: [{group: a, weight: 1000}]}",
                 "35: weight is out of bounds: \"1000\" (expected a number up to 999)");
    refuse_route("{forward: [{weight: 1}]}", "16: group is missing (a weighted group needs it)");
}

static void forward_with_only_zero_weights_is_a_warning(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes:\n  - forward: [{group: a, weight: 0}]\n");
    assert_true(loaded.is_ok);
    assert_findings(&loaded, "t.yaml:2:14: warning: every weight is 0: each request will be answered 503\n");
    unload(&loaded);
}

static void respond_has_its_defaults_and_bounds(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes:\n"
                  "  - {respond: {}}\n"
                  "  - {respond: 404}\n"
                  "  - {respond: {status: 503, body: \"{}\", content_type: application/json}}\n");
    assert_findings(&loaded, "");
    const struct routing_respond_conf *respond = loaded_route(&loaded, 0)->respond;
    assert_int_equal(respond->status, 200);
    assert_int_equal(respond->body.len, 0);
    assert_text(respond->content_type, "text/plain; charset=utf-8");
    assert_int_equal(loaded_route(&loaded, 1)->respond->status, 404);
    assert_text(loaded_route(&loaded, 2)->respond->body, "{}");
    assert_text(loaded_route(&loaded, 2)->respond->content_type, "application/json");
    unload(&loaded);

    refuse_route("{respond: {status: 199}}",
                 "24: status is out of bounds: \"199\" (expected a number from 200 to 599)");
    refuse_route("{respond: {status: 600}}",
                 "24: status is out of bounds: \"600\" (expected a number from 200 to 599)");
    refuse_route("{respond: {status: 204, body: a}}", "35: a response with status 204 has no body");
    refuse_route("{respond: {content_type: \"a\\nb\"}}", "30: \"a\\nb\" is not a content type");
}

static void files_have_their_defaults_and_bounds(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes:\n"
                  "  - {files: /srv/www}\n"
                  "  - {files: {root: /srv, index: [a.html, b.html], strip_prefix: /static}}\n");
    assert_findings(&loaded, "");
    const struct routing_files_conf *files = loaded_route(&loaded, 0)->files;
    assert_text(files->root, "/srv/www");
    assert_int_equal(files->index.size, 1);
    assert_text(files->index.entries[0], "index.html");
    assert_null(files->strip_prefix.base);
    files = loaded_route(&loaded, 1)->files;
    assert_int_equal(files->index.size, 2);
    assert_text(files->strip_prefix, "/static");
    unload(&loaded);

    refuse_route("{files: {index: a}}", "13: root is missing (a files action needs it)");
    refuse_route("{files: {root: /srv, index: ../a}}", "33: \"../a\" is not a file name");
    refuse_route("{files: {root: /srv, strip_prefix: static}}",
                 "40: path \"static\" never matches: it must start with \"/\"");
}

/* ---- conditions ---- */

static void bad_hosts_are_refused(void **state)
{
    refuse_match("{host: \"\"}", "32: a host pattern must not be empty (\"*\" takes every host)");
    refuse_match("{host: \"a b\"}", "32: \"a b\" is not a host pattern (expected a name like \"*.example.com\")");
    refuse_match("{host: \"http://a.com\"}",
                 "32: \"http://a.com\" is not a host pattern (expected a name like \"*.example.com\")");
    refuse_match("{host: \"a.com:8080\"}",
                 "32: host pattern \"a.com:8080\" has a port (hosts are compared without it)");
    refuse_match("{host: \"[::1]:80\"}", "32: host pattern \"[::1]:80\" has a port (hosts are compared without it)");
    refuse_match("{host: a.com.}", "32: host pattern \"a.com.\" ends in a dot (hosts are compared without it)");
    refuse_match("{host: 'a\\'}", "32: host pattern \"a\\\" ends in a lone \"\\\"");
    refuse_match("{host: [a.com, \"b c\"]}",
                 "40: \"b c\" is not a host pattern (expected a name like \"*.example.com\")");
    refuse_match("{host: []}", "32: host is an empty list (left out, it takes every request)");
}

static void paths_that_could_never_match_are_refused(void **state)
{
    refuse_match("{path: img}", "32: path \"img\" never matches: it must start with \"/\" or a wildcard");
    refuse_match("{path: \"\"}", "32: path \"\" never matches: it must start with \"/\" or a wildcard");
    refuse_match("{path: '/a\\'}", "32: path \"/a\\\" ends in a lone \"\\\"");
    refuse_match("{path: \"/a/../b\"}",
                 "32: path \"/a/../b\" never matches: \".\" and \"..\" segments are removed before matching");
    refuse_match("{path: \"/a/.\"}",
                 "32: path \"/a/.\" never matches: \".\" and \"..\" segments are removed before matching");
    refuse_match("{path: \"/a%2fb\"}",
                 "32: path \"/a%2fb\" never matches: percent-encoding has upper-case digits in the canonical path");
    refuse_match(
        "{path: \"/%41\"}",
        "32: path \"/%41\" never matches: percent-encoded letters, digits and -._~ are decoded before matching");
    refuse_match("{path: \"/100%\"}", "32: path \"/100%\" never matches: \"%\" must be followed by two hex digits");
    refuse_match(
        "{path: \"/a b\"}",
        "32: path \"/a b\" never matches: control, space, \"#\" and non-ASCII bytes are percent-encoded in paths");
    refuse_match("{path: \"/caf\xc3\xa9\"}", "32: path \"/caf\xc3\xa9\" never matches: control, space, \"#\" and "
                                             "non-ASCII bytes are percent-encoded in paths");
    refuse_match("{path_exact: a}", "38: path \"a\" never matches: it must start with \"/\"");
    refuse_match("{path_exact: \"*\"}", "38: path \"*\" never matches: it must start with \"/\"");
    refuse_match("{path_prefix: \"/a/..\"}",
                 "39: path \"/a/..\" never matches: \".\" and \"..\" segments are removed before matching");
    refuse_match("{path_regex: \"(\"}", "38: bad regular expression \"(\": missing closing parenthesis at offset 1");
    refuse_match("{path_regex: \"(?=a)\"}",
                 "38: bad regular expression \"(?=a)\": look-around is not supported at offset 0");
    refuse_match("{path_prefix: []}", "39: path_prefix is an empty list (left out, it takes every request)");
}

static void path_patterns_that_can_match_are_taken(void **state)
{
    struct loaded loaded;
    load(&loaded,
         "routes:\n"
         "  - echo: true\n"
         "    match: {path: [\"*\", \"?a\", \"/a*\", \"/.well-known/*\", \"/a%20b\", \"/%2F*\", \"/..a\", \"/a//b\",\n"
         "                   '/\\*\\?\\\\', \"/a;b=c,d\"]}\n");
    assert_findings(&loaded, "");
    unload(&loaded);
}

static void bad_headers_and_queries_are_refused(void **state)
{
    refuse_match("{header: {Host: a}}", "35: the Host header is matched by \"host\", not by \"header\"");
    refuse_match("{header: {\"a b\": a}}", "35: \"a b\" is not a header name");
    refuse_match("{header: [a]}", "35: header is no map (expected names and patterns: {NAME: \"PATTERN\"})");
    refuse_match("{header: {x-a: []}}", "40: x-a has no pattern (\"*\" takes every value)");
    refuse_match("{header: {x-a: }}", "40: x-a has no pattern (\"*\" takes every value)");
    refuse_match("{header: {x-a: {b: c}}}", "40: x-a is a map (expected a pattern or a list of patterns)");
    refuse_match("{header: {x-a: [[b]]}}", "41: a pattern of x-a is no text");
    refuse_match("{header: {x-a: 'b\\'}}", "40: pattern \"b\\\" ends in a lone \"\\\"");
    refuse_match("{query: debug}", "33: query is no map (expected names and patterns: {NAME: \"PATTERN\"})");
    refuse_match("{query: {'a\\': b}}", "34: pattern \"a\\\" ends in a lone \"\\\"");
}

static void pairs_keep_names_values_and_places(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes:\n  - echo: true\n    match: {header: {X-A: 1, x-b: [two, \"3*\"]}, query: {k: \"\"}}\n");
    assert_findings(&loaded, "");
    const struct routing_match_conf *match = &loaded_route(&loaded, 0)->match;
    assert_int_equal(match->header.size, 2);
    assert_text(match->header.entries[0].name, "X-A");
    assert_int_equal(match->header.entries[0].values.size, 1);
    assert_text(match->header.entries[0].values.entries[0], "1");
    assert_int_equal(match->header.entries[1].values.size, 2);
    assert_text(match->header.entries[1].values.entries[1], "3*");
    assert_int_equal(match->header.entries[1].values.at[1]->column, 41);
    assert_int_equal(match->header.entries[1].at->column, 30);
    assert_int_equal(match->query.size, 1);
    assert_text(match->query.entries[0].values.entries[0], "");
    unload(&loaded);
}

static void methods_are_words_and_lower_case_ones_are_a_warning(void **state)
{
    struct loaded loaded;
    refuse_match("{method: \"GE T\"}", "34: \"GE T\" is not a method (expected a word like GET)");
    load(&loaded, "routes:\n  - {echo: true, match: {method: [get, PURGE]}}\n");
    assert_true(loaded.is_ok);
    assert_findings(&loaded, "t.yaml:2:35: warning: method \"get\" is not \"GET\": methods are case-sensitive\n");
    unload(&loaded);
}

static void route_has_its_defaults(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes:\n  - {echo: true}\n  - {echo: true, name: b, priority: 7, max_body: 10MB}\n");
    assert_findings(&loaded, "");
    const struct routing_route_conf *route = loaded_route(&loaded, 0);
    assert_int_equal(route->priority, 0);
    assert_int_equal(route->max_body, 0);
    assert_null(route->rewrite);
    assert_int_equal(route->match.host.size, 0);
    route = loaded_route(&loaded, 1);
    assert_text(route->name, "b");
    assert_int_equal(route->priority, 7);
    assert_int_equal(route->max_body, 10000000);
    unload(&loaded);
    refuse_route("{echo: true, name: \"a\\tb\"}", "24: a name must not hold control characters");
    refuse_route("{echo: true, nmae: a}", "18: unknown key \"nmae\" (did you mean \"name\"?)");
}

/* ---- target groups ---- */

static const struct routing_target_group_conf *only_group(const struct loaded *loaded)
{
    assert_int_equal(loaded->root.target_groups.size, 1);
    return loaded->root.target_groups.entries[0].conf;
}

static void target_group_has_its_defaults(void **state)
{
    struct loaded loaded;
    load(&loaded, "target_groups: {g: {targets: \"10.0.0.1:9001\"}}\n");
    assert_findings(&loaded, "");
    const struct routing_target_group_conf *group = only_group(&loaded);
    assert_int_equal(group->targets.size, 1);
    const struct routing_target_conf *target = group->targets.entries[0];
    assert_text(target->address.text, "10.0.0.1:9001");
    assert_int_equal(target->weight, 1);
    assert_true(group->health_check.is_enabled);
    assert_int_equal(group->health_check.protocol, 0);
    assert_text(group->health_check.path, "/");
    assert_int_equal(group->health_check.port, 0);
    assert_int_equal(group->health_check.interval_ms, 30000);
    assert_int_equal(group->health_check.timeout_ms, 5000);
    assert_int_equal(group->health_check.healthy_threshold, 5);
    assert_int_equal(group->health_check.unhealthy_threshold, 2);
    assert_text(group->health_check.matcher, "200");
    assert_null(group->health_check.host.base);
    assert_int_equal(group->timeouts.connect_ms, 1000);
    assert_int_equal(group->timeouts.first_byte_ms, 30000);
    assert_int_equal(group->timeouts.idle_ms, 60000);
    assert_int_equal(group->pool.max_idle, 256);
    assert_int_equal(group->pool.idle_ms, 56000);
    assert_int_equal(group->pool.max_requests, 0);
    unload(&loaded);
}

static void target_group_takes_all_its_settings(void **state)
{
    struct loaded loaded;
    load(&loaded,
         "target_groups:\n"
         "  g:\n"
         "    protocol: http\n"
         "    targets: [\"10.0.0.1:9001\", {address: \"app.internal:80\", weight: 0, zone: b}, \"unix:/run/a.sock\", "
         "\"[::1]:80\"]\n"
         "    algorithm: round_robin\n"
         "    health_check: {protocol: tcp, path: \"/healthz?a=b\", port: 9000, interval: 100ms, timeout: 100ms,\n"
         "                   healthy_threshold: 1, unhealthy_threshold: 10, matcher: \"200-299,301\", host: "
         "app.internal}\n"
         "    timeouts: {connect: 50ms, first_byte: 1m, idle: 5s}\n"
         "    pool: {max_idle: 0, idle: 4s, max_requests: 1000}\n");
    assert_findings(&loaded, "");
    const struct routing_target_group_conf *group = only_group(&loaded);
    assert_int_equal(group->targets.size, 4);
    const struct routing_target_conf *target = group->targets.entries[1];
    assert_true(target->address.is_name);
    assert_int_equal(target->weight, 0);
    assert_text(target->zone, "b");
    assert_true(((struct routing_target_conf *)group->targets.entries[2])->address.is_unix);
    assert_int_equal(group->health_check.protocol, 1);
    assert_int_equal(group->health_check.interval_ms, 100);
    assert_text(group->health_check.host, "app.internal");
    assert_int_equal(group->timeouts.first_byte_ms, 60000);
    assert_int_equal(group->pool.max_idle, 0);
    unload(&loaded);
}

static void short_interval_brings_a_short_timeout(void **state)
{
    struct loaded loaded;
    load(&loaded, "target_groups: {g: {targets: [], health_check: {interval: 1s}}}\n");
    assert_int_equal(only_group(&loaded)->health_check.timeout_ms, 1000);
    unload(&loaded);
    load(&loaded, "target_groups: {g: {targets: [], health_check: {interval: 1s, timeout: 2s}}}\n");
    assert_int_equal(only_group(&loaded)->health_check.timeout_ms, 2000);
    unload(&loaded);
    load(&loaded, "target_groups: {g: {targets: [], health_check: {timeout: 31s}}}\n");
    assert_int_equal(only_group(&loaded)->health_check.timeout_ms, 31000);
    unload(&loaded);
}

static void checks_can_be_turned_off(void **state)
{
    struct loaded loaded;
    load(&loaded, "target_groups: {g: {targets: \"10.0.0.1:1\", health_check: {enabled: false}}}\n");
    assert_findings(&loaded, "");
    assert_false(only_group(&loaded)->health_check.is_enabled);
    unload(&loaded);
    load(&loaded, "target_groups: {g: {targets: \"10.0.0.1:1\", health_check: false}}\n");
    assert_findings(&loaded, "");
    assert_false(only_group(&loaded)->health_check.is_enabled);
    unload(&loaded);
}

static void empty_target_group_is_a_warning(void **state)
{
    struct loaded loaded;
    load(&loaded, "target_groups:\n  g: {targets: []}\n");
    assert_true(loaded.is_ok);
    assert_findings(&loaded,
                    "t.yaml:2:16: warning: the target group has no targets: each request to it will be answered 503\n");
    unload(&loaded);
}

static void bad_target_groups_are_refused(void **state)
{
    refuse_group("{protocol: http}", "6: targets is missing (a target group needs it)");
    refuse_group("{targets: [\"10.0.0.1:1\", \"10.0.0.2:1\", \"10.0.0.1:1\"]}",
                 "45: target \"10.0.0.1:1\" is listed twice (give it a weight instead)");
    refuse_group("{targets: [{weight: 2}]}", "17: address is missing (a target needs it)");
    refuse_group("{targets: [{address: \"10.0.0.1:1\", weight: 1000}]}",
                 "49: weight is out of bounds: \"1000\" (expected a number up to 999)");
    refuse_group("{targets: \"a:1\", protocol: ftp}",
                 "33: protocol is \"ftp\" (expected http, tcp, tls, udp, https, h2c, h2 or grpc)");
    refuse_group("{targets: \"a:1\", algorithm: random}",
                 "34: type is \"random\" (expected round_robin, least_outstanding_requests, random_two_choices, "
                 "weighted_random, peak_ewma or consistent_hash)");
    refuse_group("{targets: \"a:1\", health_check: {matcher: \"2xx\"}}",
                 "47: \"2xx\" is not a list of status codes (expected 200 to 599, like \"200-299,301\")");
    refuse_group("{targets: \"a:1\", health_check: {path: healthz}}",
                 "44: \"healthz\" is not a path to check (expected \"/\" and what follows, percent-encoded)");
    refuse_group("{targets: \"a:1\", health_check: {path: \"/a b\"}}",
                 "44: \"/a b\" is not a path to check (expected \"/\" and what follows, percent-encoded)");
    refuse_group("{targets: \"a:1\", health_check: {host: \"a b\"}}", "44: \"a b\" is not a host");
    refuse_group("{targets: \"a:1\", health_check: {interval: 50ms}}",
                 "48: interval is out of bounds: \"50ms\" (expected a duration from 100ms to 1h)");
    refuse_group("{targets: \"a:1\", health_check: {healthy_threshold: 0}}",
                 "57: healthy_threshold is out of bounds: \"0\" (expected a number from 1 to 10)");
    refuse_group("{targets: \"a:1\", timeouts: {connect: 0}}",
                 "43: connect is out of bounds: \"0\" (expected a duration from 1ms to 10m)");
}

/* ---- the tables themselves ---- */

static void check_table(const struct gw_section *section)
{
    assert_non_null(section->help);
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        if (row->help == NULL || strlen(row->help) < 10 || row->help[strlen(row->help) - 1] != '.')
            fail_msg("%s.%s has no sentence of help", section->name, row->name);
        assert_true(row->offset < section->size);
        if (row->section != NULL)
            check_table(row->section);
    }
}

static void every_setting_has_a_sentence_of_help(void **state)
{
    check_table(&routing_route_section);
    check_table(&routing_target_group_section);
}

/* What --print writes must mean the same when it is read again. */
static void printed_configuration_can_be_read_again(void **state)
{
    static const char yaml[] =
        "name: a\n"
        "priority: 3\n"
        "match: {host: [a.com, \"*.b.com\"], path: \"/x*\", header: {x-a: [\"1\", \"2*\"]}, query: {\"*\": \"true\"},\n"
        "        source_ip: 10.0.0.0/8, method: GET, listener: http}\n"
        "rewrite: {path: \"^/x(.*)$\", to: \"/$1\"}\n"
        "request_headers: {set: {x-b: \"1\"}, remove: x-c}\n"
        "forward: [{group: a, weight: 9}, {group: b}]\n";
    struct routing_route_conf first, second;
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    char *printed, *again;
    size_t len, len_again;

    h2o_mem_init_pool(&pool);
    gw_errors_init(&errors);
    struct gw_loader loader = {&pool, &errors};
    struct gw_node *node = gw_yaml_load_text(&pool, "t.yaml", text_of(yaml), false, NULL, &errors);
    assert_true(gw_settings_load(&loader, &routing_route_section, node, &first));
    FILE *out = open_memstream(&printed, &len);
    gw_settings_print(out, &routing_route_section, &first);
    fclose(out);
    node = gw_yaml_load_text(&pool, "printed.yaml", text_of(printed), false, NULL, &errors);
    assert_non_null(node);
    if (!gw_settings_load(&loader, &routing_route_section, node, &second)) {
        gw_errors_print(&errors, stdout);
        fail_msg("%s", printed);
    }
    out = open_memstream(&again, &len_again);
    gw_settings_print(out, &routing_route_section, &second);
    fclose(out);
    assert_string_equal(printed, again);
    assert_non_null(strstr(printed, "2*"));
    assert_int_equal(second.match.header.size, 1);
    assert_int_equal(second.match.header.entries[0].values.size, 2);
    assert_int_equal(second.forward->groups.size, 2);
    free(printed);
    free(again);
    gw_errors_dispose(&errors);
    h2o_mem_clear_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_action_is_recognised),
        cmocka_unit_test(route_needs_exactly_one_action),
        cmocka_unit_test(forward_is_a_name_a_group_or_a_weighted_list),
        cmocka_unit_test(bad_forwards_are_refused),
        cmocka_unit_test(forward_with_only_zero_weights_is_a_warning),
        cmocka_unit_test(respond_has_its_defaults_and_bounds),
        cmocka_unit_test(files_have_their_defaults_and_bounds),
        cmocka_unit_test(bad_hosts_are_refused),
        cmocka_unit_test(paths_that_could_never_match_are_refused),
        cmocka_unit_test(path_patterns_that_can_match_are_taken),
        cmocka_unit_test(bad_headers_and_queries_are_refused),
        cmocka_unit_test(pairs_keep_names_values_and_places),
        cmocka_unit_test(methods_are_words_and_lower_case_ones_are_a_warning),
        cmocka_unit_test(route_has_its_defaults),
        cmocka_unit_test(target_group_has_its_defaults),
        cmocka_unit_test(target_group_takes_all_its_settings),
        cmocka_unit_test(short_interval_brings_a_short_timeout),
        cmocka_unit_test(checks_can_be_turned_off),
        cmocka_unit_test(empty_target_group_is_a_warning),
        cmocka_unit_test(bad_target_groups_are_refused),
        cmocka_unit_test(every_setting_has_a_sentence_of_help),
        cmocka_unit_test(printed_configuration_can_be_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
