#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include "tls/failure.h"

static unsigned long ssl_error(int reason) { return ERR_PACK(ERR_LIB_SSL, 0, reason); }

static void no_error_at_all_means_that_the_peer_is_gone(void **state)
{
    assert_int_equal(tls_failure_of(0), TLS_FAILURE_CLOSED);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_UNEXPECTED_EOF_WHILE_READING)), TLS_FAILURE_CLOSED);
}

static void openssl_s_reasons_fall_into_their_classes(void **state)
{
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_HTTP_REQUEST)), TLS_FAILURE_NOT_TLS);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_WRONG_VERSION_NUMBER)), TLS_FAILURE_NOT_TLS);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_UNSUPPORTED_PROTOCOL)), TLS_FAILURE_VERSION);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_NO_SHARED_CIPHER)), TLS_FAILURE_CIPHER);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_NO_APPLICATION_PROTOCOL)), TLS_FAILURE_ALPN);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_BAD_EXTENSION)), TLS_FAILURE_OTHER);
    assert_int_equal(tls_failure_of(ERR_PACK(ERR_LIB_EVP, 0, 100)), TLS_FAILURE_OTHER);
}

static void alerts_of_clients_tell_distrust_from_the_rest(void **state)
{
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_TLSV1_ALERT_UNKNOWN_CA)), TLS_FAILURE_CERTIFICATE_REFUSED);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_SSLV3_ALERT_BAD_CERTIFICATE)), TLS_FAILURE_CERTIFICATE_REFUSED);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED)), TLS_FAILURE_CERTIFICATE_REFUSED);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_TLSV1_ALERT_PROTOCOL_VERSION)), TLS_FAILURE_VERSION);
    assert_int_equal(tls_failure_of(ssl_error(SSL_R_TLSV1_ALERT_INTERNAL_ERROR)), TLS_FAILURE_CLIENT_ALERT);
}

static void every_failure_has_a_name_of_its_own(void **state)
{
    for (int i = 0; i != TLS_FAILURE_COUNT; ++i)
        for (int j = 0; j != i; ++j)
            assert_string_not_equal(tls_failure_name((enum tls_failure)i), tls_failure_name((enum tls_failure)j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_error_at_all_means_that_the_peer_is_gone),
        cmocka_unit_test(openssl_s_reasons_fall_into_their_classes),
        cmocka_unit_test(alerts_of_clients_tell_distrust_from_the_rest),
        cmocka_unit_test(every_failure_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
