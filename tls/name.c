#include "tls/name.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/x509v3.h>

static bool is_name_byte(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

bool tls_name_canonical(h2o_iovec_t name, bool allow_wildcard, char *out, size_t *out_len)
{
    if (name.len != 0 && name.base[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > TLS_NAME_MAX)
        return false;
    size_t label_len = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];
        if (c >= 'A' && c <= 'Z')
            c += 'a' - 'A';
        bool is_wildcard = allow_wildcard && c == '*' && i == 0 && name.len > 2 && name.base[1] == '.';
        if (c == '.' && label_len == 0)
            return false;
        if (c != '.' && !is_name_byte(c) && !is_wildcard)
            return false;
        label_len = c == '.' ? 0 : label_len + 1;
        if (label_len > 63)
            return false;
        out[i] = c;
    }
    out[name.len] = '\0';
    *out_len = name.len;
    return label_len != 0;
}

bool tls_name_matches_wildcard(h2o_iovec_t pattern, h2o_iovec_t name)
{
    if (pattern.len < 3 || pattern.base[0] != '*' || pattern.base[1] != '.')
        return false;
    const char *dot = memchr(name.base, '.', name.len);
    if (dot == NULL || dot == name.base)
        return false;
    size_t rest = name.len - (dot - name.base);
    return rest == pattern.len - 1 && memcmp(dot, pattern.base + 1, rest) == 0;
}

/* Names are gathered in one block: first room for the slices, then their bytes. */
struct gathered {
    h2o_iovec_t *entries;
    size_t size, capacity;
    char *bytes;
};

static void gather(struct gathered *to, const char *text, size_t len)
{
    if (to->size == to->capacity)
        return;
    memcpy(to->bytes, text, len);
    to->bytes[len] = '\0';
    to->entries[to->size++] = h2o_iovec_init(to->bytes, len);
    to->bytes += len + 1;
}

static void gather_dns(struct gathered *to, const char *text, size_t len)
{
    char name[TLS_NAME_MAX + 1];
    size_t name_len;
    if (tls_name_canonical(h2o_iovec_init(text, len), true, name, &name_len))
        gather(to, name, name_len);
}

static void gather_ip(struct gathered *to, const ASN1_OCTET_STRING *address)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(address);
    int family = len == 4 ? AF_INET : len == 16 ? AF_INET6 : AF_UNSPEC;
    if (family != AF_UNSPEC && inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof(text)) != NULL)
        gather(to, text, strlen(text));
}

static void gather_common_names(struct gathered *to, const X509 *leaf)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;) {
        unsigned char *text = NULL;
        int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
        if (len > 0)
            gather_dns(to, (char *)text, len);
        OPENSSL_free(text);
    }
}

size_t tls_names_of(const X509 *leaf, h2o_iovec_t **names)
{
    GENERAL_NAMES *alternatives = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    int num_alternatives = alternatives != NULL ? sk_GENERAL_NAME_num(alternatives) : 0;
    size_t capacity = num_alternatives + X509_NAME_entry_count(X509_get_subject_name(leaf));
    struct gathered to = {.capacity = capacity};
    if (capacity != 0) {
        to.entries = h2o_mem_alloc(capacity * (sizeof(h2o_iovec_t) + TLS_NAME_MAX + 1));
        to.bytes = (char *)(to.entries + capacity);
    }
    bool has_host = false;
    for (int i = 0; i < num_alternatives; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(alternatives, i);
        has_host |= name->type == GEN_DNS || name->type == GEN_IPADD;
        if (name->type == GEN_DNS)
            gather_dns(&to, (const char *)ASN1_STRING_get0_data(name->d.dNSName), ASN1_STRING_length(name->d.dNSName));
        else if (name->type == GEN_IPADD)
            gather_ip(&to, name->d.iPAddress);
    }
    if (!has_host)
        gather_common_names(&to, leaf);
    GENERAL_NAMES_free(alternatives);
    if (to.size == 0) {
        free(to.entries);
        to.entries = NULL;
    }
    *names = to.entries;
    return to.size;
}
