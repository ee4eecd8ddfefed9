#include "tests/unit/routing/load.h"
#include "routing/redirect.h"

/* http://h:8080/x/y?q=1 unless a test says otherwise */
static struct routing_facts request(void)
{
    return (struct routing_facts){.host = text_of("h"),
                                  .port = 8080,
                                  .path = text_of("/x/y"),
                                  .raw_path = text_of("/x/y"),
                                  .query = text_of("q=1")};
}

/* The Location for the request under `redirect: {...}`; NULL when there is none. Valid until the next call. */
static const char *location(const char *redirect, const struct routing_facts *facts)
{
    static char text[9000];
    char yaml[2048];
    struct loaded loaded;

    snprintf(yaml, sizeof(yaml), "routes: [{redirect: %s}]\n", redirect);
    load(&loaded, yaml);
    assert_findings(&loaded, "");
    h2o_iovec_t made = routing_redirect_location(&loaded.pool, loaded_route(&loaded, 0)->redirect, facts);
    if (made.base != NULL) {
        memcpy(text, made.base, made.len);
        text[made.len] = '\0';
    }
    unload(&loaded);
    return made.base != NULL ? text : NULL;
}

/* spec/alb.md vector 5 */
static void https_redirect_with_new_path_keeps_path_and_query(void **state)
{
    struct routing_facts facts = request();
    facts.port = 80;
    assert_string_equal(
        location("{scheme: https, port: \"443\", path: \"/new/#{path}\", query: \"#{query}\", status: 301}", &facts),
        "https://h:443/new/x/y?q=1");
}

static void parts_that_are_left_out_stay_as_they_were(void **state)
{
    struct routing_facts facts = request();
    assert_string_equal(location("{path: /other}", &facts), "http://h:8080/other?q=1");
    assert_string_equal(location("{host: www.example.com}", &facts), "http://www.example.com:8080/x/y?q=1");
    assert_string_equal(location("{port: 81}", &facts), "http://h:81/x/y?q=1");
    assert_string_equal(location("{path: /other, query: a=b}", &facts), "http://h:8080/other?a=b");
    facts.is_tls = true;
    assert_string_equal(location("{path: /other}", &facts), "https://h:8080/other?q=1");
}

static void a_port_that_is_asked_for_is_written_even_the_default_one(void **state)
{
    struct routing_facts facts = request();
    assert_string_equal(location("{port: 80}", &facts), "http://h:80/x/y?q=1");
    assert_string_equal(location("{port: 443}", &facts), "http://h:443/x/y?q=1");
    assert_string_equal(location("{scheme: https, port: 8443}", &facts), "https://h:8443/x/y?q=1");
    assert_string_equal(location("{scheme: https, port: 443}", &facts), "https://h:443/x/y?q=1");
    assert_string_equal(location("{scheme: https}", &facts), "https://h/x/y?q=1");
    assert_string_equal(location("{scheme: https, port: \"#{port}\"}", &facts), "https://h:8080/x/y?q=1");
}

static void scheme_that_changes_brings_its_default_port(void **state)
{
    struct routing_facts facts = request();
    assert_string_equal(location("{scheme: https}", &facts), "https://h/x/y?q=1");
    facts.is_tls = true;
    assert_string_equal(location("{scheme: http}", &facts), "http://h/x/y?q=1");
    /* not a change: the port stays */
    assert_string_equal(location("{scheme: https, path: /a}", &facts), "https://h:8080/a?q=1");
}

static void every_placeholder_is_filled_in(void **state)
{
    struct routing_facts facts = request();
    assert_string_equal(location("{host: \"www.#{host}.example\", path: \"/#{host}/#{port}/#{path}/z\"}", &facts),
                        "http://www.h.example:8080/h/8080/x/y/z?q=1");
    assert_string_equal(
        location("{path: /p, query: \"#{query}&s=#{protocol}&h=#{host}&p=#{port}&u=#{path}&c=#\"}", &facts),
        "http://h:8080/p?q=1&s=http&h=h&p=8080&u=x/y&c=%23");
    /* the port a placeholder shows is that of the new URL */
    assert_string_equal(location("{scheme: https, port: 8443, path: \"/#{port}\"}", &facts), "https://h:8443/8443?q=1");
}

static void empty_query_leaves_no_question_mark(void **state)
{
    struct routing_facts facts = request();
    facts.query = (h2o_iovec_t){NULL, 0};
    assert_string_equal(location("{path: /a}", &facts), "http://h:8080/a");
    facts.query = text_of("");
    assert_string_equal(location("{path: /a}", &facts), "http://h:8080/a");
    facts.query = text_of("q=1");
    assert_string_equal(location("{path: /a, query: \"\"}", &facts), "http://h:8080/a");
}

static void request_path_is_kept_byte_for_byte(void **state)
{
    struct routing_facts facts = request();
    facts.raw_path = text_of("/%7euser//a%2Fb/;c=1");
    facts.path = text_of("/~user//a%2Fb/;c=1");
    assert_string_equal(location("{port: 81}", &facts), "http://h:81/%7euser//a%2Fb/;c=1?q=1");
    facts.raw_path = text_of("/");
    assert_string_equal(location("{port: 81}", &facts), "http://h:81/?q=1");
}

static void bytes_that_cannot_stand_in_a_url_are_escaped(void **state)
{
    struct routing_facts facts = request();
    facts.raw_path = text_of("/a\"<>\\^`{|}b");
    facts.query = text_of("x=\"<\r\n>");
    assert_string_equal(location("{port: 81}", &facts), "http://h:81/a%22%3C%3E%5C%5E%60%7B%7C%7Db?x=%22%3C%0D%0A%3E");
    facts = request();
    assert_string_equal(location("{path: \"/caf\xc3\xa9 #1\", query: \"a b\"}", &facts),
                        "http://h:8080/caf%C3%A9%20%231?a%20b");
}

static void location_without_host_cannot_lead_to_another_server(void **state)
{
    struct routing_facts facts = request();
    facts.host = text_of("");
    facts.raw_path = text_of("//evil.example/a");
    assert_string_equal(location("{scheme: https}", &facts), "/evil.example/a?q=1");
    assert_string_equal(location("{path: \"//#{path}\"}", &facts), "/evil.example/a?q=1");
    /* with a host of its own it is absolute again */
    assert_string_equal(location("{host: www.example.com, port: 80}", &facts),
                        "http://www.example.com:80//evil.example/a?q=1");
}

static void ipv6_host_is_kept_in_brackets(void **state)
{
    struct routing_facts facts = request();
    facts.host = text_of("[::1]");
    assert_string_equal(location("{scheme: https, port: 8443}", &facts), "https://[::1]:8443/x/y?q=1");
}

static void location_beyond_8_kib_is_not_made(void **state)
{
    struct routing_facts facts = request();
    static char path[9000];
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    size_t fits = 8192 - strlen("http://h:81") - strlen("?q=1");
    facts.raw_path = h2o_iovec_init(path, fits);
    const char *made = location("{port: 81}", &facts);
    assert_non_null(made);
    assert_int_equal(strlen(made), 8192);
    facts.raw_path.len = fits + 1;
    assert_null(location("{port: 81}", &facts));
    /* the '?' of an empty query does not count */
    facts.query = (h2o_iovec_t){NULL, 0};
    facts.raw_path.len = 8192 - strlen("http://h:81");
    made = location("{port: 81}", &facts);
    assert_non_null(made);
    assert_int_equal(strlen(made), 8192);
    facts.raw_path.len += 1;
    assert_null(location("{port: 81}", &facts));
}

static void status_is_302_unless_given(void **state)
{
    struct loaded loaded;
    load(&loaded, "routes: [{redirect: {port: 81}}, {redirect: {port: 81, status: 308}}]\n");
    assert_findings(&loaded, "");
    assert_int_equal(loaded_route(&loaded, 0)->redirect->status, 302);
    assert_int_equal(loaded_route(&loaded, 1)->redirect->status, 308);
    unload(&loaded);
}

static void bad_redirects_are_refused(void **state)
{
    assert_refused(
        "routes:\n  - redirect: {status: 301}\n",
        "t.yaml:2:15: the redirect would lead back to itself (expected another scheme, host, port or path)\n");
    assert_refused(
        "routes:\n  - redirect: {scheme: \"#{protocol}\", host: \"#{host}\", port: \"#{port}\", path: \"/#{path}\"}\n",
        "t.yaml:2:15: the redirect would lead back to itself (expected another scheme, host, port or path)\n");
    assert_refused("routes:\n  - redirect: {scheme: ftp}\n",
                   "t.yaml:2:24: \"scheme\" must be http, https or \"#{protocol}\"\n");
    assert_refused("routes:\n  - redirect: {port: 70000}\n",
                   "t.yaml:2:22: \"port\" must be 1 to 65535 or \"#{port}\"\n");
    assert_refused("routes:\n  - redirect: {port: 0}\n", "t.yaml:2:22: \"port\" must be 1 to 65535 or \"#{port}\"\n");
    assert_refused("routes:\n  - redirect: {port: 4294967377}\n",
                   "t.yaml:2:22: \"port\" must be 1 to 65535 or \"#{port}\"\n");
    assert_refused("routes:\n  - redirect: {path: a}\n",
                   "t.yaml:2:22: \"path\" must start with \"/\" (\"/#{path}\" is the path as it came)\n");
    assert_refused(
        "routes:\n  - redirect: {path: \"/#{user}\"}\n",
        "t.yaml:2:22: unknown placeholder in \"path\" (expected #{protocol} #{host} #{port} #{path} #{query})\n");
    assert_refused("routes:\n  - redirect: {path: \"/#{query}\"}\n",
                   "t.yaml:2:22: \"#{query}\" cannot stand in \"path\"\n");
    assert_refused("routes:\n  - redirect: {host: \"#{path}\"}\n",
                   "t.yaml:2:22: \"#{path}\" cannot stand in \"host\"\n");
    assert_refused("routes:\n  - redirect: {host: \"a.b:81\"}\n",
                   "t.yaml:2:22: \"a.b:81\" is not a host (a port goes into \"port\")\n");
    assert_refused("routes:\n  - redirect: {port: 81, query: \"?a\"}\n",
                   "t.yaml:2:33: \"query\" is written without the \"?\"\n");
    assert_refused("routes:\n  - redirect: {port: 81, status: 304}\n",
                   "t.yaml:2:34: \"status\" must be 301, 302, 303, 307 or 308\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(https_redirect_with_new_path_keeps_path_and_query),
        cmocka_unit_test(parts_that_are_left_out_stay_as_they_were),
        cmocka_unit_test(a_port_that_is_asked_for_is_written_even_the_default_one),
        cmocka_unit_test(scheme_that_changes_brings_its_default_port),
        cmocka_unit_test(every_placeholder_is_filled_in),
        cmocka_unit_test(empty_query_leaves_no_question_mark),
        cmocka_unit_test(request_path_is_kept_byte_for_byte),
        cmocka_unit_test(bytes_that_cannot_stand_in_a_url_are_escaped),
        cmocka_unit_test(location_without_host_cannot_lead_to_another_server),
        cmocka_unit_test(ipv6_host_is_kept_in_brackets),
        cmocka_unit_test(location_beyond_8_kib_is_not_made),
        cmocka_unit_test(status_is_302_unless_given),
        cmocka_unit_test(bad_redirects_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
