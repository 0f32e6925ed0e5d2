// The probability flow by the explicit Runge-Kutta pair of Dormand and Prince [Dormand80], with steps as long as the tolerance allows.
#include <math.h>

#include "diffusion/sampling.h"

enum { STAGES = 7, TRIES_MAX = 100000 };

static const double nodes[STAGES] = {0, 1 / 5.0, 3 / 10.0, 4 / 5.0, 8 / 9.0, 1, 1};
static const double matrix[STAGES][STAGES - 1] = {
    {0},
    {1 / 5.0},
    {3 / 40.0, 9 / 40.0},
    {44 / 45.0, -56 / 15.0, 32 / 9.0},
    {19372 / 6561.0, -25360 / 2187.0, 64448 / 6561.0, -212 / 729.0},
    {9017 / 3168.0, -355 / 33.0, 46732 / 5247.0, 49 / 176.0, -5103 / 18656.0},
    {35 / 384.0, 0, 500 / 1113.0, 125 / 192.0, -2187 / 6784.0, 11 / 84.0},
};
// fifth order less fourth order
static const double error_weight[STAGES] = {71 / 57600.0, 0, -71 / 16695.0, 71 / 1920.0, -17253 / 339200.0, 22 / 525.0, -1 / 40.0};

// dx/dt = alpha'(t) x0 + sigma'(t) epsilon: the flow of [Song21 eq. 13] without a division by alpha.
static elbo_status slope_at(sampling *s, const double *x, double t, double *out) {
  const process *p = s->request->process;
  process_point at = process_at(p, t);
  double *x0 = s->work[7];
  TRY(predict(s, x, (solver_node){process_network_time(p, t), at.alpha, at.sigma}, x0, out));
  combine2(s, out, at.dalpha, x0, at.dsigma, out);
  return ELBO_OK;
}

// The largest, over samples, of the root mean square of error / (atol + rtol |x|).
static double error_norm(const sampling *s, const double *error, const double *x, const double *y) {
  int64_t size = s->request->size;
  double worst = 0;
  for (int64_t row = 0; row < s->request->rows; row++) {
    double sum = 0;
    for (int64_t i = row * size; i < (row + 1) * size; i++) {
      double scale = s->plan.atol + s->plan.rtol * fmax(fabs(x[i]), fabs(y[i])), e = error[i] / scale;
      sum += e * e;
    }
    double norm = sqrt(sum / (double)size);
    if (!(norm <= worst)) worst = norm;
  }
  return worst;
}

elbo_status step_rk45(sampling *s, int k) {
  double t = s->plan.t_first, end = s->plan.t_last, h = (end - t) / 50, *y = s->history[0];
  double *slope[STAGES];
  (void)k;
  for (int i = 0; i < STAGES; i++) slope[i] = s->work[i];
  double *error = s->history[1];
  TRY(slope_at(s, s->x, t, slope[0]));
  for (int tries = 0; t != end; tries++) {
    if (tries == TRIES_MAX || fabs(h) < 1e-12)
      return fail(s->ctx, ELBO_ERROR_NUMERIC, "rk45: no step at t = %g meets the tolerance (rtol %g, atol %g)", t, s->plan.rtol,
                  s->plan.atol);
    if (fabs(h) >= fabs(end - t)) h = end - t;
    for (int stage = 1; stage < STAGES; stage++) {
      double factor[STAGES + 1] = {1};
      const double *term[STAGES + 1] = {s->x};
      for (int j = 0; j < stage; j++) factor[j + 1] = h * matrix[stage][j], term[j + 1] = slope[j];
      combine(s, y, stage + 1, factor, term);
      TRY(slope_at(s, y, t + nodes[stage] * h, slope[stage]));
    }
    combine(s, error, STAGES, error_weight, (const double *const *)slope);
    combine(s, error, 1, &h, (const double *const[]){error});
    double norm = error_norm(s, error, s->x, y);
    double change = norm > 0 ? 0.9 * pow(norm, -0.2) : 5;
    if (norm <= 1) {
      t = h == end - t ? end : t + h;
      copy_state(s, s->x, y);
      double *last = slope[0]; // first same as last
      slope[0] = slope[STAGES - 1], slope[STAGES - 1] = last;
    }
    h *= !(change > 0.2) ? 0.2 : change > 5 ? 5 : change;
  }
  return ELBO_OK;
}
