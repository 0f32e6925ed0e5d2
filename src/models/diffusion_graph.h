// The graphs of a diffusion model: a training step, one call of the network, the terms of the bound.
//
// What depends on the time of an example is worked out on the host in double and comes in as inputs (B): "alpha", "sigma", "time" (as the
// network is told it), "loss_weight", and where they are needed those of `diffusion_fill`.
#ifndef MODELS_DIFFUSION_GRAPH_H
#define MODELS_DIFFUSION_GRAPH_H

#include "models/diffusion_config.h"

// The store's names of the network's parameters begin so, those of the learned process with "process.".
#define DENOISER_SCOPE "denoiser"
#define PROCESS_SCOPE "process"
#define CODE_SCOPE "code" // of the layers between a code and the network
#define TIME_HISTORY "objective.time_history"

// The condition of a batch as tensors; NULL: none of that kind.
typedef struct diffusion_condition {
  elbo_tensor *label;   // int32 (B), or float32 (B,dim) of a vector or a code
  elbo_tensor *picture; // (B,H,W,extra) beside the state
  elbo_tensor *context; // (B,N,dim)
} diffusion_condition;

// Pictures 0..1 as the model has them, -1..1; float data as they are.
elbo_tensor *diffusion_centred(const diffusion_spec *spec, elbo_tensor *x);
// What is modelled of a batch's input "x": pictures as above, or codes, in training drawn from their posteriors.
elbo_tensor *diffusion_input(const diffusion_spec *spec, elbo_graph *g, int64_t batch, bool training);
// From the batch's own inputs ("label", "condition", or x itself), dropped at random where the recipe says so.
diffusion_condition diffusion_training_condition(const diffusion_spec *spec, elbo_graph *g, int64_t batch, elbo_tensor *x, bool drop);
// Raw output (B,H,W,C or 2 C) of the network under scope DENOISER_SCOPE. state: without the reconstruction that it is centred on.
elbo_tensor *diffusion_network(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *state, elbo_tensor *time,
                               const diffusion_condition *condition, bool training);

// The parameters of the layers between a code and the network.
void diffusion_code_layers(const diffusion_spec *spec, elbo_graph *g);
// The same after mixing with N(0, I), where the model has that.
elbo_tensor *diffusion_mixed(const diffusion_spec *spec, elbo_tensor *output);

// (B) input `name` as (B,1,1,1)
elbo_tensor *row_input(elbo_graph *g, const char *name, int64_t batch);

// One term of the discrete bound for each example, in nats: KL(q(x_{i-1}|x_i,x_0) || p(x_{i-1}|x_i)) for i > 0, the decoder's -log
// p(x_0|x_1) over 256 levels for i = 0 [Ho20 eq. 5, 13]. x0_hat may carry a cut gradient. fraction: (B,H,W,C) output of a learned variance,
// or NULL. Inputs: "posterior_log_variance", "log_beta", "mean_factor", "first".
elbo_tensor *discrete_bound_term(const diffusion_spec *spec, elbo_graph *g, int64_t batch, elbo_tensor *x0, elbo_tensor *x0_hat,
                                 elbo_tensor *fraction);
// x0 from the raw prediction, by inputs "x0_of_state" and "x0_of_output" (B).
elbo_tensor *diffusion_x0(elbo_graph *g, int64_t batch, elbo_tensor *state, elbo_tensor *output);
// log of the mass that N(mean, exp(log_sigma)^2) puts on the bins of 256 levels in -1..1, elementwise; the outer bins are open [Ho20 eq.
// 13]
elbo_tensor *discretized_gaussian_log_mass(elbo_tensor *x, elbo_tensor *mean, elbo_tensor *log_sigma);

// What a training step is about where it is not the batch's own x and condition: made in the graph.
typedef struct diffusion_batch {
  elbo_tensor *x0; // (B,H,W,C) in the model's range
  diffusion_condition condition;
  elbo_tensor *penalty; // (B) added to the loss, in its units; NULL
} diffusion_batch;
typedef struct diffusion_build diffusion_build;
typedef struct diffusion_source {
  void (*build)(const void *user, diffusion_build *t, diffusion_batch *out); // may add metrics
  const void *user;
} diffusion_source;

typedef struct diffusion_training_graph {
  elbo_graph *graph;
  elbo_tensor *loss;
  elbo_tensor *each;     // (B) its value for every example, before importance weights
  elbo_tensor *observed; // (B) the same where a history of losses is kept; NULL
  int n_metrics;
  const char *metric_name[8];
  const char *metric_unit[8];
  elbo_tensor *metric[8];
} diffusion_training_graph;
// p: NULL where the process is learned. training: with dropout, of layers and of conditions.
elbo_status diffusion_training_build(elbo_ctx *ctx, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                                     int64_t batch, bool training, diffusion_training_graph *out);
// source: NULL: the batch's own; a learned process has no other.
elbo_status diffusion_training_build_from(elbo_ctx *ctx, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                                          int64_t batch, bool training, const diffusion_source *source, diffusion_training_graph *out);

// --- shared by diffusion_graph.c and diffusion_learned.c ---
struct diffusion_build {
  const diffusion_spec *spec;
  const diffusion_objective *objective;
  elbo_graph *g;
  int64_t batch;
  bool training;
  const diffusion_source *source;
  elbo_tensor *weight, *weight_sum;
  diffusion_training_graph *out;
};
// x (B,dim...) with the rows of dropped conditions 0, where `drop` and the recipe say so.
elbo_tensor *drop_rows(const diffusion_spec *spec, elbo_graph *g, elbo_tensor *v, bool drop);
elbo_tensor *build_mean(const diffusion_build *t, elbo_tensor *v); // (B) -> scalar, by weight
void build_metric(const diffusion_build *t, const char *name, const char *unit, elbo_tensor *v);
// One call of the network as a plan, at one time for all rows: inputs "sample", "timestep", (B) or (1) as the network takes it, and the
// condition's. diffusion_set_time fills in the time.
elbo_tensor *diffusion_call_graph(const diffusion_spec *s, elbo_graph *g, int64_t batch);
void diffusion_set_time(elbo_plan *plan, double told);

// --- the learned process [Kingma21]: diffusion_learned.c ---
void learned_process_parameters(const diffusion_spec *spec, elbo_graph *g);
// logsnr_fn; user: the elbo_store that holds the parameters
void learned_process_logsnr(void *user, double t, double *logsnr, double *dlogsnr);
void learned_process_loss(diffusion_build *t);

// The value of host-made input `input` at time t (0,1]; false: not one of them.
bool diffusion_fill(const diffusion_spec *spec, const diffusion_objective *objective, const process *p, double t, const char *input,
                    float *value);

#endif
