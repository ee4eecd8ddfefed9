#include "gateway/http/trailers.h"
#include <string.h>
#include <strings.h>

bool gw_trailer_is_allowed(h2o_iovec_t name)
{
    static const char *const refused[] = {
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "http2-settings",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
    };
    static const char *const prefixes[] = {"x-forwarded-", "x-amzn-", "x-weir-"};
    for (size_t i = 0; i != sizeof(refused) / sizeof(refused[0]); ++i)
        if (name.len == strlen(refused[i]) && strncasecmp(name.base, refused[i], name.len) == 0)
            return false;
    for (size_t i = 0; i != sizeof(prefixes) / sizeof(prefixes[0]); ++i)
        if (name.len >= strlen(prefixes[i]) && strncasecmp(name.base, prefixes[i], strlen(prefixes[i])) == 0)
            return false;
    return true;
}
