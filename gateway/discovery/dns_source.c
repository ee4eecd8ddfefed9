/* `dns:` entries of target groups: what dns_target.c finds becomes members of the group. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/resolver_page.h"
#include "gateway/base/log.h"
#include "gateway/discovery/dns_target.h"
#include "gateway/discovery/resolver.h"
#include "gateway/discovery/source.h"
#include "gateway/process.h"

struct dns_source {
    struct gw_source *source;
    struct gw_dns_target *target;
    uint64_t version; /* of the addresses that the group has */
    uint32_t weight;  /* of the entry; SRV records have their own */
    h2o_iovec_t zone; /* owned */
    bool has_failure;
};

void gw_resolver_target_conf(const struct routing_target_conf *from, struct gw_dns_target_conf *to)
{
    const struct routing_dns_conf *dns = &from->dns;
    *to = (struct gw_dns_target_conf){
        .name = dns->name.base,
        .port = (uint16_t)dns->port,
        .wants_a = (dns->types & 1 << ROUTING_DNS_A) != 0,
        .wants_aaaa = (dns->types & 1 << ROUTING_DNS_AAAA) != 0,
        .wants_srv = (dns->types & 1 << ROUTING_DNS_SRV) != 0,
        .min_ttl_ms = dns->min_ttl_ms,
        .max_ttl_ms = dns->max_ttl_ms,
        .grace_ms = dns->grace_ms,
    };
}

static bool key(const struct routing_target_conf *conf, char *buf, size_t len)
{
    if (conf->dns.name.base == NULL)
        return false;
    h2o_iovec_t text = routing_dns_text(NULL, conf);
    snprintf(buf, len, "%s", text.base);
    free(text.base);
    return true;
}

static void publish(struct dns_source *self)
{
    size_t size;
    const struct gw_dns_address *addresses = gw_dns_target_addresses(self->target, &size);
    struct gw_member *members = h2o_mem_alloc((size + 1) * sizeof(*members));
    char(*texts)[GW_ADDRESS_TEXT] = h2o_mem_alloc((size + 1) * sizeof(*texts));
    char(*hosts)[GW_IP_TEXT] = h2o_mem_alloc((size + 1) * sizeof(*hosts));
    h2o_iovec_t group = gw_source_group(self->source);

    for (size_t i = 0; i != size; ++i) {
        size_t len = strlen(addresses[i].host);
        if (len != 0 && addresses[i].host[len - 1] == '.')
            --len;
        members[i] = (struct gw_member){.weight = addresses[i].weight * self->weight,
                                        .zone = self->zone,
                                        .server_name = {(char *)addresses[i].host, len}};
        gw_address_from_ip(&addresses[i].ip, addresses[i].port, texts[i], hosts[i], &members[i].address);
    }
    self->version = gw_dns_target_version(self->target);
    gw_log(GW_LOG_INFO, "dns", "%s of %.*s: %zu addresses", gw_source_key(self->source), (int)group.len, group.base,
           size);
    gw_members_set(self->source, members, size);
    free(members);
    free(texts);
    free(hosts);
}

static void on_news(void *data)
{
    struct dns_source *self = data;
    char why[512];
    bool has_failure = gw_dns_target_error(self->target, why, sizeof(why));

    if (gw_dns_target_version(self->target) != self->version)
        publish(self);
    if (has_failure || self->has_failure)
        gw_source_note_failure(self->source, has_failure ? why : NULL);
    self->has_failure = has_failure;
}

static void set_entry(struct dns_source *self, const struct routing_target_conf *conf)
{
    free(self->zone.base);
    self->zone = conf->zone.base != NULL ? h2o_strdup(NULL, conf->zone.base, conf->zone.len) : conf->zone;
    self->weight = conf->dns.types == 1 << ROUTING_DNS_SRV ? 1 : (uint32_t)conf->weight;
}

static struct gw_resolver *resolver_of(const struct dns_source *self)
{
    return gw_source_process(self->source)->resolver;
}

static void *start(struct gw_source *source, const struct routing_target_conf *entry)
{
    struct dns_source *self = h2o_mem_alloc(sizeof(*self));
    struct gw_dns_target_conf conf;

    *self = (struct dns_source){.source = source};
    set_entry(self, entry);
    gw_resolver_target_conf(entry, &conf);
    self->target = gw_dns_target_create(gw_resolver_dns(resolver_of(self)), &conf, gw_now_ms(), on_news, self);
    gw_resolver_wake(resolver_of(self));
    on_news(self);
    return self;
}

static void change(void *data, const struct routing_target_conf *entry)
{
    struct dns_source *self = data;
    struct gw_dns_target_conf conf;

    set_entry(self, entry);
    gw_resolver_target_conf(entry, &conf);
    gw_dns_target_change(self->target, &conf, gw_now_ms());
    gw_resolver_wake(resolver_of(self));
    publish(self); /* with the weight and zone of now */
}

static void stop(void *data)
{
    struct dns_source *self = data;
    gw_dns_target_destroy(self->target);
    free(self->zone.base);
    free(self);
}

/* ---- for people ---- */

struct description {
    struct gw_json *json;
    uint64_t now_ms;
};

static void describe_question(void *data, const struct gw_dns_record *record)
{
    const struct description *description = data;
    gw_resolver_question(record, description->json, description->now_ms);
}

static void describe(const void *data, struct gw_json *json)
{
    const struct dns_source *self = data;
    struct description description = {json, gw_now_ms()};

    gw_json_key(json, "questions");
    gw_json_array(json);
    gw_dns_target_visit(self->target, describe_question, &description);
    gw_json_array_end(json);
}

const struct gw_source_kind gw_dns_source_kind = {
    .name = "dns", .key = key, .start = start, .change = change, .stop = stop, .describe = describe};
