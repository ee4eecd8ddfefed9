/* `weir explain`: the decision of the real pipeline, step by step, as text and as JSON. */
#pragma once
struct gw_decision;
struct gw_json;
struct gw_trace;
/* What --json prints: the decision and its steps as one object. */
void gw_explain_json(struct gw_json *, const struct gw_decision *, const struct gw_trace *);

/* The parts that other questions share (gateway/l4/l4_explain.h). */
void gw_explain_print(const struct gw_trace *);
void gw_explain_steps(struct gw_json *, const struct gw_trace *);
