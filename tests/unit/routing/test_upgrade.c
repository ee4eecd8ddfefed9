/* Which of the offered protocols a route takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "routing/upgrade.h"

static h2o_iovec_t chosen(const char *offered, const char *a, const char *b)
{
    h2o_iovec_t entries[2] = {h2o_iovec_init(a, a != NULL ? strlen(a) : 0),
                              h2o_iovec_init(b, b != NULL ? strlen(b) : 0)};
    struct gw_texts texts = {entries, (a != NULL) + (b != NULL), NULL};
    return routing_upgrade_choose(&texts, h2o_iovec_init(offered, strlen(offered)));
}

static void assert_chosen(const char *expected, h2o_iovec_t got)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.base, expected, got.len);
}

static void the_first_offer_that_the_route_takes_is_chosen_whatever_its_case(void **state)
{
    assert_chosen("WebSocket", chosen("WebSocket", "websocket", NULL));
    assert_chosen("tcp", chosen("h2c, tcp ,websocket", "websocket", "TCP"));
    assert_chosen("SPDY/3.1", chosen("\t,, SPDY/3.1", "spdy/3.1", NULL));
}

static void anything_else_is_not_chosen(void **state)
{
    static const char *const offers[] = {
        "",    ",", " ",          "h2c",        "websocket/13",  "websocket x",  "websockets",
        "web", "/", "websocket/", "/websocket", "websocket;q=1", "\"websocket\""};
    for (size_t i = 0; i != sizeof(offers) / sizeof(offers[0]); ++i)
        assert_null(chosen(offers[i], "websocket", NULL).base);
    assert_null(chosen("websocket", NULL, NULL).base);
    assert_null(chosen("off", "off", NULL).base);
}

static void a_name_that_is_too_long_is_not_chosen(void **state)
{
    char name[ROUTING_UPGRADE_MAX + 2];
    memset(name, 'x', sizeof(name));
    name[ROUTING_UPGRADE_MAX + 1] = '\0';
    assert_null(chosen(name, name, NULL).base);
    name[ROUTING_UPGRADE_MAX] = '\0';
    assert_chosen(name, chosen(name, name, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_offer_that_the_route_takes_is_chosen_whatever_its_case),
        cmocka_unit_test(anything_else_is_not_chosen),
        cmocka_unit_test(a_name_that_is_too_long_is_not_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
