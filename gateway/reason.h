/* Reason codes: why weir answered by itself or ended an exchange early. One closed table: in the access log, in the
 * metrics label, in the explain trace, in `weir reason`, and for trusted clients in x-weir-reason. A local answer is
 * made from a reason, so one without a code does not compile. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "gateway/http/stream.h"
#include "gateway/upstream/client.h"

/* X(code, status, cause, remedy). status 0: the reason has no status of its own (configured, or the response had
 * begun). */
#define GW_REASONS(X)                                                                                                  \
    X(BAD_SYNTAX, 400, "The request head is not HTTP/1.x.", "Check the client; a raw capture shows the bytes.")        \
    X(BAD_METHOD, 400, "The method is not a token.", "Send a method made of RFC 9110 token characters.")               \
    X(BAD_TARGET, 400, "The request target is outside its grammar.", "Percent-encode what may not stand in a URL.")    \
    X(BAD_VERSION, 505, "The protocol version is not HTTP/1.x on this connection.", "Use HTTP/1.1.")                   \
    X(BAD_LINE_END, 400, "A line of the head ends in a bare LF or holds a bare CR.", "End lines with CRLF.")           \
    X(FOLDED_FIELD, 400, "A header field is folded over several lines (obs-fold).", "Send each field on one line.")    \
    X(BAD_FIELD, 400, "A header field's name or value has bytes that may not stand there.",                            \
      "Fix the sender of the field.")                                                                                  \
    X(BAD_PSEUDO_HEADER, 400,                                                                                          \
      "HTTP/2: a pseudo-header field is missing, repeated, unknown or misplaced (RFC 9113 8.3).",                      \
      "Fix the client; the stream was reset.")                                                                         \
    X(CONNECTION_FIELD, 400,                                                                                           \
      "HTTP/2: a field of HTTP/1 connections (Connection, Upgrade, ...), or TE other than trailers.",                  \
      "Fix the client; the stream was reset.")                                                                         \
    X(MISSING_HOST, 400, "An HTTP/1.1 request has no Host field.", "Send exactly one Host field.")                     \
    X(BAD_HOST, 400, "The Host field is repeated, malformed, or differs from the target's authority.",                 \
      "Send one Host that equals the authority of an absolute target.")                                                \
    X(BAD_LENGTH, 400, "Content-Length is repeated, not a number, or stands beside Transfer-Encoding.",                \
      "Frame the body in exactly one way.")                                                                            \
    X(BAD_TRANSFER_ENCODING, 400, "Transfer-Encoding is repeated, misplaced, or used in HTTP/1.0.",                    \
      "Send `Transfer-Encoding: chunked` alone, on HTTP/1.1.")                                                         \
    X(UNSUPPORTED_TRANSFER_ENCODING, 501, "A transfer coding other than chunked was used.",                            \
      "Use chunked or Content-Length.")                                                                                \
    X(DESYNC, 400, "Two readers may take it for two requests: limits.desync_mitigation blocks its class.",             \
      "Fix the client: `error` and classification_reason of the access log say what is odd.")                          \
    X(HEAD_TOO_LARGE, 431, "The request head or its number of fields is above limits.header_block or limits.headers.", \
      "Send less, or raise the limit.")                                                                                \
    X(URL_TOO_LONG, 414, "The request target is longer than limits.url.", "Send less, or raise the limit.")            \
    X(EXPECTATION_FAILED, 417, "Expect holds something other than 100-continue.", "Remove the field.")                 \
    X(METHOD_NOT_ALLOWED, 405, "CONNECT and TRACE are not served, files take only GET and HEAD.",                      \
      "Use another method.")                                                                                           \
    X(BAD_PATH, 400, "The path cannot be made canonical: bad escape, NUL, or .. above the root.", "Fix the URL.")      \
    X(HEADER_TIMEOUT, 408, "The request head did not arrive within limits.header_timeout.",                            \
      "Check the client's network.")                                                                                   \
    X(BODY_TIMEOUT, 408,                                                                                               \
      "The request body stopped coming for limits.body_timeout (to gRPC groups: timeouts.idle, if that is longer), "   \
      "or comes slower than min_body_rate.",                                                                           \
      "Check the client's network; where calls may be silent for longer, raise timeouts.idle of their group.")         \
    X(BAD_CHUNK, 400, "The chunked framing of the request body is broken.", "Fix the client's encoder.")               \
    X(TRAILERS_TOO_LARGE, 431,                                                                                         \
      "The request's trailers are above 8 KiB (HTTP/2: limits.header_block) or limits.headers.",                       \
      "Send less after the body.")                                                                                     \
    X(BODY_TOO_LARGE, 413, "The request body is above max_body of the route or of limits.",                            \
      "Send less, or raise max_body.")                                                                                 \
    X(BAD_WEBSOCKET, 400, "A WebSocket handshake breaks RFC 6455; `error` in the access log names the rule.",          \
      "Fix the client: GET without body, one Sec-WebSocket-Key of 16 bytes in base64.")                                \
    X(UPGRADE_VERSION, 426, "Sec-WebSocket-Version is not 13.", "Use version 13.")                                     \
    X(UPGRADE_REFUSED, 501, "An extended CONNECT asks for a protocol that the route does not take.",                   \
      "Check the route's action and its upgrade; only websocket goes over HTTP/2.")                                    \
    X(NO_ROUTE, 404, "No route takes this request.", "`weir explain URL` shows why each one lost.")                    \
    X(FIXED_RESPONSE, 0, "The route answers with a fixed response.", "Nothing is wrong.")                              \
    X(REDIRECT, 0, "The route redirects.", "Nothing is wrong.")                                                        \
    X(REDIRECT_TOO_LONG, 507, "The redirect's Location would be longer than 8 KiB.", "Shorten the URL.")               \
    X(FAULT_INJECTED, 0, "The route's fault policy answers with an error on purpose.",                                 \
      "Nothing is wrong; see fault.abort of the route.")                                                               \
    X(FILE_SERVED, 0, "The route serves a file.", "Nothing is wrong.")                                                 \
    X(FILE_NOT_FOUND, 404, "There is no such file below the route's root.", "Check root, index and strip_prefix.")     \
    X(FILE_FORBIDDEN, 403, "The file may not be read, is no regular file, or lies outside the root.",                  \
      "Check permissions and links.")                                                                                  \
    X(PRECONDITION_FAILED, 412, "If-Match or If-Unmodified-Since does not hold for the file.",                         \
      "Fetch the file anew, then ask again.")                                                                          \
    X(RANGE_NOT_SATISFIABLE, 416, "None of the ranges asked for lies within the file.",                                \
      "Content-Range names the file's size.")                                                                          \
    X(ECHO, 200, "The route echoes the request.", "Nothing is wrong.")                                                 \
    X(MAX_FORWARDS, 200, "OPTIONS with Max-Forwards: 0 asks what is here, not at the target.", "Nothing is wrong.")    \
    X(TOO_MANY_FORWARDED, 463, "X-Forwarded-For holds more than 30 addresses.", "Look for a proxy loop.")              \
    X(REWRITE_FAILED, 500, "The rewritten URL is not a valid request target.", "Fix the route's rewrite.")             \
    X(NO_TARGETS, 503, "The target group has no target that may take traffic.",                                        \
      "Add targets or give one a weight above 0.")                                                                     \
    X(TARGET_DEREGISTERED, 502, "The target was taken out of its group, and deregistration_delay is over.",            \
      "Raise the delay, or end long requests before their target goes.")                                               \
    X(CIRCUIT_OPEN, 503, "The target group has as many requests under way as circuit_breaker.requests allows.",        \
      "See why the group is slow; add targets, or raise the bound.")                                                   \
    X(CIRCUIT_CONNECTIONS, 503, "The target group has as many connections as circuit_breaker.connections allows.",     \
      "See why the group is slow; raise the bound, or let requests wait: circuit_breaker.pending.")                    \
    X(CIRCUIT_PENDING, 503, "As many requests wait for a connection to the group as circuit_breaker.pending allows.",  \
      "See why the group is slow to connect to; add targets, or raise the bound.")                                     \
    X(CONCURRENCY_LIMIT, 503, "The target group has as many requests under way as adaptive_concurrency found good.",   \
      "See why the group is slow; add targets.")                                                                       \
    X(OVERLOADED, 503, "The gateway itself has too much to do: overload.loop_lag or overload.memory is passed.",       \
      "See weir_overload_pressure; add cores or nodes.")                                                               \
    X(TARGETS_BUSY, 503, "Every target of the group has as many requests or connections as target_limits allows.",     \
      "Add targets, raise target_limits, or give it a queue.")                                                         \
    X(TARGET_QUEUE_FULL, 503, "As many requests wait for a target of the group as target_limits.queue allows.",        \
      "Add targets, or look into their latency.")                                                                      \
    X(TARGET_QUEUE_TIMEOUT, 503, "No target of the group had room within target_limits.queue_timeout.",                \
      "Add targets, or look into their latency.")                                                                      \
    X(CONNECT_FAILED, 502, "No target could be connected to: refused or unreachable.",                                 \
      "Check that the targets run and listen.")                                                                        \
    X(CONNECT_TIMEOUT, 504, "Connecting to the target took longer than timeouts.connect.",                             \
      "Check the network and the target's backlog.")                                                                   \
    X(UPSTREAM_TLS_TIMEOUT, 504, "The TLS handshake with the target took longer than timeouts.tls_handshake.",         \
      "Check the network and the target's load.")                                                                      \
    X(UPSTREAM_CERTIFICATE, 502, "The target's certificate is not trusted, has expired, or is for another name.",      \
      "`error` in the access log says which; see tls.ca and tls.server_name.")                                         \
    X(UPSTREAM_TLS_FAILED, 502, "The TLS handshake with the target failed.",                                           \
      "`error` in the access log says how; check that the target speaks TLS.")                                         \
    X(UPSTREAM_NOT_HTTP2, 502, "The target does not speak HTTP/2, as the group's protocol wants it to.",               \
      "`error` in the access log says how that was seen; check the group's protocol.")                                 \
    X(UPSTREAM_REFUSED, 503, "The target refused the HTTP/2 stream, and so did every further try.",                    \
      "Look into the target's load and its limit of concurrent streams.")                                              \
    X(UPSTREAM_NO_UPGRADE, 464, "The request wants to switch protocols, which targets of HTTP/2 cannot.",              \
      "Forward WebSocket routes to a group of protocol http or https.")                                                \
    X(GRPC_ONLY, 464, "The target group takes only gRPC calls: HTTP/2 and POST.",                                      \
      "Use a gRPC client, or a group of protocol h2 or h2c.")                                                          \
    X(GRPC_DEADLINE, 504, "The call's own deadline (grpc-timeout) passed before the target had answered.",             \
      "Look into the target's latency, or let the client wait longer.")                                                \
    X(UPSTREAM_CLOSED, 502, "The target closed the connection before it answered.", "Look into the target's log.")     \
    X(FIRST_BYTE_TIMEOUT, 504, "The target did not begin its response within timeouts.first_byte.",                    \
      "Look into the target's latency.")                                                                               \
    X(UPSTREAM_BAD_RESPONSE, 502, "The target's response head breaks HTTP/1.1.",                                       \
      "`error` in the access log names the rule.")                                                                     \
    X(UPSTREAM_HEAD_TOO_LARGE, 502, "The target's response head is above 64 KiB.", "Send fewer or smaller headers.")   \
    X(UPSTREAM_TRUNCATED, 0, "The target's response body ended early; the client's was cut off too.",                  \
      "Look into the target's log.")                                                                                   \
    X(UPSTREAM_BAD_CHUNK, 0, "The chunked framing of the target's response broke.", "Fix the target's encoder.")       \
    X(UPSTREAM_TRAILERS_TOO_LARGE, 0,                                                                                  \
      "The target's response trailers are above 8 KiB (HTTP/2: 64 KiB) or 100 fields.", "Send less after the body.")   \
    X(UPSTREAM_IDLE_TIMEOUT, 504, "No byte moved to or from the target for timeouts.idle.",                            \
      "Look into the target's latency.")                                                                               \
    X(TOTAL_TIMEOUT, 504, "The whole request, with every try, took longer than timeouts.total.",                       \
      "See what the targets are doing, or raise the timeout.")                                                         \
    X(UPSTREAM_RESET, 0, "The target reset the connection within its response.", "Look into the target's log.")        \
    X(UPSTREAM_BAD_UPGRADE, 502, "The target's answer to an upgrade breaks the handshake.",                            \
      "`error` in the access log names the rule.")                                                                     \
    X(TUNNEL_CLOSED, 0, "A tunnel (WebSocket) is over: both sides ended it in order.", "Nothing is wrong.")            \
    X(TUNNEL_IDLE_TIMEOUT, 0, "No byte moved in a tunnel for timeouts.tunnel_idle.",                                   \
      "Let one side send pings more often, or raise the limit.")                                                       \
    X(LAMBDA_REQUEST_TOO_LARGE, 413, "The body is above 1 MiB, more than an event holds.", "Send a smaller body.")     \
    X(LAMBDA_BAD_REQUEST, 502, "The request cannot be said in JSON, or the Invoke call was answered 4xx.",             \
      "Headers and text bodies must be UTF-8; see the group's lambda settings.")                                       \
    X(LAMBDA_WEBSOCKET, 400, "Functions do not speak WebSocket.", "Forward upgrades to another group.")                \
    X(LAMBDA_ACCESS_DENIED, 502, "The Invoke call was answered 403.", "Check lambda.sign and who may invoke.")         \
    X(LAMBDA_NOT_FOUND, 502, "The Invoke call was answered 404: there is no such function.",                           \
      "Check lambda.function and the region.")                                                                         \
    X(LAMBDA_THROTTLED, 502, "The Invoke call was answered 429.", "Raise the function's concurrency.")                 \
    X(LAMBDA_SERVICE_ERROR, 502, "The Invoke call was answered 5xx.", "Look at the service's state.")                  \
    X(LAMBDA_FUNCTION_ERROR, 502, "The function failed: X-Amz-Function-Error.", "Look into the function's log.")       \
    X(LAMBDA_INVALID_RESPONSE, 502, "What the function returned is no response.",                                      \
      "`error` in the access log says what is wrong with it.")                                                         \
    X(LAMBDA_RESPONSE_TOO_LARGE, 502, "What the function returned is above 1 MiB.", "Return less.")                    \
    X(LAMBDA_MEMORY, 503, "What functions are sent and return takes up limits.lambda_buffers already.",                \
      "Raise limits.lambda_buffers, or bound the requests under way with circuit_breaker.requests of the group.")      \
    X(LAMBDA_CONNECTION_ERROR, 502, "The Invoke endpoint could not be connected to, or broke its answer off.",         \
      "Check the group's targets.")                                                                                    \
    X(LAMBDA_CONNECTION_TIMEOUT, 504, "Connecting to the Invoke endpoint took longer than timeouts.connect.",          \
      "Check the network.")                                                                                            \
    X(CLIENT_CLOSED, 460, "The client closed the connection before the response was complete.",                        \
      "Nothing to do here; look at latency.")                                                                          \
    X(SEND_TIMEOUT, 0, "The client stopped reading for limits.send_timeout, or takes less than min_send_rate.",        \
      "Check the client's network.")                                                                                   \
    X(SETTINGS_TIMEOUT, 0,                                                                                             \
      "HTTP/2: the client did not acknowledge our SETTINGS within limits.http2.settings_timeout.",                     \
      "Fix the client: each SETTINGS frame wants an answer with ACK.")                                                 \
    X(SHUTTING_DOWN, 0, "The exchange was cut off: shutdown_timeout passed.", "Raise shutdown_timeout.")               \
    X(TOO_MANY_CONNECTIONS, 0, "The connection was closed unserved: limits.max_connections.",                          \
      "Raise the limit, or look for clients that hold idle connections.")                                              \
    X(TOO_MANY_FROM_ADDRESS, 0, "The connection was closed unserved: limits.connections_per_ip.",                      \
      "Raise the limit if many clients share the address.")                                                            \
    X(TOO_FAST_FROM_ADDRESS, 0, "The connection was closed unserved: limits.accept_rate_per_ip.",                      \
      "Let the client keep its connections alive, or raise the limit.")                                                \
    X(OUT_OF_DESCRIPTORS, 0, "The connection was closed unserved: no file descriptor was left for it.",                \
      "Raise the limit of open files, or set limits.max_connections below it.")                                        \
    X(PROXY_BAD, 0, "The connection was closed: its PROXY header breaks the protocol's rules.",                        \
      "The error log names the rule; check the balancer.")                                                             \
    X(PROXY_MISSING, 0, "The connection was closed: it comes from a network of proxy_protocol.from without a header.", \
      "Let the balancer send the PROXY protocol, or set proxy_protocol.required: false.")                              \
    X(PROXY_NOT_LISTED, 0, "The connection was closed: its peer is in no network of proxy_protocol.from.",             \
      "Add the balancer's network, or set proxy_protocol.others: serve.")                                              \
    X(PROXY_TIMEOUT, 0, "The connection was closed: its PROXY header did not come within proxy_protocol.timeout.",     \
      "Check the balancer.")                                                                                           \
    X(SERVER_NAME_UNKNOWN, 0, "No sni entry of the listener takes the server name, and it has no forward.",            \
      "Add an entry, or a forward for all others.")                                                                    \
    X(CLIENT_HELLO_BAD, 0, "The first bytes on a tls_passthrough listener are no ClientHello.",                        \
      "`error` in the access log says what is wrong.")                                                                 \
    X(CLIENT_HELLO_TIMEOUT, 0, "The ClientHello did not arrive within limits.header_timeout.",                         \
      "Check the client's network.")                                                                                   \
    X(LISTENER_FULL, 0, "The listener has max_connections.", "Raise it, or look who holds so many.")                   \
    X(CONNECTION_IDLE, 0, "No byte moved on the connection for the listener's idle_timeout.",                          \
      "Raise it, or let an end send keep-alives.")                                                                     \
    X(FLOW_IDLE, 0, "udp: no datagram came either way for the listener's idle_timeout, which is how flows end.",       \
      "Nothing is wrong.")                                                                                             \
    X(FLOW_ANSWERED, 0, "udp: the target has answered as often as udp.responses expects.", "Nothing is wrong.")        \
    X(FLOW_EVICTED, 0, "udp: the flow made room for a new one; its client had not spoken since it was answered.",      \
      "If it is no flood, raise udp.flows and the limit of open files.")                                               \
    X(FLOWS_FULL, 0, "udp: no new flow: the listener has udp.flows, and the clients of all are there.",                \
      "Raise udp.flows and the limit of open files, or lower idle_timeout.")                                           \
    X(FLOWS_PER_ADDRESS, 0, "udp: no new flow: the client's address has udp.flows_per_ip.",                            \
      "Raise it if many clients share the address.")                                                                   \
    X(CLIENT_RESET, 0, "The client reset the connection; the target's was reset too.", "Nothing to do here.")          \
    X(TOO_MANY_RESETS, 0, "HTTP/2: the client cancelled more requests than limits.http2.resets.",                      \
      "If it is an honest one, raise the limit.")                                                                      \
    X(TOO_MANY_STREAM_ERRORS, 0, "HTTP/2: more streams were reset for the client's mistakes than limits allow.",       \
      "Fix the client; limits.http2.stream_errors.")                                                                   \
    X(TOO_MANY_PINGS, 0, "HTTP/2: more PING frames than limits.http2.pings.", "Let the client ping less often.")       \
    X(TOO_MANY_SETTINGS, 0, "HTTP/2: more SETTINGS frames than limits.http2.settings.", "Fix the client.")             \
    X(TOO_MANY_PRIORITIES, 0, "HTTP/2: more PRIORITY or PRIORITY_UPDATE frames than limits.http2.priorities.",         \
      "Fix the client.")                                                                                               \
    X(TOO_MANY_EMPTY_FRAMES, 0, "HTTP/2: more frames that carry nothing than limits.http2.empty_frames.",              \
      "Fix the client.")                                                                                               \
    X(TOO_MANY_WINDOW_UPDATES, 0, "HTTP/2: more WINDOW_UPDATE frames than limits.http2.window_updates.",               \
      "Let the client open its windows in larger steps.")                                                              \
    X(TOO_MANY_CONTINUATIONS, 0, "HTTP/2: a field section in more CONTINUATION frames than limits allow.",             \
      "Fix the client; limits.http2.continuations.")                                                                   \
    X(HEADER_BOMB, 0, "HTTP/2: a field section decompresses to many times limits.header_block.",                       \
      "An attack; limits.http2.field_sections.")                                                                       \
    X(INTERNAL_ERROR, 500, "weir could not do its work (out of descriptors, or a bug).", "See the error log.")

enum gw_reason {
    GW_REASON_NONE, /* the origin's answer, passed on whole: "-" */
#define X(code, status, cause, remedy) GW_REASON_##code,
    GW_REASONS(X)
#undef X
        GW_REASON_COUNT
};

struct gw_reason_info {
    const char *code; /* "NO_ROUTE"; "-" for GW_REASON_NONE */
    int status;       /* 0: none of its own */
    const char *cause, *remedy;
};
const struct gw_reason_info *gw_reason_info(enum gw_reason);
enum gw_reason gw_reason_find(const char *code); /* case-insensitive; GW_REASON_COUNT if unknown */

enum gw_reason gw_reason_of_head(enum gw_head_result);
/* One that only a refused head brings about: what an access log's line says of it is not the whole request. */
bool gw_reason_is_of_head(enum gw_reason);
enum gw_reason gw_reason_of_client(enum gw_client_error);
enum gw_reason gw_reason_of_end(enum gw_stream_end);

/* Whether it says why a connection was closed before anything was served: told by
 * weir_connections_refused_total{reason}, as there is no request to log. */
static inline bool gw_reason_is_refusal(enum gw_reason reason)
{
    return reason >= GW_REASON_TOO_MANY_CONNECTIONS && reason <= GW_REASON_PROXY_TIMEOUT;
}
