#include "models/code_restart.h"

#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "models/autoencoder_training.h"

elbo_status code_restart_create(elbo_ctx *ctx, const char *table, int64_t codes, int64_t dim, int64_t steps, int64_t places, uint64_t seed,
                                code_restart *out) {
  *out = (code_restart){.table = table, .codes = codes, .dim = dim, .steps = steps, .seed = seed, .step = -1, .room = places};
  elbo_status status = array_new(ctx, (size_t)codes, 1, "a table of codes", (void **)&out->used);
  if (status == ELBO_OK) status = array_new(ctx, (size_t)(places * dim), sizeof(float), "places of a code", (void **)&out->seen);
  if (status != ELBO_OK) code_restart_free(out);
  return status;
}

void code_restart_free(code_restart *r) {
  free(r->seen);
  free(r->used);
  *r = (code_restart){0};
}

void code_restart_observe(code_restart *r, const train_rows *rows, const float *values) {
  const int64_t each = rows->n ? r->room / rows->n : 0;
  if (rows->step != r->step) memset(r->used, 0, (size_t)r->codes); // of a step that was skipped, too
  r->step = rows->step, r->places = 0;
  for (int64_t i = 0; i < rows->n * each; i++) {
    if (rows->weight && !(rows->weight[i / each] > 0)) continue;
    const float *place = values + i * (r->dim + 1);
    const int64_t code = (int64_t)place[r->dim];
    if (code >= 0 && code < r->codes) r->used[code] = 1;
    memcpy(r->seen + r->places++ * r->dim, place, (size_t)r->dim * sizeof *place);
  }
}

static float *find(elbo_store *store, const char *name, int64_t count) {
  elbo_param_info p;
  return elbo_store_find(store, name, &p) == ELBO_OK && p.count == count ? p.data : NULL;
}

void code_restart_step(code_restart *r, int64_t step, elbo_store *weights, int n_averages, elbo_store *const *averages) {
  float *age = find(weights, CODE_AGE, r->codes), *restarts = find(weights, CODE_RESTARTS, 1),
        *table = find(weights, r->table, r->codes * r->dim);
  const uint32_t stream = philox_stream("codes.restart");
  for (int64_t k = 0; age && restarts && table && k < r->codes; k++) {
    age[k] = r->used[k] ? 0 : age[k] + 1;
    r->used[k] = 0;
    if (age[k] < (float)r->steps || !r->places) continue;
    uint32_t word[4];
    philox_draw(r->seed, stream, (uint64_t)step, (uint32_t)k, word);
    const float *place = r->seen + (int64_t)(((uint64_t)word[0] * (uint64_t)r->places) >> 32) * r->dim;
    const size_t row = (size_t)r->dim * sizeof *place;
    memcpy(table + k * r->dim, place, row);
    for (int i = 0; i < n_averages; i++) {
      float *average = find(averages[i], r->table, r->codes * r->dim);
      if (average) memcpy(average + k * r->dim, place, row);
    }
    age[k] = 0, restarts[0] += 1;
  }
}
