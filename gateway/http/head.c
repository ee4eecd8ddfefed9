#include "gateway/http/head.h"
#include "gateway/http/fields.h"
#include "gateway/http/grammar.h"

enum { MAX_METHOD = 32, VERSION_LEN = 8 /* HTTP/1.1 */ };

/* Compares with a pattern, in which # is any digit, as far as there are bytes: what cannot become right is refused now,
 * as a slow head is looked at again only when an empty line comes. */
static enum gw_head_result match(const char *p, const char *end, const char *pattern)
{
    for (; *pattern != '\0'; ++p, ++pattern) {
        if (p == end)
            return GW_HEAD_INCOMPLETE;
        if (*pattern == '#' ? !('0' <= *p && *p <= '9') : *p != *pattern)
            return GW_HEAD_BAD_SYNTAX;
    }
    return GW_HEAD_OK;
}

static enum gw_head_result read_version(const char *p, const char *end, int *minor_version)
{
    enum gw_head_result result;
    *minor_version = 1;
    if (end - p >= VERSION_LEN && memcmp(p, "HTTP/1.1", VERSION_LEN) == 0)
        return GW_HEAD_OK;
    if ((result = match(p, end, "HTTP/#.#")) != GW_HEAD_OK)
        return result;
    if (p[5] != '1')
        return GW_HEAD_BAD_VERSION;
    *minor_version = p[7] == '0' ? 0 : 1; /* RFC 9110 2.5: a higher minor version is ours to treat as 1.1 */
    return GW_HEAD_OK;
}

/* Whether a slow head, of which prev_len bytes were seen before, has come to its end: an empty line, or what the parser
 * refuses in its place. Both end the head, so it is parsed only twice however slowly it comes. */
static bool is_complete(const char *bytes, size_t len, size_t prev_len)
{
    const char *p = bytes + (prev_len < 3 ? 0 : prev_len - 3), *end = bytes + len;
    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL && ++p != end)
        if (*p == '\n' || (*p == '\r' && p + 1 != end))
            return true;
    return false;
}

/* The end of a first line. */
static enum gw_head_result read_line_end(const char *p, const char *end)
{
    if (p == end)
        return GW_HEAD_INCOMPLETE;
    if (*p == '\n')
        return GW_HEAD_BARE_LF;
    if (*p != '\r')
        return GW_HEAD_BAD_SYNTAX;
    if (p + 1 == end)
        return GW_HEAD_INCOMPLETE;
    return p[1] == '\n' ? GW_HEAD_OK : GW_HEAD_BAD_SYNTAX;
}

/* What both kinds of heads begin with. True: go on parsing. */
static bool is_worth_parsing(const char *bytes, size_t len, size_t prev_len, const struct gw_head_limits *limits,
                             enum gw_head_result *result)
{
    *result = len >= limits->max_bytes ? GW_HEAD_TOO_LARGE : GW_HEAD_INCOMPLETE;
    return len != 0 && (prev_len == 0 || is_complete(bytes, len, prev_len));
}

/* A head that has grown to the limit without an end will not fit any more. */
static enum gw_head_result check_size(enum gw_head_result result, size_t len, size_t consumed,
                                      const struct gw_head_limits *limits)
{
    if (result == GW_HEAD_INCOMPLETE && len >= limits->max_bytes)
        return GW_HEAD_TOO_LARGE;
    if (result == GW_HEAD_OK && consumed > limits->max_bytes)
        return GW_HEAD_TOO_LARGE;
    return result;
}

/* ---- requests ---- */

struct request_line {
    char *target_end;
    char *query; /* the first '?', or NULL */
    char *next;  /* behind the line end */
};

static enum gw_head_result parse_request_line(char *p, char *end, size_t max_target, struct gw_request_head *head,
                                              struct request_line *line)
{
    char *method = p, *target, *bound = end - p > MAX_METHOD + 1 ? p + MAX_METHOD + 1 : end;
    enum gw_head_result result;
    while (p != bound && gw_char_is(*p, GW_CHAR_TOKEN))
        ++p;
    if (p - method > MAX_METHOD)
        return GW_HEAD_BAD_METHOD;
    if (p == end)
        return GW_HEAD_INCOMPLETE;
    if (p == method || *p != ' ')
        return GW_HEAD_BAD_METHOD;
    head->method = h2o_iovec_init(method, (size_t)(p - method));

    target = ++p;
    bound = (size_t)(end - p) > max_target + 1 ? p + max_target + 1 : end;
    line->query = NULL;
    while (p != bound && gw_char_is(*p, GW_CHAR_PATH))
        ++p;
    if (p != bound && *p == '?') {
        line->query = p;
        while (p != bound && gw_char_is(*p, GW_CHAR_QUERY))
            ++p;
    }
    if ((size_t)(p - target) > max_target)
        return GW_HEAD_TARGET_TOO_LONG;
    if (p == end)
        return GW_HEAD_INCOMPLETE;
    if (p == target || *p != ' ')
        return *p == '\n' && p[-1] != '\r' ? GW_HEAD_BARE_LF
               : p != target && *p == '\r' ? GW_HEAD_BAD_SYNTAX
                                           : GW_HEAD_BAD_TARGET;
    head->target = h2o_iovec_init(target, (size_t)(p - target));
    line->target_end = p++;

    if ((result = read_version(p, end, &head->minor_version)) != GW_HEAD_OK)
        return result;
    p += VERSION_LEN;
    line->next = p + 2;
    return read_line_end(p, end);
}

/* While the end of a slow request line has not come, the parser is not called; but the limit holds. */
static bool is_line_too_long(const char *bytes, size_t len, size_t max_target)
{
    size_t max_line =
        max_target + MAX_METHOD + VERSION_LEN + 6; /* two spaces, the line end, and a CRLF before the line */
    return len > max_line && memchr(bytes + 2, '\n', max_line - 2) == NULL;
}

static bool are_escapes_valid(const char *p, const char *end)
{
    while ((p = memchr(p, '%', (size_t)(end - p))) != NULL) {
        if (end - p < 3 || !gw_char_is(p[1], GW_CHAR_HEX) || !gw_char_is(p[2], GW_CHAR_HEX))
            return false;
        p += 3;
    }
    return true;
}

/* RFC 9112 3.2.2. Where the path is empty, a '/' is put before the query: the scheme and authority move one byte to the
 * left, onto the space before them. */
static enum gw_head_result read_absolute_form(struct gw_request_head *head, struct request_line *line)
{
    char *p = head->target.base, *end = line->target_end, *authority;
    if (end - p > 7 && strncasecmp(p, "http://", 7) == 0)
        authority = p + 7;
    else if (end - p > 8 && strncasecmp(p, "https://", 8) == 0)
        authority = p + 8;
    else
        return GW_HEAD_BAD_TARGET;
    head->target_is_absolute = true;
    head->absolute_is_tls = authority - p == 8;
    char *path = authority, *path_end = line->query != NULL ? line->query : end;
    while (path != path_end && *path != '/')
        ++path;
    head->authority = h2o_iovec_init(authority, (size_t)(path - authority));
    if (!gw_is_authority(head->authority))
        return GW_HEAD_BAD_TARGET;
    if (path != path_end) {
        head->path = h2o_iovec_init(path, (size_t)(end - path));
    } else if (line->query != NULL) {
        memmove(p - 1, p, (size_t)(path - p));
        *--path = '/';
        --head->target.base;
        ++head->target.len;
        --head->authority.base;
        head->path = h2o_iovec_init(path, (size_t)(end - path));
    } else if (h2o_memis(head->method.base, head->method.len, H2O_STRLIT("OPTIONS"))) {
        head->target_is_asterisk = true; /* RFC 9112 3.2.4 */
        head->path = h2o_iovec_init(H2O_STRLIT("*"));
    } else {
        head->path = h2o_iovec_init(H2O_STRLIT("/"));
    }
    return GW_HEAD_OK;
}

enum gw_head_result gw_head_check_path(h2o_iovec_t path, bool is_options, size_t *query_at)
{
    const char *p = path.base, *end = p + path.len, *query;

    *query_at = SIZE_MAX;
    if (path.len == 1 && *p == '*')
        return is_options ? GW_HEAD_OK : GW_HEAD_BAD_TARGET;
    if (p == end || *p != '/')
        return GW_HEAD_BAD_TARGET;
    while (p != end && gw_char_is(*p, GW_CHAR_PATH))
        ++p;
    query = p;
    if (p != end && *p == '?') {
        *query_at = (size_t)(p - path.base);
        while (p != end && gw_char_is(*p, GW_CHAR_QUERY))
            ++p;
    }
    return p == end && are_escapes_valid(path.base, query) ? GW_HEAD_OK : GW_HEAD_BAD_TARGET;
}

static enum gw_head_result read_target(struct gw_request_head *head, struct request_line *line)
{
    enum gw_head_result result = GW_HEAD_OK;
    if (h2o_memis(head->method.base, head->method.len, H2O_STRLIT("CONNECT")))
        return GW_HEAD_METHOD_NOT_ALLOWED;
    head->target_is_absolute = head->target_is_asterisk = head->absolute_is_tls = false;
    if (head->target.base[0] == '/') {
        head->path = head->target;
    } else if (head->target.len == 1 && head->target.base[0] == '*') {
        if (!h2o_memis(head->method.base, head->method.len, H2O_STRLIT("OPTIONS")))
            return GW_HEAD_BAD_TARGET;
        head->target_is_asterisk = true;
        head->path = head->target;
    } else if ((result = read_absolute_form(head, line)) != GW_HEAD_OK) {
        return result;
    }
    head->query_at = line->query != NULL ? (size_t)(line->query - head->path.base) : SIZE_MAX;
    if (!are_escapes_valid(head->path.base, head->path.base + (line->query != NULL ? head->query_at : head->path.len)))
        return GW_HEAD_BAD_TARGET;
    return GW_HEAD_OK;
}

/* The port of an authority that passed gw_is_authority; *host_len is what stands before it. */
static unsigned split_port(h2o_iovec_t authority, unsigned initial, size_t *host_len)
{
    const char *end = authority.base + authority.len, *p = end;
    unsigned port = 0;
    while (p != authority.base && '0' <= p[-1] && p[-1] <= '9')
        --p;
    if (p == authority.base || p[-1] != ':' ||
        (authority.base[0] == '[' && memchr(p, ']', (size_t)(end - p)) != NULL)) {
        *host_len = authority.len;
        return initial;
    }
    *host_len = (size_t)(p - 1 - authority.base);
    if (p == end)
        return initial;
    for (; p != end; ++p)
        port = port * 10 + (unsigned)(*p - '0');
    return port;
}

bool gw_is_same_authority(h2o_iovec_t x, h2o_iovec_t y, bool is_tls)
{
    size_t x_len, y_len;
    unsigned initial = is_tls ? 443 : 80;
    return split_port(x, initial, &x_len) == split_port(y, initial, &y_len) && x_len == y_len &&
           strncasecmp(x.base, y.base, x_len) == 0;
}

static enum gw_head_result finish_request(struct gw_request_head *head, const struct gw_fields *found)
{
    bool is_11 = head->minor_version != 0;
    if (!found->has_host) {
        if (is_11)
            return GW_HEAD_MISSING_HOST;
        if (!head->target_is_absolute)
            head->authority = h2o_iovec_init(H2O_STRLIT(""));
    } else if (!head->target_is_absolute) {
        head->authority = found->host;
    } else if (!gw_is_same_authority(head->authority, found->host, head->absolute_is_tls)) {
        return GW_HEAD_HOST_CONFLICT;
    }
    head->num_fields = found->num_fields;
    head->num_names = found->num_names;
    head->absent_initials = ~found->initials;
    head->content_length = found->has_content_length ? found->content_length : UINT64_MAX;
    head->is_chunked = found->is_chunked;
    head->keep_alive = !found->is_close && (is_11 || found->is_keep_alive);
    head->expects_continue = found->expects_continue;
    /* RFC 9110 7.8: not from HTTP/1.0 */
    head->wants_upgrade = is_11 && found->is_upgrade_listed && found->upgrade.len != 0;
    head->upgrade = head->wants_upgrade ? found->upgrade : h2o_iovec_init(NULL, 0);
    head->accepts_trailers = is_11 && found->accepts_trailers;
    head->trailer = found->is_chunked ? found->trailer : h2o_iovec_init(NULL, 0);
    return GW_HEAD_OK;
}

/* Most requests need no second look. */
static bool may_be_desync(const struct gw_fields *found, h2o_iovec_t method, const struct request_line *line,
                          bool *is_get_or_head)
{
    *is_get_or_head =
        h2o_memis(method.base, method.len, H2O_STRLIT("GET")) || h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));
    return found->is_suspicious || line->next[-3] > '1' ||
           (*is_get_or_head && (found->has_content_length || found->is_chunked));
}

static enum gw_head_result check_desync(struct gw_request_head *head, const struct gw_fields *found,
                                        const struct request_line *line, const char *end, enum gw_desync_mode mode)
{
    bool is_get_or_head;

    head->desync = GW_DESYNC_NONE;
    if (__builtin_expect(!may_be_desync(found, head->method, line, &is_get_or_head), 1))
        return GW_HEAD_OK;
    head->desync = (uint8_t)gw_desync_of_fields(line->next, end, is_get_or_head, line->next[-3] - '0');
    return gw_desync_blocks(mode, gw_desync_class(head->desync)) ? GW_HEAD_DESYNC : GW_HEAD_OK;
}

static enum gw_head_result parse_request(char *p, char *end, const struct gw_head_limits *limits,
                                         struct gw_request_head *head, char **next)
{
    struct request_line line;
    h2o_iovec_t nominations[GW_MAX_NOMINATIONS];
    enum gw_head_result result = parse_request_line(p, end, limits->max_target, head, &line);
    if (result != GW_HEAD_OK)
        return result;
    struct gw_fields found = {.is_request = true,
                              .minor_version = head->minor_version,
                              .fields = head->fields,
                              .names = head->names,
                              .nominations = nominations};
    if ((result = gw_fields_parse(&found, line.next, end, limits->max_fields, next)) != GW_HEAD_OK)
        return result;
    if ((result = check_desync(head, &found, &line, *next, limits->desync_mode)) != GW_HEAD_OK ||
        (result = read_target(head, &line)) != GW_HEAD_OK)
        return result;
    return finish_request(head, &found);
}

/* RFC 9112 2.2: one empty line before the request line is the tail of a message from a careless client. */
static enum gw_head_result skip_empty_line(char *bytes, size_t len, size_t *skipped)
{
    *skipped = 0;
    if (bytes[0] == '\n')
        return GW_HEAD_BARE_LF;
    if (bytes[0] != '\r')
        return GW_HEAD_OK;
    if (len < 2)
        return GW_HEAD_INCOMPLETE;
    *skipped = 2;
    return bytes[1] != '\n' ? GW_HEAD_BAD_SYNTAX : len == 2 ? GW_HEAD_INCOMPLETE : GW_HEAD_OK;
}

enum gw_head_result gw_head_parse_request(char *bytes, size_t len, size_t prev_len, const struct gw_head_limits *limits,
                                          struct gw_request_head *head, size_t *consumed)
{
    enum gw_head_result result;
    size_t skipped;
    char *next = bytes;
    if (!is_worth_parsing(bytes, len, prev_len, limits, &result))
        return is_line_too_long(bytes, len, limits->max_target) ? GW_HEAD_TARGET_TOO_LONG : result;
    if ((result = skip_empty_line(bytes, len, &skipped)) == GW_HEAD_OK)
        result = parse_request(bytes + skipped, bytes + len, limits, head, &next);
    *consumed = (size_t)(next - bytes);
    return check_size(result, len, *consumed, limits);
}

/* ---- responses ---- */

static enum gw_head_result parse_status_line(char *p, char *end, struct gw_response_head *head, char **next)
{
    enum gw_head_result result = read_version(p, end, &head->minor_version);
    if (result != GW_HEAD_OK || (result = match(p + VERSION_LEN, end, " ###")) != GW_HEAD_OK)
        return result;
    p += VERSION_LEN + 1;
    head->status = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
    p += 3;
    if (head->status < 100 || head->status > 599) /* RFC 9110 15 */
        return GW_HEAD_BAD_STATUS;
    /* some origins leave out the space before an empty phrase; nothing can be misread there */
    char *reason = p != end && *p == ' ' ? ++p : p;
    if (reason[-1] == ' ')
        while (p != end && gw_char_is(*p, GW_CHAR_VALUE))
            ++p;
    head->reason = h2o_iovec_init(reason, (size_t)(p - reason));
    *next = p + 2;
    return read_line_end(p, end);
}

static enum gw_head_result parse_response(char *p, char *end, const struct gw_head_limits *limits,
                                          struct gw_response_head *head, char **next)
{
    h2o_iovec_t nominations[GW_MAX_NOMINATIONS];
    enum gw_head_result result = parse_status_line(p, end, head, &p);
    if (result != GW_HEAD_OK)
        return result;
    struct gw_fields found = {
        .minor_version = head->minor_version, .fields = head->fields, .names = head->names, .nominations = nominations};
    if ((result = gw_fields_parse(&found, p, end, limits->max_fields, next)) != GW_HEAD_OK)
        return result;
    bool is_11 = head->minor_version != 0;
    head->num_fields = found.num_fields;
    head->content_length = found.has_content_length ? found.content_length : UINT64_MAX;
    head->is_chunked = found.is_chunked;
    head->keep_alive = !found.is_close && (is_11 || found.is_keep_alive);
    bool switches = head->status == 101 && found.is_upgrade_listed;
    head->upgrade = switches ? found.upgrade : h2o_iovec_init(NULL, 0);
    head->trailer = found.is_chunked ? found.trailer : h2o_iovec_init(NULL, 0);
    return GW_HEAD_OK;
}

enum gw_head_result gw_head_parse_response(char *bytes, size_t len, size_t prev_len,
                                           const struct gw_head_limits *limits, struct gw_response_head *head,
                                           size_t *consumed)
{
    enum gw_head_result result;
    char *next = bytes;
    if (!is_worth_parsing(bytes, len, prev_len, limits, &result))
        return result;
    result = parse_response(bytes, bytes + len, limits, head, &next);
    *consumed = (size_t)(next - bytes);
    return check_size(result, len, *consumed, limits);
}

/* ---- refusals ---- */

static const struct {
    int status;
    const char *problem;
} refusals[GW_HEAD_NUM_RESULTS] = {
    [GW_HEAD_OK] = {0, "fine"},
    [GW_HEAD_INCOMPLETE] = {0, "more is to come"},
    [GW_HEAD_BAD_SYNTAX] = {400, "the first line or a line end is malformed"},
    [GW_HEAD_BAD_METHOD] = {400, "the method is no token or too long"},
    [GW_HEAD_METHOD_NOT_ALLOWED] = {405, "CONNECT is not supported"},
    [GW_HEAD_BAD_TARGET] = {400, "the request target is malformed"},
    [GW_HEAD_BAD_VERSION] = {505, "the version is not HTTP/1.0 or HTTP/1.1"},
    [GW_HEAD_BAD_STATUS] = {502, "the status is not 100 to 599"},
    [GW_HEAD_BARE_LF] = {400, "a line ends in LF without CR"},
    [GW_HEAD_OBS_FOLD] = {400, "a field is folded over lines"},
    [GW_HEAD_BAD_FIELD_NAME] = {400, "a field name is no token"},
    [GW_HEAD_BAD_FIELD_VALUE] = {400, "a field value is malformed"},
    [GW_HEAD_MISSING_HOST] = {400, "Host is missing"},
    [GW_HEAD_REPEATED_HOST] = {400, "Host is repeated"},
    [GW_HEAD_BAD_HOST] = {400, "Host is malformed"},
    [GW_HEAD_HOST_CONFLICT] = {400, "Host and the request target name different hosts"},
    [GW_HEAD_BAD_CONTENT_LENGTH] = {400, "Content-Length is not a number"},
    [GW_HEAD_REPEATED_CONTENT_LENGTH] = {400, "Content-Length is repeated"},
    [GW_HEAD_BOTH_LENGTHS] = {400, "Content-Length and Transfer-Encoding are both given"},
    [GW_HEAD_BAD_TRANSFER_ENCODING] = {400, "Transfer-Encoding is not exactly one chunked"},
    [GW_HEAD_UNKNOWN_TRANSFER_ENCODING] = {501, "only the transfer coding chunked is supported"},
    [GW_HEAD_TRANSFER_ENCODING_IN_10] = {400, "Transfer-Encoding is given in HTTP/1.0"},
    [GW_HEAD_TOO_MANY_FIELDS] = {431, "there are too many fields"},
    [GW_HEAD_TOO_LARGE] = {431, "the head is too large"},
    [GW_HEAD_TARGET_TOO_LONG] = {414, "the request target is too long"},
    [GW_HEAD_BAD_EXPECT] = {417, "only the expectation 100-continue is supported"},
    [GW_HEAD_BAD_PSEUDO] = {400, "a pseudo-header field is missing, repeated, unknown or misplaced"},
    [GW_HEAD_DESYNC] = {400, "two readers may take it for two different requests"},
    [GW_HEAD_FLOOD] = {0, "a budget of limits.http2 is spent"},
    [GW_HEAD_CONNECTION_FIELD] = {400, "a field that HTTP/2 does without is there, or TE is not trailers"},
};

int gw_head_status(enum gw_head_result result) { return refusals[result].status; }

const char *gw_head_problem(enum gw_head_result result) { return refusals[result].problem; }
