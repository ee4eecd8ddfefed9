/* Requests that two parsers might read in two ways, classified as an Application Load Balancer and the public HTTP
 * Desync Guardian do (spec/alb.md 5.8). Most of them head.c refuses whatever the mode; what it takes is looked at here
 * when it may be one of the rest. Only HTTP/1. Pure functions. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

enum gw_desync_class { GW_DESYNC_COMPLIANT, GW_DESYNC_ACCEPTABLE, GW_DESYNC_AMBIGUOUS, GW_DESYNC_SEVERE };
/* X(name as an ALB logs it, class) */
#define GW_DESYNC_REASONS(X)                                                                                           \
    X(GetHeadZeroContentLength, ACCEPTABLE)                                                                            \
    X(NonCompliantHeader, ACCEPTABLE)                                                                                  \
    X(NonCompliantVersion, ACCEPTABLE)                                                                                 \
    X(SpaceInUri, ACCEPTABLE)                                                                                          \
    X(AmbiguousUri, AMBIGUOUS)                                                                                         \
    X(BothTeClPresent, AMBIGUOUS)                                                                                      \
    X(DuplicateContentLength, AMBIGUOUS)                                                                               \
    X(EmptyHeader, AMBIGUOUS)                                                                                          \
    X(SuspiciousHeader, AMBIGUOUS)                                                                                     \
    X(UndefinedContentLengthSemantics, AMBIGUOUS)                                                                      \
    X(UndefinedTransferEncodingSemantics, AMBIGUOUS)                                                                   \
    X(BadContentLength, SEVERE)                                                                                        \
    X(BadHeader, SEVERE)                                                                                               \
    X(BadMethod, SEVERE)                                                                                               \
    X(BadTransferEncoding, SEVERE)                                                                                     \
    X(BadUri, SEVERE)                                                                                                  \
    X(BadVersion, SEVERE)                                                                                              \
    X(MultipleContentLength, SEVERE)                                                                                   \
    X(MultipleTransferEncodingChunked, SEVERE)                                                                         \
    X(SuspiciousTeClPresent, SEVERE)

enum gw_desync {
    GW_DESYNC_NONE, /* compliant */
#define X(name, class) GW_DESYNC_##name,
    GW_DESYNC_REASONS(X)
#undef X
};
enum gw_desync_class gw_desync_class(enum gw_desync);
const char *gw_desync_name(enum gw_desync);                   /* NULL for GW_DESYNC_NONE */
const char *gw_desync_class_name(enum gw_desync_class class); /* "Compliant" ... */

/* limits.desync_mitigation, in the order of its choices; the first is the default. */
enum gw_desync_mode { GW_DESYNC_DEFENSIVE, GW_DESYNC_STRICTEST, GW_DESYNC_MONITOR };
static inline bool gw_desync_blocks(enum gw_desync_mode mode, enum gw_desync_class class)
{
    return mode == GW_DESYNC_DEFENSIVE ? class == GW_DESYNC_SEVERE
                                       : mode == GW_DESYNC_STRICTEST && class != GW_DESYNC_COMPLIANT;
}
/* It is served, and then the connections of client and target close. */
static inline bool gw_desync_closes(enum gw_desync_mode mode, enum gw_desync_class class)
{
    return mode == GW_DESYNC_DEFENSIVE && class == GW_DESYNC_AMBIGUOUS;
}

/* A name that is not Transfer-Encoding or Content-Length, but that a careless reader may take for one: their letters
 * with other things between and around. */
bool gw_desync_is_suspicious(h2o_iovec_t name);
/* Whether it is worth a call: no other name can be. */
static inline bool gw_desync_may_be_suspicious(h2o_iovec_t name)
{
    char c = name.base[0] | 0x20;
    return name.len >= sizeof("contentlength") - 1 && (c == 'c' || c == 't' || c < 'a' || c > 'z');
}
/* The field section of a head that is taken, from its first line to behind the empty one. minor_version: as written. */
enum gw_desync gw_desync_of_fields(const char *fields, const char *end, bool is_get_or_head, int minor_version);
/* Any bytes, whole or not, of a head that is refused. */
enum gw_desync gw_desync_of_head(const char *bytes, size_t len);
