/* `weir tail`: requests as they end, one line each, with filters that run inside the gateway. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/admin/admin_client.h"
#include "gateway/base/error.h"
#include "gateway/command/commands.h"

enum { ATTEMPTS = 10, ATTEMPT_MS = 100, SILENCE_S = 30 }; /* the server says something every five seconds */

struct settings {
    struct gw_admin_client client;
    bool as_json, has_color;
    long count;        /* lines to print; 0: no end */
    const char *route; /* NULL: of all routes */
    bool is_silent;
    bool cannot_write;
};

/* Filters are passed on as they are: option and parameter have one name, but for the dash. */
static const struct option names[] = {GW_ADMIN_CLIENT_OPTIONS,
                                      {"route", required_argument, NULL, 'f'},
                                      {"status", required_argument, NULL, 'f'},
                                      {"reason", required_argument, NULL, 'f'},
                                      {"host", required_argument, NULL, 'f'},
                                      {"path", required_argument, NULL, 'f'},
                                      {"method", required_argument, NULL, 'f'},
                                      {"target-group", required_argument, NULL, 'f'},
                                      {"target", required_argument, NULL, 'f'},
                                      {"sample", required_argument, NULL, 'f'},
                                      {"count", required_argument, NULL, 'n'},
                                      {"json", no_argument, NULL, 'j'},
                                      {NULL, 0, NULL, 0}};

const char gw_tail_usage[] =
    "usage: weir tail [filters] [--json] [-n COUNT] [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
    "  requests of a running weir as they end; only those that all filters let pass:\n"
    "  --route NAME --target-group NAME --target ADDRESS --method METHOD   what equals it\n"
    "  --status 404|5xx|500-504[,...]   --reason CODE (- for answers of targets)\n"
    "  --host GLOB --path GLOB          * and ? are wildcards\n"
    "  --sample 0.1|10%                 a share of the requests\n"
    "  --json                           whole lines of the access log's JSON form\n"
    "  -n COUNT                         end after so many\n";

static void put_parameter(FILE *out, const char *name, const char *value)
{
    for (fputc(ftell(out) == 0 ? '?' : '&', out); *name != '\0'; ++name)
        fputc(*name == '-' ? '_' : *name, out);
    for (fputc('=', out); *value != '\0'; ++value) {
        if (isalnum((unsigned char)*value) || strchr("-._~", *value) != NULL)
            fputc(*value, out);
        else
            fprintf(out, "%%%02X", (unsigned char)*value);
    }
}

static bool parse_options(int argc, char **argv, struct settings *settings, FILE *query)
{
    int c, row = 0;
    char *end;

    *settings = (struct settings){.client = {.command = "tail"}};
    optind = 1;
    while ((c = getopt_long(argc, argv, "c:n:", names, &row)) != -1) {
        if (c == 'f') {
            put_parameter(query, names[row].name, optarg);
            if (strcmp(names[row].name, "route") == 0)
                settings->route = optarg;
        } else if (c == 'n') {
            settings->count = strtol(optarg, &end, 10);
            if (end == optarg || *end != '\0' || settings->count <= 0) {
                fprintf(stderr, "weir tail: \"%s\" is no number of lines (expected 1 or more)\n", optarg);
                return false;
            }
        } else if (c == 'j') {
            settings->as_json = true;
        } else if (!gw_admin_client_option(&settings->client, c, optarg)) {
            return false;
        }
    }
    return gw_no_words_left(argc, argv);
}

/* ---- lines ---- */

static const char *color_of(int64_t status)
{
    return status >= 500 || status == 0 ? "\033[31m"
           : status >= 400              ? "\033[33m"
           : status >= 300              ? "\033[36m"
                                        : "\033[32m";
}

/* A member of a line. What clients sent may hold anything; a terminal obeys control characters, C0 and C1. */
static void put_text(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    const unsigned char *p = (const unsigned char *)json_string_value(value);

    if (p == NULL) {
        putchar('-');
        return;
    }
    for (const unsigned char *end = p + json_string_length(value); p != end; ++p) {
        bool is_c1 = *p == 0xc2 && end - p > 1 && p[1] < 0xa0;
        putchar(*p < 0x20 || *p == 0x7f || is_c1 ? '?' : *p);
        p += is_c1;
    }
}

/* 19:18:12.215 udp FLOW_IDLE     120000.0 ms  192.0.2.1:5353 in=120 out=1480  listener=dns target=10.0.0.1:53 */
static void print_connection(const json_t *line, const char *protocol)
{
    const char *time = gw_json_text_in(line, "time");

    printf("%.12s %-3s %-18s %9.1f ms  %s:%lld in=%lld out=%lld  listener=%s", strlen(time) > 11 ? time + 11 : time,
           strcmp(protocol, "tls_passthrough") == 0 ? "tls" : protocol, gw_json_text_in(line, "reason"),
           json_number_value(json_object_get(line, "duration_ms")), gw_json_text_in(line, "client"),
           (long long)gw_json_number_in(line, "client_port"), (long long)gw_json_number_in(line, "bytes_in"),
           (long long)gw_json_number_in(line, "bytes_out"), gw_json_text_in(line, "listener"));
    if (json_is_string(json_object_get(line, "server_name"))) {
        printf(" server_name=");
        put_text(line, "server_name");
    }
    if (json_is_string(json_object_get(line, "target")))
        printf(" target=%s", gw_json_text_in(line, "target"));
    putchar('\n');
}

static bool is_of_bytes(const char *protocol)
{
    return strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0 || strncmp(protocol, "tls", 3) == 0;
}

/* 19:18:12.215 502 CONNECT_FAILED     0.9 ms 127.0.0.1 GET api.example.com/x?y route=rest target=10.0.0.1:80 */
static void print_line(const json_t *line, bool has_color)
{
    const char *time = gw_json_text_in(line, "time");
    int64_t status = gw_json_number_in(line, "status");

    printf("%.12s %s%3d%s %-18s %9.1f ms  %s ", strlen(time) > 11 ? time + 11 : time, has_color ? color_of(status) : "",
           (int)status, has_color ? "\033[0m" : "", gw_json_text_in(line, "reason"),
           json_number_value(json_object_get(line, "duration_ms")), gw_json_text_in(line, "client"));
    put_text(line, "method");
    putchar(' ');
    put_text(line, "host");
    put_text(line, "path");
    if (json_is_string(json_object_get(line, "query"))) {
        putchar('?');
        put_text(line, "query");
    }
    printf("  route=%s", gw_json_text_in(line, "route"));
    if (json_is_string(json_object_get(line, "target")))
        printf(" target=%s", gw_json_text_in(line, "target"));
    putchar('\n');
}

static void print(const struct settings *settings, const char *text, size_t len)
{
    json_t *line = settings->as_json ? NULL : json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    const json_t *dropped = json_object_get(line, "dropped");

    if (line == NULL)
        fwrite(text, 1, len, stdout);
    else if (json_is_integer(dropped))
        printf("... %lld lines were left out: they came faster than they were read ...\n",
               (long long)json_integer_value(dropped));
    else if (is_of_bytes(gw_json_text_in(line, "protocol")))
        print_connection(line, gw_json_text_in(line, "protocol"));
    else
        print_line(line, settings->has_color);
    json_decref(line);
}

/* `weir tail | head` has got what it wants; a full disk has not. */
static void note_output_error(struct settings *settings)
{
    if ((settings->cannot_write = errno != EPIPE))
        perror("weir tail: standard output");
    if (freopen("/dev/null", "w", stdout) == NULL) /* what is left of the line */
        settings->cannot_write = true;
}

/* To the end of the stream, or of what is wanted. True: that is all. */
static bool follow(struct settings *settings, FILE *stream)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len;

    while ((len = getline(&line, &capacity, stream)) > 0) {
        if (len == 1) /* a sign of life */
            continue;
        print(settings, line, (size_t)len);
        if (fflush(stdout) != 0 || ferror(stdout)) {
            note_output_error(settings);
            free(line);
            return true;
        }
        if (settings->count != 0 && --settings->count == 0) {
            free(line);
            return true;
        }
    }
    settings->is_silent = ferror(stream) && errno == EAGAIN;
    free(line);
    return false;
}

/* A worker that died or was upgraded has a successor at the same address; NULL: there is none. */
static FILE *ask_again(struct settings *settings, const char *path)
{
    FILE *stream = NULL;

    settings->client.is_quiet = true;
    for (int i = 0; i != ATTEMPTS && stream == NULL && !settings->is_silent; ++i) {
        struct timespec pause = {.tv_nsec = ATTEMPT_MS * 1000000};
        if (i != 0)
            nanosleep(&pause, NULL);
        stream = gw_admin_client_open(&settings->client, path, SILENCE_S);
    }
    if (stream != NULL)
        fputs("weir tail: another worker serves; lines of the moment in between are missing\n", stderr);
    else
        fprintf(stderr, "weir tail: %s\n", settings->is_silent ? "no sign of life" : "weir has stopped");
    return stream;
}

/* A slip in the name would look like a route without traffic. It may come with a reload, so the tail goes on. */
static void warn_of_unknown_route(const struct settings *settings)
{
    struct gw_admin_client client = settings->client;
    json_t *answer, *routes, *route;
    size_t num_names = 0, i;

    if (settings->route == NULL)
        return;
    client.is_quiet = true;
    answer = gw_admin_client_ask(&client, "GET", "/api/v1/routes?limit=100000", NULL, SILENCE_S, NULL);
    routes = json_object_get(answer, "routes");
    const char **known = h2o_mem_alloc(sizeof(*known) * (json_array_size(routes) + 1));
    bool is_known = answer == NULL;
    json_array_foreach(routes, i, route)
    {
        known[num_names++] = gw_json_text_in(route, "name");
        is_known |= strcmp(known[num_names - 1], settings->route) == 0;
    }
    const char *nearest = is_known ? NULL : gw_nearest(settings->route, known, num_names);
    if (nearest != NULL)
        fprintf(stderr, "weir tail: no route is called \"%s\" now (did you mean \"%s\"?)\n", settings->route, nearest);
    else if (!is_known)
        fprintf(stderr, "weir tail: no route is called \"%s\" now\n", settings->route);
    free(known);
    json_decref(answer);
}

int gw_command_tail(int argc, char **argv)
{
    struct settings settings;
    char *query = NULL, *path = NULL;
    size_t len;
    FILE *out = open_memstream(&query, &len), *stream;
    int status = 1;

    if (out == NULL)
        h2o_fatal("no memory");
    bool is_good = parse_options(argc, argv, &settings, out);
    fclose(out);
    if (!is_good) {
        free(query);
        return gw_misused(gw_tail_usage);
    }
    signal(SIGPIPE, SIG_IGN);
    settings.has_color = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
    if (asprintf(&path, "/api/v1/log%s", query) == -1)
        h2o_fatal("no memory");
    stream = gw_admin_client_open(&settings.client, path, SILENCE_S);
    if (stream != NULL)
        warn_of_unknown_route(&settings);
    while (stream != NULL) {
        bool is_all = follow(&settings, stream);
        fclose(stream);
        stream = is_all ? NULL : ask_again(&settings, path);
        status = is_all && !settings.cannot_write ? 0 : 1;
    }
    free(path);
    free(query);
    return status;
}
