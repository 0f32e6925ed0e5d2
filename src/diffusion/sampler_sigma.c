// Solvers in the space of x / alpha, where the probability flow is dx = epsilon d(sigma / alpha) [Karras22 eq. 1, Song21ddim eq. 14].
#include <math.h>

#include "diffusion/sampling.h"

elbo_status step_euler(sampling *s, int k) {
  double *epsilon = s->work[0], from = noise_ratio(s->plan.node[k]), to = noise_ratio(s->plan.target[k]);
  TRY(predict(s, s->x, s->plan.node[k], NULL, epsilon));
  combine2(s, s->x, 1, s->x, to - from, epsilon);
  return ELBO_OK;
}

// Splits a step from sigma to `to` into a deterministic one, to *down, and noise of deviation *up: to^2 = down^2 + up^2, and the whole is
// an exact posterior step where x0 is known [Ho20 eq. 7 in this space].
static void ancestral_split(double from, double to, double *up, double *down) {
  double up2 = to * to * (from * from - to * to) / (from * from);
  *up = fmin(to, sqrt(up2 > 0 ? up2 : 0));
  *down = sqrt(to * to - *up * *up);
}

elbo_status step_euler_ancestral(sampling *s, int k) {
  double *epsilon = s->work[0], from = noise_ratio(s->plan.node[k]), to = noise_ratio(s->plan.target[k]), up, down;
  ancestral_split(from, to, &up, &down);
  TRY(predict(s, s->x, s->plan.node[k], NULL, epsilon));
  draw_noise(s, s->noise);
  combine3(s, s->x, 1, s->x, down - from, epsilon, up, s->noise);
  return ELBO_OK;
}

// [Karras22 algorithm 1]
elbo_status step_heun(sampling *s, int k) {
  double *epsilon = s->work[0], *stage = s->work[1], *second = s->work[2];
  double from = noise_ratio(s->plan.node[k]), to = noise_ratio(s->plan.target[k]);
  TRY(predict(s, s->x, s->plan.node[k], NULL, epsilon));
  if (to == 0) {
    combine2(s, s->x, 1, s->x, to - from, epsilon);
    return ELBO_OK;
  }
  combine2(s, stage, 1, s->x, to - from, epsilon);
  TRY(predict(s, stage, s->plan.target[k], NULL, second));
  combine3(s, s->x, 1, s->x, (to - from) / 2, epsilon, (to - from) / 2, second);
  return ELBO_OK;
}

// [Karras22 algorithm 2]: the noise level is raised before the step. mid[2k] is the raised node.
elbo_status step_edm(sampling *s, int k) {
  double from = noise_ratio(s->plan.node[k]), raised = noise_ratio(s->plan.mid[2 * k]), to = noise_ratio(s->plan.target[k]);
  double *epsilon = s->work[0], *stage = s->work[1], *second = s->work[2];
  if (raised > from) {
    draw_noise(s, s->noise);
    combine2(s, s->x, 1, s->x, s->plan.s_noise * sqrt(raised * raised - from * from), s->noise);
  }
  TRY(predict(s, s->x, s->plan.mid[2 * k], NULL, epsilon));
  combine2(s, stage, 1, s->x, to - raised, epsilon);
  if (to == 0) {
    copy_state(s, s->x, stage);
    return ELBO_OK;
  }
  TRY(predict(s, stage, s->plan.target[k], NULL, second));
  combine3(s, s->x, 1, s->x, (to - raised) / 2, epsilon, (to - raised) / 2, second);
  return ELBO_OK;
}

// A midpoint step whose middle is the geometric mean of the two noise levels (k-diffusion's DPM2, after [Karras22 section 3 with alpha =
// 1/2]). mid[2k] is the middle; a step to zero has none.
static elbo_status midpoint_step(sampling *s, int k, double to) {
  double *epsilon = s->work[0], *stage = s->work[1], from = noise_ratio(s->plan.node[k]);
  TRY(predict(s, s->x, s->plan.node[k], NULL, epsilon));
  if (to == 0) {
    combine2(s, s->x, 1, s->x, -from, epsilon);
    return ELBO_OK;
  }
  combine2(s, stage, 1, s->x, noise_ratio(s->plan.mid[2 * k]) - from, epsilon);
  TRY(predict(s, stage, s->plan.mid[2 * k], NULL, epsilon));
  combine2(s, s->x, 1, s->x, to - from, epsilon);
  return ELBO_OK;
}

elbo_status step_dpm2(sampling *s, int k) { return midpoint_step(s, k, noise_ratio(s->plan.target[k])); }

elbo_status step_dpm2_ancestral(sampling *s, int k) {
  double up, down, to = noise_ratio(s->plan.target[k]);
  ancestral_split(noise_ratio(s->plan.node[k]), to, &up, &down);
  TRY(midpoint_step(s, k, down));
  if (to == 0) return ELBO_OK;
  draw_noise(s, s->noise);
  combine2(s, s->x, 1, s->x, up, s->noise);
  return ELBO_OK;
}

// The integral over [from, to] of the Lagrange polynomial that is 1 at node j of `at` and 0 at the others; of degree at most 3, for which
// two Gauss points are exact.
static double lagrange_integral(const double *at, int count, int j, double from, double to) {
  double sum = 0, centre = (from + to) / 2, half = (to - from) / 2;
  for (int side = -1; side <= 1; side += 2) {
    double t = centre + side * half / sqrt(3), product = 1;
    for (int i = 0; i < count; i++)
      if (i != j) product *= (t - at[i]) / (at[j] - at[i]);
    sum += product * half;
  }
  return sum;
}

// Linear multistep (Adams-Bashforth on the noise levels as they lie) of at most fourth order.
elbo_status step_lms(sampling *s, int k) {
  double from = noise_ratio(s->plan.node[k]), to = noise_ratio(s->plan.target[k]), level[4], factor[5] = {1};
  const double *term[5] = {s->x};
  int count = k + 1 < s->plan.max_order ? k + 1 : s->plan.max_order;
  TRY(predict(s, s->x, s->plan.node[k], NULL, history_push(s, 4)));
  for (int j = 0; j < count; j++) level[j] = noise_ratio(s->plan.node[k - j]);
  for (int j = 0; j < count; j++) {
    factor[j + 1] = lagrange_integral(level, count, j, from, to);
    term[j + 1] = s->history[j];
  }
  combine(s, s->x, count + 1, factor, term);
  return ELBO_OK;
}

// DPM-Solver++(2S) of the SDE with the noise of ancestral steps (k-diffusion's DPM++ SDE). The noise of both stages is one Brownian path
// between the two noise levels: its first part up to the middle, and the whole.
elbo_status step_dpm_sde(sampling *s, int k) {
  double *x0 = s->work[0], *stage = s->work[1], *late = s->work[2];
  double from = noise_ratio(s->plan.node[k]), to = noise_ratio(s->plan.target[k]), middle, up, down;
  TRY(predict(s, s->x, s->plan.node[k], x0, NULL));
  if (to == 0) {
    copy_state(s, s->x, x0);
    return ELBO_OK;
  }
  middle = noise_ratio(s->plan.mid[2 * k]);
  draw_noise(s, s->noise);
  draw_noise(s, late);
  ancestral_split(from, middle, &up, &down);
  combine3(s, stage, down / from, s->x, 1 - down / from, x0, up, s->noise);
  TRY(predict(s, stage, s->plan.mid[2 * k], x0, NULL));
  ancestral_split(from, to, &up, &down);
  double first = sqrt((from - middle) / (from - to)), second = sqrt((middle - to) / (from - to));
  COMBINE(s, s->x, 4, LIST(down / from, 1 - down / from, up * first, up * second), LIST(s->x, x0, s->noise, late));
  return ELBO_OK;
}
