#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "gateway/supervisor/handover.h"

static int listening(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static struct gw_inventory_entry *add_sockets(struct gw_supervisor *supervisor, enum gw_socket_kind kind,
                                              const char *address, unsigned n)
{
    int *fds = malloc(sizeof(*fds) * n);
    for (unsigned i = 0; i != n; ++i)
        fds[i] = listening();
    return gw_inventory_add(&supervisor->inventory, kind, address, fds, n, address == NULL);
}

static struct gw_child *add_child(struct gw_supervisor *supervisor, pid_t pid, enum gw_child_state state)
{
    struct gw_child *child = calloc(1, sizeof(*child));
    int orders[2], sockets[2];
    assert_true(gw_channel_create(orders) && gw_channel_create(sockets));
    close(orders[1]);
    close(sockets[1]);
    *child =
        (struct gw_child){.pid = pid, .orders = orders[0], .sockets = sockets[0], .state = state, .legacy.kept = -1};
    supervisor->children =
        realloc(supervisor->children, sizeof(*supervisor->children) * (supervisor->num_children + 1));
    return supervisor->children[supervisor->num_children++] = child;
}

/* One that has much to leave. */
static void fill(struct gw_supervisor *supervisor)
{
    *supervisor = (struct gw_supervisor){.started_ms = 1700000000123, .restarts = 7, .legacy.kept = -1};
    supervisor->binary = strdup("/opt/a folder/weir");
    supervisor->upgrade.asked_by = 4711;
    strcpy(supervisor->tickets, "0123abcd");
    add_sockets(supervisor, GW_SOCKET_LISTENER, "127.0.0.1:80", 3)->used_by_active = true;
    struct gw_inventory_entry *admin = add_sockets(supervisor, GW_SOCKET_ADMIN, "unix:/run/a folder/admin.sock", 1);
    admin->used_by_active = admin->used_by_next = true;
    admin->dev = 5;
    admin->ino = 1ull << 40;
    add_sockets(supervisor, GW_SOCKET_LISTENER, NULL, 1);
    supervisor->active = add_child(supervisor, 100, GW_CHILD_SERVING);
    supervisor->next = add_child(supervisor, 101, GW_CHILD_SERVING);
    supervisor->next->ready = (struct gw_ready){9, 30000, 60000, 3600000, 30000};
    supervisor->next->legacy = (struct gw_legacy){memfd_create("kept", MFD_CLOEXEC), 12, 34};
    add_child(supervisor, 99, GW_CHILD_DRAINING)->kill_at_ms = 123456789;
}

static void empty(struct gw_supervisor *supervisor)
{
    for (size_t i = 0; i != supervisor->inventory.size; ++i)
        for (unsigned j = 0; j != supervisor->inventory.entries[i]->num_fds; ++j)
            close(supervisor->inventory.entries[i]->fds[j]);
    for (size_t i = 0; i != supervisor->num_children; ++i) {
        close(supervisor->children[i]->orders);
        close(supervisor->children[i]->sockets);
        if (supervisor->children[i]->legacy.kept != -1)
            close(supervisor->children[i]->legacy.kept);
    }
    gw_handover_dispose(supervisor);
}

static void what_was_left_is_taken_over_whole(void **state)
{
    struct gw_supervisor from, to = {0};
    const char *why;
    fill(&from);
    int fd = gw_handover_write(&from);
    assert_true(fd != -1);
    assert_true(gw_handover_read(fd, GW_HANDOVER_TAKEN, &to, &why));

    assert_string_equal(to.binary, from.binary);
    assert_int_equal(to.started_ms, from.started_ms);
    assert_int_equal(to.restarts, 7);
    assert_int_equal(to.upgrade.asked_by, 4711);
    assert_string_equal(to.tickets, "0123abcd");
    assert_int_equal(to.legacy.kept, from.next->legacy.kept);
    assert_int_equal(to.legacy.uid, 12);
    assert_int_equal(to.legacy.gid, 34);
    assert_int_equal(to.inventory.size, 3);
    for (size_t i = 0; i != 3; ++i) {
        const struct gw_inventory_entry *a = from.inventory.entries[i], *b = to.inventory.entries[i];
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->num_fds, b->num_fds);
        assert_memory_equal(a->fds, b->fds, sizeof(int) * a->num_fds);
        assert_int_equal(a->is_activated, b->is_activated);
        assert_int_equal(a->used_by_active, b->used_by_active);
        assert_int_equal(a->used_by_next, b->used_by_next);
        assert_int_equal(a->dev, b->dev);
        assert_int_equal(a->ino, b->ino);
        assert_true(a->address == NULL ? b->address == NULL : strcmp(a->address, b->address) == 0);
    }
    assert_int_equal(to.num_children, 3);
    assert_int_equal(to.active->pid, 100);
    assert_int_equal(to.next->pid, 101);
    assert_int_equal(to.next->orders, from.next->orders);
    assert_memory_equal(&to.next->ready, &from.next->ready, sizeof(to.next->ready));
    assert_int_equal(to.children[2]->state, GW_CHILD_DRAINING);
    assert_int_equal(to.children[2]->kill_at_ms, 123456789);
    close(fd);
    gw_handover_dispose(&to);
    empty(&from);
}

static void descriptors_that_would_not_be_open_are_found_before_it_is_too_late(void **state)
{
    struct gw_supervisor from, to = {0};
    const char *why;
    fill(&from);
    int fd = gw_handover_write(&from);
    assert_false(gw_handover_read(fd, GW_HANDOVER_LEFT, &to, &why));
    gw_handover_dispose(&to);
    assert_true(gw_handover_keep_open(&from, true));
    assert_int_equal(fcntl(from.next->legacy.kept, F_GETFD), 0);
    assert_true(gw_handover_read(fd, GW_HANDOVER_LEFT, &to, &why));
    gw_handover_dispose(&to);
    assert_true(gw_handover_keep_open(&from, false));
    assert_int_equal(fcntl(from.inventory.entries[0]->fds[2], F_GETFD), FD_CLOEXEC);
    close(fd);
    empty(&from);
}

static int file_of(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static bool reads(const char *text, enum gw_handover_check check, const char **why)
{
    struct gw_supervisor to = {0};
    int fd = file_of(text);
    bool ok = gw_handover_read(fd, check, &to, why);
    close(fd);
    gw_handover_dispose(&to);
    return ok;
}

#define HEAD "weir-handover 1\nself 1 2 3 0 /usr/bin/weir\n"

static void lines_and_fields_of_a_newer_version_are_left_out(void **state)
{
    const char *why;
    assert_true(
        reads(HEAD "weather sunny\nchild 5 next 6 7 8 9 10 11 12 13 more fields\nend\n", GW_HANDOVER_SAMPLE, &why));
}

static void what_makes_no_sense_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "weir-handover 2\nself 1 2 3 0 /usr/bin/weir\nend\n",
        "weir-handover 1\nend\n",
        HEAD,
        "weir-handover 1\nself 1 2\nend\n",
        HEAD "entry \nend\n",
        HEAD "entry garage 0 1 1 0 0 5 127.0.0.1:80\nend\n",
        HEAD "entry listener 0 1 1 0 0 5\nend\n",
        HEAD "entry listener 0 1 1 0 0 x 127.0.0.1:80\nend\n",
        HEAD "entry listener 0 1 1 0 0 5,-7 127.0.0.1:80\nend\n",
        HEAD "child 0 next 6 7 8 9 10 11 12 13\nend\n",
        HEAD "child 5 next 6 7\nend\n",
        HEAD "kept x\nend\n",
    };
    const char *why = NULL;
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i) {
        assert_false(reads(texts[i], GW_HANDOVER_SAMPLE, &why));
        assert_non_null(why);
    }
}

static void another_process_does_not_take_it(void **state)
{
    char text[200];
    const char *why;
    snprintf(text, sizeof(text), "weir-handover 1\nself %d 2 3 0 /usr/bin/weir\nend\n", (int)getpid());
    assert_true(reads(text, GW_HANDOVER_TAKEN, &why));
    assert_false(reads(HEAD "end\n", GW_HANDOVER_TAKEN, &why));
    assert_string_equal(why, "it was written by another process");
}

static void a_descriptor_that_does_not_listen_is_refused(void **state)
{
    char text[200];
    const char *why;
    snprintf(text, sizeof(text),
             "weir-handover 1\nself %d 2 3 0 /usr/bin/weir\nentry listener 0 1 1 0 0 0 127.0.0.1:80\nend\n",
             (int)getpid());
    assert_false(reads(text, GW_HANDOVER_TAKEN, &why));
    assert_string_equal(why, "a descriptor is no listening socket");
}

static void deaths_in_the_first_second_are_answered_ever_later(void **state)
{
    static const uint64_t expected[] = {0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    uint64_t delay_ms = 0;
    for (size_t i = 0; i != sizeof(expected) / sizeof(expected[0]); ++i)
        assert_int_equal(gw_supervisor_back_off(&delay_ms, 10), expected[i]);
    assert_int_equal(gw_supervisor_back_off(&delay_ms, 1000), 0); /* it has lived */
    assert_int_equal(gw_supervisor_back_off(&delay_ms, 999), 100);
    assert_int_equal(gw_supervisor_back_off(&delay_ms, 999), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_left_is_taken_over_whole),
        cmocka_unit_test(descriptors_that_would_not_be_open_are_found_before_it_is_too_late),
        cmocka_unit_test(lines_and_fields_of_a_newer_version_are_left_out),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(another_process_does_not_take_it),
        cmocka_unit_test(a_descriptor_that_does_not_listen_is_refused),
        cmocka_unit_test(deaths_in_the_first_second_are_answered_ever_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
