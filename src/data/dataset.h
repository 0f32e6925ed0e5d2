// A data set inside the library: up to three parts (train, valid, test as the source has them), each in memory, made on demand or walked
// through, and three views (what a split means after the hold-out).
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <elbo/dataset.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/ctx.h"
#include "core/sha256.h"
#include "data/data_config.h"
#include "data/picture.h"

// Texts end to end; text i of n lies at[offset[i]].
typedef struct text_list {
  char *at;
  size_t length, capacity;
  int64_t *offset; // NULL: no texts
  int64_t count, offset_capacity;
} text_list;
elbo_status text_list_add(elbo_ctx *ctx, text_list *list, const char *text, size_t length);
const char *text_list_get(const text_list *list, int64_t i); // "" past the end

// One encoded example on its way to a decoder. `bytes` and `name` are malloc'd and belong to whoever holds the sample.
typedef struct encoded_sample {
  int64_t index; // in its part
  char *name;    // for messages: "cifar.tar: 000012.jpg"
  void *bytes;
  size_t size;
  int32_t label; // -1: none
  char *caption; // NULL: none
} encoded_sample;
void encoded_sample_free(encoded_sample *s);

// A source that is read from one end to the other (tar shards, a folder of pictures).
typedef struct sample_source_ops {
  // Starts a walk: in the source's order, or in one that (seed, epoch) shuffles as coarsely as the source must (shards) when shuffle is
  // set.
  elbo_status (*begin)(void *source, elbo_ctx *ctx, bool shuffle, uint64_t seed, int64_t epoch, void **walk);
  // The next sample, or *end when there is none.
  elbo_status (*next)(void *walk, elbo_ctx *ctx, encoded_sample *out, bool *end);
  void (*end)(void *walk);
  void (*release)(void *source);
  int64_t (*bytes)(const void *source);               // memory that the source holds
  void (*identify)(const void *source, sha256 *hash); // adds name, size and date of each of its files
} sample_source_ops;

typedef struct example_part {
  int64_t count;
  void *pixels;      // (count,H,W,C) of the set's dtype, malloc'd; NULL: made on demand or walked
  elbo_array *owner; // of pixels, when they are an array's; NULL: their own
  int32_t *label;    // (count), NULL: none
  float *condition;  // (count, the set's dataset_condition_size), NULL: none or made by `attributes`
  text_list caption;
  // on demand: fills out (H,W,C) of the set's dtype and *label; callable from several threads at once
  elbo_status (*make)(void *user, elbo_ctx *ctx, int64_t index, void *out, int32_t *label);
  elbo_status (*describe)(void *user, elbo_ctx *ctx, int64_t index, char *caption, size_t size); // NULL: see caption
  void (*attributes)(void *user, int64_t index, float *out); // what is known about an example, `attribute_count` numbers; NULL: nothing
  int attribute_count;
  void *user; // of make, describe and attributes
  void (*release_user)(void *user);
  // walked
  const sample_source_ops *walk_ops;
  void *source;
  // pictures that could not be read (cached parts: dropped; walked ones: met so far, each marked once)
  atomic_llong skipped;
  atomic_uchar *unreadable; // (count), walked parts
} example_part;

// What a split means: example i is example index[i] of `part` (index NULL: i itself).
typedef struct split_view {
  int part;
  int64_t count;
  int64_t *index;
  bool borrowed; // the index belongs to another view
} split_view;

struct elbo_dataset {
  elbo_ctx *ctx;
  char *path;
  data_config config;          // its strings are not kept
  const char *format;          // static
  elbo_dtype dtype;            // as stored: U8, U16, F32
  int height, width, channels; // as stored
  bool image;                  // pictures, as opposed to vectors and float fields
  int classes;
  char **class_names; // (classes) or NULL
  bool labels, captions;
  int condition_tokens; // embeddings in an example's sequence; 0: its condition is a vector
  int condition_dim;    // numbers in that vector or in each embedding; 0: there are no conditions
  const char *decoder;  // static
  example_part part[3]; // by elbo_split
  split_view view[3];
  float unit_of_byte[256]; // v / 255
  pthread_mutex_t lock;    // of the fields below
  bool lock_made;
  char *caption_text;      // the last caption given out
  atomic_int skip_reports; // how many skips were logged one by one
};

elbo_status dataset_create(elbo_ctx *ctx, const char *path, const data_config *config, elbo_dataset **out);
// Opens what config->path holds. The config's strings may go afterwards.
elbo_status dataset_open_config(elbo_ctx *ctx, const data_config *config, elbo_dataset **out);
// After the parts are filled: size and channels of what is in memory, labels, checks of the options, hold-out, limit, views.
elbo_status dataset_finish(elbo_dataset *ds);
// Bytes of one stored example.
size_t dataset_example_bytes(const elbo_dataset *ds);
int64_t dataset_bytes(const elbo_dataset *ds); // memory that the set holds
// 64 digits that change when a split's examples or their labels do: over all pixels in memory; of what is walked
// over the names, sizes and dates of its files, of a built-in set made on demand over its name, so that nothing is decoded or drawn.
elbo_status dataset_identity(elbo_dataset *ds, elbo_split split, char out[65]);
// Adds a file's name, size and date to a hash.
void identify_file(const char *path, sha256 *hash);
// Counts an unreadable picture of a part, once, and logs the first few. index: -1 while the part is being filled.
void dataset_skip(elbo_dataset *ds, elbo_split part, int64_t index, const char *message);
// Fails when more than max_skipped of `total` could not be read.
elbo_status dataset_check_skipped(elbo_dataset *ds, elbo_split part, int64_t total);
// The stored form of one example of a part: a pointer into memory or to `scratch` (dataset_example_bytes), filled.
elbo_status dataset_stored(elbo_dataset *ds, int part, int64_t index, void *scratch, const void **pixels, int32_t *label);

// --- conditions (condition.c) ---
// Keeps what an array says about a part's examples: (count), (count,D) or (count,N,D) of any numeric type, finite.
elbo_status part_set_condition(elbo_dataset *ds, example_part *part, const char *name, const elbo_array *condition);
// After the parts are filled: brings in what data.condition (`source`) names, and checks that every part has conditions or none has.
elbo_status dataset_open_condition(elbo_dataset *ds, const char *source);
// Examples of a split in the order in which elbo_dataset_read gives them: (count of the split), the caller's.
elbo_status dataset_read_order(elbo_dataset *ds, elbo_split split, int shuffle, uint64_t seed, int64_t **order);
// Numbers in one example's condition; 0: there are none.
int64_t dataset_condition_size(const elbo_dataset *ds);
// The condition of one example of a part, dataset_condition_size numbers.
void dataset_condition(const elbo_dataset *ds, int part, int64_t index, float *out);
// Decodes a sample to the set's shape (size, channels) into out. p and q are scratch.
elbo_status dataset_decode(const elbo_dataset *ds, const encoded_sample *s, picture *p, picture *q, void *out);
// --- transforms (transform.c): stored form to float32 ---
typedef struct transform_draw {
  bool augment;
  uint64_t seed;    // of the stream
  int64_t position; // in the training stream
  int64_t index;    // in the part
} transform_draw;
// Shape after crop.
void dataset_output_shape(const elbo_dataset *ds, int *height, int *width, int *channels);
// out: (H,W,C) float32 as the options say; raw: grey levels even where the options binarise or dequantise.
void transform_example(const elbo_dataset *ds, const void *stored, const transform_draw *draw, bool raw, float *out);

// --- formats: each fills the parts of ds and its shape, or fails ---
elbo_status idx_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, elbo_array **out);
elbo_status idx_read(elbo_ctx *ctx, const char *path, elbo_array **out);
elbo_status idx_open(elbo_dataset *ds, const char *path);
elbo_status cifar_parse(elbo_ctx *ctx, const char *name, const void *bytes, size_t size, uint8_t *pixels, int32_t *label);
elbo_status cifar_open(elbo_dataset *ds, const char *path);
elbo_status npy_open(elbo_dataset *ds, const char *path);
elbo_status folder_open(elbo_dataset *ds, const char *path);
elbo_status tar_open(elbo_dataset *ds, int n, char *const *paths);
elbo_status shapes_open(elbo_dataset *ds, int n_options, const char *const *options);
elbo_status densities_open(elbo_dataset *ds, const char *name, int n_options, const char *const *options);
bool density_known(const char *name);

// Fills a part from arrays: x (N,H,W,C), (N,H,W) or (N,D); label 1-D or (N,1), or (N,D) or (N,L,D) floats as conditions, or NULL. Takes
// nothing over.
elbo_status part_from_arrays(elbo_dataset *ds, elbo_split part, const char *name, const elbo_array *x, const elbo_array *label);
// The same, but x may be taken over (*x is then NULL) instead of copied.
elbo_status part_take_array(elbo_dataset *ds, elbo_split part, const char *name, elbo_array **x, const elbo_array *label);
void part_free_pixels(example_part *part);
// Whether a file's name speaks of a test or validation set ("t10k-images", "cifar10-test.tar", "x_val.npy").
elbo_split split_of_name(const char *path);

// Decodes what a source gives into a part's memory when it fits data.cache, and leaves it to be walked otherwise. Takes the source over, on
// failure too.
elbo_status part_from_source(elbo_dataset *ds, elbo_split part, const sample_source_ops *ops, void *source);

#endif
