#include "gateway/lambda/lambda_call.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/lambda/lambda_event.h"
#include "gateway/lambda/sigv4.h"

static h2o_iovec_t literal(const char *s) { return h2o_iovec_init(s, strlen(s)); }

/* An ARN has colons, which the SDKs encode. */
static h2o_iovec_t invoke_path(h2o_mem_pool_t *pool, h2o_iovec_t function)
{
    h2o_iovec_t name = h2o_iovec_init(h2o_mem_alloc_pool(pool, function.len * 3), 0);
    for (size_t i = 0; i != function.len; ++i) {
        char c = function.base[i];
        if (c == ':' || c == '$') {
            memcpy(name.base + name.len, c == ':' ? "%3A" : "%24", 3);
            name.len += 3;
        } else {
            name.base[name.len++] = c;
        }
    }
    return h2o_concat(pool, literal("/2015-03-31/functions/"), name, literal("/invocations"));
}

static h2o_iovec_t endpoint_host(h2o_mem_pool_t *pool, const struct routing_lambda_conf *conf, h2o_iovec_t default_host)
{
    if (conf->host.base != NULL)
        return conf->host;
    return conf->sign == NULL ? default_host
                              : h2o_concat(pool, literal("lambda."), conf->sign->region, literal(".amazonaws.com"));
}

static void add_field(struct gw_lambda_call *call, size_t name, const char *text, h2o_iovec_t value)
{
    call->names[name] = literal(text);
    call->fields[call->out.num_fields++] = (h2o_header_t){&call->names[name], NULL, value};
}

static void sign(struct gw_lambda_call *call, h2o_mem_pool_t *pool, const struct routing_lambda_sign_conf *conf)
{
    char *date = h2o_mem_alloc_pool(pool, 32), hash[GW_SHA256_HEX];
    time_t now = time(NULL);
    struct tm tm;
    size_t num = 3;

    gmtime_r(&now, &tm);
    strftime(date, 32, "%Y%m%dT%H%M%SZ", &tm);
    gw_sha256_hex(call->out.body, hash);
    h2o_iovec_t fields[5][2] = {{literal("content-type"), literal("application/json")},
                                {literal("host"), call->out.host},
                                {literal("x-amz-date"), literal(date)}};
    if (conf->session_token.base != NULL) {
        fields[num][0] = literal("x-amz-security-token");
        fields[num++][1] = conf->session_token;
        add_field(call, 2, "x-amz-security-token", conf->session_token);
    }
    struct gw_sigv4 request = {.method = call->out.method,
                               .path = call->out.target,
                               .fields = (const h2o_iovec_t(*)[2])fields,
                               .num_fields = num,
                               .body_hash = h2o_iovec_init(hash, sizeof(hash)),
                               .region = conf->region,
                               .service = literal("lambda"),
                               .access_key = conf->access_key,
                               .secret_key = conf->secret_key,
                               .time = date};
    add_field(call, 1, "x-amz-date", literal(date));
    call->fields[call->out.num_fields++] =
        (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_AUTHORIZATION->buf, NULL, gw_sigv4_authorization(pool, &request)};
}

void gw_lambda_call_fill(struct gw_lambda_call *call, h2o_mem_pool_t *pool, const struct routing_lambda_conf *conf,
                         h2o_iovec_t default_host, const struct gw_transport *transport, h2o_iovec_t event)
{
    call->out = (struct gw_client_request){
        .method = literal("POST"),
        .target = invoke_path(pool, conf->function),
        .host = endpoint_host(pool, conf, default_host),
        .fields = call->fields,
        .content_length = event.len,
        .has_body = true,
        .body = event,
        .body_is_whole = true,
        .transport = transport,
    };
    call->fields[call->out.num_fields++] =
        (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_CONTENT_TYPE->buf, NULL, literal("application/json")};
    add_field(call, 0, "x-amz-invocation-type", literal("RequestResponse"));
    if (conf->sign != NULL)
        sign(call, pool, conf->sign);
}

h2o_iovec_t gw_lambda_target_group_arn(h2o_mem_pool_t *pool, const struct routing_lambda_conf *conf, h2o_iovec_t group)
{
    if (conf->target_group_arn.base != NULL)
        return conf->target_group_arn;
    return h2o_concat(pool, literal("arn:aws:elasticloadbalancing:"),
                      conf->sign != NULL ? conf->sign->region : literal("us-east-1"),
                      literal(":000000000000:targetgroup/"), group, literal("/0000000000000000"));
}

/* ---- the reply ---- */

void gw_lambda_reply_begin(struct gw_lambda_reply *reply, const struct gw_response_head *head)
{
    reply->status = head->status;
    for (size_t i = 0; i != head->num_fields; ++i)
        if (h2o_lcstris(head->fields[i].name->base, head->fields[i].name->len, H2O_STRLIT("x-amz-function-error")))
            reply->is_function_error = true;
}

bool gw_lambda_reply_add(struct gw_lambda_reply *reply, h2o_iovec_t bytes)
{
    if (reply->size + bytes.len > GW_LAMBDA_MAX_BYTES)
        return false;
    if (reply->size + bytes.len > reply->room) {
        reply->room = (reply->size + bytes.len) * 2;
        reply->base = h2o_mem_realloc(reply->base, reply->room);
    }
    if (bytes.len != 0)
        memcpy(reply->base + reply->size, bytes.base, bytes.len);
    reply->size += bytes.len;
    return true;
}

void gw_lambda_reply_dispose(struct gw_lambda_reply *reply)
{
    free(reply->base);
    *reply = (struct gw_lambda_reply){0};
}
