/* Response heads of origins: as fuzz_request_head. */
#include <assert.h>
#include "gateway/http/head.h"
#include "tests/fuzz/cut.h"

static const struct gw_head_limits limits = {.max_bytes = 2048, .max_fields = 32};

struct parsed {
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_response_head head;
    size_t consumed;
    enum gw_head_result result;
};

static void parse(struct parsed *parsed, char *bytes, size_t len, size_t prev_len)
{
    parsed->head.fields = parsed->fields;
    parsed->head.names = parsed->names;
    parsed->result = gw_head_parse_response(bytes, len, prev_len, &limits, &parsed->head, &parsed->consumed);
}

static void check_inside(h2o_iovec_t slice, const char *bytes, size_t len)
{
    assert(slice.base >= bytes && slice.base + slice.len <= bytes + len);
}

static void check_clean(const struct gw_response_head *head, const char *bytes, size_t len)
{
    check_inside(head->reason, bytes, len);
    assert(head->status >= 100 && head->status <= 599);
    assert(!(head->is_chunked && head->content_length != UINT64_MAX));
    assert(!(head->is_chunked && head->minor_version == 0));
    assert(head->upgrade.base == NULL || head->status == 101);
    assert(head->num_fields <= limits.max_fields);
    for (size_t i = 0; i != head->num_fields; ++i) {
        const h2o_header_t *field = &head->fields[i];
        assert(gw_is_token(*field->name) && gw_is_field_value(field->value));
        if (!h2o_iovec_is_token(field->name))
            check_inside(*field->name, bytes, len);
        check_inside(field->value, bytes, len);
        static const char *const never[] = {"content-length", "transfer-encoding", "connection", "keep-alive",
                                            "upgrade",        "proxy-connection",  "trailer"};
        for (size_t k = 0; k != sizeof(never) / sizeof(never[0]); ++k)
            assert(!h2o_memis(field->name->base, field->name->len, never[k], strlen(never[k])));
    }
}

static void check_same(const struct parsed *whole, const struct parsed *other)
{
    if (whole->result == GW_HEAD_OK || other->result == GW_HEAD_OK)
        assert(whole->result == other->result && whole->consumed == other->consumed);
    else if (whole->result != GW_HEAD_TOO_LARGE && other->result != GW_HEAD_TOO_LARGE)
        assert(whole->result == other->result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct parsed whole, part;
    size_t cut = fuzz_cut(data, len, 0);
    char *bytes = fuzz_copy(data, len);
    parse(&whole, bytes, len, 0);
    if (whole.result == GW_HEAD_OK) {
        assert(whole.consumed <= len && whole.consumed <= limits.max_bytes);
        check_clean(&whole.head, bytes, whole.consumed);
    }
    free(bytes);

    bytes = fuzz_copy(data, cut);
    parse(&part, bytes, cut, 0);
    free(bytes);
    if (part.result != GW_HEAD_INCOMPLETE) {
        check_same(&whole, &part);
        return 0;
    }
    bytes = fuzz_copy(data, len);
    parse(&part, bytes, len, cut);
    free(bytes);
    /* A head that comes slowly is looked at when its end has come. */
    if (part.result != GW_HEAD_INCOMPLETE || memmem(data, len, "\r\n\r\n", 4) != NULL)
        check_same(&whole, &part);
    return 0;
}
