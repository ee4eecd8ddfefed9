#include "gateway/command/commands.h"
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>

bool gw_no_words_left(int argc, char **argv)
{
    if (optind >= argc)
        return true;
    fprintf(stderr, "%s: unexpected argument \"%s\"\n", argv[0], argv[optind]);
    return false;
}

bool gw_is_given(const char *value, const char *what, char **argv)
{
    if (value != NULL)
        return true;
    fprintf(stderr, "%s: %s is missing\n", argv[0], what);
    return false;
}

int gw_misused(const char *usage)
{
    fputs(usage, stderr);
    return 2;
}
