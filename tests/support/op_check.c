// The checker behind the operations' tests.
#include "support/op_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/philox.h"
#include "graph/plan.h"
#include "ops/op.h"

enum { MAX_INPUTS = 12, MAX_OUTPUTS = 1 + MAX_INPUTS, MAX_PROBES = 16 };

// A graph with its outputs: y, then gradients.
typedef struct built {
  elbo_graph *g;
  elbo_tensor *out[MAX_OUTPUTS];
  int n_out;
  elbo_tensor *x[MAX_INPUTS]; // differentiated inputs
  int n_x;
} built;

static bool wants_gradient(const op_check *c, const char *name) {
  if (strncmp(name, "check.", 6) == 0) return false;
  if (!c->no_gradient) return true;
  const char *at = strstr(c->no_gradient, name);
  size_t n = strlen(name);
  while (at) {
    bool begins = at == c->no_gradient || at[-1] == ',', ends = at[n] == 0 || at[n] == ',';
    if (begins && ends) return false;
    at = strstr(at + 1, name);
  }
  return true;
}

static void find_inputs(const op_check *c, built *b) {
  b->n_x = 0;
  for (int64_t i = 0; i < b->g->n_nodes; i++) {
    const node *n = b->g->nodes[i];
    if (n->op == &op_input && n->out[0]->dtype == ELBO_F32 && wants_gradient(c, n->name) && b->n_x < MAX_INPUTS) b->x[b->n_x++] = n->out[0];
  }
}

// sum(y * random weights): a scalar whose gradient sees every element
static elbo_tensor *weighed(elbo_graph *g, elbo_tensor *y, const char *name) {
  if (!y) return NULL;
  elbo_tensor *w = elbo_input(g, name, ELBO_F32, y->shape.rank, y->shape.dim);
  return elbo_sum(elbo_mul(y, w), ELBO_ALL_AXES, 0);
}

// Order 0: out = {y}. Order k: out = {scalar whose gradient is next, gradients...}.
static bool build_order(elbo_ctx *ctx, const op_check *c, int order, op_build_fn build, const void *arg, built *b) {
  memset(b, 0, sizeof *b);
  if (elbo_graph_create(ctx, c->name, &b->g) != ELBO_OK) return false;
  elbo_tensor *y = build(b->g, arg);
  elbo_status status = elbo_graph_check(b->g);
  if (!y || status != ELBO_OK) goto fail;
  b->out[0] = y;
  b->n_out = 1;
  for (int k = 1; k <= order; k++) {
    elbo_tensor *scalar = NULL;
    if (k == 1) {
      scalar = weighed(b->g, y, "check.w");
      find_inputs(c, b);
    } else {
      for (int i = 0; i < b->n_x; i++) {
        char name[32];
        snprintf(name, sizeof name, "check.v%d", i);
        elbo_tensor *term = b->out[1 + i] ? weighed(b->g, b->out[1 + i], name) : NULL;
        scalar = !scalar ? term : !term ? scalar : elbo_add(scalar, term);
      }
    }
    elbo_tensor *gradient[MAX_INPUTS];
    status = elbo_gradient(scalar, b->n_x, b->x, gradient);
    if (status != ELBO_OK) goto fail;
    b->out[0] = scalar;
    for (int i = 0; i < b->n_x; i++) b->out[1 + i] = gradient[i];
    b->n_out = 1 + b->n_x;
  }
  return true;
fail:
  print_error("%s (seed %llu): %s: %s\n", c->name, (unsigned long long)c->seed, order ? "differentiating" : "building",
              elbo_ctx_message(ctx));
  elbo_graph_destroy(&b->g);
  return false;
}

// --- plans of it ---

static elbo_plan *plan_of(elbo_ctx *ctx, const op_check *c, const built *b, elbo_backend_kind kind, int fuse, int *index) {
  elbo_tensor *out[MAX_OUTPUTS];
  int n = 0;
  for (int i = 0; i < b->n_out; i++) {
    index[i] = b->out[i] ? n : -1;
    if (b->out[i]) out[n++] = b->out[i];
  }
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = kind;
  config.fuse = fuse;
  config.poison = 1;
  elbo_plan *p = NULL;
  if (elbo_plan_create(ctx, b->g, n, out, &config, &p) != ELBO_OK)
    print_error("%s (seed %llu): compiling: %s\n", c->name, (unsigned long long)c->seed, elbo_ctx_message(ctx));
  return p;
}

static double draw(const op_check *c, const char *name, int64_t i) {
  uint32_t w[4];
  double v[2];
  philox_draw(c->seed, philox_stream(name), 0, (uint32_t)i, w);
  if (c->low == 0 && c->high == 0) {
    philox_normal2(w[0], w[1], v);
    return v[0];
  }
  if (strncmp(name, "check.", 6) == 0) return 2 * philox_uniform(w[0]) - 1;
  return c->low + (c->high - c->low) * philox_uniform(w[0]);
}

// Fills every input; element `at` of input `moved` (or -1) is shifted by `by`. Values are rounded to float32 first, so that both backends
// see the same numbers.
static void fill_inputs(const op_check *c, elbo_plan *p, const char *moved, int64_t at, double by) {
  for (int64_t i = 0; i < p->graph->n_nodes; i++) {
    const node *n = p->graph->nodes[i];
    if (n->op != &op_input) continue;
    void *to = elbo_plan_input(p, n->name);
    int64_t count = shape_count(&n->out[0]->shape);
    bool doubles = p->backend->element_size(ELBO_F32) == sizeof(double);
    for (int64_t k = 0; k < count; k++) {
      if (n->out[0]->dtype == ELBO_F32) {
        double v = (double)(float)draw(c, n->name, k);
        if (moved && k == at && strcmp(n->name, moved) == 0) v += by;
        if (doubles)
          ((double *)to)[k] = v;
        else
          ((float *)to)[k] = (float)v;
      } else {
        int64_t v = (int64_t)philox_below(c->seed, philox_stream(n->name), (uint64_t)k, (uint64_t)(c->int_below ? c->int_below : 4));
        if (strcmp(n->name, "seed") == 0) v = (int64_t)(c->seed * 0x9E3779B97F4A7C15u);
        if (strcmp(n->name, "sample_index") == 0) v = 1000 + 3 * k;
        if (n->out[0]->dtype == ELBO_I64)
          ((int64_t *)to)[k] = v;
        else
          ((int32_t *)to)[k] = (int32_t)v;
      }
    }
  }
}

static bool run(elbo_ctx *ctx, const op_check *c, elbo_plan *p) {
  if (elbo_plan_run(p, NULL) == ELBO_OK) return true;
  print_error("%s (seed %llu): running: %s\n", c->name, (unsigned long long)c->seed, elbo_ctx_message(ctx));
  return false;
}

// --- kernels against the reference ---

static bool compare(const op_check *c, const char *what, const built *b, int out, const float *y, const double *ref) {
  int64_t n = shape_count(&b->out[out]->shape), worst = -1;
  double scale = 0, tolerance = c->tolerance > 0 ? c->tolerance : 2e-5, worst_error = -1;
  for (int64_t i = 0; i < n; i++)
    if (fabs(ref[i]) > scale) scale = fabs(ref[i]);
  for (int64_t i = 0; i < n; i++) {
    double error = fabs((double)y[i] - ref[i]);
    if (isinf(ref[i]) && (double)y[i] == ref[i]) error = 0;
    if (!(error <= tolerance * (1 + scale)) && !(error <= worst_error)) worst = i, worst_error = error;
  }
  if (worst < 0) return true;
  print_error("%s (seed %llu): %s, output %d, element %lld: %.9g, reference %.9g (largest %.3g, tolerance %.1e)\n", c->name,
              (unsigned long long)c->seed, what, out, (long long)worst, (double)y[worst], ref[worst], scale, tolerance);
  return false;
}

static bool check_variant(elbo_ctx *reference_ctx, const op_check *c, int order, op_build_fn build, const void *arg, isa_level isa,
                          int fuse, elbo_plan *ref, const int *ref_index) {
  (void)reference_ctx;
  elbo_ctx *ctx = test_ctx_isa(0, isa);
  if (!ctx) return true; // this machine lacks the variant
  built b;
  int index[MAX_OUTPUTS];
  bool ok = false;
  elbo_plan *p = NULL;
  char what[96];
  snprintf(what, sizeof what, "derivative %d, variant %s%s", order, isa_name(isa), fuse ? ", fused" : "");
  if (!build_order(ctx, c, order, build, arg, &b)) goto done;
  p = plan_of(ctx, c, &b, ELBO_BACKEND_CPU, fuse, index);
  if (!p) goto done;
  fill_inputs(c, p, NULL, -1, 0);
  ok = true;
  for (int repeat = 0; ok && repeat < 2; repeat++) { // the second run meets used memory
    ok = run(ctx, c, p);
    for (int i = 0; ok && i < b.n_out; i++)
      if (index[i] >= 0) ok = compare(c, what, &b, i, elbo_plan_output(p, index[i]), elbo_plan_output(ref, ref_index[i]));
  }
  int64_t clash_a = 0, clash_b = 0;
  if (ok && !memory_plan_sound(p->n_buffers, p->buffers, &clash_a, &clash_b)) {
    print_error("%s: buffers %lld and %lld overlap\n", c->name, (long long)clash_a, (long long)clash_b);
    ok = false;
  }
done:
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&b.g);
  elbo_ctx_destroy(&ctx);
  return ok;
}

// --- gradients against central differences ---

static bool check_differences(elbo_ctx *ctx, const op_check *c, int order, const built *b, elbo_plan *p, const int *index) {
  double tolerance = c->grad_tolerance > 0 ? c->grad_tolerance : order == 1 ? 1e-6 : 1e-5;
  double largest_seen = 0;
  for (int i = 0; i < b->n_x; i++) {
    int64_t n = shape_count(&b->x[i]->shape), probes = n < MAX_PROBES ? n : MAX_PROBES;
    const char *name = b->x[i]->producer->name;
    double *gradient = calloc((size_t)n, sizeof *gradient), scale = 0;
    fill_inputs(c, p, NULL, -1, 0);
    if (!gradient || !run(ctx, c, p)) {
      free(gradient);
      return false;
    }
    if (index[1 + i] >= 0) memcpy(gradient, elbo_plan_output(p, index[1 + i]), sizeof *gradient * (size_t)n);
    for (int64_t k = 0; k < n; k++)
      if (fabs(gradient[k]) > scale) scale = fabs(gradient[k]);
    for (int64_t k = 0; k < probes; k++) {
      int64_t at = n == probes ? k : (int64_t)philox_below(c->seed, 77, (uint64_t)(i * MAX_PROBES + k), (uint64_t)n);
      double h = 1e-5, value[2];
      for (int side = 0; side < 2; side++) {
        fill_inputs(c, p, name, at, side ? h : -h);
        if (!run(ctx, c, p)) {
          free(gradient);
          return false;
        }
        value[side] = *(const double *)elbo_plan_output(p, index[0]);
      }
      double slope = (value[1] - value[0]) / (2 * h);
      if (fabs(slope) > largest_seen) largest_seen = fabs(slope);
      if (!(fabs(slope - gradient[at]) <= tolerance * (1 + scale) + 1e-10 * fabs(value[0]) / h)) {
        print_error("%s (seed %llu): derivative %d to %s, element %lld: %.9g, central difference %.9g (largest %.3g)\n", c->name,
                    (unsigned long long)c->seed, order, name, (long long)at, gradient[at], slope, scale);
        free(gradient);
        return false;
      }
    }
    free(gradient);
  }
  if (largest_seen < 1e-8) {
    print_error("%s (seed %llu): derivative %d is zero nearly everywhere: nothing was checked\n", c->name, (unsigned long long)c->seed,
                order);
    return false;
  }
  return true;
}

static bool check_order(elbo_ctx *ctx, const op_check *c, int order, op_build_fn build, const void *arg) {
  built b;
  int index[MAX_OUTPUTS];
  if (!build_order(ctx, c, order, build, arg, &b)) return false;
  elbo_plan *ref = plan_of(ctx, c, &b, ELBO_BACKEND_REFERENCE, 0, index);
  bool ok = ref != NULL;
  if (ok && order > 0) ok = check_differences(ctx, c, order, &b, ref, index);
  if (ok) fill_inputs(c, ref, NULL, -1, 0);
  ok = ok && run(ctx, c, ref);
  for (int isa = 0; ok && isa < ISA_COUNT; isa++)
    for (int fuse = 0; ok && fuse < 2; fuse++) ok = check_variant(ctx, c, order, build, arg, (isa_level)isa, fuse, ref, index);
  elbo_plan_destroy(&ref);
  elbo_graph_destroy(&b.g);
  return ok;
}

bool op_check_run(const op_check *check, op_build_fn build, const void *arg) {
  elbo_ctx *ctx = test_ctx(0);
  bool ok = true;
  for (int order = 0; ok && order <= check->orders; order++) ok = check_order(ctx, check, order, build, arg);
  elbo_ctx_destroy(&ctx);
  return ok;
}

bool op_check_refused(const op_check *check, int order, const char *message_part, op_build_fn build, const void *arg) {
  elbo_ctx *ctx = test_ctx(0);
  built b = {0};
  bool refused = false;
  elbo_graph *g = NULL;
  if (build_order(ctx, check, order - 1, build, arg, &b)) {
    elbo_tensor *scalar = order == 1 ? weighed(b.g, b.out[0], "check.w") : NULL;
    if (order == 1) find_inputs(check, &b);
    for (int i = 0; order > 1 && i < b.n_x; i++)
      if (b.out[1 + i]) {
        char name[32];
        snprintf(name, sizeof name, "check.v%d", i);
        elbo_tensor *term = weighed(b.g, b.out[1 + i], name);
        scalar = scalar ? elbo_add(scalar, term) : term;
      }
    elbo_tensor *gradient[MAX_INPUTS];
    elbo_status status = elbo_gradient(scalar, b.n_x, b.x, gradient);
    refused = status != ELBO_OK && strstr(elbo_ctx_message(ctx), message_part);
    if (!refused)
      print_error("%s: derivative %d: status %s, message \"%s\"; \"%s\" expected in it\n", check->name, order, elbo_status_name(status),
                  elbo_ctx_message(ctx), message_part);
    g = b.g;
  }
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
  return refused;
}

// --- timing ---

static bool benching;

void op_check_bench_arguments(int argc, char **argv) {
  for (int i = 1; i < argc; i++) benching |= strcmp(argv[i], "--bench") == 0;
}

bool op_check_benching(void) { return benching; }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void op_check_bench(const op_check *check, op_build_fn build, const void *arg) {
  if (!benching) return;
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *ctx = test_ctx_isa(0, (isa_level)isa);
    built b;
    elbo_plan *p = NULL;
    int index[MAX_OUTPUTS];
    if (!ctx) continue;
    if (build_order(ctx, check, check->orders > 1 ? 1 : check->orders, build, arg, &b)) {
      p = plan_of(ctx, check, &b, ELBO_BACKEND_CPU, 1, index);
      if (p) p->poison = false;
      if (p) fill_inputs(check, p, NULL, -1, 0);
      if (p && run(ctx, check, p)) {
        elbo_plan_profile(p, 1);
        double begin = now();
        int runs = 0;
        while (now() - begin < 0.5 || runs < 3) runs += run(ctx, check, p);
        for (int i = 0; i < p->n_steps; i++) {
          elbo_step_info s;
          if (elbo_plan_get_step(p, i, &s) != ELBO_OK) continue;
          double each = s.seconds / (double)s.runs;
          printf("%-32s %-4s %-24s %-28s %9.3f ms %8.1f GFLOP/s %7.1f GB/s\n", check->name, isa_name((isa_level)isa), s.op, s.kernel,
                 each * 1e3, (double)s.flops / each * 1e-9, (double)s.bytes / each * 1e-9);
        }
      }
    }
    elbo_plan_destroy(&p);
    elbo_graph_destroy(&b.g);
    elbo_ctx_destroy(&ctx);
  }
}
