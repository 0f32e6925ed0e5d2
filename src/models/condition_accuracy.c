#include "models/condition_accuracy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "models/classifier.h"
#include "models/feature_net.h"

enum { BATCH = 64 };

// What the judge takes each of x (n,H,W,C), in the model's range, for. Pixels are rounded to 8 bits, as anyone else would see them.
static elbo_status read_classes(elbo_model *judge, const elbo_array *x, const elbo_model_info *info, int32_t *out) {
  const classifier_spec *spec = judge->classifier;
  int64_t n = x->dim[0], size = elbo_array_count(x) / n;
  double scale = info->high > info->low ? 255 / (info->high - info->low) : 255;
  elbo_graph *g = NULL;
  session s = {0};
  float *bytes = NULL;
  elbo_status status;
  TRY_GOTO(array_new(judge->ctx, (size_t)(BATCH * size), sizeof *bytes, "pictures", (void **)&bytes));
  TRY_GOTO(elbo_graph_create(judge->ctx, "judge", &g));
  elbo_tensor *logits = classifier_graph(spec, g, BATCH, false).logits;
  TRY_GOTO(session_create(judge->ctx, g, judge->store, BATCH, 1, &logits, &s));
  for (int64_t at = 0; at < n; at += BATCH) {
    int64_t count = n - at < BATCH ? n - at : BATCH;
    const float *from = (const float *)x->data + at * size;
    for (int64_t i = 0; i < count * size; i++) bytes[i] = (float)(round(fmin(fmax((from[i] - info->low) * scale, 0), 255)) / 255);
    TRY_GOTO(session_run(&s, &(session_rows){.x = bytes}, 0, count));
    const float *row = session_output(&s, 0);
    for (int64_t i = 0; i < count; i++, row += spec->classes) {
      out[at + i] = 0;
      for (int32_t c = 1; c < spec->classes; c++)
        if (row[c] > row[out[at + i]]) out[at + i] = c;
    }
  }
fail:
  session_destroy(&s);
  free(bytes);
  return status;
}

// One network that both draws the line of FID and judges would be asked about itself.
static elbo_status check_judge(elbo_model *judge, const elbo_model_info *info, const elbo_eval_config *config) {
  elbo_ctx *ctx = judge->ctx;
  const classifier_spec *spec = judge->classifier;
  feature_net *a = NULL, *b = NULL;
  elbo_status status = ELBO_OK;
  if (!spec) return fail(ctx, ELBO_ERROR_ARGUMENT, "judge: %s: is no classifier; a run of preset classifier was expected", config->judge);
  if (spec->shape.height != info->height || spec->shape.width != info->width || spec->shape.channels != info->channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "judge: %s: is of pictures %lld x %lld x %lld; the model's are %d x %d x %d", config->judge,
                (long long)spec->shape.height, (long long)spec->shape.width, (long long)spec->shape.channels, info->height, info->width,
                info->channels);
  if (spec->classes < info->classes)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "judge: %s: tells %lld classes apart; the model has %d", config->judge, (long long)spec->classes,
                info->classes);
  if (!config->features) return ELBO_OK;
  TRY_GOTO(feature_net_open(ctx, config->features, &a));
  TRY_GOTO(feature_net_open(ctx, config->judge, &b));
  if (!strcmp(feature_net_hash(a), feature_net_hash(b)))
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "judge: %s: has the weights of the features (sha256 %.16s...); another classifier was expected",
                  config->judge, feature_net_hash(a));
fail:
  feature_net_close(&a);
  feature_net_close(&b);
  return status;
}

elbo_status condition_accuracy_report(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result *result) {
  elbo_ctx *ctx = m->ctx;
  elbo_model *judge = NULL;
  elbo_model_info info;
  elbo_sample_config c;
  elbo_array *x = NULL;
  int32_t *read = NULL;
  classifier_score real;
  int64_t right = 0;
  elbo_status status;
  elbo_model_get_info(m, &info);
  if (!info.classes) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "metrics: condition_accuracy: this model takes no classes");
  if (!config->judge) return fail(ctx, ELBO_ERROR_ARGUMENT, "metrics: condition_accuracy needs a judge: the run of a classifier");
  TRY_GOTO(elbo_model_load(ctx, config->judge, NULL, &judge));
  TRY_GOTO(check_judge(judge, &info, config));
  elbo_sample_defaults(&c);
  c.n = config->n > 0 ? config->n : JUDGED_N, c.seed = config->seed, c.draw = config->draw;
  c.n_options = config->n_options, c.options = config->options, c.progress = config->progress, c.progress_user = config->progress_user;
  TRY_GOTO(elbo_sample(m, &c, &x));
  TRY_GOTO(array_new(ctx, (size_t)c.n, sizeof *read, "classes", (void **)&read));
  TRY_GOTO(read_classes(judge, x, &info, read));
  for (int64_t i = 0; i < c.n; i++) right += read[i] == (int32_t)(i % info.classes); // classes in turn, as elbo_sample has them
  TRY_GOTO(classifier_score_on(ctx, judge->classifier, judge->store, data, config->split, &real));
  double share = (double)right / (double)c.n, spread = c.n > 1 ? sqrt(share * (1 - share) / (double)(c.n - 1)) : NAN;
  elbo_metric *v = eval_result_add(result, "condition_accuracy", "", share, spread, c.n, NULL);
  snprintf(v->note, sizeof v->note, "of %d classes in turn, read by another classifier, which reads %.4g of real pictures right",
           info.classes, 1 - real.error);
fail:
  free(read);
  elbo_array_destroy(&x);
  elbo_model_destroy(&judge);
  return status;
}
