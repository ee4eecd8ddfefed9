#include "gateway/command/commands.h"
#include <stdio.h>
#include <string.h>
#include "gateway/snapshot.h"

const char gw_check_usage[] = "usage: weir check [-c] FILE... [--print]\n"
                              "  reports every mistake of a configuration; exit status 1 if there is an error\n"
                              "  FILE may be - for standard input; --print shows the effective configuration\n";

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

/* The whole of a load but for sockets and names to resolve: what `weir run` would refuse, this does. */
static bool check_file(const char *path, bool is_print)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load(path, &errors);
    struct gw_snapshot *snapshot = config != NULL ? gw_snapshot_create(NULL, config, &errors) : NULL;
    bool is_good = snapshot != NULL && errors.num_errors == 0;
    gw_errors_print(&errors, stderr);
    if (is_good && is_print)
        gw_settings_print(stdout, &gw_config_section, snapshot->config);
    if (is_good) {
        size_t listeners = snapshot->num_listeners, routes = snapshot->num_routes, groups = snapshot->num_groups;
        fprintf(is_print ? stderr : stdout, "%s: ok (%zu listener%s, %zu route%s, %zu target group%s)\n", path,
                listeners, plural(listeners), routes, plural(routes), groups, plural(groups));
    }
    gw_snapshot_release(snapshot);
    gw_errors_dispose(&errors);
    return is_good;
}

static bool is_path(const char *argument) { return argument[0] != '-' || strcmp(argument, "-") == 0; }

static bool read_options(int argc, char **argv, bool *is_print)
{
    int num_paths = 0;
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--print") == 0) {
            *is_print = true;
        } else if (is_path(argv[i])) {
            ++num_paths;
        } else if (strcmp(argv[i], "-c") != 0) {
            fprintf(stderr, "weir check: unrecognized option '%s'\n", argv[i]);
            return false;
        }
    }
    return gw_is_given(num_paths != 0 ? argv[0] : NULL, "FILE", argv);
}

int gw_command_check(int argc, char **argv)
{
    bool is_print = false, is_good = true;

    if (!read_options(argc, argv, &is_print))
        return gw_misused(gw_check_usage);
    for (int i = 1; i < argc; ++i)
        if (is_path(argv[i]))
            is_good &= check_file(argv[i], is_print);
    return is_good ? 0 : 1;
}

const char gw_schema_usage[] = "usage: weir schema\n  prints the JSON Schema of the configuration, for editors\n";

int gw_command_schema(int argc, char **argv)
{
    if (!gw_no_words_left(argc, argv))
        return gw_misused(gw_schema_usage);
    gw_settings_schema(stdout, &gw_config_section);
    return 0;
}

const char gw_help_usage[] =
    "usage: weir help [SETTING...]\n"
    "       weir help COMMAND\n"
    "  the manual page of a setting, like limits.url or health_check.interval, or of a command; without one, the\n"
    "  settings at the top of a configuration\n";

int gw_command_help(int argc, char **argv)
{
    bool is_good = true;

    if (argc == 1)
        is_good = gw_settings_help(stdout, &gw_config_section, NULL);
    for (int i = 1; i < argc; ++i) {
        if (i > 1)
            fputc('\n', stdout);
        is_good &= gw_settings_help(stdout, &gw_config_section, argv[i]);
    }
    return is_good ? 0 : 1;
}
