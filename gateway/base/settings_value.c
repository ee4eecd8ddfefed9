/* One scalar of a settings table: reading, writing, bounds, and the words for what was expected. */
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/settings_internal.h"

struct unit {
    const char *name;
    uint64_t factor;
};
/* Largest first: formatting takes the first that divides. */
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {NULL, 0}};
static const struct unit sizes[] = {{"TiB", 1ull << 40},
                                    {"GiB", 1ull << 30},
                                    {"MiB", 1ull << 20},
                                    {"KiB", 1ull << 10},
                                    {"TB", 1000000000000},
                                    {"GB", 1000000000},
                                    {"MB", 1000000},
                                    {"KB", 1000},
                                    {"kB", 1000},
                                    {"B", 1},
                                    {"", 1},
                                    {NULL, 0}};

static bool parse_digits(h2o_iovec_t *text, uint64_t *number)
{
    size_t i = 0;
    for (*number = 0; i != text->len && text->base[i] >= '0' && text->base[i] <= '9'; ++i) {
        unsigned digit = text->base[i] - '0';
        if (__builtin_mul_overflow(*number, 10, number) || __builtin_add_overflow(*number, digit, number))
            return false;
    }
    text->base += i;
    text->len -= i;
    return i != 0;
}

static bool parse_with_unit(h2o_iovec_t text, const struct unit *units, uint64_t *number)
{
    if (!parse_digits(&text, number))
        return false;
    for (; units->name != NULL; ++units)
        if (h2o_memis(text.base, text.len, units->name, strlen(units->name)))
            return !__builtin_mul_overflow(*number, units->factor, number);
    return false;
}

static bool parse_percent(h2o_iovec_t text, double *fraction)
{
    char buf[24];
    size_t num_points = 0, len = text.len - 1;
    if (text.len < 2 || text.len > sizeof(buf) || text.base[len] != '%')
        return false;
    for (size_t i = 0; i != len; ++i) {
        char c = text.base[i];
        num_points += c == '.';
        if (!(c >= '0' && c <= '9') && (c != '.' || i == 0 || i + 1 == len))
            return false;
    }
    memcpy(buf, text.base, len);
    buf[len] = '\0';
    *fraction = strtod(buf, NULL);
    return num_points <= 1;
}

static bool parse_choice(const struct gw_setting *row, h2o_iovec_t text, uint64_t *index)
{
    for (*index = 0; row->choices[*index] != NULL; ++*index)
        if (h2o_memis(text.base, text.len, row->choices[*index], strlen(row->choices[*index])))
            return true;
    return false;
}

bool gw_value_parse(const struct gw_setting *row, h2o_iovec_t text, uint64_t *number, double *fraction)
{
    switch (row->type) {
    case GW_BOOL:
        *number = h2o_memis(text.base, text.len, H2O_STRLIT("true"));
        return *number || h2o_memis(text.base, text.len, H2O_STRLIT("false"));
    case GW_NUMBER:
        return parse_digits(&text, number) && text.len == 0;
    case GW_DURATION:
        if (h2o_memis(text.base, text.len, H2O_STRLIT("0"))) {
            *number = 0;
            return true;
        }
        return parse_with_unit(text, durations, number);
    case GW_SIZE:
        return parse_with_unit(text, sizes, number);
    case GW_PERCENT:
        return parse_percent(text, fraction);
    case GW_CHOICE:
    case GW_CHOICES:
        return parse_choice(row, text, number);
    default:
        return false;
    }
}

static const char *format_with_unit(const struct unit *units, uint64_t number, char *buf)
{
    if (number == 0)
        return "0";
    while (number % units->factor != 0)
        ++units;
    sprintf(buf, "%llu%s", (unsigned long long)(number / units->factor),
            strcmp(units->name, "B") == 0 ? "" : units->name);
    return buf;
}

/* Never with an exponent, which is not read again. */
static const char *format_percent(double fraction, char *buf)
{
    size_t len = (size_t)sprintf(buf, "%.10f", fraction);
    while (buf[len - 1] == '0')
        --len;
    if (buf[len - 1] == '.')
        --len;
    strcpy(buf + len, "%");
    return buf;
}

const char *gw_value_format(enum gw_setting_type type, uint64_t number, double fraction, char *buf)
{
    switch (type) {
    case GW_BOOL:
        return number != 0 ? "true" : "false";
    case GW_DURATION:
        return format_with_unit(durations, number, buf);
    case GW_SIZE:
        return format_with_unit(sizes, number, buf);
    case GW_PERCENT:
        return format_percent(fraction, buf);
    default:
        sprintf(buf, "%llu", (unsigned long long)number);
        return buf;
    }
}

uint64_t gw_value_number(double initial)
{
    return initial >= 18446744073709551616.0 ? UINT64_MAX : initial <= 0 ? 0 : (uint64_t)initial;
}

/* Without a bound of its own, a duration stays where adding it to a clock cannot overflow. */
static double upper_bound(const struct gw_setting *row)
{
    if (row->max != 0)
        return row->max;
    return row->type == GW_DURATION ? 3650.0 * 86400 * 1000 : row->type == GW_PERCENT ? 100 : 0;
}

bool gw_value_is_in_bounds(const struct gw_setting *row, uint64_t number, double fraction)
{
    double value = row->type == GW_PERCENT ? fraction : (double)number, max = upper_bound(row);
    if (row->type == GW_BOOL || row->type == GW_CHOICE || row->type == GW_CHOICES)
        return true;
    return value >= row->min && (max == 0 || value <= max) && !(row->no_zero && value == 0);
}

const char *gw_value_bounds(const struct gw_setting *row, char *buf, size_t buf_len)
{
    char low_buf[32], high_buf[32];
    const char *low = gw_value_format(row->type, gw_value_number(row->min), row->min, low_buf);
    const char *high = gw_value_format(row->type, gw_value_number(upper_bound(row)), upper_bound(row), high_buf);
    if (row->min != 0 && upper_bound(row) != 0)
        snprintf(buf, buf_len, "from %s to %s", low, high);
    else if (row->min != 0)
        snprintf(buf, buf_len, "of at least %s", low);
    else if (upper_bound(row) != 0)
        snprintf(buf, buf_len, row->no_zero ? "above 0 up to %s" : "up to %s", high);
    else
        snprintf(buf, buf_len, "%s", row->no_zero ? "above 0" : "");
    return buf;
}

static const char *expected_choice(const struct gw_setting *row, char *buf, size_t buf_len)
{
    size_t n = 0, len = 0;
    while (row->choices[n] != NULL)
        ++n;
    buf[0] = '\0';
    for (size_t i = 0; i != n && len < buf_len; ++i) {
        if (i == 8 && n > 10) {
            snprintf(buf + len, buf_len - len, " or %zu others", n - i);
            break;
        }
        len += snprintf(buf + len, buf_len - len, "%s%s", i == 0 ? "" : i + 1 == n ? " or " : ", ", row->choices[i]);
    }
    return buf;
}

const char *gw_value_expected(const struct gw_setting *row, char *buf, size_t buf_len)
{
    char bounds[96];
    switch (row->type) {
    case GW_BOOL:
        return "true or false";
    case GW_NUMBER:
        gw_value_bounds(row, bounds, sizeof(bounds));
        snprintf(buf, buf_len, "a number%s%s", bounds[0] != '\0' ? " " : "", bounds);
        return buf;
    case GW_DURATION:
        return "a duration like 500ms, 30s, 5m, 1h or 7d";
    case GW_SIZE:
        return "a size like 512, 64KiB or 10MB";
    case GW_PERCENT:
        return "a percentage like 20% or 0.5%";
    case GW_CHOICE:
    case GW_CHOICES:
        return expected_choice(row, buf, buf_len);
    case GW_ADDRESS:
    case GW_ADDRESSES:
        return "an address like 127.0.0.1:8080, [::1]:8080 or unix:/path";
    case GW_TEXT:
    case GW_TEXTS:
        return "a text";
    default:
        return "another value";
    }
}
