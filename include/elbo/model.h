// Trained models: loaded once, immutable, shared by threads; used through the calls below. A RUN directory is accepted wherever a MODEL
// directory is (its newest checkpoint's EMA weights).
#ifndef ELBO_MODEL_H
#define ELBO_MODEL_H

#include <elbo/dataset.h>
#include <elbo/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct elbo_model elbo_model;

typedef struct elbo_model_config {
  size_t size;    // sizeof, set by elbo_model_defaults
  double ema;     // of a run's checkpoint: the average of this decay, one of train.ema; 0: the first of them; -1: the raw weights
  int64_t step;   // of a run: which checkpoint; -1: the newest; -2: the best
  int batch_size; // plans are made for this many examples; 0: 64
  // of a model whose decoder is a diffusion (diffae, diffusion-decoder), how it decodes: keys of a recipe's `sample` section over those of
  // the model, "steps=100"; copied
  int n_options;
  const char *const *options;
} elbo_model_config;
ELBO_API void elbo_model_defaults(elbo_model_config *config);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_model_load(elbo_ctx *ctx, const char *path, const elbo_model_config *config, elbo_model **out);
ELBO_API void elbo_model_destroy(elbo_model **model);

typedef struct elbo_model_info {
  const char *preset;          // "vae"; borrowed
  const char *weights;         // "ema", "raw", or "ema 0.9999" of an average that is not the first; borrowed
  const char *likelihood;      // "bernoulli", ...; borrowed
  int height, width, channels; // of x; vectors: 1, 1, D
  double low, high;            // the value range of x in .npy files
  int bits;                    // of the pixels it was trained on, 8 or 16; 0: float data, whose values were taken as they are, in any range
  int latent_dim;              // numbers in a code (all groups together)
  int latent_groups;           // 1 unless hierarchical
  int classes;                 // of the condition; 0: none
  int64_t params;
  int64_t step;         // -1: unknown
  int condition_dim;    // numbers in the vector, or in each embedding of the sequence, that the model is conditioned on; 0: none
  int condition_tokens; // embeddings of such a sequence; 0: it is a vector
  int any_size;         // 1: x of other heights and widths will do (autoencoders over maps); height and width are of training, 0: not said
} elbo_model_info;
ELBO_API void elbo_model_get_info(const elbo_model *model, elbo_model_info *out);

typedef struct elbo_sample_config {
  size_t size; // sizeof, set by elbo_sample_defaults
  int64_t n;
  uint64_t seed;
  int label;          // class for a conditional model; -1: classes in turn
  int draw;           // 1: draw pixels from the likelihood; 0: its mean
  double temperature; // standard deviation of the prior, 1
  elbo_progress_fn progress;
  void *progress_user;
  // 0: from the mixture fitted to the codes where the model has one (a diffusion over the codes goes before it); 1: from the model's own
  // p(z)
  int prior;
  // of a diffusion model:
  int n_options;              // keys of a recipe's `sample` section over those of the model: "sampler=dpmpp_2m", "steps=20",
  const char *const *options; // "guidance.scale=3", "batch_size=16"; borrowed
  const elbo_array *noise;    // float32 (n,H,W,C) of unit variance in place of drawn noise; borrowed; NULL: from the seed
  // float32 (n,dim) of a model conditioned on a vector, (n,H,W,c) on a picture, (n,N,D) on a sequence; a VAE takes any number of rows, in
  // turn; borrowed
  const elbo_array *condition;
  int64_t *network_calls; // receives how often the network was asked for one batch; may be NULL
  double *loop_seconds;   // receives how long the sampler's loop took, all batches, and how much of that the network; may be NULL
  double *network_seconds;
  // of a diffusion over the codes of an AutoencoderKL: bytes that decoding may take beside the weights, a picture at a time, in bands where
  // it must (elbo_decode_config.memory_limit); 0: no limit
  int64_t decode_memory;
} elbo_sample_config;
ELBO_API void elbo_sample_defaults(elbo_sample_config *config);
// All arrays below are float32 (n,H,W,C) in the model's value range; codes (n,latent_dim), of an autoencoder of diffusers maps (n,h,w,c),
// which for decoding may be of any size. Outputs are owned by the caller and NULL on failure. Sample i is a function of (model, seed, i):
// not of n or of the batch size beyond rounding.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_sample(elbo_model *model, const elbo_sample_config *config, elbo_array **x);
// x through the posterior and back: sample 0: its mean, 1: a draw. label: int32 (n), or float32 (n,condition_dim) for a model that is
// conditioned on a vector, or NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_reconstruct(elbo_model *model, const elbo_array *x, const elbo_array *label, int sample,
                                                      uint64_t seed, elbo_array **out);
// Posterior mean and standard deviation; stddev may be NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_encode(elbo_model *model, const elbo_array *x, const elbo_array *label, elbo_array **mean,
                                                 elbo_array **stddev);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_decode(elbo_model *model, const elbo_array *codes, const elbo_array *label, elbo_array **x);
// Of a model whose decoder is a diffusion, a picture has a second code: the noise float32 (n,H,W,C) from which the decoder, told of the
// first one, leads to this very picture, found by its steps taken backwards (ddim; "steps" among the options of elbo_model_config, 50
// unless given). codes (n,latent_dim); NULL: those of x. Such a model's elbo_decode draws that noise, elbo_reconstruct with sample 0 takes
// the picture's own.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_encode_noise(elbo_model *model, const elbo_array *x, const elbo_array *codes, elbo_array **noise);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_decode_noise(elbo_model *model, const elbo_array *codes, const elbo_array *noise, elbo_array **x);
// The same of codes that are too large for memory: an AutoencoderKL is decoded in bands of rows, without seams.
typedef struct elbo_decode_config {
  size_t size;          // sizeof, set by elbo_decode_defaults
  int64_t tile;         // rows of the code under a band, at least 2; 0: as memory_limit has it
  int64_t memory_limit; // bytes that maps, plans and pictures may take, beside the weights: bands of 64 rows, or as many (a power of two)
                        // as that allows; 0: no limit
  elbo_progress_fn progress;
  void *progress_user;
  int64_t *planned_bytes; // receives what it was reckoned to take; may be NULL
} elbo_decode_config;
ELBO_API void elbo_decode_defaults(elbo_decode_config *config);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_decode_tiled(elbo_model *model, const elbo_array *codes, const elbo_decode_config *config,
                                                       elbo_array **x);
// a, b (H,W,C) or (1,H,W,C); steps >= 2 points on the straight line between the posterior means, ends included. label: the class under
// which a class-conditional model encodes and decodes them all; -1 for other models.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_interpolate(elbo_model *model, const elbo_array *a, const elbo_array *b, int label, int steps,
                                                      elbo_array **x);

// The same with a class int32 (1), or vector float32 (1,condition_dim), for the walk, or with one for each end (2 rows): vectors are mixed
// like the codes, a class is that of the nearer end. NULL for a model that is not conditional.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_interpolate_conditioned(elbo_model *model, const elbo_array *a, const elbo_array *b,
                                                                  const elbo_array *condition, int steps, elbo_array **x);

// Opens data as the run at `model_path` was trained on: the data section of its recipe (hold-out, binarisation, size, ...) with `path`
// (NULL: the recipe's own) and `options` ("holdout=100") in place. For a model directory without a recipe: elbo_dataset_open.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_model_open_data(elbo_ctx *ctx, const char *model_path, const char *path, int n_options,
                                                          const char *const *options, elbo_dataset **out);

// --- evaluation ---
typedef struct elbo_metric {
  char name[32];
  double value, stderr_, mc_stderr; // standard error over images; over Monte-Carlo draws (NaN: none)
  char unit[32];
  int64_t n;      // images
  int k;          // importance samples; 0: not one
  char note[192]; // what must be known to read the number; "" when nothing
} elbo_metric;
typedef struct elbo_eval_config {
  size_t size;         // sizeof, set by elbo_eval_defaults
  const char *metrics; // "elbo,iwae,recon,kl,active_units,mutual_information,psnr,fid,..."; NULL: the model's usual ones
  elbo_split split;
  int samples;   // k of iwae (0: 100); times drawn for each picture of a diffusion model's bound (0: 20)
  int64_t limit; // a random subset of so many examples (seeded); 0: all
  uint64_t seed;
  elbo_progress_fn progress;
  void *progress_user;
  double tolerance; // of ode_bpd and ode_nll, relative and absolute; 0: 1e-5
  double t_min;     // time at which their flow begins; 0: the model's own, which the result states
  // Of fid, kid, precision and recall:
  const char *features; // run of a classifier, or file of Inception-v3 weights (.safetensors, .pth)
  int64_t n;            // pictures of each set; 0: 5,000, or half of the split where that is less. Figures compare only at equal n
  int force;            // 1: n may be below ten times the number of features; the result then says so
  int draw;             // 1: draws from a pixel likelihood are judged, 0: its means
  int n_options;        // how a diffusion model draws them, as in elbo_sample_config
  const char *const *options;
  int seeds;         // sets of samples that are drawn and judged, at most 3, which 0 means; the error of one alone is over parts of it
  const char *judge; // of condition_accuracy: run of a classifier that is not the one of `features`
} elbo_eval_config;
typedef struct elbo_eval_result elbo_eval_result;
ELBO_API void elbo_eval_defaults(elbo_eval_config *config);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_evaluate(elbo_model *model, elbo_dataset *data, const elbo_eval_config *config,
                                                   elbo_eval_result **out);
// fid, kid, precision and recall of pictures made elsewhere: x (n,H,W,C) float32 in 0..1.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_evaluate_pictures(elbo_ctx *ctx, const elbo_array *x, elbo_dataset *data,
                                                            const elbo_eval_config *config, elbo_eval_result **out);
ELBO_API void elbo_eval_destroy(elbo_eval_result **result);
ELBO_API int elbo_eval_count(const elbo_eval_result *result);
ELBO_API const elbo_metric *elbo_eval_metric(const elbo_eval_result *result, int i);
// {"metrics": {NAME: {"value":, "stderr":, ...}}, "weights":, "split":, ...}; borrowed until the result is destroyed.
ELBO_API const char *elbo_eval_json(const elbo_eval_result *result);
// Per-image values of one metric (n doubles, in data order) for paired comparison; NULL when it has none.
ELBO_API const double *elbo_eval_per_image(const elbo_eval_result *result, const char *metric, int64_t *n);

// --- any network of a model directory on arrays ---
// path: a model or run directory, or a network's own directory in it. Inputs: x (n,H,W,C), or codes (n,latent_dim); label (n) or condition
// (n,dim) where the model is conditional; of any numeric type. Outputs, float32: mean and std of the posterior (with x alone), output (the
// likelihood's parameters), x (its mean).
typedef struct elbo_named_array {
  const char *name;  // borrowed
  elbo_array *array; // in: borrowed; out: owned by the caller after success, NULL on failure
} elbo_named_array;
ELBO_API ELBO_MUST_CHECK elbo_status elbo_apply(elbo_ctx *ctx, const char *path, int n_in, const elbo_named_array *in, int n_out,
                                                elbo_named_array *out);

// One self-contained HTML page about a run: curves, samples, reconstructions, interpolation, per-dimension KL, recipe, machine. data may
// be NULL: the run's own. The seed chooses examples and samples.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_report(elbo_ctx *ctx, const char *run, elbo_dataset *data, uint64_t seed, const char *out);

// What a file or directory is (safetensors, model directory, run, npy, picture, data set), as JSON or as text. Owned by the caller: free().
ELBO_API ELBO_MUST_CHECK elbo_status elbo_describe(elbo_ctx *ctx, const char *path, int json, char **out);
// How this library was built and what it found on this machine. Owned by the caller: free().
ELBO_API ELBO_MUST_CHECK elbo_status elbo_describe_build(elbo_ctx *ctx, int json, char **out);

#ifdef __cplusplus
}
#endif
#endif
