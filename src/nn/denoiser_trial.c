#include "nn/denoiser_trial.h"

#include "backend/node.h"

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

elbo_status denoiser_trial(elbo_ctx *ctx, const char *where, const denoiser_needs *needs, int64_t height, int64_t width, denoiser_fn build,
                           const void *config, int64_t *parameters) {
  elbo_graph *g;
  TRY(elbo_graph_create(ctx, "network", &g));
  denoiser_call call = {.batch = 1, .height = height, .width = width, .tokens = 1, .time_ids = 1};
  denoiser_inputs in = denoiser_declare(g, needs, &call);
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
  if (status == ELBO_OK && parameters) *parameters = graph_parameter_count(g);
  elbo_graph_destroy(&g);
  return status;
}
