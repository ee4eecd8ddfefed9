/* The settings table of TLS towards targets. */
#include <string.h>
#include "routing/config.h"

enum { DEFAULT_HANDSHAKE_MS = 5000 };

/* Of RFC 1123, or an address. Wildcards are for certificates. */
static bool check_server_name(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    bool is_ok = name.len != 0 && name.len <= 253;
    for (size_t i = 0; i != name.len; ++i)
        is_ok = is_ok && (strchr("-._:", name.base[i]) != NULL || (name.base[i] >= '0' && name.base[i] <= '9') ||
                          ((name.base[i] | 0x20) >= 'a' && (name.base[i] | 0x20) <= 'z'));
    if (!is_ok)
        return gw_error_at(load->errors, at, "\"%s\" is not a host name or an IP address",
                           name.len == 0 ? "" : name.base);
    return true;
}

static bool check_tls(struct gw_loader *load, void *conf)
{
    const struct routing_tls_conf *tls = conf;
    bool has_certificate = tls->certificate.base != NULL, has_key = tls->key.base != NULL;
    if (has_certificate != has_key)
        return gw_error_at(load->errors, gw_setting_at(tls->at, has_certificate ? "certificate" : "key"),
                           "%s needs %s beside it", has_certificate ? "certificate" : "key",
                           has_certificate ? "key" : "certificate");
    if (tls->insecure && tls->ca.base != NULL)
        return gw_error_at(load->errors, gw_setting_at(tls->at, "insecure"),
                           "insecure excludes ca: either the target's certificate is verified or it is not");
    if (tls->insecure)
        gw_warn_at(load->errors, gw_setting_at(tls->at, "insecure"),
                   "targets are NOT verified: anybody on the way to them can read and change all traffic "
                   "(ca: FILE trusts a private authority)");
    return true;
}

static const char *const tls_versions[] = {"1.2", "1.3", "1.0", NULL};
const char *const routing_tls_policies[] = {"intermediate", "modern", "old"};
#define AT(field) offsetof(struct routing_tls_conf, field)
static const struct gw_setting tls_settings[] = {
    {"ca", GW_TEXT, AT(ca),
     "PEM file with the certificates to trust, in place of the system's; relative to the file that names it.",
     .min = 1},
    {"server_name", GW_TEXT, AT(server_name),
     "Name that the target's certificate must have, sent as SNI; left out, the target's own name or address.",
     .valid = check_server_name},
    {"certificate", GW_TEXT, AT(certificate), "PEM file with weir's own certificate, for targets that ask for one.",
     .min = 1},
    {"key", GW_TEXT, AT(key), "PEM file with the key of that certificate.", .min = 1},
    {"min_version", GW_CHOICE, AT(min_version),
     "Lowest TLS version; 1.0 takes what old servers need, down to SHA-1 and short keys.", .choices = tls_versions},
    {"insecure", GW_BOOL, AT(insecure), "Does not verify the target at all. For tests only."},
    {"handshake_timeout", GW_DURATION, AT(handshake_timeout_ms), "How long a handshake may take.",
     .initial = DEFAULT_HANDSHAKE_MS, .min = 1, .max = 600000},
    {0},
};
#undef AT
const struct gw_section routing_tls_section = {
    .name = "TLS of a target group",
    .help = "TLS towards targets: whom weir trusts and how it proves itself.",
    .size = sizeof(struct routing_tls_conf),
    .settings = tls_settings,
    .check = check_tls,
};

const struct routing_tls_conf *routing_group_tls(const struct routing_target_group_conf *group)
{
    static const struct routing_tls_conf defaults = {.handshake_timeout_ms = DEFAULT_HANDSHAKE_MS};
    if (group->tls != NULL)
        return group->tls;
    return routing_protocol_has_tls(group->protocol) ? &defaults : NULL;
}
