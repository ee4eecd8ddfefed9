/* The `echo` action: what weir saw and decided, as JSON, for debugging. Reads the whole request body first: its size
 * and SHA-256 are shown, and the first 64 KiB of it as text or base64. */
#pragma once
#include "gateway/answer/answer.h"
void gw_echo_serve(struct gw_request *);
