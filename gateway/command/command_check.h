/* `weir check`, `weir schema`, `weir help`: what can be said about a configuration without serving it. argv[0] is the
 * command's name. They return the exit status: 0 good, 1 the configuration has errors (or there is no such setting), 2
 * the command line cannot be understood. */
#pragma once

/* weir check [-c] FILE... [--print]. Findings go to standard error; the effective configuration (--print) to standard
 * output, and without it one line per good file. */
int gw_command_check(int argc, char **argv);
/* weir schema: JSON Schema of the configuration. */
int gw_command_schema(int argc, char **argv);
/* weir help [SETTING]. */
int gw_command_help(int argc, char **argv);
