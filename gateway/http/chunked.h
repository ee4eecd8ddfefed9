/* Decoder of the chunked transfer coding (RFC 9112 7.1), strict: hex size of at most 16 digits and 2^63-1, extensions
 * parsed by their grammar and dropped (at most 1 KiB a line), CRLF only, trailers checked like header fields, bounded
 * to 8 KiB and 100 fields, and kept where the caller wants them. Works in place on any cut of the input: payload is
 * moved to the front. Plain value; allocates only for trailers that are kept. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <h2o/memory.h>

struct gw_chunked {
    uint64_t left;       /* of the current chunk's data; while its size is read: the size so far */
    uint32_t line_bytes; /* of the current size line or trailer section */
    /* Framing bytes beyond 16 and twice the payload, chunk by chunk: what a stream of small chunks with fat extensions
     * costs above an honest one. More than 16 KiB are refused. */
    uint32_t overhead;
    uint8_t state;
    uint8_t digits;      /* of a size; behind the last chunk the number of trailer fields */
    bool keeps_trailers; /* set by the caller after init; gw_chunked_dispose is due then */
    char *trailers;      /* owned; as they come */
};
enum gw_chunked_result { GW_CHUNKED_MORE, GW_CHUNKED_DONE, GW_CHUNKED_BAD, GW_CHUNKED_TRAILERS_TOO_LARGE };
void gw_chunked_init(struct gw_chunked *);
/* Frees what was kept, and keeps nothing more. Fine for a decoder that is all zero. */
void gw_chunked_dispose(struct gw_chunked *);
/* After DONE: the trailer section without the empty line, each line with its CRLF; base NULL: none was kept. Valid
 * until the dispose. */
h2o_iovec_t gw_chunked_trailers(const struct gw_chunked *);
/* In: *len bytes at data. Out: *len payload bytes at data, *consumed bytes of input used (== input length unless DONE:
 * what follows belongs to the next message). BAD, and TRAILERS_TOO_LARGE, which is about limits alone: the message
 * cannot be used, close. All but MORE are final: further calls return them again and consume nothing. */
enum gw_chunked_result gw_chunked_decode(struct gw_chunked *, char *data, size_t *len, size_t *consumed);
