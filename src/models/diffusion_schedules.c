#include "models/diffusion_schedules.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/philox.h"
#include "eval/statistics.h"

enum { TIME_DRAWS = 20, SCHEDULES = 4, BOOTSTRAPS = 1000 };

// --- schedules by their log-SNR, falling over t in 0..1 ---

static const char *const schedule_name[SCHEDULES] = {"learned", "linear", "cosine", "beta_linear"};

static double native_logsnr(const process *p, int which, double t) {
  const double half_pi = 1.5707963267948966;
  switch (which) {
  case 0: return process_at(p, t).logsnr;
  case 1: return -t;
  case 2: { // alpha_bar of [Nichol21 eq. 17], short of its end where it is 0
    double c = cos((0.999 * t + 0.008) / 1.008 * half_pi), bar = c * c;
    return log(bar / (1 - bar));
  }
  default: return -log(expm1(1e-4 + 10 * t * t)); // [Kingma21 appendix E]
  }
}

// One schedule between the ends `high` and `low` of the model's.
typedef struct schedule {
  const process *p;
  int which;
  double scale, offset;
} schedule;

static schedule schedule_between(const process *p, int which, double high, double low) {
  double first = native_logsnr(p, which, 0), last = native_logsnr(p, which, 1);
  schedule s = {p, which, (low - high) / (last - first), 0};
  s.offset = high - s.scale * first;
  return s;
}

static double logsnr_of(const schedule *s, double t) { return s->offset + s->scale * native_logsnr(s->p, s->which, t); }

// -d log-SNR / dt where the schedule passes `logsnr`, by bisection and a central difference
static double speed_at(const schedule *s, double logsnr) {
  double low = 0, high = 1;
  for (int i = 0; i < 50; i++) {
    double middle = 0.5 * (low + high);
    if (logsnr_of(s, middle) > logsnr)
      low = middle;
    else
      high = middle;
  }
  double t = 0.5 * (low + high), h = 1e-5, a = t - h < 0 ? 0 : t - h, b = t + h > 1 ? 1 : t + h;
  return (logsnr_of(s, a) - logsnr_of(s, b)) / (b - a);
}

// --- variance ---

// With log-SNR uniform over the range R, E_t[(speed error / 2)^2] = R E[speed error^2 / 4] and E_t[speed error / 2] = R E[error / 2]: the
// change of variables from t to log-SNR under each schedule.
typedef struct moments {
  double *first;             // (n) mean over draws of R error / 2
  double *second[SCHEDULES]; // (n) mean over draws of R speed error^2 / 4
} moments;

static elbo_status collect(elbo_model *m, const scored_examples *e, int draws, double scale, moments *out) {
  const process *p = m->diffusion->process;
  double high = process_at(p, 0).logsnr, low = process_at(p, 1).logsnr, range = high - low;
  schedule s[SCHEDULES];
  double *times = NULL, *error = NULL;
  elbo_status status;
  for (int k = 0; k < SCHEDULES; k++) s[k] = schedule_between(p, k, high, low);
  TRY_GOTO(array_new(m->ctx, (size_t)e->n, sizeof(double), "times", (void **)&times));
  TRY_GOTO(array_new(m->ctx, (size_t)e->n, sizeof(double), "errors", (void **)&error));
  for (int d = 0; d < draws; d++) {
    for (int64_t i = 0; i < e->n; i++) {
      uint32_t bits[4];
      philox_draw(e->seed, philox_stream("eval.schedule"), (uint64_t)i, (uint32_t)d, bits);
      times[i] = process_time_of_logsnr(p, high - range * philox_uniform(bits[0]));
    }
    TRY_GOTO(diffusion_epsilon_errors(m, e, times, seed_of_part(e->seed, (uint64_t)(3000 + d)), error));
    for (int64_t i = 0; i < e->n; i++) {
      double logsnr = process_at(p, times[i]).logsnr, v = error[i] * scale;
      out->first[i] += range * v / 2 / draws;
      for (int k = 0; k < SCHEDULES; k++) out->second[k][i] += range * speed_at(&s[k], logsnr) * v * v / 4 / draws;
    }
    if (e->progress && !e->progress(e->user, "schedules", d + 1, draws, ""))
      TRY_GOTO(fail(m->ctx, ELBO_ERROR_STOPPED, "schedules: stopped"));
  }
fail:
  free(times);
  free(error);
  return status;
}

// The variance of one draw for the pictures in `chosen` (NULL: all).
static double one_draw_variance(const moments *m, int k, int64_t n, const int64_t *chosen) {
  double first = 0, second = 0;
  for (int64_t j = 0; j < n; j++) {
    int64_t i = chosen ? chosen[j] : j;
    first += m->first[i], second += m->second[k][i];
  }
  first /= (double)n, second /= (double)n;
  return second - first * first;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static elbo_status report_variances(elbo_model *m, const scored_examples *e, const moments *w, elbo_eval_result *out) {
  int64_t *chosen = NULL, n = e->n;
  double ratio[SCHEDULES][BOOTSTRAPS], variance[SCHEDULES][BOOTSTRAPS];
  TRY(array_new(m->ctx, (size_t)n, sizeof(int64_t), "a bootstrap", (void **)&chosen));
  for (int b = 0; b < BOOTSTRAPS; b++) {
    for (int64_t j = 0; j < n; j++)
      chosen[j] = (int64_t)philox_below(e->seed, philox_stream("eval.bootstrap"), (uint64_t)(b * n + j), (uint64_t)n);
    for (int k = 0; k < SCHEDULES; k++) variance[k][b] = one_draw_variance(w, k, n, chosen);
    for (int k = 0; k < SCHEDULES; k++) ratio[k][b] = variance[k][b] / variance[0][b];
  }
  free(chosen);
  for (int k = 0; k < SCHEDULES; k++) {
    char name[32];
    double mean, error, value = one_draw_variance(w, k, n, NULL), own = one_draw_variance(w, 0, n, NULL);
    mean_and_error(variance[k], BOOTSTRAPS, &mean, &error);
    snprintf(name, sizeof name, "variance_%s", schedule_name[k]);
    elbo_metric *v = eval_result_add(out, name, "(bits/dim)^2", value, error * sqrt(BOOTSTRAPS), n, NULL);
    if (!k) continue;
    qsort(ratio[k], BOOTSTRAPS, sizeof(double), by_value);
    snprintf(v->note, sizeof v->note, "%.3f times the learned schedule's, 95%% of bootstraps %.3f to %.3f", value / own,
             ratio[k][BOOTSTRAPS / 40], ratio[k][BOOTSTRAPS - 1 - BOOTSTRAPS / 40]);
  }
  return ELBO_OK;
}

elbo_status report_schedule_variance(elbo_model *m, const scored_examples *e, int draws, elbo_eval_result *out) {
  const diffusion_spec *s = &m->diffusion->spec;
  if (s->model.process.type != PROCESS_LEARNED)
    return fail(m->ctx, ELBO_ERROR_ARGUMENT, "metrics: schedule_variance: of a model with a learned process");
  moments w = {0};
  double scale = 1 / ((double)(s->height * s->width * s->channels) * log(2));
  elbo_status status;
  TRY_GOTO(array_new(m->ctx, (size_t)e->n, sizeof(double), "moments", (void **)&w.first));
  for (int k = 0; k < SCHEDULES; k++) TRY_GOTO(array_new(m->ctx, (size_t)e->n, sizeof(double), "moments", (void **)&w.second[k]));
  TRY_GOTO(collect(m, e, draws > 0 ? draws : TIME_DRAWS, scale, &w));
  TRY_GOTO(report_variances(m, e, &w, out));
fail:
  free(w.first);
  for (int k = 0; k < SCHEDULES; k++) free(w.second[k]);
  return status;
}
