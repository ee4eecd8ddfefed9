/* What happens when the supervisor stands still, or others are quicker than it, at a moment that no signal from outside
 * can be sure to meet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gateway/base/wheel.h"
#include "gateway/supervisor/supervisor_upgrade.h"

/* Its process lives as long as this one; its ends of the channels are the test's. */
static struct gw_child *add_child(struct gw_supervisor *supervisor, enum gw_child_state state, int *orders)
{
    struct gw_child *child = calloc(1, sizeof(*child));
    int ends[2], sockets[2];
    pid_t pid, parent = getpid();

    assert_true(gw_channel_create(ends) && gw_channel_create(sockets));
    if ((pid = fork()) == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent)
            pause();
        _exit(0);
    }
    *child = (struct gw_child){.pid = pid, .orders = ends[0], .sockets = sockets[0], .state = state, .legacy.kept = -1};
    *orders = ends[1];
    supervisor->children =
        realloc(supervisor->children, sizeof(*supervisor->children) * (supervisor->num_children + 1));
    return supervisor->children[supervisor->num_children++] = child;
}

/* An upgrade to the binary `to` (NULL: none that could be executed); the active worker has asked for it. */
static void begin(struct gw_supervisor *supervisor, const char *to, int *active_orders, int *next_orders)
{
    static char *argv[] = {"weir", NULL};
    *supervisor = (struct gw_supervisor){.argv = argv, .legacy.kept = -1, .has_served = true};
    supervisor->binary = strdup("/opt/weir");
    supervisor->upgrade.is_running = true;
    supervisor->upgrade.binary = to != NULL ? open(to, O_RDONLY | O_CLOEXEC) : -1;
    supervisor->upgrade.deadline_ms = gw_now_ms() + 3600 * 1000;
    supervisor->active = add_child(supervisor, GW_CHILD_SERVING, active_orders);
    supervisor->next = add_child(supervisor, GW_CHILD_STARTING, next_orders);
    supervisor->next->is_upgrade = true;
    supervisor->upgrade.asked_by = supervisor->active->pid;
}

static void end(struct gw_supervisor *supervisor)
{
    while (supervisor->num_children != 0) {
        kill(supervisor->children[0]->pid, SIGKILL);
        waitpid(supervisor->children[0]->pid, NULL, 0);
        gw_child_forget(supervisor, supervisor->children[0]);
    }
    gw_inventory_close(&supervisor->inventory);
    free(supervisor->children);
    free(supervisor->binary);
}

/* In a process of its own, as it becomes another program: /bin/true here, so its status is 0. */
static int status_of_a_late_look(bool serves)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        static struct gw_supervisor supervisor;
        struct gw_ready ready = {1, 30000, 60000, 3600000, 30000};
        struct gw_packet packet = {.type = GW_REPORT_READY, .text = "9.9.9"};
        int active, next;
        begin(&supervisor, "/bin/true", &active, &next);
        memcpy(packet.numbers, &ready, sizeof(ready));
        if (serves && !gw_channel_send(next, &packet))
            _exit(2);
        supervisor.upgrade.deadline_ms = gw_now_ms();
        gw_supervisor_run_timers(&supervisor);
        _exit(waitpid(supervisor.children[1]->pid, NULL, 0) > 0 ? 3 : 4); /* it was killed */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_worker_that_said_in_time_that_it_serves_is_the_next_one_however_late_that_is_read(void **state)
{
    assert_int_equal(status_of_a_late_look(true), 0);
    assert_int_equal(status_of_a_late_look(false), 3);
}

/* ---- the order of what others can see ---- */

static struct sockaddr_in address;
static volatile sig_atomic_t num_answers, is_open;

/* Runs at the very moment at which a packet is there for whoever asked. */
static void on_answer(int signal)
{
    int before = errno, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    is_open = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    ++num_answers;
    errno = before;
}

static void watch(int fd)
{
    struct sigaction action = {.sa_handler = on_answer};
    sigaction(SIGIO, &action, NULL);
    assert_int_equal(fcntl(fd, F_SETOWN, getpid()), 0);
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC), 0);
}

/* Of the next worker. A port that was free a moment ago may be another process's by now: then the next one. */
static void open_listener(struct gw_supervisor *supervisor)
{
    struct gw_inventory_error error;
    struct gw_inventory_entry *entry = NULL;
    char text[32];

    for (int port = 20000 + getpid() % 10000; entry == NULL && port != 65536; ++port) {
        snprintf(text, sizeof(text), "127.0.0.1:%d", port);
        address = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        entry = gw_inventory_open(&supervisor->inventory, GW_SOCKET_LISTENER, text, 1, true, &error);
    }
    assert_non_null(entry);
}

static void who_hears_that_an_upgrade_failed_finds_its_listeners_closed(void **state)
{
    struct gw_supervisor supervisor;
    struct gw_packet packet;
    int active, next;

    begin(&supervisor, NULL, &active, &next);
    open_listener(&supervisor);
    on_answer(SIGIO);
    assert_true(is_open);
    num_answers = 0;
    watch(active);
    gw_supervisor_fail_upgrade(&supervisor, "for a reason");
    assert_int_equal(num_answers, 1);
    assert_false(is_open);
    assert_int_equal(gw_channel_receive(active, false, &packet), GW_CHANNEL_PACKET);
    assert_int_equal(packet.type, GW_ORDER_UPGRADED);
    assert_int_equal(packet.numbers[0], 0);
    assert_string_equal(packet.text, "for a reason");
    signal(SIGIO, SIG_DFL);
    close(active);
    close(next);
    end(&supervisor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_said_in_time_that_it_serves_is_the_next_one_however_late_that_is_read),
        cmocka_unit_test(who_hears_that_an_upgrade_failed_finds_its_listeners_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
