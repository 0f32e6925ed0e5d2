// A loaded model, and how model directories are written and read.
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include <elbo/model.h>

#include <stdbool.h>

#include "eval/gaussian_mixture.h"
#include "models/vae_graph.h"

enum { APPLY_OUTPUTS = 8 };

// What sort of number a likelihood of 8-bit pixels is, in bits/dim; only equal ones are compared.
typedef enum score_label { SCORE_EXACT, SCORE_ONE_SAMPLE, SCORE_K_SAMPLES, SCORE_ODE, SCORE_LABELS } score_label;
// What comparisons must know of one model beside its calls.
enum { SAMPLE_OPTIONS = 4 };
typedef char sample_option[64]; // "steps=20"
typedef struct model_abilities {
  const char *score[SCORE_LABELS]; // the metric of elbo_evaluate, in bits/dim; NULL: it has no such number
  const char *no_score;            // why it has none at all
  // A second way of drawing samples, of which a comparison has a row of its own: pixels from p(x|z) instead of its means, codes from
  // elsewhere. `usual` and `other` are options of the first and the second way; "": none.
  const char *second, *second_how; // "draws", "from p(x|z)"; NULL: there is none
  bool second_draws;               // elbo_sample_config.draw of the second
  sample_option usual, other;
} model_abilities;

// What a kind of model can do: the calls of elbo/model.h, which check what is common to all kinds. NULL: it cannot, and `why_not` says why.
typedef struct model_kind {
  const char *preset;
  const char *const *class_names; // "_class_name" of the directories that it opens; NULL-terminated
  const char *why_not;            // "has no encoder"
  // Reads configuration and weights of `directory` (m->ema: not its own, but others of the checkpoint) into m, whose ctx, arena and
  // batch_size are set.
  elbo_status (*open)(elbo_model *m, const char *directory);
  void (*close)(elbo_model *m); // what open made beside the store; may be NULL
  void (*info)(const elbo_model *m, elbo_model_info *out);
  elbo_status (*sample)(elbo_model *m, const elbo_sample_config *config, elbo_array **x);
  elbo_status (*reconstruct)(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed, elbo_array **out);
  elbo_status (*encode)(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev);
  elbo_status (*decode)(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x);
  elbo_status (*encode_noise)(elbo_model *m, const elbo_array *x, const elbo_array *codes, elbo_array **noise);
  elbo_status (*decode_noise)(elbo_model *m, const elbo_array *codes, const elbo_array *noise, elbo_array **x);
  elbo_status (*decode_tiled)(elbo_model *m, const elbo_array *codes, const elbo_decode_config *config, elbo_array **x);
  elbo_status (*interpolate)(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x);
  elbo_status (*evaluate)(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out);
  // `component`: the folder of the directory that was named ("unet"), NULL: the directory itself
  elbo_status (*apply)(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out);
  void (*abilities)(const elbo_model *m, model_abilities *out); // NULL: no likelihood of pixels, no draws
  // Options that draw with at most `calls` calls of a network; returns how many, 0 also where the model's own way needs no more, unless
  // `own` is false. NULL: it takes no steps.
  int (*sample_within)(const elbo_model *m, int64_t calls, bool own, sample_option *options);
} model_kind;

struct elbo_model {
  elbo_ctx *ctx;
  const model_kind *kind;
  arena *arena; // lists and strings of what follows
  elbo_store *store;
  double ema;          // which weights of a checkpoint: 0: those of its model directory, -1: raw, else an average's decay
  const char *weights; // elbo_model_info.weights; in the arena
  int64_t step;        // -1: unknown
  int64_t params;
  int batch_size;
  vae_spec spec;                     // of a VAE
  gaussian_mixture fitted;           // components 0: none
  struct diffusion_model *diffusion; // of a diffusion model, and of pictures given a code; owned
  struct elbo_model *prior;          // of an LSGM: the diffusion model of its codes, on the same store; owned
  struct decoder_model *decoder;     // of a model whose decoder is a diffusion; owned
  int n_options;                     // of elbo_model_config; in the arena
  const char **options;
  const struct classifier_spec *classifier; // of a classifier; in the arena
  const struct codec_config *autoencoder;   // of an autoencoder; in the arena
};

extern const model_kind model_kind_vae, model_kind_classifier;
// A VAE's calls, for kinds that share its networks.
void vae_info(const elbo_model *m, elbo_model_info *out);
void vae_abilities(const elbo_model *m, model_abilities *out);
elbo_status vae_reconstruct(elbo_model *m, const elbo_array *x, const elbo_array *label, int sample, uint64_t seed, elbo_array **out);
elbo_status vae_encode(elbo_model *m, const elbo_array *x, const elbo_array *label, elbo_array **mean, elbo_array **stddev);
elbo_status vae_decode(elbo_model *m, const elbo_array *codes, const elbo_array *label, elbo_array **x);
elbo_status vae_interpolate(elbo_model *m, const elbo_array *a, const elbo_array *b, int label, int steps, elbo_array **x);
// Pictures of codes float32 (n,D), as config->draw says: of a model without conditions.
elbo_status vae_draw_pictures(elbo_model *m, const elbo_array *codes, const elbo_sample_config *config, elbo_array **x);
elbo_status vae_evaluate(elbo_model *m, elbo_dataset *data, const elbo_eval_config *config, elbo_eval_result **out);
elbo_status vae_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out);

// What opens directories of a class; NULL: nothing.
const model_kind *model_kind_of_class(const char *class_name);
// The "_class_name" of a model directory's model_index.json, or of a component's config.json where there is no index; in the arena.
elbo_status model_directory_class(elbo_ctx *ctx, arena *a, const char *directory, const char **out);

// DIRECTORY/model_index.json, and for encoder, decoder and prior NAME/config.json and NAME/diffusion_pytorch_model.safetensors. `directory`
// exists. Parameters of a store are named "encoder.…", "decoder.…", "prior.…".
elbo_status model_directory_write(elbo_ctx *ctx, const char *directory, const vae_spec *spec, elbo_store *store, int64_t step);
// Reads the configuration alone. Lists live in the arena.
elbo_status model_directory_read_spec(elbo_ctx *ctx, arena *a, const char *directory, vae_spec *spec, int64_t *step);
// Fills a store made of the spec's graphs; every parameter must be there with its shape, and nothing else.
elbo_status model_directory_read_weights(elbo_ctx *ctx, const char *directory, elbo_store *store);

// prior/fitted_mixture.safetensors: written where there is one; read into *m (components 0 where there is none).
elbo_status model_directory_write_mixture(elbo_ctx *ctx, const char *directory, const gaussian_mixture *m);
elbo_status model_directory_read_mixture(elbo_ctx *ctx, const char *directory, int64_t d, gaussian_mixture *m);

// A graph with the parameters of a spec; on failure *out is NULL.
elbo_status model_parameter_graph(elbo_ctx *ctx, const vae_spec *spec, elbo_graph **out);
// A store with the parameters of a spec, and their initial values.
elbo_status model_store_create(elbo_ctx *ctx, const vae_spec *spec, uint64_t seed, elbo_store **out);

// A model around a spec (its lists are borrowed) and weights (borrowed): what training evaluates and draws previews with. Nothing to
// destroy.
elbo_model model_of_weights(elbo_ctx *ctx, const vae_spec *spec, elbo_store *store);

// --- running a graph over many examples, batch by batch ---
typedef struct session {
  elbo_ctx *ctx;
  elbo_graph *graph;
  elbo_plan *plan;
  elbo_store *store;
  int64_t batch;
} session;
// Takes the graph over, on failure too (which may be that of building it).
elbo_status session_create(elbo_ctx *ctx, elbo_graph *graph, elbo_store *store, int64_t batch, int n_outputs, elbo_tensor *const *outputs,
                           session *out);
// Of batch 1 and one output; one of many that run a few times each: weights are not kept transformed.
elbo_status session_create_lean(elbo_ctx *ctx, elbo_graph *graph, elbo_store *store, elbo_tensor *output, session *out);
void session_destroy(session *s);
// What a run reads; NULL and absent inputs are left alone. Rows [first, first + count) of each array; the rest of the batch repeats its
// first row.
typedef struct session_rows {
  const float *x;        // (n,H,W,C)
  const float *codes;    // (n,D)
  const void *condition; // what the model is told of each example: int32 (n) classes, float (n,dim) vectors or (n,tokens,dim)
  const int64_t *index;  // (n) sample_index; NULL: the row's own number
  uint64_t seed;
  float temperature;
} session_rows;
elbo_status session_run(session *s, const session_rows *rows, int64_t first, int64_t count);
const float *session_output(const session *s, int i);
// elements of one row of input `name`; 0 when the plan does not read it
int64_t session_row_size(const session *s, const char *name);

// x as (N,H,W,C), or (N,HWC), of the model's shape, finite, float32. `what` names the call.
// "float32 (20,28,28)" of an array, for messages; "nothing" of NULL.
enum { ARRAY_TEXT_SIZE = 160 };
const char *array_text(const elbo_array *a, char *text, size_t size);
elbo_status model_check_pictures(const elbo_model *m, const char *what, const elbo_array *x, int64_t *n);
// What session_rows.condition is, from labels int32 (n) or vectors float32 (n,dim), whichever the model wants; NULL: it wants none.
elbo_status model_check_condition(const elbo_model *m, const char *what, const elbo_array *condition, int64_t n, const void **out);
// Reads examples, and with them what the model is told of each, for model_check_condition (*condition NULL: nothing).
elbo_status read_conditioned(const vae_spec *spec, elbo_dataset *data, elbo_split split, int64_t first, int64_t count, int shuffle,
                             uint64_t seed, elbo_array **x, elbo_array **condition);

#endif
