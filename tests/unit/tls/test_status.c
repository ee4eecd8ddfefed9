#include "fixture.h"
#include "tls/status.h"

static struct tls_certificate sample(const char *name, time_t not_after)
{
    static h2o_iovec_t names[] = {{H2O_STRLIT("a.example.com")}, {H2O_STRLIT("*.example.com")}};
    return (struct tls_certificate){.name = {(char *)name, strlen(name)},
                                    .dns_names = names,
                                    .num_dns_names = 2,
                                    .key_bits = 256,
                                    .is_ecdsa = true,
                                    .not_after = not_after};
}

static void status_shows_names_dates_and_days_left(void **state)
{
    struct tls_certificate one = sample("one", 1767225599), two = sample("two", 1767225600 + 10 * DAY);
    struct tls_certificate *all[] = {&one, &two};
    struct gw_json json;
    two.is_ecdsa = false;
    two.key_bits = 2048;
    two.num_dns_names = 0;
    gw_json_init(&json);
    tls_status_json(&json, all, 2, 1767225600);
    const char *expected =
        "[{\"name\":\"one\",\"names\":[\"a.example.com\",\"*.example.com\"],\"key\":\"ECDSA 256\","
        "\"not_before\":\"1970-01-01T00:00:00Z\",\"not_after\":\"2025-12-31T23:59:59Z\",\"days_left\":-1},"
        "{\"name\":\"two\",\"names\":[],\"key\":\"RSA 2048\","
        "\"not_before\":\"1970-01-01T00:00:00Z\",\"not_after\":\"2026-01-11T00:00:00Z\",\"days_left\":10}]";
    assert_int_equal(json.size, strlen(expected));
    assert_memory_equal(json.base, expected, json.size);
    gw_json_dispose(&json);
}

static void metrics_show_when_certificates_end(void **state)
{
    struct tls_certificate one = sample("one", 1767225600), two = sample("two", 1700000000);
    struct tls_certificate *all[] = {&one, &two};
    struct gw_exposition out;
    gw_exposition_init(&out);
    tls_status_metrics(&out, all, 2);
    char *text = strndup(out.base, out.size);
    assert_non_null(strstr(text, "\nweir_certificates 2\n"));
    char *first = strstr(text, "weir_certificate_expiry_timestamp_seconds{certificate=\"two\"} 1700000000\n");
    char *second = strstr(text, "weir_certificate_expiry_timestamp_seconds{certificate=\"one\"} 1767225600\n");
    assert_true(first != NULL && second != NULL && first < second);
    free(text);
    gw_exposition_dispose(&out);
}

static void only_those_that_end_first_become_series(void **state)
{
    enum { N = 250 };
    static struct tls_certificate certificates[N], *all[N];
    static char names[N][16];
    struct gw_exposition out;
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "c%zu", i);
        certificates[i] = sample(names[i], 1000 + (time_t)((i * 7) % N));
        all[i] = &certificates[i];
    }
    gw_exposition_init(&out);
    tls_status_metrics(&out, all, N);
    char *text = strndup(out.base, out.size);
    size_t n = 0;
    for (char *p = text; (p = strstr(p, "{certificate=\"")) != NULL; p++, n++)
        assert_true(atof(strstr(p, "} ") + 2) < 1000 + TLS_STATUS_MAX_SERIES);
    assert_int_equal(n, TLS_STATUS_MAX_SERIES);
    free(text);
    gw_exposition_dispose(&out);
}

static void no_certificates_are_no_series(void **state)
{
    struct gw_exposition out;
    gw_exposition_init(&out);
    tls_status_metrics(&out, NULL, 0);
    char *text = strndup(out.base, out.size);
    assert_non_null(strstr(text, "weir_certificates 0\n"));
    assert_null(strstr(text, "expiry"));
    free(text);
    gw_exposition_dispose(&out);
}

/* What tls_status_log() wrote to stderr. */
static const char *logged(struct tls_certificate *const *all, size_t n, time_t before, time_t now)
{
    static char text[4096];
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    tls_status_log(all, n, before, now);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void the_log_hears_once_of_each_threshold(void **state)
{
    struct tls_certificate one = sample("one", 100 * DAY), two = sample("two", 1000 * DAY);
    struct tls_certificate *all[] = {&one, &two};
    assert_string_equal(logged(all, 2, 0, 70 * DAY - 1), "");
    assert_non_null(
        strstr(logged(all, 2, 70 * DAY - 1, 70 * DAY), "warning tls: certificate \"one\" expires in less than 30"));
    assert_string_equal(logged(all, 2, 70 * DAY, 70 * DAY + 10), "");
    assert_non_null(strstr(logged(all, 2, 86 * DAY - 1, 86 * DAY), "less than 14 days"));
    assert_non_null(strstr(logged(all, 2, 93 * DAY - 1, 93 * DAY), "less than 7 days"));
    assert_non_null(strstr(logged(all, 2, 100 * DAY, 100 * DAY + 1), "error tls: certificate \"one\" has expired"));
    assert_string_equal(logged(all, 2, 100 * DAY + 1, 200 * DAY), "");
    assert_string_equal(logged(all, 2, 93 * DAY, 90 * DAY), ""); /* the clock was set back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_shows_names_dates_and_days_left),  cmocka_unit_test(metrics_show_when_certificates_end),
        cmocka_unit_test(only_those_that_end_first_become_series), cmocka_unit_test(no_certificates_are_no_series),
        cmocka_unit_test(the_log_hears_once_of_each_threshold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
