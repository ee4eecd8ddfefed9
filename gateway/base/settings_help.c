/* The manual page of one setting, from its row. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/settings_internal.h"

enum { MAX_PATH_LEN = 256, MAX_CANDIDATES = 64 };

/* Where a path led: a row, or the root section (row NULL). */
struct place {
    const struct gw_section *owner; /* the section that has the row */
    const struct gw_setting *row;
    char path[MAX_PATH_LEN]; /* as shown: target_groups.NAME.health_check */
};

static void append(char *path, const char *text)
{
    size_t len = strlen(path);
    snprintf(path + len, MAX_PATH_LEN - len, "%s", text);
}

/* The path of a row below a place. */
static struct place below(const struct place *parent, const struct gw_section *section, const struct gw_setting *row)
{
    struct place place = *parent;
    if (parent->row != NULL)
        append(place.path, parent->row->type == GW_MAP ? ".NAME." : parent->row->type == GW_LIST ? "[]." : ".");
    append(place.path, row->name);
    place.owner = section;
    place.row = row;
    return place;
}

static const struct gw_section *inside(const struct place *place, const struct gw_section *root)
{
    return place->row == NULL ? root : place->row->section;
}

static const char *kind_of(const struct gw_setting *row, char *buf, size_t buf_len)
{
    switch (row->type) {
    case GW_TEXTS:
        return "a text or a list of texts";
    case GW_ADDRESSES:
        return "an address like 0.0.0.0:8080 or [::]:8080, or a list of them";
    case GW_CIDRS:
        return "a list of addresses or networks like 10.0.0.0/8";
    case GW_PAIRS:
        return "a map of names and texts";
    case GW_SECTION:
        return "a map of settings";
    case GW_OPTION:
        return "a map of settings; without it, off";
    case GW_LIST:
        snprintf(buf, buf_len, "a list, each entry one %s", row->section->name);
        return buf;
    case GW_MAP:
        snprintf(buf, buf_len, "a map, each name one %s", row->section->name);
        return buf;
    case GW_CUSTOM:
        return "what the schema says";
    case GW_CHOICE:
        return "one of these";
    case GW_CHOICES:
        return "one of these or a list of them";
    case GW_NUMBER:
        return "a number";
    default:
        return gw_value_expected(row, buf, buf_len);
    }
}

/* "" when there is none to tell. */
static const char *default_of(const struct gw_setting *row, char *buf, size_t buf_len)
{
    char value[32];
    uint64_t number = gw_value_number(row->initial);
    buf[0] = '\0';
    if (row->is_required)
        return "none: it must be given";
    if (row->initial_text != NULL)
        return row->initial_text;
    switch (row->type) {
    case GW_BOOL:
    case GW_NUMBER:
    case GW_DURATION:
    case GW_SIZE:
    case GW_PERCENT:
        if (!gw_setting_is_unset_number(number))
            snprintf(buf, buf_len, "%s", gw_value_format(row->type, number, row->initial, value));
        return buf;
    case GW_CHOICE:
        return row->choices[number];
    case GW_CHOICES:
        for (size_t i = 0, len = 0; row->choices[i] != NULL && len < buf_len; ++i)
            if ((number & 1ull << i) != 0)
                len += snprintf(buf + len, buf_len - len, "%s%s", len == 0 ? "" : ", ", row->choices[i]);
        return buf;
    default:
        return buf;
    }
}

static void print_settings(FILE *out, const struct gw_section *section)
{
    int width = 0;
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row)
        if ((int)strlen(row->name) > width)
            width = strlen(row->name);
    fputs("\nSettings:\n", out);
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        char buf[256];
        const char *initial = default_of(row, buf, sizeof(buf));
        fprintf(out, "    %-*s  %s", width, row->name, row->help);
        if (row->is_required)
            fputs(" Required.", out);
        else if (initial[0] != '\0')
            fprintf(out, " Default: %s.", initial);
        fputc('\n', out);
    }
}

static void print_choice_list(FILE *out, const struct gw_setting *row)
{
    for (size_t i = 0; row->choices[i] != NULL; ++i)
        fprintf(out, "                  %s\n", row->choices[i]);
}

static void print_row(FILE *out, const struct place *place)
{
    const struct gw_setting *row = place->row;
    char buf[512];
    fprintf(out, "%s\n\n    %s\n\n", place->path, row->help);
    fprintf(out, "    Value:    %s\n", kind_of(row, buf, sizeof(buf)));
    if (row->choices != NULL)
        print_choice_list(out, row);
    if (row->type == GW_NUMBER || row->type == GW_DURATION || row->type == GW_SIZE || row->type == GW_PERCENT)
        if (gw_value_bounds(row, buf, sizeof(buf))[0] != '\0')
            fprintf(out, "    Bounds:   %s\n", buf);
    const char *initial = default_of(row, buf, sizeof(buf));
    if (initial[0] != '\0')
        fprintf(out, "    Default:  %s\n", initial);
    fprintf(out, "    Change:   %s\n", row->needs_restart ? "takes a restart" : "taken over by a reload");
    if (row->is_secret)
        fputs("    Secret:   never shown; better ${env:NAME} or ${file:PATH} than the text itself\n", out);
    if (row->type == GW_CUSTOM && row->schema_json != NULL)
        fprintf(out, "    Schema:   %s\n", row->schema_json);
    if (row->section == NULL)
        return;
    if (row->section->scalar_is != NULL)
        fprintf(out, "    Short:    a single value stands for {%s: value}\n", row->section->scalar_is);
    if (row->section->list_is != NULL)
        fprintf(out, "    Short:    a list stands for {%s: list}\n", row->section->list_is);
    print_settings(out, row->section);
}

static void print_place(FILE *out, const struct place *place, const struct gw_section *root)
{
    if (place->row != NULL) {
        print_row(out, place);
        return;
    }
    fprintf(out, "%s\n", root->help != NULL ? root->help : root->name);
    print_settings(out, root);
}

static const char *nearest_row(const struct gw_section *section, const char *name)
{
    const char *names[128];
    size_t n = 0;
    for (; section->settings[n].name != NULL && n != 128; ++n)
        names[n] = section->settings[n].name;
    return gw_nearest(name, names, n);
}

static bool is_index(const char *segment)
{
    return strcmp(segment, "*") == 0 || strcmp(segment, "[]") == 0 ||
           (segment[0] != '\0' && segment[strspn(segment, "0123456789")] == '\0');
}

/* Goes one segment down. A name of a map and an index of a list may be there or not; they change nothing. */
static bool step(struct place *place, const struct gw_section *root, const char *segment, bool *used_name)
{
    const struct gw_section *section = inside(place, root);
    const struct gw_setting *row = section != NULL ? gw_setting_find(section, segment, strlen(segment)) : NULL;
    if (row != NULL) {
        *place = below(place, section, row);
        *used_name = false;
        return true;
    }
    if (place->row == NULL || *used_name || segment[0] == '\0')
        return false;
    *used_name = true;
    return (place->row->type == GW_LIST && is_index(segment)) ||
           (place->row->type == GW_MAP && nearest_row(section, segment) == NULL);
}

/* false: the path leads nowhere; failed is the segment, place how far it got. */
static bool resolve(struct place *place, const struct gw_section *root, char *path, const char **failed)
{
    char *rest = path, *segment;
    bool used_name = false;
    *place = (struct place){.owner = root};
    while ((segment = strsep(&rest, ".")) != NULL) {
        size_t len = strlen(segment);
        if (len > 2 && strcmp(segment + len - 2, "[]") == 0)
            segment[len - 2] = '\0';
        if (!step(place, root, segment, &used_name)) {
            *failed = segment;
            return false;
        }
    }
    return true;
}

struct candidates {
    struct place places[MAX_CANDIDATES];
    size_t size;
    const char *names[512]; /* of all settings, for the nearest */
    size_t num_names;
};

static bool ends_with(const struct place *place, const char *path)
{
    size_t place_len = strlen(place->path), len = strlen(path);
    return place_len > len && place->path[place_len - len - 1] == '.' &&
           strcmp(place->path + place_len - len, path) == 0;
}

static void collect(struct candidates *found, const struct place *parent, const struct gw_section *section,
                    const char *path)
{
    for (const struct gw_setting *row = section->settings; row->name != NULL; ++row) {
        struct place place = below(parent, section, row);
        if (ends_with(&place, path) && found->size != MAX_CANDIDATES)
            found->places[found->size++] = place;
        if (found->num_names != sizeof(found->names) / sizeof(found->names[0]))
            found->names[found->num_names++] = row->name;
        if (row->section != NULL)
            collect(found, &place, row->section, path);
    }
}

static void print_nearest(const char *nearest)
{
    if (nearest != NULL)
        fprintf(stderr, " (did you mean \"%s\"?)\n", nearest);
    else
        fputs(" (`weir help` lists them)\n", stderr);
}

/* The path may be the end of one: `interval`, `health_check.interval`. */
static bool help_by_end(FILE *out, const struct gw_section *root, const char *path, const char *failed)
{
    struct candidates *found = h2o_mem_alloc(sizeof(*found));
    struct place top = {.owner = root};
    found->size = found->num_names = 0;
    collect(found, &top, root, path);
    bool is_found = found->size == 1;
    if (is_found) {
        print_place(out, found->places, root);
    } else if (found->size > 1) {
        fprintf(stderr, "several settings are named %s:\n", path);
        for (size_t i = 0; i != found->size; ++i)
            fprintf(stderr, "    %s\n", found->places[i].path);
    } else {
        const char *nearest = gw_nearest(failed, found->names, found->num_names);
        fprintf(stderr, "no setting is named %s", path);
        print_nearest(nearest);
    }
    free(found);
    return is_found;
}

bool gw_settings_help(FILE *out, const struct gw_section *root, const char *path)
{
    struct place place = {.owner = root};
    const char *failed = "";
    if (path == NULL || path[0] == '\0') {
        print_place(out, &place, root);
        return true;
    }
    char *copy = h2o_strdup(NULL, path, strlen(path)).base;
    bool is_good = resolve(&place, root, copy, &failed);
    if (is_good) {
        print_place(out, &place, root);
    } else if (place.row == NULL) {
        is_good = help_by_end(out, root, path, failed);
    } else {
        const struct gw_section *section = inside(&place, root);
        const char *nearest = section != NULL ? nearest_row(section, failed) : NULL;
        fprintf(stderr, "%s has no setting %s", place.path, failed);
        print_nearest(nearest);
    }
    free(copy);
    return is_good;
}
