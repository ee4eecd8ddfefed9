#include "gateway/admin/reloads.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/admin_pages.h"

enum { MAX_ERRORS_SHOWN = 20 };

static void dispose_note(struct gw_reload_note *note)
{
    free(note->errors);
    note->errors = NULL;
}

void gw_reloads_dispose(struct gw_reloads *reloads)
{
    for (size_t i = 0; i != GW_RELOADS_MAX; ++i)
        dispose_note(&reloads->notes[i]);
}

void gw_reloads_add(struct gw_reloads *reloads, const struct gw_reload_note *note)
{
    struct gw_reload_note *slot = &reloads->notes[reloads->total++ % GW_RELOADS_MAX];
    dispose_note(slot);
    *slot = *note;
}

size_t gw_reloads_size(const struct gw_reloads *reloads)
{
    return reloads->total < GW_RELOADS_MAX ? reloads->total : GW_RELOADS_MAX;
}

const struct gw_reload_note *gw_reloads_at(const struct gw_reloads *reloads, size_t i)
{
    return &reloads->notes[(reloads->total - 1 - i) % GW_RELOADS_MAX];
}

char *gw_reloads_errors_text(const struct gw_errors *errors)
{
    char *text = NULL;
    size_t len = 0, shown = 0;
    FILE *out;

    if (errors->num_errors == 0 || (out = open_memstream(&text, &len)) == NULL)
        return NULL;
    for (size_t i = 0; i != errors->size && shown != MAX_ERRORS_SHOWN; ++i) {
        const struct gw_finding *finding = &errors->entries[i];
        if (finding->severity != GW_ERROR)
            continue;
        fprintf(out, "%s%s", shown++ != 0 ? "\n" : "", finding->file);
        if (finding->line != 0)
            fprintf(out, ":%u:%u", finding->line, finding->column);
        fprintf(out, ": %.500s", finding->text);
    }
    if (errors->num_errors > shown)
        fprintf(out, "\nand %zu more", errors->num_errors - shown);
    fclose(out);
    return text;
}

static void put_counts(struct gw_json *json, const char *key, const struct gw_change_counts *counts)
{
    gw_json_key(json, key);
    gw_json_object(json);
    gw_json_key(json, "added");
    gw_json_unsigned(json, counts->added);
    gw_json_key(json, "removed");
    gw_json_unsigned(json, counts->removed);
    gw_json_key(json, "changed");
    gw_json_unsigned(json, counts->changed);
    gw_json_object_end(json);
}

static void put_changes(struct gw_json *json, const struct gw_reload_note *note)
{
    char text[200];

    gw_json_key(json, "changes");
    if (!note->has_changes) {
        gw_json_null(json);
        return;
    }
    gw_json_object(json);
    put_counts(json, "routes", &note->changes.routes);
    put_counts(json, "target_groups", &note->changes.target_groups);
    put_counts(json, "listeners", &note->changes.listeners);
    put_counts(json, "certificates", &note->changes.certificates);
    gw_json_key(json, "routes_moved");
    gw_json_bool(json, note->changes.routes_moved);
    gw_json_key(json, "other_settings");
    gw_json_unsigned(json, note->changes.other_settings);
    gw_json_key(json, "text");
    gw_json_text(json, h2o_iovec_init(text, gw_changes_text(&note->changes, text, sizeof(text))));
    gw_json_object_end(json);
}

void gw_reloads_json(const struct gw_reloads *reloads, struct gw_json *json)
{
    gw_json_array(json);
    for (size_t i = 0; i != gw_reloads_size(reloads); ++i) {
        const struct gw_reload_note *note = gw_reloads_at(reloads, i);
        gw_json_object(json);
        gw_page_time_ms(json, "at", note->wall_ms);
        gw_json_key(json, "ok");
        gw_json_bool(json, note->generation != 0);
        gw_json_key(json, "generation");
        if (note->generation != 0)
            gw_json_unsigned(json, note->generation);
        else
            gw_json_null(json);
        gw_json_key(json, "duration_ms");
        gw_json_unsigned(json, note->duration_ms);
        gw_json_key(json, "errors");
        gw_json_unsigned(json, note->num_errors);
        gw_json_key(json, "warnings");
        gw_json_unsigned(json, note->num_warnings);
        gw_json_key(json, "error");
        if (note->errors != NULL)
            gw_json_string(json, note->errors);
        else
            gw_json_null(json);
        put_changes(json, note);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}
