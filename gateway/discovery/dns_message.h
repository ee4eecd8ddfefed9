/* What a DNS answer says about the question that was asked (RFC 1035, 4; SRV: RFC 2782). Bytes from the network in,
 * values out; nothing here asks anybody. */
#pragma once
#include "gateway/base/ip.h"

enum gw_dns_type { GW_DNS_A = 1, GW_DNS_AAAA = 28, GW_DNS_SRV = 33 };

/* How a question ended. The first three are answers, the others failures: they say nothing about the name. */
enum gw_dns_outcome {
    GW_DNS_VALUES,      /* there is at least one */
    GW_DNS_EMPTY,       /* the name exists, but has none of this type */
    GW_DNS_NO_NAME,     /* NXDOMAIN */
    GW_DNS_SERVFAIL,    /* the server could not find out */
    GW_DNS_REFUSED,     /* the server does not answer us */
    GW_DNS_ERROR,       /* any other error code */
    GW_DNS_MALFORMED,   /* not an answer that can be read */
    GW_DNS_TIMEOUT,     /* nothing came */
    GW_DNS_UNREACHABLE, /* nobody listens there, or the connection broke */
    GW_DNS_OUTCOMES
};
static inline bool gw_dns_is_failure(enum gw_dns_outcome outcome) { return outcome >= GW_DNS_SERVFAIL; }
/* For metrics and JSON: "servfail". */
const char *gw_dns_outcome_name(enum gw_dns_outcome);
/* For people: "the server could not find out (SERVFAIL)". */
const char *gw_dns_outcome_text(enum gw_dns_outcome);
/* "A" */
const char *gw_dns_type_name(enum gw_dns_type);

enum { GW_DNS_MAX_NAME = 254 }; /* characters of a name as text, with the NUL: 253 of RFC 1035, 2.3.4 */

struct gw_dns_value {
    uint32_t ttl_s; /* with those of the aliases before it */
    struct gw_ip ip;
    uint16_t priority, weight, port; /* SRV, as all that follows */
    char target[GW_DNS_MAX_NAME];    /* in lower case, without the last dot; "": the service is not offered here */
};
/* Open; owned by whoever disposes of it. Values are sorted and differ from each other, so that two answers with the
 * same values in another order compare equal. */
struct gw_dns_answer {
    enum gw_dns_outcome outcome;
    uint32_t ttl_s; /* the smallest of the values; of EMPTY and NO_NAME as RFC 2308, 5 has it; UINT32_MAX: not said */
    struct gw_dns_value *values;
    size_t size;
};
/* "10.0.0.1", "::1", "10 5 8080 a.example" */
void gw_dns_value_text(enum gw_dns_type, const struct gw_dns_value *, char *buf, size_t len);
/* Fills *answer whatever the bytes are. What was asked is in the message itself: the caller knows that it fits. */
void gw_dns_answer_parse(const uint8_t *bytes, size_t len, enum gw_dns_type, struct gw_dns_answer *);
void gw_dns_answer_dispose(struct gw_dns_answer *);
/* TTLs aside. */
bool gw_dns_answer_is_equal(const struct gw_dns_answer *, const struct gw_dns_answer *);
