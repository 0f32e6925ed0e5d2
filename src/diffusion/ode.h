// An ordinary differential equation for many independent rows, by the explicit Runge-Kutta pair of Dormand and Prince with steps as long as
// the tolerance allows [Dormand80].
#ifndef DIFFUSION_ODE_H
#define DIFFUSION_ODE_H

#include "core/error.h"

// dy/dt of all rows at time t
typedef elbo_status (*ode_fn)(void *user, double t, const double *y, double *dy);

typedef struct ode_request {
  int64_t rows, size; // a state is rows x size numbers
  double from, to;    // times, in either order
  double rtol, atol;  // the root mean square over a row of error / (atol + rtol |y|) stays below 1
  ode_fn slope;
  void *user;
} ode_request;

// y: the state at `from` in, at `to` out. *calls counts calls of slope; may be NULL.
elbo_status ode_solve(elbo_ctx *ctx, const ode_request *request, double *y, int64_t *calls);

#endif
