/* The effective configuration as JSON: the shape of the YAML form (settings_print.c), for programs. Durations, sizes
 * and percentages are texts as one would write them; secrets are "***". */
#include <string.h>
#include <h2o.h>
#include "gateway/base/ip.h"
#include "gateway/base/json.h"
#include "gateway/base/settings_internal.h"

static void put_secret(struct gw_json *json) { gw_json_string(json, "***"); }

static bool is_secret_at(const struct gw_node *at) { return at != NULL && gw_node_holds_secret(at); }

static void put_text(struct gw_json *json, h2o_iovec_t text, bool is_secret)
{
    if (is_secret)
        put_secret(json);
    else
        gw_json_text(json, text);
}

static void put_texts(struct gw_json *json, const struct gw_setting *row, const struct gw_texts *texts)
{
    gw_json_array(json);
    for (size_t i = 0; i != texts->size; ++i)
        put_text(json, texts->entries[i], row->is_secret || is_secret_at(texts->at[i]));
    gw_json_array_end(json);
}

static void put_addresses(struct gw_json *json, const struct gw_addresses *addresses)
{
    gw_json_array(json);
    for (size_t i = 0; i != addresses->size; ++i)
        put_text(json, addresses->entries[i].text, is_secret_at(addresses->at[i]));
    gw_json_array_end(json);
}

static void put_choices(struct gw_json *json, const struct gw_setting *row, uint32_t set)
{
    gw_json_array(json);
    for (size_t i = 0; row->choices[i] != NULL; ++i)
        if ((set & 1u << i) != 0)
            gw_json_string(json, row->choices[i]);
    gw_json_array_end(json);
}

static void put_cidrs(struct gw_json *json, const struct gw_cidrs *cidrs)
{
    char text[64];
    gw_json_array(json);
    for (size_t i = 0; i != cidrs->size; ++i) {
        const struct gw_cidr *cidr = cidrs->entries + i;
        size_t len = gw_ip_format(&cidr->ip, text);
        if (cidr->bits != 128)
            sprintf(text + len, "/%d", gw_ip_is_v4(&cidr->ip) && cidr->bits >= 96 ? cidr->bits - 96 : cidr->bits);
        gw_json_string(json, text);
    }
    gw_json_array_end(json);
}

static void put_pairs(struct gw_json *json, const struct gw_setting *row, const struct gw_pairs *pairs)
{
    gw_json_object(json);
    for (size_t i = 0; i != pairs->size; ++i) {
        gw_json_key_text(json, pairs->entries[i].name);
        put_text(json, pairs->entries[i].value, row->is_secret || is_secret_at(pairs->entries[i].at));
    }
    gw_json_object_end(json);
}

static void put_list(struct gw_json *json, const struct gw_setting *row, const struct gw_list *list)
{
    gw_json_array(json);
    for (size_t i = 0; i != list->size; ++i)
        gw_settings_json(json, row->section, list->entries[i]);
    gw_json_array_end(json);
}

static void put_map(struct gw_json *json, const struct gw_setting *row, const struct gw_map *map)
{
    gw_json_object(json);
    for (size_t i = 0; i != map->size; ++i) {
        gw_json_key_text(json, map->entries[i].name);
        gw_settings_json(json, row->section, map->entries[i].conf);
    }
    gw_json_object_end(json);
}

static void put_custom(struct gw_json *json, const struct gw_setting *row, const void *field)
{
    struct gw_json value;
    gw_json_init(&value);
    row->print(&value, row, field);
    if (value.size == 0)
        gw_json_null(json);
    else
        gw_json_encoded(json, value.base, value.size);
    gw_json_dispose(&value);
}

static void put_number(struct gw_json *json, const struct gw_setting *row, const void *field)
{
    uint64_t number = *(const uint64_t *)field;
    char text[32];
    if (gw_setting_is_unset_number(number))
        gw_json_null(json);
    else if (row->type == GW_NUMBER)
        gw_json_unsigned(json, number);
    else
        gw_json_string(json, gw_value_format(row->type, number, 0, text));
}

/* Absent settings that have no default are null. */
static void put_value(struct gw_json *json, const struct gw_setting *row, const void *field)
{
    char text[32];
    const void *option;

    switch (row->type) {
    case GW_BOOL:
        gw_json_bool(json, *(const bool *)field);
        break;
    case GW_NUMBER:
    case GW_DURATION:
    case GW_SIZE:
        put_number(json, row, field);
        break;
    case GW_PERCENT:
        gw_json_string(json, gw_value_format(row->type, 0, *(const double *)field, text));
        break;
    case GW_TEXT:
        if (((const h2o_iovec_t *)field)->base == NULL)
            gw_json_null(json);
        else
            gw_json_text(json, *(const h2o_iovec_t *)field);
        break;
    case GW_TEXTS:
        put_texts(json, row, field);
        break;
    case GW_CHOICE:
        gw_json_string(json, row->choices[*(const int *)field]);
        break;
    case GW_CHOICES:
        put_choices(json, row, *(const uint32_t *)field);
        break;
    case GW_ADDRESS:
        if (((const struct gw_address *)field)->text.len == 0)
            gw_json_null(json);
        else
            gw_json_text(json, ((const struct gw_address *)field)->text);
        break;
    case GW_ADDRESSES:
        put_addresses(json, field);
        break;
    case GW_CIDRS:
        put_cidrs(json, field);
        break;
    case GW_PAIRS:
        put_pairs(json, row, field);
        break;
    case GW_SECTION:
        gw_settings_json(json, row->section, field);
        break;
    case GW_OPTION:
        if ((option = *(void *const *)field) == NULL)
            gw_json_null(json);
        else
            gw_settings_json(json, row->section, option);
        break;
    case GW_LIST:
        put_list(json, row, field);
        break;
    case GW_MAP:
        put_map(json, row, field);
        break;
    case GW_CUSTOM:
        put_custom(json, row, field);
        break;
    }
}

/* Secrets inside lists, maps and sections are found where they stand. */
static bool is_masked_whole(const struct gw_section *section, const struct gw_setting *row, const struct gw_node *at)
{
    switch (row->type) {
    case GW_TEXTS:
    case GW_ADDRESSES:
    case GW_PAIRS:
    case GW_SECTION:
    case GW_OPTION:
    case GW_LIST:
    case GW_MAP:
        return false;
    default:
        return row->is_secret || is_secret_at(gw_setting_value_node(section, at, row->name));
    }
}

static bool is_absent_text(const struct gw_setting *row, const void *field)
{
    return row->type == GW_TEXT && ((const h2o_iovec_t *)field)->base == NULL;
}

void gw_settings_json(struct gw_json *json, const struct gw_section *section, const void *conf)
{
    const struct gw_node *at = *(const struct gw_node *const *)conf;

    gw_json_object(json);
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        const void *field = gw_setting_field(row, conf);
        if (!gw_setting_applies(section, row, conf))
            continue;
        gw_json_key(json, row->name);
        if (is_masked_whole(section, row, at) && !is_absent_text(row, field))
            put_secret(json);
        else
            put_value(json, row, field);
    }
    gw_json_object_end(json);
}
