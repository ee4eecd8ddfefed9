/* What operators see of certificates: in `weir status`, in /metrics and in the error log. Any thread. */
#pragma once
#include <time.h>
#include "gateway/base/json.h"
#include "gateway/base/metrics.h"
#include "tls/certificate.h"

/* A JSON array, one object for each certificate in the order given: name, names, key ("ECDSA 256"), not_before and
 * not_after (RFC 3339, UTC), days_left (negative once expired). */
void tls_status_json(struct gw_json *, struct tls_certificate *const *, size_t num_certificates, time_t now);
/* weir_certificates (how many there are) and weir_certificate_expiry_timestamp_seconds{certificate} of those that end
 * first, TLS_STATUS_MAX_SERIES at most: thousands of certificates must not become thousands of series. */
enum { TLS_STATUS_MAX_SERIES = 100 };
void tls_status_metrics(struct gw_exposition *, struct tls_certificate *const *, size_t num_certificates);

/* Writes a warning to the error log for each certificate that came into its last 30, 14 or 7 days or ended between two
 * moments; for a clock that ticks, as loads only warn about what is so already. */
void tls_status_log(struct tls_certificate *const *, size_t num_certificates, time_t before, time_t now);
