/* Histograms and the Prometheus text exposition format 0.0.4. Counting is a plain store by the owning thread; reading
 * from another thread sees each counter whole (relaxed atomics), nothing more is promised. */
#pragma once
#include <stdint.h>
#include <h2o/memory.h>

typedef _Atomic uint64_t gw_counter; /* atomic: written by one thread, read by any */
static inline void gw_count(gw_counter *c, uint64_t n)
{
    __atomic_store_n((uint64_t *)c, __atomic_load_n((uint64_t *)c, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
static inline uint64_t gw_counter_read(const gw_counter *c)
{
    return __atomic_load_n((const uint64_t *)c, __ATOMIC_RELAXED);
}

/* Seconds: .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 30 +Inf */
enum { GW_HISTOGRAM_BUCKETS = 16 };
struct gw_histogram {
    gw_counter buckets[GW_HISTOGRAM_BUCKETS]; /* not cumulative; the writer adds up */
    gw_counter sum_us;
};
/* The bucket that a duration falls into. */
unsigned gw_histogram_bucket(uint64_t elapsed_us);
void gw_histogram_record(struct gw_histogram *, uint64_t elapsed_us);
/* The value below which a share q (0..1) of the records lies, in seconds, as far as the buckets tell: straight lines
 * between their bounds, and no more than the last bound. NAN when there are none. */
double gw_histogram_quantile(const uint64_t buckets[GW_HISTOGRAM_BUCKETS], double q);
/* Upper bounds in microseconds; the last bucket has none. */
extern const uint64_t gw_histogram_bounds_us[GW_HISTOGRAM_BUCKETS - 1];
void gw_histogram_add(struct gw_histogram *total, const struct gw_histogram *part);

/* Writer of the exposition format into a growing buffer. Labels are name, value pairs ended by NULL. */
struct gw_exposition {
    char *base;
    size_t size, capacity;
};
void gw_exposition_init(struct gw_exposition *);
void gw_exposition_dispose(struct gw_exposition *);
/* type: "counter", "gauge", "histogram" */
void gw_exposition_family(struct gw_exposition *, const char *name, const char *type, const char *help);
void gw_exposition_sample(struct gw_exposition *, const char *name, double value, ... /* label, value, ..., NULL */);
void gw_exposition_histogram(struct gw_exposition *, const char *name, const struct gw_histogram *,
                             ... /* label, value, ..., NULL */);
