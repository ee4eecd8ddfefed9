#include "gateway/lambda/lambda_event.h"
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include "routing/header_rules.h"

/* ---- the event ---- */

static json_t *text(h2o_iovec_t s) { return json_stringn(s.len != 0 ? s.base : "", s.len); }

/* The last value, or all of them. Takes the value, which may be NULL. */
static bool put(json_t *object, h2o_iovec_t key, json_t *value, bool is_multi)
{
    if (!is_multi)
        return json_object_setn_new(object, key.len != 0 ? key.base : "", key.len, value) == 0;
    json_t *values = json_object_getn(object, key.len != 0 ? key.base : "", key.len);
    if (values == NULL) {
        values = json_array();
        if (json_object_setn_new(object, key.len != 0 ? key.base : "", key.len, values) != 0) {
            json_decref(value);
            return false;
        }
    }
    return json_array_append_new(values, value) == 0;
}

static bool put_query(json_t *object, h2o_iovec_t query, bool is_multi)
{
    bool is_ok = true;
    while (query.len != 0 && is_ok) {
        const char *end = memchr(query.base, '&', query.len);
        size_t len = end != NULL ? (size_t)(end - query.base) : query.len;
        const char *equals = memchr(query.base, '=', len);
        h2o_iovec_t key = h2o_iovec_init(query.base, equals != NULL ? (size_t)(equals - query.base) : len);
        h2o_iovec_t value = h2o_iovec_init(equals != NULL ? equals + 1 : query.base + len,
                                           equals != NULL ? (size_t)(query.base + len - equals - 1) : 0);
        if (len != 0)
            is_ok = put(object, key, text(value), is_multi);
        if (end == NULL)
            break;
        query = h2o_iovec_init(end + 1, query.len - len - 1);
    }
    return is_ok;
}

static bool put_fields(json_t *object, const struct gw_lambda_request *request)
{
    bool is_ok = true;
    char digits[24];

    if (request->host.base != NULL)
        is_ok = put(object, h2o_iovec_init(H2O_STRLIT("host")), text(request->host), request->is_multi_value);
    if (request->has_body) {
        int len = snprintf(digits, sizeof(digits), "%zu", request->body.len);
        is_ok &= put(object, h2o_iovec_init(H2O_STRLIT("content-length")), text(h2o_iovec_init(digits, len)),
                     request->is_multi_value);
    }
    for (size_t i = 0; i != request->num_fields && is_ok; ++i)
        is_ok = put(object, *request->fields[i].name, text(request->fields[i].value), request->is_multi_value);
    return is_ok;
}

static bool is_media_type(h2o_iovec_t value, const char *type, size_t len)
{
    return value.len == len && h2o_lcstris(value.base, value.len, type, len);
}

/* spec/alb.md 6, body encoding */
static bool is_text(const struct gw_lambda_request *request)
{
    h2o_iovec_t type = {NULL, 0};

    for (size_t i = 0; i != request->num_fields; ++i) {
        if (request->fields[i].name == &H2O_TOKEN_CONTENT_ENCODING->buf)
            return false;
        if (request->fields[i].name == &H2O_TOKEN_CONTENT_TYPE->buf)
            type = request->fields[i].value;
    }
    const char *end = type.len != 0 ? memchr(type.base, ';', type.len) : NULL;
    if (end != NULL)
        type.len = (size_t)(end - type.base);
    while (type.len != 0 && (type.base[type.len - 1] == ' ' || type.base[type.len - 1] == '\t'))
        --type.len;
    return (type.len > 5 && h2o_lcstris(type.base, 5, H2O_STRLIT("text/"))) ||
           is_media_type(type, H2O_STRLIT("application/json")) ||
           is_media_type(type, H2O_STRLIT("application/javascript")) ||
           is_media_type(type, H2O_STRLIT("application/xml"));
}

static json_t *body_of(const struct gw_lambda_request *request, bool is_base64)
{
    if (!is_base64)
        return text(request->body);
    char *encoded = h2o_mem_alloc(request->body.len / 3 * 4 + 8);
    int len =
        EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)request->body.base, (int)request->body.len);
    json_t *body = json_stringn(encoded, (size_t)len);
    free(encoded);
    return body;
}

h2o_iovec_t gw_lambda_event(const struct gw_lambda_request *request)
{
    bool is_base64 = request->body.len != 0 && !is_text(request), is_multi = request->is_multi_value, is_ok;
    json_t *event = json_object(), *query = json_object(), *fields = json_object(), *elb = json_object(),
           *context = json_object();
    h2o_iovec_t json = {NULL, 0};

    is_ok = json_object_set_new(elb, "targetGroupArn", text(request->target_group_arn)) == 0;
    is_ok &= json_object_set_new(context, "elb", elb) == 0;
    is_ok &= json_object_set_new(event, "requestContext", context) == 0;
    is_ok &= json_object_set_new(event, "httpMethod", text(request->method)) == 0;
    is_ok &= json_object_set_new(event, "path", text(request->path)) == 0;
    is_ok &= put_query(query, request->query, is_multi);
    is_ok &= put_fields(fields, request);
    json_object_set_new(event, is_multi ? "multiValueQueryStringParameters" : "queryStringParameters", query);
    json_object_set_new(event, is_multi ? "multiValueHeaders" : "headers", fields);
    is_ok &= json_object_set_new(event, "body", body_of(request, is_base64)) == 0;
    json_object_set_new(event, "isBase64Encoded", json_boolean(is_base64));
    if (is_ok && (json.base = json_dumps(event, JSON_COMPACT)) != NULL)
        json.len = strlen(json.base);
    json_decref(event);
    return json;
}

/* ---- the response ---- */

static h2o_iovec_t slice_of(const json_t *string)
{
    return h2o_iovec_init(json_string_value(string), json_string_length(string));
}

static bool fail(const char **why, const char *what)
{
    *why = what;
    return false;
}

static bool read_status(const json_t *root, struct gw_lambda_response *response, const char **why)
{
    const json_t *status = json_object_get(root, "statusCode");

    if (!json_is_integer(status) || json_integer_value(status) < 200 || json_integer_value(status) > 599)
        return fail(why, "statusCode is no number from 200 to 599");
    response->status = (int)json_integer_value(status);
    return true;
}

/* "200 OK" */
static bool read_description(h2o_mem_pool_t *pool, const json_t *root, struct gw_lambda_response *response,
                             const char **why)
{
    const json_t *description = json_object_get(root, "statusDescription");

    if (description == NULL)
        return true;
    h2o_iovec_t s = slice_of(description);
    if (!json_is_string(description) || s.len < 5 || s.base[3] != ' ' || s.base[4] == ' ' || !routing_is_field_value(s))
        return fail(why, "statusDescription is not like \"200 OK\"");
    for (size_t i = 0; i != 3; ++i)
        if (s.base[i] < '0' || s.base[i] > '9')
            return fail(why, "statusDescription is not like \"200 OK\"");
    response->reason = h2o_strdup(pool, s.base + 4, s.len - 4).base;
    return true;
}

/* What belongs to the connection, and what weir computes itself. */
static bool is_ours(h2o_iovec_t name)
{
    static const h2o_iovec_t names[] = {{H2O_STRLIT("connection")},       {H2O_STRLIT("transfer-encoding")},
                                        {H2O_STRLIT("content-length")},   {H2O_STRLIT("keep-alive")},
                                        {H2O_STRLIT("upgrade")},          {H2O_STRLIT("te")},
                                        {H2O_STRLIT("proxy-connection")}, {H2O_STRLIT("trailer")}};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (h2o_memis(name.base, name.len, names[i].base, names[i].len))
            return true;
    return false;
}

static bool add_field(h2o_mem_pool_t *pool, struct gw_lambda_response *response, const char *key, const json_t *value,
                      const char **why)
{
    h2o_iovec_t name = h2o_strdup(pool, key, SIZE_MAX), text_value;

    if (json_is_string(value))
        text_value = h2o_strdup(pool, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value)) {
        text_value.base = h2o_mem_alloc_pool(pool, 24);
        text_value.len = (size_t)snprintf(text_value.base, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        return fail(why, "a header is no string");
    }
    if (!routing_is_token(name) || !routing_is_field_value(text_value))
        return fail(why, "a header has bytes that may not stand there");
    h2o_strtolower(name.base, name.len);
    if (!is_ours(name))
        h2o_add_header_by_str(pool, &response->fields, name.base, name.len, 1, NULL, text_value.base, text_value.len);
    return true;
}

static bool read_single(h2o_mem_pool_t *pool, json_t *fields, struct gw_lambda_response *response, const char **why)
{
    const char *key;
    json_t *value;

    if (!json_is_object(fields))
        return fail(why, "headers is no object");
    json_object_foreach(fields, key, value) if (!add_field(pool, response, key, value, why)) return false;
    return true;
}

static bool read_multi(h2o_mem_pool_t *pool, json_t *fields, struct gw_lambda_response *response, const char **why)
{
    const char *key;
    json_t *values, *value;
    size_t i;

    if (!json_is_object(fields))
        return fail(why, "multiValueHeaders is no object");
    json_object_foreach(fields, key, values)
    {
        if (!json_is_array(values))
            return fail(why, "multiValueHeaders has a header whose values are no array");
        json_array_foreach(values, i, value) if (!add_field(pool, response, key, value, why)) return false;
    }
    return true;
}

/* Either form will do; the one that the group is set to comes first. */
static bool read_fields(h2o_mem_pool_t *pool, const json_t *root, bool is_multi, struct gw_lambda_response *response,
                        const char **why)
{
    json_t *single = json_object_get(root, "headers"), *multi = json_object_get(root, "multiValueHeaders");

    if (multi != NULL && (is_multi || single == NULL))
        return read_multi(pool, multi, response, why);
    return single == NULL || read_single(pool, single, response, why);
}

static bool is_base64(h2o_iovec_t s)
{
    size_t padding = 0;

    if (s.len % 4 != 0)
        return false;
    while (padding != 2 && padding != s.len && s.base[s.len - 1 - padding] == '=')
        ++padding;
    for (size_t i = 0; i != s.len - padding; ++i) {
        char c = s.base[i];
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

static bool read_body(h2o_mem_pool_t *pool, const json_t *root, struct gw_lambda_response *response, const char **why)
{
    const json_t *body = json_object_get(root, "body"), *encoded = json_object_get(root, "isBase64Encoded");

    if (encoded != NULL && !json_is_boolean(encoded))
        return fail(why, "isBase64Encoded is neither true nor false");
    if (body == NULL)
        return true;
    if (!json_is_string(body))
        return fail(why, "body is no string");
    h2o_iovec_t s = slice_of(body);
    if (!json_is_true(encoded)) {
        response->body = h2o_strdup(pool, s.base, s.len);
        return true;
    }
    if (!is_base64(s))
        return fail(why, "body is not base64, though isBase64Encoded says so");
    response->body.base = h2o_mem_alloc_pool(pool, s.len / 4 * 3 + 1);
    if (s.len == 0)
        return true;
    response->body.len =
        (size_t)EVP_DecodeBlock((unsigned char *)response->body.base, (const unsigned char *)s.base, (int)s.len);
    for (size_t i = 1; i <= 2 && s.base[s.len - i] == '='; ++i)
        --response->body.len;
    return true;
}

bool gw_lambda_response_parse(h2o_mem_pool_t *pool, h2o_iovec_t json, bool is_multi_value,
                              struct gw_lambda_response *response, const char **why)
{
    json_t *root = json_loadb(json.base, json.len, JSON_ALLOW_NUL, NULL);
    bool is_ok;

    *response = (struct gw_lambda_response){0};
    *why = NULL;
    if (!json_is_object(root))
        is_ok = fail(why, "the function returned no JSON object");
    else
        is_ok = read_status(root, response, why) && read_description(pool, root, response, why) &&
                read_fields(pool, root, is_multi_value, response, why) && read_body(pool, root, response, why);
    json_decref(root);
    return is_ok;
}
