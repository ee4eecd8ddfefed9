#include "gateway/answer/content_type.h"
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <h2o.h>

/* What libh2o's built-in table lacks or has since been renamed (RFC 9239, RFC 8081, the registry of 2024). */
static const char *const further_types[][2] = {
    {"js", "text/javascript"},
    {"mjs", "text/javascript"},
    {"wasm", "application/wasm"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"woff", "font/woff"},
    {"webmanifest", "application/manifest+json"},
    {"map", "application/json"},
    {"jsonld", "application/ld+json"},
    {"log", "text/plain"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"ics", "text/calendar"},
    {"gz", "application/gzip"},
    {"tar", "application/x-tar"},
    {"flac", "audio/flac"},
    {"wav", "audio/wav"},
    {"mkv", "video/x-matroska"},
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static h2o_mimemap_t *types; /* frozen: by `once` */

static void init(void)
{
    types = h2o_mimemap_create();
    for (size_t i = 0; i != sizeof(further_types) / sizeof(further_types[0]); ++i)
        h2o_mimemap_define_mimetype(types, further_types[i][0], further_types[i][1], NULL);
}

h2o_iovec_t gw_media_type_of(h2o_iovec_t file_name)
{
    pthread_once(&once, init);
    h2o_iovec_t extension = h2o_get_filext(file_name.base, file_name.len);
    return h2o_mimemap_get_type_by_extension(types, extension)->data.mimetype;
}

static bool is_text(h2o_iovec_t type)
{
    return (type.len > 5 && memcmp(type.base, "text/", 5) == 0) ||
           h2o_memis(type.base, type.len, H2O_STRLIT("image/svg+xml")) ||
           h2o_memis(type.base, type.len, H2O_STRLIT("application/xhtml+xml"));
}

h2o_iovec_t gw_content_type_of(h2o_mem_pool_t *pool, h2o_iovec_t media_type)
{
    if (!is_text(media_type))
        return h2o_strdup(pool, media_type.base, media_type.len);
    return h2o_concat(pool, media_type, h2o_iovec_init(H2O_STRLIT("; charset=utf-8")));
}
