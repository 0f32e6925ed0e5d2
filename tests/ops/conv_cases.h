// Random convolutions, and the nodes that every convolution kernel is forced on.
#ifndef TESTS_OPS_CONV_CASES_H
#define TESTS_OPS_CONV_CASES_H

#include <stdio.h>

#include "ops/conv2d.h"
#include "support/kernel_check.h"
#include "support/op_check.h"

typedef struct conv_case {
  int64_t B, H, W, I, O, kh, kw; // I, O: over all groups
  elbo_conv2d_config config;
  int output_padding[2];
  int bias;
  char text[160];
} conv_case;

static inline void conv_case_describe(conv_case *c) {
  const elbo_conv2d_config *f = &c->config;
  snprintf(c->text, sizeof c->text, "B%d %dx%d %d->%d kernel %dx%d stride %d,%d dilation %d,%d pad %d,%d,%d,%d groups %d extra %d,%d",
           (int)c->B, (int)c->H, (int)c->W, (int)c->I, (int)c->O, (int)c->kh, (int)c->kw, f->stride[0], f->stride[1], f->dilation[0],
           f->dilation[1], f->pad[0], f->pad[1], f->pad[2], f->pad[3], f->groups, c->output_padding[0], c->output_padding[1]);
}

// `most`: channels at most. Kernels always fit into the padded input, as a layer requires.
static inline conv_case conv_case_random(test_random *r, int64_t most) {
  conv_case c = {
      .B = test_below(r, 1, 3), .H = test_below(r, 1, 11), .W = test_below(r, 1, 11), .kh = test_below(r, 1, 5), .kw = test_below(r, 1, 5)};
  int64_t kind = test_below(r, 0, 5);
  c.config.groups = kind == 0 ? (int)test_below(r, 2, 3) : 1;
  c.I = c.config.groups * test_below(r, 1, most / c.config.groups);
  c.O = c.config.groups * test_below(r, 1, most / c.config.groups);
  if (kind == 1) c.I = c.O = c.config.groups = (int)test_below(r, 1, most); // depthwise
  if (kind == 2) c.I = test_below(r, 1, 4);
  if (kind == 3) c.O = test_below(r, 1, 4);
  for (int i = 0; i < 2; i++) {
    c.config.stride[i] = (int)test_below(r, 1, 4);
    c.config.dilation[i] = test_below(r, 0, 3) == 0 ? (int)test_below(r, 2, 3) : 1;
  }
  for (int i = 0; i < 4; i++) c.config.pad[i] = (int)test_below(r, 0, 3);
  for (int i = 0; i < 2; i++) { // the transposed size too must be at least 1
    int64_t taps = i ? c.kw : c.kh, *size = i ? &c.W : &c.H;
    c.output_padding[i] = (int)test_below(r, 0, c.config.stride[i] - 1);
    while (*size + c.config.pad[i] + c.config.pad[i + 2] < c.config.dilation[i] * (taps - 1) + 1) ++*size;
    while ((*size - 1) * c.config.stride[i] - c.config.pad[i] - c.config.pad[i + 2] + c.config.dilation[i] * (taps - 1) < 0) ++*size;
  }
  c.bias = (int)test_below(r, 0, 1);
  conv_case_describe(&c);
  return c;
}

// The layer on inputs "x", "w", "b"; transposed: (I, O/groups, kh, kw).
static inline elbo_tensor *conv_case_build(elbo_graph *g, const conv_case *c, bool transposed) {
  int64_t groups = c->config.groups ? c->config.groups : 1;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){c->B, c->H, c->W, c->I});
  elbo_tensor *w = transposed ? elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){c->I, c->O / groups, c->kh, c->kw})
                              : elbo_input(g, "w", ELBO_F32, 4, (int64_t[]){c->O, c->I / groups, c->kh, c->kw});
  elbo_tensor *b = c->bias ? elbo_input(g, "b", ELBO_F32, 1, &c->O) : NULL;
  return transposed ? elbo_conv_transpose2d(x, w, b, &c->config, c->output_padding) : elbo_conv2d(x, w, b, &c->config);
}

// dT/dw for the forward layer of the case: x as above, y of the layer's output shape.
static inline elbo_tensor *conv_case_weight_grad(elbo_graph *g, const conv_case *c) {
  elbo_tensor *layer = conv_case_build(g, c, false);
  if (!layer) return NULL;
  conv2d_attr like_w = conv2d_attr_sized(layer->producer->attr, c->kh, c->kw);
  elbo_tensor *y = elbo_input(g, "gy", ELBO_F32, 4, layer->shape.dim);
  return conv2d_weight_grad_of(layer->producer->in[0], y, &like_w);
}

#endif
