// elbo_convert: a file of weights, or every component of a directory.
#include <elbo/convert.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"
#include "core/file.h"
#include "models/pipeline_index.h"
#include "models/weights_files.h"
#include "models/weights_layout.h"
#include "tasks/convert.h"
#include "train/run.h"

enum { DEPTH_MAX = 4, KEYS_SHOWN = 12 };
#define COPY_LIMIT ((size_t)1 << 30) // bytes of a file that is not weights

void elbo_convert_defaults(elbo_convert_config *config) { *config = (elbo_convert_config){.size = sizeof *config, .dtype = -1}; }

static bool ends_in(const char *text, const char *ending) {
  size_t n = strlen(text), m = strlen(ending);
  return n >= m && !strcmp(text + n - m, ending);
}

// --- one file of weights ---

static elbo_status refuse_key(elbo_ctx *ctx, const weights *w, const char *key) {
  text_buffer list = {0};
  int n = 0;
  size_t length = 0;
  const char *last = "";
  for (int64_t i = 0; i < weights_count(w) && n < KEYS_SHOWN; i++) {
    const char *name = weights_at(w, i)->name;
    size_t first = strcspn(name, ".");
    if (first == length && !strncmp(name, last, length)) continue;
    text_add(&list, "%s%.*s", n++ ? ", " : "", first < 60 ? (int)first : 60, name);
    last = name, length = first;
  }
  char *text = text_take(&list);
  elbo_status status =
      fail(ctx, ELBO_ERROR_ARGUMENT, "%s: no tensor lies below '%.200s'; the first keys are: %s", weights_path(w), key, text ? text : "");
  free(text);
  return status;
}

// Opens what is to be written: the tensors below the key, or all; of a pickle with a state_dict, that.
static elbo_status open_part(elbo_ctx *ctx, const char *in, const elbo_convert_config *config, weights_layout *layout, weights **out,
                             int64_t *left_out) {
  weights *w;
  const char *key;
  TRY(weights_open_whole(ctx, in, &w));
  int64_t all = weights_count(w);
  elbo_status status = ELBO_OK;
  *layout = WEIGHTS_LAYOUT_UNKNOWN;
  bool whole = config->key && weights_select(w, config->key);
  if (!whole && !strncmp(weights_format(w), "pickle", 6)) weights_select(w, "state_dict");
  if (config->key && !whole && !weights_select(w, config->key)) status = refuse_key(ctx, w, config->key);
  if (status == ELBO_OK && config->names != ELBO_NAMES_AS_THEY_ARE) {
    *layout = weights_recognise(w, &key);
    if (*key) weights_select(w, key);
    if (*layout == WEIGHTS_LAYOUT_UNKNOWN)
      status = fail(ctx, ELBO_ERROR_UNSUPPORTED,
                    "%s: names of no known layout; known are UNets of improved and guided diffusion, latent and Stable Diffusion "
                    "(input_blocks, middle_block, output_blocks), of the DDPM code (down, mid, up), and diffusers' own",
                    weights_path(w));
    else if (config->names == ELBO_NAMES_ORIGINAL && *layout != WEIGHTS_LAYOUT_DIFFUSERS)
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: names of the layout '%s'; the way back begins at diffusers' (convert to those first)",
                    weights_path(w), weights_layout_name(*layout));
  }
  *left_out = all - weights_count(w);
  if (status == ELBO_OK)
    *out = w;
  else
    weights_close(&w);
  return status;
}

// Shards that were there before are what readers look at first.
static void warn_of_index(elbo_ctx *ctx, const char *out, int64_t max_shard_bytes) {
  char path[PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s.index.json", out) >= sizeof path || max_shard_bytes || !file_exists(path)) return;
  log_warning(ctx, "%s: was there before, and readers prefer it to %s", path, out);
}

static elbo_status convert_file(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config,
                                elbo_convert_result *result) {
  weights *w;
  weights_layout layout;
  tensor_list list = {0};
  int64_t left_out;
  TRY(open_part(ctx, in, config, &layout, &w, &left_out));
  arena *a = arena_create(1 << 16);
  bool back = config->names == ELBO_NAMES_ORIGINAL,
       rename = back || (layout != WEIGHTS_LAYOUT_UNKNOWN && layout != WEIGHTS_LAYOUT_DIFFUSERS);
  qkv_rows rows = {config->qkv == ELBO_QKV_BY_KIND, config->heads, config->head_dim};
  elbo_status status = ELBO_OK;
  if (rename) status = back ? weights_to_original(ctx, w, &rows, a, &list) : weights_to_diffusers(ctx, w, layout, &rows, a, &list);
  const tensor_view *views = rename ? list.at : weights_at(w, 0);
  int64_t n = rename ? list.count : weights_count(w);
  if (status == ELBO_OK && !n) status = fail(ctx, ELBO_ERROR_FORMAT, "%s: there is no tensor in it", weights_path(w));
  if (status == ELBO_OK)
    status = weights_write_files(ctx, out, n, views, config->dtype, config->max_shard_bytes, &result->files, &result->bytes);
  if (status == ELBO_OK) warn_of_index(ctx, out, config->max_shard_bytes);
  for (int64_t i = 0; i < n && status == ELBO_OK; i++) result->parameters += (int64_t)(views[i].bytes / elbo_dtype_size(views[i].dtype));
  result->tensors += n, result->left_out += left_out;
  snprintf(result->from, sizeof result->from, "%s", weights_format(w));
  if (rename) snprintf(result->names, sizeof result->names, "%s", weights_layout_name(layout));
  free(list.at);
  arena_destroy(&a);
  weights_close(&w);
  return status;
}

// --- directories ---

// Weights and their indices, which are not copied.
static bool is_weights_name(const char *name) {
  static const char *const stems[] = {"diffusion_pytorch_model", "pytorch_model", "model"};
  for (size_t i = 0; i < 3; i++) {
    size_t n = strlen(stems[i]);
    if (strncmp(name, stems[i], n) != 0 || (name[n] != '.' && name[n] != '-')) continue;
    return ends_in(name, ".safetensors") || ends_in(name, ".bin") || (strstr(name, ".index.") && ends_in(name, ".json"));
  }
  return false;
}

static elbo_status copy_file(elbo_ctx *ctx, const char *from, const char *to) {
  char *data;
  size_t size;
  TRY(file_read(ctx, from, COPY_LIMIT, &data, &size));
  elbo_status status = file_write(ctx, to, data, size);
  free(data);
  return status;
}

static elbo_status convert_folder(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config, int depth,
                                  elbo_convert_result *result);

static elbo_status convert_entry(elbo_ctx *ctx, const char *in, const char *out, const char *name, const elbo_convert_config *config,
                                 int depth, elbo_convert_result *result) {
  char from[PATH_MAX], to[PATH_MAX];
  struct stat entry;
  if (name[0] == '.' || is_weights_name(name)) return ELBO_OK;
  TRY(path_join(ctx, from, sizeof from, in, name));
  TRY(path_join(ctx, to, sizeof to, out, name));
  if (stat(from, &entry) != 0) return fail_errno(ctx, from, "cannot stat"); // links are followed: caches are made of them
  if (S_ISREG(entry.st_mode)) return copy_file(ctx, from, to);
  // what only training needs (raw weights, moments) belongs to the checkpoint that it is of
  if (!S_ISDIR(entry.st_mode) || !strcmp(name, "training")) return ELBO_OK;
  return convert_folder(ctx, from, to, config, depth + 1, result);
}

static elbo_status convert_folder(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config, int depth,
                                  elbo_convert_result *result) {
  char path[PATH_MAX], to[PATH_MAX];
  bool found;
  if (depth > DEPTH_MAX)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: folders nested deeper than %d; expected a model directory", in, DEPTH_MAX);
  TRY(directory_make(ctx, out));
  TRY(weights_locate(ctx, in, path, sizeof path, &found));
  if (found) {
    bool diffusers = !strncmp(strrchr(path, '/') + 1, "diffusion_", strlen("diffusion_"));
    TRY(path_join(ctx, to, sizeof to, out, diffusers ? WEIGHTS_NAME : "model.safetensors"));
    TRY(convert_file(ctx, path, to, config, result));
  }
  DIR *directory = opendir(in);
  if (!directory) return fail_errno(ctx, in, "cannot list");
  elbo_status status = ELBO_OK;
  for (struct dirent *entry; status == ELBO_OK && (entry = readdir(directory));)
    status = convert_entry(ctx, in, out, entry->d_name, config, depth, result);
  closedir(directory);
  return status;
}

// Made under another name and renamed when it is whole.
static elbo_status convert_directory(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config,
                                     elbo_convert_result *result) {
  char whole[PATH_MAX], source[PATH_MAX];
  staged_directory s;
  TRY(staged_directory_open(ctx, out, &s));
  elbo_status status = ELBO_OK;
  if (realpath(s.path, whole) && realpath(in, source) && !strncmp(whole, source, strlen(source)) && whole[strlen(source)] == '/')
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "%s: lies within %s; expected a directory beside it", out, in);
  if (status == ELBO_OK) status = convert_folder(ctx, in, s.path, config, 0, result);
  if (status == ELBO_OK && !result->files) status = fail(ctx, ELBO_ERROR_FORMAT, "%s: no weights in it or in its folders", in);
  snprintf(result->from, sizeof result->from, "directory");
  return staged_directory_close(ctx, &s, status);
}

elbo_status convert_check_config(elbo_ctx *ctx, const elbo_convert_config *c) {
  if (c->size != sizeof *c) return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_convert: config.size is %zu; expected %zu", c->size, sizeof *c);
  if (c->dtype != -1 && c->dtype != ELBO_F32 && c->dtype != ELBO_F16 && c->dtype != ELBO_BF16)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_convert: dtype %d; expected float32, float16, bfloat16 or -1", c->dtype);
  if (c->max_shard_bytes < 0 || c->heads < 0 || c->head_dim < 0)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_convert: a negative max_shard_bytes, heads or head_dim");
  if (c->heads && c->head_dim) return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_convert: heads and head_dim; expected one of them");
  return ELBO_OK;
}

elbo_status elbo_convert(elbo_ctx *ctx, const char *in, const char *out, const elbo_convert_config *config, elbo_convert_result *result) {
  elbo_convert_config defaults;
  elbo_convert_result unused;
  char path[PATH_MAX];
  if (!config) elbo_convert_defaults(&defaults), config = &defaults;
  if (!result) result = &unused;
  *result = (elbo_convert_result){0};
  TRY(convert_check_config(ctx, config));
  if (!in || !in[0] || !out || !out[0]) return fail(ctx, ELBO_ERROR_ARGUMENT, "elbo_convert: no path was given");
  bool to_file = ends_in(out, ".safetensors");
  if (directory_exists(in) && run_is_run(in)) {
    TRY(run_find_checkpoint(ctx, in, -1, path, sizeof path, NULL));
    in = path;
  }
  if (to_file && pipeline_index_is_there(in))
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "%s: has several components, which do not go into one file; expected a directory to write, or one "
                "component to read (%s/unet)",
                in, in);
  if (to_file) return convert_file(ctx, in, out, config, result);
  if (directory_exists(in)) {
    if (config->key || config->names != ELBO_NAMES_AS_THEY_ARE)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: a key and a change of names are for files; this is a directory", in);
    return convert_directory(ctx, in, out, config, result);
  }
  char target[PATH_MAX];
  TRY(directory_check_free(ctx, out));
  TRY(path_join(ctx, target, sizeof target, out, WEIGHTS_NAME));
  if (!file_exists(in)) return fail_errno(ctx, in, "cannot open");
  TRY(directory_make(ctx, out));
  return convert_file(ctx, in, target, config, result);
}
