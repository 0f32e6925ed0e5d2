// Pictures compared by a classifier's features: the distance against its formula, trainings with it, refusals.
#include "models/autoencoder_cases.h"

#include "core/safetensors.h"
#include "models/classifier.h"
#include "models/perceptual.h"

#define CLASSIFIER                                                                                              \
  "model: {preset: classifier, network: {channels: [4, 6], stem: 1, blocks: 1, features: 4, norm_groups: 2}}\n" \
  "data: {path: digits, size: SIZE, limit: 200, holdout: 40}\ntrain: {steps: 3, batch_size: 8, ema: 0}\n"

typedef struct messages {
  char text[1 << 12];
  size_t used;
} messages;

static void keep(void *user, elbo_log_level level, const char *text) {
  messages *m = user;
  (void)level;
  int n = snprintf(m->text + m->used, sizeof m->text - m->used, "%s\n", text);
  if (n > 0 && m->used + (size_t)n < sizeof m->text) m->used += (size_t)n;
}

static elbo_ctx *listening(messages *m) {
  elbo_ctx_config config;
  elbo_ctx *ctx;
  memset(m, 0, sizeof *m);
  elbo_ctx_defaults(&config);
  config.log = keep, config.log_user = m, config.threads = 1;
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &ctx), ELBO_OK);
  return ctx;
}

static const char *classifier(elbo_ctx *ctx, const char *name, const char *size) {
  char text[1024] = CLASSIFIER, *at = strstr(text, "SIZE"), rest[512];
  elbo_train_result result;
  snprintf(rest, sizeof rest, "%s", at + 4);
  snprintf(at, sizeof text - (size_t)(at - text), "%s%s", size, rest);
  assert_ok(ctx, run_job(ctx, (job){text, test_path(name), NULL, false, -1}, &result));
  return test_path(name);
}

static const picture_shape pictures = {8, 8, 1};

// --- the distance ---

enum { B = 2, LEVELS = 2 };

static void test_distance(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  perceptual *p;
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  char path[4096];
  const int64_t dim[4] = {B, 8, 8, 1};
  snprintf(path, sizeof path, "%s", classifier(ctx, "classifier", "8"));
  assert_ok(ctx, perceptual_open(ctx, "test", path, "", &pictures, &p));
  assert_int_equal(strlen(perceptual_hash(p)), 64);
  assert_ok(ctx, elbo_graph_create(ctx, "distance", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, dim), *y = elbo_input(g, "y", ELBO_F32, 4, dim), *slope = NULL;
  elbo_tensor *outputs[2 + 2 * LEVELS];
  elbo_model *m; // its features by themselves
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  elbo_scope_push(g, "perceptual.classifier");
  classifier_output of[2] = {classifier_network(&m->classifier->network, x, m->classifier->classes, false),
                             classifier_network(&m->classifier->network, y, m->classifier->classes, false)};
  elbo_scope_pop(g);
  outputs[0] = perceptual_distance(p, x, y);
  assert_ok(ctx, elbo_gradient(outputs[0], 1, &y, &slope));
  outputs[1] = slope;
  for (int k = 0; k < 2; k++) {
    assert_int_equal(of[k].n, LEVELS);
    for (int l = 0; l < LEVELS; l++) outputs[2 + 2 * l + k] = elbo_scale(of[k].map[l], 1, 0);
  }
  assert_ok(ctx, elbo_graph_check(g));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  assert_int_equal(store->count[ELBO_PARAM_TRAINED], 0); // frozen, all of them
  assert_ok(ctx, perceptual_fill(p, store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 2 + 2 * LEVELS, outputs, NULL, &plan));
  float a[B * 64], b[B * 64];
  test_random random = {test_seed(), 3};
  for (int i = 0; i < B * 64; i++) a[i] = (float)test_uniform(&random), b[i] = i < 64 ? (float)test_uniform(&random) : a[i];
  assert_ok(ctx, elbo_plan_set(plan, "x", a, B * 64));
  assert_ok(ctx, elbo_plan_set(plan, "y", b, B * 64));
  assert_ok(ctx, elbo_plan_run(plan, store));
  const float *distance = elbo_plan_output(plan, 0);
  double want = 0;
  for (int l = 0; l < LEVELS; l++) {
    const int64_t places = elbo_tensor_dim(of[0].map[l], 1) * elbo_tensor_dim(of[0].map[l], 2), c = elbo_tensor_dim(of[0].map[l], 3);
    const float *u = elbo_plan_output(plan, 2 + 2 * l), *v = elbo_plan_output(plan, 3 + 2 * l);
    for (int64_t i = 0; i < places; i++, u += c, v += c) {
      double uu = 1e-6, vv = 1e-6, d = 0;
      for (int64_t k = 0; k < c; k++) uu += (double)u[k] * u[k], vv += (double)v[k] * v[k];
      for (int64_t k = 0; k < c; k++) d += pow(u[k] / sqrt(uu) - v[k] / sqrt(vv), 2);
      want += d / (double)places;
    }
  }
  assert_true(want > 0.01);
  assert_near(distance[0], want, 1e-4 * want);
  assert_near(distance[1], 0, 1e-9); // the same picture
  // flat pictures, of which some features are nothing
  for (int i = 0; i < B * 64; i++) b[i] = i < 64 ? 0.5f : 0;
  assert_ok(ctx, elbo_plan_set(plan, "y", b, B * 64));
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < B * 64; i++) assert_true(isfinite(((const float *)elbo_plan_output(plan, 1))[i]));
  elbo_model_destroy(&m);
  perceptual_close(&p);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// --- trainings ---

#define RECIPE                                                                                 \
  "model: {preset: autoencoder, " SMALL_KL ", discriminator: {channels: [4, 6]}}\n" SMALL_DATA \
  "objective: {adversarial: 0.5, perceptual_weight: 0.1}\n"                                    \
  "train: {steps: 4, batch_size: 8, ema: 0.9, learning_rate: 0.003, checkpoint_every: 2, log_every: 1, keep: 9}\n"

static void test_training(void **state) {
  (void)state;
  messages log;
  elbo_ctx *ctx = listening(&log);
  char path[4096], key[4200], whole[4096], parts[4096], file[8192], *text;
  size_t size;
  elbo_train_result result;
  snprintf(path, sizeof path, "%s", classifier(ctx, "judge", "8"));
  snprintf(key, sizeof key, "objective.perceptual=%s", path);
  snprintf(whole, sizeof whole, "%s", test_path("whole"));
  snprintf(parts, sizeof parts, "%s", test_path("parts"));
  assert_ok(ctx, run_job(ctx, (job){RECIPE, whole, key, false, -1}, &result));
  perceptual *p;
  assert_ok(ctx, perceptual_open(ctx, "test", path, "", &pictures, &p));
  assert_non_null(strstr(log.text, perceptual_hash(p)));
  snprintf(file, sizeof file, "%s/metrics.jsonl", whole);
  assert_ok(ctx, file_read(ctx, file, 1 << 20, &text, &size));
  assert_non_null(strstr(text, "\"perceptual\""));
  free(text);
  // resumed to the bit, frozen weights included
  assert_int_equal(run_job(ctx, (job){RECIPE, parts, key, false, 3}, &result), ELBO_ERROR_STOPPED);
  assert_ok(ctx, run_job(ctx, (job){RECIPE, parts, key, true, -1}, &result));
  assert_same_file(ctx, whole, parts, "checkpoints/step-4/training/state.safetensors");
  assert_same_file(ctx, whole, parts, "checkpoints/step-4/diffusion_pytorch_model.safetensors");
  // they are those of the classifier still, and in no model directory
  elbo_model *own;
  safetensors *saved;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &own));
  elbo_store *store = own->store;
  snprintf(file, sizeof file, "%s/checkpoints/step-4/training/state.safetensors", whole);
  assert_ok(ctx, safetensors_open(ctx, file, &saved));
  assert_true(store->n > 4);
  for (int i = 0; i < store->n; i++) {
    char name[512];
    snprintf(name, sizeof name, "raw/" PERCEPTUAL_PREFIX "%s", store->entries[i].name);
    const tensor_view *v = safetensors_find(saved, name);
    assert_non_null(v);
    assert_memory_equal(v->data, store_data(store, i), v->bytes);
  }
  safetensors_close(&saved);
  snprintf(file, sizeof file, "%s/checkpoints/step-4/diffusion_pytorch_model.safetensors", whole);
  assert_ok(ctx, safetensors_open(ctx, file, &saved));
  for (int64_t i = 0; i < safetensors_count(saved); i++) assert_null(strstr(safetensors_at(saved, i)->name, "perceptual"));
  safetensors_close(&saved);
  elbo_model_destroy(&own);
  // another training begins with the autoencoder's weights alone
  snprintf(file, sizeof file, "%strain: {steps: 2, batch_size: 8, init: %s}\n", "model: {preset: autoencoder, " SMALL_KL "}\n" SMALL_DATA,
           whole);
  assert_ok(ctx, run_job(ctx, (job){file, NULL, key, false, -1}, &result));
  perceptual_close(&p);
  elbo_ctx_destroy(&ctx);
}

static void test_score(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  elbo_model *m;
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *score;
  char path[4096];
  snprintf(path, sizeof path, "%s", classifier(ctx, "scorer", "8"));
  assert_ok(ctx, run_job(ctx, (job){RECIPE, test_path("run"), "objective.adversarial=0", false, -1}, &result));
  assert_ok(ctx, elbo_model_load(ctx, test_path("run"), NULL, &m));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 1, (const char *const[]){"size=8"}, &data));
  elbo_eval_defaults(&config);
  config.metrics = "perceptual", config.limit = 40;
  assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_ARGUMENT, "perceptual needs features");
  config.features = path;
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
  assert_int_equal(elbo_eval_count(score), 1);
  const elbo_metric *metric = elbo_eval_metric(score, 0);
  assert_true(metric->value > 0 && metric->stderr_ > 0 && metric->n == 40);
  assert_non_null(strstr(metric->note, "sha256"));
  elbo_eval_destroy(&score);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  char key[4200];
  assert_status(ctx, run_job(ctx, (job){RECIPE, NULL, "objective.perceptual=/nowhere", false, -1}, &result), ELBO_ERROR_IO,
                "objective.perceptual: /nowhere: not there");
  snprintf(key, sizeof key, "objective.perceptual=%s", classifier(ctx, "larger", "12"));
  assert_status(ctx, run_job(ctx, (job){RECIPE, NULL, key, false, -1}, &result), ELBO_ERROR_ARGUMENT,
                "a classifier of pictures of 12x12x1; these are 8x8x1");
  assert_ok(ctx, run_job(ctx, (job){RECIPE, test_path("other"), NULL, false, -1}, &result));
  snprintf(key, sizeof key, "objective.perceptual=%s", test_path("other"));
  assert_status(ctx, run_job(ctx, (job){RECIPE, NULL, key, false, -1}, &result), ELBO_ERROR_UNSUPPORTED, "ElboClassifier was expected");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_training), cmocka_unit_test(test_score),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
