/* Keys, certificates and handshakes in memory for the tests of tls/. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <h2o.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "gateway/base/error.h"
#include "tls/certificate.h"
#include "tls/context.h"

#define DAY    ((time_t)86400)
#define UNUSED __attribute__((unused))

/* --- keys --------------------------------------------------------------------------------------------------------- */
/* RSA takes long to make: one key serves all certificates of a test program. */
static UNUSED EVP_PKEY *test_key(const char *kind)
{
    static struct {
        const char *kind;
        EVP_PKEY *key;
    } made[8];
    size_t i = 0;
    while (made[i].kind != NULL && strcmp(made[i].kind, kind) != 0)
        i++;
    assert_true(i < 8);
    if (made[i].kind == NULL) {
        made[i].kind = kind;
        made[i].key = strncmp(kind, "RSA", 3) == 0   ? EVP_RSA_gen((unsigned)atoi(kind + 3))
                      : strcmp(kind, "ED25519") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                                     : EVP_EC_gen(kind);
    }
    assert_non_null(made[i].key);
    EVP_PKEY_up_ref(made[i].key);
    return made[i].key;
}

/* --- certificates ------------------------------------------------------------------------------------------------- */
struct recipe {
    const char *names;  /* subjectAltName: "DNS:a.example.com, IP:::1"; NULL: none */
    const char *cn;     /* NULL: "test" */
    const char *key;    /* "P-256" when NULL */
    const char *digest; /* "SHA256" when NULL */
    const char *usage;  /* extended key usage; NULL: none */
    time_t from, until; /* seconds from now; 0: yesterday, and in 200 days */
    bool is_ca;
};

static UNUSED void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* issuer NULL: self-signed. */
static UNUSED X509 *test_x509(const struct recipe *recipe, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial = 1000;
    EVP_PKEY *key = test_key(recipe->key != NULL ? recipe->key : "P-256");
    X509 *x = X509_new();
    time_t now = time(NULL);
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    ASN1_TIME_set(X509_getm_notBefore(x), now + (recipe->from != 0 ? recipe->from : -DAY));
    ASN1_TIME_set(X509_getm_notAfter(x), now + (recipe->until != 0 ? recipe->until : 200 * DAY));
    X509_NAME *subject = X509_get_subject_name(x);
    if (recipe->cn == NULL || recipe->cn[0] != '\0')
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                   (unsigned char *)(recipe->cn != NULL ? recipe->cn : "test"), -1, -1, 0);
    X509_set_issuer_name(x, issuer != NULL ? X509_get_subject_name(issuer) : subject);
    X509_set_pubkey(x, key);
    add_extension(x, issuer != NULL ? issuer : x, NID_basic_constraints, recipe->is_ca ? "CA:TRUE" : "CA:FALSE");
    if (recipe->names != NULL)
        add_extension(x, x, NID_subject_alt_name, recipe->names);
    if (recipe->usage != NULL)
        add_extension(x, x, NID_ext_key_usage, recipe->usage);
    const EVP_MD *digest = EVP_get_digestbyname(recipe->digest != NULL ? recipe->digest : "SHA256");
    assert_true(X509_sign(x, issuer != NULL ? issuer_key : key, digest) > 0);
    EVP_PKEY_free(key);
    return x;
}

/* --- files -------------------------------------------------------------------------------------------------------- */
static char test_folder[] = "/tmp/weir-tls-XXXXXX";

static UNUSED int make_folder(void **state) { return mkdtemp(test_folder) != NULL ? 0 : -1; }

static UNUSED int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", test_folder);
    return system(command);
}

static UNUSED const char *test_path(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", test_folder, name);
    return path;
}

static UNUSED FILE *create_file(const char *name, mode_t mode)
{
    FILE *file = fopen(test_path(name), "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), mode), 0);
    return file;
}

static UNUSED void write_text(const char *name, const char *text)
{
    FILE *file = create_file(name, 0600);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

/* Certificates up to a NULL, in that order. */
static UNUSED void write_chain(const char *name, X509 *first, ...)
{
    va_list args;
    FILE *file = create_file(name, 0644);
    va_start(args, first);
    for (X509 *x = first; x != NULL; x = va_arg(args, X509 *))
        assert_int_equal(PEM_write_X509(file, x), 1);
    va_end(args);
    fclose(file);
}

static UNUSED void write_key(const char *name, const char *kind, mode_t mode)
{
    EVP_PKEY *key = test_key(kind);
    FILE *file = create_file(name, mode);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    EVP_PKEY_free(key);
}

/* --- findings ----------------------------------------------------------------------------------------------------- */
static UNUSED void assert_finding(const struct gw_errors *errors, enum gw_severity severity, const char *part)
{
    for (size_t i = 0; i < errors->size; i++)
        if (errors->entries[i].severity == severity && strstr(errors->entries[i].text, part) != NULL)
            return;
    for (size_t i = 0; i < errors->size; i++)
        print_error("there is: %s\n", errors->entries[i].text);
    fail_msg("no %s with \"%s\"", severity == GW_ERROR ? "error" : "warning", part);
}

/* --- loaded certificates ------------------------------------------------------------------------------------------ */
static UNUSED struct tls_certificate *load_named(const char *name, const char *cert, const char *key,
                                                 struct gw_errors *errors)
{
    struct tls_certificate_conf conf = {0};
    const char *cert_path = test_path(cert), *key_path = test_path(key);
    conf.cert = h2o_iovec_init(cert_path, strlen(cert_path));
    conf.key = h2o_iovec_init(key_path, strlen(key_path));
    return tls_certificate_load(h2o_iovec_init(name, strlen(name)), &conf, time(NULL), errors);
}

/* A self-signed certificate through real files. */
static UNUSED struct tls_certificate *test_certificate(const char *name, struct recipe recipe)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    X509 *x = test_x509(&recipe, NULL, NULL);
    write_chain("one.pem", x, NULL);
    write_key("one.key", recipe.key != NULL ? recipe.key : "P-256", 0600);
    struct tls_certificate *certificate = load_named(name, "one.pem", "one.key", &errors);
    if (certificate == NULL)
        gw_errors_print(&errors, stderr);
    assert_non_null(certificate);
    X509_free(x);
    gw_errors_dispose(&errors);
    return certificate;
}

/* --- handshakes --------------------------------------------------------------------------------------------------- */
static UNUSED SSL_CTX *client_context(int min_version, int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, min_version);
    SSL_CTX_set_max_proto_version(ctx, max_version);
    return ctx;
}

struct pair {
    SSL *client, *server;
    int client_alert, server_alert; /* fatal alerts that each side received; -1: none */
};

static UNUSED void on_pair_info(const SSL *ssl, int where, int ret)
{
    struct pair *pair = SSL_get_app_data(ssl);
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (ret >> 8) == SSL3_AL_FATAL)
        *(ssl == pair->client ? &pair->client_alert : &pair->server_alert) = ret & 0xff;
}

/* session may be NULL; name NULL: no SNI. Does not shake hands yet. */
static UNUSED void pair_init(struct pair *pair, SSL_CTX *client, SSL_CTX *server, const char *name,
                             SSL_SESSION *session)
{
    BIO *to_client, *to_server;
    *pair = (struct pair){SSL_new(client), SSL_new(server), -1, -1};
    assert_int_equal(BIO_new_bio_pair(&to_client, 1 << 17, &to_server, 1 << 17), 1);
    SSL_set_bio(pair->client, to_server, to_server);
    SSL_set_bio(pair->server, to_client, to_client);
    SSL_set_connect_state(pair->client);
    SSL_set_accept_state(pair->server);
    SSL_set_app_data(pair->client, pair);
    SSL_set_info_callback(pair->client, on_pair_info);
    if (name != NULL)
        SSL_set_tlsext_host_name(pair->client, name);
    if (session != NULL)
        assert_int_equal(SSL_set_session(pair->client, session), 1);
}

/* 1: done, 0: waits for the peer, -1: failed. */
static UNUSED int shake(SSL *ssl)
{
    ERR_clear_error();
    int ret = SSL_do_handshake(ssl);
    return ret == 1 ? 1 : SSL_get_error(ssl, ret) == SSL_ERROR_WANT_READ ? 0 : -1;
}

static UNUSED bool pair_handshake(struct pair *pair)
{
    int client = 0, server = 0;
    for (int i = 0; i < 10 && client >= 0 && server >= 0; i++) {
        client = shake(pair->client);
        server = shake(pair->server);
        if (client == 1 && server == 1)
            return true;
    }
    if (server < 0 && client >= 0)
        shake(pair->client); /* takes the alert in */
    ERR_clear_error();
    return false;
}

/* Sends one message each way; also takes in what TLS 1.3 sends after the handshake. */
static UNUSED void pair_talk(struct pair *pair)
{
    char byte;
    assert_int_equal(SSL_write(pair->server, "x", 1), 1);
    assert_int_equal(SSL_read(pair->client, &byte, 1), 1);
    assert_int_equal(SSL_write(pair->client, "y", 1), 1);
    assert_int_equal(SSL_read(pair->server, &byte, 1), 1);
    assert_int_equal(byte, 'y');
}

/* Both sides say goodbye first: OpenSSL marks sessions that ended otherwise as not resumable. */
static UNUSED void pair_dispose(struct pair *pair)
{
    SSL_shutdown(pair->client);
    SSL_shutdown(pair->server);
    SSL_free(pair->client);
    SSL_free(pair->server);
    ERR_clear_error();
}

/* A listener context with these certificates and the ALPN protocol http/1.1. */
static UNUSED struct tls_context *test_context(const char *policy, const char *id, struct tls_tickets *tickets,
                                               struct tls_certificate *const *certificates, size_t num_certificates)
{
    static struct tls_listener_conf confs[64]; /* a context borrows its configuration */
    static size_t num_confs;
    static const char *const alpn[] = {"http/1.1"};
    struct gw_errors errors;
    struct tls_listener_conf *conf = &confs[num_confs++ % 64];
    gw_errors_init(&errors);
    *conf = (struct tls_listener_conf){.session_tickets = tickets != NULL};
    while (strcmp(tls_policy_names[conf->policy], policy) != 0)
        conf->policy++;
    struct tls_context *context = tls_context_create(conf, h2o_iovec_init(id, strlen(id)), certificates,
                                                     num_certificates, alpn, 1, tickets, &errors);
    if (context == NULL)
        gw_errors_print(&errors, stderr);
    assert_non_null(context);
    gw_errors_dispose(&errors);
    return context;
}
