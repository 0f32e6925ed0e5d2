// What a classifier answers to the calls of elbo/model.h: how often it is right.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/statistics.h"
#include "models/classifier.h"
#include "models/eval_result.h"
#include "train/run.h"

enum { AT_ONCE = 2048, BATCH = 64 };

// loss (n) nats; returns how many answers are wrong
static int64_t score_rows(const float *logits, const int32_t *label, int64_t n, int64_t classes, double *loss) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; i++, logits += classes) {
    int64_t best = 0;
    double sum = 0;
    for (int64_t c = 1; c < classes; c++)
      if (logits[c] > logits[best]) best = c;
    for (int64_t c = 0; c < classes; c++) sum += exp((double)logits[c] - (double)logits[best]);
    loss[i] = log(sum) + (double)logits[best] - (double)logits[label[i]];
    wrong += best != label[i];
  }
  return wrong;
}

elbo_status classifier_score_on(elbo_ctx *ctx, const classifier_spec *spec, elbo_store *weights, elbo_dataset *data, elbo_split split,
                                classifier_score *out) {
  elbo_dataset_info info;
  elbo_dataset_get_info(data, &info);
  int64_t n = info.count[split], wrong = 0;
  double *loss = NULL;
  elbo_array *x = NULL, *label = NULL;
  elbo_graph *g = NULL;
  session s = {0};
  elbo_status status;
  *out = (classifier_score){.n = n};
  if (n < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have no examples in the %s split", split_text(split));
  if (info.height != spec->shape.height || info.width != spec->shape.width || info.channels != spec->shape.channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the examples of the data are %d x %d x %d; the classifier's are %lld x %lld x %lld",
                info.height, info.width, info.channels, (long long)spec->shape.height, (long long)spec->shape.width,
                (long long)spec->shape.channels);
  if (info.classes < 1 || info.classes > spec->classes)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "evaluate: the data have %d classes; the classifier tells %lld apart", info.classes,
                (long long)spec->classes);
  TRY_GOTO(array_new(ctx, (size_t)n, sizeof *loss, "scores", (void **)&loss));
  TRY_GOTO(elbo_graph_create(ctx, "classifier", &g));
  elbo_tensor *logits = classifier_graph(spec, g, BATCH, false).logits;
  TRY_GOTO(session_create(ctx, g, weights, BATCH, 1, &logits, &s));
  for (int64_t first = 0; first < n; first += AT_ONCE) {
    TRY_GOTO(elbo_dataset_read(data, split, first, AT_ONCE, 0, 0, &x, &label));
    for (int64_t at = 0; at < x->dim[0]; at += BATCH) {
      int64_t count = x->dim[0] - at < BATCH ? x->dim[0] - at : BATCH;
      TRY_GOTO(session_run(&s, &(session_rows){.x = x->data}, at, count));
      wrong += score_rows(session_output(&s, 0), (const int32_t *)label->data + at, count, spec->classes, loss + first + at);
    }
    elbo_array_destroy(&x);
    elbo_array_destroy(&label);
  }
  out->error = (double)wrong / (double)n;
  mean_and_error(loss, n, &out->loss, &out->loss_error);
fail:
  free(loss);
  session_destroy(&s);
  elbo_array_destroy(&x);
  elbo_array_destroy(&label);
  return status;
}

// --- the calls ---

static elbo_status classifier_open(elbo_model *m, const char *directory) {
  classifier_spec *spec = arena_alloc(m->arena, sizeof *spec);
  if (!spec) return fail_memory(m->ctx, sizeof *spec, "a classifier");
  TRY(classifier_directory_read_spec(m->ctx, m->arena, directory, spec, &m->step));
  TRY(classifier_store_create(m->ctx, spec, 0, &m->store));
  m->classifier = spec;
  if (m->ema != 0) return run_read_weights(m->ctx, directory, m->ema, m->store);
  return classifier_directory_read_weights(m->ctx, directory, m->store);
}

static void classifier_info(const elbo_model *m, elbo_model_info *out) {
  const classifier_spec *s = m->classifier;
  *out = (elbo_model_info){.preset = "classifier",
                           .weights = m->weights,
                           .likelihood = "none",
                           .height = (int)s->shape.height,
                           .width = (int)s->shape.width,
                           .channels = (int)s->shape.channels,
                           .high = 1,
                           .bits = s->bits,
                           .classes = (int)s->classes,
                           .params = m->params,
                           .step = m->step};
}

static elbo_status classifier_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out) {
  static const char usual[] = "accuracy,loss";
  classifier_score s;
  elbo_eval_result *r = NULL;
  elbo_status status;
  TRY(metric_names_check(m->ctx, config->metrics, "accuracy, loss"));
  TRY_GOTO(classifier_score_on(m->ctx, m->classifier, m->store, data, config->split, &s));
  TRY_GOTO(eval_result_new(m->ctx, &r));
  double spread = s.n > 1 ? sqrt(s.error * (1 - s.error) / (double)(s.n - 1)) : NAN;
  if (metric_asked(config->metrics, usual, "accuracy")) eval_result_add(r, "accuracy", "", 1 - s.error, spread, s.n, NULL);
  if (metric_asked(config->metrics, usual, "loss")) eval_result_add(r, "loss", "nats/image", s.loss, s.loss_error, s.n, NULL);
  TRY_GOTO(eval_result_finish(m, config, r));
  *out = r, r = NULL;
fail:
  elbo_eval_destroy(&r);
  return status;
}

static const char *const class_names[] = {"ElboClassifier", NULL};
const model_kind model_kind_classifier = {.preset = "classifier",
                                          .class_names = class_names,
                                          .why_not = "tells classes apart and draws nothing",
                                          .open = classifier_open,
                                          .info = classifier_info,
                                          .evaluate = classifier_evaluate};
