// A stage that builds on a frozen model of another kind: how its key is resolved, and what a run says when that model has gone or changed.
#include "models/vae_cases.h"

#include <elbo/train.h>

#include <unistd.h>

#include "models/frozen_model.h"
#include "models/vae_task.h"
#include "models/workload.h"
#include "train/run_stages.h"

#define MODEL "model: {latent: {dim: 3}, encoder: {type: mlp, hidden: [9]}, decoder: {type: mlp, hidden: [8]}}"
#define DATA "data: {path: digits, limit: 64, holdout: 8}"
static const char *const two = "stages:\n"
                               "  - name: base\n    " MODEL "\n    " DATA "\n"
                               "    train: {steps: 4, batch_size: 8, learning_rate: 0.01}\n"
                               "  - name: above\n    " MODEL "\n    " DATA "\n"
                               "    train: {steps: 4, batch_size: 8, learning_rate: 0.01, checkpoint_every: 1}\n";
static const char *const one = MODEL "\n" DATA "\ntrain: {steps: 4, batch_size: 8, checkpoint_every: 2}\n";

// The preset vae with a key: its config begins with the key's text, and what comes of it is noted.
typedef struct built_config {
  const char *base;
  const void *vae;
} built_config;
static struct {
  int calls;
  char hash[65];
  int64_t code;
} seen;

static elbo_status create(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const built_config *c = request->config;
  preset_request inner = *request;
  inner.config = c->vae;
  seen.calls++, seen.code = 0;
  if (request->frozen) {
    seen.code = vae_code_size(&request->frozen->spec);
    TRY(frozen_model_hash(request->frozen, seen.hash));
  }
  return preset_vae.create(ctx, &inner, out);
}

static const preset_def building = {.name = "building", .create = create, .frozen = {"model.base", offsetof(built_config, base)}};

static preset_def with_sections(void) {
  preset_def d = building;
  d.sections = preset_vae.sections;
  return d;
}

typedef struct job {
  const char *recipe, *out, *base;
  const preset_def *below; // in place of the first stage's preset
  bool resume;
  int stop_at, calls;
  elbo_train_result result;
} job;

static int watch(void *user, const char *what, int64_t done, int64_t total, const char *text) {
  (void)what, (void)done, (void)total, (void)text;
  job *j = user;
  return ++j->calls != j->stop_at;
}

static elbo_status run(elbo_ctx *ctx, job *j) {
  elbo_recipe *r;
  elbo_train_config config;
  const char *path = test_path("recipe.yaml");
  test_write_file(path, j->recipe, strlen(j->recipe));
  assert_ok(ctx, elbo_recipe_load(ctx, path, 0, NULL, &r));
  elbo_recipe *last = r->n_stages ? &r->stages[r->n_stages - 1] : r;
  preset_def def = with_sections();
  built_config built = {j->base, last->config};
  elbo_train_defaults(&config);
  config.out = j->out, config.resume = j->resume, config.progress = watch, config.progress_user = j;
  last->preset = &def, last->config = &built;
  if (j->below) r->stages[0].preset = j->below;
  elbo_status status = elbo_train(ctx, r, &config, &j->result);
  elbo_recipe_destroy(&r);
  return status;
}

static void hash_of(elbo_ctx *ctx, const char *path, char hash[65]) {
  elbo_model *m;
  assert_ok(ctx, elbo_model_load(ctx, path, NULL, &m));
  assert_ok(ctx, frozen_model_hash(m, hash));
  elbo_model_destroy(&m);
}

// The earlier stage's model: with drawn weights at the check, the trained one when the stage trains.
static void test_stage(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char first[4096], hash[65], moved[4096];
  job j = {.recipe = two, .out = test_path("staged"), .base = "base"};
  seen.calls = 0;
  assert_ok(ctx, run(ctx, &j));
  assert_int_equal(seen.calls, 2);
  assert_int_equal(seen.code, 3);
  assert_ok(ctx, run_stage_path(ctx, j.out, 0, "base", first, sizeof first));
  hash_of(ctx, first, hash);
  assert_string_equal(seen.hash, hash);
  // stopped in the second stage, moved, resumed: the name still finds the first
  job part = {.recipe = two, .out = test_path("parts"), .base = "base", .stop_at = 6};
  assert_int_equal(run(ctx, &part), ELBO_ERROR_STOPPED);
  snprintf(moved, sizeof moved, "%s", test_path("moved"));
  assert_int_equal(rename(part.out, moved), 0);
  job rest = {.recipe = two, .out = moved, .base = "base", .resume = true};
  assert_ok(ctx, run(ctx, &rest));
  assert_int_equal(rest.calls, 2);
  assert_string_equal(seen.hash, hash);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char first[4096], away[4096];
  job nothing = {.recipe = one, .out = test_path("nothing"), .base = test_path("no-such-model")};
  assert_status(ctx, run(ctx, &nothing), ELBO_ERROR_IO, "model.base: ");
  assert_non_null(strstr(elbo_ctx_message(ctx), "no-such-model: no such directory"));
  preset_def dull = preset_vae;
  dull.untrained = NULL;
  job on_nothing = {.recipe = two, .out = test_path("dull"), .base = "base", .below = &dull};
  assert_status(ctx, run(ctx, &on_nothing), ELBO_ERROR_UNSUPPORTED, "model.base: stage base: nothing is built on a model of preset vae");
  assert_int_equal(on_nothing.calls, 0);
  // the first stage has gone, or is another
  job j = {.recipe = two, .out = test_path("gone"), .base = "base", .stop_at = 6}, rest = {.recipe = two, .base = "base", .resume = true};
  job other = {.recipe = two, .out = test_path("other"), .base = "base", .stop_at = 6};
  assert_int_equal(run(ctx, &j), ELBO_ERROR_STOPPED);
  rest.out = j.out;
  assert_ok(ctx, run_stage_path(ctx, j.out, 0, "base", first, sizeof first));
  snprintf(away, sizeof away, "%s", test_path("away"));
  assert_int_equal(rename(first, away), 0);
  assert_status(ctx, run(ctx, &rest), ELBO_ERROR_STATE, "stage 1 (base) before it is not there");
  static char again[1024];
  snprintf(again, sizeof again, "%s", two);
  memcpy(strstr(again, "0.01"), "0.02", 4);
  other.recipe = again;
  assert_int_equal(run(ctx, &other), ELBO_ERROR_STOPPED);
  char ours[8192], theirs[8192], other_first[4096];
  assert_ok(ctx, run_stage_path(ctx, other.out, 0, "base", other_first, sizeof other_first));
  snprintf(ours, sizeof ours, "%s/checkpoints", first), snprintf(theirs, sizeof theirs, "%s/checkpoints", other_first);
  assert_int_equal(rename(away, first), 0);
  assert_int_equal(rename(ours, away), 0);
  assert_int_equal(rename(theirs, ours), 0);
  assert_status(ctx, run(ctx, &rest), ELBO_ERROR_STATE, "model.base: another model than the one that this run was made from until step 2");
  assert_int_equal(rename(ours, theirs), 0);
  assert_int_equal(rename(away, ours), 0);
  assert_ok(ctx, run(ctx, &rest));
  elbo_ctx_destroy(&ctx);
}

// A run, or a model directory, that is no stage of the recipe.
static void test_outside(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  char hash[65];
  job none = {.recipe = one, .out = test_path("alone"), .base = ""};
  assert_ok(ctx, run(ctx, &none));
  assert_int_equal(seen.code, 0);
  job j = {.recipe = one, .out = test_path("upon"), .base = none.out, .stop_at = 2};
  assert_int_equal(run(ctx, &j), ELBO_ERROR_STOPPED);
  hash_of(ctx, none.out, hash);
  assert_string_equal(seen.hash, hash);
  char longer[1024]; // the run goes on behind its back
  snprintf(longer, sizeof longer, "%s", one);
  memcpy(strstr(longer, "steps: 4"), "steps: 6", 8);
  job more = {.recipe = longer, .out = none.out, .base = "", .resume = true};
  assert_ok(ctx, run(ctx, &more));
  job rest = {.recipe = one, .out = j.out, .base = none.out, .resume = true};
  assert_status(ctx, run(ctx, &rest), ELBO_ERROR_STATE, "model.base: another model");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_stage), cmocka_unit_test(test_refused), cmocka_unit_test(test_outside)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
