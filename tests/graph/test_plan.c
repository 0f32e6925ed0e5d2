// Plans: random networks run fused and not, poisoned, in each variant, against the reference; in-place reuse, external outputs, state,
// memory limits, two stores.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "graph/plan.h"
#include "ops/op.h"
#include "support/test.h"

static elbo_ctx *ctx;

static int set_up(void **state) {
  (void)state;
  ctx = test_ctx(2);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  elbo_ctx_destroy(&ctx);
  return 0;
}

static elbo_graph *new_graph(void) {
  elbo_graph *g;
  assert_ok(ctx, elbo_graph_create(ctx, "test", &g));
  return g;
}

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

typedef struct run_options {
  elbo_backend_kind kind;
  int fuse, poison;
  int64_t limit;
} run_options;

// All outputs one after the other, after two runs; freed by the caller.
static double *run_plan(elbo_ctx *c, elbo_graph *g, int n, elbo_tensor **out, run_options o, elbo_store *store, elbo_plan_info *info,
                        int64_t *count) {
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = o.kind;
  config.fuse = o.fuse;
  config.poison = o.poison;
  config.memory_limit = o.limit;
  elbo_plan *p;
  assert_ok(c, elbo_plan_create(c, g, n, out, &config, &p));
  for (int64_t i = 0; i < g->n_nodes; i++) {
    const node *k = g->nodes[i];
    if (k->op != &op_input || !elbo_plan_input(p, k->name)) continue;
    int64_t size = shape_count(&k->out[0]->shape);
    if (k->out[0]->dtype == ELBO_F32) {
      float *values = calloc((size_t)size, sizeof *values);
      test_random of_name = {.seed = 5 + (uint64_t)k->name[0]};
      test_fill_normal(&of_name, values, size, 1);
      assert_ok(c, elbo_plan_set(p, k->name, values, size));
      free(values);
    } else {
      for (int64_t q = 0; q < size; q++) ((int64_t *)elbo_plan_input(p, k->name))[q] = 11 + 2 * q;
    }
  }
  int64_t a, b, total = 0, at = 0;
  assert_true(memory_plan_sound(p->n_buffers, p->buffers, &a, &b));
  assert_ok(c, elbo_plan_run(p, store));
  assert_ok(c, elbo_plan_run(p, store)); // meets used memory
  for (int i = 0; i < n; i++) total += shape_count(&out[i]->shape);
  double *values = calloc((size_t)total, sizeof *values);
  for (int i = 0; i < n; i++) {
    int64_t size = shape_count(&out[i]->shape);
    const void *y = elbo_plan_output(p, i);
    for (int64_t q = 0; q < size; q++)
      values[at++] = o.kind == ELBO_BACKEND_REFERENCE ? ((const double *)y)[q] : (double)((const float *)y)[q];
  }
  if (info) elbo_plan_get_info(p, info);
  elbo_plan_destroy(&p);
  *count = total;
  return values;
}

static void compare_variants(elbo_graph *g, int n, elbo_tensor **out, elbo_store *store, uint64_t seed) {
  int64_t count;
  double *ref = run_plan(ctx, g, n, out, (run_options){.kind = ELBO_BACKEND_REFERENCE}, store, NULL, &count), scale = 0;
  for (int64_t i = 0; i < count; i++) scale = fmax(scale, fabs(ref[i]));
  for (int isa = 0; isa < ISA_COUNT; isa++) {
    elbo_ctx *c = test_ctx_isa(2, (isa_level)isa);
    elbo_plan_info plain = {0}, fused = {0};
    if (!c) continue;
    for (int mode = 0; mode < 3; mode++) { // the graph belongs to ctx, the plan to c
      double *y = run_plan(c, g, n, out, (run_options){.fuse = mode > 0, .poison = mode < 2}, store, mode ? &fused : &plain, &count);
      for (int64_t i = 0; i < count; i++)
        if (!(fabs(y[i] - ref[i]) <= 1e-4 * (1 + scale)))
          fail_msg("seed %llu, variant %s, mode %d: value %lld is %.9g, reference %.9g", (unsigned long long)seed, isa_name((isa_level)isa),
                   mode, (long long)i, y[i], ref[i]);
      free(y);
    }
    assert_true(fused.steps < plain.steps);
    assert_true(plain.arena_bytes < plain.unshared_bytes); // memory is shared
    elbo_ctx_destroy(&c);
  }
  free(ref);
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
    compare_variants(g, n, out, store, seed);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

// Norm and activation become one operation, forward and backward.
static void norms_take_their_activations(void **state) {
  (void)state;
  for (int relu = 0; relu < 2; relu++) {
    elbo_graph *g = new_graph();
    int64_t c = 8;
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){3, 5, 5, c}), *w = elbo_input(g, "w", ELBO_F32, 1, &c), *d[2];
    elbo_tensor *y = elbo_group_norm(x, w, w, 4, 1e-5);
    y = relu ? elbo_relu(y) : elbo_silu(y);
    elbo_tensor *loss = elbo_sum(elbo_square(y), ELBO_ALL_AXES, 0);
    assert_ok(ctx, elbo_gradient(loss, 2, (elbo_tensor *[]){x, w}, d));
    elbo_plan *p;
    assert_ok(ctx, elbo_plan_create(ctx, g, 3, (elbo_tensor *[]){loss, d[0], d[1]}, NULL, &p));
    int fused = 0, plain = 0;
    for (int i = 0; i < p->n_steps; i++) {
      const char *name = p->steps[i].node->op->name;
      fused += strcmp(name, "fused_group_norm") == 0 || strcmp(name, "fused_group_norm_grad") == 0;
      plain += strcmp(name, "group_norm") == 0 || strcmp(name, "group_norm_grad") == 0 || strcmp(name, "unary") == 0;
    }
    assert_int_equal(fused, 2);
    assert_int_equal(plain, 0);
    elbo_plan_destroy(&p);
    elbo_graph_destroy(&g);
  }
}

// Norms whose activations a convolution reads, in both passes: the backward pass gets them from the norm's gradient, and nothing that the
// forward pass normalised is kept. With `kept` something else of the backward pass, which cannot wait, reads them too.
static void normalised_values_are_made_again(void **state) {
  (void)state;
  for (int kept = 0; kept < 2; kept++) {
    elbo_graph *g = new_graph();
    int64_t c = 16;
    elbo_tensor *h = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, 6, 6, c}), *wrt[4], *out[5], *value = NULL;
    for (int i = 0; i < 2; i++) {
      char name[16];
      snprintf(name, sizeof name, "norm%d", i);
      wrt[2 * i] = elbo_parameter(g, name, 1, &c, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
      snprintf(name, sizeof name, "conv%d", i);
      wrt[2 * i + 1] = elbo_parameter(g, name, 4, (int64_t[]){c, c, 3, 3}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
      value = elbo_silu(elbo_group_norm(h, wrt[2 * i], wrt[2 * i], 4, 1e-5));
      elbo_conv2d_config config = {.pad = {1, 1, 1, 1}};
      h = elbo_add(h, elbo_conv2d(value, wrt[2 * i + 1], NULL, &config));
    }
    elbo_tensor *loss = elbo_sum(elbo_square(kept ? elbo_mul(h, value) : h), ELBO_ALL_AXES, 0);
    out[0] = loss;
    assert_ok(ctx, elbo_gradient(loss, 4, wrt, out + 1));
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    compare_variants(g, 5, out, store, 0);
    elbo_plan *p;
    assert_ok(ctx, elbo_plan_create(ctx, g, 5, out, NULL, &p));
    int again = 0, late = 0;
    for (int i = 0; i < p->n_steps; i++) {
      const node *n = p->steps[i].node;
      again += strcmp(n->op->name, "fused_group_norm_grad") == 0 && n->n_out == 4;
      for (int k = 0; k < n->n_in; k++)
        late += n->phase > 0 && n->in[k] && n->in[k]->output == 0 && strcmp(n->in[k]->producer->op->name, "fused_group_norm") == 0;
    }
    assert_int_equal(again, 2 - kept);
    assert_true(kept ? late > 0 : late == 0);
    elbo_plan_destroy(&p);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

// Residual blocks of norms and convolutions with biases, and a vector added to every pixel between them: the gradient of a norm adds what
// came past it, and gives the sums over pixels that biases and the vector ask for. With `read` something else reads the norm's own
// gradient.
static void norm_gradients_take_sums(void **state) {
  (void)state;
  for (int read = 0; read < 2; read++) {
    elbo_graph *g = new_graph();
    const int64_t c = 16, side[] = {c, c, 3, 3};
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){3, 6, 6, c}),
                *v = elbo_input(g, "v", ELBO_F32, 4, (int64_t[]){3, 1, 1, c});
    elbo_tensor *h = elbo_tanh(x), *first = h, *wrt[8] = {x, v}, *out[10] = {NULL};
    for (int i = 0; i < 2; i++) {
      elbo_conv2d_config config = {.pad = {1, 1, 1, 1}};
      char name[16];
      for (int k = 0; k < 3; k++) {
        snprintf(name, sizeof name, "%d.%d", i, k);
        wrt[2 + 3 * i + k] = k == 1 ? elbo_parameter(g, name, 4, side, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN)
                                    : elbo_parameter(g, name, 1, &c, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
      }
      elbo_tensor *n = elbo_silu(elbo_group_norm(h, wrt[2 + 3 * i], NULL, 4, 1e-5));
      n = elbo_add(elbo_conv2d(n, wrt[3 + 3 * i], wrt[4 + 3 * i], &config), v);
      h = elbo_add(h, n);
    }
    elbo_tensor *loss = elbo_mean(elbo_square(h), ELBO_ALL_AXES, 0);
    if (read) loss = elbo_add(loss, elbo_mean(elbo_square(first), ELBO_ALL_AXES, 0));
    out[0] = loss;
    assert_ok(ctx, elbo_gradient(loss, 8, wrt, out + 1));
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    compare_variants(g, 9, out, store, (uint64_t)read);
    elbo_plan *p;
    assert_ok(ctx, elbo_plan_create(ctx, g, 9, out, NULL, &p));
    int residuals = 0, sums = 0, pixels = 0;
    for (int i = 0; i < p->n_steps; i++) {
      const node *n = p->steps[i].node;
      if (strcmp(n->op->name, "fused_group_norm_grad") == 0) residuals += n->in[6] != NULL, sums += n->n_out == 5;
      pixels += strcmp(n->op->name, "sum") == 0 && n->in[0]->shape.rank == 4;
    }
    assert_int_equal(residuals, 2);
    assert_int_equal(sums, 1);   // of the second block's gradient: the first block's bias and the vector
    assert_int_equal(pixels, 2); // of the loss's own slope
    elbo_plan_destroy(&p);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

// Upsampling and the 3x3 convolution behind it are one, in all three directions, where there are enough pixels and nothing else reads the
// upsampled map.
static void upsampled_maps_are_not_made(void **state) {
  (void)state;
  static const struct {
    int64_t B, H, W, C, K;
    bool read, made;
  } cases[] = {
      {32, 8, 8, 16, 24, false, false}, {32, 7, 6, 37, 16, false, false}, {32, 8, 8, 16, 16, true, true}, {2, 8, 8, 16, 16, false, true}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    elbo_graph *g = new_graph();
    int64_t c = cases[i].C, k = cases[i].K;
    elbo_conv2d_config config = {.pad = {1, 1, 1, 1}};
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){cases[i].B, cases[i].H, cases[i].W, c});
    elbo_tensor *w = elbo_parameter(g, "w", 4, (int64_t[]){k, c, 3, 3}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *b = elbo_parameter(g, "b", 1, &k, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *up = elbo_upsample_nearest(elbo_tanh(x), 2, 2), *y = elbo_silu(elbo_conv2d(up, w, b, &config));
    elbo_tensor *loss = elbo_mean(elbo_square(y), ELBO_ALL_AXES, 0), *out[5] = {loss, NULL, NULL, NULL, y};
    if (cases[i].read) loss = out[0] = elbo_add(loss, elbo_mean(elbo_square(up), ELBO_ALL_AXES, 0));
    assert_ok(ctx, elbo_gradient(loss, 3, (elbo_tensor *[]){x, w, b}, out + 1));
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    compare_variants(g, 5, out, store, i);
    elbo_plan *plain, *p;
    elbo_plan_config options;
    elbo_plan_defaults(&options);
    assert_ok(ctx, elbo_plan_create(ctx, g, 5, out, &options, &p));
    options.fuse = 0;
    assert_ok(ctx, elbo_plan_create(ctx, g, 5, out, &options, &plain));
    int made = 0, transposed = 0;
    int64_t flops[2] = {0};
    for (int s = 0; s < p->n_steps; s++) {
      const char *name = p->steps[s].node->op->name;
      elbo_step_info info;
      assert_ok(ctx, elbo_plan_get_step(p, s, &info));
      if (strstr(name, "conv")) flops[0] += info.flops;
      made += strcmp(name, "upsample_nearest") == 0 || strcmp(name, "avg_pool2d") == 0;
      transposed += strcmp(name, "fused_conv_transpose2d") == 0;
    }
    for (int s = 0; s < plain->n_steps; s++) {
      elbo_step_info info;
      assert_ok(ctx, elbo_plan_get_step(plain, s, &info));
      if (strstr(info.op, "conv")) flops[1] += info.flops;
    }
    assert_true(flops[0] == flops[1]); // of the direct algorithm of what was asked for
    if (cases[i].made) {
      assert_true(made > 0);
    } else {
      assert_int_equal(made, 0);
      assert_int_equal(transposed, 1);
    }
    elbo_plan_destroy(&p);
    elbo_plan_destroy(&plain);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

// A UNet's block on the way up: a norm and a 1x1 shortcut of a concatenation, with groups across the boundary and parts of odd widths.
// Neither the concatenation nor its gradient's slices are made, unless something else reads it, or there are so few pixels that the copies
// of the weights would be larger, or there is no gradient.
static void concatenations_are_read_in_place(void **state) {
  (void)state;
  enum { READ = 1, SMALL = 2, FORWARD = 4 };
  static const struct {
    int64_t a, b;
    unsigned how;
  } cases[] = {{16, 8, 0}, {13, 11, 0}, {16, 8, READ}, {8, 16, SMALL}, {13, 11, FORWARD}, {16, 8, READ | FORWARD}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    elbo_graph *g = new_graph();
    const int64_t a = cases[i].a, c = a + cases[i].b, k = 16, side = cases[i].how & SMALL ? 11 : 12;
    elbo_conv2d_config same = {.pad = {1, 1, 1, 1}};
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, side, side, a});
    elbo_tensor *y = elbo_input(g, "y", ELBO_F32, 4, (int64_t[]){2, side, side, c - a});
    elbo_tensor *scale = elbo_parameter(g, "scale", 1, &c, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
    elbo_tensor *w = elbo_parameter(g, "w", 4, (int64_t[]){k, c, 3, 3}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *v = elbo_parameter(g, "v", 4, (int64_t[]){k, c, 1, 1}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *bias = elbo_parameter(g, "bias", 1, &k, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *both = elbo_concat(2, (elbo_tensor *[]){elbo_tanh(x), elbo_tanh(y)}, 3);
    elbo_tensor *h = elbo_conv2d(elbo_silu(elbo_group_norm(both, scale, scale, 4, 1e-5)), w, NULL, &same);
    h = elbo_add(elbo_conv2d(both, v, bias, NULL), h);
    elbo_tensor *loss = elbo_mean(elbo_square(h), ELBO_ALL_AXES, 0), *out[8] = {NULL};
    if (cases[i].how & READ) loss = elbo_add(loss, elbo_mean(elbo_square(both), ELBO_ALL_AXES, 0));
    out[0] = loss, out[1] = h;
    int n = 2;
    if (!(cases[i].how & FORWARD)) {
      assert_ok(ctx, elbo_gradient(loss, 6, (elbo_tensor *[]){x, y, scale, w, v, bias}, out + 2));
      n = 8;
    }
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    compare_variants(g, n, out, store, i);
    elbo_plan *p;
    assert_ok(ctx, elbo_plan_create(ctx, g, n, out, NULL, &p));
    int made = 0, cut = 0;
    for (int s = 0; s < p->n_steps; s++) {
      const node *q = p->steps[s].node;
      made += strcmp(q->op->name, "concat") == 0 && q->out[0]->shape.dim[1] == side;
      cut += strcmp(q->op->name, "slice") == 0 && q->out[0]->shape.dim[1] == side;
    }
    assert_int_equal(made, cases[i].how ? 1 : 0);
    if (!cases[i].how) assert_int_equal(cut, 0);
    elbo_plan_destroy(&p);
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
  double *a = run_plan(ctx, g, 9, out, (run_options){.fuse = 1, .poison = 1}, store, &info, &count);
  int64_t limit = info.arena_bytes * 85 / 100;
  double *b = run_plan(ctx, g, 9, out, (run_options){.fuse = 1, .poison = 1, .limit = limit}, store, &small, &count);
  assert_true(small.arena_bytes <= limit);
  assert_true(small.recomputed > 0);
  for (int64_t i = 0; i < count; i++) assert_near(a[i], b[i], 1e-5 * (1 + fabs(a[i])));
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.memory_limit = 1000;
  elbo_plan *p;
  assert_status(ctx, elbo_plan_create(ctx, g, 9, out, &config, &p), ELBO_ERROR_MEMORY, "memory_limit is 1000");
  assert_null(p);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_networks),
      cmocka_unit_test(norms_take_their_activations),
      cmocka_unit_test(normalised_values_are_made_again),
      cmocka_unit_test(norm_gradients_take_sums),
      cmocka_unit_test(upsampled_maps_are_not_made),
      cmocka_unit_test(concatenations_are_read_in_place),
      cmocka_unit_test(a_memory_limit_is_kept),
      cmocka_unit_test(outputs_outside_and_removed_inputs),
      cmocka_unit_test(state_and_stores),
      cmocka_unit_test(the_first_nan_is_named),
      cmocka_unit_test(a_kernel_is_taken_by_name),
      cmocka_unit_test(bytes_are_counted),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
