/* Any bytes as a configuration: they load or give findings, and what loads prints to something that loads to the same.
 * No file is read. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/config/config.h"

static char *print(const struct gw_config *config)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    gw_settings_print(out, &gw_config_section, config);
    fclose(out);
    return text;
}

static void print_findings(struct gw_errors *errors)
{
    static FILE *nowhere;
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    for (size_t i = 0; i != errors->size; ++i)
        for (const char *c = errors->entries[i].text; *c != '\0'; ++c)
            assert((unsigned char)*c >= 0x20); /* one finding, one line */
    gw_errors_print(errors, nowhere);
}

/* NULL after errors. */
static char *load_and_print(h2o_iovec_t text)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load_text("fuzz", text, false, &errors);
    assert((config == NULL) == (errors.num_errors != 0));
    if (config != NULL)
        gw_config_check_parts(config, false, &errors);
    print_findings(&errors);
    char *printed = config != NULL ? print(config) : NULL;
    gw_config_destroy(config);
    gw_errors_dispose(&errors);
    return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *first = load_and_print(h2o_iovec_init(data, size));
    if (first != NULL && strstr(first, "\"***\"") == NULL) { /* masked: not the same any more */
        char *second = load_and_print(h2o_iovec_init(first, strlen(first)));
        assert(second != NULL && strcmp(first, second) == 0);
        free(second);
    }
    free(first);
    return 0;
}
