/* `weir explain URL [-X METHOD] [-H 'Name: value'] [--ip ADDR] [--listener NAME] [--json] -c FILE`: the decision of the
 * real pipeline, step by step, without a network behind it. */
#pragma once
struct gw_decision;
struct gw_json;
struct gw_trace;
/* What --json prints: the decision and its steps as one object. */
void gw_explain_json(struct gw_json *, const struct gw_decision *, const struct gw_trace *);
int gw_command_explain(int argc, char **argv);

/* The parts that other questions share (gateway/l4/l4_explain.h). */
void gw_explain_print(const struct gw_trace *);
void gw_explain_steps(struct gw_json *, const struct gw_trace *);
