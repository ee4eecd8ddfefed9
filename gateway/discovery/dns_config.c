/* Settings of the resolver. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include "gateway/discovery/dns.h"

bool gw_dns_server_parse(h2o_iovec_t text, struct sockaddr_storage *sa)
{
    struct gw_address address;
    struct gw_ip ip;
    h2o_mem_pool_t pool;
    const char *why;
    char with_port[64];

    memset(sa, 0, sizeof(*sa));
    if (gw_ip_parse(text, &ip)) {
        char host[GW_IP_TEXT];
        gw_ip_format(&ip, host);
        snprintf(with_port, sizeof(with_port), gw_ip_is_v4(&ip) ? "%s:53" : "[%s]:53", host);
        text = h2o_iovec_init(with_port, strlen(with_port));
    } else if (text.len == 0 || text.base[0] == '*' || text.base[0] == ':') {
        return false; /* to listen on, not to ask */
    }
    h2o_mem_init_pool(&pool);
    bool is_good = gw_address_parse(&pool, text, false, &address, &why) && !address.is_unix;
    if (is_good)
        memcpy(sa, &address.sa, address.sa_len);
    h2o_mem_clear_pool(&pool);
    return is_good;
}

static bool check_server(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t text)
{
    struct sockaddr_storage sa;
    return gw_dns_server_parse(text, &sa) ||
           gw_error_at(load->errors, at,
                       "\"%.*s\" is not the address of a DNS server (expected 10.0.0.2, 127.0.0.1:5353 or [::1]:53)",
                       (int)text.len, text.base);
}

static bool check_domain(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t text)
{
    return gw_host_name_is_valid(text) ||
           gw_error_at(load->errors, at, "\"%.*s\" is not a domain (expected a name like cluster.local)", (int)text.len,
                       text.base);
}

static bool check_resolver(struct gw_loader *load, void *conf_)
{
    const struct gw_resolver_conf *conf = conf_;
    bool is_ok = true;

    if (conf->max_retry_ms < conf->retry_ms)
        is_ok = gw_error_at(load->errors, gw_setting_at(conf->at, "max_retry"),
                            "\"max_retry\" (%llums) is below \"retry\" (%llums)",
                            (unsigned long long)conf->max_retry_ms, (unsigned long long)conf->retry_ms);
    if (conf->servers.size > 16)
        is_ok = gw_error_at(load->errors, conf->servers.at[16], "more than 16 DNS servers");
    if (conf->search.size > 16)
        is_ok = gw_error_at(load->errors, conf->search.at[16], "more than 16 search domains");
    return is_ok;
}

#define AT(field) offsetof(struct gw_resolver_conf, field)
static const struct gw_setting resolver_settings[] = {
    {"servers", GW_TEXTS, AT(servers),
     "Addresses of the DNS servers, in order, with or without port; left out, those of /etc/resolv.conf.",
     .valid = check_server},
    {"search", GW_TEXTS, AT(search),
     "Domains that short names are looked up in; left out, those of /etc/resolv.conf where the servers are from there.",
     .valid = check_domain},
    {"timeout", GW_DURATION, AT(timeout_ms), "How long one server may take to answer.", .initial = 2000, .min = 10,
     .max = 60000},
    {"attempts", GW_NUMBER, AT(attempts), "How often each server is asked before a look-up has failed.", .initial = 2,
     .min = 1, .max = 10},
    {"retry", GW_DURATION, AT(retry_ms), "Pause after a look-up that failed; it doubles with each further one.",
     .initial = 1000, .min = 10, .max = 3600000},
    {"max_retry", GW_DURATION, AT(max_retry_ms),
     "Longest pause between look-ups of what fails, or of names that do not exist.", .initial = 30000, .min = 10,
     .max = 3600000},
    {"wait", GW_DURATION, AT(wait_ms),
     "How long a start or reload waits for the first answers of names that are new; then it goes on without them.",
     .initial = 1000, .max = 60000},
    {0},
};
#undef AT
const struct gw_section gw_resolver_section = {
    .name = "resolver",
    .help = "How the names of dns: targets are looked up.",
    .size = sizeof(struct gw_resolver_conf),
    .settings = resolver_settings,
    .scalar_is = "servers",
    .list_is = "servers",
    .check = check_resolver,
};
