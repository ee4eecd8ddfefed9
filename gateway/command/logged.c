#include "gateway/command/logged.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS_SHOWN = 50, MAX_NAMES_SHOWN = 10 };

/* ---- asking ---- */

/* Spreads numbers that follow each other (splitmix64). */
static uint64_t spread(uint64_t n)
{
    n += UINT64_C(0x9e3779b97f4a7c15);
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

static size_t add_line(h2o_mem_pool_t *pool, h2o_iovec_t *lines, size_t n, h2o_iovec_t name, h2o_iovec_t value)
{
    if (value.base == NULL)
        return n;
    lines[n] = h2o_concat(pool, name, value);
    return n + 1;
}

void gw_logged_question(h2o_mem_pool_t *pool, const struct gw_log_entry *entry, struct gw_question *q)
{
    h2o_iovec_t peer = entry->peer.base != NULL ? entry->peer : entry->client;
    h2o_iovec_t *lines = h2o_mem_alloc_pool(pool, 3 * sizeof(*lines));
    size_t n = 0;

    /* the disk of today says nothing about the day of the log */
    *q = (struct gw_question){
        .method = entry->method, .target = entry->path, .host = entry->host, .lines = lines, .skips_files = true};
    if (entry->query.base != NULL)
        q->target = h2o_concat(pool, entry->path, h2o_iovec_init(H2O_STRLIT("?")), entry->query);
    if (entry->host.len != 0)
        q->authority = entry->host;
    q->is_tls = h2o_memis(entry->scheme.base, entry->scheme.len, H2O_STRLIT("https"));
    n = add_line(pool, lines, n, h2o_iovec_init(H2O_STRLIT("user-agent: ")), entry->user_agent);
    n = add_line(pool, lines, n, h2o_iovec_init(H2O_STRLIT("referer: ")), entry->referer);
    n = add_line(pool, lines, n, h2o_iovec_init(H2O_STRLIT("x-forwarded-for: ")), entry->x_forwarded_for);
    q->num_lines = n;
    if (peer.base == NULL || !gw_ip_parse(peer, &q->peer))
        gw_ip_parse(h2o_iovec_init(H2O_STRLIT("127.0.0.1")), &q->peer);
    q->random = spread(entry->line) >> 32;
}

/* ---- the outcome ---- */

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }

h2o_iovec_t gw_answer_text(h2o_mem_pool_t *pool, int status, enum gw_reason reason)
{
    const char *code = gw_reason_info(reason)->code;
    char *text;

    if (reason == GW_REASON_NONE)
        return text_of("forwarded");
    if (reason == GW_REASON_FILE_SERVED)
        return text_of("file");
    text = h2o_mem_alloc_pool(pool, strlen(code) + 16);
    return h2o_iovec_init(text, sprintf(text, "%d %s", status, code));
}

void gw_outcome_init(struct gw_outcome *outcome, h2o_mem_pool_t *pool, const struct gw_decision *decision)
{
    ssize_t location;

    memset(outcome, 0, sizeof(*outcome));
    if (decision == NULL) {
        outcome->route = outcome->target_group = text_of("-");
        outcome->answer = text_of("no listener");
        return;
    }
    const h2o_headers_t *fields = &decision->dry.answer_fields;
    outcome->route = gw_decision_route(decision);
    outcome->target_group = gw_decision_group(decision);
    outcome->status = decision->request.status;
    outcome->reason = decision->request.reason;
    outcome->answer = gw_answer_text(pool, outcome->status, outcome->reason);
    outcome->url = decision->dry.target_url;
    if (outcome->reason == GW_REASON_REDIRECT && (location = h2o_find_header(fields, H2O_TOKEN_LOCATION, -1)) != -1)
        outcome->url = fields->entries[location].value;
}

h2o_iovec_t gw_logged_request(h2o_mem_pool_t *pool, const struct gw_log_entry *entry)
{
    bool is_tls = h2o_memis(entry->scheme.base, entry->scheme.len, H2O_STRLIT("https"));
    bool has_query = entry->query.base != NULL;
    return h2o_concat(pool, entry->method, is_tls ? text_of(" https://") : text_of(" http://"), entry->host,
                      entry->path, has_query ? text_of("?") : text_of(""), has_query ? entry->query : text_of(""));
}

bool gw_route_is_blind(const struct routing_route_conf *route)
{
    static const char *const logged[] = {"user-agent", "referer", "x-forwarded-for"};

    for (size_t i = 0; i != route->match.header.size; ++i) {
        bool is_logged = false;
        for (size_t j = 0; j != sizeof(logged) / sizeof(logged[0]); ++j)
            is_logged |= strcasecmp(route->match.header.entries[i].name.base, logged[j]) == 0;
        if (!is_logged)
            return true;
    }
    return false;
}

/* ---- reports ---- */

bool gw_logged_parse_examples(const char *command, const char *text, size_t *n)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > GW_LOGGED_MAX_EXAMPLES) {
        fprintf(stderr, "weir %s: --examples: \"%s\" is no number (expected 0 to %d)\n", command, text,
                GW_LOGGED_MAX_EXAMPLES);
        return false;
    }
    *n = value;
    return true;
}

void gw_logged_print_skipped(FILE *out, const struct gw_log_counts *counts)
{
    const char *separator = "";
    if (counts->bad + counts->no_request == 0)
        return;
    fprintf(out, " (skipped: ");
    if (counts->bad != 0) {
        fprintf(out, "%" PRIu64 " that %s no access log line%s", counts->bad, counts->bad == 1 ? "is" : "are",
                counts->bad == 1 ? "" : "s");
        separator = ", ";
    }
    if (counts->no_request != 0)
        fprintf(out, "%s%" PRIu64 " without a whole request", separator, counts->no_request);
    fputc(')', out);
}

void gw_logged_print_blind(FILE *out, const char *path, const struct gw_config *config)
{
    size_t n = 0;

    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_route_conf *route = config->routes.entries[i];
        if (!gw_route_is_blind(route))
            continue;
        if (n++ == 0)
            fprintf(out, "\nnote: the log does not hold the headers that these routes of %s match on: ", path);
        if (n <= MAX_NAMES_SHOWN)
            fprintf(out, "%s%.*s", n == 1 ? "" : ", ", (int)route->name.len, route->name.base);
    }
    if (n > MAX_NAMES_SHOWN)
        fprintf(out, " and %zu more", n - MAX_NAMES_SHOWN);
    if (n != 0)
        fputc('\n', out);
}

/* Somebody's URL must not command the reader's terminal: C0 and C1 controls are shown as numbers. */
static void print_clean(FILE *out, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; ++s)
        if (*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\x%02x", *s);
        else if (*s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
            fprintf(out, "\\x%02x", *++s);
        else
            fputc(*s, out);
}

static void print_change(FILE *out, const char *from, const char *to)
{
    print_clean(out, from != NULL ? from : "-");
    fputs(" -> ", out);
    print_clean(out, to != NULL ? to : "-");
    fputc('\n', out);
}

static void print_example(FILE *out, const struct gw_tally_example *example)
{
    fprintf(out, "              line %" PRIu64 ": ", example->line);
    print_clean(out, example->request);
    if (example->client[0] != '\0') {
        fputs(" from ", out);
        print_clean(out, example->client);
    }
    fputc('\n', out);
    if (example->before == NULL && example->after == NULL)
        return;
    fputs("                ", out);
    print_change(out, example->before, example->after);
}

static uint64_t count_rows(const struct gw_tally *tally, const char *what)
{
    uint64_t sum = 0;
    for (size_t i = 0; i != tally->size; ++i)
        if (strcmp(tally->rows[i].what, what) == 0)
            sum += tally->rows[i].count;
    return sum;
}

void gw_logged_print_rows(FILE *out, const struct gw_tally *tally, const char *what)
{
    uint64_t sum = count_rows(tally, what);
    size_t shown = 0, left = 0;

    if (sum == 0)
        return;
    fprintf(out, "\n  %s: %" PRIu64 " request%s\n", what, sum, sum == 1 ? "" : "s");
    for (size_t i = 0; i != tally->size; ++i) {
        const struct gw_tally_row *row = &tally->rows[i];
        if (strcmp(row->what, what) != 0)
            continue;
        if (shown++ >= MAX_ROWS_SHOWN) {
            ++left;
            continue;
        }
        fprintf(out, "  %10" PRIu64 "  ", row->count);
        print_change(out, row->from, row->to);
        for (size_t j = 0; j != row->num_examples; ++j)
            print_example(out, &row->examples[j]);
    }
    if (left != 0)
        fprintf(out, "              and %zu more kinds of change (--json shows them)\n", left);
}

static void json_unsigned(struct gw_json *json, const char *key, uint64_t value)
{
    gw_json_key(json, key);
    gw_json_unsigned(json, value);
}

static void json_string(struct gw_json *json, const char *key, const char *value)
{
    gw_json_key(json, key);
    gw_json_string(json, value);
}

void gw_logged_json_counts(struct gw_json *json, const struct gw_log_counts *counts, const struct gw_config *config)
{
    json_unsigned(json, "lines", counts->lines);
    json_unsigned(json, "decided", counts->lines - counts->bad - counts->no_request);
    gw_json_key(json, "skipped");
    gw_json_object(json);
    json_unsigned(json, "bad", counts->bad);
    json_unsigned(json, "no_request", counts->no_request);
    gw_json_object_end(json);
    gw_json_key(json, "blind_routes");
    gw_json_array(json);
    for (size_t i = 0; i != config->routes.size; ++i)
        if (gw_route_is_blind(config->routes.entries[i]))
            gw_json_text(json, ((const struct routing_route_conf *)config->routes.entries[i])->name);
    gw_json_array_end(json);
}

static void json_example(struct gw_json *json, const struct gw_tally_example *example)
{
    gw_json_object(json);
    json_unsigned(json, "line", example->line);
    json_string(json, "request", example->request);
    json_string(json, "client", example->client);
    if (example->before != NULL || example->after != NULL) {
        gw_json_key(json, "from");
        example->before != NULL ? gw_json_string(json, example->before) : gw_json_null(json);
        gw_json_key(json, "to");
        example->after != NULL ? gw_json_string(json, example->after) : gw_json_null(json);
    }
    gw_json_object_end(json);
}

void gw_logged_json_rows(struct gw_json *json, const struct gw_tally *tally, const char *what)
{
    gw_json_array(json);
    for (size_t i = 0; i != tally->size; ++i) {
        const struct gw_tally_row *row = &tally->rows[i];
        if (strcmp(row->what, what) != 0)
            continue;
        gw_json_object(json);
        json_string(json, "from", row->from);
        json_string(json, "to", row->to);
        json_unsigned(json, "requests", row->count);
        gw_json_key(json, "examples");
        gw_json_array(json);
        for (size_t j = 0; j != row->num_examples; ++j)
            json_example(json, &row->examples[j]);
        gw_json_array_end(json);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

bool gw_logged_is_read(const char *command, const char *log, int error, const struct gw_log_counts *counts)
{
    if (error != 0) {
        fprintf(stderr, "weir %s: %s: %s\n", command, log, strerror(error));
        return false;
    }
    if (counts->lines != 0 && counts->bad == counts->lines) {
        fprintf(stderr, "weir %s: %s: no line of it is one of weir's access log (JSON)\n", command, log);
        return false;
    }
    return true;
}
