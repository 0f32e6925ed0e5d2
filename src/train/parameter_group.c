#include "train/parameter_group.h"

#include <math.h>
#include <stdlib.h>

// The padding between parameters belongs to the range before it: it is zero and stays so.
static elbo_status make_group(elbo_ctx *ctx, const train_config *config, int64_t n, const store_entry *const *entries, flat_range *ranges,
                              parameter_group *group, bool *empty) {
  int64_t k = 0;
  for (int64_t i = 0; i < n; i++) {
    if (train_group_of(config, entries[i]->name) != group->of) continue;
    int64_t begin = entries[i]->offset, end = begin + (entries[i]->count + 15) / 16 * 16;
    if (k && ranges[k - 1].end == begin)
      ranges[k - 1].end = end;
    else
      ranges[k++] = (flat_range){begin, end};
  }
  *empty = k == 0;
  return k ? optimizer_create(ctx, &group->config, k, ranges, &group->optimizer) : ELBO_OK;
}

elbo_status parameter_groups_create(elbo_ctx *ctx, const train_config *config, const optimizer_config *phase, int64_t n,
                                    const store_entry *const *entries, parameter_groups *out) {
  *out = (parameter_groups){0};
  void *memory;
  TRY(array_new(ctx, (size_t)config->groups.count + 1, sizeof(parameter_group), "parameter groups", &memory));
  out->at = memory;
  TRY(array_new(ctx, (size_t)n + 1, sizeof(flat_range), "a phase's ranges", &memory));
  flat_range *ranges = memory;
  elbo_status status = ELBO_OK;
  for (int of = -1; of < (int)config->groups.count && status == ELBO_OK; of++) {
    bool empty;
    parameter_group *group = &out->at[out->n];
    *group = (parameter_group){.of = of, .config = of < 0 ? *phase : train_group_optimizer(config, of, phase)};
    status = make_group(ctx, config, n, entries, ranges, group, &empty);
    out->n += status == ELBO_OK && !empty;
  }
  free(ranges);
  return status;
}

void parameter_groups_destroy(parameter_groups *groups) {
  for (int i = 0; i < groups->n; i++) optimizer_destroy(&groups->at[i].optimizer);
  free(groups->at);
  *groups = (parameter_groups){0};
}

double groups_norm(parameter_groups *groups, const float *gradient, double scale) {
  if (groups->n == 1) return optimizer_norm(groups->at[0].optimizer, gradient, scale);
  double sum = 0;
  for (int i = 0; i < groups->n; i++) {
    double norm = optimizer_norm(groups->at[i].optimizer, gradient, scale);
    sum += norm * norm;
  }
  return sqrt(sum);
}

void groups_accumulate(parameter_groups *groups, float *sum, const float *x, bool first) {
  for (int i = 0; i < groups->n; i++) optimizer_accumulate(groups->at[i].optimizer, sum, x, first);
}

void groups_apply(parameter_groups *groups, const train_config *config, int64_t step, double scale, double norm, float *param,
                  const float *gradient, const weight_averages *averages) {
  for (int i = 0; i < groups->n; i++) {
    double rate = learning_rate_at(config, groups->at[i].config.learning_rate, step);
    optimizer_apply(groups->at[i].optimizer, rate, scale, norm, param, gradient, averages);
  }
}

int64_t groups_bytes(const parameter_groups *groups) {
  int64_t total = 0;
  for (int i = 0; i < groups->n; i++) total += optimizer_bytes(groups->at[i].optimizer);
  return total;
}

int64_t groups_updates(const parameter_groups *groups) { return groups->n ? optimizer_updates(groups->at[0].optimizer) : 0; }

void groups_set_updates(parameter_groups *groups, int64_t updates) {
  for (int i = 0; i < groups->n; i++) optimizer_set_updates(groups->at[i].optimizer, updates);
}
