// The `engine:` section of a recipe: how plans compute, whatever the model. It may change when a run goes on, or is used.
#ifndef TRAIN_ENGINE_CONFIG_H
#define TRAIN_ENGINE_CONFIG_H

#include "core/config.h"

enum { ENGINE_WINOGRAD_AUTO, ENGINE_WINOGRAD_OFF };

typedef struct engine_config {
  int winograd;             // ENGINE_WINOGRAD_*
  int precision;            // an elbo_precision
  int64_t keep_transformed; // bytes
} engine_config;
extern const config_table engine_table;

#endif
