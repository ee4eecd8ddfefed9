/* Settings of what stands between an accepted connection and its first request. */
#include "gateway/config/config.h"

static const char *const others[] = {[GW_PROXY_OTHERS_SERVE] = "serve", [GW_PROXY_OTHERS_REFUSE] = "refuse", NULL};

static const struct gw_setting proxy_settings[] = {
    {"from", GW_CIDRS, offsetof(struct gw_proxy_conf, from),
     "Networks of the balancers whose PROXY header is read; of everybody else it is a broken request.",
     .is_required = true},
    {"required", GW_BOOL, offsetof(struct gw_proxy_conf, is_required),
     "Whether a connection from these networks without a header is closed; else it is served as the balancer's own.",
     .initial = 1},
    {"others", GW_CHOICE, offsetof(struct gw_proxy_conf, others),
     "What becomes of connections from other networks: served without a header, or closed.", .choices = others},
    {"timeout", GW_DURATION, offsetof(struct gw_proxy_conf, timeout_ms), "How long the header may take.",
     .initial = 5000, .min = 10, .max = 600000},
    {0},
};

static bool check_proxy(struct gw_loader *loader, void *_conf)
{
    const struct gw_proxy_conf *conf = _conf;
    return conf->from.size != 0 || gw_error_at(loader->errors, gw_setting_at(conf->at, "from"),
                                               "from needs at least one network (expected 10.0.0.0/8, or 0.0.0.0/0 "
                                               "and ::/0 where nobody but the balancer can connect)");
}

const struct gw_section gw_proxy_section = {
    .name = "PROXY protocol section",
    .help = "Balancers that say with a PROXY header who the client is.",
    .size = sizeof(struct gw_proxy_conf),
    .settings = proxy_settings,
    .scalar_is = "from",
    .list_is = "from",
    .check = check_proxy,
};
