// The plan of a run: the solver's options from a scheduler config, then its nodes.
#include "diffusion/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"

elbo_status schedule_room(elbo_ctx *ctx, schedule *s, int steps, bool mids) {
  size_t n = (size_t)steps;
  s->steps = steps;
  TRY(array_new(ctx, n + 1, sizeof(solver_node), "nodes", (void **)&s->node));
  TRY(array_new(ctx, n, sizeof(solver_node), "nodes", (void **)&s->target));
  if (mids) TRY(array_new(ctx, 2 * n, sizeof(solver_node), "nodes", (void **)&s->mid));
  TRY(array_new(ctx, n, sizeof(int), "orders", (void **)&s->order));
  return ELBO_OK;
}

void schedule_free(schedule *s) {
  free(s->node);
  free(s->target);
  free(s->mid);
  free(s->order);
  *s = (schedule){0};
}

// --- options ---
static int kind_of(const scheduler_config *c) {
  static const int kinds[SCHEDULER_CLASS_COUNT] = {
      [SCHEDULER_DDPM] = SAMPLER_DDPM,
      [SCHEDULER_DDIM] = SAMPLER_DDIM,
      [SCHEDULER_DDIM_INVERSE] = SAMPLER_DDIM,
      [SCHEDULER_LMS] = SAMPLER_LMS,
      [SCHEDULER_EULER] = SAMPLER_EULER,
      [SCHEDULER_EULER_ANCESTRAL] = SAMPLER_EULER_A,
      [SCHEDULER_HEUN] = SAMPLER_HEUN,
      [SCHEDULER_KDPM2] = SAMPLER_DPM2,
      [SCHEDULER_KDPM2_ANCESTRAL] = SAMPLER_DPM2_A,
      [SCHEDULER_DPM_MULTISTEP] = SAMPLER_DPMPP_2M,
      [SCHEDULER_DPM_SINGLESTEP] = SAMPLER_DPMPP_2S,
      [SCHEDULER_DPM_SDE] = SAMPLER_DPMPP_SDE,
      [SCHEDULER_UNIPC] = SAMPLER_UNIPC,
      [SCHEDULER_DEIS] = SAMPLER_DEIS,
      [SCHEDULER_IPNDM] = SAMPLER_IPNDM,
      [SCHEDULER_SA_SOLVER] = SAMPLER_SA_SOLVER,
      [SCHEDULER_EDM_EULER] = SAMPLER_EULER,
      [SCHEDULER_EDM_DPM_MULTISTEP] = SAMPLER_DPMPP_2M,
      [SCHEDULER_FLOW_EULER] = SAMPLER_FLOW_EULER,
      [SCHEDULER_FLOW_HEUN] = SAMPLER_FLOW_HEUN,
      [SCHEDULER_SCORE_SDE_VE] = SAMPLER_PC,
      [SCHEDULER_LCM] = SAMPLER_DDPM, // with steps of their own
      [SCHEDULER_TCD] = SAMPLER_DDPM,
  };
  if (c->class_ == SCHEDULER_OWN) return c->own.sampler;
  if (c->class_ == SCHEDULER_PNDM) return c->skip_prk_steps ? SAMPLER_PLMS : SAMPLER_PNDM;
  return kinds[c->class_];
}

static bool in_ratio_space(int kind) {
  return kind == SAMPLER_EULER || kind == SAMPLER_EULER_A || kind == SAMPLER_HEUN || kind == SAMPLER_EDM || kind == SAMPLER_DPM2 ||
         kind == SAMPLER_DPM2_A || kind == SAMPLER_LMS || kind == SAMPLER_DPMPP_SDE;
}

static void class_options(const scheduler_config *c, schedule *s) {
  static const int algorithms[] = {SOLVE_EPSILON, SOLVE_X0, SOLVE_SDE_EPSILON, SOLVE_SDE_X0, SOLVE_EPSILON};
  s->variance = c->variance_type;
  s->clip = c->thresholding ? CLIP_DYNAMIC : c->clip_sample ? CLIP_RANGE : CLIP_NONE;
  s->clip_range = c->clip_sample_range;
  s->threshold_ratio = c->dynamic_thresholding_ratio;
  s->threshold_max = c->sample_max_value;
  s->epsilon_follows = c->class_ != SCHEDULER_DDIM && c->class_ != SCHEDULER_DDIM_INVERSE;
  s->max_order = (int)c->solver_order;
  s->algorithm = algorithms[c->algorithm_type];
  s->heun = c->solver_type == 1;
  s->lower_order_final = c->lower_order_final;
  s->snr = c->snr;
  s->corrector_steps = (int)c->correct_steps;
  s->renoise = c->stochastic_sampling;
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_LMS:
  case SCHEDULER_IPNDM: s->max_order = 4; break;
  case SCHEDULER_UNIPC:
    s->algorithm = c->predict_x0 ? SOLVE_X0 : SOLVE_EPSILON;
    s->bh1 = c->solver_type == 3;
    s->no_corrector = c->disable_corrector.at;
    s->no_correctors = c->disable_corrector.count;
    if (!c->predict_x0) s->clip = CLIP_NONE;
    break;
  case SCHEDULER_SA_SOLVER:
    s->algorithm = c->algorithm_type == 0 ? SOLVE_X0 : SOLVE_EPSILON;
    s->max_order = (int)c->predictor_order;
    s->corrector_order = (int)c->corrector_order;
    s->eta = 1;
    s->tau_low = 200;
    s->tau_high = 800;
    break;
  case SCHEDULER_EDM_EULER:
  case SCHEDULER_EDM_DPM_MULTISTEP: s->output_sign = c->prediction_type == 0 ? 1 : -1; break;
  case SCHEDULER_DDIM: s->eta = c->own.eta; break;
  case SCHEDULER_LCM: s->timestep_scaling = c->timestep_scaling; break;
  case SCHEDULER_TCD: s->clip = CLIP_NONE; break; // diffusers reads these keys and does not look at them
  default: break;
  }
}

static void own_options(const sampler_config *c, schedule *s) {
  int order = (int)c->order;
  s->variance = c->variance;
  s->clip = c->clip == STEP_CLIP_STATIC ? CLIP_RANGE : c->clip == STEP_CLIP_DYNAMIC ? CLIP_DYNAMIC : CLIP_NONE;
  s->clip_range = s->threshold_max = c->clip_range;
  s->threshold_ratio = c->clip_quantile;
  s->epsilon_follows = c->sampler != SAMPLER_DDIM;
  s->lower_order_final = c->lower_order_final;
  s->eta = c->eta;
  s->s_churn = c->s_churn;
  s->s_tmin = c->s_tmin;
  s->s_tmax = c->s_tmax;
  s->s_noise = c->s_noise;
  s->tau_low = -INFINITY;
  s->tau_high = INFINITY;
  s->snr = c->snr;
  s->corrector_steps = (int)c->corrector_steps;
  s->rtol = c->rtol;
  s->atol = c->atol;
  s->algorithm = SOLVE_X0;
  switch ((sampler_kind)c->sampler) {
  case SAMPLER_DPM_SOLVER_1:
  case SAMPLER_DPM_SOLVER_2:
  case SAMPLER_DPM_SOLVER_3:
    s->max_order = s->kind - SAMPLER_DPM_SOLVER_1 + 1;
    s->algorithm = SOLVE_EPSILON;
    s->heun = s->max_order == 3; // the stages of [Lu22 algorithm 2] are expansions
    break;
  case SAMPLER_DPMPP_2S:
  case SAMPLER_DPMPP_2M: s->max_order = 2; break;
  case SAMPLER_DPMPP_3M: s->max_order = 3; break;
  case SAMPLER_DPMPP_2M_SDE: s->max_order = 2, s->algorithm = SOLVE_SDE_X0; break;
  case SAMPLER_DPMPP_3M_SDE: s->max_order = 3, s->algorithm = SOLVE_SDE_X0; break;
  case SAMPLER_DEIS: s->max_order = order == 0 ? 2 : order > 3 ? 3 : order; break;
  case SAMPLER_LMS:
  case SAMPLER_IPNDM: s->max_order = order == 0 || order > 4 ? 4 : order; break;
  case SAMPLER_UNIPC: s->max_order = order ? order : 2; break;
  case SAMPLER_SA_SOLVER: // a corrector of one model is implicit Euler, which is worse than none at large steps
    s->max_order = order == 0 ? 2 : order > 4 ? 4 : order;
    s->corrector_order = s->max_order > 1 ? s->max_order : 2;
    break;
  default: s->max_order = 1; break;
  }
}

// --- orders of multistep solvers ---
static void multistep_orders(const scheduler_config *c, schedule *s) {
  bool final_zero = s->node[s->steps].sigma == 0, short_run = s->steps < 15;
  bool deis = s->kind == SAMPLER_DEIS, unipc = s->kind == SAMPLER_UNIPC;
  bool euler_last = !deis && ((c->class_ != SCHEDULER_OWN && c->euler_at_final) || final_zero);
  for (int k = 0; k < s->steps; k++) {
    int left = s->steps - k, order = s->max_order < k + 1 ? s->max_order : k + 1;
    if (unipc) {
      if (s->lower_order_final && order > left) order = left;
    } else {
      bool lower = s->lower_order_final && short_run;
      if (left == 1 && (lower || euler_last)) order = 1;
      if (left == 2 && lower && order > 2) order = 2;
    }
    solver_node from = s->node[k], to = s->target[k];
    if ((left == 1 && final_zero) || (from.sigma == to.sigma && from.alpha == to.alpha)) order = 1; // nothing to extrapolate over
    s->order[k] = order;
  }
}

// diffusers' groups of single steps: 1, 2, .. max_order again and again, the last group cut to end in order.
static void grouped_orders(const scheduler_config *c, schedule *s) {
  int n = s->steps, p = s->max_order;
  bool lower = c->lower_order_final || n % p != 0 || c->final_sigmas_type == 0;
  for (int k = 0; k < n; k++) s->order[k] = k % p + 1;
  if (lower && n % p == 0 && p > 1) { // the last group is 1, 2, .. p-1 and a 1 behind it
    s->order[n - 1] = 1;
  }
  if (c->final_sigmas_type == 0) s->order[n - 1] = 1;
}

static elbo_status check_nodes(elbo_ctx *ctx, const scheduler_config *c, const schedule *s) {
  char a[NUMBER_TEXT], b[NUMBER_TEXT];
  bool rising = c->class_ == SCHEDULER_DDIM_INVERSE || (c->class_ == SCHEDULER_FLOW_EULER && c->invert_sigmas);
  bool by_noise = s->prediction == PREDICT_EPSILON || s->prediction == PREDICT_SCORE;
  for (int k = 0; k < s->steps && !rising; k++) {
    double now = s->node[k].sigma / s->node[k].alpha, next = s->node[k + 1].sigma / s->node[k + 1].alpha;
    bool last = k == s->steps - 1;
    // classes that repeat their last level, and indices that round to the same one, step by nothing
    if (c->class_ == SCHEDULER_OWN ? next < now : next <= now || last) continue;
    return fail(ctx, ELBO_ERROR_ARGUMENT, "the noise level does not fall from step %d (%s) to the next (%s)", k, number_text(now, a),
                number_text(next, b));
  }
  if (s->node[0].alpha == 0 && by_noise && s->clip == CLIP_NONE)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "the first step has no signal left (zero terminal SNR): epsilon says nothing of x0 there; the network must predict v or x0, or "
        "x0 must be clipped");
  if (s->node[0].alpha == 0 && s->space == STATE_RATIO)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "this sampler works on x / alpha and cannot start where alpha is 0 (zero terminal SNR)");
  return ELBO_OK;
}

elbo_status schedule_make(elbo_ctx *ctx, const scheduler_config *config, const process *p, int steps, schedule *out) {
  *out = (schedule){.kind = kind_of(config),
                    .class_ = config->class_,
                    .first_scale = 1,
                    .prediction = config->prediction,
                    .sigma_data = config->sigma_data,
                    .output_sign = 1,
                    .learned_variance = scheduler_learned_variance(config)};
  out->space = in_ratio_space(out->kind) ? STATE_RATIO : STATE_PROCESS;
  if (steps == 0) {
    const sampler_config *own = &config->own;
    steps = own->steps > 0 ? (int)own->steps : own->table.count > 0 ? (int)own_table_steps(own) : 50;
  }
  if (steps < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "steps: %d; expected at least 1", steps);
  if (config->class_ == SCHEDULER_OWN) {
    own_options(&config->own, out);
    TRY(schedule_own_nodes(ctx, config, p, steps, out));
  } else {
    class_options(config, out);
    TRY(schedule_class_nodes(ctx, config, p, steps, out));
  }
  TRY(check_nodes(ctx, config, out));
  if (config->class_ == SCHEDULER_DPM_SINGLESTEP) {
    grouped_orders(config, out);
  } else {
    multistep_orders(config, out);
  }
  return ELBO_OK;
}
