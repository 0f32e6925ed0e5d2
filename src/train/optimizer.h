// Optimisers: one fused pass over flat buffers that clips, updates and keeps the running averages.
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include <stdbool.h>

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

// Running averages of the weights, laid out as they are: average i goes at[i] += (1 - decay[i]) (weights - at[i]) with every update.
enum { MOST_AVERAGES = 8 };
typedef struct weight_averages {
  int n;
  float *at[MOST_AVERAGES];
  double decay[MOST_AVERAGES];
} weight_averages;

// [begin, end) of the flat buffers, in floats.
typedef struct flat_range {
  int64_t begin, end;
} flat_range;

// What one update is made of, worked out in double.
typedef struct optimizer_scalars {
  int kind;
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  double gradient_scale;           // clipping and the mean over micro-batches
  double correction1, correction2; // 1 - beta^t
  double ema_decay;
} optimizer_scalars;

// The kernels, one set an instruction set (optimizer_cpu.c). m, v: moments (NULL where the rule has none), ema: NULL for no average.
typedef struct optimizer_kernels {
  double (*sum_of_squares)(const float *x, int64_t n); // in double: nothing overflows but what is not finite already
  void (*add)(float *sum, const float *x, int64_t n);
  void (*average)(float *ema, const float *x, int64_t n, double decay);
  void (*update)(const optimizer_scalars *s, int64_t n, float *param, const float *gradient, float *m, float *v, float *ema);
} optimizer_kernels;
const optimizer_kernels *optimizer_kernels_of(isa_level isa);

// The oracle of `update`.
void optimizer_update_ref(const optimizer_scalars *s, int64_t n, double *param, const double *gradient, double *m, double *v, double *ema);

// One parameter group: which parts of the flat buffers it owns, its moments (packed: range after range) and how often it was applied.
typedef struct optimizer optimizer;
elbo_status optimizer_create(elbo_ctx *ctx, const optimizer_config *config, int64_t n_ranges, const flat_range *ranges, optimizer **out);
void optimizer_destroy(optimizer **o);

// Norm of scale * gradient over the group: the same whatever the number of threads or the instruction set.
double optimizer_norm(optimizer *o, const float *gradient, double scale);
// One update with learning rate `rate`; `norm` is optimizer_norm's result and decides the clipping. averages NULL: none.
void optimizer_apply(optimizer *o, double rate, double scale, double norm, float *param, const float *gradient,
                     const weight_averages *averages);
// sum += x (or sum = x) over the group's ranges.
void optimizer_accumulate(optimizer *o, float *sum, const float *x, bool first);

int optimizer_moments(const optimizer *o);                         // 0 to 2
const char *optimizer_moment_name(const optimizer *o, int i);      // "momentum", "exp_avg", "exp_avg_sq", "square_avg"
float *optimizer_moment(optimizer *o, int i);                      // optimizer_size floats
int64_t optimizer_size(const optimizer *o);                        // floats in all ranges
int64_t optimizer_packed_offset(const optimizer *o, int64_t flat); // where flat offset `flat` lies in a moment; -1: not in the group
int64_t optimizer_bytes(const optimizer *o);                       // of the moments
int64_t optimizer_updates(const optimizer *o);
void optimizer_set_updates(optimizer *o, int64_t updates);

#endif
