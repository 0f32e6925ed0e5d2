// Diffusion decoders trained, resumed, loaded and used: every call of elbo/model.h, to the bit where it should be, and what is refused.
#include "support/test.h"

#include <elbo/edit.h>
#include <elbo/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "eval/linear_direction.h"
#include "models/diffusion_decoder.h"
#include "models/recipe.h"
#include "tasks/edit_attributes.h"

static elbo_ctx *ctx;

#define DATA "data: {path: \"shapes:size=16,train=24,valid=4,test=8\"}"
#define UNET                                                                                                              \
  "network: unet, unet: {block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], " \
  "up_block_types: [UpBlock2D, UpBlock2D], add_attention: false, norm_num_groups: 4}, process: {steps: 10}"
#define TRAIN "{steps: 4, batch_size: 4, learning_rate: 0.01, ema: 0.5, checkpoint_every: 2, log_every: 2, preview_every: 4}"
#define DIFFAE "model: {preset: diffae, encoder: {type: conv, channels: [6, 8], hidden: [12], norm_groups: 2}, code: {dim: 5%s}, " UNET "}"
#define VAE "model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}"

static char diffae_text[2048], prior_text[4096], refiner_text[4096];

static void make_texts(void) {
  snprintf(diffae_text, sizeof diffae_text, DIFFAE "\nsample: {sampler: ddim, steps: 4, batch_size: 8}\n" DATA "\ntrain: " TRAIN "\n",
           ", fitted: 2");
  snprintf(prior_text, sizeof prior_text,
           "stages:\n  - name: autoencoder\n    " DIFFAE "\n    sample: {sampler: ddim, steps: 4, batch_size: 8}\n    " DATA
           "\n    train: " TRAIN
           "\n  - name: prior\n    model: {preset: code-prior, autoencoder: autoencoder, mlp: {width: 8, layers: 1, time_width: 8}, "
           "process: {steps: 50}}\n    sample: {steps: 4, batch_size: 8}\n    " DATA "\n    train: " TRAIN "\n",
           ", fitted: 0, kl: 0.01, maps: 2, hidden: [6, 4]");
  snprintf(refiner_text, sizeof refiner_text,
           "stages:\n  - name: vae\n    " VAE "\n    " DATA "\n    train: " TRAIN
           "\n  - name: refiner\n    model: {preset: diffusion-decoder, vae: vae, formulation: 2, fitted: 2, " UNET
           "}\n    sample: {sampler: dpmpp_2m, steps: 3, batch_size: 8}\n    " DATA "\n    train: " TRAIN "\n");
}

typedef struct watcher {
  int calls, stop_at;
} watcher;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what, (void)done, (void)total, (void)text;
  watcher *w = user;
  return ++w->calls != w->stop_at;
}

static elbo_status train(const char *text, const char *out, bool resume, int stop_at) {
  elbo_recipe *r;
  elbo_train_config config;
  elbo_train_result result;
  watcher w = {.stop_at = stop_at};
  const char *path = test_path("recipe.yaml");
  test_write_file(path, text, strlen(text));
  TRY(elbo_recipe_load(ctx, path, 0, NULL, &r));
  elbo_train_defaults(&config);
  config.out = out, config.resume = resume, config.progress = watch, config.progress_user = &w;
  elbo_status status = elbo_train(ctx, r, &config, &result);
  elbo_recipe_destroy(&r);
  return status;
}

static void same_file(const char *a, const char *b, const char *name) {
  char path[2][8300], *data[2];
  size_t size[2];
  for (int i = 0; i < 2; i++) {
    snprintf(path[i], sizeof path[i], "%s/%s", i ? b : a, name);
    assert_ok(ctx, file_read(ctx, path[i], 1 << 26, &data[i], &size[i]));
  }
  if (size[0] != size[1] || memcmp(data[0], data[1], size[0])) fail_msg("%s and %s differ", path[0], path[1]);
  free(data[0]), free(data[1]);
}

static void resumes(const char *text, const char *name, int stop_at, int n, const char *const *files) {
  char whole[4096], parts[4096];
  snprintf(whole, sizeof whole, "%s/%s", test_directory(), name);
  snprintf(parts, sizeof parts, "%s/%s-parts", test_directory(), name);
  assert_ok(ctx, train(text, whole, false, 0));
  assert_int_equal(train(text, parts, false, stop_at), ELBO_ERROR_STOPPED);
  assert_ok(ctx, train(text, parts, true, 0));
  for (int i = 0; i < n; i++) same_file(whole, parts, files[i]);
}

static elbo_array *pictures(elbo_split split, int64_t n) {
  elbo_dataset *data;
  elbo_array *x;
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=16,train=24,valid=4,test=8", 0, NULL, &data));
  assert_ok(ctx, elbo_dataset_read(data, split, 0, n, 0, 0, &x, NULL));
  elbo_dataset_destroy(&data);
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = 2 * ((float *)x->data)[i] - 1;
  return x;
}

static elbo_model *load(const char *path, double ema) {
  elbo_model *m;
  elbo_model_config config;
  elbo_model_defaults(&config);
  config.ema = ema;
  assert_ok(ctx, elbo_model_load(ctx, path, &config, &m));
  return m;
}

static bool same(const elbo_array *a, const elbo_array *b, int64_t rows) {
  return memcmp(a->data, b->data, (size_t)rows * (elbo_array_bytes(a) / (size_t)a->dim[0])) == 0;
}

static elbo_array *samples_of(elbo_model *m, int64_t n, int prior) {
  elbo_sample_config config;
  elbo_array *x;
  elbo_sample_defaults(&config);
  config.n = n, config.seed = 5, config.prior = prior;
  assert_ok(ctx, elbo_sample(m, &config, &x));
  return x;
}

// What holds of all of them.
static void use(elbo_model *m, int64_t dim) {
  elbo_model_info info;
  elbo_array *x = pictures(ELBO_SPLIT_TEST, 5), *mean, *std, *noise, *y, *again, *walk, *few, *z;
  elbo_model_get_info(m, &info);
  assert_int_equal(info.latent_dim, dim);
  assert_string_equal(info.likelihood, "none");
  assert_ok(ctx, elbo_encode(m, x, NULL, &mean, &std));
  assert_int_equal(mean->dim[1], dim);
  // a reconstruction is the code's mean decoded with the picture's own noise
  assert_ok(ctx, elbo_encode_noise(m, x, NULL, &noise));
  assert_ok(ctx, elbo_decode_noise(m, mean, noise, &y));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 0, 0, &again));
  assert_true(same(y, again, 5));
  // a walk begins and ends with those of its ends
  elbo_array a = *x, b = *x;
  a.dim[0] = b.dim[0] = 1, b.data = (float *)x->data + elbo_array_count(x) / 5;
  assert_ok(ctx, elbo_interpolate(m, &a, &b, -1, 3, &walk));
  assert_close(walk->data, y->data, elbo_array_count(x) / 5, 1e-4);
  assert_close((float *)walk->data + 2 * (elbo_array_count(x) / 5), (float *)y->data + elbo_array_count(x) / 5, elbo_array_count(x) / 5,
               1e-4);
  elbo_array_destroy(&again);
  // drawn noise: a function of the seed
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, 3, &again));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, 3, &few));
  assert_true(same(few, again, 5));
  elbo_array_destroy(&few);
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 1, 4, &few));
  assert_false(same(few, again, 1));
  elbo_array_destroy(&few), elbo_array_destroy(&again);
  assert_ok(ctx, elbo_decode(m, mean, NULL, &again));
  elbo_array_destroy(&again);
  // sample i depends on (model, seed, i)
  again = samples_of(m, 5, 0), few = samples_of(m, 2, 0);
  assert_close(again->data, few->data, elbo_array_count(few), 1e-5);
  // codes as a condition
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.n = 5, config.condition = mean;
  assert_ok(ctx, elbo_sample(m, &config, &z));
  elbo_array_destroy(&z);
  // what does not fit
  elbo_array wrong = *mean;
  wrong.dim[1]--;
  assert_status(ctx, elbo_decode(m, &wrong, NULL, &z), ELBO_ERROR_ARGUMENT, "float32 codes");
  wrong = *mean, wrong.dim[0]--;
  assert_status(ctx, elbo_decode_noise(m, &wrong, noise, &z), ELBO_ERROR_ARGUMENT, "float32 codes (5,");
  config.condition = &wrong;
  assert_status(ctx, elbo_sample(m, &config, &z), ELBO_ERROR_ARGUMENT, "sample: condition: float32 codes (5,");
  config.condition = NULL, config.label = 1;
  assert_status(ctx, elbo_sample(m, &config, &z), ELBO_ERROR_ARGUMENT, "not conditioned");
  elbo_array thin = *x;
  thin.dim[1] = 8;
  assert_status(ctx, elbo_encode(m, &thin, NULL, &z, NULL), ELBO_ERROR_ARGUMENT, "encode: float32 (n,16,16,3)");
  ((float *)mean->data)[dim] = NAN;
  assert_status(ctx, elbo_decode(m, mean, NULL, &z), ELBO_ERROR_NUMERIC, "example 1");
  ((float *)x->data)[0] = INFINITY;
  assert_status(ctx, elbo_encode_noise(m, x, NULL, &z), ELBO_ERROR_NUMERIC, "example 0");
  elbo_array *all[] = {x, mean, std, noise, y, again, walk, few};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) elbo_array_destroy(&all[i]);
}

static void judge(elbo_model *m) {
  static const char *const likely[] = {"elbo", "nll,psnr", "bpd", "ode_bpd"};
  elbo_eval_config config;
  elbo_eval_result *r;
  elbo_dataset *data;
  elbo_eval_defaults(&config);
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=16,train=24,valid=4,test=8", 0, NULL, &data));
  config.split = ELBO_SPLIT_TEST;
  for (size_t i = 0; i < sizeof likely / sizeof *likely; i++) {
    config.metrics = likely[i];
    assert_status(ctx, elbo_evaluate(m, data, &config, &r), ELBO_ERROR_UNSUPPORTED, "has no likelihood");
  }
  config.metrics = "psnrs";
  assert_status(ctx, elbo_evaluate(m, data, &config, &r), ELBO_ERROR_ARGUMENT, "psnrs");
  config.metrics = "psnr,ssim,noise_psnr,active_units", config.limit = 4;
  assert_ok(ctx, elbo_evaluate(m, data, &config, &r));
  assert_int_equal(elbo_eval_count(r), 4);
  for (int i = 0; i < 4; i++) assert_true(isfinite(elbo_eval_metric(r, i)->value));
  elbo_eval_destroy(&r);
  elbo_dataset_destroy(&data);
}

static void test_diffae(void **state) {
  (void)state;
  static const char *const files[] = {"checkpoints/step-4/decoder/unet/diffusion_pytorch_model.safetensors",
                                      "checkpoints/step-4/decoder/code/diffusion_pytorch_model.safetensors",
                                      "checkpoints/step-4/encoder/diffusion_pytorch_model.safetensors",
                                      "checkpoints/step-4/prior/fitted_mixture.safetensors",
                                      "checkpoints/step-4/training/state.safetensors",
                                      "samples/step-4-reconstructions.png"};
  resumes(diffae_text, "diffae", 3, 6, files);
  char run[4096];
  snprintf(run, sizeof run, "%s/diffae", test_directory());
  elbo_model *m = load(run, 0), *raw = load(run, -1);
  use(m, 5);
  judge(m);
  elbo_array *x = pictures(ELBO_SPLIT_TEST, 2), *a, *b;
  assert_ok(ctx, elbo_encode(m, x, NULL, &a, NULL));
  assert_ok(ctx, elbo_encode(raw, x, NULL, &b, NULL));
  assert_false(same(a, b, 2));
  elbo_array_destroy(&x), elbo_array_destroy(&a), elbo_array_destroy(&b);
  // the mixture is what speaks of codes
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.prior = 1;
  assert_status(ctx, elbo_sample(m, &config, &x), ELBO_ERROR_UNSUPPORTED, "nothing says how the codes");
  elbo_model_destroy(&m), elbo_model_destroy(&raw);
}

static void test_code_prior(void **state) {
  (void)state;
  static const char *const files[] = {"stages/2-prior/checkpoints/step-4/prior/network/diffusion_pytorch_model.safetensors",
                                      "stages/2-prior/checkpoints/step-4/prior/code_statistics.safetensors",
                                      "stages/2-prior/checkpoints/step-4/encoder/diffusion_pytorch_model.safetensors",
                                      "stages/2-prior/checkpoints/step-4/training/state.safetensors", "stages/2-prior/samples/step-4.png"};
  resumes(prior_text, "prior", 6, 5, files);
  char run[4096], first[4200], model[4200];
  snprintf(run, sizeof run, "%s/prior", test_directory());
  snprintf(first, sizeof first, "%s/stages/1-autoencoder", run);
  elbo_model *m = load(run, 0), *raw = load(run, -1), *below = load(first, 0);
  assert_non_null(m->decoder->prior);
  use(m, 5);
  elbo_array *x = pictures(ELBO_SPLIT_TEST, 3), *a, *b;
  assert_ok(ctx, elbo_encode(m, x, NULL, &a, NULL));
  assert_ok(ctx, elbo_encode(below, x, NULL, &b, NULL));
  assert_true(same(a, b, 3)); // the autoencoder is as it was
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&x);
  a = samples_of(m, 2, 0), b = samples_of(m, 2, 1);
  assert_false(same(a, b, 1)); // codes of the diffusion, and of N(0, I)
  elbo_array_destroy(&a);
  a = samples_of(raw, 2, 0);
  assert_false(same(a, b, 1));
  elbo_array_destroy(&a), elbo_array_destroy(&b);
  elbo_model_destroy(&m), elbo_model_destroy(&raw), elbo_model_destroy(&below);
  // a prior whose statistics are not numbers, or whose network has another width
  snprintf(model, sizeof model, "%s/stages/2-prior/checkpoints/step-4/prior/code_statistics.safetensors", run);
  assert_int_equal(truncate(model, 40), 0);
  assert_int_not_equal(elbo_model_load(ctx, run, NULL, &m), ELBO_OK);
  assert_non_null(strstr(elbo_ctx_message(ctx), "code_statistics.safetensors"));
  assert_int_equal(unlink(model), 0);
  assert_status(ctx, elbo_model_load(ctx, run, NULL, &m), ELBO_ERROR_IO, "code_statistics.safetensors");
}

static void test_diffusion_decoder(void **state) {
  (void)state;
  static const char *const files[] = {"stages/2-refiner/checkpoints/step-4/decoder/unet/diffusion_pytorch_model.safetensors",
                                      "stages/2-refiner/checkpoints/step-4/vae/encoder/diffusion_pytorch_model.safetensors",
                                      "stages/2-refiner/checkpoints/step-4/prior/fitted_mixture.safetensors",
                                      "stages/2-refiner/checkpoints/step-4/training/state.safetensors",
                                      "stages/2-refiner/samples/step-4.png"};
  resumes(refiner_text, "refined", 6, 5, files);
  char run[4096], first[4200];
  snprintf(run, sizeof run, "%s/refined", test_directory());
  snprintf(first, sizeof first, "%s/stages/1-vae", run);
  elbo_model *m = load(run, 0), *vae = load(first, 0);
  use(m, 3);
  judge(m);
  // what it was built on is what it holds; raw weights load too
  elbo_array *x = pictures(ELBO_SPLIT_TEST, 3), *a, *b;
  assert_ok(ctx, elbo_encode(m, x, NULL, &a, NULL));
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = 0.5f * ((float *)x->data)[i] + 0.5f;
  assert_ok(ctx, elbo_encode(vae, x, NULL, &b, NULL));
  assert_close(a->data, b->data, elbo_array_count(a), 1e-5);
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&x);
  a = samples_of(m, 2, 0), b = samples_of(m, 2, 1);
  assert_false(same(a, b, 1)); // codes of the mixture, and of the VAE's prior
  static const char *const from[] = {"codes=prior", "codes=diffusion", "codes=elsewhere"};
  elbo_sample_config config;
  elbo_sample_defaults(&config);
  config.n = 2, config.seed = 5, config.n_options = 1, config.options = &from[0];
  assert_ok(ctx, elbo_sample(m, &config, &x));
  assert_true(same(x, b, 2));
  elbo_array_destroy(&a), elbo_array_destroy(&b), elbo_array_destroy(&x);
  config.options = &from[1];
  assert_status(ctx, elbo_sample(m, &config, &x), ELBO_ERROR_ARGUMENT, "sample.codes: diffusion: this model has none");
  config.options = &from[2];
  assert_status(ctx, elbo_sample(m, &config, &x), ELBO_ERROR_ARGUMENT, "diffusion, mixture or prior was expected");
  elbo_model_destroy(&m), elbo_model_destroy(&vae);
  m = load(run, -1);
  a = samples_of(m, 1, 0);
  elbo_array_destroy(&a);
  elbo_model_destroy(&m);
}

// --- editing ---

typedef struct seen {
  elbo_model *m;
  int pairs;
  double step;
} seen;

#define STEP 0.7
// The picture after an edit is what comes of the moved code and of the noise that the picture had: worked out here from the classifier.
static int check_edit(void *user, const elbo_edit_measure *measure, const elbo_array *before, const elbo_array *after) {
  seen *s = user;
  elbo_dataset *data;
  elbo_array *x, *z, *noise, *codes, *want;
  attribute_set set;
  linear_direction l;
  s->pairs++, s->step = measure->step;
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=16,train=24,valid=4,test=8", 0, NULL, &data));
  assert_ok(ctx, attributes_of_data(ctx, data, &set));
  int which = attribute_find(ctx, &set, measure->attribute), from = attribute_value(ctx, &set, which, measure->from),
      to = attribute_value(ctx, &set, which, measure->to);
  assert_ok(ctx, elbo_dataset_read(data, ELBO_SPLIT_TRAIN, 0, 24, 1, 0, &x, NULL));
  int16_t values[24 * ELBO_EDIT_ATTRIBUTES];
  int8_t side[24];
  assert_ok(ctx, attributes_read(ctx, &set, x, NULL, values));
  for (int i = 0; i < 24; i++) side[i] = values[i * set.n + which] == to ? 1 : values[i * set.n + which] == from ? 0 : -1;
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = 2 * ((float *)x->data)[i] - 1;
  assert_ok(ctx, elbo_encode(s->m, x, NULL, &z, NULL));
  assert_ok(ctx, linear_direction_fit(ctx, z->data, 24, z->dim[1], side, 0.1, &l));
  assert_ok(ctx, elbo_encode(s->m, before, NULL, &codes, NULL));
  assert_ok(ctx, elbo_encode_noise(s->m, before, codes, &noise));
  for (int64_t i = 0; i < codes->dim[0]; i++) linear_direction_move(&l, measure->step, (float *)codes->data + i * codes->dim[1]);
  assert_ok(ctx, elbo_decode_noise(s->m, codes, noise, &want));
  assert_close(after->data, want->data, elbo_array_count(after), 1e-4);
  assert_false(same(before, after, 1));
  assert_int_equal(measure->n, before->dim[0]);
  assert_int_equal(measure->others, 4);
  // what the pictures read as, counted again
  int16_t read[2][8 * ELBO_EDIT_ATTRIBUTES];
  assert_true(after->dim[0] <= 8);
  for (int k = 0; k < 2; k++) {
    elbo_array *grey;
    assert_ok(ctx, elbo_array_convert(ctx, k ? after : before, ELBO_F32, &grey));
    for (int64_t i = 0; i < elbo_array_count(grey); i++) ((float *)grey->data)[i] = 0.5f + 0.5f * ((float *)grey->data)[i];
    assert_ok(ctx, attributes_read(ctx, &set, grey, NULL, read[k]));
    elbo_array_destroy(&grey);
  }
  for (int a = 0, other = 0; a < set.n; a++) {
    double count = 0;
    for (int64_t i = 0; i < after->dim[0]; i++) count += read[1][i * set.n + a] == (a == which ? to : read[0][i * set.n + a]);
    count /= (double)after->dim[0];
    assert_near(a == which ? measure->obeyed : measure->unchanged[other], count, 1e-12);
    if (a != which) assert_string_equal(measure->other[other++], set.at[a].name);
  }
  linear_direction_free(&l);
  elbo_dataset_destroy(&data);
  elbo_array *all[] = {x, z, noise, codes, want};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) elbo_array_destroy(&all[i]);
  return s->pairs < 2;
}

static void test_edit(void **state) {
  (void)state;
  char run[4096];
  elbo_dataset *data, *other;
  elbo_edit_config config;
  snprintf(run, sizeof run, "%s/diffae", test_directory());
  seen s = {.m = load(run, 0)};
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=16,train=24,valid=4,test=8", 0, NULL, &data));
  elbo_edit_defaults(&config);
  config.attribute = "size", config.training = 24, config.n = 8, config.step = STEP;
  assert_ok(ctx, elbo_edit(s.m, data, &config, check_edit, &s)); // every pair, until it is told to stop
  assert_int_equal(s.pairs, 2);
  assert_near(s.step, STEP, 0);
  config.step = 0, config.from = "small", config.to = "large", s.pairs = 1;
  assert_ok(ctx, elbo_edit(s.m, data, &config, check_edit, &s));
  assert_int_equal(s.pairs, 2);
  assert_true(s.step >= 0.5 && s.step <= 2.5);
  static const struct {
    const char *attribute, *from, *to, *want;
  } bad[] = {{"weight", NULL, NULL, "the data have figure, colour, ground, size, position"},
             {"size", "small", "huge", "one of small, medium, large was expected"},
             {"size", "small", NULL, "both values of size"},
             {"size", "small", "0", "to itself"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    config.attribute = bad[i].attribute, config.from = bad[i].from, config.to = bad[i].to;
    assert_status(ctx, elbo_edit(s.m, data, &config, check_edit, &s), ELBO_ERROR_ARGUMENT, bad[i].want);
  }
  assert_ok(ctx, elbo_dataset_open(ctx, "shapes:size=32,train=8,valid=4,test=8", 0, NULL, &other));
  assert_status(ctx, elbo_edit(s.m, other, &config, check_edit, &s), ELBO_ERROR_ARGUMENT, "the model's are 16 x 16 x 3");
  elbo_dataset_destroy(&other);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&s.m);
}

// --- what is refused ---

static void swap(char *text, const char *from, const char *to) {
  char *at = strstr(text, from), rest[4096];
  assert_non_null(at);
  snprintf(rest, sizeof rest, "%s", at + strlen(from));
  memmove(at, to, strlen(to));
  strcpy(at + strlen(to), rest);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    char *base;
    const char *from, *to, *want;
  } bad[] = {
      {refiner_text, "vae: vae", "vae: nothing", "nothing: no such directory"},
      {refiner_text, "diffusion-decoder, vae: vae, formulation: 2, fitted: 2", "code-prior, autoencoder: vae", "a diffae was expected"},
      {prior_text, "code-prior, autoencoder: autoencoder, mlp: {width: 8, layers: 1, time_width: 8}",
       "diffusion-decoder, vae: autoencoder, network: unet", "a VAE was expected"},
      {prior_text, "autoencoder: autoencoder, mlp", "mlp", "model.autoencoder: missing"},
      {diffae_text, "channels: [6, 8]", "channels: [6, 8, 8, 8, 8]", "cannot be halved"},
      {diffae_text, "train: {steps: 4", "train: {steps: 0", "train.steps"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[8192], out[32];
    snprintf(text, sizeof text, "%s", bad[i].base);
    snprintf(out, sizeof out, "refused-%d", (int)i);
    swap(text, bad[i].from, bad[i].to);
    elbo_status status = train(text, test_path(out), false, 0);
    if (status == ELBO_OK) fail_msg("%s: accepted", bad[i].to);
    if (!strstr(elbo_ctx_message(ctx), bad[i].want)) fail_msg("%s: '%s' was said, not '%s'", bad[i].to, elbo_ctx_message(ctx), bad[i].want);
  }
  // keys of a sampler for a model that has none
  char run[4096];
  static const char *const keys[] = {"steps=3"}, *const unknown[] = {"stepz=3"};
  elbo_model_config config;
  elbo_model *m;
  elbo_array *x = pictures(ELBO_SPLIT_TEST, 1), *y;
  elbo_model_defaults(&config);
  config.n_options = 1, config.options = keys;
  snprintf(run, sizeof run, "%s/refined/stages/1-vae", test_directory());
  assert_status(ctx, elbo_model_load(ctx, run, &config, &m), ELBO_ERROR_ARGUMENT, "'steps=3': this model (vae)");
  snprintf(run, sizeof run, "%s/diffae", test_directory());
  assert_ok(ctx, elbo_model_load(ctx, run, &config, &m));
  assert_ok(ctx, elbo_reconstruct(m, x, NULL, 0, 0, &y));
  elbo_array_destroy(&y);
  elbo_model_destroy(&m);
  config.options = unknown;
  assert_ok(ctx, elbo_model_load(ctx, run, &config, &m));
  assert_status(ctx, elbo_reconstruct(m, x, NULL, 0, 0, &y), ELBO_ERROR_ARGUMENT, "did you mean 'steps'");
  elbo_model_destroy(&m);
  elbo_array_destroy(&x);
}

// A directory that was written here, and then changed.
static void test_broken_directory(void **state) {
  (void)state;
  char run[4096], folder[4200], path[8500], away[4200], *text;
  size_t size;
  elbo_model *m;
  snprintf(run, sizeof run, "%s/diffae/checkpoints/step-4", test_directory());
  snprintf(path, sizeof path, "%s/model_index.json", run);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &text, &size));
  char changed[8192];
  snprintf(changed, sizeof changed, "%.*s", (int)size, text);
  swap(changed, "\"dim\": 5", "\"dim\": 6");
  test_write_file(path, changed, strlen(changed));
  assert_status(ctx, elbo_model_load(ctx, run, NULL, &m), ELBO_ERROR_ARGUMENT, "says a code of 6 numbers");
  test_write_file(path, text, size);
  free(text);
  snprintf(folder, sizeof folder, "%s/encoder", run);
  snprintf(away, sizeof away, "%s/elsewhere", run);
  assert_int_equal(rename(folder, away), 0);
  assert_status(ctx, elbo_model_load(ctx, run, NULL, &m), ELBO_ERROR_IO, "encoder/config.json");
  assert_int_equal(rename(away, folder), 0);
  // a directory that holds itself
  snprintf(folder, sizeof folder, "%s/prior", run);
  assert_int_equal(rename(folder, away), 0);
  assert_int_equal(symlink(".", folder), 0);
  assert_status(ctx, elbo_model_load(ctx, run, NULL, &m), ELBO_ERROR_FORMAT, "a model of kind diffusion was expected");
  assert_int_equal(unlink(folder), 0);
  assert_int_equal(rename(away, folder), 0);
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  elbo_model_destroy(&m);
}

int main(void) {
  ctx = test_ctx(1);
  make_texts();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_diffae), cmocka_unit_test(test_code_prior), cmocka_unit_test(test_diffusion_decoder),
      cmocka_unit_test(test_edit),   cmocka_unit_test(test_refused),    cmocka_unit_test(test_broken_directory)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
