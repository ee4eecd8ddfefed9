/* What the canonical path of a raw path is (routing/README.md has the algorithm). test_path.c runs every line, the fuzz
 * target checks the rules that all of them follow. The result is OK when a canonical path is given. */
#pragma once
#include <h2o/memory.h>
#include "routing/path.h"

struct path_case {
    h2o_iovec_t raw;
    const char *canonical; /* NULL: refused */
    enum routing_path_result result;
};

#define IS(raw, canonical)                                                                                             \
    {                                                                                                                  \
        {H2O_STRLIT(raw)}, canonical, ROUTING_PATH_OK                                                                  \
    }
#define REFUSED(raw, result)                                                                                           \
    {                                                                                                                  \
        {H2O_STRLIT(raw)}, NULL, ROUTING_PATH_##result                                                                 \
    }

static const struct path_case path_cases[] = {
    /* ---- nothing to do ---- */
    IS("/", "/"),
    IS("/a", "/a"),
    IS("/a/", "/a/"),
    IS("/a/b/c.html", "/a/b/c.html"),
    IS("/Case/Is/Kept", "/Case/Is/Kept"),
    IS("/-._~", "/-._~"),
    IS("/0123456789", "/0123456789"),
    IS("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"), /* sub-delims and the rest of pchar stay as they are */
    IS("/a;v=1/b,c", "/a;v=1/b,c"),
    IS("/a=b&c", "/a=b&c"),
    IS("/\"<>\\^`{|}[]", "/\"<>\\^`{|}[]"), /* outside RFC 3986, sent by browsers: kept */
    IS("/a?b", "/a?b"),                     /* callers cut the query off; here it is a byte like others */
    /* ---- slashes: duplicates are kept, they are empty segments ---- */
    IS("//", "//"),
    IS("///", "///"),
    IS("//a", "//a"),
    IS("/a//b", "/a//b"),
    IS("/a//", "/a//"),
    IS("/a///b//c/", "/a///b//c/"),
    IS("/a\\b", "/a\\b"), /* a backslash is no slash */
    /* ---- escapes of unreserved characters are decoded (RFC 3986 6.2.2.2) ---- */
    IS("/%41", "/A"),
    IS("/%5A", "/Z"),
    IS("/%61", "/a"),
    IS("/%7A", "/z"),
    IS("/%7a", "/z"),
    IS("/%30%39", "/09"),
    IS("/%2D", "/-"),
    IS("/%2d", "/-"),
    IS("/%5F", "/_"),
    IS("/%7E", "/~"),
    IS("/%7euser", "/~user"),
    IS("/a%2Ehtml", "/a.html"),
    IS("/%61%62%63", "/abc"),
    IS("/x%61", "/xa"),
    IS("/%61x", "/ax"),
    IS("/%75sers/%31", "/users/1"),
    /* ---- all other escapes stay, with upper-case digits (6.2.2.1) ---- */
    IS("/%20", "/%20"),
    IS("/a%20b", "/a%20b"),
    IS("/%2F", "/%2F"), /* an escaped slash is no slash: it would move segment limits */
    IS("/%2f", "/%2F"),
    IS("/a%2fb", "/a%2Fb"),
    IS("/%5c", "/%5C"),
    IS("/%5C..%5C", "/%5C..%5C"),
    IS("/%3f", "/%3F"),
    IS("/%23", "/%23"),
    IS("/%25", "/%25"),
    IS("/%2B+", "/%2B+"), /* the two are not the same */
    IS("/%c3%a9", "/%C3%A9"),
    IS("/%C3%A9", "/%C3%A9"),
    IS("/%ff%Fe", "/%FF%FE"), /* not UTF-8: nobody's business here */
    IS("/%0a%0D", "/%0A%0D"),
    IS("/%7f", "/%7F"),
    IS("/%01", "/%01"),
    IS("/%2a%3A%40", "/%2A%3A%40"),
    IS("/%3b%3d%26", "/%3B%3D%26"),
    IS("/%aB", "/%AB"),
    /* ---- decoding happens once ---- */
    IS("/%2541", "/%2541"),
    IS("/%252e%252e", "/%252e%252e"),
    IS("/%252F", "/%252F"),
    IS("/%25%34%31", "/%2541"),
    IS("/%25%32%66", "/%252f"),
    /* ---- dot segments are removed (5.2.4) ---- */
    IS("/.", "/"),
    IS("/./", "/"),
    IS("/a/.", "/a/"),
    IS("/a/./", "/a/"),
    IS("/a/./b", "/a/b"),
    IS("/./a", "/a"),
    IS("/././a", "/a"),
    IS("/a/..", "/"),
    IS("/a/../", "/"),
    IS("/a/../b", "/b"),
    IS("/a/b/..", "/a/"),
    IS("/a/b/../", "/a/"),
    IS("/a/b/../c", "/a/c"),
    IS("/a/b/../../c", "/c"),
    IS("/a/b/c/./../../g", "/a/g"), /* the example of the RFC */
    IS("/a/./../b", "/b"),
    IS("/a/.././b", "/b"),
    IS("/a/../a/../a", "/a"),
    /* ---- an empty segment counts as one ---- */
    IS("/a//..", "/a/"),
    IS("/a//../b", "/a/b"),
    IS("/a//../../b", "/b"),
    IS("//..", "/"),
    IS("//../a", "/a"),
    IS("/.//a", "//a"),
    IS("/a/..//b", "//b"),
    /* ---- escaped dots are dots ---- */
    IS("/%2e", "/"),
    IS("/%2E/a", "/a"),
    IS("/a/%2e%2e", "/"),
    IS("/a/%2E%2E/b", "/b"),
    IS("/a/.%2e/b", "/b"),
    IS("/a/%2e./b", "/b"),
    IS("/a/b/%2e%2E/c", "/a/c"),
    IS("/%61/%2e%2e/%62", "/b"),
    /* ---- what only looks like a dot segment ---- */
    IS("/.well-known/x", "/.well-known/x"),
    IS("/..a", "/..a"),
    IS("/...", "/..."),
    IS("/.../a", "/.../a"),
    IS("/a./b", "/a./b"),
    IS("/a../b", "/a../b"),
    IS("/.a/b", "/.a/b"),
    IS("/%2e%2e%2e", "/..."),
    IS("/%2e%2ea", "/..a"),
    IS("/..%2f", "/..%2F"), /* one segment, named "..%2F" */
    IS("/a/..%2F..%2Fb", "/a/..%2F..%2Fb"),
    IS("/a/..;/b", "/a/..;/b"), /* path parameters have no meaning here */
    IS("/a/..\\b", "/a/..\\b"),
    /* ---- above the root ---- */
    REFUSED("/..", ABOVE_ROOT),
    REFUSED("/../", ABOVE_ROOT),
    REFUSED("/../a", ABOVE_ROOT),
    REFUSED("/a/../..", ABOVE_ROOT),
    REFUSED("/a/../../b", ABOVE_ROOT),
    REFUSED("/./../a", ABOVE_ROOT),
    REFUSED("/%2e%2e", ABOVE_ROOT),
    REFUSED("/%2e%2e/etc/passwd", ABOVE_ROOT),
    REFUSED("/.%2E/a", ABOVE_ROOT),
    REFUSED("/a/b/../../../c/d", ABOVE_ROOT), /* although it would come back down */
    REFUSED("/../../../../etc/passwd", ABOVE_ROOT),
    /* ---- no path at all ---- */
    REFUSED("", NO_SLASH),
    REFUSED("*", NO_SLASH),
    REFUSED("a", NO_SLASH),
    REFUSED("a/b", NO_SLASH),
    REFUSED("%2Fa", NO_SLASH),
    REFUSED("..", NO_SLASH),
    REFUSED("http://a/b", NO_SLASH),
    /* ---- broken escapes ---- */
    REFUSED("/%", BAD_ESCAPE),
    REFUSED("/%4", BAD_ESCAPE),
    REFUSED("/a%", BAD_ESCAPE),
    REFUSED("/%zz", BAD_ESCAPE),
    REFUSED("/%4g", BAD_ESCAPE),
    REFUSED("/%g4", BAD_ESCAPE),
    REFUSED("/%%41", BAD_ESCAPE),
    REFUSED("/%u0041", BAD_ESCAPE),
    REFUSED("/% 41", BAD_ESCAPE),
    REFUSED("/%-1", BAD_ESCAPE),
    REFUSED("/a/%2", BAD_ESCAPE),
    REFUSED("/a/%2/b", BAD_ESCAPE),
    /* ---- NUL, which ends names in C programs ---- */
    REFUSED("/%00", NUL),
    REFUSED("/a%00.html", NUL),
    REFUSED("/%61%00", NUL),
    /* ---- bytes that must not stand in a request target ---- */
    REFUSED("/a b", BAD_BYTE),
    REFUSED("/a\tb", BAD_BYTE),
    REFUSED("/a\r\nb", BAD_BYTE),
    REFUSED("/a\0b", BAD_BYTE),
    REFUSED("/\x01", BAD_BYTE),
    REFUSED("/\x1f", BAD_BYTE),
    REFUSED("/\x7f", BAD_BYTE),
    REFUSED("/a#b", BAD_BYTE),
    REFUSED("/#", BAD_BYTE),
    REFUSED("/caf\xc3\xa9", BAD_BYTE), /* clients must escape it */
    REFUSED("/\x80", BAD_BYTE),
    REFUSED("/\xff", BAD_BYTE),
    REFUSED("/%41 ", BAD_BYTE),
};
