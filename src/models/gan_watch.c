#include "models/gan_watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// A young adversary may lead: nothing is said in its first steps, nor before so many logging intervals agree.
enum { YOUNG = 150, INTERVALS = 3 };
#define ALL_RIGHT 0.995 // of both kinds: what is left to deceive has no gradient to speak of
#define HALF_RIGHT 0.05 // around a coin's half, for both kinds together

static double find(const char *name, int n, const char *const *names, const double *const *values) {
  for (int i = 0; i < n; i++)
    if (strcmp(names[i], name) == 0) return values[i][0];
  return NAN;
}

// Those that are not turned already.
static void knobs_against(const gan_watched *o, char *text, size_t size) {
  snprintf(text, size, "try %s%sa smaller train.groups.discriminator.learning_rate, %s%sfewer model.discriminator.channels",
           o->r1 > 0 ? "a larger objective.r1, " : "objective.r1 (1 to 10), ",
           o->spectral_norm ? "" : "model.discriminator.spectral_norm, ",
           o->may_control && o->loss != GAN_WASSERSTEIN ? "objective.control: equilibrium, " : "",
           o->loss == GAN_MINIMAX ? "objective.loss: non_saturating, " : "");
}

static bool speak(gan_watch *w, int *intervals, int64_t step, int64_t start, bool trouble) {
  *intervals = trouble ? *intervals + 1 : 0;
  if (step - start < YOUNG || *intervals < INTERVALS || step < w->next_warning) return false;
  w->next_warning = 2 * step;
  w->warnings++;
  return true;
}

void gan_watch_interval(gan_watch *w, elbo_ctx *ctx, const gan_watched *o, int64_t step, int n, const char *const *names,
                        const double *const *values) {
  double real = find("discriminator.real_right", n, names, values), fake = find("discriminator.fake_right", n, names, values);
  if (step <= o->start || isnan(real) || isnan(fake)) return;
  // a critic's values have no zero that parts them
  bool judged = o->loss != GAN_WASSERSTEIN;
  char knobs[512];
  if (speak(w, &w->won, step, o->start, judged && real > ALL_RIGHT && fake > ALL_RIGHT)) {
    knobs_against(o, knobs, sizeof knobs);
    log_warning(ctx, "step %lld: the discriminator has won: it tells %.1f %% of what is real and %.1f %% of what is made: %s",
                (long long)step, 100 * real, 100 * fake, knobs);
  }
  if (speak(w, &w->lost, step, o->start, judged && fabs(real + fake - 1) < HALF_RIGHT && (real > 0.95 || fake > 0.95)))
    log_warning(
        ctx,
        "step %lld: the discriminator says the same of everything (%.1f %% of what is real told, %.1f %% of what is made): try a larger "
        "train.groups.discriminator.learning_rate, a smaller objective.r1 or more model.discriminator.channels",
        (long long)step, 100 * real, 100 * fake);
}
