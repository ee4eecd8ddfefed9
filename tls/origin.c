#include "tls/origin.h"
#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include "tls/pem.h"
#include "tls/policy.h"
#include "tls/socket.h"

struct tls_origin {
    _Atomic unsigned refs;
    SSL_CTX *ssl;
    bool insecure;
    unsigned alpn_len;
    unsigned char alpn[32]; /* as on the wire */
    uint64_t id;
};

static int session_index = -1; /* of SSL: its struct tls_origin_session */
static int id_index = -1;      /* of SSL: the session_id */

static void make_session_index(void)
{
    session_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    id_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    assert(session_index >= 0 && id_index >= 0);
}

/* ---- loading ---- */

static void digest_certificate(EVP_MD_CTX *digest, X509 *x)
{
    unsigned char fingerprint[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    X509_digest(x, EVP_sha256(), fingerprint, &len);
    EVP_DigestUpdate(digest, fingerprint, len);
}

/* The system's store has no content that could be read whole; its times change when it is updated. */
static void digest_system_store(EVP_MD_CTX *digest)
{
    const char *const paths[] = {X509_get_default_cert_file(), X509_get_default_cert_dir()};
    for (size_t i = 0; i != sizeof(paths) / sizeof(paths[0]); ++i) {
        struct stat status;
        if (stat(paths[i], &status) == 0)
            EVP_DigestUpdate(digest, &status.st_mtim, sizeof(status.st_mtim));
    }
}

static bool load_trust(SSL_CTX *ssl, const struct tls_origin_conf *conf, EVP_MD_CTX *digest, struct gw_errors *errors)
{
    if (conf->ca.base == NULL) {
        digest_system_store(digest);
        return SSL_CTX_set_default_verify_paths(ssl) == 1 ||
               gw_error_at(errors, conf->at, "the system's certificate store cannot be read");
    }
    char *path = tls_pem_path(conf->at_ca, conf->ca);
    STACK_OF(X509) *all = tls_pem_read_chain(conf->at_ca, path, errors);
    free(path);
    for (int i = 0; i < sk_X509_num(all); i++) {
        digest_certificate(digest, sk_X509_value(all, i));
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), sk_X509_value(all, i));
    }
    bool is_good = all != NULL;
    sk_X509_pop_free(all, X509_free);
    /* what the operator lists is trusted, be it an intermediate or the target's own certificate */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return is_good;
}

static bool load_identity(SSL_CTX *ssl, const struct tls_origin_conf *conf, EVP_MD_CTX *digest,
                          struct gw_errors *errors)
{
    if (conf->certificate.base == NULL)
        return true;
    char *certificate_path = tls_pem_path(conf->at_certificate, conf->certificate),
         *key_path = tls_pem_path(conf->at_key, conf->key);
    STACK_OF(X509) *chain = tls_pem_read_chain(conf->at_certificate, certificate_path, errors);
    EVP_PKEY *key = tls_pem_read_key(conf->at_key, key_path, errors);
    bool is_good = chain != NULL && key != NULL;
    if (is_good) {
        X509 *leaf = sk_X509_shift(chain);
        digest_certificate(digest, leaf);
        for (int i = 0; i < sk_X509_num(chain); i++)
            digest_certificate(digest, sk_X509_value(chain, i));
        if (X509_check_private_key(leaf, key) != 1) {
            is_good = gw_error_at(errors, conf->at_key, "the key in \"%s\" does not fit the certificate in \"%s\"",
                                  key_path, certificate_path);
        } else if (SSL_CTX_use_cert_and_key(ssl, leaf, key, chain, 1) != 1) {
            const char *reason = ERR_reason_error_string(ERR_peek_last_error());
            is_good = gw_error_at(errors, conf->at_certificate, "the certificate in \"%s\" cannot be used: %s",
                                  certificate_path, reason != NULL ? reason : "refused by OpenSSL");
        } else if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0) {
            gw_warn_at(errors, conf->at_certificate, "the certificate in \"%s\" has expired", certificate_path);
        }
        X509_free(leaf);
    }
    sk_X509_pop_free(chain, X509_free);
    EVP_PKEY_free(key);
    free(certificate_path);
    free(key_path);
    return is_good;
}

/* ---- callbacks ---- */

/* What the handshake that begins is for; only while tls_origin_handshake calls libh2o, which creates the SSL object and
 * writes the ClientHello in one go. */
struct beginning {
    const struct tls_origin *origin;
    struct tls_origin_session *session;
    uint64_t session_id;
};
static __thread const struct beginning *beginning;

static bool is_ip(const char *name)
{
    unsigned char address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static void prepare(SSL *ssl, const struct beginning *it)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bool is_good;
    assert(name != NULL);
    if (is_ip(name)) {
        is_good = X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
        SSL_set_tlsext_host_name(ssl, NULL); /* frees the name */
    } else {
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        is_good = X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
    }
    if (!is_good || SSL_set_ex_data(ssl, session_index, it->session) != 1 ||
        SSL_set_ex_data(ssl, id_index, (void *)(uintptr_t)it->session_id) != 1)
        h2o_fatal("no memory");
    if (it->session != NULL && it->session->session != NULL && it->session->id == it->session_id)
        SSL_set_session(ssl, it->session->session);
    tls_socket_watch_alerts(ssl);
}

static void on_info(const SSL *ssl, int where, int ret)
{
    if (where & SSL_CB_HANDSHAKE_START && beginning != NULL) {
        const struct beginning *it = beginning;
        beginning = NULL;
        prepare((SSL *)ssl, it);
    }
    if (where & SSL_CB_HANDSHAKE_DONE)
        tls_socket_unwatch_alerts((SSL *)ssl);
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_origin_session *kept = SSL_get_ex_data(ssl, session_index);
    if (kept == NULL)
        return 0;
    SSL_SESSION_free(kept->session);
    kept->session = session; /* with its reference */
    kept->id = (uint64_t)(uintptr_t)SSL_get_ex_data(ssl, id_index);
    return 1;
}

void tls_origin_session_dispose(struct tls_origin_session *self)
{
    SSL_SESSION_free(self->session);
    self->session = NULL;
}

/* ---- life ---- */

static bool set_up(struct tls_origin *self, const struct tls_origin_conf *conf, struct gw_errors *errors)
{
    const struct tls_policy *policy = tls_policy_find(conf->policy);
    unsigned char hash[SHA256_DIGEST_LENGTH];

    assert(policy != NULL);
    if (self->ssl == NULL || !tls_policy_apply(policy, self->ssl)) {
        ERR_clear_error();
        return gw_error_at(errors, conf->at, "this OpenSSL does not support policy %s", policy->name);
    }
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
        h2o_fatal("no memory");
    EVP_DigestUpdate(digest, policy->name, strlen(policy->name) + 1);
    EVP_DigestUpdate(digest, self->alpn, self->alpn_len + 1);
    EVP_DigestUpdate(digest, &conf->insecure, sizeof(conf->insecure));
    bool is_good = load_trust(self->ssl, conf, digest, errors);
    is_good = load_identity(self->ssl, conf, digest, errors) && is_good;
    EVP_DigestFinal_ex(digest, hash, NULL);
    EVP_MD_CTX_free(digest);
    memcpy(&self->id, hash, sizeof(self->id));
    self->id |= 1; /* 0 stands for no TLS */
    ERR_clear_error();
    return is_good;
}

struct tls_origin *tls_origin_create(const struct tls_origin_conf *conf, struct gw_errors *errors)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_session_index);
    struct tls_origin *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct tls_origin){.refs = 1, .ssl = SSL_CTX_new(TLS_client_method()), .insecure = conf->insecure};
    if (conf->alpn != NULL) {
        self->alpn_len = 1 + (unsigned)strlen(conf->alpn);
        assert(self->alpn_len < sizeof(self->alpn));
        self->alpn[0] = (unsigned char)(self->alpn_len - 1);
        memcpy(self->alpn + 1, conf->alpn, self->alpn_len - 1);
    }
    if (!set_up(self, conf, errors)) {
        tls_origin_release(self);
        return NULL;
    }
    SSL_CTX_set_verify(self->ssl, conf->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(self->ssl, self->alpn, self->alpn_len);
    SSL_CTX_set_mode(self->ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(self->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(self->ssl, on_new_session);
    SSL_CTX_set_info_callback(self->ssl, on_info);
    SSL_CTX_set_msg_callback(self->ssl, tls_socket_on_message);
    return self;
}

struct tls_origin *tls_origin_hold(struct tls_origin *self)
{
    __atomic_fetch_add((unsigned *)&self->refs, 1, __ATOMIC_RELAXED);
    return self;
}

void tls_origin_release(struct tls_origin *self)
{
    if (self == NULL || __atomic_fetch_sub((unsigned *)&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    SSL_CTX_free(self->ssl);
    free(self);
}

uint64_t tls_origin_id(const struct tls_origin *self) { return self->id; }

/* ---- handshakes ---- */

void tls_origin_handshake(struct tls_origin *self, h2o_socket_t *sock, const char *name,
                          struct tls_origin_session *session, uint64_t session_id, h2o_socket_cb on_done)
{
    const struct beginning it = {self, session, session_id};
    beginning = &it;
    h2o_socket_ssl_handshake(sock, self->ssl, name, on_done);
    beginning = NULL;
}

/* libh2o keeps the SSL to itself: the first members of its private struct, frozen by the soname 0.13. */
static SSL *ssl_of(h2o_socket_t *sock)
{
    struct first_members {
        SSL_CTX *ssl_ctx;
        SSL *ossl;
    } *ssl = (void *)sock->ssl;
    return ssl != NULL ? ssl->ossl : NULL;
}

void tls_origin_detach(h2o_socket_t *sock)
{
    SSL *ssl = ssl_of(sock);
    if (ssl != NULL)
        SSL_set_ex_data(ssl, session_index, NULL);
}

const char *tls_origin_failure_name(enum tls_origin_failure failure)
{
    static const char *const names[] = {
#define X(code, name) name,
        TLS_ORIGIN_FAILURES(X)
#undef X
    };
    return names[failure];
}

static enum tls_origin_failure of_verification(long result)
{
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return TLS_ORIGIN_HOSTNAME;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return TLS_ORIGIN_EXPIRED;
    default:
        return TLS_ORIGIN_CERTIFICATE;
    }
}

static enum tls_origin_failure of_error(unsigned long error, const char **detail)
{
    int reason = ERR_GET_REASON(error);
    const char *text = ERR_reason_error_string(error);
    bool is_of_ssl = error != 0 && ERR_GET_LIB(error) == ERR_LIB_SSL;
    if (text != NULL)
        *detail = text;
    if (is_of_ssl && reason == SSL_AD_REASON_OFFSET + SSL_AD_NO_APPLICATION_PROTOCOL)
        return TLS_ORIGIN_ALPN;
    if (is_of_ssl && reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255)
        return TLS_ORIGIN_ALERT;
    return TLS_ORIGIN_HANDSHAKE;
}

static bool is_alpn_acceptable(const struct tls_origin *self, SSL *ssl)
{
    const unsigned char *chosen;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &chosen, &len);
    if (self->alpn_len == 0)
        return true;
    if (len == 0) /* HTTP/1.1 is what a server speaks that knows no ALPN */
        return self->alpn_len == 9 && memcmp(self->alpn + 1, "http/1.1", 8) == 0;
    return len + 1 == self->alpn_len && memcmp(chosen, self->alpn + 1, len) == 0;
}

enum tls_origin_failure tls_origin_judge(const struct tls_origin *self, h2o_socket_t *sock, const char *err,
                                         const char **detail)
{
    SSL *ssl = ssl_of(sock);
    unsigned long error = ERR_peek_error();
    *detail = "TLS handshake failed";
    if (err == NULL || err == h2o_socket_error_ssl_cert_name_mismatch || err == h2o_socket_error_ssl_cert_invalid) {
        /* libh2o's own look at names is neither complete nor wanted; OpenSSL's decides */
        if (!self->insecure && SSL_get_verify_result(ssl) != X509_V_OK) {
            *detail = X509_verify_cert_error_string(SSL_get_verify_result(ssl));
            return of_verification(SSL_get_verify_result(ssl));
        }
        if (is_alpn_acceptable(self, ssl))
            return TLS_ORIGIN_NONE;
        *detail = "the target did not choose the protocol that was offered (ALPN)";
        return TLS_ORIGIN_ALPN;
    }
    if (err == h2o_socket_error_closed || err == h2o_socket_error_io) {
        *detail = "connection closed within the TLS handshake";
        return TLS_ORIGIN_CLOSED;
    }
    if (!self->insecure && SSL_get_verify_result(ssl) != X509_V_OK) {
        *detail = X509_verify_cert_error_string(SSL_get_verify_result(ssl));
        return of_verification(SSL_get_verify_result(ssl));
    }
    return of_error(error, detail);
}

const char *tls_origin_read_error(void)
{
    unsigned long error = ERR_peek_error();
    return error != 0 ? ERR_reason_error_string(error) : NULL;
}

bool tls_origin_has_said_goodbye(h2o_socket_t *sock)
{
    SSL *ssl = ssl_of(sock);
    return ssl != NULL && (SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}
