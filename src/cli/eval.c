// elbo eval
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"

static void print_metrics(const elbo_eval_result *result) {
  for (int i = 0; i < elbo_eval_count(result); i++) {
    const elbo_metric *m = elbo_eval_metric(result, i);
    printf("%-24s %12.6g", m->name, m->value);
    if (isfinite(m->stderr_))
      printf(" +- %-10.3g", m->stderr_);
    else
      printf("    %-10s", "");
    printf(" %s", m->unit);
    if (m->k) printf(", k = %d", m->k);
    if (isfinite(m->mc_stderr)) printf(", +- %.3g over draws", m->mc_stderr);
    printf(", n = %lld%s%s\n", (long long)m->n, m->note[0] ? "; " : "", m->note);
  }
}

// The values of every image under the first metric that has them, float64 (n): the same data, limit and seed give the same images in the
// same order, so that two models can be compared image by image.
static elbo_status write_per_image(elbo_ctx *ctx, const elbo_eval_result *result, const char *out) {
  for (int i = 0; i < elbo_eval_count(result); i++) {
    int64_t n = 0;
    const double *values = elbo_eval_per_image(result, elbo_eval_metric(result, i)->name, &n);
    if (!values || n < 1) continue;
    elbo_array *array = NULL;
    elbo_status status = elbo_array_create(ctx, ELBO_F64, 1, &n, &array);
    if (status == ELBO_OK) memcpy(array->data, values, (size_t)n * sizeof *values);
    if (status == ELBO_OK) status = elbo_npy_write(ctx, out, array);
    elbo_array_destroy(&array);
    return status;
  }
  say("--per-image %s: none of these metrics has a value for every image", out);
  return ELBO_ERROR_STOPPED;
}

typedef struct eval_options {
  common_options common;
  model_options which;
  const char *data, *metrics, *per_image, *features, *judge;
  int split, layout, force, draw;
  int64_t samples, limit, n, steps, seeds;
  double tolerance, t_min;
  const char *sampler;
  const char *keys[66]; // of a recipe's `sample` section
  int n_keys;
  char text[2][320];
} eval_options;

// --sampler and --steps as keys of the section, and what stands among the other keys as "sample.KEY=VALUE", which are taken out of these.
static void take_sample_keys(eval_options *o, text_list *keys) {
  char count[24];
  snprintf(count, sizeof count, "%lld", (long long)o->steps);
  const char *const name[] = {"sampler", "steps"}, *const value[] = {o->sampler, o->steps ? count : NULL};
  for (int i = 0; i < 2; i++) {
    if (!value[i]) continue;
    snprintf(o->text[i], sizeof o->text[i], "%s=%s", name[i], value[i]);
    o->keys[o->n_keys++] = o->text[i];
  }
  int left = 0;
  for (int i = 0; i < keys->count; i++) {
    if (!strncmp(keys->at[i], "sample.", 7) && o->n_keys < COUNT(o->keys))
      o->keys[o->n_keys++] = keys->at[i] + 7;
    else
      keys->at[left++] = keys->at[i];
  }
  keys->count = left;
}

static elbo_eval_config config_of(const eval_options *o) {
  elbo_eval_config c;
  elbo_eval_defaults(&c);
  c.metrics = o->metrics, c.split = (elbo_split)o->split, c.limit = o->limit, c.seed = o->common.seed;
  if (o->samples) c.samples = (int)o->samples;
  c.tolerance = o->tolerance, c.t_min = o->t_min;
  c.seeds = (int)o->seeds, c.judge = o->judge;
  c.features = o->features, c.n = o->n, c.force = o->force, c.draw = o->draw;
  c.progress = show_progress, c.n_options = o->n_keys, c.options = o->keys;
  return c;
}

// Prints what was found, unless it was not.
static elbo_status show(elbo_ctx *ctx, const eval_options *o, elbo_eval_result *result, elbo_status made) {
  clear_progress();
  if (made == ELBO_OK && o->per_image) made = write_per_image(ctx, result, o->per_image);
  if (made == ELBO_OK && o->common.json)
    printf("%s\n", elbo_eval_json(result));
  else if (made == ELBO_OK)
    print_metrics(result);
  return made;
}

static int default_split(const elbo_dataset *data, int split) {
  elbo_dataset_info about;
  elbo_dataset_get_info(data, &about);
  return split >= 0 ? split : about.count[ELBO_SPLIT_TEST] ? ELBO_SPLIT_TEST : ELBO_SPLIT_VALID;
}

// A .npy, or with --features a folder that is neither a run nor a model: pictures made elsewhere.
static bool holds_pictures(const char *path, const char *features) {
  char inside[4200];
  struct stat entry;
  size_t n = strlen(path);
  if (n > 4 && (!strcmp(path + n - 4, ".npy") || !strcmp(path + n - 4, ".npz"))) return true;
  if (!features || stat(path, &entry) || !S_ISDIR(entry.st_mode)) return false;
  static const char *const marks[] = {"recipe.yaml", "model_index.json", "config.json"};
  for (int i = 0; i < COUNT(marks); i++) {
    snprintf(inside, sizeof inside, "%s/%s", path, marks[i]);
    if (!stat(inside, &entry)) return false;
  }
  return true;
}

static int eval_pictures(const command *self, eval_options *o, const char *path, const text_list *keys) {
  elbo_ctx *ctx = NULL;
  elbo_dataset *pictures = NULL, *data = NULL;
  elbo_array *x = NULL;
  elbo_eval_result *result = NULL;
  const char *all[] = {"holdout=0", "layout=nchw"};
  if (!o->data) return usage_error(self, "--data is missing: what should the pictures be compared with?");
  if (!o->features) return usage_error(self, "--features is missing: the run of a classifier, or a file of Inception-v3 weights");
  int status = open_context(&o->common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_status made = elbo_dataset_open(ctx, path, o->layout ? 2 : 1, all, &pictures);
  if (made == ELBO_OK) made = open_data(ctx, NULL, o->data, keys, o->layout, &data);
  if (made == ELBO_OK) {
    elbo_dataset_info about;
    elbo_dataset_get_info(pictures, &about);
    elbo_split part = about.count[ELBO_SPLIT_TRAIN] ? ELBO_SPLIT_TRAIN : ELBO_SPLIT_TEST; // as a file's name may say
    made = elbo_dataset_read(pictures, part, 0, about.count[part], 0, 0, &x, NULL);
  }
  if (made == ELBO_OK) {
    o->split = default_split(data, o->split);
    elbo_eval_config config = config_of(o);
    catch_interruption();
    made = elbo_evaluate_pictures(ctx, x, data, &config, &result);
    made = show(ctx, o, result, made);
  }
  elbo_eval_destroy(&result);
  elbo_array_destroy(&x);
  elbo_dataset_destroy(&pictures);
  elbo_dataset_destroy(&data);
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  elbo_ctx_destroy(&ctx);
  return status;
}

static int run(const command *self, int argc, char **argv) {
  eval_options o = {.split = -1};
  text_list positional, keys;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &o.data, 0, 0, "PATH", "what to judge on (default: the run's own data)"},
      {"split", 0, OPTION_CHOICE, &o.split, 0, 0, SPLIT_NAMES, "which part (default: test where there is one, else held out)"},
      {"metrics", 0, OPTION_TEXT, &o.metrics, 0, 0, "A,B,...",
       "elbo,iwae,recon,kl,...,psnr,ssim,perceptual; of diffusion bpd,bpd_parts,ode_bpd,ode_nll,density_mass,"
       "schedule_variance; fid,kid,precision,recall; condition_accuracy (default: the model's usual ones)"},
      {"samples", 0, OPTION_INT, &o.samples, 1, 1e6, "K", "importance samples of iwae; times drawn for each picture of bpd"},
      {"limit", 0, OPTION_INT, &o.limit, 1, 1e12, "N", "a random subset of N examples, chosen by the seed"},
      {"tolerance", 0, OPTION_FLOAT, &o.tolerance, 1e-12, 1, "E", "of ode_bpd and ode_nll (default: 1e-5)"},
      {"t-min", 0, OPTION_FLOAT, &o.t_min, 1e-9, 0.9, "T", "time at which their flow begins (default: as the result states)"},
      {"features", 0, OPTION_TEXT, &o.features, 0, 0, "PATH",
       "of fid, kid, precision, recall, perceptual: the run of a classifier, or a file of Inception-v3 weights"},
      {"n", 'n', OPTION_INT, &o.n, 1, 1e9, "N", "pictures of each set in these (default: 5000, or half of the split)"},
      {"judge", 0, OPTION_TEXT, &o.judge, 0, 0, "RUN", "of condition_accuracy: another classifier, which tells whether classes are obeyed"},
      {"seeds", 0, OPTION_INT, &o.seeds, 1, 3, "N", "sets of samples drawn, over which the error is (default: 3)"},
      {"force", 0, OPTION_FLAG, &o.force, 0, 0, NULL, "fewer than ten pictures for each feature"},
      {"sampler", 0, OPTION_TEXT, &o.sampler, 0, 0, "NAME", "how a diffusion model draws those pictures (default: as its recipe says)"},
      {"steps", 0, OPTION_INT, &o.steps, 1, 1e6, "K", "steps of that sampler"},
      {"draw", 0, OPTION_FLAG, &o.draw, 0, 0, NULL, "judge draws of a pixel likelihood instead of its means"},
      {"per-image", 0, OPTION_TEXT, &o.per_image, 0, 0, "FILE.npy",
       "also the value of each image under the first metric, to compare models"},
      LAYOUT_OPTION(o.layout),
      MODEL_OPTIONS(o.which),
      COMMON_OPTIONS(o.common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status == ARGS_GO) status = take_engine_keys(self, &positional, &o.common);
  if (status != ARGS_GO) return status;
  status = one_and_keys(self, &positional, "a RUN or MODEL directory, or pictures", &keys);
  if (status != ARGS_GO) return status;
  take_sample_keys(&o, &keys);
  status = o.per_image ? check_output(self, o.per_image, true) : ARGS_GO;
  if (status != ARGS_GO) return status;
  if (holds_pictures(positional.at[0], o.features)) return eval_pictures(self, &o, positional.at[0], &keys);
  elbo_ctx *ctx = NULL;
  elbo_model *model = NULL;
  elbo_model_info info;
  status = open_model(self, &o.common, &o.which, positional.at[0], &ctx, &model, &info);
  if (status != ARGS_GO) return status;
  elbo_dataset *data = NULL;
  elbo_eval_result *result = NULL;
  elbo_status made = open_data(ctx, positional.at[0], o.data, &keys, o.layout, &data);
  if (made == ELBO_OK) {
    o.split = default_split(data, o.split);
    elbo_eval_config config = config_of(&o);
    catch_interruption();
    made = elbo_evaluate(model, data, &config, &result);
    made = show(ctx, &o, result, made);
  }
  elbo_eval_destroy(&result);
  elbo_dataset_destroy(&data);
  return close_model(&ctx, &model, made);
}

const command command_eval = {
    "eval",
    "RUN|x.npy|DIR --data PATH [--metrics elbo,iwae,...] [--json] [key=value ...]",
    "judge a model, or pictures made elsewhere, on data",
    "elbo and iwae are lower bounds on log p(x) in nats per example; +- is one standard error over the examples, of "
    "fid, kid, precision and recall over three sampling seeds. These compare only at equal n and equal weights of "
    "the features; _floor is what other real pictures come to.",
    "elbo eval run --data digits --metrics elbo,iwae --samples 100 --json",
    run};
