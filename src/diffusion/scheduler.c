// The keys of diffusers' scheduler classes, each with its class' own default.
#include "diffusion/scheduler.h"

#include <math.h>
#include <string.h>

#include "diffusion/scheduler_table.h"

#define BETAS "linear|scaled_linear|squaredcos_cap_v2"
#define PREDICTIONS "epsilon|sample|v_prediction"
#define PREDICTIONS_FLOW PREDICTIONS "|flow_prediction"
#define PREDICTIONS_NOISE "epsilon|v_prediction"
#define SPACINGS "linspace|leading|trailing"
#define SOLVERS "dpmsolver|dpmsolver++|sde-dpmsolver|sde-dpmsolver++|deis"
#define BIG 1e300

typedef scheduler_config S;

#define INT(F, MIN, MAX, DEF) CONFIG_INT(S, F, MIN, MAX, DEF, "", "")
#define FLOAT(F, MIN, MAX, DEF) CONFIG_FLOAT(S, F, MIN, MAX, DEF, "", "")
#define BOOL(F, DEF) CONFIG_BOOL(S, F, DEF, "")
#define ENUM(F, DEF, NAMES) CONFIG_ENUM(S, F, DEF, NAMES, "")
#define TRAIN_STEPS(DEF) INT(num_train_timesteps, 1, 1e6, DEF)
#define BETA_KEYS(START, END, NAMES)                                                                                               \
  TRAIN_STEPS("1000"), FLOAT(beta_start, -BIG, BIG, START), FLOAT(beta_end, -BIG, BIG, END), ENUM(beta_schedule, "linear", NAMES), \
      CONFIG_FLOATS(S, trained_betas, -BIG, BIG, "[]", "", "")
#define THRESHOLD_KEYS BOOL(thresholding, "false"), FLOAT(dynamic_thresholding_ratio, 0, 1, "0.995"), FLOAT(sample_max_value, 0, BIG, "1")
#define CLIP_KEYS(DEF) BOOL(clip_sample, DEF), FLOAT(clip_sample_range, 0, BIG, "1")
#define SPACING_KEYS(DEF) ENUM(timestep_spacing, DEF, SPACINGS), INT(steps_offset, 0, 1e6, "0")
#define SIGMA_KEYS BOOL(use_karras_sigmas, "false"), BOOL(use_exponential_sigmas, "false"), BOOL(use_beta_sigmas, "false")
#define FLOW_KEYS BOOL(use_flow_sigmas, "false"), FLOAT(flow_shift, 1e-6, 1e6, "1")
#define SHIFT_KEYS(NAMES) BOOL(use_dynamic_shifting, "false"), ENUM(time_shift_type, "exponential", NAMES)
#define FINAL_KEY ENUM(final_sigmas_type, "zero", "zero|sigma_min")
#define ZERO_SNR_KEY BOOL(rescale_betas_zero_snr, "false")
#define LAMBDA_KEY FLOAT(lambda_min_clipped, -INFINITY, 100, "-.inf")
#define VARIANCE_KEY ENUM(variance_type, "none", "none|learned|learned_range")
#define SOLVER_TYPE_KEY ENUM(solver_type, "midpoint", "midpoint|heun|logrho|bh1|bh2")

static const config_field ddpm_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS "|sigmoid|laplace"),
    ENUM(variance_type, "fixed_small", "fixed_small|fixed_small_log|fixed_large|fixed_large_log|learned|learned_range"),
    CLIP_KEYS("true"),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    THRESHOLD_KEYS,
    SPACING_KEYS("leading"),
    ZERO_SNR_KEY,
};
static const config_field ddim_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    CLIP_KEYS("true"),
    BOOL(set_alpha_to_one, "true"),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    THRESHOLD_KEYS,
    SPACING_KEYS("leading"),
    ZERO_SNR_KEY,
};
static const config_field ddim_inverse_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    CLIP_KEYS("true"),
    BOOL(set_alpha_to_one, "true"),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    ENUM(timestep_spacing, "leading", SPACINGS),
    INT(steps_offset, 0, 1e6, "0"),
    ZERO_SNR_KEY,
};
static const config_field pndm_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    BOOL(skip_prk_steps, "false"),
    BOOL(set_alpha_to_one, "false"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_NOISE),
    SPACING_KEYS("leading"),
};
static const config_field lms_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    SIGMA_KEYS,
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    SPACING_KEYS("linspace"),
};
static const config_field euler_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    ENUM(interpolation_type, "linear", "linear|log_linear"),
    SIGMA_KEYS,
    FLOAT(sigma_min, 0, 1e9, "0"),
    FLOAT(sigma_max, 0, 1e9, "0"),
    SPACING_KEYS("linspace"),
    ENUM(timestep_type, "discrete", "discrete|continuous"),
    ZERO_SNR_KEY,
    FINAL_KEY,
};
static const config_field euler_ancestral_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    SPACING_KEYS("linspace"),
    ZERO_SNR_KEY,
};
static const config_field heun_fields[] = {
    BETA_KEYS("0.00085", "0.012", BETAS "|sigmoid|laplace|exp"),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    SIGMA_KEYS,
    CLIP_KEYS("false"),
    SPACING_KEYS("linspace"),
};
static const config_field kdpm2_fields[] = {
    BETA_KEYS("0.00085", "0.012", BETAS),
    SIGMA_KEYS,
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    SPACING_KEYS("linspace"),
};
static const config_field dpm_multistep_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    INT(solver_order, 1, 3, "2"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_FLOW),
    THRESHOLD_KEYS,
    ENUM(algorithm_type, "dpmsolver++", SOLVERS),
    SOLVER_TYPE_KEY,
    BOOL(lower_order_final, "true"),
    BOOL(euler_at_final, "false"),
    SIGMA_KEYS,
    BOOL(use_lu_lambdas, "false"),
    FLOW_KEYS,
    FINAL_KEY,
    LAMBDA_KEY,
    VARIANCE_KEY,
    SPACING_KEYS("linspace"),
    ZERO_SNR_KEY,
    SHIFT_KEYS("exponential|linear"),
};
static const config_field dpm_singlestep_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    INT(solver_order, 1, 3, "2"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_FLOW),
    THRESHOLD_KEYS,
    ENUM(algorithm_type, "dpmsolver++", SOLVERS),
    SOLVER_TYPE_KEY,
    BOOL(lower_order_final, "false"),
    SIGMA_KEYS,
    FLOW_KEYS,
    FINAL_KEY,
    LAMBDA_KEY,
    VARIANCE_KEY,
    SHIFT_KEYS("exponential|linear"),
};
static const config_field dpm_sde_fields[] = {
    BETA_KEYS("0.00085", "0.012", BETAS),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    SIGMA_KEYS,
    CONFIG_STRING(S, noise_sampler_seed, "", ""),
    SPACING_KEYS("linspace"),
};
static const config_field unipc_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    INT(solver_order, 1, 5, "2"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_FLOW),
    THRESHOLD_KEYS,
    BOOL(predict_x0, "true"),
    ENUM(solver_type, "bh2", "midpoint|heun|logrho|bh1|bh2"),
    BOOL(lower_order_final, "true"),
    CONFIG_INTS(S, disable_corrector, 0, 1e6, "[]", "", ""),
    CONFIG_STRING(S, solver_p, "", ""),
    SIGMA_KEYS,
    FLOW_KEYS,
    SPACING_KEYS("linspace"),
    FINAL_KEY,
    ZERO_SNR_KEY,
    SHIFT_KEYS("exponential|linear"),
    FLOAT(sigma_min, 0, 1e9, "0"),
    FLOAT(sigma_max, 0, 1e9, "0"),
    FLOAT(shift_terminal, 0, 0.999999, "0"),
};
static const config_field deis_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    INT(solver_order, 1, 3, "2"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_FLOW),
    THRESHOLD_KEYS,
    ENUM(algorithm_type, "deis", SOLVERS),
    ENUM(solver_type, "logrho", "midpoint|heun|logrho|bh1|bh2"),
    BOOL(lower_order_final, "true"),
    SIGMA_KEYS,
    FLOW_KEYS,
    SPACING_KEYS("linspace"),
    SHIFT_KEYS("exponential|linear"),
};
static const config_field ipndm_fields[] = {
    TRAIN_STEPS("1000"),
    CONFIG_FLOATS(S, trained_betas, -BIG, BIG, "[]", "", ""),
};
static const config_field sa_solver_fields[] = {
    BETA_KEYS("0.0001", "0.02", BETAS),
    INT(predictor_order, 1, 4, "2"),
    INT(corrector_order, 1, 4, "2"),
    ENUM(prediction_type, "epsilon", PREDICTIONS_FLOW),
    CONFIG_STRING(S, tau_func, "", ""),
    THRESHOLD_KEYS,
    ENUM(algorithm_type, "data_prediction", "data_prediction|noise_prediction"),
    BOOL(lower_order_final, "true"),
    SIGMA_KEYS,
    FLOW_KEYS,
    LAMBDA_KEY,
    VARIANCE_KEY,
    SPACING_KEYS("linspace"),
};
#define EDM_KEYS                                                                                                                      \
  FLOAT(sigma_min, 1e-9, 1e9, "0.002"), FLOAT(sigma_max, 1e-9, 1e9, "80"), FLOAT(sigma_data, 1e-9, 1e9, "0.5"),                       \
      ENUM(sigma_schedule, "karras", "karras|exponential"), TRAIN_STEPS("1000"), ENUM(prediction_type, "epsilon", PREDICTIONS_NOISE), \
      FLOAT(rho, 0.01, 1000, "7"), FINAL_KEY
static const config_field edm_euler_fields[] = {EDM_KEYS};
static const config_field edm_dpm_fields[] = {
    EDM_KEYS,
    INT(solver_order, 1, 3, "2"),
    THRESHOLD_KEYS,
    ENUM(algorithm_type, "dpmsolver++", SOLVERS),
    SOLVER_TYPE_KEY,
    BOOL(lower_order_final, "true"),
    BOOL(euler_at_final, "false"),
};
static const config_field flow_euler_fields[] = {
    TRAIN_STEPS("1000"),
    FLOAT(shift, 1e-6, 1e6, "1"),
    FLOAT(base_shift, -BIG, BIG, "0.5"),
    FLOAT(max_shift, -BIG, BIG, "1.15"),
    INT(base_image_seq_len, 0, 1e12, "256"),
    INT(max_image_seq_len, 0, 1e12, "4096"),
    BOOL(invert_sigmas, "false"),
    FLOAT(shift_terminal, 0, 0.999999, "0"),
    SIGMA_KEYS,
    SHIFT_KEYS("exponential|linear"),
    BOOL(stochastic_sampling, "false"),
};
static const config_field flow_heun_fields[] = {
    TRAIN_STEPS("1000"),
    FLOAT(shift, 1e-6, 1e6, "1"),
};
static const config_field score_sde_ve_fields[] = {
    TRAIN_STEPS("2000"),
    FLOAT(snr, 0, 1e6, "0.15"),
    FLOAT(sigma_min, 1e-9, 1e9, "0.01"),
    FLOAT(sigma_max, 1e-9, 1e9, "1348"),
    FLOAT(sampling_eps, 0, 1, "1e-5"),
    INT(correct_steps, 0, 1000, "1"),
};
// steps_offset, set_alpha_to_one and timestep_spacing stand in these classes' files and change nothing.
static const config_field consistency_fields[] = {
    TRAIN_STEPS("1000"),
    FLOAT(beta_start, -BIG, BIG, "0.00085"),
    FLOAT(beta_end, -BIG, BIG, "0.012"),
    ENUM(beta_schedule, "scaled_linear", BETAS),
    CONFIG_FLOATS(S, trained_betas, -BIG, BIG, "[]", "", ""),
    INT(original_inference_steps, 1, 1e6, "50"),
    CLIP_KEYS("false"),
    BOOL(set_alpha_to_one, "true"),
    INT(steps_offset, 0, 1e6, "0"),
    ENUM(prediction_type, "epsilon", PREDICTIONS),
    THRESHOLD_KEYS,
    ENUM(timestep_spacing, "leading", SPACINGS),
    FLOAT(timestep_scaling, 1e-9, 1e9, "10"),
    ZERO_SNR_KEY,
};

#define ENTRY(NAME, FIELDS) [SCHEDULER_##NAME] = CONFIG_TABLE(#NAME, S, FIELDS, "")
static const config_table tables[SCHEDULER_CLASS_COUNT] = {
    ENTRY(DDPM, ddpm_fields),
    ENTRY(DDIM, ddim_fields),
    ENTRY(DDIM_INVERSE, ddim_inverse_fields),
    ENTRY(PNDM, pndm_fields),
    ENTRY(LMS, lms_fields),
    ENTRY(EULER, euler_fields),
    ENTRY(EULER_ANCESTRAL, euler_ancestral_fields),
    ENTRY(HEUN, heun_fields),
    ENTRY(KDPM2, kdpm2_fields),
    ENTRY(KDPM2_ANCESTRAL, kdpm2_fields),
    ENTRY(DPM_MULTISTEP, dpm_multistep_fields),
    ENTRY(DPM_SINGLESTEP, dpm_singlestep_fields),
    ENTRY(DPM_SDE, dpm_sde_fields),
    ENTRY(UNIPC, unipc_fields),
    ENTRY(DEIS, deis_fields),
    ENTRY(IPNDM, ipndm_fields),
    ENTRY(SA_SOLVER, sa_solver_fields),
    ENTRY(EDM_EULER, edm_euler_fields),
    ENTRY(EDM_DPM_MULTISTEP, edm_dpm_fields),
    ENTRY(FLOW_EULER, flow_euler_fields),
    ENTRY(FLOW_HEUN, flow_heun_fields),
    ENTRY(SCORE_SDE_VE, score_sde_ve_fields),
    ENTRY(LCM, consistency_fields),
    ENTRY(TCD, consistency_fields),
};
static const char *const class_names[SCHEDULER_CLASS_COUNT] = {
    [SCHEDULER_DDPM] = "DDPMScheduler",
    [SCHEDULER_DDIM] = "DDIMScheduler",
    [SCHEDULER_DDIM_INVERSE] = "DDIMInverseScheduler",
    [SCHEDULER_PNDM] = "PNDMScheduler",
    [SCHEDULER_LMS] = "LMSDiscreteScheduler",
    [SCHEDULER_EULER] = "EulerDiscreteScheduler",
    [SCHEDULER_EULER_ANCESTRAL] = "EulerAncestralDiscreteScheduler",
    [SCHEDULER_HEUN] = "HeunDiscreteScheduler",
    [SCHEDULER_KDPM2] = "KDPM2DiscreteScheduler",
    [SCHEDULER_KDPM2_ANCESTRAL] = "KDPM2AncestralDiscreteScheduler",
    [SCHEDULER_DPM_MULTISTEP] = "DPMSolverMultistepScheduler",
    [SCHEDULER_DPM_SINGLESTEP] = "DPMSolverSinglestepScheduler",
    [SCHEDULER_DPM_SDE] = "DPMSolverSDEScheduler",
    [SCHEDULER_UNIPC] = "UniPCMultistepScheduler",
    [SCHEDULER_DEIS] = "DEISMultistepScheduler",
    [SCHEDULER_IPNDM] = "IPNDMScheduler",
    [SCHEDULER_SA_SOLVER] = "SASolverScheduler",
    [SCHEDULER_EDM_EULER] = "EDMEulerScheduler",
    [SCHEDULER_EDM_DPM_MULTISTEP] = "EDMDPMSolverMultistepScheduler",
    [SCHEDULER_FLOW_EULER] = "FlowMatchEulerDiscreteScheduler",
    [SCHEDULER_FLOW_HEUN] = "FlowMatchHeunDiscreteScheduler",
    [SCHEDULER_SCORE_SDE_VE] = "ScoreSdeVeScheduler",
    [SCHEDULER_LCM] = "LCMScheduler",
    [SCHEDULER_TCD] = "TCDScheduler",
};

const config_table *scheduler_class_table(int class_) { return &tables[class_]; }
const char *scheduler_class_name(int class_) {
  return class_ > SCHEDULER_OWN && class_ < SCHEDULER_CLASS_COUNT ? class_names[class_] : NULL;
}

const config_field *scheduler_class_field(int class_, const char *name) {
  for (int i = 0; i < tables[class_].n_fields; i++)
    if (strcmp(tables[class_].fields[i].name, name) == 0) return &tables[class_].fields[i];
  return NULL;
}

bool scheduler_field_nullable(const config_field *f) {
  static const char *const names[] = {"trained_betas", "solver_p", "tau_func", "noise_sampler_seed", "shift_terminal"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(f->name, names[i]) == 0) return true;
  if (f->type == CONFIG_TYPE_ENUM) return strncmp(f->names, "none|", 5) == 0;
  return f->offset == offsetof(S, sigma_min) || f->offset == offsetof(S, sigma_max) ? strcmp(f->default_text, "0") == 0 : false;
}

bool scheduler_learned_variance(const scheduler_config *c) {
  if (c->class_ == SCHEDULER_OWN) return c->own.sampler == SAMPLER_DDPM && c->own.variance >= VARIANCE_LEARNED;
  const config_field *f = scheduler_class_field(c->class_, "variance_type");
  if (!f) return false;
  return c->class_ == SCHEDULER_DDPM ? c->variance_type >= VARIANCE_LEARNED : c->variance_type > 0;
}
