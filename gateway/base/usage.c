#include "gateway/base/usage.h"
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <h2o.h>
#include "gateway/base/hash.h"

enum { NUM_BUCKETS = 256, BUCKET_SIZE = 2, PART_OF_ADDRESS = 4 };

struct entry {
    uint64_t key[2];
    struct gw_usage usage;
};

struct gw_usage_table {
    uint64_t seed; /* since clients choose their addresses */
    struct entry entries[NUM_BUCKETS][BUCKET_SIZE];
};

void gw_usage_add(struct gw_usage *usage, uint64_t now_ms, uint64_t us)
{
    for (; usage != NULL; usage = usage->of_address) {
        uint64_t sum = gw_usage_read(usage, now_ms) + us;
        usage->us = sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
        usage->period = (uint32_t)(now_ms / GW_USAGE_PERIOD_MS);
    }
}

void gw_usage_begin(struct gw_usage *usage, struct gw_usage *of_address, uint64_t now_ms)
{
    *usage = (struct gw_usage){.of_address = of_address, .period = (uint32_t)(now_ms / GW_USAGE_PERIOD_MS)};
    if (of_address != NULL)
        usage->us = gw_usage_read(of_address, now_ms) / PART_OF_ADDRESS;
}

struct gw_usage_table *gw_usage_table_create(void)
{
    struct gw_usage_table *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    if (getrandom(&self->seed, sizeof(self->seed), 0) != sizeof(self->seed))
        h2o_fatal("no random numbers");
    return self;
}

void gw_usage_table_destroy(struct gw_usage_table *self) { free(self); }

struct gw_usage *gw_usage_of_address(struct gw_usage_table *self, const struct gw_ip *ip, uint64_t now_ms)
{
    uint64_t key[2];
    memcpy(key, ip->bytes, 16);
    if (!gw_ip_is_v4(ip))
        key[1] = 0;
    struct entry *bucket = self->entries[gw_mix64(gw_mix64(key[0] ^ self->seed) ^ key[1]) % NUM_BUCKETS],
                 *least = bucket;

    for (struct entry *entry = bucket; entry != bucket + BUCKET_SIZE; ++entry) {
        if (memcmp(entry->key, key, sizeof(key)) == 0)
            return &entry->usage;
        if (gw_usage_read(&entry->usage, now_ms) < gw_usage_read(&least->usage, now_ms))
            least = entry;
    }
    memcpy(least->key, key, sizeof(key));
    least->usage = (struct gw_usage){0};
    return &least->usage;
}
