// Graphs of plain operations, parameters in named stores, compiled plans.
//
//     elbo_graph *g;  elbo_graph_create(ctx, "mlp", &g);
//     elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){128, 784});
//     elbo_tensor *w = elbo_parameter(g, "fc.weight", 2, (int64_t[]){10, 784}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
//     elbo_tensor *y = elbo_linear(x, w, NULL);
//     elbo_store_create(ctx, 1, &g, seed, &store);  elbo_plan_create(ctx, g, 1, &y, NULL, &plan);
//     memcpy(elbo_plan_input(plan, "x"), ..., ...);  elbo_plan_run(plan, store);  elbo_plan_output(plan, 0);
//
// Building never fails half-way: a builder given a bad shape (or NULL) returns NULL and the graph keeps the first error, with the
// operation and the shapes at fault; elbo_graph_check, elbo_gradient and elbo_plan_create return it. So a network is
// written as expressions and checked once.
#ifndef ELBO_GRAPH_H
#define ELBO_GRAPH_H

#include <elbo/array.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct elbo_graph elbo_graph;
typedef struct elbo_tensor elbo_tensor; // belongs to its graph; lives as long as the graph
typedef struct elbo_store elbo_store;
typedef struct elbo_plan elbo_plan;

ELBO_API ELBO_MUST_CHECK elbo_status elbo_graph_create(elbo_ctx *ctx, const char *name, elbo_graph **out);
ELBO_API void elbo_graph_destroy(elbo_graph **graph);
// ELBO_OK, or the first error met while building (its message is set again).
ELBO_API ELBO_MUST_CHECK elbo_status elbo_graph_check(elbo_graph *graph);

// Names that follow get "name." in front until the matching pop: elbo_scope_push(g, "encoder") makes parameter "encoder.fc.weight"
// of "fc.weight", and gives random operations their stream. `name` is copied.
ELBO_API void elbo_scope_push(elbo_graph *graph, const char *name);
ELBO_API void elbo_scope_pop(elbo_graph *graph);

ELBO_API int elbo_tensor_rank(const elbo_tensor *t);
ELBO_API int64_t elbo_tensor_dim(const elbo_tensor *t, int axis); // negative axes count from the end
ELBO_API elbo_dtype elbo_tensor_dtype(const elbo_tensor *t);
ELBO_API elbo_graph *elbo_tensor_graph(const elbo_tensor *t);

// --- leaves ---------------------------------------------------------------------------------------------------------------------

// A named input, filled before each run through elbo_plan_input. Asking twice for one name gives the same tensor if the shape agrees
// and an error if not. dtype: ELBO_F32, ELBO_I32 or ELBO_I64. Reserved names: "seed" (int64, scalar: the random seed) and
// "sample_index" (int64, (B): the global number of each example), made by the random operations themselves.
ELBO_API elbo_tensor *elbo_input(elbo_graph *graph, const char *name, elbo_dtype dtype, int rank, const int64_t *dim);

// A scalar constant (rank 0, float32) and a small array constant (`values` copied).
ELBO_API elbo_tensor *elbo_constant(elbo_graph *graph, double value);
ELBO_API elbo_tensor *elbo_constant_array(elbo_graph *graph, int rank, const int64_t *dim, const float *values);

typedef enum elbo_param_kind {
  ELBO_PARAM_TRAINED, // has a gradient, is optimised, has an EMA
  ELBO_PARAM_FROZEN,  // never changes
  ELBO_PARAM_STATE    // changed by elbo_state_update (running statistics)
} elbo_param_kind;

typedef enum elbo_init_kind {
  ELBO_INIT_KIND_ZEROS,
  ELBO_INIT_KIND_CONSTANT, // scale: the constant
  ELBO_INIT_KIND_UNIFORM,  // U(-scale, scale)
  ELBO_INIT_KIND_NORMAL,   // N(0, scale^2)
  ELBO_INIT_KIND_FAN_IN    // U(-scale/sqrt(fan_in), scale/sqrt(fan_in)); fan_in = product of dims 1.. unless given
} elbo_init_kind;

typedef struct elbo_init {
  elbo_init_kind kind;
  double scale;
  int64_t fan_in; // 0: from the shape
} elbo_init;

#define ELBO_INIT_ZEROS ((elbo_init){ELBO_INIT_KIND_ZEROS, 0.0, 0})
#define ELBO_INIT_ONES ((elbo_init){ELBO_INIT_KIND_CONSTANT, 1.0, 0})
#define ELBO_INIT_FAN_IN ((elbo_init){ELBO_INIT_KIND_FAN_IN, 1.0, 0}) // PyTorch's default for Linear and Conv2d

// A named parameter (scope added), float32. Asking twice for one name gives the same tensor (weight sharing) if everything agrees.
ELBO_API elbo_tensor *elbo_parameter(elbo_graph *graph, const char *name, int rank, const int64_t *dim, elbo_param_kind kind,
                                     elbo_init init);

// After a run of a plan that holds it, state parameter `state` takes the value of `value` (same shape).
ELBO_API void elbo_state_update(elbo_tensor *state, elbo_tensor *value);

// --- differentiation -------------------------------------------------------------------------------------------------------------

// Builds d(sum of y)/d(wrt[i]) as more graph, in reverse mode; gradient[i] is NULL where y does not depend on wrt[i]. May be applied
// to its own result. An operation on the way that has no rule is an error that names it.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_gradient(elbo_tensor *y, int n, elbo_tensor *const *wrt, elbo_tensor **gradient);

// --- stores ----------------------------------------------------------------------------------------------------------------------

// Parameters by name, outside of graphs: trained ones in one flat float32 buffer, state and frozen ones in another. Creation collects the
// parameters of the graphs (same name: same shape and kind) and draws initial values from (seed, name): the same whatever else there is.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_store_create(elbo_ctx *ctx, int n_graphs, elbo_graph *const *graphs, uint64_t seed,
                                                       elbo_store **out);
// A store of the same layout and values (an EMA, a teacher).
ELBO_API ELBO_MUST_CHECK elbo_status elbo_store_copy(elbo_ctx *ctx, const elbo_store *store, elbo_store **out);
ELBO_API void elbo_store_destroy(elbo_store **store);
ELBO_API int elbo_store_count(const elbo_store *store); // parameters

typedef struct elbo_param_info {
  const char *name; // borrowed from the store
  elbo_param_kind kind;
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  int64_t count;
  float *data; // in the store; after writing to it call elbo_store_touch
} elbo_param_info;

ELBO_API ELBO_MUST_CHECK elbo_status elbo_store_get(const elbo_store *store, int i, elbo_param_info *out);
ELBO_API ELBO_MUST_CHECK elbo_status elbo_store_find(const elbo_store *store, const char *name, elbo_param_info *out);
// Says that values were changed from outside: packed copies are made anew.
ELBO_API void elbo_store_touch(elbo_store *store);

// --- plans -----------------------------------------------------------------------------------------------------------------------

typedef enum elbo_backend_kind { ELBO_BACKEND_CPU, ELBO_BACKEND_REFERENCE } elbo_backend_kind; // reference: float64, slow, for checking

// What linear layers, matrix products and direct convolutions multiply. Everything in memory is float32 whichever it is: parameters,
// gradients, activations, sums. Winograd's convolutions and those to few channels multiply float32 always, attention but in use on
// processors with the full rate.
typedef enum elbo_precision {
  ELBO_PRECISION_FLOAT32,
  ELBO_PRECISION_BFLOAT16,         // operands rounded to bfloat16; ELBO_ERROR_UNSUPPORTED where the processor has no such products
  ELBO_PRECISION_BFLOAT16_EMULATED // the same rounding but for attention, multiplied as float32, on any processor
} elbo_precision;

typedef struct elbo_plan_config {
  size_t size; // sizeof, set by elbo_plan_defaults
  elbo_backend_kind backend;
  int fuse;             // 1: fuse operations (default)
  int poison;           // 1: fill memory with NaN before each operation writes it and after its last use (tests)
  int64_t memory_limit; // bytes of arena, 0: none. Activations are recomputed to keep it, cheap ones first; refused with the least possible
                        // figure when it cannot be
  int updates;          // 1: run the graph's state updates too (default); 0: only what the outputs need
  int weights_constant; // 1: parameters rarely change (inference): worth packing once
  const unsigned char *external_outputs; // NULL, or a flag an output: 1: lives in memory bound with elbo_plan_bind_output, none is planned;
                                         // borrowed for the call
  int no_winograd;          // 1: no convolution by Winograd's algorithm, whose rounding error is a few times that of the direct one
  const char *kernel;       // NULL, or the one kernel that every convolution must take, by its name in the table of kernels: for measuring.
                            // An unknown one is refused with the names that there are; borrowed for the call
  int precision;            // an elbo_precision; the reference backend knows double precision alone
  int64_t keep_transformed; // with weights_constant: of weights as Winograd's kernels read them, four times their size, at most so many
                            // bytes are kept from run to run (default: 256 MiB), where making these would take a twentieth of a run or
                            // more or the last cache holds them; none under a memory_limit. The others are transformed in every run
  int64_t *least_bytes;     // NULL, or where a memory_limit that is refused leaves the least that is kept
} elbo_plan_config;

ELBO_API void elbo_plan_defaults(elbo_plan_config *config);

// Compiles what `outputs` (and the graph's state updates) need: removes the rest, fuses, picks kernels, lays
// out memory. The graph may be destroyed afterwards. `config` may be NULL.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_plan_create(elbo_ctx *ctx, elbo_graph *graph, int n_outputs, elbo_tensor *const *outputs,
                                                      const elbo_plan_config *config, elbo_plan **out);
ELBO_API void elbo_plan_destroy(elbo_plan **plan);

// The memory of input `name`, to be filled before a run; kept between runs. NULL when the plan has no such input (it may have been
// removed as unneeded). Under the reference backend float inputs are doubles.
ELBO_API void *elbo_plan_input(elbo_plan *plan, const char *name);
// Bytes of that input; 0 when there is none.
ELBO_API size_t elbo_plan_input_bytes(const elbo_plan *plan, const char *name);
// Fills a float32 input from floats under any backend. count must agree.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_plan_set(elbo_plan *plan, const char *name, const float *values, int64_t count);
// The result of outputs[i] after a run; valid until the next run. Doubles under the reference backend.
ELBO_API const void *elbo_plan_output(const elbo_plan *plan, int i);
// Directs output i to memory of the caller's (its size in the plan's own dtype), written by every run. An output flagged in
// external_outputs must be bound before the first run and costs no copy; any other is copied there, and NULL ends that.
ELBO_API void elbo_plan_bind_output(elbo_plan *plan, int i, void *memory);

// Runs it with the parameters of `store` (may be NULL when there are none). Applies state updates to the store.
ELBO_API ELBO_MUST_CHECK elbo_status elbo_plan_run(elbo_plan *plan, elbo_store *store);

typedef struct elbo_plan_info {
  int64_t arena_bytes;    // intermediates, inputs, outputs and scratch in one block, as planned
  int64_t packed_bytes;   // kernels' own packed weights
  int64_t unshared_bytes; // what the intermediates would take without reuse
  int64_t flops;          // of one run, 2 per multiply-add, of the direct algorithms
  int steps;              // operations after fusion
  int recomputed;         // operations run twice to keep memory_limit
  int64_t moved_bytes;    // read and written by all operations of one run, each of its tensors once
  int64_t least_bytes;    // the same if every tensor were written once and read once
} elbo_plan_info;

ELBO_API void elbo_plan_get_info(const elbo_plan *plan, elbo_plan_info *out);

typedef struct elbo_step_info {
  const char *op;     // "conv2d"
  const char *name;   // of the tensor it makes, "encoder.conv1" or ""
  const char *kernel; // "onednn:jit:avx2", "own:gemm.v3"
  int64_t flops;
  int64_t bytes;  // read and written, each tensor once
  double seconds; // sum over the runs since elbo_plan_profile(plan, 1)
  int64_t runs;
  double began; // when the last of those runs did, in seconds of CLOCK_MONOTONIC
} elbo_step_info;

ELBO_API ELBO_MUST_CHECK elbo_status elbo_plan_get_step(const elbo_plan *plan, int i, elbo_step_info *out);
// 1: time every operation (adds a little), from zero; 0: stop.
ELBO_API void elbo_plan_profile(elbo_plan *plan, int on);

#ifdef __cplusplus
}
#endif
#endif
