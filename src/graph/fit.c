// Making a plan fit: what costs least in time first.
#include "graph/fit.h"

#include <stdlib.h>
#include <string.h>

#include "graph/recompute.h"
#include "graph/segments.h"

// 1. What is as good as free to run again, at the fullest step, then at what is the fullest then, and so on.
// 2. The same after dividing the forward pass into segments of which some run twice, in the order of their work.
// 3. With the division that takes least: any operation at the fullest step.
enum { ROUNDS = 200, IDLE_ROUNDS = 8, PORTIONS = 32, DIVISIONS = 64 };
static const int segments[] = {2, 3, 4, 6, 8, 12, 16, 24};

typedef struct fitting {
  elbo_plan *p;
  compile_env *env;
  const elbo_plan_config *config;
  const elbo_plan *whole; // as it is without a limit
  elbo_tensor *const *whole_tensors;
  elbo_tensor **tensors;
  int64_t least; // of all that has been tried
} fitting;

static bool fits(const fitting *f) { return f->p->arena_bytes <= f->config->memory_limit; }

static elbo_status replace(fitting *f, elbo_graph *graph) {
  plan_forget(f->p);
  elbo_graph_destroy(&f->p->graph);
  f->p->graph = graph;
  TRY(plan_place(f->p, f->env, f->config, f->tensors));
  if (f->p->arena_bytes < f->least) f->least = f->p->arena_bytes;
  return ELBO_OK;
}

static elbo_status rounds(fitting *f, bool dear) {
  elbo_plan *p = f->p;
  int64_t best = p->arena_bytes, portion = p->arena_bytes / PORTIONS + 1;
  for (int round = 0, idle = 0; !fits(f) && round < ROUNDS && idle < IDLE_ROUNDS; round++) {
    elbo_graph *smaller = NULL;
    int count = 0;
    TRY(recompute_once(p, portion, dear, p->n_outputs, f->tensors, &smaller, &count));
    if (!count) break;
    TRY(replace(f, smaller));
    p->recomputed += count;
    idle = p->arena_bytes < best ? 0 : idle + 1;
    if (p->arena_bytes < best) best = p->arena_bytes;
  }
  return ELBO_OK;
}

static elbo_status divide(fitting *f, division *d) {
  elbo_graph *graph = NULL;
  memcpy(f->tensors, f->whole_tensors, sizeof *f->tensors * (size_t)f->p->n_outputs);
  TRY(recompute_segments(f->whole, d, f->tensors, &graph));
  f->p->recomputed = d->doubled;
  TRY(replace(f, graph));
  return rounds(f, false);
}

static int by_work(const void *a, const void *b) {
  const division *x = a, *y = b;
  if (x->work != y->work) return x->work < y->work ? -1 : 1;
  return x->segments != y->segments ? x->segments - y->segments : x->again - y->again;
}

// None first, then a quarter, half, three quarters and all of each number of segments, those with least work first.
static elbo_status list_divisions(const fitting *f, division *list, int *count) {
  list[0] = (division){.segments = 1};
  *count = 1;
  for (size_t i = 0; i < sizeof segments / sizeof *segments; i++) {
    for (int quarter = 1, last = 0; quarter <= 4; quarter++) {
      division d = {.segments = segments[i], .again = (segments[i] - 1) * quarter / 4};
      if (d.again == last) continue;
      last = d.again;
      TRY(recompute_segments(f->whole, &d, (elbo_tensor **)f->whole_tensors, NULL));
      if (d.doubled) list[(*count)++] = d;
    }
  }
  qsort(list, (size_t)*count, sizeof *list, by_work);
  return ELBO_OK;
}

static elbo_status try_all(fitting *f) {
  division list[DIVISIONS], *best = list;
  int64_t best_bytes = INT64_MAX;
  int count;
  TRY(list_divisions(f, list, &count));
  for (int i = 0; i < count; i++) {
    TRY(divide(f, &list[i]));
    if (fits(f)) return ELBO_OK;
    if (f->p->arena_bytes < best_bytes) best_bytes = f->p->arena_bytes, best = &list[i];
  }
  TRY(divide(f, best));
  return rounds(f, true);
}

elbo_status plan_fit(elbo_plan *p, compile_env *env, const elbo_plan_config *config, elbo_tensor **tensors) {
  fitting f = {.p = p, .env = env, .config = config, .tensors = tensors, .least = p->arena_bytes};
  if (config->least_bytes) *config->least_bytes = f.least;
  if (fits(&f)) return ELBO_OK;
  void *copy;
  TRY(array_new(p->ctx, (size_t)p->n_outputs + 1, sizeof *tensors, "a plan", &copy));
  f.whole_tensors = memcpy(copy, tensors, sizeof *tensors * (size_t)p->n_outputs);
  elbo_plan whole;
  plan_move_out(p, &whole);
  f.whole = &whole;
  elbo_status status = try_all(&f);
  plan_forget(&whole);
  elbo_graph_destroy(&whole.graph);
  free(copy);
  TRY(status);
  if (config->least_bytes) *config->least_bytes = f.least;
  if (fits(&f)) return ELBO_OK;
  return fail(p->ctx, ELBO_ERROR_MEMORY, "graph %s: memory_limit is %lld bytes, the least that its plan can do with is %lld",
              p->graph->name, (long long)config->memory_limit, (long long)f.least);
}
