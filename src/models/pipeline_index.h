// model_index.json of a diffusers pipeline: its class, and which library's class each component is of.
#ifndef MODELS_PIPELINE_INDEX_H
#define MODELS_PIPELINE_INDEX_H

#include <stdbool.h>

#include "core/json.h"

typedef struct pipeline_component {
  const char *name;                 // "unet"
  const char *library, *class_name; // "diffusers", "UNet2DModel"; NULL: the pipeline goes without it
  char *folder;                     // DIRECTORY/NAME; NULL without it
} pipeline_component;

typedef struct pipeline_index {
  const char *class_name; // "DDPMPipeline"
  const char *version;    // of diffusers; NULL when the file does not say
  int n;
  pipeline_component *components; // in the order of the file
  json_t *json;                   // owns the texts
} pipeline_index;

// Whether a directory has a model_index.json.
bool pipeline_index_is_there(const char *directory);
// Components are the keys whose value is a pair [library, class] or [null, null]; the folder of each that is not null must be there, and a
// missing one is refused by name. On failure *out is NULL.
elbo_status pipeline_index_open(elbo_ctx *ctx, const char *directory, pipeline_index **out);
void pipeline_index_close(pipeline_index **index);
// NULL when there is none of that name, or it is null.
const pipeline_component *pipeline_index_find(const pipeline_index *index, const char *name);
// The other keys: numbers, truth values, texts, objects; NULL when absent.
const json_t *pipeline_index_value(const pipeline_index *index, const char *key);

#endif
