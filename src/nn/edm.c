#include "nn/edm.h"

#include <math.h>
#include <stdio.h>

#include "backend/node.h"
#include "nn/residual_block.h"
#include "nn/time_embedding.h"

enum { EDM_SKIPS_MAX = 1200 };

// What both networks are made with, and where the encoder stands
typedef struct edm_build {
  const edm_config *c;
  const denoiser_inputs *in;
  elbo_graph *graph;
  bool song;
  int scheme;                       // of layers but the last ones of each block
  double last_gain;                 // of those
  double eps;                       // of the norms
  double rescale;                   // what sums are divided by
  bool filtered;                    // resampling by (1,3,3,1)
  elbo_tensor *embedding;           // (B,E)
  elbo_tensor *skip[EDM_SKIPS_MAX]; // what the decoder reads, last first
  int n_skips;
} edm_build;

typedef struct edm_block {
  int64_t out;
  int resample; // block_resample without a filter
  bool attention;
} edm_block;

static const block_names edm_names = {"norm0", "conv0", "affine", "norm1", "conv1", "skip"};

// "32x32_block0" of the format "block%d"
static void layer_name(char *out, size_t size, int64_t side, const char *what, int index) {
  if (index >= 0) {
    snprintf(out, size, "%lldx%lld_%s%d", (long long)side, (long long)side, what, index);
  } else {
    snprintf(out, size, "%lldx%lld_%s", (long long)side, (long long)side, what);
  }
}

// At most 32 groups of at least 4 channels. The authors' code takes no channels that do not come apart so; neither is another number tried.
static int norm_groups(edm_build *b, int64_t channels) {
  int groups = channels / 4 < 32 ? (int)(channels / 4) : 32;
  if (groups >= 1 && channels % groups == 0) return groups;
  graph_fail(b->graph, ELBO_ERROR_ARGUMENT,
             "model_channels: a norm of %lld channels; expected at least 4, and 32 equal groups or groups of 4", (long long)channels);
  return 1;
}

static int edm_resample(const edm_build *b, int kind) {
  if (!b->filtered) return kind;
  return kind == RESAMPLE_UP ? RESAMPLE_FIR_UP : kind == RESAMPLE_DOWN ? RESAMPLE_FIR_DOWN : kind;
}

static elbo_tensor *edm_linear(const edm_build *b, elbo_tensor *x, const char *name, int64_t out) {
  if (!x) return NULL;
  layer_init init = scheme_init(b->scheme, 1, elbo_tensor_dim(x, -1), out);
  return linear_layer_from(x, name, out, &init);
}

static elbo_tensor *edm_conv(const edm_build *b, elbo_tensor *x, const char *name, int64_t out, int kernel, int pad, double gain) {
  if (!x) return NULL;
  int64_t taps = (int64_t)kernel * kernel;
  layer_init init = scheme_init(b->scheme, gain, elbo_tensor_dim(x, -1) * taps, out * taps);
  return conv_layer_from(x, name, out, kernel, 1, (int[]){pad, pad, pad, pad}, &init);
}

// The layer "qkv": its outputs are q, k and v of one channel side by side. Put in order here, in the weight, which is smaller than what
// it is applied to. (B,N,C) -> 3 times (B,N,C)
static bool query_key_value(const edm_build *b, elbo_tensor *x, elbo_tensor *part[3]) {
  if (!x) return false;
  int64_t c = elbo_tensor_dim(x, -1);
  layer_init init = scheme_init(b->scheme, b->song ? sqrt(0.2) : 1, c, 3 * c);
  elbo_scope_push(b->graph, "qkv");
  elbo_tensor *w = elbo_parameter(b->graph, "weight", 4, (int64_t[]){3 * c, c, 1, 1}, ELBO_PARAM_TRAINED, init.weight);
  elbo_tensor *bias = elbo_parameter(b->graph, "bias", 1, (int64_t[]){3 * c}, ELBO_PARAM_TRAINED, init.bias);
  elbo_scope_pop(b->graph);
  w = elbo_transpose(elbo_reshape(w, 3, (int64_t[]){c, 3, c}), (int[]){1, 0, 2});
  bias = elbo_transpose(elbo_reshape(bias, 2, (int64_t[]){c, 3}), (int[]){1, 0});
  x = elbo_linear(x, elbo_reshape(w, 2, (int64_t[]){3 * c, c}), elbo_reshape(bias, 1, (int64_t[]){3 * c}));
  return elbo_split_axis(x, 2, 3, part) == 3;
}

static elbo_tensor *edm_attention(edm_build *b, elbo_tensor *x, int heads) {
  elbo_tensor *part[3];
  if (!x) return NULL;
  int64_t h = elbo_tensor_dim(x, 1), w = elbo_tensor_dim(x, 2), c = elbo_tensor_dim(x, 3);
  if (c % heads) return graph_fail(b->graph, ELBO_ERROR_ARGUMENT, "model_channels: %d heads of 64 in %lld channels", heads, (long long)c);
  elbo_tensor *y = norm_layer_eps(x, "norm2", norm_groups(b, c), b->eps);
  if (!query_key_value(b, elbo_reshape(y, 3, (int64_t[]){elbo_tensor_dim(x, 0), h * w, c}), part)) return NULL;
  y = as_map(elbo_attention(part[0], part[1], part[2], NULL, heads, 0, 0), h, w, c);
  y = elbo_add(edm_conv(b, y, "proj", c, 1, 0, b->last_gain), x);
  return b->rescale == 1 ? y : elbo_scale(y, 1 / b->rescale, 0);
}

static elbo_tensor *edm_unet_block(edm_build *b, elbo_tensor *x, const char *name, const edm_block *k) {
  if (!x) return NULL;
  const block_config block = {.out = k->out,
                              .kernel = 3,
                              .groups = norm_groups(b, elbo_tensor_dim(x, 3)),
                              .groups_out = norm_groups(b, k->out),
                              .eps = b->eps,
                              .activation = ACTIVATION_SILU,
                              .dropout = b->in->training ? b->c->dropout : 0,
                              .gain = b->last_gain,
                              .rescale = b->rescale,
                              .embedding = b->embedding,
                              .embedding_as_is = true,
                              .scale_shift = !b->song,
                              .always_shortcut = b->song && k->resample != RESAMPLE_NONE,
                              .resample = edm_resample(b, k->resample),
                              .scheme = b->scheme,
                              .names = &edm_names};
  // one head; of DhariwalUNet as many as there are 64 channels, and below that no attention
  int heads = b->song ? 1 : (int)(k->out / 64);
  x = residual_block(x, name, &block);
  if (!k->attention || heads == 0) return x;
  elbo_scope_push(b->graph, name);
  x = edm_attention(b, x, heads);
  elbo_scope_pop(b->graph);
  return x;
}

static bool attends(const edm_config *c, int64_t side) {
  for (int64_t i = 0; i < c->attn_resolutions.count; i++)
    if (c->attn_resolutions.at[i] == side) return true;
  return false;
}

// --- time and class ---

// 0 for examples whose label is dropped, else 1: (B,1)
static elbo_tensor *keep_label(const edm_build *b) {
  int64_t batch = elbo_tensor_dim(b->in->sample, 0);
  elbo_tensor *u = elbo_random_uniform(b->graph, "label_dropout", 2, (int64_t[]){batch, 1});
  return elbo_scale(elbo_less(u, elbo_constant(b->graph, b->c->label_dropout)), -1, 1);
}

// The layer "map_label" of one-hot labels times `scale`, be they numbers or vectors. Number label_dim reads the row of zeros: no class.
static elbo_tensor *map_label(const edm_build *b, int64_t out, const layer_init *init, bool biased, double scale) {
  int64_t labels = b->c->label_dim;
  elbo_tensor *y = b->in->class_labels, *bias = NULL;
  elbo_scope_push(b->graph, "map_label");
  elbo_tensor *w = elbo_parameter(b->graph, "weight", 2, (int64_t[]){out, labels}, ELBO_PARAM_TRAINED, init->weight);
  if (biased) bias = elbo_parameter(b->graph, "bias", 1, &out, ELBO_PARAM_TRAINED, init->bias);
  elbo_scope_pop(b->graph);
  if (elbo_tensor_dtype(y) == ELBO_I32) {
    y = elbo_embedding(y, elbo_pad(elbo_transpose(w, (int[]){1, 0}), 0, 0, 1));
  } else {
    y = elbo_linear(y, w, NULL);
  }
  y = elbo_scale(y, scale, 0);
  if (b->in->training && b->c->label_dropout > 0) y = elbo_mul(y, keep_label(b));
  return bias ? elbo_add(y, bias) : y;
}

// Declared so that a file's weights have a place; labels of augmentation are zero.
static void map_augment(const edm_build *b, int64_t out) {
  if (!b->c->augment_dim) return;
  layer_init init = scheme_init(b->scheme, b->song ? 1 : 0, b->c->augment_dim, out);
  if (b->in->training)
    graph_fail(b->graph, ELBO_ERROR_UNSUPPORTED,
               "augment_dim: %lld; a network with labels of augmentation cannot be trained here, expected 0", (long long)b->c->augment_dim);
  elbo_scope_push(b->graph, "map_augment");
  elbo_parameter(b->graph, "weight", 2, (int64_t[]){out, b->c->augment_dim}, ELBO_PARAM_TRAINED, init.weight);
  elbo_scope_pop(b->graph);
}

static elbo_tensor *song_time(const edm_build *b, int64_t width) {
  if (b->c->embedding_type == EDM_POSITIONAL) {
    const sinusoid_config sinusoid = {.width = width, .freq_shift = 1};
    return sinusoid_embedding(b->in->timestep, &sinusoid);
  }
  elbo_scope_push(b->graph, "map_noise");
  int64_t half = width / 2;
  elbo_tensor *w = elbo_parameter(b->graph, "freqs", 1, &half, ELBO_PARAM_FROZEN, (elbo_init){ELBO_INIT_KIND_NORMAL, 16, 0});
  elbo_scope_pop(b->graph);
  return fourier_features(b->in->timestep, w, false);
}

static elbo_tensor *song_embedding(const edm_build *b) {
  int64_t noise = b->c->model_channels * b->c->channel_mult_noise, width = b->c->model_channels * b->c->channel_mult_emb;
  layer_init init = scheme_init(INIT_XAVIER, 1, b->c->label_dim, noise);
  elbo_tensor *e = song_time(b, noise);
  if (b->c->label_dim) e = elbo_add(e, map_label(b, noise, &init, true, sqrt((double)b->c->label_dim)));
  map_augment(b, noise);
  e = elbo_silu(edm_linear(b, e, "map_layer0", width));
  return elbo_silu(edm_linear(b, e, "map_layer1", width));
}

static elbo_tensor *dhariwal_embedding(const edm_build *b) {
  int64_t noise = b->c->model_channels, width = noise * b->c->channel_mult_emb;
  const sinusoid_config sinusoid = {.width = noise, .cosine_first = true};
  const layer_init init = {{ELBO_INIT_KIND_NORMAL, 1, 0}, ELBO_INIT_ZEROS};
  elbo_tensor *e = sinusoid_embedding(b->in->timestep, &sinusoid);
  map_augment(b, noise);
  e = edm_linear(b, elbo_silu(edm_linear(b, e, "map_layer0", width)), "map_layer1", width);
  if (b->c->label_dim) e = elbo_add(e, map_label(b, width, &init, false, 1));
  return elbo_silu(e);
}

// --- the way down ---

static void push_skip(edm_build *b, elbo_tensor *x) {
  if (b->n_skips < EDM_SKIPS_MAX) {
    b->skip[b->n_skips++] = x;
  } else {
    graph_fail(b->graph, ELBO_ERROR_ARGUMENT, "num_blocks: more than %d maps to be kept for the decoder", EDM_SKIPS_MAX);
  }
}

// The picture itself, made smaller, joins in at every level [Song21 appendix H]. It replaces the map that the decoder reads.
static elbo_tensor *join_picture(edm_build *b, elbo_tensor *x, elbo_tensor **picture, int64_t side) {
  char name[64];
  int64_t out = elbo_tensor_dim(x, 3);
  if (b->c->encoder_type == EDM_ENCODER_SKIP) {
    layer_name(name, sizeof name, side, "aux_skip", -1);
    *picture = resample_map(*picture, (block_resample)edm_resample(b, RESAMPLE_DOWN));
    x = elbo_add(x, edm_conv(b, *picture, name, out, 1, 0, 1));
  } else {
    layer_name(name, sizeof name, side, "aux_residual", -1);
    // the filter behind the convolution, which sees its border of zeros
    elbo_tensor *p = edm_conv(b, *picture, name, out, 3, b->filtered ? 2 : 1, 1);
    p = resample_map(p, b->filtered ? RESAMPLE_FIR_DOWN_INSIDE : RESAMPLE_DOWN);
    x = *picture = elbo_scale(elbo_add(x, p), sqrt(0.5), 0);
  }
  b->skip[b->n_skips - 1] = x;
  return x;
}

static elbo_tensor *edm_encode(edm_build *b) {
  const edm_config *c = b->c;
  elbo_tensor *x = b->in->sample, *picture = x;
  char name[64];
  for (int level = 0; level < (int)c->channel_mult.count && x; level++) {
    int64_t side = c->img_resolution >> level;
    edm_block block = {.out = c->model_channels * c->channel_mult.at[level], .attention = attends(c, side)};
    if (level == 0) {
      layer_name(name, sizeof name, side, "conv", -1);
      x = edm_conv(b, x, name, b->song ? c->model_channels : block.out, 3, 1, 1);
      push_skip(b, x);
    } else {
      const edm_block down = {.out = elbo_tensor_dim(x, 3), .resample = RESAMPLE_DOWN};
      layer_name(name, sizeof name, side, "down", -1);
      x = edm_unet_block(b, x, name, &down);
      push_skip(b, x);
      if (x && b->song && c->encoder_type != EDM_ENCODER_STANDARD) x = join_picture(b, x, &picture, side);
    }
    for (int i = 0; i < (int)c->num_blocks && x; i++) {
      layer_name(name, sizeof name, side, "block", i);
      x = edm_unet_block(b, x, name, &block);
      push_skip(b, x);
    }
  }
  return x;
}

// --- the way up ---

static elbo_tensor *edm_middle(edm_build *b, elbo_tensor *x, int64_t side) {
  char name[64];
  if (!x) return NULL;
  edm_block block = {.out = elbo_tensor_dim(x, 3), .attention = true};
  layer_name(name, sizeof name, side, "in", 0);
  x = edm_unet_block(b, x, name, &block);
  block.attention = false;
  layer_name(name, sizeof name, side, "in", 1);
  return edm_unet_block(b, x, name, &block);
}

// A picture made at this level, added to what the coarser levels made
static elbo_tensor *picture_out(edm_build *b, elbo_tensor *x, elbo_tensor *picture, int64_t side) {
  char name[64];
  if (!x) return NULL;
  layer_name(name, sizeof name, side, "aux_norm", -1);
  x = elbo_silu(norm_layer_eps(x, name, norm_groups(b, elbo_tensor_dim(x, 3)), 1e-6));
  layer_name(name, sizeof name, side, "aux_conv", -1);
  x = edm_conv(b, x, name, b->c->out_channels, 3, 1, b->last_gain);
  return picture ? elbo_add(x, picture) : x;
}

static elbo_tensor *edm_decode(edm_build *b, elbo_tensor *x) {
  const edm_config *c = b->c;
  elbo_tensor *picture = NULL;
  char name[64];
  int last = (int)c->channel_mult.count - 1;
  for (int level = last; level >= 0 && x; level--) {
    int64_t side = c->img_resolution >> level;
    if (level == last) {
      x = edm_middle(b, x, side);
    } else {
      const edm_block up = {.out = elbo_tensor_dim(x, 3), .resample = RESAMPLE_UP};
      layer_name(name, sizeof name, side, "up", -1);
      x = edm_unet_block(b, x, name, &up);
    }
    for (int i = 0; i <= (int)c->num_blocks && x && b->n_skips > 0; i++) {
      // SongUNet attends in the last block of a level alone
      const edm_block block = {.out = c->model_channels * c->channel_mult.at[level],
                               .attention = attends(c, side) && (!b->song || i == (int)c->num_blocks)};
      layer_name(name, sizeof name, side, "block", i);
      x = edm_unet_block(b, elbo_concat(2, (elbo_tensor *[]){x, b->skip[--b->n_skips]}, 3), name, &block);
    }
    if (!b->song || (c->decoder_type == EDM_DECODER_STANDARD && level > 0)) continue;
    if (picture) picture = resample_map(picture, (block_resample)edm_resample(b, RESAMPLE_UP));
    picture = picture_out(b, x, picture, side);
  }
  return b->song ? picture : x;
}

elbo_tensor *edm_network(const edm_config *c, const denoiser_inputs *in) {
  denoiser_needs needs = edm_needs(c);
  if (c->label_dim && in->class_labels && elbo_tensor_dtype(in->class_labels) == ELBO_F32) needs.class_labels = CLASS_INPUT_VECTOR;
  if (!denoiser_inputs_check(&needs, in)) return NULL;
  bool song = c->model_type == EDM_SONG;
  edm_build b = {.c = c,
                 .in = in,
                 .graph = in->graph,
                 .song = song,
                 .scheme = song ? INIT_XAVIER : INIT_TORCH,
                 .last_gain = song ? 1e-5 : 0,
                 .eps = song ? 1e-6 : 1e-5,
                 .rescale = song ? sqrt(2) : 1,
                 .filtered = song && c->resample_filter.count == 4};
  b.embedding = song ? song_embedding(&b) : dhariwal_embedding(&b);
  elbo_scope_push(in->graph, "enc");
  elbo_tensor *x = edm_encode(&b);
  elbo_scope_pop(in->graph);
  elbo_scope_push(in->graph, "dec");
  x = edm_decode(&b, x);
  elbo_scope_pop(in->graph);
  if (song || !x) return x;
  x = elbo_silu(norm_layer_eps(x, "out_norm", norm_groups(&b, elbo_tensor_dim(x, 3)), b.eps));
  return edm_conv(&b, x, "out_conv", c->out_channels, 3, 1, b.last_gain);
}
