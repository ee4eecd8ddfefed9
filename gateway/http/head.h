/* Strict HTTP/1.x heads (RFC 9112). Parsing with the exported phr_* functions,
 * then our rules. All slices point into the given bytes. Pure functions. */
#pragma once
#include <stdbool.h>
#include <h2o.h>
#include "gateway/http/desync.h"

enum gw_head_result {
    GW_HEAD_OK = 0,
    GW_HEAD_INCOMPLETE,
    /* each refusal has its own value; gw_head_problem gives its sentence, gw_head_status its status */
    GW_HEAD_BAD_SYNTAX,                /* 400: what picohttpparser refuses */
    GW_HEAD_BAD_METHOD,                /* 400: not a token */
    GW_HEAD_METHOD_NOT_ALLOWED,        /* 405: CONNECT */
    GW_HEAD_BAD_TARGET,                /* 400: not origin-form, absolute-form http(s), or "*" for OPTIONS */
    GW_HEAD_BAD_VERSION,               /* 505: HTTP/x other than 1.x; the HTTP/2 preface */
    GW_HEAD_BAD_STATUS,                /* responses only: not 100 to 599 */
    GW_HEAD_BARE_LF,                   /* 400 */
    GW_HEAD_OBS_FOLD,                  /* 400 */
    GW_HEAD_BAD_FIELD_NAME,            /* 400: not a token, space before colon, empty */
    GW_HEAD_BAD_FIELD_VALUE,           /* 400: CTL, NUL, bare CR */
    GW_HEAD_MISSING_HOST,              /* 400: HTTP/1.1 */
    GW_HEAD_REPEATED_HOST,             /* 400 */
    GW_HEAD_BAD_HOST,                  /* 400: grammar of uri-host [":" port], RFC 9110 7.2 */
    GW_HEAD_HOST_CONFLICT,             /* 400: absolute-form and Host disagree: see README of this folder */
    GW_HEAD_BAD_CONTENT_LENGTH,        /* 400: not digits, sign, list, above 2^63-1 */
    GW_HEAD_REPEATED_CONTENT_LENGTH,   /* 400: more than one, even if equal */
    GW_HEAD_BOTH_LENGTHS,              /* 400: Content-Length and Transfer-Encoding */
    GW_HEAD_BAD_TRANSFER_ENCODING,     /* 400: repeated, or chunked not alone and last */
    GW_HEAD_UNKNOWN_TRANSFER_ENCODING, /* 501 for gzip/deflate/compress/x-*, RFC 9112 6.1 */
    GW_HEAD_TRANSFER_ENCODING_IN_10,   /* 400 */
    GW_HEAD_TOO_MANY_FIELDS,           /* 431 */
    GW_HEAD_TOO_LARGE,                 /* 431: head block above the limit */
    GW_HEAD_TARGET_TOO_LONG,           /* 414 */
    GW_HEAD_BAD_EXPECT,                /* 417: anything but 100-continue */
    GW_HEAD_BAD_PSEUDO,                /* 400: HTTP/2, RFC 9113 8.3 */
    GW_HEAD_CONNECTION_FIELD,          /* 400: HTTP/2, RFC 9113 8.2.2 */
    GW_HEAD_DESYNC,                    /* 400: limits.desync_mitigation blocks its class */
    GW_HEAD_FLOOD,                     /* HTTP/2: no head at all, but a budget of its connection is spent */
    GW_HEAD_NUM_RESULTS
};
int gw_head_status(enum gw_head_result);
const char *gw_head_problem(enum gw_head_result);

enum { GW_HEAD_MAX_FIELDS = 100 }; /* libh2o's own limit, compiled in */
enum { GW_HEAD_MAX_UPGRADE = 64 }; /* longest name of a protocol that is switched to */
struct gw_head_limits {
    size_t max_bytes;  /* head block, default 32 KiB */
    size_t max_target; /* default 8 KiB */
    size_t max_fields; /* default 100 */
    enum gw_desync_mode desync_mode;
};

struct gw_request_head {
    h2o_iovec_t method, target; /* target as sent */
    bool target_is_absolute, target_is_asterisk;
    bool absolute_is_tls;  /* scheme of an absolute-form target */
    h2o_iovec_t authority; /* from absolute-form if given, else Host; as sent; "" on 1.0 without Host */
    h2o_iovec_t path;  /* with query, starts with '/' ("*" for asterisk-form): where absolute-form had no path, "/" */
    size_t query_at;   /* offset of '?' in path, SIZE_MAX if none */
    int minor_version; /* 0 or 1 */
    /* fields except Host, Content-Length, Transfer-Encoding, Connection, Keep-Alive, Proxy-Connection, TE, Trailer,
     * Upgrade, Expect, HTTP2-Settings and those named by Connection: these hop-by-hop fields are consumed here. Names
     * are lower-cased in place; name points to the libh2o token or to a slot in `names` */
    h2o_header_t *fields; /* caller's array of GW_HEAD_MAX_FIELDS */
    size_t num_fields;
    h2o_iovec_t *names; /* caller's array of GW_HEAD_MAX_FIELDS: storage for names that are no tokens */
    size_t num_names;
    /* Bit (c & 31) is set only when no field's name begins with c, so that nobody need look for one. 0: nothing is
     * known. */
    uint32_t absent_initials;
    uint64_t content_length; /* UINT64_MAX: none */
    bool is_chunked;
    bool keep_alive; /* what the client allows: version and Connection */
    bool expects_continue;
    bool wants_upgrade;
    h2o_iovec_t upgrade;   /* value of Upgrade when Connection lists it, else base NULL */
    bool accepts_trailers; /* TE: trailers, not in HTTP/1.0 */
    uint8_t desync;        /* enum gw_desync; always none over HTTP/2 */
    h2o_iovec_t trailer;   /* first Trailer field of a chunked message, and over HTTP/2; base NULL: none */
};
static inline bool gw_may_have_field(uint32_t absent_initials, char initial)
{
    return (absent_initials & 1u << (initial & 31)) == 0;
}
/* Parses one head at the start of bytes (leading CRLFs, at most one pair, are skipped: RFC 9112 2.2). prev_len: bytes
 * already seen by an earlier INCOMPLETE call, so that slow heads are not parsed again from the start. Lower-cases names
 * in place. On OK *consumed is the length of the head. */
enum gw_head_result gw_head_parse_request(char *bytes, size_t len, size_t prev_len, const struct gw_head_limits *,
                                          struct gw_request_head *, size_t *consumed);

/* What a head that was refused seems to say, for the log and nothing else: nothing is checked, and any byte may stand
 * in path and query. base NULL: it does not look like one. path as sent (absolute-form too), at most 8 KiB with the
 * query; method and host are visible ASCII of at most 32 and 255 bytes. Slices point into the bytes. */
struct gw_head_glimpse {
    h2o_iovec_t method, path, query, host;
};
struct gw_head_glimpse gw_head_glimpse(const char *bytes, size_t len);

struct gw_response_head {
    int status;
    int minor_version;
    h2o_iovec_t reason;   /* phrase as sent */
    h2o_header_t *fields; /* without hop-by-hop fields, Content-Length and Transfer-Encoding; caller's array */
    size_t num_fields;
    h2o_iovec_t *names;
    uint64_t content_length; /* UINT64_MAX: none */
    bool is_chunked;
    bool keep_alive;
    h2o_iovec_t upgrade; /* 101 only */
    h2o_iovec_t trailer; /* as in a request */
};
/* The same for a response; the request's method decides about bodies elsewhere. Refusals use the same enum; any of them
 * is a 502 for the client. obs-fold in responses is refused too. Equal repeated Content-Length is refused. */
enum gw_head_result gw_head_parse_response(char *bytes, size_t len, size_t prev_len, const struct gw_head_limits *,
                                           struct gw_response_head *, size_t *consumed);

/* Whether a Connection field of a head that was parsed names this field (RFC 9110 7.6.1). bytes: from the first line
 * on; name in lower case. For trailers: fields of the head are dropped by the parser. */
bool gw_head_nominates(const char *bytes, h2o_iovec_t name);

/* RFC 9110 tokens and values, shared with header rules and tests. */
bool gw_is_token(h2o_iovec_t);
bool gw_is_field_value(h2o_iovec_t);
/* A target in origin-form, or "*" of OPTIONS; *query_at is that of gw_request_head. Its length is not looked at. */
enum gw_head_result gw_head_check_path(h2o_iovec_t path, bool is_options, size_t *query_at);
bool gw_head_read_length(h2o_iovec_t, uint64_t *); /* the value of Content-Length: digits, up to 2^63-1 */
/* Whether two that passed gw_is_authority name the same: case of the host and the scheme's own port do not matter. */
bool gw_is_same_authority(h2o_iovec_t, h2o_iovec_t, bool is_tls);
bool gw_is_authority(h2o_iovec_t); /* uri-host [":" port] of RFC 3986, no userinfo, port 0..65535 or empty */
