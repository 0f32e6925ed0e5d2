// Parameters outside of graphs: one flat buffer a kind.
#include "graph/store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "graph/store_memory.h"
#include "ops/initial_values.h"
#include "ops/op.h"

enum { STORE_ALIGN = 16 }; // floats: one cache line

static int by_kind_and_name(const void *a, const void *b) {
  const node *const *x = a, *const *y = b;
  int kx = (int)((const parameter_attr *)(*x)->attr)->kind, ky = (int)((const parameter_attr *)(*y)->attr)->kind;
  return kx != ky ? kx - ky : strcmp((*x)->name, (*y)->name);
}

typedef struct initial_values {
  elbo_init_kind kind;
  double scale;
  uint32_t stream;
  uint64_t seed;
  float *to;
  int64_t count;
  uniform_values_fn uniform;
} initial_values;

// Blocks of four numbers. So many of them take half a millisecond: below that it is not worth waiting for the other threads, which may be
// busy with the first batches.
enum { DRAW_GRAIN = 1 << 16 };

static void draw_blocks(void *arg, int64_t begin, int64_t end) {
  const initial_values *j = arg;
  bool uniform = j->kind == ELBO_INIT_KIND_UNIFORM || j->kind == ELBO_INIT_KIND_FAN_IN;
  if (uniform && j->count <= (int64_t)1 << 34) {
    j->uniform(j->seed, j->stream, j->scale, begin, end, j->count, j->to);
    return;
  }
  for (int64_t block = begin; block < end; block++) {
    uint32_t w[4] = {0};
    double v[4] = {j->scale, j->scale, j->scale, j->scale};
    // sample: the high bits of the block number, so that a tensor may have more than 2^34 elements
    if (j->kind != ELBO_INIT_KIND_ZEROS && j->kind != ELBO_INIT_KIND_CONSTANT)
      philox_draw(j->seed, j->stream, (uint64_t)block >> 32, (uint32_t)block, w);
    if (j->kind == ELBO_INIT_KIND_NORMAL) {
      philox_normal2(w[0], w[1], v);
      philox_normal2(w[2], w[3], v + 2);
      for (int i = 0; i < 4; i++) v[i] *= j->scale;
    } else if (uniform) {
      for (int i = 0; i < 4; i++) v[i] = (2 * philox_uniform(w[i]) - 1) * j->scale;
    }
    for (int64_t i = 0; i < 4 && block * 4 + i < j->count; i++) j->to[block * 4 + i] = (float)v[i];
  }
}

// Fills one parameter from (seed, name).
void store_initialise(elbo_ctx *ctx, const node *leaf, uint64_t seed, float *to) {
  const parameter_attr *a = leaf->attr;
  initial_values j = {.kind = a->init.kind,
                      .scale = a->init.kind == ELBO_INIT_KIND_ZEROS ? 0 : a->init.scale,
                      .stream = philox_stream(leaf->name),
                      .seed = seed,
                      .to = to,
                      .count = shape_count(&a->shape),
                      .uniform = uniform_values_of(ctx->isa)};
  if (a->init.kind == ELBO_INIT_KIND_FAN_IN) {
    int64_t fan = a->init.fan_in;
    if (fan <= 0) fan = a->shape.rank > 1 ? j.count / a->shape.dim[0] : j.count;
    j.scale /= sqrt((double)fan);
  }
  parallel_for(&ctx->pool, (j.count + 3) / 4, DRAW_GRAIN, draw_blocks, &j);
}

elbo_status store_collect(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, node ***out, int *n_out) {
  int64_t n = 0, cap = 0;
  node **all = NULL;
  for (int i = 0; i < n_graphs; i++) {
    elbo_status status = elbo_graph_check(graphs[i]);
    for (int64_t k = 0; status == ELBO_OK && k < graphs[i]->n_nodes; k++)
      if (graphs[i]->nodes[k]->op == &op_parameter) {
        status = array_grow(ctx, &all, &cap, n + 1, sizeof *all);
        if (status == ELBO_OK) all[n++] = graphs[i]->nodes[k];
      }
    if (status != ELBO_OK) {
      free(all);
      return status;
    }
  }
  if (n) qsort(all, (size_t)n, sizeof *all, by_kind_and_name);
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) {
    const node *last = kept ? all[kept - 1] : NULL;
    if (last && strcmp(last->name, all[i]->name) == 0 && last->op == all[i]->op) {
      if (!shape_equal(&last->out[0]->shape, &all[i]->out[0]->shape)) {
        char a[SHAPE_TEXT], b[SHAPE_TEXT];
        elbo_status status = fail(ctx, ELBO_ERROR_ARGUMENT, "parameter %s has shape %s in one graph and %s in another", last->name,
                                  shape_text(&last->out[0]->shape, a), shape_text(&all[i]->out[0]->shape, b));
        free(all);
        return status;
      }
      continue;
    }
    all[kept++] = all[i];
  }
  for (int64_t i = 0; i < kept; i++) // sorted by kind first, so the same name under two kinds is apart
    for (int64_t k = i + 1; k < kept; k++)
      if (strcmp(all[i]->name, all[k]->name) == 0) {
        elbo_status status = fail(ctx, ELBO_ERROR_ARGUMENT, "parameter %s is of two kinds", all[i]->name);
        free(all);
        return status;
      }
  *out = all;
  *n_out = (int)kept;
  return ELBO_OK;
}

static elbo_status store_allocate(elbo_store *s) {
  for (int kind = 0; kind < 3; kind++)
    if (s->count[kind]) TRY(aligned_new(s->ctx, sizeof(float) * (size_t)s->count[kind], "parameters", (void **)&s->data[kind]));
  for (int i = 0; i < s->n; i++) s->entries[i].at = s->data[s->entries[i].kind] + s->entries[i].offset;
  return ELBO_OK;
}

elbo_status store_new(elbo_ctx *ctx, int n, node *const *nodes, elbo_store **out) {
  elbo_status status = ELBO_OK;
  elbo_store *s = calloc(1, sizeof *s);
  if (!s) return fail_memory(ctx, sizeof *s, "a store");
  s->ctx = ctx;
  s->keep_transformed = KEEP_TRANSFORMED;
  s->n = n;
  s->arena = arena_create(16 << 10);
  s->entries = s->arena ? arena_alloc(s->arena, sizeof *s->entries * (size_t)(n ? n : 1)) : NULL;
  if (!s->entries) {
    status = fail_memory(ctx, sizeof *s->entries * (size_t)n, "a store");
    goto fail;
  }
  for (int i = 0; i < n; i++) {
    const parameter_attr *a = nodes[i]->attr;
    int64_t count = shape_count(&a->shape);
    s->entries[i] = (store_entry){.name = arena_string(s->arena, nodes[i]->name), .kind = a->kind, .shape = a->shape, .count = count};
    s->entries[i].offset = s->count[a->kind];
    s->count[a->kind] += (count + STORE_ALIGN - 1) / STORE_ALIGN * STORE_ALIGN;
    if (!s->entries[i].name) {
      status = fail_memory(ctx, strlen(nodes[i]->name), "a parameter's name");
      goto fail;
    }
  }
  elbo_store_touch(s);
  s->identity = s->version;
  *out = s;
  return ELBO_OK;
fail:
  elbo_store_destroy(&s);
  return status;
}

elbo_status elbo_store_create(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, uint64_t seed, elbo_store **out) {
  *out = NULL;
  node **nodes = NULL;
  int n = 0;
  elbo_store *s = NULL;
  TRY(store_collect(ctx, n_graphs, graphs, &nodes, &n));
  elbo_status status = store_new(ctx, n, nodes, &s);
  if (status == ELBO_OK) status = store_allocate(s);
  for (int i = 0; i < n && status == ELBO_OK; i++) store_initialise(ctx, nodes[i], seed, store_data(s, i));
  free(nodes);
  if (status != ELBO_OK)
    elbo_store_destroy(&s);
  else
    *out = s;
  return status;
}

elbo_status elbo_store_copy(elbo_ctx *ctx, const elbo_store *store, elbo_store **out) {
  *out = NULL;
  elbo_store *s = calloc(1, sizeof *s);
  if (!s) return fail_memory(ctx, sizeof *s, "a store");
  s->ctx = ctx;
  s->no_winograd = store->no_winograd;
  s->precision = store->precision;
  s->keep_transformed = store->keep_transformed;
  s->n = store->n;
  s->arena = arena_create(16 << 10);
  s->entries = s->arena ? arena_alloc(s->arena, sizeof *s->entries * (size_t)(s->n ? s->n : 1)) : NULL;
  bool ok = s->entries != NULL;
  for (int i = 0; ok && i < s->n; i++) {
    s->entries[i] = store->entries[i];
    s->entries[i].name = arena_string(s->arena, store->entries[i].name);
    ok = s->entries[i].name != NULL;
  }
  memcpy(s->count, store->count, sizeof s->count);
  elbo_status status = ok ? store_allocate(s) : fail_memory(ctx, sizeof *s->entries * (size_t)s->n, "a store");
  if (status != ELBO_OK) {
    elbo_store_destroy(&s);
    return status;
  }
  store_assign(s, store);
  s->identity = s->version;
  *out = s;
  return ELBO_OK;
}

void elbo_store_destroy(elbo_store **store) {
  elbo_store *s = store ? *store : NULL;
  if (!s) return;
  for (int kind = 0; kind < 3; kind++) aligned_free(s->data[kind]);
  store_release_memory(s);
  arena_destroy(&s->arena);
  free(s);
  *store = NULL;
}

bool store_same_layout(const elbo_store *a, const elbo_store *b) {
  if (a->n != b->n) return false;
  for (int i = 0; i < a->n; i++)
    if (a->entries[i].kind != b->entries[i].kind || strcmp(a->entries[i].name, b->entries[i].name) != 0 ||
        !shape_equal(&a->entries[i].shape, &b->entries[i].shape))
      return false;
  return true;
}

void store_assign(elbo_store *to, const elbo_store *from) {
  for (int i = 0; i < to->n; i++) memcpy(store_data(to, i), store_data(from, i), sizeof(float) * (size_t)to->entries[i].count);
  elbo_store_touch(to);
}

int elbo_store_count(const elbo_store *store) { return store->n; }

static void fill_info(const elbo_store *s, int i, elbo_param_info *out) {
  const store_entry *e = &s->entries[i];
  *out = (elbo_param_info){.name = e->name, .kind = e->kind, .rank = e->shape.rank, .count = e->count, .data = store_data(s, i)};
  memcpy(out->dim, e->shape.dim, sizeof out->dim);
}

elbo_status elbo_store_get(const elbo_store *store, int i, elbo_param_info *out) {
  if (i < 0 || i >= store->n) return fail(store->ctx, ELBO_ERROR_ARGUMENT, "parameter %d of a store that has %d", i, store->n);
  fill_info(store, i, out);
  return ELBO_OK;
}

int store_index(const elbo_store *s, const char *name) {
  int begin = 0;
  for (int kind = 0; kind < 3; kind++) { // entries are sorted within a kind
    int end = begin;
    while (end < s->n && (int)s->entries[end].kind == kind) end++;
    int lo = begin, hi = end;
    while (lo < hi) {
      int mid = lo + (hi - lo) / 2, c = strcmp(s->entries[mid].name, name);
      if (c == 0) return mid;
      if (c < 0)
        lo = mid + 1;
      else
        hi = mid;
    }
    begin = end;
  }
  return -1;
}

elbo_status elbo_store_find(const elbo_store *store, const char *name, elbo_param_info *out) {
  int i = store_index(store, name);
  if (i < 0) return fail(store->ctx, ELBO_ERROR_ARGUMENT, "the store has no parameter %s", name);
  fill_info(store, i, out);
  return ELBO_OK;
}

void elbo_store_touch(elbo_store *store) { store->version = __atomic_add_fetch(&store->ctx->serial, 1, __ATOMIC_RELAXED); }

void store_trained_range(const elbo_store *s, const char *prefix, int64_t *begin, int64_t *end) {
  size_t n = strlen(prefix);
  *begin = *end = 0;
  bool any = false;
  for (int i = 0; i < s->n && s->entries[i].kind == ELBO_PARAM_TRAINED; i++) {
    if (strncmp(s->entries[i].name, prefix, n) != 0) continue;
    if (!any) *begin = s->entries[i].offset;
    any = true;
    *end = s->entries[i].offset + (s->entries[i].count + STORE_ALIGN - 1) / STORE_ALIGN * STORE_ALIGN;
  }
}
