#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/discovery/dns_message.h"

enum {
    HEADER = 12,
    CLASS_IN = 1,
    TYPE_CNAME = 5,
    TYPE_SOA = 6,
    MAX_ALIASES = 16, /* of one answer */
};

struct reader {
    const uint8_t *bytes;
    size_t len, at;
};

struct record {
    char owner[GW_DNS_MAX_NAME];
    uint16_t type, class;
    uint32_t ttl_s;
    size_t data, data_len; /* offset in the message */
};

const char *gw_dns_outcome_name(enum gw_dns_outcome outcome)
{
    static const char *const names[GW_DNS_OUTCOMES] = {
        [GW_DNS_VALUES] = "ok",           [GW_DNS_EMPTY] = "empty",     [GW_DNS_NO_NAME] = "nxdomain",
        [GW_DNS_SERVFAIL] = "servfail",   [GW_DNS_REFUSED] = "refused", [GW_DNS_ERROR] = "error",
        [GW_DNS_MALFORMED] = "malformed", [GW_DNS_TIMEOUT] = "timeout", [GW_DNS_UNREACHABLE] = "unreachable"};
    return names[outcome];
}

const char *gw_dns_outcome_text(enum gw_dns_outcome outcome)
{
    static const char *const texts[GW_DNS_OUTCOMES] = {[GW_DNS_VALUES] = "answered",
                                                       [GW_DNS_EMPTY] = "the name has no such records",
                                                       [GW_DNS_NO_NAME] = "there is no such name (NXDOMAIN)",
                                                       [GW_DNS_SERVFAIL] =
                                                           "the DNS server could not find out (SERVFAIL)",
                                                       [GW_DNS_REFUSED] = "the DNS server refused to answer (REFUSED)",
                                                       [GW_DNS_ERROR] = "the DNS server answered with an error",
                                                       [GW_DNS_MALFORMED] = "the answer cannot be read",
                                                       [GW_DNS_TIMEOUT] = "no DNS server answered in time",
                                                       [GW_DNS_UNREACHABLE] = "no DNS server can be reached"};
    return texts[outcome];
}

const char *gw_dns_type_name(enum gw_dns_type type)
{
    return type == GW_DNS_A ? "A" : type == GW_DNS_AAAA ? "AAAA" : "SRV";
}

void gw_dns_value_text(enum gw_dns_type type, const struct gw_dns_value *value, char *buf, size_t len)
{
    char ip[GW_IP_TEXT];

    if (type == GW_DNS_SRV) {
        snprintf(buf, len, "%u %u %u %s", value->priority, value->weight, value->port,
                 value->target[0] != '\0' ? value->target : ".");
    } else {
        gw_ip_format(&value->ip, ip);
        snprintf(buf, len, "%s", ip);
    }
}

static bool has(const struct reader *r, size_t n) { return r->len - r->at >= n; }

static uint16_t u16_at(const struct reader *r, size_t at) { return (uint16_t)(r->bytes[at] << 8 | r->bytes[at + 1]); }

static uint32_t u32_at(const struct reader *r, size_t at) { return (uint32_t)u16_at(r, at) << 16 | u16_at(r, at + 2); }

/* Appends a label; what cannot stand in a host name becomes "?", which no name of ours has. */
static bool put_label(char *name, size_t *size, const uint8_t *label, size_t len)
{
    if (*size + (*size != 0) + len >= GW_DNS_MAX_NAME)
        return false;
    if (*size != 0)
        name[(*size)++] = '.';
    for (size_t i = 0; i != len; ++i)
        name[(*size)++] = isalnum(label[i]) || label[i] == '-' || label[i] == '_' ? (char)tolower(label[i]) : '?';
    return true;
}

/* RFC 1035, 4.1.4. A pointer leads to before the name that it stands in, so every chain of them ends. */
static bool read_name(const struct reader *r, size_t at, size_t *end, char name[GW_DNS_MAX_NAME])
{
    size_t size = 0, limit = at;
    bool has_jumped = false;

    for (;;) {
        if (at >= r->len)
            return false;
        uint8_t n = r->bytes[at];
        if (n >= 0xc0) {
            if (r->len - at < 2)
                return false;
            size_t to = u16_at(r, at) & 0x3fff;
            if (!has_jumped)
                *end = at + 2;
            has_jumped = true;
            if (to >= limit)
                return false;
            at = limit = to;
        } else if (n >= 0x40 || r->len - at <= n) {
            return false;
        } else if (n == 0) {
            if (!has_jumped)
                *end = at + 1;
            name[size] = '\0';
            return true;
        } else {
            if (!put_label(name, &size, r->bytes + at + 1, n))
                return false;
            at += 1 + (size_t)n;
        }
    }
}

static bool read_record(struct reader *r, struct record *record)
{
    size_t at;
    if (!read_name(r, r->at, &at, record->owner) || r->len - at < 10)
        return false;
    record->type = u16_at(r, at);
    record->class = u16_at(r, at + 2);
    record->ttl_s = u32_at(r, at + 4);
    if (record->ttl_s > INT32_MAX) /* RFC 2181, 8 */
        record->ttl_s = 0;
    record->data_len = u16_at(r, at + 8);
    record->data = at + 10;
    r->at = record->data;
    if (!has(r, record->data_len))
        return false;
    r->at += record->data_len;
    return true;
}

static bool read_address(const struct reader *r, const struct record *record, struct gw_dns_value *value)
{
    const uint8_t *data = r->bytes + record->data;
    if (record->data_len != (record->type == GW_DNS_A ? 4 : 16))
        return false;
    if (record->type == GW_DNS_AAAA) {
        memcpy(value->ip.bytes, data, 16);
        return true;
    }
    memset(value->ip.bytes + 10, 0xff, 2);
    memcpy(value->ip.bytes + 12, data, 4);
    return true;
}

static bool read_srv(const struct reader *r, const struct record *record, struct gw_dns_value *value)
{
    size_t end;
    if (record->data_len < 7 || !read_name(r, record->data + 6, &end, value->target) ||
        end != record->data + record->data_len)
        return false;
    value->priority = u16_at(r, record->data);
    value->weight = u16_at(r, record->data + 2);
    value->port = u16_at(r, record->data + 4);
    return value->target[0] == '\0' || gw_host_name_is_valid(h2o_iovec_init(value->target, strlen(value->target)));
}

static int compare(const void *a_, const void *b_)
{
    const struct gw_dns_value *a = a_, *b = b_;
    int order = memcmp(a->ip.bytes, b->ip.bytes, sizeof(a->ip.bytes));
    if (order == 0)
        order = (a->priority > b->priority) - (a->priority < b->priority);
    if (order == 0)
        order = strcmp(a->target, b->target);
    if (order == 0)
        order = (a->port > b->port) - (a->port < b->port);
    return order != 0 ? order : (a->weight > b->weight) - (a->weight < b->weight);
}

static void sort_values(struct gw_dns_answer *answer)
{
    size_t kept = 0;
    if (answer->size == 0)
        return;
    qsort(answer->values, answer->size, sizeof(answer->values[0]), compare);
    for (size_t i = 0; i != answer->size; ++i) {
        if (kept == 0 || compare(&answer->values[kept - 1], &answer->values[i]) != 0)
            answer->values[kept++] = answer->values[i];
        else if (answer->values[i].ttl_s < answer->values[kept - 1].ttl_s)
            answer->values[kept - 1].ttl_s = answer->values[i].ttl_s;
    }
    answer->size = kept;
}

static void add_value(struct gw_dns_answer *answer, size_t *capacity, const struct gw_dns_value *value)
{
    if (answer->size == *capacity) {
        *capacity = *capacity == 0 ? 8 : *capacity * 2;
        answer->values = h2o_mem_realloc(answer->values, *capacity * sizeof(answer->values[0]));
    }
    answer->values[answer->size++] = *value;
}

/* The values that belong to `owner`; with an alias instead, *owner becomes where it leads. Both lower *ttl_s. False:
 * not readable. */
static bool read_answers(struct reader r, unsigned num_answers, enum gw_dns_type type, char owner[GW_DNS_MAX_NAME],
                         uint32_t *ttl_s, bool *is_alias, struct gw_dns_answer *answer)
{
    char alias[GW_DNS_MAX_NAME];
    size_t capacity = 0, end;
    struct record record;

    *is_alias = false;
    for (unsigned i = 0; i != num_answers; ++i) {
        struct gw_dns_value value = {.ttl_s = 0};
        if (!read_record(&r, &record))
            return false;
        if (record.class != CLASS_IN || strcmp(record.owner, owner) != 0)
            continue;
        if (record.type == TYPE_CNAME && answer->size == 0) {
            if (!read_name(&r, record.data, &end, alias))
                return false;
            *is_alias = true;
        } else if (record.type == type) {
            if (!(type == GW_DNS_SRV ? read_srv : read_address)(&r, &record, &value))
                return false;
            value.ttl_s = record.ttl_s < *ttl_s ? record.ttl_s : *ttl_s;
            add_value(answer, &capacity, &value);
            continue;
        } else {
            continue;
        }
        *ttl_s = record.ttl_s < *ttl_s ? record.ttl_s : *ttl_s;
    }
    *is_alias = *is_alias && answer->size == 0;
    if (*is_alias)
        strcpy(owner, alias);
    return true;
}

/* RFC 2308, 5: the smaller of the SOA's TTL and its last field. */
static uint32_t negative_ttl(struct reader r, unsigned num_answers, unsigned num_authorities)
{
    struct record record;
    for (unsigned i = 0; i != num_answers + num_authorities; ++i) {
        if (!read_record(&r, &record))
            break;
        if (i >= num_answers && record.type == TYPE_SOA && record.data_len >= 22) {
            uint32_t minimum = u32_at(&r, record.data + record.data_len - 4);
            return minimum < record.ttl_s ? minimum : record.ttl_s;
        }
    }
    return UINT32_MAX;
}

static void fail(struct gw_dns_answer *answer, enum gw_dns_outcome outcome)
{
    gw_dns_answer_dispose(answer);
    *answer = (struct gw_dns_answer){.outcome = outcome, .ttl_s = UINT32_MAX};
}

static void read_answer(struct reader r, enum gw_dns_type type, struct gw_dns_answer *answer)
{
    unsigned rcode = r.bytes[3] & 0x0f, num_answers = u16_at(&r, 6), num_authorities = u16_at(&r, 8);
    char owner[GW_DNS_MAX_NAME];
    bool is_alias = true;

    if (!read_name(&r, HEADER, &r.at, owner) || !has(&r, 4))
        return fail(answer, GW_DNS_MALFORMED);
    r.at += 4;
    for (unsigned i = 0; is_alias && i != MAX_ALIASES; ++i)
        if (!read_answers(r, num_answers, type, owner, &answer->ttl_s, &is_alias, answer))
            return fail(answer, GW_DNS_MALFORMED);
    if (is_alias)
        return fail(answer, GW_DNS_MALFORMED); /* a loop of aliases */
    /* of an alias that leads out of a zone the error code may speak of its end: values are values */
    answer->outcome = answer->size != 0 ? GW_DNS_VALUES : rcode == 3 ? GW_DNS_NO_NAME : GW_DNS_EMPTY;
    sort_values(answer);
    if (answer->size == 0)
        answer->ttl_s = negative_ttl(r, num_answers, num_authorities);
    for (size_t i = 0; i != answer->size; ++i)
        if (answer->values[i].ttl_s < answer->ttl_s)
            answer->ttl_s = answer->values[i].ttl_s;
}

void gw_dns_answer_parse(const uint8_t *bytes, size_t len, enum gw_dns_type type, struct gw_dns_answer *answer)
{
    struct reader r = {bytes, len, HEADER};

    *answer = (struct gw_dns_answer){.outcome = GW_DNS_MALFORMED, .ttl_s = UINT32_MAX};
    if (len < HEADER || (bytes[2] & 0x80) == 0) /* a question */
        return;
    switch (bytes[3] & 0x0f) {
    case 2:
        answer->outcome = GW_DNS_SERVFAIL;
        return;
    case 5:
        answer->outcome = GW_DNS_REFUSED;
        return;
    case 0:
    case 3:
        if (u16_at(&r, 4) == 1)
            read_answer(r, type, answer);
        return;
    default:
        answer->outcome = GW_DNS_ERROR;
    }
}

void gw_dns_answer_dispose(struct gw_dns_answer *answer)
{
    free(answer->values);
    answer->values = NULL;
    answer->size = 0;
}

bool gw_dns_answer_is_equal(const struct gw_dns_answer *a, const struct gw_dns_answer *b)
{
    if (a->outcome != b->outcome || a->size != b->size)
        return false;
    for (size_t i = 0; i != a->size; ++i)
        if (compare(&a->values[i], &b->values[i]) != 0)
            return false;
    return true;
}
