/* Settings as people and tools see them: printed, as JSON, as a schema, as help. */
#include "tests/unit/base/settings_conf.h"
#include <jansson.h>

static char *print(const struct conf *conf)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    gw_settings_print(out, &section, conf);
    fclose(out);
    return text;
}

static void the_effective_configuration_is_printed(void **state)
{
    char *text = print(load_good(*state, "hosts: ['a b', null, 'true', x]\n"
                                         "name: \"two\\nlines $${env:X} \\\"q\\\"\"\n"
                                         "secret: tell\n"
                                         "listen: [':80', 127.0.0.1:81]\n"
                                         "from: [10.0.0.0/8, '::/0', 192.0.2.1]\n"
                                         "headers: {x-a: 1, 'on': y}\n"
                                         "steps: [10s]\n"
                                         "groups: {a: ['h:1']}\n"
                                         "custom: [1]\n"));
    assert_string_equal(text, "on: true\n"
                              "threads: 2\n"
                              "timeout: 30s\n"
                              "size: 32KiB\n"
                              "share: 20%\n"
                              "name: \"two\\nlines $${env:X} \\\"q\\\"\"\n"
                              "secret: \"***\"\n"
                              "hosts: [\"a b\", \"null\", \"true\", x]\n"
                              "index: [index.html]\n"
                              "format: text\n"
                              "protocols: [http/1.1]\n"
                              "bind: \"127.0.0.1:80\"\n"
                              "listen: [\":80\", \"127.0.0.1:81\"]\n"
                              "from: [\"10.0.0.0/8\", \"::/0\", \"192.0.2.1\"]\n"
                              "headers:\n"
                              "  x-a: \"1\"\n"
                              "  \"on\": \"y\"\n"
                              "check:\n"
                              "  interval: 30s\n"
                              "  timeout: 5s\n"
                              "  path: /\n"
                              "steps:\n"
                              "  - interval: 10s\n"
                              "    timeout: 5s\n"
                              "    path: /\n"
                              "groups:\n"
                              "  a:\n"
                              "    targets:\n"
                              "      - address: \"h:1\"\n"
                              "        weight: 1\n"
                              "    check:\n"
                              "      interval: 30s\n"
                              "      timeout: 5s\n"
                              "      path: /\n"
                              "custom: [\"$${x}\"]\n");
    free(text);
}

static void the_effective_configuration_as_json_has_the_same_values(void **state)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_settings_json(&json, &section,
                     load_good(*state, "hosts: ['a b']\nsecret: tell\nlisten: [':80', 127.0.0.1:81]\n"
                                       "from: [10.0.0.0/8, '::/0', 192.0.2.1]\nheaders: {x-a: 1}\n"
                                       "steps: [10s]\ngroups: {a: ['h:1']}\ncustom: [1]\n"));
    gw_json_raw(&json, "", 1);
    assert_string_equal(
        json.base,
        "{\"on\":true,\"threads\":2,\"timeout\":\"30s\",\"size\":\"32KiB\",\"unlimited\":null,\"share\":\"20%\","
        "\"name\":null,\"secret\":\"***\",\"hosts\":[\"a b\"],\"index\":[\"index.html\"],\"format\":\"text\","
        "\"protocols\":[\"http/1.1\"],\"bind\":\"127.0.0.1:80\",\"listen\":[\":80\",\"127.0.0.1:81\"],"
        "\"from\":[\"10.0.0.0/8\",\"::/0\",\"192.0.2.1\"],\"headers\":{\"x-a\":\"1\"},"
        "\"check\":{\"interval\":\"30s\",\"timeout\":\"5s\",\"path\":\"/\"},\"option\":null,"
        "\"steps\":[{\"interval\":\"10s\",\"timeout\":\"5s\",\"path\":\"/\"}],"
        "\"groups\":{\"a\":{\"targets\":[{\"address\":\"h:1\",\"weight\":1}],"
        "\"check\":{\"interval\":\"30s\",\"timeout\":\"5s\",\"path\":\"/\"}}},\"custom\":[\"${x}\"]}");
    gw_json_dispose(&json);
}

/* As the YAML form does: wherever something came out of the environment or a file, and never more than that. */
static void secrets_are_masked_in_json_too(void **state)
{
    setenv("WEIR_TEST_SECRET", "swordfish", 1);
    struct gw_json json;
    gw_json_init(&json);
    gw_settings_json(&json, &section,
                     load_good(*state, "name: ${env:WEIR_TEST_SECRET}\nhosts: [a, '${env:WEIR_TEST_SECRET}']\n"
                                       "headers: {x-a: '${env:WEIR_TEST_SECRET}', x-b: plain}\n"
                                       "threads: ${env:WEIR_TEST_NUMBER:-7}\n"));
    gw_json_raw(&json, "", 1);
    assert_null(strstr(json.base, "swordfish"));
    assert_non_null(strstr(json.base, "\"name\":\"***\""));
    assert_non_null(strstr(json.base, "\"hosts\":[\"a\",\"***\"]"));
    assert_non_null(strstr(json.base, "\"headers\":{\"x-a\":\"***\",\"x-b\":\"plain\"}"));
    assert_non_null(strstr(json.base, "\"secret\":null"));
    gw_json_dispose(&json);
}

static void what_is_printed_loads_to_the_same(void **state)
{
    struct fixture *f = *state;
    char *first = print(
        load_good(f, "on: false\nthreads: 7\ntimeout: 90s\nsize: 1000001\nshare: 33.25%\nformat: json\n"
                     "name: \"\\u00e9 ': # - "
                     "x\\u0007\\u007f\\u0080\\u0085\\u2028\\u2029\\ufeff\\ufffe\\uffff\"\nhosts: [\"-\", '~', '0x1']\n"
                     "protocols: [h2, h3]\noption: 20s\nfrom: ['2001:db8::/32']\n"
                     "headers: {\"a b\": \"c: d\"}\ncheck: {path: '*'}\ncustom: [1, 2]\n"
                     "groups: {\"n\": 'unix:/x y'}\n"));
    struct conf *conf = load_good(f, first);
    assert_int_equal(conf->threads, 7);
    assert_true(conf->share == 33.25);
    assert_int_equal(conf->size, 1000001);
    char *second = print(conf);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

static char *print_marked(const struct conf *conf, uint64_t seed)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    gw_settings_print_marked(out, &section, conf, seed);
    fclose(out);
    return text;
}

static void marks_tell_secrets_apart_and_nothing_else(void **state)
{
    static const char *const values[] = {"hunter1", "hunter1", "hunter2"};
    char *texts[4];
    for (int i = 0; i != 3; ++i) {
        setenv("WEIR_TEST_SECRET", values[i], 1);
        texts[i] = print_marked(load_good(*state, "secret: tell\nname: ${env:WEIR_TEST_SECRET}\n"), 7);
        assert_null(strstr(texts[i], "hunter"));
        assert_null(strstr(texts[i], "tell"));
        assert_non_null(strstr(texts[i], "name: \"***"));
    }
    setenv("WEIR_TEST_SECRET", values[0], 1);
    texts[3] = print_marked(load_good(*state, "secret: tell\nname: ${env:WEIR_TEST_SECRET}\n"), 8);
    assert_string_equal(texts[0], texts[1]);
    assert_string_not_equal(texts[0], texts[2]);
    assert_string_not_equal(texts[0], texts[3]); /* another seed */
    for (int i = 0; i != 4; ++i)
        free(texts[i]);
}

static void a_required_list_is_printed_though_empty(void **state)
{
    char *text = print(load_good(*state, "groups: {a: {targets: []}}\n"));
    assert_non_null(strstr(text, "  a:\n    targets: []\n"));
    free(text);
}

static void what_came_from_outside_is_masked_in_print(void **state)
{
    setenv("WEIR_TEST_SECRET", "7", 1);
    setenv("WEIR_TEST_LISTEN", "127.0.0.7:7777", 1);
    char *text = print(load_good(*state, "threads: ${env:WEIR_TEST_SECRET}\ntimeout: ${env:WEIR_TEST_SECRET}s\n"
                                         "hosts: [a, 'x${env:WEIR_TEST_SECRET}']\n"
                                         "bind: ${env:WEIR_TEST_LISTEN}\nlisten: [':1', '${env:WEIR_TEST_LISTEN}']\n"
                                         "from: ['10.0.0.${env:WEIR_TEST_SECRET}']\n"
                                         "headers: {a: '${env:WEIR_TEST_SECRET}', b: c}\n"
                                         "check: ${env:WEIR_TEST_SECRET}s\nformat: ${env:WEIR_TEST_NONE:-json}\n"
                                         "custom: ['${env:WEIR_TEST_SECRET}']\n"));
    assert_null(strchr(text, '7'));
    assert_non_null(strstr(text, "threads: \"***\"\n"));
    assert_non_null(strstr(text, "timeout: \"***\"\n"));
    assert_non_null(strstr(text, "hosts: [a, \"***\"]\n"));
    assert_non_null(strstr(text, "bind: \"***\"\n"));
    assert_non_null(strstr(text, "listen: [\":1\", \"***\"]\n"));
    assert_non_null(strstr(text, "from: \"***\"\n"));
    assert_non_null(strstr(text, "  a: \"***\"\n  b: c\n"));
    assert_non_null(strstr(text, "check:\n  interval: \"***\"\n  timeout: 5s\n"));
    assert_non_null(strstr(text, "format: json\n"));
    assert_non_null(strstr(text, "custom: \"***\"\n"));
    free(text);
}

static void the_schema_is_json_and_names_every_setting(void **state)
{
    char *text;
    size_t len;
    json_error_t error;
    FILE *out = open_memstream(&text, &len);
    gw_settings_schema(out, &section);
    fclose(out);
    json_t *schema = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (schema == NULL)
        fail_msg("%d:%d: %s", error.line, error.column, error.text);
    json_t *properties = json_object_get(schema, "properties");
    for (const struct gw_setting *row = rows; row->name != NULL; ++row) {
        json_t *property = json_object_get(properties, row->name);
        assert_string_equal(json_string_value(json_object_get(property, "description")), row->help);
    }
    assert_int_equal(json_object_size(properties), sizeof(rows) / sizeof(rows[0]) - 1);
    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    json_t *group = json_object_get(json_object_get(schema, "$defs"), "group");
    json_t *required = json_object_get(json_array_get(json_object_get(group, "anyOf"), 0), "required");
    assert_string_equal(json_string_value(json_array_get(required, 0)), "targets");
    assert_string_equal(json_string_value(json_object_get(json_object_get(properties, "timeout"), "default")), "30s");
    assert_string_equal(json_string_value(json_object_get(json_object_get(properties, "custom"), "type")), "array");
    json_decref(schema);
    free(text);
}

/* Free the result; NULL when there is no such setting. */
static char *help(const char *path)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool is_found = gw_settings_help(out, &section, path);
    fclose(out);
    if (is_found)
        return text;
    assert_int_equal(len, 0);
    free(text);
    return NULL;
}

static void help_finds_a_setting_by_path_or_end(void **state)
{
    static const struct {
        const char *path, *title; /* NULL: there is no such setting, or several */
    } cases[] = {
        {"threads", "threads\n"},
        {"check.interval", "check.interval\n"},
        {"groups.check.interval", "groups.NAME.check.interval\n"},
        {"groups.*.check.interval", "groups.NAME.check.interval\n"},
        {"groups.users.check.interval", "groups.NAME.check.interval\n"},
        {"groups.users", "groups\n"},
        {"groups.targets.weight", "groups.NAME.targets[].weight\n"},
        {"groups.users.targets.0.weight", "groups.NAME.targets[].weight\n"},
        {"groups.users.targets[].weight", "groups.NAME.targets[].weight\n"},
        {"weight", "groups.NAME.targets[].weight\n"},
        {"targets[].weight", "groups.NAME.targets[].weight\n"},
        {"steps.path", "steps[].path\n"},
        {"option.path", "option.path\n"},
        {"", "A test.\n"},
        {NULL, "A test.\n"},
        {"interval", NULL}, /* of four places */
        {"thread", NULL},
        {"check.intervall", NULL},
        {"groups.chek", NULL},
        {"groups.a.b.c", NULL},
        {"threads.x", NULL},
        {".", NULL},
        {"..", NULL},
        {"groups.", NULL},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        char *text = help(cases[i].path);
        const char *title = cases[i].title;
        if (title == NULL ? text != NULL : text == NULL || strncmp(text, title, strlen(title)) != 0)
            fail_msg("%s gave %s", cases[i].path, text != NULL ? text : "nothing");
        free(text);
    }
}

static void help_tells_value_bounds_default_and_restart(void **state)
{
    char *text = help("threads");
    assert_string_equal(text, "threads\n\n    How many.\n\n    Value:    a number\n    Bounds:   from 1 to 64\n"
                              "    Default:  2\n    Change:   takes a restart\n");
    free(text);
    text = help("format");
    assert_string_equal(text, "format\n\n    What it looks like.\n\n    Value:    one of these\n"
                              "                  json\n                  text\n    Default:  text\n"
                              "    Change:   taken over by a reload\n");
    free(text);
    text = help("secret");
    assert_non_null(strstr(text, "    Secret:   "));
    free(text);
    text = help("groups");
    assert_non_null(strstr(text, "    targets  The servers. Required.\n"));
    assert_non_null(strstr(text, "    Short:    a single value stands for {targets: value}\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_effective_configuration_is_printed),
        TEST(the_effective_configuration_as_json_has_the_same_values),
        TEST(secrets_are_masked_in_json_too),
        TEST(what_is_printed_loads_to_the_same),
        TEST(marks_tell_secrets_apart_and_nothing_else),
        TEST(a_required_list_is_printed_though_empty),
        TEST(what_came_from_outside_is_masked_in_print),
        cmocka_unit_test(the_schema_is_json_and_names_every_setting),
        cmocka_unit_test(help_finds_a_setting_by_path_or_end),
        cmocka_unit_test(help_tells_value_bounds_default_and_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
