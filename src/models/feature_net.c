#include "models/feature_net.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "models/classifier.h"
#include "models/inception_weights.h"
#include "models/weights.h"
#include "nn/inception.h"
#include "train/run.h"

// Inception's first maps take 15 MB a picture.
enum { CLASSIFIER_BATCH = 64, INCEPTION_BATCH = 16 };

struct feature_net {
  elbo_ctx *ctx;
  const char *name;
  char hash[65];
  int64_t dim;
  arena *arena;
  classifier_spec classifier; // classes 0: Inception
  elbo_store *store;
  session session; // of pictures of `shape`; a plan is made anew for another
  picture_shape shape;
};

// The weights' own file, so that neither configuration nor index changes the hash.
static elbo_status open_classifier(feature_net *net, const char *path) {
  char checkpoint[PATH_MAX], folder[PATH_MAX], file[PATH_MAX];
  int64_t step;
  bool found;
  const char *directory = path;
  if (run_is_run(path)) {
    TRY(run_find_checkpoint(net->ctx, path, -1, checkpoint, sizeof checkpoint, &step));
    directory = checkpoint;
  }
  TRY(classifier_directory_read_spec(net->ctx, net->arena, directory, &net->classifier, &step));
  TRY(classifier_store_create(net->ctx, &net->classifier, 0, &net->store));
  TRY(classifier_directory_read_weights(net->ctx, directory, net->store));
  TRY(path_join(net->ctx, folder, sizeof folder, directory, "classifier"));
  TRY(weights_locate(net->ctx, folder, file, sizeof file, &found));
  TRY(file_sha256(net->ctx, file, net->hash));
  net->name = "classifier", net->dim = net->classifier.network.features;
  return ELBO_OK;
}

static elbo_status open_inception(feature_net *net, const char *path) {
  TRY(inception_weights_read(net->ctx, path, &net->store));
  TRY(file_sha256(net->ctx, path, net->hash));
  net->name = "inception-v3", net->dim = INCEPTION_FEATURES;
  return ELBO_OK;
}

elbo_status feature_net_open(elbo_ctx *ctx, const char *path, feature_net **out) {
  *out = NULL;
  if (!directory_exists(path) && !file_exists(path))
    return fail(ctx, ELBO_ERROR_IO, "%s: not there; a classifier's run or model directory, or a file of Inception-v3 weights was expected",
                path);
  feature_net *net = calloc(1, sizeof *net);
  if (!net) return fail_memory(ctx, sizeof *net, "a network of features");
  net->ctx = ctx;
  net->arena = arena_create(1 << 12);
  elbo_status status = net->arena ? ELBO_OK : fail_memory(ctx, 1 << 12, "a network of features");
  if (status == ELBO_OK) status = directory_exists(path) ? open_classifier(net, path) : open_inception(net, path);
  if (status == ELBO_OK)
    *out = net;
  else
    feature_net_close(&net);
  return status;
}

void feature_net_close(feature_net **net_) {
  if (!net_ || !*net_) return;
  feature_net *net = *net_;
  session_destroy(&net->session);
  elbo_store_destroy(&net->store);
  if (net->arena) arena_destroy(&net->arena);
  free(net);
  *net_ = NULL;
}

const char *feature_net_name(const feature_net *net) { return net->name; }
const char *feature_net_hash(const feature_net *net) { return net->hash; }
int64_t feature_net_dim(const feature_net *net) { return net->dim; }
const classifier_spec *feature_net_classifier(const feature_net *net) { return net->classifier.classes ? &net->classifier : NULL; }
elbo_store *feature_net_weights(const feature_net *net) { return net->store; }

// --- running ---

static elbo_status check_pictures(const feature_net *net, const elbo_array *x) {
  char given[ARRAY_TEXT_SIZE];
  const picture_shape *s = &net->classifier.shape;
  bool pictures = x && x->dtype == ELBO_F32 && x->rank == 4 && x->dim[0] > 0 && x->dim[1] > 0 && x->dim[2] > 0;
  if (net->classifier.classes && !(pictures && x->dim[1] == s->height && x->dim[2] == s->width && x->dim[3] == s->channels))
    return fail(net->ctx, ELBO_ERROR_ARGUMENT, "features: this classifier is of float32 (n,%lld,%lld,%lld), not of %s",
                (long long)s->height, (long long)s->width, (long long)s->channels, array_text(x, given, sizeof given));
  if (!pictures || (x->dim[3] != 1 && x->dim[3] != 3 && !net->classifier.classes))
    return fail(net->ctx, ELBO_ERROR_ARGUMENT, "features: Inception-v3 takes float32 (n,H,W,3) or grey (n,H,W,1), not %s",
                array_text(x, given, sizeof given));
  const float *v = x->data;
  int64_t size = x->dim[1] * x->dim[2] * x->dim[3];
  for (int64_t i = 0; i < x->dim[0] * size; i++)
    if (!isfinite(v[i]))
      return fail(net->ctx, ELBO_ERROR_NUMERIC, "features: picture %lld holds a value that is not finite", (long long)(i / size));
  return ELBO_OK;
}

static elbo_tensor *build(const feature_net *net, elbo_graph *g, int64_t batch, const picture_shape *s) {
  if (net->classifier.classes) return classifier_graph(&net->classifier, g, batch, false).features;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, s->height, s->width, s->channels});
  if (s->channels == 1) x = elbo_broadcast_to(x, 4, (int64_t[]){batch, s->height, s->width, 3});
  return inception_features(x);
}

static elbo_status prepare(feature_net *net, const elbo_array *x) {
  picture_shape shape = {x->dim[1], x->dim[2], x->dim[3]};
  int64_t most = net->classifier.classes ? CLASSIFIER_BATCH : INCEPTION_BATCH, batch = x->dim[0] < most ? x->dim[0] : most;
  if (net->session.plan && net->session.batch >= batch && memcmp(&shape, &net->shape, sizeof shape) == 0) return ELBO_OK;
  session_destroy(&net->session);
  elbo_graph *g = NULL;
  TRY(elbo_graph_create(net->ctx, net->name, &g));
  elbo_tensor *y = build(net, g, batch, &shape);
  TRY(session_create(net->ctx, g, net->store, batch, 1, &y, &net->session));
  net->shape = shape;
  return ELBO_OK;
}

// To the nearest of 256 levels, clamped, as pictures are written.
static void round_to_bytes(const float *x, int64_t n, float *out) {
  for (int64_t i = 0; i < n; i++) {
    float v = x[i] < 0 ? 0 : x[i] > 1 ? 1 : x[i];
    out[i] = floorf(v * 255 + 0.5f) / 255;
  }
}

elbo_status feature_net_run(feature_net *net, const elbo_array *x, elbo_progress_fn progress, void *user, elbo_array **out) {
  *out = NULL;
  elbo_status status;
  float *rounded = NULL;
  TRY(check_pictures(net, x));
  TRY(prepare(net, x));
  int64_t n = x->dim[0], d = net->dim, size = x->dim[1] * x->dim[2] * x->dim[3], batch = net->session.batch;
  TRY_GOTO(elbo_array_create(net->ctx, ELBO_F64, 2, (int64_t[]){n, d}, out));
  TRY_GOTO(array_new(net->ctx, (size_t)(batch * size), sizeof *rounded, "pictures", (void **)&rounded));
  for (int64_t at = 0; at < n; at += batch) {
    int64_t count = n - at < batch ? n - at : batch;
    round_to_bytes((const float *)x->data + at * size, count * size, rounded);
    TRY_GOTO(session_run(&net->session, &(session_rows){.x = rounded}, 0, count));
    const float *y = session_output(&net->session, 0);
    for (int64_t i = 0; i < count * d; i++) ((double *)(*out)->data)[at * d + i] = y[i];
    if (progress && !progress(user, "features", at + count, n, net->name)) {
      status = fail(net->ctx, ELBO_ERROR_STOPPED, "features: stopped");
      goto fail;
    }
  }
  free(rounded);
  return ELBO_OK;
fail:
  free(rounded);
  elbo_array_destroy(out);
  return status;
}
