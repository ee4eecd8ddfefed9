/* Byte ranges (RFC 9110 14): from a Range field to the pieces to send. Pure functions. */
#pragma once
#include <h2o.h>

enum {
    GW_MAX_RANGES = 16,       /* parts of one answer; who asks for more gets the whole */
    GW_MAX_RANGE_SPECS = 256, /* read at all, before joining */
};
struct gw_range {
    uint64_t first, end; /* [first, end) */
};
struct gw_ranges {
    struct gw_range entries[GW_MAX_RANGES];
    size_t size;
};
enum gw_range_result {
    GW_RANGE_WHOLE,         /* no Range, or one to be ignored: malformed, another unit, too many parts: 200 */
    GW_RANGE_PARTIAL,       /* 206 with these pieces */
    GW_RANGE_UNSATISFIABLE, /* 416 */
};
/* Ranges that overlap or touch are joined (then they come in ascending order), so that an answer is never longer
 * than the whole plus its part headers, however many ranges overlap (CVE-2011-3192). */
enum gw_range_result gw_ranges_parse(h2o_iovec_t value, uint64_t size, struct gw_ranges *);
