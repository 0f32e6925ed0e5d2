// Samplers of distilled consistency models, which answer with x0, or with a point on the way, in one call; noise is added back to go on.
#include <math.h>

#include "diffusion/sampling.h"

// Multistep consistency sampling [Luo23 algorithm 3]. f(x, t) = c_skip x + c_out x0 is x itself at t = 0; t in timesteps times a scale.
elbo_status step_lcm(sampling *s, int k) {
  const double data = 0.5; // sigma_data, as these models are distilled
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *x0 = s->work[0], t = from.time * s->plan.timestep_scaling, norm = t * t + data * data;
  TRY(predict(s, s->x, from, x0, NULL));
  combine2(s, s->x, data * data / norm, s->x, t / sqrt(norm), x0);
  if (k == s->plan.steps - 1) return ELBO_OK;
  draw_noise(s, s->noise);
  combine2(s, s->x, to.alpha, s->x, to.sigma, s->noise);
  return ELBO_OK;
}

// Strategic stochastic sampling [Zheng24 algorithm 4]: along the flow to a time below the next one, then up to it by diffusion.
elbo_status step_tcd(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k], below = s->plan.mid[2 * k];
  double *x0 = s->work[0], *epsilon = s->work[1];
  TRY(predict(s, s->x, from, x0, epsilon));
  combine2(s, s->x, below.alpha, x0, below.sigma, epsilon);
  if (k == s->plan.steps - 1) return ELBO_OK;
  double ratio = to.alpha / below.alpha, added = 1 - ratio * ratio;
  draw_noise(s, s->noise);
  combine2(s, s->x, ratio, s->x, sqrt(added > 0 ? added : 0), s->noise);
  return ELBO_OK;
}
