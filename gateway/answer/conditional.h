/* Conditional requests: entity tags, HTTP dates and the order in which preconditions count (RFC 9110 8.8, 13). Pure
 * functions on header fields and what is known of the selected representation. */
#pragma once
#include <stdbool.h>
#include <time.h>
#include <h2o.h>

struct gw_validators {
    h2o_iovec_t etag;  /* strong, with its quotes; base NULL: none */
    time_t modified_s; /* seconds since the epoch; -1: none */
    long modified_ns;  /* the rest of it */
};

enum gw_precondition {
    GW_PRECONDITION_HOLDS,        /* do what the method says */
    GW_PRECONDITION_NOT_MODIFIED, /* 304 */
    GW_PRECONDITION_FAILED,       /* 412 */
};
/* RFC 9110 13.2.2, steps 1 to 4, for GET and HEAD on a representation that exists. */
enum gw_precondition gw_precondition_check(const h2o_header_t *headers, size_t num_headers,
                                           const struct gw_validators *);

/* Step 5: may the Range field be followed? True without If-Range; false when its validator is not the current one, is
 * weak, or the file was changed within the last second (RFC 9110 8.8.2.2), whose date is not a strong validator yet. */
bool gw_precondition_allows_range(const h2o_header_t *headers, size_t num_headers, const struct gw_validators *,
                                  const struct timespec *now);

/* All three forms of HTTP-date (RFC 9110 5.6.7); -1 when it is none. now_s settles the century of two-digit years. */
time_t gw_http_date_parse(h2o_iovec_t text, time_t now_s);

enum { GW_ETAG_SIZE = 48 };
/* The strong tag of a file's state: time of change in nanoseconds and size. Returns its length; buf holds GW_ETAG_SIZE.
 */
size_t gw_etag_format(char *buf, const struct timespec *modified, uint64_t size);
