/* What the resolver knows, for metrics, status and dashboard. */
#include "gateway/admin/resolver_page.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/discovery/dns.h"
#include "gateway/discovery/resolver.h"

enum { MAX_NAMES_MEASURED = 50, MAX_NAMES_SHOWN = 200, MAX_VALUES_SHOWN = 8 };

struct names {
    const struct gw_dns_record **entries;
    size_t size, capacity;
};

static void add_name(void *data, const struct gw_dns_record *record)
{
    struct names *names = data;
    if (names->size == names->capacity) {
        names->capacity = names->capacity * 2 + 16;
        names->entries = h2o_mem_realloc(names->entries, names->capacity * sizeof(names->entries[0]));
    }
    names->entries[names->size++] = record;
}

static int compare_names(const void *a_, const void *b_)
{
    const struct gw_dns_record *a = *(const struct gw_dns_record *const *)a_;
    const struct gw_dns_record *b = *(const struct gw_dns_record *const *)b_;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->type > b->type) - (a->type < b->type);
}

/* By name, so that the first ones are the same ones each time. free() the entries. */
static struct names sorted_names(const struct gw_dns *dns)
{
    struct names names = {NULL};
    gw_dns_visit(dns, add_name, &names);
    if (names.size != 0)
        qsort(names.entries, names.size, sizeof(names.entries[0]), compare_names);
    return names;
}

static double seconds_between(uint64_t earlier_ms, uint64_t later_ms)
{
    return later_ms > earlier_ms ? (double)(later_ms - earlier_ms) / 1000 : 0;
}

/* ---- metrics ---- */

static void put_totals(struct gw_exposition *out, const struct gw_dns_totals *totals)
{
    gw_exposition_family(out, "weir_dns_queries_total", "counter", "Questions sent to DNS servers.");
    gw_exposition_sample(out, "weir_dns_queries_total", (double)totals->queries, NULL);
    gw_exposition_family(out, "weir_dns_failures_total", "counter",
                         "Questions that no usable answer came to, by what came instead.");
    for (int i = GW_DNS_SERVFAIL; i != GW_DNS_OUTCOMES; ++i)
        gw_exposition_sample(out, "weir_dns_failures_total", (double)totals->outcomes[i], "kind",
                             gw_dns_outcome_name((enum gw_dns_outcome)i), NULL);
}

static const char *state_of(const struct gw_dns_record *record)
{
    if (!record->has_ended)
        return "pending";
    return gw_dns_is_failure(record->last) ? "failing" : record->last == GW_DNS_VALUES ? "known" : "empty";
}

static void put_names(struct gw_exposition *out, const struct names *names)
{
    static const char *const states[] = {"pending", "known", "empty", "failing"};

    gw_exposition_family(out, "weir_dns_names", "gauge",
                         "Names and types that are asked for, by how the last question ended.");
    for (size_t s = 0; s != sizeof(states) / sizeof(states[0]); ++s) {
        uint64_t n = 0;
        for (size_t i = 0; i != names->size; ++i)
            n += strcmp(state_of(names->entries[i]), states[s]) == 0;
        gw_exposition_sample(out, "weir_dns_names", (double)n, "state", states[s], NULL);
    }
}

/* Of two names that differ in case alone there is one question; labels are as they were written first. */
static void put_ages(struct gw_exposition *out, const struct names *names, uint64_t now_ms)
{
    gw_exposition_family(out, "weir_dns_answer_age_seconds", "gauge",
                         "Since the last answer that was no failure. The first 50 names.");
    for (size_t i = 0; i != names->size && i != MAX_NAMES_MEASURED; ++i)
        if (names->entries[i]->answered_ms != 0)
            gw_exposition_sample(out, "weir_dns_answer_age_seconds",
                                 seconds_between(names->entries[i]->answered_ms, now_ms), "name",
                                 names->entries[i]->name, "type", gw_dns_type_name(names->entries[i]->type), NULL);
}

void gw_resolver_metrics(const struct gw_process *process, struct gw_exposition *out)
{
    const struct gw_dns *dns = gw_resolver_dns(process->resolver);
    struct names names = sorted_names(dns);

    put_totals(out, gw_dns_totals(dns));
    put_names(out, &names);
    put_ages(out, &names, gw_now_ms());
    free(names.entries);
}

/* ---- status ---- */

static void put_values(struct gw_json *json, const struct gw_dns_record *record)
{
    char text[GW_DNS_MAX_NAME + 64];

    gw_json_key(json, "values");
    gw_json_array(json);
    for (size_t i = 0; i != record->answer.size; ++i) {
        gw_dns_value_text(record->type, &record->answer.values[i], text, sizeof(text));
        gw_json_string(json, text);
    }
    gw_json_array_end(json);
}

static void put_seconds(struct gw_json *json, const char *key, bool is_known, double seconds)
{
    gw_json_key(json, key);
    if (is_known)
        gw_json_decimal(json, seconds, 3);
    else
        gw_json_null(json);
}

void gw_resolver_question(const struct gw_dns_record *record, struct gw_json *json, uint64_t now_ms)
{
    gw_json_object(json);
    gw_page_string(json, "name", record->name);
    gw_page_string(json, "type", gw_dns_type_name(record->type));
    gw_page_string(json, "outcome", record->has_ended ? gw_dns_outcome_name(record->last) : "pending");
    gw_page_number(json, "failures", record->failures);
    gw_page_string(json, "server", record->server);
    put_seconds(json, "answer_age_seconds", record->answered_ms != 0, seconds_between(record->answered_ms, now_ms));
    put_seconds(json, "next_seconds", record->has_ended, seconds_between(now_ms, record->due_ms));
    put_values(json, record);
    gw_json_object_end(json);
}

static void put_questions(const struct gw_dns *dns, struct gw_json *json)
{
    struct names names = sorted_names(dns);
    uint64_t now_ms = gw_now_ms();

    gw_json_key(json, "names");
    gw_json_array(json);
    for (size_t i = 0; i != names.size && i != MAX_NAMES_SHOWN; ++i)
        gw_resolver_question(names.entries[i], json, now_ms);
    gw_json_array_end(json);
    free(names.entries);
}

void gw_resolver_status(const struct gw_process *process, struct gw_json *json)
{
    const struct gw_dns *dns = gw_resolver_dns(process->resolver);
    const struct gw_dns_totals *totals = gw_dns_totals(dns);

    gw_json_key(json, "resolver");
    gw_json_object(json);
    gw_json_key(json, "servers");
    gw_json_array(json);
    for (size_t i = 0; gw_dns_server_name(dns, i) != NULL; ++i)
        gw_json_string(json, gw_dns_server_name(dns, i));
    gw_json_array_end(json);
    gw_page_number(json, "queries", totals->queries);
    gw_json_key(json, "outcomes");
    gw_json_object(json);
    for (int i = 0; i != GW_DNS_OUTCOMES; ++i)
        gw_page_number(json, gw_dns_outcome_name((enum gw_dns_outcome)i), totals->outcomes[i]);
    gw_json_object_end(json);
    put_questions(dns, json);
    gw_json_object_end(json);
}

/* ---- dashboard ---- */

static void put_row(struct gw_html *html, const struct gw_dns_record *record, uint64_t now_ms)
{
    char text[GW_DNS_MAX_NAME + 64];
    bool is_bad = record->has_ended && record->last != GW_DNS_VALUES;

    gw_html_format(html, "<tr data-key=\"name %s %s\"><th scope=\"row\">%s</th><td>%s</td><td><span class=\"pill %m\">",
                   record->name, gw_dns_type_name(record->type), record->name, gw_dns_type_name(record->type),
                   !record->has_ended                ? "dim"
                   : gw_dns_is_failure(record->last) ? "bad"
                   : record->last != GW_DNS_VALUES   ? "warn"
                                                     : "good");
    gw_html_format(html, "%s</span>", state_of(record));
    if (is_bad)
        gw_html_format(html, " <small>%s</small>", gw_dns_outcome_text(record->last));
    gw_html_markup(html, "</td><td>");
    for (size_t i = 0; i != record->answer.size && i != MAX_VALUES_SHOWN; ++i) {
        gw_dns_value_text(record->type, &record->answer.values[i], text, sizeof(text));
        gw_html_format(html, "%m<code>%s</code>", i != 0 ? ", " : "", text);
    }
    if (record->answer.size > MAX_VALUES_SHOWN)
        gw_html_format(html, " and %n more", (uint64_t)record->answer.size - MAX_VALUES_SHOWN);
    gw_html_format(html, "</td><td class=\"n\">%n s</td><td class=\"wide\">%s</td></tr>",
                   (uint64_t)seconds_between(now_ms, record->due_ms), record->server);
}

void gw_dashboard_names(struct gw_html *html, struct gw_process *process)
{
    struct names names = sorted_names(gw_resolver_dns(process->resolver));
    uint64_t now_ms = gw_now_ms();

    if (names.size != 0) {
        gw_html_markup(html, "<h3>Names</h3><div class=\"scroll\"><table id=\"names-table\"><thead><tr><th>Name<th>Type"
                             "<th>State<th>Values<th class=\"n\">Asked again in<th class=\"wide\">Server</tr></thead>"
                             "<tbody>");
        for (size_t i = 0; i != names.size && i != MAX_NAMES_SHOWN; ++i)
            put_row(html, names.entries[i], now_ms);
        gw_html_markup(html, "</tbody></table></div>");
    }
    free(names.entries);
}
