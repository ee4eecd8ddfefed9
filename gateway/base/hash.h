/* Hashes of texts and numbers, for tables, for spreading and for shares. Not for secrets: whoever knows the start can
 * make texts collide, so tables of what clients choose begin with a random one. Any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define GW_FNV1A_START UINT64_C(14695981039346656037)

/* FNV-1a over further bytes; hash: GW_FNV1A_START, a seed, or what it returned for the bytes before. */
static inline uint64_t gw_fnv1a(uint64_t hash, const void *bytes, size_t len)
{
    for (const unsigned char *p = bytes, *end = p + len; p != end; ++p)
        hash = (hash ^ *p) * UINT64_C(1099511628211);
    return hash;
}

/* A random number as one of [0, 1), with all the bits that a double has. */
static inline double gw_unit_interval(uint64_t random) { return (double)(random >> 11) * 0x1p-53; }

/* Every bit of x moves half of the result's (the last steps of splitmix64). One to one. */
static inline uint64_t gw_mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
