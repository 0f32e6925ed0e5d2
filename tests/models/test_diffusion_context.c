// Models that are told a sequence of embeddings for each example: what they learn from it, runs that go on as if nothing had been, samples,
// likelihoods, files, and what is refused.
#include "models/diffusion_cases.h"

#include <elbo/train.h>

#include "core/file.h"

enum { TOKENS = 2, DIM = 10, IMAGES = 12000, JUDGED = 400 };

static elbo_ctx *ctx;
static char told[300], wrong[300];

// What a text encoder would make of the name of each digit: the class as a one-hot vector, and its opposite behind it.
static void embed(int32_t label, float *out) {
  for (int k = 0; k < DIM; k++) out[k] = k == label ? 4 : 0, out[DIM + k] = -out[k];
}

// The embeddings of all digits, training and test set one behind the other, as data.condition takes them; `shift`: of another class.
static void write_embeddings(const char *path, int shift) {
  elbo_dataset *ds;
  elbo_array *all = array_of(ctx, 3, (int64_t[]){IMAGES, TOKENS, DIM}), *x, *label;
  int64_t at = 0;
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 2, (const char *const[]){"holdout=0", "size=8"}, &ds));
  for (int s = 0; s < 3; s += 2) {
    assert_ok(ctx, elbo_dataset_read(ds, (elbo_split)s, 0, IMAGES, 0, 0, &x, &label));
    for (int64_t i = 0; i < x->dim[0]; i++, at++)
      embed((((int32_t *)label->data)[i] + shift) % DIM, (float *)all->data + at * TOKENS * DIM);
    elbo_array_destroy(&x), elbo_array_destroy(&label);
  }
  assert_int_equal(at, IMAGES);
  assert_ok(ctx, elbo_npy_write(ctx, path, all));
  elbo_array_destroy(&all);
  elbo_dataset_destroy(&ds);
}

static int stop_at(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)total, (void)text;
  return !(user && !strcmp(what, "train") && done >= *(int64_t *)user);
}

enum { COMMON = 13, MOST = COMMON + 4 };
static elbo_status train(const char *out, bool resume, int64_t stop, const char *condition, int n_more, const char *const *more) {
  char named[400];
  snprintf(named, sizeof named, "data.condition=\"%s\"", condition);
  const char *overrides[MOST] = {named,
                                 "data.path=digits",
                                 "data.size=8",
                                 "data.holdout=40",
                                 "model.network=unet",
                                 "model.unet={class: UNet2DConditionModel, block_out_channels: [16, 16], layers_per_block: 1, "
                                 "down_block_types: [DownBlock2D, CrossAttnDownBlock2D], up_block_types: [CrossAttnUpBlock2D, UpBlock2D], "
                                 "norm_num_groups: 4, attention_head_dim: 2, cross_attention_dim: 10}",
                                 "model.process={steps: 20, betas: cosine}",
                                 "model.prediction=x0",
                                 "model.condition={type: context, tokens: 2, dim: 10, dropout: 0.1}",
                                 "sample={sampler: ddim, steps: 3, batch_size: 20}",
                                 "train.batch_size=16",
                                 "train.learning_rate=1e-2",
                                 "train.preview_every=0"};
  elbo_recipe *recipe;
  elbo_train_config config;
  elbo_train_result result;
  for (int i = 0; i < n_more; i++) overrides[COMMON + i] = more[i];
  TRY(elbo_recipe_load(ctx, "ddpm", COMMON + n_more, overrides, &recipe));
  elbo_train_defaults(&config);
  config.out = out, config.resume = resume, config.progress = stop_at, config.progress_user = stop ? &stop : NULL;
  elbo_status status = elbo_train(ctx, recipe, &config, &result);
  elbo_recipe_destroy(&recipe);
  return status;
}

static elbo_model *load(const char *path) {
  elbo_model *m;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  return m;
}

// Mean loss of test images under the embeddings of a file, by the same times and noise each time; "": under the null sequence.
static double loss_under(elbo_model *m, const char *condition) {
  char named[400];
  const diffusion_objective simple = {.weighting = WEIGHTING_SIMPLE};
  elbo_dataset *ds;
  elbo_array *x, *embeddings;
  double sum = 0;
  snprintf(named, sizeof named, "condition=%s", *condition ? condition : told);
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 2, (const char *const[]){named, "size=8"}, &ds));
  assert_ok(ctx, diffusion_read(&m->diffusion->spec, ds, ELBO_SPLIT_TEST, 0, JUDGED, &x, &embeddings));
  assert_int_equal(embeddings->rank, 3);
  if (!*condition) memset(embeddings->data, 0, elbo_array_bytes(embeddings));
  assert_ok(ctx, diffusion_validation_loss(m, &simple, x, embeddings, 0, 5, &sum));
  elbo_array_destroy(&x), elbo_array_destroy(&embeddings);
  elbo_dataset_destroy(&ds);
  return sum / JUDGED;
}

static elbo_array *sample(elbo_model *m, const elbo_array *condition, int n_options, const char *const *options) {
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = condition ? condition->dim[0] : 4, config.condition = condition, config.n_options = n_options, config.options = options;
  assert_ok(ctx, elbo_sample(m, &config, &x));
  return x;
}

// Held-out digits are predicted better with their own embeddings than with none, and worst with another digit's.
static void test_learns(void **state) {
  (void)state;
  const char *run = test_path("learned");
  assert_ok(ctx, train(run, false, 0, told, 2, (const char *const[]){"train.steps=250", "train.schedule=cosine"}));
  elbo_model *m = load(run);
  double own = loss_under(m, told), null = loss_under(m, ""), other = loss_under(m, wrong);
  print_message("loss %.5f under the digit's own embeddings, %.5f under none, %.5f under another's\n", own, null, other);
  assert_true(own < 0.9 * null);
  assert_true(own < 0.8 * other);
  elbo_model_destroy(&m);
}

static void test_resume(void **state) {
  (void)state;
  const char *const more[] = {"train.steps=12", "train.checkpoint_every=6", "train.ema=0.9", "train.accumulate=2"};
  char one[256], two[256], command[1024], *output;
  snprintf(one, sizeof one, "%s", test_path("straight")), snprintf(two, sizeof two, "%s", test_path("broken"));
  assert_ok(ctx, train(one, false, 0, told, 4, more));
  assert_int_equal(train(two, false, 5, told, 4, more), ELBO_ERROR_STOPPED);
  assert_ok(ctx, train(two, true, 0, told, 4, more));
  snprintf(command, sizeof command,
           "cd '%s' && for f in training/state.safetensors unet/diffusion_pytorch_model.safetensors unet/config.json model_index.json; do "
           "cmp straight/checkpoints/step-12/$f broken/checkpoints/step-12/$f || exit 1; done",
           test_directory());
  if (test_run(command, &output)) fail_msg("%s", output);
  free(output);
  // the embeddings do count: another digit's lead elsewhere
  assert_ok(ctx, train(test_path("otherwise"), false, 0, wrong, 4, more));
  snprintf(command, sizeof command,
           "cd '%s' && f=checkpoints/step-12/unet/diffusion_pytorch_model.safetensors && test -f otherwise/$f && "
           "! cmp -s straight/$f otherwise/$f",
           test_directory());
  assert_int_equal(test_run(command, NULL), 0);
}

// What is dropped leaves no trace: with all of them dropped, whatever the embeddings say, the weights are the same.
static void test_dropout(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    const char *const more[] = {"train.steps=4", "train.checkpoint_every=4",
                                k ? "model.condition.dropout=0" : "model.condition.dropout=0.999"};
    char command[700];
    snprintf(command, sizeof command, "cd '%s' && rm -rf one two", test_directory());
    assert_int_equal(test_run(command, NULL), 0);
    assert_ok(ctx, train(test_path("one"), false, 0, told, 3, more));
    assert_ok(ctx, train(test_path("two"), false, 0, wrong, 3, more));
    snprintf(command, sizeof command,
             "cd '%s' && f=checkpoints/step-4/unet/diffusion_pytorch_model.safetensors && test -f one/$f && test -f two/$f && "
             "cmp -s one/$f two/$f",
             test_directory());
    assert_int_equal(test_run(command, NULL), k);
  }
}

// A checkpoint holds what sampling needs; each sample is that of its own row; guidance 0 is the null sequence, whatever is told.
static void test_samples(void **state) {
  (void)state;
  elbo_model *m = load(test_path("straight"));
  elbo_array *two = array_of(ctx, 3, (int64_t[]){4, TOKENS, DIM}), *x, *y, *none[2], *without;
  elbo_model_info info;
  elbo_model_get_info(m, &info);
  assert_int_equal(info.condition_tokens, TOKENS);
  assert_int_equal(info.condition_dim, DIM);
  assert_string_equal(denoiser_class_name(&m->diffusion->spec.model.denoiser), "UNet2DConditionModel");
  for (int i = 0; i < 4; i++) embed(i, (float *)two->data + i * TOKENS * DIM);
  x = sample(m, two, 0, NULL), none[0] = sample(m, two, 1, (const char *const[]){"guidance.scale=0"});
  embed(9, (float *)two->data + 2 * TOKENS * DIM);
  y = sample(m, two, 0, NULL), none[1] = sample(m, two, 1, (const char *const[]){"guidance.scale=0"});
  without = sample(m, NULL, 0, NULL);
  for (int i = 0; i < 4; i++) {
    int64_t worst;
    assert_int_equal(test_close((float *)y->data + i * 64, (float *)x->data + i * 64, 64, 1e-5, &worst), i != 2);
  }
  assert_close(none[0]->data, none[1]->data, 4 * 64, 1e-5);
  assert_close(none[0]->data, without->data, 4 * 64, 1e-5);
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.n = 3, config.condition = two;
  elbo_array *refused;
  assert_status(ctx, elbo_sample(m, &config, &refused), ELBO_ERROR_ARGUMENT, "condition: float32 (3,2,10) was expected");
  elbo_array *all[] = {two, x, y, none[0], none[1], without};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) elbo_array_destroy(&all[i]);
  elbo_model_destroy(&m);
}

// -log p(x | its embeddings): under others it is another number.
static void test_evaluates(void **state) {
  (void)state;
  elbo_model *m = load(test_path("straight"));
  double bpd[2];
  for (int k = 0; k < 2; k++) {
    char named[400];
    elbo_dataset *ds;
    elbo_eval_config config;
    elbo_eval_result *r;
    snprintf(named, sizeof named, "condition=%s", k ? wrong : told);
    assert_ok(ctx, elbo_dataset_open(ctx, "digits", 2, (const char *const[]){named, "size=8"}, &ds));
    elbo_eval_defaults(&config);
    config.metrics = "bpd,ode_bpd", config.limit = 4, config.tolerance = 1e-2;
    assert_ok(ctx, elbo_evaluate(m, ds, &config, &r));
    assert_true(elbo_eval_count(r) >= 2);
    bpd[k] = elbo_eval_metric(r, 0)->value;
    for (int i = 0; i < elbo_eval_count(r); i++) assert_true(isfinite(elbo_eval_metric(r, i)->value));
    elbo_eval_destroy(&r);
    elbo_dataset_destroy(&ds);
  }
  assert_true(fabs(bpd[0] - bpd[1]) > 1e-6);
  elbo_dataset *bare;
  elbo_eval_config config;
  elbo_eval_result *r;
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 1, (const char *const[]){"size=8"}, &bare));
  elbo_eval_defaults(&config);
  config.limit = 4;
  assert_status(ctx, elbo_evaluate(m, bare, &config, &r), ELBO_ERROR_ARGUMENT,
                "evaluate: model.condition.type: context, but the data carry none");
  elbo_dataset_destroy(&bare);
  elbo_model_destroy(&m);
}

static void test_refused(void **state) {
  (void)state;
  const char *run = test_path("refused");
  char few[300], flat[300], shorter[300];
  snprintf(few, sizeof few, "%s", test_path("few.npy")), snprintf(flat, sizeof flat, "%s", test_path("flat.npy"));
  snprintf(shorter, sizeof shorter, "%s", test_path("shorter.npy"));
  elbo_array *rows = array_of(ctx, 3, (int64_t[]){IMAGES - 1, TOKENS, DIM}), *vectors = array_of(ctx, 2, (int64_t[]){IMAGES, DIM}),
             *one = array_of(ctx, 3, (int64_t[]){IMAGES, TOKENS - 1, DIM});
  assert_ok(ctx, elbo_npy_write(ctx, few, rows));
  assert_ok(ctx, elbo_npy_write(ctx, flat, vectors));
  assert_ok(ctx, elbo_npy_write(ctx, shorter, one));
  assert_status(ctx, train(run, false, 0, few, 0, NULL), ELBO_ERROR_FORMAT, "(12000,embeddings,numbers)");
  assert_status(ctx, train(run, false, 0, few, 0, NULL), ELBO_ERROR_FORMAT, "it is (11999,2,10)");
  assert_status(ctx, train(run, false, 0, flat, 0, NULL), ELBO_ERROR_ARGUMENT, "the data give vectors, not sequences");
  assert_status(ctx, train(run, false, 0, shorter, 0, NULL), ELBO_ERROR_ARGUMENT,
                "model.condition.tokens: 2, but the data give sequences of 1 embeddings");
  assert_status(ctx, train(run, false, 0, "", 0, NULL), ELBO_ERROR_ARGUMENT, "context, but the data carry none");
  assert_status(ctx, train(run, false, 0, told, 1, (const char *const[]){"model.condition.dim=9"}), ELBO_ERROR_ARGUMENT,
                "model.condition.dim: 9, but the data give embeddings of 10 numbers");
  assert_status(ctx, train(run, false, 0, told, 1, (const char *const[]){"model.condition.type=vector"}), ELBO_ERROR_ARGUMENT,
                "vector, but the data give sequences");
  assert_status(ctx, train(run, false, 0, told, 1, (const char *const[]){"model.unet.cross_attention_dim=8"}), ELBO_ERROR_ARGUMENT,
                "takes a context of width 8; model.condition gives 10");
  elbo_array_destroy(&rows), elbo_array_destroy(&vectors), elbo_array_destroy(&one);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_learns),  cmocka_unit_test(test_resume),    cmocka_unit_test(test_dropout),
                                     cmocka_unit_test(test_samples), cmocka_unit_test(test_evaluates), cmocka_unit_test(test_refused)};
  ctx = test_ctx(1);
  snprintf(told, sizeof told, "%s", test_path("told.npy")), snprintf(wrong, sizeof wrong, "%s", test_path("wrong.npy"));
  write_embeddings(told, 0);
  write_embeddings(wrong, 3);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
