/* `weir diff OLD NEW [--log LOG] [--examples N] [--json]`: what changes from one configuration to another, and which
 * logged requests it changes. Exit status for gates: 0 nothing changes, 1 something does, 2 it could not be told. */
#pragma once
int gw_command_diff(int argc, char **argv);
