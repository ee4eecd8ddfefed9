/* Which byte may stand where in HTTP/1.1 (RFC 9110 5, RFC 9112, RFC 3986). One table, read by the parsers of heads and
 * of chunked bodies. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum gw_char_class {
    GW_CHAR_TOKEN = 1,   /* tchar, RFC 9110 5.6.2 */
    GW_CHAR_PATH = 2,    /* of a request target before '?'; see the README for what browsers add to RFC 3986 */
    GW_CHAR_QUERY = 4,   /* of a request target behind '?' */
    GW_CHAR_HOST = 8,    /* reg-name, RFC 3986 3.2.2, but for '%' */
    GW_CHAR_VALUE = 16,  /* of a field value: SP, HTAB, VCHAR, obs-text */
    GW_CHAR_QUOTED = 32, /* qdtext, RFC 9110 5.6.4 */
    GW_CHAR_HEX = 64,    /* HEXDIG */
    GW_CHAR_UPPER = 128, /* A-Z */
};
extern const uint8_t gw_char_classes[256];

static inline bool gw_char_is(char c, unsigned classes) { return (gw_char_classes[(unsigned char)c] & classes) != 0; }
