// The vector that conditions a UNet's blocks: time, class, and what some models add.
#include <math.h>

#include "backend/node.h"
#include "nn/attention_block.h"
#include "nn/time_embedding.h"
#include "nn/unet_walk.h"

// Of a key whose names begin with null
static elbo_tensor *activate_unless_null(elbo_tensor *x, int act) { return act ? activate(x, diffusers_activation(act - 1)) : x; }

static elbo_tensor *sinusoids(const unet_config *c, elbo_tensor *t, int64_t width) {
  return sinusoid_embedding(t, &(sinusoid_config){.width = width, .cosine_first = c->flip_sin_to_cos, .freq_shift = (double)c->freq_shift});
}

// A number an example as a vector: the time, or a class_embed_type of timestep. (B) -> (B,I)
static elbo_tensor *project_time(const unet_config *c, const unet_levels *l, elbo_tensor *t) {
  int64_t width = c->block_out_channels.at[0];
  switch (c->time_embedding_type) {
  case UNET_TIME_FOURIER:
    if (c->class == UNET_2D) return fourier_embedding(elbo_log(t), "time_proj", width, 16, false);
    return fourier_embedding(t, "time_proj", l->time_dim / 2, 1, c->flip_sin_to_cos);
  case UNET_TIME_LEARNED: return embedding_layer(elbo_cast(t, ELBO_I32), "time_proj", c->num_train_timesteps, width);
  default: return sinusoids(c, t, width);
  }
}

static elbo_tensor *class_embedding(const unet_config *c, const unet_levels *l, elbo_tensor *labels) {
  int activation = c->class == UNET_2D ? ACTIVATION_SILU : diffusers_activation(c->act_fn);
  switch (c->class_embed_type) {
  case UNET_CLASS_TIMESTEP: return embedding_network(project_time(c, l, labels), "class_embedding", l->time_dim, activation, NULL);
  case UNET_CLASS_IDENTITY: return labels;
  case UNET_CLASS_PROJECTION: return embedding_network(labels, "class_embedding", l->time_dim, ACTIVATION_SILU, NULL);
  case UNET_CLASS_SIMPLE_PROJECTION: return linear_layer(labels, "class_embedding", l->time_dim, 1);
  default: return embedding_layer(labels, "class_embedding", c->num_class_embeds, l->time_dim);
  }
}

// A text as one vector: attention of its mean, shifted by a learned position, to itself and all tokens. (B,M,D) -> (B,D)
static elbo_tensor *pool_text(elbo_tensor *x, int64_t heads) {
  if (!x) return NULL;
  elbo_graph *g = elbo_tensor_graph(x);
  int64_t b = elbo_tensor_dim(x, 0), d = elbo_tensor_dim(x, 2);
  elbo_scope_push(g, "pool");
  elbo_init init = {ELBO_INIT_KIND_NORMAL, 1 / sqrt((double)d), 0};
  elbo_tensor *position = elbo_parameter(g, "positional_embedding", 2, (int64_t[]){1, d}, ELBO_PARAM_TRAINED, init);
  elbo_tensor *token = elbo_add(elbo_mean(x, 1u << 1, 1), position);
  elbo_tensor *all = elbo_concat(2, (elbo_tensor *[]){token, x}, 1);
  elbo_tensor *q = linear_layer(token, "q_proj", d, 1), *k = linear_layer(all, "k_proj", d, 1), *v = linear_layer(all, "v_proj", d, 1);
  elbo_scope_pop(g);
  elbo_tensor *y = elbo_attention(q, k, v, NULL, (int)heads, 0, 0);
  return y ? elbo_reshape(y, 2, (int64_t[]){b, d}) : NULL;
}

static elbo_tensor *added_embedding(const unet_config *c, const unet_levels *l, const denoiser_inputs *in) {
  elbo_scope_push(in->graph, "add_embedding");
  elbo_tensor *y;
  if (c->addition_embed_type == UNET_ADDITION_TEXT) {
    y = pool_text(layer_norm_layer(in->context, "norm1", 1e-5), c->addition_embed_type_num_heads);
    y = layer_norm_layer(linear_layer(y, "proj", l->time_dim, 1), "norm2", 1e-5);
    elbo_scope_pop(in->graph);
    return y;
  }
  elbo_scope_pop(in->graph);
  int64_t b = elbo_tensor_dim(in->time_ids, 0), k = elbo_tensor_dim(in->time_ids, 1); // [Podell23 section 2.2]
  elbo_tensor *ids = sinusoids(c, elbo_reshape(in->time_ids, 1, (int64_t[]){b * k}), c->addition_time_embed_dim);
  if (ids) ids = elbo_reshape(ids, 2, (int64_t[]){b, k * c->addition_time_embed_dim});
  y = elbo_concat(2, (elbo_tensor *[]){in->text_embeds, ids}, 1);
  return embedding_network(y, "add_embedding", l->time_dim, ACTIVATION_SILU, NULL);
}

// A model keeps this weight when no timestep_cond is given.
static void declare_condition_weight(const unet_config *c, const unet_levels *l, elbo_graph *g) {
  elbo_scope_push(g, "time_embedding.cond_proj");
  elbo_init init = {ELBO_INIT_KIND_FAN_IN, 1, c->time_cond_proj_dim};
  (void)elbo_parameter(g, "weight", 2, (int64_t[]){l->time_input_dim, c->time_cond_proj_dim}, ELBO_PARAM_TRAINED, init);
  elbo_scope_pop(g);
}

elbo_tensor *unet_embedding(const unet_config *c, const unet_levels *l, const denoiser_inputs *in) {
  int activation = c->class == UNET_2D ? ACTIVATION_SILU : diffusers_activation(c->act_fn);
  if (c->time_cond_proj_dim) declare_condition_weight(c, l, in->graph);
  elbo_tensor *e = embedding_network(project_time(c, l, in->timestep), "time_embedding", l->time_dim, activation, in->timestep_cond);
  e = activate_unless_null(e, c->timestep_post_act);
  if (in->class_labels) {
    elbo_tensor *label = class_embedding(c, l, in->class_labels);
    e = c->class_embeddings_concat ? elbo_concat(2, (elbo_tensor *[]){e, label}, 1) : elbo_add(e, label);
  }
  if (c->addition_embed_type != UNET_ADDITION_NULL) e = elbo_add(e, added_embedding(c, l, in));
  return activate_unless_null(e, c->time_embedding_act_fn);
}
