#include "eval/linear_direction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

enum { NEWTON_STEPS = 30 };

void linear_direction_free(linear_direction *l) {
  free(l->mean), free(l->scale), free(l->normal);
  *l = (linear_direction){0};
}

// a x = b for a symmetric, positive definite a (n,n), whose lower half becomes its Cholesky factor; b becomes x.
static void solve_positive(double *a, double *b, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j <= i; j++) {
      double sum = a[i * n + j];
      for (int64_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? sqrt(sum > 1e-300 ? sum : 1e-300) : sum / a[j * n + j];
    }
    double sum = b[i];
    for (int64_t k = 0; k < i; k++) sum -= a[i * n + k] * b[k];
    b[i] = sum / a[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    for (int64_t k = i + 1; k < n; k++) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
}

static double dot(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

typedef struct regression {
  int64_t n, d;
  const double *u;    // (n,d) standardised codes of either side
  const int8_t *side; // (n)
  double ridge, *w;   // (d + 1): the last is the constant
  double *gradient, *hessian;
} regression;

// One step of Newton's method on the penalised mean log-loss; how far it went.
static double newton_step(regression *r) {
  const int64_t d = r->d, m = d + 1;
  memset(r->gradient, 0, (size_t)m * sizeof(double));
  memset(r->hessian, 0, (size_t)(m * m) * sizeof(double));
  for (int64_t i = 0; i < r->n; i++) {
    const double *u = r->u + i * d;
    double p = 1 / (1 + exp(-(dot(u, r->w, d) + r->w[d]))), error = (p - r->side[i]) / (double)r->n, curve = p * (1 - p) / (double)r->n;
    for (int64_t j = 0; j < m; j++) {
      double uj = j < d ? u[j] : 1, factor = curve * uj;
      r->gradient[j] += error * uj;
      for (int64_t k = 0; k < j; k++) r->hessian[j * m + k] += factor * u[k];
      r->hessian[j * m + j] += factor * uj;
    }
  }
  for (int64_t j = 0; j < d; j++) r->gradient[j] += r->ridge * r->w[j], r->hessian[j * m + j] += r->ridge;
  r->hessian[m * m - 1] += 1e-9;
  solve_positive(r->hessian, r->gradient, m);
  double moved = 0, length = sqrt(dot(r->gradient, r->gradient, m)), limit = length > 10 ? 10 / length : 1;
  for (int64_t j = 0; j < m; j++) r->w[j] -= limit * r->gradient[j], moved += fabs(limit * r->gradient[j]);
  return moved;
}

static void units(const float *codes, int64_t n, int64_t d, linear_direction *out) {
  for (int64_t k = 0; k < d; k++) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)codes[i * d + k];
    out->mean[k] = sum / (double)n;
    for (int64_t i = 0; i < n; i++) square += pow((double)codes[i * d + k] - out->mean[k], 2);
    double deviation = sqrt(square / (double)n);
    out->scale[k] = deviation > 1e-9 ? deviation : 1; // a number that never changes
  }
}

static void describe(const regression *r, linear_direction *out) {
  const int64_t d = r->d;
  const double length = sqrt(dot(r->w, r->w, d));
  double middle[2] = {0}, count[2] = {0};
  int64_t right = 0;
  for (int64_t k = 0; k < d; k++) out->normal[k] = length > 0 ? r->w[k] / length : 0;
  for (int64_t i = 0; i < r->n; i++) middle[r->side[i]] += dot(r->u + i * d, out->normal, d), count[r->side[i]]++;
  for (int k = 0; k < 2; k++) middle[k] /= count[k];
  out->apart = middle[1] - middle[0];
  out->offset = (middle[0] + middle[1]) / 2; // not the regression's, which a penalty leaves to the sizes of the two sets
  for (int64_t i = 0; i < r->n; i++) right += (dot(r->u + i * d, out->normal, d) > out->offset) == (r->side[i] == 1);
  out->accuracy = (double)right / (double)r->n;
}

elbo_status linear_direction_fit(elbo_ctx *ctx, const float *codes, int64_t n, int64_t d, const int8_t *side, double ridge,
                                 linear_direction *out) {
  *out = (linear_direction){.d = d};
  regression r = {.d = d, .ridge = ridge};
  int64_t of[2] = {0};
  double *u = NULL;
  int8_t *sides = NULL;
  elbo_status status;
  for (int64_t i = 0; i < n; i++)
    if (side[i] >= 0) of[side[i] == 1]++;
  if (of[0] < 2 || of[1] < 2) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "a direction between %lld and %lld codes; at least two of each were expected", (long long)of[0],
                  (long long)of[1]);
    goto fail;
  }
  r.n = of[0] + of[1];
  TRY_GOTO(array_new(ctx, (size_t)d, sizeof(double), "a direction", (void **)&out->mean));
  TRY_GOTO(array_new(ctx, (size_t)d, sizeof(double), "a direction", (void **)&out->scale));
  TRY_GOTO(array_new(ctx, (size_t)d, sizeof(double), "a direction", (void **)&out->normal));
  TRY_GOTO(array_new(ctx, (size_t)(r.n * d), sizeof(double), "codes", (void **)&u));
  TRY_GOTO(array_new(ctx, (size_t)r.n, sizeof(int8_t), "codes", (void **)&sides));
  TRY_GOTO(array_new(ctx, (size_t)(d + 1), sizeof(double), "a direction", (void **)&r.w));
  TRY_GOTO(array_new(ctx, (size_t)(d + 1), sizeof(double), "a direction", (void **)&r.gradient));
  TRY_GOTO(array_new(ctx, (size_t)((d + 1) * (d + 1)), sizeof(double), "a direction", (void **)&r.hessian));
  units(codes, n, d, out);
  int64_t at = 0;
  for (int64_t i = 0; i < n; i++) {
    if (side[i] < 0) continue;
    for (int64_t k = 0; k < d; k++) u[at * d + k] = ((double)codes[i * d + k] - out->mean[k]) / out->scale[k];
    sides[at++] = side[i] == 1;
  }
  r.u = u, r.side = sides;
  for (int i = 0; i < NEWTON_STEPS && newton_step(&r) > 1e-9; i++) continue;
  describe(&r, out);
  status = out->apart > 0
               ? ELBO_OK
               : fail(ctx, ELBO_ERROR_NUMERIC, "codes of the two sides do not lie apart in any direction that a line can follow");
fail:
  free(u);
  free(sides);
  free(r.w);
  free(r.gradient);
  free(r.hessian);
  if (status != ELBO_OK) linear_direction_free(out);
  return status;
}

void linear_direction_move(const linear_direction *l, double steps, float *code) {
  for (int64_t k = 0; k < l->d; k++) code[k] += (float)(steps * l->apart * l->normal[k] * l->scale[k]);
}
