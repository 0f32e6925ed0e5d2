// attention: softmax(scale q k^T + bias) v by heads, never holding an Nq x Nk matrix.
#include <elbo/ops.h>
#include <math.h>

#include "ops/attention.h"

static bool attention_check(elbo_graph *g, const node *n) {
  const attention_attr *a = n->attr;
  const elbo_tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *bias = n->in[3];
  const shape *qs = &q->shape, *ks = &k->shape;
  char text[3][SHAPE_TEXT];
  if (q->dtype != ELBO_F32 || k->dtype != ELBO_F32 || v->dtype != ELBO_F32 || qs->rank != 3 || ks->rank != 3 ||
      !shape_equal(ks, &v->shape) || qs->dim[0] != ks->dim[0] || qs->dim[2] != ks->dim[2])
    return graph_fail(g, ELBO_ERROR_ARGUMENT,
                      "%s: q %s, k %s, v %s, expected float32 (B,Nq,heads*d), (B,Nk,heads*d) and v of the shape of k", n->op->name,
                      shape_text(qs, text[0]), shape_text(ks, text[1]), shape_text(&v->shape, text[2]));
  if (a->heads < 1 || qs->dim[2] % a->heads != 0)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: q %s: %lld channels do not come apart into %lld heads", n->op->name,
                      shape_text(qs, text[0]), (long long)qs->dim[2], (long long)a->heads);
  if (!isfinite(a->scale)) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: scale is %g, expected a finite number", n->op->name, a->scale);
  shape scores = shape_of(4, (int64_t[]){qs->dim[0], a->heads, qs->dim[1], ks->dim[1]}), together;
  if (bias && (bias->dtype != ELBO_F32 || !shape_broadcast(&bias->shape, &scores, &together) || !shape_equal(&together, &scores)))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: bias %s does not broadcast to (B,heads,Nq,Nk) = %s", n->op->name,
                      shape_text(&bias->shape, text[0]), shape_text(&scores, text[1]));
  return true;
}

static shape lse_shape(const node *n) {
  const attention_attr *a = n->attr;
  return shape_of(3, (int64_t[]){n->in[0]->shape.dim[0], a->heads, n->in[0]->shape.dim[1]});
}

static bool attention_infer(elbo_graph *g, node *n) {
  if (!attention_check(g, n)) return false;
  n->out[0]->dtype = n->out[1]->dtype = ELBO_F32;
  n->out[0]->shape = n->in[0]->shape;
  n->out[1]->shape = lse_shape(n);
  return true;
}

static bool attention_grad_infer(elbo_graph *g, node *n) {
  const attention_attr *a = n->attr;
  const shape *q = &n->in[0]->shape;
  if (!attention_check(g, n)) return false;
  shape lse = lse_shape(n);
  if (!shape_equal(&n->in[4]->shape, q) || !shape_equal(&n->in[5]->shape, &lse) || !shape_equal(&n->in[6]->shape, q)) {
    char text[2][SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: y, lse or dy %s do not belong to q %s", n->op->name,
                      shape_text(&n->in[6]->shape, text[0]), shape_text(q, text[1]));
  }
  if (a->want_dbias && !n->in[3]) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: there is no bias to differentiate", n->op->name);
  for (int i = 0; i < 4; i++) n->out[i]->dtype = ELBO_F32;
  for (int i = 0; i < 3; i++) n->out[i]->shape = n->in[i]->shape;
  n->out[3]->shape = a->want_dbias ? n->in[3]->shape : shape_of(0, NULL);
  return true;
}

static bool attention_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  attention_attr a = *(const attention_attr *)n->attr;
  if (dy[1]) return graph_fail(g, ELBO_ERROR_UNSUPPORTED, "attention: its log-sum-exp is not differentiable");
  if (!dy[0]) return true;
  a.want_dbias = n->in[3] && wanted[3];
  elbo_tensor *in[] = {n->in[0], n->in[1], n->in[2], n->in[3], n->out[0], n->out[1], dy[0]};
  node *grad = graph_add_node(g, &op_attention_grad, &a, 7, in, NULL);
  if (!grad) return false;
  for (int i = 0; i < 4; i++)
    if (n->in[i] && wanted[i]) dx[i] = grad->out[i];
  return true;
}

// Two products of Nq x Nk x d a head forward; five backward, one of them the scores made again.
static int64_t attention_products(const node *n, int64_t products) {
  const shape *q = &n->in[0]->shape;
  return 2 * products * shape_count(q) * n->in[1]->shape.dim[1];
}
static int64_t attention_flops(const node *n) { return attention_products(n, 2); }
static int64_t attention_grad_flops(const node *n) { return attention_products(n, 5); }

const op_def op_attention = {
    .name = "attention",
    .attr_size = sizeof(attention_attr),
    .n_in = 4,
    .n_out = 2,
    .optional = 1u << 3,
    .infer = attention_infer,
    .gradient = attention_gradient,
    .flops = attention_flops,
    .reference = attention_ref,
};

const op_def op_attention_grad = {
    .name = "attention_grad",
    .attr_size = sizeof(attention_attr),
    .n_in = 7,
    .n_out = 4,
    .optional = 1u << 3,
    .infer = attention_grad_infer,
    .flops = attention_grad_flops,
    .reference = attention_grad_ref,
};

elbo_tensor *elbo_attention(elbo_tensor *q, elbo_tensor *k, elbo_tensor *v, elbo_tensor *bias, int heads, double scale, int causal) {
  elbo_tensor *in[] = {q, k, v, bias};
  elbo_graph *g = graph_of(3, in);
  if (!g) return NULL;
  attention_attr a = {heads, scale, causal != 0, 0};
  int64_t channels = q->shape.rank > 0 ? q->shape.dim[q->shape.rank - 1] : 0;
  if (scale == 0 && heads > 0 && channels >= heads) a.scale = 1 / sqrt((double)(channels / heads));
  node *n = graph_add_node(g, &op_attention, &a, 4, in, NULL);
  return n ? n->out[0] : NULL;
}
