#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/base/yaml.h"
#include "tests/unit/base/findings.h"

static struct gw_node node_at(const char *file, unsigned line, unsigned column)
{
    return (struct gw_node){
        .kind = GW_NODE_SCALAR, .file = file, .line = line, .column = column, .text = h2o_iovec_init("value", 5)};
}

static int set_up(void **state)
{
    struct gw_errors *errors = malloc(sizeof(*errors));
    gw_errors_init(errors);
    *state = errors;
    return 0;
}

static int tear_down(void **state)
{
    gw_errors_dispose(*state);
    free(*state);
    return 0;
}

static void findings_are_sorted_by_file_line_and_column(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node late = node_at("a", 9, 1), right = node_at("a", 2, 7), left = node_at("a", 2, 3);
    struct gw_node included = node_at("0", 1, 1);
    gw_errors_add_file(errors, "a"); /* the file of the command line, whatever it is called */
    gw_error_at(errors, &included, "included");
    gw_error_at(errors, &late, "late");
    gw_error_at(errors, &right, "right");
    gw_error_at(errors, &left, "left");
    gw_error_in(errors, "a", 0, 0, "whole file");
    assert_findings(errors, "a: whole file\na:2:3: left\na:2:7: right\na:9:1: late\n0:1:1: included\n");
}

static void the_first_error_is_the_first_line_that_is_no_warning(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node late = node_at("a", 9, 1), early = node_at("a", 2, 7), first = node_at("a", 1, 1);
    char text[32];
    gw_errors_add_file(errors, "a");
    gw_warn_at(errors, &first, "a warning");
    gw_errors_first(errors, text, sizeof(text));
    assert_string_equal(text, "");
    gw_error_at(errors, &late, "late");
    gw_error_at(errors, &early, "early");
    gw_errors_first(errors, text, sizeof(text));
    assert_string_equal(text, "a:2:7: early");
    gw_error_in(errors, "a", 0, 0, "whole file, and a text that is long");
    gw_errors_first(errors, text, sizeof(text));
    assert_string_equal(text, "a: whole file, and a text that ");
}

static void findings_at_one_place_keep_their_order(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    char expected[4096] = "", line[32];
    for (int i = 0; i != 100; ++i) {
        gw_error_at(errors, &at, "finding %d", i);
        snprintf(line, sizeof(line), "a:1:1: finding %d\n", i);
        strcat(expected, line);
    }
    assert_findings(errors, expected);
}

static void exact_repeats_are_printed_once(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    gw_error_at(errors, &at, "same");
    gw_error_at(errors, &at, "same");
    gw_warn_at(errors, &at, "same");
    gw_error_at(errors, &at, "other");
    gw_error_at(errors, &at, "other");
    assert_findings(errors, "a:1:1: same\na:1:1: warning: same\na:1:1: other\n");
}

static void warnings_do_not_count_as_errors(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    gw_warn_at(errors, &at, "careful");
    gw_warn_in(errors, "a", 1, 2, "careful");
    assert_int_equal(errors->num_errors, 0);
    assert_false(gw_error_at(errors, &at, "bad"));
    assert_false(gw_error_in(errors, "a", 1, 2, "bad"));
    assert_int_equal(errors->num_errors, 2);
}

static void a_node_that_has_its_error_gets_no_second_one(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    at.is_broken = true;
    assert_false(gw_error_at(errors, &at, "consequence"));
    gw_warn_at(errors, &at, "consequence");
    assert_int_equal(errors->size, 0);
}

static void an_error_without_a_node_names_the_first_file(void **state)
{
    struct gw_errors *errors = *state;
    gw_errors_add_file(errors, "edge.yaml");
    gw_error_at(errors, NULL, "nowhere");
    assert_findings(errors, "edge.yaml: nowhere\n");
}

static void control_characters_cannot_forge_a_line(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    gw_error_at(errors, &at, "%s", "one\nb:1:1: two\r\x1b[31m\x7f");
    assert_findings(errors, "a:1:1: one\\nb:1:1: two\\x0d\\x1b[31m\\x7f\n");
}

static void a_secret_is_never_printed(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    gw_errors_add_secret(errors, "hunter22", 8);
    gw_error_at(errors, &at, "unknown user hunter22 (hunter2, hunter22hunter22)");
    assert_findings(errors, "a:1:1: unknown user *** (hunter2, ******)\n");
}

static void the_text_of_a_secret_node_is_masked_however_short(void **state)
{
    struct gw_errors *errors = *state;
    struct gw_node at = node_at("a", 1, 1);
    at.is_secret = true;
    at.text = h2o_iovec_init("77", 2);
    gw_error_at(errors, &at, "port is 77 and 1");
    assert_findings(errors, "a:1:1: port is *** and 1\n");
}

static void a_flood_of_findings_is_counted_but_not_kept(void **state)
{
    struct gw_errors *errors = *state;
    for (unsigned i = 0; i != 12345; ++i)
        gw_error_in(errors, "a", i + 1, 1, "bad");
    assert_int_equal(errors->num_errors, 12345);
    assert_int_equal(errors->size, 10000);
    char *text = printed(errors);
    assert_string_equal(text + strlen(text) - strlen("\nand 2345 more\n"), "\nand 2345 more\n");
    free(text);
}

static void the_nearest_name_is_what_was_likely_meant(void **state)
{
    static const char *const names[] = {"address", "protocols", "tls", "header_block", "headers", "url", "on"};
    static const struct {
        const char *typed, *meant;
    } cases[] = {
        {"adress", "address"},
        {"addresss", "address"},
        {"protcol", "protocols"},
        {"protocol", "protocols"},
        {"tsl", "tls"},
        {"tl", "tls"},
        {"urls", "url"},
        {"Header-Block", "header_block"},
        {"headerblock", "header_block"},
        {"header", "headers"},
        {"address", "address"},
        {"no", "on"},
        {"address_of_mine", NULL},
        {"xyz", NULL},
        {"x", NULL},
        {"u", NULL},
        {"o", "on"},
        {"", NULL},
        {"listeners", NULL},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        const char *found = gw_nearest(cases[i].typed, names, sizeof(names) / sizeof(names[0]));
        if (cases[i].meant == NULL ? found != NULL : found == NULL || strcmp(found, cases[i].meant) != 0)
            fail_msg("\"%s\" gave %s", cases[i].typed, found != NULL ? found : "nothing");
    }
    assert_null(gw_nearest("anything", names, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(findings_are_sorted_by_file_line_and_column, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_error_is_the_first_line_that_is_no_warning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(findings_at_one_place_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(exact_repeats_are_printed_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(warnings_do_not_count_as_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_has_its_error_gets_no_second_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_without_a_node_names_the_first_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_characters_cannot_forge_a_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_secret_is_never_printed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_text_of_a_secret_node_is_masked_however_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_findings_is_counted_but_not_kept, set_up, tear_down),
        cmocka_unit_test(the_nearest_name_is_what_was_likely_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
