#include "gateway/gate.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "gateway/base/alloc.h"
#include "gateway/base/hash.h"

enum { NUM_SHARDS = 64, FIRST_BUCKETS = 16, SECOND_US = 1000000 };

/* An address is there while it has connections, and until its rate would allow a full burst again. */
struct entry {
    struct entry *next;
    uint64_t key[2];
    uint64_t full_us; /* when its bucket is full again (GCRA's theoretical arrival time) */
    uint64_t count;
};

struct shard {
    pthread_mutex_t lock;
    struct entry **buckets; /* under lock, all of it */
    size_t num_buckets;     /* a power of two */
    size_t size, hand;      /* hand: next bucket to look for forgotten ones */
} __attribute__((aligned(64)));

struct gw_gate {
    uint64_t seed;       /* frozen */
    struct gw_rate rate; /* atomic: of all addresses */
    struct shard shards[NUM_SHARDS];
};

struct gw_gate *gw_gate_create(void)
{
    struct gw_gate *self = gw_alloc_lines(sizeof(*self));

    if (getrandom(&self->seed, sizeof(self->seed), 0) != sizeof(self->seed))
        h2o_fatal("no random numbers");
    for (size_t i = 0; i != NUM_SHARDS; ++i)
        pthread_mutex_init(&self->shards[i].lock, NULL);
    return self;
}

void gw_gate_destroy(struct gw_gate *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i != NUM_SHARDS; ++i) {
        struct shard *shard = &self->shards[i];
        for (size_t b = 0; b != shard->num_buckets; ++b) {
            struct entry *entry = shard->buckets[b], *next;
            for (; entry != NULL; entry = next) {
                next = entry->next;
                free(entry);
            }
        }
        free(shard->buckets);
        pthread_mutex_destroy(&shard->lock);
    }
    free(self);
}

/* Seeded, since clients choose what is hashed. */
static uint64_t read_key(const struct gw_gate *self, const struct gw_ip *ip, uint64_t key[2])
{
    memcpy(key, ip->bytes, 16);
    if (!gw_ip_is_v4(ip))
        key[1] = 0;
    return gw_mix64(gw_mix64(key[0] ^ self->seed) ^ key[1] ^ self->seed * 3);
}

static bool is_forgotten(const struct entry *entry, uint64_t now_us)
{
    return entry->count == 0 && entry->full_us <= now_us;
}

static void sweep(struct shard *shard, size_t bucket, uint64_t now_us)
{
    for (struct entry **at = &shard->buckets[bucket], *entry; (entry = *at) != NULL;) {
        if (is_forgotten(entry, now_us)) {
            *at = entry->next;
            free(entry);
            --shard->size;
        } else {
            at = &entry->next;
        }
    }
}

static void grow(struct gw_gate *self, struct shard *shard)
{
    size_t num = shard->num_buckets != 0 ? shard->num_buckets * 2 : FIRST_BUCKETS;
    struct entry **buckets = h2o_mem_alloc(num * sizeof(*buckets));

    memset(buckets, 0, num * sizeof(*buckets));
    for (size_t b = 0; b != shard->num_buckets; ++b) {
        struct entry *entry = shard->buckets[b], *next;
        for (; entry != NULL; entry = next) {
            struct gw_ip ip;
            uint64_t key[2];
            next = entry->next;
            memcpy(ip.bytes, entry->key, 16);
            size_t at = read_key(self, &ip, key) / NUM_SHARDS & (num - 1);
            entry->next = buckets[at];
            buckets[at] = entry;
        }
    }
    free(shard->buckets);
    shard->buckets = buckets;
    shard->num_buckets = num;
}

static struct entry *find(struct shard *shard, uint64_t hash, const uint64_t key[2])
{
    struct entry *entry = shard->num_buckets != 0 ? shard->buckets[hash / NUM_SHARDS & (shard->num_buckets - 1)] : NULL;
    while (entry != NULL && (entry->key[0] != key[0] || entry->key[1] != key[1]))
        entry = entry->next;
    return entry;
}

static struct entry *add(struct gw_gate *self, struct shard *shard, uint64_t hash, const uint64_t key[2],
                         uint64_t now_us)
{
    if (shard->size >= shard->num_buckets)
        grow(self, shard);
    sweep(shard, shard->hand++ & (shard->num_buckets - 1), now_us);
    sweep(shard, shard->hand++ & (shard->num_buckets - 1), now_us);
    size_t at = hash / NUM_SHARDS & (shard->num_buckets - 1);
    struct entry *entry = h2o_mem_alloc(sizeof(*entry));
    *entry = (struct entry){shard->buckets[at], {key[0], key[1]}, 0, 0};
    shard->buckets[at] = entry;
    ++shard->size;
    return entry;
}

/* A token bucket as one time (GCRA): with a_second tokens a second and room for a_second of them, it may be taken from
 * while it would be full again within a second. */
static bool take_token(uint64_t *full_us, uint64_t a_second, uint64_t now_us)
{
    uint64_t base = *full_us > now_us ? *full_us : now_us, each_us = SECOND_US / a_second;
    if (base + each_us > now_us + SECOND_US)
        return false;
    *full_us = base + (each_us != 0 ? each_us : 1);
    return true;
}

enum gw_gate_verdict gw_gate_enter(struct gw_gate *self, const struct gw_ip *ip, uint64_t most, uint64_t a_second,
                                   uint64_t now_us)
{
    enum gw_gate_verdict verdict = GW_GATE_OPEN;
    uint64_t key[2], hash = read_key(self, ip, key);
    struct shard *shard = &self->shards[hash % NUM_SHARDS];

    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, hash, key);
    if (entry == NULL)
        entry = add(self, shard, hash, key, now_us);
    if (most != 0 && entry->count >= most)
        verdict = GW_GATE_TOO_MANY;
    else if (a_second != 0 && !take_token(&entry->full_us, a_second, now_us))
        verdict = GW_GATE_TOO_FAST;
    else
        ++entry->count;
    pthread_mutex_unlock(&shard->lock);
    return verdict;
}

void gw_gate_leave(struct gw_gate *self, const struct gw_ip *ip, uint64_t now_us)
{
    uint64_t key[2], hash = read_key(self, ip, key);
    struct shard *shard = &self->shards[hash % NUM_SHARDS];

    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, hash, key);
    assert(entry != NULL && entry->count != 0);
    if (--entry->count == 0 && is_forgotten(entry, now_us))
        sweep(shard, hash / NUM_SHARDS & (shard->num_buckets - 1), now_us);
    pthread_mutex_unlock(&shard->lock);
}

uint64_t gw_rate_wait_us(const struct gw_rate *rate, uint64_t a_second, uint64_t now_us)
{
    uint64_t full_us = atomic_load_explicit(&rate->full_us, memory_order_relaxed), next = full_us;
    return take_token(&next, a_second, now_us) ? 0 : full_us + SECOND_US / a_second - now_us - SECOND_US;
}

void gw_rate_take(struct gw_rate *rate, uint64_t a_second, uint64_t now_us)
{
    uint64_t full_us = atomic_load_explicit(&rate->full_us, memory_order_relaxed), next;
    do
        next = (full_us > now_us ? full_us : now_us) + SECOND_US / a_second;
    while (!atomic_compare_exchange_weak_explicit(&rate->full_us, &full_us, next, memory_order_relaxed,
                                                  memory_order_relaxed));
}

struct gw_rate *gw_gate_rate(struct gw_gate *self) { return &self->rate; }

size_t gw_gate_size(struct gw_gate *self)
{
    size_t size = 0;
    for (size_t i = 0; i != NUM_SHARDS; ++i) {
        pthread_mutex_lock(&self->shards[i].lock);
        size += self->shards[i].size;
        pthread_mutex_unlock(&self->shards[i].lock);
    }
    return size;
}
