/* Request heads: slices stay inside, what was accepted is clean and means the same when written anew, and the answer
 * does not depend on how the bytes arrive. */
#include <assert.h>
#include "gateway/http/head.h"
#include "tests/fuzz/cut.h"

static const struct gw_head_limits limits = {.max_bytes = 2048, .max_target = 256, .max_fields = 32};

struct parsed {
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_request_head head;
    size_t consumed;
    enum gw_head_result result;
};

static void parse(struct parsed *parsed, char *bytes, size_t len, size_t prev_len)
{
    parsed->head.fields = parsed->fields;
    parsed->head.names = parsed->names;
    parsed->result = gw_head_parse_request(bytes, len, prev_len, &limits, &parsed->head, &parsed->consumed);
}

static void check_inside(h2o_iovec_t slice, const char *bytes, size_t len)
{
    bool is_inside = slice.base >= bytes && slice.base + slice.len <= bytes + len;
    bool is_literal = slice.len <= 1; /* "", "/" and "*" that no byte of the head stands for */
    assert(is_inside || is_literal);
}

static void check_clean(const struct gw_request_head *head, const char *bytes, size_t len)
{
    check_inside(head->method, bytes, len);
    check_inside(head->target, bytes, len);
    check_inside(head->authority, bytes, len);
    check_inside(head->path, bytes, len);
    assert(gw_is_token(head->method) && head->method.len <= 32);
    assert(head->authority.len == 0 ? head->minor_version == 0 : gw_is_authority(head->authority));
    assert(head->target_is_asterisk ? h2o_memis(head->path.base, head->path.len, H2O_STRLIT("*"))
                                    : head->path.len != 0 && head->path.base[0] == '/');
    const char *query = memchr(head->path.base, '?', head->path.len);
    assert(head->query_at == (query != NULL ? (size_t)(query - head->path.base) : SIZE_MAX));
    assert(!(head->is_chunked && head->content_length != UINT64_MAX));
    assert(!(head->is_chunked && head->minor_version == 0));
    assert(head->content_length == UINT64_MAX || head->content_length <= INT64_MAX);
    assert(head->num_fields <= limits.max_fields);
    for (size_t i = 0; i != head->num_fields; ++i) {
        const h2o_header_t *field = &head->fields[i];
        assert(gw_is_token(*field->name) && gw_is_field_value(field->value));
        if (!h2o_iovec_is_token(field->name))
            check_inside(*field->name, bytes, len);
        check_inside(field->value, bytes, len);
        for (size_t k = 0; k != field->name->len; ++k)
            assert(!('A' <= field->name->base[k] && field->name->base[k] <= 'Z'));
        static const char *const never[] = {"host",       "content-length", "transfer-encoding", "connection",
                                            "keep-alive", "upgrade",        "proxy-connection",  "trailer",
                                            "te",         "expect",         "http2-settings"};
        for (size_t k = 0; k != sizeof(never) / sizeof(never[0]); ++k)
            assert(!h2o_memis(field->name->base, field->name->len, never[k], strlen(never[k])));
    }
}

static char *append(char *to, h2o_iovec_t slice)
{
    h2o_memcpy(to, slice.base, slice.len);
    return to + slice.len;
}

/* Writes the head as the gateway would and reads that again: nothing may look different. */
static void check_round_trip(const struct gw_request_head *head)
{
    static char text[8192];
    static struct parsed again;
    char *p = append(text, head->method);
    *p++ = ' ';
    p = append(p, head->path);
    p += sprintf(p, " HTTP/1.%d\r\n", head->minor_version);
    if (head->authority.len != 0)
        p = append(append(append(p, h2o_iovec_init(H2O_STRLIT("host: "))), head->authority),
                   h2o_iovec_init(H2O_STRLIT("\r\n")));
    for (size_t i = 0; i != head->num_fields; ++i) {
        p = append(p, *head->fields[i].name);
        p = append(p, h2o_iovec_init(H2O_STRLIT(": ")));
        p = append(p, head->fields[i].value);
        p = append(p, h2o_iovec_init(H2O_STRLIT("\r\n")));
    }
    p = append(p, h2o_iovec_init(H2O_STRLIT("\r\n")));
    assert(p <= text + sizeof(text));
    /* Limits count what the client sent; "x:y" grows by a blank when written. */
    const struct gw_head_limits wide = {.max_bytes = sizeof(text), .max_target = 1024, .max_fields = 64};
    again.head.fields = again.fields;
    again.head.names = again.names;
    size_t len = (size_t)(p - text);
    assert(gw_head_parse_request(text, len, 0, &wide, &again.head, &again.consumed) == GW_HEAD_OK);
    assert(again.consumed == len);
    assert(h2o_memis(again.head.path.base, again.head.path.len, head->path.base, head->path.len));
    assert(h2o_memis(again.head.authority.base, again.head.authority.len, head->authority.base, head->authority.len));
    assert(again.head.num_fields == head->num_fields);
    for (size_t i = 0; i != head->num_fields; ++i) {
        const h2o_header_t *x = &head->fields[i], *y = &again.head.fields[i];
        assert(h2o_memis(x->name->base, x->name->len, y->name->base, y->name->len));
        assert(h2o_memis(x->value.base, x->value.len, y->value.base, y->value.len));
    }
}

static bool is_limit(enum gw_head_result result)
{
    return result == GW_HEAD_TOO_LARGE || result == GW_HEAD_TARGET_TOO_LONG;
}

static void check_same(const struct parsed *whole, const struct parsed *other)
{
    if (whole->result == GW_HEAD_OK || other->result == GW_HEAD_OK)
        assert(whole->result == other->result && whole->consumed == other->consumed);
    else if (!is_limit(whole->result) && !is_limit(other->result))
        assert(whole->result == other->result);
}

/* Whatever the bytes are, the glimpse for the log stays inside of them. */
static void check_glimpse(const char *bytes, size_t len)
{
    struct gw_head_glimpse seen = gw_head_glimpse(bytes, len);
    const h2o_iovec_t slices[] = {seen.method, seen.path, seen.query, seen.host};
    for (size_t i = 0; i != sizeof(slices) / sizeof(slices[0]); ++i)
        assert(slices[i].base == NULL || (slices[i].base >= bytes && slices[i].base + slices[i].len <= bytes + len));
}

/* The look at the bytes alone says of a head that was taken what the parser says of it, and does not block it. */
static void check_desync(const uint8_t *data, size_t len, const struct gw_request_head *head)
{
    char *bytes = fuzz_copy(data, len);
    assert(gw_desync_of_head(bytes, len) == (enum gw_desync)head->desync);
    assert(!gw_desync_blocks(limits.desync_mode, gw_desync_class(head->desync)));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct parsed whole, part;
    size_t cut = fuzz_cut(data, len, 0);
    char *bytes = fuzz_copy(data, len);
    check_glimpse(bytes, len);
    (void)gw_desync_name(gw_desync_of_head(bytes, len));
    parse(&whole, bytes, len, 0);
    if (whole.result == GW_HEAD_OK) {
        assert(whole.consumed <= len && whole.consumed <= limits.max_bytes);
        check_clean(&whole.head, bytes, whole.consumed);
        check_round_trip(&whole.head);
        check_desync(data, whole.consumed, &whole.head);
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
