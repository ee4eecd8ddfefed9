#include "tests/unit/routing/load.h"
#include "routing/sticky.h"

static const uint8_t nonce[ROUTING_STICKY_NONCE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct routing_sticky_keys *keys_of(const char *first, const char *second)
{
    h2o_iovec_t secrets[2] = {text_of(first)};
    if (second != NULL)
        secrets[1] = text_of(second);
    return routing_sticky_keys_create(secrets, second != NULL ? 2 : 1);
}

static bool opens(const struct routing_sticky_keys *keys, const char *context, const char *value, uint64_t now_s,
                  uint64_t *what)
{
    return routing_sticky_open(keys, text_of(context), h2o_iovec_init(value, ROUTING_STICKY_VALUE), now_s, what);
}

static void what_was_sealed_opens_until_its_time_is_over(void **state)
{
    struct routing_sticky_keys *keys = keys_of("secret", NULL);
    char value[ROUTING_STICKY_VALUE];
    uint64_t what = 0;
    routing_sticky_seal(keys, text_of("AWSALB users"), 0x123456789abcdef0, 1000, nonce, value);
    assert_true(opens(keys, "AWSALB users", value, 0, &what));
    assert_true(what == 0x123456789abcdef0);
    assert_true(opens(keys, "AWSALB users", value, 999, &what));
    assert_false(opens(keys, "AWSALB users", value, 1000, &what));
    routing_sticky_keys_destroy(keys);
}

static void cookie_of_another_purpose_does_not_open(void **state)
{
    struct routing_sticky_keys *keys = keys_of("secret", NULL);
    char value[ROUTING_STICKY_VALUE];
    uint64_t what;
    routing_sticky_seal(keys, text_of("AWSALB users"), 7, 1000, nonce, value);
    assert_false(opens(keys, "AWSALB orders", value, 0, &what));
    assert_false(opens(keys, "AWSALBAPP users", value, 0, &what));
    routing_sticky_keys_destroy(keys);
}

static void any_changed_byte_keeps_it_shut(void **state)
{
    struct routing_sticky_keys *keys = keys_of("secret", NULL);
    char value[ROUTING_STICKY_VALUE];
    uint64_t what;
    routing_sticky_seal(keys, text_of("c"), 7, 1000, nonce, value);
    for (size_t i = 0; i != sizeof(value); ++i)
        for (unsigned to = 1; to != 256; ++to) {
            char kept = value[i];
            if ((char)to == kept)
                continue;
            value[i] = (char)to;
            assert_false(opens(keys, "c", value, 0, &what));
            value[i] = kept;
        }
    assert_true(opens(keys, "c", value, 0, &what));
    for (size_t len = 0; len != sizeof(value); ++len)
        assert_false(routing_sticky_open(keys, text_of("c"), h2o_iovec_init(value, len), 0, &what));
    routing_sticky_keys_destroy(keys);
}

static void keys_can_be_exchanged_without_losing_a_session(void **state)
{
    struct routing_sticky_keys *old = keys_of("old", NULL), *both = keys_of("new", "old"), *new = keys_of("new", NULL);
    char by_old[ROUTING_STICKY_VALUE], by_both[ROUTING_STICKY_VALUE];
    uint64_t what;
    routing_sticky_seal(old, text_of("c"), 7, 1000, nonce, by_old);
    routing_sticky_seal(both, text_of("c"), 7, 1000, nonce, by_both);
    assert_true(opens(both, "c", by_old, 0, &what));
    assert_true(opens(new, "c", by_both, 0, &what));
    assert_false(opens(new, "c", by_old, 0, &what));
    assert_false(opens(old, "c", by_both, 0, &what));
    routing_sticky_keys_destroy(old);
    routing_sticky_keys_destroy(both);
    routing_sticky_keys_destroy(new);
}

static void same_session_never_looks_the_same_twice(void **state)
{
    struct routing_sticky_keys *keys = keys_of("secret", NULL);
    char a[ROUTING_STICKY_VALUE], b[ROUTING_STICKY_VALUE];
    uint8_t other[ROUTING_STICKY_NONCE] = {9};
    routing_sticky_seal(keys, text_of("c"), 7, 1000, nonce, a);
    routing_sticky_seal(keys, text_of("c"), 7, 1000, other, b);
    assert_memory_not_equal(a + 16, b + 16, sizeof(a) - 16);
    routing_sticky_keys_destroy(keys);
}

/* spec/alb.md 3.4: seven days whatever the duration is, Expires and never Max-Age */
static void cookies_have_the_attributes_of_an_alb(void **state)
{
    static const char value[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    h2o_iovec_t plain = routing_sticky_cookie(&pool, text_of("AWSALB"), value, 1530570146, false, false);
    assert_string_equal(plain.base, "AWSALB=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; "
                                    "Expires=Mon, 09 Jul 2018 22:22:26 GMT; Path=/");
    assert_int_equal(plain.len, strlen(plain.base));
    h2o_iovec_t cors = routing_sticky_cookie(&pool, text_of("AWSALBCORS"), value, 1530570146, true, true);
    assert_non_null(strstr(cors.base, "; Expires=Mon, 09 Jul 2018 22:22:26 GMT; Path=/; SameSite=None; Secure"));
    h2o_iovec_t http = routing_sticky_cookie(&pool, text_of("AWSALBCORS"), value, 1530570146, true, false);
    assert_string_equal(http.base + http.len - strlen("; Path=/; SameSite=None"), "; Path=/; SameSite=None");
    h2o_mem_clear_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sealed_opens_until_its_time_is_over),
        cmocka_unit_test(cookie_of_another_purpose_does_not_open),
        cmocka_unit_test(any_changed_byte_keeps_it_shut),
        cmocka_unit_test(keys_can_be_exchanged_without_losing_a_session),
        cmocka_unit_test(same_session_never_looks_the_same_twice),
        cmocka_unit_test(cookies_have_the_attributes_of_an_alb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
