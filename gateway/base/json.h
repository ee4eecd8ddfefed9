/* Writing JSON into a growing buffer. Escapes per RFC 8259; bytes that are not UTF-8 come out as U+FFFD, so that the
 * output always parses. Commas are the writer's business. One thread. Reading JSON: jansson. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>

struct gw_json {
    char *base;
    size_t size, capacity;
    bool needs_comma;
};
void gw_json_init(struct gw_json *);
void gw_json_dispose(struct gw_json *);
void gw_json_reset(struct gw_json *); /* keeps the memory */

void gw_json_object(struct gw_json *);     /* { */
void gw_json_object_end(struct gw_json *); /* } */
void gw_json_array(struct gw_json *);
void gw_json_array_end(struct gw_json *);
void gw_json_key(struct gw_json *, const char *key); /* a literal that needs no escape */
void gw_json_key_text(struct gw_json *, h2o_iovec_t key);
void gw_json_text(struct gw_json *, h2o_iovec_t);
void gw_json_string(struct gw_json *, const char *);
void gw_json_number(struct gw_json *, int64_t);
void gw_json_unsigned(struct gw_json *, uint64_t);
void gw_json_decimal(struct gw_json *, double value, int digits); /* fixed digits after the point */
void gw_json_bool(struct gw_json *, bool);
void gw_json_null(struct gw_json *);
/* Length of the well-formed UTF-8 sequence at p (RFC 3629 4: shortest form, no surrogates, up to U+10FFFF), or 0. left
 * is at least 1. */
size_t gw_utf8_length(const unsigned char *p, size_t left);
/* A value that is JSON already. */
void gw_json_encoded(struct gw_json *, const char *, size_t);
/* Bytes as they are, like a line end; takes part in no comma rule. */
void gw_json_raw(struct gw_json *, const char *, size_t);
