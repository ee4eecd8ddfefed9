#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <time.h>
#include "gateway/base/regex.h"

static h2o_iovec_t slice(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static struct gw_regex *regex_of(const char *pattern, bool ignore_case)
{
    char why[256] = "";
    struct gw_regex *regex = gw_regex_create(slice(pattern), ignore_case, why, sizeof(why));
    if (regex == NULL)
        fail_msg("%s: %s", pattern, why);
    return regex;
}

static void search_is_unanchored_and_exact(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool ignore_case, matches;
    } cases[] = {
        {"b", "abc", false, true},
        {"^b", "abc", false, false},
        {"^/users/(\\d+)$", "/users/42", false, true},
        {"^/users/(\\d+)$", "/users/42\n", false, false},
        {"^/users/(\\d+)$", "/users/x", false, false},
        {"(?i)ABC", "xabcx", false, true},
        {"(?i:a)B", "aB", false, true},
        {"(?i:a)B", "ab", false, false},
        {"ABC", "abc", true, true},
        {"ABC", "abc", false, false},
        {"(?:a|b)+c", "ababc", false, true},
        {"(?<n>a)(?P<m>b)", "ab", false, true},
        {"[[:alpha:]]]", "x]", false, true},
        {"[]a]", "]", false, true},
        {"[^]a]", "]", false, false},
        {"[(?=]", "=", false, true},
        {"\\(\\?=", "(?=", false, true},
        {"\\Aa\\z", "a", false, true},
        {"\\bfoo\\b", "a foo b", false, true},
        {"a{2,3}?", "aa", false, true},
        {"", "anything", false, true},
        {"\\0", "x", false, false},
        {".", "\xff", false, true}, /* bytes, not UTF-8 */
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_regex *regex = regex_of(cases[i].pattern, cases[i].ignore_case);
        if (gw_regex_search(regex, slice(cases[i].text), NULL) != cases[i].matches)
            fail_msg("pattern %s, text %s", cases[i].pattern, cases[i].text);
        gw_regex_destroy(regex);
    }
}

static void groups_are_slices_of_the_text(void **state)
{
    struct gw_regex *regex = regex_of("^/(\\w+)(/x)?/(\\w*)(-(y))?$", false);
    h2o_iovec_t groups[GW_REGEX_MAX_GROUPS];
    char text[] = "/abc/";
    assert_int_equal(gw_regex_num_groups(regex), 5);
    assert_true(gw_regex_search(regex, h2o_iovec_init(text, 5), groups));
    assert_ptr_equal(groups[0].base, text);
    assert_int_equal(groups[0].len, 5);
    assert_ptr_equal(groups[1].base, text + 1);
    assert_int_equal(groups[1].len, 3);
    assert_null(groups[2].base); /* not taken */
    assert_non_null(groups[3].base);
    assert_int_equal(groups[3].len, 0); /* taken, and empty */
    for (int i = 4; i != GW_REGEX_MAX_GROUPS; ++i)
        assert_null(groups[i].base);
    assert_false(gw_regex_search(regex, h2o_iovec_init(NULL, 0), groups));
    gw_regex_destroy(regex);
}

static void constructs_without_a_bound_on_their_cost_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"(a)\\1", "back-references"},
        {"(?<n>a)\\k<n>", "back-references"},
        {"(a)\\g1", "back-references"},
        {"(a)\\g{-1}", "back-references"},
        {"(?P<n>a)(?P=n)", "back-references"},
        {"(?=a)", "look-around"},
        {"(?!a)", "look-around"},
        {"a++", "possessive"},
        {"a*+b", "possessive"},
        {"a?+", "possessive"},
        {"a{2}+", "possessive"},
        {"a{2}{3}+", "possessive"},
        {"a{2,}+", "possessive"},
        {"(a{2,3}+)", "possessive"},
        {"[ab]++", "possessive"},
        {"a*?+", "quantifier does not follow"},
        {"\\p{L}", "Unicode"},
        {"\\PL", "Unicode"},
        {"[a\\p{L}]", "Unicode"},
        {"(?<=a)", "look-around"},
        {"(?<!a)", "look-around"},
        {"(*pla:a)b", "look-around"},
        {"(*positive_lookahead:a)b", "look-around"},
        {"(?R)", "recursion"},
        {"(a)(?1)", "recursion"},
        {"(a)(?-1)", "recursion"},
        {"(?+1)(a)", "recursion"},
        {"(?<n>a)(?&n)", "recursion"},
        {"(?P<n>a)(?P>n)", "recursion"},
        {"a(?C)b", "callouts"},
        {"a(?C1)b", "callouts"},
        {"a(?C'x')b", "callouts"},
        {"(?>a)", "atomic"},
        {"(?|(a)|(b))", "branch reset"},
        {"(a)?(?(1)b|c)", "conditional"},
        {"(*UTF)a", "verbs"},
        {"(*LIMIT_MATCH=1)a", "verbs"},
        {"a(*SKIP)b", "verbs"},
        {"(?#comment)a", "comments"},
        {"(?x)a # [\n(?=b)", "this kind of group"},
        {"\\Qa\\E", "\\Q"},
        {"[\\Q]\\E](?=a)", "\\Q"},
        {"a\\Kb", "\\K"},
        {"\\C", "\\C"},
        {"[[:alpha:]](?=a)", "look-around"},
        {"[]](?=a)", "look-around"},
        {"[^]](?=a)", "look-around"},
        {"[\\]](?=a)", "look-around"},
        {"[[:a](?=a)", "look-around"},
        {"\\[(?=a)", "look-around"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char why[256] = "";
        struct gw_regex *regex = gw_regex_create(slice(cases[i][0]), false, why, sizeof(why));
        if (regex != NULL || strstr(why, cases[i][1]) == NULL || strstr(why, "offset") == NULL)
            fail_msg("%s: %s", cases[i][0], regex != NULL ? "was accepted" : why);
    }
}

static void what_looks_like_a_refused_construct_and_is_none_is_taken(void **state)
{
    static const char *const cases[] = {"\\++",  "a+?b+",  "a{2,3}?b+", "[+]+", "(?:a+)+",
                                        "a{x}+", "a{,2}+", "[p]P+",     "\\\\p"};

    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char why[256] = "";
        struct gw_regex *regex = gw_regex_create(slice(cases[i]), false, why, sizeof(why));
        if (regex == NULL)
            fail_msg("%s: %s", cases[i], why);
        gw_regex_destroy(regex);
    }
}

static void bad_patterns_are_refused_with_their_offset(void **state)
{
    static const char *const cases[] = {"(",  ")",    "[a",    "a{2,1}", "*",        "a\\",
                                        "(?", "(?<n", "[z-a]", "(?i",    "\\p{Foo}", "(?-x"};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char why[256] = "";
        struct gw_regex *regex = gw_regex_create(slice(cases[i]), false, why, sizeof(why));
        if (regex != NULL || strstr(why, "offset") == NULL)
            fail_msg("%s: %s", cases[i], regex != NULL ? "was accepted" : why);
    }
}

static void more_groups_than_slices_are_refused(void **state)
{
    char pattern[200] = "", why[256] = "";
    for (int i = 0; i != GW_REGEX_MAX_GROUPS - 1; ++i)
        strcat(pattern, "(a)");
    gw_regex_destroy(regex_of(pattern, false));
    strcat(pattern, "(a)");
    assert_null(gw_regex_create(slice(pattern), false, why, sizeof(why)));
    assert_string_equal(why, "32 groups, at most 31 are supported");
}

static void runaway_pattern_is_no_match_and_takes_no_time(void **state)
{
    static const char *const patterns[] = {"(a+)+$", "(a|aa)+$", "(a|a)*b", "^(.*)*(.*)*(.*)*x$", "(.*a){30}c"};
    static char text[8192];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '!';
    for (size_t i = 0; i != sizeof(patterns) / sizeof(patterns[0]); ++i) {
        struct gw_regex *regex = regex_of(patterns[i], false);
        clock_t start = clock();
        assert_false(gw_regex_search(regex, h2o_iovec_init(text, sizeof(text)), NULL));
        assert_true(clock() - start < CLOCKS_PER_SEC / 4);
        gw_regex_destroy(regex);
    }
}

static void honest_pattern_matches_the_longest_target(void **state)
{
    static const char *const patterns[] = {"^(/[a-z]+)*$", "^/.*/b$", "(a|b|/)+$"};
    static char text[8192];
    for (size_t i = 0; i != sizeof(text); ++i)
        text[i] = "/b"[i % 2];
    for (size_t i = 0; i != sizeof(patterns) / sizeof(patterns[0]); ++i) {
        struct gw_regex *regex = regex_of(patterns[i], false);
        if (!gw_regex_search(regex, h2o_iovec_init(text, sizeof(text)), NULL))
            fail_msg("%s", patterns[i]);
        gw_regex_destroy(regex);
    }
}

static void *search_often(void *arg)
{
    h2o_iovec_t groups[GW_REGEX_MAX_GROUPS];
    for (int i = 0; i != 20000; ++i) {
        char text[32];
        int len = snprintf(text, sizeof(text), "/users/%d", i);
        if (!gw_regex_search(arg, h2o_iovec_init(text, (size_t)len), groups) || groups[1].base != text + 7 ||
            groups[1].len != (size_t)len - 7)
            return "wrong";
    }
    return NULL;
}

static void one_regex_serves_several_threads(void **state)
{
    struct gw_regex *regex = regex_of("^/users/(\\d+)$", false);
    pthread_t threads[4];
    for (int i = 0; i != 4; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, search_often, regex), 0);
    for (int i = 0; i != 4; ++i) {
        void *problem;
        pthread_join(threads[i], &problem);
        assert_null(problem);
    }
    gw_regex_destroy(regex);
    gw_regex_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_is_unanchored_and_exact),
        cmocka_unit_test(groups_are_slices_of_the_text),
        cmocka_unit_test(constructs_without_a_bound_on_their_cost_are_refused),
        cmocka_unit_test(what_looks_like_a_refused_construct_and_is_none_is_taken),
        cmocka_unit_test(bad_patterns_are_refused_with_their_offset),
        cmocka_unit_test(more_groups_than_slices_are_refused),
        cmocka_unit_test(runaway_pattern_is_no_match_and_takes_no_time),
        cmocka_unit_test(honest_pattern_matches_the_longest_target),
        cmocka_unit_test(one_regex_serves_several_threads),
    };
    return cmocka_run_group_tests_name("base/regex", tests, NULL, NULL);
}
