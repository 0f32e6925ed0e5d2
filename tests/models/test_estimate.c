// The estimators against a model whose likelihood is known: with linear networks and a Gaussian of fixed width a VAE is probabilistic PCA,
// x = W z + c + noise, log p(x) = log N(x; c, W W' + s^2 I) [Tipping & Bishop 1999].
#include "models/vae_cases.h"

#include "eval/statistics.h"
#include "models/estimate.h"

enum { D = 6, L = 2 }; // numbers of x and of z
#define SIGMA 0.5

typedef struct linear_model {
  elbo_ctx *ctx;
  arena *arena;
  vae_spec spec;
  elbo_store *store;
  double w[D][L], c[D]; // c: with the half that locations start from
  double gain[L][D];    // posterior mean = gain (x - c)
  double cov[L][L];     // posterior covariance
} linear_model;

static linear_model make(double off) {
  linear_model m = {.ctx = test_ctx(1), .arena = arena_create(1 << 14)};
  m.spec = spec_of(
      m.ctx, m.arena,
      "{latent: {dim: 2}, encoder: {type: mlp, hidden: []}, decoder: {type: mlp, hidden: [], likelihood: gaussian, variance: fixed, "
      "sigma: 0.5}}",
      1, 1, D, 0);
  assert_ok(m.ctx, model_store_create(m.ctx, &m.spec, test_seed(), &m.store));
  float *w = weights_of(m.ctx, m.store, "decoder.fc_out.weight", NULL), *c = weights_of(m.ctx, m.store, "decoder.fc_out.bias", NULL);
  // orthogonal columns: then the posterior's covariance is diagonal, and q can be the posterior itself
  static const double column[L][D] = {{0.5, -0.3, 0.8, 0.1, 0, 0.2}, {0.3, 0.5, 0, 0, 0.7, 0}};
  for (int i = 0; i < D; i++) {
    c[i] = (float)(0.1 * i);
    m.c[i] = (double)c[i] + 0.5;
    for (int k = 0; k < L; k++) w[i * L + k] = (float)column[k][i], m.w[i][k] = (double)w[i * L + k];
  }
  double inner[L] = {0};
  for (int k = 0; k < L; k++)
    for (int i = 0; i < D; i++) inner[k] += m.w[i][k] * m.w[i][k];
  float *e = weights_of(m.ctx, m.store, "encoder.head.weight", NULL), *eb = weights_of(m.ctx, m.store, "encoder.head.bias", NULL);
  memset(e, 0, 2 * L * D * sizeof *e);
  for (int k = 0; k < L; k++) {
    m.cov[k][k] = 1 / (1 + inner[k] / (SIGMA * SIGMA));
    double bias = off;
    for (int i = 0; i < D; i++) {
      m.gain[k][i] = m.cov[k][k] * m.w[i][k] / (SIGMA * SIGMA);
      e[k * D + i] = (float)m.gain[k][i];
      bias -= m.gain[k][i] * m.c[i];
    }
    eb[k] = (float)bias;
    eb[L + k] = (float)(log(m.cov[k][k]) + off); // log variance
  }
  elbo_store_touch(m.store);
  return m;
}

static void destroy(linear_model *m) {
  elbo_store_destroy(&m->store);
  arena_destroy(&m->arena);
  elbo_ctx_destroy(&m->ctx);
}

// log N(x; c, W W' + s^2 I) for orthogonal columns: eigenvectors are the columns and whatever is orthogonal to them
static double log_likelihood(const linear_model *m, const float *x) {
  double d[D], rest = 0, total = -0.5 * D * log(2 * 3.14159265358979323846);
  for (int i = 0; i < D; i++) d[i] = x[i] - m->c[i], rest += d[i] * d[i];
  for (int k = 0; k < L; k++) {
    double inner = 0, along = 0;
    for (int i = 0; i < D; i++) inner += m->w[i][k] * m->w[i][k], along += m->w[i][k] * d[i];
    double part = along * along / inner, variance = inner + SIGMA * SIGMA;
    rest -= part;
    total -= 0.5 * (part / variance + log(variance));
  }
  return total - 0.5 * (rest / (SIGMA * SIGMA) + (D - L) * log(SIGMA * SIGMA));
}

// Where q is the posterior, every importance weight is p(x) itself.
static void test_exact_posterior(void **state) {
  (void)state;
  enum { N = 40 };
  linear_model m = make(0);
  elbo_model model = model_of_weights(m.ctx, &m.spec, m.store);
  elbo_array *x = pictures(m.ctx, N, &m.spec.shape, 3, false);
  double log_p[N], effective[N], variance[N];
  assert_ok(m.ctx, estimate_importance(&model, x, NULL, NULL, 7, test_seed(), NULL, NULL, log_p, effective, variance));
  for (int i = 0; i < N; i++) {
    assert_near(log_p[i], log_likelihood(&m, (float *)x->data + i * D), 1e-4);
    assert_near(effective[i], 7, 1e-3);
  }
  bound_estimate b;
  assert_ok(m.ctx, estimate_bound(&model, x, NULL, NULL, 400, test_seed(), NULL, NULL, &b));
  for (int i = 0; i < N; i++) {
    double error = sqrt(b.draw_variance[i]);
    assert_near(b.elbo[i], log_likelihood(&m, (float *)x->data + i * D), 5 * error + 1e-4);
  }
  bound_estimate_free(&b);
  elbo_array_destroy(&x);
  destroy(&m);
}

// Elsewhere the bound is log p(x) - KL(q || posterior), and the importance bound climbs from it to log p(x) as k grows.
static void test_bounds_close(void **state) {
  (void)state;
  enum { N = 200, STEPS = 4 };
  static const int64_t k[STEPS] = {1, 5, 50, 1000};
  linear_model m = make(0.3);
  elbo_model model = model_of_weights(m.ctx, &m.spec, m.store);
  elbo_array *x = pictures(m.ctx, N, &m.spec.shape, 4, false);
  double truth = 0, gap = 0, mean[STEPS], last = -INFINITY;
  for (int i = 0; i < N; i++) truth += log_likelihood(&m, (float *)x->data + i * D) / N;
  // KL between q and the posterior: both off by 0.3 in the mean and in the log variance
  for (int j = 0; j < L; j++) gap += 0.5 * (exp(0.3) + 0.3 * 0.3 / m.cov[j][j] - 1 - 0.3);
  bound_estimate b;
  double bound, error, *log_p = calloc(N, sizeof *log_p), *variance = calloc(N, sizeof *variance);
  assert_ok(m.ctx, estimate_bound(&model, x, NULL, NULL, 100, test_seed(), NULL, NULL, &b));
  double mc = 0;
  for (int i = 0; i < N; i++) mc += b.draw_variance[i];
  mean_and_error(b.elbo, N, &bound, &error);
  assert_near(bound, truth - gap, 5 * sqrt(mc) / N + 1e-4);
  for (int s = 0; s < STEPS; s++) {
    assert_ok(m.ctx, estimate_importance(&model, x, NULL, NULL, k[s], test_seed(), NULL, NULL, log_p, NULL, variance));
    mean_and_error(log_p, N, &mean[s], &error);
    if (!(mean[s] > last)) fail_msg("k = %lld: %g is not above %g", (long long)k[s], mean[s], last);
    last = mean[s];
  }
  assert_near(mean[0], bound, 0.2);
  double spread = 0;
  for (int i = 0; i < N; i++) spread += variance[i];
  assert_near(mean[STEPS - 1], truth, 5 * sqrt(spread) / N + 1e-3);
  bound_estimate_free(&b);
  free(log_p), free(variance);
  elbo_array_destroy(&x);
  destroy(&m);
}

// What an example gets does not depend on those it is scored with.
static void test_batches(void **state) {
  (void)state;
  enum { N = 23 };
  linear_model m = make(0.3);
  elbo_array *x = pictures(m.ctx, N, &m.spec.shape, 5, false);
  bound_estimate b[2];
  static const int size[2] = {23, 4};
  for (int i = 0; i < 2; i++) {
    elbo_model model = model_of_weights(m.ctx, &m.spec, m.store);
    model.batch_size = size[i];
    assert_ok(m.ctx, estimate_bound(&model, x, NULL, NULL, 2, test_seed(), NULL, NULL, &b[i]));
  }
  for (int i = 0; i < N; i++) assert_near(b[0].elbo[i], b[1].elbo[i], 1e-4);
  // nor does the importance bound: 60 draws of one example alone and of all
  elbo_model model = model_of_weights(m.ctx, &m.spec, m.store);
  double all[N], one[1];
  int64_t index = 17;
  assert_ok(m.ctx, estimate_importance(&model, x, NULL, NULL, 60, test_seed(), NULL, NULL, all, NULL, NULL));
  elbo_array alone = *x;
  alone.dim[0] = 1, alone.data = (float *)x->data + index * D;
  assert_ok(m.ctx, estimate_importance(&model, &alone, NULL, &index, 60, test_seed(), NULL, NULL, one, NULL, NULL));
  assert_near(one[0], all[index], 1e-4);
  for (int i = 0; i < 2; i++) bound_estimate_free(&b[i]);
  elbo_array_destroy(&x);
  destroy(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_exact_posterior),
      cmocka_unit_test(test_bounds_close),
      cmocka_unit_test(test_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
