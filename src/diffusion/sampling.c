#include "diffusion/sampling.h"

#include <math.h>
#include <string.h>

#include "core/ctx.h"
#include "core/philox.h"

enum { GRAIN = 16384, BLOCK = 512 };

// --- linear combinations ---
typedef struct combine_job {
  double *out;
  int terms;
  double factor[TERMS_MAX];
  const double *term[TERMS_MAX];
} combine_job;

// Block by block through a small buffer: every inner loop is one that compilers vectorise, and `out` is written once.
static void combine_range(void *arg, int64_t begin, int64_t end) {
  const combine_job *job = arg;
  double sum[BLOCK];
  for (int64_t at = begin; at < end; at += BLOCK) {
    int64_t n = end - at < BLOCK ? end - at : BLOCK;
    memset(sum, 0, sizeof sum);
    for (int t = 0; t < job->terms; t++) {
      const double *term = job->term[t] + at;
      double factor = job->factor[t];
      for (int64_t i = 0; i < n; i++) sum[i] += factor * term[i];
    }
    memcpy(job->out + at, sum, (size_t)n * sizeof(double));
  }
}

void combine(const sampling *s, double *out, int terms, const double *factor, const double *const *term) {
  combine_job job = {.out = out};
  for (int t = 0; t < terms; t++) {
    if (factor[t] == 0) continue;
    job.factor[job.terms] = factor[t];
    job.term[job.terms++] = term[t];
  }
  parallel_for(&s->ctx->pool, s->n, GRAIN, combine_range, &job);
}

void copy_state(const sampling *s, double *out, const double *x) { combine(s, out, 1, (const double[]){1}, (const double *const[]){x}); }

void combine2(const sampling *s, double *out, double a, const double *p, double b, const double *q) {
  combine(s, out, 2, (const double[]){a, b}, (const double *const[]){p, q});
}

void combine3(const sampling *s, double *out, double a, const double *p, double b, const double *q, double c, const double *r) {
  combine(s, out, 3, (const double[]){a, b, c}, (const double *const[]){p, q, r});
}

// --- the network ---
elbo_status call_network(sampling *s, const double *x, solver_node at) {
  const sampler_request *r = s->request;
  double scale = s->plan.space == STATE_RATIO ? at.alpha : 1, d = s->plan.sigma_data;
  if (s->plan.prediction == PREDICT_EDM) scale /= sqrt(at.sigma * at.sigma + d * d * at.alpha * at.alpha); // c_in [Karras22 table 1]
  combine(s, s->input, 1, &scale, &x);
  s->calls++;
  TRY(r->network(r->user, s->input, at.time, s->answer));
  for (int64_t row = 0; s->variance && row < r->rows; row++) {
    memcpy(s->raw + row * r->size, s->answer + 2 * row * r->size, (size_t)r->size * sizeof(double));
    memcpy(s->variance + row * r->size, s->answer + (2 * row + 1) * r->size, (size_t)r->size * sizeof(double));
  }
  return ELBO_OK;
}

// The k-th smallest of n numbers, which are reordered [Hoare61].
static double select_smallest(double *a, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    double pivot = a[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i > j) break;
      double t = a[i];
      a[i++] = a[j];
      a[j--] = t;
    }
    if (k <= j) {
      high = j;
    } else if (k >= i) {
      low = i;
    } else {
      break;
    }
  }
  return a[k];
}

// The quantile of |x| between its two neighbours in order, linearly.
static double magnitude_quantile(const double *x, int64_t n, double ratio, double *sorted) {
  double place = ratio * (double)(n - 1);
  int64_t below = (int64_t)place;
  for (int64_t i = 0; i < n; i++) {
    sorted[i] = fabs(x[i]);
    if (isnan(sorted[i])) return NAN;
  }
  double low = select_smallest(sorted, n, below), high = low;
  if (below + 1 < n) {
    high = INFINITY; // all behind `below` are at least as large
    for (int64_t i = below + 1; i < n; i++) high = sorted[i] < high ? sorted[i] : high;
  }
  return low + (place - (double)below) * (high - low);
}

typedef struct interpret_job {
  const sampling *s;
  const double *x;
  double *x0, *epsilon;
  solver_node at;
  double scale; // of x to the process' own
  prediction_map map;
} interpret_job;

// [Saharia22 section 2.3]: cut at the quantile of each sample, and divided by it.
static void threshold_row(const schedule *p, double *x0, int64_t n, double *sorted) {
  double limit = magnitude_quantile(x0, n, p->threshold_ratio, sorted);
  if (limit < 1) limit = 1;
  if (limit > p->threshold_max) limit = p->threshold_max;
  for (int64_t i = 0; i < n; i++) x0[i] = (x0[i] < -limit ? -limit : x0[i] > limit ? limit : x0[i]) / limit;
}

static void threshold_part(void *arg, int id, int count) {
  const interpret_job *job = arg;
  const sampling *s = job->s;
  int64_t begin, end, size = s->request->size;
  split_range(s->request->rows, id, count, &begin, &end);
  for (int64_t row = begin; row < end; row++) threshold_row(&s->plan, job->x0 + row * size, size, s->sorted + id * size);
}

// Block by block, one short loop for each choice, so that compilers vectorise all of them; see prediction.c for the two quotients.
static void interpret_block(const interpret_job *job, int64_t at, int64_t n) {
  const schedule *p = &job->s->plan;
  const prediction_map m = job->map;
  const double alpha = job->at.alpha, sigma = job->at.sigma, sign = p->output_sign, scale = job->scale, range = p->clip_range;
  const bool by_noise = p->prediction == PREDICT_EPSILON || p->prediction == PREDICT_SCORE, by_data = p->prediction == PREDICT_X0;
  double x[BLOCK], output[BLOCK], epsilon[BLOCK], x0[BLOCK];
  for (int64_t i = 0; i < n; i++) x[i] = scale * job->x[at + i], output[i] = sign * job->s->raw[at + i];
  if (by_data)
    for (int64_t i = 0; i < n; i++) epsilon[i] = (x[i] - alpha * output[i]) / sigma;
  else
    for (int64_t i = 0; i < n; i++) epsilon[i] = m.epsilon_x * x[i] + m.epsilon_output * output[i];
  if (job->x0) {
    if (by_noise)
      for (int64_t i = 0; i < n; i++) x0[i] = (x[i] - sigma * epsilon[i]) / alpha;
    else
      for (int64_t i = 0; i < n; i++) x0[i] = m.x0_x * x[i] + m.x0_output * output[i];
    if (p->clip == CLIP_RANGE)
      for (int64_t i = 0; i < n; i++) x0[i] = x0[i] < -range ? -range : x0[i] > range ? range : x0[i];
    memcpy(job->x0 + at, x0, (size_t)n * sizeof(double));
  }
  if (job->epsilon) memcpy(job->epsilon + at, epsilon, (size_t)n * sizeof(double));
}

static void interpret_range(void *arg, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; at += BLOCK) interpret_block(arg, at, end - at < BLOCK ? end - at : BLOCK);
}

static void follow_range(void *arg, int64_t begin, int64_t end) {
  const interpret_job *job = arg;
  double alpha = job->at.alpha, sigma = job->at.sigma;
  for (int64_t i = begin; i < end; i++) job->epsilon[i] = (job->scale * job->x[i] - alpha * job->x0[i]) / sigma;
}

void interpret(sampling *s, const double *x, solver_node at, double *x0, double *epsilon) {
  const thread_pool *pool = &s->ctx->pool;
  bool clipped = s->plan.clip != CLIP_NONE, follows = epsilon && clipped && s->plan.epsilon_follows;
  interpret_job job = {.s = s,
                       .x = x,
                       .x0 = follows && !x0 ? s->input : x0, // the input has served
                       .epsilon = epsilon,
                       .at = at,
                       .scale = s->plan.space == STATE_RATIO ? at.alpha : 1,
                       .map = prediction_coefficients(s->plan.prediction, at.alpha, at.sigma, s->plan.sigma_data)};
  parallel_for(pool, s->n, GRAIN, interpret_range, &job);
  if (s->plan.clip == CLIP_DYNAMIC && job.x0) parallel_run(pool, threshold_part, &job);
  if (follows) parallel_for(pool, s->n, GRAIN, follow_range, &job);
}

elbo_status predict(sampling *s, const double *x, solver_node at, double *x0, double *epsilon) {
  TRY(call_network(s, x, at));
  interpret(s, x, at, x0, epsilon);
  return ELBO_OK;
}

// --- noise ---
typedef struct noise_job {
  const sampler_request *request;
  uint32_t stream;
  double *out;
} noise_job;

static void noise_range(void *arg, int64_t begin, int64_t end) { // of blocks of four within rows
  const noise_job *job = arg;
  const sampler_request *r = job->request;
  int64_t blocks = (r->size + 3) / 4;
  for (int64_t at = begin; at < end; at++) {
    int64_t row = at / blocks, block = at % blocks, element = 4 * block;
    uint32_t bits[4];
    double normal[4];
    philox_draw(r->seed, job->stream, (uint64_t)r->sample_index[row], (uint32_t)block, bits);
    philox_normal2(bits[0], bits[1], normal);
    if (element + 2 < r->size) philox_normal2(bits[2], bits[3], normal + 2);
    for (int64_t i = 0; i < 4 && element + i < r->size; i++) job->out[row * r->size + element + i] = normal[i];
  }
}

void draw_noise(sampling *s, double *out) {
  const sampler_request *r = s->request;
  int64_t draw = s->draws++;
  if (r->noise) {
    r->noise(r->hook_user, draw, out);
    return;
  }
  noise_job job = {.request = r, .stream = philox_stream("sampler noise") + (uint32_t)draw, .out = out};
  parallel_for(&s->ctx->pool, r->rows * ((r->size + 3) / 4), GRAIN / 16, noise_range, &job);
}

double *history_push(sampling *s, int length) {
  double *oldest = s->history[length - 1];
  for (int i = length - 1; i > 0; i--) s->history[i] = s->history[i - 1];
  return s->history[0] = oldest;
}

double half_logsnr(solver_node at) { return log(at.alpha) - log(at.sigma); }
