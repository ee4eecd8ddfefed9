#include "gateway/command/tally.h"
#include <stdlib.h>
#include <string.h>
#include <h2o/string_.h>

enum { MAX_TEXT = 300 };

void gw_tally_init(struct gw_tally *tally, size_t max_rows, size_t max_examples)
{
    *tally = (struct gw_tally){.max_rows = max_rows, .max_examples = max_examples};
    gw_names_init(&tally->names, NULL);
}

static void dispose_row(struct gw_tally_row *row)
{
    for (size_t i = 0; i != row->num_examples; ++i) {
        free(row->examples[i].request);
        free(row->examples[i].client);
        free(row->examples[i].before);
        free(row->examples[i].after);
    }
    free(row->examples);
    free(row->what);
    free(row->from);
    free(row->to);
}

void gw_tally_dispose(struct gw_tally *tally)
{
    for (size_t i = 0; i != tally->size; ++i) {
        dispose_row(&tally->rows[i]);
        free(tally->keys[i]);
    }
    free(tally->rows);
    free(tally->keys);
    gw_names_dispose(&tally->names);
}

/* NUL-terminated; where it is cut, "..." says so. */
static char *copy(h2o_iovec_t text)
{
    if (text.base == NULL)
        return NULL;
    bool is_cut = text.len > MAX_TEXT;
    size_t len = is_cut ? MAX_TEXT - 3 : text.len;
    while (is_cut && len != 0 && ((unsigned char)text.base[len] & 0xc0) == 0x80) /* not within a character */
        --len;
    char *to = h2o_mem_alloc(len + 4);
    memcpy(to, text.base, len);
    strcpy(to + len, is_cut ? "..." : "");
    return to;
}

static size_t join(char *dst, const char *what, h2o_iovec_t from, h2o_iovec_t to)
{
    size_t len = strlen(what);
    memcpy(dst, what, len);
    dst[len++] = '\0';
    memcpy(dst + len, from.base, from.len);
    len += from.len;
    dst[len++] = '\0';
    memcpy(dst + len, to.base, to.len);
    return len + to.len;
}

static struct gw_tally_row *add_row(struct gw_tally *tally, const char *what, h2o_iovec_t from, h2o_iovec_t to,
                                    h2o_iovec_t key)
{
    bool is_new;

    if (tally->size == tally->capacity) {
        tally->capacity = tally->capacity == 0 ? 16 : tally->capacity * 2;
        tally->rows = h2o_mem_realloc(tally->rows, tally->capacity * sizeof(tally->rows[0]));
        tally->keys = h2o_mem_realloc(tally->keys, tally->capacity * sizeof(tally->keys[0]));
    }
    char *kept = h2o_mem_alloc(key.len + 1);
    memcpy(kept, key.base, key.len);
    tally->keys[tally->size] = kept;
    *gw_names_put(&tally->names, h2o_iovec_init(kept, key.len), &is_new) = tally->size;
    struct gw_tally_row *row = &tally->rows[tally->size++];
    *row = (struct gw_tally_row){.what = copy(h2o_iovec_init(what, strlen(what))), .from = copy(from), .to = copy(to)};
    return row;
}

struct gw_tally_row *gw_tally_add(struct gw_tally *tally, const char *what, h2o_iovec_t from, h2o_iovec_t to)
{
    char small[512], *buffer = small;
    size_t room = strlen(what) + from.len + to.len + 2;
    struct gw_tally_row *row;

    if (room > sizeof(small))
        buffer = h2o_mem_alloc(room);
    h2o_iovec_t key = h2o_iovec_init(buffer, join(buffer, what, from, to));
    const size_t *index = gw_names_get(&tally->names, key);
    if (index != NULL)
        row = &tally->rows[*index];
    else
        row = tally->size < tally->max_rows ? add_row(tally, what, from, to, key) : NULL;
    if (buffer != small)
        free(buffer);
    if (row == NULL) {
        ++tally->dropped;
        return NULL;
    }
    ++row->count;
    return row->num_examples < tally->max_examples ? row : NULL;
}

void gw_tally_add_example(struct gw_tally_row *row, uint64_t line, h2o_iovec_t request, h2o_iovec_t client,
                          h2o_iovec_t before, h2o_iovec_t after)
{
    row->examples = h2o_mem_realloc(row->examples, (row->num_examples + 1) * sizeof(row->examples[0]));
    if (client.base == NULL)
        client = h2o_iovec_init(H2O_STRLIT(""));
    row->examples[row->num_examples++] =
        (struct gw_tally_example){line, copy(request), copy(client), copy(before), copy(after)};
}

static int compare(const void *a, const void *b)
{
    const struct gw_tally_row *x = a, *y = b;
    int order;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    if ((order = strcmp(x->what, y->what)) != 0)
        return order;
    return (order = strcmp(x->from, y->from)) != 0 ? order : strcmp(x->to, y->to);
}

void gw_tally_sort(struct gw_tally *tally)
{
    if (tally->size != 0)
        qsort(tally->rows, tally->size, sizeof(tally->rows[0]), compare);
}
