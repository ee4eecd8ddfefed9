/* Where OpenSSL's buffers of records lie while it needs them. Contexts let go of them after every record
 * (SSL_MODE_RELEASE_BUFFERS), so that an idle connection has none; but malloc() keeps blocks of 16 KiB in no quick
 * list: taking and giving back two of them costs a request some 600 instructions and its thread four locks. */
#pragma once
#include <stdbool.h>

/* To be called once, before anything else uses OpenSSL: from then on each thread keeps a few such blocks (68 KiB at
 * most) for whichever of its connections is next. False, and nothing changes, under AddressSanitizer, which then sees
 * every use, and if something else has used OpenSSL already. */
bool tls_memory_keep_records(void);
