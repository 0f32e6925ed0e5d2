// Weights from one file layout to another.
#ifndef ELBO_CONVERT_H
#define ELBO_CONVERT_H

#include <elbo/array.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum elbo_convert_names {
  ELBO_NAMES_AS_THEY_ARE,
  ELBO_NAMES_ORIGINAL, // the way back: from diffusers' to input_blocks, middle_block and output_blocks (guided and Stable Diffusion)
  ELBO_NAMES_DIFFUSERS // those of diffusers' UNets, from those of the code that the weights were trained with
} elbo_convert_names;

// How layers that hold query, key and value in one have their rows.
typedef enum elbo_qkv_order {
  ELBO_QKV_BY_HEAD, // head by head (guided diffusion's default); the number of heads must be given where there are such layers
  ELBO_QKV_BY_KIND  // all queries, all keys, all values
} elbo_qkv_order;

typedef struct elbo_convert_config {
  size_t size;              // sizeof, set by elbo_convert_defaults
  int dtype;                // ELBO_F32, ELBO_F16 or ELBO_BF16: what tensors of a float type become; -1: what they are
  const char *key;          // only the tensors below it ("state_dict.model"), named without it; NULL: all, or a pickle's "state_dict"
  int64_t max_shard_bytes;  // the most that one file holds of tensors; 0: all in one
  elbo_convert_names names; // files only
  elbo_qkv_order qkv;
  int64_t heads;    // of attention layers; 0: from head_dim
  int64_t head_dim; // channels of a head; 0: from heads
} elbo_convert_config;
ELBO_API void elbo_convert_defaults(elbo_convert_config *config);

typedef struct elbo_convert_result {
  int64_t tensors, parameters, bytes; // written
  int64_t left_out;                   // tensors that are not below the key
  int files;                          // of weights
  char from[48];                      // "pickle", "sharded safetensors", ...; "directory"
  char names[48];                     // where config.names changed them: what they had been; else ""
} elbo_convert_result;

// `in`: a file of weights (safetensors, an index of shards, torch.save's .pth, .ckpt, .bin, read without executing anything), or a
// directory: a pipeline, a model or one component. `out`: a name that ends in .safetensors, or a directory, new or empty. A directory
// becomes a directory in which every component's weights are safetensors, and everything else is as it was; a file that goes to a directory
// is called diffusion_pytorch_model.safetensors there. `result` may be NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_convert(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config,
                                                  elbo_convert_result *result);

// The public tiny autoencoders of Stable Diffusion and FLUX, an encoder and a decoder in a file each whose tensors are named by the numbers
// of layers, to `out`, a new or empty directory in diffusers' layout (AutoencoderTiny, pictures in -1..1). Those with pooled blocks, which
// diffusers has no class for, become an ElboAutoencoderTiny. config: dtype and max_shard_bytes alone.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_convert_tiny_pair(elbo_ctx *ctx, const char *encoder, const char *decoder, const char *out,
                                                            const elbo_convert_config *config, elbo_convert_result *result);

#ifdef __cplusplus
}
#endif
#endif
