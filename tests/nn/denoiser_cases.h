// The cases of tests/golden/denoisers.safetensors, and the four networks behind one table.
#ifndef TESTS_NN_DENOISER_CASES_H
#define TESTS_NN_DENOISER_CASES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_file.h"
#include "core/safetensors.h"
#include "nn/denoiser_trial.h"
#include "nn/dit.h"
#include "nn/edm.h"
#include "nn/mlp.h"
#include "nn/vdm.h"
#include "support/test.h"

typedef union any_config {
  dit_config dit;
  edm_config edm;
  vdm_config vdm;
  mlp_config mlp;
} any_config;

typedef struct network_kind {
  const char *name;
  const config_table *table;
  elbo_status (*read)(elbo_ctx *ctx, arena *a, const char *path, void *out);
  elbo_status (*write)(elbo_ctx *ctx, const char *path, const void *c);
  denoiser_needs (*needs)(const void *c);
  void (*fit)(void *c, int64_t height, int64_t width, int64_t in_channels, int64_t out_channels, int64_t classes);
  elbo_status (*check)(elbo_ctx *ctx, const void *c, int64_t height, int64_t width, int64_t channels, const char *where);
  denoiser_fn build;
} network_kind;

#define NETWORK_KIND(N)                                                                                                                    \
  static elbo_status N##_read_any(elbo_ctx *ctx, arena *a, const char *path, void *out) { return N##_config_read(ctx, a, path, out); }     \
  static elbo_status N##_write_any(elbo_ctx *ctx, const char *path, const void *c) { return N##_config_write(ctx, path, c); }              \
  static denoiser_needs N##_needs_any(const void *c) { return N##_needs(c); }                                                              \
  static void N##_fit_any(void *c, int64_t h, int64_t w, int64_t in, int64_t out, int64_t classes) { N##_fit(c, h, w, in, out, classes); } \
  static elbo_status N##_check_any(elbo_ctx *ctx, const void *c, int64_t h, int64_t w, int64_t channels, const char *where) {              \
    return N##_check(ctx, c, h, w, channels, where);                                                                                       \
  }                                                                                                                                        \
  static elbo_tensor *N##_build_any(const void *c, const denoiser_inputs *in) { return N##_network(c, in); }
NETWORK_KIND(dit)
NETWORK_KIND(edm)
NETWORK_KIND(vdm)
NETWORK_KIND(mlp)
#define NETWORK_ROW(N) \
  { #N, &N##_table, N##_read_any, N##_write_any, N##_needs_any, N##_fit_any, N##_check_any, N##_build_any }
static const network_kind network_kinds[] = {NETWORK_ROW(dit), NETWORK_ROW(edm), NETWORK_ROW(vdm), NETWORK_ROW(mlp)};
enum { N_NETWORK_KINDS = 4 };

// The network whose name a case's begins with
static inline const network_kind *kind_of(const char *case_name) {
  for (int i = 0; i < N_NETWORK_KINDS; i++)
    if (strncmp(case_name, network_kinds[i].name, strlen(network_kinds[i].name)) == 0) return &network_kinds[i];
  fail_msg("no network of the name %s", case_name);
  return NULL;
}

// config.json of `text` in the test's directory
static inline const char *config_path(const char *text) {
  const char *path = test_path("config.json");
  test_write_file(path, text, strlen(text));
  return path;
}

#endif
