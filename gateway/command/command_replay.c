#include "gateway/command/commands.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/command/logged.h"

struct replay {
    const char *log, *config;
    size_t num_examples;
    bool as_json;
    struct gw_snapshot *snapshot;
    struct gw_tally outcomes;    /* route, answer */
    struct gw_tally differences; /* "route", "answer", "target group" */
    uint64_t num_decided, num_different;
};

const char gw_replay_usage[] = "usage: weir replay LOG -c FILE [--examples N] [--json]\n"
                               "  decides the requests of an access log (- is standard input) by a configuration\n"
                               "  exit status: 0 as logged, 1 there are differences, 2 error\n";

/* ---- what was logged ---- */

enum logged_kind {
    LOGGED_LOCAL,     /* decided by the configuration alone */
    LOGGED_FORWARDED, /* a target answered, or should have */
    LOGGED_FILE,
    LOGGED_OTHER, /* the client's or the network's doing, or a code of another version: nothing to compare */
};

static enum logged_kind kind_of(enum gw_reason reason)
{
    switch (reason) {
    case GW_REASON_BAD_PATH:
    case GW_REASON_METHOD_NOT_ALLOWED:
    case GW_REASON_NO_ROUTE:
    case GW_REASON_FIXED_RESPONSE:
    case GW_REASON_REDIRECT:
    case GW_REASON_REDIRECT_TOO_LONG:
    case GW_REASON_ECHO:
    case GW_REASON_TOO_MANY_FORWARDED:
    case GW_REASON_REWRITE_FAILED:
    case GW_REASON_NO_TARGETS:
    case GW_REASON_GRPC_ONLY:
        return LOGGED_LOCAL;
    case GW_REASON_FAULT_INJECTED: /* drawn at random: tells nothing */
        return LOGGED_OTHER;
    case GW_REASON_NONE:
    case GW_REASON_LAMBDA_REQUEST_TOO_LARGE:
    case GW_REASON_LAMBDA_BAD_REQUEST:
    case GW_REASON_LAMBDA_WEBSOCKET:
    case GW_REASON_LAMBDA_ACCESS_DENIED:
    case GW_REASON_LAMBDA_NOT_FOUND:
    case GW_REASON_LAMBDA_THROTTLED:
    case GW_REASON_LAMBDA_SERVICE_ERROR:
    case GW_REASON_LAMBDA_FUNCTION_ERROR:
    case GW_REASON_LAMBDA_INVALID_RESPONSE:
    case GW_REASON_LAMBDA_RESPONSE_TOO_LARGE:
    case GW_REASON_LAMBDA_MEMORY:
    case GW_REASON_LAMBDA_CONNECTION_ERROR:
    case GW_REASON_LAMBDA_CONNECTION_TIMEOUT:
    case GW_REASON_CIRCUIT_OPEN:
    case GW_REASON_CIRCUIT_CONNECTIONS:
    case GW_REASON_CIRCUIT_PENDING:
    case GW_REASON_CONCURRENCY_LIMIT:
    case GW_REASON_TARGETS_BUSY:
    case GW_REASON_TARGET_QUEUE_FULL:
    case GW_REASON_TARGET_QUEUE_TIMEOUT:
    case GW_REASON_CONNECT_FAILED:
    case GW_REASON_CONNECT_TIMEOUT:
    case GW_REASON_UPSTREAM_TLS_TIMEOUT:
    case GW_REASON_UPSTREAM_CERTIFICATE:
    case GW_REASON_UPSTREAM_TLS_FAILED:
    case GW_REASON_UPSTREAM_NOT_HTTP2:
    case GW_REASON_UPSTREAM_REFUSED:
    case GW_REASON_UPSTREAM_NO_UPGRADE:
    case GW_REASON_GRPC_DEADLINE:
    case GW_REASON_UPSTREAM_CLOSED:
    case GW_REASON_FIRST_BYTE_TIMEOUT:
    case GW_REASON_UPSTREAM_BAD_RESPONSE:
    case GW_REASON_UPSTREAM_HEAD_TOO_LARGE:
    case GW_REASON_UPSTREAM_TRUNCATED:
    case GW_REASON_UPSTREAM_BAD_CHUNK:
    case GW_REASON_UPSTREAM_TRAILERS_TOO_LARGE:
    case GW_REASON_UPSTREAM_IDLE_TIMEOUT:
    case GW_REASON_UPSTREAM_RESET:
    case GW_REASON_UPSTREAM_BAD_UPGRADE:
    case GW_REASON_TUNNEL_CLOSED:
    case GW_REASON_TUNNEL_IDLE_TIMEOUT:
    case GW_REASON_TOTAL_TIMEOUT:
    case GW_REASON_TARGET_DEREGISTERED:
        return LOGGED_FORWARDED;
    case GW_REASON_FILE_SERVED:
    case GW_REASON_FILE_NOT_FOUND:
    case GW_REASON_FILE_FORBIDDEN:
    case GW_REASON_PRECONDITION_FAILED:
    case GW_REASON_RANGE_NOT_SATISFIABLE:
        return LOGGED_FILE;
    default:
        return LOGGED_OTHER;
    }
}

static enum gw_reason reason_of(h2o_iovec_t code)
{
    char text[64];
    if (code.len >= sizeof(text))
        return GW_REASON_COUNT;
    memcpy(text, code.base, code.len);
    text[code.len] = '\0';
    return gw_reason_find(text);
}

/* The answer in the words of an outcome; base NULL: nothing to compare. */
static h2o_iovec_t logged_answer(h2o_mem_pool_t *pool, const struct gw_log_entry *entry,
                                 const struct gw_outcome *outcome)
{
    enum gw_reason reason = reason_of(entry->reason);

    switch (kind_of(reason)) {
    case LOGGED_LOCAL:
        if (outcome->reason == GW_REASON_FILE_SERVED &&
            (reason == GW_REASON_METHOD_NOT_ALLOWED || reason == GW_REASON_REDIRECT))
            break; /* files take only GET and HEAD, and send clients on to a directory's slash */
        return gw_answer_text(pool, entry->status, reason);
    case LOGGED_FORWARDED:
        return gw_answer_text(pool, entry->status, GW_REASON_NONE);
    case LOGGED_FILE:
        return gw_answer_text(pool, entry->status, GW_REASON_FILE_SERVED);
    case LOGGED_OTHER:
        break;
    }
    return h2o_iovec_init(NULL, 0);
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

/* ---- one request ---- */

static void note(struct replay *r, h2o_mem_pool_t *pool, const struct gw_log_entry *entry, const char *what,
                 h2o_iovec_t from, h2o_iovec_t to)
{
    const h2o_iovec_t none = {NULL, 0};
    struct gw_tally_row *row = gw_tally_add(&r->differences, what, from, to);
    if (row != NULL)
        gw_tally_add_example(row, entry->line, gw_logged_request(pool, entry), entry->client, none, none);
}

static void compare(struct replay *r, h2o_mem_pool_t *pool, const struct gw_log_entry *entry,
                    const struct gw_decision *decision, const struct gw_outcome *outcome)
{
    h2o_iovec_t route = entry->route.base != NULL ? entry->route : h2o_iovec_init(H2O_STRLIT("-"));
    h2o_iovec_t answer = logged_answer(pool, entry, outcome);
    bool route_differs = !is_same(route, outcome->route);
    bool answer_differs = answer.base != NULL && !is_same(answer, outcome->answer);
    bool group_differs = entry->target_group.base != NULL &&
                         (decision == NULL || !gw_decision_may_use_group(decision, entry->target_group));

    if (route_differs)
        note(r, pool, entry, "route", route, outcome->route);
    if (answer_differs)
        note(r, pool, entry, "answer", answer, outcome->answer);
    if (group_differs)
        note(r, pool, entry, "target group", entry->target_group, outcome->target_group);
    r->num_different += route_differs || answer_differs || group_differs;
}

/* The listener of the log; under another name, the one that speaks the scheme. */
static const struct gw_snapshot_listener *find_listener(const struct replay *r, const struct gw_log_entry *entry,
                                                        const struct gw_question *q)
{
    const struct gw_snapshot_listener *listener = NULL;
    const char *why;
    if (entry->listener.base != NULL)
        listener = gw_decide_listener(r->snapshot, q, entry->listener, &why);
    return listener != NULL ? listener : gw_decide_listener(r->snapshot, q, h2o_iovec_init(NULL, 0), &why);
}

static void replay_entry(struct replay *r, const struct gw_log_entry *entry)
{
    h2o_mem_pool_t pool;
    struct gw_question q;
    struct gw_decision decision, *decided = NULL;
    struct gw_outcome outcome;

    h2o_mem_init_pool(&pool);
    gw_logged_question(&pool, entry, &q);
    if ((q.listener = find_listener(r, entry, &q)) != NULL) {
        gw_decide(&pool, r->snapshot, &q, "", NULL, &decision);
        decided = &decision;
    }
    gw_outcome_init(&outcome, &pool, decided);
    ++r->num_decided;
    gw_tally_add(&r->outcomes, "", outcome.route, outcome.answer);
    compare(r, &pool, entry, decided, &outcome);
    h2o_mem_clear_pool(&pool);
}

/* ---- the report ---- */

static void print_text(struct replay *r, const struct gw_log_counts *counts)
{
    printf("%s: %" PRIu64 " request%s decided by %s", r->log, r->num_decided, r->num_decided == 1 ? "" : "s",
           r->config);
    gw_logged_print_skipped(stdout, counts);
    printf("\n\n  %10s  %-30s %s\n", "requests", "route", "answer");
    for (size_t i = 0; i != r->outcomes.size; ++i)
        printf("  %10" PRIu64 "  %-30s %s\n", r->outcomes.rows[i].count, r->outcomes.rows[i].from,
               r->outcomes.rows[i].to);
    if (r->num_different == 0)
        printf("\nnothing differs from what was logged\n");
    else
        printf("\n%" PRIu64 " request%s (%.3g %%) %s decided otherwise than logged:\n", r->num_different,
               r->num_different == 1 ? "" : "s", 100.0 * r->num_different / r->num_decided,
               r->num_different == 1 ? "is" : "are");
    gw_logged_print_rows(stdout, &r->differences, "route");
    gw_logged_print_rows(stdout, &r->differences, "answer");
    gw_logged_print_rows(stdout, &r->differences, "target group");
    gw_logged_print_blind(stdout, r->config, r->snapshot->config);
}

static void json_outcomes(struct gw_json *json, const struct gw_tally *outcomes)
{
    gw_json_array(json);
    for (size_t i = 0; i != outcomes->size; ++i) {
        gw_json_object(json);
        gw_json_key(json, "route");
        gw_json_string(json, outcomes->rows[i].from);
        gw_json_key(json, "answer");
        gw_json_string(json, outcomes->rows[i].to);
        gw_json_key(json, "requests");
        gw_json_unsigned(json, outcomes->rows[i].count);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

static void print_json(struct replay *r, const struct gw_log_counts *counts)
{
    static const char *const aspects[][2] = {
        {"route", "route"}, {"answer", "answer"}, {"target_group", "target group"}};
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_logged_json_counts(&json, counts, r->snapshot->config);
    gw_json_key(&json, "outcomes");
    json_outcomes(&json, &r->outcomes);
    gw_json_key(&json, "different");
    gw_json_unsigned(&json, r->num_different);
    gw_json_key(&json, "differences");
    gw_json_object(&json);
    for (size_t i = 0; i != sizeof(aspects) / sizeof(aspects[0]); ++i) {
        gw_json_key(&json, aspects[i][0]);
        gw_logged_json_rows(&json, &r->differences, aspects[i][1]);
    }
    gw_json_object_end(&json);
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    fwrite(json.base, 1, json.size, stdout);
    gw_json_dispose(&json);
}

/* ---- the command ---- */

static int replay(struct replay *r)
{
    struct gw_log_entry entry;
    struct gw_log_reader *reader = gw_log_reader_open(r->log);

    if (reader == NULL) {
        fprintf(stderr, "weir replay: %s: %s\n", r->log, strerror(errno));
        return 2;
    }
    gw_tally_init(&r->outcomes, SIZE_MAX, 0); /* no more than there are routes and ways to answer */
    gw_tally_init(&r->differences, GW_LOGGED_MAX_KINDS, r->num_examples);
    while (gw_log_reader_next(reader, &entry))
        replay_entry(r, &entry);
    int status = 2, error = errno;
    if (gw_logged_is_read("replay", r->log, error, gw_log_reader_counts(reader))) {
        gw_tally_sort(&r->outcomes);
        gw_tally_sort(&r->differences);
        if (r->as_json)
            print_json(r, gw_log_reader_counts(reader));
        else
            print_text(r, gw_log_reader_counts(reader));
        status = r->num_different != 0;
    }
    gw_tally_dispose(&r->outcomes);
    gw_tally_dispose(&r->differences);
    gw_log_reader_close(reader);
    return gw_decide_finish(status, 2);
}

static bool parse_options(int argc, char **argv, struct replay *r)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"examples", required_argument, NULL, 'e'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (c == 'c')
            r->config = optarg;
        else if (c == 'j')
            r->as_json = true;
        else if (c != 'e' || !gw_logged_parse_examples("replay", optarg, &r->num_examples))
            return false;
    }
    if (optind < argc)
        r->log = argv[optind++];
    return gw_is_given(r->log, "LOG", argv) && gw_is_given(r->config, "-c FILE", argv) && gw_no_words_left(argc, argv);
}

int gw_command_replay(int argc, char **argv)
{
    struct replay r = {.num_examples = GW_LOGGED_EXAMPLES};
    int status = 2;

    if (!parse_options(argc, argv, &r))
        return gw_misused(gw_replay_usage);
    if ((r.snapshot = gw_decide_load(r.config)) != NULL)
        status = replay(&r);
    gw_snapshot_release(r.snapshot);
    return status;
}
