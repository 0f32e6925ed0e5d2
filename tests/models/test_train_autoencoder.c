// Trainings of autoencoders: their losses against formulas, runs that are resumed to the bit, used and scored; what does not fit is
// refused.
#include "models/autoencoder_cases.h"

#define RECIPE(MODEL)                                    \
  "model: {preset: autoencoder, " MODEL "}\n" SMALL_DATA \
  "train: {steps: 8, batch_size: 8, ema: 0.9, learning_rate: 0.003, checkpoint_every: 4, log_every: 2, preview_every: 4}\n"

// --- the loss ---

enum { B = 3, PIXELS = 64, CODE = 32 };

typedef struct evaluated {
  elbo_plan *plan;
  elbo_store *store;
  autoencoder_training training;
  float x[B * PIXELS], weight[B];
} evaluated;

// Loss, metrics, mean, logvar (or mean again), y
static void evaluate(elbo_ctx *ctx, const autoencoder_spec *s, evaluated *e) {
  elbo_tensor *outputs[AUTOENCODER_METRICS + 4];
  test_random r = {test_seed(), 7};
  assert_ok(ctx, autoencoder_training_build(ctx, s, B, &e->training));
  elbo_graph *g = e->training.graph;
  autoencoder_pass p = autoencoder_forward(s, g, B, true); // the same nodes' values again
  int n = 0;
  outputs[n++] = e->training.loss;
  for (int i = 0; i < e->training.n_metrics; i++) outputs[n++] = e->training.metric[i].value;
  outputs[n++] = p.mean, outputs[n++] = p.logvar ? p.logvar : elbo_scale(p.mean, 1, 0), outputs[n++] = p.y;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 5, &e->store));
  assert_ok(ctx, elbo_plan_create(ctx, g, n, outputs, NULL, &e->plan));
  for (int i = 0; i < B * PIXELS; i++) e->x[i] = (float)test_uniform(&r);
  for (int i = 0; i < B; i++) e->weight[i] = i < B - 1; // the last is padding
  assert_ok(ctx, elbo_plan_set(e->plan, "x", e->x, B * PIXELS));
  assert_ok(ctx, elbo_plan_set(e->plan, "weight", e->weight, B));
  int64_t *index = elbo_plan_input(e->plan, "sample_index");
  for (int i = 0; index && i < B; i++) index[i] = i;
  if (elbo_plan_input(e->plan, "seed")) memset(elbo_plan_input(e->plan, "seed"), 0, 8);
  assert_ok(ctx, elbo_plan_run(e->plan, e->store));
}

static void discard(evaluated *e) {
  elbo_plan_destroy(&e->plan);
  elbo_store_destroy(&e->store);
  elbo_graph_destroy(&e->training.graph);
}

static double number(const evaluated *e, int i) { return (double)*(const float *)elbo_plan_output(e->plan, i); }

static void test_losses(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  for (int l2 = 0; l2 < 2; l2++) {
    autoencoder_spec s;
    evaluated e = {0};
    spec_from_text(ctx, a, SMALL_KL, l2 ? "{reconstruction: l2, kl: 0.3}" : "{kl: 0.01}", &s);
    evaluate(ctx, &s, &e);
    const int n = e.training.n_metrics;
    const float *mean = elbo_plan_output(e.plan, n + 1), *logvar = elbo_plan_output(e.plan, n + 2), *y = elbo_plan_output(e.plan, n + 3);
    double distance = 0, kl = 0, channel[2] = {0, 0};
    for (int i = 0; i < (B - 1) * PIXELS; i++) {
      double d = 2.0 * e.x[i] - 1 - y[i];
      distance += (l2 ? d * d : fabs(d)) / ((B - 1) * PIXELS);
    }
    for (int i = 0; i < (B - 1) * CODE; i++) {
      double k = 0.5 * ((double)mean[i] * mean[i] + exp(logvar[i]) - 1 - logvar[i]) / (B - 1);
      kl += k, channel[i % 2] += k;
    }
    assert_string_equal(e.training.metric[0].name, "reconstruction");
    assert_near(number(&e, 1), distance, 1e-5);
    assert_string_equal(e.training.metric[1].name, "kl");
    assert_near(number(&e, 2), kl, 1e-4 * kl);
    for (int c = 0; c < 2; c++) assert_near(((const float *)elbo_plan_output(e.plan, 3))[c], channel[c], 1e-4 * kl);
    assert_near(number(&e, 0), distance + (l2 ? 0.3 : 0.01) * kl / PIXELS, 1e-5);
    discard(&e);
  }
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// --- runs ---

static void test_resume(void **state) {
  (void)state;
  static const char *const recipes[] = {RECIPE(SMALL_KL), RECIPE(SMALL_VQ), RECIPE(SMALL_TINY)};
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < 3; i++) {
    char whole[4096], parts[4096], name[32];
    elbo_train_result result;
    snprintf(name, sizeof name, "whole-%d", i);
    snprintf(whole, sizeof whole, "%s", test_path(name));
    snprintf(name, sizeof name, "parts-%d", i);
    snprintf(parts, sizeof parts, "%s", test_path(name));
    assert_ok(ctx, run_job(ctx, (job){recipes[i], whole, NULL, false, -1}, &result));
    assert_true(isfinite(result.loss));
    assert_int_equal(run_job(ctx, (job){recipes[i], parts, NULL, false, 3}, &result), ELBO_ERROR_STOPPED);
    assert_int_equal(run_job(ctx, (job){recipes[i], parts, NULL, true, 6}, &result), ELBO_ERROR_STOPPED);
    assert_ok(ctx, run_job(ctx, (job){recipes[i], parts, NULL, true, -1}, &result));
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/training/state.safetensors");
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/diffusion_pytorch_model.safetensors");
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/config.json");
    assert_same_file(ctx, whole, parts, "samples/step-8.png");
  }
  elbo_ctx_destroy(&ctx);
}

// It learns: from the error of grey pictures to a fraction of it
static void test_learns(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result early, late;
  static const char recipe[] = "model: {preset: autoencoder, " SMALL_KL "}\n" SMALL_DATA
                               "train: {steps: 150, batch_size: 16, ema: 0, learning_rate: 0.005, log_every: 10}\n";
  assert_ok(ctx, run_job(ctx, (job){recipe, NULL, "train.steps=2", false, -1}, &early));
  assert_ok(ctx, run_job(ctx, (job){recipe, NULL, NULL, false, -1}, &late));
  if (!(late.loss < 0.4 * early.loss)) fail_msg("the loss is %g after 150 steps, %g after 2", late.loss, early.loss);
  elbo_ctx_destroy(&ctx);
}

static elbo_array *some_pictures(elbo_ctx *ctx, int64_t n) {
  elbo_array *x;
  test_random r = {test_seed(), 99};
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 4, (int64_t[]){n, 8, 8, 1}, &x));
  for (int64_t i = 0; i < n * 64; i++) ((float *)x->data)[i] = (float)(2 * test_uniform(&r) - 1);
  return x;
}

static void check_calls(elbo_ctx *ctx, elbo_model *m, const char *folder, bool posterior) {
  elbo_array *x = some_pictures(ctx, 5), *mean, *deviation, *y, *z, *drawn, *walk, *again;
  assert_ok(ctx, elbo_encode(m, x, NULL, &mean, &deviation));
  assert_int_equal(mean->rank, 4);
  assert_true(mean->dim[0] == 5 && mean->dim[1] == 4 && mean->dim[2] == 4 && mean->dim[3] == 2);
  for (int64_t i = 0; i < elbo_array_count(deviation); i++) assert_true((((float *)deviation->data)[i] > 0) == posterior);
  assert_ok(ctx, elbo_decode(m, mean, NULL, &y));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 0, 1, &z));
  assert_close(y->data, z->data, 5 * 64, 1e-5);
  elbo_array flat = *mean;
  flat.rank = 2, flat.dim[1] = 32;
  assert_ok(ctx, elbo_decode(m, &flat, NULL, &again));
  assert_memory_equal(again->data, y->data, elbo_array_bytes(y));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, 1, &drawn));
  assert_true((memcmp(drawn->data, z->data, elbo_array_bytes(z)) != 0) == posterior);
  elbo_array a = *x, b = *x;
  a.dim[0] = b.dim[0] = 1, b.data = (float *)x->data + 64;
  assert_ok(ctx, elbo_interpolate(m, &a, &b, -1, 3, &walk));
  assert_close(walk->data, y->data, 64, 1e-5);
  assert_close((float *)walk->data + 128, (float *)y->data + 64, 64, 1e-5);
  // the networks of the written folder say the same
  elbo_named_array in = {"x", x}, out = {posterior ? "mean" : "latents", NULL};
  assert_ok(ctx, elbo_apply(ctx, folder, 1, &in, 1, &out));
  assert_close(out.array->data, mean->data, elbo_array_count(mean), 1e-5);
  elbo_array *const all[] = {x, mean, deviation, y, z, drawn, walk, again, out.array};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    elbo_array *one = all[i];
    elbo_array_destroy(&one);
  }
}

static void test_model(void **state) {
  (void)state;
  static const char *const recipes[] = {RECIPE(SMALL_KL), RECIPE(SMALL_VQ), RECIPE(SMALL_TINY)},
                           *const told[] = {"\"kl\"", "\"quantization\"", "\"reconstruction\""},
                           *const measured[] = {"kl", "code_usage", "psnr"};
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < 3; i++) {
    char run[4096], folder[4200], *lines, name[32];
    size_t size;
    elbo_train_result result;
    elbo_model *m;
    elbo_model_info info;
    elbo_model_config raw;
    elbo_dataset *data;
    elbo_eval_config config;
    elbo_eval_result *score;
    snprintf(name, sizeof name, "model-%d", i);
    snprintf(run, sizeof run, "%s", test_path(name));
    assert_ok(ctx, run_job(ctx, (job){recipes[i], run, NULL, false, -1}, &result));
    snprintf(folder, sizeof folder, "%s/metrics.jsonl", run);
    assert_ok(ctx, file_read(ctx, folder, 1 << 20, &lines, &size));
    if (!strstr(lines, told[i]) || !strstr(lines, "\"valid\"")) fail_msg("metrics.jsonl lacks %s or valid: %.300s", told[i], lines);
    free(lines);
    snprintf(folder, sizeof folder, "%s/checkpoints/step-8", run);
    assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
    elbo_model_get_info(m, &info);
    assert_string_equal(info.preset, "autoencoder");
    assert_string_equal(info.weights, "ema");
    assert_true(info.step == 8 && info.low == -1 && info.high == 1);
    if (i < 2) assert_true(info.height == 8 && info.width == 8 && info.latent_dim == 32);
    if (i < 2) check_calls(ctx, m, folder, i == 0);
    assert_ok(ctx, elbo_dataset_open(ctx, "digits", 1, (const char *const[]){"size=8"}, &data));
    elbo_eval_defaults(&config);
    config.limit = 30;
    assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
    bool found = false;
    for (int k = 0; k < elbo_eval_count(score); k++) {
      const elbo_metric *metric = elbo_eval_metric(score, k);
      assert_true(isfinite(metric->value));
      found = found || strcmp(metric->name, measured[i]) == 0;
    }
    assert_true(found);
    elbo_eval_destroy(&score);
    elbo_dataset_destroy(&data);
    // the weights as they were trained are others
    elbo_model_defaults(&raw);
    raw.ema = -1;
    elbo_model *trained;
    assert_ok(ctx, elbo_model_load(ctx, run, &raw, &trained));
    elbo_param_info p, q;
    assert_ok(ctx, elbo_store_get(m->store, 0, &p));
    assert_ok(ctx, elbo_store_find(trained->store, p.name, &q));
    assert_memory_not_equal(p.data, q.data, (size_t)p.count * sizeof(float));
    elbo_model_destroy(&trained);
    elbo_model_destroy(&m);
  }
  elbo_ctx_destroy(&ctx);
}

// The scores against what the calls give
static void test_scores(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  elbo_model *m;
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *score;
  elbo_array *x, *mean, *deviation;
  const char *run = test_path("scores");
  assert_ok(ctx, run_job(ctx, (job){RECIPE(SMALL_KL), run, NULL, false, -1}, &result));
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 1, (const char *const[]){"size=8"}, &data));
  elbo_eval_defaults(&config);
  config.metrics = "kl,psnr,mse";
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
  double kl = 0, got = NAN, psnr = NAN, mse = NAN;
  for (int k = 0; k < elbo_eval_count(score); k++) {
    const elbo_metric *metric = elbo_eval_metric(score, k);
    if (!strcmp(metric->name, "kl")) got = metric->value;
    if (!strcmp(metric->name, "psnr")) psnr = metric->value;
    if (!strcmp(metric->name, "mse")) mse = metric->value;
  }
  elbo_dataset_info about;
  elbo_dataset_get_info(data, &about);
  assert_ok(ctx, elbo_dataset_read(data, ELBO_SPLIT_TEST, 0, about.count[ELBO_SPLIT_TEST], 0, 0, &x, NULL));
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = 2 * ((float *)x->data)[i] - 1;
  assert_ok(ctx, elbo_encode(m, x, NULL, &mean, &deviation));
  for (int64_t i = 0; i < elbo_array_count(mean); i++) {
    double u = ((float *)mean->data)[i], s = ((float *)deviation->data)[i];
    kl += 0.5 * (u * u + s * s - 1) - log(s);
  }
  assert_near(got, kl / (double)x->dim[0], 1e-6 * kl);
  assert_near(psnr, -10 * log10(mse), 1e-9);
  elbo_array_destroy(&x), elbo_array_destroy(&mean), elbo_array_destroy(&deviation);
  elbo_eval_destroy(&score);
  config.metrics = "elbo";
  assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_ARGUMENT, "unknown name 'elbo'");
  config.metrics = "perplexity";
  assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_ARGUMENT, "are of a VQModel's table");
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// --- what does not fit ---

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *override, *part;
  } bad[] = {
      {"model.kl.in_channels=3", "model.kl.in_channels: 3; the data have 1"},
      {"model.kl.out_channels=2", "model.kl.out_channels: 2; to be trained it gives as many as it takes, 1"},
      {"data.size=7", "model.kl: pictures of 7x7 do not halve 1 times"},
      {"model.kl.norm_num_groups=3", "norm_num_groups: 3 does not divide block_out_channels[0], 4"},
      {"objective.reconstruction=l3", "l3"},
      {"objective.kl=-1", "objective.kl"},
      {"objective.beta=1", "objective.beta"},
      {"model.kl.latent_channels=0", "latent_channels"},
      {"model.kl.up_block_types=[UpDecoderBlock2D]", "up_block_types"},
      {"model.kl.latents_std=[1, 2, 3]", "latents_std: 3 numbers; latent_channels is 2"},
  };
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    elbo_status status = run_job(ctx, (job){RECIPE(SMALL_KL), NULL, bad[i].override, false, -1}, &result);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s: %s, message '%s'", bad[i].override, elbo_status_name(status), elbo_ctx_message(ctx));
  }
  elbo_model *m;
  elbo_array *x = some_pictures(ctx, 1), *y;
  const char *run = test_path("refused");
  assert_ok(ctx, run_job(ctx, (job){RECIPE(SMALL_KL), run, NULL, false, -1}, &result));
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  assert_status(ctx, elbo_decode(m, x, NULL, &y), ELBO_ERROR_ARGUMENT, "decode: (n,height,width,2) with sides of at least 1 was expected");
  assert_status(ctx, elbo_encode(m, x, x, &y, NULL), ELBO_ERROR_ARGUMENT, "an autoencoder is not conditioned on one");
  ((float *)x->data)[9] = NAN;
  assert_status(ctx, elbo_encode(m, x, NULL, &y, NULL), ELBO_ERROR_NUMERIC, "example 0 holds a value that is not finite");
  x->dim[1] = 7;
  assert_status(ctx, elbo_reconstruct(m, x, NULL, 0, 0, &y), ELBO_ERROR_ARGUMENT, "pictures of 7x8 would come back as 6x8");
  elbo_array_destroy(&x);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_resume), cmocka_unit_test(test_learns),
                                     cmocka_unit_test(test_model),  cmocka_unit_test(test_scores), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
