#include "models/lpips.h"

#include <elbo/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "models/weights.h"

// Of ImageNet's pictures in -1..1 [Zhang18, the authors' code].
static const float shift[3] = {-0.030f, -0.088f, -0.188f}, scale[3] = {0.458f, 0.448f, 0.450f};

lpips_maps lpips_features(elbo_tensor *x) {
  lpips_maps out = {.features = {{NULL}}};
  if (!x) return out;
  elbo_graph *g = elbo_tensor_graph(x);
  float factor[3], offset[3];
  for (int c = 0; c < 3; c++) factor[c] = 2 / scale[c], offset[c] = (-1 - shift[c]) / scale[c];
  if (elbo_tensor_dim(x, 3) == 1) x = elbo_concat(3, (elbo_tensor *[]){x, x, x}, 3);
  x = elbo_add(elbo_mul(x, elbo_constant_array(g, 4, (int64_t[]){1, 1, 1, 3}, factor)),
               elbo_constant_array(g, 4, (int64_t[]){1, 1, 1, 3}, offset));
  out.features = vgg_features(x);
  for (int l = 0; l < VGG_LEVELS; l++) {
    char name[32];
    snprintf(name, sizeof name, "linear.%d", l);
    out.channels[l] = elbo_parameter(g, name, 1, (int64_t[]){vgg_channels(l)}, ELBO_PARAM_FROZEN, ELBO_INIT_ONES);
  }
  return out;
}

static elbo_status empty_store(elbo_ctx *ctx, elbo_store **out) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(ctx, "lpips", &g));
  lpips_features(elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, VGG_LEAST_SIDE, VGG_LEAST_SIDE, 3}));
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK) status = elbo_store_create(ctx, 1, &g, 0, out);
  elbo_graph_destroy(&g);
  return status;
}

// The name after `prefix` and one more part: "slice3" of net.slice3.10.weight; NULL for another.
static const char *behind_slice(const char *name) {
  static const char prefix[] = "net.slice";
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return NULL;
  const char *dot = strchr(name + sizeof prefix - 1, '.');
  return dot ? dot + 1 : NULL;
}

// The store's parameter for a tensor of a file, "" for one that is passed over; false: of another network.
static bool parameter_of(const char *name, bool vgg, char *out, size_t size) {
  static const char *const rest[] = {"classifier.", "scaling_layer.", "avgpool."};
  int level, end = 0;
  *out = '\0';
  for (size_t i = 0; vgg && i < sizeof rest / sizeof *rest; i++)
    if (strncmp(name, rest[i], strlen(rest[i])) == 0) return true;
  if (vgg && strncmp(name, "features.", 9) == 0) return snprintf(out, size, "%s", name) < (int)size;
  if (vgg && behind_slice(name)) return snprintf(out, size, "features.%s", behind_slice(name)) < (int)size;
  // the package's own checkpoints have each of these twice, under "lin0" and in the list "lins.0"
  bool linear = sscanf(name, "lin%d.model.1.weight%n", &level, &end) == 1 && !name[end];
  if (!linear) linear = sscanf(name, "lins.%d.model.1.weight%n", &level, &end) == 1 && !name[end];
  return linear && snprintf(out, size, "linear.%d", level) < (int)size;
}

// One tensor into its parameter: of the same shape, but for the ones around a channel's weight.
static elbo_status read_tensor(elbo_ctx *ctx, const weights *w, const tensor_view *v, const elbo_param_info *p) {
  char have[WEIGHTS_SHAPE_TEXT], want[WEIGHTS_SHAPE_TEXT];
  const bool linear = strncmp(p->name, "linear.", 7) == 0;
  const int64_t around[4] = {1, p->dim[0], 1, 1}, *dim = linear ? around : p->dim;
  const int rank = linear ? 4 : p->rank;
  bool same = v->rank == rank;
  for (int i = 0; same && i < rank; i++) same = v->dim[i] == dim[i];
  if (!same)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s: shape %s where %s was expected", weights_path(w), v->name,
                weights_shape_text(v->rank, v->dim, have), weights_shape_text(rank, dim, want));
  if (!weights_read_floats(v, p->data))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s: a float type was expected, not %s", weights_path(w), v->name, elbo_dtype_name(v->dtype));
  for (int64_t i = 0; linear && i < p->count; i++)
    if (!(p->data[i] >= 0))
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s: weight %lld of a channel is %g; none below zero was expected", weights_path(w), v->name,
                  (long long)i, (double)p->data[i]);
  return ELBO_OK;
}

static int index_of(const elbo_store *store, const char *name) {
  elbo_param_info p;
  for (int i = 0; i < elbo_store_count(store); i++)
    if (elbo_store_get(store, i, &p) == ELBO_OK && strcmp(p.name, name) == 0) return i;
  return -1;
}

// Reads what the file has; read: a mark for each parameter of the store.
static elbo_status read_file(elbo_ctx *ctx, const char *path, bool vgg, elbo_store *store, bool *read) {
  weights *w = NULL;
  elbo_status status;
  TRY_GOTO(weights_open(ctx, path, &w));
  for (int64_t k = 0; k < weights_count(w); k++) {
    const tensor_view *v = weights_at(w, k);
    elbo_param_info p;
    char name[128];
    bool known = parameter_of(v->name, vgg, name, sizeof name);
    if (known && !*name) continue;
    int at = known ? index_of(store, name) : -1;
    if (at < 0)
      TRY_GOTO(fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor %s is not part of %s", path, v->name, vgg ? "VGG-16" : "LPIPS' linear layers"));
    TRY_GOTO(elbo_store_get(store, at, &p));
    TRY_GOTO(read_tensor(ctx, w, v, &p));
    read[at] = true;
  }
fail:
  weights_close(&w);
  return status;
}

static elbo_status check_complete(elbo_ctx *ctx, const char *vgg, const char *channels, elbo_store *store, const bool *read,
                                  bool *learned) {
  *learned = *channels;
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    TRY(elbo_store_get(store, i, &p));
    if (strncmp(p.name, "linear.", 7) == 0 && read[i]) *learned = true;
  }
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    TRY(elbo_store_get(store, i, &p));
    const bool linear = strncmp(p.name, "linear.", 7) == 0;
    if (read[i] || (linear && !*learned)) continue;
    if (linear) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor lin%s.model.1.weight is missing", *channels ? channels : vgg, p.name + 7);
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor %s is missing; VGG-16's were expected", vgg, p.name);
  }
  return ELBO_OK;
}

elbo_status lpips_weights_read(elbo_ctx *ctx, const char *vgg, const char *channels, elbo_store **out, bool *learned) {
  bool *read = NULL;
  elbo_status status;
  *out = NULL;
  TRY(empty_store(ctx, out));
  read = calloc((size_t)elbo_store_count(*out), sizeof *read);
  if (!read) TRY_GOTO(fail_memory(ctx, (size_t)elbo_store_count(*out), "weights"));
  TRY_GOTO(read_file(ctx, vgg, true, *out, read));
  if (*channels) TRY_GOTO(read_file(ctx, channels, false, *out, read));
  TRY_GOTO(check_complete(ctx, vgg, channels, *out, read, learned));
  elbo_store_touch(*out);
fail:
  free(read);
  if (status != ELBO_OK) elbo_store_destroy(out);
  return status;
}
