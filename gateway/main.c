/* The command line: the first word chooses a command (gateway/command/commands.h). */
#include <stdio.h>
#include <string.h>
#include "gateway/base/error.h"
#include "gateway/command/commands.h"

static int print_version(int argc, char **argv)
{
    printf("weir %s\n", WEIR_VERSION);
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;               /* what --help prints */
    const char *arguments, *summary; /* its line in the list of commands */
} commands[] = {
    {"run", gw_command_run, gw_run_usage, "-c FILE [--no-supervise]", "serve"},
    {"check", gw_command_check, gw_check_usage, "[--print] FILE",
     "report every mistake of a configuration, print its effective form"},
    {"explain", gw_command_explain, gw_explain_usage, "URL -c FILE [...]",
     "show which listener, certificate, route and target decide"},
    {"test", gw_command_test, gw_test_usage, "FILE", "ask the configuration its own tests, without a network"},
    {"diff", gw_command_diff, gw_diff_usage, "OLD NEW [--log LOG]", "what changes, and for which logged requests"},
    {"replay", gw_command_replay, gw_replay_usage, "LOG -c FILE", "decide logged requests anew, show what differs"},
    {"import", gw_command_import, gw_import_usage, "alb [GROUP=]FILE...",
     "a configuration from what the AWS CLI says of a load balancer"},
    {"reload", gw_command_reload, gw_reload_usage, "[-c FILE | --admin ADDR]", "load the configuration anew"},
    {"upgrade", gw_command_upgrade, gw_upgrade_usage, "[-c FILE | --admin ADDR]",
     "let the binary on disk take over from the one that runs"},
    {"status", gw_command_status, gw_status_usage, "[-c FILE | --admin ADDR]",
     "what a running weir serves, target by target"},
    {"top", gw_command_top, gw_top_usage, "[-c FILE | --admin ADDR]",
     "requests, errors and latencies by route and target, live"},
    {"tail", gw_command_tail, gw_tail_usage, "[--route R] [--status 5xx]",
     "requests as they end; more filters: weir tail --help"},
    {"target", gw_command_target, gw_target_usage, "ACTION GROUP TARGET [N]",
     "drain, enable, weight, reset, add or remove a target while serving"},
    {"reason", gw_command_reason, gw_reason_usage, "[CODE]", "cause and remedy of a reason code"},
    {"schema", gw_command_schema, gw_schema_usage, "", "the JSON Schema of the configuration, for editors"},
    {"help", gw_command_help, gw_help_usage, "[SETTING | COMMAND]",
     "the manual of a setting: target_groups.health_check.interval"},
    {"version", print_version, "usage: weir version\n", "", "print the version"},
};
enum { NUM_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct command *find(const char *name)
{
    for (size_t i = 0; i != NUM_COMMANDS; ++i)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static int usage(FILE *to)
{
    fputs("usage: weir COMMAND\n\n", to);
    for (size_t i = 0; i != NUM_COMMANDS; ++i)
        fprintf(to, "  %-7s %-26s %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
    fputs("\n`weir COMMAND --help` says more of each.\n", to);
    return to == stdout ? 0 : 2;
}

static int refuse(const char *name)
{
    const char *names[NUM_COMMANDS];

    for (size_t i = 0; i != NUM_COMMANDS; ++i)
        names[i] = commands[i].name;
    const char *nearest = gw_nearest(name, names, NUM_COMMANDS);
    if (nearest != NULL)
        fprintf(stderr, "weir: unknown command \"%s\" (did you mean \"%s\"?)\n", name, nearest);
    else
        fprintf(stderr, "weir: unknown command \"%s\" (`weir --help` lists them)\n", name);
    return 2;
}

static bool is_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

/* The command whose usage is asked for: `weir COMMAND --help`, `weir help COMMAND`. NULL: none. */
static const struct command *asks_for_usage(int argc, char **argv)
{
    if (argc == 3 && is_help(argv[2]))
        return find(argv[1]);
    return argc == 3 && strcmp(argv[1], "help") == 0 ? find(argv[2]) : NULL;
}

static int run(const struct command *command, int argc, char **argv)
{
    char name[32]; /* getopt's messages begin with it */

    snprintf(name, sizeof(name), "weir %s", command->name);
    argv[0] = name;
    return command->run(argc, argv);
}

/* A full disk must not look like success. */
static int end(int status)
{
    if (status != 0 || (fflush(stdout) == 0 && !ferror(stdout)))
        return status;
    perror("weir: standard output");
    return 1;
}

int main(int argc, char **argv)
{
    const struct command *command;

    if (argc < 2)
        return usage(stderr);
    if (is_help(argv[1]))
        return end(usage(stdout));
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)
        return end(print_version(argc, argv));
    if ((command = asks_for_usage(argc, argv)) != NULL) {
        fputs(command->usage, stdout);
        return end(0);
    }
    if ((command = find(argv[1])) == NULL)
        return refuse(argv[1]);
    return end(run(command, argc - 1, argv + 1));
}
