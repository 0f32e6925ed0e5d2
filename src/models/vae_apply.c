// A VAE's networks on arrays.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

static const char *const input_name[] = {"x", "codes", "condition", "label"};
enum { INPUT_X, INPUT_CODES, INPUT_CONDITION, INPUT_LABEL, INPUT_COUNT };

// The inputs by kind, float32 and labels int32: those of another type are converted into `owned`.
static elbo_status sort_inputs(elbo_ctx *ctx, int n, const elbo_named_array *in, const elbo_array **sorted, elbo_array **owned) {
  for (int i = 0; i < n; i++) {
    int kind = 0;
    while (kind < INPUT_COUNT && (!in[i].name || strcmp(in[i].name, input_name[kind]) != 0)) kind++;
    if (kind == INPUT_COUNT || !in[i].array)
      return fail(ctx, ELBO_ERROR_ARGUMENT,
                  "apply: input '%s': x, or codes, with label or condition where the model needs one, was expected",
                  in[i].name ? in[i].name : "");
    if (sorted[kind]) return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s' is given twice", in[i].name);
    elbo_dtype wanted = kind == INPUT_LABEL ? ELBO_I32 : ELBO_F32;
    if (in[i].array->dtype != wanted) TRY(elbo_array_convert(ctx, in[i].array, wanted, &owned[kind]));
    sorted[kind] = owned[kind] ? owned[kind] : in[i].array;
  }
  return ELBO_OK;
}

elbo_status vae_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out) {
  (void)component; // its networks take one another's inputs
  enum { MOST = APPLY_OUTPUTS };
  elbo_ctx *ctx = m->ctx;
  session s = {0};
  elbo_graph *g = NULL;
  elbo_status status;
  int64_t n = 0, d;
  session_rows rows = {0};
  const elbo_array *sorted[INPUT_COUNT] = {0}, *x, *codes, *label, *condition;
  elbo_array *owned[INPUT_COUNT] = {0};
  char given[ARRAY_TEXT_SIZE];
  TRY_GOTO(sort_inputs(ctx, n_in, in, sorted, owned));
  x = sorted[INPUT_X], codes = sorted[INPUT_CODES], label = sorted[INPUT_LABEL], condition = sorted[INPUT_CONDITION];
  if (!x == !codes) {
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "apply: either x (for the encoder) or codes (for the decoder) is needed as an input");
    goto fail;
  }
  d = vae_code_size(&m->spec);
  if (x) TRY_GOTO(model_check_pictures(m, "apply: x", x, &n));
  if (codes) {
    if (codes->dtype != ELBO_F32 || codes->rank != 2 || codes->dim[1] != d) {
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "apply: codes: float32 (n,%lld) was expected, not %s", (long long)d,
                    array_text(codes, given, sizeof given));
      goto fail;
    }
    n = codes->dim[0];
  }
  bool vector = m->spec.model.condition.type == CONDITION_VECTOR;
  TRY_GOTO(model_check_condition(m, vector ? "apply: condition" : "apply", vector ? condition : label, n, &rows.condition));
  rows.x = x ? x->data : NULL, rows.codes = codes ? codes->data : NULL;

  TRY_GOTO(elbo_graph_create(ctx, "apply", &g));
  int64_t batch = n < m->batch_size ? (n > 0 ? n : 1) : m->batch_size;
  latent_request request = {.spec = &m->spec, .graph = g, .batch = batch, .samples = 1, .mode = x ? LATENT_MEAN : LATENT_GIVEN};
  vae_latents z = vae_latent_pass(&request);
  likelihood l = vae_likelihood(&m->spec, false);
  elbo_tensor *outputs[MOST];
  for (int i = 0; i < n_out; i++) {
    const char *name = out[i].name ? out[i].name : "";
    if (x && strcmp(name, "mean") == 0)
      outputs[i] = vae_posterior(&z, false);
    else if (x && strcmp(name, "std") == 0)
      outputs[i] = vae_posterior(&z, true);
    else if (strcmp(name, "output") == 0)
      outputs[i] = z.output;
    else if (strcmp(name, "x") == 0)
      outputs[i] = likelihood_mean(&l, z.output);
    else {
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "apply: output '%s': %sx (the likelihood's mean) or output (its parameters) was expected",
                    name, x ? "mean, std, " : "");
      goto fail;
    }
    if (outputs[i]) outputs[i] = elbo_scale(outputs[i], 1, 0); // the same tensor may be asked for twice
  }
  status = session_create(ctx, g, m->store, batch, n_out, outputs, &s);
  g = NULL;
  if (status != ELBO_OK) goto fail;
  for (int i = 0; i < n_out; i++) {
    int64_t dim[ELBO_MAX_RANK] = {n};
    int rank = elbo_tensor_rank(outputs[i]);
    for (int k = 1; k < rank; k++) dim[k] = elbo_tensor_dim(outputs[i], k);
    TRY_GOTO(elbo_array_create(ctx, ELBO_F32, rank, dim, &out[i].array));
  }
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    TRY_GOTO(session_run(&s, &rows, at, count));
    for (int i = 0; i < n_out; i++) {
      size_t row = elbo_array_bytes(out[i].array) / (size_t)n;
      memcpy((char *)out[i].array->data + (size_t)at * row, session_output(&s, i), (size_t)count * row);
    }
  }
  session_destroy(&s);
  for (int i = 0; i < INPUT_COUNT; i++) elbo_array_destroy(&owned[i]);
  return ELBO_OK;
fail:
  elbo_graph_destroy(&g);
  for (int i = 0; i < INPUT_COUNT; i++) elbo_array_destroy(&owned[i]);
  session_destroy(&s);
  for (int i = 0; i < n_out; i++) elbo_array_destroy(&out[i].array);
  return status;
}
