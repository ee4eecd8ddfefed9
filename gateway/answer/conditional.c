#include "gateway/answer/conditional.h"
#include <stdio.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* A walk over entity tags in one field value; what is no tag is stepped over to the next comma. */
struct tag {
    h2o_iovec_t opaque; /* with quotes */
    bool is_weak;
};
static bool next_tag(h2o_iovec_t *rest, struct tag *tag)
{
    const char *s = rest->base, *end = rest->base + rest->len;

    while (s != end) {
        if (is_blank(*s) || *s == ',') {
            ++s;
            continue;
        }
        tag->is_weak = end - s >= 2 && s[0] == 'W' && s[1] == '/';
        const char *open = s + (tag->is_weak ? 2 : 0);
        const char *close = end - open >= 2 && *open == '"' ? memchr(open + 1, '"', end - open - 1) : NULL;
        if (close != NULL) {
            tag->opaque = h2o_iovec_init(open, close + 1 - open);
            *rest = h2o_iovec_init(close + 1, end - close - 1);
            return true;
        }
        s = memchr(s, ',', end - s);
        if (s == NULL)
            break;
    }
    return false;
}

static bool is_asterisk(h2o_iovec_t value)
{
    h2o_iovec_t trimmed = h2o_str_stripws(value.base, value.len);
    return trimmed.len == 1 && *trimmed.base == '*';
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b) { return h2o_memis(a.base, a.len, b.base, b.len); }

/* Does a list of tags (over all fields of the name) hold ours? Strong comparison needs both strong: RFC 9110 8.8.3.2.
 */
static bool list_has(const h2o_header_t *headers, size_t num_headers, const h2o_token_t *name, h2o_iovec_t etag,
                     bool is_strong)
{
    for (size_t i = 0; i != num_headers; ++i) {
        struct tag tag;
        h2o_iovec_t rest;
        if (headers[i].name != &name->buf)
            continue;
        if (is_asterisk(headers[i].value))
            return true;
        for (rest = headers[i].value; etag.base != NULL && next_tag(&rest, &tag);)
            if (is_same(tag.opaque, etag) && !(is_strong && tag.is_weak))
                return true;
    }
    return false;
}

static const h2o_header_t *find(const h2o_header_t *headers, size_t num_headers, const h2o_token_t *name,
                                bool *is_single)
{
    const h2o_header_t *found = NULL;

    *is_single = true;
    for (size_t i = 0; i != num_headers; ++i) {
        if (headers[i].name != &name->buf)
            continue;
        if (found != NULL)
            *is_single = false;
        else
            found = headers + i;
    }
    return found;
}

/* The date of a field that may stand once; -1 when it is absent, repeated or no date: then it is ignored. */
static time_t date_of(const h2o_header_t *headers, size_t num_headers, const h2o_token_t *name)
{
    bool is_single;
    const h2o_header_t *field = find(headers, num_headers, name, &is_single);
    return field != NULL && is_single ? gw_http_date_parse(field->value, time(NULL)) : -1;
}

enum gw_precondition gw_precondition_check(const h2o_header_t *headers, size_t num_headers,
                                           const struct gw_validators *current)
{
    bool ignored;

    if (find(headers, num_headers, H2O_TOKEN_IF_MATCH, &ignored) != NULL) {
        if (!list_has(headers, num_headers, H2O_TOKEN_IF_MATCH, current->etag, true))
            return GW_PRECONDITION_FAILED;
    } else if (current->modified_s != -1) {
        time_t since = date_of(headers, num_headers, H2O_TOKEN_IF_UNMODIFIED_SINCE);
        if (since != -1 && current->modified_s > since)
            return GW_PRECONDITION_FAILED;
    }
    if (find(headers, num_headers, H2O_TOKEN_IF_NONE_MATCH, &ignored) != NULL) {
        if (list_has(headers, num_headers, H2O_TOKEN_IF_NONE_MATCH, current->etag, false))
            return GW_PRECONDITION_NOT_MODIFIED;
    } else if (current->modified_s != -1) {
        time_t since = date_of(headers, num_headers, H2O_TOKEN_IF_MODIFIED_SINCE);
        if (since != -1 && current->modified_s <= since)
            return GW_PRECONDITION_NOT_MODIFIED;
    }
    return GW_PRECONDITION_HOLDS;
}

/* RFC 9110 8.8.2.2: it may change once more with the same date. */
static bool is_fresh(const struct gw_validators *current, const struct timespec *now)
{
    return now->tv_sec <= current->modified_s ||
           (now->tv_sec == current->modified_s + 1 && now->tv_nsec < current->modified_ns);
}

bool gw_precondition_allows_range(const h2o_header_t *headers, size_t num_headers, const struct gw_validators *current,
                                  const struct timespec *now)
{
    bool is_single;
    const h2o_header_t *field = find(headers, num_headers, H2O_TOKEN_IF_RANGE, &is_single);

    if (field == NULL)
        return true;
    if (!is_single)
        return false;
    h2o_iovec_t value = h2o_str_stripws(field->value.base, field->value.len);
    if (value.len >= 2 && (value.base[0] == '"' || memcmp(value.base, "W/", 2) == 0))
        return current->etag.base != NULL && is_same(value, current->etag); /* a weak tag never equals our strong one */
    return current->modified_s != -1 && gw_http_date_parse(value, now->tv_sec) == current->modified_s &&
           !is_fresh(current, now);
}

/* Reads exactly `count` digits (a blank may pad the first of asctime's day). */
static bool digits(const char *s, size_t count, int *value)
{
    *value = 0;
    for (size_t i = 0; i != count; ++i) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *value = *value * 10 + (s[i] - '0');
    }
    return true;
}

static bool read_month(const char *s, int *month)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (*month = 0; *month != 12; ++*month)
        if (memcmp(s, names + *month * 3, 3) == 0)
            return true;
    return false;
}

/* "08:49:37" */
static bool read_clock(const char *s, struct tm *tm)
{
    return digits(s, 2, &tm->tm_hour) && s[2] == ':' && digits(s + 3, 2, &tm->tm_min) && s[5] == ':' &&
           digits(s + 6, 2, &tm->tm_sec);
}

/* The range checks that timegm() would silently wrap around. */
static time_t seconds_of(struct tm *tm)
{
    struct tm copy;
    time_t t;

    if (tm->tm_mday < 1 || tm->tm_mday > 31 || tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60)
        return -1;
    copy = *tm;
    t = timegm(&copy);
    return copy.tm_mday == tm->tm_mday || tm->tm_sec == 60 ? t : -1; /* no 30 February */
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool read_imf(const char *s, size_t len, struct tm *tm)
{
    int year;
    if (len != 29 || s[3] != ',' || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' ||
        memcmp(s + 25, " GMT", 4) != 0 || !digits(s + 5, 2, &tm->tm_mday) || !read_month(s + 8, &tm->tm_mon) ||
        !digits(s + 12, 4, &year) || !read_clock(s + 17, tm))
        return false;
    tm->tm_year = year - 1900;
    return true;
}

/* Sunday, 06-Nov-94 08:49:37 GMT: a year more than 50 years ahead is of the last century (RFC 9110 5.6.7) */
static bool read_rfc850(const char *s, size_t len, struct tm *tm, time_t now_s)
{
    const char *comma = memchr(s, ',', len);
    struct tm now;
    int year;

    if (comma == NULL || comma - s < 6 || comma - s > 9)
        return false;
    len -= comma + 1 - s;
    s = comma + 1;
    if (len != 23 || s[0] != ' ' || s[3] != '-' || s[7] != '-' || s[10] != ' ' || memcmp(s + 19, " GMT", 4) != 0 ||
        !digits(s + 1, 2, &tm->tm_mday) || !read_month(s + 4, &tm->tm_mon) || !digits(s + 8, 2, &year) ||
        !read_clock(s + 11, tm))
        return false;
    gmtime_r(&now_s, &now);
    year += (now.tm_year + 1900) / 100 * 100;
    if (year > now.tm_year + 1900 + 50)
        year -= 100;
    tm->tm_year = year - 1900;
    return true;
}

/* Sun Nov  6 08:49:37 1994 */
static bool read_asctime(const char *s, size_t len, struct tm *tm)
{
    int year;
    if (len != 24 || s[3] != ' ' || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' || !read_month(s + 4, &tm->tm_mon) ||
        !(s[8] == ' ' ? digits(s + 9, 1, &tm->tm_mday) : digits(s + 8, 2, &tm->tm_mday)) || !read_clock(s + 11, tm) ||
        !digits(s + 20, 4, &year))
        return false;
    tm->tm_year = year - 1900;
    return true;
}

time_t gw_http_date_parse(h2o_iovec_t text, time_t now_s)
{
    h2o_iovec_t s = h2o_str_stripws(text.base, text.len);
    struct tm tm = {0};

    if (s.len < 24)
        return -1;
    if (!read_imf(s.base, s.len, &tm) && !read_asctime(s.base, s.len, &tm) && !read_rfc850(s.base, s.len, &tm, now_s))
        return -1;
    return seconds_of(&tm);
}

size_t gw_etag_format(char *buf, const struct timespec *modified, uint64_t size)
{
    uint64_t ns = (uint64_t)modified->tv_sec * 1000000000 + (uint64_t)modified->tv_nsec;
    return snprintf(buf, GW_ETAG_SIZE, "\"%llx-%llx\"", (unsigned long long)ns, (unsigned long long)size);
}
