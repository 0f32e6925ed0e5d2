// An autoencoder's two networks on arrays, in the words of diffusers.
#include <stdio.h>
#include <string.h>

#include "models/autoencoder.h"

enum { SIDE_MAX = 1 << 16, PIXELS_AT_ONCE = 1 << 17 };

typedef struct application {
  elbo_model *m;
  bool decoding;
  elbo_array *array; // float32 (n,H,W,C)
  int64_t batch;
  session session;
} application;

static elbo_status take_input(application *a, int n_in, const elbo_named_array *in) {
  elbo_ctx *ctx = a->m->ctx;
  codec_shape s = codec_config_shape(a->m->autoencoder);
  char given[ARRAY_TEXT_SIZE];
  const char *name = n_in && in[0].name ? in[0].name : "";
  if (n_in != 1 || !in[0].array || (strcmp(name, "x") != 0 && strcmp(name, "z") != 0))
    return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s': one of x (pictures, to encode) and z (codes, to decode) was expected",
                n_in > 1 && in[1].name ? in[1].name : name);
  a->decoding = *name == 'z';
  TRY(elbo_array_convert(ctx, in[0].array, ELBO_F32, &a->array));
  const elbo_array *v = a->array;
  int64_t channels = a->decoding ? s.code_channels : s.in_channels, least = a->decoding ? 1 : (int64_t)1 << (s.levels - 1);
  bool fits = v->rank == 4 && v->dim[0] > 0 && v->dim[3] == channels;
  for (int i = 1; i < 3 && fits; i++) fits = v->dim[i] >= least && v->dim[i] <= SIDE_MAX;
  if (fits) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: %s: (n,height,width,%lld) with sides of at least %lld was expected, not %s", name,
              (long long)channels, (long long)least, array_text(v, given, sizeof given));
}

// Which of the network's results an output is; NULL: none of that name.
static elbo_tensor *named_result(const application *a, const codec_code *code, elbo_tensor *sample, const char *name) {
  if (a->decoding) return strcmp(name, "sample") == 0 ? sample : NULL;
  if (a->m->autoencoder->network != CODEC_KL) return strcmp(name, "latents") == 0 ? code->mean : NULL;
  return strcmp(name, "mean") == 0 ? code->mean : strcmp(name, "logvar") == 0 ? code->logvar : NULL;
}

static elbo_status open_plan(application *a, int n_out, elbo_named_array *out) {
  elbo_ctx *ctx = a->m->ctx;
  const codec_config *c = a->m->autoencoder;
  elbo_graph *g = NULL;
  elbo_tensor *outputs[APPLY_OUTPUTS], *sample = NULL;
  codec_code code = {0};
  int64_t up = a->decoding ? codec_config_shape(c).up : 1, pixels = a->array->dim[1] * up * a->array->dim[2] * up;
  a->batch = PIXELS_AT_ONCE / pixels;
  if (a->batch > a->m->batch_size) a->batch = a->m->batch_size;
  if (a->batch > a->array->dim[0]) a->batch = a->array->dim[0];
  if (a->batch < 1) a->batch = 1;
  TRY(elbo_graph_create(ctx, a->decoding ? "decoder" : "encoder", &g));
  int64_t dim[4] = {a->batch, a->array->dim[1], a->array->dim[2], a->array->dim[3]};
  elbo_tensor *input = elbo_input(g, a->decoding ? "codes" : "x", ELBO_F32, 4, dim);
  if (a->decoding)
    sample = codec_decode(c, input);
  else
    code = codec_encode(c, input);
  elbo_status status = elbo_graph_check(g);
  for (int i = 0; i < n_out && status == ELBO_OK; i++) {
    const char *name = out[i].name ? out[i].name : "";
    elbo_tensor *result = named_result(a, &code, sample, name);
    outputs[i] = result ? elbo_scale(result, 1, 0) : NULL; // the same tensor may be asked for twice
    if (!result)
      status = fail(ctx, ELBO_ERROR_ARGUMENT, "apply: output '%s': %s was expected", name,
                    a->decoding              ? "sample"
                    : c->network == CODEC_KL ? "mean or logvar"
                                             : "latents");
  }
  if (status != ELBO_OK) {
    elbo_graph_destroy(&g);
    return status;
  }
  TRY(session_create(ctx, g, a->m->store, a->batch, n_out, outputs, &a->session));
  for (int i = 0; i < n_out; i++) {
    int64_t size[4] = {a->array->dim[0]};
    for (int k = 1; k < 4; k++) size[k] = elbo_tensor_dim(outputs[i], k);
    TRY(elbo_array_create(ctx, ELBO_F32, 4, size, &out[i].array));
  }
  return ELBO_OK;
}

elbo_status autoencoder_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out,
                              elbo_named_array *out) {
  (void)component; // it stands alone
  application a = {.m = m};
  elbo_status status;
  TRY_GOTO(take_input(&a, n_in, in));
  TRY_GOTO(open_plan(&a, n_out, out));
  session_rows rows = {.x = a.decoding ? NULL : a.array->data, .codes = a.decoding ? a.array->data : NULL};
  int64_t n = a.array->dim[0];
  for (int64_t at = 0; at < n; at += a.batch) {
    int64_t count = n - at < a.batch ? n - at : a.batch;
    TRY_GOTO(session_run(&a.session, &rows, at, count));
    for (int i = 0; i < n_out; i++) {
      size_t row = elbo_array_bytes(out[i].array) / (size_t)n;
      memcpy((char *)out[i].array->data + (size_t)at * row, session_output(&a.session, i), (size_t)count * row);
    }
  }
fail:
  for (int i = 0; i < n_out && status != ELBO_OK; i++) elbo_array_destroy(&out[i].array);
  session_destroy(&a.session);
  elbo_array_destroy(&a.array);
  return status;
}
