// What the fuse pass makes of norms, upsampling and concatenations: the operations that are left, and the same values.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elbo/ops.h>

#include "graph/plan.h"
#include "ops/contraction.h"
#include "ops/norm.h"
#include "ops/op.h"
#include "support/graph_test.h"
#include "support/plan_runs.h"

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
    plan_variants_agree(ctx, g, 5, out, store, 0);
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
    plan_variants_agree(ctx, g, 9, out, store, (uint64_t)read);
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
    plan_variants_agree(ctx, g, 5, out, store, i);
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
    plan_variants_agree(ctx, g, n, out, store, i);
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

// A norm, its activation and the convolution behind it: the map between them is not made where the convolution is Winograd's by tiles, and
// it alone reads it; in training too, and where the map is two. With BOTH the norm reads a concatenation; ODD: of broken vectors.
static void normalised_maps_are_not_made(void **state) {
  (void)state;
  enum { READ = 1, FEW = 2, FORWARD = 4, DIRECT = 8, BOTH = 16, ODD = 32, KERNEL_1X1 = 64, OUTPUT = 128 };
  static const unsigned cases[] = {0, FORWARD, READ, FEW, DIRECT, BOTH, BOTH | ODD, KERNEL_1X1, READ | FORWARD, OUTPUT, OUTPUT | FORWARD};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const unsigned how = cases[i];
    elbo_graph *g = new_graph();
    const int64_t c = 48, a = how & ODD ? 15 : 32, side = how & FEW ? 4 : 32, k = how & KERNEL_1X1 ? 1 : 3;
    elbo_conv2d_config config = {.pad = {(int)k / 2, (int)k / 2, (int)k / 2, (int)k / 2}};
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, side, side, a}),
                *y = elbo_input(g, "y", ELBO_F32, 4, (int64_t[]){2, side, side, c - a});
    elbo_tensor *scale = elbo_parameter(g, "scale", 1, &c, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
    elbo_tensor *w = elbo_parameter(g, "w", 4, (int64_t[]){c, c, k, k}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *both = elbo_concat(2, (elbo_tensor *[]){elbo_tanh(x), elbo_tanh(y)}, 3), *h = how & BOTH ? both : elbo_tanh(both);
    elbo_tensor *value = elbo_silu(elbo_group_norm(h, scale, scale, 4, 1e-5)), *z = elbo_silu(elbo_conv2d(value, w, NULL, &config));
    elbo_tensor *loss = elbo_mean(elbo_square(z), ELBO_ALL_AXES, 0), *out[7] = {NULL};
    if (how & READ) loss = elbo_add(loss, elbo_mean(elbo_square(value), ELBO_ALL_AXES, 0));
    out[0] = loss, out[1] = z;
    int n = 2;
    if (!(how & FORWARD)) {
      assert_ok(ctx, elbo_gradient(loss, 4, (elbo_tensor *[]){x, y, scale, w}, out + 2));
      n = 6;
    }
    if (how & OUTPUT) out[n++] = value;
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    plan_variants_agree(ctx, g, n, out, store, i);
    elbo_plan *p;
    elbo_plan_config options;
    elbo_plan_defaults(&options);
    options.no_winograd = (how & DIRECT) != 0;
    assert_ok(ctx, elbo_plan_create(ctx, g, n, out, &options, &p));
    int made = 0, normalised = 0, of_two = 0;
    for (int s = 0; s < p->n_steps; s++) {
      const node *q = p->steps[s].node;
      made += strcmp(q->op->name, "fused_group_norm") == 0;
      if (strcmp(q->op->name, "fused_conv2d") != 0 || !q->in[FUSED_NORM]) continue;
      normalised++, of_two += q->in[FUSED_X2] != NULL;
      assert_string_equal(q->in[FUSED_NORM]->producer->op->name, "group_norm_statistics");
    }
    bool taken = !(how & ~(unsigned)(FORWARD | BOTH));
    assert_int_equal(made, taken ? 0 : 1);
    assert_int_equal(normalised, taken ? 1 : 0);
    assert_int_equal(of_two, taken && how & BOTH ? 1 : 0);
    if (how == 0) { // and with as little memory as can be
      int64_t least = 0, count;
      elbo_plan *limited;
      elbo_plan_defaults(&options);
      options.memory_limit = 1, options.least_bytes = &least;
      assert_true(elbo_plan_create(ctx, g, n, out, &options, &limited) != ELBO_OK && least > 0);
      elbo_plan_info whole, less;
      double *all = plan_values(ctx, g, n, out, (plan_options){.fuse = 1}, store, &whole, &count);
      double *few = plan_values(ctx, g, n, out, (plan_options){.fuse = 1, .poison = 1, .limit = least}, store, &less, &count);
      assert_true(less.recomputed > 0);
      assert_memory_equal(all, few, (size_t)count * sizeof *all);
      free(all), free(few);
    }
    elbo_plan_destroy(&p);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

// Norm, factor and shift by image and channel, activation, and a convolution behind: nothing but statistics in inference. With TRAINING,
// where gradients read what lies between, with a map in place of the shift, and where something else reads the product, all stays as it is.
static void modulated_norms_are_one(void **state) {
  (void)state;
  enum { TRAINING = 1, MAP = 2, READ = 4, DIRECT = 8, SWAPPED = 16, NO_ACTIVATION = 32 };
  static const unsigned cases[] = {0, SWAPPED, DIRECT, TRAINING, MAP, READ, NO_ACTIVATION};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const unsigned how = cases[i];
    elbo_graph *g = new_graph();
    const int64_t c = 32, side = 32, all[] = {2, side, side, c}, one[] = {2, 1, 1, c};
    elbo_conv2d_config config = {.pad = {1, 1, 1, 1}};
    elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, all), *e = elbo_input(g, "e", ELBO_F32, 4, one),
                *t = elbo_input(g, "t", ELBO_F32, 4, how & MAP ? all : one);
    elbo_tensor *scale = elbo_parameter(g, "scale", 1, &c, ELBO_PARAM_TRAINED, ELBO_INIT_ONES);
    elbo_tensor *w = elbo_parameter(g, "w", 4, (int64_t[]){c, c, 3, 3}, ELBO_PARAM_TRAINED, ELBO_INIT_FAN_IN);
    elbo_tensor *h = elbo_group_norm(elbo_tanh(x), scale, scale, 4, 1e-5), *factor = elbo_scale(e, 1, 1);
    elbo_tensor *product = how & SWAPPED ? elbo_mul(factor, h) : elbo_mul(h, factor);
    h = how & SWAPPED ? elbo_add(t, product) : elbo_add(product, t);
    elbo_tensor *z = elbo_conv2d(how & NO_ACTIVATION ? h : elbo_silu(h), w, NULL, &config), *out[6] = {z};
    int n = 1;
    if (how & TRAINING) {
      out[0] = elbo_mean(elbo_square(z), ELBO_ALL_AXES, 0);
      assert_ok(ctx, elbo_gradient(out[0], 5, (elbo_tensor *[]){x, e, t, scale, w}, out + 1));
      n = 6;
    }
    if (how & READ) out[n++] = product;
    elbo_store *store;
    assert_ok(ctx, elbo_store_create(ctx, 1, &g, 3, &store));
    plan_variants_agree(ctx, g, n, out, store, 100 + i);
    elbo_plan *p;
    elbo_plan_config options;
    elbo_plan_defaults(&options);
    options.no_winograd = (how & DIRECT) != 0;
    assert_ok(ctx, elbo_plan_create(ctx, g, n, out, &options, &p));
    int plain = 0, fused = 0, statistics = 0;
    for (int s = 0; s < p->n_steps; s++) {
      const node *q = p->steps[s].node;
      plain += strcmp(q->op->name, "group_norm") == 0;
      fused += strcmp(q->op->name, "fused_group_norm") == 0 && q->in[NORM_FACTOR] && q->in[NORM_SHIFT];
      statistics += strcmp(q->op->name, "group_norm_statistics") == 0 && q->in[NORM_FACTOR] && q->in[NORM_SHIFT];
    }
    bool taken = !(how & ~(unsigned)(SWAPPED | DIRECT));
    assert_int_equal(plain, taken ? 0 : 1);
    assert_int_equal(fused, taken && how & DIRECT ? 1 : 0);
    assert_int_equal(statistics, taken && !(how & DIRECT) ? 1 : 0);
    elbo_plan_destroy(&p);
    elbo_store_destroy(&store);
    elbo_graph_destroy(&g);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(norms_take_their_activations),     cmocka_unit_test(normalised_values_are_made_again),
      cmocka_unit_test(norm_gradients_take_sums),         cmocka_unit_test(upsampled_maps_are_not_made),
      cmocka_unit_test(concatenations_are_read_in_place), cmocka_unit_test(normalised_maps_are_not_made),
      cmocka_unit_test(modulated_norms_are_one),
  };
  return cmocka_run_group_tests(tests, graph_set_up, graph_tear_down);
}
