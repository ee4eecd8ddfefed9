#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/lambda/sigv4.h"

static h2o_iovec_t slice(const char *s) { return h2o_iovec_init(s, strlen(s)); }

/* "get-vanilla" of the test suite that AWS published with the algorithm. */
static void the_published_example_has_its_signature(void **state)
{
    h2o_iovec_t fields[][2] = {{slice("host"), slice("example.amazonaws.com")},
                               {slice("x-amz-date"), slice("20150830T123600Z")}};
    char hash[GW_SHA256_HEX];
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    gw_sha256_hex(slice(""), hash);
    struct gw_sigv4 request = {.method = slice("GET"),
                               .path = slice("/"),
                               .query = slice(""),
                               .fields = (const h2o_iovec_t(*)[2])fields,
                               .num_fields = 2,
                               .body_hash = h2o_iovec_init(hash, sizeof(hash)),
                               .region = slice("us-east-1"),
                               .service = slice("service"),
                               .access_key = slice("AKIDEXAMPLE"),
                               .secret_key = slice("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
                               .time = "20150830T123600Z"};
    h2o_iovec_t value = gw_sigv4_authorization(&pool, &request);
    h2o_iovec_t expected = slice("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                                 "SignedHeaders=host;x-amz-date, "
                                 "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    assert_int_equal(value.len, expected.len);
    assert_memory_equal(value.base, expected.base, expected.len);
    h2o_mem_clear_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_published_example_has_its_signature)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
