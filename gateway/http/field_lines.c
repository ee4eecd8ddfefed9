#include "gateway/http/field_lines.h"
#include <stdbool.h>
#include <string.h>

size_t gw_field_lines_bound(const h2o_header_t *fields, size_t num_fields)
{
    size_t bytes = num_fields * 4;
    for (const h2o_header_t *f = fields, *end = f + num_fields; f != end; ++f)
        bytes += f->name->len + f->value.len;
    return bytes;
}

/* The value is where it came, and so is the line, unless the value was cut or there was another blank. */
static inline bool is_line_as_it_came(const h2o_header_t *f)
{
    return f->orig_name != NULL && f->value.base == f->orig_name + f->name->len + 2 &&
           memcmp(f->value.base - 2, ": ", 2) == 0 && memcmp(f->value.base + f->value.len, "\r\n", 2) == 0;
}

char *gw_field_lines_put(char *dst, const h2o_header_t *fields, size_t num_fields)
{
    for (const h2o_header_t *f = fields, *end = f + num_fields; f != end;) {
        if (is_line_as_it_came(f)) {
            const char *from = f->orig_name, *to = f->value.base + f->value.len + 2;
            while (++f != end && f->orig_name == to && is_line_as_it_came(f))
                to = f->value.base + f->value.len + 2;
            memcpy(dst, from, (size_t)(to - from));
            dst += to - from;
            continue;
        }
        memcpy(dst, f->name->base, f->name->len);
        dst += f->name->len;
        *dst++ = ':';
        *dst++ = ' ';
        if (f->value.len != 0)
            memcpy(dst, f->value.base, f->value.len);
        dst += f->value.len;
        *dst++ = '\r';
        *dst++ = '\n';
        ++f;
    }
    return dst;
}
