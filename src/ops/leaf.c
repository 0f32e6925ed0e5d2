// Leaves (input, parameter, constant) and what only renames or routes: reshape, stop_gradient, scale_gradient.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "ops/freeze.h"
#include "ops/op.h"

// --- leaves ---

static bool input_infer(elbo_graph *g, node *n) {
  const input_attr *a = n->attr;
  if (a->dtype != ELBO_F32 && a->dtype != ELBO_I32 && a->dtype != ELBO_I64)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "input %s: dtype float32, int32 or int64 expected, not %s", n->name,
                      elbo_dtype_name(a->dtype));
  n->out[0]->dtype = a->dtype;
  n->out[0]->shape = a->shape;
  return true;
}

const op_def op_input = {.name = "input", .attr_size = sizeof(input_attr), .n_out = 1, .flags = OP_LEAF, .infer = input_infer};

static bool parameter_infer(elbo_graph *g, node *n) {
  (void)g;
  n->out[0]->shape = ((const parameter_attr *)n->attr)->shape;
  return true;
}

const op_def op_parameter = {
    .name = "parameter", .attr_size = sizeof(parameter_attr), .n_out = 1, .flags = OP_LEAF, .infer = parameter_infer};

static bool constant_infer(elbo_graph *g, node *n) {
  (void)g;
  n->out[0]->shape = ((const constant_attr *)n->attr)->shape;
  return true;
}

const op_def op_constant = {.name = "constant", .attr_size = sizeof(constant_attr), .n_out = 1, .flags = OP_LEAF, .infer = constant_infer};

static bool rank_fits(elbo_graph *g, const char *what, int rank) {
  if (rank >= 0 && rank <= ELBO_MAX_RANK) return true;
  return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: rank 0 to %d expected, not %d", what, ELBO_MAX_RANK, rank);
}

node *find_leaf(const elbo_graph *g, const op_def *op, const char *name) {
  for (int64_t i = 0; i < g->n_nodes; i++)
    if (g->nodes[i]->op == op && strcmp(g->nodes[i]->name, name) == 0) return g->nodes[i];
  return NULL;
}

static elbo_tensor *leaf_again(elbo_graph *g, node *n, const void *attr, elbo_dtype dtype, shape s) {
  char a[SHAPE_TEXT], b[SHAPE_TEXT];
  if (memcmp(n->attr, attr, n->op->attr_size) == 0) return n->out[0];
  if (!shape_equal(&s, &n->out[0]->shape) || n->out[0]->dtype != dtype)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s %s asked for as %s %s and earlier as %s %s", n->op->name, n->name, elbo_dtype_name(dtype),
                      shape_text(&s, a), elbo_dtype_name(n->out[0]->dtype), shape_text(&n->out[0]->shape, b));
  return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s %s asked for twice with different kind or initial value", n->op->name, n->name);
}

elbo_tensor *elbo_input(elbo_graph *g, const char *name, elbo_dtype dtype, int rank, const int64_t *dim) {
  if (!g || g->error != ELBO_OK || !rank_fits(g, name, rank)) return NULL;
  input_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.dtype = dtype;
  attr.shape = shape_of(rank, dim);
  node *old = find_leaf(g, &op_input, name);
  if (old) return leaf_again(g, old, &attr, dtype, attr.shape);
  return graph_add(g, &op_input, &attr, 0, NULL, name);
}

elbo_tensor *elbo_parameter(elbo_graph *g, const char *name, int rank, const int64_t *dim, elbo_param_kind kind, elbo_init init) {
  if (!g || g->error != ELBO_OK || !rank_fits(g, name, rank)) return NULL;
  parameter_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.kind = kind;
  attr.init.kind = init.kind;
  attr.init.scale = init.scale;
  attr.init.fan_in = init.fan_in;
  attr.shape = shape_of(rank, dim);
  const char *full = scoped_name(g, name);
  if (!full) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for parameter %s", name);
  node *old = find_leaf(g, &op_parameter, full);
  if (old) return leaf_again(g, old, &attr, ELBO_F32, attr.shape);
  return graph_add(g, &op_parameter, &attr, 0, NULL, full);
}

void graph_freeze(elbo_graph *g, const char *prefix) {
  for (int64_t i = 0; g && i < g->n_nodes; i++) {
    const node *n = g->nodes[i];
    if (n->op != &op_parameter || strncmp(n->name, prefix, strlen(prefix)) != 0) continue;
    parameter_attr *attr = (parameter_attr *)n->attr; // the graph's own copy
    if (attr->kind == ELBO_PARAM_TRAINED) attr->kind = ELBO_PARAM_FROZEN;
  }
}

elbo_tensor *elbo_constant_array(elbo_graph *g, int rank, const int64_t *dim, const float *values) {
  if (!g || g->error != ELBO_OK || !rank_fits(g, "constant", rank)) return NULL;
  shape s = shape_of(rank, dim);
  int64_t count = 1;
  for (int i = 0; i < rank; i++)
    if (dim[i] <= 0 || !checked_mul(count, dim[i], &count) || count > (1 << 22))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "constant: 1 to 4194304 values expected");
  size_t bytes = sizeof(constant_attr) + sizeof(float) * (size_t)count;
  constant_attr *attr = calloc(1, bytes);
  if (!attr) return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for a constant");
  attr->shape = s;
  memcpy(attr->values, values, sizeof(float) * (size_t)count);
  node *n = graph_add_sized(g, &op_constant, attr, bytes, 0, NULL, NULL);
  free(attr);
  return n ? n->out[0] : NULL;
}

elbo_tensor *elbo_constant(elbo_graph *g, double value) { return elbo_constant_array(g, 0, NULL, &(float){(float)value}); }

// --- reshape ---

static bool reshape_infer(elbo_graph *g, node *n) {
  const shape *s = n->attr, *x = &n->in[0]->shape;
  char a[SHAPE_TEXT], b[SHAPE_TEXT];
  if (shape_count(s) != shape_count(x))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "reshape: %s has %lld elements and cannot become %s", shape_text(x, a),
                      (long long)shape_count(x), shape_text(s, b));
  n->out[0]->dtype = n->in[0]->dtype;
  n->out[0]->shape = *s;
  return true;
}

static bool reshape_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)wanted;
  dx[0] = elbo_reshape(dy[0], n->in[0]->shape.rank, n->in[0]->shape.dim);
  return dx[0] != NULL;
}

const op_def op_reshape = {.name = "reshape",
                           .attr_size = sizeof(shape),
                           .n_in = 1,
                           .n_out = 1,
                           .flags = OP_VIEW,
                           .infer = reshape_infer,
                           .gradient = reshape_gradient};

elbo_tensor *elbo_reshape(elbo_tensor *x, int rank, const int64_t *dim) {
  elbo_graph *g = graph_of(1, &x);
  if (!g || !rank_fits(g, "reshape", rank)) return NULL;
  shape s;
  memset(&s, 0, sizeof s);
  s.rank = rank;
  int free_axis = -1;
  int64_t known = 1;
  for (int i = 0; i < rank; i++) {
    s.dim[i] = dim[i];
    if (dim[i] == -1 && free_axis < 0)
      free_axis = i;
    else if (dim[i] <= 0 || !checked_mul(known, dim[i], &known))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "reshape: axis %d cannot have length %lld", i, (long long)dim[i]);
  }
  if (free_axis >= 0) s.dim[free_axis] = shape_count(&x->shape) / known;
  if (shape_equal(&s, &x->shape)) return x;
  return graph_add(g, &op_reshape, &s, 1, &x, NULL);
}

// --- routing: identities forward, removed when a plan is compiled ---

static bool identity_infer(elbo_graph *g, node *n) {
  (void)g;
  n->out[0]->dtype = n->in[0]->dtype;
  n->out[0]->shape = n->in[0]->shape;
  return true;
}

const op_def op_stop_gradient = {
    .name = "stop_gradient", .n_in = 1, .n_out = 1, .flags = OP_VIEW, .infer = identity_infer, .gradient = no_gradient};

elbo_tensor *elbo_stop_gradient(elbo_tensor *x) {
  elbo_graph *g = graph_of(1, &x);
  return g ? graph_add(g, &op_stop_gradient, NULL, 1, &x, NULL) : NULL;
}

static bool scale_gradient_infer(elbo_graph *g, node *n) {
  char a[SHAPE_TEXT], b[SHAPE_TEXT];
  shape s;
  if (!shape_broadcast(&n->in[0]->shape, &n->in[1]->shape, &s) || !shape_equal(&s, &n->in[0]->shape))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "scale_gradient: factor %s does not broadcast to %s", shape_text(&n->in[1]->shape, a),
                      shape_text(&n->in[0]->shape, b));
  return identity_infer(g, n);
}

static bool scale_gradient_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)wanted;
  dx[0] = elbo_mul(dy[0], n->in[1]);
  return dx[0] != NULL;
}

const op_def op_scale_gradient = {
    .name = "scale_gradient", .n_in = 2, .n_out = 1, .flags = OP_VIEW, .infer = scale_gradient_infer, .gradient = scale_gradient_gradient};

elbo_tensor *elbo_scale_gradient(elbo_tensor *x, elbo_tensor *factor) {
  elbo_tensor *in[2] = {x, factor};
  elbo_graph *g = graph_of(2, in);
  return g ? graph_add(g, &op_scale_gradient, NULL, 2, in, NULL) : NULL;
}
