// group_norm, its gradient, and both with an activation. Channels-last: sums are kept per channel (group_norm_rows.h), then folded into
// groups in double precision; groups may therefore be of any size. The order of all sums is fixed by the shape and the size of the second
// cache: results do not depend on the number of threads.
// Where there is enough of them, a thread takes an image, or a range of groups of it that stays in the second level of its cache between
// the pass that sums and the pass that writes: each tensor comes from memory once. Else, and where only statistics are asked for, images
// are cut into chunks of rows, read in the order of memory. x, and dx, may be two tensors, each with a part of the channels: loops over
// rows run once for each part of theirs (parts_of). batch_norm is the same with the whole batch as one image and every channel a group of
// its own; only it keeps variances.
#include "core/ctx.h"
#include "ops/group_norm_rows.h"
#include "ops/isa.h"
#include "ops/norm.h"

enum {
  WHOLE_ITEMS = 16,   // from so many ranges of groups on, a thread takes whole ones
  DWEIGHT_BLOCKS = 64 // images are summed into at most so many partial dweight
};

typedef struct group_norm_state {
  int64_t images, rows, c, groups, per;
  int64_t first;                         // channels that x has; those from here on are x2's
  int64_t slices;                        // ranges of groups of an image that are taken one after the other
  int64_t unit;                          // groups that fill whole vectors, where there are such
  int64_t chunks;                        // of an image; 1: whole images
  int64_t blocks;                        // of images, whole images only
  int64_t thread_floats, thread_doubles; // scratch of a thread
  int threads;
  bool modulated; // a factor and a shift behind weight and bias
  bool again;     // the gradient gives y once more
  bool sums;      // the gradient gives its sums over an image's rows
  bool variance;  // the second statistic is the variance, not rstd
  double eps;
  int64_t act;
  float slope;
} group_norm_state;

typedef struct group_norm_job {
  const group_norm_state *s;
  const float *x, *x2, *weight, *bias, *dy, *mean_in, *rstd_in, *residual;
  const float *factor, *shift; // (images,C) or NULL
  float *y, *mean, *rstd;
  float *channels; // (images,3,C): what y would be made with, in its place; or NULL
  float *dx, *dx2;
  float *again; // the gradient's y, or NULL
  float *dweight, *dbias, *sums;
  double *partial;  // (items, 2, C)
  double *row_sums; // (chunks of all images, C), where there are chunks and sums
  float *floats;    // per thread
  double *doubles;  // per thread
} group_norm_job;

// Some groups of an image and their channels.
typedef struct slice {
  int64_t g0, g1, c0, c1;
} slice;

static slice slice_of(const group_norm_state *s, int64_t i) {
  slice w;
  split_range((s->groups + s->unit - 1) / s->unit, (int)i, (int)s->slices, &w.g0, &w.g1);
  w.g0 *= s->unit, w.g1 *= s->unit;
  if (w.g1 > s->groups) w.g1 = s->groups;
  w.c0 = w.g0 * s->per, w.c1 = w.g1 * s->per;
  return w;
}

static slice all_groups(const group_norm_state *s) { return (slice){0, s->groups, 0, s->c}; }

// Channels [c0, c1) that lie in one tensor, whose rows are `own` apart.
typedef struct part {
  int64_t c0, c1, own;
  bool second;
  int64_t at; // from the tensor's first number to channel c0 of a row
} part;

// The parts of w's channels, of row `row` of the batch: one, or two where w reaches across.
static int parts_of(const group_norm_state *s, slice w, int64_t row, part *out) {
  int n = 0;
  if (w.c0 < s->first) out[n++] = (part){w.c0, w.c1 < s->first ? w.c1 : s->first, s->first, false, row * s->first + w.c0};
  if (w.c1 > s->first) {
    int64_t c0 = w.c0 > s->first ? w.c0 : s->first, own = s->c - s->first;
    out[n++] = (part){c0, w.c1, own, true, row * own + c0 - s->first};
  }
  return n;
}

static const float *x_of(const group_norm_job *j, const part *p) { return (p->second ? j->x2 : j->x) + p->at; }
static float *dx_of(const group_norm_job *j, const part *p) { return (p->second ? j->dx2 : j->dx) + p->at; }

// --- rows -------------------------------------------------------------------------------------------------------------------------

// All take rows [row, row + rows) of the batch, and channels' numbers by channels of the image.

// sums (2,C) += moments about the first row of image b
static void sum_rows(const group_norm_job *j, slice w, int64_t b, int64_t row, int64_t rows, double *sums) {
  part parts[2], firsts[2];
  int n = parts_of(j->s, w, row, parts);
  parts_of(j->s, w, b * j->s->rows, firsts);
  for (int i = 0; i < n; i++) {
    const part *p = &parts[i];
    moments(x_of(j, p), rows, p->own, p->c1 - p->c0, x_of(j, &firsts[i]), sums + p->c0, sums + j->s->c + p->c0);
  }
}

// `next`, channels of row `next_row`: what is read afterwards, NULL for nothing
static void normalise_rows(const group_norm_job *j, slice w, int64_t row, int64_t rows, const float *channel, const slice *next,
                           int64_t next_row) {
  const group_norm_state *s = j->s;
  part parts[2], nexts[2];
  int n = parts_of(s, w, row, parts), n_next = next ? parts_of(s, *next, next_row, nexts) : 0;
  for (int i = 0; i < n; i++) {
    const part *p = &parts[i];
    const float *x = x_of(j, p), *mean = channel + p->c0, *scale = mean + s->c, *bias = scale + s->c;
    float *y = j->y + row * s->c + p->c0;
    int64_t ahead = 0;
    for (int k = 0; k < n_next; k++)
      if (nexts[k].second == p->second) ahead = nexts[k].at - p->at;
#define CALL(act) normalise(x, y, rows, p->own, s->c, p->c1 - p->c0, mean, scale, bias, ahead, act, s->slope)
    BY_ACT(s->act, CALL)
#undef CALL
  }
}

static void product_rows(const group_norm_job *j, slice w, int64_t row, int64_t rows, const float *channel, double *sums) {
  const group_norm_state *s = j->s;
  part parts[2];
  int n = parts_of(s, w, row, parts);
  for (int i = 0; i < n; i++) {
    const part *p = &parts[i];
    const float *x = x_of(j, p), *dy = j->dy + row * s->c + p->c0;
    const float *mean = channel + p->c0, *scale = mean + s->c, *bias = scale + s->c;
    float *dn = dx_of(j, p), *y = j->again ? j->again + row * s->c + p->c0 : NULL;
    double *s1 = sums + p->c0, *s2 = s1 + s->c;
#define ROWS(act, again) products(x, dy, dn, y, rows, p->own, s->c, p->c1 - p->c0, mean, scale, bias, s1, s2, act, s->slope, again)
#define CALL(act) ROWS(act, false)
#define CALL_AGAIN(act) ROWS(act, true)
    if (y) {
      BY_ACT(s->act, CALL_AGAIN)
    } else {
      BY_ACT(s->act, CALL)
    }
#undef CALL_AGAIN
#undef CALL
#undef ROWS
  }
}

// `sums` (C) may be NULL, and grows
static void write_gradient(const group_norm_job *j, slice w, int64_t row, int64_t rows, const float *channel, double *sums) {
  const group_norm_state *s = j->s;
  part parts[2];
  int n = parts_of(s, w, row, parts);
  for (int i = 0; i < n; i++) {
    const part *p = &parts[i];
    const float *mean = channel + p->c0, *scale = mean + s->c, *q = scale + 2 * s->c, *off = q + s->c;
    const float *residual = j->residual ? j->residual + p->at : NULL; // of one part alone
    float *dx = dx_of(j, p);
    const bool kept = s->act != NORM_ACT_NONE; // dn is where dx goes
    const float *x = x_of(j, p), *dn = kept ? dx : j->dy + row * s->c + p->c0;
    double *own_sums = sums ? sums + p->c0 : NULL;
#define ROWS(add, sum) \
  gradient_rows(x, dn, residual, dx, rows, p->own, kept ? p->own : s->c, p->c1 - p->c0, mean, scale, q, off, own_sums, add, sum)
    if (residual && sums)
      ROWS(true, true);
    else if (residual)
      ROWS(true, false);
    else if (sums)
      ROWS(false, true);
    else
      ROWS(false, false);
#undef ROWS
  }
}

static void clear_sums(const group_norm_state *s, slice w, double *sums) {
  memset(sums + w.c0, 0, (size_t)(w.c1 - w.c0) * sizeof *sums);
  memset(sums + s->c + w.c0, 0, (size_t)(w.c1 - w.c0) * sizeof *sums);
}

// --- groups -----------------------------------------------------------------------------------------------------------------------

// Channel c of the first row of image b.
static double shift_of(const group_norm_job *j, int64_t b, int64_t c) {
  int64_t first = j->s->first, row = b * j->s->rows;
  return (double)(c < first ? j->x[row * first + c] : j->x2[row * (j->s->c - first) + c - first]);
}

// mean and rstd of groups of image b from its channels' moments (merged as in [Chan83])
static void finish_statistics(const group_norm_job *j, int64_t b, slice w, const double *sums) {
  const group_norm_state *s = j->s;
  const double *s1 = sums, *s2 = sums + s->c;
  double rows = (double)s->rows, per_row = 1 / rows;
  for (int64_t g = w.g0; g < w.g1; g++) {
    double mean = 0, m2 = 0;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) mean += shift_of(j, b, c) + s1[c] * per_row;
    mean /= (double)s->per;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      double own = s1[c] * per_row, away = shift_of(j, b, c) + own - mean;
      m2 += s2[c] - s1[c] * own + rows * away * away;
    }
    double variance = m2 / (rows * (double)s->per);
    j->mean[b * s->groups + g] = (float)mean;
    if (variance < 0) variance = 0;
    j->rstd[b * s->groups + g] = (float)(s->variance ? variance : 1.0 / sqrt(variance + s->eps));
  }
}

static inline double rstd_of(const group_norm_state *s, float statistic) {
  return s->variance ? 1.0 / sqrt((double)statistic + s->eps) : (double)statistic;
}

// channel (3,C): mean, scale = rstd weight, bias, both with factor and shift behind them
static void fill_channels(const group_norm_job *j, int64_t b, slice w, const float *mean, const float *rstd, float *channel) {
  const group_norm_state *s = j->s;
  for (int64_t g = w.g0; g < w.g1; g++) {
    float m = mean[b * s->groups + g], r = (float)rstd_of(s, rstd[b * s->groups + g]);
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      channel[c] = m;
      channel[s->c + c] = r * (j->weight ? j->weight[c] : 1.0f);
      channel[2 * s->c + c] = j->bias ? j->bias[c] : 0.0f;
      if (!j->factor) continue;
      float factor = j->factor[b * s->c + c];
      channel[s->c + c] *= factor;
      channel[2 * s->c + c] = channel[2 * s->c + c] * factor + j->shift[b * s->c + c];
    }
  }
}

// channel (5,C): rows 3 and 4 become q and p of gradient_rows, from sums (2,C) of an image
static void fill_gradient_channels(const group_norm_job *j, int64_t b, slice w, const double *sums, float *channel) {
  const group_norm_state *s = j->s;
  double count = (double)(s->rows * s->per);
  for (int64_t g = w.g0; g < w.g1; g++) {
    double rstd = rstd_of(s, j->rstd_in[b * s->groups + g]), along = 0, sum = 0;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      double weight = j->weight ? (double)j->weight[c] : 1.0;
      along += weight * sums[c], sum += weight * sums[s->c + c];
    }
    float q = (float)(rstd * rstd * rstd * along / count), p = (float)(rstd * sum / count);
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) channel[3 * s->c + c] = q, channel[4 * s->c + c] = p;
  }
}

// (2,C) of the whole image out of its chunks', in their order
static void add_chunks(const group_norm_job *j, int64_t b, double *sums) {
  const group_norm_state *s = j->s;
  memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
  for (int64_t k = 0; k < s->chunks; k++)
    for (int64_t c = 0; c < 2 * s->c; c++) sums[c] += j->partial[(b * s->chunks + k) * 2 * s->c + c];
}

// --- forward ----------------------------------------------------------------------------------------------------------------------

static void forward_whole(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end;
  split_range(s->images * s->slices, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->slices;
    slice w = slice_of(s, i % s->slices), next = slice_of(s, (i + 1) % s->slices);
    clear_sums(s, w, sums);
    sum_rows(j, w, b, b * s->rows, s->rows, sums);
    finish_statistics(j, b, w, sums);
    fill_channels(j, b, w, j->mean, j->rstd, j->channels ? j->channels + b * 3 * s->c : channel);
    if (j->channels) continue;
    normalise_rows(j, w, b * s->rows, s->rows, channel, i + 1 < end ? &next : NULL, (i + 1) / s->slices * s->rows);
  }
}

static void forward_moments(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  int64_t begin, end;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    double *sums = j->partial + i * 2 * s->c;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
    sum_rows(j, all_groups(s), b, b * s->rows + r0, r1 - r0, sums);
  }
}

static void forward_statistics(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end;
  split_range(s->images, id, count, &begin, &end);
  for (int64_t b = begin; b < end; b++) {
    add_chunks(j, b, sums);
    finish_statistics(j, b, all_groups(s), sums);
    if (j->channels) fill_channels(j, b, all_groups(s), j->mean, j->rstd, j->channels + b * 3 * s->c);
  }
}

static void forward_rows(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  int64_t begin, end, last = -1;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    if (b != last) fill_channels(j, last = b, all_groups(s), j->mean, j->rstd, channel);
    normalise_rows(j, all_groups(s), b * s->rows + r0, r1 - r0, channel, NULL, 0);
  }
}

static int64_t row_sum_doubles(const group_norm_state *s) { return s->sums && s->chunks > 1 ? s->images * s->chunks * s->c : 0; }

static void job_scratch(group_norm_job *j, void *scratch) {
  const group_norm_state *s = j->s;
  j->partial = scratch;
  j->doubles = j->partial + (s->chunks > 1 ? s->images * s->chunks : s->blocks) * 2 * s->c;
  j->row_sums = j->doubles + s->threads * s->thread_doubles;
  j->floats = (float *)(j->row_sums + row_sum_doubles(s));
}

// `j` with where the result goes
static elbo_status run_forward(const kernel *k, const kernel_args *a, group_norm_job j) {
  const group_norm_state *s = j.s = k->state;
  j.x = a->in[0], j.weight = a->in[1], j.bias = a->in[2], j.x2 = s->first < s->c ? a->in[NORM_X2] : NULL;
  if (s->modulated) j.factor = a->in[NORM_FACTOR], j.shift = a->in[NORM_SHIFT];
  j.mean = a->out[1], j.rstd = a->out[2];
  job_scratch(&j, a->scratch);
  if (s->chunks == 1) {
    parallel_run(a->pool, forward_whole, &j);
    return ELBO_OK;
  }
  parallel_run(a->pool, forward_moments, &j);
  parallel_run(a->pool, forward_statistics, &j);
  if (j.y) parallel_run(a->pool, forward_rows, &j);
  return ELBO_OK;
}

static elbo_status group_norm_run(const kernel *k, const kernel_args *a) { return run_forward(k, a, (group_norm_job){.y = a->out[0]}); }

static elbo_status group_norm_statistics_run(const kernel *k, const kernel_args *a) {
  return run_forward(k, a, (group_norm_job){.channels = a->out[0]});
}

// --- gradient ---------------------------------------------------------------------------------------------------------------------

// to (2,C) += rstd sums[0], sums[1]: an image's share of dweight and dbias
static void add_dweight(const group_norm_job *j, int64_t b, slice w, const double *sums, double *to) {
  const group_norm_state *s = j->s;
  for (int64_t g = w.g0; g < w.g1; g++) {
    double rstd = rstd_of(s, j->rstd_in[b * s->groups + g]);
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) to[c] += rstd * sums[c], to[s->c + c] += sums[s->c + c];
  }
}

static void gradient_whole(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end;
  split_range(s->blocks * s->slices, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b0, b1, block = i / s->slices;
    slice w = slice_of(s, i % s->slices);
    double *to = j->partial + block * 2 * s->c;
    split_range(s->images, (int)block, (int)s->blocks, &b0, &b1);
    clear_sums(s, w, to);
    for (int64_t b = b0; b < b1; b++) {
      clear_sums(s, w, sums);
      fill_channels(j, b, w, j->mean_in, j->rstd_in, channel);
      product_rows(j, w, b * s->rows, s->rows, channel, sums);
      fill_gradient_channels(j, b, w, sums, channel);
      add_dweight(j, b, w, sums, to);
      memset(sums + w.c0, 0, (size_t)(w.c1 - w.c0) * sizeof *sums);
      write_gradient(j, w, b * s->rows, s->rows, channel, s->sums ? sums : NULL);
      for (int64_t c = w.c0; s->sums && c < w.c1; c++) j->sums[b * s->c + c] = (float)sums[c];
    }
  }
}

static void gradient_products(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  int64_t begin, end, last = -1;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    double *sums = j->partial + i * 2 * s->c;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    if (b != last) fill_channels(j, last = b, all_groups(s), j->mean_in, j->rstd_in, channel);
    memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
    product_rows(j, all_groups(s), b * s->rows + r0, r1 - r0, channel, sums);
  }
}

static void gradient_chunks(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end, last = -1;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    double *row_sums = s->sums ? j->row_sums + i * s->c : NULL;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    if (row_sums) memset(row_sums, 0, (size_t)s->c * sizeof *row_sums);
    if (b != last) {
      add_chunks(j, last = b, sums);
      fill_channels(j, b, all_groups(s), j->mean_in, j->rstd_in, channel);
      fill_gradient_channels(j, b, all_groups(s), sums, channel);
    }
    write_gradient(j, all_groups(s), b * s->rows + r0, r1 - r0, channel, row_sums);
  }
}

// dweight and dbias out of the blocks' shares or the chunks' sums, and an image's sums out of the chunks'
static void finish_dweight(void *arg, int64_t begin, int64_t end) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  for (int64_t c = begin; c < end; c++) {
    double dweight = 0, dbias = 0;
    int64_t items = s->chunks > 1 ? s->images * s->chunks : s->blocks;
    for (int64_t i = 0; i < items; i++) {
      const double *sums = j->partial + i * 2 * s->c;
      double rstd = s->chunks > 1 ? rstd_of(s, j->rstd_in[i / s->chunks * s->groups + c / s->per]) : 1.0;
      dweight += rstd * sums[c], dbias += sums[s->c + c];
    }
    j->dweight[c] = (float)dweight, j->dbias[c] = (float)dbias;
    for (int64_t b = 0; s->sums && s->chunks > 1 && b < s->images; b++) {
      double sum = 0;
      for (int64_t i = b * s->chunks; i < (b + 1) * s->chunks; i++) sum += j->row_sums[i * s->c + c];
      j->sums[b * s->c + c] = (float)sum;
    }
  }
}

// `j` with what the fused operation has beyond the plain one
static elbo_status run_gradient(const kernel *k, const kernel_args *a, group_norm_job j) {
  j.s = k->state, j.x = a->in[0], j.weight = a->in[1], j.bias = a->in[2], j.mean_in = a->in[3], j.rstd_in = a->in[4];
  j.dy = a->in[5], j.dx = a->out[0], j.dweight = a->out[1], j.dbias = a->out[2];
  job_scratch(&j, a->scratch);
  if (j.s->chunks == 1) {
    parallel_run(a->pool, gradient_whole, &j);
  } else {
    parallel_run(a->pool, gradient_products, &j);
    parallel_run(a->pool, gradient_chunks, &j);
  }
  parallel_for(a->pool, j.s->c, 64, finish_dweight, &j);
  return ELBO_OK;
}

static elbo_status group_norm_grad_run(const kernel *k, const kernel_args *a) { return run_gradient(k, a, (group_norm_job){0}); }

static elbo_status fused_group_norm_grad_run(const kernel *k, const kernel_args *a) {
  const group_norm_state *s = k->state;
  group_norm_job j = {.residual = a->in[6], .x2 = a->in[7], .dx2 = a->in[7] ? a->out[5] : NULL};
  j.again = s->again ? a->out[3] : NULL, j.sums = s->sums ? a->out[4] : NULL;
  return run_gradient(k, a, j);
}

// --- choice -----------------------------------------------------------------------------------------------------------------------

// Its inputs are x, weight, mean, var, dy: no bias.
static elbo_status batch_norm_grad_run(const kernel *k, const kernel_args *a) {
  const void *in[] = {a->in[0], a->in[1], NULL, a->in[2], a->in[3], a->in[4]};
  kernel_args group = *a;
  group.in = in;
  return group_norm_grad_run(k, &group);
}

// Sizes, slices and chunks from images, rows, c and groups; `tensors` of the size of x are read or written.
static void choose(const compile_env *env, group_norm_state *s, int tensors, kernel *k) {
  s->per = s->c / s->groups;
  s->unit = 1; // the fewest groups that fill whole cache lines
  while (s->unit < 16 && s->unit * s->per % 16) s->unit *= 2;
  int64_t most_slices = (s->groups + s->unit - 1) / s->unit;
  s->chunks = s->slices = 1;
  s->blocks = s->images < DWEIGHT_BLOCKS ? s->images : DWEIGHT_BLOCKS;
  // half the cache: what is read next comes meanwhile
  int64_t bytes = s->rows * s->c * (int64_t)sizeof(float) * tensors, room = env->ctx->l2_bytes / 2;
  // a range that does not stay, or that nothing comes back to, is only a bad order to read memory in
  if (s->images * most_slices >= WHOLE_ITEMS && bytes <= 2 * room * most_slices && tensors > 1) {
    s->slices = (bytes + room - 1) / room;
    int64_t fair = (WHOLE_ITEMS + s->images - 1) / s->images; // for the threads
    if (s->slices < fair) s->slices = fair;
    if (s->slices > most_slices) s->slices = most_slices;
  } else { // chunks of at least 8192 numbers, 64 of them in all at most
    int64_t most = s->rows * s->c / 8192, even = DWEIGHT_BLOCKS / s->images;
    s->chunks = most < even ? most : even;
    if (s->chunks > s->rows) s->chunks = s->rows;
    if (s->chunks < 1) s->chunks = 1;
  }
  s->threads = pool_threads(env->pool);
  s->thread_floats = round_up(5 * s->c, 16);
  s->thread_doubles = round_up(2 * s->c, 8);
  int64_t partials = (s->chunks > 1 ? s->images * s->chunks : s->blocks) * 2 * s->c;
  k->scratch_bytes = (size_t)(partials + s->threads * s->thread_doubles + row_sum_doubles(s)) * sizeof(double) +
                     (size_t)(s->threads * s->thread_floats) * sizeof(float);
}

static elbo_status prepare_group(compile_env *env, const node *n, int tensors, kernel *k) {
  const group_norm_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  const elbo_tensor *x2 = group_norm_second(n);
  group_norm_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->images = x->dim[0], s->rows = shape_product(x, 1, x->rank - 1), s->first = x->dim[x->rank - 1], s->groups = a->groups;
  s->c = s->first + (x2 ? x2->shape.dim[x->rank - 1] : 0);
  s->eps = a->eps, s->act = a->act, s->slope = (float)a->slope, s->again = a->again, s->sums = a->sums;
  s->modulated = n->n_in == FUSED_NORM_INPUTS && n->in[NORM_FACTOR];
  choose(env, s, tensors, k);
  return ELBO_OK;
}

static elbo_status prepare_batch(compile_env *env, const node *n, int tensors, kernel *k) {
  const norm_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  group_norm_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->images = 1, s->rows = shape_product(x, 0, x->rank - 1), s->c = s->first = s->groups = x->dim[x->rank - 1];
  s->variance = true, s->eps = a->eps, s->act = NORM_ACT_NONE;
  choose(env, s, tensors, k);
  return ELBO_OK;
}

#define PREPARE(op, setup, tensors)                                             \
  static elbo_status op##_prepare(compile_env *env, const node *n, kernel *k) { \
    TRY(setup(env, n, tensors, k));                                             \
    k->name = "own:" #op "." ISA_TEXT, k->run = op##_run;                       \
    return ELBO_OK;                                                             \
  }                                                                             \
  const cpu_op ISA(op##_cpu) = {op##_prepare};

#define batch_norm_run group_norm_run
#define fused_group_norm_run group_norm_run
PREPARE(group_norm, prepare_group, 2)
PREPARE(group_norm_grad, prepare_group, 3)
PREPARE(fused_group_norm, prepare_group, 2)
PREPARE(group_norm_statistics, prepare_group, 1)
PREPARE(fused_group_norm_grad, prepare_group, 3)
PREPARE(batch_norm, prepare_batch, 2)
PREPARE(batch_norm_grad, prepare_batch, 3)
