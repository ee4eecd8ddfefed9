/* What a function returned: whatever it is, a response that is taken has a status, fields that can be written into a
 * head, and a body no larger than its JSON. */
#include <assert.h>
#include "gateway/lambda/lambda_event.h"
#include "routing/header_rules.h"
#include "tests/fuzz/cut.h"

static void parse(h2o_iovec_t json, bool is_multi)
{
    struct gw_lambda_response response;
    h2o_mem_pool_t pool;
    const char *why;

    h2o_mem_init_pool(&pool);
    if (gw_lambda_response_parse(&pool, json, is_multi, &response, &why)) {
        assert(why == NULL);
        assert(response.status >= 200 && response.status <= 599);
        assert(response.body.len <= json.len);
        if (response.reason != NULL)
            assert(response.reason[0] != '\0' &&
                   routing_is_field_value(h2o_iovec_init(response.reason, strlen(response.reason))));
        for (size_t i = 0; i != response.fields.size; ++i) {
            assert(routing_is_token(*response.fields.entries[i].name));
            assert(routing_is_field_value(response.fields.entries[i].value));
        }
    } else {
        assert(why != NULL);
    }
    h2o_mem_clear_pool(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    h2o_iovec_t json = h2o_iovec_init(fuzz_copy(data, len), len);
    parse(json, false);
    parse(json, true);
    free(json.base);
    return 0;
}
