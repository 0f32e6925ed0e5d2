// Pseudo numerical methods: the extrapolations of classical solvers put through DDIM's transfer [Liu22pndm].
#include <math.h>

#include "diffusion/sampling.h"

// x at `to` from x at `from` and epsilon [Liu22pndm eq. 11]: the deterministic DDIM step without x0.
static void transfer(sampling *s, double *out, const double *x, const double *epsilon, solver_node from, solver_node to) {
  combine2(s, out, to.alpha / from.alpha, x, to.sigma - to.alpha * from.sigma / from.alpha, epsilon);
}

// diffusers extrapolates what the network says, and turns it into epsilon (with x at `from`) only then; the two differ for v. Its class
// does so here too; on other processes the answers are epsilon from the start.
static void transfer_raw(sampling *s, double *out, const double *x, const double *raw, solver_node from, solver_node to) {
  if (s->plan.class_ == SCHEDULER_OWN) {
    transfer(s, out, x, raw, from, to);
    return;
  }
  prediction_map m = prediction_coefficients(s->plan.prediction, from.alpha, from.sigma, s->plan.sigma_data);
  combine2(s, s->work[3], m.epsilon_x, x, m.epsilon_output * s->plan.output_sign, raw);
  transfer(s, out, x, s->work[3], from, to);
}

// history (newest first) of `count` entries -> their extrapolation by Adams-Bashforth of at most fourth order [Liu22pndm eq. 12]
static void adams_bashforth(sampling *s, double *out, int count) {
  static const double factor[4][4] = {
      {1}, {3 / 2.0, -1 / 2.0}, {23 / 12.0, -16 / 12.0, 5 / 12.0}, {55 / 24.0, -59 / 24.0, 37 / 24.0, -9 / 24.0}};
  int terms = count > 4 ? 4 : count;
  combine(s, out, terms, factor[terms - 1], (const double *const *)s->history);
}

static elbo_status ask(sampling *s, const double *x, solver_node at, double *out) {
  if (s->plan.class_ == SCHEDULER_OWN) return predict(s, x, at, NULL, out);
  TRY(call_network(s, x, at));
  copy_state(s, out, s->raw);
  return ELBO_OK;
}

// F-PNDM [Liu22pndm algorithm 2]: three pseudo Runge-Kutta steps of four calls, then the linear multistep. Of the first
// three, target is half way, mid[2k] where the network is called there (diffusers' differ by one index when the step is odd), mid[2k + 1]
// the end.
elbo_status step_pndm(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k], half = s->plan.mid[2 * k], end = s->plan.mid[2 * k + 1];
  double *sum = s->work[0], *stage = s->work[1], *answer = s->work[2];
  if (k >= 3) {
    TRY(ask(s, s->x, from, history_push(s, 4)));
    adams_bashforth(s, sum, 4);
    transfer_raw(s, s->x, s->x, sum, from, to);
    return ELBO_OK;
  }
  double *first = history_push(s, 4);
  TRY(ask(s, s->x, from, first));
  transfer_raw(s, stage, s->x, first, from, to);
  TRY(ask(s, stage, half, answer));
  combine2(s, sum, 1 / 6.0, first, 1 / 3.0, answer);
  transfer_raw(s, stage, s->x, answer, from, half);
  TRY(ask(s, stage, half, answer));
  combine2(s, sum, 1, sum, 1 / 3.0, answer);
  transfer_raw(s, stage, s->x, answer, from, end);
  TRY(ask(s, stage, end, answer));
  combine2(s, sum, 1, sum, 1 / 6.0, answer);
  transfer_raw(s, s->x, s->x, sum, from, end);
  return ELBO_OK;
}

// The linear multistep alone, started by one pseudo improved Euler step of two calls, the second at `target[0]` (S-PNDM's start).
elbo_status step_plms(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *sum = s->work[0], *stage = s->work[1], *answer = s->work[2];
  TRY(ask(s, s->x, from, history_push(s, 4)));
  if (k == 0 && s->plan.mid) { // a run of one step has no second call
    transfer_raw(s, stage, s->x, s->history[0], from, to);
    TRY(ask(s, stage, s->plan.mid[0], answer));
    combine2(s, sum, 0.5, s->history[0], 0.5, answer);
    transfer_raw(s, s->x, s->x, sum, s->plan.mid[1], s->plan.mid[0]);
    return ELBO_OK;
  }
  adams_bashforth(s, sum, k + 1);
  transfer_raw(s, s->x, s->x, sum, from, to);
  return ELBO_OK;
}

// Improved PNDM [Zhang23 section 4.2]: the multistep from the first step on, of epsilon.
elbo_status step_ipndm(sampling *s, int k) {
  solver_node from = s->plan.node[k], to = s->plan.target[k];
  double *epsilon = s->work[0];
  TRY(predict(s, s->x, from, NULL, history_push(s, 4)));
  adams_bashforth(s, epsilon, k + 1 < s->plan.max_order ? k + 1 : s->plan.max_order);
  if (from.alpha < 1e-8) { // nothing of x0 is known: x - sigma epsilon is taken for zero, as diffusers' division by at least 1e-8 has it
    combine3(s, s->x, to.alpha / 1e-8, s->x, -to.alpha * from.sigma / 1e-8, epsilon, to.sigma, epsilon);
    return ELBO_OK;
  }
  transfer(s, s->x, s->x, epsilon, from, to);
  return ELBO_OK;
}
