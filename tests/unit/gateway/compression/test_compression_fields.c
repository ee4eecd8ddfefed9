#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/compression/compression_fields.h"

static h2o_mem_pool_t pool;

static int set_up(void **state)
{
    h2o_mem_init_pool(&pool);
    return 0;
}
static int tear_down(void **state)
{
    h2o_mem_clear_pool(&pool);
    return 0;
}

static void add(h2o_headers_t *fields, const char *name, const char *value)
{
    h2o_add_header_by_str(&pool, fields, name, strlen(name), 1, NULL, value, strlen(value));
}

static const char *get(const h2o_headers_t *fields, const char *name)
{
    h2o_iovec_t joined = {"", 0};
    for (size_t i = 0; i != fields->size; ++i) {
        const h2o_header_t *header = &fields->entries[i];
        if (h2o_lcstris(header->name->base, header->name->len, name, strlen(name)))
            joined = h2o_concat(&pool, joined, h2o_iovec_init("|", joined.len != 0), header->value);
    }
    return joined.len != 0 ? h2o_strdup(&pool, joined.base, joined.len).base : NULL;
}

static void vary_is_said_once(void **state)
{
    static const char *const cases[][2] = {{NULL, "Accept-Encoding"},
                                           {"Origin", "Origin, Accept-Encoding"},
                                           {"accept-ENCODING", "accept-ENCODING"},
                                           {"Origin,Accept-Encoding , X", "Origin,Accept-Encoding , X"},
                                           {"X-Accept-Encoding", "X-Accept-Encoding, Accept-Encoding"},
                                           {"*", "*"}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_headers_t fields = {NULL};
        if (cases[i][0] != NULL)
            add(&fields, "vary", cases[i][0]);
        gw_compression_add_vary(&pool, &fields);
        gw_compression_add_vary(&pool, &fields);
        assert_string_equal(get(&fields, "vary"), cases[i][1]);
    }
}

static void etags_become_weak_or_go(void **state)
{
    static const char *const cases[][2] = {
        {"\"x\"", "W/\"x\""}, {"W/\"x\"", "W/\"x\""}, {"\"\"", "W/\"\""}, {" \"a,b\" ", "W/\"a,b\""},
        {"x", NULL},          {"\"x", NULL},          {"w/\"x\"", NULL},  {"\"a\"b\"", NULL},
        {"W/x", NULL}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_headers_t fields = {NULL};
        add(&fields, "etag", cases[i][0]);
        gw_compression_change_fields(&pool, &fields, GW_CODING_GZIP);
        if (cases[i][1] == NULL)
            assert_null(get(&fields, "etag"));
        else
            assert_string_equal(get(&fields, "etag"), cases[i][1]);
    }
}

static void what_was_said_about_the_old_bytes_goes(void **state)
{
    static const char *const gone[] = {"accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"};
    h2o_headers_t fields = {NULL};
    for (size_t i = 0; i != sizeof(gone) / sizeof(gone[0]); ++i)
        add(&fields, gone[i], "bytes");
    add(&fields, "last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    add(&fields, "cache-control", "public");
    gw_compression_change_fields(&pool, &fields, GW_CODING_BROTLI);
    for (size_t i = 0; i != sizeof(gone) / sizeof(gone[0]); ++i)
        assert_null(get(&fields, gone[i]));
    assert_string_equal(get(&fields, "content-encoding"), "br");
    assert_string_equal(get(&fields, "cache-control"), "public");
    assert_non_null(get(&fields, "last-modified"));
}

static bool forbids(const char *value)
{
    h2o_headers_t fields = {NULL};
    add(&fields, "cache-control", value);
    return gw_compression_has_no_transform(fields.entries, fields.size);
}

static void no_transform_is_found_in_its_list(void **state)
{
    assert_true(forbids("no-transform"));
    assert_true(forbids("public, No-Transform,max-age=1"));
    assert_false(forbids("public"));
    assert_false(forbids("x-no-transform"));
    assert_false(forbids("private=\"a, no-transform\""));
}

static void a_type_is_told_without_its_parameters(void **state)
{
    struct gw_compression_fields read;
    h2o_headers_t fields = {NULL};
    add(&fields, "content-type", "text/html ; charset=utf-8");
    gw_compression_fields_read(&fields, &read);
    assert_int_equal(read.type.len, 9);
    assert_false(read.is_encoded);
    add(&fields, "content-range", "bytes */10");
    gw_compression_fields_read(&fields, &read);
    assert_true(read.is_encoded);
}

static void a_304_has_the_tag_that_the_client_knows(void **state)
{
    static const struct {
        const char *known, *tag, *sent;
    } cases[] = {{"W/\"x\"", "\"x\"", "W/\"x\""}, {"\"y\", W/\"x\"", "\"x\"", "W/\"x\""},
                 {"\"x\"", "\"x\"", "\"x\""},     {"*", "\"x\"", "\"x\""},
                 {"W/\"xx\"", "\"x\"", "\"x\""},  {"W/\"x\"", "W/\"x\"", "W/\"x\""}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_headers_t request = {NULL}, fields = {NULL};
        add(&request, "if-none-match", cases[i].known);
        add(&fields, "etag", cases[i].tag);
        gw_compression_change_304(&pool, &fields, request.entries, request.size);
        assert_string_equal(get(&fields, "etag"), cases[i].sent);
        assert_string_equal(get(&fields, "vary"), "Accept-Encoding");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vary_is_said_once),
        cmocka_unit_test(etags_become_weak_or_go),
        cmocka_unit_test(what_was_said_about_the_old_bytes_goes),
        cmocka_unit_test(no_transform_is_found_in_its_list),
        cmocka_unit_test(a_type_is_told_without_its_parameters),
        cmocka_unit_test(a_304_has_the_tag_that_the_client_knows),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
