#include "support/plan_runs.h"

#include <math.h>
#include <stdlib.h>

#include "ops/op.h"
#include "support/test.h"

double *plan_values(elbo_ctx *c, elbo_graph *g, int n, elbo_tensor **out, plan_options o, elbo_store *store, elbo_plan_info *info,
                    int64_t *count) {
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = o.kind;
  config.fuse = o.fuse;
  config.poison = o.poison;
  config.memory_limit = o.limit;
  elbo_plan *p;
  assert_ok(c, elbo_plan_create(c, g, n, out, &config, &p));
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *k = g->nodes[i];
    if (k->op != &op_input || !elbo_plan_input(p, k->name)) continue;
    int64_t size = shape_count(&k->out[0]->shape);
    if (k->out[0]->dtype == ELBO_F32) {
      float *values = calloc((size_t)size, sizeof *values);
      test_random of_name = {.seed = 5 + (uint64_t)k->name[0]};
      test_fill_normal(&of_name, values, size, 1);
      assert_ok(c, elbo_plan_set(p, k->name, values, size));
      free(values);
    } else {
      for (int64_t q = 0; q < size; q++) ((int64_t *)elbo_plan_input(p, k->name))[q] = 11 + 2 * q;
    }
  }
  int64_t a, b, total = 0, at = 0;
  assert_true(memory_plan_sound(p->n_buffers, p->buffers, &a, &b));
  assert_ok(c, elbo_plan_run(p, store));
  assert_ok(c, elbo_plan_run(p, store)); // meets used memory
  for (int i = 0; i < n; i++) total += shape_count(&out[i]->shape);
  double *values = calloc((size_t)total, sizeof *values);
  for (int i = 0; i < n; i++) {
    int64_t size = shape_count(&out[i]->shape);
    const void *y = elbo_plan_output(p, i);
    for (int64_t q = 0; q < size; q++)
      values[at++] = o.kind == ELBO_BACKEND_REFERENCE ? ((const double *)y)[q] : (double)((const float *)y)[q];
  }
  if (info) elbo_plan_get_info(p, info);
  elbo_plan_destroy(&p);
  *count = total;
  return values;
}

void plan_variants_agree(elbo_ctx *ctx, elbo_graph *g, int n, elbo_tensor **out, elbo_store *store, uint64_t seed) {
  int64_t count;
  double *ref = plan_values(ctx, g, n, out, (plan_options){.kind = ELBO_BACKEND_REFERENCE}, store, NULL, &count), scale = 0;
  for (int64_t i = 0; i < count; i++) scale = fmax(scale, fabs(ref[i]));
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *c = test_ctx_isa(2, (isa_level)isa);
    elbo_plan_info plain = {0}, fused = {0};
    if (!c) continue;
    for (int mode = 0; mode < 3; mode++) { // the graph belongs to ctx, the plan to c
      double *y = plan_values(c, g, n, out, (plan_options){.fuse = mode > 0, .poison = mode < 2}, store, mode ? &fused : &plain, &count);
      for (int64_t i = 0; i < count; i++)
        if (!(fabs(y[i] - ref[i]) <= 1e-4 * (1 + scale)))
          fail_msg("seed %llu, variant %s, mode %d: value %lld is %.9g, reference %.9g", (unsigned long long)seed, isa_name((isa_level)isa),
                   mode, (long long)i, y[i], ref[i]);
      free(y);
    }
    assert_true(fused.steps < plain.steps);
    assert_true(plain.arena_bytes < plain.unshared_bytes); // memory is shared
    elbo_ctx_destroy(&c);
  }
  free(ref);
}
