// The bound of an LSGM: a prior whose network is mixed away is N(0, I), in closed form and by chance; the estimate agrees with the plain
// one.
#include "models/lsgm_cases.h"

#include "eval/statistics.h"

enum { N = 24 };

// A model on random pictures whose network says something at every number.
typedef struct fixture {
  elbo_ctx *ctx;
  arena *arena;
  lsgm_spec spec;
  elbo_store *store;
  elbo_array *x;
  elbo_model model;
} fixture;

static void set_mixing(elbo_ctx *ctx, elbo_store *store, float logit) {
  int64_t n;
  float *v = weights_of(ctx, store, "denoiser.mixing_logit", &n);
  for (int64_t i = 0; i < n; i++) v[i] = logit;
  elbo_store_touch(store);
}

static fixture open_fixture(const char *model, double scale, float logit) {
  fixture f = {.ctx = test_ctx(1), .arena = arena_create(1 << 14)};
  f.spec = lsgm_spec_of(f.ctx, f.arena, model);
  assert_ok(f.ctx, lsgm_store_create(f.ctx, &f.spec, test_seed(), &f.store));
  lsgm_shake(f.ctx, f.store, scale);
  set_mixing(f.ctx, f.store, logit);
  f.x = pictures(f.ctx, N, &f.spec.vae.shape, 5, true);
  assert_ok(f.ctx, lsgm_view(f.ctx, &f.spec, f.store, &f.model));
  return f;
}

static void close_fixture(fixture *f) {
  lsgm_view_close(&f->model);
  elbo_array_destroy(&f->x);
  elbo_store_destroy(&f->store);
  arena_destroy(&f->arena);
  elbo_ctx_destroy(&f->ctx);
}

static elbo_status estimate(fixture *f, int draws, int times, uint64_t seed, bound_estimate *out) {
  return lsgm_bound(&f->model, f->x, NULL, draws, times, seed, NULL, NULL, out);
}

// The integral over log-SNR, with its ends, of every schedule.
static void test_closed_form(void **state) {
  (void)state;
  static const char *const processes[] = {"{type: linear, logsnr_min: -10, logsnr_max: 2}", "{type: cosine, logsnr_min: -9, logsnr_max: 7}",
                                          "{type: sigmoid, logsnr_min: -6, logsnr_max: 6}", "{type: discrete, steps: 300}"};
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  for (int k = 0; k < 4; k++) {
    process_config config;
    process *p;
    yaml_node *root;
    enum { CUTS = 400000 };
    assert_ok(ctx, yaml_parse(ctx, a, "test", processes[k], strlen(processes[k]), &root));
    assert_ok(ctx, config_load(ctx, a, &process_table, root, "process", &config));
    assert_ok(ctx, process_create(ctx, &config, "process", &p));
    normal_prior normal = lsgm_normal_prior(p);
    process_point start = process_at(p, 0), end = process_at(p, 1);
    for (double z2 = 0; z2 < 5; z2 += 1.9) {
      double middle = 0, log_2_pi = log(6.283185307179586);
      for (int i = 0; i < CUTS; i++) {
        process_point q = process_at(p, (i + 0.5) / CUTS);
        double a2 = q.alpha * q.alpha, s2 = q.sigma * q.sigma;
        middle += -0.5 * q.dlogsnr * (a2 * a2 + a2 * s2 * z2) / CUTS; // |epsilon - sigma z_t|^2 over epsilon
      }
      double a2 = end.alpha * end.alpha, s2 = end.sigma * end.sigma;
      double first = 0.5 * (a2 * z2 + s2 - 1 - log(s2)), last = 0.5 * (log_2_pi + 1 - start.logsnr);
      assert_near(normal.square * z2 + normal.constant, first + middle + last, 3e-3);
      // and that is -log N(z; 0, 1) but for what a little noise at the start takes
      assert_near(normal.square * z2 + normal.constant, 0.5 * (log_2_pi + z2), start.sigma * start.sigma * (1.1 + z2));
    }
    process_destroy(&p);
  }
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// With the network mixed away the bound is the VAE's with N(0, I): its KL comes out in closed form, image by image, whatever the codes are.
static void check_normal(const char *model, double scale) {
  fixture f = open_fixture(model, scale, -60);
  bound_estimate with = {0}, plain = {0};
  vae_spec vae = f.spec.vae;
  vae.model.preset = MODEL_VAE;
  elbo_model m = model_of_weights(f.ctx, &vae, f.store);
  const bool groups = vae.model.latent.groups.count > 1;
  assert_ok(f.ctx, estimate(&f, 2, 4000, 3, &with));
  assert_ok(f.ctx, estimate_bound(&m, f.x, NULL, NULL, 200, 3, NULL, NULL, &plain));
  double kl = 0, want = 0, error = 0, sigma2 = 1 / (1 + exp(8.0));
  for (int i = 0; i < N; i++) {
    kl += with.kl[i] / N, want += plain.kl[i] / N, error += with.cross_variance[i] + plain.draw_variance[i];
    assert_near(with.kl[i], with.cross_entropy[i] - with.entropy[i], 1e-9);
    assert_near(with.elbo[i], with.recon[i] - with.kl[i], 1e-9);
    if (!(fabs(with.kl[i] - plain.kl[i]) <= 0.15 + 0.02 * plain.kl[i])) // 4,000 draws of z
      fail_msg("%s: image %d: KL %.6f, in closed form %.6f", model, i, with.kl[i], plain.kl[i]);
  }
  error = sqrt(error) / N;
  // z^2 is drawn; of a top-down model the KL below the first group is given the draws above
  if (!(fabs(kl - want) <= 5 * error + sigma2 * (double)with.code_size * 4 && want > 0.3))
    fail_msg("%s: KL %.6f, in closed form %.6f, error %.6f%s", model, kl, want, error, groups ? " (groups)" : "");
  bound_estimate_free(&with);
  bound_estimate_free(&plain);
  close_fixture(&f);
}

static void test_mixed_away(void **state) {
  (void)state;
  check_normal(LSGM_FLAT, 0.3);
  check_normal(LSGM_MAP, 0.05);
  check_normal(LSGM_GROUPS, 0.05);
}

// --- against the estimator without anything clever: uniform times, |epsilon - epsilon_theta|^2 itself, the ends by themselves ---

typedef struct plain_sum {
  double sum, square;
  int64_t n;
} plain_sum;

static void plain_cross_entropy(fixture *f, int repeats, plain_sum *out) {
  static const char *const names[] = {"alpha", "sigma", "time", "epsilon_of_state", "epsilon_of_output"};
  const process *p = f->model.prior->diffusion->process;
  process_point start = process_at(p, 0), end = process_at(p, 1);
  elbo_graph *g;
  session s;
  int64_t d = vae_code_size(&f->spec.vae);
  assert_ok(f->ctx, elbo_graph_create(f->ctx, "plain", &g));
  latent_request request = {.spec = &f->spec.vae, .graph = g, .batch = N, .samples = 1, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  lsgm_error e = lsgm_errors(&f->spec, g, N, 1, z.z, z.z, "score", false);
  elbo_tensor *outputs[2] = {elbo_sum_per_example(e.network), elbo_sum_per_example(elbo_square(z.z))};
  assert_ok(f->ctx, session_create(f->ctx, g, f->store, N, 2, outputs, &s));
  test_random r = {test_seed(), 1234};
  double a2 = end.alpha * end.alpha, s2 = end.sigma * end.sigma;
  for (int k = 0; k < repeats; k++) {
    double times[N], mean = 0;
    for (int i = 0; i < N; i++) {
      times[i] = 1 - test_uniform(&r);
      for (int j = 0; j < 5; j++) {
        char name[32];
        snprintf(name, sizeof name, "score.%s", names[j]);
        float *to = elbo_plan_input(s.plan, name);
        assert_true(to && lsgm_fill(&f->spec, p, times[i], names[j], &to[i]));
      }
    }
    session_rows rows = {.x = f->x->data, .seed = 1000 + (uint64_t)k};
    assert_ok(f->ctx, session_run(&s, &rows, 0, N));
    for (int i = 0; i < N; i++) {
      double error = (double)session_output(&s, 0)[i], z2 = (double)session_output(&s, 1)[i];
      double ends = 0.5 * (a2 * z2 + (double)d * (s2 - 1 - log(s2))) + 0.5 * (double)d * (log(6.283185307179586) + 1 - start.logsnr);
      mean += (ends - 0.5 * process_at(p, times[i]).dlogsnr * error) / N;
    }
    out->sum += mean, out->square += mean * mean, out->n++;
  }
  session_destroy(&s);
}

// The same number, and a far smaller error for as many calls. A network that says nothing gives the analytic cross entropy here, too.
static void test_unbiased(void **state) {
  (void)state;
  enum { REPEATS = 3000 };
  static const float logits[] = {4, -1, -60};
  for (int k = 0; k < 3; k++) {
    fixture f = open_fixture(LSGM_FLAT, 0.3, logits[k]);
    plain_sum plain = {0};
    bound_estimate clever = {0};
    plain_cross_entropy(&f, REPEATS, &plain);
    assert_ok(f.ctx, estimate(&f, 1, 400, 9, &clever));
    double mean = 0, error = 0, want = plain.sum / (double)plain.n;
    double spread = sqrt((plain.square / (double)plain.n - want * want) / (double)plain.n);
    for (int i = 0; i < N; i++) mean += clever.cross_entropy[i] / N, error += clever.cross_variance[i];
    error = sqrt(error) / N;
    if (!(fabs(mean - want) <= 4 * sqrt(spread * spread + error * error)))
      fail_msg("mixing %g: cross entropy %.5f +- %.5f, plainly %.5f +- %.5f", (double)logits[k], mean, error, want, spread);
    // as many calls of the network: 400 against 3,000 an image
    if (!(error * sqrt(400.0 / REPEATS) < 0.7 * spread))
      fail_msg("mixing %g: error %.5f of 400 times, plainly %.5f of %d", (double)logits[k], error, spread, REPEATS);
    bound_estimate_free(&clever);
    close_fixture(&f);
  }
}

// The error that is stated is that of estimates with other seeds.
static void test_error(void **state) {
  (void)state;
  enum { SEEDS = 60 };
  fixture f = open_fixture(LSGM_FLAT, 0.3, 4);
  double sum = 0, square = 0, stated = 0;
  for (int k = 0; k < SEEDS; k++) {
    bound_estimate b;
    double mean = 0, variance = 0;
    assert_ok(f.ctx, estimate(&f, 1, 8, 100 + (uint64_t)k, &b));
    for (int i = 0; i < N; i++) mean += b.cross_entropy[i] / N, variance += b.cross_variance[i] / (N * N);
    sum += mean, square += mean * mean, stated += variance / SEEDS;
    bound_estimate_free(&b);
  }
  double seen = (square / SEEDS - sum * sum / SEEDS / SEEDS) * SEEDS / (SEEDS - 1);
  if (!(stated > 0.5 * seen && stated < 2 * seen)) fail_msg("variance over seeds %.6g, stated %.6g", seen, stated);
  close_fixture(&f);
}

// An estimate is a function of the examples' own numbers, not of how many there are.
static void test_parts(void **state) {
  (void)state;
  fixture f = open_fixture(LSGM_GROUPS, 0.1, 1);
  bound_estimate whole, part;
  int64_t index[5] = {7, 8, 9, 10, 11};
  elbo_array few = *f.x;
  few.dim[0] = 5, few.data = (float *)f.x->data + 7 * 64;
  assert_ok(f.ctx, estimate(&f, 1, 6, 2, &whole));
  assert_ok(f.ctx, lsgm_bound(&f.model, &few, index, 1, 6, 2, NULL, NULL, &part));
  for (int i = 0; i < 5; i++) assert_near(part.elbo[i], whole.elbo[7 + i], 1e-4 * (1 + fabs(whole.elbo[7 + i])));
  double kl = 0;
  for (int i = 0; i < N; i++) kl += whole.kl[i] / N;
  assert_int_equal(whole.groups, 3);
  assert_near(whole.kl_group[0] + whole.kl_group[1] + whole.kl_group[2], kl, 1e-6 * (1 + fabs(kl)));
  bound_estimate_free(&whole);
  bound_estimate_free(&part);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_closed_form), cmocka_unit_test(test_mixed_away), cmocka_unit_test(test_unbiased),
                                     cmocka_unit_test(test_error), cmocka_unit_test(test_parts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
