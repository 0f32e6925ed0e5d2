// A network of one's own from plain operations: a digit classifier with its loss, its gradient by elbo_gradient, and gradient descent by
// hand. Errors need no check between the operations: the first one sticks to the graph and comes out at elbo_gradient.
#include <elbo/dataset.h>
#include <elbo/ops.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 100, PIXELS = 784, HIDDEN = 64, CLASSES = 10, PARAMS = 4 };

// x (B,784) -> logits (B,10)
static elbo_tensor *network(elbo_graph *g, elbo_tensor *x, elbo_tensor *param[PARAMS]) {
  param[0] = elbo_parameter(g, "fc1.weight", 2, (int64_t[]){HIDDEN, PIXELS}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  param[1] = elbo_parameter(g, "fc1.bias", 1, (int64_t[]){HIDDEN}, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS);
  param[2] = elbo_parameter(g, "fc2.weight", 2, (int64_t[]){CLASSES, HIDDEN}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
  param[3] = elbo_parameter(g, "fc2.bias", 1, (int64_t[]){CLASSES}, ELBO_PARAM_TRAINED, ELBO_INIT_ZEROS);
  return elbo_linear(elbo_silu(elbo_linear(x, param[0], param[1])), param[2], param[3]);
}

// Outputs of the plan: loss (), logits (B,10), then the gradients of the parameters.
static elbo_status build(elbo_ctx *ctx, elbo_plan **plan, elbo_store **store) {
  elbo_graph *g = NULL;
  elbo_tensor *param[PARAMS], *outputs[2 + PARAMS];
  elbo_status status = elbo_graph_create(ctx, "digits", &g);
  if (status != ELBO_OK) return status;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){BATCH, PIXELS});
  elbo_tensor *target = elbo_input(g, "target", ELBO_F32, 2, (int64_t[]){BATCH, CLASSES}); // one-hot
  elbo_tensor *logits = network(g, x, param);
  elbo_tensor *chosen = elbo_sum(elbo_mul(logits, target), 2u, 0);
  elbo_tensor *loss = elbo_mean(elbo_sub(elbo_logsumexp(logits, 2u, 0), chosen), ELBO_ALL_AXES, 0);
  outputs[0] = loss, outputs[1] = logits;
  status = elbo_gradient(loss, PARAMS, param, outputs + 2);
  if (status == ELBO_OK) status = elbo_store_create(ctx, 1, &g, 1, store);
  if (status == ELBO_OK) status = elbo_plan_create(ctx, g, 2 + PARAMS, outputs, NULL, plan);
  elbo_graph_destroy(&g);
  return status;
}

// Fills the plan's inputs with BATCH examples and runs it.
static elbo_status run(elbo_plan *plan, elbo_store *store, const elbo_array *x, const elbo_array *label, int64_t first) {
  float *target = elbo_plan_input(plan, "target");
  memcpy(elbo_plan_input(plan, "x"), (const float *)x->data + first * PIXELS, BATCH * PIXELS * sizeof(float));
  memset(target, 0, BATCH * CLASSES * sizeof(float));
  for (int b = 0; b < BATCH; b++) target[b * CLASSES + ((const int32_t *)label->data)[first + b]] = 1;
  return elbo_plan_run(plan, store);
}

static elbo_status descend(elbo_plan *plan, elbo_store *store, double rate) {
  static const char *const names[PARAMS] = {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};
  for (int p = 0; p < PARAMS; p++) {
    elbo_param_info info;
    elbo_status status = elbo_store_find(store, names[p], &info);
    if (status != ELBO_OK) return status;
    const float *gradient = elbo_plan_output(plan, 2 + p);
    for (int64_t i = 0; i < info.count; i++) info.data[i] -= (float)rate * gradient[i];
  }
  elbo_store_touch(store);
  return ELBO_OK;
}

static int correct(const elbo_plan *plan, const elbo_array *label, int64_t first) {
  const float *logits = elbo_plan_output(plan, 1);
  int right = 0;
  for (int b = 0; b < BATCH; b++) {
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
      if (logits[b * CLASSES + c] > logits[b * CLASSES + best]) best = c;
    right += best == ((const int32_t *)label->data)[first + b];
  }
  return right;
}

int main(void) {
  char message[256] = "";
  elbo_ctx *ctx = NULL;
  elbo_dataset *data = NULL;
  elbo_array *x = NULL, *y = NULL, *test_x = NULL, *test_y = NULL;
  elbo_plan *plan = NULL;
  elbo_store *store = NULL;
  int right = 0;
  if (elbo_ctx_create(NULL, message, sizeof message, &ctx) != ELBO_OK) return fprintf(stderr, "%s\n", message), 1;
  elbo_status status = elbo_dataset_open(ctx, "digits", 0, NULL, &data);
  if (status == ELBO_OK) status = elbo_dataset_read(data, ELBO_SPLIT_TRAIN, 0, 5000, 1, 0, &x, &y);
  if (status == ELBO_OK) status = elbo_dataset_read(data, ELBO_SPLIT_TEST, 0, 1000, 0, 0, &test_x, &test_y);
  if (status == ELBO_OK) status = build(ctx, &plan, &store);
  for (int step = 0; step < 300 && status == ELBO_OK; step++) {
    status = run(plan, store, x, y, step * BATCH % 5000);
    if (status == ELBO_OK && step % 100 == 0) fprintf(stderr, "step %d: loss %.3f\n", step, *(const float *)elbo_plan_output(plan, 0));
    if (status == ELBO_OK) status = descend(plan, store, 0.5);
  }
  for (int64_t first = 0; first < 1000 && status == ELBO_OK; first += BATCH) {
    status = run(plan, store, test_x, test_y, first);
    if (status == ELBO_OK) right += correct(plan, test_y, first);
  }
  if (status == ELBO_OK)
    printf("%.1f %% of 1000 test digits are named rightly\n", right / 10.0);
  else
    fprintf(stderr, "%s\n", elbo_ctx_message(ctx));
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_array_destroy(&x), elbo_array_destroy(&y), elbo_array_destroy(&test_x), elbo_array_destroy(&test_y);
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
  return status != ELBO_OK;
}
