#include "models/vae_gan_task.h"

#include <stdlib.h>
#include <string.h>

#include "models/vae_task.h"

enum { MAX_PHASES = 3 };

struct vae_gan_task {
  elbo_ctx *ctx;
  vae_gan_spec spec;
  elbo_dataset *data;
  uint64_t seed;
  int64_t last_step; // that `schedule` saw
  gan_watch watch;
  vae_gan_graph graph[MAX_PHASES];
  train_phase phase[MAX_PHASES];
  train_task task;
};

static bool task_schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  vae_gan_task *t = user;
  const vae_gan_objective *o = &t->spec.objective;
  t->last_step = step;
  const objective_config kl = {.beta = o->beta, .kl_warmup_steps = o->kl_warmup_steps};
  if (strcmp(input, "beta") == 0)
    *value = (float)objective_beta_at(&kl, step, steps);
  else if (strcmp(input, "adversarial") == 0)
    *value = step >= o->adversarial_start ? (float)o->adversarial : 0;
  else if (strcmp(input, "temperature") == 0)
    *value = 1;
  else
    return false;
  return true;
}

gan_watched vae_gan_watched(const vae_gan_spec *s) {
  const vae_gan_objective *o = &s->objective;
  return (gan_watched){.loss = o->loss,
                       .start = o->adversarial_start,
                       .r1 = o->r1,
                       .spectral_norm = s->discriminator.spectral_norm,
                       .may_control = o->control == CONTROL_NONE};
}

static void task_watch(void *user, elbo_ctx *ctx, int64_t step, int n, const char *const *names, const int *counts,
                       const double *const *values) {
  vae_gan_task *t = user;
  (void)counts;
  const gan_watched about = vae_gan_watched(&t->spec);
  gan_watch_interval(&t->watch, ctx, &about, step, n, names, values);
}

static elbo_status task_save(void *user, elbo_store *weights, const char *directory) {
  vae_gan_task *t = user;
  return model_directory_write(t->ctx, directory, &t->spec.vae, weights, t->last_step + 1);
}

static elbo_status task_preview(void *user, elbo_store *weights, int64_t step, const char *directory) {
  vae_gan_task *t = user;
  return vae_preview(t->ctx, &t->spec.vae, t->data, t->seed, weights, step, directory);
}

static const char *const training_only[] = {"discriminator.", NULL};

// Where the decoder may stand still it is a phase of its own; otherwise it shares one with the encoder, at half the cost.
static elbo_status make_phases(vae_gan_task *t, int64_t batch) {
  static const struct {
    gan_part part;
    const char *name, *prefix;
  } apart[] = {{GAN_ENCODER, "encoder", "encoder."},
               {GAN_DECODER, "decoder", "decoder."},
               {GAN_DISCRIMINATOR, "discriminator", "discriminator."}},
    together[] = {{GAN_AUTOENCODER, "autoencoder", ""}, {GAN_DISCRIMINATOR, "discriminator", "discriminator."}};
  bool controlled = t->spec.objective.control != CONTROL_NONE;
  int n = controlled ? 3 : 2;
  for (int i = 0; i < n; i++) {
    vae_gan_graph *g = &t->graph[i];
    TRY(vae_gan_graph_build(t->ctx, &t->spec, controlled ? apart[i].part : together[i].part, batch, g));
    t->phase[i] = (train_phase){.name = controlled ? apart[i].name : together[i].name,
                                .graph = g->graph,
                                .loss = g->loss,
                                .prefix = controlled ? apart[i].prefix : together[i].prefix,
                                .enable = g->enable,
                                .n_metrics = g->n_metrics,
                                .metrics = g->metric};
  }
  t->task = (train_task){.user = t,
                         .n_phases = n,
                         .phases = t->phase,
                         .training_only = training_only,
                         .schedule = task_schedule,
                         .watch = task_watch,
                         .save = task_save,
                         .preview = task_preview};
  return ELBO_OK;
}

elbo_status vae_gan_task_create(elbo_ctx *ctx, const vae_gan_spec *spec, int64_t batch, elbo_dataset *data, uint64_t seed,
                                vae_gan_task **out) {
  *out = NULL;
  vae_gan_task *t = calloc(1, sizeof *t);
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->spec = *spec, t->data = data, t->seed = seed, t->last_step = -1;
  elbo_status status = make_phases(t, batch);
  if (status != ELBO_OK) vae_gan_task_destroy(&t);
  *out = t;
  return status;
}

void vae_gan_task_destroy(vae_gan_task **task) {
  if (!task || !*task) return;
  for (int i = 0; i < MAX_PHASES; i++) elbo_graph_destroy(&(*task)->graph[i].graph);
  free(*task);
  *task = NULL;
}

const train_task *vae_gan_task_of(const vae_gan_task *t) { return &t->task; }

static void destroy_of_recipe(void *self) {
  vae_gan_task *t = self;
  vae_gan_task_destroy(&t);
}

static elbo_status spec_from_recipe(elbo_ctx *ctx, const preset_request *request, vae_gan_spec *spec) {
  const vae_gan_recipe *config = request->config;
  elbo_dataset_info info;
  elbo_dataset_get_info(request->data, &info);
  *spec = (vae_gan_spec){.vae = {.model = config->model.vae,
                                 .shape = {info.height, info.width, info.channels},
                                 .classes = info.classes,
                                 .bits = info.bits,
                                 .binarize = request->stage->data.binarize,
                                 .dequantize = request->stage->data.dequantize},
                         .discriminator = config->model.discriminator,
                         .objective = config->objective};
  spec->vae.model.preset = MODEL_VAE_GAN;
  return vae_gan_check(ctx, spec, request->file);
}

static elbo_status create_from_recipe(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  vae_gan_spec spec;
  TRY(spec_from_recipe(ctx, request, &spec));
  vae_gan_task *t;
  TRY(vae_gan_task_create(ctx, &spec, request->micro_batch, request->data, (uint64_t)request->stage->train.seed, &t));
  *out = (preset_task){.self = t, .task = vae_gan_task_of(t), .destroy = destroy_of_recipe};
  return ELBO_OK;
}

static elbo_status untrained_of_recipe(elbo_ctx *ctx, const preset_request *request, elbo_model **out) {
  vae_gan_spec spec;
  TRY(spec_from_recipe(ctx, request, &spec));
  return vae_untrained(ctx, &spec.vae, (uint64_t)request->stage->train.seed, out);
}

// Through the posterior's mean and back.
static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  vae_gan_spec spec;
  *graph = NULL;
  TRY(spec_from_recipe(ctx, request, &spec));
  TRY(elbo_graph_create(ctx, "forward", graph));
  latent_request pass = {.spec = &spec.vae, .graph = *graph, .batch = request->micro_batch, .samples = 1, .mode = LATENT_MEAN};
  *out = vae_latent_pass(&pass).output;
  return ELBO_OK;
}

const preset_def preset_vae_gan = {.name = "vae-gan",
                                   .summary = "a VAE with an adversary",
                                   .sections = &vae_gan_sections,
                                   .create = create_from_recipe,
                                   .forward = forward,
                                   .untrained = untrained_of_recipe};
