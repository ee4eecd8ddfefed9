/* Decoder of the chunked transfer coding (RFC 9112 7.1), strict: hex size of at most 16 digits, extensions parsed by
 * their grammar and dropped (at most 1 KiB a line), CRLF only, trailers checked like header fields and bounded. Works in
 * place on any cut of the input: payload is moved to the front. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <h2o/memory.h>

struct gw_chunked {
    uint64_t left;        /* of the current chunk's data */
    uint32_t line_bytes;  /* of the current size line or trailer section */
    uint32_t overhead;    /* framing bytes since the last 8 KiB of payload: a stream of 1-byte chunks with fat extensions is refused */
    uint8_t state, digits;
    /* add what the state machine needs */
    uint8_t sub_state, last;
};
enum gw_chunked_result { GW_CHUNKED_MORE, GW_CHUNKED_DONE, GW_CHUNKED_BAD };
void gw_chunked_init(struct gw_chunked *);
/* In: *len bytes at data. Out: *len payload bytes at data, *consumed bytes of input used (== input length unless DONE:
 * what follows belongs to the next message). BAD: the message cannot be trusted, close. */
enum gw_chunked_result gw_chunked_decode(struct gw_chunked *, char *data, size_t *len, size_t *consumed);
