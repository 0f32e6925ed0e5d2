// The classifier: its loss against a formula, a short training that is right, the model directory there and back, and what is refused.
//     test_classifier --measure DATA OUT     trains classifier-mnist in full and prints the error on the test pictures
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "core/file.h"
#include "data/data_config.h"
#include "data/dataset.h"
#include "models/classifier_task.h"
#include "models/model.h"
#include "support/test.h"
#include "train/run.h"

typedef struct classifier_recipe {
  classifier_config network;
  data_config data;
  train_config train;
} classifier_recipe;

static void read_recipe(elbo_ctx *ctx, arena *a, const char *path, int n, const char *const *overrides, classifier_recipe *out) {
  yaml_node *root;
  assert_ok(ctx, yaml_read(ctx, a, path, &root));
  for (int i = 0; i < n; i++) assert_ok(ctx, yaml_override(ctx, a, root, overrides[i]));
  assert_ok(ctx, config_load(ctx, a, &classifier_table, yaml_get(yaml_get(root, "model"), "classifier"), "model.classifier", &out->network));
  assert_ok(ctx, config_load(ctx, a, &data_table, yaml_get(root, "data"), "data", &out->data));
  assert_ok(ctx, config_load(ctx, a, &train_table, yaml_get(root, "train"), "train", &out->train));
}

static classifier_spec spec_of(const classifier_recipe *r, elbo_dataset *data) {
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  return (classifier_spec){r->network, {info.height, info.width, info.channels}, info.classes, info.bits};
}

static int print_progress(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)user;
  if (done % 100 == 0) fprintf(stderr, "%s %lld/%lld %s\n", what, (long long)done, (long long)total, text);
  return 1;
}

static elbo_train_result train(elbo_ctx *ctx, const classifier_recipe *r, elbo_dataset *data, const char *out, elbo_progress_fn progress) {
  classifier_spec spec = spec_of(r, data);
  classifier_task *task;
  loader *l;
  elbo_train_result result;
  loader_config lc = {
      .split = ELBO_SPLIT_TRAIN, .batch_size = train_micro_batch(&r->train), .shuffle = true, .seed = (uint64_t)r->train.seed, .augment = true};
  assert_ok(ctx, classifier_spec_check(ctx, &spec, "recipe"));
  assert_ok(ctx, loader_create(ctx, data, &lc, &l));
  assert_ok(ctx, classifier_task_create(ctx, &spec, lc.batch_size, data, &task));
  run_options o = {.out = out, .recipe_text = "{}\n", .train = &r->train, .source = train_source_of_loader(l), .progress = progress};
  assert_ok(ctx, run_training(ctx, &o, classifier_task_of(task), &result));
  classifier_task_destroy(&task);
  loader_destroy(&l);
  return result;
}

// Loads the newest checkpoint of a run and returns its error on a split.
static double error_of(elbo_ctx *ctx, arena *a, const char *run, elbo_dataset *data, elbo_split split) {
  char directory[4096];
  classifier_spec spec;
  elbo_store *store;
  int64_t step, found;
  double error;
  assert_ok(ctx, run_find_checkpoint(ctx, run, -1, directory, sizeof directory, &found));
  assert_ok(ctx, classifier_directory_read_spec(ctx, a, directory, &spec, &step));
  assert_int_equal(step, found);
  assert_ok(ctx, classifier_store_create(ctx, &spec, 1, &store));
  assert_ok(ctx, classifier_directory_read_weights(ctx, directory, store));
  assert_ok(ctx, classifier_error(ctx, &spec, store, data, split, &error));
  elbo_store_destroy(&store);
  return error;
}

static int measure(const char *path, const char *out) {
  elbo_ctx *ctx = test_ctx(0);
  arena *a = arena_create(1 << 14);
  classifier_recipe r;
  elbo_dataset *data;
  read_recipe(ctx, a, test_repository_file("tests/models/classifier-mnist.yaml"), 0, NULL, &r);
  r.data.path = path;
  assert_ok(ctx, dataset_open_config(ctx, &r.data, &data));
  elbo_train_result result = train(ctx, &r, data, out, print_progress);
  double error = error_of(ctx, a, out, data, ELBO_SPLIT_TEST);
  printf("%lld steps, %.1f s, %.3g FLOPs: error on the test pictures %.2f %%\n", (long long)result.steps, result.seconds, result.flops, 100 * error);
  elbo_dataset_destroy(&data);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
  return 0;
}

static void test_training(void **state) {
  (void)state;
  static const char *const overrides[] = {"model.classifier.channels=[8, 16]", "model.classifier.features=16", "train.steps=150", "train.warmup_steps=10", "train.checkpoint_every=75",
                                          "train.ema=0.9"};
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  classifier_recipe r;
  elbo_dataset *data;
  const char *run = test_path("classifier");
  read_recipe(ctx, a, test_repository_file("tests/models/classifier-mnist.yaml"), 6, overrides, &r);
  r.data.holdout = 200;
  assert_ok(ctx, dataset_open_config(ctx, &r.data, &data));
  elbo_train_result result = train(ctx, &r, data, run, NULL);
  assert_int_equal(result.steps, 150);
  double error = error_of(ctx, a, run, data, ELBO_SPLIT_TEST); // guessing is wrong nine times in ten
  if (!(error < 0.15)) fail_msg("error %.3f after 150 steps", error);
  elbo_dataset_destroy(&data);
  arena_destroy(&a);
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
  classifier_spec s = small_spec(ctx, a, "{channels: [4, 6], features: 5, stem: 1, dropout: 0, label_smoothing: 0.3, activation: silu}", 6, 4, 2, K);
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
  classifier_spec s = small_spec(ctx, a, "{channels: [4, 8, 8], blocks: 2, features: 7, norm_groups: 2, activation: gelu}", 24, 16, 3, 4), back;
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
  assert_status(ctx, classifier_directory_read_weights(ctx, directory, again), ELBO_ERROR_FORMAT, "shape");
  elbo_model *m;
  assert_status(ctx, elbo_model_load(ctx, directory, NULL, &m), ELBO_ERROR_UNSUPPORTED, "ElboClassifier");
  char path[4096];
  snprintf(path, sizeof path, "%s/classifier/diffusion_pytorch_model.safetensors", directory);
  assert_int_equal(remove(path), 0);
  assert_status(ctx, classifier_directory_read_weights(ctx, directory, store), ELBO_ERROR_IO, "safetensors");
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
  assert_status(ctx, classifier_spec_check(ctx, &s, "r.yaml"), ELBO_ERROR_ARGUMENT, "model.classifier.channels");
  static const char wide[] = "{features: 129}";
  assert_ok(ctx, yaml_parse(ctx, a, "test", wide, strlen(wide), &root));
  assert_status(ctx, config_load(ctx, a, &classifier_table, root, "model", &c), ELBO_ERROR_ARGUMENT, "features");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "--measure")) return measure(argv[2], argv[3]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_loss),
      cmocka_unit_test(test_model_directory),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
