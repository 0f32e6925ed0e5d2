// Haar coefficients of pictures, and the top-down models whose groups code them: splitting is undone by joining and keeps independent noise
// independent; every number of a picture is in exactly one group; a model that has learned nothing yet gives its pictures back.
#include "models/vae_cases.h"

#include "models/picture_pyramid.h"

enum { SIDE = 8, B = 3 };

static const char pyramid_model[] =
    "{latent: {groups: [0, 2, 3, 1], pyramid: true, width: 8}, encoder: {type: resnet, stem: 2, channels: [4, 8, 8]}, "
    "decoder: {type: resnet, stem: 2, channels: [8, 8, 4], likelihood: logistic_mixture, mixtures: 3}}";

// What a graph of one input x (B,SIDE,SIDE,C) makes of it, in double
static double *evaluate(elbo_ctx *ctx, const float *x, int64_t c, elbo_tensor *(*build)(elbo_tensor *x), int64_t *count) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "pyramid", &g));
  elbo_tensor *y = build(elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){B, SIDE, SIDE, c}));
  assert_ok(ctx, elbo_graph_check(g));
  *count = 1;
  for (int i = 0; i < elbo_tensor_rank(y); i++) *count *= elbo_tensor_dim(y, i);
  elbo_store *store;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = ELBO_BACKEND_REFERENCE;
  elbo_plan *plan;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
  assert_ok(ctx, elbo_plan_set(plan, "x", x, B * SIDE * SIDE * c));
  assert_ok(ctx, elbo_plan_run(plan, store));
  double *out = malloc((size_t)*count * sizeof *out);
  memcpy(out, elbo_plan_output(plan, 0), (size_t)*count * sizeof *out);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  return out;
}

static elbo_tensor *there(elbo_tensor *x) { return pyramid_split(pyramid_axes(x)); }
static elbo_tensor *and_back(elbo_tensor *x) { return pyramid_picture(pyramid_join(there(x))); }

static void test_inverse(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  for (int64_t c = 1; c <= 4; c++) {
    picture_shape shape = {SIDE, SIDE, c};
    elbo_array *x = pictures(ctx, B, &shape, (uint64_t)c, false);
    int64_t n, m;
    double *same = evaluate(ctx, x->data, c, and_back, &n), *coefficient = evaluate(ctx, x->data, c, there, &m);
    assert_int_equal(n, B * SIDE * SIDE * c);
    assert_int_equal(m, n);
    double energy = 0, want = 0;
    for (int64_t i = 0; i < n; i++) {
      double v = ((float *)x->data)[i];
      if (!(fabs(same[i] - v) <= 1e-6)) fail_msg("%d channels, number %d: %g came back as %g", (int)c, (int)i, v, same[i]);
      // orthogonal, means of 2x2 and differences half as large as an orthonormal basis has them
      energy += coefficient[i] * coefficient[i], want += pow(PYRAMID_SCALE * (v - 0.5) / 2, 2);
    }
    assert_float_equal(energy / want, 1, 1e-5);
    free(same), free(coefficient);
    elbo_array_destroy(&x);
  }
  elbo_ctx_destroy(&ctx);
}

// The first coefficients are means: of a constant picture nothing else is left.
static void test_order(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  float x[B * SIDE * SIDE * 3];
  for (int i = 0; i < B * SIDE * SIDE * 3; i++) x[i] = i % 3 == 0 ? 0.9f : 0.2f;
  int64_t n;
  double *coefficient = evaluate(ctx, x, 3, there, &n);
  for (int64_t i = 0; i < n; i++) {
    double grey = PYRAMID_SCALE * (0.4 - 0.3 - 0.3) / sqrt(3), red = PYRAMID_SCALE * 0.7 / sqrt(2), green = PYRAMID_SCALE * 0.7 / sqrt(6);
    double want = i % 12 == 0 ? grey : i % 12 == 1 ? red : i % 12 == 2 ? green : 0;
    if (!(fabs(coefficient[i] - want) <= 1e-5)) fail_msg("coefficient %d: %g, expected %g", (int)(i % 12), coefficient[i], want);
  }
  free(coefficient);
  elbo_ctx_destroy(&ctx);
}

static void test_parts(void **state) {
  (void)state;
  for (int64_t channels = 1; channels <= 4; channels++)
    for (int coarsest = 0; coarsest < 2; coarsest++)
      for (int64_t groups = 1; groups <= pyramid_parts(channels, coarsest); groups++) {
        int64_t at = coarsest ? 0 : channels;
        for (int64_t i = 0; i < groups; i++) {
          int64_t from, to;
          pyramid_part(channels, coarsest, groups, i, &from, &to);
          assert_int_equal(from, at);
          assert_true(to > from);
          at = to;
        }
        assert_int_equal(at, 4 * channels);
      }
}

// An untrained model: the code is as large as the picture, KL in closed form is log q - log p on average, the picture comes back within two
// levels, and decoding the code gives the same output.
static void test_untrained(void **state) {
  (void)state;
  enum { K = 300 };
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  vae_spec spec = spec_of(ctx, a, pyramid_model, SIDE, SIDE, 3, 0);
  elbo_store *store;
  assert_ok(ctx, model_store_create(ctx, &spec, test_seed(), &store));
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "untrained", &g));
  latent_request request = {.spec = &spec, .graph = g, .batch = B, .samples = K, .mode = LATENT_POSTERIOR};
  vae_latents z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(&spec, false);
  assert_ok(ctx, elbo_graph_check(g));
  assert_int_equal(vae_code_size(&spec), SIDE * SIDE * 3);
  assert_int_equal(elbo_tensor_dim(z.z, 1), SIDE * SIDE * 3);
  elbo_tensor *outputs[5] = {z.kl, z.log_q, z.log_p, z.z, likelihood_mean(&l, z.output)};
  session s;
  assert_ok(ctx, session_create(ctx, g, store, B, 5, outputs, &s));
  elbo_array *x = pictures(ctx, B, &spec.shape, 1, false);
  session_rows rows = {.x = x->data, .seed = test_seed()};
  assert_ok(ctx, session_run(&s, &rows, 0, B));
  const float *kl = session_output(&s, 0), *log_q = session_output(&s, 1), *log_p = session_output(&s, 2), *mean = session_output(&s, 4);
  int64_t numbers = SIDE * SIDE * 3;
  double squares = 0;
  for (int b = 0; b < B; b++) {
    double sum = 0, square = 0;
    for (int k = 0; k < K; k++) {
      double d = (double)log_q[b * K + k] - log_p[b * K + k];
      sum += d / K, square += d * d / K;
      for (int64_t i = 0; i < numbers; i++)
        squares += pow(mean[(b * K + k) * numbers + i] - ((float *)x->data)[b * numbers + i], 2) / (double)(B * K * numbers);
    }
    double error = sqrt(fmax(square - sum * sum, 0) / K);
    if (!(fabs(kl[b] - sum) <= 5 * error + 1e-3)) fail_msg("row %d: KL %g, mean of log q - log p %g +- %g", b, kl[b], sum, error);
  }
  if (!(sqrt(squares) <= 2.0 / 255)) fail_msg("seed %llu: off by %g levels", (unsigned long long)test_seed(), 255 * sqrt(squares));
  elbo_model m = model_of_weights(ctx, &spec, store);
  elbo_array *codes, *decoded;
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){2, numbers}, &codes));
  memcpy(codes->data, session_output(&s, 3), elbo_array_bytes(codes));
  assert_ok(ctx, elbo_decode(&m, codes, NULL, &decoded));
  for (int64_t i = 0; i < 2 * numbers; i++)
    if (!(fabs(((float *)decoded->data)[i] - mean[i]) <= 1e-5))
      fail_msg("number %d decodes to %g, was %g", (int)i, ((float *)decoded->data)[i], mean[i]);
  elbo_array_destroy(&codes), elbo_array_destroy(&decoded), elbo_array_destroy(&x);
  session_destroy(&s);
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void refused(elbo_ctx *ctx, const char *text, const char *part) {
  arena *a = arena_create(1 << 14);
  yaml_node *root = NULL;
  vae_spec spec = {.shape = {SIDE, SIDE, 3}, .bits = 8};
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &model_table, root, "model", &spec.model));
  assert_status(ctx, vae_spec_check(ctx, &spec, "r.yaml"), ELBO_ERROR_ARGUMENT, part);
  arena_destroy(&a);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
#define NETS(groups, more) \
  "{latent: {groups: " groups ", pyramid: true}, encoder: {channels: [4, 8]}, decoder: {channels: [8, 4], likelihood: " more "}}"
  refused(ctx, NETS("[0, 1, 1]", "bernoulli"), "model.latent.pyramid: the likelihood must have a location");
  refused(ctx, NETS("[0, 1]", "gaussian"), "model.latent.groups: 0 at resolution 4x4; with latent.pyramid 1 to 3");
  refused(ctx, NETS("[0, 5, 1]", "gaussian"), "model.latent.groups: 5 at resolution 2x2; with latent.pyramid 1 to 4");
  refused(ctx, NETS("[]", "gaussian"), "model.latent.groups: 0 at resolution 2x2");
  refused(ctx,
          "{latent: {groups: [0, 1, 1], pyramid: true}, encoder: {type: resnet, channels: [4, 8]}, decoder: {type: resnet, channels: "
          "[8, 4], likelihood: gaussian}}",
          "model.latent.groups: 1 at resolution 8x8; with latent.pyramid 0");
  refused(ctx,
          "{latent: {groups: [1], pyramid: true}, encoder: {type: mlp, hidden: [8]}, decoder: {type: mlp, hidden: [8], likelihood: "
          "gaussian}}",
          "model.latent.pyramid: needs a decoder of type conv or resnet");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_inverse),   cmocka_unit_test(test_order),   cmocka_unit_test(test_parts),
      cmocka_unit_test(test_untrained), cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
