/* POST /api/v1/explain: what `weir explain` says, of the configuration that serves, with the health of its targets as
 * it is now. */
#include <jansson.h>
#include <string.h>
#include "gateway/admin/admin_request.h"
#include "gateway/base/trace.h"
#include "gateway/decide.h"
#include "gateway/explain.h"
#include "gateway/l4/l4_explain.h"

static h2o_iovec_t text_in(const json_t *body, const char *key, const char *otherwise)
{
    const json_t *value = json_object_get(body, key);
    const char *text = json_is_string(value) ? json_string_value(value) : otherwise;
    return h2o_iovec_init(text, text != NULL ? strlen(text) : 0);
}

static bool is_of_type(const json_t *value, json_type type) { return value == NULL || json_typeof(value) == type; }

/* Names and values as one line each, so that no value can begin another field. */
static bool is_line(h2o_iovec_t line)
{
    return memchr(line.base, '\r', line.len) == NULL && memchr(line.base, '\n', line.len) == NULL;
}

static bool add_line(struct gw_admin_request *self, h2o_iovec_t *lines, size_t *num_lines, const char *name,
                     const json_t *value)
{
    if (!json_is_string(value) || *num_lines == GW_HEAD_MAX_FIELDS)
        return false;
    lines[*num_lines] =
        h2o_concat(self->request.pool, h2o_iovec_init(name, strlen(name)), h2o_iovec_init(H2O_STRLIT(": ")),
                   h2o_iovec_init(json_string_value(value), json_string_length(value)));
    return is_line(lines[(*num_lines)++]);
}

/* {"name": "value", "other": ["a", "b"]} */
static bool read_headers(struct gw_admin_request *self, json_t *headers, struct gw_question *q)
{
    h2o_iovec_t *lines = h2o_mem_alloc_pool(self->request.pool, sizeof(*lines) * GW_HEAD_MAX_FIELDS);
    const char *name;
    json_t *value, *each;
    size_t i;

    q->lines = lines;
    json_object_foreach(headers, name, value)
    {
        if (json_is_array(value)) {
            json_array_foreach(value, i, each) if (!add_line(self, lines, &q->num_lines, name, each)) return false;
        } else if (!add_line(self, lines, &q->num_lines, name, value)) {
            return false;
        }
    }
    return true;
}

/* NULL: understood. */
static const char *read_question(struct gw_admin_request *self, json_t *body, struct gw_question *q, const char **why)
{
    h2o_iovec_t url = text_in(body, "url", NULL), ip = text_in(body, "ip", "127.0.0.1");
    h2o_iovec_t listener = text_in(body, "listener", NULL);

    if (!json_is_object(body))
        return "the body must be a JSON object like {\"url\": \"http://example.com/\"}";
    if (!is_of_type(json_object_get(body, "method"), JSON_STRING) ||
        !is_of_type(json_object_get(body, "ip"), JSON_STRING) ||
        !is_of_type(json_object_get(body, "listener"), JSON_STRING) ||
        !is_of_type(json_object_get(body, "headers"), JSON_OBJECT))
        return "url, method, ip and listener are texts, headers is an object";
    q->method = text_in(body, "method", "GET");
    if (url.base == NULL || !gw_question_set_url(q, url.base))
        return "url must be an http or https URL";
    if (q->method.len == 0 || !is_line(q->method) || memchr(q->method.base, ' ', q->method.len) != NULL)
        return "method must be a method's name";
    if (!gw_ip_parse(ip, &q->peer))
        return "ip must be an IPv4 or IPv6 address";
    if (!read_headers(self, json_object_get(body, "headers"), q))
        return "headers must be texts without line ends, or lists of them, no more than a request may have";
    if ((q->listener = gw_decide_listener(self->process->active, q, listener, why)) == NULL)
        return listener.base != NULL ? "no listener has that name" : "no listener speaks that scheme";
    return NULL;
}

static void answer(struct gw_admin_request *self, const struct gw_question *q, const char *why)
{
    struct gw_trace trace;
    struct gw_decision *decision = h2o_mem_alloc_pool(self->request.pool, sizeof(*decision));
    struct gw_json json;

    gw_trace_init(&trace);
    gw_json_init(&json);
    gw_decide(self->request.pool, self->process->active, q, why, &trace, decision);
    gw_explain_json(&json, decision, &trace);
    gw_trace_dispose(&trace);
    gw_admin_answer_json(self, 200, &json);
}

/* Of listeners that forward bytes: asked by a URL like tcp://HOST:PORT, or by a listener's name alone. */
static bool is_about_bytes(const struct gw_snapshot *snapshot, const json_t *body)
{
    h2o_iovec_t url = text_in(body, "url", NULL), name = text_in(body, "listener", NULL);
    const struct gw_named *named = NULL;

    if (url.base != NULL)
        return gw_l4_is_question(url.base);
    if (name.base != NULL)
        named = gw_map_find(&snapshot->config->listeners, name);
    return named != NULL && snapshot->listeners[named - snapshot->config->listeners.entries].l4 != NULL;
}

static void answer_about_bytes(struct gw_admin_request *self, const json_t *body)
{
    const struct gw_l4_question q = {.url = text_in(body, "url", NULL).base,
                                     .listener = text_in(body, "listener", NULL).base,
                                     .sni = text_in(body, "sni", NULL).base,
                                     .ip = text_in(body, "ip", NULL).base};
    struct gw_json json;
    char problem[512];

    gw_json_init(&json);
    if (gw_l4_explain_json(self->process->active, &q, &json, problem, sizeof(problem))) {
        gw_admin_answer_json(self, 200, &json);
    } else {
        gw_json_dispose(&json);
        gw_admin_problem(self, 400, "%s", problem);
    }
}

void gw_admin_explain(struct gw_admin_request *self)
{
    json_t *body = json_loadb(self->body.base != NULL ? self->body.base : "", self->body.len, 0, NULL);
    struct gw_question q = {.random = (uint32_t)gw_thread_random(&self->process->control)};
    const char *why = NULL, *problem = NULL;

    if (is_about_bytes(self->process->active, body)) {
        answer_about_bytes(self, body);
        json_decref(body);
        return;
    }
    problem = read_question(self, body, &q, &why);
    if (problem != NULL)
        gw_admin_problem(self, 400, "%s", problem);
    else
        answer(self, &q, why);
    json_decref(body);
}
