/* The command line: one word chooses a command, each lives beside what it shows. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "gateway/admin/admin.h"
#include "gateway/command/command_check.h"
#include "gateway/command/command_diff.h"
#include "gateway/command/command_import.h"
#include "gateway/command/command_replay.h"
#include "gateway/command/command_run.h"
#include "gateway/command/command_test.h"
#include "gateway/explain.h"
#include "gateway/reason.h"

static int print_version(int argc, char **argv)
{
    printf("weir %s\n", WEIR_VERSION);
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
    const char *help;
} commands[] = {
    {"run", gw_command_run, "run -c FILE [--no-supervise]    serve"},
    {"check", gw_command_check,
     "check [--print] FILE            report every mistake of a configuration, print its effective form"},
    {"explain", gw_command_explain,
     "explain URL -c FILE [...]       show which listener, certificate, route and target decide"},
    {"test", gw_command_test, "test FILE                       ask the configuration its own tests, without a network"},
    {"diff", gw_command_diff, "diff OLD NEW [--log LOG]        what changes, and for which logged requests"},
    {"replay", gw_command_replay, "replay LOG -c FILE              decide logged requests anew, show what differs"},
    {"import", gw_command_import,
     "import alb [GROUP=]FILE...       a configuration from what the AWS CLI says of a load balancer"},
    {"reload", gw_command_reload, "reload [-c FILE | --admin ADDR] load the configuration anew"},
    {"upgrade", gw_command_upgrade,
     "upgrade [-c FILE | --admin ADDR] let the binary on disk take over from the one that runs"},
    {"status", gw_command_status, "status [-c FILE | --admin ADDR] what a running weir serves, target by target"},
    {"top", gw_command_top, "top [-c FILE | --admin ADDR]    requests, errors and latencies by route and target, live"},
    {"tail", gw_command_tail, "tail [--route R] [--status 5xx] requests as they end; more filters: weir tail --help"},
    {"target", gw_command_target,
     "target ACTION GROUP TARGET [N]  drain, enable, weight, reset, add or remove a target while serving"},
    {"reason", gw_command_reason, "reason [CODE]                   cause and remedy of a reason code"},
    {"schema", gw_command_schema, "schema                          the JSON Schema of the configuration, for editors"},
    {"help", gw_command_help,
     "help [SETTING]                  the manual of a setting: target_groups.health_check.interval"},
    {"version", print_version, "version                         print the version"},
};

/* `weir tail --help`: what the command says to arguments that it does not know, but as an answer. */
static int help_of(const struct command *command, char **argv)
{
    opterr = 0; /* getopt's own words */
    dup2(STDOUT_FILENO, STDERR_FILENO);
    int status = command->run(2, argv);
    return status == 2 ? 0 : status;
}

/* A full disk must not look like success. */
static int run(const struct command *command, int argc, char **argv)
{
    int status = command->run(argc, argv);

    if (status != 0 || (fflush(stdout) == 0 && !ferror(stdout)))
        return status;
    perror("weir: standard output");
    return 1;
}

static int usage(FILE *to)
{
    fputs("usage: weir COMMAND\n\n", to);
    for (size_t i = 0; i != sizeof(commands) / sizeof(commands[0]); ++i)
        fprintf(to, "  %s\n", commands[i].help);
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)
        return print_version(argc, argv);
    for (size_t i = 0; i != sizeof(commands) / sizeof(commands[0]); ++i)
        if (strcmp(argv[1], commands[i].name) == 0)
            return argc == 3 && strcmp(argv[2], "--help") == 0 ? help_of(&commands[i], argv + 1)
                                                               : run(&commands[i], argc - 1, argv + 1);
    fprintf(stderr, "weir: unknown command \"%s\"\n\n", argv[1]);
    return usage(stderr);
}
