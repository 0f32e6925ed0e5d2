// Casts between float32 and integers. To integers: towards zero, saturating, NaN to 0.
#include <elbo/ops.h>
#include <math.h>

#include "ops/op.h"

typedef struct cast_attr {
  int64_t dtype;
} cast_attr;

static bool castable(elbo_dtype dtype) { return dtype == ELBO_F32 || dtype == ELBO_I32 || dtype == ELBO_I64; }

static bool infer_cast(elbo_graph *g, node *n) {
  elbo_dtype to = (elbo_dtype)((const cast_attr *)n->attr)->dtype, from = n->in[0]->dtype;
  if (!castable(to) || !castable(from)) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "cast: %s to %s, expected float32, int32 or int64", elbo_dtype_name(from), elbo_dtype_name(to));
    return false;
  }
  n->out[0]->dtype = to;
  n->out[0]->shape = n->in[0]->shape;
  return true;
}

static int64_t to_integer(double x, elbo_dtype dtype) {
  if (isnan(x)) return 0;
  if (dtype == ELBO_I32) return x <= INT32_MIN ? INT32_MIN : x >= INT32_MAX ? INT32_MAX : (int64_t)x;
  return x <= -0x1p63 ? INT64_MIN : x >= 0x1p63 ? INT64_MAX : (int64_t)x;
}

static elbo_status cast_ref(elbo_ctx *ctx, const node *n, const void *const *in, void *const *out) {
  elbo_dtype from = n->in[0]->dtype, to = n->out[0]->dtype;
  (void)ctx;
  for (int64_t i = 0; i < shape_count(&n->in[0]->shape); i++) {
    int64_t whole = from == ELBO_F32   ? to_integer(((const double *)in[0])[i], to)
                    : from == ELBO_I32 ? ((const int32_t *)in[0])[i]
                                       : ((const int64_t *)in[0])[i];
    if (to == ELBO_F32)
      ((double *)out[0])[i] = (double)whole;
    else if (to == ELBO_I32)
      ((int32_t *)out[0])[i] = (int32_t)(whole < INT32_MIN ? INT32_MIN : whole > INT32_MAX ? INT32_MAX : whole);
    else
      ((int64_t *)out[0])[i] = whole;
  }
  return ELBO_OK;
}

const op_def op_cast = {.name = "cast",
                        .attr_size = sizeof(cast_attr),
                        .n_in = 1,
                        .n_out = 1,
                        .flags = OP_CHEAP,
                        .infer = infer_cast,
                        .gradient = no_gradient,
                        .reference = cast_ref};

elbo_tensor *elbo_cast(elbo_tensor *x, elbo_dtype dtype) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  if (x->dtype == dtype) return x;
  cast_attr attr = {dtype};
  return graph_add(g, &op_cast, &attr, 1, &x, NULL);
}
