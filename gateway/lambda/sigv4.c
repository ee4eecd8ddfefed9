#include "gateway/lambda/sigv4.h"
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <string.h>
#include <h2o/string_.h>

enum { DATE_LEN = 8, HASH_LEN = SHA256_DIGEST_LENGTH };

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static void to_hex(const unsigned char *src, char *dst)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i != HASH_LEN; ++i) {
        *dst++ = digits[src[i] >> 4];
        *dst++ = digits[src[i] & 15];
    }
}

void gw_sha256_hex(h2o_iovec_t bytes, char hex[GW_SHA256_HEX])
{
    unsigned char hash[HASH_LEN];
    SHA256((const unsigned char *)bytes.base, bytes.len, hash);
    to_hex(hash, hex);
}

static void sign(const void *key, size_t key_len, h2o_iovec_t message, unsigned char out[HASH_LEN])
{
    HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)message.base, message.len, out, NULL);
}

static bool is_unreserved(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

/* Every service but S3 wants the path encoded twice. */
static h2o_iovec_t canonical_path(h2o_mem_pool_t *pool, h2o_iovec_t path)
{
    static const char digits[] = "0123456789ABCDEF";
    h2o_iovec_t out = h2o_iovec_init(h2o_mem_alloc_pool(pool, path.len * 3 + 1), 0);
    for (size_t i = 0; i != path.len; ++i) {
        unsigned char c = (unsigned char)path.base[i];
        if (is_unreserved((char)c) || c == '/') {
            out.base[out.len++] = (char)c;
        } else {
            out.base[out.len++] = '%';
            out.base[out.len++] = digits[c >> 4];
            out.base[out.len++] = digits[c & 15];
        }
    }
    return out;
}

static h2o_iovec_t signed_names(h2o_mem_pool_t *pool, const struct gw_sigv4 *s)
{
    h2o_iovec_t names = {"", 0};
    for (size_t i = 0; i != s->num_fields; ++i)
        names = h2o_concat(pool, names, h2o_iovec_init(";", i != 0), s->fields[i][0]);
    return names;
}

static h2o_iovec_t canonical_request(h2o_mem_pool_t *pool, const struct gw_sigv4 *s, h2o_iovec_t names)
{
    h2o_iovec_t newline = {H2O_STRLIT("\n")}, fields = {"", 0};
    for (size_t i = 0; i != s->num_fields; ++i)
        fields = h2o_concat(pool, fields, s->fields[i][0], text(":"), s->fields[i][1], newline);
    return h2o_concat(pool, s->method, newline, canonical_path(pool, s->path), newline, s->query, newline, fields,
                      newline, names, newline, s->body_hash);
}

static void derive_key(h2o_mem_pool_t *pool, const struct gw_sigv4 *s, unsigned char key[HASH_LEN])
{
    h2o_iovec_t secret = h2o_concat(pool, text("AWS4"), s->secret_key);

    sign(secret.base, secret.len, h2o_iovec_init(s->time, DATE_LEN), key);
    OPENSSL_cleanse(secret.base, secret.len);
    sign(key, HASH_LEN, s->region, key);
    sign(key, HASH_LEN, s->service, key);
    sign(key, HASH_LEN, text("aws4_request"), key);
}

h2o_iovec_t gw_sigv4_authorization(h2o_mem_pool_t *pool, const struct gw_sigv4 *s)
{
    h2o_iovec_t names = signed_names(pool, s), request = canonical_request(pool, s, names);
    h2o_iovec_t scope = h2o_concat(pool, h2o_iovec_init(s->time, DATE_LEN), text("/"), s->region, text("/"), s->service,
                                   text("/aws4_request"));
    unsigned char key[HASH_LEN], mac[HASH_LEN];
    char hash[GW_SHA256_HEX], signature[GW_SHA256_HEX];

    gw_sha256_hex(request, hash);
    derive_key(pool, s, key);
    sign(key, sizeof(key),
         h2o_concat(pool, text("AWS4-HMAC-SHA256\n"), text(s->time), text("\n"), scope, text("\n"),
                    h2o_iovec_init(hash, sizeof(hash))),
         mac);
    OPENSSL_cleanse(key, sizeof(key));
    to_hex(mac, signature);
    return h2o_concat(pool, text("AWS4-HMAC-SHA256 Credential="), s->access_key, text("/"), scope,
                      text(", SignedHeaders="), names, text(", Signature="),
                      h2o_iovec_init(signature, sizeof(signature)));
}
