#include "gateway/explain.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/base/trace.h"
#include "gateway/pipeline.h"

struct question {
    const char *url, *method, *config, *ip, *listener;
    const char *headers[GW_HEAD_MAX_FIELDS];
    size_t num_headers;
    bool as_json;
    /* of the URL */
    bool is_tls;
    h2o_iovec_t authority, host, target;
    uint16_t port;
};

struct answer {
    struct gw_trace trace;
    struct gw_request request;
    const struct tls_certificate *certificate;
    enum gw_head_result head_result;
};

/* ---- the question ---- */

static int usage(void)
{
    fputs(
        "usage: weir explain URL -c FILE [-X METHOD] [-H 'Name: value']... [--ip ADDRESS] [--listener NAME] [--json]\n",
        stderr);
    return 2;
}

static bool parse_options(int argc, char **argv, struct question *q)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"request", required_argument, NULL, 'X'},
        {"header", required_argument, NULL, 'H'},
        {"ip", required_argument, NULL, 'i'},
        {"listener", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int c;

    q->method = "GET";
    q->ip = "127.0.0.1";
    while ((c = getopt_long(argc, argv, "c:X:H:", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            q->config = optarg;
            break;
        case 'X':
            q->method = optarg;
            break;
        case 'H':
            if (q->num_headers == GW_HEAD_MAX_FIELDS)
                return false;
            q->headers[q->num_headers++] = optarg;
            break;
        case 'i':
            q->ip = optarg;
            break;
        case 'l':
            q->listener = optarg;
            break;
        case 'j':
            q->as_json = true;
            break;
        default:
            return false;
        }
    }
    if (optind < argc)
        q->url = argv[optind++];
    return q->url != NULL && q->config != NULL && optind == argc;
}

static bool parse_url(struct question *q)
{
    const char *p = q->url, *end;

    if (strncasecmp(p, "https://", 8) == 0) {
        q->is_tls = true;
        p += 8;
    } else if (strncasecmp(p, "http://", 7) == 0) {
        p += 7;
    } else {
        return false;
    }
    end = p + strcspn(p, "/?#");
    q->authority = h2o_iovec_init(p, end - p);
    q->target = *end == '\0' || *end == '#' ? h2o_iovec_init(H2O_STRLIT("/")) : h2o_iovec_init(end, strcspn(end, "#"));
    if (!gw_is_authority(q->authority) || q->authority.len == 0)
        return false;
    const char *colon = NULL;
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

/* By name if asked; else by port and scheme; else by scheme, as behind a port forwarding. */
static const struct gw_snapshot_listener *choose_listener(const struct question *q, const struct gw_snapshot *snapshot,
                                                          const char **why)
{
    const struct gw_snapshot_listener *by_scheme = NULL;

    for (size_t i = 0; i != snapshot->num_listeners; ++i) {
        const struct gw_snapshot_listener *listener = &snapshot->listeners[i];
        if (q->listener != NULL) {
            *why = "named with --listener";
            if (h2o_memis(listener->name.base, listener->name.len, q->listener, strlen(q->listener)))
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

static void trace_listener(struct answer *a, const struct question *q, const char *why)
{
    const struct gw_snapshot_listener *listener = a->request.listener;
    char *host;

    gw_trace(&a->trace, "listener", listener->conf->at, "\"%.*s\" (%s)", (int)listener->name.len, listener->name.base,
             why);
    if (listener->tls == NULL)
        return;
    host = strndup(q->host.base, q->host.len);
    for (char *p = host; *p != '\0'; ++p)
        *p = *p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p;
    a->certificate = tls_context_select(listener->tls, h2o_iovec_init(host, strlen(host)), &a->trace);
    free(host);
}

/* ---- the request, through the real parser ---- */

static h2o_iovec_t write_head(h2o_mem_pool_t *pool, const struct question *q)
{
    size_t len = strlen(q->method) + q->target.len + q->authority.len + 64;
    bool has_host = false;
    char *base, *p;

    for (size_t i = 0; i != q->num_headers; ++i) {
        len += strlen(q->headers[i]) + 2;
        has_host |= strncasecmp(q->headers[i], "host:", 5) == 0;
    }
    p = base = h2o_mem_alloc_pool(pool, len);
    p += sprintf(p, "%s %.*s%.*s HTTP/1.1\r\n", q->method, q->target.base[0] == '?', "/", (int)q->target.len,
                 q->target.base);
    if (!has_host)
        p += sprintf(p, "Host: %.*s\r\n", (int)q->authority.len, q->authority.base);
    for (size_t i = 0; i != q->num_headers; ++i)
        p += sprintf(p, "%s\r\n", q->headers[i]);
    p += sprintf(p, "\r\n");
    return h2o_iovec_init(base, p - base);
}

static bool parse_head(struct answer *a, const struct question *q)
{
    struct gw_request *request = &a->request;
    const struct gw_config *config = request->snapshot->config;
    struct gw_head_limits limits = {config->limits.header_block, config->limits.url, config->limits.headers};
    struct gw_request_head head = {
        .fields = h2o_mem_alloc_pool(request->pool, sizeof(h2o_header_t) * GW_HEAD_MAX_FIELDS),
        .names = h2o_mem_alloc_pool(request->pool, sizeof(h2o_iovec_t) * GW_HEAD_MAX_FIELDS),
    };
    h2o_iovec_t bytes = write_head(request->pool, q);
    size_t consumed;

    a->head_result = gw_head_parse_request(bytes.base, bytes.len, 0, &limits, &head, &consumed);
    if (a->head_result != GW_HEAD_OK) {
        request->reason = gw_reason_of_head(a->head_result);
        request->status = gw_reason_info(request->reason)->status;
        gw_trace(&a->trace, "head", NULL, "refused: %s", gw_head_problem(a->head_result));
        return false;
    }
    request->facts.method = head.method;
    request->facts.authority = head.authority;
    request->facts.headers = head.fields;
    request->facts.num_headers = head.num_fields;
    request->facts.raw_path = head.path;
    if (head.query_at != SIZE_MAX) {
        request->facts.raw_path.len = head.query_at;
        request->facts.query = h2o_iovec_init(head.path.base + head.query_at + 1, head.path.len - head.query_at - 1);
    }
    return true;
}

static bool decide(struct answer *a, const struct question *q)
{
    struct gw_request *request = &a->request;
    const char *why = NULL;

    request->listener = choose_listener(q, request->snapshot, &why);
    if (request->listener == NULL) {
        fprintf(stderr, "weir explain: no listener %s\n",
                q->listener != NULL ? "has that name"
                : q->is_tls         ? "has tls"
                                    : "is without tls");
        return false;
    }
    if (!gw_ip_parse(h2o_iovec_init(q->ip, strlen(q->ip)), &request->facts.peer_ip)) {
        fprintf(stderr, "weir explain: --ip: \"%s\" is no address\n", q->ip);
        return false;
    }
    trace_listener(a, q, why);
    request->facts.listener = request->listener->index;
    request->facts.is_tls = request->listener->tls != NULL;
    request->facts.port = request->listener->conf->address.entries[0].port;
    if (parse_head(a, q))
        gw_pipeline_run(request);
    return true;
}

/* ---- output ---- */

static void print_text(const struct answer *a)
{
    for (size_t i = 0; i != a->trace.size; ++i) {
        const struct gw_trace_entry *entry = &a->trace.entries[i];
        printf("%-14s %s", entry->stage, entry->text);
        if (entry->at != NULL)
            printf("  [%s:%u]", entry->at->file, entry->at->line);
        putchar('\n');
    }
}

static void json_name(struct gw_json *json, const char *key, h2o_iovec_t value)
{
    gw_json_key(json, key);
    if (value.base == NULL)
        gw_json_null(json);
    else
        gw_json_text(json, value);
}

static void json_decision(struct gw_json *json, const struct answer *a)
{
    const struct gw_request *r = &a->request;
    const h2o_iovec_t none = {NULL, 0};
    bool has_target = r->group != NULL && r->target != ROUTING_NO_TARGET;

    json_name(json, "listener", r->listener->name);
    json_name(json, "certificate", a->certificate != NULL ? a->certificate->name : none);
    json_name(json, "canonical_path", r->facts.path);
    json_name(json, "route", r->route != NULL ? r->route->conf->name : none);
    json_name(json, "target_group", r->group != NULL ? r->group->name : none);
    json_name(json, "target", has_target ? r->group->targets[r->target].name : none);
    gw_json_key(json, "status");
    if (r->status != 0)
        gw_json_number(json, r->status);
    else
        gw_json_null(json);
    gw_json_key(json, "reason");
    gw_json_string(json, gw_reason_info(r->reason)->code);
}

static void print_json(const struct answer *a)
{
    struct gw_json json;
    char ip[46];

    gw_json_init(&json);
    gw_json_object(&json);
    json_decision(&json, a);
    gw_ip_format(&a->request.facts.client_ip, ip);
    gw_json_key(&json, "client_ip");
    gw_json_string(&json, ip);
    gw_json_key(&json, "steps");
    gw_json_array(&json);
    for (size_t i = 0; i != a->trace.size; ++i) {
        const struct gw_trace_entry *entry = &a->trace.entries[i];
        gw_json_object(&json);
        gw_json_key(&json, "stage");
        gw_json_string(&json, entry->stage);
        gw_json_key(&json, "text");
        gw_json_string(&json, entry->text);
        gw_json_key(&json, "file");
        entry->at != NULL ? gw_json_string(&json, entry->at->file) : gw_json_null(&json);
        gw_json_key(&json, "line");
        entry->at != NULL ? gw_json_number(&json, entry->at->line) : gw_json_null(&json);
        gw_json_object_end(&json);
    }
    gw_json_array_end(&json);
    gw_json_object_end(&json);
    fwrite(json.base, 1, json.size, stdout);
    putchar('\n');
    gw_json_dispose(&json);
}

static int explain(const struct question *q, struct gw_snapshot *snapshot)
{
    h2o_mem_pool_t pool;
    struct answer a;
    bool ok;

    memset(&a, 0, sizeof(a));
    h2o_mem_init_pool(&pool);
    gw_trace_init(&a.trace);
    a.request.pool = &pool;
    a.request.trace = &a.trace;
    a.request.snapshot = snapshot;
    a.request.target = ROUTING_NO_TARGET;
    ok = decide(&a, q);
    if (ok) {
        if (q->as_json)
            print_json(&a);
        else
            print_text(&a);
    }
    gw_trace_dispose(&a.trace);
    h2o_mem_clear_pool(&pool);
    return ok ? 0 : 2;
}

int gw_command_explain(int argc, char **argv)
{
    struct question q = {0};
    struct gw_errors errors;
    struct gw_snapshot *snapshot = NULL;
    int status = 1;

    if (!parse_options(argc, argv, &q))
        return usage();
    if (!parse_url(&q)) {
        fprintf(stderr, "weir explain: \"%s\" is no http or https URL\n", q.url);
        return 2;
    }
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load(q.config, &errors);
    if (config != NULL)
        snapshot = gw_snapshot_create(NULL, config, &errors);
    if (snapshot == NULL)
        gw_errors_print(&errors, stderr);
    else
        status = explain(&q, snapshot);
    gw_snapshot_release(snapshot);
    gw_errors_dispose(&errors);
    return status;
}
