// What the ways of sharing the work of a forward or transposed Winograd convolution have in common (winograd_cpu.c says which).
// Only winograd_*_cpu.c files include this.
#ifndef OPS_WINOGRAD_FORWARD_H
#define OPS_WINOGRAD_FORWARD_H

#include "ops/kernel_util.h"
#include "ops/winograd.h"

typedef struct result_part { // of the result: pixel (u, v) of its grid is at first + step (u, v)
  winograd_image image;
  int64_t first[2], rows, columns, T;
} result_part;

typedef enum way { BY_TILES, BY_CHANNELS, BY_POINTS } way;

typedef struct state {
  conv_problem problem;
  int alpha, m, points;
  int64_t C, K, Q, P; // channels in and out, height and width of the result
  int64_t VC, VK;     // vectors of C and K
  int phases, n_parts, step;
  result_part parts[4];
  winograd_weights weights;
  way by;
  bool keep;                         // of constant weights, what is read of them in every run
  bool direct;                       // by channels: weights are read where they are, once
  int64_t block;                     // tiles of one V
  int64_t unit;                      // by tiles: what a thread or block has are multiples of so many; whole rows where x is normalised
  int64_t chunk;                     // vectors of K in one M
  int64_t c_block;                   // by channels: channels of one V and U (of every phase),
  int panel;                         // and vectors of K in one U
  int pieces;                        // by points: of the tiles
  int64_t v_point, u_point, m_point; // floats from point to point
  int64_t staged;                    // floats of normalised pixels, where x is normalised
} state;

typedef struct io {
  const state *s;
  const float *x, *w, *bias, *residual;
  winograd_norm norm; // channels NULL: none
  float *y, *pre, *scratch;
  float *u; // by tiles U; by channels, unless directly, the weights as they are read
} io;

// Interpolates tiles [t0, t0 + nt) of part 0, vectors [v0, v1) of K; m: the first of both, rows of s->block tiles.
void ISA(winograd_interpolate)(const io *g, int64_t t0, int64_t nt, int64_t v0, int64_t v1, const float *m);

// By channels: what state_of leaves open; what it costs, in vector multiply-adds; the weights in the order in which they are read; and
// the convolution.
void ISA(winograd_choose_blocks)(state *s);
double ISA(winograd_channels_cost)(const state *s);
void ISA(winograd_pack_channels)(void *io, int id, int count);
void ISA(winograd_run_channels)(void *io, int id, int count);

// Floats of a thread's own: V and M, by channels two U as well; then staged pixels.
static inline int64_t winograd_thread_floats(const state *s) {
  return s->points * (s->v_point + s->m_point + (s->by == BY_CHANNELS ? 2 * s->u_point : 0)) + s->staged;
}
// Floats of U.
static inline int64_t winograd_u_floats(const state *s) { return s->n_parts * s->points * winograd_point(s->phases * s->C * s->VK * VW); }
// Floats of io.u.
static inline int64_t winograd_weight_floats(const state *s) {
  if (s->by != BY_CHANNELS) return winograd_u_floats(s);
  return s->direct ? 0 : s->VK * VW * s->C * s->problem.size.kh * s->problem.size.kw;
}

#endif
