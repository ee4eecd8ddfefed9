#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/yaml.h"
#include "tests/unit/base/findings.h"

struct fixture {
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    char folder[64]; /* of files that a test writes; the working directory */
    char *home;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    h2o_mem_init_pool(&f->pool);
    gw_errors_init(&f->errors);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    h2o_mem_clear_pool(&f->pool);
    gw_errors_dispose(&f->errors);
    free(f);
    return 0;
}

static int enter_folder(void **state)
{
    set_up(state);
    struct fixture *f = *state;
    strcpy(f->folder, "/tmp/weir-test-yaml-XXXXXX");
    f->home = getcwd(NULL, 0);
    return mkdtemp(f->folder) != NULL && chdir(f->folder) == 0 && mkdir("conf.d", 0700) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", f->folder);
    int status = chdir(f->home) | system(command);
    free(f->home);
    tear_down(state);
    return status;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static struct gw_node *load(struct fixture *f, const char *text)
{
    return gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(text, strlen(text)), true, NULL, &f->errors);
}

static struct gw_node *load_good(struct fixture *f, const char *text)
{
    struct gw_node *root = load(f, text);
    assert_findings(&f->errors, "");
    assert_non_null(root);
    return root;
}

static void positions_are_lines_and_characters_from_one(void **state)
{
    struct gw_node *root = load_good(*state, "# comment\nfirst: 1\nsecond:\n  - \xc3\xa9\xe2\x82\xac: x\n  - [a, b]\n");
    struct gw_node *second = gw_node_get(root, "second");
    assert_int_equal(gw_node_key(root, "first")->line, 2);
    assert_int_equal(gw_node_key(root, "first")->column, 1);
    assert_int_equal(gw_node_get(root, "first")->column, 8);
    assert_int_equal(second->kind, GW_NODE_LIST);
    assert_int_equal(second->entries[0]->entries[0]->line, 4);
    assert_int_equal(second->entries[0]->entries[0]->column, 9);
    assert_int_equal(second->entries[1]->entries[1]->column, 9);
    assert_string_equal(second->file, "t");
}

static void quotes_and_blocks_are_told_from_plain_scalars(void **state)
{
    struct gw_node *root =
        load_good(*state, "a: null\nb: 'null'\nc: \"null\"\nd: |\n  null\ne:\nf: !!str null\ng: ~\n");
    assert_true(gw_node_is_null(gw_node_get(root, "a")));
    assert_false(gw_node_is_null(gw_node_get(root, "b")));
    assert_false(gw_node_is_null(gw_node_get(root, "c")));
    assert_false(gw_node_is_null(gw_node_get(root, "d")));
    assert_true(gw_node_is_null(gw_node_get(root, "e")));
    assert_false(gw_node_is_null(gw_node_get(root, "f")));
    assert_true(gw_node_is_null(gw_node_get(root, "g")));
    assert_string_equal(gw_node_get(root, "d")->text.base, "null\n");
}

static void absent_keys_and_other_kinds_have_no_value(void **state)
{
    struct gw_node *root = load_good(*state, "a: {b: 1}\n");
    assert_null(gw_node_get(root, "b"));
    assert_null(gw_node_get(NULL, "a"));
    assert_null(gw_node_get(gw_node_get(gw_node_get(root, "a"), "b"), "c"));
    assert_null(gw_node_key(root, "A"));
}

static void an_alias_repeats_what_its_anchor_holds(void **state)
{
    struct gw_node *root = load_good(*state, "a: &x {n: [1, 2]}\nb: *x\nc: &x 3\nd: *x\n");
    assert_ptr_equal(gw_node_get(root, "b"), gw_node_get(root, "a"));
    assert_string_equal(gw_node_get(root, "d")->text.base, "3");
}

static void a_byte_order_mark_is_no_part_of_the_text(void **state)
{
    struct gw_node *root = load_good(*state, "\xef\xbb\xbf"
                                             "a: 1\n");
    assert_int_equal(gw_node_key(root, "a")->column, 1);
}

/* Each text, and the findings it must give. */
static void broken_texts_give_their_findings(void **state)
{
    static const struct {
        const char *text, *findings;
    } cases[] = {
        {"", "t: the file is empty\n"},
        {"# nothing\n", "t: the file is empty\n"},
        {"---\n", "t: the file is empty\n"},
        {"word", "t:1:1: the file holds a text (expected a map of settings)\n"},
        {"- a\n", "t:1:1: the file holds a list (expected a map of settings)\n"},
        {"a: 1\na: 2\n", "t:2:1: duplicate key \"a\" (first at t:1:1)\n"},
        {"m: {a: 1, b: 2, \"a\": 3, a: 4}\n", "t:1:17: duplicate key \"a\" (first at t:1:5)\n"
                                              "t:1:25: duplicate key \"a\" (first at t:1:5)\n"},
        {"a: 1\n---\nb: 2\n", "t:2:1: a second document (a file holds one)\n"},
        {"a: &x [*x]\n", "t:1:8: alias \"*x\" is inside of what it repeats\n"},
        {"a: *x\n", "t:1:4: alias \"*x\" has no anchor before it (a value that begins with * needs quotes)\n"},
        {"a: *.example.com\n", "t:1:5: not YAML: did not find expected alphabetic or numeric character (a value that "
                               "begins with * needs quotes)\n"},
        {"a: &.x\n", "t:1:5: not YAML: did not find expected alphabetic or numeric character (a value that begins with "
                     "& needs quotes)\n"},
        {"<<: {a: 1}\n", "t:1:1: merge keys (<<) are not supported\n"},
        {"b: {<<: {a: 1}, c: 2}\n", "t:1:5: merge keys (<<) are not supported\n"},
        {"? [a]\n: b\n", "t:1:3: a key must be a text (not a list, map or alias)\n"},
        {"a: &x 1\n*x : 2\n", "t:2:1: a key must be a text (not a list, map or alias)\n"},
        {"a: !!binary aGk=\n", "t:1:4: tag \"tag:yaml.org,2002:binary\" has no meaning here\n"},
        {"a: !mine {b: 1}\n", "t:1:4: tag \"!mine\" has no meaning here\n"},
        {"a: 1\n\tb: 2\n", "t:2:1: not YAML: found a tab character that violates indentation, while scanning a plain "
                           "scalar that starts at line 1 (indent with spaces, not tabs)\n"},
        {"a:\n\tb: 2\n",
         "t:2:1: not YAML: found character that cannot start any token (indent with spaces, not tabs)\n"},
        {"a: @x\n", "t:1:4: not YAML: found character that cannot start any token (put the value in quotes)\n"},
        {"a: b: c\n",
         "t:1:5: not YAML: mapping values are not allowed in this context (a value that holds \": \" needs "
         "quotes; keys of one map stand in one column)\n"},
        {"a: [1, 2\n",
         "t:2:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence that starts at "
         "line 1\n"},
        {"a: [${env:A}]\n", "t:1:6: not YAML: did not find expected ',' or ']' (inside of [] and {}, ${...} needs "
                            "quotes)\n"},
        {"a: \"1\n", "t:2:1: not YAML: found unexpected end of stream, while scanning a quoted scalar that starts at "
                     "line 1\n"},
        {"a: \"\\0\"\n", "t:1:4: a text cannot hold a NUL character\n"},
        {"a: \x01\n", "t:1:4: control character 0x01 (write it as an escape in double quotes)\n"},
        {"a: \xc3\xa9\xff\n", "t:1:5: not UTF-8\n"},
        {"a: \xc0\x80\n", "t:1:4: not UTF-8\n"},
        {"a: \xed\xa0\x80\n", "t:1:4: not UTF-8\n"},
        {"a: \xf4\x90\x80\x80\n", "t:1:4: not UTF-8\n"},
        {"a: \xe2\x82", "t:1:4: not UTF-8\n"},
    };
    size_t num_wrong = 0;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        set_up(state);
        struct fixture *f = *state;
        load(f, cases[i].text);
        char *text = printed(&f->errors);
        if (strcmp(text, cases[i].findings) != 0) {
            print_error("%s\n gave:     %s expected: %s", cases[i].text, text, cases[i].findings);
            ++num_wrong;
        }
        free(text);
        tear_down(state);
    }
    assert_int_equal(num_wrong, 0);
}

static void a_nul_byte_is_found_where_it_stands(void **state)
{
    struct fixture *f = *state;
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init("a: 1\nb: \0\n", 10), true, NULL, &f->errors));
    assert_findings(&f->errors, "t:2:4: control character 0x00 (write it as an escape in double quotes)\n");
}

static void nesting_is_limited_also_through_aliases(void **state)
{
    struct fixture *f = *state;
    struct gw_yaml_limits limits = {.max_depth = 4};
    const char *good = "a: [[[1]]]\n", *bad = "a: [[[[1]]]]\n", *sum = "a: &x [[1]]\nb: [[*x]]\n";
    assert_non_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(good, strlen(good)), true, &limits, &f->errors));
    assert_findings(&f->errors, "");
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(bad, strlen(bad)), true, &limits, &f->errors));
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(sum, strlen(sum)), true, &limits, &f->errors));
    assert_findings(&f->errors, "t:1:7: nested deeper than 4 levels\nt:2:6: nested deeper than 4 levels\n");
}

static void a_million_brackets_end_at_the_depth_limit(void **state)
{
    struct fixture *f = *state;
    size_t len = 1 << 20;
    char *text = malloc(len);
    memset(text, '[', len);
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(text, len), true, NULL, &f->errors));
    assert_findings(&f->errors, "t:1:65: nested deeper than 64 levels\n");
    free(text);
}

static void what_aliases_repeat_counts_as_values(void **state)
{
    struct fixture *f = *state;
    struct gw_yaml_limits limits = {.max_nodes = 20};
    const char *good = "a: &x [1, 2, 3]\nb: [*x, *x]\n", *bad = "a: &x [1, 2, 3]\nb: [*x, *x, *x, *x]\n";
    assert_non_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(good, strlen(good)), true, &limits, &f->errors));
    assert_findings(&f->errors, "");
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(bad, strlen(bad)), true, &limits, &f->errors));
    assert_findings(&f->errors, "t:2:17: more than 20 values, counting what aliases repeat\n");
}

static void a_billion_laughs_are_a_quick_error(void **state)
{
    struct fixture *f = *state;
    char text[4096] = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
    for (char c = 'b'; c <= 'z'; ++c) {
        char line[128];
        snprintf(line, sizeof(line), "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c - 1, c - 1, c - 1,
                 c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1);
        strcat(text, line);
    }
    assert_null(load(f, text));
    assert_int_equal(f->errors.num_errors, 1);
    assert_non_null(strstr(f->errors.entries[0].text, "counting what aliases repeat"));
}

static void the_size_of_all_input_is_limited(void **state)
{
    struct fixture *f = *state;
    struct gw_yaml_limits limits = {.max_bytes = 8};
    assert_null(gw_yaml_load_text(&f->pool, "t", h2o_iovec_init("a: 1234567", 10), true, &limits, &f->errors));
    assert_findings(&f->errors, "t: cannot be read: it is too large\n");
}

static void duplicate_keys_of_a_large_map_are_found(void **state)
{
    struct fixture *f = *state;
    char text[4096] = "", line[32];
    for (int i = 0; i != 100; ++i) {
        snprintf(line, sizeof(line), "key%d: 1\n", i);
        strcat(text, line);
    }
    strcat(text, "key42: 2\n");
    load(f, text);
    assert_findings(&f->errors, "t:101:1: duplicate key \"key42\" (first at t:43:1)\n");
}

static void environment_variables_are_substituted(void **state)
{
    struct fixture *f = *state;
    setenv("WEIR_TEST_A", "alpha", 1);
    setenv("WEIR_TEST_EMPTY", "", 1);
    unsetenv("WEIR_TEST_NONE");
    struct gw_node *root = load_good(f, "a: ${env:WEIR_TEST_A}\n"
                                        "b: 'x-${env:WEIR_TEST_A}-${env:WEIR_TEST_A}'\n"
                                        "c: \"${env:WEIR_TEST_NONE:-fall}\"\n"
                                        "d: ${env:WEIR_TEST_EMPTY:-back}\n"
                                        "e: ${env:WEIR_TEST_EMPTY}\n"
                                        "f: ${env:WEIR_TEST_NONE:-}\n"
                                        "g: $${env:WEIR_TEST_A}\n"
                                        "h: ^/users/(.*)$\n"
                                        "i: $1 and $\n"
                                        "${env:WEIR_TEST_A}: j\n");
    static const struct {
        const char *key, *text;
        bool is_secret;
    } cases[] = {{"a", "alpha", true},
                 {"b", "x-alpha-alpha", true},
                 {"c", "fall", false},
                 {"d", "back", false},
                 {"e", "", true},
                 {"f", "", false},
                 {"g", "${env:WEIR_TEST_A}", false},
                 {"h", "^/users/(.*)$", false},
                 {"i", "$1 and $", false},
                 {"${env:WEIR_TEST_A}", "j", false}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_node *node = gw_node_get(root, cases[i].key);
        assert_string_equal(node->text.base, cases[i].text);
        assert_int_equal(node->text.len, strlen(cases[i].text));
        assert_int_equal(node->is_secret, cases[i].is_secret);
    }
    assert_true(gw_node_holds_secret(root));
    assert_false(gw_node_is_null(gw_node_get(root, "e")));
    assert_false(gw_node_is_null(gw_node_get(root, "f")));
}

static void substitutions_that_cannot_be_made_are_errors(void **state)
{
    struct fixture *f = *state;
    unsetenv("WEIR_TEST_NONE");
    struct gw_node *root = load(f, "a: ${env:WEIR_TEST_NONE}\n"
                                   "b: ${WEIR_TEST_NONE}\n"
                                   "c: ${env:}\n"
                                   "d: ${env:A B}\n"
                                   "e: x${env:A\n"
                                   "f: ${file:/nonexistent/secret}\n"
                                   "g: ${file:/tmp}\n"
                                   "h: 1\n");
    assert_findings(
        &f->errors,
        "t:1:4: environment variable WEIR_TEST_NONE is not set (${env:WEIR_TEST_NONE:-text} gives a default)\n"
        "t:2:4: unknown substitution \"${WEIR_TEST_NONE}\" (expected ${env:NAME} or ${file:PATH}; $${ is a literal "
        "${)\n"
        "t:3:4: unknown substitution \"${env:}\" (expected ${env:NAME} or ${file:PATH}; $${ is a literal ${)\n"
        "t:4:4: \"A B\" is no name of an environment variable\n"
        "t:5:4: \"${\" without \"}\" ($${ is a literal ${)\n"
        "t:6:4: cannot read /nonexistent/secret: No such file or directory\n"
        "t:7:4: cannot read /tmp: it is a directory\n");
    assert_true(gw_node_get(root, "a")->is_broken);
    assert_false(gw_node_get(root, "h")->is_broken);
}

static void a_secret_file_loses_one_line_end(void **state)
{
    struct fixture *f = *state;
    write_file("one", "s3cret\n");
    write_file("two", "s3cret\n\n");
    write_file("crlf", "s3cret\r\n");
    write_file("none", "s3cret");
    struct gw_node *root = load_good(f, "a: ${file:one}\nb: ${file:two}\nc: ${file:crlf}\nd: <${file:none}>\n");
    assert_string_equal(gw_node_get(root, "a")->text.base, "s3cret");
    assert_string_equal(gw_node_get(root, "b")->text.base, "s3cret\n");
    assert_string_equal(gw_node_get(root, "c")->text.base, "s3cret");
    assert_string_equal(gw_node_get(root, "d")->text.base, "<s3cret>");
    gw_error_at(&f->errors, root, "it was s3cret");
    assert_findings(&f->errors, "t:1:1: it was ***\n");
}

static void files_are_refused_where_none_are_allowed(void **state)
{
    struct fixture *f = *state;
    const char *text = "include: a.yaml\nb: ${file:one}\n";
    write_file("a.yaml", "c: 1\n");
    write_file("one", "s3cret\n");
    struct gw_node *root =
        gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(text, strlen(text)), false, NULL, &f->errors);
    assert_findings(&f->errors, "t:1:10: include is not allowed here\nt:2:4: ${file:} is not allowed here\n");
    assert_null(gw_node_get(root, "c"));
}

static void includes_are_merged_one_level_deep_in_order(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: [conf.d/*.yaml, last.yaml]\nroutes: [m]\ngroups: {a: 1}\nempty:\n");
    write_file("conf.d/20.yaml", "routes: [r20]\ngroups: {c: 3}\n");
    write_file("conf.d/10.yaml", "include: ../deep.yaml\nroutes: [r10]\ngroups: {b: 2}\nempty: {x: 1}\n");
    write_file("conf.d/30.txt", "routes: [not me]\n");
    write_file("deep.yaml", "routes: [deep]\nempty:\n");
    write_file("last.yaml", "routes: [last]\nown: {y: 1}\n");
    struct gw_node *root = gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "");
    static const char *const routes[] = {"m", "r10", "deep", "r20", "last"};
    struct gw_node *list = gw_node_get(root, "routes");
    assert_int_equal(list->size, 5);
    for (size_t i = 0; i != 5; ++i)
        assert_string_equal(list->entries[i]->text.base, routes[i]);
    struct gw_node *groups = gw_node_get(root, "groups");
    assert_int_equal(groups->size, 3);
    assert_string_equal(gw_node_get(groups, "b")->text.base, "2");
    assert_string_equal(gw_node_get(groups, "b")->file, "conf.d/10.yaml");
    assert_string_equal(gw_node_get(gw_node_get(root, "empty"), "x")->text.base, "1");
    assert_string_equal(gw_node_get(gw_node_get(root, "own"), "y")->file, "last.yaml");
    assert_null(gw_node_get(root, "include"));
    assert_false(root->is_broken);
}

static void names_defined_in_two_files_show_both_places(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: [a.yaml, b.yaml]\nthreads: 1\n");
    write_file("a.yaml", "groups:\n  users: 1\n");
    write_file("b.yaml", "threads: 2\ngroups: {shop: 1, users: 2}\n");
    gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "b.yaml:1:1: \"threads\" is defined twice (first at main.yaml:2:1)\n"
                                "b.yaml:2:19: \"users\" is defined twice (first at a.yaml:2:3)\n");
}

static void sections_of_different_kinds_do_not_merge(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: a.yaml\nroutes: [1]\n");
    write_file("a.yaml", "routes: {x: 1}\n");
    gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "a.yaml:1:9: routes is a map (a list at main.yaml:2:9)\n");
}

static void include_cycles_are_errors(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: conf.d/a.yaml\n");
    write_file("conf.d/a.yaml", "include: b.yaml\n");
    write_file("conf.d/b.yaml", "x: 1\ninclude: ../main.yaml\n");
    struct gw_node *root = gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "conf.d/b.yaml:2:10: include cycle: main.yaml -> conf.d/a.yaml -> conf.d/b.yaml -> "
                                "conf.d/../main.yaml\n");
    assert_true(root->is_broken);
}

static void a_file_that_includes_itself_is_a_cycle(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: '*.yaml'\n");
    gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "main.yaml:1:10: include cycle: main.yaml -> main.yaml\n");
}

static void a_file_included_twice_is_an_error(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: [a.yaml, b.yaml]\n");
    write_file("a.yaml", "include: b.yaml\n");
    write_file("b.yaml", "x: 1\n");
    gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "main.yaml:1:19: b.yaml is included twice (first at a.yaml:1:10)\n");
}

static void includes_that_cannot_be_read_leave_the_rest(void **state)
{
    struct fixture *f = *state;
    write_file("main.yaml", "include: [gone.yaml, none/*.yaml, '', [x], bad.yaml, '${env:WEIR_TEST_NONE}']\na: 1\n");
    write_file("bad.yaml", "b: [\n");
    unsetenv("WEIR_TEST_NONE");
    struct gw_node *root = gw_yaml_load_file(&f->pool, "main.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "main.yaml:1:11: cannot read gone.yaml: No such file or directory\n"
                                "main.yaml:1:22: warning: no file matches none/*.yaml\n"
                                "main.yaml:1:35: include is empty (expected a path or a list of paths)\n"
                                "main.yaml:1:39: include is a list (expected a path or a list of paths)\n"
                                "main.yaml:1:54: environment variable WEIR_TEST_NONE is not set "
                                "(${env:WEIR_TEST_NONE:-text} gives a default)\n"
                                "bad.yaml:2:1: not YAML: did not find expected node content\n");
    assert_non_null(gw_node_get(root, "a"));
    assert_true(root->is_broken);
}

static void a_chain_of_includes_ends_at_its_limit(void **state)
{
    struct fixture *f = *state;
    char name[32], text[64];
    for (int i = 0; i != 20; ++i) {
        snprintf(name, sizeof(name), "%d.yaml", i);
        snprintf(text, sizeof(text), "include: %d.yaml\n", i + 1);
        write_file(name, text);
    }
    gw_yaml_load_file(&f->pool, "0.yaml", NULL, &f->errors);
    assert_findings(&f->errors, "15.yaml:1:10: includes are nested deeper than 16 files\n");
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
    struct fixture *f = *state;
    assert_null(gw_yaml_load_file(&f->pool, "gone.yaml", NULL, &f->errors));
    assert_null(gw_yaml_load_file(&f->pool, "conf.d", NULL, &f->errors));
    assert_findings(&f->errors, "gone.yaml: cannot be read: No such file or directory\n"
                                "conf.d: cannot be read: it is a directory\n");
}

static void paths_are_relative_to_the_file_that_says_them(void **state)
{
    struct fixture *f = *state;
    struct gw_node here = {.file = "edge.yaml"}, below = {.file = "conf.d/a.yaml"}, root = {.file = "/etc/weir/a.yaml"};
    assert_string_equal(gw_node_path(&f->pool, &here, h2o_iovec_init(H2O_STRLIT("a.pem"))).base, "a.pem");
    assert_string_equal(gw_node_path(&f->pool, &below, h2o_iovec_init(H2O_STRLIT("a.pem"))).base, "conf.d/a.pem");
    assert_string_equal(gw_node_path(&f->pool, &root, h2o_iovec_init(H2O_STRLIT("a.pem"))).base, "/etc/weir/a.pem");
    assert_string_equal(gw_node_path(&f->pool, &below, h2o_iovec_init(H2O_STRLIT("/a.pem"))).base, "/a.pem");
    assert_string_equal(gw_node_path(&f->pool, NULL, h2o_iovec_init(H2O_STRLIT("a.pem"))).base, "a.pem");
}

#define TEST(name)           cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_IN_FOLDER(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(positions_are_lines_and_characters_from_one),
        TEST(quotes_and_blocks_are_told_from_plain_scalars),
        TEST(absent_keys_and_other_kinds_have_no_value),
        TEST(an_alias_repeats_what_its_anchor_holds),
        TEST(a_byte_order_mark_is_no_part_of_the_text),
        cmocka_unit_test(broken_texts_give_their_findings),
        TEST(a_nul_byte_is_found_where_it_stands),
        TEST(nesting_is_limited_also_through_aliases),
        TEST(a_million_brackets_end_at_the_depth_limit),
        TEST(what_aliases_repeat_counts_as_values),
        TEST(a_billion_laughs_are_a_quick_error),
        TEST(the_size_of_all_input_is_limited),
        TEST(duplicate_keys_of_a_large_map_are_found),
        TEST(environment_variables_are_substituted),
        TEST(substitutions_that_cannot_be_made_are_errors),
        TEST_IN_FOLDER(a_secret_file_loses_one_line_end),
        TEST_IN_FOLDER(files_are_refused_where_none_are_allowed),
        TEST_IN_FOLDER(includes_are_merged_one_level_deep_in_order),
        TEST_IN_FOLDER(names_defined_in_two_files_show_both_places),
        TEST_IN_FOLDER(sections_of_different_kinds_do_not_merge),
        TEST_IN_FOLDER(include_cycles_are_errors),
        TEST_IN_FOLDER(a_file_that_includes_itself_is_a_cycle),
        TEST_IN_FOLDER(a_file_included_twice_is_an_error),
        TEST_IN_FOLDER(includes_that_cannot_be_read_leave_the_rest),
        TEST_IN_FOLDER(a_chain_of_includes_ends_at_its_limit),
        TEST_IN_FOLDER(a_file_that_cannot_be_read_is_named),
        TEST(paths_are_relative_to_the_file_that_says_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
