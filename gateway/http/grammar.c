#include "gateway/http/grammar.h"
#include "gateway/http/head.h"
#include "gateway/base/ip.h"

/* clang-format off */
const uint8_t gw_char_classes[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 0x00  ................ */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 0x10  ................ */
    0x30, 0x3f, 0x10, 0x31, 0x3f, 0x37, 0x3f, 0x3f, 0x3e, 0x3e, 0x3f, 0x3f, 0x3e, 0x3f, 0x3f, 0x36, /* 0x20  .!"#$%&'()*+,-./ */
    0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x36, 0x3e, 0x30, 0x3e, 0x30, 0x34, /* 0x30  0123456789:;<=>? */
    0x36, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, /* 0x40  @ABCDEFGHIJKLMNO */
    0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf, 0x36, 0x14, 0x36, 0x37, 0x3f, /* 0x50  PQRSTUVWXYZ[\]^_ */
    0x35, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, /* 0x60  `abcdefghijklmno */
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x34, 0x37, 0x34, 0x3f, 0x00, /* 0x70  pqrstuvwxyz{|}~. */
    [0x80 ... 0xff] = 0x30,
};
/* clang-format on */

bool gw_is_token(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i)
        if (!gw_char_is(text.base[i], GW_CHAR_TOKEN))
            return false;
    return text.len != 0;
}

static inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

bool gw_is_field_value(h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i)
        if (!gw_char_is(text.base[i], GW_CHAR_VALUE))
            return false;
    return text.len == 0 || !(is_blank(text.base[0]) || is_blank(text.base[text.len - 1]));
}

static bool is_port(const char *p, const char *end)
{
    unsigned port = 0;
    for (; p != end; ++p) {
        if (!('0' <= *p && *p <= '9'))
            return false;
        port = port * 10 + (unsigned)(*p - '0');
        if (port > UINT16_MAX)
            return false;
    }
    return true;
}

/* IPvFuture is refused: there is none. */
static const char *skip_ip_literal(const char *p, const char *end)
{
    struct gw_ip ip;
    const char *close = memchr(p, ']', (size_t)(end - p));
    if (close == NULL || memchr(p, ':', (size_t)(close - p)) == NULL)
        return NULL;
    return gw_ip_parse(h2o_iovec_init(p, (size_t)(close + 1 - p)), &ip) ? close + 1 : NULL;
}

bool gw_is_authority(h2o_iovec_t text)
{
    const char *p = text.base, *end = p + text.len;
    if (p == end)
        return false;
    if (*p == '[') {
        if ((p = skip_ip_literal(p, end)) == NULL)
            return false;
    } else {
        while (p != end && *p != ':') {
            if (gw_char_is(*p, GW_CHAR_HOST))
                ++p;
            else if (*p == '%' && end - p >= 3 && gw_char_is(p[1], GW_CHAR_HEX) && gw_char_is(p[2], GW_CHAR_HEX))
                p += 3;
            else
                return false;
        }
        if (p == text.base)
            return false; /* RFC 9110 4.2.1: an empty host must be rejected */
    }
    return p == end || (*p == ':' && is_port(p + 1, end));
}
