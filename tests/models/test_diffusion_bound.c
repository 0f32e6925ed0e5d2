// Likelihoods of models whose answers are known. A network that says 0 is, as an EDM prediction, the exact denoiser of N(0, sigma_data^2)
// data, and as a prediction of x0 one that never knows anything: bound and flow then have closed forms.
#include "models/diffusion_bound.h"

#include "eval/statistics.h"
#include "models/diffusion_cases.h"
#include "models/diffusion_density.h"

static elbo_ctx *ctx;
static arena *memory;

enum { C = 3, N = 12 };

typedef struct fixture {
  diffusion_spec s;
  elbo_store *store;
  elbo_model m;
  elbo_array *x;
  scored_examples e;
} fixture;

static fixture make(const char *model, int channels, int bits, double noise) {
  fixture f;
  char text[600];
  const elbo_dataset_info info = {.height = 1, .width = 1, .channels = channels, .bits = bits};
  snprintf(text, sizeof text, "{model: {" TINY_MLP ", %s}}", model);
  diffusion_recipe recipe = recipe_of(ctx, memory, text);
  assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &f.s));
  assert_ok(ctx, diffusion_store_create(ctx, &f.s, test_seed(), &f.store));
  if (noise > 0) shake(ctx, f.store, noise);
  assert_ok(ctx, diffusion_view(ctx, &f.s, f.store, &f.m));
  f.x = bits ? levels_of(ctx, N, &f.s, 5) : array_of(ctx, 4, (int64_t[]){N, 1, 1, channels});
  test_random r = {test_seed(), 21};
  if (!bits) test_fill_normal(&r, f.x->data, N * channels, 0.7);
  f.e = (scored_examples){.x = f.x, .n = N, .seed = 4};
  return f;
}

static void finish(fixture *f) {
  diffusion_view_close(&f->m);
  elbo_store_destroy(&f->store);
  elbo_array_destroy(&f->x);
}

static double centred(const fixture *f, int64_t i) { return 2 * (double)((const float *)f->x->data)[i] - 1; }

// -log p(x|z_0) over all levels, with the decoder's own noise
static double decoder_by_hand(const fixture *f, int64_t k) {
  process_point q = process_at(f->m.diffusion->process, 0);
  double z[C], total = 0, width = q.sigma / q.alpha;
  noise_of(seed_of_part(f->e.seed, 999), "eval.decoder", k, C, z);
  for (int c = 0; c < C; c++) {
    double x = centred(f, k * C + c), at = x + width * z[c], sum = 0;
    for (int v = 0; v < 256; v++) {
      double level = 2.0 * v / 255 - 1;
      sum += exp(-0.5 * ((at - level) * (at - level) - (at - x) * (at - x)) / (width * width));
    }
    total += log(sum);
  }
  return total;
}

// The integral of E[error of epsilon] ds / s of the exact denoiser of N(0, a): 1/2 [(a - x^2)/(u + a) + log u/(u + a)], u = s^2
static double antiderivative(double x, double a, double logsnr) {
  double u = exp(-logsnr);
  return 0.5 * ((a - x * x) / (u + a) + log(u / (u + a)));
}

static void test_continuous(void **state) {
  (void)state;
  static const char *const schedules[] = {"linear", "cosine", "sigmoid", "cosine, shift: 0.5"};
  for (size_t k = 0; k < sizeof schedules / sizeof *schedules; k++) {
    char text[300];
    snprintf(text, sizeof text, "process: {type: %s, logsnr_min: -6, logsnr_max: 7}, prediction: edm, sigma_data: 0.6", schedules[k]);
    fixture f = make(text, C, 8, 0);
    diffusion_bound b;
    enum { DRAWS = 300 };
    assert_ok(ctx, diffusion_bound_estimate(&f.m, &f.e, k == 1, DRAWS, &b));
    process_point start = process_at(f.m.diffusion->process, 0), end = process_at(f.m.diffusion->process, 1);
    double want = 0, got = 0, variance = 0;
    assert_near(start.logsnr, 7, 1e-9), assert_near(end.logsnr, -6, 1e-9);
    for (int64_t i = 0; i < N; i++) {
      double middle = 0, prior = 0;
      for (int c = 0; c < C; c++) {
        double x = centred(&f, i * C + c), s2 = end.sigma * end.sigma;
        middle += antiderivative(x, 0.36, -6) - antiderivative(x, 0.36, 7);
        prior += 0.5 * (end.alpha * end.alpha * x * x + s2 - log(s2) - 1);
      }
      assert_near(b.prior[i], prior, 1e-9 * (1 + prior));
      assert_near(b.decoder[i], decoder_by_hand(&f, i), 1e-6 * (1 + b.decoder[i]));
      assert_near(b.middle[i], middle, 5 * sqrt(b.draw_variance[i]));
      assert_near(b.total[i], b.prior[i] + b.middle[i] + b.decoder[i], 1e-12 * b.total[i]);
      want += middle, got += b.middle[i], variance += b.draw_variance[i];
    }
    if (!(fabs(got - want) <= 3 * sqrt(variance))) fail_msg("%s: %g nats, known %g +- %g", schedules[k], got, want, sqrt(variance));
    if (!(sqrt(variance) < 0.1 * want)) fail_msg("%s: %g +- %g tells nothing", schedules[k], want, sqrt(variance));
    assert_null(b.each_step);
    diffusion_bound_free(&b);
    finish(&f);
  }
}

// Every term of the discrete bound where x0_hat = 0 whatever the noise: (factor x)^2 / 2 variance.
static void test_discrete(void **state) {
  (void)state;
  enum { T = 12 };
  fixture f = make("process: {steps: 12, beta_start: 0.02, beta_end: 0.4}, prediction: x0", C, 8, 0);
  diffusion_bound all, drawn;
  assert_ok(ctx, diffusion_bound_estimate(&f.m, &f.e, true, 1, &all));
  assert_ok(ctx, diffusion_bound_estimate(&f.m, &f.e, false, T - 1, &drawn)); // strata of one index each
  const double *bar = process_alpha_bar(f.m.diffusion->process);
  double step[T] = {0};
  for (int64_t k = 0; k < N; k++) {
    double square = 0, middle = 0;
    for (int c = 0; c < C; c++) square += centred(&f, k * C + c) * centred(&f, k * C + c);
    for (int i = 1; i < T; i++) {
      double beta = 1 - bar[i] / bar[i - 1], factor = sqrt(bar[i - 1]) * beta / (1 - bar[i]), v = beta * (1 - bar[i - 1]) / (1 - bar[i]);
      middle += 0.5 * factor * factor * square / v, step[i] += 0.5 * factor * factor * square / v / N;
    }
    assert_near(all.middle[k], middle, 1e-4 * middle);
    assert_near(drawn.middle[k], middle, 1e-4 * middle);
    assert_near(all.decoder[k], drawn.decoder[k], 1e-5 * (1 + all.decoder[k]));
    assert_near(all.total[k], all.prior[k] + all.middle[k] + all.decoder[k], 1e-12 * all.total[k]);
    step[0] += all.decoder[k] / N;
  }
  assert_int_equal(all.steps, T);
  for (int i = 0; i < T; i++) assert_near(all.each_step[i], step[i], 1e-4 * (1 + step[i]));
  assert_null(all.draw_variance);
  assert_non_null(drawn.draw_variance);
  diffusion_bound_free(&all);
  diffusion_bound_free(&drawn);
  finish(&f);
}

// What evaluation estimates of a learned process is what training descends.
static void test_learned(void **state) {
  (void)state;
  enum { ROUNDS = 300 };
  fixture f = make("preset: vdm, process: {type: learned, logsnr_min: -4, logsnr_max: 6}, time_input: logsnr, prediction: v", C, 8, 0.2);
  const diffusion_objective o = {.weighting = WEIGHTING_BOUND};
  diffusion_training_graph g;
  session s;
  diffusion_bound b;
  double mean = 0, square = 0, want = 0, variance = 0;
  assert_ok(ctx, diffusion_training_build(ctx, &f.s, &o, NULL, N, false, &g));
  assert_ok(ctx, session_create(ctx, g.graph, f.store, N, 1, &g.each, &s));
  test_random r = {test_seed(), 31};
  for (int k = 0; k < ROUNDS; k++) {
    double t[N], sum = 0;
    for (int i = 0; i < N; i++) t[i] = test_uniform(&r);
    session_rows rows = {.x = f.x->data, .seed = (uint64_t)k};
    session_fill_times(&s, &f.s, &o, NULL, t);
    assert_ok(ctx, session_run(&s, &rows, 0, N));
    for (int i = 0; i < N; i++) sum += C * (double)session_output(&s, 0)[i];
    mean += sum / ROUNDS, square += sum * sum / ROUNDS;
  }
  variance = (square - mean * mean) / ROUNDS;
  assert_ok(ctx, diffusion_bound_estimate(&f.m, &f.e, false, ROUNDS, &b));
  double decoder = 0, noise = 0;
  for (int i = 0; i < N; i++) want += b.total[i], variance += b.draw_variance[i], decoder += b.decoder[i];
  noise = 0.05 * decoder; // the decoder's term is one draw in the one, many in the other
  assert_near(mean, want, 4 * sqrt(variance) + noise);
  assert_true(4 * sqrt(variance) + noise < 0.1 * want);
  diffusion_bound_free(&b);
  session_destroy(&s);
  finish(&f);
}

// --- the flow ---

static double normal_nll(double x, double variance) { return 0.5 * (x * x / variance + log(6.283185307179586 * variance)); }

// The exact denoiser's flow stretches N(0, a + s_min^2) into N(0, a + s_max^2), where it is scored as N(0, s_max^2).
static void test_flow_exploding(void **state) {
  (void)state;
  static const char *const types[] = {"edm", "ve"};
  for (int k = 0; k < 2; k++)
    for (int exact = 0; exact < 2; exact++) {
      char text[300];
      snprintf(text, sizeof text, "process: {type: %s, sigma_min: 0.01, sigma_max: 20}, prediction: edm, sigma_data: 0.7", types[k]);
      fixture f = make(text, C, 0, 0);
      double nll[N], a = 0.49, stretch = (a + 400) / (a + 1e-4);
      int64_t calls;
      ode_options o = {.draws = 1, .exact = exact, .rtol = 1e-6, .atol = 1e-6};
      assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, nll, NULL, &calls));
      for (int i = 0; i < N; i++) {
        double want = 0;
        for (int c = 0; c < C; c++)
          want += normal_nll((double)((const float *)f.x->data)[i * C + c] * sqrt(stretch), 400) - 0.5 * log(stretch);
        assert_near(nll[i], want, 1e-3);
      }
      assert_true(calls > 10 && calls < 2000);
      finish(&f);
    }
}

// Variance preserving, on dequantised pixels: N(0, a) data, so that x_t is N(0, alpha^2 a + sigma^2).
static void test_flow_levels(void **state) {
  (void)state;
  fixture f = make("process: {type: cosine, logsnr_min: -10, logsnr_max: 10}, prediction: edm, sigma_data: 0.5", C, 8, 0);
  process_point q = process_at(f.m.diffusion->process, 0), end = process_at(f.m.diffusion->process, 1);
  double nll[N], variance[N], v0 = 0.25 * q.alpha * q.alpha + q.sigma * q.sigma, v1 = 0.25 * end.alpha * end.alpha + end.sigma * end.sigma;
  int64_t calls;
  ode_options o = {.draws = 2, .exact = true, .rtol = 1e-6, .atol = 1e-6};
  assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, nll, variance, &calls));
  for (int i = 0; i < N; i++) {
    double want[2] = {0};
    for (int d = 0; d < 2; d++)
      for (int c = 0; c < C; c++) {
        uint32_t bits[4];
        philox_draw(seed_of_part(f.e.seed, (uint64_t)(2000 + d)), philox_stream("eval.dequantize"), (uint64_t)i, (uint32_t)c, bits);
        double level = round((double)((const float *)f.x->data)[i * C + c] * 255), y = 2 * (level + philox_uniform(bits[0])) / 256 - 1;
        want[d] += normal_nll(y * sqrt(v1 / v0), 1) - 0.5 * log(v1 / v0) + log(128);
      }
    assert_near(nll[i], 0.5 * (want[0] + want[1]), 1e-3);
    assert_near(variance[i], 0.25 * (want[0] - want[1]) * (want[0] - want[1]), 1e-3);
  }
  finish(&f);
}

static void test_traces(void **state) {
  (void)state;
  fixture f = make("process: {type: edm, sigma_min: 0.1, sigma_max: 10}, prediction: edm, sigma_data: 0.7", C, 0, 0.3);
  double exact[N], drawn[N], variance[N], sum = 0, error = 0, apart = 0;
  int64_t calls;
  ode_options o = {.draws = 1, .exact = true, .rtol = 1e-5, .atol = 1e-5};
  assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, exact, NULL, &calls));
  o.exact = false, o.draws = 60;
  assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, drawn, variance, &calls));
  for (int i = 0; i < N; i++) {
    assert_near(drawn[i], exact[i], 5 * sqrt(variance[i]) + 1e-3);
    sum += drawn[i] - exact[i], error += variance[i], apart += fabs(drawn[i] - exact[i]);
  }
  assert_near(sum, 0, 3.5 * sqrt(error));
  assert_true(apart > 1e-4); // the network does bend it
  finish(&f);
}

// -log p(x | c(x)): each example is scored under its own condition, whatever batch it is in.
static void test_flow_conditions(void **state) {
  (void)state;
  static const char *const models[] = {TINY_MLP ", condition: {type: vector, dim: 2}", TINY_UNET ", condition: {type: lowres, factor: 2}",
                                       TINY_UNET ", condition: {type: masked}"};
  enum { ROWS = 3 };
  for (int k = 0; k < 3; k++) {
    fixture f;
    char text[700];
    const int side = k ? 4 : 1, size = side * side * (k ? 1 : 2);
    const elbo_dataset_info info = {.height = side, .width = side, .channels = k ? 1 : 2, .condition_dim = k ? 0 : 2};
    snprintf(text, sizeof text, "{model: {%s, process: {type: edm, sigma_min: 0.1, sigma_max: 10}, prediction: edm, sigma_data: 0.7}}",
             models[k]);
    diffusion_recipe recipe = recipe_of(ctx, memory, text);
    assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &f.s));
    assert_ok(ctx, diffusion_store_create(ctx, &f.s, test_seed(), &f.store));
    shake(ctx, f.store, 0.2);
    assert_ok(ctx, diffusion_view(ctx, &f.s, f.store, &f.m));
    f.m.batch_size = 2; // the last batch is half full
    f.x = array_of(ctx, 4, (int64_t[]){ROWS, side, side, info.channels});
    elbo_array *told = array_of(ctx, 2, (int64_t[]){ROWS, 2});
    test_random r = {test_seed(), 31};
    test_fill_normal(&r, f.x->data, ROWS * size, 0.7);
    test_fill_normal(&r, told->data, ROWS * 2, 1);
    f.e = (scored_examples){.x = f.x, .label = k ? NULL : told, .n = ROWS, .seed = 4};
    ode_options o = {.draws = 1, .exact = true, .rtol = k ? 1e-4 : 1e-6, .atol = k ? 1e-4 : 1e-6};
    double all[ROWS], one[1], other[ROWS];
    int64_t calls;
    assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, all, NULL, &calls));
    for (int i = 0; i < ROWS; i++) {
      elbo_array x = *f.x, label = *told;
      x.data = (float *)f.x->data + i * size, x.dim[0] = 1;
      label.data = (float *)told->data + i * 2, label.dim[0] = 1;
      scored_examples alone = {.x = &x, .label = k ? NULL : &label, .n = 1, .seed = 4};
      if (k == 2 && i > 0) break; // the box is a function of seed and place
      assert_ok(ctx, diffusion_ode_nll(&f.m, &alone, &o, one, NULL, &calls));
      assert_near(all[i], one[0], (k ? 2e-3 : 1e-4) * (1 + fabs(one[0])));
    }
    // under another condition it is another density
    if (k == 0) ((float *)told->data)[3] += 1;
    if (k == 2) f.e.seed = 5;
    assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, other, NULL, &calls));
    if (k == 0) assert_true(fabs(other[0] - all[0]) < 1e-4 && fabs(other[1] - all[1]) > 1e-3 && other[2] == all[2]);
    if (k == 2) assert_true(fabs(other[0] - all[0]) > 0.02);
    elbo_array_destroy(&told);
    finish(&f);
  }
}

// The pictures that are told: each 2 x 2 mean over the whole of a constant picture is that picture; a box is cut out of the others.
static void test_told_pictures(void **state) {
  (void)state;
  static const char *const models[] = {TINY_UNET ", condition: {type: lowres, factor: 2}", TINY_UNET ", condition: {type: masked}"};
  for (int k = 0; k < 2; k++) {
    fixture f;
    char text[600];
    const elbo_dataset_info info = {.height = 8, .width = 8, .channels = 1, .bits = 8};
    snprintf(text, sizeof text, "{model: {%s}}", models[k]);
    diffusion_recipe recipe = recipe_of(ctx, memory, text);
    assert_ok(ctx, diffusion_spec_make(ctx, memory, &recipe, &info, "test", &f.s));
    assert_ok(ctx, diffusion_store_create(ctx, &f.s, test_seed(), &f.store));
    assert_ok(ctx, diffusion_view(ctx, &f.s, f.store, &f.m));
    session told;
    float x[128];
    for (int i = 0; i < 128; i++) x[i] = i < 64 ? 0.25f : 0.75f;
    assert_ok(ctx, condition_session_open(&f.m, 2, &told));
    assert_ok(ctx, session_run(&told, &(session_rows){.x = x, .seed = 4}, 0, 2));
    const float *y = session_output(&told, 0);
    int inside = 0;
    for (int i = 0; i < 128; i++) {
      double want = i < 64 ? -0.5 : 0.5; // 0..1 is -1..1 inside
      if (k == 1 && y[2 * i + 1] == 1) inside++, want = 0;
      assert_near((double)y[(k + 1) * i], want, 1e-6);
    }
    assert_true(k == 0 || (inside > 2 && inside < 120));
    session_destroy(&told);
    f.x = NULL;
    finish(&f);
  }
}

// A tenth of the tolerance moves nothing by 0.01; the density of any network sums to one.
static void test_density(void **state) {
  (void)state;
  enum { SIDE = 60 };
  fixture f = make("process: {type: edm, sigma_min: 0.15, sigma_max: 20}, prediction: edm, sigma_data: 0.7", 2, 0, 0.3);
  double nll[2][N], density[SIDE * SIDE], mass = 0, reach = 5;
  int64_t calls;
  for (int k = 0; k < 2; k++) {
    ode_options o = {.draws = 1, .exact = true, .rtol = k ? 1e-6 : 1e-5, .atol = k ? 1e-6 : 1e-5};
    assert_ok(ctx, diffusion_ode_nll(&f.m, &f.e, &o, nll[k], NULL, &calls));
  }
  for (int i = 0; i < N; i++) assert_near(nll[0][i], nll[1][i], 2e-3);
  assert_ok(ctx, density_grid(&f.m, reach, SIDE, NULL, NULL, density));
  for (int i = 0; i < SIDE * SIDE; i++) mass += density[i] * (2 * reach / SIDE) * (2 * reach / SIDE);
  assert_near(mass, 1, 0.01);
  assert_near(density_reach((const float[]){1, -3, 0.5f, 2}, 2), 3.3, 1e-6);
  finish(&f);
  f = make("process: {steps: 10}", C, 0, 0);
  assert_status(ctx, density_grid(&f.m, reach, SIDE, NULL, NULL, density), ELBO_ERROR_ARGUMENT, "two-dimensional");
  finish(&f);
}

static int open(void **state) {
  (void)state;
  ctx = test_ctx(1);
  memory = arena_create(1 << 16);
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
      cmocka_unit_test(test_continuous),     cmocka_unit_test(test_discrete),        cmocka_unit_test(test_learned),
      cmocka_unit_test(test_flow_exploding), cmocka_unit_test(test_flow_levels),     cmocka_unit_test(test_traces),
      cmocka_unit_test(test_density),        cmocka_unit_test(test_flow_conditions), cmocka_unit_test(test_told_pictures)};
  return cmocka_run_group_tests(tests, open, close_all);
}
