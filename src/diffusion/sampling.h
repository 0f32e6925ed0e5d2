// What the samplers share: a run's nodes and buffers, calls of the network with what is made of its answer, noise, and linear combinations.
// Internal to the sampler_*.c files.
#ifndef DIFFUSION_SAMPLING_H
#define DIFFUSION_SAMPLING_H

#include "diffusion/sampler.h"
#include "diffusion/schedule.h"

enum { HISTORY_MAX = 6, WORK_MAX = 8, TERMS_MAX = 10 };

typedef struct sampling sampling;
struct sampling {
  elbo_ctx *ctx;
  const sampler_request *request;
  schedule plan;
  int64_t n;                    // rows * size
  double *x;                    // (rows,size) the state
  double *input;                // (rows,size) what the network is given
  double *raw;                  // (rows,size) its prediction
  double *answer;               // (rows,2 size) prediction and variance, with a learned variance; else raw
  double *variance;             // (rows,size); NULL
  double *noise;                // (rows,size)
  double *sorted;               // (threads,size) for quantiles; NULL without dynamic thresholding
  double *work[WORK_MAX];       // (rows,size) each, as many as the sampler asks for
  double *history[HISTORY_MAX]; // (rows,size) each, the newest first
  int64_t calls, draws;
  bool exact;     // the state has been replaced since the last step: it is not to be corrected
  double *memory; // of all the above but x
};

// out = sum of factor[i] term[i] over (rows,size); a term with the factor 0 is not looked at. `out` may be one of the terms.
void combine(const sampling *s, double *out, int terms, const double *factor, const double *const *term);
#define LIST(...) \
  { __VA_ARGS__ }
#define COMBINE(S, OUT, TERMS, FACTORS, ARRAYS) combine(S, OUT, TERMS, (const double[TERMS])FACTORS, (const double *const[TERMS])ARRAYS)
void copy_state(const sampling *s, double *out, const double *x);
void combine2(const sampling *s, double *out, double a, const double *p, double b, const double *q);
void combine3(const sampling *s, double *out, double a, const double *p, double b, const double *q, double c, const double *r);

// Calls the network for the state x at a node: s->raw, and s->variance where it is learned.
elbo_status call_network(sampling *s, const double *x, solver_node at);
// x0, clipped or thresholded as the scheduler says, and epsilon, either of which may be NULL, of s->raw. epsilon follows a clipped x0 where
// the solver says so (plan.epsilon_follows).
void interpret(sampling *s, const double *x, solver_node at, double *x0, double *epsilon);
elbo_status predict(sampling *s, const double *x, solver_node at, double *x0, double *epsilon);
// The next draw: a function of (seed, number of the draw, sample_index[row], element) alone.
void draw_noise(sampling *s, double *out);
// history[0] becomes free for the newest entry, the others move back.
double *history_push(sampling *s, int length);

// log(alpha / sigma), half the log-SNR [Lu22]
double half_logsnr(solver_node at);
// sigma / alpha, the noise level of x / alpha [Karras22 eq. 8]
static inline double noise_ratio(solver_node at) { return at.sigma / at.alpha; }

// One step k of each sampler: from s->x at plan.node[k] to s->x at plan.target[k].
elbo_status step_ddpm(sampling *s, int k);
elbo_status step_ddim(sampling *s, int k);
elbo_status step_pndm(sampling *s, int k);
elbo_status step_plms(sampling *s, int k);
elbo_status step_ipndm(sampling *s, int k);
elbo_status step_euler(sampling *s, int k);
elbo_status step_euler_ancestral(sampling *s, int k);
elbo_status step_heun(sampling *s, int k);
elbo_status step_edm(sampling *s, int k);
elbo_status step_dpm2(sampling *s, int k);
elbo_status step_dpm2_ancestral(sampling *s, int k);
elbo_status step_lms(sampling *s, int k);
elbo_status step_dpm_single(sampling *s, int k);
elbo_status step_dpm_grouped(sampling *s, int k);
elbo_status step_dpm_multi(sampling *s, int k);
elbo_status step_dpm_sde(sampling *s, int k);
elbo_status step_unipc(sampling *s, int k);
elbo_status step_deis(sampling *s, int k);
elbo_status step_sa_solver(sampling *s, int k);
elbo_status step_pc(sampling *s, int k);
elbo_status step_score_sde_ve(sampling *s, int k);
elbo_status step_flow_euler(sampling *s, int k);
elbo_status step_flow_heun(sampling *s, int k);
elbo_status step_rk45(sampling *s, int k);
elbo_status step_lcm(sampling *s, int k);
elbo_status step_tcd(sampling *s, int k);

#endif
