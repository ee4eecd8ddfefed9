/* The table against a matcher so plain that it can be read in one go: thousands of random route sets, a hundred
 * thousand requests, the same winner each time. */
#include <stdlib.h>
#include "tests/unit/routing/load.h"
#include "routing/table.h"

enum { NUM_SETS = 2500, REQUESTS_PER_SET = 48, MAX_ROUTES = 60, MAX_VALUES = 12 };

static uint64_t random_state;

static unsigned draw(unsigned below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((random_state >> 33) % below);
}

static bool chance(unsigned percent) { return draw(100) < percent; }

static const char *pick_text(const char *const *texts)
{
    unsigned n = 0;
    while (texts[n] != NULL)
        ++n;
    return texts[draw(n)];
}

/* ---- random routes ---- */

static const struct gw_node somewhere = {.kind = GW_NODE_MAP, .file = "t.yaml", .line = 1, .column = 1};

static const char *const host_patterns[] = {
    "a.com", "b.com",   "A.COM",  "x.a.com",   "y.a.com", "x.y.a.com", "*.a.com",     "*.b.com",   "*.com",
    "*",     "a.*",     "*a.com", "x.*.com",   "?.com",   "x?.com",    "api-*.a.com", "*.y.a.com", "*-1.a.com",
    "**",    "\\*.com", "[::1]",  "localhost", "*.A.com", "api-*",     "x.a.c?m",     "*.x.*",     NULL};
static const char *const hosts[] = {
    "a.com",  "b.com",       "x.a.com",     "y.a.com", "x.y.a.com", "z.a.com", "c.com",
    "ba.com", "api-1.a.com", "api-2.a.com", "a.org",   "x.q.com",   "[::1]",   "localhost",
    "",       "xa.com",      "a.y.a.com",   "*.com",   "api-",      "q.x.z",   NULL};
static const char *const methods[] = {"GET", "POST", "PUT", NULL};
static const char *const listeners[] = {"http", "https", "admin", NULL};
static const char *const header_names[] = {"X-A", "x-b", "cookie", NULL};
static const char *const header_patterns[] = {"1", "2*", "*", "*x*", "?", "A", NULL};
static const char *const values[] = {"1", "2", "22", "x", "axb", "a", "", "A1", NULL};
static const char *const query_keys[] = {"q", "R", "*", "d*", NULL};
static const char *const regexes[] = {"^/a", "^/a/.*b$", "b$", "^/(a|b)/", "/img/", "^/a+/b", "[0-9]+", "^/ab?c", NULL};
static const char *const networks[] = {"10.0.0.0/8", "10.1.0.0/16", "192.168.1.1", "2001:db8::/32", "0.0.0.0/0", NULL};
static const char *const peers[] = {"10.1.2.3", "10.2.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "::1", NULL};
static const char *const segments[] = {"a", "b", "ab", "abc", "img", "1", "22", "", "x.png", "api", NULL};

/* A path of up to four segments; as a pattern, pieces may be wildcards. */
static char *make_path(h2o_mem_pool_t *pool, bool is_glob)
{
    char text[128] = "";
    unsigned n = 1 + draw(4);
    for (unsigned i = 0; i != n; ++i) {
        strcat(text, is_glob && i == 0 && chance(10) ? "*" : "/");
        strcat(text, is_glob && chance(20) ? "*" : pick_text(segments));
        if (is_glob && chance(15))
            strcat(text, chance(50) ? "*" : chance(50) ? "?" : "\\*");
        else if (chance(5))
            strcat(text, "*");
    }
    return h2o_strdup(pool, text, strlen(text)).base;
}

static void add_text(h2o_mem_pool_t *pool, struct gw_texts *texts, const char *text)
{
    if (texts->entries == NULL) {
        texts->entries = h2o_mem_alloc_pool(pool, MAX_VALUES * sizeof(*texts->entries));
        texts->at = h2o_mem_alloc_pool(pool, MAX_VALUES * sizeof(*texts->at));
    }
    if (texts->size == MAX_VALUES)
        return;
    texts->at[texts->size] = &somewhere;
    texts->entries[texts->size++] = text_of(text);
}

static void add_texts(h2o_mem_pool_t *pool, struct gw_texts *texts, unsigned percent, const char *const *from)
{
    if (!chance(percent))
        return;
    for (unsigned n = chance(8) ? 7 + draw(6) : 1 + draw(2); n != 0; --n)
        add_text(pool, texts, pick_text(from));
}

static void add_paths(h2o_mem_pool_t *pool, struct routing_match_conf *match)
{
    if (chance(15))
        return;
    for (unsigned n = chance(8) ? 7 + draw(6) : 1 + draw(2); n != 0; --n) {
        switch (draw(8)) {
        case 0:
        case 1:
        case 2:
            add_text(pool, &match->path, make_path(pool, true));
            break;
        case 3:
        case 4:
            add_text(pool, &match->path_exact, make_path(pool, false));
            break;
        case 5:
        case 6:
            add_text(pool, &match->path_prefix, make_path(pool, false));
            break;
        case 7:
            add_text(pool, &match->path_regex, pick_text(regexes));
            break;
        }
    }
}

static void add_pairs(h2o_mem_pool_t *pool, struct routing_pairs_conf *pairs, unsigned percent,
                      const char *const *names)
{
    if (!chance(percent))
        return;
    pairs->entries = h2o_mem_alloc_pool(pool, 2 * sizeof(*pairs->entries));
    for (unsigned n = 1 + draw(2); n != 0; --n) {
        struct routing_pair_conf *pair = pairs->entries + pairs->size++;
        *pair = (struct routing_pair_conf){.name = text_of(pick_text(names)), .at = &somewhere};
        add_texts(pool, &pair->values, 100, header_patterns);
    }
}

static void add_networks(h2o_mem_pool_t *pool, struct gw_cidrs *cidrs)
{
    if (!chance(8))
        return;
    cidrs->entries = h2o_mem_alloc_pool(pool, 2 * sizeof(*cidrs->entries));
    for (unsigned n = 1 + draw(2); n != 0; --n)
        assert_true(gw_cidr_parse(text_of(pick_text(networks)), cidrs->entries + cidrs->size++));
}

static struct routing_route_conf *make_route(h2o_mem_pool_t *pool, size_t index)
{
    struct routing_route_conf *route = h2o_mem_alloc_pool(pool, sizeof(*route));
    char name[16];
    *route = (struct routing_route_conf){.at = &somewhere, .echo = true};
    route->name = h2o_strdup(pool, name, (size_t)sprintf(name, "route-%zu", index + 1));
    route->match.at = &somewhere;
    route->priority = chance(20) ? 1 + draw(5) : 0;
    add_texts(pool, &route->match.host, 80, host_patterns);
    add_paths(pool, &route->match);
    add_texts(pool, &route->match.listener, 10, listeners);
    add_texts(pool, &route->match.method, 15, methods);
    add_pairs(pool, &route->match.header, 12, header_names);
    add_pairs(pool, &route->match.query, 12, query_keys);
    add_networks(pool, &route->match.source_ip);
    return route;
}

/* ---- random requests ---- */

static void make_request(h2o_mem_pool_t *pool, struct routing_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    facts->listener = draw(3);
    facts->method = text_of(pick_text(methods));
    facts->host = text_of(pick_text(hosts));
    facts->path = facts->raw_path = text_of(chance(2) ? "*" : make_path(pool, false)); /* "*": OPTIONS */
    if (chance(60)) {
        char query[128] = "";
        for (unsigned n = draw(4); n != 0; --n)
            sprintf(query + strlen(query), "%s%s%s%s", query[0] != '\0' ? "&" : "",
                    chance(50)   ? "q"
                    : chance(50) ? "r"
                                 : "dx",
                    chance(80) ? "=" : "", chance(80) ? pick_text(values) : "");
        facts->query = h2o_strdup(pool, query, strlen(query));
    }
    h2o_headers_t headers = {NULL};
    for (unsigned n = draw(4); n != 0; --n) {
        static const char *const names[] = {"x-a", "x-b", "cookie", "accept", NULL};
        const char *name = pick_text(names), *value = pick_text(values);
        h2o_add_header_by_str(pool, &headers, name, strlen(name), 1, NULL, value, strlen(value));
    }
    facts->headers = headers.entries;
    facts->num_headers = headers.size;
    assert_true(gw_ip_parse(text_of(pick_text(peers)), &facts->peer_ip));
    facts->client_ip = facts->peer_ip;
}

/* ---- the plain matcher ---- */

static char fold(char c, bool nocase) { return nocase && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static bool plain_glob(const char *p, const char *p_end, const char *t, const char *t_end, bool nocase)
{
    if (p == p_end)
        return t == t_end;
    if (*p == '*')
        return plain_glob(p + 1, p_end, t, t_end, nocase) || (t != t_end && plain_glob(p, p_end, t + 1, t_end, nocase));
    if (t == t_end)
        return false;
    if (*p == '?')
        return plain_glob(p + 1, p_end, t + 1, t_end, nocase);
    if (*p == '\\' && p + 1 != p_end && strchr("*?\\", p[1]) != NULL)
        ++p;
    return fold(*p, nocase) == fold(*t, nocase) && plain_glob(p + 1, p_end, t + 1, t_end, nocase);
}

static bool globs_take(const struct gw_texts *globs, h2o_iovec_t text, bool nocase)
{
    for (size_t i = 0; i != globs->size; ++i)
        if (plain_glob(globs->entries[i].base, globs->entries[i].base + globs->entries[i].len, text.base,
                       text.base + text.len, nocase))
            return true;
    return false;
}

static bool texts_have(const struct gw_texts *texts, h2o_iovec_t text)
{
    for (size_t i = 0; i != texts->size; ++i)
        if (h2o_memis(texts->entries[i].base, texts->entries[i].len, text.base, text.len))
            return true;
    return false;
}

static bool plain_prefix(h2o_iovec_t prefix, h2o_iovec_t path)
{
    if (path.len < prefix.len || memcmp(path.base, prefix.base, prefix.len) != 0)
        return false;
    return path.len == prefix.len || prefix.base[prefix.len - 1] == '/' || path.base[prefix.len] == '/';
}

static bool plain_path(const struct routing_match_conf *match, h2o_iovec_t path)
{
    if (match->path.size + match->path_exact.size + match->path_prefix.size + match->path_regex.size == 0)
        return true;
    if (globs_take(&match->path, path, false) || texts_have(&match->path_exact, path))
        return true;
    for (size_t i = 0; i != match->path_prefix.size; ++i)
        if (plain_prefix(match->path_prefix.entries[i], path))
            return true;
    for (size_t i = 0; i != match->path_regex.size; ++i) {
        char why[256];
        struct gw_regex *regex = gw_regex_create(match->path_regex.entries[i], false, why, sizeof(why));
        bool takes = gw_regex_search(regex, path, NULL);
        gw_regex_destroy(regex);
        if (takes)
            return true;
    }
    return false;
}

static bool plain_header(const struct routing_pair_conf *pair, const struct routing_facts *facts)
{
    for (size_t i = 0; i != facts->num_headers; ++i)
        if (facts->headers[i].name->len == pair->name.len &&
            strncasecmp(facts->headers[i].name->base, pair->name.base, pair->name.len) == 0 &&
            globs_take(&pair->values, facts->headers[i].value, true))
            return true;
    return false;
}

static bool plain_query(const struct routing_pair_conf *pair, h2o_iovec_t query)
{
    char text[256], *rest = text, *part;
    snprintf(text, sizeof(text), "%.*s", (int)query.len, query.base != NULL ? query.base : "");
    while ((part = strsep(&rest, "&")) != NULL) {
        char *value = strchr(part, '=');
        if (*part == '\0')
            continue;
        h2o_iovec_t key = h2o_iovec_init(part, value != NULL ? (size_t)(value - part) : strlen(part));
        struct gw_texts name = {(h2o_iovec_t *)&pair->name, 1};
        if (globs_take(&name, key, true) && globs_take(&pair->values, text_of(value != NULL ? value + 1 : ""), true))
            return true;
    }
    return false;
}

static bool plain_route(const struct routing_match_conf *match, const struct routing_facts *facts)
{
    if (match->host.size != 0 && !globs_take(&match->host, facts->host, true))
        return false;
    if (!plain_path(match, facts->path))
        return false;
    if (match->listener.size != 0 && !texts_have(&match->listener, text_of(listeners[facts->listener])))
        return false;
    if (match->method.size != 0 && !texts_have(&match->method, facts->method))
        return false;
    for (size_t i = 0; i != match->header.size; ++i)
        if (!plain_header(match->header.entries + i, facts))
            return false;
    for (size_t i = 0; i != match->query.size; ++i)
        if (facts->query.base == NULL || !plain_query(match->query.entries + i, facts->query))
            return false;
    return match->source_ip.size == 0 || gw_cidrs_contain(&match->source_ip, &facts->peer_ip);
}

/* The winner: lowest priority, among these the first; routes without priority after all that have one. */
static const struct routing_route_conf *plain_match(const struct gw_list *routes, const struct routing_facts *facts)
{
    const struct routing_route_conf *best = NULL;
    for (size_t i = 0; i != routes->size; ++i) {
        const struct routing_route_conf *route = routes->entries[i];
        if (plain_route(&route->match, facts) &&
            (best == NULL || (route->priority != 0 && (best->priority == 0 || route->priority < best->priority))))
            best = route;
    }
    return best;
}

/* ---- the properties ---- */

static void assert_same(const struct routing_table *table, const struct gw_list *routes, struct gw_errors *errors)
{
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    for (unsigned i = 0; i != REQUESTS_PER_SET; ++i) {
        struct routing_facts facts;
        char dead[64];
        make_request(&pool, &facts);
        const struct routing_route *found = routing_table_match(table, &facts, NULL);
        const struct routing_route_conf *expected = plain_match(routes, &facts);
        if ((found != NULL ? found->conf : NULL) != expected)
            fail_msg("%.*s%.*s: %s instead of %s", (int)facts.host.len, facts.host.base, (int)facts.path.len,
                     facts.path.base, found != NULL ? found->conf->name.base : "none",
                     expected != NULL ? expected->name.base : "none");
        if (chance(10)) {
            struct gw_trace trace;
            gw_trace_init(&trace);
            assert_ptr_equal(routing_table_match(table, &facts, &trace), found);
            assert_in_range(trace.size, 1, 52);
            gw_trace_dispose(&trace);
        }
        for (size_t j = 0; found != NULL && facts.path.base[0] == '/' && j != errors->size; ++j) {
            snprintf(dead, sizeof(dead), "route \"%s\" is never reached", found->conf->name.base);
            if (strncmp(errors->entries[j].text, dead, strlen(dead)) == 0)
                fail_msg("%s, but it took %.*s%.*s", errors->entries[j].text, (int)facts.host.len, facts.host.base,
                         (int)facts.path.len, facts.path.base);
        }
    }
    h2o_mem_clear_pool(&pool);
}

static void table_and_plain_matcher_agree_and_unreachable_routes_never_win(void **state)
{
    h2o_iovec_t names[3];
    size_t warnings = 0;
    for (size_t i = 0; i != 3; ++i)
        names[i] = text_of(listeners[i]);
    for (unsigned set = 0; set != NUM_SETS; ++set) {
        h2o_mem_pool_t pool;
        void *entries[MAX_ROUTES];
        struct gw_list routes = {entries};
        struct gw_errors errors;

        random_state = set;
        h2o_mem_init_pool(&pool);
        gw_errors_init(&errors);
        routes.size = chance(50) ? draw(8) : draw(MAX_ROUTES);
        for (size_t i = 0; i != routes.size; ++i)
            entries[i] = make_route(&pool, i);
        struct routing_table *table = routing_table_create(&routes, names, 3, &errors);
        assert_non_null(table);
        assert_int_equal(errors.num_errors, 0);
        assert_int_equal(routing_table_size(table), routes.size);
        warnings += errors.size;
        assert_same(table, &routes, &errors);
        routing_table_destroy(table);
        gw_errors_dispose(&errors);
        h2o_mem_clear_pool(&pool);
    }
    assert_true(warnings > NUM_SETS / 2); /* else the second property would say little */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_and_plain_matcher_agree_and_unreachable_routes_never_win),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
