#include "gateway/command/commands.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/base/trace.h"
#include "gateway/config/config_tests.h"
#include "gateway/decide.h"

struct failure {
    const struct gw_node *at; /* the expectation */
    const char *setting;      /* "route", "headers.x-team" */
    char *expected, *got;
    const char *hint; /* borrowed: the name that was likely meant; NULL: none */
    bool is_unknown;  /* expected names nothing that there is */
};

struct result { /* of one test */
    const struct gw_test_conf *test;
    struct gw_decision decision;
    bool is_decided;
    struct failure *failures;
    size_t num_failures;
    h2o_mem_pool_t pool; /* of the decision and the failures' texts */
    struct gw_trace trace;
};

struct run {
    const char *path;
    bool as_json, is_verbose;
    double min_coverage; /* percent; 0: any */
    struct gw_snapshot *snapshot;
    bool *is_reached; /* by route index */
    size_t num_reached, num_failed;
    struct gw_json json;
};

const char gw_test_usage[] =
    "usage: weir test FILE [--min-coverage PERCENT] [--verbose] [--json]\n"
    "  asks the configuration the `tests:` it holds, without a network\n"
    "  --min-coverage 80%  fail as well when tests reach fewer routes; --verbose shows the steps of failed tests\n"
    "  exit status: 0 all tests hold, 1 one fails, 2 usage\n";

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }
static bool is_same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }
static const h2o_iovec_t dash = {"-", 1};

/* ---- failures ---- */

static char *copy(h2o_mem_pool_t *pool, h2o_iovec_t text)
{
    char *to = h2o_mem_alloc_pool(pool, text.len + 1);
    memcpy(to, text.base, text.len);
    to[text.len] = '\0';
    return to;
}

static struct failure *fail(struct result *result, const struct gw_node *at, const char *setting, h2o_iovec_t expected,
                            h2o_iovec_t got)
{
    result->failures = h2o_mem_realloc(result->failures, (result->num_failures + 1) * sizeof(result->failures[0]));
    struct failure *failure = &result->failures[result->num_failures++];
    *failure = (struct failure){at, setting, copy(&result->pool, expected), copy(&result->pool, got)};
    return failure;
}

/* The expectation names something that does not exist: say what does. names is freed. */
static void look_for_name(struct failure *failure, const char **names, size_t num_names)
{
    failure->is_unknown = strcmp(failure->expected, "-") != 0;
    for (size_t i = 0; i != num_names; ++i)
        failure->is_unknown &= strcmp(names[i], failure->expected) != 0;
    if (failure->is_unknown)
        failure->hint = gw_nearest(failure->expected, names, num_names);
    free(names);
}

static void look_in_map(struct failure *failure, const struct gw_map *map)
{
    const char **names = h2o_mem_alloc((map->size + 1) * sizeof(*names));
    for (size_t i = 0; i != map->size; ++i)
        names[i] = map->entries[i].name.base;
    look_for_name(failure, names, map->size);
}

static void look_in_routes(struct failure *failure, const struct gw_list *routes)
{
    const char **names = h2o_mem_alloc((routes->size + 1) * sizeof(*names));
    for (size_t i = 0; i != routes->size; ++i)
        names[i] = ((const struct routing_route_conf *)routes->entries[i])->name.base;
    look_for_name(failure, names, routes->size);
}

/* ---- one expectation each ---- */

/* NULL: it holds, or is not there. */
static struct failure *expect_text(struct result *result, const char *setting, h2o_iovec_t expected, h2o_iovec_t got)
{
    if (expected.base == NULL || is_same(expected, got))
        return NULL;
    return fail(result, gw_setting_at(result->test->expect.at, setting), setting, expected, got);
}

static void expect_names(struct result *result, const struct gw_config *config)
{
    const struct gw_test_expect_conf *expect = &result->test->expect;
    const struct gw_decision *d = &result->decision;
    h2o_iovec_t certificate = d->certificate != NULL ? d->certificate->name : dash;
    struct failure *failure;

    if ((failure = expect_text(result, "listener", expect->listener, d->request.listener->name)) != NULL)
        look_in_map(failure, &config->listeners);
    if ((failure = expect_text(result, "certificate", expect->certificate, certificate)) != NULL)
        look_in_map(failure, &config->certificates);
    if ((failure = expect_text(result, "route", expect->route, gw_decision_route(d))) != NULL)
        look_in_routes(failure, &config->routes);
    if (expect->target_group.base != NULL && gw_decision_may_use_group(d, expect->target_group))
        return;
    if ((failure = expect_text(result, "target_group", expect->target_group, gw_decision_group(d))) != NULL)
        look_in_map(failure, &config->target_groups);
}

static void expect_status(struct result *result)
{
    const struct gw_test_expect_conf *expect = &result->test->expect;
    const struct gw_request *request = &result->decision.request;
    char expected[32], got[32];

    if (expect->status == UINT64_MAX || (int)expect->status == request->status)
        return;
    snprintf(expected, sizeof(expected), "%d", (int)expect->status);
    snprintf(got, sizeof(got), "%d", request->status);
    fail(result, gw_setting_at(expect->at, "status"), "status", text_of(expected),
         request->status != 0 ? text_of(got) : text_of("up to the target"));
}

static h2o_iovec_t find_field(const h2o_headers_t *fields, h2o_iovec_t name, size_t *cursor)
{
    for (; *cursor != fields->size; ++*cursor) {
        const h2o_header_t *field = &fields->entries[*cursor];
        if (field->name->len == name.len && strncasecmp(field->name->base, name.base, name.len) == 0)
            return fields->entries[(*cursor)++].value;
    }
    return h2o_iovec_init(NULL, 0);
}

/* One of the fields of that name must have the value. */
static void expect_fields(struct result *result, const char *setting, const struct gw_pairs *expected,
                          const h2o_headers_t *fields)
{
    for (size_t i = 0; i != expected->size; ++i) {
        const struct gw_pair *pair = &expected->entries[i];
        size_t cursor = 0;
        h2o_iovec_t first = find_field(fields, pair->name, &cursor), value = first;
        while (value.base != NULL && !is_same(value, pair->value))
            value = find_field(fields, pair->name, &cursor);
        if (value.base != NULL)
            continue;
        h2o_iovec_t path = h2o_concat(&result->pool, text_of(setting), text_of("."), pair->name);
        fail(result, pair->at, copy(&result->pool, path), pair->value, first.base != NULL ? first : dash);
    }
}

static void expect_rest(struct result *result)
{
    const struct gw_test_expect_conf *expect = &result->test->expect;
    const struct gw_decision *d = &result->decision;
    bool has_facts = d->head_result == GW_HEAD_OK;
    h2o_iovec_t path = has_facts ? d->request.facts.path : dash;
    h2o_iovec_t url = d->dry.target_url.base != NULL ? d->dry.target_url : dash;
    size_t cursor = 0;
    h2o_iovec_t location = find_field(&d->dry.answer_fields, text_of("location"), &cursor);
    char ip[GW_IP_TEXT];

    gw_ip_format(&d->request.facts.client_ip, ip);
    expect_text(result, "client_ip", expect->client_ip, text_of(ip));
    expect_text(result, "path", expect->path, path);
    expect_status(result);
    if (expect->reason.base != NULL) /* as it is written in the table, whatever the case */
        expect_text(result, "reason", text_of(gw_reason_info(gw_reason_find(expect->reason.base))->code),
                    text_of(gw_reason_info(d->request.reason)->code));
    expect_text(result, "target_url", expect->target_url, url);
    expect_text(result, "location", expect->location, location.base != NULL ? location : dash);
    expect_fields(result, "headers", &expect->headers, &d->dry.answer_fields);
    expect_fields(result, "target_headers", &expect->target_headers, &d->dry.target_fields);
}

/* ---- one test ---- */

static h2o_iovec_t *write_lines(h2o_mem_pool_t *pool, const struct gw_pairs *fields)
{
    h2o_iovec_t *lines = h2o_mem_alloc_pool(pool, (fields->size + 1) * sizeof(*lines));
    for (size_t i = 0; i != fields->size; ++i)
        lines[i] = h2o_concat(pool, fields->entries[i].name, text_of(": "), fields->entries[i].value);
    return lines;
}

static bool ask(struct run *run, struct result *result, struct gw_question *q, const char **why)
{
    const struct gw_test_request_conf *request = &result->test->request;
    const struct gw_node *at = gw_setting_at(request->at, request->listener.base != NULL ? "listener" : "url");

    *q = (struct gw_question){.method = request->method, .with_certificate = true};
    q->lines = write_lines(&result->pool, &request->headers);
    q->num_lines = request->headers.size;
    gw_question_set_url(q, request->url.base); /* checked by the load, as is ip */
    gw_ip_parse(request->ip, &q->peer);
    if ((q->listener = gw_decide_listener(run->snapshot, q, request->listener, why)) != NULL)
        return true;
    if (request->listener.base != NULL)
        look_in_map(fail(result, at, "listener", request->listener, dash), &run->snapshot->config->listeners);
    else
        fail(result, at, "listener", q->is_tls ? text_of("one with tls") : text_of("one without tls"), dash);
    return false;
}

static void run_test(struct run *run, struct result *result)
{
    struct gw_question q;
    const char *why = NULL;

    if (!ask(run, result, &q, &why))
        return;
    gw_decide(&result->pool, run->snapshot, &q, why, run->is_verbose ? &result->trace : NULL, &result->decision);
    result->is_decided = true;
    if (result->decision.request.route != NULL) {
        bool *is_reached = &run->is_reached[result->decision.request.route - run->snapshot->routes];
        run->num_reached += !*is_reached;
        *is_reached = true;
    }
    expect_names(result, run->snapshot->config);
    expect_rest(result);
}

/* ---- report ---- */

static void print_name(FILE *out, const struct gw_test_conf *test)
{
    if (test->name.base != NULL)
        fprintf(out, "%.*s", (int)test->name.len, test->name.base);
    else
        fprintf(out, "%s %s", test->request.method.base, test->request.url.base);
}

static void print_result(const struct run *run, const struct result *result)
{
    for (size_t i = 0; i != result->num_failures; ++i) {
        const struct failure *failure = &result->failures[i];
        printf("%s:%u:%u: ", failure->at->file, failure->at->line, failure->at->column);
        print_name(stdout, result->test);
        printf(": %s is \"%s\" (expected \"%s\"%s", failure->setting, failure->got, failure->expected,
               failure->is_unknown ? ", which there is not" : "");
        if (failure->hint != NULL)
            printf("; did you mean \"%s\"?", failure->hint);
        printf(")\n");
    }
    for (size_t i = 0; i != result->trace.size && result->num_failures != 0; ++i) {
        const struct gw_trace_entry *entry = &result->trace.entries[i];
        printf("    %-14s %s", entry->stage, entry->text);
        if (entry->at != NULL)
            printf("  [%s:%u]", entry->at->file, entry->at->line);
        putchar('\n');
    }
}

static void json_at(struct gw_json *json, const struct gw_node *at)
{
    gw_json_key(json, "file");
    gw_json_string(json, at->file);
    gw_json_key(json, "line");
    gw_json_unsigned(json, at->line);
    gw_json_key(json, "column");
    gw_json_unsigned(json, at->column);
}

static void json_pair(struct gw_json *json, const char *key, h2o_iovec_t value)
{
    gw_json_key(json, key);
    if (value.base == NULL)
        gw_json_null(json);
    else
        gw_json_text(json, value);
}

static void json_decision(struct gw_json *json, const struct gw_decision *d)
{
    gw_json_key(json, "decision");
    gw_json_object(json);
    json_pair(json, "listener", d->request.listener->name);
    json_pair(json, "route", gw_decision_route(d));
    gw_json_key(json, "status");
    d->request.status != 0 ? gw_json_number(json, d->request.status) : gw_json_null(json);
    json_pair(json, "reason", text_of(gw_reason_info(d->request.reason)->code));
    json_pair(json, "target_group", gw_decision_group(d));
    json_pair(json, "target_url", d->dry.target_url);
    gw_json_object_end(json);
}

static void json_result(struct gw_json *json, const struct result *result)
{
    gw_json_object(json);
    json_pair(json, "name", result->test->name);
    json_at(json, result->test->at);
    json_pair(json, "method", result->test->request.method);
    json_pair(json, "url", result->test->request.url);
    gw_json_key(json, "passed");
    gw_json_bool(json, result->num_failures == 0);
    if (result->is_decided)
        json_decision(json, &result->decision);
    gw_json_key(json, "failures");
    gw_json_array(json);
    for (size_t i = 0; i != result->num_failures; ++i) {
        const struct failure *failure = &result->failures[i];
        gw_json_object(json);
        json_at(json, failure->at);
        json_pair(json, "setting", text_of(failure->setting));
        json_pair(json, "expected", text_of(failure->expected));
        json_pair(json, "got", text_of(failure->got));
        json_pair(json, "did_you_mean", failure->hint != NULL ? text_of(failure->hint) : h2o_iovec_init(NULL, 0));
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
    gw_json_object_end(json);
}

static double coverage_of(const struct run *run)
{
    return run->snapshot->num_routes == 0 ? 100 : 100.0 * run->num_reached / run->snapshot->num_routes;
}

static void print_summary(const struct run *run)
{
    enum { MAX_SHOWN = 20 };
    size_t n = run->snapshot->config->tests.size, num_missed = run->snapshot->num_routes - run->num_reached, shown = 0;

    printf("%s: %zu test%s, %zu passed, %zu failed; %zu of %zu routes reached (%.3g %%)\n", run->path, n,
           n == 1 ? "" : "s", n - run->num_failed, run->num_failed, run->num_reached, run->snapshot->num_routes,
           coverage_of(run));
    for (size_t i = 0; i != run->snapshot->num_routes && shown != MAX_SHOWN; ++i) {
        const struct routing_route_conf *route = run->snapshot->routes[i].conf;
        if (run->is_reached[i])
            continue;
        printf("  no test reaches %.*s [%s:%u]\n", (int)route->name.len, route->name.base, route->at->file,
               route->at->line);
        ++shown;
    }
    if (num_missed > shown)
        printf("  and %zu more\n", num_missed - shown);
    if (coverage_of(run) < run->min_coverage)
        printf("%s: fewer than %.6g %% of the routes are reached\n", run->path, run->min_coverage);
}

static void json_summary(struct run *run)
{
    struct gw_json *json = &run->json;
    size_t n = run->snapshot->config->tests.size;

    gw_json_key(json, "tests");
    gw_json_unsigned(json, n);
    gw_json_key(json, "failed");
    gw_json_unsigned(json, run->num_failed);
    gw_json_key(json, "coverage");
    gw_json_object(json);
    gw_json_key(json, "routes");
    gw_json_unsigned(json, run->snapshot->num_routes);
    gw_json_key(json, "reached");
    gw_json_unsigned(json, run->num_reached);
    gw_json_key(json, "percent");
    gw_json_decimal(json, coverage_of(run), 2);
    gw_json_key(json, "enough");
    gw_json_bool(json, coverage_of(run) >= run->min_coverage);
    gw_json_key(json, "missed");
    gw_json_array(json);
    for (size_t i = 0; i != run->snapshot->num_routes; ++i) {
        if (run->is_reached[i])
            continue;
        gw_json_object(json);
        json_pair(json, "route", run->snapshot->routes[i].conf->name);
        json_at(json, run->snapshot->routes[i].conf->at);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
    gw_json_object_end(json);
}

/* ---- the command ---- */

static void run_and_report(struct run *run, const struct gw_test_conf *test)
{
    struct result result = {.test = test};

    h2o_mem_init_pool(&result.pool);
    gw_trace_init(&result.trace);
    run_test(run, &result);
    run->num_failed += result.num_failures != 0;
    if (run->as_json)
        json_result(&run->json, &result);
    else
        print_result(run, &result);
    gw_trace_dispose(&result.trace);
    free(result.failures);
    h2o_mem_clear_pool(&result.pool);
}

static int run_all(struct run *run)
{
    const struct gw_list *tests = &run->snapshot->config->tests;

    if (tests->size == 0) { /* a gate that looks at nothing must not look green */
        fprintf(stderr, "weir test: %s has no tests (`weir help tests` shows what they look like)\n", run->path);
        return 1;
    }
    run->is_reached = h2o_mem_alloc(run->snapshot->num_routes + 1);
    memset(run->is_reached, 0, run->snapshot->num_routes + 1);
    gw_json_init(&run->json);
    gw_json_object(&run->json);
    gw_json_key(&run->json, "results");
    gw_json_array(&run->json);
    for (size_t i = 0; i != tests->size; ++i)
        run_and_report(run, tests->entries[i]);
    gw_json_array_end(&run->json);
    if (run->as_json) {
        json_summary(run);
        gw_json_object_end(&run->json);
        gw_json_raw(&run->json, "\n", 1);
        fwrite(run->json.base, 1, run->json.size, stdout);
    } else {
        print_summary(run);
    }
    gw_json_dispose(&run->json);
    free(run->is_reached);
    return run->num_failed != 0 || coverage_of(run) < run->min_coverage;
}

/* "80%" or "80" */
static bool parse_percent(const char *text, double *percent)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *percent = strtod(text, &end);
    return (*end == '\0' || strcmp(end, "%") == 0) && *percent <= 100;
}

static bool parse_options(int argc, char **argv, struct run *run)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"min-coverage", required_argument, NULL, 'm'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:v", options, NULL)) != -1) {
        if (c == 'c')
            run->path = optarg;
        else if (c == 'v')
            run->is_verbose = true;
        else if (c == 'j')
            run->as_json = true;
        else if (c != 'm')
            return false;
        else if (!parse_percent(optarg, &run->min_coverage)) {
            fprintf(stderr, "weir test: --min-coverage: \"%s\" is no percentage (expected 0%% to 100%%)\n", optarg);
            return false;
        }
    }
    if (optind < argc && run->path == NULL)
        run->path = argv[optind++];
    return gw_is_given(run->path, "FILE", argv) && gw_no_words_left(argc, argv);
}

int gw_command_test(int argc, char **argv)
{
    struct run run = {.path = NULL};
    int status = 1;

    if (!parse_options(argc, argv, &run))
        return gw_misused(gw_test_usage);
    if ((run.snapshot = gw_decide_load(run.path)) != NULL)
        status = run_all(&run);
    gw_snapshot_release(run.snapshot);
    return gw_decide_finish(status, 1);
}
