// The densities of time of an LSGM's weightings: that they are densities, that their quantiles are theirs, and that nothing is biased by
// drawing from them.
#include "diffusion/score_times.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

static elbo_ctx *ctx;
static arena *memory;

static process *make(const char *text) {
  process_config config;
  process *p;
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &process_table, root, "process", &config));
  assert_ok(ctx, process_create(ctx, &config, "r.yaml: process", &p));
  return p;
}

static const char *const processes[] = {"{type: linear, logsnr_min: -10, logsnr_max: 8}", "{type: cosine, logsnr_min: -9, logsnr_max: 7}",
                                        "{type: cosine, logsnr_min: -10, logsnr_max: 10, shift: 0.5}",
                                        "{type: sigmoid, logsnr_min: -6, logsnr_max: 6}", "{type: discrete, steps: 500}"};
enum { PROCESSES = 5, WEIGHTINGS = 3, CUTS = 200000 };

// Over every schedule the weights are g^2 / (2 sigma^2), 1 / 2 and g^2 / 2, with g^2 = -d log alpha^2 / dt by differences.
static void test_weights(void **state) {
  (void)state;
  for (int k = 0; k < PROCESSES; k++) {
    process *p = make(processes[k]);
    for (double t = 0.0511; t < 0.99; t += 0.0731) {
      const double h = 1e-6;
      double before = process_at(p, t - h).alpha, after = process_at(p, t + h).alpha, sigma = process_at(p, t).sigma;
      double g2 = -2 * (log(after) - log(before)) / (2 * h);
      assert_near(score_weight(SCORE_LIKELIHOOD, p, t) / (0.5 * g2 / (sigma * sigma)), 1, 2e-4);
      assert_near(score_weight(SCORE_REWEIGHTED, p, t) / (0.5 * g2), 1, 2e-4);
      assert_near(score_weight(SCORE_UNWEIGHTED, p, t), 0.5, 0);
    }
    process_destroy(&p);
  }
}

static void check_density(const process *p, int weighting, bool importance, const char *name) {
  time_density *d;
  assert_ok(ctx, time_density_create(ctx, p, weighting, importance, &d));
  // equal parts of [0,1], the middle of each; what lies below t against its quantile
  double below = 0, worst = 0;
  for (int i = 0; i < CUTS; i++) {
    double t = (i + 0.5) / CUTS, at = time_density_at(d, t);
    if (!(at > 0)) fail_msg("%s, weighting %d: density %g at %g", name, weighting, at, t);
    below += at / CUTS;
    if (i % 997 == 0 && below < 1 - 1e-6) worst = fmax(worst, fabs(time_density_quantile(d, below) - t - 0.5 / CUTS) * at);
  }
  if (!(fabs(below - 1) < 2e-3)) fail_msg("%s, weighting %d: the density integrates to %.6f", name, weighting, below);
  if (!(worst < 2e-3)) fail_msg("%s, weighting %d: quantiles are off by %g", name, weighting, worst);
  assert_true(time_density_quantile(d, 0) > 0 && time_density_quantile(d, 0) < 1e-3);
  assert_true(time_density_quantile(d, 1 - 1e-12) <= 1);
  time_density_destroy(&d);
}

static void test_densities(void **state) {
  (void)state;
  for (int k = 0; k < PROCESSES; k++) {
    process *p = make(processes[k]);
    for (int w = 0; w < WEIGHTINGS; w++)
      for (int importance = 0; importance < 2; importance++) check_density(p, w, importance, processes[k]);
    process_destroy(&p);
  }
}

// The error of epsilon of a N(0, I) prior on codes N(0, v): a smooth function of time with a known integral under w_ll.
static double error_at(const process *p, double v, double t) {
  process_point q = process_at(p, t);
  double a2 = q.alpha * q.alpha, s2 = q.sigma * q.sigma;
  return a2 * a2 + a2 * s2 * v;
}

// E[w f / density] over even shares is the integral of w f, whichever density: that of another weighting, too.
static void test_unbiased(void **state) {
  (void)state;
  enum { DRAWS = 60000 };
  for (int k = 0; k < PROCESSES; k++) {
    process *p = make(processes[k]);
    process_point first = process_at(p, 0), last = process_at(p, 1);
    for (int w = 0; w < WEIGHTINGS; w++) {
      double plain = 0;
      for (int i = 0; i < CUTS; i++) plain += score_weight(w, p, (i + 0.5) / CUTS) * error_at(p, 2.5, (i + 0.5) / CUTS) / CUTS;
      if (w == SCORE_LIKELIHOOD) { // half of softplus(l0) - softplus(l1) + (v - 1) (alpha0^2 - alpha1^2)
        double closed =
            0.5 * (log1p(exp(first.logsnr)) - log1p(exp(last.logsnr)) + 1.5 * (first.alpha * first.alpha - last.alpha * last.alpha));
        assert_near(plain / closed, 1, 1e-3);
      }
      for (int from = 0; from < WEIGHTINGS; from++) {
        time_density *d;
        double sum = 0, square = 0;
        assert_ok(ctx, time_density_create(ctx, p, from, true, &d));
        for (int i = 0; i < DRAWS; i++) {
          double t = time_density_quantile(d, (i + 0.5) / DRAWS);
          double v = score_weight(w, p, t) * error_at(p, 2.5, t) / time_density_at(d, t);
          sum += v / DRAWS, square += v * v / DRAWS;
        }
        if (!(fabs(sum / plain - 1) < 4e-3))
          fail_msg("%s: weighting %d by the density of %d: %.6f, uniformly %.6f", processes[k], w, from, sum, plain);
        // what it is for: on codes near N(0, I) its own density leaves little variance
        if (from == w && !(sqrt(fmax(0, square - sum * sum)) < 0.6 * sum))
          fail_msg("%s: weighting %d: %.4f +- %.4f under its own density", processes[k], w, sum, sqrt(square - sum * sum));
        time_density_destroy(&d);
      }
    }
    process_destroy(&p);
  }
}

int main(void) {
  ctx = test_ctx(1);
  memory = arena_create(1 << 14);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_weights), cmocka_unit_test(test_densities), cmocka_unit_test(test_unbiased)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
