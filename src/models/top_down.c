// Top-down models [Sonderby16, Vahdat20, Child21]: the state runs from the top to the picture; at each group the prior is read from the
// state, the posterior from the state and the encoder's features of that resolution, and the draw is added to the state.
//
// The posterior is written relative to the prior [Vahdat20 sec. 3.2]: with prior N(m, s^2), q = N(m + s d, (s e^r)^2), so
// KL = (d^2 + e^2r - 1) / 2 - r, which is 0 where the posterior's network gives 0.
//
// With latent.pyramid a group codes coefficients of the picture (picture_pyramid.h): q = N(c + s d, s^2), s = s0 e^r, with c what they are
// and s0 half a level of a pixel, so that training begins as a linear code of the whole picture and learns what the coarse says about the
// fine, where a model that begins without a code has to discover first that one pays.
//
// A diffusion prior is of the codes (z - m) / s: N(d, e^2r) under q, N(0, I) where the priors above say all there is to say.
#include <math.h>
#include <stdio.h>

#include "models/picture_pyramid.h"
#include "models/vae_graph.h"

typedef struct pass {
  const latent_parts *parts;
  vae_latents out;
  int64_t rows, used;   // numbers of input "codes" consumed
  elbo_tensor *h;       // the state
  elbo_tensor *picture; // latent.pyramid: what the groups so far add up to, in axes (R,h,w,C)
  elbo_tensor *codes;   // LATENT_GIVEN
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

// What a group of the pyramid knows: the coefficients that it codes (B,h,w,c), NULL without x, and where q's width begins.
typedef struct pyramid_group {
  elbo_tensor *coefficients;
  double log_std;
} pyramid_group;

static void posterior(const pass *p, const pyramid_group *pyramid, elbo_tensor *d, elbo_tensor *e, latent_group *group) {
  elbo_tensor *m = group->prior_mean, *s = group->prior_log_std;
  if (pyramid) {
    group->log_std = elbo_scale(e, 1, pyramid->log_std);
    elbo_tensor *seen = flatten_rows(repeat_rows(pyramid->coefficients, p->parts->request->samples));
    group->mean = elbo_add(seen, elbo_mul(elbo_exp(group->log_std), d));
    group->kl = gaussian_kl(group->mean, group->log_std, m, s);
    return;
  }
  group->mean = elbo_add(m, elbo_mul(elbo_exp(s), d));
  group->log_std = elbo_add(s, e);
  group->kl = elbo_sub(elbo_scale(elbo_add(elbo_square(d), elbo_exp(elbo_scale(e, 2, 0))), 0.5, -0.5), e);
}

// q of (z - m) / s from q of z; without a pyramid these are d and e
static void standardise(latent_group *group, bool pyramid, elbo_tensor *d, elbo_tensor *e) {
  if (!pyramid) {
    group->mean = d, group->log_std = e;
    return;
  }
  elbo_tensor *narrower = elbo_exp(elbo_neg(group->prior_log_std));
  group->mean = elbo_mul(elbo_sub(group->mean, group->prior_mean), narrower);
  group->log_std = elbo_sub(group->log_std, group->prior_log_std);
}

// One group at the present state (R,h,w,C), vectors as (R,1,1,C); `feature` (B,h,w,F) is the encoder's, NULL without x. pyramid: NULL for
// groups without. Returns z as a map.
static elbo_tensor *add_group(pass *p, const picture_shape *shape, elbo_tensor *feature, const block_config *block,
                              const pyramid_group *pyramid) {
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
  if (index == 0 && !pyramid) {
    m = s = elbo_constant(r->graph, 0); // the top is N(0, I)
  } else {
    elbo_tensor *hp = residual_block(p->h, "prior", block);
    halves(conv_layer(hp, "prior_head", 2 * c, 1, 1, 0, 0), &m, &s);
    s = elbo_clamp(s, -bound, bound);
  }
  elbo_scope_pop(r->graph);
  const bool unit = r->spec->model.preset == MODEL_LSGM; // what a code is: (z - m) / s, or z itself
  elbo_tensor *zero = elbo_constant(r->graph, 0), *code_mean = unit ? zero : m, *code_log_std = unit ? zero : s;
  group->prior_mean = m, group->prior_log_std = s;
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
    posterior(p, pyramid, d, e, group);
    if (unit) standardise(group, pyramid != NULL, d, e);
    p->kl_sum = plus(p->kl_sum, elbo_sum_per_example(group->kl));
  }
  group->prior_mean = code_mean, group->prior_log_std = code_log_std;

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
  return z;
}

// The groups of one resolution under latent.pyramid: p->h is told the picture so far, and that gains a resolution. `feature` and
// `coefficients` are NULL without x.
static void pyramid_level(pass *p, int level, const picture_shape *shape, elbo_tensor *feature, elbo_tensor *coefficients,
                          const block_config *block) {
  const vae_spec *spec = p->parts->request->spec;
  int64_t channels = spec->shape.channels, groups = spec->model.latent.groups.at[level + 1];
  int finer = decoder_halvings(&spec->model.decoder) - level; // halvings of the picture here
  if (!p->h) return;
  if (level > 0) {
    char scope[48];
    snprintf(scope, sizeof scope, "decoder.pyramid.%d", level);
    elbo_scope_push(p->parts->request->graph, scope);
    p->h = elbo_add(p->h, conv_layer(p->picture, "picture_in", elbo_tensor_dim(p->h, 3), 3, 1, 1, 1));
    elbo_scope_pop(p->parts->request->graph);
  }
  elbo_tensor *part[MAX_GROUPS];
  int n = 0;
  if (level > 0) part[n++] = p->picture;
  for (int64_t i = 0; i < groups && p->h; i++) {
    int64_t from, to;
    pyramid_part(channels, level == 0, groups, i, &from, &to);
    // a mean of 2x2 of independent numbers is half as wide as they are
    pyramid_group group = {.coefficients = coefficients ? elbo_slice(coefficients, 3, from, to) : NULL,
                           .log_std = log(PYRAMID_SCALE * 0.5 / 255) - finer * log(2)};
    part[n++] = add_group(p, &shape[p->out.n], feature, block, &group);
  }
  p->picture = p->h ? pyramid_join(elbo_concat(n, part, 3)) : NULL;
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
  bool pyramid = mc->latent.pyramid;
  elbo_tensor *vector = NULL, *coefficients[MAX_LEVELS] = {0}; // coarsest first
  if (parts->x) {
    elbo_scope_push(r->graph, "encoder");
    f = encoder_network(&mc->encoder, parts->x, parts->condition, r->training);
    if (mc->latent.groups.at[0]) {
      vector = linear_layer(f.vector, "fc_top", mc->latent.width, 1);
      vector = as_map(vector, 1, 1, mc->latent.width);
    }
    elbo_scope_pop(r->graph);
    elbo_tensor *means = pyramid ? pyramid_axes(parts->x) : NULL;
    for (int level = decoder_halvings(dc) - 1; level >= 0 && means; level--) {
      coefficients[level] = pyramid_split(means);
      means = elbo_slice(coefficients[level], 3, 0, r->spec->shape.channels);
    }
  }

  picture_shape shape[MAX_GROUPS];
  vae_groups(r->spec, shape);
  p.h = first_state(&p);
  block_config dense = {.kernel = 1, .groups = 0, .activation = dc->activation, .gain = 1, .dropout = r->training ? dc->dropout : 0};
  for (int64_t i = 0; i < mc->latent.groups.at[0] && p.h; i++) add_group(&p, &shape[p.out.n], vector, &dense, NULL);

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
      elbo_tensor *feature = parts->x ? f.map[level] : NULL;
      if (pyramid && vae_pyramid_level(r->spec, level))
        pyramid_level(&p, level, shape, feature, coefficients[level], &block);
      else
        for (int64_t i = 0; i < groups && p.h; i++) add_group(&p, &shape[p.out.n], feature, &block, NULL);
      elbo_scope_push(r->graph, "decoder");
      p.h = decoder_level(dc, level, p.h, parts->row_condition, r->training);
      p.h = decoder_step_up(dc, level, p.h);
      elbo_scope_pop(r->graph);
    }
    elbo_scope_push(r->graph, "decoder");
    // beside a picture that the code gives, the network begins by saying next to nothing
    p.out.output = decoder_last(dc, p.h, width, pyramid ? 0.01 : 1);
    if (pyramid) p.out.output = likelihood_centred(&l, p.out.output, pyramid_picture(p.picture), 0.3 / 255);
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
