/* Globs: a line with the pattern, then the text; held against the table of all prefixes that the definition gives. */
#include <assert.h>
#include "gateway/base/glob.h"
#include "tests/fuzz/cut.h"

static unsigned char fold(unsigned char c, bool nocase) { return nocase && 'A' <= c && c <= 'Z' ? c + ('a' - 'A') : c; }

/* reaches[j]: the pattern so far matches the first j bytes of the text */
static bool matches_by_definition(h2o_iovec_t pattern, h2o_iovec_t text, bool nocase)
{
    bool *reaches = calloc(text.len + 1, 1), result;
    reaches[0] = true;
    for (size_t i = 0; i != pattern.len; ++i) {
        unsigned char c = (unsigned char)pattern.base[i];
        if (c == '*') {
            for (size_t j = 0; j != text.len; ++j)
                reaches[j + 1] = reaches[j + 1] || reaches[j];
            continue;
        }
        bool is_any = c == '?';
        if (c == '\\' && i + 1 != pattern.len && strchr("*?\\", pattern.base[i + 1]) != NULL &&
            pattern.base[i + 1] != 0)
            c = (unsigned char)pattern.base[++i];
        for (size_t j = text.len; j != 0; --j)
            reaches[j] = reaches[j - 1] && (is_any || fold(c, nocase) == fold((unsigned char)text.base[j - 1], nocase));
        reaches[0] = false;
    }
    result = reaches[text.len];
    free(reaches);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *newline = len == 0 ? NULL : memchr(data, '\n', len);
    if (newline == NULL || len > 4096)
        return 0;
    size_t pattern_len = (size_t)(newline - data), text_len = len - pattern_len - 1;
    h2o_iovec_t pattern = h2o_iovec_init(fuzz_copy(data, pattern_len), pattern_len);
    h2o_iovec_t text = h2o_iovec_init(fuzz_copy(newline + 1, text_len), text_len);
    bool is_match = gw_glob_match(pattern, text), is_literal;
    assert(is_match == matches_by_definition(pattern, text, false));
    assert(gw_glob_match_nocase(pattern, text) == matches_by_definition(pattern, text, true));

    char *buf = malloc(pattern_len);
    h2o_iovec_t prefix = gw_glob_prefix(pattern, buf, &is_literal);
    assert(prefix.len <= pattern_len);
    bool begins = text_len >= prefix.len && (prefix.len == 0 || memcmp(text.base, prefix.base, prefix.len) == 0);
    assert(!is_match || begins);
    assert(!is_literal || is_match == (begins && text_len == prefix.len));
    free(buf);
    free(pattern.base);
    free(text.base);
    return 0;
}
