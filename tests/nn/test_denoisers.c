// DiT, Karras' UNets, VDM's UNet and the MLP against diffusers and plain PyTorch: results, gradients, in every form that a plan may take.
// tests/golden/make_denoisers.py wrote the numbers.
#include "nn/denoiser_cases.h"

#include "ops/op.h"

// A parameter's value is a hash of its name and the element's index, as `values` in make_denoisers.py.
static void hashed_values(const char *name, int rank, const int64_t *dim, int64_t n, float *out) {
  uint32_t h = 2166136261u;
  size_t length = strlen(name);
  for (size_t i = 0; i < length; i++) h = (h ^ (unsigned char)name[i]) * 16777619u;
  int64_t fan_in = 1;
  for (int i = 1; i < rank; i++) fan_in *= dim[i];
  bool weight = length > 7 && strcmp(name + length - 7, ".weight") == 0, bias = length > 5 && strcmp(name + length - 5, ".bias") == 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t u = (uint32_t)i * 2654435769u + h;
    u = (u ^ u >> 15) * 2246822507u;
    u = (u ^ u >> 15) * 3266489909u;
    double v = (double)((u ^ u >> 16) >> 8) * 0x1p-23 - 1;
    if (rank > 1) {
      v = ldexp(v, -(int)floor(0.5 * log2((double)fan_in)));
    } else if (weight) {
      v = 1 + 0.5 * v;
    } else if (bias) {
      v *= 0.25;
    }
    out[i] = (float)v;
  }
}

static void fill_store(elbo_ctx *ctx, elbo_store *store) {
  for (int i = 0; i < elbo_store_count(store); i++) {
    elbo_param_info p;
    assert_ok(ctx, elbo_store_get(store, i, &p));
    hashed_values(p.name, p.rank, p.dim, p.count, p.data);
  }
  elbo_store_touch(store);
}

typedef struct golden {
  safetensors *file;
  const char *name;
} golden;

static const tensor_view *golden_find(const golden *g, const char *key) {
  char full[192];
  snprintf(full, sizeof full, "%s.%s", g->name, key);
  return safetensors_find(g->file, full);
}

static elbo_tensor *golden_input(elbo_graph *graph, const golden *g, const char *key) {
  const tensor_view *v = golden_find(g, key);
  return v ? elbo_input(graph, key, v->dtype, v->rank, v->dim) : NULL;
}

static void golden_set(elbo_ctx *ctx, elbo_plan *plan, const golden *g, const char *key) {
  const tensor_view *v = golden_find(g, key);
  if (!v || elbo_plan_input_bytes(plan, key) == 0) return;
  if (v->dtype == ELBO_I32) {
    memcpy(elbo_plan_input(plan, key), v->data, v->bytes);
  } else {
    assert_ok(ctx, elbo_plan_set(plan, key, v->data, (int64_t)(v->bytes / 4)));
  }
}

// |a - b| <= tolerance (1 + max |b|) of n numbers
static void compare(const char *name, const char *what, const char *form, const void *got, bool doubles, const float *want, int64_t n,
                    double tolerance) {
  double scale = 1;
  for (int64_t i = 0; i < n; i++) scale = fmax(scale, 1 + fabs((double)want[i]));
  for (int64_t i = 0; i < n; i++) {
    double a = doubles ? ((const double *)got)[i] : (double)((const float *)got)[i];
    if (!(fabs(a - (double)want[i]) <= tolerance * scale))
      fail_msg("%s, %s, %s: element %lld is %.9g, expected %.9g", name, form, what, (long long)i, a, (double)want[i]);
  }
}

enum { MAX_GRADIENTS = 200 };
typedef struct case_graph {
  elbo_graph *graph;
  elbo_tensor *y, *dsample, *dtimestep;
  elbo_tensor *dparameter[MAX_GRADIENTS];
  char parameter[MAX_GRADIENTS][128];
  int n_parameters;
} case_graph;

// The parameters whose gradients the file has
static void add_gradients(elbo_ctx *ctx, const golden *g, const denoiser_inputs *in, case_graph *c) {
  elbo_tensor *dy = golden_input(c->graph, g, "dy"), *wrt[MAX_GRADIENTS + 2] = {in->sample, in->timestep}, *gradient[MAX_GRADIENTS + 2];
  char prefix[96];
  snprintf(prefix, sizeof prefix, "%s.d.", g->name);
  for (int64_t i = 0; dy && i < safetensors_count(g->file); i++) {
    const char *name = safetensors_at(g->file, i)->name;
    if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
    assert_true(c->n_parameters < MAX_GRADIENTS);
    snprintf(c->parameter[c->n_parameters], sizeof c->parameter[0], "%s", name + strlen(prefix));
    for (int64_t k = 0; k < c->graph->n_nodes; k++) {
      const node *n = c->graph->nodes[k];
      if (n->op == &op_parameter && strcmp(n->name, name + strlen(prefix)) == 0) wrt[2 + c->n_parameters] = n->out[0];
    }
    if (!wrt[2 + c->n_parameters]) fail_msg("%s: the network has no parameter %s", g->name, name);
    c->n_parameters++;
  }
  if (!dy) return;
  assert_true(c->n_parameters > 0);
  assert_ok(ctx, elbo_gradient(elbo_mul(c->y, dy), 2 + c->n_parameters, wrt, gradient));
  c->dsample = gradient[0];
  c->dtimestep = gradient[1];
  for (int i = 0; i < c->n_parameters; i++) {
    if (!gradient[2 + i]) fail_msg("%s: no gradient to %s", g->name, c->parameter[i]);
    c->dparameter[i] = gradient[2 + i];
  }
}

static void build_case(elbo_ctx *ctx, const golden *g, const network_kind *kind, const any_config *config, case_graph *c) {
  memset(c, 0, sizeof *c);
  assert_ok(ctx, elbo_graph_create(ctx, g->name, &c->graph));
  denoiser_inputs in = {.graph = c->graph,
                        .sample = golden_input(c->graph, g, "sample"),
                        .timestep = golden_input(c->graph, g, "timestep"),
                        .class_labels = golden_input(c->graph, g, "class_labels")};
  if (kind->needs(config).class_labels == CLASS_INPUT_NONE) in.class_labels = NULL; // DiT without classes, whose labels are all 0
  c->y = kind->build(config, &in);
  assert_ok(ctx, elbo_graph_check(c->graph));
  add_gradients(ctx, g, &in, c);
}

static void compare_gradients(elbo_ctx *ctx, const golden *g, const case_graph *c, elbo_plan *plan, const elbo_store *store,
                              const char *form, bool doubles, double tolerance) {
  const tensor_view *v = golden_find(g, "dsample");
  if (!v) return;
  compare(g->name, "dsample", form, elbo_plan_output(plan, 1), doubles, v->data, (int64_t)(v->bytes / 4), tolerance);
  v = golden_find(g, "dtimestep");
  compare(g->name, "dtimestep", form, elbo_plan_output(plan, 2), doubles, v->data, (int64_t)(v->bytes / 4), tolerance);
  for (int i = 0; i < c->n_parameters; i++) {
    elbo_param_info p;
    assert_ok(ctx, elbo_store_find(store, c->parameter[i], &p));
    float *r = malloc((size_t)p.count * sizeof *r);
    const void *d = elbo_plan_output(plan, 3 + i);
    double sum[2] = {0, 0};
    for (int k = 0; k < 2; k++) {
      char name[160];
      snprintf(name, sizeof name, "%s/%d", c->parameter[i], k);
      hashed_values(name, 1, &p.count, p.count, r);
      for (int64_t j = 0; j < p.count; j++) sum[k] += (double)r[j] * (doubles ? ((const double *)d)[j] : (double)((const float *)d)[j]);
    }
    free(r);
    char key[160];
    snprintf(key, sizeof key, "d.%s", c->parameter[i]);
    compare(g->name, c->parameter[i], form, sum, true, golden_find(g, key)->data, 2, tolerance);
  }
}

static void run_form(elbo_ctx *ctx, const golden *g, const case_graph *c, elbo_store *store, elbo_backend_kind where, int fuse,
                     int constant) {
  static const char *const inputs[] = {"sample", "timestep", "class_labels", "dy"};
  const tensor_view *y = golden_find(g, "y");
  elbo_tensor *outputs[3 + MAX_GRADIENTS] = {c->y, c->dsample, c->dtimestep};
  for (int i = 0; i < c->n_parameters; i++) outputs[3 + i] = c->dparameter[i];
  elbo_plan_config config;
  elbo_plan *plan;
  char form[64];
  bool doubles = where == ELBO_BACKEND_REFERENCE;
  snprintf(form, sizeof form, "%s, fuse %d, weights_constant %d", doubles ? "reference" : "cpu", fuse, constant);
  elbo_plan_defaults(&config);
  config.backend = where, config.fuse = fuse, config.poison = 1, config.weights_constant = constant;
  assert_ok(ctx, elbo_plan_create(ctx, c->graph, c->dsample ? 3 + c->n_parameters : 1, outputs, &config, &plan));
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) golden_set(ctx, plan, g, inputs[i]);
  assert_ok(ctx, elbo_plan_run(plan, store));
  // what the file holds is rounded to single precision; the time embeddings are computed in it on either side
  compare(g->name, "y", form, elbo_plan_output(plan, 0), doubles, y->data, (int64_t)(y->bytes / 4), doubles ? 2e-6 : 2e-5);
  compare_gradients(ctx, g, c, plan, store, form, doubles, doubles ? 1e-5 : 5e-5);
  elbo_plan_destroy(&plan);
}

static void run_case(elbo_ctx *ctx, const golden *g) {
  const network_kind *kind = kind_of(g->name);
  const tensor_view *sample = golden_find(g, "sample");
  arena *a = arena_create(1 << 14);
  any_config config;
  case_graph c;
  elbo_store *store;
  assert_ok(ctx, kind->read(ctx, a, config_path(safetensors_metadata(g->file, g->name)), &config));
  assert_ok(ctx, kind->check(ctx, &config, sample->dim[1], sample->dim[2], sample->dim[3], "test"));
  build_case(ctx, g, kind, &config, &c);
  assert_ok(ctx, elbo_store_create(ctx, 1, &c.graph, 1, &store));
  fill_store(ctx, store);
  run_form(ctx, g, &c, store, ELBO_BACKEND_REFERENCE, 0, 0);
  run_form(ctx, g, &c, store, ELBO_BACKEND_CPU, 0, 0);
  run_form(ctx, g, &c, store, ELBO_BACKEND_CPU, 1, 1);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&c.graph);
  arena_destroy(&a);
}

static void run_cases(const char *network, int expected) {
  elbo_ctx *ctx = test_ctx(1);
  golden g = {0};
  int n = 0;
  assert_ok(ctx, safetensors_open(ctx, test_repository_file("tests/golden/denoisers.safetensors"), &g.file));
  for (int64_t i = 0; i < safetensors_count(g.file); i++) {
    char name[96];
    const char *full = safetensors_at(g.file, i)->name, *dot = strchr(full, '.');
    if (strncmp(full, network, strlen(network)) != 0 || strcmp(dot, ".sample") != 0) continue;
    snprintf(name, sizeof name, "%.*s", (int)(dot - full), full);
    g.name = name;
    run_case(ctx, &g);
    n++;
  }
  assert_int_equal(n, expected);
  safetensors_close(&g.file);
  elbo_ctx_destroy(&ctx);
}

static void test_dit(void **state) {
  (void)state;
  run_cases("dit_", 8);
}
static void test_edm(void **state) {
  (void)state;
  run_cases("edm_", 6);
}
static void test_vdm(void **state) {
  (void)state;
  run_cases("vdm_", 5);
}
static void test_mlp(void **state) {
  (void)state;
  run_cases("mlp_", 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_dit), cmocka_unit_test(test_edm), cmocka_unit_test(test_vdm),
                                     cmocka_unit_test(test_mlp)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
