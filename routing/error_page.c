/* The settings of one error page, and what its key stands for. */
#include <string.h>
#include "routing/config.h"
#include "routing/header_rules.h"

enum { MAX_BODY = 1 << 20 };

static bool check_content_type(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t value)
{
    if (value.len == 0 || !routing_is_field_value(value))
        return gw_error_at(load->errors, at, "\"%s\" is not a content type", value.len == 0 ? "" : value.base);
    return true;
}

static bool check_error_page(struct gw_loader *load, void *conf)
{
    struct routing_error_page_conf *page = conf;
    if ((page->file.base != NULL) == (page->body.base != NULL))
        return gw_error_at(load->errors, page->at,
                           page->file.base != NULL ? "the error page has both \"file\" and \"body\" (expected one)"
                                                   : "the error page is empty (expected file or body)");
    if (page->file.base != NULL)
        page->file = gw_node_path(load->pool, gw_setting_at(page->at, "file"), page->file);
    return true;
}

#define AT(field) offsetof(struct routing_error_page_conf, field)
static const struct gw_setting error_page_settings[] = {
    {"file", GW_TEXT, AT(file),
     "File that holds the body, relative to the file that names it; read when the configuration is loaded, at most "
     "1 MiB.",
     .min = 1},
    {"body", GW_TEXT, AT(body), "The body itself.", .max = MAX_BODY},
    {"content_type", GW_TEXT, AT(content_type),
     "Content-Type of the body; left out, it is told from the name of the file, or `text/html; charset=utf-8`.",
     .valid = check_content_type},
    {0},
};
#undef AT
const struct gw_section routing_error_page_section = {
    .name = "error page",
    .help = "The body of an error that weir answers itself.",
    .size = sizeof(struct routing_error_page_conf),
    .settings = error_page_settings,
    .scalar_is = "file",
    .check = check_error_page,
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool routing_error_page_is_key(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t key)
{
    bool is_error = key.len == 3 && (key.base[0] == '4' || key.base[0] == '5');
    if (is_error && (memcmp(key.base + 1, "xx", 2) == 0 || (is_digit(key.base[1]) && is_digit(key.base[2]))))
        return true;
    return gw_error_at(load->errors, at, "\"%.60s\" is no error status (expected 400 to 599, 4xx or 5xx)", key.base);
}

void routing_error_page_statuses(h2o_iovec_t key, unsigned *first, unsigned *last)
{
    *first = (unsigned)(key.base[0] - '0') * 100;
    *last = *first + 99;
    if (key.base[1] != 'x')
        *last = *first += (unsigned)(key.base[1] - '0') * 10 + (unsigned)(key.base[2] - '0');
}
