// elbo compare
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/compare.h>

#include "cli/cli.h"

typedef struct compare_options {
  common_options common;
  const char *data, *out, *runs, *features, *judge, *budget, *flops, *likelihoods, *curve;
  int64_t steps, n, seeds, limit, judged, samples, calls;
  int force;
} compare_options;

// "10m", "90s", "1.5h", "600": seconds; NAN: not a time.
static double seconds_of(const char *text) {
  char *end;
  double value = strtod(text, &end);
  double unit = !*end || !strcmp(end, "s") ? 1 : !strcmp(end, "m") ? 60 : !strcmp(end, "h") ? 3600 : 0;
  return end > text && unit > 0 && value > 0 && value < 1e9 ? value * unit : NAN;
}

// "5,10,25"
static bool numbers_of(const char *text, elbo_compare_config *c) {
  for (char *end; text && *text; text = *end ? end + 1 : end) {
    long value = strtol(text, &end, 10);
    if (end == text || value < 1 || value > 1000000 || (*end && *end != ',') || c->n_curve == ELBO_COMPARE_CURVE) return false;
    c->curve[c->n_curve++] = (int)value;
  }
  return true;
}

static int fill_config(const command *self, const compare_options *o, elbo_compare_config *c) {
  elbo_compare_defaults(c);
  if (o->budget && isnan(c->budget_seconds = seconds_of(o->budget)))
    return usage_error(self, "--budget '%s': expected a time, as in 600, 90s, 10m or 1.5h", o->budget);
  if (o->flops) {
    char *end;
    c->budget_flops = strtod(o->flops, &end);
    if (end == o->flops || *end || !(c->budget_flops > 0) || !isfinite(c->budget_flops))
      return usage_error(self, "--flops '%s': expected a number above 0, as in 1e13", o->flops);
  }
  if (!numbers_of(o->curve, c))
    return usage_error(self, "--curve '%s': expected at most %d numbers of calls, as in 5,10,20", o->curve, ELBO_COMPARE_CURVE);
  c->budget_steps = o->steps, c->data = o->data, c->out = o->out, c->runs = o->runs, c->features = o->features, c->judge = o->judge;
  c->n = o->n, c->seeds = (int)o->seeds, c->force = o->force, c->limit = o->limit, c->judged = o->judged, c->samples = (int)o->samples;
  c->likelihoods = o->likelihoods, c->calls = o->calls, c->seed = o->common.seed;
  c->progress = show_progress;
  if ((c->budget_seconds > 0) + (c->budget_steps > 0) + (c->budget_flops > 0) > 1)
    return usage_error(self, "one budget was expected: --budget, --steps or --flops");
  return ARGS_GO;
}

static int run(const command *self, int argc, char **argv) {
  compare_options o = {0};
  text_list positional;
  const option options[] = {
      {"data", 0, OPTION_TEXT, &o.data, 0, 0, "PATH", "what all are trained and judged on"},
      {"out", 'o', OPTION_TEXT, &o.out, 0, 0, "FILE", "the page, report.html"},
      {"runs", 0, OPTION_TEXT, &o.runs, 0, 0, "DIR", "where trainings and measurements lie (default: FILE.runs)"},
      {"budget", 0, OPTION_TEXT, &o.budget, 0, 0, "TIME", "of training each model, all stages together: 600, 90s, 10m, 1.5h"},
      {"steps", 0, OPTION_INT, &o.steps, 1, 1e12, "N", "the same in steps"},
      {"flops", 0, OPTION_TEXT, &o.flops, 0, 0, "F", "the same in FLOPs, as in 1e13 (default: as the recipes say)"},
      {"features", 0, OPTION_TEXT, &o.features, 0, 0, "PATH", "of FID and its like: a classifier's run or recipe, or Inception-v3 weights"},
      {"judge", 0, OPTION_TEXT, &o.judge, 0, 0, "RUN", "another classifier, run or recipe, which tells whether classes are obeyed"},
      {"n", 'n', OPTION_INT, &o.n, 1, 1e9, "N", "samples of FID and its like (default: 5000, or half of the split)"},
      {"seeds", 0, OPTION_INT, &o.seeds, 1, 3, "N", "sets of them, over which their error is (default: 3)"},
      {"force", 0, OPTION_FLAG, &o.force, 0, 0, NULL, "fewer than ten pictures for each feature"},
      {"limit", 0, OPTION_INT, &o.limit, 2, 1e12, "N", "pictures of likelihood and reconstruction (default: 1000)"},
      {"judged", 0, OPTION_INT, &o.judged, 2, 1e9, "N", "samples that the judge sees (default: 1000)"},
      {"likelihood", 0, OPTION_TEXT, &o.likelihoods, 0, 0, "A,B",
       "one: the one-sample bound; k: that of K samples; ode: the probability flow (default: one)"},
      {"samples", 0, OPTION_INT, &o.samples, 1, 1e6, "K", "of the K-sample bound; times drawn for each picture of a diffusion model"},
      {"calls", 0, OPTION_INT, &o.calls, 1, 1e6, "N", "of a network for one sample, at most (default: 50)"},
      {"curve", 0, OPTION_TEXT, &o.curve, 0, 0, "A,B,...", "fewer calls at which quality is measured too, for the plot: 5,10"},
      COMMON_OPTIONS(o.common)};
  int status = args_parse(self, argc, argv, options, COUNT(options), &positional);
  if (status != ARGS_GO) return status;
  const char *models[ELBO_COMPARE_MODELS], **overrides = positional.at;
  int n = 0, keys = 0;
  for (int i = 0; i < positional.count; i++) { // the list is compacted in place
    if (is_override(positional.at[i]))
      overrides[keys++] = positional.at[i];
    else if (n < ELBO_COMPARE_MODELS)
      models[n++] = positional.at[i];
    else
      return usage_error(self, "more than %d models", ELBO_COMPARE_MODELS);
  }
  if (!n) return usage_error(self, "no recipe and no run is given");
  if (!o.out) return usage_error(self, "--out is missing: where should the page go?");
  elbo_compare_config config;
  status = fill_config(self, &o, &config);
  if (status == ARGS_GO) status = check_folder(o.out);
  if (status != ARGS_GO) return status;
  config.n_models = n, config.models = models, config.n_overrides = keys, config.overrides = overrides;
  elbo_ctx *ctx = NULL;
  char *json = NULL;
  status = open_context(&o.common, &ctx);
  if (status != ARGS_GO) return status;
  catch_interruption();
  elbo_status made = elbo_compare(ctx, &config, &json);
  clear_progress();
  if (made == ELBO_OK) printf("%s\n", o.common.json ? json : o.out);
  if (made == ELBO_ERROR_STOPPED && interrupted()) say("the same command goes on where it was");
  status = made == ELBO_OK ? STATUS_DONE : report_failure(ctx, made);
  free(json);
  elbo_ctx_destroy(&ctx);
  return status;
}

const command command_compare = {
    "compare",
    "RECIPE|RUN ... --data PATH --out report.html [--budget 10m | --steps N | --flops F] [--features RUN] [key=value ...]",
    "train models under one budget and lay them side by side",
    "Recipes are trained, runs are taken as they are; then one page has one table: samples, likelihood, reconstruction, speed, size,\n"
    "obedience, each number with its error and the command that makes it again, and pictures. Interrupted, the same command goes on.\n"
    "key=value sets a key of every recipe.",
    "elbo compare vae-mnist-conv vae-gan ddpm-mnist --data MNIST --budget 5m --features CLASSIFIER --out report.html",
    run};
