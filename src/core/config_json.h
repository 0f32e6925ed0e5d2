// Configs as JSON, in the manner of diffusers' config.json. Reading needs nothing of its own: JSON is YAML (yaml_read), and so file and
// line come into every message.
#ifndef CORE_CONFIG_JSON_H
#define CORE_CONFIG_JSON_H

#include <jansson.h>

#include "core/config.h"

// One field of the struct `in`: null where config_is_null, a list of one as a single value where it may be, the enum names "null", "true"
// and "false" as what JSON has for them. NULL when memory ran out.
json_t *config_field_json(const config_field *f, const void *in);
// The whole struct as an object, sections nested.
json_t *config_json(const config_table *table, const void *in);

#endif
