/* Consistent hashing: Maglev (Eisenbud et al., NSDI 2016). Each target fills a table by an order of its own, which
 * comes from its name; a key finds its slot in O(1). When a target goes, its slots are filled by the others, and few of
 * theirs move. The table is made by the first pick that needs it. */
#include <strings.h>
#include "routing/balance_internal.h"

uint64_t routing_balance_hash(h2o_iovec_t text, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ (seed * UINT64_C(0x9e3779b97f4a7c15));
    for (size_t i = 0; i != text.len; ++i)
        hash = (hash ^ (unsigned char)text.base[i]) * UINT64_C(1099511628211); /* FNV-1a */
    hash = (hash ^ (hash >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);               /* and the mixing it lacks */
    hash = (hash ^ (hash >> 27)) * UINT64_C(0x94d049bb133111eb);
    return hash ^ (hash >> 31);
}

/* Primes, some hundred slots for each target: shares are true to a fraction of a percent, and as few keys move. */
static uint32_t num_slots_for(uint32_t size)
{
    static const uint32_t primes[] = {65521, 262139, 1048573};
    for (size_t i = 0; i != sizeof(primes) / sizeof(primes[0]) - 1; ++i)
        if (size <= primes[i] / 500)
            return primes[i];
    return primes[2];
}

struct filler { /* a member while the table is filled */
    uint32_t offset, skip, next;
    double weight, credit; /* of the heaviest */
};

static bool take_next_slot(struct ring *ring, struct filler *filler, uint32_t member)
{
    while (ring->slots[filler->next] != UINT32_MAX) {
        filler->next += filler->skip; /* less than twice the slots: a subtraction takes half the time of a division */
        if (filler->next >= ring->num_slots)
            filler->next -= ring->num_slots;
    }
    ring->slots[filler->next] = member;
    return true;
}

static void fill(struct ring *ring, struct filler *fillers)
{
    uint32_t filled = 0;
    memset(ring->slots, 0xff, ring->num_slots * sizeof(*ring->slots));
    for (;;)
        for (uint32_t i = 0; i != ring->size; ++i) {
            fillers[i].credit += fillers[i].weight;
            if (fillers[i].credit < 1)
                continue;
            fillers[i].credit -= 1;
            take_next_slot(ring, fillers + i, ring->members[i]);
            if (++filled == ring->num_slots)
                return;
        }
}

static void make_slots(struct routing_balancer *self, struct ring *ring)
{
    uint32_t heaviest = 0, num_slots = num_slots_for(self->size);
    struct filler *fillers = h2o_mem_alloc((ring->size + 1) * sizeof(*fillers));

    for (uint32_t i = 0; i != ring->size; ++i)
        if (self->effective[ring->members[i]] > heaviest)
            heaviest = self->effective[ring->members[i]];
    for (uint32_t i = 0; i != ring->size; ++i) {
        h2o_iovec_t name = self->group->targets[ring->members[i]].name;
        uint32_t offset = (uint32_t)(routing_balance_hash(name, 1) % num_slots);
        uint32_t skip = (uint32_t)(routing_balance_hash(name, 2) % (num_slots - 1)) + 1;
        fillers[i] = (struct filler){offset, skip, offset, (double)self->effective[ring->members[i]] / heaviest, 0};
    }
    ring->slots = h2o_mem_realloc(ring->slots, num_slots * sizeof(*ring->slots));
    ring->num_slots = num_slots;
    fill(ring, fillers);
    free(fillers);
    ring->slots_are_made = true;
}

void balance_hash_update(struct routing_balancer *self, struct ring *ring) { ring->slots_are_made = false; }

uint32_t balance_hash_pick(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    if (ring->size == 0)
        return ROUTING_NO_TARGET;
    if (!ring->slots_are_made)
        make_slots(self, ring);
    uint64_t key = pick->has_key ? pick->key : balance_random(self);
    uint32_t at = (uint32_t)(((unsigned __int128)key * ring->num_slots) >> 64);
    if (__builtin_expect(!balance_is_out(self, pick, ring->slots[at]), 1))
        return ring->slots[at];
    for (uint32_t i = 1; i != ring->num_slots; ++i) { /* the same key always finds the same second choice */
        if (++at == ring->num_slots)
            at = 0;
        if (!balance_is_out(self, pick, ring->slots[at]))
            return ring->slots[at];
        if (i == 64 * ring->size) /* hardly anybody is free: no need to see each slot */
            break;
    }
    for (uint32_t i = 0; i != ring->size; ++i)
        if (!balance_is_out(self, pick, ring->members[i]))
            return ring->members[i];
    return ROUTING_NO_TARGET;
}

/* ---- keys ---- */

static bool find_header(const struct routing_facts *facts, h2o_iovec_t name, h2o_iovec_t *value)
{
    for (size_t i = 0; i != facts->num_headers; ++i)
        if (facts->headers[i].name->len == name.len &&
            strncasecmp(facts->headers[i].name->base, name.base, name.len) == 0) {
            *value = facts->headers[i].value;
            return true;
        }
    return false;
}

bool routing_balance_cookie(const struct routing_facts *facts, h2o_iovec_t name, h2o_iovec_t *value)
{
    for (size_t i = 0; i != facts->num_headers; ++i) {
        const h2o_header_t *header = facts->headers + i;
        if (header->name->len != 6 || strncasecmp(header->name->base, "cookie", 6) != 0)
            continue;
        const char *p = header->value.base, *end = p + header->value.len;
        while (p < end) {
            const char *next = memchr(p, ';', end - p), *pair_end = next != NULL ? next : end;
            while (p != pair_end && (*p == ' ' || *p == '\t'))
                ++p;
            if ((size_t)(pair_end - p) > name.len && p[name.len] == '=' && memcmp(p, name.base, name.len) == 0) {
                *value = h2o_iovec_init(p + name.len + 1, pair_end - p - name.len - 1);
                while (value->len != 0 && (value->base[value->len - 1] == ' ' || value->base[value->len - 1] == '\t'))
                    --value->len;
                return true;
            }
            p = pair_end + 1;
        }
    }
    return false;
}

bool routing_balance_uses_key(const struct routing_target_group_conf *conf)
{
    return conf->algorithm.type == ROUTING_CONSISTENT_HASH || (conf->stickiness != NULL && conf->stickiness->source_ip);
}

bool routing_balance_key(const struct routing_target_group_conf *conf, const struct routing_facts *facts, uint64_t *key)
{
    bool is_sticky = conf->stickiness != NULL && conf->stickiness->source_ip;
    h2o_iovec_t text = {NULL, 0};
    bool is_there = true;

    switch (is_sticky ? ROUTING_BY_CLIENT_IP : (enum routing_hash_by)conf->algorithm.by) {
    case ROUTING_BY_CLIENT_IP:
        text = h2o_iovec_init(&facts->client_ip, sizeof(facts->client_ip));
        break;
    case ROUTING_BY_HEADER:
        is_there = find_header(facts, conf->algorithm.name, &text);
        break;
    case ROUTING_BY_COOKIE:
        is_there = routing_balance_cookie(facts, conf->algorithm.name, &text);
        break;
    case ROUTING_BY_PATH:
        text = facts->path;
        break;
    case ROUTING_BY_FLOW:
        *key = routing_balance_hash(h2o_iovec_init(&facts->client_ip, sizeof(facts->client_ip)),
                                    (uint64_t)facts->peer_port << 16 | facts->port);
        return true;
    }
    if (is_there)
        *key = routing_balance_hash(text, 0);
    return is_there;
}
