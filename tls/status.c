#include "tls/status.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/log.h"

static void write_time(struct gw_json *to, const char *key, time_t time)
{
    char text[32];
    struct tm tm;
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&time, &tm));
    gw_json_key(to, key);
    gw_json_string(to, text);
}

static void write_certificate(struct gw_json *to, const struct tls_certificate *certificate, time_t now)
{
    char key[32];
    snprintf(key, sizeof(key), "%s %u", certificate->is_ecdsa ? "ECDSA" : "RSA", certificate->key_bits);
    gw_json_object(to);
    gw_json_key(to, "name");
    gw_json_text(to, certificate->name);
    gw_json_key(to, "names");
    gw_json_array(to);
    for (size_t i = 0; i < certificate->num_dns_names; i++)
        gw_json_text(to, certificate->dns_names[i]);
    gw_json_array_end(to);
    gw_json_key(to, "key");
    gw_json_string(to, key);
    write_time(to, "not_before", certificate->not_before);
    write_time(to, "not_after", certificate->not_after);
    gw_json_key(to, "days_left");
    gw_json_number(to, tls_certificate_days_left(certificate, now));
    gw_json_object_end(to);
}

void tls_status_json(struct gw_json *to, struct tls_certificate *const *certificates, size_t num_certificates,
                     time_t now)
{
    gw_json_array(to);
    for (size_t i = 0; i < num_certificates; i++)
        write_certificate(to, certificates[i], now);
    gw_json_array_end(to);
}

static int compare_end(const void *_a, const void *_b)
{
    const struct tls_certificate *a = *(struct tls_certificate *const *)_a, *b = *(struct tls_certificate *const *)_b;
    return a->not_after != b->not_after ? (a->not_after < b->not_after ? -1 : 1) : strcmp(a->name.base, b->name.base);
}

void tls_status_metrics(struct gw_exposition *to, struct tls_certificate *const *certificates, size_t num_certificates)
{
    gw_exposition_family(to, "weir_certificates", "gauge", "Certificates in the active configuration.");
    gw_exposition_sample(to, "weir_certificates", (double)num_certificates, NULL);
    if (num_certificates == 0)
        return;
    struct tls_certificate **sorted = h2o_mem_alloc(num_certificates * sizeof(*sorted));
    memcpy(sorted, certificates, num_certificates * sizeof(*sorted));
    qsort(sorted, num_certificates, sizeof(*sorted), compare_end);
    gw_exposition_family(to, "weir_certificate_expiry_timestamp_seconds", "gauge",
                         "When a certificate ends (Unix time); the 100 that end first.");
    for (size_t i = 0; i < num_certificates && i < TLS_STATUS_MAX_SERIES; i++)
        gw_exposition_sample(to, "weir_certificate_expiry_timestamp_seconds", (double)sorted[i]->not_after,
                             "certificate", sorted[i]->name.base, NULL);
    free(sorted);
}

void tls_status_log(struct tls_certificate *const *certificates, size_t num_certificates, time_t before, time_t now)
{
    for (size_t i = 0; i < num_certificates; i++) {
        const struct tls_certificate *it = certificates[i];
        int alarm = tls_certificate_alarm(it, now);
        if (alarm >= tls_certificate_alarm(it, before))
            continue;
        if (alarm == 0)
            gw_log(GW_LOG_ERROR, "tls", "certificate \"%.*s\" has expired", (int)it->name.len, it->name.base);
        else
            gw_log(GW_LOG_WARNING, "tls", "certificate \"%.*s\" expires in less than %d days", (int)it->name.len,
                   it->name.base, alarm);
    }
}
