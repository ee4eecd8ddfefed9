/* `weir run -c FILE`: argv[-1] is the word that weir was started with. Returns the exit status. */
#pragma once
int gw_command_run(int argc, char **argv);
