#include "gateway/reason.h"
#include <assert.h>
#include <strings.h>

static const struct gw_reason_info infos[GW_REASON_COUNT] = {
    [GW_REASON_NONE] = {"-", 0, "The target's answer was passed on whole.", "Nothing is wrong."},
#define X(code, status, cause, remedy) [GW_REASON_##code] = {#code, status, cause, remedy},
    GW_REASONS(X)
#undef X
};

const struct gw_reason_info *gw_reason_info(enum gw_reason reason)
{
    assert((unsigned)reason < GW_REASON_COUNT);
    return &infos[reason];
}

enum gw_reason gw_reason_find(const char *code)
{
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        if (strcasecmp(infos[i].code, code) == 0)
            return (enum gw_reason)i;
    return GW_REASON_COUNT;
}

/* The three mappings have no default branch: a new outcome without a reason is a compiler warning. */
enum gw_reason gw_reason_of_head(enum gw_head_result result)
{
    switch (result) {
    case GW_HEAD_OK:
        return GW_REASON_NONE;
    case GW_HEAD_INCOMPLETE: /* stands for the header timeout: gateway/http/stream.h */
        return GW_REASON_HEADER_TIMEOUT;
    case GW_HEAD_BAD_SYNTAX:
        return GW_REASON_BAD_SYNTAX;
    case GW_HEAD_BAD_METHOD:
        return GW_REASON_BAD_METHOD;
    case GW_HEAD_BAD_TARGET:
        return GW_REASON_BAD_TARGET;
    case GW_HEAD_BAD_VERSION:
        return GW_REASON_BAD_VERSION;
    case GW_HEAD_BARE_LF:
        return GW_REASON_BAD_LINE_END;
    case GW_HEAD_OBS_FOLD:
        return GW_REASON_FOLDED_FIELD;
    case GW_HEAD_BAD_FIELD_NAME:
    case GW_HEAD_BAD_FIELD_VALUE:
        return GW_REASON_BAD_FIELD;
    case GW_HEAD_CONNECTION_FIELD:
        return GW_REASON_CONNECTION_FIELD;
    case GW_HEAD_FLOOD: /* until the end of the stream says which budget */
        return GW_REASON_TOO_MANY_EMPTY_FRAMES;
    case GW_HEAD_DESYNC:
        return GW_REASON_DESYNC;
    case GW_HEAD_BAD_PSEUDO:
        return GW_REASON_BAD_PSEUDO_HEADER;
    case GW_HEAD_MISSING_HOST:
        return GW_REASON_MISSING_HOST;
    case GW_HEAD_REPEATED_HOST:
    case GW_HEAD_BAD_HOST:
    case GW_HEAD_HOST_CONFLICT:
        return GW_REASON_BAD_HOST;
    case GW_HEAD_BAD_CONTENT_LENGTH:
    case GW_HEAD_REPEATED_CONTENT_LENGTH:
    case GW_HEAD_BOTH_LENGTHS:
        return GW_REASON_BAD_LENGTH;
    case GW_HEAD_BAD_TRANSFER_ENCODING:
    case GW_HEAD_TRANSFER_ENCODING_IN_10:
        return GW_REASON_BAD_TRANSFER_ENCODING;
    case GW_HEAD_UNKNOWN_TRANSFER_ENCODING:
        return GW_REASON_UNSUPPORTED_TRANSFER_ENCODING;
    case GW_HEAD_TOO_MANY_FIELDS:
    case GW_HEAD_TOO_LARGE:
        return GW_REASON_HEAD_TOO_LARGE;
    case GW_HEAD_TARGET_TOO_LONG:
        return GW_REASON_URL_TOO_LONG;
    case GW_HEAD_BAD_EXPECT:
        return GW_REASON_EXPECTATION_FAILED;
    case GW_HEAD_METHOD_NOT_ALLOWED:
        return GW_REASON_METHOD_NOT_ALLOWED;
    case GW_HEAD_BAD_STATUS: /* of a response */
        return GW_REASON_UPSTREAM_BAD_RESPONSE;
    case GW_HEAD_NUM_RESULTS:
        break;
    }
    assert(!"no such head result");
    return GW_REASON_INTERNAL_ERROR;
}

bool gw_reason_is_of_head(enum gw_reason reason)
{
    if (reason == GW_REASON_NONE || reason == GW_REASON_METHOD_NOT_ALLOWED || reason == GW_REASON_UPSTREAM_BAD_RESPONSE)
        return false;
    for (int i = 0; i != GW_HEAD_NUM_RESULTS; ++i)
        if (gw_reason_of_head((enum gw_head_result)i) == reason)
            return true;
    return false;
}

enum gw_reason gw_reason_of_client(enum gw_client_error error)
{
    switch (error) {
    case GW_CLIENT_OK:
        return GW_REASON_NONE;
    case GW_CLIENT_NO_ROOM:
        return GW_REASON_CIRCUIT_CONNECTIONS;
    case GW_CLIENT_CONNECT_FAILED:
        return GW_REASON_CONNECT_FAILED;
    case GW_CLIENT_TLS_TIMEOUT:
        return GW_REASON_UPSTREAM_TLS_TIMEOUT;
    case GW_CLIENT_TLS_CERTIFICATE:
        return GW_REASON_UPSTREAM_CERTIFICATE;
    case GW_CLIENT_TLS_FAILED:
        return GW_REASON_UPSTREAM_TLS_FAILED;
    case GW_CLIENT_NOT_HTTP2:
        return GW_REASON_UPSTREAM_NOT_HTTP2;
    case GW_CLIENT_REFUSED:
        return GW_REASON_UPSTREAM_REFUSED;
    case GW_CLIENT_NO_UPGRADE:
        return GW_REASON_UPSTREAM_NO_UPGRADE;
    case GW_CLIENT_CONNECT_TIMEOUT:
        return GW_REASON_CONNECT_TIMEOUT;
    case GW_CLIENT_CLOSED_EARLY:
        return GW_REASON_UPSTREAM_CLOSED;
    case GW_CLIENT_FIRST_BYTE_TIMEOUT:
        return GW_REASON_FIRST_BYTE_TIMEOUT;
    case GW_CLIENT_BAD_HEAD:
        return GW_REASON_UPSTREAM_BAD_RESPONSE;
    case GW_CLIENT_HEAD_TOO_LARGE:
        return GW_REASON_UPSTREAM_HEAD_TOO_LARGE;
    case GW_CLIENT_TRUNCATED:
        return GW_REASON_UPSTREAM_TRUNCATED;
    case GW_CLIENT_BAD_CHUNK:
        return GW_REASON_UPSTREAM_BAD_CHUNK;
    case GW_CLIENT_TRAILERS_TOO_LARGE:
        return GW_REASON_UPSTREAM_TRAILERS_TOO_LARGE;
    case GW_CLIENT_IDLE_TIMEOUT:
        return GW_REASON_UPSTREAM_IDLE_TIMEOUT;
    case GW_CLIENT_RESET:
        return GW_REASON_UPSTREAM_RESET;
    }
    assert(!"no such client error");
    return GW_REASON_INTERNAL_ERROR;
}

static enum gw_reason reason_of_budget(enum gw_http2_budget budget)
{
    switch (budget) {
    case GW_HTTP2_RESETS:
        return GW_REASON_TOO_MANY_RESETS;
    case GW_HTTP2_STREAM_ERRORS:
        return GW_REASON_TOO_MANY_STREAM_ERRORS;
    case GW_HTTP2_PINGS:
        return GW_REASON_TOO_MANY_PINGS;
    case GW_HTTP2_SETTINGS:
        return GW_REASON_TOO_MANY_SETTINGS;
    case GW_HTTP2_PRIORITIES:
        return GW_REASON_TOO_MANY_PRIORITIES;
    case GW_HTTP2_EMPTY_FRAMES:
        return GW_REASON_TOO_MANY_EMPTY_FRAMES;
    case GW_HTTP2_WINDOW_UPDATES:
        return GW_REASON_TOO_MANY_WINDOW_UPDATES;
    case GW_HTTP2_CONTINUATIONS:
        return GW_REASON_TOO_MANY_CONTINUATIONS;
    case GW_HTTP2_FIELD_BYTES:
        return GW_REASON_HEADER_BOMB;
    case GW_HTTP2_NUM_BUDGETS:
        break;
    }
    assert(!"no such budget");
    return GW_REASON_INTERNAL_ERROR;
}

enum gw_reason gw_reason_of_end(enum gw_stream_end end)
{
    if (end >= GW_END_FLOOD)
        return reason_of_budget((enum gw_http2_budget)(end - GW_END_FLOOD));
    switch (end) {
    case GW_END_COMPLETE:
        return GW_REASON_NONE;
    case GW_END_CLIENT_GONE:
        return GW_REASON_CLIENT_CLOSED;
    case GW_END_BODY_TIMEOUT:
        return GW_REASON_BODY_TIMEOUT;
    case GW_END_BODY_BAD:
        return GW_REASON_BAD_CHUNK;
    case GW_END_TRAILERS_TOO_LARGE:
        return GW_REASON_TRAILERS_TOO_LARGE;
    case GW_END_SEND_TIMEOUT:
        return GW_REASON_SEND_TIMEOUT;
    case GW_END_SETTINGS_TIMEOUT:
        return GW_REASON_SETTINGS_TIMEOUT;
    case GW_END_DRAIN:
        return GW_REASON_SHUTTING_DOWN;
    case GW_END_TUNNEL_IDLE:
        return GW_REASON_TUNNEL_IDLE_TIMEOUT;
    case GW_END_FLOOD:
        break;
    case GW_END_ABORTED: /* whoever broke it off has set a better one */
        return GW_REASON_INTERNAL_ERROR;
    }
    assert(!"no such end");
    return GW_REASON_INTERNAL_ERROR;
}
