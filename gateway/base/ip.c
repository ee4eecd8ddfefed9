#include "gateway/base/ip.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <h2o/string_.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* Decimal without leading zeros, of at most max. */
static bool read_number(const char **at, const char *end, unsigned max, unsigned *value)
{
    const char *p = *at;
    unsigned n = 0;
    for (; p != end && '0' <= *p && *p <= '9'; ++p) {
        if (p != *at && n == 0)
            return false;
        n = n * 10 + (unsigned)(*p - '0');
        if (n > max)
            return false;
    }
    if (p == *at)
        return false;
    *at = p;
    *value = n;
    return true;
}

/* inet_aton and its like read 010.1 as 8.0.0.1; here only the dotted quad is an address. */
static bool parse_v4(h2o_iovec_t text, uint8_t *bytes)
{
    const char *p = text.base, *end = p + text.len;
    for (int i = 0; i != 4; ++i) {
        unsigned n;
        if (i != 0 && (p == end || *p++ != '.'))
            return false;
        if (!read_number(&p, end, 255, &n))
            return false;
        bytes[i] = (uint8_t)n;
    }
    return p == end;
}

bool gw_ip_parse(h2o_iovec_t text, struct gw_ip *ip)
{
    char buf[INET6_ADDRSTRLEN];
    if (parse_v4(text, ip->bytes + 12)) {
        memcpy(ip->bytes, v4_prefix, sizeof(v4_prefix));
        return true;
    }
    if (text.len >= 2 && text.base[0] == '[' && text.base[text.len - 1] == ']')
        text = h2o_iovec_init(text.base + 1, text.len - 2);
    if (text.len == 0 || text.len >= sizeof(buf) || memchr(text.base, '\0', text.len) != NULL)
        return false;
    memcpy(buf, text.base, text.len);
    buf[text.len] = '\0';
    return inet_pton(AF_INET6, buf, ip->bytes) == 1;
}

bool gw_ip_from_sockaddr(const struct sockaddr *sa, struct gw_ip *ip)
{
    switch (sa->sa_family) {
    case AF_INET:
        memcpy(ip->bytes, v4_prefix, sizeof(v4_prefix));
        memcpy(ip->bytes + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
        return true;
    case AF_INET6:
        memcpy(ip->bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
        return true;
    default:
        memset(ip, 0, sizeof(*ip));
        return false;
    }
}

bool gw_ip_is_v4(const struct gw_ip *ip) { return memcmp(ip->bytes, v4_prefix, sizeof(v4_prefix)) == 0; }

static char *write_decimal(char *to, unsigned n)
{
    if (n >= 100)
        *to++ = (char)('0' + n / 100);
    if (n >= 10)
        *to++ = (char)('0' + n / 10 % 10);
    *to++ = (char)('0' + n % 10);
    return to;
}

static char *write_group(char *to, unsigned n)
{
    bool is_started = false;
    for (int shift = 12; shift >= 0; shift -= 4) {
        unsigned digit = n >> shift & 15;
        is_started = is_started || digit != 0 || shift == 0;
        if (is_started)
            *to++ = "0123456789abcdef"[digit];
    }
    return to;
}

/* RFC 5952 4: lower case, no leading zeros, :: for the first longest run of at least two zero groups. */
static char *write_v6(char *to, const uint8_t *bytes)
{
    int best_at = -1, best_len = 1;
    for (int i = 0, len = 0; i != 8; ++i) {
        len = bytes[2 * i] == 0 && bytes[2 * i + 1] == 0 ? len + 1 : 0;
        if (len > best_len) {
            best_len = len;
            best_at = i - len + 1;
        }
    }
    for (int i = 0; i != 8; ++i) {
        if (i == best_at) {
            *to++ = ':';
            *to++ = ':';
            i += best_len - 1;
            continue;
        }
        if (i != 0 && i != best_at + best_len)
            *to++ = ':';
        to = write_group(to, (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1]);
    }
    return to;
}

size_t gw_ip_format(const struct gw_ip *ip, char *buf)
{
    char *to = buf;
    if (gw_ip_is_v4(ip)) {
        for (int i = 12; i != 16; ++i) {
            if (i != 12)
                *to++ = '.';
            to = write_decimal(to, ip->bytes[i]);
        }
    } else {
        to = write_v6(to, ip->bytes);
    }
    *to = '\0';
    return (size_t)(to - buf);
}

static bool bits_are_equal(const uint8_t *x, const uint8_t *y, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(x, y, whole) == 0 && (rest == 0 || (x[whole] ^ y[whole]) >> (8 - rest) == 0);
}

static bool has_host_bits(const struct gw_cidr *cidr)
{
    for (unsigned bit = cidr->bits; bit != 128; ++bit)
        if (cidr->ip.bytes[bit / 8] >> (7 - bit % 8) & 1)
            return true;
    return false;
}

bool gw_cidr_parse(h2o_iovec_t text, struct gw_cidr *cidr)
{
    const char *slash = text.len == 0 ? NULL : memchr(text.base, '/', text.len), *end = text.base + text.len;
    h2o_iovec_t address = slash == NULL ? text : h2o_iovec_init(text.base, (size_t)(slash - text.base));
    unsigned bits;
    if (!gw_ip_parse(address, &cidr->ip))
        return false;
    /* by the spelling, not the value: ::ffff:0:0/96 is written as IPv6 and counts 128 bits */
    bool is_dotted = memchr(address.base, ':', address.len) == NULL;
    cidr->bits = 128;
    if (slash == NULL)
        return true;
    ++slash;
    if (!read_number(&slash, end, is_dotted ? 32 : 128, &bits) || slash != end)
        return false;
    cidr->bits = (uint8_t)(is_dotted ? bits + 96 : bits);
    return !has_host_bits(cidr);
}

bool gw_cidr_contains(const struct gw_cidr *cidr, const struct gw_ip *ip)
{
    return bits_are_equal(cidr->ip.bytes, ip->bytes, cidr->bits);
}

bool gw_cidrs_contain(const struct gw_cidrs *cidrs, const struct gw_ip *ip)
{
    for (size_t i = 0; i != cidrs->size; ++i)
        if (gw_cidr_contains(&cidrs->entries[i], ip))
            return true;
    return false;
}

static bool fail(const char **why, const char *sentence)
{
    *why = sentence;
    return false;
}

static bool parse_unix(h2o_mem_pool_t *pool, h2o_iovec_t path, struct gw_address *address, const char **why)
{
    struct sockaddr_un *sun = (void *)&address->sa;
    if (path.len == 0 || path.base[0] != '/')
        return fail(why, "the path of a unix socket must begin with /");
    if (path.len >= sizeof(sun->sun_path))
        return fail(why, "the path of a unix socket is limited to 107 bytes");
    if (memchr(path.base, '\0', path.len) != NULL)
        return fail(why, "the path of a unix socket must not contain NUL");
    address->is_unix = true;
    address->host = h2o_strdup(pool, path.base, path.len);
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path, path.base, path.len);
    address->sa_len = sizeof(*sun);
    return true;
}

/* RFC 1123 2.1 plus the underscore, which service names in container networks have. A last label of digits alone would
 * be an address that failed to parse. */
bool gw_host_name_is_valid(h2o_iovec_t name)
{
    size_t label_len = 0;
    bool is_numeric = true;
    if (name.len != 0 && name.base[name.len - 1] == '.')
        --name.len;
    if (name.len == 0 || name.len > 253)
        return false;
    for (size_t i = 0; i != name.len; ++i) {
        char c = name.base[i];
        if (c == '.') {
            if (label_len == 0 || name.base[i - 1] == '-')
                return false;
            label_len = 0;
            is_numeric = true;
            continue;
        }
        bool is_digit = '0' <= c && c <= '9';
        if (!(is_digit || ('a' <= (c | 0x20) && (c | 0x20) <= 'z') || c == '_' || (c == '-' && label_len != 0)))
            return false;
        is_numeric = is_numeric && is_digit;
        if (++label_len > 63)
            return false;
    }
    return label_len != 0 && !is_numeric && name.base[name.len - 1] != '-';
}

static void set_sockaddr(struct gw_address *address, const struct gw_ip *ip)
{
    if (gw_ip_is_v4(ip)) {
        struct sockaddr_in *sin = (void *)&address->sa;
        sin->sin_family = AF_INET;
        sin->sin_port = htons(address->port);
        memcpy(&sin->sin_addr, ip->bytes + 12, 4);
        address->sa_len = sizeof(*sin);
    } else {
        struct sockaddr_in6 *sin6 = (void *)&address->sa;
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(address->port);
        memcpy(&sin6->sin6_addr, ip->bytes, 16);
        address->sa_len = sizeof(*sin6);
    }
}

void gw_address_from_ip(const struct gw_ip *ip, uint16_t port, char text[GW_ADDRESS_TEXT], char host[GW_IP_TEXT],
                        struct gw_address *address)
{
    memset(address, 0, sizeof(*address));
    size_t host_len = gw_ip_format(ip, host);
    int len = snprintf(text, GW_ADDRESS_TEXT, gw_ip_is_v4(ip) ? "%s:%u" : "[%s]:%u", host, (unsigned)port);
    address->text = h2o_iovec_init(text, (size_t)len);
    address->host = h2o_iovec_init(host, host_len);
    address->port = port;
    set_sockaddr(address, ip);
}

bool gw_address_parse(h2o_mem_pool_t *pool, h2o_iovec_t text, bool allow_names, struct gw_address *address,
                      const char **why)
{
    static const char no_port[] = "a port is missing: write host:port";
    struct gw_ip ip;
    unsigned port;
    memset(address, 0, sizeof(*address));
    address->text = h2o_strdup(pool, text.base, text.len);
    if (text.len >= 5 && memcmp(text.base, "unix:", 5) == 0)
        return parse_unix(pool, h2o_iovec_init(text.base + 5, text.len - 5), address, why);

    const char *colon = h2o_memrchr(text.base, ':', text.len), *end = text.base + text.len;
    if (colon == NULL || (colon != end - 1 && end[-1] == ']'))
        return fail(why, no_port);
    h2o_iovec_t host = h2o_iovec_init(text.base, (size_t)(colon - text.base));
    if (++colon == end)
        return fail(why, no_port);
    if (!read_number(&colon, end, UINT16_MAX, &port) || colon != end || port == 0)
        return fail(why, "the port must be 1 to 65535");
    address->port = (uint16_t)port;

    bool is_bracketed = host.len >= 2 && host.base[0] == '[' && host.base[host.len - 1] == ']';
    if (!is_bracketed && host.len != 0 && memchr(host.base, ':', host.len) != NULL)
        return fail(why, "an IPv6 address must stand in brackets: [::1]:8080");
    if (host.len == 0 || (host.len == 1 && host.base[0] == '*')) {
        memset(&ip, 0, sizeof(ip));
        host = h2o_iovec_init(H2O_STRLIT("::"));
    } else if (gw_ip_parse(host, &ip)) {
        if (is_bracketed)
            host = h2o_iovec_init(host.base + 1, host.len - 2);
    } else if (is_bracketed) {
        return fail(why, "not an IPv6 address");
    } else if (!gw_host_name_is_valid(host)) {
        return fail(why, "not an address: write 10.0.0.1:8080, [::1]:8080, *:8080 or unix:/path");
    } else if (!allow_names) {
        return fail(why, "a host name cannot stand here: write an IP address");
    } else {
        address->is_name = true;
    }
    address->host = h2o_strdup(pool, host.base, host.len);
    if (!address->is_name)
        set_sockaddr(address, &ip);
    return true;
}
