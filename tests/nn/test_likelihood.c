// Every likelihood against a formula written out here in double precision, its normalisation, and its draws against its own density.
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/likelihood.h"

enum { ROWS = 3, SIDE = 2 };

// Runs one output of a graph with inputs p (and x); under the reference backend everything is double.
typedef struct run_result {
  double *v;
  int64_t n;
} run_result;

typedef enum what { LOG_PROB, MEAN, DRAW, CENTRED } what; // CENTRED: the log-probability of x under what lies at x itself
enum { CENTRED_LEVELS = 2 };                              // and begins so many levels wide

static run_result evaluate(elbo_ctx *ctx, const likelihood *l, what w, const float *p, const float *x, int64_t rows, int64_t h,
                           elbo_backend_kind backend, uint64_t seed) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "likelihood", &g));
  int64_t width = likelihood_width(l), c = l->channels;
  elbo_tensor *pt = elbo_input(g, "p", ELBO_F32, 4, (int64_t[]){rows, h, h, width});
  elbo_tensor *xt = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){rows, h, h, c});
  elbo_tensor *y = w == LOG_PROB  ? likelihood_log_prob(l, pt, xt, NULL)
                   : w == CENTRED ? likelihood_log_prob(l, likelihood_centred(l, pt, xt, CENTRED_LEVELS / 255.0), xt, NULL)
                   : w == MEAN    ? likelihood_mean(l, pt)
                                  : likelihood_draw(l, pt, "pixels");
  assert_ok(ctx, elbo_graph_check(g));
  elbo_store *store;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = backend;
  elbo_plan *plan;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
  assert_ok(ctx, elbo_plan_set(plan, "p", p, rows * h * h * width));
  if (w == LOG_PROB || w == CENTRED) assert_ok(ctx, elbo_plan_set(plan, "x", x, rows * h * h * c));
  if (w == DRAW) {
    int64_t *index = elbo_plan_input(plan, "sample_index");
    for (int64_t i = 0; i < rows; i++) index[i] = i;
    *(int64_t *)elbo_plan_input(plan, "seed") = (int64_t)seed;
  }
  assert_ok(ctx, elbo_plan_run(plan, store));
  run_result r = {.n = w == LOG_PROB || w == CENTRED ? rows : rows * h * h * c};
  r.v = malloc((size_t)r.n * sizeof(double));
  for (int64_t i = 0; i < r.n; i++)
    r.v[i] = backend == ELBO_BACKEND_REFERENCE ? ((const double *)elbo_plan_output(plan, 0))[i]
                                               : (double)((const float *)elbo_plan_output(plan, 0))[i];
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  return r;
}

// --- the formulas ---

static double sigmoid(double v) { return 1 / (1 + exp(-v)); }

// P(level) of a logistic by its distribution function, the ends taking the tails
static double level_probability(double level, double m, double s) {
  double a = ((level + 0.5) / 255 - m) / s, b = ((level - 0.5) / 255 - m) / s;
  if (level > 254.5) return sigmoid(-b);
  if (level < 0.5) return sigmoid(a);
  return b > 0 ? sigmoid(-b) - sigmoid(-a) : sigmoid(a) - sigmoid(b); // the side on which little cancels
}

static double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

static double pixel_log_prob(const likelihood *l, const float *p, const float *x) {
  int c = (int)l->channels, k = l->mixtures;
  double total = 0;
  if (l->kind == LIKELIHOOD_LOGISTIC_MIXTURE) {
    double weight = 0, sum = 0;
    for (int i = 0; i < k; i++) weight += exp(p[i]);
    for (int i = 0; i < k; i++) {
      double product = exp(p[i]) / weight;
      const float *couple = p + k * (1 + 2 * c);
      for (int a = 0; a < c; a++) {
        double m = 0.5 + 0.5 * p[k * (1 + a) + i], s = exp(fmax(p[k * (1 + c + a) + i], -7)) / 2;
        for (int j = 0; j < a; j++, couple += k) m += tanh(couple[i]) * (x[j] - 0.5);
        product *= level_probability(round(x[a] * 255), m, s);
      }
      sum += product;
    }
    return log(sum);
  }
  for (int a = 0; a < c; a++) {
    double m = p[a] + 0.5, s = l->sigma;
    if (l->variance == WIDTH_PIXEL) s = exp(clamp(p[c + a] - 1.0, -7, 7));
    switch (l->kind) {
    case LIKELIHOOD_BERNOULLI: total += x[a] * log(sigmoid(p[a])) + (1 - x[a]) * log(1 - sigmoid(p[a])); break;
    case LIKELIHOOD_CONTINUOUS_BERNOULLI: {
      double q = sigmoid(p[a]), norm = fabs(q - 0.5) < 1e-9 ? 2 : 2 * atanh(1 - 2 * q) / (1 - 2 * q);
      total += log(norm) + x[a] * log(q) + (1 - x[a]) * log(1 - q);
      break;
    }
    case LIKELIHOOD_GAUSSIAN: total += -0.5 * pow((x[a] - m) / s, 2) - log(s) - 0.5 * log(2 * 3.14159265358979323846); break;
    case LIKELIHOOD_LAPLACE: total += -fabs(x[a] - m) / s - log(2 * s); break;
    case LIKELIHOOD_DISCRETIZED_LOGISTIC: total += log(level_probability(round(x[a] * 255), m, s)); break;
    default: {
      double sum = 0;
      for (int i = 0; i < 256; i++) sum += exp(p[256 * a + i]);
      total += p[256 * a + (int)lround(x[a] * 255)] - log(sum);
    }
    }
  }
  return total;
}

typedef struct likelihood_case {
  const char *name;
  likelihood l;
  double scale; // of p
} likelihood_case;

static const likelihood_case cases[] = {
    {"bernoulli", {.kind = LIKELIHOOD_BERNOULLI, .channels = 1}, 2},
    {"continuous_bernoulli", {.kind = LIKELIHOOD_CONTINUOUS_BERNOULLI, .channels = 3}, 2},
    {"continuous_bernoulli near one half", {.kind = LIKELIHOOD_CONTINUOUS_BERNOULLI, .channels = 1}, 0.15},
    {"gaussian fixed", {.kind = LIKELIHOOD_GAUSSIAN, .variance = WIDTH_FIXED, .sigma = 0.7, .channels = 3}, 1},
    {"gaussian learned", {.kind = LIKELIHOOD_GAUSSIAN, .variance = WIDTH_LEARNED, .sigma = 0.2, .channels = 1}, 1},
    {"gaussian pixel", {.kind = LIKELIHOOD_GAUSSIAN, .variance = WIDTH_PIXEL, .channels = 2}, 1},
    {"gaussian optimal, frozen", {.kind = LIKELIHOOD_GAUSSIAN, .variance = WIDTH_OPTIMAL, .sigma = 0.4, .channels = 2}, 1},
    {"laplace learned", {.kind = LIKELIHOOD_LAPLACE, .variance = WIDTH_LEARNED, .sigma = 0.3, .channels = 3}, 1},
    {"laplace pixel", {.kind = LIKELIHOOD_LAPLACE, .variance = WIDTH_PIXEL, .channels = 1}, 1},
    {"discretized logistic fixed", {.kind = LIKELIHOOD_DISCRETIZED_LOGISTIC, .variance = WIDTH_FIXED, .sigma = 0.02, .channels = 1}, 0.3},
    {"discretized logistic pixel", {.kind = LIKELIHOOD_DISCRETIZED_LOGISTIC, .variance = WIDTH_PIXEL, .channels = 3}, 0.3},
    {"mixture, grey", {.kind = LIKELIHOOD_LOGISTIC_MIXTURE, .mixtures = 3, .channels = 1}, 0.7},
    {"mixture, colour", {.kind = LIKELIHOOD_LOGISTIC_MIXTURE, .mixtures = 4, .channels = 3}, 0.7},
    {"mixture, four channels", {.kind = LIKELIHOOD_LOGISTIC_MIXTURE, .mixtures = 2, .channels = 4}, 0.7},
    {"categorical", {.kind = LIKELIHOOD_CATEGORICAL, .channels = 2}, 1},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void fill_x(test_random *r, const likelihood *l, float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double u = test_uniform(r);
    if (l->kind == LIKELIHOOD_BERNOULLI)
      x[i] = u < 0.5;
    else if (likelihood_discrete(l))
      x[i] = (float)test_below(r, 0, 255) / 255;
    else
      x[i] = (float)u;
  }
  if (likelihood_discrete(l)) x[0] = 0, x[1] = 1; // the tails
}

static void test_formulas(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < N_CASES; i++) {
    const likelihood *l = &cases[i].l;
    test_random r = {test_seed(), (uint64_t)i << 20};
    int64_t w = likelihood_width(l), c = l->channels;
    float *p = malloc((size_t)(ROWS * SIDE * SIDE * w) * sizeof *p), *x = malloc((size_t)(ROWS * SIDE * SIDE * c) * sizeof *x);
    test_fill_normal(&r, p, ROWS * SIDE * SIDE * w, cases[i].scale);
    fill_x(&r, l, x, ROWS * SIDE * SIDE * c);
    run_result exact = evaluate(ctx, l, LOG_PROB, p, x, ROWS, SIDE, ELBO_BACKEND_REFERENCE, 0);
    run_result fast = evaluate(ctx, l, LOG_PROB, p, x, ROWS, SIDE, ELBO_BACKEND_CPU, 0);
    for (int row = 0; row < ROWS; row++) {
      double want = 0;
      for (int k = 0; k < SIDE * SIDE; k++) want += pixel_log_prob(l, p + (row * SIDE * SIDE + k) * w, x + (row * SIDE * SIDE + k) * c);
      // the series of the continuous Bernoulli is good to 1e-8, x is float32
      if (!(fabs(exact.v[row] - want) <= 2e-5 * (1 + fabs(want))))
        fail_msg("%s, seed %llu, row %d: %.9g, the formula gives %.9g", cases[i].name, (unsigned long long)test_seed(), row, exact.v[row],
                 want);
      if (!(fabs(fast.v[row] - want) <= 2e-4 * (1 + fabs(want))))
        fail_msg("%s on the CPU, seed %llu, row %d: %.9g, the formula gives %.9g", cases[i].name, (unsigned long long)test_seed(), row,
                 fast.v[row], want);
    }
    free(exact.v), free(fast.v), free(p), free(x);
  }
  elbo_ctx_destroy(&ctx);
}

// Centred at x: the formula with every location moved there, couplings acting on nothing, and widths about the given one.
static void test_centred(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < N_CASES; i++) {
    const likelihood *l = &cases[i].l;
    if (!likelihood_has_location(l)) continue;
    test_random r = {test_seed(), (uint64_t)(i + 300) << 20};
    int64_t w = likelihood_width(l), c = l->channels, k = l->mixtures;
    float *p = malloc((size_t)(ROWS * w) * sizeof *p), *x = malloc((size_t)(ROWS * c) * sizeof *x);
    test_fill_normal(&r, p, ROWS * w, cases[i].scale);
    fill_x(&r, l, x, ROWS * c);
    run_result got = evaluate(ctx, l, CENTRED, p, x, ROWS, 1, ELBO_BACKEND_REFERENCE, 0);
    for (int row = 0; row < ROWS; row++) {
      float *q = p + row * w, *at = x + row * c;
      double begin = log(CENTRED_LEVELS / 255.0);
      if (l->kind == LIKELIHOOD_LOGISTIC_MIXTURE) {
        const float *couple = q + k * (1 + 2 * c);
        for (int a = 0; a < c; a++) {
          for (int64_t m = 0; m < k; m++) {
            q[k * (1 + a) + m] += 2 * (at[a] - 0.5f);
            q[k * (1 + c + a) + m] += (float)(begin + log(2) + 0.5 * ((double)m - 0.5 * (double)(k - 1)));
          }
          for (int j = 0; j < a; j++, couple += k)
            for (int64_t m = 0; m < k; m++) q[k * (1 + a) + m] -= 2 * tanhf(couple[m]) * (at[j] - 0.5f);
        }
      } else {
        for (int a = 0; a < c; a++) q[a] += at[a] - 0.5f;
        for (int a = 0; a < c && w == 2 * c; a++) q[c + a] += 1 + (float)begin;
      }
      double want = pixel_log_prob(l, q, at);
      if (!(fabs(got.v[row] - want) <= 2e-4 * (1 + fabs(want))))
        fail_msg("%s, seed %llu, row %d: %.9g, the formula gives %.9g", cases[i].name, (unsigned long long)test_seed(), row, got.v[row],
                 want);
    }
    free(got.v), free(p), free(x);
  }
  elbo_ctx_destroy(&ctx);
}

// Discretised likelihoods: the 256 levels' probabilities sum to 1, for wide, narrow and far-off parameters alike. Densities: a fine sum
// over x gives 1 (Gaussian and Laplace from -6 to 7).
static void test_normalisation(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < N_CASES; i++) {
    likelihood l = cases[i].l;
    if (l.kind == LIKELIHOOD_BERNOULLI) continue;
    l.channels = 1;
    bool discrete = likelihood_discrete(&l), everywhere = l.kind == LIKELIHOOD_GAUSSIAN || l.kind == LIKELIHOOD_LAPLACE;
    int64_t w = likelihood_width(&l), n = discrete ? 256 : 20000;
    double low = everywhere ? -6 : 0, high = everywhere ? 7 : 1;
    float *p = malloc((size_t)(n * w) * sizeof *p), *x = malloc((size_t)n * sizeof *x);
    for (int trial = 0; trial < 4; trial++) {
      test_random r = {test_seed(), (uint64_t)(i * 4 + trial) << 20};
      float one[256];
      test_fill_normal(&r, one, w, trial == 3 ? 4 * cases[i].scale : cases[i].scale);
      if (trial == 2 && l.kind == LIKELIHOOD_LOGISTIC_MIXTURE)
        for (int k = 0; k < l.mixtures; k++) one[2 * l.mixtures + k] = -9; // narrower than the floor
      if (everywhere && trial == 3 && l.variance == WIDTH_PIXEL) continue; // too wide or too narrow for the sum
      if (everywhere) one[0] *= 0.2f;
      for (int64_t k = 0; k < n; k++) {
        memcpy(p + k * w, one, (size_t)w * sizeof *p);
        x[k] = discrete ? (float)k / 255 : (float)(low + (high - low) * ((double)k + 0.5) / (double)n);
      }
      run_result log_p = evaluate(ctx, &l, LOG_PROB, p, x, n, 1, ELBO_BACKEND_REFERENCE, 0);
      double sum = 0;
      for (int64_t k = 0; k < n; k++) sum += exp(log_p.v[k]) * (discrete ? 1 : (high - low) / (double)n);
      if (!(fabs(sum - 1) <= (discrete ? 1e-5 : 1e-3)))
        fail_msg("%s, seed %llu, trial %d: the probabilities sum to %.9g", cases[i].name, (unsigned long long)test_seed(), trial, sum);
      free(log_p.v);
    }
    free(p), free(x);
  }
  elbo_ctx_destroy(&ctx);
}

// The average of draws is the expectation under the likelihood's own log-probability, and so is that of their squares.
static void test_draws(void **state) {
  (void)state;
  enum { DRAWS = 20000 };
  elbo_ctx *ctx = test_ctx(0);
  for (int i = 0; i < N_CASES; i++) {
    likelihood l = cases[i].l;
    l.channels = 1;
    bool discrete = likelihood_discrete(&l), everywhere = l.kind == LIKELIHOOD_GAUSSIAN || l.kind == LIKELIHOOD_LAPLACE;
    int64_t w = likelihood_width(&l), n = discrete ? 256 : l.kind == LIKELIHOOD_BERNOULLI ? 2 : 20000;
    double low = everywhere ? -6 : 0, high = everywhere ? 7 : 1;
    test_random r = {test_seed(), (uint64_t)(i + 100) << 20};
    float one[256], *p = malloc((size_t)(DRAWS * w) * sizeof *p), *x = malloc((size_t)n * sizeof *x);
    test_fill_normal(&r, one, w, cases[i].scale);
    if (everywhere) one[0] *= 0.2f;
    if (everywhere && w == 2) one[1] = -0.5f;
    // little of the mass beyond the ends, where the mean of the logistics is not what the levels' mean is
    for (int k = 0; k < l.mixtures && l.kind == LIKELIHOOD_LOGISTIC_MIXTURE; k++) one[l.mixtures + k] *= 0.3f, one[2 * l.mixtures + k] -= 3;
    if (l.kind == LIKELIHOOD_DISCRETIZED_LOGISTIC && w == 2) one[1] -= 2;
    for (int64_t k = 0; k < DRAWS; k++) memcpy(p + k * w, one, (size_t)w * sizeof *p);
    for (int64_t k = 0; k < n; k++)
      x[k] = discrete                         ? (float)k / 255
             : l.kind == LIKELIHOOD_BERNOULLI ? (float)k
                                              : (float)(low + (high - low) * ((double)k + 0.5) / (double)n);
    run_result log_p = evaluate(ctx, &l, LOG_PROB, p, x, n, 1, ELBO_BACKEND_REFERENCE, 0);
    run_result draws = evaluate(ctx, &l, DRAW, p, NULL, DRAWS, 1, ELBO_BACKEND_CPU, test_seed());
    run_result mean = evaluate(ctx, &l, MEAN, p, NULL, 1, 1, ELBO_BACKEND_CPU, 0);
    double want[3] = {0}, got[3] = {0}, step = discrete || l.kind == LIKELIHOOD_BERNOULLI ? 1 : (high - low) / (double)n;
    for (int64_t k = 0; k < n; k++)
      for (int m = 0; m < 3; m++) want[m] += pow(x[k], m) * exp(log_p.v[k]) * step;
    for (int64_t k = 0; k < DRAWS; k++)
      for (int m = 0; m < 3; m++) got[m] += pow(draws.v[k], m) / DRAWS;
    double spread = sqrt(fmax(want[2] - want[1] * want[1], 1e-6)), tolerance = 4.5 * spread / sqrt(DRAWS) + 2e-4;
    if (!(fabs(got[1] - want[1]) <= tolerance))
      fail_msg("%s, seed %llu: draws average %.6g, the density says %.6g +- %.2g", cases[i].name, (unsigned long long)test_seed(), got[1],
               want[1], tolerance);
    double got_spread = sqrt(got[2] - got[1] * got[1]);
    if (!(fabs(got_spread - spread) <= 0.05 * spread + 1e-3))
      fail_msg("%s, seed %llu: draws spread %.6g, the density says %.6g", cases[i].name, (unsigned long long)test_seed(), got_spread,
               spread);
    // the logistics' mean is their location, not quite the expectation of what is cut to 0..1
    double slack = l.kind == LIKELIHOOD_DISCRETIZED_LOGISTIC || l.kind == LIKELIHOOD_LOGISTIC_MIXTURE ? 0.03 : 1e-3;
    if (!(fabs(mean.v[0] - want[1]) <= slack))
      fail_msg("%s, seed %llu: mean %.6g, the density says %.6g", cases[i].name, (unsigned long long)test_seed(), mean.v[0], want[1]);
    free(log_p.v), free(draws.v), free(mean.v), free(p), free(x);
  }
  elbo_ctx_destroy(&ctx);
}

// The checker's own check: a formula with a planted mistake is found out.
static void test_planted(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  likelihood l = {.kind = LIKELIHOOD_GAUSSIAN, .variance = WIDTH_FIXED, .sigma = 0.7, .channels = 1}, wrong = l;
  wrong.sigma = 0.71;
  float p[1] = {0.3f}, x[1] = {0.1f};
  run_result r = evaluate(ctx, &l, LOG_PROB, p, x, 1, 1, ELBO_BACKEND_REFERENCE, 0);
  assert_false(fabs(r.v[0] - pixel_log_prob(&wrong, p, x)) <= 2e-5);
  free(r.v);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_formulas), cmocka_unit_test(test_centred), cmocka_unit_test(test_normalisation),
      cmocka_unit_test(test_draws),    cmocka_unit_test(test_planted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
