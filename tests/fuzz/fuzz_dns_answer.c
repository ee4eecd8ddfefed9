/* The answer of a DNS server: whatever the bytes are, values come sorted, once each, and targets are names. */
#include <assert.h>
#include <string.h>
#include "gateway/discovery/dns_message.h"
#include "tests/fuzz/cut.h"

static void parse(const uint8_t *bytes, size_t len, enum gw_dns_type type)
{
    struct gw_dns_answer answer;

    gw_dns_answer_parse(bytes, len, type, &answer);
    assert(answer.outcome < GW_DNS_TIMEOUT);
    assert((answer.outcome == GW_DNS_VALUES) == (answer.size != 0));
    assert(answer.size * 10 <= len);
    for (size_t i = 0; i != answer.size; ++i) {
        const char *target = answer.values[i].target;
        assert(answer.ttl_s <= answer.values[i].ttl_s);
        assert(target[0] == '\0' || gw_host_name_is_valid(h2o_iovec_init(target, strlen(target))));
    }
    gw_dns_answer_dispose(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *copy = fuzz_copy(data, len);
    parse((uint8_t *)copy, len, GW_DNS_A);
    parse((uint8_t *)copy, len, GW_DNS_AAAA);
    parse((uint8_t *)copy, len, GW_DNS_SRV);
    free(copy);
    return 0;
}
