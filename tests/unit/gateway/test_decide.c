#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/trace.h"
#include "gateway/decide.h"
#include "gateway/command/logged.h"

static const char text[] =
    "listeners: {http: {address: '127.0.0.1:8080'}, other: {address: '127.0.0.1:8081'},\n"
    "            https: {address: '127.0.0.1:8443', tls: {certificates: [a, b]}}}\n"
    "certificates: {a: {self_signed: [a.example]}, b: {self_signed: [b.example]}}\n"
    "trusted_proxies: [10.0.0.0/8]\n"
    "target_groups: {one: {targets: ['127.0.0.1:1']}, two: {targets: ['127.0.0.1:2']}, none: {targets: []}}\n"
    "routes:\n"
    "  - {name: split, match: {path: /split}, forward: [{group: one, weight: 3}, {group: two, weight: 1}, {group: "
    "none, "
    "weight: 0}]}\n"
    "  - {name: rewritten, match: {path: '/v1/*'}, rewrite: {path: '^/v1/(.*)$', to: '/v2/$1'},\n"
    "     request_headers: {set: {x-a: '1'}, remove: [x-b]}, response_headers: {set: {x-c: '2'}}, forward: one}\n"
    "  - {name: move, match: {path: /move}, redirect: {path: /moved, status: 302}, response_headers: {remove: "
    "[server]}}\n"
    "  - {name: say, match: {path: /say}, respond: {status: 203, body: x, content_type: text/x}}\n"
    "  - {name: files, match: {path: '/f/*'}, files: {root: /nonexistent}}\n"
    "  - {name: blind, match: {path: /blind, header: {user-agent: 'x*', x-other: '*'}}, echo: true}\n"
    "  - {name: seeing, match: {path: /seeing, header: {User-Agent: 'x*', X-Forwarded-For: '*'}}, echo: true}\n"
    "  - {name: empty, match: {path: /empty}, forward: none}\n";

struct fixture {
    struct gw_snapshot *snapshot;
    h2o_mem_pool_t pool;
    struct gw_decision decision;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load_text("t", h2o_iovec_init(text, sizeof(text) - 1), true, &errors);
    f.snapshot = config != NULL ? gw_snapshot_create(NULL, config, &errors) : NULL;
    if (f.snapshot == NULL)
        gw_errors_print(&errors, stderr);
    gw_errors_dispose(&errors);
    h2o_mem_init_pool(&f.pool);
    *state = &f;
    return f.snapshot == NULL;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    h2o_mem_clear_pool(&f->pool);
    gw_snapshot_release(f->snapshot);
    return 0;
}

static h2o_iovec_t slice(const char *s) { return h2o_iovec_init(s, strlen(s)); }
#define assert_slice(slice, text) assert_true(h2o_memis((slice).base, (slice).len, text, strlen(text)))

static struct gw_question question(struct fixture *f, const char *url)
{
    struct gw_question q = {.method = slice("GET")};
    const char *why;
    assert_true(gw_question_set_url(&q, url));
    gw_ip_parse(slice("192.0.2.1"), &q.peer);
    q.listener = gw_decide_listener(f->snapshot, &q, h2o_iovec_init(NULL, 0), &why);
    assert_non_null(q.listener);
    return q;
}

static const struct gw_request *decide(struct fixture *f, const struct gw_question *q)
{
    gw_decide(&f->pool, f->snapshot, q, "", NULL, &f->decision);
    return &f->decision.request;
}

static const struct gw_request *ask(struct fixture *f, const char *url)
{
    struct gw_question q = question(f, url);
    return decide(f, &q);
}

static h2o_iovec_t field(const h2o_headers_t *fields, const char *name)
{
    for (size_t i = 0; i != fields->size; ++i)
        if (h2o_lcstris(fields->entries[i].name->base, fields->entries[i].name->len, name, strlen(name)))
            return fields->entries[i].value;
    return h2o_iovec_init(NULL, 0);
}

static void urls_are_taken_apart(void **state)
{
    struct gw_question q = {.is_tls = true};
    assert_true(gw_question_set_url(&q, "HTTP://u.example:81?a=b#c"));
    assert_false(q.is_tls);
    assert_slice(q.authority, "u.example:81");
    assert_slice(q.host, "u.example");
    assert_slice(q.target, "?a=b");
    assert_int_equal(q.port, 81);
    assert_true(gw_question_set_url(&q, "https://[::1]/x"));
    assert_slice(q.host, "[::1]");
    assert_int_equal(q.port, 443);
    assert_false(gw_question_set_url(&q, "http://a/\r\nX: y"));
    assert_false(gw_question_set_url(&q, "http://a:99999/"));
    assert_false(gw_question_set_url(&q, "ftp://a/"));
    assert_false(gw_question_set_url(&q, "http:///x"));
}

static void the_listener_is_found_by_name_port_or_scheme(void **state)
{
    struct fixture *f = *state;
    const h2o_iovec_t none = {NULL, 0};
    struct gw_question q = {.is_tls = false, .port = 8081};
    const char *why;
    assert_slice(gw_decide_listener(f->snapshot, &q, none, &why)->name, "other");
    assert_slice(gw_decide_listener(f->snapshot, &q, slice("https"), &why)->name, "https");
    assert_null(gw_decide_listener(f->snapshot, &q, slice("htt"), &why));
    q.port = 80;
    assert_slice(gw_decide_listener(f->snapshot, &q, none, &why)->name, "http");
    q.is_tls = true;
    assert_slice(gw_decide_listener(f->snapshot, &q, none, &why)->name, "https");
}

static void what_a_target_would_get_is_noted(void **state)
{
    struct fixture *f = *state;
    const h2o_iovec_t lines[] = {slice("X-B: 7"), slice("X-D: 8")};
    struct gw_question q = question(f, "http://a/v1/x?y");
    q.lines = lines;
    q.num_lines = 2;
    const struct gw_request *request = decide(f, &q);
    assert_slice(gw_decision_route(&f->decision), "rewritten");
    assert_slice(gw_decision_group(&f->decision), "one");
    assert_int_equal(request->status, 0);
    assert_int_equal(request->reason, GW_REASON_NONE);
    assert_slice(f->decision.dry.target_url, "/v2/x?y");
    assert_slice(field(&f->decision.dry.target_fields, "x-a"), "1");
    assert_slice(field(&f->decision.dry.target_fields, "x-d"), "8");
    assert_null(field(&f->decision.dry.target_fields, "x-b").base);
    assert_slice(field(&f->decision.dry.answer_fields, "x-c"), "2");
    assert_null(field(&f->decision.dry.answer_fields, "server").base); /* the target's */
}

static void without_a_rewrite_the_target_gets_the_url_as_sent(void **state)
{
    struct fixture *f = *state;
    ask(f, "http://a/split?a=%20b");
    assert_slice(f->decision.dry.target_url, "/split?a=%20b");
}

static void the_fields_of_local_answers_are_noted(void **state)
{
    struct fixture *f = *state;
    const struct gw_request *request = ask(f, "http://a:8080/move");
    assert_int_equal(request->status, 302);
    assert_slice(field(&f->decision.dry.answer_fields, "location"), "http://a:8080/moved");
    assert_null(field(&f->decision.dry.answer_fields, "server").base);
    request = ask(f, "http://a/say");
    assert_int_equal(request->status, 203);
    assert_slice(field(&f->decision.dry.answer_fields, "content-type"), "text/x");
    assert_slice(field(&f->decision.dry.answer_fields, "server"), "weir");
}

static void weights_are_drawn_by_the_questions_number(void **state)
{
    struct fixture *f = *state;
    struct gw_question q = question(f, "http://a/split");
    decide(f, &q);
    assert_slice(gw_decision_group(&f->decision), "one");
    q.random = UINT32_MAX;
    decide(f, &q);
    assert_slice(gw_decision_group(&f->decision), "two");
    assert_true(gw_decision_may_use_group(&f->decision, slice("one")));
    assert_true(gw_decision_may_use_group(&f->decision, slice("two")));
    assert_false(gw_decision_may_use_group(&f->decision, slice("none"))); /* weight 0 */
    ask(f, "http://a/move");
    assert_false(gw_decision_may_use_group(&f->decision, slice("one")));
}

static void the_disk_is_asked_only_where_it_may_be(void **state)
{
    struct fixture *f = *state;
    struct gw_question q = question(f, "http://a/f/x");
    assert_int_equal(decide(f, &q)->status, 404);
    q.skips_files = true;
    const struct gw_request *request = decide(f, &q);
    assert_int_equal(request->status, 0);
    assert_int_equal(request->reason, GW_REASON_FILE_SERVED);
}

static void a_refused_head_is_a_decision(void **state)
{
    struct fixture *f = *state;
    const h2o_iovec_t line = slice("bad name: x");
    struct gw_question q = question(f, "http://a/");
    q.lines = &line;
    q.num_lines = 1;
    const struct gw_request *request = decide(f, &q);
    assert_int_equal(request->status, 400);
    assert_int_not_equal(f->decision.head_result, GW_HEAD_OK);
    assert_slice(gw_decision_route(&f->decision), "-");
}

static void without_an_authority_it_is_http_1_0(void **state)
{
    struct fixture *f = *state;
    struct gw_question q = question(f, "http://a/say");
    q.authority = h2o_iovec_init(NULL, 0);
    assert_int_equal(decide(f, &q)->status, 203);
    assert_int_equal(f->decision.request.facts.host.len, 0);
}

static void the_certificate_is_chosen_by_name_when_asked_for(void **state)
{
    struct fixture *f = *state;
    struct gw_question q = question(f, "https://B.example/say");
    decide(f, &q);
    assert_null(f->decision.certificate);
    q.with_certificate = true;
    decide(f, &q);
    assert_slice(f->decision.certificate->name, "b");
}

/* ---- logged requests ---- */

static void a_logged_request_is_asked_as_it_came(void **state)
{
    struct fixture *f = *state;
    struct gw_question q;
    struct gw_outcome outcome;
    struct gw_log_entry entry = {.line = 3};
    entry.method = slice("GET");
    entry.scheme = slice("http");
    entry.host = slice("a.example");
    entry.path = slice("/seeing");
    entry.query = slice("");
    entry.peer = slice("10.0.0.1");
    entry.user_agent = slice("xyz");
    entry.x_forwarded_for = slice("203.0.113.9");
    gw_logged_question(&f->pool, &entry, &q);
    q.listener = &f->snapshot->listeners[0];
    decide(f, &q);
    gw_outcome_init(&outcome, &f->pool, &f->decision);
    assert_slice(outcome.route, "seeing");
    assert_slice(outcome.answer, "200 ECHO");
    assert_slice(outcome.target_group, "-");
    assert_slice(f->decision.request.facts.authority, "a.example");
    assert_non_null(f->decision.request.facts.query.base); /* "?" with nothing behind it */
    char ip[46];
    gw_ip_format(&f->decision.request.facts.client_ip, ip);
    assert_string_equal(ip, "203.0.113.9"); /* the peer is trusted, here too */
    assert_slice(gw_logged_request(&f->pool, &entry), "GET http://a.example/seeing?");
}

static void outcomes_are_told_in_words(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *url, *route, *answer, *group, *where;
    } cases[] = {
        {"http://a/v1/x", "rewritten", "forwarded", "one", "/v2/x"},
        {"http://a/move", "move", "302 REDIRECT", "-", "http://a:8080/moved"},
        {"http://a/f/x", "files", "file", "-", NULL},
        {"http://a/empty", "empty", "503 NO_TARGETS", "none", NULL},
        {"http://a/nothing", "-", "404 NO_ROUTE", "-", NULL},
        {"http://a/a/../../b", "-", "400 BAD_PATH", "-", NULL},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_question q = question(f, cases[i].url);
        struct gw_outcome outcome;
        q.skips_files = true;
        decide(f, &q);
        gw_outcome_init(&outcome, &f->pool, &f->decision);
        assert_slice(outcome.route, cases[i].route);
        if (!h2o_memis(outcome.answer.base, outcome.answer.len, cases[i].answer, strlen(cases[i].answer)))
            fail_msg("%s: %.*s", cases[i].url, (int)outcome.answer.len, outcome.answer.base);
        assert_slice(outcome.target_group, cases[i].group);
        if (cases[i].where == NULL)
            assert_null(outcome.url.base);
        else
            assert_slice(outcome.url, cases[i].where);
    }
    struct gw_outcome outcome;
    gw_outcome_init(&outcome, &f->pool, NULL);
    assert_slice(outcome.answer, "no listener");
}

static void routes_that_look_at_unlogged_headers_are_blind(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i != f->snapshot->num_routes; ++i) {
        const struct routing_route_conf *route = f->snapshot->routes[i].conf;
        assert_int_equal(gw_route_is_blind(route), strcmp(route->name.base, "blind") == 0);
    }
}

static void lines_draw_groups_by_their_weights(void **state)
{
    struct fixture *f = *state;
    struct gw_log_entry entry = {.method = slice("GET"), .host = slice("a"), .path = slice("/split")};
    unsigned ones = 0;
    for (entry.line = 1; entry.line <= 1000; ++entry.line) {
        struct gw_question q;
        gw_logged_question(&f->pool, &entry, &q);
        q.listener = &f->snapshot->listeners[0];
        decide(f, &q);
        ones += h2o_memis(f->decision.request.group->name.base, f->decision.request.group->name.len, H2O_STRLIT("one"));
    }
    assert_in_range(ones, 700, 800);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(urls_are_taken_apart),
        TEST(the_listener_is_found_by_name_port_or_scheme),
        TEST(what_a_target_would_get_is_noted),
        TEST(without_a_rewrite_the_target_gets_the_url_as_sent),
        TEST(the_fields_of_local_answers_are_noted),
        TEST(weights_are_drawn_by_the_questions_number),
        TEST(the_disk_is_asked_only_where_it_may_be),
        TEST(a_refused_head_is_a_decision),
        TEST(without_an_authority_it_is_http_1_0),
        TEST(the_certificate_is_chosen_by_name_when_asked_for),
        TEST(a_logged_request_is_asked_as_it_came),
        TEST(outcomes_are_told_in_words),
        TEST(routes_that_look_at_unlogged_headers_are_blind),
        TEST(lines_draw_groups_by_their_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
