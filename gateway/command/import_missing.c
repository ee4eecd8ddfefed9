/* What rules speak of where no file describes any listener, or any target group: each gets the least that can be told
 * from its ARN, so that rules alone become routes, and the report says what to fill in. */
#include <string.h>
#include "gateway/command/import_alb.h"

/* Of a rule, up to the part that tells listeners apart; "" if it has none: all those are one listener's. */
static void listener_of(const char *rule, char *arn, size_t arn_len)
{
    char id[64];
    const char *at;

    gw_import_listener_id(rule, id, sizeof(id));
    at = *id != '\0' ? strstr(rule, id) : NULL;
    snprintf(arn, arn_len, "%.*s", at != NULL ? (int)(at - rule + strlen(id)) : 0, rule);
}

static bool has(const json_t *array, const char *key, const char *value)
{
    size_t i;
    json_t *entry;

    json_array_foreach(array, i, entry)
    {
        if (strcmp(gw_import_string(entry, key), value) == 0)
            return true;
    }
    return false;
}

static void add_listeners(struct gw_import *self)
{
    size_t i;
    json_t *rule;

    json_array_foreach(self->rules, i, rule)
    {
        char arn[512];
        listener_of(gw_import_string(rule, "RuleArn"), arn, sizeof(arn));
        if (has(self->listeners, "ListenerArn", arn))
            continue;
        int port = 80 + (int)json_array_size(self->listeners);
        json_array_append_new(self->listeners,
                              json_pack("{s:s, s:s, s:i}", "ListenerArn", arn, "Protocol", "HTTP", "Port", port));
        gw_import_note(self, GW_IMPORT_APPROXIMATED, *arn != '\0' ? arn : "input",
                       "no file describes the listener: HTTP on port %d stands in for it (expected what "
                       "describe-listeners prints)",
                       port);
    }
}

static void add_group(struct gw_import *self, const char *arn)
{
    static const char mark[] = ":targetgroup/";
    const char *name = strstr(arn, mark);

    if (name == NULL || has(self->groups, "TargetGroupArn", arn))
        return;
    name += sizeof(mark) - 1;
    json_array_append_new(self->groups,
                          json_pack("{s:s, s:s%}", "TargetGroupArn", arn, "TargetGroupName", name, strcspn(name, "/")));
    gw_import_note(self, GW_IMPORT_APPROXIMATED, arn,
                   "no file describes the target group: one of HTTP stands in for it (expected what "
                   "describe-target-groups prints)");
}

static void add_groups_of(struct gw_import *self, const json_t *actions)
{
    size_t i, j;
    json_t *action, *group;

    json_array_foreach(actions, i, action)
    {
        add_group(self, gw_import_string(action, "TargetGroupArn"));
        json_array_foreach(json_object_get(json_object_get(action, "ForwardConfig"), "TargetGroups"), j, group)
        {
            add_group(self, gw_import_string(group, "TargetGroupArn"));
        }
    }
}

static void add_groups(struct gw_import *self)
{
    size_t i;
    json_t *entry;

    json_array_foreach(self->listeners, i, entry) { add_groups_of(self, json_object_get(entry, "DefaultActions")); }
    json_array_foreach(self->rules, i, entry) { add_groups_of(self, json_object_get(entry, "Actions")); }
}

void gw_import_stand_ins(struct gw_import *self)
{
    self->listeners_stand_in = json_array_size(self->listeners) == 0;
    self->groups_stand_in = json_array_size(self->groups) == 0;
    if (self->listeners_stand_in)
        add_listeners(self);
    if (self->groups_stand_in)
        add_groups(self);
}

void gw_import_drop_stand_ins(struct gw_import *self)
{
    if (self->listeners_stand_in)
        json_array_clear(self->listeners);
    if (self->groups_stand_in)
        json_array_clear(self->groups);
}
