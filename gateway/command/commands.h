/* The commands of the command line, `weir NAME ...`: one file each, command_<name>.c, but for explain
 * (gateway/explain.c). main.c has the table of them.
 *
 * A command is given its words, argv[0] being "weir NAME" for messages, and returns the exit status of the process: 0
 * it is done, 1 it failed, 2 the command line cannot be understood; where gates of a CI ask for more, it is said below.
 * Results go to standard output, everything else to standard error. They run on the main thread, one in a process. */
#pragma once
#include <stdbool.h>

/* Serves until told to end. argv[-1] is the word that weir was started with. */
int gw_command_run(int argc, char **argv);

/* Findings go to standard error; the effective configuration (--print) to standard output, and without it one line per
 * good file. */
int gw_command_check(int argc, char **argv);
/* The decision of the real pipeline, step by step, without a network behind it. */
int gw_command_explain(int argc, char **argv);
/* Asks a configuration the `tests:` it holds, on the decision path of live traffic, without network or clock. 1: one
 * fails, or fewer routes are reached than asked for, or the configuration is bad. */
int gw_command_test(int argc, char **argv);
/* What changes from one configuration to another, and which logged requests it changes. 0: nothing does, 1: something
 * does, 2: it could not be told. */
int gw_command_diff(int argc, char **argv);
/* What a configuration would make of logged requests. 0: what was logged, 1: something else, 2: it could not be told.
 */
int gw_command_replay(int argc, char **argv);
/* What the AWS CLI says of an Application Load Balancer as a configuration, on standard output, with a report of every
 * part on standard error. 0: everything has a counterpart, if only a near one; 1: something has none, or the files
 * cannot be read. */
int gw_command_import(int argc, char **argv);

/* Clients of a running weir's admin API. */
int gw_command_status(int argc, char **argv);
int gw_command_reload(int argc, char **argv);
int gw_command_upgrade(int argc, char **argv);
int gw_command_tail(int argc, char **argv);
int gw_command_top(int argc, char **argv);
int gw_command_target(int argc, char **argv);

/* Manuals: of reason codes, of settings for editors (JSON Schema) and for people. */
int gw_command_reason(int argc, char **argv);
int gw_command_schema(int argc, char **argv);
int gw_command_help(int argc, char **argv);

/* How each is written; what --help prints. */
extern const char gw_run_usage[], gw_check_usage[], gw_explain_usage[], gw_test_usage[], gw_diff_usage[],
    gw_replay_usage[], gw_import_usage[], gw_status_usage[], gw_reload_usage[], gw_upgrade_usage[], gw_tail_usage[],
    gw_top_usage[], gw_target_usage[], gw_reason_usage[], gw_schema_usage[], gw_help_usage[];

/* The end of reading a command line: each says on standard error what is wrong with it. */
/* Whether getopt has left no word. */
bool gw_no_words_left(int argc, char **argv);
/* Whether there is a value for what the usage calls `what`. */
bool gw_is_given(const char *value, const char *what, char **argv);
/* After a message about it. Returns the exit status. */
int gw_misused(const char *usage);
