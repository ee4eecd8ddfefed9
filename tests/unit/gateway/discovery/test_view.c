#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/discovery/view.h"
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/sticky.h"
#include "gateway/upstream/transport.h"
#include "gateway/worker.h"

enum { STATIC, DYNAMIC, NUM_GROUPS, NUM_WORKERS = 2, MAX_ENDPOINTS = 4 };

/* A snapshot with a group that changes and one that does not, as two threads see it. */
struct scene {
    struct gw_snapshot snapshot;
    struct routing_target_group_conf conf;
    struct routing_target_group groups[NUM_GROUPS];
    struct routing_balancer *balancers[(NUM_WORKERS + 1) * NUM_GROUPS];
    struct gw_worker workers[NUM_WORKERS];
    struct gw_endpoint_entry endpoints[MAX_ENDPOINTS];
    struct routing_target_load load;
    h2o_mem_pool_t pool;
};

static const char *const names[] = {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"};

static int set_up(void **state)
{
    struct scene *s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);
    memset(s, 0, sizeof(*s));
    s->conf.algorithm.type = ROUTING_ROUND_ROBIN;
    for (uint32_t i = 0; i != NUM_GROUPS; ++i)
        s->groups[i] = (struct routing_target_group){.conf = &s->conf, .index = i};
    s->groups[DYNAMIC].dynamic = gw_dynamic_create();
    for (unsigned i = 0; i != (NUM_WORKERS + 1) * NUM_GROUPS; ++i)
        s->balancers[i] = routing_balancer_create(&s->groups[i % NUM_GROUPS], 0);
    for (unsigned i = 0; i != NUM_WORKERS; ++i)
        s->workers[i].thread.index = i;
    for (unsigned i = 0; i != MAX_ENDPOINTS; ++i) {
        s->endpoints[i].refs = 1; /* of the registry of this test */
        s->endpoints[i].endpoint.name = h2o_iovec_init(names[i], strlen(names[i]));
        routing_health_init(&s->endpoints[i].health, false);
    }
    s->snapshot = (struct gw_snapshot){.groups = s->groups,
                                       .num_groups = NUM_GROUPS,
                                       .num_workers = NUM_WORKERS,
                                       .balancers = s->balancers,
                                       .views = calloc((NUM_WORKERS + 1) * NUM_GROUPS, sizeof(struct gw_view *))};
    h2o_mem_init_pool(&s->pool);
    *state = s;
    return 0;
}

/* Whatever was held by lists, views and requests has been let go of. */
static int tear_down(void **state)
{
    struct scene *s = *state;
    gw_views_destroy(&s->snapshot);
    for (unsigned i = 0; i != MAX_ENDPOINTS; ++i)
        assert_int_equal(gw_endpoint_refs(&s->endpoints[i]), 1);
    for (unsigned i = 0; i != (NUM_WORKERS + 1) * NUM_GROUPS; ++i)
        routing_balancer_destroy(s->balancers[i]);
    h2o_mem_clear_pool(&s->pool);
    free(s);
    return 0;
}

/* The control thread publishes the endpoints whose digits are in the text: "023". */
static void publish(struct scene *s, const char *which)
{
    struct gw_members *members = gw_members_create((uint32_t)strlen(which));
    for (uint32_t i = 0; i != members->size; ++i) {
        struct gw_endpoint_entry *entry = &s->endpoints[which[i] - '0'];
        gw_endpoint_hold(entry);
        members->targets[i] =
            (struct routing_target){.name = entry->endpoint.name,
                                    .weight = 1,
                                    .health = &entry->health,
                                    .load = &s->load,
                                    .endpoint = &entry->endpoint,
                                    .transport = gw_transport_create(true, NULL, h2o_iovec_init(NULL, 0), 0)};
    }
    gw_members_publish(&s->groups[DYNAMIC], members);
}

static const struct routing_target_group *now(struct scene *s, unsigned worker)
{
    return gw_view_now(&s->snapshot, worker, &s->groups[DYNAMIC]);
}

static struct gw_request *request_of(struct scene *s, unsigned worker, int group)
{
    struct gw_request *request = h2o_mem_alloc_pool(&s->pool, sizeof(*request));
    *request = (struct gw_request){.pool = &s->pool,
                                   .worker = &s->workers[worker],
                                   .snapshot = &s->snapshot,
                                   .group = &s->groups[group],
                                   .target = ROUTING_NO_TARGET};
    gw_view_enter(request);
    return request;
}

static struct gw_endpoint_entry *asked(const struct gw_request *request)
{
    return gw_endpoint_entry_of(&request->group->targets[request->target]);
}

/* ---- lists and views ---- */

static void a_group_that_does_not_change_is_its_own_view(void **state)
{
    struct scene *s = *state;
    struct gw_request *request = request_of(s, 0, STATIC);
    assert_ptr_equal(gw_view_now(&s->snapshot, 0, &s->groups[STATIC]), &s->groups[STATIC]);
    assert_ptr_equal(request->group, &s->groups[STATIC]);
    assert_null(request->views);
    gw_view_hold(request->group);
    gw_view_release(request->group);
    gw_view_settle(request);
    assert_ptr_equal(request->group, &s->groups[STATIC]);
}

static void before_the_first_list_there_is_nobody(void **state)
{
    struct scene *s = *state;
    assert_null(gw_members_of(&s->groups[DYNAMIC]));
    assert_int_equal(now(s, 0)->size, 0);
    struct routing_pick pick = {0};
    assert_int_equal(routing_balancer_pick(s->balancers[DYNAMIC], &pick, NULL), ROUTING_NO_TARGET);
}

static void a_view_is_the_same_until_a_list_is_published(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    const struct routing_target_group *first = now(s, 0);
    assert_int_equal(first->size, 2);
    assert_int_equal(first->index, DYNAMIC);
    assert_ptr_equal(gw_view_base(&s->snapshot, first), &s->groups[DYNAMIC]);
    assert_ptr_equal(now(s, 0), first);
    assert_ptr_equal(gw_view_now(&s->snapshot, 0, first), first); /* by itself, too */
    publish(s, "123");
    assert_int_equal(now(s, 0)->size, 3);
}

static void the_balancer_of_a_thread_goes_with_its_view(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    now(s, 1);
    publish(s, "2");
    struct routing_pick pick = {0};
    for (int i = 0; i != 4; ++i)
        assert_in_range(routing_balancer_pick(s->balancers[NUM_GROUPS + DYNAMIC], &pick, NULL), 0, 1);
    now(s, 1);
    for (int i = 0; i != 4; ++i)
        assert_int_equal(routing_balancer_pick(s->balancers[NUM_GROUPS + DYNAMIC], &pick, NULL), 0);
}

static void each_thread_looks_anew_by_itself_and_the_last_frees_a_list(void **state)
{
    struct scene *s = *state;
    publish(s, "0");
    now(s, 0);
    now(s, 1);
    gw_view_of_control(&s->snapshot, &s->groups[DYNAMIC]);
    publish(s, "1");
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 2); /* one list holds it, whoever looks at that */
    assert_ptr_equal(now(s, 0)->targets[0].endpoint, &s->endpoints[1].endpoint);
    assert_ptr_equal(now(s, 1)->targets[0].endpoint, &s->endpoints[1].endpoint);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 2);
    assert_ptr_equal(gw_view_of_control(&s->snapshot, &s->groups[DYNAMIC])->targets[0].endpoint,
                     &s->endpoints[1].endpoint);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 1);
}

static void who_holds_a_view_keeps_its_targets(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    const struct routing_target_group *held = now(s, 0);
    gw_view_hold(held);
    publish(s, "");
    assert_int_equal(now(s, 0)->size, 0);
    assert_int_equal(held->size, 2);
    assert_ptr_equal(held->targets[1].endpoint, &s->endpoints[1].endpoint);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[1]), 2);
    gw_view_release(held);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[1]), 1);
}

/* ---- requests ---- */

static void a_request_keeps_the_view_that_its_target_is_of(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    request->target = 1;
    publish(s, "2");
    now(s, 0);
    assert_ptr_equal(asked(request), &s->endpoints[1]);
    gw_view_enter(request); /* a further try goes by the latest, and the first one's stays */
    assert_ptr_equal(request->group->targets[0].endpoint, &s->endpoints[2].endpoint);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[1]), 2);
    gw_views_leave(request);
    assert_null(request->views);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[1]), 1);
}

static void entering_twice_holds_a_view_once(void **state)
{
    struct scene *s = *state;
    publish(s, "0");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    gw_view_enter(request);
    gw_view_enter(request);
    gw_views_leave(request);
    publish(s, "1");
    now(s, 0);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 1);
}

static void explain_sees_the_latest_and_holds_nothing(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    struct gw_request request = {.pool = &s->pool, .snapshot = &s->snapshot, .group = &s->groups[DYNAMIC]};
    gw_view_enter(&request);
    assert_ptr_equal(request.group, gw_view_of_control(&s->snapshot, &s->groups[DYNAMIC]));
    assert_null(request.views);
}

/* ---- settling ---- */

static void the_latest_view_is_not_settled(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    const struct routing_target_group *view = request->group;
    gw_view_settle(request);
    assert_ptr_equal(request->group, view);
    gw_views_leave(request);
}

static void a_settled_request_keeps_its_target_and_no_list(void **state)
{
    struct scene *s = *state;
    publish(s, "012");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    request->target = 2;
    publish(s, "3");
    now(s, 0);
    gw_view_settle(request);
    assert_int_equal(request->group->size, 1);
    assert_int_equal(request->group->index, DYNAMIC);
    assert_ptr_equal(asked(request), &s->endpoints[2]);
    const struct gw_transport *transport = request->group->targets[request->target].transport;
    assert_true(transport->is_http2);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 1);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[2]), 2);
    gw_view_settle(request); /* once is enough */
    assert_int_equal(gw_endpoint_refs(&s->endpoints[2]), 2);
    gw_view_enter(request); /* a further try goes by the latest */
    assert_ptr_equal(request->group->targets[0].endpoint, &s->endpoints[3].endpoint);
    gw_views_leave(request);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[2]), 1);
}

static void a_request_without_a_target_is_settled_without_one(void **state)
{
    struct scene *s = *state;
    publish(s, "01");
    struct gw_request *none = request_of(s, 0, DYNAMIC), *busy = request_of(s, 0, DYNAMIC);
    busy->target = ROUTING_BUSY_TARGETS;
    publish(s, "2");
    now(s, 0);
    gw_view_settle(none);
    gw_view_settle(busy);
    assert_int_equal(none->target, ROUTING_NO_TARGET);
    assert_int_equal(busy->target, ROUTING_BUSY_TARGETS);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 1);
    gw_views_leave(none);
    gw_views_leave(busy);
}

/* A hedge, a session and a timeline speak of targets, too, each of the view of its time. */
static void all_that_a_settled_request_speaks_of_means_the_same(void **state)
{
    struct scene *s = *state;
    struct gw_exchange exchange = {.request = NULL};
    struct gw_sticky sticky = {.target = 0};
    struct gw_timeline timeline = {.num_attempts = 1};

    publish(s, "012");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    request->exchange = &exchange;
    request->sticky = &sticky;
    request->timeline = &timeline;
    exchange.tries[0] = (struct gw_try){.group = request->group, .target = 1};
    timeline.attempts[0].target = &request->group->targets[1];
    publish(s, "23");
    gw_view_enter(request);
    exchange.tries[1] = (struct gw_try){.group = request->group, .target = 0}; /* endpoint 2, as number 0 by now */
    request->target = 0;
    sticky.target = 1; /* endpoint 3, of request->group */
    exchange.tried_of = request->group;
    publish(s, "");
    now(s, 0);
    gw_view_settle(request);

    assert_ptr_equal(asked(request), &s->endpoints[2]);
    assert_ptr_equal(gw_endpoint_entry_of(&request->group->targets[sticky.target]), &s->endpoints[3]);
    const struct gw_try *tries = exchange.tries;
    assert_ptr_equal(gw_endpoint_entry_of(&tries[0].group->targets[tries[0].target]), &s->endpoints[1]);
    assert_ptr_equal(gw_endpoint_entry_of(&tries[1].group->targets[tries[1].target]), &s->endpoints[2]);
    assert_null(exchange.tried_of); /* its indexes mean nothing any more */
    assert_string_equal(timeline.attempts[0].target->name.base, names[1]);
    assert_int_equal(gw_endpoint_refs(&s->endpoints[0]), 1);
    for (int i = 1; i != 4; ++i)
        assert_int_equal(gw_endpoint_refs(&s->endpoints[i]), 2);
    gw_views_leave(request);
}

static void tries_in_a_group_that_does_not_change_stay(void **state)
{
    struct scene *s = *state;
    struct gw_exchange exchange = {.request = NULL};

    publish(s, "0");
    struct gw_request *request = request_of(s, 0, DYNAMIC);
    request->exchange = &exchange;
    request->target = 0;
    exchange.tries[0] = (struct gw_try){.group = request->group, .target = 0};
    request->group = &s->groups[STATIC]; /* the fallback */
    exchange.tries[1] = (struct gw_try){.group = request->group, .target = 7};
    publish(s, "1");
    now(s, 0);
    gw_view_settle(request);
    assert_ptr_equal(request->group, &s->groups[STATIC]);
    assert_ptr_equal(exchange.tries[1].group, &s->groups[STATIC]);
    assert_int_equal(exchange.tries[1].target, 7);
    assert_ptr_equal(gw_endpoint_entry_of(&exchange.tries[0].group->targets[exchange.tries[0].target]),
                     &s->endpoints[0]);
    gw_views_leave(request);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_group_that_does_not_change_is_its_own_view),
        TEST(before_the_first_list_there_is_nobody),
        TEST(a_view_is_the_same_until_a_list_is_published),
        TEST(the_balancer_of_a_thread_goes_with_its_view),
        TEST(each_thread_looks_anew_by_itself_and_the_last_frees_a_list),
        TEST(who_holds_a_view_keeps_its_targets),
        TEST(a_request_keeps_the_view_that_its_target_is_of),
        TEST(entering_twice_holds_a_view_once),
        TEST(explain_sees_the_latest_and_holds_nothing),
        TEST(the_latest_view_is_not_settled),
        TEST(a_settled_request_keeps_its_target_and_no_list),
        TEST(a_request_without_a_target_is_settled_without_one),
        TEST(all_that_a_settled_request_speaks_of_means_the_same),
        TEST(tries_in_a_group_that_does_not_change_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
