// The `train:` section of a recipe, and the learning-rate schedules.
#ifndef TRAIN_TRAIN_CONFIG_H
#define TRAIN_TRAIN_CONFIG_H

#include "core/config.h"
#include "train/engine_config.h"
#include "train/optimizer.h"

enum { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_STEP };

// What a group of parameters has of its own; what it does not name is the section's.
typedef struct group_config {
  int optimizer;                                             // 0: the section's; else optimizer_kind + 1
  double learning_rate, beta1, beta2, epsilon, weight_decay; // below 0: the section's
} group_config;

typedef struct train_config {
  int64_t steps;        // optimiser updates
  int64_t batch_size;   // examples of one update
  int64_t accumulate;   // parts that a batch is split into: the same update in less memory; divides batch_size
  int optimizer;        // optimizer_kind
  double learning_rate; // peak
  double beta1, beta2, epsilon, weight_decay, clip_norm;
  int schedule;         // SCHEDULE_*
  int64_t warmup_steps; // linear from 0
  int64_t step_size;    // SCHEDULE_STEP: times gamma every so many steps
  double gamma;
  double min_learning_rate; // floor of the schedules
  config_floats ema;        // decays of the averages that are kept; nothing, or 0 alone: none is
  bool ema_warmup;          // decay = min(ema, (1 + n) / (10 + n)) after n updates
  int64_t checkpoint_every; // steps; 0: only at the end
  int64_t keep;             // newest checkpoints kept, beside the best; 0: all
  int64_t log_every;        // steps of one line of metrics.jsonl
  int64_t preview_every;    // steps; 0: never
  int64_t validate_every;   // steps; 0: at checkpoints
  int64_t seed;
  const char *init;      // directory of a model whose weights are the initial ones, or an earlier stage's name; "": they are drawn
  config_strings freeze; // beginnings of the names of parameters that stay as they are
  int64_t memory_limit;  // bytes of a step, weights and moments included; 0: none
  bool stop_on_nan;      // false: such an update is skipped and counted
  config_map groups;     // group_config by the beginning of parameter names
  engine_config engine;  // the recipe's section of that name; no key of this one
} train_config;

extern const config_table train_table;

// What the table cannot say: batch_size divisible by accumulate, warm-up within the steps, ...
elbo_status train_config_check(elbo_ctx *ctx, const train_config *config);
// Examples in one run of a phase's graph and in one batch of the loader: batch_size / accumulate.
int64_t train_micro_batch(const train_config *config);
// The optimiser of the section, for phases that have none of their own.
optimizer_config train_optimizer(const train_config *config);
// Whether a parameter is one of those that stay as they are.
bool train_is_frozen(const train_config *config, const char *parameter);
// The group that a parameter belongs to: the one whose name is the longest that it begins with ("encoder" of "encoder.fc.weight"); -1:
// none.
int train_group_of(const train_config *config, const char *parameter);
// `phase` with what group i has of its own in place.
optimizer_config train_group_optimizer(const train_config *config, int i, const optimizer_config *phase);
// Learning rate of update `step` (0-based) for a group whose peak is `peak`.
double learning_rate_at(const train_config *config, double peak, int64_t step);
// How many running averages of the weights are kept, at most MOST_AVERAGES.
int train_averages(const train_config *config);
// Decay of average i in an update that comes after `n` updates.
double ema_decay_at(const train_config *config, int i, int64_t n);

#endif
