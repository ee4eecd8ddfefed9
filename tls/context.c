#include "tls/context.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include "tls/client.h"
#include "tls/name.h"
#include "tls/sni.h"
#include "tls/socket.h"

static const struct gw_setting settings[] = {
    {"policy", GW_CHOICE, offsetof(struct tls_listener_conf, policy),
     "Versions and ciphers: a recommendation of Mozilla or a policy of AWS load balancers.", .initial = 1,
     .choices = tls_policy_names},
    {"certificates", GW_TEXTS, offsetof(struct tls_listener_conf, certificates),
     "Names of certificates to choose from by server name; the first is the default.", .min = 1, .is_required = true},
    {"default_certificate", GW_TEXT, offsetof(struct tls_listener_conf, default_certificate),
     "Name of the certificate for clients that ask for no name, or for one that no certificate has; its own names "
     "count "
     "only if `certificates` lists it, too. Left out, the first of those.",
     .min = 1},
    {"alpn", GW_TEXTS, offsetof(struct tls_listener_conf, alpn),
     "What a listener of protocol tls agrees upon with clients by ALPN, the most wanted first, like h2 and http/1.1; "
     "clients that offer none of it are served without. Listeners of HTTP have `protocols`.",
     .min = 1, .max = 255},
    {"handshake_timeout", GW_DURATION, offsetof(struct tls_listener_conf, handshake_timeout_ms),
     "How long a handshake may take.", .initial = 10000, .min = 100, .max = 600000},
    {"session_tickets", GW_BOOL, offsetof(struct tls_listener_conf, session_tickets),
     "Lets clients resume sessions without a full handshake; never where client_auth asks for certificates, which "
     "are looked at in full handshakes only.",
     .initial = 1},
    {"client_auth", GW_SECTION, offsetof(struct tls_listener_conf, client_auth), "Certificates that clients present.",
     .section = &tls_client_auth_section},
    {0},
};

static bool check(struct gw_loader *loader, void *_conf)
{
    const struct gw_texts *names = &((struct tls_listener_conf *)_conf)->certificates;
    bool is_good = true;
    if (names->size == 0)
        return gw_error_at(loader->errors, gw_setting_at(((struct tls_listener_conf *)_conf)->at, "certificates"),
                           "a TLS listener needs at least one certificate");
    for (size_t i = 1; i < names->size; i++)
        for (size_t k = 0; k < i; k++)
            if (names->entries[i].len == names->entries[k].len &&
                memcmp(names->entries[i].base, names->entries[k].base, names->entries[i].len) == 0) {
                is_good = gw_error_at(loader->errors, names->at[i], "certificate \"%.*s\" is listed twice",
                                      (int)names->entries[i].len, names->entries[i].base);
                break;
            }
    return is_good;
}

const struct gw_section tls_listener_section = {
    .name = "TLS listener",
    .help = "TLS of one listener: policy, certificates, resumption.",
    .size = sizeof(struct tls_listener_conf),
    .settings = settings,
    .check = check,
};

struct served {
    X509 *leaf;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

/* What the callbacks of one SSL_CTX use. Belongs to the SSL_CTX (ex_data), so it lives as long as the last SSL. */
struct server {
    struct served *served;
    size_t num_served;
    struct tls_sni *sni;
    unsigned char identity[SHA256_DIGEST_LENGTH]; /* of listener and policy, for resumption */
    unsigned char *alpn;                          /* as on the wire: length, bytes, ... */
    unsigned alpn_len;
    bool alpn_is_optional;
    void (*on_hello)(h2o_socket_t *, SSL *); /* NULL: nobody asks */
};

struct tls_context {
    SSL_CTX *ssl;
    struct server *server; /* owned by ssl */
    const struct tls_listener_conf *conf;
    struct tls_certificate *const *certificates; /* a copy of the caller's array of borrowed pointers */
};

static int server_index = -1;

static void free_server(void *parent, void *_self, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    struct server *self = _self;
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->num_served; i++) {
        X509_free(self->served[i].leaf);
        sk_X509_pop_free(self->served[i].chain, X509_free);
        EVP_PKEY_free(self->served[i].key);
    }
    tls_sni_destroy(self->sni);
    free(self->served);
    free(self->alpn);
    free(self);
}

static void make_server_index(void)
{
    server_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_server);
    assert(server_index >= 0);
}

static struct server *server_of(SSL *ssl) { return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), server_index); }

/* certificates.size: it stands behind those that are listed. */
static size_t find_default(const struct tls_listener_conf *conf)
{
    const h2o_iovec_t name = conf->default_certificate;
    size_t i = 0;

    if (name.base == NULL)
        return 0;
    while (i != conf->certificates.size &&
           !h2o_memis(conf->certificates.entries[i].base, conf->certificates.entries[i].len, name.base, name.len))
        ++i;
    return i;
}

bool tls_default_is_apart(const struct tls_listener_conf *conf)
{
    return conf->default_certificate.base != NULL && find_default(conf) == conf->certificates.size;
}

static struct server *create_server(const struct tls_listener_conf *conf, h2o_iovec_t id,
                                    struct tls_certificate *const *certificates, size_t num_certificates,
                                    const char *const *alpn, size_t num_alpn)
{
    const struct tls_policy *policy = tls_policy_at(conf->policy);
    struct server *self = h2o_mem_alloc(sizeof(*self));
    size_t num_listed = num_certificates - tls_default_is_apart(conf);
    *self = (struct server){.served = h2o_mem_alloc(num_certificates * sizeof(struct served)),
                            .num_served = num_certificates,
                            .sni = tls_sni_create(certificates, num_certificates, num_listed, find_default(conf)),
                            .alpn_is_optional = conf->alpn.size != 0};
    for (size_t i = 0; i < num_certificates; i++) {
        const struct tls_certificate *from = certificates[i];
        X509_up_ref(from->leaf);
        EVP_PKEY_up_ref(from->key);
        self->served[i] = (struct served){from->leaf, X509_chain_up_ref(from->chain), from->key};
    }
    for (size_t i = 0; i < num_alpn; i++) {
        size_t len = strlen(alpn[i]);
        assert(len != 0 && len < 256);
        self->alpn = h2o_mem_realloc(self->alpn, self->alpn_len + 1 + len);
        self->alpn[self->alpn_len] = (unsigned char)len;
        memcpy(self->alpn + self->alpn_len + 1, alpn[i], len);
        self->alpn_len += 1 + (unsigned)len;
    }
    h2o_iovec_t identity =
        h2o_concat(NULL, id, h2o_iovec_init("\0", 1), h2o_iovec_init(policy->name, strlen(policy->name)));
    SHA256((unsigned char *)identity.base, identity.len, self->identity);
    free(identity.base);
    return self;
}

/* The host name of a ClientHello's server_name extension (RFC 6066 3); base NULL when there is none. Malformed ones are
 * for OpenSSL to refuse. */
static h2o_iovec_t hello_server_name(SSL *ssl)
{
    const unsigned char *p;
    size_t len;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len) != 1 || len < 5 ||
        p[2] != TLSEXT_NAMETYPE_host_name)
        return h2o_iovec_init(NULL, 0);
    size_t name_len = (size_t)p[3] << 8 | p[4];
    return name_len <= len - 5 ? h2o_iovec_init(p + 5, name_len) : h2o_iovec_init(NULL, 0);
}

/* Sessions are bound to listener, policy and server name before OpenSSL looks for one. RFC 6066 3 forbids to resume
 * under another name; OpenSSL leaves that to us. A changed policy starts afresh: else a session would keep a cipher
 * that the new policy forbids. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    const struct server *self = server_of(ssl);
    unsigned char bytes[SHA256_DIGEST_LENGTH + TLS_NAME_MAX + 1], context[SHA256_DIGEST_LENGTH];
    size_t name_len;
    h2o_iovec_t name = hello_server_name(ssl);
    if (name.base == NULL || !tls_name_canonical(name, false, (char *)bytes + SHA256_DIGEST_LENGTH, &name_len))
        name_len = 0;
    memcpy(bytes, self->identity, SHA256_DIGEST_LENGTH);
    SHA256(bytes, SHA256_DIGEST_LENGTH + name_len, context);
    tls_socket_watch_alerts(ssl);
    h2o_socket_t *sock = tls_socket_of(ssl);
    if (sock != NULL && self->on_hello != NULL)
        self->on_hello(sock, ssl);
    return SSL_set_session_id_context(ssl, context, sizeof(context)) == 1 ? SSL_CLIENT_HELLO_SUCCESS
                                                                          : SSL_CLIENT_HELLO_ERROR;
}

/* RFC 6066 3: a name that was used is acknowledged. */
static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* Not called when a session is resumed. */
static int on_certificate(SSL *ssl, void *arg)
{
    const struct server *self = server_of(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct tls_sni_choice choice = tls_sni_choose(self->sni, h2o_iovec_init(name, name != NULL ? strlen(name) : 0),
                                                  tls_client_key_kinds(ssl), time(NULL));
    const struct served *served = &self->served[choice.certificate];
    return SSL_use_cert_and_key(ssl, served->leaf, served->key, served->chain, 1);
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    const struct server *self = server_of(ssl);
    if (SSL_select_next_proto((unsigned char **)out, out_len, self->alpn, self->alpn_len, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return self->alpn_is_optional ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

static void on_info(const SSL *ssl, int where, int ret)
{
    if (where & SSL_CB_HANDSHAKE_DONE)
        tls_socket_unwatch_alerts((SSL *)ssl);
}

static void set_resumption(SSL_CTX *ssl, struct tls_tickets *tickets)
{
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    if (tickets != NULL) {
        tls_tickets_install(tickets, ssl);
    } else {
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
    }
}

static const struct gw_node *node_of(const struct tls_listener_conf *conf, size_t certificate)
{
    if (certificate < conf->certificates.size)
        return conf->certificates.at[certificate];
    return conf->default_certificate.base != NULL ? gw_setting_at(conf->at, "default_certificate") : conf->at;
}

/* Every certificate must get through OpenSSL's own checks now, not in the first handshake that needs it. */
static bool try_certificates(const struct tls_context *self, struct gw_errors *errors)
{
    bool is_good = true;
    SSL *probe = SSL_new(self->ssl);
    for (size_t i = 0; i < self->server->num_served; i++) {
        const struct served *it = &self->server->served[i];
        ERR_clear_error();
        if (SSL_use_cert_and_key(probe, it->leaf, it->key, it->chain, 1) == 1)
            continue;
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        is_good = gw_error_at(errors, node_of(self->conf, i), "certificate \"%.*s\" cannot serve under policy %s: %s",
                              (int)self->certificates[i]->name.len, self->certificates[i]->name.base,
                              tls_policy_names[self->conf->policy], reason != NULL ? reason : "refused by OpenSSL");
    }
    ERR_clear_error();
    SSL_free(probe);
    return is_good;
}

static void set_callbacks(SSL_CTX *ssl, const struct server *server)
{
    SSL_CTX_set_client_hello_cb(ssl, on_client_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(ssl, on_server_name);
    SSL_CTX_set_cert_cb(ssl, on_certificate, NULL);
    SSL_CTX_set_info_callback(ssl, on_info);
    SSL_CTX_set_msg_callback(ssl, tls_socket_on_message);
    if (server->alpn_len != 0)
        SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
}

struct tls_context *tls_context_create(const struct tls_listener_conf *conf, h2o_iovec_t id,
                                       struct tls_certificate *const *certificates, size_t num_certificates,
                                       const char *const *alpn, size_t num_alpn, struct tls_tickets *tickets,
                                       struct gw_errors *errors)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_server_index);
    const struct tls_policy *policy = tls_policy_at(conf->policy);
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    if (ssl == NULL || !tls_policy_apply(policy, ssl)) {
        SSL_CTX_free(ssl);
        ERR_clear_error();
        gw_error_at(errors, conf->at, "this OpenSSL does not support policy %s", policy->name);
        return NULL;
    }
    struct server *server = create_server(conf, id, certificates, num_certificates, alpn, num_alpn);
    if (SSL_CTX_set_ex_data(ssl, server_index, server) != 1)
        h2o_fatal("no memory");
    /* 32 KiB of record buffers given back while a connection idles */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    set_resumption(ssl, conf->session_tickets && conf->client_auth.mode == TLS_CLIENT_AUTH_OFF ? tickets : NULL);
    set_callbacks(ssl, server);

    struct tls_context *self = h2o_mem_alloc(sizeof(*self));
    struct tls_certificate **copy = h2o_mem_alloc(num_certificates * sizeof(*copy));
    memcpy(copy, certificates, num_certificates * sizeof(*copy));
    *self = (struct tls_context){.ssl = ssl, .server = server, .conf = conf, .certificates = copy};
    bool is_good = tls_client_auth_install(&conf->client_auth, ssl, time(NULL), errors);
    if (!try_certificates(self, errors) || !is_good) {
        tls_context_destroy(self);
        return NULL;
    }
    return self;
}

void tls_context_destroy(struct tls_context *self)
{
    if (self == NULL)
        return;
    SSL_CTX_free(self->ssl);
    free((void *)self->certificates);
    free(self);
}

bool tls_chose_h2(SSL *ssl)
{
    const unsigned char *name;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &name, &len);
    return len == 2 && memcmp(name, "h2", 2) == 0;
}

SSL_CTX *tls_context_ssl(struct tls_context *self) { return self->ssl; }

void tls_context_on_hello(struct tls_context *self, void (*on_hello)(h2o_socket_t *, SSL *))
{
    self->server->on_hello = on_hello;
}

const struct tls_certificate *tls_context_select(const struct tls_context *self, h2o_iovec_t server_name,
                                                 struct gw_trace *trace)
{
    static const char *const reasons[] = {
        [TLS_SNI_EXACT] = "has exactly this name",
        [TLS_SNI_WILDCARD] = "has a wildcard for this name",
        [TLS_SNI_NO_NAME] = "the default, as the client names no host",
        [TLS_SNI_UNKNOWN] = "the default, as no certificate has this name",
    };
    struct tls_sni_choice choice = tls_sni_choose(self->server->sni, server_name, TLS_KEY_ANY, time(NULL));
    const struct tls_certificate *chosen = self->certificates[choice.certificate];
    gw_trace(trace, "certificate", node_of(self->conf, choice.certificate), "\"%.*s\" (%s, %u bits): %s",
             (int)chosen->name.len, chosen->name.base, chosen->is_ecdsa ? "ECDSA" : "RSA", chosen->key_bits,
             reasons[choice.why]);
    return chosen;
}
