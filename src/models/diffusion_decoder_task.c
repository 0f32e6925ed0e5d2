// Training diffusion decoders: a diffusion's task whose x and condition come from an encoder or a frozen VAE.
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "graph/store.h"
#include "models/diffusion_decoder_task.h"

enum { FIT_LIMIT = 5000, SHOWN = 16 };

void decoder_task_destroy(void *user) {
  decoder_task *t = user;
  arena_destroy(&t->arena);
  free(t);
}

elbo_status decoder_task_new(elbo_ctx *ctx, const preset_request *request, decoder_task **out) {
  decoder_task *t = calloc(1, sizeof *t);
  *out = t;
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->data = request->data, t->frozen = request->frozen, t->seed = (uint64_t)request->stage->train.seed;
  t->arena = arena_create(1 << 12);
  if (t->arena) return ELBO_OK;
  free(t);
  *out = NULL;
  return fail_memory(ctx, 1 << 12, "a task");
}

// Pictures of the data in the model's range.
static elbo_status read_pictures(const decoder_task *t, elbo_split split, int64_t first, int64_t n, int shuffle, elbo_array **x) {
  TRY(elbo_dataset_read(t->data, split, first, n, shuffle, t->seed, x, NULL));
  float *v = (*x)->data;
  for (int64_t i = 0, count = elbo_array_count(*x); t->spec.pixels.bits && i < count; i++) v[i] = 2 * v[i] - 1;
  return ELBO_OK;
}

// --- codes of training examples: for the mixture, and for the size of what a prior is of ---

elbo_status decoder_training_codes(const decoder_task *t, elbo_model *m, elbo_array **codes) {
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  elbo_array *x = NULL, *mean = NULL;
  elbo_status status;
  const int64_t n = info.count[ELBO_SPLIT_TRAIN] < FIT_LIMIT ? info.count[ELBO_SPLIT_TRAIN] : FIT_LIMIT, d = decoder_code_size(m);
  const int64_t size = (int64_t)info.height * info.width * info.channels, most = (4 << 20) / size, part = most < 64 ? 64 : most;
  TRY_GOTO(elbo_array_create(t->ctx, ELBO_F32, 2, (int64_t[]){n, d}, codes));
  for (int64_t at = 0; at < n; at += part) {
    int64_t count = n - at < part ? n - at : part;
    TRY_GOTO(read_pictures(t, ELBO_SPLIT_TRAIN, at, count, 1, &x));
    TRY_GOTO(elbo_encode(m, x, NULL, &mean, NULL));
    memcpy((float *)(*codes)->data + at * d, mean->data, elbo_array_bytes(mean));
    elbo_array_destroy(&x);
    elbo_array_destroy(&mean);
  }
  return ELBO_OK;
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&mean);
  elbo_array_destroy(codes);
  return status;
}

static elbo_status save_mixture(const decoder_task *t, elbo_store *weights, const char *directory) {
  elbo_model m;
  elbo_array *codes = NULL;
  gaussian_mixture mixture = {0};
  elbo_status status;
  TRY(decoder_view(t->ctx, &t->spec, weights, t->frozen, &m));
  TRY_GOTO(decoder_training_codes(t, &m, &codes));
  int64_t components = t->spec.code.fitted < codes->dim[0] ? t->spec.code.fitted : codes->dim[0];
  TRY_GOTO(gaussian_mixture_fit(t->ctx, codes->data, codes->dim[0], codes->dim[1], components, t->seed, &mixture));
  status = decoder_directory_write_mixture(t->ctx, directory, &mixture);
fail:
  gaussian_mixture_free(&mixture);
  elbo_array_destroy(&codes);
  decoder_view_close(&m);
  return status;
}

static elbo_status save(void *user, elbo_store *weights, const char *directory, int64_t step) {
  const decoder_task *t = user;
  TRY(decoder_directory_write(t->ctx, directory, &t->spec, weights, t->frozen, step));
  return t->spec.code.fitted ? save_mixture(t, weights, directory) : ELBO_OK;
}

// --- previews ---

static elbo_status write_grid(const decoder_task *t, const elbo_array *x, int columns, const char *directory, int64_t step,
                              const char *name) {
  elbo_array *unit = NULL, *grid = NULL;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/step-%lld%s.png", directory, (long long)step, name);
  TRY(elbo_array_convert(t->ctx, x, ELBO_F32, &unit));
  float *v = unit->data;
  for (int64_t i = 0, n = elbo_array_count(unit); t->spec.pixels.bits && i < n; i++) v[i] = 0.5f * v[i] + 0.5f;
  elbo_status status = elbo_image_grid(t->ctx, unit, columns, 400, &grid);
  if (status == ELBO_OK) status = elbo_image_write(t->ctx, path, grid);
  elbo_array_destroy(&grid);
  elbo_array_destroy(&unit);
  return status;
}

// Held-out pictures, below them what is decoded from their codes with drawn noise, and with their own.
static elbo_status preview_kept(const decoder_task *t, elbo_model *m, int64_t step, const char *directory) {
  elbo_dataset_info info;
  elbo_dataset_get_info(t->data, &info);
  const elbo_split split = info.count[ELBO_SPLIT_VALID] > 0 ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  elbo_array *x = NULL, *drawn = NULL, *own = NULL, *all = NULL;
  elbo_status status;
  TRY_GOTO(read_pictures(t, split, 0, info.count[split] < SHOWN ? info.count[split] : SHOWN, 0, &x));
  TRY_GOTO(elbo_reconstruct(m, x, NULL, 1, t->seed, &drawn));
  TRY_GOTO(elbo_reconstruct(m, x, NULL, 0, t->seed, &own));
  int64_t dim[4] = {3 * x->dim[0], x->dim[1], x->dim[2], x->dim[3]};
  TRY_GOTO(elbo_array_create(t->ctx, ELBO_F32, 4, dim, &all));
  const elbo_array *row[3] = {x, drawn, own};
  for (int i = 0; i < 3; i++) memcpy((char *)all->data + (size_t)i * elbo_array_bytes(x), row[i]->data, elbo_array_bytes(x));
  status = write_grid(t, all, (int)x->dim[0], directory, step, "-reconstructions");
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&drawn);
  elbo_array_destroy(&own);
  elbo_array_destroy(&all);
  return status;
}

elbo_status decoder_preview_samples(const decoder_task *t, elbo_model *m, int64_t step, const char *directory) {
  const char *options[QUICK_OPTIONS];
  elbo_sample_config config;
  elbo_array *x = NULL;
  elbo_sample_defaults(&config);
  config.seed = t->seed, config.options = options, config.n_options = quick_sampling_options(&t->spec.pixels, options);
  TRY(elbo_sample(m, &config, &x));
  elbo_status status = write_grid(t, x, 0, directory, step, "");
  elbo_array_destroy(&x);
  return status;
}

bool decoder_has_pictures(const diffusion_spec *s) { return s->height * s->width >= 4 && s->channels <= 4; }

static elbo_status preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  const decoder_task *t = user;
  elbo_model m;
  if (!decoder_has_pictures(&t->spec.pixels)) return ELBO_OK;
  TRY(decoder_view(t->ctx, &t->spec, weights, t->frozen, &m));
  elbo_status status = preview_kept(t, &m, step, directory);
  const bool knows_codes = t->frozen || t->spec.code.kl > 0; // the mixture is fitted at checkpoints
  if (status == ELBO_OK && knows_codes) status = decoder_preview_samples(t, &m, step, directory);
  decoder_view_close(&m);
  return status;
}

// --- diffae ---

static elbo_status create_diffae(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const diffae_recipe *recipe = request->config;
  elbo_dataset_info info;
  decoder_task *t;
  elbo_dataset_get_info(request->data, &info);
  TRY(decoder_task_new(ctx, request, &t));
  elbo_status status = diffae_spec_make(ctx, t->arena, recipe, &info, request->file, &t->spec);
  if (status != ELBO_OK) {
    decoder_task_destroy(t);
    return status;
  }
  t->source = (diffusion_source){diffae_batch, &t->spec};
  diffusion_hooks hooks = {.user = t, .source = &t->source, .save = save, .preview = preview, .destroy = decoder_task_destroy};
  return diffusion_task_create(ctx, request, &t->spec.pixels, &recipe->objective, &hooks, out);
}

static elbo_status untrained_diffae(elbo_ctx *ctx, const preset_request *request, elbo_model **out) {
  elbo_model *m = calloc(1, sizeof *m);
  elbo_status status;
  *out = NULL;
  if (!m) return fail_memory(ctx, sizeof *m, "a model");
  *m = (elbo_model){.ctx = ctx, .kind = &model_kind_decoder, .weights = "ema", .step = -1, .batch_size = 64};
  m->diffusion = calloc(1, sizeof *m->diffusion), m->decoder = calloc(1, sizeof *m->decoder), m->arena = arena_create(1 << 12);
  if (!m->diffusion || !m->decoder || !m->arena) {
    status = fail_memory(ctx, sizeof *m->decoder, "a model");
    goto fail;
  }
  TRY_GOTO(diffae_spec_make(ctx, m->arena, request->config, &request->info, request->file, &m->decoder->spec));
  m->diffusion->spec = m->decoder->spec.pixels;
  TRY_GOTO(decoder_store_create(ctx, &m->decoder->spec, (uint64_t)request->stage->train.seed, &m->store));
  TRY_GOTO(diffusion_process_create(ctx, &m->diffusion->spec, m->store, request->file, &m->diffusion->process));
  *out = m;
  return ELBO_OK;
fail:
  elbo_model_destroy(&m);
  return status;
}

// One call of the denoiser.
elbo_status decoder_forward(elbo_ctx *ctx, const preset_request *request, elbo_status status, const diffusion_spec *spec,
                            elbo_graph **graph, elbo_tensor **out) {
  if (status == ELBO_OK) status = elbo_graph_create(ctx, "forward", graph);
  if (status == ELBO_OK) *out = diffusion_call_graph(spec, *graph, request->micro_batch);
  return status;
}

static elbo_status forward_diffae(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  decoder_spec spec;
  *graph = NULL;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a network");
  elbo_status status = diffae_spec_make(ctx, a, request->config, &request->info, request->file, &spec);
  status = decoder_forward(ctx, request, status, &spec.pixels, graph, out);
  arena_destroy(&a);
  return status;
}

const preset_def preset_diffae = {.name = "diffae",
                                  .summary = "an encoder with a diffusion for a decoder",
                                  .sections = &diffae_sections,
                                  .create = create_diffae,
                                  .forward = forward_diffae,
                                  .untrained = untrained_diffae};

// --- diffusion-decoder ---

// Copies what the frozen model knows of the parameters that training holds but does not train.
elbo_status decoder_copy_frozen(elbo_store *to, const elbo_store *from, const char *but) {
  elbo_param_info want, have;
  for (int i = 0; i < elbo_store_count(to); i++) {
    TRY(elbo_store_get(to, i, &want));
    if (strncmp(want.name, but, strlen(but)) == 0) continue;
    if (elbo_store_find(from, want.name, &have) == ELBO_OK) memcpy(want.data, have.data, (size_t)want.count * sizeof(float));
  }
  elbo_store_touch(to);
  return ELBO_OK;
}

static elbo_status take_vae(void *user, elbo_store *weights) {
  const decoder_task *t = user;
  return decoder_copy_frozen(weights, t->frozen->store, DENOISER_SCOPE ".");
}

static elbo_status create_refiner(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const refiner_recipe *recipe = request->config;
  elbo_dataset_info info;
  decoder_task *t;
  elbo_dataset_get_info(request->data, &info);
  TRY(decoder_task_new(ctx, request, &t));
  elbo_status status = refiner_spec_make(ctx, t->arena, recipe, request->frozen, &info, request->file, &t->spec);
  if (status != ELBO_OK) {
    decoder_task_destroy(t);
    return status;
  }
  t->source = (diffusion_source){refiner_batch, &t->frozen->spec};
  diffusion_hooks hooks = {.user = t,
                           .source = &t->source,
                           .prefix = DENOISER_SCOPE ".",
                           .initialize = take_vae,
                           .save = save,
                           .preview = preview,
                           .destroy = decoder_task_destroy};
  return diffusion_task_create(ctx, request, &t->spec.pixels, &recipe->objective, &hooks, out);
}

// Of pictures of any kind: the VAE has no part in a call of the denoiser.
static elbo_status forward_refiner(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  const refiner_recipe *recipe = request->config;
  decoder_spec spec;
  *graph = NULL;
  const elbo_model vae = {.kind = &model_kind_vae, .spec.shape = {request->info.height, request->info.width, request->info.channels}};
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "a network");
  elbo_status status = refiner_spec_make(ctx, a, recipe, &vae, &request->info, request->file, &spec);
  status = decoder_forward(ctx, request, status, &spec.pixels, graph, out);
  arena_destroy(&a);
  return status;
}

const preset_def preset_diffusion_decoder = {.name = "diffusion-decoder",
                                             .summary = "a diffusion that refines what a VAE decodes",
                                             .sections = &refiner_sections,
                                             .create = create_refiner,
                                             .forward = forward_refiner,
                                             .frozen = {"model.vae", offsetof(refiner_recipe, model.vae)}};
