/* The tables of the dashboard. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "gateway/admin/admin.h"
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/dashboard.h"
#include "gateway/admin/health_log.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/view.h"
#include "gateway/l4/l4.h"

enum {
    MAX_ROUTES_SHOWN = 200,
    MAX_LISTENERS_SHOWN = 100,
    MAX_GROUPS_SHOWN = 100,
    MAX_TARGETS_SHOWN = 100,
    MAX_ERRORS_SHOWN = 100
};

/* ---- cells ---- */

/* Cells of numbers that only grow say so, and the script shows how fast. */
static void put_total(struct gw_html *html, uint64_t value, const char *class)
{
    char number[24];
    snprintf(number, sizeof(number), "%llu", (unsigned long long)value);
    gw_html_format(html, "<td class=\"n %m\" data-total=\"%m\">%n</td>", class, number, value);
}

static void put_rate(struct gw_html *html) { gw_html_markup(html, "<td class=\"n rate\">–</td>"); }

static void put_ms(struct gw_html *html, const uint64_t buckets[GW_HISTOGRAM_BUCKETS], double q, const char *class)
{
    double ms = gw_histogram_quantile(buckets, q) * 1000;
    char text[32] = "–";

    if (!isnan(ms))
        snprintf(text, sizeof(text), ms < 100 ? "%.1f" : "%.0f", ms);
    gw_html_format(html, "<td class=\"n %m\">%s</td>", class, text);
}

/* <time>12:34:56</time>; the date is in the title. */
static void put_time(struct gw_html *html, uint64_t wall_ms)
{
    time_t t = (time_t)(wall_ms / 1000);
    char date[32] = "", clock[16] = "–";
    struct tm tm;

    if (wall_ms != 0 && gmtime_r(&t, &tm) != NULL) {
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
        strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    }
    gw_html_format(html, "<time datetime=\"%m\" title=\"%m\">%m</time>", date, date, clock);
}

/* ---- routes ---- */

static void put_texts(struct gw_html *html, const struct gw_texts *texts, const char **separator)
{
    for (size_t i = 0; i != texts->size; ++i) {
        gw_html_format(html, "%m<code>%t</code>", *separator, texts->entries[i]);
        *separator = " ";
    }
}

static void put_match(struct gw_html *html, const struct routing_match_conf *match)
{
    const char *separator = "";

    put_texts(html, &match->host, &separator);
    put_texts(html, &match->host_regex, &separator);
    put_texts(html, &match->path, &separator);
    put_texts(html, &match->path_prefix, &separator);
    put_texts(html, &match->path_exact, &separator);
    put_texts(html, &match->path_regex, &separator);
    if (separator[0] == '\0')
        gw_html_markup(html, "<span class=\"dim\">any host and path</span>");
}

static void put_action(struct gw_html *html, const struct gw_route *route)
{
    const char *separator = "";

    switch (route->action) {
    case ROUTING_FORWARD:
        for (uint32_t i = 0; i != route->num_groups; ++i, separator = ", ")
            gw_html_format(html, "%m<a href=\"#group-%t\">%t</a>", separator, route->groups[i].group->name,
                           route->groups[i].group->name);
        break;
    case ROUTING_REDIRECT:
        gw_html_markup(html, "redirect");
        break;
    case ROUTING_RESPOND:
        gw_html_format(html, "respond %n", route->conf->respond->status);
        break;
    case ROUTING_FILES:
        gw_html_markup(html, "files");
        break;
    case ROUTING_ECHO:
        gw_html_markup(html, "echo");
        break;
    }
}

static void put_counts(struct gw_html *html, const struct gw_route_sums *sums)
{
    put_total(html, sums->requests, "");
    put_rate(html);
    put_total(html, sums->by_class[4], sums->by_class[4] != 0 ? "wide warn" : "wide");
    put_total(html, sums->by_class[5], sums->by_class[5] != 0 ? "bad" : "");
    put_ms(html, sums->seconds, 0.5, "");
    put_ms(html, sums->seconds, 0.99, "");
    gw_html_markup(html, "</tr>");
}

void gw_dashboard_routes(struct gw_html *html, struct gw_process *process)
{
    const struct gw_snapshot *snapshot = process->active;
    struct gw_route_sums sums;

    gw_html_markup(html, "<table id=\"routes-table\"><thead><tr><th>Route<th class=\"wide\">Match<th>Action"
                         "<th class=\"n\">Requests<th class=\"n rate\">/s<th class=\"n wide\">4xx<th class=\"n\">5xx"
                         "<th class=\"n\">p50 ms<th class=\"n\">p99 ms</tr></thead><tbody>");
    for (size_t i = 0; i != snapshot->num_routes && i != MAX_ROUTES_SHOWN; ++i) {
        const struct gw_route *route = &snapshot->routes[i];
        gw_html_format(html, "<tr data-key=\"route %t\"><th scope=\"row\" title=\"%s:%n\">%t</th><td class=\"wide\">",
                       route->conf->name, route->conf->at->file, (uint64_t)route->conf->at->line, route->conf->name);
        put_match(html, &route->conf->match);
        gw_html_markup(html, "</td><td>");
        put_action(html, route);
        gw_html_markup(html, "</td>");
        gw_route_sum(process, route->stats, route, &sums);
        put_counts(html, &sums);
    }
    gw_html_markup(
        html, "<tr data-key=\"no route\"><th scope=\"row\" class=\"dim\">none</th><td class=\"wide dim\">what no route "
              "took</td><td class=\"dim\">404</td>");
    gw_route_sum(process, snapshot->no_route, NULL, &sums);
    put_counts(html, &sums);
    gw_html_markup(html, "</tbody></table>");
    if (snapshot->num_routes > MAX_ROUTES_SHOWN)
        gw_html_format(html, "<p class=\"note\">%n more: <a href=\"api/v1/routes\">all</a></p>",
                       (uint64_t)snapshot->num_routes - MAX_ROUTES_SHOWN);
}

/* ---- listeners ---- */

static void put_forward(struct gw_html *html, const struct gw_l4_listener *l4)
{
    const char *separator = "";

    for (size_t i = 0; l4->forward != NULL && i != l4->forward->size; ++i, separator = ", ")
        gw_html_format(html, "%m<a href=\"#group-%t\">%t</a>", separator, l4->forward->groups[i]->name,
                       l4->forward->groups[i]->name);
    if (l4->num_rules != 0)
        gw_html_format(html, "%m%n by server name", separator, (uint64_t)l4->num_rules);
}

static void put_sums(struct gw_html *html, struct gw_process *process, const struct gw_l4_listener *l4)
{
    struct gw_l4_sums sums;

    gw_l4_sum(process, l4, &sums);
    gw_html_format(html, "<td class=\"n\">%n</td>", sums.open);
    put_total(html, sums.ended, "");
    put_rate(html);
    put_total(html, sums.bytes_in, "wide");
    put_total(html, sums.bytes_out, "wide");
}

void gw_dashboard_listeners(struct gw_html *html, struct gw_process *process)
{
    const struct gw_snapshot *snapshot = process->active;

    gw_html_markup(html, "<table id=\"listeners-table\"><thead><tr><th>Listener<th>Protocol<th class=\"wide\">Address"
                         "<th>Forward<th class=\"n\">Open<th class=\"n\">Ended<th class=\"n rate\">/s"
                         "<th class=\"n wide\">Bytes in<th class=\"n wide\">Bytes out</tr></thead><tbody>");
    for (size_t i = 0; i != snapshot->num_listeners && i != MAX_LISTENERS_SHOWN; ++i) {
        const struct gw_snapshot_listener *listener = &snapshot->listeners[i];
        gw_html_format(html, "<tr data-key=\"listener %t\"><th scope=\"row\" title=\"%s:%n\">%t</th><td>%s%m</td>",
                       listener->name, listener->conf->at->file, (uint64_t)listener->conf->at->line, listener->name,
                       gw_listener_protocols[listener->conf->protocol],
                       listener->l4 == NULL && listener->tls != NULL ? " (tls)" : "");
        gw_html_markup(html, "<td class=\"wide\">");
        for (size_t j = 0; j != listener->conf->address.size; ++j)
            gw_html_format(html, "%m<code>%t</code>", j != 0 ? " " : "", listener->conf->address.entries[j].text);
        gw_html_markup(html, "</td><td>");
        if (listener->l4 != NULL) {
            put_forward(html, listener->l4);
            gw_html_markup(html, "</td>");
            put_sums(html, process, listener->l4);
        } else {
            gw_html_markup(html,
                           "<a href=\"#routes\">routes</a></td><td class=\"n dim\">–</td><td class=\"n dim\">–</td>"
                           "<td class=\"n rate dim\">–</td><td class=\"n wide dim\">–</td>"
                           "<td class=\"n wide dim\">–</td>");
        }
        gw_html_markup(html, "</tr>");
    }
    gw_html_markup(html, "</tbody></table>");
    if (snapshot->num_listeners > MAX_LISTENERS_SHOWN)
        gw_html_format(html, "<p class=\"note\">%n more: <a href=\"api/v1/status\">all</a></p>",
                       (uint64_t)snapshot->num_listeners - MAX_LISTENERS_SHOWN);
}

/* ---- target groups ---- */

static const char *class_of(enum routing_health_state state)
{
    switch (state) {
    case ROUTING_HEALTH_HEALTHY:
        return "good";
    case ROUTING_HEALTH_UNHEALTHY:
    case ROUTING_HEALTH_EJECTED:
        return "bad";
    case ROUTING_HEALTH_UNCHECKED:
        return "plain";
    default:
        return "warn";
    }
}

/* The last checks from the oldest to the newest, a bar for each. */
static void put_strip(struct gw_html *html, const struct gw_health_log *log)
{
    uint32_t size = log->num_checks < GW_HEALTH_LOG_MAX ? log->num_checks : GW_HEALTH_LOG_MAX;

    gw_html_format(html, "<svg class=\"strip\" viewBox=\"0 0 200 16\" role=\"img\" aria-label=\"the last %n checks\">",
                   (uint64_t)size);
    for (uint32_t i = size; i-- != 0;) {
        const struct gw_health_check_event *check = &log->checks[(log->num_checks - 1 - i) % GW_HEALTH_LOG_MAX];
        char x[16];
        snprintf(x, sizeof(x), "%u", 4 * (GW_HEALTH_LOG_MAX - 1 - i));
        gw_html_format(html, "<rect class=\"%m\" x=\"%m\" y=\"0\" width=\"3\" height=\"16\"><title>",
                       check->result == ROUTING_PROBE_PASS ? "good" : "bad", x);
        gw_html_string(html, gw_health_log_result((enum routing_probe)check->result));
        if (check->status != 0)
            gw_html_format(html, " (%n)", (uint64_t)check->status);
        gw_html_markup(html, "</title></rect>");
    }
    gw_html_markup(html, "</svg>");
}

static void put_changes(struct gw_html *html, const struct gw_health_log *log, h2o_iovec_t group, h2o_iovec_t target)
{
    uint32_t size = log->num_changes < GW_HEALTH_LOG_MAX ? log->num_changes : GW_HEALTH_LOG_MAX;

    gw_html_format(html, "<details id=\"changes %t %t\"><summary>%n change%m</summary><ol class=\"changes\">", group,
                   target, (uint64_t)log->num_changes, log->num_changes == 1 ? "" : "s");
    for (uint32_t i = 0; i != size; ++i) {
        const struct gw_health_change_event *change = &log->changes[(log->num_changes - 1 - i) % GW_HEALTH_LOG_MAX];
        gw_html_markup(html, "<li>");
        put_time(html, change->wall_ms);
        gw_html_format(html, " <span class=\"pill %m\">%s</span> ", class_of((enum routing_health_state)change->state),
                       routing_health_name((enum routing_health_state)change->state));
        if (change->weight >= 0)
            gw_html_format(html, "weight %n ", (uint64_t)change->weight);
        if (strcmp(change->reason, "-") != 0)
            gw_html_format(html, "%s ", change->reason);
        if (change->cause == GW_HEALTH_BY_OPERATOR)
            gw_html_markup(html, "by an operator");
        if (change->cause == GW_HEALTH_BY_OUTLIER)
            gw_html_markup(html, "by outlier detection");
        gw_html_markup(html, "</li>");
    }
    gw_html_markup(html, "</ol></details>");
}

static void put_state(struct gw_html *html, const struct routing_target *target)
{
    enum routing_health_state state = routing_health_state(target->health);

    gw_html_format(html, "<td><span class=\"pill %m\" title=\"%s\">%s</span>", class_of(state),
                   routing_health_reason(target->health), routing_health_name(state));
    if ((routing_health_override(target->health) & ROUTING_OVERRIDE_DRAIN) != 0)
        gw_html_format(html, " <small>by an operator; checks: %s</small>",
                       routing_health_name(routing_health_checked_state(target->health)));
    gw_html_markup(html, "</td>");
}

static void put_target(struct gw_html *html, const struct gw_process *process, h2o_iovec_t group,
                       const struct routing_target *target)
{
    const struct gw_health_log *log = gw_endpoint_entry_of(target)->log;
    struct gw_target_sums sums;
    uint32_t weight = routing_health_weight(target->health, target->weight);

    gw_target_sum(process, target, &sums);
    gw_html_format(html, "<tr data-key=\"target %t %t\"><th scope=\"row\" title=\"%t (%s)\">%t</th>", group,
                   target->name, target->name, target->source, target->name);
    put_state(html, target);
    gw_html_format(html, "<td class=\"n\">%n%m</td><td class=\"n wide\">%n</td>", (uint64_t)weight,
                   weight != target->weight ? "<small>*</small>" : "", sums.in_flight);
    put_total(html, sums.attempts, "wide");
    put_rate(html);
    put_total(html, sums.failures, sums.failures != 0 ? "bad" : "");
    put_ms(html, sums.seconds, 0.5, "wide");
    put_ms(html, sums.seconds, 0.99, "wide");
    gw_html_markup(html, "<td class=\"history\">");
    if (log == NULL) {
        gw_html_markup(html, "<span class=\"dim\">–</span>");
    } else {
        if (log->num_checks != 0)
            put_strip(html, log);
        put_changes(html, log, group, target->name);
    }
    gw_html_markup(html, "</td></tr>");
}

struct leaving {
    struct gw_html *html;
    const struct gw_process *process;
    h2o_iovec_t group;
    unsigned left;
};

static void put_leaving(void *data, const struct routing_target *target)
{
    struct leaving *leaving = data;

    if (leaving->left == 0)
        return;
    --leaving->left;
    put_target(leaving->html, leaving->process, leaving->group, target);
}

static void put_group(struct gw_html *html, const struct gw_process *process, const struct routing_target_group *group)
{
    struct leaving leaving = {html, process, group->name, MAX_TARGETS_SHOWN};

    gw_html_format(
        html,
        "<h3 id=\"group-%t\">%t</h3><div class=\"scroll\"><table class=\"targets\"><thead><tr><th>Target<th>State"
        "<th class=\"n\">Weight<th class=\"n wide\">In flight<th class=\"n wide\">Requests<th class=\"n rate\">/s"
        "<th class=\"n\">Failed<th class=\"n wide\">p50 ms<th class=\"n wide\">p99 ms"
        "<th>Health</tr></thead><tbody>",
        group->name, group->name);
    for (uint32_t i = 0; i != group->size && i != MAX_TARGETS_SHOWN; ++i)
        put_target(html, process, group->name, &group->targets[i]);
    gw_departures_each(process, group->entry, put_leaving, &leaving);
    gw_html_markup(html, "</tbody></table></div>");
    if (group->size > MAX_TARGETS_SHOWN)
        gw_html_format(html, "<p class=\"note\">%n more: <a href=\"api/v1/target_groups/%t\">all</a></p>",
                       (uint64_t)group->size - MAX_TARGETS_SHOWN, group->name);
}

void gw_dashboard_targets(struct gw_html *html, struct gw_process *process)
{
    const struct gw_snapshot *snapshot = process->active;

    for (size_t i = 0; i != snapshot->num_groups && i != MAX_GROUPS_SHOWN; ++i)
        put_group(html, process, gw_view_of_control(snapshot, &snapshot->groups[i]));
    if (snapshot->num_groups == 0)
        gw_html_markup(html, "<p class=\"note\">No target groups.</p>");
    if (snapshot->num_groups > MAX_GROUPS_SHOWN)
        gw_html_format(html, "<p class=\"note\">%n more: <a href=\"api/v1/target_groups\">all</a></p>",
                       (uint64_t)snapshot->num_groups - MAX_GROUPS_SHOWN);
}

/* ---- certificates ---- */

static void put_certificate(struct gw_html *html, const struct tls_certificate *certificate)
{
    int64_t days = tls_certificate_days_left(certificate, time(NULL));
    char end[16] = "–", key[32];
    struct tm tm;

    if (gmtime_r(&certificate->not_after, &tm) != NULL)
        strftime(end, sizeof(end), "%Y-%m-%d", &tm);
    snprintf(key, sizeof(key), "%s %u", certificate->is_ecdsa ? "ECDSA" : "RSA", certificate->key_bits);
    gw_html_format(html, "<tr><th scope=\"row\">%t</th><td>", certificate->name);
    for (size_t i = 0; i != certificate->num_dns_names; ++i)
        gw_html_format(html, "%m<code>%t</code>", i != 0 ? " " : "", certificate->dns_names[i]);
    gw_html_format(
        html,
        "</td><td class=\"wide\">%s</td><td>%s</td><td class=\"n\"><span class=\"pill %m\">%i days</span></td></tr>",
        key, end,
        days < 7    ? "bad"
        : days < 30 ? "warn"
                    : "good",
        days);
}

void gw_dashboard_certificates(struct gw_html *html, struct gw_process *process)
{
    const struct gw_snapshot *snapshot = process->active;

    if (snapshot->num_certificates == 0) {
        gw_html_markup(html, "<p class=\"note\">No certificates.</p>");
        return;
    }
    gw_html_markup(html,
                   "<table><thead><tr><th>Certificate<th>Names<th class=\"wide\">Key<th>Ends<th class=\"n\">Left</tr>"
                   "</thead><tbody>");
    for (size_t i = 0; i != snapshot->num_certificates; ++i)
        put_certificate(html, snapshot->certificates[i]);
    gw_html_markup(html, "</tbody></table>");
}

/* ---- errors ---- */

static void put_error(struct gw_html *html, const struct gw_recent_error *error)
{
    const struct gw_reason_info *info = gw_reason_info(error->reason);
    char ip[GW_IP_TEXT], status[16];

    gw_ip_format(&error->client, ip);
    snprintf(status, sizeof(status), "%d", error->status);
    gw_html_markup(html, "<tr><td>");
    put_time(html, error->wall_ms);
    gw_html_format(html, "</td><td><span class=\"pill %m\">%s</span></td><td><b>%s</b><br><small>%s</small></td><td>",
                   error->status >= 400 && error->status < 500 ? "warn" : "bad",
                   error->status != 0 ? status : "cut off", info->code, info->cause);
    if (error->method[0] != '\0')
        gw_html_format(html, "<code>%s %s%s</code><br>", error->method, error->host, error->path);
    gw_html_format(html, "<small>from %s%m%s%m%s</small></td><td class=\"wide\">%s", ip,
                   error->route[0] != '\0' ? ", route " : "", error->route, error->target[0] != '\0' ? ", target " : "",
                   error->target, info->remedy);
    if (error->detail[0] != '\0')
        gw_html_format(html, "<br><small>%s</small>", error->detail);
    gw_html_markup(html, "</td></tr>");
}

void gw_dashboard_errors(struct gw_html *html, struct gw_process *process)
{
    const struct gw_recent *recent = gw_admin_recent(process->admin);

    if (gw_recent_size(recent) == 0) {
        gw_html_markup(html, "<p class=\"note\">None since the start.</p>");
        return;
    }
    gw_html_format(html,
                   "<p class=\"note\">%n in all; what weir answered with an error, or ended early, by itself. "
                   "<a href=\"api/v1/errors\">The last 200</a></p>",
                   recent->total);
    gw_html_markup(html,
                   "<div class=\"scroll tall\"><table id=\"errors-table\"><thead><tr><th>Time (UTC)<th>Status<th>Reason"
                   "<th>Request<th class=\"wide\">What to do</tr></thead><tbody>");
    for (size_t i = 0; i != gw_recent_size(recent) && i != MAX_ERRORS_SHOWN; ++i)
        put_error(html, gw_recent_at(recent, i));
    gw_html_markup(html, "</tbody></table></div>");
}

/* ---- reloads ---- */

void gw_dashboard_reloads(struct gw_html *html, struct gw_process *process)
{
    const struct gw_reloads *reloads = gw_admin_reloads(process->admin);
    char changes[200];

    gw_html_markup(html, "<table id=\"reloads-table\"><thead><tr><th>Time (UTC)<th class=\"n\">Generation<th>Result"
                         "<th class=\"n wide\">Took</tr></thead><tbody>");
    for (size_t i = 0; i != gw_reloads_size(reloads); ++i) {
        const struct gw_reload_note *note = gw_reloads_at(reloads, i);
        gw_html_markup(html, "<tr><td>");
        put_time(html, note->wall_ms);
        if (note->generation != 0)
            gw_html_format(html, "</td><td class=\"n\">%n</td><td><span class=\"pill good\">ok</span> ",
                           note->generation);
        else
            gw_html_markup(html, "</td><td class=\"n\">–</td><td><span class=\"pill bad\">failed</span> ");
        if (note->has_changes) {
            gw_changes_text(&note->changes, changes, sizeof(changes));
            gw_html_string(html, changes);
        } else if (note->generation != 0) {
            gw_html_markup(html, "<span class=\"dim\">first load</span>");
        }
        if (note->errors != NULL)
            gw_html_format(html, "<pre class=\"finding\">%s</pre>", note->errors);
        gw_html_format(html, "</td><td class=\"n wide\">%n ms</td></tr>", note->duration_ms);
    }
    gw_html_markup(html, "</tbody></table>");
}
