#include "tls/client_auth.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include "tls/pem.h"

enum {
    MAX_MESSAGE_BYTES = 64 << 10, /* of the client's Certificate message (spec/alb.md 1.4) */
    MAX_PASSED_CHAIN = 10,        /* certificates; nobody verifies them, so nobody else says stop */
    MAX_NAME = 64,                /* characters of a field's */
    AUTH_LEVEL = 2,               /* RSA from 2048 bits, no SHA-1; whatever the listener's policy lets through */
};

static const char *const modes[] = {[TLS_CLIENT_AUTH_OFF] = "off",
                                    [TLS_CLIENT_AUTH_PASSTHROUGH] = "passthrough",
                                    [TLS_CLIENT_AUTH_VERIFY] = "verify",
                                    NULL};

#define NAME(id) offsetof(struct tls_client_auth_names, names[TLS_IDENTITY_##id])
static const struct gw_setting name_settings[] = {
    {"chain", GW_TEXT, NAME(CHAIN), "Instead of X-Amzn-Mtls-Clientcert: the chain as it was sent (passthrough).",
     .min = 1, .max = MAX_NAME},
    {"serial_number", GW_TEXT, NAME(SERIAL_NUMBER), "Instead of X-Amzn-Mtls-Clientcert-Serial-Number.", .min = 1,
     .max = MAX_NAME},
    {"issuer", GW_TEXT, NAME(ISSUER), "Instead of X-Amzn-Mtls-Clientcert-Issuer.", .min = 1, .max = MAX_NAME},
    {"subject", GW_TEXT, NAME(SUBJECT), "Instead of X-Amzn-Mtls-Clientcert-Subject.", .min = 1, .max = MAX_NAME},
    {"validity", GW_TEXT, NAME(VALIDITY), "Instead of X-Amzn-Mtls-Clientcert-Validity.", .min = 1, .max = MAX_NAME},
    {"leaf", GW_TEXT, NAME(LEAF), "Instead of X-Amzn-Mtls-Clientcert-Leaf.", .min = 1, .max = MAX_NAME},
    {0},
};

bool tls_identity_name_is(h2o_iovec_t a, h2o_iovec_t b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i != a.len; ++i) {
        char x = a.base[i] == '_' ? '-' : h2o_tolower(a.base[i]), y = b.base[i] == '_' ? '-' : h2o_tolower(b.base[i]);
        if (x != y)
            return false;
    }
    return true;
}

/* Weir writes or reads these itself, or they say where a message ends: to take them from clients would break requests.
 */
static bool is_reserved(h2o_iovec_t name)
{
    static const char *const reserved[] = {"host",    "connection", "content-length",   "transfer-encoding",
                                           "te",      "trailer",    "keep-alive",       "proxy-connection",
                                           "upgrade", "expect",     "content-encoding", "content-type",
                                           "via",     "forwarded",  "x-request-id",     "traceparent",
                                           "cookie",  "date",       "x-amzn-trace-id",  "authorization",
                                           "range",   "tracestate", "sec-websocket-key"};
    for (size_t i = 0; i != sizeof(reserved) / sizeof(reserved[0]); ++i)
        if (tls_identity_name_is(name, h2o_iovec_init(reserved[i], strlen(reserved[i]))))
            return true;
    return name.len >= 12 &&
           tls_identity_name_is(h2o_iovec_init(name.base, 12), h2o_iovec_init(H2O_STRLIT("x-forwarded-")));
}

static bool check_names(struct gw_loader *loader, void *_conf)
{
    const struct tls_client_auth_names *conf = _conf;
    bool is_good = true;

    for (size_t i = 0; i != TLS_IDENTITIES; ++i) {
        h2o_iovec_t name = conf->names[i];
        const struct gw_node *at = gw_setting_at(conf->at, name_settings[i].name);
        if (name.base == NULL)
            continue;
        if (strspn(name.base, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != name.len)
            is_good = gw_error_at(loader->errors, at,
                                  "\"%.*s\" is no name for this field (expected letters, digits, - and _)",
                                  (int)name.len, name.base);
        else if (is_reserved(name))
            is_good = gw_error_at(loader->errors, at,
                                  "\"%.*s\" has a meaning of its own (expected a name that no client needs)",
                                  (int)name.len, name.base);
        for (size_t j = 0; j != i; ++j)
            if (conf->names[j].base != NULL && tls_identity_name_is(name, conf->names[j]))
                is_good = gw_error_at(loader->errors, at, "\"%.*s\" is the name of %s already (expected one for each)",
                                      (int)name.len, name.base, name_settings[j].name);
    }
    return is_good;
}

static const struct gw_section names_section = {
    .name = "client_auth headers section",
    .help = "Names of the request fields that say who a client is; on every listener they are taken from clients.",
    .size = sizeof(struct tls_client_auth_names),
    .settings = name_settings,
    .check = check_names,
};

#define AT(field) offsetof(struct tls_client_auth_conf, field)
static const struct gw_setting settings[] = {
    {"mode", GW_CHOICE, AT(mode),
     "Whether clients are asked for a certificate: no; yes, and it goes to the target unseen; yes, and only clients "
     "with a good one are served.",
     .choices = modes},
    {"trust_store", GW_TEXT, AT(trust_store), "Authorities that may have signed a client's certificate: a PEM file.",
     .min = 1},
    {"crl", GW_TEXTS, AT(crl), "Revocation lists of those authorities: PEM files. One that has expired revokes all.",
     .min = 1},
    {"depth", GW_NUMBER, AT(depth), "Most certificates between a client's and one of the trust store.", .initial = 4,
     .max = 20},
    {"ignore_expiry", GW_BOOL, AT(ignores_expiry), "Whether a client's own certificate may have expired."},
    {"advertise_ca_names", GW_BOOL, AT(advertises_names),
     "Whether clients are told the names of the authorities, so that they can choose a certificate."},
    {"headers", GW_OPTION, AT(headers), "Other names for the fields X-Amzn-Mtls-Clientcert*.",
     .section = &names_section},
    {0},
};

static bool check(struct gw_loader *loader, void *_conf)
{
    const struct tls_client_auth_conf *conf = _conf;
    const struct {
        const char *name;
        bool is_set;
    } only_verify[] = {{"trust_store", conf->trust_store.base != NULL},
                       {"crl", conf->crl.size != 0},
                       {"ignore_expiry", conf->ignores_expiry},
                       {"advertise_ca_names", conf->advertises_names}};
    bool is_good = true;

    if (conf->mode == TLS_CLIENT_AUTH_VERIFY)
        return conf->trust_store.base != NULL ||
               gw_error_at(loader->errors, gw_setting_at(conf->at, "mode"), "mode verify needs trust_store");
    for (size_t i = 0; i != sizeof(only_verify) / sizeof(only_verify[0]); ++i)
        if (only_verify[i].is_set)
            is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, only_verify[i].name),
                                  "%s means something with mode verify only", only_verify[i].name);
    return is_good;
}

const struct gw_section tls_client_auth_section = {
    .name = "client_auth section",
    .help = "Certificates that clients present.",
    .size = sizeof(struct tls_client_auth_conf),
    .settings = settings,
    .scalar_is = "mode",
    .check = check,
};

/* ---- trust ---- */

static bool add_authorities(const struct tls_client_auth_conf *conf, X509_STORE *store, SSL_CTX *ssl, time_t now,
                            struct gw_errors *errors)
{
    const struct gw_node *at = gw_setting_at(conf->at, "trust_store");
    char *path = tls_pem_path(at, conf->trust_store), name[200];
    STACK_OF(X509) *chain = tls_pem_read_chain(at, path, errors);
    int num = chain != NULL ? sk_X509_num(chain) : 0, num_authorities = 0;

    for (int i = 0; i != num; ++i) {
        X509 *x = sk_X509_value(chain, i);
        X509_NAME_oneline(X509_get_subject_name(x), name, sizeof(name));
        if (X509_check_ca(x) == 0) {
            gw_warn_at(errors, at, "certificate %d in \"%s\" (%s) is no authority: it is left out", i + 1, path, name);
            continue;
        }
        if (X509_cmp_time(X509_get0_notAfter(x), &now) < 0)
            gw_warn_at(errors, at, "authority %d in \"%s\" (%s) has expired", i + 1, path, name);
        X509_STORE_add_cert(store, x);
        if (conf->advertises_names)
            SSL_CTX_add_client_CA(ssl, x);
        ++num_authorities;
    }
    sk_X509_pop_free(chain, X509_free);
    bool is_good = num_authorities != 0 || (num != 0 && gw_error_at(errors, at, "no authority in \"%s\"", path));
    free(path);
    return is_good;
}

static bool add_crls(const struct gw_node *at, h2o_iovec_t file, X509_STORE *store, time_t now,
                     struct gw_errors *errors)
{
    char *path = tls_pem_path(at, file);
    STACK_OF(X509_CRL) *crls = tls_pem_read_crls(at, path, errors);
    bool is_good = crls != NULL;
    ASN1_INTEGER *zero = ASN1_INTEGER_new();

    for (int i = 0; is_good && i != sk_X509_CRL_num(crls); ++i) {
        X509_CRL *crl = sk_X509_CRL_value(crls, i);
        X509_REVOKED *found;
        const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
        if (next != NULL && X509_cmp_time(next, &now) < 0)
            gw_warn_at(errors, at,
                       "the revocation list in \"%s\" has expired: every certificate it is about is refused", path);
        /* OpenSSL sorts it at the first question, under a lock: not in somebody's handshake */
        X509_CRL_get0_by_serial(crl, &found, zero);
        X509_STORE_add_crl(store, crl);
    }
    ASN1_INTEGER_free(zero);
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
    free(path);
    return is_good;
}

static int conf_index = -1, refused_index = -1; /* of an SSL_CTX; of an SSL: the certificate that was refused */

/* What a callback has to know stays with the SSL_CTX: a handshake may outlive the load. */
static void free_refused(void *parent, void *x, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) { X509_free(x); }

static void make_index(void)
{
    refused_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_refused);
    conf_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    assert(conf_index >= 0 && refused_index >= 0);
}

enum { INSTALLED = 1, IS_VERIFIED = 2, IGNORES_EXPIRY = 4 };

static uintptr_t flags_of(const SSL *ssl)
{
    return conf_index < 0 ? 0 : (uintptr_t)SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), conf_index);
}

/* OpenSSL forgets it together with the handshake's state. */
static void keep_refused(SSL *ssl, X509_STORE_CTX *ctx)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
    if (leaf != NULL && SSL_get_ex_data(ssl, refused_index) == NULL && X509_up_ref(leaf) == 1 &&
        SSL_set_ex_data(ssl, refused_index, leaf) != 1)
        X509_free(leaf);
}

static int on_verify(int is_good, X509_STORE_CTX *ctx)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    int error = X509_STORE_CTX_get_error(ctx);

    if (is_good)
        return 1;
    /* Lists are given for some authorities; those without one revoke nothing. */
    bool is_no_mistake = error == X509_V_ERR_UNABLE_TO_GET_CRL ||
                         (error == X509_V_ERR_CERT_HAS_EXPIRED && X509_STORE_CTX_get_error_depth(ctx) == 0 &&
                          (flags_of(ssl) & IGNORES_EXPIRY) != 0);
    if (is_no_mistake)
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
    else
        keep_refused(ssl, ctx);
    return is_no_mistake;
}

static int accept_any(X509_STORE_CTX *ctx, void *arg)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx);
    bool is_good = sent == NULL || sk_X509_num(sent) <= MAX_PASSED_CHAIN;
    X509_STORE_CTX_set_error(ctx, is_good ? X509_V_OK : X509_V_ERR_CERT_CHAIN_TOO_LONG);
    return is_good;
}

bool tls_client_auth_install(const struct tls_client_auth_conf *conf, SSL_CTX *ssl, time_t now,
                             struct gw_errors *errors)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    X509_STORE *store;
    bool is_good;

    if (conf->mode == TLS_CLIENT_AUTH_OFF)
        return true;
    pthread_once(&once, make_index);
    SSL_CTX_set_max_cert_list(ssl, MAX_MESSAGE_BYTES);
    /* Over TLS 1.2 a client's key must be on a curve that is taken for key exchange, too; spec/alb.md 1.4 has P-521. */
    if (SSL_CTX_set1_groups_list(ssl, "X25519:P-256:P-384:P-521") != 1)
        h2o_fatal("no memory");
    uintptr_t flags = INSTALLED | (conf->mode == TLS_CLIENT_AUTH_VERIFY ? IS_VERIFIED : 0) |
                      (conf->ignores_expiry ? IGNORES_EXPIRY : 0);
    if (SSL_CTX_set_ex_data(ssl, conf_index, (void *)flags) != 1)
        h2o_fatal("no memory");
    if (conf->mode == TLS_CLIENT_AUTH_PASSTHROUGH) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(ssl, accept_any, NULL);
        return true;
    }
    if ((store = X509_STORE_new()) == NULL)
        h2o_fatal("no memory");
    is_good = add_authorities(conf, store, ssl, now, errors);
    for (size_t i = 0; i != conf->crl.size; ++i)
        is_good &= add_crls(conf->crl.at[i], conf->crl.entries[i], store, now, errors);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ssl);
    X509_VERIFY_PARAM_set_depth(param, (int)conf->depth);
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    if (conf->crl.size != 0)
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    SSL_CTX_set1_verify_cert_store(ssl, store);
    X509_STORE_free(store);
    ERR_clear_error();
    return is_good;
}

/* ---- what was presented ---- */

/* The text grows while its parts are written, so these are offsets until it is complete. */
struct part {
    size_t at, len;
};

static struct part since(BIO *bio, size_t at)
{
    BUF_MEM *mem;
    BIO_get_mem_ptr(bio, &mem);
    return (struct part){at, mem->length - at};
}

static size_t here(BIO *bio) { return since(bio, 0).len; }

static void put_url_encoded(BIO *out, BIO *pem)
{
    static const char hex[] = "0123456789ABCDEF";
    char *bytes;
    long len = BIO_get_mem_data(pem, &bytes);

    for (long i = 0; i < len; ++i) {
        unsigned char c = (unsigned char)bytes[i];
        /* `+`, `=` and `/` stay: receivers must decode percents, not forms */
        bool is_literal = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                          (c != 0 && strchr("-._~+=/", c) != NULL);
        char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
        BIO_write(out, is_literal ? (const char *)&bytes[i] : escape, is_literal ? 1 : 3);
    }
}

static struct part put_certificate(BIO *out, X509 *leaf, STACK_OF(X509) * chain)
{
    size_t at = here(out);
    BIO *pem = BIO_new(BIO_s_mem());

    PEM_write_bio_X509(pem, leaf);
    for (int i = 0; chain != NULL && i < sk_X509_num(chain); ++i)
        PEM_write_bio_X509(pem, sk_X509_value(chain, i));
    put_url_encoded(out, pem);
    BIO_free(pem);
    return since(out, at);
}

static struct part put_name(BIO *out, const X509_NAME *name)
{
    size_t at = here(out);
    X509_NAME_print_ex(out, name, 0, XN_FLAG_RFC2253);
    return since(out, at);
}

static struct part put_serial(BIO *out, X509 *leaf)
{
    size_t at = here(out);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;
    BIO_puts(out, hex != NULL ? hex : "");
    OPENSSL_free(hex);
    BN_free(number);
    return since(out, at);
}

static void put_time(BIO *out, const ASN1_TIME *time)
{
    struct tm tm = {0};
    ASN1_TIME_to_tm(time, &tm);
    BIO_printf(out, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
               tm.tm_min, tm.tm_sec);
}

static struct part put_validity(BIO *out, const X509 *leaf)
{
    size_t at = here(out);
    BIO_puts(out, "NotBefore=");
    put_time(out, X509_get0_notBefore(leaf));
    BIO_puts(out, ";NotAfter=");
    put_time(out, X509_get0_notAfter(leaf));
    return since(out, at);
}

static struct part put_fingerprint(BIO *out, const X509 *leaf)
{
    size_t at = here(out);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    X509_digest(leaf, EVP_sha256(), digest, &len);
    for (unsigned i = 0; i != len; ++i)
        BIO_printf(out, "%02x", digest[i]);
    return since(out, at);
}

static h2o_iovec_t slice(const BUF_MEM *text, struct part part)
{
    return h2o_iovec_init(text->data + part.at, part.len);
}

static struct tls_client_certificate *describe(X509 *leaf, STACK_OF(X509) * chain, bool is_verified)
{
    struct tls_client_certificate *self = h2o_mem_alloc(sizeof(*self));
    BIO *out = BIO_new(BIO_s_mem());

    if (out == NULL)
        h2o_fatal("no memory");
    *self = (struct tls_client_certificate){.is_verified = is_verified};
    struct part pem = put_certificate(out, leaf, is_verified ? NULL : chain);
    struct part serial = put_serial(out, leaf), issuer = put_name(out, X509_get_issuer_name(leaf));
    struct part subject = put_name(out, X509_get_subject_name(leaf)), validity = put_validity(out, leaf);
    struct part fingerprint = put_fingerprint(out, leaf);
    BIO_get_mem_ptr(out, &self->text);
    (void)BIO_set_close(out, BIO_NOCLOSE);
    BIO_free(out);
    *(is_verified ? &self->leaf : &self->chain) = slice(self->text, pem);
    self->serial = slice(self->text, serial);
    self->issuer = slice(self->text, issuer);
    self->subject = slice(self->text, subject);
    self->validity = slice(self->text, validity);
    self->fingerprint = slice(self->text, fingerprint);
    return self;
}

/* A server's chain holds what the client sent without its own certificate. */
struct tls_client_certificate *tls_client_certificate_create(SSL *ssl)
{
    uintptr_t flags = flags_of(ssl);
    X509 *leaf;

    if (flags == 0 || (leaf = SSL_get1_peer_certificate(ssl)) == NULL)
        return NULL;
    bool is_verified = (flags & IS_VERIFIED) != 0;
    assert(!is_verified || SSL_get_verify_result(ssl) == X509_V_OK);
    struct tls_client_certificate *self = describe(leaf, SSL_get_peer_cert_chain(ssl), is_verified);
    X509_free(leaf);
    ERR_clear_error();
    return self;
}

void tls_client_certificate_destroy(struct tls_client_certificate *self)
{
    if (self == NULL)
        return;
    BUF_MEM_free(self->text);
    free(self);
}

void tls_client_certificate_describe(SSL *ssl, char *text, size_t size)
{
    text[0] = '\0';
    X509 *leaf = refused_index >= 0 ? SSL_get_ex_data(ssl, refused_index) : NULL;
    if (leaf == NULL)
        return;
    BIO *out = BIO_new(BIO_s_mem());
    char *bytes;
    BIO_puts(out, "subject ");
    put_name(out, X509_get_subject_name(leaf));
    BIO_puts(out, ", issuer ");
    put_name(out, X509_get_issuer_name(leaf));
    long len = BIO_get_mem_data(out, &bytes);
    snprintf(text, size, "%.*s", (int)len, bytes);
    BIO_free(out);
}
