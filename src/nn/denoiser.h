// What every diffusion network is to its users: a function of a noisy state, the time and what it is conditioned on.
#ifndef NN_DENOISER_H
#define NN_DENOISER_H

#include <stdbool.h>

#include <elbo/ops.h>

// The inputs of one call. Tensors that a network has no use for are NULL; a network given what it cannot use, or lacking what it needs, is
// a graph error that names the input.
typedef struct denoiser_inputs {
  elbo_graph *graph;
  elbo_tensor *sample;        // (B,H,W,C)
  elbo_tensor *timestep;      // (B) float32: the time in the form that the network is told (an index, log-SNR, ...); (1): see shared_time
  elbo_tensor *class_labels;  // int32 (B); float32 (B,E) where the network projects a vector, (B) where it embeds a number; NULL
  elbo_tensor *context;       // encoder_hidden_states (B,N,D); NULL
  elbo_tensor *text_embeds;   // (B,P): a text as one vector; NULL
  elbo_tensor *time_ids;      // (B,K): numbers embedded like times (sizes and crops); NULL
  elbo_tensor *timestep_cond; // (B,G): an embedding added to that of the time; NULL
  bool training;              // dropout is on
} denoiser_inputs;

typedef enum class_input {
  CLASS_INPUT_NONE,
  CLASS_INPUT_INDEX,  // int32 (B), 0..classes-1
  CLASS_INPUT_VECTOR, // float32 (B,class_dim)
  CLASS_INPUT_NUMBER  // float32 (B)
} class_input;

// What a network's config says about its inputs. 0: the network has no use for that input.
typedef struct denoiser_needs {
  int64_t in_channels, out_channels; // of sample and result
  int class_labels;                  // class_input
  int64_t classes;                   // CLASS_INPUT_INDEX: rows of the table, a row for "no class" included where there is one
  bool null_class;                   // the last of these rows is "no class", what guidance needs
  int64_t class_dim;                 // CLASS_INPUT_VECTOR
  int64_t context_dim;               // D of context
  int64_t added_dim;                 // text_embeds (B,P) and time_ids (B,K): P + K time_id_dim
  int64_t time_id_dim;
  int64_t timestep_cond_dim; // G of timestep_cond; optional: without it nothing is added
  bool shared_time;          // a timestep (1) is that of all rows, whose embedding is worked out once
} denoiser_needs;

// Whether the inputs are those of `needs`, in presence, type and width; otherwise false, and the graph's error names the input.
bool denoiser_inputs_check(const denoiser_needs *needs, const denoiser_inputs *in);

// How large the inputs of a call are.
typedef struct denoiser_call {
  int64_t batch, height, width;
  int64_t tokens;     // of the context
  int64_t time_ids;   // K
  bool timestep_cond; // it is given
  bool training;
} denoiser_call;

// What a network of these needs takes, as inputs of the graph by their names: sample, timestep, class_labels, encoder_hidden_states,
// text_embeds, time_ids, timestep_cond.
denoiser_inputs denoiser_declare(elbo_graph *g, const denoiser_needs *needs, const denoiser_call *call);

// Numbers in the parameters of a graph.
int64_t graph_parameter_count(const elbo_graph *g);

#endif
