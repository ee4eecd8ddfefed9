/* Decoder of the chunked transfer coding (RFC 9112 7.1), strict: hex size of at most 16 digits and 2^63-1, extensions
 * parsed by their grammar and dropped (at most 1 KiB a line), CRLF only, trailers checked like header fields, bounded
 * to 8 KiB and dropped. Works in place on any cut of the input: payload is moved to the front. Plain value; no
 * allocation. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <h2o/memory.h>

struct gw_chunked {
    uint64_t left;       /* of the current chunk's data; while its size is read: the size so far */
    uint32_t line_bytes; /* of the current size line or trailer section */
    /* Framing bytes beyond 16 and twice the payload, chunk by chunk: what a stream of small chunks with fat extensions
     * costs above an honest one. More than 16 KiB are refused. */
    uint32_t overhead;
    uint8_t state, digits;
};
enum gw_chunked_result { GW_CHUNKED_MORE, GW_CHUNKED_DONE, GW_CHUNKED_BAD };
void gw_chunked_init(struct gw_chunked *);
/* In: *len bytes at data. Out: *len payload bytes at data, *consumed bytes of input used (== input length unless DONE:
 * what follows belongs to the next message). BAD: the message cannot be trusted, close. DONE and BAD are final: further
 * calls return them again and consume nothing. */
enum gw_chunked_result gw_chunked_decode(struct gw_chunked *, char *data, size_t *len, size_t *consumed);
