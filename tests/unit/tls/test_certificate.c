#include <limits.h>
#include "fixture.h"

struct loaded {
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    struct tls_certificate_conf conf;
    struct tls_certificate *certificate; /* NULL when there was an error */
};

/* The certificate that a file in the test folder describes: `text` stands in its line 1. */
static void load_yaml(struct loaded *to, const char *text)
{
    memset(to, 0, sizeof(*to));
    h2o_mem_init_pool(&to->pool);
    gw_errors_init(&to->errors);
    struct gw_loader loader = {.pool = &to->pool, .errors = &to->errors};
    struct gw_node *node = gw_yaml_load_text(&to->pool, test_path("weir.yaml"), h2o_iovec_init(text, strlen(text)),
                                             true, NULL, &to->errors);
    assert_non_null(node);
    if (gw_settings_load(&loader, &tls_certificate_section, node, &to->conf))
        to->certificate = tls_certificate_load(h2o_iovec_init(H2O_STRLIT("site")), &to->conf, time(NULL), &to->errors);
    if (to->certificate == NULL)
        assert_true(to->errors.num_errors != 0);
    else
        assert_int_equal(to->errors.num_errors, 0);
}

static void unload(struct loaded *it)
{
    tls_certificate_destroy(it->certificate);
    gw_errors_dispose(&it->errors);
    h2o_mem_clear_pool(&it->pool);
}

static void assert_refused(const char *text, unsigned column, const char *message)
{
    struct loaded it;
    load_yaml(&it, text);
    assert_null(it.certificate);
    assert_finding(&it.errors, GW_ERROR, message);
    assert_int_equal(it.errors.num_errors, 1);
    assert_int_equal(it.errors.entries[0].line, 1);
    assert_int_equal(it.errors.entries[0].column, column);
    unload(&it);
}

/* message NULL: no warning at all. */
static void assert_warned(const char *text, const char *message)
{
    struct loaded it;
    load_yaml(&it, text);
    assert_non_null(it.certificate);
    if (message != NULL)
        assert_finding(&it.errors, GW_WARNING, message);
    if (it.errors.size != (message != NULL ? 1 : 0))
        fail_msg("%zu warnings, the last: %s", it.errors.size, it.errors.entries[it.errors.size - 1].text);
    unload(&it);
}

/* --- settings ----------------------------------------------------------------------------------------------------- */
static void a_certificate_is_either_read_or_made(void **state)
{
    assert_refused("{}", 1, "needs cert and key, or self_signed");
    assert_refused("{cert: a.pem}", 8, "cert needs key beside it");
    assert_refused("{key: a.key}", 7, "key needs cert beside it");
    assert_refused("{cert: a.pem, key: a.key, self_signed: [localhost]}", 40, "self_signed excludes cert");
    assert_refused("{self_signed: [localhost, \"no host\"]}", 27, "\"no host\" is not a host name or an IP address");
}

/* --- files -------------------------------------------------------------------------------------------------------- */
#define PAIR "{cert: t.pem, key: t.key}"
enum { AT_CERT = 8, AT_KEY = 20 };

static void write_pair(struct recipe recipe)
{
    X509 *x = test_x509(&recipe, NULL, NULL);
    write_chain("t.pem", x, NULL);
    write_key("t.key", recipe.key != NULL ? recipe.key : "P-256", 0600);
    X509_free(x);
}

static void paths_start_from_the_file_that_names_them(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com"}); /* the working directory is elsewhere */
    assert_warned(PAIR, NULL);
    char text[512];
    snprintf(text, sizeof(text), "{cert: %s, key: %s}", test_path("t.pem"), test_path("t.key"));
    assert_warned(text, NULL);
}

static void missing_and_strange_files_are_named_where_they_are_set(void **state)
{
    char message[256];
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    snprintf(message, sizeof(message), "cannot read \"%s\": No such file or directory", test_path("gone.pem"));
    assert_refused("{cert: gone.pem, key: t.key}", 8, message);
    assert_refused("{cert: t.pem, key: gone.key}", AT_KEY, "No such file or directory");
    assert_refused("{cert: ., key: t.key}", 8, "not a regular file");
    assert_int_equal(mkfifo(test_path("pipe"), 0600), 0);
    assert_refused("{cert: pipe, key: t.key}", 8, "not a regular file");
    write_text("big.pem", "");
    assert_int_equal(truncate(test_path("big.pem"), (1 << 20) + 1), 0);
    assert_refused("{cert: big.pem, key: t.key}", 8, "larger than 1 MiB");
}

static void both_files_are_reported_at_once(void **state)
{
    struct loaded it;
    load_yaml(&it, "{cert: gone.pem, key: gone.key}");
    assert_int_equal(it.errors.num_errors, 2);
    unload(&it);
}

static void files_without_pem_are_refused(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    write_text("empty.pem", "");
    assert_refused("{cert: empty.pem, key: t.key}", 8, "no certificate in");
    assert_refused("{cert: t.pem, key: empty.pem}", AT_KEY, "no private key in");
    assert_refused("{cert: t.key, key: t.key}", 8, "no certificate in");
    assert_refused("{cert: t.pem, key: t.pem}", AT_KEY, "no private key in");
}

static void damaged_pem_is_refused(void **state)
{
    char bytes[8192];
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    FILE *file = fopen(test_path("t.pem"), "r");
    size_t len = fread(bytes, 1, sizeof(bytes) - 1, file);
    fclose(file);
    bytes[len] = '\0';

    bytes[len / 2] = '\0'; /* cut */
    write_text("cut.pem", bytes);
    assert_refused("{cert: cut.pem, key: t.key}", 8, "is damaged");
    write_text("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n");
    assert_refused("{cert: junk.pem, key: t.key}", 8, "certificate 1 in");
    write_text("junk.key", "-----BEGIN PRIVATE KEY-----\nAAAAAAAA\n-----END PRIVATE KEY-----\n");
    assert_refused("{cert: t.pem, key: junk.key}", AT_KEY, "no private key in");
}

static void text_around_pem_blocks_and_keys_between_them_are_fine(void **state)
{
    X509 *x = test_x509(&(struct recipe){.names = "DNS:a.example.com"}, NULL, NULL);
    EVP_PKEY *key = test_key("P-256");
    FILE *file = create_file("both.pem", 0600);
    fputs("Subject: somebody\r\n", file);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fputs("text\n", file);
    PEM_write_X509(file, x);
    fputs("\n\nlast words\n", file);
    fclose(file);
    assert_warned("{cert: both.pem, key: both.pem}", NULL);
    EVP_PKEY_free(key);
    X509_free(x);
}

/* --- keys --------------------------------------------------------------------------------------------------------- */
static void a_key_of_another_certificate_is_refused_at_the_key(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    write_key("t.key", "RSA2048", 0600);
    assert_refused(PAIR, AT_KEY, "(RSA with 2048 bits) does not fit the certificate");
    write_key("t.key", "P-384", 0600);
    assert_refused(PAIR, AT_KEY, "(ECDSA on prime256v1)");
    EVP_PKEY *other = EVP_EC_gen("P-256"); /* same kind, other key */
    FILE *file = create_file("t.key", 0600);
    PEM_write_PrivateKey(file, other, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    EVP_PKEY_free(other);
    assert_refused(PAIR, AT_KEY, "does not fit the certificate");
}

static void write_old_form(FILE *file, EVP_PKEY *key, const EVP_CIPHER *cipher)
{
    BIO *bio = BIO_new_fp(file, BIO_NOCLOSE);
    assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, key, cipher, (unsigned char *)"secret",
                                                          cipher != NULL ? 6 : 0, NULL, NULL),
                     1);
    BIO_free(bio);
}

static void an_encrypted_key_is_refused_without_asking(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    EVP_PKEY *key = test_key("P-256");
    FILE *file = create_file("t.key", 0600);
    PEM_write_PKCS8PrivateKey(file, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL);
    fclose(file);
    assert_refused(PAIR, AT_KEY, "is encrypted");
    file = create_file("t.key", 0600); /* the old form with DEK-Info */
    write_old_form(file, key, EVP_aes_128_cbc());
    fclose(file);
    assert_refused(PAIR, AT_KEY, "is encrypted");
    EVP_PKEY_free(key);
}

static void old_forms_of_keys_are_read(void **state)
{
    static const char *const kinds[] = {"RSA2048", "P-384"};
    for (size_t i = 0; i < 2; i++) {
        write_pair((struct recipe){.names = "DNS:a.example.com", .key = kinds[i]});
        EVP_PKEY *key = test_key(kinds[i]);
        FILE *file = create_file("t.key", 0600);
        write_old_form(file, key, NULL);
        fclose(file);
        EVP_PKEY_free(key);
        assert_warned(PAIR, NULL);
    }
}

static void keys_are_told_apart_by_kind_and_strength(void **state)
{
    static const struct {
        const char *key, *digest;
        enum tls_key_kind kind;
        unsigned key_bits, hash_bits;
    } cases[] = {{"RSA2048", "SHA256", TLS_KEY_RSA, 2048, 256}, {"RSA3072", "SHA512", TLS_KEY_RSA, 3072, 512},
                 {"P-256", "SHA256", TLS_KEY_P256, 256, 256},   {"P-384", "SHA384", TLS_KEY_P384, 384, 384},
                 {"P-521", "SHA512", TLS_KEY_P521, 521, 512},   {"P-256", "SHA1", TLS_KEY_P256, 256, 160},
                 {"RSA2048", "MD5", TLS_KEY_RSA, 2048, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_certificate *it =
            test_certificate("x", (struct recipe){.names = "DNS:a.b", .key = cases[i].key, .digest = cases[i].digest});
        assert_int_equal(it->kind, cases[i].kind);
        assert_int_equal(it->is_ecdsa, cases[i].kind != TLS_KEY_RSA);
        assert_int_equal(it->key_bits, cases[i].key_bits);
        assert_int_equal(it->hash_bits, cases[i].hash_bits);
        tls_certificate_destroy(it);
    }
}

static void keys_that_no_client_takes_are_refused(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com", .key = "RSA1024"});
    assert_refused(PAIR, AT_KEY, "is RSA with 1024 bits: TLS clients take RSA from 2048 bits");
    write_pair((struct recipe){.names = "DNS:a.example.com", .key = "secp256k1"});
    assert_refused(PAIR, AT_KEY, "is ECDSA on secp256k1");
    X509 *x = X509_new(); /* Ed25519 signs without a digest */
    EVP_PKEY *key = test_key("ED25519");
    X509_set_pubkey(x, key);
    ASN1_TIME_set(X509_getm_notBefore(x), time(NULL) - DAY);
    ASN1_TIME_set(X509_getm_notAfter(x), time(NULL) + 100 * DAY);
    assert_true(X509_sign(x, key, NULL) > 0);
    write_chain("t.pem", x, NULL);
    write_key("t.key", "ED25519", 0600);
    assert_refused(PAIR, AT_KEY, "is ED25519");
    EVP_PKEY_free(key);
    X509_free(x);
}

static void a_key_that_everybody_may_read_is_warned_about(void **state)
{
    write_pair((struct recipe){.names = "DNS:a.example.com"});
    assert_int_equal(chmod(test_path("t.key"), 0644), 0);
    assert_warned(PAIR, "(mode 0644): make it 0600");
    assert_int_equal(chmod(test_path("t.key"), 0640), 0); /* a group is a way to share with weir's user */
    assert_warned(PAIR, NULL);
}

/* --- chains ------------------------------------------------------------------------------------------------------- */
struct authority {
    X509 *root, *middle, *leaf;
};

static struct authority make_authority(time_t middle_until)
{
    struct authority it;
    EVP_PKEY *root_key = test_key("P-384"), *middle_key = test_key("P-521");
    it.root = test_x509(&(struct recipe){.cn = "Root", .key = "P-384", .is_ca = true}, NULL, NULL);
    it.middle = test_x509(&(struct recipe){.cn = "Middle", .key = "P-521", .is_ca = true, .until = middle_until},
                          it.root, root_key);
    it.leaf = test_x509(&(struct recipe){.cn = "Leaf", .names = "DNS:a.example.com"}, it.middle, middle_key);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(middle_key);
    write_key("t.key", "P-256", 0600);
    return it;
}

static void free_authority(struct authority *it)
{
    X509_free(it->root);
    X509_free(it->middle);
    X509_free(it->leaf);
}

static void a_chain_in_order_is_kept_without_its_leaf(void **state)
{
    struct authority ca = make_authority(0);
    struct loaded it;
    write_chain("t.pem", ca.leaf, ca.middle, ca.root, NULL);
    load_yaml(&it, PAIR);
    assert_non_null(it.certificate);
    assert_int_equal(it.errors.size, 0);
    assert_int_equal(X509_cmp(it.certificate->leaf, ca.leaf), 0);
    assert_int_equal(sk_X509_num(it.certificate->chain), 2);
    assert_int_equal(X509_cmp(sk_X509_value(it.certificate->chain, 0), ca.middle), 0);
    assert_int_equal(X509_cmp(sk_X509_value(it.certificate->chain, 1), ca.root), 0);
    unload(&it);
    free_authority(&ca);
}

static void a_chain_out_of_order_is_refused_and_says_where(void **state)
{
    struct authority ca = make_authority(0);
    write_chain("t.pem", ca.leaf, ca.root, ca.middle, NULL);
    assert_refused(PAIR, AT_CERT, "(CN=Root) did not issue certificate 1 (CN=Leaf)");
    write_chain("t.pem", ca.middle, ca.leaf, NULL);
    assert_refused(PAIR, AT_CERT, "the key fits certificate 2");
    write_chain("t.pem", ca.leaf, ca.middle, ca.leaf, NULL);
    assert_refused(PAIR, AT_CERT, "certificate 3 in");
    free_authority(&ca);
}

static void a_chain_that_repeats_a_certificate_is_refused_and_says_which(void **state)
{
    struct authority ca = make_authority(0);
    write_chain("t.pem", ca.leaf, ca.leaf, ca.middle, NULL);
    assert_refused(PAIR, AT_CERT, "repeats certificate 1 (CN=Leaf)");
    write_chain("t.pem", ca.leaf, ca.middle, ca.middle, NULL);
    assert_refused(PAIR, AT_CERT, "repeats certificate 2 (CN=Middle)");
    free_authority(&ca);
}

static void an_issuer_of_the_right_name_and_the_wrong_key_is_refused(void **state)
{
    struct authority ca = make_authority(0);
    X509 *impostor = test_x509(&(struct recipe){.cn = "Middle", .key = "P-521", .is_ca = true}, NULL, NULL);
    EVP_PKEY *other = EVP_EC_gen("P-521");
    X509_set_pubkey(impostor, other);
    assert_true(X509_sign(impostor, other, EVP_sha256()) > 0);
    EVP_PKEY_free(other);
    write_chain("t.pem", ca.leaf, impostor, NULL);
    assert_refused(PAIR, AT_CERT, "did not sign certificate 1");
    X509_free(impostor);
    free_authority(&ca);
}

static void an_intermediate_that_ends_soon_is_warned_about(void **state)
{
    struct authority ca = make_authority(3 * DAY + 60);
    write_chain("t.pem", ca.leaf, ca.middle, NULL);
    assert_warned(PAIR, "certificate 2 in");
    assert_warned(PAIR, "expires in 3 days");
    free_authority(&ca);
}

/* --- time --------------------------------------------------------------------------------------------------------- */
static void dates_are_warned_about_with_days(void **state)
{
    static const struct {
        time_t from, until;
        const char *message;
    } cases[] = {
        {-9 * DAY, -3 * DAY - 60, "expired 3 days ago"},
        {-9 * DAY, -DAY - 60, "expired 1 day ago"},
        {-9 * DAY, -60, "expired 0 days ago"},
        {-9 * DAY, 60, "expires in 0 days"},
        {-9 * DAY, DAY + 60, "expires in 1 day ("},
        {-9 * DAY, 7 * DAY - 60, "expires in 6 days"},
        {-9 * DAY, 13 * DAY + 60, "expires in 13 days"},
        {-9 * DAY, 30 * DAY - 60, "expires in 29 days"},
        {-9 * DAY, 30 * DAY + 60, NULL},
        {DAY, 100 * DAY, "is not valid before 20"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_pair((struct recipe){.names = "DNS:a.example.com", .from = cases[i].from, .until = cases[i].until});
        assert_warned(PAIR, cases[i].message);
    }
}

static void days_left_and_alarm_follow_the_clock(void **state)
{
    struct tls_certificate it = {.not_after = 100 * DAY};
    assert_int_equal(tls_certificate_days_left(&it, 0), 100);
    assert_int_equal(tls_certificate_days_left(&it, 99 * DAY), 1);
    assert_int_equal(tls_certificate_days_left(&it, 99 * DAY + 1), 0);
    assert_int_equal(tls_certificate_days_left(&it, 100 * DAY), 0);
    assert_int_equal(tls_certificate_days_left(&it, 100 * DAY + 1), -1);
    assert_int_equal(tls_certificate_days_left(&it, 101 * DAY), -1);
    assert_int_equal(tls_certificate_days_left(&it, 101 * DAY + 1), -2);
    assert_int_equal(tls_certificate_alarm(&it, 70 * DAY - 1), INT_MAX);
    assert_int_equal(tls_certificate_alarm(&it, 70 * DAY), 30);
    assert_int_equal(tls_certificate_alarm(&it, 86 * DAY - 1), 30);
    assert_int_equal(tls_certificate_alarm(&it, 86 * DAY), 14);
    assert_int_equal(tls_certificate_alarm(&it, 93 * DAY), 7);
    assert_int_equal(tls_certificate_alarm(&it, 100 * DAY), 7);
    assert_int_equal(tls_certificate_alarm(&it, 100 * DAY + 1), 0);
}

/* --- content ------------------------------------------------------------------------------------------------------ */
static void a_certificate_for_nobody_or_for_clients_is_warned_about(void **state)
{
    write_pair((struct recipe){.cn = "Some Company"});
    assert_warned(PAIR, "names no host");
    write_pair((struct recipe){.names = "DNS:a.example.com", .usage = "clientAuth"});
    assert_warned(PAIR, "is not meant for TLS servers");
    write_pair((struct recipe){.names = "DNS:a.example.com", .usage = "serverAuth,clientAuth"});
    assert_warned(PAIR, NULL);
}

static bool covers(const struct tls_certificate *it, const char *name, bool *is_exact)
{
    return tls_certificate_covers(it, h2o_iovec_init(name, strlen(name)), is_exact);
}

static void coverage_tells_exact_names_from_wildcards(void **state)
{
    bool is_exact;
    struct tls_certificate *it =
        test_certificate("x", (struct recipe){.names = "DNS:*.example.com, DNS:www.example.com, DNS:example.org",
                                              .cn = "cn.example.net"});
    assert_true(covers(it, "www.example.com", &is_exact));
    assert_true(is_exact);
    assert_true(covers(it, "other.example.com", &is_exact));
    assert_false(is_exact);
    assert_true(covers(it, "example.org", &is_exact));
    assert_true(is_exact);
    assert_false(covers(it, "example.com", &is_exact));
    assert_false(covers(it, "a.b.example.com", &is_exact));
    assert_false(covers(it, "cn.example.net", &is_exact));
    tls_certificate_destroy(it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_is_either_read_or_made),
        cmocka_unit_test(paths_start_from_the_file_that_names_them),
        cmocka_unit_test(missing_and_strange_files_are_named_where_they_are_set),
        cmocka_unit_test(both_files_are_reported_at_once),
        cmocka_unit_test(files_without_pem_are_refused),
        cmocka_unit_test(damaged_pem_is_refused),
        cmocka_unit_test(text_around_pem_blocks_and_keys_between_them_are_fine),
        cmocka_unit_test(a_key_of_another_certificate_is_refused_at_the_key),
        cmocka_unit_test(an_encrypted_key_is_refused_without_asking),
        cmocka_unit_test(old_forms_of_keys_are_read),
        cmocka_unit_test(keys_are_told_apart_by_kind_and_strength),
        cmocka_unit_test(keys_that_no_client_takes_are_refused),
        cmocka_unit_test(a_key_that_everybody_may_read_is_warned_about),
        cmocka_unit_test(a_chain_in_order_is_kept_without_its_leaf),
        cmocka_unit_test(a_chain_out_of_order_is_refused_and_says_where),
        cmocka_unit_test(a_chain_that_repeats_a_certificate_is_refused_and_says_which),
        cmocka_unit_test(an_issuer_of_the_right_name_and_the_wrong_key_is_refused),
        cmocka_unit_test(an_intermediate_that_ends_soon_is_warned_about),
        cmocka_unit_test(dates_are_warned_about_with_days),
        cmocka_unit_test(days_left_and_alarm_follow_the_clock),
        cmocka_unit_test(a_certificate_for_nobody_or_for_clients_is_warned_about),
        cmocka_unit_test(coverage_tells_exact_names_from_wildcards),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
