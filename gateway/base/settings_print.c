/* The effective configuration as YAML that loads to the same settings, but for secrets. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/ip.h"
#include "gateway/base/json.h"
#include "gateway/base/settings_internal.h"
#include "gateway/base/hash.h"

struct printer {
    FILE *out;
    int indent;
    bool after_dash;         /* the line has begun with the dash of a list entry */
    const uint64_t *secrets; /* seed of the marks that tell secrets apart; NULL: all look the same */
};

static void print_section(struct printer *, const struct gw_section *, const void *conf);

static void begin_line(struct printer *p)
{
    if (p->after_dash)
        p->after_dash = false;
    else
        fprintf(p->out, "%*s", p->indent, "");
}

/* Plain where no reader of YAML could take it for anything but a text. */
static bool is_plain(h2o_iovec_t text)
{
    static const char *const special[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"};
    if (text.len == 0 || !(text.base[0] == '/' || isalpha((unsigned char)text.base[0])))
        return false;
    for (size_t i = 0; i != text.len; ++i)
        if (!isalnum((unsigned char)text.base[i]) && strchr("_-./", text.base[i]) == NULL)
            return false;
    for (size_t i = 0; i != sizeof(special) / sizeof(special[0]); ++i)
        if (text.len == strlen(special[i]) && strncasecmp(text.base, special[i], text.len) == 0)
            return false;
    return true;
}

/* Characters that YAML (5.1, 5.4) takes only as escapes, or for line ends, and that JSON lets stand: DEL, C1 controls
 * with NEL, LS, PS, BOM, U+FFFE, U+FFFF. Returns their length in UTF-8, 0 for all others. */
static size_t needs_escape(const unsigned char *s, size_t len, unsigned *code)
{
    *code = s[0];
    if (s[0] == 0x7f)
        return 1;
    if (len >= 2 && s[0] == 0xc2 && s[1] < 0xa0) {
        *code = s[1];
        return 2;
    }
    if (len < 3)
        return 0;
    *code = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    return (s[0] & 0xf0) == 0xe0 &&
                   (*code == 0x2028 || *code == 0x2029 || *code == 0xfeff || *code == 0xfffe || *code == 0xffff)
               ? 3
               : 0;
}

/* Double quotes with JSON's escapes, which YAML takes too. A literal ${ must not be substituted when read again. */
static void print_quoted(FILE *out, h2o_iovec_t json)
{
    for (size_t i = 0; i != json.len; ++i) {
        unsigned code;
        size_t len = needs_escape((const unsigned char *)json.base + i, json.len - i, &code);
        if (len != 0) {
            fprintf(out, "\\u%04x", code);
            i += len - 1;
            continue;
        }
        if (json.base[i] == '$' && i + 1 != json.len && json.base[i + 1] == '{')
            fputc('$', out);
        fputc(json.base[i], out);
    }
}

/* The mark is no more than a comparison needs: without the seed it says nothing about the secret. */
static void print_masked(struct printer *p, h2o_iovec_t text)
{
    if (p->secrets == NULL) {
        fputs("\"***\"", p->out);
        return;
    }
    uint64_t mark = gw_fnv1a(*p->secrets, text.base, text.len);
    fprintf(p->out, "\"***%016llx\"", (unsigned long long)(mark ^ mark >> 29));
}

static void print_text(struct printer *p, h2o_iovec_t text, bool is_secret)
{
    FILE *out = p->out;
    struct gw_json json;
    if (is_secret) {
        print_masked(p, text);
    } else if (is_plain(text)) {
        fwrite(text.base, 1, text.len, out);
    } else {
        gw_json_init(&json);
        gw_json_text(&json, text);
        print_quoted(out, h2o_iovec_init(json.base, json.size));
        gw_json_dispose(&json);
    }
}

static bool is_secret_at(const struct gw_node *at) { return at != NULL && gw_node_holds_secret(at); }

static void print_texts(struct printer *p, const struct gw_setting *row, const struct gw_texts *texts)
{
    fputc('[', p->out);
    for (size_t i = 0; i != texts->size; ++i) {
        fputs(i == 0 ? "" : ", ", p->out);
        print_text(p, texts->entries[i], row->is_secret || is_secret_at(texts->at[i]));
    }
    fputc(']', p->out);
}

static void print_addresses(struct printer *p, const struct gw_addresses *addresses)
{
    fputs(addresses->size == 1 ? "" : "[", p->out);
    for (size_t i = 0; i != addresses->size; ++i) {
        fputs(i == 0 ? "" : ", ", p->out);
        print_text(p, addresses->entries[i].text, is_secret_at(addresses->at[i]));
    }
    fputs(addresses->size == 1 ? "" : "]", p->out);
}

static void print_choices(struct printer *p, const struct gw_setting *row, uint32_t set)
{
    const char *separator = "";
    fputc('[', p->out);
    for (size_t i = 0; row->choices[i] != NULL; ++i) {
        if ((set & 1u << i) == 0)
            continue;
        fputs(separator, p->out);
        print_text(p, h2o_iovec_init(row->choices[i], strlen(row->choices[i])), false);
        separator = ", ";
    }
    fputc(']', p->out);
}

static void print_cidrs(FILE *out, const struct gw_cidrs *cidrs)
{
    char buf[64];
    fputc('[', out);
    for (size_t i = 0; i != cidrs->size; ++i) {
        const struct gw_cidr *cidr = cidrs->entries + i;
        gw_ip_format(&cidr->ip, buf);
        fprintf(out, "%s\"%s", i == 0 ? "" : ", ", buf);
        if (cidr->bits != 128)
            fprintf(out, "/%d", gw_ip_is_v4(&cidr->ip) && cidr->bits >= 96 ? cidr->bits - 96 : cidr->bits);
        fputc('"', out);
    }
    fputc(']', out);
}

static void print_pairs(struct printer *p, const struct gw_setting *row, const struct gw_pairs *pairs)
{
    fputc('\n', p->out);
    for (size_t i = 0; i != pairs->size; ++i) {
        fprintf(p->out, "%*s", p->indent + 2, "");
        print_text(p, pairs->entries[i].name, false);
        fputs(": ", p->out);
        print_text(p, pairs->entries[i].value, row->is_secret || is_secret_at(pairs->entries[i].at));
        fputc('\n', p->out);
    }
}

static void print_list(struct printer *p, const struct gw_setting *row, const struct gw_list *list)
{
    fputc('\n', p->out);
    for (size_t i = 0; i != list->size; ++i) {
        struct printer entry = {p->out, p->indent + 4, true, p->secrets};
        fprintf(p->out, "%*s- ", p->indent + 2, "");
        print_section(&entry, row->section, list->entries[i]);
        if (entry.after_dash)
            fputs("{}\n", p->out);
    }
}

/* What the section prints, as one piece; free it. Empty when there is nothing but what is unset. */
static char *section_text(const struct printer *parent, int indent, const struct gw_section *section, const void *conf)
{
    char *text;
    size_t len;
    struct printer p = {open_memstream(&text, &len), parent->indent + indent, false, parent->secrets};
    if (p.out == NULL)
        h2o_fatal("no memory");
    print_section(&p, section, conf);
    fclose(p.out);
    return text;
}

static void print_map(struct printer *p, const struct gw_setting *row, const struct gw_map *map)
{
    fputc('\n', p->out);
    for (size_t i = 0; i != map->size; ++i) {
        char *text = section_text(p, 4, row->section, map->entries[i].conf);
        fprintf(p->out, "%*s", p->indent + 2, "");
        print_text(p, map->entries[i].name, false);
        fprintf(p->out, ":%s%s", text[0] != '\0' ? "\n" : " {}\n", text);
        free(text);
    }
}

static void print_subsection(struct printer *p, const struct gw_setting *row, const void *conf, bool is_option)
{
    char *text = section_text(p, 2, row->section, conf);
    if (text[0] != '\0' || is_option) {
        begin_line(p);
        fprintf(p->out, "%s:%s%s", row->name, text[0] != '\0' ? "\n" : " {}\n", text);
    }
    free(text);
}

static void print_custom(struct printer *p, const struct gw_setting *row, const void *field, bool is_secret)
{
    struct gw_json json;
    gw_json_init(&json);
    row->print(&json, row, field);
    h2o_iovec_t text = h2o_iovec_init(json.base, json.size);
    bool is_unset = text.len == 0 || h2o_memis(text.base, text.len, H2O_STRLIT("null")) ||
                    h2o_memis(text.base, text.len, H2O_STRLIT("{}")) ||
                    h2o_memis(text.base, text.len, H2O_STRLIT("[]"));
    if (!is_unset) {
        begin_line(p);
        fprintf(p->out, "%s: ", row->name);
        if (is_secret)
            print_masked(p, text);
        else
            print_quoted(p->out, text);
        fputc('\n', p->out);
    }
    gw_json_dispose(&json);
}

static void print_scalar(struct printer *p, const struct gw_setting *row, const void *field, bool is_secret)
{
    char buf[32];
    uint64_t number = row->type == GW_BOOL      ? *(const bool *)field
                      : row->type == GW_CHOICE  ? (uint64_t) * (const int *)field
                      : row->type == GW_PERCENT ? 0
                                                : *(const uint64_t *)field;
    double fraction = row->type == GW_PERCENT ? *(const double *)field : 0;
    if (gw_setting_is_unset_number(number))
        return;
    begin_line(p);
    fprintf(p->out, "%s: ", row->name);
    struct {
        uint64_t number;
        double fraction;
    } secret = {number, fraction};
    if (is_secret)
        print_masked(p, h2o_iovec_init(&secret, sizeof(secret)));
    else if (row->type == GW_CHOICE)
        print_text(p, h2o_iovec_init(row->choices[number], strlen(row->choices[number])), false);
    else
        fputs(gw_value_format(row->type, number, fraction, buf), p->out);
    fputc('\n', p->out);
}

static void begin_setting(struct printer *p, const struct gw_setting *row, const char *separator)
{
    begin_line(p);
    fprintf(p->out, "%s:%s", row->name, separator);
}

static void print_value(struct printer *p, const struct gw_setting *row, const void *field, bool is_secret)
{
    const struct gw_cidrs *cidrs = field;
    begin_setting(p, row, " ");
    switch (row->type) {
    case GW_TEXTS:
        print_texts(p, row, field);
        break;
    case GW_CHOICES:
        print_choices(p, row, *(const uint32_t *)field);
        break;
    case GW_ADDRESSES:
        print_addresses(p, field);
        break;
    case GW_CIDRS:
        if (is_secret)
            print_masked(p, h2o_iovec_init(cidrs->entries, cidrs->size * sizeof(cidrs->entries[0])));
        else
            print_cidrs(p->out, field);
        break;
    case GW_ADDRESS:
        print_text(p, ((const struct gw_address *)field)->text, is_secret);
        break;
    default:
        print_text(p, *(const h2o_iovec_t *)field, is_secret);
        break;
    }
    fputc('\n', p->out);
}

static bool is_unset(const struct gw_setting *row, const void *field)
{
    switch (row->type) {
    case GW_TEXT:
        return ((const h2o_iovec_t *)field)->base == NULL;
    case GW_ADDRESS:
        return ((const struct gw_address *)field)->text.len == 0;
    case GW_TEXTS:
        return ((const struct gw_texts *)field)->size == 0;
    case GW_ADDRESSES:
        return ((const struct gw_addresses *)field)->size == 0;
    case GW_CIDRS:
        return ((const struct gw_cidrs *)field)->size == 0;
    case GW_PAIRS:
        return ((const struct gw_pairs *)field)->size == 0;
    case GW_LIST:
        return ((const struct gw_list *)field)->size == 0;
    case GW_MAP:
        return ((const struct gw_map *)field)->size == 0;
    case GW_CHOICES:
        return *(const uint32_t *)field == 0;
    case GW_OPTION:
        return *(void *const *)field == NULL;
    default:
        return false;
    }
}

static void print_section(struct printer *p, const struct gw_section *section, const void *conf)
{
    const struct gw_node *at = *(const struct gw_node *const *)conf;
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        const void *field = gw_setting_field(row, conf);
        if (is_unset(row, field) || !gw_setting_applies(section, row, conf)) {
            if (row->is_required && (row->type == GW_LIST || row->type == GW_MAP)) { /* empty, but written */
                begin_setting(p, row, row->type == GW_LIST ? " []" : " {}");
                fputc('\n', p->out);
            }
            continue;
        }
        if (row->type == GW_SECTION || row->type == GW_OPTION) {
            bool is_option = row->type == GW_OPTION;
            print_subsection(p, row, is_option ? *(void *const *)field : field, is_option);
        } else if (row->type == GW_LIST || row->type == GW_MAP || row->type == GW_PAIRS) {
            begin_setting(p, row, "");
            if (row->type == GW_LIST)
                print_list(p, row, field);
            else if (row->type == GW_MAP)
                print_map(p, row, field);
            else
                print_pairs(p, row, field);
        } else {
            bool is_secret = row->is_secret || is_secret_at(gw_setting_value_node(section, at, row->name));
            if (row->type == GW_CUSTOM)
                print_custom(p, row, field, is_secret);
            else if (row->type <= GW_PERCENT || row->type == GW_CHOICE)
                print_scalar(p, row, field, is_secret);
            else
                print_value(p, row, field, is_secret);
        }
    }
}

void gw_settings_print(FILE *out, const struct gw_section *section, const void *conf)
{
    struct printer p = {out, 0, false, NULL};
    print_section(&p, section, conf);
}

void gw_settings_print_marked(FILE *out, const struct gw_section *section, const void *conf, uint64_t seed)
{
    struct printer p = {out, 0, false, &seed};
    print_section(&p, section, conf);
}
