#include <stdio.h>
#include <string.h>
#include <time.h>
#include <h2o/time_.h>
#include <openssl/evp.h>
#include "routing/balance.h"
#include "routing/sticky.h"

enum {
    KEY = 32,
    TAG = 16,
    VERSION = 1,
    PLAIN = 17 /* version, what, until */,
    SEALED = ROUTING_STICKY_NONCE + PLAIN + TAG
};
_Static_assert(SEALED % 3 == 0 && SEALED / 3 * 4 == ROUTING_STICKY_VALUE, "no padding");

struct routing_sticky_keys {
    EVP_CIPHER *cipher; /* looked up once: that takes longer than sealing */
    size_t size;
    uint8_t keys[][KEY];
};

struct routing_sticky_keys *routing_sticky_keys_create(const h2o_iovec_t *secrets, size_t n)
{
    static const char purpose[] = "weir stickiness";
    struct routing_sticky_keys *self = h2o_mem_alloc(sizeof(*self) + n * KEY);

    self->size = n;
    self->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    for (size_t i = 0; i != n; ++i) { /* the same secret may seal other things elsewhere: not with the same key */
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
        EVP_DigestUpdate(ctx, purpose, sizeof(purpose));
        EVP_DigestUpdate(ctx, secrets[i].base, secrets[i].len);
        EVP_DigestFinal_ex(ctx, self->keys[i], NULL);
        EVP_MD_CTX_free(ctx);
    }
    return self;
}

void routing_sticky_keys_destroy(struct routing_sticky_keys *self)
{
    if (self == NULL)
        return;
    EVP_CIPHER_free(self->cipher);
    explicit_bzero(self->keys, self->size * KEY);
    free(self);
}

static void put_u64(uint8_t *p, uint64_t n)
{
    for (int i = 0; i != 8; ++i)
        p[i] = (uint8_t)(n >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t n = 0;
    for (int i = 0; i != 8; ++i)
        n = n << 8 | p[i];
    return n;
}

/* Seals and opens alike: text in, text out, tag written or checked. */
static bool run_gcm(const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *nonce, h2o_iovec_t context,
                    const uint8_t *in, uint8_t *out, uint8_t *tag, bool seals)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok = EVP_CipherInit_ex(ctx, cipher, NULL, key, nonce, seals) == 1 &&
              EVP_CipherUpdate(ctx, NULL, &len, (const uint8_t *)context.base, (int)context.len) == 1 &&
              EVP_CipherUpdate(ctx, out, &len, in, PLAIN) == 1 &&
              (seals || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1) &&
              EVP_CipherFinal_ex(ctx, out + len, &len) == 1 &&
              (!seals || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

void routing_sticky_seal(const struct routing_sticky_keys *self, h2o_iovec_t context, uint64_t what, uint64_t until_s,
                         const uint8_t nonce[ROUTING_STICKY_NONCE], char *value)
{
    uint8_t plain[PLAIN], sealed[SEALED];
    char text[ROUTING_STICKY_VALUE + 1];

    plain[0] = VERSION;
    put_u64(plain + 1, what);
    put_u64(plain + 9, until_s);
    memcpy(sealed, nonce, ROUTING_STICKY_NONCE);
    if (!run_gcm(self->cipher, self->keys[0], nonce, context, plain, sealed + ROUTING_STICKY_NONCE,
                 sealed + ROUTING_STICKY_NONCE + PLAIN, true))
        h2o_fatal("AES-256-GCM does not work");
    EVP_EncodeBlock((uint8_t *)text, sealed, SEALED);
    memcpy(value, text, ROUTING_STICKY_VALUE);
}

static bool is_base64(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i) {
        char c = text.base[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

bool routing_sticky_open(const struct routing_sticky_keys *self, h2o_iovec_t context, h2o_iovec_t value, uint64_t now_s,
                         uint64_t *what)
{
    uint8_t plain[PLAIN], sealed[SEALED];

    if (value.len != ROUTING_STICKY_VALUE || !is_base64(value))
        return false;
    EVP_DecodeBlock(sealed, (const uint8_t *)value.base, ROUTING_STICKY_VALUE);
    for (size_t i = 0; i != self->size; ++i) {
        if (!run_gcm(self->cipher, self->keys[i], sealed, context, sealed + ROUTING_STICKY_NONCE, plain,
                     sealed + ROUTING_STICKY_NONCE + PLAIN, false))
            continue;
        *what = get_u64(plain + 1);
        return plain[0] == VERSION && now_s < get_u64(plain + 9);
    }
    return false;
}

uint64_t routing_sticky_id(h2o_iovec_t name) { return routing_balance_hash(name, 3); }

h2o_iovec_t routing_sticky_cookie(h2o_mem_pool_t *pool, h2o_iovec_t name, const char value[ROUTING_STICKY_VALUE],
                                  uint64_t now_s, bool is_cross_site, bool is_secure)
{
    static const uint64_t LIFE_S = 7 * 86400;
    char expires[H2O_TIMESTR_RFC1123_LEN + 1];
    time_t at = (time_t)(now_s + LIFE_S);
    struct tm tm;
    size_t max = name.len + ROUTING_STICKY_VALUE + 96;
    char *text = h2o_mem_alloc_pool(pool, max);

    gmtime_r(&at, &tm);
    h2o_time2str_rfc1123(expires, &tm);
    int len = snprintf(text, max, "%.*s=%.*s; Expires=%s; Path=/%s%s", (int)name.len, name.base, ROUTING_STICKY_VALUE,
                       value, expires, is_cross_site ? "; SameSite=None" : "", is_secure ? "; Secure" : "");
    return h2o_iovec_init(text, len);
}
