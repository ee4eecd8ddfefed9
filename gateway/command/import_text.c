#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/command/import_alb.h"

void gw_import_note(struct gw_import *self, enum gw_import_kind kind, const char *where, const char *format, ...)
{
    struct gw_import_finding *finding;
    va_list args;

    self->findings = realloc(self->findings, (self->num_findings + 1) * sizeof(*self->findings));
    finding = &self->findings[self->num_findings++];
    *finding = (struct gw_import_finding){.kind = kind, .where = strdup(where)};
    va_start(args, format);
    if (vasprintf(&finding->text, format, args) < 0)
        abort();
    va_end(args);
}

/* "${" would be a substitution. */
void gw_import_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; ++p) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p == '\n')
            fputs("\\n", out);
        else if (*p < 0x20 || *p == 0x7f)
            fprintf(out, "\\x%02X", *p);
        else if (*p == '$' && p[1] == '{')
            fputs("$$", out);
        else
            fputc(*p, out);
    }
    fputc('"', out);
}

void gw_import_list(FILE *out, const json_t *texts)
{
    size_t i;
    json_t *text;

    fputc('[', out);
    json_array_foreach(texts, i, text)
    {
        fputs(i != 0 ? ", " : "", out);
        gw_import_text(out, json_is_string(text) ? json_string_value(text) : "");
    }
    fputc(']', out);
}

const char *gw_import_string(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : "";
}
