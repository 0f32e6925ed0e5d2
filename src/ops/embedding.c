// embedding: rows of a table by their numbers.
#include <elbo/ops.h>

#include "ops/embedding.h"

static bool check_index(elbo_graph *g, const node *n) {
  const elbo_tensor *index = n->in[0];
  char text[SHAPE_TEXT];
  if (index->dtype == ELBO_I32 && index->shape.rank < ELBO_MAX_RANK) return true;
  return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: index is %s %s, expected int32 of rank %d at most", n->op->name,
                    elbo_dtype_name(index->dtype), shape_text(&index->shape, text), ELBO_MAX_RANK - 1);
}

static bool embedding_infer(elbo_graph *g, node *n) {
  const elbo_tensor *index = n->in[0], *table = n->in[1];
  elbo_tensor *y = n->out[0];
  if (!check_index(g, n)) return false;
  if (table->dtype != ELBO_F32 || table->shape.rank != 2) {
    char text[SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "embedding: table is %s %s, expected float32 (V,D)", elbo_dtype_name(table->dtype),
                      shape_text(&table->shape, text));
  }
  y->dtype = ELBO_F32;
  y->shape = index->shape;
  y->shape.dim[y->shape.rank++] = table->shape.dim[1];
  return true;
}

static bool embedding_grad_infer(elbo_graph *g, node *n) {
  const embedding_attr *a = n->attr;
  const shape *dy = &n->in[1]->shape;
  if (!check_index(g, n)) return false;
  shape leading = *dy;
  if (leading.rank > 0) leading.dim[--leading.rank] = 0;
  if (dy->rank < 1 || a->rows < 1 || !shape_equal(&leading, &n->in[0]->shape)) {
    char text[2][SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "embedding_grad: dy %s does not belong to index %s", shape_text(dy, text[0]),
                      shape_text(&n->in[0]->shape, text[1]));
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = shape_of(2, (int64_t[]){a->rows, dy->dim[dy->rank - 1]});
  return true;
}

static bool embedding_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  embedding_attr a = {n->in[1]->shape.dim[0]};
  if (!wanted[1]) return true;
  dx[1] = graph_add(g, &op_embedding_grad, &a, 2, (elbo_tensor *[]){n->in[0], dy[0]}, NULL);
  return dx[1] != NULL;
}

static bool embedding_grad_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  if (!wanted[1]) return true;
  dx[1] = elbo_embedding(n->in[0], dy[0]);
  return dx[1] != NULL;
}

const op_def op_embedding = {
    .name = "embedding",
    .n_in = 2,
    .n_out = 1,
    .infer = embedding_infer,
    .gradient = embedding_gradient,
    .reference = embedding_ref,
};

const op_def op_embedding_grad = {
    .name = "embedding_grad",
    .attr_size = sizeof(embedding_attr),
    .n_in = 2,
    .n_out = 1,
    .infer = embedding_grad_infer,
    .gradient = embedding_grad_gradient,
    .reference = embedding_grad_ref,
};

elbo_tensor *elbo_embedding(elbo_tensor *index, elbo_tensor *table) {
  elbo_tensor *in[] = {index, table};
  elbo_graph *g = graph_of(2, in);
  return g ? graph_add(g, &op_embedding, NULL, 2, in, NULL) : NULL;
}
