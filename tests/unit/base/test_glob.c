#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>
#include "gateway/base/glob.h"

static h2o_iovec_t slice(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static void patterns_match_as_documented(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abc", "ab", false},
        {"abc", "ABC", false},
        {"*", "", true},
        {"*", "/any/thing?", true},
        {"**", "", true},
        {"?", "", false},
        {"?", "/", true},
        {"?", "ab", false},
        {"??*", "a", false},
        {"??*", "ab", true},
        {"*?", "", false},
        {"*?", "a", true},
        {"/img/*", "/img/", true},
        {"/img/*", "/img", false},
        {"/img/*/pics", "/img/a/b/pics", true},
        {"/img/*/pics", "/img/pics", false},
        {"*.example.com", "www.example.com", true},
        {"*.example.com", "a.b.example.com", true},
        {"*.example.com", "example.com", false},
        {"*.php", "/a.php/b.php", true},
        {"*.php", "/a.php/b.phpx", false},
        {"*ab*ab", "abab", true},
        {"*ab*ab", "ab", false},
        {"a*b*c", "a-b-b-c", true},
        {"a*b*c", "a-c-b", false},
        {"*aab*", "aaaaab", true},
        {"a?c*e", "abcde", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"a\\?b", "a?b", true},
        {"a\\?b", "acb", false},
        {"\\\\", "\\", true},
        {"\\\\*", "\\abc", true},
        {"\\a", "\\a", true},
        {"\\a", "a", false},
        {"a\\", "a\\", true},
        {"a\\", "a", false},
        {"*\\", "ab\\", true},
        {"[a-z]", "b", false},
        {"[a-z]", "[a-z]", true},
        {"{a,b}", "a", false},
        {"caf\xc3\xa9*", "caf\xc3\xa9/x", true},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (gw_glob_match(slice(cases[i].pattern), slice(cases[i].text)) != cases[i].matches)
            fail_msg("pattern %s, text %s", cases[i].pattern, cases[i].text);
}

static void nocase_ignores_the_case_of_ascii_letters_only(void **state)
{
    assert_true(gw_glob_match_nocase(slice("*.EXAMPLE.com"), slice("www.example.COM")));
    assert_true(gw_glob_match_nocase(slice("a?Z"), slice("A.z")));
    assert_false(gw_glob_match_nocase(slice("["), slice("{")));
    assert_false(gw_glob_match_nocase(slice("@"), slice("`")));
    assert_false(gw_glob_match_nocase(slice("\xc3\x89"), slice("\xc3\xa9")));
}

/* The definition, without any cleverness: exponential. */
static bool matches_by_definition(const char *p, size_t p_len, const char *t, size_t t_len)
{
    if (p_len == 0)
        return t_len == 0;
    if (*p == '*')
        return matches_by_definition(p + 1, p_len - 1, t, t_len) ||
               (t_len != 0 && matches_by_definition(p, p_len, t + 1, t_len - 1));
    if (t_len == 0)
        return false;
    if (*p == '?')
        return matches_by_definition(p + 1, p_len - 1, t + 1, t_len - 1);
    if (*p == '\\' && p_len != 1 && (p[1] == '*' || p[1] == '?' || p[1] == '\\')) {
        ++p;
        --p_len;
    }
    return *p == *t && matches_by_definition(p + 1, p_len - 1, t + 1, t_len - 1);
}

static void random_patterns_match_as_defined(void **state)
{
    static const char pattern_bytes[] = "aab**?\\", text_bytes[] = "aaab*?\\";
    uint64_t seed = 88172645463325252u;
    unsigned num_matches = 0;
    for (int i = 0; i != 400000; ++i) {
        char pattern[10], text[14];
        size_t sizes[2];
        for (int k = 0; k != 2; ++k) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            sizes[k] = (seed >> 33) % (k == 0 ? sizeof(pattern) + 1 : sizeof(text) + 1);
            for (size_t n = 0; n != sizes[k]; ++n) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                (k == 0 ? pattern : text)[n] = (k == 0 ? pattern_bytes : text_bytes)[(seed >> 33) % 7];
            }
        }
        bool expected = matches_by_definition(pattern, sizes[0], text, sizes[1]);
        num_matches += expected;
        if (gw_glob_match(h2o_iovec_init(pattern, sizes[0]), h2o_iovec_init(text, sizes[1])) != expected)
            fail_msg("pattern %.*s, text %.*s", (int)sizes[0], pattern, (int)sizes[1], text);
    }
    assert_true(num_matches > 20000);
}

static void no_pattern_makes_matching_explode(void **state)
{
    static char text[8192], pattern[128];
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i != sizeof(pattern); ++i)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    pattern[sizeof(pattern) - 1] = 'b';
    clock_t start = clock();
    assert_false(gw_glob_match(h2o_iovec_init(pattern, sizeof(pattern)), h2o_iovec_init(text, sizeof(text))));
    memset(pattern, 'a', sizeof(pattern));
    pattern[0] = '*';
    pattern[sizeof(pattern) - 1] = 'b';
    assert_false(gw_glob_match(h2o_iovec_init(pattern, sizeof(pattern)), h2o_iovec_init(text, sizeof(text))));
    /* a million steps each; backtracking over all stars would take longer than the sun has */
    assert_true(clock() - start < CLOCKS_PER_SEC);
}

static void prefix_is_the_unescaped_text_before_the_first_wildcard(void **state)
{
    static const struct {
        const char *pattern, *prefix;
        bool is_literal;
    } cases[] = {{"", "", true},           {"/a/b", "/a/b", true}, {"/a/*", "/a/", false}, {"?", "", false},
                 {"a\\*b?", "a*b", false}, {"\\\\", "\\", true},   {"\\?\\*", "?*", true}, {"a\\", "a\\", true}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char buf[16];
        bool is_literal;
        h2o_iovec_t prefix = gw_glob_prefix(slice(cases[i].pattern), buf, &is_literal);
        assert_int_equal(is_literal, cases[i].is_literal);
        assert_int_equal(prefix.len, strlen(cases[i].prefix));
        assert_memory_equal(prefix.base, cases[i].prefix, prefix.len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_documented),
        cmocka_unit_test(nocase_ignores_the_case_of_ascii_letters_only),
        cmocka_unit_test(random_patterns_match_as_defined),
        cmocka_unit_test(no_pattern_makes_matching_explode),
        cmocka_unit_test(prefix_is_the_unescaped_text_before_the_first_wildcard),
    };
    return cmocka_run_group_tests_name("base/glob", tests, NULL, NULL);
}
