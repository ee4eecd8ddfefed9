#include "tests/unit/routing/load.h"
#include "routing/table.h"

/* A table made from YAML, and requests to it. */
struct fixture {
    struct loaded loaded;
    struct routing_table *table;
};

static void set_up(struct fixture *self, const char *yaml)
{
    static const h2o_iovec_t listeners[] = {{H2O_STRLIT("http")}, {H2O_STRLIT("https")}};
    load(&self->loaded, yaml);
    if (!self->loaded.is_ok)
        assert_findings(&self->loaded, "");
    self->table = routing_table_create(&self->loaded.root.routes, listeners, 2, &self->loaded.errors);
}

static void tear_down(struct fixture *self)
{
    routing_table_destroy(self->table);
    unload(&self->loaded);
}

static struct routing_facts request(const char *host, const char *path)
{
    struct routing_facts facts = {.method = text_of("GET"), .host = text_of(host)};
    const char *query = strchr(path, '?');
    facts.path = facts.raw_path = h2o_iovec_init(path, query != NULL ? (size_t)(query - path) : strlen(path));
    if (query != NULL)
        facts.query = text_of(query + 1);
    gw_ip_parse(text_of("192.0.2.1"), &facts.peer_ip);
    return facts;
}

/* Name of the route that takes the request, "-" if none does. */
static const char *winner(const struct fixture *self, const struct routing_facts *facts)
{
    const struct routing_route *route = routing_table_match(self->table, facts, NULL);
    return route != NULL ? route->conf->name.base : "-";
}

static const char *get(const struct fixture *self, const char *host, const char *path)
{
    struct routing_facts facts = request(host, path);
    return winner(self, &facts);
}

/* The table of one route with these conditions takes the request. */
static bool takes(const char *match, const struct routing_facts *facts)
{
    struct fixture fixture;
    char yaml[1024];
    snprintf(yaml, sizeof(yaml), "routes: [{name: it, echo: true, match: %s}]\n", match);
    set_up(&fixture, yaml);
    assert_findings(&fixture.loaded, "");
    bool is_taken = strcmp(winner(&fixture, facts), "it") == 0;
    tear_down(&fixture);
    return is_taken;
}

static bool takes_url(const char *match, const char *host, const char *path)
{
    struct routing_facts facts = request(host, path);
    return takes(match, &facts);
}

/* ---- conditions ---- */

/* spec/alb.md vector 1 */
static void path_glob_is_case_sensitive_and_takes_the_whole_path_without_query(void **state)
{
    assert_true(takes_url("{path: \"/img/*\"}", "h", "/img/a.png?x=1"));
    assert_false(takes_url("{path: \"/img/*\"}", "h", "/IMG/a.png"));
    assert_false(takes_url("{path: \"/img/*\"}", "h", "/img"));
    assert_true(takes_url("{path: \"/img/*/pics\"}", "h", "/img/a/b/pics"));
    assert_true(takes_url("{path: \"/a?c\"}", "h", "/abc"));
    assert_false(takes_url("{path: \"/a?c\"}", "h", "/ac"));
    assert_true(takes_url("{path: '/a\\*'}", "h", "/a*"));
    assert_false(takes_url("{path: '/a\\*'}", "h", "/ab"));
}

static void path_prefix_takes_whole_segments(void **state)
{
    assert_true(takes_url("{path_prefix: /a}", "h", "/a"));
    assert_true(takes_url("{path_prefix: /a}", "h", "/a/"));
    assert_true(takes_url("{path_prefix: /a}", "h", "/a/b/c"));
    assert_false(takes_url("{path_prefix: /a}", "h", "/ab"));
    assert_false(takes_url("{path_prefix: /a}", "h", "/"));
    assert_true(takes_url("{path_prefix: /a/}", "h", "/a/"));
    assert_true(takes_url("{path_prefix: /a/}", "h", "/a/b"));
    assert_false(takes_url("{path_prefix: /a/}", "h", "/a"));
    assert_true(takes_url("{path_prefix: /}", "h", "/anything"));
    /* wildcards mean nothing here */
    assert_false(takes_url("{path_prefix: \"/*\"}", "h", "/a"));
    assert_true(takes_url("{path_prefix: \"/*\"}", "h", "/*/a"));
}

static void path_exact_takes_only_itself(void **state)
{
    assert_true(takes_url("{path_exact: [/a, /b]}", "h", "/b"));
    assert_false(takes_url("{path_exact: /a}", "h", "/a/"));
    assert_false(takes_url("{path_exact: \"/a*\"}", "h", "/ab"));
}

static void path_regex_is_searched_unless_anchored(void **state)
{
    assert_true(takes_url("{path_regex: \"v[0-9]+\"}", "h", "/api/v12/x"));
    assert_false(takes_url("{path_regex: \"^v[0-9]+\"}", "h", "/api/v12/x"));
    assert_true(takes_url("{path_regex: \"^/a(/b)?$\"}", "h", "/a"));
    assert_false(takes_url("{path_regex: \"^/a(/b)?$\"}", "h", "/a/"));
    assert_true(takes_url("{path_regex: \"^/ab?$\"}", "h", "/a"));
    assert_true(takes_url("{path_regex: \"^/x|^/y\"}", "h", "/y"));
}

static void host_regex_is_searched_ignoring_case_beside_globs(void **state)
{
    assert_true(takes_url("{host_regex: '^API-[0-9]+\\.example\\.com$'}", "api-7.example.com", "/"));
    assert_false(takes_url("{host_regex: '^api-[0-9]+\\.example\\.com$'}", "api-x.example.com", "/"));
    assert_true(takes_url("{host_regex: 'internal'}", "my.internal.net", "/"));
    const char *both = "{host: \"*.shop.example\", host_regex: '^shop[0-9]$'}";
    assert_true(takes_url(both, "a.shop.example", "/"));
    assert_true(takes_url(both, "shop3", "/"));
    assert_false(takes_url(both, "shop33", "/"));
}

static bool takes_header_value(const char *match, const char *name, const char *value)
{
    h2o_iovec_t key = text_of(name);
    h2o_header_t headers[] = {{&key, NULL, text_of("nothing")}, {&key, NULL, text_of(value)}};
    struct routing_facts facts = request("h", "/");
    facts.headers = headers;
    facts.num_headers = 2;
    return takes(match, &facts);
}

/* spec/alb.md 2.2: each occurrence of the header, name and value without case */
static void header_regex_is_searched_in_each_line(void **state)
{
    const char *match = "{header_regex: {User-Agent: ['^curl/[0-9]', 'BOT']}}";
    assert_true(takes_header_value(match, "user-agent", "Curl/8"));
    assert_true(takes_header_value(match, "user-agent", "some robots"));
    assert_false(takes_header_value(match, "user-agent", "xcurl/8"));
    assert_false(takes_header_value(match, "x-agent", "curl/8"));
}

static void header_named_twice_must_have_both_values(void **state)
{
    const char *match = "{header: [{x-a: \"*one*\"}, {x-a: [\"*two*\", \"*three*\"]}]}";
    assert_true(takes_header_value(match, "x-a", "one two"));
    assert_true(takes_header_value(match, "x-a", "three, one"));
    assert_false(takes_header_value(match, "x-a", "one"));
    assert_false(takes_header_value(match, "x-a", "two"));
    assert_true(takes_url("{query: [{k: a}, {k: b}]}", "h", "/?k=a&k=b"));
    assert_false(takes_url("{query: [{k: a}, {k: b}]}", "h", "/?k=a"));
}

static void kinds_of_path_conditions_are_alternatives(void **state)
{
    const char *match = "{path: \"/g*\", path_prefix: /p, path_exact: /e, path_regex: \"^/r+$\"}";
    assert_true(takes_url(match, "h", "/glob"));
    assert_true(takes_url(match, "h", "/p/q"));
    assert_true(takes_url(match, "h", "/e"));
    assert_true(takes_url(match, "h", "/rrr"));
    assert_false(takes_url(match, "h", "/x"));
}

/* spec/alb.md vector 2; facts hold the host in lower case */
static void host_glob_ignores_case_and_takes_any_number_of_labels(void **state)
{
    assert_true(takes_url("{host: \"*.example.com\"}", "a.example.com", "/"));
    assert_true(takes_url("{host: \"*.EXAMPLE.Com\"}", "a.example.com", "/"));
    assert_false(takes_url("{host: \"*.example.com\"}", "example.com", "/"));
    assert_true(takes_url("{host: \"*.example.com\"}", "a.b.example.com", "/"));
    assert_true(takes_url("{host: [a.com, \"b.*\"]}", "b.org", "/"));
    assert_false(takes_url("{host: [a.com, \"b.*\"]}", "c.org", "/"));
    assert_true(takes_url("{host: \"*\"}", "", "/"));
    assert_false(takes_url("{host: a.com}", "", "/"));
    assert_true(takes_url("{host: \"[::1]\"}", "[::1]", "/"));
}

/* spec/alb.md vector 3 */
static void header_globs_ignore_case_and_any_line_of_the_name_will_do(void **state)
{
    h2o_iovec_t own = text_of("x-own");
    h2o_header_t headers[] = {
        {(h2o_iovec_t *)&H2O_TOKEN_USER_AGENT->buf, NULL, text_of("Mozilla Chrome/1")},
        {&own, NULL, text_of("one")},
        {&own, NULL, text_of("Two")},
    };
    struct routing_facts facts = request("h", "/");
    facts.headers = headers;
    facts.num_headers = 3;
    assert_true(takes("{header: {User-Agent: \"*chrome*\"}}", &facts));
    assert_true(takes("{header: {X-OWN: two}}", &facts));
    assert_true(takes("{header: {x-own: [three, \"o*\"]}}", &facts));
    assert_false(takes("{header: {x-own: three}}", &facts));
    assert_false(takes("{header: {x-absent: \"*\"}}", &facts));
    assert_true(takes("{header: {x-own: \"*\", user-agent: \"*\"}}", &facts));
    assert_false(takes("{header: {x-own: \"*\", x-absent: \"*\"}}", &facts));
}

/* spec/alb.md vector 4 */
static void query_pairs_are_compared_as_sent_ignoring_case(void **state)
{
    assert_true(takes_url("{query: {k: 'a\\*b'}}", "h", "/?k=a*b"));
    assert_false(takes_url("{query: {k: 'a\\*b'}}", "h", "/?k=axb"));
    assert_true(takes_url("{query: {\"*\": 'a\\*b'}}", "h", "/?k=a*b"));
    assert_true(takes_url("{query: {Version: V1}}", "h", "/?x=y&VERSION=v1&z"));
    assert_true(takes_url("{query: {debug: \"*\"}}", "h", "/?debug"));
    assert_true(takes_url("{query: {debug: \"\"}}", "h", "/?a&debug=&b"));
    assert_false(takes_url("{query: {debug: \"?*\"}}", "h", "/?debug="));
    assert_false(takes_url("{query: {debug: \"*\"}}", "h", "/"));
    assert_false(takes_url("{query: {debug: \"*\"}}", "h", "/?"));
    assert_false(takes_url("{query: {\"*\": \"*\"}}", "h", "/?&&"));
    assert_true(takes_url("{query: {k: \"a=b\"}}", "h", "/?k=a=b"));
    assert_false(takes_url("{query: {k: \"a b\"}}", "h", "/?k=a%20b")); /* not decoded */
    assert_true(takes_url("{query: {a: \"1\", b: [\"2\", \"3\"]}}", "h", "/?b=3&a=1"));
    assert_false(takes_url("{query: {a: \"1\", b: [\"2\", \"3\"]}}", "h", "/?b=4&a=1"));
}

static void method_is_case_sensitive(void **state)
{
    struct routing_facts facts = request("h", "/");
    assert_true(takes("{method: [POST, GET]}", &facts));
    assert_false(takes("{method: POST}", &facts));
    facts.method = text_of("get");
    assert_false(takes("{method: GET}", &facts));
}

static void source_ip_is_the_peer_and_not_the_forwarded_client(void **state)
{
    struct routing_facts facts = request("h", "/");
    assert_true(gw_ip_parse(text_of("10.1.2.3"), &facts.peer_ip));
    assert_true(gw_ip_parse(text_of("8.8.8.8"), &facts.client_ip));
    assert_true(takes("{source_ip: 10.0.0.0/8}", &facts));
    assert_false(takes("{source_ip: 8.8.8.8}", &facts));
    assert_true(takes("{source_ip: [\"2001:db8::/32\", 10.1.2.3]}", &facts));
    assert_true(gw_ip_parse(text_of("2001:db8::5"), &facts.peer_ip));
    assert_true(takes("{source_ip: [\"2001:db8::/32\", 10.1.2.3]}", &facts));
    assert_false(takes("{source_ip: 0.0.0.0/0}", &facts));
}

static void listener_is_found_by_name(void **state)
{
    struct routing_facts facts = request("h", "/");
    assert_true(takes("{listener: http}", &facts));
    assert_false(takes("{listener: https}", &facts));
    facts.listener = 1;
    assert_true(takes("{listener: [https]}", &facts));
    assert_true(takes("{listener: [https, http]}", &facts));
}

static void different_conditions_must_all_hold(void **state)
{
    const char *match = "{host: a.com, path: \"/x*\", method: GET}";
    assert_true(takes_url(match, "a.com", "/xy"));
    assert_false(takes_url(match, "b.com", "/xy"));
    assert_false(takes_url(match, "a.com", "/y"));
}

static void options_asterisk_is_taken_by_routes_without_path(void **state)
{
    assert_true(takes_url("{host: h}", "h", "*"));
    assert_false(takes_url("{path_prefix: /}", "h", "*"));
    assert_false(takes_url("{path: \"/*\"}", "h", "*"));
}

/* ---- order ---- */

static void first_route_of_the_file_wins_whatever_is_more_specific(void **state)
{
    struct fixture fixture;
    set_up(&fixture, "routes:\n"
                     "  - {name: glob, echo: true, match: {host: \"*.com\", path: \"/a*\"}}\n"
                     "  - {name: exact, echo: true, match: {host: x.com, path_exact: /b}}\n"
                     "  - {name: prefix, echo: true, match: {path_prefix: /}}\n"
                     "  - {name: rest, echo: true}\n");
    assert_string_equal(get(&fixture, "x.com", "/ab"), "glob");
    assert_string_equal(get(&fixture, "x.com", "/b"), "exact");
    assert_string_equal(get(&fixture, "y.com", "/b"), "prefix");
    assert_string_equal(get(&fixture, "y.com", "*"), "rest");
    tear_down(&fixture);
}

static void priority_comes_before_the_order_of_the_file(void **state)
{
    struct fixture fixture;
    set_up(&fixture, "routes:\n"
                     "  - {name: plain, echo: true, match: {path: \"/a*\"}}\n"
                     "  - {name: ten, priority: 10, echo: true, match: {path: \"/ab*\"}}\n"
                     "  - {name: two, priority: 2, echo: true, match: {path: \"/abc*\"}}\n"
                     "  - {name: ten_too, priority: 10, echo: true, match: {path: \"/?bcd*\"}}\n"
                     "  - {name: last, echo: true}\n");
    assert_string_equal(get(&fixture, "h", "/a"), "plain");
    assert_string_equal(get(&fixture, "h", "/ab"), "ten");
    assert_string_equal(get(&fixture, "h", "/abcd"), "two");
    assert_string_equal(get(&fixture, "h", "/xbcd"), "ten_too");
    assert_string_equal(get(&fixture, "h", "/"), "last");
    assert_int_equal(routing_table_size(fixture.table), 5);
    assert_string_equal(routing_table_at(fixture.table, 0)->conf->name.base, "two");
    assert_string_equal(routing_table_at(fixture.table, 4)->conf->name.base, "last");
    for (size_t i = 0; i != 5; ++i)
        assert_int_equal(routing_table_at(fixture.table, i)->index, i);
    tear_down(&fixture);
}

static void route_whose_other_conditions_fail_lets_the_next_one_try(void **state)
{
    struct fixture fixture;
    set_up(&fixture, "routes:\n"
                     "  - {name: post, echo: true, match: {path: \"/a*\", method: POST}}\n"
                     "  - {name: debug, echo: true, match: {path: \"/a*\", query: {debug: \"*\"}}}\n"
                     "  - {name: get, echo: true, match: {path: \"/a*\"}}\n");
    assert_string_equal(get(&fixture, "h", "/a"), "get");
    assert_string_equal(get(&fixture, "h", "/a?debug"), "debug");
    tear_down(&fixture);
}

static void empty_table_takes_nothing(void **state)
{
    struct fixture fixture;
    set_up(&fixture, "routes: []\n");
    assert_non_null(fixture.table);
    assert_string_equal(get(&fixture, "h", "/"), "-");
    assert_int_equal(routing_table_size(fixture.table), 0);
    tear_down(&fixture);
}

/* ---- large tables ---- */

static void ten_thousand_routes_are_each_found(void **state)
{
    static const struct {
        const char *match, *host, *path;
    } shapes[] = {
        {"{host: host%u.example.com}", "host%u.example.com", "/"},
        {"{host: \"*.zone%u.example.com\"}", "a.b.zone%u.example.com", "/"},
        {"{host: a.com, path_prefix: /thing%u}", "a.com", "/thing%u/x"},
        {"{path: \"/api/v1/thing%u/*\"}", "any", "/api/v1/thing%u/"},
        {"{path: \"*/%u.jpg\"}", "any", "/x/y/%u.jpg"},
        {"{path_exact: /%u}", "any", "/%u"},
        {"{path_regex: \"^/r%u[a-c]$\"}", "any", "/r%ub"},
    };
    enum { N = 10000 };
    for (size_t s = 0; s != sizeof(shapes) / sizeof(shapes[0]); ++s) {
        unsigned n = strstr(shapes[s].match, "regex") != NULL ? 500 : N;
        struct fixture fixture;
        char *yaml, host[64], path[64], name[32];
        size_t len;
        FILE *out = open_memstream(&yaml, &len);
        fputs("routes:\n", out);
        for (unsigned i = 0; i != n; ++i) {
            fprintf(out, "  - {name: r%u, echo: true, match: ", i);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            fprintf(out, shapes[s].match, i);
            fputs("}\n", out);
        }
        fclose(out);
        set_up(&fixture, yaml);
        assert_findings(&fixture.loaded, "");
        for (unsigned i = 0; i != n; ++i) {
            sprintf(host, shapes[s].host, i);
            sprintf(path, shapes[s].path, i);
#pragma GCC diagnostic pop
            sprintf(name, "r%u", i);
            assert_string_equal(get(&fixture, host, path), name);
        }
        assert_string_equal(get(&fixture, "nobody", "/nothing"), "-");
        tear_down(&fixture);
        free(yaml);
    }
}

/* ---- findings ---- */

static void assert_table_findings(const char *yaml, const char *expected)
{
    struct fixture fixture;
    set_up(&fixture, yaml);
    assert_findings(&fixture.loaded, expected);
    if (fixture.loaded.errors.num_errors != 0)
        assert_null(fixture.table);
    else
        assert_non_null(fixture.table);
    tear_down(&fixture);
}

static void unknown_listener_is_reported_with_the_nearest_name(void **state)
{
    assert_table_findings("routes:\n"
                          "  - {echo: true, match: {listener: htps}}\n"
                          "  - {echo: true, match: {listener: [http, admin]}}\n",
                          "t.yaml:2:36: unknown listener \"htps\" (did you mean \"https\"?)\n"
                          "t.yaml:3:43: unknown listener \"admin\"\n");
}

static void name_given_twice_is_reported_with_both_places(void **state)
{
    assert_table_findings("routes:\n"
                          "  - {name: a, echo: true, match: {path: /a}}\n"
                          "  - {name: a, echo: true}\n",
                          "t.yaml:3:12: route \"a\" is defined twice (first at t.yaml:2:12)\n");
}

/* "a" at line 2 with the first match, "b" at line 3 with the second: b is reported as unreachable, or nothing is. */
static void assert_covers(const char *first, const char *second, bool is_covered)
{
    char yaml[1024];
    snprintf(yaml, sizeof(yaml),
             "routes:\n  - {name: a, echo: true, match: %s}\n  - {name: b, echo: true, match: %s}\n", first, second);
    assert_table_findings(
        yaml,
        is_covered
            ? "t.yaml:3:5: warning: route \"b\" is never reached: \"a\" at t.yaml:2:5 takes every request before it\n"
            : "");
}

static void route_after_one_that_takes_all_its_requests_is_reported(void **state)
{
    static const char *const pairs[][2] = {
        {"{}", "{}"},
        {"{}", "{host: a.com, path: \"/x*\", method: GET}"},
        {"{path: \"/*\"}", "{}"},
        {"{path: \"*\"}", "{path_regex: \"x\"}"},
        {"{path_prefix: /}", "{path_regex: \"x\"}"},
        {"{path: /a}", "{path: /a}"},
        {"{path: /a}", "{path_exact: /a}"},
        {"{path_exact: /a}", "{path: /a}"},
        {"{path: \"/a*\"}", "{path: \"/ab*\"}"},
        {"{path: \"/a*\"}", "{path_prefix: /a/b}"},
        {"{path: \"/a*\"}", "{path_prefix: /a}"},
        {"{path: \"/a*\"}", "{path_regex: \"^/ab+$\"}"},
        {"{path_prefix: /a}", "{path_exact: /a}"},
        {"{path_prefix: /a}", "{path_prefix: /a/}"},
        {"{path_prefix: /a}", "{path: \"/a/*\"}"},
        {"{path: \"*.jpg\"}", "{path: \"/img/*.jpg\"}"},
        {"{path: \"/*.???\"}", "{path: \"/img/*.j?g\"}"},
        {"{path_regex: \"^/a\"}", "{path_regex: \"^/a\"}"},
        {"{path_regex: \"^/a\"}", "{path_exact: /abc}"},
        {"{host: \"*.a.com\"}", "{host: x.a.com}"},
        {"{host: \"*.a.com\"}", "{host: \"*.X.a.com\"}"},
        {"{host: \"*\"}", "{}"},
        {"{host: a.com}", "{host: A.COM, path: /x}"},
        {"{host: [a.com, b.com]}", "{host: [b.com, a.com]}"},
        {"{method: [GET, POST]}", "{method: POST}"},
        {"{listener: [http, https]}", "{listener: https}"},
        {"{header: {x-a: \"*\"}}", "{header: {X-A: \"1*\", x-b: \"2\"}}"},
        {"{query: {\"*\": \"*\"}}", "{query: {a: \"1\"}}"},
        {"{source_ip: 10.0.0.0/8}", "{source_ip: [10.1.0.0/16, 10.2.3.4]}"},
    };
    for (size_t i = 0; i != sizeof(pairs) / sizeof(pairs[0]); ++i)
        assert_covers(pairs[i][0], pairs[i][1], true);
}

static void route_that_has_requests_of_its_own_is_not_reported(void **state)
{
    static const char *const pairs[][2] = {
        {"{path: \"/a*\"}", "{}"},
        {"{path: \"/ab*\"}", "{path: \"/a*\"}"},
        {"{path: \"/a?\"}", "{path: \"/a*\"}"},
        {"{path: \"/a\\\\*\"}", "{path: \"/a*\"}"},
        {"{path: \"/a/*\"}", "{path_prefix: /a}"},
        {"{path_prefix: /a/}", "{path_prefix: /a}"},
        {"{path_prefix: /a}", "{path: \"/a*\"}"},
        {"{path_regex: \"^/a\"}", "{path: \"/ab*\"}"},
        {"{path: \"/ab*\"}", "{path_regex: \"^/ab?\"}"},
        {"{path: \"/a*\"}", "{path_regex: \"/ab\"}"},
        {"{path: \"/a*\"}", "{path_regex: \"^/a|^/b\"}"},
        {"{host: \"*.a.com\"}", "{host: a.com}"},
        {"{host: a.com}", "{host: [a.com, b.com]}"},
        {"{host: a.com}", "{}"},
        {"{method: GET}", "{}"},
        {"{method: GET}", "{method: [GET, POST]}"},
        {"{listener: http}", "{listener: https}"},
        {"{listener: http}", "{}"},
        {"{header: {x-a: \"1*\"}}", "{header: {x-a: \"*\"}}"},
        {"{header: {x-a: \"*\"}}", "{header: {x-b: \"*\"}}"},
        {"{header: {x-a: \"*\", x-b: \"*\"}}", "{header: {x-a: \"*\"}}"},
        {"{query: {a: \"*\"}}", "{query: {\"*\": \"*\"}}"},
        {"{query: {a: \"*\"}}", "{}"},
        {"{source_ip: 10.1.0.0/16}", "{source_ip: 10.0.0.0/8}"},
        {"{source_ip: 0.0.0.0/0}", "{}"},
    };
    for (size_t i = 0; i != sizeof(pairs) / sizeof(pairs[0]); ++i)
        assert_covers(pairs[i][0], pairs[i][1], false);
}

static void route_covered_by_several_is_reported_with_the_first(void **state)
{
    assert_table_findings("routes:\n"
                          "  - {name: a, echo: true, match: {host: a.com}}\n"
                          "  - {name: b, echo: true, match: {path: \"/b*\"}}\n"
                          "  - {name: c, echo: true, match: {host: [a.com, b.com], path: [/b/c, /bc]}}\n",
                          "t.yaml:4:5: warning: route \"c\" is never reached: \"a\" at t.yaml:2:5 and others take "
                          "every request before it\n");
}

static void priority_decides_which_route_is_unreachable(void **state)
{
    assert_table_findings(
        "routes:\n"
        "  - {name: a, echo: true, match: {path: /a}}\n"
        "  - {name: b, echo: true, priority: 1}\n",
        "t.yaml:2:5: warning: route \"a\" is never reached: \"b\" at t.yaml:3:5 takes every request before it\n");
}

/* ---- trace ---- */

static void trace_says_why_each_route_before_the_winner_lost(void **state)
{
    struct fixture fixture;
    struct gw_trace trace;
    h2o_header_t header = {(h2o_iovec_t *)&H2O_TOKEN_USER_AGENT->buf, NULL, text_of("curl")};
    static const struct {
        const char *text;
        unsigned line, column;
    } expected[] = {
        {"route \"host\" lost: host \"h\" does not match \"a.com\" or \"*.b.com\"", 2, 42},
        {"route \"users\" lost: path \"/x\" does not match \"/users/*\"", 3, 43},
        {"route \"many\" lost: path \"/x\" does not match \"/a\", \"/b\", \"/c\" and 2 more", 4, 49},
        {"route \"https\" lost: the listener is not \"https\"", 5, 47},
        {"route \"post\" lost: method \"GET\" is not \"POST\" or \"PUT\"", 6, 44},
        {"route \"office\" lost: peer 192.0.2.1 is in none of the networks of source_ip", 7, 49},
        {"route \"agent\" lost: header user-agent \"curl\" does not match \"*firefox*\"", 8, 44},
        {"route \"beta\" lost: there is no header x-beta (expected \"1\")", 9, 43},
        {"route \"debug\" lost: query \"a=b\" has no debug that matches \"*\"", 10, 43},
        {"route \"rest\" takes the request", 11, 5},
    };
    set_up(&fixture, "routes:\n"
                     "  - {name: host, echo: true, match: {host: [a.com, \"*.b.com\"]}}\n"
                     "  - {name: users, echo: true, match: {path: \"/users/*\"}}\n"
                     "  - {name: many, echo: true, match: {path_exact: [/a, /b, /c, /d, /e]}}\n"
                     "  - {name: https, echo: true, match: {listener: https}}\n"
                     "  - {name: post, echo: true, match: {method: [POST, PUT]}}\n"
                     "  - {name: office, echo: true, match: {source_ip: 10.0.0.0/8}}\n"
                     "  - {name: agent, echo: true, match: {header: {User-Agent: \"*firefox*\"}}}\n"
                     "  - {name: beta, echo: true, match: {header: {X-Beta: \"1\"}}}\n"
                     "  - {name: debug, echo: true, match: {query: {debug: \"*\"}}}\n"
                     "  - {name: rest, echo: true}\n"
                     "  - {name: after, echo: true, match: {path: /never}}\n");
    struct routing_facts facts = request("h", "/x?a=b");
    facts.headers = &header;
    facts.num_headers = 1;
    gw_trace_init(&trace);
    assert_string_equal(routing_table_match(fixture.table, &facts, &trace)->conf->name.base, "rest");
    assert_int_equal(trace.size, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i != trace.size; ++i) {
        assert_string_equal(trace.entries[i].stage, "route");
        assert_string_equal(trace.entries[i].text, expected[i].text);
        assert_int_equal(trace.entries[i].at->line, expected[i].line);
    }
    gw_trace_dispose(&trace);
    tear_down(&fixture);
}

static void trace_says_that_no_route_takes_the_request(void **state)
{
    struct fixture fixture;
    struct gw_trace trace;
    set_up(&fixture, "routes: [{name: a, echo: true, match: {path: /a}}]\n");
    struct routing_facts facts = request("h", "/b");
    gw_trace_init(&trace);
    assert_null(routing_table_match(fixture.table, &facts, &trace));
    assert_int_equal(trace.size, 2);
    assert_string_equal(trace.entries[1].text, "no route takes the request");
    gw_trace_dispose(&trace);
    tear_down(&fixture);
}

static void trace_of_a_large_table_prefers_the_routes_of_the_host(void **state)
{
    struct fixture fixture;
    struct gw_trace trace;
    char *yaml;
    size_t len;
    FILE *out = open_memstream(&yaml, &len);
    fputs("routes:\n", out);
    for (unsigned i = 0; i != 200; ++i)
        fprintf(out, "  - {name: r%u, echo: true, match: {host: %s, path: /%u}}\n", i, i >= 190 ? "a.com" : "b.com", i);
    fclose(out);
    set_up(&fixture, yaml);
    struct routing_facts facts = request("a.com", "/199");
    gw_trace_init(&trace);
    assert_string_equal(routing_table_match(fixture.table, &facts, &trace)->conf->name.base, "r199");
    assert_int_equal(trace.size, 52);
    assert_string_equal(trace.entries[0].text, "route \"r0\" lost: host \"a.com\" does not match \"b.com\"");
    assert_string_equal(trace.entries[41].text, "route \"r190\" lost: path \"/199\" does not match \"/190\"");
    assert_string_equal(trace.entries[49].text, "route \"r198\" lost: path \"/199\" does not match \"/198\"");
    assert_string_equal(trace.entries[50].text, "149 more routes lost");
    assert_string_equal(trace.entries[51].text, "route \"r199\" takes the request");
    gw_trace_dispose(&trace);
    tear_down(&fixture);
    free(yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_glob_is_case_sensitive_and_takes_the_whole_path_without_query),
        cmocka_unit_test(path_prefix_takes_whole_segments),
        cmocka_unit_test(path_exact_takes_only_itself),
        cmocka_unit_test(path_regex_is_searched_unless_anchored),
        cmocka_unit_test(host_regex_is_searched_ignoring_case_beside_globs),
        cmocka_unit_test(header_regex_is_searched_in_each_line),
        cmocka_unit_test(header_named_twice_must_have_both_values),
        cmocka_unit_test(kinds_of_path_conditions_are_alternatives),
        cmocka_unit_test(host_glob_ignores_case_and_takes_any_number_of_labels),
        cmocka_unit_test(header_globs_ignore_case_and_any_line_of_the_name_will_do),
        cmocka_unit_test(query_pairs_are_compared_as_sent_ignoring_case),
        cmocka_unit_test(method_is_case_sensitive),
        cmocka_unit_test(source_ip_is_the_peer_and_not_the_forwarded_client),
        cmocka_unit_test(listener_is_found_by_name),
        cmocka_unit_test(different_conditions_must_all_hold),
        cmocka_unit_test(options_asterisk_is_taken_by_routes_without_path),
        cmocka_unit_test(first_route_of_the_file_wins_whatever_is_more_specific),
        cmocka_unit_test(priority_comes_before_the_order_of_the_file),
        cmocka_unit_test(route_whose_other_conditions_fail_lets_the_next_one_try),
        cmocka_unit_test(empty_table_takes_nothing),
        cmocka_unit_test(ten_thousand_routes_are_each_found),
        cmocka_unit_test(unknown_listener_is_reported_with_the_nearest_name),
        cmocka_unit_test(name_given_twice_is_reported_with_both_places),
        cmocka_unit_test(route_after_one_that_takes_all_its_requests_is_reported),
        cmocka_unit_test(route_that_has_requests_of_its_own_is_not_reported),
        cmocka_unit_test(route_covered_by_several_is_reported_with_the_first),
        cmocka_unit_test(priority_decides_which_route_is_unreachable),
        cmocka_unit_test(trace_says_why_each_route_before_the_winner_lost),
        cmocka_unit_test(trace_says_that_no_route_takes_the_request),
        cmocka_unit_test(trace_of_a_large_table_prefers_the_routes_of_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
