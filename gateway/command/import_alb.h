/* The configuration of an Application Load Balancer, as the AWS CLI describes it in JSON, as one of weir. Pure: JSON
 * in, text and findings out. One thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum gw_import_kind { GW_IMPORT_MAPPED, GW_IMPORT_APPROXIMATED, GW_IMPORT_REFUSED };
struct gw_import_finding {
    enum gw_import_kind kind;
    char *where, *text; /* owned */
};
struct gw_import {
    json_t *listeners, *rules, *groups; /* arrays of what the files described */
    json_t *balancers;                  /* array, of describe-load-balancers */
    json_t *targets;                    /* by name of a target group: its TargetHealthDescriptions */
    json_t *attributes;                 /* the same: its Attributes */
    json_t *balancer;                   /* Attributes of the load balancer */
    json_t *addresses;                  /* by id of an instance */
    json_t *files;                      /* by ARN: {cert, key} of certificates, {store} of trust stores; used: true */
    json_t *listener_attributes;        /* by name of a listener: its Attributes */
    json_t *listener_certificates;      /* the same: its Certificates */
    struct gw_import_finding *findings;
    size_t num_findings;
    FILE *out;                                /* of gw_import_alb_write */
    bool listeners_stand_in, groups_stand_in; /* no file described any */
};
void gw_import_init(struct gw_import *);
void gw_import_dispose(struct gw_import *);
/* Takes over what a file holds, by the keys of its top level. of: the target group or listener that it is about, where
 * the document does not say (describe-target-health, describe-listener-attributes ...); NULL: not given. Those that
 * describe listeners and groups come first. False: why says what is wrong. */
bool gw_import_add(struct gw_import *, json_t *document, const char *of, char *why, size_t why_len);
/* Writes the configuration; findings are there afterwards, at least one for every thing that was read. */
void gw_import_alb_write(struct gw_import *, FILE *);
void gw_import_note(struct gw_import *, enum gw_import_kind, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* import_text.c: values as YAML. */
void gw_import_text(FILE *, const char *text); /* in double quotes */
void gw_import_list(FILE *, const json_t *texts);
const char *gw_import_string(const json_t *object, const char *key); /* "" where there is none */
/* The value of an attribute of the load balancer; "" where there is none. */
const char *gw_import_balancer_value(const struct gw_import *, const char *key);
/* import_missing.c: listeners and groups that rules speak of, where no file describes any; and without them again. */
void gw_import_stand_ins(struct gw_import *);
void gw_import_drop_stand_ins(struct gw_import *);
/* import_keys.c: a finding for every key of the input that says what became of it. */
void gw_import_keys(struct gw_import *);
/* import_listeners.c: listeners and their certificates. */
void gw_import_listeners(struct gw_import *);
/* import_rules.c */
void gw_import_routes(struct gw_import *);
/* The last part of an ARN that tells listeners apart: of a listener or of one of its rules; "" if it has none. */
void gw_import_listener_id(const char *arn, char *id, size_t id_len);
void gw_import_listener_name(const struct gw_import *, const json_t *listener, char *name, size_t name_len);
/* import_groups.c */
void gw_import_groups(struct gw_import *);
/* The name of a target group by its ARN; NULL: it was not described. */
const char *gw_import_group_name(const struct gw_import *, const char *arn);
