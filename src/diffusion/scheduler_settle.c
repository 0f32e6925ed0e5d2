// What the keys of a scheduler mean together: spellings, refusals, the process.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/number.h"
#include "diffusion/scheduler_table.h"

// Places of names in the lists of scheduler.c.
enum { ALGORITHM_DPM, ALGORITHM_DPMPP, ALGORITHM_SDE_DPM, ALGORITHM_SDE_DPMPP, ALGORITHM_DEIS };
enum { SOLVER_MIDPOINT, SOLVER_HEUN, SOLVER_LOGRHO, SOLVER_BH1, SOLVER_BH2 };
enum { FLOW_PREDICTION = 3 };

static bool discrete_class(int c) {
  return c != SCHEDULER_OWN && c != SCHEDULER_IPNDM && c != SCHEDULER_EDM_EULER && c != SCHEDULER_EDM_DPM_MULTISTEP &&
         c != SCHEDULER_FLOW_EULER && c != SCHEDULER_FLOW_HEUN && c != SCHEDULER_SCORE_SDE_VE;
}

// Names that other schedulers use, which diffusers takes for a class' own when a config is moved between classes.
static void translate(scheduler_config *c) {
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_DPM_MULTISTEP:
  case SCHEDULER_DPM_SINGLESTEP:
  case SCHEDULER_EDM_DPM_MULTISTEP:
    if (c->algorithm_type == ALGORITHM_DEIS) c->algorithm_type = ALGORITHM_DPMPP;
    if (c->solver_type > SOLVER_HEUN) c->solver_type = SOLVER_MIDPOINT;
    break;
  case SCHEDULER_DEIS:
    if (c->algorithm_type <= ALGORITHM_DPMPP) c->algorithm_type = ALGORITHM_DEIS;
    c->solver_type = SOLVER_LOGRHO;
    break;
  case SCHEDULER_UNIPC:
    if (c->solver_type < SOLVER_BH1) c->solver_type = SOLVER_BH2;
    break;
  default: break;
  }
}

static int prediction_of(const scheduler_config *c) {
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_EDM_EULER:
  case SCHEDULER_EDM_DPM_MULTISTEP: return PREDICT_EDM;
  case SCHEDULER_FLOW_EULER:
  case SCHEDULER_FLOW_HEUN: return PREDICT_FLOW;
  case SCHEDULER_IPNDM: return PREDICT_V;
  case SCHEDULER_SCORE_SDE_VE: return PREDICT_SCORE;
  case SCHEDULER_PNDM: return c->prediction_type ? PREDICT_V : PREDICT_EPSILON;
  default: break;
  }
  static const int names[] = {PREDICT_EPSILON, PREDICT_X0, PREDICT_V, PREDICT_FLOW};
  return names[c->prediction_type];
}

static elbo_status check_beta(elbo_ctx *ctx, const char *where, const char *key, double beta) {
  char text[NUMBER_TEXT];
  if (beta > 0 && beta < 1) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: %s; a beta lies strictly between 0 and 1", where, key, number_text(beta, text));
}

static elbo_status check_betas(elbo_ctx *ctx, const char *where, const scheduler_config *c) {
  char key[40];
  if (!c->trained_betas.count) {
    if (c->beta_schedule == BETAS_COSINE || c->beta_schedule == BETAS_LAPLACE || c->beta_schedule == BETAS_EXP) return ELBO_OK;
    TRY(check_beta(ctx, where, "beta_start", c->beta_start));
    TRY(check_beta(ctx, where, "beta_end", c->beta_end));
    if (c->beta_start > c->beta_end)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: beta_start: larger than beta_end; expected beta_start <= beta_end", where);
    return ELBO_OK;
  }
  for (int64_t i = 0; i < c->trained_betas.count; i++) {
    snprintf(key, sizeof key, "trained_betas[%lld]", (long long)i);
    TRY(check_beta(ctx, where, key, c->trained_betas.at[i]));
  }
  if (c->trained_betas.count != c->num_train_timesteps)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: trained_betas: %lld numbers; num_train_timesteps says %lld", where,
                (long long)c->trained_betas.count, (long long)c->num_train_timesteps);
  return ELBO_OK;
}

// One of the ways to place noise levels at most, and only those that a flow's sigma has a meaning for.
static elbo_status check_sigmas(elbo_ctx *ctx, const char *where, const scheduler_config *c) {
  int ways = c->use_karras_sigmas + c->use_exponential_sigmas + c->use_beta_sigmas + c->use_lu_lambdas;
  if (ways > 1)
    return fail(
        ctx, ELBO_ERROR_ARGUMENT,
        "%s: use_karras_sigmas: only one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and use_lu_lambdas can be true",
        where);
  if (c->use_flow_sigmas && ways && !(c->class_ == SCHEDULER_UNIPC && c->use_karras_sigmas))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: use_flow_sigmas: does not go with %s, whose levels are not those of a flow", where,
                c->use_karras_sigmas        ? "use_karras_sigmas"
                : c->use_exponential_sigmas ? "use_exponential_sigmas"
                : c->use_beta_sigmas        ? "use_beta_sigmas"
                                            : "use_lu_lambdas");
  if (c->use_dynamic_shifting)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED,
                "%s: use_dynamic_shifting: true needs the length of a picture's token sequence, which is not known here; expected false",
                where);
  if (c->shift_terminal > 0 && c->class_ == SCHEDULER_UNIPC && !c->use_flow_sigmas)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: shift_terminal: needs use_flow_sigmas", where);
  if (c->sigma_max > 0 && c->sigma_min > 0 && c->sigma_min >= c->sigma_max)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: sigma_min: not below sigma_max", where);
  return ELBO_OK;
}

static elbo_status check_solver(elbo_ctx *ctx, const char *where, const scheduler_config *c) {
  bool dpm = c->class_ == SCHEDULER_DPM_MULTISTEP || c->class_ == SCHEDULER_DPM_SINGLESTEP || c->class_ == SCHEDULER_EDM_DPM_MULTISTEP;
  bool noise = dpm && (c->algorithm_type == ALGORITHM_DPM || c->algorithm_type == ALGORITHM_SDE_DPM);
  bool sde = dpm && (c->algorithm_type == ALGORITHM_SDE_DPM || c->algorithm_type == ALGORITHM_SDE_DPMPP);
  if (noise && c->class_ == SCHEDULER_EDM_DPM_MULTISTEP)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: algorithm_type: this class has dpmsolver++ and sde-dpmsolver++ alone", where);
  if (c->algorithm_type == ALGORITHM_SDE_DPM && c->class_ == SCHEDULER_DPM_SINGLESTEP)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: algorithm_type: this class has dpmsolver, dpmsolver++ and sde-dpmsolver++ alone", where);
  if (c->class_ == SCHEDULER_DEIS && c->algorithm_type != ALGORITHM_DEIS)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: algorithm_type: this class has deis alone", where);
  if (noise && c->final_sigmas_type == 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: final_sigmas_type: zero is where dpmsolver and sde-dpmsolver cannot step; expected sigma_min", where);
  if (c->solver_order == 3 &&
      (c->class_ == SCHEDULER_EDM_DPM_MULTISTEP ? sde : c->class_ == SCHEDULER_DPM_MULTISTEP && c->algorithm_type == ALGORITHM_SDE_DPM))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: solver_order: there is no third order of this algorithm_type", where);
  if (c->class_ == SCHEDULER_UNIPC && c->final_sigmas_type == 0) {
    if (!c->predict_x0)
      return fail(ctx, ELBO_ERROR_ARGUMENT,
                  "%s: final_sigmas_type: zero is where a solver in epsilon (predict_x0 false) cannot step; "
                  "expected sigma_min",
                  where);
    if (!c->lower_order_final && c->solver_order > 1)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: lower_order_final: false needs final_sigmas_type sigma_min", where);
  }
  if (c->prediction == PREDICT_FLOW && discrete_class(c->class_)) {
    if (!c->use_flow_sigmas)
      return fail(ctx, ELBO_ERROR_ARGUMENT,
                  "%s: prediction_type: flow_prediction needs use_flow_sigmas: a discrete process of betas has no flow", where);
    if (noise || (c->class_ == SCHEDULER_UNIPC && !c->predict_x0) || (c->class_ == SCHEDULER_SA_SOLVER && c->algorithm_type == 1))
      return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: prediction_type: flow_prediction goes with solvers in x0 alone", where);
  }
  return ELBO_OK;
}

elbo_status scheduler_settle(elbo_ctx *ctx, const char *where, scheduler_config *c) {
  translate(c);
  c->prediction = prediction_of(c);
  TRY(check_sigmas(ctx, where, c));
  TRY(check_solver(ctx, where, c));
  if (discrete_class(c->class_)) TRY(check_betas(ctx, where, c));
  if (c->class_ == SCHEDULER_HEUN && (c->beta_schedule == BETAS_SIGMOID || c->beta_schedule == BETAS_LAPLACE))
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: beta_schedule: this class has linear, scaled_linear, squaredcos_cap_v2 and exp alone",
                where);
  if ((c->class_ == SCHEDULER_LCM || c->class_ == SCHEDULER_TCD) && c->original_inference_steps > c->num_train_timesteps)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: original_inference_steps: %lld; num_train_timesteps says %lld", where,
                (long long)c->original_inference_steps, (long long)c->num_train_timesteps);
  if (c->class_ == SCHEDULER_DDIM_INVERSE && c->timestep_spacing == 0)
    return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: timestep_spacing: this class has leading and trailing alone", where);
  if (c->class_ == SCHEDULER_IPNDM)
    for (int64_t i = 0; i < c->trained_betas.count; i++)
      if (!(c->trained_betas.at[i] >= 0 && c->trained_betas.at[i] <= (i ? c->trained_betas.at[i - 1] : 1)))
        return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: trained_betas[%lld]: these are noise levels of this class, falling within [0, 1]", where,
                    (long long)i);
  static const struct {
    const char *key;
    size_t offset;
    const char *why;
  } nulls[] = {
      {"solver_p", offsetof(scheduler_config, solver_p), "another scheduler as predictor"},
      {"tau_func", offsetof(scheduler_config, tau_func), "a function"},
      {"noise_sampler_seed", offsetof(scheduler_config, noise_sampler_seed), "a seed of torch's noise (the noise here has the run's own)"}};
  for (int i = 0; i < 3; i++) {
    const char *text = *(const char *const *)(const void *)((const char *)c + nulls[i].offset);
    if (text && text[0])
      return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s: %s is not implemented; expected null", where, nulls[i].key, nulls[i].why);
  }
  return ELBO_OK;
}

void scheduler_process(const scheduler_config *c, process_config *out) {
  *out = (process_config){.type = PROCESS_DISCRETE,
                          .steps = c->num_train_timesteps,
                          .betas = c->trained_betas.count ? BETAS_TABLE : c->beta_schedule,
                          .beta_start = c->beta_start,
                          .beta_end = c->beta_end,
                          .table = c->trained_betas,
                          .zero_snr = c->rescale_betas_zero_snr,
                          .logsnr_min = -100,
                          .logsnr_max = 100,
                          .shift = 1,
                          .sigma_min = 0.002,
                          .sigma_max = 80,
                          .rho = 7};
  switch ((scheduler_class)c->class_) {
  case SCHEDULER_EDM_EULER:
  case SCHEDULER_EDM_DPM_MULTISTEP:
    out->type = PROCESS_EDM;
    out->sigma_min = c->sigma_min;
    out->sigma_max = c->sigma_max;
    out->rho = c->rho;
    break;
  case SCHEDULER_FLOW_EULER:
  case SCHEDULER_FLOW_HEUN:
    out->type = PROCESS_FLOW;
    out->shift = c->shift;
    break;
  case SCHEDULER_SCORE_SDE_VE:
    out->type = PROCESS_VE;
    out->sigma_min = c->sigma_min;
    out->sigma_max = c->sigma_max;
    break;
  case SCHEDULER_IPNDM: out->type = PROCESS_COSINE; break; // sigma = sin(pi t / 2)
  default:
    if (!c->use_flow_sigmas) return;
    out->type = PROCESS_FLOW;
    out->shift = c->flow_shift;
    break;
  }
  out->steps = 1000;
  out->betas = BETAS_LINEAR;
  out->beta_start = 1e-4;
  out->beta_end = 0.02;
  out->table = (config_floats){0};
  out->zero_snr = false;
}
