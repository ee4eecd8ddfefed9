/* What became of every key that the files hold: the configuration says it, something near it, or nothing. A key that
 * this table does not know is refused, so that what a load balancer learns to do is never left out unsaid. */
#include <stdlib.h>
#include <string.h>
#include "gateway/command/import_alb.h"

/* Paths of keys, without indexes; one that ends in a dot stands for all below it. The first that fits counts. */
struct known {
    const char *path;
    enum gw_import_kind kind;
};

static const struct known of_listeners[] = {
    {"ListenerArn", GW_IMPORT_MAPPED},
    {"LoadBalancerArn", GW_IMPORT_MAPPED},
    {"Port", GW_IMPORT_MAPPED},
    {"Protocol", GW_IMPORT_MAPPED},
    {"SslPolicy", GW_IMPORT_MAPPED},
    {"Certificates.CertificateArn", GW_IMPORT_MAPPED}, /* what became of each is said there */
    {"Certificates.IsDefault", GW_IMPORT_MAPPED},
    {"MutualAuthentication.TrustStoreArn", GW_IMPORT_MAPPED},
    {"MutualAuthentication.TrustStoreAssociationStatus", GW_IMPORT_APPROXIMATED},
    {"MutualAuthentication.Mode", GW_IMPORT_MAPPED},
    {"MutualAuthentication.IgnoreClientCertificateExpiry", GW_IMPORT_MAPPED},
    {"MutualAuthentication.AdvertiseTrustStoreCaNames", GW_IMPORT_MAPPED},
    {"DefaultActions.AuthenticateOidcConfig.", GW_IMPORT_REFUSED},
    {"DefaultActions.AuthenticateCognitoConfig.", GW_IMPORT_REFUSED},
    {"DefaultActions.JwtValidationConfig.", GW_IMPORT_REFUSED},
    {"DefaultActions.Type", GW_IMPORT_MAPPED},
    {"DefaultActions.Order", GW_IMPORT_MAPPED},
    {"DefaultActions.TargetGroupArn", GW_IMPORT_MAPPED},
    {"DefaultActions.ForwardConfig.TargetGroups.TargetGroupArn", GW_IMPORT_MAPPED},
    {"DefaultActions.ForwardConfig.TargetGroups.Weight", GW_IMPORT_MAPPED},
    {"DefaultActions.ForwardConfig.TargetGroupStickinessConfig.Enabled", GW_IMPORT_MAPPED},
    {"DefaultActions.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.Protocol", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.Port", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.Host", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.Path", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.Query", GW_IMPORT_MAPPED},
    {"DefaultActions.RedirectConfig.StatusCode", GW_IMPORT_MAPPED},
    {"DefaultActions.FixedResponseConfig.MessageBody", GW_IMPORT_MAPPED},
    {"DefaultActions.FixedResponseConfig.StatusCode", GW_IMPORT_MAPPED},
    {"DefaultActions.FixedResponseConfig.ContentType", GW_IMPORT_MAPPED},
    {NULL, GW_IMPORT_REFUSED},
};
/* Of a rule; its actions are as those above. */
static const struct known of_rules[] = {
    {"RuleArn", GW_IMPORT_MAPPED},
    {"Priority", GW_IMPORT_MAPPED},
    {"IsDefault", GW_IMPORT_MAPPED},
    {"Conditions.Field", GW_IMPORT_MAPPED},
    {"Conditions.Values", GW_IMPORT_MAPPED},
    {"Conditions.HostHeaderConfig.Values", GW_IMPORT_MAPPED},
    {"Conditions.HostHeaderConfig.RegexValues", GW_IMPORT_MAPPED},
    {"Conditions.PathPatternConfig.Values", GW_IMPORT_MAPPED},
    {"Conditions.PathPatternConfig.RegexValues", GW_IMPORT_MAPPED},
    {"Conditions.HttpHeaderConfig.HttpHeaderName", GW_IMPORT_MAPPED},
    {"Conditions.HttpHeaderConfig.Values", GW_IMPORT_MAPPED},
    {"Conditions.HttpHeaderConfig.RegexValues", GW_IMPORT_MAPPED},
    {"Conditions.HttpRequestMethodConfig.Values", GW_IMPORT_MAPPED},
    {"Conditions.QueryStringConfig.Values.Key", GW_IMPORT_MAPPED},
    {"Conditions.QueryStringConfig.Values.Value", GW_IMPORT_MAPPED},
    {"Conditions.SourceIpConfig.Values", GW_IMPORT_MAPPED},
    {"Transforms.Type", GW_IMPORT_MAPPED},
    {"Transforms.UrlRewriteConfig.Rewrites.Regex", GW_IMPORT_MAPPED},
    {"Transforms.UrlRewriteConfig.Rewrites.Replace", GW_IMPORT_MAPPED},
    {"Transforms.HostHeaderRewriteConfig.Rewrites.Regex", GW_IMPORT_MAPPED},
    {"Transforms.HostHeaderRewriteConfig.Rewrites.Replace", GW_IMPORT_MAPPED},
    {NULL, GW_IMPORT_REFUSED},
};
static const struct known of_groups[] = {
    {"TargetGroupArn", GW_IMPORT_MAPPED},
    {"TargetGroupName", GW_IMPORT_MAPPED},
    {"TargetType", GW_IMPORT_MAPPED},
    {"Protocol", GW_IMPORT_MAPPED},
    {"ProtocolVersion", GW_IMPORT_MAPPED},
    {"Port", GW_IMPORT_MAPPED},
    {"HealthCheckProtocol", GW_IMPORT_MAPPED},
    {"HealthCheckPort", GW_IMPORT_MAPPED},
    {"HealthCheckEnabled", GW_IMPORT_MAPPED},
    {"HealthCheckIntervalSeconds", GW_IMPORT_MAPPED},
    {"HealthCheckTimeoutSeconds", GW_IMPORT_MAPPED},
    {"HealthyThresholdCount", GW_IMPORT_MAPPED},
    {"UnhealthyThresholdCount", GW_IMPORT_MAPPED},
    {"HealthCheckPath", GW_IMPORT_MAPPED},
    {"Matcher.HttpCode", GW_IMPORT_MAPPED},
    {"Matcher.GrpcCode", GW_IMPORT_MAPPED},
    {"LoadBalancerArns", GW_IMPORT_MAPPED},
    {"IpAddressType", GW_IMPORT_MAPPED},
    {"VpcId", GW_IMPORT_APPROXIMATED}, /* the network is the machine's */
    {NULL, GW_IMPORT_REFUSED},
};
static const struct known of_targets[] = {
    {"Target.Id", GW_IMPORT_MAPPED},
    {"Target.Port", GW_IMPORT_MAPPED},
    {"Target.AvailabilityZone", GW_IMPORT_MAPPED},
    {"TargetHealth.State", GW_IMPORT_MAPPED},
    {"HealthCheckPort", GW_IMPORT_MAPPED},     /* that of the group */
    {"TargetHealth.", GW_IMPORT_APPROXIMATED}, /* found out anew */
    {"AnomalyDetection.", GW_IMPORT_APPROXIMATED},
    {"AdministrativeOverride.", GW_IMPORT_APPROXIMATED},
    {NULL, GW_IMPORT_REFUSED},
};
static const struct known of_certificates[] = {
    {"CertificateArn", GW_IMPORT_MAPPED},
    {"IsDefault", GW_IMPORT_MAPPED},
    {NULL, GW_IMPORT_REFUSED},
};
static const struct known of_balancers[] = {
    {"LoadBalancerArn", GW_IMPORT_MAPPED},
    {"LoadBalancerName", GW_IMPORT_MAPPED},
    {"DNSName", GW_IMPORT_APPROXIMATED}, /* names, zones and firewalls are those of the machines that weir runs on */
    {"CanonicalHostedZoneId", GW_IMPORT_APPROXIMATED},
    {"CreatedTime", GW_IMPORT_APPROXIMATED},
    {"State.", GW_IMPORT_APPROXIMATED},
    {"Type", GW_IMPORT_APPROXIMATED},
    {"Scheme", GW_IMPORT_APPROXIMATED},
    {"VpcId", GW_IMPORT_APPROXIMATED},
    {"AvailabilityZones.", GW_IMPORT_APPROXIMATED},
    {"IpAddressType", GW_IMPORT_APPROXIMATED},
    {NULL, GW_IMPORT_REFUSED},
};

/* Paths of one kind, each once. */
struct paths {
    json_t *of_kind[3]; /* objects, whose keys are the paths */
};

static enum gw_import_kind kind_of(const struct known *known, const char *path)
{
    if (known == of_rules && strncmp(path, "Actions.", 8) == 0) {
        char as_default[512];
        snprintf(as_default, sizeof(as_default), "Default%s", path);
        return kind_of(of_listeners, as_default);
    }
    for (; known->path != NULL; ++known) {
        size_t len = strlen(known->path);
        if (known->path[len - 1] == '.' ? strncmp(path, known->path, len) == 0 : strcmp(path, known->path) == 0)
            break;
    }
    return known->kind;
}

/* What says nothing needs no counterpart. */
static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

/* The table knows how deep the input may go; what is deeper is one of its keys that are unknown. */
static void walk(const struct known *known, const json_t *value, const char *path, unsigned depth, struct paths *paths)
{
    char below[512];
    const char *key;
    json_t *part;
    size_t i;

    if (json_is_object(value) && json_object_size(value) != 0 && depth != 8) {
        json_object_foreach((json_t *)value, key, part)
        {
            snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? "." : "", key);
            walk(known, part, below, depth + 1, paths);
        }
    } else if (json_is_array(value) && json_array_size(value) != 0 && depth != 8) {
        json_array_foreach(value, i, part) walk(known, part, path, depth + 1, paths);
    } else {
        enum gw_import_kind kind = is_empty(value) ? GW_IMPORT_MAPPED : kind_of(known, path);
        json_object_set_new(paths->of_kind[kind], path, json_true());
    }
}

static void note_keys(struct gw_import *self, const struct known *known, const json_t *object, const char *where)
{
    static const char *const says[] = {"keys", "keys that weir has something near to", "keys without a counterpart"};
    struct paths paths = {{json_object(), json_object(), json_object()}};
    const char *path;
    json_t *value;

    walk(known, object, "", 0, &paths);
    for (int kind = 0; kind != 3; ++kind) {
        char *text = NULL;
        size_t len = 0;
        FILE *list = open_memstream(&text, &len);
        json_object_foreach(paths.of_kind[kind], path, value) fprintf(list, " %s", path);
        fclose(list);
        if (len != 0)
            gw_import_note(self, (enum gw_import_kind)kind, where, "%s:%s", says[kind], text);
        free(text);
        json_decref(paths.of_kind[kind]);
    }
}

static void note_all(struct gw_import *self, const struct known *known, const json_t *objects, const char *name_key)
{
    size_t i;
    json_t *object;

    json_array_foreach(objects, i, object) note_keys(self, known, object, gw_import_string(object, name_key));
}

void gw_import_keys(struct gw_import *self)
{
    const char *name;
    json_t *targets, *target;
    size_t i;

    note_all(self, of_balancers, self->balancers, "LoadBalancerName");
    note_all(self, of_listeners, self->listeners, "ListenerArn");
    note_all(self, of_rules, self->rules, "RuleArn");
    note_all(self, of_groups, self->groups, "TargetGroupName");
    json_object_foreach(self->targets, name, targets)
    {
        json_array_foreach(targets, i, target) { note_keys(self, of_targets, target, name); }
    }
    json_object_foreach(self->listener_certificates, name, targets)
    {
        json_array_foreach(targets, i, target) { note_keys(self, of_certificates, target, name); }
    }
}
