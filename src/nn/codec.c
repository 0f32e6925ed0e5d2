#include "nn/codec.h"

#include <string.h>

#include "nn/vector_quantizer.h"

typedef struct codec_def {
  const char *key, *class_name;
  elbo_status (*check)(elbo_ctx *ctx, const codec_config *c, const char *where);
  codec_shape (*shape)(const codec_config *c);
  codec_code (*encode)(const codec_config *c, elbo_tensor *x);
  elbo_tensor *(*decode)(const codec_config *c, elbo_tensor *z);
  elbo_status (*read)(elbo_ctx *ctx, arena *a, const char *path, codec_config *c);
  elbo_status (*write)(elbo_ctx *ctx, const char *path, const codec_config *c);
} codec_def;

static codec_shape akl_shape(const akl_config *c, int64_t code_channels) {
  const config_ints *size = &c->sample_size;
  int levels = (int)c->block_out_channels.count;
  return (codec_shape){.in_channels = c->in_channels,
                       .out_channels = c->out_channels,
                       .code_channels = code_channels,
                       .height = size->count ? size->at[0] : 0,
                       .width = size->count ? size->at[size->count - 1] : 0,
                       .levels = levels,
                       .up = (int64_t)1 << (levels - 1)};
}

static elbo_status kl_check(elbo_ctx *ctx, const codec_config *c, const char *where) { return akl_check(ctx, &c->kl, where); }
static codec_shape kl_shape(const codec_config *c) { return akl_shape(&c->kl, c->kl.latent_channels); }
static codec_code kl_encode(const codec_config *c, elbo_tensor *x) {
  codec_code code = {0};
  kl_encoder(&c->kl, x, &code.mean, &code.logvar);
  return code;
}
static elbo_tensor *kl_decode(const codec_config *c, elbo_tensor *z) { return kl_decoder(&c->kl, z); }
static elbo_status kl_read(elbo_ctx *ctx, arena *a, const char *path, codec_config *c) { return kl_config_read(ctx, a, path, &c->kl); }
static elbo_status kl_write(elbo_ctx *ctx, const char *path, const codec_config *c) { return kl_config_write(ctx, path, &c->kl); }

static elbo_status vq_check(elbo_ctx *ctx, const codec_config *c, const char *where) { return akl_check(ctx, &c->vq, where); }
static codec_shape vq_shape(const codec_config *c) { return akl_shape(&c->vq, vq_code_channels(&c->vq)); }
static codec_code vq_encode(const codec_config *c, elbo_tensor *x) { return (codec_code){.mean = vq_encoder(&c->vq, x)}; }
static elbo_tensor *vq_decode(const codec_config *c, elbo_tensor *z) {
  if (!z) return NULL;
  return vq_decoder(&c->vq, quantize_vectors(z, vq_codebook(&c->vq, elbo_tensor_graph(z))).codes);
}
static elbo_status vq_read(elbo_ctx *ctx, arena *a, const char *path, codec_config *c) { return vq_config_read(ctx, a, path, &c->vq); }
static elbo_status vq_write(elbo_ctx *ctx, const char *path, const codec_config *c) { return vq_config_write(ctx, path, &c->vq); }

static elbo_status tiny_check_any(elbo_ctx *ctx, const codec_config *c, const char *where) { return tiny_check(ctx, &c->tiny, where); }
static codec_shape tiny_shape(const codec_config *c) {
  codec_shape s = {.in_channels = c->tiny.in_channels,
                   .out_channels = c->tiny.out_channels,
                   .code_channels = c->tiny.latent_channels,
                   .levels = (int)c->tiny.num_encoder_blocks.count,
                   .up = 1};
  for (int64_t i = 1; i < c->tiny.num_decoder_blocks.count; i++) s.up *= c->tiny.upsampling_scaling_factor;
  return s;
}
static codec_code tiny_encode(const codec_config *c, elbo_tensor *x) { return (codec_code){.mean = tiny_encoder(&c->tiny, x)}; }
static elbo_tensor *tiny_decode(const codec_config *c, elbo_tensor *z) { return tiny_decoder(&c->tiny, z); }
static elbo_status tiny_read(elbo_ctx *ctx, arena *a, const char *path, codec_config *c) {
  return tiny_config_read(ctx, a, path, false, &c->tiny);
}
static elbo_status tiny_write(elbo_ctx *ctx, const char *path, const codec_config *c) { return tiny_config_write(ctx, path, &c->tiny); }

static const codec_def kinds[CODEC_KINDS] = {
    {"kl", "AutoencoderKL", kl_check, kl_shape, kl_encode, kl_decode, kl_read, kl_write},
    {"vq", "VQModel", vq_check, vq_shape, vq_encode, vq_decode, vq_read, vq_write},
    {"tiny", "AutoencoderTiny", tiny_check_any, tiny_shape, tiny_encode, tiny_decode, tiny_read, tiny_write},
};

codec_shape codec_config_shape(const codec_config *c) { return kinds[c->network].shape(c); }

int64_t codec_code_size(const codec_config *c, int64_t size) {
  for (int i = 1, levels = codec_config_shape(c).levels; i < levels; i++) size = c->network == CODEC_TINY ? (size + 1) / 2 : size / 2;
  return size;
}

codec_code codec_encode(const codec_config *c, elbo_tensor *x) { return kinds[c->network].encode(c, x); }
elbo_tensor *codec_decode(const codec_config *c, elbo_tensor *z) { return kinds[c->network].decode(c, z); }
elbo_status codec_check(elbo_ctx *ctx, const codec_config *c, const char *where) { return kinds[c->network].check(ctx, c, where); }
const char *codec_key(const codec_config *c) { return kinds[c->network].key; }
const char *codec_class_name(const codec_config *c) {
  return c->network == CODEC_TINY && c->tiny.use_midblock_gn ? TINY_OWN_CLASS : kinds[c->network].class_name;
}

elbo_status codec_read(elbo_ctx *ctx, arena *a, const char *path, codec_config *out) {
  yaml_node *root = NULL;
  TRY(yaml_read(ctx, a, path, &root));
  const yaml_node *name = root->kind == YAML_MAP ? yaml_get(root, "_class_name") : NULL;
  if (!name || name->kind != YAML_SCALAR) return fail(ctx, ELBO_ERROR_FORMAT, "%s: _class_name: missing", path);
  *out = (codec_config){0};
  if (!strcmp(name->text, TINY_OWN_CLASS)) {
    out->network = CODEC_TINY;
    return tiny_config_read(ctx, a, path, true, &out->tiny);
  }
  for (int k = 0; k < CODEC_KINDS; k++) {
    if (strcmp(kinds[k].class_name, name->text) != 0) continue;
    out->network = k;
    return kinds[k].read(ctx, a, path, out);
  }
  return yaml_fail(ctx, name, "_class_name", "'%.100s'; AutoencoderKL, VQModel or AutoencoderTiny was expected", name->text);
}

elbo_status codec_write(elbo_ctx *ctx, const char *path, const codec_config *c) { return kinds[c->network].write(ctx, path, c); }
