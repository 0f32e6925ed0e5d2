// Top-down models [Sonderby16, Vahdat20, Child21]: the state runs from the top to the picture; at each group the prior is read from the
// state, the posterior from the state and the encoder's features of that resolution, and the draw is added to the state.
//
// The posterior is written relative to the prior [Vahdat20 sec. 3.2]: with prior N(m, s^2), q = N(m + s d, (s e^r)^2), so
// KL = (d^2 + e^2r - 1) / 2 - r, which is 0 where the posterior's network gives 0.
//
// A diffusion prior is of the codes (z - m) / s: N(d, e^2r) under q, N(0, I) where the priors above say all there is to say.
#include <stdio.h>

#include "models/vae_graph.h"

typedef struct pass {
  const latent_parts *parts;
  vae_latents out;
  int64_t rows, used; // numbers of input "codes" consumed
  elbo_tensor *h;     // the state
  elbo_tensor *codes; // LATENT_GIVEN
  elbo_tensor *temperature;
  elbo_tensor *kl_sum, *log_p_sum, *log_q_sum; // (R)
} pass;

static elbo_tensor *plus(elbo_tensor *a, elbo_tensor *b) { return a ? elbo_add(a, b) : b; }

// (R,h,w,2c) -> two flat halves (R, h w c)
static void halves(elbo_tensor *both, elbo_tensor **first, elbo_tensor **second) {
  *first = *second = NULL;
  if (!both) return;
  int axis = elbo_tensor_rank(both) - 1;
  int64_t c = elbo_tensor_dim(both, -1) / 2;
  *first = flatten_rows(elbo_slice(both, axis, 0, c));
  *second = flatten_rows(elbo_slice(both, axis, c, 2 * c));
}

// One group at the present state (R,h,w,C), vectors as (R,1,1,C); `feature` (B,h,w,F) is the encoder's, NULL without x.
static void add_group(pass *p, const picture_shape *shape, elbo_tensor *feature, const block_config *block) {
  const latent_request *r = p->parts->request;
  const latent_config *lc = &r->spec->model.latent;
  int index = p->out.n;
  latent_group *group = &p->out.group[p->out.n++];
  int64_t c = shape->channels, count = shape->height * shape->width * c;
  char scope[48], noise_name[32];
  double bound = lc->log_var_bound / 2;

  snprintf(scope, sizeof scope, "decoder.groups.%d", index);
  elbo_scope_push(r->graph, scope);
  elbo_tensor *m, *s;
  if (index == 0) {
    m = s = elbo_constant(r->graph, 0); // the top is N(0, I)
  } else {
    elbo_tensor *hp = residual_block(p->h, "prior", block);
    halves(conv_layer(hp, "prior_head", 2 * c, 1, 1, 0, 0), &m, &s);
    s = elbo_clamp(s, -bound, bound);
  }
  elbo_scope_pop(r->graph);
  // what a code of this model is: z itself, or (z - m) / s
  const bool unit = r->spec->model.preset == MODEL_LSGM;
  elbo_tensor *zero = elbo_constant(r->graph, 0), *code_mean = unit ? zero : m, *code_log_std = unit ? zero : s;
  group->prior_mean = code_mean, group->prior_log_std = code_log_std;
  elbo_tensor *d = NULL, *e = NULL;
  if (feature) {
    snprintf(scope, sizeof scope, "encoder.groups.%d", index);
    elbo_scope_push(r->graph, scope);
    elbo_tensor *both[2] = {p->h, repeat_rows(feature, r->samples)};
    block_config narrow = *block;
    narrow.out = elbo_tensor_dim(p->h, 3);
    elbo_tensor *hq = residual_block(elbo_concat(2, both, 3), "posterior", &narrow);
    halves(conv_layer(hq, "posterior_head", 2 * c, block->kernel, 1, block->kernel / 2, 0.3), &d, &e);
    e = elbo_clamp(e, -bound, bound);
    elbo_scope_pop(r->graph);
    elbo_tensor *scale = elbo_exp(s);
    group->mean = unit ? d : elbo_add(m, elbo_mul(scale, d));
    group->log_std = unit ? e : elbo_add(s, e);
    group->kl = elbo_sub(elbo_scale(elbo_add(elbo_square(d), elbo_exp(elbo_scale(e, 2, 0))), 0.5, -0.5), e);
    p->kl_sum = plus(p->kl_sum, elbo_sum_per_example(group->kl));
  }

  snprintf(noise_name, sizeof noise_name, "z.%d", index);
  switch (r->mode) {
  case LATENT_POSTERIOR: {
    elbo_tensor *noise = elbo_random_normal(r->graph, noise_name, 3, (int64_t[]){r->batch, r->samples, count});
    noise = elbo_reshape(noise, 2, (int64_t[]){p->rows, count});
    group->z = elbo_add(group->mean, elbo_mul(noise, elbo_exp(group->log_std)));
    p->log_q_sum = plus(p->log_q_sum, elbo_sum_per_example(gaussian_log_density(group->z, group->mean, group->log_std)));
    p->log_p_sum = plus(p->log_p_sum, elbo_sum_per_example(gaussian_log_density(group->z, code_mean, code_log_std)));
    break;
  }
  case LATENT_MEAN: group->z = group->mean; break;
  case LATENT_PRIOR: {
    snprintf(noise_name, sizeof noise_name, "prior.%d", index);
    elbo_tensor *noise = elbo_random_normal(r->graph, noise_name, 2, (int64_t[]){r->batch, count});
    group->z = elbo_add(code_mean, elbo_mul(elbo_mul(noise, p->temperature), elbo_exp(code_log_std)));
    break;
  }
  case LATENT_GIVEN: group->z = elbo_slice(p->codes, 1, p->used, p->used + count); break;
  }
  p->used += count;

  snprintf(scope, sizeof scope, "decoder.groups.%d", index);
  elbo_scope_push(r->graph, scope);
  elbo_tensor *placed = unit ? elbo_add(m, elbo_mul(group->z, elbo_exp(s))) : group->z;
  elbo_tensor *z = as_map(placed, shape->height, shape->width, c);
  elbo_tensor *in = z ? conv_layer(z, "z_in", elbo_tensor_dim(p->h, 3), 1, 1, 0, 1) : NULL;
  p->h = residual_block(elbo_add(p->h, in), "merge", block);
  elbo_scope_pop(r->graph);
}

// The state before the first group: a learned vector, the same for every row, moved by the condition. (R,1,1,width)
static elbo_tensor *first_state(const pass *p) {
  const latent_request *r = p->parts->request;
  int64_t width = r->spec->model.latent.width;
  elbo_tensor *h = elbo_parameter(r->graph, "decoder.top", 1, &width, ELBO_PARAM_TRAINED, (elbo_init){ELBO_INIT_KIND_NORMAL, 1, 0});
  h = elbo_broadcast_to(h, 2, (int64_t[]){p->rows, width});
  if (p->parts->row_condition) {
    elbo_scope_push(r->graph, "decoder");
    h = elbo_add(h, linear_layer(p->parts->row_condition, "fc_condition", width, 1));
    elbo_scope_pop(r->graph);
  }
  return as_map(h, 1, 1, width);
}

vae_latents top_down_pass(const latent_parts *parts) {
  const latent_request *r = parts->request;
  const model_config *mc = &r->spec->model;
  const decoder_config *dc = &mc->decoder;
  pass p = {.parts = parts, .rows = r->batch * r->samples};
  if (r->mode == LATENT_PRIOR) p.temperature = elbo_input(r->graph, "temperature", ELBO_F32, 0, NULL);
  if (r->mode == LATENT_GIVEN) p.codes = elbo_input(r->graph, "codes", ELBO_F32, 2, (int64_t[]){r->batch, vae_code_size(r->spec)});

  encoder_features f = {0};
  elbo_tensor *vector = NULL;
  if (parts->x) {
    elbo_scope_push(r->graph, "encoder");
    f = encoder_network(&mc->encoder, parts->x, parts->condition, r->training);
    if (mc->latent.groups.at[0]) {
      vector = linear_layer(f.vector, "fc_top", mc->latent.width, 1);
      vector = as_map(vector, 1, 1, mc->latent.width);
    }
    elbo_scope_pop(r->graph);
  }

  picture_shape shape[MAX_GROUPS];
  vae_groups(r->spec, shape);
  p.h = first_state(&p);
  block_config dense = {.kernel = 1, .groups = 0, .activation = dc->activation, .gain = 1, .dropout = r->training ? dc->dropout : 0};
  for (int64_t i = 0; i < mc->latent.groups.at[0] && p.h; i++) add_group(&p, &shape[p.out.n], vector, &dense);

  likelihood l = vae_likelihood(r->spec, r->training);
  int64_t width = likelihood_width(&l);
  if (dc->type == NETWORK_MLP) {
    elbo_scope_push(r->graph, "decoder");
    p.out.output = decoder_network(dc, &r->spec->shape, width, flatten_rows(p.h), parts->row_condition, r->training);
    elbo_scope_pop(r->graph);
  } else {
    elbo_scope_push(r->graph, "decoder");
    p.h = decoder_first_map(dc, &r->spec->shape, flatten_rows(p.h));
    elbo_scope_pop(r->graph);
    for (int level = 0; level < decoder_levels(dc) && p.h; level++) {
      int64_t groups = level + 1 < (int)mc->latent.groups.count ? mc->latent.groups.at[level + 1] : 0;
      block_config block = decoder_block(dc, 0, parts->row_condition, r->training);
      for (int64_t i = 0; i < groups && p.h; i++) add_group(&p, &shape[p.out.n], parts->x ? f.map[level] : NULL, &block);
      elbo_scope_push(r->graph, "decoder");
      p.h = decoder_level(dc, level, p.h, parts->row_condition, r->training);
      p.h = decoder_step_up(dc, level, p.h);
      elbo_scope_pop(r->graph);
    }
    elbo_scope_push(r->graph, "decoder");
    p.out.output = decoder_last(dc, p.h, width);
    elbo_scope_pop(r->graph);
  }

  elbo_tensor *z[MAX_GROUPS];
  for (int i = 0; i < p.out.n; i++) z[i] = p.out.group[i].z;
  p.out.z = p.out.n == 1 ? z[0] : elbo_concat(p.out.n, z, 1);
  p.out.drawn = p.out.z;
  p.out.log_p = p.log_p_sum, p.out.log_q = p.log_q_sum;
  if (p.kl_sum) p.out.kl = elbo_mean(elbo_reshape(p.kl_sum, 2, (int64_t[]){r->batch, r->samples}), 1u << 1, 0);
  return p.out;
}
