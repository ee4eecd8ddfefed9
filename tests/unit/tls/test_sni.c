#include "fixture.h"
#include "tls/sni.h"

#define NOW ((time_t)1000000000)

/* What the choice looks at, without the cost of real keys. */
struct row {
    const char *names; /* separated by spaces */
    enum tls_key_kind kind;
    unsigned key_bits, hash_bits;
    time_t left_s; /* until it ends; 0: a year */
};

static struct tls_sni *build(const struct row *rows, size_t num_rows)
{
    struct tls_certificate *all[8];
    assert_true(num_rows <= 8);
    for (size_t i = 0; i < num_rows; i++) {
        all[i] = calloc(1, sizeof(*all[i]));
        all[i]->kind = rows[i].kind;
        all[i]->key_bits = rows[i].key_bits != 0 ? rows[i].key_bits : 256;
        all[i]->hash_bits = rows[i].hash_bits != 0 ? rows[i].hash_bits : 256;
        all[i]->not_after = NOW + (rows[i].left_s != 0 ? rows[i].left_s : 365 * DAY);
        all[i]->dns_names = calloc(8, sizeof(h2o_iovec_t));
        for (const char *p = rows[i].names; *p != '\0';) {
            size_t len = strcspn(p, " ");
            all[i]->dns_names[all[i]->num_dns_names++] = h2o_iovec_init(p, len);
            p += len + (p[len] == ' ');
        }
    }
    struct tls_sni *sni = tls_sni_create(all, num_rows, num_rows, 0);
    for (size_t i = 0; i < num_rows; i++) { /* the index keeps nothing of them */
        free(all[i]->dns_names);
        free(all[i]);
    }
    return sni;
}

static struct tls_sni_choice choose(const struct tls_sni *sni, const char *name, unsigned kinds)
{
    return tls_sni_choose(sni, h2o_iovec_init(name, name != NULL ? strlen(name) : 0), kinds, NOW);
}

static void assert_choice(const struct tls_sni *sni, const char *name, unsigned kinds, size_t certificate,
                          enum tls_sni_why why)
{
    struct tls_sni_choice choice = choose(sni, name, kinds);
    if (choice.certificate != certificate || choice.why != why)
        fail_msg("%s: certificate %zu, why %d", name != NULL ? name : "(none)", choice.certificate, choice.why);
}

enum { RSA_ONLY = TLS_KEY_RSA };

static void the_default_serves_no_name_unknown_names_and_nonsense(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"a.example.com", TLS_KEY_P256}, {"b.example.com", TLS_KEY_P256}}, 2);
    assert_choice(sni, NULL, TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, "", TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, "b.example.com\x01", TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, "*.example.com", TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, "c.example.com", TLS_KEY_ANY, 0, TLS_SNI_UNKNOWN);
    assert_choice(sni, "com", TLS_KEY_ANY, 0, TLS_SNI_UNKNOWN);
    assert_choice(sni, "b.example.com", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void names_match_in_any_case_and_with_a_trailing_dot(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"a.example.com", TLS_KEY_P256}, {"b.example.com", TLS_KEY_P256}}, 2);
    assert_choice(sni, "B.Example.COM", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    assert_choice(sni, "b.example.com.", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void an_exact_name_comes_before_a_wildcard_that_is_the_same_otherwise(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"d.example.com", TLS_KEY_P256},
                                               {"*.example.com", TLS_KEY_P256},
                                               {"a.example.com", TLS_KEY_P256}},
                                3);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 2, TLS_SNI_EXACT);
    assert_choice(sni, "b.example.com", TLS_KEY_ANY, 1, TLS_SNI_WILDCARD);
    assert_choice(sni, "d.example.com", TLS_KEY_ANY, 0, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

/* spec/alb.md 1.2: it is for clients whose name no listed certificate has */
static void a_default_that_is_not_listed_is_not_chosen_by_its_names(void **state)
{
    const char *const names[] = {"a.example.com", "b.example.com", "a.example.com"};
    struct tls_certificate owned[3], *all[3];
    h2o_iovec_t texts[3];

    for (size_t i = 0; i != 3; ++i) {
        texts[i] = h2o_iovec_init(names[i], strlen(names[i]));
        owned[i] = (struct tls_certificate){.dns_names = &texts[i],
                                            .num_dns_names = 1,
                                            .kind = i == 2 ? TLS_KEY_P256 : TLS_KEY_RSA,
                                            .not_after = NOW + 90 * DAY};
        all[i] = &owned[i];
    }
    struct tls_sni *sni = tls_sni_create(all, 3, 2, 2);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 0, TLS_SNI_EXACT);
    assert_choice(sni, "b.example.com", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    assert_choice(sni, "c.example.com", TLS_KEY_ANY, 2, TLS_SNI_UNKNOWN);
    assert_choice(sni, "", TLS_KEY_ANY, 2, TLS_SNI_NO_NAME);
    assert_choice(sni, "c.example.com", RSA_ONLY, 0, TLS_SNI_UNKNOWN); /* the same name, for this client */
    tls_sni_destroy(sni);
    sni = tls_sni_create(all, 3, 3, 2);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 2, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void a_wildcard_covers_one_label(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"x", TLS_KEY_P256}, {"*.example.com", TLS_KEY_P256}}, 2);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 1, TLS_SNI_WILDCARD);
    assert_choice(sni, "example.com", TLS_KEY_ANY, 0, TLS_SNI_UNKNOWN);
    assert_choice(sni, "a.b.example.com", TLS_KEY_ANY, 0, TLS_SNI_UNKNOWN);
    assert_choice(sni, "x", TLS_KEY_ANY, 0, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

/* spec/alb.md, test vector 27 */
static void an_ecdsa_wildcard_beats_an_exact_rsa_name_where_the_client_takes_both(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"x", TLS_KEY_RSA, 2048},
                                               {"a.example.com", TLS_KEY_RSA, 2048},
                                               {"*.example.com", TLS_KEY_P256, 256}},
                                3);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 2, TLS_SNI_WILDCARD);
    assert_choice(sni, "a.example.com", RSA_ONLY, 1, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void the_client_decides_between_ecdsa_and_rsa_of_one_name(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"a.example.com", TLS_KEY_RSA, 4096},
                                               {"a.example.com", TLS_KEY_P256, 256},
                                               {"a.example.com", TLS_KEY_P384, 384}},
                                3);
    assert_choice(sni, "a.example.com", TLS_KEY_ANY, 2, TLS_SNI_EXACT);
    assert_choice(sni, "a.example.com", TLS_KEY_P256 | TLS_KEY_RSA, 1, TLS_SNI_EXACT);
    assert_choice(sni, "a.example.com", RSA_ONLY, 0, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void each_criterion_counts_only_when_those_before_are_equal(void **state)
{
    static const struct {
        struct row worse, better;
    } cases[] = {
        /* ECDSA before RSA, even when it is expired */
        {{"a.b", TLS_KEY_RSA, 4096, 512}, {"a.b", TLS_KEY_P256, 256, 256, -DAY}},
        /* not expired before expired, even with the weaker hash */
        {{"a.b", TLS_KEY_P256, 256, 512, -DAY}, {"a.b", TLS_KEY_P256, 256, 256}},
        /* the longer hash, even with the shorter key */
        {{"a.b", TLS_KEY_RSA, 4096, 256}, {"a.b", TLS_KEY_RSA, 2048, 384}},
        {{"a.b", TLS_KEY_RSA, 2048, 160}, {"a.b", TLS_KEY_RSA, 2048, 256}},
        /* the longer key, even for a wildcard */
        {{"a.b", TLS_KEY_RSA, 2048}, {"*.b", TLS_KEY_RSA, 3072}},
        /* the later end, even for a wildcard */
        {{"a.b", TLS_KEY_RSA, 2048, 256, 30 * DAY}, {"*.b", TLS_KEY_RSA, 2048, 256, 90 * DAY}},
        /* exact before wildcard where all else is the same */
        {{"*.b", TLS_KEY_RSA, 2048, 256, 90 * DAY}, {"a.b", TLS_KEY_RSA, 2048, 256, 90 * DAY}},
        {{"a.b", TLS_KEY_RSA, 2048, 256, 30 * DAY}, {"a.b", TLS_KEY_RSA, 2048, 256, 90 * DAY}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t first = 0; first < 2; first++) { /* in either order */
            struct row rows[3] = {{"other", TLS_KEY_P256}};
            rows[1 + first] = cases[i].worse;
            rows[2 - first] = cases[i].better;
            struct tls_sni *sni = build(rows, 3);
            if (choose(sni, "a.b", TLS_KEY_ANY).certificate != 2 - first)
                fail_msg("case %zu, order %zu", i, first);
            tls_sni_destroy(sni);
        }
    }
}

static void among_equals_the_first_in_the_configuration_wins(void **state)
{
    struct tls_sni *sni =
        build((struct row[]){{"x", TLS_KEY_P256}, {"a.b c.b", TLS_KEY_P256}, {"c.b a.b", TLS_KEY_P256}}, 3);
    assert_choice(sni, "a.b", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    assert_choice(sni, "c.b", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    tls_sni_destroy(sni);
}

static void a_client_without_a_name_gets_the_twin_of_a_default_it_cannot_use(void **state)
{
    struct tls_sni *sni =
        build((struct row[]){{"a.b z.b", TLS_KEY_P256}, {"a.b", TLS_KEY_RSA, 2048}, {"z.b", TLS_KEY_RSA, 4096}}, 3);
    assert_choice(sni, NULL, TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, NULL, RSA_ONLY, 1, TLS_SNI_NO_NAME);
    assert_choice(sni, "unknown.example", RSA_ONLY, 1, TLS_SNI_UNKNOWN);
    assert_true(choose(sni, NULL, RSA_ONLY).is_usable);
    assert_false(choose(sni, NULL, TLS_KEY_P521).is_usable);
    assert_int_equal(choose(sni, NULL, TLS_KEY_P521).certificate, 0);
    tls_sni_destroy(sni);
}

static void a_client_that_can_use_nothing_gets_the_best_and_is_marked(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"x", TLS_KEY_RSA}, {"a.b", TLS_KEY_P256}}, 2);
    struct tls_sni_choice choice = choose(sni, "a.b", RSA_ONLY);
    assert_int_equal(choice.certificate, 1); /* not the default: its name would be wrong */
    assert_false(choice.is_usable);
    tls_sni_destroy(sni);
}

static void certificates_without_names_only_serve_as_default(void **state)
{
    struct tls_sni *sni = build((struct row[]){{"", TLS_KEY_P256}, {"a.b", TLS_KEY_P256}, {"", TLS_KEY_RSA}}, 3);
    assert_choice(sni, NULL, TLS_KEY_ANY, 0, TLS_SNI_NO_NAME);
    assert_choice(sni, "a.b", TLS_KEY_ANY, 1, TLS_SNI_EXACT);
    assert_choice(sni, NULL, RSA_ONLY, 0, TLS_SNI_NO_NAME);
    tls_sni_destroy(sni);
}

static void every_one_of_a_thousand_certificates_is_found(void **state)
{
    enum { N = 1000 };
    static struct tls_certificate certificates[N];
    static struct tls_certificate *all[N];
    static h2o_iovec_t names[N][2];
    static char texts[N][2][32];
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < 2; k++) {
            snprintf(texts[i][k], sizeof(texts[i][k]), "%ssite%zu.example", k == 0 ? "" : "*.", i);
            names[i][k] = h2o_iovec_init(texts[i][k], strlen(texts[i][k]));
        }
        certificates[i] =
            (struct tls_certificate){.dns_names = names[i], .num_dns_names = 2, .kind = TLS_KEY_P256, .not_after = NOW};
        all[i] = &certificates[i];
    }
    struct tls_sni *sni = tls_sni_create(all, N, N, 0);
    for (size_t i = 0; i < N; i++) {
        char name[40];
        snprintf(name, sizeof(name), "site%zu.example", i);
        assert_choice(sni, name, TLS_KEY_ANY, i, TLS_SNI_EXACT);
        snprintf(name, sizeof(name), "www.site%zu.example", i);
        assert_choice(sni, name, TLS_KEY_ANY, i, TLS_SNI_WILDCARD);
    }
    assert_choice(sni, "site1000.example", TLS_KEY_ANY, 0, TLS_SNI_UNKNOWN);
    tls_sni_destroy(sni);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_serves_no_name_unknown_names_and_nonsense),
        cmocka_unit_test(names_match_in_any_case_and_with_a_trailing_dot),
        cmocka_unit_test(an_exact_name_comes_before_a_wildcard_that_is_the_same_otherwise),
        cmocka_unit_test(a_default_that_is_not_listed_is_not_chosen_by_its_names),
        cmocka_unit_test(a_wildcard_covers_one_label),
        cmocka_unit_test(an_ecdsa_wildcard_beats_an_exact_rsa_name_where_the_client_takes_both),
        cmocka_unit_test(the_client_decides_between_ecdsa_and_rsa_of_one_name),
        cmocka_unit_test(each_criterion_counts_only_when_those_before_are_equal),
        cmocka_unit_test(among_equals_the_first_in_the_configuration_wins),
        cmocka_unit_test(a_client_without_a_name_gets_the_twin_of_a_default_it_cannot_use),
        cmocka_unit_test(a_client_that_can_use_nothing_gets_the_best_and_is_marked),
        cmocka_unit_test(certificates_without_names_only_serve_as_default),
        cmocka_unit_test(every_one_of_a_thousand_certificates_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
