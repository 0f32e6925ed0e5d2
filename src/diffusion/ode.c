#include "diffusion/ode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

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

typedef struct solution {
  const ode_request *r;
  double *y, *next, *slope[STAGES];
} solution;

// next = y + h sum_j matrix[stage][j] slope_j
static void advance(const solution *s, int stage, double h) {
  int64_t n = s->r->rows * s->r->size;
  memcpy(s->next, s->y, (size_t)n * sizeof(double));
  for (int j = 0; j < stage; j++) {
    double factor = h * matrix[stage][j];
    for (int64_t i = 0; factor != 0 && i < n; i++) s->next[i] += factor * s->slope[j][i];
  }
}

static double error_norm(const solution *s, double h) {
  const ode_request *r = s->r;
  double worst = 0;
  for (int64_t row = 0; row < r->rows; row++) {
    double sum = 0;
    for (int64_t i = row * r->size; i < (row + 1) * r->size; i++) {
      double e = 0;
      for (int j = 0; j < STAGES; j++) e += error_weight[j] * s->slope[j][i];
      e *= h / (r->atol + r->rtol * fmax(fabs(s->y[i]), fabs(s->next[i])));
      sum += e * e;
    }
    double norm = sqrt(sum / (double)r->size);
    if (!(norm <= worst)) worst = norm;
  }
  return worst;
}

static elbo_status solve(elbo_ctx *ctx, solution *s, int64_t *calls) {
  const ode_request *r = s->r;
  double t = r->from, h = (r->to - t) / 50;
  TRY(r->slope(r->user, t, s->y, s->slope[0]));
  *calls = 1;
  for (int tries = 0; t != r->to; tries++) {
    if (tries == TRIES_MAX || fabs(h) < 1e-13)
      return fail(ctx, ELBO_ERROR_NUMERIC, "no step at t = %g meets the tolerance (rtol %g, atol %g)", t, r->rtol, r->atol);
    if (fabs(h) >= fabs(r->to - t)) h = r->to - t;
    for (int stage = 1; stage < STAGES; stage++) {
      advance(s, stage, h);
      TRY(r->slope(r->user, t + nodes[stage] * h, s->next, s->slope[stage]));
    }
    *calls += STAGES - 1;
    double norm = error_norm(s, h), change = norm == 0 ? 5 : 0.9 * pow(norm, -0.2); // not a number: shorter, below
    if (norm <= 1) {                                                                // the last slope is the first of the next step
      t = h == r->to - t ? r->to : t + h;
      double *old = s->y, *first = s->slope[0];
      s->y = s->next, s->next = old;
      s->slope[0] = s->slope[STAGES - 1], s->slope[STAGES - 1] = first;
    }
    h *= !(change > 0.2) ? 0.2 : change > 5 ? 5 : change;
  }
  return ELBO_OK;
}

elbo_status ode_solve(elbo_ctx *ctx, const ode_request *request, double *y, int64_t *calls) {
  size_t n = (size_t)(request->rows * request->size);
  double *memory = NULL;
  int64_t count = 0;
  TRY(array_new(ctx, (STAGES + 2) * n, sizeof(double), "an equation's solution", (void **)&memory));
  solution s = {.r = request, .y = memory, .next = memory + n};
  for (int j = 0; j < STAGES; j++) s.slope[j] = memory + (size_t)(j + 2) * n;
  memcpy(s.y, y, n * sizeof(double));
  elbo_status status = solve(ctx, &s, &count);
  if (status == ELBO_OK) memcpy(y, s.y, n * sizeof(double));
  if (calls) *calls += count;
  free(memory);
  return status;
}
