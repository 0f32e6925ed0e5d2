// Training with an adversary: what each combination needs, who stands still when, resumption to the bit, what may be said of the result.
#include "models/gan_cases.h"
#include "models/train_job.h"

#include <elbo/model.h>
#include <elbo/train.h>

#include "core/file.h"
#include "graph/store.h"
#include "train/loop.h"

typedef struct messages {
  char text[1 << 13];
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
  config.log = keep, config.log_user = m, config.threads = 1;
  assert_int_equal(elbo_ctx_create(&config, NULL, 0, &ctx), ELBO_OK);
  return ctx;
}

// --- a trainer over random pictures of 8x8 ---

enum { B = 8 };

typedef struct source_state {
  float x[B * 64], weight[B];
  int64_t index[B];
  data_batch batch;
  int64_t served;
} source_state;

static elbo_status next(void *user, const data_batch **out) {
  source_state *s = user;
  test_random r = {test_seed(), (uint64_t)s->served << 20};
  for (int i = 0; i < B * 64; i++) s->x[i] = (float)test_uniform(&r);
  for (int i = 0; i < B; i++) s->weight[i] = 1, s->index[i] = s->served + i;
  s->served += B;
  *out = &s->batch;
  return ELBO_OK;
}

typedef struct training {
  source_state state;
  train_source source;
  train_config config;
  arena *arena;
  vae_gan_task *task;
  trainer *t;
} training;

static training *start(elbo_ctx *ctx, const char *model, const char *objective) {
  training *t = calloc(1, sizeof *t);
  assert_non_null(t);
  t->arena = arena_create(1 << 14);
  t->state.batch = (data_batch){.n_fields = 3, .count = B};
  t->state.batch.field[0] = (batch_field){.name = "x", .dtype = ELBO_F32, .rank = 4, .dim = {B, 8, 8, 1}, .data = t->state.x};
  t->state.batch.field[1] = (batch_field){.name = "weight", .dtype = ELBO_F32, .rank = 1, .dim = {B}, .data = t->state.weight};
  t->state.batch.field[2] = (batch_field){.name = "sample_index", .dtype = ELBO_I64, .rank = 1, .dim = {B}, .data = t->state.index};
  t->source = (train_source){.user = &t->state, .next = next};
  yaml_node *root = NULL;
  const char *text = "{steps: 100, batch_size: 8, ema: 0, learning_rate: 0.002}";
  assert_ok(ctx, yaml_parse(ctx, t->arena, "test", text, strlen(text), &root));
  assert_ok(ctx, config_load(ctx, t->arena, &train_table, root, "train", &t->config));
  vae_gan_spec s = gan_spec(ctx, t->arena, model, objective);
  assert_ok(ctx, vae_gan_task_create(ctx, &s, B, NULL, 1, &t->task));
  assert_ok(ctx, trainer_create(ctx, &t->config, vae_gan_task_of(t->task), &t->source, NULL, &t->t));
  return t;
}

static void end(training *t) {
  trainer_destroy(&t->t);
  vae_gan_task_destroy(&t->task);
  arena_destroy(&t->arena);
  free(t);
}

// Whether one step moves the parameters whose names begin so.
typedef struct moved {
  bool encoder, decoder, discriminator;
} moved;

static moved step(elbo_ctx *ctx, training *t) {
  elbo_store *now = trainer_weights(t->t), *before;
  moved out = {false, false, false};
  assert_ok(ctx, elbo_store_copy(ctx, now, &before));
  assert_ok(ctx, trainer_step(t->t));
  assert_true(isfinite(trainer_last_loss(t->t)));
  for (int i = 0; i < elbo_store_count(now); i++) {
    elbo_param_info a, b;
    assert_ok(ctx, elbo_store_get(now, i, &a));
    assert_ok(ctx, elbo_store_get(before, i, &b));
    if (a.kind != ELBO_PARAM_TRAINED || memcmp(a.data, b.data, (size_t)a.count * sizeof(float)) == 0) continue;
    out.encoder |= a.name[0] == 'e', out.decoder |= strncmp(a.name, "dec", 3) == 0, out.discriminator |= strncmp(a.name, "dis", 3) == 0;
  }
  elbo_store_destroy(&before);
  return out;
}

// Every pair that makes sense trains, all three parts of it.
static void test_combinations(void **state) {
  (void)state;
#define PATCHES "{" GAN_MODEL ", discriminator: {type: patch, channels: [4, 6], norm_groups: 2, spectral_norm: true}}"
  static const struct {
    const char *model, *objective;
  } cases[] = {
      {GAN_PICTURES, "{}"},
      {GAN_PICTURES, "{loss: minimax, layer: 1, gamma: 0.01}"},
      {GAN_PICTURES, "{loss: hinge, r1: 2, fakes: samples}"},
      {GAN_PICTURES, "{loss: least_squares, reconstruction: pixels}"},
      {GAN_PICTURES, "{loss: wgan_gp, reconstruction: pixels, routing: sum}"},
      {GAN_PICTURES, "{reconstruction: none, routing: sum, beta: 0.1}"},
      {PATCHES, "{reconstruction: pixels, loss: hinge, adversarial: 0.1}"},
      {PATCHES, "{loss: wgan_gp, r1: 1}"},
      {GAN_CODES, "{adversary: code, reconstruction: pixels, beta: 0}"},
      {GAN_CODES, "{adversary: code, reconstruction: pixels, loss: wgan_gp}"},
      {GAN_PICTURES, "{control: equilibrium, margin: 100}"},
      {PATCHES, "{control: equilibrium, margin: 100, r1: 1, routing: sum}"},
      {GAN_CODES, "{adversary: code, reconstruction: pixels, control: equilibrium, margin: 100}"},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    training *t = start(ctx, cases[i].model, cases[i].objective);
    for (int k = 0; k < 3; k++) {
      moved m = step(ctx, t);
      if (!m.encoder || !m.decoder || !m.discriminator)
        fail_msg("%s: encoder %d, decoder %d, discriminator %d", cases[i].objective, m.encoder, m.decoder, m.discriminator);
    }
    end(t);
  }
  elbo_ctx_destroy(&ctx);
}

// An adversary whose losses are below the equilibrium stands still, above it the decoder does; the encoder always learns. Where neither
// would train both do. Before its start the adversary is not there, and after it is.
static void test_who_trains(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const struct {
    const char *objective;
    bool decoder, discriminator;
  } cases[] = {
      {"{control: equilibrium, equilibrium: 50, margin: 1}", true, false},
      {"{control: equilibrium, equilibrium: -50, margin: 1}", false, true},
      {"{control: equilibrium, equilibrium: 0.69, margin: 10}", true, true},
      {"{control: none, equilibrium: 50, margin: 1}", true, true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    training *t = start(ctx, GAN_PICTURES, cases[i].objective);
    moved m = step(ctx, t);
    if (!m.encoder || m.decoder != cases[i].decoder || m.discriminator != cases[i].discriminator)
      fail_msg("%s: encoder %d, decoder %d, discriminator %d", cases[i].objective, m.encoder, m.decoder, m.discriminator);
    end(t);
  }
  // an untrained adversary's two losses lie on both sides of log 2: at no margin each side stands still, so neither does
  training *t = start(ctx, GAN_PICTURES, "{control: equilibrium, equilibrium: 0.6931, margin: 0}");
  moved m = step(ctx, t);
  assert_true(m.encoder && m.decoder && m.discriminator);
  end(t);
  t = start(ctx, GAN_PICTURES, "{adversarial_start: 2}");
  for (int k = 0; k < 4; k++) {
    m = step(ctx, t);
    assert_true(m.encoder && m.decoder && m.discriminator == (k >= 2));
  }
  end(t);
  t = start(ctx, GAN_PICTURES, "{adversarial_start: 1, control: equilibrium, equilibrium: -50}");
  m = step(ctx, t);
  assert_true(m.encoder && m.decoder && !m.discriminator);
  m = step(ctx, t);
  assert_true(m.encoder && !m.decoder && m.discriminator);
  end(t);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *model, *objective, *part;
  } bad[] = {
      {GAN_PICTURES, "{layer: 4}", "objective.layer: 4, but the discriminator has 3 layers; 1 to 3, or 0 for the last"},
      {GAN_PICTURES, "{reconstruction: none}", "objective.routing: sum was expected"},
      {GAN_PICTURES, "{reconstruction: none, routing: sum, fakes: samples}", "objective.fakes"},
      {GAN_PICTURES, "{adversary: code, reconstruction: pixels}", "model.discriminator.type: an adversary of codes, mlp"},
      {GAN_CODES, "{}", "model.discriminator.type: an adversary of pictures, conv or patch"},
      {GAN_CODES, "{adversary: code}", "objective.reconstruction: pixels was expected"},
      {GAN_PICTURES, "{control: equilibrium, loss: wgan_gp}", "objective.control"},
      {"{" GAN_MODEL ", prior: {type: vamp}}", "{}", "model.prior.type: standard"},
      {"{" GAN_MODEL ", prior: {fitted: 3}}", "{}", "model.prior.fitted: 0"},
      {"{" GAN_MODEL ", discriminator: {channels: [4, 4, 4, 4]}}", "{}", "8x8 pictures are too small for 4 convolutions"},
      {"{latent: {groups: [2]}}", "{}", "model.latent.groups: a flat code"},
      {"{latent: {dim: 2}, encoder: {channels: [4]}, decoder: {channels: [4], likelihood: gaussian, variance: learned}}", "{}",
       "model.decoder.variance: fixed or pixel was expected: without objective.reconstruction: pixels"},
      {"{latent: {dim: 2}, encoder: {channels: [4]}, decoder: {channels: [4], likelihood: gaussian, variance: optimal}}",
       "{reconstruction: pixels}", "model.decoder.variance: fixed or pixel"},
      {"{latent: {dim: 2}, encoder: {channels: [4, 4, 4, 4]}}", "{}", "8x8 picture cannot be halved 4 times"},
  };
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    vae_gan_spec s = gan_spec_unchecked(ctx, a, bad[i].model, bad[i].objective);
    elbo_status status = vae_gan_check(ctx, &s, "r.yaml");
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s %s: %s, message '%s'", bad[i].model, bad[i].objective, elbo_status_name(status), elbo_ctx_message(ctx));
  }
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// --- a run ---

#define TINY                                                                                                                  \
  "model: {preset: vae-gan, latent: {dim: 3}, encoder: {channels: [4], hidden: [8]}, decoder: {channels: [4], hidden: [8]}, " \
  "discriminator: {channels: [4, 6], spectral_norm: true}}\n"                                                                 \
  "data: {path: digits, limit: 200, holdout: 20}\n"                                                                           \
  "train: {steps: 8, batch_size: 8, ema: 0.9, learning_rate: 0.003, checkpoint_every: 4, log_every: 2, preview_every: 4}\n"

// Stopped and resumed, adversary, singular vectors and all their moments included; both with and without phases of their own.
static void test_resume(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  static const char *const overrides[] = {"objective.r1=1", "objective.control=equilibrium", "train.accumulate=2"};
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
    assert_same_file(ctx, whole, parts, "checkpoints/step-8/decoder/diffusion_pytorch_model.safetensors");
    assert_same_file(ctx, whole, parts, "samples/step-8.png");
  }
  elbo_ctx_destroy(&ctx);
}

// A VAE's directory that calls itself what it is: drawn from, encoded with, and never given a bound.
static void test_model(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char *lines, path[8192];
  size_t size;
  const char *out = test_path("run");
  assert_ok(ctx, run_job(ctx, (job){TINY, out, NULL, false, -1}, NULL));
  snprintf(path, sizeof path, "%s/metrics.jsonl", out);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &lines, &size));
  assert_null(strstr(lines, "\"elbo\""));
  static const char *const told[] = {"\"kl\"", "\"feature_loss\"", "\"adversarial\"", "\"discriminator.real_right\"",
                                     "\"discriminator.fake\""};
  for (size_t i = 0; i < sizeof told / sizeof *told; i++)
    if (!strstr(lines, told[i])) fail_msg("metrics.jsonl lacks %s: %.300s", told[i], lines);
  free(lines);
  elbo_model *m;
  elbo_model_info info;
  elbo_dataset *data;
  elbo_eval_config config;
  elbo_eval_result *score;
  elbo_array *x;
  assert_ok(ctx, elbo_model_load(ctx, out, NULL, &m));
  elbo_model_get_info(m, &info);
  assert_string_equal(info.preset, "vae-gan");
  assert_string_equal(info.likelihood, "none");
  assert_int_equal(info.latent_dim, 3);
  assert_ok(ctx, elbo_sample(m, NULL, &x));
  assert_int_equal(x->dim[0], 64);
  elbo_array_destroy(&x);
  assert_ok(ctx, elbo_dataset_open(ctx, "digits", 0, NULL, &data));
  elbo_eval_defaults(&config);
  config.limit = 20;
  assert_ok(ctx, elbo_evaluate(m, data, &config, &score));
  bool psnr = false;
  for (int i = 0; i < elbo_eval_count(score); i++) {
    const char *name = elbo_eval_metric(score, i)->name;
    psnr = psnr || strcmp(name, "psnr") == 0;
    if (strstr(name, "elbo") || strstr(name, "nll") || strstr(name, "bound") || strstr(name, "bits") || strstr(name, "recon"))
      fail_msg("'%s' is reported of a model without a likelihood", name);
  }
  assert_true(psnr);
  elbo_eval_destroy(&score);
  static const char *const refused[] = {"elbo", "kl,iwae", "nll", "bits_per_dim", "recon"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    config.metrics = refused[i];
    assert_status(ctx, elbo_evaluate(m, data, &config, &score), ELBO_ERROR_UNSUPPORTED, "it has no likelihood");
  }
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  elbo_ctx_destroy(&ctx);
}

// Stages: a VAE first, then the adversary on top of it, its encoder as it is.
static void test_after_a_vae(void **state) {
  (void)state;
  static const char *const recipe =
      "stages:\n"
      "  - {name: plain, model: {latent: {dim: 3}, encoder: {channels: [4], hidden: [8]}, decoder: {channels: [4], hidden: [8]}},\n"
      "     data: {path: digits, limit: 200, holdout: 0}, train: {steps: 4, batch_size: 8, ema: 0}}\n"
      "  - {name: sharp, model: {preset: vae-gan, latent: {dim: 3}, encoder: {channels: [4], hidden: [8]}, decoder: {channels: [4], "
      "hidden: "
      "[8]},\n"
      "     discriminator: {channels: [4]}}, data: {path: digits, limit: 200, holdout: 0},\n"
      "     train: {steps: 4, batch_size: 8, ema: 0, init: plain, freeze: [encoder]}}\n";
  elbo_ctx *ctx = test_ctx(1);
  const char *out = test_path("stages");
  assert_ok(ctx, run_job(ctx, (job){recipe, out, NULL, false, -1}, NULL));
  assert_same_file(ctx, out, out, "stages/2-sharp/checkpoints/step-4/model_index.json");
  char first[4200], second[4200];
  snprintf(first, sizeof first, "%s/stages/1-plain/checkpoints/step-4", out);
  snprintf(second, sizeof second, "%s/stages/2-sharp/checkpoints/step-4", out);
  assert_same_file(ctx, first, second, "encoder/diffusion_pytorch_model.safetensors");
  // a network that is not the first's is refused by its parameters' names, the adversary's not among them
  job other = {recipe, test_path("other"), "stages.sharp.model.decoder.hidden=[9]", false, -1};
  assert_status(ctx, run_job(ctx, other, NULL), ELBO_ERROR_ARGUMENT, "of another shape: decoder.");
  assert_null(strstr(elbo_ctx_message(ctx), "discriminator"));
  elbo_ctx_destroy(&ctx);
}

static void test_watch(void **state) {
  (void)state;
  messages log;
  elbo_ctx *ctx = listening(&log);
  arena *a = arena_create(1 << 14);
  vae_gan_spec s = gan_spec(ctx, a, GAN_PICTURES, "{}");
  static const char *const names[] = {"discriminator.real_right", "discriminator.fake_right"};
  double real = 1, fake = 1;
  const double *const values[] = {&real, &fake};
  gan_watched about = vae_gan_watched(&s);
  gan_watch w = {0};
  for (int64_t step = 50; step <= 200; step += 50) gan_watch_interval(&w, ctx, &about, step, 2, names, values);
  assert_int_equal(log.warnings, 1); // the third interval in a row, once
  assert_non_null(strstr(log.text, "the discriminator has won"));
  assert_non_null(strstr(log.text, "objective.r1"));
  assert_non_null(strstr(log.text, "model.discriminator.spectral_norm"));
  gan_watch fair = {0};
  real = 0.8, fake = 0.85;
  for (int64_t step = 50; step <= 1000; step += 50) gan_watch_interval(&fair, ctx, &about, step, 2, names, values);
  assert_int_equal(fair.warnings, 0);
  gan_watch blind = {0};
  real = 0.01, fake = 0.99;
  for (int64_t step = 50; step <= 200; step += 50) gan_watch_interval(&blind, ctx, &about, step, 2, names, values);
  assert_int_equal(blind.warnings, 1);
  assert_non_null(strstr(log.text, "says the same of everything"));
  // a critic has no right and wrong
  s = gan_spec(ctx, a, GAN_PICTURES, "{loss: wgan_gp}");
  about = vae_gan_watched(&s);
  gan_watch critic = {0};
  real = fake = 1;
  for (int64_t step = 50; step <= 1000; step += 50) gan_watch_interval(&critic, ctx, &about, step, 2, names, values);
  assert_int_equal(critic.warnings, 0);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_combinations), cmocka_unit_test(test_who_trains),
                                     cmocka_unit_test(test_refused),      cmocka_unit_test(test_resume),
                                     cmocka_unit_test(test_model),        cmocka_unit_test(test_after_a_vae),
                                     cmocka_unit_test(test_watch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
