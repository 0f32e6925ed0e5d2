// Tables of noise levels sigma / alpha of a discrete process, and diffusers' ways to pick indices.
#ifndef DIFFUSION_LEVELS_H
#define DIFFUSION_LEVELS_H

#include "diffusion/schedule.h"

typedef struct level_table {
  int64_t T;
  const double *alpha_bar; // (T)
  double *level;           // (T) rising
} level_table;

// With zero terminal SNR the last level would be infinite; alpha_bar = 2^-24 is taken there, as diffusers does.
elbo_status levels_make(elbo_ctx *ctx, const process *p, level_table *out);
void levels_free(level_table *l);
double level_at(const level_table *l, double index);          // linear between the points, constant outside
double level_index(const level_table *l, double level);       // fractional, linear in the logarithm, cut to the table
solver_node level_node(double time, double level, bool flow); // variance preserving, or alpha = 1 - sigma

enum { INDEX_LINSPACE, INDEX_LEADING, INDEX_TRAILING }; // as `timestep_spacing` counts them
// n falling indices of T [Lin24 table 2]. `first`: of the classes whose last index is the first of the process.
void indices_first(int spacing, int64_t T, int64_t offset, int n, bool rounded, double *out);
// Of the classes that place n + 1 over the lowest `last` indices, and leave the lowest to the final level. stride: of trailing.
void indices_second(int spacing, double stride, int64_t last, int64_t offset, int n, double *out);

#endif
