#include "tls/certificate.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include "tls/name.h"
#include "tls/pem.h"
#include "tls/self_signed.h"

#define DAY_S     86400
#define WARN_DAYS 30
enum { MIN_RSA_BITS = 2048 }; /* what OpenSSL's security level 2 takes, and every browser */

static bool is_self_signed_name(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t value)
{
    if (tls_self_signed_takes(value))
        return true;
    return gw_error_at(loader->errors, at, "\"%.*s\" is not a host name or an IP address", (int)value.len, value.base);
}

static const struct gw_setting settings[] = {
    {"cert", GW_TEXT, offsetof(struct tls_certificate_conf, cert),
     "PEM file with the certificate and its chain, the leaf first; relative to the file that names it.", .min = 1},
    {"key", GW_TEXT, offsetof(struct tls_certificate_conf, key),
     "PEM file with the private key (RSA or ECDSA, without a passphrase); relative to the file that names it.",
     .min = 1},
    {"self_signed", GW_TEXTS, offsetof(struct tls_certificate_conf, self_signed),
     "Host names and IP addresses of a certificate made at start-up, for demonstrations and tests.", .min = 1,
     .valid = is_self_signed_name},
    {0},
};

static bool check(struct gw_loader *loader, void *_conf)
{
    const struct tls_certificate_conf *conf = _conf;
    bool is_made = conf->self_signed.size != 0;
    bool has_cert = conf->cert.base != NULL, has_key = conf->key.base != NULL;
    if (is_made && (has_cert || has_key))
        return gw_error_at(loader->errors, gw_setting_at(conf->at, "self_signed"),
                           "self_signed excludes %s: the certificate is either made or read",
                           has_cert ? "cert" : "key");
    if (has_cert != has_key)
        return gw_error_at(loader->errors, gw_setting_at(conf->at, has_cert ? "cert" : "key"), "%s needs %s beside it",
                           has_cert ? "cert" : "key", has_cert ? "key" : "cert");
    if (!is_made && !has_cert)
        return gw_error_at(loader->errors, conf->at, "a certificate needs cert and key, or self_signed");
    return true;
}

const struct gw_section tls_certificate_section = {
    .name = "certificate",
    .help = "A certificate chain with its private key.",
    .size = sizeof(struct tls_certificate_conf),
    .settings = settings,
    .check = check,
};

/* "CN=..., O=..." for messages, cut to fit. */
static const char *subject_of(const X509 *x, char *text, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, X509_get_subject_name(x), 0, XN_FLAG_RFC2253);
    int len = BIO_read(bio, text, (int)size - 1);
    text[len > 0 ? len : 0] = '\0';
    BIO_free(bio);
    return text;
}

static time_t time_of(const ASN1_TIME *time)
{
    struct tm tm;
    return ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
}

static const char *describe_key(const EVP_PKEY *key, char *text, size_t size)
{
    char curve[64];
    if (EVP_PKEY_is_a(key, "RSA"))
        snprintf(text, size, "RSA with %d bits", EVP_PKEY_get_bits(key));
    else if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) == 1)
        snprintf(text, size, "ECDSA on %s", curve);
    else
        snprintf(text, size, "%s", EVP_PKEY_get0_type_name(key));
    return text;
}

/* 0 when no client could use it. */
static enum tls_key_kind kind_of(const EVP_PKEY *key)
{
    char curve[64];
    if (EVP_PKEY_is_a(key, "RSA"))
        return EVP_PKEY_get_bits(key) >= MIN_RSA_BITS ? TLS_KEY_RSA : 0;
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) != 1)
        return 0;
    return strcmp(curve, SN_X9_62_prime256v1) == 0 ? TLS_KEY_P256
           : strcmp(curve, SN_secp384r1) == 0      ? TLS_KEY_P384
           : strcmp(curve, SN_secp521r1) == 0      ? TLS_KEY_P521
                                                   : 0;
}

static unsigned hash_bits_of(X509 *leaf)
{
    int digest;
    if (X509_get_signature_info(leaf, &digest, NULL, NULL, NULL) != 1)
        return 0;
    switch (digest) {
    case NID_sha1:
        return 160;
    case NID_sha224:
        return 224;
    case NID_sha256:
        return 256;
    case NID_sha384:
        return 384;
    case NID_sha512:
        return 512;
    default:
        return 0;
    }
}

/* Where a certificate's settings stand and what the files are called, for messages. */
struct source {
    const struct gw_node *at_cert, *at_key;
    char *cert_path, *key_path;
    struct gw_errors *errors;
};

/* Certificate `number` (from 2) must have issued the one before it and be none of those before it. */
static bool check_link(const struct source *from, STACK_OF(X509) * all, int number)
{
    char subject[256], before[256];
    X509 *issuer = sk_X509_value(all, number - 1), *issued = sk_X509_value(all, number - 2);
    for (int i = 0; i < number - 1; i++)
        if (X509_cmp(issuer, sk_X509_value(all, i)) == 0)
            return gw_error_at(from->errors, from->at_cert, "certificate %d in \"%s\" repeats certificate %d (%s)",
                               number, from->cert_path, i + 1, subject_of(issuer, subject, sizeof(subject)));
    int verdict = X509_check_issued(issuer, issued);
    if (verdict != X509_V_OK && verdict != X509_V_ERR_KEYUSAGE_NO_CERTSIGN)
        return gw_error_at(
            from->errors, from->at_cert,
            "certificate %d in \"%s\" (%s) did not issue certificate %d (%s): the order must be the leaf "
            "first, then each one's issuer",
            number, from->cert_path, subject_of(issuer, subject, sizeof(subject)), number - 1,
            subject_of(issued, before, sizeof(before)));
    if (X509_verify(issued, X509_get0_pubkey(issuer)) == 0)
        return gw_error_at(from->errors, from->at_cert,
                           "certificate %d in \"%s\" (%s) has the issuer's name but not its key: it did not sign "
                           "certificate %d",
                           number, from->cert_path, subject_of(issuer, subject, sizeof(subject)), number - 1);
    return true;
}

static bool check_chain(const struct source *from, STACK_OF(X509) * all, const EVP_PKEY *key)
{
    char key_text[96], leaf_text[96];
    if (X509_check_private_key(sk_X509_value(all, 0), key) != 1) {
        for (int i = 1; i < sk_X509_num(all); i++)
            if (X509_check_private_key(sk_X509_value(all, i), key) == 1)
                return gw_error_at(
                    from->errors, from->at_cert,
                    "the key fits certificate %d in \"%s\", which must come first: the order must be the "
                    "leaf first, then each one's issuer",
                    i + 1, from->cert_path);
        return gw_error_at(from->errors, from->at_key,
                           "the key in \"%s\" (%s) does not fit the certificate in \"%s\" (%s)", from->key_path,
                           describe_key(key, key_text, sizeof(key_text)), from->cert_path,
                           describe_key(X509_get0_pubkey(sk_X509_value(all, 0)), leaf_text, sizeof(leaf_text)));
    }
    for (int number = 2; number <= sk_X509_num(all); number++)
        if (!check_link(from, all, number))
            return false;
    if (kind_of(key) == 0)
        return gw_error_at(
            from->errors, from->at_key,
            "the key in \"%s\" is %s: TLS clients take RSA from %d bits and ECDSA on P-256, P-384 or P-521",
            from->key_path, describe_key(key, key_text, sizeof(key_text)), MIN_RSA_BITS);
    return true;
}

/* One warning at most for each certificate of the chain. */
static void warn_about_time(const struct source *from, const X509 *x, int number, time_t now)
{
    char what[64], date[32];
    time_t not_before = time_of(X509_get0_notBefore(x)), not_after = time_of(X509_get0_notAfter(x));
    struct tm tm;
    if (number == 1)
        strcpy(what, "the certificate");
    else
        snprintf(what, sizeof(what), "certificate %d", number);
    strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(now < not_before ? &not_before : &not_after, &tm));
    long days = labs((long)((not_after - now) / DAY_S));
    if (now < not_before)
        gw_warn_at(from->errors, from->at_cert, "%s in \"%s\" is not valid before %s", what, from->cert_path, date);
    else if (now > not_after)
        gw_warn_at(from->errors, from->at_cert, "%s in \"%s\" expired %ld day%s ago (%s)", what, from->cert_path, days,
                   days == 1 ? "" : "s", date);
    else if (not_after - now <= WARN_DAYS * DAY_S)
        gw_warn_at(from->errors, from->at_cert, "%s in \"%s\" expires in %ld day%s (%s)", what, from->cert_path, days,
                   days == 1 ? "" : "s", date);
}

static void warn_about_leaf(const struct source *from, const struct tls_certificate *self)
{
    if (self->num_dns_names == 0)
        gw_warn_at(from->errors, from->at_cert, "the certificate in \"%s\" names no host", from->cert_path);
    if (X509_check_purpose(self->leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
        gw_warn_at(from->errors, from->at_cert, "the certificate in \"%s\" is not meant for TLS servers",
                   from->cert_path);
}

/* Takes over the leaf's and the key's references; chain keeps what is behind the leaf. */
static struct tls_certificate *create(h2o_iovec_t name, X509 *leaf, STACK_OF(X509) * chain, EVP_PKEY *key)
{
    struct tls_certificate *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct tls_certificate){.name = h2o_strdup(NULL, name.base, name.len),
                                     .leaf = leaf,
                                     .chain = chain,
                                     .key = key,
                                     .not_before = time_of(X509_get0_notBefore(leaf)),
                                     .not_after = time_of(X509_get0_notAfter(leaf)),
                                     .kind = kind_of(key),
                                     .key_bits = EVP_PKEY_get_bits(key),
                                     .hash_bits = hash_bits_of(leaf)};
    self->is_ecdsa = self->kind != TLS_KEY_RSA;
    self->num_dns_names = tls_names_of(leaf, &self->dns_names);
    return self;
}

static struct tls_certificate *load_files(h2o_iovec_t name, struct source *from, time_t now)
{
    STACK_OF(X509) *all = tls_pem_read_chain(from->at_cert, from->cert_path, from->errors);
    EVP_PKEY *key = tls_pem_read_key(from->at_key, from->key_path, from->errors);
    bool is_good = all != NULL && key != NULL && check_chain(from, all, key);
    ERR_clear_error();
    if (!is_good) {
        sk_X509_pop_free(all, X509_free);
        EVP_PKEY_free(key);
        return NULL;
    }
    for (int i = 0; i < sk_X509_num(all); i++)
        warn_about_time(from, sk_X509_value(all, i), i + 1, now);
    X509 *leaf = sk_X509_shift(all);
    struct tls_certificate *self = create(name, leaf, all, key);
    warn_about_leaf(from, self);
    return self;
}

struct tls_certificate *tls_certificate_load(h2o_iovec_t name, const struct tls_certificate_conf *conf, time_t now,
                                             struct gw_errors *errors)
{
    if (conf->self_signed.size != 0) {
        X509 *leaf;
        EVP_PKEY *key;
        if (tls_self_signed(&conf->self_signed, now, &leaf, &key))
            return create(name, leaf, sk_X509_new_null(), key);
        gw_error_at(errors, gw_setting_at(conf->at, "self_signed"), "OpenSSL could not make this certificate");
        return NULL;
    }
    struct source from = {
        .at_cert = gw_setting_at(conf->at, "cert"), .at_key = gw_setting_at(conf->at, "key"), .errors = errors};
    from.cert_path = tls_pem_path(from.at_cert, conf->cert);
    from.key_path = tls_pem_path(from.at_key, conf->key);
    struct tls_certificate *self = load_files(name, &from, now);
    free(from.cert_path);
    free(from.key_path);
    return self;
}

void tls_certificate_destroy(struct tls_certificate *self)
{
    if (self == NULL)
        return;
    X509_free(self->leaf);
    sk_X509_pop_free(self->chain, X509_free);
    EVP_PKEY_free(self->key);
    free(self->dns_names);
    free(self->name.base);
    free(self);
}

bool tls_certificate_covers(const struct tls_certificate *self, h2o_iovec_t server_name, bool *is_exact)
{
    bool is_covered = false;
    *is_exact = false;
    for (size_t i = 0; i < self->num_dns_names; i++) {
        h2o_iovec_t name = self->dns_names[i];
        if (name.len == server_name.len && memcmp(name.base, server_name.base, name.len) == 0)
            return *is_exact = true;
        is_covered |= tls_name_matches_wildcard(name, server_name);
    }
    return is_covered;
}

int64_t tls_certificate_days_left(const struct tls_certificate *self, time_t now)
{
    int64_t left_s = (int64_t)self->not_after - (int64_t)now;
    return left_s >= 0 ? left_s / DAY_S : -1 - (-left_s - 1) / DAY_S;
}

int tls_certificate_alarm(const struct tls_certificate *self, time_t now)
{
    static const int thresholds[] = {7, 14, WARN_DAYS};
    if (now > self->not_after)
        return 0;
    for (size_t i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++)
        if (self->not_after - now <= thresholds[i] * DAY_S)
            return thresholds[i];
    return INT_MAX;
}
