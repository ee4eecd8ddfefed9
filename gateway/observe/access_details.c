#include "gateway/observe/access_details.h"
#include <string.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include "gateway/base/hash.h"
#include "gateway/answer/grpc.h"
#include "gateway/exchange/exchange.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/http/socket.h"
#include "gateway/process.h"
#include "gateway/observe/timeline.h"

/* ---- times ---- */

static uint64_t between(uint64_t from_us, uint64_t to_us) { return to_us >= from_us ? to_us - from_us : 0; }

/* Spec/alb.md 8.1, fields 6 to 8: -1 from the first step that did not happen. */
static void fill_times(struct gw_access_full *full, const struct gw_request *request)
{
    const struct gw_attempt *last = request->timeline != NULL ? gw_timeline_last(request->timeline) : NULL;

    full->to_target_us = full->in_target_us = full->to_client_us = UINT64_MAX;
    if (last == NULL || last->sent_us == 0)
        return;
    full->to_target_us = between(request->stream->started_us, last->sent_us);
    full->target_status = (uint32_t)last->status;
    if (last->first_byte_us == 0)
        return;
    full->in_target_us = between(last->sent_us, last->first_byte_us);
    if (request->timeline->response_us != 0)
        full->to_client_us = between(last->first_byte_us, request->timeline->response_us);
}

/* ---- connection ---- */

static void fill_local(struct gw_access_full *full, struct gw_access_details *details, const struct gw_conn *conn)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    struct gw_ip ip;

    full->local_port = conn->local_port;
    if (conn->sock != NULL && getsockname(h2o_socket_get_fd(conn->sock), (struct sockaddr *)&address, &len) == 0 &&
        gw_ip_from_sockaddr((struct sockaddr *)&address, &ip))
        full->local = h2o_iovec_init(details->local, gw_ip_format(&ip, details->local));
}

static void fill_certificate(struct gw_access_full *full, const struct gw_request *request)
{
    const struct gw_conn *conn = request->stream->conn;
    SSL *ssl = conn->sock != NULL ? gw_socket_ssl(conn->sock) : NULL;
    const X509 *shown = ssl != NULL ? SSL_get_certificate(ssl) : NULL;

    full->is_tls_resumed = ssl != NULL && SSL_session_reused(ssl) == 1; /* then none is chosen */
    if (shown == NULL)
        return;
    if (conn->server_name != NULL && X509_check_host((X509 *)shown, conn->server_name, 0, 0, NULL) == 1)
        full->domain_name = full->line.server_name;
    for (size_t i = 0; i != request->snapshot->num_certificates; ++i) {
        const struct tls_certificate *certificate = request->snapshot->certificates[i];
        if (certificate->leaf == shown || X509_cmp(certificate->leaf, shown) == 0) { /* a reload makes new objects */
            full->certificate = certificate->name;
            return;
        }
    }
}

/* Not a secret, only unlike any other connection's: the process's start, the thread, the connection's number there. */
static void fill_conn_id(struct gw_access_full *full, struct gw_access_details *details,
                         const struct gw_request *request)
{
    const struct gw_worker *worker = request->worker;
    uint64_t high = gw_mix64(worker->process->started_ms);
    uint64_t low = gw_mix64(high ^ ((uint64_t)worker->thread.index << 56 | request->stream->conn->super.id));

    int len = snprintf(details->conn_id, sizeof(details->conn_id), "TID_%016llx%016llx", (unsigned long long)high,
                       (unsigned long long)low);
    full->conn_id = h2o_iovec_init(details->conn_id, len);
}

/* ---- decisions ---- */

static void fill_actions(struct gw_access_full *full, struct gw_access_details *details,
                         const struct gw_request *request)
{
    static const char *const names[] = {[ROUTING_FORWARD] = "forward",
                                        [ROUTING_REDIRECT] = "redirect",
                                        [ROUTING_RESPOND] = "fixed-response",
                                        [ROUTING_FILES] = "fixed-response",
                                        [ROUTING_ECHO] = "fixed-response"};
    const struct gw_route *route = request->route;

    full->priority = GW_ACCESS_NEVER_PRIORITY;
    if (route == NULL)
        return;
    full->priority =
        route->conf->priority != 0 ? (int64_t)route->conf->priority : (int64_t)(route - request->snapshot->routes) + 1;
    int len = snprintf(details->actions, sizeof(details->actions), "%s%s", route->rewrite != NULL ? "rewrite," : "",
                       names[route->action]);
    full->actions = h2o_iovec_init(details->actions, len);
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b) { return a.len == b.len && memcmp(a.base, b.base, a.len) == 0; }

static void fill_rewrite(struct gw_access_full *full, const struct gw_request *request)
{
    h2o_iovec_t host, url;

    if (request->exchange == NULL || request->route == NULL || request->route->rewrite == NULL ||
        request->reason == GW_REASON_REWRITE_FAILED)
        return;
    full->is_rewritten = true;
    gw_exchange_target(request->exchange, &host, &url);
    if (!is_same(host, request->facts.authority))
        full->sent_host = host;
    if (!is_same(url, request->stream->head.path))
        full->sent_url = url;
}

void gw_access_details_fill(struct gw_access_full *full, struct gw_access_details *details, struct gw_request *request)
{
    const struct gw_stream *stream = request->stream;
    ssize_t at = h2o_find_header(&stream->req.res.headers, H2O_TOKEN_LOCATION, -1);

    full->authority = request->facts.authority;
    full->is_grpc = gw_grpc_is_call(request);
    if (stream->response_started)
        full->body_bytes_out = between(stream->head_bytes_out, stream->bytes_out);
    if (request->reason == GW_REASON_REDIRECT && at != -1)
        full->location = stream->req.res.headers.entries[at].value;
    fill_certificate(full, request);
    full->amzn_trace_id = gw_forwarded_amzn_trace_id(request);
    fill_times(full, request);
    fill_local(full, details, stream->conn);
    fill_conn_id(full, details, request);
    fill_actions(full, details, request);
    fill_rewrite(full, request);
}
