#include "gateway/explain.h"
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/base/trace.h"
#include "gateway/command/commands.h"
#include "gateway/decide.h"
#include "gateway/l4/l4_explain.h"

struct options {
    const char *url, *method, *config, *ip, *listener, *sni;
    h2o_iovec_t lines[GW_HEAD_MAX_FIELDS];
    size_t num_lines;
    bool as_json;
};

/* ---- the question ---- */

const char gw_explain_usage[] =
    "usage: weir explain URL -c FILE [-X METHOD] [-H 'Name: value']... [--ip ADDRESS] [--listener NAME] [--json]\n"
    "       weir explain tcp://HOST:PORT|tls://HOST:PORT|udp://HOST:PORT -c FILE [--sni NAME] [--ip "
    "ADDRESS[:PORT]]\n"
    "       weir explain --listener NAME -c FILE [--sni NAME] [--ip ADDRESS[:PORT]] [--json]\n"
    "  who would answer a request (or take a connection, or a datagram), and why: every step with the setting that\n"
    "  decided it; nothing is sent\n"
    "  --ip ADDRESS     of the client: 127.0.0.1 unless given   --sni NAME  the server name of TLS\n"
    "  --listener NAME  that gets it, where port and scheme of the URL do not tell\n";

/* A header line, as -H gives it. */
static bool add_line(struct options *o, char *line)
{
    if (o->num_lines == GW_HEAD_MAX_FIELDS) {
        fprintf(stderr, "weir explain: too many -H (at most %d)\n", GW_HEAD_MAX_FIELDS);
        return false;
    }
    o->lines[o->num_lines++] = h2o_iovec_init(line, strlen(line));
    return true;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},   {"request", required_argument, NULL, 'X'},
        {"header", required_argument, NULL, 'H'},   {"ip", required_argument, NULL, 'i'},
        {"listener", required_argument, NULL, 'l'}, {"sni", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},           {NULL, 0, NULL, 0},
    };
    int c;

    o->method = "GET";
    o->ip = "127.0.0.1";
    while ((c = getopt_long(argc, argv, "c:X:H:", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case 'X':
            o->method = optarg;
            break;
        case 'H':
            if (!add_line(o, optarg))
                return false;
            break;
        case 'i':
            o->ip = optarg;
            break;
        case 'l':
            o->listener = optarg;
            break;
        case 's':
            o->sni = optarg;
            break;
        case 'j':
            o->as_json = true;
            break;
        default:
            return false;
        }
    }
    if (optind < argc)
        o->url = argv[optind++];
    return gw_is_given(o->url != NULL ? o->url : o->listener, "URL (or --listener NAME)", argv) &&
           gw_is_given(o->config, "-c FILE", argv) && gw_no_words_left(argc, argv);
}

/* ---- output ---- */

void gw_explain_print(const struct gw_trace *trace)
{
    for (size_t i = 0; i != trace->size; ++i) {
        const struct gw_trace_entry *entry = &trace->entries[i];
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

static void json_decision(struct gw_json *json, const struct gw_decision *d)
{
    const struct gw_request *r = &d->request;
    const h2o_iovec_t none = {NULL, 0};
    bool has_target = r->group != NULL && r->target < ROUTING_BUSY_TARGETS;

    json_name(json, "listener", r->listener->name);
    json_name(json, "certificate", d->certificate != NULL ? d->certificate->name : none);
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

void gw_explain_steps(struct gw_json *json, const struct gw_trace *trace)
{
    gw_json_key(json, "steps");
    gw_json_array(json);
    for (size_t i = 0; i != trace->size; ++i) {
        const struct gw_trace_entry *entry = &trace->entries[i];
        gw_json_object(json);
        gw_json_key(json, "stage");
        gw_json_string(json, entry->stage);
        gw_json_key(json, "text");
        gw_json_string(json, entry->text);
        gw_json_key(json, "file");
        entry->at != NULL ? gw_json_string(json, entry->at->file) : gw_json_null(json);
        gw_json_key(json, "line");
        entry->at != NULL ? gw_json_number(json, entry->at->line) : gw_json_null(json);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

void gw_explain_json(struct gw_json *json, const struct gw_decision *d, const struct gw_trace *trace)
{
    char ip[GW_IP_TEXT];

    gw_json_object(json);
    json_decision(json, d);
    gw_ip_format(&d->request.facts.client_ip, ip);
    gw_json_key(json, "client_ip");
    gw_json_string(json, ip);
    gw_explain_steps(json, trace);
    gw_json_object_end(json);
}

static void print_json(const struct gw_decision *d, const struct gw_trace *trace)
{
    struct gw_json json;

    gw_json_init(&json);
    gw_explain_json(&json, d, trace);
    fwrite(json.base, 1, json.size, stdout);
    putchar('\n');
    gw_json_dispose(&json);
}

static bool ask(const struct options *o, const struct gw_snapshot *snapshot, struct gw_question *q, const char **why)
{
    h2o_iovec_t listener = {(char *)o->listener, o->listener != NULL ? strlen(o->listener) : 0};

    q->method = h2o_iovec_init(o->method, strlen(o->method));
    q->lines = o->lines;
    q->num_lines = o->num_lines;
    if ((q->listener = gw_decide_listener(snapshot, q, listener, why)) == NULL) {
        fprintf(stderr, "weir explain: no listener %s\n",
                o->listener != NULL ? "has that name"
                : q->is_tls         ? "has tls"
                                    : "is without tls");
        return false;
    }
    if (!gw_ip_parse(h2o_iovec_init(o->ip, strlen(o->ip)), &q->peer)) {
        fprintf(stderr, "weir explain: --ip: \"%s\" is no address\n", o->ip);
        return false;
    }
    return true;
}

static int explain(const struct options *o, struct gw_question *q, struct gw_snapshot *snapshot)
{
    h2o_mem_pool_t pool;
    struct gw_trace trace;
    struct gw_decision decision;
    const char *why = NULL;

    if (!ask(o, snapshot, q, &why))
        return 2;
    h2o_mem_init_pool(&pool);
    gw_trace_init(&trace);
    gw_decide(&pool, snapshot, q, why, &trace, &decision);
    if (o->as_json)
        print_json(&decision, &trace);
    else
        gw_explain_print(&trace);
    gw_trace_dispose(&trace);
    h2o_mem_clear_pool(&pool);
    return 0;
}

int gw_command_explain(int argc, char **argv)
{
    struct options o = {0};
    struct gw_question q = {0};
    int status = 1;

    if (!parse_options(argc, argv, &o))
        return gw_misused(gw_explain_usage);
    if (o.url == NULL || gw_l4_is_question(o.url)) {
        struct gw_l4_question l4 = {
            .url = o.url, .listener = o.listener, .sni = o.sni, .ip = o.ip, .as_json = o.as_json};
        return gw_l4_explain(&l4, o.config);
    }
    if (!gw_question_set_url(&q, o.url)) {
        fprintf(stderr, "weir explain: \"%s\" is no http or https URL\n", o.url);
        return 2;
    }
    struct gw_snapshot *snapshot = gw_decide_load(o.config);
    if (snapshot != NULL)
        status = explain(&o, &q, snapshot);
    gw_snapshot_release(snapshot);
    return status;
}
