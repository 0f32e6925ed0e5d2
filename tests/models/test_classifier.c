// The classifier: its loss against a formula, a short training that learns, the model directory there and back, and what is refused.
#include <elbo/model.h>
#include <elbo/train.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "models/classifier_task.h"
#include "support/test.h"

static const elbo_metric *find(const elbo_eval_result *r, const char *name) {
  for (int i = 0; i < elbo_eval_count(r); i++)
    if (strcmp(elbo_eval_metric(r, i)->name, name) == 0) return elbo_eval_metric(r, i);
  fail_msg("no metric %s", name);
  return NULL;
}

static void test_training(void **state) {
  (void)state;
  static const char *const overrides[] = {"model.network.channels=[8, 8]", "model.network.features=16", "train.steps=120",
                                          "train.warmup_steps=10",         "train.checkpoint_every=60", "train.ema=0.9",
                                          "train.batch_size=64",           "data.holdout=200"};
  elbo_ctx *ctx = test_ctx(1);
  const char *run = test_path("run");
  elbo_recipe *recipe;
  elbo_train_config config;
  elbo_train_result trained;
  elbo_model *m;
  elbo_model_info info;
  elbo_dataset *data;
  elbo_eval_config eval;
  elbo_eval_result *score;
  elbo_array *x;
  assert_ok(ctx, elbo_recipe_load(ctx, "classifier-mnist", 8, overrides, &recipe));
  elbo_train_defaults(&config);
  config.out = run;
  assert_ok(ctx, elbo_train(ctx, recipe, &config, &trained));
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  elbo_model_get_info(m, &info);
  assert_string_equal(info.preset, "classifier");
  assert_int_equal(info.step, 120), assert_int_equal(info.classes, 10), assert_int_equal(info.height, 28);
  assert_ok(ctx, elbo_model_open_data(ctx, run, NULL, 0, NULL, &data));
  elbo_eval_defaults(&eval);
  assert_ok(ctx, elbo_evaluate(m, data, &eval, &score));
  const elbo_metric *accuracy = find(score, "accuracy"), *loss = find(score, "loss"); // guessing is right one time in ten, at ln 10
  if (!(accuracy->value > 0.8 && loss->value < 0.9)) fail_msg("%s", elbo_eval_json(score));
  assert_true(accuracy->stderr_ > 0 && loss->stderr_ > 0 && accuracy->n > 500);
  elbo_eval_destroy(&score);
  eval.metrics = "accuracy,elbo";
  assert_status(ctx, elbo_evaluate(m, data, &eval, &score), ELBO_ERROR_ARGUMENT, "elbo");
  assert_status(ctx, elbo_sample(m, NULL, &x), ELBO_ERROR_UNSUPPORTED, "draws nothing");
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  // data without labels, and of another size
  float pixels[100 * 16] = {0};
  elbo_array plain = {ELBO_F32, 4, {100, 4, 4, 1}, pixels};
  assert_ok(ctx, elbo_dataset_from_arrays(ctx, &plain, NULL, 0, NULL, &data));
  config.data = data, config.out = test_path("none");
  assert_status(ctx, elbo_train(ctx, recipe, &config, &trained), ELBO_ERROR_ARGUMENT, "labels");
  elbo_dataset_destroy(&data);
  elbo_recipe_destroy(&recipe);
  elbo_ctx_destroy(&ctx);
}

static classifier_spec small_spec(elbo_ctx *ctx, arena *a, const char *text, int64_t h, int64_t w, int64_t c, int64_t classes) {
  yaml_node *root;
  classifier_spec s = {.shape = {h, w, c}, .classes = classes, .bits = 8};
  assert_ok(ctx, yaml_parse(ctx, a, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, a, &classifier_table, root, "", &s.network));
  return s;
}

// Loss and accuracy of one batch, padded by one example of weight 0, from the logits by the formula. Dropout is off.
static void test_loss(void **state) {
  (void)state;
  enum { B = 5, K = 3 };
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  classifier_spec s = small_spec(ctx, a, "{channels: [4, 6], features: 5, stem: 1, dropout: 0, activation: silu}", 6, 4, 2, K);
  classifier_training_graph t;
  elbo_plan *plan;
  elbo_store *store;
  assert_ok(ctx, classifier_training_build(ctx, &s, B, &t));
  elbo_tensor *logits = classifier_graph(&s, t.graph, B, true).logits, *out[3] = {t.loss, t.accuracy, logits};
  assert_ok(ctx, elbo_store_create(ctx, 1, &t.graph, 3, &store));
  assert_ok(ctx, elbo_plan_create(ctx, t.graph, 3, out, NULL, &plan));
  test_random r = {.seed = test_seed()};
  test_fill_normal(&r, elbo_plan_input(plan, "x"), B * 48, 1);
  static const int32_t label[B] = {2, 0, 1, 1, 0};
  static const float weight[B] = {1, 1, 1, 1, 0}, smoothing = 0.3f;
  memcpy(elbo_plan_input(plan, "label"), label, sizeof label);
  memcpy(elbo_plan_input(plan, "weight"), weight, sizeof weight);
  memcpy(elbo_plan_input(plan, "label_smoothing"), &smoothing, sizeof smoothing);
  assert_ok(ctx, elbo_plan_run(plan, store));
  const float *y = elbo_plan_output(plan, 2);
  double loss = 0, right = 0;
  for (int b = 0; b < B - 1; b++) {
    double sum = 0, best = -INFINITY;
    for (int k = 0; k < K; k++) sum += exp((double)y[b * K + k]), best = fmax(best, (double)y[b * K + k]);
    for (int k = 0; k < K; k++) loss -= ((k == label[b]) * 0.7 + 0.1) * (y[b * K + k] - log(sum)) / (B - 1);
    right += (y[b * K + label[b]] >= best) / (double)(B - 1);
  }
  assert_near(*(const float *)elbo_plan_output(plan, 0), loss, 1e-5);
  assert_near(*(const float *)elbo_plan_output(plan, 1), right, 1e-6);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&t.graph);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_model_directory(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  classifier_spec s = small_spec(ctx, a, "{channels: [4, 8, 8], blocks: 2, features: 7, norm_groups: 2, activation: gelu}", 24, 16, 3, 4),
                  back;
  elbo_store *store, *again;
  int64_t step;
  const char *directory = test_path("model");
  assert_ok(ctx, classifier_spec_check(ctx, &s, "test"));
  assert_ok(ctx, classifier_store_create(ctx, &s, 5, &store));
  assert_ok(ctx, directory_make(ctx, directory));
  assert_ok(ctx, classifier_directory_write(ctx, directory, &s, store, 42));
  assert_ok(ctx, classifier_directory_read_spec(ctx, a, directory, &back, &step));
  assert_int_equal(step, 42);
  assert_int_equal(back.classes, 4), assert_int_equal(back.shape.height, 24), assert_int_equal(back.network.channels.count, 3);
  assert_int_equal(back.network.blocks, 2), assert_int_equal(back.network.activation, ACTIVATION_GELU), assert_int_equal(back.bits, 8);
  assert_ok(ctx, classifier_store_create(ctx, &back, 6, &again));
  assert_ok(ctx, classifier_directory_read_weights(ctx, directory, again));
  assert_int_equal(elbo_store_count(store), elbo_store_count(again));
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p, q;
    assert_ok(ctx, elbo_store_get(store, i, &p));
    assert_ok(ctx, elbo_store_get(again, i, &q));
    assert_string_equal(p.name, q.name);
    assert_memory_equal(p.data, q.data, (size_t)p.count * sizeof(float));
  }
  elbo_store_destroy(&again);
  // other weights than the configuration's, another kind of model, and no weights
  s.network.features = 8;
  assert_ok(ctx, classifier_store_create(ctx, &s, 5, &again));
  assert_status(ctx, classifier_directory_read_weights(ctx, directory, again), ELBO_ERROR_FORMAT, "features.weight");
  char path[4096];
  snprintf(path, sizeof path, "%s/classifier/diffusion_pytorch_model.safetensors", directory);
  assert_int_equal(remove(path), 0);
  assert_status(ctx, classifier_directory_read_weights(ctx, directory, store), ELBO_ERROR_IO, "classifier");
  elbo_store_destroy(&again);
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  yaml_node *root;
  classifier_config c;
  classifier_spec s = small_spec(ctx, a, "{channels: [4, 8, 8]}", 28, 28, 1, 10);
  assert_status(ctx, classifier_spec_check(ctx, &s, "r.yaml"), ELBO_ERROR_ARGUMENT, "cannot be halved 3 times");
  s = small_spec(ctx, a, "{channels: [4, 8]}", 28, 28, 1, 0);
  assert_status(ctx, classifier_spec_check(ctx, &s, "r.yaml"), ELBO_ERROR_ARGUMENT, "labels");
  s = small_spec(ctx, a, "{channels: []}", 28, 28, 1, 10);
  assert_status(ctx, classifier_spec_check(ctx, &s, "r.yaml"), ELBO_ERROR_ARGUMENT, "model.network.channels");
  static const char wide[] = "{features: 129}";
  assert_ok(ctx, yaml_parse(ctx, a, "test", wide, strlen(wide), &root));
  assert_status(ctx, config_load(ctx, a, &classifier_table, root, "model", &c), ELBO_ERROR_ARGUMENT, "features");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_loss),
      cmocka_unit_test(test_model_directory),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
