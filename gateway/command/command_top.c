/* `weir top`: requests, errors and latencies by route and by target, refreshed in place. Where standard output is no
 * terminal, one picture of one interval. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/admin/admin_client.h"
#include "gateway/command/commands.h"
#include "gateway/base/metrics.h"
#include "gateway/base/wheel.h"

#define text_in   gw_json_text_in
#define number_in gw_json_number_in

struct settings {
    struct gw_admin_client client;
    unsigned interval_ms;
    bool is_live;
};

/* What the admin API said at one moment. */
struct picture {
    json_t *status, *routes, *groups;
    uint64_t at_ms;
};

/* A line of a table: what happened between two pictures. */
struct row {
    const char *name, *group; /* group NULL: a route */
    const json_t *target;
    double requests, errors_4xx, errors_5xx, failures; /* per second */
    double p50_ms, p99_ms;                             /* NAN: nothing happened */
    size_t place;
};

static volatile sig_atomic_t is_interrupted;

const char gw_top_usage[] =
    "usage: weir top [--interval SECONDS] [--once] [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
    "  requests, errors and latencies of a running weir by route and target, live\n"
    "  q ends it; --once, or standard output that is no terminal: one picture\n";

static bool parse_options(int argc, char **argv, struct settings *settings)
{
    static const struct option names[] = {GW_ADMIN_CLIENT_OPTIONS,
                                          {"interval", required_argument, NULL, 'i'},
                                          {"once", no_argument, NULL, '1'},
                                          {NULL, 0, NULL, 0}};
    double seconds;
    char *end;
    int c;

    *settings = (struct settings){.client = {.command = "top"}, .interval_ms = 1000, .is_live = isatty(STDOUT_FILENO)};
    optind = 1;
    while ((c = getopt_long(argc, argv, "c:i:", names, NULL)) != -1) {
        if (c == 'i') {
            seconds = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(seconds >= 0.1 && seconds <= 3600)) {
                fprintf(stderr, "weir top: \"%s\" is no interval (expected seconds from 0.1 to 3600)\n", optarg);
                return false;
            }
            settings->interval_ms = (unsigned)(seconds * 1000);
        } else if (c == '1') {
            settings->is_live = false;
        } else if (!gw_admin_client_option(&settings->client, c, optarg)) {
            return false;
        }
    }
    return gw_no_words_left(argc, argv);
}

/* ---- pictures ---- */

static void dispose(struct picture *picture)
{
    json_decref(picture->status);
    json_decref(picture->routes);
    json_decref(picture->groups);
    *picture = (struct picture){NULL};
}

static bool take(const struct gw_admin_client *client, struct picture *picture)
{
    *picture = (struct picture){.status = gw_admin_client_ask(client, "GET", "/api/v1/status", NULL, 10, NULL)};
    if (picture->status != NULL)
        picture->routes = gw_admin_client_ask(client, "GET", "/api/v1/routes", NULL, 10, NULL);
    if (picture->routes != NULL)
        picture->groups = gw_admin_client_ask(client, "GET", "/api/v1/target_groups", NULL, 10, NULL);
    picture->at_ms = gw_now_ms();
    if (picture->groups != NULL)
        return true;
    dispose(picture);
    return false;
}

/* The entry of the same name in a list; the same place is looked at first, where it nearly always is. */
static const json_t *find(const json_t *list, size_t place, const char *key, const char *name)
{
    const json_t *guess = json_array_get(list, place);
    size_t i;
    json_t *entry;

    if (guess != NULL && strcmp(text_in(guess, key), name) == 0)
        return guess;
    json_array_foreach(list, i, entry) if (strcmp(text_in(entry, key), name) == 0) return entry;
    return NULL;
}

/* ---- what happened in between ---- */

/* A counter that fell belongs to another process: it began at 0. */
static double grown(int64_t now, int64_t before) { return (double)(now >= before ? now - before : now); }

static double rate(const json_t *now, const json_t *before, const char *key, double seconds)
{
    return grown(number_in(now, key), number_in(before, key)) / seconds;
}

static void set_latencies(struct row *row, const json_t *now, const json_t *before)
{
    const json_t *new_buckets = json_object_get(now, "buckets"), *old_buckets = json_object_get(before, "buckets");
    uint64_t buckets[GW_HISTOGRAM_BUCKETS];

    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        buckets[i] = (uint64_t)grown(json_integer_value(json_array_get(new_buckets, i)),
                                     json_integer_value(json_array_get(old_buckets, i)));
    row->p50_ms = gw_histogram_quantile(buckets, 0.5) * 1000;
    row->p99_ms = gw_histogram_quantile(buckets, 0.99) * 1000;
}

static void set_classes(struct row *row, const json_t *now, const json_t *before, double seconds)
{
    row->errors_4xx = rate(json_object_get(now, "by_class"), json_object_get(before, "by_class"), "4xx", seconds);
    row->errors_5xx = rate(json_object_get(now, "by_class"), json_object_get(before, "by_class"), "5xx", seconds);
}

static struct row route_row(const char *name, const json_t *now, const json_t *before, double seconds, size_t place)
{
    struct row row = {.name = name, .place = place, .requests = rate(now, before, "requests", seconds)};

    set_classes(&row, now, before, seconds);
    set_latencies(&row, json_object_get(now, "latency"), json_object_get(before, "latency"));
    return row;
}

/* Requests that no route took come last. */
static struct row *route_rows(const struct picture *now, const struct picture *before, double seconds, size_t *size)
{
    const json_t *list = json_object_get(now->routes, "routes"), *old = json_object_get(before->routes, "routes");
    struct row *rows = h2o_mem_alloc(sizeof(*rows) * (json_array_size(list) + 1));
    size_t i;
    json_t *route;

    json_array_foreach(list, i, route)
    {
        const char *name = text_in(route, "name");
        rows[i] = route_row(name, route, find(old, i, "name", name), seconds, i);
    }
    rows[i] = route_row("(no route)", json_object_get(now->routes, "unrouted"),
                        json_object_get(before->routes, "unrouted"), seconds, i);
    *size = i + 1;
    return rows;
}

static void add_targets(struct row **rows, size_t *size, const json_t *group, const json_t *old, double seconds)
{
    size_t i;
    json_t *target;

    json_array_foreach(json_object_get(group, "targets"), i, target)
    {
        const char *name = text_in(target, "target");
        const json_t *before = find(json_object_get(old, "targets"), i, "target", name);
        struct row row = {.name = name, .group = text_in(group, "name"), .target = target, .place = *size};
        row.requests = rate(target, before, "attempts", seconds);
        row.failures = rate(target, before, "failures", seconds);
        set_classes(&row, target, before, seconds);
        set_latencies(&row, json_object_get(target, "latency"), json_object_get(before, "latency"));
        *rows = h2o_mem_realloc(*rows, sizeof(**rows) * (*size + 1));
        (*rows)[(*size)++] = row;
    }
}

static struct row *target_rows(const struct picture *now, const struct picture *before, double seconds, size_t *size)
{
    const json_t *old = json_object_get(before->groups, "target_groups");
    struct row *rows = NULL;
    size_t i;
    json_t *group;

    *size = 0;
    json_array_foreach(json_object_get(now->groups, "target_groups"), i, group)
        add_targets(&rows, size, group, find(old, i, "name", text_in(group, "name")), seconds);
    return rows;
}

/* The busiest first, else as configured. */
static int compare(const void *_a, const void *_b)
{
    const struct row *a = _a, *b = _b;
    if (a->requests != b->requests)
        return a->requests > b->requests ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* ---- printing ---- */

struct screen {
    const char *line_end; /* in place: clears the rest of the old line */
    const char *bold, *plain, *red;
    unsigned rows, columns; /* UINT_MAX: as many as it takes */
};

static void put_latency(double ms)
{
    if (isnan(ms))
        printf(" %9s", "-");
    else
        printf(" %9.1f", ms);
}

static void put_header(const struct picture *now, const struct picture *before, double seconds, const struct screen *s)
{
    const json_t *connections = json_object_get(now->status, "connections");
    const json_t *requests = json_object_get(now->status, "requests");
    double lag_ms = 0;
    size_t i;
    json_t *thread;

    json_array_foreach(json_object_get(now->status, "threads"), i, thread)
    {
        double each = json_number_value(json_object_get(thread, "loop_lag_max_ms"));
        lag_ms = each > lag_ms ? each : lag_ms;
    }
    printf("%sweir %s%s  pid %" PRId64 "  generation %" PRId64 "  %s%s", s->bold, text_in(now->status, "version"),
           s->plain, number_in(now->status, "pid"), number_in(now->status, "generation"),
           json_is_true(json_object_get(now->status, "draining")) ? "draining"
           : json_is_true(json_object_get(now->status, "ready"))  ? "ready"
                                                                  : "starting",
           s->line_end);
    printf("%s%.1f requests/s%s  %" PRId64 " in flight  %" PRId64 " connections  %.1f MiB  loop lag %.1f ms%s%s",
           s->bold, rate(requests, json_object_get(before->status, "requests"), "total", seconds), s->plain,
           number_in(requests, "in_flight"), number_in(connections, "open"),
           (double)number_in(json_object_get(now->status, "memory"), "resident_bytes") / (1024 * 1024), lag_ms,
           s->line_end, s->line_end);
}

static void put_route(const struct row *row, const struct screen *s)
{
    const char *color = row->errors_5xx > 0 ? s->red : "";
    printf("%s%-32.32s %10.1f %9.1f %9.1f", color, row->name, row->requests, row->errors_4xx, row->errors_5xx);
    put_latency(row->p50_ms);
    put_latency(row->p99_ms);
    printf("%s%s", color[0] != '\0' ? s->plain : "", s->line_end);
}

static void put_target(const struct row *row, const struct screen *s)
{
    const char *state = text_in(row->target, "state");
    bool is_bad = strcmp(state, "unhealthy") == 0 || row->failures > 0;
    char name[80];

    snprintf(name, sizeof(name), "%s %s", row->group, row->name);
    printf("%s%-32.32s %10.1f %9.1f %9.1f", is_bad ? s->red : "", name, row->requests, row->failures, row->errors_5xx);
    put_latency(row->p50_ms);
    put_latency(row->p99_ms);
    printf(" %7" PRId64 " %6" PRId64 "  %s%s%s", number_in(row->target, "in_flight"), number_in(row->target, "weight"),
           state, is_bad ? s->plain : "", s->line_end);
}

/* How many lines of routes and of targets fit: each gets half, and what the other leaves. */
static void share(unsigned rows, size_t *routes, size_t *targets)
{
    size_t room = rows > 10 ? rows - 8 : 2, half = room / 2;
    if (*routes + *targets <= room)
        return;
    if (*routes <= half)
        *targets = room - *routes;
    else if (*targets <= room - half)
        *routes = room - *targets;
    else {
        *routes = half;
        *targets = room - half;
    }
}

static void show(const struct picture *now, const struct picture *before, const struct screen *s)
{
    double seconds = now->at_ms > before->at_ms ? (double)(now->at_ms - before->at_ms) / 1000 : 0.001;
    size_t num_routes, num_targets;
    struct row *routes = route_rows(now, before, seconds, &num_routes);
    struct row *targets = target_rows(now, before, seconds, &num_targets);

    qsort(routes, num_routes, sizeof(*routes), compare);
    if (num_targets != 0)
        qsort(targets, num_targets, sizeof(*targets), compare);
    put_header(now, before, seconds, s);
    share(s->rows, &num_routes, &num_targets);
    printf("%s%-32s %10s %9s %9s %9s %9s%s%s", s->bold, "ROUTE", "requests/s", "4xx/s", "5xx/s", "p50 ms", "p99 ms",
           s->plain, s->line_end);
    for (size_t i = 0; i != num_routes; ++i)
        put_route(&routes[i], s);
    if (num_targets != 0)
        printf("%s%s%-32s %10s %9s %9s %9s %9s %7s %6s  %s%s%s", s->line_end, s->bold, "TARGET", "attempts/s",
               "failed/s", "5xx/s", "p50 ms", "p99 ms", "flight", "weight", "state", s->plain, s->line_end);
    for (size_t i = 0; i != num_targets; ++i)
        put_target(&targets[i], s);
    free(routes);
    free(targets);
}

/* ---- the terminal ---- */

static void on_interrupt(int number) { is_interrupted = 1; }

static void watch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: waiting ends at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

/* Waits out the interval; true: the user wants to go. */
static bool wait_for_key(unsigned interval_ms, bool has_keys)
{
    uint64_t until_ms = gw_now_ms() + interval_ms, now_ms;

    while (!is_interrupted && (now_ms = gw_now_ms()) < until_ms) {
        struct pollfd key = {.fd = has_keys ? STDIN_FILENO : -1, .events = POLLIN};
        char c;
        if (poll(&key, 1, (int)(until_ms - now_ms)) <= 0)
            continue;
        if (read(STDIN_FILENO, &c, 1) <= 0)
            has_keys = false;
        else if (c == 'q' || c == 'Q' || c == 3)
            return true;
    }
    return is_interrupted != 0;
}

static void show_in_place(const struct picture *now, const struct picture *before)
{
    struct screen screen = {"\033[K\n", "\033[1m", "\033[0m", getenv("NO_COLOR") == NULL ? "\033[31m" : "", 24, 80};
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0)
        screen.rows = size.ws_row;
    fputs("\033[H", stdout);
    show(now, before, &screen);
    fputs("\033[J", stdout);
    fflush(stdout);
}

/* A restart of weir is nothing to give up for. */
static int run_live(const struct settings *settings, struct picture *before)
{
    struct termios saved, raw;
    bool has_keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;

    watch_interrupts();
    if (has_keys) {
        raw = saved;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs("\033[?1049h\033[?25l\033[?7l\033[H\033[J", stdout); /* another screen, no cursor, long lines are cut */
    show_in_place(before, before);
    while (!wait_for_key(settings->interval_ms, has_keys)) {
        struct picture now;
        if (!take(&settings->client, &now))
            continue;
        show_in_place(&now, before);
        dispose(before);
        *before = now;
    }
    fputs("\033[?7h\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    return 0;
}

static int run_once(const struct settings *settings, const struct picture *before)
{
    static const struct screen plain = {"\n", "", "", "", UINT32_MAX, UINT32_MAX};
    struct picture now;

    wait_for_key(settings->interval_ms, false);
    if (!take(&settings->client, &now))
        return 1;
    show(&now, before, &plain);
    dispose(&now);
    return 0;
}

int gw_command_top(int argc, char **argv)
{
    struct settings settings;
    struct picture before;
    int status;

    if (!parse_options(argc, argv, &settings))
        return gw_misused(gw_top_usage);
    if (!take(&settings.client, &before))
        return 1;
    status = settings.is_live ? run_live(&settings, &before) : run_once(&settings, &before);
    dispose(&before);
    return status;
}
