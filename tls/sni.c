#include "tls/sni.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>
#include "gateway/base/hash.h"
#include "tls/name.h"

struct rank {
    time_t not_after;
    unsigned kind, hash_bits, key_bits;
};

struct slot {
    h2o_iovec_t name; /* base NULL: free */
    uint32_t *certificates;
    size_t num_certificates;
};

struct tls_sni {
    struct rank *ranks; /* of each certificate */
    size_t num_ranks;
    size_t default_certificate;
    struct slot *slots; /* open addressing, at most half full */
    size_t mask;
    h2o_iovec_t default_name; /* borrowed from a slot; base NULL: no listed certificate has its first name */
};

/* Clients choose what is looked up, not what is stored: they cannot make chains longer. */
static size_t hash_of(h2o_iovec_t name)
{
    uint64_t hash = gw_fnv1a(GW_FNV1A_START, name.base, name.len);
    return hash ^ hash >> 32;
}

static struct slot *find_slot(const struct tls_sni *self, h2o_iovec_t name)
{
    size_t i = hash_of(name) & self->mask;
    while (self->slots[i].name.base != NULL) {
        if (self->slots[i].name.len == name.len && memcmp(self->slots[i].name.base, name.base, name.len) == 0)
            break;
        i = (i + 1) & self->mask;
    }
    return &self->slots[i];
}

static void add_name(struct tls_sni *self, h2o_iovec_t name, uint32_t certificate)
{
    struct slot *slot = find_slot(self, name);
    if (slot->name.base == NULL)
        slot->name = h2o_strdup(NULL, name.base, name.len);
    else if (slot->certificates[slot->num_certificates - 1] == certificate)
        return; /* the certificate repeats a name */
    slot->certificates = h2o_mem_realloc(slot->certificates, (slot->num_certificates + 1) * sizeof(uint32_t));
    slot->certificates[slot->num_certificates++] = certificate;
}

struct tls_sni *tls_sni_create(struct tls_certificate *const *certificates, size_t num_certificates, size_t num_listed,
                               size_t default_certificate)
{
    assert(num_listed <= num_certificates && default_certificate < num_certificates);
    struct tls_sni *self = h2o_mem_alloc(sizeof(*self));
    size_t num_names = 0, capacity = 8;
    for (size_t i = 0; i < num_certificates; i++)
        num_names += certificates[i]->num_dns_names;
    while (capacity < num_names * 2)
        capacity *= 2;
    *self = (struct tls_sni){.ranks = h2o_mem_alloc(num_certificates * sizeof(struct rank)),
                             .num_ranks = num_certificates,
                             .default_certificate = default_certificate,
                             .slots = h2o_mem_alloc(capacity * sizeof(struct slot)),
                             .mask = capacity - 1};
    memset(self->slots, 0, capacity * sizeof(struct slot));
    for (size_t i = 0; i < num_certificates; i++) {
        const struct tls_certificate *c = certificates[i];
        self->ranks[i] = (struct rank){c->not_after, c->kind, c->hash_bits, c->key_bits};
        for (size_t k = 0; i < num_listed && k < c->num_dns_names; k++)
            add_name(self, c->dns_names[k], (uint32_t)i);
    }
    if (certificates[default_certificate]->num_dns_names != 0)
        self->default_name = find_slot(self, certificates[default_certificate]->dns_names[0])->name;
    return self;
}

void tls_sni_destroy(struct tls_sni *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i <= self->mask; i++) {
        free(self->slots[i].name.base);
        free(self->slots[i].certificates);
    }
    free(self->slots);
    free(self->ranks);
    free(self);
}

struct candidate {
    size_t certificate;
    bool is_exact, is_usable, is_there;
};

/* Criteria as in the header; a client that cannot use a certificate comes before all of them. */
static bool is_better(const struct tls_sni *self, struct candidate a, struct candidate b, time_t now)
{
    const struct rank *ra = &self->ranks[a.certificate], *rb = &self->ranks[b.certificate];
    bool is_a_ecdsa = ra->kind != TLS_KEY_RSA, is_b_ecdsa = rb->kind != TLS_KEY_RSA;
    bool is_a_expired = now > ra->not_after, is_b_expired = now > rb->not_after;
    if (a.is_usable != b.is_usable)
        return a.is_usable;
    if (is_a_ecdsa != is_b_ecdsa)
        return is_a_ecdsa;
    if (is_a_expired != is_b_expired)
        return is_b_expired;
    if (ra->hash_bits != rb->hash_bits)
        return ra->hash_bits > rb->hash_bits;
    if (ra->key_bits != rb->key_bits)
        return ra->key_bits > rb->key_bits;
    if (ra->not_after != rb->not_after)
        return ra->not_after > rb->not_after;
    if (a.is_exact != b.is_exact)
        return a.is_exact;
    return a.certificate < b.certificate;
}

static void look_at(const struct tls_sni *self, h2o_iovec_t name, bool is_exact, unsigned usable_kinds, time_t now,
                    struct candidate *best)
{
    const struct slot *slot = find_slot(self, name);
    for (size_t i = 0; i < slot->num_certificates; i++) {
        size_t certificate = slot->certificates[i];
        struct candidate it = {certificate, is_exact, (self->ranks[certificate].kind & usable_kinds) != 0, true};
        if (!best->is_there || is_better(self, it, *best, now))
            *best = it;
    }
}

static struct tls_sni_choice choose_default(const struct tls_sni *self, enum tls_sni_why why, unsigned usable_kinds,
                                            time_t now)
{
    size_t certificate = self->default_certificate;
    struct tls_sni_choice choice = {certificate, why, (self->ranks[certificate].kind & usable_kinds) != 0};
    struct candidate best = {0};
    if (choice.is_usable || self->default_name.base == NULL)
        return choice;
    look_at(self, self->default_name, true, usable_kinds, now, &best);
    if (best.is_usable)
        choice = (struct tls_sni_choice){best.certificate, why, true};
    return choice;
}

struct tls_sni_choice tls_sni_choose(const struct tls_sni *self, h2o_iovec_t sent, unsigned usable_kinds, time_t now)
{
    char text[TLS_NAME_MAX + 2];
    size_t len;
    if (sent.base == NULL || !tls_name_canonical(sent, false, text, &len))
        return choose_default(self, TLS_SNI_NO_NAME, usable_kinds, now);
    struct candidate best = {0};
    look_at(self, h2o_iovec_init(text, len), true, usable_kinds, now, &best);
    char *dot = memchr(text, '.', len);
    if (dot != NULL) { /* "a.example.com": put the asterisk in front of its dot */
        h2o_iovec_t wildcard = h2o_iovec_init(dot - 1, len - (dot - text) + 1);
        dot[-1] = '*';
        look_at(self, wildcard, false, usable_kinds, now, &best);
    }
    if (!best.is_there)
        return choose_default(self, TLS_SNI_UNKNOWN, usable_kinds, now);
    return (struct tls_sni_choice){best.certificate, best.is_exact ? TLS_SNI_EXACT : TLS_SNI_WILDCARD, best.is_usable};
}
