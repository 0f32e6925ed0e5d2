#include "models/lsgm_model.h"

#include <limits.h>
#include <stdlib.h>

#include "core/file.h"
#include "models/diffusion_model.h"
#include "models/weights.h"
#include "train/run.h"

#define PRIOR_FOLDER "latent_prior"

// --- making ---

elbo_status lsgm_view(elbo_ctx *ctx, const lsgm_spec *spec, elbo_store *store, elbo_model *out) {
  *out = model_of_weights(ctx, &spec->vae, store);
  out->kind = &model_kind_lsgm;
  out->prior = calloc(1, sizeof *out->prior);
  if (!out->prior) return fail_memory(ctx, sizeof *out->prior, "a model");
  elbo_status status = diffusion_view(ctx, &spec->prior, store, out->prior);
  if (status != ELBO_OK) lsgm_view_close(out);
  return status;
}

void lsgm_view_close(elbo_model *m) {
  if (!m->prior) return;
  diffusion_view_close(m->prior);
  free(m->prior);
  m->prior = NULL;
}

elbo_status lsgm_store_create(elbo_ctx *ctx, const lsgm_spec *spec, uint64_t seed, elbo_store **out) {
  elbo_graph *graph[2] = {NULL, NULL};
  elbo_status status;
  *out = NULL;
  TRY_GOTO(model_parameter_graph(ctx, &spec->vae, &graph[0]));
  TRY_GOTO(diffusion_parameter_graph(ctx, &spec->prior, &graph[1]));
  status = elbo_store_create(ctx, 2, graph, seed, out);
fail:
  elbo_graph_destroy(&graph[0]);
  elbo_graph_destroy(&graph[1]);
  return status;
}

// --- files ---

elbo_status lsgm_directory_write(elbo_ctx *ctx, const char *directory, const lsgm_spec *spec, elbo_store *store, int64_t step) {
  char path[PATH_MAX];
  TRY(model_directory_write(ctx, directory, &spec->vae, store, step));
  TRY(path_join(ctx, path, sizeof path, directory, PRIOR_FOLDER));
  TRY(directory_make(ctx, path));
  return diffusion_directory_write(ctx, path, &spec->prior, store, step);
}

static elbo_status read_prior_weights(elbo_model *m, const char *folder) {
  char path[PATH_MAX];
  weights *w = NULL;
  TRY(path_join(m->ctx, path, sizeof path, folder, denoiser_folder(&m->prior->diffusion->spec.model.denoiser)));
  TRY(weights_open(m->ctx, path, &w));
  elbo_status status = weights_load_into_store(m->ctx, w, DENOISER_SCOPE, m->store);
  weights_close(&w);
  elbo_store_touch(m->store);
  return status;
}

// The two parts come from files of their own, and what the one calls a code must be what the other draws.
static elbo_status check_code(const elbo_model *m, const char *folder) {
  const diffusion_spec *p = &m->prior->diffusion->spec;
  picture_shape code;
  TRY(lsgm_code_shape(m->ctx, &m->spec, &p->model.denoiser, folder, &code));
  if (p->height == code.height && p->width == code.width && p->channels == code.channels && !p->bits) return ELBO_OK;
  return fail(m->ctx, ELBO_ERROR_FORMAT,
              "%s: a diffusion model of %s (%lld,%lld,%lld); the codes of the VAE around it are float (%lld,%lld,%lld)", folder,
              p->bits ? "pictures" : "float", (long long)p->height, (long long)p->width, (long long)p->channels, (long long)code.height,
              (long long)code.width, (long long)code.channels);
}

static elbo_status open_lsgm(elbo_model *m, const char *directory) {
  char folder[PATH_MAX];
  int64_t step;
  TRY(model_directory_read_spec(m->ctx, m->arena, directory, &m->spec, &m->step));
  TRY(path_join(m->ctx, folder, sizeof folder, directory, PRIOR_FOLDER));
  m->prior = calloc(1, sizeof *m->prior);
  if (!m->prior) return fail_memory(m->ctx, sizeof *m->prior, "a model");
  m->prior->diffusion = calloc(1, sizeof *m->prior->diffusion);
  if (!m->prior->diffusion) return fail_memory(m->ctx, sizeof *m->prior->diffusion, "a model");
  elbo_model *prior = m->prior;
  prior->ctx = m->ctx, prior->kind = &model_kind_diffusion, prior->arena = m->arena, prior->batch_size = m->batch_size;
  prior->weights = m->weights, prior->step = -1;
  TRY(diffusion_directory_read(m->ctx, m->arena, folder, prior->diffusion, &step));
  TRY(check_code(m, folder));
  TRY(lsgm_prior_check(m->ctx, &prior->diffusion->spec.model, folder));
  TRY(process_create(m->ctx, &prior->diffusion->spec.model.process, folder, &prior->diffusion->process));
  const lsgm_spec spec = {.vae = m->spec, .prior = prior->diffusion->spec};
  TRY(lsgm_store_create(m->ctx, &spec, 0, &m->store));
  prior->store = m->store;
  if (m->ema != 0) return run_read_weights(m->ctx, directory, m->ema, m->store);
  TRY(model_directory_read_weights(m->ctx, directory, m->store));
  return read_prior_weights(m, folder);
}

// --- drawing ---

static elbo_status lsgm_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x) {
  elbo_array *codes = NULL;
  TRY(diffusion_sample(m->prior, config, &codes));
  codes->rank = 2, codes->dim[1] = vae_code_size(&m->spec);
  elbo_status status = vae_draw_pictures(m, codes, config, x);
  elbo_array_destroy(&codes);
  return status;
}

static int sample_within(const elbo_model *m, int64_t calls, bool own, sample_option *options) {
  return diffusion_sample_within(m->prior, calls, own, options);
}

// A VAE's, but for what needs p(z) itself.
static void abilities(const elbo_model *m, model_abilities *out) {
  vae_abilities(m, out);
  out->score[SCORE_K_SAMPLES] = NULL;
}

static const char *const class_names[] = {"ElboLSGM", NULL};
const model_kind model_kind_lsgm = {.preset = "lsgm",
                                    .class_names = class_names,
                                    .why_not = "cannot",
                                    .open = open_lsgm,
                                    .close = lsgm_view_close,
                                    .info = vae_info,
                                    .sample = lsgm_sample,
                                    .reconstruct = vae_reconstruct,
                                    .encode = vae_encode,
                                    .decode = vae_decode,
                                    .interpolate = vae_interpolate,
                                    .evaluate = vae_evaluate,
                                    .apply = vae_apply,
                                    .abilities = abilities,
                                    .sample_within = sample_within};
