// Recipes of several stages: read and overridden, trained one after the other, resumed in the right one to the bit, refused with reasons.
#include "models/vae_cases.h"

#include <elbo/model.h>
#include <elbo/train.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "graph/store.h"
#include "models/model.h"
#include "models/recipe.h"
#include "train/run.h"
#include "train/run_stages.h"

#define MODEL "model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}"
#define DATA "data: {path: digits, limit: 64, holdout: 8}"
static const char *const two = "stages:\n"
                               "  - name: first\n    " MODEL "\n    " DATA "\n"
                               "    train: {steps: 5, batch_size: 8, ema: 0.9, learning_rate: 0.01, checkpoint_every: 2, log_every: 2}\n"
                               "  - name: second\n    " MODEL "\n    objective: {beta: 0.5}\n    " DATA "\n"
                               "    train: {steps: 4, batch_size: 8, ema: 0.9, learning_rate: 0.01, checkpoint_every: 3, log_every: 2,\n"
                               "            init: first, freeze: [encoder], seed: 7}\n";

static const char *write_recipe(const char *name, const char *text) {
  const char *path = test_path(name);
  test_write_file(path, text, strlen(text));
  return path;
}

// --- reading ---

static void expect(elbo_ctx *ctx, const elbo_recipe *r, const char *key, const char *want) {
  char *got;
  assert_ok(ctx, elbo_recipe_get(r, key, &got));
  assert_string_equal(got, want);
  free(got);
}

static void test_load(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_recipe *r, *again;
  static const char *const overrides[] = {"train.keep=9", "stages.1.train.steps=6", "stages.second.train.seed=8", "stages.0.train.keep=2"};
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("two.yaml", two), 4, overrides, &r));
  assert_int_equal(elbo_recipe_stage_count(r), 2);
  assert_null(elbo_recipe_stage(r, 2));
  assert_null(elbo_recipe_stage(r, -1));
  assert_string_equal(elbo_recipe_stage_name(elbo_recipe_stage(r, 1)), "second");
  expect(ctx, r, "stages.0.train.steps", "5");
  expect(ctx, r, "stages.1.train.steps", "6");
  expect(ctx, r, "stages.second.train.seed", "8");
  expect(ctx, r, "stages.first.train.keep", "2");
  expect(ctx, r, "stages.second.train.keep", "9");
  expect(ctx, elbo_recipe_stage(r, 1), "train.steps", "6");
  expect(ctx, elbo_recipe_stage(r, 1), "train.freeze", "[encoder]");
  char *text[2], *none;
  assert_status(ctx, elbo_recipe_get(r, "stages.third.train.steps", &none), ELBO_ERROR_ARGUMENT, "third");
  assert_status(ctx, elbo_recipe_get(r, "train.steps", &none), ELBO_ERROR_ARGUMENT, "train.steps");
  assert_ok(ctx, elbo_recipe_text(r, &text[0]));
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("again.yaml", text[0]), 0, NULL, &again));
  assert_ok(ctx, elbo_recipe_text(again, &text[1]));
  assert_string_equal(text[0], text[1]);
  free(text[0]), free(text[1]);
  elbo_recipe_destroy(&again), elbo_recipe_destroy(&r);
  // a list of one is the short form, its name for nobody
  static const char *const one[] = {"stages.0.train.steps=3", "stages.only.train.keep=4", "train.seed=5"};
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("one.yaml", "stages:\n  - {name: only, " DATA "}\n"), 3, one, &r));
  assert_int_equal(elbo_recipe_stage_count(r), 1);
  assert_ptr_equal(elbo_recipe_stage(r, 0), r);
  expect(ctx, r, "train.steps", "3");
  expect(ctx, r, "train.keep", "4");
  expect(ctx, r, "train.seed", "5");
  elbo_recipe_destroy(&r);
  elbo_ctx_destroy(&ctx);
}

static void test_refused_recipes(void **state) {
  (void)state;
  static const struct {
    const char *text, *override, *part;
  } bad[] = {
      {"stages: [{}, {}]\n", NULL, "two are called 'vae'"},
      {"stages: [{name: a}, {name: a}]\n", NULL, "two are called 'a'"},
      {"stages: [{name: a/b}, {}]\n", NULL, "letters, digits"},
      {"stages: [{name: 12}, {}]\n", NULL, "not digits alone"},
      {"stages: [{name: [a]}, {}]\n", NULL, "letters, digits"},
      {"stages: [{name: a}, {name: b, trian: {}}]\n", NULL, "did you mean 'train'"},
      {"stages: [{name: a}, {name: b}]\ntrain: {}\n", NULL, "stands alone"},
      {"stages: [{name: a}, 3]\n", NULL, "a block"},
      {"stages: {a: {}}\n", NULL, "a list of"},
      {"stages: [{name: a}, {name: b}]\n", "stages.2.train.steps=1", "no such stage; expected 0 or a, 1 or b"},
      {"stages: [{name: a}, {name: b}]\n", "stages.c.train.steps=1", "no such stage"},
      {"stages: [{name: a}, {name: b}]\n", "stages.1=1", "no such stage"},
      {"stages: [{name: a}, {name: b}]\n", "stages.b.train.stepz=1", "did you mean 'steps'"},
      {"name: a\nmodel: {}\n", NULL, "name"},
  };
  elbo_ctx *ctx = test_ctx(1);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    elbo_recipe *r;
    elbo_status status = elbo_recipe_load(ctx, write_recipe("bad.yaml", bad[i].text), bad[i].override != NULL, &bad[i].override, &r);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s: %s, message '%s'", bad[i].text, elbo_status_name(status), elbo_ctx_message(ctx));
  }
  elbo_ctx_destroy(&ctx);
}

// --- training ---

typedef struct watcher {
  int calls, stop_at, kill_at; // of all stages together; 0: never
  char last[64];
} watcher;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  watcher *w = user;
  (void)done, (void)total, (void)text;
  w->calls++;
  snprintf(w->last, sizeof w->last, "%s", what);
  if (w->calls == w->kill_at) raise(SIGKILL);
  return w->calls != w->stop_at;
}

typedef struct job {
  const char *out, *override;
  bool resume;
  watcher watcher;
  elbo_train_result result;
} job;

static elbo_status run(elbo_ctx *ctx, job *j) {
  elbo_recipe *r;
  elbo_train_config config;
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("two.yaml", two), j->override != NULL, &j->override, &r));
  elbo_train_defaults(&config);
  config.out = j->out, config.resume = j->resume, config.progress = watch, config.progress_user = &j->watcher;
  elbo_status status = elbo_train(ctx, r, &config, &j->result);
  elbo_recipe_destroy(&r);
  return status;
}

static void assert_same_runs(elbo_ctx *ctx, const char *a, const char *b) {
  static const char *const names[] = {"recipe.yaml",
                                      "stages/1-first/recipe.yaml",
                                      "stages/2-second/recipe.yaml",
                                      "stages/1-first/checkpoints/step-5/training/state.safetensors",
                                      "stages/1-first/checkpoints/step-5/training/state.json",
                                      "stages/2-second/checkpoints/step-4/training/state.safetensors",
                                      "stages/2-second/checkpoints/step-4/training/state.json",
                                      "stages/2-second/checkpoints/step-4/decoder/diffusion_pytorch_model.safetensors"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[2][8192], *text[2];
    size_t size[2];
    for (int k = 0; k < 2; k++) {
      snprintf(path[k], sizeof path[k], "%s/%s", k ? b : a, names[i]);
      assert_ok(ctx, file_read(ctx, path[k], 1 << 24, &text[k], &size[k]));
    }
    if (size[0] != size[1] || memcmp(text[0], text[1], size[0]) != 0) fail_msg("%s and %s differ", path[0], path[1]);
    free(text[0]), free(text[1]);
  }
}

static const char *reference(elbo_ctx *ctx) {
  static char path[4096];
  if (*path) return path;
  snprintf(path, sizeof path, "%s", test_path("reference"));
  job j = {.out = path};
  assert_ok(ctx, run(ctx, &j));
  assert_int_equal(j.watcher.calls, 9);
  assert_string_equal(j.watcher.last, "train second");
  assert_int_equal(j.result.steps, 9);
  assert_int_equal(j.result.samples, 72);
  assert_int_equal(j.result.already_finished, 0);
  assert_true(j.result.flops > 0);
  return path;
}

static elbo_model *load_model(elbo_ctx *ctx, const char *path, bool raw) {
  elbo_model *m;
  elbo_model_config config;
  elbo_model_defaults(&config);
  config.ema = raw ? -1 : 0;
  assert_ok(ctx, elbo_model_load(ctx, path, &config, &m));
  return m;
}

static bool same_part(const elbo_model *a, const elbo_model *b, const char *prefix) {
  int met = 0, same = 0;
  for (int i = 0; i < elbo_store_count(a->store); i++) {
    elbo_param_info x, y;
    assert_int_equal(elbo_store_get(a->store, i, &x), ELBO_OK);
    if (strncmp(x.name, prefix, strlen(prefix)) != 0) continue;
    assert_int_equal(elbo_store_find(b->store, x.name, &y), ELBO_OK);
    met++, same += memcmp(x.data, y.data, (size_t)x.count * sizeof(float)) == 0;
  }
  assert_true(met > 1 && (same == 0 || same == met));
  return same == met;
}

// The second begins with the averages of the first; what is frozen stays, in the raw weights and in the averages, the rest is trained.
static void test_hand_over(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *out = reference(ctx);
  char first[4096];
  assert_ok(ctx, run_stage_path(ctx, out, 0, "first", first, sizeof first));
  elbo_model *a = load_model(ctx, first, false), *averages = load_model(ctx, out, false), *raw = load_model(ctx, out, true);
  assert_int_equal(a->step, 5);
  assert_int_equal(averages->step, 4);
  assert_true(same_part(a, averages, "encoder.") && same_part(a, raw, "encoder."));
  assert_false(same_part(a, averages, "decoder.") || same_part(a, raw, "decoder."));
  elbo_model_destroy(&a), elbo_model_destroy(&averages), elbo_model_destroy(&raw);
  elbo_dataset *data;
  elbo_dataset_info info;
  assert_ok(ctx, elbo_model_open_data(ctx, out, NULL, 0, NULL, &data));
  elbo_dataset_get_info(data, &info);
  assert_int_equal(info.count[ELBO_SPLIT_VALID], 8);
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
}

// Stopped after every step in turn, the ends of the stages among them.
static void test_resume(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *whole = reference(ctx);
  static const int stops[] = {1, 4, 5, 6, 8};
  for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
    int at = stops[i];
    char name[32];
    snprintf(name, sizeof name, "stopped-%d", at);
    job j = {.out = test_path(name), .watcher = {.stop_at = at}};
    elbo_status status = run(ctx, &j);
    if (at == 5) { // the last step of a stage: it is finished, and the next is stopped after its first
      assert_ok(ctx, status);
      continue;
    }
    assert_int_equal(status, ELBO_ERROR_STOPPED);
    assert_int_equal(j.result.steps, at);
    job rest = {.out = j.out, .resume = true};
    assert_ok(ctx, run(ctx, &rest));
    assert_int_equal(rest.watcher.calls, 9 - at);
    assert_int_equal(rest.result.steps, 9);
    assert_same_runs(ctx, whole, j.out);
  }
  // finished: nothing is done, nothing is changed
  job again = {.out = whole, .resume = true};
  assert_ok(ctx, run(ctx, &again));
  assert_int_equal(again.watcher.calls, 0);
  assert_int_equal(again.result.already_finished, 1);
  assert_int_equal(again.result.steps, 9);
  elbo_ctx_destroy(&ctx);
}

static void test_kill(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  const char *whole = reference(ctx);
  static const int at[] = {3, 5, 8};
  for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
    char name[32];
    snprintf(name, sizeof name, "killed-%d", at[i]);
    job j = {.out = test_path(name), .watcher = {.kill_at = at[i]}};
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      elbo_ctx *own = test_ctx(1);
      (void)!run(own, &j);
      _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    job rest = {.out = j.out, .resume = true};
    assert_ok(ctx, run(ctx, &rest));
    assert_same_runs(ctx, whole, j.out);
  }
  elbo_ctx_destroy(&ctx);
}

// RUN is the model of the last stage that is finished; while the first is under way, that one's newest checkpoint.
static void test_which_model(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char path[4096], stage[4096];
  job j = {.out = test_path("partly"), .watcher = {.stop_at = 3}};
  assert_int_equal(run(ctx, &j), ELBO_ERROR_STOPPED);
  assert_true(run_is_run(j.out) && run_has_stages(j.out));
  assert_ok(ctx, run_find_checkpoint(ctx, j.out, -1, path, sizeof path, NULL));
  assert_non_null(strstr(path, "1-first/checkpoints/step-3"));
  job more = {.out = j.out, .resume = true, .watcher = {.stop_at = 5}}; // three steps into the second
  assert_int_equal(run(ctx, &more), ELBO_ERROR_STOPPED);
  assert_ok(ctx, run_find_checkpoint(ctx, j.out, -1, path, sizeof path, NULL));
  assert_non_null(strstr(path, "1-first/checkpoints/step-5"));
  assert_ok(ctx, run_stage_path(ctx, j.out, 1, "second", stage, sizeof stage));
  assert_ok(ctx, run_find_checkpoint(ctx, stage, -1, path, sizeof path, NULL));
  assert_non_null(strstr(path, "2-second/checkpoints/step-3"));
  assert_ok(ctx, run_find_checkpoint(ctx, reference(ctx), -1, path, sizeof path, NULL));
  assert_non_null(strstr(path, "2-second/checkpoints/step-4"));
  assert_ok(ctx, run_resolve(ctx, stage, path, sizeof path));
  assert_string_equal(path, stage);
  for (int i = 0; i < 20; i++) { // files that somebody has put beside the stages are none, in whatever order they are listed
    snprintf(path, sizeof path, "%s/stages/1-%d.json", j.out, i);
    test_write_file(path, "{}", 2);
  }
  assert_ok(ctx, run_find_checkpoint(ctx, j.out, -1, path, sizeof path, NULL));
  assert_non_null(strstr(path, "1-first/checkpoints/step-5"));
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  job there = {.out = reference(ctx)}, other = {.out = there.out, .resume = true, .override = "stages.1.objective.beta=2"};
  assert_status(ctx, run(ctx, &there), ELBO_ERROR_STATE, "holds a run of this recipe already");
  assert_status(ctx, run(ctx, &other), ELBO_ERROR_STATE, "stages[1].objective.beta is 0.5 there and 2 here");
  // the second was made from the first as it is
  job longer = {.out = there.out, .resume = true, .override = "stages.0.train.steps=6"};
  assert_status(ctx, run(ctx, &longer), ELBO_ERROR_STATE, "stage 2 (second) has begun, but stage 1 (first) before it is asked for more");
  char first[4096];
  job gone = {.out = test_path("gone"), .watcher = {.stop_at = 7}};
  assert_int_equal(run(ctx, &gone), ELBO_ERROR_STOPPED);
  gone.watcher.stop_at = 0, gone.resume = true;
  assert_ok(ctx, run_stage_path(ctx, gone.out, 0, "first", first, sizeof first));
  assert_int_equal(rename(first, test_path("away")), 0);
  assert_status(ctx, run(ctx, &gone), ELBO_ERROR_STATE, "stage 2 (second) has begun, but stage 1 (first) before it is not there");
  assert_int_equal(rename(test_path("away"), first), 0);
  assert_ok(ctx, run(ctx, &gone));
  // more steps of the last one are one key
  job more = {.out = gone.out, .resume = true, .override = "stages.second.train.steps=5"};
  assert_ok(ctx, run(ctx, &more));
  assert_int_equal(more.result.steps, 10);
  // what is wrong with a later stage shows before the first one trains
  job wrong = {.out = test_path("wrong"), .override = "stages.1.data.path=/no/such/data"};
  assert_status(ctx, run(ctx, &wrong), ELBO_ERROR_IO, "stage second: /no/such/data");
  assert_int_equal(wrong.watcher.calls, 0);
  job typo = {.out = test_path("typo"), .override = "stages.0.train.freeze=[encodre]"};
  assert_status(ctx, run(ctx, &typo), ELBO_ERROR_ARGUMENT, "train.freeze: 'encodre': no trained parameter's name begins so");
  job later = {.out = test_path("later"), .override = "stages.0.train.init=second"}; // only earlier ones have anything to give
  assert_status(ctx, run(ctx, &later), ELBO_ERROR_IO, "train.init: second");
  job nowhere = {.out = NULL};
  assert_status(ctx, run(ctx, &nowhere), ELBO_ERROR_ARGUMENT, "run directory");
  elbo_ctx_destroy(&ctx);
}

static void test_dry_run(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_recipe *r;
  elbo_train_cost first, second;
  assert_ok(ctx, elbo_recipe_load(ctx, write_recipe("two.yaml", two), 0, NULL, &r));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 0), NULL, &first));
  assert_ok(ctx, elbo_train_dry_run(ctx, elbo_recipe_stage(r, 1), NULL, &second));
  // the frozen encoder is neither counted nor differentiated
  assert_int_equal(first.params - second.params, 784 * 9 + 9 + 9 * 6 + 6);
  assert_true(second.flops_per_step < first.flops_per_step);
  assert_status(ctx, elbo_train_dry_run(ctx, r, NULL, &first), ELBO_ERROR_ARGUMENT, "this recipe has 2");
  elbo_recipe_destroy(&r);
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_load),      cmocka_unit_test(test_refused_recipes),
                                     cmocka_unit_test(test_hand_over), cmocka_unit_test(test_resume),
                                     cmocka_unit_test(test_kill),      cmocka_unit_test(test_which_model),
                                     cmocka_unit_test(test_refused),   cmocka_unit_test(test_dry_run)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
