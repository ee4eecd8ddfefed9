#include "gateway/base/error.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <h2o.h>
#include "gateway/base/log.h"
#include "gateway/base/names.h"
#include "gateway/base/yaml.h"

enum { MAX_FINDINGS = 10000, MIN_SECRET_LEN = 4, MAX_NEAREST_LEN = 64 };

void gw_errors_init(struct gw_errors *errors) { memset(errors, 0, sizeof(*errors)); }

void gw_errors_dispose(struct gw_errors *errors)
{
    for (size_t i = 0; i != errors->size; ++i)
        free((char *)errors->entries[i].text);
    for (size_t i = 0; i != errors->num_files; ++i)
        free(errors->files[i]);
    for (size_t i = 0; i != errors->num_secrets; ++i) {
        explicit_bzero(errors->secrets[i], strlen(errors->secrets[i]));
        free(errors->secrets[i]);
    }
    free(errors->entries);
    free(errors->files);
    free(errors->secrets);
    if (errors->secret_names != NULL)
        gw_names_dispose(errors->secret_names);
    free(errors->secret_names);
    memset(errors, 0, sizeof(*errors));
}

static size_t intern_file(struct gw_errors *errors, const char *file)
{
    if (errors->num_files != 0 && strcmp(errors->files[errors->last_file], file) == 0)
        return errors->last_file;
    for (size_t i = 0; i != errors->num_files; ++i)
        if (strcmp(errors->files[i], file) == 0)
            return errors->last_file = i;
    errors->files = h2o_mem_realloc(errors->files, (errors->num_files + 1) * sizeof(errors->files[0]));
    errors->files[errors->num_files] = h2o_strdup(NULL, file, SIZE_MAX).base;
    return errors->last_file = errors->num_files++;
}

const char *gw_errors_add_file(struct gw_errors *errors, const char *file)
{
    size_t index = intern_file(errors, file); /* first: it may move the array */
    return errors->files[index];
}

void gw_errors_add_secret(struct gw_errors *errors, const char *text, size_t len)
{
    if (len < MIN_SECRET_LEN)
        return;
    if (errors->secret_names == NULL) {
        errors->secret_names = h2o_mem_alloc(sizeof(*errors->secret_names));
        gw_names_init(errors->secret_names, NULL);
    }
    if (gw_names_get(errors->secret_names, h2o_iovec_init(text, len)) != NULL)
        return;
    bool is_new;
    h2o_iovec_t copy = h2o_strdup(NULL, text, len);
    gw_names_put(errors->secret_names, copy, &is_new);
    if ((errors->num_secrets & (errors->num_secrets - 1)) == 0)
        errors->secrets = h2o_mem_realloc(errors->secrets, (errors->num_secrets * 2 + 1) * sizeof(errors->secrets[0]));
    errors->secrets[errors->num_secrets++] = copy.base;
}

/* Replaces every appearance of a secret in place; the text may grow when the secret is shorter than the mask. */
static char *mask(char *text, const char *secret)
{
    size_t secret_len = strlen(secret);
    if (secret_len == 0 || strstr(text, secret) == NULL)
        return text;
    char *masked = h2o_mem_alloc(strlen(text) * 3 + 1), *dst = masked;
    for (const char *src = text; *src != '\0';) {
        if (strncmp(src, secret, secret_len) == 0) {
            dst = stpcpy(dst, "***");
            src += secret_len;
        } else {
            *dst++ = *src++;
        }
    }
    *dst = '\0';
    free(text);
    return masked;
}

/* A finding is one line of a terminal or log: what came out of a file cannot forge a second one. */
static char *escape_controls(char *text)
{
    size_t num_controls = 0;
    for (const char *p = text; *p != '\0'; ++p)
        num_controls += (unsigned char)*p < 0x20 || *p == 0x7f;
    if (num_controls == 0)
        return text;
    char *escaped = h2o_mem_alloc(strlen(text) + num_controls * 3 + 1), *dst = escaped;
    for (const char *p = text; *p != '\0'; ++p) {
        if (*p == '\n')
            dst = stpcpy(dst, "\\n");
        else if ((unsigned char)*p < 0x20 || *p == 0x7f)
            dst += sprintf(dst, "\\x%02x", (unsigned)(unsigned char)*p);
        else
            *dst++ = *p;
    }
    *dst = '\0';
    free(text);
    return escaped;
}

static void record(struct gw_errors *errors, enum gw_severity severity, const struct gw_node *at, const char *file,
                   unsigned line, unsigned column, const char *format, va_list args)
{
    if (severity == GW_ERROR)
        ++errors->num_errors;
    if (errors->size == MAX_FINDINGS) {
        ++errors->num_dropped;
        return;
    }
    char *text;
    if (vasprintf(&text, format, args) < 0)
        h2o_fatal("no memory");
    if (at != NULL && at->kind == GW_NODE_SCALAR && at->is_secret)
        text = mask(text, at->text.base);
    for (size_t i = 0; i != errors->num_secrets; ++i)
        text = mask(text, errors->secrets[i]);
    if (errors->size == errors->capacity) {
        errors->capacity = errors->capacity == 0 ? 16 : errors->capacity * 2;
        errors->entries = h2o_mem_realloc(errors->entries, errors->capacity * sizeof(errors->entries[0]));
    }
    size_t file_order = intern_file(errors, file);
    errors->entries[errors->size] = (struct gw_finding){.severity = severity,
                                                        .file = errors->files[file_order],
                                                        .line = line,
                                                        .column = column,
                                                        .text = escape_controls(text),
                                                        .file_order = file_order,
                                                        .order = errors->size};
    ++errors->size;
}

static void record_at(struct gw_errors *errors, enum gw_severity severity, const struct gw_node *at, const char *format,
                      va_list args)
{
    if (at == NULL)
        record(errors, severity, NULL, errors->num_files != 0 ? errors->files[0] : "configuration", 0, 0, format, args);
    else if (!at->is_broken)
        record(errors, severity, at, at->file, at->line, at->column, format, args);
}

bool gw_error_at(struct gw_errors *errors, const struct gw_node *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record_at(errors, GW_ERROR, at, format, args);
    va_end(args);
    return false;
}

void gw_warn_at(struct gw_errors *errors, const struct gw_node *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record_at(errors, GW_WARNING, at, format, args);
    va_end(args);
}

bool gw_error_in(struct gw_errors *errors, const char *file, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record(errors, GW_ERROR, NULL, file, line, column, format, args);
    va_end(args);
    return false;
}

void gw_warn_in(struct gw_errors *errors, const char *file, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    record(errors, GW_WARNING, NULL, file, line, column, format, args);
    va_end(args);
}

static int compare(const void *a, const void *b)
{
    const struct gw_finding *x = a, *y = b;
#define BY(field)                                                                                                      \
    if (x->field != y->field)                                                                                          \
    return x->field < y->field ? -1 : 1
    BY(file_order);
    BY(line);
    BY(column);
    BY(order);
#undef BY
    return 0;
}

static bool is_repeat(const struct gw_finding *a, const struct gw_finding *b)
{
    return a->severity == b->severity && a->file_order == b->file_order && a->line == b->line &&
           a->column == b->column && strcmp(a->text, b->text) == 0;
}

static void sort(struct gw_errors *errors)
{
    if (errors->size != 0)
        qsort(errors->entries, errors->size, sizeof(errors->entries[0]), compare);
}

void gw_errors_print(struct gw_errors *errors, FILE *out)
{
    sort(errors);
    for (size_t i = 0; i != errors->size; ++i) {
        const struct gw_finding *f = errors->entries + i;
        if (i != 0 && is_repeat(f, f - 1))
            continue;
        fputs(f->file, out);
        if (f->line != 0)
            fprintf(out, ":%u:%u", f->line, f->column);
        fprintf(out, ": %s%s\n", f->severity == GW_WARNING ? "warning: " : "", f->text);
    }
    if (errors->num_dropped != 0)
        fprintf(out, "and %zu more\n", errors->num_dropped);
}

void gw_errors_log(struct gw_errors *errors)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        return;
    gw_errors_print(errors, out);
    fclose(out);
    gw_log_text(text, len);
    free(text);
}

void gw_errors_first(struct gw_errors *errors, char *text, size_t size)
{
    sort(errors);
    *text = '\0';
    for (size_t i = 0; i != errors->size; ++i) {
        const struct gw_finding *f = errors->entries + i;
        if (f->severity != GW_ERROR)
            continue;
        if (f->line != 0)
            snprintf(text, size, "%s:%u:%u: %s", f->file, f->line, f->column, f->text);
        else
            snprintf(text, size, "%s: %s", f->file, f->text);
        return;
    }
}

static unsigned char fold(char c) { return c == '-' ? '_' : (unsigned char)tolower((unsigned char)c); }

/* Optimal string alignment: insert, delete, replace, swap of neighbours. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][MAX_NEAREST_LEN + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; ++j)
        last[j] = j;
    for (size_t i = 1; i <= a_len; ++i) {
        row[0] = i;
        for (size_t j = 1; j <= b_len; ++j) {
            bool is_same = fold(a[i - 1]) == fold(b[j - 1]);
            size_t best = last[j - 1] + !is_same;
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_len];
}

const char *gw_nearest(const char *name, const char *const *names, size_t num_names)
{
    size_t len = strlen(name), best = len / 3 < 1 ? 2 : len / 3 + 1;
    const char *nearest = NULL;
    if (len > MAX_NEAREST_LEN)
        return NULL;
    for (size_t i = 0; i != num_names; ++i) {
        size_t other_len = strlen(names[i]);
        if (other_len > MAX_NEAREST_LEN || other_len >= len + best || len >= other_len + best)
            continue;
        size_t d = distance(name, len, names[i], other_len);
        if (d < best && d < (len > other_len ? len : other_len)) { /* something in common */
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
