#include "models/perceptual.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "models/feature_net.h"
#include "ops/freeze.h"

#define SCOPE "perceptual"
#define NETWORK "classifier"
#define LEAST_SQUARE 1e-6 // beneath which a place's features are nothing that could be brought to length 1

struct perceptual {
  elbo_ctx *ctx;
  feature_net *net;
};

static elbo_status check(elbo_ctx *ctx, const char *what, const char *path, const picture_shape *of, const feature_net *net) {
  const classifier_spec *c = feature_net_classifier(net);
  if (!c) return fail(ctx, ELBO_ERROR_UNSUPPORTED, "%s: %s: the run or model directory of a classifier was expected", what, path);
  if (c->shape.height == of->height && c->shape.width == of->width && c->shape.channels == of->channels) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a classifier of pictures of %lldx%lldx%lld; these are %lldx%lldx%lld", what, path,
              (long long)c->shape.height, (long long)c->shape.width, (long long)c->shape.channels, (long long)of->height,
              (long long)of->width, (long long)of->channels);
}

elbo_status perceptual_open(elbo_ctx *ctx, const char *what, const char *path, const picture_shape *of, perceptual **out) {
  *out = NULL;
  if (!directory_exists(path))
    return fail(ctx, ELBO_ERROR_IO, "%s: %s: not there, or no directory; the run or model directory of a classifier was expected", what,
                path);
  perceptual *p = calloc(1, sizeof *p);
  if (!p) return fail_memory(ctx, sizeof *p, "a network of features");
  p->ctx = ctx;
  elbo_status status = feature_net_open(ctx, path, &p->net);
  if (status != ELBO_OK) status = fail_within(ctx, status, "%s", what);
  if (status == ELBO_OK) status = check(ctx, what, path, of, p->net);
  if (status == ELBO_OK)
    *out = p;
  else
    perceptual_close(&p);
  return status;
}

void perceptual_close(perceptual **p) {
  if (!p || !*p) return;
  feature_net_close(&(*p)->net);
  free(*p);
  *p = NULL;
}

const char *perceptual_hash(const perceptual *p) { return feature_net_hash(p->net); }

static classifier_output features_of(const perceptual *p, elbo_tensor *x) {
  const classifier_spec *c = feature_net_classifier(p->net);
  if (!x) return (classifier_output){0};
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_scope_push(g, SCOPE);
  elbo_scope_push(g, NETWORK);
  classifier_output out = classifier_network(&c->network, x, c->classes, false);
  elbo_scope_pop(g);
  elbo_scope_pop(g);
  return out;
}

static elbo_tensor *unit(elbo_tensor *v) {
  elbo_tensor *square = elbo_sum(elbo_square(v), 1u << 3, 1);
  return elbo_mul(v, elbo_rsqrt(elbo_scale(square, 1, LEAST_SQUARE)));
}

elbo_tensor *perceptual_distance(const perceptual *p, elbo_tensor *x, elbo_tensor *y) {
  classifier_output a = features_of(p, x), b = features_of(p, y);
  elbo_tensor *sum = NULL;
  for (int i = 0; i < a.n && i < b.n; i++) {
    elbo_tensor *apart = elbo_sum(elbo_square(elbo_sub(unit(a.map[i]), unit(b.map[i]))), 1u << 3, 0); // (B,h,w)
    elbo_tensor *level = elbo_mean(apart, 3u << 1, 0);
    sum = sum ? elbo_add(sum, level) : level;
  }
  if (sum) graph_freeze(elbo_tensor_graph(sum), PERCEPTUAL_PREFIX);
  return sum;
}

elbo_status perceptual_fill(const perceptual *p, elbo_store *to) {
  elbo_store *from = feature_net_weights(p->net);
  elbo_param_info want, have;
  for (int i = 0; i < elbo_store_count(to); i++) {
    TRY(elbo_store_get(to, i, &want));
    if (strncmp(want.name, PERCEPTUAL_PREFIX, strlen(PERCEPTUAL_PREFIX)) != 0) continue;
    TRY(elbo_store_find(from, want.name + strlen(PERCEPTUAL_PREFIX), &have));
    if (have.count != want.count) return fail(p->ctx, ELBO_ERROR_INTERNAL, "%s: %lld numbers", want.name, (long long)have.count);
    memcpy(want.data, have.data, (size_t)want.count * sizeof(float));
  }
  elbo_store_touch(to);
  return ELBO_OK;
}
