/* `weir test FILE [--min-coverage 80%] [--verbose] [--json]`: asks a configuration the `tests:` it holds, on the
 * decision path of live traffic, without network or clock. Exit status: 0 all hold, 1 one does not, or fewer routes are
 * reached than asked for, or the configuration is bad, 2 the command line cannot be understood. */
#pragma once
int gw_command_test(int argc, char **argv);
