#include "gateway/lambda/lambda_check.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/lambda/lambda_call.h"
#include "gateway/lambda/lambda_event.h"

/* The texts live in the pool: the configuration that they come from may go first. */
struct lambda_check {
    struct gw_check_kind super;
    h2o_mem_pool_t pool;
    struct routing_lambda_conf conf;
    struct routing_lambda_sign_conf sign;
    h2o_iovec_t host;
    h2o_iovec_t event; /* owned */
    struct gw_lambda_reply reply;
};

static struct lambda_check *check_from(const struct gw_check_kind *super)
{
    return H2O_STRUCT_FROM_MEMBER(struct lambda_check, super, (struct gw_check_kind *)super);
}

static void ask(struct gw_check_kind *super, h2o_mem_pool_t *pool, const struct gw_transport *transport,
                struct gw_client_request *request)
{
    struct lambda_check *self = check_from(super);
    struct gw_lambda_call *call = h2o_mem_alloc_pool(pool, sizeof(*call));

    gw_lambda_call_fill(call, pool, &self->conf, self->host, transport, self->event);
    *request = call->out;
}

static void on_head(struct gw_check_kind *super, const struct gw_response_head *head)
{
    struct lambda_check *self = check_from(super);
    gw_lambda_reply_dispose(&self->reply);
    gw_lambda_reply_begin(&self->reply, head);
}

static bool on_body(struct gw_check_kind *super, h2o_iovec_t bytes)
{
    return gw_lambda_reply_add(&check_from(super)->reply, bytes);
}

static int judge(struct gw_check_kind *super)
{
    struct lambda_check *self = check_from(super);
    struct gw_lambda_response response;
    h2o_mem_pool_t pool;
    const char *why;
    int status = self->reply.status;

    if (status == 200) {
        h2o_mem_init_pool(&pool);
        bool is_response = !self->reply.is_function_error &&
                           gw_lambda_response_parse(&pool, h2o_iovec_init(self->reply.base, self->reply.size),
                                                    self->conf.multi_value_headers, &response, &why);
        status = is_response ? response.status : 0;
        h2o_mem_clear_pool(&pool);
    } else if (status >= 200 && status < 300) { /* no Invoke call says that, so no matcher shall take it */
        status = 0;
    }
    gw_lambda_reply_dispose(&self->reply);
    return status;
}

static bool is_equal(h2o_iovec_t a, h2o_iovec_t b)
{
    return (a.base == NULL) == (b.base == NULL) && h2o_memis(a.base, a.len, b.base, b.len);
}

/* Path, target group and form of the headers are in the event. */
static bool is_same(const struct gw_check_kind *super, const struct gw_check_kind *super_other)
{
    const struct lambda_check *a = check_from(super), *b = check_from(super_other);

    return is_equal(a->event, b->event) && is_equal(a->conf.function, b->conf.function) &&
           is_equal(a->conf.host, b->conf.host) && is_equal(a->host, b->host) &&
           (a->conf.sign != NULL) == (b->conf.sign != NULL) && is_equal(a->sign.region, b->sign.region) &&
           is_equal(a->sign.access_key, b->sign.access_key) && is_equal(a->sign.secret_key, b->sign.secret_key) &&
           is_equal(a->sign.session_token, b->sign.session_token);
}

static void dispose(struct gw_check_kind *super)
{
    struct lambda_check *self = check_from(super);
    gw_lambda_reply_dispose(&self->reply);
    free(self->event.base);
    h2o_mem_clear_pool(&self->pool);
    free(self);
}

static h2o_iovec_t copy(struct lambda_check *self, h2o_iovec_t s)
{
    return s.base == NULL ? s : h2o_strdup(&self->pool, s.base, s.len);
}

static void copy_conf(struct lambda_check *self, const struct routing_lambda_conf *conf)
{
    self->conf = *conf;
    self->conf.at = NULL;
    self->conf.function = copy(self, conf->function);
    self->conf.host = copy(self, conf->host);
    self->conf.target_group_arn = copy(self, conf->target_group_arn);
    if (conf->sign == NULL)
        return;
    self->sign = (struct routing_lambda_sign_conf){.region = copy(self, conf->sign->region),
                                                   .access_key = copy(self, conf->sign->access_key),
                                                   .secret_key = copy(self, conf->sign->secret_key),
                                                   .session_token = copy(self, conf->sign->session_token)};
    self->conf.sign = &self->sign;
}

static h2o_iovec_t make_event(struct lambda_check *self, const struct routing_target_group *group)
{
    h2o_header_t agent = {.name = (h2o_iovec_t *)&H2O_TOKEN_USER_AGENT->buf,
                          .value = {H2O_STRLIT("ELB-HealthChecker/2.0")}};
    h2o_iovec_t path = group->conf->health_check.path;
    const char *mark = memchr(path.base, '?', path.len);
    size_t len = mark != NULL ? (size_t)(mark - path.base) : path.len;
    struct gw_lambda_request event = {
        .method = {H2O_STRLIT("GET")},
        .path = h2o_iovec_init(path.base, len),
        .query = mark != NULL ? h2o_iovec_init(mark + 1, path.len - len - 1) : h2o_iovec_init(NULL, 0),
        .fields = &agent,
        .num_fields = 1,
        .is_multi_value = self->conf.multi_value_headers,
        .target_group_arn = gw_lambda_target_group_arn(&self->pool, &self->conf, group->name),
    };
    return gw_lambda_event(&event);
}

struct gw_check_kind *gw_lambda_check_create(const struct routing_target_group *group,
                                             const struct routing_target *target)
{
    struct lambda_check *self = h2o_mem_alloc(sizeof(*self));

    memset(self, 0, sizeof(*self));
    self->super = (struct gw_check_kind){ask, on_head, on_body, judge, is_same, dispose};
    h2o_mem_init_pool(&self->pool);
    copy_conf(self, group->conf->lambda);
    self->host = target->address.is_unix ? h2o_iovec_init(H2O_STRLIT("localhost")) : copy(self, target->name);
    self->event = make_event(self, group);
    return &self->super;
}
