/* Host names as certificates and SNI spell them. Pure functions, any thread. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>
#include <openssl/x509.h>

enum { TLS_NAME_MAX = 253 }; /* RFC 1035 2.3.4, as text without the trailing dot */

/* Lower case, trailing dot removed. False for what is no host name: empty, too long, an empty or too long label, or a
 * byte other than letter, digit, '-', '_' and '.'. allow_wildcard also takes '*' as the whole first of several labels.
 * out holds TLS_NAME_MAX + 1 bytes and gets a NUL. */
bool tls_name_canonical(h2o_iovec_t name, bool allow_wildcard, char *out, size_t *out_len);
/* RFC 6125 6.4.3: the pattern "*.example.com" takes a.example.com, not example.com and not a.b.example.com. Both lower
 * case. */
bool tls_name_matches_wildcard(h2o_iovec_t pattern, h2o_iovec_t name);
/* The names of a certificate: subjectAltName DNS and IP entries, CN only when there is no such entry (RFC 6125 6.4.4).
 * Lower case, entries that are no names left out. One free() of *names releases all; NULL when there are none. */
size_t tls_names_of(const X509 *, h2o_iovec_t **names);
