#include "ops/matmul.h"

#include "ops/contraction.h"

elbo_status matmul_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  (void)ctx;
  const matmul_attr *t = n->attr;
  matmul_sizes s = matmul_sizes_of(n);
  double *c = out[0];
  for (int64_t l = 0; l < s.batch; l++) {
    const double *a = (const double *)in[0] + l * s.a_step, *b = (const double *)in[1] + l * s.b_step;
    for (int64_t m = 0; m < s.M; m++)
      for (int64_t j = 0; j < s.N; j++) {
        double sum = 0;
        for (int64_t k = 0; k < s.K; k++)
          sum += (t->transpose_a ? a[k * s.M + m] : a[m * s.K + k]) * (t->transpose_b ? b[j * s.K + k] : b[k * s.N + j]);
        c[(l * s.M + m) * s.N + j] = sum;
      }
  }
  return ELBO_OK;
}
