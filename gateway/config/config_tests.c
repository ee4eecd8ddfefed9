#include "gateway/config/config_tests.h"
#include <string.h>
#include <h2o.h>
#include "gateway/decide.h"

/* ---- request ---- */

static bool check_url(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t url)
{
    struct gw_question q;
    return (strlen(url.base) == url.len && gw_question_set_url(&q, url.base)) ||
           gw_error_at(loader->errors, at, "\"%.100s\" is no URL (expected http://HOST/PATH or https://HOST/PATH)",
                       url.base);
}

static bool check_method(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t method)
{
    return gw_is_token(method) ||
           gw_error_at(loader->errors, at, "\"%.60s\" is not a method (expected a word like GET)", method.base);
}

static bool check_field_name(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t name)
{
    return gw_is_token(name) || gw_error_at(loader->errors, at, "\"%.60s\" is not a header name", name.base);
}

static bool check_ip(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t ip)
{
    struct gw_ip parsed;
    return gw_ip_parse(ip, &parsed) ||
           gw_error_at(loader->errors, at, "\"%.60s\" is no address (expected one like 192.0.2.7 or 2001:db8::7)",
                       ip.base);
}

/* A line end in a value would be another field of the request. */
static bool check_values(struct gw_loader *loader, const struct gw_pairs *fields)
{
    bool is_good = true;
    for (size_t i = 0; i != fields->size; ++i)
        if (!gw_is_field_value(fields->entries[i].value))
            is_good = gw_error_at(loader->errors, fields->entries[i].at,
                                  "the value of %.60s cannot stand in a header (line end, control character, or blank "
                                  "at an end)",
                                  fields->entries[i].name.base);
    return is_good;
}

static bool check_request(struct gw_loader *loader, void *conf)
{
    const struct gw_test_request_conf *request = conf;
    if (request->headers.size >= GW_HEAD_MAX_FIELDS)
        return gw_error_at(loader->errors, gw_setting_at(request->at, "headers"),
                           "a request has at most %d headers with Host", GW_HEAD_MAX_FIELDS);
    return check_values(loader, &request->headers);
}

#define AT(field) offsetof(struct gw_test_request_conf, field)
static const struct gw_setting request_settings[] = {
    {"url", GW_TEXT, AT(url), "URL that is asked for; its port and scheme choose the listener.", .is_required = true,
     .valid = check_url},
    {"method", GW_TEXT, AT(method), "Request method.", .initial_text = "GET", .min = 1, .valid = check_method},
    {"headers", GW_PAIRS, AT(headers), "Request headers; Host replaces the URL's.", .valid = check_field_name},
    {"ip", GW_TEXT, AT(ip), "Address of the TCP peer.", .initial_text = "127.0.0.1", .valid = check_ip},
    {"listener", GW_TEXT, AT(listener), "Name of the listener, where port and scheme do not tell.", .min = 1},
    {0},
};
#undef AT

static const struct gw_section request_section = {
    .name = "test request",
    .help = "The request of a test; a text alone is its URL.",
    .size = sizeof(struct gw_test_request_conf),
    .settings = request_settings,
    .scalar_is = "url",
    .check = check_request,
};

/* ---- expectations ---- */

static bool check_reason(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t code)
{
    const char *codes[GW_REASON_COUNT], *nearest;

    if (gw_reason_find(code.base) != GW_REASON_COUNT)
        return true;
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        codes[i] = gw_reason_info(i)->code;
    nearest = gw_nearest(code.base, codes, GW_REASON_COUNT);
    return gw_error_at(loader->errors, at, "unknown reason \"%.60s\" (%s%s%s)", code.base,
                       nearest != NULL ? "did you mean \"" : "`weir reason` lists them", nearest != NULL ? nearest : "",
                       nearest != NULL ? "\"?" : "");
}

/* A test that looks at nothing cannot fail. */
static bool check_expect(struct gw_loader *loader, void *conf)
{
    const struct gw_test_expect_conf *expect = conf;
    if (expect->at == NULL) /* its absence is an error already */
        return true;
    if (expect->at->kind != GW_NODE_MAP || expect->at->size == 0)
        return gw_error_at(loader->errors, expect->at, "expect is empty (expected a route, status or reason, say)");
    return true;
}

#define AT(field) offsetof(struct gw_test_expect_conf, field)
static const struct gw_setting expect_settings[] = {
    {"route", GW_TEXT, AT(route), "Name of the route that takes the request; `-` for none.", .min = 1},
    {"status", GW_NUMBER, AT(status), "Status of the answer, where weir gives it and not a target.",
     .initial = 18446744073709551616.0, .initial_text = "not looked at", .min = 100, .max = 599},
    {"reason", GW_TEXT, AT(reason), "Reason code of the answer; `-` when the target's own is passed on.", .min = 1,
     .valid = check_reason},
    {"target_group", GW_TEXT, AT(target_group),
     "Target group that gets the request, or may get it by weight; `-` for none.", .min = 1},
    {"target_url", GW_TEXT, AT(target_url), "Path and query that the target gets.", .min = 1},
    {"target_headers", GW_PAIRS, AT(target_headers),
     "Headers that the target gets: the client's, changed by request_headers of the route.", .valid = check_field_name},
    {"location", GW_TEXT, AT(location), "Location of a redirect.", .min = 1},
    {"headers", GW_PAIRS, AT(headers), "Headers of the answer that the route sets.", .valid = check_field_name},
    {"listener", GW_TEXT, AT(listener), "Listener that gets the request.", .min = 1},
    {"certificate", GW_TEXT, AT(certificate), "Certificate that a client of that host name is shown; `-` for none.",
     .min = 1},
    {"client_ip", GW_TEXT, AT(client_ip), "Client address after trusted_proxies.", .valid = check_ip},
    {"path", GW_TEXT, AT(path), "Canonical path, the one that routes match.", .min = 1},
    {0},
};
#undef AT

static const struct gw_section expect_section = {
    .name = "test expectation",
    .help = "What a test expects; what is left out is not looked at.",
    .size = sizeof(struct gw_test_expect_conf),
    .settings = expect_settings,
    .check = check_expect,
};

#define AT(field) offsetof(struct gw_test_conf, field)
static const struct gw_setting test_settings[] = {
    {"name", GW_TEXT, AT(name), "What the test shows, for reports.", .min = 1, .max = 200},
    {"request", GW_SECTION, AT(request), "The request.", .section = &request_section, .is_required = true},
    {"expect", GW_SECTION, AT(expect), "What is expected of the decision.", .section = &expect_section,
     .is_required = true},
    {0},
};
#undef AT

const struct gw_section gw_test_section = {
    .name = "test",
    .help = "A request and what `weir test` expects the configuration to decide about it.",
    .size = sizeof(struct gw_test_conf),
    .settings = test_settings,
};
