// The forward process q(x_t | x_0) = N(alpha(t) x_0, sigma(t)^2 I), however it is given, as one interface [Kingma21 section 3, Karras22
// section 2]. Time t runs from 0 (data) to 1 (noise). A discrete process of T steps has index i at t = (i + 1) / T, and log-SNR linear in t
// between its points. In double throughout.
#ifndef DIFFUSION_PROCESS_H
#define DIFFUSION_PROCESS_H

#include "core/config.h"

typedef enum process_type {
  PROCESS_DISCRETE, // a table of betas
  PROCESS_LINEAR,   // log-SNR linear in t, from logsnr_max to logsnr_min, variance preserving
  PROCESS_COSINE,   // log-SNR = -2 log tan(pi t / 2) + 2 log shift, cut to the two ends [Hoogeboom23]
  PROCESS_SIGMOID,  // [Jabri22]
  PROCESS_EDM,      // alpha 1, sigma(t) = (sigma_max^(1/rho) ... sigma_min^(1/rho))^rho [Karras22 eq. 5]
  PROCESS_FLOW,     // alpha 1 - t, sigma t, t shifted: s t / (1 + (s - 1) t) [Liu22, Esser24]
  PROCESS_VE,       // alpha 1, sigma geometric from sigma_min to sigma_max [Song21]
  PROCESS_LEARNED   // VDM's monotone network between two learned ends; values come through process_create_custom
} process_type;
typedef enum beta_schedule {
  BETAS_LINEAR,
  BETAS_SCALED_LINEAR,
  BETAS_COSINE, // squaredcos_cap_v2 of diffusers
  BETAS_SIGMOID,
  BETAS_LAPLACE,
  BETAS_EXP,
  BETAS_TABLE
} beta_schedule;

// `model.process` of a recipe.
typedef struct process_config {
  int type;                      // process_type
  int64_t steps;                 // T of a discrete process
  int betas;                     // beta_schedule
  double beta_start, beta_end;   // of linear, scaled_linear, sigmoid
  config_floats table;           // betas of `table`
  bool zero_snr;                 // rescaled so that alpha_bar_T = 0 [Lin24 alg. 1]
  double logsnr_min, logsnr_max; // of linear, cosine, sigmoid, learned
  double shift;                  // of cosine and flow; 1: none
  double sigma_min, sigma_max;   // of edm and ve
  double rho;                    // of edm
} process_config;
extern const config_table process_table;

typedef struct process_point {
  double alpha, sigma, logsnr;    // logsnr = 2 log(alpha / sigma); may be infinite at the ends
  double dalpha, dsigma, dlogsnr; // d/dt; of a discrete process those of the interpolation
} process_point;

typedef struct process process;

// The config's lists are copied. Betas outside (0,1) and ends in the wrong order are refused by key, `where` ("FILE: model.process") in
// front.
elbo_status process_create(elbo_ctx *ctx, const process_config *config, const char *where, process **out);
// A variance-preserving process from its falling log-SNR (a learned one); fn(user, t, &logsnr, &dlogsnr).
typedef void (*logsnr_fn)(void *user, double t, double *logsnr, double *dlogsnr);
elbo_status process_create_custom(elbo_ctx *ctx, logsnr_fn fn, void *user, process **out);
void process_destroy(process **p);

int64_t process_steps(const process *p);              // T; 0: continuous
const double *process_alpha_bar(const process *p);    // (T) cumulative products of 1 - beta; NULL: continuous
process_type process_kind(const process *p);          // PROCESS_LEARNED: made by process_create_custom
process_point process_at(const process *p, double t); // t in [0,1]
// What a network is told at time t, in diffusers' manner: the index t T - 1 of a discrete process, possibly fractional; log(sigma) / 4 of
// edm (c_noise of [Karras22 table 1]); 1000 sigma of flow; sigma of ve; t itself of the others.
double process_network_time(const process *p, double t);
double process_time_of_logsnr(const process *p, double logsnr); // cut to [0,1]

#endif
