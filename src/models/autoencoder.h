// Autoencoders in diffusers' layout: a folder with config.json (AutoencoderKL, VQModel, AutoencoderTiny) and its weights, alone or as a
// component ("vae") of a pipeline. A checkpoint of a training is such a folder.
#ifndef MODELS_AUTOENCODER_H
#define MODELS_AUTOENCODER_H

#include "models/model.h"
#include "nn/codec.h"

extern const model_kind model_kind_autoencoder;

// Every parameter of both sides, on the smallest pictures that it takes: what a store of its weights is made from.
elbo_status autoencoder_graph(elbo_ctx *ctx, const codec_config *c, elbo_graph **out);
// FOLDER/config.json and its weights. Parameters of the store are named as the tensors, behind "PREFIX." unless it is "".
elbo_status autoencoder_write(elbo_ctx *ctx, const char *folder, const codec_config *c, const char *prefix, elbo_store *store);
// The same of a store that holds more than the autoencoder: what training alone needs is left out.
elbo_status autoencoder_write_trained(elbo_ctx *ctx, const char *folder, const codec_config *c, elbo_store *store);

// A model around a configuration and weights (both borrowed): what training draws previews with. Nothing to destroy.
elbo_model autoencoder_of_weights(elbo_ctx *ctx, const codec_config *c, elbo_store *store, int batch_size);
// Pictures in 0..1, as data sets give them, to the -1..1 of autoencoders; bits 0: data without pixels are left as they are.
void autoencoder_take_pictures(int bits, elbo_array *x);

// --- arrays through the networks, batch by batch ---
typedef struct autoencoder_call {
  elbo_model *m;
  const char *what;        // in messages: "encode"
  bool decoding;           // `in` are codes, input "codes"; otherwise pictures, input "x"
  const elbo_array *in;    // float32 (n,h,w,channels), of any size that the network takes
  const int64_t *fixed;    // height and width that `in` must have; NULL: any
  int64_t first;           // number of the first row among the draws
  uint64_t seed;           // of draws
  elbo_progress_fn report; // may be NULL
  void *report_user;
} autoencoder_call;
// Makes the outputs of the graph from its input (B,h,w,c); NULL outputs after an error, which the graph keeps.
typedef elbo_status (*autoencoder_outputs_fn)(const autoencoder_call *call, elbo_tensor *in, const void *user, elbo_tensor **outputs);
// out[i] (n,...) float32, owned by the caller, all NULL on failure.
elbo_status autoencoder_run(const autoencoder_call *call, autoencoder_outputs_fn make, const void *user, int n_out, elbo_array **out);

// An array through the encoder ("x" -> "mean" and "logvar" of AutoencoderKL, "latents" of the others) or the decoder ("z" -> "sample").
elbo_status autoencoder_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out);

// The calls of elbo/model.h (autoencoder_calls.c, autoencoder_evaluate.c). Codes are maps (n,h,w,c); decode takes them flat too.
elbo_status autoencoder_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed,
                                    elbo_array **out);
elbo_status autoencoder_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev);
elbo_status autoencoder_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x);
// The largest bands of n codes of h x w that keep the limit, 0: nothing needs to be cut, and what that takes.
elbo_status autoencoder_choose_rows(elbo_model *m, int64_t n, int64_t h, int64_t w, const elbo_decode_config *config, int64_t *rows,
                                    int64_t *bytes);
elbo_status autoencoder_decode_tiled(elbo_model *m, const elbo_array *codes, const elbo_decode_config *config, elbo_array **x);
elbo_status autoencoder_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x);
elbo_status autoencoder_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out);

#endif
