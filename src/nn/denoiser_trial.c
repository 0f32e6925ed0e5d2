#include "nn/denoiser_trial.h"

#include "ops/op.h"

enum { SIDE_MAX = 1 << 16 };

elbo_status denoiser_sizes_check(elbo_ctx *ctx, const char *where, const denoiser_needs *needs, int64_t height, int64_t width,
                                 int64_t channels) {
  if (height < 1 || width < 1 || height > SIDE_MAX || width > SIDE_MAX)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a %lldx%lld picture; expected sides from 1 to %d", where, (long long)height,
                (long long)width, SIDE_MAX);
  if (channels == needs->in_channels) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.in_channels: %lld, but what the network is given has %lld", where,
              (long long)needs->in_channels, (long long)channels);
}

static denoiser_inputs trial_inputs(elbo_graph *g, const denoiser_needs *needs, int64_t height, int64_t width) {
  denoiser_inputs in = {.graph = g};
  in.sample = elbo_input(g, "sample", ELBO_F32, 4, (int64_t[]){1, height, width, needs->in_channels});
  in.timestep = elbo_input(g, "timestep", ELBO_F32, 1, (int64_t[]){1});
  switch ((class_input)needs->class_labels) {
  case CLASS_INPUT_NONE: break;
  case CLASS_INPUT_INDEX: in.class_labels = elbo_input(g, "class_labels", ELBO_I32, 1, (int64_t[]){1}); break;
  case CLASS_INPUT_NUMBER: in.class_labels = elbo_input(g, "class_labels", ELBO_F32, 1, (int64_t[]){1}); break;
  case CLASS_INPUT_VECTOR: in.class_labels = elbo_input(g, "class_labels", ELBO_F32, 2, (int64_t[]){1, needs->class_dim}); break;
  }
  if (needs->context_dim) in.context = elbo_input(g, "context", ELBO_F32, 3, (int64_t[]){1, 1, needs->context_dim});
  if (needs->text_embeds_dim) in.text_embeds = elbo_input(g, "text_embeds", ELBO_F32, 2, (int64_t[]){1, needs->text_embeds_dim});
  if (needs->time_ids) in.time_ids = elbo_input(g, "time_ids", ELBO_F32, 2, (int64_t[]){1, needs->time_ids});
  return in;
}

static int64_t trained_count(const elbo_graph *g) {
  int64_t count = 0;
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *n = g->nodes[i];
    if (n->op == &op_parameter && ((const parameter_attr *)n->attr)->kind == ELBO_PARAM_TRAINED) count += shape_count(&n->out[0]->shape);
  }
  return count;
}

elbo_status denoiser_trial(elbo_ctx *ctx, const char *where, const denoiser_needs *needs, int64_t height, int64_t width, denoiser_fn build,
                           const void *config, int64_t *parameters) {
  elbo_graph *g;
  TRY(elbo_graph_create(ctx, "network", &g));
  denoiser_inputs in = trial_inputs(g, needs, height, width);
  const elbo_tensor *y = build(config, &in);
  elbo_status status = elbo_graph_check(g);
  if (status != ELBO_OK) {
    status = fail_within(ctx, status, "%s", where);
  } else {
    shape want = shape_of(4, (int64_t[]){1, height, width, needs->out_channels});
    char is[SHAPE_TEXT], expected[SHAPE_TEXT];
    if (!y || !shape_equal(&y->shape, &want))
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: the network makes %s of a %lldx%lld picture; expected %s", where,
                    y ? shape_text(&y->shape, is) : "nothing", (long long)height, (long long)width, shape_text(&want, expected));
  }
  if (status == ELBO_OK && parameters) *parameters = trained_count(g);
  elbo_graph_destroy(&g);
  return status;
}
