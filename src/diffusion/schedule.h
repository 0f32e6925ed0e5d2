// Where a run steps: nodes in time with the process' alpha and sigma there, and the solver's options, worked out before the first step from
// a scheduler config, a process and a number of steps.
#ifndef DIFFUSION_SCHEDULE_H
#define DIFFUSION_SCHEDULE_H

#include "diffusion/scheduler.h"

typedef struct solver_node {
  double time;         // what the network is told
  double alpha, sigma; // of the process
} solver_node;

typedef enum state_space {
  STATE_PROCESS, // alpha x0 + sigma epsilon
  STATE_RATIO    // the same over alpha: x0 + (sigma / alpha) epsilon
} state_space;
typedef enum clip_mode { CLIP_NONE, CLIP_RANGE, CLIP_DYNAMIC } clip_mode;
typedef enum solver_algorithm { SOLVE_X0, SOLVE_EPSILON, SOLVE_SDE_X0, SOLVE_SDE_EPSILON } solver_algorithm;

typedef struct schedule {
  int kind;   // sampler_kind
  int class_; // scheduler_class
  int steps;
  solver_node *node;   // (steps + 1): where the network is called, and the end
  solver_node *target; // (steps): where step k ends; of most samplers node[k + 1]
  solver_node *mid;    // (steps, 2): inner nodes of methods of several stages; NULL
  int *order;          // (steps): of step k of multistep and grouped solvers; NULL
  double first_scale;  // what unit noise is multiplied by
  int space;           // state_space

  // the prediction and what becomes of it
  int prediction;
  double sigma_data, output_sign; // EDM's v_prediction is the negative
  bool learned_variance;
  int variance; // scheduler_variance, of ddpm
  int clip;     // clip_mode
  double clip_range, threshold_ratio, threshold_max;
  bool epsilon_follows; // epsilon is that of a clipped x0

  // options of single solvers
  int algorithm; // solver_algorithm
  bool heun;     // solver_type of DPM-Solver: heun, not midpoint
  bool bh1;      // of UniPC: B(h) = h, not expm1(h)
  int max_order, corrector_order;
  bool lower_order_final;
  const int64_t *no_corrector; // steps of UniPC without its corrector
  int64_t no_correctors;
  double eta, s_churn, s_tmin, s_tmax, s_noise;
  double tau_low, tau_high;     // SA-Solver adds noise where the time told lies between them, eta as strong
  double snr, timestep_scaling; // of pc; of LCM
  int corrector_steps;
  double rtol, atol, t_first, t_last; // of rk45, times of the process
  bool renoise;                       // flow: x0 with fresh noise instead of a step
} schedule;

// Fails on steps the scheduler cannot make, naming the culprit. Freed by schedule_free, also after a failure.
elbo_status schedule_make(elbo_ctx *ctx, const scheduler_config *config, const process *p, int steps, schedule *out);
void schedule_free(schedule *s);

// Parts of it: the nodes of a diffusers class, and those of SCHEDULER_OWN.
elbo_status schedule_class_nodes(elbo_ctx *ctx, const scheduler_config *config, const process *p, int steps, schedule *out);
elbo_status schedule_own_nodes(elbo_ctx *ctx, const scheduler_config *config, const process *p, int steps, schedule *out);
int sampler_order(const schedule *s); // of the error of a long run
bool sampler_stochastic(int kind);
int64_t own_table_steps(const sampler_config *config); // that its table makes
elbo_status schedule_room(elbo_ctx *ctx, schedule *s, int steps, bool mids);

// --- spacings, (n) each, falling from `high` to `low` ---
void spacing_karras(double high, double low, double rho, int n, double *out); // [Karras22 eq. 5]
void spacing_exponential(double high, double low, int n, double *out);
void spacing_beta(double high, double low, int n, double *out); // quantiles of Beta(0.6, 0.6) [Lee24]
void spacing_linear(double first, double last, int n, double *out);
double beta_quantile(double p, double a, double b);

#endif
