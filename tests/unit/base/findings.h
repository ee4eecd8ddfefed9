/* What a load recorded, as the lines that users see. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include "gateway/base/error.h"

/* Free the result. */
static inline char *printed(struct gw_errors *errors)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    gw_errors_print(errors, out);
    fclose(out);
    return text;
}

#define assert_findings(errors, expected)                                                                              \
    do {                                                                                                               \
        char *text_ = printed(errors);                                                                                 \
        assert_string_equal(text_, expected);                                                                          \
        free(text_);                                                                                                   \
    } while (0)
