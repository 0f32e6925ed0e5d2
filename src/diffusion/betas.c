#include "diffusion/betas.h"

#include <math.h>
#include <stdio.h>

#include "core/number.h"

// Of the schedules that are given by alpha_bar(t): beta_i = 1 - alpha_bar((i+1)/T) / alpha_bar(i/T), at most this [Nichol21 section 3.2].
static const double BETA_MOST = 0.999;

static double cosine_alpha_bar(double t) { // [Nichol21 eq. 17]
  double c = cos((t + 0.008) / 1.008 * M_PI / 2);
  return c * c;
}

// Log-SNR distributed as Laplace [Hang24], with the square root that diffusers takes.
static double laplace_alpha_bar(double t) {
  double lambda = -0.5 * copysign(1, 0.5 - t) * log(1 - 2 * fabs(0.5 - t) + 1e-6), snr = exp(lambda);
  return sqrt(snr / (1 + snr));
}

static double exp_alpha_bar(double t) { return exp(-12 * t); }

static void fill_from_alpha_bar(double (*alpha_bar)(double), int64_t T, double *out) {
  for (int64_t i = 0; i < T; i++) {
    double beta = 1 - alpha_bar((double)(i + 1) / (double)T) / alpha_bar((double)i / (double)T);
    out[i] = beta < BETA_MOST ? beta : BETA_MOST;
  }
}

// Moves sqrt(alpha_bar) so that it ends at zero and begins where it did [Lin24 algorithm 1].
static void rescale_to_zero_snr(int64_t T, double *betas) {
  double left = 1, before = 1, first = sqrt(1 - betas[0]), last;
  for (int64_t i = 0; i < T; i++) left *= 1 - betas[i];
  last = sqrt(left);
  left = 1;
  for (int64_t i = 0; i < T; i++) {
    left *= 1 - betas[i];
    double root = (sqrt(left) - last) * (first / (first - last)), alpha_bar = i == T - 1 ? 0 : root * root;
    betas[i] = 1 - alpha_bar / before;
    before = alpha_bar;
  }
}

static elbo_status check_beta(elbo_ctx *ctx, const char *where, const char *key, double beta) {
  char text[NUMBER_TEXT];
  if (beta > 0 && beta < 1) return ELBO_OK;
  return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.%s: %s; a beta lies strictly between 0 and 1", where, key, number_text(beta, text));
}

elbo_status betas_fill(elbo_ctx *ctx, const process_config *c, const char *where, double *out) {
  int64_t T = c->steps;
  double start = c->beta_start, end = c->beta_end, last = T > 1 ? (double)(T - 1) : 1;
  if (c->betas == BETAS_LINEAR || c->betas == BETAS_SCALED_LINEAR || c->betas == BETAS_SIGMOID) {
    char a[NUMBER_TEXT], b[NUMBER_TEXT];
    TRY(check_beta(ctx, where, "beta_start", start));
    TRY(check_beta(ctx, where, "beta_end", end));
    if (start > end)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.beta_start: %s with beta_end %s; expected beta_start <= beta_end", where,
                  number_text(start, a), number_text(end, b));
  }
  switch ((beta_schedule)c->betas) {
  case BETAS_LINEAR:
    for (int64_t i = 0; i < T; i++) out[i] = start + (double)i * ((end - start) / last);
    break;
  case BETAS_SCALED_LINEAR: // linear in its root [Rombach22]
    for (int64_t i = 0; i < T; i++) {
      double root = sqrt(start) + (double)i * ((sqrt(end) - sqrt(start)) / last);
      out[i] = root * root;
    }
    break;
  case BETAS_COSINE: fill_from_alpha_bar(cosine_alpha_bar, T, out); break;
  case BETAS_SIGMOID: // [Xu22]
    for (int64_t i = 0; i < T; i++) out[i] = (end - start) / (1 + exp(6 - (double)i * (12 / last))) + start;
    break;
  case BETAS_LAPLACE: fill_from_alpha_bar(laplace_alpha_bar, T, out); break;
  case BETAS_EXP: fill_from_alpha_bar(exp_alpha_bar, T, out); break;
  case BETAS_TABLE:
    if (c->table.count != T)
      return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.table: %lld betas; expected one for each of the %lld steps", where,
                  (long long)c->table.count, (long long)T);
    for (int64_t i = 0; i < T; i++) {
      char key[40];
      snprintf(key, sizeof key, "table[%lld]", (long long)i);
      out[i] = c->table.at[i];
      TRY(check_beta(ctx, where, key, out[i]));
    }
    break;
  }
  if (c->zero_snr) {
    if (T < 2) return fail(ctx, ELBO_ERROR_ARGUMENT, "%s.zero_snr: needs at least two steps", where);
    rescale_to_zero_snr(T, out);
  }
  return ELBO_OK;
}
