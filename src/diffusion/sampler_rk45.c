// The probability flow with steps as long as the tolerance allows [Dormand80].
#include "diffusion/ode.h"
#include "diffusion/sampling.h"

// dx/dt = alpha'(t) x0 + sigma'(t) epsilon: the flow of [Song21 eq. 13] without a division by alpha.
static elbo_status slope_at(void *user, double t, const double *x, double *out) {
  sampling *s = user;
  const process *p = s->request->process;
  process_point at = process_at(p, t);
  double *x0 = s->work[0];
  TRY(predict(s, x, (solver_node){process_network_time(p, t), at.alpha, at.sigma}, x0, out));
  combine2(s, out, at.dalpha, x0, at.dsigma, out);
  return ELBO_OK;
}

elbo_status step_rk45(sampling *s, int k) {
  (void)k;
  ode_request request = {.rows = s->request->rows,
                         .size = s->request->size,
                         .from = s->plan.t_first,
                         .to = s->plan.t_last,
                         .rtol = s->plan.rtol,
                         .atol = s->plan.atol,
                         .slope = slope_at,
                         .user = s};
  elbo_status status = ode_solve(s->ctx, &request, s->x, NULL);
  return status == ELBO_ERROR_NUMERIC ? fail_within(s->ctx, status, "rk45") : status;
}
