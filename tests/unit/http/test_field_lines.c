#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/http/field_lines.h"
#include "gateway/http/head.h"

/* A head as it came, in memory of exactly its size. */
struct head {
    char *bytes;
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_request_head head;
};

static struct head *parse(const char *fields)
{
    static const struct gw_head_limits limits = {4096, 1024, GW_HEAD_MAX_FIELDS};
    struct head *self = calloc(1, sizeof(*self));
    char raw[4096];
    int len = snprintf(raw, sizeof(raw), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    size_t consumed;

    self->bytes = malloc((size_t)len);
    memcpy(self->bytes, raw, (size_t)len);
    self->head.fields = self->fields;
    self->head.names = self->names;
    assert_int_equal(gw_head_parse_request(self->bytes, (size_t)len, 0, &limits, &self->head, &consumed), GW_HEAD_OK);
    return self;
}

static void expect_lines(struct head *self, const char *expected)
{
    size_t bound = gw_field_lines_bound(self->fields, self->head.num_fields), len;
    char *lines = malloc(bound + 1);

    len = (size_t)(gw_field_lines_put(lines, self->fields, self->head.num_fields) - lines);
    assert_true(len <= bound);
    lines[len] = '\0';
    assert_string_equal(lines, expected);
    free(lines);
    free(self->bytes);
    free(self);
}

static void fields_leave_in_order_with_small_names(void **state)
{
    expect_lines(parse("Accept: */*\r\nX-Long-Name-Of-Nobody: some value\r\nCookie: a=b; c=d\r\n"),
                 "accept: */*\r\nx-long-name-of-nobody: some value\r\ncookie: a=b; c=d\r\n");
    expect_lines(parse(""), "");
}

static void blanks_around_values_become_one_space(void **state)
{
    expect_lines(parse("A:1\r\nB:   2\r\nC:\t3\r\nD: 4  \r\nE: 5\t\r\nF: 6\r\nG:\r\nH: \r\nI: \t \r\n"),
                 "a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: \r\nh: \r\ni: \r\n");
}

static void fields_that_stop_here_leave_no_trace(void **state)
{
    expect_lines(parse("A: 1\r\nConnection: close, x-hop\r\nB: 2\r\nX-Hop: 3\r\nC: 4\r\nKeep-Alive: 5\r\n"),
                 "a: 1\r\nb: 2\r\nc: 4\r\n");
}

static void a_field_taken_out_later_is_gone(void **state)
{
    struct head *self = parse("A: 1\r\nB: 2\r\nC: 3\r\n");
    self->fields[1] = self->fields[2];
    --self->head.num_fields;
    expect_lines(self, "a: 1\r\nc: 3\r\n");
}

static void fields_in_another_order_leave_in_it(void **state)
{
    struct head *self = parse("A: 1\r\nB: 2\r\nC: 3\r\n");
    h2o_header_t first = self->fields[0];
    self->fields[0] = self->fields[2];
    self->fields[2] = first;
    expect_lines(self, "c: 3\r\nb: 2\r\na: 1\r\n");
}

static void a_value_given_later_counts(void **state)
{
    struct head *self = parse("A: 1\r\nB: 2\r\nC: 3\r\n");
    self->fields[1].value = h2o_iovec_init(H2O_STRLIT("other"));
    expect_lines(self, "a: 1\r\nb: other\r\nc: 3\r\n");
}

static void a_value_cut_later_stays_cut(void **state)
{
    struct head *self = parse("A: 1\r\nCookie: a=b; c=d\r\nC: 3\r\n");
    self->fields[1].value.len = 3;
    expect_lines(self, "a: 1\r\ncookie: a=b\r\nc: 3\r\n");
    self = parse("A: 1\r\nCookie: a=b; c=d\r\nC: 3\r\n");
    self->fields[1].value.base += 5;
    self->fields[1].value.len -= 5;
    expect_lines(self, "a: 1\r\ncookie: c=d\r\nc: 3\r\n");
    self = parse("A: 1\r\nCookie: a=b; c=d\r\nC: 3\r\n");
    self->fields[1].value.len = 0;
    expect_lines(self, "a: 1\r\ncookie: \r\nc: 3\r\n");
}

static void fields_made_here_need_no_head(void **state)
{
    struct head *self = parse("A: 1\r\n");
    self->fields[1] = (h2o_header_t){.name = (h2o_iovec_t *)&H2O_TOKEN_VIA->buf, .value = {H2O_STRLIT("1.1 weir")}};
    self->fields[2] = (h2o_header_t){.name = (h2o_iovec_t *)&H2O_TOKEN_ACCEPT->buf, .value = {NULL, 0}};
    self->head.num_fields = 3;
    expect_lines(self, "a: 1\r\nvia: 1.1 weir\r\naccept: \r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_leave_in_order_with_small_names),
        cmocka_unit_test(blanks_around_values_become_one_space),
        cmocka_unit_test(fields_that_stop_here_leave_no_trace),
        cmocka_unit_test(a_field_taken_out_later_is_gone),
        cmocka_unit_test(fields_in_another_order_leave_in_it),
        cmocka_unit_test(a_value_given_later_counts),
        cmocka_unit_test(a_value_cut_later_stays_cut),
        cmocka_unit_test(fields_made_here_need_no_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
