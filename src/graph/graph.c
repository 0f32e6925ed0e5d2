// Graphs: creation, scopes, adding nodes, the sticky error.
#include "backend/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/sha256.h"
#include "ops/op.h"

elbo_status elbo_graph_create(elbo_ctx *ctx, const char *name, elbo_graph **out) {
  *out = NULL;
  elbo_graph *g = calloc(1, sizeof *g);
  if (!g) return fail_memory(ctx, sizeof *g, "a graph");
  g->ctx = ctx;
  g->arena = arena_create(64 << 10);
  g->name = g->arena ? arena_string(g->arena, name ? name : "graph") : NULL;
  g->scope = calloc(1, 64);
  g->cap_scope = 64;
  if (!g->name || !g->scope) {
    elbo_graph_destroy(&g);
    return fail_memory(ctx, 64 << 10, "a graph");
  }
  *out = g;
  return ELBO_OK;
}

void elbo_graph_destroy(elbo_graph **graph) {
  elbo_graph *g = graph ? *graph : NULL;
  if (!g) return;
  arena_destroy(&g->arena);
  free(g->tensors);
  free(g->nodes);
  free(g->updates);
  free(g->scope);
  free(g->error_text);
  free(g);
  *graph = NULL;
}

elbo_status elbo_graph_check(elbo_graph *g) {
  if (g->error == ELBO_OK) return ELBO_OK;
  return fail(g->ctx, g->error, "%s", g->error_text ? g->error_text : "out of memory while building a graph");
}

void *graph_fail(elbo_graph *g, elbo_status status, const char *format, ...) {
  if (g->error != ELBO_OK) return NULL;
  g->error = status;
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  size_t size = strlen(text) + strlen(g->name) + strlen(g->scope) + 16;
  g->error_text = malloc(size);
  if (g->error_text) snprintf(g->error_text, size, "graph %s: %s%s%s", g->name, g->scope, g->scope[0] ? " " : "", text);
  return NULL;
}

elbo_graph *graph_of(int n, elbo_tensor *const *xs) {
  elbo_graph *g = NULL;
  for (int i = 0; i < n; i++) {
    if (!xs[i]) return NULL;
    if (!g) g = xs[i]->graph;
    if (xs[i]->graph != g) return graph_fail(g, ELBO_ERROR_ARGUMENT, "tensors of two graphs in one operation (%s)", xs[i]->graph->name);
  }
  return g && g->error == ELBO_OK ? g : NULL;
}

// --- scopes ---

void elbo_scope_push(elbo_graph *g, const char *name) {
  int64_t have = (int64_t)strlen(g->scope), more = (int64_t)strlen(name);
  if (g->scope_depth == (int)(sizeof g->scope_length / sizeof *g->scope_length) ||
      array_grow(g->ctx, &g->scope, &g->cap_scope, have + more + 2, 1) != ELBO_OK) {
    graph_fail(g, ELBO_ERROR_MEMORY, "scope %s%s is too deep", g->scope, name);
    return;
  }
  g->scope_length[g->scope_depth++] = have;
  memcpy(g->scope + have, name, (size_t)more);
  memcpy(g->scope + have + more, ".", 2);
}

void elbo_scope_pop(elbo_graph *g) {
  if (g->scope_depth == 0)
    graph_fail(g, ELBO_ERROR_STATE, "elbo_scope_pop without a scope");
  else
    g->scope[g->scope_length[--g->scope_depth]] = 0;
}

const char *scoped_name(elbo_graph *g, const char *name) { return arena_printf(g->arena, "%s%s", g->scope, name); }

// --- nodes ---

node *graph_add_sized(elbo_graph *g, const op_def *op, const void *attr, size_t attr_bytes, int n_in, elbo_tensor *const *in,
                      const char *name) {
  if (!g || g->error != ELBO_OK) return NULL;
  if (op->n_in >= 0 && n_in != op->n_in)
    return graph_fail(g, ELBO_ERROR_INTERNAL, "%s takes %d inputs, was given %d", op->name, op->n_in, n_in);
  for (int i = 0; i < n_in; i++) {
    if (!in[i] && !(op->optional >> i & 1)) return NULL;
    if (in[i] && in[i]->graph != g) return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: input %d belongs to another graph", op->name, i);
  }
  int n_out = op->n_out >= 0 ? op->n_out : (int)*(const int64_t *)attr;
  if (n_out < 1 || n_out > 64) return graph_fail(g, ELBO_ERROR_INTERNAL, "%s with %d outputs", op->name, n_out);
  node *n = arena_alloc(g->arena, sizeof *n);
  if (!n) goto memory;
  *n = (node){.id = (int)g->n_nodes, .op = op, .n_in = n_in, .n_out = n_out, .attr_bytes = attr_bytes, .phase = g->phase};
  n->in = arena_alloc(g->arena, sizeof *n->in * (size_t)(n_in ? n_in : 1));
  n->out = arena_alloc(g->arena, sizeof *n->out * (size_t)n_out);
  n->name = name && name[0] ? arena_string(g->arena, name) : "";
  void *copy = arena_alloc(g->arena, attr_bytes ? attr_bytes : 1);
  if (!n->in || !n->out || !n->name || !copy) goto memory;
  if (attr_bytes && attr) memcpy(copy, attr, attr_bytes);
  n->attr = copy;
  if (n_in) memcpy(n->in, in, sizeof *n->in * (size_t)n_in);
  for (int i = 0; i < n_out; i++) {
    elbo_tensor *t = arena_alloc(g->arena, sizeof *t);
    if (!t) goto memory;
    *t = (elbo_tensor){.graph = g, .id = -1, .dtype = ELBO_F32, .producer = n, .output = i};
    n->out[i] = t;
  }
  if (!op->infer(g, n)) return NULL;
  for (int i = 0; i < n->n_out; i++) {
    int64_t count = 1;
    for (int d = 0; d < n->out[i]->shape.rank; d++)
      if (n->out[i]->shape.dim[d] < (i == 0) || // a later output may be absent: length 0
          !checked_mul(count, n->out[i]->shape.dim[d], &count) || count > INT64_MAX / 64) {
        char text[SHAPE_TEXT];
        return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s: its result would have shape %s", op->name, shape_text(&n->out[i]->shape, text));
      }
  }
  if (array_grow(g->ctx, &g->nodes, &g->cap_nodes, g->n_nodes + 1, sizeof *g->nodes) != ELBO_OK ||
      array_grow(g->ctx, &g->tensors, &g->cap_tensors, g->n_tensors + n->n_out, sizeof *g->tensors) != ELBO_OK)
    goto memory;
  g->nodes[g->n_nodes++] = n;
  for (int i = 0; i < n->n_out; i++) {
    n->out[i]->id = (int)g->n_tensors;
    g->tensors[g->n_tensors++] = n->out[i];
  }
  return n;
memory:
  return graph_fail(g, ELBO_ERROR_MEMORY, "out of memory while adding %s", op->name);
}

node *graph_add_node(elbo_graph *g, const op_def *op, const void *attr, int n_in, elbo_tensor *const *in, const char *name) {
  return graph_add_sized(g, op, attr, op->attr_size, n_in, in, name);
}

elbo_tensor *graph_add(elbo_graph *g, const op_def *op, const void *attr, int n_in, elbo_tensor *const *in, const char *name) {
  node *n = graph_add_node(g, op, attr, n_in, in, name);
  return n ? n->out[0] : NULL;
}

// --- tensors ---

int elbo_tensor_rank(const elbo_tensor *t) { return t ? t->shape.rank : 0; }

int64_t elbo_tensor_dim(const elbo_tensor *t, int axis) {
  if (!t) return 0;
  if (axis < 0) axis += t->shape.rank;
  return axis >= 0 && axis < t->shape.rank ? t->shape.dim[axis] : 0;
}

elbo_dtype elbo_tensor_dtype(const elbo_tensor *t) { return t ? t->dtype : ELBO_F32; }

elbo_graph *elbo_tensor_graph(const elbo_tensor *t) { return t ? t->graph : NULL; }

bool tensor_is_constant(const elbo_tensor *t, double *value) {
  if (t->producer->op != &op_constant || shape_count(&t->shape) != 1) return false;
  *value = (double)((const constant_attr *)t->producer->attr)->values[0];
  return true;
}

bool no_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)n, (void)dy, (void)wanted, (void)dx;
  return true;
}

void elbo_state_update(elbo_tensor *state, elbo_tensor *value) {
  elbo_graph *g = graph_of(2, (elbo_tensor *[]){state, value});
  if (!g) return;
  char a[SHAPE_TEXT], b[SHAPE_TEXT];
  if (state->producer->op != &op_parameter || ((const parameter_attr *)state->producer->attr)->kind != ELBO_PARAM_STATE) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "elbo_state_update: the first tensor is not a state parameter");
    return;
  }
  if (!shape_equal(&state->shape, &value->shape)) {
    graph_fail(g, ELBO_ERROR_ARGUMENT, "elbo_state_update of %s: shape %s expected, %s given", state->producer->name,
               shape_text(&state->shape, a), shape_text(&value->shape, b));
    return;
  }
  if (array_grow(g->ctx, &g->updates, &g->cap_updates, g->n_updates + 1, sizeof *g->updates) != ELBO_OK) {
    graph_fail(g, ELBO_ERROR_MEMORY, "out of memory for a state update");
    return;
  }
  g->updates[g->n_updates++] = (state_update){state, value};
}

void graph_hash(const elbo_graph *g, char out[65]) {
  sha256 hash;
  sha256_begin(&hash);
  for (int64_t id = 0; id < g->n_nodes; id++) {
    const node *n = g->nodes[id];
    sha256_add(&hash, n->op->name, strlen(n->op->name) + 1);
    sha256_add(&hash, n->attr, n->attr_bytes);
    for (int i = 0; i < n->n_in; i++) {
      const int from = n->in[i] ? n->in[i]->id : -1;
      sha256_add(&hash, &from, sizeof from);
    }
    if (n->op->flags & OP_LEAF) sha256_add(&hash, n->out[0]->shape.dim, sizeof(int64_t) * (size_t)n->out[0]->shape.rank);
  }
  sha256_end_hex(&hash, out);
}
