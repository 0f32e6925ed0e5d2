// An autoencoder's two networks on arrays, in the words of diffusers.
#include <string.h>

#include "models/autoencoder.h"

typedef struct wanted {
  int n;
  const elbo_named_array *out;
} wanted;

// Which of the network's results an output is; NULL: none of that name.
static elbo_tensor *named_result(const autoencoder_call *c, const codec_code *code, elbo_tensor *sample, const char *name) {
  if (c->decoding) return strcmp(name, "sample") == 0 ? sample : NULL;
  if (c->m->autoencoder->network != CODEC_KL) return strcmp(name, "latents") == 0 ? code->mean : NULL;
  return strcmp(name, "mean") == 0 ? code->mean : strcmp(name, "logvar") == 0 ? code->logvar : NULL;
}

static elbo_status make_results(const autoencoder_call *c, elbo_tensor *in, const void *user, elbo_tensor **outputs) {
  const wanted *w = user;
  const codec_config *config = c->m->autoencoder;
  codec_code code = {0};
  elbo_tensor *sample = c->decoding ? codec_decode(config, in) : NULL;
  if (!c->decoding) code = codec_encode(config, in);
  if (in) TRY(elbo_graph_check(elbo_tensor_graph(in)));
  for (int i = 0; i < w->n; i++) {
    const char *name = w->out[i].name ? w->out[i].name : "";
    elbo_tensor *result = named_result(c, &code, sample, name);
    outputs[i] = elbo_scale(result, 1, 0); // the same tensor may be asked for twice
    if (!result)
      return fail(c->m->ctx, ELBO_ERROR_ARGUMENT, "apply: output '%s': %s was expected", name,
                  c->decoding                   ? "sample"
                  : config->network == CODEC_KL ? "mean or logvar"
                                                : "latents");
  }
  return ELBO_OK;
}

elbo_status autoencoder_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out,
                              elbo_named_array *out) {
  (void)component; // it stands alone
  const char *name = n_in && in[0].name ? in[0].name : "";
  elbo_array *x = NULL, *results[APPLY_OUTPUTS];
  if (n_in != 1 || !in[0].array || (strcmp(name, "x") != 0 && strcmp(name, "z") != 0))
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s': one of x (pictures, to encode) and z (codes, to decode) was expected",
                n_in > 1 && in[1].name ? in[1].name : name);
  TRY(elbo_array_convert(m->ctx, in[0].array, ELBO_F32, &x));
  wanted w = {n_out, out};
  autoencoder_call call = {.m = m, .what = *name == 'z' ? "apply: z" : "apply: x", .decoding = *name == 'z', .in = x};
  elbo_status status = autoencoder_run(&call, make_results, &w, n_out, results);
  for (int i = 0; i < n_out && status == ELBO_OK; i++) out[i].array = results[i];
  elbo_array_destroy(&x);
  return status;
}
