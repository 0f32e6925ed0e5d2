// Trainings of autoencoders: their losses against formulas, runs that are resumed to the bit, used and scored; what does not fit is
// refused.
#include "models/autoencoder_cases.h"

#include "models/code_restart.h"

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
  assert_ok(ctx, autoencoder_training_build(ctx, s, NULL, B, &e->training));
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

// --- codes that nothing takes ---

enum { CODES = 5, DIM = 2, PLACES = 6 };

static void set_store(elbo_ctx *ctx, elbo_store **store, float table) {
  elbo_graph *g;
  const int64_t codes = CODES, one = 1;
  assert_ok(ctx, elbo_graph_create(ctx, "table", &g));
  elbo_parameter(g, "quantize.embedding.weight", 2, (int64_t[]){CODES, DIM}, ELBO_PARAM_TRAINED,
                 (elbo_init){ELBO_INIT_KIND_CONSTANT, table, 0});
  elbo_parameter(g, CODE_AGE, 1, &codes, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_parameter(g, CODE_RESTARTS, 1, &one, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, store));
  elbo_graph_destroy(&g);
}

static float *floats(elbo_ctx *ctx, elbo_store *s, const char *name) {
  elbo_param_info p;
  assert_ok(ctx, elbo_store_find(s, name, &p));
  return p.data;
}

// Codes 1 and 3 are taken in turn, 0 once, 2 and 4 never. After three steps without, a code is where a place of the last batch was.
static void test_restart(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  float kept[2][CODES * DIM];
  for (int again = 0; again < 2; again++) {
    code_restart r;
    elbo_store *weights, *average;
    set_store(ctx, &weights, 100), set_store(ctx, &average, -100);
    assert_ok(ctx, code_restart_create(ctx, "quantize.embedding.weight", CODES, DIM, 3, PLACES, 11, &r));
    float *table = floats(ctx, weights, "quantize.embedding.weight"), *mean = floats(ctx, average, "quantize.embedding.weight"),
          *age = floats(ctx, weights, CODE_AGE), *count = floats(ctx, weights, CODE_RESTARTS);
    for (int step = 0; step < 4; step++) {
      float values[PLACES * (DIM + 1)], weight[2] = {1, step == 2 ? 0 : 1};
      for (int i = 0; i < PLACES; i++) {
        values[i * 3] = (float)(10 * step + i), values[i * 3 + 1] = (float)(-i);
        values[i * 3 + 2] = step == 0 && i == 5 ? 0 : (float)(1 + 2 * (i % 2));
        if (step == 2 && i >= 3) values[i * 3 + 2] = 2; // of an example that is padding
      }
      train_rows rows = {.step = step, .n = 2, .weight = weight, .weights = weights};
      code_restart_observe(&r, &rows, values);
      code_restart_step(&r, step, weights, 1, &average);
      if (step < 2) assert_true(count[0] == 0 && age[4] == (float)step + 1 && age[0] == (float)step && age[1] == 0);
      if (step == 2) assert_true(count[0] == 2 && age[2] == 0 && age[4] == 0 && age[0] == 2);
      if (step == 3) assert_true(count[0] == 3 && age[0] == 0 && age[4] == 1);
    }
    for (int k = 0; k < CODES; k++)
      for (int d = 0; d < DIM; d++) {
        const float at = table[k * DIM + d];
        const bool moved = k % 2 == 0;
        assert_true((at != 100) == moved && (mean[k * DIM + d] != -100) == moved);
        if (moved) assert_true(mean[k * DIM + d] == at);
        if (moved && d == 0) assert_true(k == 0 ? at >= 30 && at < 36 : at >= 20 && at < 23); // of that step, padding left out
        if (moved && d == 1) assert_true(at == -(float)((int)table[k * DIM] % 10));           // one place's numbers stay together
      }
    memcpy(kept[again], table, sizeof kept[again]);
    code_restart_free(&r);
    elbo_store_destroy(&weights), elbo_store_destroy(&average);
  }
  assert_memory_equal(kept[0], kept[1], sizeof kept[0]);
  elbo_ctx_destroy(&ctx);
}

// Of a table of many codes most are never taken but for restarts.
static void test_restarts_help(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char recipe[] = "model: {preset: autoencoder, network: vq, vq: {" SMALL_WIDTHS ", num_vq_embeddings: 256}}\n" SMALL_DATA
                               "train: {steps: 60, batch_size: 16, ema: 0, learning_rate: 0.003, log_every: 20}\n";
  double perplexity[2];
  for (int i = 0; i < 2; i++) {
    char name[32], path[4200], *text;
    size_t size;
    elbo_train_result result;
    snprintf(name, sizeof name, "table-%d", i);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path(name));
    assert_ok(ctx, run_job(ctx, (job){recipe, test_path(name), i ? "objective.restart_steps=5" : "objective.restart_steps=0", false, -1},
                           &result));
    assert_ok(ctx, file_read(ctx, path, 1 << 20, &text, &size));
    for (const char *at = text; (at = strstr(at, "\"perplexity\": ")); at += 14) perplexity[i] = strtod(at + 14, NULL); // the last
    assert_true((strstr(text, "\"restarted\"") != NULL) == (i == 1));
    free(text);
  }
  if (!(perplexity[1] > 3 * perplexity[0])) fail_msg("perplexity %g with restarts, %g without", perplexity[1], perplexity[0]);
  elbo_ctx_destroy(&ctx);
}

// --- runs ---

static void test_resume(void **state) {
  (void)state;
  static const char *const recipes[] = {RECIPE(SMALL_KL), RECIPE(SMALL_VQ), RECIPE(SMALL_TINY), RECIPE(SMALL_VQ),
                                        RECIPE(SMALL_KL ", discriminator: {channels: [4, 6]}")},
                           *const more[] = {NULL, "objective.restart_steps=2", NULL, "train.accumulate=2", "objective.adversarial=0.5"};
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < 5; i++) {
    char whole[4096], parts[4096], name[32];
    elbo_train_result result;
    snprintf(name, sizeof name, "whole-%d", i);
    snprintf(whole, sizeof whole, "%s", test_path(name));
    snprintf(name, sizeof name, "parts-%d", i);
    snprintf(parts, sizeof parts, "%s", test_path(name));
    assert_ok(ctx, run_job(ctx, (job){recipes[i], whole, more[i], false, -1}, &result));
    assert_true(isfinite(result.loss));
    assert_int_equal(run_job(ctx, (job){recipes[i], parts, more[i], false, 3}, &result), ELBO_ERROR_STOPPED);
    assert_int_equal(run_job(ctx, (job){recipes[i], parts, more[i], true, 6}, &result), ELBO_ERROR_STOPPED);
    assert_ok(ctx, run_job(ctx, (job){recipes[i], parts, more[i], true, -1}, &result));
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
      {"objective.restart_steps=-1", "objective.restart_steps"},
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_restart), cmocka_unit_test(test_restarts_help),
                                     cmocka_unit_test(test_resume), cmocka_unit_test(test_learns),  cmocka_unit_test(test_model),
                                     cmocka_unit_test(test_scores), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
