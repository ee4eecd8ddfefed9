/* The filter: libh2o's ostream that takes what the source of a response sends, encodes it piece by piece and passes it
 * on. What is not encoded yet when the turn's share of time is over, or when the client must first take what there is,
 * stays where the source keeps it: libh2o proceeds with the generator of the request, so ours stands in the source's
 * place until the last byte has been taken. */
#include <assert.h>
#include <string.h>
#include "gateway/compression/compression.h"
#include "gateway/compression/compression_fields.h"
#include "gateway/process.h"

/* Time that one turn of the loop may spend on encoding, and how much is encoded between two looks at the clock. */
enum { TURN_BUDGET_US = 2000, SLICE_BYTES = 16384, OUT_BYTES = 16384, OUT_MIN_ROOM = 64 };

struct gw_compressing {
    h2o_ostream_t super;
    h2o_generator_t generator; /* stands for the source's while `in` is not empty */
    h2o_generator_t *source;   /* meanwhile; NULL: it has said everything */
    struct gw_request *request;
    struct gw_compressor *compressor;
    const struct gw_compression *compression;
    enum gw_coding coding;
    struct gw_encoder *encoder; /* NULL: not yet, not (any more), or the response stays as it is */
    bool is_decided, is_identity, is_broken;
    bool has_work;          /* something was sent and is not encoded and flushed as a whole */
    h2o_send_state_t state; /* of what was sent last */
    h2o_iovec_t *in;
    size_t num_in, at, capacity;
    h2o_linklist_t waiting;
    char *out;
    size_t out_size;
};
struct offer {
    h2o_req_prefilter_t super;
    struct gw_request *request;
    const struct gw_compression *compression;
};

/* ---- the thread's share ---- */

static void advance(struct gw_compressing *self, bool is_first);

static bool is_turn_over(struct gw_compressor *compressor)
{
    if (compressor->turn != compressor->thread->turns) {
        compressor->turn = compressor->thread->turns;
        compressor->spent_us = 0;
    }
    return compressor->spent_us >= TURN_BUDGET_US;
}

static void on_run(struct gw_deferred *deferred)
{
    struct gw_compressor *compressor = H2O_STRUCT_FROM_MEMBER(struct gw_compressor, run, deferred);

    while (!h2o_linklist_is_empty(&compressor->waiting) && !is_turn_over(compressor)) {
        struct gw_compressing *self = H2O_STRUCT_FROM_MEMBER(struct gw_compressing, waiting, compressor->waiting.next);
        h2o_linklist_unlink(&self->waiting);
        advance(self, false);
    }
    if (!h2o_linklist_is_empty(&compressor->waiting))
        gw_thread_defer(compressor->thread, &compressor->run);
}

static void wait_for_turn(struct gw_compressing *self)
{
    gw_count(&self->compressor->stats.put_off, 1);
    h2o_linklist_insert(&self->compressor->waiting, &self->waiting);
    gw_thread_defer(self->compressor->thread, &self->compressor->run);
}

struct gw_compressor *gw_compressor_create(struct gw_thread *thread)
{
    struct gw_compressor *compressor = h2o_mem_alloc(sizeof(*compressor));

    memset(compressor, 0, sizeof(*compressor));
    compressor->thread = thread;
    compressor->memory = gw_encoder_memory_create();
    compressor->run.run = on_run;
    h2o_linklist_init_anchor(&compressor->waiting);
    return compressor;
}

void gw_compressor_destroy(struct gw_compressor *compressor)
{
    gw_thread_undefer(&compressor->run);
    gw_encoder_memory_destroy(compressor->memory);
    free(compressor);
}

/* ---- encoding ---- */

static void skip_empty(struct gw_compressing *self)
{
    while (self->at != self->num_in && self->in[self->at].len == 0)
        ++self->at;
}

/* One slice into what is left of the output buffer. True: all is done. */
static bool encode_slice(struct gw_compressing *self, size_t *used)
{
    h2o_iovec_t slice = {NULL, 0};
    bool is_last, is_done;

    skip_empty(self);
    if (self->at != self->num_in) {
        slice = self->in[self->at];
        if (slice.len > SLICE_BYTES)
            slice.len = SLICE_BYTES;
    }
    size_t len = slice.len;
    is_last = self->at == self->num_in || (self->at + 1 == self->num_in && len == self->in[self->at].len);
    enum gw_encoder_op op = !is_last                              ? GW_ENCODER_CONTINUE
                            : self->state == H2O_SEND_STATE_FINAL ? GW_ENCODER_FINISH
                                                                  : GW_ENCODER_FLUSH;
    *used += gw_encoder_run(self->encoder, &slice, op, self->out + *used, self->out_size - *used, &is_done);
    if (len != 0) {
        h2o_iovec_t *in = &self->in[self->at];
        *in = h2o_iovec_init(in->base + (len - slice.len), in->len - (len - slice.len));
        gw_count(&self->compressor->stats.bytes_in[self->coding], len - slice.len);
    }
    return is_last && is_done;
}

/* Encodes until the output is full, the work is done, or the turn is over. */
static size_t encode(struct gw_compressing *self)
{
    struct gw_compressor *compressor = self->compressor;
    uint64_t started_us = gw_now_us();
    size_t used = 0;

    while (self->has_work && self->out_size - used >= OUT_MIN_ROOM && !is_turn_over(compressor)) {
        self->has_work = !encode_slice(self, &used);
        uint64_t now_us = gw_now_us();
        compressor->spent_us += now_us - started_us;
        started_us = now_us;
    }
    gw_count(&compressor->stats.bytes_out[self->coding], used);
    return used;
}

static void end_encoder(struct gw_compressing *self)
{
    gw_encoder_destroy(self->encoder);
    self->encoder = NULL;
}

/* The response's own generator comes back when it shall send again, ours as long as there is something left. Once the
 * source has said everything there is none, and libh2o asks us. */
static void set_generator(struct gw_compressing *self, h2o_req_t *req)
{
    if (self->has_work && self->source == NULL && req->_generator != NULL) {
        self->source = req->_generator;
        req->_generator = &self->generator;
    } else if (!self->has_work && self->source != NULL) {
        req->_generator = self->source;
        self->source = NULL;
    }
}

static void advance(struct gw_compressing *self, bool is_first)
{
    h2o_req_t *req = &self->request->stream->req;
    size_t used = encode(self);
    h2o_iovec_t buf = h2o_iovec_init(self->out, used);

    set_generator(self, req);
    if (!self->has_work && self->state == H2O_SEND_STATE_FINAL) {
        end_encoder(self);
        h2o_ostream_send_next(&self->super, req, &buf, used != 0, H2O_SEND_STATE_FINAL);
    } else if (used != 0 || is_first || !self->has_work) {
        self->super.next->do_send(self->super.next, req, &buf, used != 0, H2O_SEND_STATE_IN_PROGRESS);
    } else {
        wait_for_turn(self);
    }
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct gw_compressing *self = H2O_STRUCT_FROM_MEMBER(struct gw_compressing, generator, generator);
    if (!self->is_broken)
        advance(self, false);
}

static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    struct gw_compressing *self = H2O_STRUCT_FROM_MEMBER(struct gw_compressing, generator, generator);
    if (self->source != NULL && self->source->stop != NULL)
        self->source->stop(self->source, req);
}

/* ---- the response begins ---- */

/* Memory decides how an encoder is set up, or that there is none. */
static bool open_encoder(struct gw_compressing *self, bool is_event_stream)
{
    const struct gw_request *request = self->request;
    const struct routing_compression_conf *conf = gw_compression_conf(self->compression);
    const struct routing_compression_conf *top = request->snapshot->config->compression;
    uint64_t limit = (top != NULL ? top->memory : ROUTING_COMPRESSION_MEMORY) / request->snapshot->num_workers;
    uint64_t used = gw_encoder_memory_reserved(self->compressor->memory);
    size_t size = request->stream->req.res.content_length;
    struct gw_encoder_options options = {self->coding, 0, is_event_stream || used * 2 >= limit,
                                         size == SIZE_MAX ? UINT64_MAX : size};
    struct gw_accept_encoding accept;

    if (used >= limit) {
        gw_count(&self->compressor->stats.skipped, 1);
        return false;
    }
    /* of small windows gzip makes more than brotli, in less memory */
    gw_accept_encoding_read(request->facts.headers, request->facts.num_headers, &accept);
    if (options.is_lean && (conf->algorithms & 1) != 0 && accept.weights[GW_CODING_GZIP] != 0 &&
        accept.weights[GW_CODING_GZIP] >= accept.weights[self->coding])
        options.coding = self->coding = GW_CODING_GZIP;
    options.level = (unsigned)(self->coding == GW_CODING_BROTLI ? conf->brotli_level : conf->gzip_level);
    self->encoder = gw_encoder_create(self->compressor->memory, &options);
    gw_count(&self->compressor->stats.responses[self->coding], 1);
    return true;
}

static bool is_event_stream(const h2o_headers_t *fields)
{
    struct gw_compression_fields read;
    gw_compression_fields_read(fields, &read);
    return h2o_lcstris(read.type.base, read.type.len, H2O_STRLIT("text/event-stream"));
}

/* With the first bytes it shows whether a response of unknown size was only a small one. */
static void decide(struct gw_compressing *self, h2o_req_t *req, size_t len, bool is_final)
{
    self->is_decided = true;
    if (is_final && req->res.content_length == SIZE_MAX && len < gw_compression_conf(self->compression)->min_size)
        self->is_identity = true;
    else if (is_final && len == 0)
        self->is_identity = true;
    else
        self->is_identity = !open_encoder(self, is_event_stream(&req->res.headers));
    if (self->is_identity)
        return;
    gw_compression_see_trailers(self->request);
    self->out_size = is_final && len < OUT_BYTES / 2 ? len + len / 2 + 2 * OUT_MIN_ROOM : OUT_BYTES;
    self->out = h2o_mem_alloc_pool(&req->pool, self->out_size);
    gw_compression_change_fields(&req->pool, &req->res.headers, self->coding);
    req->res.content_length = SIZE_MAX;
}

static void take_input(struct gw_compressing *self, h2o_req_t *req, const h2o_iovec_t *bufs, size_t num)
{
    if (num > self->capacity) {
        self->capacity = num * 2;
        self->in = h2o_mem_alloc_pool(&req->pool, sizeof(*self->in) * self->capacity);
    }
    if (num != 0)
        memcpy(self->in, bufs, sizeof(*bufs) * num);
    self->num_in = num;
    self->at = 0;
    skip_empty(self);
    self->has_work = self->at != self->num_in || self->state == H2O_SEND_STATE_FINAL;
}

static void do_send(h2o_ostream_t *super, h2o_req_t *req, h2o_iovec_t *bufs, size_t num, h2o_send_state_t state)
{
    struct gw_compressing *self = H2O_STRUCT_FROM_MEMBER(struct gw_compressing, super, super);
    bool is_first = !self->is_decided, is_continued = self->has_work;

    if (self->is_broken) /* ours is the end of it: the stream is being aborted */
        return;
    if (is_first) {
        size_t len = 0;
        for (size_t i = 0; i != num; ++i)
            len += bufs[i].len;
        decide(self, req, len, state == H2O_SEND_STATE_FINAL);
    }
    if (self->is_identity) {
        if (state == H2O_SEND_STATE_IN_PROGRESS)
            self->super.next->do_send(self->super.next, req, bufs, num, state);
        else
            h2o_ostream_send_next(&self->super, req, bufs, num, state);
        return;
    }
    if (state == H2O_SEND_STATE_ERROR) {
        end_encoder(self);
        h2o_ostream_send_next(&self->super, req, NULL, 0, state);
        return;
    }
    if (!is_continued) { /* else libh2o asks for the rest, the source being through */
        self->state = state;
        take_input(self, req, bufs, num);
    }
    if (!is_first && !h2o_linklist_is_empty(&self->compressor->waiting)) {
        set_generator(self, req);
        wait_for_turn(self);
    } else {
        advance(self, is_first);
    }
}

/* ---- before the response ---- */

static void add_filter(const struct offer *offer, h2o_req_t *req, h2o_ostream_t ***slot, enum gw_coding coding)
{
    struct gw_compressing *self = (void *)h2o_add_ostream(req, sizeof(*self), *slot);
    h2o_ostream_t *next = self->super.next;

    *self = (struct gw_compressing){.super = {.next = next, .do_send = do_send},
                                    .generator = {on_proceed, on_stop},
                                    .request = offer->request,
                                    .compressor = offer->request->worker->compressor,
                                    .compression = offer->compression,
                                    .coding = coding};
    offer->request->compressing = self;
    *slot = &self->super.next;
}

static void on_setup_ostream(h2o_req_prefilter_t *super, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct offer *offer = H2O_STRUCT_FROM_MEMBER(struct offer, super, super);
    struct gw_request *request = offer->request;
    const struct routing_facts *facts = &request->facts;
    struct gw_compression_question question = {.headers = facts->headers,
                                               .num_headers = facts->num_headers,
                                               .is_http10 = req->version < 0x101,
                                               .status = req->res.status,
                                               .fields = &req->res.headers,
                                               .content_length = req->res.content_length};
    enum gw_coding coding;

    if (req->res.status == 304 && !request->stream->is_tunnel) {
        gw_compression_change_304(&req->pool, &req->res.headers, facts->headers, facts->num_headers);
        req->res.content_length = SIZE_MAX; /* of a 200 that might have been compressed (RFC 9110 8.6) */
    } else if (!request->stream->is_tunnel) {
        enum gw_compression_verdict verdict = gw_compression_judge(offer->compression, &question, &coding);
        if (verdict <= GW_TOO_OLD)
            gw_compression_add_vary(&req->pool, &req->res.headers);
        if (verdict == GW_COMPRESSED && request->stream->is_head_request) {
            gw_compression_change_fields(&req->pool, &req->res.headers, coding);
            req->res.content_length = SIZE_MAX;
        } else if (verdict == GW_COMPRESSED) {
            add_filter(offer, req, &slot, coding);
        }
    }
    h2o_setup_next_prefilter(&offer->super, req, slot);
}

void gw_compression_offer(struct gw_request *request, const struct gw_compression *compression)
{
    struct offer *offer = (void *)h2o_add_prefilter(&request->stream->req, sizeof(*offer));

    offer->super.on_setup_ostream = on_setup_ostream;
    offer->request = request;
    offer->compression = compression;
}

/* ---- the end ---- */

void gw_compression_cut(struct gw_request *request)
{
    struct gw_compressing *self = request->compressing;

    if (self == NULL)
        return;
    self->is_broken = true;
    if (h2o_linklist_is_linked(&self->waiting))
        h2o_linklist_unlink(&self->waiting);
}

void gw_compression_see_trailers(const struct gw_request *request)
{
    const struct gw_compressing *self = request->compressing;

    if (self != NULL && self->is_decided && !self->is_identity)
        gw_compression_change_trailers(&request->stream->response_trailers);
}

void gw_compression_release(struct gw_request *request)
{
    if (request->compressing == NULL)
        return;
    gw_compression_cut(request);
    end_encoder(request->compressing);
    request->compressing = NULL;
}
