// The table of samplers, and the one loop that runs them.
#include "diffusion/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ctx.h"
#include "core/memory.h"
#include "diffusion/sampling.h"

typedef struct sampler_entry {
  elbo_status (*step)(sampling *s, int k);
  int order;   // of the error of a long run [the convergence tests]; 0: that of the options
  int calls;   // of the network a step; -1: of the method's stages; 0: as many as it takes
  int work;    // buffers
  int history; // answers kept
  bool stochastic;
} sampler_entry;

static const sampler_entry entries[SAMPLER_COUNT] = {
    [SAMPLER_DDPM] = {step_ddpm, 1, 1, 2, 0, true},    // [Ho20 algorithm 2]
    [SAMPLER_DDIM] = {step_ddim, 1, 1, 2, 0, false},   // [Song21ddim eq. 12]
    [SAMPLER_PNDM] = {step_pndm, 2, -1, 4, 4, false},  // [Liu22pndm algorithm 2]
    [SAMPLER_PLMS] = {step_plms, 2, -1, 4, 4, false},  // the same without the Runge-Kutta start
    [SAMPLER_EULER] = {step_euler, 1, 1, 1, 0, false}, // [Karras22 section 3]
    [SAMPLER_EULER_A] = {step_euler_ancestral, 1, 1, 1, 0, true},
    [SAMPLER_HEUN] = {step_heun, 2, -1, 3, 0, false}, // [Karras22 algorithm 1]
    [SAMPLER_EDM] = {step_edm, 2, -1, 3, 0, true},    // [Karras22 algorithm 2]
    [SAMPLER_DPM2] = {step_dpm2, 2, -1, 2, 0, false},
    [SAMPLER_DPM2_A] = {step_dpm2_ancestral, 1, -1, 2, 0, true},
    [SAMPLER_LMS] = {step_lms, 0, 1, 0, 4, false},
    [SAMPLER_DPM_SOLVER_1] = {step_dpm_single, 1, 1, 3, 0, false},  // [Lu22 eq. 3.7]
    [SAMPLER_DPM_SOLVER_2] = {step_dpm_single, 2, -1, 3, 0, false}, // [Lu22 algorithm 1]
    [SAMPLER_DPM_SOLVER_3] = {step_dpm_single, 3, -1, 3, 0, false}, // [Lu22 algorithm 2]
    [SAMPLER_DPMPP_2S] = {step_dpm_single, 2, -1, 3, 0, false},     // [Lu22pp algorithm 1]
    [SAMPLER_DPMPP_2M] = {step_dpm_multi, 2, 1, 0, 3, false},       // [Lu22pp algorithm 2]
    [SAMPLER_DPMPP_3M] = {step_dpm_multi, 3, 1, 0, 3, false},
    [SAMPLER_DPMPP_SDE] = {step_dpm_sde, 1, -1, 3, 0, true},
    [SAMPLER_DPMPP_2M_SDE] = {step_dpm_multi, 1, 1, 0, 3, true},
    [SAMPLER_DPMPP_3M_SDE] = {step_dpm_multi, 1, 1, 0, 3, true},
    [SAMPLER_UNIPC] = {step_unipc, 0, 1, 2, 5, false}, // [Zhao23 algorithms 1, 2]
    [SAMPLER_DEIS] = {step_deis, 0, 1, 0, 3, false},   // [Zhang23 eq. 15]
    [SAMPLER_IPNDM] = {step_ipndm, 2, 1, 1, 4, false},
    [SAMPLER_SA_SOLVER] = {step_sa_solver, 0, 1, 2, 4, true},    // [Xue23 algorithm 1]
    [SAMPLER_PC] = {step_pc, 1, -1, 2, 0, true},                 // [Song21 algorithms 1-5]
    [SAMPLER_FLOW_EULER] = {step_flow_euler, 1, 1, 3, 0, false}, // [Liu22]
    [SAMPLER_FLOW_HEUN] = {step_flow_heun, 2, -1, 5, 0, false},
    [SAMPLER_RK45] = {step_rk45, 5, 0, 1, 0, false}, // [Dormand80]
};

static sampler_entry entry_of(const schedule *p) {
  sampler_entry e = entries[p->kind];
  if (p->class_ == SCHEDULER_DPM_SINGLESTEP) e.step = step_dpm_grouped, e.calls = 1, e.history = 3;
  if (p->class_ == SCHEDULER_SCORE_SDE_VE) e.step = step_score_sde_ve;
  if (p->class_ == SCHEDULER_LCM) e.step = step_lcm;
  if (p->class_ == SCHEDULER_TCD) e.step = step_tcd;
  return e;
}

int sampler_order(const schedule *p) {
  int order = entries[p->kind].order;
  if (order) return order;
  return p->kind == SAMPLER_UNIPC ? p->max_order + 1 : p->max_order; // a corrector gives one order more
}

bool sampler_stochastic(int kind) { return entries[kind].stochastic; }

// Stages that end at sigma = 0 are single; see the steps.
static int64_t count_calls(const schedule *p) {
  sampler_entry e = entry_of(p);
  int64_t n = p->steps;
  if (e.calls >= 0) return n * e.calls;
  bool zero = p->target[n - 1].sigma == 0;
  switch ((sampler_kind)p->kind) {
  case SAMPLER_PNDM: return n + 9;
  case SAMPLER_PLMS: return p->mid ? n + 1 : n;
  case SAMPLER_PC: return n * (1 + p->corrector_steps);
  case SAMPLER_DPM_SOLVER_3: return n * 3;
  default: return 2 * n - zero;
  }
}

static elbo_status allocate(sampling *s, const sampler_entry *e) {
  const sampler_request *r = s->request;
  bool learned = s->plan.learned_variance;
  int64_t arrays = 3 + (learned ? 3 : 0) + e->work + e->history, total, sorted = 0;
  if (!checked_mul(r->rows, r->size, &s->n) || !checked_mul(s->n, arrays, &total) || total > INT64_MAX / 64)
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "%lld states of %lld numbers are too many", (long long)r->rows, (long long)r->size);
  if (s->plan.clip == CLIP_DYNAMIC && !checked_mul(r->size, pool_threads(&s->ctx->pool), &sorted))
    return fail(s->ctx, ELBO_ERROR_ARGUMENT, "states of %lld numbers are too large", (long long)r->size);
  TRY(aligned_new(s->ctx, (size_t)(total + sorted) * sizeof(double), "a sampler's states", (void **)&s->memory));
  double *at = s->memory;
  s->input = at, at += s->n;
  s->raw = s->answer = at, at += s->n;
  s->noise = at, at += s->n;
  if (learned) {
    s->variance = at, at += s->n;
    s->answer = at, at += 2 * s->n;
  }
  for (int i = 0; i < e->work; i++, at += s->n) s->work[i] = at;
  for (int i = 0; i < e->history; i++, at += s->n) s->history[i] = at;
  s->sorted = sorted ? at : NULL;
  return ELBO_OK;
}

static elbo_status check_finite(const sampling *s, int k) {
  for (int64_t i = 0; i < s->n; i++)
    if (!isfinite(s->x[i]))
      return fail(s->ctx, ELBO_ERROR_NUMERIC, "sample %lld is not finite after step %d of %d", (long long)(i / s->request->size), k + 1,
                  s->plan.steps);
  return ELBO_OK;
}

static elbo_status run_steps(sampling *s, elbo_status (*step)(sampling *s, int k)) {
  const sampler_request *r = s->request;
  for (int k = 0; k < s->plan.steps; k++) {
    TRY(step(s, k));
    solver_node at = s->plan.target[k];
    double scale = s->plan.space == STATE_RATIO ? at.alpha : 1;
    s->exact = r->state && r->state(r->hook_user, k, at.alpha / scale, at.sigma / scale, s->x);
    if (r->progress && !r->progress(r->progress_user, "sampling", k + 1, s->plan.steps, ""))
      return fail(s->ctx, ELBO_ERROR_STOPPED, "stopped after step %d of %d", k + 1, s->plan.steps);
  }
  return check_finite(s, s->plan.steps - 1);
}

elbo_status sampler_run(elbo_ctx *ctx, const sampler_request *request, double *x, int64_t *network_calls) {
  sampling s = {.ctx = ctx, .request = request, .x = x};
  elbo_status status = schedule_make(ctx, request->scheduler, request->process, request->steps, &s.plan);
  if (network_calls) *network_calls = 0;
  if (status == ELBO_OK && (request->rows < 1 || request->size < 1))
    status = fail(ctx, ELBO_ERROR_ARGUMENT, "a sampler needs at least one state of at least one number");
  if (status == ELBO_OK) {
    sampler_entry e = entry_of(&s.plan);
    status = allocate(&s, &e);
    if (status == ELBO_OK) {
      combine(&s, x, 1, &s.plan.first_scale, (const double *const[]){x});
      status = run_steps(&s, e.step);
    }
  }
  if (network_calls) *network_calls = s.calls;
  aligned_free(s.memory);
  schedule_free(&s.plan);
  return status;
}

elbo_status sampler_calls(elbo_ctx *ctx, const scheduler_config *scheduler, const process *p, int steps, int64_t *out) {
  schedule plan;
  elbo_status status = schedule_make(ctx, scheduler, p, steps, &plan);
  *out = status == ELBO_OK ? count_calls(&plan) : 0;
  schedule_free(&plan);
  return status;
}
