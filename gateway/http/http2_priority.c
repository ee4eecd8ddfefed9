#include "gateway/http/http2_priority.h"
#include <string.h>

enum { DEFAULT_URGENCY = 3 };

static const char *skip_blanks(const char *p, const char *end)
{
    while (p != end && (*p == ' ' || *p == '\t'))
        ++p;
    return p;
}

static bool is_key_start(char c) { return ('a' <= c && c <= 'z') || c == '*'; }
static bool is_key(char c) { return is_key_start(c) || ('0' <= c && c <= '9') || c == '_' || c == '-' || c == '.'; }

/* The value of a member we do not know, with its parameters: all up to the next comma that is not quoted or in an inner
 * list. Its grammar is nobody's business here. */
static const char *skip_value(const char *p, const char *end)
{
    bool is_quoted = false;
    int depth = 0;
    for (; p != end; ++p) {
        if (is_quoted) {
            if (*p == '\\' && p + 1 != end)
                ++p;
            else if (*p == '"')
                is_quoted = false;
        } else if (*p == '"') {
            is_quoted = true;
        } else if (*p == '(') {
            ++depth;
        } else if (*p == ')') {
            --depth;
        } else if (*p == ',' && depth <= 0) {
            break;
        }
    }
    return is_quoted || depth != 0 ? NULL : p;
}

static bool read_urgency(h2o_iovec_t value, uint32_t *urgency)
{
    if (value.len == 0 || value.base[0] < '0' || value.base[0] > '7' || (value.len > 1 && value.base[1] != ';'))
        return false;
    *urgency = (uint32_t)(value.base[0] - '0');
    return true;
}

/* A key without value is true. */
static bool read_incremental(h2o_iovec_t value, int *is_incremental)
{
    if (value.len == 0 || value.base[0] == ';') {
        *is_incremental = 1;
        return true;
    }
    if (value.len < 2 || value.base[0] != '?' || (value.base[1] != '0' && value.base[1] != '1') ||
        (value.len > 2 && value.base[2] != ';'))
        return false;
    *is_incremental = value.base[1] == '1';
    return true;
}

static bool read_member(h2o_iovec_t key, bool has_value, h2o_iovec_t value, uint32_t *urgency, int *is_incremental)
{
    while (value.len != 0 && (value.base[value.len - 1] == ' ' || value.base[value.len - 1] == '\t'))
        --value.len;
    if (has_value && (value.len == 0 || value.base[0] == ';'))
        return false;
    if (key.len == 1 && key.base[0] == 'u')
        return has_value && read_urgency(value, urgency);
    if (key.len == 1 && key.base[0] == 'i')
        return read_incremental(value, is_incremental);
    return true;
}

bool gw_http2_priority_parse(h2o_iovec_t text, uint32_t *urgency, int *is_incremental)
{
    const char *end = text.base + text.len, *p = skip_blanks(text.base, end), *key, *value;

    *urgency = DEFAULT_URGENCY;
    *is_incremental = 0;
    while (p != end) {
        if (!is_key_start(*p))
            return false;
        for (key = p; p != end && is_key(*p);)
            ++p;
        h2o_iovec_t name = h2o_iovec_init(key, (size_t)(p - key));
        bool has_value = p != end && *p == '=';
        value = has_value ? ++p : p;
        if ((p = skip_value(p, end)) == NULL ||
            !read_member(name, has_value, h2o_iovec_init(value, (size_t)(p - value)), urgency, is_incremental))
            return false;
        if (p == end)
            break;
        if ((p = skip_blanks(p + 1, end)) == end) /* a comma at the end */
            return false;
    }
    return true;
}
