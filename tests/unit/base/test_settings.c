#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <h2o.h>
#include <jansson.h>
#include "gateway/base/ip.h"
#include "gateway/base/json.h"
#include "gateway/base/settings.h"
#include "tests/unit/base/findings.h"

/* A table with every type. */
struct check_conf {
    const struct gw_node *at;
    uint64_t interval_ms, timeout_ms;
    h2o_iovec_t path;
};
struct group_conf {
    const struct gw_node *at;
    struct gw_list targets;
    struct check_conf check;
};
struct target_conf {
    const struct gw_node *at;
    struct gw_address address;
    uint64_t weight;
};
struct conf {
    const struct gw_node *at;
    bool is_on;
    uint64_t threads, timeout_ms, size, unlimited;
    double share;
    h2o_iovec_t name, secret;
    struct gw_texts hosts, index;
    int format;
    uint32_t protocols;
    struct gw_address bind;
    struct gw_addresses listen;
    struct gw_cidrs from;
    struct gw_pairs headers;
    struct check_conf check;
    struct check_conf *option;
    struct gw_list steps;
    struct gw_map groups;
    int custom;
};

static const char *const formats[] = {"json", "text", NULL};
static const char *const protocols[] = {"h2", "http/1.1", "h3", NULL};

static bool is_lower(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t value)
{
    for (size_t i = 0; i != value.len; ++i)
        if (value.base[i] >= 'A' && value.base[i] <= 'Z')
            return gw_error_at(loader->errors, at, "\"%s\" has capitals", value.base);
    return true;
}

static bool check_check(struct gw_loader *loader, void *conf)
{
    const struct check_conf *self = conf;
    return self->timeout_ms < self->interval_ms ||
           gw_error_at(loader->errors, gw_setting_at(self->at, "timeout"), "timeout must be below interval");
}

static bool read_custom(struct gw_loader *loader, const struct gw_setting *row, const struct gw_node *value,
                        void *field)
{
    *(int *)field = (int)value->size;
    return value->kind == GW_NODE_LIST || gw_error_at(loader->errors, value, "%s wants a list", row->name);
}

static void print_custom(struct gw_json *json, const struct gw_setting *row, const void *field)
{
    gw_json_array(json);
    for (int i = 0; i != *(const int *)field; ++i)
        gw_json_string(json, "${x}");
    gw_json_array_end(json);
}

#define AT(type, field) offsetof(struct type, field)
static const struct gw_setting check_rows[] = {
    {"interval", GW_DURATION, AT(check_conf, interval_ms), "Time between checks.", .initial = 30000, .min = 100,
     .max = 300000},
    {"timeout", GW_DURATION, AT(check_conf, timeout_ms), "How long one may take.", .initial = 5000, .no_zero = true},
    {"path", GW_TEXT, AT(check_conf, path), "What is asked for.", .initial_text = "/", .min = 1, .max = 8},
    {0},
};
static const struct gw_section check_section = {"health check", "How targets are checked.", sizeof(struct check_conf),
                                                check_rows,     .scalar_is = "interval",    .check = check_check};
static const struct gw_setting target_rows[] = {
    {"address", GW_ADDRESS, AT(target_conf, address), "Where it is.", .min = 1, .is_required = true},
    {"weight", GW_NUMBER, AT(target_conf, weight), "Its share.", .initial = 1, .max = 999},
    {0},
};
static const struct gw_section target_section = {"target", "One server.", sizeof(struct target_conf), target_rows,
                                                 .scalar_is = "address"};
static const struct gw_setting group_rows[] = {
    {"targets", GW_LIST, AT(group_conf, targets), "The servers.", .section = &target_section, .is_required = true},
    {"check", GW_SECTION, AT(group_conf, check), "How they are checked.", .section = &check_section},
    {0},
};
static const struct gw_section group_section = {"group",    "Servers of one kind.", sizeof(struct group_conf),
                                                group_rows, .scalar_is = "targets", .list_is = "targets"};
static const struct gw_setting rows[] = {
    {"on", GW_BOOL, AT(conf, is_on), "Whether.", .initial = 1},
    {"threads", GW_NUMBER, AT(conf, threads), "How many.", .initial = 2, .min = 1, .max = 64, .needs_restart = true},
    {"timeout", GW_DURATION, AT(conf, timeout_ms), "How long.", .initial = 30000},
    {"size", GW_SIZE, AT(conf, size), "How large.", .initial = 32768, .min = 16},
    {"unlimited", GW_NUMBER, AT(conf, unlimited), "How far.", .initial = 18446744073709551616.0},
    {"share", GW_PERCENT, AT(conf, share), "Which part.", .initial = 20},
    {"name", GW_TEXT, AT(conf, name), "Which name."},
    {"secret", GW_TEXT, AT(conf, secret), "Which key.", .is_secret = true},
    {"hosts", GW_TEXTS, AT(conf, hosts), "Which hosts.", .min = 1, .valid = is_lower},
    {"index", GW_TEXTS, AT(conf, index), "Which files.", .initial_text = "index.html"},
    {"format", GW_CHOICE, AT(conf, format), "What it looks like.", .initial = 1, .choices = formats},
    {"protocols", GW_CHOICES, AT(conf, protocols), "What is spoken.", .initial = 2, .choices = protocols},
    {"bind", GW_ADDRESS, AT(conf, bind), "Where from.", .initial_text = "127.0.0.1:80"},
    {"listen", GW_ADDRESSES, AT(conf, listen), "Where."},
    {"from", GW_CIDRS, AT(conf, from), "Whom."},
    {"headers", GW_PAIRS, AT(conf, headers), "What is set.", .valid = is_lower},
    {"check", GW_SECTION, AT(conf, check), "How.", .section = &check_section},
    {"option", GW_OPTION, AT(conf, option), "If.", .section = &check_section},
    {"steps", GW_LIST, AT(conf, steps), "In which order.", .section = &check_section},
    {"groups", GW_MAP, AT(conf, groups), "Where to.", .section = &group_section, .valid = is_lower},
    {"custom", GW_CUSTOM, AT(conf, custom), "Anything.", .read = read_custom, .print = print_custom,
     .schema_json = "{\"type\":\"array\"}"},
    {0},
};
static const struct gw_section section = {"configuration", "A test.", sizeof(struct conf), rows};

struct fixture {
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    struct conf conf;
    bool is_good;
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

static struct conf *load(struct fixture *f, const char *text)
{
    struct gw_loader loader = {&f->pool, &f->errors};
    struct gw_node *root =
        gw_yaml_load_text(&f->pool, "t", h2o_iovec_init(text, strlen(text)), false, NULL, &f->errors);
    if (root != NULL)
        f->is_good = gw_settings_load(&loader, &section, root, &f->conf);
    return &f->conf;
}

static struct conf *load_good(struct fixture *f, const char *text)
{
    load(f, text);
    assert_findings(&f->errors, "");
    assert_true(f->is_good);
    return &f->conf;
}

static void assert_text(h2o_iovec_t text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_string_equal(text.base, expected);
}

static void assert_is_default(const struct conf *conf)
{
    assert_true(conf->is_on);
    assert_int_equal(conf->threads, 2);
    assert_int_equal(conf->timeout_ms, 30000);
    assert_int_equal(conf->size, 32768);
    assert_true(conf->unlimited == UINT64_MAX);
    assert_true(conf->share == 20);
    assert_null(conf->name.base);
    assert_int_equal(conf->hosts.size, 0);
    assert_int_equal(conf->index.size, 1);
    assert_text(conf->index.entries[0], "index.html");
    assert_int_equal(conf->format, 1);
    assert_int_equal(conf->protocols, 2);
    assert_int_equal(conf->bind.port, 80);
    assert_int_equal(conf->listen.size, 0);
    assert_int_equal(conf->check.interval_ms, 30000);
    assert_null(conf->check.at);
    assert_text(conf->check.path, "/");
    assert_null(conf->option);
    assert_int_equal(conf->steps.size, 0);
    assert_int_equal(conf->groups.size, 0);
}

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
