/* Rules that join the settings of a dns: entry. */
#include <stdio.h>
#include <string.h>
#include <h2o/string_.h>
#include "gateway/base/ip.h"
#include "routing/config.h"

static bool is_written(const struct routing_target_conf *target, const char *name)
{
    return target->at != NULL && gw_node_get(target->at, name) != NULL;
}

static bool fail(struct gw_loader *load, const struct routing_target_conf *target, const char *name, const char *why)
{
    return gw_error_at(load->errors, gw_setting_at(target->at, name), "\"%s\" %s", name, why);
}

/* Entries of other kinds, whatever `check --print` writes for them. */
static bool has_none_of_it(struct gw_loader *load, const struct routing_target_conf *target)
{
    static const char *const names[] = {"port", "type", "min_ttl", "max_ttl", "grace"};
    bool is_ok = true;

    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (is_written(target, names[i]) && !gw_setting_is_default(&routing_target_section, names[i], target))
            is_ok = fail(load, target, names[i], "needs dns");
    return is_ok;
}

static bool check_name(struct gw_loader *load, const struct routing_target_conf *target, bool is_srv)
{
    const struct gw_node *at = gw_setting_at(target->at, "dns");
    const struct routing_dns_conf *dns = &target->dns;
    struct gw_ip ip;

    if (memchr(dns->name.base, ':', dns->name.len) != NULL && !gw_ip_parse(dns->name, &ip))
        return gw_error_at(load->errors, at, "\"%s\" is not a host name (expected the name alone, and port: beside it)",
                           dns->name.base);
    if (gw_ip_parse(dns->name, &ip))
        return !is_srv || gw_error_at(load->errors, at, "an address has no SRV records (expected a name)");
    if (!gw_host_name_is_valid(dns->name))
        return gw_error_at(load->errors, at,
                           "\"%s\" is not a host name (expected labels of 1 to 63 letters, digits, \"-\" and \"_\", "
                           "joined by dots)",
                           dns->name.base);
    if (is_srv && dns->name.base[0] != '_')
        gw_warn_at(load->errors, at, "names of services begin with \"_\" (expected _service._tcp.%s)", dns->name.base);
    return true;
}

static bool check_port(struct gw_loader *load, const struct routing_target_conf *target, bool is_srv)
{
    if (is_srv && target->dns.port != 0)
        return fail(load, target, "port", "has no use with type srv: its records have ports");
    if (is_srv && target->weight != 1)
        return fail(load, target, "weight", "has no use with type srv: its records have weights");
    return is_srv || target->dns.port != 0 || fail(load, target, "port", "is missing (expected 1 to 65535)");
}

bool routing_dns_check(struct gw_loader *load, struct routing_target_conf *target)
{
    struct routing_dns_conf *dns = &target->dns;
    bool is_srv = (dns->types & 1 << ROUTING_DNS_SRV) != 0, is_ok;

    if (dns->name.base == NULL)
        return has_none_of_it(load, target);
    is_ok = check_name(load, target, is_srv);
    if (is_srv && dns->types != 1 << ROUTING_DNS_SRV)
        is_ok = fail(load, target, "type", "is srv, or a and aaaa, not both");
    if (dns->types == 0)
        is_ok = fail(load, target, "type", "needs at least one (expected a, aaaa or srv)");
    is_ok &= check_port(load, target, is_srv);
    if (dns->max_ttl_ms < dns->min_ttl_ms && is_written(target, "max_ttl"))
        is_ok = gw_error_at(load->errors, gw_setting_at(target->at, "max_ttl"),
                            "\"max_ttl\" (%llums) is below \"min_ttl\" (%llums)", (unsigned long long)dns->max_ttl_ms,
                            (unsigned long long)dns->min_ttl_ms);
    else if (dns->max_ttl_ms < dns->min_ttl_ms)
        dns->max_ttl_ms = dns->min_ttl_ms; /* a high floor should not need a second setting */
    return is_ok;
}

h2o_iovec_t routing_dns_text(h2o_mem_pool_t *pool, const struct routing_target_conf *target)
{
    static const char *const types[] = {"?", "A", "AAAA", "A+AAAA"};
    const struct routing_dns_conf *dns = &target->dns;
    char text[300];

    if ((dns->types & 1 << ROUTING_DNS_SRV) != 0)
        snprintf(text, sizeof(text), "%s SRV", dns->name.base);
    else
        snprintf(text, sizeof(text), "%s:%u %s", dns->name.base, (unsigned)dns->port, types[dns->types & 3]);
    return h2o_strdup(pool, text, SIZE_MAX);
}
