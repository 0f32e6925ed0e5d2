#include "nn/gamma_network.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/store.h"
#include "nn/layers.h"

static const config_field gamma_fields[] = {
    CONFIG_INT(gamma_config, hidden, 1, 65536, "1024", "", "sigmoids that the schedule is bent by"),
    CONFIG_FLOAT(gamma_config, logsnr_min, -100, 100, "-5", "", "log-SNR at the noisy end, when training starts"),
    CONFIG_FLOAT(gamma_config, logsnr_max, -100, 100, "13.3", "", "log-SNR at the data's end, when training starts"),
    CONFIG_BOOL(gamma_config, learn_ends, "true", "whether the two ends are trained"),
};
const config_table gamma_table = CONFIG_TABLE("gamma", gamma_config, gamma_fields, "the learned noise schedule");

elbo_status gamma_config_check(elbo_ctx *ctx, const gamma_config *c, const char *where) {
  if (c->logsnr_min < c->logsnr_max) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.logsnr_min: %g; expected less than logsnr_max, %g", where, c->logsnr_min, c->logsnr_max);
}

static elbo_tensor *trained(elbo_graph *g, const char *name, int rank, const int64_t *dim, elbo_init_kind kind, double scale) {
  return elbo_parameter(g, name, rank, dim, ELBO_PARAM_TRAINED, (elbo_init){kind, scale, 0});
}

// gamma~ (N,1) -> (N,1). It begins with l1(t) = 2 t - 1, sigmoids of many slopes spread over -1..1, and all of them together less than
// the line: nearly linear in t, and free to bend anywhere.
static elbo_tensor *raw_gamma(elbo_graph *g, int64_t hidden, elbo_tensor *t) {
  const double softplus_is_2 = 1.8545865421312408;
  const int64_t one[] = {1, 1}, spread[] = {hidden, 1}, gather[] = {1, hidden};
  elbo_tensor *w1 = elbo_softplus(trained(g, "l1.weight", 2, one, ELBO_INIT_KIND_CONSTANT, softplus_is_2));
  elbo_tensor *w2 = elbo_softplus(trained(g, "l2.weight", 2, spread, ELBO_INIT_KIND_UNIFORM, 8));
  elbo_tensor *w3 = elbo_softplus(trained(g, "l3.weight", 2, gather, ELBO_INIT_KIND_NORMAL, 1));
  elbo_tensor *line = elbo_linear(t, w1, trained(g, "l1.bias", 1, one, ELBO_INIT_KIND_CONSTANT, -1));
  elbo_tensor *bend = elbo_sigmoid(elbo_linear(line, w2, trained(g, "l2.bias", 1, spread, ELBO_INIT_KIND_UNIFORM, 8)));
  return elbo_add(line, elbo_linear(bend, elbo_scale(w3, 1.0 / (double)hidden, 0), NULL));
}

elbo_tensor *gamma_network(elbo_graph *graph, const gamma_config *c, elbo_tensor *t) {
  if (!t) return NULL;
  int64_t b = elbo_tensor_dim(t, 0), one = 1, two = 2;
  // both ends ride along as two more times
  elbo_tensor *ends = elbo_constant_array(graph, 1, &two, (const float[]){0, 1});
  elbo_tensor *all = elbo_reshape(elbo_concat(2, (elbo_tensor *[]){t, ends}, 0), 2, (int64_t[]){b + 2, 1});
  elbo_tensor *raw = elbo_reshape(raw_gamma(graph, c->hidden, all), 1, (int64_t[]){b + 2});
  elbo_tensor *first = elbo_slice(raw, 0, b, b + 1), *last = elbo_slice(raw, 0, b + 1, b + 2);
  elbo_param_kind kind = c->learn_ends ? ELBO_PARAM_TRAINED : ELBO_PARAM_FROZEN;
  elbo_tensor *gamma_0 = elbo_parameter(graph, "gamma_0", 1, &one, kind, (elbo_init){ELBO_INIT_KIND_CONSTANT, -c->logsnr_max, 0});
  elbo_tensor *gamma_1 = elbo_parameter(graph, "gamma_1", 1, &one, kind, (elbo_init){ELBO_INIT_KIND_CONSTANT, -c->logsnr_min, 0});
  elbo_tensor *slope = elbo_div(elbo_sub(gamma_1, gamma_0), elbo_sub(last, first));
  return elbo_add(elbo_mul(elbo_sub(elbo_slice(raw, 0, 0, b), first), slope), gamma_0);
}

// --- the same on the host ---

typedef struct gamma_weights {
  int64_t hidden;
  double w1, b1, gamma_0, gamma_1;
  const float *w2, *b2, *w3;
} gamma_weights;

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static elbo_status find(const elbo_store *s, const char *prefix, const char *name, int64_t count, elbo_param_info *out) {
  char full[256];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  TRY(elbo_store_find(s, full, out));
  if (count == 0 || out->count == count) return ELBO_OK;
  return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%s: has %lld numbers; expected %lld", full, (long long)out->count, (long long)count);
}

static elbo_status find_weights(const elbo_store *s, const char *prefix, gamma_weights *w) {
  elbo_param_info p;
  TRY(find(s, prefix, "l2.weight", 0, &p));
  w->hidden = p.count, w->w2 = p.data;
  TRY(find(s, prefix, "l2.bias", w->hidden, &p));
  w->b2 = p.data;
  TRY(find(s, prefix, "l3.weight", w->hidden, &p));
  w->w3 = p.data;
  TRY(find(s, prefix, "l1.weight", 1, &p));
  w->w1 = softplus(p.data[0]);
  TRY(find(s, prefix, "l1.bias", 1, &p));
  w->b1 = p.data[0];
  TRY(find(s, prefix, "gamma_0", 1, &p));
  w->gamma_0 = p.data[0];
  TRY(find(s, prefix, "gamma_1", 1, &p));
  w->gamma_1 = p.data[0];
  if (w->gamma_0 < w->gamma_1) return ELBO_OK;
  return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%sgamma_0: the schedule's ends have crossed: %g at the data, %g at the noise", prefix,
              w->gamma_0, w->gamma_1);
}

// gamma~ at three times in one walk over the sigmoids, and its derivative at the first
static void raw_gamma_host(const gamma_weights *w, const double t[3], double value[3], double *derivative) {
  *derivative = w->w1;
  for (int k = 0; k < 3; k++) value[k] = w->w1 * t[k] + w->b1;
  const double line[3] = {value[0], value[1], value[2]};
  for (int64_t i = 0; i < w->hidden; i++) {
    double w2 = softplus(w->w2[i]), w3 = softplus(w->w3[i]) / (double)w->hidden;
    for (int k = 0; k < 3; k++) {
      double y = 1 / (1 + exp(-(w2 * line[k] + w->b2[i])));
      value[k] += w3 * y;
      if (k == 0) *derivative += w3 * y * (1 - y) * w2 * w->w1;
    }
  }
}

elbo_status gamma_network_host(const elbo_store *store, const char *prefix, double t, double *gamma, double *dgamma) {
  gamma_weights w;
  double value[3], derivative;
  TRY(find_weights(store, prefix, &w));
  raw_gamma_host(&w, (const double[]){t, 0, 1}, value, &derivative);
  double slope = (w.gamma_1 - w.gamma_0) / (value[2] - value[1]);
  *gamma = w.gamma_0 + (value[0] - value[1]) * slope;
  *dgamma = derivative * slope;
  return ELBO_OK;
}
