#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/admin_pages.h"
#include "gateway/discovery/resolver.h"
#include "tls/status.h"

enum { WORKERS = 2 };

/* A process that serves nothing, with counters as if it did. */
struct fixture {
    struct gw_process process;
    struct gw_snapshot snapshot;
    struct gw_thread threads[WORKERS];
    h2o_context_t ctx;
    struct gw_exposition out;
};

static struct gw_route_stats *create_stats(void)
{
    size_t bytes = (sizeof(struct gw_route_stats) + WORKERS * sizeof(struct gw_route_slot) + 63) & ~(size_t)63;
    struct gw_route_stats *stats = aligned_alloc(64, bytes);
    memset(stats, 0, bytes);
    return stats;
}

static struct fixture *create(size_t num_routes, size_t num_groups, size_t targets_each)
{
    static struct routing_respond_conf respond = {.status = 418};
    struct fixture *self = h2o_mem_alloc(sizeof(*self));
    char name[32];

    memset(self, 0, sizeof(*self));
    self->ctx.loop = h2o_evloop_create();
    self->process.num_workers = WORKERS;
    self->process.workers = aligned_alloc(64, (sizeof(struct gw_worker) * WORKERS + 63) & ~(size_t)63);
    memset(self->process.workers, 0, sizeof(struct gw_worker) * WORKERS);
    for (unsigned i = 0; i != WORKERS; ++i) {
        gw_thread_init(&self->threads[i], i, &self->ctx);
        self->process.workers[i].pool = gw_pool_create(&self->threads[i]);
        self->process.workers[i].compressor = gw_compressor_create(&self->threads[i]);
    }
    self->process.access_log = gw_access_log_create();
    self->process.tracing = gw_tracing_create();
    self->process.resolver = gw_resolver_create(&self->threads[0]);
    self->process.active = &self->snapshot;
    self->process.generation = 3;
    self->snapshot.no_route = create_stats();
    self->snapshot.num_routes = num_routes;
    self->snapshot.routes = calloc(num_routes, sizeof(struct gw_route));
    for (size_t i = 0; i != num_routes; ++i) {
        struct routing_route_conf *conf = calloc(1, sizeof(*conf));
        conf->name = h2o_strdup(NULL, name, snprintf(name, sizeof(name), "route \"%zu\"", i));
        conf->respond = i % 2 == 0 ? &respond : NULL;
        self->snapshot.routes[i].conf = conf;
        self->snapshot.routes[i].action = i % 2 == 0 ? ROUTING_RESPOND : ROUTING_FORWARD;
        self->snapshot.routes[i].stats = create_stats();
    }
    self->snapshot.num_groups = num_groups;
    self->snapshot.groups = calloc(num_groups, sizeof(struct routing_target_group));
    for (size_t i = 0; i != num_groups; ++i) {
        struct routing_target_group *group = &self->snapshot.groups[i];
        group->name = h2o_strdup(NULL, name, snprintf(name, sizeof(name), "group-%zu", i));
        group->size = (uint32_t)targets_each;
        group->entry = aligned_alloc(64, sizeof(struct gw_group_entry));
        memset(group->entry, 0, sizeof(struct gw_group_entry));
        group->targets = calloc(targets_each, sizeof(*group->targets));
        for (size_t j = 0; j != targets_each; ++j) {
            group->targets[j].name = h2o_strdup(NULL, name, snprintf(name, sizeof(name), "10.0.0.%zu:80", j));
            group->targets[j].health = calloc(1, sizeof(struct routing_health));
            routing_health_init(group->targets[j].health, j % 2 == 0);
        }
    }
    gw_exposition_init(&self->out);
    return self;
}

static void destroy(struct fixture *self)
{
    for (size_t i = 0; i != self->snapshot.num_routes; ++i) {
        free(self->snapshot.routes[i].conf->name.base);
        free((void *)self->snapshot.routes[i].conf);
        free(self->snapshot.routes[i].stats);
    }
    for (size_t i = 0; i != self->snapshot.num_groups; ++i) {
        for (size_t j = 0; j != self->snapshot.groups[i].size; ++j) {
            free(self->snapshot.groups[i].targets[j].name.base);
            free(self->snapshot.groups[i].targets[j].health);
        }
        free(self->snapshot.groups[i].targets);
        free(self->snapshot.groups[i].entry);
        free(self->snapshot.groups[i].name.base);
    }
    gw_resolver_destroy(self->process.resolver);
    for (unsigned i = 0; i != WORKERS; ++i) {
        gw_pool_destroy(self->process.workers[i].pool);
        gw_compressor_destroy(self->process.workers[i].compressor);
        gw_thread_dispose(&self->threads[i]);
    }
    h2o_evloop_destroy(self->ctx.loop);
    gw_access_log_destroy(self->process.access_log);
    gw_tracing_destroy(self->process.tracing);
    gw_exposition_dispose(&self->out);
    free(self->snapshot.groups);
    free(self->snapshot.routes);
    free(self->snapshot.no_route);
    free(self->process.workers);
    free(self);
}

/* Every route is asked in every way that leaves a series, on both threads. */
static void count_everything(struct fixture *self, unsigned reasons_each)
{
    for (size_t i = 0; i <= self->snapshot.num_routes; ++i) {
        struct gw_route_stats *stats =
            i == self->snapshot.num_routes ? self->snapshot.no_route : self->snapshot.routes[i].stats;
        for (unsigned worker = 0; worker != WORKERS; ++worker) {
            struct gw_route_slot *slot = &stats->slots[worker];
            gw_count(&slot->by_class[2], 1);
            for (unsigned reason = 1; reason <= reasons_each; ++reason)
                gw_count(&slot->by_reason[reason], 1);
            gw_count(&slot->retries, 1);
            gw_count(&slot->buckets[gw_histogram_bucket(1000)].seconds, 1);
            gw_count(&slot->seconds_sum_us, 1000);
            gw_count(&slot->buckets[gw_histogram_bucket(500)].upstream, 1);
            gw_count(&slot->upstream_sum_us, 500);
        }
    }
}

static const char *page_of(struct fixture *self)
{
    gw_metrics_page(&self->process, &self->out);
    gw_exposition_family(&self->out, "end", "gauge", "The page's end.");
    self->out.base[self->out.size - 1] = '\0';
    return self->out.base;
}

static size_t count_samples(const char *page)
{
    size_t n = 0;
    for (const char *line = page; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL)
        n += *line != '#';
    return n;
}

/* Sum of the samples whose line begins like this. */
static double sum_of(const char *page, const char *beginning)
{
    double sum = 0;
    for (const char *line = page; line != NULL; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, beginning, strlen(beginning)) == 0) {
            const char *end = strchr(line, '\n');
            while (*end != ' ')
                --end;
            sum += strtod(end, NULL);
        }
    return sum;
}

static void series_stay_below_the_limit_whatever_the_size(void **state)
{
    static const size_t sizes[] = {0, 1, 24, 25, 26, 50, 51, 499, 500, 501, 10000};
    for (size_t i = 0; i != sizeof(sizes) / sizeof(sizes[0]); ++i) {
        struct fixture *self = create(sizes[i], sizes[i] < 500 ? sizes[i] : 500, 5);
        count_everything(self, GW_REASON_COUNT - 1);
        size_t n = count_samples(page_of(self));
        assert_in_range(n, 50, 1999 - TLS_STATUS_MAX_SERIES);
        destroy(self);
    }
}

static void totals_are_the_same_with_few_and_with_many_routes(void **state)
{
    static const size_t sizes[] = {1, 30, 60, 600, 5000};
    for (size_t i = 0; i != sizeof(sizes) / sizeof(sizes[0]); ++i) {
        struct fixture *self = create(sizes[i], 0, 0);
        count_everything(self, 4);
        const char *page = page_of(self);
        assert_true(sum_of(page, "weir_requests_total{") == (double)(sizes[i] + 1) * WORKERS * 5);
        assert_true(sum_of(page, "weir_request_seconds_count{") == (double)(sizes[i] + 1) * WORKERS);
        assert_true(sum_of(page, "weir_upstream_seconds_count{") == (double)(sizes[i] / 2) * WORKERS);
        assert_true(sum_of(page, "weir_upstream_retries_total{") == (double)(sizes[i] + 1) * WORKERS);
        destroy(self);
    }
}

static void each_of_a_few_routes_has_its_own_series(void **state)
{
    struct fixture *self = create(2, 1, 2);
    struct gw_route_slot *slot = &self->snapshot.routes[0].stats->slots[1];
    gw_count(&slot->by_class[2], 7);
    gw_count(&slot->by_reason[GW_REASON_FIXED_RESPONSE], 5);
    gw_count(&slot->by_reason[GW_REASON_UPSTREAM_TRUNCATED], 2);
    gw_count(&self->snapshot.no_route->slots[0].by_reason[GW_REASON_NO_ROUTE], 3);
    const char *page = page_of(self);
    assert_non_null(strstr(page, "weir_requests_total{route=\"route \\\"0\\\"\",code_class=\"2xx\",reason=\"-\"} 7\n"));
    assert_non_null(strstr(
        page, "weir_requests_total{route=\"route \\\"0\\\"\",code_class=\"4xx\",reason=\"FIXED_RESPONSE\"} 5\n"));
    assert_non_null(strstr(
        page, "weir_requests_total{route=\"route \\\"0\\\"\",code_class=\"-\",reason=\"UPSTREAM_TRUNCATED\"} 2\n"));
    assert_non_null(strstr(page, "weir_requests_total{route=\"-\",code_class=\"4xx\",reason=\"NO_ROUTE\"} 3\n"));
    assert_null(strstr(page, "route=\"_other\",code_class"));
    assert_non_null(strstr(page, "weir_config_generation 3\n"));
    assert_non_null(strstr(page, "weir_target_health{target_group=\"group-0\",target=\"10.0.0.0:80\"} 0\n"));
    assert_non_null(strstr(page, "weir_target_health{target_group=\"group-0\",target=\"10.0.0.1:80\"} 1\n"));
    destroy(self);
}

static void targets_beyond_the_budget_are_still_counted_by_state(void **state)
{
    struct fixture *self = create(0, 300, 4);
    const char *page = page_of(self);
    assert_true(sum_of(page, "weir_target_group_targets{") == 300 * 4);
    assert_non_null(strstr(page, "weir_target_group_targets{target_group=\"_other\""));
    destroy(self);
}

static void gauges_that_one_thread_raised_and_another_lowered_stay_whole(void **state)
{
    struct fixture *self = create(0, 0, 0);
    gw_count(&self->process.workers[0].stats.connections, 5);
    gw_count(&self->process.workers[1].stats.connections, (uint64_t)-2);
    assert_true(sum_of(page_of(self), "weir_connections ") == 3);
    destroy(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_stay_below_the_limit_whatever_the_size),
        cmocka_unit_test(totals_are_the_same_with_few_and_with_many_routes),
        cmocka_unit_test(each_of_a_few_routes_has_its_own_series),
        cmocka_unit_test(targets_beyond_the_budget_are_still_counted_by_state),
        cmocka_unit_test(gauges_that_one_thread_raised_and_another_lowered_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
