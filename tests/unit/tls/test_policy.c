#include "fixture.h"

static struct tls_certificate *certificates[2]; /* ECDSA and RSA for one name */

static int load_certificates(void **state)
{
    make_folder(state);
    certificates[0] = test_certificate("ecdsa", (struct recipe){.names = "DNS:a.example.com"});
    certificates[1] = test_certificate("rsa", (struct recipe){.names = "DNS:a.example.com", .key = "RSA2048"});
    return 0;
}

static int destroy_certificates(void **state)
{
    tls_certificate_destroy(certificates[0]);
    tls_certificate_destroy(certificates[1]);
    return remove_folder(state);
}

/* What each policy promises, written out from its source and not from the code. */
static const struct {
    const char *name;
    int min, max;        /* 10 * major + minor */
    const char *letters; /* of spec/alb.md 1.3; NULL: Mozilla's */
} promises[] = {
    {"modern", 13, 13, NULL},
    {"intermediate", 12, 13, NULL},
    {"old", 10, 13, NULL},
    {"ELBSecurityPolicy-TLS13-1-3-2021-06", 13, 13, ""},
    {"ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", 13, 13, ""},
    {"ELBSecurityPolicy-TLS13-1-2-Res-2021-06", 12, 13, "A"},
    {"ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", 12, 13, "A"},
    {"ELBSecurityPolicy-TLS13-1-2-2021-06", 12, 13, "AB"},
    {"ELBSecurityPolicy-TLS13-1-2-PQ-2025-09", 12, 13, "AB"},
    {"ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06", 12, 13, "ABD"},
    {"ELBSecurityPolicy-TLS13-1-2-Ext1-PQ-2025-09", 12, 13, "ABD"},
    {"ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", 12, 13, "ABCDE"},
    {"ELBSecurityPolicy-TLS13-1-2-Ext2-PQ-2025-09", 12, 13, "ABCDE"},
    {"ELBSecurityPolicy-TLS13-1-1-2021-06", 11, 13, "ABCDE"},
    {"ELBSecurityPolicy-TLS13-1-0-2021-06", 10, 13, "ABCDE"},
    {"ELBSecurityPolicy-TLS13-1-0-PQ-2025-09", 10, 13, "ABCDE"},
    {"ELBSecurityPolicy-2016-08", 10, 12, "ABCDE"},
    {"ELBSecurityPolicy-2015-05", 10, 12, "ABCDE"},
    {"ELBSecurityPolicy-TLS-1-1-2017-01", 11, 12, "ABCDE"},
    {"ELBSecurityPolicy-TLS-1-2-2017-01", 12, 12, "ABD"},
    {"ELBSecurityPolicy-TLS-1-2-Ext-2018-06", 12, 12, "ABCDE"},
    {"ELBSecurityPolicy-FS-2018-06", 10, 12, "ABC"},
    {"ELBSecurityPolicy-FS-1-1-2019-08", 11, 12, "ABC"},
    {"ELBSecurityPolicy-FS-1-2-2019-08", 12, 12, "ABC"},
    {"ELBSecurityPolicy-FS-1-2-Res-2019-08", 12, 12, "AB"},
    {"ELBSecurityPolicy-FS-1-2-Res-2020-10", 12, 12, "A"},
};
enum { NUM_PROMISES = sizeof(promises) / sizeof(promises[0]) };

static void every_policy_is_known_by_name_and_by_index(void **state)
{
    size_t n = 0;
    for (; tls_policy_names[n] != NULL; n++) {
        assert_true(n < NUM_PROMISES);
        assert_string_equal(tls_policy_names[n], promises[n].name);
        assert_string_equal(tls_policy_at((int)n)->name, promises[n].name);
        assert_ptr_equal(tls_policy_find(promises[n].name), tls_policy_at((int)n));
    }
    assert_int_equal(n, NUM_PROMISES);
    assert_null(tls_policy_find("Modern"));
    assert_null(tls_policy_find("ELBSecurityPolicy-"));
    assert_string_equal(tls_policy_names[1], "intermediate"); /* the default of the setting is an index */
}

static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};

static void each_policy_speaks_its_versions_and_no_other(void **state)
{
    for (size_t i = 0; i < NUM_PROMISES; i++) {
        struct tls_context *context = test_context(promises[i].name, "l", NULL, certificates, 2);
        for (int v = 0; v < 4; v++) {
            struct pair pair;
            SSL_CTX *client = client_context(versions[v], versions[v]);
            bool is_promised = promises[i].min <= 10 + v && 10 + v <= promises[i].max;
            pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
            if (pair_handshake(&pair) != is_promised)
                fail_msg("%s and TLS 1.%d", promises[i].name, v);
            if (is_promised) {
                assert_int_equal(SSL_version(pair.client), versions[v]);
                pair_talk(&pair);
            } else {
                assert_int_equal(pair.client_alert, SSL_AD_PROTOCOL_VERSION);
            }
            pair_dispose(&pair);
            SSL_CTX_free(client);
        }
        tls_context_destroy(context);
    }
}

/* The table of spec/alb.md 1.3 in its order. */
static const struct {
    char letter;
    const char *cipher;
} rows[] = {
    {'A', "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {'A', "ECDHE-RSA-AES128-GCM-SHA256"},
    {'B', "ECDHE-ECDSA-AES128-SHA256"},
    {'B', "ECDHE-RSA-AES128-SHA256"},
    {'C', "ECDHE-ECDSA-AES128-SHA"},
    {'C', "ECDHE-RSA-AES128-SHA"},
    {'A', "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {'A', "ECDHE-RSA-AES256-GCM-SHA384"},
    {'B', "ECDHE-ECDSA-AES256-SHA384"},
    {'B', "ECDHE-RSA-AES256-SHA384"},
    {'C', "ECDHE-ECDSA-AES256-SHA"},
    {'C', "ECDHE-RSA-AES256-SHA"},
    {'D', "AES128-GCM-SHA256"},
    {'D', "AES128-SHA256"},
    {'E', "AES128-SHA"},
    {'D', "AES256-GCM-SHA384"},
    {'D', "AES256-SHA256"},
    {'E', "AES256-SHA"},
};

/* The ciphers for TLS 1.2 and below that a context would use, joined by spaces. */
static const char *ciphers_of(const struct tls_policy *policy, bool want_tls13)
{
    static char text[2048];
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_true(tls_policy_apply(policy, ctx));
    text[0] = '\0';
    STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
        const char *name = SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i));
        if ((strncmp(name, "TLS_", 4) == 0) == want_tls13)
            strcat(strcat(text, name), " ");
    }
    SSL_CTX_free(ctx);
    return text;
}

static void elb_policies_have_the_ciphers_of_their_letters_in_order(void **state)
{
    for (size_t i = 0; i < NUM_PROMISES; i++) {
        char expected[2048] = "";
        if (promises[i].letters == NULL || promises[i].max < 12 || promises[i].min == 13)
            continue;
        for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++)
            if (strchr(promises[i].letters, rows[k].letter) != NULL)
                strcat(strcat(expected, rows[k].cipher), " ");
        assert_string_equal(ciphers_of(tls_policy_find(promises[i].name), false), expected);
        assert_true(tls_policy_find(promises[i].name)->server_preference);
    }
}

static void the_tls13_ciphers_are_the_same_everywhere(void **state)
{
    for (size_t i = 0; i < NUM_PROMISES; i++)
        if (promises[i].max == 13)
            assert_string_equal(ciphers_of(tls_policy_find(promises[i].name), true),
                                "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 ");
}

static void intermediate_has_only_forward_secret_aead_ciphers(void **state)
{
    assert_string_equal(ciphers_of(tls_policy_find("intermediate"), false),
                        "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 "
                        "ECDHE-RSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305 "
                        "DHE-RSA-AES128-GCM-SHA256 DHE-RSA-AES256-GCM-SHA384 DHE-RSA-CHACHA20-POLY1305 ");
}

/* The cipher agreed upon with a client that offers this list, NULL when none. */
static const char *agreed(const char *policy, int version, const char *offer)
{
    static char name[64];
    struct pair pair;
    struct tls_context *context = test_context(policy, "l", NULL, certificates, 2);
    SSL_CTX *client = client_context(version, version);
    assert_int_equal(version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(client, offer)
                                               : SSL_CTX_set_cipher_list(client, offer),
                     1);
    pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
    bool is_good = pair_handshake(&pair);
    if (is_good)
        snprintf(name, sizeof(name), "%s", SSL_get_cipher_name(pair.client));
    else
        assert_int_equal(pair.client_alert, SSL_AD_HANDSHAKE_FAILURE);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    tls_context_destroy(context);
    return is_good ? name : NULL;
}

static void every_cipher_of_every_policy_works(void **state)
{
    static const char *const some[] = {"intermediate", "old", "ELBSecurityPolicy-2016-08"};
    for (size_t i = 0; i < 3; i++) {
        char all[2048];
        strcpy(all, ciphers_of(tls_policy_find(some[i]), false));
        char *rest = all;
        for (char *cipher; (cipher = strsep(&rest, " ")) != NULL && *cipher != '\0';) {
            const char *got = agreed(some[i], TLS1_2_VERSION, cipher);
            if (got == NULL || strcmp(got, cipher) != 0)
                fail_msg("%s: %s", some[i], cipher);
        }
    }
}

static void ciphers_outside_the_policy_are_refused(void **state)
{
    assert_null(agreed("intermediate", TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA256"));
    assert_null(agreed("intermediate", TLS1_2_VERSION, "AES128-SHA"));
    assert_null(agreed("old", TLS1_2_VERSION, "ECDHE-RSA-CAMELLIA128-SHA256"));
    assert_null(agreed("ELBSecurityPolicy-FS-1-2-Res-2020-10", TLS1_2_VERSION, "ECDHE-RSA-AES128-SHA256"));
    assert_null(agreed("ELBSecurityPolicy-2016-08", TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256"));
    /* anonymous key exchange, which the low security level of these policies would let in */
    assert_null(agreed("old", TLS1_2_VERSION, "ADH-AES128-SHA"));
    assert_null(agreed("ELBSecurityPolicy-2016-08", TLS1_2_VERSION, "AECDH-AES128-SHA:NULL-SHA"));
}

static void preference_is_the_clients_or_the_servers_as_the_policy_says(void **state)
{
    const char *offer = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
    assert_string_equal(agreed("intermediate", TLS1_2_VERSION, offer), "ECDHE-RSA-AES256-GCM-SHA384");
    assert_string_equal(agreed("old", TLS1_2_VERSION, offer), "ECDHE-RSA-AES128-GCM-SHA256");
    assert_string_equal(agreed("ELBSecurityPolicy-2016-08", TLS1_2_VERSION, offer), "ECDHE-RSA-AES128-GCM-SHA256");
    offer = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
    assert_string_equal(agreed("modern", TLS1_3_VERSION, offer), "TLS_AES_256_GCM_SHA384");
    assert_string_equal(agreed("ELBSecurityPolicy-TLS13-1-3-2021-06", TLS1_3_VERSION, offer), "TLS_AES_128_GCM_SHA256");
}

static void a_client_that_puts_chacha_first_gets_it(void **state)
{
    const char *offer = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256";
    assert_string_equal(agreed("intermediate", TLS1_2_VERSION, offer), "ECDHE-ECDSA-CHACHA20-POLY1305");
    assert_string_equal(agreed("old", TLS1_2_VERSION, offer), "ECDHE-ECDSA-CHACHA20-POLY1305");
    assert_string_equal(agreed("modern", TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"),
                        "TLS_CHACHA20_POLY1305_SHA256");
    assert_string_equal(agreed("old", TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"),
                        "ECDHE-ECDSA-AES128-GCM-SHA256");
}

static bool takes_group(const char *group)
{
    struct pair pair;
    struct tls_context *context = test_context("intermediate", "l", NULL, certificates, 2);
    SSL_CTX *client = client_context(TLS1_3_VERSION, TLS1_3_VERSION);
    assert_int_equal(SSL_CTX_set1_groups_list(client, group), 1);
    pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
    bool is_good = pair_handshake(&pair);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    tls_context_destroy(context);
    return is_good;
}

static void key_exchange_is_on_x25519_p256_and_p384(void **state)
{
    assert_true(takes_group("X25519"));
    assert_true(takes_group("P-256"));
    assert_true(takes_group("P-384"));
    assert_false(takes_group("P-521"));
    assert_false(takes_group("X448"));
    assert_false(takes_group("ffdhe2048"));
    assert_true(takes_group("X448:P-384")); /* by a second ClientHello */
}

static void finite_field_groups_are_as_strong_as_the_key(void **state)
{
    struct pair pair;
    struct tls_context *context = test_context("intermediate", "l", NULL, certificates, 2);
    SSL_CTX *client = client_context(TLS1_2_VERSION, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(client, "DHE-RSA-AES128-GCM-SHA256");
    pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
    assert_true(pair_handshake(&pair));
    EVP_PKEY *peer = NULL;
    assert_int_equal(SSL_get_server_tmp_key(pair.client, &peer), 1);
    assert_true(EVP_PKEY_get_bits(peer) >= 2048);
    EVP_PKEY_free(peer);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    tls_context_destroy(context);
}

static void compression_renegotiation_and_early_data_are_off_everywhere(void **state)
{
    for (size_t i = 0; i < NUM_PROMISES; i++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        assert_true(tls_policy_apply(tls_policy_at((int)i), ctx));
        uint64_t options = SSL_CTX_get_options(ctx);
        assert_true(options & SSL_OP_NO_COMPRESSION);
        assert_true(options & SSL_OP_NO_RENEGOTIATION);
        assert_false(options & SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
        assert_int_equal(SSL_CTX_get_max_early_data(ctx), 0);
        SSL_CTX_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_is_known_by_name_and_by_index),
        cmocka_unit_test(each_policy_speaks_its_versions_and_no_other),
        cmocka_unit_test(elb_policies_have_the_ciphers_of_their_letters_in_order),
        cmocka_unit_test(the_tls13_ciphers_are_the_same_everywhere),
        cmocka_unit_test(intermediate_has_only_forward_secret_aead_ciphers),
        cmocka_unit_test(every_cipher_of_every_policy_works),
        cmocka_unit_test(ciphers_outside_the_policy_are_refused),
        cmocka_unit_test(preference_is_the_clients_or_the_servers_as_the_policy_says),
        cmocka_unit_test(a_client_that_puts_chacha_first_gets_it),
        cmocka_unit_test(key_exchange_is_on_x25519_p256_and_p384),
        cmocka_unit_test(finite_field_groups_are_as_strong_as_the_key),
        cmocka_unit_test(compression_renegotiation_and_early_data_are_off_everywhere),
    };
    return cmocka_run_group_tests(tests, load_certificates, destroy_certificates);
}
