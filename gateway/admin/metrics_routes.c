#include "gateway/admin/metrics_routes.h"
#include <string.h>
#include "gateway/process.h"
#include "gateway/admin/admin_pages.h"
#include "gateway/worker.h"

/* What does not fit is summed up under "_other", so that totals over a family stay true. */
enum {
    MAX_ROUTE_SERIES = 1275,     /* weir_requests_total and the histograms of routes */
    OTHER_REQUEST_SERIES = 60,   /* of these, kept for route="_other" */
    MAX_ROUTES_COUNTED = 500,    /* routes with counters of their own */
    MAX_ROUTES_TIMED = 50,       /* with a histogram of their own */
    MAX_ROUTES_TIMED_TWICE = 25, /* with one of the upstream's time too */
    HISTOGRAM_SERIES = GW_HISTOGRAM_BUCKETS + 2,
    MAX_RETRY_SERIES = 60,
};

static const char other[] = "_other";

/* ---- sums ---- */

static void add_slot(struct gw_route_slot *total, const struct gw_route_slot *slot)
{
    for (size_t i = 0; i != sizeof(total->by_class) / sizeof(total->by_class[0]); ++i)
        gw_count(&total->by_class[i], gw_counter_read(&slot->by_class[i]));
    for (size_t i = 0; i != GW_REASON_COUNT; ++i)
        gw_count(&total->by_reason[i], gw_counter_read(&slot->by_reason[i]));
    gw_count(&total->retries, gw_counter_read(&slot->retries));
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i) {
        gw_count(&total->buckets[i].seconds, gw_counter_read(&slot->buckets[i].seconds));
        gw_count(&total->buckets[i].upstream, gw_counter_read(&slot->buckets[i].upstream));
    }
    gw_count(&total->seconds_sum_us, gw_counter_read(&slot->seconds_sum_us));
    gw_count(&total->upstream_sum_us, gw_counter_read(&slot->upstream_sum_us));
}

static struct gw_histogram request_times(const struct gw_route_slot *slot)
{
    struct gw_histogram histogram = {.sum_us = gw_counter_read(&slot->seconds_sum_us)};
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        histogram.buckets[i] = gw_counter_read(&slot->buckets[i].seconds);
    return histogram;
}

static struct gw_histogram upstream_times(const struct gw_route_slot *slot)
{
    struct gw_histogram histogram = {.sum_us = gw_counter_read(&slot->upstream_sum_us)};
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        histogram.buckets[i] = gw_counter_read(&slot->buckets[i].upstream);
    return histogram;
}

/* One route over all threads. */
static void sum_route(struct gw_route_slot *total, const struct gw_process *process, const struct gw_route_stats *stats)
{
    memset(total, 0, sizeof(*total));
    for (unsigned i = 0; i != process->num_workers; ++i)
        add_slot(total, &stats->slots[i]);
}

/* ---- routes ---- */

/* Routes as the page sees them: those of the active snapshot, then requests that no route took, shown as "-". */
struct routes {
    struct gw_process *process;
    const struct gw_snapshot *snapshot;
    size_t size;
};

static void route_at(const struct routes *routes, size_t i, struct gw_route_slot *total, const char **name)
{
    bool is_none = i == routes->snapshot->num_routes;
    sum_route(total, routes->process, is_none ? routes->snapshot->no_route : routes->snapshot->routes[i].stats);
    *name = is_none ? "-" : routes->snapshot->routes[i].conf->name.base;
}

static const char *class_of(enum gw_reason reason, const struct gw_route *route)
{
    static const char *const names[] = {"-", "1xx", "2xx", "3xx", "4xx", "5xx"};
    return names[gw_reason_class(reason, route)];
}

static unsigned count_series(const struct gw_route_slot *slot)
{
    unsigned n = 0;
    for (size_t i = 0; i != sizeof(slot->by_class) / sizeof(slot->by_class[0]); ++i)
        n += gw_counter_read(&slot->by_class[i]) != 0;
    for (size_t i = 0; i != GW_REASON_COUNT; ++i)
        n += gw_counter_read(&slot->by_reason[i]) != 0;
    return n;
}

static void put_request_counts(struct gw_exposition *out, const char *name, const struct gw_route_slot *slot,
                               const struct gw_route *route)
{
    static const char *const classes[] = {"-", "1xx", "2xx", "3xx", "4xx", "5xx"};

    for (size_t i = 0; i != sizeof(slot->by_class) / sizeof(slot->by_class[0]); ++i) {
        uint64_t n = gw_counter_read(&slot->by_class[i]);
        if (n != 0)
            gw_exposition_sample(out, "weir_requests_total", (double)n, "route", name, "code_class", classes[i],
                                 "reason", "-", NULL);
    }
    for (size_t i = 1; i != GW_REASON_COUNT; ++i) {
        uint64_t n = gw_counter_read(&slot->by_reason[i]);
        if (n != 0)
            gw_exposition_sample(out, "weir_requests_total", (double)n, "route", name, "code_class",
                                 class_of((enum gw_reason)i, route), "reason", gw_reason_info((enum gw_reason)i)->code,
                                 NULL);
    }
}

/* What the histograms leave. */
static unsigned request_series(size_t num_routes)
{
    size_t timed = num_routes <= MAX_ROUTES_TIMED ? num_routes + 1 : 1;
    size_t timed_twice = num_routes <= MAX_ROUTES_TIMED_TWICE ? num_routes + 1 : 1;
    return MAX_ROUTE_SERIES - HISTOGRAM_SERIES * (unsigned)(timed + timed_twice) - OTHER_REQUEST_SERIES;
}

static void put_requests(struct gw_exposition *out, const struct routes *routes)
{
    struct gw_route_slot total, rest = {.retries = 0};
    unsigned left = request_series(routes->snapshot->num_routes);
    const char *name;

    gw_exposition_family(out, "weir_requests_total", "counter",
                         "Requests that are over, by route, class of the status and reason of a local answer.");
    /* requests without a route always have their own series */
    route_at(routes, routes->snapshot->num_routes, &total, &name);
    put_request_counts(out, name, &total, NULL);
    left -= count_series(&total);
    for (size_t i = 0; i != routes->snapshot->num_routes; ++i) {
        route_at(routes, i, &total, &name);
        unsigned series = count_series(&total);
        if (i < MAX_ROUTES_COUNTED && series <= left) {
            put_request_counts(out, name, &total, &routes->snapshot->routes[i]);
            left -= series;
        } else {
            add_slot(&rest, &total);
        }
    }
    put_request_counts(out, other, &rest, NULL);
}

static void put_retries(struct gw_exposition *out, const struct routes *routes)
{
    struct gw_route_slot total;
    uint64_t rest = 0, n;
    unsigned left = MAX_RETRY_SERIES - 1;
    const char *name;

    gw_exposition_family(out, "weir_upstream_retries_total", "counter", "Further attempts at a target, by route.");
    for (size_t i = 0; i != routes->size; ++i) {
        route_at(routes, i, &total, &name);
        if ((n = gw_counter_read(&total.retries)) == 0)
            continue;
        if (left != 0 && i < MAX_ROUTES_COUNTED) {
            gw_exposition_sample(out, "weir_upstream_retries_total", (double)n, "route", name, NULL);
            --left;
        } else {
            rest += n;
        }
    }
    gw_exposition_sample(out, "weir_upstream_retries_total", (double)rest, "route", other, NULL);
}

/* One histogram for each route, or one for all where there are more than `most`. */
static void put_times(struct gw_exposition *out, const struct routes *routes, const char *family, size_t most,
                      struct gw_histogram (*times_of)(const struct gw_route_slot *), bool is_for_forwards)
{
    bool is_each = routes->snapshot->num_routes <= most;
    struct gw_route_slot total;
    struct gw_histogram rest = {.sum_us = 0};
    const char *name;

    for (size_t i = 0; i != (is_for_forwards ? routes->snapshot->num_routes : routes->size); ++i) {
        if (is_for_forwards && routes->snapshot->routes[i].action != ROUTING_FORWARD)
            continue;
        route_at(routes, i, &total, &name);
        struct gw_histogram times = times_of(&total);
        if (is_each)
            gw_exposition_histogram(out, family, &times, "route", name, NULL);
        else
            gw_histogram_add(&rest, &times);
    }
    if (!is_each)
        gw_exposition_histogram(out, family, &rest, "route", other, NULL);
}

void gw_metrics_put_routes(struct gw_exposition *out, struct gw_process *process)
{
    struct routes routes = {process, process->active, process->active->num_routes + 1};

    put_requests(out, &routes);
    put_retries(out, &routes);
    gw_exposition_family(out, "weir_request_seconds", "histogram",
                         "From the end of the request's head to the end of the response.");
    put_times(out, &routes, "weir_request_seconds", MAX_ROUTES_TIMED, request_times, false);
    gw_exposition_family(out, "weir_upstream_seconds", "histogram",
                         "From the request's head until the target's response began.");
    put_times(out, &routes, "weir_upstream_seconds", MAX_ROUTES_TIMED_TWICE, upstream_times, true);
}
