#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include "gateway/base/json.h"

static struct gw_json json;

static int set_up(void **state)
{
    gw_json_init(&json);
    return 0;
}

static int tear_down(void **state)
{
    gw_json_dispose(&json);
    return 0;
}

static void assert_json(const char *expected)
{
    assert_int_equal(json.size, strlen(expected));
    assert_memory_equal(json.base, expected, json.size);
}

/* What another implementation reads in the output; fails if it does not parse. */
static json_t *read_back(void)
{
    json_error_t error;
    json_t *value = json_loadb(json.base, json.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (value == NULL)
        fail_msg("%s: %.*s", error.text, (int)json.size, json.base);
    return value;
}

static void commas_stand_where_they_belong(void **state)
{
    gw_json_object(&json);
    gw_json_key(&json, "a");
    gw_json_number(&json, -1);
    gw_json_key(&json, "b");
    gw_json_array(&json);
    gw_json_array(&json);
    gw_json_array_end(&json);
    gw_json_object(&json);
    gw_json_object_end(&json);
    gw_json_string(&json, "x");
    gw_json_bool(&json, true);
    gw_json_bool(&json, false);
    gw_json_null(&json);
    gw_json_array_end(&json);
    gw_json_key_text(&json, h2o_iovec_init("c\"", 2));
    gw_json_object(&json);
    gw_json_key(&json, "d");
    gw_json_unsigned(&json, UINT64_MAX);
    gw_json_object_end(&json);
    gw_json_object_end(&json);
    assert_json("{\"a\":-1,\"b\":[[],{},\"x\",true,false,null],\"c\\\"\":{\"d\":18446744073709551615}}");
}

static void reset_starts_a_new_document_in_the_same_memory(void **state)
{
    gw_json_array(&json);
    gw_json_number(&json, 1);
    gw_json_array_end(&json);
    char *base = json.base;
    gw_json_reset(&json);
    gw_json_number(&json, 2);
    assert_json("2");
    assert_ptr_equal(json.base, base);
}

static void raw_bytes_take_no_part_in_commas(void **state)
{
    gw_json_array(&json);
    gw_json_raw(&json, "1", 1);
    gw_json_raw(&json, NULL, 0);
    gw_json_array_end(&json);
    gw_json_raw(&json, "\n", 1);
    assert_json("[1]\n");
}

static void numbers_are_written_whole(void **state)
{
    static const struct {
        int64_t n;
        const char *text;
    } cases[] = {{0, "0"}, {-1, "-1"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        gw_json_reset(&json);
        gw_json_number(&json, cases[i].n);
        assert_json(cases[i].text);
    }
}

static void decimals_have_the_digits_asked_for(void **state)
{
    static const struct {
        double value;
        int digits;
        const char *text;
    } cases[] = {{0.0125, 3, "0.013"}, {1.0, 6, "1.000000"},  {-2.5, 0, "-2"},       {0, 2, "0.00"},
                 {NAN, 2, "null"},     {INFINITY, 2, "null"}, {-INFINITY, 2, "null"}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        gw_json_reset(&json);
        gw_json_decimal(&json, cases[i].value, cases[i].digits);
        assert_json(cases[i].text);
    }
    gw_json_reset(&json);
    gw_json_decimal(&json, -1.7976931348623157e308, 1000);
    json_decref(read_back());
}

static void every_character_is_read_back_as_it_was(void **state)
{
    for (unsigned c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 0x7f) {
        unsigned char utf8[4];
        size_t len;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        if (c < 0x80) {
            utf8[0] = (unsigned char)c;
            len = 1;
        } else if (c < 0x800) {
            utf8[0] = (unsigned char)(0xc0 | c >> 6);
            utf8[1] = (unsigned char)(0x80 | (c & 63));
            len = 2;
        } else if (c < 0x10000) {
            utf8[0] = (unsigned char)(0xe0 | c >> 12);
            utf8[1] = (unsigned char)(0x80 | (c >> 6 & 63));
            utf8[2] = (unsigned char)(0x80 | (c & 63));
            len = 3;
        } else {
            utf8[0] = (unsigned char)(0xf0 | c >> 18);
            utf8[1] = (unsigned char)(0x80 | (c >> 12 & 63));
            utf8[2] = (unsigned char)(0x80 | (c >> 6 & 63));
            utf8[3] = (unsigned char)(0x80 | (c & 63));
            len = 4;
        }
        gw_json_reset(&json);
        gw_json_text(&json, h2o_iovec_init(utf8, len));
        json_t *value = read_back();
        assert_int_equal(json_string_length(value), len);
        assert_memory_equal(json_string_value(value), utf8, len);
        json_decref(value);
    }
}

static void bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"\x80", "\"\xef\xbf\xbd\""},
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* overlong NUL */
        {"\xe0\x80\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* overlong slash */
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},                 /* surrogate */
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, /* above U+10FFFF */
        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""},                                 /* cut short */
        {"\xc3\"", "\"\xef\xbf\xbd\\\"\""},                                           /* the quote is not swallowed */
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        gw_json_reset(&json);
        gw_json_string(&json, cases[i].text);
        assert_json(cases[i].expected);
    }
}

static void random_bytes_always_give_a_document_that_parses(void **state)
{
    uint64_t seed = 7;
    for (int i = 0; i != 20000; ++i) {
        char bytes[64];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t len = (seed >> 33) % sizeof(bytes);
        for (size_t k = 0; k != len; ++k) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = (char)(seed >> 56 | (seed >> 56 == 0)); /* jansson takes no NUL in a key */
        }
        gw_json_reset(&json);
        gw_json_object(&json);
        gw_json_key(&json, "text");
        gw_json_text(&json, h2o_iovec_init(bytes, len));
        gw_json_key_text(&json, h2o_iovec_init(bytes, len));
        gw_json_number(&json, i);
        gw_json_object_end(&json);
        json_decref(read_back());
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commas_stand_where_they_belong),
        TEST(reset_starts_a_new_document_in_the_same_memory),
        TEST(raw_bytes_take_no_part_in_commas),
        TEST(numbers_are_written_whole),
        TEST(decimals_have_the_digits_asked_for),
        TEST(every_character_is_read_back_as_it_was),
        TEST(bytes_that_are_no_utf8_become_replacement_characters),
        TEST(random_bytes_always_give_a_document_that_parses),
    };
    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
