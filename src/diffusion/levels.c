#include "diffusion/levels.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"

// diffusers keeps 1 - beta and its running product in float32 (the product of them is taken in double). That moves the lowest noise level
// by up to 3e-4 of itself, and with it every level that is spaced from there; so the same roundings are made here.
elbo_status levels_make(elbo_ctx *ctx, const process *p, level_table *out) {
  const double *exact = process_alpha_bar(p);
  double left = 1;
  *out = (level_table){.T = process_steps(p)};
  TRY(array_new(ctx, 2 * (size_t)out->T, sizeof(double), "noise levels", (void **)&out->level));
  double *alpha_bar = out->level + out->T;
  for (int64_t i = 0; i < out->T; i++) {
    float beta = (float)(1 - exact[i] / (i ? exact[i - 1] : 1));
    left *= (double)(1 - beta);
    alpha_bar[i] = (double)(float)left;
    double a = alpha_bar[i] > 0 ? alpha_bar[i] : 0x1p-24;
    out->level[i] = sqrt((1 - a) / a);
  }
  out->alpha_bar = alpha_bar;
  return ELBO_OK;
}

void levels_free(level_table *l) {
  free(l->level);
  *l = (level_table){0};
}

double level_at(const level_table *l, double index) {
  if (index <= 0) return l->level[0];
  if (index >= (double)(l->T - 1)) return l->level[l->T - 1];
  int64_t i = (int64_t)index;
  double part = index - (double)i;
  return l->level[i] + part * (l->level[i + 1] - l->level[i]);
}

double level_index(const level_table *l, double level) {
  int64_t low = 0, high = l->T - 1;
  if (l->T == 1 || level <= l->level[0]) return 0;
  if (level >= l->level[high]) return (double)high;
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    if (l->level[middle] <= level) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return (double)low + log(level / l->level[low]) / log(l->level[low + 1] / l->level[low]);
}

solver_node level_node(double time, double level, bool flow) {
  if (flow) return (solver_node){time, 1 - level, level};
  double alpha = 1 / sqrt(level * level + 1);
  return (solver_node){time, alpha, level * alpha};
}

// Rounding is to the nearest, halves to even, of exactly the products that numpy forms.
static void trailing(double stride, int64_t last, int n, double *out) {
  double start = (double)last, step = start - stride - start;
  for (int i = 0; i < n; i++) out[i] = rint(start + (double)i * step) - 1;
}

void indices_first(int spacing, int64_t T, int64_t offset, int n, bool rounded, double *out) {
  if (spacing == INDEX_TRAILING) {
    trailing((double)T / n, T, n, out);
    return;
  }
  if (spacing == INDEX_LEADING) {
    for (int i = 0; i < n; i++) out[i] = (double)((n - 1 - i) * (T / n) + offset);
    return;
  }
  double step = n > 1 ? (double)(T - 1) / (n - 1) : 0;
  for (int i = 0; i < n; i++) {
    double index = n > 1 && i == 0 ? (double)(T - 1) : (double)(n - 1 - i) * step;
    out[i] = rounded ? rint(index) : index;
  }
}

void indices_second(int spacing, double stride, int64_t last, int64_t offset, int n, double *out) {
  if (spacing == INDEX_TRAILING) {
    trailing(stride, last, n, out);
    return;
  }
  if (spacing == INDEX_LEADING) {
    for (int i = 0; i < n; i++) out[i] = (double)((n - i) * (last / (n + 1)) + offset);
    return;
  }
  double step = (double)(last - 1) / n;
  for (int i = 0; i < n; i++) out[i] = rint(i == 0 ? (double)(last - 1) : (double)(n - i) * step);
}
