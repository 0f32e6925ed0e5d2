// Predictor-corrector [Song21 algorithms 1-5].
#include <math.h>

#include "diffusion/sampling.h"

// Langevin steps at a fixed time [Song21 algorithms 4, 5]: x + e g + sqrt(2 e) z, e = 2 (snr |z| / |g|)^2, g the score. The norms are those
// of each sample alone: a sample does not depend on its company.
static elbo_status correct(sampling *s, solver_node at) {
  double *score = s->work[0];
  int64_t size = s->request->size;
  for (int c = 0; c < s->plan.corrector_steps; c++) {
    TRY(predict(s, s->x, at, NULL, score));
    draw_noise(s, s->noise);
    for (int64_t row = 0; row < s->request->rows; row++) {
      double *x = s->x + row * size, *g = score + row * size, *z = s->noise + row * size, gg = 0, zz = 0;
      for (int64_t i = 0; i < size; i++) {
        g[i] = -g[i] / at.sigma;
        gg += g[i] * g[i];
        zz += z[i] * z[i];
      }
      double e = gg > 0 ? 2 * s->plan.snr * s->plan.snr * zz / gg : 0, deviation = sqrt(2 * e);
      for (int64_t i = 0; i < size; i++) x[i] += e * g[i] + deviation * z[i];
    }
  }
  return ELBO_OK;
}

// The ancestral predictor, which is the exact posterior where x0 is known; on any process.
elbo_status step_pc(sampling *s, int k) {
  TRY(correct(s, s->plan.node[k]));
  return step_ddpm(s, k);
}

// diffusers' ScoreSdeVe: reverse diffusion on noise levels of their own [Song21 eq. 46]: mid[2k].sigma to mid[2k + 1].sigma. The last state
// is the mean.
elbo_status step_score_sde_ve(sampling *s, int k) {
  double from = s->plan.mid[2 * k].sigma, to = s->plan.mid[2 * k + 1].sigma, g2 = from * from - to * to, *epsilon = s->work[0];
  TRY(correct(s, s->plan.node[k]));
  TRY(predict(s, s->x, s->plan.node[k], NULL, epsilon));
  draw_noise(s, s->noise);
  combine3(s, s->x, 1, s->x, -g2 / s->plan.node[k].sigma, epsilon, k == s->plan.steps - 1 ? 0 : sqrt(g2), s->noise);
  return ELBO_OK;
}
