/* What finding the route costs with 10 and with 10,000 routes, and what building the table costs:
 *
 *     ninja -C build tests/bench/routes && build/tests/bench/routes
 *
 * Nanoseconds of this thread per match, median of 9 rounds. "one" asks for the same URL over and over, "all" walks over
 * 10,000 requests in memory that ask for every route in a scrambled order, so both columns pay the cache misses of the
 * requests, and the second those of a table that does not fit the first-level cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "routing/path.h"
#include "routing/table.h"

enum { MATCHES = 200000, ROUNDS = 9, MANY = 10000 };

static const struct gw_node somewhere = {.kind = GW_NODE_MAP, .file = "bench", .line = 1, .column = 1};

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct shape {
    const char *name;
    const char *host_format, *path_format; /* of the pattern; NULL: no condition */
    bool is_glob;
    const char *ask_host_format, *ask_path_format;
};
static const struct shape shapes[] = {
    {"hosts", "host%u.example.com", NULL, false, "host%u.example.com", "/"},
    {"wildcard hosts", "*.zone%u.example.com", NULL, false, "www.zone%u.example.com", "/"},
    {"path prefixes of one host", "api.example.com", "/api/v1/thing%u", false, "api.example.com",
     "/api/v1/thing%u/items/7"},
    {"path globs", NULL, "/api/v1/thing%u/*", true, "api.example.com", "/api/v1/thing%u/items/7"},
    {"globs by their end", NULL, "*/thing%u.jpg", true, "img.example.com", "/images/large/thing%u.jpg"},
};

struct bench {
    h2o_mem_pool_t pool;
    struct gw_list routes;
    struct routing_table *table;
    struct routing_facts *asks; /* MANY, which ask for every route in scrambled order */
    size_t n;
    uint64_t build_ns;
};

static h2o_iovec_t format(h2o_mem_pool_t *pool, const char *text, unsigned i)
{
    char buf[256];
    return h2o_strdup(pool, buf, (size_t)snprintf(buf, sizeof(buf), text, i));
}

static struct gw_texts one_text(h2o_mem_pool_t *pool, const char *text, unsigned i)
{
    struct gw_texts texts = {h2o_mem_alloc_pool(pool, sizeof(*texts.entries)), 1,
                             h2o_mem_alloc_pool(pool, sizeof(*texts.at))};
    texts.entries[0] = format(pool, text, i);
    texts.at[0] = &somewhere;
    return texts;
}

static struct routing_route_conf *make_route(h2o_mem_pool_t *pool, const struct shape *shape, unsigned i)
{
    struct routing_route_conf *route = h2o_mem_alloc_pool(pool, sizeof(*route));
    *route = (struct routing_route_conf){.at = &somewhere, .name = format(pool, "route-%u", i), .echo = true};
    route->match.at = &somewhere;
    if (shape->host_format != NULL)
        route->match.host = one_text(pool, shape->host_format, i);
    if (shape->path_format != NULL && shape->is_glob)
        route->match.path = one_text(pool, shape->path_format, i);
    else if (shape->path_format != NULL)
        route->match.path_prefix = one_text(pool, shape->path_format, i);
    return route;
}

static void make_asks(struct bench *bench, const struct shape *shape)
{
    bench->asks = h2o_mem_alloc_pool(&bench->pool, MANY * sizeof(*bench->asks));
    memset(bench->asks, 0, MANY * sizeof(*bench->asks));
    for (size_t i = 0; i != MANY; ++i) {
        unsigned route = (unsigned)((i * 7919 + 3) % bench->n); /* 7919 is prime: every route once */
        struct routing_facts *facts = bench->asks + i;
        facts->method = h2o_iovec_init(H2O_STRLIT("GET"));
        facts->host = format(&bench->pool, shape->ask_host_format, route);
        facts->path = facts->raw_path = format(&bench->pool, shape->ask_path_format, route);
    }
}

static void set_up(struct bench *bench, const struct shape *shape, size_t n)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    memset(bench, 0, sizeof(*bench));
    h2o_mem_init_pool(&bench->pool);
    bench->n = n;
    bench->routes.entries = h2o_mem_alloc_pool(&bench->pool, n * sizeof(void *));
    bench->routes.size = n;
    for (size_t i = 0; i != n; ++i)
        bench->routes.entries[i] = make_route(&bench->pool, shape, (unsigned)i);
    uint64_t start = cpu_ns();
    bench->table = routing_table_create(&bench->routes, NULL, 0, &errors);
    bench->build_ns = cpu_ns() - start;
    if (bench->table == NULL || errors.size != 0) {
        gw_errors_print(&errors, stderr);
        exit(1);
    }
    gw_errors_dispose(&errors);
    make_asks(bench, shape);
}

static void tear_down(struct bench *bench)
{
    routing_table_destroy(bench->table);
    h2o_mem_clear_pool(&bench->pool);
}

static double round_ns(const struct bench *bench, size_t num_asks)
{
    uint64_t start = cpu_ns();
    for (size_t i = 0, at = 0; i != MATCHES; ++i) {
        const struct routing_facts *facts = bench->asks + at;
        if (routing_table_match(bench->table, facts, NULL) == NULL) {
            fprintf(stderr, "no route takes %.*s%.*s\n", (int)facts->host.len, facts->host.base, (int)facts->path.len,
                    facts->path.base);
            exit(1);
        }
        if (++at == num_asks)
            at = 0;
    }
    return (double)(cpu_ns() - start) / MATCHES;
}

static int compare_doubles(const void *a_, const void *b_)
{
    double a = *(const double *)a_, b = *(const double *)b_;
    return (a > b) - (a < b);
}

static double median_ns(const struct bench *bench, size_t num_asks)
{
    double rounds[ROUNDS];
    for (int i = 0; i != ROUNDS; ++i)
        rounds[i] = round_ns(bench, num_asks);
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare_doubles);
    return rounds[ROUNDS / 2];
}

static void measure_paths(void)
{
    static const char *const paths[] = {"/api/v1/thing123/items/7", "/images/large/thing123.jpg?no", "/%7euser/a/./b"};
    printf("\n| canonical path | ns |\n|---|---|\n");
    for (size_t i = 0; i != 3; ++i) {
        h2o_mem_pool_t pool;
        h2o_iovec_t canonical, raw = h2o_iovec_init(paths[i], strlen(paths[i]));
        h2o_mem_init_pool(&pool);
        uint64_t start = cpu_ns();
        for (size_t j = 0; j != MATCHES; ++j) {
            routing_path_canonical(&pool, raw, &canonical);
            if (canonical.base != raw.base && j % 100 == 0)
                h2o_mem_clear_pool(&pool);
        }
        printf("| `%s` | %.1f |\n", paths[i], (double)(cpu_ns() - start) / MATCHES);
        h2o_mem_clear_pool(&pool);
    }
}

int main(void)
{
    printf(
        "| routes by | 10, one | 10,000, one | 10, all | 10,000, all | building 10,000 |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i != sizeof(shapes) / sizeof(shapes[0]); ++i) {
        struct bench few, many;
        set_up(&few, shapes + i, 10);
        set_up(&many, shapes + i, MANY);
        printf("| %s | %.1f ns | %.1f ns | %.1f ns | %.1f ns | %.1f ms |\n", shapes[i].name, median_ns(&few, 1),
               median_ns(&many, 1), median_ns(&few, MANY), median_ns(&many, MANY), (double)many.build_ns / 1e6);
        tear_down(&few);
        tear_down(&many);
    }
    measure_paths();
    return 0;
}
