#include "models/latent_cache.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "models/frozen_model.h"

#define FORMAT "2"
#define CACHE_NAME "train.safetensors"

// What a file was made from, by the words that a message names it with.
enum { MADE_FORMAT, MADE_AUTOENCODER, MADE_DATA, MADE_TRANSFORMS, MADE_OPTIONS, MADE_KINDS };
static const char *const made_name[MADE_KINDS] = {"format", "autoencoder", "data", "transforms", "options"};
typedef struct made_from {
  char text[MADE_KINDS][160];
} made_from;

typedef struct latent_cache {
  elbo_ctx *ctx;
  const latent_cache_request *request;
  int64_t n, row; // rows; numbers of one
  // of a file, or of memory that becomes one
  safetensors *file;
  void *memory;
  size_t memory_size;
  const float *codes;
  const int64_t *example;
  const int32_t *label; // NULL: none
} latent_cache;

static void close_cache(void *user) {
  latent_cache *c = user;
  if (!c) return;
  safetensors_close(&c->file);
  if (c->memory) file_unmap(c->memory, c->memory_size);
  free(c);
}

elbo_status latent_cache_check(elbo_ctx *ctx, const data_config *t, const char *file) {
  static const char *const binarize[] = {"none", "fixed", "dynamic"};
  if (t->crop)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: data.crop: examples are encoded once, and a window that moves has no code of its own; data.size cuts the middle out",
                file);
  if (t->binarize != BINARIZE_NONE || t->dequantize != DEQUANTIZE_NONE)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: data.%s: examples are encoded once, as grey levels; none was expected", file,
                t->binarize != BINARIZE_NONE ? binarize[t->binarize][0] == 'f' ? "binarize: fixed" : "binarize: dynamic"
                                             : "dequantize: uniform");
  return ELBO_OK;
}

// --- what it is made from ---

static elbo_status describe(const latent_cache *c, made_from *out) {
  const latent_cache_request *r = c->request;
  const latent_space *s = r->space;
  char hash[65], encoder[65], shape[96];
  *out = (made_from){0};
  snprintf(out->text[MADE_FORMAT], sizeof out->text[0], FORMAT);
  TRY(frozen_model_hash(s->autoencoder, hash));
  TRY(latent_encoder_hash(s, encoder)); // the same weights do something else with another activation
  snprintf(out->text[MADE_AUTOENCODER], sizeof out->text[0], "%s %s", hash, encoder);
  TRY(dataset_identity(r->data, ELBO_SPLIT_TRAIN, hash));
  snprintf(out->text[MADE_DATA], sizeof out->text[0], "%s", hash);
  snprintf(out->text[MADE_TRANSFORMS], sizeof out->text[0], "size %lld, channels %lld, flip %d, of %s", (long long)r->transforms->size,
           (long long)r->transforms->channels, r->transforms->flip, latent_space_text(s, shape, sizeof shape));
  snprintf(out->text[MADE_OPTIONS], sizeof out->text[0], "%s, scale %d", r->moments ? "moments" : "means", r->scaling);
  if (r->scaling == LATENT_SCALE_MODEL) { // the config that says it is not among the weights
    const size_t used = strlen(out->text[MADE_OPTIONS]), bytes = (size_t)s->code.channels * sizeof(float);
    sha256 of;
    sha256_begin(&of);
    sha256_add(&of, s->scale, bytes);
    sha256_add(&of, s->shift, bytes);
    sha256_end_hex(&of, hash);
    snprintf(out->text[MADE_OPTIONS] + used, sizeof out->text[0] - used, " %s", hash);
  }
  return ELBO_OK;
}

// --- a file that is there ---

static bool has_shape(const tensor_view *v, elbo_dtype dtype, int rank, const int64_t *dim) {
  if (!v || v->dtype != dtype || v->rank != rank) return false;
  for (int i = 0; i < rank; i++)
    if (v->dim[i] != dim[i]) return false;
  return true;
}

// Whether what rows say of their examples can be: a number of the training set, one of its classes.
static bool rows_are_possible(const latent_cache *c, int64_t n, const int64_t *example, const int32_t *label) {
  const elbo_dataset *data = c->request->data;
  elbo_dataset_info info;
  elbo_dataset_get_info(c->request->data, &info);
  if ((label != NULL) != data->labels) return false;
  for (int64_t i = 0; i < n; i++)
    if (example[i] < 0 || example[i] >= info.count[ELBO_SPLIT_TRAIN] || (label && (label[i] < 0 || label[i] >= data->classes)))
      return false;
  return true;
}

static bool scale_is_possible(const float *scale, const float *shift, int64_t channels) {
  for (int64_t k = 0; k < channels; k++)
    if (!isfinite(scale[k]) || !(scale[k] > 0) || !isfinite(shift[k])) return false;
  return true;
}

// Takes the file when it was made from the same; else says in *stale what is other.
static elbo_status take_file(latent_cache *c, const char *path, const made_from *now, const char **stale) {
  const latent_space *s = c->request->space;
  *stale = NULL;
  if (safetensors_open(c->ctx, path, &c->file) != ELBO_OK) {
    *stale = "file, which cannot be read,";
    return ELBO_OK;
  }
  for (int k = 0; k < MADE_KINDS && !*stale; k++) {
    const char *then = safetensors_metadata(c->file, made_name[k]);
    if (!then || strcmp(then, now->text[k]) != 0) *stale = made_name[k];
  }
  const tensor_view *codes = safetensors_find(c->file, "codes"), *example = safetensors_find(c->file, "example"),
                    *label = safetensors_find(c->file, "label"), *scale = safetensors_find(c->file, "scale"),
                    *shift = safetensors_find(c->file, "shift");
  int64_t n = example && example->rank == 1 ? example->dim[0] : 0, channels = s->code.channels;
  bool fits = n > 0 && has_shape(example, ELBO_I64, 1, &n) &&
              has_shape(codes, ELBO_F32, 4, (int64_t[]){n, s->code.height, s->code.width, channels * (c->request->moments ? 2 : 1)}) &&
              (!label || has_shape(label, ELBO_I32, 1, &n)) && has_shape(scale, ELBO_F32, 1, &channels) &&
              has_shape(shift, ELBO_F32, 1, &channels);
  fits =
      fits && rows_are_possible(c, n, example->data, label ? label->data : NULL) && scale_is_possible(scale->data, shift->data, channels);
  if (!*stale && !fits) *stale = "file, which is of another form,";
  if (*stale) {
    safetensors_close(&c->file);
    return ELBO_OK;
  }
  c->n = n, c->codes = codes->data, c->example = example->data, c->label = label ? label->data : NULL;
  memcpy(s->scale, scale->data, scale->bytes);
  memcpy(s->shift, shift->data, shift->bytes);
  return ELBO_OK;
}

// --- making it ---

typedef struct building {
  latent_cache *c;
  session encoder;
  loader *loader;
  int64_t total, done; // examples
  float *codes;
  int64_t *example;
  int32_t *label;
  float *mirrored;      // a batch; NULL: data.flip is off
  double *sum, *square; // (channels)
} building;

static void mirror(const float *x, int64_t rows, const picture_shape *p, float *out) {
  for (int64_t r = 0; r < rows * p->height; r++)
    for (int64_t w = 0; w < p->width; w++)
      memcpy(out + (r * p->width + w) * p->channels, x + (r * p->width + p->width - 1 - w) * p->channels,
             (size_t)p->channels * sizeof(float));
}

// The code of row i of the encoder's batch to the next row of the file, and its share of the sums: of z's variance, E[mean^2 + deviation^2]
// - E[mean]^2.
static void keep_row(building *b, int64_t i, int64_t example, int32_t label) {
  latent_cache *c = b->c;
  const latent_space *s = c->request->space;
  const bool moments = c->request->moments;
  const int64_t channels = s->code.channels, places = s->code.height * s->code.width, wide = moments ? 2 * channels : channels;
  const float *mean = session_output(&b->encoder, 0) + i * places * channels;
  const float *deviation = moments ? session_output(&b->encoder, 1) + i * places * channels : NULL;
  float *to = b->codes + c->n * c->row;
  for (int64_t p = 0; p < places; p++)
    for (int64_t k = 0; k < channels; k++) {
      const double m = (double)mean[p * channels + k], d = deviation ? (double)deviation[p * channels + k] : 0;
      to[p * wide + k] = (float)m;
      if (deviation) to[p * wide + channels + k] = (float)d;
      b->sum[k] += m, b->square[k] += m * m + d * d;
    }
  b->example[c->n] = example;
  if (b->label) b->label[c->n] = label;
  c->n++;
}

static const void *field(const data_batch *batch, const char *name) {
  for (int i = 0; i < batch->n_fields; i++)
    if (!strcmp(batch->field[i].name, name)) return batch->field[i].data;
  return NULL;
}

static elbo_status encode_batch(building *b, const data_batch *batch) {
  const latent_cache_request *r = b->c->request;
  const float *x = field(batch, "x"), *weight = field(batch, "weight");
  const int64_t *example = field(batch, "example");
  const int32_t *label = field(batch, "label");
  const int64_t rows = b->encoder.batch;
  for (int side = 0; side < (b->mirrored ? 2 : 1); side++) {
    if (side) mirror(x, rows, &r->space->picture, b->mirrored);
    session_rows in = {.x = side ? b->mirrored : x};
    TRY(session_run(&b->encoder, &in, 0, rows));
    for (int64_t i = 0; i < rows; i++)
      if (weight[i] > 0) keep_row(b, i, example[i], label ? label[i] : 0);
  }
  b->done += batch->count;
  if (r->progress && !r->progress(r->progress_user, "encode", b->done, b->total, ""))
    return fail(b->c->ctx, ELBO_ERROR_STOPPED, "stopped after the codes of %lld of %lld examples; they will be made anew",
                (long long)b->done, (long long)b->total);
  return ELBO_OK;
}

static elbo_status encode_all(building *b) {
  const data_batch *batch;
  for (;;) {
    TRY(loader_next(b->loader, &batch));
    if (!batch) return ELBO_OK;
    TRY(encode_batch(b, batch));
  }
}

// 1 / std of all codes [Rombach22 sec. G], or each channel by its own mean and deviation.
static elbo_status measure_scale(building *b) {
  const latent_cache_request *r = b->c->request;
  latent_space *s = r->space;
  const int64_t channels = s->code.channels;
  const double n = (double)(b->c->n * s->code.height * s->code.width);
  double mean = 0, square = 0;
  for (int64_t k = 0; k < channels; k++) mean += b->sum[k] / n / (double)channels, square += b->square[k] / n / (double)channels;
  for (int64_t k = 0; k < channels && r->scaling != LATENT_SCALE_MODEL; k++) {
    const bool each = r->scaling == LATENT_SCALE_CHANNEL;
    const double m = each ? b->sum[k] / n : mean, variance = (each ? b->square[k] / n : square) - m * m;
    if (!isfinite(variance))
      return fail(b->c->ctx, ELBO_ERROR_NUMERIC, "model.autoencoder: its codes of the training data are not all finite");
    if (!(variance > 1e-12) && !each)
      return fail(b->c->ctx, ELBO_ERROR_NUMERIC, "model.autoencoder: its codes are the same for all training data: nothing to model");
    s->scale[k] = variance > 1e-12 ? (float)(1 / sqrt(variance)) : 1; // a channel that says nothing stays as it is
    s->shift[k] = each ? (float)m : 0;
  }
  return ELBO_OK;
}

static void apply_scale(building *b) {
  const latent_space *s = b->c->request->space;
  const int64_t channels = s->code.channels, wide = b->c->request->moments ? 2 * channels : channels;
  for (int64_t p = 0; p < b->c->n * s->code.height * s->code.width; p++) {
    float *v = b->codes + p * wide;
    for (int64_t k = 0; k < channels; k++) v[k] = (v[k] - s->shift[k]) * s->scale[k];
    for (int64_t k = channels; k < wide; k++) v[k] *= s->scale[k - channels];
  }
}

static elbo_status lay_out(building *b, const char *folder) {
  latent_cache *c = b->c;
  const latent_cache_request *r = c->request;
  const picture_shape *p = &r->space->picture;
  elbo_dataset_info info;
  elbo_dataset_get_info(r->data, &info);
  b->total = info.count[ELBO_SPLIT_TRAIN];
  int64_t rows = b->total * (r->transforms->flip ? 2 : 1), bytes, batch = latent_batch(r->space, b->total);
  if (!checked_mul(rows, c->row * (int64_t)sizeof(float) + 12, &bytes))
    return fail(c->ctx, ELBO_ERROR_ARGUMENT, "the codes of %lld examples are too large", (long long)rows);
  c->memory_size = (size_t)bytes;
  TRY(file_map_nameless(c->ctx, folder, c->memory_size, &c->memory));
  b->example = c->memory, b->codes = (float *)(void *)(b->example + rows);
  b->label = r->data->labels ? (int32_t *)(void *)(b->codes + rows * c->row) : NULL;
  TRY(array_new(c->ctx, (size_t)r->space->code.channels, sizeof(double), "sums", (void **)&b->sum));
  TRY(array_new(c->ctx, (size_t)r->space->code.channels, sizeof(double), "sums", (void **)&b->square));
  if (r->transforms->flip)
    TRY(array_new(c->ctx, (size_t)(batch * p->height * p->width * p->channels), sizeof(float), "a batch", (void **)&b->mirrored));
  loader_config config = {.split = ELBO_SPLIT_TRAIN, .batch_size = batch};
  TRY(loader_create(c->ctx, r->data, &config, &b->loader));
  return latent_encoder_open(r->space, batch, &b->encoder);
}

elbo_status latent_cache_flops(const latent_cache_request *r, int64_t *out) {
  elbo_dataset_info data;
  elbo_plan_info plan;
  session encoder;
  elbo_dataset_get_info(r->data, &data);
  TRY(latent_encoder_open(r->space, 1, &encoder));
  elbo_plan_get_info(encoder.plan, &plan);
  session_destroy(&encoder);
  *out = plan.flops * data.count[ELBO_SPLIT_TRAIN] * (r->transforms->flip ? 2 : 1);
  return ELBO_OK;
}

static elbo_status make(latent_cache *c, const char *folder) {
  building b = {.c = c};
  elbo_status status = lay_out(&b, folder);
  if (status == ELBO_OK) status = encode_all(&b);
  if (status == ELBO_OK && c->n < 1) status = fail(c->ctx, ELBO_ERROR_FORMAT, "no training example could be read");
  if (status == ELBO_OK) status = measure_scale(&b);
  if (status == ELBO_OK) apply_scale(&b);
  c->codes = b.codes, c->example = b.example, c->label = b.label;
  session_destroy(&b.encoder);
  loader_destroy(&b.loader);
  free(b.mirrored), free(b.sum), free(b.square);
  return status;
}

static elbo_status write(const latent_cache *c, const char *path, const made_from *from) {
  const latent_space *s = c->request->space;
  const char *meta[2 * MADE_KINDS];
  size_t n = (size_t)c->n, channels = (size_t)s->code.channels;
  for (int k = 0; k < MADE_KINDS; k++) meta[2 * k] = made_name[k], meta[2 * k + 1] = from->text[k];
  tensor_view views[5] = {
      {.name = "codes",
       .dtype = ELBO_F32,
       .rank = 4,
       .dim = {c->n, s->code.height, s->code.width, s->code.channels * (c->request->moments ? 2 : 1)},
       .data = c->codes,
       .bytes = n * (size_t)c->row * 4},
      {.name = "example", .dtype = ELBO_I64, .rank = 1, .dim = {c->n}, .data = c->example, .bytes = n * 8},
      {.name = "scale", .dtype = ELBO_F32, .rank = 1, .dim = {s->code.channels}, .data = s->scale, .bytes = channels * 4},
      {.name = "shift", .dtype = ELBO_F32, .rank = 1, .dim = {s->code.channels}, .data = s->shift, .bytes = channels * 4},
      {.name = "label", .dtype = ELBO_I32, .rank = 1, .dim = {c->n}, .data = c->label, .bytes = n * 4},
  };
  return safetensors_write(c->ctx, path, c->label ? 5 : 4, views, MADE_KINDS, meta);
}

static elbo_status open_in(latent_cache *c, const char *run) {
  char folder[PATH_MAX], path[PATH_MAX], shape[128];
  made_from now;
  const char *stale = NULL;
  TRY(path_join(c->ctx, folder, sizeof folder, run, "latents"));
  TRY(path_join(c->ctx, path, sizeof path, folder, CACHE_NAME));
  TRY(describe(c, &now));
  const bool there = file_exists(path);
  if (there) TRY(take_file(c, path, &now, &stale));
  if (there && !stale) return ELBO_OK;
  if (stale)
    log_warning(c->ctx, "%s: made from another %s: the examples are encoded anew", path, stale);
  else
    log_info(c->ctx, "%s: encoding the training examples once, %s", path, latent_space_text(c->request->space, shape, sizeof shape));
  TRY(directory_make(c->ctx, folder));
  TRY(make(c, folder));
  TRY(write(c, path, &now));
  file_unmap(c->memory, c->memory_size);
  c->memory = NULL;
  TRY(take_file(c, path, &now, &stale));
  return stale ? fail(c->ctx, ELBO_ERROR_INTERNAL, "%s: cannot be read back", path) : ELBO_OK;
}

// --- as a data set ---

static elbo_status give_row(void *user, elbo_ctx *ctx, int64_t index, void *out, int32_t *label) {
  const latent_cache *c = user;
  (void)ctx;
  memcpy(out, c->codes + index * c->row, (size_t)c->row * sizeof(float));
  *label = c->label ? c->label[index] : 0;
  return ELBO_OK;
}

static void give_condition(void *user, int64_t index, float *out) {
  const latent_cache *c = user;
  const split_view *view = &c->request->data->view[ELBO_SPLIT_TRAIN];
  int64_t i = c->example[index];
  dataset_condition(c->request->data, view->part, view->index ? view->index[i] : i, out);
}

// The request outlives the call in the cache's own copy.
typedef struct cache_block {
  latent_cache cache;
  latent_cache_request request;
} cache_block;

elbo_status latent_cache_open(elbo_ctx *ctx, const char *run, const latent_cache_request *request, elbo_dataset **out) {
  *out = NULL;
  cache_block *block = calloc(1, sizeof *block);
  if (!block) return fail_memory(ctx, sizeof *block, "a cache of codes");
  latent_cache *c = &block->cache;
  block->request = *request;
  *c = (latent_cache){.ctx = ctx, .request = &block->request};
  c->row = latent_code_numbers(request->space) * (request->moments ? 2 : 1);
  data_config plain = {.max_skipped = 0};
  elbo_status status = run ? open_in(c, run) : make(c, NULL);
  if (status == ELBO_OK) status = dataset_create(ctx, "latents", &plain, out);
  if (status != ELBO_OK) {
    close_cache(c);
    return status;
  }
  elbo_dataset *ds = *out, *data = request->data;
  const picture_shape *code = &request->space->code;
  ds->format = "latents", ds->dtype = ELBO_F32;
  ds->height = (int)code->height, ds->width = (int)code->width, ds->channels = (int)(code->channels * (request->moments ? 2 : 1));
  ds->classes = data->labels ? data->classes : 0;
  ds->condition_tokens = data->condition_tokens, ds->condition_dim = data->condition_dim;
  ds->part[ELBO_SPLIT_TRAIN] = (example_part){.count = c->n,
                                              .make = give_row,
                                              .attributes = data->condition_dim ? give_condition : NULL,
                                              .attribute_count = (int)dataset_condition_size(data),
                                              .user = c,
                                              .release_user = close_cache};
  status = dataset_finish(ds);
  if (status != ELBO_OK) elbo_dataset_destroy(out);
  return status;
}
