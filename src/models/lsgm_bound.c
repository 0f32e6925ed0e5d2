// The bound of an LSGM on data: always with the likelihood weighting.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/philox.h"
#include "eval/statistics.h"
#include "models/diffusion_model.h"
#include "models/lsgm_graph.h"
#include "models/lsgm_model.h"

enum { MOST_SETS = 4 };

typedef struct scores {
  elbo_model *m;
  lsgm_spec spec;
  const process *process;
  const elbo_array *x;
  const int64_t *index; // NULL: the rows' own numbers
  int64_t n, d, batch;
  uint64_t seed;
  elbo_progress_fn progress;
  void *user;
  int64_t done, total; // runs of a batch
  bound_estimate *out;
} scores;

static elbo_status report(scores *s) {
  if (!s->progress || s->progress(s->user, "bound", ++s->done, s->total, "")) return ELBO_OK;
  return fail(s->m->ctx, ELBO_ERROR_STOPPED, "evaluation stopped");
}

// --- log p(x|z) ---

static elbo_status open_reconstruction(scores *s, session *out) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(s->m->ctx, "scores", &g));
  latent_request request = {.spec = &s->m->spec, .graph = g, .batch = s->batch, .samples = 1, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(&s->m->spec, false);
  elbo_scope_push(g, "decoder");
  elbo_tensor *log_x = likelihood_log_prob(&l, z.output, vae_input_x(&s->m->spec, g, s->batch), NULL);
  elbo_scope_pop(g);
  return session_create(s->m->ctx, g, s->m->store, s->batch, 1, &log_x, out);
}

// Mean over the draws, and its variance where there are several.
static elbo_status score_reconstruction(scores *s, int draws, double *variance) {
  session plan = {0};
  elbo_status status;
  TRY_GOTO(open_reconstruction(s, &plan));
  for (int k = 0; k < draws; k++)
    for (int64_t at = 0; at < s->n; at += s->batch) {
      int64_t count = s->n - at < s->batch ? s->n - at : s->batch;
      session_rows rows = {.x = s->x->data, .index = s->index, .seed = seed_of_part(s->seed, (uint64_t)k)};
      TRY_GOTO(session_run(&plan, &rows, at, count));
      for (int64_t i = 0; i < count; i++) {
        double v = (double)session_output(&plan, 0)[i];
        s->out->recon[at + i] += v / draws, variance[at + i] += v * v / draws;
      }
      TRY_GOTO(report(s));
    }
  for (int64_t i = 0; i < s->n; i++) variance[i] = draws > 1 ? fmax(0, variance[i] - s->out->recon[i] * s->out->recon[i]) / (draws - 1) : 0;
fail:
  session_destroy(&plan);
  return status;
}

// --- cross entropy and entropy ---

// Outputs by groups of the code: squared errors of epsilon over those of N(0, I) (R,G), squares of z (R,G), entropies (R,G).
static elbo_tensor *group_sums(const scores *s, elbo_tensor *v, int64_t rows) {
  picture_shape group[MAX_GROUPS];
  elbo_tensor *sum[MAX_GROUPS];
  int n = vae_groups(&s->m->spec, group);
  if (!v) return NULL;
  if (elbo_tensor_dim(v, 0) != rows) v = repeat_rows(v, rows / elbo_tensor_dim(v, 0)); // a flat code has one posterior for all draws
  for (int64_t i = 0, at = 0; i < n; i++) {
    int64_t count = group[i].height * group[i].width * group[i].channels;
    sum[i] = elbo_sum(elbo_slice(v, 1, at, at + count), 1u << 1, 1);
    at += count;
  }
  return elbo_concat(n, sum, 1);
}

static elbo_status open_prior(scores *s, int64_t samples, session *out) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(s->m->ctx, "prior scores", &g));
  latent_request request = {.spec = &s->m->spec, .graph = g, .batch = s->batch, .samples = samples, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  int64_t rows = s->batch * samples;
  lsgm_error e = lsgm_errors(&s->spec, g, s->batch, samples, z.z, z.z, "score", false);
  elbo_tensor *outputs[3] = {group_sums(s, elbo_sub(e.network, e.normal), rows), group_sums(s, elbo_square(z.z), rows),
                             group_sums(s, lsgm_entropies(&z), rows)};
  return session_create(s->m->ctx, g, s->m->store, s->batch, 3, outputs, out);
}

// Times of the rows of one run: for each example `samples` even shares of the density, from an offset of its own.
static void fill_times(const scores *s, session *plan, const time_density *density, int64_t samples, int set, int64_t at, int64_t count,
                       double *times) {
  static const char *const names[] = {"alpha", "sigma", "time", "epsilon_of_state", "epsilon_of_output"};
  const uint32_t stream = philox_stream("eval.prior.time");
  for (int64_t i = 0; i < s->batch; i++) {
    int64_t row = at + (i < count ? i : 0);
    uint32_t bits[4];
    philox_draw(s->seed, stream, (uint64_t)(s->index ? s->index[row] : row), (uint32_t)set, bits);
    for (int64_t k = 0; k < samples; k++)
      times[i * samples + k] = time_density_quantile(density, ((double)k + philox_uniform(bits[0])) / (double)samples);
  }
  for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
    char name[48];
    snprintf(name, sizeof name, "score.%s", names[j]);
    float *to = elbo_plan_input(plan->plan, name);
    for (int64_t i = 0; to && i < s->batch * samples; i++)
      if (!lsgm_fill(&s->spec, s->process, times[i], names[j], &to[i])) to[i] = NAN;
  }
}

typedef struct prior_work {
  session plan;
  time_density *density;
  double *times; // (batch * samples)
  double *set;   // (n) the cross entropy of the present set
} prior_work;

static elbo_status score_set(scores *s, prior_work *w, int set, int sets, int64_t samples) {
  normal_prior normal = lsgm_normal_prior(s->process);
  picture_shape group[MAX_GROUPS];
  int groups = vae_groups(&s->m->spec, group);
  for (int64_t i = 0; i < s->n; i++) w->set[i] = 0;
  for (int64_t at = 0; at < s->n; at += s->batch) {
    int64_t count = s->n - at < s->batch ? s->n - at : s->batch;
    session_rows rows = {.x = s->x->data, .index = s->index, .seed = seed_of_part(s->seed, (uint64_t)(500 + set))};
    fill_times(s, &w->plan, w->density, samples, set, at, count, w->times);
    TRY(session_run(&w->plan, &rows, at, count));
    const float *error = session_output(&w->plan, 0), *square = session_output(&w->plan, 1), *entropy = session_output(&w->plan, 2);
    for (int64_t r = 0; r < count * samples; r++) {
      double weight = score_weight(SCORE_LIKELIHOOD, s->process, w->times[r]) / time_density_at(w->density, w->times[r]);
      for (int g = 0; g < groups; g++) {
        double size = (double)(group[g].height * group[g].width * group[g].channels);
        double cross = normal.square * (double)square[r * groups + g] + normal.constant * size + weight * (double)error[r * groups + g];
        double of_q = (double)entropy[r * groups + g], share = 1.0 / (double)samples;
        w->set[at + r / samples] += cross * share;
        s->out->entropy[at + r / samples] += of_q * share / sets;
        s->out->kl_group[g] += (cross - of_q) * share / sets / (double)s->n;
      }
    }
    TRY(report(s));
  }
  return ELBO_OK;
}

static elbo_status score_prior(scores *s, int sets, int64_t samples) {
  prior_work w = {0};
  elbo_status status;
  bound_estimate *o = s->out;
  TRY_GOTO(open_prior(s, samples, &w.plan));
  TRY_GOTO(time_density_create(s->m->ctx, s->process, SCORE_LIKELIHOOD, true, &w.density));
  TRY_GOTO(array_new(s->m->ctx, (size_t)(s->batch * samples), sizeof(double), "times", (void **)&w.times));
  TRY_GOTO(array_new(s->m->ctx, (size_t)s->n, sizeof(double), "scores", (void **)&w.set));
  for (int k = 0; k < sets; k++) {
    TRY_GOTO(score_set(s, &w, k, sets, samples));
    for (int64_t i = 0; i < s->n; i++) o->cross_entropy[i] += w.set[i] / sets, o->cross_variance[i] += w.set[i] * w.set[i] / sets;
  }
  for (int64_t i = 0; i < s->n; i++)
    o->cross_variance[i] = sets > 1 ? fmax(0, o->cross_variance[i] - o->cross_entropy[i] * o->cross_entropy[i]) / (sets - 1) : NAN;
fail:
  session_destroy(&w.plan);
  time_density_destroy(&w.density);
  free(w.times);
  free(w.set);
  return status;
}

// --- together ---

static elbo_status allocate(const scores *s) {
  bound_estimate *o = s->out;
  double **arrays[] = {&o->elbo, &o->recon, &o->kl, &o->draw_variance, &o->entropy, &o->cross_entropy, &o->cross_variance};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
    TRY(array_new(s->m->ctx, (size_t)s->n, sizeof(double), "scores", (void **)arrays[i]));
  return array_new(s->m->ctx, (size_t)o->groups, sizeof(double), "scores", (void **)&o->kl_group);
}

elbo_status lsgm_bound(elbo_model *m, const elbo_array *x, const int64_t *index, int draws, int times, uint64_t seed,
                       elbo_progress_fn progress, void *user, bound_estimate *out) {
  *out = (bound_estimate){0};
  scores s = {.m = m, .x = x, .index = index, .seed = seed, .progress = progress, .user = user, .out = out};
  picture_shape group[MAX_GROUPS];
  elbo_status status;
  TRY(model_check_pictures(m, "bound", x, &s.n));
  if (s.n < 1) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "bound: no examples");
  s.spec = (lsgm_spec){.vae = m->spec, .prior = m->prior->diffusion->spec};
  s.process = m->prior->diffusion->process;
  s.batch = s.n < m->batch_size ? s.n : m->batch_size;
  out->n = s.n, out->code_size = vae_code_size(&m->spec), out->groups = vae_groups(&m->spec, group);
  int sets = times < 2 ? 1 : times < 2 * MOST_SETS ? 2 : MOST_SETS;
  int64_t samples = (times + sets - 1) / sets, batches = (s.n + s.batch - 1) / s.batch;
  out->times = (int64_t)sets * samples;
  s.total = batches * (draws + sets);
  TRY_GOTO(allocate(&s));
  TRY_GOTO(score_reconstruction(&s, draws, out->draw_variance));
  TRY_GOTO(score_prior(&s, sets, samples));
  for (int64_t i = 0; i < s.n; i++) {
    out->kl[i] = out->cross_entropy[i] - out->entropy[i];
    out->elbo[i] = out->recon[i] - out->kl[i];
    out->draw_variance[i] += out->cross_variance[i];
  }
  return ELBO_OK;
fail:
  bound_estimate_free(out);
  return status;
}
