// Small trainings end to end: a recipe and data in, a run out that is loaded, scored and drawn from; collapse that is noticed, and cured.
#include "models/vae_cases.h"

#include <elbo/image.h>
#include <elbo/model.h>
#include <elbo/train.h>

#include "models/estimate.h"

typedef struct messages {
  char text[1 << 14];
  size_t used;
  int warnings;
} messages;

static void keep(void *user, elbo_log_level level, const char *text) {
  messages *m = user;
  m->warnings += level == ELBO_LOG_WARNING;
  int n = snprintf(m->text + m->used, sizeof m->text - m->used, "%s\n", text);
  if (n > 0 && m->used + (size_t)n < sizeof m->text) m->used += (size_t)n;
}

static elbo_ctx *listening(messages *m) {
  elbo_ctx_config config;
  elbo_ctx *ctx;
  memset(m, 0, sizeof *m);
  elbo_ctx_defaults(&config);
  config.log = keep, config.log_user = m;
  config.threads = 1; // small work: the threads would wait for one another more than they do
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &ctx), ELBO_OK);
  return ctx;
}

static elbo_train_result train(elbo_ctx *ctx, const char *recipe, const char *out, int n, const char *const *overrides) {
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result result;
  assert_ok(ctx, elbo_recipe_load(ctx, recipe, n, overrides, &r));
  elbo_train_defaults(&config);
  config.out = out;
  assert_ok(ctx, elbo_train(ctx, r, &config, &result));
  elbo_recipe_destroy(&r);
  return result;
}

static const elbo_metric *find(const elbo_eval_result *r, const char *name) {
  for (int i = 0; i < elbo_eval_count(r); i++)
    if (strcmp(elbo_eval_metric(r, i)->name, name) == 0) return elbo_eval_metric(r, i);
  return NULL;
}

static void test_digits(void **state) {
  (void)state;
  static const char *const overrides[] = {
      "train.steps=120",           "train.checkpoint_every=60", "train.ema=0.9",        "data.holdout=200",
      "model.encoder.hidden=[64]", "model.decoder.hidden=[64]", "model.prior.fitted=3", "data.limit=2000"};
  messages log;
  elbo_ctx *ctx = listening(&log);
  const char *run = test_path("run");
  elbo_train_result result = train(ctx, "vae-mnist-mlp", run, 8, overrides);
  assert_int_equal(result.steps, 120);
  elbo_model *m;
  elbo_dataset *data;
  elbo_eval_result *score[2];
  elbo_eval_config config;
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  elbo_eval_defaults(&config);
  config.metrics = "elbo,iwae,nll,recon,kl,active_units,mutual_information,mismatch,psnr,mse,ssim,bits_per_dim", config.limit = 60,
  config.samples = 10;
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score[0]));
  const elbo_metric *bound = find(score[0], "elbo"), *iwae = find(score[0], "iwae"), *nll = find(score[0], "nll"),
                    *kl = find(score[0], "kl"), *recon = find(score[0], "recon");
  assert_true(bound && iwae && nll && kl && recon && find(score[0], "mutual_information") && find(score[0], "mismatch") &&
              find(score[0], "ssim"));
  assert_null(find(score[0], "bits_per_dim")); // not of binary pictures
  // 784 ln 2 = 543 nats is what knows nothing of digits
  assert_true(bound->value > -230 && bound->value < -60);
  assert_true(iwae->value > bound->value && iwae->k == 10 && bound->n == 60);
  assert_near(recon->value - kl->value, bound->value, 1e-6);
  assert_near(nll->value, -iwae->value, 5 * (iwae->mc_stderr + nll->mc_stderr));
  assert_true(bound->stderr_ > 0 && bound->mc_stderr > 0 && iwae->mc_stderr > 0);
  // per image, for paired comparison
  int64_t n;
  const double *each = elbo_eval_per_image(score[0], "elbo", &n);
  double sum = 0;
  assert_int_equal(n, 60);
  for (int64_t i = 0; i < n; i++) sum += each[i] / (double)n;
  assert_near(sum, bound->value, 1e-9);
  // again the same; and JSON that says what and of what
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score[1]));
  assert_string_equal(elbo_eval_json(score[0]), elbo_eval_json(score[1]));
  assert_non_null(strstr(elbo_eval_json(score[0]), "\"weights\": \"ema\""));
  assert_non_null(strstr(elbo_eval_json(score[0]), "\"kl_per_dim\""));
  for (int i = 0; i < 2; i++) elbo_eval_destroy(&score[i]);
  config.metrics = "elbo,fid";
  assert_status(ctx, elbo_evaluate(m, data, &config, &score[0]), ELBO_ERROR_ARGUMENT, "fid");

  // samples from the fitted mixture and from the prior; both in range, not the same
  elbo_array *x[2], *codes, *std, *again, *walk;
  for (int i = 0; i < 2; i++) {
    elbo_sample_config sample;
    elbo_sample_defaults(&sample);
    sample.n = 10, sample.prior = i;
    assert_ok(ctx, elbo_sample(m, &sample, &x[i]));
    for (int64_t k = 0; k < elbo_array_count(x[i]); k++) assert_true(((float *)x[i]->data)[k] >= 0 && ((float *)x[i]->data)[k] <= 1);
  }
  assert_memory_not_equal(x[0]->data, x[1]->data, elbo_array_bytes(x[0]));
  // encode, decode; the walk ends where reconstructions of its ends lie
  assert_ok(ctx, elbo_encode(m, x[0], NULL, &codes, &std));
  assert_ok(ctx, elbo_decode(m, codes, NULL, &again));
  elbo_array a = *x[0], b = *x[0];
  a.dim[0] = b.dim[0] = 1, b.data = (float *)x[0]->data + 784;
  assert_ok(ctx, elbo_interpolate(m, &a, &b, -1, 5, &walk));
  assert_int_equal(walk->dim[0], 5);
  assert_close(walk->data, again->data, 784, 1e-4);
  assert_close((float *)walk->data + 4 * 784, (float *)again->data + 784, 784, 1e-4);
  elbo_array_destroy(&x[0]), elbo_array_destroy(&x[1]), elbo_array_destroy(&codes), elbo_array_destroy(&std), elbo_array_destroy(&again);
  elbo_array_destroy(&walk);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// What may be called a log-likelihood, and what may not.
static void test_protocol(void **state) {
  (void)state;
  static const struct {
    const char *likelihood, *variance, *binarize, *dequantize;
    bool proper, bits;
  } cases[] = {
      {"bernoulli", "auto", "dynamic", "none", true, false},  {"bernoulli", "auto", "none", "none", false, false},
      {"gaussian", "pixel", "none", "none", false, false},    {"gaussian", "pixel", "none", "uniform", true, true},
      {"gaussian", "optimal", "none", "none", false, false},  {"logistic_mixture", "auto", "none", "none", true, true},
      {"categorical256", "auto", "none", "none", true, true},
  };
  elbo_ctx *ctx = test_ctx(1);
  elbo_dataset *data;
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[6][96], name[32];
    snprintf(text[0], 96, "model.decoder.likelihood=%s", cases[i].likelihood);
    snprintf(text[1], 96, "model.decoder.variance=%s", cases[i].variance);
    snprintf(text[2], 96, "data.binarize=%s", cases[i].binarize);
    snprintf(text[3], 96, "data.dequantize=%s", cases[i].dequantize);
    snprintf(name, sizeof name, "protocol%zu", i);
    const char *overrides[] = {text[0],
                               text[1],
                               text[2],
                               text[3],
                               "train.steps=2",
                               "train.batch_size=8",
                               "data.limit=100",
                               "model.encoder.hidden=[8]",
                               "model.decoder.hidden=[8]",
                               "train.checkpoint_every=2"};
    train(ctx, "vae-mnist-mlp", test_path(name), 10, overrides);
    elbo_model *m;
    elbo_eval_result *score;
    elbo_eval_config config;
    assert_ok(ctx, elbo_model_load(ctx, test_path(name), NULL, &m));
    elbo_eval_defaults(&config);
    config.metrics = "elbo,iwae,nll,bits_per_dim", config.limit = 5, config.samples = 2;
    assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
    bool named = find(score, "elbo") && find(score, "iwae") && find(score, "nll"),
         other = find(score, "bound_unnormalised") && find(score, "iwae_unnormalised") && find(score, "nll_unnormalised");
    if (named != cases[i].proper || other == cases[i].proper || (find(score, "bits_per_dim") != NULL) != cases[i].bits)
      fail_msg("%s, variance %s, binarize %s, dequantize %s: %s", cases[i].likelihood, cases[i].variance, cases[i].binarize,
               cases[i].dequantize, elbo_eval_json(score));
    if (other) assert_true(find(score, "bound_unnormalised")->note[0] != 0);
    elbo_eval_destroy(&score);
    elbo_model_destroy(&m);
  }
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
}

static void test_collapse(void **state) {
  (void)state;
  messages log;
  elbo_ctx *ctx = listening(&log);
  static const char *const overrides[] = {"train.steps=180", "train.checkpoint_every=180"};
  train(ctx, "collapse-on-purpose", test_path("collapsed"), 2, overrides);
  if (!log.warnings || !strstr(log.text, "posterior collapse")) fail_msg("nothing was said of the collapse: %s", log.text);
  assert_non_null(strstr(log.text, "objective.kl_warmup_steps"));
  assert_non_null(strstr(log.text, "objective.free_bits"));
  assert_non_null(strstr(log.text, "objective.beta"));
  elbo_ctx_destroy(&ctx);
  ctx = listening(&log);
  train(ctx, "collapse-cured", test_path("cured"), 2, overrides);
  if (strstr(log.text, "collapse:") || strstr(log.text, "over-regularised")) fail_msg("the cured run was warned: %s", log.text);
  assert_non_null(strstr(log.text, "index-code information"));
  elbo_ctx_destroy(&ctx);
}

// sigma-VAE: what evaluation uses is the width of the training set, kept with the weights.
static void test_optimal_sigma(void **state) {
  (void)state;
  static const char *const overrides[] = {"model.decoder.likelihood=gaussian",
                                          "model.decoder.variance=optimal",
                                          "data.binarize=none",
                                          "train.steps=40",
                                          "train.schedule=constant",
                                          "train.warmup_steps=0",
                                          "model.encoder.hidden=[64]",
                                          "model.decoder.hidden=[64]",
                                          "train.ema=0"};
  messages log;
  elbo_ctx *ctx = listening(&log);
  train(ctx, "vae-mnist-mlp", test_path("sigma"), 9, overrides);
  elbo_model *m;
  elbo_dataset *data;
  elbo_array *x, *y;
  assert_ok(ctx, elbo_model_load(ctx, test_path("sigma"), NULL, &m));
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  double sigma = exp((double)weights_of(ctx, m->store, "decoder.log_sigma", NULL)[0]), mse = 0;
  assert_ok(ctx, elbo_dataset_read(data, ELBO_SPLIT_TRAIN, 0, 500, 0, 0, &x, NULL));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, 3, &y));
  for (int64_t i = 0; i < elbo_array_count(x); i++)
    mse += pow(((float *)x->data)[i] - ((float *)y->data)[i], 2) / (double)elbo_array_count(x);
  assert_near(sigma / sqrt(mse), 1, 0.03);
  elbo_array_destroy(&x), elbo_array_destroy(&y);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// A decoder that is told a vector draws what it says: the ground's colour is in the attributes of the shapes, and grounds of samples follow
// it.
static void test_vector_condition(void **state) {
  (void)state;
  enum { N = 12, DIM = 21, GROUND = 14 }; // numbers GROUND to GROUND + 2: white, grey, black
  static const char text[] = "model: {latent: {dim: 4}, encoder: {type: mlp, hidden: [32]}, condition: {type: vector},\n"
                             "  decoder: {type: mlp, hidden: [64], likelihood: gaussian, variance: optimal}, prior: {type: learned}}\n"
                             "objective: {beta: 20}\n" // the code keeps what the vector does not say
                             "data: {path: 'shapes:size=16,train=2000,valid=50,test=50', condition: attributes}\n"
                             "train: {steps: 300, batch_size: 64, checkpoint_every: 0, learning_rate: 3e-3, ema: 0.9}\n";
  messages log;
  elbo_ctx *ctx = listening(&log);
  const char *recipe = test_path("vector.yaml");
  test_write_file(recipe, text, sizeof text - 1);
  train(ctx, recipe, test_path("vector"), 0, NULL);
  elbo_model *m;
  elbo_model_info info;
  elbo_array *told, *x;
  assert_ok(ctx, elbo_model_load(ctx, test_path("vector"), NULL, &m));
  elbo_model_get_info(m, &info);
  assert_int_equal(info.condition_dim, DIM);
  assert_ok(ctx, elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){3, DIM}, &told));
  for (int g = 0; g < 3; g++) { // a small red circle in the middle
    float *at = (float *)told->data + g * DIM;
    at[0] = at[6] = at[GROUND + g] = 1, at[GROUND + 5] = -0.85f;
  }
  elbo_sample_config sample;
  elbo_sample_defaults(&sample);
  sample.n = N;
  assert_status(ctx, elbo_sample(m, &sample, &x), ELBO_ERROR_ARGUMENT, "(rows,21)");
  sample.condition = told;
  assert_ok(ctx, elbo_sample(m, &sample, &x));
  for (int i = 0; i < N; i++) assert_near(((float *)x->data)[i * 16 * 16 * 3], 1 - 0.5 * (i % 3), 0.1);
  elbo_array_destroy(&x), elbo_array_destroy(&told);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_digits),   cmocka_unit_test(test_protocol),      cmocka_unit_test(test_vector_condition),
      cmocka_unit_test(test_collapse), cmocka_unit_test(test_optimal_sigma),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
