// Simplifications that hold for every value.
#include "graph/algebra.h"

#include "ops/elementwise.h"

// x + 0, x - 0, x * 1, x / 1 with a scalar constant, where nothing is broadcast.
static elbo_tensor *neutral_operand(const node *k, elbo_tensor *a, elbo_tensor *b) {
  int64_t code = ((const elementwise_attr *)k->attr)->code;
  double value;
  const shape *y = &k->out[0]->shape;
  if ((code == EW_ADD || code == EW_SUB || code == EW_MUL || code == EW_DIV) && tensor_is_constant(b, &value) &&
      shape_equal(&a->shape, y) && value == (code == EW_MUL || code == EW_DIV ? 1.0 : 0.0))
    return a;
  if ((code == EW_ADD || code == EW_MUL) && tensor_is_constant(a, &value) && shape_equal(&b->shape, y) &&
      value == (code == EW_MUL ? 1.0 : 0.0))
    return b;
  return NULL;
}

// What was broadcast to a shape and is broadcast again, or meets an operand of the full shape, can be read as it was.
static elbo_tensor *before_broadcast(elbo_tensor *t) {
  while (t->producer->op == &op_broadcast_to) t = t->producer->in[0];
  return t;
}

elbo_tensor *algebra_simplify(rewrite *r, const node *k) {
  if (k->op == &op_broadcast_to) {
    elbo_tensor *x = r->map[k->in[0]->id];
    return shape_equal(&x->shape, &k->out[0]->shape) ? x : NULL;
  }
  if (k->op == &op_binary) {
    elbo_tensor *a = r->map[k->in[0]->id], *b = r->map[k->in[1]->id], *same = neutral_operand(k, before_broadcast(a), before_broadcast(b));
    if (same) return same;
    // Each side is read without its broadcast as long as the other one alone gives the result its shape.
    elbo_tensor *narrow_a = before_broadcast(a), *narrow_b = before_broadcast(b);
    bool changed = false;
    if (narrow_b != b && shape_equal(&a->shape, &k->out[0]->shape)) b = narrow_b, changed = true;
    if (narrow_a != a && shape_equal(&b->shape, &k->out[0]->shape)) a = narrow_a, changed = true;
    if (!changed) return NULL;
    elbo_tensor *t = graph_add(r->to, k->op, k->attr, 2, (elbo_tensor *[]){a, b}, k->name);
    if (t) t->producer->phase = k->phase;
    return t;
  }
  return NULL;
}
