/* Configurations for the tests of routing: YAML text through the real loader into the structs of routing/config.h. */
#pragma once
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "routing/config.h"
#include "routing/facts.h"

struct loaded_root {
    const struct gw_node *at;
    struct gw_list routes;
    struct gw_map target_groups;
};
struct loaded {
    h2o_mem_pool_t pool;
    struct gw_errors errors;
    struct loaded_root root;
    bool is_ok;
};

static inline h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static inline void load_text(struct loaded *self, h2o_iovec_t yaml)
{
    static const struct gw_setting settings[] = {
        {"routes", GW_LIST, offsetof(struct loaded_root, routes), "Routes.", .section = &routing_route_section},
        {"target_groups", GW_MAP, offsetof(struct loaded_root, target_groups), "Groups.",
         .section = &routing_target_group_section},
        {0},
    };
    static const struct gw_section root = {"configuration", "Everything.", sizeof(struct loaded_root), settings};

    memset(self, 0, sizeof(*self));
    h2o_mem_init_pool(&self->pool);
    gw_errors_init(&self->errors);
    struct gw_loader loader = {&self->pool, &self->errors};
    struct gw_node *node = gw_yaml_load_text(&self->pool, "t.yaml", yaml, false, NULL, &self->errors);
    assert_non_null(node);
    self->is_ok = gw_settings_load(&loader, &root, node, &self->root);
    for (size_t i = 0; i != self->root.routes.size; ++i) {
        struct routing_route_conf *route = self->root.routes.entries[i];
        char name[32];
        if (route->name.base == NULL)
            route->name = h2o_strdup(&self->pool, name, (size_t)snprintf(name, sizeof(name), "route-%zu", i + 1));
    }
}

static inline void load(struct loaded *self, const char *yaml) { load_text(self, text_of(yaml)); }

static inline void unload(struct loaded *self)
{
    gw_errors_dispose(&self->errors);
    h2o_mem_clear_pool(&self->pool);
}

/* Everything that was found, as weir check would print it. The caller frees it. */
static inline char *findings(struct loaded *self)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    gw_errors_print(&self->errors, out);
    fclose(out);
    return text;
}

static inline void assert_findings(struct loaded *self, const char *expected)
{
    char *text = findings(self);
    assert_string_equal(text, expected);
    free(text);
}

/* One line for a YAML text that must be refused with exactly this. */
static inline void assert_refused(const char *yaml, const char *expected)
{
    struct loaded loaded;
    load(&loaded, yaml);
    assert_findings(&loaded, expected);
    assert_false(loaded.is_ok);
    unload(&loaded);
}

static inline const struct routing_route_conf *loaded_route(const struct loaded *self, size_t index)
{
    assert_true(index < self->root.routes.size);
    return self->root.routes.entries[index];
}

#define assert_text(iovec, expected)                                                                                   \
    do {                                                                                                               \
        h2o_iovec_t text_ = (iovec);                                                                                   \
        const char *expected_ = (expected);                                                                            \
        assert_int_equal(text_.len, strlen(expected_));                                                                \
        assert_memory_equal(text_.base, expected_, text_.len);                                                         \
    } while (0)
