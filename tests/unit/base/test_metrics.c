#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "gateway/base/metrics.h"

static struct gw_exposition out;

static int set_up(void **state)
{
    gw_exposition_init(&out);
    return 0;
}

static int tear_down(void **state)
{
    gw_exposition_dispose(&out);
    return 0;
}

static void assert_out(const char *expected)
{
    char got[4096];
    assert_true(out.size < sizeof(got));
    h2o_memcpy(got, out.base, out.size);
    got[out.size] = '\0';
    assert_string_equal(got, expected);
}

static void family_and_samples_follow_the_exposition_format(void **state)
{
    gw_exposition_family(&out, "weir_requests_total", "counter", "Requests\nby \\route.");
    gw_exposition_sample(&out, "weir_requests_total", 12, "route", "a", "reason", "", NULL);
    gw_exposition_sample(&out, "weir_up", 1, NULL);
    assert_out("# HELP weir_requests_total Requests\\nby \\\\route.\n"
               "# TYPE weir_requests_total counter\n"
               "weir_requests_total{route=\"a\",reason=\"\"} 12\n"
               "weir_up 1\n");
}

static void label_values_are_escaped(void **state)
{
    gw_exposition_sample(&out, "m", 0, "l", "a\"b\\c\nd", NULL);
    assert_out("m{l=\"a\\\"b\\\\c\\nd\"} 0\n");
}

static void values_are_written_without_loss(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-1.5, "-1.5"},
                 {0.1, "0.1"},
                 {9007199254740993.0, "9007199254740992"},
                 {1.0 / 3, "0.33333333333333331"},
                 {1e300, "1e+300"},
                 {INFINITY, "+Inf"},
                 {-INFINITY, "-Inf"},
                 {NAN, "NaN"}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char expected[64];
        out.size = 0;
        gw_exposition_sample(&out, "m", cases[i].value, NULL);
        snprintf(expected, sizeof(expected), "m %s\n", cases[i].text);
        assert_out(expected);
    }
}

static void duration_counts_in_the_first_bucket_that_holds_it(void **state)
{
    static const struct {
        uint64_t us;
        unsigned bucket;
    } cases[] = {{0, 0},      {500, 0},    {501, 1},      {1000, 1},      {1001, 2},      {99999, 7},
                 {100000, 7}, {100001, 8}, {1000000, 10}, {30000000, 14}, {30000001, 15}, {UINT64_MAX / 2, 15}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_histogram histogram = {.sum_us = 0};
        gw_histogram_record(&histogram, cases[i].us);
        for (unsigned k = 0; k != GW_HISTOGRAM_BUCKETS; ++k)
            assert_int_equal(gw_counter_read(&histogram.buckets[k]), k == cases[i].bucket);
        assert_int_equal(gw_counter_read(&histogram.sum_us), cases[i].us);
    }
}

static void histogram_is_cumulative_and_ends_with_its_count(void **state)
{
    struct gw_histogram first = {.sum_us = 0}, second = {.sum_us = 0}, total = {.sum_us = 0};
    gw_histogram_record(&first, 400);
    gw_histogram_record(&first, 700000);
    gw_histogram_record(&second, 60000000);
    gw_histogram_record(&second, 400);
    gw_histogram_add(&total, &first);
    gw_histogram_add(&total, &second);
    gw_exposition_histogram(&out, "m", &total, "route", "a", NULL);
    assert_out("m_bucket{route=\"a\",le=\"0.0005\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.001\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.0025\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.005\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.01\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.025\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.05\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.1\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.25\"} 2\n"
               "m_bucket{route=\"a\",le=\"0.5\"} 2\n"
               "m_bucket{route=\"a\",le=\"1\"} 3\n"
               "m_bucket{route=\"a\",le=\"2.5\"} 3\n"
               "m_bucket{route=\"a\",le=\"5\"} 3\n"
               "m_bucket{route=\"a\",le=\"10\"} 3\n"
               "m_bucket{route=\"a\",le=\"30\"} 3\n"
               "m_bucket{route=\"a\",le=\"+Inf\"} 4\n"
               "m_sum{route=\"a\"} 60.7008\n"
               "m_count{route=\"a\"} 4\n");
    out.size = 0;
    gw_exposition_histogram(&out, "m", &first, NULL);
    assert_memory_equal(out.base, "m_bucket{le=\"0.0005\"} 1\n", 24);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
static void quantiles_lie_between_the_bounds_of_their_bucket(void **state)
{
    uint64_t buckets[GW_HISTOGRAM_BUCKETS] = {0};
    assert_true(isnan(gw_histogram_quantile(buckets, 0.5)));
    buckets[3] = 100; /* 2.5 to 5 ms */
    assert_true(fabs(gw_histogram_quantile(buckets, 0.5) - 0.00375) < 1e-9);
    assert_true(fabs(gw_histogram_quantile(buckets, 1) - 0.005) < 1e-9);
    buckets[3] = 98;
    buckets[6] = 2; /* 25 to 50 ms */
    assert_true(gw_histogram_quantile(buckets, 0.5) < 0.005);
    assert_true(fabs(gw_histogram_quantile(buckets, 0.99) - 0.0375) < 1e-9);
    buckets[GW_HISTOGRAM_BUCKETS - 1] = 900; /* without a bound */
    assert_true(gw_histogram_quantile(buckets, 0.5) == 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(family_and_samples_follow_the_exposition_format),
        TEST(label_values_are_escaped),
        TEST(values_are_written_without_loss),
        TEST(duration_counts_in_the_first_bucket_that_holds_it),
        TEST(quantiles_lie_between_the_bounds_of_their_bucket),
        TEST(histogram_is_cumulative_and_ends_with_its_count),
    };
    return cmocka_run_group_tests_name("base/metrics", tests, NULL, NULL);
}
