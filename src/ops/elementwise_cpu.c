// The element-wise interpreter: any program of the family in one pass over memory.
//
// The iteration space, its axes collapsed as far as all operands allow, is cut into blocks of at most EW_BLOCK elements that are
// contiguous in the outputs. Each register of a block is EW_BLOCK floats that stay in the first-level cache; each instruction is one vector
// loop over it. Dense inputs are read where they lie; broadcast ones are spread into a register, again only when the block needs other
// numbers than the last one did. Blocks are divided among threads; no result depends on the division.
#include <stdlib.h>

#include "ops/fused_elementwise.h"
#include "ops/isa.h"

enum { EW_BLOCK = 512 };

#include "ops/elementwise_loops.h"

typedef enum input_mode { INPUT_DENSE, INPUT_SPREAD, INPUT_INTEGER } input_mode;

typedef struct input_plan {
  input_mode mode;
  bool scalar;                   // one number for the whole block
  bool moves;                    // its place depends on the chunk within the split axis
  int64_t stride[ELBO_MAX_RANK]; // of the collapsed axes, in elements
  int32_t *pattern;              // [block] places of the block's elements relative to the first; NULL: not needed
  int last_read;                 // last instruction that reads it; n_instructions for outputs that are the input itself
} input_plan;

typedef struct program_plan {
  elementwise_program p;
  input_plan in[EW_MAX_INPUTS];
  int rank;                       // collapsed
  int64_t dim[ELBO_MAX_RANK];     // collapsed
  int split;                      // blocks are ranges of `chunk` of this axis times all axes behind it
  int64_t chunk, n_chunks, inner; // inner: elements behind the split axis
  int64_t n_blocks, count, per_sample;
  int64_t row_length, n_rows; // of sums: elements summed, sums
  int slot[EW_MAX_REGISTERS]; // scratch block of each register
  int n_slots, n_sums;
  bool random;
  int64_t cost; // of one element, in simple instructions
  int threads;
  size_t thread_bytes;
} program_plan;

// --- planning -------------------------------------------------------------------------------------------------------------------

// Drops axes of length 1 and merges neighbours that every float input walks through as one, but not kept with summed ones.
static void collapse_axes(program_plan *q, const node *n) {
  const shape *s = &q->p.iteration;
  int64_t stride[EW_MAX_INPUTS][ELBO_MAX_RANK] = {{0}};
  int first_summed = 0;
  for (int i = 0; i < q->p.n_in; i++)
    if (q->in[i].mode != INPUT_INTEGER) broadcast_strides(&n->in[i]->shape, s, stride[i]);
  q->rank = 0;
  for (int axis = 0; axis < s->rank; axis++) {
    if (axis == q->p.sum_axis) first_summed = q->rank;
    if (s->dim[axis] == 1) continue;
    int last = q->rank - 1;
    bool merge = last >= 0 && !(q->n_sums && q->rank == first_summed && axis >= q->p.sum_axis);
    for (int i = 0; i < q->p.n_in && merge; i++) merge = q->in[i].stride[last] == stride[i][axis] * s->dim[axis];
    if (!merge) {
      q->dim[q->rank] = 1;
      last = q->rank++;
    }
    q->dim[last] *= s->dim[axis];
    for (int i = 0; i < q->p.n_in; i++) q->in[i].stride[last] = stride[i][axis];
  }
  if (q->rank == 0) q->dim[q->rank++] = 1;
}

static int64_t greatest_divisor(int64_t a, int64_t b) { return b ? greatest_divisor(b, a % b) : a; }

// Chooses the split axis and the chunk: as many whole inner axes as fit a block, then even chunks of the next, whole vectors where
// possible.
static void split_blocks(program_plan *q) {
  q->split = q->rank - 1;
  q->inner = 1;
  while (q->split > 0 && q->inner * q->dim[q->split] <= EW_BLOCK) q->inner *= q->dim[q->split--];
  int64_t length = q->dim[q->split], most = EW_BLOCK / q->inner, whole = 16 / greatest_divisor(q->inner, 16);
  if (most > whole) most -= most % whole;
  q->chunk = length;
  if (length > most) {
    int64_t pieces = (length + most - 1) / most;
    q->chunk = (length + pieces - 1) / pieces;
    if (q->chunk % whole && q->chunk + whole - q->chunk % whole <= most) q->chunk += whole - q->chunk % whole;
  }
  q->n_chunks = length > 0 ? (length + q->chunk - 1) / q->chunk : 0;
  q->n_blocks = q->n_chunks;
  for (int axis = 0; axis < q->split; axis++) q->n_blocks *= q->dim[axis];
}

// How each input lies within a block. The patterns come behind the plan in one allocation; counts them when `patterns` is NULL.
static int64_t plan_inputs(program_plan *q, int32_t *patterns) {
  int64_t used = 0, block = q->chunk * q->inner;
  for (int i = 0; i < q->p.n_in; i++) {
    input_plan *in = &q->in[i];
    if (in->mode == INPUT_INTEGER) continue;
    bool dense = true;
    in->scalar = true;
    int64_t step = 1;
    for (int axis = q->rank - 1; axis >= q->split; axis--) {
      dense &= q->dim[axis] == 1 || in->stride[axis] == step;
      in->scalar &= in->stride[axis] == 0;
      step *= q->dim[axis];
    }
    in->moves = in->stride[q->split] != 0;
    if (q->count == 1) dense = true;
    in->mode = dense ? INPUT_DENSE : INPUT_SPREAD;
    if (dense || in->scalar) continue;
    if (patterns) {
      in->pattern = patterns + used;
      for (int64_t e = 0; e < block; e++) {
        int64_t rest = e, place = 0;
        for (int axis = q->rank - 1; axis > q->split; axis--) {
          place += rest % q->dim[axis] * in->stride[axis];
          rest /= q->dim[axis];
        }
        in->pattern[e] = (int32_t)(place + rest * in->stride[q->split]);
      }
    }
    used += block;
  }
  return used;
}

// Gives every register a block of scratch. Inputs and constants keep theirs, outputs live to the end, the others share.
static void assign_slots(program_plan *q) {
  const elementwise_program *p = &q->p;
  int last_use[EW_MAX_REGISTERS], free_slot[EW_MAX_REGISTERS], n_free = 0, n_in = (int)p->n_in, n_code = (int)p->n_instructions;
  for (int r = 0; r < n_in + n_code; r++) last_use[r] = -1;
  for (int i = 0; i < n_code; i++)
    for (int s = 0; s < elementwise_operands((elementwise_code)p->code[i].code); s++) last_use[p->code[i].src[s]] = i;
  for (int o = 0; o < p->n_out; o++) last_use[p->out[o].reg] = n_code;
  q->n_slots = 0;
  for (int i = 0; i < n_in; i++) {
    q->in[i].last_read = last_use[i];
    q->slot[i] = q->in[i].mode == INPUT_INTEGER ? -1 : q->n_slots++;
  }
  for (int i = 0; i < n_code; i++) {
    int operands = elementwise_operands((elementwise_code)p->code[i].code), reg = n_in + i;
    for (int s = 0; s < operands; s++) { // the result may take the place of an operand that is read here last
      int r = p->code[i].src[s];
      if (r < n_in || last_use[r] != i || p->code[r - n_in].code == EW_CONSTANT) continue;
      free_slot[n_free++] = q->slot[r];
      last_use[r] = -1;
    }
    q->slot[reg] = n_free > 0 && p->code[i].code != EW_CONSTANT ? free_slot[--n_free] : q->n_slots++;
    if (last_use[reg] < 0) last_use[reg] = n_code; // computed for nothing: keeps its block to itself
  }
}

static int64_t instruction_cost(int code) {
  if (code == EW_RANDOM_NORMAL || code == EW_RANDOM_UNIFORM || code == EW_DROPOUT) return 12;
  bool simple = code == EW_NEG || code == EW_ABS || code == EW_SIGN || code == EW_SQUARE || code == EW_RELU || code == EW_LEAKY_RELU ||
                code == EW_CLAMP || code == EW_SCALE || code >= EW_ADD;
  return simple ? 1 : 6;
}

// --- running --------------------------------------------------------------------------------------------------------------------

typedef struct program_run {
  const program_plan *q;
  const kernel_args *a;
  double *partial; // [n_sums][n_blocks] for rows longer than a block, else NULL
  float *sums;     // [n_sums][n_rows] otherwise: an output may share memory with an input that later blocks read
} program_run;

static float *slot_at(char *scratch, int slot) { return (float *)(scratch + (size_t)slot * EW_BLOCK * sizeof(float)); }

static void fill(float *to, int64_t n, float value) {
  for (int64_t i = 0; i < n; i++) to[i] = value;
}

// True when output o may be written while the block is being computed: no input that shares its memory is read afterwards.
static bool may_write_early(const program_run *run, int o, int instruction) {
  for (int i = 0; i < run->q->p.n_in; i++)
    if (run->a->in[i] == run->a->out[o] && run->q->in[i].last_read > instruction) return false;
  return true;
}

// Sums the rows of a block, or gives the block's part of its row.
static void sum_block(const program_run *run, int sum, const float *x, int64_t n, int64_t block, int64_t begin) {
  const program_plan *q = run->q;
  int64_t length = q->row_length < n ? q->row_length : n;
  for (int64_t at = 0; at < n; at += length) {
    vfloat even = {0}, odd = {0};
    int64_t i = 0;
    for (; i + 2 * VW <= length; i += 2 * VW) {
      even += vload(x + at + i);
      odd += vload(x + at + i + VW);
    }
    float total = length >= 2 * VW ? vsum(even + odd) : 0.0f;
    for (; i < length; i++) total += x[at + i];
    if (run->partial)
      run->partial[sum * q->n_blocks + block] = total;
    else
      run->sums[sum * q->n_rows + (begin + at) / q->row_length] = total;
  }
}

typedef struct block_state {
  const program_run *run;
  char *scratch;
  random_scratch *random;
  const float *reg[EW_MAX_REGISTERS];
  int64_t held[EW_MAX_INPUTS]; // where the numbers in a spread input's register came from; -1: nowhere yet
  int64_t held_n[EW_MAX_INPUTS];
} block_state;

static void load_input(block_state *s, int i, int64_t place, int64_t n) {
  const program_plan *q = s->run->q;
  const input_plan *in = &q->in[i];
  const float *from = (const float *)s->run->a->in[i] + place;
  float *slot = slot_at(s->scratch, q->slot[i]);
  if (in->mode == INPUT_DENSE) {
    s->reg[i] = from;
    if (n % VW == 0) return;
    memcpy(slot, from, (size_t)n * sizeof *slot); // the vectors run over the end
    s->reg[i] = slot;
    return;
  }
  s->reg[i] = slot;
  if (s->held[i] == place && s->held_n[i] >= n) return;
  int64_t whole = in->moves ? n : q->chunk * q->inner;
  if (in->scalar)
    fill(slot, EW_BLOCK, *from);
  else
    for (int64_t e = 0; e < whole; e++) slot[e] = from[in->pattern[e]];
  s->held[i] = place;
  s->held_n[i] = in->scalar ? EW_BLOCK : whole;
}

static void run_block(block_state *s, int64_t block) {
  const program_run *run = s->run;
  const program_plan *q = run->q;
  const elementwise_program *p = &q->p;
  int64_t outer = block / q->n_chunks, first = block % q->n_chunks * q->chunk, length = q->dim[q->split];
  int64_t n = (first + q->chunk <= length ? q->chunk : length - first) * q->inner, padded = (n + VW - 1) / VW * VW;
  int64_t begin = (outer * length + first) * q->inner;
  for (int i = 0; i < p->n_in; i++) {
    if (q->in[i].mode == INPUT_INTEGER) continue;
    int64_t rest = outer, place = first * q->in[i].stride[q->split];
    for (int axis = q->split - 1; axis >= 0; axis--) {
      place += rest % q->dim[axis] * q->in[i].stride[axis];
      rest /= q->dim[axis];
    }
    load_input(s, i, place, n);
  }
  unsigned written = 0; // outputs already in place
  for (int i = 0; i < p->n_instructions; i++) {
    const elementwise_instruction *c = &p->code[i];
    int reg = (int)p->n_in + i;
    float *d = slot_at(s->scratch, q->slot[reg]);
    s->reg[reg] = d;
    if (c->code == EW_CONSTANT) continue; // filled beforehand
    for (int o = 0; o < p->n_out && padded == n; o++)
      if (p->out[o].reg == reg && !p->out[o].sum && may_write_early(run, o, i)) {
        d = (float *)run->a->out[o] + begin;
        written |= 1u << o;
        break;
      }
    s->reg[reg] = d;
    const float *x = s->reg[c->src[0]], *y = s->reg[c->src[1]], *z = s->reg[c->src[2]];
    if (c->code == EW_RANDOM_NORMAL || c->code == EW_RANDOM_UNIFORM) {
      fill_random(s->random, c->code == EW_RANDOM_NORMAL, *(const uint64_t *)run->a->in[c->src[0]], c->stream, run->a->in[c->src[1]],
                  q->per_sample, begin, n, d);
    } else if (c->code == EW_DROPOUT) {
      float *u = s->random->uniform;
      fill_random(s->random, 0, *(const uint64_t *)run->a->in[c->src[1]], c->stream, run->a->in[c->src[2]], q->per_sample, begin, n, u);
      apply_dropout(c->a, d, x, u, padded);
    } else {
      run_instruction(c->code, (float)c->a, (float)c->b, d, x, y, z, padded);
    }
  }
  // Output 0 last: it alone may share memory with an input, which other outputs may be or be sums of.
  for (int o = (int)p->n_out - 1, sum = q->n_sums; o >= 0; o--) {
    const float *x = s->reg[p->out[o].reg];
    if (p->out[o].sum)
      sum_block(run, --sum, x, n, block, begin);
    else if (!(written & 1u << o) && x != (float *)run->a->out[o] + begin)
      memcpy((float *)run->a->out[o] + begin, x, (size_t)n * sizeof *x);
  }
}

static void run_part(void *arg, int id, int count) {
  const program_run *run = arg;
  const program_plan *q = run->q;
  const elementwise_program *p = &q->p;
  int64_t worth = q->n_blocks * q->chunk * q->inner * q->cost / 16384 + 1, begin, end; // threads that the work is worth
  int parts = count < q->threads ? count : q->threads;
  if (worth < parts) parts = (int)worth;
  if (id >= parts) return;
  split_range(q->n_blocks, id, parts, &begin, &end);
  if (begin == end) return;
  block_state s = {.run = run, .scratch = (char *)run->a->scratch + (size_t)id * q->thread_bytes};
  s.random = (random_scratch *)(void *)slot_at(s.scratch, q->n_slots);
  for (int i = 0; i < p->n_in; i++) s.held[i] = -1;
  for (int i = 0; i < p->n_instructions; i++)
    if (p->code[i].code == EW_CONSTANT) fill(slot_at(s.scratch, q->slot[p->n_in + i]), EW_BLOCK, (float)p->code[i].a);
  for (int64_t block = begin; block < end; block++) run_block(&s, block);
}

static elbo_status run_program(const kernel *k, const kernel_args *a) {
  const program_plan *q = k->state;
  char *behind = (char *)a->scratch + (size_t)q->threads * q->thread_bytes;
  bool long_rows = q->row_length > q->chunk * q->inner;
  program_run run = {q, a, q->n_sums > 0 && long_rows ? (double *)(void *)behind : NULL, (float *)(void *)behind};
  if (q->n_blocks * q->chunk * q->inner * q->cost < 2 * 16384)
    run_part(&run, 0, 1);
  else
    parallel_run(a->pool, run_part, &run);
  int64_t per_row = q->n_blocks / q->n_rows;
  for (int o = 0, sum = 0; o < q->p.n_out; o++) {
    if (!q->p.out[o].sum) continue;
    if (!long_rows) memcpy(a->out[o], run.sums + sum * q->n_rows, (size_t)q->n_rows * sizeof(float));
    for (int64_t row = 0; row < q->n_rows && long_rows; row++) {
      double total = 0;
      for (int64_t b = 0; b < per_row; b++) total += run.partial[sum * q->n_blocks + row * per_row + b];
      ((float *)a->out[o])[row] = (float)total;
    }
    sum++;
  }
  return ELBO_OK;
}

static void destroy_program(kernel *k) { free(k->state); }

elbo_status ISA(elementwise_program_prepare)(compile_env *env, const elementwise_program *p, const node *n, kernel *k) {
  program_plan *q = NULL;
  TRY(array_new(env->ctx, 1, sizeof *q, "an element-wise program", (void **)&q));
  q->p = *p;
  q->cost = 1;
  q->count = shape_count(&p->iteration);
  for (int i = 0; i < p->n_in; i++) q->in[i].mode = n->in[i]->dtype == ELBO_F32 ? INPUT_SPREAD : INPUT_INTEGER;
  for (int o = 0; o < p->n_out; o++) q->n_sums += p->out[o].sum != 0;
  for (int i = 0; i < p->n_instructions; i++) {
    int code = p->code[i].code;
    q->cost += instruction_cost(code);
    q->random |= code == EW_RANDOM_NORMAL || code == EW_RANDOM_UNIFORM || code == EW_DROPOUT;
  }
  collapse_axes(q, n);
  split_blocks(q);
  q->row_length = 1;
  for (int axis = (int)p->sum_axis; axis < p->iteration.rank; axis++) q->row_length *= p->iteration.dim[axis];
  q->n_rows = q->row_length > 0 ? q->count / q->row_length : 0;
  q->per_sample = p->iteration.rank > 0 && p->iteration.dim[0] > 0 ? q->count / p->iteration.dim[0] : 1;
  int64_t patterns = plan_inputs(q, NULL);
  if (patterns > 0) {
    program_plan *larger = realloc(q, sizeof *q + (size_t)patterns * sizeof(int32_t));
    if (!larger) {
      free(q);
      return fail_memory(env->ctx, sizeof *q + (size_t)patterns * sizeof(int32_t), "an element-wise program");
    }
    q = larger;
    plan_inputs(q, (int32_t *)(void *)(q + 1));
  }
  assign_slots(q);
  q->thread_bytes = (size_t)q->n_slots * EW_BLOCK * sizeof(float);
  if (q->random) q->thread_bytes += (sizeof(random_scratch) + 63) / 64 * 64;
  if (q->thread_bytes == 0) q->thread_bytes = 64;
  k->name = p->n_instructions == 1 ? "own:elementwise." ISA_TEXT : "own:elementwise_program." ISA_TEXT;
  q->threads = pool_threads(env->pool);
  k->scratch_bytes = (size_t)q->threads * q->thread_bytes;
  bool long_rows = q->row_length > q->chunk * q->inner;
  k->scratch_bytes += (size_t)q->n_sums * (long_rows ? (size_t)q->n_blocks * sizeof(double) : (size_t)q->n_rows * sizeof(float));
  k->state = q;
  k->run = run_program;
  k->destroy = destroy_program;
  return ELBO_OK;
}

static elbo_status prepare_program(compile_env *env, const node *n, kernel *k) {
  elementwise_program p;
  if (!elementwise_program_of(n, &p)) return fail(env->ctx, ELBO_ERROR_INTERNAL, "%s is not an element-wise operation", n->op->name);
  return ISA(elementwise_program_prepare)(env, &p, n, k);
}

const cpu_op ISA(unary_cpu) = {prepare_program};
const cpu_op ISA(binary_cpu) = {prepare_program};
const cpu_op ISA(where_cpu) = {prepare_program};
const cpu_op ISA(broadcast_to_cpu) = {prepare_program};
const cpu_op ISA(random_normal_cpu) = {prepare_program};
const cpu_op ISA(random_uniform_cpu) = {prepare_program};
const cpu_op ISA(dropout_cpu) = {prepare_program};
const cpu_op ISA(fused_elementwise_cpu) = {prepare_program};
