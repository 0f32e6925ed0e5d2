#include "ops/max_pool2d.h"

#include <elbo/ops.h>

#include "ops/resample.h"

static bool max_pool2d_infer(elbo_graph *g, node *n) {
  const max_pool_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  char text[SHAPE_TEXT];
  int64_t out[2];
  if (!resample_check(g, n)) return false;
  for (int i = 0; i < 2; i++) {
    int64_t near = a->pad[i], far = a->pad[2 + i], padded = x->dim[1 + i] + near + far;
    // a window that held nothing but padding would have no largest number
    if (a->window[i] < 1 || a->stride[i] < 1 || near < 0 || far < 0 || near >= a->window[i] || far >= a->window[i] || padded < a->window[i])
      return graph_fail(g, ELBO_ERROR_ARGUMENT,
                        "max_pool2d of %s: windows of %lld x %lld, stride %lld x %lld, padding (%lld,%lld,%lld,%lld) do not fit",
                        shape_text(x, text), (long long)a->window[0], (long long)a->window[1], (long long)a->stride[0],
                        (long long)a->stride[1], (long long)a->pad[0], (long long)a->pad[1], (long long)a->pad[2], (long long)a->pad[3]);
    out[i] = (padded - a->window[i]) / a->stride[i] + 1;
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = shape_of(4, (int64_t[]){x->dim[0], out[0], out[1], x->dim[3]});
  return true;
}

static bool max_pool2d_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!wanted[0] || !dy[0]) return true;
  elbo_tensor *in[2] = {n->in[0], dy[0]};
  dx[0] = graph_add(g, &op_max_pool2d_grad, n->attr, 2, in, NULL);
  return dx[0] != NULL;
}

static bool max_pool2d_grad_infer(elbo_graph *g, node *n) {
  (void)g;
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = n->in[0]->shape;
  return true;
}

static int64_t max_pool2d_flops(const node *n) {
  const max_pool_attr *a = n->attr;
  const elbo_tensor *y = n->n_in == 1 ? n->out[0] : n->in[1];
  return shape_count(&y->shape) * a->window[0] * a->window[1];
}

const op_def op_max_pool2d = {
    .name = "max_pool2d",
    .attr_size = sizeof(max_pool_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = max_pool2d_infer,
    .gradient = max_pool2d_gradient,
    .flops = max_pool2d_flops,
    .reference = max_pool2d_ref,
};
// x, dy -> dx. Not differentiable (nor is the choice of the largest).
const op_def op_max_pool2d_grad = {
    .name = "max_pool2d_grad",
    .attr_size = sizeof(max_pool_attr),
    .n_in = 2,
    .n_out = 1,
    .infer = max_pool2d_grad_infer,
    .flops = max_pool2d_flops,
    .reference = max_pool2d_grad_ref,
};

elbo_tensor *elbo_max_pool2d(elbo_tensor *x, const int window[2], const int stride[2], const int pad[4]) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  max_pool_attr a = {{window[0], window[1]}, {1, 1}, {0}};
  for (int i = 0; i < 2; i++)
    if (stride && stride[i] != 0) a.stride[i] = stride[i];
  for (int i = 0; i < 4 && pad; i++) a.pad[i] = pad[i];
  return graph_add(g, &op_max_pool2d, &a, 1, &x, NULL);
}
