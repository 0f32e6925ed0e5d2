// Codes of a table that nothing takes any more, put where there is something: the rows of a VQModel while it trains. A nearest-row table
// that starts small and far from what is encoded would otherwise learn a few of its rows alone, as only a row that is taken has a gradient.
#ifndef MODELS_CODE_RESTART_H
#define MODELS_CODE_RESTART_H

#include "core/ctx.h"
#include "train/task.h"

typedef struct code_restart {
  const char *table; // name of the table's parameter (V,D)
  int64_t codes, dim, steps;
  uint64_t seed;
  int64_t step;   // that `used` is of
  int64_t places; // seen in its last run
  int64_t room;
  float *seen;         // (room,D) the places before the table
  unsigned char *used; // (V) in this step
} code_restart;

elbo_status code_restart_create(elbo_ctx *ctx, const char *table, int64_t codes, int64_t dim, int64_t steps, int64_t places, uint64_t seed,
                                code_restart *out);
void code_restart_free(code_restart *r);
// values: (n,places a row,D+1), as autoencoder_training.observed has them
void code_restart_observe(code_restart *r, const train_rows *rows, const float *values);
// After the step: counts, and puts rows that were not taken for `steps` steps where a random place of the last run was; in the averages
// too, whose memory of the old place is worth nothing.
void code_restart_step(code_restart *r, int64_t step, elbo_store *weights, int n_averages, elbo_store *const *averages);

#endif
