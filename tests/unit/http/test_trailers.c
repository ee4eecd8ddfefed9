#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/http/trailers.h"

static h2o_mem_pool_t pool;

static int setup(void **state)
{
    h2o_mem_init_pool(&pool);
    return 0;
}

static int teardown(void **state)
{
    h2o_mem_clear_pool(&pool);
    return 0;
}

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static bool is_allowed(const char *name) { return gw_trailer_is_allowed(text(name)); }

static void what_describes_or_steers_a_message_is_no_trailer(void **state)
{
    static const char *const refused[] = {
        "content-length",  "Content-Type",     "CONTENT-ANYTHING", "host", "set-cookie", "x-forwarded-for",
        "X_Forwarded_For", "proxy-connection", "if-match",         "te",   "trailer",    "x-amzn-mtls-x"};
    static const char *const allowed[] = {"content-digest", "Content-MD5", "x-sum", "etag", "server-timing",
                                          "grpc-status",    "set-cookies", "hosts", "x"};
    for (size_t i = 0; i != sizeof(refused) / sizeof(refused[0]); ++i)
        assert_false(is_allowed(refused[i]));
    for (size_t i = 0; i != sizeof(allowed) / sizeof(allowed[0]); ++i)
        assert_true(is_allowed(allowed[i]));
}

/* The fields as `name=value;`. */
static const char *cut(const char *head, const char *lines)
{
    static char out[512];
    h2o_iovec_t section = h2o_strdup(&pool, lines, strlen(lines)), names[8];
    h2o_header_t fields[8];
    size_t n = gw_trailers_cut(section, head, fields, names), len = 0;
    assert_true(n <= gw_trailers_count(section));
    out[0] = '\0';
    for (size_t i = 0; i != n; ++i)
        len += (size_t)sprintf(out + len, "%.*s=%.*s;", (int)fields[i].name->len, fields[i].name->base,
                               (int)fields[i].value.len, fields[i].value.base);
    return out;
}

static const char plain_head[] = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

static void a_section_is_cut_into_its_fields(void **state)
{
    assert_string_equal(cut(plain_head, ""), "");
    assert_string_equal(cut(plain_head, "X:1\r\n"), "x=1;");
    assert_string_equal(cut(plain_head, "X-A: \t 1 2\t \r\nx-b:\r\nX-C:  \r\nX-A: a:b\r\n"),
                        "x-a=1 2;x-b=;x-c=;x-a=a:b;");
    assert_string_equal(cut(plain_head, "Host: b\r\nX: 1\r\nContent-Length: 1\r\n"), "x=1;");
}

static void fields_that_connection_names_are_left_out(void **state)
{
    static const char head[] = "GET /connection: HTTP/1.1\r\nconnection:\r\nconnection-x: z\r\nconnection: te, X ,y\r\n"
                               "host: a\r\nconnection: v\r\n\r\nconnection: z\r\n\r\n";
    assert_string_equal(cut(head, "X: 1\r\nY: 2\r\nZ: 3\r\nV: 4\r\nW: 5\r\n"), "z=3;w=5;");
}

static void an_announcement_names_only_what_may_come(void **state)
{
    static const struct {
        const char *value, *expected;
    } cases[] = {{"x-sum", "x-sum"},
                 {" X-Sum ,, etag\t,", "X-Sum, etag"},
                 {"x,y,z,a,b,c", "x, y, z, a, b, c"},
                 {"content-length, x, host", "x"},
                 {"a b, x", "x"},
                 {"host", NULL},
                 {"", NULL},
                 {",", NULL}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_iovec_t value = gw_trailers_announce(&pool, text(cases[i].value));
        if (cases[i].expected == NULL)
            assert_null(value.base);
        else
            assert_true(h2o_memis(value.base, value.len, cases[i].expected, strlen(cases[i].expected)));
    }
}

static void trailers_are_written_behind_the_last_chunk(void **state)
{
    h2o_iovec_t names[] = {text("x-sum"), text("x-empty")};
    h2o_header_t fields[] = {{.name = &names[0], .value = text("1 2")}, {.name = &names[1]}};
    struct gw_trailers trailers = {fields, 2};
    char out[64];
    size_t len = gw_trailers_write(out, &trailers);
    assert_true(len <= gw_trailers_bound(&trailers));
    assert_true(h2o_memis(out, len, H2O_STRLIT("0\r\nx-sum: 1 2\r\nx-empty: \r\n\r\n")));
    h2o_iovec_t list = gw_trailers_names(&pool, &trailers);
    assert_true(h2o_memis(list.base, list.len, H2O_STRLIT("x-sum, x-empty")));
    trailers.size = 0;
    assert_int_equal(gw_trailers_write(out, &trailers), 5);
    assert_memory_equal(out, "0\r\n\r\n", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_describes_or_steers_a_message_is_no_trailer),
        cmocka_unit_test(a_section_is_cut_into_its_fields),
        cmocka_unit_test(fields_that_connection_names_are_left_out),
        cmocka_unit_test(an_announcement_names_only_what_may_come),
        cmocka_unit_test(trailers_are_written_behind_the_last_chunk),
    };
    return cmocka_run_group_tests_name("http/trailers", tests, setup, teardown);
}
