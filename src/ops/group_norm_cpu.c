// group_norm, its gradient, and both with an activation. Channels-last: sums are kept per channel, a few vectors of channels at a time down
// the rows, then folded into groups in double precision; groups may therefore be of any size. All sums are in an order that the
// shape alone fixes, so results do not depend on the number of threads.
// batch_norm is the same with the whole batch as one image and every channel a group of its own; only it keeps variances.
#include "ops/isa.h"
#include "ops/norm.h"
#include "ops/vec_part.h"

enum {
  FLOAT_ROWS = 64,    // rows summed in float32 before they are folded into double
  WHOLE_IMAGES = 16,  // from so many images on, a thread takes whole images and keeps each in its cache
  DWEIGHT_BLOCKS = 64 // images are summed into at most so many partial dweight
};

typedef struct group_norm_state {
  int64_t images, rows, c, groups, per;
  int64_t chunks;                        // of an image; 1: whole images
  int64_t blocks;                        // of images, whole images only
  int64_t thread_floats, thread_doubles; // scratch of a thread
  int threads;
  bool variance; // the second statistic is the variance, not rstd
  double eps;
  int64_t act;
  float slope;
} group_norm_state;

typedef struct group_norm_job {
  const group_norm_state *s;
  const float *x, *weight, *bias, *dy, *mean_in, *rstd_in;
  float *y, *mean, *rstd; // y: dx in the gradient
  float *dweight, *dbias;
  double *partial; // (items, 2, C)
  float *floats;   // per thread
  double *doubles; // per thread
} group_norm_job;

// --- per-channel sums -------------------------------------------------------------------------------------------------------------

// s1[c] += sum of x - shift, s2[c] += sum of its square, for the nv vectors of channels at x
VEC_INLINE void add_moments(const float *x, int64_t rows, int64_t c, const float *shift, double *s1, double *s2, const int nv) {
  vfloat k[4];
  for (int v = 0; v < nv; v++) k[v] = vload(shift + v * VW);
  for (int64_t r0 = 0; r0 < rows; r0 += FLOAT_ROWS) {
    int64_t end = r0 + FLOAT_ROWS < rows ? r0 + FLOAT_ROWS : rows;
    vfloat a1[4] = {{0}}, a2[4] = {{0}};
    for (int64_t r = r0; r < end; r++)
      for (int v = 0; v < nv; v++) {
        vfloat d = vload(x + r * c + v * VW) - k[v];
        a1[v] += d, a2[v] += d * d;
      }
    for (int v = 0; v < nv; v++)
      for (int i = 0; i < VW; i++) s1[v * VW + i] += (double)a1[v][i], s2[v * VW + i] += (double)a2[v][i];
  }
}

static void moments(const float *x, int64_t rows, int64_t c, const float *shift, double *s1, double *s2) {
  int64_t i = 0;
  for (; i + 4 * VW <= c; i += 4 * VW) add_moments(x + i, rows, c, shift + i, s1 + i, s2 + i, 4);
  for (; i + VW <= c; i += VW) add_moments(x + i, rows, c, shift + i, s1 + i, s2 + i, 1);
  for (; i < c; i++)
    for (int64_t r = 0; r < rows; r++) {
      double d = (double)x[r * c + i] - (double)shift[i];
      s1[i] += d, s2[i] += d * d;
    }
}

VEC_INLINE vfloat act_value(vfloat v, const int64_t act, float slope) {
  switch (act) {
  case NORM_ACT_RELU: return vselect(v > 0.0f, v, vsplat(0.0f));
  case NORM_ACT_LEAKY_RELU: return vselect(v > 0.0f, v, slope * v);
  case NORM_ACT_SILU: return v * vsigmoid(v);
  default: return v;
  }
}

VEC_INLINE vfloat act_slope(vfloat v, const int64_t act, float slope) {
  vfloat one = vsplat(1.0f);
  switch (act) {
  case NORM_ACT_RELU: return vselect(v > 0.0f, one, vsplat(0.0f));
  case NORM_ACT_LEAKY_RELU: return vselect(v > 0.0f, one, vsplat(slope));
  case NORM_ACT_SILU: {
    vfloat s = vsigmoid(v);
    return s * (1.0f + v * (1.0f - s));
  }
  default: return one;
  }
}

// s1[c] += sum of dn (x - mean), s2[c] += sum of dn, where dn = dy act'((x - mean) scale + bias), kept in dn for the second pass
// when there is an activation. n > 0: a last vector of n channels.
VEC_INLINE void add_products(const float *x, const float *dy, float *dn, int64_t rows, int64_t c, const float *mean, const float *scale,
                             const float *bias, double *s1, double *s2, const int nv, int64_t n, const int64_t act, float slope) {
  vfloat m[4], w[4], h[4];
  int64_t width = n > 0 ? n : VW;
  for (int v = 0; v < nv; v++) {
    m[v] = vload_upto(mean + v * VW, width), w[v] = vload_upto(scale + v * VW, width);
    h[v] = vload_upto(bias + v * VW, width);
  }
  for (int64_t r0 = 0; r0 < rows; r0 += FLOAT_ROWS) {
    int64_t end = r0 + FLOAT_ROWS < rows ? r0 + FLOAT_ROWS : rows;
    vfloat a1[4] = {{0}}, a2[4] = {{0}};
    for (int64_t r = r0; r < end; r++)
      for (int v = 0; v < nv; v++) {
        int64_t at = r * c + v * VW;
        vfloat d = vload_upto(x + at, width) - m[v], g = vload_upto(dy + at, width);
        if (act != NORM_ACT_NONE) {
          g *= act_slope(d * w[v] + h[v], act, slope);
          vstore_upto(dn + at, g, width);
        }
        a1[v] += g * d, a2[v] += g;
      }
    for (int v = 0; v < nv; v++)
      for (int i = 0; i < width; i++) s1[v * VW + i] += (double)a1[v][i], s2[v * VW + i] += (double)a2[v][i];
  }
}

VEC_INLINE void products(const float *x, const float *dy, float *dn, int64_t rows, int64_t c, const float *mean, const float *scale,
                         const float *bias, double *s1, double *s2, const int64_t act, float slope) {
  int64_t i = 0;
  for (; i + 4 * VW <= c; i += 4 * VW)
    add_products(x + i, dy + i, dn + i, rows, c, mean + i, scale + i, bias + i, s1 + i, s2 + i, 4, 0, act, slope);
  for (; i + VW <= c; i += VW)
    add_products(x + i, dy + i, dn + i, rows, c, mean + i, scale + i, bias + i, s1 + i, s2 + i, 1, 0, act, slope);
  if (i < c) add_products(x + i, dy + i, dn + i, rows, c, mean + i, scale + i, bias + i, s1 + i, s2 + i, 1, c - i, act, slope);
}

// --- rows -------------------------------------------------------------------------------------------------------------------------

// y = act((x - mean) scale + bias)
VEC_INLINE void normalise(const float *x, float *y, int64_t rows, int64_t c, const float *mean, const float *scale, const float *bias,
                          const int64_t act, float slope) {
  for (int64_t r = 0; r < rows; r++, x += c, y += c) {
    int64_t i = 0;
    for (; i + VW <= c; i += VW) {
      vfloat v = (vload(x + i) - vload(mean + i)) * vload(scale + i) + vload(bias + i);
      vstore(y + i, act_value(v, act, slope));
    }
    if (i < c) {
      int64_t n = c - i;
      vfloat v = (vload_part(x + i, n) - vload_part(mean + i, n)) * vload_part(scale + i, n) + vload_part(bias + i, n);
      vstore_part(y + i, act_value(v, act, slope), n);
    }
  }
}

// dx = scale dn - (x - mean) q - p; dn may be dx
static void gradient_rows(const float *x, const float *dn, float *dx, int64_t rows, int64_t c, const float *mean, const float *scale,
                          const float *q, const float *p) {
  for (int64_t r = 0; r < rows; r++, x += c, dn += c, dx += c) {
    int64_t i = 0;
    for (; i + VW <= c; i += VW)
      vstore(dx + i, vload(scale + i) * vload(dn + i) - (vload(x + i) - vload(mean + i)) * vload(q + i) - vload(p + i));
    for (; i < c; i++) dx[i] = scale[i] * dn[i] - (x[i] - mean[i]) * q[i] - p[i];
  }
}

// One specialised copy of each loop per activation.
#define BY_ACT(call)                                          \
  switch (s->act) {                                           \
  case NORM_ACT_RELU: call(NORM_ACT_RELU); break;             \
  case NORM_ACT_LEAKY_RELU: call(NORM_ACT_LEAKY_RELU); break; \
  case NORM_ACT_SILU: call(NORM_ACT_SILU); break;             \
  default: call(NORM_ACT_NONE); break;                        \
  }

static void normalise_rows(const group_norm_state *s, const float *x, float *y, int64_t rows, const float *channel) {
  const float *mean = channel, *scale = channel + s->c, *bias = channel + 2 * s->c;
#define CALL(act) normalise(x, y, rows, s->c, mean, scale, bias, act, s->slope)
  BY_ACT(CALL)
#undef CALL
}

static void product_rows(const group_norm_state *s, const float *x, const float *dy, float *dn, int64_t rows, const float *channel,
                         double *sums) {
  const float *mean = channel, *scale = channel + s->c, *bias = channel + 2 * s->c;
#define CALL(act) products(x, dy, dn, rows, s->c, mean, scale, bias, sums, sums + s->c, act, s->slope)
  BY_ACT(CALL)
#undef CALL
}

// --- groups -----------------------------------------------------------------------------------------------------------------------

// mean and rstd of the groups of image b from its channels' moments about `shift` (merged as in [Chan83])
static void finish_statistics(const group_norm_job *j, int64_t b, const float *shift, const double *s1, const double *s2) {
  const group_norm_state *s = j->s;
  double rows = (double)s->rows;
  for (int64_t g = 0; g < s->groups; g++) {
    double mean = 0, m2 = 0;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) mean += (double)shift[c] + s1[c] / rows;
    mean /= (double)s->per;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      double away = (double)shift[c] + s1[c] / rows - mean;
      m2 += s2[c] - s1[c] * s1[c] / rows + rows * away * away;
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

// channel (3,C): mean, scale = rstd weight, bias
static void fill_channels(const group_norm_job *j, int64_t b, const float *mean, const float *rstd, float *channel) {
  const group_norm_state *s = j->s;
  for (int64_t g = 0; g < s->groups; g++) {
    double r = rstd_of(s, rstd[b * s->groups + g]);
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      channel[c] = mean[b * s->groups + g];
      channel[s->c + c] = (float)r * (j->weight ? j->weight[c] : 1.0f);
      channel[2 * s->c + c] = j->bias ? j->bias[c] : 0.0f;
    }
  }
}

// channel (5,C): rows 3 and 4 become q and p of gradient_rows, from sums (2,C) of an image
static void fill_gradient_channels(const group_norm_job *j, int64_t b, const double *sums, float *channel) {
  const group_norm_state *s = j->s;
  double count = (double)(s->rows * s->per);
  for (int64_t g = 0; g < s->groups; g++) {
    double rstd = rstd_of(s, j->rstd_in[b * s->groups + g]), along = 0, sum = 0;
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      double w = j->weight ? (double)j->weight[c] : 1.0;
      along += w * sums[c], sum += w * sums[s->c + c];
    }
    for (int64_t c = g * s->per; c < (g + 1) * s->per; c++) {
      channel[3 * s->c + c] = (float)(rstd * rstd * rstd * along / count);
      channel[4 * s->c + c] = (float)(rstd * sum / count);
    }
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
  int64_t begin, end, image = s->rows * s->c;
  split_range(s->images, id, count, &begin, &end);
  for (int64_t b = begin; b < end; b++) {
    memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
    moments(j->x + b * image, s->rows, s->c, j->x + b * image, sums, sums + s->c);
    finish_statistics(j, b, j->x + b * image, sums, sums + s->c);
    fill_channels(j, b, j->mean, j->rstd, channel);
    normalise_rows(s, j->x + b * image, j->y + b * image, s->rows, channel);
  }
}

static void forward_moments(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  int64_t begin, end;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    const float *x = j->x + b * s->rows * s->c;
    double *sums = j->partial + i * 2 * s->c;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
    moments(x + r0 * s->c, r1 - r0, s->c, x, sums, sums + s->c);
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
    finish_statistics(j, b, j->x + b * s->rows * s->c, sums, sums + s->c);
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
    if (b != last) fill_channels(j, last = b, j->mean, j->rstd, channel);
    int64_t at = (b * s->rows + r0) * s->c;
    normalise_rows(s, j->x + at, j->y + at, r1 - r0, channel);
  }
}

static void job_scratch(group_norm_job *j, void *scratch) {
  const group_norm_state *s = j->s;
  j->partial = scratch;
  j->doubles = j->partial + (s->chunks > 1 ? s->images * s->chunks : s->blocks) * 2 * s->c;
  j->floats = (float *)(j->doubles + s->threads * s->thread_doubles);
}

static elbo_status group_norm_run(const kernel *k, const kernel_args *a) {
  group_norm_job j = {.s = k->state, .x = a->in[0], .weight = a->in[1], .bias = a->in[2]};
  j.y = a->out[0], j.mean = a->out[1], j.rstd = a->out[2];
  job_scratch(&j, a->scratch);
  if (j.s->chunks == 1) {
    parallel_run(a->pool, forward_whole, &j);
    return ELBO_OK;
  }
  parallel_run(a->pool, forward_moments, &j);
  parallel_run(a->pool, forward_statistics, &j);
  parallel_run(a->pool, forward_rows, &j);
  return ELBO_OK;
}

// --- gradient ---------------------------------------------------------------------------------------------------------------------

// to (2,C) += rstd sums[0], sums[1]: an image's share of dweight and dbias
static void add_dweight(const group_norm_job *j, int64_t b, const double *sums, double *to) {
  const group_norm_state *s = j->s;
  for (int64_t c = 0; c < s->c; c++) {
    to[c] += rstd_of(s, j->rstd_in[b * s->groups + c / s->per]) * sums[c];
    to[s->c + c] += sums[s->c + c];
  }
}

static void gradient_whole(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end, image = s->rows * s->c, c = s->c;
  split_range(s->blocks, id, count, &begin, &end);
  for (int64_t block = begin; block < end; block++) {
    int64_t b0, b1;
    double *to = j->partial + block * 2 * c;
    split_range(s->images, (int)block, (int)s->blocks, &b0, &b1);
    memset(to, 0, (size_t)(2 * c) * sizeof *to);
    for (int64_t b = b0; b < b1; b++) {
      const float *x = j->x + b * image, *dy = j->dy + b * image;
      float *dx = j->y + b * image;
      memset(sums, 0, (size_t)(2 * c) * sizeof *sums);
      fill_channels(j, b, j->mean_in, j->rstd_in, channel);
      product_rows(s, x, dy, dx, s->rows, channel, sums);
      fill_gradient_channels(j, b, sums, channel);
      gradient_rows(x, s->act == NORM_ACT_NONE ? dy : dx, dx, s->rows, c, channel, channel + c, channel + 3 * c, channel + 4 * c);
      add_dweight(j, b, sums, to);
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
    if (b != last) fill_channels(j, last = b, j->mean_in, j->rstd_in, channel);
    memset(sums, 0, (size_t)(2 * s->c) * sizeof *sums);
    int64_t at = (b * s->rows + r0) * s->c;
    product_rows(s, j->x + at, j->dy + at, j->y + at, r1 - r0, channel, sums);
  }
}

static void gradient_chunks(void *arg, int id, int count) {
  const group_norm_job *j = arg;
  const group_norm_state *s = j->s;
  float *channel = j->floats + id * s->thread_floats;
  double *sums = j->doubles + id * s->thread_doubles;
  int64_t begin, end, last = -1, c = s->c;
  split_range(s->images * s->chunks, id, count, &begin, &end);
  for (int64_t i = begin; i < end; i++) {
    int64_t b = i / s->chunks, r0, r1;
    split_range(s->rows, (int)(i % s->chunks), (int)s->chunks, &r0, &r1);
    if (b != last) {
      add_chunks(j, last = b, sums);
      fill_channels(j, b, j->mean_in, j->rstd_in, channel);
      fill_gradient_channels(j, b, sums, channel);
    }
    int64_t at = (b * s->rows + r0) * c;
    gradient_rows(j->x + at, (s->act == NORM_ACT_NONE ? j->dy : j->y) + at, j->y + at, r1 - r0, c, channel, channel + c, channel + 3 * c,
                  channel + 4 * c);
  }
}

// dweight and dbias out of the blocks' shares or the chunks' sums
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
  }
}

static elbo_status group_norm_grad_run(const kernel *k, const kernel_args *a) {
  group_norm_job j = {.s = k->state, .x = a->in[0], .weight = a->in[1], .bias = a->in[2], .mean_in = a->in[3], .rstd_in = a->in[4]};
  j.dy = a->in[5], j.y = a->out[0], j.dweight = a->out[1], j.dbias = a->out[2];
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

// --- choice -----------------------------------------------------------------------------------------------------------------------

// Its inputs are x, weight, mean, var, dy: no bias.
static elbo_status batch_norm_grad_run(const kernel *k, const kernel_args *a) {
  const void *in[] = {a->in[0], a->in[1], NULL, a->in[2], a->in[3], a->in[4]};
  kernel_args group = *a;
  group.in = in;
  return group_norm_grad_run(k, &group);
}

// Sizes and chunks from images, rows, c and groups.
static void choose(const compile_env *env, group_norm_state *s, kernel *k) {
  s->per = s->c / s->groups;
  s->chunks = 1;
  if (s->images < WHOLE_IMAGES) { // chunks of at least 8192 numbers, 64 of them in all at most
    int64_t most = s->rows * s->c / 8192, fair = DWEIGHT_BLOCKS / s->images;
    s->chunks = most < fair ? most : fair;
    if (s->chunks > s->rows) s->chunks = s->rows;
    if (s->chunks < 1) s->chunks = 1;
  }
  s->blocks = s->images < DWEIGHT_BLOCKS ? s->images : DWEIGHT_BLOCKS;
  s->threads = pool_threads(env->pool);
  s->thread_floats = round_up(5 * s->c, 16);
  s->thread_doubles = round_up(2 * s->c, 8);
  int64_t partials = (s->chunks > 1 ? s->images * s->chunks : s->blocks) * 2 * s->c;
  k->scratch_bytes =
      (size_t)(partials + s->threads * s->thread_doubles) * sizeof(double) + (size_t)(s->threads * s->thread_floats) * sizeof(float);
}

static elbo_status prepare_group(compile_env *env, const node *n, kernel *k) {
  const group_norm_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  group_norm_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->images = x->dim[0], s->rows = shape_product(x, 1, x->rank - 1), s->c = x->dim[x->rank - 1], s->groups = a->groups;
  s->eps = a->eps, s->act = a->act, s->slope = (float)a->slope;
  choose(env, s, k);
  return ELBO_OK;
}

static elbo_status prepare_batch(compile_env *env, const node *n, kernel *k) {
  const norm_attr *a = n->attr;
  const shape *x = &n->in[0]->shape;
  group_norm_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->images = 1, s->rows = shape_product(x, 0, x->rank - 1), s->c = s->groups = x->dim[x->rank - 1];
  s->variance = true, s->eps = a->eps, s->act = NORM_ACT_NONE;
  choose(env, s, k);
  return ELBO_OK;
}

#define PREPARE(op, setup)                                                      \
  static elbo_status op##_prepare(compile_env *env, const node *n, kernel *k) { \
    TRY(setup(env, n, k));                                                      \
    k->name = "own:" #op "." ISA_TEXT, k->run = op##_run;                       \
    return ELBO_OK;                                                             \
  }                                                                             \
  const cpu_op ISA(op##_cpu) = {op##_prepare};

#define batch_norm_run group_norm_run
#define fused_group_norm_run group_norm_run
#define fused_group_norm_grad_run group_norm_grad_run
PREPARE(group_norm, prepare_group)
PREPARE(group_norm_grad, prepare_group)
PREPARE(fused_group_norm, prepare_group)
PREPARE(fused_group_norm_grad, prepare_group)
PREPARE(batch_norm, prepare_batch)
PREPARE(batch_norm_grad, prepare_batch)
