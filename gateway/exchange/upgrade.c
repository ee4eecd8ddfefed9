#include "gateway/exchange/upgrade.h"
#include <string.h>
#include <strings.h>
#include "gateway/answer/answer.h"
#include "gateway/http/websocket.h"
#include "routing/upgrade.h"

static const h2o_iovec_t name_key = {H2O_STRLIT("sec-websocket-key")},
                         name_version = {H2O_STRLIT("sec-websocket-version")},
                         name_connection = {H2O_STRLIT("connection")}, name_upgrade = {H2O_STRLIT("upgrade")};

static void add(h2o_headers_t *fields, const h2o_iovec_t *name, h2o_iovec_t value)
{
    assert(fields->size < fields->capacity);
    fields->entries[fields->size++] = (h2o_header_t){.name = (h2o_iovec_t *)name, .value = value};
}

static bool is_http2(const struct gw_request *request)
{
    return request->stream != NULL && request->stream->req.version >= 0x200;
}

static bool is_websocket(h2o_iovec_t protocol)
{
    return protocol.len == 9 && strncasecmp(protocol.base, "websocket", 9) == 0;
}

/* ---- answers ---- */

/* RFC 9110 15.5.22 and RFC 6455 4.4: a 426 names what would be right. */
static void name_version_13(struct gw_request *request)
{
    h2o_headers_t *fields = gw_answer_fields(request);

    h2o_vector_reserve(request->pool, fields, fields->size + 3);
    add(fields, &name_version, h2o_iovec_init(H2O_STRLIT("13")));
    if (is_http2(request)) /* RFC 9113 8.2.2: no such fields there */
        return;
    add(fields, &name_upgrade, h2o_iovec_init(H2O_STRLIT("websocket")));
    add(fields, &name_connection, h2o_iovec_init(H2O_STRLIT("upgrade")));
}

static enum gw_step refuse(struct gw_request *request, enum gw_reason reason, const char *why)
{
    request->upgrade = h2o_iovec_init(NULL, 0);
    request->error = why;
    gw_trace(request->trace, "answer", NULL, "%d %s: %s", gw_reason_info(reason)->status, gw_reason_info(reason)->code,
             why);
    if (reason == GW_REASON_UPGRADE_VERSION)
        name_version_13(request);
    if (request->stream != NULL)
        request->stream->close_after = true; /* bytes that were sent ahead, for a tunnel, are no request */
    gw_answer_error(request, reason, 0);
    return GW_ANSWERED;
}

/* RFC 9110 7.8: a server may ignore Upgrade. An extended CONNECT is nothing without its protocol. */
static enum gw_step ignore(struct gw_request *request, const char *why)
{
    if (is_http2(request))
        return refuse(request, GW_REASON_UPGRADE_REFUSED, why);
    gw_trace(request->trace, "upgrade", gw_setting_at(request->route->conf->at, "upgrade"), "\"%.*s\" is ignored: %s",
             (int)request->upgrade.len, request->upgrade.base, why);
    request->upgrade = h2o_iovec_init(NULL, 0);
    return GW_NEXT;
}

/* ---- the decision ---- */

/* RFC 6455 4.2.1, RFC 8441 5. */
static enum gw_step check_websocket(struct gw_request *request)
{
    const struct routing_facts *facts = &request->facts;
    enum gw_websocket_fault fault;
    bool has_version;

    if (is_http2(request))
        fault = gw_websocket_check_version(facts->headers, facts->num_headers, &has_version);
    else if (!h2o_memis(facts->method.base, facts->method.len, H2O_STRLIT("GET")))
        return refuse(request, GW_REASON_BAD_WEBSOCKET, "the method is not GET");
    else if (request->has_body)
        return refuse(request, GW_REASON_BAD_WEBSOCKET, "the request has a body");
    else
        fault = gw_websocket_check(facts->headers, facts->num_headers, &request->websocket_key);
    if (fault == GW_WEBSOCKET_OK)
        return GW_NEXT;
    return refuse(request, fault == GW_WEBSOCKET_BAD_VERSION ? GW_REASON_UPGRADE_VERSION : GW_REASON_BAD_WEBSOCKET,
                  gw_websocket_problem(fault));
}

enum gw_step gw_upgrade_decide(struct gw_request *request)
{
    const struct gw_route *route = request->route;
    h2o_iovec_t protocol;

    if (route->action != ROUTING_FORWARD)
        return ignore(request, "the route does not forward");
    protocol = routing_upgrade_choose(&route->conf->upgrade, request->upgrade);
    if (protocol.base == NULL)
        return ignore(request, "the route's upgrade does not list it");
    if (is_websocket(protocol)) {
        if (check_websocket(request) != GW_NEXT)
            return GW_ANSWERED;
    } else if (is_http2(request)) {
        return ignore(request, "HTTP/2 carries WebSocket and nothing else");
    } else if (request->has_body) {
        return ignore(request, "the request has a body");
    }
    gw_trace(request->trace, "upgrade", gw_setting_at(route->conf->at, "upgrade"), "the target is asked for \"%.*s\"",
             (int)protocol.len, protocol.base);
    request->upgrade = protocol;
    if (request->stream != NULL)
        request->stream->upgrade = protocol;
    return GW_NEXT;
}

bool gw_upgrade_fits_group(struct gw_request *request)
{
    if (request->group == NULL || !routing_protocol_is_http2(request->group->conf->protocol))
        return true;
    refuse(request, GW_REASON_UPSTREAM_NO_UPGRADE, "the targets speak HTTP/2");
    return false;
}

/* ---- towards the target ---- */

void gw_upgrade_complete_fields(struct gw_request *request, h2o_headers_t *fields)
{
    char *key;
    bool has_version;
    size_t kept = 0;

    if (!is_http2(request) || !is_websocket(request->upgrade))
        return;
    for (size_t i = 0; i != fields->size; ++i)
        if (!gw_websocket_is_key_field(&fields->entries[i]))
            fields->entries[kept++] = fields->entries[i];
    fields->size = kept;
    gw_websocket_check_version(fields->entries, fields->size, &has_version);
    key = h2o_mem_alloc_pool(request->pool, GW_WEBSOCKET_KEY_LEN);
    gw_websocket_make_key(key);
    request->websocket_key = h2o_iovec_init(key, GW_WEBSOCKET_KEY_LEN);
    h2o_vector_reserve(request->pool, fields, fields->size + 2);
    add(fields, &name_key, request->websocket_key);
    if (!has_version)
        add(fields, &name_version, h2o_iovec_init(H2O_STRLIT("13")));
}

const char *gw_upgrade_fault(const struct gw_request *request, const struct gw_response_head *head)
{
    if (request->websocket_key.base != NULL &&
        !gw_websocket_is_accepted(head->fields, head->num_fields, request->websocket_key))
        return "Sec-WebSocket-Accept does not fit the key";
    return NULL;
}

void gw_upgrade_complete_response(struct gw_request *request)
{
    h2o_headers_t *fields = &request->stream->req.res.headers;
    size_t kept = 0;

    if (!is_http2(request)) /* RFC 8441 5: Sec-WebSocket-Accept is not used there */
        return;
    for (size_t i = 0; i != fields->size; ++i)
        if (!gw_websocket_is_accept_field(&fields->entries[i]))
            fields->entries[kept++] = fields->entries[i];
    fields->size = kept;
}

bool gw_upgrade_was_refused(struct gw_request *request, int status)
{
    if (is_http2(request))
        return status / 100 != 2;
    request->stream->close_after = true;
    return true;
}
