// Training a diffusion over the codes of a frozen diffusion autoencoder.
#include <math.h>
#include <string.h>

#include "graph/store.h"
#include "models/diffusion_decoder_task.h"

static elbo_status check_autoencoder(elbo_ctx *ctx, const elbo_model *m, const char *name, const elbo_dataset_info *info,
                                     const char *file) {
  if (!m || m->kind != &model_kind_decoder || m->decoder->spec.told != TOLD_CODE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.autoencoder: '%s' is a model of kind %s; a diffae was expected", file, name,
                m ? m->kind->preset : "none");
  const diffusion_spec *s = &m->diffusion->spec;
  if (s->height == info->height && s->width == info->width && s->channels == info->channels) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.autoencoder: '%s' is of pictures %lld x %lld x %lld; the data are %d x %d x %d", file,
              name, (long long)s->height, (long long)s->width, (long long)s->channels, info->height, info->width, info->channels);
}

static elbo_status prior_spec_make(elbo_ctx *ctx, arena *a, const code_prior_recipe *recipe, int64_t dim, const char *file,
                                   diffusion_spec *out) {
  diffusion_recipe codes = {.model = recipe->model.diffusion, .objective = recipe->objective, .sample = recipe->sample};
  const elbo_dataset_info info = {.height = 1, .width = 1, .channels = (int)dim};
  codes.model.preset = 0;
  codes.model.condition = (diffusion_condition_config){.dim = 1, .tokens = 1, .factor = 2};
  if (codes.model.process.type == PROCESS_LEARNED)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: model.process.type: learned is of preset vdm, whose bound trains it; another was expected",
                file);
  return diffusion_spec_make(ctx, a, &codes, &info, file, out);
}

// The autoencoder's weights, and mean and deviation of its codes over training examples.
static elbo_status take_autoencoder(void *user, elbo_store *weights) {
  const decoder_task *t = user;
  elbo_array *codes = NULL;
  elbo_param_info mean, scale;
  TRY(decoder_copy_frozen(weights, t->frozen->store, DENOISER_SCOPE "."));
  TRY(elbo_store_find(weights, CODE_MEAN, &mean));
  TRY(elbo_store_find(weights, CODE_SCALE, &scale));
  TRY(decoder_training_codes(t, t->frozen, &codes));
  const int64_t n = codes->dim[0], d = codes->dim[1];
  for (int64_t k = 0; k < d; k++) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)((float *)codes->data)[i * d + k];
    for (int64_t i = 0; i < n; i++) square += pow((double)((float *)codes->data)[i * d + k] - sum / (double)n, 2);
    double deviation = sqrt(square / (double)n);
    mean.data[k] = (float)(sum / (double)n), scale.data[k] = (float)(deviation > 1e-6 ? deviation : 1); // a number that never changes
  }
  elbo_array_destroy(&codes);
  elbo_store_touch(weights);
  return ELBO_OK;
}

static elbo_status statistics_of(elbo_store *weights, elbo_param_info *mean, elbo_param_info *scale) {
  TRY(elbo_store_find(weights, CODE_MEAN, mean));
  return elbo_store_find(weights, CODE_SCALE, scale);
}

static elbo_status save_prior(void *user, elbo_store *weights, const char *directory, int64_t step) {
  const decoder_task *t = user;
  elbo_param_info mean, scale;
  TRY(statistics_of(weights, &mean, &scale));
  TRY(decoder_directory_write(t->ctx, directory, &t->spec, t->frozen->store, NULL, step));
  if (t->frozen->fitted.components) TRY(decoder_directory_write_mixture(t->ctx, directory, &t->frozen->fitted));
  return decoder_directory_write_prior(t->ctx, directory, &t->prior, weights, mean.data, scale.data, step);
}

static elbo_status preview_prior(void *user, elbo_store *weights, int64_t step, const char *directory) {
  const decoder_task *t = user;
  elbo_model m, prior;
  elbo_param_info mean, scale;
  if (!decoder_has_pictures(&t->spec.pixels)) return ELBO_OK;
  TRY(statistics_of(weights, &mean, &scale));
  TRY(diffusion_view(t->ctx, &t->prior, weights, &prior));
  elbo_status status = decoder_view(t->ctx, &t->spec, t->frozen->store, NULL, &m);
  if (status == ELBO_OK) {
    m.decoder->prior = &prior, m.decoder->mean = mean.data, m.decoder->scale = scale.data;
    status = decoder_preview_samples(t, &m, step, directory);
    decoder_view_close(&m);
  }
  diffusion_view_close(&prior);
  return status;
}

static elbo_status create_prior(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const code_prior_recipe *recipe = request->config;
  elbo_dataset_info info;
  decoder_task *t;
  elbo_dataset_get_info(request->data, &info);
  TRY(check_autoencoder(ctx, request->frozen, recipe->model.autoencoder, &info, request->file));
  TRY(decoder_task_new(ctx, request, &t));
  t->spec = t->frozen->decoder->spec;
  elbo_status status = prior_spec_make(ctx, t->arena, recipe, t->spec.code.dim, request->file, &t->prior);
  if (status != ELBO_OK) {
    decoder_task_destroy(t);
    return status;
  }
  t->source = (diffusion_source){code_prior_batch, &t->spec};
  diffusion_hooks hooks = {.user = t,
                           .source = &t->source,
                           .prefix = DENOISER_SCOPE ".",
                           .initialize = take_autoencoder,
                           .save = save_prior,
                           .preview = preview_prior,
                           .destroy = decoder_task_destroy};
  return diffusion_task_create(ctx, request, &t->prior, &recipe->objective, &hooks, out);
}

static elbo_status forward_prior(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  const elbo_dataset_info *info = &request->info;
  diffusion_spec spec;
  *graph = NULL;
  if (info->height != 1 || info->width != 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: bench.shape: [1, 1, numbers of a code] was expected: the network is of codes",
                request->file);
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a network");
  elbo_status status = prior_spec_make(ctx, a, request->config, info->channels, request->file, &spec);
  status = decoder_forward(ctx, request, status, &spec, graph, out);
  arena_destroy(&a);
  return status;
}

static const char *const prior_defaults[] = {"model.network=mlp", "sample.sampler=dpmpp_2m", "sample.steps=25", NULL};
const preset_def preset_code_prior = {.name = "code-prior",
                                      .summary = "a diffusion over a diffusion autoencoder's codes",
                                      .sections = &code_prior_sections,
                                      .defaults = prior_defaults,
                                      .create = create_prior,
                                      .forward = forward_prior,
                                      .frozen = {"model.autoencoder", offsetof(code_prior_recipe, model.autoencoder)}};
