#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/supervisor/inventory.h"

static struct gw_inventory inventory;
static struct gw_inventory_error error;
static char folder[64], admin[96], tcp[32];

static uint16_t port_of(int fd)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.sin_port);
}

/* A listening socket on a port of the kernel's choice, whose address is written to tcp. */
static int listen_somewhere(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    snprintf(tcp, sizeof(tcp), "127.0.0.1:%u", port_of(fd));
    return fd;
}

static int set_up(void **state)
{
    memset(&inventory, 0, sizeof(inventory));
    strcpy(folder, "/tmp/weir-inventory-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(admin, sizeof(admin), "unix:%s/admin.sock", folder);
    close(listen_somewhere()); /* a free port */
    return 0;
}

static int tear_down(void **state)
{
    char command[100];
    gw_inventory_close(&inventory);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static const char *path(void) { return admin + strlen("unix:"); }

static bool is_there(const char *name)
{
    struct stat st;
    return lstat(name, &st) == 0;
}

static int connect_to_tcp(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sa.sin_port = htons((uint16_t)atoi(strchr(tcp, ':') + 1));
    int result = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? 0 : errno;
    close(fd);
    return result;
}

static struct gw_inventory_entry *open_tcp(unsigned count, bool by_next)
{
    return gw_inventory_open(&inventory, GW_SOCKET_LISTENER, tcp, count, by_next, &error);
}

static void an_address_is_opened_once(void **state)
{
    struct gw_inventory_entry *entry = open_tcp(3, true);
    assert_non_null(entry);
    assert_int_equal(entry->num_fds, 3);
    gw_inventory_promote(&inventory);
    assert_ptr_equal(open_tcp(5, true), entry);
    assert_int_equal(entry->num_fds, 3); /* what is there is shared */
    assert_int_equal(inventory.size, 1);
    assert_int_equal(connect_to_tcp(), 0);
}

static void what_only_the_old_worker_used_is_closed_when_the_next_serves(void **state)
{
    assert_non_null(open_tcp(2, true));
    gw_inventory_promote(&inventory);
    assert_int_equal(connect_to_tcp(), 0); /* nobody has said that it goes */
    gw_inventory_promote(&inventory);
    assert_int_equal(connect_to_tcp(), ECONNREFUSED);
    assert_int_equal(inventory.size, 0);
}

static void what_only_the_failed_one_used_is_closed_and_the_rest_stays(void **state)
{
    char first[sizeof(tcp)];
    assert_non_null(open_tcp(2, true));
    gw_inventory_promote(&inventory);
    assert_non_null(open_tcp(2, true)); /* both use it */
    strcpy(first, tcp);
    close(listen_somewhere());
    assert_non_null(open_tcp(2, true)); /* a new one */
    gw_inventory_drop_next(&inventory);
    assert_int_equal(connect_to_tcp(), ECONNREFUSED);
    strcpy(tcp, first);
    assert_int_equal(connect_to_tcp(), 0);
}

static void a_released_socket_stays_as_long_as_the_other_worker_needs_it(void **state)
{
    assert_non_null(open_tcp(1, false));
    assert_non_null(open_tcp(1, true));
    gw_inventory_release(&inventory, GW_SOCKET_LISTENER, tcp, false);
    assert_int_equal(connect_to_tcp(), 0);
    gw_inventory_release(&inventory, GW_SOCKET_ADMIN, tcp, true); /* of another kind */
    assert_int_equal(connect_to_tcp(), 0);
    gw_inventory_release(&inventory, GW_SOCKET_LISTENER, tcp, true);
    assert_int_equal(connect_to_tcp(), ECONNREFUSED);
}

static void a_taken_address_is_an_error(void **state)
{
    int fd = listen_somewhere();
    assert_null(open_tcp(2, true));
    assert_int_equal(error.number, EADDRINUSE);
    assert_string_equal(error.text, "Address already in use");
    assert_int_equal(inventory.size, 0);
    close(fd);
}

static void what_is_no_address_is_an_error(void **state)
{
    static const char *const texts[] = {"", "nowhere", "unix:/tmp/x", "127.0.0.1:99999",
                                        "127.0.0.1:80\nself 1 1 1 1 /bin/sh"};
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i) {
        assert_null(gw_inventory_open(&inventory, GW_SOCKET_LISTENER, texts[i], 1, true, &error));
        assert_true(error.text[0] != '\0');
    }
    assert_null(gw_inventory_open(&inventory, GW_SOCKET_ADMIN, "unix:/tmp/a\nb", 1, true, &error));
    assert_string_equal(error.text, "the address has a control character in it");
}

static struct gw_inventory_entry *open_admin(bool by_next)
{
    return gw_inventory_open(&inventory, GW_SOCKET_ADMIN, admin, 4, by_next, &error);
}

static void the_admin_socket_is_one_for_its_owner_and_goes_with_its_file(void **state)
{
    struct stat st;
    struct gw_inventory_entry *entry = open_admin(false);
    assert_non_null(entry);
    assert_int_equal(entry->num_fds, 1);
    assert_int_equal(lstat(path(), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    gw_inventory_close_listeners(&inventory);
    assert_true(is_there(path())); /* to the very end */
    gw_inventory_close(&inventory);
    assert_false(is_there(path()));
}

static void an_admin_socket_whose_file_was_removed_is_made_anew(void **state)
{
    struct gw_inventory_entry *entry = open_admin(false);
    struct stat before, after;
    assert_int_equal(fstat(entry->fds[0], &before), 0);
    assert_ptr_equal(open_admin(true), entry); /* in place: the same socket */
    assert_int_equal(fstat(entry->fds[0], &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    unlink(path());
    assert_ptr_equal(open_admin(true), entry);
    assert_int_equal(fstat(entry->fds[0], &after), 0);
    assert_true(before.st_ino != after.st_ino);
    assert_true(is_there(path()));
}

static void a_file_in_the_admin_sockets_place_is_left_alone(void **state)
{
    FILE *file;
    assert_non_null(open_admin(false));
    unlink(path());
    file = fopen(path(), "w");
    fclose(file);
    assert_null(open_admin(true));
    assert_string_equal(error.text, "a file that is no socket is in its place");
    assert_int_equal(inventory.size, 1); /* whoever has it keeps it */
    gw_inventory_close(&inventory);
    assert_true(is_there(path()));
}

static void activated_sockets_are_found_by_address_and_kept(void **state)
{
    int *fds = malloc(sizeof(*fds)), fd = fds[0] = listen_somewhere();
    struct gw_inventory_entry *entry = gw_inventory_add(&inventory, GW_SOCKET_LISTENER, NULL, fds, 1, true);
    char text[160];

    gw_inventory_describe(entry, text, sizeof(text));
    assert_string_equal(text, tcp);
    assert_ptr_equal(open_tcp(4, true), entry);
    assert_int_equal(entry->num_fds, 1);
    gw_inventory_promote(&inventory);
    gw_inventory_promote(&inventory); /* no longer named */
    assert_int_equal(inventory.size, 1);
    assert_null(entry->address);
    assert_int_equal(connect_to_tcp(), 0);
    assert_ptr_equal(open_tcp(4, true), entry); /* and back */
    assert_int_equal(entry->fds[0], fd);
}

static void an_activated_socket_file_is_not_ours_to_remove(void **state)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int *fds = malloc(sizeof(*fds));

    fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(sa.sun_path, path());
    assert_int_equal(bind(fds[0], (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fds[0], 1), 0);
    struct gw_inventory_entry *entry = gw_inventory_add(&inventory, GW_SOCKET_LISTENER, NULL, fds, 1, true);
    assert_ptr_equal(open_admin(true), entry);
    assert_int_equal(entry->kind, GW_SOCKET_ADMIN);
    gw_inventory_close(&inventory);
    assert_true(is_there(path()));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_address_is_opened_once),
        TEST(what_only_the_old_worker_used_is_closed_when_the_next_serves),
        TEST(what_only_the_failed_one_used_is_closed_and_the_rest_stays),
        TEST(a_released_socket_stays_as_long_as_the_other_worker_needs_it),
        TEST(a_taken_address_is_an_error),
        TEST(what_is_no_address_is_an_error),
        TEST(the_admin_socket_is_one_for_its_owner_and_goes_with_its_file),
        TEST(an_admin_socket_whose_file_was_removed_is_made_anew),
        TEST(a_file_in_the_admin_sockets_place_is_left_alone),
        TEST(activated_sockets_are_found_by_address_and_kept),
        TEST(an_activated_socket_file_is_not_ours_to_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
