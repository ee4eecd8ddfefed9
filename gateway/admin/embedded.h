/* Files that are part of the binary: made by gateway/embed.py from the list in meson.build. */
#pragma once
#include <h2o/memory.h>

/* By file name; base NULL if there is none of that name. Static. */
h2o_iovec_t gw_embedded(const char *name);
