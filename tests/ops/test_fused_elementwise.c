// Programs of element-wise instructions: random ones against the oracle, in every variant, with broadcasting, sums, random draws, in-place
// outputs and several threads; and what is refused.
#include <elbo/ops.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "ops/fused_elementwise.h"
#include "support/op_check.h"

// --- random programs ------------------------------------------------------------------------------------------------------------

// Instructions that neither leave a bounded range nor jump, so that float and double stay together however long the program.
static const elementwise_code smooth[] = {EW_NEG,   EW_ABS,   EW_TANH, EW_SIGMOID, EW_SIN,     EW_COS,     EW_ERF, EW_SOFTPLUS,
                                          EW_CLAMP, EW_SCALE, EW_ADD,  EW_SUB,     EW_MAXIMUM, EW_MINIMUM, EW_COPY};
enum { SMOOTH = sizeof smooth / sizeof smooth[0] };

typedef struct random_program {
  elementwise_program p;
  int n_float; // inputs 0..n_float-1; then seed and sample_index when draws
  shape in[EW_MAX_INPUTS];
  bool draws;
} random_program;

static void add_instruction(random_program *c, test_random *r) {
  elementwise_program *p = &c->p;
  elementwise_instruction *i = &p->code[p->n_instructions];
  int last = (int)(p->n_in + p->n_instructions) - 1;
  int seed = c->n_float, index = c->n_float + 1;
  int kind = (int)test_below(r, 0, 19);
  memset(i, 0, sizeof *i);
  for (int s = 0; s < 3; s++) {
    int reg = (int)test_below(r, 0, last);
    if (reg >= c->n_float && reg < p->n_in) reg = (int)test_below(r, 0, c->n_float - 1);
    i->src[s] = (int16_t)reg;
  }
  i->a = 0.7;
  i->b = 0.3;
  if (kind == 0) {
    i->code = EW_CONSTANT;
  } else if (kind == 1) { // jumps, so of inputs alone
    i->code = EW_LESS;
    i->src[0] = (int16_t)test_below(r, 0, c->n_float - 1);
    i->src[1] = (int16_t)test_below(r, 0, c->n_float - 1);
  } else if (kind == 2) {
    i->code = EW_WHERE;
    i->src[0] = (int16_t)test_below(r, 0, c->n_float - 1);
  } else if (kind <= 4 && c->draws) {
    i->code = kind == 3 ? EW_RANDOM_NORMAL : EW_RANDOM_UNIFORM;
    i->src[0] = (int16_t)seed;
    i->src[1] = (int16_t)index;
    i->stream = (uint32_t)test_below(r, 0, 1000);
  } else if (kind == 5 && c->draws) {
    i->code = EW_DROPOUT;
    i->src[1] = (int16_t)seed;
    i->src[2] = (int16_t)index;
    i->stream = (uint32_t)test_below(r, 0, 1000);
    i->a = 0.4;
  } else {
    i->code = (int16_t)smooth[test_below(r, 0, SMOOTH - 1)];
    if (i->code == EW_CLAMP) i->a = -1.5, i->b = 1.5;
  }
  p->n_instructions++;
}

static random_program make_program(test_random *r, int longest, int64_t budget) {
  random_program c;
  memset(&c, 0, sizeof c);
  elementwise_program *p = &c.p;
  p->iteration.rank = (int)test_below(r, 1, ELBO_MAX_RANK);
  int64_t count = 1;
  for (int i = 0; i < p->iteration.rank; i++) {
    p->iteration.dim[i] = test_below(r, 1, test_below(r, 0, 2) ? 7 : budget / count);
    count *= p->iteration.dim[i];
  }
  c.draws = test_below(r, 0, 2) > 0;
  c.n_float = (int)test_below(r, 1, c.draws ? EW_MAX_INPUTS - 2 : EW_MAX_INPUTS);
  if (test_below(r, 0, 1)) c.n_float = (c.n_float + 3) / 4;
  for (int i = 0; i < c.n_float; i++) { // dense, or any axes broadcast, or leading ones absent
    shape s = p->iteration;
    int64_t kind = test_below(r, 0, 3);
    for (int axis = 0; axis < s.rank && kind > 0; axis++)
      if (test_below(r, 0, 1)) s.dim[axis] = 1;
    int drop = kind == 2 ? (int)test_below(r, 0, s.rank) : 0;
    c.in[i] = shape_of(s.rank - drop, s.dim + drop);
  }
  p->n_in = c.n_float + (c.draws ? 2 : 0);
  int64_t length = test_below(r, 1, longest);
  while (p->n_instructions < length) add_instruction(&c, r);
  p->n_out = test_below(r, 1, EW_MAX_OUTPUTS);
  p->sum_axis = test_below(r, 0, p->iteration.rank);
  for (int o = 0; o < p->n_out; o++) {
    int64_t reg = test_below(r, 0, p->n_in + p->n_instructions - 1);
    if (reg >= c.n_float && reg < p->n_in) reg = 0;
    p->out[o].reg = (int32_t)reg;
    p->out[o].sum = test_below(r, 0, 2) == 0;
  }
  return c;
}

// Runs it under a backend; results in *out (doubles), all outputs one behind the other.
static void run_program(elbo_ctx *ctx, const random_program *c, elbo_backend_kind kind, uint64_t seed, double **out, int64_t *count) {
  elbo_graph *g;
  elbo_plan *plan;
  elbo_tensor *in[EW_MAX_INPUTS];
  char name[16];
  assert_ok(ctx, elbo_graph_create(ctx, "program", &g));
  for (int i = 0; i < c->n_float; i++) {
    snprintf(name, sizeof name, "x%d", i);
    // not the input itself: its memory is then free to be taken by a result
    in[i] = elbo_scale(elbo_input(g, name, ELBO_F32, c->in[i].rank, c->in[i].dim), 0.5, 0.0);
  }
  if (c->draws) assert_true(random_inputs(g, c->p.iteration.dim[0], &in[c->n_float], &in[c->n_float + 1]));
  node *n = graph_add_fused_elementwise(g, &c->p, (int)c->p.n_in, in);
  assert_ok(ctx, elbo_graph_check(g));
  elbo_plan_config config;
  elbo_plan_defaults(&config);
  config.backend = kind;
  config.fuse = 0;
  config.poison = 1;
  assert_ok(ctx, elbo_plan_create(ctx, g, n->n_out, n->out, &config, &plan));
  for (int i = 0; i < c->n_float; i++) {
    snprintf(name, sizeof name, "x%d", i);
    int64_t k = shape_count(&c->in[i]);
    float *x = malloc((size_t)k * sizeof *x);
    assert_non_null(x);
    test_random r = {.seed = seed, .next = (uint64_t)i << 32};
    test_fill_normal(&r, x, k, 2.0);
    if (elbo_plan_input(plan, name)) assert_ok(ctx, elbo_plan_set(plan, name, x, k));
    free(x);
  }
  int64_t *key = elbo_plan_input(plan, "seed"), *index = elbo_plan_input(plan, "sample_index");
  if (key) *key = (int64_t)(seed * 0x9E3779B97F4A7C15u);
  for (int64_t b = 0; index && b < c->p.iteration.dim[0]; b++) index[b] = ((int64_t)1 << 33) + 17 * b;
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  *count = 0;
  for (int o = 0; o < n->n_out; o++) *count += shape_count(&n->out[o]->shape);
  *out = malloc((size_t)*count * sizeof **out);
  assert_non_null(*out);
  int64_t at = 0;
  for (int o = 0; o < n->n_out; o++)
    for (int64_t k = 0; k < shape_count(&n->out[o]->shape); k++)
      (*out)[at++] =
          kind == ELBO_BACKEND_REFERENCE ? ((const double *)elbo_plan_output(plan, o))[k] : ((const float *)elbo_plan_output(plan, o))[k];
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
}

static void describe(const random_program *c) {
  char text[SHAPE_TEXT];
  print_error("iteration %s, sums from axis %d\n", shape_text(&c->p.iteration, text), (int)c->p.sum_axis);
  for (int i = 0; i < c->n_float; i++) print_error("  r%d: input %s\n", i, shape_text(&c->in[i], text));
  for (int i = 0; i < c->p.n_instructions; i++) {
    const elementwise_instruction *k = &c->p.code[i];
    print_error("  r%d: %s r%d r%d r%d\n", (int)c->p.n_in + i, elementwise_code_name((elementwise_code)k->code), k->src[0], k->src[1],
                k->src[2]);
  }
  for (int o = 0; o < c->p.n_out; o++) print_error("  out r%d%s\n", c->p.out[o].reg, c->p.out[o].sum ? ", summed" : "");
}

static bool check_program(const random_program *c, uint64_t seed) {
  double *want, *got;
  int64_t count;
  bool ok = true;
  elbo_ctx *ctx = test_ctx(1);
  run_program(ctx, c, ELBO_BACKEND_REFERENCE, seed, &want, &count);
  elbo_ctx_destroy(&ctx);
  double largest = 1;
  for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(want[i]));
  for (int isa = 0; isa < ISA_COUNT && ok; isa++)
    for (int threads = 1; threads <= 3 && ok; threads += 2) {
      ctx = test_ctx_isa(threads, (isa_level)isa);
      if (!ctx) continue;
      run_program(ctx, c, ELBO_BACKEND_CPU, seed, &got, &count);
      for (int64_t i = 0; i < count && ok; i++) {
        ok = fabs(got[i] - want[i]) <= 2e-5 * largest;
        if (ok) continue;
        print_error("seed %llu, %s, %d threads, result %lld: %.9g, oracle %.9g\n", (unsigned long long)seed, isa_name((isa_level)isa),
                    threads, (long long)i, got[i], want[i]);
        describe(c);
      }
      free(got);
      elbo_ctx_destroy(&ctx);
    }
  free(want);
  return ok;
}

static void test_small_programs(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 150; i++) {
    test_random r = {.seed = test_seed() * 1000 + i};
    random_program c = make_program(&r, 30, 300);
    assert_true(check_program(&c, test_seed() * 1000 + i));
  }
}

static void test_large_programs(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 12; i++) {
    test_random r = {.seed = test_seed() * 1000 + 500 + i};
    random_program c = make_program(&r, i % 2 ? EW_MAX_INSTRUCTIONS : 6, 20000);
    assert_true(check_program(&c, test_seed() * 1000 + 500 + i));
  }
}

// Rows of every length about the block's: whole rows in a block, one, parts.
static void test_row_sums(void **state) {
  (void)state;
  static const int64_t lengths[] = {1, 2, 3, 20, 31, 128, 511, 512, 513, 784, 1500};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    random_program c;
    memset(&c, 0, sizeof c);
    c.n_float = 2;
    c.p.iteration = shape_of(3, (int64_t[]){37, lengths[i], i % 2 ? 1 : 2});
    c.in[0] = c.p.iteration;
    c.in[1] = shape_of(2, c.p.iteration.dim + 1);
    c.p.n_in = 2;
    c.p.n_instructions = 2;
    c.p.code[0] = (elementwise_instruction){.code = EW_MUL, .src = {0, 1}};
    c.p.code[1] = (elementwise_instruction){.code = EW_SQUARE, .src = {2}};
    c.p.n_out = 3;
    c.p.sum_axis = 1;
    c.p.out[0] = (elementwise_output){3, 1};
    c.p.out[1] = (elementwise_output){2, 0};
    c.p.out[2] = (elementwise_output){2, 1};
    assert_true(check_program(&c, test_seed() + i));
  }
}

// An output takes the memory of an input that later instructions still read: the result must not be written too early. And a sum as long
// as an input that every row reads.
static void test_in_place(void **state) {
  (void)state;
  random_program c;
  memset(&c, 0, sizeof c);
  c.n_float = 1;
  c.p.iteration = shape_of(1, (int64_t[]){4096});
  c.in[0] = c.p.iteration;
  c.p.n_in = 1;
  c.p.n_instructions = 3;
  c.p.code[0] = (elementwise_instruction){.code = EW_SCALE, .a = 2, .b = 1};
  c.p.code[1] = (elementwise_instruction){.code = EW_TANH, .src = {0}};
  c.p.code[2] = (elementwise_instruction){.code = EW_ADD, .src = {1, 2}};
  c.p.n_out = 2;
  c.p.out[0] = (elementwise_output){1, 0};
  c.p.out[1] = (elementwise_output){3, 0};
  assert_true(check_program(&c, test_seed()));
  memset(&c, 0, sizeof c);
  c.n_float = 2;
  c.p.iteration = shape_of(2, (int64_t[]){90, 90});
  c.in[0] = shape_of(1, (int64_t[]){90});
  c.in[1] = c.p.iteration;
  c.p.n_in = 2;
  c.p.n_instructions = 1;
  c.p.code[0] = (elementwise_instruction){.code = EW_ADD, .src = {0, 1}};
  c.p.n_out = 1;
  c.p.sum_axis = 1;
  c.p.out[0] = (elementwise_output){2, 1};
  assert_true(check_program(&c, test_seed()));
}

// --- what is refused, what is caught --------------------------------------------------------------------------------------------

static void test_refused(void **state) {
  (void)state;
  for (int kind = 0; kind < 6; kind++) {
    elbo_ctx *ctx = test_ctx(1);
    elbo_graph *g;
    elementwise_program p;
    memset(&p, 0, sizeof p);
    assert_ok(ctx, elbo_graph_create(ctx, "wrong", &g));
    elbo_tensor *in[2] = {elbo_input(g, "a", ELBO_F32, 1, (int64_t[]){4}), elbo_input(g, "i", ELBO_I64, 0, NULL)};
    p.iteration = shape_of(2, (int64_t[]){3, 4});
    p.n_in = 2;
    p.n_out = p.n_instructions = 1;
    p.code[0] = (elementwise_instruction){.code = EW_EXP};
    p.out[0].reg = 2;
    if (kind == 0) p.code[0].src[0] = 2;                                                           // its own result
    if (kind == 1) p.code[0].src[0] = 1;                                                           // an integer
    if (kind == 2) p.code[0] = (elementwise_instruction){.code = EW_RANDOM_NORMAL, .src = {0, 1}}; // no seed
    if (kind == 3) p.iteration.dim[1] = 5;                                                         // does not broadcast
    if (kind == 4) p.out[0].reg = 3;
    if (kind == 5) p.code[0].code = EW_CODE_COUNT;
    assert_null(graph_add_fused_elementwise(g, &p, 2, in));
    assert_status(ctx, elbo_graph_check(g), ELBO_ERROR_INTERNAL, "fused_elementwise: ");
    elbo_graph_destroy(&g);
    elbo_ctx_destroy(&ctx);
  }
}

// The fuse pass's own use: value, gradients and draws of a reparameterised Gaussian's loss, fused and not.
static elbo_tensor *build_loss(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *mu = elbo_input(g, "mu", ELBO_F32, 2, (int64_t[]){5, 20}),
              *logvar = elbo_input(g, "logvar", ELBO_F32, 2, (int64_t[]){5, 20});
  elbo_tensor *beta = elbo_input(g, "beta", ELBO_F32, 0, NULL);
  elbo_tensor *epsilon = elbo_random_normal(g, "epsilon", 2, (int64_t[]){5, 20});
  elbo_tensor *z = elbo_add(mu, elbo_mul(elbo_exp(elbo_scale(logvar, 0.5, 0)), epsilon));
  elbo_tensor *kl = elbo_scale(elbo_sub(elbo_add(elbo_square(mu), elbo_exp(logvar)), elbo_scale(logvar, 1.0, 1.0)), 0.5, 0);
  return elbo_add(elbo_sum_per_example(elbo_softplus(z)), elbo_mul(beta, elbo_sum_per_example(kl)));
}

static void test_loss(void **state) {
  (void)state;
  op_check check = {.name = "a Gaussian's loss", .seed = test_seed(), .orders = 2};
  assert_true(op_check_run(&check, build_loss, NULL));
}

// A checker that cannot fail proves nothing: a program whose oracle runs another one.
static void test_planted_bug(void **state) {
  (void)state;
  random_program c;
  memset(&c, 0, sizeof c);
  c.n_float = 1;
  c.in[0] = c.p.iteration = shape_of(1, (int64_t[]){50});
  c.p.n_in = c.p.n_instructions = c.p.n_out = 1;
  c.p.code[0] = (elementwise_instruction){.code = EW_GELU};
  c.p.out[0].reg = 1;
  double *gelu, *approximation;
  int64_t count, differing = 0;
  elbo_ctx *ctx = test_ctx(1);
  run_program(ctx, &c, ELBO_BACKEND_CPU, 1, &gelu, &count);
  c.p.code[0].code = EW_GELU_TANH; // differs from it by up to 5e-4
  run_program(ctx, &c, ELBO_BACKEND_REFERENCE, 1, &approximation, &count);
  for (int64_t i = 0; i < count; i++) differing += !(fabs(gelu[i] - approximation[i]) <= 2e-5);
  assert_true(differing > 0);
  free(gelu);
  free(approximation);
  elbo_ctx_destroy(&ctx);
}

static elbo_tensor *build_bench(elbo_graph *g, const void *arg) {
  (void)arg;
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, 2, (int64_t[]){128, 25088}),
              *logit = elbo_input(g, "logit", ELBO_F32, 2, (int64_t[]){128, 25088});
  return elbo_sum_per_example(elbo_sub(elbo_softplus(logit), elbo_mul(x, logit)));
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    op_check_bench(&(op_check){.name = "Bernoulli likelihood, a sum an example", .seed = 1}, build_bench, NULL);
    op_check_bench(&(op_check){.name = "a Gaussian's loss", .seed = 1}, build_loss, NULL);
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_small_programs), cmocka_unit_test(test_large_programs), cmocka_unit_test(test_row_sums),
      cmocka_unit_test(test_in_place),       cmocka_unit_test(test_refused),        cmocka_unit_test(test_loss),
      cmocka_unit_test(test_planted_bug),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
