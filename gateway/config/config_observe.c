/* The settings tables of what tells about requests: access log and traces. */
#include <string.h>
#include <strings.h>
#include <h2o.h>
#include "gateway/config/config.h"
#include "routing/header_rules.h"

/* ---- access log ---- */

static const char *const log_formats[] = {[GW_ACCESS_JSON] = "json",
                                          [GW_ACCESS_ALB] = "alb",
                                          [GW_ACCESS_COMBINED] = "combined",
                                          [GW_ACCESS_TEMPLATE] = "template",
                                          NULL};

/* One of the fields that blanks separate. */
static bool is_bare_word(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t text)
{
    for (size_t i = 0; i != text.len; ++i)
        if (text.base[i] <= ' ' || text.base[i] == '"' || text.base[i] == '\\' || text.base[i] == 0x7f)
            return gw_error_at(loader->errors, at, "\"%.60s\" is no name of a load balancer (expected one word)",
                               text.base);
    return true;
}

#define AT(field) offsetof(struct gw_access_log_conf, field)
static const struct gw_setting access_log_settings[] = {
    {"enabled", GW_BOOL, AT(is_enabled), "Whether requests are logged; a route may say otherwise for its own.",
     .initial = 1},
    {"format", GW_CHOICE, AT(format),
     "What a line looks like: a JSON object, the access log of an ALB, Apache's combined, or the template.",
     .choices = log_formats},
    {"template", GW_TEXT, AT(template),
     "The line of `format: template`: text with fields like `${client}`, which gateway/observe/README.md lists.",
     .min = 1, .max = 8192},
    {"load_balancer", GW_TEXT, AT(load_balancer),
     "What lines of `format: alb` call this gateway; left out, app/weir/0000000000000000.", .min = 1, .max = 256,
     .valid = is_bare_word},
    {"path", GW_TEXT, AT(path), "Where lines go: stdout or a file, relative to the file that names it.",
     .initial_text = "stdout", .min = 1},
    {"syslog", GW_TEXT, AT(syslog),
     "Sends each line to a syslog collector instead: udp://ADDRESS:PORT, RFC 5424, facility local0.", .min = 1},
    {0},
};
#undef AT

static bool is_stdout(h2o_iovec_t path) { return h2o_memis(path.base, path.len, H2O_STRLIT("stdout")); }

static bool check_syslog(struct gw_loader *loader, struct gw_access_log_conf *conf)
{
    static const char scheme[] = "udp://";
    const struct gw_node *at = gw_setting_at(conf->at, "syslog");
    const char *why = "it does not begin with udp://";
    h2o_iovec_t text = conf->syslog;
    size_t skip = sizeof(scheme) - 1;

    if (text.base == NULL)
        return true;
    if (!is_stdout(conf->path))
        return gw_error_at(loader->errors, at, "lines go to one place: \"path\" or \"syslog\"");
    if (text.len > skip && memcmp(text.base, scheme, skip) == 0 &&
        gw_address_parse(loader->pool, h2o_iovec_init(text.base + skip, text.len - skip), false, &conf->syslog_address,
                         &why)) {
        if (!conf->syslog_address.is_unix)
            return true;
        why = "it is a Unix socket";
    }
    return gw_error_at(loader->errors, at, "\"%.60s\" is no syslog collector: %s (expected udp://127.0.0.1:514)",
                       text.base, why);
}

static bool check_template(struct gw_loader *loader, struct gw_access_log_conf *conf)
{
    const struct gw_node *at = gw_setting_at(conf->at, "template");

    if (conf->format == GW_ACCESS_TEMPLATE && conf->template.base == NULL)
        return gw_error_at(loader->errors, gw_setting_at(conf->at, "format"),
                           "format is \"template\", but there is no template");
    if (conf->template.base == NULL)
        return true;
    if (conf->format != GW_ACCESS_TEMPLATE)
        return gw_error_at(loader->errors, at, "a template needs \"format: template\"");
    return gw_access_template_parse(loader->pool, conf->template, &conf->compiled, loader->errors, at);
}

static bool check_access_log(struct gw_loader *loader, void *_conf)
{
    struct gw_access_log_conf *conf = _conf;
    bool is_good = check_template(loader, conf);

    is_good &= check_syslog(loader, conf);
    if (!is_stdout(conf->path))
        conf->file = gw_node_path(loader->pool, gw_setting_at(conf->at, "path"), conf->path);
    return is_good;
}

const struct gw_section gw_access_log_section = {
    .name = "access log",
    .help = "One line for every request.",
    .size = sizeof(struct gw_access_log_conf),
    .settings = access_log_settings,
    .check = check_access_log,
    .scalar_is = "enabled",
};

/* ---- tracing ---- */

static bool is_collector(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t url)
{
    size_t skip = strncasecmp(url.base, "http://", 7) == 0 ? 7 : strncasecmp(url.base, "https://", 8) == 0 ? 8 : 0;
    bool is_good = skip != 0 && url.len > skip && url.base[skip] != '/' && url.base[skip] != ':';

    for (size_t i = 0; i != url.len; ++i)
        is_good &= url.base[i] > ' ' && url.base[i] < 0x7f;
    return is_good ||
           gw_error_at(loader->errors, at,
                       "\"%.60s\" is no collector (expected a URL like http://127.0.0.1:4318/v1/traces)", url.base);
}

static bool is_header_name(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t name)
{
    return routing_is_token(name) || gw_error_at(loader->errors, at, "\"%.60s\" is not a header name", name.base);
}

#define AT(field) offsetof(struct gw_tracing_conf, field)
static const struct gw_setting tracing_settings[] = {
    {"otlp", GW_TEXT, AT(otlp), "URL that takes spans as OTLP over HTTP in JSON; /v1/traces where it has no path.",
     .is_required = true, .min = 1, .max = 2048, .valid = is_collector},
    {"headers", GW_PAIRS, AT(headers), "Further fields of that request, such as authorization.", .is_secret = true,
     .valid = is_header_name},
    {"sample", GW_PERCENT, AT(sample), "Share of the traces that is recorded, told from the trace id.", .initial = 5},
    {"parent_based", GW_BOOL, AT(parent_based),
     "Whether a caller that sends a traceparent has decided already whether its trace is recorded.", .initial = 1},
    {"service_name", GW_TEXT, AT(service_name), "The resource's service.name.", .initial_text = "weir", .min = 1,
     .max = 128},
    {"batch", GW_NUMBER, AT(batch), "Most spans of one export.", .initial = 512, .min = 1, .max = 10000},
    {"queue", GW_NUMBER, AT(queue), "Most spans that wait for their export; further ones are dropped and counted.",
     .initial = 4096, .min = 16, .max = 1000000},
    {"interval", GW_DURATION, AT(interval_ms), "How long a span waits for its batch to fill.", .initial = 1000,
     .min = 10, .max = 60000},
    {"timeout", GW_DURATION, AT(timeout_ms), "How long one export may take.", .initial = 5000, .min = 100,
     .max = 60000},
    {0},
};
#undef AT

static bool check_tracing(struct gw_loader *loader, void *_conf)
{
    const struct gw_tracing_conf *conf = _conf;
    bool is_good = true;

    for (size_t i = 0; i != conf->headers.size; ++i)
        if (!routing_is_field_value(conf->headers.entries[i].value))
            is_good = gw_error_at(loader->errors, conf->headers.entries[i].at,
                                  "the value of header \"%s\" has a control character or a space at its end",
                                  conf->headers.entries[i].name.base);
    return is_good;
}

const struct gw_section gw_tracing_section = {
    .name = "tracing section",
    .help = "Sends spans of requests to an OpenTelemetry collector.",
    .size = sizeof(struct gw_tracing_conf),
    .settings = tracing_settings,
    .check = check_tracing,
    .scalar_is = "otlp",
};
