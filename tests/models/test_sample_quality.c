// Samples judged by features: of real pictures, of a model, of pictures made elsewhere; what is said with the figures, what is refused.
#include "models/vae_cases.h"

#include <elbo/dataset.h>

#include "backend/openblas.h"
#include "core/file.h"
#include "eval/feature_sets.h"
#include "models/classifier.h"
#include "models/feature_net.h"
#include "models/sample_quality.h"

enum { FEATURES = 8 };

typedef struct fixture {
  elbo_ctx *ctx;
  arena *arena;
  elbo_dataset *data;
  elbo_model *vae;
  const char *classifier;
} fixture;

static const elbo_metric *find(const elbo_eval_result *r, const char *name) {
  for (int i = 0; i < elbo_eval_count(r); i++)
    if (strcmp(elbo_eval_metric(r, i)->name, name) == 0) return elbo_eval_metric(r, i);
  return NULL;
}

// A classifier and a VAE as they are before training: what is tested does not depend on what they are worth.
static int set_up(void **state) {
  static fixture f;
  vae_spec spec;
  elbo_store *store;
  yaml_node *root;
  static const char network[] = "{channels: [8, 8], features: 8}";
  classifier_spec c = {.shape = {28, 28, 1}, .classes = 10, .bits = 8};
  f.ctx = test_ctx(1), f.arena = arena_create(1 << 14);
  assert_ok(f.ctx, elbo_dataset_open(f.ctx, "digits", 0, NULL, &f.data));
  assert_ok(f.ctx, yaml_parse(f.ctx, f.arena, "test", network, strlen(network), &root));
  assert_ok(f.ctx, config_load(f.ctx, f.arena, &classifier_table, root, "", &c.network));
  assert_ok(f.ctx, classifier_store_create(f.ctx, &c, 1, &store));
  f.classifier = string_copy(test_path("classifier"));
  assert_ok(f.ctx, directory_make(f.ctx, f.classifier));
  assert_ok(f.ctx, classifier_directory_write(f.ctx, f.classifier, &c, store, 7));
  elbo_store_destroy(&store);
  spec =
      spec_of(f.ctx, f.arena, "{latent: {dim: 4}, encoder: {type: mlp, hidden: [16]}, decoder: {type: mlp, hidden: [16]}}", 28, 28, 1, 0);
  assert_ok(f.ctx, model_store_create(f.ctx, &spec, 2, &store));
  assert_ok(f.ctx, directory_make(f.ctx, test_path("vae")));
  assert_ok(f.ctx, model_directory_write(f.ctx, test_path("vae"), &spec, store, 3));
  elbo_store_destroy(&store);
  assert_ok(f.ctx, elbo_model_load(f.ctx, test_path("vae"), NULL, &f.vae));
  *state = &f;
  return 0;
}

static int tear_down(void **state) {
  fixture *f = *state;
  elbo_model_destroy(&f->vae);
  elbo_dataset_destroy(&f->data);
  union {
    const char *in;
    void *out;
  } path = {f->classifier};
  free(path.out);
  arena_destroy(&f->arena);
  elbo_ctx_destroy(&f->ctx);
  return 0;
}

static elbo_eval_config config_of(const fixture *f, const char *metrics, int64_t n) {
  elbo_eval_config c;
  elbo_eval_defaults(&c);
  c.metrics = metrics, c.features = f->classifier, c.n = n;
  return c;
}

static void test_features(void **state) {
  const fixture *f = *state;
  feature_net *net;
  elbo_array *x, *y, *again, *rounded;
  assert_ok(f->ctx, feature_net_open(f->ctx, f->classifier, &net));
  assert_string_equal(feature_net_name(net), "classifier");
  assert_int_equal(feature_net_dim(net), FEATURES);
  assert_ok(f->ctx, elbo_dataset_read(f->data, ELBO_SPLIT_TEST, 0, 70, 0, 0, &x, NULL));
  assert_ok(f->ctx, feature_net_run(net, x, NULL, NULL, &y));
  assert_int_equal(y->dim[0], 70), assert_int_equal(y->dim[1], FEATURES);
  // a row is a function of its picture: not of its neighbours, nor of what rounds to the same bytes, nor of what lies outside 0..1
  elbo_array few = *x;
  few.dim[0] = 3, few.data = (float *)x->data + 66 * 784;
  assert_ok(f->ctx, feature_net_run(net, &few, NULL, NULL, &again));
  for (int i = 0; i < 3 * FEATURES; i++) assert_near(((double *)again->data)[i], ((double *)y->data)[66 * FEATURES + i], 1e-5);
  elbo_array_destroy(&again);
  for (int64_t i = 0; i < elbo_array_count(x); i++) {
    float *v = (float *)x->data + i;
    *v += *v == 0 ? -0.5f : *v == 1 ? 0.5f : i % 2 ? 0.4f / 255 : -0.4f / 255;
  }
  assert_ok(f->ctx, feature_net_run(net, x, NULL, NULL, &rounded));
  assert_memory_equal(rounded->data, y->data, elbo_array_bytes(y));
  elbo_array_destroy(&rounded), elbo_array_destroy(&y);
  few = *x, few.dim[1] = 14, few.dim[2] = 56;
  assert_status(f->ctx, feature_net_run(net, &few, NULL, NULL, &y), ELBO_ERROR_ARGUMENT, "(n,28,28,1)");
  ((float *)x->data)[785] = NAN;
  assert_status(f->ctx, feature_net_run(net, x, NULL, NULL, &y), ELBO_ERROR_NUMERIC, "picture 1");
  elbo_array_destroy(&x);
  feature_net_close(&net);
}

// Of a model: three seeds, their error, the floor below, the notes; the same again; FID by hand.
static void test_of_model(void **state) {
  const fixture *f = *state;
  elbo_eval_config c = config_of(f, "recon,fid,kid,precision,recall", 200);
  elbo_eval_result *r[2];
  feature_net *net;
  for (int i = 0; i < 2; i++) assert_ok(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r[i]));
  assert_string_equal(elbo_eval_json(r[0]), elbo_eval_json(r[1]));
  elbo_eval_destroy(&r[1]);
  const elbo_metric *fid = find(r[0], "fid"), *floor = find(r[0], "fid_floor"), *kid = find(r[0], "kid"),
                    *precision = find(r[0], "precision");
  assert_true(find(r[0], "recon") && fid && floor && kid && precision && find(r[0], "recall") && find(r[0], "kid_floor"));
  assert_true(fid->n == 200 && fid->value > 3 * floor->value && floor->value > 0 && fid->stderr_ > 0 && kid->mc_stderr > 0);
  assert_true(find(r[0], "recall")->value < find(r[0], "recall_floor")->value && isnan(floor->stderr_));
  assert_ok(f->ctx, feature_net_open(f->ctx, f->classifier, &net));
  assert_non_null(strstr(fid->note, feature_net_hash(net)));
  assert_non_null(strstr(floor->note, feature_net_hash(net)));
  assert_non_null(strstr(fid->note, "means of p(x|z)"));
  assert_null(strstr(fid->note, "forced"));
  assert_non_null(strstr(elbo_eval_json(r[0]), "\"sample_quality\""));
  // the first seed's by hand
  elbo_array *real, *x, *a, *b;
  elbo_sample_config sample;
  double distance[3], mean = 0, squares = 0;
  assert_ok(f->ctx, elbo_dataset_read(f->data, ELBO_SPLIT_TEST, 0, 200, 1, 0, &real, NULL));
  assert_ok(f->ctx, feature_net_run(net, real, NULL, NULL, &a));
  for (int s = 0; s < 3; s++) {
    elbo_sample_defaults(&sample);
    sample.n = 200, sample.seed = (uint64_t)s;
    assert_ok(f->ctx, elbo_sample(f->vae, &sample, &x));
    assert_ok(f->ctx, feature_net_run(net, x, NULL, NULL, &b));
    assert_ok(f->ctx,
              frechet_distance(f->ctx, &(feature_set){200, FEATURES, a->data}, &(feature_set){200, FEATURES, b->data}, &distance[s]));
    mean += distance[s] / 3;
    elbo_array_destroy(&x), elbo_array_destroy(&b);
  }
  for (int s = 0; s < 3; s++) squares += (distance[s] - mean) * (distance[s] - mean);
  assert_near(fid->value, mean, 1e-6 * mean);
  assert_near(fid->stderr_, sqrt(squares / 6), 1e-5 * mean);
  elbo_array_destroy(&real), elbo_array_destroy(&a);
  feature_net_close(&net);
  elbo_eval_destroy(&r[0]);
  // draws instead of means are other pictures, and said
  c.draw = 1, c.metrics = "fid";
  assert_ok(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r[0]));
  assert_non_null(strstr(find(r[0], "fid")->note, "draws of p(x|z)"));
  assert_true(fabs(find(r[0], "fid")->value - mean) > 1e-3 && !find(r[0], "kid"));
  elbo_eval_destroy(&r[0]);
}

// Real pictures given as samples come to what the floor does; noise does not.
static void test_of_pictures(void **state) {
  const fixture *f = *state;
  elbo_eval_config c = config_of(f, NULL, 0);
  elbo_eval_result *r;
  elbo_array *x;
  assert_ok(f->ctx, elbo_dataset_read(f->data, ELBO_SPLIT_TRAIN, 0, 300, 1, 1, &x, NULL));
  assert_ok(f->ctx, elbo_evaluate_pictures(f->ctx, x, f->data, &c, &r));
  const elbo_metric *fid = find(r, "fid"), *floor = find(r, "fid_floor");
  assert_true(fid && floor && fid->n == 300 && fid->stderr_ > 0 && strstr(fid->note, "tenths"));
  if (!(fid->value < 3 * floor->value && floor->value < 3 * fid->value)) fail_msg("%g, floor %g", fid->value, floor->value);
  assert_near(find(r, "precision")->value, find(r, "precision_floor")->value, 0.15);
  assert_non_null(strstr(fid->note, "the pictures given"));
  assert_null(strstr(elbo_eval_json(r), "\"weights\""));
  elbo_eval_destroy(&r);
  test_random random = {.seed = 5};
  for (int64_t i = 0; i < elbo_array_count(x); i++) ((float *)x->data)[i] = (float)test_uniform(&random);
  c.metrics = "fid,recall";
  assert_ok(f->ctx, elbo_evaluate_pictures(f->ctx, x, f->data, &c, &r));
  if (!(find(r, "fid")->value > 4 * find(r, "fid_floor")->value && find(r, "recall") && !find(r, "kid"))) fail_msg("%s", elbo_eval_json(r));
  elbo_eval_destroy(&r);
  elbo_array_destroy(&x);
}

static void test_refused(void **state) {
  const fixture *f = *state;
  elbo_eval_config c = config_of(f, "fid", 79);
  elbo_eval_result *r;
  assert_status(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "79 pictures are fewer than 10 for each of the 8");
  assert_null(r);
  c.force = 1; // done, and said
  assert_ok(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r));
  assert_non_null(strstr(find(r, "fid")->note, "forced: n < 10 x 8"));
  assert_non_null(strstr(elbo_eval_json(r), "\"forced\": true"));
  elbo_eval_destroy(&r);
  c = config_of(f, "fid", 80);
  assert_ok(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r));
  elbo_eval_destroy(&r);
  c.n = 1001; // of 2,000 test pictures
  assert_status(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "at most 1000");
  c.n = 0, c.limit = 300;
  assert_ok(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r));
  assert_int_equal(find(r, "fid")->n, 150);
  elbo_eval_destroy(&r);
  c.limit = 0, c.features = NULL;
  assert_status(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "need features");
  c.features = test_path("vae");
  assert_status(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r), ELBO_ERROR_UNSUPPORTED, "ElboVAE");
  c.features = test_path("nowhere");
  assert_status(f->ctx, elbo_evaluate(f->vae, f->data, &c, &r), ELBO_ERROR_IO, "nowhere");
  // pictures: of another size, too few, a metric that needs a model, no pictures
  float other[20 * 16] = {0};
  elbo_array x = {ELBO_F32, 4, {20, 4, 4, 1}, other};
  c = config_of(f, "fid", 0), c.force = 1;
  assert_status(f->ctx, elbo_evaluate_pictures(f->ctx, &x, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "(20,4,4,1)");
  c.n = 30;
  assert_status(f->ctx, elbo_evaluate_pictures(f->ctx, &x, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "there are 20");
  c.metrics = "elbo";
  assert_status(f->ctx, elbo_evaluate_pictures(f->ctx, &x, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "elbo");
  c.metrics = "fid", x.rank = 2;
  assert_status(f->ctx, elbo_evaluate_pictures(f->ctx, &x, f->data, &c, &r), ELBO_ERROR_ARGUMENT, "(n,H,W,C)");
}

int main(void) {
  if (!openblas_version()) {
    print_message("skipped: OpenBLAS cannot be opened\n");
    return 77;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_features),
      cmocka_unit_test(test_of_model),
      cmocka_unit_test(test_of_pictures),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
