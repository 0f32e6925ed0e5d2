// The plans of a training step's phases, and how they share train.memory_limit.
#include <math.h>
#include <stdlib.h>

#include "train/trainer.h"

// limit: bytes of its arena, 0: none; *least: what is possible where that is not.
static elbo_status make_plan(trainer *t, phase_state *p, int64_t limit, int64_t *least) {
  const train_phase *def = p->def;
  const trained_list *list = &p->list;
  size_t most = (size_t)(3 + def->n_metrics + list->n);
  void *memory;
  TRY(array_new(t->ctx, most, sizeof(elbo_tensor *), "a phase's outputs", &memory));
  elbo_tensor **outputs = memory;
  elbo_status status = array_new(t->ctx, most, 1, "a phase's outputs", &memory);
  unsigned char *external = status == ELBO_OK ? memory : NULL;
  int n = 0;
  outputs[n++] = def->loss;
  if (def->enable) outputs[n++] = def->enable;
  if (def->observed) outputs[n++] = def->observed;
  for (int i = 0; i < def->n_metrics; i++) outputs[n++] = def->metrics[i].value;
  int first_gradient = n;
  for (int64_t k = 0; status == ELBO_OK && k < list->n; k++)
    if (list->gradient[k]) {
      external[n] = 1;
      outputs[n++] = list->gradient[k];
    }
  if (status == ELBO_OK) {
    elbo_plan_config config;
    elbo_plan_defaults(&config);
    config.no_winograd = t->weights->no_winograd;
    config.precision = t->weights->precision;
    config.memory_limit = limit, config.least_bytes = least;
    config.external_outputs = external;
    status = elbo_plan_create(t->ctx, def->graph, n, outputs, &config, &p->plan);
  }
  float *to = t->micro ? t->micro : t->gradient;
  for (int64_t k = 0, i = first_gradient; status == ELBO_OK && k < list->n; k++)
    if (list->gradient[k]) elbo_plan_bind_output(p->plan, (int)i++, to + list->entry[k]->offset);
  free(outputs);
  free(external);
  return status;
}

// Plans again, with less. What is no intermediate tensor stays; the phases, whose tensors are all there at once, share the rest as they
// would without a limit.
static elbo_status shrink(trainer *t, const elbo_train_cost *whole) {
  const int64_t limit = t->config->memory_limit, rest = whole->planned_bytes - whole->arena_bytes;
  double needed = 0; // of all arenas
  for (int i = 0; i < t->n_phases; i++) {
    phase_state *p = &t->phases[i];
    elbo_plan_info before, after;
    elbo_plan_get_info(p->plan, &before);
    const double part = (double)before.arena_bytes / (double)whole->arena_bytes;
    const int64_t share = limit > rest ? (int64_t)(part * (double)(limit - rest)) : 0;
    int64_t least = 0;
    elbo_plan_destroy(&p->plan);
    elbo_status status = make_plan(t, p, share > 0 ? share : 1, &least);
    if (status == ELBO_ERROR_MEMORY && least > share) {
      needed = fmax(needed, ceil((double)least / part));
      continue;
    }
    TRY(status);
    elbo_plan_get_info(p->plan, &after);
    t->recomputed += after.recomputed, t->recomputed_bytes += after.moved_bytes - before.moved_bytes;
    t->recomputed_flops += after.flops - before.flops;
  }
  if (needed > 0)
    return fail(t->ctx, ELBO_ERROR_MEMORY,
                "train.memory_limit: %lld bytes; a step takes %lld, and %lld at the least, with all computed again that can be; "
                "a smaller train.batch_size takes less",
                (long long)limit, (long long)whole->planned_bytes,
                (long long)(rest + (int64_t)needed + (t->n_phases > 1 ? 64 : 0))); // shares are rounded
  return ELBO_OK;
}

elbo_status step_plans_create(trainer *t) {
  for (int i = 0; i < t->n_phases; i++) TRY(make_plan(t, &t->phases[i], 0, NULL));
  if (!t->config->memory_limit) return ELBO_OK;
  elbo_train_cost whole, now;
  trainer_get_cost(t, &whole);
  if (whole.planned_bytes <= t->config->memory_limit) return ELBO_OK;
  TRY(shrink(t, &whole));
  trainer_get_cost(t, &now);
  log_info(
      t->ctx,
      "train.memory_limit: %lld bytes in place of %lld; %lld operations run twice: %.1f %% more bytes moved, %.1f %% more FLOPs in a step",
      (long long)now.planned_bytes, (long long)whole.planned_bytes, (long long)now.recomputed,
      100 * (double)now.recomputed_bytes / (double)whole.moved_bytes, 100 * (double)now.recomputed_flops / (double)whole.flops_per_step);
  return ELBO_OK;
}
