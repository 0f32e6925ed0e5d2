// Multistep solvers whose weights are integrals of interpolating polynomials against an exponential: DEIS and SA-Solver; and UniPC, which
// matches the same integrals by order conditions.
#include <math.h>

#include "diffusion/sampling.h"

enum { ORDER_MAX = 5 };

// Integral over [-h, 0] of e^(c w) L_j(w), L_j being the Lagrange polynomial on the nodes at[0 .. count-1]: Gauss-Legendre with eight
// points in panels no longer than 1 / c, exact to rounding.
static double exponential_weight(double c, double h, const double *at, int count, int j) {
  static const double point[4] = {0.1834346424956498, 0.5255324099163290, 0.7966664774136267, 0.9602898564975363};
  static const double weight[4] = {0.3626837833783620, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763};
  int panels = 1 + (int)(c * fabs(h));
  double sum = 0, half = h / panels / 2;
  for (int panel = 0; panel < panels; panel++)
    for (int g = 0; g < 8; g++) {
      double w = -h + half * (2 * panel + 1 + (g % 2 ? point[g / 2] : -point[g / 2])), product = exp(c * w);
      for (int i = 0; i < count; i++)
        if (i != j) product *= (w - at[i]) / (at[j] - at[i]);
      sum += weight[g / 2] * half * product;
    }
  return sum;
}

// log-rho DEIS [Zhang23 eq. 15]: x' / alpha' = x / alpha + integral of epsilon d rho, rho = sigma / alpha = e^-lambda.
elbo_status step_deis(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  int order = s->plan.order[k];
  double at[3], factor[4] = {to.alpha / from.alpha}, last = log(noise_ratio(to)), h = last - log(noise_ratio(from)); // below 0
  const double *term[4] = {s->x};
  TRY(predict(s, s->x, from, NULL, history_push(s, 3)));
  for (int i = 0; i < order; i++) at[i] = log(noise_ratio(s->plan.node[k - i])) - last; // log rho, as seen from the end
  for (int i = 0; i < order; i++) {
    factor[i + 1] = order == 1 ? to.sigma - to.alpha * noise_ratio(from) : to.sigma * exponential_weight(1, h, at, order, i);
    term[i + 1] = s->history[i];
  }
  combine(s, s->x, order + 1, factor, term);
  return ELBO_OK;
}

// --- SA-Solver [Xue23] ---
// The weights of the models at lambda[0 .. count-1] in a step ending at `to`. For x0 [Xue23 eq. 14]: (1 + tau^2) sigma' times the integral
// of e^(lambda + tau^2 (lambda - lambda')); for epsilon, as diffusers has it: -(1 + tau^2) alpha' times that of e^-lambda.
static void sa_weights(const schedule *p, solver_node from, solver_node to, double tau, const double *lambda, int count, double *out) {
  double end = half_logsnr(to), h = end - half_logsnr(from), c = 1 + tau * tau, at[ORDER_MAX];
  bool data = p->algorithm == SOLVE_X0;
  for (int i = 0; i < count; i++) at[i] = lambda[i] - end;
  for (int i = 0; i < count; i++) {
    // e^-w on [-h, 0] is e^w on [0, h]: the mirrored interval with mirrored nodes
    double mirrored[ORDER_MAX];
    for (int j = 0; j < count; j++) mirrored[j] = -at[j];
    out[i] = data ? c * to.alpha * exponential_weight(c, h, at, count, i) : c * to.sigma * exponential_weight(1, -h, mirrored, count, i);
  }
}

static double sa_tau(const schedule *p, solver_node at) { return at.time >= p->tau_low && at.time <= p->tau_high ? p->eta : 0; }

static elbo_status sa_model(sampling *s, solver_node at, double *out) {
  bool data = s->plan.algorithm == SOLVE_X0;
  return predict(s, s->x, at, data ? out : NULL, data ? NULL : out);
}

// x' = x before the step, weighted models, noise of the step that began at `from`.
static void sa_update(sampling *s, const double *x, solver_node from, solver_node to, double tau, int count, const double *weight,
                      const double *const *model) {
  double h = half_logsnr(to) - half_logsnr(from), factor[ORDER_MAX + 2];
  const double *term[ORDER_MAX + 2] = {x, s->noise};
  bool data = s->plan.algorithm == SOLVE_X0;
  factor[0] = data ? exp(-tau * tau * h) * to.sigma / from.sigma : to.alpha / from.alpha;
  factor[1] = data ? to.sigma * sqrt(-expm1(-2 * tau * tau * h)) : tau * to.sigma * sqrt(expm1(2 * h));
  for (int i = 0; i < count; i++) factor[i + 2] = weight[i], term[i + 2] = model[i];
  combine(s, s->x, count + 2, factor, term);
}

elbo_status step_sa_solver(sampling *s, int k) {
  const schedule *p = &s->plan;
  const solver_node *node = p->node;
  double *before = s->work[0], *answer = s->work[1], weight[ORDER_MAX], lambda[ORDER_MAX] = {0};
  int length = p->max_order > p->corrector_order - 1 ? p->max_order : p->corrector_order - 1, left = p->steps - k;
  TRY(sa_model(s, node[k], answer));
  if (k > 0 && !s->exact) { // correct with the step's own noise, which is still in s->noise
    int count = p->corrector_order < k + 1 ? p->corrector_order : k + 1;
    if (p->lower_order_final && count > left + 2) count = left + 2;
    const double *model[ORDER_MAX] = {answer};
    for (int i = 0; i < count; i++) lambda[i] = half_logsnr(node[k - i]);
    for (int i = 1; i < count; i++) model[i] = s->history[i - 1];
    double tau = sa_tau(p, node[k - 1]), c = 1 + tau * tau, h = lambda[0] - half_logsnr(node[k - 1]);
    sa_weights(p, node[k - 1], node[k], tau, lambda, count, weight);
    if (p->algorithm == SOLVE_X0 && count == 2) { // the authors' choice for two models: h/2 for the integral's share
      double change = c * node[k].alpha * (h / 2 - (h * c + expm1(-c * h)) / (c * c * h));
      weight[0] += change, weight[1] -= change;
    }
    sa_update(s, before, node[k - 1], node[k], tau, count, weight, model);
  }
  copy_state(s, history_push(s, length), answer);
  copy_state(s, before, s->x);
  draw_noise(s, s->noise);
  int count = p->max_order < k + 1 ? p->max_order : k + 1;
  if (p->lower_order_final && count > left) count = left;
  double tau = sa_tau(p, node[k]), c = 1 + tau * tau, h = half_logsnr(p->target[k]) - half_logsnr(node[k]);
  for (int i = 0; i < count; i++) lambda[i] = half_logsnr(node[k - i]);
  sa_weights(p, node[k], p->target[k], tau, lambda, count, weight);
  if (p->algorithm == SOLVE_X0 && count == 2) {
    double change = c * p->target[k].alpha * (h * h / 2 - (h * c + expm1(-c * h)) / (c * c)) / (lambda[0] - lambda[1]);
    weight[0] += change, weight[1] -= change;
  }
  sa_update(s, s->x, node[k], p->target[k], tau, count, weight, (const double *const *)s->history);
  return ELBO_OK;
}

// --- UniPC [Zhao23] ---
// Solves the order conditions R rho = b by elimination with pivoting; n at most ORDER_MAX.
static void solve_small(int n, double r[ORDER_MAX][ORDER_MAX], double *b) {
  for (int c = 0; c < n; c++) {
    int best = c;
    for (int i = c + 1; i < n; i++)
      if (fabs(r[i][c]) > fabs(r[best][c])) best = i;
    for (int j = 0; j < n; j++) {
      double t = r[c][j];
      r[c][j] = r[best][j], r[best][j] = t;
    }
    double t = b[c];
    b[c] = b[best], b[best] = t;
    for (int i = c + 1; i < n; i++) {
      double f = r[i][c] / r[c][c];
      for (int j = c; j < n; j++) r[i][j] -= f * r[c][j];
      b[i] -= f * b[c];
    }
  }
  for (int c = n - 1; c >= 0; c--) {
    for (int j = c + 1; j < n; j++) b[c] -= r[c][j] * b[j];
    b[c] /= r[c][c];
  }
}

// Weights of the differences (m_i - m0) / r_i, i = 1 .. n, where hh = +-h [Zhao23 eq. 5, 6]: r^(i-1) . rho = i! phi_(i+1)(hh) hh / B.
static void unipc_weights(int n, const double *r, double hh, double B, double *rho) {
  double matrix[ORDER_MAX][ORDER_MAX], phi = expm1(hh) / hh - 1, factorial = 1;
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++) matrix[i][j] = pow(r[j], i);
    rho[i] = phi * factorial / B;
    factorial *= i + 2;
    phi = phi / hh - 1 / factorial;
  }
  solve_small(n, matrix, rho);
}

// One update from `from` (where m0 was found; x there in `x`) to `to` into s->x. `earlier`: (count) nodes of the models behind m0. `now`:
// the model at `to`, for the corrector; NULL for the predictor.
static void unipc_update(sampling *s, const double *x, solver_node from, solver_node to, int count, const solver_node *newest,
                         const double *const *model, const double *now) {
  const schedule *p = &s->plan;
  bool data = p->algorithm == SOLVE_X0;
  double lambda = half_logsnr(from), h = half_logsnr(to) - lambda, hh = data ? -h : h, B = p->bh1 ? hh : expm1(hh),
         scale = data ? to.alpha : to.sigma;
  double r[ORDER_MAX], rho[ORDER_MAX] = {0}, factor[ORDER_MAX + 3];
  const double *term[ORDER_MAX + 3] = {x, model[0]};
  for (int i = 0; i < count; i++) r[i] = (half_logsnr(newest[-1 - i]) - lambda) / h;
  if (now) {
    r[count] = 1;
    if (count == 0) {
      rho[0] = 0.5; // any weight gives first order; one half is the trapezoidal rule
    } else {
      unipc_weights(count + 1, r, hh, B, rho);
    }
  } else if (count == 1) {
    rho[0] = 0.5;
  } else if (count > 1) {
    unipc_weights(count, r, hh, B, rho);
  }
  int terms = 2;
  factor[0] = data ? to.sigma / from.sigma : to.alpha / from.alpha;
  factor[1] = -scale * expm1(hh);
  for (int i = 0; i < count + (now != NULL); i++) {
    double weight = -scale * B * rho[i] / r[i];
    factor[1] -= weight;
    factor[terms] = weight;
    term[terms++] = i < count ? model[i + 1] : now;
  }
  combine(s, s->x, terms, factor, term);
}

elbo_status step_unipc(sampling *s, int k) {
  const schedule *p = &s->plan;
  double *before = s->work[0], *answer = s->work[1];
  bool data = p->algorithm == SOLVE_X0, correct = k > 0 && !s->exact;
  for (int64_t i = 0; i < p->no_correctors; i++) correct = correct && p->no_corrector[i] != k - 1;
  TRY(predict(s, s->x, p->node[k], data ? answer : NULL, data ? NULL : answer));
  if (correct) // UniC: of the order of the step that led here
    unipc_update(s, before, p->node[k - 1], p->node[k], p->order[k - 1] - 1, p->node + k - 1, (const double *const *)s->history, answer);
  copy_state(s, history_push(s, p->max_order), answer);
  copy_state(s, before, s->x);
  unipc_update(s, before, p->node[k], p->target[k], p->order[k] - 1, p->node + k, (const double *const *)s->history, NULL);
  return ELBO_OK;
}
