// elbo edit
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/edit.h>

#include "cli/cli.h"

typedef struct edit_output {
  elbo_ctx *ctx;
  const elbo_model_info *info;
  const char *out; // NULL: figures alone
  const array_options *arrays;
  bool json, head;
  int64_t shown; // pictures
  int pairs;
  elbo_edit_measure all; // sums over the pairs so far, of each weighted by its examples
  elbo_status status;
} edit_output;

static void print_row(edit_output *o, const elbo_edit_measure *m, bool more) {
  if (o->json) {
    printf("%s{\"attribute\": ", more ? ", " : "");
    print_json_text(stdout, m->attribute);
    printf(", \"from\": ");
    print_json_text(stdout, m->from);
    printf(", \"to\": ");
    print_json_text(stdout, m->to);
    printf(", \"n\": %lld, \"step\": ", (long long)m->n);
    print_json_number(stdout, m->step);
    printf(", \"classifier_accuracy\": ");
    print_json_number(stdout, m->accuracy);
    printf(", \"obeyed\": ");
    print_json_number(stdout, m->obeyed);
    printf(", \"unchanged\": {");
    for (int i = 0; i < m->others; i++) {
      printf("%s", i ? ", " : "");
      print_json_text(stdout, m->other[i]);
      printf(": ");
      print_json_number(stdout, m->unchanged[i]);
    }
    printf("}}");
    return;
  }
  if (!o->head) {
    printf("%-14s %-14s %6s %6s %9s %8s", m->attribute, "to", "n", "step", "separable", "obeyed");
    for (int i = 0; i < m->others; i++) printf(" %9s", m->other[i]);
    printf("%s\n", m->others ? "  (unchanged)" : "");
    o->head = true;
  }
  printf("%-14s %-14s %6lld %6.3g %8.1f%%", m->from, m->to, (long long)m->n, m->step, 100 * m->accuracy);
  if (isnan(m->obeyed))
    printf(" %8s", "-");
  else
    printf(" %7.1f%%", 100 * m->obeyed);
  for (int i = 0; i < m->others; i++) printf(" %8.1f%%", 100 * m->unchanged[i]);
  printf("\n");
}

// Rows of originals above rows of what became of them.
static elbo_status write_pairs(edit_output *o, const elbo_array *before, const elbo_array *after) {
  const int64_t n = before->dim[0] < o->shown ? before->dim[0] : o->shown, columns = n < 16 ? n : 16, rows = (n + columns - 1) / columns;
  const int64_t size = before->dim[1] * before->dim[2] * before->dim[3];
  elbo_array *all = NULL;
  if (!is_picture_name(o->out)) return write_images(o->ctx, after, o->info->low, o->info->high, 0, o->arrays, o->out);
  elbo_status status =
      elbo_array_create(o->ctx, ELBO_F32, 4, (int64_t[]){2 * rows * columns, before->dim[1], before->dim[2], before->dim[3]}, &all);
  if (status != ELBO_OK) return status;
  float *to = all->data;
  for (int64_t i = 0; i < 2 * rows * columns * size; i++) to[i] = (float)o->info->low;
  for (int64_t i = 0; i < n; i++) {
    int64_t place = i / columns * 2 * columns + i % columns;
    memcpy(to + place * size, (const float *)before->data + i * size, (size_t)size * sizeof *to);
    memcpy(to + (place + columns) * size, (const float *)after->data + i * size, (size_t)size * sizeof *to);
  }
  status = write_images(o->ctx, all, o->info->low, o->info->high, (int)columns, o->arrays, o->out);
  elbo_array_destroy(&all);
  return status;
}

static void add_pair(edit_output *o, const elbo_edit_measure *m) {
  elbo_edit_measure *all = &o->all;
  const double n = (double)m->n;
  if (!o->pairs++) {
    *all = *m;
    snprintf(all->from, sizeof all->from, "all pairs");
    all->to[0] = 0, all->n = 0, all->accuracy = all->obeyed = 0;
    for (int i = 0; i < m->others; i++) all->unchanged[i] = 0;
  }
  all->n += m->n, all->accuracy += n * m->accuracy, all->obeyed += n * m->obeyed;
  for (int i = 0; i < m->others; i++) all->unchanged[i] += n * m->unchanged[i];
}

// What all pairs come to, where all were gone through.
static void print_all(edit_output *o, bool complete) {
  elbo_edit_measure m = o->all;
  const double n = (double)m.n;
  if (o->json) printf("]");
  if (complete && o->pairs > 1) {
    m.accuracy /= n, m.obeyed /= n;
    for (int i = 0; i < m.others; i++) m.unchanged[i] /= n;
    if (o->json) printf(", \"all\": ");
    print_row(o, &m, false);
  }
  if (o->json) printf("}\n");
}

static int take_pair(void *user, const elbo_edit_measure *m, const elbo_array *before, const elbo_array *after) {
  edit_output *o = user;
  clear_progress();
  print_row(o, m, o->pairs > 0);
  add_pair(o, m);
  if (o->out) o->status = write_pairs(o, before, after);
  return o->status == ELBO_OK;
}

static int run(const command *self, int argc, char **argv) {
  common_options common = {0};
  model_options which = {0};
  array_options arrays = {0};
  elbo_edit_config config;
  elbo_edit_defaults(&config);
  const char *path = NULL, *out = NULL;
  int split = -1;
  int64_t shown = 32;
  text_list positional, keys;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &path, 0, 0, "PATH", "what directions are learned on, and examples (default: the run's own data)"},
      {"attribute", 'a', OPTION_TEXT, &config.attribute, 0, 0, "NAME", "class; of shapes figure, colour, ground, size, position"},
      {"from", 0, OPTION_TEXT, &config.from, 0, 0, "VALUE", "examples that have it are edited (default: every pair of values in turn)"},
      {"to", 0, OPTION_TEXT, &config.to, 0, 0, "VALUE", "what they are to become"},
      {"step", 0, OPTION_FLOAT, &config.step, 1e-3, 100, "S",
       "how far, in distances between the two values' mean codes (default: chosen on training examples; of classes 1)"},
      {"ridge", 0, OPTION_FLOAT, &config.ridge, 0, 1e6, "R", "penalty of the linear classifier (default: 0.1)"},
      {"number", 'n', OPTION_INT, &config.n, 1, 1e9, "N", "examples that are looked at (default: 1000)"},
      {"training", 0, OPTION_INT, &config.training, 4, 1e9, "N", "training examples that directions are learned on (default: 5000)"},
      {"split", 0, OPTION_CHOICE, &split, 0, 0, SPLIT_NAMES, "which part examples are of (default: test where there is one)"},
      {"show", 0, OPTION_INT, &shown, 1, 10000, "N", "of them in the picture (default: 32)"},
      {"out", 'o', OPTION_TEXT, &out, 0, 0, "PATH", "originals above what became of them, in a picture; x.npy or a directory: the latter"},
      ARRAY_OPTIONS(arrays),
      MODEL_OPTIONS(which),
      COMMON_OPTIONS(common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &common);
  if (status != ARGS_GO) return status;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory", &keys);
  if (status != ARGS_GO) return status;
  take_sampler_keys(&keys, &which);
  if (!config.attribute) return usage_error(self, "--attribute is missing: what should be edited?");
  if (!config.from != !config.to) return usage_error(self, "--from and --to go together");
  if (out && !config.from) return usage_error(self, "--out needs --from and --to: pictures of one pair of values");
  status = out ? check_output(self, out, false) : ARGS_GO;
  if (status != ARGS_GO) return status;
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &common, &which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_dataset *data = NULL;
  elbo_status made = open_data(ctx, positional.at[0], path, &keys, arrays.layout, &data);
  if (made == ELBO_OK) {
    elbo_dataset_info about;
    elbo_dataset_get_info(data, &about);
    if (split < 0) split = about.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : ELBO_SPLIT_VALID;
    config.split = (elbo_split)split, config.seed = common.seed, config.progress = show_progress;
    edit_output o = {.ctx = ctx, .info = &info, .out = out, .arrays = &arrays, .json = common.json, .shown = shown};
    catch_interruption();
    if (common.json) printf("{\"edits\": [");
    made = elbo_edit(model, data, &config, take_pair, &o);
    clear_progress();
    if (made == ELBO_OK) made = o.status;
    print_all(&o, made == ELBO_OK);
  }
  elbo_dataset_destroy(&data);
  return close_model(&ctx, &model, made);
}

const command command_edit = {
    "edit",
    "RUN --data PATH --attribute NAME [--from A --to B --out edited.png] [key=value ...]",
    "change one attribute of pictures through their codes",
    "A linear classifier between the codes of training examples with two values of an attribute gives a direction; codes of "
    "other examples are moved along it and decoded, with a diffusion decoder from the noise that each picture had. What "
    "the pictures then show is read by a program where there is one (the built-in shapes).",
    "elbo edit run --data shapes:size=32 --attribute colour --from red --to blue --out edited.png",
    run};
