// The direction between two sets of codes: the one that is best for two Gaussians, the line between their means under a large penalty, and
// what a move does to a code.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/linear_direction.h"

enum { N = 6000, D = 3 };
static elbo_ctx *ctx;
static float codes[N * D];
static int8_t side[N];

// x = centre + A noise, the two sides `apart` from each other; every third code is of neither.
static const double mix[D][D] = {{1, 0, 0}, {0.8, 0.6, 0}, {0, 0, 2}}, apart[D] = {1.2, 0.3, -1};

static void draw(void) {
  test_random r = {test_seed(), 21};
  for (int i = 0; i < N; i++) {
    double z[D];
    side[i] = (int8_t)(i % 3 - 1);
    for (int k = 0; k < D; k++) z[k] = test_normal(&r);
    for (int k = 0; k < D; k++) {
      double v = 5.0 * k + (side[i] == 1 ? apart[k] : 0);
      for (int j = 0; j < D; j++) v += mix[k][j] * z[j];
      codes[i * D + k] = (float)v;
    }
  }
}

static double cosine(const double *a, const double *b) {
  double aa = 0, bb = 0, ab = 0;
  for (int k = 0; k < D; k++) aa += a[k] * a[k], bb += b[k] * b[k], ab += a[k] * b[k];
  return ab / sqrt(aa * bb);
}

// log p(1|x) / p(0|x) of equal covariances S is linear with the slope S^-1 (m1 - m0).
static void test_best(void **state) {
  (void)state;
  linear_direction l;
  draw();
  assert_ok(ctx, linear_direction_fit(ctx, codes, N, D, side, 0, &l));
  double s[D][D] = {{0}}, inverse[D] = {0}, want[D], slope[D];
  for (int a = 0; a < D; a++)
    for (int b = 0; b < D; b++)
      for (int j = 0; j < D; j++) s[a][b] += mix[a][j] * mix[b][j];
  // S is a 2x2 block and a number
  double det = s[0][0] * s[1][1] - s[0][1] * s[1][0];
  inverse[0] = (s[1][1] * apart[0] - s[0][1] * apart[1]) / det, inverse[1] = (s[0][0] * apart[1] - s[1][0] * apart[0]) / det;
  inverse[2] = apart[2] / s[2][2];
  for (int k = 0; k < D; k++) want[k] = inverse[k], slope[k] = l.normal[k] / l.scale[k]; // per unit of the code itself
  if (!(cosine(want, slope) > 0.99)) fail_msg("cosine %g with the best direction", cosine(want, slope));
  // accuracy of the best rule: Phi(sqrt(delta S^-1 delta) / 2)
  double delta = 0;
  for (int k = 0; k < D; k++) delta += apart[k] * inverse[k];
  assert_near(l.accuracy, 0.5 * (1 + erf(sqrt(delta) / 2 / sqrt(2))), 0.02);
  linear_direction_free(&l);
}

static void test_penalised(void **state) {
  (void)state;
  linear_direction l;
  draw();
  assert_ok(ctx, linear_direction_fit(ctx, codes, N, D, side, 1e4, &l));
  double line[D];
  for (int k = 0; k < D; k++) line[k] = apart[k] / l.scale[k];
  if (!(cosine(line, l.normal) > 0.99)) fail_msg("cosine %g with the line between the means", cosine(line, l.normal));
  double length = sqrt(line[0] * line[0] + line[1] * line[1] + line[2] * line[2]);
  assert_near(l.apart, length, 0.12);
  // one step leads from the one mean to the other
  float code[D] = {0, 5, 10};
  linear_direction_move(&l, 1, code);
  for (int k = 0; k < D; k++) assert_near((double)code[k], 5.0 * k + apart[k], 0.25);
  linear_direction_move(&l, -1, code);
  for (int k = 0; k < D; k++) assert_near((double)code[k], 5.0 * k, 1e-5);
  linear_direction_free(&l);
}

static void test_refused(void **state) {
  (void)state;
  linear_direction l;
  draw();
  int8_t few[N];
  memset(few, -1, sizeof few);
  few[0] = few[1] = few[2] = 0, few[3] = 1;
  assert_status(ctx, linear_direction_fit(ctx, codes, N, D, few, 0.1, &l), ELBO_ERROR_ARGUMENT, "between 3 and 1 codes");
  assert_null(l.normal);
  float one[4 * D];
  for (int i = 0; i < 4 * D; i++) one[i] = 2; // codes that are all the same
  assert_status(ctx, linear_direction_fit(ctx, one, 4, D, (const int8_t[]){0, 0, 1, 1}, 0.1, &l), ELBO_ERROR_NUMERIC, "do not lie apart");
}

int main(void) {
  ctx = test_ctx(1);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_best), cmocka_unit_test(test_penalised), cmocka_unit_test(test_refused)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
