#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/observe/access_format.h"
#include "gateway/base/yaml.h"
#include "tests/unit/base/findings.h"

static const h2o_iovec_t none = {NULL, 0};

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static struct gw_access_full plain(void)
{
    return (struct gw_access_full){
        .line = {.wall_ms = 1767323045678,
                 .client = text("192.0.2.1"),
                 .peer = text("192.0.2.9"),
                 .client_port = 5555,
                 .method = text("GET"),
                 .scheme = text("http"),
                 .protocol = text("HTTP/1.1"),
                 .path = text("/a/b"),
                 .status = 200,
                 .reason = text("-"),
                 .bytes_in = 100,
                 .bytes_out = 300,
                 .duration_us = 1500000,
                 .upstream_us = UINT64_MAX,
                 .user_agent = text("test/1.0")},
        .wall_us = 1767323045678901,
        .to_target_us = UINT64_MAX,
        .in_target_us = UINT64_MAX,
        .to_client_us = UINT64_MAX,
        .body_bytes_out = 200,
        .authority = text("www.example.com"),
        .local = text("10.0.0.1"),
        .local_port = 80,
        .conn_id = text("TID_0123"),
        .priority = GW_ACCESS_NEVER_PRIORITY,
    };
}

/* Written into exactly the bytes that the bound allows, so that sanitizers see one more. */
static const char *written(enum gw_access_format format, const struct gw_access_full *full,
                           const struct gw_access_template *template)
{
    static char *line;
    struct gw_access_clock clock = {0};
    size_t bound = gw_access_format_bound(format, full, template, none), len;
    char *bytes = malloc(bound);

    if (format == GW_ACCESS_ALB)
        len = gw_access_alb_write(bytes, full, none, &clock);
    else if (format == GW_ACCESS_COMBINED)
        len = gw_access_combined_write(bytes, full);
    else
        len = gw_access_template_write(bytes, full, template, &clock);
    assert_true(len <= bound);
    assert_int_equal(bytes[len - 1], '\n');
    assert_ptr_equal(memchr(bytes, '\n', len), bytes + len - 1);
    free(line);
    line = malloc(len);
    memcpy(line, bytes, len - 1);
    line[len - 1] = '\0';
    free(bytes);
    return line;
}

static void an_alb_line_has_every_field_in_its_place(void **state)
{
    struct gw_access_full full = plain();
    assert_string_equal(
        written(GW_ACCESS_ALB, &full, NULL),
        "http 2026-01-02T03:04:05.678901Z app/weir/0000000000000000 192.0.2.9:5555 - -1 -1 -1 200 - 100 300 "
        "\"GET http://www.example.com:80/a/b HTTP/1.1\" \"test/1.0\" - - - \"-\" \"-\" \"-\" - "
        "2026-01-02T03:04:04.178901Z \"-\" \"-\" \"-\" \"-\" \"-\" \"-\" \"-\" TID_0123 \"-\" \"-\" \"-\" 10.0.0.1");
    full.line.scheme = text("https");
    full.line.protocol = text("HTTP/2.0");
    full.line.query = text("q=1");
    full.line.target = text("10.0.0.7:9000");
    full.line.target_group = text("users");
    full.line.tls_cipher = text("TLS_AES_128_GCM_SHA256");
    full.line.tls_version = text("TLSv1.3");
    full.line.server_name = text("www.example.com");
    full.line.peer = text("2001:db8::1");
    full.authority = text("www.example.com:8443");
    full.to_target_us = 1999;
    full.in_target_us = 2000000;
    full.to_client_us = 0;
    full.target_status = 200;
    full.amzn_trace_id = text("Root=1-2-3");
    full.domain_name = full.line.server_name;
    full.certificate = text("site");
    full.priority = 5;
    full.actions = text("rewrite,forward");
    full.sent_url = text("/new");
    full.is_rewritten = true;
    assert_string_equal(
        written(GW_ACCESS_ALB, &full, NULL),
        "h2 2026-01-02T03:04:05.678901Z app/weir/0000000000000000 [2001:db8::1]:5555 10.0.0.7:9000 0.001 2.000 0.000 "
        "200 200 100 300 \"GET https://www.example.com:8443/a/b?q=1 HTTP/2.0\" \"test/1.0\" TLS_AES_128_GCM_SHA256 "
        "TLSv1.3 "
        "users \"Root=1-2-3\" \"www.example.com\" \"site\" 5 2026-01-02T03:04:04.178901Z \"rewrite,forward\" \"-\" "
        "\"-\" "
        "\"10.0.0.7:9000\" \"200\" \"-\" \"-\" TID_0123 \"-\" \"/new\" \"TransformSuccess\" 10.0.0.1");
}

/* Spec/alb.md 8.1, with [^ ] for the lazy [^\s]+? that POSIX does not have. */
static void alb_lines_satisfy_the_documented_expression(void **state)
{
    static const char documented[] =
        "^([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*):([0-9]*) ([^ ]*)[:-]([0-9]*) ([-.0-9]*) ([-.0-9]*) ([-.0-9]*) (|[-0-9]*) "
        "(-|[-0-9]*) ([-0-9]*) ([-0-9]*) \"([^ ]*) (.*) (- |[^ ]*)\" \"([^\"]*)\" ([A-Z0-9_-]+) ([A-Za-z0-9.-]*) "
        "([^ ]*) \"([^\"]*)\" \"([^\"]*)\" \"([^\"]*)\" ([-.0-9]*) ([^ ]*) \"([^\"]*)\" \"([^\"]*)\" \"([^ ]*)\" "
        "\"([^ ]+)\" \"([^ ]+)\" \"([^ ]*)\" \"([^ ]*)\" ?([^ ]*)? ?( .*)?$";
    static const char odd[] = "\"\\ \t\x01\x7f\xff\"x ";
    struct gw_access_full full = plain();
    regex_t regex;

    assert_int_equal(regcomp(&regex, documented, REG_EXTENDED), 0);
    assert_int_equal(regexec(&regex, written(GW_ACCESS_ALB, &full, NULL), 0, NULL, 0), 0);
    full.line.user_agent = full.line.query = full.amzn_trace_id = full.domain_name = text(odd);
    full.authority = text(odd);
    assert_int_equal(regexec(&regex, written(GW_ACCESS_ALB, &full, NULL), 0, NULL, 0), 0);
    full.line.method = full.line.path = none; /* a head that could not be read */
    full.line.status = 400;
    full.line.reason = text("BAD_SYNTAX");
    assert_int_equal(regexec(&regex, written(GW_ACCESS_ALB, &full, NULL), 0, NULL, 0), 0);
    assert_non_null(strstr(written(GW_ACCESS_ALB, &full, NULL), "\"- - - \""));
    regfree(&regex);
}

static void combined_is_apaches_line(void **state)
{
    struct gw_access_full full = plain();
    assert_string_equal(written(GW_ACCESS_COMBINED, &full, NULL),
                        "192.0.2.1 - - [02/Jan/2026:03:04:05 +0000] \"GET /a/b HTTP/1.1\" 200 200 \"-\" \"test/1.0\"");
    full.line.query = text("");
    full.line.referer = text("http://x/\"\n");
    assert_string_equal(written(GW_ACCESS_COMBINED, &full, NULL),
                        "192.0.2.1 - - [02/Jan/2026:03:04:05 +0000] \"GET /a/b? HTTP/1.1\" 200 200 "
                        "\"http://x/\\x22\\x0A\" \"test/1.0\"");
}

static bool parse(h2o_mem_pool_t *pool, const char *source, struct gw_access_template *template, const char *findings)
{
    struct gw_errors errors;
    struct gw_node at = {.kind = GW_NODE_SCALAR, .file = "t", .line = 1, .column = 1};
    gw_errors_init(&errors);
    bool ok = gw_access_template_parse(pool, text(source), template, &errors, &at);
    assert_findings(&errors, findings);
    gw_errors_dispose(&errors);
    return ok;
}

static void a_template_puts_fields_between_its_text(void **state)
{
    struct gw_access_full full = plain();
    struct gw_access_template template;
    h2o_mem_pool_t pool;

    h2o_mem_init_pool(&pool);
    assert_true(
        parse(&pool, "${client}:${client_port} $5 ${time} <${request_line}>${target}${duration_ms}", &template, ""));
    assert_string_equal(written(GW_ACCESS_TEMPLATE, &full, &template),
                        "192.0.2.1:5555 $5 2026-01-02T03:04:05.678Z <GET /a/b HTTP/1.1>-1500.000");
    assert_true(parse(&pool, "no field", &template, ""));
    assert_string_equal(written(GW_ACCESS_TEMPLATE, &full, &template), "no field");
    assert_true(parse(&pool, "${upstream_ms}", &template, ""));
    assert_string_equal(written(GW_ACCESS_TEMPLATE, &full, &template), "-");
    h2o_mem_clear_pool(&pool);
}

static void a_field_that_is_not_there_is_found_when_the_template_is_read(void **state)
{
    struct gw_access_template template;
    h2o_mem_pool_t pool;

    h2o_mem_init_pool(&pool);
    assert_false(
        parse(&pool, "${statsu}", &template, "t:1:1: unknown field \"${statsu}\" (did you mean \"${status}\"?)\n"));
    assert_false(
        parse(&pool, "${}", &template, "t:1:1: unknown field \"${}\" (gateway/observe/README.md lists them)\n"));
    assert_false(parse(&pool, "a ${client", &template, "t:1:1: \"${\" without \"}\"\n"));
    assert_false(
        parse(&pool, "a\nb", &template, "t:1:1: a template must not hold control characters: it is one line\n"));
    h2o_mem_clear_pool(&pool);
}

static void the_longest_lines_fit_their_bounds(void **state)
{
    enum { LONG = 100000 };
    struct gw_access_full full = plain();
    struct gw_access_template template;
    h2o_mem_pool_t pool;
    char *value = malloc(LONG), *source = calloc(1, 8000);

    memset(value, '\x01', LONG); /* the longest escape */
    h2o_iovec_t huge = h2o_iovec_init(value, LONG);
    full.line.client = full.line.peer = full.line.method = full.line.path = full.line.query = full.line.protocol = huge;
    full.line.user_agent = full.line.referer = full.line.target = full.line.target_group = full.line.tls_cipher = huge;
    full.line.tls_version = full.line.scheme = full.line.server_name = full.domain_name = full.line.reason =
        full.authority = huge;
    full.amzn_trace_id = full.location = full.certificate = full.actions = full.sent_host = full.sent_url = huge;
    full.conn_id = full.local = huge;
    full.line.status = full.target_status = UINT32_MAX;
    full.line.bytes_in = full.line.bytes_out = full.body_bytes_out = full.to_target_us = UINT64_MAX - 1;
    full.priority = INT64_MAX;
    h2o_mem_init_pool(&pool);
    for (int i = 0; i != 100; ++i)
        strcat(source, "${path}${request_line}${bytes_in}${time}${time_local}${duration_ms}");
    assert_true(parse(&pool, source, &template, ""));
    assert_true(strlen(written(GW_ACCESS_ALB, &full, NULL)) > 20 * 4 * GW_ACCESS_MAX_TEXT);
    assert_true(strlen(written(GW_ACCESS_COMBINED, &full, NULL)) > 5 * 4 * GW_ACCESS_MAX_TEXT);
    assert_true(strlen(written(GW_ACCESS_TEMPLATE, &full, &template)) > 500 * 4 * GW_ACCESS_MAX_TEXT);
    h2o_mem_clear_pool(&pool);
    free(value);
    free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_alb_line_has_every_field_in_its_place),
        cmocka_unit_test(alb_lines_satisfy_the_documented_expression),
        cmocka_unit_test(combined_is_apaches_line),
        cmocka_unit_test(a_template_puts_fields_between_its_text),
        cmocka_unit_test(a_field_that_is_not_there_is_found_when_the_template_is_read),
        cmocka_unit_test(the_longest_lines_fit_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
