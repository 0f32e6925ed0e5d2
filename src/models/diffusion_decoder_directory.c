// Diffusion decoders on disk: an index, and beside it whole model directories: of the diffusion (decoder), of the VAE (vae), of the
// diffusion over codes (prior).
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_file.h"
#include "core/config_json.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "graph/store_memory.h"
#include "models/diffusion_decoder.h"
#include "models/weights.h"
#include "train/run.h"

typedef struct decoder_index {
  int preset; // decoder_told
  code_config code;
  int64_t step;
} decoder_index;
static const config_field index_fields[] = {
    CONFIG_ENUM(decoder_index, preset, NULL, "diffae|diffusion-decoder", "kind of model"),
    CONFIG_SECTION(decoder_index, code, &code_table),
    CONFIG_INT(decoder_index, step, -1, 9e18, "-1", "steps", "of training"),
};
static const config_table index_table = CONFIG_TABLE("_elbo", decoder_index, index_fields, "what the model is of");
static const config_file_form encoder_form = {.classes = "ElboEncoder"};

#define OWN_CLASS "ElboDiffusionDecoder"
#define STATISTICS "prior/code_statistics.safetensors"

// --- writing ---

static elbo_status make_folder(elbo_ctx *ctx, const char *directory, const char *name, char path[PATH_MAX]) {
  TRY(path_join(ctx, path, PATH_MAX, directory, name));
  return directory_make(ctx, path);
}

static elbo_status write_encoder(elbo_ctx *ctx, const char *directory, const decoder_spec *spec, elbo_store *store) {
  char folder[PATH_MAX], path[PATH_MAX];
  TRY(make_folder(ctx, directory, "encoder", folder));
  TRY(path_join(ctx, path, sizeof path, folder, "config.json"));
  TRY(config_file_write(ctx, &encoder_table, &encoder_form, &spec->encoder, path));
  return weights_write(ctx, folder, "encoder", store);
}

elbo_status decoder_directory_write(elbo_ctx *ctx, const char *directory, const decoder_spec *spec, elbo_store *store,
                                    const elbo_model *vae, int64_t step) {
  const bool code = spec->told == TOLD_CODE;
  decoder_index of = {.preset = spec->told, .code = spec->code, .step = step};
  if (!code) of.code.dim = vae_code_size(&vae->spec);
  char path[PATH_MAX];
  json_t *index = json_object();
  json_object_set_new(index, "_class_name", json_string(OWN_CLASS));
  json_object_set_new(index, "_elbo_version", json_string(elbo_version()));
  json_object_set_new(index, "_elbo", config_json(&index_table, &of));
  json_object_set_new(index, "decoder", json_pack("[ss]", "elbo", "ElboDiffusion"));
  json_object_set_new(index, code ? "encoder" : "vae", json_pack("[ss]", "elbo", code ? "ElboEncoder" : "ElboVAE"));
  elbo_status status = path_join(ctx, path, sizeof path, directory, "model_index.json");
  if (status == ELBO_OK) status = index ? json_write(ctx, path, index) : fail_memory(ctx, 1024, "JSON");
  json_decref(index);
  TRY(status);
  TRY(make_folder(ctx, directory, "decoder", path));
  TRY(diffusion_directory_write(ctx, path, &spec->pixels, store, step));
  if (code) return write_encoder(ctx, directory, spec, store);
  TRY(make_folder(ctx, directory, "vae", path));
  TRY(model_directory_write(ctx, path, &vae->spec, vae->store, vae->step));
  if (!vae->fitted.components) return ELBO_OK;
  return model_directory_write_mixture(ctx, path, &vae->fitted);
}

elbo_status decoder_directory_write_mixture(elbo_ctx *ctx, const char *directory, const gaussian_mixture *mixture) {
  char path[PATH_MAX];
  TRY(make_folder(ctx, directory, "prior", path));
  return model_directory_write_mixture(ctx, directory, mixture);
}

elbo_status decoder_directory_write_prior(elbo_ctx *ctx, const char *directory, const diffusion_spec *spec, elbo_store *store,
                                          const float *mean, const float *scale, int64_t step) {
  const int64_t d = spec->channels;
  tensor_view views[2] = {{.name = "mean", .rank = 1, .dim = {d}, .data = mean, .bytes = (size_t)d * sizeof *mean},
                          {.name = "scale", .rank = 1, .dim = {d}, .data = scale, .bytes = (size_t)d * sizeof *scale}};
  char path[PATH_MAX];
  TRY(make_folder(ctx, directory, "prior", path));
  TRY(diffusion_directory_write(ctx, path, spec, store, step));
  TRY(path_join(ctx, path, sizeof path, directory, STATISTICS));
  return safetensors_write(ctx, path, 2, views, 1, (const char *const[]){"format", "pt"});
}

// --- stores ---

static elbo_status parameter_graph(elbo_ctx *ctx, const decoder_spec *spec, elbo_graph **out) {
  elbo_graph *g = NULL;
  const diffusion_spec *s = &spec->pixels;
  TRY(elbo_graph_create(ctx, "model", &g));
  diffusion_declare(s, g);
  if (spec->told == TOLD_CODE) {
    elbo_tensor *mean, *log_std, *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, s->height, s->width, s->channels});
    code_posterior(spec, g, x, false, &mean, &log_std);
  }
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK)
    *out = g;
  else
    elbo_graph_destroy(&g);
  return status;
}

elbo_status decoder_store_create(elbo_ctx *ctx, const decoder_spec *spec, uint64_t seed, elbo_store **out) {
  elbo_graph *g;
  *out = NULL;
  TRY(parameter_graph(ctx, spec, &g));
  elbo_status status = elbo_store_create(ctx, 1, &g, seed, out);
  elbo_graph_destroy(&g);
  return status;
}

// --- reading ---

static elbo_status read_encoder_weights(elbo_ctx *ctx, const char *directory, elbo_store *store) {
  char folder[PATH_MAX];
  weights *w = NULL;
  TRY(path_join(ctx, folder, sizeof folder, directory, "encoder"));
  TRY(weights_open(ctx, folder, &w));
  elbo_status status = weights_lend_to_store(ctx, &w, "encoder", store);
  weights_close(&w);
  return status;
}

static elbo_status map_weights(elbo_model *m, const char *directory, const char *decoder) {
  elbo_graph *g;
  const decoder_spec *spec = &m->decoder->spec;
  TRY(parameter_graph(m->ctx, spec, &g));
  elbo_status status = store_create_unfilled(m->ctx, 1, &g, &m->store);
  elbo_graph_destroy(&g);
  if (status == ELBO_OK) status = diffusion_directory_weights(m->ctx, decoder, m->diffusion, m->store);
  if (status == ELBO_OK && spec->told == TOLD_CODE) status = read_encoder_weights(m->ctx, directory, m->store);
  return status == ELBO_OK ? store_check_filled(m->store) : status;
}

static elbo_status read_statistics(elbo_model *m, const char *directory) {
  decoder_model *d = m->decoder;
  const int64_t dim = d->spec.code.dim;
  char path[PATH_MAX];
  safetensors *file = NULL;
  TRY(path_join(m->ctx, path, sizeof path, directory, STATISTICS));
  TRY(safetensors_open(m->ctx, path, &file));
  static const char *const name[] = {"mean", "scale"};
  float **const to[] = {&d->mean, &d->scale};
  elbo_status status = ELBO_OK;
  for (int i = 0; i < 2 && status == ELBO_OK; i++) {
    const tensor_view *v = safetensors_find(file, name[i]);
    bool fits = v && v->dtype == ELBO_F32 && v->rank == 1 && v->dim[0] == dim;
    const float *at = fits ? v->data : NULL;
    for (int64_t k = 0; fits && k < dim; k++) fits = isfinite(at[k]) && (i == 0 || at[k] > 0);
    if (!fits)
      status = fail(m->ctx, ELBO_ERROR_FORMAT, "%s: %s: %lld finite numbers%s, float32, were expected", path, name[i], (long long)dim,
                    i ? " above 0" : "");
    else if (!(*to[i] = arena_alloc(m->arena, v->bytes)))
      status = fail_memory(m->ctx, v->bytes, "a prior");
    else
      memcpy(*to[i], at, v->bytes);
  }
  safetensors_close(&file);
  return status;
}

// DIRECTORY/NAME, which must be of this kind: asked before it is opened, since a decoder's directory could hold itself.
static elbo_status open_part(elbo_model *m, const char *path, const model_kind *kind, elbo_model **out) {
  const char *class_name;
  TRY(model_directory_class(m->ctx, m->arena, path, &class_name));
  if (model_kind_of_class(class_name) != kind)
    return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: _class_name: '%s'; a model of kind %s was expected", path, class_name, kind->preset);
  return elbo_model_load(m->ctx, path, NULL, out);
}

static elbo_status open_prior(elbo_model *m, const char *directory, bool *there) {
  char path[PATH_MAX], index[PATH_MAX];
  decoder_model *d = m->decoder;
  TRY(path_join(m->ctx, path, sizeof path, directory, "prior"));
  TRY(path_join(m->ctx, index, sizeof index, path, "model_index.json"));
  *there = file_exists(index);
  if (!*there) return ELBO_OK;
  TRY(open_part(m, path, &model_kind_diffusion, &d->prior));
  const diffusion_spec *s = &d->prior->diffusion->spec;
  if (s->height != 1 || s->width != 1 || s->channels != d->spec.code.dim || d->spec.told != TOLD_CODE)
    return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: a diffusion over codes of %lld numbers was expected", path, (long long)d->spec.code.dim);
  if (m->ema != 0) {
    elbo_store *chosen = NULL;
    TRY(diffusion_store_create(m->ctx, s, 0, &chosen));
    elbo_status status = run_read_weights(m->ctx, directory, m->ema, chosen);
    elbo_store_destroy(status == ELBO_OK ? &d->prior->store : &chosen);
    TRY(status);
    d->prior->store = chosen;
  }
  return read_statistics(m, directory);
}

static elbo_status open_vae(elbo_model *m, const char *directory) {
  char path[PATH_MAX];
  const diffusion_spec *s = &m->diffusion->spec;
  TRY(path_join(m->ctx, path, sizeof path, directory, "vae"));
  TRY(open_part(m, path, &model_kind_vae, &m->decoder->vae));
  const elbo_model *vae = m->decoder->vae;
  if (vae->spec.shape.height != s->height || vae->spec.shape.width != s->width || vae->spec.shape.channels != s->channels ||
      vae->spec.model.condition.type != CONDITION_NONE)
    return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: an unconditional VAE of pictures %lld x %lld x %lld was expected", path,
                (long long)s->height, (long long)s->width, (long long)s->channels);
  return ELBO_OK;
}

static elbo_status read_spec(elbo_model *m, const char *directory, char decoder[PATH_MAX]) {
  decoder_spec *spec = &m->decoder->spec;
  decoder_index of;
  yaml_node *root = NULL;
  char path[PATH_MAX];
  int64_t step;
  TRY(path_join(m->ctx, path, sizeof path, directory, "model_index.json"));
  TRY(yaml_read(m->ctx, m->arena, path, &root));
  const yaml_node *own = yaml_get(root, "_elbo");
  if (!own) return fail(m->ctx, ELBO_ERROR_FORMAT, "%s: _elbo: missing", path);
  TRY(config_load(m->ctx, m->arena, &index_table, own, "_elbo", &of));
  spec->told = of.preset, spec->code = of.code, m->step = of.step;
  TRY(path_join(m->ctx, decoder, PATH_MAX, directory, "decoder"));
  TRY(diffusion_directory_read(m->ctx, m->arena, decoder, m->diffusion, &step));
  spec->pixels = m->diffusion->spec;
  const diffusion_condition_config *c = &spec->pixels.model.condition;
  const int wanted = spec->told == TOLD_CODE ? DIFFUSION_CODE : DIFFUSION_RECONSTRUCTION;
  if (c->type != wanted || (wanted == DIFFUSION_CODE && c->dim != spec->code.dim))
    return yaml_fail(m->ctx, own, "_elbo", "says a code of %lld numbers; the diffusion in %s is told of something else",
                     (long long)spec->code.dim, decoder);
  if (spec->told == TOLD_CODE) {
    TRY(path_join(m->ctx, path, sizeof path, directory, "encoder/config.json"));
    TRY(config_file_read(m->ctx, m->arena, &encoder_table, &encoder_form, path, &spec->encoder));
  }
  return decoder_spec_check(m->ctx, spec, directory);
}

elbo_status decoder_directory_open(elbo_model *m, const char *directory) {
  char decoder[PATH_MAX];
  bool has_prior;
  m->diffusion = calloc(1, sizeof *m->diffusion);
  m->decoder = calloc(1, sizeof *m->decoder);
  if (!m->diffusion || !m->decoder) return fail_memory(m->ctx, sizeof *m->decoder, "a model");
  TRY(read_spec(m, directory, decoder));
  const decoder_spec *spec = &m->decoder->spec;
  TRY(open_prior(m, directory, &has_prior));
  if (spec->told == TOLD_RECONSTRUCTION) TRY(open_vae(m, directory));
  if (m->ema != 0 && !has_prior) { // what this checkpoint trained
    TRY(decoder_store_create(m->ctx, spec, 0, &m->store));
    TRY(run_read_weights(m->ctx, directory, m->ema, m->store));
  } else {
    TRY(map_weights(m, directory, decoder));
  }
  if (spec->code.fitted) TRY(model_directory_read_mixture(m->ctx, directory, decoder_code_size(m), &m->fitted));
  return diffusion_process_create(m->ctx, &m->diffusion->spec, m->store, directory, &m->diffusion->process);
}

void decoder_close(elbo_model *m) {
  if (m->decoder) {
    elbo_model_destroy(&m->decoder->vae);
    elbo_model_destroy(&m->decoder->prior);
    free(m->decoder);
    m->decoder = NULL;
  }
  diffusion_view_close(m);
}
