// DPM-Solver and DPM-Solver++ [Lu22, Lu22pp]: the linear part of the flow (or of its SDE) is solved exactly in lambda, half the log-SNR,
// and what the network says is expanded in lambda.
#include <math.h>

#include "diffusion/sampling.h"

// phi_1(z) = (e^z - 1) / z and phi_2(z) = (e^z - 1 - z) / z^2, of exponential integrators [Hochbruck10]
static double phi1(double z) {
  if (isinf(z)) return z < 0 ? 0 : z;
  return fabs(z) < 1e-9 ? 1 + z / 2 : expm1(z) / z;
}
static double phi2(double z) {
  if (isinf(z)) return z < 0 ? 0 : z;
  return fabs(z) < 1e-4 ? 0.5 + z / 6 + z * z / 24 : (expm1(z) - z) / (z * z);
}

// A step of size h in lambda: x' = x x + d0 M + d1 h M' + d2 h^2 M'' + noise z, M being x0 or epsilon where the step starts. d1 is of the
// expansion ("heun" in diffusers' configs); "midpoint" takes d0 / 2.
typedef struct dpm_step {
  double x, d0, d1, d2, noise;
} dpm_step;

static dpm_step dpm_step_of(const schedule *p, solver_node from, solver_node to) {
  double h = half_logsnr(to) - half_logsnr(from), z, b;
  dpm_step t = {0};
  switch ((solver_algorithm)p->algorithm) {
  case SOLVE_X0: // [Lu22pp eq. 9]: integrals of e^(u - h) u^n over [0, h]
    z = -h, b = to.alpha;
    t = (dpm_step){to.sigma / from.sigma, -b * expm1(z), b * (1 - phi1(z)), -b * (phi2(z) - 0.5), 0};
    break;
  case SOLVE_SDE_X0: // [Lu22pp eq. 18]
    z = -2 * h, b = to.alpha;
    t = (dpm_step){to.sigma / from.sigma * exp(-h), -b * expm1(z), b * (1 - phi1(z)), -b * (phi2(z) - 0.5), to.sigma * sqrt(-expm1(z))};
    if (p->class_ != SCHEDULER_OWN) t.d2 = -b * (phi2(z) + 0.5); // as diffusers has it
    break;
  case SOLVE_EPSILON: // [Lu22 eq. 3.7]: integrals of e^(h - u) u^n
    z = h, b = -to.sigma;
    t = (dpm_step){to.alpha / from.alpha, b * expm1(z), b * (phi1(z) - 1), b * (phi2(z) - 0.5), 0};
    break;
  case SOLVE_SDE_EPSILON: // [Lu22pp eq. 17]
    z = h, b = -2 * to.sigma;
    t = (dpm_step){to.alpha / from.alpha, b * expm1(z), b * (phi1(z) - 1), b * (phi2(z) - 0.5), to.sigma * sqrt(expm1(2 * h))};
    break;
  }
  if (!p->heun) t.d1 = t.d0 / 2;
  return t;
}

static elbo_status model_output(sampling *s, const double *x, solver_node at, double *out) {
  bool data = s->plan.algorithm == SOLVE_X0 || s->plan.algorithm == SOLVE_SDE_X0;
  return predict(s, x, at, data ? out : NULL, data ? NULL : out);
}

static bool has_noise(const sampling *s) { return s->plan.algorithm == SOLVE_SDE_X0 || s->plan.algorithm == SOLVE_SDE_EPSILON; }

// --- single steps with inner stages of their own ---
static void stage_of(sampling *s, double *out, dpm_step t, double slope, const double *first, const double *later) {
  combine3(s, out, t.x, s->x, t.d0 - slope, first, slope, later);
}

// DPM-Solver-1, -2 and -3 [Lu22 algorithms 1, 2], DPM-Solver++(2S) [Lu22pp algorithm 1]; stages at h/2, and at h/3 and 2h/3.
elbo_status step_dpm_single(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *first = s->work[0], *second = s->work[1], *stage = s->work[2];
  dpm_step whole = dpm_step_of(&s->plan, from, to);
  TRY(model_output(s, s->x, from, first));
  if (s->plan.max_order == 1 || to.sigma == 0) { // a step to zero has no middle
    combine2(s, s->x, whole.x, s->x, whole.d0, first);
    return ELBO_OK;
  }
  solver_node inner = s->plan.mid[2 * k];
  double h = half_logsnr(to) - half_logsnr(from), r1 = (half_logsnr(inner) - half_logsnr(from)) / h;
  dpm_step part = dpm_step_of(&s->plan, from, inner);
  combine2(s, stage, part.x, s->x, part.d0, first);
  TRY(model_output(s, stage, inner, second));
  if (s->plan.max_order == 3) {
    solver_node outer = s->plan.mid[2 * k + 1];
    double r2 = (half_logsnr(outer) - half_logsnr(from)) / h;
    part = dpm_step_of(&s->plan, from, outer);
    stage_of(s, stage, part, part.d1 * r2 / r1, first, second);
    TRY(model_output(s, stage, outer, second));
    r1 = r2;
  }
  stage_of(s, s->x, whole, whole.d1 / r1, first, second);
  return ELBO_OK;
}

// --- diffusers' DPMSolverSinglestep: groups of up to three calls whose stages are nodes of the schedule ---
elbo_status step_dpm_grouped(sampling *s, int k) {
  const solver_node *node = s->plan.node;
  int order = s->plan.order[k];
  double *start = s->work[0], *m0 = history_push(s, 3), *m1 = s->history[1], *m2 = s->history[2], lambda = half_logsnr(node[k - order + 1]);
  TRY(model_output(s, s->x, node[k], m0));
  if (has_noise(s)) draw_noise(s, s->noise);
  if (order == 1) copy_state(s, start, s->x);
  dpm_step t = dpm_step_of(&s->plan, node[k - order + 1], s->plan.target[k]);
  double h = half_logsnr(s->plan.target[k]) - lambda;
  if (order == 1) {
    COMBINE(s, s->x, 3, LIST(t.x, t.d0, t.noise), LIST(start, m0, s->noise));
  } else if (order == 2) {
    double slope = t.d1 * h / (half_logsnr(node[k]) - lambda); // of m0 - m1, the oldest being m1
    COMBINE(s, s->x, 4, LIST(t.x, t.d0 - slope, slope, t.noise), LIST(start, m1, m0, s->noise));
  } else {
    double r0 = (half_logsnr(node[k]) - lambda) / h, r1 = (half_logsnr(node[k - 1]) - lambda) / h, a0, a1;
    if (s->plan.heun) { // D1 = (r0 (m1 - m2)/r1 - r1 (m0 - m2)/r0) / (r0 - r1), D2 = 2 ((m0 - m2)/r0 - (m1 - m2)/r1) / (r0 - r1)
      a0 = (-r1 * t.d1 + 2 * t.d2) / (r0 - r1) / r0;
      a1 = (r0 * t.d1 - 2 * t.d2) / (r0 - r1) / r1;
    } else { // the expansion's factor with the later difference alone: of third order where r0 = 2/3
      schedule exact = s->plan;
      exact.heun = true;
      a0 = dpm_step_of(&exact, node[k - 2], s->plan.target[k]).d1 / r0;
      a1 = 0;
    }
    COMBINE(s, s->x, 5, LIST(t.x, t.d0 - a0 - a1, a0, a1, t.noise), LIST(start, m2, m0, m1, s->noise));
  }
  return ELBO_OK;
}

// --- multistep ---
// DPM-Solver(++) 2M and 3M [Lu22pp algorithm 2]: the derivatives are divided differences of earlier answers. M'' is twice the second one;
// diffusers takes it once, which leaves second order, and so does a scheduler read from its files.
elbo_status step_dpm_multi(sampling *s, int k) {
  const solver_node *node = s->plan.node;
  int order = s->plan.order[k];
  double *m0 = history_push(s, 3), *m1 = s->history[1], *m2 = s->history[2];
  dpm_step t = dpm_step_of(&s->plan, node[k], s->plan.target[k]);
  TRY(model_output(s, s->x, node[k], m0));
  if (has_noise(s)) draw_noise(s, s->noise);
  double a0 = 0, a1 = 0; // of (m0 - m1) and (m1 - m2)
  if (order > 1) {
    double h = half_logsnr(s->plan.target[k]) - half_logsnr(node[k]), r0 = (half_logsnr(node[k]) - half_logsnr(node[k - 1])) / h;
    a0 = t.d1 / r0;
    if (order > 2) {
      schedule exact = s->plan;
      exact.heun = true;
      t = dpm_step_of(&exact, node[k], s->plan.target[k]);
      double r1 = (half_logsnr(node[k - 1]) - half_logsnr(node[k - 2])) / h, part = r0 / (r0 + r1);
      double twice = (s->plan.class_ == SCHEDULER_OWN ? 2 : 1) * t.d2 / (r0 + r1);
      a0 = (t.d1 * (1 + part) + twice) / r0;
      a1 = (-t.d1 * part - twice) / r1;
    }
  }
  COMBINE(s, s->x, 5, LIST(t.x, t.d0 + a0, a1 - a0, -a1, t.noise), LIST(s->x, m0, m1, m2, s->noise));
  return ELBO_OK;
}
