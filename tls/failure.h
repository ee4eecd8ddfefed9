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
