#include "models/collapse_watch.h"

#include <math.h>
#include <string.h>

#include "eval/codes.h"
#include "eval/statistics.h"

// A young model has no KL yet: nothing is said before this step, nor before so many logging intervals agree.
enum { FIRST_STEP = 150, INTERVALS = 3 };
#define KNOBS                                                                                                                        \
  "try objective.kl_warmup_steps (a slow start of the KL term), objective.free_bits, a smaller objective.beta, or a weaker decoder " \
  "(fewer model.decoder.channels, blocks or hidden)"

static const double *find(const char *name, int n, const char *const *names, const int *counts, const double *const *values, int *count) {
  for (int i = 0; i < n; i++)
    if (strcmp(names[i], name) == 0) {
      *count = counts[i];
      return values[i];
    }
  *count = 0;
  return NULL;
}

// Warns when the trouble has lasted, then ever more rarely.
static bool speak(collapse_watch *w, int64_t step, bool trouble) {
  w->bad_intervals = trouble ? w->bad_intervals + 1 : 0;
  if (step < FIRST_STEP || w->bad_intervals < INTERVALS || step < w->next_warning) return false;
  w->next_warning = 2 * step;
  w->warnings++;
  return true;
}

void collapse_watch_interval(collapse_watch *w, elbo_ctx *ctx, const vae_spec *spec, const objective_config *objective, int64_t step, int n,
                             const char *const *names, const int *counts, const double *const *values) {
  int count, n_mean, n_square;
  const double *kl = find("kl", n, names, counts, values, &count);
  if (!kl) return;
  const double *group = find("kl_group", n, names, counts, values, &count);
  if (group) {
    int idle = 0, first = -1;
    for (int i = 0; i < count; i++)
      if (group[i] < 0.01) {
        if (first < 0) first = i;
        idle++;
      }
    if (speak(w, step, idle > 0))
      log_warning(ctx, "step %lld: posterior collapse in %d of %d latent groups (group %d: KL %.4f nats, all together %.2f): " KNOBS,
                  (long long)step, idle, count, first, group[first], *kl);
    return;
  }
  const double *mean = find("code_mean", n, names, counts, values, &n_mean),
               *square = find("code_square", n, names, counts, values, &n_square);
  int active = 0;
  for (int i = 0; mean && square && i < n_mean; i++) active += square[i] - mean[i] * mean[i] > 0.01;
  bool collapsed = *kl < 0.5 || active == 0, idle = active * 10 < n_mean;
  if (!speak(w, step, collapsed || idle)) return;
  if (collapsed)
    log_warning(ctx,
                "step %lld: posterior collapse: KL %.3f nats, %d of %d numbers of the code active; the decoder does without the code (beta "
                "%g): " KNOBS,
                (long long)step, *kl, active, n_mean, objective->beta);
  else
    log_warning(ctx, "step %lld: over-regularised: %d of %lld numbers of the code active, KL %.2f nats (beta %g): " KNOBS, (long long)step,
                active, (long long)spec->model.latent.dim, *kl, objective->beta);
}

elbo_status collapse_check_codes(collapse_watch *w, elbo_model *m, const elbo_array *x, const elbo_array *label, uint64_t seed,
                                 int64_t step) {
  enum { MOST = 500 };
  (void)w;
  int64_t n = x->dim[0] < MOST ? x->dim[0] : MOST;
  if (n < 20 || vae_code_size(&m->spec) > 4096) return ELBO_OK;
  elbo_array part = *x, part_label;
  part.dim[0] = n;
  if (label) part_label = *label, part_label.dim[0] = n;
  code_sample c;
  double each[MOST], information, error, discrepancy, spread, p_value;
  TRY(sample_codes(m, &part, label ? &part_label : NULL, seed, &c));
  elbo_status status = index_code_information(m->ctx, c.mean->data, c.std->data, c.code->data, n, c.d, each);
  if (status == ELBO_OK) status = two_sample_test(m->ctx, c.code->data, c.prior->data, n, c.d, 99, seed, &discrepancy, &spread, &p_value);
  if (status == ELBO_OK) {
    mean_and_error(each, n, &information, &error);
    double ceiling = log((double)n);
    log_info(m->ctx,
             "step %lld: held-out codes: %lld of %lld numbers active, index-code information %.2f of at most ln %lld = %.2f nats%s, "
             "mismatch with p(z) %.5f (p %.2f)",
             (long long)step, (long long)active_units(c.mean->data, n, c.d, NULL), (long long)c.d, information, (long long)n, ceiling,
             information > 0.9 * ceiling ? " (saturated)" : "", discrepancy, p_value);
  }
  code_sample_free(&c);
  return status;
}
