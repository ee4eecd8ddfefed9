/* DNS answers as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/discovery/dns_message.h"

static struct {
    uint8_t bytes[4096];
    size_t len;
} m;

static void put(const char *bytes, size_t len)
{
    memcpy(m.bytes + m.len, bytes, len);
    m.len += len;
}
#define PUT(literal) put(literal, sizeof(literal) - 1)

/* An answer to a question for a.b; rcode, records in answer and authority. */
static void begin(int rcode, int answers, int authorities, int type)
{
    m.len = 0;
    PUT("\x12\x34\x81\x80\0\1\0\0\0\0\0\0\1a\1b\0\0\0\0\1");
    m.bytes[3] = (uint8_t)(0x80 | rcode);
    m.bytes[7] = (uint8_t)answers;
    m.bytes[9] = (uint8_t)authorities;
    m.bytes[18] = (uint8_t)type;
}

static struct gw_dns_answer parse(enum gw_dns_type type)
{
    struct gw_dns_answer answer;
    uint8_t *copy = malloc(m.len + 1); /* so that a sanitizer sees the end */
    memcpy(copy, m.bytes, m.len);
    gw_dns_answer_parse(copy, m.len, type, &answer);
    free(copy);
    return answer;
}

static void expect_outcome(enum gw_dns_type type, enum gw_dns_outcome outcome)
{
    struct gw_dns_answer answer = parse(type);
    assert_string_equal(gw_dns_outcome_name(answer.outcome), gw_dns_outcome_name(outcome));
    gw_dns_answer_dispose(&answer);
}

static void addresses_come_sorted_once_each_with_the_smallest_ttl(void **state)
{
    char text[46];
    begin(0, 3, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\2");
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1");
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\2");
    struct gw_dns_answer answer = parse(GW_DNS_A);
    assert_int_equal(answer.outcome, GW_DNS_VALUES);
    assert_int_equal(answer.size, 2);
    gw_ip_format(&answer.values[0].ip, text);
    assert_string_equal(text, "10.0.0.1");
    gw_ip_format(&answer.values[1].ip, text);
    assert_string_equal(text, "10.0.0.2");
    assert_int_equal(answer.ttl_s, 30);
    gw_dns_answer_dispose(&answer);
}

static void aliases_are_followed_and_their_ttl_counts(void **state)
{
    begin(0, 3, 0, GW_DNS_AAAA);
    PUT("\xc0\x0c\0\5\0\1\0\0\0\5\0\4\1c\xc0\x0e");      /* a.b is c.b, 5 s */
    PUT("\1c\xc0\x0e\0\5\0\1\0\0\0\x64\0\4\1d\xc0\x0e"); /* c.b is d.b */
    PUT("\1d\xc0\x0e\0\x1c\0\1\0\0\0\x64\0\x10\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1");
    struct gw_dns_answer answer = parse(GW_DNS_AAAA);
    assert_int_equal(answer.outcome, GW_DNS_VALUES);
    assert_int_equal(answer.size, 1);
    assert_int_equal(answer.ttl_s, 5);
    gw_dns_answer_dispose(&answer);
}

static void aliases_in_any_order_are_followed(void **state)
{
    begin(0, 2, 0, GW_DNS_A);
    PUT("\1C\1B\0\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"); /* whatever the case */
    PUT("\xc0\x0c\0\5\0\1\0\0\0\x3c\0\4\1c\xc0\x0e");
    expect_outcome(GW_DNS_A, GW_DNS_VALUES);
}

static void a_loop_of_aliases_is_malformed(void **state)
{
    begin(0, 2, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\5\0\1\0\0\0\x3c\0\4\1c\xc0\x0e");
    PUT("\1c\xc0\x0e\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c");
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
}

static void addresses_of_other_names_types_and_classes_are_not_taken(void **state)
{
    begin(0, 3, 0, GW_DNS_A);
    PUT("\1x\0\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1");
    PUT("\xc0\x0c\0\x10\0\1\0\0\0\x3c\0\4\3abc");
    PUT("\xc0\x0c\0\1\0\3\0\0\0\x3c\0\4\x0a\0\0\1");
    expect_outcome(GW_DNS_A, GW_DNS_EMPTY);
}

static void services_have_priority_weight_port_and_target(void **state)
{
    begin(0, 2, 0, GW_DNS_SRV);
    PUT("\xc0\x0c\0\x21\0\1\0\0\0\x0a\0\x0a\0\x14\0\5\x1f\x90\1Y\xc0\x0e");
    PUT("\xc0\x0c\0\x21\0\1\0\0\0\x0a\0\x0a\0\x0a\0\1\x1f\x91\1z\xc0\x0e");
    struct gw_dns_answer answer = parse(GW_DNS_SRV);
    assert_int_equal(answer.size, 2);
    assert_int_equal(answer.values[0].priority, 10);
    assert_int_equal(answer.values[0].weight, 1);
    assert_int_equal(answer.values[0].port, 8081);
    assert_string_equal(answer.values[0].target, "z.b");
    assert_int_equal(answer.values[1].priority, 20);
    assert_string_equal(answer.values[1].target, "y.b");
    gw_dns_answer_dispose(&answer);
}

static void a_service_at_a_target_that_is_no_host_is_malformed(void **state)
{
    begin(0, 1, 0, GW_DNS_SRV);
    PUT("\xc0\x0c\0\x21\0\1\0\0\0\x0a\0\x0c\0\x14\0\5\x1f\x90\3a b\xc0\x0e");
    expect_outcome(GW_DNS_SRV, GW_DNS_MALFORMED);
}

static void error_codes_are_told_apart(void **state)
{
    begin(2, 0, 0, GW_DNS_A);
    expect_outcome(GW_DNS_A, GW_DNS_SERVFAIL);
    begin(5, 0, 0, GW_DNS_A);
    expect_outcome(GW_DNS_A, GW_DNS_REFUSED);
    begin(4, 0, 0, GW_DNS_A);
    expect_outcome(GW_DNS_A, GW_DNS_ERROR);
    begin(3, 0, 0, GW_DNS_A);
    expect_outcome(GW_DNS_A, GW_DNS_NO_NAME);
    begin(0, 0, 0, GW_DNS_A);
    expect_outcome(GW_DNS_A, GW_DNS_EMPTY);
}

static void a_missing_name_stays_missing_as_long_as_its_soa_says(void **state)
{
    struct gw_dns_answer answer;
    begin(3, 0, 1, GW_DNS_A);
    answer = parse(GW_DNS_A);
    assert_int_equal(answer.ttl_s, UINT32_MAX); /* the record is not there: not said */
    PUT("\xc0\x0e\0\6\0\1\0\0\x0e\x10\0\x16\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x0f");
    answer = parse(GW_DNS_A);
    assert_int_equal(answer.outcome, GW_DNS_NO_NAME);
    assert_int_equal(answer.ttl_s, 15);
}

static void a_ttl_with_its_first_bit_set_is_zero(void **state)
{
    begin(0, 1, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\1\0\1\x80\0\0\0\0\4\x0a\0\0\1");
    struct gw_dns_answer answer = parse(GW_DNS_A);
    assert_int_equal(answer.ttl_s, 0);
    gw_dns_answer_dispose(&answer);
}

static void every_cut_of_an_answer_is_malformed(void **state)
{
    begin(0, 1, 0, GW_DNS_SRV);
    PUT("\xc0\x0c\0\x21\0\1\0\0\0\x0a\0\x0a\0\x14\0\5\x1f\x90\1y\xc0\x0e");
    for (size_t len = m.len - 1; len != 0; --len) {
        m.len = len;
        expect_outcome(GW_DNS_SRV, GW_DNS_MALFORMED);
    }
}

static void pointers_that_do_not_lead_back_are_malformed(void **state)
{
    begin(0, 1, 0, GW_DNS_A);
    PUT("\xc0\x14\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"); /* to itself */
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
    begin(0, 1, 0, GW_DNS_A);
    PUT("\xc0\x16\xc0\x14\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"); /* forth */
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
    begin(0, 1, 0, GW_DNS_A);
    PUT("\x81x\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"); /* a reserved kind of label */
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
}

static void an_address_of_the_wrong_length_is_malformed(void **state)
{
    begin(0, 1, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\3\x0a\0\0");
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
}

static void a_question_is_no_answer(void **state)
{
    begin(0, 0, 0, GW_DNS_A);
    m.bytes[2] = 1;
    expect_outcome(GW_DNS_A, GW_DNS_MALFORMED);
}

static void answers_with_the_same_values_are_equal_whatever_their_order(void **state)
{
    struct gw_dns_answer a, b;
    begin(0, 2, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\2\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1");
    a = parse(GW_DNS_A);
    begin(0, 2, 0, GW_DNS_A);
    PUT("\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\2");
    b = parse(GW_DNS_A);
    assert_true(gw_dns_answer_is_equal(&a, &b));
    b.values[0].ip.bytes[15] = 9;
    assert_false(gw_dns_answer_is_equal(&a, &b));
    gw_dns_answer_dispose(&a);
    gw_dns_answer_dispose(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_sorted_once_each_with_the_smallest_ttl),
        cmocka_unit_test(aliases_are_followed_and_their_ttl_counts),
        cmocka_unit_test(aliases_in_any_order_are_followed),
        cmocka_unit_test(a_loop_of_aliases_is_malformed),
        cmocka_unit_test(addresses_of_other_names_types_and_classes_are_not_taken),
        cmocka_unit_test(services_have_priority_weight_port_and_target),
        cmocka_unit_test(a_service_at_a_target_that_is_no_host_is_malformed),
        cmocka_unit_test(error_codes_are_told_apart),
        cmocka_unit_test(a_missing_name_stays_missing_as_long_as_its_soa_says),
        cmocka_unit_test(a_ttl_with_its_first_bit_set_is_zero),
        cmocka_unit_test(every_cut_of_an_answer_is_malformed),
        cmocka_unit_test(pointers_that_do_not_lead_back_are_malformed),
        cmocka_unit_test(an_address_of_the_wrong_length_is_malformed),
        cmocka_unit_test(a_question_is_no_answer),
        cmocka_unit_test(answers_with_the_same_values_are_equal_whatever_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
