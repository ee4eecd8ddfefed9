#include "gateway/command/import_alb.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void gw_import_init(struct gw_import *self)
{
    *self = (struct gw_import){.listeners = json_array(),
                               .rules = json_array(),
                               .groups = json_array(),
                               .balancers = json_array(),
                               .targets = json_object(),
                               .attributes = json_object(),
                               .balancer = json_array(),
                               .addresses = json_object(),
                               .files = json_object(),
                               .listener_attributes = json_object(),
                               .listener_certificates = json_object()};
}

void gw_import_dispose(struct gw_import *self)
{
    json_t *all[] = {self->balancers,
                     self->listeners,
                     self->rules,
                     self->groups,
                     self->targets,
                     self->attributes,
                     self->balancer,
                     self->addresses,
                     self->files,
                     self->listener_attributes,
                     self->listener_certificates};
    for (size_t i = 0; i != sizeof(all) / sizeof(all[0]); ++i)
        json_decref(all[i]);
    for (size_t i = 0; i != self->num_findings; ++i) {
        free(self->findings[i].where);
        free(self->findings[i].text);
    }
    free(self->findings);
}

/* ---- reading ---- */

static void add_addresses(struct gw_import *self, const json_t *reservations)
{
    size_t i, j;
    json_t *reservation, *instance;

    json_array_foreach(reservations, i, reservation)
    {
        json_array_foreach(json_object_get(reservation, "Instances"), j, instance)
        {
            if (*gw_import_string(instance, "InstanceId") != '\0' &&
                *gw_import_string(instance, "PrivateIpAddress") != '\0')
                json_object_set(self->addresses, gw_import_string(instance, "InstanceId"),
                                json_object_get(instance, "PrivateIpAddress"));
        }
    }
}

/* Attributes of a load balancer and of a target group look alike but for their names. */
static bool is_of_balancer(const json_t *attributes)
{
    static const char *const of_groups[] = {"stickiness.",          "deregistration_delay.",
                                            "slow_start.",          "load_balancing.algorithm.",
                                            "target_group_health.", "lambda."};
    size_t i;
    json_t *entry;

    json_array_foreach(attributes, i, entry)
    {
        const char *key = gw_import_string(entry, "Key");
        for (size_t j = 0; j != sizeof(of_groups) / sizeof(of_groups[0]); ++j)
            if (strncmp(key, of_groups[j], strlen(of_groups[j])) == 0)
                return false;
    }
    return true;
}

static bool is_of_listener(const json_t *attributes)
{
    size_t i;
    json_t *entry;

    json_array_foreach(attributes, i, entry)
    {
        const char *key = gw_import_string(entry, "Key");
        if (strncmp(key, "routing.http.response.", 22) != 0 && strncmp(key, "routing.http.request.", 21) != 0)
            return false;
    }
    return json_array_size(attributes) != 0;
}

/* By its ARN or by the name that it will have here, unless a target group has that; NULL of: the only one. */
static bool find_listener(const struct gw_import *self, const char *of, char *name, size_t name_len)
{
    size_t i;
    json_t *each;

    json_array_foreach(self->groups, i, each)
    {
        if (of != NULL && strcmp(gw_import_string(each, "TargetGroupName"), of) == 0)
            return false;
    }
    json_array_foreach(self->listeners, i, each)
    {
        gw_import_listener_name(self, each, name, name_len);
        if (of != NULL ? strcmp(gw_import_string(each, "ListenerArn"), of) == 0 || strcmp(name, of) == 0
                       : json_array_size(self->listeners) == 1)
            return true;
    }
    return false;
}

static bool miss_listener(const struct gw_import *self, const char *of, char *why, size_t why_len)
{
    int n = of != NULL ? snprintf(why, why_len, "no file describes the listener %s (expected one of", of)
                       : snprintf(why, why_len,
                                  "the listener it is about is not in it (expected NAME=FILE, its ARN or one of");
    size_t i;
    json_t *listener;

    json_array_foreach(self->listeners, i, listener)
    {
        char name[64];
        gw_import_listener_name(self, listener, name, sizeof(name));
        if ((size_t)n + sizeof(name) + 4 < why_len)
            n += snprintf(why + n, why_len - (size_t)n, " %s", name);
    }
    snprintf(why + n, why_len - (size_t)n, ")");
    return false;
}

/* What describe-listener-attributes and describe-listener-certificates print. */
static bool add_of_listener(struct gw_import *self, json_t *document, const char *of, char *why, size_t why_len)
{
    json_t *attributes = json_object_get(document, "Attributes"),
           *certificates = json_object_get(document, "Certificates");
    char name[64];

    if (!find_listener(self, of, name, sizeof(name)))
        return miss_listener(self, of, why, why_len);
    if (attributes != NULL)
        json_object_set(self->listener_attributes, name, attributes);
    if (certificates != NULL)
        json_object_set(self->listener_certificates, name, certificates);
    return true;
}

/* Among them NextMarker: there is more than the file holds. */
static void note_other_keys(struct gw_import *self, json_t *document, const char *const *known, size_t num_known)
{
    const char *key;
    json_t *value;

    json_object_foreach(document, key, value)
    {
        bool is_known = json_is_null(value);
        for (size_t i = 0; i != num_known; ++i)
            is_known = is_known || strcmp(key, known[i]) == 0;
        if (!is_known)
            gw_import_note(self, GW_IMPORT_REFUSED, "input", "%s: not read", key);
    }
}

bool gw_import_add(struct gw_import *self, json_t *document, const char *of, char *why, size_t why_len)
{
    static const char *const known[] = {"Listeners",  "Rules",        "TargetGroups",  "TargetHealthDescriptions",
                                        "Attributes", "Reservations", "LoadBalancers", "Certificates"};
    char listener[64];
    const json_t *attributes = json_object_get(document, "Attributes");
    json_t *health = json_object_get(document, "TargetHealthDescriptions");
    bool is_known = false;

    for (size_t i = 0; i != sizeof(known) / sizeof(known[0]); ++i)
        is_known = is_known || json_is_array(json_object_get(document, known[i]));
    if (!is_known) {
        snprintf(why, why_len,
                 "none of what describe-listeners, describe-rules, describe-target-groups, describe-target-health, "
                 "describe-target-group-attributes, describe-listener-attributes, describe-listener-certificates, "
                 "describe-load-balancer-attributes or describe-instances print");
        return false;
    }
    if (json_is_array(json_object_get(document, "Certificates")) || is_of_listener(attributes) ||
        (json_array_size(attributes) != 0 && of != NULL && find_listener(self, of, listener, sizeof(listener))))
        return add_of_listener(self, document, of, why, why_len);
    note_other_keys(self, document, known, sizeof(known) / sizeof(known[0]));
    json_array_extend(self->listeners, json_object_get(document, "Listeners"));
    json_array_extend(self->rules, json_object_get(document, "Rules"));
    json_array_extend(self->groups, json_object_get(document, "TargetGroups"));
    json_array_extend(self->balancers, json_object_get(document, "LoadBalancers"));
    add_addresses(self, json_object_get(document, "Reservations"));
    if (json_array_size(attributes) != 0 && is_of_balancer(attributes)) {
        json_array_extend(self->balancer, (json_t *)attributes);
        attributes = NULL;
    }
    if (json_array_size(attributes) == 0 && health == NULL)
        return true;
    if (of == NULL && json_array_size(self->groups) == 1)
        of = gw_import_string(json_array_get(self->groups, 0), "TargetGroupName");
    if (of == NULL) {
        snprintf(why, why_len, "the target group it is about is not in it (expected NAME=FILE)");
        return false;
    }
    if (json_array_size(attributes) != 0)
        json_object_set(self->attributes, of, (json_t *)attributes);
    if (health != NULL)
        json_object_set(self->targets, of, health);
    return true;
}

/* ---- listeners ---- */

/* "...:listener/app/NAME/LB/ID" and "...:listener-rule/app/NAME/LB/ID/RULE" */
void gw_import_listener_id(const char *arn, char *id, size_t id_len)
{
    const char *p = strstr(arn, ":listener");
    size_t n = 0;

    for (unsigned slash = 0; p != NULL && slash != 4; ++slash)
        if ((p = strchr(p, '/')) != NULL)
            ++p;
    for (; p != NULL && *p != '\0' && *p != '/' && n + 1 < id_len; ++p)
        id[n++] = *p;
    id[n] = '\0';
}

void gw_import_listener_name(const struct gw_import *self, const json_t *listener, char *name, size_t name_len)
{
    const char *protocol = gw_import_string(listener, "Protocol");
    long long port = json_integer_value(json_object_get(listener, "Port"));
    size_t i, n = 0, same = 0;
    json_t *other;

    json_array_foreach(self->listeners, i, other)
    {
        if (other == listener)
            break;
        same += strcmp(gw_import_string(other, "Protocol"), protocol) == 0 &&
                json_integer_value(json_object_get(other, "Port")) == port;
    }
    for (; protocol[n] != '\0' && n + 1 < name_len; ++n)
        name[n] = (char)tolower((unsigned char)protocol[n]);
    if (same != 0)
        snprintf(name + n, name_len - n, "-%lld-%zu", port, same + 1);
    else
        snprintf(name + n, name_len - n, "-%lld", port);
}

const char *gw_import_balancer_value(const struct gw_import *self, const char *key)
{
    size_t i;
    json_t *attribute;

    json_array_foreach(self->balancer, i, attribute)
    {
        if (strcmp(gw_import_string(attribute, "Key"), key) == 0)
            return gw_import_string(attribute, "Value");
    }
    return "";
}

/* ---- attributes of the load balancer ---- */

static void write_attribute(struct gw_import *self, const char *key, const char *value)
{
    static const char where[] = "load balancer";

    if (strcmp(key, "routing.http.desync_mitigation_mode") == 0)
        gw_import_note(self, GW_IMPORT_APPROXIMATED, where, "%s=%s: what breaks RFC 9112 is refused in every mode", key,
                       value);
    else if (*value == '\0' || strcmp(value, "false") == 0)
        gw_import_note(self, GW_IMPORT_MAPPED, where, "%s is off", key);
    else if (strcmp(key, "idle_timeout.timeout_seconds") == 0) {
        gw_import_note(self, GW_IMPORT_MAPPED, where, "%s=%s: of clients and of targets", key, value);
    } else if (strcmp(key, "routing.http2.enabled") == 0 || strcmp(key, "client_keep_alive.seconds") == 0)
        gw_import_note(self, GW_IMPORT_MAPPED, where, "%s=%s", key, value);
    else if (strcmp(key, "load_balancing.cross_zone.enabled") == 0)
        gw_import_note(self, GW_IMPORT_MAPPED, where, "targets of all zones take part (%s)", key);
    else if (strcmp(key, "routing.http.response.server.enabled") == 0)
        gw_import_note(self, GW_IMPORT_APPROXIMATED, where, "%s=%s: weir's own answers have its own Server", key,
                       value);
    else if (strncmp(key, "routing.http.response.", 22) == 0)
        gw_import_note(self, GW_IMPORT_REFUSED, where, "%s=%s (expected among the attributes of a listener)", key,
                       value);
    else
        gw_import_note(self, GW_IMPORT_REFUSED, where, "%s=%s", key, value);
}

static void write_limits(struct gw_import *self)
{
    static const char *const modes[] = {"defensive", "strictest", "monitor"};
    int idle = atoi(gw_import_balancer_value(self, "idle_timeout.timeout_seconds")),
        keep_alive = atoi(gw_import_balancer_value(self, "client_keep_alive.seconds"));
    const char *mode = gw_import_balancer_value(self, "routing.http.desync_mitigation_mode"), *separator = "limits: {";

    if (idle != 0)
        separator = (fprintf(self->out, "%sidle_timeout: %ds", separator, idle), ", ");
    if (keep_alive != 0)
        separator = (fprintf(self->out, "%skeepalive_time: %ds", separator, keep_alive), ", ");
    for (size_t i = 0; i != sizeof(modes) / sizeof(modes[0]); ++i)
        if (strcmp(mode, modes[i]) == 0)
            separator = (fprintf(self->out, "%sdesync_mitigation: %s", separator, mode), ", ");
    if (separator[0] == ',')
        fputs("}\n", self->out);
}

static void write_balancer(struct gw_import *self)
{
    static const char drop[] = "routing.http.drop_invalid_header_fields.enabled",
                      mode[] = "routing.http.xff_header_processing.mode",
                      port[] = "routing.http.xff_client_port.enabled",
                      host[] = "routing.http.preserve_host_header.enabled",
                      tls[] = "routing.http.x_amzn_tls_version_and_cipher_suite.enabled";
    const char *xff = NULL;
    bool drops = false, has_port = false, has_tls = false, changes_host = false;
    size_t i;
    json_t *attribute;

    json_array_foreach(self->balancer, i, attribute)
    {
        const char *key = gw_import_string(attribute, "Key"), *value = gw_import_string(attribute, "Value");
        bool is_on = strcmp(value, "true") == 0, is_ours = true;
        if (strcmp(key, drop) == 0)
            drops = is_on;
        else if (strcmp(key, port) == 0)
            has_port = is_on;
        else if (strcmp(key, host) == 0)
            changes_host = !is_on;
        else if (strcmp(key, tls) == 0)
            has_tls = is_on;
        else if (strcmp(key, mode) == 0)
            xff = strcmp(value, "preserve") == 0 || strcmp(value, "remove") == 0 ? value : "append";
        else
            is_ours = false;
        if (is_ours)
            gw_import_note(self, GW_IMPORT_MAPPED, "load balancer", "%s=%s", key, value);
        else
            write_attribute(self, key, value);
    }
    write_limits(self);
    if (xff != NULL || drops || has_port || has_tls || changes_host)
        fprintf(self->out,
                "forwarding: {x_forwarded: %s, client_port: %s, tls_headers: %s, preserve_host: %s, "
                "drop_invalid_headers: %s}\n",
                xff != NULL ? xff : "append", has_port ? "true" : "false", has_tls ? "true" : "false",
                changes_host ? "false" : "true", drops ? "true" : "false");
}

void gw_import_alb_write(struct gw_import *self, FILE *out)
{
    self->out = out;
    write_balancer(self);
    gw_import_stand_ins(self);
    gw_import_listeners(self);
    gw_import_groups(self);
    gw_import_routes(self);
    gw_import_drop_stand_ins(self);
    gw_import_keys(self);
}
