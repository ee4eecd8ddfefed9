/* Writing HTML into a growing buffer. What comes from outside goes through the escaping functions: markup is only what
 * this program says. One thread. */
#pragma once
#include <h2o/memory.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_html {
    char *base;
    size_t size, capacity;
};
void gw_html_dispose(struct gw_html *);                   /* zero to begin */
void gw_html_markup(struct gw_html *, const char *);      /* as it is */
void gw_html_bytes(struct gw_html *, h2o_iovec_t markup); /* as they are */
/* Content of elements and of attributes in double quotes. Control characters but for line ends, and bytes
 * that are not UTF-8, become U+FFFD. */
void gw_html_text(struct gw_html *, h2o_iovec_t);
void gw_html_string(struct gw_html *, const char *);
/* Markup with values: %s is escaped, %t is an h2o_iovec_t (escaped), %n an uint64_t (12,345), %i an int64_t, %m markup,
 * %%.
 */
void gw_html_format(struct gw_html *, const char *format, ...);
