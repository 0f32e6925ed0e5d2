#include "models/inception_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "models/weights.h"
#include "nn/inception.h"

enum { CLASSES = 1008 }; // of the file's last layer, which features do not need; ImageNet's common 1000 mean other weights
#define SUFFIX ".conv.weight"

static elbo_status empty_store(elbo_ctx *ctx, elbo_store **out) {
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(ctx, "inception-v3", &g));
  inception_features(elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){1, INCEPTION_SIDE, INCEPTION_SIDE, 3}));
  elbo_status status = elbo_graph_check(g);
  if (status == ELBO_OK) status = elbo_store_create(ctx, 1, &g, 0, out);
  elbo_graph_destroy(&g);
  return status;
}

static elbo_status read_tensor(elbo_ctx *ctx, const weights *w, const char *stem, const char *rest, int rank, const int64_t *dim,
                               float *out) {
  char name[128], have[WEIGHTS_SHAPE_TEXT], want[WEIGHTS_SHAPE_TEXT];
  snprintf(name, sizeof name, "%s%s", stem, rest);
  const tensor_view *v = weights_find(w, name);
  if (!v) return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor %s is missing; Inception-v3's were expected", weights_path(w), name);
  bool same = v->rank == rank;
  for (int i = 0; same && i < rank; i++) same = v->dim[i] == dim[i];
  if (!same)
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s: shape %s where %s was expected", weights_path(w), name,
                weights_shape_text(v->rank, v->dim, have), weights_shape_text(rank, dim, want));
  if (!weights_read_floats(v, out))
    return fail(ctx, ELBO_ERROR_FORMAT, "%s: %s: a float type was expected, not %s", weights_path(w), name, elbo_dtype_name(v->dtype));
  return ELBO_OK;
}

// gamma (conv(x) - mean) / sqrt(var + eps) + beta = conv'(x) + b with weights and bias scaled by gamma / sqrt(var + eps)
static elbo_status read_unit(elbo_ctx *ctx, const weights *w, elbo_store *store, const elbo_param_info *p) {
  static const char *const norm[] = {".bn.weight", ".bn.bias", ".bn.running_mean", ".bn.running_var"};
  char stem[64], name[96];
  float *value[4] = {0};
  elbo_param_info bias;
  elbo_status status;
  int64_t out = p->dim[0], each = p->count / out;
  snprintf(stem, sizeof stem, "%.*s", (int)(strlen(p->name) - strlen(SUFFIX)), p->name);
  snprintf(name, sizeof name, "%s.conv.bias", stem);
  TRY_GOTO(elbo_store_find(store, name, &bias));
  TRY_GOTO(read_tensor(ctx, w, stem, SUFFIX, p->rank, p->dim, p->data));
  for (int i = 0; i < 4; i++) {
    TRY_GOTO(array_new(ctx, (size_t)out, sizeof(float), "weights", (void **)&value[i]));
    TRY_GOTO(read_tensor(ctx, w, stem, norm[i], 1, &out, value[i]));
  }
  for (int64_t o = 0; o < out; o++) {
    double scale = (double)value[0][o] / sqrt((double)value[3][o] + INCEPTION_BATCH_NORM_EPS);
    if (!isfinite(scale)) {
      status = fail(ctx, ELBO_ERROR_FORMAT, "%s: %s.bn: channel %lld cannot be normalised (variance %g)", weights_path(w), stem,
                    (long long)o, (double)value[3][o]);
      goto fail;
    }
    for (int64_t i = 0; i < each; i++) p->data[o * each + i] = (float)(scale * p->data[o * each + i]);
    bias.data[o] = (float)(value[1][o] - scale * value[2][o]);
  }
fail:
  for (int i = 0; i < 4; i++) free(value[i]);
  return status;
}

// Nothing but what is read, the counters of the batch norms, and the last layer.
static elbo_status check_names(elbo_ctx *ctx, const weights *w, elbo_store *store) {
  static const char counter[] = ".bn.num_batches_tracked", *const parts[] = {".bn.weight", ".bn.bias", ".bn.running_mean",
                                                                             ".bn.running_var"};
  for (int64_t i = 0; i < weights_count(w); i++) {
    const tensor_view *v = weights_at(w, i);
    size_t length = strlen(v->name), n = sizeof counter - 1;
    elbo_param_info p;
    char name[160];
    bool known = length > n && strcmp(v->name + length - n, counter) == 0;
    if (strcmp(v->name, "fc.weight") == 0 || strcmp(v->name, "fc.bias") == 0) {
      if (v->rank < 1 || v->dim[0] != CLASSES)
        return fail(ctx, ELBO_ERROR_FORMAT,
                    "%s: %s: %lld classes; the weights that FIDs are computed with have %d: these are others, with other figures",
                    weights_path(w), v->name, v->rank ? (long long)v->dim[0] : 0LL, CLASSES);
      known = true;
    }
    if (!known && length < sizeof name) known = elbo_store_find(store, v->name, &p) == ELBO_OK && p.rank == 4;
    for (int k = 0; k < 4 && !known && length < 128; k++) {
      size_t part = strlen(parts[k]);
      if (length <= part || strcmp(v->name + length - part, parts[k]) != 0) continue;
      snprintf(name, sizeof name, "%.*s" SUFFIX, (int)(length - part), v->name);
      known = elbo_store_find(store, name, &p) == ELBO_OK;
    }
    if (!known)
      return fail(ctx, ELBO_ERROR_FORMAT, "%s: tensor %s is not part of the Inception-v3 that FIDs are computed with", weights_path(w),
                  v->name);
  }
  return ELBO_OK;
}

elbo_status inception_weights_read(elbo_ctx *ctx, const char *path, elbo_store **out) {
  *out = NULL;
  elbo_store *store = NULL;
  weights *w = NULL;
  elbo_status status;
  TRY_GOTO(weights_open(ctx, path, &w));
  TRY_GOTO(empty_store(ctx, &store));
  TRY_GOTO(check_names(ctx, w, store));
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    TRY_GOTO(elbo_store_get(store, i, &p));
    if (p.rank == 4) TRY_GOTO(read_unit(ctx, w, store, &p));
  }
  elbo_store_touch(store);
  *out = store, store = NULL;
fail:
  weights_close(&w);
  elbo_store_destroy(&store);
  return status;
}
