#include <string.h>

#include "graph/store.h"
#include "models/model.h"

static elbo_status create(elbo_ctx *ctx, elbo_graph *graph, elbo_store *store, int64_t batch, int n_outputs, elbo_tensor *const *outputs,
                          bool lean, session *out) {
  *out = (session){.ctx = ctx, .graph = graph, .store = store, .batch = batch};
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.no_winograd = store && store->no_winograd;
  config.precision = store ? store->precision : ELBO_PRECISION_FLOAT32;
  if (store) config.keep_transformed = store->keep_transformed;
  if (lean) config.keep_transformed = 0;
  config.weights_constant = 1; // packed again when the store's version says that they did change
  elbo_status status = elbo_graph_check(graph);
  if (status == ELBO_OK) status = elbo_plan_create(ctx, graph, n_outputs, outputs, &config, &out->plan);
  if (status != ELBO_OK) session_destroy(out);
  return status;
}

elbo_status session_create(elbo_ctx *ctx, elbo_graph *graph, elbo_store *store, int64_t batch, int n_outputs, elbo_tensor *const *outputs,
                           session *out) {
  return create(ctx, graph, store, batch, n_outputs, outputs, false, out);
}

elbo_status session_create_lean(elbo_ctx *ctx, elbo_graph *graph, elbo_store *store, elbo_tensor *output, session *out) {
  return create(ctx, graph, store, 1, 1, &output, true, out);
}

void session_destroy(session *s) {
  elbo_plan_destroy(&s->plan);
  elbo_graph_destroy(&s->graph);
  s->store = NULL;
}

int64_t session_row_size(const session *s, const char *name) { return (int64_t)(elbo_plan_input_bytes(s->plan, name) / 4) / s->batch; }

// Rows of four-byte elements into input `name`, the first of them again for what is missing of the batch
static void fill(session *s, const char *name, const void *rows, int64_t first, int64_t count) {
  char *to = elbo_plan_input(s->plan, name);
  if (!to || !rows) return;
  size_t row = elbo_plan_input_bytes(s->plan, name) / (size_t)s->batch;
  const char *from = (const char *)rows + (size_t)first * row;
  memcpy(to, from, (size_t)count * row);
  for (int64_t i = count; i < s->batch; i++) memcpy(to + (size_t)i * row, from, row);
}

elbo_status session_run(session *s, const session_rows *rows, int64_t first, int64_t count) {
  fill(s, "x", rows->x, first, count);
  fill(s, "codes", rows->codes, first, count);
  fill(s, "condition", rows->condition, first, count); // a plan reads one of the two
  fill(s, "label", rows->condition, first, count);
  int64_t *index = elbo_plan_input(s->plan, "sample_index");
  for (int64_t i = 0; index && i < s->batch; i++) {
    int64_t row = i < count ? first + i : first;
    index[i] = rows->index ? rows->index[row] : row;
  }
  int64_t *seed = elbo_plan_input(s->plan, "seed");
  if (seed) memcpy(seed, &rows->seed, sizeof *seed);
  float *temperature = elbo_plan_input(s->plan, "temperature");
  if (temperature) *temperature = rows->temperature;
  return elbo_plan_run(s->plan, s->store);
}

const float *session_output(const session *s, int i) { return elbo_plan_output(s->plan, i); }
