#include "gateway/exchange/sticky.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <openssl/rand.h>
#include "gateway/process.h"
#include "routing/sticky.h"

#define NAME(text) h2o_iovec_init(H2O_STRLIT(text))
enum { CONTEXT_MAX = 160 };

/* What a cookie is sealed for: its name, and the group whose targets it is about. AWSALBCORS has the same value as
 * AWSALB. */
static h2o_iovec_t context_of(const struct gw_request *request, const char *cookie, h2o_iovec_t name, char *buf)
{
    int len = snprintf(buf, CONTEXT_MAX, "%s %.*s", cookie, (int)name.len, name.base);
    return h2o_iovec_init(buf, len < CONTEXT_MAX ? len : CONTEXT_MAX - 1);
}

static bool open_cookie(const struct gw_request *request, h2o_iovec_t cookie, h2o_iovec_t context, uint64_t *what)
{
    h2o_iovec_t value;
    return request->snapshot->sticky_keys != NULL && routing_balance_cookie(&request->facts, cookie, &value) &&
           routing_sticky_open(request->snapshot->sticky_keys, context, value, (uint64_t)time(NULL), what);
}

/* ---- the request ---- */

void gw_sticky_begin(struct gw_request *request)
{
    if (request->sticky == NULL)
        request->sticky = h2o_mem_alloc_pool(request->pool, sizeof(*request->sticky));
    *request->sticky = (struct gw_sticky){.target = ROUTING_NO_TARGET,
                                          .group_is_sticky = request->route->num_groups > 1 &&
                                                             request->route->conf->forward->stickiness_ms != 0};
}

/* spec/alb.md 3.4: AWSALBCORS wins. */
static bool find_session(struct gw_request *request, const struct routing_stickiness_conf *conf, uint64_t *what)
{
    char buf[CONTEXT_MAX];
    h2o_iovec_t value;

    if (conf->lb_cookie_ms != 0) {
        h2o_iovec_t context = context_of(request, "AWSALB", request->group->name, buf);
        return open_cookie(request, NAME("AWSALBCORS"), context, what) ||
               open_cookie(request, NAME("AWSALB"), context, what);
    }
    if (conf->app_cookie == NULL || !routing_balance_cookie(&request->facts, conf->app_cookie->name, &value))
        return false;
    request->sticky->has_app_cookie = routing_balance_cookie(&request->facts, NAME("AWSALBAPP-0"), &value);
    return open_cookie(request, NAME("AWSALBAPP-0"), context_of(request, "AWSALBAPP", request->group->name, buf), what);
}

/* Why the client has no session. */
static void explain_none(const struct gw_request *request, const struct routing_stickiness_conf *conf)
{
    h2o_iovec_t value;
    bool is_app = conf->app_cookie != NULL;
    bool has_cookie = is_app ? routing_balance_cookie(&request->facts, NAME("AWSALBAPP-0"), &value)
                             : routing_balance_cookie(&request->facts, NAME("AWSALBCORS"), &value) ||
                                   routing_balance_cookie(&request->facts, NAME("AWSALB"), &value);

    if (conf->source_ip)
        return;
    if (is_app && !routing_balance_cookie(&request->facts, conf->app_cookie->name, &value))
        gw_trace_write(request->trace, "stickiness", conf->at, "no session: the client has no cookie %.*s",
                       (int)conf->app_cookie->name.len, conf->app_cookie->name.base);
    else if (!has_cookie)
        gw_trace_write(request->trace, "stickiness", conf->at, "no session: the client has no cookie %s",
                       is_app ? "AWSALBAPP-0" : "AWSALB or AWSALBCORS");
    else if (request->snapshot->sticky_keys == NULL)
        gw_trace_write(request->trace, "stickiness", conf->at,
                       "the client's cookie cannot be read here: the running gateway has the key");
    else
        gw_trace_write(request->trace, "stickiness", conf->at,
                       "no session: the client's cookie has expired, is of another group or was not made by this key");
}

uint32_t gw_sticky_target(struct gw_request *request)
{
    const struct routing_target_group *group = request->group;
    const struct routing_stickiness_conf *conf = group->conf->stickiness;
    uint64_t what;

    if (conf == NULL)
        return ROUTING_NO_TARGET;
    if (!find_session(request, conf, &what)) {
        if (__builtin_expect(request->trace != NULL, 0))
            explain_none(request, conf);
        return ROUTING_NO_TARGET;
    }
    for (uint32_t i = 0; i != group->size; ++i)
        if (group->targets[i].sticky_id == what)
            return i;
    gw_trace(request->trace, "stickiness", conf->at, "the target of the client's session is gone");
    return ROUTING_NO_TARGET;
}

bool gw_sticky_group(struct gw_request *request, uint32_t *index)
{
    const struct gw_route *route = request->route;
    char buf[CONTEXT_MAX];
    h2o_iovec_t context = context_of(request, "AWSALBTG", route->conf->name, buf), value;
    uint64_t what;

    if (!open_cookie(request, NAME("AWSALBTGCORS"), context, &what) &&
        !open_cookie(request, NAME("AWSALBTG"), context, &what)) {
        /* spec/alb.md 2.3: URL-encoded values are not understood; the log says so */
        if (routing_balance_cookie(&request->facts, NAME("AWSALBTG"), &value) &&
            memchr(value.base, '%', value.len) != NULL)
            request->error = "AWSALBTGCookieInvalid";
        return false;
    }
    for (uint32_t i = 0; i != route->num_groups; ++i)
        if (route->groups[i].group->sticky_id == what && route->weights[i] != 0) {
            *index = i;
            return true;
        }
    return false;
}

/* ---- the response ---- */

static void add_cookie(struct gw_request *request, h2o_headers_t *fields, h2o_iovec_t text)
{
    h2o_add_header(request->pool, fields, H2O_TOKEN_SET_COOKIE, NULL, text.base, text.len);
}

static void seal(struct gw_request *request, h2o_iovec_t context, uint64_t what, uint64_t duration_ms, char *value)
{
    uint8_t nonce[ROUTING_STICKY_NONCE];

    if (RAND_bytes(nonce, sizeof(nonce)) != 1)
        h2o_fatal("no random numbers");
    routing_sticky_seal(request->snapshot->sticky_keys, context, what,
                        (uint64_t)time(NULL) + (duration_ms + 999) / 1000, nonce, value);
}

/* The pair of a name and its twin for other sites. */
static void add_pair(struct gw_request *request, h2o_headers_t *fields, h2o_iovec_t name, h2o_iovec_t twin,
                     const char *value)
{
    uint64_t now_s = (uint64_t)time(NULL);
    bool is_tls = request->facts.is_tls;

    add_cookie(request, fields, routing_sticky_cookie(request->pool, name, value, now_s, false, false));
    add_cookie(request, fields, routing_sticky_cookie(request->pool, twin, value, now_s, true, is_tls));
}

static bool sets_cookie(const h2o_headers_t *fields, h2o_iovec_t name)
{
    for (size_t i = 0; i != fields->size; ++i) {
        const h2o_header_t *field = fields->entries + i;
        if (field->name->len != 10 || strncasecmp(field->name->base, "set-cookie", 10) != 0)
            continue;
        h2o_iovec_t value = field->value;
        while (value.len != 0 && (*value.base == ' ' || *value.base == '\t'))
            value = h2o_iovec_init(value.base + 1, value.len - 1);
        if (value.len > name.len && value.base[name.len] == '=' && memcmp(value.base, name.base, name.len) == 0)
            return true;
    }
    return false;
}

static bool has_origin(const struct gw_request *request)
{
    for (size_t i = 0; i != request->facts.num_headers; ++i)
        if (request->facts.headers[i].name->len == 6 &&
            strncasecmp(request->facts.headers[i].name->base, "origin", 6) == 0)
            return true;
    return false;
}

static void answer_target(struct gw_request *request, h2o_headers_t *fields)
{
    const struct routing_stickiness_conf *conf = request->group->conf->stickiness;
    uint32_t target = request->sticky->target != ROUTING_NO_TARGET ? request->sticky->target : request->target;
    char buf[CONTEXT_MAX], value[ROUTING_STICKY_VALUE];

    if (conf->lb_cookie_ms != 0) {
        seal(request, context_of(request, "AWSALB", request->group->name, buf),
             request->group->targets[target].sticky_id, conf->lb_cookie_ms, value);
        add_pair(request, fields, NAME("AWSALB"), NAME("AWSALBCORS"), value);
        return;
    }
    if (conf->app_cookie == NULL || (!request->sticky->has_app_cookie && !sets_cookie(fields, conf->app_cookie->name)))
        return;
    seal(request, context_of(request, "AWSALBAPP", request->group->name, buf),
         request->group->targets[target].sticky_id, conf->app_cookie->duration_ms, value);
    bool is_cross_site = request->facts.is_tls && has_origin(request);
    add_cookie(request, fields,
               routing_sticky_cookie(request->pool, NAME("AWSALBAPP-0"), value, (uint64_t)time(NULL), is_cross_site,
                                     is_cross_site));
}

void gw_sticky_answer(struct gw_request *request, h2o_headers_t *fields)
{
    char buf[CONTEXT_MAX], value[ROUTING_STICKY_VALUE];

    if (request->snapshot->sticky_keys == NULL)
        return;
    /* retries may have gone elsewhere: the session goes where the answer came from */
    if (request->sticky->target != ROUTING_NO_TARGET && request->sticky->target != request->target &&
        request->attempts > 1)
        request->sticky->target = request->target;
    if (request->group->conf->stickiness != NULL)
        answer_target(request, fields);
    if (!request->sticky->group_is_sticky)
        return;
    for (uint32_t i = 0; i != request->route->num_groups; ++i)
        if (request->route->groups[i].group->index == request->group->index) {
            seal(request, context_of(request, "AWSALBTG", request->route->conf->name, buf), request->group->sticky_id,
                 request->route->conf->forward->stickiness_ms, value);
            add_pair(request, fields, NAME("AWSALBTG"), NAME("AWSALBTGCORS"), value);
        }
}

/* ---- keys ---- */

static bool is_needed(const struct gw_config *config)
{
    for (size_t i = 0; i != config->target_groups.size; ++i) {
        const struct routing_target_group_conf *group = config->target_groups.entries[i].conf;
        if (group->stickiness != NULL && !group->stickiness->source_ip)
            return true;
    }
    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_route_conf *route = config->routes.entries[i];
        if (route->forward != NULL && route->forward->stickiness_ms != 0)
            return true;
    }
    return false;
}

static bool read_key(const char *path, uint8_t *key)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && read(fd, key, GW_STICKY_KEY) == GW_STICKY_KEY;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Under another name first: whoever reads it gets all of it. The first of two processes wins. */
static bool write_key(const char *path, const uint8_t *key)
{
    char temporary[4096 + 32];
    bool ok;

    snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    ok = write(fd, key, GW_STICKY_KEY) == GW_STICKY_KEY && fsync(fd) == 0;
    close(fd);
    ok = ok && (link(temporary, path) == 0 || errno == EEXIST);
    unlink(temporary);
    return ok;
}

static void keep_in_state_dir(uint8_t *key, const struct gw_config *config, struct gw_errors *errors)
{
    char path[4096];

    if (config->state_dir.base == NULL)
        return;
    snprintf(path, sizeof(path), "%s/stickiness.key", config->state_dir.base);
    if (!read_key(path, key) && (!write_key(path, key) || !read_key(path, key)))
        gw_warn_at(errors, gw_setting_at(config->at, "state_dir"),
                   "cannot keep the key of sticky sessions in %s: %s; a restart ends them", path, strerror(errno));
}

struct routing_sticky_keys *gw_sticky_keys_create(struct gw_process *process, const struct gw_config *config,
                                                  struct gw_errors *errors)
{
    h2o_iovec_t own;

    if (!is_needed(config))
        return NULL;
    if (config->stickiness_keys.size != 0)
        return routing_sticky_keys_create(config->stickiness_keys.entries, config->stickiness_keys.size);
    if (process == NULL) /* explain, test: sessions of a running gateway are for its admin API to tell */
        return NULL;
    if (!process->has_sticky_key) {
        if (RAND_bytes(process->sticky_key, GW_STICKY_KEY) != 1)
            h2o_fatal("no random numbers");
        keep_in_state_dir(process->sticky_key, config, errors);
        process->has_sticky_key = true;
    }
    own = h2o_iovec_init(process->sticky_key, GW_STICKY_KEY);
    return routing_sticky_keys_create(&own, 1);
}
