#include "gateway/base/metrics.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

const uint64_t gw_histogram_bounds_us[GW_HISTOGRAM_BUCKETS - 1] = {
    500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000};
static const char *const bounds_text[GW_HISTOGRAM_BUCKETS] = {"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025",
                                                              "0.05",   "0.1",   "0.25",   "0.5",   "1",    "2.5",
                                                              "5",      "10",    "30",     "+Inf"};

unsigned gw_histogram_bucket(uint64_t elapsed_us)
{
    unsigned i = 0;
    while (i != GW_HISTOGRAM_BUCKETS - 1 && elapsed_us > gw_histogram_bounds_us[i])
        ++i;
    return i;
}

void gw_histogram_record(struct gw_histogram *histogram, uint64_t elapsed_us)
{
    gw_count(&histogram->buckets[gw_histogram_bucket(elapsed_us)], 1);
    gw_count(&histogram->sum_us, elapsed_us);
}

void gw_histogram_add(struct gw_histogram *total, const struct gw_histogram *part)
{
    for (unsigned i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        gw_count(&total->buckets[i], gw_counter_read(&part->buckets[i]));
    gw_count(&total->sum_us, gw_counter_read(&part->sum_us));
}

double gw_histogram_quantile(const uint64_t buckets[GW_HISTOGRAM_BUCKETS], double q)
{
    uint64_t total = 0;
    double left, below_us = 0;

    for (unsigned i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        total += buckets[i];
    if (total == 0)
        return NAN;
    left = q * (double)total;
    for (unsigned i = 0; i != GW_HISTOGRAM_BUCKETS - 1; ++i) {
        double up_to_us = (double)gw_histogram_bounds_us[i];
        if (buckets[i] != 0 && left <= (double)buckets[i])
            return (below_us + (up_to_us - below_us) * left / (double)buckets[i]) / 1e6;
        left -= (double)buckets[i];
        below_us = up_to_us;
    }
    return below_us / 1e6;
}

void gw_exposition_init(struct gw_exposition *out) { *out = (struct gw_exposition){NULL}; }

void gw_exposition_dispose(struct gw_exposition *out)
{
    free(out->base);
    gw_exposition_init(out);
}

static void put(struct gw_exposition *out, const char *bytes, size_t len)
{
    if (out->capacity - out->size < len) {
        size_t capacity = out->capacity == 0 ? 4096 : out->capacity;
        while (capacity - out->size < len)
            capacity *= 2;
        out->base = h2o_mem_realloc(out->base, capacity);
        out->capacity = capacity;
    }
    h2o_memcpy(out->base + out->size, bytes, len);
    out->size += len;
}

static void put_string(struct gw_exposition *out, const char *text) { put(out, text, strlen(text)); }

static void put_escaped(struct gw_exposition *out, const char *text, bool escape_quotes)
{
    for (; *text != '\0'; ++text) {
        if (*text == '\\')
            put(out, "\\\\", 2);
        else if (*text == '\n')
            put(out, "\\n", 2);
        else if (*text == '"' && escape_quotes)
            put(out, "\\\"", 2);
        else
            put(out, text, 1);
    }
}

static void put_value(struct gw_exposition *out, double value)
{
    char buf[64];
    if (isnan(value)) {
        put_string(out, "NaN");
    } else if (isinf(value)) {
        put_string(out, value < 0 ? "-Inf" : "+Inf");
    } else {
        /* the shorter spelling unless it loses bits */
        snprintf(buf, sizeof(buf), "%.15g", value);
        if (strtod(buf, NULL) != value)
            snprintf(buf, sizeof(buf), "%.17g", value);
        put_string(out, buf);
    }
}

void gw_exposition_family(struct gw_exposition *out, const char *name, const char *type, const char *help)
{
    put_string(out, "# HELP ");
    put_string(out, name);
    put_string(out, " ");
    put_escaped(out, help, false);
    put_string(out, "\n# TYPE ");
    put_string(out, name);
    put_string(out, " ");
    put_string(out, type);
    put_string(out, "\n");
}

static void put_label(struct gw_exposition *out, const char *name, const char *value, bool *is_first)
{
    put_string(out, *is_first ? "{" : ",");
    *is_first = false;
    put_string(out, name);
    put_string(out, "=\"");
    put_escaped(out, value, true);
    put_string(out, "\"");
}

/* le: one more label at the end, NULL for none */
static void put_labels(struct gw_exposition *out, va_list labels, const char *le)
{
    bool is_first = true;
    for (const char *name; (name = va_arg(labels, const char *)) != NULL;)
        put_label(out, name, va_arg(labels, const char *), &is_first);
    if (le != NULL)
        put_label(out, "le", le, &is_first);
    if (!is_first)
        put_string(out, "}");
}

static void put_sample(struct gw_exposition *out, const char *name, const char *suffix, va_list labels, const char *le,
                       double value)
{
    va_list copy;
    put_string(out, name);
    put_string(out, suffix);
    va_copy(copy, labels);
    put_labels(out, copy, le);
    va_end(copy);
    put_string(out, " ");
    put_value(out, value);
    put_string(out, "\n");
}

void gw_exposition_sample(struct gw_exposition *out, const char *name, double value, ...)
{
    va_list labels;
    va_start(labels, value);
    put_sample(out, name, "", labels, NULL, value);
    va_end(labels);
}

void gw_exposition_histogram(struct gw_exposition *out, const char *name, const struct gw_histogram *histogram, ...)
{
    uint64_t count = 0;
    va_list labels;
    va_start(labels, histogram);
    for (unsigned i = 0; i != GW_HISTOGRAM_BUCKETS; ++i) {
        count += gw_counter_read(&histogram->buckets[i]);
        put_sample(out, name, "_bucket", labels, bounds_text[i], (double)count);
    }
    put_sample(out, name, "_sum", labels, NULL, (double)gw_counter_read(&histogram->sum_us) / 1e6);
    /* the buckets' own total: what another thread counts meanwhile must not make it differ from +Inf */
    put_sample(out, name, "_count", labels, NULL, (double)count);
    va_end(labels);
}
