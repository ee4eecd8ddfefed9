/* Fields as lines of a head, `name: value`. Those that came in a head of HTTP/1 mostly leave as they came: neighbours
 * that lie in it line by line are copied at once. */
#pragma once
#include <h2o.h>

/* At least as many bytes as gw_field_lines_put writes. */
size_t gw_field_lines_bound(const h2o_header_t *fields, size_t num_fields);
/* Returns where the lines end. orig_name of a field is NULL, or where gw_fields_parse found the name: it and the bytes
 * around the value are looked at only if the value is still the one behind it. */
char *gw_field_lines_put(char *dst, const h2o_header_t *fields, size_t num_fields);
