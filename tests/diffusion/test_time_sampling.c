// Times against the distributions that they are drawn from, and every weighting in the space of every prediction.
#include "diffusion/time_sampling.h"

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
  assert_ok(ctx, config_load(ctx, memory, &process_table, root, "model.process", &config));
  assert_ok(ctx, process_create(ctx, &config, "r.yaml: model.process", &p));
  return p;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// Largest distance of the sorted values' distribution function from `cdf` (Kolmogorov); 1.95 / sqrt(n) is passed once in a thousand
// times.
static double distance(double *v, int n, double (*cdf)(const void *user, double v), const void *user) {
  double worst = 0;
  qsort(v, (size_t)n, sizeof *v, ascending);
  for (int i = 0; i < n; i++) {
    double at = cdf(user, v[i]);
    worst = fmax(worst, fmax(fabs(at - (double)i / n), fabs(at - (double)(i + 1) / n)));
  }
  return worst;
}

static double uniform_cdf(const void *user, double v) {
  (void)user;
  return v;
}
static double normal_cdf(const void *user, double v) {
  const time_config *c = user;
  return 0.5 * erfc(-(v - c->mean) / c->std / sqrt(2));
}

static void test_quantile(void **state) {
  (void)state;
  for (double u = 1e-12; u < 1; u = u < 0.01 ? 1.7 * u : u + 0.0101) {
    double x = normal_quantile(u), below = 0.5 * erfc(-x / sqrt(2)), above = 0.5 * erfc(x / sqrt(2));
    assert_near(below / u, 1, 1e-12);
    assert_near(above / (1 - u), 1, 1e-9);
    assert_near(normal_quantile(1 - u), -x, 1e-9 * (1 + fabs(x)) / fmin(u, 1) * 1e-3 + 1e-9);
  }
  assert_near(normal_quantile(0.5), 0, 1e-15);
  assert_near(normal_quantile(0.975), 1.959963984540054, 1e-12);
}

enum { N = 20000 };
static double drawn[N];

static void draw(const time_config *c, const process *p) {
  for (int i = 0; i < N; i++) {
    double weight;
    drawn[i] = time_draw(c, p, test_seed(), (uint64_t)i, NULL, &weight);
    assert_true(weight == 1 && drawn[i] > 0 && drawn[i] <= 1);
  }
}

static void test_marginals(void **state) {
  (void)state;
  const double limit = 1.95 / sqrt(N);
  process *p = make("{type: edm, sigma_min: 0.0001, sigma_max: 10000}"), *flow = make("{type: flow}"), *vp = make("{type: cosine}");
  time_config c = {TIME_UNIFORM, 0, 1, 64};
  draw(&c, p);
  assert_true(distance(drawn, N, uniform_cdf, NULL) < limit);
  c.sampling = TIME_LOW_DISCREPANCY;
  draw(&c, p);
  assert_true(distance(drawn, N, uniform_cdf, NULL) < limit);
  c = (time_config){TIME_LOGNORMAL, -1.2, 1.2, 64}; // of sigma / alpha, whatever the process
  for (int k = 0; k < 2; k++) {
    const process *q = k ? vp : p;
    draw(&c, q);
    for (int i = 0; i < N; i++) drawn[i] = -0.5 * process_at(q, drawn[i]).logsnr;
    assert_true(distance(drawn, N, normal_cdf, &c) < limit);
  }
  c = (time_config){TIME_LOGIT_NORMAL, 0.3, 0.8, 64};
  draw(&c, flow);
  for (int i = 0; i < N; i++) drawn[i] = log(drawn[i] / (1 - drawn[i]));
  assert_true(distance(drawn, N, normal_cdf, &c) < limit);
  c.mean += 0.1; // a wrong law is told from the right one
  assert_true(distance(drawn, N, normal_cdf, &c) > limit);
  process_destroy(&p), process_destroy(&flow), process_destroy(&vp);
}

// Of a discrete process every index, as often as the others.
static void test_discrete(void **state) {
  (void)state;
  process *p = make("{steps: 10}");
  for (int sampling = 0; sampling < 2; sampling++) {
    time_config c = {sampling ? TIME_LOW_DISCREPANCY : TIME_UNIFORM, 0, 1, 25};
    int count[10] = {0};
    draw(&c, p);
    for (int i = 0; i < N; i++) {
      double index = drawn[i] * 10 - 1;
      assert_near(index, round(index), 1e-12);
      count[(int)lround(index)]++;
    }
    for (int i = 0; i < 10; i++) assert_near(count[i], N / 10.0, 4 * sqrt(N / 10.0));
  }
  process_destroy(&p);
}

// One offset a batch, then a grid: however the batch is split, since a time depends on the sample's number alone.
static void test_low_discrepancy(void **state) {
  (void)state;
  enum { B = 16 };
  process *p = make("{type: linear}");
  const time_config c = {TIME_LOW_DISCREPANCY, 0, 1, B};
  double before = -1;
  for (uint64_t batch = 0; batch < 50; batch++) {
    double t[B], weight;
    for (int i = 0; i < B; i++) t[i] = time_draw(&c, p, 7, batch * B + (uint64_t)i, NULL, &weight);
    assert_true(t[0] != before); // another offset
    before = t[0];
    qsort(t, B, sizeof *t, ascending);
    for (int i = 1; i < B; i++) assert_near(t[i] - t[i - 1], 1.0 / B, 1e-12);
  }
  process_destroy(&p);
}

// --- importance ---

static double loss_of(double t) { return 0.02 + 3 * exp(-8 * t); }

static void test_history(void **state) {
  (void)state;
  process *p = make("{steps: 4}");
  float values[4 * 11] = {0};
  assert_int_equal(time_history_size(p), 44);
  time_history h = time_history_of(p, values);
  time_config c = {TIME_IMPORTANCE, 0, 1, 8};
  double weight;
  // every bin but one is full: still uniform
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < (i == 2 ? 9 : 25); k++) time_history_add(&h, (i + 1) / 4.0, i == 1 ? k : 1);
  for (uint64_t i = 0; i < 100; i++) {
    double u = time_draw(&(time_config){TIME_UNIFORM, 0, 1, 8}, p, 1, i, NULL, &weight);
    assert_true(time_draw(&c, p, 1, i, &h, &weight) == u && weight == 1);
  }
  // the ring holds the newest ten: of 0..24 those are 15..24
  double sum = 0;
  for (int k = 0; k < HISTORY_LENGTH; k++) sum += (double)h.loss[1 * HISTORY_LENGTH + k];
  assert_near(sum, 195, 0);
  time_history_add(&h, 0.75, 1);
  double rms[4] = {1, 0, 1, 1}, total = 3, seen[4] = {0};
  for (int k = 15; k < 25; k++) rms[1] += k * k / 10.0;
  rms[1] = sqrt(rms[1]), total += rms[1];
  for (uint64_t i = 0; i < N; i++) {
    double t = time_draw(&c, p, test_seed(), i, &h, &weight);
    int bin = (int)lround(t * 4) - 1;
    seen[bin]++;
    double share = 0.999 * rms[bin] / total + 0.001 / 4;
    assert_near(weight, 1 / (4 * share), 1e-5);
  }
  for (int i = 0; i < 4; i++) {
    double share = 0.999 * rms[i] / total + 0.001 / 4;
    assert_near(seen[i] / N, share, 4 * sqrt(share / N));
  }
  process_destroy(&p);
}

// The weighted mean is that of uniform times, and varies less.
static void test_unbiased(void **state) {
  (void)state;
  static const char *const texts[2] = {"{type: cosine}", "{steps: 50}"};
  for (int kind = 0; kind < 2; kind++) {
    process *p = make(texts[kind]);
    float *values = calloc((size_t)time_history_size(p), sizeof *values);
    assert_non_null(values);
    time_history h = time_history_of(p, values);
    for (int64_t i = 0; i < h.bins; i++)
      for (int k = 0; k < HISTORY_LENGTH; k++)
        time_history_add(&h, ((double)i + 1) / (double)h.bins, loss_of((double)(i + 1) / (double)h.bins));
    double mean[2] = {0}, square[2] = {0};
    for (int way = 0; way < 2; way++) {
      time_config c = {way ? TIME_IMPORTANCE : TIME_UNIFORM, 0, 1, 8};
      for (uint64_t i = 0; i < N; i++) {
        double weight, t = time_draw(&c, p, test_seed() + 5, i, &h, &weight), v = weight * loss_of(t);
        mean[way] += v / N, square[way] += v * v / N;
      }
    }
    double variance[2] = {square[0] - mean[0] * mean[0], square[1] - mean[1] * mean[1]};
    assert_near(mean[1], mean[0], 4 * sqrt((variance[0] + variance[1]) / N));
    assert_true(variance[1] < 0.01 * variance[0]);
    free(values);
    process_destroy(&p);
  }
}

// --- weightings ---

static double snr_weight(const weighting_config *c, const process_point *q) { // of epsilon's error, by the papers
  double snr = q->alpha * q->alpha / (q->sigma * q->sigma), s = q->sigma / q->alpha, d = c->sigma_data;
  switch (c->weighting) {
  case WEIGHTING_BOUND: return -0.5 * q->dlogsnr;
  case WEIGHTING_MIN_SNR: return fmin(snr, c->gamma) / snr;
  case WEIGHTING_P2: return 1 / pow(c->p2_k + snr, c->gamma);
  case WEIGHTING_EDM: return (s * s + d * d) / (s * d * s * d) * s * s; // lambda of x0's error, which is s^2 of epsilon's
  default: return 1 / (1 + exp(q->logsnr - c->bias));
  }
}

// The weighted error of the raw output is the weighting's of epsilon, whatever is predicted.
static void test_weights(void **state) {
  (void)state;
  static const char *const processes[] = {"{type: cosine}", "{type: linear, logsnr_min: -8, logsnr_max: 9}", "{type: edm}", "{type: flow}"};
  enum { SIZE = 5 };
  test_random r = {test_seed(), 0};
  for (size_t k = 0; k < sizeof processes / sizeof *processes; k++) {
    process *p = make(processes[k]);
    for (int prediction = 0; prediction <= PREDICT_EDM; prediction++)
      for (int weighting = 0; weighting <= WEIGHTING_SIGMOID; weighting++)
        for (double t = 0.05; t < 1; t += 0.15) {
          weighting_config c = {weighting, 1.5, 0.7, 1.1, 0.6};
          process_point q = process_at(p, t);
          double x[SIZE], out[SIZE], target[SIZE], x0[SIZE], eps[SIZE], eps_hat[SIZE], raw = 0, of_epsilon = 0;
          for (int i = 0; i < SIZE; i++) {
            x0[i] = test_normal(&r), eps[i] = test_normal(&r), out[i] = test_normal(&r);
            x[i] = q.alpha * x0[i] + q.sigma * eps[i];
          }
          prediction_from_x0_epsilon(prediction, q.alpha, q.sigma, c.sigma_data, SIZE, x0, eps, target);
          prediction_to_x0_epsilon(prediction, q.alpha, q.sigma, c.sigma_data, SIZE, x, out, NULL, eps_hat);
          for (int i = 0; i < SIZE; i++) {
            raw += (out[i] - target[i]) * (out[i] - target[i]) / SIZE;
            of_epsilon += (eps_hat[i] - eps[i]) * (eps_hat[i] - eps[i]) / SIZE;
          }
          double got = raw * loss_weight_at(&c, p, prediction, t), want = snr_weight(&c, &q) * of_epsilon;
          if (weighting == WEIGHTING_SIMPLE) want = prediction == PREDICT_SCORE ? of_epsilon : raw;
          if (!(fabs(got - want) <= 1e-8 * (1 + fabs(want))))
            fail_msg("%s, prediction %d, weighting %d, t %g: %.12g, of epsilon's error %.12g", processes[k], prediction, weighting, t, got,
                     want);
        }
    process_destroy(&p);
  }
}

// Constant error of x0: the sum over a discrete bound's terms telescopes to SNR(0) / 2; the continuous one's integral of 1/2 dlogsnr.
static void test_bound_sums(void **state) {
  (void)state;
  weighting_config c = {.weighting = WEIGHTING_BOUND, .sigma_data = 1};
  process *p = make("{steps: 200, betas: cosine}");
  double sum = 0, last = process_at(p, 1).logsnr;
  for (int i = 1; i <= 200; i++) {
    process_point q = process_at(p, i / 200.0);
    sum += loss_weight_at(&c, p, PREDICT_X0, i / 200.0) / 200;
    assert_near(loss_weight_at(&c, p, PREDICT_EPSILON, i / 200.0) * exp(q.logsnr), loss_weight_at(&c, p, PREDICT_X0, i / 200.0),
                1e-9 * exp(q.logsnr));
  }
  // sum_i (SNR(i-1) - SNR(i)) / 2 + SNR(0) / 2
  double first = exp(process_at(p, 1 / 200.0).logsnr);
  assert_near(sum, first - 0.5 * exp(last), 1e-9 * first);
  process_destroy(&p);
  p = make("{type: cosine, logsnr_min: -9, logsnr_max: 8}");
  enum { STEPS = 20000 };
  double integral = 0;
  for (int i = 0; i < STEPS; i++) integral += loss_weight_at(&c, p, PREDICT_EPSILON, (i + 0.5) / STEPS) / STEPS;
  assert_near(integral, 0.5 * 17, 1e-3);
  process_destroy(&p);
}

static int open(void **state) {
  (void)state;
  ctx = test_ctx(1);
  memory = arena_create(1 << 14);
  return 0;
}
static int close_all(void **state) {
  (void)state;
  arena_destroy(&memory);
  elbo_ctx_destroy(&ctx);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_quantile),        cmocka_unit_test(test_marginals),  cmocka_unit_test(test_discrete),
      cmocka_unit_test(test_low_discrepancy), cmocka_unit_test(test_history),    cmocka_unit_test(test_unbiased),
      cmocka_unit_test(test_weights),         cmocka_unit_test(test_bound_sums),
  };
  return cmocka_run_group_tests(tests, open, close_all);
}
