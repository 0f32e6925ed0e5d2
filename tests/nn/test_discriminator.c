// Adversaries against PyTorch's numbers, second derivatives among them; the losses against their formulas; what is frozen stays.
#include "nn/discriminator.h"
#include "nn/gan_loss.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/safetensors.h"
#include "graph/store.h"
#include "ops/op.h"
#include "support/test.h"

static const int64_t four_six[] = {4, 6}, four_six_eight[] = {4, 6, 8}, five[] = {5}, nine_eight[] = {9, 8};

typedef struct golden {
  const char *name;
  discriminator_config config;
  picture_shape shape;
} golden;

static const golden cases[] = {
    {"conv", {DISCRIMINATOR_CONV, {2, four_six}, {1, five}, 0, ACTIVATION_LEAKY_RELU, false, 1}, {12, 10, 2}},
    {"normed", {DISCRIMINATOR_CONV, {2, four_six}, {0, NULL}, 2, ACTIVATION_LEAKY_RELU, false, 1}, {12, 12, 1}},
    {"patch", {DISCRIMINATOR_PATCH, {3, four_six_eight}, {0, NULL}, 0, ACTIVATION_LEAKY_RELU, false, 1}, {12, 14, 3}},
    {"spectral", {DISCRIMINATOR_CONV, {2, four_six}, {0, NULL}, 0, ACTIVATION_LEAKY_RELU, true, 1}, {9, 9, 2}},
    {"spectral_patch", {DISCRIMINATOR_PATCH, {2, four_six}, {0, NULL}, 0, ACTIVATION_LEAKY_RELU, true, 1}, {12, 12, 1}},
    {"mlp", {DISCRIMINATOR_MLP, {0, NULL}, {2, nine_eight}, 0, ACTIVATION_LEAKY_RELU, false, 1}, {1, 1, 7}},
};
enum { MOST_PARAMETERS = 24 };

typedef struct fixture {
  elbo_ctx *ctx;
  safetensors *file;
  const golden *of;
  elbo_graph *graph;
  elbo_store *store;
  discriminator_output out;
  elbo_tensor *square, *parameter[MOST_PARAMETERS], *gradient[MOST_PARAMETERS];
  char name[MOST_PARAMETERS][64];
  int n;
} fixture;

static const tensor_view *tensor(const fixture *f, const char *key, const char *name) {
  char full[256];
  snprintf(full, sizeof full, "%s.%s%s", f->of->name, key, name);
  const tensor_view *t = safetensors_find(f->file, full);
  if (!t) fail_msg("the golden file has no %s", full);
  return t;
}

static elbo_tensor *graph_parameter(const elbo_graph *g, const char *name) {
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (g->nodes[i]->op == &op_parameter && strcmp(g->nodes[i]->name, name) == 0) return g->nodes[i]->out[0];
  return NULL;
}

// The parameters of a store by their names in the file; the graph's own tensors of the trained ones.
static void load_parameters(fixture *f) {
  for (int i = 0; i < elbo_store_count(f->store); i++) {
    elbo_param_info p;
    assert_ok(f->ctx, elbo_store_get(f->store, i, &p));
    assert_int_equal(strncmp(p.name, "discriminator.", 14), 0);
    const tensor_view *t = tensor(f, "weight.", p.name + 14);
    if (t->bytes != (size_t)p.count * 4) fail_msg("%s %s: another size", f->of->name, p.name);
    memcpy(p.data, t->data, t->bytes);
    if (p.kind == ELBO_PARAM_STATE) continue;
    snprintf(f->name[f->n], sizeof f->name[0], "%s", p.name + 14);
    f->parameter[f->n++] = graph_parameter(f->graph, p.name);
  }
  elbo_store_touch(f->store);
}

static fixture make(const golden *of, bool trained) {
  fixture f = {.ctx = test_ctx(1), .of = of};
  assert_ok(f.ctx, safetensors_open(f.ctx, test_repository_file("tests/golden/discriminators.safetensors"), &f.file));
  assert_ok(f.ctx, elbo_graph_create(f.ctx, of->name, &f.graph));
  assert_ok(f.ctx, discriminator_check(f.ctx, "test", &of->config, &of->shape));
  elbo_tensor *x = elbo_input(f.graph, "x", ELBO_F32, 4, (int64_t[]){3, of->shape.height, of->shape.width, of->shape.channels});
  discriminator d = discriminator_create(&of->config, f.graph, &of->shape, trained);
  f.out = discriminator_apply(&d, x);
  f.square = gradient_square(f.out.logit, x);
  assert_ok(f.ctx, elbo_graph_check(f.graph));
  assert_ok(f.ctx, elbo_store_create(f.ctx, 1, &f.graph, 1, &f.store));
  load_parameters(&f);
  return f;
}

static void finish(fixture *f) {
  elbo_store_destroy(&f->store);
  elbo_graph_destroy(&f->graph);
  safetensors_close(&f->file);
  elbo_ctx_destroy(&f->ctx);
}

static void compare(const fixture *f, const char *key, const char *name, const float *got) {
  const tensor_view *want = tensor(f, key, name);
  int64_t worst, n = (int64_t)(want->bytes / 4);
  const float *numbers = want->data;
  if (!test_close(got, numbers, n, 2e-5, &worst))
    fail_msg("%s.%s%s: element %lld is %.9g, PyTorch has %.9g", f->of->name, key, name, (long long)worst, (double)got[worst],
             (double)numbers[worst]);
}

static void test_golden(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    fixture f = make(&cases[i], true);
    int layers = discriminator_layer_count(&cases[i].config);
    elbo_tensor *dy = elbo_input(f.graph, "dy", ELBO_F32, elbo_tensor_rank(f.out.logits), f.out.logits->shape.dim);
    elbo_tensor *loss = elbo_add(elbo_sum(f.square, ELBO_ALL_AXES, 0), elbo_sum(elbo_mul(dy, f.out.logits), ELBO_ALL_AXES, 0));
    assert_ok(f.ctx, elbo_gradient(loss, f.n, f.parameter, f.gradient));
    elbo_tensor *outputs[3 + MOST_PARAMETERS] = {f.out.logits, f.out.feature[layers - 1], f.square};
    int n = 3;
    for (int k = 0; k < f.n; k++) {
      assert_non_null(f.gradient[k]);
      outputs[n++] = f.gradient[k];
    }
    elbo_plan *plan;
    assert_ok(f.ctx, elbo_plan_create(f.ctx, f.graph, n, outputs, NULL, &plan));
    const tensor_view *x = tensor(&f, "x", ""), *given = tensor(&f, "dy", "");
    assert_ok(f.ctx, elbo_plan_set(plan, "x", x->data, (int64_t)(x->bytes / 4)));
    assert_ok(f.ctx, elbo_plan_set(plan, "dy", given->data, (int64_t)(given->bytes / 4)));
    assert_ok(f.ctx, elbo_plan_run(plan, f.store));
    compare(&f, "logits", "", elbo_plan_output(plan, 0));
    compare(&f, "feature", "", elbo_plan_output(plan, 1));
    compare(&f, "square", "", elbo_plan_output(plan, 2));
    for (int k = 0; k < f.n; k++) compare(&f, "grad.", f.name[k], elbo_plan_output(plan, 3 + k));
    for (int k = 0; k < elbo_store_count(f.store); k++) { // the step of the power iteration
      elbo_param_info p;
      assert_ok(f.ctx, elbo_store_get(f.store, k, &p));
      if (p.kind == ELBO_PARAM_STATE) compare(&f, "after.", p.name + 14, p.data);
    }
    elbo_plan_destroy(&plan);
    finish(&f);
  }
}

// For those whom it judges its parameters are constants, and its state stands still.
static void test_frozen(void **state) {
  (void)state;
  fixture f = make(&cases[3], false);
  assert_ok(f.ctx, elbo_gradient(f.out.logit, f.n, f.parameter, f.gradient));
  for (int k = 0; k < f.n; k++) assert_null(f.gradient[k]);
  elbo_plan *plan;
  assert_ok(f.ctx, elbo_plan_create(f.ctx, f.graph, 1, &f.out.logits, NULL, &plan));
  const tensor_view *x = tensor(&f, "x", "");
  assert_ok(f.ctx, elbo_plan_set(plan, "x", x->data, (int64_t)(x->bytes / 4)));
  assert_ok(f.ctx, elbo_plan_run(plan, f.store));
  elbo_param_info p;
  assert_ok(f.ctx, elbo_store_find(f.store, "discriminator.conv.0.u", &p));
  assert_memory_equal(p.data, tensor(&f, "weight.", "conv.0.u")->data, (size_t)p.count * 4);
  elbo_plan_destroy(&plan);
  finish(&f);
}

// --- losses ---

static double log_sigmoid(double d) { return -log1p(exp(-d)); }

static void formulas(int kind, double d, double want[3]) {
  switch (kind) {
  case GAN_NON_SATURATING: want[0] = -log_sigmoid(d), want[1] = -log_sigmoid(-d), want[2] = -log_sigmoid(d); return;
  case GAN_MINIMAX: want[0] = -log_sigmoid(d), want[1] = -log_sigmoid(-d), want[2] = log_sigmoid(-d); return;
  case GAN_HINGE: want[0] = fmax(0, 1 - d), want[1] = fmax(0, 1 + d), want[2] = -d; return;
  case GAN_LEAST_SQUARES: want[0] = (d - 1) * (d - 1) / 2, want[1] = d * d / 2, want[2] = (d - 1) * (d - 1) / 2; return;
  default: want[0] = -d, want[1] = d, want[2] = -d; return;
  }
}

static void test_losses(void **state) {
  (void)state;
  enum { N = 9 };
  static const float logit[N] = {-30, -3, -1, -0.4f, 0, 0.5f, 1, 2.5f, 30};
  elbo_ctx *ctx = test_ctx(1);
  for (int kind = GAN_NON_SATURATING; kind <= GAN_WASSERSTEIN; kind++) {
    elbo_graph *g;
    elbo_store *store;
    elbo_plan *plan;
    int64_t n = N;
    assert_ok(ctx, elbo_graph_create(ctx, "losses", &g));
    elbo_tensor *d = elbo_input(g, "d", ELBO_F32, 1, &n);
    elbo_tensor *out[3] = {gan_real_loss(kind, d), gan_fake_loss(kind, d), gan_generator_loss(kind, d)};
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
    assert_ok(ctx, elbo_plan_create(ctx, g, 3, out, NULL, &plan));
    assert_ok(ctx, elbo_plan_set(plan, "d", logit, N));
    assert_ok(ctx, elbo_plan_run(plan, store));
    for (int i = 0; i < N; i++) {
      double want[3];
      formulas(kind, (double)logit[i], want);
      for (int k = 0; k < 3; k++) {
        double got = (double)((const float *)elbo_plan_output(plan, k))[i];
        if (!(fabs(got - want[k]) <= 1e-5 * (1 + fabs(want[k]))))
          fail_msg("kind %d, loss %d of %g: %g, not %g", kind, k, (double)logit[i], got, want[k]);
      }
    }
    elbo_plan_destroy(&plan);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&ctx);
}

// A linear critic: its gradient is its weight, everywhere.
static void test_penalty(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  assert_ok(ctx, elbo_graph_create(ctx, "critic", &g));
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){2, 3}), *w = elbo_input(g, "w", ELBO_F32, 2, (int64_t[]){1, 3});
  elbo_tensor *value = elbo_reshape(elbo_linear(x, w, NULL), 1, (int64_t[]){2});
  elbo_tensor *out[3] = {gradient_square(value, x), gradient_from_one(value, x), NULL};
  assert_ok(ctx, elbo_gradient(elbo_sum(out[1], ELBO_ALL_AXES, 0), 1, &w, &out[2]));
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 0, &store));
  assert_ok(ctx, elbo_plan_create(ctx, g, 3, out, NULL, &plan));
  static const float weight[3] = {2, -1, 2};
  assert_ok(ctx, elbo_plan_set(plan, "w", weight, 3));
  assert_ok(ctx, elbo_plan_run(plan, store));
  static const float want[] = {9, 9}, from_one[] = {4, 4}, slope[] = {2 * 2 * 2 * 2 / 3.0f, -1 * 2 * 2 * 2 / 3.0f, 2 * 2 * 2 * 2 / 3.0f};
  assert_close(elbo_plan_output(plan, 0), want, 2, 1e-6);
  assert_close(elbo_plan_output(plan, 1), from_one, 2, 1e-6);
  assert_close(elbo_plan_output(plan, 2), slope, 3, 1e-6); // 2 rows of 2 (|w| - 1) w / |w|
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

static void test_refused(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(1);
  discriminator_config c = cases[2].config;
  picture_shape small = {8, 8, 1}, tiny = {4, 4, 1};
  assert_status(ctx, discriminator_check(ctx, "r.yaml", &c, &tiny), ELBO_ERROR_ARGUMENT,
                "model.discriminator.channels: 4x4 pictures are too small for 3 convolutions: after 2 there are 1x1 left");
  assert_status(ctx, discriminator_check(ctx, "r.yaml", &c, &small), ELBO_ERROR_ARGUMENT, "8x8");
  c.hidden = (config_ints){1, five};
  assert_status(ctx, discriminator_check(ctx, "r.yaml", &c, &(picture_shape){16, 16, 1}), ELBO_ERROR_ARGUMENT, "without dense layers");
  c = cases[5].config, c.hidden.count = 0;
  assert_status(ctx, discriminator_check(ctx, "r.yaml", &c, &cases[5].shape), ELBO_ERROR_ARGUMENT, "model.discriminator.hidden: 0 layers");
  elbo_ctx_destroy(&ctx);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_frozen), cmocka_unit_test(test_losses),
                                     cmocka_unit_test(test_penalty), cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
