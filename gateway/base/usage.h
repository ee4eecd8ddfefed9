/* How much CPU time of a thread a client connection, and all connections of a client address, have used lately. When a
 * thread has not time for everybody in a turn, whoever used much waits for those who used little (thread.h). Everything
 * here belongs to one thread. Errors: none. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "gateway/base/ip.h"

/* Zero-filled: nothing yet. */
struct gw_usage {
    uint32_t us;                 /* microseconds, as of period; halved with every period that has passed since */
    uint32_t period;             /* CLOCK_MONOTONIC in units of GW_USAGE_PERIOD_MS */
    struct gw_usage *of_address; /* what is added here is added there, too; NULL: there is none */
};
/* Who uses 0.3 % of a thread all the time stands at GW_USAGE_MUCH_US. */
enum { GW_USAGE_PERIOD_MS = 32, GW_USAGE_MUCH_US = 192 };

static inline uint32_t gw_usage_read(const struct gw_usage *usage, uint64_t now_ms)
{
    uint32_t periods = (uint32_t)(now_ms / GW_USAGE_PERIOD_MS) - usage->period;
    return periods < 32 ? usage->us >> periods : 0;
}
static inline bool gw_usage_is_much(const struct gw_usage *usage, uint64_t now_ms)
{
    return usage->us >= GW_USAGE_MUCH_US && gw_usage_read(usage, now_ms) >= GW_USAGE_MUCH_US;
}
void gw_usage_add(struct gw_usage *, uint64_t now_ms, uint64_t us);

/* Addresses that were there lately, as many as find room: the one that used less makes way for another. */
struct gw_usage_table;
struct gw_usage_table *gw_usage_table_create(void);
void gw_usage_table_destroy(struct gw_usage_table *);
/* The usage of an address (of an IPv6 address the first 64 bits count). Never NULL; points into the table, where it may
 * become another address's while somebody still adds to it. */
struct gw_usage *gw_usage_of_address(struct gw_usage_table *, const struct gw_ip *, uint64_t now_ms);
/* A new connection of an address that used much (2 % of a thread) has used much itself for a while: to end one and open
 * another gains nothing. */
void gw_usage_begin(struct gw_usage *, struct gw_usage *of_address, uint64_t now_ms);
