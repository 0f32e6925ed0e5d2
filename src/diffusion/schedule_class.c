// Nodes as diffusers' classes place them, their rounding and off-by-ones included: a model stepped elsewhere gives another picture.
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "diffusion/levels.h"
#include "diffusion/scheduler_table.h"

// --- chains on the table of alpha_bar: DDPM, DDIM and its inverse, PNDM ---
static elbo_status check_index(elbo_ctx *ctx, double index, int64_t T, int step) {
  if (index >= 0 && index < (double)T) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT,
              "steps: step %d falls on timestep %g, but the process has timesteps 0 to %lld; take fewer steps, or a smaller steps_offset",
              step, index, (long long)T - 1);
}

static solver_node chain_node(const level_table *l, double index, double final) {
  double a = index < 0 ? final : l->alpha_bar[index < (double)l->T ? (int64_t)index : l->T - 1];
  return (solver_node){index, sqrt(a), sqrt(1 - a)};
}

static elbo_status chain_nodes(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int n, const double *index, schedule *s) {
  double final = c->class_ == SCHEDULER_DDPM || c->set_alpha_to_one ? 1 : l->alpha_bar[0], stride = (double)(l->T / n);
  for (int k = 0; k < n; k++) {
    double at = index[c->class_ == SCHEDULER_DDIM_INVERSE ? n - 1 - k : k];
    TRY(check_index(ctx, at, l->T, k));
    if (c->class_ == SCHEDULER_DDIM_INVERSE) { // upwards: the network is called at `at`, x is taken to lie one stride below
      s->node[k] = chain_node(l, fmin(at - stride, (double)(l->T - 1)), final);
      s->node[k].time = at;
      s->target[k] = chain_node(l, at, final);
    } else { // DDIM steps by its stride, wherever the next index lies
      s->node[k] = chain_node(l, at, final);
      s->target[k] = chain_node(l, c->class_ == SCHEDULER_DDPM ? (k + 1 < n ? index[k + 1] : -1) : at - stride, final);
    }
  }
  return ELBO_OK;
}

// [Liu22pndm] as diffusers lays it out; sampler_pndm.c says what the inner nodes are.
static elbo_status pndm_nodes(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int n, const double *index, schedule *s) {
  double final = c->set_alpha_to_one ? 1 : l->alpha_bar[0], stride = (double)(l->T / n), half = (double)(l->T / n / 2);
  bool runge_kutta = s->kind == SAMPLER_PNDM;
  for (int k = 0; k < n; k++) {
    TRY(check_index(ctx, index[k], l->T, k));
    s->node[k] = chain_node(l, index[k], final);
    s->target[k] = chain_node(l, index[k] - (runge_kutta && k < 3 ? half : stride), final);
    if (!runge_kutta || k >= 3) continue;
    TRY(check_index(ctx, index[k + 1] + half, l->T, k));
    s->mid[2 * k] = chain_node(l, index[k + 1] + half, final);
    s->mid[2 * k + 1] = chain_node(l, index[k + 1], final);
  }
  if (!runge_kutta && n > 1) { // the second call of the first step
    TRY(check_index(ctx, index[1] + stride, l->T, 1));
    s->mid[0] = chain_node(l, index[1], final);
    s->mid[1] = chain_node(l, index[1] + stride, final);
  }
  return ELBO_OK;
}

static elbo_status table_nodes(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int n, schedule *s) {
  bool pndm = c->class_ == SCHEDULER_PNDM;
  double *index;
  if (s->kind == SAMPLER_PNDM && n < 4)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; PNDM with its Runge-Kutta start (skip_prk_steps false) needs at least 4", n);
  TRY(schedule_room(ctx, s, n, pndm && n > 1));
  TRY(array_new(ctx, (size_t)n, sizeof(double), "timesteps", (void **)&index));
  indices_first(c->timestep_spacing, l->T, c->steps_offset, n, true, index);
  elbo_status status = pndm ? pndm_nodes(ctx, c, l, n, index, s) : chain_nodes(ctx, c, l, n, index, s);
  free(index);
  s->node[n] = s->target[n - 1];
  return status;
}

// Of the times that the model was distilled at, one every T / original, n at even distances. TCD's eta is its scheduler's usual 0.3.
static elbo_status consistency_nodes(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int n, schedule *s) {
  const int64_t all = c->original_inference_steps, stride = l->T / all;
  if (n > all)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; this scheduler chooses among %lld (original_inference_steps)", n, (long long)all);
  bool lcm = c->class_ == SCHEDULER_LCM;
  TRY(schedule_room(ctx, s, n, !lcm));
  for (int k = 0; k < n; k++) s->node[k] = chain_node(l, (double)((all - (int64_t)floor(k * ((double)all / n))) * stride - 1), 1);
  s->node[n] = chain_node(l, lcm ? -1 : 0, 1); // LCM ends with its x0
  for (int k = 0; k < n; k++) {
    s->target[k] = s->node[k + 1];
    if (!lcm) s->mid[2 * k] = chain_node(l, (double)floorf(0.7f * (float)s->target[k].time), 1);
  }
  return ELBO_OK;
}

// --- classes that work with levels sigma / alpha ---
static bool whole_times(int class_) { // kept as integers, in tensors of int64
  return class_ == SCHEDULER_DPM_MULTISTEP || class_ == SCHEDULER_DPM_SINGLESTEP || class_ == SCHEDULER_UNIPC || class_ == SCHEDULER_DEIS ||
         class_ == SCHEDULER_SA_SOLVER;
}

static bool round_times(const scheduler_config *c) { // of Karras' levels, which lie between indices
  if (c->class_ == SCHEDULER_DPM_MULTISTEP) return c->beta_schedule != BETAS_COSINE;
  return whole_times(c->class_) || c->class_ == SCHEDULER_KDPM2 || c->class_ == SCHEDULER_KDPM2_ANCESTRAL;
}

static bool by_formula(const scheduler_config *c) {
  return c->use_karras_sigmas || c->use_exponential_sigmas || c->use_beta_sigmas || c->use_lu_lambdas;
}

static void formula_levels(const scheduler_config *c, double high, double low, int n, double *level) {
  if (c->use_karras_sigmas) {
    spacing_karras(high, low, 7, n, level);
  } else if (c->use_beta_sigmas) {
    spacing_beta(high, low, n, level);
  } else { // exponential; and use_lu_lambdas, which is even in the logarithm too
    spacing_exponential(high, low, n, level);
  }
}

// sigma of a flow from (nearly) 1 down, shifted [Esser24 eq. 23].
static double shift_level(double s, double shift) { return shift * s / (1 + (shift - 1) * s); }

static void stretch_to(double terminal, int n, double *level) {
  double scale = (1 - level[n - 1]) / (1 - terminal);
  for (int i = 0; i < n; i++) level[i] = 1 - (1 - level[i]) / scale;
}

static void flow_levels(const scheduler_config *c, int n, double *level) {
  double T = (double)c->num_train_timesteps, step = (1 / T - 1) / n;
  bool unipc = c->class_ == SCHEDULER_UNIPC;
  for (int i = 0; i < n; i++) level[i] = shift_level(unipc ? 1 + i * step : -(n - i) * step, c->flow_shift);
  if (unipc && c->shift_terminal > 0) stretch_to(c->shift_terminal, n, level);
  if (unipc && fabs(level[0] - 1) < 1e-6) level[0] -= 1e-6;
}

static double last_level(const scheduler_config *c, const level_table *l, double lowest) {
  bool at_lowest = by_formula(c) || c->use_flow_sigmas;
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_EULER:
  case SCHEDULER_DPM_MULTISTEP:
  case SCHEDULER_DPM_SINGLESTEP: return c->final_sigmas_type ? l->level[0] : 0;
  case SCHEDULER_UNIPC: return c->final_sigmas_type == 0 ? 0 : at_lowest ? lowest : l->level[0];
  case SCHEDULER_DEIS:
  case SCHEDULER_SA_SOLVER: return at_lowest ? lowest : l->level[0];
  default: return 0;
  }
}

// How many indices, from the top, have a log-SNR below lambda_min_clipped; they are left out.
static int64_t clipped_indices(const scheduler_config *c, const level_table *l) {
  int64_t n = 0;
  if (!scheduler_class_field(c->class_, "lambda_min_clipped")) return 0;
  while (n < l->T && -log(l->level[l->T - 1 - n]) < c->lambda_min_clipped) n++;
  return n;
}

// The levels of *n steps and the times told there; one level more than steps where a class makes one (*extra).
static elbo_status place_levels(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int *n, double *time, double *level,
                                bool *extra) {
  double high = l->level[l->T - 1], low = l->level[0];
  bool whole = whole_times(c->class_), log_linear = c->class_ == SCHEDULER_EULER && c->interpolation_type == 1;
  *extra = false;
  if (whole) {
    int spacing = c->class_ == SCHEDULER_DPM_SINGLESTEP ? INDEX_LINSPACE : c->timestep_spacing;
    int64_t last = l->T - clipped_indices(c, l);
    if (last < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "lambda_min_clipped: leaves no timestep");
    if (spacing == INDEX_LEADING && last < *n + 1 && !by_formula(c) && !c->use_flow_sigmas)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; with leading spacing this schedule has %lld", *n, (long long)last - 1);
    double stride = (double)l->T / *n;
    if (spacing == INDEX_TRAILING && last < l->T && !by_formula(c) && !c->use_flow_sigmas) // the stride stays, fewer fit
      *n = (int)ceil((double)last * *n / (double)l->T - 1e-9);
    indices_second(spacing, stride, last, c->steps_offset, *n, time);
  } else {
    indices_first(c->timestep_spacing, l->T, c->steps_offset, *n, false, time);
  }
  if (c->use_flow_sigmas && !by_formula(c)) {
    flow_levels(c, *n, level);
    for (int i = 0; i < *n; i++) time[i] = level[i] * (double)c->num_train_timesteps;
    return ELBO_OK;
  }
  if (!by_formula(c)) {
    if (log_linear) {
      spacing_exponential(high, low, *n + 1, level);
      *extra = true;
    }
    for (int i = 0; i < *n && !log_linear; i++) level[i] = level_at(l, time[i]);
    return ELBO_OK;
  }
  if (!whole && !log_linear) high = level_at(l, time[0]), low = level_at(l, time[*n - 1]);
  if (scheduler_class_field(c->class_, "sigma_min") && c->sigma_min > 0) low = c->sigma_min;
  if (scheduler_class_field(c->class_, "sigma_max") && c->sigma_max > 0) high = c->sigma_max;
  if (low > high) return fail(ctx, ELBO_ERROR_ARGUMENT, "sigma_min: above the highest noise level of the schedule");
  formula_levels(c, high, low, *n, level);
  for (int i = 0; i < *n; i++) {
    time[i] = level_index(l, level[i]);
    if ((c->use_karras_sigmas || c->use_lu_lambdas) && round_times(c)) time[i] = rint(time[i]);
    if (c->use_flow_sigmas) { // UniPC's Karras levels of a flow
      level[i] = level[i] / (level[i] + 1);
      time[i] = level[i] * (double)c->num_train_timesteps;
    }
  }
  return ELBO_OK;
}

static void inner_nodes(const level_table *l, schedule *s) {
  for (int k = 0; k < s->steps; k++) {
    double from = s->node[k].sigma / s->node[k].alpha, to = s->node[k + 1].sigma / s->node[k + 1].alpha;
    if (s->kind == SAMPLER_DPM2_A) to = to * to / from; // where the ancestral step goes before its noise
    if (to > 0) s->mid[2 * k] = level_node((double)(float)level_index(l, sqrt(from * to)), sqrt(from * to), false);
  }
}

static elbo_status level_nodes(elbo_ctx *ctx, const scheduler_config *c, const level_table *l, int n, schedule *s) {
  double *time, *level;
  bool extra, inner = s->kind == SAMPLER_DPM2 || s->kind == SAMPLER_DPM2_A || s->kind == SAMPLER_DPMPP_SDE;
  bool log_time = c->class_ == SCHEDULER_EULER && c->timestep_type == 1 && c->prediction == PREDICT_V;
  TRY(array_new(ctx, 2 * (size_t)n + 4, sizeof(double), "noise levels", (void **)&time));
  level = time + n + 1;
  elbo_status status = place_levels(ctx, c, l, &n, time, level, &extra);
  if (status == ELBO_OK) {
    double last = last_level(c, l, level[n - 1]);
    if (extra && log_time) n++, extra = false; // times are then those of the levels
    status = schedule_room(ctx, s, n, inner);
    for (int k = 0; k <= n && status == ELBO_OK; k++) {
      double now = k < n || extra ? level[k] : last;
      s->node[k] = level_node(k == n ? 0 : log_time ? log(now) / 4 : time[k], now, c->use_flow_sigmas);
      s->node[k].time = whole_times(c->class_) ? trunc(s->node[k].time) : (double)(float)s->node[k].time;
      if (k) s->target[k - 1] = s->node[k];
    }
  }
  if (status == ELBO_OK && inner) inner_nodes(l, s);
  if (status == ELBO_OK && s->space == STATE_RATIO)
    s->first_scale = c->timestep_spacing == INDEX_LEADING ? sqrt(level[0] * level[0] + 1) : level[0];
  free(time);
  return status;
}

// --- classes with processes of their own ---
static elbo_status edm_nodes(elbo_ctx *ctx, const scheduler_config *c, int n, schedule *s) {
  double *level;
  TRY(schedule_room(ctx, s, n, false));
  TRY(array_new(ctx, (size_t)n, sizeof(double), "noise levels", (void **)&level));
  if (c->sigma_schedule == 0) {
    spacing_karras(c->sigma_max, c->sigma_min, c->rho, n, level);
  } else {
    spacing_exponential(n > 1 ? c->sigma_max : c->sigma_min, c->sigma_min, n, level);
  }
  for (int k = 0; k < n; k++) s->node[k] = (solver_node){log(level[k]) / 4, 1, level[k]};
  s->node[n] = (solver_node){0, 1, c->final_sigmas_type ? level[n - 1] : 0};
  for (int k = 0; k < n; k++) s->target[k] = s->node[k + 1];
  s->first_scale = sqrt(c->sigma_max * c->sigma_max + 1);
  free(level);
  return ELBO_OK;
}

static elbo_status flow_nodes(elbo_ctx *ctx, const scheduler_config *c, int n, schedule *s) {
  double *level, T = (double)c->num_train_timesteps;
  if (c->shift_terminal > 0 && n < 2) return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: 1; shift_terminal needs at least 2");
  TRY(schedule_room(ctx, s, n, false));
  TRY(array_new(ctx, (size_t)n, sizeof(double), "noise levels", (void **)&level));
  spacing_linear(1, shift_level(1 / T, c->shift), n, level); // shifted once more below, as diffusers does
  for (int k = 0; k < n; k++) level[k] = shift_level(level[k], c->shift);
  if (c->shift_terminal > 0) stretch_to(c->shift_terminal, n, level);
  if (by_formula(c)) formula_levels(c, level[0], level[n - 1], n, level);
  for (int k = 0; k <= n; k++) {
    double sigma = k < n ? level[k] : 0;
    if (c->invert_sigmas) sigma = 1 - sigma;
    s->node[k] = (solver_node){(double)(float)(sigma * T), 1 - sigma, sigma};
    if (k) s->target[k - 1] = s->node[k];
  }
  free(level);
  return ELBO_OK;
}

static elbo_status ipndm_nodes(elbo_ctx *ctx, const scheduler_config *c, int n, schedule *s) {
  if (c->trained_betas.count && c->trained_betas.count != n + 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; the %lld trained_betas of this scheduler make %lld", n,
                (long long)c->trained_betas.count, (long long)c->trained_betas.count - 1);
  TRY(schedule_room(ctx, s, n, false));
  for (int k = 0; k <= n; k++) {
    double root = sin((double)(n - k) / n * M_PI / 2), sigma = c->trained_betas.count ? c->trained_betas.at[k] : root * root;
    double alpha = sqrt(1 - sigma * sigma);
    s->node[k] = (solver_node){atan2(sigma, alpha) / M_PI * 2, alpha, sigma};
    if (k) s->target[k - 1] = s->node[k];
  }
  return ELBO_OK;
}

// The network is told the level sigma(t); the steps are taken between n levels of their own, mid[2k] to mid[2k + 1].
static elbo_status score_sde_nodes(elbo_ctx *ctx, const scheduler_config *c, int n, schedule *s) {
  double ratio = c->sigma_max / c->sigma_min;
  TRY(schedule_room(ctx, s, n, true));
  for (int k = 0; k < n; k++) {
    double t = n > 1 ? 1 - (1 - c->sampling_eps) * k / (n - 1) : 1, sigma = c->sigma_min * pow(ratio, t);
    double index = floor(t * (n - 1) + 1e-9), gap = n > 1 ? 1.0 / (n - 1) : 0;
    s->node[k] = (solver_node){sigma, 1, sigma};
    s->mid[2 * k] = (solver_node){0, 1, c->sigma_min * pow(ratio, index * gap)};
    s->mid[2 * k + 1] = (solver_node){0, 1, index > 0 ? c->sigma_min * pow(ratio, (index - 1) * gap) : 0};
  }
  s->node[n] = (solver_node){0, 1, 0};
  for (int k = 0; k < n; k++) s->target[k] = s->node[k + 1];
  s->first_scale = c->sigma_max;
  return ELBO_OK;
}

elbo_status schedule_class_nodes(elbo_ctx *ctx, const scheduler_config *c, const process *p, int n, schedule *s) {
  level_table levels;
  if (n > c->num_train_timesteps)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; the schedule has %lld timesteps", n, (long long)c->num_train_timesteps);
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_EDM_EULER:
  case SCHEDULER_EDM_DPM_MULTISTEP: return edm_nodes(ctx, c, n, s);
  case SCHEDULER_FLOW_EULER:
  case SCHEDULER_FLOW_HEUN: return flow_nodes(ctx, c, n, s);
  case SCHEDULER_IPNDM: return ipndm_nodes(ctx, c, n, s);
  case SCHEDULER_SCORE_SDE_VE: return score_sde_nodes(ctx, c, n, s);
  default: break;
  }
  process *betas = NULL;
  if (!process_alpha_bar(p)) { // flow levels leave the betas unused, but for the last one
    process_config config;
    scheduler_config plain = *c;
    plain.use_flow_sigmas = false;
    scheduler_process(&plain, &config);
    TRY(process_create(ctx, &config, "scheduler", &betas));
    p = betas;
  }
  elbo_status status = levels_make(ctx, p, &levels);
  if (status == ELBO_OK && levels.T != c->num_train_timesteps)
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "the process has %lld timesteps, the scheduler %lld", (long long)levels.T,
                  (long long)c->num_train_timesteps);
  if (status == ELBO_OK) {
    bool table = c->class_ <= SCHEDULER_PNDM;
    bool consistency = c->class_ == SCHEDULER_LCM || c->class_ == SCHEDULER_TCD;
    status = table         ? table_nodes(ctx, c, &levels, n, s)
             : consistency ? consistency_nodes(ctx, c, &levels, n, s)
                           : level_nodes(ctx, c, &levels, n, s);
  }
  levels_free(&levels);
  process_destroy(&betas);
  return status;
}
