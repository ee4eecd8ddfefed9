#include "tls/self_signed.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include "tls/name.h"

#define DAY_S   86400
#define LIFE_S  (397 * DAY_S)
#define RENEW_S (31 * DAY_S) /* before the warnings about expiry begin */

struct made {
    struct made *next;
    char *names;
    X509 *leaf;
    EVP_PKEY *key;
    time_t not_after;
};

/* The one thing that outlives every snapshot without being found from it: clients that pinned or accepted the
 * certificate must see the same one after a reload. */
static struct {
    pthread_mutex_t lock;
    struct made *first; /* under lock */
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool read_ip(h2o_iovec_t name, unsigned char *bytes, int *len)
{
    char text[INET6_ADDRSTRLEN];
    if (name.len >= sizeof(text))
        return false;
    memcpy(text, name.base, name.len);
    text[name.len] = '\0';
    *len = strchr(text, ':') != NULL ? 16 : 4;
    return inet_pton(*len == 16 ? AF_INET6 : AF_INET, text, bytes) == 1;
}

bool tls_self_signed_takes(h2o_iovec_t name)
{
    unsigned char ip[16];
    char text[TLS_NAME_MAX + 1];
    int ip_len;
    size_t len;
    return read_ip(name, ip, &ip_len) || tls_name_canonical(name, true, text, &len);
}

static GENERAL_NAME *make_name(h2o_iovec_t name)
{
    unsigned char ip[16];
    char text[TLS_NAME_MAX + 1];
    int ip_len;
    size_t len;
    GENERAL_NAME *made = GENERAL_NAME_new();
    if (read_ip(name, ip, &ip_len)) {
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(value, ip, ip_len);
        GENERAL_NAME_set0_value(made, GEN_IPADD, value);
    } else if (tls_name_canonical(name, true, text, &len)) {
        ASN1_IA5STRING *value = ASN1_IA5STRING_new();
        ASN1_STRING_set(value, text, (int)len);
        GENERAL_NAME_set0_value(made, GEN_DNS, value);
    } else {
        GENERAL_NAME_free(made);
        return NULL;
    }
    return made;
}

static bool add_names(X509 *leaf, const struct gw_texts *names)
{
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    bool is_good = true;
    for (size_t i = 0; i < names->size && is_good; i++) {
        GENERAL_NAME *name = make_name(names->entries[i]);
        is_good = name != NULL && sk_GENERAL_NAME_push(all, name) != 0;
    }
    is_good = is_good && X509_add1_ext_i2d(leaf, NID_subject_alt_name, all, 0, 0) == 1;
    GENERAL_NAMES_free(all);
    return is_good;
}

static bool add_extension(X509 *leaf, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, leaf, leaf, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool is_good = extension != NULL && X509_add_ext(leaf, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_good;
}

static bool set_serial(X509 *leaf)
{
    unsigned char random[16];
    if (RAND_bytes(random, sizeof(random)) != 1)
        return false;
    random[0] = (random[0] & 0x7f) | 0x40; /* positive and of full length */
    BIGNUM *number = BN_bin2bn(random, sizeof(random), NULL);
    bool is_good = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(leaf)) != NULL;
    BN_free(number);
    return is_good;
}

static X509 *make_leaf(const struct gw_texts *names, time_t now, EVP_PKEY *key)
{
    X509 *leaf = X509_new();
    X509_NAME *subject = X509_get_subject_name(leaf);
    bool is_good =
        X509_set_version(leaf, X509_VERSION_3) == 1 && set_serial(leaf) &&
        ASN1_TIME_set(X509_getm_notBefore(leaf), now - 3600) != NULL && /* clients whose clock is behind */
        ASN1_TIME_set(X509_getm_notAfter(leaf), now + LIFE_S) != NULL &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (unsigned char *)"weir self-signed", -1, -1, 0) == 1 &&
        X509_set_issuer_name(leaf, subject) == 1 && X509_set_pubkey(leaf, key) == 1 && add_names(leaf, names) &&
        add_extension(leaf, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(leaf, NID_key_usage, "critical,digitalSignature") &&
        add_extension(leaf, NID_ext_key_usage, "serverAuth") &&
        add_extension(leaf, NID_subject_key_identifier, "hash") && X509_sign(leaf, key, EVP_sha256()) != 0;
    if (is_good)
        return leaf;
    X509_free(leaf);
    return NULL;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Sorted, so that the order in the file does not matter. malloc'ed. */
static char *join_names(const struct gw_texts *names)
{
    char **sorted = h2o_mem_alloc(sizeof(*sorted) * (names->size + 1));
    size_t len = 1;
    for (size_t i = 0; i < names->size; i++) {
        h2o_iovec_t copy = h2o_strdup(NULL, names->entries[i].base, names->entries[i].len);
        h2o_strtolower(copy.base, copy.len);
        sorted[i] = copy.base;
        len += copy.len + 1;
    }
    qsort(sorted, names->size, sizeof(*sorted), compare_names);
    char *joined = h2o_mem_alloc(len), *to = joined;
    for (size_t i = 0; i < names->size; i++) {
        to = stpcpy(to, sorted[i]);
        *to++ = ' ';
        free(sorted[i]);
    }
    *to = '\0';
    free(sorted);
    return joined;
}

static struct made *find_made(const char *names)
{
    for (struct made *made = cache.first; made != NULL; made = made->next)
        if (strcmp(made->names, names) == 0)
            return made;
    struct made *made = h2o_mem_alloc(sizeof(*made));
    *made = (struct made){.next = cache.first, .names = h2o_strdup(NULL, names, SIZE_MAX).base};
    cache.first = made;
    return made;
}

static bool renew(struct made *made, const struct gw_texts *names, time_t now)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *leaf = key != NULL ? make_leaf(names, now, key) : NULL;
    if (leaf == NULL) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        return false;
    }
    X509_free(made->leaf);
    EVP_PKEY_free(made->key);
    made->leaf = leaf;
    made->key = key;
    made->not_after = now + LIFE_S;
    return true;
}

bool tls_self_signed(const struct gw_texts *names, time_t now, X509 **leaf, EVP_PKEY **key)
{
    char *joined = join_names(names);
    pthread_mutex_lock(&cache.lock);
    struct made *made = find_made(joined);
    bool is_good = (made->leaf != NULL && now < made->not_after - RENEW_S) || renew(made, names, now);
    if (is_good) {
        X509_up_ref(made->leaf);
        EVP_PKEY_up_ref(made->key);
        *leaf = made->leaf;
        *key = made->key;
    }
    pthread_mutex_unlock(&cache.lock);
    free(joined);
    return is_good;
}
