/* The `echo` action: what weir saw and decided, as JSON, for debugging. */
#pragma once
#include "gateway/answer.h"
void gw_echo_serve(struct gw_request *);
