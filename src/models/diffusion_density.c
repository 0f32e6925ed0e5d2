#include "models/diffusion_density.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"

enum { GRID = 400 };

double density_reach(const float *x, int64_t n) {
  double reach = 0;
  for (int64_t i = 0; i < 2 * n; i++) reach = fmax(reach, 1.1 * fabs((double)x[i]));
  return reach;
}

void density_points(const float *x, int64_t n, double reach, int side, float *panel) {
  for (int64_t i = 0; i < (int64_t)side * side; i++) panel[i] = 1;
  for (int64_t i = 0; i < n; i++) {
    double u = (double)x[2 * i] / reach, v = (double)x[2 * i + 1] / reach;
    if (!(fabs(u) < 1 && fabs(v) < 1)) continue;
    panel[(side - 1 - (int)((v + 1) / 2 * side)) * side + (int)((u + 1) / 2 * side)] *= 0.35f;
  }
}

elbo_status density_grid(elbo_model *m, double reach, int side, elbo_progress_fn progress, void *user, double *density) {
  const diffusion_spec *s = &m->diffusion->spec;
  if (s->height * s->width * s->channels != 2 || s->bits)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "density_mass: of two-dimensional float data");
  if (s->model.condition.type != DIFFUSION_UNCONDITIONAL)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "density_mass: of a model without a condition");
  elbo_array *grid = NULL;
  int64_t n = (int64_t)side * side, calls;
  double cell = 2 * reach / side;
  TRY(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){n, 2}, &grid));
  for (int64_t i = 0; i < n; i++) {
    ((float *)grid->data)[2 * i] = (float)(-reach + cell * ((double)(i % side) + 0.5));
    ((float *)grid->data)[2 * i + 1] = (float)(-reach + cell * ((double)(i / side) + 0.5));
  }
  scored_examples points = {.x = grid, .n = n, .progress = progress, .user = user};
  ode_options o = {.draws = 1, .exact = true, .rtol = 1e-4, .atol = 1e-4};
  o.t_min = diffusion_ode_start(m->diffusion->process);
  elbo_status status = diffusion_ode_nll(m, &points, &o, density, NULL, &calls);
  for (int64_t i = 0; status == ELBO_OK && i < n; i++) density[i] = exp(-density[i]);
  elbo_array_destroy(&grid);
  return status;
}

elbo_status report_density_mass(elbo_model *m, const scored_examples *e, elbo_eval_result *out) {
  double *density = NULL, reach = density_reach(e->x->data, e->n), cell = 2 * reach / GRID, mass = 0;
  elbo_status status;
  TRY_GOTO(array_new(m->ctx, (size_t)GRID * GRID, sizeof(double), "a grid", (void **)&density));
  TRY_GOTO(density_grid(m, reach, GRID, e->progress, e->user, density));
  for (int64_t i = 0; i < (int64_t)GRID * GRID; i++) mass += density[i] * cell * cell;
  elbo_metric *v = eval_result_add(out, "density_mass", "", mass, NAN, (int64_t)GRID * GRID, NULL);
  snprintf(v->note, sizeof v->note, "on a %d x %d grid over +-%.3g", GRID, GRID, reach);
fail:
  free(density);
  return status;
}
