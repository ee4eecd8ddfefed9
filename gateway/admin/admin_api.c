/* What the admin API serves: one table from path and method to the function that answers. gateway/admin/openapi.json
 * describes it to clients. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/admin_request.h"
#include "gateway/answer/answer.h"
#include "gateway/admin/embedded.h"

enum { RELOAD_POLL_MS = 10, RELOAD_PATIENCE_MS = 60 * 1000 };

/* ---- answers ---- */

void gw_admin_add_standard_headers(struct gw_admin_request *self)
{
    h2o_req_t *req = &self->request.stream->req;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    gw_admin_add_header(self, "x-content-type-options", "nosniff");
    gw_admin_add_header(self, "cross-origin-resource-policy", "same-origin");
}

static void answer(struct gw_admin_request *self, int status, const char *type, h2o_iovec_t body, bool is_static)
{
    self->is_answered = true;
    gw_admin_add_standard_headers(self);
    gw_answer(&self->request, GW_REASON_NONE, status, h2o_iovec_init(type, strlen(type)), body, is_static);
}

void gw_admin_answer(struct gw_admin_request *self, int status, const char *type, h2o_iovec_t body)
{
    answer(self, status, type, body, false);
}

void gw_admin_answer_static(struct gw_admin_request *self, int status, const char *type, h2o_iovec_t body)
{
    answer(self, status, type, body, true);
}

void gw_admin_answer_json(struct gw_admin_request *self, int status, struct gw_json *json)
{
    gw_json_raw(json, "\n", 1);
    answer(self, status, "application/json", h2o_iovec_init(json->base, json->size), false);
    gw_json_dispose(json);
}

void gw_admin_problem(struct gw_admin_request *self, int status, const char *format, ...)
{
    struct gw_json json;
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "status");
    gw_json_number(&json, status);
    gw_json_key(&json, "message");
    gw_json_string(&json, text);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, status, &json);
}

void gw_admin_add_header(struct gw_admin_request *self, const char *name, const char *value)
{
    h2o_req_t *req = &self->request.stream->req;
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 0, NULL, value, strlen(value));
}

static void answer_text(struct gw_admin_request *self, int status, const char *text)
{
    answer(self, status, "text/plain; charset=utf-8", h2o_iovec_init(text, strlen(text)), true);
}

/* ---- parameters ---- */

static int hex_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

h2o_iovec_t gw_admin_decode(h2o_mem_pool_t *pool, h2o_iovec_t text, bool is_query)
{
    h2o_iovec_t decoded = h2o_iovec_init(h2o_mem_alloc_pool(pool, text.len + 1), 0);

    for (size_t i = 0; i != text.len; ++i) {
        char c = text.base[i];
        if (c == '%') {
            bool is_whole = text.len - i > 2;
            int high = is_whole ? hex_of(text.base[i + 1]) : -1, low = is_whole ? hex_of(text.base[i + 2]) : -1;
            if (high == -1 || low == -1 || (c = (char)(high << 4 | low)) == '\0')
                return h2o_iovec_init(NULL, 0);
            i += 2;
        } else if (c == '+' && is_query) {
            c = ' ';
        }
        decoded.base[decoded.len++] = c;
    }
    decoded.base[decoded.len] = '\0';
    return decoded;
}

h2o_iovec_t gw_admin_parameter(struct gw_admin_request *self, const char *name)
{
    const char *at = self->query.base, *end = at + self->query.len;
    size_t name_len = strlen(name);

    while (at != NULL && at < end) {
        const char *next = memchr(at, '&', end - at);
        h2o_iovec_t pair = h2o_iovec_init(at, (next != NULL ? next : end) - at);
        if (pair.len > name_len && pair.base[name_len] == '=' && memcmp(pair.base, name, name_len) == 0)
            return gw_admin_decode(self->request.pool,
                                   h2o_iovec_init(pair.base + name_len + 1, pair.len - name_len - 1), true);
        at = next != NULL ? next + 1 : NULL;
    }
    return h2o_iovec_init(NULL, 0);
}

bool gw_admin_number(struct gw_admin_request *self, const char *name, uint64_t otherwise, uint64_t max, uint64_t *value)
{
    h2o_iovec_t text = gw_admin_parameter(self, name);

    *value = otherwise;
    if (text.base == NULL)
        return true;
    *value = 0;
    size_t i = 0;
    for (; i != text.len && text.base[i] >= '0' && text.base[i] <= '9' && *value <= max; ++i)
        *value = *value * 10 + (uint64_t)(text.base[i] - '0');
    if (text.len != 0 && i == text.len && *value <= max)
        return true;
    gw_admin_problem(self, 400, "%s must be a number from 0 to %llu", name, (unsigned long long)max);
    return false;
}

/* ---- probes and metrics ---- */

static void show_health(struct gw_admin_request *self) { answer_text(self, 200, "ok\n"); }

static void show_readiness(struct gw_admin_request *self)
{
    if (self->process->is_draining)
        answer_text(self, 503, "draining\n");
    else if (!self->process->is_ready)
        answer_text(self, 503, "starting\n");
    else
        answer_text(self, 200, "ready\n");
}

static void show_metrics(struct gw_admin_request *self)
{
    struct gw_exposition out;
    gw_exposition_init(&out);
    gw_metrics_page(self->process, &out);
    answer(self, 200, "text/plain; version=0.0.4; charset=utf-8", h2o_iovec_init(out.base, out.size), false);
    gw_exposition_dispose(&out);
}

/* ---- pages ---- */

static void show_status(struct gw_admin_request *self)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_status_page(self->process, &json);
    gw_admin_answer_json(self, 200, &json);
}

static void show_config(struct gw_admin_request *self)
{
    const struct gw_config *config = self->process->active->config;
    h2o_iovec_t format = gw_admin_parameter(self, "format");
    struct gw_json json;

    if (format.base == NULL || strcmp(format.base, "json") == 0) {
        gw_json_init(&json);
        gw_settings_json(&json, &gw_config_section, config);
        gw_admin_answer_json(self, 200, &json);
    } else if (strcmp(format.base, "yaml") == 0) {
        h2o_iovec_t text = gw_page_config_yaml(config);
        answer(self, 200, "application/yaml", text, false);
        free(text.base);
    } else {
        gw_admin_problem(self, 400, "format must be json or yaml");
    }
}

static void show_routes(struct gw_admin_request *self)
{
    uint64_t offset, limit;
    struct gw_json json;

    if (!gw_admin_number(self, "offset", 0, UINT32_MAX, &offset) ||
        !gw_admin_number(self, "limit", 1000, 100000, &limit))
        return;
    gw_json_init(&json);
    gw_routes_page(self->process, &json, offset, limit);
    gw_admin_answer_json(self, 200, &json);
}

static void show_connections(struct gw_admin_request *self)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_connections_page(self->process, &json);
    gw_admin_answer_json(self, 200, &json);
}

static void show_errors(struct gw_admin_request *self)
{
    uint64_t limit;
    struct gw_json json;

    if (!gw_admin_number(self, "limit", GW_RECENT_MAX, GW_RECENT_MAX, &limit))
        return;
    gw_json_init(&json);
    gw_errors_page(gw_admin_recent(self->admin), &json, limit);
    gw_admin_answer_json(self, 200, &json);
}

static void show_reloads(struct gw_admin_request *self)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "total");
    gw_json_unsigned(&json, gw_admin_reloads(self->admin)->total);
    gw_json_key(&json, "reloads");
    gw_reloads_json(gw_admin_reloads(self->admin), &json);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, 200, &json);
}

static void show_traffic(struct gw_admin_request *self)
{
    uint64_t seconds;
    struct gw_json json;

    if (!gw_admin_number(self, "seconds", GW_TRAFFIC_SAMPLES, GW_TRAFFIC_SAMPLES, &seconds))
        return;
    gw_json_init(&json);
    gw_traffic_json(gw_admin_traffic(self->admin), &json, seconds);
    gw_admin_answer_json(self, 200, &json);
}

static void show_reasons(struct gw_admin_request *self)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_reasons_page(&json);
    gw_admin_answer_json(self, 200, &json);
}

static void show_description(struct gw_admin_request *self)
{
    gw_admin_answer_static(self, 200, "application/json", gw_embedded("openapi.json"));
}

/* ---- reload ---- */

static void show_reload(struct gw_admin_request *self)
{
    const struct gw_process *process = self->process;
    const struct gw_reloads *reloads = gw_admin_reloads(self->admin);
    char changes[200] = "";
    struct gw_json json;

    if (process->last_reload_ok && gw_reloads_size(reloads) != 0 && gw_reloads_at(reloads, 0)->has_changes)
        gw_changes_text(&gw_reloads_at(reloads, 0)->changes, changes, sizeof(changes));
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "ok");
    gw_json_bool(&json, process->last_reload_ok);
    gw_json_key(&json, "generation");
    gw_json_unsigned(&json, process->generation);
    gw_json_key(&json, "error");
    if (process->last_reload_error != NULL)
        gw_json_string(&json, process->last_reload_error);
    else
        gw_json_null(&json);
    gw_json_key(&json, "changes");
    if (changes[0] != '\0')
        gw_json_string(&json, changes);
    else
        gw_json_null(&json);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, process->last_reload_ok ? 200 : 422, &json);
}

static void on_reload_timer(struct gw_timer *timer)
{
    struct gw_admin_request *self = H2O_STRUCT_FROM_MEMBER(struct gw_admin_request, timer, timer);
    struct gw_process *process = self->process;
    uint64_t now_ms = gw_thread_now(&process->control);

    if (!process->reload_running && !process->reload_wanted)
        show_reload(self);
    else if (now_ms >= self->give_up_ms)
        gw_admin_problem(self, 504, "the configuration is still being loaded; see /status");
    else
        gw_timer_arm(process->control.wheel, timer, now_ms + RELOAD_POLL_MS);
}

/* Loads run beside the loop; the answer waits for the result. */
static void reload(struct gw_admin_request *self)
{
    struct gw_process *process = self->process;

    if (process->is_draining) {
        gw_admin_problem(self, 503, "weir is shutting down");
        return;
    }
    self->give_up_ms = gw_thread_now(&process->control) + RELOAD_PATIENCE_MS;
    gw_process_reload(process);
    gw_timer_init(&self->timer, on_reload_timer);
    on_reload_timer(&self->timer);
}

/* ---- upgrade ---- */

static void show_upgrade(struct gw_admin_request *self)
{
    const struct gw_process *process = self->process;
    struct gw_json json;

    if (!process->upgrade.is_ok) {
        gw_admin_problem(self, 409, "%s", process->upgrade.text);
        return;
    }
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "version");
    gw_json_string(&json, process->upgrade.text);
    gw_json_object_end(&json);
    gw_admin_answer_json(self, 200, &json);
}

/* The supervisor gives up in time: no limit here. */
static void on_upgrade_timer(struct gw_timer *timer)
{
    struct gw_admin_request *self = H2O_STRUCT_FROM_MEMBER(struct gw_admin_request, timer, timer);
    struct gw_process *process = self->process;

    if (!process->upgrade.is_running)
        show_upgrade(self);
    else
        gw_timer_arm(process->control.wheel, timer, gw_thread_now(&process->control) + RELOAD_POLL_MS);
}

static void upgrade(struct gw_admin_request *self)
{
    struct gw_process *process = self->process;

    if (process->is_draining) {
        gw_admin_problem(self, 503, "weir is shutting down");
    } else if (process->supervised == NULL) {
        gw_admin_problem(self, 409, "there is no supervisor that could start the new binary (weir run --no-supervise)");
    } else if (process->upgrade.is_running) {
        gw_admin_problem(self, 409, "another one is running");
    } else {
        gw_timer_init(&self->timer, on_upgrade_timer);
        gw_process_upgrade(process);
        on_upgrade_timer(&self->timer);
    }
}

/* ---- the table ---- */

enum { GET = 1, POST = 2, PUT = 4, DELETE = 8 };
static const struct endpoint {
    const char *path; /* {name}: a part that may be anything */
    int method;
    void (*run)(struct gw_admin_request *);
    bool needs_config;
} endpoints[] = {
    {"/", GET, gw_admin_dashboard, true},
    {"/dashboard.css", GET, gw_admin_dashboard_file, false},
    {"/dashboard.js", GET, gw_admin_dashboard_file, false},
    {"/favicon.svg", GET, gw_admin_dashboard_file, false},
    {"/healthz", GET, show_health, false},
    {"/readyz", GET, show_readiness, false},
    {"/metrics", GET, show_metrics, false},
    {"/status", GET, show_status, false},
    {"/reload", POST, reload, false},
    {"/api/v1/status", GET, show_status, false},
    {"/api/v1/config", GET, show_config, true},
    {"/api/v1/routes", GET, show_routes, true},
    {"/api/v1/target_groups", GET, gw_admin_targets, true},
    {"/api/v1/target_groups/{group}", GET, gw_admin_target_group, true},
    {"/api/v1/target_groups/{group}/targets", POST | PUT, gw_admin_members_change, true},
    {"/api/v1/target_groups/{group}/targets/{target}", DELETE, gw_admin_members_remove, true},
    {"/api/v1/target_groups/{group}/targets/{target}/{action}", POST, gw_admin_target_action, true},
    {"/api/v1/connections", GET, show_connections, false},
    {"/api/v1/errors", GET, show_errors, false},
    {"/api/v1/reasons", GET, show_reasons, false},
    {"/api/v1/reloads", GET, show_reloads, false},
    {"/api/v1/reload", POST, reload, false},
    {"/api/v1/upgrade", POST, upgrade, false},
    {"/api/v1/traffic", GET, show_traffic, false},
    {"/api/v1/log", GET, gw_admin_tail, false},
    {"/api/v1/explain", POST, gw_admin_explain, true},
    {"/api/v1/openapi.json", GET, show_description, false},
};

static int method_of(h2o_iovec_t method)
{
    if (h2o_memis(method.base, method.len, H2O_STRLIT("GET")) || h2o_memis(method.base, method.len, H2O_STRLIT("HEAD")))
        return GET;
    return h2o_memis(method.base, method.len, H2O_STRLIT("POST"))     ? POST
           : h2o_memis(method.base, method.len, H2O_STRLIT("PUT"))    ? PUT
           : h2o_memis(method.base, method.len, H2O_STRLIT("DELETE")) ? DELETE
                                                                      : 0;
}

static h2o_iovec_t next_segment(const char **at, const char *end)
{
    const char *slash = memchr(*at, '/', end - *at);
    h2o_iovec_t segment = h2o_iovec_init(*at, (slash != NULL ? slash : end) - *at);
    *at = slash != NULL ? slash + 1 : NULL;
    return segment;
}

/* Segment by segment; fills the parts. */
static bool fits(struct gw_admin_request *self, const char *pattern)
{
    const char *p = pattern + 1, *p_end = pattern + strlen(pattern);
    const char *s = self->path.base + 1, *s_end = self->path.base + self->path.len;
    size_t num_parts = 0;

    while (p != NULL && s != NULL) {
        h2o_iovec_t wanted = next_segment(&p, p_end), segment = next_segment(&s, s_end);
        if (wanted.len != 0 && wanted.base[0] == '{') {
            self->part[num_parts] = gw_admin_decode(self->request.pool, segment, false);
            if (segment.len == 0 || self->part[num_parts++].base == NULL)
                return false;
        } else if (!h2o_memis(wanted.base, wanted.len, segment.base, segment.len)) {
            return false;
        }
    }
    return p == NULL && s == NULL;
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_admin_request *self = data;

    if (!self->is_answered && self->body.len + bytes.len > GW_ADMIN_MAX_BODY) {
        self->request.stream->close_after = true;
        gw_admin_problem(self, 413, "a body may have %d bytes", GW_ADMIN_MAX_BODY);
    }
    if (!self->is_answered && bytes.len != 0) {
        if (self->body.base == NULL)
            self->body.base = h2o_mem_alloc_pool(self->request.pool, GW_ADMIN_MAX_BODY + 1);
        memcpy(self->body.base + self->body.len, bytes.base, bytes.len);
        self->body.len += bytes.len;
    }
    if (bytes.len != 0)
        gw_stream_consumed(self->request.stream, bytes.len);
    if (is_last && !self->is_answered)
        self->run(self);
}

static void refuse_method(struct gw_admin_request *self, const struct endpoint *endpoint)
{
    gw_admin_add_header(self, "allow",
                        endpoint->method == GET      ? "GET, HEAD"
                        : endpoint->method == POST   ? "POST"
                        : endpoint->method == DELETE ? "DELETE"
                                                     : "POST, PUT");
    gw_admin_problem(self, 405, "method not allowed");
}

void gw_admin_dispatch(struct gw_admin_request *self)
{
    int method = method_of(self->request.stream->head.method);

    for (size_t i = 0; i != sizeof(endpoints) / sizeof(endpoints[0]); ++i) {
        if (self->path.len == 0 || self->path.base[0] != '/' || !fits(self, endpoints[i].path))
            continue;
        self->run = endpoints[i].run;
        if ((method & endpoints[i].method) == 0)
            refuse_method(self, &endpoints[i]);
        else if (endpoints[i].needs_config && self->process->active == NULL)
            gw_admin_problem(self, 503, "no configuration is served yet");
        else if (method == POST || method == PUT)
            gw_stream_start_body(self->request.stream, on_body, self);
        else
            self->run(self);
        return;
    }
    gw_admin_problem(self, 404,
                     "no such page: /healthz /readyz /metrics /status, POST /reload, and what "
                     "/api/v1/openapi.json describes");
}
