/* Certificates and keys out of PEM files. Reports what is wrong at the setting that names the file. */
#pragma once
#include <openssl/x509.h>
#include <h2o/memory.h>
#include "gateway/base/error.h"
#include "gateway/base/yaml.h"

/* A path as written at a node: relative ones start from the directory of the file that names them. malloc'ed. */
char *tls_pem_path(const struct gw_node *at, h2o_iovec_t path);
/* All certificates of a file, at least one, in order. NULL after recording an error. */
STACK_OF(X509) * tls_pem_read_chain(const struct gw_node *at, const char *path, struct gw_errors *);
/* All revocation lists of a file, at least one. NULL after recording an error. */
STACK_OF(X509_CRL) * tls_pem_read_crls(const struct gw_node *at, const char *path, struct gw_errors *);
/* The first private key of a file; warns when everybody may read it. NULL after recording an error. */
EVP_PKEY *tls_pem_read_key(const struct gw_node *at, const char *path, struct gw_errors *);
