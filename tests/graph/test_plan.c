// Plans: random networks run fused and not, poisoned, in each variant, against the reference; in-place reuse, external outputs, state,
// memory limits, two stores.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "graph/plan.h"
#include "ops/op.h"
#include "support/graph_test.h"
#include "support/plan_runs.h"

static elbo_tensor *random_layer(elbo_graph *g, int n, elbo_tensor *a, elbo_tensor *bias, int64_t width) {
  char name[32];
  snprintf(name, sizeof name, "w%d", n);
  return elbo_linear(a, elbo_parameter(g, name, 2, (int64_t[]){width, width}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN), bias);
}

// A random network on (B,D): element-wise chains, broadcasts, sums, linear layers, sharing of intermediates. All values stay moderate.
static elbo_tensor *random_network(elbo_graph *g, test_random *r, int nodes, int64_t batch, int64_t width) {
  elbo_tensor *pool[64], *row = elbo_input(g, "row", ELBO_F32, 1, &width);
  int n = 0;
  pool[n++] = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){batch, width});
  pool[n++] = elbo_input(g, "y", ELBO_F32, 2, (int64_t[]){batch, width});
  pool[n++] = elbo_random_normal(g, "noise", 2, (int64_t[]){batch, width});
  while (n < nodes) {
    elbo_tensor *a = pool[test_below(r, n > 8 ? n - 8 : 0, n - 1)], *b = pool[test_below(r, 0, n - 1)], *t = NULL;
    char name[32];
    switch (test_below(r, 0, 13)) {
    case 0: t = elbo_tanh(elbo_add(a, b)); break;
    case 1: t = elbo_sub(elbo_sigmoid(a), b); break;
    case 2: t = elbo_mul(elbo_tanh(a), elbo_sigmoid(b)); break;
    case 3: t = elbo_silu(a); break;
    case 4: t = elbo_add(a, row); break;
    case 5: t = elbo_mul(elbo_tanh(a), elbo_sum(elbo_tanh(b), 2, 1)); break; // a row sum, broadcast back
    case 6: t = elbo_scale(elbo_softplus(a), 0.5, -0.3); break;
    case 7: t = elbo_relu(random_layer(g, n, a, row, width)); break;
    case 8: t = elbo_silu(elbo_add(random_layer(g, n, a, NULL, width), b)); break; // with a residual
    case 9: t = elbo_where(elbo_less(a, b), elbo_tanh(a), b); break;
    case 10: t = elbo_reshape(elbo_tanh(elbo_reshape(a, 3, (int64_t[]){batch, 1, width})), 2, (int64_t[]){batch, width}); break;
    case 11: t = elbo_silu(elbo_group_norm(elbo_add(a, b), row, row, 1, 1e-3)); break;
    case 12: t = elbo_relu(elbo_group_norm(a, NULL, row, 1, 1e-3)); break;
    default: snprintf(name, sizeof name, "drop%d", n); t = elbo_dropout(elbo_tanh(a), name, 0.3);
    }
    pool[n++] = t;
  }
  elbo_tensor *sum = pool[n - 1];
  for (int i = n - 4; i < n - 1; i++) sum = elbo_add(sum, pool[i]);
  return elbo_sum_per_example(elbo_square(elbo_tanh(sum)));
}

// The least arena that a plan of the graph names.
static int64_t least_arena(elbo_graph *g, int n, elbo_tensor **out) {
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  int64_t least = 0;
  config.memory_limit = 1, config.least_bytes = &least;
  elbo_plan *p;
  assert_status(ctx, elbo_plan_create(ctx, g, n, out, &config, &p), ELBO_ERROR_MEMORY, "memory_limit is 1 bytes");
  return least;
}

// What runs twice gives the same numbers, to the bit, whatever the limit; poisoned memory tells when it is read too late.
static void limits_change_nothing(elbo_graph *g, int n, elbo_tensor **out, elbo_store *store, uint64_t seed) {
  elbo_plan_info whole, small;
  int64_t count, least = least_arena(g, n, out);
  double *plain = plan_values(ctx, g, n, out, (plan_options){.fuse = 1, .poison = 1}, store, &whole, &count);
  for (int i = 0; i < 4; i++) {
    const int64_t limit = least + (whole.arena_bytes - least) * i / 4;
    double *values = plan_values(ctx, g, n, out, (plan_options){.fuse = 1, .poison = 1, .limit = limit}, store, &small, &count);
    assert_true(small.arena_bytes <= limit);
    if (memcmp(plain, values, sizeof *plain * (size_t)count) != 0)
      fail_msg("seed %llu: other values in %lld bytes than in %lld", (unsigned long long)seed, (long long)small.arena_bytes,
               (long long)whole.arena_bytes);
    free(values);
  }
  free(plain);
}

// A network of which everything is wanted late, deep, with connections that skip half of it as a UNet's do: in segments it takes less than
// a quarter of the memory, for less than one more call. What is won by little work comes first.
static void segments_run_twice(void **state) {
  (void)state;
  enum { DEPTH = 24 };
  for (int skips = 0; skips < 2; skips++) {
    elbo_graph *g = new_graph();
    elbo_tensor *w[DEPTH], *out[1 + DEPTH], *down[DEPTH / 2], *h = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){1024, 64});
    for (int i = 0; i < DEPTH; i++) {
      char name[8];
      snprintf(name, sizeof name, "w%d", i);
      w[i] = elbo_parameter(g, name, 2, (int64_t[]){64, 64}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
      if (skips && i >= DEPTH / 2 && i % 4 == 3) h = elbo_mul(h, down[DEPTH - 1 - i]);
      elbo_tensor *in = elbo_dropout(elbo_tanh(h), name, 0.1);
      if (i % 3 == 1) in = elbo_reshape(in, 3, (int64_t[]){512, 2, 64}); // views are read late
      h = elbo_tanh(elbo_linear(in, w[i], NULL));
      if (i % 3 == 1) h = elbo_reshape(h, 2, (int64_t[]){1024, 64});
      if (i < DEPTH / 2) down[i] = h;
    }
    out[0] = elbo_sum(elbo_square(h), ELBO_ALL_AXES, 0);
    assert_ok(ctx, elbo_gradient(out[0], DEPTH, w, out + 1));
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    limits_change_nothing(g, 1 + DEPTH, out, store, (uint64_t)skips);
    elbo_plan_info whole, quarter, most;
    int64_t count;
    free(plan_values(ctx, g, 1 + DEPTH, out, (plan_options){.fuse = 1}, store, &whole, &count));
    free(plan_values(ctx, g, 1 + DEPTH, out, (plan_options){.fuse = 1, .limit = whole.arena_bytes / 4}, store, &quarter, &count));
    free(plan_values(ctx, g, 1 + DEPTH, out, (plan_options){.fuse = 1, .limit = whole.arena_bytes * 9 / 10}, store, &most, &count));
    assert_true(quarter.recomputed > most.recomputed && most.recomputed > 0);
    assert_true(quarter.flops <= whole.flops * 4 / 3 && most.flops <= whole.flops * 10 / 9);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

static void random_networks(void **state) {
  (void)state;
  for (uint64_t seed = test_seed(); seed < test_seed() + 25; seed++) {
    elbo_graph *g = new_graph();
    test_random r = {.seed = seed};
    int64_t batch = test_below(&r, 1, 9), width = test_below(&r, 1, 33);
    elbo_tensor *loss = random_network(g, &r, (int)test_below(&r, 6, 30), batch, width);
    assert_ok(ctx, elbo_graph_check(g));
    elbo_tensor *wrt[3] = {elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){batch, width}),
                           elbo_input(g, "y", ELBO_F32, 2, (int64_t[]){batch, width}), elbo_input(g, "row", ELBO_F32, 1, &width)};
    elbo_tensor *gradient[3], *out[4] = {loss};
    assert_ok(ctx, elbo_gradient(loss, 3, wrt, gradient));
    int n = 1;
    for (int i = 0; i < 3; i++)
      if (gradient[i]) out[n++] = gradient[i];
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    plan_variants_agree(ctx, g, n, out, store, seed);
    limits_change_nothing(g, n, out, store, seed);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

static void a_memory_limit_is_kept(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_tensor *h = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){1024, 64}), *gradient[8], *w[8];
  for (int i = 0; i < 8; i++) {
    char name[8];
    snprintf(name, sizeof name, "w%d", i);
    w[i] = elbo_parameter(g, name, 2, (int64_t[]){64, 64}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *a = elbo_linear(h, w[i], NULL);
    h = elbo_mul(elbo_tanh(a), elbo_sigmoid(elbo_scale(a, 2, 1)));
  }
  elbo_tensor *loss = elbo_sum(elbo_square(h), ELBO_ALL_AXES, 0), *out[9] = {loss};
  assert_ok(ctx, elbo_gradient(loss, 8, w, gradient));
  for (int i = 0; i < 8; i++) out[1 + i] = elbo_sum(gradient[i], 1, 0);
  elbo_store *store;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
  elbo_plan_info info, small;
  int64_t count;
  double *a = plan_values(ctx, g, 9, out, (plan_options){.fuse = 1, .poison = 1}, store, &info, &count);
  int64_t limit = info.arena_bytes * 85 / 100;
  double *b = plan_values(ctx, g, 9, out, (plan_options){.fuse = 1, .poison = 1, .limit = limit}, store, &small, &count);
  assert_true(small.arena_bytes <= limit);
  assert_true(small.recomputed > 0);
  for (int64_t i = 0; i < count; i++) assert_near(a[i], b[i], 1e-5 * (1 + fabs(a[i])));
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  int64_t least = 0;
  config.memory_limit = 1000, config.least_bytes = &least;
  elbo_plan *p;
  assert_status(ctx, elbo_plan_create(ctx, g, 9, out, &config, &p), ELBO_ERROR_MEMORY, "memory_limit is 1000");
  assert_null(p);
  // the least that was named is possible, and what is below is not
  assert_true(least > 1000 && least <= small.arena_bytes);
  double *c = plan_values(ctx, g, 9, out, (plan_options){.fuse = 1, .poison = 1, .limit = least}, store, &small, &count);
  assert_true(small.arena_bytes <= least);
  for (int64_t i = 0; i < count; i++) assert_near(a[i], c[i], 1e-5 * (1 + fabs(a[i])));
  free(c);
  config.memory_limit = least - 1;
  assert_status(ctx, elbo_plan_create(ctx, g, 9, out, &config, &p), ELBO_ERROR_MEMORY, "the least that its plan can do with is");
  free(a);
  free(b);
  elbo_store_destroy(&store);
  elbo_graph_destroy(&g);
}

static void outputs_outside_and_removed_inputs(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  int64_t n = 100;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 1, &n), *unused = elbo_input(g, "unused", ELBO_F32, 1, &n);
  elbo_tensor *y = elbo_exp(x), *z = elbo_mul(y, y), *view = elbo_reshape(y, 2, (int64_t[]){10, 10});
  (void)elbo_exp(unused);
  unsigned char external[4] = {1, 1, 1, 1};
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.external_outputs = external;
  config.poison = 1;
  elbo_plan *p;
  assert_ok(ctx, elbo_plan_create(ctx, g, 4, (elbo_tensor *[]){y, z, view, x}, &config, &p));
  assert_null(elbo_plan_input(p, "unused"));
  assert_int_equal(elbo_plan_input_bytes(p, "x"), 400);
  assert_status(ctx, elbo_plan_set(p, "x", NULL, 3), ELBO_ERROR_ARGUMENT, "100");
  assert_status(ctx, elbo_plan_run(p, NULL), ELBO_ERROR_STATE, "bound");
  float out[4][100] = {{0}};
  for (int i = 0; i < 4; i++) elbo_plan_bind_output(p, i, out[i]);
  for (int i = 0; i < 100; i++) ((float *)elbo_plan_input(p, "x"))[i] = 0.01f * (float)i;
  assert_ok(ctx, elbo_plan_run(p, NULL));
  for (int i = 0; i < 100; i++) {
    assert_near((double)out[0][i], exp(0.01 * i), 1e-6);
    assert_near((double)out[1][i], exp(0.02 * i), 1e-5);
    assert_true(out[2][i] == out[0][i]);
    assert_true(out[3][i] == 0.01f * (float)i);
  }
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
}

static void state_and_stores(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  int64_t n = 3;
  elbo_tensor *s = elbo_parameter(g, "count", 1, &n, ELBO_PARAM_STATE, ELBO_INIT_ZEROS);
  elbo_tensor *w = elbo_parameter(g, "w", 1, &n, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
  elbo_state_update(s, elbo_scale(elbo_add(s, w), 1, -0.5));
  elbo_tensor *y = elbo_mul(w, w);
  elbo_store *a, *b;
  assert_ok(ctx, elbo_store_create(ctx, 1, &g, 1, &a));
  assert_ok(ctx, elbo_store_copy(ctx, a, &b));
  elbo_param_info info;
  assert_ok(ctx, elbo_store_find(b, "w", &info));
  info.data[1] = 3;
  elbo_store_touch(b);
  elbo_plan *p;
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
  assert_status(ctx, elbo_plan_run(p, NULL), ELBO_ERROR_ARGUMENT, "store");
  for (int i = 0; i < 2; i++) assert_ok(ctx, elbo_plan_run(p, a));
  assert_true(((const float *)elbo_plan_output(p, 0))[1] == 1);
  assert_ok(ctx, elbo_plan_run(p, b));
  assert_true(((const float *)elbo_plan_output(p, 0))[1] == 9);
  assert_ok(ctx, elbo_store_find(a, "count", &info));
  assert_true(info.data[0] == 1.0f);
  assert_ok(ctx, elbo_store_find(b, "count", &info));
  assert_true(info.data[0] == 0.5f && info.data[1] == 2.5f);
  elbo_plan_destroy(&p);
  elbo_store_destroy(&a);
  elbo_store_destroy(&b);
  elbo_graph_destroy(&g);
}

static void the_first_nan_is_named(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){2, 3}), *y = elbo_sum(elbo_log(x), ELBO_ALL_AXES, 0);
  elbo_plan *p;
  char text[256];
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &p));
  float *in = elbo_plan_input(p, "x");
  for (int i = 0; i < 6; i++) in[i] = 1;
  assert_ok(ctx, plan_find_nonfinite(p, NULL, text, sizeof text));
  assert_string_equal(text, "");
  in[4] = -1;
  assert_ok(ctx, plan_find_nonfinite(p, NULL, text, sizeof text));
  assert_non_null(strstr(text, "nan"));
  in[2] = (float)NAN;
  assert_ok(ctx, plan_find_nonfinite(p, NULL, text, sizeof text));
  assert_non_null(strstr(text, "input x: element 2"));
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
}

// A convolution takes the kernel that the plan asks for, or the plan is refused with those that there are.
static void a_kernel_is_taken_by_name(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_plan *p = NULL;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, 9, 7, 16}),
              *w = elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){2, 16, 3, 3});
  elbo_tensor *y = elbo_conv2d(x, w, NULL, NULL);
  for (int i = 0; i < 2; i++) {
    static const char *const names[] = {"patch_gemm", "patch_dot"};
    elbo_plan_config config;
    elbo_step_info step;
    elbo_plan_defaults(&config);
    config.kernel = names[i];
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &p));
    assert_ok(ctx, elbo_plan_get_step(p, 0, &step));
    assert_non_null(strstr(step.kernel, names[i]));
    elbo_plan_destroy(&p);
    config.kernel = "patch";
    assert_status(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &p), ELBO_ERROR_ARGUMENT,
                  "there is no convolution kernel 'patch'; there are ");
    config.kernel = "patch_gemm_weight";
    assert_status(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &p), ELBO_ERROR_ARGUMENT, "does not do this convolution");
  }
  elbo_graph_destroy(&g);
}

// What operations touch against every tensor written once and read once: y is read twice, the view of it once more.
static void bytes_are_counted(void **state) {
  (void)state;
  elbo_graph *g = new_graph();
  elbo_plan *p = NULL;
  elbo_plan_info info;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){8, 16}), *y = elbo_softmax(x);
  elbo_tensor *z[] = {elbo_matmul(y, y, 0, 1), elbo_sum(elbo_reshape(y, 1, (int64_t[]){128}), ELBO_ALL_AXES, 0)};
  assert_ok(ctx, elbo_plan_create(ctx, g, 2, z, NULL, &p));
  elbo_plan_get_info(p, &info);
  assert_int_equal(info.steps, 3);
  assert_int_equal(info.moved_bytes, 4 * (128 + 128 + 2 * 128 + 64 + 128 + 1));
  assert_int_equal(info.least_bytes, 4 * (128 + 128 + 128 + 64 + 1));
  elbo_plan_destroy(&p);
  elbo_graph_destroy(&g);
}

enum { LAYER = 16 * 16 * 64, KEPT_LAYER = 36 * 64 * 64 * 4 }; // floats of a map, bytes of one layer's weights by F(4x4)

static elbo_tensor *two_layers(elbo_graph *g, int64_t batch, int64_t side) {
  elbo_tensor *y = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){batch, side, side, 64});
  for (int i = 0; i < 2; i++) {
    elbo_tensor *w = elbo_parameter(g, i ? "w1" : "w0", 4, (int64_t[]){64, 64, 3, 3}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    y = elbo_conv2d(y, w, NULL, &(elbo_conv2d_config){.pad = {1, 1, 1, 1}});
  }
  return y;
}

// Two 3x3 layers, before and after a weight of the first has changed; the bytes that their kernels keep.
static int64_t run_two_layers(elbo_ctx *c, elbo_graph *g, elbo_tensor *y, elbo_store *store, int64_t keep, int64_t limit,
                              float out[2][LAYER]) {
  elbo_plan *p;
  elbo_plan_info info;
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.weights_constant = 1, config.keep_transformed = keep, config.memory_limit = limit;
  assert_ok(c, elbo_plan_create(c, g, 1, &y, &config, &p));
  elbo_plan_get_info(p, &info);
  test_random r = {5, 0};
  test_fill_normal(&r, elbo_plan_input(p, "x"), LAYER, 1);
  for (int run = 0; run < 2; run++) {
    float *w = store_data(store, 0);
    if (run) w[100] += 3, elbo_store_touch(store);
    assert_ok(c, elbo_plan_run(p, store));
    memcpy(out[run], elbo_plan_output(p, 0), sizeof out[run]);
    if (run) w[100] -= 3, elbo_store_touch(store);
  }
  elbo_plan_destroy(&p);
  return info.packed_bytes;
}

// As many as there is room for, in the plan's figure or the context's; the others may keep what is no larger than a third of it.
static void transformed_weights_are_kept(void **state) {
  (void)state;
  static const struct {
    int64_t plan, context, limit; // context -1: as the plan says
    int kept;
  } cases[] = {
      {256 << 20, -1, 0, 2}, {2 * KEPT_LAYER * 11 / 10, -1, 0, 2}, {KEPT_LAYER * 11 / 10, -1, 0, 1}, {0, -1, 0, 0}, {256 << 20, 0, 0, 0},
      {0, 256 << 20, 0, 2},  {256 << 20, -1, 1 << 30, 0}};
  static float first[2][LAYER], now[2][LAYER];
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *c = test_ctx_isa(2, (isa_level)isa);
    if (!c) continue;
    elbo_graph *g;
    elbo_store *store;
    assert_ok(c, elbo_graph_create(c, "net", &g));
    elbo_tensor *y = two_layers(g, 1, 16);
    assert_ok(c, elbo_store_create(c, 1, &g, 3, &store));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
      c->keep_transformed = cases[i].context;
      int64_t bytes = run_two_layers(c, g, y, store, cases[i].plan, cases[i].limit, i ? now : first),
              least = (int64_t)cases[i].kept * KEPT_LAYER;
      assert_in_range(bytes, least, least * 11 / 10 + (2 - cases[i].kept) * KEPT_LAYER / 3);
      if (i) assert_close(now[0], first[0], 2 * LAYER, 1e-5);
    }
    double changed = 0;
    for (int i = 0; i < LAYER; i++) changed += fabs((double)first[0][i] - first[1][i]);
    assert_true(changed > 1);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
    elbo_ctx_destroy(&c);
  }
}

// Where the last cache does not hold them, weights of few tiles are kept only in a call that making them anew would lengthen by a
// twentieth: not where a long product stands beside them, nor where there is little room.
static void long_calls_keep_less(void **state) {
  (void)state;
  static const struct {
    int64_t rows, room; // of a product of 1024 x 1024 beside the layers
    int kept;
  } cases[] = {{1, 256 << 20, 2}, {4096, 256 << 20, 0}, {200, 256 << 20, 2}, {200, KEPT_LAYER * 11 / 10, 0}};
  elbo_ctx *c = test_ctx_isa(2, isa_best());
  c->last_cache_bytes = 0;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    elbo_graph *g;
    elbo_plan *p;
    elbo_plan_config config;
    elbo_plan_info info;
    assert_ok(c, elbo_graph_create(c, "net", &g));
    elbo_tensor *x = elbo_input(g, "a", ELBO_F32, 2, (int64_t[]){cases[i].rows, 1024}),
                *b = elbo_input(g, "b", ELBO_F32, 2, (int64_t[]){1024, 1024});
    elbo_tensor *outputs[] = {two_layers(g, 1, 16), elbo_matmul(x, b, 0, 0)};
    elbo_plan_defaults(&config);
    config.weights_constant = 1, config.keep_transformed = cases[i].room;
    assert_ok(c, elbo_plan_create(c, g, 2, outputs, &config, &p));
    elbo_plan_get_info(p, &info);
    assert_in_range(info.packed_bytes, (int64_t)cases[i].kept * KEPT_LAYER,
                    (int64_t)cases[i].kept * KEPT_LAYER * 11 / 10 + (2 - cases[i].kept) * KEPT_LAYER / 3);
    elbo_plan_destroy(&p);
    elbo_graph_destroy(&g);
  }
  elbo_ctx_destroy(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_networks),
      cmocka_unit_test(a_memory_limit_is_kept),
      cmocka_unit_test(segments_run_twice),
      cmocka_unit_test(outputs_outside_and_removed_inputs),
      cmocka_unit_test(state_and_stores),
      cmocka_unit_test(the_first_nan_is_named),
      cmocka_unit_test(a_kernel_is_taken_by_name),
      cmocka_unit_test(bytes_are_counted),
      cmocka_unit_test(transformed_weights_are_kept),
      cmocka_unit_test(long_calls_keep_less),
  };
  return cmocka_run_group_tests(tests, graph_set_up, graph_tear_down);
}
