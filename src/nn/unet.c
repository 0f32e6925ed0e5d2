#include "nn/unet.h"

#include "backend/node.h"
#include "nn/layers.h"
#include "nn/unet_walk.h"

static elbo_tensor *last_layers(unet_walk *w, elbo_tensor *x) {
  const unet_config *c = w->config;
  int kernel = (int)c->conv_out_kernel;
  if (c->norm_num_groups || c->class == UNET_2D) {
    x = unet_norm(w, x, "conv_norm_out", unet_groups(c, c->block_out_channels.at[0]));
    x = activate(x, c->class == UNET_2D ? ACTIVATION_SILU : w->activation);
  }
  return conv_layer(x, "conv_out", c->out_channels, kernel, 1, kernel / 2, 1);
}

elbo_tensor *unet_network(const unet_config *c, const denoiser_inputs *in) {
  elbo_graph *g = in->graph;
  unet_levels levels;
  denoiser_needs needs = unet_needs(c);
  if (unet_resolve(g->ctx, c, "unet", &levels) != ELBO_OK) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s", elbo_ctx_message(g->ctx));
  if (!denoiser_inputs_check(&needs, in)) return NULL;
  unet_walk w = {.config = c, .graph = g, .activation = diffusers_activation(c->act_fn), .dropout = in->training ? c->dropout : 0};
  elbo_tensor *x = c->center_input_sample ? elbo_scale(in->sample, 2, -1) : in->sample;
  w.embedding = unet_embedding(c, &levels, in);
  w.context = c->encoder_hid_dim ? linear_layer(in->context, "encoder_hid_proj", c->cross_attention_dim.at[0], 1) : in->context;
  w.picture = x;
  int kernel = (int)c->conv_in_kernel;
  x = conv_layer(x, "conv_in", c->block_out_channels.at[0], kernel, 1, kernel / 2, 1);
  w.skips[w.n_skips++] = x;
  for (int i = 0; i < levels.n; i++) x = unet_down_level(&w, x, &levels.down[i], i);
  x = unet_middle(&w, x, &levels.middle);
  w.picture = NULL; // a new one begins on the way up
  for (int i = 0; i < levels.n && x; i++) x = unet_up_level(&w, x, &levels.up[i], i);
  x = last_layers(&w, x);
  if (w.picture) x = elbo_add(x, w.picture);
  if (c->class != UNET_2D || c->time_embedding_type != UNET_TIME_FOURIER || !x) return x;
  return elbo_div(x, elbo_reshape(in->timestep, 4, (int64_t[]){elbo_tensor_dim(x, 0), 1, 1, 1})); // sigma [Song21 appendix H]
}
