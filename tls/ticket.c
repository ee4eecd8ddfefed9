#include "tls/ticket.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <h2o/memory.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define DEFAULT_ROTATE_S (12 * 3600)
#define MAX_LIFETIME_S   (7 * 24 * 3600) /* RFC 8446 4.6.1 */
#define NUM_KEYS         3

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};

/* Immutable once published. */
struct key_set {
    size_t num_keys;
    struct ticket_key keys[NUM_KEYS]; /* the newest first: it encrypts */
};

struct tls_tickets {
    uint64_t rotate_s;                 /* frozen */
    EVP_CIPHER *cipher;                /* frozen; fetched once: the fetch behind EVP_aes_256_cbc() takes a lock */
    _Atomic(struct key_set *) current; /* atomic: replaced by the ticking thread, read by all */
    struct key_set *retired;           /* ticking thread: the set before current */
    uint64_t made_s;                   /* ticking thread: wall time of the newest key; 0 = before the first tick */
};

static int context_index = -1;

static void make_context_index(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    assert(context_index >= 0);
}

static void free_key_set(struct key_set *set)
{
    if (set == NULL)
        return;
    OPENSSL_cleanse(set, sizeof(*set));
    free(set);
}

static struct key_set *make_key_set(const struct key_set *before)
{
    struct key_set *set = h2o_mem_alloc(sizeof(*set));
    memset(set, 0, sizeof(*set));
    struct ticket_key *key = &set->keys[0];
    if (RAND_bytes(key->name, sizeof(key->name)) != 1 || RAND_priv_bytes(key->cipher, sizeof(key->cipher)) != 1 ||
        RAND_priv_bytes(key->mac, sizeof(key->mac)) != 1) {
        free_key_set(set);
        return NULL;
    }
    set->num_keys = 1;
    for (size_t i = 0; before != NULL && i < before->num_keys && set->num_keys < NUM_KEYS; i++)
        set->keys[set->num_keys++] = before->keys[i];
    return set;
}

struct tls_tickets *tls_tickets_create(uint64_t rotate_s)
{
    struct tls_tickets *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    self->rotate_s = rotate_s != 0 ? rotate_s : DEFAULT_ROTATE_S;
    self->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    struct key_set *set = make_key_set(NULL);
    if (self->cipher == NULL || set == NULL)
        h2o_fatal("no random numbers or no AES in OpenSSL");
    atomic_init(&self->current, set);
    return self;
}

void tls_tickets_destroy(struct tls_tickets *self)
{
    if (self == NULL)
        return;
    free_key_set(atomic_load(&self->current));
    free_key_set(self->retired);
    EVP_CIPHER_free(self->cipher);
    free(self);
}

bool tls_tickets_tick(struct tls_tickets *self, uint64_t now_s)
{
    if (self->made_s == 0 || now_s < self->made_s) { /* the first tick, or the wall clock was set back */
        self->made_s = now_s;
        return false;
    }
    if (now_s - self->made_s < self->rotate_s)
        return false;
    struct key_set *before = atomic_load_explicit(&self->current, memory_order_relaxed);
    struct key_set *set = make_key_set(before);
    if (set == NULL)
        return false; /* OpenSSL has no entropy: the old key serves until the next tick */
    atomic_store_explicit(&self->current, set, memory_order_release);
    /* A handshake holds a set for microseconds. What was retired one whole rotation ago has no reader left; freeing it
     * now, and not at exit, is what makes old tickets unreadable to whoever gets at our memory later. */
    free_key_set(self->retired);
    self->retired = before;
    self->made_s = now_s;
    return true;
}

static bool set_mac_key(EVP_MAC_CTX *mac, struct ticket_key *key)
{
    OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
                           OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_END};
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int encrypt_ticket(struct tls_tickets *self, struct key_set *set, unsigned char *name, unsigned char *iv,
                          EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    struct ticket_key *key = &set->keys[0];
    memcpy(name, key->name, sizeof(key->name));
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(self->cipher)) != 1 ||
        EVP_EncryptInit_ex2(cipher, self->cipher, key->cipher, iv, NULL) != 1 || !set_mac_key(mac, key))
        return -1;
    return 1;
}

static int decrypt_ticket(struct tls_tickets *self, struct key_set *set, const unsigned char *name,
                          const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    for (size_t i = 0; i < set->num_keys; i++) {
        struct ticket_key *key = &set->keys[i];
        if (memcmp(name, key->name, sizeof(key->name)) != 0) /* the key name is sent in clear, nothing to hide */
            continue;
        if (EVP_DecryptInit_ex2(cipher, self->cipher, key->cipher, iv, NULL) != 1 || !set_mac_key(mac, key))
            return -1;
        return i == 0 ? 1 : 2; /* 2: good, and please replace it */
    }
    return 0;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                     int is_encrypting)
{
    struct tls_tickets *self = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index);
    if (self == NULL)
        return 0; /* no ticket; none was ours */
    struct key_set *set = atomic_load_explicit(&self->current, memory_order_acquire);
    return is_encrypting ? encrypt_ticket(self, set, name, iv, cipher, mac)
                         : decrypt_ticket(self, set, name, iv, cipher, mac);
}

void tls_tickets_install(struct tls_tickets *self, SSL_CTX *ctx)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_context_index);
    SSL_CTX_set_ex_data(ctx, context_index, self);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    uint64_t lifetime_s = 2 * self->rotate_s;
    SSL_CTX_set_timeout(ctx, (long)(lifetime_s < MAX_LIFETIME_S ? lifetime_s : MAX_LIFETIME_S));
    SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
}

/* ---- between processes ---- */

/* Time of the newest key, number of keys, keys; in hexadecimal. */
struct exported {
    uint64_t made_s, num_keys;
    struct ticket_key keys[NUM_KEYS];
};
_Static_assert(sizeof(struct exported) * 2 < TLS_TICKETS_TEXT, "the keys need more room");

void tls_tickets_export(const struct tls_tickets *self, char *text)
{
    const struct key_set *set = atomic_load_explicit(&self->current, memory_order_relaxed);
    struct exported exported = {.made_s = self->made_s, .num_keys = set->num_keys};

    memcpy(exported.keys, set->keys, sizeof(exported.keys));
    for (size_t i = 0; i != sizeof(exported); ++i)
        sprintf(text + i * 2, "%02x", ((const unsigned char *)&exported)[i]);
    OPENSSL_cleanse(&exported, sizeof(exported));
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static bool read_exported(const char *text, struct exported *exported)
{
    if (strlen(text) != sizeof(*exported) * 2)
        return false;
    for (size_t i = 0; i != sizeof(*exported); ++i) {
        int high = digit(text[i * 2]), low = digit(text[i * 2 + 1]);
        if (high < 0 || low < 0)
            return false;
        ((unsigned char *)exported)[i] = (unsigned char)(high << 4 | low);
    }
    return exported->num_keys >= 1 && exported->num_keys <= NUM_KEYS;
}

bool tls_tickets_import(struct tls_tickets *self, const char *text)
{
    struct exported exported;
    bool ok = read_exported(text, &exported);

    if (ok) {
        struct key_set *set = atomic_load_explicit(&self->current, memory_order_relaxed);
        set->num_keys = exported.num_keys;
        memcpy(set->keys, exported.keys, sizeof(set->keys));
        self->made_s = exported.made_s;
    }
    OPENSSL_cleanse(&exported, sizeof(exported));
    return ok;
}
