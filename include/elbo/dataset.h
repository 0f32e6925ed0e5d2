// Data sets: recognised, not asked for. IDX(.gz), CIFAR-10 binary, image folders, WebDataset tar(.gz) shards, .npy/.npz, arrays in
// memory, a callback, and built-in ones that need no file ("digits", "shapes", "rings", "spirals", "checkerboard", "gaussians8").
#ifndef ELBO_DATASET_H
#define ELBO_DATASET_H

#include <elbo/array.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct elbo_dataset elbo_dataset;

typedef enum elbo_split { ELBO_SPLIT_TRAIN, ELBO_SPLIT_VALID, ELBO_SPLIT_TEST } elbo_split;

// Opens what `path` holds (a file, a folder, "NAME-{000..002}.tar.gz", or a built-in name with options, "shapes:size=64"). `options`:
// "data.*" keys of a recipe as "key=value" strings without the "data." ("holdout=5000", "seed=0"). On failure *out is NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_open(elbo_ctx *ctx, const char *path, int n_options, const char *const *options,
                                                       elbo_dataset **out);
// From arrays in memory, copied: x (N,H,W,C) uint8 (0..255) or float32 (as it is) or (N,D) float32; label int32/int64 (N), or float32
// (N,D) or (N,L,D): a condition for each, a vector or a sequence of embeddings, or NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_from_arrays(elbo_ctx *ctx, const elbo_array *x, const elbo_array *label, int n_options,
                                                              const char *const *options, elbo_dataset **out);
// From a callback that fills example `index` (height*width*channels floats, *label) and returns 0; anything else is an error that stops
// what is going on. Called from loader threads, several at once.
typedef int (*elbo_example_fn)(void *user, int64_t index, float *x, int32_t *label);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_from_callback(elbo_ctx *ctx, int64_t count, int height, int width, int channels,
                                                                int classes, elbo_example_fn fn, void *user, elbo_dataset **out);
ELBO_API void elbo_dataset_destroy(elbo_dataset **dataset);
// 1: `path` is the name of a built-in set, with or without options; it goes before a file or folder of that name, which "./NAME" opens.
ELBO_API int elbo_dataset_is_builtin(const char *path);

typedef struct elbo_dataset_info {
  const char *format;             // "idx", "cifar10", "folder", "webdataset", "npy", "memory", "callback", "shapes", ...; borrowed
  int64_t count[3];               // by elbo_split, after the hold-out; 0: none
  int height, width, channels;    // vectors: 1, 1, D
  int bits;                       // 8 or 16; 0: float
  int classes;                    // 0: no labels
  int captions;                   // 1: there are captions
  int64_t skipped;                // unreadable examples met so far
  const char *const *class_names; // `classes` names or NULL; borrowed
  const char *decoder;            // for JPEG: decoder and version with its settings; "" else; borrowed
  int condition_dim;              // numbers in the vector, or in each embedding of the sequence, that goes with each example; 0: none
  int condition_tokens;           // embeddings of such a sequence; 0: conditions are vectors
} elbo_dataset_info;
ELBO_API void elbo_dataset_get_info(const elbo_dataset *dataset, elbo_dataset_info *out);

// What a split means: train, less what is held out; valid, the held-out part (or the data's own validation part); test, the data's own test
// part or, without one, the held-out part again. The hold-out is random and fixed by the option `seed`.
//
// Reads `count` examples of a split from `first` in a fixed order (count is cut at the end; a random sample in seeded order when shuffle),
// as float32 (n,H,W,C): images in 0..1, cut and resized as the options say, neither binarised nor dequantised. label int32 (n), NULL when
// not wanted or not there.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_read(elbo_dataset *dataset, elbo_split split, int64_t first, int64_t count, int shuffle,
                                                       uint64_t seed, elbo_array **x, elbo_array **label);
// What goes with the examples which elbo_dataset_read gives for the same arguments: vectors float32 (n,condition_dim), or sequences float32
// (n,condition_tokens,condition_dim). NULL where the data have none.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_read_condition(elbo_dataset *dataset, elbo_split split, int64_t first, int64_t count,
                                                                 int shuffle, uint64_t seed, elbo_array **condition);
// The caption of example i of a split; borrowed until the next call; "" when there is none.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_caption(elbo_dataset *dataset, elbo_split split, int64_t i, const char **out);
// 64 hexadecimal digits of the SHA-256 over all decoded pixels of a split in their order.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_dataset_hash(elbo_dataset *dataset, elbo_split split, char out[65]);

// --- built-in sets with a known truth: docs/shapes.md ---

// Reads a picture of the shapes set ((H,W,3) uint8, H = W) back into its caption, at most `size` bytes with the final NUL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_shapes_read(elbo_ctx *ctx, const elbo_array *picture, char *caption, size_t size);

// Two-dimensional densities "rings", "spirals", "checkerboard", "gaussians8", with options as in a data path ("rings:width=0.05"): n exact
// draws (n,2) float32, a function of (spec, seed), and log p in nats (n) float64 of points x (n,2) (-inf where the density is 0).
ELBO_API ELBO_MUST_CHECK elbo_status elbo_density_sample(elbo_ctx *ctx, const char *spec, int64_t n, uint64_t seed, elbo_array **x);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_density_log_prob(elbo_ctx *ctx, const char *spec, const elbo_array *x, elbo_array **log_prob);

#ifdef __cplusplus
}
#endif
#endif
