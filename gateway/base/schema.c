/* JSON Schema, draft 2020-12, from the same tables that load: what editors complete and check while typing. */
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/json.h"
#include "gateway/base/settings_internal.h"

enum { MAX_SECTIONS = 256, INLINE_WIDTH = 100 };

struct schema {
    struct gw_json json;
    const struct gw_section *sections[MAX_SECTIONS]; /* each becomes one of $defs */
    size_t num_sections;
};

static void write_row(struct schema *, const struct gw_setting *);

static void write_pair(struct schema *s, const char *key, const char *value)
{
    gw_json_key(&s->json, key);
    gw_json_string(&s->json, value);
}

static void write_type(struct schema *s, const char *type) { write_pair(s, "type", type); }

static void write_object(struct schema *s, const char *key, const char *value)
{
    gw_json_object(&s->json);
    write_pair(s, key, value);
    gw_json_object_end(&s->json);
}

static size_t section_index(struct schema *s, const struct gw_section *section)
{
    for (size_t i = 0; i != s->num_sections; ++i)
        if (s->sections[i] == section)
            return i;
    if (s->num_sections == MAX_SECTIONS)
        h2o_fatal("too many sections");
    s->sections[s->num_sections] = section;
    return s->num_sections++;
}

/* "target group" -> "target_group"; a second section of that noun gets its number. */
static const char *section_id(struct schema *s, size_t index, char *buf, size_t buf_len)
{
    const char *name = s->sections[index]->name;
    size_t same = 0;
    for (size_t i = 0; i != index; ++i)
        same += strcmp(s->sections[i]->name, name) == 0;
    snprintf(buf, buf_len, same == 0 ? "%s" : "%s_%zu", name, same + 1);
    for (char *c = buf; *c != '\0'; ++c)
        if (*c == ' ')
            *c = '_';
    return buf;
}

static void write_reference(struct schema *s, const struct gw_section *section)
{
    char id[64], reference[80];
    section_id(s, section_index(s, section), id, sizeof(id));
    snprintf(reference, sizeof(reference), "#/$defs/%s", id);
    write_object(s, "$ref", reference);
}

static void write_substitution(struct schema *s) { write_object(s, "$ref", "#/$defs/substitution"); }

static void write_number_bounds(struct schema *s, const struct gw_setting *row)
{
    gw_json_key(&s->json, row->no_zero && row->min == 0 ? "exclusiveMinimum" : "minimum");
    gw_json_unsigned(&s->json, gw_value_number(row->min));
    if (row->max != 0) {
        gw_json_key(&s->json, "maximum");
        gw_json_unsigned(&s->json, gw_value_number(row->max));
    }
}

static void write_length_bounds(struct schema *s, const struct gw_setting *row)
{
    if (row->min != 0) {
        gw_json_key(&s->json, "minLength");
        gw_json_unsigned(&s->json, gw_value_number(row->min));
    }
    if (row->max != 0) {
        gw_json_key(&s->json, "maxLength");
        gw_json_unsigned(&s->json, gw_value_number(row->max));
    }
}

static void write_any_scalar(struct schema *s)
{
    gw_json_key(&s->json, "type");
    gw_json_array(&s->json);
    gw_json_string(&s->json, "string");
    gw_json_string(&s->json, "number");
    gw_json_string(&s->json, "boolean");
    gw_json_array_end(&s->json);
}

/* Keywords of one value as it is usually written. */
static void write_value_keywords(struct schema *s, const struct gw_setting *row)
{
    switch (row->type) {
    case GW_BOOL:
        write_type(s, "boolean");
        break;
    case GW_NUMBER:
        write_type(s, "integer");
        write_number_bounds(s, row);
        break;
    case GW_DURATION:
        write_pair(s, "$ref", "#/$defs/duration");
        break;
    case GW_SIZE:
        write_pair(s, "$ref", "#/$defs/size");
        break;
    case GW_PERCENT:
        write_type(s, "string");
        write_pair(s, "pattern", "^[0-9]+(\\.[0-9]+)?%$");
        break;
    case GW_CHOICE:
    case GW_CHOICES:
        gw_json_key(&s->json, "enum");
        gw_json_array(&s->json);
        for (const char *const *choice = row->choices; *choice != NULL; ++choice)
            gw_json_string(&s->json, *choice);
        gw_json_array_end(&s->json);
        break;
    case GW_TEXT:
    case GW_TEXTS:
        write_any_scalar(s);
        write_length_bounds(s, row);
        break;
    default:
        write_type(s, "string");
        break;
    }
}

static bool may_be_substituted(enum gw_setting_type type)
{
    return type != GW_TEXT && type != GW_TEXTS && type != GW_ADDRESS && type != GW_ADDRESSES &&
           type != GW_CIDRS; /* these take any text */
}

/* The alternatives of one value, inside of an array that is open. */
static void write_alternatives(struct schema *s, const struct gw_setting *row)
{
    gw_json_object(&s->json);
    write_value_keywords(s, row);
    gw_json_object_end(&s->json);
    if (may_be_substituted(row->type))
        write_substitution(s);
}

static void write_list_of(struct schema *s, void (*write_entry)(struct schema *, const struct gw_setting *),
                          const struct gw_setting *row)
{
    gw_json_object(&s->json);
    write_type(s, "array");
    gw_json_key(&s->json, "items");
    gw_json_object(&s->json);
    gw_json_key(&s->json, "anyOf");
    gw_json_array(&s->json);
    write_entry(s, row);
    gw_json_array_end(&s->json);
    gw_json_object_end(&s->json);
    gw_json_object_end(&s->json);
}

static void write_section_entry(struct schema *s, const struct gw_setting *row) { write_reference(s, row->section); }

static void write_map_of(struct schema *s, const struct gw_setting *row)
{
    gw_json_object(&s->json);
    write_type(s, "object");
    gw_json_key(&s->json, "additionalProperties");
    if (row->type == GW_MAP) {
        write_reference(s, row->section);
    } else {
        gw_json_object(&s->json);
        write_any_scalar(s);
        gw_json_object_end(&s->json);
    }
    gw_json_object_end(&s->json);
}

/* The keywords inside of a table's schema_json, an object. */
static void write_own_keywords(struct schema *s, const char *schema_json)
{
    if (schema_json == NULL)
        return;
    const char *start = strchr(schema_json, '{'), *end = strrchr(schema_json, '}');
    if (start == NULL || end == NULL || end - start < 2)
        return;
    if (s->json.needs_comma)
        gw_json_raw(&s->json, ",", 1);
    gw_json_raw(&s->json, start + 1, end - start - 1);
    s->json.needs_comma = true;
}

static void write_any_of(struct schema *s, const struct gw_setting *row)
{
    gw_json_key(&s->json, "anyOf");
    gw_json_array(&s->json);
    switch (row->type) {
    case GW_TEXTS:
    case GW_CHOICES:
    case GW_ADDRESSES:
    case GW_CIDRS:
        write_alternatives(s, row);
        write_list_of(s, write_alternatives, row);
        break;
    case GW_LIST:
        write_reference(s, row->section);
        write_list_of(s, write_section_entry, row);
        break;
    case GW_SECTION:
    case GW_OPTION:
        write_reference(s, row->section);
        break;
    case GW_MAP:
    case GW_PAIRS:
        write_map_of(s, row);
        break;
    default:
        write_alternatives(s, row);
        break;
    }
    if ((row->type == GW_LIST || row->type == GW_SECTION || row->type == GW_MAP) && !row->is_required)
        write_object(s, "type", "null"); /* nothing after the colon: all default */
    gw_json_array_end(&s->json);
}

static void write_default(struct schema *s, const struct gw_setting *row)
{
    char buf[32];
    uint64_t number = gw_value_number(row->initial);
    bool has_text =
        (row->type == GW_TEXT || row->type == GW_ADDRESS || row->type == GW_TEXTS) && row->initial_text != NULL;
    if (has_text) {
        write_pair(s, "default", row->initial_text);
    } else if (row->is_required || row->initial_text != NULL || gw_setting_is_unset_number(number)) {
        return;
    } else if (row->type == GW_BOOL || row->type == GW_NUMBER) {
        gw_json_key(&s->json, "default");
        if (row->type == GW_BOOL)
            gw_json_bool(&s->json, number != 0);
        else
            gw_json_unsigned(&s->json, number);
    } else if (row->type == GW_CHOICE) {
        write_pair(s, "default", row->choices[number]);
    } else if (row->type == GW_DURATION || row->type == GW_SIZE || row->type == GW_PERCENT) {
        write_pair(s, "default", gw_value_format(row->type, number, row->initial, buf));
    }
}

static void write_row(struct schema *s, const struct gw_setting *row)
{
    gw_json_object(&s->json);
    write_pair(s, "description", row->help);
    if (row->type == GW_TEXT || row->type == GW_ADDRESS)
        write_value_keywords(s, row);
    else if (row->type != GW_CUSTOM)
        write_any_of(s, row);
    write_own_keywords(s, row->schema_json);
    write_default(s, row);
    gw_json_object_end(&s->json);
}

static void write_map_form(struct schema *s, const struct gw_section *section)
{
    bool has_required = false;
    write_type(s, "object");
    gw_json_key(&s->json, "properties");
    gw_json_object(&s->json);
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        gw_json_key(&s->json, row->name);
        write_row(s, row);
        has_required |= row->is_required;
    }
    gw_json_object_end(&s->json);
    if (has_required) {
        gw_json_key(&s->json, "required");
        gw_json_array(&s->json);
        for (const struct gw_setting *row = section->settings; row->name != NULL; ++row)
            if (row->is_required)
                gw_json_string(&s->json, row->name);
        gw_json_array_end(&s->json);
    }
    gw_json_key(&s->json, "additionalProperties");
    gw_json_bool(&s->json, false);
}

/* What may stand in the place of a map that has only this row. is_single: no list. */
static void write_short_form(struct schema *s, const struct gw_setting *row, bool is_single)
{
    if (!is_single) {
        write_row(s, row);
        return;
    }
    gw_json_object(&s->json);
    write_pair(s, "description", row->help);
    gw_json_key(&s->json, "anyOf");
    gw_json_array(&s->json);
    if (row->section != NULL)
        write_reference(s, row->section);
    else
        write_alternatives(s, row);
    gw_json_array_end(&s->json);
    write_own_keywords(s, row->schema_json);
    gw_json_object_end(&s->json);
}

static void write_section(struct schema *s, const struct gw_section *section)
{
    const char *shorts[2] = {section->scalar_is, section->list_is};
    if (shorts[0] != NULL && shorts[1] != NULL && strcmp(shorts[0], shorts[1]) == 0)
        shorts[1] = NULL;
    if (section->help != NULL)
        write_pair(s, "description", section->help);
    if (shorts[0] == NULL && shorts[1] == NULL) {
        write_map_form(s, section);
        return;
    }
    gw_json_key(&s->json, "anyOf");
    gw_json_array(&s->json);
    gw_json_object(&s->json);
    write_map_form(s, section);
    gw_json_object_end(&s->json);
    if (shorts[0] != NULL)
        write_short_form(s, gw_setting_find(section, shorts[0], strlen(shorts[0])),
                         shorts[1] == NULL && section->list_is == NULL);
    if (shorts[1] != NULL)
        write_short_form(s, gw_setting_find(section, shorts[1], strlen(shorts[1])), false);
    gw_json_array_end(&s->json);
}

static void write_definitions(struct schema *s)
{
    static const char common[] =
        "\"substitution\":{\"description\":\"A value from outside.\",\"type\":\"string\","
        "\"pattern\":\"\\\\$\\\\{(env|file):\"},"
        "\"duration\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^([0-9]+(ms|s|m|h|d)|0)$\"},{\"const\":0}]},"
        "\"size\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^[0-9]+([KMGT]i?B|kB|B)?$\"},"
        "{\"type\":\"integer\",\"minimum\":0}]}";
    gw_json_key(&s->json, "$defs");
    gw_json_object(&s->json);
    gw_json_raw(&s->json, common, sizeof(common) - 1);
    s->json.needs_comma = true;
    for (size_t i = 1; i < s->num_sections; ++i) { /* writing one may add others; 0 is the root itself */
        char id[64];
        gw_json_key(&s->json, section_id(s, i, id, sizeof(id)));
        gw_json_object(&s->json);
        write_section(s, s->sections[i]);
        gw_json_object_end(&s->json);
    }
    gw_json_object_end(&s->json);
}

/* Where the object or list at the start ends, if it is short and holds no object; else 0. */
static size_t short_length(const char *p, size_t len)
{
    bool in_text = false;
    unsigned depth = 0;
    for (size_t i = 0; i != len && i != INLINE_WIDTH; ++i) {
        if (in_text && p[i] == '\\')
            ++i;
        else if (p[i] == '"')
            in_text = !in_text;
        else if (!in_text && (p[i] == '{' || p[i] == '['))
            ++depth;
        else if (!in_text && (p[i] == '}' || p[i] == ']') && --depth == 0)
            return i + 1;
    }
    return 0;
}

static void print_indented(FILE *out, const char *p, size_t len)
{
    int depth = 0;
    bool in_text = false;
    size_t inline_end = 0;
    for (size_t i = 0; i != len; ++i) {
        bool is_open = !in_text && (p[i] == '{' || p[i] == '['), is_close = !in_text && (p[i] == '}' || p[i] == ']');
        if (is_open && i >= inline_end)
            inline_end = i + short_length(p + i, len - i);
        bool is_inline = i < inline_end;
        if (is_close && !is_inline)
            fprintf(out, "\n%*s", --depth * 2, "");
        fputc(p[i], out);
        if (in_text && p[i] == '\\')
            fputc(p[++i], out);
        else if (p[i] == '"')
            in_text = !in_text;
        else if (is_open && !is_inline)
            fprintf(out, "\n%*s", ++depth * 2, "");
        else if (!in_text && p[i] == ',' && !is_inline)
            fprintf(out, "\n%*s", depth * 2, "");
        else if (!in_text && (p[i] == ':' || p[i] == ','))
            fputc(' ', out);
    }
    fputc('\n', out);
}

void gw_settings_schema(FILE *out, const struct gw_section *root)
{
    struct schema *s = h2o_mem_alloc(sizeof(*s));
    s->num_sections = 0;
    gw_json_init(&s->json);
    section_index(s, root);
    gw_json_object(&s->json);
    write_pair(s, "$schema", "https://json-schema.org/draft/2020-12/schema");
    write_pair(s, "title", "weir " WEIR_VERSION);
    write_section(s, root);
    write_definitions(s);
    gw_json_object_end(&s->json);
    print_indented(out, s->json.base, s->json.size);
    gw_json_dispose(&s->json);
    free(s);
}
