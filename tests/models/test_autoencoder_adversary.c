// The adversary of an autoencoder: the adaptive weight and the gradients behind it against terms differentiated one by one, who trains
// when, what is written, what is refused.
#include "models/autoencoder_cases.h"

#include "core/safetensors.h"
#include "ops/op.h"

enum { B = 3, PIXELS = 64, MOST = 512 };

#define PATCHES ", discriminator: {type: patch, channels: [4, 6], activation: tanh}"

// --- gradients ---

typedef struct parameters {
  int n;
  elbo_tensor *at[MOST];
  const char *name[MOST];
} parameters;

static parameters parameters_of(const elbo_graph *g) {
  parameters p = {0};
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (g->nodes[i]->op == &op_parameter) assert_true(p.n < MOST), p.at[p.n] = g->nodes[i]->out[0], p.name[p.n++] = g->nodes[i]->name;
  return p;
}

static void fill(elbo_ctx *ctx, elbo_plan *plan, double adversarial) {
  float x[B * PIXELS];
  test_random r = {test_seed(), 31};
  for (int i = 0; i < B * PIXELS; i++) x[i] = (float)test_uniform(&r);
  assert_ok(ctx, elbo_plan_set(plan, "x", x, B * PIXELS));
  assert_ok(ctx, elbo_plan_set(plan, "weight", (float[]){1, 0.5f, 2}, B));
  if (elbo_plan_input(plan, "adversarial")) *(float *)elbo_plan_input(plan, "adversarial") = (float)adversarial;
  int64_t *index = elbo_plan_input(plan, "sample_index");
  for (int i = 0; index && i < B; i++) index[i] = i;
  if (elbo_plan_input(plan, "seed")) memset(elbo_plan_input(plan, "seed"), 0, 8);
}

// The gradients of `loss` with respect to all parameters of its graph, as floats one behind the other; absent ones are zeros.
static void differentiate(elbo_ctx *ctx, elbo_graph *g, elbo_tensor *loss, elbo_store *store, double adversarial, double *value,
                          double *const *gradient) {
  parameters p = parameters_of(g);
  elbo_tensor *outputs[MOST + 1], *slope[MOST];
  elbo_plan *plan;
  int at[MOST], n = 1;
  assert_ok(ctx, elbo_gradient(loss, p.n, p.at, slope));
  outputs[0] = elbo_scale(loss, 1, 0);
  for (int i = 0; i < p.n; i++) {
    at[i] = slope[i] ? n : -1;
    if (slope[i]) outputs[n++] = slope[i];
  }
  assert_ok(ctx, elbo_plan_create(ctx, g, n, outputs, NULL, &plan));
  fill(ctx, plan, adversarial);
  assert_ok(ctx, elbo_plan_run(plan, store));
  *value = *(const float *)elbo_plan_output(plan, 0);
  for (int i = 0; i < p.n; i++) {
    int k = store_index(store, p.name[i]);
    assert_true(k >= 0);
    for (int64_t j = 0; j < store->entries[k].count; j++)
      gradient[k][j] = at[i] < 0 ? 0 : (double)((const float *)elbo_plan_output(plan, at[i]))[j];
  }
  elbo_plan_destroy(&plan);
}

enum { TOTAL, REC, KL, ADV, LOSSES };

// The terms in graphs of their own: reconstruction, KL per number of the picture, what deceives the adversary.
static elbo_tensor *term_of(const autoencoder_spec *s, int which, elbo_graph *g) {
  const int64_t batch = B;
  autoencoder_pass p = autoencoder_forward(s, g, B, true);
  elbo_tensor *w = elbo_input(g, "weight", ELBO_F32, 1, &batch), *each = p.error;
  if (which == KL) each = elbo_scale(elbo_sum_per_example(p.kl), 1.0 / PIXELS, 0);
  if (which == ADV) {
    discriminator d = discriminator_create(&s->discriminator, g, &s->shape, false);
    each = elbo_mean(elbo_neg(discriminator_apply(&d, elbo_scale(p.y, 0.5, 0.5)).logits), 7u << 1, 0); // hinge
  }
  return elbo_scale(elbo_sum(elbo_mul(each, w), ELBO_ALL_AXES, 0), 1 / 3.5, 0);
}

static void check_gradients(const char *objective, double kl_weight, bool adaptive) {
  enum { ADVERSARIAL_PERCENT = 70 };
  const double adversarial = ADVERSARIAL_PERCENT / 100.0;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  autoencoder_spec s;
  autoencoder_training t;
  elbo_graph *g[LOSSES] = {NULL};
  elbo_store *store;
  double value[LOSSES];
  static double *gradient[LOSSES][MOST];
  double ratio = 1;
  spec_from_text(ctx, a, SMALL_KL PATCHES, objective, &s);
  assert_ok(ctx, autoencoder_training_build(ctx, &s, NULL, B, &t));
  g[TOTAL] = t.graph;
  assert_ok(ctx, elbo_store_create(ctx, 1, &t.graph, 3, &store));
  assert_true(store->n <= MOST);
  elbo_tensor *loss[LOSSES] = {t.loss};
  for (int i = 1; i < LOSSES; i++) {
    assert_ok(ctx, elbo_graph_create(ctx, "term", &g[i]));
    loss[i] = term_of(&s, i, g[i]);
  }
  for (int i = 0; i < LOSSES; i++) {
    for (int k = 0; k < store->n; k++) assert_non_null(gradient[i][k] = calloc((size_t)store->entries[k].count, sizeof(double)));
    differentiate(ctx, g[i], loss[i], store, adversarial, &value[i], gradient[i]);
  }
  if (adaptive) {
    int last = store_index(store, "decoder.conv_out.weight");
    double norm[2] = {0, 0};
    for (int64_t j = 0; j < store->entries[last].count; j++)
      norm[0] += pow(gradient[REC][last][j], 2), norm[1] += pow(gradient[ADV][last][j], 2);
    ratio = sqrt(norm[0]) / (sqrt(norm[1]) + 1e-4);
    assert_true(ratio > 0 && ratio < 1e4 && fabs(ratio - 1) > 0.01);
  }
  assert_near(value[TOTAL], value[REC] + kl_weight * value[KL] + adversarial * ratio * value[ADV], 1e-4);
  double largest = 0;
  for (int k = 0; k < store->n; k++) {
    bool adversary = strncmp(store->entries[k].name, "discriminator.", 14) == 0;
    for (int64_t j = 0; j < store->entries[k].count; j++) {
      double want = adversary ? 0 : gradient[REC][k][j] + kl_weight * gradient[KL][k][j] + adversarial * ratio * gradient[ADV][k][j];
      largest = fmax(largest, fabs(adversarial * ratio * gradient[ADV][k][j]));
      if (!(fabs(gradient[TOTAL][k][j] - want) <= 1e-5 + 1e-3 * fabs(want)))
        fail_msg("%s: d %s[%lld] is %g, the terms say %g", objective, store->entries[k].name, (long long)j, gradient[TOTAL][k][j], want);
    }
  }
  assert_true(largest > 1e-3); // the adversary's share is seen at all
  for (int i = 0; i < LOSSES; i++) {
    for (int k = 0; k < store->n; k++) free(gradient[i][k]);
    elbo_graph_destroy(&g[i]);
  }
  elbo_store_destroy(&store);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

static void test_gradients(void **state) {
  (void)state;
  check_gradients("{adversarial: 0.7, kl: 0.3}", 0.3, true);
  check_gradients("{adversarial: 0.7, kl: 0.3, reconstruction: l2}", 0.3, true);
  check_gradients("{adversarial: 0.7, kl: 0, adaptive: false}", 0, false);
}

// The adversary's own loss by the formula [Lim17]: every patch by itself, padding left out
static void test_adversary(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  arena *a = arena_create(1 << 14);
  autoencoder_spec s;
  autoencoder_training t;
  elbo_store *store;
  elbo_plan *plan;
  spec_from_text(ctx, a, SMALL_KL PATCHES, "{adversarial: 0.7}", &s);
  assert_ok(ctx, autoencoder_adversary_build(ctx, &s, B, &t));
  elbo_graph *g = t.graph;
  autoencoder_pass p = autoencoder_forward(&s, g, B, true);
  discriminator d = discriminator_create(&s.discriminator, g, &s.shape, true);
  elbo_tensor *logits[2] = {discriminator_apply(&d, elbo_scale(p.x, 0.5, 0.5)).logits,
                            discriminator_apply(&d, elbo_scale(p.y, 0.5, 0.5)).logits};
  elbo_tensor *outputs[] = {elbo_scale(t.loss, 1, 0), elbo_scale(logits[0], 1, 0), elbo_scale(logits[1], 1, 0), t.enable};
  const int64_t patches = elbo_tensor_dim(logits[0], 1) * elbo_tensor_dim(logits[0], 2);
  assert_true(patches > 1);
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 4, outputs, NULL, &plan));
  for (int on = 0; on < 2; on++) {
    fill(ctx, plan, on);
    assert_ok(ctx, elbo_plan_run(plan, store));
    const float weight[] = {1, 0.5f, 2}, *real = elbo_plan_output(plan, 1), *fake = elbo_plan_output(plan, 2);
    double want = 0;
    for (int64_t i = 0; i < B * patches; i++)
      want += weight[i / patches] / 3.5 / (double)patches * (fmax(0, 1 - (double)real[i]) + fmax(0, 1 + (double)fake[i]));
    assert_near(*(const float *)elbo_plan_output(plan, 0), want, 1e-5);
    assert_true(*(const float *)elbo_plan_output(plan, 3) == (float)on);
  }
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  arena_destroy(&a);
  elbo_ctx_destroy(&ctx);
}

// --- runs ---

#define RECIPE(MODEL, OBJECTIVE)                                                           \
  "model: {preset: autoencoder, " MODEL PATCHES "}\nobjective: " OBJECTIVE "\n" SMALL_DATA \
  "train: {steps: 6, batch_size: 8, ema: 0, learning_rate: 0.003, checkpoint_every: 2, log_every: 1, keep: 9}\n"

static bool moved(elbo_ctx *ctx, const char *run, int from, int to, const char *prefix) {
  char path[2][8192];
  safetensors *file[2];
  bool out = false;
  for (int i = 0; i < 2; i++) {
    snprintf(path[i], sizeof path[i], "%s/checkpoints/step-%d/training/state.safetensors", run, i ? to : from);
    assert_ok(ctx, safetensors_open(ctx, path[i], &file[i]));
  }
  bool found = false;
  for (int64_t i = 0; i < safetensors_count(file[0]); i++) {
    const tensor_view *v = safetensors_at(file[0], i), *w;
    if (strncmp(v->name, "raw/", 4) != 0 || strncmp(v->name + 4, prefix, strlen(prefix)) != 0) continue;
    w = safetensors_find(file[1], v->name);
    assert_non_null(w);
    found = true, out = out || memcmp(v->data, w->data, v->bytes) != 0;
  }
  assert_true(found);
  for (int i = 0; i < 2; i++) safetensors_close(&file[i]);
  return out;
}

static void test_start(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  const char *run = test_path("start");
  char path[8192], *text;
  size_t size;
  assert_ok(ctx, run_job(ctx, (job){RECIPE(SMALL_KL, "{adversarial: 0.5, adversarial_start: 4, r1: 1}"), run, NULL, false, -1}, &result));
  assert_true(moved(ctx, run, 2, 4, "decoder.") && !moved(ctx, run, 2, 4, "discriminator."));
  assert_true(moved(ctx, run, 4, 6, "decoder.") && moved(ctx, run, 4, 6, "discriminator."));
  snprintf(path, sizeof path, "%s/metrics.jsonl", run);
  assert_ok(ctx, file_read(ctx, path, 1 << 20, &text, &size));
  static const char *const told[] = {"\"adversarial\"", "\"adaptive_weight\"", "\"discriminator.real_right\"", "\"discriminator.fake\"",
                                     "\"discriminator.r1\""};
  for (size_t i = 0; i < sizeof told / sizeof *told; i++)
    if (!strstr(text, told[i])) fail_msg("metrics.jsonl lacks %s: %.300s", told[i], text);
  free(text);
  // before the adversary is there, it is as if it never were
  const char *alone = test_path("alone");
  assert_ok(ctx, run_job(ctx, (job){RECIPE(SMALL_KL, "{}"), alone, NULL, false, -1}, &result));
  elbo_model_config config;
  elbo_model *with, *without;
  elbo_model_defaults(&config);
  config.step = 4;
  assert_ok(ctx, elbo_model_load(ctx, run, &config, &with));
  assert_ok(ctx, elbo_model_load(ctx, alone, &config, &without));
  assert_int_equal(with->store->n, without->store->n); // the adversary is in no model directory
  for (int i = 0; i < with->store->n; i++)
    assert_close(store_data(with->store, i), store_data(without->store, i), with->store->entries[i].count, 2e-4);
  elbo_model_destroy(&with), elbo_model_destroy(&without);
  elbo_ctx_destroy(&ctx);
}

static void test_kinds(void **state) {
  (void)state;
  static const char *const recipes[] = {RECIPE(SMALL_VQ, "{adversarial: 0.5}"),
                                        RECIPE(SMALL_TINY, "{adversarial: 0.5, loss: least_squares}")};
  elbo_ctx *ctx = test_ctx(1);
  for (int i = 0; i < 2; i++) {
    char name[32];
    elbo_train_result result;
    snprintf(name, sizeof name, "kind-%d", i);
    assert_ok(ctx, run_job(ctx, (job){recipes[i], test_path(name), NULL, false, -1}, &result));
    assert_true(isfinite(result.loss));
    assert_true(moved(ctx, test_path(name), 2, 6, "encoder.") && moved(ctx, test_path(name), 2, 6, "discriminator."));
  }
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  static const struct {
    const char *override, *part;
  } bad[] = {
      {"model.discriminator.type=mlp", "model.discriminator.type: an adversary of pictures, patch or conv"},
      {"model.discriminator.channels=[4, 4, 4, 4]", "8x8 pictures are too small for 4 convolutions"},
      {"model.discriminator.channels=[]", "model.discriminator.channels"},
      {"objective.loss=wgan_gp", "objective.loss"},
      {"objective.adversarial=-1", "objective.adversarial"},
      {"objective.adversarial_start=-1", "objective.adversarial_start"},
  };
  elbo_ctx *ctx = test_ctx(1);
  elbo_train_result result;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    elbo_status status = run_job(ctx, (job){RECIPE(SMALL_KL, "{adversarial: 0.5}"), NULL, bad[i].override, false, -1}, &result);
    if (status == ELBO_OK || !strstr(elbo_ctx_message(ctx), bad[i].part))
      fail_msg("%s: %s, message '%s'", bad[i].override, elbo_status_name(status), elbo_ctx_message(ctx));
  }
  // without an adversary nothing is asked of it
  assert_ok(ctx, run_job(ctx, (job){RECIPE(SMALL_KL, "{}"), NULL, "model.discriminator.channels=[4, 4, 4, 4]", false, -1}, &result));
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_adversary), cmocka_unit_test(test_start),
                                     cmocka_unit_test(test_kinds), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
