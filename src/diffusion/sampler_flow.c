// Straight steps in sigma for flows, alpha = 1 - sigma: the velocity is epsilon - x0 [Liu22 eq. 1].
#include <math.h>

#include "diffusion/sampling.h"

static elbo_status velocity_at(sampling *s, const double *x, solver_node at, double *out) {
  double *x0 = s->work[0], *epsilon = s->work[1];
  TRY(call_network(s, x, at));
  if (s->plan.prediction == PREDICT_FLOW && s->plan.clip == CLIP_NONE) {
    copy_state(s, out, s->raw);
    return ELBO_OK;
  }
  interpret(s, x, at, x0, epsilon);
  combine2(s, out, 1, epsilon, -1, x0);
  return ELBO_OK;
}

elbo_status step_flow_euler(sampling *s, int k) {
  double *velocity = s->work[2], *x0 = s->work[0], from = s->plan.node[k].sigma, to = s->plan.target[k].sigma;
  TRY(velocity_at(s, s->x, s->plan.node[k], velocity));
  if (!s->plan.renoise) {
    combine2(s, s->x, 1, s->x, to - from, velocity);
    return ELBO_OK;
  }
  draw_noise(s, s->noise);
  combine2(s, x0, 1, s->x, -from, velocity);
  combine2(s, s->x, 1 - to, x0, to, s->noise);
  return ELBO_OK;
}

elbo_status step_flow_heun(sampling *s, int k) {
  double *velocity = s->work[2], *stage = s->work[3], *second = s->work[4];
  double from = s->plan.node[k].sigma, to = s->plan.target[k].sigma;
  TRY(velocity_at(s, s->x, s->plan.node[k], velocity));
  if (to == 0) {
    combine2(s, s->x, 1, s->x, to - from, velocity);
    return ELBO_OK;
  }
  combine2(s, stage, 1, s->x, to - from, velocity);
  TRY(velocity_at(s, stage, s->plan.target[k], second));
  combine3(s, s->x, 1, s->x, (to - from) / 2, velocity, (to - from) / 2, second);
  return ELBO_OK;
}
