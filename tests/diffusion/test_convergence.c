// The order of every sampler, on mixtures of Gaussians, whose score is known. Nodes uniform in log-SNR from a high noise level to a fixed
// one above zero, no lower orders at the end; errors against the probability flow solved finely, and of stochastic samplers against the
// exact mean and variance. `--bench` prints the table of slopes.
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "diffusion/schedule.h"

enum { D = 2, COMPONENTS = 3, ROWS = 4, RUNS = 5 };
static const int step_counts[RUNS] = {16, 32, 64, 128, 256};

static elbo_ctx *ctx;
static bool benching;

// --- data: a mixture with equal weights and one deviation, or (wide) a single Gaussian ---
typedef struct mixture {
  int components;
  double centre[COMPONENTS][D], deviation;
} mixture;
static const mixture three = {3, {{1, 0.3}, {-0.8, 0.6}, {0.1, -1}}, 0.5};
static const mixture single = {1, {{0.7, 0}}, 0.6};

// epsilon = -sigma grad log q(x) of q = sum of N(alpha c, alpha^2 d^2 + sigma^2)
static void exact_epsilon(const mixture *m, int dim, double alpha, double sigma, const double *x, double *out) {
  double variance = alpha * alpha * m->deviation * m->deviation + sigma * sigma, weight[COMPONENTS], most = -INFINITY, sum = 0;
  for (int c = 0; c < m->components; c++) {
    weight[c] = 0;
    for (int i = 0; i < dim; i++) weight[c] -= (x[i] - alpha * m->centre[c][i]) * (x[i] - alpha * m->centre[c][i]) / (2 * variance);
    most = fmax(most, weight[c]);
  }
  for (int c = 0; c < m->components; c++) sum += weight[c] = exp(weight[c] - most);
  for (int i = 0; i < dim; i++) {
    out[i] = 0;
    for (int c = 0; c < m->components; c++) out[i] += weight[c] / sum * (x[i] - alpha * m->centre[c][i]) * sigma / variance;
  }
}

// The flow in y = x / alpha over u = log(sigma / alpha): dy/du = e^u epsilon. Classical Runge-Kutta.
static void exact_flow(const mixture *m, double from, double to, double *y) {
  int steps = 1 + (int)(fabs(to - from) * 600);
  double h = (to - from) / steps, k[4][D], at[D];
  static const double part[4] = {0, 0.5, 0.5, 1}, weight[4] = {1 / 6.0, 1 / 3.0, 1 / 3.0, 1 / 6.0};
  for (int s = 0; s < steps; s++) {
    double u = from + s * h;
    for (int stage = 0; stage < 4; stage++) {
      double level = exp(u + part[stage] * h);
      for (int i = 0; i < D; i++) at[i] = y[i] + (stage ? part[stage] * h * k[stage - 1][i] : 0);
      exact_epsilon(m, D, 1, level, at, k[stage]);
      for (int i = 0; i < D; i++) k[stage][i] *= level;
    }
    for (int i = 0; i < D; i++)
      for (int stage = 0; stage < 4; stage++) y[i] += h * weight[stage] * k[stage][i];
  }
}

// --- one run ---
typedef struct problem {
  const mixture *data;
  const process *process;
  int prediction, rows, dim;
  int exact_steps;       // states replaced by exact ones after so many steps
  double start[ROWS][D]; // x / alpha at the first node
  double first;          // log level there
} problem;

static elbo_status network(void *user, const double *x, double time, double *out) {
  const problem *q = user;
  process_type type = process_kind(q->process);
  process_point at = process_at(q->process, type == PROCESS_FLOW ? time / 1000 : time); // without a shift sigma is t
  if (type == PROCESS_VE || type == PROCESS_EDM) at = (process_point){.alpha = 1, .sigma = type == PROCESS_VE ? time : exp(4 * time)};
  for (int row = 0; row < q->rows; row++) {
    double epsilon[D], x0;
    exact_epsilon(q->data, q->dim, at.alpha, at.sigma, x + row * q->dim, epsilon);
    for (int i = 0; i < q->dim; i++) {
      x0 = (x[row * q->dim + i] - at.sigma * epsilon[i]) / at.alpha;
      prediction_from_x0_epsilon(q->prediction, at.alpha, at.sigma, 0.5, 1, &x0, &epsilon[i], out + row * q->dim + i);
    }
  }
  return ELBO_OK;
}

static bool exact_start(void *user, int step, double alpha, double sigma, double *x) {
  const problem *q = user;
  if (step >= q->exact_steps) return false;
  for (int row = 0; row < q->rows; row++) {
    double y[D] = {q->start[row][0], q->start[row][1]};
    exact_flow(q->data, q->first, log(sigma / alpha), y);
    for (int i = 0; i < D; i++) x[row * D + i] = alpha * y[i];
  }
  return true;
}

static process *make_process(int type) {
  process *p;
  process_config c = {.type = type, .logsnr_min = -6, .logsnr_max = 3, .shift = 1, .sigma_min = 0.2, .sigma_max = 20, .rho = 7};
  assert_ok(ctx, process_create(ctx, &c, "test", &p));
  return p;
}

static scheduler_config make_scheduler(const char *text, int prediction) {
  scheduler_config c = {.class_ = SCHEDULER_OWN, .prediction = prediction, .sigma_data = 0.5};
  char full[200];
  arena *memory = arena_create(1 << 14);
  yaml_node *root;
  snprintf(full, sizeof full, "{spacing: logsnr, final: end, lower_order_final: false, t_end: 0, %s}", text);
  assert_ok(ctx, yaml_parse(ctx, memory, "test", full, strlen(full), &root));
  assert_ok(ctx, config_load(ctx, memory, &sampler_table, root, "sample", &c.own));
  arena_destroy(&memory);
  return c;
}

// Least squares of -log2 |error| over log2 steps. An error that changes its sign is small there by chance: the runs behind count.
static double slope_of(const double *error) {
  double sum = 0, norm = 0;
  int from = 0;
  for (int i = 1; i < RUNS; i++)
    if (error[i] * error[i - 1] < 0) from = i;
  if (from > RUNS - 3) return NAN;
  for (int i = from; i < RUNS; i++) {
    double place = i - (from + RUNS - 1) / 2.0;
    sum -= place * log2(fabs(error[i]));
    norm += place * place;
  }
  return sum / norm;
}

// The error of the last states for each number of steps; `exact`: multistep solvers start from exact values.
static void flow_errors(const char *text, int prediction, int which, bool exact, double *error, int *order) {
  process *p = make_process(which);
  scheduler_config c = make_scheduler(text, prediction);
  if (which == PROCESS_FLOW) c.own.t_end = 0.2;
  for (int run = 0; run < RUNS; run++) {
    schedule plan;
    double x[ROWS * D];
    int64_t index[ROWS] = {0, 1, 2, 3};
    assert_ok(ctx, schedule_make(ctx, &c, p, step_counts[run], &plan));
    solver_node first = plan.node[0], last = plan.target[plan.steps - 1];
    double scale = plan.space == STATE_RATIO ? 1 : first.alpha, end = plan.space == STATE_RATIO ? 1 : last.alpha;
    *order = sampler_order(&plan);
    problem q = {.data = &three, .process = p, .prediction = prediction, .rows = ROWS, .dim = D, .exact_steps = exact ? *order : 0};
    q.first = log(first.sigma / first.alpha);
    for (int i = 0; i < ROWS * D; i++) {
      q.start[i / D][i % D] = (0.8 * (i % 3) - 0.9 + 0.11 * i) * first.sigma / first.alpha;
      x[i] = q.start[i / D][i % D] * scale / plan.first_scale;
    }
    sampler_request r = {.scheduler = &c,
                         .process = p,
                         .rows = ROWS,
                         .size = D,
                         .steps = step_counts[run],
                         .sample_index = index,
                         .network = network,
                         .user = &q,
                         .state = exact_start,
                         .hook_user = &q};
    assert_ok(ctx, sampler_run(ctx, &r, x, NULL));
    error[run] = 0;
    for (int row = 0; row < ROWS; row++) {
      double y[D] = {q.start[row][0], q.start[row][1]};
      exact_flow(&three, q.first, log(last.sigma / last.alpha), y);
      for (int i = 0; i < D; i++) error[run] = fmax(error[run], fabs(x[row * D + i] / end - y[i]));
    }
    schedule_free(&plan);
  }
  process_destroy(&p);
}

typedef struct solver_case {
  const char *text;
  bool multistep;
  int process;
} solver_case;

static const solver_case solvers[] = {
    {"sampler: ddim", false, PROCESS_LINEAR},
    {"sampler: euler", false, PROCESS_LINEAR},
    {"sampler: heun", false, PROCESS_LINEAR},
    {"sampler: heun", false, PROCESS_VE},
    {"sampler: edm", false, PROCESS_LINEAR},
    {"sampler: dpm2", false, PROCESS_LINEAR},
    {"sampler: dpm_solver_1", false, PROCESS_LINEAR},
    {"sampler: dpm_solver_2", false, PROCESS_LINEAR},
    {"sampler: dpm_solver_3", false, PROCESS_LINEAR},
    {"sampler: dpm_solver_3", false, PROCESS_COSINE},
    {"sampler: dpmpp_2s", false, PROCESS_LINEAR},
    {"sampler: flow_euler", false, PROCESS_FLOW},
    {"sampler: flow_heun", false, PROCESS_FLOW},
    {"sampler: pndm", false, PROCESS_LINEAR},
    {"sampler: plms", false, PROCESS_LINEAR},
    {"sampler: ipndm", true, PROCESS_LINEAR},
    {"sampler: lms", true, PROCESS_LINEAR},
    {"sampler: lms, order: 3", true, PROCESS_LINEAR},
    {"sampler: dpmpp_2m", true, PROCESS_LINEAR},
    {"sampler: dpmpp_2m", true, PROCESS_FLOW},
    {"sampler: dpmpp_3m", true, PROCESS_LINEAR},
    {"sampler: dpmpp_3m", true, PROCESS_SIGMOID},
    {"sampler: unipc, order: 1", true, PROCESS_LINEAR},
    {"sampler: unipc, order: 2", true, PROCESS_LINEAR},
    {"sampler: unipc, order: 3", true, PROCESS_LINEAR},
    {"sampler: deis, order: 1", true, PROCESS_LINEAR},
    {"sampler: deis, order: 2", true, PROCESS_LINEAR},
    {"sampler: deis, order: 3", true, PROCESS_LINEAR},
    {"sampler: sa_solver, order: 1", true, PROCESS_LINEAR},
    {"sampler: sa_solver, order: 2", true, PROCESS_LINEAR},
    {"sampler: sa_solver, order: 3", true, PROCESS_LINEAR},
};

static void test_deterministic(void **state) {
  (void)state;
  int bad = 0;
  for (size_t i = 0; i < sizeof solvers / sizeof *solvers; i++)
    for (int exact = 0; exact <= solvers[i].multistep; exact++) {
      const solver_case *c = &solvers[i];
      int prediction = c->process == PROCESS_FLOW ? PREDICT_FLOW
                       : i % 3 == 0               ? PREDICT_V
                       : i % 3 == 1               ? PREDICT_EPSILON
                                                  : PREDICT_X0,
          order;
      double error[RUNS], slope, wanted;
      flow_errors(c->text, prediction, c->process, exact, error, &order);
      slope = slope_of(error);
      wanted = (c->multistep && !exact && order > 2 ? 2 : order) - 0.3;
      bool good = slope >= wanted;
      bad += !good;
      if (!good || benching)
        print_message("%-32s process %d %-11s order %d slope %5.2f (%.2f asked)  errors %.1e %.1e %.1e %.1e %.1e%s\n", c->text, c->process,
                      c->multistep ? exact ? "exact start" : "own start" : "", order, slope, wanted, error[0], error[1], error[2], error[3],
                      error[4], good ? "" : "  <<<");
    }
  if (bad) fail_msg("%d slopes are too small", bad);
}

// --- stochastic samplers on one Gaussian in one dimension: every step is affine, so that the gains of the start and of each draw give the
// exact mean and variance of the last state, with no sampling error ---
enum { DRAWS_MAX = 520 };

static void impulse(void *user, int64_t draw, double *out) {
  int64_t rows = *(const int64_t *)user;
  for (int64_t row = 0; row < rows; row++) out[row] = row - 2 == draw;
}

// Off the data's own marginal at the start (its mean moved, its variance smaller), so that both errors show: along the SDE whose noise is
// tau2 times that of the reversed process, a deviation shrinks by (flow) sqrt(V'/V) times (alpha / alpha' sqrt(V'/V))^tau2, V the
// marginal's variance.
static void moment_errors(const char *text, double tau2, int which, double *mean_error, double *variance_error) {
  process *p = make_process(which);
  for (int run = 0; run < RUNS; run++) {
    scheduler_config c = make_scheduler(text, PREDICT_EPSILON);
    schedule plan;
    int64_t rows = DRAWS_MAX + 2, index[DRAWS_MAX + 2];
    static double x[DRAWS_MAX + 2];
    for (int64_t i = 0; i < rows; i++) index[i] = i, x[i] = 0;
    assert_ok(ctx, schedule_make(ctx, &c, p, step_counts[run], &plan));
    solver_node first = plan.node[0], last = plan.target[plan.steps - 1];
    double to_first = plan.space == STATE_RATIO ? first.alpha : 1, to_last = plan.space == STATE_RATIO ? last.alpha : 1;
    x[1] = 1 / plan.first_scale / to_first;
    problem q = {.data = &single, .process = p, .prediction = PREDICT_EPSILON, .rows = (int)rows, .dim = 1};
    sampler_request r = {.scheduler = &c,
                         .process = p,
                         .rows = rows,
                         .size = 1,
                         .steps = step_counts[run],
                         .sample_index = index,
                         .network = network,
                         .user = &q,
                         .noise = impulse,
                         .hook_user = &rows};
    assert_ok(ctx, sampler_run(ctx, &r, x, NULL));
    double c0 = single.centre[0][0], d2 = single.deviation * single.deviation, gain = (x[1] - x[0]) * to_last;
    double V0 = first.alpha * first.alpha * d2 + first.sigma * first.sigma, V1 = last.alpha * last.alpha * d2 + last.sigma * last.sigma;
    double exact_gain = sqrt(V1 / V0) * pow(first.alpha / last.alpha * sqrt(V1 / V0), tau2), off = tau2 < 0 ? 0 : 40 * sqrt(V0),
           less = tau2 < 0 ? 0 : -0.7 * V0;
    double mean = x[0] * to_last + gain * (first.alpha * c0 + off), variance = gain * gain * (V0 + less);
    for (int64_t i = 2; i < rows; i++) variance += (x[i] - x[0]) * (x[i] - x[0]) * to_last * to_last;
    mean_error[run] = mean - last.alpha * c0 - exact_gain * off;
    variance_error[run] = variance - V1 - exact_gain * exact_gain * less;
    schedule_free(&plan);
  }
  process_destroy(&p);
}

static void test_stochastic(void **state) {
  (void)state;
  static const struct {
    const char *text;
    double tau2; // below 0: not known in closed form; from the marginal itself
  } cases[] = {{"sampler: ddpm", 1},
               {"sampler: ddpm, variance: fixed_large", 1},
               {"sampler: ddim, eta: 1", 1},
               {"sampler: ddim, eta: 0.5", 0.25},
               {"sampler: euler_a", 1},
               {"sampler: edm, s_churn: 4, s_tmin: 0.3, s_tmax: 20", -1},
               {"sampler: dpm2_a", 1},
               {"sampler: dpmpp_sde", 1},
               {"sampler: dpmpp_2m_sde", 1},
               {"sampler: dpmpp_3m_sde", 1},
               {"sampler: sa_solver, eta: 1, order: 1", 1},
               {"sampler: sa_solver, eta: 1, order: 2", 1},
               {"sampler: sa_solver, eta: 0.6, order: 3", 0.36},
               {"sampler: pc, corrector_steps: 0", 1}};
  int bad = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int which = PROCESS_LINEAR; which <= PROCESS_VE; which += PROCESS_VE - PROCESS_LINEAR) {
      double m[RUNS], v[RUNS];
      moment_errors(cases[i].text, cases[i].tau2, which, m, v);
      double a = slope_of(m), b = slope_of(v);
      bool good = (a >= 0.7 || fabs(m[0]) < 1e-12) && b >= 0.7; // most solvers keep the mean of a Gaussian exactly
      bad += !good;
      if (!good || benching)
        print_message("%-50s process %d mean %5.2f (%.1e %.1e %.1e %.1e %.1e) variance %5.2f (%.1e %.1e %.1e %.1e %.1e)%s\n", cases[i].text,
                      which, a, m[0], m[1], m[2], m[3], m[4], b, v[0], v[1], v[2], v[3], v[4], good ? "" : "  <<<");
    }
  if (bad) fail_msg("%d slopes are too small", bad);
}

// On a mixture itself, with many paths from the exact marginal: the error of mean and variance against the data's own. First-order solvers,
// so that the errors stand out of the sampling noise; of the others the error at 32 steps must be within it.
enum { PATHS = 30000 };

static void mixture_moments(const char *text, int steps, double *mean_error, double *variance_error) {
  static double x[PATHS];
  static int64_t index[PATHS];
  process *p = make_process(PROCESS_LINEAR);
  scheduler_config c = make_scheduler(text, PREDICT_V);
  schedule plan;
  test_random random = {3, 0};
  mixture data = three;
  data.deviation = 0.3;
  assert_ok(ctx, schedule_make(ctx, &c, p, steps, &plan));
  solver_node first = plan.node[0], last = plan.target[plan.steps - 1];
  double to_first = plan.space == STATE_RATIO ? first.alpha : 1, to_last = plan.space == STATE_RATIO ? last.alpha : 1;
  for (int i = 0; i < PATHS; i++) { // pairs of opposite noise: the start's mean is exact
    double z = i % 2 ? -x[i - 1] : test_normal(&random);
    index[i] = i;
    x[i] = z;
  }
  for (int i = 0; i < PATHS; i++)
    x[i] = (first.alpha * (data.centre[i / 2 % 3][0] + data.deviation * x[i]) + first.sigma * test_normal(&random)) / plan.first_scale /
           to_first;
  problem q = {.data = &data, .process = p, .prediction = PREDICT_V, .rows = PATHS, .dim = 1};
  sampler_request r = {.scheduler = &c,
                       .process = p,
                       .rows = PATHS,
                       .size = 1,
                       .steps = steps,
                       .seed = 9,
                       .sample_index = index,
                       .network = network,
                       .user = &q};
  assert_ok(ctx, sampler_run(ctx, &r, x, NULL));
  double mean = 0, square = 0, exact_mean = 0, exact_square = 0;
  for (int i = 0; i < PATHS; i++) mean += x[i] * to_last / PATHS, square += x[i] * x[i] * to_last * to_last / PATHS;
  for (int k = 0; k < 3; k++) exact_mean += last.alpha * data.centre[k][0] / 3, exact_square += pow(last.alpha * data.centre[k][0], 2) / 3;
  exact_square += pow(last.alpha * data.deviation, 2) + last.sigma * last.sigma;
  *mean_error = mean - exact_mean;
  *variance_error = square - mean * mean - (exact_square - exact_mean * exact_mean);
  schedule_free(&plan);
  process_destroy(&p);
}

static void test_mixture(void **state) {
  (void)state;
  static const struct {
    const char *text;
    bool first_order;
  } cases[] = {{"sampler: ddpm", true},          {"sampler: ddim, eta: 1", true}, {"sampler: euler_a", true},
               {"sampler: dpmpp_2m_sde", false}, {"sampler: dpmpp_sde", false},   {"sampler: sa_solver, eta: 1", false}};
  int bad = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    double m[3] = {0}, v[3] = {0};
    for (int run = cases[i].first_order ? 0 : 2; run < 3; run++) mixture_moments(cases[i].text, 8 << run, &m[run], &v[run]);
    double slope = cases[i].first_order ? log2(fabs(v[0] / v[2])) / 2 : NAN; // standard errors: 0.005 of the mean, 0.004 of the variance
    bool good = fabs(m[2]) <= 0.02 && (cases[i].first_order ? slope >= 0.7 : fabs(v[2]) <= 0.015);
    bad += !good;
    if (!good || benching)
      print_message("mixture, %-28s slope of the variance %5.2f; mean %.4f %.4f %.4f variance %.4f %.4f %.4f%s\n", cases[i].text, slope,
                    m[0], m[1], m[2], v[0], v[1], v[2], good ? "" : "  <<<");
  }
  assert_int_equal(bad, 0);
}

// RK45 has no steps to count: the error must follow the tolerance.
static void test_adaptive(void **state) {
  (void)state;
  static const int types[] = {PROCESS_LINEAR, PROCESS_COSINE, PROCESS_EDM, PROCESS_VE};
  for (int i = 0; i < 4; i++) {
    double error[RUNS], loose;
    int order;
    flow_errors("sampler: rk45, rtol: 1e-4, atol: 1e-4", types[i] == PROCESS_EDM ? PREDICT_X0 : PREDICT_V, types[i], false, error, &order);
    loose = error[0];
    flow_errors("sampler: rk45, rtol: 1e-9, atol: 1e-9", types[i] == PROCESS_EDM ? PREDICT_X0 : PREDICT_V, types[i], false, error, &order);
    if (benching) print_message("rk45 process %d: errors %.1e at 1e-4, %.1e at 1e-9\n", types[i], loose, error[0]);
    if (!(loose < 5e-3 && error[0] < 1e-6)) fail_msg("rk45, process %d: %g and %g", types[i], loose, error[0]);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_deterministic), cmocka_unit_test(test_stochastic),
                                     cmocka_unit_test(test_mixture), cmocka_unit_test(test_adaptive)};
  benching = argc > 1 && strcmp(argv[1], "--bench") == 0;
  ctx = test_ctx(1);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  elbo_ctx_destroy(&ctx);
  return failed;
}
