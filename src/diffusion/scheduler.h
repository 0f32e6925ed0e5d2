// What a sampler is told: the solver, where it steps, what the network predicts, how x0 is clipped. It comes from diffusers'
// scheduler_config.json, every key of it, or from `sample` of a recipe and the command line; both end in one struct.
#ifndef DIFFUSION_SCHEDULER_H
#define DIFFUSION_SCHEDULER_H

#include "core/config.h"
#include "diffusion/prediction.h"
#include "diffusion/process.h"

// --- a recipe's `sample.solver`, and the command line's --sampler, --steps and options ---
typedef enum sampler_kind {
  SAMPLER_DDPM,
  SAMPLER_DDIM,
  SAMPLER_PNDM,
  SAMPLER_PLMS,
  SAMPLER_EULER,
  SAMPLER_EULER_A,
  SAMPLER_HEUN,
  SAMPLER_EDM,
  SAMPLER_DPM2,
  SAMPLER_DPM2_A,
  SAMPLER_LMS,
  SAMPLER_DPM_SOLVER_1,
  SAMPLER_DPM_SOLVER_2,
  SAMPLER_DPM_SOLVER_3,
  SAMPLER_DPMPP_2S,
  SAMPLER_DPMPP_2M,
  SAMPLER_DPMPP_3M,
  SAMPLER_DPMPP_SDE,
  SAMPLER_DPMPP_2M_SDE,
  SAMPLER_DPMPP_3M_SDE,
  SAMPLER_UNIPC,
  SAMPLER_DEIS,
  SAMPLER_IPNDM,
  SAMPLER_SA_SOLVER,
  SAMPLER_PC,
  SAMPLER_FLOW_EULER,
  SAMPLER_FLOW_HEUN,
  SAMPLER_RK45,
  SAMPLER_COUNT
} sampler_kind;
#define SAMPLER_NAMES                                                                                                             \
  "ddpm|ddim|pndm|plms|euler|euler_a|heun|edm|dpm2|dpm2_a|lms|dpm_solver_1|dpm_solver_2|dpm_solver_3|dpmpp_2s|dpmpp_2m|dpmpp_3m|" \
  "dpmpp_sde|dpmpp_2m_sde|dpmpp_3m_sde|unipc|deis|ipndm|sa_solver|pc|flow_euler|flow_heun|rk45"

typedef enum step_spacing {
  SPACING_AUTO, // what the sampler's paper or diffusers class takes
  SPACING_LINSPACE,
  SPACING_LEADING,
  SPACING_TRAILING,
  SPACING_KARRAS,
  SPACING_EXPONENTIAL,
  SPACING_BETA,
  SPACING_LOGSNR,    // uniform in log-SNR
  SPACING_TIMESTEPS, // a table of times (indices of a discrete process, t in [0,1] of a continuous one), falling
  SPACING_SIGMAS     // a table of sigma / alpha, falling, the end included
} step_spacing;

typedef enum step_final {
  FINAL_AUTO, // zero for solvers that can step there
  FINAL_ZERO, // the last step goes to sigma = 0
  FINAL_END   // it ends at the last noise level of the process (or of the table)
} step_final;
// Where a network that predicts noise starts at the most: half the log-SNR below which its x0, of an error of sigma / alpha times its own,
// is of no use. Cosine's betas end at -9.9. The value is the one that DPM-Solver's authors give for them.
#define LEAST_HALF_LOGSNR (-5.1)

typedef enum step_clip { STEP_CLIP_AUTO, STEP_CLIP_NONE, STEP_CLIP_STATIC, STEP_CLIP_DYNAMIC } step_clip;

typedef struct sampler_config {
  int sampler;         // sampler_kind
  int64_t steps;       // 0: as many as the table has, or 50
  int spacing;         // step_spacing
  config_floats table; // of timesteps and sigmas
  int final;           // step_final
  double t_end;        // a continuous process is left at this time; 0: at its own end
  int64_t order;       // of lms, ipndm, unipc, deis, sa_solver; 0: the customary one
  double eta;          // noise of ddim (0 none, 1 as ddpm) and of sa_solver
  int clip;            // step_clip: of x0; dynamic [Saharia22]
  double clip_range;   // static: x0 is cut to +- this; dynamic: the most that it is divided by
  double clip_quantile;
  int variance;                            // of ddpm: scheduler_variance
  bool lower_order_final;                  // multistep solvers end with lower orders
  double s_churn, s_tmin, s_tmax, s_noise; // of edm [Karras22 algorithm 2]
  double snr;                              // of pc
  int64_t corrector_steps;                 // of pc
  double rtol, atol;                       // of rk45
} sampler_config;
extern const config_table sampler_table;

// --- diffusers' classes ---
typedef enum scheduler_class {
  SCHEDULER_OWN, // none of diffusers': `own` on the nodes of a process
  SCHEDULER_DDPM,
  SCHEDULER_DDIM,
  SCHEDULER_DDIM_INVERSE,
  SCHEDULER_PNDM,
  SCHEDULER_LMS,
  SCHEDULER_EULER,
  SCHEDULER_EULER_ANCESTRAL,
  SCHEDULER_HEUN,
  SCHEDULER_KDPM2,
  SCHEDULER_KDPM2_ANCESTRAL,
  SCHEDULER_DPM_MULTISTEP,
  SCHEDULER_DPM_SINGLESTEP,
  SCHEDULER_DPM_SDE,
  SCHEDULER_UNIPC,
  SCHEDULER_DEIS,
  SCHEDULER_IPNDM,
  SCHEDULER_SA_SOLVER,
  SCHEDULER_EDM_EULER,
  SCHEDULER_EDM_DPM_MULTISTEP,
  SCHEDULER_FLOW_EULER,
  SCHEDULER_FLOW_HEUN,
  SCHEDULER_SCORE_SDE_VE,
  SCHEDULER_LCM,
  SCHEDULER_TCD,
  SCHEDULER_CLASS_COUNT
} scheduler_class;
typedef enum scheduler_variance {
  VARIANCE_FIXED_SMALL,
  VARIANCE_FIXED_SMALL_LOG,
  VARIANCE_FIXED_LARGE,
  VARIANCE_FIXED_LARGE_LOG,
  VARIANCE_LEARNED,
  VARIANCE_LEARNED_RANGE
} scheduler_variance;

// One field for each key of any class, named as diffusers names it; a class reads and writes its own keys alone. A key whose value may be
// null in diffusers is 0, or an empty list, or the first name, when it is.
typedef struct scheduler_config {
  int class_;         // scheduler_class
  int prediction;     // prediction_type of the network
  double sigma_data;  // of PREDICT_EDM
  sampler_config own; // of SCHEDULER_OWN; and eta of DDIM

  int64_t num_train_timesteps;
  double beta_start, beta_end;
  int beta_schedule; // beta_schedule
  config_floats trained_betas;
  bool rescale_betas_zero_snr;
  int prediction_type; // as the class spells it; `prediction` is what it means
  int variance_type;
  bool clip_sample;
  double clip_sample_range;
  bool thresholding;
  double dynamic_thresholding_ratio, sample_max_value;
  int timestep_spacing, timestep_type, interpolation_type, final_sigmas_type;
  int64_t steps_offset;
  bool set_alpha_to_one, skip_prk_steps;
  bool use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas, use_flow_sigmas;
  double flow_shift, lambda_min_clipped;
  int64_t solver_order, predictor_order, corrector_order;
  int algorithm_type, solver_type;
  bool lower_order_final, euler_at_final, predict_x0;
  config_ints disable_corrector;
  double sigma_min, sigma_max, rho;
  int sigma_schedule;
  double shift, base_shift, max_shift, shift_terminal;
  int64_t base_image_seq_len, max_image_seq_len;
  bool use_dynamic_shifting, invert_sigmas, stochastic_sampling;
  int time_shift_type;
  double snr, sampling_eps;
  int64_t correct_steps;
  int64_t original_inference_steps;
  double timestep_scaling;
  const char *solver_p, *tau_func, *noise_sampler_seed; // null alone is possible
} scheduler_config;

// diffusers' scheduler_config.json. Lists live in the arena. A class that is not known is named, and the known ones listed; a key that no
// scheduler has is refused with the nearest one; a key that only other classes have is ignored with a warning, as diffusers does; a value
// that this implementation does not honour is refused by name.
elbo_status scheduler_read(elbo_ctx *ctx, arena *a, const char *path, scheduler_config *out);
elbo_status scheduler_parse(elbo_ctx *ctx, arena *a, const char *name, const char *text, size_t size, scheduler_config *out);
// Every key of its class, as diffusers writes it. SCHEDULER_OWN has no such file and is refused.
elbo_status scheduler_write(elbo_ctx *ctx, const scheduler_config *config, const char *path);
elbo_status scheduler_text(elbo_ctx *ctx, const scheduler_config *config, text_buffer *out);
const char *scheduler_class_name(int class_); // "DDIMScheduler"; of SCHEDULER_OWN NULL
// A class with its defaults, as CLASS() in Python.
elbo_status scheduler_defaults(elbo_ctx *ctx, arena *a, int class_, scheduler_config *out);

// The process that a class runs on, for process_create. Refers to the lists of `config`.
void scheduler_process(const scheduler_config *config, process_config *out);

// The scheduler of a recipe: `sampler` on the process, for a network with that prediction. A diffusers class where there is one that does
// exactly this; SCHEDULER_OWN otherwise. What does not go together (a flow sampler on a discrete process) is refused with the reason, by
// key under `where` ("FILE: sample"). With `base`, which may be NULL, the sampler takes the place of another one in a directory: what the
// two classes have in common is kept, as from_config does in diffusers; `process` is then that of `base`. Lists are shared with the
// arguments.
elbo_status scheduler_from_sampler(elbo_ctx *ctx, arena *a, const process_config *process, int prediction, double sigma_data,
                                   const sampler_config *sampler, const scheduler_config *base, const char *where, scheduler_config *out);
// The class that a model of this process and prediction is saved with when its sampler is SCHEDULER_OWN: DDPM, EDMEuler, FlowMatchEuler or
// ScoreSdeVe; refused for processes that diffusers has no class for.
elbo_status scheduler_of_process(elbo_ctx *ctx, arena *a, const process_config *process, int prediction, double sigma_data,
                                 scheduler_config *out);

// Whether the network gives 2 size numbers a row (prediction and variance).
bool scheduler_learned_variance(const scheduler_config *config);

#endif
