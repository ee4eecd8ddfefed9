/* `weir import alb [GROUP=]FILE... [-o OUT]`: what the AWS CLI says of an Application Load Balancer as a configuration,
 * on standard output, with a report of every part on standard error. Exit status: 0 everything has a counterpart, if
 * only a near one; 1 something has none, or the files cannot be read; 2 the command line cannot be understood. */
#pragma once
int gw_command_import(int argc, char **argv);
