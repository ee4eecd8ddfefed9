#include "gateway/observe/access_format.h"
#include <stddef.h>
#include <time.h>
#include <h2o.h>
#include "gateway/observe/access_put.h"
#include "gateway/lambda/lambda.h"
#include "gateway/base/yaml.h"

/* ---- text ---- */

/* Quotes, backslashes, controls and everything that is not ASCII. */
static char *put_escaped(char *dst, h2o_iovec_t text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = gw_access_capped(text.len);

    for (size_t i = 0; i != len; ++i) {
        uint8_t c = text.base[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            *dst++ = c;
        } else {
            *dst++ = '\\';
            *dst++ = 'x';
            *dst++ = hex[c >> 4];
            *dst++ = hex[c & 15];
        }
    }
    return dst;
}

static char *put_text(char *dst, h2o_iovec_t text)
{
    if (text.base == NULL || text.len == 0)
        return PUT(dst, "-");
    return put_escaped(dst, text);
}

static char *put_quoted(char *dst, h2o_iovec_t text)
{
    *dst++ = '"';
    dst = put_text(dst, text);
    *dst++ = '"';
    return dst;
}

static char *put_status(char *dst, uint32_t status) { return status != 0 ? put_number(dst, status) : PUT(dst, "-"); }

/* Path and query as the client sent them. */
static char *put_url(char *dst, const struct gw_access_line *line)
{
    dst = put_text(dst, line->path);
    if (line->query.base == NULL)
        return dst;
    *dst++ = '?';
    return put_escaped(dst, line->query);
}

/* [02/Jan/2026:03:04:05 +0000], without the brackets */
static char *put_local_time(char *dst, uint64_t wall_us)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;

    gmtime_r(&t, &tm);
    dst = put_digits(dst, tm.tm_mday, 2);
    *dst++ = '/';
    dst = put(dst, months + tm.tm_mon * 3, 3);
    *dst++ = '/';
    dst = put_digits(dst, (unsigned)tm.tm_year + 1900, 4);
    *dst++ = ':';
    dst = put_digits(dst, tm.tm_hour, 2);
    *dst++ = ':';
    dst = put_digits(dst, tm.tm_min, 2);
    *dst++ = ':';
    dst = put_digits(dst, tm.tm_sec, 2);
    return PUT(dst, " +0000");
}

/* METHOD /path?query HTTP/1.1 */
static char *put_request_line(char *dst, const struct gw_access_line *line)
{
    if (line->method.base == NULL)
        return PUT(dst, "-");
    dst = put_text(dst, line->method);
    *dst++ = ' ';
    dst = put_url(dst, line);
    *dst++ = ' ';
    return put_text(dst, line->protocol);
}

/* ---- bounds ---- */

/* Of a text or a request line, with quotes and a blank. */
static size_t bound_of(h2o_iovec_t text) { return 4 * gw_access_capped(text.len) + 4; }

static size_t url_bound(const struct gw_access_line *line)
{
    return bound_of(line->method) + bound_of(line->path) + bound_of(line->query) + bound_of(line->protocol) + 8;
}

enum { NUMBER_BOUND = 40 }; /* of any number or time */

/* ---- combined ---- */

size_t gw_access_combined_write(char *base, const struct gw_access_full *full)
{
    const struct gw_access_line *line = &full->line;
    char *dst = put_text(base, line->client);

    dst = PUT(dst, " - - [");
    dst = put_local_time(dst, full->wall_us);
    dst = PUT(dst, "] \"");
    dst = put_request_line(dst, line);
    dst = PUT(dst, "\" ");
    dst = put_number(dst, line->status);
    *dst++ = ' ';
    dst = put_number(dst, full->body_bytes_out);
    *dst++ = ' ';
    dst = put_quoted(dst, line->referer);
    *dst++ = ' ';
    dst = put_quoted(dst, line->user_agent);
    *dst++ = '\n';
    return dst - base;
}

/* ---- ALB (spec/alb.md 8.1) ---- */

static char *put_precise_time(char *dst, uint64_t wall_us, struct gw_access_clock *clock)
{
    dst = gw_access_put_second(dst, wall_us / 1000000, clock);
    *dst++ = '.';
    dst = put_digits(dst, wall_us % 1000000, 6);
    *dst++ = 'Z';
    return dst;
}

static char *put_seconds(char *dst, uint64_t us)
{
    if (us == UINT64_MAX)
        return PUT(dst, "-1");
    dst = put_number(dst, us / 1000000);
    *dst++ = '.';
    return put_digits(dst, us / 1000 % 1000, 3);
}

static bool is(h2o_iovec_t text, const char *literal)
{
    return text.base != NULL && h2o_memis(text.base, text.len, literal, strlen(literal));
}

static char *put_type(char *dst, const struct gw_access_full *full)
{
    const struct gw_access_line *line = &full->line;
    bool is_tls = is(line->scheme, "https");
    if (line->status == 101)
        return is_tls ? PUT(dst, "wss") : PUT(dst, "ws");
    if (is(line->protocol, "HTTP/2.0"))
        return is_tls && full->is_grpc ? PUT(dst, "grpcs") : PUT(dst, "h2");
    return is_tls ? PUT(dst, "https") : PUT(dst, "http");
}

static char *put_peer(char *dst, const struct gw_access_line *line)
{
    bool is_v6 = line->peer.base != NULL && memchr(line->peer.base, ':', line->peer.len) != NULL;
    if (is_v6)
        *dst++ = '[';
    dst = put_text(dst, line->peer);
    if (is_v6)
        *dst++ = ']';
    *dst++ = ':';
    return put_number(dst, line->client_port);
}

static bool names_a_port(h2o_iovec_t authority)
{
    size_t i = authority.len;
    while (i != 0 && authority.base[i - 1] >= '0' && authority.base[i - 1] <= '9')
        --i;
    return i != authority.len && i != 0 && authority.base[i - 1] == ':';
}

/* METHOD scheme://host:port/path?query HTTP/1.1; what could not be read is "- - - ". */
static char *put_alb_request(char *dst, const struct gw_access_full *full)
{
    const struct gw_access_line *line = &full->line;

    if (line->method.base == NULL || line->path.base == NULL)
        return PUT(dst, "\"- - - \"");
    *dst++ = '"';
    dst = put_text(dst, line->method);
    *dst++ = ' ';
    dst = put_text(dst, line->scheme);
    dst = PUT(dst, "://");
    dst = put_text(dst, full->authority);
    if (!names_a_port(full->authority)) {
        *dst++ = ':';
        dst = put_number(dst, full->local_port);
    }
    dst = put_url(dst, line);
    *dst++ = ' ';
    dst = put_text(dst, line->protocol);
    *dst++ = '"';
    return dst;
}

static char *put_priority(char *dst, int64_t priority)
{
    if (priority == GW_ACCESS_NEVER_PRIORITY)
        return PUT(dst, "-");
    return put_number(dst, (uint64_t)priority);
}

/* Fields 13 to 20. */
static char *put_alb_middle(char *dst, const struct gw_access_full *full)
{
    const struct gw_access_line *line = &full->line;

    dst = put_alb_request(dst, full);
    *dst++ = ' ';
    dst = put_quoted(dst, line->user_agent);
    *dst++ = ' ';
    dst = put_text(dst, line->tls_cipher);
    *dst++ = ' ';
    dst = put_text(dst, line->tls_version);
    *dst++ = ' ';
    dst = put_text(dst, line->target_group);
    *dst++ = ' ';
    dst = put_quoted(dst, full->amzn_trace_id);
    *dst++ = ' ';
    dst = put_quoted(dst, full->domain_name);
    *dst++ = ' ';
    if (full->is_tls_resumed)
        return PUT(dst, "\"session-reused\"");
    return put_quoted(dst, full->certificate);
}

/* Reasons that an ALB knows have its name. */
static h2o_iovec_t alb_error_reason(h2o_iovec_t code)
{
    char text[64];

    if (code.len < 7 || code.len >= sizeof(text) || memcmp(code.base, "LAMBDA_", 7) != 0)
        return code;
    memcpy(text, code.base, code.len);
    text[code.len] = '\0';
    const char *name = gw_lambda_error_reason(gw_reason_find(text));
    return name != NULL ? h2o_iovec_init(name, strlen(name)) : code;
}

/* Fields 23 to 34. */
static char *put_alb_end(char *dst, const struct gw_access_full *full)
{
    const struct gw_access_line *line = &full->line;
    bool is_refused = is(line->reason, "-") == false && line->status >= 400;

    dst = put_quoted(dst, full->actions);
    *dst++ = ' ';
    dst = put_quoted(dst, full->location);
    *dst++ = ' ';
    dst = put_quoted(dst, is_refused ? alb_error_reason(line->reason) : h2o_iovec_init(NULL, 0));
    *dst++ = ' ';
    dst = put_quoted(dst, line->target);
    dst = PUT(dst, " \"");
    dst = put_status(dst, full->target_status);
    dst = PUT(dst, "\" ");
    dst = put_quoted(dst, line->classification);
    *dst++ = ' ';
    dst = put_quoted(dst, line->classification_reason);
    *dst++ = ' ';
    dst = put_text(dst, full->conn_id);
    *dst++ = ' ';
    dst = put_quoted(dst, full->sent_host);
    *dst++ = ' ';
    dst = put_quoted(dst, full->sent_url);
    dst = full->is_rewritten ? PUT(dst, " \"TransformSuccess\" ") : PUT(dst, " \"-\" ");
    dst = put_text(dst, full->local);
    *dst++ = '\n';
    return dst;
}

size_t gw_access_alb_write(char *base, const struct gw_access_full *full, h2o_iovec_t load_balancer,
                           struct gw_access_clock *clock)
{
    const struct gw_access_line *line = &full->line;
    char *dst = put_type(base, full);

    *dst++ = ' ';
    dst = put_precise_time(dst, full->wall_us, clock);
    *dst++ = ' ';
    dst = load_balancer.base != NULL ? put_text(dst, load_balancer) : PUT(dst, "app/weir/0000000000000000");
    *dst++ = ' ';
    dst = put_peer(dst, line);
    *dst++ = ' ';
    dst = put_text(dst, line->target);
    *dst++ = ' ';
    dst = put_seconds(dst, full->to_target_us);
    *dst++ = ' ';
    dst = put_seconds(dst, full->in_target_us);
    *dst++ = ' ';
    dst = put_seconds(dst, full->to_client_us);
    *dst++ = ' ';
    dst = put_status(dst, line->status);
    *dst++ = ' ';
    dst = put_status(dst, full->target_status);
    *dst++ = ' ';
    dst = put_number(dst, line->bytes_in);
    *dst++ = ' ';
    dst = put_number(dst, line->bytes_out);
    *dst++ = ' ';
    dst = put_alb_middle(dst, full);
    *dst++ = ' ';
    dst = put_priority(dst, full->priority);
    *dst++ = ' ';
    dst = put_precise_time(dst, full->wall_us - line->duration_us, clock);
    *dst++ = ' ';
    dst = put_alb_end(dst, full);
    return dst - base;
}

/* ---- templates ---- */

enum kind { TEXT, NUMBER_16, NUMBER_32, NUMBER_64, MILLISECONDS, TIME, TIME_LOCAL, REQUEST_LINE, NOTE };

struct gw_access_field {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct gw_access_full; NOTE: enum gw_peer_note */
};

#define LINE(kind, name)                                                                                               \
    {                                                                                                                  \
#name, kind, offsetof(struct gw_access_full, line.name)                                                        \
    }
#define FULL(kind, name)                                                                                               \
    {                                                                                                                  \
#name, kind, offsetof(struct gw_access_full, name)                                                             \
    }
static const struct gw_access_field fields[] = {
    LINE(TEXT, request_id),
    LINE(TEXT, trace_id),
    LINE(TEXT, client),
    LINE(NUMBER_16, client_port),
    LINE(TEXT, peer),
    LINE(TEXT, listener),
    LINE(TEXT, protocol),
    LINE(TEXT, tls_version),
    LINE(TEXT, tls_cipher),
    LINE(TEXT, server_name),
    LINE(TEXT, method),
    LINE(TEXT, scheme),
    LINE(TEXT, host),
    LINE(TEXT, path),
    LINE(TEXT, query),
    LINE(NUMBER_32, status),
    LINE(TEXT, reason),
    LINE(TEXT, error),
    LINE(TEXT, route),
    LINE(TEXT, target_group),
    LINE(TEXT, target),
    LINE(NUMBER_32, attempts),
    LINE(NUMBER_64, bytes_in),
    LINE(NUMBER_64, bytes_out),
    LINE(TEXT, user_agent),
    LINE(TEXT, referer),
    LINE(TEXT, x_forwarded_for),
    LINE(NUMBER_64, config_generation),
    LINE(TEXT, classification),
    LINE(TEXT, classification_reason),
    FULL(TEXT, amzn_trace_id),
    FULL(TEXT, authority),
    FULL(NUMBER_64, body_bytes_out),
    FULL(TEXT, certificate),
    FULL(TEXT, location),
    FULL(NUMBER_32, target_status),
    {"connection_id", TEXT, offsetof(struct gw_access_full, conn_id)},
    {"local_address", TEXT, offsetof(struct gw_access_full, local)},
    FULL(NUMBER_32, local_port),
    {"duration_ms", MILLISECONDS, offsetof(struct gw_access_full, line.duration_us)},
    {"upstream_ms", MILLISECONDS, offsetof(struct gw_access_full, line.upstream_us)},
    {"time", TIME, offsetof(struct gw_access_full, line.wall_ms)},
    {"time_local", TIME_LOCAL, offsetof(struct gw_access_full, wall_us)},
    {"request_line", REQUEST_LINE, 0},
#define X(name) {#name, NOTE, GW_PEER_NOTE_##name},
    GW_PEER_NOTES(X)
#undef X
};
#undef LINE
#undef FULL
enum { NUM_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static const struct gw_access_field *find_field(h2o_iovec_t name)
{
    for (size_t i = 0; i != NUM_FIELDS; ++i)
        if (h2o_memis(name.base, name.len, fields[i].name, strlen(fields[i].name)))
            return &fields[i];
    return NULL;
}

static bool unknown_field(struct gw_errors *errors, const struct gw_node *at, h2o_iovec_t name)
{
    const char *names[NUM_FIELDS], *nearest;
    char text[61];
    size_t len = name.len < sizeof(text) - 1 ? name.len : sizeof(text) - 1;

    for (size_t i = 0; i != NUM_FIELDS; ++i)
        names[i] = fields[i].name;
    memcpy(text, name.base, len);
    text[len] = '\0';
    if ((nearest = gw_nearest(text, names, NUM_FIELDS)) != NULL)
        return gw_error_at(errors, at, "unknown field \"${%s}\" (did you mean \"${%s}\"?)", text, nearest);
    return gw_error_at(errors, at, "unknown field \"${%s}\" (gateway/observe/README.md lists them)", text);
}

bool gw_access_template_parse(h2o_mem_pool_t *pool, h2o_iovec_t text, struct gw_access_template *template,
                              struct gw_errors *errors, const struct gw_node *at)
{
    const char *s = text.base, *end = text.base + text.len;
    size_t capacity = 1;

    for (size_t i = 0; i != text.len; ++i) {
        if ((unsigned char)text.base[i] < 0x20 && text.base[i] != '\t')
            return gw_error_at(errors, at, "a template must not hold control characters: it is one line");
        capacity += text.base[i] == '$';
    }
    template->segments = h2o_mem_alloc_pool(pool, capacity * sizeof(template->segments[0]));
    template->size = 0;
    while (s != end) {
        struct gw_access_segment *segment = &template->segments[template->size++];
        const char *open = memmem(s, end - s, "${", 2), *close;
        *segment = (struct gw_access_segment){h2o_iovec_init(s, (open != NULL ? open : end) - s), NULL};
        if (open == NULL)
            break;
        if ((close = memchr(open, '}', end - open)) == NULL)
            return gw_error_at(errors, at, "\"${\" without \"}\"");
        h2o_iovec_t name = h2o_iovec_init(open + 2, close - open - 2);
        if ((segment->field = find_field(name)) == NULL)
            return unknown_field(errors, at, name);
        s = close + 1;
    }
    return true;
}

static h2o_iovec_t note_of(const struct gw_access_full *full, const struct gw_access_field *field)
{
    return full->line.notes != NULL ? full->line.notes[field->offset] : h2o_iovec_init(NULL, 0);
}

static size_t field_bound(const struct gw_access_full *full, const struct gw_access_field *field)
{
    switch (field->kind) {
    case TEXT:
        return bound_of(*(const h2o_iovec_t *)((const char *)full + field->offset));
    case REQUEST_LINE:
        return url_bound(&full->line);
    case NOTE:
        return bound_of(note_of(full, field));
    default:
        return NUMBER_BOUND;
    }
}

static char *put_field(char *dst, const struct gw_access_full *full, const struct gw_access_field *field,
                       struct gw_access_clock *clock)
{
    const void *value = (const char *)full + (field->kind != NOTE ? field->offset : 0);

    switch (field->kind) {
    case NOTE:
        return put_text(dst, note_of(full, field));
    case TEXT:
        return put_text(dst, *(const h2o_iovec_t *)value);
    case NUMBER_16:
        return put_number(dst, *(const uint16_t *)value);
    case NUMBER_32:
        return put_number(dst, *(const uint32_t *)value);
    case NUMBER_64:
        return put_number(dst, *(const uint64_t *)value);
    case MILLISECONDS:
        return *(const uint64_t *)value != UINT64_MAX ? put_ms(dst, *(const uint64_t *)value) : PUT(dst, "-");
    case TIME:
        return gw_access_put_time(dst, *(const uint64_t *)value, clock);
    case TIME_LOCAL:
        return put_local_time(dst, *(const uint64_t *)value);
    case REQUEST_LINE:
        return put_request_line(dst, &full->line);
    }
    return dst;
}

size_t gw_access_template_write(char *base, const struct gw_access_full *full,
                                const struct gw_access_template *template, struct gw_access_clock *clock)
{
    char *dst = base;

    for (size_t i = 0; i != template->size; ++i) {
        const struct gw_access_segment *segment = &template->segments[i];
        dst = put(dst, segment->literal.base, segment->literal.len);
        if (segment->field != NULL)
            dst = put_field(dst, full, segment->field, clock);
    }
    *dst++ = '\n';
    return dst - base;
}

static size_t template_bound(const struct gw_access_full *full, const struct gw_access_template *template)
{
    size_t bytes = 1;
    for (size_t i = 0; i != template->size; ++i) {
        bytes += template->segments[i].literal.len;
        if (template->segments[i].field != NULL)
            bytes += field_bound(full, template->segments[i].field);
    }
    return bytes;
}

/* Every text once, the target twice, numbers and punctuation below 1 KiB. */
static size_t fixed_bound(const struct gw_access_full *full, h2o_iovec_t load_balancer)
{
    const h2o_iovec_t *const texts[] = {
        &full->line.client,     &full->line.peer,        &full->line.scheme,       &full->authority,
        &full->line.user_agent, &full->line.referer,     &full->line.tls_cipher,   &full->line.tls_version,
        &full->line.target,     &full->line.target,      &full->line.target_group, &full->amzn_trace_id,
        &full->certificate,     &full->line.server_name, &full->actions,           &full->location,
        &full->line.reason,     &full->conn_id,          &full->sent_host,         &full->sent_url,
        &full->local,           &load_balancer,
    };
    size_t bytes = 1024 + url_bound(&full->line);
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i)
        bytes += bound_of(*texts[i]);
    return bytes;
}

size_t gw_access_format_bound(enum gw_access_format format, const struct gw_access_full *full,
                              const struct gw_access_template *template, h2o_iovec_t load_balancer)
{
    return format == GW_ACCESS_TEMPLATE ? template_bound(full, template) : fixed_bound(full, load_balancer);
}
