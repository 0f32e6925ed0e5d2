// The public calls on data sets: opening by what is there, reading, describing, hashing.
#include "data/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/philox.h"
#include "core/place.h"
#include "core/sha256.h"
#include "data/recognise.h"

elbo_status dataset_create(elbo_ctx *ctx, const char *path, const data_config *config, elbo_dataset **out) {
  elbo_dataset *ds = calloc(1, sizeof *ds);
  *out = ds;
  if (!ds) return fail_memory(ctx, sizeof *ds, "data set");
  ds->ctx = ctx;
  ds->config = *config;
  ds->config.path = ds->config.condition = NULL;
  ds->format = "memory", ds->decoder = "";
  for (int v = 0; v < 256; v++) ds->unit_of_byte[v] = (float)v / 255.0f;
  ds->lock_made = pthread_mutex_init(&ds->lock, NULL) == 0;
  ds->path = string_copy(path);
  if (ds->path && ds->lock_made) return ELBO_OK;
  elbo_dataset_destroy(out);
  return fail_memory(ctx, strlen(path) + 1, "data set");
}

void elbo_dataset_destroy(elbo_dataset **dataset) {
  elbo_dataset *ds = dataset ? *dataset : NULL;
  if (!ds) return;
  for (int s = 0; s < 3; s++) {
    example_part *part = &ds->part[s];
    part_free_pixels(part);
    free(part->label), free(part->condition), free(part->unreadable), free(part->caption.at), free(part->caption.offset);
    if (part->release_user) part->release_user(part->user);
    if (part->walk_ops) part->walk_ops->release(part->source);
    if (!ds->view[s].borrowed) free(ds->view[s].index);
  }
  for (int c = 0; ds->class_names && c < ds->classes; c++) free(ds->class_names[c]);
  free(ds->class_names), free(ds->caption_text), free(ds->path);
  if (ds->lock_made) pthread_mutex_destroy(&ds->lock);
  free(ds);
  *dataset = NULL;
}

// --- opening -----------------------------------------------------------------------------------------------------------------------

// "name:key=value,key=value" taken apart. The pieces point into `copy`.
static int split_builtin(char *copy, const char **options, int most) {
  int n = 0;
  char *p = strchr(copy, ':');
  while (p && n < most) {
    *p++ = 0;
    if (*p) options[n++] = p;
    p = strchr(p, ',');
  }
  return n;
}

static elbo_status open_digits(elbo_dataset *ds) {
  char beside[4096];
  if (place_beside("digits", beside, sizeof beside)) return idx_open(ds, beside);
  if (directory_exists(ELBO_SOURCE_DIR "/share/digits")) return idx_open(ds, ELBO_SOURCE_DIR "/share/digits");
  if (directory_exists(ELBO_DATADIR "/digits")) return idx_open(ds, ELBO_DATADIR "/digits");
  return fail(ds->ctx, ELBO_ERROR_IO, "the built-in digits are neither in the source tree nor in %s", ELBO_DATADIR "/digits");
}

int elbo_dataset_is_builtin(const char *path) {
  char name[512];
  size_t n = path ? strcspn(path, ":") : 0;
  if (!n || strlen(path) >= sizeof name) return 0;
  memcpy(name, path, n);
  name[n] = 0;
  return !strcmp(name, "digits") || !strcmp(name, "shapes") || density_known(name);
}

static elbo_status open_builtin(elbo_dataset *ds, const char *path, bool *done) {
  char copy[512];
  const char *options[32];
  *done = elbo_dataset_is_builtin(path);
  if (!*done) return ELBO_OK;
  snprintf(copy, sizeof copy, "%s", path);
  int n = split_builtin(copy, options, 32);
  if (directory_exists(copy) || file_exists(copy))
    log_info(ds->ctx, "%s: the built-in data set; what lies here under that name is ./%s", copy, copy);
  if (!strcmp(copy, "digits")) {
    if (n) return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "digits takes no options; got '%s'", options[0]);
    return open_digits(ds);
  }
  if (!strcmp(copy, "shapes")) return shapes_open(ds, n, options);
  return densities_open(ds, copy, n, options);
}

static elbo_status open_shards(elbo_dataset *ds, file_list *files) { return tar_open(ds, (int)files->count, files->path); }

static elbo_status open_file(elbo_dataset *ds, const char *path) {
  switch (recognise_file(path)) {
  case DATA_FILE_IDX: return idx_open(ds, path);
  case DATA_FILE_CIFAR: return cifar_open(ds, path);
  case DATA_FILE_NPY:
  case DATA_FILE_NPZ: return npy_open(ds, path);
  case DATA_FILE_TAR: return tar_open(ds, 1, (char *const[]){(char *)(uintptr_t)path});
  case DATA_FILE_PICTURE: return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "%s: one picture; expected a folder of them", path);
  default:
    return fail(ds->ctx, ELBO_ERROR_FORMAT,
                "%s: not a data set; expected IDX(.gz), CIFAR-10 binary, tar(.gz) shards, .npy, .npz or a folder of pictures", path);
  }
}

// A folder, or a prefix of files in one, is what the first kind found in it is.
static elbo_status open_files(elbo_dataset *ds, const char *path, bool folder) {
  static const data_file_kind KINDS[] = {DATA_FILE_IDX, DATA_FILE_CIFAR, DATA_FILE_TAR, DATA_FILE_NPZ, DATA_FILE_NPY};
  file_list all = {0}, tars = {0};
  elbo_status status = file_list_directory(ds->ctx, path, false, &all);
  bool found[DATA_FILE_CIFAR + 1] = {false};
  for (int64_t i = 0; i < all.count && status == ELBO_OK; i++) {
    data_file_kind kind = recognise_file(all.path[i]);
    found[kind] = true;
    if (kind == DATA_FILE_TAR) status = file_list_add(ds->ctx, &tars, all.path[i]);
    if (kind == DATA_FILE_PICTURE && i > 1000) break; // a flat folder of pictures: no need to look at all of them
  }
  data_file_kind kind = DATA_FILE_UNKNOWN;
  for (size_t k = 0; k < sizeof KINDS / sizeof KINDS[0] && kind == DATA_FILE_UNKNOWN; k++)
    if (found[KINDS[k]]) kind = KINDS[k];
  if (status == ELBO_OK) switch (kind) {
    case DATA_FILE_IDX: status = idx_open(ds, path); break;
    case DATA_FILE_CIFAR: status = cifar_open(ds, path); break;
    case DATA_FILE_TAR: status = open_shards(ds, &tars); break;
    case DATA_FILE_NPZ:
    case DATA_FILE_NPY: status = npy_open(ds, path); break;
    default:
      if (folder)
        status = folder_open(ds, path);
      else
        status = fail(ds->ctx, ELBO_ERROR_IO,
                      "%s: no such file, folder or built-in data set (digits, shapes, rings, spirals, checkerboard, gaussians8)", path);
    }
  file_list_free(&all), file_list_free(&tars);
  return status;
}

static elbo_status open_path(elbo_dataset *ds, const char *path) {
  bool done;
  TRY(open_builtin(ds, path, &done));
  if (done) return ELBO_OK;
  if (directory_exists(path)) return open_files(ds, path, true);
  if (file_exists(path)) return open_file(ds, path);
  if (strchr(path, '{')) {
    file_list files = {0};
    elbo_status status = file_list_braces(ds->ctx, path, &files);
    if (status == ELBO_OK) status = open_shards(ds, &files);
    file_list_free(&files);
    return status;
  }
  char folder[4096];
  snprintf(folder, sizeof folder, "%s", path);
  char *slash = strrchr(folder, '/');
  if (slash) slash[slash == folder] = 0;
  if (slash && !directory_exists(folder)) return fail(ds->ctx, ELBO_ERROR_IO, "%s: no such file or folder", path);
  return open_files(ds, path, false);
}

elbo_status dataset_open_config(elbo_ctx *ctx, const data_config *config, elbo_dataset **out) {
  *out = NULL;
  const char *path = config->path;
  if (!path || !*path) return fail(ctx, ELBO_ERROR_ARGUMENT, "data.path is empty");
  if (strlen(path) > 3000) return fail(ctx, ELBO_ERROR_ARGUMENT, "data.path is too long");
  elbo_dataset *ds;
  TRY(dataset_create(ctx, path, config, &ds));
  elbo_status status = open_path(ds, path);
  if (status == ELBO_OK) status = dataset_open_condition(ds, config->condition);
  if (status == ELBO_OK) status = dataset_finish(ds);
  if (status != ELBO_OK) elbo_dataset_destroy(&ds);
  *out = ds;
  return status;
}

static elbo_status load_options(elbo_ctx *ctx, arena **a, int n, const char *const *options, data_config *config) {
  *a = arena_create(4096);
  if (!*a) return fail_memory(ctx, 4096, "data options");
  return config_load_options(ctx, *a, &data_table, n, options, config);
}

elbo_status elbo_dataset_open(elbo_ctx *ctx, const char *path, int n_options, const char *const *options, elbo_dataset **out) {
  *out = NULL;
  arena *a = NULL;
  data_config config;
  elbo_status status = load_options(ctx, &a, n_options, options, &config);
  if (status == ELBO_OK) {
    config.path = path;
    status = dataset_open_config(ctx, &config, out);
  }
  arena_destroy(&a);
  return status;
}

elbo_status elbo_dataset_from_arrays(elbo_ctx *ctx, const elbo_array *x, const elbo_array *label, int n_options, const char *const *options,
                                     elbo_dataset **out) {
  *out = NULL;
  arena *a = NULL;
  data_config config;
  elbo_dataset *ds = NULL;
  elbo_status status = load_options(ctx, &a, n_options, options, &config);
  if (status == ELBO_OK) status = dataset_create(ctx, "the arrays", &config, &ds);
  if (status == ELBO_OK) status = part_from_arrays(ds, ELBO_SPLIT_TRAIN, "the arrays", x, label);
  if (status == ELBO_OK) status = dataset_open_condition(ds, config.condition);
  if (status == ELBO_OK) status = dataset_finish(ds);
  if (status != ELBO_OK) elbo_dataset_destroy(&ds);
  arena_destroy(&a);
  *out = ds;
  return status;
}

typedef struct callback_source {
  elbo_example_fn fn;
  void *user;
  int classes;
  size_t elements;
} callback_source;

static elbo_status make_by_callback(void *user, elbo_ctx *ctx, int64_t index, void *out, int32_t *label) {
  callback_source *c = user;
  *label = 0;
  int code = c->fn(c->user, index, out, label);
  if (code != 0) return fail(ctx, ELBO_ERROR_STOPPED, "the example callback returned %d for example %lld", code, (long long)index);
  for (size_t i = 0; i < c->elements; i++)
    if (!(((float *)out)[i] - ((float *)out)[i] == 0))
      return fail(ctx, ELBO_ERROR_NUMERIC, "the example callback gave a value that is not finite: example %lld, element %zu",
                  (long long)index, i);
  if (c->classes && (*label < 0 || *label >= c->classes))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "the example callback gave label %d for example %lld; expected 0 to %d", (int)*label,
                (long long)index, c->classes - 1);
  return ELBO_OK;
}

elbo_status elbo_dataset_from_callback(elbo_ctx *ctx, int64_t count, int height, int width, int channels, int classes, elbo_example_fn fn,
                                       void *user, elbo_dataset **out) {
  *out = NULL;
  int64_t elements;
  if (count < 1 || height < 1 || width < 1 || channels < 1 || classes < 0 || !fn ||
      !checked_mul((int64_t)height * width, channels, &elements) || elements > (int64_t)1 << 30)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "data set from a callback: %lld examples of (%d,%d,%d), %d classes", (long long)count, height,
                width, channels, classes);
  arena *a = NULL;
  data_config config;
  elbo_dataset *ds = NULL;
  elbo_status status = load_options(ctx, &a, 0, NULL, &config);
  arena_destroy(&a);
  TRY(status);
  config.holdout = 0;
  TRY(dataset_create(ctx, "the callback", &config, &ds));
  callback_source *c = calloc(1, sizeof *c);
  if (!c) {
    elbo_dataset_destroy(&ds);
    return fail_memory(ctx, sizeof *c, "data set");
  }
  *c = (callback_source){fn, user, classes, (size_t)elements};
  ds->format = "callback", ds->dtype = ELBO_F32, ds->height = height, ds->width = width, ds->channels = channels, ds->classes = classes;
  ds->image = height > 1 || width > 1;
  ds->part[0] = (example_part){.count = count, .make = make_by_callback, .user = c, .release_user = free};
  status = dataset_finish(ds);
  if (status != ELBO_OK) elbo_dataset_destroy(&ds);
  *out = ds;
  return status;
}

// --- reading -----------------------------------------------------------------------------------------------------------------------

void elbo_dataset_get_info(const elbo_dataset *ds, elbo_dataset_info *out) {
  *out =
      (elbo_dataset_info){.format = ds->format, .classes = ds->labels ? ds->classes : 0, .captions = ds->captions, .decoder = ds->decoder};
  dataset_output_shape(ds, &out->height, &out->width, &out->channels);
  for (int s = 0; s < 3; s++) {
    out->count[s] = ds->view[s].count;
    out->skipped += atomic_load(&ds->part[s].skipped);
  }
  out->bits = ds->dtype == ELBO_U8 ? 8 : ds->dtype == ELBO_U16 ? 16 : 0;
  out->class_names = (const char *const *)ds->class_names;
  out->condition_dim = ds->condition_dim, out->condition_tokens = ds->condition_tokens;
}

int64_t dataset_bytes(const elbo_dataset *ds) {
  int64_t total = 0;
  for (int s = 0; s < 3; s++) {
    const example_part *part = &ds->part[s];
    if (part->pixels) total += part->count * (int64_t)dataset_example_bytes(ds);
    if (part->label) total += part->count * (int64_t)sizeof(int32_t);
    if (part->condition) total += part->count * dataset_condition_size(ds) * (int64_t)sizeof(float);
    total += (int64_t)part->caption.capacity + part->caption.offset_capacity * (int64_t)sizeof(int64_t);
    if (part->walk_ops) total += part->walk_ops->bytes(part->source) + part->count;
    if (ds->view[s].index && !ds->view[s].borrowed) total += ds->view[s].count * (int64_t)sizeof(int64_t);
  }
  return total;
}

elbo_status dataset_stored(elbo_dataset *ds, int which, int64_t index, void *scratch, const void **pixels, int32_t *label) {
  example_part *part = &ds->part[which];
  *label = part->label ? part->label[index] : 0;
  *pixels = scratch;
  if (part->pixels)
    *pixels = (const uint8_t *)part->pixels + (size_t)index * dataset_example_bytes(ds);
  else if (part->make)
    return part->make(part->user, ds->ctx, index, scratch, label);
  else
    return fail(ds->ctx, ELBO_ERROR_INTERNAL, "%s: example %lld of a streamed part asked for by its number", ds->path, (long long)index);
  return ELBO_OK;
}

// Where each wanted example of a walked part goes: sorted by its index in the part.
typedef struct wanted {
  int64_t index, place;
} wanted;

static int compare_wanted(const void *a, const void *b) {
  const wanted *x = a, *y = b;
  return x->index != y->index ? (x->index > y->index) - (x->index < y->index) : (x->place > y->place) - (x->place < y->place);
}

// Receives stored examples in the order of the walk.
typedef elbo_status (*stored_fn)(void *user, int64_t place, int64_t index, const void *stored, int32_t label);

static elbo_status walk_wanted(elbo_dataset *ds, int which, wanted *want, int64_t n, stored_fn fn, void *user) {
  example_part *part = &ds->part[which];
  void *walk = NULL, *stored = calloc(1, dataset_example_bytes(ds));
  picture p = {0}, q = {0};
  encoded_sample s = {.label = -1};
  qsort(want, (size_t)n, sizeof *want, compare_wanted);
  elbo_status status = stored ? part->walk_ops->begin(part->source, ds->ctx, false, 0, 0, &walk) : fail_memory(ds->ctx, 0, ds->path);
  for (int64_t i = 0; i < n && status == ELBO_OK;) {
    bool end = false;
    status = part->walk_ops->next(walk, ds->ctx, &s, &end);
    if (status == ELBO_OK && end) status = fail(ds->ctx, ELBO_ERROR_IO, "%s: changed while it was read", ds->path);
    if (status == ELBO_OK && s.index == want[i].index) {
      status = dataset_decode(ds, &s, &p, &q, stored);
      if (status == ELBO_ERROR_FORMAT || status == ELBO_ERROR_UNSUPPORTED) { // left black
        dataset_skip(ds, (elbo_split)which, s.index, elbo_ctx_message(ds->ctx));
        memset(stored, 0, dataset_example_bytes(ds));
        status = ELBO_OK;
      }
      for (; i < n && status == ELBO_OK && want[i].index == s.index; i++) status = fn(user, want[i].place, s.index, stored, s.label);
    }
    encoded_sample_free(&s);
  }
  if (walk) part->walk_ops->end(walk);
  picture_free(&p), picture_free(&q);
  free(stored);
  return status;
}

// Hands examples at[0..n) of a view to fn; a walked part's come in its own order.
static elbo_status each_stored(elbo_dataset *ds, const split_view *view, const int64_t *at, int64_t n, stored_fn fn, void *user) {
  example_part *part = &ds->part[view->part];
  elbo_status status = ELBO_OK;
  if (part->walk_ops) {
    wanted *want = NULL;
    TRY(array_new(ds->ctx, (size_t)n, sizeof *want, "examples", (void **)&want));
    for (int64_t i = 0; i < n; i++) want[i] = (wanted){view->index ? view->index[at[i]] : at[i], i};
    status = walk_wanted(ds, view->part, want, n, fn, user);
    free(want);
    return status;
  }
  void *scratch = malloc(dataset_example_bytes(ds));
  if (!scratch) return fail_memory(ds->ctx, dataset_example_bytes(ds), "example");
  for (int64_t i = 0; i < n && status == ELBO_OK; i++) {
    const void *stored;
    int32_t label;
    int64_t index = view->index ? view->index[at[i]] : at[i];
    status = dataset_stored(ds, view->part, index, scratch, &stored, &label);
    if (status == ELBO_OK) status = fn(user, i, index, stored, label);
  }
  free(scratch);
  return status;
}

typedef struct read_job {
  const elbo_dataset *ds;
  float *x;
  int32_t *label;
  size_t elements;
} read_job;

static elbo_status keep_read(void *user, int64_t place, int64_t index, const void *stored, int32_t label) {
  read_job *job = user;
  transform_example(job->ds, stored, &(transform_draw){.index = index}, true, job->x + (size_t)place * job->elements);
  if (job->label) job->label[place] = label;
  return ELBO_OK;
}

elbo_status dataset_read_order(elbo_dataset *ds, elbo_split split, int shuffle, uint64_t seed, int64_t **order) {
  int64_t n = ds->view[split].count;
  TRY(array_new(ds->ctx, (size_t)n + 1, sizeof **order, "order", (void **)order));
  if (shuffle && n) philox_permutation(seed, philox_stream("read"), n, *order);
  for (int64_t i = 0; !shuffle && i < n; i++) (*order)[i] = i;
  return ELBO_OK;
}

elbo_status elbo_dataset_read(elbo_dataset *ds, elbo_split split, int64_t first, int64_t count, int shuffle, uint64_t seed, elbo_array **x,
                              elbo_array **label) {
  *x = NULL;
  if (label) *label = NULL;
  if ((unsigned)split > ELBO_SPLIT_TEST || first < 0 || count < 0)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "reading %lld examples from %lld of split %d", (long long)count, (long long)first,
                (int)split);
  const split_view *view = &ds->view[split];
  if (first > view->count) first = view->count;
  if (count > view->count - first) count = view->count - first;
  int height, width, channels;
  dataset_output_shape(ds, &height, &width, &channels);
  read_job job = {.ds = ds, .elements = (size_t)height * (size_t)width * (size_t)channels};
  int64_t *order = NULL;
  elbo_status status;
  TRY_GOTO(dataset_read_order(ds, split, shuffle, seed, &order));
  TRY_GOTO(elbo_array_create(ds->ctx, ELBO_F32, 4, (int64_t[]){count, height, width, channels}, x));
  if (label && ds->labels) TRY_GOTO(elbo_array_create(ds->ctx, ELBO_I32, 1, &count, label));
  job.x = (*x)->data, job.label = label && *label ? (*label)->data : NULL;
  TRY_GOTO(each_stored(ds, view, order + first, count, keep_read, &job));
fail:
  free(order);
  if (status != ELBO_OK) {
    elbo_array_destroy(x);
    if (label) elbo_array_destroy(label);
  }
  return status;
}

elbo_status elbo_dataset_caption(elbo_dataset *ds, elbo_split split, int64_t i, const char **out) {
  *out = "";
  if ((unsigned)split > ELBO_SPLIT_TEST || i < 0 || i >= ds->view[split].count)
    return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "caption of example %lld of split %d; there are %lld", (long long)i, (int)split,
                (unsigned)split > ELBO_SPLIT_TEST ? 0LL : (long long)ds->view[split].count);
  const split_view *view = &ds->view[split];
  example_part *part = &ds->part[view->part];
  int64_t index = view->index ? view->index[i] : i;
  if (!part->describe) {
    *out = text_list_get(&part->caption, index);
    return ELBO_OK;
  }
  char text[256] = "";
  TRY(part->describe(part->user, ds->ctx, index, text, sizeof text));
  free(ds->caption_text);
  ds->caption_text = string_copy(text);
  if (!ds->caption_text) return fail_memory(ds->ctx, strlen(text) + 1, "caption");
  *out = ds->caption_text;
  return ELBO_OK;
}

typedef struct hash_job {
  sha256 state;
  size_t bytes;
} hash_job;

static elbo_status hash_stored(void *user, int64_t place, int64_t index, const void *stored, int32_t label) {
  (void)place, (void)index, (void)label;
  hash_job *job = user;
  sha256_add(&job->state, stored, job->bytes);
  return ELBO_OK;
}

static elbo_status hash_labelled(void *user, int64_t place, int64_t index, const void *stored, int32_t label) {
  hash_job *job = user;
  sha256_add(&job->state, &label, sizeof label);
  return hash_stored(user, place, index, stored, label);
}

void identify_file(const char *path, sha256 *hash) {
  struct stat st = {0};
  const char *slash = strrchr(path, '/');
  sha256_add(hash, slash ? slash + 1 : path, strlen(slash ? slash + 1 : path) + 1);
  if (stat(path, &st) != 0) return; // whoever reads it will say so
  int64_t of[3] = {(int64_t)st.st_size, (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec};
  sha256_add(hash, of, sizeof of);
}

elbo_status dataset_identity(elbo_dataset *ds, elbo_split split, char out[65]) {
  const split_view *view = &ds->view[split];
  const example_part *part = &ds->part[view->part];
  hash_job job = {.bytes = dataset_example_bytes(ds)};
  int64_t *order = NULL, shape[5] = {view->count, ds->height, ds->width, ds->channels, ds->dtype};
  TRY(dataset_read_order(ds, split, 0, 0, &order));
  sha256_begin(&job.state);
  sha256_add(&job.state, shape, sizeof shape);
  elbo_status status = ELBO_OK;
  if (part->make && elbo_dataset_is_builtin(ds->path)) {
    sha256_add(&job.state, ds->path, strlen(ds->path) + 1);
    sha256_add(&job.state, elbo_version(), strlen(elbo_version()));
    if (view->index) sha256_add(&job.state, view->index, (size_t)view->count * sizeof *view->index);
  } else if (part->walk_ops) {
    part->walk_ops->identify(part->source, &job.state);
    if (part->label) sha256_add(&job.state, part->label, (size_t)part->count * sizeof *part->label);
    if (view->index) sha256_add(&job.state, view->index, (size_t)view->count * sizeof *view->index);
  } else {
    status = each_stored(ds, view, order, view->count, hash_labelled, &job);
  }
  free(order);
  if (status == ELBO_OK) sha256_end_hex(&job.state, out);
  return status;
}

elbo_status elbo_dataset_hash(elbo_dataset *ds, elbo_split split, char out[65]) {
  out[0] = 0;
  if ((unsigned)split > ELBO_SPLIT_TEST) return fail(ds->ctx, ELBO_ERROR_ARGUMENT, "hash of split %d", (int)split);
  const split_view *view = &ds->view[split];
  int64_t *order = NULL;
  TRY(array_new(ds->ctx, (size_t)view->count + 1, sizeof *order, "order", (void **)&order));
  for (int64_t i = 0; i < view->count; i++) order[i] = i;
  hash_job job = {.bytes = dataset_example_bytes(ds)};
  sha256_begin(&job.state);
  elbo_status status = each_stored(ds, view, order, view->count, hash_stored, &job);
  free(order);
  if (status == ELBO_OK) sha256_end_hex(&job.state, out);
  return status;
}
