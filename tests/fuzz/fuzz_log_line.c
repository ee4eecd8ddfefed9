/* Any bytes as a line of an access log: nothing is read or written outside of them, and an entry says what jansson
 * reads in the same bytes. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include <jansson.h>
#include "gateway/command/log_reader.h"

static void check_text(const json_t *object, const char *name, h2o_iovec_t text)
{
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        assert(text.base == NULL);
        return;
    }
    assert(json_is_string(value));
    assert(h2o_memis(text.base, text.len, json_string_value(value), json_string_length(value)));
}

/* No byte that would mean more than itself in a request head. */
static void check_clean(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i)
        assert((unsigned char)text.base[i] > 0x20 && text.base[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size != 0 ? size : 1);
    struct gw_log_entry entry = {.line = 7};
    json_error_t error;

    if (size != 0)
        memcpy(line, data, size); /* of the exact size, so that the sanitizer sees reads beyond it */
    enum gw_log_result result = gw_log_line_parse(line, size, &entry);
    assert(entry.line == 7);
    if (result == GW_LOG_ENTRY) {
        check_clean(entry.method);
        check_clean(entry.path);
        check_clean(entry.query);
        check_clean(entry.host);
        /* jansson refuses some of what is taken here: broken UTF-8, lone surrogates, numbers like 01 */
        json_t *object = json_loadb((const char *)data, size, JSON_ALLOW_NUL, &error);
        if (object != NULL) {
            assert(json_is_object(object));
            check_text(object, "method", entry.method);
            check_text(object, "path", entry.path);
            check_text(object, "query", entry.query);
            check_text(object, "host", entry.host);
            check_text(object, "route", entry.route);
            check_text(object, "user_agent", entry.user_agent);
            json_decref(object);
        }
    }
    free(line);
    return 0;
}
