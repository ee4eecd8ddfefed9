#include "gateway/command/commands.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/command/diff_structure.h"
#include "gateway/command/logged.h"

struct side {
    const char *path;
    struct gw_snapshot *snapshot;
};

struct diff {
    struct side from, to;
    const char *log; /* NULL: none */
    size_t num_examples;
    bool as_json;
    struct gw_structure_diff structure;
    /* what becomes of each listener of `from`, by index; NULL: it is gone */
    const struct gw_snapshot_listener **successors;
    struct gw_tally changes; /* "route", "answer", "target group", "url" */
    uint64_t num_decided, num_changed;
};

const char gw_diff_usage[] = "usage: weir diff OLD NEW [--log LOG] [--examples N] [--json]\n"
                             "  shows what changes between two configurations, and for which logged requests\n"
                             "  exit status: 0 nothing changes, 1 something does, 2 error\n";

/* ---- listeners ---- */

static bool shares_address(const struct gw_listener_conf *a, const struct gw_listener_conf *b)
{
    for (size_t i = 0; i != a->address.size; ++i)
        for (size_t j = 0; j != b->address.size; ++j)
            if (a->address.entries[i].sa_len == b->address.entries[j].sa_len &&
                memcmp(&a->address.entries[i].sa, &b->address.entries[j].sa, a->address.entries[i].sa_len) == 0)
                return true;
    return false;
}

static const struct gw_snapshot_listener *find_named(const struct gw_snapshot *snapshot, h2o_iovec_t name)
{
    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        if (h2o_memis(snapshot->listeners[i].name.base, snapshot->listeners[i].name.len, name.base, name.len))
            return &snapshot->listeners[i];
    return NULL;
}

/* Of the same name; else, renamed, on the same address; else its requests come to nobody. */
static const struct gw_snapshot_listener *find_successor(const struct gw_snapshot_listener *old,
                                                         const struct gw_snapshot *snapshot)
{
    const struct gw_snapshot_listener *named = find_named(snapshot, old->name);
    for (size_t i = 0; named == NULL && i != snapshot->num_listeners; ++i)
        if ((snapshot->listeners[i].tls != NULL) == (old->tls != NULL) &&
            shares_address(snapshot->listeners[i].conf, old->conf))
            named = &snapshot->listeners[i];
    return named;
}

static void find_successors(struct diff *diff)
{
    const struct gw_snapshot *from = diff->from.snapshot;
    diff->successors = h2o_mem_alloc((from->num_listeners + 1) * sizeof(diff->successors[0]));
    for (size_t i = 0; i != from->num_listeners; ++i)
        diff->successors[i] = find_successor(&from->listeners[i], diff->to.snapshot);
}

/* The listener of the log, where the configurations have it; else, as the log of another machine, by scheme. */
static void find_listeners(const struct diff *diff, const struct gw_log_entry *entry, const struct gw_question *q,
                           const struct gw_snapshot_listener **from, const struct gw_snapshot_listener **to)
{
    const h2o_iovec_t none = {NULL, 0};
    const char *why;

    *from = entry->listener.base != NULL ? find_named(diff->from.snapshot, entry->listener) : NULL;
    if (*from != NULL) {
        *to = diff->successors[(*from)->index];
        return;
    }
    *from = gw_decide_listener(diff->from.snapshot, q, none, &why);
    *to = entry->listener.base != NULL ? find_named(diff->to.snapshot, entry->listener) : NULL;
    if (*to == NULL)
        *to = *from != NULL ? diff->successors[(*from)->index] : gw_decide_listener(diff->to.snapshot, q, none, &why);
}

/* ---- one request ---- */

static bool is_same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

static void decide(const struct side *side, h2o_mem_pool_t *pool, struct gw_question *q,
                   const struct gw_snapshot_listener *listener, struct gw_outcome *outcome)
{
    struct gw_decision decision;

    q->listener = listener;
    if (listener != NULL)
        gw_decide(pool, side->snapshot, q, "", NULL, &decision);
    gw_outcome_init(outcome, pool, listener != NULL ? &decision : NULL);
}

static void note(struct diff *diff, h2o_mem_pool_t *pool, const struct gw_log_entry *entry, const char *what,
                 h2o_iovec_t from, h2o_iovec_t to, const h2o_iovec_t *details)
{
    const h2o_iovec_t none[2] = {{NULL, 0}, {NULL, 0}};
    struct gw_tally_row *row = gw_tally_add(&diff->changes, what, from, to);

    if (details == NULL)
        details = none;
    if (row != NULL)
        gw_tally_add_example(row, entry->line, gw_logged_request(pool, entry), entry->client, details[0], details[1]);
}

static void compare(struct diff *diff, h2o_mem_pool_t *pool, const struct gw_log_entry *entry,
                    const struct gw_outcome *from, const struct gw_outcome *to)
{
    bool route = !is_same(from->route, to->route), answer = !is_same(from->answer, to->answer);
    bool group = !is_same(from->target_group, to->target_group);
    /* answered in the same way, but elsewhere */
    bool url = !answer && from->url.base != NULL && to->url.base != NULL && !is_same(from->url, to->url);
    h2o_iovec_t urls[2] = {from->url, to->url};

    if (route)
        note(diff, pool, entry, "route", from->route, to->route, NULL);
    if (answer)
        note(diff, pool, entry, "answer", from->answer, to->answer, NULL);
    if (group)
        note(diff, pool, entry, "target group", from->target_group, to->target_group, NULL);
    if (url)
        note(diff, pool, entry, "url", from->route, to->route, urls);
    diff->num_changed += route || answer || group || url;
}

static void compare_entry(struct diff *diff, const struct gw_log_entry *entry)
{
    const struct gw_snapshot_listener *from, *to;
    struct gw_outcome before, after;
    struct gw_question q;
    h2o_mem_pool_t pool;

    h2o_mem_init_pool(&pool);
    gw_logged_question(&pool, entry, &q);
    find_listeners(diff, entry, &q, &from, &to);
    decide(&diff->from, &pool, &q, from, &before);
    decide(&diff->to, &pool, &q, to, &after);
    compare(diff, &pool, entry, &before, &after);
    ++diff->num_decided;
    h2o_mem_clear_pool(&pool);
}

/* ---- report ---- */

static const char *const aspects[][2] = {
    {"route", "route"}, {"answer", "answer"}, {"target_group", "target group"}, {"url", "url"}};
enum { NUM_ASPECTS = sizeof(aspects) / sizeof(aspects[0]) };

static void print_requests(const struct diff *diff, const struct gw_log_counts *counts)
{
    printf("\n%s: %" PRIu64 " request%s decided by both", diff->log, diff->num_decided,
           diff->num_decided == 1 ? "" : "s");
    gw_logged_print_skipped(stdout, counts);
    if (diff->num_changed == 0)
        printf("\nno request changes\n");
    else
        printf("\n%" PRIu64 " request%s (%.3g %%) change%s:\n", diff->num_changed, diff->num_changed == 1 ? "" : "s",
               100.0 * diff->num_changed / diff->num_decided, diff->num_changed == 1 ? "s" : "");
    for (int i = 0; i != NUM_ASPECTS; ++i)
        gw_logged_print_rows(stdout, &diff->changes, aspects[i][1]);
    gw_logged_print_blind(stdout, diff->from.path, diff->from.snapshot->config);
    gw_logged_print_blind(stdout, diff->to.path, diff->to.snapshot->config);
}

static void json_requests(struct gw_json *json, const struct diff *diff, const struct gw_log_counts *counts)
{
    gw_json_key(json, "requests");
    gw_json_object(json);
    gw_logged_json_counts(json, counts, diff->to.snapshot->config);
    gw_json_key(json, "changed");
    gw_json_unsigned(json, diff->num_changed);
    gw_json_key(json, "changes");
    gw_json_object(json);
    for (int i = 0; i != NUM_ASPECTS; ++i) {
        gw_json_key(json, aspects[i][0]);
        gw_logged_json_rows(json, &diff->changes, aspects[i][1]);
    }
    gw_json_object_end(json);
    gw_json_object_end(json);
}

static void print_json(const struct diff *diff, const struct gw_log_counts *counts)
{
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "changed");
    gw_json_bool(&json, diff->structure.is_changed || diff->num_changed != 0);
    gw_json_key(&json, "structure");
    gw_structure_diff_json(&json, &diff->structure);
    if (counts != NULL)
        json_requests(&json, diff, counts);
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    fwrite(json.base, 1, json.size, stdout);
    gw_json_dispose(&json);
}

static void report(const struct diff *diff, const struct gw_log_counts *counts)
{
    if (diff->as_json) {
        print_json(diff, counts);
        return;
    }
    gw_structure_diff_print(stdout, &diff->structure);
    if (counts != NULL)
        print_requests(diff, counts);
}

/* ---- the command ---- */

static bool compare_log(struct diff *diff)
{
    struct gw_log_entry entry;
    struct gw_log_reader *reader = gw_log_reader_open(diff->log);

    if (reader == NULL) {
        fprintf(stderr, "weir diff: %s: %s\n", diff->log, strerror(errno));
        return false;
    }
    find_successors(diff);
    while (gw_log_reader_next(reader, &entry))
        compare_entry(diff, &entry);
    int error = errno;
    bool is_read = gw_logged_is_read("diff", diff->log, error, gw_log_reader_counts(reader));
    gw_tally_sort(&diff->changes);
    if (is_read)
        report(diff, gw_log_reader_counts(reader));
    gw_log_reader_close(reader);
    free(diff->successors);
    return is_read;
}

static int compare_both(struct diff *diff)
{
    bool is_good = gw_structure_diff_init(&diff->structure, diff->from.snapshot, diff->to.snapshot);

    gw_tally_init(&diff->changes, GW_LOGGED_MAX_KINDS, diff->num_examples);
    if (is_good && diff->log != NULL)
        is_good = compare_log(diff);
    else if (is_good)
        report(diff, NULL);
    int status = !is_good ? 2 : diff->structure.is_changed || diff->num_changed != 0;
    gw_tally_dispose(&diff->changes);
    gw_structure_diff_dispose(&diff->structure);
    return status;
}

static bool parse_options(int argc, char **argv, struct diff *diff)
{
    static const struct option options[] = {{"log", required_argument, NULL, 'l'},
                                            {"examples", required_argument, NULL, 'e'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'l')
            diff->log = optarg;
        else if (c == 'j')
            diff->as_json = true;
        else if (c != 'e' || !gw_logged_parse_examples("diff", optarg, &diff->num_examples))
            return false;
    }
    if (optind < argc)
        diff->from.path = argv[optind++];
    if (optind < argc)
        diff->to.path = argv[optind++];
    return gw_is_given(diff->from.path, "OLD", argv) && gw_is_given(diff->to.path, "NEW", argv) &&
           gw_no_words_left(argc, argv);
}

int gw_command_diff(int argc, char **argv)
{
    struct diff diff = {.num_examples = GW_LOGGED_EXAMPLES};
    int status = 2;

    if (!parse_options(argc, argv, &diff))
        return gw_misused(gw_diff_usage);
    diff.from.snapshot = gw_decide_load(diff.from.path); /* both, so that one run shows every mistake */
    diff.to.snapshot = gw_decide_load(diff.to.path);
    if (diff.from.snapshot != NULL && diff.to.snapshot != NULL)
        status = compare_both(&diff);
    gw_snapshot_release(diff.from.snapshot);
    gw_snapshot_release(diff.to.snapshot);
    return gw_decide_finish(status, 2);
}
