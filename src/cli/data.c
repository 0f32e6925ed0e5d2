// elbo data
#include <stdlib.h>
#include <string.h>

#include <elbo/image.h>

#include "cli/cli.h"

typedef struct data_options {
  common_options common;
  array_options arrays;
  const char *out;
  int64_t n, label;
  int split, hash;
} data_options;

static const char *const split_names[] = {"train", "valid", "test"};

static void print_info(const char *path, const elbo_dataset_info *info, bool json) {
  if (!json) {
    printf("%-12s %s\n%-12s %lld training, %lld held out, %lld test\n", "format", info->format, "examples",
           (long long)info->count[ELBO_SPLIT_TRAIN], (long long)info->count[ELBO_SPLIT_VALID], (long long)info->count[ELBO_SPLIT_TEST]);
    printf("%-12s %d x %d x %d (height, width, channels), %d bits\n", "shape", info->height, info->width, info->channels,
           info->bits ? info->bits : 32);
    if (info->classes) printf("%-12s %d", "classes", info->classes);
    for (int i = 0; info->class_names && i < info->classes && i < 20; i++) printf("%s%s", i ? " " : ": ", info->class_names[i]);
    printf("%s", info->classes ? "\n" : "");
    if (info->captions) printf("%-12s yes\n", "captions");
    if (info->condition_tokens)
      printf("%-12s sequences of %d embeddings of %d numbers\n", "conditions", info->condition_tokens, info->condition_dim);
    else if (info->condition_dim)
      printf("%-12s vectors of %d numbers\n", "conditions", info->condition_dim);
    if (info->skipped) printf("%-12s %lld unreadable\n", "skipped", (long long)info->skipped);
    if (info->decoder && info->decoder[0]) printf("%-12s %s\n", "decoder", info->decoder);
    return;
  }
  printf("{\"path\": ");
  print_json_text(stdout, path);
  printf(", \"format\": ");
  print_json_text(stdout, info->format);
  for (int s = 0; s < 3; s++) printf(", \"%s\": %lld", split_names[s], (long long)info->count[s]);
  printf(", \"shape\": [%d, %d, %d], \"bits\": %d, \"classes\": %d, \"captions\": %s, \"condition_dim\": %d, \"condition_tokens\": %d, "
         "\"skipped\": %lld, \"decoder\": ",
         info->height, info->width, info->channels, info->bits, info->classes, info->captions ? "true" : "false", info->condition_dim,
         info->condition_tokens, (long long)info->skipped);
  print_json_text(stdout, info->decoder ? info->decoder : "");
}

static elbo_status print_hashes(elbo_dataset *data, const elbo_dataset_info *info, bool json) {
  for (int s = 0; s < 3; s++) {
    char hash[65];
    if (!info->count[s]) continue;
    elbo_status status = elbo_dataset_hash(data, (elbo_split)s, hash);
    if (status != ELBO_OK) return status;
    if (json)
      printf(", \"%s_sha256\": \"%s\"", split_names[s], hash);
    else
      printf("%-12s %s (sha256 of the decoded %s pixels)\n", "hash", hash, split_names[s]);
  }
  return ELBO_OK;
}

// Keeps the first n examples of one class, in place.
static int64_t keep_class(elbo_array *x, const elbo_array *label, int64_t wanted, int64_t n) {
  int64_t size = elbo_array_count(x) / x->dim[0], kept = 0;
  float *values = x->data;
  for (int64_t i = 0; i < x->dim[0] && kept < n; i++) {
    if (((const int32_t *)label->data)[i] != wanted) continue;
    memmove(values + kept * size, values + i * size, (size_t)size * sizeof *values);
    kept++;
  }
  return kept;
}

// A single example is written as it is, so that it can be read back.
static elbo_status write_preview(elbo_ctx *ctx, const elbo_array *x, const data_options *o) {
  if (x->dim[0] > 1 || !is_picture_name(o->out)) return write_images(ctx, x, 0, 1, 0, &o->arrays, o->out);
  elbo_array one = {x->dtype, 3, {x->dim[1], x->dim[2], x->dim[3]}, x->data};
  return elbo_image_write(ctx, o->out, &one);
}

static elbo_status preview(elbo_ctx *ctx, elbo_dataset *data, const elbo_dataset_info *info, const char *path, const data_options *o) {
  elbo_array *x = NULL, *label = NULL;
  bool by_class = o->label >= 0;
  int split = o->split >= 0 ? o->split : ELBO_SPLIT_TRAIN;
  if (o->split < 0 && !info->count[split]) split = ELBO_SPLIT_TEST;
  if (!info->count[split]) return say("%s: there is nothing in the %s split", path, split_names[split]), ELBO_ERROR_STOPPED;
  if (by_class && o->label >= info->classes)
    return say("%s: --class %lld: there are %d classes", path, (long long)o->label, info->classes), ELBO_ERROR_STOPPED;
  int64_t want = by_class ? (o->n + 8) * info->classes * 4 : o->n; // enough to meet n of one class; the rest is dropped
  elbo_status status = elbo_dataset_read(data, (elbo_split)split, 0, want < info->count[split] ? want : info->count[split], 1,
                                         o->common.seed, &x, by_class ? &label : NULL);
  if (status == ELBO_OK && by_class) {
    x->dim[0] = label ? keep_class(x, label, o->label, o->n) : 0;
    if (!x->dim[0]) status = (say("%s: no example of class %lld was met", path, (long long)o->label), ELBO_ERROR_STOPPED);
  }
  if (status == ELBO_OK) status = write_preview(ctx, x, o);
  elbo_array_destroy(&x), elbo_array_destroy(&label);
  return status;
}

static int run(const command *self, int argc, char **argv) {
  data_options o = {.n = 64, .label = -1, .split = -1};
  text_list positional;
  const option options[] = {{"out", 'o', OPTION_TEXT, &o.out, 0, 0, "PATH", "a preview: grid.png, x.npy (values 0..1), or a directory"},
                            {"number", 'n', OPTION_INT, &o.n, 1, 1e9, "N", "examples in the preview (default: 64)"},
                            {"split", 0, OPTION_CHOICE, &o.split, 0, 0, SPLIT_NAMES, "which part the preview is from (default: train)"},
                            {"class", 0, OPTION_INT, &o.label, 0, 1e6, "C", "only examples of this class"},
                            {"hash", 0, OPTION_FLAG, &o.hash, 0, 0, NULL, "SHA-256 of the decoded pixels of every split"},
                            ARRAY_OPTIONS(o.arrays),
                            COMMON_OPTIONS(o.common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  text_list keys;
  status = one_and_keys(self, &positional, "a data set: a file, a folder or a built-in name", &keys);
  if (status != ARGS_GO) return status;
  status = o.out ? check_output(self, o.out, false) : ARGS_GO;
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_dataset *data = NULL;
  elbo_dataset_info info;
  status = open_context(&o.common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_status made = open_data(ctx, NULL, positional.at[0], &keys, o.arrays.layout, &data);
  if (made == ELBO_OK) {
    elbo_dataset_get_info(data, &info);
    if (o.out) made = preview(ctx, data, &info, positional.at[0], &o);
    if (made == ELBO_OK) print_info(positional.at[0], &info, o.common.json);
    if (made == ELBO_OK && o.hash) made = print_hashes(data, &info, o.common.json);
    if (made == ELBO_OK && o.common.json) printf("}\n");
  }
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  elbo_dataset_destroy(&data);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_data = {
    "data",
    "PATH [--out preview.png] [key=value ...]",
    "say what a data set holds, and show some of it",
    "PATH: IDX files, CIFAR-10 binaries, a folder of pictures, tar shards, .npy or .npz, or a built-in set: digits, shapes,\n"
    "rings, spirals. key=value are keys of a recipe's data section: holdout=5000.",
    "elbo data digits --out preview.png",
    run};
