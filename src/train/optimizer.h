// Optimisers: one fused pass over flat buffers that clips, updates and keeps the EMA copy.
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "core/ctx.h"

typedef enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAM, OPTIMIZER_ADAMW, OPTIMIZER_RMSPROP } optimizer_kind;

typedef struct optimizer_config {
  int kind;             // optimizer_kind
  double learning_rate; // peak
  double beta1, beta2;  // Adam, AdamW; beta1: momentum of SGD and RMSProp; beta2: RMSProp's decay
  double epsilon;
  double weight_decay; // decoupled for AdamW; added to the gradient for the others
  double clip_norm;    // global norm of the group's gradient; 0: off
} optimizer_config;

#endif
