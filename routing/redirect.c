#include <string.h>
#include <h2o/string_.h>
#include "routing/redirect.h"

enum { MAX_LOCATION = 8192 };

enum placeholder { PROTOCOL = 1, HOST = 2, PORT = 4, PATH = 8, QUERY = 16 };
static const struct {
    const char *text;
    size_t len;
    enum placeholder what;
} placeholders[] = {
    {H2O_STRLIT("#{protocol}"), PROTOCOL}, {H2O_STRLIT("#{host}"), HOST},   {H2O_STRLIT("#{port}"), PORT},
    {H2O_STRLIT("#{path}"), PATH},         {H2O_STRLIT("#{query}"), QUERY},
};

/* The placeholder at the start of text, 0 if there is none; *len receives how long it is. */
static unsigned placeholder_at(const char *text, size_t left, size_t *len)
{
    for (size_t i = 0; i != sizeof(placeholders) / sizeof(placeholders[0]); ++i)
        if (left >= placeholders[i].len && memcmp(text, placeholders[i].text, placeholders[i].len) == 0) {
            *len = placeholders[i].len;
            return placeholders[i].what;
        }
    return 0;
}

/* ---- what the configuration may say ---- */

static bool check_template(struct gw_loader *load, const struct gw_node *at, const char *name, h2o_iovec_t text,
                           unsigned allowed)
{
    for (size_t i = 0; i + 1 < text.len; ++i) {
        size_t len;
        if (text.base[i] != '#' || text.base[i + 1] != '{')
            continue;
        unsigned what = placeholder_at(text.base + i, text.len - i, &len);
        if (what == 0)
            return gw_error_at(load->errors, at,
                               "unknown placeholder in \"%s\" (expected #{protocol} #{host} #{port} #{path} #{query})",
                               name);
        if ((what & allowed) == 0)
            return gw_error_at(load->errors, at, "\"%.*s\" cannot stand in \"%s\"", (int)len, text.base + i, name);
    }
    return true;
}

static bool is_exactly(h2o_iovec_t text, const char *other)
{
    return h2o_memis(text.base, text.len, other, strlen(other));
}

static bool check_port(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t port)
{
    unsigned value = 0;
    if (is_exactly(port, "#{port}"))
        return true;
    for (size_t i = 0; i != port.len; ++i)
        value =
            port.base[i] >= '0' && port.base[i] <= '9' && value <= 65535 ? value * 10 + (port.base[i] - '0') : 65536;
    if (port.len == 0 || value < 1 || value > 65535 || port.base[0] == '0')
        return gw_error_at(load->errors, at, "\"port\" must be 1 to 65535 or \"#{port}\"");
    return true;
}

static bool check_host_bytes(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t host)
{
    for (size_t i = 0; i != host.len; ++i) {
        size_t len;
        unsigned char c = host.base[i];
        if (placeholder_at(host.base + i, host.len - i, &len) == HOST)
            i += len - 1;
        else if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                   strchr("-._~[]:", c) != NULL) ||
                 c == '\0' || (c == ':' && host.base[0] != '['))
            return gw_error_at(load->errors, at, "\"%s\" is not a host (a port goes into \"port\")", host.base);
    }
    return true;
}

/* A part that is left out, or says exactly what the request says, changes nothing. */
static bool changes(h2o_iovec_t text, const char *unchanged)
{
    return text.base != NULL && !is_exactly(text, unchanged);
}

bool routing_redirect_check(struct gw_loader *load, struct routing_redirect_conf *conf)
{
    bool is_ok = true;

    if (conf->scheme.base != NULL && !is_exactly(conf->scheme, "http") && !is_exactly(conf->scheme, "https") &&
        !is_exactly(conf->scheme, "#{protocol}"))
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "scheme"),
                            "\"scheme\" must be http, https or \"#{protocol}\"");
    if (conf->port.base != NULL)
        is_ok = check_port(load, gw_setting_at(conf->at, "port"), conf->port) && is_ok;
    if (conf->host.base != NULL) {
        const struct gw_node *at = gw_setting_at(conf->at, "host");
        is_ok = check_template(load, at, "host", conf->host, HOST) && check_host_bytes(load, at, conf->host) && is_ok;
    }
    if (conf->path.base != NULL) {
        const struct gw_node *at = gw_setting_at(conf->at, "path");
        if (conf->path.len == 0 || conf->path.base[0] != '/')
            is_ok =
                gw_error_at(load->errors, at, "\"path\" must start with \"/\" (\"/#{path}\" is the path as it came)");
        is_ok = check_template(load, at, "path", conf->path, HOST | PORT | PATH) && is_ok;
    }
    if (conf->query.base != NULL) {
        const struct gw_node *at = gw_setting_at(conf->at, "query");
        if (conf->query.len != 0 && conf->query.base[0] == '?')
            is_ok = gw_error_at(load->errors, at, "\"query\" is written without the \"?\"");
        is_ok = check_template(load, at, "query", conf->query, PROTOCOL | HOST | PORT | PATH | QUERY) && is_ok;
    }
    switch (conf->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        break;
    default:
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "status"),
                            "\"status\" must be 301, 302, 303, 307 or 308");
    }
    if (is_ok && !changes(conf->scheme, "#{protocol}") && !changes(conf->host, "#{host}") &&
        !changes(conf->port, "#{port}") && !changes(conf->path, "/#{path}"))
        is_ok = gw_error_at(load->errors, conf->at,
                            "the redirect would lead back to itself (expected another scheme, host, port or path)");
    return is_ok;
}

/* ---- building ---- */

struct location {
    char text[MAX_LOCATION + 1]; /* one more for a '?' that nothing follows */
    size_t len;
    bool is_too_long;
};

static void put(struct location *to, char c)
{
    if (to->len == sizeof(to->text))
        to->is_too_long = true;
    else
        to->text[to->len++] = c;
}

/* Bytes that RFC 3986 knows outside of escapes; the others, '"' and "|" above all, are escaped. */
static bool is_url_byte(unsigned char c) { return c > 0x20 && c < 0x7f && strchr("\"#<>\\^`{|}", c) == NULL; }

static void put_text(struct location *to, const char *text, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i != len; ++i) {
        unsigned char c = text[i];
        if (is_url_byte(c)) {
            put(to, c);
        } else {
            put(to, '%');
            put(to, digits[c >> 4]);
            put(to, digits[c & 15]);
        }
    }
}

static void put_iovec(struct location *to, h2o_iovec_t text) { put_text(to, text.base, text.len); }

static void put_port(struct location *to, unsigned port)
{
    char text[8];
    put_text(to, text, (size_t)snprintf(text, sizeof(text), "%u", port));
}

static void put_placeholder(struct location *to, unsigned what, const struct routing_facts *facts, unsigned port)
{
    switch (what) {
    case PROTOCOL:
        put_text(to, facts->is_tls ? "https" : "http", facts->is_tls ? 5 : 4);
        break;
    case HOST:
        put_iovec(to, facts->host);
        break;
    case PORT:
        put_port(to, port);
        break;
    case PATH:
        if (facts->raw_path.len != 0)
            put_text(to, facts->raw_path.base + 1, facts->raw_path.len - 1);
        break;
    case QUERY:
        put_iovec(to, facts->query);
        break;
    }
}

static void put_template(struct location *to, h2o_iovec_t text, const struct routing_facts *facts, unsigned port)
{
    for (size_t i = 0; i != text.len;) {
        size_t len;
        unsigned what = text.base[i] == '#' ? placeholder_at(text.base + i, text.len - i, &len) : 0;
        if (what == 0) {
            put_text(to, text.base + i++, 1);
        } else {
            put_placeholder(to, what, facts, port);
            i += len;
        }
    }
}

static bool is_https(const struct routing_redirect_conf *conf, const struct routing_facts *facts)
{
    if (!changes(conf->scheme, "#{protocol}"))
        return facts->is_tls;
    return is_exactly(conf->scheme, "https");
}

/* A scheme that changes takes its own default port along: http on 80 or 8080 can hardly go on as https there. */
static unsigned new_port(const struct routing_redirect_conf *conf, const struct routing_facts *facts, bool https)
{
    unsigned value = 0;
    if (conf->port.base == NULL)
        return https == facts->is_tls ? facts->port : https ? 443 : 80;
    if (is_exactly(conf->port, "#{port}"))
        return facts->port;
    for (size_t i = 0; i != conf->port.len; ++i)
        value = value * 10 + (conf->port.base[i] - '0');
    return value;
}

static void put_path(struct location *to, h2o_iovec_t template, const struct routing_facts *facts, unsigned port)
{
    size_t start = to->len;
    put_template(to, template, facts, port);
    /* without an authority before it, "//host" would be one (RFC 3986 4.2) */
    if (start != 0)
        return;
    size_t slashes = 0;
    while (slashes + 1 < to->len && to->text[slashes + 1] == '/')
        ++slashes;
    memmove(to->text, to->text + slashes, to->len - slashes);
    to->len -= slashes;
}

h2o_iovec_t routing_redirect_location(h2o_mem_pool_t *pool, const struct routing_redirect_conf *conf,
                                      const struct routing_facts *facts)
{
    static const h2o_iovec_t same_host = {H2O_STRLIT("#{host}")}, same_path = {H2O_STRLIT("/#{path}")},
                             same_query = {H2O_STRLIT("#{query}")};
    struct location to;
    bool https = is_https(conf, facts);
    unsigned port = new_port(conf, facts, https);
    h2o_iovec_t host = conf->host.base != NULL ? conf->host : same_host;

    to.len = 0;
    to.is_too_long = false;
    if (facts->host.len != 0 || changes(host, "#{host}")) {
        put_text(&to, https ? "https://" : "http://", https ? 8 : 7);
        put_template(&to, host, facts, port);
        /* spec/alb.md 2.5: a port that is asked for stands there, even the default one */
        if (conf->port.base != NULL || port != (https ? 443u : 80u)) {
            put(&to, ':');
            put_port(&to, port);
        }
    }
    put_path(&to, conf->path.base != NULL ? conf->path : same_path, facts, port);
    put(&to, '?');
    size_t query_start = to.len;
    put_template(&to, conf->query.base != NULL ? conf->query : same_query, facts, port);
    if (to.len == query_start && !to.is_too_long)
        --to.len;
    if (to.is_too_long || to.len > MAX_LOCATION)
        return (h2o_iovec_t){NULL, 0};
    return h2o_strdup(pool, to.text, to.len);
}
