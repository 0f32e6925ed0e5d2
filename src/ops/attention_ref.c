// The whole row of scores of one query at a time.
#include <math.h>
#include <stdlib.h>

#include "ops/attention.h"

typedef struct scores {
  int64_t batch, heads, nq, nk, d, width;
  int64_t stride[4]; // of bias, 0 where it is broadcast
  double scale;
  bool causal;
} scores;

static scores scores_of(const node *n) {
  const attention_attr *a = n->attr;
  const shape *q = &n->in[0]->shape;
  scores s = {.batch = q->dim[0], .heads = a->heads, .nq = q->dim[1], .nk = n->in[1]->shape.dim[1], .d = q->dim[2] / a->heads};
  s.width = q->dim[2], s.scale = a->scale, s.causal = a->causal;
  if (!n->in[3]) return s;
  const shape *b = &n->in[3]->shape;
  for (int i = 0; i < b->rank; i++) s.stride[4 - b->rank + i] = b->dim[i] == 1 ? 0 : shape_product(b, i + 1, b->rank);
  return s;
}

static int64_t bias_at(const scores *s, int64_t b, int64_t h, int64_t i, int64_t j) {
  return b * s->stride[0] + h * s->stride[1] + i * s->stride[2] + j * s->stride[3];
}

// row[j] of query i; -infinity where it may not look
static void score_row(const scores *s, const double *q, const double *k, const double *bias, int64_t b, int64_t h, int64_t i, double *row) {
  for (int64_t j = 0; j < s->nk; j++) {
    double sum = 0;
    for (int64_t c = 0; c < s->d; c++) sum += q[(b * s->nq + i) * s->width + h * s->d + c] * k[(b * s->nk + j) * s->width + h * s->d + c];
    row[j] = s->scale * sum + (bias ? bias[bias_at(s, b, h, i, j)] : 0);
    if (s->causal && j > i + s->nk - s->nq) row[j] = -INFINITY;
  }
}

OP_REFERENCE(attention) {
  const double *q = in[0], *k = in[1], *v = in[2], *bias = in[3];
  double *y = out[0], *lse = out[1];
  scores s = scores_of(n);
  double *row = calloc((size_t)s.nk, sizeof *row);
  if (!row) return fail_memory(ctx, (size_t)s.nk * sizeof *row, "a row of scores");
  for (int64_t b = 0; b < s.batch; b++)
    for (int64_t h = 0; h < s.heads; h++)
      for (int64_t i = 0; i < s.nq; i++) {
        double most = -INFINITY, sum = 0, *to = y + (b * s.nq + i) * s.width + h * s.d;
        score_row(&s, q, k, bias, b, h, i, row);
        for (int64_t j = 0; j < s.nk; j++) most = row[j] > most ? row[j] : most;
        for (int64_t j = 0; j < s.nk; j++) sum += row[j] = most == -INFINITY ? 0 : exp(row[j] - most);
        lse[(b * s.heads + h) * s.nq + i] = most == -INFINITY ? -INFINITY : most + log(sum);
        for (int64_t c = 0; c < s.d; c++) {
          double value = 0;
          for (int64_t j = 0; j < s.nk; j++) value += row[j] * v[(b * s.nk + j) * s.width + h * s.d + c];
          to[c] = sum > 0 ? value / sum : 0;
        }
      }
  free(row);
  return ELBO_OK;
}

OP_REFERENCE(attention_grad) {
  const attention_attr *a = n->attr;
  const double *q = in[0], *k = in[1], *v = in[2], *bias = in[3], *y = in[4], *lse = in[5], *dy = in[6];
  double *dq = out[0], *dk = out[1], *dv = out[2], *dbias = out[3];
  scores s = scores_of(n);
  double *row = calloc((size_t)s.nk, sizeof *row);
  if (!row) return fail_memory(ctx, (size_t)s.nk * sizeof *row, "a row of scores");
  for (int i = 0; i < 4; i++)
    for (int64_t e = shape_count(&n->out[i]->shape); e-- > 0;) ((double *)out[i])[e] = 0;
  for (int64_t b = 0; b < s.batch; b++)
    for (int64_t h = 0; h < s.heads; h++)
      for (int64_t i = 0; i < s.nq; i++) {
        int64_t at = (b * s.nq + i) * s.width + h * s.d;
        double along = 0, norm = lse[(b * s.heads + h) * s.nq + i];
        score_row(&s, q, k, bias, b, h, i, row);
        for (int64_t c = 0; c < s.d; c++) along += y[at + c] * dy[at + c];
        for (int64_t j = 0; j < s.nk; j++) {
          int64_t key = (b * s.nk + j) * s.width + h * s.d;
          double p = norm == -INFINITY ? 0 : exp(row[j] - norm), dp = 0;
          for (int64_t c = 0; c < s.d; c++) dp += dy[at + c] * v[key + c];
          double ds = p * (dp - along);
          for (int64_t c = 0; c < s.d; c++) {
            dv[key + c] += p * dy[at + c];
            dk[key + c] += s.scale * ds * q[at + c];
            dq[at + c] += s.scale * ds * k[key + c];
          }
          if (a->want_dbias) dbias[bias_at(&s, b, h, i, j)] += ds;
        }
      }
  free(row);
  return ELBO_OK;
}
