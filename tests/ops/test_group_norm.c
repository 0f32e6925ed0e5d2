#include <math.h>

#include "builder_check.h"
#include "ops/norm.h"

enum { AGAIN = 1, RESIDUAL = 2, SUMS = 4, MODULATED = 8 };

typedef struct params {
  int rank;
  int64_t dim[ELBO_MAX_RANK];
  int groups;
  bool weight, bias;
  norm_act act;
  unsigned more; // of the fused gradient: AGAIN, RESIDUAL, SUMS; of the forward pass: MODULATED
  int64_t first; // build_two*: channels of the first of two parts
} params;

// A number for each image and channel.
static elbo_tensor *modulation(elbo_graph *g, const params *p, const char *name) {
  int64_t dim[ELBO_MAX_RANK];
  for (int i = 0; i < p->rank; i++) dim[i] = i == 0 || i == p->rank - 1 ? p->dim[i] : 1;
  return elbo_input(g, name, ELBO_F32, p->rank, dim);
}

static elbo_tensor *build(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *w = p->weight ? elbo_input(g, "weight", ELBO_F32, 1, &c) : NULL,
              *b = p->bias ? elbo_input(g, "bias", ELBO_F32, 1, &c) : NULL;
  elbo_tensor *y = elbo_group_norm(elbo_input(g, "x", ELBO_F32, p->rank, p->dim), w, b, p->groups, 1e-5);
  if (p->more & MODULATED) y = elbo_add(elbo_mul(y, modulation(g, p, "factor")), modulation(g, p, "shift"));
  switch (p->act) {
  case NORM_ACT_RELU: return elbo_relu(y);
  case NORM_ACT_LEAKY_RELU: return elbo_leaky_relu(y, 0.2);
  case NORM_ACT_SILU: return elbo_silu(y);
  default: return y;
  }
}

static void check(const params *p, uint64_t seed, int orders) {
  char name[128];
  snprintf(name, sizeof name, "group_norm (%d,%d,%d,%d,%d) groups %d weight %d bias %d act %d", (int)p->dim[0], (int)p->dim[1],
           (int)p->dim[2], (int)p->dim[3], (int)p->dim[4], p->groups, p->weight, p->bias, (int)p->act);
  assert_true(op_check_run(&(op_check){.name = name, .seed = seed, .orders = orders, .grad_tolerance = orders > 1 ? 1e-5 : 0}, build, p));
}

static void test_random_shapes(void **state) {
  (void)state;
  test_random r = {.seed = test_seed()};
  for (int i = 0; i < 14; i++) {
    params p = {.rank = (int)test_below(&r, 2, 5), .groups = (int)test_below(&r, 1, 5)};
    p.weight = test_below(&r, 0, 3) > 0, p.bias = test_below(&r, 0, 3) > 0;
    for (int d = 0; d < p.rank - 1; d++) p.dim[d] = test_below(&r, 1, p.rank == 5 ? 2 : 4);
    p.dim[p.rank - 1] = p.groups * test_below(&r, 1, 11);
    if (p.dim[p.rank - 1] == p.groups) p.dim[p.rank - 1] *= 2; // a group of one number is 0 whatever it is
    p.act = p.rank == 4 ? (norm_act)test_below(&r, 0, 3) : NORM_ACT_NONE;
    check(&p, test_seed() + (uint64_t)i, 1);
  }
}

// the three gradients as one row: dx, dweight, dbias
static elbo_tensor *build_plain_grad(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = build(g, arg), *dy = elbo_input(g, "dy", ELBO_F32, p->rank, p->dim), *wrt[3], *grad[3];
  int64_t c = p->dim[p->rank - 1];
  wrt[0] = elbo_input(g, "x", ELBO_F32, p->rank, p->dim);
  wrt[1] = elbo_input(g, "weight", ELBO_F32, 1, &c), wrt[2] = elbo_input(g, "bias", ELBO_F32, 1, &c);
  if (elbo_gradient(elbo_sum(elbo_mul(y, dy), ELBO_ALL_AXES, 0), 3, wrt, grad) != ELBO_OK) return NULL;
  const int64_t flat = -1;
  return elbo_concat(3, (elbo_tensor *[]){elbo_reshape(grad[0], 1, &flat), grad[1], grad[2]}, 0);
}

static void test_chosen_shapes(void **state) {
  (void)state;
  check(&(params){4, {2, 3, 3, 64}, 8, true, true, NORM_ACT_SILU, 0, 0}, 1, 1);
  check(&(params){4, {17, 2, 3, 12}, 3, true, false, NORM_ACT_LEAKY_RELU, 0, 0}, 4, 1); // whole images
  check(&(params){3, {70, 2, 9}, 1, false, true, NORM_ACT_RELU, 0, 0}, 5, 1);           // more images than blocks of dweight
  check(&(params){4, {5, 3, 3, 64}, 16, true, true, NORM_ACT_SILU, 0, 0}, 8, 1);        // ranges of groups of an image
  check(&(params){4, {9, 2, 3, 60}, 20, true, true, NORM_ACT_SILU, 0, 0}, 9, 1);        // uneven ones
  // an image in chunks, of uneven rows too; against the reference's gradients alone, as differences of so many numbers take long
  const params large[] = {{4, {1, 30, 30, 20}, 20, true, true, NORM_ACT_NONE, 0, 0},
                          {4, {2, 25, 33, 20}, 5, true, true, NORM_ACT_SILU, 0, 0}};
  for (int i = 0; i < 2; i++) {
    check(&large[i], 2, 0);
    assert_true(op_check_run(&(op_check){.name = "group_norm in chunks, gradients", .seed = 3}, build_plain_grad, &large[i]));
  }
}

static void test_second(void **state) {
  (void)state;
  check(&(params){4, {2, 2, 3, 6}, 2, true, true, NORM_ACT_NONE, 0, 0}, 6, 2);
  check(&(params){3, {3, 2, 8}, 4, false, false, NORM_ACT_SILU, 0, 0}, 7, 2);
}

static void test_threads(void **state) {
  (void)state;
  assert_threads_change_nothing(build, &(params){4, {2, 40, 40, 24}, 6, true, true, NORM_ACT_SILU, 0, 0});
  assert_threads_change_nothing(build, &(params){4, {37, 5, 5, 24}, 6, true, true, NORM_ACT_SILU, 0, 0});
}

// Numbers far from zero: a sum of squares in float32 would keep no digit of the variance.
static void test_large_mean(void **state) {
  (void)state;
  elbo_ctx *ctx = test_ctx(0);
  elbo_graph *g = NULL;
  elbo_plan *plan = NULL;
  test_random r = {.seed = 3};
  const int64_t count = 2 * 30 * 30 * 8;
  assert_ok(ctx, elbo_graph_create(ctx, "far", &g));
  elbo_tensor *y = elbo_group_norm(elbo_input(g, "x", ELBO_F32, 4, (int64_t[]){2, 30, 30, 8}), NULL, NULL, 2, 1e-5);
  assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, NULL, &plan));
  float *x = elbo_plan_input(plan, "x");
  for (int64_t i = 0; i < count; i++) x[i] = 4096.0f + (float)(int)(8 * test_uniform(&r));
  double mean = 0, square = 0;
  assert_ok(ctx, elbo_plan_run(plan, NULL));
  const float *out = elbo_plan_output(plan, 0);
  for (int64_t i = 0; i < count; i++) mean += (double)out[i] / (double)count, square += (double)out[i] * (double)out[i] / (double)count;
  assert_near(mean, 0.0, 1e-3); // half a unit in the last place of 4096 over a standard deviation of 2.3
  assert_near(square, 1.0, 1e-4);
  elbo_plan_destroy(&plan);
  elbo_graph_destroy(&g);
  elbo_ctx_destroy(&ctx);
}

// --- the fused form, which the fuse pass makes: against the plain one with its activation ---

static elbo_tensor *build_fused(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *w = p->weight ? elbo_input(g, "weight", ELBO_F32, 1, &c) : NULL,
              *b = p->bias ? elbo_input(g, "bias", ELBO_F32, 1, &c) : NULL;
  elbo_tensor *in[FUSED_NORM_INPUTS] = {elbo_input(g, "x", ELBO_F32, p->rank, p->dim), w, b};
  if (p->more & MODULATED) in[NORM_FACTOR] = modulation(g, p, "factor"), in[NORM_SHIFT] = modulation(g, p, "shift");
  node *n = graph_add_fused_group_norm(g, in, p->groups, 1e-5, p->act, 0.2);
  return n ? n->out[0] : NULL;
}

static elbo_tensor *build_fused_grad(elbo_graph *g, const void *arg) {
  const params *p = arg;
  int64_t c = p->dim[p->rank - 1];
  elbo_tensor *x = elbo_input(g, "x", ELBO_F32, p->rank, p->dim), *dy = elbo_input(g, "dy", ELBO_F32, p->rank, p->dim);
  elbo_tensor *w = p->weight ? elbo_input(g, "weight", ELBO_F32, 1, &c) : NULL,
              *b = p->bias ? elbo_input(g, "bias", ELBO_F32, 1, &c) : NULL;
  node *y = graph_add_fused_group_norm(g, (elbo_tensor *[FUSED_NORM_INPUTS]){x, w, b}, p->groups, 1e-5, p->act, 0.2);
  if (!y) return NULL;
  group_norm_attr attr = {
      .groups = p->groups, .eps = 1e-5, .act = p->act, .slope = 0.2, .again = (p->more & AGAIN) != 0, .sums = (p->more & SUMS) != 0};
  elbo_tensor *residual = p->more & RESIDUAL ? elbo_input(g, "residual", ELBO_F32, p->rank, p->dim) : NULL;
  node *n = graph_add_fused_group_norm_grad(g, x, w, b, y->out[1], y->out[2], dy, residual, &attr);
  if (!n) return NULL;
  const int64_t flat = -1;
  elbo_tensor *out[5] = {elbo_reshape(n->out[0], 1, &flat), n->out[1], n->out[2]};
  int count = 3;
  if (p->more & AGAIN) out[count++] = elbo_reshape(n->out[3], 1, &flat);
  if (p->more & SUMS) out[count++] = elbo_reshape(n->out[4], 1, &flat);
  return elbo_concat(count, out, 0);
}

// As build_fused_grad with a residual and sums, of plain operations behind it.
static elbo_tensor *build_sums_apart(elbo_graph *g, const void *arg) {
  params alone = *(const params *)arg;
  const int64_t flat = -1, c = alone.dim[alone.rank - 1];
  int64_t count = 1;
  for (int i = 0; i < alone.rank; i++) count *= alone.dim[i];
  alone.more = 0;
  elbo_tensor *all = build_fused_grad(g, &alone), *residual = elbo_input(g, "residual", ELBO_F32, alone.rank, alone.dim);
  if (!all) return NULL;
  elbo_tensor *dx = elbo_add(elbo_slice(all, 0, 0, count), elbo_reshape(residual, 1, &flat));
  elbo_tensor *sums = elbo_sum(elbo_reshape(dx, 3, (int64_t[]){alone.dim[0], -1, c}), 1u << 1, 0);
  return elbo_concat(3, (elbo_tensor *[]){dx, elbo_slice(all, 0, count, count + 2 * c), elbo_reshape(sums, 1, &flat)}, 0);
}

// As build_fused_grad with `again`, of the plain forward pass.
static elbo_tensor *build_grad_and_value(elbo_graph *g, const void *arg) {
  params once = *(const params *)arg;
  once.more = 0;
  const int64_t flat = -1;
  elbo_tensor *grad = build_fused_grad(g, &once), *y = grad ? build_fused(g, &once) : NULL;
  return y ? elbo_concat(2, (elbo_tensor *[]){grad, elbo_reshape(y, 1, &flat)}, 0) : NULL;
}

// --- the fused form of two tensors, each with a part of the channels ---

// The fused node n, of x ++ x2, which are parts of the input "x": so that the same inputs serve with one tensor.
static node *of_two(elbo_graph *g, const params *p, const node *n) {
  if (!n) return NULL;
  const int last = p->rank - 1;
  elbo_tensor *x = n->in[0];
  return graph_add_group_norm_of_two(g, n, n->in, elbo_slice(x, last, 0, p->first), elbo_slice(x, last, p->first, p->dim[last]));
}

static elbo_tensor *build_two(elbo_graph *g, const void *arg) {
  elbo_tensor *one = build_fused(g, arg);
  node *n = one ? of_two(g, arg, one->producer) : NULL;
  const int64_t flat = -1;
  return n ? elbo_concat(
                 3,
                 (elbo_tensor *[]){elbo_reshape(n->out[0], 1, &flat), elbo_reshape(n->out[1], 1, &flat), elbo_reshape(n->out[2], 1, &flat)},
                 0)
           : NULL;
}

static elbo_tensor *fused_and_statistics(elbo_graph *g, const void *arg) {
  elbo_tensor *y = build_fused(g, arg);
  const int64_t flat = -1;
  return y ? elbo_concat(3,
                         (elbo_tensor *[]){elbo_reshape(y, 1, &flat), elbo_reshape(y->producer->out[1], 1, &flat),
                                           elbo_reshape(y->producer->out[2], 1, &flat)},
                         0)
           : NULL;
}

// As build_fused_grad, in the same order of numbers.
static elbo_tensor *build_two_grad(elbo_graph *g, const void *arg) {
  const params *p = arg;
  const int64_t flat = -1;
  elbo_tensor *all = build_fused_grad(g, arg);
  node *n = all ? of_two(g, p, all->producer->in[1]->producer) : NULL;
  if (!n) return NULL;
  elbo_tensor *dx = elbo_concat(2, (elbo_tensor *[]){n->out[0], n->out[5]}, p->rank - 1), *out[5] = {elbo_reshape(dx, 1, &flat)};
  int count = 1;
  for (int i = 1; i < 5; i++)
    if (i < 3 || p->more & (i == 3 ? AGAIN : SUMS)) out[count++] = elbo_reshape(n->out[i], 1, &flat);
  return elbo_concat(count, out, 0);
}

// The statistics alone, of one tensor or of two, in one row.
static elbo_tensor *build_statistics(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = build_fused(g, arg);
  if (!y) return NULL;
  elbo_tensor *in[FUSED_NORM_INPUTS];
  for (int i = 0; i < FUSED_NORM_INPUTS; i++) in[i] = y->producer->in[i];
  const int last = p->rank - 1;
  if (p->first) in[NORM_X2] = elbo_slice(in[0], last, p->first, p->dim[last]), in[0] = elbo_slice(in[0], last, 0, p->first);
  node *n = graph_add_group_norm_statistics(g, y->producer, in);
  elbo_tensor *out[3];
  for (int i = 0; n && i < 3; i++) out[i] = elbo_reshape(n->out[i], 1, &(int64_t){-1});
  return n ? elbo_concat(3, out, 0) : NULL;
}

// (x - mean) scale + bias by the statistics' channels, and the statistics.
static elbo_tensor *build_by_statistics(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = build_fused(g, arg);
  if (!y) return NULL;
  const node *norm = y->producer;
  elbo_tensor *in[FUSED_NORM_INPUTS] = {norm->in[0], norm->in[1], norm->in[2], NULL, norm->in[NORM_FACTOR], norm->in[NORM_SHIFT]}, *row[3];
  node *n = graph_add_group_norm_statistics(g, norm, in);
  for (int i = 0; n && i < 3; i++)
    row[i] = elbo_reshape(elbo_slice(n->out[0], 1, i, i + 1), p->rank, (int64_t[]){p->dim[0], 1, 1, p->dim[p->rank - 1]});
  return n ? elbo_add(elbo_mul(elbo_sub(in[0], row[0]), row[1]), row[2]) : NULL;
}

// The references of two graphs on the same inputs.
static void assert_same_reference(op_build_fn a, op_build_fn b, const params *p) {
  elbo_ctx *ctx = test_ctx(1);
  op_build_fn build_of[] = {a, b};
  double *kept = NULL;
  int64_t count = 0;
  for (int i = 0; i < 2; i++) {
    elbo_graph *g = NULL;
    elbo_plan *plan = NULL;
    elbo_plan_config config;
    test_random r = {.seed = 11};
    elbo_plan_defaults(&config);
    config.backend = ELBO_BACKEND_REFERENCE;
    assert_ok(ctx, elbo_graph_create(ctx, "fused", &g));
    elbo_tensor *y = build_of[i](g, p);
    assert_ok(ctx, elbo_graph_check(g));
    assert_ok(ctx, elbo_plan_create(ctx, g, 1, &y, &config, &plan));
    const char *names[] = {"x", "weight", "bias", "dy", "residual"};
    for (int k = 0; k < (p->more & RESIDUAL ? 5 : 4); k++) {
      double *x = elbo_plan_input(plan, names[k]);
      for (size_t e = 0; e < elbo_plan_input_bytes(plan, names[k]) / sizeof *x; e++) x[e] = test_normal(&r);
    }
    assert_ok(ctx, elbo_plan_run(plan, NULL));
    const double *out = elbo_plan_output(plan, 0);
    if (i == 0) {
      count = shape_count(&y->shape);
      kept = malloc((size_t)count * sizeof *kept);
      assert_non_null(kept);
      memcpy(kept, out, (size_t)count * sizeof *kept);
    } else {
      for (int64_t e = 0; e < count; e++) assert_near(out[e], kept[e], 1e-11);
    }
    elbo_plan_destroy(&plan);
    elbo_graph_destroy(&g);
  }
  free(kept);
  elbo_ctx_destroy(&ctx);
}

static void test_fused(void **state) {
  (void)state;
  for (int act = NORM_ACT_NONE; act <= NORM_ACT_SILU; act++) {
    params p[] = {{4, {2, 3, 5, 22}, 2, true, true, (norm_act)act, 0, 0},
                  {4, {18, 3, 2, 37}, 1, true, true, (norm_act)act, 0, 0},
                  {4, {1, 33, 17, 72}, 8, true, true, (norm_act)act, 0, 0}};
    for (int i = 0; i < (act == NORM_ACT_SILU ? 3 : 2); i++) {
      op_check c = {.name = "fused_group_norm", .seed = (uint64_t)i + 20};
      assert_true(op_check_run(&c, build_fused, &p[i]));
      c.name = "fused_group_norm_grad";
      assert_true(op_check_run(&c, build_fused_grad, &p[i]));
      for (p[i].more = 1; p[i].more <= (AGAIN | RESIDUAL | SUMS); p[i].more++) {
        char name[64];
        snprintf(name, sizeof name, "fused_group_norm_grad, with %s%s%s", p[i].more & AGAIN ? "y " : "",
                 p[i].more & RESIDUAL ? "residual " : "", p[i].more & SUMS ? "sums" : "");
        c.name = name;
        assert_true(op_check_run(&c, build_fused_grad, &p[i]));
      }
      p[i].more = MODULATED;
      c.name = "fused_group_norm, modulated";
      assert_true(op_check_run(&c, build_fused, &p[i]));
      assert_same_reference(build, build_fused, &p[i]);
      p[i].more = 0;
    }
    p[0].more = RESIDUAL | SUMS;
    assert_same_reference(build_sums_apart, build_fused_grad, &p[0]);
    p[0].more = AGAIN;
    assert_same_reference(build_grad_and_value, build_fused_grad, &p[0]);
    p[0].more = 0;
    assert_same_reference(build, build_fused, &p[0]);
    assert_same_reference(build_plain_grad, build_fused_grad, &p[0]);
  }
}

// Images as wholes and in chunks; of two tensors too.
static void test_statistics(void **state) {
  (void)state;
  params p[] = {{4, {2, 3, 5, 22}, 2, true, true, NORM_ACT_NONE, 0, 0},    {4, {18, 3, 2, 37}, 1, true, false, NORM_ACT_NONE, 0, 1},
                {4, {2, 3, 3, 96}, 8, false, true, NORM_ACT_NONE, 0, 64},  {4, {5, 3, 3, 64}, 16, false, false, NORM_ACT_NONE, 0, 33},
                {4, {1, 33, 17, 72}, 8, true, true, NORM_ACT_NONE, 0, 31}, {4, {1, 33, 17, 72}, 8, true, true, NORM_ACT_NONE, 0, 0}};
  for (int i = 0; i < 6; i++) {
    op_check c = {.name = "group_norm_statistics", .seed = (uint64_t)i + 60};
    assert_true(op_check_run(&c, build_statistics, &p[i]));
    p[i].more = MODULATED;
    c.name = "group_norm_statistics, modulated";
    assert_true(op_check_run(&c, build_statistics, &p[i]));
    if (i == 0) assert_same_reference(build_by_statistics, build_fused, &p[i]);
    p[i].more = 0;
  }
  assert_same_reference(build_by_statistics, build_fused, &p[0]);
}

// For a check that differentiates, which the fused operations do not know: the way through "k" alone.
static elbo_tensor *build_two_grad_alone(elbo_graph *g, const void *arg) {
  elbo_tensor *y = build_two_grad(g, arg);
  return y ? elbo_mul(elbo_stop_gradient(y), elbo_input(g, "k", ELBO_F32, 1, (int64_t[]){1})) : NULL;
}

// Groups across the boundary, parts of less than a vector, odd ones; images as wholes, in ranges of groups, and in chunks.
static void test_two_parts(void **state) {
  (void)state;
  for (int act = NORM_ACT_NONE; act <= NORM_ACT_SILU; act++) {
    params p[] = {{4, {2, 3, 5, 22}, 2, true, true, (norm_act)act, 0, 7},
                  {4, {18, 3, 2, 37}, 1, true, true, (norm_act)act, 0, 1},
                  {4, {2, 3, 3, 96}, 8, true, true, (norm_act)act, 0, 64},
                  {4, {5, 3, 3, 64}, 16, false, true, (norm_act)act, 0, 33},
                  {4, {1, 33, 17, 72}, 8, true, true, (norm_act)act, 0, 31}};
    for (int i = 0; i < (act == NORM_ACT_SILU ? 5 : 4); i++) {
      op_check c = {.name = "fused_group_norm of two", .seed = (uint64_t)i + 40};
      assert_true(op_check_run(&c, build_two, &p[i]));
      c.name = "fused_group_norm_grad of two";
      for (unsigned more = 0; more < 4; more++) {
        p[i].more = (more & 1 ? AGAIN : 0) | (more & 2 ? SUMS : 0);
        assert_true(op_check_run(&c, build_two_grad, &p[i]));
      }
      if (i == 4) continue;
      assert_same_reference(fused_and_statistics, build_two, &p[i]);
      assert_same_reference(build_fused_grad, build_two_grad, &p[i]);
    }
  }
  assert_threads_change_nothing(build_two_grad_alone, &(params){4, {2, 40, 40, 24}, 6, true, true, NORM_ACT_SILU, AGAIN | SUMS, 10});
  assert_threads_change_nothing(build_two_grad_alone, &(params){4, {37, 5, 5, 24}, 6, true, true, NORM_ACT_SILU, AGAIN | SUMS, 10});
}

// x2 that is no such part.
static elbo_tensor *build_two_odd(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *y = build_fused(g, arg), *x2 = elbo_input(g, "x2", ELBO_F32, 4, (int64_t[]){p->dim[0], p->dim[1], p->dim[2] + 1, 4});
  node *n = y ? graph_add_group_norm_of_two(g, y->producer, y->producer->in, y->producer->in[0], x2) : NULL;
  return n ? n->out[0] : NULL;
}

// A factor without a shift, or (first > 0) for other channels.
static elbo_tensor *build_half_modulated(elbo_graph *g, const void *arg) {
  const params *p = arg;
  elbo_tensor *in[FUSED_NORM_INPUTS] = {elbo_input(g, "x", ELBO_F32, p->rank, p->dim)};
  in[NORM_FACTOR] = elbo_input(g, "factor", ELBO_F32, 4, (int64_t[]){p->dim[0], 1, 1, p->dim[3] + p->first});
  if (p->first) in[NORM_SHIFT] = in[NORM_FACTOR];
  node *n = graph_add_fused_group_norm(g, in, p->groups, 1e-5, p->act, 0);
  return n ? n->out[0] : NULL;
}

static void test_refused(void **state) {
  (void)state;
  params residual = {4, {1, 2, 2, 10}, 5, true, true, NORM_ACT_SILU, RESIDUAL, 4};
  assert_build_refused(build_two_odd, &residual, "x2 is float32 (1,2,3,4); it must agree but for the channels");
  assert_build_refused(build_two_grad, &residual, "in two parts: residual has shape (1,2,2,10)");
  assert_build_refused(build_half_modulated, &(params){4, {1, 2, 2, 10}, 5, false, false, NORM_ACT_SILU, 0, 0},
                       "factor and shift are (1,1,1,10) and none; both must be float32 (B,1,...,1,C)");
  assert_build_refused(build_half_modulated, &(params){4, {1, 2, 2, 10}, 5, false, false, NORM_ACT_SILU, 0, 1},
                       "factor and shift are (1,1,1,11) and (1,1,1,11); both must be");
  assert_build_refused(build, &(params){4, {1, 2, 2, 10}, 4, true, true, 0, 0, 0}, "10 channels do not come apart into 4 equal groups");
  assert_build_refused(build, &(params){1, {10}, 1, false, false, 0, 0, 0}, "group_norm of float32 (10)");
}

int main(int argc, char **argv) {
  op_check_bench_arguments(argc, argv);
  if (op_check_benching()) {
    const int64_t shapes[][4] = {{128, 14, 14, 32}, {128, 16, 16, 64}, {128, 8, 8, 128},
                                 {32, 32, 32, 128}, {16, 8, 8, 512},   {1, 256, 256, 128}};
    for (int i = 0; i < 6; i++) {
      params p = {4, {shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]}, 8, true, true, NORM_ACT_SILU, 0, 0};
      char name[64];
      snprintf(name, sizeof name, "+silu (%d,%d,%d,%d)", (int)p.dim[0], (int)p.dim[1], (int)p.dim[2], (int)p.dim[3]);
      op_check_bench(&(op_check){.name = name, .orders = 1}, build, &p);
      op_check_bench(&(op_check){.name = name}, build_fused_grad, &p);
    }
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_shapes), cmocka_unit_test(test_chosen_shapes), cmocka_unit_test(test_second),
      cmocka_unit_test(test_threads),       cmocka_unit_test(test_large_mean),    cmocka_unit_test(test_fused),
      cmocka_unit_test(test_two_parts),     cmocka_unit_test(test_statistics),    cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
