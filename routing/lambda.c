/* The settings of target groups whose targets are Lambda Invoke endpoints. */
#include <string.h>
#include "routing/config.h"

enum {
    MAX_FUNCTION = 256,
    LONGEST_FUNCTION_MS = 900000,
    CHECK_INTERVAL_MS = 35000, /* as an ALB checks functions (spec/alb.md 4) */
    CHECK_TIMEOUT_MS = 30000,
};

/* A name, NAME:ALIAS, or an ARN. */
static bool check_function(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t name)
{
    bool is_ok = name.len != 0;
    for (size_t i = 0; i != name.len; ++i) {
        char c = name.base[i];
        is_ok = is_ok && ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                          (c != '\0' && strchr("-_:.$", c) != NULL));
    }
    return is_ok || gw_error_at(load->errors, at, "\"%s\" is no function (expected a name, NAME:ALIAS or an ARN)",
                                name.len == 0 ? "" : name.base);
}

static bool check_word(struct gw_loader *load, const struct gw_node *at, h2o_iovec_t word)
{
    bool is_ok = word.len != 0;
    for (size_t i = 0; i != word.len; ++i)
        is_ok = is_ok && word.base[i] > 0x20 && word.base[i] < 0x7f && word.base[i] != '"' && word.base[i] != ',';
    return is_ok || gw_error_at(load->errors, at, "the value is empty or has blanks, quotes or commas");
}

#define AT(field) offsetof(struct routing_lambda_sign_conf, field)
static const struct gw_setting sign_settings[] = {
    {"region", GW_TEXT, AT(region), "Region of the function.", .is_required = true, .valid = check_word, .max = 64},
    {"access_key", GW_TEXT, AT(access_key), "Access key id.", .is_required = true, .valid = check_word, .max = 128},
    {"secret_key", GW_TEXT, AT(secret_key), "Secret access key.", .is_required = true, .is_secret = true,
     .valid = check_word, .max = 256},
    {"session_token", GW_TEXT, AT(session_token), "Token of temporary credentials.", .is_secret = true,
     .valid = check_word, .max = 4096},
    {0},
};
#undef AT
static const struct gw_section sign_section = {
    .name = "lambda signature",
    .help = "Credentials that sign each invocation with AWS Signature Version 4.",
    .size = sizeof(struct routing_lambda_sign_conf),
    .settings = sign_settings,
};

#define AT(field) offsetof(struct routing_lambda_conf, field)
static const struct gw_setting lambda_settings[] = {
    {"function", GW_TEXT, AT(function), "Name of the function, NAME:ALIAS, or its ARN.", .is_required = true, .min = 1,
     .max = MAX_FUNCTION, .valid = check_function},
    {"multi_value_headers", GW_BOOL, AT(multi_value_headers),
     "Whether events hold every value of a header and query key (multiValueHeaders), or the last one (headers)."},
    {"target_group_arn", GW_TEXT, AT(target_group_arn),
     "What the event says in requestContext.elb.targetGroupArn; made up from the group's name when left out.",
     .valid = check_word, .max = 512},
    {"host", GW_TEXT, AT(host),
     "Host that the endpoint is asked by; left out, the target's own, or lambda.REGION.amazonaws.com with sign.",
     .valid = check_word, .max = 255},
    {"sign", GW_OPTION, AT(sign), "Signs invocations; left out, they are plain.", .section = &sign_section},
    {0},
};
#undef AT
const struct gw_section routing_lambda_section = {
    .name = "lambda",
    .help = "The targets are Invoke endpoints of this function.",
    .size = sizeof(struct routing_lambda_conf),
    .settings = lambda_settings,
    .scalar_is = "function",
};

static bool is_given(const struct gw_node *section, const char *name)
{
    return section != NULL && gw_setting_at(section, name) != section;
}

/* spec/alb.md 4 and 6: not checked unless asked for, every 35 s for up to 30 s. */
static void set_check_defaults(struct routing_target_group_conf *group)
{
    struct routing_health_check_conf *check = &group->health_check;

    if (gw_node_get(group->at, "health_check") == NULL)
        check->is_enabled = false;
    if (check->protocol != ROUTING_HEALTH_CHECK_LAMBDA)
        return;
    if (!is_given(check->at, "interval"))
        check->interval_ms = CHECK_INTERVAL_MS;
    if (!is_given(check->at, "timeout"))
        check->timeout_ms = check->interval_ms < CHECK_TIMEOUT_MS ? check->interval_ms : CHECK_TIMEOUT_MS;
}

bool routing_lambda_check(struct gw_loader *load, struct routing_target_group_conf *group)
{
    if (group->lambda == NULL)
        return true;
    if (group->protocol != ROUTING_PROTOCOL_HTTP && group->protocol != ROUTING_PROTOCOL_HTTPS)
        return gw_error_at(load->errors, gw_setting_at(group->at, "lambda"),
                           "endpoints of functions speak http or https (expected protocol: http or https)");
    if (group->stickiness != NULL)
        return gw_error_at(load->errors, gw_setting_at(group->at, "stickiness"),
                           "\"stickiness\" has no use with lambda: whichever endpoint is asked, the service chooses "
                           "where the function runs (a route's forward.stickiness keeps clients with a group)");
    if (is_given(group->health_check.at, "host") && group->health_check.protocol == ROUTING_HEALTH_CHECK_LAMBDA)
        return gw_error_at(load->errors, gw_setting_at(group->health_check.at, "host"),
                           "\"host\" has no use in checks of functions (expected lambda.host)");
    set_check_defaults(group);
    /* as slow as a function may be */
    if (!is_given(group->timeouts.at, "first_byte"))
        group->timeouts.first_byte_ms = LONGEST_FUNCTION_MS;
    return true;
}
