// The quantiser's losses, gradients and use of its table against diffusers'.
#include <math.h>
#include <string.h>

#include "core/safetensors.h"
#include "nn/vector_quantizer.h"
#include "support/test.h"

static elbo_ctx *ctx;
static safetensors *file;

static const tensor_view *view(const char *name) {
  const tensor_view *v = safetensors_find(file, name);
  if (!v) fail_msg("the file has no %s", name);
  return v;
}

static elbo_tensor *input(elbo_graph *g, const char *name) { return elbo_input(g, name, ELBO_F32, view(name)->rank, view(name)->dim); }

static void fill(elbo_plan *plan, const char *name) {
  float values[512];
  memcpy(values, view(name)->data, view(name)->bytes); // the file's data may be unaligned
  assert_ok(ctx, elbo_plan_set(plan, name, values, (int64_t)(view(name)->bytes / 4)));
}

static void compare(elbo_plan *plan, int output, const char *name) {
  float values[512];
  memcpy(values, view(name)->data, view(name)->bytes);
  assert_close(elbo_plan_output(plan, output), values, (int64_t)(view(name)->bytes / 4), 1e-5);
}

static void test_losses(void **state) {
  (void)state;
  static const char *const name[2][3] = {{"paper.loss", "paper.d.z", "paper.d.table"}, {"legacy.loss", "legacy.d.z", "legacy.d.table"}};
  for (int legacy = 0; legacy < 2; legacy++) {
    elbo_graph *g;
    elbo_plan *plan;
    assert_ok(ctx, elbo_graph_create(ctx, "quantiser", &g));
    elbo_tensor *z = input(g, "z"), *table = input(g, "table"), *wrt[2] = {z, table}, *gradient[2];
    quantized q = quantize_vectors(z, table);
    elbo_tensor *loss = quantization_loss(z, &q, 0.25, legacy, NULL),
                *codes = elbo_sum(elbo_mul(q.codes, input(g, "dcodes")), ELBO_ALL_AXES, 0);
    assert_ok(ctx, elbo_gradient(elbo_add(loss, codes), 2, wrt, gradient));
    elbo_tensor *outputs[] = {elbo_scale(loss, 1, 0), gradient[0], gradient[1]};
    assert_ok(ctx, elbo_plan_create(ctx, g, 3, outputs, NULL, &plan));
    fill(plan, "z"), fill(plan, "table"), fill(plan, "dcodes");
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    for (int i = 0; i < 3; i++) compare(plan, i, name[legacy][i]);
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
  }
}

static void test_use(void **state) {
  (void)state;
  enum { ROWS = 7, PLACES = 40 };
  elbo_graph *g;
  elbo_plan *plan;
  int64_t index[PLACES];
  double share[2][ROWS] = {{0}};
  const int64_t two = 2;
  assert_ok(ctx, elbo_graph_create(ctx, "quantiser", &g));
  elbo_tensor *weight = elbo_input(g, "weight", ELBO_F32, 1, &two);
  quantized q = quantize_vectors(input(g, "z"), input(g, "table"));
  elbo_tensor *all = code_shares(&q, ROWS, NULL), *first = code_shares(&q, ROWS, elbo_reshape(weight, 3, (int64_t[]){2, 1, 1}));
  elbo_tensor *outputs[] = {all, first, code_perplexity(all)};
  assert_ok(ctx, elbo_plan_create(ctx, g, 3, outputs, NULL, &plan));
  fill(plan, "z"), fill(plan, "table");
  assert_ok(ctx, elbo_plan_set(plan, "weight", (float[]){1, 0}, 2)); // the second example is padding
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  assert_int_equal(view("index")->bytes, sizeof(float) * PLACES);
  for (int i = 0; i < PLACES; i++) {
    float at;
    memcpy(&at, (const char *)view("index")->data + i * 4, 4);
    index[i] = (int64_t)at;
    share[0][index[i]] += 1.0 / PLACES;
    if (i < PLACES / 2) share[1][index[i]] += 2.0 / PLACES;
  }
  for (int k = 0; k < 2; k++)
    for (int r = 0; r < ROWS; r++) assert_near(((const float *)elbo_plan_output(plan, k))[r], share[k][r], 1e-6);
  compare(plan, 2, "perplexity");
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
}

// An example of weight 0 pulls at nothing: the loss is that of the others alone.
static void test_padding(void **state) {
  (void)state;
  elbo_graph *g;
  elbo_plan *plan;
  const int64_t two = 2;
  assert_ok(ctx, elbo_graph_create(ctx, "quantiser", &g));
  elbo_tensor *z = input(g, "z"), *table = input(g, "table"), *weight = elbo_input(g, "weight", ELBO_F32, 1, &two),
              *first = elbo_slice(z, 0, 0, 1);
  quantized q = quantize_vectors(z, table), alone = quantize_vectors(first, table);
  elbo_tensor *outputs[] = {quantization_loss(z, &q, 0.25, false, weight), quantization_loss(first, &alone, 0.25, false, NULL)};
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, outputs, NULL, &plan));
  fill(plan, "z"), fill(plan, "table");
  assert_ok(ctx, elbo_plan_set(plan, "weight", (float[]){1, 0}, 2));
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  assert_near(*(const float *)elbo_plan_output(plan, 0), *(const float *)elbo_plan_output(plan, 1), 1e-6);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_use), cmocka_unit_test(test_padding)};
  ctx = test_ctx(1);
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/autoencoder_losses.safetensors"), &file));
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  safetensors_close(&file);
  elbo_ctx_destroy(&ctx);
  return failed;
}
