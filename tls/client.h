/* What a client can verify, read from its ClientHello. */
#pragma once
#include <openssl/ssl.h>

/* Set of enum tls_key_kind. Valid in the certificate callback, when the version is agreed upon. From TLS 1.3 on the
 * signature algorithms decide alone (RFC 8446 4.2.3); before it also a cipher that both sides have and, for ECDSA, the
 * curves (RFC 8422 5.1). */
unsigned tls_client_key_kinds(SSL *);
