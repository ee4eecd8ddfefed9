#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <h2o.h>
#include "gateway/config/config.h"
#include "tests/unit/base/findings.h"

#define LISTENERS "listeners: {http: {address: '127.0.0.1:8080'}}\n"

static struct gw_config *load(const char *name, const char *text, struct gw_errors *errors)
{
    gw_errors_init(errors);
    return gw_config_load_text(name, h2o_iovec_init(text, strlen(text)), false, errors);
}

static struct gw_config *load_good(const char *text)
{
    struct gw_errors errors;
    struct gw_config *config = load("etc/edge.yaml", text, &errors);
    assert_findings(&errors, "");
    assert_non_null(config);
    gw_errors_dispose(&errors);
    return config;
}

static void assert_refused(const char *text, const char *findings)
{
    struct gw_errors errors;
    assert_null(load("t", text, &errors));
    assert_findings(&errors, findings);
    gw_errors_dispose(&errors);
}

static void a_listener_is_all_that_is_needed(void **state)
{
    struct gw_config *config = load_good(LISTENERS);
    const struct gw_listener_conf *listener = config->listeners.entries[0].conf;
    assert_int_equal(listener->address.entries[0].port, 8080);
    assert_int_equal(listener->protocols, 1 << GW_PROTOCOL_HTTP1);
    assert_null(listener->tls);
    assert_in_range(config->worker_threads, 1, 256);
    assert_true(config->access_log.is_enabled);
    assert_null(config->access_log.file.base);
    assert_true(config->admin.is_enabled && config->admin.is_default && config->admin.address.is_unix);
    assert_int_equal(config->admin.tcp.text.len, 0);
    assert_null(config->state_dir.base);
    assert_int_equal(config->shutdown_timeout_ms, 30000);
    assert_int_equal(config->limits.header_block, 32768);
    assert_int_equal(config->limits.url, 8192);
    assert_int_equal(config->limits.headers, 100);
    assert_int_equal(config->limits.max_body, 0);
    assert_int_equal(config->limits.header_timeout_ms, 10000);
    assert_int_equal(config->limits.idle_timeout_ms, 60000);
    assert_int_equal(config->limits.body_timeout_ms, 30000);
    assert_int_equal(config->limits.send_timeout_ms, 30000);
    assert_int_equal(config->forwarding.x_forwarded, GW_X_FORWARDED_APPEND);
    assert_true(config->forwarding.via && config->forwarding.request_id && config->forwarding.traceparent &&
                config->forwarding.amzn_trace_id && !config->forwarding.client_port);
    assert_int_equal(config->trusted_proxies.size, 0);
    gw_config_destroy(config);
}

static void routes_without_a_name_are_named_by_position(void **state)
{
    struct gw_config *config =
        load_good(LISTENERS "routes: [{match: {path: /a}, echo: true}, {name: b, echo: true}]\n");
    assert_string_equal(((struct routing_route_conf *)config->routes.entries[0])->name.base, "route-1");
    assert_string_equal(((struct routing_route_conf *)config->routes.entries[1])->name.base, "b");
    gw_config_destroy(config);
}

static void paths_are_relative_to_the_file_that_says_them(void **state)
{
    struct gw_config *config = load_good(LISTENERS "state_dir: state\naccess_log: {path: access.log}\n"
                                                   "routes: [{match: {path: /a}, files: {root: site}}, "
                                                   "{files: {root: /srv/www}}]\n");
    assert_string_equal(config->state_dir.base, "etc/state");
    assert_string_equal(config->access_log.file.base, "etc/access.log");
    assert_string_equal(((struct routing_route_conf *)config->routes.entries[0])->files->root.base, "etc/site");
    assert_string_equal(((struct routing_route_conf *)config->routes.entries[1])->files->root.base, "/srv/www");
    gw_config_destroy(config);
}

static void a_written_admin_address_is_no_default(void **state)
{
    struct gw_config *config =
        load_good(LISTENERS "admin: {address: 'unix:/run/weir/admin.sock', tcp: '[::1]:9900'}\n");
    assert_false(config->admin.is_default);
    assert_int_equal(config->admin.tcp.port, 9900);
    gw_config_destroy(config);
}

static void the_admin_listener_stays_on_this_machine(void **state)
{
    static const char *const good[] = {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"};
    static const char *const bad[] = {"0.0.0.0:1", "[::]:1", ":1", "*:1", "10.0.0.1:1", "128.0.0.1:1", "[::2]:1"};
    struct gw_errors errors;
    char text[256];
    for (size_t i = 0; i != sizeof(good) / sizeof(good[0]); ++i) {
        snprintf(text, sizeof(text), LISTENERS "admin: {address: '%s'}\n", good[i]);
        gw_config_destroy(load_good(text));
    }
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i) {
        snprintf(text, sizeof(text), LISTENERS "admin: {tcp: '%s'}\n", bad[i]);
        assert_null(load("t", text, &errors));
        assert_int_equal(errors.num_errors, 1);
        gw_errors_dispose(&errors);
    }
}

static void no_file_is_read_where_none_is_allowed(void **state)
{
    /* the key is no key at all, but nobody looks */
    struct gw_config *config = load_good(LISTENERS "certificates: {a: {cert: /dev/null, key: /dev/null}}\n");
    gw_config_destroy(config);
    assert_refused(LISTENERS "include: /dev/null\nstate_dir: ${file:/dev/null}\n",
                   "t:2:10: include is not allowed here\nt:3:12: ${file:} is not allowed here\n");
}

static void mistakes_of_all_stages_come_in_one_run(void **state)
{
    assert_refused(
        "worker_threads: 0\n"
        "listeners: {a: {address: ':80', tls: {certificates: x}}, b: {address: '[::]:80'}}\n"
        "routes: [{name: r, forward: y}, {name: s, match: {listener: z}, echo: true}]\n"
        "state_dir: ${none}\n",
        "t:1:17: worker_threads is out of bounds: \"0\" (expected a number from 1 to 256)\n"
        "t:2:53: unknown certificate \"x\"\n"
        "t:2:71: address [::]:80 is taken already: listener \"a\" at t:2:26\n"
        "t:3:29: unknown target group \"y\"\n"
        "t:3:33: warning: route \"s\" is never reached: \"r\" at t:3:10 takes every request before it\n"
        "t:3:61: unknown listener \"z\"\n"
        "t:4:12: unknown substitution \"${none}\" (expected ${env:NAME} or ${file:PATH}; $${ is a literal ${)\n");
}

static void warnings_alone_refuse_nothing(void **state)
{
    struct gw_errors errors;
    struct gw_config *config = load("t", "listeners: {a: {address: ':80'}, b: {address: '10.0.0.1:80'}}\n", &errors);
    assert_non_null(config);
    assert_int_equal(errors.size, 1);
    assert_int_equal(errors.num_errors, 0);
    gw_config_destroy(config);
    gw_errors_dispose(&errors);
    gw_config_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_is_all_that_is_needed),
        cmocka_unit_test(routes_without_a_name_are_named_by_position),
        cmocka_unit_test(paths_are_relative_to_the_file_that_says_them),
        cmocka_unit_test(a_written_admin_address_is_no_default),
        cmocka_unit_test(the_admin_listener_stays_on_this_machine),
        cmocka_unit_test(no_file_is_read_where_none_is_allowed),
        cmocka_unit_test(mistakes_of_all_stages_come_in_one_run),
        cmocka_unit_test(warnings_alone_refuse_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
