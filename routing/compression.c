/* The settings of compression, for all routes and for one. */
#include <string.h>
#include "routing/config.h"

/* What CloudFront compresses (spec/cloudfront.md 2.9), and what came after that list was written: events, JSON and XML
 * by their suffixes, manifests, lines of JSON. */
static const char *const default_types[] = {
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "application/pdf",
    "application/protobuf",
    "application/x-ndjson",
    "application/yaml",
    "application/pkcs7-mime",
    "application/x-httpd-cgi",
    "application/x-perl",
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "application/vnd.mapbox-vector-tile",
    "application/eot",
    "application/font",
    "application/font-sfnt",
    "application/opentype",
    "application/otf",
    "application/truetype",
    "application/ttf",
    "application/vnd.ms-fontobject",
    "application/x-font-opentype",
    "application/x-font-truetype",
    "application/x-font-ttf",
    "application/x-opentype",
    "application/x-otf",
    "application/x-ttf",
    "font/eot",
    "font/opentype",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "vnd.apple.mpegurl",
};
enum { NUM_DEFAULT_TYPES = sizeof(default_types) / sizeof(default_types[0]) };

static bool check_type(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t type)
{
    bool is_good = type.len != 0;
    for (size_t i = 0; i != type.len; ++i) {
        unsigned char c = (unsigned char)type.base[i];
        is_good &= (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                   (c != '\0' && strchr("!#$&-^_.+/*?", c) != NULL);
    }
    return is_good || gw_error_at(load->errors, at,
                                  "\"%.60s\" is no media type (expected one like text/html or text/*, without "
                                  "parameters)",
                                  type.len == 0 ? "" : type.base);
}

static bool is_given(const struct routing_compression_conf *conf, const char *name)
{
    return conf->at != NULL && gw_setting_at(conf->at, name) != conf->at;
}

/* Defaults are filled in here, so that everybody sees the list that counts. */
static bool check_compression(struct gw_loader *load, void *conf)
{
    struct routing_compression_conf *compression = conf;

    if (compression->max_size != 0 && compression->max_size < compression->min_size)
        return gw_error_at(load->errors, gw_setting_at(compression->at, "max_size"),
                           "max_size is smaller than min_size: nothing would be compressed");
    if (compression->types.size != 0)
        return true;
    if (is_given(compression, "types"))
        return gw_error_at(load->errors, gw_setting_at(compression->at, "types"),
                           "types is an empty list (expected at least one; enabled: false compresses nothing)");
    compression->types.entries = h2o_mem_alloc_pool(load->pool, sizeof(h2o_iovec_t) * NUM_DEFAULT_TYPES);
    for (size_t i = 0; i != NUM_DEFAULT_TYPES; ++i)
        compression->types.entries[i] = h2o_iovec_init(default_types[i], strlen(default_types[i]));
    compression->types.size = NUM_DEFAULT_TYPES;
    return true;
}

static const char *const algorithms[] = {"gzip", "br", NULL};

#define AT(field) offsetof(struct routing_compression_conf, field)
#define SETTINGS                                                                                                       \
    {"enabled", GW_BOOL, AT(is_enabled), "Whether responses are compressed.", .initial = 1},                           \
        {"algorithms",   GW_CHOICES,                                                                                   \
         AT(algorithms), "Codings that may be used; brotli is preferred to gzip when the client likes both equally.",  \
         .initial = 3,   .choices = algorithms},                                                                       \
        {"types",                                                                                                      \
         GW_TEXTS,                                                                                                     \
         AT(types),                                                                                                    \
         "Globs of the media types that are compressed; parameters such as charset are not looked at.",                \
         .initial_text = NULL,                                                                                         \
         .valid = check_type},                                                                                         \
        {"min_size", GW_SIZE, AT(min_size), "Smaller responses are left alone, where the size is known beforehand.",   \
         .initial = 1000},                                                                                             \
        {"max_size", GW_SIZE, AT(max_size),                                                                            \
         "Larger responses are left alone, where the size is known beforehand; 0 is unlimited.", .initial = 10000000}, \
        {"brotli_level",                                                                                               \
         GW_NUMBER,                                                                                                    \
         AT(brotli_level),                                                                                             \
         "Effort of brotli; levels above 9 are too slow for responses made on the fly (`precompressed` serves them "   \
         "from files).",                                                                                               \
         .initial = 4,                                                                                                 \
         .max = 9},                                                                                                    \
    {                                                                                                                  \
        "gzip_level", GW_NUMBER, AT(gzip_level), "Effort of gzip.", .initial = 5, .min = 1, .max = 9                   \
    }

static const struct gw_setting route_settings[] = {SETTINGS, {0}};
static const struct gw_setting default_settings[] = {
    SETTINGS,
    {"memory", GW_SIZE, AT(memory),
     "Memory of all encoders together. Beyond half of it responses get smaller windows, beyond all of it none is "
     "compressed.",
     .initial = ROUTING_COMPRESSION_MEMORY, .min = 1 << 20},
    {0},
};
#undef AT

const struct gw_section routing_compression_section = {
    .name = "compression of a route",
    .help = "Which responses of a route are compressed, and how; what is not given here is as the top-level "
            "compression says.",
    .size = sizeof(struct routing_compression_conf),
    .settings = route_settings,
    .scalar_is = "enabled",
    .check = check_compression,
};
const struct gw_section routing_compression_default_section = {
    .name = "compression",
    .help = "Which responses are compressed, and how, where a route does not say otherwise.",
    .size = sizeof(struct routing_compression_conf),
    .settings = default_settings,
    .scalar_is = "enabled",
    .check = check_compression,
};

void routing_compression_inherit(struct routing_compression_conf *conf, const struct routing_compression_conf *from)
{
    if (from == NULL)
        return;
    if (!is_given(conf, "algorithms"))
        conf->algorithms = from->algorithms;
    if (!is_given(conf, "types"))
        conf->types = from->types;
    if (!is_given(conf, "min_size"))
        conf->min_size = from->min_size;
    if (!is_given(conf, "max_size"))
        conf->max_size = from->max_size;
    if (!is_given(conf, "brotli_level"))
        conf->brotli_level = from->brotli_level;
    if (!is_given(conf, "gzip_level"))
        conf->gzip_level = from->gzip_level;
}
