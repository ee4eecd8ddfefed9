#include "gateway/base/regex.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

/* A pattern that needs more steps than this for 8 KiB of text is an accident or an attack; it takes about a
 * millisecond. */
enum { MATCH_LIMIT = 200000, DEPTH_LIMIT = 10000, HEAP_LIMIT_KIB = 1024, JIT_STACK_BYTES = 512 * 1024 };

struct gw_regex {
    pcre2_code *code;
    uint32_t num_groups;
};

/* What one thread needs for matching; made by its first match, freed with the thread. */
struct scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;

static void free_scratch(void *arg)
{
    struct scratch *scratch = arg;
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

static void make_key(void)
{
    if (pthread_key_create(&scratch_key, free_scratch) != 0)
        h2o_fatal("out of thread keys");
}

static struct scratch *get_scratch(void)
{
    static __thread struct scratch *cached;
    if (__builtin_expect(cached != NULL, 1))
        return cached;
    pthread_once(&scratch_once, make_key);
    struct scratch *scratch = h2o_mem_alloc(sizeof(*scratch));
    scratch->data = pcre2_match_data_create(GW_REGEX_MAX_GROUPS, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    scratch->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_BYTES, NULL);
    if (scratch->data == NULL || scratch->context == NULL || scratch->stack == NULL)
        h2o_fatal("no memory");
    pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    pcre2_set_depth_limit(scratch->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
    pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    pthread_setspecific(scratch_key, scratch);
    return cached = scratch;
}

static bool refuse(char *why, size_t why_len, const char *what, const char *at, h2o_iovec_t pattern)
{
    snprintf(why, why_len, "%s at offset %zu", what, (size_t)(at - pattern.base));
    return false;
}

/* What follows "(?": only groups without memory, options and names are let through. */
static const char *refused_group(const char *p, const char *end)
{
    if (p == end)
        return NULL; /* the compiler has a better message */
    if (*p == ':' || *p == '\'')
        return NULL;
    if (*p == '#')
        return "comments are not supported";
    if (*p == '|')
        return "branch reset groups are not supported";
    if (*p == '=' || *p == '!')
        return "look-around is not supported";
    if (*p == '<')
        return p + 1 != end && (p[1] == '=' || p[1] == '!') ? "look-around is not supported" : NULL;
    if (*p == '>')
        return "atomic groups are not supported";
    if (*p == 'P')
        return p + 1 != end && p[1] == '<' ? NULL : "back-references and recursion are not supported";
    if (*p == 'C')
        return "callouts are not supported";
    if (*p == '(')
        return "conditional groups are not supported";
    if (*p == 'R' || *p == '&' || *p == '+' || ('0' <= *p && *p <= '9'))
        return "recursion is not supported";
    /* options: (?i) (?i:...) (?-i) (?^i). x would let a comment hide what this check must see. */
    const char *from = p;
    while (p != end && strchr("imsnJU-^", *p) != NULL && *p != '\0')
        ++p;
    if (from != p && '0' <= *p && *p <= '9')
        return "recursion is not supported"; /* (?-1) */
    if (p != end && (*p == ')' || *p == ':'))
        return NULL;
    return "this kind of group is not supported";
}

static const char *refused_escape(char c)
{
    if ('1' <= c && c <= '9')
        return "back-references are not supported";
    switch (c) {
    case 'g':
    case 'k':
        return "back-references are not supported";
    case 'Q':
    case 'E':
        return "\\Q and \\E are not supported";
    case 'K':
        return "\\K is not supported";
    case 'C':
        return "\\C is not supported";
    case 'p':
    case 'P':
        return "Unicode properties are not supported";
    default:
        return NULL;
    }
}

/* After the opening bracket; returns the position behind the class, or end. */
static const char *skip_class(const char *p, const char *end)
{
    if (p != end && *p == '^')
        ++p;
    if (p != end && *p == ']')
        ++p;
    while (p != end && *p != ']') {
        if (*p == '\\' && p + 1 != end) {
            p += 2;
        } else if (*p == '[' && p + 1 != end && p[1] == ':') {
            const char *q = p + 2;
            while (q != end && (*q == '^' || ('a' <= *q && *q <= 'z')))
                ++q;
            p = end - q >= 2 && q[0] == ':' && q[1] == ']' ? q + 2 : p + 1;
        } else {
            ++p;
        }
    }
    return p == end ? end : p + 1;
}

/* Behind a quantifier "{2}", "{2,}" or "{2,3}" that begins at p; p if there is none. */
static const char *skip_count(const char *p, const char *end)
{
    const char *q = p + 1;
    while (q != end && '0' <= *q && *q <= '9')
        ++q;
    if (q == p + 1)
        return p;
    if (q != end && *q == ',')
        ++q;
    while (q != end && '0' <= *q && *q <= '9')
        ++q;
    return q != end && *q == '}' ? q + 1 : p;
}

/* at is one of * + ? {; *quantified is where the last quantifier ended. A second + would make it possessive. */
static bool is_possessive(const char *at, const char *end, const char **quantified)
{
    const char *behind = *at == '{' ? skip_count(at, end) : at + 1;
    if (at == *quantified && *at == '+')
        return true;
    bool is_lazy = at == *quantified && *at == '?';
    *quantified = is_lazy || behind == at ? NULL : behind;
    return false;
}

/* Constructs whose cost cannot be foreseen or that would differ between engines. */
static bool check_constructs(h2o_iovec_t pattern, char *why, size_t why_len)
{
    const char *p = pattern.base, *end = p + pattern.len, *what, *quantified = NULL;
    while (p != end) {
        const char *at = p++;
        if (*at == '\\') {
            if (p == end)
                break;
            if ((what = refused_escape(*p++)) != NULL)
                return refuse(why, why_len, what, at, pattern);
        } else if (*at == '[') {
            /* an escape in a class can be no back-reference, but \Q and \E would move its end */
            p = skip_class(p, end);
            for (const char *q = at; q + 1 < p; ++q)
                if (*q == '\\' && strchr("QEpP", *++q) != NULL && *q != '\0')
                    return refuse(why, why_len, refused_escape(*q), q - 1, pattern);
        } else if (strchr("*+?{", *at) != NULL && *at != '\0') {
            if (is_possessive(at, end, &quantified))
                return refuse(why, why_len, "possessive quantifiers are not supported", at, pattern);
        } else if (*at == '(' && p != end && *p == '*') {
            return refuse(why, why_len, "verbs and look-around are not supported", at, pattern);
        } else if (*at == '(' && p != end && *p == '?') {
            if ((what = refused_group(p + 1, end)) != NULL)
                return refuse(why, why_len, what, at, pattern);
        }
    }
    return true;
}

struct gw_regex *gw_regex_create(h2o_iovec_t pattern, bool ignore_case, char *why, size_t why_len)
{
    uint32_t options = PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY |
                       (ignore_case ? PCRE2_CASELESS : 0);
    int error;
    PCRE2_SIZE at;
    if (!check_constructs(pattern, why, why_len))
        return NULL;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern.base, pattern.len, options, &error, &at, NULL);
    if (code == NULL) {
        char text[160];
        pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof(text));
        snprintf(why, why_len, "%s at offset %zu", text, (size_t)at);
        return NULL;
    }
    struct gw_regex *regex = h2o_mem_alloc(sizeof(*regex));
    *regex = (struct gw_regex){.code = code};
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &regex->num_groups);
    if (regex->num_groups >= GW_REGEX_MAX_GROUPS) {
        snprintf(why, why_len, "%u groups, at most %d are supported", regex->num_groups, GW_REGEX_MAX_GROUPS - 1);
        gw_regex_destroy(regex);
        return NULL;
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where it fails, the interpreter matches just the same */
    return regex;
}

void gw_regex_destroy(struct gw_regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    free(regex);
}

unsigned gw_regex_num_groups(const struct gw_regex *regex) { return regex->num_groups; }

bool gw_regex_search(const struct gw_regex *regex, h2o_iovec_t text, h2o_iovec_t *groups)
{
    struct scratch *scratch = get_scratch();
    const char *base = text.base != NULL ? text.base : "";
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)base, text.len, 0, 0, scratch->data, scratch->context);
    if (rc <= 0)
        return false;
    if (groups != NULL) {
        const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(scratch->data);
        for (int i = 0; i != GW_REGEX_MAX_GROUPS; ++i) {
            bool is_set = i < rc && ovector[2 * i] != PCRE2_UNSET;
            groups[i] = is_set ? h2o_iovec_init(base + ovector[2 * i], ovector[2 * i + 1] - ovector[2 * i])
                               : h2o_iovec_init(NULL, 0);
        }
    }
    return true;
}
