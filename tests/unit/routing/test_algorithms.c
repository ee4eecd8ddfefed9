/* Every algorithm: shares over 100,000 picks (chi-square), who is passed over, how keys move, slow start, zones,
 * limits. */
#include <math.h>
#include "tests/unit/routing/load.h"
#include "routing/balance.h"
#include "routing/slow_start.h"

enum { MAX_TARGETS = 200, PICKS = 100000 };

struct group {
    struct routing_target_group group;
    struct routing_target_group_conf conf;
    struct routing_target targets[MAX_TARGETS];
    struct routing_health health[MAX_TARGETS];
    struct routing_target_load load[MAX_TARGETS];
    struct routing_group_live live;
    char names[MAX_TARGETS][24];
};

static struct group *group_of(enum routing_algorithm type, const unsigned *weights, uint32_t n)
{
    struct group *self = aligned_alloc(64, (sizeof(*self) + 63) & ~(size_t)63);
    memset(self, 0, sizeof(*self));
    self->conf.algorithm.type = type;
    self->conf.algorithm.decay_ms = 10000;
    self->conf.minimum_healthy.targets = 1;
    self->group =
        (struct routing_target_group){.name = text_of("g"), .conf = &self->conf, .targets = self->targets, .size = n};
    for (uint32_t i = 0; i != n; ++i) {
        sprintf(self->names[i], "10.0.%u.%u:9001", i / 250, i % 250);
        routing_health_init(self->health + i, true);
        self->health[i].state = ROUTING_HEALTH_HEALTHY;
        self->health[i].group = &self->live;
        self->targets[i] = (struct routing_target){.name = text_of(self->names[i]),
                                                   .weight = weights != NULL ? weights[i] : 1,
                                                   .health = self->health + i,
                                                   .load = self->load + i};
    }
    return self;
}

static void set_state(struct group *group, uint32_t target, enum routing_health_state state)
{
    group->health[target].state = state;
    routing_health_touch(&group->health[target]);
}

static uint64_t key_of(uint64_t n) { return routing_balance_hash((h2o_iovec_t){(char *)&n, sizeof(n)}, 0); }

static uint32_t pick_key(struct routing_balancer *balancer, uint64_t n)
{
    return routing_balancer_pick(balancer, &(struct routing_pick){.key = key_of(n), .has_key = true}, NULL);
}

static uint32_t pick_at(struct routing_balancer *balancer, uint64_t now_ms)
{
    return routing_balancer_pick(balancer, &(struct routing_pick){.now_ms = now_ms}, NULL);
}

/* With keys, which only consistent hashing looks at. */
static void count_picks(struct routing_balancer *balancer, unsigned times, unsigned *counts)
{
    memset(counts, 0, MAX_TARGETS * sizeof(*counts));
    for (unsigned i = 0; i != times; ++i) {
        uint32_t target = pick_key(balancer, i);
        assert_true(target < MAX_TARGETS);
        ++counts[target];
    }
}

/* Below the value that one of 10,000 honest runs exceeds (Wilson and Hilferty's approximation). The runs are the same
 * each time, so a test that passes goes on passing. */
static void assert_follows(const unsigned *counts, const unsigned *weights, uint32_t n, const char *what)
{
    double sum = 0, statistic = 0, total = 0;
    unsigned degrees = 0;
    for (uint32_t i = 0; i != n; ++i) {
        sum += weights != NULL ? weights[i] : 1;
        total += counts[i];
    }
    for (uint32_t i = 0; i != n; ++i) {
        double expected = total * (weights != NULL ? weights[i] : 1) / sum;
        if (expected == 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
        ++degrees;
    }
    --degrees;
    double bound = degrees * pow(1 - 2.0 / (9 * degrees) + 3.72 * sqrt(2.0 / (9 * degrees)), 3);
    if (statistic > bound)
        fail_msg("%s: chi-square is %.1f with %u degrees of freedom (at most %.1f)", what, statistic, degrees, bound);
}

static const enum routing_algorithm all[] = {ROUTING_ROUND_ROBIN,        ROUTING_LEAST_OUTSTANDING,
                                             ROUTING_RANDOM_TWO_CHOICES, ROUTING_WEIGHTED_RANDOM,
                                             ROUTING_PEAK_EWMA,          ROUTING_CONSISTENT_HASH};
enum { NUM_ALGORITHMS = sizeof(all) / sizeof(all[0]) };

static void equal_targets_get_equal_shares(void **state)
{
    static const uint32_t sizes[] = {2, 3, 10, 150};
    unsigned counts[MAX_TARGETS];
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a)
        for (size_t s = 0; s != 4; ++s) {
            struct group *group = group_of(all[a], NULL, sizes[s]);
            struct routing_balancer *balancer = routing_balancer_create(&group->group, 1);
            count_picks(balancer, PICKS, counts);
            assert_follows(counts, NULL, sizes[s], routing_balance_name(&group->conf));
            routing_balancer_destroy(balancer);
            free(group);
        }
}

static void shares_follow_the_weights(void **state)
{
    static const unsigned weights[] = {5, 1, 0, 3, 1, 10};
    unsigned counts[MAX_TARGETS];
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], weights, 6);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 2);
        count_picks(balancer, PICKS, counts);
        assert_follows(counts, weights, 6, routing_balance_name(&group->conf));
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static void weight_of_an_operator_counts_at_once(void **state)
{
    static const unsigned weights[] = {1, 1, 2}, changed[] = {1, 6, 2};
    unsigned counts[MAX_TARGETS];
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], weights, 3);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 3);
        count_picks(balancer, 100, counts);
        routing_health_set_weight(&group->health[1], 6);
        count_picks(balancer, PICKS, counts);
        assert_follows(counts, changed, 3, routing_balance_name(&group->conf));
        routing_health_set_weight(&group->health[1], 0);
        count_picks(balancer, 1000, counts);
        assert_int_equal(counts[1], 0);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static void sick_drained_and_ejected_targets_get_nothing(void **state)
{
    static const unsigned left[] = {1, 0, 0, 0, 1, 1};
    unsigned counts[MAX_TARGETS];
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], NULL, 6);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 4);
        count_picks(balancer, 100, counts);
        set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
        routing_health_set_drain(&group->health[2], true);
        routing_health_set_ejected(&group->health[3], true);
        count_picks(balancer, PICKS, counts);
        assert_follows(counts, left, 6, routing_balance_name(&group->conf));
        set_state(group, 1, ROUTING_HEALTH_HEALTHY);
        routing_health_set_drain(&group->health[2], false);
        routing_health_set_ejected(&group->health[3], false);
        count_picks(balancer, PICKS, counts);
        assert_follows(counts, NULL, 6, routing_balance_name(&group->conf));
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static void excluded_targets_are_passed_over(void **state)
{
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        static const unsigned weights[] = {50, 1, 1, 3};
        struct group *group = group_of(all[a], weights, 4);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 5);
        unsigned counts[4] = {0};
        for (unsigned i = 0; i != 4000; ++i) {
            struct routing_pick pick = {.exclude = 1 << 0, .key = key_of(i), .has_key = true};
            uint32_t target = routing_balancer_pick(balancer, &pick, NULL);
            assert_in_range(target, 1, 3);
            ++counts[target];
            pick.exclude = 0xe;
            assert_int_equal(routing_balancer_pick(balancer, &pick, NULL), 0);
            pick.exclude = 0xf;
            assert_int_equal(routing_balancer_pick(balancer, &pick, NULL), ROUTING_NO_TARGET);
        }
        for (unsigned i = 1; i != 4; ++i)
            assert_true(counts[i] > 200);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static void too_few_healthy_targets_open_the_group_to_all(void **state)
{
    unsigned counts[MAX_TARGETS];
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], NULL, 4);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 6);
        group->conf.minimum_healthy.percent = 50;
        for (uint32_t i = 0; i != 2; ++i)
            set_state(group, i, ROUTING_HEALTH_UNHEALTHY);
        count_picks(balancer, 1000, counts); /* two of four are enough */
        assert_int_equal(counts[0] + counts[1], 0);
        set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
        count_picks(balancer, PICKS, counts);
        assert_follows(counts, NULL, 4, routing_balance_name(&group->conf));
        group->conf.minimum_healthy = (struct routing_minimum_conf){.targets = 1};
        routing_health_touch(&group->health[0]);
        count_picks(balancer, 1000, counts);
        assert_int_equal(counts[3], 1000);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

/* ---- least outstanding requests ---- */

static void fewest_requests_under_way_get_the_next_one(void **state)
{
    struct group *group = group_of(ROUTING_LEAST_OUTSTANDING, NULL, 5);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    static const uint32_t loads[] = {7, 3, 9, 4, 5};
    for (uint32_t i = 0; i != 5; ++i)
        group->load[i].in_flight = loads[i];
    for (unsigned i = 0; i != 3; ++i)
        assert_int_equal(pick_at(balancer, 0), 1);
    /* requests that stay: each goes to the shortest queue, so that in the end all are as long */
    for (unsigned i = 0; i != 17; ++i)
        assert_true(routing_target_enter(&group->load[pick_at(balancer, 0)], 0));
    for (uint32_t i = 0; i != 5; ++i)
        assert_int_equal(group->load[i].in_flight, 9);
    routing_balancer_destroy(balancer);
    free(group);
}

static void weights_divide_the_requests_under_way(void **state)
{
    static const unsigned weights[] = {4, 2, 1};
    struct group *group = group_of(ROUTING_LEAST_OUTSTANDING, weights, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    for (unsigned i = 0; i != 700; ++i)
        routing_target_enter(&group->load[pick_at(balancer, 0)], 0);
    assert_in_range(group->load[0].in_flight, 398, 402);
    assert_in_range(group->load[1].in_flight, 198, 202);
    assert_in_range(group->load[2].in_flight, 98, 102);
    routing_balancer_destroy(balancer);
    free(group);
}

static void slow_target_gets_fewer_requests(void **state)
{
    static const enum routing_algorithm types[] = {ROUTING_LEAST_OUTSTANDING, ROUTING_RANDOM_TWO_CHOICES,
                                                   ROUTING_PEAK_EWMA};
    for (size_t a = 0; a != 3; ++a) {
        struct group *group = group_of(types[a], NULL, 4);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 8);
        unsigned counts[MAX_TARGETS] = {0};
        uint64_t ends[4000]; /* a request a millisecond; target 3 takes ten times as long */
        uint32_t at[4000];
        for (unsigned now = 0; now != 4000; ++now) {
            for (unsigned i = 0; i != now; ++i)
                if (ends[i] == now) {
                    routing_target_leave(&group->load[at[i]]);
                    routing_target_note_latency(&group->load[at[i]], at[i] == 3 ? 100000 : 10000, now, 10000);
                }
            uint32_t target = pick_at(balancer, now);
            routing_target_enter(&group->load[target], 0);
            ++counts[target];
            at[now] = target;
            ends[now] = now + (target == 3 ? 100 : 10);
        }
        if (counts[3] * 3 > counts[0] || counts[0] < 900)
            fail_msg("%s: the slow target got %u, another %u of 4000", routing_balance_name(&group->conf), counts[3],
                     counts[0]);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

/* ---- peak EWMA ---- */

static void a_slow_response_counts_at_once_and_is_forgotten_slowly(void **state)
{
    struct routing_target_load load = {0};
    assert_int_equal(routing_target_latency_us(&load, 0, 1000), 0);
    routing_target_note_latency(&load, 5000, 100, 1000);
    assert_in_range(routing_target_latency_us(&load, 100, 1000), 4999, 5000);
    routing_target_note_latency(&load, 80000, 200, 1000);
    assert_in_range(routing_target_latency_us(&load, 200, 1000), 79999, 80000);
    routing_target_note_latency(&load, 5000, 300, 1000); /* 100 ms later a tenth of it is forgotten */
    assert_in_range(routing_target_latency_us(&load, 300, 1000), 71000, 74000);
    assert_in_range(routing_target_latency_us(&load, 1300, 1000), 25000, 28000); /* and without any response too */
    assert_true(routing_target_latency_us(&load, 250, 1000) > 70000);            /* another thread's earlier clock */
}

static void faster_target_is_preferred(void **state)
{
    struct group *group = group_of(ROUTING_PEAK_EWMA, NULL, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    routing_target_note_latency(&group->load[0], 20000, 1000, 10000);
    routing_target_note_latency(&group->load[1], 2000, 1000, 10000);
    for (unsigned i = 0; i != 20; ++i)
        assert_int_equal(pick_at(balancer, 1000), 1);
    group->load[1].in_flight = 30; /* 31 times 2 ms is more than 20 ms */
    for (unsigned i = 0; i != 20; ++i)
        assert_int_equal(pick_at(balancer, 1000), 0);
    routing_balancer_destroy(balancer);
    free(group);
}

/* ---- consistent hashing ---- */

static void a_key_stays_with_its_target(void **state)
{
    struct group *group = group_of(ROUTING_CONSISTENT_HASH, NULL, 7);
    struct routing_balancer *one = routing_balancer_create(&group->group, 1),
                            *other = routing_balancer_create(&group->group, 2);
    for (unsigned i = 0; i != 2000; ++i) {
        uint32_t target = pick_key(one, i);
        assert_int_equal(pick_key(one, i), target);
        assert_int_equal(pick_key(other, i), target); /* every thread, and every gateway, says the same */
    }
    routing_balancer_destroy(one);
    routing_balancer_destroy(other);
    free(group);
}

static void pick_keys(struct routing_balancer *balancer, uint32_t *picks)
{
    for (unsigned i = 0; i != PICKS; ++i)
        picks[i] = pick_key(balancer, i);
}

/* At most 1/N of the keys, give or take what chance has in so many of them; and all come back with it. */
static void keys_of_other_targets_stay_when_one_goes(void **state)
{
    static const uint32_t sizes[] = {3, 10, 50, 150};
    for (size_t s = 0; s != 4; ++s) {
        uint32_t n = sizes[s];
        struct group *group = group_of(ROUTING_CONSISTENT_HASH, NULL, n);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
        uint32_t *before = h2o_mem_alloc(PICKS * sizeof(*before)), *after = h2o_mem_alloc(PICKS * sizeof(*after));
        unsigned moved = 0, counts[MAX_TARGETS] = {0};
        pick_keys(balancer, before);
        set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
        pick_keys(balancer, after);
        for (unsigned i = 0; i != PICKS; ++i) {
            assert_int_not_equal(after[i], 1);
            assert_true(before[i] == 1 || before[i] == after[i]);
            moved += after[i] != before[i];
            counts[after[i]] += before[i] == 1;
        }
        assert_true(moved < PICKS / n + 4 * sqrt((double)PICKS / n));
        for (uint32_t t = 0; t != n; ++t) /* and everybody takes some of them */
            assert_true(t == 1 || n > 100 || counts[t] > moved / (n - 1) / 4);
        set_state(group, 1, ROUTING_HEALTH_HEALTHY);
        pick_keys(balancer, after);
        assert_memory_equal(before, after, PICKS * sizeof(*before));
        free(before);
        free(after);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

/* In whatever order targets fail and come back: who goes takes only its own keys along, and who is where depends on who
 * is fit and on nothing else. */
static void keys_depend_on_who_is_fit_and_not_on_what_was_before(void **state)
{
    enum { N = 9, STEPS = 40 };
    struct group *group = group_of(ROUTING_CONSISTENT_HASH, (const unsigned[]){1, 2, 3, 1, 2, 3, 1, 2, 3}, N);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    uint32_t *before = h2o_mem_alloc(PICKS * sizeof(*before)), *after = h2o_mem_alloc(PICKS * sizeof(*after));
    bool is_fit[N] = {true, true, true, true, true, true, true, true, true};

    pick_keys(balancer, before);
    for (unsigned step = 0, num_fit = N; step != STEPS; ++step) {
        uint32_t t = (step * 7 + step / 3) % N;
        if (is_fit[t] && num_fit <= 2)
            continue;
        is_fit[t] = !is_fit[t];
        num_fit += is_fit[t] ? 1 : -1;
        set_state(group, t, is_fit[t] ? ROUTING_HEALTH_HEALTHY : ROUTING_HEALTH_UNHEALTHY);
        pick_keys(balancer, after);
        for (unsigned i = 0; i != PICKS; ++i)
            assert_true(after[i] == before[i] || (is_fit[t] ? after[i] == t : before[i] == t));
        struct routing_balancer *fresh = routing_balancer_create(&group->group, 5);
        for (unsigned i = 0; i != PICKS; ++i)
            assert_int_equal(pick_key(fresh, i), after[i]);
        routing_balancer_destroy(fresh);
        memcpy(before, after, PICKS * sizeof(*before));
    }
    free(before);
    free(after);
    routing_balancer_destroy(balancer);
    free(group);
}

static void requests_without_a_key_are_spread(void **state)
{
    struct group *group = group_of(ROUTING_CONSISTENT_HASH, NULL, 4);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    unsigned counts[MAX_TARGETS] = {0};
    for (unsigned i = 0; i != PICKS; ++i)
        ++counts[pick_at(balancer, 0)];
    assert_follows(counts, NULL, 4, "without key");
    routing_balancer_destroy(balancer);
    free(group);
}

static bool key_from(struct routing_target_group_conf *conf, struct routing_facts *facts, uint64_t *key)
{
    return routing_balance_key(conf, facts, key);
}

static void keys_come_from_what_is_configured(void **state)
{
    static h2o_iovec_t user = {H2O_STRLIT("X-User")}, cookie = {H2O_STRLIT("cookie")};
    h2o_header_t headers[] = {{&user, NULL, {H2O_STRLIT("ann")}},
                              {&cookie, NULL, {H2O_STRLIT("a=1; session=xyz; b=2")}},
                              {&cookie, NULL, {H2O_STRLIT("session=other")}}};
    struct routing_facts facts = {.headers = headers, .num_headers = 3, .path = text_of("/p")};
    struct routing_target_group_conf conf = {.algorithm = {.type = ROUTING_CONSISTENT_HASH}};
    uint64_t key;

    facts.client_ip.bytes[15] = 7;
    assert_true(key_from(&conf, &facts, &key));
    assert_int_equal(key, routing_balance_hash((h2o_iovec_t){(char *)&facts.client_ip, 16}, 0));
    conf.algorithm.by = ROUTING_BY_HEADER;
    conf.algorithm.name = text_of("x-user");
    assert_true(key_from(&conf, &facts, &key));
    assert_int_equal(key, routing_balance_hash(text_of("ann"), 0));
    conf.algorithm.by = ROUTING_BY_COOKIE;
    conf.algorithm.name = text_of("session");
    assert_true(key_from(&conf, &facts, &key));
    assert_int_equal(key, routing_balance_hash(text_of("xyz"), 0));
    conf.algorithm.name = text_of("ession");
    assert_false(key_from(&conf, &facts, &key));
    conf.algorithm.by = ROUTING_BY_PATH;
    assert_true(key_from(&conf, &facts, &key));
    assert_int_equal(key, routing_balance_hash(text_of("/p"), 0));
}

/* ---- limits ---- */

static void full_targets_are_passed_over_until_all_are_full(void **state)
{
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], NULL, 3);
        group->conf.target_limits.requests = 4;
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
        for (unsigned i = 0; i != 12; ++i) {
            uint32_t target = pick_key(balancer, i);
            assert_true(target < 3);
            assert_true(routing_target_enter(&group->load[target], 4));
        }
        assert_int_equal(pick_key(balancer, 100), ROUTING_BUSY_TARGETS);
        assert_false(routing_target_enter(&group->load[0], 4));
        routing_target_leave(&group->load[2]);
        assert_int_equal(pick_key(balancer, 101), 2);
        struct routing_pick tried = {.exclude = 7};
        assert_int_equal(routing_balancer_pick(balancer, &tried, NULL), ROUTING_NO_TARGET);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

/* ---- slow start ---- */

static void share_of_a_new_target_grows_to_its_own(void **state)
{
    static const enum routing_algorithm types[] = {ROUTING_ROUND_ROBIN, ROUTING_WEIGHTED_RANDOM,
                                                   ROUTING_RANDOM_TWO_CHOICES, ROUTING_LEAST_OUTSTANDING};
    for (size_t a = 0; a != 4; ++a) {
        struct group *group = group_of(types[a], NULL, 2);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
        unsigned quarters[4] = {0};
        group->conf.slow_start_ms = 40000;
        set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
        assert_int_equal(pick_at(balancer, 1000), 0);
        set_state(group, 1, ROUTING_HEALTH_HEALTHY);
        routing_slow_start_begin(&group->group, 1, 1000);
        for (unsigned i = 0; i != 40000; ++i)
            quarters[i / 10000] += pick_at(balancer, 1000 + i) == 1;
        /* the mean share of a quarter q of the ramp is w / (1 + w), w from q/4 to (q+1)/4 */
        static const double expected[] = {0.115, 0.271, 0.384, 0.466};
        for (unsigned q = 0; q != 4; ++q)
            if (fabs(quarters[q] / 10000.0 - expected[q]) > 0.025)
                fail_msg("%s: in quarter %u the new target got %u of 10000", routing_balance_name(&group->conf), q,
                         quarters[q]);
        unsigned after = 0;
        for (unsigned i = 0; i != 10000; ++i)
            after += pick_at(balancer, 41000 + i) == 1;
        assert_in_range(after, 4800, 5200);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static bool is_ramping(const struct group *group, uint32_t target, uint64_t now_ms)
{
    return routing_slow_start_share(&group->health[target], now_ms, group->conf.slow_start_ms) != ROUTING_SHARE_ALL;
}

/* spec/alb.md 3.3 */
static void slow_start_needs_another_target_that_is_warm(void **state)
{
    struct group *group = group_of(ROUTING_ROUND_ROBIN, NULL, 3);
    group->conf.slow_start_ms = 30000;
    set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
    set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
    group->health[0].skips_ramp = true; /* the first batch */
    routing_slow_start_begin(&group->group, 0, 1000);
    assert_false(is_ramping(group, 0, 1000));
    set_state(group, 1, ROUTING_HEALTH_HEALTHY);
    routing_slow_start_begin(&group->group, 1, 2000);
    assert_true(is_ramping(group, 1, 2000));
    assert_true(is_ramping(group, 1, 31999));
    assert_false(is_ramping(group, 1, 32000)); /* elapsed */
    set_state(group, 0, ROUTING_HEALTH_UNHEALTHY);
    set_state(group, 2, ROUTING_HEALTH_HEALTHY);
    routing_slow_start_begin(&group->group, 2, 3000); /* target 1 is the only other, and not warm itself */
    assert_false(is_ramping(group, 2, 3000));
    /* turning unhealthy ends it */
    routing_slow_start_begin(&group->group, 2, 40000);
    assert_true(is_ramping(group, 2, 40000));
    for (unsigned i = 0; i != 2; ++i)
        routing_health_on_probe(&group->health[2], ROUTING_PROBE_TIMED_OUT, 0, 5, 2, 1);
    assert_false(is_ramping(group, 2, 40000));
    free(group);
}

/* ---- zones ---- */

static void own_zone_is_preferred_and_spills_when_it_shrinks(void **state)
{
    for (size_t a = 0; a != NUM_ALGORITHMS; ++a) {
        struct group *group = group_of(all[a], NULL, 8);
        unsigned counts[MAX_TARGETS], local = 0;
        group->conf.zones = (struct routing_zones_conf){.mode = ROUTING_ZONES_PREFER, .spill_below = 70};
        for (uint32_t i = 0; i != 4; ++i)
            group->targets[i].is_local = true;
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
        count_picks(balancer, 10000, counts);
        for (uint32_t i = 4; i != 8; ++i)
            assert_int_equal(counts[i], 0);
        set_state(group, 0, ROUTING_HEALTH_UNHEALTHY); /* 75 % are enough */
        count_picks(balancer, 10000, counts);
        assert_int_equal(counts[1] + counts[2] + counts[3], 10000);
        set_state(group, 1, ROUTING_HEALTH_UNHEALTHY); /* half of them: 50/70 of the requests stay */
        count_picks(balancer, PICKS, counts);
        local = counts[2] + counts[3];
        if (fabs(local / (double)PICKS - 50.0 / 70) > 0.01)
            fail_msg("%s: %u of %u stayed", routing_balance_name(&group->conf), local, PICKS);
        assert_true(counts[4] > 6000 && counts[7] > 6000);
        set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
        set_state(group, 3, ROUTING_HEALTH_UNHEALTHY);
        count_picks(balancer, 10000, counts);
        assert_int_equal(counts[4] + counts[5] + counts[6] + counts[7], 10000);
        routing_balancer_destroy(balancer);
        free(group);
    }
}

static void full_zone_spills_to_the_others(void **state)
{
    struct group *group = group_of(ROUTING_ROUND_ROBIN, NULL, 2);
    group->conf.zones = (struct routing_zones_conf){.mode = ROUTING_ZONES_PREFER, .spill_below = 70};
    group->conf.target_limits.requests = 2;
    group->targets[0].is_local = true;
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    assert_int_equal(pick_at(balancer, 0), 0);
    group->load[0].in_flight = 2;
    assert_int_equal(pick_at(balancer, 0), 1);
    group->load[1].in_flight = 2;
    assert_int_equal(pick_at(balancer, 0), ROUTING_BUSY_TARGETS);
    routing_balancer_destroy(balancer);
    free(group);
}

/* spec/alb.md 3.6: cross-zone off */
static void only_own_zone_takes_no_others(void **state)
{
    struct group *group = group_of(ROUTING_ROUND_ROBIN, NULL, 3);
    group->conf.zones.mode = ROUTING_ZONES_ONLY;
    group->targets[1].is_local = true;
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    for (unsigned i = 0; i != 10; ++i)
        assert_int_equal(pick_at(balancer, 0), 1);
    set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
    assert_int_equal(pick_at(balancer, 0), 1); /* fails open within the zone */
    group->targets[1].is_local = false;
    routing_health_touch(&group->health[1]);
    assert_int_equal(pick_at(balancer, 0), ROUTING_NO_TARGET);
    routing_balancer_destroy(balancer);
    free(group);
}

/* ---- explaining ---- */

static void trace_shows_algorithm_candidates_and_choice(void **state)
{
    static const unsigned weights[] = {1, 2, 1};
    struct group *group = group_of(ROUTING_LEAST_OUTSTANDING, weights, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    struct gw_trace trace;
    group->load[0].in_flight = 4;
    group->load[1].in_flight = 3;
    routing_health_set_ejected(&group->health[2], true);
    gw_trace_init(&trace);
    assert_int_equal(routing_balancer_pick(balancer, &(struct routing_pick){0}, &trace), 1);
    assert_int_equal(trace.size, 4);
    assert_string_equal(trace.entries[0].text, "least_outstanding_requests among 2 of 3 targets");
    assert_string_equal(trace.entries[1].text,
                        "target \"10.0.0.0:9001\" is a candidate (weight 1, healthy, 4 in flight)");
    assert_string_equal(trace.entries[2].text, "target \"10.0.0.2:9001\" lost: it is ejected as an outlier");
    assert_string_equal(trace.entries[3].text,
                        "target \"10.0.0.1:9001\" is chosen from \"g\" (weight 2, healthy, 3 in flight)");
    gw_trace_dispose(&trace);
    routing_balancer_destroy(balancer);
    free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_targets_get_equal_shares),
        cmocka_unit_test(shares_follow_the_weights),
        cmocka_unit_test(weight_of_an_operator_counts_at_once),
        cmocka_unit_test(sick_drained_and_ejected_targets_get_nothing),
        cmocka_unit_test(excluded_targets_are_passed_over),
        cmocka_unit_test(too_few_healthy_targets_open_the_group_to_all),
        cmocka_unit_test(fewest_requests_under_way_get_the_next_one),
        cmocka_unit_test(weights_divide_the_requests_under_way),
        cmocka_unit_test(slow_target_gets_fewer_requests),
        cmocka_unit_test(a_slow_response_counts_at_once_and_is_forgotten_slowly),
        cmocka_unit_test(faster_target_is_preferred),
        cmocka_unit_test(a_key_stays_with_its_target),
        cmocka_unit_test(keys_of_other_targets_stay_when_one_goes),
        cmocka_unit_test(keys_depend_on_who_is_fit_and_not_on_what_was_before),
        cmocka_unit_test(requests_without_a_key_are_spread),
        cmocka_unit_test(keys_come_from_what_is_configured),
        cmocka_unit_test(full_targets_are_passed_over_until_all_are_full),
        cmocka_unit_test(share_of_a_new_target_grows_to_its_own),
        cmocka_unit_test(slow_start_needs_another_target_that_is_warm),
        cmocka_unit_test(own_zone_is_preferred_and_spills_when_it_shrinks),
        cmocka_unit_test(full_zone_spills_to_the_others),
        cmocka_unit_test(only_own_zone_takes_no_others),
        cmocka_unit_test(trace_shows_algorithm_candidates_and_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
