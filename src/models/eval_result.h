// What an evaluation found: metrics, values of each image, and the JSON that says it all.
#ifndef MODELS_EVAL_RESULT_H
#define MODELS_EVAL_RESULT_H

#include <stdbool.h>

#include "core/json.h"
#include "models/model.h"

enum { MAX_METRICS = 24 };

struct elbo_eval_result {
  elbo_metric metric[MAX_METRICS];
  double *per_image[MAX_METRICS]; // NULL: none
  int count;
  json_t *more; // members of the JSON object beside the metrics; NULL: none
  char *json;
};

const char *split_text(elbo_split split); // "train", "valid", "test"

elbo_status eval_result_new(elbo_ctx *ctx, elbo_eval_result **out);
// Adds a metric without a Monte-Carlo error; takes per_image over (may be NULL).
elbo_metric *eval_result_add(elbo_eval_result *r, const char *name, const char *unit, double value, double error, int64_t n,
                             double *per_image);
void metric_note(elbo_metric *m, const char *text);
double *doubles_copy(const double *v, int64_t n); // NULL when out of memory
// Puts `name: [v...]` beside the metrics.
void eval_result_list(elbo_eval_result *r, const char *name, const double *v, int64_t n);
// Makes the JSON text: the last thing. m NULL: no model was judged.
elbo_status eval_result_finish(const elbo_model *m, const elbo_eval_config *config, elbo_eval_result *r);

// Row j of `from` to row i of `to`, which may be the same array.
void row_copy(elbo_array *to, int64_t i, const elbo_array *from, int64_t j);
// Keeps a random `limit` of the examples, chosen by the seed, in their order. label may be NULL.
elbo_status examples_subset(elbo_ctx *ctx, uint64_t seed, int64_t limit, elbo_array *x, elbo_array *label);

// Whether `list` ("a,b"; NULL: `usual`) names a metric.
bool metric_asked(const char *list, const char *usual, const char *name);
// Refuses a list that names what is not among `known` ("a, b, c").
elbo_status metric_names_check(elbo_ctx *ctx, const char *list, const char *known);

#endif
