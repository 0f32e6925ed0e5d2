// Nodes of SCHEDULER_OWN: a sampler on any process, placed in time or in noise level.
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/number.h"
#include "diffusion/levels.h"

// The node whose sigma / alpha is `level`, the pair exact whatever the time's inversion loses.
static solver_node node_of_level(const process *p, double level) {
  double time = level > 0 ? process_network_time(p, process_time_of_logsnr(p, -2 * log(level))) : 0;
  switch (process_kind(p)) {
  case PROCESS_EDM:
  case PROCESS_VE: return (solver_node){time, 1, level};
  case PROCESS_FLOW: return (solver_node){time, 1 / (1 + level), level / (1 + level)};
  default: return level_node(time, level, false);
  }
}

static solver_node node_of_time(const process *p, double t) {
  process_point at = process_at(p, t);
  return (solver_node){process_network_time(p, t), at.alpha, at.sigma};
}

static bool stays_above_zero(int kind) { // in epsilon, or with weights that need log(alpha / sigma) where the step ends
  return kind == SAMPLER_DPM_SOLVER_1 || kind == SAMPLER_DPM_SOLVER_2 || kind == SAMPLER_DPM_SOLVER_3 || kind == SAMPLER_SA_SOLVER ||
         kind == SAMPLER_RK45;
}

int64_t own_table_steps(const sampler_config *c) {
  return c->table.count - (c->spacing == SPACING_SIGMAS || c->final == FINAL_END || stays_above_zero(c->sampler));
}

static bool starts_anywhere(int kind) { // alpha = 0 included
  return kind == SAMPLER_FLOW_EULER || kind == SAMPLER_FLOW_HEUN || kind == SAMPLER_DDPM || kind == SAMPLER_DDIM || kind == SAMPLER_RK45;
}

static int auto_spacing(const process *p, int kind) {
  bool levels = process_kind(p) == PROCESS_EDM || process_kind(p) == PROCESS_VE;
  switch ((sampler_kind)kind) {
  case SAMPLER_EULER:
  case SAMPLER_EULER_A:
  case SAMPLER_HEUN:
  case SAMPLER_EDM:
  case SAMPLER_DPM2:
  case SAMPLER_DPM2_A:
  case SAMPLER_LMS:
  case SAMPLER_DPMPP_SDE: return SPACING_KARRAS;
  case SAMPLER_PNDM: // its extrapolated epsilon does not bear a start where alpha is all but 0
  case SAMPLER_PLMS: return levels ? SPACING_LOGSNR : process_steps(p) ? SPACING_LEADING : SPACING_TRAILING;
  case SAMPLER_DDPM:
  case SAMPLER_DDIM:
  case SAMPLER_IPNDM:
  case SAMPLER_PC: return levels ? SPACING_LOGSNR : process_steps(p) ? SPACING_LINSPACE : SPACING_TRAILING;
  case SAMPLER_FLOW_EULER:
  case SAMPLER_FLOW_HEUN: return SPACING_TRAILING;
  default: return SPACING_LOGSNR;
  }
}

// --- where the nodes lie ---
typedef struct own_range {
  double first, last; // times
  bool zero;          // the last node is sigma = 0
  int n;
} own_range;

static elbo_status own_bounds(elbo_ctx *ctx, const sampler_config *c, const process *p, int spacing, schedule *s, int n, own_range *out) {
  bool timed = spacing >= SPACING_LINSPACE && spacing <= SPACING_TRAILING;
  bool by_noise = s->prediction == PREDICT_EPSILON || s->prediction == PREDICT_SCORE, flow = process_kind(p) == PROCESS_FLOW;
  double T = (double)process_steps(p);
  if (c->final == FINAL_ZERO && stays_above_zero(s->kind))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "final: zero is where this sampler cannot step; expected end");
  out->n = n;
  out->zero = c->final == FINAL_ZERO || (c->final == FINAL_AUTO && !stays_above_zero(s->kind));
  out->first = 1;
  // where nothing of the data is left, log-SNR has no value to space, and epsilon says nothing of x0
  if (process_at(p, 1).alpha == 0 && (!timed || !starts_anywhere(s->kind) || (by_noise && s->clip == CLIP_NONE)))
    out->first = T > 0 ? (T - 1) / T : 0.999;
  const bool preserving = process_kind(p) != PROCESS_EDM && process_kind(p) != PROCESS_VE && !flow;
  const bool asked = c->spacing >= SPACING_LINSPACE && c->spacing <= SPACING_TRAILING;
  if (by_noise && preserving && !asked && s->kind != SAMPLER_DDPM && s->kind != SAMPLER_RK45 &&
      process_at(p, out->first).logsnr < 2 * LEAST_HALF_LOGSNR) {
    out->first = process_time_of_logsnr(p, 2 * LEAST_HALF_LOGSNR);
    if (T > 0) out->first = floor(out->first * T) / T;
  }
  out->last = c->t_end > 0 ? c->t_end : T > 0 ? 1 / T : flow && s->kind != SAMPLER_RK45 ? 1e-3 : 0;
  if (flow && s->kind == SAMPLER_RK45 && (s->prediction == PREDICT_X0 || s->prediction == PREDICT_EDM) && c->t_end == 0) out->last = 1e-3;
  if (!(out->last < out->first)) return fail(ctx, ELBO_ERROR_ARGUMENT, "t_end: not below the first time, %g", out->first);
  return ELBO_OK;
}

static void time_nodes(const process *p, int spacing, const own_range *r, double *at, schedule *s) {
  int n = r->n, placed = n + !r->zero;
  double T = (double)process_steps(p), span = r->first - (r->zero && spacing == SPACING_TRAILING ? 0 : r->last);
  if (T > 0) {
    int64_t count = (int64_t)rint(r->first * T);
    indices_first(spacing - SPACING_LINSPACE, count, 0, placed, true, at);
    for (int k = 0; k < placed; k++) at[k] = (at[k] + 1) / T;
  } else if (spacing == SPACING_LINSPACE || !r->zero) {
    spacing_linear(r->first, r->last, placed, at);
  } else { // n strides; trailing leaves out the end, leading the start
    for (int k = 0; k < n; k++) at[k] = r->first - span * (k + (spacing == SPACING_LEADING)) / n;
  }
  for (int k = 0; k < placed; k++) s->node[k] = node_of_time(p, at[k]);
}

static void level_spaced_nodes(const process *p, int spacing, const own_range *r, double *at, schedule *s) {
  int placed = r->n + !r->zero;
  solver_node first = node_of_time(p, r->first), last = node_of_time(p, r->last);
  double high = first.sigma / first.alpha, low = last.sigma / last.alpha;
  if (spacing == SPACING_KARRAS) {
    spacing_karras(high, low, 7, placed, at);
  } else if (spacing == SPACING_BETA) {
    spacing_beta(high, low, placed, at);
  } else {
    spacing_exponential(high, low, placed, at);
  }
  for (int k = 0; k < placed; k++) s->node[k] = node_of_level(p, at[k]);
  s->node[0] = first;
  if (placed > 1) s->node[placed - 1] = last;
}

static elbo_status table_nodes(elbo_ctx *ctx, const sampler_config *c, const process *p, schedule *s) {
  double T = (double)process_steps(p);
  bool sigmas = c->spacing == SPACING_SIGMAS;
  for (int64_t i = 0; i < c->table.count; i++) {
    char text[NUMBER_TEXT];
    double v = c->table.at[i];
    bool inside = sigmas ? v > 0 || (v == 0 && i == c->table.count - 1) : T > 0 ? v >= 0 && v <= T - 1 : v >= 0 && v <= 1;
    if (!inside || (i && !(v < c->table.at[i - 1])))
      return fail(ctx, ELBO_ERROR_ARGUMENT, "table[%lld]: %s; expected falling %s", (long long)i, number_text(v, text),
                  sigmas  ? "noise levels sigma / alpha, of which the last alone may be 0"
                  : T > 0 ? "timesteps of the process"
                          : "times in [0, 1]");
    s->node[i] = sigmas ? node_of_level(p, v) : node_of_time(p, T > 0 ? (v + 1) / T : v);
  }
  if (sigmas && c->table.at[c->table.count - 1] == 0 && stays_above_zero(s->kind))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "table: ends at 0, where this sampler cannot step");
  return ELBO_OK;
}

// --- inner nodes ---
static void pndm_inner(const process *p, const double *at, bool timed, schedule *s, int k) {
  if (s->kind == SAMPLER_PLMS) {
    if (k == 0) s->mid[0] = s->node[1], s->mid[1] = s->node[0];
    return;
  }
  if (k >= 3) return;
  double from = s->node[k].sigma / s->node[k].alpha, to = s->node[k + 1].sigma / s->node[k + 1].alpha;
  s->mid[2 * k] = timed ? node_of_time(p, (at[k] + at[k + 1]) / 2) : node_of_level(p, sqrt(from * to));
  s->mid[2 * k + 1] = s->node[k + 1];
  s->target[k] = s->mid[2 * k];
}

static void inner_nodes(const process *p, const double *at, bool timed, schedule *s) {
  for (int k = 0; k < s->steps; k++) {
    double from = s->node[k].sigma / s->node[k].alpha, to = s->node[k + 1].sigma / s->node[k + 1].alpha;
    switch ((sampler_kind)s->kind) {
    case SAMPLER_PNDM:
    case SAMPLER_PLMS: pndm_inner(p, at, timed, s, k); break;
    case SAMPLER_EDM: { // [Karras22 algorithm 2 line 5]
      double gamma = from >= s->s_tmin && from <= s->s_tmax ? fmin(s->s_churn / s->steps, sqrt(2) - 1) : 0;
      s->mid[2 * k] = gamma > 0 ? node_of_level(p, from * (1 + gamma)) : s->node[k];
      break;
    }
    case SAMPLER_DPM2_A: to = to * to / from; // fall through
    case SAMPLER_DPM2:
    case SAMPLER_DPMPP_SDE:
      if (to > 0) s->mid[2 * k] = node_of_level(p, sqrt(from * to));
      break;
    default: // DPM-Solver-2 and -3: halves or thirds of the step in log level
      if (to > 0) s->mid[2 * k] = node_of_level(p, from * pow(to / from, s->max_order == 3 ? 1 / 3.0 : 0.5));
      if (to > 0) s->mid[2 * k + 1] = node_of_level(p, from * pow(to / from, 2 / 3.0));
      break;
    }
  }
}

static bool has_inner(int kind, int order) {
  bool single = kind == SAMPLER_DPM_SOLVER_2 || kind == SAMPLER_DPM_SOLVER_3 || kind == SAMPLER_DPMPP_2S;
  return kind == SAMPLER_PNDM || kind == SAMPLER_PLMS || kind == SAMPLER_EDM || kind == SAMPLER_DPM2 || kind == SAMPLER_DPM2_A ||
         kind == SAMPLER_DPMPP_SDE || (single && order > 1);
}

static double own_first_scale(const process *p, const schedule *s) {
  solver_node first = s->node[0];
  bool preserving = process_kind(p) != PROCESS_EDM && process_kind(p) != PROCESS_VE && process_kind(p) != PROCESS_FLOW;
  double scale = preserving ? 1 : first.sigma; // of N(0, alpha^2 var(x0) + sigma^2)
  return s->space == STATE_RATIO ? scale / first.alpha : scale;
}

static elbo_status check_steps(elbo_ctx *ctx, const sampler_config *c, const process *p, const schedule *s, int n) {
  if (process_steps(p) && n > process_steps(p))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; the process has %lld timesteps", n, (long long)process_steps(p));
  if (c->table.count && n != own_table_steps(c))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; the table makes %lld", n, (long long)own_table_steps(c));
  if (s->kind == SAMPLER_PNDM && n < 4) return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; pndm needs at least 4", n);
  return ELBO_OK;
}

elbo_status schedule_own_nodes(elbo_ctx *ctx, const scheduler_config *config, const process *p, int n, schedule *s) {
  const sampler_config *c = &config->own;
  own_range range = {0};
  double *at;
  int spacing = c->spacing == SPACING_AUTO ? auto_spacing(p, s->kind) : c->spacing;
  TRY(own_bounds(ctx, c, p, s->kind == SAMPLER_RK45 ? SPACING_LINSPACE : spacing, s, n, &range));
  if (s->kind == SAMPLER_RK45) n = 1;
  TRY(check_steps(ctx, c, p, s, n));
  TRY(schedule_room(ctx, s, n, has_inner(s->kind, s->max_order) && !(s->kind == SAMPLER_PLMS && n == 1)));
  if (s->kind == SAMPLER_RK45) {
    s->t_first = range.first;
    s->t_last = range.last;
    s->node[0] = node_of_time(p, range.first);
    s->node[1] = s->target[0] = node_of_time(p, range.last);
    s->first_scale = own_first_scale(p, s);
    return ELBO_OK;
  }
  TRY(array_new(ctx, (size_t)n + 2, sizeof(double), "times", (void **)&at));
  bool timed = spacing >= SPACING_LINSPACE && spacing <= SPACING_TRAILING;
  elbo_status status = ELBO_OK;
  s->node[n] = (solver_node){0, 1, 0};
  if (c->table.count) {
    status = table_nodes(ctx, c, p, s);
  } else if (timed) {
    time_nodes(p, spacing, &range, at, s);
  } else {
    level_spaced_nodes(p, spacing, &range, at, s);
  }
  for (int k = 0; k < n; k++) s->target[k] = s->node[k + 1];
  if (status == ELBO_OK && s->mid) inner_nodes(p, at, timed && !range.zero && !process_steps(p), s);
  s->first_scale = status == ELBO_OK ? own_first_scale(p, s) : 1;
  free(at);
  return status;
}
