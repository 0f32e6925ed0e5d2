#include "models/classifier_task.h"

#include <stdlib.h>
#include <string.h>

struct classifier_task {
  elbo_ctx *ctx;
  classifier_spec spec;
  double label_smoothing;
  elbo_dataset *data;
  int64_t last_step; // that `schedule` saw
  classifier_training_graph graph;
  train_metric metric[1];
  train_phase phase;
  train_task task;
};

// 1 where the class is the label's, else 0: (B,classes)
static elbo_tensor *one_hot(elbo_tensor *label, int64_t classes) {
  if (!label) return NULL;
  elbo_graph *g = elbo_tensor_graph(label);
  float *number = malloc((size_t)classes * sizeof *number);
  if (!number) return NULL;
  for (int64_t i = 0; i < classes; i++) number[i] = (float)i;
  elbo_tensor *each = elbo_constant_array(g, 2, (int64_t[]){1, classes}, number);
  free(number);
  elbo_tensor *at = elbo_reshape(elbo_cast(label, ELBO_F32), 2, (int64_t[]){elbo_tensor_dim(label, 0), 1});
  return elbo_less(elbo_abs(elbo_sub(at, each)), elbo_constant(g, 0.5));
}

elbo_status classifier_training_build(elbo_ctx *ctx, const classifier_spec *spec, int64_t batch, classifier_training_graph *out) {
  *out = (classifier_training_graph){0};
  TRY(elbo_graph_create(ctx, "classifier", &out->graph));
  elbo_graph *g = out->graph;
  elbo_tensor *label = elbo_input(g, "label", ELBO_I32, 1, &batch), *weight = elbo_input(g, "weight", ELBO_F32, 1, &batch);
  elbo_tensor *total = elbo_sum(weight, ELBO_ALL_AXES, 0);
  elbo_tensor *logits = classifier_graph(spec, g, batch, true).logits; // (B,classes)
  elbo_tensor *hot = one_hot(label, spec->classes);
  // hot + s (1/classes - hot) [Szegedy16 sec. 7]
  elbo_tensor *s = elbo_input(g, "label_smoothing", ELBO_F32, 0, NULL);
  elbo_tensor *target = elbo_add(hot, elbo_mul(s, elbo_scale(hot, -1, 1 / (double)spec->classes)));
  // the target sums to 1, so that cross-entropy is log sum exp - sum target logits
  elbo_tensor *each = elbo_sub(elbo_logsumexp(logits, 1u << 1, 0), elbo_sum(elbo_mul(target, logits), 1u << 1, 0));
  out->loss = elbo_div(elbo_sum(elbo_mul(weight, each), ELBO_ALL_AXES, 0), total);
  elbo_tensor *own = elbo_sum(elbo_mul(hot, logits), 1u << 1, 0);
  elbo_tensor *wrong = elbo_less(own, elbo_max(logits, 1u << 1, 0));
  out->accuracy = elbo_scale(elbo_div(elbo_sum(elbo_mul(weight, wrong), ELBO_ALL_AXES, 0), total), -1, 1);
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK && !out->accuracy) status = fail_memory(ctx, (size_t)spec->classes * sizeof(float), "a training graph");
  if (status != ELBO_OK) elbo_graph_destroy(&out->graph);
  return status;
}

static bool task_schedule(void *user, int64_t step, int64_t steps, const char *input, float *value) {
  classifier_task *t = user;
  (void)steps;
  t->last_step = step;
  if (strcmp(input, "label_smoothing") != 0) return false;
  *value = (float)t->label_smoothing;
  return true;
}

static elbo_status task_validate(void *user, elbo_store *weights, int64_t step, double *score) {
  classifier_task *t = user;
  classifier_score s;
  (void)step;
  TRY(classifier_score_on(t->ctx, &t->spec, weights, t->data, ELBO_SPLIT_VALID, &s));
  *score = s.error;
  return ELBO_OK;
}

static elbo_status task_save(void *user, elbo_store *weights, const char *directory) {
  classifier_task *t = user;
  return classifier_directory_write(t->ctx, directory, &t->spec, weights, t->last_step + 1);
}

elbo_status classifier_task_create(elbo_ctx *ctx, const classifier_spec *spec, double label_smoothing, int64_t batch, elbo_dataset *data,
                                   classifier_task **out) {
  *out = NULL;
  classifier_task *t = calloc(1, sizeof *t);
  if (!t) return fail_memory(ctx, sizeof *t, "a task");
  t->ctx = ctx, t->spec = *spec, t->label_smoothing = label_smoothing, t->data = data, t->last_step = -1;
  elbo_dataset_info info = {0};
  if (data) elbo_dataset_get_info(data, &info);
  elbo_status status = classifier_training_build(ctx, &t->spec, batch, &t->graph);
  if (status != ELBO_OK) {
    classifier_task_destroy(&t);
    return status;
  }
  t->metric[0] = (train_metric){"accuracy", "", t->graph.accuracy, false};
  t->phase = (train_phase){
      .name = "classifier", .graph = t->graph.graph, .loss = t->graph.loss, .prefix = "", .n_metrics = 1, .metrics = t->metric};
  t->task = (train_task){.user = t,
                         .n_phases = 1,
                         .phases = &t->phase,
                         .schedule = task_schedule,
                         .validate = data && info.count[ELBO_SPLIT_VALID] > 0 ? task_validate : NULL,
                         .save = task_save};
  *out = t;
  return ELBO_OK;
}

void classifier_task_destroy(classifier_task **task) {
  if (!task || !*task) return;
  elbo_graph_destroy(&(*task)->graph.graph);
  free(*task);
  *task = NULL;
}

const train_task *classifier_task_of(const classifier_task *t) { return &t->task; }

static void destroy_of_recipe(void *self) {
  classifier_task *t = self;
  classifier_task_destroy(&t);
}

// Resolution, channels and classes come from the data.
static elbo_status spec_from_recipe(elbo_ctx *ctx, const preset_request *request, classifier_spec *spec) {
  const classifier_recipe *config = request->config;
  const elbo_dataset_info *info = &request->info;
  *spec = (classifier_spec){config->model.network, {info->height, info->width, info->channels}, info->classes, info->bits};
  return classifier_spec_check(ctx, spec, request->file);
}

static elbo_status create_from_recipe(elbo_ctx *ctx, const preset_request *request, preset_task *out) {
  const classifier_recipe *config = request->config;
  classifier_spec spec;
  TRY(spec_from_recipe(ctx, request, &spec));
  classifier_task *t;
  TRY(classifier_task_create(ctx, &spec, config->objective.label_smoothing, request->micro_batch, request->data, &t));
  *out = (preset_task){.self = t, .task = classifier_task_of(t), .destroy = destroy_of_recipe};
  return ELBO_OK;
}

static elbo_status forward(elbo_ctx *ctx, const preset_request *request, elbo_graph **graph, elbo_tensor **out) {
  classifier_spec spec;
  *graph = NULL;
  TRY(spec_from_recipe(ctx, request, &spec));
  TRY(elbo_graph_create(ctx, "forward", graph));
  *out = classifier_graph(&spec, *graph, request->micro_batch, false).logits;
  return ELBO_OK;
}

const preset_def preset_classifier = {.name = "classifier",
                                      .summary = "a classifier, whose features judge samples",
                                      .sections = &classifier_sections,
                                      .create = create_from_recipe,
                                      .forward = forward};
