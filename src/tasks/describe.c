// elbo_describe: what a file or directory is, found by its content and not by its name.
#include <elbo/image.h>
#include <elbo/model.h>
#include <elbo/recipe.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/ctx.h"
#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/pickle.h"
#include "models/autoencoder.h"
#include "models/diffusion_decoder.h"
#include "models/pipeline_index.h"
#include "models/weights.h"
#include "tasks/describe.h"
#include "train/run.h"

static json_t *dims_json(int rank, const int64_t *dim) {
  json_t *list = json_array();
  for (int i = 0; i < rank; i++) json_array_append_new(list, json_integer(dim[i]));
  return list;
}

enum { CONFIG_LIMIT = 1 << 20 }; // bytes of a config.json

static void set(json_t *object, const char *key, json_t *value) { json_object_set_new(object, key, value); }

// How many tensors there are of each type.
static json_t *dtypes_json(const weights *w) {
  json_t *out = json_object();
  for (int dtype = 0; dtype < ELBO_DTYPE_COUNT; dtype++) {
    int64_t n = 0;
    for (int64_t i = 0; i < weights_count(w); i++) n += weights_at(w, i)->dtype == (elbo_dtype)dtype;
    if (n) set(out, elbo_dtype_name((elbo_dtype)dtype), json_integer(n));
  }
  return out;
}

// safetensors, torch.save's files, and shards of either by their index.
static elbo_status describe_weights(elbo_ctx *ctx, const char *path, json_t *out) {
  weights *w = NULL;
  TRY(weights_open_whole(ctx, path, &w));
  int64_t numbers = 0, bytes = 0;
  json_t *list = json_array();
  for (int64_t i = 0; i < weights_count(w); i++) {
    const tensor_view *view = weights_at(w, i);
    numbers += (int64_t)(view->bytes / elbo_dtype_size(view->dtype)), bytes += (int64_t)view->bytes;
    json_t *row = json_object();
    set(row, "name", json_string(view->name));
    set(row, "dtype", json_string(elbo_dtype_name(view->dtype)));
    set(row, "shape", dims_json(view->rank, view->dim));
    json_array_append_new(list, row);
  }
  set(out, "type", json_string(weights_format(w)));
  set(out, "tensor_count", json_integer(weights_count(w)));
  set(out, "numbers", json_integer(numbers));
  set(out, "bytes", json_integer(bytes));
  set(out, "dtypes", dtypes_json(w));
  set(out, "tensors", list);
  weights_close(&w);
  return ELBO_OK;
}

static elbo_status describe_array(elbo_ctx *ctx, const char *path, const char *type, json_t *out) {
  elbo_array *array = NULL;
  TRY(!strcmp(type, "npy") ? elbo_npy_read(ctx, path, &array) : elbo_image_read(ctx, path, &array));
  set(out, "type", json_string(type));
  set(out, "dtype", json_string(elbo_dtype_name(array->dtype)));
  set(out, "shape", dims_json(array->rank, array->dim));
  if (!strcmp(type, "npy") && elbo_array_count(array) > 0) {
    elbo_array *numbers = NULL;
    elbo_status status = elbo_array_convert(ctx, array, ELBO_F64, &numbers);
    if (status != ELBO_OK) {
      elbo_array_destroy(&array);
      return status;
    }
    const double *x = numbers->data;
    int64_t n = elbo_array_count(numbers), bad = 0;
    double low = INFINITY, high = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
      if (!isfinite(x[i])) {
        bad++;
        continue;
      }
      low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high, sum += x[i];
    }
    set(out, "min", json_number(low));
    set(out, "max", json_number(high));
    set(out, "mean", json_number(n > bad ? sum / (double)(n - bad) : 0));
    set(out, "not_finite", json_integer(bad));
    elbo_array_destroy(&numbers);
  }
  elbo_array_destroy(&array);
  return ELBO_OK;
}

static elbo_status describe_dataset(elbo_ctx *ctx, const char *path, json_t *out) {
  elbo_dataset *data = NULL;
  TRY(elbo_dataset_open(ctx, path, 0, NULL, &data));
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  set(out, "type", json_string("data"));
  set(out, "format", json_string(info.format));
  set(out, "train", json_integer(info.count[ELBO_SPLIT_TRAIN]));
  set(out, "valid", json_integer(info.count[ELBO_SPLIT_VALID]));
  set(out, "test", json_integer(info.count[ELBO_SPLIT_TEST]));
  set(out, "shape", dims_json(3, (int64_t[]){info.height, info.width, info.channels}));
  set(out, "bits", json_integer(info.bits));
  set(out, "classes", json_integer(info.classes));
  if (info.condition_tokens) set(out, "condition_tokens", json_integer(info.condition_tokens));
  if (info.condition_dim) set(out, "condition_dim", json_integer(info.condition_dim));
  if (info.class_names) {
    json_t *names = json_array();
    for (int i = 0; i < info.classes; i++) json_array_append_new(names, json_string(info.class_names[i] ? info.class_names[i] : ""));
    set(out, "class_names", names);
  }
  set(out, "captions", json_boolean(info.captions));
  if (info.decoder && info.decoder[0]) set(out, "decoder", json_string(info.decoder));
  elbo_dataset_destroy(&data);
  return ELBO_OK;
}

// Every component of a model directory that holds weights, by its subdirectory.
static elbo_status list_components(elbo_ctx *ctx, const char *path, json_t *out) {
  DIR *directory = opendir(path);
  if (!directory) return fail_errno(ctx, path, "cannot list");
  json_t *list = json_array();
  elbo_status status = ELBO_OK;
  for (struct dirent *entry; status == ELBO_OK && (entry = readdir(directory));) {
    char folder[4096], file[4096];
    if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "training")) continue;
    status = path_join(ctx, folder, sizeof folder, path, entry->d_name);
    if (status != ELBO_OK || !directory_exists(folder)) continue;
    bool found = false;
    status = weights_locate(ctx, folder, file, sizeof file, &found);
    if (status != ELBO_OK || !found) continue;
    json_t *part = json_object();
    status = describe_weights(ctx, file, part);
    json_t *row = json_object();
    set(row, "name", json_string(entry->d_name));
    set(row, "tensors", json_incref(json_object_get(part, "tensor_count")));
    set(row, "numbers", json_incref(json_object_get(part, "numbers")));
    json_array_append_new(list, row);
    json_decref(part);
  }
  closedir(directory);
  set(out, "components", list);
  return status;
}

static json_t *choice_json(const char *names, int value) {
  char name[64];
  const char *text = config_enum_name(names, value, name, sizeof name);
  return json_string(text ? text : "unknown");
}

static void describe_diffusion(const diffusion_model *d, json_t *out) {
  const diffusion_config *m = &d->spec.model;
  set(out, "network", json_string(denoiser_class_name(&m->denoiser)));
  set(out, "process", choice_json(process_table.fields[0].names, m->process.type));
  if (process_steps(d->process)) set(out, "process_steps", json_integer(process_steps(d->process)));
  double high = process_at(d->process, 0).logsnr, low = process_at(d->process, 1).logsnr;
  if (isfinite(high) && isfinite(low)) {
    json_t *ends = json_array();
    json_array_append_new(ends, json_real(low)), json_array_append_new(ends, json_real(high));
    set(out, "logsnr", ends);
  }
  set(out, "prediction", choice_json(PREDICTION_NAMES, m->prediction));
  set(out, "variance", choice_json(REVERSE_VARIANCE_NAMES, m->variance));
  set(out, "condition", choice_json(DIFFUSION_CONDITION_FILE_NAMES, m->condition.type));
  if (d->has_scheduler)
    set(out, "scheduler", json_string(scheduler_class_name(d->scheduler.class_)));
  else
    set(out, "sampler", choice_json(SAMPLER_NAMES, d->spec.sample.solver.sampler));
}

static elbo_status describe_model(elbo_ctx *ctx, const char *path, json_t *out) {
  char checkpoint[4096];
  bool run = run_is_run(path);
  set(out, "type", json_string(run ? "run" : "model"));
  if (run) {
    int64_t step = -1;
    elbo_status status = run_find_checkpoint(ctx, path, -1, checkpoint, sizeof checkpoint, &step);
    if (status != ELBO_OK) { // a run that was stopped before its first checkpoint
      set(out, "checkpoint", json_null());
      return ELBO_OK;
    }
    set(out, "checkpoint", json_string(checkpoint));
    path = checkpoint;
  }
  elbo_model *model = NULL;
  if (elbo_model_load(ctx, path, NULL, &model) != ELBO_OK) {
    set(out, "note", json_string(elbo_ctx_message(ctx)));
    pipeline_index *index = NULL;
    if (pipeline_index_open(ctx, path, &index) == ELBO_OK)
      set(out, "class", json_string(index->class_name));
    else
      set(out, "note", json_string(elbo_ctx_message(ctx)));
    pipeline_index_close(&index);
    return list_components(ctx, path, out);
  }
  elbo_model_info info;
  elbo_model_get_info(model, &info);
  set(out, "preset", json_string(info.preset));
  set(out, "weights", json_string(info.weights));
  double decay[MOST_AVERAGES];
  int averages;
  if (run_list_averages(ctx, path, decay, &averages) == ELBO_OK && averages >= 0) {
    json_t *list = json_array();
    for (int i = 0; i < averages; i++) json_array_append_new(list, json_real(decay[i]));
    set(out, "ema", list);
  }
  if (info.step >= 0) set(out, "step", json_integer(info.step));
  set(out, "params", json_integer(info.params));
  set(out, "shape", dims_json(3, (int64_t[]){info.height, info.width, info.channels}));
  json_t *range = json_array();
  json_array_append_new(range, json_real(info.low));
  json_array_append_new(range, json_real(info.high));
  if (info.bits)
    set(out, "value_range", range); // of x in .npy files
  else
    json_decref(range), set(out, "value_range", json_string("as in the data")); // floats are taken as they are
  set(out, "likelihood", json_string(info.likelihood));
  if (model->diffusion) describe_diffusion(model->diffusion, out);
  if (model->decoder || !model->diffusion) {
    if (model->prior) describe_diffusion(model->prior->diffusion, out);
    set(out, "latent_dim", json_integer(info.latent_dim));
    set(out, "latent_groups", json_integer(info.latent_groups));
  }
  if (model->decoder) {
    const decoder_model *d = model->decoder;
    const char *codes = d->prior                   ? "a diffusion over the codes"
                        : model->fitted.components ? "a mixture fitted to the codes"
                        : d->vae                   ? "the VAE's prior"
                        : d->spec.code.kl > 0      ? "N(0, I)"
                                                   : "not known";
    set(out, "codes_from", json_string(codes));
  }
  set(out, "classes", json_integer(info.classes));
  if (info.condition_tokens) set(out, "condition_tokens", json_integer(info.condition_tokens));
  if (info.condition_dim) set(out, "condition_dim", json_integer(info.condition_dim));
  elbo_model_destroy(&model);
  return list_components(ctx, path, out);
}

// What an autoencoder makes of pictures.
static elbo_status describe_autoencoder(elbo_ctx *ctx, const char *config_path, json_t *out) {
  codec_config c;
  arena *a = arena_create(1 << 12);
  if (!a) return fail_memory(ctx, 1 << 12, "an autoencoder");
  elbo_status status = codec_read(ctx, a, config_path, &c);
  if (status == ELBO_OK) {
    codec_shape s = codec_config_shape(&c);
    set(out, "preset", json_string("autoencoder"));
    if (s.height) {
      set(out, "shape", dims_json(3, (int64_t[]){s.height, s.width, s.in_channels}));
      set(out, "codes", dims_json(3, (int64_t[]){codec_code_size(&c, s.height), codec_code_size(&c, s.width), s.code_channels}));
    } else {
      set(out, "channels", json_integer(s.in_channels));
      set(out, "code_channels", json_integer(s.code_channels));
    }
    set(out, "scale", json_integer(s.up));
  }
  arena_destroy(&a);
  return status;
}

// One network of a model directory: its class and its tensors.
static elbo_status describe_network(elbo_ctx *ctx, const char *path, const char *config_path, json_t *out) {
  json_t *config = NULL;
  char file[4096];
  bool found;
  TRY(json_read(ctx, config_path, CONFIG_LIMIT, &config));
  const char *class_name = json_string_value(json_object_get(config, "_class_name"));
  set(out, "class", json_string(class_name ? class_name : "unknown"));
  if (class_name && model_kind_of_class(class_name) == &model_kind_autoencoder) TRY(describe_autoencoder(ctx, config_path, out));
  json_decref(config);
  TRY(weights_locate(ctx, path, file, sizeof file, &found));
  if (found) TRY(describe_weights(ctx, file, out));
  set(out, "type", json_string("network"));
  return ELBO_OK;
}

static elbo_status describe_recipe(elbo_ctx *ctx, const char *path, json_t *out) {
  elbo_recipe *recipe = NULL;
  TRY(elbo_recipe_load(ctx, path, 0, NULL, &recipe));
  char *text = NULL;
  elbo_status status = elbo_recipe_text(recipe, &text);
  if (status == ELBO_OK) {
    set(out, "type", json_string("recipe"));
    set(out, "resolved", json_string(text));
  }
  free(text);
  elbo_recipe_destroy(&recipe);
  return status;
}

static bool has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), m = strlen(ending);
  return n >= m && !strcmp(path + n - m, ending);
}

// By the name, but for .bin, which pictures have as well.
static bool is_weights_file(const char *path, const unsigned char *head, size_t got) {
  static const char *const endings[] = {".safetensors", ".pth", ".pt", ".ckpt", ".pkl"};
  for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
    if (has_ending(path, endings[i])) return true;
  if (has_ending(path, ".json") && strstr(path, ".index.")) return true;
  if (pickle_looks_like(head, got) && !has_ending(path, ".npz")) return true;
  // safetensors without its name: a plausible header length, then an opening brace
  return got >= 9 && head[8] == '{' && !head[4] && !head[5] && !head[6] && !head[7];
}

static elbo_status describe_file(elbo_ctx *ctx, const char *path, json_t *out) {
  unsigned char head[16] = {0};
  FILE *file = fopen(path, "rb");
  if (!file) return fail_errno(ctx, path, "cannot open");
  size_t got = fread(head, 1, sizeof head, file);
  fclose(file);
  if (is_weights_file(path, head, got)) return describe_weights(ctx, path, out);
  if (has_ending(path, ".yaml") || has_ending(path, ".yml")) return describe_recipe(ctx, path, out);
  if (got >= 6 && !memcmp(head, "\x93NUMPY", 6)) return describe_array(ctx, path, "npy", out);
  if (got >= 8 && (!memcmp(head, "\x89PNG", 4) || !memcmp(head, "\xff\xd8\xff", 3) || !memcmp(head + 8, "WEBP", 4)))
    return describe_array(ctx, path, "picture", out);
  return describe_dataset(ctx, path, out);
}

elbo_status elbo_describe(elbo_ctx *ctx, const char *path, int json, char **out) {
  *out = NULL;
  if (!path || !path[0]) return fail(ctx, ELBO_ERROR_ARGUMENT, "no path was given");
  char index[4096], config[4096];
  TRY(path_join(ctx, index, sizeof index, path, "model_index.json"));
  TRY(path_join(ctx, config, sizeof config, path, "config.json"));
  json_t *object = json_object();
  elbo_status status;
  set(object, "path", json_string(path));
  struct stat entry;
  if (stat(path, &entry) == 0 && !S_ISDIR(entry.st_mode))
    status = describe_file(ctx, path, object);
  else if (file_exists(index) || run_is_run(path))
    status = describe_model(ctx, path, object);
  else if (file_exists(config))
    status = describe_network(ctx, path, config, object);
  else
    status = describe_dataset(ctx, path, object);
  if (status == ELBO_OK) status = json_describe(ctx, object, json, out);
  json_decref(object);
  return status;
}
