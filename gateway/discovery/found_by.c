#include "gateway/discovery/found_by.h"
#include "gateway/base/trace.h"
#include "gateway/discovery/discovery.h"

enum { KEY_MAX = 4500 };

static const struct gw_source_kind *const kinds[] = {&gw_dns_source_kind, &gw_file_source_kind};

static const struct routing_target_conf *entry_of(const struct routing_target_group_conf *group,
                                                  const struct gw_source *source)
{
    char key[KEY_MAX];

    for (size_t i = 0; i != group->targets.size; ++i) {
        const struct routing_target_conf *conf = group->targets.entries[i];
        if (routing_target_is_source(conf) && source->kind->key != NULL && source->kind->key(conf, key, sizeof(key)) &&
            strcmp(key, source->key) == 0)
            return conf;
    }
    return NULL;
}

/* The same address may have been found twice: all who found it are told. */
static void explain_source(const struct gw_request *request, const struct gw_source *source)
{
    const struct routing_target_group *group = request->group;
    const struct routing_target_conf *entry = entry_of(group->conf, source);
    const struct gw_node *at = entry != NULL ? entry->at : group->conf->at;
    bool has_target = request->target < group->size;

    if (source->size == 0)
        gw_trace(request->trace, "source", at, "%s %s has found nothing%s%s", source->kind->name, source->key,
                 source->failure != NULL ? ": " : "", source->failure != NULL ? source->failure : "");
    for (size_t i = 0; i != source->size && has_target; ++i) {
        const struct gw_source_member *member = &source->members[i];
        if (&member->endpoint->endpoint != group->targets[request->target].endpoint)
            continue;
        gw_trace(request->trace, "source", at, "\"%.*s\" was found by %s %s%s%.*s%s%s",
                 (int)member->endpoint->endpoint.name.len, member->endpoint->endpoint.name.base, source->kind->name,
                 source->key, member->server_name.base != NULL ? " as " : "", (int)member->server_name.len,
                 member->server_name.base != NULL ? member->server_name.base : "",
                 source->failure != NULL ? "; since then " : "", source->failure != NULL ? source->failure : "");
    }
}

void gw_discovery_explain(const struct gw_request *request)
{
    const struct routing_target_group *group = request->group;
    char key[KEY_MAX];

    if (group == NULL || !group->conf->is_dynamic)
        return;
    if (request->snapshot->process != NULL) {
        for (const struct gw_source *source = ((const struct gw_group_entry *)group->entry)->sources; source != NULL;
             source = source->next)
            explain_source(request, source);
        return;
    }
    for (size_t i = 0; i != group->conf->targets.size; ++i)
        for (size_t k = 0; k != sizeof(kinds) / sizeof(kinds[0]); ++k) {
            const struct routing_target_conf *conf = group->conf->targets.entries[i];
            if (routing_target_is_source(conf) && kinds[k]->key(conf, key, sizeof(key)))
                gw_trace(request->trace, "source", conf->at, "%s %s finds targets while the gateway serves",
                         kinds[k]->name, key);
        }
}
