// Model directories in the manner of diffusers: an index, and a folder with configuration and weights for each component.
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_json.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "models/model.h"
#include "models/weights.h"

// What belongs to no component: the data that the model is of. "_elbo" in the index; diffusers passes over keys with an underscore.
typedef struct index_config {
  const char *preset;
  int64_t height, width, channels, classes, bits, binarize, dequantize, step;
} index_config;
static const config_field index_fields[] = {
    CONFIG_STRING(index_config, preset, NULL, "kind of model"),
    CONFIG_INT(index_config, height, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(index_config, width, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(index_config, channels, 1, 1e6, NULL, "", "of x"),
    CONFIG_INT(index_config, classes, 0, 1e6, "0", "", "of the condition"),
    CONFIG_INT(index_config, bits, 0, 16, "8", "", "of a pixel of the training data, 0: float"),
    CONFIG_INT(index_config, binarize, 0, 2, "0", "", "of the training data"),
    CONFIG_INT(index_config, dequantize, 0, 1, "0", "", "of the training data"),
    CONFIG_INT(index_config, step, -1, 9e18, "-1", "steps", "of training"),
};
static const config_table index_table = CONFIG_TABLE("_elbo", index_config, index_fields, "what the model is of");

// The files of the components: the fields of a section behind "_class_name".
typedef struct component {
  const char *name, *class_name;
  const config_table *table;
  size_t offset; // in model_config
} component;
static const component components[] = {
    {"encoder", "ElboEncoder", &encoder_table, offsetof(model_config, encoder)},
    {"decoder", "ElboDecoder", &decoder_table, offsetof(model_config, decoder)},
    {"prior", "ElboPrior", &prior_table, offsetof(model_config, prior)},
};
enum { N_COMPONENTS = 3, MAX_FIELDS = 40 };

// prior/config.json holds the sections latent and condition too: both belong to p(z) as much as to the networks.
typedef struct component_file {
  const char *_class_name;
  model_config model;
} component_file;

static config_table component_table(const component *c, config_field fields[MAX_FIELDS]) {
  int n = 0;
  fields[n++] = (config_field)CONFIG_STRING(component_file, _class_name, NULL, "class");
  for (int i = 0; i < c->table->n_fields; i++) {
    fields[n] = c->table->fields[i];
    fields[n++].offset += offsetof(component_file, model) + c->offset;
  }
  if (strcmp(c->name, "prior") == 0) {
    fields[n] = (config_field)CONFIG_SECTION(model_config, latent, &latent_table);
    fields[n++].offset += offsetof(component_file, model);
    fields[n] = (config_field)CONFIG_SECTION(model_config, condition, &condition_table);
    fields[n++].offset += offsetof(component_file, model);
  }
  return (config_table){c->class_name, sizeof(component_file), fields, n, ""};
}

static elbo_status write_json_at(elbo_ctx *ctx, const char *directory, const char *name, json_t *json) {
  char path[PATH_MAX];
  elbo_status status = path_join(ctx, path, sizeof path, directory, name);
  if (status == ELBO_OK) status = json ? json_write(ctx, path, json) : fail_memory(ctx, 1024, "JSON");
  json_decref(json);
  return status;
}

elbo_status model_directory_write(elbo_ctx *ctx, const char *directory, const vae_spec *spec, elbo_store *store, int64_t step) {
  component_file file = {.model = spec->model};
  json_t *index = json_object();
  const bool lsgm = spec->model.preset == MODEL_LSGM;
  json_object_set_new(index, "_class_name", json_string(lsgm ? "ElboLSGM" : "ElboVAE"));
  json_object_set_new(index, "_elbo_version", json_string(ELBO_VERSION));
  index_config of = {vae_preset_name(spec), spec->shape.height, spec->shape.width,
                     spec->shape.channels,  spec->classes,      spec->bits,
                     spec->binarize,        spec->dequantize,   step};
  json_object_set_new(index, "_elbo", config_json(&index_table, &of));
  for (int i = 0; i < N_COMPONENTS; i++)
    json_object_set_new(index, components[i].name, json_pack("[ss]", "elbo", components[i].class_name));
  if (lsgm) json_object_set_new(index, "latent_prior", json_pack("[ss]", "elbo", "ElboDiffusion"));
  TRY(write_json_at(ctx, directory, "model_index.json", index));
  for (int i = 0; i < N_COMPONENTS; i++) {
    char path[PATH_MAX];
    config_field fields[MAX_FIELDS];
    config_table table = component_table(&components[i], fields);
    file._class_name = components[i].class_name;
    TRY(path_join(ctx, path, sizeof path, directory, components[i].name));
    TRY(directory_make(ctx, path));
    TRY(write_json_at(ctx, path, "config.json", config_json(&table, &file)));
    TRY(weights_write(ctx, path, components[i].name, store));
  }
  return ELBO_OK;
}

// The index of a directory, or the configuration of a component that stands alone. JSON is YAML, and so come file and line into every
// message.
static elbo_status read_index(elbo_ctx *ctx, arena *a, const char *directory, char path[PATH_MAX], yaml_node **root) {
  if (!directory_exists(directory))
    return fail(ctx, ELBO_ERROR_IO, "%s: no such directory; a model or run directory was expected", directory);
  TRY(path_join(ctx, path, PATH_MAX, directory, "model_index.json"));
  if (!file_exists(path)) TRY(path_join(ctx, path, PATH_MAX, directory, "config.json"));
  if (!file_exists(path)) return fail(ctx, ELBO_ERROR_FORMAT, "%s: not a model directory: it has no model_index.json", directory);
  return yaml_read(ctx, a, path, root);
}

elbo_status model_directory_class(elbo_ctx *ctx, arena *a, const char *directory, const char **out) {
  char path[PATH_MAX];
  yaml_node *root = NULL;
  TRY(read_index(ctx, a, directory, path, &root));
  const yaml_node *name = root && root->kind == YAML_MAP ? yaml_get(root, "_class_name") : NULL;
  if (!name || name->kind != YAML_SCALAR) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: missing", path);
  *out = name->text;
  return ELBO_OK;
}

elbo_status model_directory_read_spec(elbo_ctx *ctx, arena *a, const char *directory, vae_spec *spec, int64_t *step) {
  char path[PATH_MAX], folder[PATH_MAX];
  yaml_node *root = NULL;
  *spec = (vae_spec){0};
  TRY(read_index(ctx, a, directory, path, &root));
  const yaml_node *of = yaml_get(root, "_elbo");
  if (!of) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _elbo: missing", path);
  index_config index;
  TRY(config_load(ctx, a, &index_table, of, "_elbo", &index));
  for (int i = 0; i < N_COMPONENTS; i++) {
    config_field fields[MAX_FIELDS];
    config_table table = component_table(&components[i], fields);
    component_file file = {0};
    TRY(path_join(ctx, folder, sizeof folder, directory, components[i].name));
    TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
    TRY(yaml_read(ctx, a, path, &root));
    TRY(config_load(ctx, a, &table, root, "", &file));
    if (strcmp(file._class_name, components[i].class_name) != 0)
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: %s was expected, not %s", path, components[i].class_name, file._class_name);
    memcpy((char *)&spec->model + components[i].offset, (char *)&file.model + components[i].offset, components[i].table->struct_size);
    if (strcmp(components[i].name, "prior") == 0) spec->model.latent = file.model.latent, spec->model.condition = file.model.condition;
  }
  spec->model.preset = strcmp(index.preset, "vae-gan") == 0 ? MODEL_VAE_GAN : strcmp(index.preset, "lsgm") == 0 ? MODEL_LSGM : MODEL_VAE;
  spec->shape = (picture_shape){index.height, index.width, index.channels};
  spec->classes = index.classes;
  spec->bits = (int)index.bits, spec->binarize = (int)index.binarize, spec->dequantize = (int)index.dequantize;
  *step = index.step;
  return vae_spec_check(ctx, spec, directory);
}

// A component without parameters has no file.
static elbo_status read_component(elbo_ctx *ctx, const char *directory, const char *name, elbo_store *store) {
  char folder[PATH_MAX], path[PATH_MAX];
  bool wanted = false, found;
  size_t prefix = strlen(name);
  for (int i = 0; i < elbo_store_count(store) && !wanted; i++) {
    elbo_param_info p;
    TRY(elbo_store_get(store, i, &p));
    wanted = !strncmp(p.name, name, prefix) && p.name[prefix] == '.';
  }
  TRY(path_join(ctx, folder, sizeof folder, directory, name));
  TRY(weights_locate(ctx, folder, path, sizeof path, &found));
  if (!wanted && !found) return ELBO_OK;
  weights *w;
  TRY(weights_open(ctx, folder, &w));
  elbo_status status = weights_load_into_store(ctx, w, name, store);
  weights_close(&w);
  return status;
}

elbo_status model_directory_read_weights(elbo_ctx *ctx, const char *directory, elbo_store *store) {
  for (int i = 0; i < N_COMPONENTS; i++) TRY(read_component(ctx, directory, components[i].name, store));
  elbo_store_touch(store);
  return ELBO_OK;
}

#define MIXTURE "prior/fitted_mixture.safetensors"

elbo_status model_directory_write_mixture(elbo_ctx *ctx, const char *directory, const gaussian_mixture *m) {
  char path[PATH_MAX];
  size_t k = (size_t)m->components, d = (size_t)m->d;
  tensor_view views[3] = {
      {.name = "factor", .rank = 3, .dim = {m->components, m->d, m->d}, .data = m->factor, .bytes = k * d * d * 4},
      {.name = "mean", .rank = 2, .dim = {m->components, m->d}, .data = m->mean, .bytes = k * d * 4},
      {.name = "weight", .rank = 1, .dim = {m->components}, .data = m->weight, .bytes = k * 4},
  };
  TRY(path_join(ctx, path, sizeof path, directory, MIXTURE));
  return safetensors_write(ctx, path, 3, views, 1, (const char *const[]){"format", "pt"});
}

elbo_status model_directory_read_mixture(elbo_ctx *ctx, const char *directory, int64_t d, gaussian_mixture *m) {
  *m = (gaussian_mixture){0};
  char path[PATH_MAX];
  TRY(path_join(ctx, path, sizeof path, directory, MIXTURE));
  if (!file_exists(path)) return ELBO_OK;
  safetensors *file = NULL;
  TRY(safetensors_open(ctx, path, &file));
  const tensor_view *factor = safetensors_find(file, "factor"), *mean = safetensors_find(file, "mean"),
                    *weight = safetensors_find(file, "weight");
  int64_t k = weight && weight->rank == 1 ? weight->dim[0] : 0;
  bool fits = k > 0 && k <= 1024 && weight->dtype == ELBO_F32 && mean && mean->dtype == ELBO_F32 && mean->rank == 2 && mean->dim[0] == k &&
              mean->dim[1] == d && factor && factor->dtype == ELBO_F32 && factor->rank == 3 && factor->dim[0] == k && factor->dim[1] == d &&
              factor->dim[2] == d;
  elbo_status status = fits ? gaussian_mixture_new(ctx, k, d, m)
                            : fail(ctx, ELBO_ERROR_FORMAT, "%s: float32 weight (k), mean (k,%lld) and factor (k,%lld,%lld) were expected",
                                   path, (long long)d, (long long)d, (long long)d);
  if (status == ELBO_OK) {
    memcpy(m->weight, weight->data, weight->bytes);
    memcpy(m->mean, mean->data, mean->bytes);
    memcpy(m->factor, factor->data, factor->bytes);
  }
  safetensors_close(&file);
  return status;
}
