/* Content codings as streams: brotli (libbrotli) and gzip (zlib) behind one interface, with memory of their own. What
 * an encoder frees stays with its thread for the next one, and what all of them hold is counted. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "gateway/compression/accept_encoding.h"
#include "gateway/base/metrics.h"

/* Memory of a thread's encoders. */
struct gw_encoder_memory;
struct gw_encoder_memory *gw_encoder_memory_create(void);
void gw_encoder_memory_destroy(struct gw_encoder_memory *); /* after the last encoder; NULL is fine */
size_t gw_encoder_memory_used(const struct gw_encoder_memory *);
/* The most that the encoders that are open now will take; they take it bit by bit. */
size_t gw_encoder_memory_reserved(const struct gw_encoder_memory *);
/* For other threads: what is used. */
uint64_t gw_encoder_memory_gauge(const struct gw_encoder_memory *);

struct gw_encoder_options {
    enum gw_coding coding; /* not identity */
    unsigned level;        /* brotli 0..9, gzip 1..9 */
    /* Small windows: about 70 KiB for gzip, 160 KiB for brotli, instead of 265 KiB and 1.7 MiB */
    bool is_lean;
    uint64_t size; /* of what will come; UINT64_MAX: unknown */
};
enum gw_encoder_op {
    GW_ENCODER_CONTINUE, /* more will come: the encoder may hold everything back */
    GW_ENCODER_FLUSH,    /* all that was given can be decoded from what comes out */
    GW_ENCODER_FINISH,
};
struct gw_encoder;
struct gw_encoder *gw_encoder_create(struct gw_encoder_memory *, const struct gw_encoder_options *);
void gw_encoder_destroy(struct gw_encoder *); /* NULL is fine */
/* Takes from *in what it can and returns the bytes written to out. is_done: the input was taken and everything that op
 * asks for has come out; otherwise call again with the same op, the rest of the input and room in out (64 bytes at
 * least). */
size_t gw_encoder_run(struct gw_encoder *, h2o_iovec_t *in, enum gw_encoder_op op, char *out, size_t capacity,
                      bool *is_done);
