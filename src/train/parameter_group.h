// The parameters that one phase updates, by group: each group has an optimiser of its own, all are clipped by the norm over all of them.
#ifndef TRAIN_PARAMETER_GROUP_H
#define TRAIN_PARAMETER_GROUP_H

#include "graph/store.h"
#include "train/train_config.h"

typedef struct parameter_group {
  int of; // in train.groups; -1: what no group names
  optimizer_config config;
  optimizer *optimizer;
} parameter_group;

typedef struct parameter_groups {
  int n;
  parameter_group *at; // the rest (of -1) first, then in the order of train.groups; none is empty
} parameter_groups;

// entries (n), sorted by offset: the parameters that the phase's loss depends on. `phase` is the phase's optimiser.
elbo_status parameter_groups_create(elbo_ctx *ctx, const train_config *config, const optimizer_config *phase, int64_t n,
                                    const store_entry *const *entries, parameter_groups *out);
void parameter_groups_destroy(parameter_groups *groups);

// As the functions of an optimiser, over all groups.
double groups_norm(parameter_groups *groups, const float *gradient, double scale);
void groups_accumulate(parameter_groups *groups, float *sum, const float *x, bool first);
// The update of `step`: every group at its own learning rate.
void groups_apply(parameter_groups *groups, const train_config *config, int64_t step, double scale, double norm, float *param,
                  const float *gradient, const weight_averages *averages);
int64_t groups_bytes(const parameter_groups *groups);
int64_t groups_updates(const parameter_groups *groups);
void groups_set_updates(parameter_groups *groups, int64_t updates);

#endif
