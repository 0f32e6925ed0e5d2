// A comparison from recipes to page: three tiny models under one budget, the page parsed, the numbers' commands, a second call, an
// interruption, a model that fails, what is refused; the budget in steps of every stage.
#include <elbo/compare.h>
#include <elbo/train.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/json.h"
#include "support/test.h"

#define DATA "data: {path: digits, limit: 600, holdout: 50}\n"
#define TRAIN "train: {steps: 600, batch_size: 16, learning_rate: 0.003, checkpoint_every: 0, log_every: 5, ema: 0.9, warmup_steps: 100}\n"
static const char vae[] = "model: {preset: vae, latent: {dim: 4}, condition: {type: class}, encoder: {type: mlp, hidden: [24]},\n"
                          "  decoder: {type: mlp, hidden: [24], likelihood: discretized_logistic}}\n" DATA TRAIN;
static const char gan[] = "model: {preset: vae-gan, latent: {dim: 4}, encoder: {type: mlp, hidden: [24]},\n"
                          "  decoder: {type: mlp, hidden: [24]}, discriminator: {type: conv, channels: [4, 8]}}\n" DATA TRAIN;
static const char ddpm[] = "model: {preset: ddpm, unet: {block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 4,\n"
                           "  down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}}\n"
                           "sample: {sampler: dpmpp_2m, steps: 4}\n" DATA TRAIN;
static const char classifier[] = "model: {preset: classifier, network: {channels: [8], stem: 2, features: 8}}\n" DATA
                                 "train: {steps: 30, batch_size: 32, learning_rate: 0.005, checkpoint_every: 0, seed: %d}\n";
static const char two[] = "stages:\n"
                          "  - name: base\n"
                          "    model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}\n"
                          "    data: {path: digits, limit: 64, holdout: 8}\n"
                          "    train: {steps: 600, batch_size: 8, checkpoint_every: 0, log_every: 10}\n"
                          "  - name: fine\n"
                          "    model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}\n"
                          "    data: {path: digits, limit: 64, holdout: 8}\n"
                          "    train: {steps: 300, batch_size: 8, checkpoint_every: 0, log_every: 10, init: base}\n";
static const char codes[] = "stages:\n"
                            "  - name: base\n"
                            "    model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [99]}, decoder: {type: mlp, hidden: [8]}}\n"
                            "    data: {path: digits, limit: 640, holdout: 8}\n"
                            "    train: {steps: 300, batch_size: 8, checkpoint_every: 0, log_every: 10}\n"
                            "  - name: prior\n"
                            "    model: {preset: ddpm, autoencoder: base, network: mlp, mlp: {width: 8, layers: 1}}\n"
                            "    data: {path: digits, limit: 640, holdout: 8}\n"
                            "    train: {steps: 300, batch_size: 8, checkpoint_every: 0, log_every: 10}\n";
#define SMALL "data: {path: digits, limit: 600, holdout: 50}\n    train: {steps: 8, batch_size: 8, checkpoint_every: 0, log_every: 4}\n"
#define UNET                                                                                            \
  "unet: {block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 4, add_attention: false,\n" \
  "      down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}"
static const char refined[] = "stages:\n"
                              "  - name: vae\n"
                              "    model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}\n"
                              "    " SMALL "  - name: refiner\n"
                              "    model: {preset: diffusion-decoder, vae: vae, fitted: 2,\n      " UNET "}\n"
                              "    sample: {sampler: ddim, steps: 3}\n    " SMALL;
static const char diffae[] = "stages:\n"
                             "  - name: autoencoder\n"
                             "    model: {preset: diffae, encoder: {type: mlp, hidden: [9]}, code: {dim: 3, fitted: 2},\n      " UNET "}\n"
                             "    sample: {sampler: ddim, steps: 3}\n    " SMALL "  - name: prior\n"
                             "    model: {preset: code-prior, autoencoder: autoencoder, mlp: {width: 8, layers: 1}}\n"
                             "    sample: {sampler: ddim, steps: 4}\n    " SMALL;

static char directory[512];

static const char *write_text(const char *name, const char *text) {
  static char path[16][600];
  static int next;
  char *at = path[next++ % 16];
  snprintf(at, sizeof path[0], "%s/%s", directory, name);
  test_write_file(at, text, strlen(text));
  return at;
}

static const char *in(const char *name) {
  static char path[16][600];
  static int next;
  char *at = path[next++ % 16];
  snprintf(at, sizeof path[0], "%s/%s", directory, name);
  return at;
}

static void train(elbo_ctx *ctx, const char *recipe_path, const char *run) {
  elbo_recipe *r;
  elbo_train_config c;
  elbo_train_result result;
  assert_ok(ctx, elbo_recipe_load(ctx, recipe_path, 0, NULL, &r));
  elbo_train_defaults(&c);
  c.out = run, c.resume = 1;
  assert_ok(ctx, elbo_train(ctx, r, &c, &result));
  elbo_recipe_destroy(&r);
}

// What all tests begin from: two classifiers and the three recipes.
static elbo_compare_config prepare(elbo_ctx *ctx, const char *name) {
  static const char *models[3];
  static char out[600];
  char text[1024];
  elbo_compare_config c;
  snprintf(directory, sizeof directory, "%s", test_directory());
  if (!directory_exists(in("features"))) {
    for (int i = 0; i < 2; i++) {
      snprintf(text, sizeof text, classifier, i);
      train(ctx, write_text(i ? "judge.yaml" : "features.yaml", text), in(i ? "judge" : "features"));
    }
  }
  models[0] = write_text("tiny-vae.yaml", vae), models[1] = write_text("tiny-gan.yaml", gan),
  models[2] = write_text("tiny-ddpm.yaml", ddpm);
  snprintf(out, sizeof out, "%s/%s.html", directory, name);
  elbo_compare_defaults(&c);
  c.n_models = 3, c.models = models, c.out = out, c.features = in("features"), c.judge = in("judge");
  c.budget_steps = 20, c.n = 96, c.seeds = 2, c.limit = 40, c.judged = 50, c.n_curve = 1, c.curve[0] = 2;
  return c;
}

// --- pages ---

// Every element is closed in its order; attributes are quoted; nothing points outside of the page. Returns how many elements there are.
static int parse_page(const char *html) {
  static const char *const empty[] = {"meta", "img", "br"};
  char open[64][16];
  int depth = 0, elements = 0;
  assert_true(strncmp(html, "<!doctype html>", 15) == 0);
  for (const char *at = html + 15; *at;) {
    const char *lower = strchr(at, '<');
    if (!lower) break;
    at = lower + 1;
    bool closing = *at == '/';
    at += closing;
    char name[16];
    size_t n = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (n == 0 || n >= sizeof name) fail_msg("no element at '%.60s'", lower);
    memcpy(name, at, n), name[n] = 0;
    at += n;
    if (closing) {
      if (depth < 1 || strcmp(open[depth - 1], name)) fail_msg("</%s> closes <%s>", name, depth ? open[depth - 1] : "nothing");
      depth--;
      assert_true(*at == '>');
      continue;
    }
    elements++;
    bool self = false;
    while (*at && *at != '>') { // attributes
      at += strspn(at, " \n");
      if (*at == '/') {
        self = true, at++;
        continue;
      }
      if (*at == '>') break;
      at += strcspn(at, "=> \n");
      if (*at != '=') fail_msg("an attribute without value at '%.60s'", at);
      if (at[1] != '"') fail_msg("an attribute without quotes at '%.60s'", at);
      at = strchr(at + 2, '"');
      assert_non_null(at);
      at++;
    }
    assert_true(*at == '>');
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) self |= !strcmp(name, empty[i]);
    if (!strcmp(name, "style")) { // no elements inside
      at = strstr(at, "</style>");
      assert_non_null(at);
    }
    if (self) continue;
    assert_true(depth < 64);
    strcpy(open[depth++], name);
  }
  assert_int_equal(depth, 0);
  assert_null(strstr(html, "src=\"http"));
  assert_null(strstr(html, "href="));
  assert_null(strstr(html, "url("));
  return elements;
}

static int count_of(const char *text, const char *part) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) n++;
  return n;
}

// Whether the number of the one cell that says `label` is marked as best.
static __attribute__((noinline)) bool is_bold(const char *page, const char *label) {
  const char *at = strstr(page, label);
  assert_non_null(at);
  for (const char *cell = at; cell > page; cell--) {
    if (strncmp(cell, "<b>", 3) == 0) return true;
    if (strncmp(cell, "<div", 4) == 0) return false;
  }
  return false;
}

static char *read_page(elbo_ctx *ctx, const char *path) {
  char *page;
  size_t size;
  assert_ok(ctx, file_read(ctx, path, 64 << 20, &page, &size));
  return page;
}

// --- tables ---

static json_t *parse(elbo_ctx *ctx, char *text) {
  json_t *json;
  assert_ok(ctx, json_parse(ctx, "the table", text, strlen(text), &json));
  free(text);
  return json;
}

static json_t *row_of(const json_t *table, const char *name) {
  json_t *rows = json_object_get(table, "rows");
  for (size_t i = 0; i < json_array_size(rows); i++)
    if (!strcmp(json_string_value(json_object_get(json_array_get(rows, i), "name")), name)) return json_array_get(rows, i);
  fail_msg("no row %s", name);
  return NULL;
}

static json_t *value_of(const json_t *table, const char *name, const char *key) {
  json_t *value = json_object_get(json_object_get(row_of(table, name), "values"), key);
  if (!value) fail_msg("%s has no %s", name, key);
  return value;
}

// A number with an error, and with the command that makes it again.
static double measured(const json_t *table, const char *name, const char *key) {
  json_t *v = value_of(table, name, key);
  const char *why = json_string_value(json_object_get(v, "error"));
  if (!json_is_number(json_object_get(v, "value"))) fail_msg("%s of %s: %s", key, name, why ? why : "no number");
  if (!json_is_number(json_object_get(v, "stderr"))) fail_msg("%s of %s has no error", key, name);
  assert_true(json_number_value(json_object_get(v, "stderr")) >= 0);
  assert_non_null(strstr(json_string_value(json_object_get(v, "command")), "elbo "));
  return json_number_value(json_object_get(v, "value"));
}

static double counted(const json_t *table, const char *name, const char *key) {
  json_t *v = value_of(table, name, key);
  if (!json_is_number(json_object_get(v, "value"))) fail_msg("%s of %s is no number", key, name);
  assert_non_null(strstr(json_string_value(json_object_get(v, "command")), "elbo "));
  return json_number_value(json_object_get(v, "value"));
}

static const char *missing(const json_t *table, const char *name, const char *key) {
  const char *why = json_string_value(json_object_get(value_of(table, name, key), "none"));
  if (!why) fail_msg("%s of %s should not be there", key, name);
  return why;
}

typedef struct counter {
  int trained, sampled, stop_at;
} counter;

static int count(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  counter *c = user;
  (void)done, (void)total, (void)text;
  c->sampled += strstr(what, ": sample") != NULL;
  c->trained += strstr(what, ": train") != NULL;
  return c->stop_at == 0 || c->trained < c->stop_at;
}

static void check_table(const json_t *table) {
  static const char *const all[] = {"tiny-vae", "tiny-gan", "tiny-ddpm"};
  assert_int_equal(json_array_size(json_object_get(table, "rows")), 4); // and the draws of the VAE
  for (int i = 0; i < 3; i++) {
    assert_null(json_object_get(row_of(table, all[i]), "error"));
    assert_true(measured(table, all[i], "fid") > 0);
    assert_true(counted(table, all[i], "fid_floor") >= 0);
    measured(table, all[i], "kid");
    assert_true(measured(table, all[i], "precision") <= 1);
    assert_true(measured(table, all[i], "recall") <= 1);
    assert_non_null(strstr(json_string_value(json_object_get(value_of(table, all[i], "fid"), "note")), "sha256 "));
    assert_true(measured(table, all[i], "samples_per_s") > 0);
    assert_true(measured(table, all[i], "training_speed") > 0);
    assert_true(counted(table, all[i], "training_flops") > 0);
    assert_true(counted(table, all[i], "parameters") > 0);
    assert_true(counted(table, all[i], "peak_memory") > 1000);
    json_t *stages = json_object_get(json_object_get(row_of(table, all[i]), "training"), "stages");
    assert_int_equal(json_array_size(stages), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(stages, 0), "steps")), 20);
  }
  json_t *bound = value_of(table, "tiny-vae", "likelihood_one");
  assert_string_equal(json_string_value(json_object_get(bound, "label")), "one-sample bound");
  assert_string_equal(json_string_value(json_object_get(bound, "unit")), "bits/dim");
  measured(table, "tiny-vae", "likelihood_one");
  measured(table, "tiny-ddpm", "likelihood_one");
  assert_string_equal(json_string_value(json_object_get(value_of(table, "tiny-vae", "likelihood_k"), "label")), "K-sample bound");
  assert_non_null(strstr(missing(table, "tiny-gan", "likelihood_one"), "adversary"));
  assert_true(measured(table, "tiny-vae", "psnr") > 5);
  assert_true(measured(table, "tiny-gan", "perceptual") > 0);
  assert_non_null(strstr(missing(table, "tiny-ddpm", "ssim"), "no encoder"));
  missing(table, "tiny-ddpm", "latent");
  assert_true(counted(table, "tiny-vae", "latent") == 4);
  assert_true(counted(table, "tiny-ddpm", "calls") == 4);
  assert_true(counted(table, "tiny-gan", "calls") == 1);
  double obeyed = measured(table, "tiny-vae", "condition_accuracy");
  assert_true(obeyed > 0 && obeyed <= 1);
  assert_non_null(strstr(missing(table, "tiny-gan", "condition_accuracy"), "no condition"));
  // the adversary is trained and counted, but no part of the model
  json_t *parameters = value_of(table, "tiny-gan", "parameters");
  assert_true(json_integer_value(json_object_get(parameters, "trained")) > json_number_value(json_object_get(parameters, "value")));
  // quality against time: at two calls and at the four of the recipe; the others cannot choose
  assert_int_equal(json_array_size(json_object_get(row_of(table, "tiny-ddpm"), "curve")), 2);
  assert_int_equal(json_array_size(json_object_get(row_of(table, "tiny-vae"), "curve")), 1);
  assert_true(measured(table, "tiny-vae, draws", "fid") != measured(table, "tiny-vae", "fid"));
}

static void test_whole(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(2);
  elbo_compare_config c = prepare(ctx, "whole");
  counter heard = {0}, again = {0};
  char *text;
  c.likelihoods = "one,k", c.samples = 8, c.progress = count, c.progress_user = &heard;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  assert_true(heard.trained >= 60);
  json_t *table = parse(ctx, text);
  check_table(table);

  char *page = read_page(ctx, c.out);
  assert_true(parse_page(page) > 300);
  assert_int_equal(count_of(page, "class=\"compare\""), 1);
  assert_int_equal(count_of(page, "scope=\"row\""), 4);
  assert_int_equal(count_of(page, "<img "), 3 + 1 + 2 + 2 * 2); // samples, originals, reconstructions, walks
  assert_int_equal(count_of(page, "class=\"plot\""), 1);
  assert_int_equal(count_of(page, "<circle"), 5);
  assert_int_equal(count_of(page, "<small>one of 10 classes</small>"), 1);
  assert_int_equal(count_of(page, "not made"), 0);
  assert_int_equal(count_of(page, ">failed<"), 0);
  assert_non_null(strstr(page, "one-sample bound"));
  // the bound of k samples stands alone under its label, and is ranked with nothing; of the two under the other, one at least is best
  assert_false(is_bold(page, ">K-sample bound"));
  free(page);

  // a second call trains nothing and draws no more than what is shown; its numbers are the same
  c.progress_user = &again;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  assert_int_equal(again.trained, 0);
  assert_true(again.sampled < heard.sampled / 3);
  json_t *same = parse(ctx, text);
  assert_true(measured(same, "tiny-ddpm", "fid") == measured(table, "tiny-ddpm", "fid"));
  assert_true(measured(same, "tiny-gan", "samples_per_s") == measured(table, "tiny-gan", "samples_per_s"));

  // the command beside a number makes it: the same FID through elbo_evaluate with what the command says
  elbo_model *m;
  elbo_dataset *data;
  elbo_eval_config e;
  elbo_eval_result *r;
  const char *run = json_string_value(json_object_get(row_of(table, "tiny-ddpm"), "run"));
  assert_ok(ctx, elbo_model_load(ctx, run, NULL, &m));
  assert_ok(ctx, elbo_model_open_data(ctx, run, NULL, 0, NULL, &data));
  elbo_eval_defaults(&e);
  e.metrics = "fid", e.features = c.features, e.n = 96, e.seeds = 2;
  assert_ok(ctx, elbo_evaluate(m, data, &e, &r));
  assert_near(elbo_eval_metric(r, 0)->value, measured(table, "tiny-ddpm", "fid"), 1e-9);
  assert_non_null(strstr(json_string_value(json_object_get(value_of(table, "tiny-ddpm", "fid"), "command")),
                         "--metrics fid,kid,precision,recall --features"));
  elbo_eval_destroy(&r);
  elbo_dataset_destroy(&data);
  elbo_model_destroy(&m);
  json_decref(table), json_decref(same);
  elbo_ctx_destroy(&ctx);
}

static const char *command_of(const json_t *table, const char *name, const char *key) {
  return json_string_value(json_object_get(value_of(table, name, key), "command"));
}

// Models whose decoder is a diffusion: where their codes come from is a row each, and what draws codes is counted among the calls.
static void test_decoders(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_compare_config c = prepare(ctx, "decoders");
  const char *models[] = {write_text("refined.yaml", refined), write_text("diffae.yaml", diffae)};
  char *text;
  c.n_models = 2, c.models = models, c.budget_steps = 8, c.seeds = 1, c.limit = 12, c.judge = NULL, c.curve[0] = 2;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  json_t *table = parse(ctx, text);
  assert_int_equal(json_array_size(json_object_get(table, "rows")), 3);
  for (int i = 0; i < 2; i++) {
    const char *name = i ? "diffae" : "refined";
    assert_null(json_object_get(row_of(table, name), "error"));
    assert_true(counted(table, name, "fid") > 0);
    assert_true(measured(table, name, "psnr") > 0 && measured(table, name, "ssim") < 1 && measured(table, name, "perceptual") > 0);
    assert_non_null(strstr(missing(table, name, "likelihood_one"), i ? "no prior" : "neither's bound"));
    assert_non_null(strstr(missing(table, name, "condition_accuracy"), "no condition"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(row_of(table, name), "training"), "stages")), 2);
  }
  assert_true(counted(table, "refined", "calls") == 3 && counted(table, "diffae", "calls") == 3 + 4);
  assert_non_null(strstr(command_of(table, "refined", "fid"), " sample.codes=prior"));
  assert_non_null(strstr(command_of(table, "refined, fitted codes", "fid"), " sample.codes=mixture"));
  assert_non_null(strstr(command_of(table, "refined, fitted codes", "samples_per_s"), " sample.codes=mixture"));
  assert_true(counted(table, "refined", "fid") != counted(table, "refined, fitted codes", "fid"));
  assert_int_equal(json_array_size(json_object_get(row_of(table, "refined, fitted codes"), "curve")), 2);
  json_decref(table);
  char *page = read_page(ctx, c.out);
  parse_page(page);
  assert_int_equal(count_of(page, "its fitted codes<small>from a mixture</small>"), 1);
  assert_int_equal(count_of(page, "<img "), 2 + 1 + 2 + 2 * 2);
  assert_int_equal(count_of(page, "not made"), 0);
  assert_int_equal(count_of(page, ">failed<"), 0);
  free(page);
  // with a KL codes may come from N(0, I) too: the trained prior goes before it
  char with_kl[2048];
  const char *at = strstr(diffae, "dim: 3,");
  snprintf(with_kl, sizeof with_kl, "%.*skl: 0.01, %s", (int)(at - diffae), diffae, at);
  models[0] = write_text("with-kl.yaml", with_kl);
  c.n_models = 1, c.runs = in("with-kl");
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_non_null(strstr(command_of(table, "with-kl", "fid"), " sample.codes=diffusion"));
  assert_non_null(strstr(command_of(table, "with-kl, fitted codes", "fid"), " sample.codes=mixture"));
  json_decref(table);
  elbo_ctx_destroy(&ctx);
}

// A stop writes a checkpoint; the next call goes on from it and ends at the same weights as one that was never stopped.
static void test_interruption(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_compare_config c = prepare(ctx, "stopped");
  counter heard = {.stop_at = 27}; // within the second model
  char *text, name[2][700], *bytes[2];
  size_t size[2];
  c.n_models = 2, c.progress = count, c.progress_user = &heard, c.features = c.judge = NULL;
  assert_status(ctx, elbo_compare(ctx, &c, &text), ELBO_ERROR_STOPPED, "stopped");
  assert_null(text);
  heard = (counter){0};
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  assert_int_equal(heard.trained, 13);
  json_t *table = parse(ctx, text);
  assert_non_null(strstr(missing(table, "tiny-gan", "fid"), "--features"));
  assert_non_null(strstr(missing(table, "tiny-vae", "condition_accuracy"), "--judge"));
  json_decref(table);
  c.runs = in("straight.runs");
  assert_ok(ctx, elbo_compare(ctx, &c, NULL));
  for (int i = 0; i < 2; i++) {
    snprintf(name[i], sizeof name[i], "%s/tiny-gan/checkpoints/step-20/training/state.safetensors",
             i ? in("straight.runs") : in("stopped.html.runs"));
    assert_ok(ctx, file_read(ctx, name[i], 64 << 20, &bytes[i], &size[i]));
  }
  assert_int_equal(size[0], size[1]);
  assert_memory_equal(bytes[0], bytes[1], size[0]);
  free(bytes[0]), free(bytes[1]);
  elbo_ctx_destroy(&ctx);
}

// Takes the line that begins with `key` out of the recipe that is kept in a model's JSON.
static void forget_line(elbo_ctx *ctx, const char *known, const char *section, const char *key) {
  json_t *json;
  assert_ok(ctx, json_read(ctx, known, 1 << 20, &json));
  json_t *of = json_object_get(json, section);
  char *recipe = strdup(json_string_value(json_object_get(of, "recipe")));
  char *at = strstr(recipe, key);
  assert_non_null(at);
  char *end = strchr(at, '\n');
  while (at > recipe && at[-1] == ' ') at--;
  memmove(at, end + 1, strlen(end));
  json_object_set_new(of, "recipe", json_string(recipe));
  assert_int_equal(json_dump_file(json, known, JSON_INDENT(1)), 0);
  free(recipe);
  json_decref(json);
}

// Makes a kept number one of other pictures, and 12345.
static void measure_elsewhere(elbo_ctx *ctx, const char *known, const char *key) {
  json_t *json, *group;
  const char *command;
  int met = 0;
  assert_ok(ctx, json_read(ctx, known, 1 << 20, &json));
  json_object_foreach(json_object_get(json, "groups"), command, group) {
    json_t *value = json_object_get(json_object_get(group, "values"), key);
    if (!value) continue;
    json_object_set_new(value, "value", json_real(12345)), json_object_set_new(group, "on", json_string("other pictures"));
    met++;
  }
  assert_true(met > 0);
  assert_int_equal(json_dump_file(json, known, JSON_INDENT(1)), 0);
  json_decref(json);
}

// A model that cannot be made is a row with the reason; the others are measured.
static void test_failures(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_compare_config c = prepare(ctx, "failures");
  const char *models[] = {write_text("wrong.yaml", "model: {preset: vae, latnt: {dim: 2}}\n"), c.models[0], in("nothing-there")};
  char *text;
  c.n_models = 3, c.models = models, c.budget_steps = 2, c.features = c.judge = NULL;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  json_t *table = parse(ctx, text);
  assert_non_null(strstr(json_string_value(json_object_get(row_of(table, "wrong"), "error")), "latnt"));
  assert_non_null(strstr(json_string_value(json_object_get(row_of(table, "nothing-there"), "error")), "nothing-there"));
  measured(table, "tiny-vae", "psnr");
  json_decref(table);
  char *page = read_page(ctx, c.out);
  parse_page(page);
  assert_int_equal(count_of(page, "not compared: "), 2);
  free(page);
  // black and white data are not what the others see
  const char *const grey = models[1];
  models[1] = write_text("two-valued.yaml", "model: {preset: vae, latent: {dim: 4}, encoder: {type: mlp, hidden: [24]},\n"
                                            "  decoder: {type: mlp, hidden: [24]}}\n"
                                            "data: {path: digits, limit: 600, holdout: 50, binarize: fixed}\n" TRAIN);
  c.n_models = 2;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_non_null(strstr(json_string_value(json_object_get(row_of(table, "two-valued"), "error")), "same 8-bit pixels"));
  json_decref(table);
  models[1] = grey;
  // features by a recipe are trained once, beside the runs; the keys of all are not for them
  c.n_models = 1, c.models = models + 1, c.budget_steps = 2, c.runs = in("by-recipe"), c.features = in("features.yaml"), c.n = 80;
  c.n_overrides = 1, c.overrides = (const char *[]){"model.latent.dim=5"};
  for (int i = 0; i < 2; i++) {
    counter heard = {0};
    c.progress = count, c.progress_user = &heard;
    assert_ok(ctx, elbo_compare(ctx, &c, &text));
    assert_int_equal(heard.trained, i ? 0 : 32);
    table = parse(ctx, text);
    measured(table, "tiny-vae", "kid");
    assert_true(counted(table, "tiny-vae", "latent") == 5);
    json_decref(table);
  }
  c.features = c.models[0];
  assert_status(ctx, elbo_compare(ctx, &c, &text), ELBO_ERROR_ARGUMENT, "classifier was expected");
  c.features = NULL, c.n_overrides = 0, c.progress = NULL, c.runs = NULL;
  // a run from before a key was known goes on: what was kept is read as a recipe, not compared as a text
  c.runs = in("by-recipe"), c.features = in("features"), c.n_overrides = 1;
  forget_line(ctx, in("by-recipe/tiny-vae.json"), "budget", "free_bits:");
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_null(json_object_get(row_of(table, "tiny-vae"), "error"));
  json_decref(table);
  // what was measured on other pictures is measured again
  measure_elsewhere(ctx, in("by-recipe/tiny-vae.json"), "kid");
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_true(counted(table, "tiny-vae", "kid") != 12345);
  json_decref(table);
  c.overrides = (const char *[]){"model.latent.dim=6"};
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_non_null(strstr(json_string_value(json_object_get(row_of(table, "tiny-vae"), "error")), "another recipe"));
  json_decref(table);
  c.features = c.runs = NULL, c.n_overrides = 0;
  // another budget into the same runs would be another training with the first one's schedule
  c.budget_steps = 3;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  table = parse(ctx, text);
  assert_non_null(strstr(json_string_value(json_object_get(row_of(table, "tiny-vae"), "error")), "another budget"));
  json_decref(table);
  elbo_ctx_destroy(&ctx);
}

static void test_refusals(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_compare_config c = prepare(ctx, "refused"), d = c;
  d.budget_flops = 1e9;
  assert_status(ctx, elbo_compare(ctx, &d, NULL), ELBO_ERROR_ARGUMENT, "one budget");
  d = c, d.judge = d.features;
  assert_status(ctx, elbo_compare(ctx, &d, NULL), ELBO_ERROR_ARGUMENT, "another classifier");
  d = c, d.likelihoods = "one,two";
  assert_status(ctx, elbo_compare(ctx, &d, NULL), ELBO_ERROR_ARGUMENT, "two");
  d = c, d.features = in("nothing");
  assert_status(ctx, elbo_compare(ctx, &d, NULL), ELBO_ERROR_IO, "nothing: not there");
  d = c, d.n_models = 0;
  assert_status(ctx, elbo_compare(ctx, &d, NULL), ELBO_ERROR_ARGUMENT, "0 models");
  elbo_ctx_destroy(&ctx);
}

static void stage_steps(elbo_ctx *ctx, const char *known, int64_t *steps) {
  json_t *json;
  assert_ok(ctx, json_read(ctx, known, 1 << 20, &json));
  json_t *stages = json_object_get(json_object_get(json, "budget"), "stages");
  assert_int_equal(json_array_size(stages), 2);
  for (size_t i = 0; i < 2; i++) steps[i] = json_integer_value(json_object_get(json_array_get(stages, i), "steps"));
  json_decref(json);
}

// The stages share a budget as the recipe's own numbers of steps say.
static void test_budgets(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_compare_config c = prepare(ctx, "budgets");
  const char *models[] = {write_text("two.yaml", two)};
  int64_t steps[2];
  char *text;
  c.n_models = 1, c.models = models, c.features = c.judge = NULL, c.n_curve = 0, c.runs = in("steps"), c.budget_steps = 90;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  stage_steps(ctx, in("steps/two.json"), steps);
  assert_int_equal(steps[0], 60);
  assert_int_equal(steps[1], 30);
  json_t *table = parse(ctx, text), *training = json_object_get(row_of(table, "two"), "training");
  assert_int_equal(json_array_size(json_object_get(training, "stages")), 2);
  double flops_of_90 = json_number_value(json_object_get(training, "flops"));
  json_decref(table);

  c.runs = in("flops"), c.budget_steps = 0, c.budget_flops = flops_of_90 * 1.01 / 2;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  stage_steps(ctx, in("flops/two.json"), steps);
  assert_int_equal(steps[0], 30);
  assert_int_equal(steps[1], 15);
  free(text);

  // codes that are made for the second stage are paid for: of this model they cost as much as 30 steps or so
  const char *latent[] = {write_text("codes.yaml", codes)};
  elbo_recipe *r;
  elbo_train_cost base, prior;
  assert_ok(ctx, elbo_recipe_load(ctx, latent[0], 0, NULL, &r));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 0), NULL, &base));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 1), NULL, &prior));
  elbo_recipe_destroy(&r);
  double step = (double)(base.flops_per_step + prior.flops_per_step), before = (double)prior.prepare_flops;
  assert_true(before > 10 * step);
  c.models = latent, c.runs = in("codes"), c.budget_flops = before + 20.5 * step;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  stage_steps(ctx, in("codes/codes.json"), steps);
  assert_true(steps[0] == 20 && steps[1] == 20);
  table = parse(ctx, text);
  double spent = counted(table, "codes", "training_flops");
  assert_true(spent > before + 19.9 * step && spent <= c.budget_flops);
  json_decref(table);
  char *page = read_page(ctx, c.out); // a model of codes has reconstructions and walks as well
  parse_page(page);
  assert_int_equal(count_of(page, "<img "), 1 + 1 + 1 + 2);
  assert_int_equal(count_of(page, "not made"), 0);
  free(page);
  c.runs = in("codes-too-dear"), c.budget_flops = before / 2;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  assert_non_null(strstr(text, "spent before the first step"));
  free(text);

  // of time: how many is the machine's to say; they end, within the recipe's proportions or by the clock
  c.models = models, c.runs = in("time"), c.budget_flops = 0, c.budget_seconds = 0.2;
  assert_ok(ctx, elbo_compare(ctx, &c, &text));
  stage_steps(ctx, in("time/two.json"), steps);
  assert_true(steps[0] >= 1 && steps[1] >= 1);
  table = parse(ctx, text);
  assert_null(json_object_get(row_of(table, "two"), "error"));
  assert_true(counted(table, "two", "training_seconds") > 0);
  json_decref(table);
  elbo_ctx_destroy(&ctx);
}

// What a stage's limit does: it ends there, with a checkpoint, and may be asked for no more.
static void test_stop_after(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  prepare(ctx, "limits");
  elbo_recipe *r;
  elbo_train_config c;
  elbo_train_result result;
  const double limit[2] = {1e9, 1e-9};
  assert_ok(
      ctx, elbo_recipe_load(ctx, write_text("two.yaml", two), 2, (const char *[]){"stages.0.train.steps=3", "stages.1.train.steps=9"}, &r));
  elbo_train_defaults(&c);
  c.out = in("limited"), c.resume = 1, c.stop_after = limit;
  assert_status(ctx, elbo_train(ctx, r, &c, &result), ELBO_ERROR_STOPPED, "step 1 of 9");
  assert_int_equal(result.steps, 4);
  assert_true(directory_exists(in("limited/stages/2-fine/checkpoints/step-1")));
  elbo_recipe_destroy(&r);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole),     cmocka_unit_test(test_decoders), cmocka_unit_test(test_interruption),
                                     cmocka_unit_test(test_failures),  cmocka_unit_test(test_refusals), cmocka_unit_test(test_budgets),
                                     cmocka_unit_test(test_stop_after)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
