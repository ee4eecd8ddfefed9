/* A configuration with a setting of every type, for the tests of settings. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <h2o.h>
#include "gateway/base/ip.h"
#include "gateway/base/json.h"
#include "gateway/base/settings.h"
#include "tests/unit/base/findings.h"

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

static inline struct conf *load_good(struct fixture *f, const char *text)
{
    load(f, text);
    assert_findings(&f->errors, "");
    assert_true(f->is_good);
    return &f->conf;
}

static inline void assert_text(h2o_iovec_t text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_string_equal(text.base, expected);
}

static inline void assert_is_default(const struct conf *conf)
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
