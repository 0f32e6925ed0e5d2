// Finds where the first NaN or infinity of a step came from: the data, the weights, or the first operation that made one.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/plan.h"
#include "train/trainer.h"

static int64_t first_nonfinite(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return i;
  return -1;
}

static bool search_batch(const data_batch *batch, char *text, size_t size) {
  const int64_t *example = NULL;
  for (int i = 0; i < batch->n_fields; i++)
    if (strcmp(batch->field[i].name, "example") == 0 && batch->field[i].dtype == ELBO_I64) example = batch->field[i].data;
  for (int i = 0; i < batch->n_fields; i++) {
    const batch_field *f = &batch->field[i];
    if (f->dtype != ELBO_F32 || f->rank < 1) continue;
    shape s = shape_of(f->rank, f->dim);
    const float *x = f->data;
    int64_t count = shape_count(&s), at = first_nonfinite(x, count);
    if (at < 0) continue;
    int64_t each = count / f->dim[0];
    if (example)
      snprintf(text, size, "the data: '%s' of example %lld holds %g at element %lld", f->name, (long long)example[at / each], (double)x[at],
               (long long)(at % each));
    else
      snprintf(text, size, "the data: '%s' holds %g at element %lld of row %lld", f->name, (double)x[at], (long long)(at % each),
               (long long)(at / each));
    return true;
  }
  return false;
}

static bool search_weights(const elbo_store *weights, char *text, size_t size) {
  for (int i = 0; i < weights->n; i++) {
    const float *x = store_data(weights, i);
    int64_t at = first_nonfinite(x, weights->entries[i].count);
    if (at < 0) continue;
    snprintf(text, size, "parameter %s: element %lld is %g", weights->entries[i].name, (long long)at, (double)x[at]);
    return true;
  }
  return false;
}

elbo_status step_diagnose(trainer *t, phase_state *p, const data_batch *batch, char *text, size_t size) {
  text[0] = '\0';
  if (search_batch(batch, text, size) || search_weights(t->weights, text, size)) return ELBO_OK;
  TRY(plan_find_nonfinite(p->plan, t->weights, text, size));
  if (!text[0]) snprintf(text, size, "no operation of this graph alone (a sum over micro-batches overflowed)");
  return ELBO_OK;
}
