#include "tests/unit/base/settings_conf.h"

static void what_is_left_out_has_its_default(void **state) { assert_is_default(load_good(*state, "on: true\n")); }

static void an_absent_section_is_all_default(void **state)
{
    struct fixture *f = *state;
    struct gw_loader loader = {&f->pool, &f->errors};
    assert_true(gw_settings_load(&loader, &section, NULL, &f->conf));
    assert_null(f->conf.at);
    assert_is_default(&f->conf);
}

static void empty_sections_lists_and_maps_are_all_default(void **state)
{
    struct conf *conf = load_good(*state, "check:\nsteps:\ngroups: ~\n");
    assert_non_null(conf->check.at);
    conf->check.at = NULL;
    assert_is_default(conf);
}

static void each_type_is_read(void **state)
{
    struct conf *conf = load_good(*state, "on: false\n"
                                          "threads: 64\n"
                                          "timeout: 1500ms\n"
                                          "size: 64KiB\n"
                                          "share: 0.5%\n"
                                          "name: true\n"
                                          "hosts: [a, 'b', no, 7]\n"
                                          "index: NO\n"
                                          "format: json\n"
                                          "protocols: [h3, h2]\n"
                                          "bind: '[::1]:8080'\n"
                                          "listen: ['*:1', ':2', 127.0.0.1:3]\n"
                                          "from: [10.0.0.0/8, 192.0.2.1]\n"
                                          "headers: {x-a: 1, x-b: ''}\n"
                                          "check: {interval: 1m, timeout: 1s, path: /x}\n"
                                          "option: {}\n"
                                          "steps: [{interval: 10s}, {timeout: 2s}]\n"
                                          "groups:\n"
                                          "  b: {targets: [10.0.0.1:80, {address: 'name:81', weight: 3}]}\n"
                                          "  a: {targets: 'unix:/s'}\n"
                                          "custom: [1, 2, 3]\n");
    assert_false(conf->is_on);
    assert_int_equal(conf->threads, 64);
    assert_int_equal(conf->timeout_ms, 1500);
    assert_int_equal(conf->size, 65536);
    assert_true(conf->share == 0.5);
    assert_text(conf->name, "true");
    assert_int_equal(conf->hosts.size, 4);
    assert_text(conf->hosts.entries[2], "no");
    assert_int_equal(conf->hosts.at[3]->column, 21);
    assert_text(conf->index.entries[0], "NO");
    assert_int_equal(conf->format, 0);
    assert_int_equal(conf->protocols, 5);
    assert_int_equal(conf->bind.port, 8080);
    assert_int_equal(conf->listen.size, 3);
    assert_int_equal(conf->listen.entries[2].port, 3);
    assert_int_equal(conf->from.size, 2);
    assert_int_equal(conf->from.entries[0].bits, 104);
    assert_int_equal(conf->headers.size, 2);
    assert_text(conf->headers.entries[1].name, "x-b");
    assert_text(conf->headers.entries[0].value, "1");
    assert_int_equal(conf->check.interval_ms, 60000);
    assert_int_equal(conf->check.at->line, 15);
    assert_non_null(conf->option);
    assert_int_equal(conf->option->interval_ms, 30000);
    assert_int_equal(conf->steps.size, 2);
    assert_int_equal(((struct check_conf *)conf->steps.entries[1])->timeout_ms, 2000);
    assert_int_equal(conf->groups.size, 2);
    assert_text(conf->groups.entries[0].name, "b");
    const struct group_conf *group = conf->groups.entries[0].conf;
    assert_int_equal(((struct target_conf *)group->targets.entries[1])->weight, 3);
    assert_true(((struct target_conf *)group->targets.entries[1])->address.is_name);
    assert_int_equal(conf->custom, 3);
}

static void one_value_may_stand_for_a_list(void **state)
{
    struct conf *conf = load_good(*state, "hosts: a\nprotocols: h2\nlisten: ':80'\nfrom: 10.0.0.0/8\n"
                                          "steps: {interval: 9s}\n");
    assert_int_equal(conf->hosts.size, 1);
    assert_int_equal(conf->protocols, 1);
    assert_int_equal(conf->listen.size, 1);
    assert_int_equal(conf->from.size, 1);
    assert_int_equal(conf->steps.size, 1);
}

static void a_scalar_or_list_may_stand_for_a_section(void **state)
{
    struct conf *conf = load_good(*state, "check: 10s\noption: 20s\nsteps: [1m, {interval: 2m}]\n"
                                          "groups: {a: '10.0.0.1:80', b: ['10.0.0.1:80', '10.0.0.2:80']}\n");
    assert_int_equal(conf->check.interval_ms, 10000);
    assert_int_equal(conf->option->interval_ms, 20000);
    assert_int_equal(((struct check_conf *)conf->steps.entries[0])->interval_ms, 60000);
    assert_int_equal(((struct group_conf *)conf->groups.entries[0].conf)->targets.size, 1);
    assert_int_equal(((struct group_conf *)conf->groups.entries[1].conf)->targets.size, 2);
}

static void units_are_read_as_they_are_written(void **state)
{
    static const struct {
        const char *text;
        uint64_t timeout_ms, size;
    } cases[] = {
        {"timeout: 0\nsize: 16", 0, 16},
        {"timeout: 0s\nsize: 16B", 0, 16},
        {"timeout: 250ms\nsize: 1KB", 250, 1000},
        {"timeout: 30s\nsize: 1kB", 30000, 1000},
        {"timeout: 5m\nsize: 1KiB", 300000, 1024},
        {"timeout: 1h\nsize: 10MB", 3600000, 10000000},
        {"timeout: 7d\nsize: 10MiB", 604800000, 10485760},
        {"timeout: '90s'\nsize: \"2GB\"", 90000, 2000000000},
        {"timeout: 1d\nsize: 2GiB", 86400000, 2147483648},
        {"timeout: 1d\nsize: 1TB", 86400000, 1000000000000},
        {"timeout: 3650d\nsize: 3TiB", 315360000000, 3298534883328},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct conf *conf = load_good(*state, cases[i].text);
        assert_int_equal(conf->timeout_ms, cases[i].timeout_ms);
        assert_int_equal(conf->size, cases[i].size);
    }
}

/* Each text, and the findings it must give. */
static void broken_settings_give_their_findings(void **state)
{
    static const char any_duration[] = "(expected a duration like 500ms, 30s, 5m, 1h or 7d)\n";
    static const char any_size[] = "(expected a size like 512, 64KiB or 10MB)\n";
    static const struct {
        const char *text, *finding, *expected; /* the two in a row */
    } cases[] = {
        {"onn: true", "t:1:1: unknown key \"onn\" (did you mean \"on\"?)\n"},
        {"zzzzzz: 1", "t:1:1: unknown key \"zzzzzz\" (`weir help` lists the settings of a configuration)\n"},
        {"check: {zzzz: 1}", "t:1:9: unknown key \"zzzz\" (expected interval, timeout or path)\n"},
        {"on: yes", "t:1:5: on is \"yes\" (expected true or false)\n"},
        {"on: 'true'", "t:1:5: on is the text \"true\" (expected true or false, not in quotes)\n"},
        {"on:", "t:1:4: on has no value (expected true or false)\n"},
        {"on: [true]", "t:1:5: on is a list (expected true or false)\n"},
        {"threads: many", "t:1:10: threads is \"many\" (expected a number from 1 to 64)\n"},
        {"threads: '2'", "t:1:10: threads is the text \"2\" (expected a number from 1 to 64, not in quotes)\n"},
        {"threads: 0", "t:1:10: threads is out of bounds: \"0\" (expected a number from 1 to 64)\n"},
        {"threads: 65", "t:1:10: threads is out of bounds: \"65\" (expected a number from 1 to 64)\n"},
        {"threads: -1", "t:1:10: threads is \"-1\" (expected a number from 1 to 64)\n"},
        {"threads: 1.5", "t:1:10: threads is \"1.5\" (expected a number from 1 to 64)\n"},
        {"threads: 0x10", "t:1:10: threads is \"0x10\" (expected a number from 1 to 64)\n"},
        {"threads: 18446744073709551616",
         "t:1:10: threads is \"18446744073709551616\" (expected a number from 1 to 64)\n"},
        {"timeout: 30", "t:1:10: timeout is \"30\" ", any_duration},
        {"timeout: 30 s", "t:1:10: timeout is \"30 s\" ", any_duration},
        {"timeout: -1s", "t:1:10: timeout is \"-1s\" ", any_duration},
        {"timeout: s", "t:1:10: timeout is \"s\" ", any_duration},
        {"timeout: 1w", "t:1:10: timeout is \"1w\" ", any_duration},
        {"timeout: ''", "t:1:10: timeout is empty ", any_duration},
        {"timeout: {a: 1}", "t:1:10: timeout is a map ", any_duration},
        {"timeout: 3651d", "t:1:10: timeout is out of bounds: \"3651d\" (expected a duration up to 3650d)\n"},
        {"timeout: 99999999999999999999d", "t:1:10: timeout is \"99999999999999999999d\" ", any_duration},
        {"timeout: 213503982335d", "t:1:10: timeout is \"213503982335d\" ", any_duration},
        {"size: 64k", "t:1:7: size is \"64k\" ", any_size},
        {"size: 1.5MB", "t:1:7: size is \"1.5MB\" ", any_size},
        {"size: large", "t:1:7: size is \"large\" ", any_size},
        {"size: 17000000TiB", "t:1:7: size is \"17000000TiB\" ", any_size},
        {"size: 15", "t:1:7: size is out of bounds: \"15\" (expected a size of at least 16)\n"},
        {"share: 20", "t:1:8: share is \"20\" (expected a percentage like 20% or 0.5%)\n"},
        {"share: .5%", "t:1:8: share is \".5%\" (expected a percentage like 20% or 0.5%)\n"},
        {"share: 1.2.3%", "t:1:8: share is \"1.2.3%\" (expected a percentage like 20% or 0.5%)\n"},
        {"share: '%'", "t:1:8: share is \"%\" (expected a percentage like 20% or 0.5%)\n"},
        {"share: 101%", "t:1:8: share is out of bounds: \"101%\" (expected a percentage up to 100%)\n"},
        {"name: [a]", "t:1:7: name is a list (expected a text)\n"},
        {"name:", "t:1:6: name has no value (expected a text)\n"},
        {"hosts: [a, B, '', c, D]", "t:1:12: \"B\" has capitals\nt:1:15: hosts is empty\nt:1:22: \"D\" has capitals\n"},
        {"hosts: [[a]]", "t:1:9: hosts is a list (expected a text)\n"},
        {"format: jsno", "t:1:9: format is \"jsno\" (expected json or text; did you mean \"json\"?)\n"},
        {"format: xml", "t:1:9: format is \"xml\" (expected json or text)\n"},
        {"protocols: [h2, htp/1.1]",
         "t:1:17: protocols is \"htp/1.1\" (expected h2, http/1.1 or h3; did you mean \"http/1.1\"?)\n"},
        {"protocols: []", "t:1:12: protocols is an empty list (expected at least one value)\n"},
        {"bind: 80", "t:1:7: bind is \"80\": a port is missing: write host:port\n"},
        {"bind: 127.0.0.1:99999", "t:1:7: bind is \"127.0.0.1:99999\": the port must be 1 to 65535\n"},
        {"bind: host:80", "t:1:7: bind is \"host:80\": a host name cannot stand here: write an IP address\n"},
        {"listen: [':80', x]", "t:1:17: listen is \"x\": a port is missing: write host:port\n"},
        {"listen: []", "t:1:9: listen is an empty list (expected at least one address)\n"},
        {"from: [10.0.0.1/8, x]", "t:1:8: from is \"10.0.0.1/8\" (expected an address like 10.0.0.1 or a network like "
                                  "10.0.0.0/8, zero after its "
                                  "bits)\n"
                                  "t:1:20: from is \"x\" (expected an address like 10.0.0.1 or a network like "
                                  "10.0.0.0/8, zero after its bits)\n"},
        {"headers: [a]", "t:1:10: headers is a list (expected a map of names and values)\n"},
        {"headers: {a: [1], B: 2}", "t:1:14: a is a list (expected a text)\nt:1:19: \"B\" has capitals\n"},
        {"check: [10s]", "t:1:8: a list is no health check (expected a map of its settings)\n"},
        {"check: soon", "t:1:8: interval is \"soon\" ", any_duration},
        {"check: {interval: 10ms}",
         "t:1:19: interval is out of bounds: \"10ms\" (expected a duration from 100ms to 5m)\n"},
        {"check: {timeout: 0}", "t:1:18: timeout is out of bounds: \"0\" (expected a duration above 0 up to 3650d)\n"},
        {"check: {path: ''}", "t:1:15: path is empty\n"},
        {"check: {path: /12345678}", "t:1:15: path is too long (expected at most 8 characters)\n"},
        {"check: {timeout: 40s}", "t:1:18: timeout must be below interval\n"},
        {"check: 3s", "t:1:8: timeout must be below interval\n"},
        {"check: {timeout: 40s, path: ''}", "t:1:29: path is empty\n"}, /* joins only what is good by itself */
        {"option:", "t:1:8: option has no value (expected a map; {} takes all defaults)\n"},
        {"steps: [1s]", "t:1:9: timeout must be below interval\n"},
        {"steps: [10s, x, {y: 1}]", "t:1:14: interval is \"x\" (expected a duration like 500ms, 30s, 5m, 1h or 7d)\n"
                                    "t:1:18: unknown key \"y\" (expected interval, timeout or path)\n"},
        {"groups: [a]", "t:1:9: groups is a list (expected a map: the name of each group and its settings)\n"},
        {"groups: {a: {}}", "t:1:13: targets is missing (a group needs it)\n"},
        {"groups: {a: }", "t:1:13: targets is missing (a group needs it)\n"},
        {"groups: {a: {target: x}}", "t:1:14: unknown key \"target\" (did you mean \"targets\"?)\n"},
        {"groups: {a: {zzz: x}}", "t:1:13: targets is missing (a group needs it)\n"
                                  "t:1:14: unknown key \"zzz\" (expected targets or check)\n"},
        {"groups: {A: ['h:1']}", "t:1:10: \"A\" has capitals\n"},
        {"groups: {a: [{weight: 1}]}", "t:1:14: address is missing (a target needs it)\n"},
        {"custom: 1", "t:1:9: custom wants a list\n"},
    };
    size_t num_wrong = 0;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char expected[1024];
        set_up(state);
        struct fixture *f = *state;
        f->is_good = true;
        load(f, cases[i].text);
        snprintf(expected, sizeof(expected), "%s%s", cases[i].finding,
                 cases[i].expected != NULL ? cases[i].expected : "");
        char *text = printed(&f->errors);
        if (strcmp(text, expected) != 0 || f->is_good) {
            print_error("%s\n gave:     %s expected: %s", cases[i].text, text, expected);
            ++num_wrong;
        }
        free(text);
        tear_down(state);
    }
    assert_int_equal(num_wrong, 0);
}

static void bad_entries_are_kept_and_marked(void **state)
{
    struct fixture *f = *state;
    struct conf *conf = load(f, "steps: [10s, x]\ngroups: {a: x, b: ['h:1']}\n");
    assert_false(f->is_good);
    assert_int_equal(conf->steps.size, 2);
    assert_false(conf->steps.is_bad[0]);
    assert_true(conf->steps.is_bad[1]);
    assert_int_equal(conf->groups.size, 2);
    assert_true(conf->groups.entries[0].is_bad);
    assert_false(conf->groups.entries[1].is_bad);
}

static void a_value_whose_substitution_failed_is_reported_once(void **state)
{
    struct fixture *f = *state;
    unsetenv("WEIR_TEST_NONE");
    load(f, "threads: ${env:WEIR_TEST_NONE}\nhosts: ['${env:WEIR_TEST_NONE}', B]\nfrom: ${env:WEIR_TEST_NONE}\n");
    assert_int_equal(f->errors.num_errors, 4);
    assert_false(f->is_good);
}

static void secrets_are_masked_in_findings(void **state)
{
    struct fixture *f = *state;
    setenv("WEIR_TEST_SECRET", "S3CRET", 1);
    load(f, "threads: ${env:WEIR_TEST_SECRET}\ntimeout: x${env:WEIR_TEST_SECRET}\nhosts: '${env:WEIR_TEST_SECRET}'\n"
            "format: ${env:WEIR_TEST_SECRET}\nbind: ${env:WEIR_TEST_SECRET}\nfrom: ${env:WEIR_TEST_SECRET}\n"
            "check: ${env:WEIR_TEST_SECRET}\n");
    char *text = printed(&f->errors);
    assert_null(strstr(text, "S3CRET"));
    assert_non_null(strstr(text, "t:1:10: threads is *** (expected a number from 1 to 64)\n"));
    assert_non_null(strstr(text, "t:3:8: \"***\" has capitals\n"));
    free(text);
}

static void substituted_numbers_may_be_quoted(void **state)
{
    setenv("WEIR_TEST_NUMBER", "3", 1);
    assert_int_equal(load_good(*state, "threads: \"${env:WEIR_TEST_NUMBER}\"")->threads, 3);
    unsetenv("WEIR_TEST_NONE");
    assert_int_equal(load_good(*state, "threads: \"${env:WEIR_TEST_NONE:-4}\"")->threads, 4);
}

static void entries_of_a_map_are_found_by_name(void **state)
{
    struct fixture *f = *state;
    for (int size = 1; size <= 100; size *= 10) { /* small maps have no index */
        char text[8192] = "groups:\n", line[64];
        for (int i = 0; i != size; ++i) {
            snprintf(line, sizeof(line), "  g%d: ['h:%d']\n", i, i + 1);
            strcat(text, line);
        }
        struct conf *conf = load_good(f, text);
        for (int i = 0; i != size; ++i) {
            snprintf(line, sizeof(line), "g%d", i);
            assert_ptr_equal(gw_map_find(&conf->groups, h2o_iovec_init(line, strlen(line))), conf->groups.entries + i);
        }
        assert_null(gw_map_find(&conf->groups, h2o_iovec_init(H2O_STRLIT("g"))));
        assert_null(gw_map_find(&conf->groups, h2o_iovec_init(H2O_STRLIT("g0x"))));
    }
}

static void dangling_names_show_the_nearest_one(void **state)
{
    struct fixture *f = *state;
    struct conf *conf = load_good(f, "groups: {users: ['h:1'], shop: ['h:2']}\n");
    assert_false(gw_error_dangling(&f->errors, conf->at, "group", h2o_iovec_init(H2O_STRLIT("user")), &conf->groups));
    assert_false(gw_error_dangling(&f->errors, conf->at, "group", h2o_iovec_init(H2O_STRLIT("x")), &conf->groups));
    assert_findings(&f->errors,
                    "t:1:1: unknown group \"user\" (did you mean \"users\"?)\nt:1:1: unknown group \"x\"\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_left_out_has_its_default),
        TEST(an_absent_section_is_all_default),
        TEST(empty_sections_lists_and_maps_are_all_default),
        TEST(each_type_is_read),
        TEST(one_value_may_stand_for_a_list),
        TEST(a_scalar_or_list_may_stand_for_a_section),
        TEST(units_are_read_as_they_are_written),
        cmocka_unit_test(broken_settings_give_their_findings),
        TEST(bad_entries_are_kept_and_marked),
        TEST(a_value_whose_substitution_failed_is_reported_once),
        TEST(secrets_are_masked_in_findings),
        TEST(substituted_numbers_may_be_quoted),
        TEST(entries_of_a_map_are_found_by_name),
        TEST(dangling_names_show_the_nearest_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
