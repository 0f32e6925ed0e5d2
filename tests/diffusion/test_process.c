// Processes against closed forms, their derivatives against differences, their betas against the definitions, and every mistake.
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "diffusion/prediction.h"
#include "diffusion/process.h"

static elbo_ctx *ctx;
static arena *memory;

static process *make(const char *text) {
  process_config config;
  process *p;
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, memory, &process_table, root, "model.process", &config));
  assert_ok(ctx, process_create(ctx, &config, "r.yaml: model.process", &p));
  return p;
}

static void refuse(const char *text, const char *part) {
  process_config config;
  process *p;
  yaml_node *root;
  assert_ok(ctx, yaml_parse(ctx, memory, "r.yaml", text, strlen(text), &root));
  elbo_status status = config_load(ctx, memory, &process_table, root, "model.process", &config);
  if (status == ELBO_OK) status = process_create(ctx, &config, "r.yaml: model.process", &p);
  assert_status(ctx, status, ELBO_ERROR_ARGUMENT, part);
}

static void test_betas(void **state) {
  (void)state;
  process *p = make("{steps: 3, beta_start: 0.1, beta_end: 0.3}");
  const double *bar = process_alpha_bar(p);
  assert_near(bar[0], 0.9, 1e-15);
  assert_near(bar[1], 0.9 * 0.8, 1e-15);
  assert_near(bar[2], 0.9 * 0.8 * 0.7, 1e-15);
  process_destroy(&p);
  p = make("{steps: 3, betas: scaled_linear, beta_start: 0.01, beta_end: 0.09}"); // roots 0.1 0.2 0.3
  assert_near(process_alpha_bar(p)[2], 0.99 * 0.96 * 0.91, 1e-15);
  process_destroy(&p);
  p = make("{steps: 1000, betas: cosine}"); // the product telescopes until beta is cut
  for (int i = 99; i < 990; i += 99) {
    double c = cos((i + 1 + 8) / 1008.0 * M_PI / 2), c0 = cos(8 / 1008.0 * M_PI / 2);
    assert_near(process_alpha_bar(p)[i], c * c / (c0 * c0), 1e-12);
  }
  process_destroy(&p);
  p = make("{steps: 3, betas: table, table: [0.5, 0.25, 0.125]}");
  assert_near(process_alpha_bar(p)[2], 0.5 * 0.75 * 0.875, 1e-15);
  process_destroy(&p);
  process *plain = make("{steps: 1000, betas: scaled_linear}");
  p = make("{steps: 1000, betas: scaled_linear, zero_snr: true}");
  double first = sqrt(process_alpha_bar(plain)[0]), last = sqrt(process_alpha_bar(plain)[999]);
  for (int i = 0; i < 1000; i += 111) // [Lin24]: the roots are moved and stretched
    assert_near(sqrt(process_alpha_bar(p)[i]), (sqrt(process_alpha_bar(plain)[i]) - last) * first / (first - last), 1e-12);
  assert_true(process_alpha_bar(p)[999] == 0);
  process_point end = process_at(p, 1);
  assert_true(end.alpha == 0 && end.sigma == 1 && isinf(end.logsnr));
  process_destroy(&p);
  process_destroy(&plain);
}

static const char *const shapes[] = {
    "{steps: 1000}",
    "{steps: 10, betas: sigmoid}",
    "{steps: 50, betas: exp}",
    "{steps: 50, betas: laplace}",
    "{steps: 100, betas: cosine, zero_snr: true}",
    "{type: linear}",
    "{type: cosine}",
    "{type: cosine, shift: 0.25, logsnr_min: -10, logsnr_max: 12}",
    "{type: sigmoid, logsnr_min: -9, logsnr_max: 13.3}",
    "{type: edm}",
    "{type: edm, rho: 3, sigma_min: 0.01}",
    "{type: flow}",
    "{type: flow, shift: 3}",
    "{type: ve, sigma_min: 0.01, sigma_max: 50}",
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_points(void **state) {
  (void)state;
  for (int s = 0; s < SHAPES; s++) {
    process *p = make(shapes[s]);
    double before = INFINITY;
    for (int i = 1; i < 400; i++) {
      double t = i / 400.0 + 1e-4, h = 1e-6;
      process_point a = process_at(p, t), low = process_at(p, t - h), high = process_at(p, t + h);
      double back = process_time_of_logsnr(p, a.logsnr);
      bool fine = a.logsnr < before && fabs(a.logsnr - 2 * log(a.alpha / a.sigma)) < 1e-9;
      fine = fine && fabs((high.alpha - low.alpha) / (2 * h) - a.dalpha) < 1e-4 * (1 + fabs(a.dalpha));
      fine = fine && fabs((high.sigma - low.sigma) / (2 * h) - a.dsigma) < 1e-4 * (1 + fabs(a.dsigma));
      fine = fine && fabs((high.logsnr - low.logsnr) / (2 * h) - a.dlogsnr) < 1e-4 * (1 + fabs(a.dlogsnr));
      // a point of a table has a slope on either side of it
      double T = (double)process_steps(p), corner = T > 0 ? fabs(t * T - round(t * T)) / T : 1;
      bool inside = T == 0 || t > 1 / T;
      fine = fine || corner < 2 * h;
      if (inside) fine = fine && fabs(back - t) < 1e-9;
      if (!fine)
        fail_msg("%s at t = %g: alpha %g sigma %g logsnr %g, derivatives %g %g %g, back at %.12g", shapes[s], t, a.alpha, a.sigma, a.logsnr,
                 a.dalpha, a.dsigma, a.dlogsnr, back);
      before = a.logsnr;
    }
    process_destroy(&p);
  }
}

static void test_ends(void **state) {
  (void)state;
  static const char *const cut[] = {"linear", "cosine", "sigmoid", "cosine, shift: 0.5"};
  char text[120];
  for (int i = 0; i < 4; i++) {
    snprintf(text, sizeof text, "{type: %s, logsnr_min: -5, logsnr_max: 13.3}", cut[i]);
    process *p = make(text);
    assert_near(process_at(p, 0).logsnr, 13.3, 1e-9);
    assert_near(process_at(p, 1).logsnr, -5, 1e-9);
    process_destroy(&p);
  }
  process *p = make("{type: edm}");
  assert_near(process_at(p, 0).sigma, 0.002, 1e-15);
  assert_near(process_at(p, 1).sigma, 80, 1e-9);
  process_destroy(&p);
  p = make("{type: flow, shift: 3}");
  process_point half = process_at(p, 0.5); // 3 / 2 / (1 + 1)
  assert_near(half.sigma, 0.75, 1e-15);
  assert_near(half.alpha, 0.25, 1e-15);
  assert_true(process_at(p, 0).logsnr == INFINITY && process_at(p, 1).logsnr == -INFINITY);
  process_destroy(&p);
  p = make("{steps: 10, beta_start: 0.1, beta_end: 0.2}"); // the points of a table lie at (i + 1) / T
  for (int i = 0; i < 10; i++) {
    process_point at = process_at(p, (i + 1) / 10.0);
    assert_near(at.alpha * at.alpha, process_alpha_bar(p)[i], 1e-12);
  }
  process_destroy(&p);
}

static void learned(void *user, double t, double *logsnr, double *dlogsnr) {
  double steep = *(double *)user;
  *logsnr = 6 - 12 * t * t - steep * t;
  *dlogsnr = -24 * t - steep;
}

static void test_custom(void **state) {
  (void)state;
  process *p;
  double steep = 1;
  assert_ok(ctx, process_create_custom(ctx, learned, &steep, &p));
  process_point a = process_at(p, 0.3);
  assert_near(a.logsnr, 6 - 1.08 - 0.3, 1e-12);
  assert_near(a.alpha * a.alpha + a.sigma * a.sigma, 1, 1e-12);
  assert_near(process_time_of_logsnr(p, a.logsnr), 0.3, 1e-12);
  assert_near((process_at(p, 0.3 + 1e-6).alpha - process_at(p, 0.3 - 1e-6).alpha) / 2e-6, a.dalpha, 1e-6);
  assert_true(process_steps(p) == 0 && !process_alpha_bar(p) && process_kind(p) == PROCESS_LEARNED);
  process_destroy(&p);
  assert_null(p);
}

static void test_predictions(void **state) {
  (void)state;
  static const double pairs[][2] = {{0.6, 0.8}, {1, 80}, {1, 1e-3}, {0, 1}, {1e-9, 1}, {1, 0}, {1, 1e-9}, {0.3, 0.7}, {1e-3, 1}};
  double x0[5] = {0.3, -1, 0, 0.77, 2}, epsilon[5] = {1.5, -0.2, 0.4, -3, 0}, x[5], output[5], a[5], b[5];
  for (int pair = 0; pair < 9; pair++)
    for (int type = PREDICT_EPSILON; type <= PREDICT_EDM; type++) {
      double alpha = pairs[pair][0], sigma = pairs[pair][1];
      // what is predicted is lost in x where its factor is zero, and so is the other: these have no answer
      bool no_x0 = (type == PREDICT_EPSILON || type == PREDICT_SCORE) && alpha < 1e-6, no_epsilon = type == PREDICT_X0 && sigma < 1e-6;
      if (type == PREDICT_SCORE && sigma == 0) continue;
      for (int i = 0; i < 5; i++) x[i] = alpha * x0[i] + sigma * epsilon[i];
      prediction_from_x0_epsilon(type, alpha, sigma, 0.5, 5, x0, epsilon, output);
      prediction_to_x0_epsilon(type, alpha, sigma, 0.5, 5, x, output, a, b);
      // EDM's network cannot tell the data once sigma is 0, nor the noise when alpha is 0: c_out and sigma_data alpha vanish
      if (type == PREDICT_EDM && sigma == 0) no_epsilon = true;
      double tolerance = 1e-9 * (1 + (sigma / alpha > 1e6 ? 0 : sigma / alpha) + (type == PREDICT_X0 ? alpha / sigma : 0));
      for (int i = 0; i < 5; i++) {
        if (!no_x0 && !(fabs(a[i] - x0[i]) <= tolerance))
          fail_msg("x0 of prediction %d at (%g, %g): %g, not %g", type, alpha, sigma, a[i], x0[i]);
        if (!no_epsilon && !(fabs(b[i] - epsilon[i]) <= tolerance))
          fail_msg("epsilon of prediction %d at (%g, %g): %g, not %g", type, alpha, sigma, b[i], epsilon[i]);
      }
      // either result may take the output's place
      double in_place[5];
      memcpy(in_place, output, sizeof output);
      prediction_to_x0_epsilon(type, alpha, sigma, 0.5, 5, x, in_place, in_place, a);
      if (!no_epsilon) assert_memory_equal(a, b, sizeof a);
    }
  double v = -0.7, xi = 0.25; // v at zero signal [Lin24 section 3.2]: x0 = -v, epsilon = x
  prediction_to_x0_epsilon(PREDICT_V, 0, 1, 0, 1, &xi, &v, a, b);
  assert_true(a[0] == 0.7 && b[0] == 0.25);
}

static void test_mistakes(void **state) {
  (void)state;
  refuse("{beta_end: 1}", "r.yaml: model.process.beta_end: 1; a beta lies strictly between 0 and 1");
  refuse("{beta_start: 0}", "model.process.beta_start: 0");
  refuse("{beta_start: -0.1}", "model.process.beta_start: -0.1");
  refuse("{beta_start: 0.5, beta_end: 0.1}", "expected beta_start <= beta_end");
  refuse("{steps: 2, betas: table, table: [0.1, 1.5]}", "model.process.table[1]: 1.5");
  refuse("{steps: 3, betas: table, table: [0.1, 0.5]}", "model.process.table: 2 betas; expected one for each of the 3 steps");
  refuse("{steps: 0}", "model.process.steps");
  refuse("{steps: 1, zero_snr: true}", "model.process.zero_snr");
  refuse("{type: edm, sigma_min: 3, sigma_max: 2}", "model.process.sigma_min: 3 with sigma_max 2");
  refuse("{type: ve, sigma_min: 0}", "expected 0 < sigma_min");
  refuse("{type: cosine, logsnr_min: 3, logsnr_max: 3}", "model.process.logsnr_min");
  refuse("{type: learned}", "model.process.type: a learned process");
  refuse("{type: cosin}", "did you mean 'cosine'");
  refuse("{betass: linear}", "did you mean 'betas'");
  refuse("{steps: 2, betas: table, table: [1.0e-17, 0.1]}", "the log-SNR");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_betas),  cmocka_unit_test(test_points),      cmocka_unit_test(test_ends),
      cmocka_unit_test(test_custom), cmocka_unit_test(test_predictions), cmocka_unit_test(test_mistakes),
  };
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return failed;
}
