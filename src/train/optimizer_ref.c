// The oracle of the fused update: the same rules, written apart, in double precision.
#include <math.h>

#include "train/optimizer.h"

void optimizer_update_ref(const optimizer_scalars *s, int64_t n, double *param, const double *gradient, double *m, double *v, double *ema) {
  for (int64_t i = 0; i < n; i++) {
    double d = s->gradient_scale * gradient[i];
    if (s->kind == OPTIMIZER_ADAMW)
      param[i] -= s->learning_rate * s->weight_decay * param[i];
    else
      d += s->weight_decay * param[i];
    if (s->kind == OPTIMIZER_ADAM || s->kind == OPTIMIZER_ADAMW) {
      m[i] = s->beta1 * m[i] + (1 - s->beta1) * d;
      v[i] = s->beta2 * v[i] + (1 - s->beta2) * d * d;
      d = (m[i] / s->correction1) / (sqrt(v[i] / s->correction2) + s->epsilon);
    } else {
      if (s->kind == OPTIMIZER_RMSPROP) {
        v[i] = s->beta2 * v[i] + (1 - s->beta2) * d * d;
        d /= sqrt(v[i]) + s->epsilon;
      }
      if (m) d = m[i] = s->beta1 * m[i] + d;
    }
    param[i] -= s->learning_rate * d;
    if (ema) ema[i] = s->ema_decay * ema[i] + (1 - s->ema_decay) * param[i];
  }
}
