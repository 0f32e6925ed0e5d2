#include "support/golden_network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/store.h"
#include "ops/op.h"

const char *golden_text(const safetensors *file, const char *name, const char *key) {
  char full[128];
  snprintf(full, sizeof full, "%s.%s", name, key);
  const char *text = safetensors_metadata(file, full);
  if (!text) fail_msg("the golden file has no %s", full);
  return text;
}

static const tensor_view *find(const golden_network *n, const char *key) {
  char full[320];
  snprintf(full, sizeof full, "%s.%s", n->name, key);
  return safetensors_find(n->file, full);
}

static const tensor_view *need(const golden_network *n, const char *key) {
  const tensor_view *v = find(n, key);
  if (!v) fail_msg("the golden file has no %s.%s", n->name, key);
  return v;
}

// SplitMix64 from the FNV-1a hash of the name, as in make_unet.py
static void fill_weights(const elbo_param_info *p) {
  uint64_t h = UINT64_C(0xcbf29ce484222325);
  for (const char *c = p->name; *c; c++) h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
  double fan_in = 1;
  size_t length = strlen(p->name);
  bool scale = length >= 6 && strcmp(p->name + length - 6, "weight") == 0;
  for (int d = 1; d < p->rank; d++) fan_in *= (double)p->dim[d];
  for (int64_t i = 0; i < p->count; i++) {
    uint64_t z = h + (uint64_t)(i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z = z ^ (z >> 31);
    double u = (double)(z >> 11) * 0x1p-52 - 1;
    p->data[i] = (float)(p->rank > 1 ? u * 1.5 / sqrt(fan_in) : scale ? 1 + 0.2 * u : 0.2 * u);
  }
}

void golden_fill_store(elbo_ctx *ctx, const golden_network *n, elbo_store *store) {
  int count = elbo_store_count(store);
  const char *want = golden_text(n->file, n->name, "names");
  int lines = 0;
  for (const char *c = want; *c; c++) lines += *c == '\n';
  for (int i = 0; i < count; i++) {
    elbo_param_info p;
    char line[256];
    assert_ok(ctx, elbo_store_get(store, i, &p));
    int at = snprintf(line, sizeof line, "%s ", p.name);
    for (int d = 0; d < p.rank; d++) at += snprintf(line + at, sizeof line - (size_t)at, "%s%lld", d ? "x" : "", (long long)p.dim[d]);
    snprintf(line + at, sizeof line - (size_t)at, "\n");
    const char *found = strstr(want, line);
    while (found && found != want && found[-1] != '\n') found = strstr(found + 1, line); // the end of another name
    if (!found) fail_msg("%s: the peer has no parameter %s", n->name, line);
    fill_weights(&p);
  }
  if (count != lines) fail_msg("%s: %d parameters, the peer has %d", n->name, count, lines);
  elbo_store_touch(store);
}

static void set_inputs(elbo_ctx *ctx, const golden_network *n, elbo_plan *plan) {
  static const char *const names[] = {"sample",      "timestep", "class_labels",  "encoder_hidden_states",
                                      "text_embeds", "time_ids", "timestep_cond", "dy"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const tensor_view *v = find(n, names[i]);
    if (!v || !elbo_plan_input(plan, names[i])) continue;
    float *copy = malloc(v->bytes + 4);
    memcpy(copy, v->data, v->bytes); // the file's data may be unaligned
    if (v->dtype == ELBO_I32)
      memcpy(elbo_plan_input(plan, names[i]), copy, v->bytes);
    else
      assert_ok(ctx, elbo_plan_set(plan, names[i], copy, (int64_t)(v->bytes / 4)));
    free(copy);
  }
}

void golden_compare(const golden_network *n, int isa, const char *what, const tensor_view *want, const void *got, double tolerance) {
  double worst = 0, largest = 0;
  int64_t count = (int64_t)(want->bytes / 4), at = 0;
  for (int64_t i = 0; i < count; i++) {
    float w;
    memcpy(&w, (const char *)want->data + 4 * i, 4);
    double g = isa < 0 ? ((const double *)got)[i] : (double)((const float *)got)[i], error = fabs(g - (double)w);
    if (fabs((double)w) > largest) largest = fabs((double)w);
    if (!(error <= worst)) worst = error, at = i;
  }
  float w;
  memcpy(&w, (const char *)want->data + 4 * at, 4);
  double g = isa < 0 ? ((const double *)got)[at] : (double)((const float *)got)[at];
  if (getenv("ELBO_TEST_LOG")) print_message("%s %s isa %d: %.2g of %.3g\n", n->name, what, isa, worst, largest);
  if (!(worst <= tolerance * (1 + largest)))
    fail_msg("%s: %s, isa %d, element %lld of %lld: %.8g, the peer has %.8g (largest %.3g)", n->name, what, isa, (long long)at,
             (long long)count, g, (double)w, largest);
}

enum { MAX_OUTPUTS = 512 };

// The gradients that the file has, as outputs 1.. of the plan
static int add_gradients(elbo_ctx *ctx, const golden_network *n, const denoiser_inputs *in, elbo_tensor **out, const tensor_view **want) {
  const tensor_view *dy = find(n, "dy");
  elbo_tensor *wrt[MAX_OUTPUTS];
  int count = 0;
  if (!dy) return 1;
  elbo_tensor *loss = elbo_sum(elbo_mul(out[0], elbo_input(in->graph, "dy", ELBO_F32, 4, dy->dim)), ELBO_ALL_AXES, 0);
  for (int64_t i = 0; i < in->graph->n_nodes; i++) {
    const node *k = in->graph->nodes[i];
    char key[192];
    if (!k->name[0] || (strcmp(k->op->name, "parameter") != 0 && k->out[0] != in->sample)) continue;
    snprintf(key, sizeof key, "d.%s", k->name);
    const tensor_view *v = find(n, key);
    if (!v) fail_msg("%s: the peer has no gradient to %s", n->name, k->name);
    if (count + 1 >= MAX_OUTPUTS) fail_msg("%s: more than %d gradients", n->name, MAX_OUTPUTS);
    wrt[count++] = k->out[0], want[count] = v;
  }
  assert_ok(ctx, elbo_gradient(loss, count, wrt, out + 1));
  return count + 1;
}

void golden_network_check(const golden_network *n, int isa) {
  elbo_ctx *ctx = isa < 0 ? test_ctx(0) : test_ctx_isa(0, (isa_level)isa);
  if (!ctx) return; // not of this machine
  const tensor_view *x = need(n, "sample"), *context = find(n, "encoder_hidden_states"), *ids = find(n, "time_ids");
  const tensor_view *want[MAX_OUTPUTS] = {need(n, "y")};
  elbo_tensor *out[MAX_OUTPUTS];
  elbo_graph *g;
  elbo_store *store;
  elbo_plan *plan;
  elbo_plan_config config;
  denoiser_call call = {.batch = x->dim[0], .height = x->dim[1], .width = x->dim[2], .timestep_cond = find(n, "timestep_cond") != NULL};
  if (context) call.tokens = context->dim[1];
  if (ids) call.time_ids = ids->dim[1];
  assert_ok(ctx, elbo_graph_create(ctx, n->name, &g));
  denoiser_inputs in = denoiser_declare(g, &n->needs, &call);
  out[0] = n->build(n->config, &in);
  assert_ok(ctx, elbo_graph_check(g));
  int n_out = add_gradients(ctx, n, &in, out, want);
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &store));
  golden_fill_store(ctx, n, store);
  elbo_plan_defaults(&config);
  config.backend = isa < 0 ? ELBO_BACKEND_REFERENCE : ELBO_BACKEND_CPU;
  config.poison = 1;
  assert_ok(ctx, elbo_plan_create(ctx, g, n_out, out, &config, &plan));
  set_inputs(ctx, n, plan);
  assert_ok(ctx, elbo_plan_run(plan, store));
  for (int i = 0; i < n_out; i++) {
    char what[192];
    snprintf(what, sizeof what, "%s", want[i]->name + strlen(n->name) + 1);
    golden_compare(n, isa, what, want[i], elbo_plan_output(plan, i), i ? n->gradient_tolerance : n->tolerance);
  }
  elbo_plan_destroy(&plan);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}
