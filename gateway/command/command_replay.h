/* `weir replay LOG -c FILE [--examples N] [--json]`: what a configuration would make of logged requests, and where that
 * is not what was logged. Exit status: 0 nothing differs, 1 something does, 2 it could not be told. */
#pragma once
int gw_command_replay(int argc, char **argv);
