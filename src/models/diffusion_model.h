// A loaded diffusion model, and what its calls share.
#ifndef MODELS_DIFFUSION_MODEL_H
#define MODELS_DIFFUSION_MODEL_H

#include "models/diffusion_graph.h"
#include "models/latent_space.h"

typedef struct diffusion_model {
  diffusion_spec spec;
  process *process;
  const char *network_folder; // of the directory that it came from; NULL: the directory itself
  bool has_scheduler;         // the directory came with a scheduler of its own, and not from here
  scheduler_config scheduler;
  const diffusion_source *source; // of training and its validation, where x and condition are made in the graph; borrowed; NULL
} diffusion_model;

extern const model_kind model_kind_diffusion;
extern const model_kind model_kind_codes; // of an autoencoder's codes: opened by the one above, and has an encoder and a decoder

// A model around a spec and weights (borrowed; the process is owned): what training evaluates and previews with. diffusion_view_close it.
elbo_status diffusion_view(elbo_ctx *ctx, const diffusion_spec *spec, elbo_store *store, elbo_model *out);
void diffusion_view_close(elbo_model *m);
// The process of a spec; the learned one reads its values from `store` as they are now.
elbo_status diffusion_process_create(elbo_ctx *ctx, const diffusion_spec *spec, elbo_store *store, const char *where, process **out);
// All parameters of a spec, into a graph that is there for them alone.
void diffusion_declare(const diffusion_spec *spec, elbo_graph *g);
// A graph with the parameters of a spec.
elbo_status diffusion_parameter_graph(elbo_ctx *ctx, const diffusion_spec *spec, elbo_graph **out);
// A store with the parameters of a spec, and their initial values.
elbo_status diffusion_store_create(elbo_ctx *ctx, const diffusion_spec *spec, uint64_t seed, elbo_store **out);

// --- files: model_index.json, the network's folder, the scheduler's ---
elbo_status diffusion_directory_write(elbo_ctx *ctx, const char *directory, const diffusion_spec *spec, elbo_store *store, int64_t step);
// Configuration alone: of a directory written here, of one of diffusers', or of a network's folder that stands alone.
elbo_status diffusion_directory_read(elbo_ctx *ctx, arena *a, const char *directory, diffusion_model *out, int64_t *step);
// Into an unfilled store, which may be for more than these: whoever made it checks that it is filled.
elbo_status diffusion_directory_weights(elbo_ctx *ctx, const char *directory, const diffusion_model *model, elbo_store *store);

// --- calling the network ---
// The conditions of `n` rows; NULL where there are none.
typedef struct condition_rows {
  const int32_t *label; // (n)
  const float *numbers; // (n,dim) vectors, or (n,tokens,dim) sequences
  const float *picture; // (n,H,W,extra)
} condition_rows;

// One plan of the network for `batch` rows.
typedef struct denoiser_session {
  const diffusion_spec *spec;
  const process *process;
  session plan;
  int64_t size, out_size; // numbers of a row of state and of output
  double seconds;         // in the network, all calls
} denoiser_session;
elbo_status denoiser_session_open(const elbo_model *m, int64_t batch, denoiser_session *out);
void denoiser_session_close(denoiser_session *s);
// x (batch,size), output (batch,out_size); timestep as samplers pass it. rows: of this batch; NULL: "no condition". Rows at and beyond
// `count` repeat the condition of the first.
elbo_status denoiser_session_run(denoiser_session *s, const double *x, double timestep, const condition_rows *rows, int64_t count,
                                 double *output);
// Examples of a split in the order of the data, and what the model is told of each: int32 (n) classes, float (n,dim) vectors,
// (n,tokens,dim) sequences, or NULL.
elbo_status diffusion_read(const diffusion_spec *spec, elbo_dataset *data, elbo_split split, int64_t first, int64_t count, elbo_array **x,
                           elbo_array **told);
// Fills every input of `diffusion_fill`, and "t", that the plan reads; times (batch) in (0,1].
// A plan that makes the picture which the network is told of each clean example (in low resolution, or with a box cut out): x (B,H,W,C) as
// the data have it, by session_run, to (B,H,W,extra). Of a model that is told no picture: an empty session.
elbo_status condition_session_open(const elbo_model *m, int64_t batch, session *out);

void session_fill_times(session *s, const diffusion_spec *spec, const diffusion_objective *objective, const process *p,
                        const double *times);
// Weighted loss of each of n examples at times spread evenly over (0,1], without dropout: what validation averages. x float32 (n,H,W,C) in
// 0..1 for pictures.
elbo_status diffusion_validation_loss(elbo_model *m, const diffusion_objective *objective, const elbo_array *x, const elbo_array *label,
                                      int64_t first, uint64_t seed, double *sum);

// `sample` of a recipe with "steps=20" and the like over it.
elbo_status sampling_options(elbo_ctx *ctx, arena *a, const sampling_config *base, int n, const char *const *options, sampling_config *out);

// Options that draw in at most 50 steps, for pictures that someone waits for: samplers that take every step of the process are replaced by
// a quick one. Returns how many there are.
enum { QUICK_OPTIONS = 2 };
int quick_sampling_options(const diffusion_spec *spec, const char *options[QUICK_OPTIONS]);

// model_kind.sample_within
// Calls of the network that a sample takes by the model's own steps; 0: unknown.
int64_t diffusion_usual_calls(const elbo_model *m);
int diffusion_sample_within(const elbo_model *m, int64_t calls, bool own, sample_option *options);

// The calls that go through the autoencoder of a model of codes; codes are its states (n,h,w,c).
elbo_status diffusion_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev);
elbo_status diffusion_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x);
elbo_status diffusion_decode_tiled(elbo_model *m, const elbo_array *codes, const elbo_decode_config *config, elbo_array **x);
elbo_status diffusion_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed, elbo_array **out);

elbo_status diffusion_sample(elbo_model *m, const elbo_sample_config *config, elbo_array **x);
// x (n,H,W,C) in the model's range back to the unit-variance noise that ddim without fresh noise, which the config must ask for, leads to
// it.
elbo_status diffusion_reverse(elbo_model *m, const elbo_sample_config *config, const elbo_array *x, elbo_array **noise);
elbo_status diffusion_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out);
elbo_status diffusion_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out);

#endif
