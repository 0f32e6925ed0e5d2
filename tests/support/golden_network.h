// Networks against golden files: tests/golden/make_unet.py tells the format. A case of the file is a config, the names and shapes of its
// parameters, inputs, the result, and sometimes gradients; the weights are functions of the parameters' names.
#ifndef TESTS_SUPPORT_GOLDEN_NETWORK_H
#define TESTS_SUPPORT_GOLDEN_NETWORK_H

#include <elbo/ops.h>

#include "core/safetensors.h"
#include "nn/denoiser.h"
#include "support/test.h"

// Builds the network of `config`; NULL after an error.
typedef elbo_tensor *(*golden_build_fn)(const void *config, const denoiser_inputs *in);

typedef struct golden_network {
  const safetensors *file;
  const char *name; // of the case
  const void *config;
  denoiser_needs needs;
  golden_build_fn build;
  double tolerance, gradient_tolerance; // |a - b| <= tolerance (1 + max |b|)
} golden_network;

// "CASE.KEY" of the metadata; fails the test when it is not there.
const char *golden_text(const safetensors *file, const char *name, const char *key);
// Runs it on the instruction set `isa` (a negative one: the reference backend), compares the parameters' names and shapes, the result, and
// the gradients where the file has them. Fails the test with the worst element.
void golden_network_check(const golden_network *n, int isa);

// Parts of it, for networks of another kind (file, name and config of `n`):
// Fills the store, and compares "NAME 3x4\n" of every parameter, in the order of names, with the file's.
void golden_fill_store(elbo_ctx *ctx, const golden_network *n, elbo_store *store);
// `got`: doubles under the reference backend (isa < 0); `what` names it in messages.
void golden_compare(const golden_network *n, int isa, const char *what, const tensor_view *want, const void *got, double tolerance);

#endif
