#include "gateway/compression/encoder.h"
#include <assert.h>
#include <brotli/encode.h>
#include <zlib.h>

/* ---- memory ---- */

/* Blocks from this size on are kept: below it malloc is as good. What is kept idle per thread covers a few encoders. */
enum { KEEP_FROM = 4096, MAX_IDLE = 32, MAX_IDLE_BYTES = 4 << 20 };

struct block {
    size_t size; /* with this header */
    char padding[16 - sizeof(size_t)];
};

struct gw_encoder_memory {
    struct block *idle[MAX_IDLE];
    size_t num_idle, idle_bytes;
    size_t used_bytes, reserved_bytes;
    gw_counter gauge;
};

static void note_used(struct gw_encoder_memory *memory, size_t used)
{
    memory->used_bytes = used;
    __atomic_store_n((uint64_t *)&memory->gauge, used, __ATOMIC_RELAXED);
}

/* The idle block that fits best, and not much worse than a new one. */
static struct block *take_idle(struct gw_encoder_memory *memory, size_t size)
{
    struct block *block = NULL;
    size_t best = 0;

    for (size_t i = 0; i != memory->num_idle; ++i) {
        size_t have = memory->idle[i]->size;
        if (have >= size && have <= size + size / 4 && (block == NULL || have < block->size)) {
            block = memory->idle[i];
            best = i;
        }
    }
    if (block == NULL)
        return NULL;
    memory->idle[best] = memory->idle[--memory->num_idle];
    memory->idle_bytes -= block->size;
    return block;
}

static void *allocate(void *opaque, size_t size)
{
    struct gw_encoder_memory *memory = opaque;
    struct block *block = NULL;

    size += sizeof(*block);
    if (size >= KEEP_FROM)
        block = take_idle(memory, size);
    if (block == NULL) {
        block = h2o_mem_alloc(size);
        block->size = size;
    }
    note_used(memory, memory->used_bytes + block->size);
    return block + 1;
}

static void release(void *opaque, void *address)
{
    struct gw_encoder_memory *memory = opaque;
    struct block *block = address;

    if (address == NULL)
        return;
    --block;
    note_used(memory, memory->used_bytes - block->size);
    if (block->size >= KEEP_FROM && memory->num_idle != MAX_IDLE &&
        memory->idle_bytes + block->size <= MAX_IDLE_BYTES) {
        memory->idle[memory->num_idle++] = block;
        memory->idle_bytes += block->size;
    } else {
        free(block);
    }
}

static voidpf allocate_items(voidpf opaque, uInt items, uInt size) { return allocate(opaque, (size_t)items * size); }

static void release_items(voidpf opaque, voidpf address) { release(opaque, address); }

struct gw_encoder_memory *gw_encoder_memory_create(void)
{
    struct gw_encoder_memory *memory = h2o_mem_alloc(sizeof(*memory));
    memset(memory, 0, sizeof(*memory));
    return memory;
}

void gw_encoder_memory_destroy(struct gw_encoder_memory *memory)
{
    if (memory == NULL)
        return;
    assert(memory->used_bytes == 0);
    while (memory->num_idle != 0)
        free(memory->idle[--memory->num_idle]);
    free(memory);
}

size_t gw_encoder_memory_used(const struct gw_encoder_memory *memory) { return memory->used_bytes; }

size_t gw_encoder_memory_reserved(const struct gw_encoder_memory *memory) { return memory->reserved_bytes; }

uint64_t gw_encoder_memory_gauge(const struct gw_encoder_memory *memory) { return gw_counter_read(&memory->gauge); }

/* ---- encoders ---- */

struct gw_encoder {
    struct gw_encoder_memory *memory;
    size_t reserved;
    BrotliEncoderState *brotli; /* NULL: gzip */
    z_stream zlib;
};

/* Up to this size a window of 8 KiB is as good as one of 32, and four times quicker to set up. */
enum { SMALL_BYTES = 8192, GZIP_WRAPPER = 16 };

/* The most that an encoder takes in the course of its life, as measured (test_encoder.c holds us to it). */
static size_t reserve(const struct gw_encoder_options *options)
{
    static const unsigned brotli_kib[] = {270, 610, 770, 770, 1760, 1760, 1760, 1760, 1760, 2560};
    static const unsigned small_brotli_kib[] = {270, 270, 650, 650, 770, 770, 770, 770, 770, 1540};

    if (options->coding == GW_CODING_GZIP)
        return (options->is_lean || options->size <= SMALL_BYTES ? 76 : 272) << 10;
    if (options->is_lean)
        return 176 << 10;
    return (size_t)(options->size <= 2 * SMALL_BYTES ? small_brotli_kib : brotli_kib)[options->level] << 10;
}

static void open_gzip(struct gw_encoder *encoder, const struct gw_encoder_options *options)
{
    bool is_small = options->is_lean || options->size <= SMALL_BYTES;

    encoder->zlib.zalloc = allocate_items;
    encoder->zlib.zfree = release_items;
    encoder->zlib.opaque = encoder->memory;
    int ret = deflateInit2(&encoder->zlib, (int)options->level, Z_DEFLATED, GZIP_WRAPPER + (is_small ? 13 : 15),
                           is_small ? 6 : 8, Z_DEFAULT_STRATEGY);
    assert(ret == Z_OK); /* our parameters are fine, and allocation does not fail */
}

static void open_brotli(struct gw_encoder *encoder, const struct gw_encoder_options *options)
{
    unsigned level = options->is_lean && options->level > 1 ? 1 : options->level;

    encoder->brotli = BrotliEncoderCreateInstance(allocate, release, encoder->memory);
    BrotliEncoderSetParameter(encoder->brotli, BROTLI_PARAM_QUALITY, level);
    BrotliEncoderSetParameter(encoder->brotli, BROTLI_PARAM_LGWIN, options->is_lean ? 14 : 16);
    /* from 1 MiB on level 4 would take a table of 4 MiB, which a window of 64 KiB has no use for */
    if (options->size != UINT64_MAX)
        BrotliEncoderSetParameter(encoder->brotli, BROTLI_PARAM_SIZE_HINT,
                                  options->size < 1 << 20 ? (uint32_t)options->size : (1 << 20) - 1);
}

struct gw_encoder *gw_encoder_create(struct gw_encoder_memory *memory, const struct gw_encoder_options *options)
{
    struct gw_encoder *encoder = h2o_mem_alloc(sizeof(*encoder));

    assert(options->coding != GW_CODING_IDENTITY);
    *encoder = (struct gw_encoder){memory, reserve(options)};
    memory->reserved_bytes += encoder->reserved;
    if (options->coding == GW_CODING_BROTLI)
        open_brotli(encoder, options);
    else
        open_gzip(encoder, options);
    return encoder;
}

void gw_encoder_destroy(struct gw_encoder *encoder)
{
    if (encoder == NULL)
        return;
    if (encoder->brotli != NULL)
        BrotliEncoderDestroyInstance(encoder->brotli);
    else
        deflateEnd(&encoder->zlib);
    encoder->memory->reserved_bytes -= encoder->reserved;
    free(encoder);
}

static size_t run_gzip(struct gw_encoder *encoder, h2o_iovec_t *in, enum gw_encoder_op op, char *out, size_t capacity,
                       bool *is_done)
{
    static const int flush[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    z_stream *z = &encoder->zlib;
    uInt len = in->len < 1 << 30 ? (uInt)in->len : 1 << 30;

    z->next_in = (Bytef *)in->base;
    z->avail_in = len;
    z->next_out = (Bytef *)out;
    z->avail_out = (uInt)capacity;
    int ret = deflate(z, flush[len == in->len ? op : GW_ENCODER_CONTINUE]);
    assert(ret == Z_OK || ret == Z_STREAM_END || ret == Z_BUF_ERROR);
    *in = h2o_iovec_init(in->base + (len - z->avail_in), in->len - (len - z->avail_in));
    *is_done = in->len == 0 && (op == GW_ENCODER_FINISH ? ret == Z_STREAM_END : z->avail_out != 0);
    return capacity - z->avail_out;
}

static size_t run_brotli(struct gw_encoder *encoder, h2o_iovec_t *in, enum gw_encoder_op op, char *out, size_t capacity,
                         bool *is_done)
{
    static const BrotliEncoderOperation operations[] = {BROTLI_OPERATION_PROCESS, BROTLI_OPERATION_FLUSH,
                                                        BROTLI_OPERATION_FINISH};
    const uint8_t *next_in = (const uint8_t *)in->base;
    uint8_t *next_out = (uint8_t *)out;
    size_t avail_in = in->len, avail_out = capacity;

    BROTLI_BOOL ok =
        BrotliEncoderCompressStream(encoder->brotli, operations[op], &avail_in, &next_in, &avail_out, &next_out, NULL);
    assert(ok);
    *in = h2o_iovec_init(in->base + (in->len - avail_in), avail_in);
    *is_done = avail_in == 0 && !BrotliEncoderHasMoreOutput(encoder->brotli) &&
               (op != GW_ENCODER_FINISH || BrotliEncoderIsFinished(encoder->brotli));
    return capacity - avail_out;
}

size_t gw_encoder_run(struct gw_encoder *encoder, h2o_iovec_t *in, enum gw_encoder_op op, char *out, size_t capacity,
                      bool *is_done)
{
    return (encoder->brotli != NULL ? run_brotli : run_gzip)(encoder, in, op, out, capacity, is_done);
}
