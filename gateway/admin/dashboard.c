#include "gateway/admin/dashboard.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/resolver_page.h"
#include "gateway/admin/admin_request.h"
#include "gateway/admin/embedded.h"

enum { MAX_CONFIG_SHOWN = 64 * 1024, DEATH_IS_NEWS_S = 600 };

/* ---- the head of the page ---- */

/* Of the worker, not of its supervisor. */
static uint64_t uptime_s(const struct gw_process *process)
{
    uint64_t now_s = (uint64_t)time(NULL);
    return now_s > process->started_ms / 1000 ? now_s - process->started_ms / 1000 : 0;
}

static uint64_t num_deaths(const struct gw_process *process)
{
    return process->supervised != NULL ? gw_supervised_hello(process->supervised)->restarts : 0;
}

static void put_state(struct gw_html *html, struct gw_process *process)
{
    if (process->is_draining)
        gw_html_markup(html, "<span class=\"pill warn\">draining</span>");
    else if (!process->is_ready)
        gw_html_markup(html, "<span class=\"pill warn\">starting</span>");
    else
        gw_html_markup(html, "<span class=\"pill good\">ready</span>");
    if (!process->last_reload_ok)
        gw_html_markup(html, " <a class=\"pill bad\" href=\"#reloads\">last reload failed</a>");
    if (num_deaths(process) != 0 && uptime_s(process) < DEATH_IS_NEWS_S)
        gw_html_markup(html, " <span class=\"pill warn\">the worker before this one died: see the error log</span>");
}

static void put_uptime(struct gw_html *html, struct gw_process *process)
{
    uint64_t s = uptime_s(process);

    if (s >= 86400)
        gw_html_format(html, "%n d %n h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        gw_html_format(html, "%n h %n min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        gw_html_format(html, "%n min %n s", s / 60, s % 60);
    else
        gw_html_format(html, "%n s", s);
}

static void put_facts(struct gw_html *html, struct gw_process *process)
{
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    gw_html_format(html, "<span>version %s</span> <span>generation <b>%n</b></span> <span>%n routes</span> <span>up ",
                   WEIR_VERSION, process->generation, (uint64_t)process->active->num_routes);
    put_uptime(html, process);
    gw_html_format(html, "</span> <span>pid %m</span>", pid);
    if (num_deaths(process) != 0)
        gw_html_format(html, " <span>workers that died: <b>%n</b></span>", num_deaths(process));
}

/* ---- numbers of this moment ---- */

static void put_tile(struct gw_html *html, const char *key, const char *label, const char *format, double value,
                     const char *unit, bool is_bad)
{
    char text[32];

    snprintf(text, sizeof(text), format, value);
    gw_html_format(html, "<div class=\"tile%m\"><dt>%s</dt><dd data-now=\"%s\">%s<small>%s</small></dd></div>",
                   is_bad ? " bad" : "", label, key, isnan(value) ? "–" : text, unit);
}

static void put_tiles(struct gw_html *html, struct gw_process *process)
{
    static const struct gw_traffic_sample nothing = {.p50_ms = NAN, .p99_ms = NAN};
    const struct gw_traffic_sample *now = gw_traffic_at(gw_admin_traffic(process->admin), 0);

    if (now == NULL)
        now = &nothing;
    put_tile(html, "requests", "Requests", "%.1f", now->requests, "/s", false);
    put_tile(html, "responses_5xx", "5xx answers", "%.1f", now->by_class[5], "/s", now->by_class[5] > 0);
    put_tile(html, "p50_ms", "Median latency", "%.1f", now->p50_ms, " ms", false);
    put_tile(html, "p99_ms", "99th percentile", "%.1f", now->p99_ms, " ms", false);
    put_tile(html, "connections", "Connections", "%.0f", now->connections, "", false);
    put_tile(html, "in_flight", "In flight", "%.0f", now->in_flight, "", false);
}

/* ---- configuration ---- */

static void put_config(struct gw_html *html, struct gw_process *process)
{
    h2o_iovec_t yaml = gw_page_config_yaml(process->active->config);
    bool is_cut = yaml.len > MAX_CONFIG_SHOWN;

    gw_html_format(html, "<p class=\"note\"><code>%s</code>, generation %n, secrets masked", process->config_path,
                   process->active->generation);
    gw_html_markup(html, is_cut ? "; only the beginning is shown" : "");
    gw_html_markup(
        html, ". Whole: <a href=\"api/v1/config?format=yaml\">YAML</a>, <a href=\"api/v1/config\">JSON</a>.</p><pre>");
    gw_html_text(html, h2o_iovec_init(yaml.base, is_cut ? MAX_CONFIG_SHOWN : yaml.len));
    gw_html_markup(html, "</pre>");
    free(yaml.base);
}

/* ---- the template ---- */

static const struct {
    const char *name;
    void (*put)(struct gw_html *, struct gw_process *);
} parts[] = {
    {"state", put_state},
    {"facts", put_facts},
    {"tiles", put_tiles},
    {"routes", gw_dashboard_routes},
    {"listeners", gw_dashboard_listeners},
    {"targets", gw_dashboard_targets},
    {"names", gw_dashboard_names},
    {"certificates", gw_dashboard_certificates},
    {"errors", gw_dashboard_errors},
    {"reloads", gw_dashboard_reloads},
    {"config", put_config},
};

static void put_part(struct gw_html *html, struct gw_process *process, const char *name, size_t len)
{
    for (size_t i = 0; i != sizeof(parts) / sizeof(parts[0]); ++i)
        if (h2o_memis(parts[i].name, strlen(parts[i].name), name, len)) {
            parts[i].put(html, process);
            return;
        }
    assert(!"the template names an unknown part");
}

/* {{name}} is where a part goes. */
static void fill_in(struct gw_html *html, struct gw_process *process, h2o_iovec_t template)
{
    const char *at = template.base, *end = at + template.len, *open, *close;

    while ((open = memmem(at, end - at, "{{", 2)) != NULL && (close = memmem(open, end - open, "}}", 2)) != NULL) {
        gw_html_bytes(html, h2o_iovec_init(at, open - at));
        put_part(html, process, open + 2, close - open - 2);
        at = close + 2;
    }
    gw_html_bytes(html, h2o_iovec_init(at, end - at));
}

/* ---- answers ---- */

/* Nothing from elsewhere, nothing inline, no frames: what a request or a name smuggles in stays text. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static void add_headers(struct gw_admin_request *self)
{
    gw_admin_add_header(self, "content-security-policy", policy);
    gw_admin_add_header(self, "referrer-policy", "no-referrer");
    gw_admin_add_header(self, "x-frame-options", "DENY");
}

void gw_admin_dashboard(struct gw_admin_request *self)
{
    struct gw_html html = {NULL};

    fill_in(&html, self->process, gw_embedded("index.html"));
    add_headers(self);
    gw_admin_answer(self, 200, "text/html; charset=utf-8", h2o_iovec_init(html.base, html.size));
    gw_html_dispose(&html);
}

void gw_admin_dashboard_file(struct gw_admin_request *self)
{
    static const char *const types[][2] = {
        {".css", "text/css; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"}, {".svg", "image/svg+xml"}};
    char *name = h2o_strdup(self->request.pool, self->path.base + 1, self->path.len - 1).base;
    const char *extension = strrchr(name, '.');

    for (size_t i = 0; i != sizeof(types) / sizeof(types[0]); ++i)
        if (strcmp(extension, types[i][0]) == 0) {
            add_headers(self);
            gw_admin_answer_static(self, 200, types[i][1], gw_embedded(name));
            return;
        }
    assert(!"the table of pages names another kind of file");
}
