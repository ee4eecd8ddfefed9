/* The WebSocket handshake's fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/http/websocket.h"

static h2o_iovec_t key_name = {H2O_STRLIT("sec-websocket-key")}, version_name = {H2O_STRLIT("sec-websocket-version")},
                   accept_name = {H2O_STRLIT("sec-websocket-accept")};
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static h2o_header_t field(h2o_iovec_t *name, const char *value)
{
    return (h2o_header_t){.name = name, .value = h2o_iovec_init(value, strlen(value))};
}

static void the_accept_of_the_rfcs_example_is_right(void **state)
{
    char accept[GW_WEBSOCKET_ACCEPT_LEN];
    gw_websocket_accept(h2o_iovec_init(H2O_STRLIT(KEY)), accept);
    assert_memory_equal(accept, ACCEPT, sizeof(accept));
}

static void a_handshake_needs_one_key_and_version_13(void **state)
{
    static const struct {
        const char *keys[3], *versions[3];
        enum gw_websocket_fault fault;
    } cases[] = {
        {{KEY}, {"13"}, GW_WEBSOCKET_OK},
        {{"+/+/+/+/+/+/+/+/+/+/+/=="}, {"13"}, GW_WEBSOCKET_OK},
        {{NULL}, {"13"}, GW_WEBSOCKET_NO_KEY},
        {{KEY, KEY}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{""}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{"dGhlIHNhbXBsZSBub25jZQ"}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{"dGhlIHNhbXBsZSBub25jZQ=A"}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{"dGhlIHNhbXBsZSBub25jZ-=="}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{"dGhlIHNhbXBsZSBub25jZQ==="}, {"13"}, GW_WEBSOCKET_BAD_KEY},
        {{KEY}, {NULL}, GW_WEBSOCKET_BAD_VERSION},
        {{KEY}, {"8"}, GW_WEBSOCKET_BAD_VERSION},
        {{KEY}, {"013"}, GW_WEBSOCKET_BAD_VERSION},
        {{KEY}, {"13, 8"}, GW_WEBSOCKET_BAD_VERSION},
        {{KEY}, {"13", "13"}, GW_WEBSOCKET_BAD_VERSION},
        {{"bad"}, {"8"}, GW_WEBSOCKET_BAD_VERSION},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        h2o_header_t fields[4];
        h2o_iovec_t key;
        size_t n = 0;
        for (size_t k = 0; cases[i].keys[k] != NULL; ++k)
            fields[n++] = field(&key_name, cases[i].keys[k]);
        for (size_t k = 0; cases[i].versions[k] != NULL; ++k)
            fields[n++] = field(&version_name, cases[i].versions[k]);
        assert_int_equal(gw_websocket_check(fields, n, &key), cases[i].fault);
    }
}

static void an_extended_connect_may_leave_the_version_out(void **state)
{
    bool has_version = true;
    assert_int_equal(gw_websocket_check_version(NULL, 0, &has_version), GW_WEBSOCKET_OK);
    assert_false(has_version);
    h2o_header_t eight = field(&version_name, "8");
    assert_int_equal(gw_websocket_check_version(&eight, 1, &has_version), GW_WEBSOCKET_BAD_VERSION);
    assert_true(has_version);
}

static void an_accept_counts_once_and_for_its_key_only(void **state)
{
    h2o_iovec_t key = h2o_iovec_init(H2O_STRLIT(KEY)), other = h2o_iovec_init(H2O_STRLIT("AAAAAAAAAAAAAAAAAAAAAA=="));
    h2o_header_t fields[] = {field(&accept_name, ACCEPT), field(&accept_name, ACCEPT)};
    assert_true(gw_websocket_is_accepted(fields, 1, key));
    assert_false(gw_websocket_is_accepted(fields, 1, other));
    assert_false(gw_websocket_is_accepted(fields, 2, key));
    assert_false(gw_websocket_is_accepted(fields, 0, key));
    fields[0].value.len -= 1;
    assert_false(gw_websocket_is_accepted(fields, 1, key));
}

static void keys_of_our_own_are_well_formed_and_never_the_same(void **state)
{
    char a[GW_WEBSOCKET_KEY_LEN], b[GW_WEBSOCKET_KEY_LEN];
    h2o_iovec_t key;
    gw_websocket_make_key(a);
    gw_websocket_make_key(b);
    assert_memory_not_equal(a, b, sizeof(a));
    h2o_header_t fields[] = {{.name = &key_name, .value = {a, sizeof(a)}}, field(&version_name, "13")};
    assert_int_equal(gw_websocket_check(fields, 2, &key), GW_WEBSOCKET_OK);
    assert_ptr_equal(key.base, a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_accept_of_the_rfcs_example_is_right),
        cmocka_unit_test(a_handshake_needs_one_key_and_version_13),
        cmocka_unit_test(an_extended_connect_may_leave_the_version_out),
        cmocka_unit_test(an_accept_counts_once_and_for_its_key_only),
        cmocka_unit_test(keys_of_our_own_are_well_formed_and_never_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
