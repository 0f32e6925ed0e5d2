// The density of a model of two-dimensional data on a grid.
#ifndef MODELS_DIFFUSION_DENSITY_H
#define MODELS_DIFFUSION_DENSITY_H

#include "models/diffusion_bound.h"
#include "models/eval_result.h"

// How far a grid around the points x (n,2) reaches from 0 in either direction.
double density_reach(const float *x, int64_t n);
// Dots where the points x (n,2) lie on a white panel (side,side) over -reach .. reach, the second coordinate upwards.
void density_points(const float *x, int64_t n, double reach, int side, float *panel);
// p of the centres of side x side cells over -reach .. reach, by the probability flow with the exact trace: (side,side), rows from the
// least second coordinate up. Refused for a model of anything else, and for one that is told a class. progress may be NULL.
elbo_status density_grid(elbo_model *m, double reach, int side, elbo_progress_fn progress, void *user, double *density);
// The sum of the density over a grid of 400 x 400 points around the examples, times a cell's area: 1 when the flow is right.
elbo_status report_density_mass(elbo_model *m, const scored_examples *e, elbo_eval_result *out);

#endif
