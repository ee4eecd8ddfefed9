/* Refusing work when the gateway itself has too much of it. Each thread looks at how late its own timer was and at the
 * memory of the process four times a second, and refuses by itself. */
#pragma once
#include "gateway/process.h"

enum { GW_PRESSURE_FULL = 1000 }; /* thousandths of what overload allows */

/* From the lag timer. late_us: how late it was. */
void gw_overload_look(struct gw_worker *, uint64_t late_us);
/* Pressure is full: sheddable requests are refused, normal ones the more often the higher it is (all of them at twice
 * the lag, or a tenth above the memory), critical ones never. */
bool gw_overload_refuses(struct gw_worker *, int criticality);
