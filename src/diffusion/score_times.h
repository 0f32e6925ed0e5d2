// Weightings of the score-matching loss in latent space, and the densities of time under which each has little variance [Vahdat21 sec. 3.3,
// 3.4]. Of variance-preserving processes, whatever their schedule: with log-SNR l(t), sigma^2 = sigmoid(-l), g^2 = -l' sigma^2.
#ifndef DIFFUSION_SCORE_TIMES_H
#define DIFFUSION_SCORE_TIMES_H

#include "diffusion/process.h"

typedef enum score_weighting {
  SCORE_LIKELIHOOD, // w_ll = g^2 / sigma^2: the cross entropy itself
  SCORE_UNWEIGHTED, // w_un = 1
  SCORE_REWEIGHTED  // w_re = g^2
} score_weighting;
#define SCORE_WEIGHTING_NAMES "likelihood|unweighted|reweighted"

// w(t) / 2, what epsilon's squared error, summed over the code, is multiplied with at time t.
double score_weight(int weighting, const process *p, double t);

typedef struct time_density time_density;
// importance: in proportion to the integrand of a N(0, I) prior on N(0, I) codes: w_ll: d log sigma^2 / dt, w_un: 1 - sigma^2, w_re:
// d sigma^2 / dt [Vahdat21 sec. 3.4]; otherwise uniform. p is borrowed for its life.
elbo_status time_density_create(elbo_ctx *ctx, const process *p, int weighting, bool importance, time_density **out);
void time_density_destroy(time_density **d);
double time_density_at(const time_density *d, double t);       // its value; integrates to 1 over (0,1]
double time_density_quantile(const time_density *d, double u); // the time in (0,1] under which lies the share u of [0,1)

#endif
