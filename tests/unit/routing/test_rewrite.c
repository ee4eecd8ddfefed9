#include "tests/unit/routing/load.h"
#include "routing/rewrite.h"

/* The target made by `path` -> `to` for a path and a query (NULL: none): "" unchanged, "!" failed. */
static const char *rewrite(const char *regex, const char *to, const char *path, const char *query)
{
    static char text[70000];
    bool is_url = *regex == '@'; /* on the whole URL */
    h2o_iovec_t expression = text_of(regex + is_url);
    struct routing_rewrite_conf conf = {.to = text_of(to)};
    struct gw_errors errors;
    h2o_mem_pool_t pool;
    h2o_iovec_t target = text_of("as it was");
    *(is_url ? &conf.url : &conf.path) = expression;

    gw_errors_init(&errors);
    h2o_mem_init_pool(&pool);
    struct routing_rewrite *compiled = routing_rewrite_create(&conf, &errors);
    assert_non_null(compiled);
    assert_int_equal(errors.size, 0);
    switch (routing_rewrite_apply(compiled, &pool, text_of(path),
                                  query != NULL ? text_of(query) : (h2o_iovec_t){NULL, 0}, &target)) {
    case ROUTING_REWRITE_UNCHANGED:
        assert_text(target, "as it was");
        strcpy(text, "");
        break;
    case ROUTING_REWRITE_FAILED:
        assert_text(target, "as it was");
        strcpy(text, "!");
        break;
    case ROUTING_REWRITE_CHANGED:
        memcpy(text, target.base, target.len);
        text[target.len] = '\0';
        break;
    }
    routing_rewrite_destroy(compiled);
    h2o_mem_clear_pool(&pool);
    gw_errors_dispose(&errors);
    return text;
}

/* The Host made by `host_regex` -> `host`: "" unchanged, "!" failed. */
static const char *rewrite_host(const char *regex, const char *to, const char *host)
{
    static char text[1000];
    struct routing_rewrite_conf conf = {.host_regex = {(char *)regex, regex != NULL ? strlen(regex) : 0},
                                        .host = text_of(to)};
    struct gw_errors errors;
    h2o_mem_pool_t pool;
    h2o_iovec_t made = {NULL, 0};

    gw_errors_init(&errors);
    h2o_mem_init_pool(&pool);
    struct routing_rewrite *compiled = routing_rewrite_create(&conf, &errors);
    assert_non_null(compiled);
    enum routing_rewrite_result result = routing_rewrite_host(compiled, &pool, text_of(host), &made);
    snprintf(text, sizeof(text), "%.*s", (int)made.len, made.base != NULL ? made.base : "");
    if (result != ROUTING_REWRITE_CHANGED)
        strcpy(text, result == ROUTING_REWRITE_FAILED ? "!" : "");
    routing_rewrite_destroy(compiled);
    h2o_mem_clear_pool(&pool);
    gw_errors_dispose(&errors);
    return text;
}

/* spec/alb.md 2.7 */
static void host_is_made_of_the_groups_of_its_expression(void **state)
{
    assert_string_equal(rewrite_host("^mywebsite-(.+).com$", "internal.dev.$1.myweb.com", "mywebsite-shop.com"),
                        "internal.dev.shop.myweb.com");
    assert_string_equal(rewrite_host("^MyWebsite-(.+).com$", "$1.net", "mywebsite-shop.com"), "shop.net");
    assert_string_equal(rewrite_host("^mywebsite-(.+).com$", "$1.net", "other.com"), "");
    assert_string_equal(rewrite_host("^(x)?.*$", "$1", "y"), "!"); /* nothing is no host */
    assert_string_equal(rewrite_host(NULL, "fixed.example.com:8080", "y"), "fixed.example.com:8080");
}

/* spec/alb.md 2.7 */
static void groups_go_into_the_replacement(void **state)
{
    assert_string_equal(rewrite("^/dp/([A-Za-z0-9]+)/?$", "/product.php?id=$1", "/dp/B09G3HRMW", NULL),
                        "/product.php?id=B09G3HRMW");
    assert_string_equal(rewrite("^/users/(.*)$", "/v2/$1", "/users/7/x", NULL), "/v2/7/x");
    assert_string_equal(rewrite("^/(.)(.)(.)(.)(.)(.)(.)(.)(.)$", "/$9$8$7$6$5$4$3$2$1", "/abcdefghi", NULL),
                        "/ihgfedcba");
    assert_string_equal(rewrite("^/a$", "/x$0", "/a", NULL), "/x/a");
    assert_string_equal(rewrite("^/(a)(b)?$", "/[$1|$2]", "/a", NULL), "/[a|]");
}

/* spec/alb.md 2.7: an ALB's url-rewrite sees path and query */
static void url_is_rewritten_with_its_query(void **state)
{
    assert_string_equal(rewrite("@^/item\\?id=([0-9]+)(&.*)?$", "/items/$1", "/item", "id=7"), "/items/7");
    assert_string_equal(rewrite("@^/item\\?id=([0-9]+)&(.*)$", "/items/$1?$2", "/item", "id=7&a=b"), "/items/7?a=b");
    assert_string_equal(rewrite("@^/old/", "/new/", "/old/x", "a=b"), "/new/x?a=b");
    assert_string_equal(rewrite("@^/old/", "/new/", "/old/x", NULL), "/new/x");
    assert_string_equal(rewrite("@debug=1", "debug=0", "/x", "debug=1"), "/x?debug=0");
    assert_string_equal(rewrite("@^/item\\?", "/other?", "/item", NULL), "");
}

static void path_that_does_not_match_is_unchanged(void **state)
{
    assert_string_equal(rewrite("^/users/", "/v2/", "/other", "q=1"), "");
}

static void only_the_first_match_is_replaced(void **state)
{
    assert_string_equal(rewrite("a", "x", "/banana", NULL), "/bxnana");
    assert_string_equal(rewrite("^/old", "/new", "/old/old", NULL), "/new/old");
    assert_string_equal(rewrite("\\.html$", "", "/a.html", NULL), "/a");
}

static void query_is_kept_unless_the_replacement_has_its_own(void **state)
{
    assert_string_equal(rewrite("^/a$", "/b", "/a", "q=1&r"), "/b?q=1&r");
    assert_string_equal(rewrite("^/a$", "/b", "/a", ""), "/b?");
    assert_string_equal(rewrite("^/a$", "/b?x=y", "/a", "q=1"), "/b?x=y");
    assert_string_equal(rewrite("^/a$", "/b?", "/a", "q=1"), "/b?");
    assert_string_equal(rewrite("^/a", "/b?r=", "/a/c", "q=1"), "/b?r=/c");
}

static void dollar_is_itself_when_doubled_or_alone(void **state)
{
    assert_string_equal(rewrite("^/(a)$", "/$$1$", "/a", NULL), "/$1$");
    assert_string_equal(rewrite("^/(a)$", "/$x$1$$", "/a", NULL), "/$xa$");
    assert_string_equal(rewrite("^/(a)$", "/$1$12", "/a", NULL), "/aa2");
}

static void result_that_is_no_path_fails(void **state)
{
    assert_string_equal(rewrite("^/(.*)$", "$1", "/a", NULL), "!");
    assert_string_equal(rewrite("^/(.*)$", "$1", "/", NULL), "!");
    assert_string_equal(rewrite("^/(.*)$", "/%$1", "/zz", NULL), "!");
    assert_string_equal(rewrite("^/x(.*)$", "/%0$1", "/x0", NULL), "!");
    assert_string_equal(rewrite("^/x(.*)$", "/.$1", "/x./secret", NULL), "!");
}

static void result_is_canonical(void **state)
{
    assert_string_equal(rewrite("^/x(.*)$", "/a/b/.$1", "/x./secret", NULL), "/a/secret");
    assert_string_equal(rewrite("^/x/", "/%7Eu/", "/x/y", NULL), "/~u/y");
}

static void result_that_grows_without_measure_fails(void **state)
{
    static char path[8000], to[1000];
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    strcpy(to, "/");
    for (int i = 0; i != 100; ++i)
        strcat(to, "$1");
    assert_string_equal(rewrite("^/(.*)$", to, path, NULL), "!");
}

static void rewrite_of_the_host_alone_leaves_the_path(void **state)
{
    struct loaded loaded;
    h2o_iovec_t target;
    load(&loaded, "routes: [{rewrite: {host: \"internal.example:8080\"}, echo: true}]\n");
    assert_findings(&loaded, "");
    const struct routing_rewrite_conf *conf = loaded_route(&loaded, 0)->rewrite;
    assert_text(conf->host, "internal.example:8080");
    struct routing_rewrite *compiled = routing_rewrite_create(conf, &loaded.errors);
    assert_int_equal(routing_rewrite_apply(compiled, &loaded.pool, text_of("/a"), text_of("b"), &target),
                     ROUTING_REWRITE_UNCHANGED);
    routing_rewrite_destroy(compiled);
    unload(&loaded);
}

static void bad_rewrites_are_refused(void **state)
{
    assert_refused("routes:\n  - {echo: true, rewrite: {}}\n",
                   "t.yaml:2:27: \"rewrite\" changes nothing (expected path and to, or host)\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {path: a}}\n",
                   "t.yaml:2:27: \"rewrite\" has \"path\" without \"to\"\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {to: a}}\n",
                   "t.yaml:2:27: \"rewrite\" has \"to\" without \"path\"\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {host: a b}}\n",
                   "t.yaml:2:34: \"a b\" is not a host (expected a name or address, with or without a port)\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {path: \"(\", to: a}}\n",
                   "t.yaml:2:34: bad regular expression \"(\": missing closing parenthesis at offset 1\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {path: \"(a)\", to: \"/$2\"}}\n",
                   "t.yaml:2:45: \"to\" uses $2, but \"path\" has 1 group\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {path: \"a\", to: \"/$1\"}}\n",
                   "t.yaml:2:43: \"to\" uses $1, but \"path\" has 0 groups\n");
    assert_refused("routes:\n  - {echo: true, rewrite: {path: \"a\", to: \"/a b\"}}\n",
                   "t.yaml:2:43: control, space, \"#\" and non-ASCII bytes of \"to\" must be percent-encoded\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_is_made_of_the_groups_of_its_expression),
        cmocka_unit_test(url_is_rewritten_with_its_query),
        cmocka_unit_test(groups_go_into_the_replacement),
        cmocka_unit_test(path_that_does_not_match_is_unchanged),
        cmocka_unit_test(only_the_first_match_is_replaced),
        cmocka_unit_test(query_is_kept_unless_the_replacement_has_its_own),
        cmocka_unit_test(dollar_is_itself_when_doubled_or_alone),
        cmocka_unit_test(result_that_is_no_path_fails),
        cmocka_unit_test(result_is_canonical),
        cmocka_unit_test(result_that_grows_without_measure_fails),
        cmocka_unit_test(rewrite_of_the_host_alone_leaves_the_path),
        cmocka_unit_test(bad_rewrites_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
