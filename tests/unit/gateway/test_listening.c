#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/listening.h"

/* A process of one thread whose configuration has one listener of protocol udp, on a port that the kernel chooses. */
struct fixture {
    struct gw_process process;
    struct gw_listener_conf conf;
    struct gw_snapshot_listener listener;
    struct gw_snapshot with, without; /* the listener */
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    struct gw_listening *listening; /* of the first load */
    int fd;
};

static void load(struct fixture *f, struct gw_snapshot *snapshot, struct gw_listening_set *set)
{
    f->process.reload_running = true;
    assert_true(gw_listening_open(&f->process, snapshot, set, &f->errors));
}

static void publish(struct fixture *f, struct gw_snapshot *snapshot, struct gw_listening_set *set)
{
    snapshot->generation = ++f->process.generation;
    f->process.active = snapshot;
    gw_listening_commit(&f->process, set);
    free(set->entries);
    f->process.reload_running = false;
    gw_listening_sweep(&f->process);
}

static void reload(struct fixture *f, struct gw_snapshot *snapshot)
{
    struct gw_listening_set set;
    load(f, snapshot, &set);
    publish(f, snapshot, &set);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct gw_address *address;
    const char *why;

    h2o_mem_init_pool(&f->pool);
    gw_errors_init(&f->errors);
    pthread_mutex_init(&f->process.lock, NULL);
    f->process.num_workers = 1;
    address = h2o_mem_alloc_pool(&f->pool, sizeof(*address));
    assert_true(gw_address_parse(&f->pool, h2o_iovec_init(H2O_STRLIT("127.0.0.1:1")), false, address, &why));
    ((struct sockaddr_in *)&address->sa)->sin_port = 0;
    f->conf.protocol = GW_LISTENER_UDP;
    f->conf.address.entries = address;
    f->conf.address.size = 1;
    f->listener.conf = &f->conf;
    f->with.listeners = &f->listener;
    f->with.num_listeners = 1;
    reload(f, &f->with);
    assert_int_equal(f->process.listening.size, 1);
    f->listening = f->process.listening.entries[0];
    f->fd = f->listening->fds[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->process.listening.size != 0) {
        reload(f, &f->without);
        if (f->process.listening.size != 0)
            gw_listening_let_go(&f->process, f->process.listening.entries[0],
                                f->process.listening.entries[0]->unnamed_at);
    }
    free(f->process.listening.entries);
    pthread_mutex_destroy(&f->process.lock);
    gw_errors_dispose(&f->errors);
    h2o_mem_clear_pool(&f->pool);
    free(f);
    return 0;
}

static bool is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

static void a_removed_udp_listener_is_closed_when_every_thread_has_let_go(void **state)
{
    struct fixture *f = *state;

    reload(f, &f->without);
    assert_int_equal(f->process.listening.size, 1); /* its flows go on */
    assert_true(is_open(f->fd));
    gw_listening_let_go(&f->process, f->listening, f->process.generation);
    assert_int_equal(f->process.listening.size, 0);
    assert_false(is_open(f->fd));
}

static void what_a_load_has_found_is_not_closed_under_it(void **state)
{
    struct fixture *f = *state;
    struct gw_listening_set set;

    reload(f, &f->without);
    load(f, &f->with, &set); /* in a thread of its own, while the last word of a worker comes */
    assert_ptr_equal(set.entries[0], f->listening);
    gw_listening_let_go(&f->process, f->listening, f->process.generation);
    publish(f, &f->with, &set);
    assert_int_equal(f->process.listening.size, 1);
    assert_ptr_equal(f->process.listening.entries[0], f->listening);
    assert_int_equal(f->listening->listener, 0);
    assert_true(is_open(f->fd));
}

static void what_was_let_go_during_a_load_that_fails_is_closed_after_it(void **state)
{
    struct fixture *f = *state;
    struct gw_listening_set set;

    reload(f, &f->without);
    load(f, &f->with, &set);
    gw_listening_let_go(&f->process, f->listening, f->process.generation);
    gw_listening_abandon(&f->process, &set);
    assert_true(is_open(f->fd));
    f->process.reload_running = false;
    gw_listening_sweep(&f->process);
    assert_int_equal(f->process.listening.size, 0);
    assert_false(is_open(f->fd));
}

static void a_late_word_about_a_listener_that_is_named_again_changes_nothing(void **state)
{
    struct fixture *f = *state;

    reload(f, &f->without);
    reload(f, &f->with);
    gw_listening_let_go(&f->process, f->listening, f->process.generation - 1);
    assert_int_equal(f->process.listening.size, 1);
    assert_true(is_open(f->fd));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_removed_udp_listener_is_closed_when_every_thread_has_let_go, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_load_has_found_is_not_closed_under_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_let_go_during_a_load_that_fails_is_closed_after_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_word_about_a_listener_that_is_named_again_changes_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
