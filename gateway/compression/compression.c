#include "gateway/compression/compression.h"
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include "gateway/base/glob.h"
#include "gateway/base/trace.h"
#include "gateway/compression/compression_fields.h"
#include "gateway/request.h"

struct gw_compression {
    const struct routing_compression_conf *conf;
    unsigned available; /* bits of codings */
    size_t num_types;
    struct {
        h2o_iovec_t text;
        bool is_glob;
    } types[];
};

struct gw_compression *gw_compression_create(const struct routing_compression_conf *conf)
{
    if (conf == NULL || !conf->is_enabled)
        return NULL;
    struct gw_compression *compression =
        h2o_mem_alloc(sizeof(*compression) + sizeof(compression->types[0]) * conf->types.size);
    compression->conf = conf;
    compression->available = conf->algorithms << 1; /* bit 0 there is gzip's, identity has none */
    compression->num_types = conf->types.size;
    for (size_t i = 0; i != conf->types.size; ++i) {
        h2o_iovec_t text = conf->types.entries[i];
        compression->types[i].text = text;
        compression->types[i].is_glob =
            memchr(text.base, '*', text.len) != NULL || memchr(text.base, '?', text.len) != NULL;
    }
    return compression;
}

void gw_compression_destroy(struct gw_compression *compression) { free(compression); }

const struct routing_compression_conf *gw_compression_conf(const struct gw_compression *compression)
{
    return compression->conf;
}

/* ---- the verdict ---- */

static bool is_listed(const struct gw_compression *compression, h2o_iovec_t type)
{
    /* frames of gRPC carry their own compression, and clients of it know no Content-Encoding */
    if (type.len >= 16 && h2o_lcstris(type.base, 16, H2O_STRLIT("application/grpc")))
        return false;
    for (size_t i = 0; i != compression->num_types; ++i) {
        h2o_iovec_t text = compression->types[i].text;
        if (compression->types[i].is_glob ? gw_glob_match_nocase(text, type)
                                          : text.len == type.len && strncasecmp(text.base, type.base, type.len) == 0)
            return true;
    }
    return false;
}

/* 206 is a part, which another coding would make a part of nothing; 205, 204, 304 and 1xx have no content. */
static bool has_content(int status)
{
    return status >= 200 && status != 204 && status != 205 && status != 206 && status != 304;
}

static bool fits(const struct gw_compression *compression, size_t size, bool any_size_from_1)
{
    const struct routing_compression_conf *conf = compression->conf;

    if (size == SIZE_MAX)
        return true;
    return size >= (any_size_from_1 ? 1 : conf->min_size) && size != 0 &&
           (conf->max_size == 0 || size <= conf->max_size);
}

/* What does not depend on the client. */
static enum gw_compression_verdict judge_response(const struct gw_compression *compression,
                                                  const struct gw_compression_question *q, bool refuses_identity)
{
    struct gw_compression_fields fields;

    if (!has_content(q->status))
        return GW_NO_CONTENT;
    gw_compression_fields_read(q->fields, &fields);
    if (fields.is_encoded)
        return GW_ALREADY_ENCODED;
    if (fields.type.len == 0 || !is_listed(compression, fields.type))
        return GW_TYPE_NOT_LISTED;
    if (!fits(compression, q->content_length, refuses_identity))
        return GW_SIZE_OUT_OF_BOUNDS;
    return fields.is_no_transform ? GW_NO_TRANSFORM : GW_COMPRESSED;
}

enum gw_compression_verdict gw_compression_judge(const struct gw_compression *compression,
                                                 const struct gw_compression_question *q, enum gw_coding *coding)
{
    struct gw_accept_encoding accept;
    enum gw_compression_verdict verdict;

    gw_accept_encoding_read(q->headers, q->num_headers, &accept);
    *coding = gw_accept_encoding_choose(&accept, compression->available);
    /* RFC 9110 12.5.3: who refuses identity is not told "too small" */
    verdict = judge_response(compression, q, *coding != GW_CODING_IDENTITY && accept.weights[GW_CODING_IDENTITY] == 0);
    if (verdict != GW_COMPRESSED)
        return verdict;
    if (q->is_http10)
        return GW_TOO_OLD;
    if (gw_compression_has_no_transform(q->headers, q->num_headers))
        return GW_NOT_TRANSFORMED;
    return *coding == GW_CODING_IDENTITY ? GW_NOT_ACCEPTED : GW_COMPRESSED;
}

/* ---- explain ---- */

static void explain_answer(const struct gw_compression *compression, struct gw_trace *trace,
                           const struct gw_compression_question *q)
{
    const struct gw_node *at = compression->conf->at;
    enum gw_coding coding;

    switch (gw_compression_judge(compression, q, &coding)) {
    case GW_COMPRESSED:
        gw_trace(trace, "compression", at, "the answer is compressed: %s", gw_coding_name(coding).base);
        break;
    case GW_NO_CONTENT:
        gw_trace(trace, "compression", at, "the answer is not compressed: status %d", q->status);
        break;
    case GW_TYPE_NOT_LISTED:
        gw_trace(trace, "compression", gw_setting_at(at, "types"),
                 "the answer is not compressed: its type is not in types");
        break;
    case GW_SIZE_OUT_OF_BOUNDS:
        gw_trace(trace, "compression", gw_setting_at(at, "min_size"),
                 "the answer is not compressed: %zu bytes (min_size %" PRIu64 ", max_size %" PRIu64 ")",
                 q->content_length, compression->conf->min_size, compression->conf->max_size);
        break;
    case GW_ALREADY_ENCODED:
        gw_trace(trace, "compression", at, "the answer is not compressed: it is encoded already");
        break;
    case GW_NO_TRANSFORM:
        gw_trace(trace, "compression", at, "the answer is not compressed: its Cache-Control has no-transform");
        break;
    case GW_NOT_ACCEPTED:
    case GW_NOT_TRANSFORMED:
    case GW_TOO_OLD:
        break; /* said before */
    }
}

void gw_compression_explain(const struct gw_compression *compression, struct gw_trace *trace,
                            const struct gw_compression_question *q)
{
    const struct routing_compression_conf *conf = compression->conf;
    struct gw_accept_encoding accept;
    enum gw_coding coding;

    if (trace == NULL)
        return;
    if (q->fields != NULL) {
        explain_answer(compression, trace, q);
        return;
    }
    gw_accept_encoding_read(q->headers, q->num_headers, &accept);
    coding = gw_accept_encoding_choose(&accept, compression->available);
    if (gw_compression_has_no_transform(q->headers, q->num_headers))
        gw_trace(trace, "compression", conf->at, "none: the client's Cache-Control has no-transform");
    else if (coding == GW_CODING_IDENTITY)
        gw_trace(trace, "compression", conf->at, "none: the client's Accept-Encoding has no coding of ours");
    else
        gw_trace(trace, "compression", conf->at,
                 "%s, if the response has one of %zu types, %" PRIu64 " to %" PRIu64
                 " bytes or an unknown size, and is not encoded yet",
                 gw_coding_name(coding).base, compression->num_types, conf->min_size,
                 conf->max_size != 0 ? conf->max_size : UINT64_MAX);
}
