// From data back to noise: DDIM's steps turned round.
//
// A step of DDIM from level t down to s is x_s = alpha_s x0 + sigma_s epsilon with both taken from (x_t, t). The way back knows x_s alone:
// it begins with what the network says of (x_s, s), and then asks once of the x_t that this gives, so that what is kept is a step whose
// reverse is DDIM's own up to the square of its length. At sigma = 0 there is no noise to ask about, but x0 is x itself.
#include <math.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "diffusion/sampling.h"

enum { WORK = 3 }; // x0, epsilon, x at the upper level

static elbo_status step_back(sampling *s, int k) {
  solver_node to = s->plan.node[k], from = s->plan.target[k];
  double *x0 = s->work[0], *epsilon = s->work[1], *up = s->work[2];
  if (from.sigma > 0 && k + 1 < s->plan.steps) {
    TRY(predict(s, s->x, from, x0, epsilon));
    combine2(s, up, to.alpha, x0, to.sigma, epsilon);
  } else {
    combine(s, up, 1, (const double[]){to.alpha / from.alpha}, (const double *const[]){s->x});
  }
  TRY(predict(s, up, to, NULL, epsilon));
  // x_s = alpha_s x0 + sigma_s epsilon solved for x0
  combine2(s, s->x, to.alpha / from.alpha, s->x, to.sigma - to.alpha * from.sigma / from.alpha, epsilon);
  return ELBO_OK;
}

static elbo_status allocate(sampling *s) {
  const sampler_request *r = s->request;
  const bool learned = s->plan.learned_variance;
  int64_t total, arrays = 2 + (learned ? 3 : 0) + WORK;
  if (!checked_mul(r->rows, r->size, &s->n) || !checked_mul(s->n, arrays, &total) || total > INT64_MAX / 64)
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%lld states of %lld numbers are too many", (long long)r->rows, (long long)r->size);
  TRY(aligned_new(s->ctx, (size_t)total * sizeof(double), "a sampler's states", (void **)&s->memory));
  double *at = s->memory;
  s->input = at, at += s->n;
  s->raw = s->answer = at, at += s->n;
  if (learned) {
    s->variance = at, at += s->n;
    s->answer = at, at += 2 * s->n;
  }
  for (int i = 0; i < WORK; i++, at += s->n) s->work[i] = at;
  return ELBO_OK;
}

static elbo_status run_back(sampling *s) {
  const sampler_request *r = s->request;
  if (s->plan.kind != SAMPLER_DDIM || s->plan.eta > 0)
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "the way back to noise is that of sampler ddim with eta 0, which steps without fresh noise");
  if (r->rows < 1 || r->size < 1) return fail(s->ctx, ELBO_ERROR_ARGUMENT, "a sampler needs at least one state of at least one number");
  s->plan.clip = CLIP_NONE;
  TRY(allocate(s));
  for (int k = s->plan.steps - 1; k >= 0; k--) {
    TRY(step_back(s, k));
    if (r->progress && !r->progress(r->progress_user, "back to noise", s->plan.steps - k, s->plan.steps, ""))
      return fail(s->ctx, ELBO_ERROR_STOPPED, "stopped after step %d of %d", s->plan.steps - k, s->plan.steps);
  }
  combine(s, s->x, 1, (const double[]){1 / s->plan.first_scale}, (const double *const[]){s->x});
  for (int64_t i = 0; i < s->n; i++)
    if (!isfinite(s->x[i])) return fail(s->ctx, ELBO_ERROR_NUMERIC, "the noise of example %lld is not finite", (long long)(i / r->size));
  return ELBO_OK;
}

elbo_status sampler_reverse(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *network_calls) {
  sampling s = {.ctx = ctx, .request = request, .x = x};
  elbo_status status = schedule_make(ctx, request->scheduler, request->process, request->steps, &s.plan);
  if (status == ELBO_OK) status = run_back(&s);
  if (network_calls) *network_calls = s.calls;
  aligned_free(s.memory);
  schedule_free(&s.plan);
  return status;
}
