#include "gateway/decide.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/exchange/client_identity.h"
#include "gateway/pipeline.h"
#include "routing/header_rules.h"

/* ---- the question ---- */

bool gw_question_set_url(struct gw_question *q, const char *url)
{
    const char *p = url, *end, *colon = NULL;

    if (strncasecmp(p, "https://", 8) == 0) {
        q->is_tls = true;
        p += 8;
    } else if (strncasecmp(p, "http://", 7) == 0) {
        q->is_tls = false;
        p += 7;
    } else {
        return false;
    }
    end = p + strcspn(p, "/?#");
    q->authority = h2o_iovec_init(p, end - p);
    q->target = h2o_iovec_init(end, strcspn(end, "#"));
    /* a line end would begin another field of the head */
    if (!gw_is_authority(q->authority) || q->authority.len == 0 || strcspn(end, "\r\n") != strlen(end))
        return false;
    for (const char *s = p; s != end; ++s)
        if (*s == ':')
            colon = s;
        else if (*s == ']')
            colon = NULL;
    q->host = h2o_iovec_init(p, (colon != NULL ? colon : end) - p);
    q->port = colon != NULL && colon + 1 != end ? (uint16_t)atoi(colon + 1) : q->is_tls ? 443 : 80;
    return true;
}

/* ---- the listener ---- */

static bool listens_on(const struct gw_snapshot_listener *listener, uint16_t port)
{
    for (size_t i = 0; i != listener->conf->address.size; ++i)
        if (listener->conf->address.entries[i].port == port)
            return true;
    return false;
}

const struct gw_snapshot_listener *gw_decide_listener(const struct gw_snapshot *snapshot, const struct gw_question *q,
                                                      h2o_iovec_t name, const char **why)
{
    const struct gw_snapshot_listener *by_scheme = NULL;

    for (size_t i = 0; i != snapshot->num_listeners; ++i) {
        const struct gw_snapshot_listener *listener = &snapshot->listeners[i];
        if (listener->l4 != NULL) /* has no requests */
            continue;
        if (name.base != NULL) {
            *why = "by name";
            if (h2o_memis(listener->name.base, listener->name.len, name.base, name.len))
                return listener;
        } else if ((listener->tls != NULL) == q->is_tls) {
            *why = "same port and scheme";
            if (listens_on(listener, q->port))
                return listener;
            by_scheme = by_scheme != NULL ? by_scheme : listener;
        }
    }
    *why = "the first with this scheme; none listens on the URL's port";
    return by_scheme;
}

static void choose_certificate(struct gw_decision *decision, const struct gw_question *q)
{
    struct gw_request *request = &decision->request;
    h2o_iovec_t host = h2o_iovec_init(h2o_mem_alloc_pool(request->pool, q->host.len + 1), q->host.len);

    for (size_t i = 0; i != host.len; ++i) {
        char c = q->host.base[i];
        host.base[i] = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
    }
    host.base[host.len] = '\0';
    decision->certificate = tls_context_select(q->listener->tls, host, request->trace);
}

/* ---- the request, through the real parser ---- */

static char *put(char *dst, h2o_iovec_t text)
{
    memcpy(dst, text.base, text.len);
    return dst + text.len;
}
#define PUT(dst, literal) put((dst), h2o_iovec_init(H2O_STRLIT(literal)))

static bool names_host(h2o_iovec_t line) { return line.len >= 5 && strncasecmp(line.base, "host:", 5) == 0; }

static h2o_iovec_t write_head(h2o_mem_pool_t *pool, const struct gw_question *q)
{
    size_t len = q->method.len + q->target.len + q->authority.len + 64;
    bool has_host = q->authority.base == NULL;
    char *base, *p;

    for (size_t i = 0; i != q->num_lines; ++i) {
        len += q->lines[i].len + 2;
        has_host |= names_host(q->lines[i]);
    }
    p = base = h2o_mem_alloc_pool(pool, len);
    p = put(p, q->method);
    p = PUT(p, " ");
    if (q->target.len == 0 || q->target.base[0] == '?')
        p = PUT(p, "/");
    p = put(p, q->target);
    p = q->authority.base != NULL ? PUT(p, " HTTP/1.1\r\n") : PUT(p, " HTTP/1.0\r\n");
    if (!has_host) {
        p = PUT(p, "Host: ");
        p = put(p, q->authority);
        p = PUT(p, "\r\n");
    }
    for (size_t i = 0; i != q->num_lines; ++i) {
        p = put(p, q->lines[i]);
        p = PUT(p, "\r\n");
    }
    p = PUT(p, "\r\n");
    return h2o_iovec_init(base, p - base);
}

static bool parse_head(struct gw_decision *decision, const struct gw_question *q)
{
    struct gw_request *request = &decision->request;
    const struct gw_config *config = request->snapshot->config;
    struct gw_head_limits limits = {config->limits.header_block, config->limits.url, config->limits.headers,
                                    (enum gw_desync_mode)config->limits.desync_mitigation};
    struct gw_request_head head = {
        .fields = h2o_mem_alloc_pool(request->pool, sizeof(h2o_header_t) * GW_HEAD_MAX_FIELDS),
        .names = h2o_mem_alloc_pool(request->pool, sizeof(h2o_iovec_t) * GW_HEAD_MAX_FIELDS),
    };
    h2o_iovec_t bytes = write_head(request->pool, q);
    size_t consumed;

    decision->head_result = gw_head_parse_request(bytes.base, bytes.len, 0, &limits, &head, &consumed);
    if (decision->head_result != GW_HEAD_OK) {
        request->reason = gw_reason_of_head(decision->head_result);
        request->status = gw_reason_info(request->reason)->status;
        gw_trace(request->trace, "head", NULL, "refused: %s", gw_head_problem(decision->head_result));
        return false;
    }
    request->facts.method = head.method;
    request->facts.authority = head.authority;
    request->facts.headers = head.fields;
    request->facts.num_headers = gw_client_identity_strip(request->snapshot->identity, head.fields, head.num_fields);
    request->upgrade = head.upgrade;
    request->has_body = head.is_chunked || (head.content_length != 0 && head.content_length != UINT64_MAX);
    request->facts.raw_path = head.path;
    if (head.query_at != SIZE_MAX) {
        request->facts.raw_path.len = head.query_at;
        request->facts.query = h2o_iovec_init(head.path.base + head.query_at + 1, head.path.len - head.query_at - 1);
    }
    return true;
}

/* ---- the decision ---- */

void gw_decide(h2o_mem_pool_t *pool, struct gw_snapshot *snapshot, const struct gw_question *q,
               const char *listener_why, struct gw_trace *trace, struct gw_decision *decision)
{
    struct gw_request *request = &decision->request;
    const struct gw_snapshot_listener *listener = q->listener;

    memset(decision, 0, sizeof(*decision));
    decision->dry.random = q->random;
    decision->dry.skips_files = q->skips_files;
    request->pool = pool;
    request->trace = trace;
    request->dry = &decision->dry;
    request->snapshot = snapshot;
    request->listener = listener;
    request->target = ROUTING_NO_TARGET;
    gw_trace(trace, "listener", listener->conf->at, "\"%.*s\" (%s)", (int)listener->name.len, listener->name.base,
             listener_why);
    if (listener->tls != NULL && (trace != NULL || q->with_certificate))
        choose_certificate(decision, q);
    request->facts.listener = listener->index;
    request->facts.is_tls = listener->tls != NULL;
    request->facts.port = listens_on(listener, q->port) ? q->port : listener->conf->address.entries[0].port;
    request->facts.peer_ip = request->facts.client_ip = q->peer;
    if (!parse_head(decision, q))
        return;
    gw_pipeline_run(request);
    if (listener->response_headers != NULL)
        routing_header_rules_apply(listener->response_headers, pool, &decision->dry.answer_fields);
}

h2o_iovec_t gw_decision_route(const struct gw_decision *decision)
{
    return decision->request.route != NULL ? decision->request.route->conf->name : h2o_iovec_init(H2O_STRLIT("-"));
}

h2o_iovec_t gw_decision_group(const struct gw_decision *decision)
{
    return decision->request.group != NULL ? decision->request.group->name : h2o_iovec_init(H2O_STRLIT("-"));
}

bool gw_decision_may_use_group(const struct gw_decision *decision, h2o_iovec_t name)
{
    const struct gw_route *route = decision->request.route;
    if (route == NULL || route->action != ROUTING_FORWARD)
        return false;
    for (uint32_t i = 0; i != route->num_groups; ++i) {
        h2o_iovec_t other = route->groups[i].group->name;
        if (route->groups[i].weight != 0 && h2o_memis(other.base, other.len, name.base, name.len))
            return true;
    }
    return false;
}

/* ---- what the commands share ---- */

struct gw_snapshot *gw_decide_load(const char *path)
{
    struct gw_errors errors;

    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load(path, &errors);
    struct gw_snapshot *snapshot = config != NULL ? gw_snapshot_create(NULL, config, &errors) : NULL;
    if (snapshot == NULL)
        gw_errors_print(&errors, stderr);
    gw_errors_dispose(&errors);
    return snapshot;
}

int gw_decide_finish(int status, int failure)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    perror("weir: standard output");
    return failure;
}
