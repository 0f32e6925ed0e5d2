// One call of a diffusion model's network on arrays, in the words of diffusers: sample, timestep, class_labels, encoder_hidden_states, ...
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/diffusion_model.h"

enum { MAX_INPUTS = 8 };

// What one input is to the network: shape (n, dim...) and the field of denoiser_inputs that takes it.
typedef struct network_input {
  const char *name;
  elbo_dtype dtype;
  int rank;
  int64_t dim[ELBO_MAX_RANK]; // -1: what is given
  bool optional;
  size_t field;
} network_input;

static int list_inputs(const denoiser_needs *needs, network_input *list) {
  int n = 0;
  list[n++] = (network_input){"sample", ELBO_F32, 4, {-1, -1, -1, needs->in_channels}, false, offsetof(denoiser_inputs, sample)};
  list[n++] = (network_input){"timestep", ELBO_F32, 1, {-1}, false, offsetof(denoiser_inputs, timestep)};
  const size_t labels = offsetof(denoiser_inputs, class_labels);
  if (needs->class_labels == CLASS_INPUT_INDEX) list[n++] = (network_input){"class_labels", ELBO_I32, 1, {-1}, false, labels};
  if (needs->class_labels == CLASS_INPUT_NUMBER) list[n++] = (network_input){"class_labels", ELBO_F32, 1, {-1}, false, labels};
  if (needs->class_labels == CLASS_INPUT_VECTOR)
    list[n++] = (network_input){"class_labels", ELBO_F32, 2, {-1, needs->class_dim}, false, labels};
  if (needs->context_dim)
    list[n++] =
        (network_input){"encoder_hidden_states", ELBO_F32, 3, {-1, -1, needs->context_dim}, false, offsetof(denoiser_inputs, context)};
  if (needs->added_dim) {
    list[n++] = (network_input){"text_embeds", ELBO_F32, 2, {-1, -1}, false, offsetof(denoiser_inputs, text_embeds)};
    list[n++] = (network_input){"time_ids", ELBO_F32, 2, {-1, -1}, false, offsetof(denoiser_inputs, time_ids)};
  }
  if (needs->timestep_cond_dim)
    list[n++] =
        (network_input){"timestep_cond", ELBO_F32, 2, {-1, needs->timestep_cond_dim}, true, offsetof(denoiser_inputs, timestep_cond)};
  return n;
}

typedef struct application {
  elbo_model *m;
  int n_inputs;
  network_input input[MAX_INPUTS];
  elbo_array *array[MAX_INPUTS]; // converted; NULL: not given
  int64_t n, batch;
  session session;
} application;

static elbo_status refuse_input(const application *a, const char *name) {
  char all[256] = "";
  size_t used = 0;
  for (int i = 0; i < a->n_inputs && used < sizeof all; i++)
    used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", a->input[i].name);
  return fail(a->m->ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s': this network takes %s", name ? name : "", all);
}

// One timestep, or one label, for all rows.
static elbo_status repeat_single(const application *a, elbo_array **array) {
  elbo_array *old = *array, *wide = NULL;
  TRY(elbo_array_create(a->m->ctx, old->dtype, 1, &a->n, &wide));
  for (int64_t i = 0; i < a->n; i++) memcpy((char *)wide->data + 4 * i, old->data, 4);
  elbo_array_destroy(array);
  *array = wide;
  return ELBO_OK;
}

static elbo_status check_input(application *a, int i) {
  const network_input *in = &a->input[i];
  elbo_array *v = a->array[i];
  char given[ARRAY_TEXT_SIZE], wanted[ARRAY_TEXT_SIZE];
  if (in->rank == 1 && a->n != 1 && elbo_array_count(v) == 1) {
    TRY(repeat_single(a, &a->array[i]));
    v = a->array[i];
  }
  bool same = v->rank == in->rank && v->dim[0] == a->n;
  size_t used = (size_t)snprintf(wanted, sizeof wanted, "(%lld", (long long)a->n);
  for (int d = 1; d < in->rank; d++) {
    same = same && (in->dim[d] < 0 ? v->dim[d] > 0 : v->dim[d] == in->dim[d]);
    used += in->dim[d] < 0 ? (size_t)snprintf(wanted + used, sizeof wanted - used, ",any")
                           : (size_t)snprintf(wanted + used, sizeof wanted - used, ",%lld", (long long)in->dim[d]);
  }
  if (same) return ELBO_OK;
  return fail(a->m->ctx, ELBO_ERROR_ARGUMENT, "apply: %s: %s) was expected, not %s", in->name, wanted, array_text(v, given, sizeof given));
}

static elbo_status take_inputs(application *a, int n_in, const elbo_named_array *in) {
  elbo_ctx *ctx = a->m->ctx;
  for (int k = 0; k < n_in; k++) {
    int i = 0;
    while (i < a->n_inputs && (!in[k].name || strcmp(in[k].name, a->input[i].name) != 0)) i++;
    if (i == a->n_inputs || !in[k].array) return refuse_input(a, in[k].name);
    if (a->array[i]) return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s' is given twice", in[k].name);
    TRY(elbo_array_convert(ctx, in[k].array, a->input[i].dtype, &a->array[i]));
  }
  for (int i = 0; i < a->n_inputs; i++)
    if (!a->array[i] && !a->input[i].optional) return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: input '%s' is missing", a->input[i].name);
  a->n = a->array[0]->rank ? a->array[0]->dim[0] : 0;
  if (a->n < 1) return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: sample: at least one row was expected");
  for (int i = 0; i < a->n_inputs; i++)
    if (a->array[i]) TRY(check_input(a, i));
  denoiser_needs needs = denoiser_config_needs(&a->m->diffusion->spec.model.denoiser);
  for (int i = 0; i < a->n_inputs; i++) {
    const int32_t *label = a->input[i].dtype == ELBO_I32 && a->array[i] ? a->array[i]->data : NULL;
    for (int64_t r = 0; label && r < a->n; r++)
      if (label[r] < 0 || label[r] >= needs.classes)
        return fail(ctx, ELBO_ERROR_ARGUMENT, "apply: class_labels: %d of row %lld: 0 to %lld was expected", (int)label[r], (long long)r,
                    (long long)needs.classes - 1);
  }
  return ELBO_OK;
}

static elbo_status open_plan(application *a, elbo_array **out) {
  elbo_ctx *ctx = a->m->ctx;
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(ctx, "apply", &g));
  a->batch = a->n < a->m->batch_size ? a->n : a->m->batch_size;
  denoiser_inputs in = {.graph = g};
  for (int i = 0; i < a->n_inputs; i++) {
    if (!a->array[i]) continue;
    int64_t dim[ELBO_MAX_RANK];
    memcpy(dim, a->array[i]->dim, sizeof dim);
    dim[0] = a->batch;
    elbo_tensor *t = elbo_input(g, a->input[i].name, a->input[i].dtype, a->array[i]->rank, dim);
    memcpy((char *)&in + a->input[i].field, &t, sizeof t);
  }
  const denoiser_config *c = &a->m->diffusion->spec.model.denoiser;
  elbo_status status = denoiser_check(ctx, c, a->array[0]->dim[1], a->array[0]->dim[2], "apply");
  if (status != ELBO_OK) {
    elbo_graph_destroy(&g);
    return status;
  }
  elbo_scope_push(g, DENOISER_SCOPE);
  elbo_tensor *y = diffusion_mixed(&a->m->diffusion->spec, denoiser_network(c, &in));
  elbo_scope_pop(g);
  TRY(session_create(ctx, g, a->m->store, a->batch, 1, &y, &a->session));
  int64_t dim[4] = {a->n, elbo_tensor_dim(y, 1), elbo_tensor_dim(y, 2), elbo_tensor_dim(y, 3)};
  return elbo_array_create(ctx, ELBO_F32, 4, dim, out);
}

static elbo_status run_plan(application *a, elbo_array *out) {
  size_t row_out = elbo_array_bytes(out) / (size_t)a->n;
  for (int64_t at = 0; at < a->n; at += a->batch) {
    int64_t count = a->n - at < a->batch ? a->n - at : a->batch;
    for (int i = 0; i < a->n_inputs; i++) {
      char *to = a->array[i] ? elbo_plan_input(a->session.plan, a->input[i].name) : NULL;
      size_t row = to ? elbo_array_bytes(a->array[i]) / (size_t)a->n : 0;
      for (int64_t r = 0; to && r < a->batch; r++) // what is missing of the batch repeats its first row
        memcpy(to + (size_t)r * row, (char *)a->array[i]->data + (size_t)(at + (r < count ? r : 0)) * row, row);
    }
    TRY(elbo_plan_run(a->session.plan, a->m->store));
    memcpy((char *)out->data + (size_t)at * row_out, session_output(&a->session, 0), (size_t)count * row_out);
  }
  return ELBO_OK;
}

elbo_status diffusion_apply(elbo_model *m, const char *component, int n_in, const elbo_named_array *in, int n_out, elbo_named_array *out) {
  application a = {.m = m};
  elbo_status status;
  const char *folder = m->diffusion->network_folder;
  if (component && folder && strcmp(component, folder) != 0)
    return fail(m->ctx, ELBO_ERROR_UNSUPPORTED, "apply: %s is no network; %s is this model's", component, folder);
  if (n_out != 1 || !out[0].name || strcmp(out[0].name, "sample") != 0)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "apply: output '%s': a diffusion network has one, sample",
                n_out && out[0].name ? out[0].name : "");
  denoiser_needs needs = denoiser_config_needs(&m->diffusion->spec.model.denoiser);
  a.n_inputs = list_inputs(&needs, a.input);
  TRY_GOTO(take_inputs(&a, n_in, in));
  TRY_GOTO(open_plan(&a, &out[0].array));
  TRY_GOTO(run_plan(&a, out[0].array));
fail:
  if (status != ELBO_OK) elbo_array_destroy(&out[0].array);
  session_destroy(&a.session);
  for (int i = 0; i < a.n_inputs; i++) elbo_array_destroy(&a.array[i]);
  return status;
}
