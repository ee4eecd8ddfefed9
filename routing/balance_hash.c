/* Consistent hashing in two steps. A table over all registered targets, fit or not, is made as Maglev does (Eisenbud et
 * al., NSDI 2016): each target fills it by an order of its own, which comes from its name, and a key finds its slot in
 * O(1). Then the slots of targets that take no requests now go to stand-ins, each by a sequence of its own. So exactly
 * the keys of a target that fails move, 1 of N, and they come back with it; only targets that are configured anew or
 * leave for good move a few keys of others. Made by the first pick that needs it; the first step only if it has
 * changed. */
#include <strings.h>
#include "routing/balance_internal.h"

uint64_t routing_balance_hash(h2o_iovec_t text, uint64_t seed)
{
    uint64_t hash = GW_FNV1A_START ^ (seed * UINT64_C(0x9e3779b97f4a7c15));
    return gw_mix64(gw_fnv1a(hash, text.base, text.len)); /* mixed: FNV's high bits hardly know the last bytes */
}

/* Primes, at least two hundred slots for each target: shares are true to half a percent. */
static uint32_t num_slots_for(uint32_t size)
{
    static const uint32_t primes[] = {65521, 262139, 1048573};
    for (size_t i = 0; i != sizeof(primes) / sizeof(primes[0]) - 1; ++i)
        if (size <= primes[i] / 200)
            return primes[i];
    return primes[2];
}

enum { MOST_TRIES = 64 };

struct filler { /* a target while the table is filled */
    uint32_t offset, skip, next;
    double weight, credit; /* of the heaviest */
};

static void take_next_slot(struct ring *ring, struct filler *filler, uint32_t member)
{
    while (ring->base[filler->next] != UINT32_MAX) {
        filler->next += filler->skip; /* less than twice the slots: a subtraction takes half the time of a division */
        if (filler->next >= ring->num_slots)
            filler->next -= ring->num_slots;
    }
    ring->base[filler->next] = member;
}

static void fill(struct ring *ring, struct filler *fillers)
{
    uint32_t filled = 0;
    memset(ring->base, 0xff, ring->num_slots * sizeof(*ring->base));
    for (;;)
        for (uint32_t i = 0; i != ring->num_tier; ++i) {
            fillers[i].credit += fillers[i].weight;
            if (fillers[i].credit < 1)
                continue;
            fillers[i].credit -= 1;
            take_next_slot(ring, fillers + i, ring->tier[i]);
            if (++filled == ring->num_slots)
                return;
        }
}

/* What the base table depends on. */
static uint64_t sum_of_base(const struct routing_balancer *self, const struct ring *ring)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i != self->size; ++i) {
        uint64_t entry[] = {sum, self->names[i], ring->full[i]};
        sum = routing_balance_hash(h2o_iovec_init(entry, sizeof(entry)), 0);
    }
    return sum;
}

static void make_base(struct routing_balancer *self, struct ring *ring)
{
    uint32_t num_slots = num_slots_for(self->size);
    struct filler *fillers = h2o_mem_alloc((self->size + 1) * sizeof(*fillers));

    ring->num_tier = ring->heaviest = 0;
    for (uint32_t i = 0; i != self->size; ++i)
        if (ring->full[i] != 0) {
            ring->tier[ring->num_tier++] = i;
            ring->heaviest = ring->full[i] > ring->heaviest ? ring->full[i] : ring->heaviest;
        }
    for (uint32_t i = 0; i != ring->num_tier; ++i) {
        h2o_iovec_t name = self->group->targets[ring->tier[i]].name;
        uint32_t offset = (uint32_t)(routing_balance_hash(name, 1) % num_slots);
        uint32_t skip = (uint32_t)(routing_balance_hash(name, 2) % (num_slots - 1)) + 1;
        fillers[i] = (struct filler){offset, skip, offset, (double)ring->full[ring->tier[i]] / ring->heaviest, 0};
    }
    ring->base = h2o_mem_realloc(ring->base, num_slots * sizeof(*ring->base));
    ring->slots = h2o_mem_realloc(ring->slots, num_slots * sizeof(*ring->slots));
    ring->num_slots = num_slots;
    fill(ring, fillers);
    free(fillers);
}

/* Uniform below n, from the upper half of the bits. */
static uint32_t below(uint64_t random, uint32_t n) { return (uint32_t)(((random >> 32) * n) >> 32); }

/* A target that has less than its whole weight, as in a slow start, has a part of its slots, always the same. */
static bool has_slot(const struct routing_balancer *self, const struct ring *ring, uint32_t target, uint32_t slot)
{
    if (__builtin_expect(ring->is_member[target] && self->effective[target] >= ring->full[target], 1))
        return true;
    return ring->is_member[target] &&
           below(gw_mix64(self->names[target] ^ slot), ring->full[target]) < self->effective[target];
}

/* Each slot has an endless sequence of targets, with no regard to who is fit; the first one that is takes it. When
 * another one goes, nothing changes for those who come before it. */
static uint32_t stand_in(const struct routing_balancer *self, const struct ring *ring, uint32_t slot)
{
    uint64_t random = 0;
    for (uint32_t i = 0; i != MOST_TRIES; ++i) {
        random = gw_mix64((uint64_t)slot << 32 | (i + 1));
        uint32_t target = ring->tier[below(random, ring->num_tier)];
        if (ring->is_member[target] && (uint32_t)random % ring->heaviest < self->effective[target])
            return target;
    }
    return ring->members[below(random, ring->size)]; /* hardly anybody is left, or of much weight */
}

static void make_slots(struct routing_balancer *self, struct ring *ring)
{
    uint64_t sum = sum_of_base(self, ring);

    if (ring->base == NULL || sum != ring->base_sum)
        make_base(self, ring);
    ring->base_sum = sum;
    for (uint32_t i = 0; i != ring->num_slots; ++i)
        ring->slots[i] = has_slot(self, ring, ring->base[i], i) ? ring->base[i] : stand_in(self, ring, i);
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
