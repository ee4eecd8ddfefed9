#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/admin/html.h"

static void assert_html(struct gw_html *html, const char *expected)
{
    gw_html_bytes(html, h2o_iovec_init("", 1));
    assert_string_equal(html->base, expected);
    gw_html_dispose(html);
}

static void what_could_be_markup_is_escaped(void **state)
{
    struct gw_html html = {NULL};
    gw_html_string(&html, "<b class=\"a\" id='b'>&amp;</b>");
    assert_html(&html, "&lt;b class=&quot;a&quot; id=&#39;b&#39;&gt;&amp;amp;&lt;/b&gt;");
}

static void control_characters_become_visible_and_line_ends_stay(void **state)
{
    struct gw_html html = {NULL};
    gw_html_text(&html, h2o_iovec_init("a\0b\x1b[31m\x7f\n\tc", 12));
    assert_html(&html, "a\xef\xbf\xbd"
                       "b\xef\xbf\xbd[31m\xef\xbf\xbd\n\tc");
}

static void bytes_that_are_not_utf_8_become_visible(void **state)
{
    struct gw_html html = {NULL};
    gw_html_string(&html, "\xff<\xc3\xa4\xc3&\xed\xa0\x80\xf0\x9f\x98\x80\xe2\x82");
    assert_html(&html, "\xef\xbf\xbd&lt;\xc3\xa4\xef\xbf\xbd&amp;\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                       "\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
}

static void values_are_escaped_and_numbers_are_grouped(void **state)
{
    struct gw_html html = {NULL};
    h2o_iovec_t text = h2o_iovec_init("x<yz", 3);
    gw_html_format(&html, "<i>%s</i> %t %m %n %n %n %i %i 100%%", "a&b", text, "<br>", UINT64_C(0), UINT64_C(999),
                   UINT64_MAX, INT64_C(-1234), INT64_MIN);
    assert_html(&html,
                "<i>a&amp;b</i> x&lt;y <br> 0 999 18,446,744,073,709,551,615 -1,234 -9,223,372,036,854,775,808 100%");
}

static void long_texts_grow_the_buffer(void **state)
{
    struct gw_html html = {NULL};
    for (int i = 0; i != 20000; ++i)
        gw_html_markup(&html, "abcde");
    assert_int_equal(html.size, 100000);
    for (int i = 0; i != 20000; ++i)
        assert_memory_equal(html.base + 5 * i, "abcde", 5);
    gw_html_dispose(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_could_be_markup_is_escaped),
        cmocka_unit_test(control_characters_become_visible_and_line_ends_stay),
        cmocka_unit_test(bytes_that_are_not_utf_8_become_visible),
        cmocka_unit_test(values_are_escaped_and_numbers_are_grouped),
        cmocka_unit_test(long_texts_grow_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
