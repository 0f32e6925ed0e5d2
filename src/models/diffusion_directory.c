// Diffusion models on disk. Written here: diffusers' layout where it has classes for the parts, and in "_elbo" of the index (which
// diffusers passes over) what its files have no place for. Read: that, any pipeline with a network that we know, or a network's folder
// alone.
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/config_json.h"
#include "core/file.h"
#include "core/json.h"
#include "models/autoencoder.h"
#include "models/diffusion_model.h"
#include "models/pipeline_index.h"
#include "models/weights.h"

typedef struct diffusion_index {
  const char *preset;
  int64_t height, width, channels, classes, bits, step;
  diffusion_config model; // without the network, which has a file of its own
  sampling_config sample;
} diffusion_index;
static const config_field index_fields[] = {
    CONFIG_STRING(diffusion_index, preset, NULL, "kind of model"),
    CONFIG_INT(diffusion_index, height, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(diffusion_index, width, 1, 16384, NULL, "pixels", "of x"),
    CONFIG_INT(diffusion_index, channels, 1, 1e6, NULL, "", "of x"),
    CONFIG_INT(diffusion_index, classes, 0, 1e6, "0", "", "of the data"),
    CONFIG_INT(diffusion_index, bits, 0, 16, "8", "", "of a pixel of the training data, 0: float"),
    CONFIG_INT(diffusion_index, step, -1, 9e18, "-1", "steps", "of training"),
    {"process", CONFIG_TYPE_SECTION, offsetof(diffusion_index, model.process), 0, 0, "{}", "", "", NULL, &process_table, 0},
    {"prediction", CONFIG_TYPE_ENUM, offsetof(diffusion_index, model.prediction), 0, 0, "epsilon", "", "", PREDICTION_NAMES, NULL, 0},
    {"variance", CONFIG_TYPE_ENUM, offsetof(diffusion_index, model.variance), 0, 0, "fixed_small", "", "", REVERSE_VARIANCE_NAMES, NULL, 0},
    {"sigma_data", CONFIG_TYPE_FLOAT, offsetof(diffusion_index, model.sigma_data), 1e-4, 1e4, "0.5", "", "", NULL, NULL, 0},
    {"time_input", CONFIG_TYPE_ENUM, offsetof(diffusion_index, model.time_input), 0, 0, "auto", "", "", TIME_INPUT_NAMES, NULL, 0},
    {"mixing", CONFIG_TYPE_ENUM, offsetof(diffusion_index, model.mixing), 0, 0, "none", "", "", SCORE_MIXING_NAMES, NULL, 0},
    {"condition", CONFIG_TYPE_SECTION, offsetof(diffusion_index, model.condition), 0, 0, "{}", "", "", NULL,
     &diffusion_condition_file_table, 0},
    CONFIG_SECTION(diffusion_index, sample, &sampling_table),
};
static const config_table index_table = CONFIG_TABLE("_elbo", diffusion_index, index_fields, "what the model is of");

#define OWN_PIPELINE "ElboDiffusion"

// The scheduler that diffusers would draw samples with; false: it has none for this process.
static bool scheduler_for_diffusers(elbo_ctx *ctx, arena *a, const diffusion_spec *spec, scheduler_config *out) {
  const diffusion_config *m = &spec->model;
  if (m->process.type == PROCESS_LEARNED) return false;
  if (scheduler_from_sampler(ctx, a, &m->process, m->prediction, m->sigma_data, &spec->sample.solver, NULL, "sample", out) == ELBO_OK &&
      out->class_ != SCHEDULER_OWN)
    return true;
  return scheduler_of_process(ctx, a, &m->process, m->prediction, m->sigma_data, out) == ELBO_OK;
}

// Weights that belong to no class of diffusers'.
static elbo_status write_part(elbo_ctx *ctx, const char *directory, const char *scope, elbo_store *store) {
  char folder[PATH_MAX];
  TRY(path_join(ctx, folder, sizeof folder, directory, scope));
  TRY(directory_make(ctx, folder));
  return weights_write(ctx, folder, scope, store);
}

static elbo_status write_network(elbo_ctx *ctx, const char *directory, const diffusion_spec *spec, elbo_store *store) {
  char folder[PATH_MAX], path[PATH_MAX];
  TRY(path_join(ctx, folder, sizeof folder, directory, denoiser_folder(&spec->model.denoiser)));
  TRY(directory_make(ctx, folder));
  TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
  TRY(denoiser_write(ctx, path, &spec->model.denoiser));
  TRY(weights_write(ctx, folder, DENOISER_SCOPE, store));
  if (spec->model.process.type == PROCESS_LEARNED) TRY(write_part(ctx, directory, PROCESS_SCOPE, store));
  return spec->model.condition.type == DIFFUSION_CODE ? write_part(ctx, directory, CODE_SCOPE, store) : ELBO_OK;
}

// Whether the network is told what no pipeline of diffusers' tells it.
static bool of_ours(const diffusion_spec *spec) {
  return spec->model.condition.type == DIFFUSION_CODE || spec->model.condition.type == DIFFUSION_RECONSTRUCTION;
}

// diffusers' pipeline for these parts, and the name of its autoencoder; OWN_PIPELINE where it has none.
static const char *pipeline_class(const diffusion_spec *spec, bool has_scheduler, const char **autoencoder) {
  const diffusion_config *m = &spec->model;
  bool diffusers = true, unet = m->denoiser.network == DENOISER_UNET && has_scheduler;
  *autoencoder = "vae";
  if (m->mixing || of_ours(spec)) return OWN_PIPELINE; // which theirs know nothing of
  if (!spec->latent) return unet ? "DDPMPipeline" : OWN_PIPELINE;
  const char *class_name = latent_space_class(spec->latent, &diffusers);
  if (unet && diffusers && m->denoiser.unet.class == UNET_2D) {
    *autoencoder = "vqvae"; // whatever its class
    return "LDMPipeline";
  }
  const bool kl = !strcmp(class_name, "AutoencoderKL"), dit = m->denoiser.network == DENOISER_DIT && has_scheduler;
  return kl && dit && m->condition.type == DIFFUSION_CLASS ? "DiTPipeline" : OWN_PIPELINE;
}

static void add_autoencoder(json_t *index, const latent_space *s, const char *name) {
  bool diffusers;
  const char *class_name = latent_space_class(s, &diffusers);
  json_object_set_new(index, name, json_pack("[ss]", diffusers ? "diffusers" : "elbo", class_name));
  json_object_set_new(index, "_elbo_latent", latent_space_json(s));
}

elbo_status diffusion_directory_write(elbo_ctx *ctx, const char *directory, const diffusion_spec *spec, elbo_store *store, int64_t step) {
  const diffusion_config *m = &spec->model;
  diffusion_index of = {.preset = m->preset ? "vdm" : "ddpm",
                        .height = spec->height,
                        .width = spec->width,
                        .channels = spec->channels,
                        .classes = spec->classes,
                        .bits = spec->bits,
                        .step = step,
                        .model = *m,
                        .sample = spec->sample};
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a model's index");
  scheduler_config scheduler;
  char path[PATH_MAX];
  elbo_status status;
  bool diffusers_network = m->denoiser.network == DENOISER_UNET || m->denoiser.network == DENOISER_DIT;
  bool has_scheduler = scheduler_for_diffusers(ctx, a, spec, &scheduler);
  json_t *index = json_object();
  const char *autoencoder;
  json_object_set_new(index, "_class_name", json_string(pipeline_class(spec, has_scheduler, &autoencoder)));
  json_object_set_new(index, "_elbo_version", json_string(elbo_version()));
  json_object_set_new(index, "_elbo", config_json(&index_table, &of));
  json_object_set_new(index, denoiser_folder(&m->denoiser),
                      json_pack("[ss]", diffusers_network ? "diffusers" : "elbo", denoiser_class_name(&m->denoiser)));
  if (has_scheduler) json_object_set_new(index, "scheduler", json_pack("[ss]", "diffusers", scheduler_class_name(scheduler.class_)));
  if (spec->latent) add_autoencoder(index, spec->latent, autoencoder);
  TRY_GOTO(path_join(ctx, path, sizeof path, directory, "model_index.json"));
  TRY_GOTO(json_write(ctx, path, index));
  if (spec->latent) TRY_GOTO(latent_space_write(spec->latent, directory, autoencoder));
  if (has_scheduler) {
    TRY_GOTO(path_join(ctx, path, sizeof path, directory, "scheduler"));
    TRY_GOTO(directory_make(ctx, path));
    TRY_GOTO(path_join(ctx, path, sizeof path, directory, "scheduler/scheduler_config.json"));
    TRY_GOTO(scheduler_write(ctx, &scheduler, path));
  }
  status = write_network(ctx, directory, spec, store);
fail:
  json_decref(index);
  arena_destroy(&a);
  return status;
}

// --- reading ---

// The index and the network's config come from two files: what they say of channels and classes must agree, since the sizes of rows follow
// from the one and the network's results from the other.
static elbo_status check_network(elbo_ctx *ctx, const yaml_node *of, const diffusion_spec *spec) {
  denoiser_needs needs = denoiser_config_needs(&spec->model.denoiser);
  int64_t in = spec->channels + diffusion_extra_channels(spec), out = spec->channels * (diffusion_learned_variance(spec) ? 2 : 1);
  if (needs.in_channels != in || needs.out_channels != out)
    return yaml_fail(ctx, of, "_elbo", "says %lld channels to %lld; the network's config has %lld to %lld", (long long)in, (long long)out,
                     (long long)needs.in_channels, (long long)needs.out_channels);
  if (spec->model.condition.type == DIFFUSION_CLASS && (needs.class_labels != CLASS_INPUT_INDEX || needs.classes < spec->classes))
    return yaml_fail(ctx, of, "_elbo", "says %lld classes; the network's config has %lld", (long long)spec->classes,
                     (long long)needs.classes);
  if (spec->model.condition.type == DIFFUSION_CODE && needs.class_labels != CLASS_INPUT_VECTOR)
    return yaml_fail(ctx, of, "_elbo", "says that the network is told of a code; its config takes no vector");
  const int64_t context = spec->model.condition.type == DIFFUSION_CONTEXT ? spec->model.condition.dim : 0;
  if (needs.context_dim != context)
    return yaml_fail(ctx, of, "_elbo", "says a context of width %lld; the network's config has %lld", (long long)context,
                     (long long)needs.context_dim);
  return ELBO_OK;
}

static elbo_status read_own(elbo_ctx *ctx, arena *a, const yaml_node *of, diffusion_spec *spec, int64_t *step) {
  diffusion_index index;
  TRY(config_load(ctx, a, &index_table, of, "_elbo", &index));
  denoiser_config denoiser = spec->model.denoiser;
  spec->model = index.model, spec->model.denoiser = denoiser, spec->model.preset = strcmp(index.preset, "vdm") == 0;
  spec->sample = index.sample;
  spec->height = index.height, spec->width = index.width, spec->channels = index.channels;
  spec->classes = index.classes, spec->bits = (int)index.bits;
  *step = index.step;
  return check_network(ctx, of, spec);
}

// What a network of diffusers' says by its own config.
static elbo_status spec_of_network(elbo_ctx *ctx, const char *directory, diffusion_spec *spec) {
  denoiser_needs needs = denoiser_config_needs(&spec->model.denoiser);
  denoiser_sample_size(&spec->model.denoiser, &spec->height, &spec->width);
  if (spec->height < 1 || spec->width < 1)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: the network's config has no sample_size: the size of the pictures is not known", directory);
  bool learned = needs.out_channels == 2 * needs.in_channels;
  if (needs.out_channels != needs.in_channels && !learned)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: a network of %lld to %lld channels: its condition is not known; elbo apply runs it",
                directory, (long long)needs.in_channels, (long long)needs.out_channels);
  spec->channels = needs.in_channels, spec->bits = 8;
  spec->model.variance = learned ? REVERSE_LEARNED_RANGE : REVERSE_FIXED_SMALL;
  if (needs.class_labels == CLASS_INPUT_INDEX) {
    bool null_class = needs.null_class;
    spec->model.condition.type = DIFFUSION_CLASS, spec->classes = needs.classes - null_class;
    spec->model.condition.dropout = null_class ? 0.1 : 0;
  } else if (needs.class_labels == CLASS_INPUT_VECTOR) {
    spec->model.condition.type = DIFFUSION_VECTOR, spec->model.condition.dim = needs.class_dim;
  } else if (needs.context_dim) {
    spec->model.condition.type = DIFFUSION_CONTEXT, spec->model.condition.dim = needs.context_dim, spec->model.condition.tokens = 77;
  }
  return ELBO_OK;
}

// The component of a pipeline that is a network of ours; NULL when there is none.
static const pipeline_component *find_network(const pipeline_index *index) {
  for (int i = 0; i < index->n; i++)
    if (index->components[i].class_name && denoiser_knows_class(index->components[i].class_name)) return &index->components[i];
  return NULL;
}

static elbo_status read_scheduler(elbo_ctx *ctx, arena *a, const char *directory, const pipeline_index *index, diffusion_model *out) {
  char path[PATH_MAX];
  bool named = pipeline_index_find(index, "scheduler") != NULL;
  TRY(path_join(ctx, path, sizeof path, directory, "scheduler/scheduler_config.json"));
  if (!named && !file_exists(path)) return ELBO_OK;
  TRY(scheduler_read(ctx, a, path, &out->scheduler));
  out->has_scheduler = true;
  out->spec.model.prediction = out->scheduler.prediction, out->spec.model.sigma_data = out->scheduler.sigma_data;
  scheduler_process(&out->scheduler, &out->spec.model.process);
  out->spec.model.time_input = TIME_INPUT_INDEX; // the network is told what the scheduler says
  return ELBO_OK;
}

// The component that turns states into pictures; NULL: the states are the pictures.
static const pipeline_component *find_autoencoder(const pipeline_index *index) {
  for (int i = 0; i < index->n; i++) {
    const pipeline_component *c = &index->components[i];
    const model_kind *kind = c->class_name ? model_kind_of_class(c->class_name) : NULL;
    if ((!strcmp(c->name, "vae") || !strcmp(c->name, "vqvae")) && (kind == &model_kind_autoencoder || kind == &model_kind_vae)) return c;
  }
  return NULL;
}

static elbo_status read_autoencoder(elbo_ctx *ctx, arena *a, const char *directory, const pipeline_index *index, const yaml_node *own,
                                    diffusion_model *out) {
  const pipeline_component *c = find_autoencoder(index);
  const picture_shape state = {out->spec.height, out->spec.width, out->spec.channels};
  if (!c) return ELBO_OK;
  TRY(latent_space_read(ctx, a, directory, c->name, own, &state, &out->spec.latent));
  out->spec.bits = 0; // states are numbers, whatever the pictures are
  return ELBO_OK;
}

static elbo_status read_pipeline(elbo_ctx *ctx, arena *a, const char *directory, const pipeline_index *index, diffusion_model *out,
                                 int64_t *step) {
  const pipeline_component *network = find_network(index);
  if (!network)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: no component is a network that is known here (%s)", directory, DENOISER_CLASS_NAMES);
  char path[PATH_MAX];
  TRY(path_join(ctx, path, sizeof path, network->folder, "config.json"));
  TRY(denoiser_read(ctx, a, path, &out->spec.model.denoiser));
  out->network_folder = arena_string(a, network->name);
  if (!out->network_folder) return fail_memory(ctx, strlen(network->name), "a model's index");
  if (pipeline_index_value(index, "_elbo")) {
    yaml_node *root = NULL;
    TRY(path_join(ctx, path, sizeof path, directory, "model_index.json"));
    TRY(yaml_read(ctx, a, path, &root));
    TRY(read_own(ctx, a, yaml_get(root, "_elbo"), &out->spec, step));
    return read_autoencoder(ctx, a, directory, index, yaml_get(root, "_elbo_latent"), out);
  }
  TRY(spec_of_network(ctx, directory, &out->spec));
  TRY(read_scheduler(ctx, a, directory, index, out));
  return read_autoencoder(ctx, a, directory, index, NULL, out);
}

elbo_status diffusion_directory_read(elbo_ctx *ctx, arena *a, const char *directory, diffusion_model *out, int64_t *step) {
  char path[PATH_MAX];
  diffusion_recipe defaults;
  *step = -1;
  TRY(config_load(ctx, a, &diffusion_sections, NULL, "", &defaults));
  out->spec = (diffusion_spec){.model = defaults.model, .sample = defaults.sample};
  TRY(path_join(ctx, path, sizeof path, directory, "model_index.json"));
  if (!file_exists(path)) { // a network alone
    TRY(path_join(ctx, path, sizeof path, directory, "config.json"));
    TRY(denoiser_read(ctx, a, path, &out->spec.model.denoiser));
    return spec_of_network(ctx, directory, &out->spec);
  }
  pipeline_index *index = NULL;
  TRY(pipeline_index_open(ctx, directory, &index));
  elbo_status status = read_pipeline(ctx, a, directory, index, out, step);
  pipeline_index_close(&index);
  return status;
}

static elbo_status load_component(elbo_ctx *ctx, const char *folder, const char *scope, elbo_store *store) {
  weights *w = NULL;
  TRY(weights_open(ctx, folder, &w));
  elbo_status status = weights_lend_to_store(ctx, &w, scope, store);
  weights_close(&w);
  return status;
}

elbo_status diffusion_directory_weights(elbo_ctx *ctx, const char *directory, const diffusion_model *model, elbo_store *store) {
  char folder[PATH_MAX];
  if (model->network_folder)
    TRY(path_join(ctx, folder, sizeof folder, directory, model->network_folder));
  else
    snprintf(folder, sizeof folder, "%s", directory);
  TRY(load_component(ctx, folder, DENOISER_SCOPE, store));
  const bool part[] = {model->spec.model.process.type == PROCESS_LEARNED, model->spec.model.condition.type == DIFFUSION_CODE};
  static const char *const scope[] = {PROCESS_SCOPE, CODE_SCOPE};
  for (int i = 0; i < 2; i++) {
    if (!part[i]) continue;
    TRY(path_join(ctx, folder, sizeof folder, directory, scope[i]));
    TRY(load_component(ctx, folder, scope[i], store));
  }
  return ELBO_OK;
}
