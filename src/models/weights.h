// Weights from any file that the field keeps them in: safetensors, torch.save's pickles, and either in shards behind an index. A set of
// named tensors, opened once, read where it lies.
#ifndef MODELS_WEIGHTS_H
#define MODELS_WEIGHTS_H

#include <elbo/graph.h>
#include <stdbool.h>

#include "core/safetensors.h"

typedef struct weights weights;

// `path`: a file (.safetensors, .index.json, .pth, .pt, .ckpt, .bin; by its content where the name says nothing) or a component's folder,
// in which diffusion_pytorch_model.* and model.* are looked for as diffusers does: shards behind an index, safetensors, .bin, and last the
// "fp16" variants. A pickle whose tensors lie under "state_dict", as Lightning's checkpoints do, is opened as that; the rest is left alone.
// Half a sharded checkpoint is refused by the name of what is missing.
elbo_status weights_open(elbo_ctx *ctx, const char *path, weights **out);
// The same with every tensor under its full name.
elbo_status weights_open_whole(elbo_ctx *ctx, const char *path, weights **out);
// Tensors that lie elsewhere (borrowed), under this path in messages.
elbo_status weights_of_views(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, weights **out);
void weights_close(weights **w);

int64_t weights_count(const weights *w);
const tensor_view *weights_at(const weights *w, int64_t i); // in name order
const tensor_view *weights_find(const weights *w, const char *name);
const char *weights_path(const weights *w);   // of the file, or the index, that was opened
const char *weights_format(const weights *w); // "safetensors", "pickle", "sharded safetensors", "sharded pickle"
// Keeps only the tensors below `key` ("state_dict.model"), without it. false when there are none: nothing is changed.
bool weights_select(weights *w, const char *key);

// Which file of a component's folder weights_open would read; *found false when there is none. Shards without their index are an error.
elbo_status weights_locate(elbo_ctx *ctx, const char *folder, char *path, size_t size, bool *found);

// Every parameter of the store whose name begins with "PREFIX." (all, when prefix is "") must be there, of its shape and a float type, and
// nothing else: what is missing, unused, mis-shaped or mistyped is listed by name, and then nothing has been changed. Names of attention
// layers before diffusers 0.12 (query, key, value, proj_attn) stand for to_q, to_k, to_v and to_out.0.
elbo_status weights_load_into_store(elbo_ctx *ctx, const weights *w, const char *prefix, elbo_store *store);
// The same without a copy where the file has float32 that is aligned: the store's values are then those of the mapped file, which processes
// share. The store (store_create_unfilled) takes the weights over; on failure they stay the caller's.
elbo_status weights_lend_to_store(elbo_ctx *ctx, weights **w, const char *prefix, elbo_store *store);
// Whether all tensors are pages of files.
bool weights_are_mapped(const weights *w);
// That tensors are the store's parameters as weights_load_into_store asks it; `path` stands in the message.
elbo_status weights_check_views(elbo_ctx *ctx, const char *path, int64_t n, const tensor_view *views, elbo_store *store);
// FOLDER/diffusion_pytorch_model.safetensors with the parameters below the prefix, without it; no file when there are none.
elbo_status weights_write(elbo_ctx *ctx, const char *folder, const char *prefix, elbo_store *store);

// Converts a tensor of a float type to float32; false for other types.
bool weights_read_floats(const tensor_view *v, float *out);
// "(2,3)" of a tensor's shape.
enum { WEIGHTS_SHAPE_TEXT = 176 };
const char *weights_shape_text(int rank, const int64_t *dim, char buffer[WEIGHTS_SHAPE_TEXT]);

#define WEIGHTS_NAME "diffusion_pytorch_model.safetensors"

#endif
