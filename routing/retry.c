#include "routing/retry.h"
#include <string.h>
#include <strings.h>

enum {
    RETRY = 1000,       /* thousandths */
    LEAST = 10 * RETRY, /* in a second, of a group whose requests pay in less */
    SECOND_MS = 1000,
};

const struct routing_retry_conf routing_retry_default = {
    .attempts = 2, .when = {.failures = ROUTING_FAILURE_CONNECT}, .budget = 100};

/* ---- `on` ---- */

static const struct {
    const char *word;
    uint32_t failure;
} failures[] = {{"connect_failure", ROUTING_FAILURE_CONNECT}, {"reset", ROUTING_FAILURE_RESET},
                {"timeout", ROUTING_FAILURE_TIMEOUT},         {"bad_response", ROUTING_FAILURE_BAD_RESPONSE},
                {"throttled", ROUTING_FAILURE_THROTTLED},     {"service_error", ROUTING_FAILURE_SERVICE},
                {"function_error", ROUTING_FAILURE_FUNCTION}};
enum { NUM_FAILURES = sizeof(failures) / sizeof(failures[0]) };

static bool read_status(const char *text, size_t len, int *status)
{
    if (len != 3)
        return false;
    for (size_t i = 0; i != 3; ++i)
        if (text[i] < '0' || text[i] > '9')
            return false;
    *status = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
    return *status >= 400 && *status <= 599;
}

static bool read_statuses(h2o_iovec_t word, int *first, int *last)
{
    if (word.len == 3 && (word.base[0] == '4' || word.base[0] == '5') && strncmp(word.base + 1, "xx", 2) == 0) {
        *first = (word.base[0] - '0') * 100;
        *last = *first + 99;
        return true;
    }
    if (word.len == 7 && word.base[3] == '-')
        return read_status(word.base, 3, first) && read_status(word.base + 4, 3, last) && *first <= *last;
    if (!read_status(word.base, word.len, first))
        return false;
    *last = *first;
    return true;
}

bool routing_when_is_word(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t word)
{
    int first, last;
    if (read_statuses(word, &first, &last))
        return true;
    for (size_t i = 0; i != NUM_FAILURES; ++i)
        if (h2o_memis(word.base, word.len, failures[i].word, strlen(failures[i].word)))
            return true;
    return gw_error_at(load->errors, at,
                       "\"%s\" is nothing to ask again for (expected connect_failure, reset, timeout, bad_response, "
                       "throttled, service_error, function_error, or statuses of 400 to 599 like 503, 500-504, 5xx)",
                       word.len == 0 ? "" : word.base);
}

void routing_when_compile(const struct gw_texts *words, struct routing_when *when)
{
    memset(when, 0, sizeof(*when));
    for (size_t i = 0; i != words->size; ++i) {
        h2o_iovec_t word = words->entries[i];
        int first, last;
        if (read_statuses(word, &first, &last)) {
            for (int status = first; status <= last; ++status)
                when->statuses[(status - 400) / 8] |= (uint8_t)(1 << ((status - 400) % 8));
            continue;
        }
        for (size_t j = 0; j != NUM_FAILURES; ++j)
            if (h2o_memis(word.base, word.len, failures[j].word, strlen(failures[j].word)))
                when->failures |= failures[j].failure;
    }
}

/* ---- settings ---- */

static bool check_retry(struct gw_loader *load, void *conf)
{
    struct routing_retry_conf *retry = conf;

    routing_when_compile(&retry->on, &retry->when);
    if (retry->on.size == 0)
        retry->when.failures = ROUTING_FAILURE_CONNECT | ROUTING_FAILURE_RESET;
    if (retry->max_backoff_ms < retry->backoff_ms)
        return gw_error_at(load->errors, gw_setting_at(retry->at, "max_backoff"),
                           "\"max_backoff\" (%lu ms) is below \"backoff\" (%lu ms)",
                           (unsigned long)retry->max_backoff_ms, (unsigned long)retry->backoff_ms);
    return true;
}

#define AT(field) offsetof(struct routing_retry_conf, field)
static const struct gw_setting retry_settings[] = {
    {"attempts", GW_NUMBER, AT(attempts), "Further tries after the first one; 0 turns every retry off.", .initial = 2,
     .max = 10},
    {"on", GW_TEXTS, AT(on),
     "What is tried again: `connect_failure`, `reset` (closed before a response), `timeout` (no response in time), "
     "`bad_response` (malformed), statuses of 400 to 599 as `503`, `500-504` or `5xx`; of functions `throttled`, "
     "`service_error` (5xx of the Invoke endpoint) and `function_error`, all of which are 502 too; default "
     "connect_failure and reset.",
     .valid = routing_when_is_word},
    {"budget", GW_PERCENT, AT(budget),
     "Share of a group's requests that may be sent again, so that retries do not bury a service that is down. Tries "
     "that no server saw (connect_failure) are free, and so are ten a second of a group with few requests; "
     "0% allows no others.",
     .initial = 20},
    {"per_try_timeout", GW_DURATION, AT(per_try_ms),
     "How long one try may take until its response begins; 0 leaves it to the timeouts.", .max = 86400000},
    {"backoff", GW_DURATION, AT(backoff_ms),
     "Pause before the second try, doubled with each further one; a random half is taken off.", .initial = 25,
     .max = 60000},
    {"max_backoff", GW_DURATION, AT(max_backoff_ms), "Longest pause between two tries.", .initial = 250, .max = 600000},
    {"buffer", GW_SIZE, AT(buffer),
     "Bytes of a request body that are kept to be sent again; a longer one is sent once.", .initial = 65536,
     .max = 64 * 1024 * 1024},
    {"non_idempotent", GW_BOOL, AT(non_idempotent),
     "Try POST and PATCH again too after the target may have seen them; only where doing it twice is harmless."},
    {0},
};
#undef AT
const struct gw_section routing_retry_section = {
    .name = "retry",
    .help = "When a request whose target failed is sent again, to another target if there is one.",
    .size = sizeof(struct routing_retry_conf),
    .settings = retry_settings,
    .scalar_is = "attempts",
    .check = check_retry,
};

#define AT(field) offsetof(struct routing_hedge_conf, field)
static const struct gw_setting hedge_settings[] = {
    {"after", GW_DURATION, AT(after_ms), "How long the first target may be silent.", .is_required = true, .min = 1,
     .max = 600000},
    {0},
};
#undef AT
const struct gw_section routing_hedge_section = {
    .name = "hedge",
    .help =
        "Asks a second target while the first one is silent and takes the first answer; GET, HEAD, OPTIONS, PUT and "
        "DELETE without a body, within the retry budget.",
    .size = sizeof(struct routing_hedge_conf),
    .settings = hedge_settings,
    .scalar_is = "after",
};

/* ---- decisions ---- */

static void begin_second(struct routing_budget *budget, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - budget->began_ms;
    struct routing_budget next = {.began_ms = now_ms};

    if (__builtin_expect(age_ms < SECOND_MS, 1))
        return;
    if (age_ms < 2 * SECOND_MS) {
        uint32_t most = budget->saved + budget->paid, left = most > budget->taken ? most - budget->taken : 0;
        next.saved = left < budget->paid ? left : budget->paid;
        next.pays_for_itself = budget->paid >= LEAST;
    }
    *budget = next;
}

void routing_budget_pay(struct routing_budget *budget, double percent, uint64_t now_ms)
{
    begin_second(budget, now_ms);
    budget->paid += (uint32_t)(percent * (RETRY / 100));
}

bool routing_budget_take(struct routing_budget *budget, double percent, uint64_t now_ms)
{
    begin_second(budget, now_ms);
    uint32_t most = budget->saved + budget->paid;
    if (most < LEAST && !budget->pays_for_itself)
        most = LEAST;
    if (percent == 0 || budget->taken + RETRY > most)
        return false;
    budget->taken += RETRY;
    return true;
}

static bool is_one_of(h2o_iovec_t method, const char *const *names)
{
    for (; *names != NULL; ++names)
        if (h2o_memis(method.base, method.len, *names, strlen(*names)))
            return true;
    return false;
}

bool routing_is_idempotent(h2o_iovec_t method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", NULL};
    return is_one_of(method, names);
}

bool routing_may_fail_over(h2o_iovec_t method)
{
    static const char *const names[] = {"GET", "HEAD", "OPTIONS", NULL};
    return is_one_of(method, names);
}

uint64_t routing_backoff_ms(const struct routing_retry_conf *conf, unsigned nth, uint64_t random)
{
    uint64_t ms = conf->backoff_ms;
    for (unsigned i = 1; i < nth && ms < conf->max_backoff_ms; ++i)
        ms *= 2;
    if (ms > conf->max_backoff_ms)
        ms = conf->max_backoff_ms;
    return ms / 2 + random % (ms / 2 + 1);
}
