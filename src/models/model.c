#include "models/model.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "core/number.h"
#include "graph/store.h"
#include "models/autoencoder.h"
#include "models/diffusion_decoder.h"
#include "models/lsgm_model.h"
#include "train/run.h"

void elbo_model_defaults(elbo_model_config *config) { *config = (elbo_model_config){.size = sizeof *config, .step = -1, .batch_size = 64}; }

static void count_params(elbo_model *m) {
  elbo_param_info p;
  m->params = 0;
  for (int i = 0; i < elbo_store_count(m->store); i++)
    if (elbo_store_get(m->store, i, &p) == ELBO_OK && p.kind == ELBO_PARAM_TRAINED) m->params += p.count;
}

// --- kinds ---

static const model_kind *const kinds[] = {&model_kind_vae,         &model_kind_diffusion, &model_kind_classifier,
                                          &model_kind_autoencoder, &model_kind_lsgm,      &model_kind_decoder};

const model_kind *model_kind_of_class(const char *class_name) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (const char *const *name = kinds[i]->class_names; *name; name++)
      if (strcmp(*name, class_name) == 0) return kinds[i];
  return NULL;
}

static elbo_status find_kind(elbo_model *m, const char *directory) {
  const char *class_name;
  char known[512] = "";
  size_t used = 0;
  TRY(model_directory_class(m->ctx, m->arena, directory, &class_name));
  m->kind = model_kind_of_class(class_name);
  if (m->kind) return ELBO_OK;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (const char *const *name = kinds[i]->class_names; *name && used < sizeof known; name++)
      used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", *name);
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: _class_name: '%s'; one of %s was expected", directory, class_name, known);
}

// The `engine` section of the run that a checkpoint belongs to. What cannot be read says nothing.
static void take_engine_of_run(elbo_model *m, const char *directory) {
  static const char *const names[] = {"float32", "bfloat16", "bfloat16-emulated"}; // elbo_precision
  char path[PATH_MAX];
  yaml_node *root = NULL;
  if (path_join(m->ctx, path, sizeof path, directory, "../../recipe.yaml") != ELBO_OK || !file_exists(path)) return;
  if (yaml_read(m->ctx, m->arena, path, &root) != ELBO_OK) return;
  const yaml_node *engine = yaml_get(root, "engine"), *winograd = yaml_get(engine, "winograd"), *precision = yaml_get(engine, "precision");
  const yaml_node *keep = yaml_get(engine, "keep_transformed");
  if (keep && keep->kind == YAML_SCALAR) bytes_parse(keep->text, &m->store->keep_transformed);
  m->store->no_winograd = winograd && winograd->kind == YAML_SCALAR && strcmp(winograd->text, "off") == 0;
  for (int i = 0; i < 3; i++)
    if (precision && precision->kind == YAML_SCALAR && strcmp(precision->text, names[i]) == 0) m->store->precision = i;
}

static elbo_status cannot(const elbo_model *m, const char *what) {
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "%s: this model (%s) %s", what, m->kind->preset, m->kind->why_not);
}

// Which weights are meant, and what they are called. The first average is what the directory itself holds.
static elbo_status choose_weights(elbo_model *m, const char *directory, double ema) {
  double there[MOST_AVERAGES];
  char number[NUMBER_TEXT];
  int n = -1;
  if (!(ema == 0 || ema == -1 || (ema > 0 && ema < 1)))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "ema: %s; expected the decay of an average, between 0 and 1, or -1", number_text(ema, number));
  if (ema > 0) TRY(run_list_averages(m->ctx, directory, there, &n));
  m->ema = n > 0 && there[0] == ema ? 0 : ema;
  m->weights = m->ema < 0 ? "raw" : m->ema > 0 ? arena_printf(m->arena, "ema %s", number_text(ema, number)) : "ema";
  return m->weights ? ELBO_OK : fail_memory(m->ctx, NUMBER_TEXT, "a model");
}

// Options are a diffusion decoder's alone, so that a slip shows.
static elbo_status take_options(elbo_model *m, const elbo_model_config *config) {
  if (config->n_options < 1) return ELBO_OK;
  if (!m->decoder)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "'%s': this model (%s) does not decode by a sampler, and takes no such keys",
                config->options[0], m->kind->preset);
  m->options = arena_alloc(m->arena, (size_t)config->n_options * sizeof *m->options);
  for (int i = 0; m->options && i < config->n_options; i++)
    if (!(m->options[i] = arena_string(m->arena, config->options[i]))) m->options = NULL;
  if (!m->options) return fail_memory(m->ctx, 64, "options");
  m->n_options = config->n_options;
  return ELBO_OK;
}

elbo_status elbo_model_load(elbo_ctx *ctx, const char *path, const elbo_model_config *config, elbo_model **out) {
  *out = NULL;
  elbo_model_config defaults;
  elbo_model_defaults(&defaults);
  if (!config) config = &defaults;
  elbo_status status;
  elbo_model *m = calloc(1, sizeof *m);
  if (!m) return fail_memory(ctx, sizeof *m, "a model");
  m->ctx = ctx, m->batch_size = config->batch_size > 0 ? config->batch_size : defaults.batch_size;
  m->arena = arena_create(1 << 14);
  char directory[PATH_MAX];
  int64_t run_step = -1;
  if (!m->arena) {
    status = fail_memory(ctx, 1 << 14, "a model");
    goto fail;
  }
  if (run_is_run(path)) {
    TRY_GOTO(run_find_checkpoint(ctx, path, config->step, directory, sizeof directory, &run_step));
  } else {
    if (strlen(path) >= sizeof directory) {
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "the model's path is longer than %zu bytes", sizeof directory);
      goto fail;
    }
    strcpy(directory, path);
  }
  TRY_GOTO(find_kind(m, directory));
  TRY_GOTO(choose_weights(m, directory, config->ema));
  TRY_GOTO(m->kind->open(m, directory));
  TRY_GOTO(take_options(m, config));
  if (run_step >= 0) m->step = run_step;
  if (m->store) take_engine_of_run(m, directory);
  count_params(m);
  *out = m;
  return ELBO_OK;
fail:
  elbo_model_destroy(&m);
  return status;
}

void elbo_model_destroy(elbo_model **model) {
  if (!model || !*model) return;
  if ((*model)->kind && (*model)->kind->close) (*model)->kind->close(*model);
  elbo_store_destroy(&(*model)->store);
  gaussian_mixture_free(&(*model)->fitted);
  if ((*model)->arena) arena_destroy(&(*model)->arena);
  free(*model);
  *model = NULL;
}

// --- arguments ---

const char *array_text(const elbo_array *a, char *text, size_t size) {
  if (!a) return "nothing";
  size_t used = (size_t)snprintf(text, size, "%s (", elbo_dtype_name(a->dtype));
  for (int i = 0; i < a->rank && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, i ? ",%lld" : "%lld", (long long)a->dim[i]);
  if (used < size) snprintf(text + used, size - used, ")");
  return text;
}

// --- calls ---

void elbo_model_get_info(const elbo_model *m, elbo_model_info *out) { m->kind->info(m, out); }

void elbo_sample_defaults(elbo_sample_config *config) {
  *config = (elbo_sample_config){.size = sizeof *config, .n = 64, .label = -1, .temperature = 1};
}

elbo_status elbo_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x) {
  *x = NULL;
  elbo_sample_config defaults;
  elbo_sample_defaults(&defaults);
  if (!config) config = &defaults;
  if (config->n < 1) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: n is %lld; at least 1 was expected", (long long)config->n);
  if (!(config->temperature >= 0)) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: temperature: at least 0 was expected");
  if (config->decode_memory < 0)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "sample: decode_memory: %lld; a number of bytes was expected",
                (long long)config->decode_memory);
  if (config->decode_memory && !(m->diffusion && m->diffusion->spec.latent && m->diffusion->spec.latent->autoencoder->autoencoder))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT,
                "sample: decode_memory: only what is drawn as the codes of an AutoencoderKL is decoded in bands");
  return m->kind->sample ? m->kind->sample(m, config, x) : cannot(m, "sample");
}

elbo_status elbo_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed, elbo_array **out) {
  *out = NULL;
  return m->kind->reconstruct ? m->kind->reconstruct(m, x, label, sample, seed, out) : cannot(m, "reconstruct");
}

elbo_status elbo_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev) {
  *mean = NULL;
  if (stddev) *stddev = NULL;
  return m->kind->encode ? m->kind->encode(m, x, label, mean, stddev) : cannot(m, "encode");
}

elbo_status elbo_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x) {
  *x = NULL;
  return m->kind->decode ? m->kind->decode(m, codes, label, x) : cannot(m, "decode");
}

elbo_status elbo_encode_noise(elbo_model *m, const elbo_array *x, const elbo_array *codes, elbo_array **noise) {
  *noise = NULL;
  if (m->kind->encode_noise) return m->kind->encode_noise(m, x, codes, noise);
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "encode: noise: this model (%s) has no diffusion for a decoder", m->kind->preset);
}

elbo_status elbo_decode_noise(elbo_model *m, const elbo_array *codes, const elbo_array *noise, elbo_array **x) {
  *x = NULL;
  if (m->kind->decode_noise) return m->kind->decode_noise(m, codes, noise, x);
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "decode: noise: this model (%s) has no diffusion for a decoder", m->kind->preset);
}

void elbo_decode_defaults(elbo_decode_config *config) { *config = (elbo_decode_config){.size = sizeof *config}; }

elbo_status elbo_decode_tiled(elbo_model *m, const elbo_array *codes, const elbo_decode_config *config, elbo_array **x) {
  *x = NULL;
  if (m->kind->decode_tiled) return m->kind->decode_tiled(m, codes, config, x);
  return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "decode: this model (%s) is decoded whole", m->kind->preset);
}

elbo_status elbo_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x) {
  *x = NULL;
  return m->kind->interpolate ? m->kind->interpolate(m, a, b, label, steps, x) : cannot(m, "interpolate");
}

elbo_status elbo_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  *out = NULL;
  elbo_eval_config defaults;
  elbo_eval_defaults(&defaults);
  if (!config) config = &defaults;
  if ((int)config->split < 0 || config->split > ELBO_SPLIT_TEST) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "evaluate: no such split");
  return m->kind->evaluate ? m->kind->evaluate(m, data, config, out) : cannot(m, "eval");
}
