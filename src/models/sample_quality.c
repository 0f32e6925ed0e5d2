#include "models/sample_quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/feature_sets.h"
#include "eval/statistics.h"
#include "models/condition_accuracy.h"
#include "models/feature_net.h"

enum { FID, KID, PRECISION, RECALL, FIGURES, KID_SUBSETS = 100, LEAST_PER_FEATURE = 10, BLOCKS = 10, BLOCKS_MOST_FEATURES = 512 };
static const char *const figure_name[FIGURES] = {"fid", "kid", "precision", "recall"};

static bool pictures_asked(const char *metrics) {
  for (int i = 0; i < FIGURES; i++)
    if (metric_asked(metrics, "", figure_name[i])) return true;
  return false;
}

bool quality_asked(const char *metrics) { return pictures_asked(metrics) || metric_asked(metrics, "", "condition_accuracy"); }

typedef struct figures {
  double value[FIGURES];       // NaN: not asked for
  double kid_error, fid_error; // of this one set: over subsets, over tenths left out
} figures;

typedef struct judgement {
  elbo_ctx *ctx;
  const quality_source *source;
  const elbo_eval_config *config;
  feature_net *net;
  int64_t n;
  elbo_array *real, *floor;  // features (n,d) of the two random parts
  feature_gaussian gaussian; // of `real`
} judgement;

static feature_set set_of(const elbo_array *features) { return (feature_set){features->dim[0], features->dim[1], features->data}; }

static bool wanted(const judgement *j, int figure) { return metric_asked(j->config->metrics, "", figure_name[figure]); }

// The error of a distance that has one set of samples: each tenth of them left out in turn [Tukey58].
static elbo_status jackknife(judgement *j, const feature_set *samples, double *error) {
  int64_t d = samples->d, block = samples->n / BLOCKS, kept = samples->n - block;
  double *rows = NULL, each[BLOCKS], mean = 0, squares = 0;
  *error = NAN;
  if (j->source->seeds > 1 || d > BLOCKS_MOST_FEATURES || block < 1 || kept < 2) return ELBO_OK;
  elbo_status status = array_new(j->ctx, (size_t)(kept * d), sizeof *rows, "features", (void **)&rows);
  for (int b = 0; status == ELBO_OK && b < BLOCKS; b++) {
    feature_gaussian g = {0};
    int64_t before = b * block;
    memcpy(rows, samples->at, (size_t)(before * d) * sizeof *rows);
    memcpy(rows + before * d, samples->at + (before + block) * d, (size_t)((kept - before) * d) * sizeof *rows);
    status = feature_gaussian_fit(j->ctx, &(feature_set){kept, d, rows}, &g);
    if (status == ELBO_OK) status = frechet_between(j->ctx, &j->gaussian, &g, &each[b]);
    feature_gaussian_free(&g);
    if (status == ELBO_OK) mean += each[b] / BLOCKS;
  }
  free(rows);
  TRY(status);
  for (int b = 0; b < BLOCKS; b++) squares += (each[b] - mean) * (each[b] - mean);
  *error = sqrt((double)(BLOCKS - 1) / BLOCKS * squares);
  return ELBO_OK;
}

static elbo_status judge(judgement *j, const elbo_array *features, figures *out) {
  feature_set real = set_of(j->real), samples = set_of(features);
  *out = (figures){{NAN, NAN, NAN, NAN}, NAN, NAN};
  if (wanted(j, FID)) {
    feature_gaussian g = {0};
    elbo_status status = feature_gaussian_fit(j->ctx, &samples, &g);
    if (status == ELBO_OK) status = frechet_between(j->ctx, &j->gaussian, &g, &out->value[FID]);
    feature_gaussian_free(&g);
    TRY(status);
    TRY(jackknife(j, &samples, &out->fid_error));
  }
  if (wanted(j, KID)) {
    kernel_distance k;
    TRY(kernel_distance_estimate(j->ctx, &real, &samples, KID_SUBSETS, j->config->seed, &k));
    out->value[KID] = k.value, out->kid_error = k.error;
  }
  if (wanted(j, PRECISION) || wanted(j, RECALL))
    TRY(precision_recall(j->ctx, &real, &samples, &out->value[PRECISION], &out->value[RECALL]));
  return ELBO_OK;
}

// --- the real pictures ---

static elbo_status choose_n(judgement *j, elbo_dataset *data) {
  elbo_dataset_info info;
  const elbo_eval_config *c = j->config;
  const char *split = split_text(c->split);
  elbo_dataset_get_info(data, &info);
  int64_t all = info.count[c->split], d = feature_net_dim(j->net), given = j->source->available;
  if (c->limit > 0 && c->limit < all) all = c->limit;
  if ((int64_t)info.height * info.width < 2)
    return fail(j->ctx, ELBO_ERROR_ARGUMENT, "metrics: " PICTURE_METRICS " are of pictures; these data are vectors");
  if (all < 2)
    return fail(j->ctx, ELBO_ERROR_ARGUMENT, "evaluate: %lld examples in the %s split make no two halves", (long long)all, split);
  j->n = c->n > 0 ? c->n : QUALITY_N;
  if (c->n <= 0 && j->n > all / 2) j->n = all / 2;
  if (c->n <= 0 && given && j->n > given) j->n = given;
  if (j->n > all / 2)
    return fail(j->ctx, ELBO_ERROR_ARGUMENT,
                "n: %lld pictures for the reference and as many for the floor are more than the %lld of the %s split; at most %lld",
                (long long)j->n, (long long)all, split, (long long)(all / 2));
  if (given && j->n > given)
    return fail(j->ctx, ELBO_ERROR_ARGUMENT, "n: %lld pictures to judge; there are %lld", (long long)j->n, (long long)given);
  if (j->n < LEAST_PER_FEATURE * d && !c->force)
    return fail(
        j->ctx, ELBO_ERROR_ARGUMENT,
        "n: %lld pictures are fewer than %d for each of the %lld features of %s: the figures would say more of n than of the samples; "
        "take more, another network of features, or force it",
        (long long)j->n, LEAST_PER_FEATURE, (long long)d, c->features);
  return ELBO_OK;
}

static elbo_status check_range(judgement *j, const elbo_array *x) {
  const float *v = x->data;
  for (int64_t i = 0, n = elbo_array_count(x); i < n; i++)
    if (!(v[i] >= 0 && v[i] <= 1))
      return fail(j->ctx, ELBO_ERROR_ARGUMENT, "metrics: " PICTURE_METRICS " are of pictures in 0..1; these data hold %g", (double)v[i]);
  return ELBO_OK;
}

// Two random parts of n, the same for every model that is judged with the same seed.
static elbo_status read_real(judgement *j, elbo_dataset *data) {
  const elbo_eval_config *c = j->config;
  elbo_array *x = NULL;
  elbo_status status;
  TRY_GOTO(elbo_dataset_read(data, c->split, 0, 2 * j->n, 1, c->seed, &x, NULL));
  if (x->dim[0] < 2 * j->n) {
    status = fail(j->ctx, ELBO_ERROR_FORMAT, "evaluate: only %lld of %lld pictures of the %s split could be read", (long long)x->dim[0],
                  (long long)(2 * j->n), split_text(c->split));
    goto fail;
  }
  TRY_GOTO(check_range(j, x));
  elbo_array part = *x;
  part.dim[0] = j->n;
  TRY_GOTO(feature_net_run(j->net, &part, c->progress, c->progress_user, &j->real));
  part.data = (float *)x->data + elbo_array_count(x) / 2;
  TRY_GOTO(feature_net_run(j->net, &part, c->progress, c->progress_user, &j->floor));
  feature_set real = set_of(j->real);
  if (wanted(j, FID)) TRY_GOTO(feature_gaussian_fit(j->ctx, &real, &j->gaussian));
fail:
  elbo_array_destroy(&x);
  return status;
}

// --- the result ---

static void add_figure(const judgement *j, int figure, const figures *samples, const figures *floor, elbo_eval_result *r) {
  static const char *const unit[FIGURES] = {"squared distance", "squared MMD", "", ""};
  double value[QUALITY_SEEDS], mean, error, squares = 0;
  char name[32], forced[48] = "";
  int seeds = j->source->seeds;
  int64_t d = feature_net_dim(j->net);
  for (int s = 0; s < seeds; s++) value[s] = samples[s].value[figure], squares += samples[s].kid_error * samples[s].kid_error;
  mean_and_error(value, seeds, &mean, &error);
  const char *over = "";
  if (seeds == 1) { // what one set tells of its own error
    double share = fmin(fmax(mean, 0), 1);
    error = figure == FID ? samples[0].fid_error : figure == KID ? samples[0].kid_error : sqrt(share * (1 - share) / (double)j->n);
    over = figure == FID ? "; error over tenths left out" : figure == KID ? "; error over subsets" : "; error of a share of n";
  }
  if (j->n < LEAST_PER_FEATURE * d) snprintf(forced, sizeof forced, "; forced: n < %d x %lld", LEAST_PER_FEATURE, (long long)d);
  elbo_metric *m = eval_result_add(r, figure_name[figure], unit[figure], mean, error, j->n, NULL);
  snprintf(m->note, sizeof m->note, "%s, %s %lld, sha256 %s%s%s", j->source->judged, feature_net_name(j->net), (long long)d,
           feature_net_hash(j->net), forced, over);
  if (figure == KID) m->mc_stderr = sqrt(squares) / seeds;
  snprintf(name, sizeof name, "%s_floor", figure_name[figure]);
  m = eval_result_add(r, name, unit[figure], floor->value[figure], NAN, j->n, NULL);
  snprintf(m->note, sizeof m->note, "other real pictures, %s %lld, sha256 %s%s", feature_net_name(j->net), (long long)d,
           feature_net_hash(j->net), forced);
  if (figure == KID) m->mc_stderr = floor->kid_error;
}

static elbo_status add_more(const judgement *j, elbo_eval_result *r) {
  json_t *seeds = json_array(), *options = json_array();
  for (int i = 0; i < j->config->n_options; i++) json_array_append_new(options, json_string(j->config->options[i]));
  for (int s = 0; s < j->source->seeds; s++) json_array_append_new(seeds, json_integer((json_int_t)(j->config->seed + (uint64_t)s)));
  json_t *all = json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:o}", "judged", j->source->judged, "features", feature_net_name(j->net),
                          "sha256", feature_net_hash(j->net), "dim", (json_int_t)feature_net_dim(j->net), "n", (json_int_t)j->n, "forced",
                          j->n < LEAST_PER_FEATURE * feature_net_dim(j->net), "seeds", seeds, "sample_options", options);
  if (!r->more) r->more = json_object();
  if (json_object_set_new(r->more, "sample_quality", all)) return fail_memory(j->ctx, 1024, "JSON");
  return ELBO_OK;
}

elbo_status quality_report(elbo_ctx *ctx, const quality_source *source, elbo_dataset *data, const elbo_eval_config *config,
                           elbo_eval_result *result) {
  judgement j = {.ctx = ctx, .source = source, .config = config};
  elbo_array *x = NULL, *features = NULL;
  figures samples[QUALITY_SEEDS], floor;
  elbo_status status;
  if (!config->features)
    return fail(ctx, ELBO_ERROR_ARGUMENT,
                "metrics: " PICTURE_METRICS
                " need features: the run of a classifier (preset classifier), or a file of Inception-v3 weights");
  TRY_GOTO(feature_net_open(ctx, config->features, &j.net));
  TRY_GOTO(choose_n(&j, data));
  TRY_GOTO(read_real(&j, data));
  TRY_GOTO(judge(&j, j.floor, &floor));
  for (int s = 0; s < source->seeds; s++) {
    TRY_GOTO(source->draw(source->user, j.n, config->seed + (uint64_t)s, &x));
    TRY_GOTO(feature_net_run(j.net, x, config->progress, config->progress_user, &features));
    elbo_array_destroy(&x);
    TRY_GOTO(judge(&j, features, &samples[s]));
    elbo_array_destroy(&features);
  }
  for (int i = 0; i < FIGURES; i++)
    if (wanted(&j, i)) add_figure(&j, i, samples, &floor, result);
  status = add_more(&j, result);
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(&features);
  elbo_array_destroy(&j.real);
  elbo_array_destroy(&j.floor);
  feature_gaussian_free(&j.gaussian);
  feature_net_close(&j.net);
  return status;
}

// --- of a model ---

typedef struct model_source {
  elbo_model *m;
  const elbo_eval_config *config;
} model_source;

// In parts of at most a gigabyte; of seed alone when there is one part, so that elbo_sample with that seed gives the same pictures.
static elbo_status draw_from_model(void *user, int64_t n, uint64_t seed, elbo_array **out) {
  const model_source *source = user;
  elbo_model *m = source->m;
  elbo_model_info info;
  elbo_sample_config c;
  elbo_array *x = NULL;
  elbo_status status;
  elbo_model_get_info(m, &info);
  int64_t size = (int64_t)info.height * info.width * info.channels, most = ((int64_t)1 << 28) / size + 1;
  double scale = info.high > info.low ? 1 / (info.high - info.low) : 1;
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){n, info.height, info.width, info.channels}, out));
  for (int64_t at = 0, part = 0; at < n; at += most, part++) {
    elbo_sample_defaults(&c);
    c.n = n - at < most ? n - at : most, c.seed = part ? seed_of_part(seed, (uint64_t)part) : seed, c.draw = source->config->draw;
    c.n_options = source->config->n_options, c.options = source->config->options;
    c.progress = source->config->progress, c.progress_user = source->config->progress_user;
    TRY_GOTO(elbo_sample(m, &c, &x));
    const float *from = x->data;
    float *to = (float *)(*out)->data + at * size;
    for (int64_t i = 0; i < c.n * size; i++) to[i] = (float)((from[i] - info.low) * scale);
    elbo_array_destroy(&x);
  }
  return ELBO_OK;
fail:
  elbo_array_destroy(&x);
  elbo_array_destroy(out);
  return status;
}

elbo_status model_quality_report(elbo_model *m, bool pixel_likelihood, elbo_dataset *data, const elbo_eval_config *config,
                                 elbo_eval_result *result) {
  model_source user = {m, config};
  const char *judged = !pixel_likelihood ? "samples" : config->draw ? "draws of p(x|z)" : "means of p(x|z)";
  if (config->seeds < 0 || config->seeds > QUALITY_SEEDS)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "evaluate: seeds: %d; expected at most %d", config->seeds, QUALITY_SEEDS);
  int seeds = config->seeds ? config->seeds : QUALITY_SEEDS;
  quality_source source = {.draw = draw_from_model, .user = &user, .seeds = seeds, .judged = judged};
  if (metric_asked(config->metrics, "", "condition_accuracy")) TRY(condition_accuracy_report(m, data, config, result));
  return pictures_asked(config->metrics) ? quality_report(m->ctx, &source, data, config, result) : ELBO_OK;
}

// --- of pictures made elsewhere ---

typedef struct picture_source {
  elbo_ctx *ctx;
  const elbo_array *x;
} picture_source;

static elbo_status take_pictures(void *user, int64_t n, uint64_t seed, elbo_array **out) {
  const picture_source *source = user;
  elbo_array part = *source->x;
  (void)seed;
  part.dim[0] = n;
  return elbo_array_convert(source->ctx, &part, ELBO_F32, out);
}

elbo_status elbo_evaluate_pictures(elbo_ctx *ctx, const elbo_array *x, elbo_dataset *data, const elbo_eval_config *config,
                                   elbo_eval_result **out) {
  *out = NULL;
  elbo_eval_config c;
  char given[ARRAY_TEXT_SIZE];
  elbo_status status;
  elbo_eval_defaults(&c);
  if (config) c = *config;
  if (!c.metrics) c.metrics = PICTURE_METRICS;
  TRY(metric_names_check(ctx, c.metrics, PICTURE_METRICS));
  if ((int)c.split < 0 || c.split > ELBO_SPLIT_TEST) return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: no such split");
  if (!x || x->dtype != ELBO_F32 || x->rank != 4 || x->dim[0] < 1)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: pictures: float32 (n,H,W,C) was expected, not %s", array_text(x, given, sizeof given));
  picture_source user = {ctx, x};
  quality_source source = {.draw = take_pictures, .user = &user, .seeds = 1, .available = x->dim[0], .judged = "the pictures given"};
  elbo_eval_result *r = NULL;
  TRY_GOTO(eval_result_new(ctx, &r));
  TRY_GOTO(quality_report(ctx, &source, data, &c, r));
  TRY_GOTO(eval_result_finish(NULL, &c, r));
  *out = r, r = NULL;
fail:
  elbo_eval_destroy(&r);
  return status;
}
