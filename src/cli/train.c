// elbo train
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <elbo/train.h>

#include "cli/cli.h"

typedef struct train_options {
  common_options common;
  const char *data, *out;
  int64_t steps;
  int layout, list, keys, resume, dry_run;
} train_options;

static int print_recipe(void *user, const char *name, const char *path, const char *summary) {
  int *count = user; // -1 - n for JSON
  if (*count < 0) {
    printf("%s{\"name\": ", *count == -1 ? "" : ", ");
    print_json_text(stdout, name);
    printf(", \"path\": ");
    print_json_text(stdout, path);
    printf(", \"summary\": ");
    print_json_text(stdout, summary ? summary : "");
    printf("}");
    *count -= 1;
  } else
    printf("%-22s %s\n", name, summary ? summary : path), *count += 1;
  return 1;
}

static int list_recipes(const train_options *o) {
  elbo_ctx *ctx = NULL;
  int status = open_context(&o->common, &ctx), count = o->common.json ? -1 : 0;
  if (status != ARGS_GO) return status;
  if (o->common.json) printf("{\"recipes\": [");
  elbo_status listed = elbo_recipe_list(ctx, print_recipe, &count);
  if (o->common.json) printf("]}\n");
  status = listed == ELBO_OK ? STATUS_DONE : report_failure(ctx, listed);
  elbo_ctx_destroy(&ctx);
  return status;
}

static int list_keys(const train_options *o) {
  elbo_ctx *ctx = NULL;
  char *text = NULL;
  int status = open_context(&o->common, &ctx);
  if (status != ARGS_GO) return status;
  elbo_status made = elbo_recipe_keys_markdown(ctx, &text);
  if (made == ELBO_OK) fputs(text, stdout);
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  free(text);
  elbo_ctx_destroy(&ctx);
  return status;
}

// data.path="..." as a quoted YAML scalar, absolute where it is a file and not a built-in set's name, so that the run can be resumed
// from anywhere.
static char *data_override(const char *path) {
  char *full = elbo_dataset_is_builtin(path) ? NULL : realpath(path, NULL);
  const char *text = full ? full : path;
  char *out = malloc(2 * strlen(text) + 32), *at = out;
  if (!out) return free(full), NULL;
  at += sprintf(at, "data.path=\"");
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') *at++ = '\\';
    *at++ = *text;
  }
  strcpy(at, "\"");
  free(full);
  return out;
}

static void print_cost(const elbo_train_cost *c, const char *name, bool json) {
  if (json) {
    printf("{");
    if (name) {
      printf("\"name\": ");
      print_json_text(stdout, name);
      printf(", ");
    }
    printf("\"params\": %lld, \"flops_per_step\": %lld, \"prepare_flops\": %lld, \"planned_bytes\": %lld, \"arena_bytes\": %lld, "
           "\"weight_bytes\": %lld, "
           "\"optimizer_bytes\": %lld, \"library_bytes\": %lld, \"loader_bytes\": %lld, \"moved_bytes\": %lld, \"recomputed\": %lld, "
           "\"recomputed_bytes\": %lld, \"recomputed_flops\": %lld}",
           (long long)c->params, (long long)c->flops_per_step, (long long)c->prepare_flops, (long long)c->planned_bytes,
           (long long)c->arena_bytes, (long long)c->weight_bytes, (long long)c->optimizer_bytes, (long long)c->library_bytes,
           (long long)c->loader_bytes, (long long)c->moved_bytes, (long long)c->recomputed, (long long)c->recomputed_bytes,
           (long long)c->recomputed_flops);
    return;
  }
  printf("parameters       %lld\nFLOPs of a step  %lld\n", (long long)c->params, (long long)c->flops_per_step);
  if (c->prepare_flops) printf("  and before all %lld\n", (long long)c->prepare_flops);
  printf("peak memory      %lld bytes\n", (long long)c->planned_bytes);
  printf("  arena          %lld\n  weights        %lld\n  optimiser      %lld\n  packed weights %lld\n  loader         %lld\n",
         (long long)c->arena_bytes, (long long)c->weight_bytes, (long long)c->optimizer_bytes, (long long)c->library_bytes,
         (long long)c->loader_bytes);
  if (c->recomputed)
    printf("run twice        %lld operations, to keep train.memory_limit: %.1f %% more bytes moved, %.1f %% more FLOPs\n",
           (long long)c->recomputed, 100 * (double)c->recomputed_bytes / (double)(c->moved_bytes - c->recomputed_bytes),
           100 * (double)c->recomputed_flops / (double)(c->flops_per_step - c->recomputed_flops));
}

// Of several stages each under its name.
static elbo_status dry_run(elbo_ctx *ctx, const elbo_recipe *recipe, bool json) {
  int n = elbo_recipe_stage_count(recipe);
  elbo_status status = ELBO_OK;
  if (json && n > 1) printf("{\"stages\": [");
  for (int i = 0; status == ELBO_OK && i < n; i++) {
    const elbo_recipe *stage = elbo_recipe_stage(recipe, i);
    elbo_train_cost cost;
    status = elbo_train_dry_run(ctx, stage, NULL, &cost);
    if (status != ELBO_OK) break;
    if (n > 1 && json) printf("%s", i ? ", " : "");
    if (n > 1 && !json) printf("%sstage            %d %s\n", i ? "\n" : "", i + 1, elbo_recipe_stage_name(stage));
    print_cost(&cost, n > 1 ? elbo_recipe_stage_name(stage) : NULL, json);
  }
  if (json && n > 1 && status == ELBO_OK) printf("]}");
  if (json && status == ELBO_OK) printf("\n");
  return status;
}

static void print_result(const train_options *o, const elbo_train_result *r, const char *state) {
  double rate = r->seconds > 0 ? (double)r->samples / r->seconds : 0;
  if (!o->common.json) {
    printf("%s: %lld steps, %lld samples in %.1f s (%.0f samples/s), loss %.6g: %s\n", state, (long long)r->steps, (long long)r->samples,
           r->seconds, rate, r->loss, o->out);
    return;
  }
  printf("{\"run\": ");
  print_json_text(stdout, o->out);
  printf(", \"state\": \"%s\", \"steps\": %lld, \"samples\": %lld, \"seconds\": ", state, (long long)r->steps, (long long)r->samples);
  print_json_number(stdout, r->seconds);
  printf(", \"flops\": ");
  print_json_number(stdout, r->flops);
  printf(", \"loss\": ");
  print_json_number(stdout, r->loss);
  printf(", \"resumed_from\": %d}\n", r->resumed_from);
}

static int train(const train_options *o, const char *recipe_name, int n_overrides, const char *const *overrides) {
  elbo_ctx *ctx = NULL;
  elbo_recipe *recipe = NULL;
  int result = open_context(&o->common, &ctx);
  if (result != ARGS_GO) return result;
  elbo_status status = elbo_recipe_load(ctx, recipe_name, n_overrides, overrides, &recipe);
  if (status == ELBO_OK && o->dry_run) {
    status = dry_run(ctx, recipe, o->common.json);
  } else if (status == ELBO_OK) {
    elbo_train_config config;
    elbo_train_result trained = {0};
    elbo_train_defaults(&config);
    config.out = o->out;
    config.resume = o->resume;
    config.progress = show_progress;
    catch_interruption();
    status = elbo_train(ctx, recipe, &config, &trained);
    clear_progress();
    if (status == ELBO_OK) {
      print_result(o, &trained, trained.already_finished ? "already finished" : "finished");
    } else if (status == ELBO_ERROR_STOPPED && interrupted()) {
      print_result(o, &trained, "interrupted");
      say("%s; the same command with --resume continues", elbo_ctx_message(ctx));
    }
  }
  result = status == ELBO_OK ? STATUS_DONE : report_failure(ctx, status);
  elbo_recipe_destroy(&recipe);
  elbo_ctx_destroy(&ctx);
  return result;
}

static bool seed_given(int argc, char **argv) { // 0 is a seed too
  for (int i = 1; i < argc; i++)
    if (!strncmp(argv[i], "--seed", 6)) return true;
  return false;
}

static int run(const command *self, int argc, char **argv) {
  train_options o = {0};
  text_list positional;
  const option options[] = {{"data", 0, OPTION_TEXT, &o.data, 0, 0, "PATH", "what to train on (default: the recipe's data.path)"},
                            {"out", 'o', OPTION_TEXT, &o.out, 0, 0, "RUN", "run directory: new, empty, or the run to --resume"},
                            {"steps", 0, OPTION_INT, &o.steps, 1, 1e12, "N", "the same as train.steps=N"},
                            {"resume", 0, OPTION_FLAG, &o.resume, 0, 0, NULL, "continue the run bit for bit; start it where there is none"},
                            {"dry-run", 0, OPTION_FLAG, &o.dry_run, 0, 0, NULL, "print parameters, FLOPs and memory; run nothing"},
                            LAYOUT_OPTION(o.layout),
                            {"list", 0, OPTION_FLAG, &o.list, 0, 0, NULL, "name the recipes that come with elbo"},
                            {"keys", 0, OPTION_FLAG, &o.keys, 0, 0, NULL, "every key of a recipe, as Markdown"},
                            COMMON_OPTIONS(o.common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  if (o.list) return list_recipes(&o);
  if (o.keys) return list_keys(&o);
  const char *recipe = NULL, **overrides = positional.at;
  char own_recipe[4096], steps[48], seed[48];
  int n = 0;
  for (int i = 0; i < positional.count; i++) { // the list is compacted in place
    if (is_override(positional.at[i]))
      overrides[n++] = positional.at[i];
    else if (recipe)
      return usage_error(self, "'%s': one recipe is already given, '%s'; an override is key=value", positional.at[i], recipe);
    else
      recipe = positional.at[i];
  }
  if (!o.out && !o.dry_run) return usage_error(self, "--out RUN is missing: where should the run be written?");
  if (!recipe && o.resume && o.out) { // a run knows its own recipe
    struct stat entry;
    if (snprintf(own_recipe, sizeof own_recipe, "%s/recipe.yaml", o.out) < (int)sizeof own_recipe && !stat(own_recipe, &entry))
      recipe = own_recipe;
  }
  if (!recipe) return usage_error(self, "no recipe is given; `elbo train --list` names those that come with elbo");
  const char **all = calloc((size_t)n + 5, sizeof *all);
  char *data = o.data ? data_override(o.data) : NULL;
  if (!all || (o.data && !data)) {
    free(all), free(data);
    return say("out of memory"), STATUS_FAILED;
  }
  int m = 0;
  if (data) all[m++] = data;
  if (o.layout) all[m++] = "data.layout=nchw";
  for (int i = 0; i < n; i++) all[m++] = overrides[i];
  snprintf(steps, sizeof steps, "train.steps=%lld", (long long)o.steps);
  snprintf(seed, sizeof seed, "train.seed=%llu", (unsigned long long)o.common.seed);
  if (o.steps) all[m++] = steps;
  if (seed_given(argc, argv)) all[m++] = seed;
  status = train(&o, recipe, m, all);
  free(all), free(data);
  return status;
}

const command command_train = {
    "train",
    "RECIPE|PRESET [--data PATH] --out RUN [key=value ...] [--steps N] [--resume] [--dry-run]",
    "train a recipe, or continue a run",
    "RECIPE is a YAML file or the bare name of one that comes with elbo (`elbo train --list`). key=value sets any key of\n"
    "the recipe: train.batch_size=64 model.latent.dim=8, stages.1.train.steps=500 for one stage of several. Ctrl-C writes a\n"
    "checkpoint; --resume continues from it.",
    "elbo train vae-digits --data digits --out run train.learning_rate=2e-3",
    run};
