// Arrays in: examples for a model out of a .npy file, a data set or a picture, in the model's own value range.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "cli/cli.h"

static bool is_npy(const char *path) {
  size_t n = strlen(path);
  return n > 4 && !strcmp(path + n - 4, ".npy");
}

static elbo_status refuse(const char *path, int64_t h, int64_t w, int64_t c, const elbo_model_info *info) {
  bool turned = h == info->channels && w == info->height && c == info->width;
  if (info->any_size)
    say("%s: examples have %lld channels; the model's have %d%s", path, (long long)c, info->channels,
        h == info->channels ? "; for channels first, --layout nchw" : "");
  else
    say("%s: examples are %lld x %lld x %lld; the model's are %d x %d x %d (height, width, channels)%s", path, (long long)h, (long long)w,
        (long long)c, info->height, info->width, info->channels, turned ? "; for channels first, --layout nchw" : "");
  return ELBO_ERROR_STOPPED;
}

static bool fits(const elbo_model_info *info, int64_t h, int64_t w, int64_t c) {
  return c == info->channels && (info->any_size || (h == info->height && w == info->width));
}

static void to_range(elbo_array *x, double scale, const elbo_model_info *info) { // 0..scale to low..high
  float *values = x->data;
  double factor = (info->high - info->low) / scale;
  for (int64_t i = 0, n = elbo_array_count(x); i < n; i++) values[i] = (float)(info->low + values[i] * factor);
}

// (N,H,W,C) of what a .npy may hold: (N,D), (N,H,W), (N,H,W,C), or (N,C,H,W) when the layout says so. 8-bit counts as 0..255.
static elbo_status read_npy(elbo_ctx *ctx, const elbo_model_info *info, const input_options *in, elbo_array **out) {
  elbo_array *raw = NULL, *turned = NULL;
  elbo_status status = elbo_npy_read(ctx, in->data, &raw);
  if (status != ELBO_OK) return status;
  if (in->layout && raw->rank == 4) {
    status = elbo_array_to_nhwc(ctx, raw, &turned);
    elbo_array_destroy(&raw);
    if (status != ELBO_OK) return status;
    raw = turned;
  }
  bool bytes = raw->dtype == ELBO_U8;
  if (raw->rank == 2)
    raw->rank = 4, raw->dim[3] = raw->dim[1], raw->dim[1] = raw->dim[2] = 1;
  else if (raw->rank == 3)
    raw->rank = 4, raw->dim[3] = 1;
  int64_t size = (int64_t)info->height * info->width * info->channels;
  if (raw->rank == 4 && size && raw->dim[1] == 1 && raw->dim[2] == 1 && raw->dim[3] == size) // flat rows of the model's size
    raw->dim[1] = info->height, raw->dim[2] = info->width, raw->dim[3] = info->channels;
  if (raw->rank != 4) {
    say("%s: an array of %d axes; expected examples x height x width x channels", in->data, raw->rank);
    status = ELBO_ERROR_STOPPED;
  } else if (!fits(info, raw->dim[1], raw->dim[2], raw->dim[3])) {
    status = refuse(in->data, raw->dim[1], raw->dim[2], raw->dim[3], info);
  } else if (raw->dim[0] == 0) {
    say("%s: holds no examples", in->data);
    status = ELBO_ERROR_STOPPED;
  } else {
    if (in->n > 0 && raw->dim[0] > in->n) raw->dim[0] = in->n;
    status = elbo_array_convert(ctx, raw, ELBO_F32, out);
    if (status == ELBO_OK && bytes) to_range(*out, 255, info);
  }
  elbo_array_destroy(&raw);
  return status;
}

elbo_status read_vectors(elbo_ctx *ctx, const char *path, elbo_array **out) {
  elbo_array *raw = NULL;
  elbo_status status = elbo_npy_read(ctx, path, &raw);
  *out = NULL;
  if (status == ELBO_OK && (raw->rank < 1 || raw->rank > 2 || raw->dim[0] < 1)) {
    say("%s: expected one vector, or an array (vectors, numbers)", path);
    status = ELBO_ERROR_STOPPED;
  }
  if (status == ELBO_OK) status = elbo_array_convert(ctx, raw, ELBO_F32, out);
  if (status == ELBO_OK && raw->rank == 1) (*out)->rank = 2, (*out)->dim[1] = raw->dim[0], (*out)->dim[0] = 1;
  elbo_array_destroy(&raw);
  return status;
}

static elbo_status vector_for_each(elbo_ctx *ctx, const char *path, int64_t n, elbo_array **out) {
  elbo_array *rows = NULL;
  elbo_status status = read_vectors(ctx, path, &rows);
  if (status == ELBO_OK && rows->dim[0] != n && rows->dim[0] != 1) {
    say("%s: %lld vectors; expected one for each of the %lld examples, or one for all", path, (long long)rows->dim[0], (long long)n);
    status = ELBO_ERROR_STOPPED;
  }
  if (status == ELBO_OK) status = elbo_array_create(ctx, ELBO_F32, 2, (int64_t[]){n, rows->dim[1]}, out);
  size_t row = status == ELBO_OK ? (size_t)rows->dim[1] * sizeof(float) : 0;
  for (int64_t i = 0; status == ELBO_OK && i < n; i++)
    memcpy((char *)(*out)->data + (size_t)i * row, (const char *)rows->data + (size_t)(i % rows->dim[0]) * row, row);
  elbo_array_destroy(&rows);
  return status;
}

static elbo_status class_for_each(elbo_ctx *ctx, const char *path, int64_t n, elbo_array **out) {
  elbo_array *raw = NULL, *numbers = NULL;
  elbo_status status = elbo_npy_read(ctx, path, &raw);
  if (status == ELBO_OK && (raw->rank != 1 || raw->dim[0] != n)) {
    say("%s: expected one class for each of the %lld examples", path, (long long)n);
    status = ELBO_ERROR_STOPPED;
  }
  if (status == ELBO_OK) status = elbo_array_convert(ctx, raw, ELBO_F64, &numbers);
  for (int64_t i = 0; status == ELBO_OK && i < n; i++) {
    double number = ((const double *)numbers->data)[i];
    if (number == floor(number)) continue;
    say("%s: example %lld has %g for a class; whole numbers were expected", path, (long long)i, number);
    status = ELBO_ERROR_STOPPED;
  }
  if (status == ELBO_OK) status = elbo_array_convert(ctx, raw, ELBO_I32, out);
  elbo_array_destroy(&raw), elbo_array_destroy(&numbers);
  return status;
}

static bool is_told(const told_options *told) { return told->condition || told->labels || told->label >= 0; }

elbo_status read_told(elbo_ctx *ctx, const told_options *told, const elbo_model_info *info, int64_t n, elbo_array **out) {
  *out = NULL;
  if ((told->condition != NULL) + (told->labels != NULL) + (told->label >= 0) > 1) {
    say("--class, --labels and --condition: one of them was expected");
    return ELBO_ERROR_STOPPED;
  }
  if (is_told(told) && !info->classes && !info->condition_dim) {
    say("--%s: this model takes no condition", told->condition ? "condition" : told->labels ? "labels" : "class");
    return ELBO_ERROR_STOPPED;
  }
  if (told->condition) return vector_for_each(ctx, told->condition, n, out);
  if (told->labels) return class_for_each(ctx, told->labels, n, out);
  if (told->label < 0) return ELBO_OK;
  elbo_status status = elbo_array_create(ctx, ELBO_I32, 1, &n, out);
  for (int64_t i = 0; status == ELBO_OK && i < n; i++) ((int32_t *)(*out)->data)[i] = (int32_t)told->label;
  return status;
}

elbo_status open_data(elbo_ctx *ctx, const char *model_path, const char *path, const text_list *options, int layout, elbo_dataset **out) {
  const char *stripped[256];
  int n = 0;
  if (layout) stripped[n++] = "layout=nchw";
  for (int i = 0; options && i < options->count && n < COUNT(stripped); i++) // data.holdout=100 and holdout=100 are the same here
    stripped[n++] = strncmp(options->at[i], "data.", 5) ? options->at[i] : options->at[i] + 5;
  if (model_path) return elbo_model_open_data(ctx, model_path, path, n, stripped, out);
  return elbo_dataset_open(ctx, path, n, stripped, out);
}

elbo_status read_images(elbo_ctx *ctx, const char *model_path, const elbo_model_info *info, const input_options *in, elbo_array **x,
                        elbo_array **label) {
  if (in->data && is_npy(in->data)) {
    elbo_status read = read_npy(ctx, info, in, x);
    return read == ELBO_OK ? read_told(ctx, &in->told, info, (*x)->dim[0], label) : read;
  }
  elbo_dataset *data = NULL;
  elbo_status status = open_data(ctx, model_path, in->data, &in->options, in->layout, &data);
  if (status != ELBO_OK) return status;
  elbo_dataset_info about;
  elbo_dataset_get_info(data, &about);
  int split = in->split;
  if (split < 0)
    split = about.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : about.count[ELBO_SPLIT_VALID] ? ELBO_SPLIT_VALID : ELBO_SPLIT_TRAIN;
  static const char *const names[] = {"train", "valid", "test"};
  const char *shown = in->data ? in->data : "the run's data";
  if (!fits(info, about.height, about.width, about.channels)) {
    status = refuse(shown, about.height, about.width, about.channels, info);
  } else if (about.count[split] == 0) {
    say("%s: there is nothing in the %s split", shown, names[split]);
    status = ELBO_ERROR_STOPPED;
  } else {
    int64_t n = in->n > 0 && in->n < about.count[split] ? in->n : about.count[split];
    bool own = !is_told(&in->told); // conditions are the data's
    status = elbo_dataset_read(data, (elbo_split)split, 0, n, in->shuffle, in->seed, x, own && info->classes ? label : NULL);
    if (status == ELBO_OK && !own)
      status = read_told(ctx, &in->told, info, n, label);
    else if (status == ELBO_OK && info->condition_dim)
      status = elbo_dataset_read_condition(data, (elbo_split)split, 0, n, in->shuffle, in->seed, label);
    if (status == ELBO_OK && about.bits) to_range(*x, 1, info);
  }
  elbo_dataset_destroy(&data);
  return status;
}

elbo_status read_picture(elbo_ctx *ctx, const char *path, const elbo_model_info *info, elbo_array **out) {
  elbo_array *raw = NULL;
  elbo_status status = elbo_image_read(ctx, path, &raw);
  if (status != ELBO_OK) return status;
  double scale = raw->dtype == ELBO_U16 ? 65535 : 255;
  if (!fits(info, raw->dim[0], raw->dim[1], raw->dim[2]))
    status = refuse(path, raw->dim[0], raw->dim[1], raw->dim[2], info);
  else
    status = elbo_array_convert(ctx, raw, ELBO_F32, out);
  elbo_array_destroy(&raw);
  if (status != ELBO_OK) return status;
  to_range(*out, scale, info);
  (*out)->rank = 4;
  for (int i = 3; i > 0; i--) (*out)->dim[i] = (*out)->dim[i - 1];
  (*out)->dim[0] = 1;
  return ELBO_OK;
}
