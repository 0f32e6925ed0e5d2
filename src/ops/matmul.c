// Batched matrix product: (...,M,K) x (...,K,N) -> (...,M,N), either side possibly stored transposed, leading axes equal or on one side
// only.
#include <elbo/ops.h>

#include "ops/contraction.h"
#include "ops/matmul.h"

elbo_tensor *elbo_matmul(elbo_tensor *a, elbo_tensor *b, int transpose_a, int transpose_b) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){a, b});
  matmul_attr attr = {transpose_a != 0, transpose_b != 0};
  return g ? graph_add(g, &op_matmul, &attr, 2, (elbo_tensor *[]){a, b}, NULL) : NULL;
}

matmul_sizes matmul_sizes_of(const node *n) {
  const matmul_attr *attr = n->attr;
  const shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
  const int64_t *da = a->dim + a->rank - 2, *db = b->dim + b->rank - 2;
  matmul_sizes s = {.M = da[attr->transpose_a], .K = da[!attr->transpose_a], .N = db[!attr->transpose_b], .batch = 1};
  const shape *lead = a->rank > 2 ? a : b;
  for (int i = 0; i < lead->rank - 2; i++) s.batch *= lead->dim[i];
  s.a_step = a->rank > 2 ? s.M * s.K : 0;
  s.b_step = b->rank > 2 ? s.K * s.N : 0;
  return s;
}

static bool infer(elbo_graph *g, node *n) {
  const matmul_attr *attr = n->attr;
  const elbo_tensor *a = n->in[0], *b = n->in[1];
  char as[SHAPE_TEXT], bs[SHAPE_TEXT];
  if (!check_float32(g, n, a, "first input") || !check_float32(g, n, b, "second input")) return false;
  int ra = a->shape.rank, rb = b->shape.rank;
  bool fits = ra >= 2 && rb >= 2 && (ra == 2 || rb == 2 || ra == rb);
  for (int i = 0; fits && ra == rb && i < ra - 2; i++) fits = a->shape.dim[i] == b->shape.dim[i];
  fits = fits && a->shape.dim[ra - 1 - attr->transpose_a] == b->shape.dim[rb - 2 + attr->transpose_b];
  if (!fits) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "matmul: %s%s and %s%s do not fit: expected (...,M,K) and (...,K,N)", shape_text(&a->shape, as),
               attr->transpose_a ? " transposed" : "", shape_text(&b->shape, bs), attr->transpose_b ? " transposed" : "");
    return false;
  }
  shape out = ra >= rb ? a->shape : b->shape;
  out.dim[out.rank - 2] = a->shape.dim[ra - 2 + attr->transpose_a];
  out.dim[out.rank - 1] = b->shape.dim[rb - 1 - attr->transpose_b];
  set_output(n, 0, &out);
  return true;
}

// The gradient of a side without leading axes, where the product has them: the sum over them.
static elbo_tensor *sum_leading(elbo_tensor *d, int rank) {
  if (!d || rank > 2 || d->shape.rank == 2) return d;
  return elbo_sum(d, (1u << (d->shape.rank - 2)) - 1, 0);
}

static bool gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!dy[0]) return true;
  const matmul_attr *t = n->attr;
  elbo_tensor *a = n->in[0], *b = n->in[1], *dc = dy[0];
  if (wanted[0]) // dA = dC B^T, dA^T = B dC^T
    dx[0] = sum_leading(t->transpose_a ? elbo_matmul(b, dc, t->transpose_b, 1) : elbo_matmul(dc, b, 0, !t->transpose_b), a->shape.rank);
  if (wanted[1]) {                                                                   // dB = A^T dC, dB^T = dC^T A
    if (b->shape.rank == 2 && !t->transpose_a) a = as_matrix(a), dc = as_matrix(dc); // the sum over the batch is part of the product
    dx[1] = sum_leading(t->transpose_b ? elbo_matmul(dc, a, 1, t->transpose_a) : elbo_matmul(a, dc, !t->transpose_a, 0), b->shape.rank);
  }
  return true;
}

static int64_t flops(const node *n) {
  matmul_sizes s = matmul_sizes_of(n);
  return 2 * s.batch * s.M * s.N * s.K;
}

const op_def op_matmul = {.name = "matmul",
                          .attr_size = sizeof(matmul_attr),
                          .n_in = 2,
                          .n_out = 1,
                          .infer = infer,
                          .gradient = gradient,
                          .flops = flops,
                          .reference = matmul_ref};
