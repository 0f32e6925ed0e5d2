// LSGMs as people meet them: what is refused, a run after a VAE, resumption to the bit, the calls on what was written.
#include "models/lsgm_cases.h"
#include "models/train_job.h"

#include <elbo/model.h>
#include <elbo/train.h>

#include "core/file.h"

static void test_refused(void **state) {
  (void)state;
#define WITH(PRIOR) "{" LSGM_VAE ", prior: {" LSGM_MLP ", " PRIOR "}}"
  static const struct {
    const char *model, *part;
  } bad[] = {
      {WITH("process: {type: edm}"), "model.prior.process.type: a variance-preserving process was expected"},
      {WITH("process: {type: flow}"), "model.prior.process.type"},
      {WITH("process: {type: ve}"), "model.prior.process.type"},
      {WITH("process: {type: learned}"), "model.prior.process.type"},
      {WITH("process: {type: discrete, zero_snr: true}"), "model.prior.process.zero_snr: false was expected"},
      {WITH("process: {type: linear, logsnr_min: 3, logsnr_max: -3}"), "model.prior.process.logsnr_min: 3 with logsnr_max -3"},
      {WITH("prediction: flow"), "model.prior.prediction: v, epsilon or x0"},
      {WITH("prediction: epsilon"), "model.prior.mixing: none was expected"},
      {WITH("process: {type: linear}, time_input: index"), "model.prior.time_input: index is of a discrete process"},
      {"{" LSGM_VAE ", prior: {network: unet}}", "model.prior.unet"},
      {"{" LSGM_VAE ", prior: {mlp: {time_width: 7}}}", "model.prior.mlp.time_width: 7"},
      {"{" LSGM_VAE ", prior: {mlp: {in_channels: 4}}}", "model.prior.mlp.in_channels"},
      {"{latent: {dim: 3, groups: [2, 1], channels: 2}, encoder: {channels: [4]}, decoder: {channels: [4]}, prior: {network: unet}}",
       "model.prior.network: mlp was expected: a code of 3 groups is a vector of 38 numbers"},
      {"{latent: {dim: 2}, encoder: {channels: [4]}, decoder: {channels: [4], likelihood: gaussian, variance: optimal}}",
       "model.decoder.variance: fixed, learned or pixel"},
      {"{latent: {dim: 2}, encoder: {channels: [4, 4, 4, 4]}}", "8x8 picture cannot be halved 4 times"},
  };
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    lsgm_recipe recipe = lsgm_recipe_of(ctx, a, bad[i].model, "{}");
    lsgm_spec s;
    elbo_status status = lsgm_spec_try(ctx, a, &recipe, &s);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s: %s, message '%s'", bad[i].model, elbo_status_name(status), elbo_ctx_message(ctx));
  }
  lsgm_recipe recipe = lsgm_recipe_of(ctx, a, LSGM_FLAT, "{}");
  lsgm_spec s;
  recipe.sample.guidance.scale = 2;
  assert_status(ctx, lsgm_spec_try(ctx, a, &recipe, &s), ELBO_ERROR_ARGUMENT, "sample.guidance.scale: 1 was expected");
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// --- runs ---

#define NETWORKS "latent: {dim: 3}, encoder: {channels: [4], hidden: [8]}, decoder: {channels: [4], hidden: [8]}"
#define DATA "data: {path: digits, limit: 200, holdout: 20}"
#define TINY                                                                                                                    \
  "model: {preset: lsgm, " NETWORKS ", prior: {mlp: {width: 8, layers: 1, time_width: 8}}}\nobjective: {spectral: 0.01}\n" DATA \
  "\ntrain: {steps: 8, batch_size: 8, ema: 0.9, learning_rate: 0.003, checkpoint_every: 4, log_every: 2, preview_every: 4}\n"

// Stopped and resumed, singular vectors included, with one time for both and with two; and whatever parts a batch comes in.
static void test_resume(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char *const overrides[] = {"objective.weighting=unweighted", "objective={weighting: reweighted, times: separate}",
                                          "train.accumulate=2"};
  for (size_t i = 0; i < sizeof overrides / sizeof *overrides; i++) {
    char whole[4096], parts[4096], name[32];
    snprintf(name, sizeof name, "whole-%d", (int)i);
    snprintf(whole, sizeof whole, "%s", test_path(name));
    snprintf(name, sizeof name, "parts-%d", (int)i);
    snprintf(parts, sizeof parts, "%s", test_path(name));
    assert_ok(ctx, run_job(ctx, (job){TINY, whole, overrides[i], false, -1}, NULL));
    assert_int_equal(run_job(ctx, (job){TINY, parts, overrides[i], false, 3}, NULL), ELBO_ERROR_STOPPED);
    assert_int_equal(run_job(ctx, (job){TINY, parts, overrides[i], true, 6}, NULL), ELBO_ERROR_STOPPED);
    assert_ok(ctx, run_job(ctx, (job){TINY, parts, overrides[i], true, -1}, NULL));
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/training/state.safetensors");
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/training/state.json");
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/latent_prior/network/diffusion_pytorch_model.safetensors");
    assert_same_file(ctx, whole, parts, "samples/step-8.png");
  }
  elbo_ctx_destroy(&ctx);
}

// Every pair of weighting and times trains all parts, on vectors, maps and groups.
static void test_combinations(void **state) {
  (void)state;
#define MAP                                                                                                                               \
  "{preset: lsgm, latent: {groups: [0, 1], channels: 2, width: 6}, encoder: {channels: [4]}, decoder: {channels: [4]}, prior: {network: " \
  "unet, unet: {block_out_channels: [4, 4], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], up_block_types: "          \
  "[UpBlock2D, UpBlock2D], norm_num_groups: 2, attention_head_dim: 4}}}"
#define GROUPS                                                                                                                          \
  "{preset: lsgm, latent: {dim: 2, groups: [2, 1], channels: 1, width: 6}, encoder: {channels: [4]}, decoder: {channels: [4]}, prior: " \
  "{process: {type: discrete}, mlp: {width: 8, layers: 1, time_width: 8}, prediction: epsilon, mixing: none}}"
#define FLAT "{preset: lsgm, " NETWORKS ", prior: {process: {type: sigmoid}, mlp: {width: 8, layers: 1, time_width: 8}, mixing: dimension}}"
  static const char *const models[] = {FLAT, MAP, GROUPS};
  static const char *const objectives[] = {"{}", "{weighting: unweighted, importance: false}",
                                           "{weighting: reweighted, times: separate, kl_warmup_steps: 2}",
                                           "{weighting: unweighted, spectral: 0.1, beta: 2}"};
  elbo_ctx *ctx = test_ctx(1);
  for (size_t m = 0; m < 3; m++)
    for (size_t o = 0; o < 4; o++) {
      char text[2048], name[32], path[8192], *lines;
      size_t size;
      elbo_model *model;
      elbo_array *x, *mean, *y, *again;
      elbo_dataset *data;
      snprintf(text, sizeof text,
               "model: %s\nobjective: %s\ndata: {path: digits, limit: 60, holdout: 10}\ntrain: {steps: 2, batch_size: 4, ema: 0}\n",
               models[m], objectives[o]);
      snprintf(name, sizeof name, "pair-%d-%d", (int)m, (int)o);
      const char *out = test_path(name);
      assert_ok(ctx, run_job(ctx, (job){text, out, NULL, false, -1}, NULL));
      snprintf(path, sizeof path, "%s/metrics.jsonl", out);
      assert_ok(ctx, file_read(ctx, path, 1 << 20, &lines, &size));
      static const char *const told[] = {"\"elbo\"",          "\"recon\"",      "\"kl\"",   "\"entropy\"",
                                         "\"cross_entropy\"", "\"score_loss\"", "\"valid\""};
      for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (!strstr(lines, told[i])) fail_msg("%s: metrics.jsonl lacks %s: %.300s", text, told[i], lines);
      assert_true((strstr(lines, "\"cross_entropy_group\"") != NULL) == (m == 2));
      assert_true((strstr(lines, "\"spectral\"") != NULL) == (o == 3));
      free(lines);
      // there and back through the mean is one path, whatever a code is
      assert_ok(ctx, elbo_model_load(ctx, out, NULL, &model));
      assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
      assert_ok(ctx, elbo_dataset_read(data, ELBO_SPLIT_TEST, 0, 3, 0, 0, &x, NULL));
      assert_ok(ctx, elbo_encode(model, x, NULL, &mean, NULL));
      assert_ok(ctx, elbo_decode(model, mean, NULL, &y));
      assert_ok(ctx, elbo_reconstruct(model, x, NULL, 0, 0, &again));
      for (int64_t i = 0; i < elbo_array_count(y); i++) assert_near(((float *)y->data)[i], ((float *)again->data)[i], 1e-5);
      elbo_array_destroy(&x), elbo_array_destroy(&mean), elbo_array_destroy(&y), elbo_array_destroy(&again);
      elbo_sample_config config;
      elbo_sample_defaults(&config);
      const char *options[] = {"sampler=rk45", "rtol=1e-2", "atol=1e-2"};
      config.n = 3, config.options = options, config.n_options = o == 0 ? 3 : 0;
      assert_ok(ctx, elbo_sample(model, &config, &x));
      assert_true(x->rank == 4 && x->dim[0] == 3 && x->dim[1] == 28);
      elbo_array_destroy(&x);
      elbo_dataset_destroy(&data);
      elbo_model_destroy(&model);
    }
  elbo_ctx_destroy(&ctx);
}

// After a VAE: the first step's model is that VAE, its prior N(0, I); the bound begins where the VAE's ended.
static void test_after_a_vae(void **state) {
  (void)state;
  static const char *const recipe = "stages:\n"
                                    "  - {name: plain, model: {" NETWORKS "}, " DATA ", train: {steps: 30, batch_size: 8, ema: 0}}\n"
                                    "  - {name: joint, model: {preset: lsgm, " NETWORKS "}, " DATA
                                    ", train: {steps: 1, batch_size: 8, ema: 0, init: plain, learning_rate: 1e-12}}\n";
  elbo_ctx *ctx = test_ctx(1);
  const char *out = test_path("stages");
  char first[4200];
  assert_ok(ctx, run_job(ctx, (job){recipe, out, NULL, false, -1}, NULL));
  snprintf(first, sizeof first, "%s/stages/1-plain", out);
  elbo_eval_config config;
  elbo_dataset *data;
  double elbo[2];
  elbo_eval_defaults(&config);
  config.limit = 200, config.metrics = "elbo";
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  for (int k = 0; k < 2; k++) {
    elbo_model *m;
    elbo_eval_result *score;
    assert_ok(ctx, elbo_model_load(ctx, k ? out : first, NULL, &m));
    assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
    elbo[k] = elbo_eval_metric(score, 0)->value;
    if (k) assert_true(elbo_eval_metric(score, 0)->mc_stderr < 0.5);
    elbo_eval_destroy(&score);
    elbo_model_destroy(&m);
  }
  assert_near(elbo[1], elbo[0], 0.5); // two draws of z each
  elbo_dataset_destroy(&data);
  // networks that are not the VAE's are refused by name, the prior's, which the VAE lacks, not among them
  job other = {recipe, test_path("other"), "stages.joint.model.decoder.hidden=[9]", false, -1};
  assert_status(ctx, run_job(ctx, other, NULL), ELBO_ERROR_ARGUMENT, "of another shape: decoder.");
  assert_null(strstr(elbo_ctx_message(ctx), "denoiser"));
  // but one that is there must fit: from an LSGM to another
  char init[4300], text[8192];
  snprintf(init, sizeof init, "%s", out);
  snprintf(text, sizeof text,
           "model: {preset: lsgm, " NETWORKS ", prior: {mlp: {layers: 6}}}\n" DATA "\ntrain: {steps: 1, batch_size: 8, init: '%s'}\n",
           init);
  assert_status(ctx, run_job(ctx, (job){text, test_path("deeper"), NULL, false, -1}, NULL), ELBO_ERROR_ARGUMENT,
                "missing: denoiser.blocks.4.");
  snprintf(text, sizeof text, "model: {" NETWORKS "}\n" DATA "\ntrain: {steps: 1, batch_size: 8, init: '%s'}\n", init);
  assert_status(ctx, run_job(ctx, (job){text, test_path("narrower"), NULL, false, -1}, NULL), ELBO_ERROR_ARGUMENT, "unused: denoiser.");
  elbo_ctx_destroy(&ctx);
}

static void test_model(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *out = test_path("run");
  assert_ok(ctx, run_job(ctx, (job){TINY, out, NULL, false, -1}, NULL));
  elbo_model *m;
  elbo_model_info info;
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *score;
  elbo_array *x, *y;
  assert_ok(ctx, elbo_model_load(ctx, out, NULL, &m));
  elbo_model_get_info(m, &info);
  assert_string_equal(info.preset, "lsgm");
  assert_string_equal(info.likelihood, "bernoulli");
  assert_int_equal(info.latent_dim, 3);
  assert_int_equal(info.step, 8);
  // a sample is a function of its number
  elbo_sample_config sample;
  elbo_sample_defaults(&sample);
  sample.n = 5;
  assert_ok(ctx, elbo_sample(m, &sample, &x));
  sample.n = 2;
  assert_ok(ctx, elbo_sample(m, &sample, &y));
  for (int i = 0; i < 2 * 784; i++) assert_near(((float *)x->data)[i], ((float *)y->data)[i], 1e-4);
  elbo_array_destroy(&y);
  sample.label = 3;
  assert_status(ctx, elbo_sample(m, &sample, &y), ELBO_ERROR_ARGUMENT, "not conditioned");
  elbo_array a = *x, b = *x;
  a.dim[0] = b.dim[0] = 1, b.data = (float *)x->data + 784;
  assert_ok(ctx, elbo_interpolate(m, &a, &b, -1, 4, &y));
  assert_int_equal(y->dim[0], 4);
  elbo_array_destroy(&y), elbo_array_destroy(&x);
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  elbo_eval_defaults(&config);
  config.limit = 40, config.samples = 8, config.metrics = "elbo,recon,kl,entropy,cross_entropy,active_units,psnr,mismatch";
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
  int64_t n;
  assert_int_equal(elbo_eval_count(score), 8);
  const double *each = elbo_eval_per_image(score, "bound_unnormalised", &n); // a Bernoulli of grey pixels
  assert_true(each && n == 40);
  assert_non_null(elbo_eval_per_image(score, "cross_entropy", &n));
  elbo_eval_destroy(&score);
  config.metrics = "elbo,iwae";
  assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_UNSUPPORTED, "iwae: weighs draws by p(z)");
  config.metrics = "nll";
  assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_UNSUPPORTED, "nll");
  elbo_model_destroy(&m);
  // other weights of the checkpoint, and its prior alone as the diffusion model that it is
  elbo_model_config load;
  elbo_model_defaults(&load);
  load.ema = -1;
  assert_ok(ctx, elbo_model_load(ctx, out, &load, &m));
  elbo_model_destroy(&m);
  char folder[8192], *text = NULL;
  snprintf(folder, sizeof folder, "%s/checkpoints/step-8/latent_prior", out);
  assert_ok(ctx, elbo_model_load(ctx, folder, NULL, &m));
  sample.n = 2, sample.label = -1;
  assert_ok(ctx, elbo_sample(m, &sample, &x));
  assert_int_equal(x->dim[3], 3);
  elbo_array_destroy(&x);
  elbo_model_destroy(&m);
  assert_ok(ctx, elbo_report(ctx, out, data, 0, test_path("r.html")));
  assert_ok(ctx, file_read(ctx, test_path("r.html"), 1 << 24, &text, &(size_t){0}));
  assert_null(strstr(text, "not made"));
  assert_null(strstr(text, "not measured"));
  free(text);
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
}

// A likelihood of 256 levels has bits a dimension: the bound's, and the same image by image whatever weighting trained the prior.
static void test_levels(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *out = test_path("levels");
  static const char *const recipe =
      "model: {preset: lsgm, latent: {dim: 3}, encoder: {channels: [4]}, decoder: {channels: [4], likelihood: "
      "discretized_logistic}, prior: {mlp: {width: 8, layers: 1, time_width: 8}}}\n"
      "objective: {weighting: unweighted}\n" DATA "\ntrain: {steps: 2, batch_size: 8, ema: 0}\n";
  elbo_model *m;
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *score;
  int64_t n;
  assert_ok(ctx, run_job(ctx, (job){recipe, out, NULL, false, -1}, NULL));
  assert_ok(ctx, elbo_model_load(ctx, out, NULL, &m));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  elbo_eval_defaults(&config);
  config.limit = 30, config.metrics = "elbo,bits_per_dim,recon,kl";
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
  assert_int_equal(elbo_eval_count(score), 4);
  const double *elbo = elbo_eval_per_image(score, "elbo", &n), *recon = elbo_eval_per_image(score, "recon", &n),
               *kl = elbo_eval_per_image(score, "kl", &n);
  double mean = 0;
  for (int i = 0; i < 30; i++) {
    assert_near(elbo[i], recon[i] - kl[i], 1e-9 * fabs(elbo[i]));
    mean += elbo[i] / 30;
  }
  const elbo_metric *bits = elbo_eval_metric(score, 1);
  assert_string_equal(bits->name, "bits_per_dim");
  assert_near(bits->value, -mean / (784 * log(2)), 1e-9);
  assert_true(bits->mc_stderr > 0);
  // what a comparison may call it, and how it draws in few calls
  model_abilities can = {0};
  sample_option options[SAMPLE_OPTIONS];
  m->kind->abilities(m, &can);
  assert_string_equal(can.score[SCORE_ONE_SAMPLE], "bits_per_dim");
  assert_true(!can.score[SCORE_K_SAMPLES] && can.second_draws);
  assert_int_equal(m->kind->sample_within(m, 50, true, options), 0); // 25 steps of its own
  assert_int_equal(m->kind->sample_within(m, 10, true, options), 1);
  assert_string_equal(options[0], "steps=10");
  assert_non_null(strstr(elbo_eval_metric(score, 0)->note, "likelihood weighting"));
  elbo_eval_destroy(&score);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// A prior of other codes than the VAE's, put into its directory by hand.
static void test_another_prior(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  char directory[4096], command[9000];
  elbo_store *store[2];
  elbo_model *m;
  static const char *const models[] = {
      LSGM_FLAT, "{latent: {dim: 5}, encoder: {channels: [4]}, decoder: {channels: [4]}, prior: {" LSGM_PROCESS ", " LSGM_MLP "}}"};
  for (int k = 0; k < 2; k++) {
    lsgm_spec s = lsgm_spec_of(ctx, a, models[k]);
    assert_ok(ctx, lsgm_store_create(ctx, &s, 1, &store[k]));
    snprintf(directory, sizeof directory, "%s", test_path(k ? "five" : "three"));
    assert_ok(ctx, directory_make(ctx, directory));
    assert_ok(ctx, lsgm_directory_write(ctx, directory, &s, store[k], 3));
    assert_ok(ctx, elbo_model_load(ctx, directory, NULL, &m));
    elbo_model_destroy(&m);
    elbo_store_destroy(&store[k]);
  }
  snprintf(command, sizeof command, "rm -r '%s/latent_prior' && cp -r '%s/latent_prior' '%s'", test_path("three"), directory,
           test_path("three"));
  assert_int_equal(test_run(command, NULL), 0);
  assert_status(ctx, elbo_model_load(ctx, test_path("three"), NULL, &m), ELBO_ERROR_FORMAT,
                "a diffusion model of float (1,1,5); the codes of the VAE around it are float (1,1,3)");
  snprintf(command, sizeof command, "rm -r '%s/latent_prior'", test_path("three"));
  assert_int_equal(test_run(command, NULL), 0);
  assert_int_not_equal(elbo_model_load(ctx, test_path("three"), NULL, &m), ELBO_OK);
  assert_non_null(strstr(elbo_ctx_message(ctx), "latent_prior"));
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// The penalty is the sum of the largest singular values, once the iteration has followed them for a while.
static double largest_singular_value(const float *w, int64_t rows, int64_t columns) {
  double *v = calloc((size_t)columns, sizeof *v), *u = calloc((size_t)rows, sizeof *u), length = 0;
  for (int64_t j = 0; j < columns; j++) v[j] = 1 + 0.37 * (double)(j % 5);
  for (int k = 0; k < 3000; k++) {
    double norm = 0;
    for (int64_t j = 0; j < columns; j++) norm += v[j] * v[j];
    for (int64_t j = 0; j < columns; j++) v[j] /= sqrt(norm);
    length = 0;
    for (int64_t i = 0; i < rows; i++) {
      u[i] = 0;
      for (int64_t j = 0; j < columns; j++) u[i] += (double)w[i * columns + j] * v[j];
      length += u[i] * u[i];
    }
    for (int64_t j = 0; j < columns; j++) {
      v[j] = 0;
      for (int64_t i = 0; i < rows; i++) v[j] += (double)w[i * columns + j] * u[i];
    }
  }
  free(v), free(u);
  return sqrt(length);
}

static void test_spectral(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  lsgm_recipe recipe = lsgm_recipe_of(ctx, a, LSGM_FLAT, "{spectral: 0.5}");
  lsgm_spec s;
  lsgm_training_graph t;
  process *p;
  elbo_store *store;
  elbo_plan *plan;
  assert_ok(ctx, lsgm_spec_try(ctx, a, &recipe, &s));
  assert_ok(ctx, process_create(ctx, &s.prior.model.process, "process", &p));
  assert_ok(ctx, lsgm_training_build(ctx, &s, &recipe.objective, p, 2, &t));
  assert_ok(ctx, elbo_store_create(ctx, 1, &t.graph, test_seed(), &store));
  lsgm_shake(ctx, store, 0.1);
  elbo_tensor *value = NULL;
  for (int i = 0; i < t.n_metrics; i++)
    if (strcmp(t.metric[i].name, "spectral") == 0) value = t.metric[i].value;
  assert_non_null(value);
  assert_ok(ctx, elbo_plan_create(ctx, t.graph, 1, &value, NULL, &plan));
  for (int k = 0; k < 3000; k++) assert_ok(ctx, elbo_plan_run(plan, store));
  double want = 0;
  int weights = 0;
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info w;
    assert_ok(ctx, elbo_store_get(store, i, &w));
    if (w.kind != ELBO_PARAM_TRAINED || w.rank < 2 || !strstr(w.name, ".weight")) continue;
    want += largest_singular_value(w.data, w.dim[0], w.count / w.dim[0]);
    weights++;
  }
  assert_true(weights > 10);
  assert_near(((const float *)elbo_plan_output(plan, 0))[0] / want, 1, 1e-3);
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&t.graph);
  process_destroy(&p);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused),      cmocka_unit_test(test_resume),
                                     cmocka_unit_test(test_combinations), cmocka_unit_test(test_after_a_vae),
                                     cmocka_unit_test(test_model),        cmocka_unit_test(test_another_prior),
                                     cmocka_unit_test(test_spectral),     cmocka_unit_test(test_levels)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
