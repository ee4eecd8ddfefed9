#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/observe/tracing.h"

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static void the_share_is_told_from_the_low_56_bits_of_the_trace_id(void **state)
{
    const h2o_iovec_t lowest = text("ffffffffffffffffff00000000000000"),
                      half = text("00000000000000000080000000000000"),
                      below_half = text("ffffffffffffffffff7fffffffffffff"),
                      highest = text("000000000000000000ffffffffffffff");
    assert_false(gw_span_is_sampled(lowest, 0));
    assert_true(gw_span_is_sampled(lowest, 0.0001));
    assert_false(gw_span_is_sampled(half, 50));
    assert_true(gw_span_is_sampled(below_half, 50));
    assert_false(gw_span_is_sampled(highest, 99.99));
    assert_true(gw_span_is_sampled(highest, 100));
}

static void secrets_of_a_query_are_replaced_and_all_else_stays(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a", "a"},
        {"sig", "sig"},
        {"sig=", "sig=REDACTED"},
        {"sig=x", "sig=REDACTED"},
        {"a=1&sig=x&b=2", "a=1&sig=REDACTED&b=2"},
        {"Signature=x&sig=y", "Signature=REDACTED&sig=REDACTED"},
        {"AWSAccessKeyId=a&X-Goog-Signature=b", "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED"},
        {"&&a=sig=b&", "&&a=sig=b&"},
        {"mysig=x&sig2=y&SIG=z", "mysig=x&sig2=y&SIG=z"},
        {"sig=a=b=c&x", "sig=REDACTED&x"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_mem_pool_t pool;
        h2o_mem_init_pool(&pool);
        h2o_iovec_t got = gw_span_redact_query(&pool, text(cases[i][0]));
        assert_int_equal(got.len, strlen(cases[i][1]));
        assert_memory_equal(got.base, cases[i][1], got.len);
        h2o_mem_clear_pool(&pool);
    }
}

static struct gw_span_record *record(uint32_t num_spans)
{
    struct gw_span_record *made = malloc(sizeof(*made) + 2);
    *made = (struct gw_span_record){.num_spans = num_spans, .len = 2};
    memcpy(made->json, "{}", 2);
    return made;
}

/* A collector that is not there: port 9 of the loopback address refuses. */
static void what_does_not_fit_or_cannot_be_sent_is_counted_to_the_last_span(void **state)
{
    struct gw_tracing_conf conf = {.otlp = text("http://127.0.0.1:9/v1/traces"),
                                   .service_name = text("test"),
                                   .batch = 100,
                                   .queue = 10,
                                   .interval_ms = 60000,
                                   .timeout_ms = 1000};
    struct gw_tracing *tracing = gw_tracing_create();
    struct gw_errors errors;

    gw_errors_init(&errors);
    assert_true(gw_tracing_configure(tracing, &conf, &errors));
    for (unsigned i = 0; i != 5; ++i)
        gw_tracing_take(tracing, record(2));
    assert_int_equal(gw_tracing_dropped(tracing), 0);
    gw_tracing_take(tracing, record(3));
    assert_int_equal(gw_tracing_dropped(tracing), 3);
    assert_int_equal(gw_tracing_exported(tracing), 0);
    gw_tracing_destroy(tracing); /* ends although the interval is a minute */
    gw_errors_dispose(&errors);
}

static void an_exporter_that_was_never_configured_ends_at_once(void **state)
{
    struct gw_errors errors;
    struct gw_tracing *tracing = gw_tracing_create();
    gw_errors_init(&errors);
    assert_true(gw_tracing_configure(tracing, NULL, &errors));
    assert_int_equal(gw_tracing_dropped(tracing) + gw_tracing_exported(tracing), 0);
    gw_tracing_destroy(tracing);
    gw_tracing_destroy(NULL);
    gw_errors_dispose(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_share_is_told_from_the_low_56_bits_of_the_trace_id),
        cmocka_unit_test(secrets_of_a_query_are_replaced_and_all_else_stays),
        cmocka_unit_test(what_does_not_fit_or_cannot_be_sent_is_counted_to_the_last_span),
        cmocka_unit_test(an_exporter_that_was_never_configured_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
