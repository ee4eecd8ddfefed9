#include "fixture.h"
#include "tls/name.h"

static const char *canonical(const char *name, bool allow_wildcard)
{
    static char text[TLS_NAME_MAX + 1];
    size_t len;
    if (!tls_name_canonical(h2o_iovec_init(name, strlen(name)), allow_wildcard, text, &len))
        return NULL;
    assert_int_equal(strlen(text), len);
    return text;
}

static void names_are_lowered_and_lose_one_trailing_dot(void **state)
{
    assert_string_equal(canonical("WwW.Example.COM", false), "www.example.com");
    assert_string_equal(canonical("www.example.com.", false), "www.example.com");
    assert_string_equal(canonical("localhost", false), "localhost");
    assert_string_equal(canonical("_dmarc.xn--bcher-kva.example", false), "_dmarc.xn--bcher-kva.example");
}

static void what_is_no_host_name_is_refused(void **state)
{
    static const char *const bad[] = {"",    ".",     "..",   "a..b", ".a",  "a.b..",     "a b",    "a/b",
                                      "a:1", "[::1]", "ü.de", "*.a",  "a*b", "a\001.com", "a\200b", "a,b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (canonical(bad[i], false) != NULL)
            fail_msg("\"%s\" was taken", bad[i]);
    size_t len;
    char text[TLS_NAME_MAX + 1];
    assert_false(tls_name_canonical(h2o_iovec_init(H2O_STRLIT("a.example\0.com")), false, text, &len));
}

static void lengths_end_at_63_for_a_label_and_253_for_a_name(void **state)
{
    char name[300], label[65];
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_null(canonical(label, false));
    label[63] = '\0';
    assert_non_null(canonical(label, false));
    snprintf(name, sizeof(name), "%s.%s.%s.%.61s", label, label, label, label);
    assert_int_equal(strlen(name), 253);
    assert_non_null(canonical(name, false));
    snprintf(name, sizeof(name), "%s.%s.%s.%.62s", label, label, label, label);
    assert_null(canonical(name, false));
}

static void a_wildcard_is_the_whole_first_of_several_labels(void **state)
{
    assert_string_equal(canonical("*.Example.com", true), "*.example.com");
    assert_null(canonical("*", true));
    assert_null(canonical("*.", true));
    assert_null(canonical("*a.example.com", true));
    assert_null(canonical("a.*.example.com", true));
    assert_null(canonical("a*.example.com", true));
    assert_null(canonical("*.*.example.com", true));
}

static bool matches(const char *pattern, const char *name)
{
    return tls_name_matches_wildcard(h2o_iovec_init(pattern, strlen(pattern)), h2o_iovec_init(name, strlen(name)));
}

static void a_wildcard_covers_exactly_one_label(void **state)
{
    assert_true(matches("*.example.com", "a.example.com"));
    assert_false(matches("*.example.com", "example.com"));
    assert_false(matches("*.example.com", "a.b.example.com"));
    assert_false(matches("*.example.com", ".example.com"));
    assert_false(matches("*.example.com", "a.example.org"));
    assert_false(matches("*.example.com", "aexample.com"));
    assert_false(matches("a.example.com", "a.example.com"));
    assert_false(matches("*", "localhost"));
}

static void assert_names(struct recipe recipe, size_t num_expected, const char *const *expected)
{
    h2o_iovec_t *names;
    X509 *x = test_x509(&recipe, NULL, NULL);
    assert_int_equal(tls_names_of(x, &names), num_expected);
    for (size_t i = 0; i < num_expected; i++)
        assert_string_equal(names[i].base, expected[i]);
    free(names);
    X509_free(x);
}

static void alternative_names_count_and_the_common_name_does_not(void **state)
{
    assert_names((struct recipe){.names = "DNS:A.Example.com, DNS:*.b.example, IP:10.0.0.1, IP:::1, URI:https://u/",
                                 .cn = "cn.example.com"},
                 4, (const char *const[]){"a.example.com", "*.b.example", "10.0.0.1", "::1"});
}

static void the_common_name_counts_when_no_alternative_names_a_host(void **state)
{
    assert_names((struct recipe){.cn = "CN.example.com"}, 1, (const char *const[]){"cn.example.com"});
    assert_names((struct recipe){.names = "email:a@b.c", .cn = "cn.example.com"}, 1,
                 (const char *const[]){"cn.example.com"});
    assert_names((struct recipe){.cn = "Some Company Ltd"}, 0, NULL);
    assert_names((struct recipe){.cn = ""}, 0, NULL);
}

static void entries_that_are_no_names_are_left_out(void **state)
{
    assert_names(
        (struct recipe){.names = "DNS:f*.example.com, DNS:good.example.com, DNS:sp ace", .cn = "cn.example.com"}, 1,
        (const char *const[]){"good.example.com"});
    /* an unusable alternative name is one all the same: the common name does not step in */
    assert_names((struct recipe){.names = "DNS:f*.example.com", .cn = "cn.example.com"}, 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_lowered_and_lose_one_trailing_dot),
        cmocka_unit_test(what_is_no_host_name_is_refused),
        cmocka_unit_test(lengths_end_at_63_for_a_label_and_253_for_a_name),
        cmocka_unit_test(a_wildcard_is_the_whole_first_of_several_labels),
        cmocka_unit_test(a_wildcard_covers_exactly_one_label),
        cmocka_unit_test(alternative_names_count_and_the_common_name_does_not),
        cmocka_unit_test(the_common_name_counts_when_no_alternative_names_a_host),
        cmocka_unit_test(entries_that_are_no_names_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
