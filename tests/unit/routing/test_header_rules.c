#include "tests/unit/routing/load.h"
#include "routing/header_rules.h"

static void add(struct loaded *loaded, h2o_headers_t *headers, const char *name, const char *value)
{
    h2o_add_header_by_str(&loaded->pool, headers, name, strlen(name), 1, NULL, value, strlen(value));
}

/* "name: value|name: value" after the rules of the first route were applied to the headers given in pairs. */
static void assert_headers(const char *rules, const char *const *given, const char *expected)
{
    struct loaded loaded;
    char yaml[1024], text[2048] = "";
    h2o_headers_t headers = {NULL};

    snprintf(yaml, sizeof(yaml), "routes: [{echo: true, request_headers: %s}]\n", rules);
    load(&loaded, yaml);
    assert_findings(&loaded, "");
    struct routing_header_rules *compiled = routing_header_rules_create(&loaded_route(&loaded, 0)->request_headers);
    assert_non_null(compiled);
    for (; *given != NULL; given += 2)
        add(&loaded, &headers, given[0], given[1]);
    routing_header_rules_apply(compiled, &loaded.pool, &headers);
    for (size_t i = 0; i != headers.size; ++i) {
        const h2o_header_t *header = headers.entries + i;
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%.*s: %.*s", i == 0 ? "" : "|",
                 (int)header->name->len, header->name->base, (int)header->value.len, header->value.base);
    }
    assert_string_equal(text, expected);
    routing_header_rules_destroy(compiled);
    unload(&loaded);
}

static const char *const given[] = {"x-a", "1", "accept", "text/html", "x-b", "2", "x-a", "3", NULL};

static void set_replaces_every_line_of_the_name(void **state)
{
    assert_headers("{set: {X-A: new}}", given, "accept: text/html|x-b: 2|x-a: new");
    assert_headers("{set: {Accept: \"*/*\", x-new: \"\"}}", given, "x-a: 1|x-b: 2|x-a: 3|accept: */*|x-new: ");
}

static void add_keeps_what_is_there(void **state)
{
    assert_headers("{add: {x-A: 9}}", given, "x-a: 1|accept: text/html|x-b: 2|x-a: 3|x-a: 9");
}

static void remove_takes_every_line_of_the_name(void **state)
{
    assert_headers("{remove: [X-A, accept, x-absent]}", given, "x-b: 2");
    assert_headers("{remove: x-b}", given, "x-a: 1|accept: text/html|x-a: 3");
}

static void rules_work_in_the_order_remove_set_add(void **state)
{
    assert_headers("{add: {x-a: added, x-c: added}, set: {x-a: set}, remove: [x-a, x-c]}", given,
                   "accept: text/html|x-b: 2|x-a: set|x-a: added|x-c: added");
}

static void known_names_are_interned_as_tokens(void **state)
{
    struct loaded loaded;
    h2o_headers_t headers = {NULL};
    load(&loaded, "routes: [{echo: true, response_headers: {set: {Cache-Control: no-store, x-own: 1}}}]\n");
    struct routing_header_rules *compiled = routing_header_rules_create(&loaded_route(&loaded, 0)->response_headers);
    routing_header_rules_apply(compiled, &loaded.pool, &headers);
    assert_int_equal(headers.size, 2);
    assert_ptr_equal(headers.entries[0].name, &H2O_TOKEN_CACHE_CONTROL->buf);
    assert_false(h2o_iovec_is_token(headers.entries[1].name));
    routing_header_rules_destroy(compiled);
    unload(&loaded);
}

static void known_name_that_was_not_interned_is_found(void **state)
{
    struct loaded loaded;
    h2o_headers_t headers = {NULL};
    h2o_iovec_t name = text_of("cache-control");
    load(&loaded, "routes: [{echo: true, response_headers: {remove: Cache-Control}}]\n");
    struct routing_header_rules *compiled = routing_header_rules_create(&loaded_route(&loaded, 0)->response_headers);
    h2o_vector_reserve(&loaded.pool, &headers, 1);
    headers.entries[headers.size++] = (h2o_header_t){&name, NULL, text_of("x")};
    routing_header_rules_apply(compiled, &loaded.pool, &headers);
    assert_int_equal(headers.size, 0);
    routing_header_rules_destroy(compiled);
    unload(&loaded);
}

static void no_rule_compiles_to_nothing(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes: [{echo: true}, {echo: true, name: b, request_headers: {}}]\n");
    assert_findings(&loaded, "");
    assert_null(routing_header_rules_create(&loaded_route(&loaded, 0)->request_headers));
    assert_null(routing_header_rules_create(&loaded_route(&loaded, 1)->request_headers));
    unload(&loaded);
}

static void names_that_weir_writes_itself_are_refused(void **state)
{
    static const char *const names[] = {"Connection", "Keep-Alive", "Proxy-Connection",  "TE",
                                        "Trailer",    "Upgrade",    "transfer-encoding", "CONTENT-LENGTH"};
    static const char *const forms[] = {"set: {%s: x}", "add: {%s: x}", "remove: [%s]"};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        for (size_t j = 0; j != 3; ++j) {
            char rule[128], yaml[256], expected[256];
            snprintf(rule, sizeof(rule), forms[j], names[i]);
            snprintf(yaml, sizeof(yaml), "routes: [{echo: true, request_headers: {%s}}]\n", rule);
            int column = (int)(strstr(yaml, j == 2 ? names[i] : "x}}") - yaml) + 1;
            snprintf(expected, sizeof(expected),
                     "t.yaml:1:%d: \"%s\" cannot be changed by header rules: weir writes it itself\n", column,
                     names[i]);
            assert_refused(yaml, expected);
        }
}

static void bad_header_rules_are_refused(void **state)
{
    assert_refused("routes: [{echo: true, request_headers: {set: {Host: x}}}]\n",
                   "t.yaml:1:53: Host cannot be changed by header rules (use \"rewrite: {host: ...}\")\n");
    assert_refused("routes: [{echo: true, request_headers: {set: {\":path\": x}}}]\n",
                   "t.yaml:1:56: \":path\" is not a header name\n");
    assert_refused("routes: [{echo: true, request_headers: {remove: \"a b\"}}]\n",
                   "t.yaml:1:49: \"a b\" is not a header name\n");
    assert_refused("routes: [{echo: true, request_headers: {set: {x: \"a\\nb\"}}}]\n",
                   "t.yaml:1:50: the value of header \"x\" has a control character or a space at its end\n");
    assert_refused("routes: [{echo: true, request_headers: {add: {x: \"a \"}}}]\n",
                   "t.yaml:1:50: the value of header \"x\" has a control character or a space at its end\n");
    assert_refused("routes: [{echo: true, request_headers: {set: {x-a: 1, X-A: 2}}}]\n",
                   "t.yaml:1:60: header \"X-A\" is set twice\n");
}

static void tokens_and_field_values_follow_rfc_9110(void **state)
{
    assert_true(routing_is_token(text_of("!#$%&'*+-.^_`|~09azAZ")));
    for (int c = 0; c != 256; ++c) {
        char byte = (char)c;
        bool is_tchar = c != 0 && c < 0x80 &&
                        (strchr("!#$%&'*+-.^_`|~", c) != NULL || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                         (c >= 'A' && c <= 'Z'));
        assert_int_equal(routing_is_token(h2o_iovec_init(&byte, 1)), is_tchar);
        char value[3] = {'a', byte, 'b'};
        assert_int_equal(routing_is_field_value(h2o_iovec_init(value, 3)), c == '\t' || (c >= 0x20 && c != 0x7f));
    }
    assert_false(routing_is_token(text_of("")));
    assert_true(routing_is_field_value(text_of("")));
    assert_false(routing_is_field_value(text_of(" a")));
    assert_false(routing_is_field_value(text_of("a\t")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_replaces_every_line_of_the_name),
        cmocka_unit_test(add_keeps_what_is_there),
        cmocka_unit_test(remove_takes_every_line_of_the_name),
        cmocka_unit_test(rules_work_in_the_order_remove_set_add),
        cmocka_unit_test(known_names_are_interned_as_tokens),
        cmocka_unit_test(known_name_that_was_not_interned_is_found),
        cmocka_unit_test(no_rule_compiles_to_nothing),
        cmocka_unit_test(names_that_weir_writes_itself_are_refused),
        cmocka_unit_test(bad_header_rules_are_refused),
        cmocka_unit_test(tokens_and_field_values_follow_rfc_9110),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
