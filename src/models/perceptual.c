#include "models/perceptual.h"

#include <elbo/ops.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/file.h"
#include "models/classifier.h"
#include "models/feature_net.h"
#include "models/lpips.h"
#include "ops/freeze.h"

#define SCOPE "perceptual"
#define CLASSIFIER "classifier" // of its parameters
#define VGG "vgg"
#define LEAST_SQUARE 1e-6 // beneath which a place's features are nothing that could be brought to length 1

enum { MOST_LEVELS = (int)MAX_LEVELS > (int)VGG_LEVELS ? (int)MAX_LEVELS : (int)VGG_LEVELS };

struct perceptual {
  elbo_ctx *ctx;
  feature_net *net; // a classifier; or NULL, and
  elbo_store *vgg;
  bool learned; // LPIPS' weights of the channels
  char hash[65];
};

static elbo_status open_classifier(perceptual *p, const char *what, const char *path, const picture_shape *of) {
  elbo_status status = feature_net_open(p->ctx, path, &p->net);
  if (status != ELBO_OK) return fail_within(p->ctx, status, "%s", what);
  const picture_shape *s = &feature_net_classifier(p->net)->shape;
  memcpy(p->hash, feature_net_hash(p->net), sizeof p->hash);
  if (s->height == of->height && s->width == of->width && s->channels == of->channels) return ELBO_OK;
  return fail(p->ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a classifier of pictures of %lldx%lldx%lld; these are %lldx%lldx%lld", what, path,
              (long long)s->height, (long long)s->width, (long long)s->channels, (long long)of->height, (long long)of->width,
              (long long)of->channels);
}

static elbo_status open_vgg(perceptual *p, const char *what, const char *path, const char *channels, const picture_shape *of) {
  if ((of->channels != 1 && of->channels != 3) || of->height < VGG_LEAST_SIDE || of->width < VGG_LEAST_SIDE)
    return fail(p->ctx, ELBO_ERROR_ARGUMENT, "%s: VGG-16 takes grey or coloured pictures of at least %dx%d; these are %lldx%lldx%lld", what,
                VGG_LEAST_SIDE, VGG_LEAST_SIDE, (long long)of->height, (long long)of->width, (long long)of->channels);
  elbo_status status = lpips_weights_read(p->ctx, path, channels, &p->vgg, &p->learned);
  if (status == ELBO_OK) status = file_sha256(p->ctx, path, p->hash);
  return status == ELBO_OK ? ELBO_OK : fail_within(p->ctx, status, "%s", what);
}

elbo_status perceptual_open(elbo_ctx *ctx, const char *what, const char *path, const char *channels, const picture_shape *of,
                            perceptual **out) {
  *out = NULL;
  const bool directory = directory_exists(path);
  if (!directory && !file_exists(path))
    return fail(ctx, ELBO_ERROR_IO,
                "%s: %s: not there; the run or model directory of a classifier, or a file of VGG-16's weights was expected", what, path);
  if (directory && *channels)
    return fail(ctx, ELBO_ERROR_ARGUMENT, "%s: %s: a classifier has no use for weights of VGG-16's channels (%s)", what, path, channels);
  perceptual *p = calloc(1, sizeof *p);
  if (!p) return fail_memory(ctx, sizeof *p, "a network of features");
  p->ctx = ctx;
  elbo_status status = directory ? open_classifier(p, what, path, of) : open_vgg(p, what, path, channels, of);
  if (status == ELBO_OK)
    *out = p;
  else
    perceptual_close(&p);
  return status;
}

void perceptual_close(perceptual **p) {
  if (!p || !*p) return;
  feature_net_close(&(*p)->net);
  elbo_store_destroy(&(*p)->vgg);
  free(*p);
  *p = NULL;
}

const char *perceptual_hash(const perceptual *p) { return p->hash; }

const char *perceptual_name(const perceptual *p) {
  return p->net ? "a classifier" : p->learned ? "LPIPS (VGG-16)" : "VGG-16, its channels alike";
}

// Maps of one picture, and how much each of their channels counts; NULL: alike.
typedef struct feature_maps {
  int n;
  elbo_tensor *map[MOST_LEVELS], *channels[MOST_LEVELS];
} feature_maps;

static feature_maps features_of(const perceptual *p, elbo_tensor *x) {
  feature_maps out = {0};
  if (!x) return out;
  elbo_graph *g = elbo_tensor_graph(x);
  elbo_scope_push(g, SCOPE);
  elbo_scope_push(g, p->net ? CLASSIFIER : VGG);
  if (p->net) {
    const classifier_spec *c = feature_net_classifier(p->net);
    const classifier_output of = classifier_network(&c->network, x, c->classes, false);
    for (; out.n < of.n; out.n++) out.map[out.n] = of.map[out.n];
  } else {
    const lpips_maps of = lpips_features(x);
    for (; out.n < VGG_LEVELS; out.n++) out.map[out.n] = of.features.map[out.n], out.channels[out.n] = of.channels[out.n];
  }
  elbo_scope_pop(g);
  elbo_scope_pop(g);
  return out;
}

static elbo_tensor *unit(elbo_tensor *v) {
  elbo_tensor *square = elbo_sum(elbo_square(v), 1u << 3, 1);
  return elbo_mul(v, elbo_rsqrt(elbo_scale(square, 1, LEAST_SQUARE)));
}

elbo_tensor *perceptual_distance(const perceptual *p, elbo_tensor *x, elbo_tensor *y) {
  const feature_maps a = features_of(p, x), b = features_of(p, y);
  elbo_tensor *sum = NULL;
  for (int i = 0; i < a.n && i < b.n; i++) {
    elbo_tensor *square = elbo_square(elbo_sub(unit(a.map[i]), unit(b.map[i])));
    if (a.channels[i]) square = elbo_mul(square, a.channels[i]);
    elbo_tensor *level = elbo_mean(elbo_sum(square, 1u << 3, 0), 3u << 1, 0); // (B,h,w) -> (B)
    sum = sum ? elbo_add(sum, level) : level;
  }
  if (sum) graph_freeze(elbo_tensor_graph(sum), PERCEPTUAL_PREFIX);
  return sum;
}

elbo_status perceptual_fill(const perceptual *p, elbo_store *to) {
  elbo_store *from = p->net ? feature_net_weights(p->net) : p->vgg;
  const size_t skipped = strlen(p->net ? PERCEPTUAL_PREFIX : PERCEPTUAL_PREFIX VGG ".");
  elbo_param_info want, have;
  for (int i = 0; i < elbo_store_count(to); i++) {
    TRY(elbo_store_get(to, i, &want));
    if (strncmp(want.name, PERCEPTUAL_PREFIX, strlen(PERCEPTUAL_PREFIX)) != 0) continue;
    TRY(elbo_store_find(from, want.name + skipped, &have));
    if (have.count != want.count) return fail(p->ctx, ELBO_ERROR_INTERNAL, "%s: %lld numbers", want.name, (long long)have.count);
    memcpy(want.data, have.data, (size_t)want.count * sizeof(float));
  }
  elbo_store_touch(to);
  return ELBO_OK;
}
