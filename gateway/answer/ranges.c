#include "gateway/answer/ranges.h"
#include <stdbool.h>
#include <stdlib.h>

static const char *skip_blanks(const char *s, const char *end)
{
    while (s != end && (*s == ' ' || *s == '\t'))
        ++s;
    return s;
}

/* Digits; stops at 2^62, far above any file. NULL if there is no digit. */
static const char *read_number(const char *s, const char *end, uint64_t *number)
{
    const char *start = s;
    for (*number = 0; s != end && *s >= '0' && *s <= '9'; ++s)
        if (*number < UINT64_C(1) << 58)
            *number = *number * 10 + (*s - '0');
        else
            *number = UINT64_C(1) << 62;
    return s != start ? s : NULL;
}

enum spec { SPEC_BAD, SPEC_OUTSIDE, SPEC_INSIDE, SPEC_EMPTY_FILE };

/* One range-spec: "first-", "first-last" or "-suffix". */
static const char *read_spec(const char *s, const char *end, uint64_t size, struct gw_range *range, enum spec *spec)
{
    uint64_t first, last = UINT64_MAX;

    *spec = SPEC_BAD;
    if (s != end && *s == '-') {
        if ((s = read_number(s + 1, end, &last)) == NULL)
            return NULL;
        *range = (struct gw_range){last < size ? size - last : 0, size};
        *spec = last == 0 ? SPEC_OUTSIDE : size == 0 ? SPEC_EMPTY_FILE : SPEC_INSIDE;
        return s;
    }
    if ((s = read_number(s, end, &first)) == NULL || s == end || *s++ != '-')
        return NULL;
    if (s != end && *s >= '0' && *s <= '9') {
        s = read_number(s, end, &last);
        if (last < first)
            return NULL;
    }
    *range = (struct gw_range){first, last < size ? last + 1 : size};
    *spec = first < size ? SPEC_INSIDE : SPEC_OUTSIDE;
    return s;
}

static int compare_first(const void *a, const void *b)
{
    const struct gw_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Joins in place and returns how many are left. Ranges that stay apart keep the order they were asked for in. */
static size_t join(struct gw_range *ranges, size_t n)
{
    struct gw_range sorted[GW_MAX_RANGE_SPECS];
    size_t kept = 0;

    h2o_memcpy(sorted, ranges, n * sizeof(*ranges));
    qsort(sorted, n, sizeof(*sorted), compare_first);
    for (size_t i = 0; i != n; ++i) {
        if (kept != 0 && sorted[i].first <= sorted[kept - 1].end) {
            if (sorted[i].end > sorted[kept - 1].end)
                sorted[kept - 1].end = sorted[i].end;
        } else {
            sorted[kept++] = sorted[i];
        }
    }
    if (kept != n)
        h2o_memcpy(ranges, sorted, kept * sizeof(*ranges));
    return kept;
}

/* Reads the list into specs; returns false when it is malformed or too long: then the field is ignored. */
static bool read_list(const char *s, const char *end, uint64_t size, struct gw_range *ranges, size_t *num_inside,
                      bool *is_empty_file)
{
    size_t num_specs = 0;

    *num_inside = 0;
    *is_empty_file = false;
    while ((s = skip_blanks(s, end)) != end) {
        enum spec spec;
        if (*s == ',') { /* empty elements of a list are allowed: RFC 9110 5.6.1.2 */
            ++s;
            continue;
        }
        if (num_specs++ == GW_MAX_RANGE_SPECS)
            return false;
        if ((s = read_spec(s, end, size, &ranges[*num_inside], &spec)) == NULL)
            return false;
        s = skip_blanks(s, end);
        if (s != end && *s != ',')
            return false;
        *num_inside += spec == SPEC_INSIDE;
        *is_empty_file |= spec == SPEC_EMPTY_FILE;
    }
    return num_specs != 0;
}

enum gw_range_result gw_ranges_parse(h2o_iovec_t value, uint64_t size, struct gw_ranges *ranges)
{
    struct gw_range specs[GW_MAX_RANGE_SPECS + 1];
    size_t n;
    bool is_empty_file;

    ranges->size = 0;
    value = h2o_str_stripws(value.base, value.len);
    if (value.len < 6 || !h2o_lcstris(value.base, 6, H2O_STRLIT("bytes=")))
        return GW_RANGE_WHOLE;
    if (!read_list(value.base + 6, value.base + value.len, size, specs, &n, &is_empty_file))
        return GW_RANGE_WHOLE;
    if (n == 0)
        return is_empty_file ? GW_RANGE_WHOLE : GW_RANGE_UNSATISFIABLE; /* the last bytes of nothing: all of it */
    if ((n = join(specs, n)) > GW_MAX_RANGES)
        return GW_RANGE_WHOLE;
    h2o_memcpy(ranges->entries, specs, n * sizeof(*specs));
    ranges->size = n;
    return GW_RANGE_PARTIAL;
}
