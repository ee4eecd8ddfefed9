#include "routing/upgrade.h"
#include <string.h>
#include <strings.h>
#include "routing/header_rules.h"

static bool is_off(h2o_iovec_t value) { return value.len == 3 && memcmp(value.base, "off", 3) == 0; }

/* protocol-name ["/" protocol-version], both tokens. */
static bool is_protocol(h2o_iovec_t value)
{
    const char *slash = value.len != 0 ? memchr(value.base, '/', value.len) : NULL;

    if (value.len == 0 || value.len > ROUTING_UPGRADE_MAX)
        return false;
    if (slash == NULL)
        return routing_is_token(value);
    size_t name_len = (size_t)(slash - value.base);
    return routing_is_token(h2o_iovec_init(value.base, name_len)) &&
           routing_is_token(h2o_iovec_init(slash + 1, value.len - name_len - 1));
}

/* A tunnel of HTTP would be requests that no route has seen. */
static bool is_http(h2o_iovec_t value)
{
    return (value.len >= 3 && strncasecmp(value.base, "h2c", 3) == 0) ||
           (value.len >= 5 && strncasecmp(value.base, "http/", 5) == 0) ||
           (value.len == 4 && strncasecmp(value.base, "http", 4) == 0) ||
           (value.len == 2 && strncasecmp(value.base, "h2", 2) == 0);
}

bool routing_upgrade_check_entry(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t value)
{
    if (!is_protocol(value))
        return gw_error_at(load->errors, at, "\"%s\" is not a protocol (expected a name like websocket, or off)",
                           value.len == 0 ? "" : value.base);
    if (is_http(value))
        return gw_error_at(load->errors, at,
                           "\"%s\" is never switched to: its requests would pass by the routes (expected another "
                           "protocol; HTTP/2 is spoken by listeners)",
                           value.base);
    return true;
}

bool routing_upgrade_check(struct gw_loader *load, const struct gw_texts *texts)
{
    bool is_ok = true;
    for (size_t i = 0; i != texts->size; ++i) {
        if (is_off(texts->entries[i]) && texts->size != 1)
            is_ok = gw_error_at(load->errors, texts->at[i], "\"off\" stands beside protocols (expected it alone)");
        for (size_t j = 0; j != i; ++j)
            if (texts->entries[i].len == texts->entries[j].len &&
                strncasecmp(texts->entries[i].base, texts->entries[j].base, texts->entries[i].len) == 0)
                is_ok =
                    gw_error_at(load->errors, texts->at[i], "protocol \"%s\" is listed twice", texts->entries[i].base);
    }
    return is_ok;
}

static bool is_taken(const struct gw_texts *texts, h2o_iovec_t protocol)
{
    for (size_t i = 0; i != texts->size; ++i)
        if (!is_off(texts->entries[i]) && texts->entries[i].len == protocol.len &&
            strncasecmp(texts->entries[i].base, protocol.base, protocol.len) == 0)
            return true;
    return false;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

h2o_iovec_t routing_upgrade_choose(const struct gw_texts *texts, h2o_iovec_t offered)
{
    const char *p = offered.base, *end = p + offered.len;

    while (p != end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *from = p, *to = comma != NULL ? comma : end;
        while (from != to && is_blank(*from))
            ++from;
        while (from != to && is_blank(to[-1]))
            --to;
        h2o_iovec_t protocol = h2o_iovec_init(from, (size_t)(to - from));
        if (is_protocol(protocol) && is_taken(texts, protocol))
            return protocol;
        p = comma != NULL ? comma + 1 : end;
    }
    return h2o_iovec_init(NULL, 0);
}
