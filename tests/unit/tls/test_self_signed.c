#include <pthread.h>
#include "fixture.h"
#include "tls/self_signed.h"

#define NOW ((time_t)1800000000)

static struct gw_texts texts_of(h2o_iovec_t *entries, size_t size)
{
    return (struct gw_texts){.entries = entries, .size = size};
}

static struct tls_certificate *make(const char *first, const char *second, time_t now)
{
    h2o_iovec_t entries[] = {h2o_iovec_init(first, strlen(first)), {0}};
    struct tls_certificate_conf conf = {.self_signed = texts_of(entries, second != NULL ? 2 : 1)};
    struct gw_errors errors;
    gw_errors_init(&errors);
    if (second != NULL)
        entries[1] = h2o_iovec_init(second, strlen(second));
    struct tls_certificate *made = tls_certificate_load(h2o_iovec_init(H2O_STRLIT("demo")), &conf, now, &errors);
    assert_non_null(made);
    assert_int_equal(errors.size, 0);
    gw_errors_dispose(&errors);
    return made;
}

static bool is_same(const struct tls_certificate *a, const struct tls_certificate *b)
{
    bool is_same_key = EVP_PKEY_eq(a->key, b->key) == 1;
    assert_int_equal(is_same_key, X509_cmp(a->leaf, b->leaf) == 0);
    return is_same_key;
}

static void it_is_p256_for_397_days_with_all_names(void **state)
{
    struct tls_certificate *it = make("Demo.Example.com", "127.0.0.1", NOW);
    assert_int_equal(it->kind, TLS_KEY_P256);
    assert_int_equal(it->not_after, NOW + 397 * DAY);
    assert_int_equal(it->not_before, NOW - 3600);
    assert_int_equal(it->num_dns_names, 2);
    assert_string_equal(it->dns_names[0].base, "demo.example.com");
    assert_string_equal(it->dns_names[1].base, "127.0.0.1");
    assert_int_equal(sk_X509_num(it->chain), 0);
    assert_int_equal(X509_verify(it->leaf, it->key), 1);
    tls_certificate_destroy(it);
}

static void strict_clients_accept_it_by_name_and_by_address(void **state)
{
    struct tls_certificate *it = make("*.strict.example", "::1", time(NULL));
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, it->leaf);
    X509_STORE_set_flags(store, X509_V_FLAG_X509_STRICT | X509_V_FLAG_PARTIAL_CHAIN);
    X509_STORE_CTX *check = X509_STORE_CTX_new();
    X509_STORE_CTX_init(check, store, it->leaf, NULL);
    X509_STORE_CTX_set_purpose(check, X509_PURPOSE_SSL_SERVER);
    if (X509_verify_cert(check) != 1)
        fail_msg("%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(check)));
    assert_int_equal(X509_check_host(it->leaf, "a.strict.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(it->leaf, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(it->leaf, "::2", 0), 0);
    X509_STORE_CTX_free(check);
    X509_STORE_free(store);
    tls_certificate_destroy(it);
}

static void the_same_names_get_the_same_certificate_in_any_order_and_case(void **state)
{
    struct tls_certificate *first = make("one.example", "two.example", NOW);
    struct tls_certificate *again = make("two.example", "ONE.example", NOW + 100 * DAY);
    struct tls_certificate *other = make("one.example", NULL, NOW);
    assert_true(is_same(first, again));
    assert_false(is_same(first, other));
    tls_certificate_destroy(first); /* the snapshot that had it is gone */
    struct tls_certificate *later = make("one.example", "two.example", NOW);
    assert_true(is_same(again, later));
    tls_certificate_destroy(again);
    tls_certificate_destroy(other);
    tls_certificate_destroy(later);
}

static void a_new_one_is_made_before_warnings_would_begin(void **state)
{
    struct tls_certificate *first = make("renew.example", NULL, NOW);
    struct tls_certificate *kept = make("renew.example", NULL, NOW + 365 * DAY);
    struct tls_certificate *renewed = make("renew.example", NULL, NOW + 366 * DAY);
    assert_true(is_same(first, kept));
    assert_false(is_same(first, renewed));
    assert_int_equal(renewed->not_after, NOW + (366 + 397) * DAY);
    tls_certificate_destroy(first);
    tls_certificate_destroy(kept);
    tls_certificate_destroy(renewed);
}

static void serial_numbers_differ(void **state)
{
    struct tls_certificate *a = make("serial-a.example", NULL, NOW), *b = make("serial-b.example", NULL, NOW);
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(a->leaf), X509_get0_serialNumber(b->leaf)), 0);
    assert_int_equal(ASN1_STRING_length(X509_get0_serialNumber(a->leaf)), 16);
    tls_certificate_destroy(a);
    tls_certificate_destroy(b);
}

static void names_that_cannot_stand_in_a_certificate_are_known(void **state)
{
    static const char *const good[] = {"localhost", "a.example.com", "*.example.com", "10.0.0.1", "::1", "fe80::1"};
    static const char *const bad[] = {"", "a b", "*", "*.*.a", "a/b", "1.2.3.4/8", "[::1]", "::1%eth0", ":::", "a..b"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(tls_self_signed_takes(h2o_iovec_init(good[i], strlen(good[i]))));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (tls_self_signed_takes(h2o_iovec_init(bad[i], strlen(bad[i]))))
            fail_msg("\"%s\" was taken", bad[i]);
}

static void *make_in_thread(void *out)
{
    *(struct tls_certificate **)out = make("threads.example", NULL, NOW);
    return NULL;
}

static void threads_that_ask_at_once_get_the_same(void **state)
{
    enum { N = 4 };
    pthread_t threads[N];
    struct tls_certificate *made[N];
    for (size_t i = 0; i < N; i++)
        pthread_create(&threads[i], NULL, make_in_thread, &made[i]);
    for (size_t i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < N; i++)
        assert_true(is_same(made[0], made[i]));
    for (size_t i = 0; i < N; i++)
        tls_certificate_destroy(made[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_p256_for_397_days_with_all_names),
        cmocka_unit_test(strict_clients_accept_it_by_name_and_by_address),
        cmocka_unit_test(the_same_names_get_the_same_certificate_in_any_order_and_case),
        cmocka_unit_test(a_new_one_is_made_before_warnings_would_begin),
        cmocka_unit_test(serial_numbers_differ),
        cmocka_unit_test(names_that_cannot_stand_in_a_certificate_are_known),
        cmocka_unit_test(threads_that_ask_at_once_get_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
