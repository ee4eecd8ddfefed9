/* Target groups: their targets, checks and attributes (spec/alb.md 3.1 and 4). */
#include <stdlib.h>
#include <string.h>
#include "gateway/command/import_alb.h"

const char *gw_import_group_name(const struct gw_import *self, const char *arn)
{
    size_t i;
    json_t *group;

    json_array_foreach(self->groups, i, group)
    {
        if (strcmp(gw_import_string(group, "TargetGroupArn"), arn) == 0)
            return gw_import_string(group, "TargetGroupName");
    }
    return NULL;
}

static const json_t *of_group(const json_t *by_name, const json_t *group)
{
    const json_t *found = json_object_get(by_name, gw_import_string(group, "TargetGroupName"));
    return found != NULL ? found : json_object_get(by_name, gw_import_string(group, "TargetGroupArn"));
}

static void write_target(struct gw_import *self, const json_t *group, const json_t *description, bool *has_any)
{
    const char *name = gw_import_string(group, "TargetGroupName");
    const json_t *target = json_object_get(description, "Target"), *port = json_object_get(target, "Port");
    const char *id = gw_import_string(target, "Id"), *zone = gw_import_string(target, "AvailabilityZone");
    const char *address = strncmp(id, "i-", 2) == 0 ? gw_import_string(self->addresses, id) : id;
    const char *state = gw_import_string(json_object_get(description, "TargetHealth"), "State");

    if (port == NULL)
        port = json_object_get(group, "Port");
    if (*address == '\0' || port == NULL) {
        gw_import_note(self, GW_IMPORT_REFUSED, name,
                       "target %s: its address is not known (describe-instances says it, as another FILE)", id);
        return;
    }
    if (strcmp(state, "draining") == 0) {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "target %s is being deregistered", id);
        return;
    }
    bool is_v6 = strchr(address, ':') != NULL;
    fprintf(self->out, "%s{address: \"%s%s%s:%lld\"", *has_any ? ", " : "", is_v6 ? "[" : "", address, is_v6 ? "]" : "",
            (long long)json_integer_value(port));
    *has_any = true;
    if (*zone != '\0' && strcmp(zone, "all") != 0) {
        fputs(", zone: ", self->out);
        gw_import_text(self->out, zone);
    }
    fputc('}', self->out);
    gw_import_note(self, GW_IMPORT_MAPPED, name, "target %s port %lld", id, (long long)json_integer_value(port));
}

static const char *attribute(const json_t *attributes, const char *key);

/* "arn:aws:lambda:REGION:ACCOUNT:function:NAME" */
static bool find_region(const char *arn, char *region, size_t region_len)
{
    static const char prefix[] = ":lambda:";
    const char *begin = strstr(arn, prefix), *end;
    if (begin == NULL || (end = strchr(begin += sizeof(prefix) - 1, ':')) == NULL || end == begin ||
        strspn(begin, "abcdefghijklmnopqrstuvwxyz0123456789-") != (size_t)(end - begin) ||
        (size_t)(end - begin) >= region_len)
        return false;
    snprintf(region, region_len, "%.*s", (int)(end - begin), begin);
    return true;
}

/* A group holds one function (spec/alb.md 9), which is asked where AWS answers for it. */
static void write_function(struct gw_import *self, const json_t *group, const json_t *descriptions)
{
    const char *name = gw_import_string(group, "TargetGroupName");
    const json_t *first = json_array_get(descriptions, 0);
    const char *arn = gw_import_string(json_object_get(first, "Target"), "Id"), *multi;
    char region[64];

    multi = attribute(of_group(self->attributes, group), "lambda.multi_value_headers.enabled");
    if (!find_region(arn, region, sizeof(region))) {
        fputs("    targets: []\n", self->out);
        gw_import_note(self, GW_IMPORT_REFUSED, name,
                       "function %s: its ARN is not known (expected %s=FILE of describe-target-health)", arn, name);
        return;
    }
    fputs("    protocol: https\n    lambda:\n      function: ", self->out);
    gw_import_text(self->out, arn);
    fputs("\n      target_group_arn: ", self->out);
    gw_import_text(self->out, gw_import_string(group, "TargetGroupArn"));
    fprintf(self->out,
            "\n      multi_value_headers: %s\n"
            "      sign: {region: %s, access_key: \"${env:AWS_ACCESS_KEY_ID:-unset}\", secret_key: "
            "\"${env:AWS_SECRET_ACCESS_KEY:-unset}\"}\n"
            "    tls: {server_name: lambda.%s.amazonaws.com}\n    targets: [\"lambda.%s.amazonaws.com:443\"]\n",
            strcmp(multi, "true") == 0 ? "true" : "false", region, region, region);
    gw_import_note(self, GW_IMPORT_APPROXIMATED, name,
                   "target %s: invoked with the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", arn);
}

static void write_targets(struct gw_import *self, const json_t *group)
{
    const char *name = gw_import_string(group, "TargetGroupName"), *type = gw_import_string(group, "TargetType");
    const json_t *descriptions = of_group(self->targets, group);
    bool has_any = false;
    size_t i;
    json_t *description;

    if (strcmp(type, "lambda") == 0) {
        write_function(self, group, descriptions);
        return;
    }
    fputs("    targets: [", self->out);
    if (strcmp(type, "alb") == 0)
        gw_import_note(self, GW_IMPORT_REFUSED, name, "targets of type %s: the group is empty and answers 503", type);
    else if (descriptions == NULL)
        gw_import_note(self, GW_IMPORT_APPROXIMATED, name,
                       "its targets are in none of the files: it has none (expected %s=FILE of describe-target-health, "
                       "or targets to be filled in)",
                       name);
    else
        json_array_foreach(descriptions, i, description) write_target(self, group, description, &has_any);
    fputs("]\n", self->out);
}

static void write_protocol(struct gw_import *self, const json_t *group)
{
    const char *name = gw_import_string(group, "TargetGroupName"), *protocol = gw_import_string(group, "Protocol"),
               *version = gw_import_string(group, "ProtocolVersion");

    bool is_tls = strcmp(protocol, "HTTPS") == 0, is_grpc = strcmp(version, "GRPC") == 0,
         is_h2 = strcmp(version, "HTTP2") == 0;

    if (*protocol == '\0')
        return;
    if (!is_tls && strcmp(protocol, "HTTP") != 0) {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "Protocol %s", protocol);
        return;
    }
    gw_import_note(self, GW_IMPORT_MAPPED, name, "Protocol %s %s%s", protocol, *version != '\0' ? version : "HTTP1",
                   is_tls ? ", without verifying the targets' certificates as an ALB does not either" : "");
    if (is_tls || is_grpc || is_h2)
        fprintf(self->out, "    protocol: %s\n", is_grpc ? "grpc" : is_h2 ? (is_tls ? "h2" : "h2c") : "https");
    if (is_tls)
        fputs("    tls: {insecure: true}\n", self->out);
}

static long long number_of(const json_t *group, const char *key, long long initial)
{
    const json_t *value = json_object_get(group, key);
    return json_is_integer(value) ? (long long)json_integer_value(value) : initial;
}

static void write_health_check(struct gw_import *self, const json_t *group)
{
    const char *name = gw_import_string(group, "TargetGroupName"), *path = gw_import_string(group, "HealthCheckPath"),
               *port = gw_import_string(group, "HealthCheckPort"),
               *protocol = gw_import_string(group, "HealthCheckProtocol"),
               *codes = gw_import_string(json_object_get(group, "Matcher"), "HttpCode"),
               *grpc = gw_import_string(json_object_get(group, "Matcher"), "GrpcCode");

    if (json_is_false(json_object_get(group, "HealthCheckEnabled"))) {
        fputs("    health_check: {enabled: false}\n", self->out);
        gw_import_note(self, GW_IMPORT_MAPPED, name, "health checks are off");
        return;
    }
    bool is_tls = strcmp(protocol, "HTTPS") == 0, is_grpc = *grpc != '\0',
         is_h2 = strcmp(gw_import_string(group, "ProtocolVersion"), "HTTP2") == 0,
         is_function = strcmp(gw_import_string(group, "TargetType"), "lambda") == 0;
    if (is_tls && !is_function && strcmp(gw_import_string(group, "Protocol"), "HTTPS") != 0) {
        fprintf(self->out, "    health_check: {protocol: tcp, port: %d, interval: %llds, timeout: %llds}\n",
                strcmp(port, "traffic-port") == 0 ? 0 : atoi(port), number_of(group, "HealthCheckIntervalSeconds", 30),
                number_of(group, "HealthCheckTimeoutSeconds", 5));
        gw_import_note(self, GW_IMPORT_APPROXIMATED, name,
                       "health check of protocol HTTPS in a group of protocol HTTP: only connects");
        return;
    }
    fprintf(self->out, "    health_check: {protocol: %s, path: ",
            is_function ? "lambda"
            : is_grpc   ? "grpc"
            : is_h2     ? (is_tls ? "h2" : "h2c")
                        : (is_tls ? "https" : "http"));
    gw_import_text(self->out, *path != '\0' ? path : is_grpc ? "/AWS.ALB/healthcheck" : "/");
    if (*port != '\0' && strcmp(port, "traffic-port") != 0 && !is_function)
        fprintf(self->out, ", port: %d", atoi(port));
    fprintf(self->out, ", interval: %llds, timeout: %llds, healthy_threshold: %lld, unhealthy_threshold: %lld",
            number_of(group, "HealthCheckIntervalSeconds", 30), number_of(group, "HealthCheckTimeoutSeconds", 5),
            number_of(group, "HealthyThresholdCount", 5), number_of(group, "UnhealthyThresholdCount", 2));
    if (*codes != '\0' || is_grpc) {
        fputs(", matcher: ", self->out);
        gw_import_text(self->out, is_grpc ? grpc : codes);
    }
    fputs("}\n", self->out);
    gw_import_note(self, GW_IMPORT_MAPPED, name, "health check of %s", *path != '\0' ? path : "/");
}

/* ---- attributes ---- */

static const char *attribute(const json_t *attributes, const char *key)
{
    size_t i;
    json_t *entry;

    json_array_foreach(attributes, i, entry)
    {
        if (strcmp(gw_import_string(entry, "Key"), key) == 0)
            return gw_import_string(entry, "Value");
    }
    return "";
}

static void write_stickiness(struct gw_import *self, const char *name, const json_t *attributes)
{
    const char *type = attribute(attributes, "stickiness.type");

    if (strcmp(attribute(attributes, "stickiness.enabled"), "true") != 0) {
        if (attributes != NULL)
            gw_import_note(self, GW_IMPORT_MAPPED, name, "no stickiness");
        return;
    }
    if (strcmp(type, "lb_cookie") == 0) {
        const char *seconds = attribute(attributes, "stickiness.lb_cookie.duration_seconds");
        fprintf(self->out, "    stickiness: {lb_cookie: %ss}\n", *seconds != '\0' ? seconds : "86400");
        gw_import_note(self, GW_IMPORT_APPROXIMATED, name,
                       "stickiness lb_cookie: sessions of the load balancer begin anew, its cookies cannot be read");
    } else if (strcmp(type, "app_cookie") == 0) {
        const char *seconds = attribute(attributes, "stickiness.app_cookie.duration_seconds");
        fputs("    stickiness: {app_cookie: {name: ", self->out);
        gw_import_text(self->out, attribute(attributes, "stickiness.app_cookie.cookie_name"));
        fprintf(self->out, ", duration: %ss}}\n", *seconds != '\0' ? seconds : "86400");
        gw_import_note(self, GW_IMPORT_APPROXIMATED, name,
                       "stickiness app_cookie: sessions of the load balancer begin anew, its cookies cannot be read");
    } else {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "stickiness of type %s", type);
    }
}

static void write_algorithm(struct gw_import *self, const char *name, const json_t *attributes)
{
    const char *type = attribute(attributes, "load_balancing.algorithm.type");
    bool mitigates = strcmp(attribute(attributes, "load_balancing.algorithm.anomaly_mitigation"), "on") == 0;

    if (strcmp(type, "round_robin") != 0 && strcmp(type, "least_outstanding_requests") != 0 &&
        strcmp(type, "weighted_random") != 0) {
        if (*type != '\0')
            gw_import_note(self, GW_IMPORT_REFUSED, name, "algorithm %s", type);
        return;
    }
    if (mitigates && strcmp(type, "weighted_random") == 0)
        fprintf(self->out, "    algorithm: {type: %s, anomaly_mitigation: true}\n", type);
    else
        fprintf(self->out, "    algorithm: %s\n", type);
    gw_import_note(self, mitigates ? GW_IMPORT_APPROXIMATED : GW_IMPORT_MAPPED, name, "algorithm %s%s", type,
                   mitigates ? " with anomaly mitigation: by weir's own thresholds" : "");
}

/* A count or percentage, or "off". */
static void write_minimum(struct gw_import *self, const char *name, const json_t *attributes)
{
    static const char base[] = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.";
    char key[128];
    snprintf(key, sizeof(key), "%scount", base);
    int count = atoi(attribute(attributes, key));
    snprintf(key, sizeof(key), "%spercentage", base);
    int percent = atoi(attribute(attributes, key));

    if (count <= 1 && percent == 0)
        return;
    fprintf(self->out, "    minimum_healthy: {targets: %d, percent: %d%%}\n", count > 1 ? count : 1, percent);
    gw_import_note(self, GW_IMPORT_MAPPED, name, "fewer than %d healthy targets or %d%% open the group to all",
                   count > 1 ? count : 1, percent);
}

static void note_other_attributes(struct gw_import *self, const char *name, const json_t *attributes)
{
    static const char *const seen[] = {"stickiness.", "load_balancing.algorithm.", "slow_start.",
                                       "target_group_health.unhealthy_state_routing."};
    size_t i;
    json_t *entry;

    json_array_foreach(attributes, i, entry)
    {
        const char *key = gw_import_string(entry, "Key"), *value = gw_import_string(entry, "Value");
        bool is_seen = false;
        for (size_t j = 0; j != sizeof(seen) / sizeof(seen[0]); ++j)
            is_seen = is_seen || strncmp(key, seen[j], strlen(seen[j])) == 0;
        if (is_seen) {
            gw_import_note(self, GW_IMPORT_MAPPED, name, "%s=%s: see above", key, value);
            continue;
        }
        if (strcmp(key, "deregistration_delay.timeout_seconds") == 0) {
            fprintf(self->out, "    deregistration_delay: %ds\n", atoi(value));
            gw_import_note(self, GW_IMPORT_MAPPED, name, "%s=%s", key, value);
        } else if (strcmp(key, "lambda.multi_value_headers.enabled") == 0)
            gw_import_note(self, GW_IMPORT_MAPPED, name, "%s=%s", key, value);
        else if (strcmp(key, "load_balancing.cross_zone.enabled") == 0 && strcmp(value, "false") != 0)
            gw_import_note(self, GW_IMPORT_MAPPED, name, "%s=%s: targets of all zones take part", key, value);
        else if (strcmp(key, "load_balancing.cross_zone.enabled") == 0)
            gw_import_note(self, GW_IMPORT_REFUSED, name, "%s=%s (expected zones: only, and a zone for each gateway)",
                           key, value);
        else if (strncmp(key, "target_group_health.dns_failover.", 33) == 0)
            gw_import_note(
                self, strcmp(value, "1") == 0 || strcmp(value, "off") == 0 ? GW_IMPORT_APPROXIMATED : GW_IMPORT_REFUSED,
                name, "%s=%s: weir changes no DNS (failover to another group is near to it)", key, value);
        else
            gw_import_note(self, GW_IMPORT_REFUSED, name, "%s=%s", key, value);
    }
}

/* spec/alb.md 5.7: one idle timeout for both sides, ten seconds to connect. A function has its own. */
static void write_timeouts(struct gw_import *self, const json_t *group)
{
    int idle = atoi(gw_import_balancer_value(self, "idle_timeout.timeout_seconds"));

    if (idle != 0 && strcmp(gw_import_string(group, "TargetType"), "lambda") != 0)
        fprintf(self->out, "    timeouts: {connect: 10s, first_byte: %ds, idle: %ds, tunnel_idle: %ds}\n", idle, idle,
                idle);
}

static void write_group(struct gw_import *self, const json_t *group)
{
    const char *name = gw_import_string(group, "TargetGroupName");
    const json_t *attributes = of_group(self->attributes, group);
    int slow_start = atoi(attribute(attributes, "slow_start.duration_seconds"));

    fprintf(self->out, "  %s:\n", name);
    write_targets(self, group);
    write_protocol(self, group);
    write_health_check(self, group);
    write_algorithm(self, name, attributes);
    write_stickiness(self, name, attributes);
    write_minimum(self, name, attributes);
    write_timeouts(self, group);
    if (slow_start != 0) {
        fprintf(self->out, "    slow_start: %ds\n", slow_start);
        gw_import_note(self, GW_IMPORT_MAPPED, name, "slow start over %d seconds", slow_start);
    }
    note_other_attributes(self, name, attributes);
    if (attributes == NULL)
        gw_import_note(
            self, GW_IMPORT_APPROXIMATED, name,
            "its attributes are in none of the files: algorithm, stickiness and the like are weir's defaults");
}

/* What was said about a group that no file described. */
static void note_strangers(struct gw_import *self, json_t *by_name, const char *what)
{
    const char *name;
    json_t *value;

    json_object_foreach(by_name, name, value)
    {
        bool is_known = gw_import_group_name(self, name) != NULL;
        size_t i;
        json_t *group;
        json_array_foreach(self->groups, i, group)
        {
            is_known = is_known || strcmp(gw_import_string(group, "TargetGroupName"), name) == 0;
        }
        if (!is_known)
            gw_import_note(self, GW_IMPORT_REFUSED, name, "%s of a target group that no file describes", what);
    }
}

void gw_import_groups(struct gw_import *self)
{
    size_t i;
    json_t *group;

    if (json_array_size(self->groups) != 0)
        fputs("target_groups:\n", self->out);
    json_array_foreach(self->groups, i, group) write_group(self, group);
    note_strangers(self, self->targets, "targets");
    note_strangers(self, self->attributes, "attributes");
}
