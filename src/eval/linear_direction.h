// The direction in which two sets of codes lie apart: the normal of a linear classifier between them.
#ifndef EVAL_LINEAR_DIRECTION_H
#define EVAL_LINEAR_DIRECTION_H

#include "core/error.h"

typedef struct linear_direction {
  int64_t d;
  double *mean, *scale; // (d) of all codes that it was fitted to, in whose units the rest is
  double *normal;       // (d) of unit length, from the first set to the second
  double offset;        // half way between the two means: a code u is taken to be of the second set where normal . u > offset
  double apart;         // from the mean of the first set to that of the second, along the normal
  double accuracy;      // of the classifier on the codes that it was fitted to
} linear_direction;

// Logistic regression of the codes' standardised numbers, penalised by ridge / 2 |w|^2 beside the mean loss [Preechakul22 sec. 5.2]. A
// large ridge turns the normal towards the line between the two means, which changes least beside it. codes (n,d); side (n): 0, 1, or -1:
// no part in the classifier, though in the units. Each side needs two codes.
elbo_status linear_direction_fit(elbo_ctx *ctx, const float *codes, int64_t n, int64_t d, const int8_t *side, double ridge,
                                 linear_direction *out);
void linear_direction_free(linear_direction *l);
// Moves a code (d) by `steps` times the distance between the means.
void linear_direction_move(const linear_direction *l, double steps, float *code);

#endif
