/* Why TLS handshakes with clients fail: a small closed set, for metrics. Pure functions. */
#pragma once

#define TLS_FAILURES(X)                                                                                                \
    X(TIMEOUT, "timeout", "it took longer than tls.handshake_timeout")                                                 \
    X(CLOSED, "closed", "the client closed or reset the connection")                                                   \
    X(NOT_TLS, "not_tls", "the bytes are not TLS: plain HTTP on a TLS port, a port scan")                              \
    X(VERSION, "version", "no TLS version in common")                                                                  \
    X(CIPHER, "cipher", "no cipher, group or signature algorithm in common")                                           \
    X(ALPN, "alpn", "the client offers only protocols that are not served (RFC 7301 3.2)")                             \
    X(CERTIFICATE_REFUSED, "certificate_refused", "the client does not trust our certificate and said so")             \
    X(CLIENT_ALERT, "client_alert", "the client ended it with another alert")                                          \
    X(CLIENT_CERT_MISSING, "client_cert_missing", "client_auth: verify, and the client has no certificate")            \
    X(CLIENT_CERT_EXPIRED, "client_cert_expired", "a certificate of the client's chain has expired")                   \
    X(CLIENT_CERT_NOT_YET_VALID, "client_cert_not_yet_valid", "a certificate of the client's chain is not valid yet")  \
    X(CLIENT_CERT_REVOKED, "client_cert_revoked", "a certificate of the client's chain is on a revocation list")       \
    X(CLIENT_CERT_CRL, "client_cert_crl", "the revocation list for it has expired or is not signed by its issuer")     \
    X(CLIENT_CERT_UNTRUSTED, "client_cert_untrusted", "no authority of the trust store has signed it")                 \
    X(CLIENT_CERT_PURPOSE, "client_cert_purpose", "the certificate is not meant for clients")                          \
    X(CLIENT_CERT_DEPTH, "client_cert_depth", "the chain is longer than client_auth.depth")                            \
    X(CLIENT_CERT_INVALID, "client_cert_invalid", "the certificate is damaged, too large, or its key too weak")        \
    X(OTHER, "other", "anything else, such as a malformed message")

enum tls_failure {
#define X(code, name, text) TLS_FAILURE_##code,
    TLS_FAILURES(X)
#undef X
        TLS_FAILURE_COUNT
};
const char *tls_failure_name(enum tls_failure);
/* Of an error as ERR_peek_error() tells it after a handshake that failed; 0: there was none, the peer is gone. */
enum tls_failure tls_failure_of(unsigned long openssl_error);
/* Of the result of a verification that failed (X509_V_ERR_...). */
enum tls_failure tls_failure_of_verification(long result);
