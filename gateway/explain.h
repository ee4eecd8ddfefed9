/* `weir explain URL [-X METHOD] [-H 'Name: value'] [--ip ADDR] [--listener NAME] [--json] -c FILE`: the decision of the
 * real pipeline, step by step, without a network behind it. */
#pragma once
int gw_command_explain(int argc, char **argv);
