#include "tests/unit/routing/load.h"
#include "routing/balance.h"

enum { MAX_TARGETS = 1000 };

/* A group named "g" with the given weights, all targets healthy. */
struct group {
    struct routing_target_group group;
    struct routing_target targets[MAX_TARGETS];
    struct routing_health health[MAX_TARGETS];
    struct routing_target_load load[MAX_TARGETS];
    struct routing_group_live live;
    char names[MAX_TARGETS][16];
};

static struct group *group_of(const unsigned *weights, uint32_t n)
{
    struct group *self = aligned_alloc(64, (sizeof(*self) + 63) & ~(size_t)63);
    memset(self, 0, sizeof(*self));
    self->group = (struct routing_target_group){.name = text_of("g"), .targets = self->targets, .size = n};
    for (uint32_t i = 0; i != n; ++i) {
        sprintf(self->names[i], "t%u", i);
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

static uint32_t pick_but(struct routing_balancer *balancer, uint64_t exclude, struct gw_trace *trace)
{
    return routing_balancer_pick(balancer, &(struct routing_pick){.exclude = exclude}, trace);
}

static uint32_t pick(struct routing_balancer *balancer) { return pick_but(balancer, 0, NULL); }

static void count_picks(struct routing_balancer *balancer, unsigned times, unsigned *counts)
{
    memset(counts, 0, MAX_TARGETS * sizeof(*counts));
    for (unsigned i = 0; i != times; ++i) {
        uint32_t target = pick(balancer);
        assert_true(target < MAX_TARGETS);
        ++counts[target];
    }
}

static void equal_targets_take_turns(void **state)
{
    struct group *group = group_of(NULL, 5);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    for (uint32_t i = 0; i != 100; ++i)
        assert_int_equal(pick(balancer), i % 5);
    routing_balancer_destroy(balancer);
    free(group);
}

static void seed_moves_the_first_turn(void **state)
{
    struct group *group = group_of(NULL, 5);
    for (uint32_t seed = 0; seed != 12; ++seed) {
        struct routing_balancer *balancer = routing_balancer_create(&group->group, seed);
        for (uint32_t i = 0; i != 10; ++i)
            assert_int_equal(pick(balancer), (seed + i) % 5);
        routing_balancer_destroy(balancer);
    }
    free(group);
}

static void shares_are_exact_over_each_period(void **state)
{
    static const unsigned sets[][6] = {{5, 1, 1}, {1, 2, 3, 4}, {999, 1}, {7, 7, 7, 1}, {10, 3, 2, 2, 1, 1}, {2, 0, 3}};
    static const uint32_t sizes[] = {3, 4, 2, 4, 6, 3};
    unsigned counts[MAX_TARGETS];
    for (size_t s = 0; s != sizeof(sizes) / sizeof(sizes[0]); ++s) {
        struct group *group = group_of(sets[s], sizes[s]);
        struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
        unsigned sum = 0;
        for (uint32_t i = 0; i != sizes[s]; ++i)
            sum += sets[s][i];
        for (unsigned period = 0; period != 5; ++period) {
            count_picks(balancer, sum, counts);
            for (uint32_t i = 0; i != sizes[s]; ++i)
                if (abs((int)counts[i] - (int)sets[s][i]) > 0)
                    fail_msg("set %zu, target %u: %u of %u", s, i, counts[i], sets[s][i]);
        }
        routing_balancer_destroy(balancer);
        free(group);
    }
}

/* Smooth: in any stretch of the order a target has its share, give or take one turn. */
static void turns_of_a_target_are_spread_evenly(void **state)
{
    static const unsigned weights[] = {8, 5, 3, 2, 1, 1};
    enum { N = 6, SUM = 20, PICKS = 400 };
    struct group *group = group_of(weights, N);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    uint32_t order[PICKS];
    for (unsigned i = 0; i != PICKS; ++i)
        order[i] = pick(balancer);
    for (unsigned from = 0; from != PICKS - 2 * SUM; ++from)
        for (unsigned len = 1; len <= 2 * SUM; ++len)
            for (uint32_t target = 0; target != N; ++target) {
                int n = 0;
                for (unsigned i = from; i != from + len; ++i)
                    n += order[i] == target;
                double share = (double)weights[target] * len / SUM;
                if (n < share - 1.6 || n > share + 1.6)
                    fail_msg("target %u has %d of %u turns from %u, its share is %.2f", target, n, len, from, share);
            }
    /* and the heaviest is never twice in a row with less than half of the weight */
    for (unsigned i = 1; i != PICKS; ++i)
        assert_false(order[i] == 0 && order[i - 1] == 0 && i > 1 && order[i - 2] == 0);
    routing_balancer_destroy(balancer);
    free(group);
}

static void unhealthy_target_gets_nothing_and_the_others_keep_their_shares(void **state)
{
    static const unsigned weights[] = {1, 2, 3};
    unsigned counts[MAX_TARGETS];
    struct group *group = group_of(weights, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    count_picks(balancer, 6, counts);
    set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
    count_picks(balancer, 300, counts);
    assert_int_equal(counts[2], 0);
    assert_in_range(counts[0], 99, 101);
    assert_in_range(counts[1], 199, 201);
    set_state(group, 2, ROUTING_HEALTH_HEALTHY);
    count_picks(balancer, 600, counts);
    assert_in_range(counts[0], 98, 102);
    assert_in_range(counts[1], 198, 202);
    assert_in_range(counts[2], 298, 302);
    routing_balancer_destroy(balancer);
    free(group);
}

static void recovered_target_is_not_flooded(void **state)
{
    struct group *group = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
    unsigned counts[MAX_TARGETS];
    count_picks(balancer, 1000, counts);
    set_state(group, 1, ROUTING_HEALTH_HEALTHY);
    count_picks(balancer, 9, counts);
    assert_in_range(counts[1], 2, 4);
    routing_balancer_destroy(balancer);
    free(group);
}

static void unchecked_targets_take_traffic_and_initial_ones_wait(void **state)
{
    struct group *group = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    unsigned counts[MAX_TARGETS];
    set_state(group, 0, ROUTING_HEALTH_UNCHECKED);
    set_state(group, 1, ROUTING_HEALTH_INITIAL);
    count_picks(balancer, 100, counts);
    assert_int_equal(counts[0], 50);
    assert_int_equal(counts[1], 0);
    assert_int_equal(counts[2], 50);
    routing_balancer_destroy(balancer);
    free(group);
}

/* spec/alb.md vector 15 and 3.6 */
static void all_take_traffic_when_none_is_healthy(void **state)
{
    static const unsigned weights[] = {1, 2, 1, 5, 0};
    struct group *group = group_of(weights, 5);
    unsigned counts[MAX_TARGETS];
    set_state(group, 0, ROUTING_HEALTH_UNHEALTHY);
    set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
    set_state(group, 2, ROUTING_HEALTH_INITIAL);
    set_state(group, 3, ROUTING_HEALTH_DRAINING);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    count_picks(balancer, 400, counts);
    assert_in_range(counts[0], 99, 101);
    assert_in_range(counts[1], 199, 201);
    assert_in_range(counts[2], 99, 101);
    assert_int_equal(counts[3], 0); /* deregistered: not even then */
    assert_int_equal(counts[4], 0);
    /* the first that is healthy again gets everything, at once */
    set_state(group, 2, ROUTING_HEALTH_HEALTHY);
    count_picks(balancer, 50, counts);
    assert_int_equal(counts[2], 50);
    set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
    count_picks(balancer, 400, counts);
    assert_in_range(counts[1], 199, 201);
    routing_balancer_destroy(balancer);
    free(group);
}

static void group_without_usable_target_gives_none(void **state)
{
    static const unsigned weights[] = {0, 0};
    struct group *empty = group_of(NULL, 0), *zeros = group_of(weights, 2), *draining = group_of(NULL, 2);
    draining->health[0].state = draining->health[1].state = ROUTING_HEALTH_DRAINING;
    struct group *groups[] = {empty, zeros, draining};
    for (size_t i = 0; i != 3; ++i) {
        struct routing_balancer *balancer = routing_balancer_create(&groups[i]->group, 7);
        assert_int_equal(pick(balancer), ROUTING_NO_TARGET);
        assert_int_equal(pick(balancer), ROUTING_NO_TARGET);
        routing_balancer_destroy(balancer);
        free(groups[i]);
    }
}

static void excluded_targets_are_passed_over_and_keep_their_turn(void **state)
{
    struct group *group = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    assert_int_equal(pick_but(balancer, 1, NULL), 1);
    assert_int_equal(pick_but(balancer, 3, NULL), 2);
    assert_int_equal(pick(balancer), 0);
    assert_int_equal(pick_but(balancer, 7, NULL), ROUTING_NO_TARGET);
    unsigned counts[MAX_TARGETS];
    count_picks(balancer, 3, counts);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 1);
    assert_int_equal(counts[2], 1);
    routing_balancer_destroy(balancer);
    free(group);
}

static void exclusion_of_every_healthy_target_does_not_open_to_the_unhealthy(void **state)
{
    struct group *group = group_of(NULL, 3);
    set_state(group, 2, ROUTING_HEALTH_UNHEALTHY);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    assert_int_equal(pick_but(balancer, 3, NULL), ROUTING_NO_TARGET);
    assert_int_equal(pick_but(balancer, 2, NULL), 0);
    routing_balancer_destroy(balancer);
    free(group);
}

static void targets_beyond_64_cannot_be_excluded(void **state)
{
    struct group *group = group_of(NULL, 70);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    for (unsigned i = 0; i != 12; ++i)
        assert_in_range(pick_but(balancer, UINT64_MAX, NULL), 64, 69);
    routing_balancer_destroy(balancer);
    free(group);
}

static void thousand_targets_share_exactly_while_some_come_and_go(void **state)
{
    struct group *group = group_of(NULL, 1000);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    unsigned counts[MAX_TARGETS];
    count_picks(balancer, 10000, counts);
    for (unsigned i = 0; i != 1000; ++i)
        assert_int_equal(counts[i], 10);
    for (unsigned i = 0; i != 1000; i += 2)
        set_state(group, i, ROUTING_HEALTH_UNHEALTHY);
    count_picks(balancer, 5000, counts);
    for (unsigned i = 0; i != 1000; ++i)
        assert_in_range(counts[i], i % 2 == 0 ? 0 : 9, i % 2 == 0 ? 0 : 11);
    for (unsigned i = 0; i != 1000; i += 2)
        set_state(group, i, ROUTING_HEALTH_HEALTHY);
    count_picks(balancer, 1000 / 8 + 1, counts); /* a full circle of looks */
    count_picks(balancer, 10000, counts);
    for (unsigned i = 0; i != 1000; ++i)
        assert_in_range(counts[i], 8, 12);
    routing_balancer_destroy(balancer);
    free(group);
}

static void last_target_of_a_large_group_is_found_at_once_when_the_others_fail(void **state)
{
    struct group *group = group_of(NULL, 1000);
    for (unsigned i = 1; i != 1000; ++i)
        set_state(group, i, ROUTING_HEALTH_UNHEALTHY);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    assert_int_equal(pick(balancer), 0);
    set_state(group, 0, ROUTING_HEALTH_UNHEALTHY);
    set_state(group, 777, ROUTING_HEALTH_HEALTHY);
    assert_int_equal(pick(balancer), 777);
    routing_balancer_destroy(balancer);
    free(group);
}

static void rotation_goes_on_after_a_reload_without_changes(void **state)
{
    struct group *group = group_of(NULL, 3), *reloaded = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    assert_int_equal(pick(balancer), 0);
    routing_balancer_rebind(balancer, &reloaded->group);
    memset(group, 0xff, sizeof(*group)); /* nothing of the old group is looked at */
    assert_int_equal(pick(balancer), 1);
    assert_int_equal(pick(balancer), 2);
    routing_balancer_destroy(balancer);
    free(group);
    free(reloaded);
}

static void new_targets_and_weights_count_after_a_reload(void **state)
{
    static const unsigned weights[] = {1, 3, 0, 4};
    struct group *group = group_of(NULL, 3), *reloaded = group_of(weights, 4);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    unsigned counts[MAX_TARGETS];
    count_picks(balancer, 7, counts);
    routing_balancer_rebind(balancer, &reloaded->group);
    memset(group, 0xff, sizeof(*group));
    count_picks(balancer, 80, counts);
    assert_int_equal(counts[0], 10);
    assert_int_equal(counts[1], 30);
    assert_int_equal(counts[2], 0);
    assert_int_equal(counts[3], 40);
    routing_balancer_destroy(balancer);
    free(group);
    free(reloaded);
}

static void rotation_survives_the_wrap_of_virtual_time(void **state)
{
    /* two targets of very different weight, long enough for every rounding to show */
    static const unsigned weights[] = {997, 3};
    struct group *group = group_of(weights, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    unsigned counts[MAX_TARGETS];
    count_picks(balancer, 1000000, counts);
    assert_in_range(counts[0], 996990, 997010);
    assert_in_range(counts[1], 2990, 3010);
    routing_balancer_destroy(balancer);
    free(group);
}

static void trace_says_who_lost_and_who_won(void **state)
{
    static const unsigned weights[] = {1, 0, 1, 1};
    struct group *group = group_of(weights, 4);
    set_state(group, 0, ROUTING_HEALTH_UNHEALTHY);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    struct gw_trace trace;
    gw_trace_init(&trace);
    assert_int_equal(pick_but(balancer, 4, &trace), 3);
    assert_int_equal(trace.size, 4);
    assert_string_equal(trace.entries[0].text, "target \"t0\" lost: it is unhealthy");
    assert_string_equal(trace.entries[1].text, "target \"t1\" lost: it has weight 0");
    assert_string_equal(trace.entries[2].text, "target \"t2\" lost: it was tried already");
    assert_string_equal(trace.entries[3].text, "target \"t3\" takes its turn of \"g\" (weight 1, healthy)");
    gw_trace_dispose(&trace);

    for (unsigned i = 0; i != 4; ++i)
        set_state(group, i, ROUTING_HEALTH_UNHEALTHY);
    gw_trace_init(&trace);
    uint32_t picked = pick_but(balancer, 0, &trace);
    char expected[128];
    sprintf(expected,
            "target \"t%u\" takes its turn of \"g\" (weight 1, unhealthy; no target is healthy, so all take part)",
            picked);
    assert_string_equal(trace.entries[trace.size - 1].text, expected);
    gw_trace_dispose(&trace);
    routing_balancer_destroy(balancer);
    free(group);
}

/* ---- weighted choice between groups ---- */

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 32);
}

static void weighted_choice_follows_the_weights(void **state)
{
    static const uint32_t weights[] = {1, 9, 40, 0, 950};
    enum { N = 5, DRAWS = 1000000 };
    uint64_t random = 42;
    unsigned counts[N] = {0};
    double chi_square = 0;
    for (unsigned i = 0; i != DRAWS; ++i)
        ++counts[routing_weighted_choice(weights, N, next_random(&random))];
    assert_int_equal(counts[3], 0);
    for (unsigned i = 0; i != N; ++i) {
        double expected = DRAWS * (weights[i] / 1000.0);
        if (weights[i] != 0)
            chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi_square < 16.27); /* 3 degrees of freedom, p = 0.001 */
}

static void weighted_choice_uses_both_ends_of_the_random_range(void **state)
{
    static const uint32_t weights[] = {1, 1}, one[] = {0, 7, 0}, zeros[] = {0, 0};
    assert_int_equal(routing_weighted_choice(weights, 2, 0), 0);
    assert_int_equal(routing_weighted_choice(weights, 2, UINT32_MAX / 2), 0);
    assert_int_equal(routing_weighted_choice(weights, 2, UINT32_MAX / 2 + 1), 1);
    assert_int_equal(routing_weighted_choice(weights, 2, UINT32_MAX), 1);
    assert_int_equal(routing_weighted_choice(one, 3, 0), 1);
    assert_int_equal(routing_weighted_choice(one, 3, UINT32_MAX), 1);
    assert_int_equal(routing_weighted_choice(zeros, 2, 5), ROUTING_NO_TARGET);
    assert_int_equal(routing_weighted_choice(NULL, 0, 5), ROUTING_NO_TARGET);
}

/* spec/alb.md vector 16: what is drawn does not depend on health, so there is no failover */
static void group_of_weight_zero_is_never_drawn(void **state)
{
    static const uint32_t weights[] = {1, 0};
    uint64_t random = 1;
    for (unsigned i = 0; i != 10000; ++i)
        assert_int_equal(routing_weighted_choice(weights, 2, next_random(&random)), 0);
}

static void drained_target_gets_nothing_until_it_is_enabled_again(void **state)
{
    unsigned counts[MAX_TARGETS];
    struct group *group = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    routing_health_set_drain(&group->health[1], true);
    count_picks(balancer, 100, counts);
    assert_int_equal(counts[0], 50);
    assert_int_equal(counts[1], 0);
    assert_int_equal(counts[2], 50);
    routing_health_set_drain(&group->health[1], false);
    count_picks(balancer, 300, counts);
    assert_in_range(counts[1], 99, 101);
    routing_balancer_destroy(balancer);
    free(group);
}

/* An operator's word is final: draining every target is an outage on purpose, not a reason to fail open. */
static void drained_targets_take_no_part_in_failing_open(void **state)
{
    struct group *group = group_of(NULL, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    routing_health_set_drain(&group->health[0], true);
    set_state(group, 1, ROUTING_HEALTH_UNHEALTHY);
    for (unsigned i = 0; i != 10; ++i)
        assert_int_equal(pick(balancer), 1);
    routing_health_set_drain(&group->health[1], true);
    assert_int_equal(pick(balancer), ROUTING_NO_TARGET);
    routing_health_set_drain(&group->health[0], false);
    assert_int_equal(pick(balancer), 0);
    routing_balancer_destroy(balancer);
    free(group);
}

static void removed_targets_are_asked_only_when_nobody_else_is_fit(void **state)
{
    struct group *group = group_of(NULL, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    routing_health_set_removed(&group->health[0], true);
    assert_int_equal(routing_health_state(&group->health[0]), ROUTING_HEALTH_DRAINING);
    for (unsigned i = 0; i != 10; ++i)
        assert_int_equal(pick(balancer), 1);
    routing_health_set_weight(&group->health[0], 7); /* an operator's word leaves it removed */
    routing_health_set_removed(&group->health[1], true);
    assert_int_not_equal(pick(balancer), ROUTING_NO_TARGET);
    routing_health_set_removed(&group->health[0], false);
    for (unsigned i = 0; i != 10; ++i)
        assert_int_equal(pick(balancer), 0);
    routing_balancer_destroy(balancer);
    free(group);
}

static void weight_set_while_serving_changes_the_shares(void **state)
{
    static const unsigned weights[] = {1, 1, 2};
    unsigned counts[MAX_TARGETS];
    struct group *group = group_of(weights, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    count_picks(balancer, 40, counts);
    routing_health_set_weight(&group->health[0], 5);
    count_picks(balancer, 8, counts); /* turns planned before are taken as planned */
    count_picks(balancer, 800, counts);
    assert_in_range(counts[0], 498, 502);
    assert_in_range(counts[1], 99, 101);
    assert_in_range(counts[2], 198, 202);
    routing_health_set_weight(&group->health[0], 0);
    count_picks(balancer, 300, counts);
    assert_int_equal(counts[0], 0);
    assert_in_range(counts[1], 99, 101);
    routing_health_set_weight(&group->health[0], -1); /* as configured */
    count_picks(balancer, 8, counts);
    count_picks(balancer, 400, counts);
    assert_in_range(counts[0], 99, 101);
    routing_balancer_destroy(balancer);
    free(group);
}

static void weight_above_a_configured_zero_brings_a_target_in(void **state)
{
    static const unsigned weights[] = {1, 0};
    unsigned counts[MAX_TARGETS];
    struct group *group = group_of(weights, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    count_picks(balancer, 10, counts);
    assert_int_equal(counts[1], 0);
    routing_health_set_weight(&group->health[1], 3);
    count_picks(balancer, 400, counts);
    assert_in_range(counts[1], 297, 303);
    routing_balancer_destroy(balancer);
    free(group);
}

static void weight_set_by_an_operator_lives_through_a_reload(void **state)
{
    static const unsigned weights[] = {1, 1};
    unsigned counts[MAX_TARGETS];
    struct group *group = group_of(weights, 2);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    struct routing_target_group again = group->group;
    routing_health_set_weight(&group->health[1], 3);
    routing_balancer_rebind(balancer, &again);
    count_picks(balancer, 8, counts);
    count_picks(balancer, 400, counts);
    assert_in_range(counts[1], 298, 302);
    routing_balancer_destroy(balancer);
    free(group);
}

static void trace_names_the_operator_s_word(void **state)
{
    struct group *group = group_of(NULL, 3);
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 0);
    struct gw_trace trace;
    gw_trace_init(&trace);
    routing_health_set_drain(&group->health[0], true);
    routing_health_set_weight(&group->health[1], 0);
    routing_health_set_weight(&group->health[2], 7);
    assert_int_equal(pick_but(balancer, 0, &trace), 2);
    assert_int_equal(trace.size, 3);
    assert_non_null(strstr(trace.entries[0].text, "drained by an operator"));
    assert_non_null(strstr(trace.entries[1].text, "weight 0, set by an operator"));
    assert_non_null(strstr(trace.entries[2].text, "weight 7 set by an operator"));
    gw_trace_dispose(&trace);
    routing_balancer_destroy(balancer);
    free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_targets_take_turns),
        cmocka_unit_test(seed_moves_the_first_turn),
        cmocka_unit_test(shares_are_exact_over_each_period),
        cmocka_unit_test(turns_of_a_target_are_spread_evenly),
        cmocka_unit_test(unhealthy_target_gets_nothing_and_the_others_keep_their_shares),
        cmocka_unit_test(recovered_target_is_not_flooded),
        cmocka_unit_test(unchecked_targets_take_traffic_and_initial_ones_wait),
        cmocka_unit_test(all_take_traffic_when_none_is_healthy),
        cmocka_unit_test(group_without_usable_target_gives_none),
        cmocka_unit_test(excluded_targets_are_passed_over_and_keep_their_turn),
        cmocka_unit_test(exclusion_of_every_healthy_target_does_not_open_to_the_unhealthy),
        cmocka_unit_test(targets_beyond_64_cannot_be_excluded),
        cmocka_unit_test(thousand_targets_share_exactly_while_some_come_and_go),
        cmocka_unit_test(last_target_of_a_large_group_is_found_at_once_when_the_others_fail),
        cmocka_unit_test(rotation_goes_on_after_a_reload_without_changes),
        cmocka_unit_test(new_targets_and_weights_count_after_a_reload),
        cmocka_unit_test(rotation_survives_the_wrap_of_virtual_time),
        cmocka_unit_test(trace_says_who_lost_and_who_won),
        cmocka_unit_test(weighted_choice_follows_the_weights),
        cmocka_unit_test(weighted_choice_uses_both_ends_of_the_random_range),
        cmocka_unit_test(group_of_weight_zero_is_never_drawn),
        cmocka_unit_test(drained_target_gets_nothing_until_it_is_enabled_again),
        cmocka_unit_test(drained_targets_take_no_part_in_failing_open),
        cmocka_unit_test(removed_targets_are_asked_only_when_nobody_else_is_fit),
        cmocka_unit_test(weight_set_while_serving_changes_the_shares),
        cmocka_unit_test(weight_above_a_configured_zero_brings_a_target_in),
        cmocka_unit_test(weight_set_by_an_operator_lives_through_a_reload),
        cmocka_unit_test(trace_names_the_operator_s_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
