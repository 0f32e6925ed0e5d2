#include "models/diffusion_model.h"

#include <stdlib.h>
#include <string.h>

#include "graph/store_memory.h"
#include "train/run.h"

// The network with every input that it can take, those too that only `apply` gives (text_embeds, time_ids, timestep_cond): its weights.
static void declare_network(const diffusion_spec *spec, elbo_graph *g) {
  denoiser_needs needs = denoiser_config_needs(&spec->model.denoiser);
  denoiser_call call = {
      .batch = 1, .height = spec->height, .width = spec->width, .tokens = 1, .time_ids = 1, .timestep_cond = needs.timestep_cond_dim > 0};
  elbo_scope_push(g, DENOISER_SCOPE);
  denoiser_inputs in = denoiser_declare(g, &needs, &call);
  diffusion_mixed(spec, denoiser_network(&spec->model.denoiser, &in));
  elbo_scope_pop(g);
  if (spec->model.condition.type == DIFFUSION_CODE) diffusion_code_layers(spec, g);
}

void diffusion_declare(const diffusion_spec *spec, elbo_graph *g) {
  declare_network(spec, g);
  if (spec->model.process.type == PROCESS_LEARNED) learned_process_parameters(spec, g);
}

elbo_status diffusion_parameter_graph(elbo_ctx *ctx, const diffusion_spec *spec, elbo_graph **out) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(ctx, "model", &g));
  diffusion_declare(spec, g);
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK)
    *out = g;
  else
    elbo_graph_destroy(&g);
  return status;
}

elbo_status diffusion_store_create(elbo_ctx *ctx, const diffusion_spec *spec, uint64_t seed, elbo_store **out) {
  elbo_graph *g;
  *out = NULL;
  TRY(diffusion_parameter_graph(ctx, spec, &g));
  elbo_status status = elbo_store_create(ctx, 1, &g, seed, out);
  elbo_graph_destroy(&g);
  return status;
}

// Its weights stay where the file has them.
static elbo_status map_weights(elbo_model *m, const char *directory) {
  elbo_graph *g;
  TRY(diffusion_parameter_graph(m->ctx, &m->diffusion->spec, &g));
  elbo_status status = store_create_unfilled(m->ctx, 1, &g, &m->store);
  elbo_graph_destroy(&g);
  if (status == ELBO_OK) status = diffusion_directory_weights(m->ctx, directory, m->diffusion, m->store);
  return status == ELBO_OK ? store_check_filled(m->store) : status;
}

elbo_status diffusion_process_create(elbo_ctx *ctx, const diffusion_spec *spec, elbo_store *store, const char *where, process **out) {
  if (spec->model.process.type == PROCESS_LEARNED) return process_create_custom(ctx, learned_process_logsnr, store, out);
  return process_create(ctx, &spec->model.process, where, out);
}

elbo_status diffusion_view(elbo_ctx *ctx, const diffusion_spec *spec, elbo_store *store, elbo_model *out) {
  int64_t size = spec->height * spec->width * spec->channels, batch = 64 * 1024 / (size > 1024 ? size : 1024);
  *out = (elbo_model){.ctx = ctx,
                      .kind = spec->latent ? &model_kind_codes : &model_kind_diffusion,
                      .store = store,
                      .weights = "ema",
                      .step = -1,
                      .batch_size = batch < 4 ? 4 : (int)batch};
  out->diffusion = calloc(1, sizeof *out->diffusion);
  if (!out->diffusion) return fail_memory(ctx, sizeof *out->diffusion, "a model");
  out->diffusion->spec = *spec;
  elbo_status status = diffusion_process_create(ctx, spec, store, "model.process", &out->diffusion->process);
  if (status != ELBO_OK) diffusion_view_close(out);
  return status;
}

void diffusion_view_close(elbo_model *m) {
  if (!m->diffusion) return;
  process_destroy(&m->diffusion->process);
  latent_space_close(m->diffusion->spec.latent);
  free(m->diffusion);
  m->diffusion = NULL;
}

static elbo_status open_diffusion(elbo_model *m, const char *directory) {
  m->diffusion = calloc(1, sizeof *m->diffusion);
  if (!m->diffusion) return fail_memory(m->ctx, sizeof *m->diffusion, "a model");
  diffusion_model *d = m->diffusion;
  TRY(diffusion_directory_read(m->ctx, m->arena, directory, d, &m->step));
  if (d->spec.latent) m->kind = &model_kind_codes;
  if (m->ema != 0) {
    TRY(diffusion_store_create(m->ctx, &d->spec, 0, &m->store));
    TRY(run_read_weights(m->ctx, directory, m->ema, m->store));
  } else {
    TRY(map_weights(m, directory));
  }
  return diffusion_process_create(m->ctx, &d->spec, m->store, directory, &d->process);
}

static void info(const elbo_model *m, elbo_model_info *out) {
  const diffusion_spec *s = &m->diffusion->spec;
  const latent_space *codes = s->latent;
  const bool vector = s->model.condition.type == DIFFUSION_VECTOR, sequence = s->model.condition.type == DIFFUSION_CONTEXT;
  *out = (elbo_model_info){.preset = s->model.preset ? "vdm" : "ddpm",
                           .weights = m->weights,
                           .likelihood = s->bits == 8 ? "discretized_gaussian" : "none",
                           .height = (int)(codes ? codes->picture.height : s->height),
                           .width = (int)(codes ? codes->picture.width : s->width),
                           .channels = (int)(codes ? codes->picture.channels : s->channels),
                           .low = codes     ? codes->low
                                  : s->bits ? -1
                                            : 0,
                           .high = codes ? codes->high : 1,
                           .bits = codes ? codes->bits : s->bits,
                           .latent_dim = codes ? (int)latent_code_numbers(codes) : 0,
                           .latent_groups = codes != NULL,
                           .classes = s->model.condition.type == DIFFUSION_CLASS ? (int)s->classes : 0,
                           .params = m->params,
                           .step = m->step,
                           .condition_dim = vector || sequence ? (int)s->model.condition.dim : 0,
                           .condition_tokens = sequence ? (int)s->model.condition.tokens : 0};
}

static void abilities(const elbo_model *m, model_abilities *out) {
  const diffusion_model *d = m->diffusion;
  if (d->spec.latent) {
    out->no_score = "its pictures are decoded codes, by what was trained to look right";
    return;
  }
  if (d->spec.bits != 8 || !d->process) {
    out->no_score = d->process ? "its data are not 8-bit pixels" : "this network comes without a process";
    return;
  }
  if (d->spec.model.process.type != PROCESS_FLOW) out->score[SCORE_ONE_SAMPLE] = "bpd";
  out->score[SCORE_ODE] = "ode_bpd";
}

static const char *const class_names[] = {"DDPMPipeline",
                                          "DDIMPipeline",
                                          "PNDMPipeline",
                                          "ScoreSdeVePipeline",
                                          "KarrasVePipeline",
                                          "DiTPipeline",
                                          "LDMPipeline",
                                          "ElboDiffusion",
                                          "UNet2DModel",
                                          "UNet2DConditionModel",
                                          "DiTTransformer2DModel",
                                          "StableDiffusionPipeline",
                                          NULL};
static const char *const no_class[] = {NULL};
const model_kind model_kind_diffusion = {.preset = "diffusion",
                                         .class_names = class_names,
                                         .why_not = "has no encoder: it draws samples and scores data",
                                         .open = open_diffusion,
                                         .close = diffusion_view_close,
                                         .info = info,
                                         .sample = diffusion_sample,
                                         .evaluate = diffusion_evaluate,
                                         .apply = diffusion_apply,
                                         .abilities = abilities,
                                         .sample_within = diffusion_sample_within};
const model_kind model_kind_codes = {.preset = "diffusion",
                                     .class_names = no_class,
                                     .why_not = "draws codes and decodes them",
                                     .close = diffusion_view_close,
                                     .info = info,
                                     .sample = diffusion_sample,
                                     .reconstruct = diffusion_reconstruct,
                                     .encode = diffusion_encode,
                                     .decode = diffusion_decode,
                                     .decode_tiled = diffusion_decode_tiled,
                                     .evaluate = diffusion_evaluate,
                                     .apply = diffusion_apply,
                                     .abilities = abilities,
                                     .sample_within = diffusion_sample_within};
