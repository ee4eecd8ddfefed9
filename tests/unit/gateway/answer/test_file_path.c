#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o/string_.h>
#include "gateway/answer/file_path.h"

static h2o_mem_pool_t pool;

static int init_pool(void **state)
{
    h2o_mem_init_pool(&pool);
    return 0;
}
static int clear_pool(void **state)
{
    h2o_mem_clear_pool(&pool);
    return 0;
}

static h2o_iovec_t text(const char *s) { return s != NULL ? h2o_iovec_init(s, strlen(s)) : h2o_iovec_init(NULL, 0); }

/* "(none)" when no file can have that name */
static const char *path_of(const char *url_path, const char *prefix)
{
    h2o_iovec_t path = gw_file_path(&pool, text(url_path), text(prefix));
    return path.base != NULL ? path.base : "(none)";
}

static void paths_become_names_below_the_root(void **state)
{
    assert_string_equal(path_of("/", NULL), "");
    assert_string_equal(path_of("/a/b.html", NULL), "a/b.html");
    assert_string_equal(path_of("/a/", NULL), "a/");
    assert_string_equal(path_of("//a//b", NULL), "a//b");
    assert_string_equal(path_of("/a%20b", NULL), "a b");
    assert_string_equal(path_of("/%C3%A4", NULL), "\xc3\xa4");
    assert_string_equal(path_of("/100%25", NULL), "100%");
    assert_string_equal(path_of("/%252e%252e/x", NULL), "%2e%2e/x");
    assert_string_equal(path_of("/a\\b", NULL), "a\\b");
    assert_string_equal(path_of("/...", NULL), "...");
    assert_string_equal(path_of("/.hidden", NULL), ".hidden");
}

static void no_name_leaves_the_root_or_hides_a_slash(void **state)
{
    static const char *const paths[] = {
        "/a%2Fb", "/a%2fb", "/..%2Fetc/passwd", "/a%00b",    "/%2e%2e/x", "/..",  "/../x", "/a/../b", "/a/..",
        "/./a",   "/a/.",   "/%2E%2e",          "/a/%2e./b", "/a%",       "/a%2", "/a%zz", "/%2e",    "/a/./"};
    for (size_t i = 0; i != sizeof(paths) / sizeof(paths[0]); ++i)
        assert_string_equal(path_of(paths[i], NULL), "(none)");
}

static void prefixes_are_stripped_by_whole_segments(void **state)
{
    assert_string_equal(path_of("/static/a.css", "/static"), "a.css");
    assert_string_equal(path_of("/static/a.css", "/static/"), "a.css");
    assert_string_equal(path_of("/static", "/static"), "");
    assert_string_equal(path_of("/static/", "/static"), "");
    assert_string_equal(path_of("/statics", "/static"), "(none)");
    assert_string_equal(path_of("/other", "/static"), "(none)");
    assert_string_equal(path_of("/stat", "/static"), "(none)");
    assert_string_equal(path_of("/a", "/"), "a");
    assert_string_equal(path_of("/a", ""), "a");
}

static void names_longer_than_the_system_takes_are_none(void **state)
{
    char *path = malloc(PATH_MAX + 2);
    memset(path, 'a', PATH_MAX + 1);
    path[0] = '/';
    path[PATH_MAX + 1] = '\0';
    assert_string_equal(path_of(path, NULL), "(none)");
    free(path);
}

static const char *redirect_of(const char *path, const char *query)
{
    h2o_iovec_t location = gw_file_redirect(&pool, text(path), text(query));
    return h2o_strdup(&pool, location.base, location.len).base;
}

static void redirects_add_the_slash_and_keep_the_query(void **state)
{
    assert_string_equal(redirect_of("/a", NULL), "/a/");
    assert_string_equal(redirect_of("/a", "x=1&y"), "/a/?x=1&y");
    assert_string_equal(redirect_of("/a", ""), "/a/?");
    assert_string_equal(redirect_of("/a%20b", NULL), "/a%20b/");
}

static void redirects_never_name_another_host(void **state)
{
    assert_string_equal(redirect_of("//evil.example", NULL), "/evil.example/");
    assert_string_equal(redirect_of("////evil.example/x", NULL), "/evil.example/x/");
    assert_string_equal(redirect_of("/\\evil.example", NULL), "/%5Cevil.example/");
}

/* ---- opening: a root with links of every kind, beside a secret ---- */

static char base[PATH_MAX];
static int root;

static void write_file(const char *name, const char *content)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    assert_int_not_equal(fd, -1);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    close(fd);
}
static void link_to(const char *target, const char *name)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(symlink(target, path), 0);
}
static void make_folder(const char *name)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static int make_tree(void **state)
{
    char path[PATH_MAX + 64];
    init_pool(state);
    snprintf(base, sizeof(base), "%s/weir-files-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(base));
    make_folder("root");
    make_folder("root/sub");
    write_file("secret", "secret");
    write_file("root/a", "a");
    write_file("root/sub/b", "b");
    link_to("a", "root/inside");
    link_to("sub", "root/subdir");
    link_to("../secret", "root/outside");
    link_to("/etc/passwd", "root/absolute");
    link_to("..", "root/up");
    link_to("loop", "root/loop");
    link_to("/proc/self/root", "root/magic");
    snprintf(path, sizeof(path), "%s/root/fifo", base);
    assert_int_equal(mkfifo(path, 0644), 0);
    snprintf(path, sizeof(path), "%s/root", base);
    root = open(path, O_PATH | O_DIRECTORY);
    return root == -1;
}
static int remove_tree(void **state)
{
    char command[PATH_MAX + 16];
    close(root);
    clear_pool(state);
    snprintf(command, sizeof(command), "rm -rf '%s'", base);
    return system(command);
}

/* The first byte of the file, or the negated errno. */
static int first_byte(const char *path, bool use_openat2)
{
    char byte = 0;
    int fd = gw_file_open(root, path, use_openat2);
    if (fd == -1)
        return -errno;
    ssize_t n = read(fd, &byte, 1);
    int error = errno;
    close(fd);
    return n == 1 ? byte : n == 0 ? 0 : -error;
}

static void files_below_the_root_are_opened(void **state)
{
    for (int use_openat2 = 0; use_openat2 != 2; ++use_openat2) {
        assert_int_equal(first_byte("a", use_openat2), 'a');
        assert_int_equal(first_byte("sub/b", use_openat2), 'b');
        assert_int_equal(first_byte("sub//b", use_openat2), 'b');
        assert_int_equal(first_byte("nothing", use_openat2), -ENOENT);
        assert_int_equal(first_byte("a/b", use_openat2), -ENOTDIR);
        assert_int_equal(first_byte("a/", use_openat2), -ENOTDIR);
        assert_int_equal(first_byte("", use_openat2), -EISDIR);
        assert_int_equal(first_byte("sub", use_openat2), -EISDIR);
        assert_int_equal(first_byte("sub/", use_openat2), -EISDIR);
    }
}

static void links_are_followed_inside_the_root_where_the_kernel_guards_it(void **state)
{
    if (!gw_file_has_openat2())
        skip();
    assert_int_equal(first_byte("inside", true), 'a');
    assert_int_equal(first_byte("subdir/b", true), 'b');
    assert_int_equal(first_byte("inside", false), -ELOOP);
    assert_int_equal(first_byte("subdir/b", false), -ENOTDIR);
}

static void links_never_lead_outside(void **state)
{
    static const char *const paths[] = {"outside",          "absolute",  "up/secret",       "loop",
                                        "magic/etc/passwd", "../secret", "sub/../../secret"};
    for (size_t i = 0; i != sizeof(paths) / sizeof(paths[0]); ++i)
        assert_true(first_byte(paths[i], gw_file_has_openat2()) < 0);
    for (size_t i = 0; i != 5; ++i) /* the walk is given no dots: gw_file_path refuses them */
        assert_true(first_byte(paths[i], false) < 0);
}

static void a_fifo_does_not_block(void **state)
{
    assert_int_equal(first_byte("fifo", gw_file_has_openat2()), 0);
    assert_int_equal(first_byte("fifo", false), 0);
}

static void over_long_names_are_an_error(void **state)
{
    char name[NAME_MAX + 10];
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(first_byte(name, gw_file_has_openat2()), -ENAMETOOLONG);
    assert_int_equal(first_byte(name, false), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest names[] = {
        cmocka_unit_test_setup_teardown(paths_become_names_below_the_root, init_pool, clear_pool),
        cmocka_unit_test_setup_teardown(no_name_leaves_the_root_or_hides_a_slash, init_pool, clear_pool),
        cmocka_unit_test_setup_teardown(prefixes_are_stripped_by_whole_segments, init_pool, clear_pool),
        cmocka_unit_test_setup_teardown(names_longer_than_the_system_takes_are_none, init_pool, clear_pool),
        cmocka_unit_test_setup_teardown(redirects_add_the_slash_and_keep_the_query, init_pool, clear_pool),
        cmocka_unit_test_setup_teardown(redirects_never_name_another_host, init_pool, clear_pool),
    };
    const struct CMUnitTest opening[] = {
        cmocka_unit_test(files_below_the_root_are_opened),
        cmocka_unit_test(links_are_followed_inside_the_root_where_the_kernel_guards_it),
        cmocka_unit_test(links_never_lead_outside),
        cmocka_unit_test(a_fifo_does_not_block),
        cmocka_unit_test(over_long_names_are_an_error),
    };
    int failed = cmocka_run_group_tests(names, NULL, NULL);
    return failed + cmocka_run_group_tests(opening, make_tree, remove_tree);
}
