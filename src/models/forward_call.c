#include "models/forward_call.h"

#include <stdlib.h>

#include "core/philox.h"
#include "data/dataset.h"
#include "graph/store.h"
#include "graph/store_memory.h"
#include "models/model.h"
#include "models/recipe.h"
#include "nn/denoiser.h"
#include "ops/op.h"

enum { LARGE_FROM = 1 << 24 }; // parameters

struct forward_call {
  session session;
  elbo_store *store;
};

// Noise into every float input, the rows' own numbers into the indices of samples; classes are the first one, as memory of a plan is zero.
static elbo_status fill_inputs(forward_call *c) {
  const elbo_graph *g = c->session.graph;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *leaf = g->nodes[i];
    void *to = leaf->op == &op_input ? elbo_plan_input(c->session.plan, leaf->name) : NULL;
    if (!to) continue;
    int64_t n = shape_count(&leaf->out[0]->shape);
    uint32_t bits[4], stream = philox_stream(leaf->name);
    for (int64_t k = 0; k < n; k++) {
      double pair[2];
      philox_draw(0, stream, 0, (uint32_t)k, bits);
      philox_normal2(bits[0], bits[1], pair);
      switch (leaf->out[0]->dtype) {
      case ELBO_F32: ((float *)to)[k] = (float)pair[0]; break;
      case ELBO_I64: ((int64_t *)to)[k] = k; break;
      case ELBO_I32: ((int32_t *)to)[k] = 0; break;
      default: return fail(c->session.ctx, ELBO_ERROR_INTERNAL, "input '%s' of the network has a type that is not known here", leaf->name);
      }
    }
  }
  return ELBO_OK;
}

// Large weights are pages of a file, as those of a loaded model are.
static elbo_status create_weights(elbo_ctx *ctx, elbo_graph *graph, uint64_t seed, elbo_store **out) {
  bool large = graph_parameter_count(graph) > LARGE_FROM;
  return large ? store_create_in_file(ctx, 1, &graph, seed, out) : elbo_store_create(ctx, 1, &graph, seed, out);
}

elbo_status forward_call_create(elbo_ctx *ctx, const elbo_recipe *recipe, elbo_dataset *data, forward_call **out) {
  *out = NULL;
  elbo_dataset *opened = NULL;
  elbo_graph *graph = NULL;
  elbo_tensor *made = NULL;
  elbo_status status;
  forward_call *c = calloc(1, sizeof *c);
  if (!c) return fail_memory(ctx, sizeof *c, "a network");
  const train_config *train = &recipe->stage->train;
  const config_ints *given = &recipe->stage->bench.shape;
  preset_request request = {.file = recipe->name, .stage = recipe->stage, .config = recipe->config, .micro_batch = train->batch_size};
  if (given->count && given->count != 3) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: bench.shape: %lld numbers; expected height, width and channels", recipe->name,
                  (long long)given->count);
    goto fail;
  }
  if (given->count) {
    request.info = (elbo_dataset_info){
        .format = "none", .height = (int)given->at[0], .width = (int)given->at[1], .channels = (int)given->at[2], .bits = 8};
  } else {
    if (!data) TRY_GOTO(dataset_open_config(ctx, &recipe->stage->data, &opened));
    request.data = data ? data : opened;
    elbo_dataset_get_info(request.data, &request.info);
  }
  TRY_GOTO(recipe->preset->forward(ctx, &request, &graph, &made));
  TRY_GOTO(elbo_graph_check(graph));
  TRY_GOTO(create_weights(ctx, graph, (uint64_t)train->seed, &c->store));
  c->store->no_winograd = recipe->stage->engine.winograd == ENGINE_WINOGRAD_OFF;
  c->store->precision = recipe->stage->engine.precision;
  c->store->keep_transformed = recipe->stage->engine.keep_transformed;
  status = session_create(ctx, graph, c->store, train->batch_size, 1, &made, &c->session);
  graph = NULL; // the session's
  if (status == ELBO_OK) status = fill_inputs(c);
fail:
  elbo_graph_destroy(&graph);
  elbo_dataset_destroy(&opened);
  if (status != ELBO_OK)
    forward_call_destroy(&c);
  else
    *out = c;
  return status;
}

void forward_call_destroy(forward_call **call) {
  if (!call || !*call) return;
  session_destroy(&(*call)->session);
  elbo_store_destroy(&(*call)->store);
  free(*call);
  *call = NULL;
}

elbo_status forward_call_run(forward_call *c) { return elbo_plan_run(c->session.plan, c->store); }
elbo_plan *forward_call_plan(forward_call *c) { return c->session.plan; }

void forward_call_get_cost(const forward_call *c, elbo_train_cost *out) {
  elbo_plan_info plan;
  elbo_plan_get_info(c->session.plan, &plan);
  *out = (elbo_train_cost){.flops_per_step = plan.flops, .arena_bytes = plan.arena_bytes, .library_bytes = plan.packed_bytes};
  for (int i = 0; i < elbo_store_count(c->store); i++) {
    elbo_param_info p;
    if (elbo_store_get(c->store, i, &p) != ELBO_OK) continue;
    out->weight_bytes += p.count * (int64_t)sizeof(float);
    if (p.kind == ELBO_PARAM_TRAINED) out->params += p.count;
  }
  out->planned_bytes = out->arena_bytes + out->library_bytes + out->weight_bytes;
}
