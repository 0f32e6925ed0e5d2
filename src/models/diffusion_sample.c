// Drawing from a diffusion model: noise, the sampler's loop, guidance around the network.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/philox.h"
#include "diffusion/sampler.h"
#include "models/autoencoder.h"
#include "models/diffusion_model.h"

elbo_status sampling_options(elbo_ctx *ctx, arena *a, const sampling_config *base, int n, const char *const *options,
                             sampling_config *out) {
  text_buffer t = {0};
  yaml_node *root = NULL;
  config_write(&sampling_table, base, 0, false, &t);
  char *text = text_take(&t);
  if (!text) return fail_memory(ctx, 4096, "sampling options");
  elbo_status status = yaml_parse(ctx, a, "sample", text, strlen(text), &root);
  for (int i = 0; status == ELBO_OK && i < n; i++) status = yaml_override(ctx, a, root, options[i]);
  if (status == ELBO_OK) status = config_load(ctx, a, &sampling_table, root, "sample", out);
  free(text);
  return status;
}

int quick_sampling_options(const diffusion_spec *spec, const char *options[QUICK_OPTIONS]) {
  enum { STEPS = 50 };
  const sampler_config *solver = &spec->sample.solver;
  int n = 0;
  if (solver->steps > 0 && solver->steps <= STEPS) return 0;
  if (spec->model.process.type != PROCESS_DISCRETE || spec->model.process.steps > STEPS) options[n++] = "steps=50";
  if (solver->sampler == SAMPLER_DDPM && spec->model.process.type != PROCESS_FLOW) options[n++] = "sampler=ddim";
  return n;
}

// Calls of the network in one step; 0: as many as an error control takes, or nobody's custom.
static int64_t calls_of_step(int sampler) {
  switch (sampler) {
  case SAMPLER_HEUN:
  case SAMPLER_EDM:
  case SAMPLER_DPM2:
  case SAMPLER_DPM2_A:
  case SAMPLER_DPM_SOLVER_2:
  case SAMPLER_DPMPP_2S:
  case SAMPLER_DPMPP_SDE:
  case SAMPLER_FLOW_HEUN: return 2;
  case SAMPLER_DPM_SOLVER_3: return 3;
  case SAMPLER_DDPM: // needs every step of its process
  case SAMPLER_PC:
  case SAMPLER_RK45: return 0;
  default: return 1;
  }
}

// With guidance every point is looked at twice, once without the condition or by the weaker model.
static int calls_of_guidance(const elbo_model *m) { return m->diffusion->spec.sample.guidance.scale == 1 ? 1 : 2; }

int64_t diffusion_usual_calls(const elbo_model *m) {
  const sampler_config *solver = &m->diffusion->spec.sample.solver;
  return solver->steps * calls_of_step(solver->sampler) * calls_of_guidance(m);
}

int diffusion_sample_within(const elbo_model *m, int64_t calls, bool own, sample_option *options) {
  const diffusion_spec *spec = &m->diffusion->spec;
  const sampler_config *solver = &spec->sample.solver;
  int64_t each = calls_of_step(solver->sampler) * calls_of_guidance(m);
  int n = 0;
  if (own && each && solver->steps > 0 && solver->steps * each <= calls) return 0;
  if (!each) {
    snprintf(options[n++], sizeof *options, "sampler=%s", spec->model.process.type == PROCESS_FLOW ? "flow_euler" : "ddim");
    each = calls_of_guidance(m);
  }
  snprintf(options[n++], sizeof *options, "steps=%lld", (long long)(calls / each > 1 ? calls / each : 1));
  return n;
}

// --- one batch ---

typedef struct guided {
  denoiser_session strong, weak; // weak: of autoguidance; else its plan is NULL
  guidance_config guidance;
  const process *process;
  condition_rows rows; // of the batch at hand
  int64_t count;
  bool conditional;
  int64_t size, out_size; // of a row; out_size: what the sampler wants, 2 size where it uses a learned variance
  double *other;          // (batch,out_size)
  int64_t calls;          // of either network, of the batch at hand
  double *whole;          // (batch,2 size) what a network says that has, or lacks, a variance against the sampler's wish
} guided;

static elbo_status call_network(guided *g, denoiser_session *s, const double *x, double timestep, const condition_rows *rows,
                                double *output) {
  g->calls++;
  if (s->out_size == g->out_size) return denoiser_session_run(s, x, timestep, rows, g->count, output);
  TRY(denoiser_session_run(s, x, timestep, rows, g->count, g->whole));
  for (int64_t i = 0; i < s->plan.batch; i++)
    memcpy(output + i * g->out_size, g->whole + i * s->out_size, (size_t)g->size * sizeof(double));
  return ELBO_OK;
}

// The sampler's network: the conditional output, led away from the unconditional one or from a worse model's.
static elbo_status guided_network(void *user, const double *x, double timestep, double *output) {
  guided *g = user;
  const condition_rows *rows = g->conditional ? &g->rows : NULL;
  TRY(call_network(g, &g->strong, x, timestep, rows, output));
  if (!g->other || !guidance_acts(&g->guidance, process_at(g->process, diffusion_time_of_step(g->process, timestep)).logsnr))
    return ELBO_OK;
  const bool by_model = g->weak.plan.plan != NULL;
  TRY(call_network(g, by_model ? &g->weak : &g->strong, x, timestep, by_model ? rows : NULL, g->other));
  for (int64_t i = 0; i < g->strong.plan.batch; i++) // a variance stays the conditional one
    guidance_combine(&g->guidance, 1, g->size, output + i * g->out_size, g->other + i * g->out_size);
  return ELBO_OK;
}

// Unit-variance noise of samples first .. first + batch - 1: a function of (seed, index).
static void draw_noise(uint64_t seed, int64_t first, int64_t batch, int64_t size, double *x) {
  const uint32_t stream = philox_stream("sample.noise");
  for (int64_t i = 0; i < batch; i++)
    for (int64_t k = 0; k < size; k += 4) {
      uint32_t bits[4];
      double z[4];
      philox_draw(seed, stream, (uint64_t)(first + i), (uint32_t)(k / 4), bits);
      philox_normal2(bits[0], bits[1], z), philox_normal2(bits[2], bits[3], z + 2);
      for (int64_t j = 0; j < 4 && k + j < size; j++) x[i * size + k + j] = z[j];
    }
}

// --- what is asked ---

typedef struct sampling {
  elbo_model *m;
  const elbo_sample_config *config;
  sampling_config options;
  scheduler_config scheduler;
  elbo_model *guide;
  const elbo_array *reversed; // data that are led to noise; NULL: noise to data
  guided net;
  int32_t *label; // (n)
  arena *arena;
} sampling;

// Whether a key asks for another sampler than the directory's own.
static bool names_solver(const char *option) {
  return strncmp(option, "steps=", 6) != 0 && strncmp(option, "guidance", 8) != 0 && strncmp(option, "batch_size=", 11) != 0;
}

static elbo_status choose_scheduler(sampling *s) {
  const diffusion_model *d = s->m->diffusion;
  bool own = !d->has_scheduler;
  for (int i = 0; i < s->config->n_options; i++) own = own || names_solver(s->config->options[i]);
  if (!own) {
    s->scheduler = d->scheduler;
    return ELBO_OK;
  }
  sampler_config solver = s->options.solver;
  if (solver.clip == STEP_CLIP_AUTO) solver.clip = d->spec.sample.solver.clip; // a model trained here says what its own is
  return scheduler_from_sampler(s->m->ctx, s->arena, &d->spec.model.process, d->spec.model.prediction, d->spec.model.sigma_data, &solver,
                                d->has_scheduler ? &d->scheduler : NULL, "sample", &s->scheduler);
}

static elbo_status check_rows(const sampling *s, const char *what, const elbo_array *a, int rank, const int64_t *dim) {
  bool same = a->dtype == ELBO_F32 && a->rank == rank;
  char given[ARRAY_TEXT_SIZE], wanted[ARRAY_TEXT_SIZE];
  elbo_array want = {.dtype = ELBO_F32, .rank = rank};
  for (int i = 0; i < rank; i++) {
    want.dim[i] = dim[i];
    same = same && a->dim[i] == dim[i];
  }
  if (same) return ELBO_OK;
  return fail(s->m->ctx, ELBO_ERROR_ARGUMENT, "sample: %s: %s was expected, not %s", what, array_text(&want, wanted, sizeof wanted),
              array_text(a, given, sizeof given));
}

static elbo_status check_finite(const sampling *s, const char *what, const elbo_array *a) {
  const float *v = a->data;
  int64_t n = elbo_array_count(a), row = n / a->dim[0];
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(v[i]))
      return fail(s->m->ctx, ELBO_ERROR_ARGUMENT, "sample: %s: number %lld of row %lld is %g; finite numbers were expected", what,
                  (long long)(i % row), (long long)(i / row), (double)v[i]);
  return ELBO_OK;
}

static elbo_status check_conditions(sampling *s) {
  const diffusion_spec *p = &s->m->diffusion->spec;
  const diffusion_condition_config *c = &p->model.condition;
  const elbo_sample_config *config = s->config;
  elbo_ctx *ctx = s->m->ctx;
  if (config->label >= 0 && c->type != DIFFUSION_CLASS)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: a class was given, but this model is not conditioned on one");
  if (config->label >= 0 && config->label >= p->classes)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: class %d: 0 to %lld was expected", config->label, (long long)p->classes - 1);
  if (c->type == DIFFUSION_CLASS) {
    TRY(array_new(ctx, (size_t)config->n, sizeof(int32_t), "labels", (void **)&s->label));
    for (int64_t i = 0; i < config->n; i++) s->label[i] = config->label >= 0 ? config->label : (int32_t)(i % p->classes);
  }
  bool wants = c->type == DIFFUSION_VECTOR || c->type == DIFFUSION_LOWRES || c->type == DIFFUSION_MASKED || c->type == DIFFUSION_CONTEXT ||
               c->type == DIFFUSION_CODE || c->type == DIFFUSION_RECONSTRUCTION;
  if (wants && !config->condition && c->dropout <= 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: this model is conditioned: --condition FILE.npy (n rows) is needed");
  if (!wants && config->condition) return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: a condition was given, but this model takes none");
  if (wants && config->condition) {
    int64_t n = config->n;
    if (c->type == DIFFUSION_VECTOR || c->type == DIFFUSION_CODE)
      return check_rows(s, "condition", config->condition, 2, (int64_t[]){n, c->dim});
    if (c->type == DIFFUSION_CONTEXT && config->condition->rank == 3 && config->condition->dim[1] > 0)
      s->m->diffusion->spec.model.condition.tokens = config->condition->dim[1]; // any length: no weight depends on it
    if (c->type == DIFFUSION_CONTEXT) return check_rows(s, "condition", config->condition, 3, (int64_t[]){n, c->tokens, c->dim});
    return check_rows(s, "condition", config->condition, 4, (int64_t[]){n, p->height, p->width, diffusion_picture_channels(p)});
  }
  return ELBO_OK;
}

static elbo_status open_guidance(sampling *s, int64_t batch) {
  const diffusion_spec *p = &s->m->diffusion->spec;
  const guidance_config *g = &s->options.guidance;
  elbo_ctx *ctx = s->m->ctx;
  s->net.guidance = *g, s->net.process = s->m->diffusion->process, s->net.conditional = s->label || s->config->condition;
  const bool variance = scheduler_learned_variance(&s->scheduler);
  if (variance && !diffusion_learned_variance(p))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: the sampler uses a learned variance; this model's network says none (model.variance)");
  s->net.size = p->height * p->width * p->channels, s->net.out_size = s->net.size * (variance ? 2 : 1);
  TRY(array_new(ctx, (size_t)(2 * batch * s->net.size), sizeof(double), "a network's results", (void **)&s->net.whole));
  TRY(denoiser_session_open(s->m, batch, &s->net.strong));
  if (g->scale == 1) return ELBO_OK;
  if (*g->model) {
    elbo_model_config config;
    elbo_model_defaults(&config);
    TRY(elbo_model_load(ctx, g->model, &config, &s->guide));
    if (!s->guide->diffusion || !s->guide->diffusion->spec.latent != !p->latent || s->guide->diffusion->spec.height != p->height ||
        s->guide->diffusion->spec.width != p->width || s->guide->diffusion->spec.channels != p->channels ||
        s->guide->diffusion->spec.model.prediction != p->model.prediction)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "sample.guidance.model: %s is no diffusion model of the same pictures and prediction",
                  g->model);
    TRY(denoiser_session_open(s->guide, batch, &s->net.weak));
  } else if (p->model.condition.type == DIFFUSION_UNCONDITIONAL) {
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: guidance %g: this model takes no condition to be guided by", g->scale);
  } else if (p->model.condition.dropout <= 0 || (p->model.condition.type == DIFFUSION_CLASS && diffusion_null_class(p) < 0)) {
    return fail(ctx, ELBO_ERROR_ARGUMENT, "sample: guidance %g: this model was trained without a null condition (model.condition.dropout)",
                g->scale);
  }
  return array_new(ctx, (size_t)(batch * s->net.out_size), sizeof(double), "guidance", (void **)&s->net.other);
}

static elbo_status run_batches(sampling *s, int64_t batch, elbo_array *x) {
  const elbo_sample_config *config = s->config;
  int64_t size = s->net.strong.size, n = config->n;
  double *state = NULL;
  int64_t *index = NULL;
  double loop = 0;
  elbo_status status;
  const diffusion_spec *p = &s->m->diffusion->spec;
  int64_t row = config->condition ? elbo_array_count(config->condition) / n : 0;
  TRY_GOTO(array_new(s->m->ctx, (size_t)(batch * size), sizeof(double), "samples", (void **)&state));
  TRY_GOTO(array_new(s->m->ctx, (size_t)batch, sizeof(int64_t), "samples", (void **)&index));
  for (int64_t first = 0; first < n; first += batch) {
    int64_t count = n - first < batch ? n - first : batch;
    for (int64_t i = 0; i < batch; i++) index[i] = first + i;
    draw_noise(config->seed, first, batch, size, state);
    const elbo_array *begin = s->reversed ? s->reversed : config->noise;
    const float *given = begin ? (const float *)begin->data + first * size : NULL;
    for (int64_t i = 0; given && i < count * size; i++) state[i] = (double)given[i];
    for (int64_t i = 0; config->temperature != 1 && !s->reversed && i < batch * size; i++) state[i] *= config->temperature;
    const float *condition = config->condition ? (const float *)config->condition->data + first * row : NULL;
    s->net.count = count, s->net.calls = 0;
    s->net.rows = (condition_rows){.label = s->label ? s->label + first : NULL,
                                   .numbers = diffusion_picture_channels(p) ? NULL : condition,
                                   .picture = diffusion_picture_channels(p) ? condition : NULL};
    sampler_request request = {.scheduler = &s->scheduler,
                               .process = s->m->diffusion->process,
                               .rows = batch,
                               .size = size,
                               .steps = (int)s->options.solver.steps,
                               .seed = config->seed,
                               .sample_index = index,
                               .network = guided_network,
                               .user = &s->net,
                               .progress = n <= batch ? config->progress : NULL,
                               .progress_user = config->progress_user};
    const double began = seconds_now();
    TRY_GOTO(s->reversed ? sampler_reverse(s->m->ctx, &request, state, NULL) : sampler_run(s->m->ctx, &request, state, NULL));
    loop += seconds_now() - began;
    float *to = (float *)x->data + first * size;
    for (int64_t i = 0; i < count * size; i++) to[i] = (float)state[i];
    if (n > batch && config->progress && !config->progress(config->progress_user, "sample", first + count, n, ""))
      TRY_GOTO(fail(s->m->ctx, ELBO_ERROR_STOPPED, "sample: stopped"));
  }
  if (config->network_calls) *config->network_calls = s->net.calls;
  if (config->loop_seconds) *config->loop_seconds = loop;
  if (config->network_seconds) *config->network_seconds = s->net.strong.seconds + s->net.weak.seconds;
fail:
  free(state);
  free(index);
  return status;
}

static elbo_decode_config bands_of(const elbo_sample_config *config) {
  elbo_decode_config bands;
  elbo_decode_defaults(&bands);
  bands.memory_limit = config->decode_memory, bands.progress = config->progress, bands.progress_user = config->progress_user;
  return bands;
}

// Before anything is drawn: a limit that cannot be kept is no news to wait for.
static elbo_status check_decode_memory(const elbo_model *m, const elbo_sample_config *config) {
  const diffusion_spec *p = &m->diffusion->spec;
  const elbo_decode_config bands = bands_of(config);
  int64_t rows, bytes;
  return config->decode_memory ? autoencoder_choose_rows(p->latent->autoencoder, config->n, p->height, p->width, &bands, &rows, &bytes)
                               : ELBO_OK;
}

static elbo_status decode_within(elbo_model *m, const elbo_sample_config *config, const elbo_array *states, elbo_array **x) {
  const elbo_decode_config bands = bands_of(config);
  return diffusion_decode_tiled(m, states, &bands, x);
}

static elbo_status sample(elbo_model *m, const elbo_sample_config *config, const elbo_array *reversed, elbo_array **x) {
  sampling s = {.m = m, .config = config, .reversed = reversed};
  const diffusion_spec *p = &m->diffusion->spec;
  elbo_status status;
  s.arena = arena_create(1 << 14);
  if (!s.arena) return fail_memory(m->ctx, 1 << 14, "sampling");
  TRY_GOTO(sampling_options(m->ctx, s.arena, &p->sample, config->n_options, config->options, &s.options));
  TRY_GOTO(choose_scheduler(&s));
  TRY_GOTO(check_conditions(&s));
  TRY_GOTO(check_decode_memory(m, config));
  if (config->noise) TRY_GOTO(check_rows(&s, "noise", config->noise, 4, (int64_t[]){config->n, p->height, p->width, p->channels}));
  if (config->noise) TRY_GOTO(check_finite(&s, "noise", config->noise));
  if (config->condition) TRY_GOTO(check_finite(&s, "condition", config->condition));
  int64_t batch = s.options.batch_size;
  TRY_GOTO(open_guidance(&s, batch));
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){config->n, p->height, p->width, p->channels}, x));
  TRY_GOTO(run_batches(&s, batch, *x));
  if (p->latent) {
    elbo_array *states = *x;
    denoiser_session_close(&s.net.strong); // the decoder may have their memory
    denoiser_session_close(&s.net.weak);
    status = config->decode_memory ? decode_within(m, config, states, x)
                                   : latent_decode(p->latent, states, config->progress, config->progress_user, x);
    elbo_array_destroy(&states);
  }
fail:
  if (status != ELBO_OK) elbo_array_destroy(x);
  denoiser_session_close(&s.net.strong);
  denoiser_session_close(&s.net.weak);
  elbo_model_destroy(&s.guide);
  free(s.net.other);
  free(s.net.whole);
  free(s.label);
  arena_destroy(&s.arena);
  return status;
}

elbo_status diffusion_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x) { return sample(m, config, NULL, x); }

elbo_status diffusion_reverse(elbo_model *m, const elbo_sample_config *config, const elbo_array *x, elbo_array **noise) {
  return sample(m, config, x, noise);
}
