/* Certificates made at start-up for demonstrations and tests. */
#pragma once
#include <time.h>
#include <openssl/x509.h>
#include "gateway/base/settings.h"

/* P-256, 397 days, for host names and IP addresses. The same names get the same certificate and key for the life of the
 * process, so that a reload changes nothing for clients; a new one is made a month before the old one ends. Gives the
 * caller a reference to each. False when OpenSSL cannot make it. Any thread. */
bool tls_self_signed(const struct gw_texts *names, time_t now, X509 **leaf, EVP_PKEY **key);
/* Whether a name can stand in a certificate: a host name, "*.name", or an IP address. */
bool tls_self_signed_takes(h2o_iovec_t name);
