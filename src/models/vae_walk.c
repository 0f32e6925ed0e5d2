// Walks of a variational autoencoder: the line between two pictures' codes, decoded.
#include <string.h>

#include "models/model.h"

// What the steps of a walk are told, from what its one or two ends are: vectors are mixed like the codes, a class is that of the nearer
// end.
static elbo_status walk_conditions(const elbo_model *m, const elbo_array *ends, int64_t steps, elbo_array **out) {
  int64_t two = ends->dim[0], dim[2] = {steps, ends->rank == 2 ? ends->dim[1] : 1};
  TRY(elbo_array_create(m->ctx, ends->dtype, ends->rank, dim, out));
  for (int64_t i = 0; i < steps; i++) {
    double t = (double)i / (double)(steps - 1);
    int64_t from = 0, to = two - 1;
    if (ends->dtype == ELBO_I32) {
      ((int32_t *)(*out)->data)[i] = ((const int32_t *)ends->data)[2 * i < steps ? from : to];
      continue;
    }
    const float *a = (const float *)ends->data + from * dim[1], *b = (const float *)ends->data + to * dim[1];
    for (int64_t j = 0; j < dim[1]; j++) ((float *)(*out)->data)[i * dim[1] + j] = (float)((1 - t) * a[j] + t * b[j]);
  }
  return ELBO_OK;
}

static elbo_status check_walk(const elbo_model *m, const elbo_array *const *end, const elbo_array *condition, int steps) {
  const picture_shape *p = &m->spec.shape;
  static const char *const KIND[] = {"nothing", "a class", "a vector"};
  const condition_type wants = m->spec.model.condition.type;
  if (steps < 2) return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: %d steps; at least 2 were expected", steps);
  for (int i = 0; i < 2; i++)
    if (!end[i] || end[i]->dtype != ELBO_F32 || elbo_array_count(end[i]) != p->height * p->width * p->channels)
      return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: picture %c: float32 (%lld,%lld,%lld) was expected", "ab"[i],
                  (long long)p -> height, (long long)p -> width, (long long)p -> channels);
  if (condition && wants == CONDITION_NONE)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: a class or vector was given, but this model is not conditioned on one");
  if (wants != CONDITION_NONE && (!condition || condition->rank < 1 || condition->dim[0] < 1 || condition->dim[0] > 2))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT,
                "interpolate: this model is conditioned on %s: one for the walk, or one for each end, was expected", KIND[wants]);
  const void *told;
  return condition ? model_check_condition(m, "interpolate", condition, condition->dim[0], &told) : ELBO_OK;
}

elbo_status elbo_interpolate_conditioned(elbo_model *m, const elbo_array *a, const elbo_array *b, const elbo_array *condition, int steps,
                                         elbo_array **x) {
  *x = NULL;
  if (m->kind->interpolate != vae_interpolate) return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "interpolate: conditions of a walk are a VAE's");
  const elbo_array *end[2] = {a, b};
  TRY(check_walk(m, end, condition, steps));
  elbo_array *both = NULL, *mean = NULL, *codes = NULL, *told = NULL, *told_ends = NULL;
  elbo_status status;
  const picture_shape *p = &m->spec.shape;
  int64_t d = vae_code_size(&m->spec), size = elbo_array_count(a);
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 4, (int64_t[]){2, p->height, p->width, p->channels}, &both));
  for (int i = 0; i < 2; i++) memcpy((float *)both->data + i * size, end[i]->data, (size_t)size * sizeof(float));
  if (condition) {
    TRY_GOTO(walk_conditions(m, condition, 2, &told_ends));
    TRY_GOTO(walk_conditions(m, condition, steps, &told));
  }
  TRY_GOTO(vae_encode(m, both, told_ends, &mean, NULL));
  TRY_GOTO(elbo_array_create(m->ctx, ELBO_F32, 2, (int64_t[]){steps, d}, &codes));
  const float *from = mean->data, *to = from + d;
  for (int i = 0; i < steps; i++)
    for (int64_t j = 0; j < d; j++) {
      double t = (double)i / (steps - 1);
      ((float *)codes->data)[i * d + j] = (float)((1 - t) * from[j] + t * to[j]);
    }
  status = vae_decode(m, codes, told, x);
fail:
  elbo_array_destroy(&told);
  elbo_array_destroy(&told_ends);
  elbo_array_destroy(&both);
  elbo_array_destroy(&mean);
  elbo_array_destroy(&codes);
  return status;
}

elbo_status vae_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x) {
  int32_t class_index = label;
  elbo_array one = {.dtype = ELBO_I32, .rank = 1, .dim = {1}, .data = &class_index};
  if (label < 0 && m->spec.model.condition.type == CONDITION_CLASS)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "interpolate: this model is conditioned on a class: 0 to %lld was expected as the walk's",
                (long long)m->spec.classes - 1);
  return elbo_interpolate_conditioned(m, a, b, label >= 0 ? &one : NULL, steps, x);
}
