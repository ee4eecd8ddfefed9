#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/kept_files.h"
#include "gateway/base/yaml.h"
#include "tests/unit/base/findings.h"

static char folder[64];

static int enter_folder(void **state)
{
    strcpy(folder, "/tmp/weir-kept-XXXXXX");
    return mkdtemp(folder) == NULL || chdir(folder) != 0;
}
static int leave_folder(void **state)
{
    char command[100];
    snprintf(command, sizeof(command), "cd / && rm -rf '%s'", folder);
    return chdir("/") != 0 || system(command) != 0;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    fputs(text, file);
    fclose(file);
}

/* Out of one process and into another. */
static struct gw_kept_files *pass_on(struct gw_kept_files *kept)
{
    int fd = gw_kept_files_write(kept);
    assert_true(fd != -1);
    gw_kept_files_destroy(kept);
    kept = gw_kept_files_read(fd);
    close(fd);
    return kept;
}

static void what_was_kept_is_found_by_its_path(void **state)
{
    struct gw_kept_files *kept = gw_kept_files_create();
    assert_false(gw_kept_files_is_source(kept));
    assert_false(gw_kept_files_is_source(NULL));
    gw_kept_files_add(kept, "a",
                      h2o_iovec_init(H2O_STRLIT("1\0"
                                                "2")));
    gw_kept_files_add(kept, "empty", h2o_iovec_init(NULL, 0));
    gw_kept_files_add(kept, "a", h2o_iovec_init(H2O_STRLIT("again")));
    for (int i = 0; i != 100; ++i) {
        char path[16];
        gw_kept_files_add(kept, path, h2o_iovec_init(path, (size_t)sprintf(path, "many/%d", i)));
    }
    assert_non_null(kept = pass_on(kept));
    assert_true(gw_kept_files_is_source(kept));
    assert_int_equal(gw_kept_files_get(kept, "a")->len, 3);
    assert_memory_equal(gw_kept_files_get(kept, "a")->base,
                        "1\0"
                        "2",
                        3);
    assert_int_equal(gw_kept_files_get(kept, "empty")->len, 0);
    assert_memory_equal(gw_kept_files_get(kept, "many/99")->base, "many/99", 7);
    assert_null(gw_kept_files_get(kept, "many"));
    gw_kept_files_destroy(kept);
}

static void damaged_bytes_are_refused(void **state)
{
    struct gw_kept_files *kept = gw_kept_files_create();
    gw_kept_files_add(kept, "path", h2o_iovec_init(H2O_STRLIT("bytes")));
    int fd = gw_kept_files_write(kept);
    off_t size = lseek(fd, 0, SEEK_END);
    gw_kept_files_destroy(kept);
    for (off_t cut = 0; cut != size; ++cut) {
        assert_int_equal(ftruncate(fd, cut), 0);
        assert_null(gw_kept_files_read(fd));
        assert_int_equal(ftruncate(fd, size), 0);               /* the rest is zeros now */
        assert_true(cut > 8 || gw_kept_files_read(fd) == NULL); /* 8: the first byte of the size */
        close(fd);
        kept = gw_kept_files_create();
        gw_kept_files_add(kept, "path", h2o_iovec_init(H2O_STRLIT("bytes")));
        fd = gw_kept_files_write(kept);
        gw_kept_files_destroy(kept);
    }
    close(fd);
}

static const char *text_of(const struct gw_node *map, const char *key)
{
    const struct gw_node *node = gw_node_get(map, key);
    assert_non_null(node);
    return node->text.base;
}

static const struct gw_node *load(h2o_mem_pool_t *pool, struct gw_kept_files *kept, size_t num_errors)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    errors.kept = kept;
    const struct gw_node *root = gw_yaml_load_file(pool, "main.yaml", NULL, &errors);
    assert_int_equal(errors.num_errors, num_errors);
    gw_errors_dispose(&errors);
    return root;
}

static void a_configuration_is_read_again_when_its_files_are_gone(void **state)
{
    h2o_mem_pool_t pool;
    struct gw_kept_files *kept = gw_kept_files_create();
    h2o_mem_init_pool(&pool);
    write_file("main.yaml", "include: [more.yaml, 'conf.d/*.yaml']\nsecret: ${file:secret}\n");
    write_file("more.yaml", "a: 1\n");
    assert_int_equal(system("mkdir conf.d"), 0);
    write_file("conf.d/1.yaml", "b: 2\n");
    write_file("conf.d/2.yaml", "c: 3\n");
    write_file("secret", "hush\n");
    assert_non_null(load(&pool, kept, 0));

    assert_non_null(kept = pass_on(kept));
    unlink("more.yaml");
    unlink("secret");
    unlink("conf.d/2.yaml");
    write_file("main.yaml", "[");
    write_file("conf.d/1.yaml", "b: changed\n");
    write_file("conf.d/3.yaml", "d: new\n");
    const struct gw_node *root = load(&pool, kept, 0);
    assert_non_null(root);
    assert_string_equal(text_of(root, "a"), "1");
    assert_string_equal(text_of(root, "b"), "2");
    assert_string_equal(text_of(root, "c"), "3");
    assert_string_equal(text_of(root, "secret"), "hush");
    assert_true(gw_node_get(root, "secret")->is_secret);
    assert_null(gw_node_get(root, "d"));
    gw_kept_files_destroy(kept);
    h2o_mem_clear_pool(&pool);
}

static void a_file_that_was_not_kept_is_an_error_even_if_it_is_there(void **state)
{
    h2o_mem_pool_t pool;
    struct gw_kept_files *kept = gw_kept_files_create();
    h2o_mem_init_pool(&pool);
    write_file("main.yaml", "a: 1\n");
    gw_kept_files_add(kept, "other.yaml", h2o_iovec_init(H2O_STRLIT("a: 1\n")));
    assert_non_null(kept = pass_on(kept));
    assert_null(load(&pool, kept, 1));
    gw_kept_files_destroy(kept);
    h2o_mem_clear_pool(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_found_by_its_path),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test_setup_teardown(a_configuration_is_read_again_when_its_files_are_gone, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(a_file_that_was_not_kept_is_an_error_even_if_it_is_there, enter_folder,
                                        leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
