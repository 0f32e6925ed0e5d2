// Shapes, parameter counts and names of the networks; every kind of model makes its graphs, and its shapes that cannot be are refused.
#include "models/vae_cases.h"

static void test_counts(void **state) {
  (void)state;
  static const struct {
    const char *model;
    int64_t h, w, c, params;
  } known[] = {
      {"{latent: {dim: 20}, encoder: {type: mlp, hidden: [400], activation: relu}, decoder: {type: mlp, hidden: [400], activation: relu}}",
       28, 28, 1, 652824},
      {"{latent: {dim: 20}, encoder: {type: conv, channels: [32, 64]}, decoder: {type: conv, channels: [64, 32], likelihood: gaussian}}",
       28, 28, 1, 274537},
      {"{latent: {dim: 128}, encoder: {type: conv, channels: [64, 128, 256]}, decoder: {type: conv, channels: [256, 128, 64], likelihood: "
       "gaussian}}",
       32, 32, 3, 2960387},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    arena *a = arena_create(1 << 14);
    vae_spec spec = spec_of(ctx, a, known[i].model, known[i].h, known[i].w, known[i].c, 0);
    elbo_store *store;
    assert_ok(ctx, model_store_create(ctx, &spec, 1, &store));
    assert_int_equal(trained_count(ctx, store), known[i].params);
    elbo_store_destroy(&store);
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

static void test_names(void **state) {
  (void)state;
  static const char *const names[] = {"encoder.conv_in.weight",
                                      "encoder.down_blocks.0.resnets.1.conv2.bias",
                                      "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                                      "encoder.down_blocks.0.downsamplers.0.conv.weight",
                                      "encoder.mid_block.attentions.0.to_out.0.weight",
                                      "encoder.mid_block.resnets.1.norm1.weight",
                                      "encoder.conv_norm_out.bias",
                                      "decoder.up_blocks.0.upsamplers.0.conv.weight",
                                      "decoder.up_blocks.1.resnets.0.norm2.weight",
                                      "decoder.mid_block.attentions.0.group_norm.weight",
                                      "decoder.conv_out.weight"};
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  vae_spec spec =
      spec_of(ctx, a,
              "{encoder: {type: resnet, channels: [8, 16], blocks: 2, attention: true}, decoder: {type: resnet, channels: [16, 8], "
              "attention: true}}",
              8, 8, 1, 0);
  elbo_store *store;
  assert_ok(ctx, model_store_create(ctx, &spec, 1, &store));
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) weights_of(ctx, store, names[i], NULL);
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void refused(elbo_ctx *ctx, const char *text, int64_t side, int classes, const char *part) {
  arena *a = arena_create(1 << 14);
  yaml_node *root = NULL;
  vae_spec spec = {.shape = {side, side, 1}, .classes = classes, .bits = 8};
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &model_table, root, "model", &spec.model));
  assert_status(ctx, vae_spec_check(ctx, &spec, "r.yaml"), ELBO_ERROR_ARGUMENT, part);
  arena_destroy(&a);
}

static void test_impossible(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  refused(ctx, "{encoder: {channels: [8, 8, 8, 8]}}", 28, 0, "r.yaml: model.encoder.channels: a 28x28 picture cannot be halved 4 times");
  refused(ctx, "{decoder: {channels: [8, 8, 8]}}", 28, 0, "model.decoder.channels");
  refused(ctx, "{decoder: {likelihood: bernoulli, variance: pixel}}", 28, 0, "model.decoder.variance");
  refused(ctx, "{condition: {type: class}}", 28, 0, "model.condition.type");
  refused(ctx, "{latent: {groups: [1, 1, 1, 1]}}", 28, 0, "model.latent.groups");
  refused(ctx, "{latent: {groups: [0]}}", 28, 0, "model.latent.groups");
  refused(ctx, "{latent: {groups: [2]}, prior: {type: vamp}}", 28, 0, "model.prior.type");
  refused(ctx, "{latent: {groups: [1, 1]}, encoder: {type: mlp}}", 28, 0, "model.latent.groups");
  refused(ctx, "{encoder: {channels: []}}", 28, 0, "model.encoder.channels");
  elbo_ctx_destroy(&ctx);
}

// A draw of the posterior: KL in closed form and log q - log p agree on average, the code has the size that is told, and decoding the code
// again gives the same picture.
static void test_kinds(void **state) {
  (void)state;
  static const char *const kinds[] = {
      "{latent: {dim: 5}, encoder: {type: mlp, hidden: [16]}, decoder: {type: mlp, hidden: [16]}}",
      "{latent: {dim: 5}, encoder: {channels: [4, 8]}, decoder: {channels: [8, 4]}}",
      "{latent: {dim: 5}, encoder: {type: resnet, channels: [4, 8], stem: 2, attention: true}, decoder: {type: resnet, channels: [8, 4], "
      "stem: 2}}",
      "{latent: {dim: 5}, prior: {type: learned}, encoder: {channels: [4]}, decoder: {channels: [4]}}",
      "{latent: {dim: 5}, prior: {type: mixture, components: 3}, encoder: {channels: [4]}, decoder: {channels: [4]}}",
      "{latent: {dim: 5}, prior: {type: vamp, components: 3}, encoder: {channels: [4]}, decoder: {channels: [4]}}",
      "{latent: {dim: 5}, condition: {type: class, dim: 3}, prior: {type: learned}, encoder: {type: resnet, channels: [4]}, decoder: "
      "{type: resnet, "
      "channels: [4]}}",
      "{latent: {dim: 3, groups: [2, 1, 1], channels: 2, width: 8}, encoder: {type: resnet, channels: [4, 8]}, decoder: {type: resnet, "
      "channels: [8, 4]}}",
      "{latent: {dim: 3, groups: [0, 2, 1], channels: 2, width: 8}, encoder: {channels: [4, 8]}, decoder: {channels: [8, 4]}}",
      "{latent: {dim: 3, groups: [4], width: 8}, encoder: {type: mlp, hidden: [16]}, decoder: {type: mlp, hidden: [16]}}",
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    arena *a = arena_create(1 << 14);
    vae_spec spec = spec_of(ctx, a, kinds[i], 8, 8, 1, 4);
    elbo_store *store;
    assert_ok(ctx, model_store_create(ctx, &spec, test_seed(), &store));
    enum { B = 4, K = 400 };
    elbo_graph *g;
    assert_ok(ctx, elbo_graph_create(ctx, "kind", &g));
    latent_request request = {.spec = &spec, .graph = g, .batch = B, .samples = K, .mode = LATENT_POSTERIOR};
    vae_latents z = vae_latent_pass(&request);
    assert_ok(ctx, elbo_graph_check(g));
    assert_int_equal(elbo_tensor_dim(z.z, 1), vae_code_size(&spec));
    assert_int_equal(elbo_tensor_dim(z.output, 0), B * K);
    elbo_tensor *outputs[5] = {z.kl, z.log_q, z.log_p, z.z, z.output};
    session s;
    assert_ok(ctx, session_create(ctx, g, store, B, 5, outputs, &s));
    elbo_array *x = pictures(ctx, B, &spec.shape, 1, true);
    int32_t label[B] = {0, 1, 2, 3};
    session_rows rows = {.x = x->data, .condition = label, .seed = test_seed()};
    assert_ok(ctx, session_run(&s, &rows, 0, B));
    const float *kl = session_output(&s, 0), *log_q = session_output(&s, 1), *log_p = session_output(&s, 2);
    for (int b = 0; b < B; b++) {
      double sum = 0, squares = 0;
      for (int k = 0; k < K; k++) {
        double d = (double)log_q[b * K + k] - log_p[b * K + k];
        sum += d / K, squares += d * d / K;
      }
      double error = sqrt(fmax(squares - sum * sum, 0) / K);
      if (!(fabs(kl[b] - sum) <= 5 * error + 1e-3))
        fail_msg("kind %zu, seed %llu, row %d: KL %g, mean of log q - log p %g +- %g", i, (unsigned long long)test_seed(), b, kl[b], sum,
                 error);
    }
    // decoding the drawn codes
    elbo_model m = model_of_weights(ctx, &spec, store);
    elbo_array *codes, *decoded, *labels;
    int64_t d = vae_code_size(&spec), n = 6;
    assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){n, d}, &codes));
    assert_ok(ctx, elbo_array_create(ctx, ELBO_I32, 1, &n, &labels));
    memcpy(codes->data, session_output(&s, 3), elbo_array_bytes(codes)); // six draws of example 0
    assert_ok(ctx, elbo_decode(&m, codes, labels, &decoded));
    const float *logit = session_output(&s, 4);
    for (int64_t j = 0; j < n * 64; j++) {
      double want = 1 / (1 + exp(-(double)logit[j])), got = ((float *)decoded->data)[j];
      if (!(fabs(got - want) <= 1e-4))
        fail_msg("kind %zu, seed %llu: number %lld decodes to %g, was %g", i, (unsigned long long)test_seed(), (long long)j, got, want);
    }
    elbo_array_destroy(&codes), elbo_array_destroy(&decoded), elbo_array_destroy(&labels), elbo_array_destroy(&x);
    session_destroy(&s);
    elbo_store_destroy(&store);
    arena_destroy(&a);
  }
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_counts),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_impossible),
      cmocka_unit_test(test_kinds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
