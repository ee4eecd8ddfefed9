/* Helps the fuzz targets to give one input in pieces. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A place to cut that follows from the bytes, so that seeds are plain text and findings repeat. */
static inline size_t fuzz_cut(const uint8_t *data, size_t len, uint32_t salt)
{
    uint32_t hash = 2166136261u ^ salt;
    for (size_t i = 0; i != len; ++i)
        hash = (hash ^ data[i]) * 16777619u;
    return (hash >> 4) % (len + 1);
}

/* Memory of exactly that size: a byte too far is seen. */
static inline char *fuzz_copy(const uint8_t *data, size_t len)
{
    char *copy = malloc(len);
    if (len != 0)
        memcpy(copy, data, len);
    return copy;
}
