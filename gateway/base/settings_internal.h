/* Shared by the files around settings tables: settings_value.c (one scalar), settings.c (loading), settings_print.c,
 * schema.c and settings_help.c. */
#pragma once
#include "gateway/base/settings.h"

/* Scalars of GW_BOOL GW_NUMBER GW_DURATION GW_SIZE GW_PERCENT GW_CHOICE(S): text to the value as stored, as a number.
 * false: it does not read so. Bounds are not looked at. */
bool gw_value_parse(const struct gw_setting *, h2o_iovec_t text, uint64_t *number, double *fraction);
/* The other way, into a text that reads back to the same value. Not for choices. buf holds at least 32 bytes. */
const char *gw_value_format(enum gw_setting_type, uint64_t number, double fraction, char *buf);
bool gw_value_is_in_bounds(const struct gw_setting *, uint64_t number, double fraction);
/* "a duration like 500ms, 30s, 5m, 1h or 7d", "a number from 1 to 64", "one of a, b or c". Static or in buf. */
const char *gw_value_expected(const struct gw_setting *, char *buf, size_t buf_len);
/* "from 1 to 64", "of at least 100ms"; "" when there are no bounds. */
const char *gw_value_bounds(const struct gw_setting *, char *buf, size_t buf_len);
/* The stored number of a scalar type (default: from .initial). */
uint64_t gw_value_number(double initial);

/* The row's field inside of its section's struct. */
static inline void *gw_setting_field(const struct gw_setting *row, const void *conf)
{
    return (char *)conf + row->offset;
}
/* The row of a name; NULL if none. */
const struct gw_setting *gw_setting_find(const struct gw_section *, const char *name, size_t len);
/* The node that gave a row its value; NULL when it is the default. at: the section's own node. */
const struct gw_node *gw_setting_value_node(const struct gw_section *, const struct gw_node *at, const char *name);
/* False: it is one that goes with settings which are not there (only_with). */
bool gw_setting_applies(const struct gw_section *, const struct gw_setting *, const void *conf);
/* Values that stand for the longest possible are "no limit" and shown as left out. */
static inline bool gw_setting_is_unset_number(uint64_t number) { return number == UINT64_MAX; }
